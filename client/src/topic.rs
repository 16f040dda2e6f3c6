//! A topic: what is published goes to everybody who is subscribed (SPEC 9).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard_protocol::control::{OnHandle, Operation};
use switchboard_protocol::queue::Level;
use switchboard_protocol::topic::{TopicInfo, Will};
use switchboard_protocol::{ObjectKind, Outcome, Verb};

use crate::driver::{RawReply, Target, decode_reply};
use crate::{Board, CallBuilder, CallError, Context, Service, SubscribeBuilder};

/// A topic to be published to and subscribed to; made by [`Board::topic`]. Cheap to clone.
///
/// ```
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let board = switchboard::Board::builder().socket(broker.socket()).connect()?;
/// use switchboard::Delivery;
///
/// let weather = board.topic("acme.weather");
/// let mut subscription = weather.subscribe().start()?; // in force from here on
/// weather.publish("rain")?;
/// match subscription.next().expect("it does not end by itself")? {
///     Delivery::Message(message) => assert_eq!(&message[..], b"rain"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Topic {
    publisher: Service,
    subscriber: Service,
}

/// What a publisher is told once its message was given to every subscription (SPEC 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The message's number in its topic.
    pub sequence: u64,
    /// How durably the topic keeps it.
    pub level: Level,
    /// Where in the log it is kept; 0 where it is not.
    pub log_position: u64,
    /// How many subscriptions it went to.
    pub subscriptions: u64,
}

/// A message to be published, with all that can be said about it. Made by [`Topic::message`].
///
/// ```
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let board = switchboard::Board::builder().socket(broker.socket()).connect()?;
/// let published = board.topic("acme.weather").message("rain").method(7).priority(2).confirm()?;
/// assert_eq!((published.sequence, published.subscriptions), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is published before `send` or `confirm`"]
pub struct PublishBuilder<'a> {
    request: CallBuilder<'a>,
}

impl Board {
    /// A topic by name. Nothing is asked of the broker before it is used; then it comes into being, if
    /// it is not there yet (SPEC 9.1).
    pub fn topic(&self, name: &str) -> Topic {
        let with = |verb: Verb| Service {
            target: Target::shared(&self.shared, name, ObjectKind::Topic, verb.right()),
        };
        Topic { publisher: with(Verb::Publish), subscriber: with(Verb::Subscribe) }
    }
}

impl Topic {
    /// Publishes one way: given to everybody who is subscribed, and nothing comes back. Waits for room
    /// in the send window, which is what a subscription of policy `block` holds a publisher by.
    ///
    /// Many messages are published faster with [`Topic::publish_all`].
    ///
    /// # Errors
    ///
    /// What is known at once: `Denied`, `Invalid`, `TooLarge`, `DeadlineExceeded` where there was no
    /// room in time. What becomes known later is told by [`Board::flush`] and [`Board::events`].
    pub fn publish(&self, payload: impl AsRef<[u8]>) -> Result<(), CallError> {
        self.message(payload.as_ref()).send()
    }

    /// [`Topic::publish`] that never waits: `Busy` where there is no room in the send window.
    ///
    /// # Errors
    ///
    /// As there; the first use of a name waits for its handle to be opened.
    pub fn try_publish(&self, payload: impl AsRef<[u8]>) -> Result<(), CallError> {
        self.message(payload.as_ref()).try_send()
    }

    /// Publishes, and waits until it is done.
    ///
    /// # Errors
    ///
    /// `DeadlineExceeded` where a subscription of policy `block` had no room in time: it is not
    /// published then. Otherwise as any call.
    pub fn publish_confirmed(&self, payload: impl AsRef<[u8]>) -> Result<Published, CallError> {
        self.message(payload.as_ref()).confirm()
    }

    /// Publishes many, in their order, many in one frame: a message costs little more than copying it.
    /// Returns how many once the socket has taken them.
    ///
    /// # Errors
    ///
    /// As [`Topic::publish`]; those before the error may be published already.
    pub fn publish_all(
        &self,
        payloads: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, CallError> {
        let mut batch = self.board().batch();
        let mut count = 0;
        for payload in payloads {
            batch.publish(self, payload)?;
            count += 1;
        }
        batch.flush()?;
        Ok(count)
    }

    /// A message with all that can be said about it.
    pub fn message<'a>(&'a self, payload: &'a (impl AsRef<[u8]> + ?Sized)) -> PublishBuilder<'a> {
        PublishBuilder { request: self.publisher.request().payload(payload) }
    }

    /// Subscribes to this topic: positions are its sequence numbers.
    pub fn subscribe(&self) -> SubscribeBuilder {
        SubscribeBuilder::of_topic(self)
    }

    /// Who listens, and what is kept.
    ///
    /// # Errors
    ///
    /// `Denied` for who may neither publish nor subscribe.
    pub fn stat(&self) -> Result<TopicInfo, CallError> {
        let board = &self.publisher.target.board;
        let deadline = Context::inherit_deadline(Context::current(), board.default_deadline());
        let ask =
            |target| board.operate_on(target, Operation::TopicStat, |handle| OnHandle { handle }, deadline);
        let reply = match ask(&self.publisher.target) {
            Err(error) if error.outcome == Outcome::Denied => ask(&self.subscriber.target)?,
            reply => reply?,
        };
        decode_reply(Operation::TopicStat, &reply)
    }

    /// Leaves a last will: should this connection end in any other way than by [`Board::close`] (or
    /// the end of its last clone), the broker publishes this message. It replaces the one before, and
    /// stays also when this topic is dropped.
    ///
    /// It is of this connection: once that was lost the will was published, and a new connection
    /// ([`crate::Notice::Reconnected`]) has none before it is set again.
    ///
    /// # Errors
    ///
    /// `Denied` without the right to publish, `TooLarge`, `PeerDied`.
    pub fn set_will(&self, payload: impl AsRef<[u8]>) -> Result<(), CallError> {
        self.will(Some(payload.as_ref().to_vec()))
    }

    /// Takes the last will back.
    ///
    /// # Errors
    ///
    /// As [`Topic::set_will`].
    pub fn clear_will(&self) -> Result<(), CallError> {
        self.will(None)
    }

    fn will(&self, payload: Option<Vec<u8>>) -> Result<(), CallError> {
        let board = &self.publisher.target.board;
        let deadline = Context::inherit_deadline(Context::current(), board.default_deadline());
        let is_left = payload.is_some();
        let body = |handle| Will { handle, method: 0, payload };
        board.operate_on(&self.publisher.target, Operation::Will, body, deadline)?;
        self.publisher.target.set_will(is_left);
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.publisher.name().expect("topics are opened by name")
    }

    pub(crate) fn publisher(&self) -> &Arc<Target> {
        &self.publisher.target
    }

    pub(crate) fn subscriber(&self) -> &Arc<Target> {
        &self.subscriber.target
    }

    pub(crate) fn board(&self) -> Board {
        Board { shared: Arc::clone(&self.publisher.target.board) }
    }
}

impl PublishBuilder<'_> {
    /// A number that its subscribers see; 0 unless told.
    pub fn method(self, method: u32) -> Self {
        Self { request: self.request.method(method) }
    }

    /// The deadline, from the moment it is sent. Default: the board's.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { request: self.request.timeout(timeout) }
    }

    /// The deadline as a moment.
    pub fn deadline(self, deadline: Instant) -> Self {
        Self { request: self.request.deadline(deadline) }
    }

    /// No deadline of its own. (One that is inherited holds.)
    pub fn no_timeout(self) -> Self {
        Self { request: self.request.no_timeout() }
    }

    /// 0 (least, the default) to 7. Policy caps it (usually at 4), in silence.
    pub fn priority(self, priority: u8) -> Self {
        Self { request: self.request.priority(priority) }
    }

    /// A number that comes back in [`crate::Notice::SendFailed`], should it not be published.
    pub fn tag(self, tag: u64) -> Self {
        Self { request: self.request.tag(tag) }
    }

    /// Publishes one way; see [`Topic::publish`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send(self) -> Result<(), CallError> {
        self.request.send()
    }

    /// Publishes one way and never waits; see [`Topic::try_publish`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send(self) -> Result<(), CallError> {
        self.request.try_send()
    }

    /// Publishes, and waits until it is done; see [`Topic::publish_confirmed`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn confirm(self) -> Result<Published, CallError> {
        let params = self.request.params(false, &[], 0);
        let target = self.request.target();
        target.board.call(target, &params, self.request.payload_bytes()).map(Published::of)
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn request(&self) -> &CallBuilder<'_> {
        &self.request
    }
}

impl Published {
    pub(crate) fn of(mut reply: RawReply) -> Self {
        let facts = reply.take_facts();
        Self {
            sequence: facts.seq,
            level: level_of(facts.method),
            log_position: facts.epoch,
            subscriptions: facts.caller,
        }
    }
}

/// The level that a broker names; of one that is not known only the least is believed.
pub(crate) fn level_of(number: u32) -> Level {
    Level::from_wire(number).unwrap_or_default()
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("name", &self.name()).finish_non_exhaustive()
    }
}
