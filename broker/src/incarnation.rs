//! The broker's incarnation: a number that grows with every start, so that an epoch given by an
//! earlier broker can be told from every later one.
//!
//! It is on disk before anybody connects. The state directory is locked, so that two brokers never
//! count in the same file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use switchboard_transport::directories::{self, DirectoryError};
use switchboard_transport::{FileLock, LockError};

/// The state directory, ours until dropped.
#[derive(Debug)]
pub(crate) struct StateDirectory {
    path: PathBuf,
    _lock: FileLock,
}

/// Why there is no state directory or no next incarnation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("state directory: {0}")]
    Directory(#[from] DirectoryError),
    #[error(
        "the state directory {} is {reason}; stop that broker first, or choose another directory with --state-dir",
        path.display()
    )]
    Held { path: PathBuf, reason: LockError },
    #[error("cannot {what} {}: {source}", path.display())]
    Io { path: PathBuf, what: &'static str, source: io::Error },
    #[error(
        "{} should hold one number, the incarnation of the last broker, but holds {found:?}; write a number into it \
         that is greater than every incarnation before, or delete it if no client remembers epochs",
        path.display()
    )]
    Damaged { path: PathBuf, found: String },
}

impl StateDirectory {
    /// Makes the directory if it is missing, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        directories::ensure(path)?;
        match FileLock::take(&path.join("lock")) {
            Ok(lock) => Ok(Self { path: path.to_path_buf(), _lock: lock }),
            Err(LockError::Io(source)) => {
                Err(StateError::Io { path: path.join("lock"), what: "lock", source })
            }
            Err(reason @ LockError::Held { .. }) => {
                Err(StateError::Held { path: path.to_path_buf(), reason })
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next incarnation, durably counted: the new file is complete on disk before it takes the
    /// place of the old one, and the change of place is on disk before this returns.
    pub(crate) fn next_incarnation(&self) -> Result<u32, StateError> {
        let path = self.path.join("incarnation");
        let failed = |what| {
            let path = path.clone();
            move |source| StateError::Io { path, what, source }
        };
        let last = match fs::read_to_string(&path) {
            Ok(text) => text
                .trim()
                .parse::<u32>()
                .ok()
                .filter(|&last| last < u32::MAX)
                .ok_or(StateError::Damaged { path: path.clone(), found: text })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(failed("read")(error)),
        };
        let next = last + 1;
        let draft = self.path.join("incarnation.new");
        let mut file = File::create(&draft).map_err(failed("write"))?;
        writeln!(file, "{next}").and_then(|()| file.sync_all()).map_err(failed("write"))?;
        fs::rename(&draft, &path).map_err(failed("replace"))?;
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(failed("make durable"))?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnations_grow_and_survive() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path().join("a/b");
        for want in 1..4 {
            let state = StateDirectory::open(&path).expect("free");
            assert_eq!(state.next_incarnation().expect("counted"), want);
        }
    }

    #[test]
    fn a_state_directory_in_use_is_refused_with_its_holder() {
        let temporary = tempfile::tempdir().expect("a directory");
        let _state = StateDirectory::open(temporary.path()).expect("free");
        let error = StateDirectory::open(temporary.path()).expect_err("held").to_string();
        assert!(
            error.contains(&format!("process {}", std::process::id())) && error.contains("--state-dir"),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_file_is_an_alarm_and_not_a_guess() {
        let temporary = tempfile::tempdir().expect("a directory");
        fs::write(temporary.path().join("incarnation"), "twelve\n").expect("written");
        let state = StateDirectory::open(temporary.path()).expect("free");
        let error = state.next_incarnation().expect_err("damaged").to_string();
        assert!(error.contains("twelve"), "{error}");
        assert_eq!(fs::read_to_string(temporary.path().join("incarnation")).expect("there"), "twelve\n");
    }
}
