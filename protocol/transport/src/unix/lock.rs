//! A lock that dies with its holder: flock on a file that says who holds it.
//!
//! The file itself is never deleted: a lock on a deleted file protects nothing, and deleting it
//! safely needs a lock.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The lock, held until dropped.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process (or another part of this one) holds it.
    #[error("held by {}", .pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Held {
        /// Who, as it wrote into the file.
        pid: Option<u32>,
    },
    /// The file cannot be made or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FileLock {
    /// Takes the lock at `path`, without waiting, and writes our process id into the file.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // In a shared directory somebody may have laid a link there.
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held { pid: read_pid(&mut file) }),
            Err(error) => return Err(LockError::Io(error.into())),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", super::process::id())?;
        Ok(Self { _file: file })
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
