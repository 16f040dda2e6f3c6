//! Whatever is asked of queues in whatever order, with crashes in between: the books balance after
//! every input, what was answered as durable is there afterwards, and what was acknowledged is not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use switchboard_core::{
    Broker, Departure, Effect, Identity, Input, Instance, Limits, Policy, QueueSettings, Settings,
};
use switchboard_protocol::control::{OnName, Open, Opened, Operation};
use switchboard_protocol::queue::{
    CreateQueue, LeaseId, Level, Nack, Overflow, Peek, Pop, PushOptions, QueueMethod, Redrive,
};
use switchboard_protocol::{
    ExtensionsBuilder, HELLO_MAGIC, Header, Hello, Instant, Kind, Name, Outcome, PeerId, VERSION, Verb,
    decode, encode, extension_type, flags, padded, write_part,
};

const PEERS: u32 = 4;
const NAMES: [&str; 6] = ["q.a", "q.b", "q.c", "q.d", "q.a.dead", "q.b.dead"];

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// What a peer waits for.
enum Asked {
    Open(usize),
    Push(Vec<Vec<u8>>),
    Ack(Vec<Vec<u8>>),
    Pop,
    Other,
}

struct Storm {
    broker: Broker<Vec<u8>>,
    dice: Dice,
    now: Instant,
    generation: u32,
    /// Handles by peer and name.
    handles: BTreeMap<(u32, usize), u64>,
    asked: BTreeMap<(u32, u64), Asked>,
    calls: u64,
    leases: Vec<(u32, usize, LeaseId, Vec<u8>)>,
    unread: BTreeMap<u32, usize>,
    /// The log: what was appended, and how far it is written and synced.
    log: VecDeque<(u32, u64, Vec<u8>)>,
    appended: u64,
    written: u64,
    synced: u64,
    segment: u32,
    oldest: u32,
    /// Segments that go once everything appended before is synced.
    drops: Vec<(u32, u64)>,
    /// Payloads whose push was answered at level disk by a queue that keeps all, and those whose Ack was sent, or answered.
    kept: BTreeSet<Vec<u8>>,
    given_up: BTreeSet<Vec<u8>>,
    /// Those acknowledged, and of them those at level disk.
    acked: BTreeSet<Vec<u8>>,
    gone: BTreeSet<Vec<u8>>,
    serial: u64,
    failed: bool,
    /// Queues that may lose messages by what is asked of them.
    messages_seen: u64,
}

fn settings() -> Settings {
    let limits = Limits { segment_bytes: 600, log_bytes_max: 12_000, queued_max: 400, ..Limits::default() };
    let declared = QueueSettings {
        durability: Level::Disk,
        messages_max: 30,
        deliveries_max: 3,
        ..QueueSettings::of(Name::new("q.a").expect("a name"))
    };
    Settings {
        policy: Policy::user_instance(1000),
        limits,
        topics: Vec::new(),
        queues: vec![declared],
        files: Vec::new(),
    }
}

impl Storm {
    fn new(seed: u64) -> Self {
        let instance = Instance { incarnation: 1, ..Instance::default() };
        let mut storm = Self {
            broker: Broker::new(settings(), instance, Instant(1)),
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now: Instant(1_000),
            generation: 0,
            handles: BTreeMap::new(),
            asked: BTreeMap::new(),
            calls: 0,
            leases: Vec::new(),
            unread: BTreeMap::new(),
            log: VecDeque::new(),
            appended: 0,
            written: 0,
            synced: 0,
            segment: 1,
            oldest: 1,
            drops: Vec::new(),
            kept: BTreeSet::new(),
            given_up: BTreeSet::new(),
            acked: BTreeSet::new(),
            gone: BTreeSet::new(),
            serial: 0,
            failed: false,
            messages_seen: 0,
        };
        storm.input(Input::Clock { wall_ns: 1_000_000_000_000 });
        storm.input(Input::LogReady { position: 0, oldest: 1, segment: 1 });
        for peer in 0..PEERS {
            storm.connect(peer);
        }
        storm
    }

    fn id(&self, peer: u32) -> PeerId {
        PeerId { slot: peer, generation: self.generation }
    }

    fn connect(&mut self, peer: u32) {
        if peer == 0 {
            self.generation += 1;
        }
        let identity = Identity { uid: 1000, gid: 1000, pid: 7, ..Identity::default() };
        self.input(Input::Connect { peer: self.id(peer), identity });
        let hello = Hello { version_min: VERSION, version_max: VERSION, features: 0, program: "s".into() };
        self.frame(peer, Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) }, &[], &encode(&hello));
    }

    fn input(&mut self, input: Input<Vec<u8>>) {
        let mut effects = Vec::new();
        self.broker.handle(self.now, input, &mut effects);
        self.broker.check_invariants();
        for effect in effects {
            self.see(effect);
        }
        for _ in 0..100 {
            if self.broker.next_wake() != Some(Instant(0)) {
                return;
            }
            let mut effects = Vec::new();
            self.broker.handle(self.now, Input::Wake, &mut effects);
            self.broker.check_invariants();
            for effect in effects {
                self.see(effect);
            }
        }
        panic!("the broker never comes to rest");
    }

    fn frame(&mut self, peer: u32, header: Header, area: &[u8], payload: &[u8]) {
        let tail = [area, payload].concat();
        let header = Header { len: 64 + tail.len() as u32, ext_len: area.len() as u16, ..header };
        self.input(Input::Frame { from: self.id(peer), header, tail });
    }

    fn see(&mut self, effect: Effect<Vec<u8>>) {
        match effect {
            Effect::Append { position, head, tail, .. } => {
                self.appended += 1;
                assert_eq!(position, self.appended, "positions follow one another");
                let bytes = [head, tail.unwrap_or_default()].concat();
                self.log.push_back((self.segment, position, bytes));
            }
            Effect::Sync => {}
            Effect::Roll { segment } => {
                assert_eq!(segment, self.segment + 1);
                self.segment = segment;
            }
            Effect::DropSegment { segment } => {
                self.drops.push((segment, self.appended));
            }
            Effect::Send { to, header, tail } => {
                *self.unread.entry(to.slot).or_default() += padded(header.len as usize);
                let bytes = tail.to_bytes(&header);
                self.receive(to.slot, header, &bytes);
            }
            Effect::Resume { .. }
            | Effect::Pause { .. }
            | Effect::Close { .. }
            | Effect::Forget { .. }
            | Effect::Reload
            | Effect::Log(_) => {}
        }
    }

    fn receive(&mut self, peer: u32, header: Header, bytes: &[u8]) {
        let payload = bytes[usize::from(header.ext_len)..].to_vec();
        match header.kind {
            Kind::Reply => match self.asked.remove(&(peer, header.call)).expect("an open call") {
                Asked::Open(name) => {
                    let opened: Opened = decode(&payload).expect("opened");
                    self.handles.insert((peer, name), opened.handle);
                }
                Asked::Push(messages) => {
                    if header.method == Level::Disk as u32 && header.caller == 0 {
                        self.kept.extend(messages);
                    }
                }
                Asked::Ack(messages) => {
                    if header.method == Level::Disk as u32 {
                        self.gone.extend(messages.clone());
                    }
                    self.acked.extend(messages);
                }
                Asked::Pop => self.take(peer, &header, payload),
                Asked::Other => {}
            },
            Kind::Outcome => {
                let asked = self.asked.remove(&(peer, header.call)).expect("an open call");
                assert_ne!(Outcome::from_wire(header.method), Outcome::Failed);
                if let Asked::Open(name) = asked {
                    self.handles.remove(&(peer, name));
                }
            }
            Kind::Item if matches!(self.asked[&(peer, header.call)], Asked::Pop) => {
                self.take(peer, &header, payload);
            }
            Kind::Event => self.handles.retain(|_, handle| *handle != header.handle),
            _ => {}
        }
    }

    fn take(&mut self, peer: u32, header: &Header, payload: Vec<u8>) {
        self.messages_seen += 1;
        assert!(!self.acked.contains(&payload), "what was acknowledged is not delivered again");
        if header.epoch == 0 {
            self.given_up.insert(payload);
            return;
        }
        let name = self.handles.iter().find(|((by, _), handle)| *by == peer && **handle == header.handle);
        if let Some((&(_, name), _)) = name {
            self.leases.push((peer, name, LeaseId { low: header.epoch, high: header.caller }, payload));
        }
    }

    fn ask(&mut self, peer: u32, header: Header, area: &[u8], body: &[u8], asked: Asked) {
        self.calls += 1;
        let slots: BTreeSet<u32> =
            self.asked.keys().filter(|(by, _)| *by == peer).map(|&(_, call)| call as u32).collect();
        let slot = (0..).find(|slot| !slots.contains(slot)).expect("a free slot");
        let call = u64::from(slot) | self.calls << 32;
        self.asked.insert((peer, call), asked);
        self.frame(peer, Header { call, ..header }, area, body);
    }

    fn message(&mut self) -> Vec<u8> {
        self.serial += 1;
        let mut message = self.serial.to_le_bytes().to_vec();
        message.resize(8 + self.dice.roll(60) as usize, 7);
        message
    }

    fn step(&mut self) {
        let peer = self.dice.roll(PEERS.into()) as u32;
        let name = self.dice.roll(NAMES.len() as u64) as usize;
        let on = |method: QueueMethod, handle: u64| Header {
            handle,
            method: method as u32,
            ..Header::new(Kind::Call)
        };
        let handle = self.handles.get(&(peer, name)).copied();
        let choice = self.dice.roll(100);
        match (choice, handle) {
            (0..4, _) => {
                let (durability, overflow) = match name {
                    0 => (2, Overflow::Reject),
                    1 => (2, Overflow::Block),
                    2 => (0, Overflow::DropOldest),
                    3 => (1, Overflow::DropOldest),
                    _ => (2, Overflow::Reject),
                };
                let body = CreateQueue {
                    name: NAMES[name].into(),
                    durability,
                    messages_max: 20,
                    bytes_max: 0,
                    overflow: overflow as u8,
                    lossy: overflow == Overflow::DropOldest,
                    deliveries_max: 2,
                    dead_letters: if name == 3 { "q.a".into() } else { String::new() },
                };
                let header = Header { method: Operation::CreateQueue as u32, ..Header::new(Kind::Call) };
                self.ask(peer, header, &[], &encode(&body), Asked::Other);
            }
            // Not of those that are held against what was answered.
            (4, _) if (2..4).contains(&name) => {
                let header = Header { method: Operation::DeleteQueue as u32, ..Header::new(Kind::Call) };
                let body = encode(&OnName { name: NAMES[name].into() });
                self.ask(peer, header, &[], &body, Asked::Other);
            }
            (5..45, Some(handle)) => self.push(peer, name, handle),
            (45..62, Some(handle)) => {
                let lease = [0, 0, 1, 2][self.dice.roll(4) as usize];
                let body = encode(&Pop { lease, lease_ns: 1 + self.dice.roll(1_000) });
                let flag = self.dice.roll(4) as u8 & (flags::STREAM | flags::NO_WAIT);
                let header = Header { flags: flag, ..on(QueueMethod::Pop, handle) };
                self.ask(peer, header, &[], &body, Asked::Pop);
            }
            (62..75, _) => self.give_up_some(),
            (75, Some(handle)) => {
                let header = Header { flags: flags::STREAM, ..on(QueueMethod::Peek, handle) };
                let body = Peek { after: self.dice.roll(30), count: self.dice.roll(10) as u32 };
                self.ask(peer, header, &[], &encode(&body), Asked::Other);
            }
            (76, Some(handle)) if name == 2 => {
                self.ask(peer, on(QueueMethod::Purge, handle), &[], &[], Asked::Other);
            }
            (77, Some(handle)) => {
                let body = encode(&Redrive { count: self.dice.roll(5) as u32 });
                self.ask(peer, on(QueueMethod::Redrive, handle), &[], &body, Asked::Other);
            }
            (78..84, _) => {
                let open = self.asked.keys().filter(|(by, _)| *by == peer).map(|&(_, call)| call);
                let open: Vec<u64> = open.collect();
                if let Some(&call) = open.get(self.dice.roll(8) as usize) {
                    let seq = self.dice.roll(4);
                    let kind = if self.dice.roll(4) == 0 { Kind::Cancel } else { Kind::Credit };
                    if call != 0 {
                        self.frame(peer, Header { call, seq, ..Header::new(kind) }, &[], &[]);
                    }
                }
            }
            (84, _) if self.dice.roll(4) == 0 => {
                // All leave: the ids of those who come are new.
                let process_ended = self.dice.roll(2) == 0;
                for peer in 0..PEERS {
                    let peer = self.id(peer);
                    self.input(Input::Disconnect {
                        peer,
                        how: Departure { exit_status: None, process_ended },
                    });
                }
                self.handles.clear();
                self.asked.clear();
                self.unread.clear();
                for peer in 0..PEERS {
                    self.connect(peer);
                }
            }
            (85..88, _) => {
                self.now.0 += self.dice.roll(2_000);
                self.input(Input::Wake);
            }
            (88, _) => {
                let jump = self.dice.roll(4_000);
                let wall_ns = 1_000_000_000_000 + self.now.0 + jump;
                self.input(Input::Clock { wall_ns });
            }
            (89..96, _) => self.persist(),
            (96, _) if self.dice.roll(6) == 0 => self.crash(),
            (97, _) => {
                let unread = self.unread.remove(&peer).unwrap_or(0);
                self.input(Input::Wrote { peer: self.id(peer), bytes: unread });
            }
            (_, None) => {
                let rights = (Verb::Push.right() | Verb::Pop.right()).0;
                let body = Open { name: NAMES[name].into(), kind: 3, rights, on_behalf_of: 0 };
                let header = Header { method: Operation::Open as u32, ..Header::new(Kind::Call) };
                self.ask(peer, header, &[], &encode(&body), Asked::Open(name));
            }
            _ => {}
        }
    }

    fn push(&mut self, peer: u32, name: usize, handle: u64) {
        let mut area = ExtensionsBuilder::default();
        let mut options = PushOptions { priority: self.dice.roll(3) as u8, ..PushOptions::default() };
        // Those that may expire are not held against what is there later.
        let kept = name < 2;
        if !kept && self.dice.roll(4) == 0 {
            options.ttl_ns = 1 + self.dice.roll(3_000);
        }
        if self.dice.roll(4) == 0 {
            options.delay_ns = self.dice.roll(3_000);
        }
        area.add(extension_type::PUSH, &options.to_bytes());
        if self.dice.roll(4) == 0 {
            area.add(extension_type::GROUP, &[b'g', self.dice.roll(2) as u8]);
        }
        if self.dice.roll(4) == 0 {
            let mut value = self.dice.roll(3).to_le_bytes().to_vec();
            value.extend_from_slice(&self.dice.roll(40 + self.serial).to_le_bytes());
            area.add(extension_type::PRODUCER, &value);
        }
        let mut header = Header { handle, method: QueueMethod::Push as u32, ..Header::new(Kind::Call) };
        if self.dice.roll(3) == 0 {
            header.deadline = self.now.0 + 1 + self.dice.roll(3_000);
        }
        if self.dice.roll(3) != 0 {
            let message = self.message();
            let asked = Asked::Push(if kept { vec![message.clone()] } else { Vec::new() });
            return self.ask(peer, header, &area.finish(), &message, asked);
        }
        header.flags = flags::BATCH;
        let other = self.handles.iter().find(|((by, of), _)| *by == peer && *of != name);
        let other = other.map(|(&(_, of), &handle)| (of, handle)).filter(|_| self.dice.roll(2) == 0);
        if let Some((_, handle)) = other {
            area.add(extension_type::QUEUES, &handle.to_le_bytes());
        }
        let (mut batch, mut all) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.dice.roll(4) {
            let message = self.message();
            let queue = u32::from(other.is_some()) * self.dice.roll(2) as u32;
            write_part(&mut batch, queue << 8, &message);
            let to_kept = if queue == 0 { kept } else { other.is_some_and(|(of, _)| of < 2) };
            if to_kept && options.ttl_ns == 0 {
                all.push(message);
            }
        }
        self.ask(peer, header, &area.finish(), &batch, Asked::Push(all));
    }

    fn give_up_some(&mut self) {
        if self.leases.is_empty() {
            return;
        }
        let at = self.dice.roll(self.leases.len() as u64) as usize;
        let (peer, name, lease, payload) = self.leases.swap_remove(at);
        let Some(&handle) = self.handles.get(&(peer, name)) else { return };
        let header = Header { handle, ..Header::new(Kind::Call) };
        if self.dice.roll(3) != 0 {
            self.given_up.insert(payload.clone());
            let header = Header { method: QueueMethod::Ack as u32, ..header };
            return self.ask(peer, header, &[], &lease.to_bytes(), Asked::Ack(vec![payload]));
        }
        let nack = Nack { lease, how: self.dice.roll(3) as u8, delay_ns: self.dice.roll(3_000) };
        let header = Header { method: QueueMethod::Nack as u32, ..header };
        self.ask(peer, header, &[], &encode(&nack), Asked::Other);
    }

    fn persist(&mut self) {
        if self.failed {
            return;
        }
        self.written += self.dice.roll(self.appended - self.written + 1);
        if self.dice.roll(2) == 0 {
            self.synced += self.dice.roll(self.written - self.synced + 1);
        }
        if self.dice.roll(8) == 0 {
            self.written = self.appended;
            self.synced = self.appended;
        }
        let synced = self.synced;
        while let Some(&(segment, after)) = self.drops.first()
            && after <= synced
        {
            assert_eq!(segment, self.oldest, "the oldest goes first");
            self.log.retain(|(of, ..)| *of != segment);
            self.oldest += 1;
            self.drops.remove(0);
        }
        self.input(Input::Persisted { written: self.written, synced: self.synced });
    }

    /// The machine goes down: what was not synced may be there or not, from some record on.
    fn crash(&mut self) {
        let keep = self.synced + self.dice.roll(self.appended - self.synced + 1);
        self.log.retain(|&(_, position, _)| position <= keep);
        let incarnation = 2 + self.serial as u32;
        let instance = Instance { incarnation, ..Instance::default() };
        self.broker = Broker::new(settings(), instance, self.now);
        self.handles.clear();
        self.asked.clear();
        self.leases.clear();
        self.unread.clear();
        self.drops.clear();
        self.input(Input::Clock { wall_ns: 1_000_000_000_000 + self.now.0 });
        let log: Vec<_> = self.log.iter().cloned().collect();
        let position = log.last().map_or(keep, |&(_, position, _)| position);
        self.segment += 1;
        for (segment, position, record) in log {
            self.input(Input::Recovered { segment, position, record });
        }
        (self.appended, self.written, self.synced) = (position, position, position);
        let (oldest, segment) = (self.oldest, self.segment);
        self.input(Input::LogReady { position, oldest, segment });
        for peer in 0..PEERS {
            self.connect(peer);
        }
        // What was acknowledged at a lower level may be back.
        self.acked = self.gone.clone();
        self.look_for_what_is_kept();
    }

    /// Everything that was answered as safe and not given up is in some queue, and nothing that was
    /// acknowledged is.
    fn look_for_what_is_kept(&mut self) {
        let mut there = BTreeSet::new();
        for (name, text) in NAMES.iter().enumerate() {
            let rights = (Verb::Push.right() | Verb::Pop.right()).0;
            let body = Open { name: (*text).into(), kind: 3, rights, on_behalf_of: 0 };
            let header = Header { method: Operation::Open as u32, ..Header::new(Kind::Call) };
            self.ask(0, header, &[], &encode(&body), Asked::Open(name));
            let Some(&handle) = self.handles.get(&(0, name)) else { continue };
            let call = 77 | self.calls << 32;
            let header = Header {
                handle,
                call,
                method: QueueMethod::Peek as u32,
                flags: flags::STREAM,
                len: 64 + encode(&Peek::default()).len() as u32,
                ..Header::new(Kind::Call)
            };
            let from = self.id(0);
            let credit = Header { call, seq: 1_000, ..Header::new(Kind::Credit) };
            for (header, tail) in [(header, encode(&Peek::default())), (credit, Vec::new())] {
                let mut effects = Vec::new();
                self.broker.handle(self.now, Input::Frame { from, header, tail }, &mut effects);
                while self.broker.next_wake() == Some(Instant(0)) {
                    self.broker.handle(self.now, Input::Wake, &mut effects);
                }
                for effect in effects {
                    match effect {
                        Effect::Send { header, tail, .. } if header.kind == Kind::Item => {
                            let bytes = tail.to_bytes(&header);
                            there.insert(bytes[usize::from(header.ext_len)..].to_vec());
                        }
                        Effect::Send { header, .. } => assert_eq!(header.kind, Kind::Reply),
                        other => self.see(other),
                    }
                }
            }
        }
        for message in self.kept.difference(&self.given_up) {
            assert!(there.contains(message), "a message that was answered is lost: {message:?}");
        }
        for message in &there {
            assert!(!self.gone.contains(message), "an acknowledged message is back: {message:?}");
        }
    }
}

#[test]
fn whatever_is_asked_of_queues_the_books_balance_and_nothing_answered_is_lost() {
    let seeds = std::env::var("STORM_SEEDS").map_or(20, |seeds| seeds.parse().expect("a number"));
    let (mut seen, mut kept) = (0, 0);
    let first = std::env::var("STORM_FIRST").map_or(1, |seed| seed.parse().expect("a number"));
    for seed in first..first + seeds {
        eprintln!("seed {seed}");
        let mut storm = Storm::new(seed);
        for _ in 0..600 {
            storm.step();
        }
        storm.persist();
        storm.crash();
        seen += storm.messages_seen;
        kept += storm.kept.len();
    }
    assert!(20 * seeds < seen && 20 * seeds < kept as u64, "{seen} messages seen, {kept} kept");
}
