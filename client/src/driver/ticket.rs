//! What a call leaves behind for whoever made it: who waits, and how it ended.
//!
//! Apart from the session's slots, because a result may be fetched long after the call, and the
//! connection, have ended.

use std::sync::Arc;
use std::task::Waker;

use switchboard_protocol::HandleEntry;
use switchboard_protocol::queue::LeaseId;

use super::items::Items;
use super::waiter::Waiter;
use crate::session::{CallId, Frame};
use crate::{CallError, Payload};

/// A reply, or an item, with its handles not yet made into objects.
#[derive(Debug)]
pub(crate) struct RawReply {
    pub(crate) epoch: u64,
    pub(crate) payload: Payload,
    pub(crate) handles: Vec<HandleEntry>,
    /// The connection on which the handles are good.
    pub(crate) connection: u64,
    /// What else the header of a reply says: nothing where a service answers.
    pub(crate) facts: Option<Box<Facts>>,
}

/// What the header of an item or a reply says, by kind of object (SPEC 9.3, 10.3, 10.7), and its
/// extensions.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) method: u32,
    pub(crate) deadline: u64,
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    pub(crate) caller: u64,
    pub(crate) extensions: Box<[u8]>,
}

pub(crate) type End = Result<RawReply, CallError>;

/// Names a ticket: slot and generation, as one word, which is the session's `tag`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TicketId(pub(crate) u64);

#[derive(Debug, Default)]
pub(crate) struct Tickets {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    ticket: Option<Ticket>,
}

#[derive(Debug)]
pub(crate) struct Ticket {
    /// Where it stands in the session; `None` while it is being opened.
    pub(crate) call: Option<CallId>,
    pub(crate) owner: Owner,
    pub(crate) end: Option<End>,
    pub(crate) items: Items,
    /// The handle on the queue whose messages come, under lease; 0 for all else.
    pub(crate) pops: u64,
}

/// Who is to be told.
#[derive(Debug)]
pub(crate) enum Owner {
    /// Nobody waits (yet): the end is kept.
    Nobody,
    /// A thread that follows.
    Thread(Arc<Waiter>),
    /// A task.
    #[cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "only the tokio driver has tasks"))]
    Task(Waker),
    /// A server that is being restored on a new connection.
    Restore { serving: u64 },
}

impl Facts {
    pub(crate) fn of(frame: &Frame<'_>) -> Self {
        let header = &frame.header;
        Self {
            method: header.method,
            deadline: header.deadline,
            seq: header.seq,
            epoch: header.epoch,
            caller: header.caller,
            extensions: if header.ext_len == 0 { Box::default() } else { frame.tail().extensions.into() },
        }
    }

    pub(crate) fn lease(&self) -> LeaseId {
        LeaseId { low: self.epoch, high: self.caller }
    }
}

impl RawReply {
    /// The facts of a reply; zero where it does not say them.
    pub(crate) fn take_facts(&mut self) -> Facts {
        match self.facts.take() {
            Some(facts) => *facts,
            None => Facts { epoch: self.epoch, ..Facts::default() },
        }
    }
}

impl Tickets {
    #[inline]
    pub(crate) fn insert(&mut self, owner: Owner) -> TicketId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        // Its highest bit is never used: it tells a pipeline's calls from tickets (mailbox).
        entry.generation = entry.generation.wrapping_add(1) & (u32::MAX >> 1);
        entry.ticket = Some(Ticket { call: None, owner, end: None, items: Items::default(), pops: 0 });
        TicketId(u64::from(slot) | u64::from(entry.generation) << 32)
    }

    #[inline]
    pub(crate) fn get(&mut self, id: TicketId) -> Option<&mut Ticket> {
        let entry = self.slots.get_mut(id.0 as u32 as usize)?;
        if entry.generation != (id.0 >> 32) as u32 {
            return None;
        }
        entry.ticket.as_mut()
    }

    #[inline]
    pub(crate) fn remove(&mut self, id: TicketId) -> Option<Ticket> {
        let slot = id.0 as u32;
        let entry = self.slots.get_mut(slot as usize)?;
        if entry.generation != (id.0 >> 32) as u32 {
            return None;
        }
        let ticket = entry.ticket.take()?;
        self.free.push(slot);
        Some(ticket)
    }
}
