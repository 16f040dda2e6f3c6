//! The two clocks. Everything else in the workspace is handed the time as an input.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock: what deadlines are measured in. Answered without a system
/// call on every machine that matters.
pub fn monotonic_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// Nanoseconds since 1970. It can jump; only what people read is dated with it.
pub fn wall_ns() -> u64 {
    read(ClockId::Realtime)
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    // Both are positive on a running machine; a wall clock set before 1970 reads as 1970.
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
