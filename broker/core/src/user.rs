//! What one user's connections hold together.

use core::time::Duration;
use serde::{Deserialize, Serialize};
use switchboard_protocol::Instant;

/// A user's use of what all share. Quotas per connection stand in [`crate::UserLimits`]; besides, no
/// user may hold more than half of any shared maximum, so that none can shut the others out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) connections: u32,
    pub(crate) handles: u32,
    pub(crate) names: u32,
    pub(crate) calls: u32,
    pub(crate) waiting: u32,
    pub(crate) buffered_bytes: u64,
    /// Those of them that are set aside for frames that are coming in.
    pub(crate) receiving_bytes: u64,
    pub(crate) watches: u32,
    pub(crate) pulses: u32,
    pub(crate) unread_bytes: u64,
    pub(crate) subscriptions: u32,
    /// Bytes that wait for its subscriptions.
    pub(crate) subscribed_bytes: u64,
    /// Queues of ended subscriptions that were not thrown away yet.
    pub(crate) debris: u32,
    /// Messages in queues, and their bytes.
    pub(crate) queued: u32,
    pub(crate) queued_bytes: u64,
    /// When the next connection would be due if they came evenly (the "theoretical arrival time" of
    /// the generic cell rate algorithm).
    next_connection: Instant,
}

impl User {
    pub(crate) fn new(uid: u32) -> Self {
        Self { uid, ..Self::default() }
    }

    /// Takes one connection out of the rate: when it may be admitted.
    pub(crate) fn admit_at(&mut self, now: Instant, per_second: u32) -> Instant {
        let second = Duration::from_secs(1);
        let gap = second / per_second.max(1);
        self.next_connection = self.next_connection.max(now).after(gap);
        // A second's worth may come at once.
        Instant(self.next_connection.0.saturating_sub(second.as_nanos() as u64)).max(now)
    }

    /// Whether forgetting this user forgets nothing.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.connections == 0
            && self.handles == 0
            && self.names == 0
            && self.calls == 0
            && self.waiting == 0
            && self.buffered_bytes == 0
            && self.watches == 0
            && self.pulses == 0
            && self.unread_bytes == 0
            && self.subscriptions == 0
            && self.subscribed_bytes == 0
            && self.debris == 0
            && self.queued == 0
            && self.next_connection <= now
    }
}
