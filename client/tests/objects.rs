//! Topics, queues and events against a scripted broker: what goes over the wire, and what comes of
//! answers that a real broker rarely gives.

mod common;

use std::time::Duration;

use common::peer::{Peer, against};
use switchboard::{
    Board, Delivery, LeaseId, LeaseKind, Level, NackHow, Outcome, Overflow, Pulse, Raised, SlowPolicy,
};
use switchboard_protocol::control::{OnHandle, Operation};
use switchboard_protocol::queue::{
    CreateQueue, Created, DeadLetter, Extend, Nack, Peek, Pop, PushOptions, QueueMethod, Redrive, Redriven,
};
use switchboard_protocol::signal::{Await, Raise, SignalMethod};
use switchboard_protocol::topic::{Subscribe, TopicInfo, Will};
use switchboard_protocol::{
    Extensions, ExtensionsBuilder, Failure, Header, Kind, ObjectKind, Parts, Verb, decode, encode,
    extension_type, flags, write_part,
};

/// The answer to a call.
fn reply(call: &Header) -> Header {
    Header { call: call.call, ..Header::new(Kind::Reply) }
}

fn outcome(peer: &mut Peer, call: &Header, outcome: Outcome) {
    let header = Header { call: call.call, method: outcome as u32, ..Header::new(Kind::Outcome) };
    peer.say(header, &encode(&Failure::new("as the script says")));
}

/// An item of a subscription (SPEC 9.5).
fn item(call: &Header, seq: u64, what: u64, position: u64, more: u64) -> Header {
    Header { call: call.call, seq, handle: what, epoch: position, deadline: more, ..Header::new(Kind::Item) }
}

fn batch(payloads: &[&[u8]]) -> Vec<u8> {
    let mut batch = Vec::new();
    payloads.iter().for_each(|payload| write_part(&mut batch, 0, payload));
    batch
}

/// Grants a handle on an object of that kind, with that right.
fn open(peer: &mut Peer, handle: u64, kind: ObjectKind, verb: Verb) {
    let asked = peer.open_as(handle);
    assert_eq!((asked.kind, asked.rights), (kind as u8, verb as u32));
}

/// A call of a method on a handle.
fn call_of(peer: &mut Peer, handle: u64, method: u32) -> (Header, Vec<u8>) {
    let (header, body) = peer.receive_call(&mut 0);
    assert_eq!((header.kind, header.handle, header.method), (Kind::Call, handle, method));
    (header, body)
}

fn next(subscription: &mut switchboard::Subscription) -> Delivery {
    subscription.next().expect("it goes on").expect("no error")
}

#[test]
fn publishing_is_a_send_and_confirmed_publishing_a_call() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Topic, Verb::Publish);
        let (send, payload) = peer.receive();
        assert_eq!((send.kind, send.handle, send.method), (Kind::Send, 7, 0));
        assert_eq!(payload, b"one way");
        let (call, payload) = peer.receive();
        assert_eq!((call.kind, call.handle, call.method, call.priority), (Kind::Call, 7, 5, 3));
        assert_eq!(payload, b"confirmed");
        let told = Header { seq: 42, method: Level::Disk as u32, epoch: 900, caller: 3, ..reply(&call) };
        peer.say(told, b"");
        let (send, payload) = peer.receive();
        assert_eq!((send.kind, send.flags), (Kind::Send, flags::BATCH));
        assert_eq!(
            Parts::of(&payload).map(|part| part.payload.to_vec()).collect::<Vec<_>>(),
            [b"a".to_vec(), b"b".to_vec()]
        );
        peer
    };
    against(script, |board| {
        let topic = board.topic("acme.weather");
        topic.publish("one way").expect("sent");
        let published = topic.message("confirmed").method(5).priority(3).confirm().expect("published");
        assert_eq!((published.sequence, published.level), (42, Level::Disk));
        assert_eq!((published.log_position, published.subscriptions), (900, 3));
        assert_eq!(topic.publish_all(["a", "b"]).expect("sent"), 2);
    });
}

#[test]
fn who_may_only_subscribe_may_ask_how_a_topic_is() {
    let script = |mut peer: Peer| {
        peer.greet();
        let (open_publish, _) = peer.receive();
        outcome(&mut peer, &open_publish, Outcome::Denied);
        open(&mut peer, 8, ObjectKind::Topic, Verb::Subscribe);
        let (call, body) = call_of(&mut peer, 0, Operation::TopicStat as u32);
        assert_eq!(decode(&body), Some(OnHandle { handle: 8 }));
        peer.say(reply(&call), &encode(&TopicInfo { sequence: 9, ..TopicInfo::default() }));
        peer
    };
    against(script, |board| {
        assert_eq!(board.topic("acme.weather").stat().expect("a topic").sequence, 9);
    });
}

#[test]
fn a_will_is_left_and_taken_back_by_the_publishing_handle() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Topic, Verb::Publish);
        for payload in [Some(b"gone".to_vec()), None] {
            let (call, body) = call_of(&mut peer, 0, Operation::Will as u32);
            assert_eq!(decode(&body), Some(Will { handle: 7, method: 0, payload }));
            peer.say(reply(&call), b"");
        }
        peer
    };
    against(script, |board| {
        let topic = board.topic("acme.status");
        topic.set_will("gone").expect("left");
        topic.clear_will().expect("taken back");
    });
}

#[test]
fn a_subscription_is_in_force_when_it_is_returned_and_gives_everything_in_its_place() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 8, ObjectKind::Topic, Verb::Subscribe);
        let (call, body) = call_of(&mut peer, 0, Operation::Subscribe as u32);
        assert_eq!((call.flags, call.deadline), (flags::STREAM, 0));
        let asked: Subscribe = decode(&body).expect("a Subscribe");
        assert_eq!((asked.handle, asked.pattern.as_str()), (8, ""));
        assert_eq!((asked.policy, asked.messages, asked.bytes, asked.history), (1, 5, 600, 7));
        let (credit, _) = peer.receive();
        assert_eq!((credit.kind, credit.call, credit.seq), (Kind::Credit, call.call, 256));
        peer.say(item(&call, 1, 1, 100, 0), b"");
        peer.say(Header { caller: 77 << 32 | 1000, ..item(&call, 2, 3, 99, 99) }, b"before");
        let message = Header { method: 6, caller: 78 << 32 | 1001, ..item(&call, 3, 0, 101, 101) };
        peer.say(message, b"plain");
        let many = Header { flags: flags::BATCH, ..item(&call, 4, 0, 102, 102) };
        peer.say(many, &batch(&[b"x", b"", b"a longer one"]));
        peer.say(item(&call, 5, 2, 105, 109), b"");
        // Later brokers may tell more.
        peer.say(item(&call, 6, 99, 1, 1), b"?");
        peer.say(item(&call, 7, 0, 110, 110), b"last");
        let (cancel, _) = peer.receive();
        assert_eq!((cancel.kind, cancel.call), (Kind::Cancel, call.call));
        peer
    };
    against(script, |board| {
        let mut subscription = board
            .subscribe("acme.weather")
            .policy(SlowPolicy::Latest)
            .messages(5)
            .bytes(600)
            .history(7)
            .start()
            .expect("in force");
        assert_eq!(subscription.position(), 100);
        let mut messages = Vec::new();
        for _ in 0..7 {
            match next(&mut subscription) {
                Delivery::Message(message) => {
                    assert_eq!(message.topic(), "acme.weather");
                    messages.push((message.position(), message.is_earlier(), message.payload().to_vec()));
                    if message.payload() == b"plain" {
                        assert_eq!((message.method(), message.uid(), message.pid()), (6, 1001, 78));
                    }
                }
                Delivery::Lost { from, to } => messages.push((from, false, to.to_string().into_bytes())),
                other => panic!("{other:?}"),
            }
        }
        let expected: [(u64, bool, &[u8]); 7] = [
            (99, true, b"before"),
            (101, false, b"plain"),
            (102, false, b"x"),
            (103, false, b""),
            (104, false, b"a longer one"),
            (105, false, b"109"),
            (110, false, b"last"),
        ];
        assert!(messages.iter().map(|(at, old, payload)| (*at, *old, &payload[..])).eq(expected));
        assert_eq!(subscription.position(), 110);
        assert!(subscription.next_timeout(Duration::from_millis(1)).expect("no end").is_none());
        assert!(subscription.try_next().expect("no end").is_none());
    });
}

#[test]
fn by_pattern_each_message_says_its_topic() {
    let script = |mut peer: Peer| {
        peer.greet();
        let (call, body) = call_of(&mut peer, 0, Operation::Subscribe as u32);
        let asked: Subscribe = decode(&body).expect("a Subscribe");
        assert_eq!((asked.handle, asked.pattern.as_str()), (0, "acme.*.state"));
        peer.say(item(&call, 1, 1, 0, 0), b"");
        for (seq, topic) in [(2, "acme.door.state"), (3, "acme.door.state"), (4, "acme.lamp.state")] {
            let mut extensions = ExtensionsBuilder::default();
            extensions.add(extension_type::TOPIC, topic.as_bytes());
            // Earlier messages have no position there, nor have those of one frame with them.
            let what = if seq == 2 { 3 } else { 0 };
            let position = if seq == 2 { 0 } else { seq };
            let header = Header { flags: flags::BATCH, ..item(&call, seq, what, position, 50 + seq) };
            peer.say_with(header, &extensions.finish(), &batch(&[b"1", b"2"]));
        }
        peer
    };
    against(script, |board| {
        let mut subscription = board.subscribe("acme.*.state").start().expect("in force");
        let mut seen = Vec::new();
        for _ in 0..6 {
            let Delivery::Message(message) = next(&mut subscription) else { panic!("a message") };
            seen.push((message.topic().to_owned(), message.position(), message.sequence()));
        }
        let seen: Vec<_> = seen.iter().map(|(topic, at, sequence)| (&topic[..], *at, *sequence)).collect();
        assert_eq!(
            seen,
            [
                ("acme.door.state", 0, 52),
                ("acme.door.state", 0, 53),
                ("acme.door.state", 3, 53),
                ("acme.door.state", 4, 54),
                ("acme.lamp.state", 4, 54),
                ("acme.lamp.state", 5, 55),
            ]
        );
    });
}

#[test]
fn a_fast_stream_costs_one_credit_for_half_a_window() {
    const ITEMS: u64 = 1000;
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 8, ObjectKind::Topic, Verb::Subscribe);
        let (call, _) = call_of(&mut peer, 0, Operation::Subscribe as u32);
        let (mut granted, mut credits, mut sent) = (0, 0, 0);
        while sent < ITEMS {
            while granted <= sent {
                let (credit, _) = peer.receive();
                assert_eq!(credit.kind, Kind::Credit);
                granted += credit.seq;
                credits += 1;
            }
            sent += 1;
            let what = u64::from(sent == 1);
            peer.say(item(&call, sent, what, sent, sent), b"x");
        }
        assert!(credits <= ITEMS / 32 + 1, "{credits} credits for {ITEMS} items");
        peer
    };
    against(script, |board| {
        let mut subscription = board.topic("acme.x").subscribe().credit(64).start().expect("in force");
        for position in 2..=ITEMS {
            next(&mut subscription);
            assert_eq!(subscription.position(), position);
        }
    });
}

#[test]
fn a_subscription_that_ends_says_how_again_and_again() {
    let script = |mut peer: Peer| {
        peer.greet();
        let (call, _) = call_of(&mut peer, 0, Operation::Subscribe as u32);
        peer.say(item(&call, 1, 1, 0, 0), b"");
        peer.say(item(&call, 2, 0, 1, 1), b"the last");
        outcome(&mut peer, &call, Outcome::Busy);
        // In its first answer, too.
        let (call, _) = call_of(&mut peer, 0, Operation::Subscribe as u32);
        outcome(&mut peer, &call, Outcome::Denied);
        peer
    };
    against(script, |board| {
        let builder = board.subscribe("**").policy(SlowPolicy::Disconnect);
        let mut subscription = builder.clone().start().expect("in force");
        assert!(matches!(next(&mut subscription), Delivery::Message(_)));
        let timeout = Duration::from_secs(20);
        assert_eq!(subscription.next_timeout(timeout).expect_err("it ended").outcome, Outcome::Busy);
        assert_eq!(subscription.try_next().expect_err("it ended").outcome, Outcome::Busy);
        assert_eq!(subscription.next().expect("told").expect_err("it ended").outcome, Outcome::Busy);
        assert!(subscription.next().is_none());
        assert_eq!(builder.start().expect_err("refused").outcome, Outcome::Denied);
    });
}

#[test]
fn a_queue_is_made_as_asked_for_and_deleted() {
    let script = |mut peer: Peer| {
        peer.greet();
        let (call, body) = call_of(&mut peer, 0, Operation::CreateQueue as u32);
        let expected = CreateQueue {
            name: "acme.jobs".into(),
            durability: 2,
            messages_max: 5,
            bytes_max: 6,
            overflow: 1,
            lossy: true,
            deliveries_max: 7,
            dead_letters: "acme.graveyard".into(),
        };
        assert_eq!(decode(&body), Some(expected));
        peer.say(reply(&call), &encode(&Created { existed: true }));
        let (call, _) = call_of(&mut peer, 0, Operation::DeleteQueue as u32);
        outcome(&mut peer, &call, Outcome::NoOwner);
        peer
    };
    against(script, |board| {
        let existed = board
            .create_queue("acme.jobs")
            .durability(Level::Disk)
            .max_messages(5)
            .max_bytes(6)
            .overflow(Overflow::DropOldest)
            .lossy(true)
            .max_deliveries(7)
            .dead_letters("acme.graveyard")
            .create()
            .expect("made");
        assert!(existed);
        assert_eq!(board.delete_queue("acme.jobs").expect_err("none").outcome, Outcome::NoOwner);
    });
}

/// By type, and their values.
type Said = Vec<(u16, Vec<u8>)>;

/// The next call, with its extensions.
fn receive_with_extensions(peer: &mut Peer) -> (Header, Said, Vec<u8>) {
    let (header, area, payload) = peer.receive_parts();
    let extensions = Extensions::parse(&area).expect("an area");
    (header, extensions.map(|it| (it.kind, it.value.to_vec())).collect(), payload)
}

#[test]
fn a_push_says_what_was_asked_for_and_nothing_else() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Queue, Verb::Push);
        let (call, extensions, payload) = receive_with_extensions(&mut peer);
        assert_eq!((call.kind, call.handle, call.method), (Kind::Call, 7, QueueMethod::Push as u32));
        assert_eq!((extensions.as_slice(), payload.as_slice()), (&[][..], &b"plain"[..]));
        peer.say(Header { seq: 1, ..reply(&call) }, b"");
        let (call, extensions, _) = receive_with_extensions(&mut peer);
        let options = PushOptions { priority: 31, ttl_ns: 5_000_000, delay_ns: 1_000_000_000 };
        let producer = [9u64.to_le_bytes(), 10u64.to_le_bytes()].concat();
        assert_eq!(
            extensions,
            [
                (extension_type::PUSH, options.to_bytes().to_vec()),
                (extension_type::GROUP, b"user-4".to_vec()),
                (extension_type::PRODUCER, producer),
            ]
        );
        let level = Level::Os as u32;
        peer.say(Header { seq: 2, method: level, epoch: 77, caller: 1, ..reply(&call) }, b"");
        let (call, _, payload) = receive_with_extensions(&mut peer);
        assert_eq!(call.flags, flags::BATCH);
        assert_eq!(Parts::of(&payload).count_whole(), Some(3));
        peer.say(Header { seq: 3, ..reply(&call) }, b"");
        peer
    };
    against(script, |board| {
        let jobs = board.queue("acme.jobs");
        let pushed = jobs.push("plain").expect("pushed");
        assert_eq!((pushed.position, pushed.level, pushed.duplicate), (1, Level::Memory, false));
        let message = jobs.message("all").priority(31).ttl(Duration::from_millis(5));
        let message = message.delay(Duration::from_secs(1)).group("user-4").producer(9, 10);
        let pushed = message.push().expect("there already");
        assert_eq!((pushed.position, pushed.level), (2, Level::Os));
        assert_eq!((pushed.log_position, pushed.duplicate), (77, true));
        assert_eq!(jobs.push_all(["a", "b", "c"]).expect("pushed").position, 3);
        // These are known to be wrong here already.
        assert_eq!(jobs.push_all([""; 0]).expect_err("nothing").outcome, Outcome::Invalid);
        assert_eq!(jobs.message("x").group("").push().expect_err("no key").outcome, Outcome::Invalid);
        assert_eq!(jobs.message("x").group(&[1; 129]).push().expect_err("long").outcome, Outcome::Invalid);
    });
}

#[test]
fn many_pushes_are_on_their_way_at_once_and_each_has_its_own_end() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Queue, Verb::Push);
        let calls: Vec<Header> = (0..3).map(|_| call_of(&mut peer, 7, QueueMethod::Push as u32).0).collect();
        // The last one first.
        peer.say(Header { seq: 12, ..reply(&calls[2]) }, b"");
        outcome(&mut peer, &calls[1], Outcome::Busy);
        peer.say(Header { seq: 10, ..reply(&calls[0]) }, b"");
        peer
    };
    against(script, |board| {
        let jobs = board.queue("acme.jobs");
        let [first, second, third] =
            ["a", "b", "c"].map(|job| jobs.message(job).begin().expect("on its way"));
        assert_eq!(first.wait().expect("pushed").position, 10);
        assert_eq!(second.wait().expect_err("full").outcome, Outcome::Busy);
        let third = third.wait_timeout(Duration::from_secs(20)).expect("it has come");
        assert_eq!(third.expect("pushed").position, 12);
    });
}

#[test]
fn a_push_to_several_queues_is_one_call_that_names_them() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Queue, Verb::Push);
        open(&mut peer, 8, ObjectKind::Queue, Verb::Push);
        let (call, extensions, payload) = receive_with_extensions(&mut peer);
        assert_eq!((call.handle, call.flags), (7, flags::BATCH));
        assert_eq!(extensions, [(extension_type::QUEUES, 8u64.to_le_bytes().to_vec())]);
        let parts: Vec<_> = Parts::of(&payload).map(|part| (part.attribute, part.payload)).collect();
        assert_eq!(parts, [(0, &b"a"[..]), (0x100, b"b"), (0, b"c")]);
        let positions = [5u64, 900, 6].map(u64::to_le_bytes).concat();
        peer.say(Header { seq: 5, ..reply(&call) }, &positions);
        let (call, extensions, _) = receive_with_extensions(&mut peer);
        assert_eq!((call.handle, extensions.len()), (8, 0));
        peer.say(Header { seq: 40, ..reply(&call) }, b"");
        peer
    };
    against(script, |board| {
        let (jobs, audit) = (board.queue("acme.jobs"), board.queue("acme.audit"));
        // Another object of the same name is the same queue.
        let again = board.queue("acme.jobs");
        let positions = board.push_to([(&jobs, "a"), (&audit, "b"), (&again, "c")]).expect("pushed");
        assert_eq!(positions, [5, 900, 6]);
        assert_eq!(board.push_to([(&audit, "d"), (&audit, "e")]).expect("pushed"), [40, 41]);
        let none: [(&switchboard::Queue, &str); 0] = [];
        assert_eq!(board.push_to(none).expect_err("nothing").outcome, Outcome::Invalid);
        let many: Vec<_> = (0..17).map(|number| board.queue(&format!("acme.q{number}"))).collect();
        let error = board.push_to(many.iter().map(|queue| (queue, "x"))).expect_err("too many");
        assert_eq!(error.outcome, Outcome::Invalid, "{error}");
    });
}

const LEASE: LeaseId = LeaseId { low: 0x11, high: 0x22 };

/// A message as a queue delivers it (SPEC 10.7).
fn delivered(header: Header, lease: LeaseId, position: u64) -> Header {
    Header { epoch: lease.low, caller: lease.high, deadline: position, method: 20 << 24 | 3, ..header }
}

#[test]
fn a_message_is_popped_with_all_that_is_known_of_it_and_acknowledged_by_its_lease() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Queue, Verb::Pop);
        let (call, body) = call_of(&mut peer, 7, QueueMethod::Pop as u32);
        assert_eq!((call.flags, call.deadline), (0, 0));
        assert_eq!(decode(&body), Some(Pop { lease: 0, lease_ns: 0 }));
        let mut extensions = ExtensionsBuilder::default();
        extensions.add(extension_type::GROUP, b"user-4");
        extensions.add(extension_type::DEAD_LETTER, &encode(&dead_letter()));
        peer.say_with(delivered(reply(&call), LEASE, 17), &extensions.finish(), b"job");
        let (call, body) = call_of(&mut peer, 7, QueueMethod::Extend as u32);
        assert_eq!(decode(&body), Some(Extend { lease: LEASE, by_ns: 1_000_000_000 }));
        peer.say(reply(&call), b"");
        let (call, body) = call_of(&mut peer, 7, QueueMethod::Ack as u32);
        assert_eq!(body, LEASE.to_bytes());
        peer.say(Header { method: Level::Disk as u32, epoch: 99, ..reply(&call) }, b"");
        peer
    };
    against(script, |board| {
        let job = board.queue("acme.jobs").pop().expect("a job");
        assert_eq!(&job[..], b"job");
        assert_eq!((job.position(), job.deliveries(), job.priority()), (17, 3, 20));
        assert_eq!((job.lease(), job.group()), (LEASE, Some(&b"user-4"[..])));
        assert_eq!(job.dead_letter(), Some(dead_letter()));
        job.extend(Duration::from_secs(1)).expect("extended");
        let acked = job.ack().expect("acknowledged");
        assert_eq!((acked.level, acked.log_position, acked.lost.len()), (Level::Disk, 99, 0));
    });
}

fn dead_letter() -> DeadLetter {
    DeadLetter {
        queue: "acme.jobs".into(),
        position: 4,
        deliveries: 16,
        pushed_wall_ns: 1,
        died_wall_ns: 2,
        reason: "too often".into(),
    }
}

#[test]
fn what_is_dropped_unsettled_goes_back_to_its_queue() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Queue, Verb::Pop);
        let (call, _) = call_of(&mut peer, 7, QueueMethod::Pop as u32);
        peer.say(delivered(reply(&call), LEASE, 1), b"dropped");
        expect_given_back(&mut peer, LEASE);
        let (call, _) = call_of(&mut peer, 7, QueueMethod::Pop as u32);
        peer.say(delivered(reply(&call), LEASE, 1), b"failed");
        let (call, body) = call_of(&mut peer, 7, QueueMethod::Nack as u32);
        assert_eq!(decode(&body), Some(Nack { lease: LEASE, how: 1, delay_ns: 2_000_000 }));
        peer.say(reply(&call), b"");
        // Without a lease there is nothing to give back, and nothing to say.
        let (call, body) = call_of(&mut peer, 7, QueueMethod::Pop as u32);
        assert_eq!(decode(&body), Some(Pop { lease: 2, lease_ns: 0 }));
        peer.say(delivered(reply(&call), LeaseId { low: 0, high: 0 }, 2), b"consumed");
        let (call, _) = call_of(&mut peer, 7, QueueMethod::Purge as u32);
        peer.say(Header { seq: 4, ..reply(&call) }, b"");
        peer
    };
    against(script, |board| {
        let jobs = board.queue("acme.jobs");
        drop(jobs.pop().expect("a job"));
        jobs.pop().expect("a job").nack_after(NackHow::Fail, Duration::from_millis(2)).expect("taken back");
        let consumed = jobs.consume().lease(LeaseKind::None).pop().expect("a job");
        assert_eq!(consumed.extend(Duration::ZERO).expect_err("no lease").outcome, Outcome::LeaseLost);
        consumed.ack().expect("consumed already");
        assert_eq!(jobs.purge().expect("purged"), 4);
    });
}

/// A quiet Nack of that lease.
fn expect_given_back(peer: &mut Peer, lease: LeaseId) {
    let (call, body) = call_of(peer, 7, QueueMethod::Nack as u32);
    assert_eq!(decode(&body), Some(Nack { lease, how: 0, delay_ns: 0 }));
    peer.say(reply(&call), b"");
}

#[test]
fn nothing_in_time_is_no_error() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Queue, Verb::Pop);
        let (call, _) = call_of(&mut peer, 7, QueueMethod::Pop as u32);
        assert_ne!(call.deadline, 0);
        outcome(&mut peer, &call, Outcome::DeadlineExceeded);
        let (call, _) = call_of(&mut peer, 7, QueueMethod::Pop as u32);
        outcome(&mut peer, &call, Outcome::HandleRevoked);
        peer
    };
    against(script, |board| {
        let jobs = board.queue("acme.jobs");
        assert!(jobs.pop_timeout(Duration::from_secs(5)).expect("no error").is_none());
        let error = jobs.pop_timeout(Duration::from_secs(5)).expect_err("revoked");
        assert_eq!(error.outcome, Outcome::HandleRevoked);
    });
}

#[test]
fn a_consumer_gives_back_what_it_did_not_give_out_also_what_comes_later() {
    let lease = |number: u64| LeaseId { low: number, high: 1 };
    let script = move |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Queue, Verb::Pop);
        let (call, body) = call_of(&mut peer, 7, QueueMethod::Pop as u32);
        assert_eq!(call.flags, flags::STREAM);
        assert_eq!(decode(&body), Some(Pop { lease: 1, lease_ns: 60_000_000_000 }));
        for number in 1..=3 {
            let header = Header { call: call.call, seq: number, ..Header::new(Kind::Item) };
            peer.say(delivered(header, lease(number), number), b"job");
        }
        // The first is acknowledged, and the consumer dropped.
        let (ack, body) = call_of(&mut peer, 7, QueueMethod::Ack as u32);
        assert_eq!(body, lease(1).to_bytes());
        peer.say(reply(&ack), b"");
        let mut came = Vec::new();
        while came.len() < 3 {
            let (header, body) = peer.receive_call(&mut 0);
            came.push((header.kind, decode::<Nack>(&body).map(|nack| nack.lease)));
        }
        assert!(came.contains(&(Kind::Cancel, None)), "{came:?}");
        for number in 2..=3 {
            assert!(came.contains(&(Kind::Call, Some(lease(number)))), "{came:?}");
        }
        let (identify, _) = call_of(&mut peer, 0, Operation::Identify as u32);
        // This one crossed the cancel.
        let header = Header { call: call.call, seq: 4, ..Header::new(Kind::Item) };
        peer.say(delivered(header, lease(4), 4), b"job");
        outcome(&mut peer, &call, Outcome::Cancelled);
        outcome(&mut peer, &identify, Outcome::Invalid);
        let (_, body) = call_of(&mut peer, 7, QueueMethod::Nack as u32);
        assert_eq!(decode::<Nack>(&body).map(|nack| nack.lease), Some(lease(4)));
        // Nobody holds the queue any more; but only now can nothing more come.
        let (_, body) = call_of(&mut peer, 0, Operation::Close as u32);
        assert_eq!(decode(&body), Some(OnHandle { handle: 7 }));
        peer
    };
    against(script, |board| {
        let builder = board.queue("acme.jobs").consume().credit(4).lease(LeaseKind::Detached);
        let mut consumer = builder.lease_time(Duration::from_secs(60)).start().expect("begun");
        consumer.next().expect("a job").expect("no error").ack().expect("acknowledged");
        drop(consumer);
        // Waits, and so reads.
        board.flush().expect_err("the script says so");
    });
}

#[test]
fn with_room_for_one_nothing_is_on_its_way_while_one_is_dealt_with() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Queue, Verb::Pop);
        let (call, _) = call_of(&mut peer, 7, QueueMethod::Pop as u32);
        for number in 1..=3 {
            // The acknowledgement of the one before comes first, the room for the next after it.
            let (credit, _) = peer.receive();
            assert_eq!((credit.kind, credit.call, credit.seq), (Kind::Credit, call.call, 1));
            let header = Header { call: call.call, seq: number, ..Header::new(Kind::Item) };
            peer.say(delivered(header, LeaseId { low: number, high: 1 }, number), b"job");
            let (ack, _) = peer.receive();
            assert_eq!((ack.kind, ack.method), (Kind::Call, QueueMethod::Ack as u32));
            peer.say(reply(&ack), b"");
        }
        peer
    };
    against(script, |board| {
        let mut consumer = board.queue("acme.jobs").consume().credit(1).start().expect("begun");
        for _ in 0..3 {
            consumer.next().expect("a job").expect("no error").ack().expect("acknowledged");
        }
    });
}

#[test]
fn of_many_leases_the_lost_ones_are_told() {
    let leases = [1, 2, 3].map(|low| LeaseId { low, high: 0 });
    let script = move |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Queue, Verb::Pop);
        let (call, body) = call_of(&mut peer, 7, QueueMethod::Ack as u32);
        assert_eq!(LeaseId::all_in(&body), Some(leases.to_vec()));
        peer.say(Header { method: Level::Os as u32, epoch: 5, ..reply(&call) }, &[0, 1, 0]);
        for _ in 0..2 {
            let (call, _) = call_of(&mut peer, 7, QueueMethod::Ack as u32);
            outcome(&mut peer, &call, Outcome::LeaseLost);
        }
        peer
    };
    against(script, |board| {
        let jobs = board.queue("acme.jobs");
        let acked = jobs.ack_all(&leases).expect("answered");
        assert_eq!((acked.level, acked.log_position, acked.lost), (Level::Os, 5, vec![leases[1]]));
        assert_eq!(jobs.ack_all(&leases[..1]).expect("answered").lost, leases[..1]);
        assert_eq!(jobs.ack(leases[0]).expect_err("lost").outcome, Outcome::LeaseLost);
        assert!(jobs.ack_all(&[]).expect("nothing to do").lost.is_empty());
    });
}

#[test]
fn leases_are_acknowledged_while_the_next_messages_are_dealt_with() {
    let leases = [1, 2, 3].map(|low| LeaseId { low, high: 0 });
    let script = move |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Queue, Verb::Pop);
        let acks = [&leases[..2], &leases[2..], &leases[..]].map(|expected| {
            let (call, body) = call_of(&mut peer, 7, QueueMethod::Ack as u32);
            assert_eq!(LeaseId::all_in(&body), Some(expected.to_vec()));
            call
        });
        // All three are on their way before the first is answered.
        peer.say(Header { method: Level::Disk as u32, epoch: 9, ..reply(&acks[0]) }, &[1, 0]);
        outcome(&mut peer, &acks[1], Outcome::LeaseLost);
        peer.say(reply(&acks[2]), b"");
        peer
    };
    against(script, |board| {
        let jobs = board.queue("acme.jobs");
        let [two, one, all] = [&leases[..2], &leases[2..], &leases[..]]
            .map(|leases| jobs.begin_ack(leases).expect("on its way"));
        let acked = two.wait().expect("answered");
        assert_eq!((acked.level, acked.log_position, acked.lost), (Level::Disk, 9, vec![leases[0]]));
        assert_eq!(one.leases(), &leases[2..]);
        assert_eq!(one.wait().expect("lost is no error").lost, leases[2..]);
        let all = all.wait_timeout(Duration::from_secs(20)).expect("it has come");
        assert!(all.expect("answered").lost.is_empty());
        let nothing = jobs.begin_ack(&[]).expect("nothing to do");
        assert!(nothing.wait().expect("nothing was lost").lost.is_empty());
    });
}

#[test]
fn a_look_into_a_queue_ends_with_its_last_message() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Queue, Verb::Pop);
        for end in [None, Some(Outcome::HandleRevoked)] {
            let (call, body) = call_of(&mut peer, 7, QueueMethod::Peek as u32);
            assert_eq!(decode(&body), Some(Peek { after: 5, count: 2 }));
            for seq in 1..=2 {
                let header = Header { call: call.call, seq, ..Header::new(Kind::Item) };
                peer.say(delivered(header, LeaseId { low: 0, high: 0 }, 5 + seq), b"job");
            }
            match end {
                None => peer.say(reply(&call), b""),
                Some(end) => outcome(&mut peer, &call, end),
            }
        }
        peer
    };
    against(script, |board| {
        let jobs = board.queue("acme.jobs");
        let seen: Result<Vec<_>, _> = jobs.peek(5, 2).expect("begun").collect();
        let positions: Vec<u64> = seen.expect("no error").iter().map(|job| job.position()).collect();
        assert_eq!(positions, [6, 7]);
        let seen: Vec<_> = jobs.peek(5, 2).expect("begun").collect();
        assert_eq!(seen.len(), 3);
        assert_eq!(seen[2].as_ref().expect_err("it ended").outcome, Outcome::HandleRevoked);
    });
}

#[test]
fn dead_letters_are_brought_back_with_both_rights() {
    let script = |mut peer: Peer| {
        peer.greet();
        let asked = peer.open_as(7);
        assert_eq!(asked.rights, (Verb::Push.right() | Verb::Pop.right()).0);
        let (call, body) = call_of(&mut peer, 7, QueueMethod::Redrive as u32);
        assert_eq!(decode(&body), Some(Redrive { count: 5 }));
        peer.say(reply(&call), &encode(&Redriven { moved: 4, left: 1 }));
        peer
    };
    against(script, |board| {
        let redriven = board.queue("acme.jobs").redrive(5).expect("redriven");
        assert_eq!((redriven.moved, redriven.left), (4, 1));
    });
}

#[test]
fn an_event_is_raised_pulsed_and_waited_for() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Event, Verb::Signal);
        let (call, body) = call_of(&mut peer, 7, SignalMethod::Raise as u32);
        assert_eq!(decode(&body), Some(Raise { bits: 0b101 }));
        peer.say(reply(&call), b"");
        let (call, body) = call_of(&mut peer, 7, SignalMethod::Pulse as u32);
        assert_eq!((call.priority, decode(&body)), (4, Some(Pulse { code: 1, value: 2 })));
        outcome(&mut peer, &call, Outcome::Busy);
        open(&mut peer, 8, ObjectKind::Event, Verb::Subscribe);
        let (call, body) = call_of(&mut peer, 8, SignalMethod::Await as u32);
        assert_eq!((call.deadline, decode(&body)), (0, Some(Await { mask: 1, pulses: false })));
        peer.say(reply(&call), &encode(&Raised { bits: 1, ..Raised::default() }));
        let (call, body) = call_of(&mut peer, 8, SignalMethod::Await as u32);
        assert_eq!(decode(&body), Some(Await { mask: 0, pulses: true }));
        let raised = Raised { bits: 0, pulse: Some(Pulse { code: 1, value: 2 }), overflow: 3 };
        peer.say(reply(&call), &encode(&raised));
        let (call, _) = call_of(&mut peer, 8, SignalMethod::Await as u32);
        assert_ne!(call.deadline, 0);
        outcome(&mut peer, &call, Outcome::DeadlineExceeded);
        peer
    };
    against(script, |board: Board| {
        let alarm = board.event("acme.alarm");
        alarm.raise(0b101).expect("raised");
        assert_eq!(alarm.pulse_with_priority(4, 1, 2).expect_err("no room").outcome, Outcome::Busy);
        assert_eq!(alarm.wait(1).expect("set"), 1);
        let raised = alarm.wait_any(0, true).expect("a pulse");
        assert_eq!((raised.pulse, raised.overflow), (Some(Pulse { code: 1, value: 2 }), 3));
        assert_eq!(alarm.wait_timeout(1, Duration::from_secs(5)).expect("no error"), None);
    });
}

#[test]
fn a_subscription_is_restored_on_a_new_connection_and_says_so() {
    let first = |mut peer: Peer| {
        open(&mut peer, 7, ObjectKind::Topic, Verb::Subscribe);
        let (call, _) = call_of(&mut peer, 0, Operation::Subscribe as u32);
        peer.say(item(&call, 1, 1, 10, 0), b"");
        let many = Header { flags: flags::BATCH, ..item(&call, 2, 0, 11, 11) };
        peer.say(many, &batch(&[b"a", b"b"]));
    };
    let second = |mut peer: Peer| {
        // Opened anew, since the handle was the other connection's.
        open(&mut peer, 70, ObjectKind::Topic, Verb::Subscribe);
        let (call, body) = call_of(&mut peer, 0, Operation::Subscribe as u32);
        assert_eq!(decode::<Subscribe>(&body).map(|asked| (asked.handle, asked.history)), Some((70, 3)));
        peer.say(item(&call, 1, 1, 15, 0), b"");
        peer.say(item(&call, 2, 0, 16, 16), b"c");
        let (cancel, _) = peer.receive_call(&mut 0);
        assert_eq!(cancel.kind, Kind::Cancel);
    };
    common::peer::one_after_the_other(vec![first, second], |board| {
        let mut subscription = board.topic("acme.x").subscribe().history(3).start().expect("in force");
        for position in 11..=12 {
            assert!(matches!(next(&mut subscription), Delivery::Message(_)));
            assert_eq!(subscription.position(), position);
        }
        assert_eq!(next(&mut subscription), Delivery::Restored { position: 15 });
        let Delivery::Message(message) = next(&mut subscription) else { panic!("a message") };
        assert_eq!((message.position(), message.payload()), (16, &b"c"[..]));
    });
}

#[test]
fn consuming_goes_on_on_a_new_connection_and_an_older_lease_can_be_acknowledged_there() {
    let first = |mut peer: Peer| {
        open(&mut peer, 7, ObjectKind::Queue, Verb::Pop);
        let (call, _) = call_of(&mut peer, 7, QueueMethod::Pop as u32);
        let header = Header { call: call.call, seq: 1, ..Header::new(Kind::Item) };
        peer.say(delivered(header, LEASE, 1), b"first");
    };
    let second = |mut peer: Peer| {
        open(&mut peer, 70, ObjectKind::Queue, Verb::Pop);
        let (call, _) = call_of(&mut peer, 70, QueueMethod::Pop as u32);
        let header = Header { call: call.call, seq: 1, ..Header::new(Kind::Item) };
        peer.say(delivered(header, LeaseId { low: 5, high: 5 }, 2), b"second");
        let (call, body) = call_of(&mut peer, 70, QueueMethod::Ack as u32);
        assert_eq!(body, LEASE.to_bytes());
        peer.say(reply(&call), b"");
    };
    common::peer::one_after_the_other(vec![first, second], |board| {
        let mut consumer = board.queue("acme.jobs").consume().start().expect("begun");
        let older = consumer.next().expect("a job").expect("no error");
        let later = consumer.next().expect("a job").expect("no error");
        assert_eq!((&older[..], &later[..]), (&b"first"[..], &b"second"[..]));
        older.ack().expect("acknowledged");
        let _ = later.into_lease();
    });
}

#[test]
fn a_will_stays_when_its_topic_is_dropped_and_is_taken_back_by_another_use_of_the_name() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 7, ObjectKind::Topic, Verb::Publish);
        // The handle is neither closed in between nor opened a second time.
        for payload in [Some(b"gone".to_vec()), None] {
            let (call, body) = call_of(&mut peer, 0, Operation::Will as u32);
            assert_eq!(decode(&body), Some(Will { handle: 7, method: 0, payload }));
            peer.say(reply(&call), b"");
        }
        let (_, body) = call_of(&mut peer, 0, Operation::Close as u32);
        assert_eq!(decode(&body), Some(OnHandle { handle: 7 }));
        peer
    };
    against(script, |board| {
        board.topic("acme.status").set_will("gone").expect("left");
        board.topic("acme.status").clear_will().expect("taken back");
    });
}
