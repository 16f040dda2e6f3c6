//! Batches: many small messages in one frame (SPEC 2.9).
//!
//! One header for all of them, so that a message costs little more than copying it. Whoever routes
//! a batch treats it as one frame; whoever reads it takes the messages out one by one.

use alloc::vec::Vec;

/// Bytes in front of each message of a batch: its length, and [`Part::attribute`].
pub const PART_HEADER_BYTES: usize = 8;

/// One message of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// What it says beside its payload, by kind of object (SPEC 2.9); 0 for nothing.
    pub attribute: u32,
    /// The message.
    pub payload: &'a [u8],
}

/// The messages of a batch, in order. [`Parts::count_whole`] tells whether they make one.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    rest: &'a [u8],
}

/// Bytes of a message in a batch, its header and padding included.
#[inline]
pub const fn part_bytes(payload: usize) -> usize {
    PART_HEADER_BYTES + payload.next_multiple_of(8)
}

/// Appends one message to a batch.
///
/// # Panics
///
/// If `payload` is longer than 4 GiB, which no frame could hold.
#[inline]
pub fn write_part(batch: &mut Vec<u8>, attribute: u32, payload: &[u8]) {
    let len = u32::try_from(payload.len()).expect("a message fits a frame");
    batch.reserve(part_bytes(payload.len()));
    batch.extend_from_slice(&len.to_le_bytes());
    batch.extend_from_slice(&attribute.to_le_bytes());
    batch.extend_from_slice(payload);
    let padding = payload.len().next_multiple_of(8) - payload.len();
    batch.extend_from_slice(&[0; 7][..padding]);
}

impl<'a> Parts<'a> {
    /// The messages of the batch that is `payload`. What is not well formed ends them early.
    pub const fn of(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// How many messages it is; `None` if the payload is no batch: empty, or not exactly its parts.
    pub fn count_whole(mut self) -> Option<u32> {
        let mut count = 0;
        while self.next().is_some() {
            count += 1;
        }
        (self.rest.is_empty() && 0 < count).then_some(count)
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    #[inline]
    fn next(&mut self) -> Option<Part<'a>> {
        let (head, rest) = self.rest.split_first_chunk::<PART_HEADER_BYTES>()?;
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let attribute = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        // The padding is there too, or the part is cut off.
        let whole = rest.split_at_checked(len.checked_next_multiple_of(8)?);
        let (body, rest) = whole?;
        self.rest = rest;
        Some(Part { attribute, payload: &body[..len] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reads_back_as_written() {
        let mut batch = Vec::new();
        let messages: [&[u8]; 5] = [b"", b"a", b"eight by", b"nine bytes", &[7; 100]];
        for (attribute, message) in (0..).zip(messages) {
            write_part(&mut batch, attribute, message);
        }
        assert_eq!(batch.len(), messages.iter().map(|message| part_bytes(message.len())).sum::<usize>());
        assert_eq!(Parts::of(&batch).count_whole(), Some(5));
        let read: Vec<Part<'_>> = Parts::of(&batch).collect();
        assert!(read.iter().map(|part| part.payload).eq(messages));
        assert!(read.iter().map(|part| part.attribute).eq(0..5));
    }

    #[test]
    fn what_is_cut_off_or_empty_is_no_batch() {
        let mut batch = Vec::new();
        write_part(&mut batch, 0, b"hello");
        write_part(&mut batch, 0, b"world!");
        for len in 0..batch.len() {
            let whole = Parts::of(&batch[..len]).count_whole();
            assert_eq!(whole, (len == 16).then_some(1), "{len} bytes");
        }
        assert_eq!(Parts::of(&[0xff; 64]).count_whole(), None);
    }
}
