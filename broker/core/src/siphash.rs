//! SipHash-1-3: a number from a number that nobody can foretell without the key.
//!
//! J.-P. Aumasson, D. J. Bernstein: SipHash: a fast short-input PRF. Here over two words, which is all
//! that leases need, with the fewer rounds that the tables of Rust and Python have: there is one for each
//! delivery, nobody sees more than the hashes of leases that are its own, and nothing is known to be gained
//! from those.

use serde::{Deserialize, Serialize};

/// A hash of two words, the first of which it has taken in.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct SipHash([u64; 4]);

impl SipHash {
    #[inline(always)]
    pub(crate) fn new(key: [u64; 2], first: u64) -> Self {
        let mut hash = Self([
            key[0] ^ 0x736f_6d65_7073_6575,
            key[1] ^ 0x646f_7261_6e64_6f6d,
            key[0] ^ 0x6c79_6765_6e65_7261,
            key[1] ^ 0x7465_6462_7974_6573,
        ]);
        hash.take_in(first);
        hash
    }

    /// The hash with this second word.
    #[inline(always)]
    pub(crate) fn of(mut self, second: u64) -> u64 {
        self.take_in(second);
        // The last block has the length, 16 bytes, on top.
        self.take_in(16 << 56);
        let Self(mut v) = self;
        v[2] ^= 0xff;
        for _ in 0..3 {
            round(&mut v);
        }
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }

    #[inline(always)]
    fn take_in(&mut self, word: u64) {
        let Self(v) = self;
        v[3] ^= word;
        round(v);
        v[0] ^= word;
    }
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_as_elsewhere() {
        // Of the message 00..0f (16 bytes) under the keys 0 and 00..0f: the first is what the standard
        // library's `DefaultHasher::new()` makes of it, the second what an implementation makes that gives
        // the published vectors of SipHash-2-4 with the rounds of that.
        let word = |from: u8| u64::from_le_bytes(core::array::from_fn(|i| from + i as u8));
        let of = |key| SipHash::new(key, word(0)).of(word(8));
        assert_eq!(of([0, 0]), 0x8972_1884_33a5_c5b7);
        assert_eq!(of([word(0), word(8)]).to_le_bytes(), [0x66, 0x8b, 0x90, 0x7d, 0x1a, 0xdd, 0x4f, 0xcc]);
    }
}
