//! A peer that breaks the rules, or keeps them in the worst way: it answers twice, never, or for
//! others, uses handles that are not its own, speaks for the broker, changes bits, sends garbage,
//! does not read.

use std::collections::VecDeque;

use switchboard_protocol::control::{self, Open, Operation, serve_flags};
use switchboard_protocol::queue::{Extend, LeaseId, Nack, Pop};
use switchboard_protocol::signal::{Await, Raise};
use switchboard_protocol::topic::Subscribe;
use switchboard_protocol::{
    Decoder, Failure, HELLO_MAGIC, HandleEntry, Header, Hello, Kind, ObjectKind, PeerId, Rights, VERSION,
    Verb, decode, encode, flags, write_frame, write_part,
};

use super::Dice;
use super::honest::NAMES;
use super::oracle::{DOMAIN, payload_of};
use super::post::{EVENT, LASTING, LOOSE, QUEUES};
use super::rim::Rim;

/// What it is for stands at the head of this file.
pub(super) struct Hostile {
    pub(super) user: u32,
    pub(super) peer: Option<PeerId>,
    out: VecDeque<u8>,
    decoder: Decoder,
    /// Words that it has seen: of handles, of requests, of whatever.
    handles: Vec<u64>,
    requests: Vec<u64>,
    leases: Vec<LeaseId>,
    calls: u64,
    /// Reads nothing at all.
    deaf: bool,
}

/// Most words that it remembers.
const MEMORY: usize = 64;

impl Hostile {
    pub(super) fn new(user: u32) -> Self {
        Self {
            user,
            peer: None,
            out: VecDeque::new(),
            decoder: Decoder::default(),
            handles: Vec::new(),
            requests: Vec::new(),
            leases: Vec::new(),
            calls: 0,
            deaf: false,
        }
    }

    pub(super) fn begin(&mut self, peer: PeerId, dice: &mut Dice) {
        self.peer = Some(peer);
        self.out.clear();
        self.decoder = Decoder::default();
        self.deaf = dice.one_in(6);
        if !dice.one_in(20) {
            let program = "x".repeat(if dice.one_in(8) { 3000 } else { 5 });
            let hello = Hello { version_min: VERSION, version_max: VERSION, features: u64::MAX, program };
            let header = Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) };
            self.frame(header, &[], &encode(&hello));
        }
    }

    pub(super) fn lose(&mut self) {
        self.peer = None;
    }

    fn frame(&mut self, header: Header, handles: &[HandleEntry], payload: &[u8]) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, header, &[], handles, payload);
        self.out.extend(bytes);
    }

    pub(super) fn write(&mut self, rim: &mut Rim, most: usize) {
        let Some(link) = self.peer.and_then(|peer| rim.socket(peer)) else { return };
        let count = most.min(self.out.len()).min(4000_usize.saturating_sub(link.to_broker.len()));
        link.to_broker.extend(self.out.drain(..count));
    }

    pub(super) fn read(&mut self, rim: &mut Rim, most: usize) {
        let Some(peer) = self.peer else { return };
        let Some(link) = rim.links[peer.slot as usize].as_mut().filter(|link| link.id == peer && !link.gone)
        else {
            return self.lose();
        };
        if self.deaf {
            return;
        }
        let count = most.min(link.to_client.len());
        let bytes: Vec<u8> = link.to_client.drain(..count).collect();
        self.decoder.push(&bytes);
        while let Ok(Some((header, tail))) = self.decoder.next() {
            if matches!(header.kind, Kind::Item | Kind::Reply) && header.caller != 0 && header.epoch != 0 {
                self.leases.push(LeaseId { low: header.epoch, high: header.caller });
            }
            match header.kind {
                Kind::Call => self.requests.push(header.call),
                Kind::Reply => {
                    if let Some(opened) = decode::<control::Opened>(tail) {
                        self.handles.push(opened.handle);
                    }
                    if let Some(served) = decode::<control::Served>(tail) {
                        self.handles.push(served.handle);
                        self.handles.push(served.reference);
                    }
                }
                _ => {}
            }
        }
        for words in [&mut self.handles, &mut self.requests] {
            let surplus = words.len().saturating_sub(MEMORY);
            words.drain(..surplus);
        }
        let surplus = self.leases.len().saturating_sub(MEMORY);
        self.leases.drain(..surplus);
    }

    /// Something nasty, or something innocent to be nasty with.
    pub(super) fn act(&mut self, rim: &Rim, dice: &mut Dice, uids: &mut u64) {
        if 8000 < self.out.len() || self.peer.is_none() {
            return;
        }
        *uids += 1;
        let uid = *uids;
        if dice.one_in(8) {
            // Words of others, as if it had guessed them.
            self.handles.extend(dice.pick(&rim.oracle.handles()));
            self.requests.extend(dice.pick(&rim.oracle.requests()));
        }
        let handle = dice.pick(&self.handles).unwrap_or(dice.roll());
        let request = dice.pick(&self.requests).unwrap_or(dice.roll());
        self.calls += 1;
        let call = dice.below(12) | (self.calls & 0xffff) << 32;
        let control = |operation: Operation, call: u64| Header {
            call,
            method: operation as u32,
            ..Header::new(Kind::Call)
        };
        let start = self.out.len();
        match dice.below(36) {
            0 | 1 => {
                let body = Open {
                    name: NAMES[dice.index(NAMES.len())].into(),
                    kind: ObjectKind::Service as u8,
                    rights: (Verb::Call.right() | Verb::Delegate.right()).0,
                    on_behalf_of: if dice.one_in(3) { request } else { 0 },
                };
                self.frame(control(Operation::Open, call), &[], &encode(&body));
            }
            2 => {
                let name = dice.index(NAMES.len() + 1);
                let body = control::Serve {
                    name: NAMES.get(name).map_or(String::new(), ToString::to_string),
                    mode: u8::from(name == 3),
                    flags: dice.below(8) as u32 & (serve_flags::ALL ^ serve_flags::DO_NOT_QUEUE),
                    calls: 1 + dice.below(5) as u32,
                    send_bytes: 400,
                    about: "mine".into(),
                };
                self.frame(control(Operation::Serve, call), &[], &encode(&body));
            }
            3..=6 => {
                let header = Header {
                    handle,
                    call,
                    priority: 7,
                    flags: dice.below(4) as u8,
                    seq: if dice.one_in(2) { request } else { 0 },
                    deadline: if dice.one_in(3) { rim.now.0 + dice.below(5_000_000) } else { 0 },
                    ..Header::new(Kind::Call)
                };
                let entries = self.entries(dice);
                self.frame(header, &entries, &payload_of(uid, dice.index(100)));
            }
            7 | 8 => {
                let header = Header { handle, call: uid, priority: 7, ..Header::new(Kind::Send) };
                let entries = self.entries(dice);
                self.frame(header, &entries, &payload_of(uid, dice.index(600)));
            }
            9..=12 => {
                // Often twice, often not its own.
                for _ in 0..1 + dice.below(2) {
                    if dice.one_in(3) {
                        let method = dice.below(18) as u32;
                        let failure = Failure { domain: DOMAIN.into(), ..Failure::new("no") };
                        let header = Header { call: request, method, ..Header::new(Kind::Outcome) };
                        self.frame(header, &[], &encode(&failure));
                    } else {
                        let entries = if dice.one_in(4) { self.entries(dice) } else { Vec::new() };
                        let header = Header { call: request, ..Header::new(Kind::Reply) };
                        self.frame(header, &entries, b"forged");
                    }
                }
            }
            13 => {
                let header = Header { call: request, ..Header::new(Kind::Item) };
                self.frame(header, &[], b"forged");
            }
            14 => {
                let header = Header { call, ..Header::new(Kind::Cancel) };
                self.frame(header, &[], &[]);
            }
            15 | 16 => {
                let seq = [1, 100, u64::MAX][dice.index(3)];
                let header = if dice.one_in(2) {
                    Header { handle, seq, ..Header::new(Kind::Credit) }
                } else {
                    Header {
                        call: dice.pick(&[call, request]).unwrap_or(0),
                        seq,
                        ..Header::new(Kind::Credit)
                    }
                };
                self.frame(header, &[], &[]);
            }
            17 => {
                let operation = [Operation::Close, Operation::Revoke][dice.index(2)];
                self.frame(control(operation, call), &[], &encode(&control::OnHandle { handle }));
            }
            18 => {
                let body = control::Narrow { handle, rights: Verb::Call.right().0 };
                self.frame(control(Operation::Narrow, call), &[], &encode(&body));
            }
            19 => {
                let body = control::OnPattern { pattern: "**".into() };
                let header = Header { flags: flags::STREAM, ..control(Operation::Watch, call) };
                self.frame(header, &[], &encode(&body));
                let credit = Header { call, seq: u64::MAX, ..Header::new(Kind::Credit) };
                self.frame(credit, &[], &[]);
            }
            20 => {
                let body = control::Monitor { pattern: "sim.**".into(), payload_bytes: 100 };
                let header = Header { flags: flags::STREAM, ..control(Operation::Monitor, call) };
                self.frame(header, &[], &encode(&body));
                let credit = Header { call, seq: dice.below(50), ..Header::new(Kind::Credit) };
                self.frame(credit, &[], &[]);
            }
            21 => {
                let body = control::OnName { name: "sim.never".into() };
                self.frame(control(Operation::Wait, call), &[], &encode(&body));
            }
            22 => {
                // Any operation with any body.
                let method = dice.below(20) as u32;
                let body: Vec<u8> = (0..dice.below(40)).map(|_| dice.roll() as u8).collect();
                self.frame(Header { call, method, ..Header::new(Kind::Call) }, &[], &body);
            }
            23 => {
                // Over the limit.
                let header = Header { handle, call, ..Header::new([Kind::Call, Kind::Send][dice.index(2)]) };
                self.frame(header, &[], &payload_of(uid, 5001 + dice.index(3000)));
            }
            24 if dice.one_in(6) => {
                let kinds = [Kind::Welcome, Kind::Event, Kind::Hello, Kind::Goodbye];
                self.frame(Header::new(kinds[dice.index(4)]), &[], b"?");
            }
            25 if dice.one_in(6) => {
                let garbage: Vec<u8> = (0..64 + dice.below(100)).map(|_| dice.roll() as u8).collect();
                self.out.extend(garbage);
            }
            26..=28 => {
                let rights = |verbs: [Verb; 2]| (verbs[0].right() | verbs[1].right()).0;
                let topics = (ObjectKind::Topic, rights([Verb::Publish, Verb::Subscribe]));
                let queues = (ObjectKind::Queue, rights([Verb::Push, Verb::Pop]));
                let events = (ObjectKind::Event, rights([Verb::Signal, Verb::Subscribe]));
                let names = [LASTING[0], LASTING[1], LOOSE, QUEUES[0], QUEUES[1], QUEUES[2], EVENT];
                let at = dice.index(names.len());
                let (kind, rights) = [topics, topics, topics, queues, queues, queues, events][at];
                let body = Open { name: names[at].into(), kind: kind as u8, rights, on_behalf_of: 0 };
                self.frame(control(Operation::Open, call), &[], &encode(&body));
            }
            29 => {
                let pattern = if dice.one_in(2) { "msg.**" } else { "" };
                let body = Subscribe {
                    handle: if pattern.is_empty() { handle } else { 0 },
                    pattern: pattern.into(),
                    policy: dice.below(5) as u8,
                    messages: dice.below(4) as u32,
                    bytes: dice.below(2000) as u32,
                    history: dice.below(10) as u32,
                };
                let header = Header { flags: flags::STREAM, ..control(Operation::Subscribe, call) };
                self.frame(header, &[], &encode(&body));
                let seq = [0, 3, u64::MAX][dice.index(3)];
                self.frame(Header { call, seq, ..Header::new(Kind::Credit) }, &[], &[]);
            }
            30..=34 => {
                // Any method of any kind of object with any body.
                let made_up = LeaseId { low: dice.roll(), high: dice.roll() };
                let lease = dice.pick(&self.leases).unwrap_or(made_up);
                let mut batch = Vec::new();
                for _ in 0..dice.below(4) {
                    write_part(&mut batch, dice.below(40) as u32, b"hostile");
                }
                let bodies = [
                    batch,
                    encode(&Pop { lease: dice.below(4) as u8, lease_ns: dice.below(50_000_000) }),
                    lease.to_bytes().repeat(1 + dice.index(2)),
                    encode(&Nack { lease, how: dice.below(4) as u8, delay_ns: dice.below(9_000_000) }),
                    encode(&Extend { lease, by_ns: dice.below(9_000_000) }),
                    encode(&Raise { bits: 1 << dice.below(9) }),
                    encode(&Await { mask: dice.below(256), pulses: dice.one_in(2) }),
                    Vec::new(),
                ];
                let header = Header {
                    handle,
                    call,
                    method: dice.below(10) as u32,
                    flags: dice.below(8) as u8,
                    ..Header::new(Kind::Call)
                };
                self.frame(header, &[], &bodies[dice.index(bodies.len())]);
                if dice.one_in(2) {
                    let seq = 1 + dice.below(5);
                    self.frame(Header { call, seq, ..Header::new(Kind::Credit) }, &[], &[]);
                }
            }
            35 => {
                let flags = if dice.one_in(2) { flags::BATCH } else { 0 };
                let header = Header { handle, call: uid, flags, ..Header::new(Kind::Send) };
                let body: Vec<u8> = (0..dice.below(60)).map(|_| dice.roll() as u8).collect();
                self.frame(header, &[], &body);
            }
            _ => {}
        }
        if start < self.out.len() && dice.one_in(10) {
            // Bits change.
            for _ in 0..1 + dice.below(3) {
                let at = start + dice.index(self.out.len() - start);
                self.out[at] ^= 1 << dice.below(8);
            }
        }
    }

    fn entries(&self, dice: &mut Dice) -> Vec<HandleEntry> {
        (0..dice.below(4))
            .map(|_| HandleEntry {
                handle: dice.pick(&self.handles).unwrap_or(dice.roll()),
                rights: Rights(dice.below(1 << 11) as u32 & 0x103),
                flags: dice.below(4) as u32,
            })
            .collect()
    }
}
