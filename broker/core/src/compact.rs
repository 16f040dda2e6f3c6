//! Compaction: what is still wanted of the log's oldest segment is appended again, so that the segment
//! can go. A slice at a time, and never while the disk is behind.

use crate::Payload;
use crate::broker::{Broker, Turn, Work};
use crate::dedupe::MARK_COST;
use crate::record::{Change, Record, Retained};
use crate::slab::NONE;
use crate::storage::Thing;
use alloc::string::ToString;

/// Segments that a log may have whatever little is wanted in them.
const SEGMENTS_MIN: usize = 4;
/// Bytes that may wait to be written while more is copied.
const UNWRITTEN_MAX: u64 = 8 << 20;

impl<P: Payload> Broker<P> {
    /// Whether copying is worth it: the log is large for what is in it, or fills half of its room and a
    /// fifth of it is waste. Where all of it is wanted, copying would go round in circles.
    fn wants_compaction(&self) -> bool {
        let storage = &self.storage;
        let (bytes, live) = (storage.bytes, storage.live_bytes);
        let sparse = SEGMENTS_MIN < storage.segments.len() && 4 * live < bytes;
        let most = self.limits.log_bytes_max;
        let waste = bytes.saturating_sub(live);
        let crowded = most / 2 < bytes && live / 4 + self.limits.segment_bytes.min(most / 8) < waste;
        storage.is_ready()
            && 1 < storage.segments.len()
            && (sparse || crowded)
            && storage.unwritten_bytes <= UNWRITTEN_MAX
    }

    pub(crate) fn compact_if_due(&mut self) {
        if !self.storage.compacting && self.wants_compaction() {
            self.storage.compacting = true;
            self.work.push_back(Work::Compact);
        }
    }

    /// A slice of compaction; `Some` with the work left.
    pub(crate) fn compact(&mut self, turn: &mut Turn<'_, P>, budget: &mut u32) -> Option<Work> {
        while self.wants_compaction() {
            if *budget == 0 {
                return Some(Work::Compact);
            }
            *budget -= 1;
            let segment = self.storage.first;
            match self.storage.segments[0].things.pop() {
                Some(thing) if self.is_in(thing, segment) => self.copy_on(turn, thing, segment),
                // It is gone, or was copied for another reason.
                Some(_) => {}
                None => {
                    assert_eq!(
                        self.storage.segments[0].live, 0,
                        "what is wanted of a segment is in its list"
                    );
                    self.drop_segments(turn);
                }
            }
        }
        self.storage.compacting = false;
        None
    }

    fn is_deleted(&self, queue: u32) -> bool {
        self.queues.table[queue].object == NONE
    }

    /// Appends a thing again.
    fn copy_on(&mut self, turn: &mut Turn<'_, P>, thing: Thing, segment: u32) {
        match thing {
            // What is left of a queue that was deleted is never said again: it goes a little earlier.
            Thing::Message(message) if self.is_deleted(self.queues.messages[message].queue) => {
                self.remove_message(turn.now, message);
            }
            Thing::Mark(mark) if self.is_deleted(self.queues.marks[mark].queue) => self.forget_mark(mark),
            Thing::Message(message) => {
                let tail = self.queues.messages[message].tail.clone();
                let entry = self.entry_of(message, (0, tail.len() as u32));
                let change = Change { messages: alloc::vec![entry], ..Change::default() };
                self.append(turn, &Record::Change(change), Some(tail), false);
                self.queues.messages[message].segment = NONE;
                self.let_go(segment, self.message_cost(message));
                self.hold_message(message);
            }
            Thing::Queue(queue) => self.log_queue(turn, queue),
            Thing::Mark(mark) => {
                self.append(turn, &Record::Mark(self.mark_taken(mark)), None, false);
                self.queues.marks[mark].segment = NONE;
                self.let_go(segment, MARK_COST);
                self.queues.marks[mark].segment = self.storage.hold(thing, MARK_COST);
            }
            Thing::Retained(retained) => {
                let it = &self.storage.retained[retained];
                let record = Record::Retained(Retained {
                    name: it.name.to_string(),
                    sequence: it.sequence,
                    method: it.method,
                    ext_len: it.ext_len,
                });
                let tail = it.tail.clone();
                self.append(turn, &record, Some(tail), false);
                self.storage.retained[retained].segment = NONE;
                self.let_go(segment, self.retained_cost(retained));
                self.hold_retained(retained, None);
            }
        }
    }
}
