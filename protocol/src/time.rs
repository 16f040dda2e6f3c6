//! Broker time.

use core::time::Duration;
use serde::{Deserialize, Serialize};

/// A moment in broker time: nanoseconds of the broker's monotonic clock (SPEC 4.3). The handshake
/// tells a client the offset to its own clock. `Instant(0)` as a deadline means "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instant(pub u64);

impl Instant {
    /// The end of time; later than every deadline.
    pub const NEVER: Self = Self(u64::MAX);

    /// This moment plus `wait`, at most [`Instant::NEVER`].
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long from `earlier` to this moment; zero if it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
