//! Bugs, planted between the journal and its disk: what a writer or a recovery would do to the disk if
//! it left out a step or hid a failure.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;

use switchboard_broker::journal::{Disk, FileId, SimDisk};

/// What is left out or hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// None: the journal as it is.
    Honest,
    /// Files are never synced.
    NoSync,
    /// A failed sync is taken for a good one.
    IgnoresFailedSync,
    /// A failed sync is tried again, and the second answer believed.
    RetriesFailedSync,
    /// The directory is never synced.
    NoDirectorySync,
    /// A new segment gets its name before its header is synced.
    NoHeaderSync,
    /// A short write is taken for a whole one.
    IgnoresShortWrite,
    /// A torn end is not erased.
    LeavesTornEnd,
    /// What may not be on the disk is not written again by recovery.
    NoRewrite,
    /// What recovery mended and found is not synced.
    NoRecoverySync,
    /// The world takes what was written for synced (see `world.rs`).
    ReportsEarly,
    /// The world has a segment dropped before what stands in for it is appended (see `world.rs`).
    DropsEarly,
}

/// A simulated disk behind a lie.
pub(crate) struct Lying<'a> {
    pub(crate) disk: &'a mut SimDisk,
    pub(crate) lie: Lie,
    /// Whether recovery is over.
    pub(crate) running: &'a Cell<bool>,
    pub(crate) last_created: Option<FileId>,
}

impl Disk for Lying<'_> {
    type File = FileId;

    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }
    fn list(&mut self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn open(&mut self, name: &str) -> io::Result<FileId> {
        self.disk.open(name)
    }
    fn create(&mut self, name: &str) -> io::Result<FileId> {
        let file = self.disk.create(name)?;
        self.last_created = Some(file);
        Ok(file)
    }
    fn length(&mut self, file: &FileId) -> io::Result<u64> {
        self.disk.length(file)
    }
    fn read_at(&mut self, file: &FileId, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(file, offset, to)
    }
    fn write_at(&mut self, file: &FileId, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        if self.lie == Lie::NoRewrite && !self.running.get() {
            return Ok(bytes.len());
        }
        let count = self.disk.write_at(file, offset, bytes)?;
        Ok(if self.lie == Lie::IgnoresShortWrite { bytes.len() } else { count })
    }
    fn set_length(&mut self, file: &FileId, length: u64) -> io::Result<()> {
        if self.lie == Lie::LeavesTornEnd && !self.running.get() {
            return Ok(());
        }
        self.disk.set_length(file, length)
    }
    fn preallocate(&mut self, file: &FileId, length: u64) -> io::Result<()> {
        self.disk.preallocate(file, length)
    }
    fn sync(&mut self, file: &FileId) -> io::Result<()> {
        match self.lie {
            Lie::NoSync => Ok(()),
            Lie::NoRecoverySync if !self.running.get() => Ok(()),
            Lie::NoHeaderSync if self.last_created == Some(*file) => {
                self.last_created = None;
                Ok(())
            }
            Lie::IgnoresFailedSync => self.disk.sync(file).or(Ok(())),
            Lie::RetriesFailedSync => self.disk.sync(file).or_else(|_| self.disk.sync(file)),
            Lie::Honest
            | Lie::NoDirectorySync
            | Lie::NoHeaderSync
            | Lie::IgnoresShortWrite
            | Lie::LeavesTornEnd
            | Lie::NoRewrite
            | Lie::NoRecoverySync
            | Lie::ReportsEarly
            | Lie::DropsEarly => self.disk.sync(file),
        }
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        if self.lie == Lie::NoDirectorySync {
            return Ok(());
        }
        self.disk.sync_directory()
    }
}
