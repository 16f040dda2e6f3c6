//! A call that is under way.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::{Awaits, End, Shared, TicketId, Until, Waiter, after};
use crate::{CallError, Reply};

/// A call that was started and not waited for. Dropping it cancels the call.
#[must_use = "dropping it cancels the call"]
pub struct Pending {
    board: Arc<Shared>,
    ticket: TicketId,
    deadline: u64,
    is_over: bool,
}

impl Pending {
    pub(crate) fn new(board: &Arc<Shared>, ticket: TicketId, deadline: u64) -> Self {
        Self { board: Arc::clone(board), ticket, deadline, is_over: false }
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// Any outcome of SPEC 4.6 but a reply.
    pub fn wait(mut self) -> Result<Reply, CallError> {
        let end = self.wait_raw();
        self.reply(end)
    }

    pub(crate) fn wait_raw(&mut self) -> End {
        let (state, end) = self.board.finish(self.board.lock(), self.ticket, self.deadline);
        self.is_over = true;
        self.board.release(state);
        end
    }

    /// Waits for the end, at most so long; gives itself back if it has not come.
    ///
    /// # Errors
    ///
    /// `Err(self)` when the time is up; the call goes on.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Result<Reply, CallError>, Self> {
        match self.fetch_raw(Until::At(after(timeout))) {
            Some(end) => Ok(self.reply(end)),
            None => Err(self),
        }
    }

    /// The end, if it has come; reads what is there, and never waits. After it gave the end, it
    /// gives `None`.
    pub fn poll(&mut self) -> Option<Result<Reply, CallError>> {
        self.poll_raw().map(|end| self.reply(end))
    }

    pub(crate) fn poll_raw(&mut self) -> Option<End> {
        if self.is_over {
            return None;
        }
        let mut state = self.board.lock();
        if state.tickets.get(self.ticket).is_some_and(|ticket| ticket.end.is_none()) {
            state = self.board.peek(state);
        }
        let end = state.tickets.get(self.ticket).and_then(|ticket| ticket.end.take());
        if end.is_some() {
            state.tickets.remove(self.ticket);
            self.is_over = true;
        }
        self.board.write_and_release(state);
        end
    }

    /// Gives the call up: it ends with `Cancelled`, unless its end is on the way; then that is what
    /// [`Pending::wait`] gives. The service is advised (SPEC 4.10).
    pub fn cancel(&self) {
        let mut state = self.board.lock();
        if let Some(call) = state.tickets.get(self.ticket).and_then(|ticket| ticket.call) {
            state.session.cancel(call);
        }
        self.board.write_and_release(state);
    }

    pub(crate) fn fetch_raw(&mut self, until: Until) -> Option<End> {
        let ticket = self.ticket;
        let (mut state, end) = self.board.wait(
            self.board.lock(),
            until,
            Awaits::Ticket,
            |state, waiter| state.register(ticket, waiter),
            |state| match state.tickets.get(ticket) {
                Some(ticket) => ticket.end.take(),
                None => Some(Err(CallError::not_connected("the call is not known"))),
            },
        );
        if end.is_some() {
            state.tickets.remove(ticket);
            self.is_over = true;
        }
        self.board.release(state);
        end
    }

    fn reply(&self, end: End) -> Result<Reply, CallError> {
        Ok(Reply::of(&self.board, end?))
    }
}

/// Waits until one of these calls, all of one board, has ended; takes it out and gives its end.
/// `None` if there are none, or when the time is up.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let socket = broker.socket();
/// # let other = switchboard::Board::builder().socket(socket).connect()?;
/// # let _one = other.serve("acme.one").start(|_| Ok("first"))?;
/// # let _other = other.serve("acme.other").start_deferred(std::mem::forget)?;
/// # let board = switchboard::Board::builder().socket(socket).connect()?;
/// let (one, other) = (board.service("acme.one"), board.service("acme.other"));
/// let mut pending = vec![one.request().start()?, other.request().start()?];
/// let first = switchboard::wait_any(&mut pending, None).expect("two calls")?;
/// assert_eq!(&first[..], b"first");
/// // the slower one is cancelled when `pending` is dropped
/// # Ok(()) }
/// ```
///
/// # Panics
///
/// With calls of different boards, which no one thread can wait for at once.
pub fn wait_any(pending: &mut Vec<Pending>, timeout: Option<Duration>) -> Option<Result<Reply, CallError>> {
    let board = Arc::clone(&pending.first()?.board);
    assert!(
        pending.iter().all(|pending| Arc::ptr_eq(&pending.board, &board)),
        "wait_any takes calls of one board"
    );
    let tickets: Vec<TicketId> = pending.iter().map(|pending| pending.ticket).collect();
    let until = match timeout {
        Some(timeout) => Until::At(after(timeout)),
        None => Until::CallEnds,
    };
    let (state, found) = board.wait(
        board.lock(),
        until,
        Awaits::Ticket,
        |state, waiter: &Arc<Waiter>| tickets.iter().for_each(|ticket| state.register(*ticket, waiter)),
        |state| {
            tickets
                .iter()
                .position(|ticket| state.tickets.get(*ticket).is_none_or(|ticket| ticket.end.is_some()))
        },
    );
    board.release(state);
    let mut ended = pending.swap_remove(found?);
    let end = ended.fetch_raw(Until::At(0))?;
    Some(ended.reply(end))
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_over {
            self.board.give_up(self.ticket);
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
