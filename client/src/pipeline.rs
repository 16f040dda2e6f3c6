//! Many calls at once from one thread.

use std::fmt;
use std::sync::Arc;

use crate::driver::{Awaits, End, Owner, Patience, Shared, Until};
use crate::{CallBuilder, CallError, Reply, Service};

/// Keeps up to `depth` calls open from one thread. Calls that are submitted are written together, and
/// whatever ends were read together are handed over together, in the order in which they came. Made by
/// [`Service::pipeline`]. Dropping it cancels what is open.
///
/// ```
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let socket = broker.socket();
/// # let board = switchboard::Board::builder().socket(socket).connect()?;
/// # let _squares = board.serve("acme.squares").start(|request| Ok(request.take_payload()))?;
/// let squares = board.service("acme.squares");
/// let mut pipeline = squares.pipeline(64)?;
/// for number in 0..1000u64 {
///     while pipeline.is_full() {
///         pipeline.wait(|tag, reply| assert_eq!(reply.unwrap()[..], tag.to_le_bytes()))?;
///     }
///     pipeline.submit(number, &number.to_le_bytes())?;
/// }
/// while pipeline.open() > 0 {
///     pipeline.wait(|_, reply| drop(reply.unwrap()))?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pipeline {
    service: Service,
    depth: usize,
    open: usize,
    mailbox: u32,
    ended: Vec<(u64, End)>,
}

impl Pipeline {
    pub(crate) fn new(service: &Service, depth: usize) -> Result<Self, CallError> {
        let board = &service.target.board;
        let (mut state, _) = board.handle_of(board.lock(), &service.target, board.default_deadline())?;
        let free = state.mailboxes.iter().position(Option::is_none);
        let mailbox = free.unwrap_or_else(|| {
            state.mailboxes.push(None);
            state.mailboxes.len() - 1
        });
        state.mailboxes[mailbox] = Some(Vec::with_capacity(depth));
        board.release(state);
        Ok(Self {
            service: service.clone(),
            depth: depth.max(1),
            open: 0,
            mailbox: mailbox as u32,
            ended: Vec::with_capacity(depth),
        })
    }

    /// Calls that are open: submitted, and their end not yet handed over.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Whether as many are open as may be.
    pub fn is_full(&self) -> bool {
        self.open >= self.depth
    }

    /// Adds a call of method 0; its end comes with `tag`. Small ones are
    /// written together by [`Pipeline::wait`], a large one as far as the socket takes it at once.
    ///
    /// # Errors
    ///
    /// `Busy` if it is full, or beyond the broker's limit of open calls; `TooLarge`, `PeerDied`.
    #[inline]
    pub fn submit(&mut self, tag: u64, payload: &[u8]) -> Result<(), CallError> {
        let service = self.service.clone();
        self.submit_call(tag, service.request().payload(payload))
    }

    /// Adds a call with all that can be said about it; it must be of this pipeline's service.
    ///
    /// # Errors
    ///
    /// As [`Pipeline::submit`].
    pub fn submit_call(&mut self, tag: u64, call: CallBuilder<'_>) -> Result<(), CallError> {
        if self.is_full() {
            let message = format!("{} calls are open in this pipeline, which is its depth", self.open);
            return Err(CallError::new(switchboard_protocol::Outcome::Busy, message));
        }
        let (entries, connection) = call.entries();
        let params = call.params(false, &entries, connection);
        let board = self.board();
        let (state, handle) = board.handle_of(board.lock(), &self.service.target, params.deadline)?;
        let owner = Owner::Mailbox { slot: self.mailbox, tag };
        let (state, _) =
            board.open_call(state, handle, &params, call.payload_bytes(), owner, Patience::Never)?;
        board.release(state);
        self.open += 1;
        Ok(())
    }

    /// Writes what was submitted, waits until at least one call has ended (none if none is open), and
    /// hands over all that have. Returns how many that were.
    ///
    /// # Errors
    ///
    /// None now; ends of calls, errors included, go to `each`.
    pub fn wait(&mut self, mut each: impl FnMut(u64, Result<Reply, CallError>)) -> Result<usize, CallError> {
        if self.open == 0 {
            return Ok(0);
        }
        let slot = self.mailbox as usize;
        let ended = &mut self.ended;
        let board = Arc::clone(&self.service.target.board);
        let (state, _) = board.wait(
            board.lock(),
            Until::CallEnds,
            Awaits::Mailbox(self.mailbox),
            |_, _| {},
            |state| {
                let mailbox = state.mailboxes[slot].as_mut().expect("this pipeline's own");
                if mailbox.is_empty() {
                    return None;
                }
                std::mem::swap(mailbox, ended);
                Some(())
            },
        );
        board.release(state);
        let count = self.ended.len();
        self.open -= count;
        for (tag, end) in self.ended.drain(..) {
            each(tag, end.map(|reply| Reply::of(&board, reply)));
        }
        Ok(count)
    }

    fn board(&self) -> &Arc<Shared> {
        &self.service.target.board
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let board = self.board();
        let mut state = board.lock();
        state.mailboxes[self.mailbox as usize] = None;
        let mailbox = self.mailbox;
        let open =
            state.tickets.extract(|owner| matches!(owner, Owner::Mailbox { slot, .. } if *slot == mailbox));
        for ticket in open {
            state.discard_ticket(ticket);
        }
        board.write_and_release(state);
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("depth", &self.depth)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}
