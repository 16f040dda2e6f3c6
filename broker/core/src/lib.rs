//! The Switchboard broker as a pure function of what has happened so far.
//!
//! [`Broker::handle`] takes one [`Input`] and adds [`Effect`]s. Nothing here can read a clock, open
//! a socket, spawn a thread, log a line or roll a die; the same inputs give the same effects, in
//! production, in the simulator, and in a replay.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod broker;
mod call;
mod control;
mod effect;
mod handle;
mod identity;
mod input;
mod invariants;
mod limits;
mod list;
mod monitor;
mod object;
mod payload;
mod peer;
mod policy;
mod report;
mod send;
mod slab;
mod timers;
mod user;
mod waiting;
mod waits;
mod watch;

pub use broker::Broker;
pub use effect::{Effect, Effects, Fact, SendTail};
pub use identity::Identity;
pub use input::{Breach, Departure, Input, Instance, Settings};
pub use limits::{Limits, UserLimits};
pub use payload::Payload;
pub use policy::{Decision, Policy, Rule, Subject};
