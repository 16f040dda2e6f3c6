//! The Unix (for now: Linux) side of the transport, one noun a file.

pub(crate) mod alarm;
pub mod clock;
pub(crate) mod connect;
pub(crate) mod credentials;
pub(crate) mod exit_status;
pub(crate) mod fds;
pub(crate) mod files;
pub(crate) mod inherited;
pub mod limits;
pub(crate) mod listener;
pub(crate) mod lock;
pub(crate) mod mapping;
pub(crate) mod poller;
pub mod process;
pub(crate) mod random;
pub(crate) mod reaper;
pub(crate) mod sockopt;
pub(crate) mod spare;
pub mod spawn;
pub(crate) mod stream;
pub(crate) mod waker;
pub(crate) mod wall_clock;

use std::time::Duration;

use rustix::time::Timespec;

/// A duration as the kernel takes it. One too long for it is as good as the longest.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    // Thirty years: more than any wait, and within every kernel structure.
    let duration = duration.min(Duration::from_secs(1_000_000_000));
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() }
}
