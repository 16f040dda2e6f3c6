//! Waiting for what others read.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use switchboard_protocol::Outcome;
use switchboard_protocol::control::{Narrow, Opened, Operation};
use switchboard_transport::clock;

use crate::driver::{
    Awaits, CallParams, End, GOING_DOWN, Known, Owner, Patience, RawReply, Shared, State, Target, TicketId,
    What, decode_reply, open_body,
};
use crate::flow::Flow;
use crate::session::EXPIRY_GRACE;
use crate::{CallError, Context};

/// A call that is given up when this is dropped before its end has been fetched.
pub(crate) struct Ticket {
    pub(crate) board: Arc<Shared>,
    pub(crate) id: TicketId,
    pub(crate) deadline: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Nothing if the end was fetched: the id is then nobody's.
        self.board.give_up(self.id);
    }
}

impl Ticket {
    pub(crate) fn new(board: &Arc<Shared>, id: TicketId, deadline: u64) -> Self {
        Self { board: Arc::clone(board), id, deadline }
    }

    /// The end of the call.
    pub(crate) async fn end(self) -> End {
        self.until(|state, id| {
            let end = match state.tickets.get(id) {
                Some(ticket) => ticket.end.take()?,
                None => Err(CallError::not_connected("the call is not known")),
            };
            state.tickets.remove(id);
            Some(end)
        })
        .await
    }

    /// What `take` finds once something has come for this call.
    pub(crate) async fn until<T>(&self, mut take: impl FnMut(&mut State, TicketId) -> Option<T>) -> T {
        let ends = poll_fn(|task| {
            let mut state = self.board.lock();
            if let Some(found) = take(&mut state, self.id) {
                self.board.write_and_release(state);
                return Poll::Ready(found);
            }
            if let Some(ticket) = state.tickets.get(self.id) {
                set_waker(&mut ticket.owner, task.waker());
            }
            self.board.write_and_release(state);
            Poll::Pending
        });
        if self.deadline == 0 {
            return ends.await;
        }
        // Should the broker have stopped: the session ends the call itself.
        let expiry = Duration::from_nanos(self.deadline.saturating_sub(clock::monotonic_ns())) + EXPIRY_GRACE;
        let mut expiry = pin!(tokio::time::sleep(expiry));
        let mut ends = pin!(ends);
        poll_fn(|task| {
            if let Poll::Ready(end) = ends.as_mut().poll(task) {
                return Poll::Ready(end);
            }
            if expiry.as_mut().poll(task).is_ready() {
                let mut state = self.board.lock();
                state.expire(clock::monotonic_ns());
                self.board.write_and_release(state);
                return ends.as_mut().poll(task);
            }
            Poll::Pending
        })
        .await
    }
}

fn set_waker(owner: &mut Owner, waker: &Waker) {
    match owner {
        Owner::Task(known) => known.clone_from(waker),
        owner => *owner = Owner::Task(waker.clone()),
    }
}

/// The handle of a target, if it is open and good now.
pub(crate) fn open_now(target: &Target, state: &State) -> Option<u64> {
    match (target.known(&state.link), state.link.is_up) {
        (Known::Handle(handle), true) => Some(handle),
        (Known::Handle(_) | Known::Name(..) | Known::Gone, _) => None,
    }
}

impl Flow {
    /// Waits until an item is ready, or says how it ended. Cancel-safe.
    pub(crate) async fn until_ready(&mut self) -> Result<(), CallError> {
        if self.is_ready() && !self.wants_grant() {
            return Ok(());
        }
        let board = Arc::clone(&self.board);
        poll_fn(|task| {
            let mut state = board.lock();
            self.grant(&mut state);
            if let Some(next) = self.pull(&mut state) {
                board.write_and_release(state);
                return Poll::Ready(next);
            }
            if let Some(ticket) = state.tickets.get(self.ticket) {
                set_waker(&mut ticket.owner, task.waker());
            }
            board.write_and_release(state);
            Poll::Pending
        })
        .await
    }
}

impl Shared {
    /// Waits until `check` gives something; asked again whenever `awaits` comes.
    pub(crate) async fn until<T>(&self, awaits: Awaits, mut check: impl FnMut(&mut State) -> Option<T>) -> T {
        poll_fn(|task| {
            let mut state = self.lock();
            if let Some(found) = check(&mut state) {
                self.write_and_release(state);
                return Poll::Ready(found);
            }
            state.tasks.retain(|(awaited, waker)| *awaited != awaits || !waker.will_wake(task.waker()));
            state.tasks.push((awaits, task.waker().clone()));
            self.write_and_release(state);
            Poll::Pending
        })
        .await
    }

    /// Waits for a connection, for as long as calls are patient.
    pub(crate) async fn until_up(&self, deadline: u64) -> Result<(), CallError> {
        let mut patience = self.config.reconnect.patience;
        if deadline != 0 {
            patience = patience.min(Duration::from_nanos(deadline.saturating_sub(clock::monotonic_ns())));
        }
        let up = self.until(Awaits::Nothing, |state| {
            let for_good = !state.link.reconnects || state.link.is_closed;
            (state.link.is_up || for_good).then_some(state.link.is_up)
        });
        match tokio::time::timeout(patience, up).await {
            Ok(true) => Ok(()),
            _ => Err(CallError::not_connected(&self.lock().link.why)),
        }
    }

    /// Whether what ended so may be done again; see [`Shared::is_worth_again`].
    pub(crate) async fn will_be_worth_again(&self, error: &CallError) -> bool {
        match error.outcome {
            Outcome::PeerDied => true,
            Outcome::ShuttingDown if self.config.reconnect.enabled => {
                let gone = self.until(Awaits::Nothing, |state| state.link.is_gone().then_some(()));
                // Should it not be, what is done again says what is the matter.
                let _ = tokio::time::timeout(GOING_DOWN, gone).await;
                true
            }
            _ => false,
        }
    }

    /// Sees to it that a target has a handle.
    pub(crate) async fn until_open(
        self: &Arc<Self>,
        target: &Target,
        deadline: u64,
    ) -> Result<(), CallError> {
        loop {
            let ticket = {
                let mut state = self.lock();
                match target.known(&state.link) {
                    Known::Gone => return Err(crate::driver::gone()),
                    Known::Handle(_) if state.link.is_up => return Ok(()),
                    _ if !state.link.is_up => None,
                    Known::Handle(_) => return Ok(()),
                    Known::Name(name, kind, rights) => {
                        let body = open_body(name, kind, rights);
                        let ticket = state.open_control(Operation::Open, &body, deadline, Owner::Nobody)?;
                        self.write_and_release(state);
                        Some(Ticket::new(self, ticket, deadline))
                    }
                }
            };
            match ticket {
                None if target.name().is_none() => return Err(crate::driver::gone()),
                None => self.until_up(deadline).await?,
                Some(ticket) => {
                    let reply = ticket.end().await?;
                    let mut state = self.lock();
                    state.opened(target, reply)?;
                    self.write_and_release(state);
                }
            }
        }
    }

    /// Sees to it that a target has a send window; see [`Shared::ensure_window`].
    pub(crate) async fn until_window(
        self: &Arc<Self>,
        target: &Target,
        deadline: u64,
    ) -> Result<(), CallError> {
        let What::Held { rights } = target.what else { return Ok(()) };
        let (handle, _) = target.get();
        if self.lock().session.has_window(handle) {
            return Ok(());
        }
        let reply = self.operate_raw(Operation::Narrow, &Narrow { handle, rights }, deadline).await?;
        let opened: Opened = decode_reply(Operation::Narrow, &reply)?;
        let mut state = self.lock();
        if target.get() == (handle, reply.connection) {
            target.replace(opened.handle);
        } else {
            // Another task was faster.
            state.discard_handle(opened.handle, reply.connection);
        }
        self.write_and_release(state);
        Ok(())
    }

    /// Opens a call.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        target: &Target,
        params: &CallParams<'_>,
        payload: &[u8],
    ) -> Result<Ticket, CallError> {
        loop {
            self.until_open(target, params.deadline).await?;
            // Between the two the connection may have been lost.
            if let Some(ticket) = self.try_begin(target, params, payload)? {
                return Ok(ticket);
            }
        }
    }

    /// Opens a call, if its target is open.
    pub(crate) fn try_begin(
        self: &Arc<Self>,
        target: &Target,
        params: &CallParams<'_>,
        payload: &[u8],
    ) -> Result<Option<Ticket>, CallError> {
        let state = self.lock();
        let Some(handle) = open_now(target, &state) else { return Ok(None) };
        let (state, ticket) =
            self.open_call(state, handle, params, payload, Owner::Nobody, Patience::Never)?;
        self.write_and_release(state);
        Ok(Some(Ticket::new(self, ticket, params.deadline)))
    }

    /// Makes a call, and its end.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        target: &Target,
        params: &CallParams<'_>,
        payload: &[u8],
    ) -> End {
        self.begin(target, params, payload).await?.end().await
    }

    /// A control operation on what this target is, and its answer. `body` makes it of the handle.
    pub(crate) async fn operate_for<B: Serialize>(
        self: &Arc<Self>,
        target: &Target,
        operation: Operation,
        body: impl Fn(u64) -> B,
    ) -> Result<RawReply, CallError> {
        let deadline = Context::inherit_deadline(Context::current(), self.default_deadline());
        loop {
            self.until_open(target, deadline).await?;
            let ticket = {
                let mut state = self.lock();
                let Some(handle) = open_now(target, &state) else { continue };
                let ticket = state.open_control(operation, &body(handle), deadline, Owner::Nobody)?;
                self.write_and_release(state);
                ticket
            };
            return Ticket::new(self, ticket, deadline).end().await;
        }
    }

    /// A control operation, and its answer.
    pub(crate) async fn operate<R: DeserializeOwned>(
        self: &Arc<Self>,
        operation: Operation,
        body: &impl Serialize,
        deadline: u64,
    ) -> Result<R, CallError> {
        let reply = self.operate_raw(operation, body, deadline).await?;
        decode_reply(operation, &reply)
    }

    pub(crate) async fn operate_raw(
        self: &Arc<Self>,
        operation: Operation,
        body: &impl Serialize,
        deadline: u64,
    ) -> Result<RawReply, CallError> {
        self.until_up(deadline).await?;
        let ticket = {
            let mut state = self.lock();
            let ticket = state.open_control(operation, body, deadline, Owner::Nobody)?;
            self.write_and_release(state);
            ticket
        };
        Ticket::new(self, ticket, deadline).end().await
    }
}
