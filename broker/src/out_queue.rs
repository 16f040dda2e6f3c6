//! What waits to be written to one link.
//!
//! Small frames are copied into one run of bytes: one copy costs less than one more piece in the
//! kernel's vector. Large payloads stay where they were received and are woven in by reference. A
//! link that has nothing to write holds no memory.

use std::collections::VecDeque;
use std::io::IoSlice;

use switchboard_core::{Payload, SendTail};
use switchboard_protocol::{HANDLE_ENTRY_BYTES, HEADER_BYTES, HandleEntry, Header, padded};

use crate::buffer::{Buffers, Slice};

/// Payload bytes from which a payload is written from where it is instead of being copied.
const BY_REFERENCE_BYTES: usize = 16 << 10;

/// Pieces in one write at most.
pub(crate) const PIECES_MAX: usize = 64;

/// Bytes and slices in the order in which they leave.
#[derive(Debug, Default)]
pub(crate) struct OutQueue {
    /// The copied bytes; those before `start` have left.
    run: Vec<u8>,
    start: usize,
    /// Each slice with the place in `run` before which it goes.
    slices: VecDeque<(usize, Slice)>,
    /// All bytes that wait.
    bytes: usize,
}

impl OutQueue {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a frame that came in, its tail untouched: where it is short, by one copy, and nothing else
    /// is made of it.
    #[inline]
    pub(crate) fn forward(&mut self, header: &Header, tail: &Slice, buffers: &mut Buffers) {
        if tail.len() >= BY_REFERENCE_BYTES {
            return self.push(header, SendTail::Forward(tail.clone()), buffers);
        }
        if self.run.capacity() == 0 {
            self.run = buffers.take_spare();
        }
        let len = HEADER_BYTES + tail.len();
        assert_eq!(len, header.len as usize, "the core's header counts what it sends: {header:?}");
        let whole = padded(len);
        let start = self.run.len();
        self.run.resize(start + whole, 0);
        let (head, rest) = self.run[start..].split_first_chunk_mut().expect("a header fits into a frame");
        header.write(head);
        rest[..tail.len()].copy_from_slice(tail.bytes());
        self.bytes += whole;
    }

    /// Appends a frame.
    pub(crate) fn push(&mut self, header: &Header, tail: SendTail<Slice>, buffers: &mut Buffers) {
        if self.run.capacity() == 0 {
            self.run = buffers.take_spare();
        }
        let before = self.run.len();
        let mut by_reference = 0;
        // One growth for header, small tail and padding; most frames need no other.
        self.run.reserve(padded(header.len as usize).min(BY_REFERENCE_BYTES));
        self.run.extend_from_slice(&header.to_bytes());
        match tail {
            SendTail::Empty => {}
            SendTail::Own(bytes) | SendTail::Shown(bytes) if bytes.len() < BY_REFERENCE_BYTES => {
                self.run.extend_from_slice(&bytes);
            }
            SendTail::Own(bytes) | SendTail::Shown(bytes) => by_reference = self.weave(Slice::from(bytes)),
            SendTail::Forward(slice) if slice.len() < BY_REFERENCE_BYTES => {
                self.run.extend_from_slice(slice.bytes());
            }
            SendTail::Forward(slice) => by_reference = self.weave(slice),
            SendTail::Extended(area, slice, skip) => {
                self.run.extend_from_slice(&area);
                let rest = slice.part(usize::from(skip));
                if rest.len() < BY_REFERENCE_BYTES {
                    self.run.extend_from_slice(rest.bytes());
                } else {
                    by_reference = self.weave(rest);
                }
            }
            SendTail::Patched(slice, entries) => by_reference = self.patch(header, &slice, &entries),
        }
        let len = self.run.len() - before + by_reference;
        assert_eq!(len, header.len as usize, "the core's header counts what it sends: {header:?}");
        let padding = padded(len) - len;
        self.run.extend_from_slice(&[0; 15][..padding]);
        self.bytes += len + padding;
    }

    /// The pieces of the next write.
    pub(crate) fn pieces<'a>(&'a self, pieces: &mut [IoSlice<'a>; PIECES_MAX]) -> usize {
        let (mut count, mut at) = (0, self.start);
        let mut add = |piece: &'a [u8]| {
            if !piece.is_empty() && count < PIECES_MAX {
                pieces[count] = IoSlice::new(piece);
                count += 1;
            }
            count < PIECES_MAX
        };
        for (place, slice) in &self.slices {
            if !add(&self.run[at..*place]) || !add(slice.bytes()) {
                return count;
            }
            at = *place;
        }
        add(&self.run[at..]);
        count
    }

    /// The one run of bytes that waits, where no slice does: the common case.
    pub(crate) fn plain(&self) -> Option<&[u8]> {
        self.slices.is_empty().then(|| &self.run[self.start..])
    }

    /// Forgets `written` bytes, which have left.
    pub(crate) fn written(&mut self, mut written: usize, buffers: &mut Buffers) {
        assert!(written <= self.bytes, "{written} of {} bytes", self.bytes);
        self.bytes -= written;
        while let Some((place, slice)) = self.slices.front_mut() {
            let run = (*place - self.start).min(written);
            self.start += run;
            written -= run;
            if written < slice.len() {
                *slice = slice.part(written);
                written = 0;
                break;
            }
            if self.start < *place {
                break;
            }
            written -= slice.len();
            self.slices.pop_front();
        }
        self.start += written;
        if self.bytes == 0 {
            buffers.give_spare(std::mem::take(&mut self.run));
            *self = Self::default();
            return;
        }
        // Moves the rest to the front once it is the smaller part.
        if self.start > self.run.len() / 2 {
            self.run.drain(..self.start);
            for (place, _) in &mut self.slices {
                *place -= self.start;
            }
            self.start = 0;
        }
    }

    /// Copies what is left of slices out of buffers that it would hold back for long: for a link that does
    /// not take it now and may not take it for a while.
    pub(crate) fn trim(&mut self) {
        for (_, slice) in &mut self.slices {
            if slice.is_wasteful() {
                *slice = slice.copied();
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self, buffers: &mut Buffers) {
        buffers.give_spare(std::mem::take(&mut self.run));
        *self = Self::default();
    }

    fn weave(&mut self, slice: Slice) -> usize {
        let len = slice.len();
        self.slices.push_back((self.run.len(), slice));
        len
    }

    /// Extensions, the new handle table, and the payload. Returns what was not copied.
    fn patch(&mut self, header: &Header, slice: &Slice, entries: &[HandleEntry]) -> usize {
        let (extensions_end, bytes) = (usize::from(header.ext_len), slice.bytes());
        self.run.extend_from_slice(&bytes[..extensions_end]);
        for entry in entries {
            self.run.extend_from_slice(&entry.to_bytes());
        }
        let payload = slice.part(extensions_end + entries.len() * HANDLE_ENTRY_BYTES);
        if payload.len() >= BY_REFERENCE_BYTES {
            return self.weave(payload);
        }
        self.run.extend_from_slice(payload.bytes());
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_protocol::{Kind, Verb};

    fn frame(len: usize, call: u64) -> (Header, SendTail<Slice>) {
        let header = Header { len: (HEADER_BYTES + len) as u32, call, ..Header::new(Kind::Reply) };
        (header, SendTail::Forward(Slice::from(vec![call as u8; len])))
    }

    fn taken(queue: &OutQueue, most: usize) -> Vec<u8> {
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let count = queue.pieces(&mut pieces);
        let mut bytes: Vec<u8> = pieces[..count].iter().flat_map(|piece| piece.iter().copied()).collect();
        bytes.truncate(most);
        bytes
    }

    #[test]
    fn whatever_the_kernel_takes_at_once_the_bytes_leave_in_order() {
        for step in [1_000, 16_384, 70_001, usize::MAX] {
            let (mut queue, mut buffers, mut want) = (OutQueue::default(), Buffers::new(), Vec::new());
            for (call, len) in
                [0, 5, BY_REFERENCE_BYTES, 100, 300_000, BY_REFERENCE_BYTES - 1, 1].into_iter().enumerate()
            {
                let (header, tail) = frame(len, call as u64);
                match tail {
                    SendTail::Forward(tail) if call % 2 == 0 => queue.forward(&header, &tail, &mut buffers),
                    tail => queue.push(&header, tail, &mut buffers),
                }
                want.extend_from_slice(&header.to_bytes());
                want.extend(std::iter::repeat_n(call as u8, len));
                want.resize(padded(want.len()), 0);
            }
            assert_eq!(queue.bytes(), want.len());
            let mut got = Vec::new();
            while queue.bytes() > 0 {
                let bytes = taken(&queue, step);
                queue.written(bytes.len(), &mut buffers);
                got.extend(bytes);
            }
            assert!(got == want, "step {step}");
            assert_eq!(
                (queue.run.capacity(), queue.slices.capacity()),
                (0, 0),
                "an idle queue holds nothing"
            );
        }
    }

    #[test]
    fn what_is_trimmed_leaves_its_buffer_and_stays_the_same() {
        let (mut queue, mut buffers) = (OutQueue::default(), Buffers::new());
        let (header, _) = frame(300_000, 7);
        let buffer = std::rc::Rc::new((0..300_000).map(|at| (at / 7) as u8).collect::<Vec<u8>>());
        queue.push(&header, SendTail::Forward(Slice::new(&buffer, 0, 300_000)), &mut buffers);
        let whole = taken(&queue, usize::MAX);
        queue.written(HEADER_BYTES + 100_000, &mut buffers);
        queue.trim();
        assert_eq!(std::rc::Rc::strong_count(&buffer), 2, "more than half of it still waits");
        queue.written(100_000, &mut buffers);
        assert_eq!(std::rc::Rc::strong_count(&buffer), 2, "whoever goes on reading costs no copy");
        queue.trim();
        assert_eq!(std::rc::Rc::strong_count(&buffer), 1);
        assert!(taken(&queue, usize::MAX) == whole[HEADER_BYTES + 200_000..]);
    }

    #[test]
    fn a_patched_frame_has_new_handles_and_the_old_rest() {
        for len in [10, BY_REFERENCE_BYTES] {
            let (mut queue, mut buffers) = (OutQueue::default(), Buffers::new());
            let entry = |handle| HandleEntry { handle, rights: Verb::Call.right(), flags: 0 };
            let mut bytes = vec![1; 16];
            bytes.extend(entry(0).to_bytes());
            bytes.extend(vec![2; len]);
            let header = Header {
                len: (HEADER_BYTES + bytes.len()) as u32,
                ext_len: 16,
                handles: 1,
                ..Header::new(Kind::Call)
            };
            let new = entry(7 << 32 | 8);
            let tail = SendTail::Patched(Slice::from(bytes), Box::new([new]));
            queue.push(&header, tail, &mut buffers);
            let out = taken(&queue, usize::MAX);
            assert_eq!(out[64..80], [1; 16]);
            assert_eq!(out[80..96], new.to_bytes());
            assert_eq!(out[96..96 + len], vec![2; len]);
        }
    }

    #[test]
    fn a_queue_of_more_pieces_than_one_write_takes_goes_on() {
        let (mut queue, mut buffers, mut total) = (OutQueue::default(), Buffers::new(), 0);
        for call in 0..100 {
            let (header, tail) = frame(BY_REFERENCE_BYTES, call);
            queue.push(&header, tail, &mut buffers);
        }
        while queue.bytes() > 0 {
            let bytes = taken(&queue, usize::MAX);
            total += bytes.len();
            queue.written(bytes.len(), &mut buffers);
        }
        assert_eq!(total, 100 * (HEADER_BYTES + BY_REFERENCE_BYTES));
    }
}
