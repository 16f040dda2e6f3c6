//! Control operations on what a handle is on.

use serde::Serialize;
use switchboard_protocol::control::Operation;

use super::state::{Guard, Shared};
use super::target::Target;
use super::ticket::{Owner, RawReply, TicketId};
use crate::CallError;

impl Shared {
    /// A control operation on what this target is, and its answer. `body` makes it of the handle.
    pub(crate) fn operate_on<B: Serialize>(
        &self,
        target: &Target,
        operation: Operation,
        body: impl FnOnce(u64) -> B,
        deadline: u64,
    ) -> Result<RawReply, CallError> {
        let (state, ticket) = self.begin_on(target, operation, body, deadline)?;
        let (state, end) = self.finish(state, ticket, deadline);
        self.release(state);
        end
    }

    /// Opens a control operation on what this target is.
    pub(crate) fn begin_on<B: Serialize>(
        &self,
        target: &Target,
        operation: Operation,
        body: impl FnOnce(u64) -> B,
        deadline: u64,
    ) -> Result<(Guard<'_>, TicketId), CallError> {
        let (mut state, handle) = self.handle_of(self.lock(), target, deadline)?;
        // A stream ends when its reader is dropped; only its opening has a deadline.
        let own = if operation == Operation::Subscribe { 0 } else { deadline };
        let ticket = state.open_control(operation, &body(handle), own, Owner::Nobody)?;
        Ok((state, ticket))
    }
}
