//! A queue: each message is for one consumer (SPEC 10).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use switchboard_protocol::control::{OnName, Operation};
use switchboard_protocol::queue::{
    CreateQueue, Created, Extend, LeaseId, Level, Nack, NackHow, Overflow, PUSH_QUEUES_MAX, QueueInfo,
    QueueMethod, Redrive, Redriven,
};
use switchboard_protocol::{Extension, ObjectKind, Outcome, Verb, extension_type, write_part};

use crate::ack::ack_body;
use crate::driver::{CallParams, RawReply, Target};
use crate::session::Method;
use crate::{
    Acked, Board, CallError, ConsumeBuilder, Context, Leased, Peek, Pending, PendingAck, PushBuilder,
    PushPipeline, Pushed, Service,
};

/// A queue to be pushed to and popped from; made by [`Board::queue`]. Cheap to clone.
///
/// ```
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let board = switchboard::Board::builder().socket(broker.socket()).connect()?;
/// board.create_queue("acme.jobs").create()?;
/// let jobs = board.queue("acme.jobs");
/// let pushed = jobs.push("thumbnail 17")?;
/// println!("at position {}, durable to {}", pushed.position, pushed.level.as_str());
///
/// let job = jobs.pop()?; // ours alone, under lease
/// assert_eq!(&job[..], b"thumbnail 17");
/// job.ack()?; // done; dropped without this, it goes back to its place
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Queue {
    /// One for all clones: each message that is leased has one.
    ends: Arc<Ends>,
}

struct Ends {
    pusher: Service,
    popper: Service,
}

/// What is fixed or bounded about a queue that is to be made. Made by [`Board::create_queue`].
#[derive(Clone, Debug)]
#[must_use = "nothing is made before `create`"]
pub struct QueueBuilder {
    board: Board,
    body: CreateQueue,
}

impl Board {
    /// A queue by name. Nothing is asked of the broker before it is used; one that does not exist then
    /// answers `NoOwner`.
    pub fn queue(&self, name: &str) -> Queue {
        let with = |verb: Verb| Service {
            target: Target::shared(&self.shared, name, ObjectKind::Queue, verb.right()),
        };
        Queue { ends: Arc::new(Ends { pusher: with(Verb::Push), popper: with(Verb::Pop) }) }
    }

    /// Makes a queue; one that is there already stays as it is.
    pub fn create_queue(&self, name: &str) -> QueueBuilder {
        let body = CreateQueue { name: name.to_owned(), ..CreateQueue::default() };
        QueueBuilder { board: self.clone(), body }
    }

    /// Deletes a queue with everything in it.
    ///
    /// # Errors
    ///
    /// `NoOwner` where there is none, `Denied` without the right `serve` on the name, `Invalid` for one
    /// that is configured.
    pub fn delete_queue(&self, name: &str) -> Result<(), CallError> {
        let deadline = Context::inherit_deadline(Context::current(), self.shared.default_deadline());
        let body = OnName { name: name.to_owned() };
        self.shared.control_raw(Operation::DeleteQueue, &body, deadline).map(drop)
    }

    /// Pushes messages to several queues, at most 16, all or none; their positions, in order.
    ///
    /// ```
    /// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
    /// # let board = switchboard::Board::builder().socket(broker.socket()).connect()?;
    /// # board.create_queue("acme.mail").create()?;
    /// # board.create_queue("acme.audit").create()?;
    /// let (mail, audit) = (board.queue("acme.mail"), board.queue("acme.audit"));
    /// let positions = board.push_to([(&mail, "to: joe"), (&audit, "mailed joe")])?;
    /// assert_eq!(positions, [1, 1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Invalid` for no message or more than 16 queues; otherwise as [`Queue::push`].
    pub fn push_to<'q>(
        &self,
        messages: impl IntoIterator<Item = (&'q Queue, impl AsRef<[u8]>)>,
    ) -> Result<Vec<u64>, CallError> {
        let mut several = Several::default();
        for (queue, payload) in messages {
            several.add(queue, payload.as_ref())?;
        }
        several.check()?;
        let deadline = Context::inherit_deadline(Context::current(), self.shared.default_deadline());
        let mut state = self.shared.lock();
        // Once more should the connection be lost between the first and the last of them.
        let handles = loop {
            let mut handles = Vec::new();
            let mut connection = 0;
            for queue in &several.queues {
                let handle;
                (state, handle) = self.shared.handle_of(state, &queue.ends.pusher.target, deadline)?;
                connection = if handles.is_empty() { state.link.connection } else { connection };
                handles.push(handle);
            }
            if connection == state.link.connection {
                break handles;
            }
        };
        let further = several.further(&handles);
        let extensions = Several::extensions(&further);
        let params = several.params(deadline, &extensions);
        let ticket =
            state.open_call(handles[0], &params, &several.batch, crate::driver::Owner::Nobody, false)?;
        let (state, end) = self.shared.finish(state, ticket, deadline);
        self.shared.release(state);
        several.positions(end?)
    }
}

/// Messages for several queues.
#[derive(Default)]
pub(crate) struct Several {
    pub(crate) queues: Vec<Queue>,
    pub(crate) batch: Vec<u8>,
    messages: u64,
}

impl Several {
    pub(crate) fn add(&mut self, queue: &Queue, payload: &[u8]) -> Result<(), CallError> {
        let same = |known: &Queue| Arc::ptr_eq(&known.ends.pusher.target, &queue.ends.pusher.target);
        let which = match self.queues.iter().position(same) {
            Some(which) => which,
            None if self.queues.len() > PUSH_QUEUES_MAX => {
                let message = format!("one push goes to at most {} queues", PUSH_QUEUES_MAX + 1);
                return Err(CallError::new(Outcome::Invalid, message));
            }
            None => {
                self.queues.push(queue.clone());
                self.queues.len() - 1
            }
        };
        // SPEC 10.3: bits 8 to 15 say which queue.
        write_part(&mut self.batch, (which as u32) << 8, payload);
        self.messages += 1;
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<(), CallError> {
        if self.messages == 0 { Err(nothing_to_push()) } else { Ok(()) }
    }

    /// The value of the extension QUEUES.
    pub(crate) fn further(&self, handles: &[u64]) -> Vec<u8> {
        handles[1..].iter().flat_map(|handle| handle.to_le_bytes()).collect()
    }

    pub(crate) fn extensions(further: &[u8]) -> Vec<Extension<'_>> {
        let extension = Extension { kind: extension_type::QUEUES, value: further };
        if further.is_empty() { Vec::new() } else { vec![extension] }
    }

    pub(crate) fn params<'a>(&self, deadline: u64, extensions: &'a [Extension<'a>]) -> CallParams<'a> {
        let params = inherited(QueueMethod::Push, deadline);
        CallParams { extensions, batch: true, ..params }
    }

    /// Each message's position, in order.
    pub(crate) fn positions(&self, mut reply: RawReply) -> Result<Vec<u64>, CallError> {
        if self.queues.len() == 1 {
            // SPEC 10.4: those of one push are adjacent.
            let first = reply.take_facts().seq;
            return Ok((first..).take(self.messages as usize).collect());
        }
        let (words, rest) = reply.payload.as_chunks::<8>();
        if !rest.is_empty() || words.len() as u64 != self.messages {
            return Err(CallError::malformed("list of positions"));
        }
        Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }
}

pub(crate) fn nothing_to_push() -> CallError {
    CallError::new(Outcome::Invalid, "a push without a message has no position; push at least one")
}

/// A call of a queue's method, with what is inherited (SPEC 4.4).
pub(crate) fn inherited(method: QueueMethod, deadline: u64) -> CallParams<'static> {
    let context = Context::current();
    CallParams {
        method: Method::Number(method as u32),
        deadline,
        priority: context.map_or(0, |context| context.priority),
        parent: context.map(|context| (context.request, context.connection)),
        ..CallParams::default()
    }
}

impl QueueBuilder {
    /// How durable what is in it shall be: [`Level::Memory`] unless told.
    pub fn durability(mut self, level: Level) -> Self {
        self.body.durability = level as u8;
        self
    }

    /// Messages that are in it at most, leased ones included. Default: the broker's, 10 000.
    pub fn max_messages(mut self, messages: u64) -> Self {
        self.body.messages_max = messages;
        self
    }

    /// Bytes of messages that are in it at most. Default: the broker's, 64 MiB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.body.bytes_max = bytes;
        self
    }

    /// What becomes of a push when it is full: [`Overflow::Reject`] unless told.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.body.overflow = overflow as u8;
        self
    }

    /// Allows a durable queue to drop messages for want of room ([`Overflow::DropOldest`]).
    pub fn lossy(mut self, lossy: bool) -> Self {
        self.body.lossy = lossy;
        self
    }

    /// After how many deliveries a message that comes back is dead. Default: the broker's, 16.
    pub fn max_deliveries(mut self, deliveries: u32) -> Self {
        self.body.deliveries_max = deliveries;
        self
    }

    /// The queue that dead letters go to. Default: this one's name with `.dead` behind it.
    pub fn dead_letters(mut self, name: impl Into<String>) -> Self {
        self.body.dead_letters = name.into();
        self
    }

    /// Makes it. `true` if it was there already, and is as was asked for.
    ///
    /// # Errors
    ///
    /// `Invalid` where one is there that is not as was asked for (the message says how), or where what
    /// was asked for contradicts itself; `Denied` without the right `serve` on the name; `ReadOnly`
    /// where a durable one cannot be written down.
    pub fn create(self) -> Result<bool, CallError> {
        let shared = &self.board.shared;
        let deadline = Context::inherit_deadline(Context::current(), shared.default_deadline());
        let created: Created = shared.control(Operation::CreateQueue, &self.body, deadline)?;
        Ok(created.existed)
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn body(&self) -> &CreateQueue {
        &self.body
    }
}

impl Queue {
    /// Pushes a message, and waits until the queue has it, as durably as it keeps what is in it.
    ///
    /// # Errors
    ///
    /// `Busy` where it is full (and does not make its pushers wait, or not long enough: then
    /// `DeadlineExceeded`), `NoOwner` where it does not exist, `ReadOnly` where its log cannot be
    /// written; `Denied`, `TooLarge`, `PeerDied` as any call. After `PeerDied` nobody knows whether it was
    /// pushed: [`PushBuilder::producer`] makes it safe to push it again.
    pub fn push(&self, payload: impl AsRef<[u8]>) -> Result<Pushed, CallError> {
        self.message(payload.as_ref()).push()
    }

    /// Pushes messages together: all or none. They have adjacent positions, and the first one's is
    /// told.
    ///
    /// # Errors
    ///
    /// As [`Queue::push`]; `Invalid` without a message, `TooLarge` if they are more than one payload.
    pub fn push_all(
        &self,
        payloads: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<Pushed, CallError> {
        let mut batch = Vec::new();
        for payload in payloads {
            write_part(&mut batch, 0, payload.as_ref());
        }
        self.message_of_many(&batch).push()
    }

    /// Messages that were written one behind the other as a batch.
    pub(crate) fn message_of_many<'a>(&'a self, batch: &'a [u8]) -> PushBuilder<'a> {
        self.message(batch).batch()
    }

    /// A message with all that can be said about it.
    pub fn message<'a>(&'a self, payload: &'a (impl AsRef<[u8]> + ?Sized)) -> PushBuilder<'a> {
        PushBuilder::new(&self.ends.pusher, payload.as_ref())
    }

    /// Keeps up to `depth` pushes open from one thread, sent and answered many at a time: the way to push
    /// fast.
    ///
    /// # Errors
    ///
    /// `NoOwner` where the queue does not exist, `Denied`, `PeerDied`.
    pub fn pipeline(&self, depth: usize) -> Result<PushPipeline, CallError> {
        PushPipeline::new(self, depth)
    }

    /// Takes the next message, under a lease that lasts as long as this connection does; waits until
    /// there is one. (A deadline that is inherited holds.)
    ///
    /// # Errors
    ///
    /// `NoOwner` where the queue does not exist, `Denied`, `PeerDied`; `DeadlineExceeded` only by an
    /// inherited deadline.
    pub fn pop(&self) -> Result<Leased, CallError> {
        self.consume().pop()
    }

    /// [`Queue::pop`] that waits at most so long: `None` when the time is up. The broker ends it, so
    /// it takes some time to find even what is there: give it milliseconds.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn pop_timeout(&self, timeout: Duration) -> Result<Option<Leased>, CallError> {
        self.consume().pop_timeout(timeout)
    }

    /// Takes messages one after the other, or one under another kind of lease.
    pub fn consume(&self) -> ConsumeBuilder {
        ConsumeBuilder::new(self)
    }

    /// Acknowledges a message by its lease: it is dealt with, and gone. [`Leased::ack`] by id, also
    /// from another connection of the same user.
    ///
    /// # Errors
    ///
    /// `LeaseLost` where it was acknowledged already, ran out, or is of an earlier broker: the message
    /// comes, or came, to somebody else. `PeerDied`: nobody knows.
    pub fn ack(&self, lease: LeaseId) -> Result<Acked, CallError> {
        let reply = self.operate(&self.ends.popper, QueueMethod::Ack, &lease.to_bytes())?;
        Ok(Acked::of(reply, &[lease]))
    }

    /// Acknowledges many at once. Those that were lost are told, and no error.
    ///
    /// # Errors
    ///
    /// `PeerDied`: nobody knows.
    pub fn ack_all(&self, leases: &[LeaseId]) -> Result<Acked, CallError> {
        self.begin_ack(leases)?.wait()
    }

    /// [`Queue::ack_all`] that does not wait: the next messages are dealt with while it is on its way.
    /// See [`PendingAck`].
    ///
    /// # Errors
    ///
    /// What is known at once; the rest is told by [`PendingAck::wait`].
    pub fn begin_ack(&self, leases: &[LeaseId]) -> Result<PendingAck, CallError> {
        if leases.is_empty() {
            return Ok(PendingAck::new(leases, None));
        }
        let target = &self.ends.popper.target;
        let deadline = Context::inherit_deadline(Context::current(), target.board.default_deadline());
        let params = inherited(QueueMethod::Ack, deadline);
        let ticket = target.board.start(target, &params, &ack_body(leases))?;
        Ok(PendingAck::new(leases, Some(Pending::new(&target.board, ticket, deadline))))
    }

    /// Gives a message back by its lease; [`Leased::nack`] by id. It is not delivered again before
    /// `delay` has passed.
    ///
    /// # Errors
    ///
    /// As [`Queue::ack`].
    pub fn nack(&self, lease: LeaseId, how: NackHow, delay: Duration) -> Result<(), CallError> {
        self.operate(&self.ends.popper, QueueMethod::Nack, &nack_body(lease, how, delay)).map(drop)
    }

    /// Makes a lease last so long from now; [`Leased::extend`] by id.
    ///
    /// # Errors
    ///
    /// As [`Queue::ack`].
    pub fn extend(&self, lease: LeaseId, by: Duration) -> Result<(), CallError> {
        self.operate(&self.ends.popper, QueueMethod::Extend, &extend_body(lease, by)).map(drop)
    }

    /// Looks at what is there behind a position (0: from the beginning), in the order of positions and
    /// without taking it: at most `count` messages, or all for 0.
    ///
    /// # Errors
    ///
    /// What is known at once; the rest comes as the last item.
    pub fn peek(&self, after: u64, count: u32) -> Result<Peek, CallError> {
        Peek::start(self, after, count)
    }

    /// Removes everything that is not leased; how many messages that were.
    ///
    /// # Errors
    ///
    /// As any call; `ReadOnly` where its log cannot be written.
    pub fn purge(&self) -> Result<u64, CallError> {
        Ok(self.operate(&self.ends.popper, QueueMethod::Purge, &[])?.take_facts().seq)
    }

    /// What is in it, and what became of what was.
    ///
    /// # Errors
    ///
    /// `NoOwner` where it does not exist, `Denied` for who may neither pop nor push.
    pub fn stat(&self) -> Result<QueueInfo, CallError> {
        let reply = match self.operate(&self.ends.popper, QueueMethod::Stat, &[]) {
            Err(error) if error.outcome == Outcome::Denied => return self.stat_by_pusher(),
            reply => reply?,
        };
        decode(&reply, "QueueInfo")
    }

    /// What is in it, for who may push.
    pub(crate) fn stat_by_pusher(&self) -> Result<QueueInfo, CallError> {
        decode(&self.operate(&self.ends.pusher, QueueMethod::Stat, &[])?, "QueueInfo")
    }

    /// Brings dead letters back to where they came from, at most `count`, or all for 0. On a queue of
    /// dead letters: all that are there; on another one: those that came from it.
    ///
    /// # Errors
    ///
    /// `Denied` without both the right to push and the right to pop.
    pub fn redrive(&self, count: u32) -> Result<Redriven, CallError> {
        let body = switchboard_protocol::encode(&Redrive { count });
        let reply = self.operate(&self.both(), QueueMethod::Redrive, &body)?;
        decode(&reply, "Redriven")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.ends.popper.name().expect("queues are opened by name")
    }

    fn operate(&self, service: &Service, method: QueueMethod, payload: &[u8]) -> Result<RawReply, CallError> {
        let board = &service.target.board;
        let deadline = Context::inherit_deadline(Context::current(), board.default_deadline());
        board.call(&service.target, &inherited(method, deadline), payload)
    }

    /// Held with both rights.
    pub(crate) fn both(&self) -> Service {
        let rights = Verb::Push.right() | Verb::Pop.right();
        Service {
            target: Target::shared(&self.ends.popper.target.board, self.name(), ObjectKind::Queue, rights),
        }
    }

    pub(crate) fn popper(&self) -> &Service {
        &self.ends.popper
    }

    pub(crate) fn pusher(&self) -> &Service {
        &self.ends.pusher
    }
}

pub(crate) fn decode<T: DeserializeOwned>(reply: &RawReply, what: &str) -> Result<T, CallError> {
    switchboard_protocol::decode(&reply.payload).ok_or_else(|| CallError::malformed(what))
}

pub(crate) fn nack_body(lease: LeaseId, how: NackHow, delay: Duration) -> Vec<u8> {
    switchboard_protocol::encode(&Nack { lease, how: how as u8, delay_ns: nanoseconds(delay) })
}

pub(crate) fn extend_body(lease: LeaseId, by: Duration) -> Vec<u8> {
    switchboard_protocol::encode(&Extend { lease, by_ns: nanoseconds(by) })
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("name", &self.name()).finish_non_exhaustive()
    }
}
