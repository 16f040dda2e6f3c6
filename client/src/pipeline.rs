//! Many calls at once from one thread.

use std::fmt;
use std::sync::Arc;

use crate::driver::{Ended, Guard, MailId, Mailbox, Patience, Shared};
use crate::session::CallSpec;
use crate::{CallBuilder, CallError, Context, LentReply, Reply, Service};

/// Keeps up to `depth` calls open from one thread. Calls that are submitted are sent together, and
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
    /// What the program calls each of its calls.
    tags: Vec<u64>,
    /// Places of `tags` that are free.
    free: Vec<u32>,
    /// Calls that [`Pipeline::wait`] will open: all under one lock, with one look at the clock.
    staged: Vec<Staged>,
    /// Their payloads, in their order.
    bytes: Vec<u8>,
    ended: Mailbox,
}

struct Staged {
    call: u32,
    len: u32,
}

/// Longer payloads are not copied once more.
const STAGED_BYTES_MAX: usize = 1 << 10;

impl Pipeline {
    pub(crate) fn new(service: &Service, depth: usize) -> Result<Self, CallError> {
        let board = &service.target.board;
        let (mut state, _) = board.handle_of(board.lock(), &service.target, board.default_deadline())?;
        let mailbox = state.add_mailbox();
        board.release(state);
        Ok(Self {
            service: service.clone(),
            depth: depth.max(1),
            open: 0,
            mailbox,
            tags: Vec::new(),
            free: Vec::new(),
            staged: Vec::new(),
            bytes: Vec::new(),
            ended: Mailbox::default(),
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

    /// Adds a call of method 0; its end comes with `tag`. Short ones are sent together by
    /// [`Pipeline::wait`], a long one as far as the socket takes it at once, behind those before it. What
    /// this thread calls or sends otherwise meanwhile goes before what is not sent yet.
    ///
    /// # Errors
    ///
    /// `Busy` if it is full. What else may be wrong is told here (as by [`Pipeline::submit_call`]) or is
    /// how the call ends.
    #[inline]
    pub fn submit(&mut self, tag: u64, payload: &[u8]) -> Result<(), CallError> {
        if payload.len() > STAGED_BYTES_MAX || Context::current().is_some() {
            let service = self.service.clone();
            return self.submit_call(tag, service.request().payload(payload));
        }
        if self.is_full() {
            return Err(self.full());
        }
        self.bytes.extend_from_slice(payload);
        let call = self.number(tag);
        self.staged.push(Staged { call, len: payload.len() as u32 });
        self.open += 1;
        Ok(())
    }

    /// Adds a call with all that can be said about it; it must be of this pipeline's service.
    ///
    /// # Errors
    ///
    /// `Busy` if it is full, or beyond the broker's limit of open calls; `TooLarge`, `PeerDied`.
    pub fn submit_call(&mut self, tag: u64, call: CallBuilder<'_>) -> Result<(), CallError> {
        if self.is_full() {
            return Err(self.full());
        }
        let board = Arc::clone(&self.service.target.board);
        let state = self.open_staged(&board);
        let (entries, connection) = call.entries();
        let params = call.params(false, &entries, connection);
        let payload = call.payload_bytes();
        let (mut state, handle) = board.handle_of(state, &self.service.target, params.deadline)?;
        let lent = state.lends(payload);
        let number = self.number(tag);
        if let Err(error) = state.open_mail(self.mail(number), handle, &params, payload, lent) {
            self.free.push(number);
            return Err(error);
        }
        if lent {
            state = board.write_lent(state, payload, Patience::Never);
        }
        board.release(state);
        self.open += 1;
        Ok(())
    }

    /// Sends what was submitted, waits until at least one call has ended (none if none is open), and
    /// hands over all that have. Returns how many that were.
    ///
    /// # Errors
    ///
    /// None now; ends of calls, errors included, go to `each`.
    pub fn wait(
        &mut self,
        mut each: impl FnMut(u64, Result<LentReply<'_>, CallError>),
    ) -> Result<usize, CallError> {
        if self.open == 0 {
            return Ok(0);
        }
        let board = Arc::clone(&self.service.target.board);
        let state = self.open_staged(&board);
        board.wait_mail(state, self.mailbox, &mut self.ended);
        let count = self.ended.len();
        self.open -= count;
        let Self { ended, tags, free, .. } = self;
        ended.hand_over(|call, end| {
            free.push(call);
            let tag = tags[call as usize];
            let end = match end {
                Ended::Short { epoch, payload } => Ok(LentReply::short(epoch, payload)),
                Ended::Other(end) => end.map(|reply| LentReply::whole(Reply::of(&board, reply))),
            };
            each(tag, end);
        });
        Ok(count)
    }

    /// Opens what was staged, to be written with whatever is written next.
    fn open_staged<'a>(&mut self, board: &'a Arc<Shared>) -> Guard<'a> {
        let state = board.lock();
        if self.staged.is_empty() {
            return state;
        }
        // Of all of them: they are sent now.
        let deadline = board.default_deadline();
        let (mut state, handle) = match board.handle_of(state, &self.service.target, deadline) {
            Ok((state, handle)) => (state, Ok(handle)),
            Err(error) => (board.lock(), Err(error)),
        };
        let mut rest = &self.bytes[..];
        for &Staged { call, len } in &self.staged {
            let payload;
            (payload, rest) = rest.split_at(len as usize);
            let mail = self.mail(call);
            let opened = match &handle {
                &Ok(handle) => {
                    let spec = CallSpec { handle, deadline, payload, ..CallSpec::default() };
                    state.session.call(mail.to_tag(), &spec).map(drop).map_err(CallError::from)
                }
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = opened {
                state.end_mail(mail, Err(error));
            }
        }
        self.staged.clear();
        self.bytes.clear();
        state
    }

    #[inline]
    fn mail(&self, call: u32) -> MailId {
        MailId { mailbox: self.mailbox, call }
    }

    /// A number for a call.
    #[inline]
    fn number(&mut self, tag: u64) -> u32 {
        if let Some(call) = self.free.pop() {
            self.tags[call as usize] = tag;
            return call;
        }
        self.tags.push(tag);
        (self.tags.len() - 1) as u32
    }

    #[cold]
    fn full(&self) -> CallError {
        let message = format!("{} calls are open in this pipeline, which is its depth", self.open);
        CallError::new(switchboard_protocol::Outcome::Busy, message)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let board = &self.service.target.board;
        board.close_mailbox(self.mailbox);
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
