//! What is said of topics (SPEC 9).

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What an item of a subscription is: its `handle` (SPEC 9.5). Stable numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u64)]
pub enum Delivery {
    /// A message (or a batch) as it was published.
    Message = 0,
    /// The subscription is in force: messages follow from the position after `epoch`.
    Subscribed = 1,
    /// The messages at positions `epoch` to `deadline` are lost to this subscription.
    Lost = 2,
    /// A message of before the subscription: retained, or of the history.
    Earlier = 3,
}

/// What becomes of a subscription that is not drained as fast as messages come (SPEC 9.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum SlowPolicy {
    /// The oldest messages that wait are dropped, and the subscriber is told which.
    #[default]
    DropOldest = 0,
    /// Of each topic only the latest message waits.
    Latest = 1,
    /// Publishers wait, within their deadlines.
    Block = 2,
    /// The subscription ends with `Busy`.
    Disconnect = 3,
}

impl Delivery {
    /// The kind of item of that number; an unknown one is to be ignored.
    pub const fn from_wire(word: u64) -> Option<Self> {
        Some(match word {
            0 => Self::Message,
            1 => Self::Subscribed,
            2 => Self::Lost,
            3 => Self::Earlier,
            _ => return None,
        })
    }
}

impl SlowPolicy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::DropOldest, Self::Latest, Self::Block, Self::Disconnect];

    /// The policy of that number.
    pub fn from_wire(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// The word used in configuration files and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DropOldest => "drop_oldest",
            Self::Latest => "latest",
            Self::Block => "block",
            Self::Disconnect => "disconnect",
        }
    }
}

/// Asks for the messages of topics, as a stream (SPEC 9.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// A topic, held with the right `subscribe`; 0 to subscribe by `pattern`.
    pub handle: u64,
    /// The names of the topics; empty with a `handle`.
    pub pattern: String,
    /// [`SlowPolicy`].
    pub policy: u8,
    /// Messages that may wait for the subscriber; 0 for the broker's default.
    pub messages: u32,
    /// Bytes of them that may wait; 0 for the broker's default.
    pub bytes: u32,
    /// Earlier messages of each topic wanted, as far as it keeps any: the latest ones.
    pub history: u32,
}

/// What is published for a client that dies (SPEC 9.9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Will {
    /// A topic, held with the right `publish`.
    pub handle: u64,
    /// The message's method.
    pub method: u32,
    /// Its payload; `None` takes back the will on that handle.
    pub payload: Option<Vec<u8>>,
}

/// A topic at a glance (SPEC 9.8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Subscriptions that match it now.
    pub subscriptions: u32,
    /// Messages published so far: the sequence number of the latest.
    pub sequence: u64,
    /// Messages that wait for a subscription of policy `block`.
    pub held: u32,
    /// Earlier messages that are kept.
    pub kept: u32,
    /// Bytes of them.
    pub kept_bytes: u64,
    /// Whether the latest message is retained.
    pub retain: bool,
}
