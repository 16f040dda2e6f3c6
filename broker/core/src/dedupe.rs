//! Producers that number their messages, so that what is pushed again is taken once (SPEC 10.13).

use crate::Payload;
use crate::broker::Broker;
use crate::control::Refusal;
use crate::message::Due;
use crate::record::MarkTaken;
use crate::slab::NONE;
use crate::storage::Thing;
use crate::timers::TimerId;
use alloc::format;
use serde::{Deserialize, Serialize};
use switchboard_protocol::{Instant, Outcome};

/// The highest number taken from a producer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) queue: u32,
    pub(crate) uid: u32,
    pub(crate) producer: u64,
    /// The numbers of the latest push.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Where that went.
    pub(crate) position: u64,
    /// The position of its record; 0 in memory.
    pub(crate) log: u64,
    /// When that was.
    pub(crate) wall_ns: u64,
    pub(crate) segment: u32,
    pub(crate) timer: TimerId,
}

/// Producers that a queue remembers.
pub(crate) const MARKS_MAX: usize = 65_536;
/// How long it does (SPEC 10.13).
pub(crate) const KEPT_NS: u64 = 24 * 60 * 60 * 1_000_000_000;
/// Bytes that a mark takes in the log at most.
pub(crate) const MARK_COST: u64 = 96;

impl<P: Payload> Broker<P> {
    /// The mark that makes a push of this number a duplicate.
    pub(crate) fn duplicate_of(&self, queue: u32, uid: u32, producer: u64, number: u64) -> Option<u32> {
        let &mark = self.queues.table[queue].marks.get(&(uid, producer))?;
        (number <= self.queues.marks[mark].last).then_some(mark)
    }

    /// Whether one more producer can be remembered.
    pub(crate) fn check_mark(&self, queue: u32, uid: u32, producer: u64) -> Result<(), Refusal> {
        let at = &self.queues.table[queue];
        if MARKS_MAX <= at.marks.len() && !at.marks.contains_key(&(uid, producer)) {
            let name = &at.settings.name;
            let message = format!(
                "`{name}` remembers {MARKS_MAX} producers, the most there may be; each is forgotten 24 hours after its last push"
            );
            return Err((Outcome::Busy, message));
        }
        Ok(())
    }

    /// Remembers a push; the mark. Its segment is that of `segment`, or none.
    pub(crate) fn set_mark(&mut self, taken: &MarkTaken, queue: u32, log: u64, segment: u32) -> u32 {
        let MarkTaken { uid, producer, first, last, position, wall_ns, queue: _ } = *taken;
        let known = self.queues.table[queue].marks.get(&(uid, producer)).copied();
        let mark = known.unwrap_or_else(|| {
            let at = Instant(wall_ns.saturating_add(KEPT_NS));
            let timer = TimerId::NONE;
            let mark = self.queues.marks.insert(Mark {
                queue,
                uid,
                producer,
                first,
                last,
                position,
                log,
                wall_ns,
                segment: NONE,
                timer,
            });
            self.queues.marks[mark].timer = self.queues.clock.insert(at, Due::Mark(mark));
            self.queues.table[queue].marks.insert((uid, producer), mark);
            mark
        });
        let it = &mut self.queues.marks[mark];
        it.first = first;
        it.last = last;
        it.position = position;
        it.log = log;
        it.wall_ns = wall_ns;
        let before = core::mem::replace(&mut it.segment, segment);
        if before != NONE {
            self.let_go(before, MARK_COST);
        }
        mark
    }

    /// The same for a push that was appended just now.
    pub(crate) fn hold_mark(&mut self, taken: &MarkTaken, queue: u32, log: u64) {
        let mark = self.set_mark(taken, queue, log, NONE);
        self.queues.marks[mark].segment = self.storage.hold(Thing::Mark(mark), MARK_COST);
    }

    /// What the log says of a mark.
    pub(crate) fn mark_taken(&self, mark: u32) -> MarkTaken {
        let it = &self.queues.marks[mark];
        MarkTaken {
            queue: self.queues.table[it.queue].id,
            uid: it.uid,
            producer: it.producer,
            first: it.first,
            last: it.last,
            position: it.position,
            wall_ns: it.wall_ns,
        }
    }

    /// A producer was silent for a day, unless it has pushed since its timer was set.
    pub(crate) fn mark_due(&mut self, now: Instant, mark: u32) {
        let at = self.queues.marks[mark].wall_ns.saturating_add(KEPT_NS);
        self.queues.marks[mark].timer = TimerId::NONE;
        if self.wall(now) < at {
            self.queues.marks[mark].timer = self.queues.clock.insert(Instant(at), Due::Mark(mark));
        } else {
            self.forget_mark(mark);
        }
    }

    pub(crate) fn forget_mark(&mut self, mark: u32) {
        let it = self.queues.marks.remove(mark);
        self.queues.clock.remove(it.timer);
        self.queues.table[it.queue].marks.remove(&(it.uid, it.producer));
        if it.segment != NONE {
            self.let_go(it.segment, MARK_COST);
        }
    }
}
