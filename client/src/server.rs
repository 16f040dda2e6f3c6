//! A name being served, and those who work for it.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use switchboard_protocol::control::{Operation, Served};
use switchboard_protocol::{Epoch, Rights, Verb};

use crate::driver::{
    Awaits, Boxes, Delivery, Owner, RawReply, ServerState, Shared, State, TicketId, Until, after,
    decode_reply,
};
use crate::{Board, CallError, Fault, Handle, Request, Response};

/// A name that is being served by threads of its own; made by [`crate::ServeBuilder::start`]. Dropping
/// it stops the serving, and waits for its workers.
pub struct Server {
    core: Arc<ServerCore>,
    work: Arc<Work>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    is_alone: bool,
}

/// What is common to all who serve a name.
pub(crate) struct ServerCore {
    pub(crate) board: Arc<Shared>,
    pub(crate) serving: u64,
}

/// What is done with a request.
pub(crate) enum Work {
    /// The handler returns the answer. The request is the worker's, and used again.
    Returns(Box<Returns>),
    /// The handler takes the request, and sees to the answer.
    Deferred(Box<dyn Fn(Request) + Send + Sync>),
}

type Returns = dyn Fn(&mut Request, &mut Turn) + Send + Sync;

/// What a worker owes for what it has read at once.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    handle: u64,
    connection: u64,
    /// Bytes of one-way messages that were worked off.
    consumed: u64,
    /// Answers wait to be written.
    has_answers: bool,
    /// Of requests that were worked off.
    boxes: Boxes,
}

/// A turn's answers are written after this long, even if there are more requests to handle.
const TURN_MAX: Duration = Duration::from_micros(20);

/// How long room for one-way messages is kept back by a server that has nothing to do.
pub(crate) const SETTLE_UP: Duration = Duration::from_millis(5);

impl Work {
    pub(crate) fn returns<R: Into<Response>>(
        handler: impl Fn(&mut Request) -> Result<R, Fault> + Send + Sync + 'static,
    ) -> Self {
        Self::Returns(Box::new(move |request, turn| {
            let entered = request.context().enter();
            if request.is_batch() {
                request.each_of_batch(|request| {
                    // Of a one-way message nobody hears how it went.
                    let _ = catch_unwind(AssertUnwindSafe(|| handler(request)));
                });
                drop(entered);
                turn.consume(request);
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(|| handler(request)));
            drop(entered);
            if request.is_one_way() {
                turn.consume(request);
                return;
            }
            let result = match result {
                Ok(result) => result.map(Into::into),
                Err(panic) => Err(panicked(panic.as_ref())),
            };
            request.settle(result, false);
            turn.has_answers = true;
        }))
    }

    pub(crate) fn deferred(handler: impl Fn(Request) + Send + Sync + 'static) -> Self {
        Self::Deferred(Box::new(move |request| {
            let _entered = request.context().enter();
            // A panic drops the request, which answers `Abandoned`; the server lives.
            let _ = catch_unwind(AssertUnwindSafe(|| handler(request)));
        }))
    }

    /// Whether it takes the messages of a batch out by itself, one after the other.
    pub(crate) fn takes_batches(&self) -> bool {
        match self {
            Self::Returns(_) => true,
            Self::Deferred(_) => false,
        }
    }

    /// Has a request handled. `current` is the worker's own, from one to the next.
    #[inline]
    fn handle(
        &self,
        board: &Arc<Shared>,
        delivery: Box<Delivery>,
        current: &mut Option<Request>,
        turn: &mut Turn,
    ) {
        match (self, current) {
            (Self::Deferred(handler), _) => handler(Request::new(Arc::clone(board), delivery)),
            (Self::Returns(handler), Some(request)) => {
                turn.boxes.push(request.reload(delivery));
                handler(request, turn);
            }
            (Self::Returns(handler), current) => {
                handler(current.insert(Request::new(Arc::clone(board), delivery)), turn);
            }
        }
    }
}

/// What the caller is told of a panic.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Fault {
    let what = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Fault::failed(format!("the service's handler panicked: {what}"))
}

impl Turn {
    #[inline]
    fn consume(&mut self, request: &mut Request) {
        let (handle, bytes) = request.settle_one_way();
        // Of another connection only after a loss: what was owed there is void.
        if (handle, request.connection()) != (self.handle, self.connection) {
            (self.handle, self.connection, self.consumed) = (handle, request.connection(), 0);
        }
        self.consumed += bytes;
    }

    /// Gives back the room that was used up.
    #[inline]
    fn give_back(&mut self, state: &mut State) {
        if self.consumed > 0 && self.connection == state.link.connection && state.link.is_up {
            state.session.consumed(self.handle, self.consumed);
        }
        self.consumed = 0;
        state.keep_boxes(&mut self.boxes);
    }
}

impl ServerCore {
    pub(crate) fn new(board: &Arc<Shared>, serving: u64) -> Self {
        Self { board: Arc::clone(board), serving }
    }

    /// Takes requests and handles them until the server ends. A worker that is alone takes all that
    /// are there at once, and what it answers is written at once, before it waits again.
    fn work(&self, work: &Work, is_alone: bool) {
        let (board, serving) = (&self.board, self.serving);
        let mut turn = Turn::default();
        let mut current = None;
        let mut batch: VecDeque<Box<Delivery>> = VecDeque::new();
        loop {
            let mut state = board.lock();
            turn.give_back(&mut state);
            turn.has_answers = false;
            let handle = state.server(serving).map_or(0, |server| server.handle);
            let until = if state.session.owes(handle) { Until::At(after(SETTLE_UP)) } else { Until::Forever };
            let (mut state, is_serving) = board.wait(
                state,
                until,
                Awaits::Server(serving),
                |_, _| {},
                |state| {
                    let Some(server) = state.server(serving).filter(|server| server.end.is_none()) else {
                        return Some(false);
                    };
                    if is_alone {
                        std::mem::swap(&mut server.queue, &mut batch);
                    } else {
                        batch.extend(server.queue.pop_front());
                    }
                    // Those whose callers have their outcome already need no work any more.
                    batch.retain(|delivery| !state.drop_if_cancelled(delivery));
                    (!batch.is_empty()).then_some(true)
                },
            );
            match is_serving {
                Some(true) => board.release(state),
                None if until != Until::Forever => {
                    state.session.settle_up(handle);
                    board.write_and_release(state);
                    continue;
                }
                _ => return board.release(state),
            }
            let mut begin = (batch.len() > 1).then(Instant::now);
            while let Some(delivery) = batch.pop_front() {
                work.handle(board, delivery, &mut current, &mut turn);
                if turn.has_answers && begin.is_some_and(|begin| begin.elapsed() > TURN_MAX) {
                    let mut state = board.lock();
                    turn.give_back(&mut state);
                    turn.has_answers = false;
                    board.write_and_release(state);
                    begin = Some(Instant::now());
                }
            }
        }
    }

    /// The broker has agreed.
    pub(crate) fn begun(&self, state: &mut State, reply: &RawReply) -> Result<(), CallError> {
        let served: Served = decode_reply(Operation::Serve, reply)?;
        if reply.connection == state.link.connection
            && let Some(server) = state.server(self.serving)
        {
            server.served(&served);
        }
        Ok(())
    }

    /// The serving ends here at once; the broker's consent is to be waited for.
    pub(crate) fn begin_stop(&self, state: &mut State, deadline: u64) -> Option<TicketId> {
        let handle = state.server(self.serving).map(|server| std::mem::take(&mut server.handle))?;
        state.end_server(self.serving, Ok(()));
        if handle == 0 || !state.link.is_up {
            return None;
        }
        let ticket = state.tickets.insert(Owner::Nobody);
        let opened = state.session.close(ticket.0, handle, deadline);
        state.opened_call(ticket, opened).ok()
    }

    fn stop(&self) {
        let deadline = self.board.default_deadline();
        let mut state = self.board.lock();
        if let Some(ticket) = self.begin_stop(&mut state, deadline) {
            // How it ends is no matter: the name is given up, or the connection is.
            (state, _) = self.board.finish(state, ticket, deadline);
        }
        self.board.release(state);
    }

    /// Waits until it ends, and says how.
    fn wait(&self) -> Result<(), CallError> {
        let serving = self.serving;
        let (state, end) = self.board.wait(
            self.board.lock(),
            Until::Forever,
            Awaits::ServerEnd(serving),
            |_, _| {},
            |state| Self::ended(state, serving),
        );
        self.board.release(state);
        end.unwrap_or(Ok(()))
    }

    /// How it ended, if it has.
    pub(crate) fn ended(state: &mut State, serving: u64) -> Option<Result<(), CallError>> {
        state.server(serving).map_or(Some(Ok(())), |server| server.end.clone())
    }

    pub(crate) fn epoch(&self) -> Option<Epoch> {
        let epoch = self.with(|server| server.epoch)?;
        (epoch != 0).then_some(Epoch(epoch))
    }

    pub(crate) fn standby(&self) -> Option<u64> {
        self.with(|server| server.standby).filter(|&place| place != 0)
    }

    pub(crate) fn reference(&self) -> Option<Handle> {
        let mut state = self.board.lock();
        let connection = state.link.connection;
        let server = state.server(self.serving)?;
        // It is given out once; its clones are made from that.
        let reference = std::mem::take(&mut server.reference);
        drop(state);
        let rights = Rights(Verb::Call as u32) | Rights(Verb::Delegate as u32);
        (reference != 0).then(|| Handle::held(&self.board, reference, rights, connection))
    }

    fn with<T>(&self, read: impl FnOnce(&ServerState) -> T) -> Option<T> {
        let mut state = self.board.lock();
        state.server(self.serving).filter(|server| server.end.is_none()).map(|server| read(server))
    }
}

impl Drop for ServerCore {
    fn drop(&mut self) {
        let mut state = self.board.lock();
        state.end_server(self.serving, Ok(()));
        if let Some(server) = state.servers.remove(&self.serving)
            && state.link.is_up
        {
            state.session.discard(server.reference);
            state.session.discard(server.handle);
        }
        self.board.write_and_release(state);
    }
}

impl Server {
    /// With threads for all workers but `here`, which the caller sees to.
    pub(crate) fn spawn(
        core: Arc<ServerCore>,
        work: Work,
        workers: usize,
        here: usize,
    ) -> Result<Self, CallError> {
        let work = Arc::new(work);
        let is_alone = workers == 1;
        let server = Self { core, work, threads: Mutex::default(), is_alone };
        for _ in here..workers {
            let (core, work) = (Arc::clone(&server.core), Arc::clone(&server.work));
            let thread = std::thread::Builder::new()
                .name("switchboard".into())
                .spawn(move || core.work(&work, is_alone))
                .map_err(|error| {
                    let message = format!("a thread for the server could not be started: {error}");
                    CallError::new(switchboard_protocol::Outcome::Failed, message)
                })?;
            server.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(server)
    }

    pub(crate) fn work_here(&self) {
        self.core.work(&self.work, self.is_alone);
    }

    /// Gives the name up. Requests that no worker has taken up end with `Abandoned`; those that are
    /// being handled end as the broker sees fit (SPEC 5.9).
    pub fn stop(&self) {
        self.core.stop();
    }

    /// Waits until the serving has ended.
    ///
    /// # Errors
    ///
    /// Why, unless it was stopped: `PeerDied` when the connection is lost for good, or what the broker
    /// said when the name was to be served again on a new one.
    pub fn wait(&self) -> Result<(), CallError> {
        self.core.wait()
    }

    /// The epoch of this ownership (SPEC 3.5); `None` while it stands by.
    pub fn epoch(&self) -> Option<Epoch> {
        self.core.epoch()
    }

    /// Whether it owns the name now (as far as is known here).
    pub fn is_owner(&self) -> bool {
        self.epoch().is_some()
    }

    /// Its place in line, from 1; `None` for an owner.
    pub fn standby(&self) -> Option<u64> {
        self.core.standby()
    }

    /// The handle on a private service ([`Board::private`]), with the rights `call` and `delegate`, to
    /// be passed on. It is given out once (clone it); `None` for a name. Good on one connection only.
    pub fn reference(&self) -> Option<Handle> {
        self.core.reference()
    }

    /// The board that it serves on.
    pub fn board(&self) -> Board {
        Board { shared: Arc::clone(&self.core.board) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        let here = std::thread::current().id();
        for thread in self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A handler may drop its own server: its thread ends once the handler does.
            if thread.thread().id() != here {
                let _ = thread.join();
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}
