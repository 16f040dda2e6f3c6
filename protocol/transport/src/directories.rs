//! Directories that hold what is ours alone.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a directory will not do.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Something else is there.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// Where.
        path: PathBuf,
    },
    /// It belongs to somebody else, who could read or replace what we put there.
    #[error("{} belongs to user {owner}, not to us (user {us}); somebody may have put it there to be found", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Others may write to it, so what is in it may not be ours.
    #[error("{} can be written by others (mode {mode:04o}); `chmod 0700` it after looking at what is inside", path.display())]
    Open {
        /// Where.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The system refused.
    #[error("cannot use the directory {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes `path` (its parent must be there) with mode 0700, or checks that what is there is a real
/// directory, ours, and closed to others.
pub fn ensure_private(path: &Path) -> Result<(), DirectoryError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(DirectoryError::Io { path: path.to_path_buf(), source }),
    }
    check_private(path, super::process::effective_uid())
}

/// Makes `path` and what is missing above it, with mode 0700, and checks that it is a directory.
/// One that is there is used as it is: who made it decided who sees it.
pub fn ensure(path: &Path) -> Result<(), DirectoryError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            DirectoryError::NotADirectory { path: path.to_path_buf() }
        }
        _ => DirectoryError::Io { path: path.to_path_buf(), source },
    })
}

/// Checks that `path` is a real directory that belongs to `us` and that nobody else can write to.
/// One that others may merely read is closed to them.
pub fn check_private(path: &Path, us: u32) -> Result<(), DirectoryError> {
    let failed = |source| DirectoryError::Io { path: path.to_path_buf(), source };
    let found = fs::symlink_metadata(path).map_err(failed)?;
    let mode = found.mode() & 0o7777;
    if !found.is_dir() {
        return Err(DirectoryError::NotADirectory { path: path.to_path_buf() });
    }
    if found.uid() != us {
        return Err(DirectoryError::Foreign { path: path.to_path_buf(), owner: found.uid(), us });
    }
    if mode & 0o022 != 0 {
        return Err(DirectoryError::Open { path: path.to_path_buf(), mode });
    }
    if mode & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}
