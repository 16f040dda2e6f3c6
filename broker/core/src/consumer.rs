//! Consumers: who takes messages out of queues, in turn, and how a message gets to them (SPEC 10.7).

use crate::broker::{Broker, Turn};
use crate::call::{Call, Target};
use crate::control::Refusal;
use crate::lease::Given;
use crate::list::Links;
use crate::message::{Message, State};
use crate::peer::Stage;
use crate::queue::Queues;
use crate::record::Delivered;
use crate::slab::NONE;
use crate::walk::Walk;
use crate::{Payload, SendTail};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;
use serde::{Deserialize, Serialize};
use switchboard_protocol::queue::{LeaseKind, Pop};
use switchboard_protocol::{
    EXTENSION_BYTES_MAX, Extensions, ExtensionsBuilder, HEADER_BYTES, Header, Kind, Outcome, PeerId, decode,
    encode, extension_type, flags,
};

/// A call that stays at a queue: a consumer, or somebody who walks through it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Consumer {
    pub(crate) call: u32,
    pub(crate) queue: u32,
    pub(crate) role: Role,
    pub(crate) place: Waits,
    pub(crate) by_queue: Links,
    /// In the list of those that are hungry, or of those that walk.
    pub(crate) by_turn: Links,
    pub(crate) by_stall: Links,
}

/// What it does there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Takes messages out.
    Pop { lease: LeaseKind, lease_ns: u64 },
    /// Goes from message to message.
    Walk(Walk),
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Waits {
    /// Credit, or its own work.
    Idle,
    /// A message.
    Hungry,
    /// Room in its peer's out queue.
    Stalled,
}

impl<P: Payload> Broker<P> {
    /// A call with method 2.
    pub(crate) fn pop(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        queue: u32,
        header: &Header,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let ask: Pop = decode(body).ok_or_else(malformed)?;
        let Some(lease) = LeaseKind::from_wire(ask.lease) else {
            return Err((Outcome::Invalid, format!("no lease has the number {} (SPEC 10.9)", ask.lease)));
        };
        let stream = header.flags & flags::STREAM != 0;
        if header.flags & flags::NO_WAIT != 0 && !stream {
            let in_turn = self.queues.table[queue].hungry.is_empty();
            if !in_turn || self.next_ready(turn.now, queue).is_none() || !self.can_take(from) {
                let name = &self.queues.table[queue].settings.name;
                let message =
                    format!("`{name}` has nothing to give now, and the call asked not to wait (SPEC 10.7)");
                return Err((Outcome::Busy, message));
            }
        }
        let role = Role::Pop { lease, lease_ns: if ask.lease_ns == 0 { LEASE_NS } else { ask.lease_ns } };
        let consumer = self.visit(turn, from, queue, header, role);
        if !stream {
            self.seek(consumer);
        }
        Ok(())
    }

    /// Keeps a call at a queue.
    pub(crate) fn visit(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        queue: u32,
        header: &Header,
        role: Role,
    ) -> u32 {
        let call = self.enter_call(turn, from, NONE, header);
        let at = &mut self.queues.table[queue];
        let walks = matches!(role, Role::Walk(_));
        let consumer = self.queues.consumers.insert(Consumer {
            call,
            queue,
            role,
            place: Waits::Idle,
            by_queue: Links::OUT,
            by_turn: Links::OUT,
            by_stall: Links::OUT,
        });
        at.visitors.push(&mut self.queues.consumers, consumer, |consumer| &mut consumer.by_queue);
        if walks {
            at.walkers.push(&mut self.queues.consumers, consumer, |consumer| &mut consumer.by_turn);
        }
        self.calls[call].target = Target::Consumer(consumer);
        consumer
    }

    /// A consumer waits for its turn from now on.
    fn seek(&mut self, consumer: u32) {
        let it = &mut self.queues.consumers[consumer];
        assert_eq!(it.place, Waits::Idle, "a consumer that waits for nothing");
        it.place = Waits::Hungry;
        let queue = it.queue;
        let at = &mut self.queues.table[queue];
        at.hungry.push(&mut self.queues.consumers, consumer, |consumer| &mut consumer.by_turn);
        if self.first_ready(queue).is_some() {
            self.stir(queue);
        }
    }

    /// Takes a consumer out of whatever it waits in.
    fn rest(&mut self, consumer: u32) {
        let it = &mut self.queues.consumers[consumer];
        let (place, queue, call) = (core::mem::replace(&mut it.place, Waits::Idle), it.queue, it.call);
        match place {
            Waits::Idle => {}
            Waits::Hungry => {
                let hungry = &mut self.queues.table[queue].hungry;
                hungry.remove(&mut self.queues.consumers, consumer, |consumer| &mut consumer.by_turn);
            }
            Waits::Stalled => {
                let slot = self.calls[call].caller.slot;
                let peer = self.peers[slot as usize].as_mut().expect("a caller that is connected");
                let stalled = &mut peer.consumers_stalled;
                stalled.remove(&mut self.queues.consumers, consumer, |consumer| &mut consumer.by_stall);
            }
        }
    }

    /// Puts a consumer, whose peer's out queue is full, where [`Self::advance_stalled_consumers`] finds
    /// it.
    pub(crate) fn stall_consumer(&mut self, consumer: u32) {
        self.rest(consumer);
        let it = &mut self.queues.consumers[consumer];
        it.place = Waits::Stalled;
        let slot = self.calls[it.call].caller.slot;
        let peer = self.peers[slot as usize].as_mut().expect("a caller that is connected");
        peer.consumers_stalled.push(&mut self.queues.consumers, consumer, |consumer| &mut consumer.by_stall);
    }

    /// Whether a peer's out queue takes a message now.
    #[inline]
    pub(crate) fn can_take(&self, slot: u32) -> bool {
        let peer = self.peer(slot);
        peer.stage == Stage::Ready
            && peer.unread <= u64::from(self.limits.link_bytes_high)
            && self.has_unread_room(slot, 0)
    }

    /// The consumer has granted credit.
    pub(crate) fn advance_consumer(&mut self, _turn: &mut Turn<'_, P>, consumer: u32) {
        let it = &self.queues.consumers[consumer];
        if it.place != Waits::Idle || self.calls[it.call].credit == 0 {
            return;
        }
        match it.role {
            Role::Pop { .. } => self.seek(consumer),
            Role::Walk(_) => self.walk_on(consumer),
        }
    }

    /// A peer's out queue has room again.
    #[inline]
    pub(crate) fn advance_stalled_consumers(&mut self, turn: &mut Turn<'_, P>, slot: u32) {
        while let Some(consumer) = self.peer(slot).consumers_stalled.first() {
            if !self.can_take(slot) {
                break;
            }
            self.rest(consumer);
            let it = &self.queues.consumers[consumer];
            match it.role {
                Role::Pop { .. } => {
                    let queue = it.queue;
                    self.seek(consumer);
                    self.feed_consumers(turn, queue);
                }
                Role::Walk(_) => self.walk_on(consumer),
            }
        }
    }

    /// The call of a consumer is being erased. What it was given stays leased.
    pub(crate) fn end_consumer(&mut self, _turn: &mut Turn<'_, P>, consumer: u32) {
        self.rest(consumer);
        let it = &self.queues.consumers[consumer];
        let at = &mut self.queues.table[it.queue];
        if matches!(it.role, Role::Walk(_)) {
            at.walkers.remove(&mut self.queues.consumers, consumer, |consumer| &mut consumer.by_turn);
        }
        at.visitors.remove(&mut self.queues.consumers, consumer, |consumer| &mut consumer.by_queue);
        self.queues.consumers.remove(consumer);
    }

    /// Gives what is ready to those whose turn it is.
    pub(crate) fn feed_consumers(&mut self, turn: &mut Turn<'_, P>, queue: u32) {
        loop {
            let at = &self.queues.table[queue];
            let Some(consumer) = at.hungry.first() else { break };
            if at.ready_bits == 0 && at.returned.is_empty() {
                break;
            }
            let Consumer { call, ref role, .. } = self.queues.consumers[consumer];
            let &Role::Pop { lease, lease_ns } = role else { unreachable!("who walks is never hungry") };
            let slot = self.calls[call].caller.slot;
            if !self.can_take(slot) {
                // Nobody is out of turn for what has expired.
                if self.next_ready(turn.now, queue).is_some() {
                    self.stall_consumer(consumer);
                }
                continue;
            }
            let lent = lease == LeaseKind::Attached
                && self.monitors.is_empty()
                && self.lend_plain(turn, queue, call, lease_ns);
            if !lent {
                let Some(message) = self.next_ready(turn.now, queue) else { break };
                match lease {
                    LeaseKind::None => self.give_away(turn, call, message),
                    LeaseKind::Attached | LeaseKind::Detached => {
                        self.lend(turn, call, message, lease, lease_ns);
                    }
                }
            }
            self.end_delivery(turn, consumer, call);
        }
    }

    /// Lends one message after the other, under leases that last as long as who gets them, as long as each is
    /// in the list of its priority with nothing aside, nobody else is hungry, and there is credit and room.
    /// Whether there was one.
    #[inline(always)]
    fn lend_plain(&mut self, turn: &mut Turn<'_, P>, queue: u32, call: u32, lease_ns: u64) -> bool {
        let secrets = self.queues.lease_secrets;
        let low = u64::from(self.limits.link_bytes_low);
        let Self { queues, calls, peers, counters, .. } = self;
        let Queues { table, messages, leases, leases_given, delivered, stirred, .. } = queues;
        let at = &mut table[queue];
        let call = &mut calls[call];
        let to = call.caller.slot;
        let peer = peers[to as usize].as_mut().expect("a caller that is connected");
        if !at.returned.is_empty() {
            return false;
        }
        let logged = at.is_logged();
        let mut lent = false;
        while let Some(slot) = at.first_listed() {
            let message = &mut messages[slot];
            if message.extra != NONE {
                break;
            }
            lent = true;
            let mut header = call.next_delivery(message);
            let given = Given { message, slot, kind: LeaseKind::Attached, lease_ns };
            let id = leases.give(given, peer, to, secrets, leases_given);
            header.epoch = id.low;
            header.caller = id.high;
            header.ext_len = message.ext_len;
            header.len = (HEADER_BYTES + message.tail.len()) as u32;
            peer.count_out(&header);
            // Lent from where it stays.
            turn.effects.forward(peer.id, &header, &message.tail);
            message.state = State::Leased;
            at.counts.delivered += 1;
            at.count_state(message.tail.len() as u64, State::Ready, State::Leased);
            if logged {
                let (position, deliveries) = (message.position, message.deliveries());
                delivered.push(Delivered { queue: at.id, position, deliveries, ready_at: 0 });
                *stirred = true;
            }
            let priority = usize::from(message.priority());
            let links = core::mem::replace(&mut message.by_state, Links::OUT);
            at.leave_ready(messages, links, priority);
            if low < peer.unread || call.credit == 0 || at.hungry.len() != 1 {
                break;
            }
        }
        if lent && !call.stream {
            counters.outcomes[Outcome::Reply as usize] += 1;
        }
        if lent && low < peer.unread {
            let kind = if call.stream { Kind::Item } else { Kind::Reply };
            self.much_unread(turn, to, kind);
        }
        lent
    }

    /// The header of a message's next delivery, but for its lease and its length; it counts from now on.
    fn next_delivery(&mut self, call: u32, message: u32) -> (u32, Header) {
        let Self { queues: Queues { table, messages, .. }, calls, counters, .. } = self;
        let it = &mut messages[message];
        table[it.queue].counts.delivered += 1;
        let call = &mut calls[call];
        if !call.stream {
            counters.outcomes[Outcome::Reply as usize] += 1;
        }
        (call.caller.slot, call.next_delivery(it))
    }

    /// Delivers a message under lease, whatever it is.
    #[inline(never)]
    fn lend(&mut self, turn: &mut Turn<'_, P>, call: u32, message: u32, lease: LeaseKind, lease_ns: u64) {
        let (to, mut header) = self.next_delivery(call, message);
        self.unplace(message);
        if let Some(delivered) = self.delivered_of(message) {
            self.queues.delivered.push(delivered);
            self.queues.stirred = true;
        }
        self.set_state(message, State::Leased);
        let id = self.new_lease(turn.now, message, to, lease, lease_ns);
        header.epoch = id.low;
        header.caller = id.high;
        let object = self.queues.table[self.queues.messages[message].queue].object;
        let shown = self.shown(message);
        self.send_message(turn, object, (to, header), shown);
    }

    /// Delivers a message that is consumed by that.
    #[inline(never)]
    fn give_away(&mut self, turn: &mut Turn<'_, P>, call: u32, message: u32) {
        let delivery = self.next_delivery(call, message);
        self.note_gone(message);
        let shown = self.shown(message);
        let at = &mut self.queues.table[self.queues.messages[message].queue];
        at.counts.acked += 1;
        let object = at.object;
        self.remove_message(turn.now, message);
        self.send_message(turn, object, delivery, shown);
    }

    /// Sends what consumers and those who peek get to see of a message.
    pub(crate) fn send_message(
        &mut self,
        turn: &mut Turn<'_, P>,
        object: u32,
        (to, header): (u32, Header),
        (ext_len, tail): (u16, SendTail<P>),
    ) {
        let header = sized(header, ext_len, &tail);
        self.tap(turn, PeerId { slot: 0, generation: 0 }, to, &header, &tail, object);
        self.push(turn, to, header, tail);
    }

    /// A consumer has its message: its call is over, or it waits for its next turn, behind all others.
    #[inline(always)]
    fn end_delivery(&mut self, turn: &mut Turn<'_, P>, consumer: u32, call: u32) {
        let it = &self.calls[call];
        if !it.stream {
            return self.erase_call(turn, call);
        }
        if it.credit == 0 {
            return self.rest(consumer);
        }
        let Queues { table, consumers, .. } = &mut self.queues;
        let hungry = &mut table[consumers[consumer].queue].hungry;
        if hungry.len() != 1 {
            hungry.remove(consumers, consumer, |consumer| &mut consumer.by_turn);
            hungry.push(consumers, consumer, |consumer| &mut consumer.by_turn);
        }
    }

    /// A message as consumers and those who peek get to see it: its extensions' length, and its bytes.
    pub(crate) fn shown(&self, message: u32) -> (u16, SendTail<P>) {
        let it = &self.queues.messages[message];
        let dead = self.queues.extras.get(it.extra).and_then(|extra| extra.dead.as_deref());
        let Some(dead) = dead else { return (it.ext_len, SendTail::Forward(it.tail.clone())) };
        let area = &it.tail.bytes()[..usize::from(it.ext_len)];
        let write = |extensions: Option<Extensions<'_>>| {
            let mut builder = ExtensionsBuilder::default();
            for extension in extensions.into_iter().flatten() {
                builder.add(extension.kind, extension.value);
            }
            builder.add(extension_type::DEAD_LETTER, &encode(dead));
            builder.finish()
        };
        let mut new = write(Extensions::parse(area));
        if usize::from(EXTENSION_BYTES_MAX) < new.len() {
            // What it came with leaves no room to say why it is here, which matters more.
            new = write(None);
        }
        (new.len() as u16, SendTail::Extended(Rc::from(new), it.tail.clone(), it.ext_len))
    }

    /// What the log says of the deliveries of a message; `None` where there is nothing to say.
    pub(crate) fn delivered_of(&self, message: u32) -> Option<Delivered> {
        let it = &self.queues.messages[message];
        let at = &self.queues.table[it.queue];
        let ready_at = self.queues.extras.get(it.extra).map_or(0, |extra| extra.ready_at);
        at.is_logged().then(|| Delivered {
            queue: at.id,
            position: it.position,
            deliveries: it.deliveries(),
            ready_at,
        })
    }
}

impl Call {
    /// The header of a message's next delivery under this call, but for its lease and its length; it counts
    /// from now on.
    #[inline(always)]
    fn next_delivery<P>(&mut self, message: &mut Message<P>) -> Header {
        message.set_deliveries(message.deliveries() + 1);
        let mut header = Header {
            method: message.counts,
            handle: self.handle,
            call: self.caller_call,
            deadline: message.position,
            ..Header::new(Kind::Reply)
        };
        if self.stream {
            self.credit -= 1;
            self.items += 1;
            header.kind = Kind::Item;
            header.seq = self.items;
        }
        header
    }
}

/// The header of a frame with this tail.
fn sized<P: Payload>(header: Header, ext_len: u16, tail: &SendTail<P>) -> Header {
    let len = match tail {
        SendTail::Forward(tail) => tail.len(),
        SendTail::Extended(area, tail, skip) => area.len() + tail.len() - usize::from(*skip),
        SendTail::Empty | SendTail::Own(_) | SendTail::Shown(_) | SendTail::Patched(..) => {
            unreachable!("a message is sent as it is, or extended")
        }
    };
    Header { ext_len, len: (HEADER_BYTES + len) as u32, ..header }
}

pub(crate) fn malformed() -> Refusal {
    (Outcome::Invalid, "the body is not as the method wants it (SPEC 7.11)".to_string())
}

/// How long a lease lasts unless its consumer says otherwise.
const LEASE_NS: u64 = 30_000_000_000;
