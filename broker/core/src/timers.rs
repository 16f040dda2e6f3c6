//! What is to happen when: a heap in which an entry can be found, and so removed, at once.

use crate::slab::NONE;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::Instant;

/// Moments with what they are for, the earliest on top. A removed one is gone: nothing is left
/// behind to be skipped later, so the size is that of what is really waited for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Timers<T> {
    heap: Vec<(Instant, u32)>,
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

/// One entry; [`TimerId::NONE`] for no timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TimerId(u32);

/// Children of a node; four keep the heap flat, and the four lie in one cache line.
const ARITY: usize = 4;

impl TimerId {
    pub(crate) const NONE: Self = Self(NONE);
}

impl<T> Timers<T> {
    pub(crate) const fn new() -> Self {
        Self { heap: Vec::new(), slots: Vec::new(), free: Vec::new() }
    }

    /// The earliest moment.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|&(at, _)| at)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// What a timer that is set is for; `None` for [`TimerId::NONE`].
    pub(crate) fn get(&self, id: TimerId) -> Option<&T> {
        if id == TimerId::NONE {
            return None;
        }
        self.slots[id.0 as usize].1.as_ref()
    }

    pub(crate) fn insert(&mut self, at: Instant, what: T) -> TimerId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((NONE, None));
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize].1 = Some(what);
        self.heap.push((at, slot));
        self.rise(self.heap.len() - 1);
        TimerId(slot)
    }

    /// Removes a timer that has not come up yet; does nothing for [`TimerId::NONE`].
    pub(crate) fn remove(&mut self, id: TimerId) {
        if id == TimerId::NONE {
            return;
        }
        let place = self.slots[id.0 as usize].0 as usize;
        assert!(self.slots[id.0 as usize].1.is_some(), "a timer that is set");
        self.take(place);
    }

    /// Takes the earliest entry, if its moment has come.
    pub(crate) fn due(&mut self, now: Instant) -> Option<T> {
        let &(at, _) = self.heap.first()?;
        (at <= now).then(|| self.take(0))
    }

    fn take(&mut self, place: usize) -> T {
        let (_, slot) = self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.rise(place);
            self.sink(self.slots[self.heap[place].1 as usize].0 as usize);
        }
        self.free.push(slot);
        self.slots[slot as usize].1.take().expect("a timer that is set")
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
        self.slots[self.heap[place].1 as usize].0 = place as u32;
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
        self.slots[self.heap[one].1 as usize].0 = one as u32;
        self.slots[self.heap[other].1 as usize].0 = other as u32;
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
}
