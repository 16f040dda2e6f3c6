//! A subscription: what is published, as it comes (SPEC 9.4 to 9.7).

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use switchboard_protocol::control::Operation;
use switchboard_protocol::topic::{Delivery as Sort, SlowPolicy, Subscribe};
use switchboard_protocol::{Outcome, Parts, extension_type};

use crate::driver::{Guard, Owner, Taken, Target, TicketId, Until, after};
use crate::flow::Flow;
use crate::{Board, CallError, Context, Payload, Topic};

/// How to subscribe; made by [`Board::subscribe`] and [`Topic::subscribe`].
#[derive(Clone)]
#[must_use = "nothing is subscribed to before `start`"]
pub struct SubscribeBuilder {
    board: Board,
    source: Source,
    policy: SlowPolicy,
    messages: u32,
    bytes: u32,
    history: u32,
    credit: u32,
}

#[derive(Clone)]
pub(crate) enum Source {
    Topic(Arc<Target>),
    Pattern(Arc<str>),
}

/// Messages as they are published. Dropping it ends the subscription.
///
/// As an iterator it ends only with an error: `Busy` by policy [`SlowPolicy::Disconnect`],
/// `HandleRevoked`, `Denied`, or `PeerDied` when the connection is lost for good.
///
/// A lost connection is made anew, and the subscription with it: that is told by
/// [`Delivery::Restored`], since nobody knows what was published meanwhile.
pub struct Subscription {
    // Dropped first: cancelled before the builder's handle is closed.
    flow: Flow,
    builder: SubscribeBuilder,
    reader: Reader,
    end: Option<CallError>,
    is_told: bool,
}

/// Makes messages of items.
pub(crate) struct Reader {
    unpacking: Option<Unpacking>,
    /// The topic of the message before: mostly that of the next one too.
    topic: Arc<str>,
    pub(crate) position: u64,
}

/// What comes by a [`Subscription`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// A message.
    Message(Message),
    /// The messages at these positions are lost to this subscription: it was too slow for them.
    Lost {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// The connection was lost and made anew, and the subscription is in force again. What was
    /// published in between did not come. By a handle, and to the same broker, the difference to the
    /// position before says how many that were; else positions count anew from this one.
    Restored {
        /// The last position before what comes.
        position: u64,
    },
}

/// A message that was published. Reads as its payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    head: Head,
    payload: Payload,
}

/// What [`Subscription::drain`] hands over.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum LentDelivery<'a> {
    /// A message.
    Message(LentMessage<'a>),
    /// As [`Delivery::Lost`].
    Lost {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// As [`Delivery::Restored`].
    Restored {
        /// The last position before what comes.
        position: u64,
    },
}

/// A message that is still where it was received. Reads as its payload; [`LentMessage::to_message`] keeps it.
#[derive(Clone, Copy)]
pub struct LentMessage<'a> {
    head: &'a Head,
    payload: &'a [u8],
}

/// A frame of many messages of which some are not given out yet.
struct Unpacking {
    batch: Payload,
    at: usize,
    next: Head,
}

/// What is known of a message beside its payload.
#[derive(Clone, PartialEq, Eq)]
struct Head {
    topic: Arc<str>,
    position: u64,
    sequence: u64,
    is_earlier: bool,
    method: u32,
    caller: u64,
}

impl Head {
    /// Becomes that of the next message of its frame.
    #[inline]
    fn step(&mut self) {
        self.sequence += 1;
        // Earlier messages have no positions in a subscription by pattern.
        self.position += u64::from(self.position != 0);
    }
}

/// Room for items, unless told otherwise.
const CREDIT: u32 = 256;

impl Board {
    /// Subscribes to the topics whose names match ([`switchboard_protocol::Pattern`]), also to those
    /// that come later. A name without wildcards is subscribed to as [`Topic::subscribe`] does.
    pub fn subscribe(&self, pattern: &str) -> SubscribeBuilder {
        if pattern.split('.').any(|label| label.starts_with('*')) {
            SubscribeBuilder::new(self, Source::Pattern(pattern.into()))
        } else {
            self.topic(pattern).subscribe()
        }
    }
}

impl SubscribeBuilder {
    fn new(board: &Board, source: Source) -> Self {
        let policy = SlowPolicy::default();
        Self { board: board.clone(), source, policy, messages: 0, bytes: 0, history: 0, credit: CREDIT }
    }

    pub(crate) fn of_topic(topic: &Topic) -> Self {
        Self::new(&topic.board(), Source::Topic(Arc::clone(topic.subscriber())))
    }

    /// What becomes of it when messages come faster than they are taken. Default: the oldest that
    /// wait are dropped, and [`Delivery::Lost`] says which.
    pub fn policy(mut self, policy: SlowPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// How many messages may wait for it in the broker; 0, the default, for the broker's default.
    pub fn messages(mut self, messages: u32) -> Self {
        self.messages = messages;
        self
    }

    /// How many bytes of messages may wait for it in the broker; 0, the default, for the broker's
    /// default.
    pub fn bytes(mut self, bytes: u32) -> Self {
        self.bytes = bytes;
        self
    }

    /// Wants the latest `history` messages of each topic first, as far as the topic keeps any.
    pub fn history(mut self, history: u32) -> Self {
        self.history = history;
        self
    }

    /// How many frames of messages may be on their way or wait in this program: 256 unless told.
    pub fn credit(mut self, credit: u32) -> Self {
        self.credit = credit.max(1);
        self
    }

    /// Subscribes, and returns when it is in force: what is published from now on comes.
    ///
    /// # Errors
    ///
    /// `Denied` without the right to subscribe, or for a policy that the topic does not allow;
    /// `Invalid` for a bad pattern, `Busy` beyond a quota, `DeadlineExceeded` after the board's time-out,
    /// `PeerDied`.
    pub fn start(self) -> Result<Subscription, CallError> {
        let shared = &self.board.shared;
        let deadline = Context::inherit_deadline(Context::current(), shared.default_deadline());
        let (flow, position) = self.open(deadline)?;
        Ok(Subscription::new(self, flow, position))
    }

    /// A subscription in force, and its position.
    fn open(&self, deadline: u64) -> Result<(Flow, u64), CallError> {
        let shared = &self.board.shared;
        let (state, ticket) = match &self.source {
            Source::Topic(target) => {
                shared.begin_on(target, Operation::Subscribe, |handle| self.body(handle), deadline)?
            }
            Source::Pattern(_) => self.ask(shared.ensure_up(shared.lock(), deadline)?, 0)?,
        };
        let mut flow = Flow::new(shared, state, ticket, self.credit);
        let until = if deadline == 0 { Until::Forever } else { Until::At(deadline) };
        loop {
            if let Some(position) = flow.next(until, |item| in_force(&item))?.ok_or_else(not_in_force)? {
                return Ok((flow, position));
            }
        }
    }

    /// Asks for it by pattern, or by a handle that is open.
    pub(crate) fn ask<'a>(
        &self,
        mut state: Guard<'a>,
        handle: u64,
    ) -> Result<(Guard<'a>, TicketId), CallError> {
        let ticket = state.open_control(Operation::Subscribe, &self.body(handle), 0, Owner::Nobody)?;
        Ok((state, ticket))
    }

    fn body(&self, handle: u64) -> Subscribe {
        let pattern = match &self.source {
            Source::Topic(_) => String::new(),
            Source::Pattern(pattern) => pattern.to_string(),
        };
        Subscribe {
            handle,
            pattern,
            policy: self.policy as u8,
            messages: self.messages,
            bytes: self.bytes,
            history: self.history,
        }
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn room(&self) -> u32 {
        self.credit
    }

    /// The name, or the pattern.
    pub(crate) fn what(&self) -> &str {
        match &self.source {
            Source::Topic(target) => target.name().unwrap_or_default(),
            Source::Pattern(pattern) => pattern,
        }
    }
}

/// The position that the item *Subscribed* tells.
pub(crate) fn in_force(item: &Taken<'_>) -> Option<u64> {
    (Sort::from_wire(item.said.handle) == Some(Sort::Subscribed)).then_some(item.said.epoch)
}

pub(crate) fn not_in_force() -> CallError {
    let message = "the broker did not say in time that the subscription is in force";
    CallError::new(Outcome::DeadlineExceeded, message)
}

impl Subscription {
    fn new(builder: SubscribeBuilder, flow: Flow, position: u64) -> Self {
        let reader = Reader::new(&builder, position);
        Self { flow, builder, reader, end: None, is_told: false }
    }

    /// Up to where it has come: the position of what was given out last, at first the last one before
    /// it was in force.
    pub fn position(&self) -> u64 {
        self.reader.position
    }

    /// What comes next, waited for at most so long: `None` when the time is up.
    ///
    /// # Errors
    ///
    /// How the subscription ended, now and from then on.
    #[inline]
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Delivery>, CallError> {
        // What is here already needs no look at the clock.
        if let Some(delivery) = self.reader.unpack() {
            return Ok(Some(delivery));
        }
        self.fetch(Until::At(after(timeout)))
    }

    /// What is here already, or has come; never waits.
    ///
    /// # Errors
    ///
    /// As [`Subscription::next_timeout`].
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<Delivery>, CallError> {
        if let Some(delivery) = self.reader.unpack() {
            return Ok(Some(delivery));
        }
        self.fetch(Until::At(0))
    }

    /// Waits, at most so long, until something is here, and hands over all that is, where it lies: for who
    /// takes so many that making a [`Message`] of each would cost more than what is done with it. Returns how
    /// many that were; 0 when the time is up.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use switchboard::LentDelivery;
    /// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
    /// # let board = switchboard::Board::builder().socket(broker.socket()).connect()?;
    /// let samples = board.topic("acme.samples");
    /// let mut subscription = samples.subscribe().start()?;
    /// samples.publish_all((0..1000u32).map(u32::to_le_bytes))?;
    /// let mut taken = 0;
    /// while taken < 1000 {
    ///     taken += subscription.drain(Duration::from_secs(10), |delivery| match delivery {
    ///         LentDelivery::Message(sample) => assert_eq!(sample.len(), 4),
    ///         other => panic!("{other:?}"),
    ///     })?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Subscription::next_timeout`].
    pub fn drain(
        &mut self,
        timeout: Duration,
        mut each: impl FnMut(LentDelivery<'_>),
    ) -> Result<usize, CallError> {
        let mut count = self.reader.unpack_all(&mut each);
        while count == 0 {
            let Some(delivery) = self.fetch(Until::At(after(timeout)))? else { return Ok(0) };
            each(delivery.lend());
            count = 1 + self.reader.unpack_all(&mut each);
        }
        // What came along; how a connection is lost is for the next time.
        while self.flow.is_ready() {
            let reader = &mut self.reader;
            if let Some(Some(delivery)) = self.flow.take(|item| reader.take(item)) {
                each(delivery.lend());
                count += 1;
            }
            count += self.reader.unpack_all(&mut each);
        }
        Ok(count)
    }

    fn fetch(&mut self, until: Until) -> Result<Option<Delivery>, CallError> {
        loop {
            if let Some(delivery) = self.reader.unpack() {
                return Ok(Some(delivery));
            }
            if let Some(end) = &self.end {
                return Err(end.clone());
            }
            let reader = &mut self.reader;
            match self.flow.next(until, |item| reader.take(item)) {
                Ok(None) => return Ok(None),
                Ok(Some(None)) => {}
                Ok(Some(delivery)) => return Ok(delivery),
                Err(lost) => return self.again(lost).map(Some),
            }
        }
    }

    /// On a new connection, however long that takes.
    fn again(&mut self, lost: CallError) -> Result<Delivery, CallError> {
        let shared = &self.builder.board.shared;
        let mut worth = shared.config.reconnect.enabled && shared.is_worth_again(&lost);
        let mut end = lost;
        while worth && !self.builder.board.is_closed() {
            match self.builder.open(0) {
                Ok((flow, position)) => return Ok(self.restored(flow, position)),
                Err(error) => {
                    worth = shared.is_worth_again(&error);
                    end = error;
                }
            }
        }
        Err(self.ended(end))
    }

    fn restored(&mut self, flow: Flow, position: u64) -> Delivery {
        self.flow = flow;
        self.reader.position = position;
        Delivery::Restored { position }
    }

    fn ended(&mut self, end: CallError) -> CallError {
        self.end = Some(end.clone());
        end
    }
}

impl Reader {
    pub(crate) fn new(builder: &SubscribeBuilder, position: u64) -> Self {
        let topic = match &builder.source {
            Source::Topic(target) => target.name().unwrap_or_default().into(),
            Source::Pattern(_) => "".into(),
        };
        Self { unpacking: None, topic, position }
    }

    /// The next message of the frame that is being taken apart.
    #[inline]
    pub(crate) fn unpack(&mut self) -> Option<Delivery> {
        let unpacking = self.unpacking.as_mut()?;
        let mut parts = Parts::of(&unpacking.batch[unpacking.at..]);
        let Some(part) = parts.next() else {
            self.unpacking = None;
            return None;
        };
        unpacking.at += switchboard_protocol::part_bytes(part.payload.len());
        let head = unpacking.next.clone();
        unpacking.next.step();
        let message = Message { head, payload: Payload::copy_from(part.payload) };
        Some(self.message(message))
    }

    /// Hands over what is left of the frame that is being taken apart; how many messages that were.
    fn unpack_all(&mut self, each: &mut impl FnMut(LentDelivery<'_>)) -> usize {
        let Some(Unpacking { batch, at, mut next }) = self.unpacking.take() else { return 0 };
        let mut count = 0;
        for part in Parts::of(&batch[at..]) {
            if !next.is_earlier {
                self.position = next.position;
            }
            each(LentDelivery::Message(LentMessage { head: &next, payload: part.payload }));
            next.step();
            count += 1;
        }
        count
    }

    #[inline]
    fn message(&mut self, message: Message) -> Delivery {
        if !message.is_earlier() {
            self.position = message.position();
        }
        Delivery::Message(message)
    }

    /// What an item means; `None` for a frame of many messages, and for what later brokers may tell.
    pub(crate) fn take(&mut self, item: Taken<'_>) -> Option<Delivery> {
        let said = item.said;
        match Sort::from_wire(said.handle)? {
            sort @ (Sort::Message | Sort::Earlier) => {
                if let Some(name) = item.extension(extension_type::TOPIC)
                    && name != self.topic.as_bytes()
                {
                    self.topic = String::from_utf8_lossy(name).into();
                }
                let is_earlier = sort == Sort::Earlier;
                let next = Head {
                    topic: Arc::clone(&self.topic),
                    position: said.epoch,
                    sequence: said.deadline,
                    is_earlier,
                    method: said.method,
                    caller: said.caller,
                };
                if said.is_batch {
                    self.unpacking = Some(Unpacking { batch: item.into_payload(), at: 0, next });
                    return None;
                }
                Some(self.message(Message { head: next, payload: item.into_payload() }))
            }
            Sort::Lost => {
                self.position = self.position.max(said.deadline);
                Some(Delivery::Lost { from: said.epoch, to: said.deadline })
            }
            // It was in force before.
            Sort::Subscribed => None,
        }
    }
}

impl Iterator for Subscription {
    type Item = Result<Delivery, CallError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(delivery) = self.reader.unpack() {
            return Some(Ok(delivery));
        }
        if self.is_told {
            return None;
        }
        let next = self.fetch(Until::Forever).transpose();
        self.is_told = matches!(next, Some(Err(_)));
        next
    }
}

impl Delivery {
    fn lend(&self) -> LentDelivery<'_> {
        match *self {
            Self::Message(ref message) => {
                LentDelivery::Message(LentMessage { head: &message.head, payload: &message.payload })
            }
            Self::Lost { from, to } => LentDelivery::Lost { from, to },
            Self::Restored { position } => LentDelivery::Restored { position },
        }
    }
}

impl LentMessage<'_> {
    /// As [`Message::topic`].
    pub fn topic(&self) -> &str {
        &self.head.topic
    }

    /// As [`Message::position`].
    pub fn position(&self) -> u64 {
        self.head.position
    }

    /// As [`Message::sequence`].
    pub fn sequence(&self) -> u64 {
        self.head.sequence
    }

    /// As [`Message::is_earlier`].
    pub fn is_earlier(&self) -> bool {
        self.head.is_earlier
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.payload
    }

    /// The message, kept, with all that is known of it.
    pub fn to_message(&self) -> Message {
        Message { head: self.head.clone(), payload: Payload::copy_from(self.payload) }
    }
}

impl Deref for LentMessage<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.payload
    }
}

impl fmt::Debug for LentMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LentMessage")
            .field("topic", &self.topic())
            .field("position", &self.position())
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}

impl Message {
    /// The name of its topic.
    pub fn topic(&self) -> &str {
        &self.head.topic
    }

    /// Its place in the subscription: its sequence number, or, in a subscription by pattern, counted
    /// over everything that came by it. 0 for an earlier message of a subscription by pattern.
    pub fn position(&self) -> u64 {
        self.head.position
    }

    /// Its number in its topic, from 1.
    pub fn sequence(&self) -> u64 {
        self.head.sequence
    }

    /// Whether it is of before the subscription: retained, or of the history.
    pub fn is_earlier(&self) -> bool {
        self.head.is_earlier
    }

    /// What [`crate::PublishBuilder::method`] was given; 0 otherwise.
    pub fn method(&self) -> u32 {
        self.head.method
    }

    /// The publisher's user id, as the kernel said when it connected.
    pub fn uid(&self) -> u32 {
        self.head.caller as u32
    }

    /// The publisher's process id, as the kernel said when it connected.
    pub fn pid(&self) -> u32 {
        (self.head.caller >> 32) as u32
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload, kept.
    pub fn into_payload(self) -> Payload {
        self.payload
    }
}

impl Deref for Message {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.payload
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("position", &self.position())
            .field("payload", &self.payload)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SubscribeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscribeBuilder")
            .field("what", &self.what())
            .field("policy", &self.policy)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("what", &self.builder.what())
            .field("position", &self.reader.position)
            .finish_non_exhaustive()
    }
}
