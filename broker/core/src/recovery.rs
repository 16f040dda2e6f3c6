//! Recovery: what an earlier broker appended is read back, before anybody connects.
//!
//! Records may say things twice (copies that compaction made) and may be about what is not there (the
//! segments before were let go). Neither is a fault. What cannot be read is one, and then nothing of
//! the log is used: a part of it could give out what was consumed.

use crate::broker::{Broker, Turn};
use crate::dedupe::{KEPT_NS, MARK_COST};
use crate::list::Links;
use crate::message::{Extra, Message, State};
use crate::queue::cost_of;
use crate::record::{Change, Entry, MarkTaken, QueueMade, Record, Retained};
use crate::slab::NONE;
use crate::storage::{Kept, Thing, record_bytes};
use crate::{Fact, Payload, QueueSettings};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use serde::{Deserialize, Serialize};
use switchboard_protocol::queue::{Level, Overflow};
use switchboard_protocol::{Instant, Name, ObjectKind};

/// What was read so far.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Recovery<P> {
    /// By their numbers.
    queues: BTreeMap<u64, Staged>,
    retained: BTreeMap<String, (u32, Retained, P)>,
    /// Bytes of records by segment.
    sizes: BTreeMap<u32, u64>,
}

/// A queue of which something was read.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Staged {
    /// Latest record about itself, with its segment and position.
    made: Option<(QueueMade, u32, u64)>,
    /// The latest position seen.
    position: u64,
    messages: BTreeMap<u64, u32>,
    marks: BTreeMap<(u32, u64), (MarkTaken, u32, u64)>,
}

impl<P> Default for Recovery<P> {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), retained: BTreeMap::new(), sizes: BTreeMap::new() }
    }
}

impl<P> Recovery<P> {
    /// Messages that were read and are in no queue yet.
    pub(crate) fn messages(&self) -> usize {
        self.queues.values().map(|staged| staged.messages.len()).sum()
    }
}

impl<P: Payload> Broker<P> {
    /// A record was read.
    pub(crate) fn recovered(&mut self, turn: &mut Turn<'_, P>, segment: u32, position: u64, record: P) {
        if self.check_log_was_read().is_err() {
            return;
        }
        assert!(!self.storage.is_ready(), "the driver hands in every record before the log is ready");
        *self.storage.recovery.sizes.entry(segment).or_default() += record_bytes(record.len());
        let Some((parsed, start)) = Record::parse(record.bytes()) else {
            let message = format!(
                "record {position} in segment {segment} of the log is not one that this version writes, and nothing is guessed"
            );
            return self.log_failed(turn, message);
        };
        let recovery = &mut self.storage.recovery;
        match parsed {
            Record::Queue(made) => {
                let staged = recovery.queues.entry(made.id).or_default();
                staged.position = staged.position.max(made.position);
                staged.made = Some((made, segment, position));
            }
            Record::QueueGone(id) => {
                if let Some(staged) = recovery.queues.remove(&id) {
                    for message in staged.messages.into_values() {
                        self.erase_message(turn.now, message);
                    }
                }
            }
            Record::Change(change) => {
                self.recover_change(turn.now, change, segment, position, &record, start);
            }
            Record::Delivered(items) => {
                for item in items {
                    let staged = self.storage.recovery.queues.get(&item.queue);
                    let message = staged.and_then(|staged| staged.messages.get(&item.position)).copied();
                    let Some(message) = message else { continue };
                    self.queues.messages[message].set_deliveries(item.deliveries);
                    if item.ready_at != 0 || self.queues.messages[message].extra != NONE {
                        self.extra_mut(message).ready_at = item.ready_at;
                    }
                }
            }
            Record::Mark(mark) => self.recover_mark(mark, segment, position),
            Record::Retained(retained) => {
                let tail = record.cut(start, record.len()).keep();
                let name = retained.name.clone();
                self.storage.recovery.retained.insert(name, (segment, retained, tail));
            }
            Record::RetainedGone(name) => {
                recovery.retained.remove(&name);
            }
        }
    }

    fn recover_change(
        &mut self,
        now: Instant,
        change: Change,
        segment: u32,
        position: u64,
        record: &P,
        start: usize,
    ) {
        for place in change.gone {
            let staged = self.storage.recovery.queues.get_mut(&place.queue);
            let gone = staged.and_then(|staged| staged.messages.remove(&place.position));
            if let Some(message) = gone {
                self.erase_message(now, message);
            }
        }
        if let Some(mark) = change.mark {
            self.recover_mark(mark, segment, position);
        }
        for entry in change.messages {
            self.recover_message(now, entry, segment, record, start);
        }
    }

    fn recover_mark(&mut self, mark: MarkTaken, segment: u32, position: u64) {
        let staged = self.storage.recovery.queues.entry(mark.queue).or_default();
        staged.marks.insert((mark.uid, mark.producer), (mark, segment, position));
    }

    fn recover_message(&mut self, now: Instant, entry: Entry, segment: u32, record: &P, start: usize) {
        let user = self.user_of(entry.uid);
        let from = start + entry.start as usize;
        let mut extra = NONE;
        if entry.expires != 0 || entry.ready_at != 0 || !entry.group.is_empty() || entry.dead.is_some() {
            extra = self.queues.extras.insert(Extra {
                expires: entry.expires,
                ready_at: entry.ready_at,
                key: (!entry.group.is_empty()).then(|| Rc::from(&entry.group[..])),
                dead: entry.dead.map(Box::new),
                ..Extra::new()
            });
        }
        let message = self.enter_message(Message {
            tail: record.cut(from, from + entry.len as usize).keep(),
            position: entry.position,
            by_queue: Links::OUT,
            by_state: Links::OUT,
            queue: NONE,
            user,
            segment,
            lease: NONE,
            extra,
            pushed_s: entry.pushed_s,
            counts: entry.counts,
            ext_len: entry.ext_len,
            state: State::Storing,
            stored: true,
        });
        let staged = self.storage.recovery.queues.entry(entry.queue).or_default();
        staged.position = staged.position.max(entry.position);
        // A copy takes the place of what it was made of.
        if let Some(before) = staged.messages.insert(entry.position, message) {
            self.erase_message(now, before);
        }
    }

    /// Forgets what was read: it is in the queues, or is not to be used.
    pub(crate) fn forget_recovery(&mut self, now: Instant) {
        let recovery = core::mem::take(&mut self.storage.recovery);
        for staged in recovery.queues.into_values() {
            for message in staged.messages.into_values() {
                self.erase_message(now, message);
            }
        }
    }

    /// The log was read to its end.
    pub(crate) fn log_ready(&mut self, turn: &mut Turn<'_, P>, position: u64, oldest: u32, segment: u32) {
        if self.check_log_was_read().is_err() {
            return;
        }
        assert!(!self.storage.is_ready(), "a log gets ready once");
        let made = match self.make_recovered_queues(turn) {
            Ok(made) => made,
            Err(message) => return self.log_failed(turn, message),
        };
        let Recovery { queues, retained, sizes } = core::mem::take(&mut self.storage.recovery);
        self.storage.begin(position, oldest, &sizes, segment);
        for (staged, queue) in queues.into_values().zip(made) {
            self.fill_queue(turn, queue, staged);
        }
        for slot in 0..self.queues.table.slots() {
            if self.queues.table.get(slot).is_some_and(|queue| queue.is_logged() && queue.id == 0) {
                self.log_queue(turn, slot);
            }
        }
        for (name, (segment, retained, tail)) in retained {
            let name = Name::new(&name).expect("a name that was parsed");
            let Retained { sequence, method, ext_len, .. } = retained;
            let kept = Kept { name: name.clone(), sequence, method, ext_len, tail: tail.clone(), segment };
            let kept = self.storage.retained.insert(kept);
            self.storage.retained_by_name.insert(name.clone(), kept);
            self.hold_retained(kept, Some(segment));
            self.restore_retained(turn, &name, sequence, method, ext_len, tail, segment);
        }
        self.forget_unwanted_retained(turn);
        self.drop_segments(turn);
        self.compact_if_due();
    }

    /// Makes every queue that was read, still empty; their slots in the order of their numbers.
    fn make_recovered_queues(&mut self, turn: &mut Turn<'_, P>) -> Result<alloc::vec::Vec<u32>, String> {
        let mut made = alloc::vec::Vec::new();
        for id in self.storage.recovery.queues.keys().copied().collect::<alloc::vec::Vec<_>>() {
            let staged = &self.storage.recovery.queues[&id];
            let Some((it, ..)) = &staged.made else {
                return Err(format!(
                    "the log has messages of a queue, number {id}, and not what queue that is"
                ));
            };
            let (settings, uid) = (settings_of(it), it.uid);
            let name = settings.name.clone();
            let there = self.names.get(&name).copied();
            let there = there.filter(|&object| self.objects[object].kind == ObjectKind::Queue);
            let queue = match there.map(|object| self.objects[object].body) {
                Some(queue) => {
                    let at = &mut self.queues.table[queue];
                    if at.id != 0 {
                        return Err(format!("the log has two queues `{name}`, numbers {} and {id}", at.id));
                    }
                    // Configuration says what it is like, except for what its messages were promised.
                    let (has, wants) = (settings.durability, at.settings.durability);
                    if wants == Level::Memory {
                        at.settings.durability = has;
                        let message = format!(
                            "its durability is `{}` and stays so, not `{}`: delete the queue to change that",
                            has.as_str(),
                            wants.as_str()
                        );
                        turn.log(Fact::QueueRefused { name: name.to_string(), message });
                    }
                    queue
                }
                None => {
                    let user = self.user_of(uid);
                    let made = self.make_queue(turn, settings, user);
                    self.forget_user_if_unused(turn.now, user);
                    made.map_err(|(_, message)| {
                        format!("the log has a queue `{name}`, which cannot be made: {message}")
                    })?
                }
            };
            self.queues.table[queue].id = id;
            made.push(queue);
        }
        Ok(made)
    }

    /// Puts what was read into a queue.
    fn fill_queue(&mut self, turn: &mut Turn<'_, P>, queue: u32, staged: Staged) {
        let (made, segment, logged) = staged.made.expect("it was looked at before");
        let at = &mut self.queues.table[queue];
        at.position = staged.position;
        at.logged = logged;
        let same = at.settings == settings_of(&made);
        at.segment = segment;
        at.cost = cost_of(&at.settings);
        self.storage.hold_in(segment, Thing::Queue(queue), at.cost);
        for (position, message) in staged.messages {
            self.attach_at(message, queue, position);
            let cost = self.message_cost(message);
            let segment = self.queues.messages[message].segment;
            self.storage.hold_in(segment, Thing::Message(message), cost);
            self.start(turn.now, message);
        }
        let wall = self.wall(turn.now);
        for (mark, segment, log) in staged.marks.into_values() {
            if wall < mark.wall_ns.saturating_add(KEPT_NS) {
                let kept = self.set_mark(&mark, queue, log, segment);
                self.storage.hold_in(segment, Thing::Mark(kept), MARK_COST);
            }
        }
        if !same {
            self.log_queue(turn, queue);
        }
    }
}

/// The settings of a queue that was parsed.
fn settings_of(made: &QueueMade) -> QueueSettings {
    let name = Name::new(&made.name).expect("a name that was parsed");
    let dead_letters = match &made.dead_letters[..] {
        "" => None,
        text => Some(Name::new(text).expect("a name that was parsed")),
    };
    QueueSettings {
        durability: Level::from_wire(made.durability.into()).expect("a level that was parsed"),
        messages_max: made.messages_max,
        bytes_max: made.bytes_max,
        overflow: Overflow::from_wire(made.overflow).expect("a policy that was parsed"),
        lossy: made.lossy,
        deliveries_max: made.deliveries_max,
        dead_letters,
        ..QueueSettings::of(name)
    }
}
