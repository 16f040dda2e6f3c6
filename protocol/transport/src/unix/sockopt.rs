//! Socket options that rustix does not have.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// `SO_PEERSEC`: the peer's security label.
pub(crate) const PEER_LABEL: i32 = 31;
/// `SO_PEERGROUPS`: the peer's supplementary groups when it connected.
pub(crate) const PEER_GROUPS: i32 = 59;
/// `SO_PEERPIDFD`: a descriptor of the peer's process (Linux 6.5).
pub(crate) const PEER_PIDFD: i32 = 77;

/// Reads one `SOL_SOCKET` option into `buffer`. Returns how many bytes it has, or, with `ERANGE`,
/// how many it would need.
pub(crate) fn read(fd: BorrowedFd<'_>, option: i32, buffer: &mut [u8]) -> Result<usize, (io::Error, usize)> {
    let mut length = libc::socklen_t::try_from(buffer.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the kernel writes at most `length` bytes to `buffer`, which is at least that long and
    // exclusively ours, and the new length to `length`; it keeps neither pointer. Any bytes are
    // valid as `u8`. The descriptor is open for as long as it is borrowed.
    let result = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if result < 0 { Err((io::Error::last_os_error(), length)) } else { Ok(length.min(buffer.len())) }
}
