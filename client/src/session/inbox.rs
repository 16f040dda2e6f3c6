//! The bytes that came in, cut into frames.
//!
//! Small frames are lent from one buffer. A large one gets a buffer of its own, into which it is received
//! directly, so that its payload is not copied again. Where one large frame came, another is expected:
//! then only as much is received as shows its header, and the rest goes to its place.

use switchboard_protocol::{
    Extensions, FRAME_BYTES_MAX, FrameError, HEADER_BYTES, HandleEntry, Header, Kind, Parser, Tail, padded,
};

use crate::payload::{Kept, Payload, take_buffer};

/// Collects received bytes and gives out whole frames.
///
/// Either receive into [`Inbox::space`] and tell how much with [`Inbox::filled`], or [`Inbox::push`]
/// bytes; then take frames with [`Inbox::next_frame`] until there is none.
///
/// Memory: at most [`Inbox::BYTES_MAX`] for small frames, plus one large frame within the limit set by
/// [`Inbox::set_frame_bytes_max`].
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The last receive filled all the room there was: more room is worth having.
    crowded: bool,
    /// A large frame: its buffer, and how much of it is there.
    large: Option<(Vec<u8>, usize)>,
    /// The last frame was large.
    expects_large: bool,
    frame_bytes_max: usize,
    extension_checked: bool,
    /// That of the frame that is lent: each is read into the same place, and looked at there.
    header: Header,
}

/// One whole frame.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: &'a Header,
    bytes: Bytes<'a>,
}

#[derive(Debug)]
enum Bytes<'a> {
    /// What follows the header.
    Lent(&'a [u8]),
    /// The frame from its header on.
    Own(Kept),
}

const BYTES_MIN: usize = 4 << 10;

/// Frames of so many bytes have a buffer of their own as soon as they do not come whole.
const LARGE_FRAME_BYTES: usize = 64 << 10;

/// What is received to see the header of a large frame.
const HEAD_BYTES: usize = 1 << 10;

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Inbox {
    /// The most that is received at once.
    pub const BYTES_MAX: usize = 128 << 10;

    /// Empty. Frames are limited to 64 KiB until [`Inbox::set_frame_bytes_max`].
    pub fn new() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            end: 0,
            crowded: false,
            large: None,
            expects_large: false,
            frame_bytes_max: 64 << 10,
            extension_checked: false,
            header: Header::new(Kind::Goodbye),
        }
    }

    /// Sets the longest frame that is taken; a longer one is [`FrameError::Length`].
    pub fn set_frame_bytes_max(&mut self, bytes: usize) {
        self.frame_bytes_max = bytes.min(FRAME_BYTES_MAX as usize);
    }

    /// Where the next bytes go; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        if let Some((frame, filled)) = &mut self.large {
            return &mut frame[*filled..];
        }
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.is_empty() {
            self.bytes.resize(BYTES_MIN, 0);
        } else if self.crowded && self.bytes.len() < Self::BYTES_MAX {
            self.bytes.resize((self.bytes.len() * 4).min(Self::BYTES_MAX), 0);
        }
        self.crowded = false;
        let end = if self.expects_large && self.start == self.end { HEAD_BYTES } else { self.bytes.len() };
        &mut self.bytes[self.end..end]
    }

    /// `count` bytes were written to the front of [`Inbox::space`].
    pub fn filled(&mut self, count: usize) {
        if let Some((frame, filled)) = &mut self.large {
            *filled += count;
            assert!(*filled <= frame.len(), "more was filled than there was space");
            return;
        }
        self.end += count;
        assert!(self.end <= self.bytes.len(), "more was filled than there was space");
        self.crowded = self.end == self.bytes.len();
    }

    /// Adds bytes by copying as many as there is space for; returns how many that were. At least one,
    /// if frames have been taken until there was none.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let space = self.space();
        let count = space.len().min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        self.filled(count);
        count
    }

    /// The next whole frame; `None` until more came in. After an error the stream is lost.
    #[inline(always)]
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        if self.large.is_some() {
            return Ok(self.take_large());
        }
        let bytes = &self.bytes[self.start..self.end];
        if !Parser::read(bytes, &mut self.header)? {
            return Ok(None);
        }
        let len = self.header.len as usize;
        let is_whole = padded(len) <= bytes.len();
        if !is_whole || self.header.ext_len != 0 || len > self.frame_bytes_max {
            return self.next_other();
        }
        self.expects_large = padded(len) >= LARGE_FRAME_BYTES;
        let tail = self.start + HEADER_BYTES..self.start + len;
        self.start += padded(len);
        Ok(Some(Frame { header: &self.header, bytes: Bytes::Lent(&self.bytes[tail]) }))
    }

    /// The same for a frame that is not whole, or has extensions; its header was read.
    #[inline(never)]
    fn next_other(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let bytes = &self.bytes[self.start..self.end];
        let header = &self.header;
        if header.len as usize > self.frame_bytes_max {
            return Err(FrameError::Length(header.len));
        }
        let extensions_end = HEADER_BYTES + usize::from(header.ext_len);
        if header.ext_len > 0 && !self.extension_checked && bytes.len() >= extensions_end {
            if Extensions::parse(&bytes[HEADER_BYTES..extensions_end]).is_none() {
                return Err(FrameError::Extension);
            }
            self.extension_checked = true;
        }
        let len = padded(header.len as usize);
        if bytes.len() >= len {
            self.expects_large = len >= LARGE_FRAME_BYTES;
            let tail = self.start + HEADER_BYTES..self.start + header.len as usize;
            self.start += len;
            self.extension_checked = false;
            return Ok(Some(Frame { header, bytes: Bytes::Lent(&self.bytes[tail]) }));
        }
        // An extension area fits the buffer, so that it is checked before this point or not at all.
        if len > self.bytes.len().min(LARGE_FRAME_BYTES - 1) && bytes.len() >= extensions_end {
            let mut frame = take_buffer(len);
            frame.truncate(len);
            frame[..bytes.len()].copy_from_slice(bytes);
            self.large = Some((frame, bytes.len()));
            self.start = 0;
            self.end = 0;
        } else if len > self.bytes.len() {
            self.crowded = true;
        }
        Ok(None)
    }

    fn take_large(&mut self) -> Option<Frame<'_>> {
        let (frame, filled) = self.large.take()?;
        if filled < frame.len() {
            self.large = Some((frame, filled));
            return None;
        }
        self.extension_checked = false;
        self.expects_large = frame.len() >= LARGE_FRAME_BYTES;
        let is_read = Parser::read(&frame, &mut self.header);
        assert_eq!(is_read, Ok(true), "its header was read before it got a buffer of its own");
        Some(Frame { header: &self.header, bytes: Bytes::Own(Kept(frame)) })
    }

    /// Bytes that wait for the rest of their frame.
    pub fn pending(&self) -> usize {
        self.end - self.start + self.large.as_ref().map_or(0, |(_, filled)| *filled)
    }
}

impl Frame<'_> {
    /// What follows the header, in its parts.
    #[inline]
    pub fn tail(&self) -> Tail<'_> {
        match &self.bytes {
            Bytes::Lent(tail) => Tail::of(self.header, tail),
            Bytes::Own(frame) => Tail::of(self.header, &frame.0[HEADER_BYTES..self.header.len as usize]),
        }
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.tail().payload
    }

    /// The handles that travel with it.
    pub fn handles(&self) -> Vec<HandleEntry> {
        if self.header.handles == 0 { Vec::new() } else { self.tail().handles().collect() }
    }

    /// The payload, kept: a large one without copying.
    #[inline]
    pub fn into_payload(self) -> Payload {
        match self.bytes {
            Bytes::Lent(tail) => Payload::copy_from(Tail::of(self.header, tail).payload),
            Bytes::Own(mut frame) => {
                let end = self.header.len as usize;
                Payload::part_of(std::mem::take(&mut frame.0), end - self.header.payload_len(), end)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_protocol::write_frame;

    fn frame(call: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Header { call, ..Header::new(Kind::Reply) }, &[], &[], payload);
        bytes
    }

    #[test]
    fn any_split_of_the_stream_gives_the_same_frames() {
        let sizes = [0usize, 1, 64, 3000, 5000, 100, 200_000, 7, 40_000, 4096 - 64, 4096];
        let payload = |call: usize| -> Vec<u8> { (0..sizes[call]).map(|at| (at * 7 + call) as u8).collect() };
        let stream: Vec<u8> = (0..sizes.len()).flat_map(|call| frame(call as u64, &payload(call))).collect();
        for step in [1usize, 13, 16, 63, 64, 65, 1000, 4096, 65_536, stream.len()] {
            let mut inbox = Inbox::new();
            inbox.set_frame_bytes_max(1 << 20);
            let mut seen = 0;
            for mut piece in stream.chunks(step) {
                while !piece.is_empty() {
                    piece = &piece[inbox.push(piece)..];
                    while let Some(frame) = inbox.next_frame().expect("good frames") {
                        assert_eq!(frame.header.call, seen as u64);
                        assert_eq!(frame.into_payload(), payload(seen)[..], "step {step}");
                        seen += 1;
                    }
                }
            }
            assert_eq!(seen, sizes.len(), "step {step}");
            assert_eq!(inbox.pending(), 0);
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_costs_memory() {
        let mut inbox = Inbox::new();
        let mut header = Header::new(Kind::Reply);
        header.len = 200 << 20;
        inbox.push(&header.to_bytes());
        assert_eq!(inbox.next_frame().expect_err("too long"), FrameError::Length(200 << 20));
    }
}
