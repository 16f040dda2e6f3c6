//! Who can be read or written: level-triggered epoll.
//!
//! Level-triggered, so that a reader may stop after one bounded read and is told again; that is
//! what makes bounded work per turn simple. Hang-ups are asked for explicitly (`EPOLLRDHUP`), so
//! that a peer's death is seen even while reading from it is paused.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;

use super::timespec;

/// A set of file descriptors that is waited on.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

/// What to be told about. A hang-up is always told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Tell when there is something to read.
    pub readable: bool,
    /// Tell when there is room to write.
    pub writable: bool,
}

impl Interest {
    /// Reading only.
    pub const READ: Self = Self { readable: true, writable: false };
    /// Writing only.
    pub const WRITE: Self = Self { readable: false, writable: true };
    /// Both.
    pub const BOTH: Self = Self { readable: true, writable: true };
    /// Only a hang-up.
    pub const NONE: Self = Self { readable: false, writable: false };
}

/// One file descriptor that is ready, by the token it was added with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The token given to [`Poller::add`].
    pub token: u64,
    /// A read will not block. Also set with `hangup`, since the end of a stream is read.
    pub readable: bool,
    /// A write will not block.
    pub writable: bool,
    /// The peer closed its end or is gone; what it sent before may still be readable.
    pub hangup: bool,
}

/// How many ready descriptors one [`Poller::wait`] takes in: bounded work per turn. The kernel
/// rotates its list, so that those left over come first next time.
const EVENTS_MAX: usize = 512;

impl Poller {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Begins to watch `fd`; it is reported with `token`.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags(interest))?)
    }

    /// Changes what is told about `fd`.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token), flags(interest))?)
    }

    /// Stops watching `fd`. Closing the last copy of a descriptor does the same.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Waits until something is ready or `timeout` has passed (`None`: however long it takes), and
    /// puts what is ready into `ready`, which is cleared first. A signal ends the wait early, with
    /// nothing ready; a time-out never does: it is rounded up to the kernel's millisecond, so that
    /// who waits for a deadline does not wake before it and spin.
    pub fn wait(&mut self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        self.events.clear();
        // Beyond 24 days the kernel's milliseconds do not fit; who waits that long can look again.
        let timeout = timeout.map(|timeout| timespec(timeout.min(Duration::from_millis(i32::MAX as u64))));
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        ready.extend(self.events.iter().map(|event| {
            let flags = event.flags;
            let over = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            let hangup = flags.intersects(over);
            Ready {
                token: event.data.u64(),
                readable: hangup || flags.contains(epoll::EventFlags::IN),
                writable: flags.contains(epoll::EventFlags::OUT),
                hangup,
            }
        }));
        Ok(())
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Poller").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn flags(interest: Interest) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::RDHUP;
    flags.set(epoll::EventFlags::IN, interest.readable);
    flags.set(epoll::EventFlags::OUT, interest.writable);
    flags
}
