//! Wakes a [`super::poller::Poller`] at a moment: a timerfd (timerfd_create(2)).
//!
//! A wait with a time-out has the kernel set up a timer and take it down again, each time. An alarm is set
//! once for many waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Readable from the moment it is set to, until [`Alarm::reset`].
#[derive(Debug)]
pub struct Alarm {
    fd: OwnedFd,
}

impl Alarm {
    /// One that is not set.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { fd: timerfd_create(TimerfdClockId::Monotonic, flags)? })
    }

    /// Sets it to a moment of [`super::clock::monotonic_ns`], whatever it was set to. One that has passed
    /// comes at once.
    pub fn set(&self, at_ns: u64) -> io::Result<()> {
        // All zeros would mean never.
        let at_ns = at_ns.max(1);
        let at = Timespec { tv_sec: (at_ns / 1_000_000_000) as i64, tv_nsec: (at_ns % 1_000_000_000) as i64 };
        let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &spec)?;
        Ok(())
    }

    /// It was noticed.
    pub fn reset(&self) {
        // Nothing to read means that it was set anew meanwhile.
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::monotonic_ns;
    use super::super::poller::{Interest, Poller};
    use super::*;

    #[test]
    fn an_alarm_is_readable_from_its_moment_until_it_is_noticed() {
        let (alarm, mut poller, mut ready) =
            (Alarm::new().expect("an alarm"), Poller::new().expect("a set"), Vec::new());
        poller.add(&alarm, 7, Interest::READ).expect("watched");
        poller.wait(&mut ready, Some(std::time::Duration::ZERO)).expect("waited");
        assert!(ready.is_empty(), "it was not set");

        let at = monotonic_ns() + 2_000_000;
        alarm.set(at).expect("set");
        poller.wait(&mut ready, None).expect("waited");
        assert!(monotonic_ns() >= at && ready[0].token == 7 && ready[0].readable);
        alarm.reset();
        poller.wait(&mut ready, Some(std::time::Duration::ZERO)).expect("waited");
        assert!(ready.is_empty(), "it was noticed");

        for passed in [0, 1, at] {
            alarm.set(passed).expect("set");
            poller.wait(&mut ready, None).expect("waited");
            assert_eq!(ready.len(), 1, "a moment that has passed comes at once");
            alarm.reset();
        }
    }
}
