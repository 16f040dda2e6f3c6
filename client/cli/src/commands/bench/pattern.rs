//! The bytes of a measured message: its number, then a pattern that only that number has. Whoever
//! receives it checks every byte, so that nothing lost, doubled, mixed up or torn can pass.
//!
//! Every word is the number plus its own place times a large odd constant. So each word depends on both,
//! and none waits for the one before: many are filled and checked at once, which matters where a message
//! is long, because this is not what is to be measured.

use std::time::{Duration, Instant};

/// Bytes of the number at the front.
const NUMBER_BYTES: usize = 8;
/// Odd, so that every word of a message differs and depends on the number.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Makes `message` the one with this number. The end of a message whose length is no multiple of 8 is
/// the beginning of the next word; one shorter than its number carries the lower bytes of it.
#[inline]
pub(crate) fn fill(message: &mut [u8], number: u64) {
    let (words, rest) = message.as_chunks_mut::<NUMBER_BYTES>();
    let mut word = number;
    for bytes in words {
        *bytes = word.to_le_bytes();
        word = word.wrapping_add(STEP);
    }
    rest.copy_from_slice(&word.to_le_bytes()[..rest.len()]);
}

/// The number of a message, if every byte of it is as [`fill`] made it.
#[inline]
pub(crate) fn check(message: &[u8]) -> Option<u64> {
    let (words, rest) = message.as_chunks::<NUMBER_BYTES>();
    let number = match words.first() {
        Some(first) => u64::from_le_bytes(*first),
        None => {
            let mut bytes = [0; NUMBER_BYTES];
            bytes[..rest.len()].copy_from_slice(rest);
            return Some(u64::from_le_bytes(bytes));
        }
    };
    let mut word = number;
    let mut wrong = 0;
    for bytes in words {
        wrong |= word ^ u64::from_le_bytes(*bytes);
        word = word.wrapping_add(STEP);
    }
    let whole = wrong == 0 && (rest.is_empty() || *rest == word.to_le_bytes()[..rest.len()]);
    whole.then_some(number)
}

/// Whether a message of `size` bytes with number `found` is the one with number `expected`: short ones
/// carry only the lower bytes.
#[inline]
pub(crate) fn is_number(found: u64, expected: u64, size: usize) -> bool {
    let kept = match size {
        0..NUMBER_BYTES => (1 << (8 * size)) - 1,
        _ => u64::MAX,
    };
    found == expected & kept
}

/// What it costs to fill a message of that size once and to check it `checks` times, and nothing else.
pub(crate) fn touch(size: usize, checks: u32) -> Duration {
    let mut message = vec![0; size];
    let rounds = (4 << 20) / size.max(64) as u64 + 8;
    let mut best = Duration::MAX;
    // The best of a few: what disturbs it is not its cost.
    for _ in 0..5 {
        let start = Instant::now();
        for number in 0..rounds {
            fill(std::hint::black_box(&mut message), number);
            for _ in 0..checks {
                assert!(check(std::hint::black_box(&message)).is_some(), "what was filled is whole");
            }
        }
        best = best.min(start.elapsed());
    }
    best / u32::try_from(rounds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_itself_and_no_other() {
        for size in [0, 1, 7, 8, 9, 64, 1000] {
            for number in [0, 1, 255, 1 << 40] {
                let mut message = vec![0; size];
                fill(&mut message, number);
                let found = check(&message).expect("whole");
                assert!(is_number(found, number, size), "{size} {number}");
                assert!(size == 0 || !is_number(found, number + 1, size));
            }
        }
    }

    #[test]
    fn a_single_wrong_bit_is_seen() {
        let mut message = vec![0; 100];
        fill(&mut message, 7);
        for at in 0..100 {
            message[at] ^= 0x10;
            assert!(check(&message) != Some(7), "byte {at}");
            message[at] ^= 0x10;
        }
    }
}
