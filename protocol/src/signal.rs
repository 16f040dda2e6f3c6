//! What is said of events: flags and pulses (SPEC 11).

use serde::{Deserialize, Serialize};

/// What is asked of an event: the `method` of a CALL, or of a SEND for the first two, on its handle
/// (SPEC 11.2). Stable numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum SignalMethod {
    /// [`Raise`]: sets flags.
    Raise = 1,
    /// [`Pulse`]: leaves a pulse.
    Pulse = 2,
    /// [`Await`] → [`Raised`].
    Await = 3,
}

/// Sets flags (SPEC 11.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raise {
    /// The flags, at least one.
    pub bits: u64,
}

/// Leaves a code and a value (SPEC 11.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// What it is about.
    pub code: u32,
    /// What it says.
    pub value: u64,
}

/// Waits for flags or a pulse (SPEC 11.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Await {
    /// Any of these flags; 0 to wait for a pulse alone.
    pub mask: u64,
    /// Whether a pulse is wanted too.
    pub pulses: bool,
}

/// What was waited for (SPEC 11.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// Those of the flags waited for that were set; they are not any more.
    pub bits: u64,
    /// A pulse, where no flag was set.
    pub pulse: Option<Pulse>,
    /// Pulses that found no room since a waiter was last told.
    pub overflow: u64,
}

impl SignalMethod {
    /// The method of that number.
    pub const fn from_wire(method: u32) -> Option<Self> {
        Some(match method {
            1 => Self::Raise,
            2 => Self::Pulse,
            3 => Self::Await,
            _ => return None,
        })
    }
}
