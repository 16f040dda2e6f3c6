//! The bytes of a message: small ones inline, so that a call of a few words allocates nothing.

use std::borrow::Borrow;
use std::cell::Cell;
use std::fmt;
use std::ops::Deref;

/// The bytes of a request, a reply or an item. Up to 64 bytes are kept in place; larger ones have
/// a buffer of their own, which is used again for the next large message of this thread.
///
/// Reads as `&[u8]`; made from anything that is bytes.
///
/// ```
/// let payload = switchboard::Payload::from("hello");
/// assert_eq!(&payload[..], b"hello");
/// assert_eq!(payload.into_vec(), b"hello");
/// ```
#[derive(Default)]
pub struct Payload(Repr);

enum Repr {
    Inline {
        /// A whole word: with less, copies of it begin in the middle of one, and wait for both.
        len: usize,
        bytes: Inline,
    },
    /// `bytes[start..end]`; what is around it is left over from the frame it came in.
    Heap { bytes: Vec<u8>, start: usize, end: usize },
}

/// Aligned, so that copies of it are of whole words that were written as whole words.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Inline([u8; INLINE_BYTES]);

const INLINE_BYTES: usize = 64;

/// Buffers of this size are worth keeping: fresh ones cost a page fault every 4 KiB.
const SPARE_BYTES_MIN: usize = 64 << 10;
/// Larger ones are given back to the system at once.
const SPARE_BYTES_MAX: usize = 8 << 20;

thread_local! {
    /// One buffer, fully initialised, that a large payload of this thread left behind.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer of at least `len` initialised bytes; what they hold is arbitrary.
pub(crate) fn take_buffer(len: usize) -> Vec<u8> {
    let mut spare = if len < SPARE_BYTES_MIN { Vec::new() } else { SPARE.take() };
    if spare.capacity() < len {
        return vec![0; len];
    }
    if spare.len() < len {
        spare.resize(len, 0);
    }
    spare
}

fn give_buffer(bytes: Vec<u8>) {
    if (SPARE_BYTES_MIN..=SPARE_BYTES_MAX).contains(&bytes.len()) {
        // While a thread ends its spare may be gone already.
        let _ = SPARE.try_with(|spare| spare.set(bytes));
    }
}

/// A large buffer that is kept for the next large message when it is dropped.
#[derive(Debug)]
pub(crate) struct Kept(pub(crate) Vec<u8>);

impl Drop for Kept {
    /// Never inlined: it stands wherever a frame may be dropped, and most frames hold no such buffer.
    #[inline(never)]
    fn drop(&mut self) {
        give_buffer(std::mem::take(&mut self.0));
    }
}

impl Payload {
    /// No bytes.
    pub const fn new() -> Self {
        Self(Repr::Inline { len: 0, bytes: Inline([0; INLINE_BYTES]) })
    }

    /// A copy of `bytes`.
    #[inline(always)]
    pub fn copy_from(bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE_BYTES {
            let mut inline = Inline([0; INLINE_BYTES]);
            inline.0[..bytes.len()].copy_from_slice(bytes);
            return Self(Repr::Inline { len: bytes.len(), bytes: inline });
        }
        Self::copy_long(bytes)
    }

    #[inline(never)]
    fn copy_long(bytes: &[u8]) -> Self {
        if bytes.len() < SPARE_BYTES_MIN {
            return Self::from(bytes.to_vec());
        }
        let mut buffer = take_buffer(bytes.len());
        buffer[..bytes.len()].copy_from_slice(bytes);
        Self(Repr::Heap { bytes: buffer, start: 0, end: bytes.len() })
    }

    /// A part of a buffer that is no longer needed otherwise.
    pub(crate) fn part_of(bytes: Vec<u8>, start: usize, end: usize) -> Self {
        assert!(start <= end && end <= bytes.len());
        Self(Repr::Heap { bytes, start, end })
    }

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes.0[..*len],
            Repr::Heap { bytes, start, end } => &bytes[*start..*end],
        }
    }

    /// The bytes as a vector of their own.
    pub fn into_vec(mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.0, Repr::Inline { len: 0, bytes: Inline([0; INLINE_BYTES]) }) {
            Repr::Inline { len, bytes } => bytes.0[..len].to_vec(),
            Repr::Heap { mut bytes, start, end } => {
                bytes.truncate(end);
                if start > 0 {
                    bytes.drain(..start);
                }
                bytes
            }
        }
    }
}

impl Default for Repr {
    fn default() -> Self {
        Self::Inline { len: 0, bytes: Inline([0; INLINE_BYTES]) }
    }
}

impl Drop for Payload {
    #[inline]
    fn drop(&mut self) {
        if let Repr::Heap { bytes, .. } = &mut self.0 {
            give_buffer(std::mem::take(bytes));
        }
    }
}

impl Deref for Payload {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Borrow<[u8]> for Payload {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Clone for Payload {
    fn clone(&self) -> Self {
        Self::copy_from(self)
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Payload {}

impl PartialEq<[u8]> for Payload {
    fn eq(&self, other: &[u8]) -> bool {
        self.as_slice() == other
    }
}

impl PartialEq<&[u8]> for Payload {
    fn eq(&self, other: &&[u8]) -> bool {
        self.as_slice() == *other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Payload {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self.as_slice() == *other
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        let end = bytes.len();
        Self(Repr::Heap { bytes, start: 0, end })
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_from(bytes)
    }
}

impl<const N: usize> From<&[u8; N]> for Payload {
    fn from(bytes: &[u8; N]) -> Self {
        Self::copy_from(bytes)
    }
}

impl<const N: usize> From<[u8; N]> for Payload {
    fn from(bytes: [u8; N]) -> Self {
        Self::copy_from(&bytes)
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self::copy_from(text.as_bytes())
    }
}

impl From<()> for Payload {
    fn from((): ()) -> Self {
        Self::new()
    }
}

impl From<Payload> for Vec<u8> {
    fn from(payload: Payload) -> Self {
        payload.into_vec()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self[..self.len().min(64)];
        write!(f, "{} bytes \"{}\"", self.len(), shown.escape_ascii())?;
        if shown.len() < self.len() { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_reads_back() {
        for len in [0, 1, 63, 64, 65, 1000, SPARE_BYTES_MIN, SPARE_BYTES_MIN + 1] {
            let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
            assert_eq!(Payload::copy_from(&bytes), bytes[..]);
            assert_eq!(Payload::from(bytes.clone()).clone().into_vec(), bytes);
        }
    }

    #[test]
    fn a_large_buffer_is_used_again() {
        let first = Payload::copy_from(&vec![7; 1 << 20]);
        let place = first.as_ptr();
        drop(first);
        let second = Payload::copy_from(&vec![8; 1 << 19]);
        assert_eq!(second.as_ptr(), place);
        assert_eq!(second, vec![8; 1 << 19][..]);
    }

    #[test]
    fn a_part_is_only_that_part() {
        let payload = Payload::part_of(b"..abc..".to_vec(), 2, 5);
        assert_eq!(payload, b"abc");
        assert_eq!(payload.into_vec(), b"abc");
    }
}
