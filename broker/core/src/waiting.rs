//! Messages that wait for a server to have room, and who goes next (SPEC 4.7).

use crate::Payload;
use crate::broker::{Broker, Turn, Work};
use crate::call::Target;
use crate::list::Links;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};
use switchboard_protocol::{Epoch, Header, Instant, Outcome, PeerId, padded};

/// A message in the queue of its object.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Waiting<P> {
    pub(crate) what: Message,
    /// The frame as it came, priority and deadline as they count.
    pub(crate) header: Header,
    pub(crate) tail: P,
    pub(crate) from: PeerId,
    pub(crate) user: u32,
    pub(crate) object: u32,
    since: Instant,
    /// Handles on their way.
    pub(crate) taken: Vec<u64>,
    pub(crate) by_level: Links,
}

/// What kind of message waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// This call.
    Call(u32),
    /// A one-way send; `header` still has the sender's handle and tag.
    Send,
}

const LEVELS: usize = 8;

impl<P: Payload> Broker<P> {
    /// Whether a peer may leave one more message of `bytes` with the broker.
    pub(crate) fn check_waiting_quota(&self, from: u32, bytes: u64) -> Result<(), (Outcome, String)> {
        let peer = self.peer(from);
        let most = self.limits.of_user(peer.identity.uid).waiting;
        if most <= peer.waiting {
            return Err((
                Outcome::Busy,
                format!("{most} messages of this connection wait already (limits.user.waiting)"),
            ));
        }
        let most = self.limits.waiting_max;
        if most <= self.waiting.len() + self.topics.held.len() || most / 2 <= self.users[peer.user].waiting {
            let message = format!(
                "of the {most} messages that may wait your user has half, or all do (limits.waiting_max)"
            );
            return Err((Outcome::Busy, message));
        }
        if !self.may_wait(from, bytes) {
            let most = self.limits.of_user(peer.identity.uid).buffered_bytes;
            let message = format!(
                "{bytes} bytes more would pass the {most} that your user's waiting messages may hold (limits.user.buffered_bytes), or half of limits.buffered_bytes_max for all"
            );
            return Err((Outcome::Busy, message));
        }
        Ok(())
    }

    /// Whether a message may wait at its object at all: one for a certain member of a pool may not, or
    /// it would hold up those behind it for which others have room.
    pub(crate) fn check_may_wait(&self, object: u32, expected: Epoch) -> Result<(), (Outcome, String)> {
        if expected != Epoch(0) && self.objects[object].pool {
            let message =
                "the member of the pool that is expected has no room now, and waiting is for any of them";
            return Err((Outcome::Busy, message.to_string()));
        }
        Ok(())
    }

    /// Puts a message into the queue of its object. Its quota was checked.
    #[expect(clippy::too_many_arguments, reason = "a message is all of this")]
    pub(crate) fn wait_in_line(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        object: u32,
        what: Message,
        header: Header,
        tail: P,
        taken: Vec<u64>,
    ) {
        let bytes = padded(header.len as usize) as u64;
        let peer = self.peer_mut(from);
        peer.waiting += 1;
        let (id, user) = (peer.id, peer.user);
        self.users[user].waiting += 1;
        self.users[user].buffered_bytes += bytes;
        self.buffered_bytes += bytes;
        self.counters.waited += 1;
        let level = usize::from(header.priority);
        let message = self.waiting.insert(Waiting {
            what,
            header,
            tail: tail.keep(),
            from: id,
            user,
            object,
            since: turn.now,
            taken,
            by_level: Links::OUT,
        });
        if let Message::Call(call) = what {
            self.calls[call].target = Target::Waiting(message);
        }
        let it = &mut self.objects[object];
        it.waiting_len += 1;
        it.waiting[level].push(&mut self.waiting, message, |message| &mut message.by_level);
    }

    /// Takes a message out of its queue and gives back what it was charged.
    pub(crate) fn take_waiting(&mut self, turn: &mut Turn<'_, P>, message: u32) -> Waiting<P> {
        let it = &self.waiting[message];
        let (object, level) = (it.object, usize::from(it.header.priority));
        let it = &mut self.objects[object];
        it.waiting_len -= 1;
        it.waiting[level].remove(&mut self.waiting, message, |message| &mut message.by_level);
        let it = self.waiting.remove(message);
        // Also of one that is on its way out: its calls are taken down one by one.
        if let Some(Some(peer)) = self.peers.get_mut(it.from.slot as usize)
            && peer.id == it.from
        {
            peer.waiting -= 1;
        }
        self.users[it.user].waiting -= 1;
        self.unbuffer(turn, it.user, padded(it.header.len as usize) as u64);
        self.forget_user_if_unused(turn.now, it.user);
        it
    }

    /// A call that waits has ended.
    pub(crate) fn unqueue(&mut self, turn: &mut Turn<'_, P>, message: u32) {
        let it = self.take_waiting(turn, message);
        self.drop_travellers(turn, &it.taken);
        // It may have held up others for which there is room.
        self.dispatch_later(it.object);
    }

    /// A send that waits cannot be delivered any more.
    pub(crate) fn fail_waiting_send(
        &mut self,
        turn: &mut Turn<'_, P>,
        message: u32,
        outcome: Outcome,
        why: &str,
    ) {
        let it = self.take_waiting(turn, message);
        self.drop_travellers(turn, &it.taken);
        self.send_failed(turn, &it.header, &it.tail, outcome, why);
    }

    /// Gives out what waits for an object once the present input is dealt with: not before a server
    /// has learned of its handle, nor from the middle of something else.
    pub(crate) fn dispatch_later(&mut self, object: u32) {
        let it = &mut self.objects[object];
        if it.waiting_len != 0 && !core::mem::replace(&mut it.dispatch_due, true) {
            let object = self.objects.word(object);
            self.work.push_back(Work::Dispatch { object });
        }
    }

    /// Gives out what waits for an object, as long as servers have room.
    pub(crate) fn dispatch(&mut self, turn: &mut Turn<'_, P>, object: u32) {
        while let Some(message) = self.next_waiting(turn.now, object) {
            let it = &self.waiting[message];
            let (what, header) = (it.what, it.header);
            if header.deadline != 0 && header.deadline <= turn.now.0 && what == Message::Send {
                self.fail_waiting_send(
                    turn,
                    message,
                    Outcome::DeadlineExceeded,
                    "the deadline passed while it waited",
                );
                continue;
            }
            let expected = Epoch(header.epoch);
            if !self.is_current(object, expected) {
                let why = "the owner that was expected went away while it waited";
                match what {
                    Message::Call(call) => self.end_by_broker(turn, call, Outcome::OwnerChanged, why),
                    Message::Send => self.fail_waiting_send(turn, message, Outcome::OwnerChanged, why),
                }
                continue;
            }
            let bytes = padded(header.len as usize) as u64;
            let call = matches!(what, Message::Call(_));
            let Some(server) = self.choose_server(object, expected, call, bytes) else { break };
            let Waiting { mut header, tail, from, taken, .. } = self.take_waiting(turn, message);
            // It may have sent and left while its message waited.
            header.seq = from.to_wire();
            header.caller = 0;
            if self.is_connected(from) {
                self.peer(from.slot).stamp(&mut header);
            }
            match what {
                Message::Call(call) => self.deliver_call(turn, server, call, &mut header, &tail, &taken),
                Message::Send => self.deliver_send(turn, server, from, &mut header, &tail, &taken),
            }
        }
    }

    /// Who goes next: of the first in each level, the one with the highest priority after ageing; of
    /// equals, the one that has waited longer.
    fn next_waiting(&self, now: Instant, object: u32) -> Option<u32> {
        let it = &self.objects[object];
        if it.waiting_len == 0 {
            return None;
        }
        let step = self.limits.ageing_step.max(Duration::from_nanos(1)).as_nanos();
        let heads = (0..LEVELS).filter_map(|level| it.waiting[level].first().map(|message| (level, message)));
        let rank = |&(level, message): &(usize, u32)| {
            let since = self.waiting[message].since;
            let aged = level as u128 + now.since(since).as_nanos() / step;
            (aged.min(LEVELS as u128 - 1), core::cmp::Reverse(since))
        };
        heads.max_by_key(rank).map(|(_, message)| message)
    }
}
