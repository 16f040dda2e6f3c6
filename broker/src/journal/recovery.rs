//! What is on the disk after a start: every record in order, and where the next one goes.
//!
//! A bad record at the end of the last segment is what the loss of power leaves, and is cut. A bad record
//! that was synced once is damage, and an alarm. Each record says how far everything was synced when it
//! was written, so the two can be told apart: if anything behind a bad record says that the bad one
//! had been synced, it is damage. Nothing is changed on the disk before all of it was understood.

use std::path::PathBuf;

use super::disk::Disk;
use super::error::JournalError;
use super::format::{ALIGNMENT, SEGMENT_HEADER};
use super::reader::{CHUNK, Reader, io_error};
use super::writer::{Current, Layout, Writer, segment_name, write_all};

/// A record as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered<'a> {
    /// The segment it is in.
    pub segment: u32,
    /// Its number among all records ever.
    pub position: u64,
    /// What the core made of it.
    pub bytes: &'a [u8],
}

/// A segment that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub number: u32,
    /// The position of the first record in it, whether that was written yet or not.
    pub first_position: u64,
    /// Bytes of its header and records.
    pub bytes: u64,
}

/// What was cut from the end of the last segment: records that were being written when the power went,
/// and of which nobody was told that they were on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Which file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// Bytes to the last one that was not zero.
    pub bytes: u64,
}

/// A journal that was read and can be written to.
#[derive(Debug)]
pub struct Recovery<D: Disk> {
    /// Goes on behind the last record.
    pub writer: Writer<D>,
    /// The position of the next record.
    pub next_position: u64,
    /// The segments, oldest first. None before the first was begun.
    pub segments: Vec<Segment>,
    /// Whether there was a torn end.
    pub cut: Option<Cut>,
}

/// Reads the journal on `disk`, hands each record to `visit` in order, mends a torn end, and makes sure
/// that everything it has handed out is on the disk. What was visited is void if this fails.
pub fn recover<D: Disk>(
    mut disk: D,
    layout: Layout,
    visit: &mut dyn FnMut(Recovered<'_>),
) -> Result<Recovery<D>, JournalError> {
    let (numbers, drafts) = list(&mut disk)?;
    let mut segments: Vec<Segment> = Vec::new();
    let mut last: Option<Tail<D::File>> = None;
    for number in numbers {
        let tail = read_segment(&mut disk, number, last.as_ref(), visit)?;
        segments.push(Segment { number, first_position: tail.first_position, bytes: tail.end });
        last = Some(tail);
    }
    let next_position = last.as_ref().map_or(1, |last| last.next_position);
    let cut = last.as_ref().map(|last| last.find_torn(&mut disk)).transpose()?.flatten();
    // From here on the disk is changed.
    for draft in drafts {
        disk.remove(&draft).map_err(|source| io_error(&disk, &draft, "remove the half-made", source))?;
    }
    let current = last.map(|last| last.resume(&mut disk, layout, cut.is_some())).transpose()?;
    disk.sync_directory().map_err(|source| io_error(&disk, "", "sync", source))?;
    let oldest = segments.first().map(|segment| segment.number);
    let writer = Writer::resume(disk, layout, current, oldest, next_position - 1);
    Ok(Recovery { writer, next_position, segments, cut })
}

/// The segments' numbers in order, and the names of half-made segments. Other files are not ours.
fn list<D: Disk>(disk: &mut D) -> Result<(Vec<u32>, Vec<String>), JournalError> {
    let names = disk.list().map_err(|source| io_error(disk, "", "read", source))?;
    let (mut numbers, mut drafts) = (Vec::new(), Vec::new());
    for name in names {
        if let Some(number) = number_of(&name) {
            numbers.push(number);
        } else if name.strip_suffix(".new").and_then(number_of).is_some() {
            drafts.push(name);
        }
    }
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        let missing = pair[0] + 1;
        if missing != pair[1] {
            return Err(JournalError::Missing { file: disk.path(&segment_name(missing)), missing });
        }
    }
    Ok((numbers, drafts))
}

/// The number in a segment's file name. A name that only resembles one is somebody else's.
fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".log")?;
    let plain = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Where the good records of a segment end, and what is known of them.
#[derive(Debug)]
struct Tail<F> {
    segment: u32,
    file: F,
    salt: u32,
    first_position: u64,
    next_position: u64,
    /// Behind the last good record.
    end: u64,
    /// Everything through here was synced when the last good record was written.
    proven: u64,
    /// The first of the marks behind the last record. Nothing says that they themselves were synced.
    marks_at: Option<u64>,
    /// Bytes of the file.
    length: u64,
}

/// Visits the good records of a segment, which must go on where the one before it ends.
fn read_segment<D: Disk>(
    disk: &mut D,
    segment: u32,
    before: Option<&Tail<D::File>>,
    visit: &mut dyn FnMut(Recovered<'_>),
) -> Result<Tail<D::File>, JournalError> {
    let name = segment_name(segment);
    let file = disk.open(&name).map_err(|source| io_error(disk, &name, "open", source))?;
    let mut reader = Reader::new(disk, &file, &name)?;
    let header = reader.segment_header(segment)?;
    let first_position = header.first_position;
    if let Some(before) = before.filter(|before| before.next_position != first_position) {
        // Before a segment begins, the one before it is synced to its end.
        let found = format!("the next segment begins with record {first_position}");
        return Err(before.damaged(disk, found));
    }
    let (length, salt) = (reader.length(), header.salt);
    let (mut end, mut next_position, mut proven) =
        (SEGMENT_HEADER as u64, first_position, first_position - 1);
    let mut marks_at = None;
    while let Some(header) = reader.header(end, salt)? {
        let expected = if header.is_mark { next_position - 1 } else { next_position };
        if header.position != expected || header.position == u64::MAX {
            break;
        }
        let Some(bytes) = reader.body(end, &header, salt)? else { break };
        if header.is_mark {
            marks_at.get_or_insert(end);
        } else {
            marks_at = None;
            visit(Recovered { segment, position: next_position, bytes });
            next_position += 1;
        }
        proven = proven.max(header.synced);
        end += header.span();
    }
    Ok(Tail { segment, file, salt, first_position, next_position, end, proven, marks_at, length })
}

impl<F> Tail<F> {
    /// What is behind the good records of the last segment: nothing, or records that were being written
    /// when the power went. An error if it says that more was synced once.
    fn find_torn<D: Disk<File = F>>(&self, disk: &mut D) -> Result<Option<Cut>, JournalError> {
        let name = segment_name(self.segment);
        let mut reader = Reader::new(disk, &self.file, &name)?;
        let mut torn_end = self.end;
        let mut at = self.end;
        while at < self.length {
            let count = (self.length - at).min(CHUNK as u64) as usize;
            // A search of its own for zeros, because there may be a whole reserved segment of them.
            if reader.bytes(at, count)?.iter().all(|&byte| byte == 0) {
                at += count as u64;
                continue;
            }
            let end = at + count as u64;
            while at < end {
                let here = (end - at).min(ALIGNMENT as u64) as usize;
                let bytes = reader.bytes(at, here)?;
                if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
                    torn_end = at + last as u64 + 1;
                }
                if let Some(header) = reader.header(at, self.salt)?
                    && header.synced >= self.next_position
                {
                    let (position, synced) = (header.position, header.synced);
                    let found = format!(
                        "what is there is none, and record {position} at offset {at} says that all records \
                         through {synced} were on the disk"
                    );
                    return Err(self.damaged(disk, found));
                }
                at += here as u64;
            }
        }
        let bytes = torn_end - self.end;
        Ok((bytes > 0).then(|| Cut { file: disk.path(&name), offset: self.end, bytes }))
    }

    /// Makes the end good to be written to, and what is before it certain to be on the disk.
    fn resume<D: Disk<File = F>>(
        self,
        disk: &mut D,
        layout: Layout,
        torn: bool,
    ) -> Result<Current<F>, JournalError> {
        let name = segment_name(self.segment);
        if torn {
            // All of it must be gone before a record is written there: behind a new record of the same
            // size, what is left of the old ones would look like records that follow.
            disk.set_length(&self.file, self.end).map_err(|source| io_error(disk, &name, "cut", source))?;
        }
        disk.preallocate(&self.file, layout.preallocated_bytes)
            .map_err(|source| io_error(disk, &name, "reserve space for", source))?;
        self.rewrite(disk)?;
        disk.sync(&self.file).map_err(|source| io_error(disk, &name, "sync", source))?;
        Ok(Current { segment: self.segment, file: self.file, salt: self.salt, end: self.end })
    }

    /// Writes again what may never have come to the disk. If an earlier broker stopped because a sync had
    /// failed, the system may show bytes that it will never write, and a sync alone would say that all
    /// is well.
    fn rewrite<D: Disk<File = F>>(&self, disk: &mut D) -> Result<(), JournalError> {
        let name = segment_name(self.segment);
        let mut at = self.first_unproven(disk)?;
        let mut bytes = Vec::new();
        while at < self.end {
            let count = (self.end - at).min(CHUNK as u64) as usize;
            bytes.clear();
            bytes.extend_from_slice(Reader::new(disk, &self.file, &name)?.bytes(at, count)?);
            write_all(disk, &self.file, at, &bytes)
                .map_err(|source| io_error(disk, &name, "write", source))?;
            at += count as u64;
        }
        Ok(())
    }

    /// Where the first record or mark is that nothing says was synced.
    fn first_unproven<D: Disk<File = F>>(&self, disk: &mut D) -> Result<u64, JournalError> {
        if self.proven + 1 == self.next_position {
            return Ok(self.marks_at.unwrap_or(self.end));
        }
        let name = segment_name(self.segment);
        let mut reader = Reader::new(disk, &self.file, &name)?;
        let mut at = SEGMENT_HEADER as u64;
        loop {
            let header = reader.header(at, self.salt)?.expect("a record that was read before");
            if header.position > self.proven {
                return Ok(at);
            }
            at += header.span();
        }
    }

    fn damaged<D: Disk>(&self, disk: &D, found: String) -> JournalError {
        let file = disk.path(&segment_name(self.segment));
        JournalError::Damaged { file, offset: self.end, position: self.next_position, found }
    }
}
