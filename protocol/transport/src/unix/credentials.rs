//! Who is at the other end, as the kernel vouches for it.
//!
//! All of it was fixed by the kernel when the peer connected; nothing is asked of the peer. What
//! decides is read at once and costs three system calls. What only informs (`exe`, `cgroup`: both
//! can be arranged by the peer) is read from /proc when somebody wants to see it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use rustix::net::sockopt::socket_peercred;

use super::sockopt;
use super::stream::Stream;

/// A peer's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its effective user. 65534 where the user has no name in our user namespace.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its process; 0 where the process is not visible from our pid namespace.
    pub pid: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// Its security label (SELinux, AppArmor, Smack), where the system has them.
    pub label: Option<String>,
}

impl Credentials {
    /// Asks the kernel about the peer of `stream`.
    pub fn of(stream: &Stream) -> io::Result<Self> {
        let peer = socket_peercred(stream)?;
        Ok(Self {
            uid: peer.uid.as_raw(),
            gid: peer.gid.as_raw(),
            // A process outside our pid namespace reads as 0, which no process here has.
            pid: u32::try_from(peer.pid.as_raw_pid()).unwrap_or(0),
            groups: groups(stream)?,
            label: label(stream),
        })
    }

    /// The peer's control group, if it still runs. Informational.
    pub fn cgroup(&self) -> Option<String> {
        let text = fs::read_to_string(self.proc("cgroup")?).ok()?;
        // The unified hierarchy has the line `0::/path`; it is the one that systemd arranges.
        text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
    }

    /// The peer's executable, if it still runs and we may look. Shown, never a criterion: it can be
    /// forged.
    pub fn exe(&self) -> Option<String> {
        let path = fs::read_link(self.proc("exe")?).ok()?;
        Some(path.to_string_lossy().into_owned())
    }

    fn proc(&self, what: &str) -> Option<String> {
        (self.pid != 0).then(|| format!("/proc/{}/{what}", self.pid))
    }
}

/// A descriptor of the peer's process, which no later process can be mistaken for. `None` before
/// Linux 6.5; before 6.16 also `None` once the peer was reaped. Not part of [`Credentials`], because
/// it would double the descriptors that every connection costs.
pub fn peer_pidfd(stream: &Stream) -> Option<OwnedFd> {
    let mut bytes = [0; size_of::<RawFd>()];
    let length = sockopt::read(stream.as_fd(), sockopt::PEER_PIDFD, &mut bytes).ok()?;
    let fd = RawFd::from_ne_bytes(bytes);
    if length != bytes.len() || fd < 0 {
        return None;
    }
    // SAFETY: the kernel has just made this descriptor for us (SO_PEERPIDFD installs a new one and
    // returns its number, close-on-exec), it is valid, and nobody else knows it, so owning it
    // closes it exactly once.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn groups(stream: &Stream) -> io::Result<Vec<u32>> {
    let mut buffer = [0; 64 * size_of::<u32>()];
    match sockopt::read(stream.as_fd(), sockopt::PEER_GROUPS, &mut buffer) {
        Ok(length) => Ok(parse_groups(&buffer[..length])),
        Err((error, needed)) if error.raw_os_error() == Some(libc::ERANGE) => {
            // At most 65 536 groups exist (NGROUPS_MAX), and they cannot change any more.
            let mut buffer = vec![0; needed.min(65_536 * size_of::<u32>())];
            let length = sockopt::read(stream.as_fd(), sockopt::PEER_GROUPS, &mut buffer)
                .map_err(|(error, _)| error)?;
            Ok(parse_groups(&buffer[..length]))
        }
        // A socket pair has no recorded groups on some kernels, and Linux before 4.13 none at all.
        Err((error, _)) if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::ENOPROTOOPT)) => {
            Ok(Vec::new())
        }
        Err((error, _)) => Err(error),
    }
}

fn parse_groups(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|four| u32::from_ne_bytes([four[0], four[1], four[2], four[3]])).collect()
}

fn label(stream: &Stream) -> Option<String> {
    let mut buffer = [0; 512];
    // Without a security module there is no label, and a label longer than this matches no rule.
    let length = sockopt::read(stream.as_fd(), sockopt::PEER_LABEL, &mut buffer).ok()?;
    let label = String::from_utf8_lossy(&buffer[..length]);
    let label = label.trim_end_matches(['\0', '\n']);
    (!label.is_empty()).then(|| label.to_owned())
}
