//! Every maximum of the broker. Their sum is the memory it can need, shown by `switchboard status`.

use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// The limits in force. Each has a key of the same name in the `[limits]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Connections at once, of all users.
    pub connections_max: u32,
    /// Names at once that were made at run time or opened.
    pub names_max: u32,
    /// Handles at once, of all connections.
    pub handles_max: u32,
    /// Open calls at once, of all connections.
    pub calls_open_max: u32,
    /// Messages that wait for a server, of all names.
    pub waiting_max: u32,
    /// Bytes of payload of messages that wait, at most half of it, and of frames half received, of all
    /// users.
    pub buffered_bytes_max: u64,
    /// Watches, waits and monitors at once.
    pub watches_max: u32,
    /// Largest payload that is passed on, in bytes.
    pub payload_bytes_max: u32,
    /// Bytes of one-way sends that may be on their way on one handle, and at one server, at once.
    pub send_bytes: u32,
    /// Bytes that may wait to be read by one peer and count against nobody's quota.
    pub link_bytes_low: u32,
    /// Bytes that may wait to be read by one peer before its own frames are no longer read, and
    /// before messages to it wait at their name instead.
    pub link_bytes_high: u32,
    /// Bytes that may wait to be read by one peer, replies included; a reply beyond it becomes
    /// `TooLarge`.
    pub link_bytes_max: u32,
    /// Bytes beyond that for outcomes, credits and events, which are never held back; a peer that lets
    /// these pile up too is closed.
    pub link_bytes_reserved: u32,
    /// Bytes beyond `link_bytes_low` that wait to be read by all peers. An eighth more is kept for
    /// outcomes, credits and events.
    pub unread_bytes_max: u64,
    /// Pulses of events that were not taken yet, of all users.
    pub pulses_max: u32,
    /// Subscriptions of topics at once, of all users.
    pub subscriptions_max: u32,
    /// Messages that may wait for a subscription that asks for no other bound.
    pub subscription_messages: u32,
    /// Bytes that may wait for a subscription that asks for no other bound, and at most.
    pub subscription_bytes: u32,
    /// Bytes of messages that wait for subscriptions, of all users.
    pub subscribed_bytes_max: u64,
    /// Bytes of retained messages and histories, of all topics.
    pub kept_bytes_max: u64,
    /// Messages in all queues.
    pub queued_max: u32,
    /// Bytes of messages in all queues.
    pub queued_bytes_max: u64,
    /// Bytes of the log of durable things on disk. When it has grown to half of this, what is still
    /// wanted of the oldest segment is copied to its end, so that the segment can go.
    pub log_bytes_max: u64,
    /// Bytes of one segment of that log.
    pub segment_bytes: u64,
    /// How long a connection may take to say hello.
    pub hello_timeout: Duration,
    /// A waiting message gains one level of priority in this time, so that none starves.
    pub ageing_step: Duration,
    /// Quotas of a user that no table names.
    pub user_default: UserLimits,
    /// Quotas by user id.
    pub users: Vec<(u32, UserLimits)>,
}

/// What one user's connections may use in all, and each of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLimits {
    /// Connections at once.
    pub connections: u32,
    /// New connections a second, and how many may come in one burst; beyond, they wait.
    pub connections_per_second: u32,
    /// Handles at once, per connection.
    pub handles: u32,
    /// Names served or stood by for at once, per connection.
    pub names: u32,
    /// Open calls at once, per connection.
    pub calls_open: u32,
    /// Messages that wait for a server, per connection.
    pub waiting: u32,
    /// Bytes of payload that wait for a server and of frames half received, per user.
    pub buffered_bytes: u64,
    /// Bytes beyond `link_bytes_low` of each that wait to be read by this user's connections.
    pub unread_bytes: u64,
    /// Watches, waits and monitors at once, per connection.
    pub watches: u32,
    /// Subscriptions at once, per connection.
    pub subscriptions: u32,
    /// Bytes of messages that wait for this user's subscriptions.
    pub subscribed_bytes: u64,
    /// Bytes of this user's messages in queues.
    pub queued_bytes: u64,
}

impl Default for UserLimits {
    fn default() -> Self {
        Self {
            connections: 12_000,
            connections_per_second: 5_000,
            handles: 131_072,
            names: 131_072,
            calls_open: 4_096,
            waiting: 16_384,
            buffered_bytes: 256 << 20,
            unread_bytes: 512 << 20,
            watches: 256,
            subscriptions: 131_072,
            subscribed_bytes: 512 << 20,
            queued_bytes: 1 << 40,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            names_max: 262_144,
            handles_max: 524_288,
            calls_open_max: 131_072,
            waiting_max: 262_144,
            buffered_bytes_max: 1 << 30,
            watches_max: 4_096,
            payload_bytes_max: 16 << 20,
            send_bytes: 1 << 20,
            link_bytes_low: 64 << 10,
            link_bytes_high: 1 << 20,
            link_bytes_max: 64 << 20,
            link_bytes_reserved: 4 << 20,
            unread_bytes_max: 1 << 30,
            pulses_max: 262_144,
            subscriptions_max: 262_144,
            subscription_messages: 65_536,
            subscription_bytes: 16 << 20,
            subscribed_bytes_max: 1 << 30,
            kept_bytes_max: 1 << 30,
            queued_max: 16 << 20,
            queued_bytes_max: 64 << 30,
            log_bytes_max: 64 << 30,
            segment_bytes: 64 << 20,
            hello_timeout: Duration::from_secs(30),
            ageing_step: Duration::from_millis(100),
            user_default: UserLimits::default(),
            users: Vec::new(),
        }
    }
}

impl Limits {
    /// The quotas of a user.
    pub fn of_user(&self, uid: u32) -> &UserLimits {
        self.users.iter().find(|(user, _)| *user == uid).map_or(&self.user_default, |(_, limits)| limits)
    }
}
