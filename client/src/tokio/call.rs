//! Calls, for tasks.

use std::time::{Duration, Instant};

use switchboard_protocol::Epoch;

use super::ReplyStream;
use super::stream::Items;
use crate::driver::{Awaits, CallParams, Known, Owner, Patience, Target, after};
use crate::session::Method;
use crate::{CallError, Pass, Reply, codec};

/// Something that can be called and sent to; [`crate::Service`] for tasks.
#[derive(Clone, Debug)]
pub struct Service {
    service: crate::Service,
}

/// What is to be asked of a service; [`crate::CallBuilder`] for tasks. Made by [`Service::request`].
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `call`, `stream` or `send`"]
pub struct CallBuilder<'a> {
    builder: crate::CallBuilder<'a>,
}

impl Service {
    pub(super) fn new(service: crate::Service) -> Self {
        Self { service }
    }

    /// Calls method 0 with the board's time-out. Dropping the future cancels the call.
    ///
    /// # Errors
    ///
    /// [`CallError`]: any outcome of SPEC 4.6 but a reply.
    pub async fn call(&self, payload: impl AsRef<[u8]>) -> Result<Reply, CallError> {
        self.request().payload(payload.as_ref()).call().await
    }

    /// Calls with serde types; see [`crate::Service::call_typed`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn call_typed<'a, Req, Rep>(
        &'a self,
        method: impl Into<Method<'a>>,
        request: &Req,
    ) -> Result<Rep, CallError>
    where
        Req: serde::Serialize + ?Sized,
        Rep: serde::de::DeserializeOwned,
    {
        let payload = codec::to_vec(request).map_err(codec::not_encoded)?;
        let method: Method<'_> = method.into();
        let reply = self.request().method(method).payload(&payload).call().await?;
        codec::from_slice(&reply).map_err(codec::not_expected)
    }

    /// Sends one way; see [`crate::Service::send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send(&self, payload: impl AsRef<[u8]>) -> Result<(), CallError> {
        self.request().payload(payload.as_ref()).send().await
    }

    /// A call or message with all that can be said about it.
    pub fn request(&self) -> CallBuilder<'_> {
        CallBuilder { builder: self.service.request() }
    }

    /// The name, if it was opened by one.
    pub fn name(&self) -> Option<&str> {
        self.service.name()
    }
}

impl<'a> CallBuilder<'a> {
    fn with(self, change: impl FnOnce(crate::CallBuilder<'a>) -> crate::CallBuilder<'a>) -> Self {
        Self { builder: change(self.builder) }
    }

    /// See [`crate::CallBuilder::method`].
    pub fn method(self, method: impl Into<Method<'a>>) -> Self {
        self.with(|builder| builder.method(method))
    }

    /// See [`crate::CallBuilder::payload`].
    pub fn payload(self, payload: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.with(|builder| builder.payload(payload))
    }

    /// See [`crate::CallBuilder::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|builder| builder.timeout(timeout))
    }

    /// See [`crate::CallBuilder::deadline`].
    pub fn deadline(self, deadline: Instant) -> Self {
        self.with(|builder| builder.deadline(deadline))
    }

    /// See [`crate::CallBuilder::no_timeout`].
    pub fn no_timeout(self) -> Self {
        self.with(crate::CallBuilder::no_timeout)
    }

    /// See [`crate::CallBuilder::priority`].
    pub fn priority(self, priority: u8) -> Self {
        self.with(|builder| builder.priority(priority))
    }

    /// See [`crate::CallBuilder::expect_epoch`].
    pub fn expect_epoch(self, epoch: Epoch) -> Self {
        self.with(|builder| builder.expect_epoch(epoch))
    }

    /// See [`crate::CallBuilder::idempotent`].
    pub fn idempotent(self) -> Self {
        self.with(crate::CallBuilder::idempotent)
    }

    /// See [`crate::CallBuilder::no_wait`].
    pub fn no_wait(self) -> Self {
        self.with(crate::CallBuilder::no_wait)
    }

    /// See [`crate::CallBuilder::handle`].
    pub fn handle(self, pass: Pass) -> Self {
        self.with(|builder| builder.handle(pass))
    }

    /// See [`crate::CallBuilder::traceparent`].
    pub fn traceparent(self, traceparent: &'a str) -> Self {
        self.with(|builder| builder.traceparent(traceparent))
    }

    /// See [`crate::CallBuilder::tag`].
    pub fn tag(self, tag: u64) -> Self {
        self.with(|builder| builder.tag(tag))
    }

    /// Calls. Dropping the future cancels the call.
    ///
    /// # Errors
    ///
    /// Any outcome of SPEC 4.6 but a reply.
    pub async fn call(self) -> Result<Reply, CallError> {
        let (service, payload, is_idempotent, _) = self.builder.parts();
        let board = &service.target.board;
        let (entries, connection) = self.builder.entries();
        let params = self.builder.params(false, &entries, connection);
        let mut again = is_idempotent;
        loop {
            let end = match board.begin(&service.target, &params, payload).await {
                Ok(ticket) => ticket.end().await,
                Err(error) => Err(error),
            };
            match end {
                Err(error) if again && board.will_be_worth_again(&error).await => again = false,
                end => return Ok(Reply::of(board, end?)),
            }
        }
    }

    /// Calls for a streamed reply (SPEC 4.11).
    ///
    /// # Errors
    ///
    /// What is known at once; the rest comes with the end of the stream.
    pub async fn stream(self) -> Result<ReplyStream, CallError> {
        let (service, payload, _, _) = self.builder.parts();
        let board = &service.target.board;
        let (entries, connection) = self.builder.entries();
        let params = self.builder.params(true, &entries, connection);
        board.until_open(&service.target, params.deadline).await?;
        let state = board.lock();
        let Known::Handle(handle) = service.target.known(&state.link) else {
            return Err(CallError::not_connected(&state.link.why));
        };
        let (state, ticket) =
            board.open_call(state, handle, &params, payload, Owner::Nobody, Patience::Never)?;
        let items = Items::new(board, state, ticket, params.deadline, crate::ReplyStream::WINDOW);
        Ok(ReplyStream::new(items))
    }

    /// Sends one way, once there is room. (What the socket does not take at once is written later, in
    /// its place.)
    ///
    /// # Errors
    ///
    /// As [`crate::Service::send`].
    pub async fn send(self) -> Result<(), CallError> {
        send(&self.builder).await
    }
}

/// Sends one way, once there is room.
pub(super) async fn send(builder: &crate::CallBuilder<'_>) -> Result<(), CallError> {
    let (service, payload, _, tag) = builder.parts();
    let board = &service.target.board;
    let (entries, connection) = builder.entries();
    let params = builder.params(false, &entries, connection);
    board.until_open(&service.target, params.deadline).await?;
    board.until_window(&service.target, params.deadline).await?;
    send_when_room(&service.target, &params, tag, payload).await
}

/// Sends one way by a target that is open, once there is room.
pub(super) async fn send_when_room(
    target: &Target,
    params: &CallParams<'_>,
    tag: u64,
    payload: &[u8],
) -> Result<(), CallError> {
    let sent = target.board.until(Awaits::Room, |state| state.try_send(target, params, tag, payload));
    if params.deadline == 0 {
        return sent.await;
    }
    let left = params.deadline.saturating_sub(after(Duration::ZERO));
    match tokio::time::timeout(Duration::from_nanos(left), sent).await {
        Ok(sent) => sent,
        Err(_) => Err(crate::driver::no_room_in_time()),
    }
}
