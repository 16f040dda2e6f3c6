//! The bytes of a segment file (FORMAT.md): its header, and the headers of its records.
//!
//! A record's header has a checksum of its own, so that a search for records among damaged bytes costs
//! one short checksum per place and never believes a length. Checksums begin with the segment's salt,
//! which nobody outside knows: a payload cannot hold bytes that pass for a record.

use std::ops::Range;

/// The version of the layout that this code writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of one record at most. Payloads are at most 16 MiB unless configured, 64 MiB at the very most;
/// the rest is for what the core says about them.
pub const RECORD_BYTES_MAX: usize = (64 << 20) + (64 << 10);

/// Bytes of a segment's header.
pub(crate) const SEGMENT_HEADER: usize = 64;

/// Bytes of a record's header.
pub(crate) const RECORD_HEADER: usize = 24;

/// Records begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;

const MAGIC: [u8; 8] = *b"SWBDJRNL";

/// In a length word: not a record, but a mark that says how far everything is synced.
const MARK: u32 = 1 << 31;

const LENGTH: Range<usize> = 0..4;
const HEADER_SUM: Range<usize> = 4..8;
const POSITION: Range<usize> = 8..16;
const BEHIND: Range<usize> = 16..20;
const BODY_SUM: Range<usize> = 20..24;

const _: () = assert!(RECORD_BYTES_MAX < MARK as usize, "a length leaves the mark's bit alone");
const _: () = assert!(SEGMENT_HEADER.is_multiple_of(ALIGNMENT) && RECORD_HEADER.is_multiple_of(ALIGNMENT));
const _: () = assert!(BODY_SUM.end == RECORD_HEADER);

/// What a segment says of itself at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) segment: u32,
    pub(crate) first_position: u64,
    pub(crate) salt: u32,
}

/// Why bytes are not the header of a segment that we can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Not a segment of ours, or damaged: what was expected.
    Bad(&'static str),
    /// Written by a later version.
    Newer(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.segment.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_position.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.salt.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8; SEGMENT_HEADER]) -> Result<Self, HeaderFault> {
        if bytes[0..8] != MAGIC {
            return Err(HeaderFault::Bad("the magic bytes SWBDJRNL"));
        }
        if word(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Err(HeaderFault::Bad("a header with a right checksum"));
        }
        let version = word(bytes, 8);
        if version > FORMAT_VERSION {
            return Err(HeaderFault::Newer(version));
        }
        if version != FORMAT_VERSION {
            return Err(HeaderFault::Bad("format version 1"));
        }
        Ok(Self { segment: word(bytes, 12), first_position: long(bytes, 16), salt: word(bytes, 24) })
    }
}

/// What stands before a record's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// Whether this is a mark, which has no bytes and the position of the record before it.
    pub(crate) is_mark: bool,
    pub(crate) length: u32,
    pub(crate) position: u64,
    /// All records up to this position were synced when this one was written.
    pub(crate) synced: u64,
    body_sum: u32,
}

impl RecordHeader {
    /// The header at the beginning of `bytes`, if its checksum is right and it makes sense.
    pub(crate) fn parse(bytes: &[u8], salt: u32) -> Option<Self> {
        let bytes = bytes.get(..RECORD_HEADER)?;
        let length = word(bytes, LENGTH.start);
        let is_mark = length & MARK != 0;
        let length = length & !MARK;
        // The cheap questions first: a search asks them at each place.
        if length as usize > RECORD_BYTES_MAX || is_mark != (length == 0) {
            return None;
        }
        if word(bytes, HEADER_SUM.start) != header_sum(bytes, salt) {
            return None;
        }
        let position = long(bytes, POSITION.start);
        let synced = position.checked_sub(word(bytes, BEHIND.start).into())?;
        Some(Self { is_mark, length, position, synced, body_sum: word(bytes, BODY_SUM.start) })
    }

    /// Whether these are the bytes that were written behind this header.
    pub(crate) fn vouches_for(&self, body: &[u8], salt: u32) -> bool {
        body.len() == self.length as usize && self.body_sum == crc32c::crc32c_append(salt, body)
    }

    /// Bytes from the beginning of this record to the beginning of the next.
    pub(crate) fn span(&self) -> u64 {
        span(self.length as usize) as u64
    }
}

/// Bytes that a record of this length takes in a segment.
pub(crate) const fn span(length: usize) -> usize {
    (RECORD_HEADER + length).next_multiple_of(ALIGNMENT)
}

/// Writes a record without its checksums, which need to know the segment: [`seal`] adds them.
pub(crate) fn encode(to: &mut Vec<u8>, position: u64, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    assert!(
        (1..=RECORD_BYTES_MAX).contains(&length),
        "record {position} has {length} bytes, and a record has 1 to {RECORD_BYTES_MAX}"
    );
    let begin = to.len();
    let mut header = [0; RECORD_HEADER];
    header[LENGTH].copy_from_slice(&(length as u32).to_le_bytes());
    header[POSITION].copy_from_slice(&position.to_le_bytes());
    to.extend_from_slice(&header);
    for part in parts {
        to.extend_from_slice(part);
    }
    to.resize(begin + span(length), 0);
}

/// Completes the headers of encoded records, the first of which must follow `last`, for a segment with
/// this salt, when everything through `synced` is on disk. Returns the position of the last one.
pub(crate) fn seal(records: &mut [u8], last: u64, synced: u64, salt: u32) -> u64 {
    let (mut rest, mut last) = (records, last);
    while !rest.is_empty() {
        let length = word(rest, LENGTH.start) as usize;
        let position = long(rest, POSITION.start);
        assert_eq!(position, last + 1, "records are numbered without gaps");
        let (record, others) = rest.split_at_mut(span(length));
        let sum = crc32c::crc32c_append(salt, &record[RECORD_HEADER..RECORD_HEADER + length]);
        finish(record, position, synced, sum, salt);
        (rest, last) = (others, position);
    }
    last
}

/// A mark: everything through `position` is synced.
pub(crate) fn mark(position: u64, salt: u32) -> [u8; RECORD_HEADER] {
    let mut bytes = [0; RECORD_HEADER];
    bytes[LENGTH].copy_from_slice(&MARK.to_le_bytes());
    bytes[POSITION].copy_from_slice(&position.to_le_bytes());
    finish(&mut bytes, position, position, crc32c::crc32c_append(salt, &[]), salt);
    bytes
}

fn finish(record: &mut [u8], position: u64, synced: u64, body_sum: u32, salt: u32) {
    // What came before the segment was synced before it began.
    let behind = u32::try_from(position - synced).expect("a segment holds fewer than 2^32 records");
    record[BEHIND].copy_from_slice(&behind.to_le_bytes());
    record[BODY_SUM].copy_from_slice(&body_sum.to_le_bytes());
    let sum = header_sum(record, salt);
    record[HEADER_SUM].copy_from_slice(&sum.to_le_bytes());
}

fn header_sum(header: &[u8], salt: u32) -> u32 {
    crc32c::crc32c_append(
        crc32c::crc32c_append(salt, &header[LENGTH]),
        &header[POSITION.start..RECORD_HEADER],
    )
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_header_reads_back_and_no_flipped_bit_goes_unseen() {
        let header = SegmentHeader { segment: 7, first_position: 1 << 40, salt: 99 };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::parse(&bytes), Ok(header));
        for bit in 0..SEGMENT_HEADER * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::parse(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_reads_back_and_no_flipped_bit_goes_unseen() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 12, &[b"hello, ", b"world"]);
        assert_eq!(seal(&mut bytes, 11, 9, 5), 12);
        assert_eq!(bytes.len(), 40);
        let header = RecordHeader::parse(&bytes, 5).expect("a record");
        assert_eq!((header.position, header.synced, header.is_mark), (12, 9, false));
        assert!(header.vouches_for(b"hello, world", 5));
        assert_eq!(RecordHeader::parse(&bytes, 6), None, "of another segment");
        for bit in 0..(RECORD_HEADER + 12) * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let seen = RecordHeader::parse(&bytes, 5);
            assert!(!seen.is_some_and(|header| header.vouches_for(&bytes[24..36], 5)), "bit {bit}");
        }
    }

    #[test]
    fn zeros_are_the_end_under_every_salt() {
        for salt in 0..10_000 {
            assert_eq!(RecordHeader::parse(&[0; RECORD_HEADER], salt), None);
        }
    }

    #[test]
    fn a_mark_says_how_far_everything_is_synced() {
        let header = RecordHeader::parse(&mark(77, 3), 3).expect("a mark");
        assert!(header.is_mark && header.vouches_for(&[], 3));
        assert_eq!((header.position, header.synced, header.span()), (77, 77, 24));
    }

    #[test]
    #[should_panic(expected = "numbered without gaps")]
    fn a_gap_in_the_numbers_is_a_bug_of_the_caller() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 12, &[b"x"]);
        seal(&mut bytes, 12, 0, 0);
    }
}
