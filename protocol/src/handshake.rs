//! The first two frames of a connection, and its last (SPEC 1).

use alloc::string::String;
use serde::{Deserialize, Serialize};

/// The version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;

/// The `method` of a hello frame: `SWBD`, so that a stranger on the socket is told apart (SPEC 1.2).
pub const HELLO_MAGIC: u32 = u32::from_le_bytes(*b"SWBD");

/// Feature bits (SPEC 1.5). A bit that either side does not set is not in force.
pub mod features {
    /// What this crate offers.
    pub const ALL: u64 = 0;
}

/// Body of the client's first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Lowest version that the client speaks.
    pub version_min: u8,
    /// Highest version that the client speaks.
    pub version_max: u8,
    /// [`features`] that the client wants.
    pub features: u64,
    /// What the program calls itself, for people; at most 64 bytes are kept.
    pub program: String,
}

/// Body of the broker's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that both will speak.
    pub version: u8,
    /// [`features`] in force.
    pub features: u64,
    /// The broker's clock while it wrote this, in nanoseconds (SPEC 1.6).
    pub broker_ns: u64,
    /// The broker's incarnation: the upper half of every epoch it gives.
    pub incarnation: u32,
    /// This connection's id.
    pub peer: u64,
    /// Largest payload that the broker takes, in bytes.
    pub payload_bytes_max: u32,
    /// Most calls that this connection may have open.
    pub calls_open_max: u32,
    /// Highest priority that policy lets this connection use.
    pub priority_max: u8,
}

/// Body of the last frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// One sentence for people: what was wrong and what was expected.
    pub message: String,
}

/// Why a connection ends: the `method` of a goodbye frame (SPEC 1.8). Stable numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u32)]
pub enum GoodbyeReason {
    /// The client is done. Nothing was wrong.
    Done = 0,
    /// The stream cannot be cut into frames: a bad length, kind, flag or extension.
    BadFrame = 1,
    /// No version in common.
    Version = 2,
    /// The first frame was not a valid hello, or a later one was.
    Hello = 3,
    /// No hello within the time allowed.
    HelloTimeout = 4,
    /// A frame that only the broker sends.
    BrokerOnly = 5,
    /// File descriptors where none belong, or more than fit.
    FileDescriptors = 6,
    /// A quota of connections is used up.
    TooManyConnections = 7,
    /// The user may not connect at all.
    Denied = 8,
    /// The peer does not read what it asked for.
    NotReading = 9,
    /// The broker goes down.
    ShuttingDown = 10,
}

impl GoodbyeReason {
    /// The reason of that number; an unknown one is read as [`GoodbyeReason::BadFrame`].
    pub const fn from_wire(number: u32) -> Self {
        match number {
            0 => Self::Done,
            2 => Self::Version,
            3 => Self::Hello,
            4 => Self::HelloTimeout,
            5 => Self::BrokerOnly,
            6 => Self::FileDescriptors,
            7 => Self::TooManyConnections,
            8 => Self::Denied,
            9 => Self::NotReading,
            10 => Self::ShuttingDown,
            _ => Self::BadFrame,
        }
    }
}
