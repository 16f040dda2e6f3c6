//! Why a journal cannot be opened, and why one has stopped.

use std::io;
use std::path::PathBuf;

use switchboard_transport::LockError;
use switchboard_transport::directories::DirectoryError;

/// Why a journal was not opened. Nothing in its directory was changed.
///
/// Damage is an alarm and not a guess: whoever reads the message decides whether to bring the directory
/// back from a backup or to give its queues up.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Somebody else writes to it.
    #[error("the journal in {} is {reason}; stop that broker first, or choose another state directory", directory.display())]
    Held {
        /// The journal's directory.
        directory: PathBuf,
        /// By whom.
        reason: LockError,
    },
    /// The directory will not do.
    #[error("directory of the journal: {0}")]
    Directory(#[from] DirectoryError),
    /// The system refused something.
    #[error("cannot {what} {}: {source}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is named like a segment does not begin like one.
    #[error(
        "{} is not a segment of the journal, or its header is damaged: expected {expected} at offset 0; \
         move the file away if it is not the broker's, else bring the directory back from a backup", file.display()
    )]
    Header {
        /// Which file.
        file: PathBuf,
        /// What should be there.
        expected: String,
    },
    /// A later version of Switchboard wrote it.
    #[error(
        "{} has format version {found}, and this broker reads version {known}; run a newer broker on it, or \
         start with an empty state directory", file.display()
    )]
    Newer {
        /// Which file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A segment between two others is gone.
    #[error(
        "segment {missing} of the journal is missing: {} is not there, but earlier and later segments are; \
         bring it back from a backup", file.display()
    )]
    Missing {
        /// Which file.
        file: PathBuf,
        /// Which segment.
        missing: u32,
    },
    /// Records that were on the disk are there no more, or no more as they were.
    #[error(
        "{} is damaged at offset {offset}: expected record {position} there, but {found}; nothing was changed: \
         bring the directory back from a backup, or start with an empty one and without what was queued",
        file.display()
    )]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// The record that should be there.
        position: u64,
        /// What is there, and how we know that the record was there once.
        found: String,
    },
}

/// Why a journal has stopped, for ever. What was not reported as written or synced may or may not be
/// there after a restart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {what} {}: {reason}; the journal has stopped, and nothing durable is accepted until the broker is started again", file.display())]
pub struct Failure {
    /// Which file.
    pub file: PathBuf,
    /// What was tried.
    pub what: &'static str,
    /// What the system said.
    pub reason: String,
}
