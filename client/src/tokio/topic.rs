//! Topics, for tasks.

use std::time::{Duration, Instant};

use switchboard_protocol::control::{OnHandle, Operation};
use switchboard_protocol::topic::{TopicInfo, Will};
use switchboard_protocol::{HEADER_BYTES, Outcome, part_bytes, write_part};

use super::SubscribeBuilder;
use super::call::{send, send_when_room};
use crate::batch::{FRAME_BYTES_MAX, PART_BYTES_MAX};
use crate::driver::{CallParams, decode_reply};
use crate::{CallError, Published};

/// A topic to be published to and subscribed to; [`crate::Topic`] for tasks. Made by
/// [`super::Board::topic`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let builder = switchboard::Board::builder().socket(broker.socket());
/// # let board = switchboard::tokio::Board::connect_with(builder).await?;
/// use switchboard::Delivery;
///
/// let weather = board.topic("acme.weather");
/// let mut subscription = weather.subscribe().start().await?; // in force from here on
/// weather.publish("rain").await?;
/// match subscription.next().await? {
///     Delivery::Message(message) => assert_eq!(&message[..], b"rain"),
///     other => panic!("{other:?}"),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Topic {
    topic: crate::Topic,
}

/// A message to be published; [`crate::PublishBuilder`] for tasks. Made by [`Topic::message`].
#[derive(Clone, Debug)]
#[must_use = "nothing is published before `send` or `confirm`"]
pub struct PublishBuilder<'a> {
    builder: crate::PublishBuilder<'a>,
}

impl Topic {
    pub(super) fn new(topic: crate::Topic) -> Self {
        Self { topic }
    }

    /// Publishes one way, once there is room; see [`crate::Topic::publish`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn publish(&self, payload: impl AsRef<[u8]>) -> Result<(), CallError> {
        self.message(payload.as_ref()).send().await
    }

    /// Publishes, and waits until it is done; see [`crate::Topic::publish_confirmed`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn publish_confirmed(&self, payload: impl AsRef<[u8]>) -> Result<Published, CallError> {
        self.message(payload.as_ref()).confirm().await
    }

    /// Publishes many, in their order, many in one frame; see [`crate::Topic::publish_all`]. Returns
    /// how many once they are handed over to be written.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn publish_all(
        &self,
        payloads: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<u64, CallError> {
        let target = self.topic.publisher();
        let message = self.topic.message("");
        let params = message.request().params(false, &[], 0);
        target.board.until_open(target, params.deadline).await?;
        let many = CallParams { batch: true, ..params.clone() };
        let max = target.board.lock().session.welcome().map_or(0, |it| it.payload_bytes_max as usize);
        let max = max.min(FRAME_BYTES_MAX - HEADER_BYTES);
        let (mut batch, mut count) = (Vec::new(), 0);
        for payload in payloads {
            let payload = payload.as_ref();
            let bytes = part_bytes(payload.len());
            let is_alone = payload.len() > PART_BYTES_MAX || bytes > max;
            if !batch.is_empty() && (is_alone || batch.len() + bytes > max) {
                send_when_room(target, &many, 0, &batch).await?;
                batch.clear();
            }
            if is_alone {
                send_when_room(target, &params, 0, payload).await?;
            } else {
                write_part(&mut batch, 0, payload);
            }
            count += 1;
        }
        if !batch.is_empty() {
            send_when_room(target, &many, 0, &batch).await?;
        }
        Ok(count)
    }

    /// A message with all that can be said about it.
    pub fn message<'a>(&'a self, payload: &'a (impl AsRef<[u8]> + ?Sized)) -> PublishBuilder<'a> {
        PublishBuilder { builder: self.topic.message(payload) }
    }

    /// Subscribes to this topic: positions are its sequence numbers.
    pub fn subscribe(&self) -> SubscribeBuilder {
        SubscribeBuilder::new(self.topic.subscribe())
    }

    /// Who listens, and what is kept.
    ///
    /// # Errors
    ///
    /// As [`crate::Topic::stat`].
    pub async fn stat(&self) -> Result<TopicInfo, CallError> {
        let board = &self.topic.publisher().board;
        let body = |handle| OnHandle { handle };
        let reply = match board.operate_for(self.topic.publisher(), Operation::TopicStat, body).await {
            Err(error) if error.outcome == Outcome::Denied => {
                board.operate_for(self.topic.subscriber(), Operation::TopicStat, body).await?
            }
            reply => reply?,
        };
        decode_reply(Operation::TopicStat, &reply)
    }

    /// Leaves a last will; see [`crate::Topic::set_will`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn set_will(&self, payload: impl AsRef<[u8]>) -> Result<(), CallError> {
        self.will(Some(payload.as_ref().to_vec())).await
    }

    /// Takes the last will back.
    ///
    /// # Errors
    ///
    /// As [`Topic::set_will`].
    pub async fn clear_will(&self) -> Result<(), CallError> {
        self.will(None).await
    }

    async fn will(&self, payload: Option<Vec<u8>>) -> Result<(), CallError> {
        let target = self.topic.publisher();
        let body = |handle| Will { handle, method: 0, payload: payload.clone() };
        target.board.operate_for(target, Operation::Will, body).await?;
        target.set_will(payload.is_some());
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.topic.name()
    }
}

impl PublishBuilder<'_> {
    /// See [`crate::PublishBuilder::method`].
    pub fn method(self, method: u32) -> Self {
        Self { builder: self.builder.method(method) }
    }

    /// See [`crate::PublishBuilder::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { builder: self.builder.timeout(timeout) }
    }

    /// See [`crate::PublishBuilder::deadline`].
    pub fn deadline(self, deadline: Instant) -> Self {
        Self { builder: self.builder.deadline(deadline) }
    }

    /// See [`crate::PublishBuilder::no_timeout`].
    pub fn no_timeout(self) -> Self {
        Self { builder: self.builder.no_timeout() }
    }

    /// See [`crate::PublishBuilder::priority`].
    pub fn priority(self, priority: u8) -> Self {
        Self { builder: self.builder.priority(priority) }
    }

    /// See [`crate::PublishBuilder::tag`].
    pub fn tag(self, tag: u64) -> Self {
        Self { builder: self.builder.tag(tag) }
    }

    /// Publishes one way, once there is room.
    ///
    /// # Errors
    ///
    /// As [`crate::Topic::publish`].
    pub async fn send(self) -> Result<(), CallError> {
        send(self.builder.request()).await
    }

    /// Publishes, and waits until it is done.
    ///
    /// # Errors
    ///
    /// As [`crate::Topic::publish_confirmed`].
    pub async fn confirm(self) -> Result<Published, CallError> {
        let request = self.builder.request();
        let params = request.params(false, &[], 0);
        let target = request.target();
        target.board.ask(target, &params, request.payload_bytes()).await.map(Published::of)
    }
}
