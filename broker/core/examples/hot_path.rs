//! The broker's hot path with nothing around it: calls and sends through the core, from one client
//! to one server, messages to topics and through queues. `hot_path WHAT COUNT` with WHAT `call`, `deadline`
//! (calls with one), `send`, `publish` (to one subscriber), `fanout` (to a hundred, COUNT deliveries),
//! `pattern` (to a hundred that subscribed by one), `queue` (push, its reply, the delivery and its
//! acknowledgement), `queue-deep` (the same behind a million messages), `queue-batch` (64 messages in a push
//! and 512 leases in an acknowledgement, as a client's pipeline has it) or `queue-durable` (that with a log);
//! `tests/bench/instructions` runs it under callgrind and says what one message costs. Frames go as they do
//! in the daemon: patched where they lie, and copied once.

use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::rc::Rc;
use switchboard_core::{
    Broker, Effect, Effects, Identity, Input, Instance, Limits, Payload, Policy, SendTail, Settings,
};
use switchboard_protocol::control::{Open, Opened, Operation, Serve, Served};
use switchboard_protocol::queue::{CreateQueue, LEASE_BYTES, LeaseId, Level, Pop, QueueMethod};
use switchboard_protocol::topic::Subscribe;
use switchboard_protocol::{
    HELLO_MAGIC, Header, Hello, Instant, Kind, ObjectKind, PeerId, Rights, VERSION, Verb, decode, encode,
    flags, write_part,
};

/// A payload that costs nothing, so that only the broker is counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bytes(Rc<[u8]>);

impl Payload for Bytes {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn bytes(&self) -> &[u8] {
        &self.0
    }
    fn keep(self) -> Self {
        self
    }
    fn own(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
    fn cut(&self, start: usize, end: usize) -> Self {
        Self(self.0[start..end].into())
    }
}

const CLIENT: PeerId = PeerId { slot: 0, generation: 1 };
const SERVER: PeerId = PeerId { slot: 1, generation: 1 };

fn main() {
    let mut words = std::env::args().skip(1);
    let what = words.next().unwrap_or_else(|| "call".to_string());
    let count: u64 = words.next().map_or(100_000, |count| count.parse().expect("COUNT is a number"));
    let mut world = World::new();
    let handle = world.handle;
    match what.as_str() {
        "call" => world.calls(count, handle, 0),
        "deadline" => world.calls(count, handle, u64::MAX / 2),
        "send" => world.sends(count, handle),
        "publish" => world.publishes(count, 1, false),
        "fanout" => world.publishes(count, 100, false),
        "pattern" => world.publishes(count, 100, true),
        "queue" => world.queue(count, 0),
        "queue-deep" => world.queue(count, 1_000_000),
        "queue-batch" => world.queue_batches(count, Level::Memory),
        "queue-durable" => world.queue_batches(count, Level::Disk),
        other => panic!("`{other}` is none of the words that this file's beginning names"),
    }
    println!("{what}: {count}");
}

/// Remembers what was sent last, as an out queue would.
#[derive(Default)]
struct Sent {
    header: Option<Header>,
    to: Option<PeerId>,
    /// A body of the broker's own.
    body: Vec<u8>,
    /// Items and credits, since somebody set these to 0.
    items: u32,
    credits: u32,
    /// What has to do with a queue, where there is one.
    queue: Option<AtQueue>,
}

/// What the two peers of a queue are sent.
struct AtQueue {
    /// Bytes that wait to be written, by the peer's slot.
    unwritten: [usize; 2],
    /// Leases of what was delivered, as an acknowledgement has them, and how many they are.
    leases: Rc<[u8]>,
    leased: usize,
    /// Records that were appended to the log, and how many of them are safe.
    appended: u64,
    persisted: u64,
}

impl Effects<Bytes> for Sent {
    fn forward(&mut self, to: PeerId, header: &Header, _tail: &Bytes) {
        self.note(to, header);
    }

    fn push(&mut self, effect: Effect<Bytes>) {
        match effect {
            Effect::Send { to, header, tail } => {
                self.note(to, &header);
                if let SendTail::Own(body) = tail {
                    self.body = body;
                }
            }
            Effect::Append { position, .. } => {
                self.queue.as_mut().expect("a durable queue").appended = position;
            }
            Effect::Resume { .. }
            | Effect::Pause { .. }
            | Effect::Close { .. }
            | Effect::Forget { .. }
            | Effect::Sync
            | Effect::Roll { .. }
            | Effect::DropSegment { .. }
            | Effect::Reload
            | Effect::Log(_) => {}
        }
    }
}

impl Sent {
    fn note(&mut self, to: PeerId, header: &Header) {
        (self.to, self.header) = (Some(to), Some(*header));
        self.items += u32::from(header.kind == Kind::Item);
        self.credits += u32::from(header.kind == Kind::Credit);
        if let Some(queue) = &mut self.queue {
            queue.note(to, header);
        }
    }
}

impl AtQueue {
    fn note(&mut self, to: PeerId, header: &Header) {
        self.unwritten[to.slot as usize] += (header.len as usize).next_multiple_of(16);
        if header.kind == Kind::Item {
            let lease = LeaseId { low: header.epoch, high: header.caller };
            let leases = Rc::get_mut(&mut self.leases).expect("no acknowledgement is on its way");
            let at = self.leased * LEASE_BYTES;
            leases[at..at + LEASE_BYTES].copy_from_slice(&lease.to_bytes());
            self.leased += 1;
        }
    }
}

/// The call under which a queue's messages come.
const CONSUMER: u64 = 1 << 32;
/// Messages in one push, where they are many.
const PUSHED: u64 = 64;
/// Leases in one acknowledgement, where they are many.
const ACKNOWLEDGED: u64 = 512;

struct World {
    broker: Broker<Bytes>,
    effects: Sent,
    empty: Bytes,
    payload: Bytes,
    handle: u64,
    serving: u64,
}

impl World {
    fn new() -> Self {
        let policy = Policy::user_instance(1000);
        let settings = Settings {
            policy,
            limits: Limits::default(),
            topics: Vec::new(),
            queues: Vec::new(),
            files: Vec::new(),
        };
        let broker = Broker::new(settings, Instance { incarnation: 1, ..Instance::default() }, Instant(1));
        let bytes = |bytes: &[u8]| Bytes(bytes.into());
        let (empty, payload) = (bytes(&[]), bytes(&[7; 64]));
        let mut world = Self { broker, effects: Sent::default(), empty, payload, handle: 0, serving: 0 };
        world.join(CLIENT);
        world.join(SERVER);
        let serve = Serve {
            name: "hot.path".into(),
            mode: 0,
            flags: 0,
            calls: 64,
            send_bytes: 1 << 20,
            about: String::new(),
        };
        let header = Header { method: Operation::Serve as u32, ..Header::new(Kind::Call) };
        world.frame(SERVER, header, bytes(&encode(&serve)));
        world.serving = decode::<Served>(&world.own_body()).expect("served").handle;
        let rights = (Verb::Call.right() | Rights::NONE).0;
        let open = Open { name: "hot.path".into(), kind: 1, rights, on_behalf_of: 0 };
        let header = Header { method: Operation::Open as u32, ..Header::new(Kind::Call) };
        world.frame(CLIENT, header, bytes(&encode(&open)));
        world.handle = decode::<Opened>(&world.own_body()).expect("opened").handle;
        world
    }

    fn join(&mut self, peer: PeerId) {
        let identity = Identity { uid: 1000, gid: 1000, pid: 7, ..Identity::default() };
        self.handle(Input::Connect { peer, identity });
        let hello = Hello { version_min: VERSION, version_max: VERSION, features: 0, program: "hot".into() };
        let header = Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) };
        self.frame(peer, header, Bytes(encode(&hello).into()));
    }

    fn open_topic(&mut self, peer: PeerId, verb: Verb) -> u64 {
        let rights = (verb.right() | Rights::NONE).0;
        let open = Open { name: "hot.topic".into(), kind: 2, rights, on_behalf_of: 0 };
        let header = Header { method: Operation::Open as u32, ..Header::new(Kind::Call) };
        self.frame(peer, header, Bytes(encode(&open).into()));
        decode::<Opened>(&self.own_body()).expect("opened").handle
    }

    /// `count` deliveries of messages to so many subscribers, each a connection of its own.
    fn publishes(&mut self, count: u64, subscribers: u32, by_pattern: bool) {
        let topic = self.open_topic(CLIENT, Verb::Publish);
        for slot in 2..2 + subscribers {
            let peer = PeerId { slot, generation: 1 };
            self.join(peer);
            let handle = if by_pattern { 0 } else { self.open_topic(peer, Verb::Subscribe) };
            let pattern = if by_pattern { "hot.*".to_string() } else { String::new() };
            let ask = Subscribe { handle, pattern, policy: 0, messages: 0, bytes: 0, history: 0 };
            let header = Header {
                method: Operation::Subscribe as u32,
                call: 1,
                flags: flags::STREAM,
                ..Header::new(Kind::Call)
            };
            self.frame(peer, header, Bytes(encode(&ask).into()));
            let header = Header { call: 1, seq: u64::MAX / 2, ..Header::new(Kind::Credit) };
            self.frame(peer, header, self.empty.clone());
        }
        let sent = (64 + 64 + if by_pattern { 16 } else { 0 }) as usize;
        for _ in 0..count / u64::from(subscribers) {
            let header = Header { handle: topic, ..Header::new(Kind::Send) };
            (self.effects.items, self.effects.credits) = (0, 0);
            self.frame(CLIENT, header, self.payload.clone());
            assert_eq!(self.effects.items, subscribers);
            let credited = 0 < self.effects.credits;
            for slot in 2..2 + subscribers {
                self.handle(Input::Wrote { peer: PeerId { slot, generation: 1 }, bytes: sent });
            }
            if credited {
                self.handle(Input::Wrote { peer: CLIENT, bytes: 64 });
            }
        }
    }

    fn own_body(&self) -> Vec<u8> {
        self.effects.body.clone()
    }

    /// Inlined, as in the daemon.
    #[inline(always)]
    fn handle(&mut self, input: Input<Bytes>) {
        self.broker.handle(Instant(2), input, &mut self.effects);
    }

    fn frame(&mut self, from: PeerId, mut header: Header, tail: Bytes) {
        header.len = 64 + tail.len() as u32;
        self.handle(Input::Frame { from, header, tail });
    }

    /// The header of the frame that the last input sent; its bytes leave at once.
    fn sent(&mut self) -> Header {
        let header = self.effects.header.take().expect("a frame was sent");
        let to = self.effects.to.expect("a frame was sent");
        self.handle(Input::Wrote { peer: to, bytes: (header.len as usize).next_multiple_of(16) });
        header
    }

    fn calls(&mut self, count: u64, handle: u64, deadline: u64) {
        for _ in 0..count {
            let header = Header { handle, call: 0, deadline, ..Header::new(Kind::Call) };
            self.frame(CLIENT, header, self.payload.clone());
            let request = self.sent();
            let header = Header { call: request.call, ..Header::new(Kind::Reply) };
            self.frame(SERVER, header, self.payload.clone());
            black_box(self.sent());
        }
    }

    /// A queue with so much room, and a consumer that reads `acknowledged` messages before it says so: the
    /// handles to push and to pop.
    fn open_queue(&mut self, level: Level, room: u64, acknowledged: u64) -> (u64, u64) {
        let leases = vec![0; acknowledged as usize * LEASE_BYTES].into();
        self.effects.queue =
            Some(AtQueue { unwritten: [0; 2], leases, leased: 0, appended: 0, persisted: 0 });
        if level != Level::Memory {
            self.handle(Input::LogReady { position: 0, oldest: 1, segment: 1 });
        }
        let create = CreateQueue {
            name: "hot.queue".into(),
            durability: level as u8,
            messages_max: room,
            bytes_max: 1 << 40,
            ..CreateQueue::default()
        };
        let header = Header { method: Operation::CreateQueue as u32, ..Header::new(Kind::Call) };
        self.frame(CLIENT, header, Bytes(encode(&create).into()));
        self.persist();
        let open = |rights: Verb| Open {
            name: "hot.queue".into(),
            kind: ObjectKind::Queue as u8,
            rights: rights.right().0,
            on_behalf_of: 0,
        };
        let header = Header { method: Operation::Open as u32, ..Header::new(Kind::Call) };
        self.frame(CLIENT, header, Bytes(encode(&open(Verb::Push)).into()));
        let push = decode::<Opened>(&self.own_body()).expect("opened").handle;
        self.frame(SERVER, header, Bytes(encode(&open(Verb::Pop)).into()));
        let pop = decode::<Opened>(&self.own_body()).expect("opened").handle;
        self.write();
        (push, pop)
    }

    fn consume(&mut self, pop: u64) {
        let method = QueueMethod::Pop as u32;
        let header =
            Header { handle: pop, method, call: CONSUMER, flags: flags::STREAM, ..Header::new(Kind::Call) };
        self.frame(SERVER, header, Bytes(encode(&Pop::default()).into()));
    }

    /// The consumer takes so many messages more.
    fn grant(&mut self, messages: u64) {
        let header = Header { call: CONSUMER, seq: messages, ..Header::new(Kind::Credit) };
        self.frame(SERVER, header, self.empty.clone());
    }

    fn push(&mut self, push: u64, flags: u8, payload: Bytes) {
        let header =
            Header { handle: push, method: QueueMethod::Push as u32, flags, ..Header::new(Kind::Call) };
        self.frame(CLIENT, header, payload);
    }

    /// What was delivered is dealt with.
    fn acknowledge(&mut self, pop: u64) {
        let queue = self.effects.queue.as_mut().expect("a queue");
        assert_eq!(queue.leased * LEASE_BYTES, queue.leases.len(), "so many were to come");
        queue.leased = 0;
        let body = Bytes(Rc::clone(&queue.leases));
        let header =
            Header { handle: pop, method: QueueMethod::Ack as u32, call: 2, ..Header::new(Kind::Call) };
        self.frame(SERVER, header, body);
    }

    /// Whatever waits to be written to the queue's peers leaves at once.
    fn write(&mut self) {
        for peer in [CLIENT, SERVER] {
            let queue = self.effects.queue.as_mut().expect("a queue");
            let bytes = std::mem::take(&mut queue.unwritten[peer.slot as usize]);
            if bytes != 0 {
                self.handle(Input::Wrote { peer, bytes });
            }
        }
    }

    /// Whatever was appended to the log is safe.
    fn persist(&mut self) {
        let queue = self.effects.queue.as_mut().expect("a queue");
        let through = queue.appended;
        if std::mem::replace(&mut queue.persisted, through) != through {
            self.handle(Input::Persisted { written: through, synced: through });
        }
    }

    fn queue(&mut self, count: u64, deep: u64) {
        let (push, pop) = self.open_queue(Level::Memory, deep + 10, 1);
        for _ in 0..deep {
            // Each with bytes of its own.
            self.push(push, 0, Bytes([7; 64].as_slice().into()));
            self.write();
        }
        self.consume(pop);
        if deep == 0 {
            self.grant(count);
        }
        for _ in 0..count {
            self.push(push, 0, self.payload.clone());
            self.write();
            if deep != 0 {
                self.grant(1);
                self.write();
            }
            self.acknowledge(pop);
            self.write();
        }
    }

    fn queue_batches(&mut self, count: u64, level: Level) {
        let (push, pop) = self.open_queue(level, 4 * ACKNOWLEDGED, ACKNOWLEDGED);
        let mut batch = Vec::new();
        for _ in 0..PUSHED {
            write_part(&mut batch, 0, &self.payload.0);
        }
        let batch = Bytes(batch.into());
        self.consume(pop);
        self.grant(ACKNOWLEDGED);
        for _ in 0..count / ACKNOWLEDGED {
            self.grant(ACKNOWLEDGED);
            for _ in 0..ACKNOWLEDGED / PUSHED {
                self.push(push, flags::BATCH, batch.clone());
                self.persist();
                self.write();
            }
            self.acknowledge(pop);
            self.persist();
            self.write();
        }
    }

    fn sends(&mut self, count: u64, handle: u64) {
        let mut used = 0;
        for _ in 0..count {
            let header = Header { handle, ..Header::new(Kind::Send) };
            self.frame(CLIENT, header, self.payload.clone());
            black_box(self.sent());
            used += 128;
            if used == 1 << 18 {
                let header = Header { handle: self.serving, seq: used, ..Header::new(Kind::Credit) };
                self.frame(SERVER, header, self.empty.clone());
                used = 0;
            }
        }
    }
}
