//! What a session has to say and nobody has written yet: frames in one run of bytes, and large payloads
//! woven in from where they lie.
//!
//! A small payload is cheaper copied than gathered; a large one is never copied.

use std::collections::VecDeque;
use std::io::IoSlice;

use switchboard_protocol::{
    HandleEntry, Header, frame_padding, write_frame, write_frame_head, write_plain_frame,
};

use crate::Payload;

/// Bytes to be written, in their order. Whoever has written some of them says so by
/// [`Output::written`].
#[derive(Debug, Default)]
pub struct Output {
    /// The copied bytes; those before `start` have left.
    run: Vec<u8>,
    start: usize,
    /// Each payload with the place in `run` before which it goes.
    payloads: VecDeque<(usize, Payload)>,
    /// Bytes of the first payload that have left.
    payload_sent: usize,
    /// Bytes of payloads that have not.
    payload_bytes: usize,
}

/// Payloads of so many bytes are written from where they lie.
pub const LARGE_BYTES: usize = 16 << 10;

impl Output {
    /// Pieces that [`Output::pieces`] gives at most.
    pub const PIECES_MAX: usize = 64;

    /// Bytes that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.run.len() - self.start + self.payload_bytes
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, where no large payload is among it: the common case.
    #[inline]
    pub fn plain(&self) -> Option<&[u8]> {
        self.payloads.is_empty().then(|| &self.run[self.start..])
    }

    /// The pieces of the next write; returns how many.
    pub fn pieces<'a>(&'a self, pieces: &mut [IoSlice<'a>; Self::PIECES_MAX]) -> usize {
        let (mut count, mut at, mut skip) = (0, self.start, self.payload_sent);
        let mut add = |piece: &'a [u8]| {
            if !piece.is_empty() && count < Self::PIECES_MAX {
                pieces[count] = IoSlice::new(piece);
                count += 1;
            }
            count < Self::PIECES_MAX
        };
        for (place, payload) in &self.payloads {
            if !add(&self.run[at..*place]) || !add(&payload[skip..]) {
                return count;
            }
            (at, skip) = (*place, 0);
        }
        add(&self.run[at..]);
        count
    }

    /// A copy of all that waits.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        let (mut at, mut skip) = (self.start, self.payload_sent);
        for (place, payload) in &self.payloads {
            bytes.extend_from_slice(&self.run[at..*place]);
            bytes.extend_from_slice(&payload[skip..]);
            (at, skip) = (*place, 0);
        }
        bytes.extend_from_slice(&self.run[at..]);
        bytes
    }

    /// Forgets the first `count` bytes, which were written.
    ///
    /// # Panics
    ///
    /// If they are more than there were.
    #[inline]
    pub fn written(&mut self, mut count: usize) {
        assert!(count <= self.len(), "{count} of {} bytes were written", self.len());
        while let Some((place, payload)) = self.payloads.front() {
            let run = (*place - self.start).min(count);
            self.start += run;
            count -= run;
            let left = payload.len() - self.payload_sent;
            let sent = if self.start == *place { left.min(count) } else { 0 };
            self.payload_sent += sent;
            self.payload_bytes -= sent;
            count -= sent;
            if sent < left {
                return;
            }
            self.payload_sent = 0;
            self.payloads.pop_front();
        }
        self.start += count;
        if self.start == self.run.len() {
            self.run.clear();
            self.start = 0;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.run.clear();
        self.start = 0;
        self.payloads.clear();
        self.payload_sent = 0;
        self.payload_bytes = 0;
    }

    /// Gives memory back that is more than `bytes`, if nothing waits.
    #[inline]
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if self.run.capacity() > bytes && self.is_empty() {
            self.run = Vec::new();
        }
    }

    /// Adds frames that were written elsewhere; the buffer comes back empty.
    pub(crate) fn append(&mut self, frames: &mut Vec<u8>) {
        if self.is_empty() && self.payloads.is_empty() {
            self.clear();
            std::mem::swap(&mut self.run, frames);
        } else {
            self.run.extend_from_slice(frames);
        }
        frames.clear();
    }

    /// Adds what is left to be written of a frame whose payload somebody lent: the rest of the payload,
    /// now its own, and of the padding.
    pub(crate) fn push_rest(&mut self, payload: Payload, padding: &[u8]) {
        self.weave(payload);
        self.run.extend_from_slice(padding);
    }

    #[inline]
    pub(super) fn frame(
        &mut self,
        header: Header,
        extensions: &[u8],
        handles: &[HandleEntry],
        payload: &[u8],
    ) {
        if extensions.is_empty() && handles.is_empty() {
            write_plain_frame(&mut self.run, header, payload);
        } else {
            write_frame(&mut self.run, header, extensions, handles, payload);
        }
    }

    /// A frame up to its payload, which whoever lends it writes.
    pub(super) fn frame_head(
        &mut self,
        header: Header,
        extensions: &[u8],
        handles: &[HandleEntry],
        payload_len: usize,
    ) {
        write_frame_head(&mut self.run, header, extensions, handles, payload_len);
    }

    /// A frame whose payload is taken over.
    #[inline]
    pub(super) fn frame_of(&mut self, header: Header, handles: &[HandleEntry], payload: &mut Payload) {
        if payload.len() < LARGE_BYTES {
            return self.frame(header, &[], handles, payload);
        }
        let padding = frame_padding(payload.len());
        write_frame_head(&mut self.run, header, &[], handles, payload.len());
        self.push_rest(std::mem::take(payload), &[0; 15][..padding]);
    }

    fn weave(&mut self, payload: Payload) {
        if !payload.is_empty() {
            self.payload_bytes += payload.len();
            self.payloads.push_back((self.run.len(), payload));
        }
    }

    pub(super) fn run(&mut self) -> &mut Vec<u8> {
        &mut self.run
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_protocol::{Decoder, Kind};

    #[test]
    fn whatever_is_written_at_once_the_bytes_leave_in_order() {
        let sizes = [0, 5, LARGE_BYTES, 100, 300_001, LARGE_BYTES - 1, LARGE_BYTES + 7, 1];
        for step in [1_000, 16_384, 70_001, usize::MAX] {
            let mut output = Output::default();
            for (call, size) in sizes.into_iter().enumerate() {
                let header = Header { call: call as u64, ..Header::new(Kind::Reply) };
                output.frame_of(header, &[], &mut Payload::from(vec![call as u8; size]));
            }
            let (want, mut got) = (output.to_vec(), Vec::new());
            assert_eq!(output.len(), want.len());
            while !output.is_empty() {
                let mut pieces = [IoSlice::new(&[]); Output::PIECES_MAX];
                let count = output.pieces(&mut pieces);
                let gathered: Vec<u8> =
                    pieces[..count].iter().flat_map(|piece| piece.iter().copied()).collect();
                let count = gathered.len().min(step);
                got.extend_from_slice(&gathered[..count]);
                output.written(count);
                assert_eq!(output.len(), want.len() - got.len());
            }
            assert!(got == want, "step {step}");
            let mut decoder = Decoder::default();
            decoder.push(&got);
            for (call, size) in sizes.into_iter().enumerate() {
                let (header, tail) = decoder.next().expect("a good frame").expect("a whole frame");
                assert_eq!((header.call, tail.len()), (call as u64, size));
                assert!(tail.iter().all(|&byte| byte == call as u8));
            }
        }
    }

    #[test]
    fn more_payloads_than_one_write_takes_go_on() {
        let (mut output, mut total) = (Output::default(), 0);
        for _ in 0..100 {
            output.frame_of(Header::new(Kind::Reply), &[], &mut Payload::from(vec![1; LARGE_BYTES]));
        }
        while !output.is_empty() {
            let mut pieces = [IoSlice::new(&[]); Output::PIECES_MAX];
            let count = output.pieces(&mut pieces);
            let bytes = pieces[..count].iter().map(|piece| piece.len()).sum();
            total += bytes;
            output.written(bytes);
        }
        assert_eq!(total, 100 * (64 + LARGE_BYTES));
    }
}
