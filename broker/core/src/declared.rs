//! What configuration says of topics and queues.

use serde::{Deserialize, Serialize};
use switchboard_protocol::Name;
use switchboard_protocol::queue::{Level, Overflow};

/// A `[topic."NAME"]` table (SPEC 9.7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettings {
    /// Its name.
    pub name: Name,
    /// Whether the latest message is kept for those who subscribe later.
    pub retain: bool,
    /// Messages kept, the retained one included; 0 for none.
    pub history: u32,
    /// Bytes of them at most.
    pub history_bytes: u64,
    /// Whether the retained message survives the broker, or the machine.
    pub durability: Level,
    /// Whether every subscriber may choose to hold publishers back (SPEC 9.6).
    pub block: bool,
}

/// A `[queue."NAME"]` table, or what was asked for at run time (SPEC 10.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSettings {
    /// Its name.
    pub name: Name,
    /// What an acknowledged push survives.
    pub durability: Level,
    /// Messages at once, leased ones included.
    pub messages_max: u64,
    /// Bytes of them.
    pub bytes_max: u64,
    /// What becomes of a push to a full queue.
    pub overflow: Overflow,
    /// Whether messages of a durable queue may be dropped for want of room.
    pub lossy: bool,
    /// Deliveries after which a message is dead.
    pub deliveries_max: u32,
    /// Where dead letters go; `None` for the queue's name with `.dead` behind it.
    pub dead_letters: Option<Name>,
}

impl TopicSettings {
    /// Those of a topic that nothing is configured for.
    pub fn of(name: Name) -> Self {
        Self {
            name,
            retain: false,
            history: 0,
            history_bytes: 16 << 20,
            durability: Level::Memory,
            block: false,
        }
    }
}

impl QueueSettings {
    /// Those of a queue of which nothing else is said.
    pub fn of(name: Name) -> Self {
        Self {
            name,
            durability: Level::Memory,
            messages_max: 10_000,
            bytes_max: 64 << 20,
            overflow: Overflow::Reject,
            lossy: false,
            deliveries_max: 16,
            dead_letters: None,
        }
    }
}
