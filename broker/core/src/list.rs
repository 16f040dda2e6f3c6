//! Doubly linked lists through slab entries: joining and leaving take constant time and no memory,
//! so that whatever a peer has is found from the peer, and never by looking through everything.

use crate::slab::{NONE, Slab};
use serde::{Deserialize, Serialize};

/// The two ends of a list whose members are slots of one slab.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u32)", into = "(u32, u32, u32)")]
pub(crate) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

/// A member's place in a list.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(from = "(u32, u32)", into = "(u32, u32)")]
pub(crate) struct Links {
    prev: u32,
    next: u32,
}

/// Which of a value's links a list goes through.
pub(crate) type Through<T> = fn(&mut T) -> &mut Links;

impl List {
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE, len: 0 };

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn first(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub(crate) fn last(&self) -> Option<u32> {
        (self.tail != NONE).then_some(self.tail)
    }

    #[inline(always)]
    pub(crate) fn push<T>(&mut self, slab: &mut Slab<T>, slot: u32, through: Through<T>) {
        *through(&mut slab[slot]) = self.end();
        self.take_in(slab, slot, through);
    }

    /// The links of a value that is about to be taken in at the end.
    #[inline(always)]
    pub(crate) fn end(&self) -> Links {
        Links { prev: self.tail, next: NONE }
    }

    /// Takes in a member whose links are [`Self::end`] already.
    #[inline(always)]
    pub(crate) fn take_in<T>(&mut self, slab: &mut Slab<T>, slot: u32, through: Through<T>) {
        match self.tail {
            NONE => self.head = slot,
            tail => through(&mut slab[tail]).next = slot,
        }
        self.tail = slot;
        self.len += 1;
    }

    #[inline(always)]
    pub(crate) fn remove<T>(&mut self, slab: &mut Slab<T>, slot: u32, through: Through<T>) {
        let links = core::mem::replace(through(&mut slab[slot]), Links::OUT);
        self.close(slab, links, through);
    }

    /// Closes the gap of a member with these links, which goes out of the slab.
    #[inline(always)]
    pub(crate) fn close<T>(&mut self, slab: &mut Slab<T>, links: Links, through: Through<T>) {
        let Links { prev, next } = links;
        match prev {
            NONE => self.head = next,
            prev => through(&mut slab[prev]).next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => through(&mut slab[next]).prev = prev,
        }
        self.len -= 1;
    }
}

impl Links {
    /// In no list.
    pub(crate) const OUT: Self = Self { prev: NONE, next: NONE };

    /// The member before it in the list.
    pub(crate) fn prev(self) -> Option<u32> {
        (self.prev != NONE).then_some(self.prev)
    }

    /// The next member of the list.
    pub(crate) fn next(self) -> Option<u32> {
        (self.next != NONE).then_some(self.next)
    }
}

// In a snapshot no slot is 0 and slots count from 1: most lists are empty, and a 0 is one byte where
// [`NONE`] would be five.

impl From<List> for (u32, u32, u32) {
    fn from(List { head, tail, len }: List) -> Self {
        (head.wrapping_add(1), tail.wrapping_add(1), len)
    }
}

impl From<(u32, u32, u32)> for List {
    fn from((head, tail, len): (u32, u32, u32)) -> Self {
        Self { head: head.wrapping_sub(1), tail: tail.wrapping_sub(1), len }
    }
}

impl From<Links> for (u32, u32) {
    fn from(Links { prev, next }: Links) -> Self {
        (prev.wrapping_add(1), next.wrapping_add(1))
    }
}

impl From<(u32, u32)> for Links {
    fn from((prev, next): (u32, u32)) -> Self {
        Self { prev: prev.wrapping_sub(1), next: next.wrapping_sub(1) }
    }
}
