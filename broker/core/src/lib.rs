//! The Switchboard broker as a pure function of what has happened so far.
//!
//! [`Broker::handle`] takes one [`Input`] and adds [`Effect`]s. Nothing here can read a clock, open
//! a socket, spawn a thread, log a line or roll a die; the same inputs give the same effects, in
//! production, in the simulator, and in a replay.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod blocked;
mod broker;
mod call;
mod compact;
mod consumer;
mod control;
mod dead;
mod declared;
mod dedupe;
mod digest;
mod effect;
mod group;
mod handle;
mod held;
mod identity;
mod input;
mod invariants;
mod lease;
mod limits;
mod list;
mod message;
mod monitor;
mod object;
mod payload;
mod peer;
mod policy;
mod push;
mod queue;
mod queue_invariants;
mod reads;
mod record;
mod recording;
mod recovery;
mod report;
mod room;
mod send;
mod signal;
mod siphash;
mod slab;
mod snapshot;
mod storage;
mod subscription;
mod timers;
mod topic;
mod trie;
mod user;
mod waiting;
mod waits;
mod walk;
mod watch;
mod will;
mod wishes;

pub use broker::Broker;
pub use declared::{QueueSettings, TopicSettings};
pub use digest::Digest;
pub use effect::{Effect, Effects, Fact, SendTail};
pub use identity::Identity;
pub use input::{Breach, Departure, Input, Instance, Settings};
pub use limits::{Limits, UserLimits};
pub use payload::Payload;
pub use policy::{Decision, Policy, Rule, Subject};
pub use reads::Reads;
pub use recording::Recording;
