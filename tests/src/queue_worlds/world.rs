//! A world of one broker after the other over one disk, from a seed to its end.

mod topics;

use std::collections::BTreeMap;

use switchboard_broker::journal::{Batch, Layout, Level as Log, Recovery, SimDisk, Writer, recover};
use switchboard_core::{
    Broker, Departure, Effect, Identity, Input, Instance, Limits, Policy, QueueSettings, Settings,
};
use switchboard_protocol::control::{Open, Opened, Operation, Status};
use switchboard_protocol::queue::{
    Extend, LEASE_BYTES, LeaseId, LeaseKind, Level, Nack, NackHow, Overflow, Pop, PushOptions, QueueMethod,
};
use switchboard_protocol::{
    ExtensionsBuilder, HELLO_MAGIC, Header, Hello, Instant, Kind, Name, ObjectKind, Outcome, PeerId, Tail,
    VERSION, Verb, decode, encode, extension_type, flags, padded, write_part,
};

use self::topics::{TOPICS, Topic, topic_settings};
use super::model::{Checked, Lease, Message, Model, Presence, Survival};
use crate::session_worlds::Dice;
use crate::shadow::Shadow;

/// A bug that is planted between the core, the log and the clients, for the model to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// What was written is said to be synced.
    SyncedEarly,
    /// A failed sync goes unnoticed.
    SyncFailureIgnored,
    /// A record in a hundred is not handed in at recovery.
    RecordLost,
    /// Acks are answered but not handed to the broker.
    AckDropped,
    /// Items of the same consumer are swapped.
    OrderSwapped,
    /// A delivery is given to a second consumer as well.
    DeliveredTwice,
    /// The last record of a topic's message is not handed in at recovery.
    RetainedLost,
    /// Now and then what a topic retains is written as it was before.
    RetainedStale,
    /// What a topic no longer retains stays in the log.
    RetainedForever,
}

/// What happened in a world.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Inputs that the core was given.
    pub inputs: u64,
    /// Messages whose push was answered.
    pub pushed: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Acknowledgements that were answered.
    pub acked: u64,
    /// Brokers that ended in the middle of it all.
    pub crashes: u64,
    /// Of them, those after which the power was gone.
    pub blackouts: u64,
    /// Logs that failed.
    pub failures: u64,
    /// Dead letters that came out.
    pub dead: u64,
    /// Messages whose publisher was told that a topic retains them in the log.
    pub retained: u64,
    /// Late subscribers that were told what a topic retains.
    pub looks: u64,
}

const MILLISECOND: u64 = 1_000_000;
const DAY: u64 = 24 * 3600 * 1000 * MILLISECOND;

struct QueueKind {
    name: &'static str,
    level: Level,
    overflow: Overflow,
    messages_max: u64,
    deliveries_max: u32,
}

const QUEUES: [QueueKind; 6] = [
    QueueKind {
        name: "q.disk",
        level: Level::Disk,
        overflow: Overflow::Reject,
        messages_max: 60,
        deliveries_max: 3,
    },
    QueueKind {
        name: "q.os",
        level: Level::Os,
        overflow: Overflow::Reject,
        messages_max: 60,
        deliveries_max: 4,
    },
    QueueKind {
        name: "q.mem",
        level: Level::Memory,
        overflow: Overflow::Reject,
        messages_max: 60,
        deliveries_max: 3,
    },
    QueueKind {
        name: "q.drop",
        level: Level::Memory,
        overflow: Overflow::DropOldest,
        messages_max: 8,
        deliveries_max: 9,
    },
    QueueKind {
        name: "q.block",
        level: Level::Disk,
        overflow: Overflow::Block,
        messages_max: 6,
        deliveries_max: 9,
    },
    QueueKind {
        name: "q.lossy",
        level: Level::Disk,
        overflow: Overflow::DropOldest,
        messages_max: 8,
        deliveries_max: 9,
    },
];

/// What a client has asked and was not told the end of.
#[derive(Clone, Debug)]
enum Asked {
    Open { queue: usize, dead: bool },
    Push { ids: Vec<u64> },
    Consume { queue: usize, dead: bool, lease: LeaseKind, lease_ns: u64 },
    Ack { ids: Vec<u64> },
    Nack { id: u64 },
    Extend { id: u64, until: u64 },
    Status,
    OpenTopic { topic: usize },
    Publish { topic: usize, id: u64 },
    Look,
}

struct Client {
    id: PeerId,
    /// By queue, and its dead letters.
    handles: BTreeMap<(usize, bool), u64>,
    topics: BTreeMap<usize, u64>,
    calls: BTreeMap<u64, Asked>,
    calls_made: u32,
    /// Bytes sent to it that it has not read.
    unread: usize,
    /// Messages that it has and has not dealt with.
    held: Vec<u64>,
}

struct World {
    dice: Dice,
    core: Broker<Vec<u8>>,
    /// A core that is told what a recording has, if there is one.
    shadow: Option<Shadow>,
    writer: Option<Writer<SimDisk>>,
    batch: Batch,
    incarnation: u32,
    now: u64,
    wall_offset: u64,
    /// The wall time of the last wake at which nothing was left to do.
    settled: u64,
    /// The latest wall time that ever was.
    latest: u64,
    clients: Vec<Client>,
    generations: Vec<u32>,
    model: Model,
    topics: Vec<Topic>,
    /// What a late subscriber was given: that it is in force, and a message with its number.
    looked: Option<Option<(u64, u64)>>,
    /// The position of the last record.
    appended: u64,
    /// The last record of each topic, for a bug.
    stale: BTreeMap<usize, Vec<u8>>,
    next_id: u64,
    next_push: u64,
    bug: Option<Bug>,
    failed: bool,
    trace: Vec<String>,
    summary: Summary,
}

/// What the error of a shadow that differs begins with.
pub const SHADOW: &str = "the shadow: ";

/// Lives a world through; the error says what promise was broken, and what happened before.
pub fn run(seed: u64, bug: Option<Bug>) -> Result<Summary, String> {
    run_world(World::new(seed, bug))
}

/// The same with a shadow beside each broker; an error that begins with [`SHADOW`] is the shadow's.
pub fn run_shadowed(seed: u64, shadow: Shadow) -> Result<Summary, String> {
    let mut world = World::new(seed, None);
    world.shadow = Some(shadow);
    run_world(world)
}

fn run_world(mut world: World) -> Result<Summary, String> {
    let end = world.live().and_then(|()| world.drain());
    match end {
        Ok(()) => Ok(world.summary),
        Err(message) => {
            let shown = std::env::var("SWITCHBOARD_STEPS").ok().and_then(|steps| steps.parse().ok());
            let from = world.trace.len().saturating_sub(shown.unwrap_or(60));
            Err(format!("{message}\n{}", world.trace[from..].join("\n")))
        }
    }
}

fn settings() -> Settings {
    let queues = QUEUES.iter().map(|kind| QueueSettings {
        durability: kind.level,
        messages_max: kind.messages_max,
        overflow: kind.overflow,
        lossy: kind.level != Level::Memory && kind.overflow == Overflow::DropOldest,
        deliveries_max: kind.deliveries_max,
        ..QueueSettings::of(Name::new(kind.name).expect("a name"))
    });
    let limits = Limits { segment_bytes: 2000, log_bytes_max: 1 << 20, ..Limits::default() };
    Settings {
        policy: Policy::user_instance(1000),
        limits,
        topics: topic_settings(|_| true),
        queues: queues.collect(),
        files: Vec::new(),
    }
}

fn broker(incarnation: u32, now: u64) -> Broker<Vec<u8>> {
    let instance = Instance { incarnation, secret: [7, 8], ..Instance::default() };
    Broker::new(settings(), instance, Instant(now))
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut dice = Dice::new(seed);
        let disk = SimDisk::new(dice.roll());
        let mut world = Self {
            core: broker(1, 1),
            shadow: None,
            dice,
            writer: None,
            batch: Batch::default(),
            incarnation: 0,
            now: 1,
            wall_offset: 1_700_000_000_000 * MILLISECOND,
            settled: 0,
            latest: 0,
            clients: Vec::new(),
            generations: vec![0; 8],
            model: Model::default(),
            topics: TOPICS.iter().map(|_| Topic::new()).collect(),
            looked: None,
            appended: 0,
            stale: BTreeMap::new(),
            next_id: 1,
            next_push: 1,
            bug,
            failed: false,
            trace: Vec::new(),
            summary: Summary::default(),
        };
        world.start(disk).expect("an empty disk");
        world
    }

    fn wall(&self) -> u64 {
        self.now + self.wall_offset
    }

    /// A new broker over what the disk has.
    fn start(&mut self, disk: SimDisk) -> Checked {
        self.incarnation += 1;
        self.failed = false;
        self.batch = Batch::default();
        self.clients.clear();
        self.core = broker(self.incarnation, self.now);
        if let Some(shadow) = &mut self.shadow {
            shadow.forget();
        }
        let layout = Layout { preallocated_bytes: 4096, salt: self.dice.roll() as u32 };
        let mut records = Vec::new();
        let recovered = recover(disk, layout, &mut |record| {
            records.push((record.segment, record.position, record.bytes.to_vec()));
        });
        let Recovery { writer, next_position, segments, cut } =
            recovered.map_err(|error| format!("the log cannot be read: {error}"))?;
        self.note(format!("-- broker {} starts: {} records, cut {cut:?}", self.incarnation, records.len()));
        self.writer = Some(writer);
        let wall_ns = self.wall();
        self.handle(Input::Clock { wall_ns })?;
        self.spoil_topics(&mut records);
        for (segment, position, record) in records {
            if self.bug == Some(Bug::RecordLost) && self.dice.one_in(100) {
                continue;
            }
            self.handle(Input::Recovered { segment, position, record })?;
        }
        let segment = segments.last().map_or(0, |last| last.number) + 1;
        let oldest = segments.first().map_or(segment, |first| first.number);
        self.batch.roll(segment);
        self.handle(Input::LogReady { position: next_position - 1, oldest, segment })?;
        self.settle()
    }

    fn live(&mut self) -> Checked {
        for _ in 0..(200 + self.dice.below(600)) {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Checked {
        self.now += self.dice.below(3) * MILLISECOND;
        match self.dice.below(110) {
            0..=5 => self.connect()?,
            6..=7 => self.leave()?,
            8..=29 => self.push()?,
            30..=37 => self.consume()?,
            38..=43 => self.credit()?,
            44..=55 => self.ack()?,
            56..=61 => self.nack()?,
            62..=63 => self.extend()?,
            64..=65 => self.cancel()?,
            66..=79 => self.write_log(true)?,
            80..=84 => self.write_log(false)?,
            85..=89 => self.read()?,
            90..=93 => {
                self.now += self.dice.below(400) * MILLISECOND;
                self.settle()?;
            }
            94 => {
                // The wall clock is set, mostly a little.
                let by = self.dice.below(2000) * MILLISECOND;
                self.wall_offset =
                    if self.dice.one_in(2) { self.wall_offset + by } else { self.wall_offset - by };
                let wall_ns = self.wall();
                self.settled = self.settled.min(wall_ns);
                self.note(format!("the wall clock says {wall_ns}"));
                self.handle(Input::Clock { wall_ns })?;
                self.settle()?;
            }
            95 => self.plan_fault(),
            96..=97 => self.crash()?,
            100..=108 => self.use_topic()?,
            109 if self.dice.one_in(3) => self.reconfigure()?,
            _ => self.settle()?,
        }
        if self.failed && self.dice.one_in(20) {
            return self.crash();
        }
        Ok(())
    }

    // --- the log ---

    fn plan_fault(&mut self) {
        if !self.dice.one_in(3) {
            return;
        }
        let Some(writer) = &mut self.writer else { return };
        let disk = writer.disk();
        let (writes, syncs) = (disk.writes(), disk.syncs());
        match self.dice.below(3) {
            0 => disk.faults.fail_write_at = Some(writes + 1 + self.dice.below(4)),
            1 => {
                disk.faults.fail_sync_at = Some(syncs + 1 + self.dice.below(4));
                disk.faults.failed_sync_forgets = self.dice.one_in(2);
            }
            _ => disk.faults.short_writes = true,
        }
    }

    fn write_log(&mut self, sync: bool) -> Checked {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if self.failed {
            return Ok(());
        }
        let mut done = writer.write(&mut self.batch);
        self.batch.clear();
        if sync && done.is_ok() {
            done = writer.sync();
            if self.bug == Some(Bug::SyncFailureIgnored) && done.is_err() {
                done = Ok(());
                self.bug = Some(Bug::SyncedEarly);
            }
        }
        let (written, mut synced) = (writer.written(), writer.synced());
        match done {
            Ok(()) => {
                if self.bug == Some(Bug::SyncedEarly) {
                    synced = written;
                }
                self.note(format!("log: written {written}, synced {synced}"));
                self.handle(Input::Persisted { written, synced })
            }
            Err(failure) => {
                self.failed = true;
                self.summary.failures += 1;
                self.note(format!("log: {failure}"));
                self.handle(Input::LogFailed { message: failure.to_string() })
            }
        }
    }

    /// The broker ends without a word: killed, or with the power.
    fn crash(&mut self) -> Checked {
        let power = self.dice.one_in(2);
        self.summary.crashes += 1;
        self.summary.blackouts += u64::from(power);
        // What the process had not written is gone with it.
        if power && !self.failed && self.dice.one_in(2) {
            let (position, batch) = (&mut self.writer, &mut self.batch);
            if let Some(writer) = position {
                // The power goes in the middle of a write.
                let changes = writer.disk().changes();
                writer.disk().faults.power_off_at = Some(changes + 1 + self.dice.below(6));
                let _ = writer.write(batch).and_then(|()| writer.sync());
            }
        }
        let through = self.writer.as_ref().map_or((0, 0), |writer| (writer.written(), writer.synced()));
        self.topics.iter_mut().for_each(|topic| topic.crashed(power, through));
        self.note(format!("-- the broker {}", if power { "loses power" } else { "is killed" }));
        let mut disk = self.writer.take().expect("a log").into_disk();
        if power {
            disk.lose_power();
        }
        disk.faults = switchboard_broker::journal::Faults::default();
        let failed = self.failed;
        self.model.crashed(|queue| match (QUEUES[queue].level, power) {
            (Level::Memory, _) => Survival::Nothing,
            (Level::Os, true) => Survival::Perhaps,
            // What was written after a failure, nobody was told of.
            (Level::Os, false) | (Level::Disk, _) => Survival::Answered,
        });
        let _ = failed;
        self.now += MILLISECOND;
        self.start(disk)
    }

    // --- the clients ---

    fn connect(&mut self) -> Checked {
        if 4 <= self.clients.len() {
            return Ok(());
        }
        let taken: Vec<u32> = self.clients.iter().map(|client| client.id.slot).collect();
        let slot = (0..8).find(|slot| !taken.contains(slot)).expect("a free slot");
        self.generations[slot as usize] += 1;
        let id = PeerId { slot, generation: self.generations[slot as usize] };
        let identity = Identity { uid: 1000, gid: 1000, pid: 100 + slot, ..Identity::default() };
        self.clients.push(Client {
            id,
            handles: BTreeMap::new(),
            topics: BTreeMap::new(),
            calls: BTreeMap::new(),
            calls_made: 0,
            unread: 0,
            held: Vec::new(),
        });
        let at = self.clients.len() - 1;
        self.note(format!("client {slot} connects"));
        self.handle(Input::Connect { peer: id, identity })?;
        let hello =
            Hello { version_min: VERSION, version_max: VERSION, features: 0, program: "world".into() };
        self.frame(at, Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) }, &[], &encode(&hello))?;
        for queue in 0..QUEUES.len() {
            self.open(at, queue, false)?;
        }
        self.meet_topics(at)
    }

    fn open(&mut self, at: usize, queue: usize, dead: bool) -> Checked {
        let name = format!("{}{}", QUEUES[queue].name, if dead { ".dead" } else { "" });
        let rights = (Verb::Push.right() | Verb::Pop.right()).0;
        let open = Open { name, kind: ObjectKind::Queue as u8, rights, on_behalf_of: 0 };
        let call = self.call(at, Asked::Open { queue, dead });
        let header = Header { method: Operation::Open as u32, call, ..Header::new(Kind::Call) };
        self.frame(at, header, &[], &encode(&open))
    }

    fn leave(&mut self) -> Checked {
        if self.clients.is_empty() {
            return Ok(());
        }
        let at = self.dice.index(self.clients.len());
        let process_ended = self.dice.one_in(2);
        let client = self.clients.remove(at);
        self.note(format!(
            "client {} leaves, its process {}",
            client.id.slot,
            if process_ended { "ended" } else { "lives" }
        ));
        for message in self.model.messages.values_mut() {
            if let Some(lease) = &mut message.lease
                && lease.attached == Some(client.id.slot as usize)
            {
                lease.attached = None;
                lease.until = if process_ended { 0 } else { self.now + lease.grace };
            }
        }
        self.model.forget_client(client.calls.values().filter_map(|asked| match asked {
            Asked::Push { ids } | Asked::Ack { ids } => Some(ids.as_slice()),
            _ => None,
        }));
        self.handle(Input::Disconnect {
            peer: client.id,
            how: Departure { exit_status: None, process_ended },
        })?;
        self.settle()
    }

    fn some_client(&mut self) -> Option<usize> {
        if self.clients.is_empty() { None } else { Some(self.dice.index(self.clients.len())) }
    }

    fn call(&mut self, at: usize, asked: Asked) -> u64 {
        let client = &mut self.clients[at];
        client.calls_made += 1;
        let slot =
            (0..4096).find(|slot| !client.calls.keys().any(|call| *call as u32 == *slot)).expect("a slot");
        let call = u64::from(slot) | u64::from(client.calls_made) << 32;
        client.calls.insert(call, asked);
        call
    }

    fn frame(&mut self, at: usize, mut header: Header, area: &[u8], payload: &[u8]) -> Checked {
        let tail = [area, payload].concat();
        header.ext_len = area.len() as u16;
        header.len = (64 + tail.len()) as u32;
        let from = self.clients[at].id;
        self.handle(Input::Frame { from, header, tail })
    }

    fn push(&mut self) -> Checked {
        let Some(at) = self.some_client() else { return Ok(()) };
        let queue = self.dice.index(QUEUES.len());
        let Some(&handle) = self.clients[at].handles.get(&(queue, false)) else { return Ok(()) };
        let mut builder = ExtensionsBuilder::default();
        let count = if self.dice.one_in(4) { 1 + self.dice.index(4) } else { 1 };
        let batch = 1 < count || self.dice.one_in(10);
        let mut options = PushOptions::default();
        if self.dice.one_in(2) {
            options.priority = [0, 3, 31][self.dice.index(3)];
            // What waits for room begins to live when it has it, and when that was nobody is told.
            if self.dice.one_in(4) && QUEUES[queue].overflow != Overflow::Block {
                options.ttl_ns = (1 + self.dice.below(500)) * MILLISECOND;
            }
            if self.dice.one_in(4) {
                options.delay_ns = (1 + self.dice.below(300)) * MILLISECOND;
            }
            builder.add(extension_type::PUSH, &options.to_bytes());
        }
        let group = self.dice.one_in(4).then(|| self.dice.below(2) as u8);
        if let Some(group) = group {
            builder.add(extension_type::GROUP, &[b'a' + group]);
        }
        // A batch may go to another queue as well.
        let other = self.dice.index(QUEUES.len());
        let others = self.clients[at].handles.get(&(other, false)).copied();
        let second = others.filter(|_| batch && other != queue && self.dice.one_in(2));
        if let Some(second) = second {
            builder.add(extension_type::QUEUES, &second.to_le_bytes());
        }
        let push = self.next_push;
        self.next_push += 1;
        let (mut payload, mut ids) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let id = self.next_id;
            self.next_id += 1;
            let to_second = second.is_some() && self.dice.one_in(2);
            let mut body = id.to_le_bytes().to_vec();
            body.resize(8 + self.dice.index(60), id as u8);
            if batch {
                write_part(&mut payload, if to_second { 1 << 8 } else { 0 }, &body);
            } else {
                payload = body;
            }
            ids.push(id);
            let wall = self.wall();
            self.model.messages.insert(
                id,
                Message {
                    queue: if to_second { other } else { queue },
                    dead: false,
                    droppable: QUEUES[if to_second { other } else { queue }].overflow == Overflow::DropOldest,
                    presence: Presence::Asked,
                    position: 0,
                    priority: options.priority,
                    group,
                    expires: if options.ttl_ns == 0 { u64::MAX } else { wall + options.ttl_ns },
                    not_before: if options.delay_ns == 0 { 0 } else { wall + options.delay_ns },
                    deliveries: 0,
                    seen: 0,
                    forgetful: false,
                    lease: None,
                    push,
                    nacking: false,
                    acking: false,
                },
            );
        }
        self.note(format!(
            "client {} pushes {ids:?} to {queue} {options:?} group {group:?} second {second:?}",
            self.clients[at].id.slot
        ));
        let call = self.call(at, Asked::Push { ids });
        let deadline =
            if self.dice.one_in(3) { self.now + (1 + self.dice.below(300)) * MILLISECOND } else { 0 };
        let header = Header {
            method: QueueMethod::Push as u32,
            flags: if batch { flags::BATCH } else { 0 },
            handle,
            call,
            deadline,
            ..Header::new(Kind::Call)
        };
        self.frame(at, header, &builder.finish(), &payload)
    }

    fn consume(&mut self) -> Checked {
        let Some(at) = self.some_client() else { return Ok(()) };
        let queue = self.dice.index(QUEUES.len());
        let dead = self.dice.one_in(6);
        let Some(&handle) = self.clients[at].handles.get(&(queue, dead)) else {
            return if dead { self.open(at, queue, true) } else { Ok(()) };
        };
        let lease = match self.dice.below(8) {
            0 => LeaseKind::None,
            1..=3 => LeaseKind::Detached,
            _ => LeaseKind::Attached,
        };
        let lease_ns = (50 + self.dice.below(400)) * MILLISECOND;
        let stream = self.dice.one_in(2);
        self.note(format!(
            "client {} consumes {queue} dead={dead} {lease:?} stream={stream}",
            self.clients[at].id.slot
        ));
        let call = self.call(at, Asked::Consume { queue, dead, lease, lease_ns });
        let deadline = if stream { 0 } else { self.now + (1 + self.dice.below(100)) * MILLISECOND };
        let header = Header {
            method: QueueMethod::Pop as u32,
            flags: if stream { flags::STREAM } else { 0 },
            handle,
            call,
            deadline,
            ..Header::new(Kind::Call)
        };
        self.frame(at, header, &[], &encode(&Pop { lease: lease as u8, lease_ns }))
    }

    fn credit(&mut self) -> Checked {
        let Some(at) = self.some_client() else { return Ok(()) };
        let consuming =
            |(call, asked): (&u64, &Asked)| matches!(asked, Asked::Consume { .. }).then_some(*call);
        let calls: Vec<u64> = self.clients[at].calls.iter().filter_map(consuming).collect();
        let Some(call) = self.dice.pick(&calls) else { return Ok(()) };
        let seq = 1 + self.dice.below(4);
        self.note(format!("client {} credits {call:#x} {seq}", self.clients[at].id.slot));
        self.frame(at, Header { call, seq, ..Header::new(Kind::Credit) }, &[], &[])
    }

    fn cancel(&mut self) -> Checked {
        let Some(at) = self.some_client() else { return Ok(()) };
        let calls: Vec<u64> = self.clients[at].calls.keys().copied().collect();
        let Some(call) = self.dice.pick(&calls) else { return Ok(()) };
        self.note(format!("client {} cancels {call:#x}", self.clients[at].id.slot));
        self.frame(at, Header { call, ..Header::new(Kind::Cancel) }, &[], &[])
    }

    /// A message that some client has, and a client with a handle on its queue to speak for it.
    fn held(&mut self) -> Option<(usize, usize, u64, u64, LeaseId)> {
        let at = self.some_client()?;
        let held = self.clients[at].held.clone();
        let id = self.dice.pick(&held)?;
        let message = self.model.messages.get(&id)?;
        let lease = message.lease.filter(|lease| lease.id != (0, 0))?;
        let (queue, dead) = (message.queue, message.dead);
        // Any connection of the same user may speak for it.
        let other = self.dice.index(self.clients.len());
        let speaker = if self.clients[other].handles.contains_key(&(queue, dead)) { other } else { at };
        let handle = *self.clients[speaker].handles.get(&(queue, dead))?;
        Some((at, speaker, handle, id, LeaseId { low: lease.id.0, high: lease.id.1 }))
    }

    fn ack(&mut self) -> Checked {
        let Some((at, speaker, handle, id, lease)) = self.held() else { return Ok(()) };
        self.clients[at].held.retain(|&held| held != id);
        self.note(format!("client {} acks {id}", self.clients[speaker].id.slot));
        if self.bug == Some(Bug::AckDropped) {
            let it = self.model.messages.get_mut(&id).expect("a known message");
            it.presence = Presence::Gone;
            return Ok(());
        }
        self.model.messages.get_mut(&id).expect("a known message").acking = true;
        let call = self.call(speaker, Asked::Ack { ids: vec![id] });
        let header = Header { method: QueueMethod::Ack as u32, handle, call, ..Header::new(Kind::Call) };
        let bytes: [u8; LEASE_BYTES] = lease.to_bytes();
        self.frame(speaker, header, &[], &bytes)
    }

    fn nack(&mut self) -> Checked {
        let Some((at, speaker, handle, id, lease)) = self.held() else { return Ok(()) };
        self.clients[at].held.retain(|&held| held != id);
        let how = [NackHow::Requeue, NackHow::Fail, NackHow::Fail, NackHow::Dead][self.dice.index(4)];
        let delay_ns = if self.dice.one_in(3) { self.dice.below(300) * MILLISECOND } else { 0 };
        self.note(format!("client {} nacks {id} {how:?} delay {delay_ns}", self.clients[speaker].id.slot));
        let until = self.wall() + delay_ns;
        let call = self.call(speaker, Asked::Nack { id });
        // From here on it may be delivered again, and the answer may wait for the log.
        let it = self.model.messages.get_mut(&id).expect("a known message");
        let valid = it.lease.is_some_and(|mine| mine.id == (lease.low, lease.high) && self.now < mine.until);
        if valid {
            it.lease = None;
            it.nacking = delay_ns != 0;
            // A delay that was over begins anew after a crash, if the clock was set back meanwhile.
            it.not_before = if delay_ns == 0 { it.not_before } else { until };
            match how {
                NackHow::Requeue => it.deliveries -= 1,
                NackHow::Fail => {}
                NackHow::Dead => it.dead = true,
            }
            if how == NackHow::Dead
                || QUEUES[it.queue].deliveries_max <= it.deliveries && how == NackHow::Fail
            {
                // Where the dead letters are full it stays; where it goes its place is another one.
                it.presence = Presence::Perhaps;
            }
        } else if it.presence == Presence::Surely {
            it.presence = Presence::Perhaps;
        }
        let header = Header { method: QueueMethod::Nack as u32, handle, call, ..Header::new(Kind::Call) };
        self.frame(speaker, header, &[], &encode(&Nack { lease, how: how as u8, delay_ns }))
    }

    fn extend(&mut self) -> Checked {
        let Some((_, speaker, handle, id, lease)) = self.held() else { return Ok(()) };
        let by_ns = (100 + self.dice.below(500)) * MILLISECOND;
        let until = self.now + by_ns;
        self.note(format!("client {} extends {id} by {by_ns}", self.clients[speaker].id.slot));
        let call = self.call(speaker, Asked::Extend { id, until });
        let header = Header { method: QueueMethod::Extend as u32, handle, call, ..Header::new(Kind::Call) };
        self.frame(speaker, header, &[], &encode(&Extend { lease, by_ns }))
    }

    /// Every client reads what was sent to it.
    fn read(&mut self) -> Checked {
        (0..self.clients.len()).try_for_each(|at| self.read_all(at))
    }

    fn read_all(&mut self, at: usize) -> Checked {
        let bytes = std::mem::take(&mut self.clients[at].unread);
        let peer = self.clients[at].id;
        if 0 < bytes { self.handle(Input::Wrote { peer, bytes }) } else { Ok(()) }
    }

    // --- the broker ---

    /// Wakes the broker until it has nothing left to do.
    fn settle(&mut self) -> Checked {
        for round in 0.. {
            if 10_000 < round {
                return Err("the broker never comes to rest".into());
            }
            if self.core.next_wake().is_none_or(|at| self.now < at.0) {
                break;
            }
            self.handle(Input::Wake)?;
        }
        self.settled = self.wall();
        Ok(())
    }

    fn handle(&mut self, input: Input<Vec<u8>>) -> Checked {
        self.latest = self.latest.max(self.wall());
        let mut effects = Vec::new();
        match &mut self.shadow {
            None => self.core.handle(Instant(self.now), input, &mut effects),
            Some(shadow) => shadow
                .handle(&mut self.core, Instant(self.now), input, &mut effects)
                .map_err(|why| format!("{SHADOW}{why}"))?,
        }
        self.core.check_invariants();
        self.summary.inputs += 1;
        if self.bug == Some(Bug::OrderSwapped) {
            swap_items(&mut effects);
        }
        for effect in effects {
            match effect {
                Effect::Send { to, header, tail } => {
                    let bytes = tail.to_bytes(&header);
                    self.sent(to, &header, &bytes)?;
                }
                Effect::Append { position, head, tail, sync } => {
                    let record = [&head, tail.as_deref().unwrap_or_default()].concat();
                    let record = self.spoil_record(record);
                    self.appended = position;
                    self.batch.append(position, &[&record]);
                    self.batch.want(if sync { Log::Disk } else { Log::Os });
                }
                Effect::Sync => self.batch.want(Log::Disk),
                Effect::Roll { segment } => self.batch.roll(segment),
                Effect::DropSegment { segment } => self.batch.drop_segment(segment),
                Effect::Close { peer } => return Err(format!("{peer} was closed")),
                Effect::Resume { .. }
                | Effect::Pause { .. }
                | Effect::Forget { .. }
                | Effect::Reload
                | Effect::Log(_) => {}
            }
        }
        Ok(())
    }

    fn sent(&mut self, to: PeerId, header: &Header, bytes: &[u8]) -> Checked {
        let Some(at) = self.clients.iter().position(|client| client.id == to) else { return Ok(()) };
        self.clients[at].unread += padded(header.len as usize);
        let tail = Tail::of(header, bytes);
        match header.kind {
            Kind::Welcome | Kind::Credit | Kind::Event => Ok(()),
            Kind::Item => {
                let asked = self.clients[at].calls.get(&header.call).cloned();
                if let Some(Asked::Look) = asked {
                    return self.seen(header, &tail);
                }
                let Some(Asked::Consume { queue, dead, lease, lease_ns }) = asked else {
                    return Err(format!("an item of call {:#x}, which is {asked:?}", header.call));
                };
                self.delivery(at, header, &tail, (queue, dead, lease, lease_ns))
            }
            Kind::Reply | Kind::Outcome => {
                let Some(asked) = self.clients[at].calls.remove(&header.call) else {
                    return Err(format!("a second end of call {:#x}", header.call));
                };
                self.ended(at, header, &tail, asked)
            }
            other => Err(format!("a {other:?} for a client that serves nothing")),
        }
    }

    fn delivery(
        &mut self,
        at: usize,
        header: &Header,
        tail: &Tail<'_>,
        (queue, dead, kind, lease_ns): (usize, bool, LeaseKind, u64),
    ) -> Checked {
        let Some(id) = tail.payload.first_chunk::<8>().map(|id| u64::from_le_bytes(*id)) else {
            return Err("a message that nobody pushed".into());
        };
        self.summary.delivered += 1;
        self.summary.dead += u64::from(dead);
        let (position, priority) = (header.deadline, (header.method >> 24) as u8);
        let deliveries = header.method & 0xff_ffff;
        self.note(format!(
            "  -> client {} gets {id} from {queue} dead={dead} at {position}, delivery {deliveries}",
            self.clients[at].id.slot
        ));
        let times = (self.now, self.wall(), self.settled, self.latest);
        let most = QUEUES[queue].deliveries_max;
        self.model.delivered(id, queue, dead, position, priority, deliveries, times, most)?;
        if self.bug == Some(Bug::DeliveredTwice) && self.dice.one_in(50) {
            self.model.delivered(id, queue, dead, position, priority, deliveries + 1, times, most)?;
        }
        let it = self.model.messages.get_mut(&id).expect("a known message");
        match kind {
            LeaseKind::None => {
                if (header.epoch, header.caller) != (0, 0) {
                    return Err("a lease for what was consumed when it was delivered".into());
                }
                // A durable queue may not have synced that yet: it may come again after a crash.
                it.lease = Some(Lease { id: (0, 0), until: u64::MAX, attached: None, grace: 0 });
                it.acking = true;
                if QUEUES[queue].level == Level::Memory {
                    it.presence = Presence::Gone;
                }
            }
            LeaseKind::Attached | LeaseKind::Detached => {
                let attached = (kind == LeaseKind::Attached).then_some(self.clients[at].id.slot as usize);
                let until = if attached.is_some() { u64::MAX } else { self.now + lease_ns };
                let grace = lease_ns.min(5000 * MILLISECOND);
                it.lease = Some(Lease { id: (header.epoch, header.caller), until, attached, grace });
                self.clients[at].held.push(id);
            }
        }
        Ok(())
    }

    fn ended(&mut self, at: usize, header: &Header, tail: &Tail<'_>, asked: Asked) -> Checked {
        let outcome =
            if header.kind == Kind::Reply { Outcome::Reply } else { Outcome::from_wire(header.method) };
        let well = outcome == Outcome::Reply;
        self.note(format!("  -> client {} {asked:?}: {outcome}", self.clients[at].id.slot));
        match asked {
            Asked::Open { queue, dead } => {
                if let Some(opened) = decode::<Opened>(tail.payload).filter(|_| well) {
                    self.clients[at].handles.insert((queue, dead), opened.handle);
                } else if !dead {
                    return Err(format!("queue {queue} cannot be opened: {outcome}"));
                }
            }
            Asked::Push { ids } => {
                let levels: Vec<Level> =
                    ids.iter().map(|id| QUEUES[self.model.messages[id].queue].level).collect();
                let least = levels.iter().copied().max().unwrap_or_default();
                if well {
                    // With several queues, the least of theirs.
                    if (header.method as u8) < least as u8 && tail.payload.is_empty() {
                        return Err(format!(
                            "a push to a queue of level {least:?} was answered at {}",
                            header.method
                        ));
                    }
                    self.summary.pushed += ids.len() as u64;
                }
                for (nth, id) in (0..).zip(&ids) {
                    let it = self.model.messages.get_mut(id).expect("a known message");
                    let drops = QUEUES[it.queue].overflow == Overflow::DropOldest;
                    match it.presence {
                        Presence::Asked if !well => {
                            // A deadline or a cancel may have come when it was in the log already.
                            let unsure = matches!(
                                outcome,
                                Outcome::DeadlineExceeded | Outcome::Cancelled | Outcome::ReadOnly
                            );
                            it.presence = if unsure { Presence::Perhaps } else { Presence::Gone };
                        }
                        Presence::Asked if drops => it.presence = Presence::Perhaps,
                        Presence::Asked => {
                            it.presence = Presence::Surely;
                            let several = tail.payload.as_chunks::<8>().0;
                            it.position = match several.get(nth as usize) {
                                Some(position) => u64::from_le_bytes(*position),
                                None => header.seq + nth,
                            };
                        }
                        Presence::Surely | Presence::Perhaps | Presence::Gone => {}
                    }
                }
            }
            Asked::Consume { queue, dead, lease, lease_ns } if well => {
                return self.delivery(at, header, tail, (queue, dead, lease, lease_ns));
            }
            Asked::Ack { ids } => {
                for id in ids {
                    let it = self.model.messages.get_mut(&id).expect("a known message");
                    match outcome {
                        Outcome::Reply => {
                            self.summary.acked += 1;
                            (it.presence, it.acking) = (Presence::Gone, false);
                        }
                        Outcome::LeaseLost => {
                            if it.lease.is_some_and(|lease| self.now < lease.until && lease.until != u64::MAX)
                                && it.presence == Presence::Surely
                                && !it.dead
                            {
                                return Err(format!("the lease of {id} ({it:?}) was lost too early"));
                            }
                            it.acking = false;
                            it.presence = if it.presence == Presence::Gone {
                                Presence::Gone
                            } else {
                                Presence::Perhaps
                            };
                        }
                        _ => {
                            it.presence =
                                if it.presence == Presence::Gone { Presence::Gone } else { Presence::Perhaps }
                        }
                    }
                }
            }
            Asked::Extend { id, until } if well => {
                let it = self.model.messages.get_mut(&id).expect("a known message");
                if let Some(lease) = &mut it.lease
                    && lease.attached.is_none()
                    && lease.until != u64::MAX
                {
                    lease.until = until;
                }
            }
            Asked::Status => {
                let status: Status = decode(tail.payload).ok_or("a status that does not decode")?;
                if status.queued != 0 || status.queued_bytes != 0 {
                    return Err(format!("{} messages are left over", status.queued));
                }
            }
            Asked::Nack { id } => self.model.messages.get_mut(&id).expect("a known message").nacking = false,
            Asked::OpenTopic { topic } => {
                let opened = decode::<Opened>(tail.payload).filter(|_| well);
                let opened = opened.ok_or_else(|| format!("topic {topic} cannot be opened: {outcome}"))?;
                self.clients[at].topics.insert(topic, opened.handle);
            }
            Asked::Publish { topic, id } => return self.published(topic, id, outcome, header),
            Asked::Consume { .. } | Asked::Extend { .. } | Asked::Look => {}
        }
        Ok(())
    }

    // --- the end ---

    /// Everything that is left is taken out, and held against what must be there.
    fn drain(&mut self) -> Checked {
        self.note("-- the end".into());
        while !self.clients.is_empty() {
            self.leave()?;
        }
        if self.failed {
            self.crash()?;
        }
        self.write_log(true)?;
        if self.failed {
            self.crash()?;
        }
        // All delays, leases and lives are over then.
        self.now += DAY;
        let wall_ns = self.wall();
        self.handle(Input::Clock { wall_ns })?;
        self.settle()?;
        self.connect()?;
        for round in 0..40 {
            for queue in 0..QUEUES.len() {
                for dead in [false, true] {
                    if !self.clients[0].handles.contains_key(&(queue, dead)) {
                        self.open(0, queue, dead)?;
                    }
                    let Some(&handle) = self.clients[0].handles.get(&(queue, dead)) else { continue };
                    let asked = Asked::Consume { queue, dead, lease: LeaseKind::None, lease_ns: 0 };
                    let call = self.call(0, asked);
                    let header = Header {
                        method: QueueMethod::Pop as u32,
                        flags: flags::STREAM,
                        handle,
                        call,
                        ..Header::new(Kind::Call)
                    };
                    self.frame(0, header, &[], &encode(&Pop { lease: LeaseKind::None as u8, lease_ns: 0 }))?;
                    self.frame(0, Header { call, seq: 1 << 20, ..Header::new(Kind::Credit) }, &[], &[])?;
                    self.settle()?;
                    self.read()?;
                    self.frame(0, Header { call, ..Header::new(Kind::Cancel) }, &[], &[])?;
                }
            }
            self.write_log(true)?;
            self.settle()?;
            if round == 39 {
                break;
            }
        }
        let wall = self.latest;
        for (id, it) in &self.model.messages {
            let taken = it.lease.is_some_and(|lease| lease.id == (0, 0));
            if it.presence == Presence::Surely && !it.droppable && !taken && wall < it.expires {
                return Err(format!("message {id} ({it:?}) was lost"));
            }
        }
        self.check_atomic()?;
        let call = self.call(0, Asked::Status);
        self.frame(0, Header { method: Operation::Status as u32, call, ..Header::new(Kind::Call) }, &[], &[])
    }

    /// Of every push all came out, or nothing.
    fn check_atomic(&self) -> Checked {
        let mut pushes: BTreeMap<u64, Vec<(u64, &Message)>> = BTreeMap::new();
        for (&id, it) in &self.model.messages {
            pushes.entry(it.push).or_default().push((id, it));
        }
        for (push, members) in pushes {
            let durable = |it: &Message| {
                QUEUES[it.queue].level == Level::Disk && QUEUES[it.queue].overflow != Overflow::DropOldest
            };
            let plain: Vec<&(u64, &Message)> =
                members.iter().filter(|(_, it)| durable(it) && it.expires == u64::MAX).collect();
            let seen =
                plain.iter().filter(|(_, it)| 0 < it.deliveries || it.presence == Presence::Gone).count();
            if seen != 0 && seen != plain.len() {
                return Err(format!(
                    "of the atomic push {push} only {seen} of {} came out: {plain:?}",
                    plain.len()
                ));
            }
        }
        Ok(())
    }

    fn note(&mut self, line: String) {
        self.trace.push(format!("{:>8} {line}", self.now / 1000));
    }
}

/// Swaps the payloads of two items for the same call, where there are two.
fn swap_items(effects: &mut [Effect<Vec<u8>>]) {
    let items: Vec<usize> = (0..effects.len())
        .filter(|&at| matches!(&effects[at], Effect::Send { header, .. } if header.kind == Kind::Item))
        .collect();
    if let [first, second, ..] = items[..] {
        effects.swap(first, second);
    }
}
