//! Records of the log: what is written about each change of a durable thing, and how it is read back.
//!
//! A record is 8 bytes (version, three zeros, the length of the head as u32), the head in postcard
//! and, where it is about messages, their bytes. Whatever comes from the disk is parsed as a whole or
//! not at all.

use alloc::string::String;
use alloc::vec::Vec;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};
use switchboard_protocol::queue::{DeadLetter, GROUP_KEY_BYTES_MAX, Level, Overflow, QUEUE_PRIORITIES};
use switchboard_protocol::{Extensions, Name, decode, encode_onto};

/// What has changed. New kinds go to the end: their number is their place. `M` are its messages, as they
/// are read; who writes may make them one by one, as [`Entries`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Record<M = Vec<Entry>> {
    /// A queue was made, or its settings have changed, or this is a copy.
    Queue(QueueMade),
    /// A queue was deleted with all it held.
    QueueGone(u64),
    /// Messages have come or gone.
    Change(Change<M>),
    /// Messages were delivered, or came back.
    Delivered(Vec<Delivered>),
    /// A copy of what is remembered of a producer.
    Mark(MarkTaken),
    /// The retained message of a topic, which follows.
    Retained(Retained),
    /// A topic retains nothing any more.
    RetainedGone(String),
}

/// A queue. Its number is the position of the first record about it: no other ever has it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueMade {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Whose quota of names it counts against.
    pub(crate) uid: u32,
    pub(crate) durability: u8,
    pub(crate) messages_max: u64,
    pub(crate) bytes_max: u64,
    pub(crate) overflow: u8,
    pub(crate) lossy: bool,
    pub(crate) deliveries_max: u32,
    pub(crate) dead_letters: String,
    /// The latest position that it has given out.
    pub(crate) position: u64,
}

/// Messages that go and come together.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Change<M = Vec<Entry>> {
    pub(crate) gone: Vec<Place>,
    pub(crate) mark: Option<MarkTaken>,
    pub(crate) messages: M,
}

/// So many messages, each made when it is written.
pub(crate) struct Entries<I> {
    pub(crate) count: usize,
    pub(crate) each: I,
}

impl<I: Iterator<Item = Entry> + Clone> Serialize for Entries<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.count))?;
        for entry in self.each.clone() {
            list.serialize_element(&entry)?;
        }
        list.end()
    }
}

/// A message.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Its queue's number.
    pub(crate) queue: u64,
    pub(crate) position: u64,
}

/// A message with all there is to it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) queue: u64,
    pub(crate) position: u64,
    pub(crate) uid: u32,
    pub(crate) counts: u32,
    /// Its bytes, among those that follow.
    pub(crate) start: u32,
    pub(crate) len: u32,
    /// How many of these are extensions.
    pub(crate) ext_len: u16,
    pub(crate) pushed_s: u32,
    pub(crate) expires: u64,
    pub(crate) ready_at: u64,
    pub(crate) group: Vec<u8>,
    pub(crate) dead: Option<DeadLetter>,
}

/// A message was delivered so often.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Delivered {
    pub(crate) queue: u64,
    pub(crate) position: u64,
    pub(crate) deliveries: u32,
    pub(crate) ready_at: u64,
}

/// What was taken from a producer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct MarkTaken {
    pub(crate) queue: u64,
    pub(crate) uid: u32,
    pub(crate) producer: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) position: u64,
    pub(crate) wall_ns: u64,
}

/// A retained message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Retained {
    pub(crate) name: String,
    pub(crate) sequence: u64,
    pub(crate) method: u32,
    pub(crate) ext_len: u16,
}

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 8;

/// Bytes that a message takes in a head, one that is gone or was delivered, and anything else: more than
/// most do.
pub(crate) const ENTRY_BYTES: usize = 40;
const PLACE_BYTES: usize = 12;
pub(crate) const OTHER_BYTES: usize = 64;

impl<M: Serialize> Record<M> {
    /// The first part of the record, which takes about so many bytes; those of its messages follow.
    pub(crate) fn to_head_of(&self, bytes: usize) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD_BYTES + bytes);
        head.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0, 0, 0]);
        let mut head = encode_onto(self, head);
        let len = (head.len() - HEAD_BYTES) as u32;
        head[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&len.to_le_bytes());
        head
    }
}

impl Record {
    /// [`Self::to_head_of`] about as many bytes as it is likely to take.
    pub(crate) fn to_head(&self) -> Vec<u8> {
        let items = match self {
            Self::Change(change) => change.gone.len() * PLACE_BYTES + change.messages.len() * ENTRY_BYTES,
            Self::Delivered(delivered) => delivered.len() * PLACE_BYTES,
            Self::Queue(_)
            | Self::QueueGone(_)
            | Self::Mark(_)
            | Self::Retained(_)
            | Self::RetainedGone(_) => 0,
        };
        self.to_head_of(items + OTHER_BYTES)
    }

    /// Reads a record: what it says, and where the bytes of its messages begin. `None` if it is not
    /// exactly one that [`Self::to_head`] and its messages make.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (body, tail) = rest.split_at_checked(len)?;
        let record: Self = decode(body).filter(|_| head[..4] == [VERSION, 0, 0, 0])?;
        record.is_sound(tail).then_some((record, HEAD_BYTES + len))
    }

    fn is_sound(&self, tail: &[u8]) -> bool {
        match self {
            Self::Queue(made) => tail.is_empty() && made.is_sound(),
            Self::Change(change) => change.messages.iter().all(|entry| entry.is_sound(tail)),
            Self::Retained(it) => Name::new(&it.name).is_ok() && has_extensions(tail, it.ext_len),
            Self::RetainedGone(name) => tail.is_empty() && Name::new(name).is_ok(),
            Self::Mark(mark) => tail.is_empty() && mark.first <= mark.last,
            Self::QueueGone(_) | Self::Delivered(_) => tail.is_empty(),
        }
    }
}

impl QueueMade {
    fn is_sound(&self) -> bool {
        Name::new(&self.name).is_ok()
            && (self.dead_letters.is_empty() || Name::new(&self.dead_letters).is_ok())
            && Level::from_wire(self.durability.into()).is_some_and(|level| level != Level::Memory)
            && Overflow::from_wire(self.overflow).is_some()
    }
}

impl Entry {
    fn is_sound(&self, tail: &[u8]) -> bool {
        let (start, len) = (self.start as usize, self.len as usize);
        let bytes = tail.get(start..).and_then(|rest| rest.get(..len));
        bytes.is_some_and(|bytes| has_extensions(bytes, self.ext_len))
            && self.group.len() <= GROUP_KEY_BYTES_MAX
            && self.counts >> 24 < u32::from(QUEUE_PRIORITIES)
    }
}

fn has_extensions(bytes: &[u8], ext_len: u16) -> bool {
    bytes.get(..usize::from(ext_len)).is_some_and(|area| Extensions::parse(area).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(start: u32, len: u32) -> Entry {
        Entry {
            queue: 7,
            position: 1 << 40,
            uid: 1000,
            counts: 31 << 24 | 3,
            start,
            len,
            ext_len: 0,
            pushed_s: 5,
            expires: 0,
            ready_at: u64::MAX,
            group: b"key".to_vec(),
            dead: None,
        }
    }

    #[test]
    fn a_record_reads_back_with_the_place_of_its_bytes() {
        let change = Change { messages: alloc::vec![entry(0, 2), entry(2, 3)], ..Change::default() };
        let mut bytes = Record::Change(change).to_head();
        let at = bytes.len();
        bytes.extend_from_slice(b"hello");
        let Some((Record::Change(read), start)) = Record::parse(&bytes) else { panic!("no change") };
        assert_eq!((start, read.messages.len(), &read.messages[1].group[..]), (at, 2, &b"key"[..]));
        assert_eq!(read.messages[1].ready_at, u64::MAX);
    }

    #[test]
    fn messages_that_are_made_one_by_one_are_written_as_those_in_a_list() {
        let change = Change { messages: alloc::vec![entry(0, 2), entry(2, 3)], ..Change::default() };
        let each = [(0, 2), (2, 3)].into_iter().map(|(start, len)| entry(start, len));
        let entries = Change { gone: Vec::new(), mark: None, messages: Entries { count: 2, each } };
        assert_eq!(Record::Change(entries).to_head_of(1), Record::Change(change).to_head());
    }

    #[test]
    fn what_is_cut_off_or_points_beyond_its_end_is_no_record() {
        let change = Change { messages: alloc::vec![entry(2, 3)], ..Change::default() };
        let mut bytes = Record::Change(change).to_head();
        bytes.extend_from_slice(b"hello");
        assert!(Record::parse(&bytes).is_some());
        for len in 0..bytes.len() {
            assert!(Record::parse(&bytes[..len]).is_none(), "{len} bytes");
        }
        for at in 0..4 {
            let mut odd = bytes.clone();
            odd[at] ^= 0x10;
            assert!(Record::parse(&odd).is_none(), "byte {at}");
        }
        let beyond = Change { messages: alloc::vec![entry(u32::MAX, u32::MAX)], ..Change::default() };
        assert!(Record::parse(&Record::Change(beyond).to_head()).is_none());
    }

    #[test]
    fn hostile_bytes_never_panic() {
        let mut dice = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            let mut bytes =
                Record::Change(Change { messages: alloc::vec![entry(0, 0)], ..Change::default() }).to_head();
            for _ in 0..3 {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                let at = dice as usize % bytes.len();
                bytes[at] = (dice >> 32) as u8;
            }
            Record::parse(&bytes);
        }
    }
}
