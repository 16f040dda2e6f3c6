//! The socket that peers connect to, and the lock that keeps it from being stolen.
//!
//! A Unix socket file outlives a daemon that was killed, and nothing about the file tells whether
//! somebody still listens. So a daemon first takes `PATH.lock`, which the kernel releases when its
//! holder dies, however it dies. With the lock held, a socket file on which nobody answers is
//! stale, and only then is it replaced.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use interprocess::local_socket::{
    GenericFilePath, Listener as LocalListener, ListenerNonblockingMode, ListenerOptions, ToFsName,
    traits::Listener as _,
};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use interprocess::os::unix::uds_local_socket;
use rustix::net::{self, sockopt};

use super::credentials::Credentials;
use super::lock::{FileLock, LockError};
use super::stream::Stream;

/// Bytes a socket's path may have: `sun_path` is 108 with its terminator.
pub(crate) const PATH_MAX: usize = 107;

/// Connections that may wait to be accepted. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: uds_local_socket::Listener,
    /// Absent when the socket was handed to us: then it is not ours to unlink.
    claim: Option<Claim>,
}

/// What binding leaves on disk. The lock is dropped last, after the socket file is gone.
#[derive(Debug)]
struct Claim {
    path: PathBuf,
    inode: (u64, u64),
    _lock: FileLock,
}

/// How to bind.
#[derive(Clone, Copy, Debug)]
pub struct BindOptions {
    /// Permissions of the socket file, whatever the umask: who may connect needs write permission.
    pub mode: u32,
}

impl Default for BindOptions {
    /// Only our own user may connect.
    fn default() -> Self {
        Self { mode: 0o600 }
    }
}

/// Why a socket was not bound. Each says which path, and what to do where something can be done.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A live daemon listens there.
    #[error(
        "{} is served by {}; stop it first, or choose another socket with --socket",
        path.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held {
        /// The socket's path.
        path: PathBuf,
        /// Who listens, where known.
        pid: Option<u32>,
    },
    /// Something else than a socket has that path; it is left alone.
    #[error("{} exists and is not a socket; remove it, or choose another socket with --socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The path does not fit into a socket address.
    #[error("socket path too long: {} has {length} bytes, a socket's path may have {PATH_MAX}", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The directory is missing.
    #[error("cannot make {}: its directory does not exist", path.display())]
    NoDirectory {
        /// The socket's path.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a waiting connection was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// This process or the machine has no free descriptor. The connection still waits.
    #[error("no free file descriptor")]
    OutOfFds,
    /// Anything else; the connection is gone.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Listener {
    /// Takes `PATH.lock`, replaces a stale socket, and listens.
    pub fn bind(path: &Path, options: BindOptions) -> Result<Self, BindError> {
        let length = path.as_os_str().len();
        if length > PATH_MAX {
            return Err(BindError::PathTooLong { path: path.to_path_buf(), length });
        }
        let failed = |what| move |source| BindError::Io { path: path.to_path_buf(), what, source };

        let lock = take_lock(path)?;
        remove_stale(path)?;
        let LocalListener::UdSocket(socket) = path
            .to_fs_name::<GenericFilePath>()
            .and_then(|name| {
                ListenerOptions::new()
                    .name(name)
                    .mode(options.mode)
                    .nonblocking(ListenerNonblockingMode::Accept)
                    // Both would act without knowing of the lock.
                    .reclaim_name(false)
                    .try_overwrite(false)
                    .create_sync()
            })
            .map_err(failed("listen on"))?;
        let found = fs::symlink_metadata(path).map_err(failed("look at"))?;
        let claim = Claim { path: path.to_path_buf(), inode: (found.dev(), found.ino()), _lock: lock };
        // The mode was masked by the umask when the file was made, so this only ever widens it.
        fs::set_permissions(path, Permissions::from_mode(options.mode))
            .map_err(failed("set permissions of"))?;
        net::listen(&socket, BACKLOG).map_err(|error| failed("listen on")(error.into()))?;
        Ok(Self { socket, claim: Some(claim) })
    }

    /// Adopts a socket that somebody else bound and listens on, such as systemd's. It is neither
    /// locked nor unlinked: whoever made it does that.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let wrong = |what: &str| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("the inherited descriptor {what}"))
        };
        if sockopt::socket_domain(&fd)? != net::AddressFamily::UNIX {
            return Err(wrong("is not a Unix socket"));
        }
        if sockopt::socket_type(&fd)? != net::SocketType::STREAM {
            return Err(wrong("is not a stream socket"));
        }
        if !sockopt::socket_acceptconn(&fd)? {
            return Err(wrong("does not listen"));
        }
        rustix::io::ioctl_fionbio(&fd, true)?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        Ok(Self { socket: uds_local_socket::Listener::from(fd), claim: None })
    }

    /// Accepts one waiting connection and asks the kernel who it is. `None` if none waits.
    pub fn accept(&self) -> Result<Option<(Stream, Credentials)>, AcceptError> {
        let socket = match self.socket.accept() {
            Ok(socket) => socket,
            Err(error) => {
                return match (error.kind(), error.raw_os_error()) {
                    // It left before we looked: as if it had never come.
                    (
                        io::ErrorKind::WouldBlock
                        | io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::Interrupted,
                        _,
                    ) => Ok(None),
                    (_, Some(libc::EMFILE | libc::ENFILE)) => Err(AcceptError::OutOfFds),
                    _ => Err(AcceptError::Io(error)),
                };
            }
        };
        let stream = Stream::from(OwnedFd::from(socket));
        let credentials = Credentials::of(&stream)?;
        Ok(Some((stream, credentials)))
    }

    /// The path it listens on, if it bound it itself.
    pub fn path(&self) -> Option<&Path> {
        self.claim.as_ref().map(|claim| claim.path.as_path())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Only our own socket: someone may have moved another into its place.
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.inode);
        if ours {
            // If it cannot be removed it is stale, and the next daemon replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn take_lock(path: &Path) -> Result<FileLock, BindError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    FileLock::take(&lock_path).map_err(|error| match error {
        LockError::Held { pid } => BindError::Held { path: path.to_path_buf(), pid },
        LockError::Io(source) if source.kind() == io::ErrorKind::NotFound => {
            BindError::NoDirectory { path: path.to_path_buf() }
        }
        LockError::Io(source) => BindError::Io { path: lock_path, what: "lock", source },
    })
}

/// With the lock held: removes a socket file that nobody listens on. A listener that knows nothing
/// of our lock (systemd's, or another program's) is found by asking, and left alone.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let failed = |what| move |source| BindError::Io { path: path.to_path_buf(), what, source };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket { path: path.to_path_buf() });
    }
    // Non-blocking, so that a live listener with a full backlog cannot hold us up.
    let probe = net::socket_with(
        net::AddressFamily::UNIX,
        net::SocketType::STREAM,
        net::SocketFlags::CLOEXEC | net::SocketFlags::NONBLOCK,
        None,
    )
    .map_err(|error| failed("probe")(error.into()))?;
    let address = net::SocketAddrUnix::new(path).map_err(|error| failed("probe")(error.into()))?;
    match net::connect(&probe, &address) {
        Err(rustix::io::Errno::CONNREFUSED) => {
            fs::remove_file(path).map_err(failed("remove the stale socket"))
        }
        Err(rustix::io::Errno::NOENT) => Ok(()),
        // It answered, or is too busy to, or is of another kind: somebody is there.
        Ok(()) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::PROTOTYPE) => {
            let pid = sockopt::socket_peercred(&probe)
                .ok()
                .and_then(|peer| u32::try_from(peer.pid.as_raw_pid()).ok());
            Err(BindError::Held { path: path.to_path_buf(), pid })
        }
        Err(error) => Err(failed("probe")(error.into())),
    }
}
