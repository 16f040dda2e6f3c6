//! A streamed reply, as the caller reads it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::{Awaits, End, Item, Shared, State, TicketId, Until, after};
use crate::{CallError, Reply};

/// The items of a streamed reply, in order, and then how it ended. Dropping it cancels the call.
///
/// As an iterator it gives `Ok` per item and, if the call did not end by a reply, one last `Err`. The
/// reply itself, which may hold bytes as well, is then in [`ReplyStream::end`]. Room for items is
/// granted as they are taken, at most [`ReplyStream::WINDOW`] ahead.
#[must_use = "dropping it cancels the call"]
pub struct ReplyStream {
    board: Arc<Shared>,
    ticket: TicketId,
    deadline: u64,
    window: Window,
    is_over: bool,
    end: Option<Result<Reply, CallError>>,
}

/// How many items the other side may still send.
#[derive(Debug)]
pub(crate) struct Window {
    /// Granted and not yet taken.
    granted: u32,
    max: u32,
}

/// An item, or the end.
pub(crate) enum Next {
    Item(Item),
    End(End),
}

impl Window {
    pub(crate) const fn new(max: u32) -> Self {
        Self { granted: 0, max }
    }

    /// Grants more once half of it is used up.
    pub(crate) fn refill(&mut self, state: &mut State, ticket: TicketId) {
        if self.granted > self.max / 2 {
            return;
        }
        if let Some(call) = state.tickets.get(ticket).and_then(|ticket| ticket.call) {
            state.session.grant_items(call, self.max - self.granted);
            self.granted = self.max;
        }
    }

    /// What is there for the reader.
    pub(crate) fn take(&mut self, state: &mut State, id: TicketId) -> Option<Next> {
        let Some(ticket) = state.tickets.get(id) else {
            return Some(Next::End(Err(CallError::not_connected("the call is not known"))));
        };
        if let Some(item) = ticket.items.pop() {
            self.granted = self.granted.saturating_sub(1);
            self.refill(state, id);
            return Some(Next::Item(item));
        }
        let end = ticket.end.take()?;
        state.tickets.remove(id);
        Some(Next::End(end))
    }
}

impl ReplyStream {
    /// Items that may be on their way to a reader that does not take them.
    pub const WINDOW: u32 = 64;

    pub(crate) fn new(board: &Arc<Shared>, ticket: TicketId, deadline: u64) -> Self {
        let mut window = Window::new(Self::WINDOW);
        let mut state = board.lock();
        window.refill(&mut state, ticket);
        board.write_and_release(state);
        Self { board: Arc::clone(board), ticket, deadline, window, is_over: false, end: None }
    }

    /// The next item; `None` when the stream has ended, then see [`ReplyStream::end`].
    pub fn next_item(&mut self) -> Option<Reply> {
        let until = if self.deadline == 0 { Until::Forever } else { Until::CallEnds };
        self.fetch(until).flatten()
    }

    /// The next item, waited for at most so long: `None` when the time is up, `Some(None)` when the
    /// stream has ended.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Option<Reply>> {
        self.fetch(Until::At(after(timeout)))
    }

    /// How it ended: the final reply, or the error. `None` before, and once it was taken.
    pub fn end(&mut self) -> Option<Result<Reply, CallError>> {
        self.end.take()
    }

    fn fetch(&mut self, until: Until) -> Option<Option<Reply>> {
        let (ticket, window) = (self.ticket, &mut self.window);
        if self.is_over {
            return Some(None);
        }
        let (state, next) = self.board.wait(
            self.board.lock(),
            until,
            Awaits::Ticket,
            |state, waiter| state.register(ticket, waiter),
            |state| window.take(state, ticket),
        );
        // Credits that were granted just now go at once: nobody may come back for long.
        self.board.write_and_release(state);
        match next? {
            Next::Item(item) => Some(Some(Reply::of(&self.board, item.reply))),
            Next::End(end) => {
                self.is_over = true;
                self.end = Some(end.map(|reply| Reply::of(&self.board, reply)));
                Some(None)
            }
        }
    }
}

impl Iterator for ReplyStream {
    type Item = Result<Reply, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(item) = self.next_item() {
            return Some(Ok(item));
        }
        match &self.end {
            Some(Err(_)) => self.end.take().and_then(Result::err).map(Err),
            _ => None,
        }
    }
}

impl Drop for ReplyStream {
    fn drop(&mut self) {
        self.board.give_up(self.ticket);
    }
}

impl fmt::Debug for ReplyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyStream").field("window", &self.window).finish_non_exhaustive()
    }
}
