//! Cutting a byte stream into frames (SPEC 2.1, 2.4).

use crate::header::flags;
use crate::{
    EXTENSION_BYTES_MAX, Extensions, FRAME_BYTES_MAX, HANDLES_MAX, HEADER_BYTES, HandleEntry, Header, Kind,
    VERSION,
};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Why a byte stream is not a sequence of frames. The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum FrameError {
    /// No such kind.
    #[error("unknown frame kind {0:#04x}")]
    Kind(u8),
    /// The header's version is not the one agreed on.
    #[error("frame of protocol version {0}; this connection speaks version {VERSION}")]
    Version(u8),
    /// Shorter than its own parts, or over [`FRAME_BYTES_MAX`].
    #[error(
        "frame length {0} is out of range (it covers header, extensions, handles and payload, at most 256 MiB)"
    )]
    Length(u32),
    /// A flag that does not exist for the kind, or a priority above 7.
    #[error("undefined flags {flags:#04x} or priority {priority} (0 to 7)")]
    Field {
        /// The flags found.
        flags: u8,
        /// The priority found.
        priority: u8,
    },
    /// The extension area is too long or not well formed.
    #[error("malformed extension area")]
    Extension,
    /// More than [`HANDLES_MAX`] handles.
    #[error("{0} handles in one frame; at most 16 are allowed")]
    Handles(u16),
}

/// The rules by which one connection's headers are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parser;

/// A view of what follows a header.
#[derive(Clone, Copy, Debug)]
pub struct Tail<'a> {
    /// The extension area; well formed where a [`Parser`] or [`Decoder`] gave it out.
    pub extensions: &'a [u8],
    /// The handle table.
    pub table: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

/// Collects bytes and gives out whole frames: for clients, tests and anything that reads a stream
/// piece by piece. The broker cuts frames in place instead, with [`Parser`].
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    start: usize,
    extension_checked: bool,
}

/// A frame's length on the wire: `len` rounded up to 16 (SPEC 2.1).
#[inline]
pub const fn padded(len: usize) -> usize {
    (len + 15) & !15
}

impl Parser {
    /// Reads the header at the start of `bytes`, which begin with a frame, into one that the caller has; whether
    /// there was a whole one. After `false` or an error what it says means nothing.
    #[inline(always)]
    pub fn read(bytes: &[u8], header: &mut Header) -> Result<bool, FrameError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(false) };
        header.read(bytes).map_err(FrameError::Kind)?;
        if header.version != VERSION {
            return Err(FrameError::Version(header.version));
        }
        if header.flags & !flags::of(header.kind) != 0 || header.priority > 7 {
            return Err(FrameError::Field { flags: header.flags, priority: header.priority });
        }
        if header.handles > HANDLES_MAX {
            return Err(FrameError::Handles(header.handles));
        }
        if header.ext_len > EXTENSION_BYTES_MAX || !header.ext_len.is_multiple_of(16) {
            return Err(FrameError::Extension);
        }
        let least = HEADER_BYTES + usize::from(header.ext_len) + header.table_len();
        if (header.len as usize) < least || header.len > FRAME_BYTES_MAX {
            return Err(FrameError::Length(header.len));
        }
        Ok(true)
    }

    /// Views the tail of a whole frame: `bytes` are the `header.tail_len()` bytes after the header.
    #[inline]
    pub fn tail<'a>(header: &Header, bytes: &'a [u8]) -> Result<Tail<'a>, FrameError> {
        let tail = Tail::of(header, bytes);
        if !tail.extensions.is_empty() && Extensions::parse(tail.extensions).is_none() {
            return Err(FrameError::Extension);
        }
        Ok(tail)
    }
}

impl<'a> Tail<'a> {
    /// Cuts `bytes`, the bytes after the header, into their parts.
    #[inline]
    pub fn of(header: &Header, bytes: &'a [u8]) -> Self {
        let (extensions, rest) = bytes.split_at(usize::from(header.ext_len));
        let (table, payload) = rest.split_at(header.table_len());
        Self { extensions, table, payload }
    }

    /// The handles that the frame carries.
    pub fn handles(&self) -> impl Iterator<Item = HandleEntry> + 'a {
        let (entries, _) = self.table.as_chunks();
        entries.iter().map(HandleEntry::from_bytes)
    }

    /// The extensions, if the area is well formed.
    pub fn extensions(&self) -> Option<Extensions<'a>> {
        Extensions::parse(self.extensions)
    }
}

impl Decoder {
    /// Adds bytes that came in.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame: its header and the bytes after it. `Ok(None)` until more came in. After
    /// an error the stream is lost.
    #[expect(clippy::should_implement_trait, reason = "it lends from itself, which Iterator cannot say")]
    pub fn next(&mut self) -> Result<Option<(Header, &[u8])>, FrameError> {
        let bytes = &self.bytes[self.start..];
        let mut header = Header::new(Kind::Goodbye);
        if !Parser::read(bytes, &mut header)? {
            return Ok(None);
        }
        let extensions_end = HEADER_BYTES + usize::from(header.ext_len);
        // As soon as the area is there, so that a bad one shows no matter how the stream is split.
        if !self.extension_checked && bytes.len() >= extensions_end {
            if Extensions::parse(&bytes[HEADER_BYTES..extensions_end]).is_none() {
                return Err(FrameError::Extension);
            }
            self.extension_checked = true;
        }
        let end = padded(header.len as usize);
        if bytes.len() < end {
            return Ok(None);
        }
        let tail = self.start + HEADER_BYTES..self.start + header.len as usize;
        self.start += end;
        self.extension_checked = false;
        Ok(Some((header, &self.bytes[tail])))
    }

    /// Bytes that wait for the rest of their frame.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Gives memory back that an earlier large frame took, if nothing waits in it.
    pub fn shrink(&mut self, keep: usize) {
        if self.start == self.bytes.len() && self.bytes.capacity() > keep {
            *self = Self::default();
        }
    }
}

/// Appends a whole frame to `out`: header with the lengths filled in, extensions (padded already,
/// from [`crate::ExtensionsBuilder`]), handles, payload, padding. The payload must leave the frame
/// within [`FRAME_BYTES_MAX`].
#[inline]
pub fn write_frame(
    out: &mut Vec<u8>,
    header: Header,
    extensions: &[u8],
    handles: &[HandleEntry],
    payload: &[u8],
) {
    write_frame_head(out, header, extensions, handles, payload.len());
    out.extend_from_slice(payload);
    out.extend_from_slice(&[0; 15][..frame_padding(payload.len())]);
}

/// The same for a frame of nothing but its header and payload, as most are.
#[inline(always)]
pub fn write_plain_frame(out: &mut Vec<u8>, mut header: Header, payload: &[u8]) {
    let len = HEADER_BYTES + payload.len();
    assert!(len <= FRAME_BYTES_MAX as usize, "a frame of {len} bytes");
    header.len = len as u32;
    let start = out.len();
    out.resize(start + padded(len), 0);
    let (head, rest) = out[start..].split_first_chunk_mut().expect("a header fits into a frame");
    header.write(head);
    rest[..payload.len()].copy_from_slice(payload);
}

/// Appends what stands before the payload of a frame, for a payload of `payload_len` bytes that is
/// written from where it lies, followed by [`frame_padding`] zeros.
#[inline]
pub fn write_frame_head(
    out: &mut Vec<u8>,
    mut header: Header,
    extensions: &[u8],
    handles: &[HandleEntry],
    payload_len: usize,
) {
    assert!(extensions.len() <= usize::from(EXTENSION_BYTES_MAX) && extensions.len().is_multiple_of(16));
    assert!(handles.len() <= usize::from(HANDLES_MAX));
    let len = HEADER_BYTES + extensions.len() + handles.len() * crate::HANDLE_ENTRY_BYTES + payload_len;
    assert!(len <= FRAME_BYTES_MAX as usize, "a frame of {len} bytes");
    header.len = len as u32;
    header.ext_len = extensions.len() as u16;
    header.handles = handles.len() as u16;
    // One growth for the whole of a small frame; a large payload mostly goes elsewhere.
    out.reserve(padded(len).min(HEAD_RESERVE_BYTES));
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(extensions);
    for entry in handles {
        out.extend_from_slice(&entry.to_bytes());
    }
}

/// The zeros behind a payload of so many bytes (SPEC 2.1): all that stands before it has a length that
/// is a multiple of 16.
#[inline]
pub const fn frame_padding(payload_len: usize) -> usize {
    padded(payload_len) - payload_len
}

const HEAD_RESERVE_BYTES: usize = 8 << 10;
