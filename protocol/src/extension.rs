//! Extensions: what a frame may carry beside its fixed fields (SPEC 2.5).
//!
//! The area is a sequence of records: type u16, length u16, value, zeros to a multiple of 4; a type
//! of 0 ends it. Its own length is a multiple of 16.

use alloc::vec::Vec;

/// The bit of a type that says: whoever does not know this extension must refuse the message.
pub const CRITICAL: u16 = 0x8000;

/// Extension types (SPEC 2.5).
pub mod extension_type {
    /// The method by name, UTF-8, where `method` is 0. Critical.
    pub const METHOD_NAME: u16 = 1 | super::CRITICAL;
    /// A W3C `traceparent`, passed on untouched.
    pub const TRACEPARENT: u16 = 2;
    /// What a push says beside its payload, [`crate::queue::PushOptions`]. Critical.
    pub const PUSH: u16 = 3 | super::CRITICAL;
    /// The key of an ordered group. Critical.
    pub const GROUP: u16 = 4 | super::CRITICAL;
    /// Producer u64 and its sequence number u64, so that a push is taken once. Critical.
    pub const PRODUCER: u16 = 5 | super::CRITICAL;
    /// Handles u64 of further queues that a batch goes to. Critical.
    pub const QUEUES: u16 = 6 | super::CRITICAL;
    /// The name of the topic, on items of a subscription by pattern.
    pub const TOPIC: u16 = 7;
    /// Where a dead letter comes from, [`crate::queue::DeadLetter`] in postcard.
    pub const DEAD_LETTER: u16 = 8;
}

/// One extension of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// [`extension_type`], with [`CRITICAL`] where set.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

/// The extensions of a valid area, in order.
#[derive(Clone, Copy, Debug)]
pub struct Extensions<'a> {
    rest: &'a [u8],
}

/// Writes an extension area.
#[derive(Default)]
pub struct ExtensionsBuilder {
    bytes: Vec<u8>,
}

impl<'a> Extensions<'a> {
    /// Reads an area; `None` if it is not well formed.
    pub fn parse(area: &'a [u8]) -> Option<Self> {
        if !area.len().is_multiple_of(16) {
            return None;
        }
        let mut check = area;
        while !check.is_empty() {
            (_, check) = split(check)?;
        }
        Some(Self { rest: area })
    }

    /// The value of the extension of that type, if it is there.
    pub fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|extension| (extension.kind == kind).then_some(extension.value))
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Extension<'a>;

    fn next(&mut self) -> Option<Extension<'a>> {
        let (extension, rest) = split(self.rest)?;
        self.rest = rest;
        extension
    }
}

/// Cuts the first record off; `Some((None, []))` where only zeros are left.
fn split(area: &[u8]) -> Option<(Option<Extension<'_>>, &[u8])> {
    let (head, rest) = area.split_first_chunk::<4>()?;
    let kind = u16::from_le_bytes([head[0], head[1]]);
    let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
    if kind == 0 {
        return area.iter().all(|&byte| byte == 0).then_some((None, &[]));
    }
    let (value, rest) = rest.split_at_checked(len)?;
    let (padding, rest) = rest.split_at_checked(len.next_multiple_of(4) - len)?;
    if padding.iter().any(|&byte| byte != 0) {
        return None;
    }
    Some((Some(Extension { kind, value }), rest))
}

impl ExtensionsBuilder {
    /// Adds one extension. `value` must fit the area ([`crate::EXTENSION_BYTES_MAX`]).
    pub fn add(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = u16::try_from(value.len()).expect("an extension fits its area");
        self.bytes.extend_from_slice(&kind.to_le_bytes());
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// The area, padded; empty if nothing was added.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_reads_back_as_written() {
        let mut builder = ExtensionsBuilder::default();
        builder.add(extension_type::METHOD_NAME, b"resize").add(extension_type::TRACEPARENT, b"");
        let area = builder.finish();
        assert_eq!(area.len(), 16);
        let extensions = Extensions::parse(&area).expect("well formed");
        assert_eq!(extensions.find(extension_type::METHOD_NAME), Some(&b"resize"[..]));
        assert_eq!(extensions.count(), 2);
    }

    #[test]
    fn a_torn_area_is_refused() {
        assert!(Extensions::parse(&[1; 15]).is_none());
        let mut long = [0; 16];
        long[0] = 1;
        long[2] = 200;
        assert!(Extensions::parse(&long).is_none());
        let mut dirty = [0; 16];
        dirty[9] = 1;
        assert!(Extensions::parse(&dirty).is_none());
    }
}
