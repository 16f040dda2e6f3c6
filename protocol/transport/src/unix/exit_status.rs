//! How a dead peer ended, where the kernel tells (Linux 6.15: the exit record of a pidfd).

use std::os::fd::{AsFd, AsRawFd};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerExit {
    /// It returned this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl PeerExit {
    /// As `wait(2)` has it.
    pub fn wait_status(self) -> u32 {
        match self {
            Self::Code(code) => (code as u32 & 0xff) << 8,
            Self::Signal(signal) => signal as u32 & 0x7f,
        }
    }
}

/// How the process of `pidfd` ended. `None` while it runs or waits to be reaped by its parent, and
/// on kernels that do not tell.
pub fn exit_of(pidfd: impl AsFd) -> Option<PeerExit> {
    let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: this request makes the kernel read and write one `pidfd_info` of the size encoded in
    // the request number, which is the size of `info`; it keeps no pointer, and every field is an
    // integer, for which all bit patterns are valid. A descriptor that is no pidfd gives an error.
    let result = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), GET_INFO, &raw mut info) };
    if result < 0 || info.mask & INFO_EXIT == 0 {
        return None;
    }
    // A wait status: the low seven bits are the signal, the second byte is the code.
    Some(match info.exit_code & 0x7f {
        0 => PeerExit::Code((info.exit_code >> 8) & 0xff),
        signal => PeerExit::Signal(signal),
    })
}

/// Whether the process of `pidfd` has ended, on every kernel that has pidfds: it reads as readable then
/// (pidfd_open(2)).
pub fn has_ended(pidfd: impl AsFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1..))
}

/// The first published form of the kernel's `struct pidfd_info`.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    pid: u32,
    thread_group: u32,
    parent: u32,
    ids: [u32; 8],
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

const INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xff, 11, struct pidfd_info)`.
const GET_INFO: libc::Ioctl = (3 << 30) | (64 << 16) | (0xff << 8) | 11;
