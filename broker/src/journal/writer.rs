//! What is done to the disk for a batch, and in which order.
//!
//! Nothing is reported that has not happened: `written` after the write, `synced` after the sync. The
//! first failure is the last thing that is done, because after a failed sync nobody knows what is on the
//! disk, and asking again does not tell. A segment has its name only when it is complete, and the one
//! before it is synced by then, so that only the last segment can have a torn end.

use std::io;

use super::batch::{Batch, What};
use super::disk::Disk;
use super::error::Failure;
use super::format::{self, SEGMENT_HEADER, SegmentHeader};

/// How a journal is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes that a new segment reserves on the disk. More fit, but cost more to sync.
    pub preallocated_bytes: u64,
    /// What the salts of new segments grow from: unpredictable, or chosen by a simulation.
    pub salt: u32,
}

/// The writing half of a journal, without a thread: [`recover`](super::recover) makes one.
#[derive(Debug)]
pub struct Writer<D: Disk> {
    disk: D,
    layout: Layout,
    /// Where records go. None before the first segment.
    current: Option<Current<D::File>>,
    /// The oldest segment that is there, if any is.
    oldest: Option<u32>,
    written: u64,
    synced: u64,
    failure: Option<Failure>,
}

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct Current<F> {
    pub(crate) segment: u32,
    pub(crate) file: F,
    pub(crate) salt: u32,
    /// Where the next record goes.
    pub(crate) end: u64,
}

impl<D: Disk> Writer<D> {
    /// Goes on where recovery ended: everything through `last` is on the disk.
    pub(crate) fn resume(
        disk: D,
        layout: Layout,
        current: Option<Current<D::File>>,
        oldest: Option<u32>,
        last: u64,
    ) -> Self {
        Self { disk, layout, current, oldest, written: last, synced: last, failure: None }
    }

    /// All records through this position were written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// All records through this position are on the disk.
    pub fn synced(&self) -> u64 {
        self.synced
    }

    /// Why nothing is written any more.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The disk that it writes to, for a simulation to let something go wrong.
    pub fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    /// The disk alone: what is left of a broker that was killed.
    pub fn into_disk(self) -> D {
        self.disk
    }

    /// Writes a batch, with what happens to segments in it. What somebody waits for to be on the disk
    /// needs [`sync`](Self::sync) as well. The batch is used up and can be cleared.
    pub fn write(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        self.unless_failed(|writer| writer.try_write(batch))
    }

    /// Syncs what was written, if anything was.
    pub fn sync(&mut self) -> Result<(), Failure> {
        self.unless_failed(Self::try_sync)
    }

    /// Ends in order: everything synced, a mark that says so, and no space taken that is not used.
    pub fn close(&mut self) -> Result<(), Failure> {
        self.unless_failed(Self::try_close)
    }

    fn unless_failed(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Failure>) -> Result<(), Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let outcome = work(self);
        self.failure = outcome.as_ref().err().cloned();
        outcome
    }

    fn try_write(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        let mut rest = batch.bytes.as_mut_slice();
        let mut done = 0;
        for change in &batch.changes {
            let (records, others) = rest.split_at_mut(change.at - done);
            self.append(records)?;
            (rest, done) = (others, change.at);
            match change.what {
                What::Roll(segment) => self.roll(segment)?,
                What::Drop(segment) => self.drop_segment(segment)?,
            }
        }
        self.append(rest)
    }

    fn append(&mut self, records: &mut [u8]) -> Result<(), Failure> {
        if records.is_empty() {
            return Ok(());
        }
        let current = self.current.as_mut().expect("a segment begins before the first record");
        let last = format::seal(records, self.written, self.synced, current.salt);
        if let Err(error) = write_all(&mut self.disk, &current.file, current.end, records) {
            return Err(failure(&self.disk, &segment_name(current.segment), "write", &error));
        }
        current.end += records.len() as u64;
        self.written = last;
        Ok(())
    }

    fn try_sync(&mut self) -> Result<(), Failure> {
        if self.synced == self.written {
            return Ok(());
        }
        self.sync_current()?;
        self.synced = self.written;
        Ok(())
    }

    fn sync_current(&mut self) -> Result<(), Failure> {
        let current = self.current.as_ref().expect("what was written is in a segment");
        let synced = self.disk.sync(&current.file);
        synced.map_err(|error| failure(&self.disk, &segment_name(current.segment), "sync", &error))
    }

    /// Begins a segment. It is written and synced under another name first, so that whatever has a
    /// segment's name begins like one, also after the power went in between.
    fn roll(&mut self, segment: u32) -> Result<(), Failure> {
        let before = self.current.as_ref().map(|current| current.segment);
        assert!(
            before.map_or(segment == 1, |before| before.checked_add(1) == Some(segment)),
            "segment {segment} follows segment {before:?}"
        );
        self.trim()?;
        self.try_sync()?;
        let salt = crc32c::crc32c_append(self.layout.salt, &segment.to_le_bytes());
        let header = SegmentHeader { segment, first_position: self.written + 1, salt }.encode();
        let (draft, name) = (draft_name(segment), segment_name(segment));
        let disk = &mut self.disk;
        let file = disk.create(&draft).map_err(|error| failure(disk, &draft, "create", &error))?;
        disk.preallocate(&file, self.layout.preallocated_bytes)
            .map_err(|error| failure(disk, &draft, "reserve space for", &error))?;
        write_all(disk, &file, 0, &header).map_err(|error| failure(disk, &draft, "write", &error))?;
        disk.sync(&file).map_err(|error| failure(disk, &draft, "sync", &error))?;
        disk.rename(&draft, &name).map_err(|error| failure(disk, &draft, "rename", &error))?;
        disk.sync_directory().map_err(|error| failure(disk, "", "sync", &error))?;
        self.current = Some(Current { segment, file, salt, end: SEGMENT_HEADER as u64 });
        self.oldest.get_or_insert(segment);
        Ok(())
    }

    /// Removes the oldest segment. What was appended before this was asked for may stand in for what
    /// is in it, so that comes to the disk first. The directory is synced each time: names must not go
    /// in another order than they were removed in.
    fn drop_segment(&mut self, segment: u32) -> Result<(), Failure> {
        let current = self.current.as_ref().map(|current| current.segment);
        assert!(
            self.oldest == Some(segment) && current > Some(segment),
            "segment {segment} is dropped, but the oldest is {:?} and the current one {current:?}",
            self.oldest
        );
        self.try_sync()?;
        let (disk, name) = (&mut self.disk, segment_name(segment));
        disk.remove(&name).map_err(|error| failure(disk, &name, "remove", &error))?;
        disk.sync_directory().map_err(|error| failure(disk, "", "sync", &error))?;
        self.oldest = Some(segment + 1);
        Ok(())
    }

    fn try_close(&mut self) -> Result<(), Failure> {
        self.try_sync()?;
        let Some(current) = &mut self.current else { return Ok(()) };
        let (disk, name) = (&mut self.disk, segment_name(current.segment));
        let mark = format::mark(self.synced, current.salt);
        write_all(disk, &current.file, current.end, &mark)
            .map_err(|error| failure(disk, &name, "write", &error))?;
        current.end += mark.len() as u64;
        self.trim()?;
        self.sync_current()
    }

    /// Gives back the reserved space that was not used.
    fn trim(&mut self) -> Result<(), Failure> {
        let Some(current) = &self.current else { return Ok(()) };
        let trimmed = self.disk.set_length(&current.file, current.end);
        trimmed.map_err(|error| failure(&self.disk, &segment_name(current.segment), "trim", &error))
    }
}

/// The file of a segment.
pub(crate) fn segment_name(segment: u32) -> String {
    format!("{segment:010}.log")
}

/// The file of a segment that is not complete yet.
pub(crate) fn draft_name(segment: u32) -> String {
    format!("{segment:010}.log.new")
}

/// Writes all of it, however little the disk takes at once.
pub(crate) fn write_all<D: Disk>(
    disk: &mut D,
    file: &D::File,
    mut offset: u64,
    mut bytes: &[u8],
) -> io::Result<()> {
    while !bytes.is_empty() {
        match disk.write_at(file, offset, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                offset += count as u64;
                bytes = &bytes[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn failure<D: Disk>(disk: &D, name: &str, what: &'static str, error: &io::Error) -> Failure {
    Failure { file: disk.path(name), what, reason: error.to_string() }
}
