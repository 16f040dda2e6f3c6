//! Taking messages out of a queue, under lease (SPEC 10.7 to 10.10).

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use switchboard_protocol::queue::{
    DeadLetter, LeaseId, LeaseKind, NackHow, Peek as PeekBody, Pop, QueueMethod,
};
use switchboard_protocol::{Extensions, Outcome, extension_type};

use crate::driver::{CallParams, Facts, RawReply, Taken, Until, after};
use crate::flow::Flow;
use crate::queue::{inherited, nanoseconds};
use crate::{Acked, CallError, Context, Payload, Queue};

/// How messages are to be taken; made by [`Queue::consume`].
#[derive(Clone, Debug)]
#[must_use = "nothing is taken before `start` or `pop`"]
pub struct ConsumeBuilder {
    queue: Queue,
    credit: u32,
    pop: Pop,
}

/// Messages of a queue, one after the other, each under a lease of its own. Dropping it ends that, and
/// gives back what was not looked at; what was given out stays leased.
///
/// As an iterator it ends only with an error. A lost connection is made anew and consuming goes on;
/// leases of the lost one can still be acknowledged as long as the broker keeps them (SPEC 10.9).
///
/// ```
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let board = switchboard::Board::builder().socket(broker.socket()).connect()?;
/// # board.create_queue("acme.jobs").create()?;
/// # board.queue("acme.jobs").push_all(["one", "two"])?;
/// let mut consumer = board.queue("acme.jobs").consume().credit(4).start()?;
/// for expected in ["one", "two"] {
///     let job = consumer.next().expect("it does not end by itself")?;
///     assert_eq!(&job[..], expected.as_bytes());
///     job.ack()?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Consumer {
    // Dropped first: what it gives back goes by the builder's handle.
    flow: Flow,
    builder: ConsumeBuilder,
    end: Option<CallError>,
    is_told: bool,
}

/// A message as it is in a queue. Reads as its payload.
#[derive(Debug)]
pub struct Queued {
    payload: Payload,
    position: u64,
    /// The number of the delivery in the lower 24 bits, the priority above.
    counts: u32,
    extensions: Box<[u8]>,
}

/// A message that is ours for the time of its lease. Reads as its payload. Say what became of it by
/// [`Leased::ack`] or [`Leased::nack`]; dropped without either, it goes back to its place in the queue,
/// and this delivery does not count.
#[must_use = "dropped, it goes back to its queue"]
pub struct Leased {
    message: Queued,
    lease: LeaseId,
    queue: Queue,
    /// It was said what became of it, or is somebody else's to say.
    is_settled: bool,
}

/// What is in a queue, looked at without taking it. Made by [`Queue::peek`].
pub struct Peek {
    flow: Flow,
    deadline: u64,
    is_over: bool,
}

/// Messages that are fetched ahead, unless told otherwise.
const CREDIT: u32 = 16;

/// Messages on their way to who looks at them.
pub(crate) const PEEK_CREDIT: u32 = 128;

impl ConsumeBuilder {
    pub(crate) fn new(queue: &Queue) -> Self {
        Self { queue: queue.clone(), credit: CREDIT, pop: Pop::default() }
    }

    /// How many messages are fetched ahead at most, under lease already: 16 unless told. With 1,
    /// none is while one is being dealt with, so that no other consumer waits for this one.
    pub fn credit(mut self, credit: u32) -> Self {
        self.credit = credit.max(1);
        self
    }

    /// How long a lease lasts: by default, as long as this connection ([`LeaseKind::Attached`]).
    pub fn lease(mut self, lease: LeaseKind) -> Self {
        self.pop.lease = lease as u8;
        self
    }

    /// How long a detached lease lasts, 30 s unless told; of an attached one, how long it outlives a
    /// lost connection, at most 5 s.
    pub fn lease_time(mut self, time: Duration) -> Self {
        self.pop.lease_ns = nanoseconds(time);
        self
    }

    /// Begins to consume. It goes on until it is dropped.
    ///
    /// # Errors
    ///
    /// `NoOwner` where the queue does not exist, `Denied`, `PeerDied`; these may also come as the
    /// first item.
    pub fn start(self) -> Result<Consumer, CallError> {
        let deadline = self.queue.popper().target.board.default_deadline();
        let flow = self.open(Context::inherit_deadline(Context::current(), deadline))?;
        Ok(Consumer { builder: self, flow, end: None, is_told: false })
    }

    /// Takes one message; see [`Queue::pop`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn pop(self) -> Result<Leased, CallError> {
        self.pop_until(Context::inherit_deadline(Context::current(), 0))
    }

    /// Takes one message, if there is one in time; see [`Queue::pop_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn pop_timeout(self, timeout: Duration) -> Result<Option<Leased>, CallError> {
        in_time(self.pop_until(Context::inherit_deadline(Context::current(), after(timeout))))
    }

    fn pop_until(self, deadline: u64) -> Result<Leased, CallError> {
        let target = &self.queue.popper().target;
        let reply = target.board.call(target, &self.params(deadline), &self.payload())?;
        Ok(Leased::of_reply(reply, &self.queue))
    }

    fn open(&self, deadline: u64) -> Result<Flow, CallError> {
        let target = &self.queue.popper().target;
        let (mut state, handle) = target.board.handle_of(target.board.lock(), target, deadline)?;
        let params = CallParams { stream: true, ..self.params(0) };
        let ticket =
            state.open_call(handle, &params, &self.payload(), crate::driver::Owner::Nobody, false)?;
        Ok(Flow::new(&target.board, state, ticket, self.credit))
    }

    pub(crate) fn params(&self, deadline: u64) -> CallParams<'static> {
        CallParams { leases: true, ..inherited(QueueMethod::Pop, deadline) }
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        switchboard_protocol::encode(&self.pop)
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn room(&self) -> u32 {
        self.credit
    }
}

/// `None` for a wait whose time was up.
pub(crate) fn in_time<T>(end: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match end {
        Err(error) if error.outcome == Outcome::DeadlineExceeded => Ok(None),
        end => end.map(Some),
    }
}

impl Consumer {
    /// The next message, waited for at most so long: `None` when the time is up.
    ///
    /// # Errors
    ///
    /// How consuming ended, now and from then on.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Leased>, CallError> {
        // What is here already needs no look at the clock.
        if let Some(leased) = self.take_ready() {
            return Ok(Some(leased));
        }
        self.fetch(Until::At(after(timeout)))
    }

    /// A message that is here already, or has come; never waits.
    ///
    /// # Errors
    ///
    /// As [`Consumer::next_timeout`].
    pub fn try_next(&mut self) -> Result<Option<Leased>, CallError> {
        if let Some(leased) = self.take_ready() {
            return Ok(Some(leased));
        }
        self.fetch(Until::At(0))
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.builder.queue
    }

    #[inline]
    fn take_ready(&mut self) -> Option<Leased> {
        let queue = &self.builder.queue;
        if self.flow.wants_grant() { None } else { self.flow.take(|item| Leased::of_item(item, queue)) }
    }

    fn fetch(&mut self, until: Until) -> Result<Option<Leased>, CallError> {
        loop {
            if let Some(end) = &self.end {
                return Err(end.clone());
            }
            let queue = &self.builder.queue;
            match self.flow.next(until, |item| Leased::of_item(item, queue)) {
                Ok(leased) => return Ok(leased),
                Err(lost) => self.again(lost),
            }
        }
    }

    /// On a new connection, however long that takes; or it ends.
    fn again(&mut self, lost: CallError) {
        let shared = &self.builder.queue.popper().target.board;
        let mut end = lost;
        while shared.config.reconnect.enabled && shared.is_worth_again(&end) && !shared.is_closed() {
            match self.builder.open(0) {
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

impl Iterator for Consumer {
    type Item = Result<Leased, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_told {
            return None;
        }
        let next = self.fetch(Until::Forever).transpose();
        self.is_told = matches!(next, Some(Err(_)));
        next
    }
}

impl Queued {
    /// Of a header that says this (SPEC 10.7).
    pub(crate) fn of(payload: Payload, facts: Facts) -> Self {
        let Facts { method, deadline, extensions, .. } = facts;
        Self { payload, position: deadline, counts: method, extensions }
    }

    #[inline]
    fn of_item(item: Taken<'_>) -> Self {
        let extensions = item.extensions();
        let extensions = if extensions.is_empty() { Box::default() } else { extensions.into() };
        let (position, counts) = (item.said.deadline, item.said.method);
        Self { payload: item.into_payload(), position, counts, extensions }
    }

    fn extension(&self, kind: u16) -> Option<&[u8]> {
        if self.extensions.is_empty() { None } else { Extensions::parse(&self.extensions)?.find(kind) }
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Takes the payload out, without copying; an empty one stays.
    pub fn take_payload(&mut self) -> Payload {
        std::mem::take(&mut self.payload)
    }

    /// Its position in the queue.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How often it was delivered, this time included.
    pub fn deliveries(&self) -> u32 {
        self.counts & 0xff_ffff
    }

    /// 0 (least) to 31.
    pub fn priority(&self) -> u8 {
        (self.counts >> 24) as u8
    }

    /// The key of the ordered group that it is of.
    pub fn group(&self) -> Option<&[u8]> {
        self.extension(extension_type::GROUP)
    }

    /// Where it comes from, if it is a dead letter.
    pub fn dead_letter(&self) -> Option<DeadLetter> {
        switchboard_protocol::decode(self.extension(extension_type::DEAD_LETTER)?)
    }
}

impl Leased {
    #[inline]
    pub(crate) fn of_item(item: Taken<'_>, queue: &Queue) -> Self {
        let lease = item.said.lease();
        Self::new(Queued::of_item(item), lease, queue)
    }

    pub(crate) fn of_reply(mut reply: RawReply, queue: &Queue) -> Self {
        let facts = reply.take_facts();
        let lease = facts.lease();
        Self::new(Queued::of(reply.payload, facts), lease, queue)
    }

    #[inline]
    fn new(message: Queued, lease: LeaseId, queue: &Queue) -> Self {
        // SPEC 10.9: without a lease, delivered is consumed.
        let is_settled = lease == (LeaseId { low: 0, high: 0 });
        Self { message, lease, queue: queue.clone(), is_settled }
    }

    /// The lease: what [`Queue::ack`] and its like take, from any connection of this user. All zero
    /// for [`LeaseKind::None`].
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The message is dealt with, and gone. Returns once that is as durable as the queue is.
    ///
    /// # Errors
    ///
    /// `LeaseLost` where the lease ran out or is of an earlier broker: the message comes, or came, to
    /// somebody else. `PeerDied`: nobody knows.
    pub fn ack(mut self) -> Result<Acked, CallError> {
        if std::mem::replace(&mut self.is_settled, true) {
            return Ok(Acked::default());
        }
        self.queue.ack(self.lease)
    }

    /// The message is not dealt with, and goes back or to the dead letters.
    ///
    /// # Errors
    ///
    /// As [`Leased::ack`].
    pub fn nack(self, how: NackHow) -> Result<(), CallError> {
        self.nack_after(how, Duration::ZERO)
    }

    /// [`Leased::nack`], and it is not delivered again before `delay` has passed.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn nack_after(mut self, how: NackHow, delay: Duration) -> Result<(), CallError> {
        if std::mem::replace(&mut self.is_settled, true) {
            return Err(consumed_already());
        }
        self.queue.nack(self.lease, how, delay)
    }

    /// Makes the lease last so long from now.
    ///
    /// # Errors
    ///
    /// As [`Leased::ack`].
    pub fn extend(&self, by: Duration) -> Result<(), CallError> {
        if self.is_settled {
            return Err(consumed_already());
        }
        self.queue.extend(self.lease, by)
    }

    /// Keeps the lease and leaves it to whoever has its id to say what became of the message. Until then,
    /// or until the lease ends, nobody else gets it.
    pub fn into_lease(mut self) -> LeaseId {
        self.is_settled = true;
        self.lease
    }

    /// Takes the payload out, without copying; an empty one stays.
    pub fn take_payload(&mut self) -> Payload {
        self.message.take_payload()
    }

    /// It was said what became of it.
    #[cfg(feature = "tokio")]
    pub(crate) fn settle(&mut self) {
        self.is_settled = true;
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled
    }
}

pub(crate) fn consumed_already() -> CallError {
    CallError::new(Outcome::LeaseLost, "the message was taken without a lease: delivered is consumed")
}

impl Drop for Leased {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let target = &self.queue.popper().target;
        let mut state = target.board.lock();
        // Never waits: where there is no connection now, the lease ends by itself.
        if let (true, crate::driver::Known::Handle(handle)) = (state.link.is_up, target.known(&state.link)) {
            state.session.give_back(handle, self.lease);
            target.board.write_and_release(state);
        }
    }
}

impl Peek {
    pub(crate) fn start(queue: &Queue, after: u64, count: u32) -> Result<Self, CallError> {
        let target = &queue.popper().target;
        let board = &target.board;
        let deadline = Context::inherit_deadline(Context::current(), board.default_deadline());
        let (mut state, handle) = board.handle_of(board.lock(), target, deadline)?;
        let (params, payload) = Self::ask(after, count, deadline);
        let ticket = state.open_call(handle, &params, &payload, crate::driver::Owner::Nobody, false)?;
        Ok(Self { flow: Flow::new(board, state, ticket, PEEK_CREDIT), deadline, is_over: false })
    }
}

impl Peek {
    pub(crate) fn ask(after: u64, count: u32, deadline: u64) -> (CallParams<'static>, Vec<u8>) {
        let params = CallParams { stream: true, ..inherited(QueueMethod::Peek, deadline) };
        (params, switchboard_protocol::encode(&PeekBody { after, count }))
    }
}

impl Iterator for Peek {
    type Item = Result<Queued, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let until = if self.deadline == 0 { Until::Forever } else { Until::CallEnds };
        match self.flow.next(until, Queued::of_item) {
            Ok(item) => item.map(Ok),
            Err(end) => {
                self.is_over = true;
                (!self.flow.ended_well()).then_some(Err(end))
            }
        }
    }
}

impl Deref for Queued {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.payload
    }
}

/// What it is beside being ours.
impl Deref for Leased {
    type Target = Queued;
    fn deref(&self) -> &Queued {
        &self.message
    }
}

impl AsRef<[u8]> for Queued {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        &self.message.payload
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased")
            .field("lease", &format_args!("{}", self.lease))
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("queue", &self.builder.queue).finish_non_exhaustive()
    }
}

impl fmt::Debug for Peek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peek").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
