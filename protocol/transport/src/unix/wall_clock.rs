//! Tells when somebody sets the wall clock: a timerfd that is cancelled by it (timerfd_create(2)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Readable once the wall clock was set, until [`WallClock::reset`].
#[derive(Debug)]
pub struct WallClock {
    fd: OwnedFd,
}

impl WallClock {
    /// Listens from now on.
    pub fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let clock = Self { fd };
        clock.arm()?;
        Ok(clock)
    }

    /// Listens for the next time. Whoever reads the clock after this misses no change.
    pub fn reset(&self) -> io::Result<()> {
        // ECANCELED is the news; nothing to read means that there is none.
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
        self.arm()
    }

    fn arm(&self) -> io::Result<()> {
        let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
        match timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &spec)
        {
            // The clock was set just before; the timer is armed all the same.
            Ok(_) | Err(rustix::io::Errno::CANCELED) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for WallClock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
