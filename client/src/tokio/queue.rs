//! Queues, for tasks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard_protocol::queue::{
    Created, LeaseId, Level, NackHow, Overflow, QueueInfo, QueueMethod, Redrive, Redriven,
};
use switchboard_protocol::{Outcome, control::Operation, write_part};

use super::waiting::{Ticket, open_now};
use super::{ConsumeBuilder, Leased, Peek};
use crate::ack::ack_body;
use crate::driver::{Owner, RawReply};
use crate::queue::{Several, decode, extend_body, inherited, nack_body};
use crate::{Acked, CallError, Context, Pushed, Service};

/// A queue to be pushed to and popped from; [`crate::Queue`] for tasks. Made by
/// [`super::Board::queue`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let builder = switchboard::Board::builder().socket(broker.socket());
/// # let board = switchboard::tokio::Board::connect_with(builder).await?;
/// board.create_queue("acme.jobs").create().await?;
/// let jobs = board.queue("acme.jobs");
/// jobs.push("thumbnail 17").await?;
/// let job = jobs.pop().await?; // ours alone, under lease
/// assert_eq!(&job[..], b"thumbnail 17");
/// job.ack().await?; // done; dropped without this, it goes back to its place
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Queue {
    queue: crate::Queue,
}

/// What is fixed or bounded about a queue that is to be made; [`crate::QueueBuilder`] for tasks.
#[derive(Clone, Debug)]
#[must_use = "nothing is made before `create`"]
pub struct QueueBuilder {
    builder: crate::QueueBuilder,
}

/// A message for a queue; [`crate::PushBuilder`] for tasks. Made by [`Queue::message`].
#[derive(Clone, Debug)]
#[must_use = "nothing is pushed before `push` or `begin`"]
pub struct PushBuilder<'a> {
    builder: crate::PushBuilder<'a>,
}

/// A push that is on its way; [`crate::PendingPush`] for tasks.
#[must_use = "how it ends is only told by waiting for it"]
pub struct PendingPush {
    ticket: Ticket,
}

impl super::Board {
    /// A queue by name; see [`crate::Board::queue`].
    pub fn queue(&self, name: &str) -> Queue {
        Queue::new(self.blocking().queue(name))
    }

    /// Makes a queue; see [`crate::Board::create_queue`].
    pub fn create_queue(&self, name: &str) -> QueueBuilder {
        QueueBuilder { builder: self.blocking().create_queue(name) }
    }

    /// Deletes a queue with everything in it; see [`crate::Board::delete_queue`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn delete_queue(&self, name: &str) -> Result<(), CallError> {
        let deadline = Context::inherit_deadline(Context::current(), self.shared.default_deadline());
        let body = switchboard_protocol::control::OnName { name: name.to_owned() };
        self.shared.operate_raw(Operation::DeleteQueue, &body, deadline).await.map(drop)
    }

    /// Pushes messages to several queues, all or none; see [`crate::Board::push_to`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn push_to<'q>(
        &self,
        messages: impl IntoIterator<Item = (&'q Queue, impl AsRef<[u8]>)>,
    ) -> Result<Vec<u64>, CallError> {
        let mut several = Several::default();
        for (queue, payload) in messages {
            several.add(&queue.queue, payload.as_ref())?;
        }
        several.check()?;
        let deadline = Context::inherit_deadline(Context::current(), self.shared.default_deadline());
        loop {
            for queue in &several.queues {
                self.shared.until_open(&queue.pusher().target, deadline).await?;
            }
            let ticket = {
                let mut state = self.shared.lock();
                let handles: Option<Vec<u64>> =
                    several.queues.iter().map(|queue| open_now(&queue.pusher().target, &state)).collect();
                // Once more should the connection have been lost between the first and the last.
                let Some(handles) = handles else { continue };
                let further = several.further(&handles);
                let extensions = Several::extensions(&further);
                let params = several.params(deadline, &extensions);
                let ticket = state.open_call(handles[0], &params, &several.batch, Owner::Nobody, false)?;
                self.shared.write_and_release(state);
                ticket
            };
            return several.positions(Ticket::new(&self.shared, ticket, deadline).end().await?);
        }
    }
}

impl QueueBuilder {
    /// See [`crate::QueueBuilder::durability`].
    pub fn durability(self, level: Level) -> Self {
        Self { builder: self.builder.durability(level) }
    }

    /// See [`crate::QueueBuilder::max_messages`].
    pub fn max_messages(self, messages: u64) -> Self {
        Self { builder: self.builder.max_messages(messages) }
    }

    /// See [`crate::QueueBuilder::max_bytes`].
    pub fn max_bytes(self, bytes: u64) -> Self {
        Self { builder: self.builder.max_bytes(bytes) }
    }

    /// See [`crate::QueueBuilder::overflow`].
    pub fn overflow(self, overflow: Overflow) -> Self {
        Self { builder: self.builder.overflow(overflow) }
    }

    /// See [`crate::QueueBuilder::lossy`].
    pub fn lossy(self, lossy: bool) -> Self {
        Self { builder: self.builder.lossy(lossy) }
    }

    /// See [`crate::QueueBuilder::max_deliveries`].
    pub fn max_deliveries(self, deliveries: u32) -> Self {
        Self { builder: self.builder.max_deliveries(deliveries) }
    }

    /// See [`crate::QueueBuilder::dead_letters`].
    pub fn dead_letters(self, name: impl Into<String>) -> Self {
        Self { builder: self.builder.dead_letters(name) }
    }

    /// Makes it; see [`crate::QueueBuilder::create`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn create(self) -> Result<bool, CallError> {
        let shared = &self.builder.board().shared;
        let deadline = Context::inherit_deadline(Context::current(), shared.default_deadline());
        let created: Created = shared.operate(Operation::CreateQueue, self.builder.body(), deadline).await?;
        Ok(created.existed)
    }
}

impl Queue {
    pub(super) fn new(queue: crate::Queue) -> Self {
        Self { queue }
    }

    /// Pushes a message, and waits until the queue has it; see [`crate::Queue::push`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn push(&self, payload: impl AsRef<[u8]>) -> Result<Pushed, CallError> {
        self.message(payload.as_ref()).push().await
    }

    /// Pushes messages together, all or none; see [`crate::Queue::push_all`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn push_all(
        &self,
        payloads: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Pushed, CallError> {
        let mut batch = Vec::new();
        for payload in payloads {
            write_part(&mut batch, 0, payload.as_ref());
        }
        PushBuilder { builder: self.queue.message_of_many(&batch) }.push().await
    }

    /// A message with all that can be said about it.
    pub fn message<'a>(&'a self, payload: &'a (impl AsRef<[u8]> + ?Sized)) -> PushBuilder<'a> {
        PushBuilder { builder: self.queue.message(payload) }
    }

    /// Takes the next message; waits until there is one. Dropping the future loses nothing: a message
    /// that was on its way goes back to its place.
    ///
    /// # Errors
    ///
    /// As [`crate::Queue::pop`].
    pub async fn pop(&self) -> Result<Leased, CallError> {
        self.consume().pop().await
    }

    /// [`Queue::pop`] that waits at most so long; see [`crate::Queue::pop_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn pop_timeout(&self, timeout: Duration) -> Result<Option<Leased>, CallError> {
        self.consume().pop_timeout(timeout).await
    }

    /// Takes messages one after the other, or one under another kind of lease.
    pub fn consume(&self) -> ConsumeBuilder {
        ConsumeBuilder::new(self.queue.consume())
    }

    /// Acknowledges a message by its lease; see [`crate::Queue::ack`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn ack(&self, lease: LeaseId) -> Result<Acked, CallError> {
        let reply = operate(self.queue.popper(), QueueMethod::Ack, &lease.to_bytes()).await?;
        Ok(Acked::of(reply, &[lease]))
    }

    /// Acknowledges many at once; see [`crate::Queue::ack_all`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn ack_all(&self, leases: &[LeaseId]) -> Result<Acked, CallError> {
        match leases {
            [] => Ok(Acked::default()),
            [lease] => Acked::of_one(self.ack(*lease).await, *lease),
            leases => {
                let reply = operate(self.queue.popper(), QueueMethod::Ack, &ack_body(leases)).await?;
                Ok(Acked::of(reply, leases))
            }
        }
    }

    /// Gives a message back by its lease; see [`crate::Queue::nack`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn nack(&self, lease: LeaseId, how: NackHow, delay: Duration) -> Result<(), CallError> {
        operate(self.queue.popper(), QueueMethod::Nack, &nack_body(lease, how, delay)).await.map(drop)
    }

    /// Makes a lease last so long from now; see [`crate::Queue::extend`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn extend(&self, lease: LeaseId, by: Duration) -> Result<(), CallError> {
        operate(self.queue.popper(), QueueMethod::Extend, &extend_body(lease, by)).await.map(drop)
    }

    /// Looks at what is there; see [`crate::Queue::peek`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn peek(&self, after: u64, count: u32) -> Result<Peek, CallError> {
        Peek::start(&self.queue, after, count).await
    }

    /// Removes everything that is not leased; see [`crate::Queue::purge`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn purge(&self) -> Result<u64, CallError> {
        Ok(operate(self.queue.popper(), QueueMethod::Purge, &[]).await?.take_facts().seq)
    }

    /// What is in it, and what became of what was; see [`crate::Queue::stat`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn stat(&self) -> Result<QueueInfo, CallError> {
        let reply = match operate(self.queue.popper(), QueueMethod::Stat, &[]).await {
            Err(error) if error.outcome == Outcome::Denied => {
                operate(self.queue.pusher(), QueueMethod::Stat, &[]).await?
            }
            reply => reply?,
        };
        decode(&reply, "QueueInfo")
    }

    /// Brings dead letters back; see [`crate::Queue::redrive`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn redrive(&self, count: u32) -> Result<Redriven, CallError> {
        let body = switchboard_protocol::encode(&Redrive { count });
        decode(&operate(&self.queue.both(), QueueMethod::Redrive, &body).await?, "Redriven")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.queue.name()
    }
}

/// A method of a queue, and its answer.
async fn operate(service: &Service, method: QueueMethod, payload: &[u8]) -> Result<RawReply, CallError> {
    let board = &service.target.board;
    let deadline = Context::inherit_deadline(Context::current(), board.default_deadline());
    board.ask(&service.target, &inherited(method, deadline), payload).await
}

impl<'a> PushBuilder<'a> {
    /// See [`crate::PushBuilder::priority`].
    pub fn priority(self, priority: u8) -> Self {
        Self { builder: self.builder.priority(priority) }
    }

    /// See [`crate::PushBuilder::ttl`].
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { builder: self.builder.ttl(ttl) }
    }

    /// See [`crate::PushBuilder::delay`].
    pub fn delay(self, delay: Duration) -> Self {
        Self { builder: self.builder.delay(delay) }
    }

    /// See [`crate::PushBuilder::group`].
    pub fn group(self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { builder: self.builder.group(key) }
    }

    /// See [`crate::PushBuilder::producer`].
    pub fn producer(self, id: u64, sequence: u64) -> Self {
        Self { builder: self.builder.producer(id, sequence) }
    }

    /// See [`crate::PushBuilder::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { builder: self.builder.timeout(timeout) }
    }

    /// See [`crate::PushBuilder::deadline`].
    pub fn deadline(self, deadline: Instant) -> Self {
        Self { builder: self.builder.deadline(deadline) }
    }

    /// See [`crate::PushBuilder::no_timeout`].
    pub fn no_timeout(self) -> Self {
        Self { builder: self.builder.no_timeout() }
    }

    /// Pushes, and waits until the queue has it.
    ///
    /// # Errors
    ///
    /// As [`crate::Queue::push`].
    pub async fn push(self) -> Result<Pushed, CallError> {
        self.begin().await?.wait().await
    }

    /// Pushes, and does not wait for its end; see [`crate::PushBuilder::begin`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn begin(self) -> Result<PendingPush, CallError> {
        let target = self.builder.target();
        let board = Arc::clone(&target.board);
        loop {
            board.until_open(target, self.builder.deadline_now()).await?;
            let begun =
                self.builder.with_params(|params, payload| board.try_begin(target, params, payload))?;
            if let Some(ticket) = begun {
                return Ok(PendingPush { ticket });
            }
        }
    }
}

impl PendingPush {
    /// Waits until the queue has it.
    ///
    /// # Errors
    ///
    /// As [`crate::Queue::push`].
    pub async fn wait(self) -> Result<Pushed, CallError> {
        self.ticket.end().await.map(Pushed::of)
    }
}

impl std::fmt::Debug for PendingPush {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingPush").finish_non_exhaustive()
    }
}
