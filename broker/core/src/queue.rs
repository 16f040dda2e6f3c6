//! Queues: every message to one consumer (SPEC 10).

use crate::broker::{Broker, Turn};
use crate::control::{Answer, Refusal};
use crate::{Departure, Payload, QueueSettings};
use alloc::vec::Vec;
use core::marker::PhantomData;
use serde::{Deserialize, Serialize};
use switchboard_protocol::queue::CreateQueue;
use switchboard_protocol::{Header, Instant};

/// All queues and what is in them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Queues<P> {
    declared: Vec<QueueSettings>,
    _p: PhantomData<P>,
}

impl<P> Queues<P> {
    pub(crate) fn new(declared: Vec<QueueSettings>) -> Self {
        Self { declared, _p: PhantomData }
    }

    /// Messages in all queues.
    pub(crate) fn messages(&self) -> u64 {
        0
    }

    /// Bytes of them.
    pub(crate) fn bytes(&self) -> u64 {
        0
    }
}

impl<P: Payload> Broker<P> {
    /// New configuration is in force.
    pub(crate) fn declare_queues(&mut self, _turn: &mut Turn<'_, P>, declared: Vec<QueueSettings>) {
        self.queues.declared = declared;
    }

    /// The next moment at which a message expires or its delay is over.
    pub(crate) fn queues_wake(&self) -> Option<Instant> {
        None
    }

    pub(crate) fn queue_is_wanted(&self, _object: u32) -> bool {
        true
    }

    pub(crate) fn forget_queue(&mut self, _turn: &mut Turn<'_, P>, _object: u32) {}

    pub(crate) fn create_queue(
        &mut self,
        _turn: &mut Turn<'_, P>,
        _from: u32,
        _header: &Header,
        _ask: CreateQueue,
    ) -> Result<Answer, Refusal> {
        todo_in_branch()
    }

    pub(crate) fn delete_queue(
        &mut self,
        _turn: &mut Turn<'_, P>,
        _from: u32,
        _header: &Header,
        _name: &str,
    ) -> Result<Answer, Refusal> {
        todo_in_branch()
    }

    /// A CALL on a queue's handle (SPEC 10.2). Its payload is within the limit and its deadline and
    /// priority as they are inherited; nothing else was checked: neither right nor call slot nor deadline.
    pub(crate) fn queue_call(
        &mut self,
        _turn: &mut Turn<'_, P>,
        _from: u32,
        _handle: u32,
        _header: Header,
        _tail: P,
    ) -> Result<(), Refusal> {
        todo_in_branch()
    }

    /// The consumer has granted credit.
    pub(crate) fn advance_consumer(&mut self, _turn: &mut Turn<'_, P>, _consumer: u32) {}

    /// A peer's out queue has room again.
    pub(crate) fn advance_stalled_consumers(&mut self, _turn: &mut Turn<'_, P>, _slot: u32) {}

    /// The call of a consumer is being erased.
    pub(crate) fn end_consumer(&mut self, _turn: &mut Turn<'_, P>, _consumer: u32) {}

    /// The call of a push that waits for room is being erased.
    pub(crate) fn end_blocked_push(&mut self, _turn: &mut Turn<'_, P>, _blocked: u32) {}

    /// The holder of an attached lease is gone (SPEC 10.9).
    pub(crate) fn lease_orphaned(&mut self, _turn: &mut Turn<'_, P>, _lease: u32, _how: Departure) {}

    /// A lease has run out.
    pub(crate) fn lease_due(&mut self, _turn: &mut Turn<'_, P>, _lease: u32) {}
}

fn todo_in_branch<T>() -> Result<T, Refusal> {
    Err((switchboard_protocol::Outcome::Unsupported, alloc::string::String::from("queues")))
}
