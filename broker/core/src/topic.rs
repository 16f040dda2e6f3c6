//! Topics: every message to everybody who subscribes (SPEC 9).

use crate::broker::{Broker, Turn};
use crate::control::Refusal;
use crate::{Payload, TopicSettings};
use alloc::vec::Vec;
use core::marker::PhantomData;
use serde::{Deserialize, Serialize};
use switchboard_protocol::topic::{Subscribe, TopicInfo};
use switchboard_protocol::{Header, topic};

/// All topics, and who listens to them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Topics<P> {
    declared: Vec<TopicSettings>,
    _p: PhantomData<P>,
}

/// What is published for a client that dies (SPEC 9.9).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Will {}

impl<P> Topics<P> {
    pub(crate) fn new(declared: Vec<TopicSettings>) -> Self {
        Self { declared, _p: PhantomData }
    }

    /// Subscriptions of all peers.
    pub(crate) fn subscriptions(&self) -> u32 {
        0
    }
}

impl<P: Payload> Broker<P> {
    /// New configuration is in force.
    pub(crate) fn declare_topics(&mut self, _turn: &mut Turn<'_, P>, declared: Vec<TopicSettings>) {
        self.topics.declared = declared;
    }

    /// An object has become a topic.
    pub(crate) fn new_topic(&mut self, _object: u32) {}

    pub(crate) fn topic_is_wanted(&self, _object: u32) -> bool {
        false
    }

    pub(crate) fn forget_topic(&mut self, _turn: &mut Turn<'_, P>, _object: u32) {}

    /// A CALL on a topic's handle (SPEC 9.3). Its payload is within the limit and its deadline and priority as
    /// they are inherited; nothing else was checked: neither right nor call slot nor deadline.
    pub(crate) fn publish_call(
        &mut self,
        _turn: &mut Turn<'_, P>,
        _from: u32,
        _handle: u32,
        _header: Header,
        _tail: P,
    ) -> Result<(), Refusal> {
        todo_in_branch()
    }

    /// A SEND on a topic's handle (SPEC 9.2), within its window; else checked as [`Self::publish_call`].
    pub(crate) fn publish_send(
        &mut self,
        _turn: &mut Turn<'_, P>,
        _from: u32,
        _handle: u32,
        _header: Header,
        _tail: P,
    ) -> Result<(), Refusal> {
        todo_in_branch()
    }

    /// SPEC 6.2, Subscribe. The call was not entered yet.
    pub(crate) fn subscribe(
        &mut self,
        _turn: &mut Turn<'_, P>,
        _from: u32,
        _header: &Header,
        _ask: &Subscribe,
    ) -> Result<(), Refusal> {
        todo_in_branch()
    }

    pub(crate) fn topic_stat(&self, _from: u32, _handle: u64) -> Result<TopicInfo, Refusal> {
        todo_in_branch()
    }

    pub(crate) fn set_will(
        &mut self,
        _turn: &mut Turn<'_, P>,
        _from: u32,
        _ask: topic::Will,
    ) -> Result<(), Refusal> {
        todo_in_branch()
    }

    /// A peer is leaving: one of its wills is published, or thrown away where it said goodbye.
    pub(crate) fn publish_will(&mut self, _turn: &mut Turn<'_, P>, slot: u32) {
        self.peer_mut(slot).wills.pop();
    }

    /// The subscriber has granted credit.
    pub(crate) fn advance_subscription(&mut self, _turn: &mut Turn<'_, P>, _subscription: u32) {}

    /// A peer's out queue has room again.
    pub(crate) fn advance_stalled_subscriptions(&mut self, _turn: &mut Turn<'_, P>, _slot: u32) {}

    /// The call of a subscription is being erased; what it was goes too.
    pub(crate) fn end_subscription(&mut self, _turn: &mut Turn<'_, P>, _subscription: u32) {}

    /// The call of a message that is held back is being erased.
    pub(crate) fn end_held_publish(&mut self, _turn: &mut Turn<'_, P>, _held: u32) {}
}

fn todo_in_branch<T>() -> Result<T, Refusal> {
    Err((switchboard_protocol::Outcome::Unsupported, alloc::string::String::from("topics")))
}
