//! Rights on objects, and the entries by which handles travel in messages (SPEC 3.4, 5.7).

use core::fmt;
use core::ops::{BitAnd, BitOr};
use serde::{Deserialize, Serialize};

/// A set of rights. The bits are the verbs of policy, so that one word serves both.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rights(pub u32);

/// One verb of policy: what somebody wants to do with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u32)]
pub enum Verb {
    /// Own the name and answer its calls.
    Serve = 1,
    /// Call it, and send to it.
    Call = 1 << 1,
    /// Publish to a topic.
    Publish = 1 << 2,
    /// Subscribe to a topic.
    Subscribe = 1 << 3,
    /// Put messages into a queue.
    Push = 1 << 4,
    /// Take messages out of a queue.
    Pop = 1 << 5,
    /// Map a segment.
    Map = 1 << 6,
    /// Raise an event or signal a process.
    Signal = 1 << 7,
    /// Pass the handle on.
    Delegate = 1 << 8,
    /// See other people's traffic.
    Monitor = 1 << 9,
    /// Reload, inspect and steer the broker.
    Admin = 1 << 10,
}

/// What kind of object a name stands for (DESIGN 2); numbers as in SPEC 3.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum ObjectKind {
    /// Request, reply, one-way sends, streamed replies.
    Service = 1,
    /// Fan-out to subscribers (SPEC 9).
    Topic = 2,
    /// Work for one consumer each (SPEC 10).
    Queue = 3,
    /// Flags and pulses (SPEC 11).
    Event = 4,
}

/// A handle inside a message: which, with what rights, how long (SPEC 5.7). 16 bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleEntry {
    /// In a frame to the broker, a handle of the sender; in one from it, of the receiver, or 0 where
    /// the handle was lost on the way (revoked or refused).
    pub handle: u64,
    /// The rights that the receiver gets; never more than the sender has.
    pub rights: Rights,
    /// [`handle_flags`].
    pub flags: u32,
}

/// Flags of a [`HandleEntry`].
pub mod handle_flags {
    /// Survives the disconnect of the root granter.
    pub const PERSISTENT: u32 = 1;
    /// Dies when the call that carried it ends.
    pub const CALL_SCOPED: u32 = 1 << 1;
    /// Every flag that exists; others must be zero.
    pub const ALL: u32 = PERSISTENT | CALL_SCOPED;
}

/// Bytes of one [`HandleEntry`] on the wire.
pub const HANDLE_ENTRY_BYTES: usize = 16;

impl Verb {
    /// Every verb, in the order of SPEC 3.4.
    pub const ALL: [Self; 11] = [
        Self::Serve,
        Self::Call,
        Self::Publish,
        Self::Subscribe,
        Self::Push,
        Self::Pop,
        Self::Map,
        Self::Signal,
        Self::Delegate,
        Self::Monitor,
        Self::Admin,
    ];

    /// The word used in configuration files and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Call => "call",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Push => "push",
            Self::Pop => "pop",
            Self::Map => "map",
            Self::Signal => "signal",
            Self::Delegate => "delegate",
            Self::Monitor => "monitor",
            Self::Admin => "admin",
        }
    }

    /// The verb of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }

    /// The set of just this verb.
    pub const fn right(self) -> Rights {
        Rights(self as u32)
    }
}

impl Rights {
    /// No right at all.
    pub const NONE: Self = Self(0);
    /// Every right that exists.
    pub const ALL: Self = Self((1 << 11) - 1);

    /// Whether every right of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Rights {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Rights {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(Verb::ALL.iter().filter(|verb| self.contains(verb.right())).map(|v| v.as_str()))
            .finish()
    }
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Service, Self::Topic, Self::Queue, Self::Event];

    /// The kind of that number, if this version knows it.
    pub const fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Service,
            2 => Self::Topic,
            3 => Self::Queue,
            4 => Self::Event,
            _ => return None,
        })
    }

    /// Whether a right means something on an object of this kind (SPEC 3.4).
    pub const fn has(self, verb: Verb) -> bool {
        match verb {
            Verb::Delegate | Verb::Monitor | Verb::Admin => true,
            Verb::Serve | Verb::Call => matches!(self, Self::Service),
            Verb::Publish => matches!(self, Self::Topic),
            Verb::Subscribe => matches!(self, Self::Topic | Self::Event),
            Verb::Push | Verb::Pop => matches!(self, Self::Queue),
            Verb::Signal => matches!(self, Self::Service | Self::Event),
            Verb::Map => false,
        }
    }

    /// The word used on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Topic => "topic",
            Self::Queue => "queue",
            Self::Event => "event",
        }
    }
}

impl HandleEntry {
    /// Reads an entry from its 16 bytes.
    pub fn from_bytes(bytes: &[u8; HANDLE_ENTRY_BYTES]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { handle: word(0) as u64 | (word(4) as u64) << 32, rights: Rights(word(8)), flags: word(12) }
    }

    /// The 16 bytes of this entry.
    pub fn to_bytes(self) -> [u8; HANDLE_ENTRY_BYTES] {
        let mut bytes = [0; HANDLE_ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.handle.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.rights.0.to_le_bytes());
        bytes[12..].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }
}
