//! Durable topics of a world: what was published on them, and which message a broker that was started
//! again may have of each.

use std::collections::BTreeMap;

use super::{Asked, Bug, Checked, MILLISECOND, World, settings};
use switchboard_core::{Input, TopicSettings};
use switchboard_protocol::control::{Open, Operation};
use switchboard_protocol::queue::Level;
use switchboard_protocol::topic::{Delivery, Subscribe};
use switchboard_protocol::{
    Header, Kind, Name, ObjectKind, Outcome, Parts, Tail, Verb, encode, flags, write_part,
};

pub(super) const TOPICS: [(&str, Level); 2] = [("t.os", Level::Os), ("t.disk", Level::Disk)];

/// What is known of a topic.
#[derive(Debug)]
pub(super) struct Topic {
    declared: bool,
    /// Every message that was published on it, with what its publisher was told. Later ones are greater.
    published: BTreeMap<u64, Told>,
    latest: Latest,
    /// The latest message that a crash may not take: nothing older may be found in its place.
    floor: Option<u64>,
    /// Messages up to here may be forgotten, for the topic was not configured to retain for a while.
    forgotten: u64,
    /// The position of the record that says so, and up to where it is certain.
    said_at: u64,
    gone: u64,
    /// Messages up to here were published before the latest crash, which has decided about them.
    decided: u64,
    /// The greatest number of a message that was told and is not to be given again.
    sequence: u64,
}

/// What a publisher was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Done { level: Level, position: u64, sequence: u64 },
}

/// The message that a topic retains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Latest {
    Known(Option<u64>),
    /// Nobody has looked since the broker was started.
    Unknown,
}

impl Topic {
    pub(super) fn new() -> Self {
        Self {
            declared: true,
            published: BTreeMap::new(),
            latest: Latest::Known(None),
            floor: None,
            forgotten: 0,
            said_at: u64::MAX,
            gone: 0,
            decided: 0,
            sequence: 0,
        }
    }

    /// The broker ended, the power with it or not, when the log was written and on the disk that far.
    pub(super) fn crashed(&mut self, power: bool, (written, synced): (u64, u64)) {
        let through = if power { synced } else { written };
        let survives = |told: &Told| match *told {
            Told::Nothing | Told::Done { level: Level::Memory, .. } => false,
            Told::Done { level: Level::Os, position, .. } => position <= through,
            Told::Done { level: Level::Disk, .. } => true,
        };
        let undecided = self.published.range(self.forgotten.max(self.decided) + 1..);
        let safe = undecided.rev().find(|(_, told)| survives(told));
        self.floor = self.floor.max(safe.map(|(&id, _)| id));
        if self.said_at <= through {
            self.gone = self.forgotten;
        }
        self.said_at = u64::MAX;
        self.decided = self.published.last_key_value().map_or(0, |(&id, _)| id);
        self.sequence = match self.floor.map(|floor| self.published[&floor]) {
            Some(Told::Done { sequence, .. }) => sequence,
            Some(Told::Nothing) | None => 0,
        };
        (self.declared, self.latest) = (true, Latest::Unknown);
    }

    /// A late subscriber was given this message, with this number, or none.
    fn looked(&mut self, found: Option<(u64, u64)>) -> Checked {
        let id = found.map(|(id, _)| id);
        if let Latest::Known(latest) = self.latest {
            return if id == latest {
                Ok(())
            } else {
                Err(format!("a late subscriber is given {id:?}, and the latest message is {latest:?}"))
            };
        }
        if id < self.floor {
            return Err(format!("{id:?} is retained after a crash, and {:?} was safe", self.floor));
        }
        if let Some((id, sequence)) = found {
            if id <= self.gone {
                return Err(format!("message {id} is retained, and was taken out of the log"));
            }
            match self.published.get(&id) {
                None => return Err(format!("message {id} is retained, and was never published")),
                Some(Told::Done { level: Level::Memory, .. }) => {
                    return Err(format!("message {id} is retained, and was said to be in memory only"));
                }
                Some(&Told::Done { sequence: told, .. }) if told != sequence => {
                    return Err(format!("message {id} has number {sequence}, and had {told}"));
                }
                Some(Told::Done { .. } | Told::Nothing) => {}
            }
            self.sequence = self.sequence.max(sequence);
        }
        self.latest = Latest::Known(id);
        // It is as safe as it gets: whatever was read back is on the disk.
        self.floor = self.floor.max(id);
        Ok(())
    }
}

/// Topics as they are configured.
pub(super) fn topic_settings(declared: impl Fn(usize) -> bool) -> Vec<TopicSettings> {
    let all = TOPICS.iter().enumerate().filter(|(topic, _)| declared(*topic));
    let of = |name: &str| TopicSettings::of(Name::new(name).expect("a name"));
    all.map(|(_, &(name, durability))| TopicSettings { retain: true, durability, ..of(name) }).collect()
}

/// Which topic a record is of, for the bugs that are planted in those.
fn topic_of(record: &[u8]) -> Option<usize> {
    let names = |name: &str| record.windows(name.len()).any(|window| window == name.as_bytes());
    TOPICS.iter().position(|&(name, _)| names(name))
}

impl World {
    /// Opens the topics for a client, which looks at them as anybody who comes late.
    pub(super) fn meet_topics(&mut self, at: usize) -> Checked {
        for (topic, (name, _)) in TOPICS.into_iter().enumerate() {
            let rights = (Verb::Publish.right() | Verb::Subscribe.right()).0;
            let name = name.into();
            let open = Open { name, kind: ObjectKind::Topic as u8, rights, on_behalf_of: 0 };
            let call = self.call(at, Asked::OpenTopic { topic });
            let header = Header { method: Operation::Open as u32, call, ..Header::new(Kind::Call) };
            self.frame(at, header, &[], &encode(&open))?;
            self.look(at, topic)?;
        }
        Ok(())
    }

    /// Subscribes late, and leaves at once.
    fn look(&mut self, at: usize, topic: usize) -> Checked {
        let Some(&handle) = self.clients[at].topics.get(&topic) else { return Ok(()) };
        self.read_all(at)?;
        self.looked = None;
        let call = self.call(at, Asked::Look);
        let body = Subscribe { handle, pattern: String::new(), policy: 0, messages: 0, bytes: 0, history: 1 };
        let method = Operation::Subscribe as u32;
        let header = Header { method, call, flags: flags::STREAM, ..Header::new(Kind::Call) };
        self.frame(at, header, &[], &encode(&body))?;
        self.frame(at, Header { call, seq: 2, ..Header::new(Kind::Credit) }, &[], &[])?;
        self.settle()?;
        let Some(found) = self.looked.take() else {
            return Err(format!("a subscription to topic {topic} is never in force"));
        };
        self.note(format!("topic {topic} has {found:?}"));
        self.summary.looks += 1;
        let it = &mut self.topics[topic];
        it.looked(found).map_err(|why| format!("topic {topic}: {why}: {it:?}"))?;
        self.frame(at, Header { call, ..Header::new(Kind::Cancel) }, &[], &[])
    }

    /// Something that a client might do with a topic.
    pub(super) fn use_topic(&mut self) -> Checked {
        let Some(at) = self.some_client() else { return Ok(()) };
        let topic = self.dice.index(TOPICS.len());
        if self.dice.one_in(6) {
            return self.look(at, topic);
        }
        let Some(&handle) = self.clients[at].topics.get(&topic) else { return Ok(()) };
        let count = if self.dice.one_in(5) { 1 + self.dice.index(4) } else { 1 };
        let batch = 1 < count || self.dice.one_in(10);
        let (mut payload, mut ids) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let id = self.next_id;
            self.next_id += 1;
            let mut body = id.to_le_bytes().to_vec();
            body.resize(8 + self.dice.index(200), id as u8);
            if batch {
                write_part(&mut payload, 0, &body);
            } else {
                payload = body;
            }
            ids.push(id);
        }
        let last = *ids.last().expect("one at least");
        let it = &mut self.topics[topic];
        // What is published is the latest from here on, whatever becomes of it.
        it.published.extend(ids.iter().map(|&id| (id, Told::Nothing)));
        it.latest = Latest::Known(it.declared.then_some(last));
        let answered = !self.dice.one_in(4);
        self.note(format!("client {} publishes {ids:?} on {topic}", self.clients[at].id.slot));
        let (kind, call) = match answered {
            true => (Kind::Call, self.call(at, Asked::Publish { topic, id: last })),
            false => (Kind::Send, 0),
        };
        let flags = if batch { flags::BATCH } else { 0 };
        self.frame(at, Header { handle, call, flags, ..Header::new(kind) }, &[], &payload)
    }

    /// A topic is configured, or no more.
    pub(super) fn reconfigure(&mut self) -> Checked {
        let topic = self.dice.index(TOPICS.len());
        let last = self.next_id - 1;
        let it = &mut self.topics[topic];
        it.declared = !it.declared;
        if !it.declared {
            (it.latest, it.floor, it.forgotten, it.sequence) = (Latest::Known(None), None, last, 0);
        }
        self.note(format!("topic {topic} is configured: {}", self.topics[topic].declared));
        let topics = topic_settings(|topic| self.topics[topic].declared);
        let settings = switchboard_core::Settings { topics, ..settings() };
        self.handle(Input::Reloaded { result: Ok(settings) })?;
        let said_at = if self.failed { u64::MAX } else { self.appended };
        let it = &mut self.topics[topic];
        if !it.declared {
            it.said_at = said_at;
        }
        self.now += MILLISECOND;
        self.settle()
    }

    /// An item for who looks at a topic.
    pub(super) fn seen(&mut self, header: &Header, tail: &Tail<'_>) -> Checked {
        match Delivery::from_wire(header.handle) {
            Some(Delivery::Subscribed) => self.looked = Some(None),
            Some(Delivery::Earlier) => {
                let payload = match header.flags & flags::BATCH {
                    0 => tail.payload,
                    _ => Parts::of(tail.payload).last().ok_or("an empty batch")?.payload,
                };
                let id = payload.first_chunk::<8>().ok_or("a message that nobody published")?;
                self.looked = Some(Some((u64::from_le_bytes(*id), header.deadline)));
            }
            other => return Err(format!("{other:?} for who looks at a topic")),
        }
        Ok(())
    }

    /// A publisher is told what came of its message.
    pub(super) fn published(&mut self, topic: usize, id: u64, outcome: Outcome, header: &Header) -> Checked {
        let failed = self.failed;
        let it = &mut self.topics[topic];
        if outcome != Outcome::Reply {
            // It was published; its publisher gave up, or the log failed, before it was safe.
            let expected = outcome == Outcome::Cancelled || outcome == Outcome::ReadOnly && failed;
            return if expected { Ok(()) } else { Err(format!("message {id} was not published: {outcome}")) };
        }
        let level = Level::from_wire(header.method).ok_or("a level that is none")?;
        // One that was published before the topic was configured, or the log failed, may be answered now.
        let wants = TOPICS[topic].1;
        if level != wants && it.declared && it.forgotten < id && !failed {
            return Err(format!("message {id} is kept at {level:?} by topic {topic}"));
        }
        if it.declared && it.forgotten < id {
            if header.seq <= it.sequence {
                return Err(format!("message {id} is number {}, and {} was before", header.seq, it.sequence));
            }
            it.sequence = header.seq;
        }
        self.summary.retained += u64::from(level != Level::Memory);
        let told = Told::Done { level, position: header.epoch, sequence: header.seq };
        it.published.insert(id, told);
        Ok(())
    }

    /// A record on its way to the log, with a bug in it if one is planted.
    pub(super) fn spoil_record(&mut self, record: Vec<u8>) -> Vec<u8> {
        let Some(topic) = self.bug.and_then(|_| topic_of(&record)) else { return record };
        let before = self.stale.insert(topic, record.clone());
        // What says that nothing is retained is short.
        let spoils = match self.bug {
            Some(Bug::RetainedStale) => self.dice.one_in(4),
            Some(Bug::RetainedForever) => record.len() < 24,
            _ => false,
        };
        before.filter(|_| spoils).unwrap_or(record)
    }

    /// The records that a broker is given at its start, with a bug in those of topics if one is planted.
    pub(super) fn spoil_topics(&mut self, records: &mut Vec<(u32, u64, Vec<u8>)>) {
        if self.bug == Some(Bug::RetainedLost)
            && let Some(last) = records.iter().rposition(|(.., record)| topic_of(record).is_some())
        {
            records.remove(last);
        }
    }
}
