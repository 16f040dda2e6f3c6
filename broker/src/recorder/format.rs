//! The bytes of a recording: how one file begins, and one record after the other.
//!
//! All numbers are little-endian, everything begins at a multiple of 8.
//!
//! | offset | size | the head of a file |
//! |---|---|---|
//! | 0 | 8 | [`MAGIC`] |
//! | 8 | 4 | [`FORMAT`] |
//! | 12 | 4 | bytes of the build's name |
//! | 16 | 8 | the file's number |
//! | 24 | 8 | the number of its first input |
//! | 32 | 8 | broker time of the snapshot, in ns |
//! | 40 | 8 | wall time then, in ns since 1970 |
//! | 48 | 8 | bytes of the snapshot |
//! | 56 | 8 | the broker's incarnation |
//! | 64 | 8 | 1 if payloads are recorded, else 0 |
//! | 72 | 8 | the *end mark*: where the records end |
//! | 80 | 8 | check of all of the head but the end mark |
//! | 88 | | the build's name, then the snapshot, each padded |
//!
//! | offset | size | a record |
//! |---|---|---|
//! | 0 | 4 | bytes of the record |
//! | 4 | 1 | [`Kind`] |
//! | 5 | 1 | of a frame: what there is of its payload, by [`Reads`] |
//! | 6 | 2 | 0 |
//! | 8 | 4 | bytes of the body |
//! | 12 | 4 | effects |
//! | 16 | 8 | broker time, in ns |
//! | 24 | 8 | the peer, where the kind has one |
//! | 32 | | the body by kind, padded |
//! | −16 | 8 | digest of the effects |
//! | −8 | 8 | check |
//!
//! A record is written before its input is handled, with no effects, and completed after that. Checks are
//! chained: each covers all before it. The end mark is stored last, in one piece, so that whenever the
//! broker ends the file is whole up to there; what may follow is the input that it ended in.

use switchboard_core::{Digest, Input, Reads};
use switchboard_protocol::{HEADER_BYTES, Header, PeerId, encode};

use crate::buffer::Slice;

/// How a recording begins. The first byte is no text's, so that nobody takes it for one.
pub(crate) const MAGIC: [u8; 8] = *b"\x89SWBREC\n";

/// The layout. What comes before the build's name is the same in all of them.
pub(crate) const FORMAT: u32 = 1;

/// The build that can read a snapshot: the program's version, and which source its core was made of.
pub(crate) const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("SWITCHBOARD_CORE_SOURCE"));

/// Where the end mark is.
pub(crate) const END_AT: usize = 72;
/// Bytes of the head before the build's name.
pub(crate) const HEAD_BYTES: usize = 88;
/// Bytes of a record without its body.
pub(crate) const RECORD_BYTES: usize = 48;

/// What the first check is chained to.
const SEED: u64 = 0x5357_4252_4543_0001;

/// The head of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) number: u64,
    pub(crate) first_input: u64,
    pub(crate) at_ns: u64,
    pub(crate) wall_ns: u64,
    pub(crate) incarnation: u64,
    pub(crate) payloads: bool,
    pub(crate) build: String,
    pub(crate) snapshot: Vec<u8>,
}

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// [`Input::Frame`]: header, then what is recorded of the tail.
    Frame = 1,
    /// [`Input::Wrote`]: bytes u64.
    Wrote = 2,
    /// [`Input::Wake`].
    Wake = 3,
    /// The core was asked for room: bytes u64.
    Admit = 4,
    /// Any other input, in postcard.
    Other = 5,
}

/// What the core was told, as a record has it.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(crate) enum Told {
    /// An input.
    Input(Input<Slice>),
    /// It was asked for room.
    Admit { from: PeerId, bytes: u64 },
}

/// A record that was read.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) at_ns: u64,
    pub(crate) told: Told,
    /// How many effects it had, and their digest; 0 and 0 if the broker ended before it was done.
    pub(crate) effects: u32,
    pub(crate) digest: u64,
    /// Bytes that it takes, and what the next check is chained to.
    pub(crate) len: usize,
    pub(crate) chain: u64,
}

/// Why a file cannot be read on from somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("it does not begin like a recording")]
    Foreign,
    #[error("it is of another format than this program reads")]
    Format,
    #[error("the head is damaged")]
    Head,
    #[error("the mark that says where it ends is damaged")]
    End,
    #[error("it is shorter than it says: it was cut off")]
    Cut,
    #[error("a record is damaged")]
    Record,
}

impl Head {
    /// The head as it is written, with an end mark that says: nothing yet.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.build.len() + self.snapshot.len() + 16);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&(self.build.len() as u32).to_le_bytes());
        let snapshot = self.snapshot.len() as u64;
        let Self { number, first_input, at_ns, wall_ns, incarnation, payloads, .. } = *self;
        for word in [number, first_input, at_ns, wall_ns, snapshot, incarnation, payloads.into(), 0, 0] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(self.build.as_bytes());
        pad(&mut bytes);
        bytes.extend_from_slice(&self.snapshot);
        pad(&mut bytes);
        let check = check_head(&bytes);
        bytes[END_AT + 8..HEAD_BYTES].copy_from_slice(&check.to_le_bytes());
        let end = end_mark(bytes.len());
        bytes[END_AT..END_AT + 8].copy_from_slice(&end.to_le_bytes());
        bytes
    }

    /// Reads a head, and says where the records begin.
    pub(crate) fn read(file: &[u8]) -> Result<(Self, usize), Flaw> {
        let differing = MAGIC.iter().zip(file).filter(|(ours, theirs)| ours != theirs).count();
        // One flipped byte does not make a recording something else.
        if file.len() < MAGIC.len() || 1 < differing {
            return Err(Flaw::Foreign);
        }
        let fixed = file.get(..HEAD_BYTES).ok_or(Flaw::Cut)?;
        let build_len = u32_at(fixed, 12) as usize;
        let snapshot_at = HEAD_BYTES.checked_add(padded(build_len)).ok_or(Flaw::Head)?;
        let snapshot_len = usize::try_from(u64_at(fixed, 48)).map_err(|_| Flaw::Head)?;
        let end = snapshot_len
            .checked_next_multiple_of(8)
            .and_then(|len| snapshot_at.checked_add(len))
            .ok_or(Flaw::Head)?;
        // Whether it was cut off or its lengths are wrong is not to be told apart.
        let whole = file.get(..end).ok_or(Flaw::Head)?;
        if differing != 0 || check_head(whole) != u64_at(fixed, END_AT + 8) {
            return Err(Flaw::Head);
        }
        if u32_at(fixed, 8) != FORMAT {
            return Err(Flaw::Format);
        }
        let build = String::from_utf8(whole[HEAD_BYTES..][..build_len].to_vec()).map_err(|_| Flaw::Head)?;
        let head = Self {
            number: u64_at(fixed, 16),
            first_input: u64_at(fixed, 24),
            at_ns: u64_at(fixed, 32),
            wall_ns: u64_at(fixed, 40),
            incarnation: u64_at(fixed, 56),
            payloads: u64_at(fixed, 64) != 0,
            build,
            snapshot: whole[snapshot_at..][..snapshot_len].to_vec(),
        };
        Ok((head, end))
    }

    /// What the first record's check is chained to.
    pub(crate) fn chain(file: &[u8]) -> u64 {
        u64_at(file, END_AT + 8)
    }
}

/// Where the records end, by the end mark.
pub(crate) fn end_of(file: &[u8]) -> Result<usize, Flaw> {
    let mark = u64_at(file, END_AT);
    let end = (mark as u32 as usize) << 3;
    if end_mark(end) != mark {
        return Err(Flaw::End);
    }
    Ok(end)
}

/// The end mark for so many bytes. Its upper half checks its lower half.
#[inline]
pub(crate) const fn end_mark(bytes: usize) -> u64 {
    let words = (bytes >> 3) as u32;
    // Odd, so that no other lower half has the same upper half.
    let check = words.wrapping_mul(0x9E37_79B1) ^ 0x5357_4244;
    words as u64 | (check as u64) << 32
}

/// Writes the record of an input that is about to be handled into `record`, which is emptied before.
/// `payloads` says whether payloads are wanted that the core does not look at, of frames up to so long.
pub(crate) fn write_input(
    record: &mut Vec<u8>,
    at_ns: u64,
    input: &Input<Slice>,
    reads: impl FnOnce(&Header) -> Reads,
    payload_max: usize,
) {
    use switchboard_core::Payload;
    match input {
        Input::Frame { from, header, tail } => {
            let reads = if tail.len() <= payload_max { Reads::All } else { reads(header) };
            begin(record, Kind::Frame, reads, at_ns, from.to_wire());
            record.extend_from_slice(&header.to_bytes());
            reads.record(header, tail.bytes(), record);
        }
        Input::Wrote { peer, bytes } => {
            begin(record, Kind::Wrote, Reads::Head, at_ns, peer.to_wire());
            record.extend_from_slice(&(*bytes as u64).to_le_bytes());
        }
        Input::Wake => begin(record, Kind::Wake, Reads::Head, at_ns, 0),
        Input::Connect { .. }
        | Input::Disconnect { .. }
        | Input::Oversized { .. }
        | Input::Broken { .. }
        | Input::Clock { .. }
        // Recording begins when the log was read, so that this has no payload to lose.
        | Input::Recovered { .. }
        | Input::LogReady { .. }
        | Input::Persisted { .. }
        | Input::LogFailed { .. }
        | Input::Recording(_)
        | Input::Reloaded { .. }
        | Input::Shutdown => {
            begin(record, Kind::Other, Reads::Head, at_ns, 0);
            record.extend_from_slice(&encode(input));
        }
    }
    finish(record);
}

/// The same for a question for room.
pub(crate) fn write_admit(record: &mut Vec<u8>, at_ns: u64, from: PeerId, bytes: u64) {
    begin(record, Kind::Admit, Reads::Head, at_ns, from.to_wire());
    record.extend_from_slice(&bytes.to_le_bytes());
    finish(record);
}

/// Gives a record its check, chained to the one before; returns what completes it.
pub(crate) fn seal(record: &mut [u8], chain: u64) -> u64 {
    let at = record.len() - 8;
    let check = check_record(&record[..at - 8], chain);
    record[at..].copy_from_slice(&check.to_le_bytes());
    check
}

/// The check of a record that is complete, which is what the next one is chained to.
#[inline]
pub(crate) fn complete(check: u64, effects: u32, digest: u64) -> u64 {
    let mut all = Digest::new(check);
    all.word(effects.into());
    all.word(digest);
    all.value()
}

/// Reads the record at the beginning of `bytes`.
pub(crate) fn read(bytes: &[u8], chain: u64) -> Result<Record, Flaw> {
    let (record, input_check) = cut(bytes, chain)?;
    let len = record.len();
    let (effects, digest) = (u32_at(record, 12), u64_at(record, len - 16));
    let chain = complete(input_check, effects, digest);
    if u64_at(record, len - 8) != chain {
        return Err(Flaw::Record);
    }
    let told = told(record).ok_or(Flaw::Record)?;
    Ok(Record { at_ns: u64_at(record, 16), told, effects, digest, len, chain })
}

/// Reads the record of an input that the broker ended in, if there is one whole.
pub(crate) fn read_open(bytes: &[u8], chain: u64) -> Option<Record> {
    let (record, input_check) = cut(bytes, chain).ok()?;
    let len = record.len();
    if u64_at(record, len - 8) != input_check {
        return None;
    }
    Some(Record { at_ns: u64_at(record, 16), told: told(record)?, effects: 0, digest: 0, len, chain })
}

/// Cuts a record off, and what its check is as long as it is not complete.
fn cut(bytes: &[u8], chain: u64) -> Result<(&[u8], u64), Flaw> {
    let len = bytes.first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
    if len < RECORD_BYTES || !len.is_multiple_of(8) {
        return Err(Flaw::Record);
    }
    let record = bytes.get(..len).ok_or(Flaw::Record)?;
    Ok((record, check_record(&record[..len - 16], chain)))
}

fn told(record: &[u8]) -> Option<Told> {
    let body = record.get(32..record.len() - 16)?.get(..u32_at(record, 8) as usize)?;
    let peer = PeerId::from_wire(u64_at(record, 24));
    let word = || Some(u64::from_le_bytes(*body.first_chunk()?));
    Some(match Kind::from_byte(record[4])? {
        Kind::Frame => {
            let (header, recorded) = body.split_first_chunk::<HEADER_BYTES>()?;
            let header = Header::from_bytes(header).ok()?;
            // As the driver has it: no shorter than its parts.
            let least = HEADER_BYTES + usize::from(header.ext_len) + header.table_len();
            if (header.len as usize) < least || switchboard_protocol::FRAME_BYTES_MAX < header.len {
                return None;
            }
            let tail = reads_of(record[5])?.rebuild(&header, recorded)?;
            Told::Input(Input::Frame { from: peer, header, tail: Slice::from(tail) })
        }
        Kind::Wrote => Told::Input(Input::Wrote { peer, bytes: usize::try_from(word()?).ok()? }),
        Kind::Wake => Told::Input(Input::Wake),
        Kind::Admit => Told::Admit { from: peer, bytes: word()? },
        Kind::Other => Told::Input(switchboard_protocol::decode(body)?),
    })
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Frame,
            2 => Self::Wrote,
            3 => Self::Wake,
            4 => Self::Admit,
            5 => Self::Other,
            _ => return None,
        })
    }
}

fn reads_of(byte: u8) -> Option<Reads> {
    Some(match byte {
        0 => Reads::Head,
        1 => Reads::Parts,
        2 => Reads::All,
        _ => return None,
    })
}

fn begin(record: &mut Vec<u8>, kind: Kind, reads: Reads, at_ns: u64, peer: u64) {
    record.clear();
    record.extend_from_slice(&[0; 4]);
    let reads = match reads {
        Reads::Head => 0,
        Reads::Parts => 1,
        Reads::All => 2,
    };
    record.extend_from_slice(&[kind as u8, reads, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    record.extend_from_slice(&at_ns.to_le_bytes());
    record.extend_from_slice(&peer.to_le_bytes());
}

/// Puts in the lengths, and room for digest and check.
fn finish(record: &mut Vec<u8>) {
    let body = (record.len() - 32) as u32;
    record[8..12].copy_from_slice(&body.to_le_bytes());
    pad(record);
    record.extend_from_slice(&[0; 16]);
    let len = record.len() as u32;
    record[..4].copy_from_slice(&len.to_le_bytes());
}

/// The check of a record's bytes up to its digest, without the number of effects, which is not known yet.
fn check_record(bytes: &[u8], chain: u64) -> u64 {
    let mut check = Digest::new(chain);
    let (words, _) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        check.word(if at == 1 { u64::from(word as u32) } else { word });
    }
    check.value()
}

fn check_head(head: &[u8]) -> u64 {
    let mut check = Digest::new(SEED);
    check.bytes(&head[..END_AT]);
    check.bytes(&head[HEAD_BYTES..]);
    check.value()
}

const fn padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(padded(bytes.len()), 0);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            number: 3,
            first_input: 70_000,
            at_ns: 5,
            wall_ns: 6,
            incarnation: 7,
            payloads: true,
            build: BUILD.to_owned(),
            snapshot: vec![9; 123],
        }
    }

    #[test]
    fn a_head_reads_back_and_no_flipped_byte_of_it_goes_unseen() {
        let bytes = head().to_bytes();
        assert_eq!(Head::read(&bytes), Ok((head(), bytes.len())));
        assert_eq!(end_of(&bytes), Ok(bytes.len()));
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut other = bytes.clone();
                other[at] ^= flip;
                let flaw = Head::read(&other).err().or(end_of(&other).err()).expect("seen");
                assert!(matches!(flaw, Flaw::Head | Flaw::End), "{flaw:?}");
            }
        }
        for len in 0..bytes.len() {
            Head::read(&bytes[..len]).expect_err("cut off");
        }
        assert_eq!(Head::read(b"[Unit]\nDescription="), Err(Flaw::Foreign));
    }

    #[test]
    fn records_read_back_complete_or_open() {
        let peer = PeerId { slot: 1, generation: 2 };
        let header = Header { len: 80, ..Header::new(switchboard_protocol::Kind::Call) };
        let frame = Input::Frame { from: peer, header, tail: Slice::from(vec![5; 16]) };
        let mut record = Vec::new();
        for (payload_max, byte) in [(0, 0), (16, 5)] {
            write_input(&mut record, 9, &frame, |_| Reads::Head, payload_max);
            let check = seal(&mut record, 44);
            let open = read_open(&record, 44).expect("open");
            assert!(read(&record, 44).is_err(), "it is not complete");
            let chain = complete(check, 3, 0x1234);
            let len = record.len();
            record[12..16].copy_from_slice(&3_u32.to_le_bytes());
            record[len - 16..len - 8].copy_from_slice(&0x1234_u64.to_le_bytes());
            record[len - 8..].copy_from_slice(&chain.to_le_bytes());
            let whole = read(&record, 44).expect("complete");
            assert_eq!((whole.at_ns, whole.effects, whole.digest, whole.chain), (9, 3, 0x1234, chain));
            for told in [open.told, whole.told] {
                let Told::Input(Input::Frame { from, header: read, tail }) = told else { panic!("{told:?}") };
                assert_eq!((from, read), (peer, header));
                assert_eq!(switchboard_core::Payload::bytes(&tail), [byte; 16]);
            }
            for at in 0..len {
                let mut other = record.clone();
                other[at] ^= 0x10;
                assert!(read(&other, 44).is_err(), "byte {at}");
            }
            assert!(read(&record, 45).is_err(), "it follows something else");
        }
    }
}
