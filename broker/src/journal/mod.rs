//! The journal: one append-only log of records in segment files, written by one thread.
//!
//! The core decides what is in a record, when a segment begins and when one goes; the journal obeys. The
//! loop adds records to a batch in memory. The thread takes what has gathered, writes it with one write
//! and one sync, and says how far it has come; meanwhile the loop fills the next. Only what is reported
//! as synced is promised to be there after the power went. FORMAT.md has the bytes.
//!
//! ```
//! use std::sync::Arc;
//! use switchboard_broker::journal::{Journal, Level, Options, Progress};
//! use switchboard_transport::{Poller, Interest, Waker};
//!
//! # let folder = tempfile::tempdir()?;
//! # let directory = folder.path();
//! let waker = Arc::new(Waker::new()?);
//! let options = Options::new()?;
//! let opened = Journal::open(directory, options, Arc::clone(&waker), &mut |_record| {})?;
//! let mut journal = opened.journal;
//! journal.roll(1);
//! journal.append(1, &[b"a header of the core's, ", b"a payload"]);
//! journal.want(Level::Disk);
//! journal.commit();
//!
//! let mut poller = Poller::new()?;
//! poller.add(&*waker, 0, Interest::READ)?;
//! while journal.progress() != Some(Progress::Through { written: 1, synced: 1 }) {
//!     poller.wait(&mut Vec::new(), None)?;
//!     waker.reset();
//! }
//! journal.close()?;
//!
//! let mut records = Vec::new();
//! Journal::open(directory, options, waker, &mut |record| records.push(record.bytes.to_vec()))?;
//! assert_eq!(records, [b"a header of the core's, a payload"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod disk;
mod error;
mod format;
mod fs_disk;
mod handoff;
mod reader;
mod recovery;
mod sim_disk;
mod writer;

pub use batch::{Batch, Level};
pub use disk::Disk;
pub use error::{Failure, JournalError};
pub use format::{FORMAT_VERSION, RECORD_BYTES_MAX};
pub use fs_disk::FsDisk;
pub use handoff::Progress;
pub use recovery::{Cut, Recovered, Recovery, Segment, recover};
pub use sim_disk::{Faults, FileId, SimDisk};
pub use writer::{Layout, Writer};

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::{io, mem};

use switchboard_transport::{FileLock, LockError, Waker, directories, random_seed};

use handoff::{Handoff, Reached};

/// How a journal in a directory is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What a simulation would choose as well.
    pub layout: Layout,
}

impl Options {
    /// Segments of 64 MiB, and a salt that nobody can guess.
    pub fn new() -> io::Result<Self> {
        let salt = random_seed()?[0] as u32;
        Ok(Self { layout: Layout { preallocated_bytes: 64 << 20, salt } })
    }
}

/// A journal that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Ready for the next record.
    pub journal: Journal,
    /// The position of the next record.
    pub next_position: u64,
    /// The segments, oldest first. If there are none, the first thing to do is `roll(1)`.
    pub segments: Vec<Segment>,
    /// Whether there was a torn end: a fact to be logged.
    pub cut: Option<Cut>,
}

/// The loop's end of a journal. Nothing here waits for a disk, except the end.
#[derive(Debug)]
pub struct Journal {
    handoff: Arc<Handoff>,
    thread: Option<JoinHandle<()>>,
    /// What was added in this turn. Its memory is the handoff's between turns.
    batch: Option<Batch>,
    next_position: u64,
    /// The last segment begun; 0 before the first.
    segment: u32,
    seen: Reached,
    bytes_appended: u64,
    /// Held as long as somebody could write.
    _lock: Option<FileLock>,
}

impl Journal {
    /// Opens the journal in `directory`, which is made if it is missing, hands each record that is in it
    /// to `visit`, in order, and starts the thread. `waker` is woken whenever there may be
    /// [`progress`](Self::progress); whoever polls it resets it first and asks then.
    pub fn open(
        directory: &Path,
        options: Options,
        waker: Arc<Waker>,
        visit: &mut dyn FnMut(Recovered<'_>),
    ) -> Result<Opened, JournalError> {
        directories::ensure(directory)?;
        let lock_file = directory.join("lock");
        let lock = FileLock::take(&lock_file).map_err(|reason| match reason {
            LockError::Io(source) => JournalError::Io { file: lock_file, what: "lock", source },
            LockError::Held { .. } => JournalError::Held { directory: directory.to_path_buf(), reason },
        })?;
        let failed = |what| move |source| JournalError::Io { file: directory.to_path_buf(), what, source };
        let disk = FsDisk::open(directory).map_err(failed("open"))?;
        let recovery = recover(disk, options.layout, visit)?;
        Self::start(recovery, Some(lock), waker).map_err(failed("start a thread for"))
    }

    /// Starts the thread over any disk: what [`open`](Self::open) does in the end, for tests of it.
    pub fn start<D>(recovery: Recovery<D>, lock: Option<FileLock>, waker: Arc<Waker>) -> io::Result<Opened>
    where
        D: Disk<File: Send> + Send + 'static,
    {
        let Recovery { writer, next_position, segments, cut } = recovery;
        let last = next_position - 1;
        let handoff = Arc::new(Handoff::new(last));
        let theirs = Arc::clone(&handoff);
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || write_all(writer, &theirs, &waker))?;
        let journal = Self {
            handoff,
            thread: Some(thread),
            batch: Some(Batch::default()),
            next_position,
            segment: segments.last().map_or(0, |segment| segment.number),
            seen: Reached { written: last, synced: last, ..Reached::default() },
            bytes_appended: 0,
            _lock: lock,
        };
        Ok(Opened { journal, next_position, segments, cut })
    }

    /// Adds a record, whose bytes are these parts one after the other. They are copied, and no system
    /// call is made.
    ///
    /// # Panics
    ///
    /// If `position` does not follow the one before, no segment was begun, or the record is empty or
    /// larger than [`RECORD_BYTES_MAX`].
    pub fn append(&mut self, position: u64, parts: &[&[u8]]) {
        assert_eq!(position, self.next_position, "records are numbered without gaps");
        assert!(self.segment != 0, "a segment begins before the first record");
        self.next_position += 1;
        let batch = self.batch();
        let before = batch.bytes();
        batch.append(position, parts);
        self.bytes_appended += self.batch().bytes() - before;
    }

    /// The records that follow go to this new segment: the first is 1, and each the number after the last.
    pub fn roll(&mut self, segment: u32) {
        assert_eq!(Some(segment), self.segment.checked_add(1), "segments are numbered without gaps");
        self.segment = segment;
        self.batch().roll(segment);
    }

    /// The oldest segment goes, once everything that was appended before this is on the disk. The current
    /// one stays.
    pub fn drop_segment(&mut self, segment: u32) {
        assert!(segment < self.segment, "segment {segment} is being written, or was never begun");
        self.batch().drop_segment(segment);
    }

    /// Somebody waits for what was appended so far to have this level. What nobody waits for to be on the
    /// disk is written, and synced when something else is.
    pub fn want(&mut self, level: Level) {
        self.batch().want(level);
    }

    /// Ends a turn: hands what was added in it to the thread. Costs nothing if nothing was.
    pub fn commit(&mut self) {
        if let Some(batch) = self.batch.take_if(|batch| !batch.is_empty()) {
            if self.seen.failure.is_some() {
                // Nobody takes it any more. It was never reported, and memory must not grow.
                self.bytes_appended -= batch.bytes();
                let mut batch = batch;
                batch.clear();
                self.batch = Some(batch);
            } else {
                self.handoff.hand_over(batch);
            }
        }
    }

    /// How far the journal has come, if that is news.
    pub fn progress(&mut self) -> Option<Progress> {
        self.handoff.news(&mut self.seen)
    }

    /// Bytes that were appended and not dealt with yet, as of the last [`progress`](Self::progress). The
    /// core holds back when there are many.
    pub fn bytes_pending(&self) -> u64 {
        self.bytes_appended - self.seen.bytes
    }

    /// Ends in order: everything that was appended is written, synced and marked as such, whatever was
    /// wanted. Waits for it.
    pub fn close(mut self) -> Result<(), Failure> {
        self.end();
        match (self.seen.failure.take(), self.progress()) {
            (Some(failure), _) | (None, Some(Progress::Failed(failure))) => Err(failure),
            (None, Some(Progress::Through { .. }) | None) => Ok(()),
        }
    }

    fn end(&mut self) {
        self.commit();
        self.handoff.close();
        if let Some(thread) = self.thread.take() {
            // If it has panicked, it has said so as a failure.
            let _ = thread.join();
        }
    }

    /// The batch of this turn.
    fn batch(&mut self) -> &mut Batch {
        self.batch.get_or_insert_with(|| self.handoff.take_back())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread: batch after batch, until the end or the first failure.
fn write_all<D: Disk>(mut writer: Writer<D>, handoff: &Handoff, waker: &Waker) {
    let last_words = LastWords { handoff, waker };
    while let Some(mut batch) = handoff.next() {
        let mut outcome = writer.write(&mut batch);
        if outcome.is_ok() && batch.wants(Level::Disk) {
            if batch.wants(Level::Os) {
                // Whoever waits for less need not wait for the sync.
                handoff.reach(writer.written(), writer.synced());
                waker.wake();
            }
            outcome = writer.sync();
        }
        report(&writer, handoff, outcome);
        handoff.give_back(batch);
        waker.wake();
    }
    let outcome = writer.close();
    report(&writer, handoff, outcome);
    mem::forget(last_words);
    waker.wake();
}

fn report<D: Disk>(writer: &Writer<D>, handoff: &Handoff, outcome: Result<(), Failure>) {
    handoff.reach(writer.written(), writer.synced());
    if let Err(failure) = outcome {
        handoff.fail(failure);
    }
}

/// A thread that panics says so: silence would be a wait without end for those who want an answer.
struct LastWords<'a> {
    handoff: &'a Handoff,
    waker: &'a Waker,
}

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        let reason = "the journal's thread has met a bug and ended".to_owned();
        self.handoff.fail(Failure { file: "the journal".into(), what: "write", reason });
        self.waker.wake();
    }
}
