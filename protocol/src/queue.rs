//! What is said of queues (SPEC 10).

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What is asked of a queue: the `method` of a CALL on its handle (SPEC 10.2). Stable numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum QueueMethod {
    /// Put the payload into the queue, or each message of a batch.
    Push = 1,
    /// [`Pop`]: take messages out, under lease.
    Pop = 2,
    /// Leases, 16 bytes each: these messages are dealt with.
    Ack = 3,
    /// [`Nack`]: this one is not.
    Nack = 4,
    /// [`Extend`]: it takes longer.
    Extend = 5,
    /// [`Peek`], streamed: what is there, without taking it.
    Peek = 6,
    /// Remove everything that is not leased.
    Purge = 7,
    /// Nothing → [`QueueInfo`].
    Stat = 8,
    /// [`Redrive`] → [`Redriven`]: bring dead letters back.
    Redrive = 9,
}

/// Priorities of messages in a queue: 0 (least) to 31 (SPEC 10.4).
pub const QUEUE_PRIORITIES: u8 = 32;

/// Longest key of an ordered group, in bytes (SPEC 10.8).
pub const GROUP_KEY_BYTES_MAX: usize = 128;

/// Queues beside the handle's own that one push may go to (SPEC 10.3).
pub const PUSH_QUEUES_MAX: usize = 15;

/// How durable something is: what an acknowledgement says (SPEC 10.6). Stable numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Level {
    /// In the broker's memory: gone with it.
    #[default]
    Memory = 0,
    /// Written to the operating system: survives the broker, not the machine.
    Os = 1,
    /// Synced to the disk.
    Disk = 2,
}

/// What becomes of a push to a full queue (SPEC 10.5). Stable numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Overflow {
    /// It ends with `Busy`.
    #[default]
    Reject = 0,
    /// The oldest message of the least priority makes room.
    DropOldest = 1,
    /// It waits for room until its deadline.
    Block = 2,
}

/// What a consumer says of a message it does not acknowledge (SPEC 10.10). Stable numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NackHow {
    /// Back to its place; this delivery does not count.
    Requeue = 0,
    /// Back to its place; this delivery was an attempt that failed.
    Fail = 1,
    /// To the dead letters, now.
    Dead = 2,
}

/// How long a lease lasts (SPEC 10.9). Stable numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum LeaseKind {
    /// As long as its consumer lives.
    #[default]
    Attached = 0,
    /// For a time, whoever lives.
    Detached = 1,
    /// Not at all: delivered is consumed.
    None = 2,
}

/// What is fixed or bounded about a queue (SPEC 10.1). A 0 is the broker's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateQueue {
    /// Its name.
    pub name: String,
    /// [`Level`].
    pub durability: u8,
    /// Messages at once, leased ones included.
    pub messages_max: u64,
    /// Bytes of them.
    pub bytes_max: u64,
    /// [`Overflow`].
    pub overflow: u8,
    /// Whether messages of a durable queue may be dropped for want of room.
    pub lossy: bool,
    /// Deliveries after which a message is dead.
    pub deliveries_max: u32,
    /// Where dead letters go; empty for the queue's name with `.dead` behind it.
    pub dead_letters: String,
}

/// What came of asking for a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Whether it was there already.
    pub existed: bool,
}

/// Asks for messages (SPEC 10.7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pop {
    /// [`LeaseKind`].
    pub lease: u8,
    /// How long a detached lease lasts, or one whose consumer lost its connection (at most 5 s); 0 for
    /// 30 s.
    pub lease_ns: u64,
}

/// A lease: 128 bits, unguessable (SPEC 10.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseId {
    /// The lower half.
    pub low: u64,
    /// The upper half.
    pub high: u64,
}

/// Bytes of a [`LeaseId`] in a payload.
pub const LEASE_BYTES: usize = 16;

/// Gives a message back (SPEC 10.10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// Its lease.
    pub lease: LeaseId,
    /// [`NackHow`].
    pub how: u8,
    /// Not to be delivered again before so many nanoseconds have passed.
    pub delay_ns: u64,
}

/// Makes a lease last longer (SPEC 10.9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extend {
    /// The lease.
    pub lease: LeaseId,
    /// From now.
    pub by_ns: u64,
}

/// Looks at what is there (SPEC 10.11).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peek {
    /// Only messages behind this position.
    pub after: u64,
    /// At most so many; 0 for all.
    pub count: u32,
}

/// Brings dead letters back (SPEC 10.12).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// At most so many; 0 for all.
    pub count: u32,
}

/// How many came back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// Messages that are in their queue again.
    pub moved: u64,
    /// Messages for which there was no room, and that stay.
    pub left: u64,
}

/// What a push says beside its payload: the value of the extension PUSH, 20 bytes (SPEC 10.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// 0 to 31.
    pub priority: u8,
    /// Nanoseconds after which it is not delivered any more; 0 for never.
    pub ttl_ns: u64,
    /// Nanoseconds before which it is not delivered.
    pub delay_ns: u64,
}

/// Who pushes, and which of its messages this is: the value of the extension PRODUCER, 16 bytes (SPEC 10.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Chosen by the producer, and its own among those of its user.
    pub id: u64,
    /// Greater with each message.
    pub sequence: u64,
}

/// A queue at a glance (SPEC 10.11).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueInfo {
    /// [`Level`].
    pub durability: u8,
    /// [`Overflow`].
    pub overflow: u8,
    /// Its bounds.
    pub messages_max: u64,
    /// In bytes.
    pub bytes_max: u64,
    /// Deliveries after which a message is dead.
    pub deliveries_max: u32,
    /// Where dead letters go.
    pub dead_letters: String,
    /// Messages in it, in whatever state.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Of them: ready to be delivered.
    pub ready: u64,
    /// Leased.
    pub leased: u64,
    /// Not to be delivered yet.
    pub delayed: u64,
    /// Behind another one of their group.
    pub grouped: u64,
    /// Consumers.
    pub consumers: u32,
    /// Pushes that wait for room.
    pub blocked: u32,
    /// The position of the latest message.
    pub position: u64,
    /// Since the broker's start: pushed.
    pub pushed: u64,
    /// Delivered.
    pub delivered: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Dropped for want of room.
    pub dropped: u64,
    /// Expired.
    pub expired: u64,
    /// Gone to the dead letters.
    pub dead: u64,
    /// Pushes that were there already.
    pub duplicates: u64,
    /// Why the queue takes nothing; empty if it does.
    pub read_only: String,
}

/// Where a dead letter comes from: the value of the extension DEAD_LETTER (SPEC 10.12).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The queue it was pushed to.
    pub queue: String,
    /// Its position there.
    pub position: u64,
    /// How often it was delivered there.
    pub deliveries: u32,
    /// When it was pushed there, nanoseconds since 1970.
    pub pushed_wall_ns: u64,
    /// When it was given up.
    pub died_wall_ns: u64,
    /// Why.
    pub reason: String,
}

impl QueueMethod {
    /// The method of that number.
    pub const fn from_wire(method: u32) -> Option<Self> {
        Some(match method {
            1 => Self::Push,
            2 => Self::Pop,
            3 => Self::Ack,
            4 => Self::Nack,
            5 => Self::Extend,
            6 => Self::Peek,
            7 => Self::Purge,
            8 => Self::Stat,
            9 => Self::Redrive,
            _ => return None,
        })
    }
}

impl Level {
    /// Every level, from the least.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Os, Self::Disk];

    /// The level of that number.
    pub fn from_wire(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    /// The word used in configuration files and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Os => "os",
            Self::Disk => "disk",
        }
    }
}

impl Overflow {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Reject, Self::DropOldest, Self::Block];

    /// The policy of that number.
    pub fn from_wire(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// The word used in configuration files and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::DropOldest => "drop_oldest",
            Self::Block => "block",
        }
    }
}

impl NackHow {
    /// The way of that number.
    pub const fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Requeue,
            1 => Self::Fail,
            2 => Self::Dead,
            _ => return None,
        })
    }
}

impl LeaseKind {
    /// The kind of that number.
    pub const fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Attached,
            1 => Self::Detached,
            2 => Self::None,
            _ => return None,
        })
    }
}

impl LeaseId {
    /// Reads a lease from its 16 bytes.
    pub fn from_bytes(bytes: &[u8; LEASE_BYTES]) -> Self {
        let all = u128::from_le_bytes(*bytes);
        Self { low: all as u64, high: (all >> 64) as u64 }
    }

    /// Its 16 bytes.
    pub fn to_bytes(self) -> [u8; LEASE_BYTES] {
        (u128::from(self.low) | u128::from(self.high) << 64).to_le_bytes()
    }

    /// The leases in a payload; `None` if it is not a whole number of them, or none.
    pub fn all_in(payload: &[u8]) -> Option<Vec<Self>> {
        let (leases, rest) = payload.as_chunks::<LEASE_BYTES>();
        (rest.is_empty() && !leases.is_empty()).then(|| leases.iter().map(Self::from_bytes).collect())
    }
}

/// As 32 hexadecimal digits.
impl core::fmt::Display for LeaseId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:016x}{:016x}", self.high, self.low)
    }
}

/// From 32 hexadecimal digits.
impl core::str::FromStr for LeaseId {
    type Err = core::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = u128::from_str_radix(text, 16)?;
        Ok(Self { low: all as u64, high: (all >> 64) as u64 })
    }
}

impl PushOptions {
    /// Bytes of the extension's value.
    pub const BYTES: usize = 20;

    /// Reads the extension's value; `None` if it has another length or its reserved bytes are not 0.
    pub fn from_bytes(value: &[u8]) -> Option<Self> {
        let value: &[u8; Self::BYTES] = value.try_into().ok()?;
        (value[1..4] == [0; 3]).then(|| Self {
            priority: value[0],
            ttl_ns: word(value, 4),
            delay_ns: word(value, 12),
        })
    }

    /// The extension's value.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut value = [0; Self::BYTES];
        value[0] = self.priority;
        value[4..12].copy_from_slice(&self.ttl_ns.to_le_bytes());
        value[12..].copy_from_slice(&self.delay_ns.to_le_bytes());
        value
    }
}

impl Producer {
    /// Bytes of the extension's value.
    pub const BYTES: usize = 16;

    /// Reads the extension's value; `None` if it has another length.
    pub fn from_bytes(value: &[u8]) -> Option<Self> {
        (value.len() == Self::BYTES).then(|| Self { id: word(value, 0), sequence: word(value, 8) })
    }

    /// The extension's value.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        (u128::from(self.id) | u128::from(self.sequence) << 64).to_le_bytes()
    }
}

/// The key in the value of the extension GROUP; `None` if it is too short or too long (SPEC 10.8).
pub const fn group_key(value: &[u8]) -> Option<&[u8]> {
    if value.is_empty() || GROUP_KEY_BYTES_MAX < value.len() { None } else { Some(value) }
}

/// The handles in the value of the extension QUEUES; `None` if it is not a whole number of them, none, or
/// too many (SPEC 10.3).
pub fn push_queues(value: &[u8]) -> Option<impl ExactSizeIterator<Item = u64>> {
    let (handles, rest) = value.as_chunks();
    let fits = rest.is_empty() && !handles.is_empty() && handles.len() <= PUSH_QUEUES_MAX;
    fits.then(|| handles.iter().map(|handle| u64::from_le_bytes(*handle)))
}

/// The number in the 8 bytes at `at`.
fn word(value: &[u8], at: usize) -> u64 {
    let bytes = value[at..].first_chunk().expect("8 bytes are left there");
    u64::from_le_bytes(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn leases_read_back_from_bytes_and_from_text() {
        let lease = LeaseId { low: 0x0123_4567_89ab_cdef, high: 0xfedc_ba98_7654_3210 };
        assert_eq!(LeaseId::from_bytes(&lease.to_bytes()), lease);
        assert_eq!(lease.to_string(), "fedcba98765432100123456789abcdef");
        assert_eq!(lease.to_string().parse(), Ok(lease));
        let two: Vec<u8> = [lease.to_bytes(), lease.to_bytes()].concat();
        assert_eq!(LeaseId::all_in(&two).map(|leases| leases.len()), Some(2));
        assert!(LeaseId::all_in(&two[1..]).is_none() && LeaseId::all_in(&[]).is_none());
    }

    #[test]
    fn push_options_read_back_and_leave_room_to_grow() {
        let options = PushOptions { priority: 31, ttl_ns: 7, delay_ns: u64::MAX };
        assert_eq!(PushOptions::from_bytes(&options.to_bytes()), Some(options));
        let mut odd = options.to_bytes();
        odd[2] = 1;
        assert_eq!(PushOptions::from_bytes(&odd), None);
        assert_eq!(PushOptions::from_bytes(&odd[1..]), None);
    }
    #[test]
    fn producers_groups_and_queues_are_read_only_whole() {
        let producer = Producer { id: 1, sequence: u64::MAX };
        assert_eq!(Producer::from_bytes(&producer.to_bytes()), Some(producer));
        assert_eq!(Producer::from_bytes(&producer.to_bytes()[1..]), None);
        assert_eq!(group_key(&[1; 128]), Some(&[1; 128][..]));
        assert!(group_key(&[]).is_none() && group_key(&[1; 129]).is_none());
        let handles = |value: &[u8]| push_queues(value).map(|handles| handles.collect::<Vec<_>>());
        assert_eq!(
            handles(&[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]),
            Some(alloc::vec![2 << 32 | 1, 3])
        );
        assert_eq!(handles(&[0; 120]).map(|handles| handles.len()), Some(15));
        assert!(handles(&[]).is_none() && handles(&[0; 12]).is_none() && handles(&[0; 128]).is_none());
    }
}
