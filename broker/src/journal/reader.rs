//! A segment's bytes through a window, so that memory is bounded by a record and not by a file.

use std::io;

use super::disk::Disk;
use super::error::JournalError;
use super::format::{FORMAT_VERSION, HeaderFault, RECORD_HEADER, RecordHeader};
use super::format::{SEGMENT_HEADER, SegmentHeader};

/// Bytes that are read at once.
pub(crate) const CHUNK: usize = 256 << 10;

/// A segment that is being read.
pub(crate) struct Reader<'a, D: Disk> {
    disk: &'a mut D,
    file: &'a D::File,
    name: &'a str,
    length: u64,
    /// Where in the file the window begins.
    at: u64,
    window: Vec<u8>,
}

impl<'a, D: Disk> Reader<'a, D> {
    pub(crate) fn new(disk: &'a mut D, file: &'a D::File, name: &'a str) -> Result<Self, JournalError> {
        let length = disk.length(file).map_err(|source| io_error(disk, name, "measure", source))?;
        Ok(Self { disk, file, name, length, at: 0, window: Vec::new() })
    }

    /// Bytes of the file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The segment's header, checked against the file's name.
    pub(crate) fn segment_header(&mut self, number: u32) -> Result<SegmentHeader, JournalError> {
        let file = self.disk.path(self.name);
        let bad = |expected: String| Err(JournalError::Header { file: file.clone(), expected });
        if self.length < SEGMENT_HEADER as u64 {
            return bad(format!("{SEGMENT_HEADER} bytes of header, but the file has {}", self.length));
        }
        let bytes = self.bytes(0, SEGMENT_HEADER)?.first_chunk().expect("as many as were asked for");
        match SegmentHeader::parse(bytes) {
            Ok(header) if header.segment != number => {
                bad(format!("segment {number}, but it says that it is segment {}", header.segment))
            }
            Ok(header) if header.first_position == 0 => bad("a first position above 0".to_owned()),
            Ok(header) => Ok(header),
            Err(HeaderFault::Bad(expected)) => bad(expected.to_owned()),
            Err(HeaderFault::Newer(found)) => Err(JournalError::Newer { file, found, known: FORMAT_VERSION }),
        }
    }

    /// The header of a record or a mark at an offset, if a good one is there.
    pub(crate) fn header(&mut self, at: u64, salt: u32) -> Result<Option<RecordHeader>, JournalError> {
        if self.length.saturating_sub(at) < RECORD_HEADER as u64 {
            return Ok(None);
        }
        Ok(RecordHeader::parse(self.bytes(at, RECORD_HEADER)?, salt))
    }

    /// The bytes of the record at an offset, if they are those that its header stands for.
    pub(crate) fn body(
        &mut self,
        at: u64,
        header: &RecordHeader,
        salt: u32,
    ) -> Result<Option<&[u8]>, JournalError> {
        if self.length.saturating_sub(at) < header.span() {
            return Ok(None);
        }
        let body = self.bytes(at + RECORD_HEADER as u64, header.length as usize)?;
        Ok(header.vouches_for(body, salt).then_some(body))
    }

    /// Bytes of the file. They are there: the caller has looked at its length.
    pub(crate) fn bytes(&mut self, at: u64, count: usize) -> Result<&[u8], JournalError> {
        assert!(at + count as u64 <= self.length, "bytes that are in the file");
        let have = self.at..self.at + self.window.len() as u64;
        if at < have.start || have.end < at + count as u64 {
            self.load(at, count).map_err(|source| io_error(self.disk, self.name, "read", source))?;
        }
        let from = (at - self.at) as usize;
        Ok(&self.window[from..from + count])
    }

    /// Fills the window with what begins at an offset, `count` bytes or a chunk.
    fn load(&mut self, at: u64, count: usize) -> io::Result<()> {
        let want = (self.length - at).min(count.max(CHUNK) as u64) as usize;
        if want <= CHUNK {
            self.window.shrink_to(CHUNK);
        }
        self.window.resize(want, 0);
        self.at = at;
        let mut filled = 0;
        while filled < want {
            match self.disk.read_at(self.file, at + filled as u64, &mut self.window[filled..]) {
                Ok(0) => return self.give_up(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.give_up(error),
            }
        }
        Ok(())
    }

    fn give_up(&mut self, error: io::Error) -> io::Result<()> {
        self.window.clear();
        Err(error)
    }
}

/// The system's refusal, with what was asked of it.
pub(crate) fn io_error<D: Disk>(disk: &D, name: &str, what: &'static str, source: io::Error) -> JournalError {
    JournalError::Io { file: disk.path(name), what, source }
}
