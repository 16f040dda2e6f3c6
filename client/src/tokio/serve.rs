//! Serving, by tasks.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use switchboard_protocol::Epoch;
use tokio::sync::mpsc;

use super::Request;
use super::guarded::Guarded;
use super::waiting::Ticket;
use crate::driver::{Awaits, Delivery, Shared};
use crate::server::{SETTLE_UP, ServerCore};
use crate::{CallError, Fault, Handle, Response};

/// How a name is to be served; [`crate::ServeBuilder`] for tasks. Made by [`super::Board::serve`].
#[derive(Clone, Debug)]
#[must_use = "nothing is served before `start`"]
pub struct ServeBuilder {
    builder: crate::ServeBuilder,
}

/// A name that is being served by tasks. Dropping it stops the serving; tasks that handle requests go
/// on, and what they answer is late.
pub struct Server {
    core: ServerCore,
}

impl ServeBuilder {
    pub(super) fn new(builder: crate::ServeBuilder) -> Self {
        Self { builder }
    }

    fn with(self, change: impl FnOnce(crate::ServeBuilder) -> crate::ServeBuilder) -> Self {
        Self { builder: change(self.builder) }
    }

    /// See [`crate::ServeBuilder::exclusive`].
    pub fn exclusive(self) -> Self {
        self.with(crate::ServeBuilder::exclusive)
    }

    /// See [`crate::ServeBuilder::standby`].
    pub fn standby(self) -> Self {
        self.with(crate::ServeBuilder::standby)
    }

    /// See [`crate::ServeBuilder::pool`].
    pub fn pool(self) -> Self {
        self.with(crate::ServeBuilder::pool)
    }

    /// See [`crate::ServeBuilder::allow_replacement`].
    pub fn allow_replacement(self) -> Self {
        self.with(crate::ServeBuilder::allow_replacement)
    }

    /// See [`crate::ServeBuilder::replace`].
    pub fn replace(self) -> Self {
        self.with(crate::ServeBuilder::replace)
    }

    /// See [`crate::ServeBuilder::do_not_queue`].
    pub fn do_not_queue(self) -> Self {
        self.with(crate::ServeBuilder::do_not_queue)
    }

    /// See [`crate::ServeBuilder::window`]; `calls` is how many tasks handle requests at once.
    pub fn window(self, calls: u32, send_bytes: u32) -> Self {
        self.with(|builder| builder.window(calls, send_bytes))
    }

    /// See [`crate::ServeBuilder::about`].
    pub fn about(self, text: impl Into<String>) -> Self {
        self.with(|builder| builder.about(text))
    }

    /// Serves: every request is handled by a task of its own, in the request's [`crate::Context`], and
    /// answered by what the handler's future gives. One-way messages are handled one after the other,
    /// in their order. A handler that panics ends that one request with `Failed`.
    ///
    /// # Errors
    ///
    /// As [`crate::ServeBuilder::start`].
    pub async fn start<H, F, R>(self, handler: H) -> Result<Server, CallError>
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, Fault>> + Send + 'static,
        R: Into<Response> + Send + 'static,
    {
        let core = self.begin().await?;
        tokio::spawn(work(core.board.clone(), core.serving, Arc::new(handler)));
        Ok(Server { core })
    }

    async fn begin(&self) -> Result<ServerCore, CallError> {
        let shared = &self.builder.board().shared;
        let deadline = shared.default_deadline();
        shared.until_up(deadline).await?;
        let (core, ticket) = {
            let mut state = shared.lock();
            let (core, ticket) = self.builder.ask(shared, &mut state, deadline)?;
            shared.write_and_release(state);
            (core, ticket)
        };
        // Dropping `core` on the way gives the name up.
        let reply = Ticket::new(shared, ticket, deadline).end().await?;
        core.begun(&mut shared.lock(), &reply)?;
        Ok(core)
    }
}

/// Takes requests and has them handled until the server ends.
async fn work<H, F, R>(board: Arc<Shared>, serving: u64, handler: Arc<H>)
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, Fault>> + Send + 'static,
    R: Into<Response> + Send + 'static,
{
    // Bounded by the window of the serving.
    let (messages, in_order) = mpsc::unbounded_channel();
    tokio::spawn(handle_in_order(in_order, Arc::clone(&handler)));
    while let Some(batch) = next(&board, serving).await {
        for delivery in batch {
            let request = crate::Request::new(Arc::clone(&board), delivery);
            if request.is_one_way() {
                // The receiver ends after the sender.
                let _ = messages.send(request);
            } else {
                tokio::spawn(handle(request, Arc::clone(&handler)));
            }
        }
    }
}

async fn handle_in_order<H, F, R>(mut messages: mpsc::UnboundedReceiver<crate::Request>, handler: Arc<H>)
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, Fault>> + Send + 'static,
    R: Into<Response> + Send + 'static,
{
    while let Some(message) = messages.recv().await {
        handle(message, Arc::clone(&handler)).await;
    }
}

async fn handle<H, F, R>(mut request: crate::Request, handler: Arc<H>)
where
    H: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, Fault>> + Send + 'static,
    R: Into<Response> + Send + 'static,
{
    // Dropped with the task, should the runtime end, it answers `Abandoned`.
    let mut duty = request.take_duty();
    let context = request.context();
    let work = Guarded::new(async move { handler(Request(request)).await });
    let result = context.scope(work).await;
    duty.settle(result.map(Into::into));
}

/// All that is there; `None` at the end of the serving.
async fn next(board: &Arc<Shared>, serving: u64) -> Option<VecDeque<Box<Delivery>>> {
    loop {
        let handle = {
            let mut state = board.lock();
            let handle = state.server(serving).map_or(0, |server| server.handle);
            if state.session.owes(handle) { handle } else { 0 }
        };
        let requests = board.until(Awaits::Server(serving), |state| {
            let Some(server) = state.server(serving).filter(|server| server.end.is_none()) else {
                return Some(None);
            };
            (!server.queue.is_empty()).then(|| Some(std::mem::take(&mut server.queue)))
        });
        if handle == 0 {
            return requests.await;
        }
        match tokio::time::timeout(SETTLE_UP, requests).await {
            Ok(requests) => return requests,
            Err(_) => {
                let mut state = board.lock();
                state.session.settle_up(handle);
                board.write_and_release(state);
            }
        }
    }
}

impl Server {
    /// Gives the name up; see [`crate::Server::stop`].
    pub async fn stop(&self) {
        let board = &self.core.board;
        let deadline = board.default_deadline();
        let ticket = {
            let mut state = board.lock();
            let ticket = self.core.begin_stop(&mut state, deadline);
            board.write_and_release(state);
            ticket
        };
        if let Some(ticket) = ticket {
            // How it ends is no matter: the name is given up, or the connection is.
            let _ = Ticket::new(board, ticket, deadline).end().await;
        }
    }

    /// Waits until the serving has ended; see [`crate::Server::wait`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn wait(&self) -> Result<(), CallError> {
        let serving = self.core.serving;
        let board = &self.core.board;
        board.until(Awaits::ServerEnd(serving), |state| ServerCore::ended(state, serving)).await
    }

    /// See [`crate::Server::epoch`].
    pub fn epoch(&self) -> Option<Epoch> {
        self.core.epoch()
    }

    /// See [`crate::Server::is_owner`].
    pub fn is_owner(&self) -> bool {
        self.epoch().is_some()
    }

    /// See [`crate::Server::standby`].
    pub fn standby(&self) -> Option<u64> {
        self.core.standby()
    }

    /// See [`crate::Server::reference`].
    pub fn reference(&self) -> Option<Handle> {
        self.core.reference()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}
