//! What the loop hands to the writer at once: records, and where among them segments begin and go.
//!
//! A batch is filled without a system call, written with one write and one sync, emptied, and filled
//! again: its memory is kept, so that in steady state nothing is allocated for a record.

use super::format;

/// How durable a record must be before somebody is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Written: the operating system has it, and it survives the death of the broker.
    Os,
    /// Synced: the disk has it, and it survives the loss of power.
    Disk,
}

/// Records on their way to the disk.
#[derive(Debug, Default)]
pub struct Batch {
    /// Encoded, not yet sealed.
    pub(crate) bytes: Vec<u8>,
    pub(crate) changes: Vec<Change>,
    last: Option<u64>,
    os: bool,
    disk: bool,
}

/// Something that happens to the list of segments between two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Bytes of records that come before it.
    pub(crate) at: usize,
    pub(crate) what: What,
}

/// What happens to the list of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The records that follow go to this new segment.
    Roll(u32),
    /// This segment goes, the oldest.
    Drop(u32),
}

/// Memory that an empty batch keeps. Enough for thousands of small records; what a few large ones took
/// is given back.
const KEPT_BYTES_MAX: usize = 4 << 20;

impl Batch {
    /// Adds the record at `position`, whose bytes are these parts one after the other.
    ///
    /// # Panics
    ///
    /// If `position` does not follow the one before, or the record is empty or larger than
    /// [`RECORD_BYTES_MAX`](super::RECORD_BYTES_MAX).
    pub fn append(&mut self, position: u64, parts: &[&[u8]]) {
        assert!(
            self.last.is_none_or(|last| position == last + 1),
            "record {position} does not follow record {:?}",
            self.last
        );
        format::encode(&mut self.bytes, position, parts);
        self.last = Some(position);
    }

    /// The records that follow go to this new segment.
    pub fn roll(&mut self, segment: u32) {
        self.changes.push(Change { at: self.bytes.len(), what: What::Roll(segment) });
    }

    /// The oldest segment goes, after everything that was added before is synced.
    pub fn drop_segment(&mut self, segment: u32) {
        self.changes.push(Change { at: self.bytes.len(), what: What::Drop(segment) });
    }

    /// Somebody waits for what was added so far to have this level.
    pub fn want(&mut self, level: Level) {
        match level {
            Level::Os => self.os = true,
            Level::Disk => self.disk = true,
        }
    }

    /// Whether somebody waits for this level.
    pub fn wants(&self, level: Level) -> bool {
        match level {
            Level::Os => self.os,
            Level::Disk => self.disk,
        }
    }

    /// Whether there is nothing to do about it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.changes.is_empty() && !self.os && !self.disk
    }

    /// Bytes that its records take in a segment.
    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Empties it, to be filled again.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.changes.clear();
        (self.last, self.os, self.disk) = (None, false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_batch_keeps_a_bounded_memory() {
        let mut batch = Batch::default();
        batch.append(1, &[&vec![7; 10_000]]);
        let small = batch.bytes.capacity();
        batch.clear();
        assert_eq!(batch.bytes.capacity(), small);
        batch.append(2, &[&vec![7; 8 << 20]]);
        batch.clear();
        assert!(batch.bytes.capacity() <= KEPT_BYTES_MAX && batch.is_empty());
    }

    #[test]
    #[should_panic(expected = "does not follow")]
    fn a_position_left_out_is_a_bug_of_the_caller() {
        let mut batch = Batch::default();
        batch.append(4, &[b"x"]);
        batch.append(6, &[b"x"]);
    }

    #[test]
    #[should_panic(expected = "a record has 1 to")]
    fn an_empty_record_is_a_bug_of_the_caller() {
        Batch::default().append(1, &[b"", b""]);
    }
}
