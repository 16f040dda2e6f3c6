//! Randomness, from the kernel. Everything random in the broker grows from one such seed.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// 128 unpredictable bits.
pub fn random_seed() -> io::Result<[u64; 2]> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            // Before the pool is ready, at boot, a signal can interrupt the wait.
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let both = u128::from_ne_bytes(bytes);
    Ok([both as u64, (both >> 64) as u64])
}
