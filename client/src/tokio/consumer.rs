//! Taking messages out of a queue, for tasks.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use switchboard_protocol::queue::{LeaseId, LeaseKind, NackHow, QueueMethod};

use super::Queue;
use super::stream::Items;
use super::waiting::open_now;
use crate::consumer::{PEEK_CREDIT, consumed_already, in_time};
use crate::driver::{CallParams, End, Owner, after};
use crate::flow::Flow;
use crate::queue::{inherited, nack_body};
use crate::{Acked, CallError, Context, Payload, Queued};

/// How messages are to be taken; [`crate::ConsumeBuilder`] for tasks. Made by [`Queue::consume`].
#[derive(Clone, Debug)]
#[must_use = "nothing is taken before `start` or `pop`"]
pub struct ConsumeBuilder {
    builder: crate::ConsumeBuilder,
}

/// Messages of a queue, one after the other; [`crate::Consumer`] for tasks.
pub struct Consumer {
    // Dropped first: what it gives back goes by the builder's handle.
    flow: Flow,
    builder: ConsumeBuilder,
    end: Option<CallError>,
}

/// A message that is ours for the time of its lease; [`crate::Leased`] for tasks.
#[must_use = "dropped, it goes back to its queue"]
pub struct Leased {
    leased: crate::Leased,
}

/// What is in a queue, looked at without taking it; [`crate::Peek`] for tasks. Made by
/// [`Queue::peek`].
pub struct Peek {
    items: Items,
    is_over: bool,
}

impl ConsumeBuilder {
    pub(super) fn new(builder: crate::ConsumeBuilder) -> Self {
        Self { builder }
    }

    /// See [`crate::ConsumeBuilder::credit`].
    pub fn credit(self, credit: u32) -> Self {
        Self { builder: self.builder.credit(credit) }
    }

    /// See [`crate::ConsumeBuilder::lease`].
    pub fn lease(self, lease: LeaseKind) -> Self {
        Self { builder: self.builder.lease(lease) }
    }

    /// See [`crate::ConsumeBuilder::lease_time`].
    pub fn lease_time(self, time: Duration) -> Self {
        Self { builder: self.builder.lease_time(time) }
    }

    /// Begins to consume; see [`crate::ConsumeBuilder::start`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn start(self) -> Result<Consumer, CallError> {
        let default = self.builder.queue().popper().target.board.default_deadline();
        let flow = self.open(Context::inherit_deadline(Context::current(), default)).await?;
        Ok(Consumer { flow, builder: self, end: None })
    }

    /// Takes one message; see [`Queue::pop`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn pop(self) -> Result<Leased, CallError> {
        self.pop_until(Context::inherit_deadline(Context::current(), 0)).await
    }

    /// Takes one message, if there is one in time; see [`Queue::pop_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn pop_timeout(self, timeout: Duration) -> Result<Option<Leased>, CallError> {
        let deadline = Context::inherit_deadline(Context::current(), after(timeout));
        in_time(self.pop_until(deadline).await)
    }

    async fn pop_until(self, deadline: u64) -> Result<Leased, CallError> {
        let queue = self.builder.queue();
        let target = &queue.popper().target;
        let (params, payload) = (self.builder.params(deadline), self.builder.payload());
        let reply = target.board.ask(target, &params, &payload).await?;
        Ok(Leased::new(crate::Leased::of_reply(reply, queue)))
    }

    async fn open(&self, deadline: u64) -> Result<Flow, CallError> {
        let target = &self.builder.queue().popper().target;
        let board = &target.board;
        loop {
            board.until_open(target, deadline).await?;
            let mut state = board.lock();
            if let Some(handle) = open_now(target, &state) {
                let params = CallParams { stream: true, ..self.builder.params(0) };
                let ticket =
                    state.open_call(handle, &params, &self.builder.payload(), Owner::Nobody, false)?;
                return Ok(Flow::new(board, state, ticket, self.builder.room()));
            }
        }
    }
}

impl Consumer {
    /// The next message. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// How consuming ended, now and from then on.
    pub async fn next(&mut self) -> Result<Leased, CallError> {
        loop {
            if let Some(end) = &self.end {
                return Err(end.clone());
            }
            match self.flow.until_ready().await {
                Ok(()) => {
                    let queue = self.builder.builder.queue();
                    if let Some(leased) = self.flow.take(|item| crate::Leased::of_item(item, queue)) {
                        return Ok(Leased::new(leased));
                    }
                }
                Err(lost) => self.again(lost).await,
            }
        }
    }

    /// The next message, waited for at most so long: `None` when the time is up.
    ///
    /// # Errors
    ///
    /// As [`Consumer::next`].
    pub async fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Leased>, CallError> {
        tokio::time::timeout(timeout, self.next()).await.map_or(Ok(None), |next| next.map(Some))
    }

    /// On a new connection, however long that takes; or it ends.
    async fn again(&mut self, lost: CallError) {
        let shared = Arc::clone(&self.builder.builder.queue().popper().target.board);
        let mut end = lost;
        while shared.config.reconnect.enabled && shared.will_be_worth_again(&end).await && !shared.is_closed()
        {
            match self.builder.open(0).await {
                Ok(flow) => {
                    self.flow = flow;
                    return;
                }
                Err(error) => end = error,
            }
        }
        self.end = Some(end);
    }
}

impl Leased {
    fn new(leased: crate::Leased) -> Self {
        Self { leased }
    }

    /// The lease; see [`crate::Leased::lease`].
    pub fn lease(&self) -> LeaseId {
        self.leased.lease()
    }

    /// The message is dealt with, and gone; see [`crate::Leased::ack`]. Of a future that is dropped
    /// nobody knows whether it still told the broker.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn ack(mut self) -> Result<Acked, CallError> {
        if self.leased.is_settled() {
            return Ok(Acked::default());
        }
        let lease = self.lease();
        let reply = self.say(QueueMethod::Ack, &lease.to_bytes()).await?;
        Ok(Acked::of(reply, &[lease]))
    }

    /// Says what became of it. Up to where that is sent, a dropped future gives the message back.
    async fn say(&mut self, method: QueueMethod, payload: &[u8]) -> End {
        let target = Arc::clone(&self.leased.queue().popper().target);
        let deadline = Context::inherit_deadline(Context::current(), target.board.default_deadline());
        let ticket = target.board.begin(&target, &inherited(method, deadline), payload).await?;
        self.leased.settle();
        ticket.end().await
    }

    /// The message is not dealt with, and goes back or to the dead letters.
    ///
    /// # Errors
    ///
    /// As [`Leased::ack`].
    pub async fn nack(self, how: NackHow) -> Result<(), CallError> {
        self.nack_after(how, Duration::ZERO).await
    }

    /// [`Leased::nack`], and it is not delivered again before `delay` has passed.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn nack_after(mut self, how: NackHow, delay: Duration) -> Result<(), CallError> {
        if self.leased.is_settled() {
            return Err(consumed_already());
        }
        let body = nack_body(self.lease(), how, delay);
        self.say(QueueMethod::Nack, &body).await.map(drop)
    }

    /// Makes the lease last so long from now.
    ///
    /// # Errors
    ///
    /// As [`Leased::ack`].
    pub async fn extend(&self, by: Duration) -> Result<(), CallError> {
        if self.leased.is_settled() {
            return Err(consumed_already());
        }
        let queue = Queue::new(self.leased.queue().clone());
        queue.extend(self.lease(), by).await
    }

    /// Keeps the lease; see [`crate::Leased::into_lease`].
    pub fn into_lease(self) -> LeaseId {
        self.leased.into_lease()
    }

    /// Takes the payload out, without copying; an empty one stays.
    pub fn take_payload(&mut self) -> Payload {
        self.leased.take_payload()
    }
}

impl Peek {
    pub(super) async fn start(queue: &crate::Queue, after: u64, count: u32) -> Result<Self, CallError> {
        let target = &queue.popper().target;
        let board = &target.board;
        let deadline = Context::inherit_deadline(Context::current(), board.default_deadline());
        let (params, payload) = crate::Peek::ask(after, count, deadline);
        loop {
            board.until_open(target, deadline).await?;
            let mut state = board.lock();
            if let Some(handle) = open_now(target, &state) {
                let ticket = state.open_call(handle, &params, &payload, Owner::Nobody, false)?;
                let items = Items::new(board, state, ticket, deadline, PEEK_CREDIT);
                return Ok(Self { items, is_over: false });
            }
        }
    }

    /// The next message; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Queued, CallError>> {
        if self.is_over {
            return None;
        }
        match self.items.next().await {
            Ok(item) => Some(Ok(Queued::of(item.reply.payload, item.facts))),
            Err(end) => {
                self.is_over = true;
                end.err().map(Err)
            }
        }
    }
}

/// What it is beside being ours.
impl Deref for Leased {
    type Target = Queued;
    fn deref(&self) -> &Queued {
        &self.leased
    }
}

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        self.leased.as_ref()
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.leased.fmt(f)
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("queue", self.builder.builder.queue()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Peek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peek").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
