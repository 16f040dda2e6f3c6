//! The Switchboard broker as a pure function of what has happened so far.
//!
//! [`Broker::handle`] takes one [`Input`] and adds [`Effect`]s. Nothing here can read a clock, open
//! a socket, spawn a thread, log a line or roll a die; the same inputs give the same effects, in
//! production, in the simulator, and in a replay.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod effect;
mod identity;
mod input;
mod limits;
mod payload;
mod policy;

pub use effect::{Effect, Fact, SendTail};
pub use identity::Identity;
pub use input::{Breach, Departure, Input, Settings};
pub use limits::{Limits, UserLimits};
pub use payload::Payload;
pub use policy::{Decision, Policy, Rule, Subject};
