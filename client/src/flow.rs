//! The items of a stream that does not end by itself, as they are taken.

use std::sync::Arc;

use crate::CallError;
use crate::driver::{Awaits, Guard, Items, Shared, State, Taken, TicketId, Until};

/// Takes the items of a stream, many under one lock, and grants room for more by halves, so that a fast
/// stream costs one CREDIT for many items. Dropping it cancels the stream.
///
/// Room is granted when the next item is asked for and not when one is taken: with room for one,
/// nothing is on its way while that one is being dealt with.
pub(crate) struct Flow {
    pub(crate) board: Arc<Shared>,
    pub(crate) ticket: TicketId,
    /// Items that may be on their way or waiting here.
    max: u32,
    /// Granted, and not yet given out.
    granted: u32,
    ready: Items,
    /// How the stream ended; `None` in it for a reply.
    end: Option<Option<CallError>>,
}

impl Flow {
    /// Of a stream that was just opened. Grants the first room.
    pub(crate) fn new(board: &Arc<Shared>, mut state: Guard<'_>, ticket: TicketId, max: u32) -> Self {
        let board = Arc::clone(board);
        let mut flow = Self {
            board: Arc::clone(&board),
            ticket,
            max: max.max(1),
            granted: 0,
            ready: Items::default(),
            end: None,
        };
        flow.grant(&mut state);
        board.write_and_release(state);
        flow
    }

    /// What `take` makes of the next item; `None` when the time is up. How it ended, from then on.
    #[inline]
    pub(crate) fn next<T>(
        &mut self,
        until: Until,
        take: impl FnOnce(Taken<'_>) -> T,
    ) -> Result<Option<T>, CallError> {
        if (!self.is_ready() || self.wants_grant()) && !self.fetch(until)? {
            return Ok(None);
        }
        Ok(self.take(take))
    }

    /// Whether an item is here already.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// What `take` makes of an item that is here already.
    #[inline]
    pub(crate) fn take<T>(&mut self, take: impl FnOnce(Taken<'_>) -> T) -> Option<T> {
        let item = self.ready.take(take)?;
        self.granted = self.granted.saturating_sub(1);
        Some(item)
    }

    /// Waits until an item is ready; `false` when the time is up.
    fn fetch(&mut self, until: Until) -> Result<bool, CallError> {
        let board = Arc::clone(&self.board);
        let ticket = self.ticket;
        let mut state = board.lock();
        self.grant(&mut state);
        if matches!(until, Until::At(0)) {
            // Never waits, but looks at what has come.
            state = board.peek(state);
        }
        let (state, next) = board.wait(
            state,
            until,
            Awaits::Ticket,
            |state, waiter| state.register(ticket, waiter),
            |state| self.pull(state),
        );
        board.write_and_release(state);
        next.map_or(Ok(false), |next| next.map(|()| true))
    }

    /// Has an item ready, or says how it ended, if one of them is there.
    pub(crate) fn pull(&mut self, state: &mut State) -> Option<Result<(), CallError>> {
        if self.ready.is_empty() {
            if let Some(end) = &self.end {
                return Some(Err(end.clone().unwrap_or_else(ended_by_reply)));
            }
            let Some(ticket) = state.tickets.get(self.ticket) else {
                return Some(Err(CallError::not_connected("the stream is not known")));
            };
            std::mem::swap(&mut self.ready, &mut ticket.items);
            if self.ready.is_empty() {
                let end = ticket.end.take()?;
                state.tickets.remove(self.ticket);
                let end = self.end.insert(end.err());
                return Some(Err(end.clone().unwrap_or_else(ended_by_reply)));
            }
        }
        Some(Ok(()))
    }

    /// Whether the stream ended by a reply, as only one of so many items does.
    pub(crate) fn ended_well(&self) -> bool {
        matches!(self.end, Some(None))
    }

    #[inline]
    pub(crate) fn wants_grant(&self) -> bool {
        self.granted <= self.max / 2
    }

    /// Grants more once half of it is used up.
    pub(crate) fn grant(&mut self, state: &mut State) {
        if self.wants_grant()
            && let Some(call) = state.tickets.get(self.ticket).and_then(|ticket| ticket.call)
        {
            state.session.grant_items(call, self.max - self.granted);
            self.granted = self.max;
        }
    }
}

/// A stream without an end has ended by a reply.
fn ended_by_reply() -> CallError {
    CallError::malformed("stream without an end")
}

impl Drop for Flow {
    fn drop(&mut self) {
        let mut state = self.board.lock();
        if let Some(ticket) = state.tickets.remove(self.ticket) {
            // What was fetched and not given out goes the way of what was not fetched.
            while let Some(item) = self.ready.pop() {
                state.discard_item(ticket.pops, item);
            }
            state.discard_ticket(ticket);
            self.board.write_and_release(state);
        }
    }
}
