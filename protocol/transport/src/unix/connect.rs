//! Connecting to a broker's socket.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use interprocess::local_socket::{GenericFilePath, ToFsName, traits::Stream as _};

use super::listener::PATH_MAX;
use super::stream::Stream;

/// Why nobody was reached. Each says which path and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no socket file.
    #[error("no broker at {}: there is no such socket; start one with `switchboardd`, or name another with --socket or SWITCHBOARD_SOCKET", path.display())]
    NoSocket {
        /// The socket's path.
        path: PathBuf,
    },
    /// The socket file is there, but nobody listens: its broker ended without cleaning up.
    #[error("no broker at {}: the socket is there but nobody listens on it (its broker was killed); start one with `switchboardd`", path.display())]
    NobodyListens {
        /// The socket's path.
        path: PathBuf,
    },
    /// We may not connect.
    #[error("no permission to connect to {}: the socket or a directory above it is not open to this user", path.display())]
    Permission {
        /// The socket's path.
        path: PathBuf,
    },
    /// The path does not fit into a socket address.
    #[error("socket path too long: {} has {length} bytes, a socket's path may have {PATH_MAX}", path.display())]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// Anything else.
    #[error("cannot connect to {}: {source}", path.display())]
    Other {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ConnectError {
    /// Whether a broker may simply not be up yet (or any more), so that trying again makes sense.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NoSocket { .. } | Self::NobodyListens { .. })
    }
}

/// What the kernel holds of what we send (of which it counts half as its own), where the system allows that
/// (`net.core.wmem_max`). Only on our side: what is sent is charged to its sender, and the broker must not
/// owe so much to each of those who do not read.
///
/// Every piece that a frame is written in costs a wake-up of both sides, and a piece larger than the caches has
/// to come from memory again. Calls of 1 MiB on a machine with 2 MiB of second-level cache, on one core and
/// on two: with 208 KiB 530 and 985 µs, 288 KiB 525 and 765, 320 KiB 575 and 705, 1 MiB 575 and 625.
const SEND_BUFFER_BYTES: usize = 288 << 10;

/// Connects to the socket at `path`. Waits while the broker's queue of new connections is full.
pub fn connect(path: &Path) -> Result<Stream, ConnectError> {
    let length = path.as_os_str().len();
    let path_of = || path.to_path_buf();
    if length > PATH_MAX {
        return Err(ConnectError::PathTooLong { path: path_of(), length });
    }
    let connected =
        path.to_fs_name::<GenericFilePath>().and_then(interprocess::local_socket::Stream::connect);
    match connected {
        Ok(interprocess::local_socket::Stream::UdSocket(socket)) => {
            let stream = Stream::from(OwnedFd::from(socket));
            // Where the system does not let us have it, large messages take more writes.
            let _ = stream.set_send_buffer(SEND_BUFFER_BYTES);
            Ok(stream)
        }
        Err(source) => Err(match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                ConnectError::NoSocket { path: path_of() }
            }
            io::ErrorKind::ConnectionRefused => ConnectError::NobodyListens { path: path_of() },
            io::ErrorKind::PermissionDenied => ConnectError::Permission { path: path_of() },
            _ => ConnectError::Other { path: path_of(), source },
        }),
    }
}
