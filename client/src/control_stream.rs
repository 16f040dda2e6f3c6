//! A control operation whose answer is a stream: watches and monitors.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use switchboard_protocol::control::Operation;
use switchboard_protocol::decode;

use crate::driver::{Awaits, Owner, Shared, TicketId, Until};
use crate::stream::{Next, Window};
use crate::{Board, CallError};

/// Dropping it ends the operation.
pub(crate) struct ControlStream {
    shared: Arc<Shared>,
    ticket: TicketId,
    window: Window,
}

/// Items that may be on their way: listings are long and their items small.
const WINDOW: u32 = 512;

impl ControlStream {
    pub(crate) fn open(
        board: &Board,
        operation: Operation,
        body: &impl Serialize,
    ) -> Result<Self, CallError> {
        let shared = &board.shared;
        let mut state = shared.ensure_up(shared.lock(), 0)?;
        let ticket = state.open_control(operation, body, 0, Owner::Nobody)?;
        let mut window = Window::new(WINDOW);
        window.refill(&mut state, ticket);
        shared.write_and_release(state);
        Ok(Self { shared: Arc::clone(shared), ticket, window })
    }

    /// The next item, or how it ended; `None` when the time is up.
    pub(crate) fn next<T: DeserializeOwned>(&mut self, until: Option<u64>) -> Option<Result<T, CallError>> {
        let (ticket, window) = (self.ticket, &mut self.window);
        let (state, next) = self.shared.wait(
            self.shared.lock(),
            until.map_or(Until::Forever, Until::At),
            Awaits::Ticket,
            |state, waiter| state.register(ticket, waiter),
            |state| window.take(state, ticket),
        );
        self.shared.write_and_release(state);
        Some(match next? {
            Next::Item(item) => {
                decode(&item.reply.payload).ok_or_else(|| CallError::malformed("item of this stream"))
            }
            // Only a cancel ends it well, and that is ours.
            Next::End(end) => Err(end.err().unwrap_or_else(|| CallError::malformed("stream without an end"))),
        })
    }
}

impl Drop for ControlStream {
    fn drop(&mut self) {
        self.shared.give_up(self.ticket);
    }
}
