//! Messages that are held back until every subscription of policy `block` has room for them (SPEC 9.6).
//!
//! They have no number yet and nobody was given them. Each topic has a line of its own, first come first
//! served, and what stands in it counts against the publisher like a message that waits for a server.

use crate::Payload;
use crate::broker::{Broker, Timer, Turn, Work};
use crate::call::Target;
use crate::control::Refusal;
use crate::list::Links;
use crate::peer::Stage;
use crate::slab::NONE;
use crate::subscription::{Chore, Needs};
use crate::timers::TimerId;
use crate::topic::Origin;
use alloc::string::ToString;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::{Header, Instant, Outcome, PeerId, flags, padded};

/// A message that is not published before every subscription has room for it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Held<P> {
    pub(crate) origin: Origin,
    /// The frame as it came, priority and deadline as they count.
    pub(crate) header: Header,
    pub(crate) tail: P,
    pub(crate) from: PeerId,
    pub(crate) user: u32,
    pub(crate) topic: u32,
    /// Of a message that no call waits for.
    pub(crate) timer: TimerId,
    pub(crate) by_topic: Links,
}

impl<P: Payload> Broker<P> {
    /// Whether a subscription that holds publishers back has no room for a message now.
    #[inline]
    pub(crate) fn is_blocked(&self, topic: u32, header: &Header, messages: u32) -> bool {
        self.topics.table[topic].blocking != 0 && self.find_blocking(topic, header, messages)
    }

    #[inline(never)]
    fn find_blocking(&self, topic: u32, header: &Header, messages: u32) -> bool {
        let it = &self.topics.table[topic];
        let name = (self.topic_name(topic).as_str().len() + 4).next_multiple_of(16);
        let mut needs = Needs::default();
        it.audience[..it.blocking as usize].iter().any(|&subscription| {
            let by_handle = self.topics.subscriptions[subscription].topic != NONE;
            let more = if by_handle { 0 } else { name };
            let bytes = padded(header.len as usize + more) as u64;
            !self.has_room_without_loss(subscription, u64::from(messages), bytes, &mut needs)
        })
    }

    /// Keeps a message until every subscription has room for it, or its deadline passes.
    pub(crate) fn hold_back(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        topic: u32,
        origin: Origin,
        mut header: Header,
        tail: P,
    ) -> Result<(), Refusal> {
        if header.flags & flags::NO_WAIT != 0 {
            let message = "a subscription that holds publishers back is full, and the call asked not to wait";
            return Err((Outcome::Busy, message.to_string()));
        }
        let bytes = padded(header.len as usize) as u64;
        self.check_waiting_quota(from, bytes)?;
        let object = self.topics.table[topic].object;
        let origin = match origin {
            Origin::Call(_) => Origin::Call(self.enter_call(turn, from, object, &header)),
            Origin::Send | Origin::Will => origin,
        };
        let peer = self.peer_mut(from);
        peer.waiting += 1;
        let (id, user) = (peer.id, peer.user);
        header.caller = u64::from(peer.identity.uid) | u64::from(peer.identity.pid) << 32;
        self.users[user].waiting += 1;
        self.users[user].buffered_bytes += bytes;
        self.buffered_bytes += bytes;
        self.counters.publishes_held += 1;
        let held = self.topics.held.insert(Held {
            origin,
            header,
            tail: tail.keep(),
            from: id,
            user,
            topic,
            timer: TimerId::NONE,
            by_topic: Links::OUT,
        });
        match origin {
            Origin::Call(call) => self.calls[call].target = Target::Publish(held),
            Origin::Send | Origin::Will if header.deadline != 0 => {
                let timer = self.timers.insert(Instant(header.deadline), Timer::Held(held));
                self.topics.held[held].timer = timer;
            }
            Origin::Send | Origin::Will => {}
        }
        let mut list = self.topics.table[topic].held;
        if list.is_empty() {
            self.topics.holding.push_back(topic);
        }
        list.push(&mut self.topics.held, held, |held| &mut held.by_topic);
        self.topics.table[topic].held = list;
        Ok(())
    }

    /// Whether the first message in the line of a topic has to wait, as far as nothing that is under way
    /// could change that: a round over the lines, an audience to be looked up, a subscriber that leaves
    /// or has yet to read. For [`Self::check_invariants`].
    pub(crate) fn waits_for_good_reason(&self, topic: u32) -> bool {
        let it = &self.topics.table[topic];
        let Some(first) = it.held.first().filter(|_| !self.topics.releasing) else { return true };
        let under_way = |&subscription: &u32| {
            let peer = self.peer(self.topics.subscriptions[subscription].peer);
            peer.stage != Stage::Ready || peer.unread != 0
        };
        if !self.topics.knows_audience(topic) || it.audience.iter().any(under_way) {
            return true;
        }
        let Held { header, tail, .. } = &self.topics.held[first];
        self.check_publication(topic, header, tail).is_ok_and(|count| self.is_blocked(topic, header, count))
    }

    /// Takes a held message out of its line and gives back what it was charged.
    fn take_held(&mut self, turn: &mut Turn<'_, P>, held: u32) -> Held<P> {
        let topic = self.topics.held[held].topic;
        let mut list = self.topics.table[topic].held;
        list.remove(&mut self.topics.held, held, |held| &mut held.by_topic);
        self.topics.table[topic].held = list;
        let it = self.topics.held.remove(held);
        self.timers.remove(it.timer);
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

    /// The call of a message that is held back is being erased: it is not published any more.
    pub(crate) fn end_held_publish(&mut self, turn: &mut Turn<'_, P>, held: u32) {
        let it = self.take_held(turn, held);
        self.held_less(turn, it.topic);
    }

    /// The deadline of a message that is held back, and that no call waits for, has come.
    pub(crate) fn held_due(&mut self, turn: &mut Turn<'_, P>, held: u32) {
        // The timer has come up: there is none to remove.
        self.topics.held[held].timer = TimerId::NONE;
        let it = self.take_held(turn, held);
        let why = "the deadline passed while a subscription had no room for the message";
        self.fail_held(turn, &it, Outcome::DeadlineExceeded, why);
        self.held_less(turn, it.topic);
    }

    /// A message left the line of a topic without being published: the next one may be luckier.
    fn held_less(&mut self, turn: &mut Turn<'_, P>, topic: u32) {
        if self.topics.table[topic].held.is_empty() {
            self.topics.holding.retain(|&one| one != topic);
            let object = self.topics.table[topic].object;
            self.release_object(turn, object);
        }
        self.release_later();
    }

    /// Tells whoever published a held message, other than by a call, that it is not to be.
    fn fail_held(&mut self, turn: &mut Turn<'_, P>, it: &Held<P>, outcome: Outcome, why: &str) {
        match it.origin {
            Origin::Call(_) => unreachable!("a call has an end of its own"),
            Origin::Send => self.send_failed(turn, &it.header, &it.tail, outcome, why),
            Origin::Will => self.counters.wills_failed += 1,
        }
    }

    /// Publishes what is held back as far as there is room now, once the present input is dealt with.
    pub(crate) fn release_later(&mut self) {
        if self.topics.holding.is_empty() {
            return;
        }
        if core::mem::replace(&mut self.topics.releasing, true) {
            self.topics.release_again = true;
        } else {
            let left = self.topics.holding.len() as u32;
            self.work.push_back(Work::Topic(Chore::Release { left }));
        }
    }

    /// A round over the topics with held messages, `left` of them to come.
    pub(crate) fn release_held(
        &mut self,
        turn: &mut Turn<'_, P>,
        mut left: u32,
        budget: &mut u32,
    ) -> Option<Work> {
        while 0 < left {
            if *budget == 0 {
                return Some(Work::Topic(Chore::Release { left }));
            }
            *budget -= 1;
            left -= 1;
            let Some(topic) = self.topics.holding.pop_front() else { break };
            while self.release_one(turn, topic) {
                *budget = budget.saturating_sub(1);
                if *budget == 0 && !self.topics.table[topic].held.is_empty() {
                    self.topics.holding.push_front(topic);
                    return Some(Work::Topic(Chore::Release { left: left + 1 }));
                }
            }
            if self.topics.table[topic].held.is_empty() {
                let object = self.topics.table[topic].object;
                self.release_object(turn, object);
            } else {
                self.topics.holding.push_back(topic);
            }
        }
        let left = self.topics.holding.len() as u32;
        if core::mem::take(&mut self.topics.release_again) && left != 0 {
            return Some(Work::Topic(Chore::Release { left }));
        }
        self.topics.releasing = false;
        None
    }

    /// Publishes the first of the held messages of a topic, if there is one and room for it.
    fn release_one(&mut self, turn: &mut Turn<'_, P>, topic: u32) -> bool {
        let Some(first) = self.topics.table[topic].held.first() else { return false };
        self.refresh_audience(topic);
        let header = self.topics.held[first].header;
        let checked = self.check_publication(topic, &header, &self.topics.held[first].tail);
        if let Ok(messages) = checked
            && self.is_blocked(topic, &header, messages)
        {
            return false;
        }
        let mut it = self.take_held(turn, first);
        let tail = core::mem::replace(&mut it.tail, P::own(Vec::new()));
        let done = checked.and_then(|messages| self.publish(turn, it.from, topic, &header, tail, messages));
        match (it.origin, done) {
            (Origin::Call(call), Ok(done)) => {
                self.calls[call].target = Target::Nowhere;
                let reply = Header { handle: header.handle, call: header.call, ..done.reply() };
                match done.position {
                    None => self.answer_call(turn, call, reply, Vec::new()),
                    Some(position) => {
                        self.answer_when_stored(turn, call, position, done.level, reply, Vec::new());
                    }
                }
            }
            (Origin::Call(call), Err((outcome, why))) => {
                self.calls[call].target = Target::Nowhere;
                self.end_by_broker(turn, call, outcome, &why);
            }
            (Origin::Send, Ok(_)) => {
                self.give_back(turn, header.handle, padded(header.len as usize) as u64);
            }
            (Origin::Will, Ok(_)) => {}
            (Origin::Send | Origin::Will, Err((outcome, why))) => self.fail_held(turn, &it, outcome, &why),
        }
        true
    }
}
