//! Events: flags that are set and pulses that are left, for whoever waits (SPEC 11).

use crate::Payload;
use crate::broker::{Broker, Turn};
use crate::control::Refusal;
use serde::{Deserialize, Serialize};
use switchboard_protocol::Header;

/// All events.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Signals {}

impl Signals {
    pub(crate) const fn new() -> Self {
        Self {}
    }
}

impl<P: Payload> Broker<P> {
    /// An object has become an event.
    pub(crate) fn new_signal(&mut self, _object: u32) {}

    pub(crate) fn signal_is_wanted(&self, _object: u32) -> bool {
        false
    }

    pub(crate) fn forget_signal(&mut self, _object: u32) {}

    /// A CALL on an event's handle (SPEC 11.2).
    pub(crate) fn signal_call(
        &mut self,
        _turn: &mut Turn<'_, P>,
        _from: u32,
        _handle: u32,
        _header: Header,
        _tail: P,
    ) -> Result<(), Refusal> {
        Err((switchboard_protocol::Outcome::Unsupported, alloc::string::String::from("events")))
    }

    /// A SEND on an event's handle, within its window.
    pub(crate) fn signal_send(
        &mut self,
        _turn: &mut Turn<'_, P>,
        _from: u32,
        _handle: u32,
        _header: Header,
        _tail: P,
    ) -> Result<(), Refusal> {
        Err((switchboard_protocol::Outcome::Unsupported, alloc::string::String::from("events")))
    }

    /// The call of a waiter is being erased.
    pub(crate) fn end_await(&mut self, _turn: &mut Turn<'_, P>, _waiter: u32) {}
}
