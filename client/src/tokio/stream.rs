//! Streamed replies, for tasks.

use std::fmt;
use std::sync::Arc;

use super::waiting::Ticket;
use crate::driver::{End, Guard, Item, Shared, TicketId};
use crate::stream::{Next, Window};
use crate::{CallError, Reply};

/// The items of a streamed reply, in order, and then how it ended; [`crate::ReplyStream`] for tasks.
/// Dropping it cancels the call.
#[must_use = "dropping it cancels the call"]
pub struct ReplyStream {
    items: Items,
    end: Option<Result<Reply, CallError>>,
    is_over: bool,
}

/// Items as they come.
pub(crate) struct Items {
    ticket: Ticket,
    window: Window,
}

impl Items {
    pub(crate) fn new(
        board: &Arc<Shared>,
        mut state: Guard<'_>,
        ticket: TicketId,
        deadline: u64,
        max: u32,
    ) -> Self {
        let mut window = Window::new(max);
        window.refill(&mut state, ticket);
        board.write_and_release(state);
        Self { ticket: Ticket::new(board, ticket, deadline), window }
    }

    /// The next item, or the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Item, End> {
        let window = &mut self.window;
        match self.ticket.until(|state, id| window.take(state, id)).await {
            Next::Item(item) => Ok(item),
            Next::End(end) => Err(end),
        }
    }
}

impl ReplyStream {
    pub(crate) fn new(items: Items) -> Self {
        Self { items, end: None, is_over: false }
    }

    /// The next item; `None` when the stream has ended, then see [`ReplyStream::end`]. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Option<Reply> {
        if self.is_over {
            return None;
        }
        let board = Arc::clone(&self.items.ticket.board);
        match self.items.next().await {
            Ok(item) => Some(Reply::of(&board, item.reply)),
            Err(end) => {
                self.is_over = true;
                self.end = Some(end.map(|reply| Reply::of(&board, reply)));
                None
            }
        }
    }

    /// How it ended: the final reply, or the error. `None` before, and once it was taken.
    pub fn end(&mut self) -> Option<Result<Reply, CallError>> {
        self.end.take()
    }
}

impl fmt::Debug for ReplyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyStream").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
