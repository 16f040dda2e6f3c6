//! Wanting to own a name.

use std::sync::Arc;

use switchboard_protocol::Outcome;
use switchboard_protocol::control::{self, serve_flags};

use crate::driver::{Owner, ServerState, Shared, State, TicketId};
use crate::server::{ServerCore, Work};
use crate::{Board, CallError, Fault, Request, Response, Server};

/// How a name is to be served; made by [`Board::serve`].
///
/// A *handler* is called for every request: one that takes `&mut Request` answers with what it returns,
/// one that takes `Request` answers when it likes. It may make calls itself; they inherit deadline and
/// priority. A handler that panics ends that one request with `Failed`.
///
/// ```
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let socket = broker.socket();
/// # let board = switchboard::Board::builder().socket(socket).connect()?;
/// # let caller = switchboard::Board::builder().socket(socket).connect()?;
/// # let stop = board.clone();
/// # let calling = std::thread::spawn(move || {
/// #     caller.wait_for("acme.upper", None).unwrap();
/// #     assert_eq!(&caller.service("acme.upper").call("x").unwrap()[..], b"X");
/// #     stop.close();
/// # });
/// board.serve("acme.upper").run(|request| Ok(request.payload().to_ascii_uppercase()))?;
/// # calling.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is served before `run` or `start`"]
pub struct ServeBuilder {
    board: Board,
    name: String,
    pool: bool,
    flags: u32,
    workers: usize,
    calls: u32,
    send_bytes: u32,
    about: String,
}

impl ServeBuilder {
    pub(crate) fn new(board: &Board, name: &str) -> Self {
        Self {
            board: board.clone(),
            name: name.to_owned(),
            pool: false,
            flags: 0,
            workers: 1,
            calls: 256,
            send_bytes: 1 << 20,
            about: String::new(),
        }
    }

    /// One owner at a time; a second server stands by. The default.
    pub fn exclusive(mut self) -> Self {
        self.pool = false;
        self
    }

    /// One owner at a time, and to stand by in line behind it is fine: [`ServeBuilder::exclusive`],
    /// said the other way round. Undoes [`ServeBuilder::do_not_queue`].
    pub fn standby(mut self) -> Self {
        self.pool = false;
        self.flags &= !serve_flags::DO_NOT_QUEUE;
        self
    }

    /// Several owners: each request goes to the one with the fewest unanswered.
    pub fn pool(mut self) -> Self {
        self.pool = true;
        self
    }

    /// Another server may take the name over ([`ServeBuilder::replace`]).
    pub fn allow_replacement(mut self) -> Self {
        self.flags |= serve_flags::ALLOW_REPLACEMENT;
        self
    }

    /// Take the name over from an owner that allows it; that one then stands by.
    pub fn replace(mut self) -> Self {
        self.flags |= serve_flags::REPLACE;
        self
    }

    /// `Busy` rather than stand by.
    pub fn do_not_queue(mut self) -> Self {
        self.flags |= serve_flags::DO_NOT_QUEUE;
        self
    }

    /// How many threads call the handler; at least 1, the default. One worker answers everything that
    /// it read at once with one write, as long as the handler is quick (an answer waits at most for
    /// the one handler that runs after it, and not at all once 20 µs have gone by).
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// How much may be here, unanswered, at once: requests (at least 1; default 256), and bytes of
    /// one-way messages (default 1 MiB). The rest waits at the broker, by priority.
    pub fn window(mut self, calls: u32, send_bytes: u32) -> Self {
        self.calls = calls.max(1);
        self.send_bytes = send_bytes;
        self
    }

    /// What `switchboard describe` shows, for people; at most 4096 bytes.
    pub fn about(mut self, text: impl Into<String>) -> Self {
        self.about = text.into();
        self
    }

    /// Serves on this thread (and the further workers on threads of their own) until the name is
    /// given up ([`Server::stop`], of which [`Board::close`] is one way) or the connection is lost for
    /// good.
    ///
    /// # Errors
    ///
    /// `Denied` where policy does not allow it, `Busy` where the name is taken and
    /// [`ServeBuilder::do_not_queue`] was said, `Invalid` for a bad name; `PeerDied` when the
    /// connection is lost.
    pub fn run<R: Into<Response>>(
        self,
        handler: impl Fn(&mut Request) -> Result<R, Fault> + Send + Sync + 'static,
    ) -> Result<(), CallError> {
        self.run_work(Work::returns(handler))
    }

    /// [`ServeBuilder::run`] with a handler that takes its requests by value.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn run_deferred(self, handler: impl Fn(Request) + Send + Sync + 'static) -> Result<(), CallError> {
        self.run_work(Work::deferred(handler))
    }

    /// Serves on threads of its own, one per worker, until the [`Server`] is stopped or dropped.
    ///
    /// # Errors
    ///
    /// As [`ServeBuilder::run`], for what is known at once.
    pub fn start<R: Into<Response>>(
        self,
        handler: impl Fn(&mut Request) -> Result<R, Fault> + Send + Sync + 'static,
    ) -> Result<Server, CallError> {
        self.start_work(Work::returns(handler))
    }

    /// [`ServeBuilder::start`] with a handler that takes its requests by value.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_deferred(
        self,
        handler: impl Fn(Request) + Send + Sync + 'static,
    ) -> Result<Server, CallError> {
        self.start_work(Work::deferred(handler))
    }

    fn run_work(self, work: Work) -> Result<(), CallError> {
        let workers = self.workers;
        let core = self.begin(&work)?;
        let server = Server::spawn(core, work, workers, 1)?;
        server.work_here();
        server.wait()
    }

    fn start_work(self, work: Work) -> Result<Server, CallError> {
        let workers = self.workers;
        Server::spawn(self.begin(&work)?, work, workers, 0)
    }

    pub(crate) fn body(&self) -> control::Serve {
        control::Serve {
            name: self.name.clone(),
            mode: u8::from(self.pool),
            flags: self.flags,
            calls: self.calls,
            send_bytes: self.send_bytes,
            about: self.about.clone(),
        }
    }

    /// Owns the name, or stands by.
    fn begin(&self, work: &Work) -> Result<Arc<ServerCore>, CallError> {
        let shared = &self.board.shared;
        let deadline = shared.default_deadline();
        let mut state = shared.ensure_up(shared.lock(), deadline)?;
        let asked = self.ask(shared, &mut state, deadline);
        let (core, ticket) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                shared.release(state);
                return Err(error);
            }
        };
        if let Some(server) = state.server(core.serving) {
            server.takes_batches = self.workers == 1 && work.takes_batches();
        }
        let (mut state, end) = shared.finish(state, ticket, deadline);
        let begun = end.and_then(|reply| core.begun(&mut state, &reply));
        shared.release(state);
        // Dropping `core` takes the lock.
        begun.map(|()| Arc::new(core))
    }

    /// Asks the broker. Dropping what comes back gives the name up again.
    pub(crate) fn ask(
        &self,
        shared: &Arc<Shared>,
        state: &mut State,
        deadline: u64,
    ) -> Result<(ServerCore, TicketId), CallError> {
        let body = self.body();
        if body.about.len() > ABOUT_BYTES_MAX {
            let bytes = body.about.len();
            let message = format!("the text about the service has {bytes} bytes; at most 4096 are allowed");
            return Err(CallError::new(Outcome::Invalid, message));
        }
        state.servings += 1;
        let serving = state.servings;
        let ticket = state.tickets.insert(Owner::Nobody);
        let opened = state.session.serve(ticket.0, serving, &body, deadline);
        let ticket = state.opened_call(ticket, opened)?;
        state.servers.insert(serving, ServerState::new(body));
        Ok((ServerCore::new(shared, serving), ticket))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }
}

const ABOUT_BYTES_MAX: usize = 4096;
