//! Identifiers: each a newtype, so that none is taken for another.

use core::fmt;
use serde::{Deserialize, Serialize};

/// A connection of one broker incarnation: a slot of the broker's table and the generation that
/// tells its successive users apart. Never reused while the broker runs (2^32 users of a slot).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId {
    /// Index in the broker's table of connections.
    pub slot: u32,
    /// Counts the users of the slot; starts at 1, so that no valid id is 0 on the wire.
    pub generation: u32,
}

/// What a connection holds on an object: a slot and a generation, meaningless to any other
/// connection (SPEC 3.1). [`Handle::BROKER`] is the broker itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    /// Index in the broker's table of handles.
    pub slot: u32,
    /// Counts the users of the slot; 0 only in [`Handle::BROKER`].
    pub generation: u32,
}

/// Fences an owner of a name: the broker's incarnation (persisted, upper half) and a counter (lower
/// half), growing with every change of owner (SPEC 3.5). `Epoch(0)` means "any" or "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Handle {
    /// The handle 0: calls on it are control operations, answered by the broker (SPEC 6).
    pub const BROKER: Self = Self { slot: 0, generation: 0 };

    /// From the header field: the slot is the lower half.
    pub const fn from_wire(word: u64) -> Self {
        Self { slot: word as u32, generation: (word >> 32) as u32 }
    }

    /// The header field.
    pub const fn to_wire(self) -> u64 {
        self.slot as u64 | (self.generation as u64) << 32
    }
}

impl PeerId {
    /// From the header field: the slot is the lower half.
    pub const fn from_wire(word: u64) -> Self {
        Self { slot: word as u32, generation: (word >> 32) as u32 }
    }

    /// The header field.
    pub const fn to_wire(self) -> u64 {
        self.slot as u64 | (self.generation as u64) << 32
    }
}

impl Epoch {
    /// The broker's incarnation that gave this epoch.
    pub const fn incarnation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{}.{}", self.slot, self.generation)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.slot, self.generation)
    }
}
