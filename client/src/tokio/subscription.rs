//! Subscriptions, for tasks.

use std::fmt;
use std::time::Duration;

use switchboard_protocol::topic::SlowPolicy;

use super::waiting::open_now;
use crate::driver::after;
use crate::flow::Flow;
use crate::subscription::{Reader, Source, in_force, not_in_force};
use crate::{CallError, Context, Delivery};

/// How to subscribe; [`crate::SubscribeBuilder`] for tasks.
#[derive(Clone, Debug)]
#[must_use = "nothing is subscribed to before `start`"]
pub struct SubscribeBuilder {
    builder: crate::SubscribeBuilder,
}

/// Messages as they are published; [`crate::Subscription`] for tasks. Dropping it ends the
/// subscription.
pub struct Subscription {
    // Dropped first: cancelled before the builder's handle is closed.
    flow: Flow,
    builder: SubscribeBuilder,
    reader: Reader,
    end: Option<CallError>,
}

impl SubscribeBuilder {
    pub(super) fn new(builder: crate::SubscribeBuilder) -> Self {
        Self { builder }
    }

    /// See [`crate::SubscribeBuilder::policy`].
    pub fn policy(self, policy: SlowPolicy) -> Self {
        Self { builder: self.builder.policy(policy) }
    }

    /// See [`crate::SubscribeBuilder::messages`].
    pub fn messages(self, messages: u32) -> Self {
        Self { builder: self.builder.messages(messages) }
    }

    /// See [`crate::SubscribeBuilder::bytes`].
    pub fn bytes(self, bytes: u32) -> Self {
        Self { builder: self.builder.bytes(bytes) }
    }

    /// See [`crate::SubscribeBuilder::history`].
    pub fn history(self, history: u32) -> Self {
        Self { builder: self.builder.history(history) }
    }

    /// See [`crate::SubscribeBuilder::credit`].
    pub fn credit(self, credit: u32) -> Self {
        Self { builder: self.builder.credit(credit) }
    }

    /// Subscribes, and returns when it is in force; see [`crate::SubscribeBuilder::start`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn start(self) -> Result<Subscription, CallError> {
        let default = self.builder.board().shared.default_deadline();
        let (flow, position) = self.open(Context::inherit_deadline(Context::current(), default)).await?;
        let reader = Reader::new(&self.builder, position);
        Ok(Subscription { flow, builder: self, reader, end: None })
    }

    /// A subscription in force, and its position.
    async fn open(&self, deadline: u64) -> Result<(Flow, u64), CallError> {
        let mut flow = self.begin(deadline).await?;
        let begun = async {
            loop {
                flow.until_ready().await?;
                if let Some(position) = flow.take(|item| in_force(&item)).flatten() {
                    return Ok::<_, CallError>(position);
                }
            }
        };
        let position = if deadline == 0 {
            begun.await?
        } else {
            let left = Duration::from_nanos(deadline.saturating_sub(after(Duration::ZERO)));
            tokio::time::timeout(left, begun).await.map_err(|_| not_in_force())??
        };
        Ok((flow, position))
    }

    async fn begin(&self, deadline: u64) -> Result<Flow, CallError> {
        let shared = &self.builder.board().shared;
        let room = self.builder.room();
        loop {
            let handle = match self.builder.source() {
                Source::Topic(target) => {
                    shared.until_open(target, deadline).await?;
                    open_now(target, &shared.lock())
                }
                Source::Pattern(_) => {
                    shared.until_up(deadline).await?;
                    Some(0)
                }
            };
            let Some(handle) = handle else { continue };
            let (state, ticket) = self.builder.ask(shared.lock(), handle)?;
            return Ok(Flow::new(shared, state, ticket, room));
        }
    }
}

impl Subscription {
    /// Up to where it has come; see [`crate::Subscription::position`].
    pub fn position(&self) -> u64 {
        self.reader.position
    }

    /// What comes next. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// How the subscription ended, now and from then on.
    pub async fn next(&mut self) -> Result<Delivery, CallError> {
        loop {
            if let Some(delivery) = self.reader.unpack() {
                return Ok(delivery);
            }
            if let Some(end) = &self.end {
                return Err(end.clone());
            }
            match self.flow.until_ready().await {
                Ok(()) => {
                    if let Some(delivery) = self.flow.take(|item| self.reader.take(item)).flatten() {
                        return Ok(delivery);
                    }
                }
                Err(lost) => return self.again(lost).await,
            }
        }
    }

    /// What comes next, waited for at most so long: `None` when the time is up.
    ///
    /// # Errors
    ///
    /// As [`Subscription::next`].
    pub async fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Delivery>, CallError> {
        tokio::time::timeout(timeout, self.next()).await.map_or(Ok(None), |next| next.map(Some))
    }

    /// On a new connection, however long that takes.
    async fn again(&mut self, lost: CallError) -> Result<Delivery, CallError> {
        let shared = std::sync::Arc::clone(&self.builder.builder.board().shared);
        let mut end = lost;
        while shared.config.reconnect.enabled && shared.will_be_worth_again(&end).await && !shared.is_closed()
        {
            match self.builder.open(0).await {
                Ok((flow, position)) => {
                    self.flow = flow;
                    self.reader.position = position;
                    return Ok(Delivery::Restored { position });
                }
                Err(error) => end = error,
            }
        }
        self.end = Some(end.clone());
        Err(end)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("what", &self.builder.builder.what())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
