//! How a call ends (SPEC 4.6).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Every way in which a call can end. The numbers are stable and never reused; an unknown one is
/// read as [`Outcome::Failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u32)]
pub enum Outcome {
    /// The service answered.
    Reply = 0,
    /// The service's own error.
    Failed = 1,
    /// Nobody serves the name.
    NoOwner = 2,
    /// Policy or the handle's rights do not allow it.
    Denied = 3,
    /// A queue, quota or window is full; `retry_after_ms` says when to try again.
    Busy = 4,
    /// The deadline passed first.
    DeadlineExceeded = 5,
    /// The caller gave up.
    Cancelled = 6,
    /// The service, or the connection to the broker, was lost while the call was open.
    PeerDied = 7,
    /// The service dropped the request without an answer.
    Abandoned = 8,
    /// The service could not be started.
    ActivationFailed = 9,
    /// The owner is not the one that the caller expected.
    OwnerChanged = 10,
    /// The handle was revoked.
    HandleRevoked = 11,
    /// The request makes no sense: an unknown handle, a bad name, a malformed body.
    Invalid = 12,
    /// Payload, or answer, over a limit.
    TooLarge = 13,
    /// Unknown method or operation.
    Unsupported = 14,
    /// The broker is going down.
    ShuttingDown = 15,
    /// The lease is over: it was acknowledged, ran out, or its broker restarted.
    LeaseLost = 16,
    /// The log of durable things cannot be written, so that nothing is taken that it should hold.
    ReadOnly = 17,
}

/// The body of an outcome other than a reply (SPEC 4.7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One sentence for people: what was wrong, where, what to do.
    pub message: String,
    /// Whose code it is; empty for the broker's own outcomes.
    pub domain: String,
    /// The service's number for what went wrong; 0 where it has none.
    pub code: u32,
    /// With [`Outcome::Busy`], when to try again, in milliseconds; else 0.
    pub retry_after_ms: u32,
    /// With [`Outcome::PeerDied`] and [`Outcome::ActivationFailed`], the exit status as `wait(2)`
    /// has it, where the kernel told.
    pub exit_status: Option<u32>,
    /// Anything else the service wants to say, in its own encoding.
    pub details: Vec<u8>,
}

impl Outcome {
    /// Every outcome, by number.
    pub const ALL: [Self; 18] = [
        Self::Reply,
        Self::Failed,
        Self::NoOwner,
        Self::Denied,
        Self::Busy,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::PeerDied,
        Self::Abandoned,
        Self::ActivationFailed,
        Self::OwnerChanged,
        Self::HandleRevoked,
        Self::Invalid,
        Self::TooLarge,
        Self::Unsupported,
        Self::ShuttingDown,
        Self::LeaseLost,
        Self::ReadOnly,
    ];

    /// The outcome of that number; an unknown one is [`Outcome::Failed`].
    pub fn from_wire(number: u32) -> Self {
        Self::ALL.get(number as usize).copied().unwrap_or(Self::Failed)
    }

    /// The name by which people and scripts know it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reply => "Reply",
            Self::Failed => "Failed",
            Self::NoOwner => "NoOwner",
            Self::Denied => "Denied",
            Self::Busy => "Busy",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::Cancelled => "Cancelled",
            Self::PeerDied => "PeerDied",
            Self::Abandoned => "Abandoned",
            Self::ActivationFailed => "ActivationFailed",
            Self::OwnerChanged => "OwnerChanged",
            Self::HandleRevoked => "HandleRevoked",
            Self::Invalid => "Invalid",
            Self::TooLarge => "TooLarge",
            Self::Unsupported => "Unsupported",
            Self::ShuttingDown => "ShuttingDown",
            Self::LeaseLost => "LeaseLost",
            Self::ReadOnly => "ReadOnly",
        }
    }

    /// What a service may say of its own request; from any other number the caller gets
    /// [`Outcome::Failed`] (SPEC 5.5).
    pub const fn from_service(self) -> Self {
        match self {
            Self::Failed
            | Self::Denied
            | Self::Busy
            | Self::Abandoned
            | Self::Invalid
            | Self::TooLarge
            | Self::Unsupported => self,
            _ => Self::Failed,
        }
    }
}

impl Failure {
    /// A failure that says just this.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable() {
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as u32 as usize, number);
            assert_eq!(Outcome::from_wire(number as u32), outcome);
        }
        assert_eq!(Outcome::from_wire(18), Outcome::Failed);
        assert_eq!(Outcome::from_wire(u32::MAX), Outcome::Failed);
    }
}
