//! The log of durable things between the core and the journal: opened and read before anybody connects,
//! appended to in turns.
//!
//! A broker without durable things never makes a segment: the first is begun by the first record.

use std::path::Path;
use std::sync::Arc;

use switchboard_core::{Input, Payload};
use switchboard_transport::Waker;

use crate::buffer::Slice;
use crate::journal::{Journal, Layout, Level, Opened, Options, Progress};
use crate::logger;
use crate::reactor::Reactor;

/// The journal, and what stands in front of it.
#[derive(Debug)]
pub(crate) struct Log {
    journal: Journal,
    waker: Arc<Waker>,
    /// The segment that the next record begins.
    fresh: Option<u32>,
}

/// The folder in the state directory.
const FOLDER: &str = "log";

impl Log {
    /// Appends a record.
    pub(crate) fn append(&mut self, position: u64, head: &[u8], tail: Option<&Slice>, sync: bool) {
        if let Some(segment) = self.fresh.take() {
            self.journal.roll(segment);
        }
        self.journal.append(position, &[head, tail.map_or(&[], Slice::bytes)]);
        self.journal.want(if sync { Level::Disk } else { Level::Os });
    }

    /// Somebody waits for what was appended so far to be synced.
    pub(crate) fn sync(&mut self) {
        self.journal.want(Level::Disk);
    }

    /// What follows goes to a new segment.
    pub(crate) fn roll(&mut self, segment: u32) {
        if self.fresh.replace(segment).is_some_and(|skipped| skipped + 1 == segment) {
            // Nothing was written to the one before; segments are numbered without gaps all the same.
            self.journal.roll(segment - 1);
        }
    }

    /// The oldest segment may go.
    pub(crate) fn drop_segment(&mut self, segment: u32) {
        self.journal.drop_segment(segment);
    }

    /// The end of a turn.
    pub(crate) fn commit(&mut self) {
        self.journal.commit();
    }

    /// Writes and syncs what there is, and ends.
    pub(crate) fn close(self) -> Result<(), String> {
        self.journal.close().map_err(|failure| failure.to_string())
    }
}

impl Reactor {
    /// Reads the log in the state directory, hands it to the core, and makes it ready to be appended to.
    /// A log that cannot be read is told to the core, which then takes nothing durable; all else goes on.
    pub(crate) fn open_log(&mut self, state: &Path, segment_bytes: u64) -> std::io::Result<()> {
        let waker = Arc::new(Waker::new()?);
        self.poller.add(&waker, LOG, switchboard_transport::Interest::READ)?;
        let salt = Options::new()?.layout.salt;
        let options = Options { layout: Layout { preallocated_bytes: segment_bytes, salt } };
        let mut records = 0_u64;
        let opened = {
            let mut visit = |record: crate::journal::Recovered<'_>| {
                records += 1;
                let (segment, position) = (record.segment, record.position);
                let record = Slice::from(record.bytes.to_vec());
                self.handle(Input::Recovered { segment, position, record });
            };
            Journal::open(&state.join(FOLDER), options, Arc::clone(&waker), &mut visit)
        };
        let Opened { journal, next_position, segments, cut } = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.handle(Input::LogFailed { message: error.to_string() });
                return Ok(());
            }
        };
        if let Some(cut) = cut {
            let text = format!(
                "{}: the last {} bytes, from {} on, were being written when the power went, and nobody was told that \
                 they were; they were cut",
                cut.file.display(),
                cut.bytes,
                cut.offset
            );
            self.logger.note(logger::Level::Warn, text);
        }
        if 0 < records {
            let text = format!("{records} records in {} segments of the log were read", segments.len());
            self.logger.note(logger::Level::Info, text);
        }
        let segment = segments.last().map_or(0, |last| last.number) + 1;
        let oldest = segments.first().map_or(segment, |first| first.number);
        self.log = Some(Log { journal, waker, fresh: Some(segment) });
        self.handle(Input::LogReady { position: next_position - 1, oldest, segment });
        Ok(())
    }

    /// The journal has come further.
    pub(crate) fn log_progress(&mut self) {
        let Some(log) = &mut self.log else { return };
        log.waker.reset();
        match log.journal.progress() {
            None => {}
            Some(Progress::Through { written, synced }) => self.handle(Input::Persisted { written, synced }),
            Some(Progress::Failed(failure)) => self.handle(Input::LogFailed { message: failure.to_string() }),
        }
    }
}

/// The token of the journal's waker.
pub(crate) const LOG: u64 = crate::reactor::HOST + 200;
