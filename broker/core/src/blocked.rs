//! Pushes that wait for room in a full queue, first come first served (SPEC 10.5).

use crate::Payload;
use crate::broker::{Broker, Turn};
use crate::call::Target;
use crate::control::Refusal;
use crate::list::Links;
use crate::push::Pusher;
use crate::slab::NONE;
use crate::wishes::Load;
use serde::{Deserialize, Serialize};
use switchboard_protocol::queue::Overflow;
use switchboard_protocol::{Header, PeerId, flags, padded};

/// A push that waits for room.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Blocked<P> {
    pub(crate) call: u32,
    pub(crate) queue: u32,
    pub(crate) from: PeerId,
    pub(crate) user: u32,
    /// The frame as it came.
    pub(crate) header: Header,
    pub(crate) tail: P,
    /// What it needs.
    count: u64,
    bytes: u64,
    pub(crate) by_queue: Links,
}

impl<P: Payload> Broker<P> {
    /// A push waits for room in a full queue.
    #[expect(clippy::too_many_arguments, reason = "a push and what it needs")]
    pub(crate) fn block(
        &mut self,
        turn: &mut Turn<'_, P>,
        pusher: Pusher,
        from: u32,
        queue: u32,
        header: &Header,
        tail: &P,
        load: Load,
    ) -> Result<(), Refusal> {
        assert!(matches!(pusher, Pusher::Frame(_)), "who has waited is let in when there is room");
        if header.flags & flags::NO_WAIT != 0 {
            return Err(self.full(queue));
        }
        let charge = padded(header.len as usize) as u64;
        self.check_waiting_quota(from, charge)?;
        let call = self.enter_call(turn, from, NONE, header);
        let peer = self.peer_mut(from);
        peer.waiting += 1;
        let (from, user) = (peer.id, peer.user);
        self.users[user].waiting += 1;
        self.users[user].buffered_bytes += charge;
        self.buffered_bytes += charge;
        self.counters.waited += 1;
        let blocked = self.queues.blocked.insert(Blocked {
            call,
            queue,
            from,
            user,
            header: *header,
            tail: tail.clone().keep(),
            count: load.count,
            bytes: load.bytes,
            by_queue: Links::OUT,
        });
        self.calls[call].target = Target::Push(blocked);
        let line = &mut self.queues.table[queue].blocked;
        line.push(&mut self.queues.blocked, blocked, |blocked| &mut blocked.by_queue);
        Ok(())
    }

    /// Takes a push that waits out of its line, and gives back what it was charged.
    fn take_blocked(&mut self, turn: &mut Turn<'_, P>, blocked: u32) -> Blocked<P> {
        let queue = self.queues.blocked[blocked].queue;
        let line = &mut self.queues.table[queue].blocked;
        line.remove(&mut self.queues.blocked, blocked, |blocked| &mut blocked.by_queue);
        let it = self.queues.blocked.remove(blocked);
        self.peer_mut(it.from.slot).waiting -= 1;
        self.users[it.user].waiting -= 1;
        self.unbuffer(turn, it.user, padded(it.header.len as usize) as u64);
        it
    }

    /// The call of a push that waits for room is being erased.
    pub(crate) fn end_blocked_push(&mut self, turn: &mut Turn<'_, P>, blocked: u32) {
        let it = self.take_blocked(turn, blocked);
        // It may have held up others for which there is room.
        if self.queues.table[it.queue].object != NONE {
            self.stir(it.queue);
        }
    }

    /// A push that has waited is taken now; its call goes on otherwise.
    pub(crate) fn leave_blocked(&mut self, turn: &mut Turn<'_, P>, call: u32) {
        if let Target::Push(blocked) = self.calls[call].target {
            self.take_blocked(turn, blocked);
            self.calls[call].target = Target::Nowhere;
        }
    }

    /// Lets in those who wait for room, first come first served.
    pub(crate) fn admit_blocked(&mut self, turn: &mut Turn<'_, P>, queue: u32) {
        while let Some(blocked) = self.queues.table[queue].blocked.first() {
            let it = &self.queues.blocked[blocked];
            let at = &self.queues.table[queue];
            let never = at.settings.messages_max < it.count || at.settings.bytes_max < it.bytes;
            let block = at.settings.overflow == Overflow::Block;
            if block && !never && at.is_full(it.count, it.bytes) {
                break;
            }
            let (call, header, tail) = (it.call, it.header, it.tail.clone());
            if let Err((outcome, message)) = self.push_frame(turn, Pusher::Call(call), queue, &header, &tail)
            {
                self.end_by_broker(turn, call, outcome, &message);
            }
        }
    }
}
