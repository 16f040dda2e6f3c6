//! The session against scripted brokers: good ones, wrong ones, and random ones.

use switchboard_protocol::control::{Opened, Operation, Serve, Served};
use switchboard_protocol::{
    Decoder, Event as Told, ExtensionsBuilder, Failure, Goodbye, GoodbyeReason, HandleEntry, Header, Kind,
    Outcome, Rights, Welcome, encode, flags, write_frame,
};

use super::*;
use crate::CallError;

/// A session and what a broker would see of it.
struct Script {
    session: Session,
    inbox: Inbox,
    seen: Decoder,
}

/// An event without what it borrows.
#[derive(Debug, PartialEq)]
enum Said {
    Welcomed,
    Reply(u64, Vec<u8>),
    Failed(u64, Outcome),
    Item(u64, Vec<u8>),
    Request(u64, RequestId, Vec<u8>),
    Message(u64, Vec<u8>),
    Cancelled(RequestId, Outcome),
    RequestRoom(RequestId),
    SendRoom(u64),
    Other(String),
}

impl Script {
    /// Not greeted yet.
    fn new() -> Self {
        Self { session: Session::new(1_000, "test"), inbox: Inbox::new(), seen: Decoder::default() }
    }

    /// Greeted, with the broker's clock a million ahead of the middle of the handshake.
    fn greeted() -> Self {
        let mut script = Self::new();
        assert_eq!(script.sent().expect("a hello").0.kind, Kind::Hello);
        assert_eq!(script.say(Header::new(Kind::Welcome), &encode(&welcome())), Ok(Some(Said::Welcomed)));
        script
    }

    /// The next frame that the client has sent.
    fn sent(&mut self) -> Option<(Header, Vec<u8>)> {
        self.seen.push(&self.session.output().to_vec());
        self.session.output().clear();
        self.seen.next().expect("a client writes whole frames").map(|(header, tail)| (header, tail.to_vec()))
    }

    fn nothing_sent(&mut self) {
        assert_eq!(self.sent(), None);
    }

    fn say(&mut self, header: Header, payload: &[u8]) -> Result<Option<Said>, Violation> {
        self.say_with(header, &[], &[], payload)
    }

    fn say_with(
        &mut self,
        header: Header,
        extensions: &[u8],
        handles: &[HandleEntry],
        payload: &[u8],
    ) -> Result<Option<Said>, Violation> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, header, extensions, handles, payload);
        assert_eq!(self.inbox.push(&bytes), bytes.len());
        let frame = self.inbox.next_frame()?.expect("a whole frame");
        Ok(self.session.handle(3_000, frame)?.map(said))
    }

    /// A handle with that send window.
    fn open(&mut self, handle: u64, send_bytes: u32) {
        let body = control::OnHandle { handle };
        self.session.control(99, Operation::Open, &body, 0).expect("asked");
        let (header, _) = self.sent().expect("the operation");
        let opened = Opened { handle, rights: 2, epoch: 0, send_bytes };
        let said = self.say(Header { call: header.call, ..Header::new(Kind::Reply) }, &encode(&opened));
        assert!(matches!(said, Ok(Some(Said::Reply(99, _)))), "{said:?}");
    }

    /// A serving handle.
    fn serve(&mut self, handle: u64, calls: u32, send_bytes: u32) {
        let body = Serve { name: "a".into(), mode: 0, flags: 0, calls, send_bytes, about: String::new() };
        self.session.serve(98, 5, &body, 0).expect("asked");
        let (header, _) = self.sent().expect("the operation");
        let served = Served { handle, standby: 0, epoch: 1, reference: 0, calls, send_bytes };
        let said = self.say(Header { call: header.call, ..Header::new(Kind::Reply) }, &encode(&served));
        assert!(matches!(said, Ok(Some(Said::Reply(98, _)))), "{said:?}");
    }

    fn request(&mut self, id: u64) -> RequestId {
        let header = Header { handle: 9, call: id, ..Header::new(Kind::Call) };
        match self.say(header, b"ask") {
            Ok(Some(Said::Request(5, request, payload))) if payload == b"ask" => request,
            other => panic!("{other:?}"),
        }
    }
}

fn welcome() -> Welcome {
    Welcome {
        version: 1,
        features: 0,
        broker_ns: 1_002_000,
        incarnation: 1,
        peer: 7,
        payload_bytes_max: 1 << 16,
        calls_open_max: 4,
        priority_max: 4,
    }
}

fn said(event: Event<'_>) -> Said {
    match event {
        Event::Welcomed(_) => Said::Welcomed,
        Event::Ended { tag, end: Ok(answer) } => Said::Reply(tag, answer.frame.payload().to_vec()),
        Event::Ended { tag, end: Err(error) } => Said::Failed(tag, error.outcome),
        Event::Item { tag, frame } => Said::Item(tag, frame.into_payload().into_vec()),
        Event::Request { serving, request, frame } => {
            Said::Request(serving, request, frame.payload().to_vec())
        }
        Event::Message { serving, frame } => Said::Message(serving, frame.payload().to_vec()),
        Event::RequestCancelled { request, why } => Said::Cancelled(request, why),
        Event::RequestRoom { request } => Said::RequestRoom(request),
        Event::SendRoom { handle } => Said::SendRoom(handle),
        other => Said::Other(format!("{other:?}")),
    }
}

fn call<'a>(handle: u64, payload: &'a [u8]) -> CallSpec<'a> {
    CallSpec { handle, payload, ..CallSpec::default() }
}

#[test]
fn calls_may_follow_the_hello_at_once_but_without_a_deadline() {
    let mut script = Script::new();
    let spec = CallSpec { deadline: 5_000, ..call(3, b"early") };
    script.session.call(1, &spec).expect("room");
    assert_eq!(script.sent().expect("a hello").0.kind, Kind::Hello);
    let (header, payload) = script.sent().expect("the call");
    assert_eq!(
        (header.kind, header.handle, header.deadline, payload.as_slice()),
        (Kind::Call, 3, 0, &b"early"[..])
    );
    assert_eq!(script.session.next_expiry(), Some(5_000 + EXPIRY_GRACE.as_nanos() as u64));
}

#[test]
fn deadlines_travel_in_broker_time_and_come_back_in_ours() {
    let mut script = Script::greeted();
    // SPEC 1.6: sent at 1000, received at 3000, so that the broker is 1 000 000 ahead.
    script.session.call(1, &CallSpec { deadline: 5_000, ..call(3, b"") }).expect("room");
    assert_eq!(script.sent().expect("the call").0.deadline, 1_005_000);
    assert_eq!(script.session.to_our_time(1_005_000), 5_000);
    assert_eq!(script.session.to_our_time(0), 0, "none stays none");
    assert_eq!(script.session.to_our_time(5), 1, "before our time began is the beginning, not none");
}

#[test]
fn a_clock_that_can_be_ours_is_taken_for_ours() {
    let mut script = Script::new();
    let same = Welcome { broker_ns: 2_900, ..welcome() };
    assert_eq!(script.say(Header::new(Kind::Welcome), &encode(&same)), Ok(Some(Said::Welcomed)));
    assert_eq!(script.session.to_broker_time(5_000), 5_000);
}

#[test]
fn every_call_ends_once_and_its_slot_is_used_again_under_another_id() {
    let mut script = Script::greeted();
    let mut ids = Vec::new();
    for round in 0..3 {
        script.session.call(round, &call(3, b"x")).expect("room");
        let (header, _) = script.sent().expect("the call");
        assert_eq!(header.call as u32, 0, "one slot is enough");
        let reply = Header { call: header.call, ..Header::new(Kind::Reply) };
        assert_eq!(script.say(reply, b"y"), Ok(Some(Said::Reply(round, b"y".to_vec()))));
        assert_eq!(
            script.say(reply, b"y"),
            Err(Violation::UnknownCall { kind: Kind::Reply, call: header.call }),
            "twice is a wrong broker"
        );
        ids.push(header.call);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[test]
fn no_more_calls_are_open_than_the_broker_allows() {
    let mut script = Script::greeted();
    for tag in 0..4 {
        script.session.call(tag, &call(3, b"")).expect("room");
    }
    let refused = script.session.call(4, &call(3, b"")).expect_err("a fifth");
    assert_eq!(CallError::from(refused).outcome, Outcome::Busy);
    let large = vec![0; (1 << 16) + 1];
    let refused = Script::greeted().session.call(4, &call(3, &large)).expect_err("too large");
    assert_eq!(CallError::from(refused).outcome, Outcome::TooLarge);
}

#[test]
fn a_forgotten_call_is_cancelled_and_its_end_not_told_but_its_handles_given_back() {
    let mut script = Script::greeted();
    let id = script.session.call(1, &call(3, b"")).expect("room");
    let (header, _) = script.sent().expect("the call");
    script.session.forget(id);
    script.session.forget(id);
    let (cancel, _) = script.sent().expect("a cancel");
    assert_eq!((cancel.kind, cancel.call), (Kind::Cancel, header.call));
    script.nothing_sent();
    assert_eq!(script.session.calls_open(), 1, "the broker still owes its end");
    let entry = HandleEntry { handle: 77, rights: Rights::NONE, flags: 0 };
    let reply = Header { call: header.call, ..Header::new(Kind::Reply) };
    assert_eq!(script.say_with(reply, &[], &[entry], b"late"), Ok(None));
    let (close, body) = script.sent().expect("a close");
    assert_eq!((close.kind, close.method, close.handle), (Kind::Call, Operation::Close as u32, 0));
    assert_eq!(body, encode(&control::OnHandle { handle: 77 }));
}

#[test]
fn a_stopped_broker_does_not_keep_deadlines_from_passing() {
    let mut script = Script::greeted();
    let grace = EXPIRY_GRACE.as_nanos() as u64;
    script.session.call(1, &CallSpec { deadline: 5_000, ..call(3, b"") }).expect("room");
    script.session.call(2, &call(3, b"")).expect("room");
    let first = script.sent().expect("the first call").0.call;
    script.sent().expect("the second call");
    assert_eq!(script.session.expire(4_999 + grace), []);
    let ended = script.session.expire(5_000 + grace);
    assert_eq!(ended.iter().map(|ended| ended.tag).collect::<Vec<_>>(), [1]);
    assert_eq!(script.sent().expect("a cancel").0.call, first);
    assert_eq!(script.session.expire(u64::MAX), []);
    // What the broker says of it later is told to nobody.
    let late = Header { call: first, method: Outcome::DeadlineExceeded as u32, ..Header::new(Kind::Outcome) };
    assert_eq!(script.say(late, &encode(&Failure::new("late"))), Ok(None));
}

#[test]
fn a_lost_connection_ends_every_open_call_exactly_once() {
    let mut script = Script::greeted();
    script.session.call(1, &call(3, b"")).expect("room");
    let id = script.session.call(2, &call(3, b"")).expect("room");
    script.session.call(3, &call(3, b"")).expect("room");
    script.session.forget(id);
    let mut tags: Vec<u64> = script.session.end().iter().map(|ended| ended.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, [1, 3]);
    assert_eq!(script.session.end(), []);
    assert_eq!(script.session.call(4, &call(3, b"")), Err(Refused::Over));
}

#[test]
fn items_come_in_order_and_within_their_credit() {
    let mut script = Script::greeted();
    let id = script.session.call(1, &CallSpec { stream: true, ..call(3, b"") }).expect("room");
    let (header, _) = script.sent().expect("the call");
    assert_eq!(header.flags, flags::STREAM);
    let item = |seq| Header { call: header.call, seq, ..Header::new(Kind::Item) };
    script.session.grant_items(id, 2);
    let (credit, _) = script.sent().expect("a credit");
    assert_eq!((credit.kind, credit.call, credit.seq), (Kind::Credit, header.call, 2));
    assert_eq!(script.say(item(1), b"a"), Ok(Some(Said::Item(1, b"a".to_vec()))));
    assert_eq!(script.say(item(2), b"b"), Ok(Some(Said::Item(1, b"b".to_vec()))));
    assert_eq!(script.say(item(3), b"c"), Err(Violation::Item { call: header.call, seq: 3 }));
}

#[test]
fn an_item_out_of_order_is_a_wrong_broker() {
    let mut script = Script::greeted();
    let id = script.session.call(1, &CallSpec { stream: true, ..call(3, b"") }).expect("room");
    script.session.grant_items(id, 9);
    let call = id.to_wire();
    let item = Header { call, seq: 2, ..Header::new(Kind::Item) };
    assert_eq!(script.say(item, b""), Err(Violation::Item { call, seq: 2 }));
}

#[test]
fn a_request_is_answered_once_and_late_answers_are_dropped() {
    let mut script = Script::greeted();
    script.serve(9, 2, 4096);
    let (first, second) = (script.request(100), script.request(101));
    assert_eq!(script.session.requests_open(), 2);
    assert!(script.session.answer(first, b"yes", &[]));
    let (reply, payload) = script.sent().expect("a reply");
    assert_eq!((reply.kind, reply.call, payload.as_slice()), (Kind::Reply, 100, &b"yes"[..]));
    assert!(!script.session.answer(first, b"again", &[]));
    script.nothing_sent();
    assert_eq!(script.session.late_answers(), 1);
    // SPEC 5.5: what a service may not say becomes `Failed`.
    assert!(script.session.answer_otherwise(second, Outcome::PeerDied, &Failure::new("no")));
    let (outcome, _) = script.sent().expect("an outcome");
    assert_eq!((outcome.kind, outcome.call, outcome.method), (Kind::Outcome, 101, Outcome::Failed as u32));
}

#[test]
fn more_requests_than_were_asked_for_are_a_wrong_broker() {
    let mut script = Script::greeted();
    script.serve(9, 1, 4096);
    script.request(100);
    let header = Header { handle: 9, call: 101, ..Header::new(Kind::Call) };
    assert_eq!(script.say(header, b""), Err(Violation::Request(101)));
}

#[test]
fn a_request_that_crossed_the_close_is_abandoned() {
    let mut script = Script::greeted();
    let header = Header { handle: 1234, call: 100, ..Header::new(Kind::Call) };
    assert_eq!(script.say(header, b""), Ok(None));
    let (outcome, _) = script.sent().expect("an outcome");
    assert_eq!((outcome.kind, outcome.call, outcome.method), (Kind::Outcome, 100, Outcome::Abandoned as u32));
}

#[test]
fn a_cancelled_request_is_still_answered_and_sends_no_more_items() {
    let mut script = Script::greeted();
    script.serve(9, 2, 4096);
    let request = script.request(100);
    assert_eq!(script.session.item(request, b"", &[]), Err(Refused::NoRoom), "it begins with none");
    let credit = Header { call: 100, seq: 2, ..Header::new(Kind::Credit) };
    assert_eq!(script.say(credit, b""), Ok(Some(Said::RequestRoom(request))));
    script.session.item(request, b"one", &[]).expect("room");
    let (item, _) = script.sent().expect("an item");
    assert_eq!((item.kind, item.call, item.seq), (Kind::Item, 100, 1));
    let cancel = Header { call: 100, method: Outcome::Cancelled as u32, ..Header::new(Kind::Cancel) };
    assert_eq!(script.say(cancel, b""), Ok(Some(Said::Cancelled(request, Outcome::Cancelled))));
    assert_eq!(script.session.is_cancelled(request), Some(Outcome::Cancelled));
    assert_eq!(script.session.item(request, b"two", &[]), Err(Refused::NotOpen));
    assert!(script.session.answer(request, b"", &[]), "only that frees its place (SPEC 5.2)");
    // A cancel that crossed the answer means nothing.
    assert_eq!(script.say(cancel, b""), Ok(None));
}

#[test]
fn room_for_one_way_messages_is_given_back_by_the_quarter_and_when_idle() {
    let mut script = Script::greeted();
    script.serve(9, 2, 4 * 128);
    let message = Header { handle: 9, ..Header::new(Kind::Send) };
    for _ in 0..2 {
        assert_eq!(script.say(message, &[1; 60]), Ok(Some(Said::Message(5, vec![1; 60]))));
    }
    script.session.consumed(9, 64);
    script.nothing_sent();
    assert!(script.session.owes(9));
    script.session.consumed(9, 64);
    let (credit, _) = script.sent().expect("a credit");
    assert_eq!((credit.kind, credit.handle, credit.call, credit.seq), (Kind::Credit, 9, 0, 128));
    assert!(!script.session.owes(9));
    script.session.consumed(9, 64);
    script.session.settle_up(9);
    assert_eq!(script.sent().expect("a credit").0.seq, 64);
}

#[test]
fn one_way_messages_beyond_the_window_are_a_wrong_broker() {
    let mut script = Script::greeted();
    script.serve(9, 2, 256);
    let message = Header { handle: 9, ..Header::new(Kind::Send) };
    let mut sent = 0;
    let violation = loop {
        match script.say(message, &[1; 64]) {
            Ok(_) => sent += 1,
            Err(violation) => break violation,
        }
        assert!(sent < 10, "the window has no end");
    };
    assert_eq!((sent, violation), (3, Violation::Window(9)));
}

#[test]
fn a_send_takes_from_the_window_and_waits_for_credit() {
    let mut script = Script::greeted();
    script.open(6, 300);
    let spec = SendSpec { handle: 6, payload: &[1; 64], tag: 3, ..SendSpec::default() };
    // SPEC 4.9: 128, then 256 of 300; the third would take it beyond.
    script.session.send(&spec).expect("room");
    script.session.send(&spec).expect("room");
    assert_eq!(script.session.send(&spec), Err(Refused::NoRoom));
    let credit = Header { handle: 6, seq: 128, ..Header::new(Kind::Credit) };
    assert_eq!(script.say(credit, b""), Ok(Some(Said::SendRoom(6))));
    script.session.send(&spec).expect("room again");
    assert_eq!(script.say(credit, b""), Ok(None), "nobody was refused since");
    // A message larger than the window goes when no more than half is out.
    let large = SendSpec { payload: &[1; 500], ..spec.clone() };
    script.session.send(&large).expect("128 of 300 are out");
    assert_eq!(script.session.send(&SendSpec { handle: 7, ..spec }), Err(Refused::UnknownHandle));
    let (header, _) = script.sent().expect("a send");
    assert_eq!((header.kind, header.handle, header.call), (Kind::Send, 6, 3));
}

#[test]
fn what_is_reserved_and_not_used_comes_back() {
    let mut script = Script::greeted();
    script.open(6, 1024);
    assert_eq!(script.session.reserve(6, 128, 512), Ok(512));
    assert_eq!(script.session.reserve(6, 128, 4096), Ok(512));
    assert_eq!(script.session.reserve(6, 128, 4096), Ok(0), "all is out");
    script.session.release(6, 1024);
    assert_eq!(script.session.reserve(6, 2048, 2048), Ok(2048), "one large message");
}

#[test]
fn a_method_by_name_and_a_trace_travel_as_extensions() {
    let mut script = Script::greeted();
    let spec = CallSpec { method: "resize".into(), traceparent: Some("00-ab-cd-01"), ..call(3, b"p") };
    script.session.call(1, &spec).expect("room");
    let (header, tail) = script.sent().expect("the call");
    assert_eq!((header.method, header.ext_len), (0, 32));
    let extensions = switchboard_protocol::Extensions::parse(&tail[..32]).expect("well formed");
    assert_eq!(extensions.find(switchboard_protocol::extension_type::METHOD_NAME), Some(&b"resize"[..]));
    let spec = CallSpec { method: "x".repeat(2000).into(), ..call(3, b"") };
    assert_eq!(script.session.call(2, &spec), Err(Refused::MethodTooLong { bytes: 2000 }));
}

#[test]
fn a_goodbye_is_the_end_and_events_are_told() {
    let mut script = Script::greeted();
    let down = Header { method: Told::ShuttingDown as u32, ..Header::new(Kind::Event) };
    assert_eq!(script.say(down, b""), Ok(Some(Said::Other("ShuttingDown".into()))));
    let unknown = Header { method: 4711, ..Header::new(Kind::Event) };
    assert_eq!(script.say(unknown, b""), Ok(None));
    let header = Header { method: GoodbyeReason::NotReading as u32, ..Header::new(Kind::Goodbye) };
    let said = script.say(header, &encode(&Goodbye { message: "you do not read".into() }));
    assert!(matches!(&said, Ok(Some(Said::Other(text))) if text.contains("NotReading")), "{said:?}");
    assert!(script.session.is_over());
    assert_eq!(script.say(Header::new(Kind::Reply), b""), Err(Violation::Unexpected(Kind::Reply)));
}

#[test]
fn a_handshake_can_fail_in_every_way_and_says_how() {
    let other = Welcome { version: 2, ..welcome() };
    assert_eq!(Script::new().say(Header::new(Kind::Welcome), &encode(&other)), Err(Violation::Version(2)));
    assert_eq!(Script::new().say(Header::new(Kind::Welcome), b"?"), Err(Violation::Body(Kind::Welcome)));
    assert_eq!(Script::new().say(Header::new(Kind::Reply), b""), Err(Violation::Unexpected(Kind::Reply)));
    let again = Script::greeted().say(Header::new(Kind::Welcome), &encode(&welcome()));
    assert_eq!(again, Err(Violation::Unexpected(Kind::Welcome)));
}

#[test]
fn no_clock_that_a_broker_claims_makes_us_stumble() {
    for broker_ns in [0, 1, u64::MAX / 2, u64::MAX] {
        let mut script = Script::new();
        let strange = Welcome { broker_ns, ..welcome() };
        assert_eq!(script.say(Header::new(Kind::Welcome), &encode(&strange)), Ok(Some(Said::Welcomed)));
        for time in [0, 1, u64::MAX / 2, u64::MAX] {
            let there = script.session.to_broker_time(time);
            assert_eq!(there == 0, time == 0, "no deadline becomes none, and none stays none");
            assert_eq!(script.session.to_our_time(time) == 0, time == 0);
        }
    }
}

/// A generator of its own, so that a seed is a test.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn no_broker_however_wrong_makes_a_session_panic_or_end_a_call_twice() {
    const KINDS: [Kind; 11] = [
        Kind::Hello,
        Kind::Welcome,
        Kind::Goodbye,
        Kind::Call,
        Kind::Send,
        Kind::Reply,
        Kind::Outcome,
        Kind::Cancel,
        Kind::Item,
        Kind::Credit,
        Kind::Event,
    ];
    for seed in 1..=2_000u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut script = Script::greeted();
        script.open(6, 512);
        script.serve(9, 3, 1024);
        let (mut next_tag, mut open, mut requests) = (1000u64, Vec::new(), Vec::new());
        for _ in 0..60 {
            // The client does something right …
            match random.next(6) {
                0 | 1 => {
                    let deadline = random.next(2) * (1 + random.next(1 << 40));
                    let spec = CallSpec { stream: random.next(2) == 0, deadline, ..call(6, b"x") };
                    if let Ok(id) = script.session.call(next_tag, &spec) {
                        script.session.grant_items(id, 2);
                        open.push(next_tag);
                    }
                    next_tag += 1;
                }
                2 => drop(script.session.send(&SendSpec { handle: 6, payload: b"y", ..SendSpec::default() })),
                3 => {
                    if let Some(request) = requests.pop() {
                        script.session.answer(request, b"z", &[]);
                    }
                }
                4 => script.session.consumed(9, random.next(4096)),
                _ => {
                    for ended in script.session.expire(random.next(1 << 41)) {
                        let at = open.iter().position(|&open| open == ended.tag);
                        open.swap_remove(at.unwrap_or_else(|| panic!("seed {seed}: {ended:?} ended twice")));
                    }
                }
            }
            // … and the broker anything: mostly about slots and handles that exist.
            let kind = KINDS[random.next(11) as usize];
            let header = Header {
                flags: if kind == Kind::Call { random.next(4) as u8 } else { 0 },
                priority: random.next(8) as u8,
                method: random.next(18) as u32,
                handle: [0, 6, 9, u64::MAX][random.next(4) as usize],
                call: random.next(5) | random.next(4) << 32,
                deadline: [0, 1, u64::MAX][random.next(3) as usize],
                seq: [0, 1, 2, 3, u64::MAX][random.next(5) as usize],
                epoch: random.next(3),
                caller: random.next(9),
                ..Header::new(kind)
            };
            let payload: Vec<u8> = (0..random.next(40)).map(|_| random.next(256) as u8).collect();
            let entry = HandleEntry { handle: random.next(12), rights: Rights::ALL, flags: 0 };
            let entries: &[HandleEntry] = if random.next(4) == 0 { &[entry] } else { &[] };
            let mut builder = ExtensionsBuilder::default();
            builder.add(random.next(4) as u16, b"name");
            let extensions = if random.next(4) == 0 { builder.finish() } else { Vec::new() };
            match script.say_with(header, &extensions, entries, &payload) {
                Ok(Some(Said::Reply(tag, _) | Said::Failed(tag, _))) => {
                    let at = open.iter().position(|&open| open == tag);
                    open.swap_remove(at.unwrap_or_else(|| panic!("seed {seed}: call {tag} ended twice")));
                }
                Ok(Some(Said::Request(_, request, _))) => requests.push(request),
                Ok(_) => {}
                Err(_) => break,
            }
            while script.sent().is_some() {}
        }
        let mut ended: Vec<u64> = script.session.end().iter().map(|ended| ended.tag).collect();
        ended.sort_unstable();
        open.sort_unstable();
        assert_eq!(ended, open, "seed {seed}: each that is open ends now, and no other");
        assert_eq!(script.session.end(), []);
        assert_eq!(script.session.calls_open(), 0);
    }
}

#[test]
fn random_bytes_are_a_violation_and_nothing_worse() {
    for seed in 1..=500u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut script = Script::greeted();
        let mut good = Vec::new();
        write_frame(&mut good, Header::new(Kind::Event), &[], &[], b"payload");
        // One bit, or a few bytes, are not as they were.
        for _ in 0..=random.next(4) {
            let at = random.next(good.len() as u64) as usize;
            good[at] ^= 1 << random.next(8);
        }
        script.inbox.push(&good);
        while let Ok(Some(frame)) = script.inbox.next_frame() {
            if script.session.handle(0, frame).is_err() {
                break;
            }
        }
    }
}
