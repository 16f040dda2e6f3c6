//! The log of durable things, as the core sees it: what was appended, and how far it is safe.

use crate::Payload;
use crate::broker::{Broker, Turn};
use alloc::string::String;
use serde::{Deserialize, Serialize};
use switchboard_protocol::control;

/// What the core knows of the log.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Storage {}

impl Storage {
    pub(crate) const fn new() -> Self {
        Self {}
    }

    /// For [`control::Status`].
    pub(crate) fn info(&self) -> control::Storage {
        control::Storage::default()
    }
}

impl<P: Payload> Broker<P> {
    /// The wall clock was read.
    pub(crate) fn clock(&mut self, turn: &mut Turn<'_, P>, wall_ns: u64) {
        self.wall_offset = i128::from(wall_ns) - i128::from(turn.now.0);
    }

    pub(crate) fn recovered(&mut self, _turn: &mut Turn<'_, P>, _segment: u32, _position: u64, _record: P) {}

    pub(crate) fn log_ready(&mut self, _turn: &mut Turn<'_, P>, _position: u64, _oldest: u32, _segment: u32) {
    }

    pub(crate) fn persisted(&mut self, _turn: &mut Turn<'_, P>, _written: u64, _synced: u64) {}

    pub(crate) fn log_failed(&mut self, _turn: &mut Turn<'_, P>, _message: String) {}
}
