//! The verbs of queues and of their log.
//!
//! ```text
//! queue acme.q messages=2 level=disk       configures one
//! ann creates acme.q overflow=block        -> ann created acme.q
//! ann opens acme.q kind=3 rights=push+pop as q
//! ann pushes q c1 prio=3 "hi"              -> ann c1 pushed 1
//! bob pops q c1                            -> bob c1 got 1 n=1 p=3 l1 "hi"
//! bob acks q c2 l1                         -> bob c2 done
//! ```
//!
//! Leases are named `l1, l2 …` in the order in which they appear. What a durable queue answers ends with
//! its level and log position: `os@3`. `persisted W S` says how far the log is, `log ready` and `log
//! fails "why"` what has become of it. `crash keep=N` starts another broker, which finds the first N
//! records. `clock T` sets the wall clock.

use super::{Expect, Seen, Stage, Words, duration};
use std::fmt::Write as _;
use switchboard_core::{Effect, Input, QueueSettings};
use switchboard_protocol::control::{self, Operation};
use switchboard_protocol::queue::{
    CreateQueue, Created, DeadLetter, Extend, LeaseId, Level, Nack, Overflow, Peek, Pop, PushOptions,
    QueueInfo, QueueMethod, Redrive, Redriven,
};
use switchboard_protocol::{
    ExtensionsBuilder, Header, Kind, Name, Tail, decode, encode, extension_type, flags,
};

/// What a call on a queue wants to see in its reply.
#[derive(Clone, Debug)]
pub(super) enum QueueExpect {
    Created(String),
    Pushed,
    Message,
    Done,
    Purged,
    Redriven,
    Info(Vec<String>),
}

/// The log as a disk has it.
#[derive(Default)]
pub(super) struct Disk {
    /// Segment, position and bytes of every record.
    records: Vec<(u32, u64, Vec<u8>)>,
    segment: u32,
    oldest: u32,
}

pub(super) fn level_of(word: Option<&&str>) -> Level {
    word.map_or(Level::Memory, |word| {
        *Level::ALL.iter().find(|level| level.as_str() == *word).expect("a level")
    })
}

/// The level and log position of an answer, where there are any.
pub(super) fn stored(header: &Header) -> String {
    match Level::from_wire(header.method) {
        Some(level @ (Level::Os | Level::Disk)) => format!(" {}@{}", level.as_str(), header.epoch),
        Some(Level::Memory) | None => String::new(),
    }
}

fn overflow_of(word: Option<&&str>) -> Overflow {
    let find = |word: &&str| *Overflow::ALL.iter().find(|it| it.as_str() == *word).expect("an overflow");
    word.map_or(Overflow::Reject, find)
}

fn nanoseconds(words: &Words<'_>, key: &str) -> u64 {
    words.keys.get(key).map_or(0, |wait| duration(wait).as_nanos() as u64)
}

impl Stage {
    /// `queue NAME …` configures a queue.
    pub(super) fn declare_queue(&mut self, text: &str) {
        let words = Words::of(text);
        let name = Name::new(words.plain[0]).expect("a name");
        let default = QueueSettings::of(name.clone());
        let settings = QueueSettings {
            durability: level_of(words.keys.get("level")),
            messages_max: words.number("messages").unwrap_or(default.messages_max),
            bytes_max: words.number("maxbytes").unwrap_or(default.bytes_max),
            overflow: overflow_of(words.keys.get("overflow")),
            lossy: words.has("lossy"),
            ..default
        };
        self.settings.queues.retain(|queue| queue.name != name);
        self.settings.queues.push(settings);
    }

    pub(super) fn clock(&mut self, text: &str) {
        self.input(Input::Clock { wall_ns: duration(text).as_nanos() as u64 });
    }

    /// `log ready`, `log fails "why"`.
    pub(super) fn log(&mut self, text: &str) {
        let words = Words::of(text);
        match words.plain[0] {
            "ready" => {
                let segment = words.number("segment").unwrap_or(1) as u32;
                self.disk.segment = segment;
                self.disk.oldest = segment;
                self.input(Input::LogReady { position: 0, oldest: segment, segment });
            }
            "fails" => {
                let message = String::from_utf8(words.payload).expect("text");
                self.input(Input::LogFailed { message });
            }
            "records" => {
                for (segment, position, bytes) in &self.disk.records {
                    let text = format!("record {position} in {segment}: {} bytes", bytes.len());
                    self.seen.push(Seen { text, message: String::new() });
                }
            }
            other => panic!("log {other}"),
        }
    }

    /// `persisted WRITTEN [SYNCED]`
    pub(super) fn persist(&mut self, text: &str) {
        let mut numbers = text.split_whitespace().map(|word| word.parse().expect("a position"));
        let written = numbers.next().expect("persisted WRITTEN [SYNCED]");
        self.input(Input::Persisted { written, synced: numbers.next().unwrap_or(0) });
    }

    /// `crash [keep=N] [torn=N]`: another broker on the same disk, which has the first N records; the
    /// N-th is damaged.
    pub(super) fn crash(&mut self, text: &str) {
        let words = Words::of(text);
        let keep = words.number("keep").unwrap_or(u64::MAX);
        self.disk.records.retain(|&(_, position, _)| position <= keep);
        if let Some(torn) = words.number("torn") {
            let record = self.disk.records.iter_mut().find(|&&mut (_, position, _)| position == torn);
            record.expect("a record").2[0] ^= 0x80;
        }
        self.broker = None;
        self.peers.clear();
        self.handles.clear();
        self.requests.clear();
        self.restarts += 1;
        if let Some(wall) = words.keys.get("clock") {
            self.clock(wall);
        }
        for (segment, position, record) in self.disk.records.clone() {
            self.input(Input::Recovered { segment, position, record });
        }
        let position = self.disk.records.last().map_or(0, |&(_, position, _)| position);
        self.disk.segment += 1;
        let (oldest, segment) = (self.disk.oldest, self.disk.segment);
        self.input(Input::LogReady { position, oldest, segment });
    }

    /// Keeps what goes to the log.
    pub(super) fn note_log(&mut self, effect: &Effect<Vec<u8>>) {
        match effect {
            Effect::Append { position, head, tail, .. } => {
                let bytes = [&head[..], tail.as_deref().unwrap_or_default()].concat();
                self.disk.records.push((self.disk.segment, *position, bytes));
            }
            Effect::Roll { segment } => {
                assert_eq!(*segment, self.disk.segment + 1, "segments follow one another");
                self.disk.segment = *segment;
            }
            Effect::DropSegment { segment } => {
                assert_eq!(*segment, self.disk.oldest, "the oldest goes first");
                self.disk.records.retain(|(of, ..)| of != segment);
                self.disk.oldest += 1;
            }
            _ => {}
        }
    }

    fn lease(&self, name: &str) -> LeaseId {
        match self.leases.iter().find(|(known, _)| known == name) {
            Some((_, lease)) => *lease,
            None => LeaseId { low: name.trim_start_matches('#').parse().expect("a lease"), high: 7 },
        }
    }

    fn lease_name(&mut self, lease: LeaseId) -> String {
        if let Some((name, _)) = self.leases.iter().find(|(_, known)| *known == lease) {
            return name.clone();
        }
        let name = format!("l{}", self.leases.len() + 1);
        self.leases.push((name.clone(), lease));
        name
    }

    /// Whether this was a verb of queues.
    pub(super) fn queue_act(&mut self, peer: &str, verb: &str, words: &Words<'_>) -> bool {
        let word = |at: usize| words.plain.get(at).copied().unwrap_or_else(|| panic!("word {at} of {verb}"));
        match verb {
            "creates" => {
                let body = CreateQueue {
                    name: word(1).into(),
                    durability: level_of(words.keys.get("level")) as u8,
                    messages_max: words.number("messages").unwrap_or(0),
                    bytes_max: words.number("maxbytes").unwrap_or(0),
                    overflow: overflow_of(words.keys.get("overflow")) as u8,
                    lossy: words.has("lossy"),
                    deliveries_max: words.number("deliveries").unwrap_or(0) as u32,
                    dead_letters: (*words.keys.get("dead").unwrap_or(&"")).into(),
                };
                let call = words.plain.get(2).copied().unwrap_or("creation");
                let expect = Expect::Queue(QueueExpect::Created(word(1).into()));
                self.control(peer, call, words, Operation::CreateQueue, &body, expect);
            }
            "deletes" => {
                let body = control::OnName { name: word(1).into() };
                self.control(peer, "deletion", words, Operation::DeleteQueue, &body, Expect::Quiet);
            }
            "pushes" => {
                let flag = if words.keys.contains_key("batch") { flags::BATCH } else { 0 };
                let area = self.push_area(words);
                self.queue_call(
                    peer,
                    QueueMethod::Push,
                    words,
                    flag,
                    &area,
                    &words.payload,
                    QueueExpect::Pushed,
                );
            }
            "pops" => {
                let lease = match words.keys.get("lease").copied() {
                    None => 0,
                    Some("detached") => 1,
                    Some("none") => 2,
                    Some(other) => other.parse().expect("a lease kind"),
                };
                let body = encode(&Pop { lease, lease_ns: nanoseconds(words, "for") });
                self.queue_call(peer, QueueMethod::Pop, words, 0, &[], &body, QueueExpect::Message);
            }
            "peeks" => {
                let body = encode(&Peek {
                    after: words.number("after").unwrap_or(0),
                    count: words.number("count").unwrap_or(0) as u32,
                });
                self.queue_call(peer, QueueMethod::Peek, words, 0, &[], &body, QueueExpect::Message);
            }
            "acks" => {
                let leases: Vec<u8> =
                    word(3).split(',').flat_map(|lease| self.lease(lease).to_bytes()).collect();
                self.queue_call(peer, QueueMethod::Ack, words, 0, &[], &leases, QueueExpect::Done);
            }
            "nacks" => {
                let how = match words.keys.get("how").copied() {
                    None | Some("requeue") => 0,
                    Some("fail") => 1,
                    Some("dead") => 2,
                    Some(other) => other.parse().expect("how"),
                };
                let body =
                    encode(&Nack { lease: self.lease(word(3)), how, delay_ns: nanoseconds(words, "delay") });
                self.queue_call(peer, QueueMethod::Nack, words, 0, &[], &body, QueueExpect::Done);
            }
            "extends" => {
                let body = encode(&Extend { lease: self.lease(word(3)), by_ns: nanoseconds(words, "by") });
                self.queue_call(peer, QueueMethod::Extend, words, 0, &[], &body, QueueExpect::Done);
            }
            "purges" => {
                self.queue_call(peer, QueueMethod::Purge, words, 0, &[], &[], QueueExpect::Purged);
            }
            "redrives" => {
                let body = encode(&Redrive { count: words.number("count").unwrap_or(0) as u32 });
                self.queue_call(peer, QueueMethod::Redrive, words, 0, &[], &body, QueueExpect::Redriven);
            }
            "looks" => {
                let what = words.keys["at"].split(',').map(String::from).collect();
                self.queue_call(peer, QueueMethod::Stat, words, 0, &[], &[], QueueExpect::Info(what));
            }
            _ => return false,
        }
        true
    }

    fn push_area(&self, words: &Words<'_>) -> Vec<u8> {
        let mut builder = ExtensionsBuilder::default();
        if ["prio", "ttl", "delay"].iter().any(|key| words.keys.contains_key(key)) {
            let options = PushOptions {
                priority: words.number("prio").unwrap_or(0) as u8,
                ttl_ns: nanoseconds(words, "ttl"),
                delay_ns: nanoseconds(words, "delay"),
            };
            builder.add(extension_type::PUSH, &options.to_bytes());
        }
        if let Some(key) = words.keys.get("group") {
            builder.add(extension_type::GROUP, key.as_bytes());
        }
        if let Some(text) = words.keys.get("producer") {
            let (producer, number) = text.split_once(':').expect("producer=ID:NUMBER");
            let bytes = |text: &str| text.parse::<u64>().expect("a number").to_le_bytes();
            builder.add(extension_type::PRODUCER, &[bytes(producer), bytes(number)].concat());
        }
        if let Some(list) = words.keys.get("queues") {
            let handles: Vec<u8> = list.split(',').flat_map(|name| self.handle(name).to_le_bytes()).collect();
            builder.add(extension_type::QUEUES, &handles);
        }
        if let Some(kind) = words.number("extension") {
            builder.add(kind as u16, b"x");
        }
        builder.finish()
    }

    #[expect(clippy::too_many_arguments, reason = "all that a call on a queue is")]
    fn queue_call(
        &mut self,
        peer: &str,
        method: QueueMethod,
        words: &Words<'_>,
        flag: u8,
        area: &[u8],
        payload: &[u8],
        expect: QueueExpect,
    ) {
        let handle = self.handle(words.plain[1]);
        let call = self.new_call(peer, words.plain[2], words, Expect::Queue(expect));
        let asked = self.asked(Kind::Call, words);
        let header = Header { handle, call, method: method as u32, flags: asked.flags | flag, ..asked };
        self.frame_with(peer, header, area, &self.entries(words), payload);
    }

    /// A reply or item of a queue.
    pub(super) fn render_queue(
        &mut self,
        to: &str,
        call: &str,
        header: &Header,
        tail: &Tail<'_>,
        expect: &QueueExpect,
    ) -> String {
        let payload = tail.payload;
        let mut text = format!("{to} {call}");
        let stored = stored(header);
        let write =
            |text: &mut String, more: std::fmt::Arguments<'_>| text.write_fmt(more).expect("a string");
        match expect {
            QueueExpect::Created(name) => {
                let it: Created = decode(payload).expect("created");
                let existed = if it.existed { " already" } else { "" };
                return format!("{to} created {name}{existed}");
            }
            QueueExpect::Pushed => {
                write(&mut text, format_args!(" pushed {}", header.seq));
                let positions: Vec<String> = payload
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|word| u64::from_le_bytes(*word).to_string())
                    .collect();
                if !positions.is_empty() {
                    write(&mut text, format_args!(" at {}", positions.join(",")));
                }
                text.push_str(&stored);
                text.push_str(if header.caller == 1 { " again" } else { "" });
            }
            QueueExpect::Message
                if header.kind == Kind::Reply && header.len == 64 && header.deadline == 0 =>
            {
                text.push_str(" over");
            }
            QueueExpect::Message => {
                let what =
                    if header.kind == Kind::Item { format!(" item {}:", header.seq) } else { " got".into() };
                write(&mut text, format_args!("{what} {} n={}", header.deadline, header.method & 0xff_ffff));
                if header.method >> 24 != 0 {
                    write(&mut text, format_args!(" p={}", header.method >> 24));
                }
                let lease = LeaseId { low: header.epoch, high: header.caller };
                if lease.low != 0 {
                    let lease = self.lease_name(lease);
                    write(&mut text, format_args!(" {lease}"));
                }
                let dead = tail.extensions().and_then(|all| all.find(extension_type::DEAD_LETTER));
                if let Some(dead) = dead {
                    let it: DeadLetter = decode(dead).expect("a dead letter");
                    write(
                        &mut text,
                        format_args!(" from {}:{} after {}", it.queue, it.position, it.deliveries),
                    );
                    assert!(!it.reason.is_empty() && it.pushed_wall_ns <= it.died_wall_ns);
                }
                match payload {
                    [] => {}
                    long if 64 < long.len() => write(&mut text, format_args!(" [{} bytes]", long.len())),
                    short => write(&mut text, format_args!(" \"{}\"", String::from_utf8_lossy(short))),
                }
            }
            QueueExpect::Done => {
                let each: Vec<String> = payload.iter().map(u8::to_string).collect();
                text.push_str(" done");
                if !each.is_empty() {
                    write(&mut text, format_args!(" {}", each.join(",")));
                }
                text.push_str(&stored);
            }
            QueueExpect::Purged => write(&mut text, format_args!(" purged {}{stored}", header.seq)),
            QueueExpect::Redriven => {
                let it: Redriven = decode(payload).expect("redriven");
                write(&mut text, format_args!(" redriven {} left {}{stored}", it.moved, it.left));
            }
            QueueExpect::Info(what) => {
                let it: QueueInfo = decode(payload).expect("a queue's info");
                text.push_str(" sees");
                for what in what {
                    write(&mut text, format_args!(" {what}={}", info_of(&it, what)));
                }
            }
        }
        text
    }
}

fn info_of(it: &QueueInfo, what: &str) -> String {
    match what {
        "durability" => Level::from_wire(it.durability.into()).expect("a level").as_str().into(),
        "overflow" => Overflow::from_wire(it.overflow).expect("an overflow").as_str().into(),
        "messages_max" => it.messages_max.to_string(),
        "bytes_max" => it.bytes_max.to_string(),
        "deliveries_max" => it.deliveries_max.to_string(),
        "dead_letters" => it.dead_letters.clone(),
        "messages" => it.messages.to_string(),
        "bytes" => it.bytes.to_string(),
        "ready" => it.ready.to_string(),
        "leased" => it.leased.to_string(),
        "delayed" => it.delayed.to_string(),
        "grouped" => it.grouped.to_string(),
        "consumers" => it.consumers.to_string(),
        "blocked" => it.blocked.to_string(),
        "position" => it.position.to_string(),
        "pushed" => it.pushed.to_string(),
        "delivered" => it.delivered.to_string(),
        "acked" => it.acked.to_string(),
        "dropped" => it.dropped.to_string(),
        "expired" => it.expired.to_string(),
        "dead" => it.dead.to_string(),
        "duplicates" => it.duplicates.to_string(),
        "read_only" => (!it.read_only.is_empty()).to_string(),
        _ => panic!("no {what} of a queue"),
    }
}
