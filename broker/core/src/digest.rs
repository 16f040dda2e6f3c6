//! A digest of what the broker asked for: equal for equal effects, so that a replay can be held against a
//! recording without keeping what was sent.

use crate::{Effect, Payload, SendTail};
use core::hash::{Hash, Hasher};
use switchboard_protocol::{Header, PeerId};

/// Words and bytes in their order, come down to one word.
///
/// Each step is a bijection of the state for a given word and of the word for a given state: of two
/// sequences that differ in a single word, the digests always differ; of others, but for once in 2^64.
/// That finds accidents and mistakes. It withstands nobody who wants to forge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// A digest of nothing yet, after what came down to `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// What it has come to.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// Takes in a word.
    #[inline]
    pub const fn word(&mut self, word: u64) {
        // Odd, so that multiplying is a bijection: 2^64 over the golden ratio.
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    /// Takes in bytes, and how many they are.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(last));
        }
    }

    /// Takes in an effect: all of it, except the bytes of payloads, which count by their length. A
    /// recording may not have those.
    pub fn effect<P: Payload>(&mut self, effect: &Effect<P>) {
        match effect {
            Effect::Send { to, header, tail: SendTail::Forward(tail) } => {
                self.forward(*to, header, tail.len());
            }
            Effect::Send { to, header, tail } => {
                self.frame(*to, header);
                self.tail(tail);
            }
            Effect::Resume { peer } => self.about(2, peer.to_wire()),
            Effect::Pause { peer } => self.about(3, peer.to_wire()),
            Effect::Close { peer } => self.about(4, peer.to_wire()),
            Effect::Forget { peer } => self.about(5, peer.to_wire()),
            Effect::Append { position, head, tail, sync } => {
                self.about(6, *position);
                self.bytes(head);
                self.word(tail.as_ref().map_or(u64::MAX, |tail| tail.len() as u64));
                self.word(u64::from(*sync));
            }
            Effect::Roll { segment } => self.about(7, u64::from(*segment)),
            Effect::DropSegment { segment } => self.about(8, u64::from(*segment)),
            Effect::Reload => self.word(9),
            Effect::Sync => self.word(11),
            Effect::Log(fact) => {
                self.word(10);
                fact.hash(self);
            }
        }
    }

    /// Takes in [`Effect::Send`] of a tail that is passed on, by its length.
    #[inline]
    pub fn forward(&mut self, to: PeerId, header: &Header, len: usize) {
        self.frame(to, header);
        self.about(2, len as u64);
    }

    #[inline]
    fn frame(&mut self, to: PeerId, header: &Header) {
        self.about(1, to.to_wire());
        for word in header.to_bytes().as_chunks::<8>().0 {
            self.word(u64::from_le_bytes(*word));
        }
    }

    fn tail<P: Payload>(&mut self, tail: &SendTail<P>) {
        match tail {
            SendTail::Empty => self.word(1),
            SendTail::Forward(tail) => self.about(2, tail.len() as u64),
            SendTail::Patched(tail, entries) => {
                self.about(3, tail.len() as u64);
                for entry in entries {
                    self.bytes(&entry.to_bytes());
                }
            }
            SendTail::Own(body) => {
                self.word(4);
                self.bytes(body);
            }
            SendTail::Shown(body) => self.about(5, body.len() as u64),
            SendTail::Extended(area, tail, skip) => {
                self.about(6, tail.len() as u64);
                self.word(u64::from(*skip));
                self.bytes(area);
            }
        }
    }

    fn about(&mut self, what: u64, word: u64) {
        self.word(what);
        self.word(word);
    }
}

/// For facts, whose parts are hashed by derivation.
impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.bytes(bytes);
    }

    fn write_u8(&mut self, number: u8) {
        self.word(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.word(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.word(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.word(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn of(bytes: &[u8]) -> u64 {
        let mut digest = Digest::new(1);
        digest.bytes(bytes);
        digest.value()
    }

    #[test]
    fn any_change_of_a_byte_is_seen() {
        let bytes: Vec<u8> = (0..100_u8).map(|at| at.wrapping_mul(7)).collect();
        let whole = of(&bytes);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                assert_ne!(of(&other), whole);
            }
        }
    }

    #[test]
    fn zeros_at_the_end_count() {
        assert_ne!(of(&[1]), of(&[1, 0]));
        assert_ne!(of(&[]), of(&[0; 8]));
    }
}
