//! The log of durable things, as the core sees it: what was appended, how far it is safe, who waits
//! for that, and which of its segments still hold something (SPEC 10.6).
//!
//! Segments go oldest first, and only when nothing in them is wanted any more. So whatever is said
//! later about a thing stays at least as long as what was said first, and a log that begins anywhere
//! can be read: what is unknown in it was gone before.

use crate::broker::{Broker, Turn};
use crate::call::Target;
use crate::control::Refusal;
use crate::record::{Record, Retained};
use crate::recovery::Recovery;
use crate::slab::{NONE, Slab};
use crate::{Effect, Fact, Payload};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::queue::Level;
use switchboard_protocol::{Header, Name, Outcome, control};

/// What the core knows of the log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Storage<P> {
    log: Log,
    /// The latest record, and how far they are written and synced.
    position: u64,
    written: u64,
    synced: u64,
    /// Number of the oldest segment; they follow one another.
    pub(crate) first: u32,
    pub(crate) segments: VecDeque<Segment>,
    /// Bytes of all segments, and of what is wanted in them.
    pub(crate) bytes: u64,
    pub(crate) live_bytes: u64,
    /// Records that are not written, with their bytes.
    unwritten: VecDeque<(u64, u64)>,
    pub(crate) unwritten_bytes: u64,
    /// Who waits for records to be written, and to be synced, in their order.
    on_written: VecDeque<Pending>,
    on_synced: VecDeque<Pending>,
    /// Whether [`Work::Compact`] is to be done.
    pub(crate) compacting: bool,
    pub(crate) retained: Slab<Kept<P>>,
    pub(crate) retained_by_name: BTreeMap<Name, u32>,
    pub(crate) recovery: Recovery<P>,
}

/// Whether there is a log.
#[derive(Debug, Serialize, Deserialize)]
enum Log {
    /// None, or none yet.
    Absent,
    Ready,
    /// Why it is not to be used. `read` if that was before it was read to its end.
    Failed {
        message: String,
        read: bool,
    },
}

/// A part of the log.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub(crate) bytes: u64,
    /// Things in it that are wanted.
    pub(crate) live: u32,
    /// These, and some that were.
    pub(crate) things: Vec<Thing>,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Thing {
    Message(u32),
    Queue(u32),
    Mark(u32),
    Retained(u32),
}

/// A topic's retained message, kept here so that it can be copied on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Kept<P> {
    pub(crate) name: Name,
    pub(crate) sequence: u64,
    pub(crate) method: u32,
    pub(crate) ext_len: u16,
    pub(crate) tail: P,
    pub(crate) segment: u32,
}

/// Who waits for a record.
#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    position: u64,
    what: Then,
}

/// What happens when it is safe.
#[derive(Debug, Serialize, Deserialize)]
enum Then {
    /// This call, as a word, is answered.
    Answer { call: u64, reply: Header, body: Vec<u8> },
    /// These messages, as words, may be delivered.
    Release { messages: Vec<u64>, lost: Unsafe },
}

/// What becomes of messages whose record never gets safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unsafe {
    /// Their push fails.
    Drop,
    /// They were there before, elsewhere.
    Keep,
}

/// Bytes of records appended and not written, beyond which pushes have to wait.
const UNWRITTEN_MAX: u64 = 64 << 20;
/// What a record takes beside its bytes, which fill up words of 8.
const RECORD_BYTES: u64 = 24;
/// What a retained message takes beside its bytes and its topic's name.
const RETAINED_COST: u64 = 64;

impl<P> Storage<P> {
    pub(crate) fn new() -> Self {
        Self {
            log: Log::Absent,
            position: 0,
            written: 0,
            synced: 0,
            first: 0,
            segments: VecDeque::new(),
            bytes: 0,
            live_bytes: 0,
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            on_written: VecDeque::new(),
            on_synced: VecDeque::new(),
            compacting: false,
            retained: Slab::new(),
            retained_by_name: BTreeMap::new(),
            recovery: Recovery::default(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.log, Log::Ready)
    }

    /// The position of the latest record.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// For [`control::Status`].
    pub(crate) fn info(&self) -> control::Storage {
        control::Storage {
            failure: match &self.log {
                Log::Absent | Log::Ready => String::new(),
                Log::Failed { message, .. } => message.clone(),
            },
            appended: self.position,
            synced: self.synced,
            bytes: self.bytes,
            segment_first: self.first,
            segment_last: self.last(),
        }
    }

    /// The segment that is written.
    fn last(&self) -> u32 {
        self.first + (self.segments.len() as u32).saturating_sub(1)
    }

    /// A thing is in the segment that is written: which that is.
    pub(crate) fn hold(&mut self, thing: Thing, cost: u64) -> u32 {
        let segment = self.last();
        self.hold_in(segment, thing, cost);
        segment
    }

    pub(crate) fn hold_in(&mut self, segment: u32, thing: Thing, cost: u64) {
        let at = &mut self.segments[(segment - self.first) as usize];
        at.live += 1;
        at.things.push(thing);
        self.live_bytes += cost;
    }

    fn wait(&mut self, position: u64, level: Level, what: Then) {
        let line = match level {
            Level::Memory | Level::Os => &mut self.on_written,
            Level::Disk => &mut self.on_synced,
        };
        // A duplicate waits for an earlier record than those who are in line; it stays in line.
        let position = line.back().map_or(position, |last| last.position.max(position));
        line.push_back(Pending { position, what });
    }

    /// The next one who waits for nothing any more.
    fn next_safe(&mut self) -> Option<Pending> {
        let (written, synced) = (self.written, self.synced);
        let safe = |pending: &Pending, through: u64| pending.position <= through;
        if self.on_written.front().is_some_and(|first| safe(first, written)) {
            return self.on_written.pop_front();
        }
        self.on_synced.front().is_some_and(|first| safe(first, synced)).then(|| self.on_synced.pop_front())?
    }

    /// Whether anybody waits for a record.
    pub(crate) fn is_idle(&self) -> bool {
        self.on_written.is_empty() && self.on_synced.is_empty()
    }

    /// The log was read to its end: it goes on behind `position`.
    pub(crate) fn begin(&mut self, position: u64, oldest: u32, sizes: &BTreeMap<u32, u64>, segment: u32) {
        self.log = Log::Ready;
        self.position = position;
        self.written = position;
        self.synced = position;
        self.first = oldest.min(segment);
        for number in self.first..=segment {
            let bytes = sizes.get(&number).copied().unwrap_or(0);
            self.segments.push_back(Segment { bytes, ..Segment::default() });
            self.bytes += bytes;
        }
    }
}

/// Bytes that a record takes in its segment.
pub(crate) fn record_bytes(len: usize) -> u64 {
    RECORD_BYTES + (len as u64).next_multiple_of(8)
}

impl<P: Payload> Broker<P> {
    /// The wall clock was read.
    pub(crate) fn clock(&mut self, turn: &mut Turn<'_, P>, wall_ns: u64) {
        self.wall_offset = i128::from(wall_ns) - i128::from(turn.now.0);
        self.queues_due(turn);
    }

    /// Whether something of this level can be changed.
    #[inline]
    pub(crate) fn check_writable(&self, level: Level) -> Result<(), Refusal> {
        if level == Level::Memory || self.storage.is_ready() { Ok(()) } else { Err(self.read_only()) }
    }

    #[cold]
    fn read_only(&self) -> Refusal {
        let message = match &self.storage.log {
            Log::Failed { message, .. } => {
                format!("durable things are read-only until the broker is started again: {message}")
            }
            Log::Absent | Log::Ready => {
                "this broker has no log, so nothing can be durable (it was started without a state directory)"
                    .to_string()
            }
        };
        (Outcome::ReadOnly, message)
    }

    /// Whether it is known which durable things there are.
    pub(crate) fn check_log_was_read(&self) -> Result<(), Refusal> {
        if matches!(self.storage.log, Log::Failed { read: false, .. }) {
            return Err(self.read_only());
        }
        Ok(())
    }

    /// Whether the log takes more messages. What frees messages is always taken.
    pub(crate) fn check_log_has_room(&self) -> Result<(), Refusal> {
        let Storage { bytes, unwritten_bytes, .. } = self.storage;
        if UNWRITTEN_MAX < unwritten_bytes {
            let message = format!(
                "{unwritten_bytes} bytes wait to be written to the log, which takes {UNWRITTEN_MAX} at once"
            );
            return Err((Outcome::Busy, message));
        }
        let most = self.limits.log_bytes_max;
        if most <= bytes {
            let message = format!(
                "the log is full: {bytes} bytes of {most} (limits.log_bytes_max); consume messages, or raise it"
            );
            return Err((Outcome::Busy, message));
        }
        Ok(())
    }

    // --- appending ---

    /// Appends a record; its position. The log must be ready.
    pub(crate) fn append(
        &mut self,
        turn: &mut Turn<'_, P>,
        record: &Record,
        tail: Option<P>,
        sync: bool,
    ) -> u64 {
        self.append_head(turn, record.to_head(), tail, sync)
    }

    /// The same of one that is written already.
    pub(crate) fn append_head(
        &mut self,
        turn: &mut Turn<'_, P>,
        head: Vec<u8>,
        tail: Option<P>,
        sync: bool,
    ) -> u64 {
        assert!(self.storage.is_ready(), "nothing is appended to a log that is not ready");
        let segment_bytes = self.limits.segment_bytes;
        let storage = &mut self.storage;
        if segment_bytes <= storage.segments.back().expect("a segment that is written").bytes {
            storage.segments.push_back(Segment::default());
            turn.effects.push(Effect::Roll { segment: storage.last() });
        }
        storage.position += 1;
        let position = storage.position;
        let bytes = record_bytes(head.len() + tail.as_ref().map_or(0, P::len));
        storage.bytes += bytes;
        storage.segments.back_mut().expect("a segment that is written").bytes += bytes;
        storage.unwritten.push_back((position, bytes));
        storage.unwritten_bytes += bytes;
        turn.effects.push(Effect::Append { position, head, tail, sync });
        self.drop_segments(turn);
        self.compact_if_due();
        position
    }

    /// A thing is not in a segment any more.
    pub(crate) fn let_go(&mut self, segment: u32, cost: u64) {
        let index = (segment - self.storage.first) as usize;
        self.storage.live_bytes -= cost;
        let at = &mut self.storage.segments[index];
        at.live -= 1;
        if TRIM_MIN + 2 * at.live as usize <= at.things.len() {
            let mut things = core::mem::take(&mut at.things);
            // One that was said again and again in this segment is there as often: once is enough, and else
            // there would soon be as much to look through again.
            let mut once = BTreeSet::new();
            things.retain(|&thing| self.is_in(thing, segment) && once.insert(thing));
            self.storage.segments[index].things = things;
        }
        // If it was the last one in the oldest segment, that goes behind the next record.
    }

    /// Lets go of the oldest segments, as far as nothing in them is wanted.
    pub(crate) fn drop_segments(&mut self, turn: &mut Turn<'_, P>) {
        while self.storage.is_ready() && 1 < self.storage.segments.len() && self.storage.segments[0].live == 0
        {
            let segment = self.storage.segments.pop_front().expect("it is there");
            self.storage.bytes -= segment.bytes;
            turn.effects.push(Effect::DropSegment { segment: self.storage.first });
            self.storage.first += 1;
        }
    }

    // --- waiting ---

    /// Whether a record is as safe as `level` asks for.
    pub(crate) fn is_at(&self, level: Level, position: u64) -> bool {
        match level {
            Level::Memory => true,
            Level::Os => position <= self.storage.written,
            Level::Disk => position <= self.storage.synced,
        }
    }

    /// Answers an open call, which waits for nothing else, once a record is as safe as `level` asks for.
    pub(crate) fn answer_when_stored(
        &mut self,
        turn: &mut Turn<'_, P>,
        call: u32,
        position: u64,
        level: Level,
        reply: Header,
        body: Vec<u8>,
    ) {
        assert_eq!(self.calls[call].target, Target::Nowhere, "a call that waits for nothing else");
        self.calls[call].target = Target::Stored(position);
        let call = self.calls.word(call);
        if level == Level::Disk {
            turn.effects.push(Effect::Sync);
        }
        self.storage.wait(position, level, Then::Answer { call, reply, body });
    }

    /// Lets messages be delivered once a record is as safe as `level` asks for.
    pub(crate) fn release_when_stored(
        &mut self,
        position: u64,
        level: Level,
        messages: Vec<u64>,
        lost: Unsafe,
    ) {
        self.storage.wait(position, level, Then::Release { messages, lost });
    }

    /// Records have reached the operating system and the disk.
    pub(crate) fn persisted(&mut self, turn: &mut Turn<'_, P>, written: u64, synced: u64) {
        if !self.storage.is_ready() {
            return;
        }
        let storage = &mut self.storage;
        assert!(written <= storage.position && synced <= storage.position, "nothing else was appended");
        storage.written = storage.written.max(written).max(synced);
        storage.synced = storage.synced.max(synced);
        while let Some(&(position, bytes)) = storage.unwritten.front()
            && position <= storage.written
        {
            storage.unwritten.pop_front();
            storage.unwritten_bytes -= bytes;
        }
        while let Some(pending) = self.storage.next_safe() {
            match pending.what {
                Then::Answer { call, reply, body } => {
                    if let Some(call) = self.calls.find(call) {
                        self.answer_call(turn, call, reply, body);
                    }
                }
                Then::Release { messages, .. } => {
                    for word in messages {
                        self.stored(turn.now, word);
                    }
                }
            }
        }
        self.compact_if_due();
        self.drop_segments(turn);
    }

    /// The log is not to be used any more.
    pub(crate) fn log_failed(&mut self, turn: &mut Turn<'_, P>, message: String) {
        let read = match self.storage.log {
            Log::Failed { .. } => return,
            Log::Absent => false,
            Log::Ready => true,
        };
        turn.log(Fact::LogFailed { message: message.clone() });
        self.storage.log = Log::Failed { message, read };
        self.forget_recovery(turn.now);
        self.queues.gone.clear();
        self.queues.delivered.clear();
        self.storage.unwritten.clear();
        self.storage.unwritten_bytes = 0;
        let (outcome, message) = self.read_only();
        let written = core::mem::take(&mut self.storage.on_written);
        for Pending { what, .. } in written.into_iter().chain(core::mem::take(&mut self.storage.on_synced)) {
            match what {
                Then::Answer { call, .. } => {
                    if let Some(call) = self.calls.find(call) {
                        self.end_by_broker(turn, call, outcome, &message);
                    }
                }
                Then::Release { messages, lost } => {
                    for message in messages {
                        let Some(message) = self.queues.messages.find(message) else { continue };
                        match lost {
                            Unsafe::Drop => self.remove_message(turn.now, message),
                            Unsafe::Keep => self.stored(turn.now, self.queues.messages.word(message)),
                        }
                    }
                }
            }
        }
    }

    // --- topics ---

    /// Appends the message that a durable topic retains from now on; its position. `None` where it cannot
    /// be appended: [`Self::check_writable`] says why.
    pub(crate) fn append_retained(
        &mut self,
        turn: &mut Turn<'_, P>,
        object: u32,
        sequence: u64,
        header: &Header,
        tail: &P,
    ) -> Option<u64> {
        if !self.storage.is_ready() || self.check_log_has_room().is_err() {
            return None;
        }
        let name = self.objects[object].name.clone()?;
        let (method, ext_len) = (header.method, header.ext_len);
        let record = Record::Retained(Retained { name: name.to_string(), sequence, method, ext_len });
        let log = self.append(turn, &record, Some(tail.clone()), false);
        let kept = Kept { name, sequence, method, ext_len, tail: tail.clone(), segment: NONE };
        self.keep_retained(kept);
        Some(log)
    }

    /// What the log holds of topics that are no longer configured so goes.
    pub(crate) fn forget_unwanted_retained(&mut self, turn: &mut Turn<'_, P>) {
        let names = self.storage.retained_by_name.keys();
        let unwanted: Vec<Name> = names.filter(|name| !self.is_retained_durably(name)).cloned().collect();
        for name in unwanted {
            self.forget_retained(turn, &name);
        }
    }

    /// A topic retains nothing any more.
    fn forget_retained(&mut self, turn: &mut Turn<'_, P>, name: &Name) {
        if self.storage.is_ready()
            && let Some(retained) = self.storage.retained_by_name.remove(name)
        {
            self.append(turn, &Record::RetainedGone(name.to_string()), None, false);
            let cost = self.retained_cost(retained);
            let it = self.storage.retained.remove(retained);
            self.let_go(it.segment, cost);
        }
    }

    /// Puts a retained message, which is in the segment that is written, in the place of the one before.
    fn keep_retained(&mut self, kept: Kept<P>) {
        if let Some(&before) = self.storage.retained_by_name.get(&kept.name) {
            let cost = self.retained_cost(before);
            let segment = core::mem::replace(&mut self.storage.retained[before], kept).segment;
            self.let_go(segment, cost);
            self.hold_retained(before, None);
        } else {
            let name = kept.name.clone();
            let retained = self.storage.retained.insert(kept);
            self.storage.retained_by_name.insert(name, retained);
            self.hold_retained(retained, None);
        }
    }

    /// Counts a retained message to a segment, or to the one that is written.
    pub(crate) fn hold_retained(&mut self, retained: u32, segment: Option<u32>) {
        let cost = self.retained_cost(retained);
        let segment = segment.unwrap_or_else(|| self.storage.last());
        self.storage.hold_in(segment, Thing::Retained(retained), cost);
        self.storage.retained[retained].segment = segment;
    }

    pub(crate) fn retained_cost(&self, retained: u32) -> u64 {
        let it = &self.storage.retained[retained];
        RETAINED_COST + (it.name.as_str().len() + it.tail.len()) as u64
    }

    /// Whether a thing is there, and in this segment.
    pub(crate) fn is_in(&self, thing: Thing, segment: u32) -> bool {
        let at = match thing {
            Thing::Message(message) => self.queues.messages.get(message).map(|it| it.segment),
            Thing::Queue(queue) => self.queues.table.get(queue).map(|it| it.segment),
            Thing::Mark(mark) => self.queues.marks.get(mark).map(|it| it.segment),
            Thing::Retained(retained) => self.storage.retained.get(retained).map(|it| it.segment),
        };
        at == Some(segment)
    }
}

/// A segment's list of things is not looked through for less.
const TRIM_MIN: usize = 1024;
