//! What is to happen when: a line of the moments that were set in their order, and a heap of the
//! others. In both an entry can be found, and so removed, at once.

use crate::slab::NONE;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::Instant;

/// Moments with what they are for. A removed one is gone: nothing is left behind to be skipped later,
/// so the size is that of what is really waited for.
///
/// Most deadlines are "so long from now", and so come later than those before them: they join the end
/// of the line, and leave it, without a look at any other. One that would have to go far up the line
/// goes into the heap.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Timers<T> {
    /// The earliest moment; [`Instant::NEVER`] for none.
    soonest: Instant,
    first: u32,
    last: u32,
    heap: Vec<(Instant, u32)>,
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry<T> {
    at: Instant,
    /// In the heap; [`NONE`] in the line.
    place: u32,
    prev: u32,
    next: u32,
    what: Option<T>,
}

/// One entry; [`TimerId::NONE`] for no timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TimerId(u32);

/// Children of a node; four keep the heap flat, and the four lie in one cache line.
const ARITY: usize = 4;

/// How far up the line a moment may go.
const STEPS_MAX: u32 = 4;

impl TimerId {
    pub(crate) const NONE: Self = Self(NONE);
}

impl<T: Copy> Timers<T> {
    /// Memory that a timer takes at most.
    pub(crate) const BYTES_EACH: usize =
        size_of::<Entry<T>>() + size_of::<(Instant, u32)>() + size_of::<u32>();

    pub(crate) const fn new() -> Self {
        Self {
            soonest: Instant::NEVER,
            first: NONE,
            last: NONE,
            heap: Vec::new(),
            entries: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The earliest moment.
    #[inline]
    pub(crate) fn next(&self) -> Option<Instant> {
        (self.soonest != Instant::NEVER).then_some(self.soonest)
    }

    /// Whether a moment has come.
    #[inline]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.soonest <= now
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// What a timer that is set is for; `None` for [`TimerId::NONE`].
    pub(crate) fn get(&self, id: TimerId) -> Option<&T> {
        if id == TimerId::NONE {
            return None;
        }
        self.entries[id.0 as usize].what.as_ref()
    }

    #[inline(always)]
    pub(crate) fn insert(&mut self, at: Instant, what: T) -> TimerId {
        let entry = Entry { at, place: NONE, prev: NONE, next: NONE, what: Some(what) };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.soonest = self.soonest.min(at);
        let before = self.last;
        if before == NONE || self.entries[before as usize].at <= at {
            self.join(slot, before);
            return TimerId(slot);
        }
        self.insert_before(at, slot, before)
    }

    /// Sets an entry that comes before the last one of the line.
    #[inline(never)]
    fn insert_before(&mut self, at: Instant, slot: u32, last: u32) -> TimerId {
        let mut before = last;
        for _ in 0..STEPS_MAX {
            if before == NONE || self.entries[before as usize].at <= at {
                self.join(slot, before);
                return TimerId(slot);
            }
            before = self.entries[before as usize].prev;
        }
        self.heap.push((at, slot));
        self.rise(self.heap.len() - 1);
        TimerId(slot)
    }

    /// Removes a timer that has not come up yet; does nothing for [`TimerId::NONE`].
    pub(crate) fn remove(&mut self, id: TimerId) {
        if id != TimerId::NONE {
            self.take(id.0);
        }
    }

    /// Takes the earliest entry, if its moment has come. Of equal moments in the line the one that was
    /// set first, in the heap that of the lower slot.
    pub(crate) fn due(&mut self, now: Instant) -> Option<T> {
        if !self.is_due(now) {
            return None;
        }
        let in_line = self.entries.get(self.first as usize).is_some_and(|entry| entry.at == self.soonest);
        let slot = if in_line { self.first } else { self.heap.first()?.1 };
        Some(self.take(slot))
    }

    fn take(&mut self, slot: u32) -> T {
        let entry = &mut self.entries[slot as usize];
        let what = entry.what.take().expect("a timer that is set");
        let (at, place) = (entry.at, entry.place);
        if place == NONE {
            self.leave(slot);
        } else {
            self.take_from_heap(place as usize);
        }
        self.free.push(slot);
        if at == self.soonest {
            let in_line = self.entries.get(self.first as usize).map_or(Instant::NEVER, |entry| entry.at);
            self.soonest = self.heap.first().map_or(in_line, |&(at, _)| at.min(in_line));
        }
        what
    }

    /// Puts an entry into the line behind another; [`NONE`] for its front.
    #[inline]
    fn join(&mut self, slot: u32, before: u32) {
        let after = match before {
            NONE => core::mem::replace(&mut self.first, slot),
            before => core::mem::replace(&mut self.entries[before as usize].next, slot),
        };
        match after {
            NONE => self.last = slot,
            after => self.entries[after as usize].prev = slot,
        }
        let entry = &mut self.entries[slot as usize];
        (entry.prev, entry.next) = (before, after);
    }

    #[inline]
    fn leave(&mut self, slot: u32) {
        let Entry { prev, next, .. } = self.entries[slot as usize];
        match prev {
            NONE => self.first = next,
            prev => self.entries[prev as usize].next = next,
        }
        match next {
            NONE => self.last = prev,
            next => self.entries[next as usize].prev = prev,
        }
    }

    #[inline(never)]
    fn take_from_heap(&mut self, place: usize) {
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.rise(place);
            self.sink(self.entries[self.heap[place].1 as usize].place as usize);
        }
    }

    /// Equal moments keep the order of their slots, whatever the heap's shape.
    fn earlier(&self, one: usize, other: usize) -> bool {
        self.heap[one] < self.heap[other]
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if !self.earlier(place, parent) {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
        self.entries[self.heap[place].1 as usize].place = place as u32;
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let children = place * ARITY + 1..(place * ARITY + 1 + ARITY).min(self.heap.len());
            let Some(least) = children.reduce(|a, b| if self.earlier(b, a) { b } else { a }) else { break };
            if !self.earlier(least, place) {
                break;
            }
            self.swap(place, least);
            place = least;
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        self.entries[self.heap[one].1 as usize].place = one as u32;
        self.entries[self.heap[other].1 as usize].place = other as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_up_in_order_and_removed_ones_never() {
        let mut timers = Timers::new();
        let mut dice = 0x9E37_79B9_7F4A_7C15_u64;
        let mut set = Vec::new();
        for round in 0..2_000_u64 {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let at = dice % 500;
            set.push((at, round, timers.insert(Instant(at), round)));
            if dice.is_multiple_of(3) {
                let (_, _, id) = set.swap_remove((dice >> 20) as usize % set.len());
                timers.remove(id);
            }
        }
        let mut left: Vec<u64> = set.iter().map(|&(at, ..)| at).collect();
        left.sort_unstable();
        for at in left {
            assert_eq!(timers.next(), Some(Instant(at)));
            assert!(at == 0 || timers.due(Instant(at - 1)).is_none());
            let round = timers.due(Instant(at)).expect("due");
            assert!(set.iter().any(|&(when, what, _)| what == round && when == at));
        }
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn moments_that_are_set_in_order_stay_out_of_the_heap() {
        let mut timers = Timers::new();
        let mut open = Vec::new();
        for round in 0..1_000_u64 {
            // Two at a time in the wrong order, as two callers' clocks have it.
            open.push((round ^ 1, timers.insert(Instant(30 + (round ^ 1)), round ^ 1)));
            if 20 < open.len() {
                let (round, id) = open.remove(round as usize * 7 % open.len());
                assert_eq!(timers.get(id), Some(&round));
                timers.remove(id);
            }
            assert!(timers.heap.is_empty());
            assert_eq!(timers.len(), open.len());
            let least = open.iter().map(|&(round, _)| Instant(30 + round)).min();
            assert_eq!(timers.next(), least);
        }
        // Whoever has a shorter patience than all others does not go past them one by one.
        timers.insert(Instant(1), 0);
        assert_eq!(timers.heap.len(), 1);
        assert_eq!(timers.due(Instant(1)), Some(0));
        assert_eq!(timers.len(), open.len());
    }

    #[test]
    fn of_equal_moments_the_one_that_was_set_first_comes_up_first() {
        let mut timers = Timers::new();
        for round in 0..4 {
            timers.insert(Instant(7), round);
        }
        let order = core::iter::from_fn(|| timers.due(Instant(7)));
        assert!(order.eq(0..4));
    }
}
