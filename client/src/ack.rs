//! What is said of messages that are dealt with (SPEC 10.10).

use std::fmt;
use std::time::Duration;

use switchboard_protocol::Outcome;
use switchboard_protocol::queue::{LEASE_BYTES, LeaseId, Level};

use crate::driver::{End, RawReply, Until, after};
use crate::topic::level_of;
use crate::{CallError, Pending};

/// What a queue says of leases that were acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acked {
    /// How durable that is.
    pub level: Level,
    /// Up to where the log had to be kept for that; 0 for a queue in memory.
    pub log_position: u64,
    /// Those that had been lost: acknowledged already, run out, or of an earlier broker. Their
    /// messages come, or came, to somebody else.
    pub lost: Vec<LeaseId>,
}

/// An acknowledgement that is on its way; made by [`crate::Queue::begin_ack`]. Dropping it gives up to
/// know whether a lease was lost.
#[must_use = "which leases were lost is only told by waiting for it"]
pub struct PendingAck {
    leases: Vec<LeaseId>,
    /// `None` where there was nothing to acknowledge.
    pending: Option<Pending>,
}

impl Acked {
    /// The answer to these leases.
    pub(crate) fn of(mut reply: RawReply, leases: &[LeaseId]) -> Self {
        let facts = reply.take_facts();
        // SPEC 10.10: of several, a byte for each; 1 is lost.
        let lost = leases.iter().zip(&reply.payload[..]).filter(|(_, lost)| **lost != 0);
        let lost = lost.map(|(lease, _)| *lease).collect();
        Self { level: level_of(facts.method), log_position: facts.epoch, lost }
    }

    /// The end of an ack of one, as that of several that are one.
    pub(crate) fn of_one(end: Result<Self, CallError>, lease: LeaseId) -> Result<Self, CallError> {
        match end {
            Err(error) if error.outcome == Outcome::LeaseLost => {
                Ok(Self { lost: vec![lease], ..Self::default() })
            }
            end => end,
        }
    }

    /// How an ack of these leases ended; a lost one is no error.
    fn of_end(end: End, leases: &[LeaseId]) -> Result<Self, CallError> {
        let end = end.map(|reply| Self::of(reply, leases));
        match leases {
            [lease] => Self::of_one(end, *lease),
            _ => end,
        }
    }
}

impl PendingAck {
    pub(crate) fn new(leases: &[LeaseId], pending: Option<Pending>) -> Self {
        Self { leases: leases.to_vec(), pending }
    }

    /// The leases.
    pub fn leases(&self) -> &[LeaseId] {
        &self.leases
    }

    /// Waits until the queue has it, as durably as it keeps what is in it.
    ///
    /// # Errors
    ///
    /// As [`crate::Queue::ack_all`].
    pub fn wait(mut self) -> Result<Acked, CallError> {
        match &mut self.pending {
            Some(pending) => Acked::of_end(pending.wait_raw(), &self.leases),
            None => Ok(Acked::default()),
        }
    }

    /// Waits at most so long; gives itself back if the end has not come.
    ///
    /// # Errors
    ///
    /// `Err(self)` when the time is up; the acknowledgement goes on.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Result<Acked, CallError>, Self> {
        match &mut self.pending {
            Some(pending) => match pending.fetch_raw(Until::At(after(timeout))) {
                Some(end) => Ok(Acked::of_end(end, &self.leases)),
                None => Err(self),
            },
            None => Ok(Ok(Acked::default())),
        }
    }
}

/// Leases as they are acknowledged together.
pub(crate) fn ack_body(leases: &[LeaseId]) -> Vec<u8> {
    let mut body = Vec::with_capacity(leases.len() * LEASE_BYTES);
    leases.iter().for_each(|lease| body.extend_from_slice(&lease.to_bytes()));
    body
}

impl fmt::Debug for PendingAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingAck").field("leases", &self.leases.len()).finish_non_exhaustive()
    }
}
