//! A table whose slots are used again, each user told apart by a generation.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// No slot: the end of a list, an absent link.
pub(crate) const NONE: u32 = u32::MAX;

/// Values in numbered slots. Inserting and removing take constant time and, once the table has its
/// size, no memory. The caller bounds the number of values.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: u32,
    len: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry<T> {
    generation: u32,
    next_free: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), free: NONE, len: 0 }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Slots that exist, used or not; every slot is below it.
    pub(crate) fn slots(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Puts a value into a free slot.
    #[inline(always)]
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if self.free == NONE {
            self.grow();
        }
        self.len += 1;
        let slot = self.free;
        let entry = &mut self.entries[slot as usize];
        self.free = entry.next_free;
        entry.value = Some(value);
        slot
    }

    /// The same; the slot and its generation, as [`Self::word`] has them.
    #[inline(always)]
    pub(crate) fn insert_word(&mut self, value: T) -> u64 {
        let slot = self.insert(value);
        self.word(slot)
    }

    /// Makes one more slot.
    #[cold]
    fn grow(&mut self) {
        let slot = self.slots();
        assert!(slot < NONE, "a table of 2^32 slots");
        // Generation 0 is left out: no valid handle or request is 0 on the wire.
        self.entries.push(Entry { generation: 1, next_free: NONE, value: None });
        self.free = slot;
    }

    /// Takes the value out of a slot in use.
    pub(crate) fn remove(&mut self, slot: u32) -> T {
        let entry = &mut self.entries[slot as usize];
        let value = entry.value.take().expect("a slot in use");
        entry.vacate(&mut self.free, slot);
        self.len -= 1;
        value
    }

    /// Drops the value of a slot in use, where it lies.
    #[inline(always)]
    pub(crate) fn free(&mut self, slot: u32) {
        let entry = &mut self.entries[slot as usize];
        assert!(entry.value.is_some(), "a slot in use");
        entry.value = None;
        entry.vacate(&mut self.free, slot);
        self.len -= 1;
    }

    #[inline(always)]
    pub(crate) fn generation(&self, slot: u32) -> u32 {
        self.entries[slot as usize].generation
    }

    /// The slot and generation as one word, as it goes over the wire.
    #[inline(always)]
    pub(crate) fn word(&self, slot: u32) -> u64 {
        u64::from(slot) | u64::from(self.generation(slot)) << 32
    }

    /// The slot that a word from the wire names, if its user is still the same.
    #[inline(always)]
    pub(crate) fn find(&self, word: u64) -> Option<u32> {
        let slot = word as u32;
        let entry = self.entries.get(slot as usize)?;
        (entry.generation == (word >> 32) as u32 && entry.value.is_some()).then_some(slot)
    }

    /// The same, with what is there.
    #[inline(always)]
    pub(crate) fn find_value(&self, word: u64) -> Option<(u32, &T)> {
        let slot = word as u32;
        let entry = self.entries.get(slot as usize)?;
        let value = entry.value.as_ref()?;
        (entry.generation == (word >> 32) as u32).then_some((slot, value))
    }

    /// Whether a word from the wire names somebody who has left.
    pub(crate) fn has_left(&self, word: u64) -> bool {
        let generation = (word >> 32) as u32;
        let left = |entry: &Entry<T>| 0 < generation && generation < entry.generation;
        self.entries.get(word as u32 as usize).is_some_and(left)
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.entries.get(slot as usize)?.value.as_ref()
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().filter_map(|entry| entry.value.as_mut())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let used = |(slot, entry): (usize, &'_ Entry<T>)| entry.value.as_ref().map(|_| slot as u32);
        self.entries.iter().enumerate().filter_map(used).map(|slot| (slot, &self[slot]))
    }
}

impl<T> Entry<T> {
    /// Makes the slot the first of those that are free, for another generation.
    #[inline(always)]
    fn vacate(&mut self, free: &mut u32, slot: u32) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.next_free = core::mem::replace(free, slot);
    }
}

impl<T> core::ops::Index<u32> for Slab<T> {
    type Output = T;
    #[inline(always)]
    fn index(&self, slot: u32) -> &T {
        self.entries[slot as usize].value.as_ref().expect("a slot in use")
    }
}

impl<T> core::ops::IndexMut<u32> for Slab<T> {
    #[inline(always)]
    fn index_mut(&mut self, slot: u32) -> &mut T {
        self.entries[slot as usize].value.as_mut().expect("a slot in use")
    }
}
