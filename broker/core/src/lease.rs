//! Leases: whose a delivered message is, for how long, and how it is given up (SPEC 10.9, 10.10).

use crate::broker::{Broker, Timer, Turn};
use crate::consumer::malformed;
use crate::control::Refusal;
use crate::dead::Death;
use crate::list::Links;
use crate::message::{Message, State, plain_cost};
use crate::peer::Peer;
use crate::queue::Queues;
use crate::record::{Change, Place, Record};
use crate::siphash::SipHash;
use crate::slab::{NONE, Slab};
use crate::timers::TimerId;
use crate::{Departure, Payload};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};
use switchboard_protocol::queue::{Extend, LEASE_BYTES, LeaseId, LeaseKind, Level, Nack, NackHow};
use switchboard_protocol::{Header, Instant, Kind, Outcome, decode};

/// A message that is with a consumer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// The half of its id that cannot be guessed.
    high: u64,
    pub(crate) message: u32,
    /// Every connection of this user may give it up.
    uid: u32,
    /// The peer with which it ends; [`NONE`] if it has left, or the lease is detached.
    pub(crate) holder: u32,
    lease_ns: u64,
    pub(crate) timer: TimerId,
    pub(crate) by_peer: Links,
}

/// A consumer that has lost its connection and not its life has so long to come back.
const ORPHAN_NS: u64 = 5_000_000_000;

/// Leases given up in one call.
const ACK_MAX: usize = 16_384;

/// A message that is given under lease.
pub(crate) struct Given<'a, P> {
    pub(crate) message: &'a mut Message<P>,
    pub(crate) slot: u32,
    pub(crate) kind: LeaseKind,
    pub(crate) lease_ns: u64,
}

impl Slab<Lease> {
    /// Makes the lease of a message; one that is not attached is timed by who asks.
    #[inline(always)]
    pub(crate) fn give<P>(
        &mut self,
        given: Given<'_, P>,
        peer: &mut Peer,
        holder: u32,
        secrets: SipHash,
        number: &mut u64,
    ) -> LeaseId {
        *number += 1;
        let high = secrets.of(*number);
        let attached = given.kind == LeaseKind::Attached;
        let low = self.insert_word(Lease {
            high,
            message: given.slot,
            uid: peer.identity.uid,
            holder: if attached { holder } else { NONE },
            lease_ns: given.lease_ns,
            timer: TimerId::NONE,
            by_peer: if attached { peer.leases.end() } else { Links::OUT },
        });
        given.message.lease = low as u32;
        if attached {
            peer.leases.take_in(self, low as u32, |lease| &mut lease.by_peer);
        }
        LeaseId { low, high }
    }
}

impl<P: Payload> Broker<P> {
    /// Makes the lease of a message that is being delivered.
    pub(crate) fn new_lease(
        &mut self,
        now: Instant,
        message: u32,
        holder: u32,
        kind: LeaseKind,
        lease_ns: u64,
    ) -> LeaseId {
        let secrets = self.queues.lease_secrets;
        let peer = self.peers[holder as usize].as_mut().expect("a consumer that is connected");
        let Queues { leases, messages, leases_given, .. } = &mut self.queues;
        let given = Given { message: &mut messages[message], slot: message, kind, lease_ns };
        let id = leases.give(given, peer, holder, secrets, leases_given);
        if kind != LeaseKind::Attached {
            self.time_lease(now, id.low as u32, lease_ns);
        }
        id
    }

    pub(crate) fn time_lease(&mut self, now: Instant, lease: u32, ns: u64) {
        let it = &mut self.queues.leases[lease];
        self.timers.remove(it.timer);
        it.timer = self.timers.insert(now.after(Duration::from_nanos(ns)), Timer::Lease(lease));
    }

    /// Ends a lease; what becomes of the message is decided elsewhere.
    #[inline(always)]
    pub(crate) fn drop_lease(&mut self, lease: u32) {
        self.let_holder_go(lease);
        let Lease { timer, message, .. } = self.queues.leases[lease];
        if timer != TimerId::NONE {
            self.timers.remove(timer);
        }
        self.queues.leases.free(lease);
        self.queues.messages[message].lease = NONE;
    }

    #[inline(always)]
    fn let_holder_go(&mut self, lease: u32) {
        let holder = core::mem::replace(&mut self.queues.leases[lease].holder, NONE);
        if holder != NONE {
            let peer = self.peers[holder as usize].as_mut().expect("a holder that is connected");
            peer.leases.remove(&mut self.queues.leases, lease, |lease| &mut lease.by_peer);
        }
    }

    /// The leased message that an id names, if who has this user id may give it up.
    fn find_leased(&self, uid: u32, queue: u32, id: LeaseId) -> Option<u32> {
        let (_, lease) = self.queues.leases.find_value(id.low)?;
        let valid =
            lease.high == id.high && lease.uid == uid && self.queues.messages[lease.message].queue == queue;
        valid.then_some(lease.message)
    }

    /// Takes the leased message that an id names out of the world, if who has this user id may give it
    /// up: its position.
    #[inline(always)]
    fn consume(&mut self, now: Instant, uid: u32, queue: u32, id: LeaseId) -> Option<u64> {
        let Self { queues: Queues { table, messages, leases, .. }, peers, users, .. } = self;
        let (slot, lease) = leases.find_value(id.low)?;
        let &Lease { message, holder, timer, by_peer, .. } = lease;
        let it = &messages[message];
        if lease.high != id.high || lease.uid != uid || it.queue != queue {
            return None;
        }
        let &Message { user, extra, segment, position, by_queue, ref tail, .. } = it;
        let at = &mut table[queue];
        if extra != NONE || timer != TimerId::NONE || !at.walkers.is_empty() || !at.blocked.is_empty() {
            self.remove_with_all(now, message);
            return Some(position);
        }
        // What is left of `remove_message` where nothing else hangs on it.
        let bytes = tail.len() as u64;
        let cost = if segment == NONE { 0 } else { plain_cost(at.id, position, users[user].uid, bytes) };
        if holder != NONE {
            let peer = peers[holder as usize].as_mut().expect("a holder that is connected");
            peer.leases.close(leases, by_peer, |lease| &mut lease.by_peer);
        }
        leases.free(slot);
        at.all.close(messages, by_queue, |message| &mut message.by_queue);
        at.forget(bytes, State::Leased);
        messages.free(message);
        self.refund(now, user, bytes);
        if segment != NONE {
            self.let_go(segment, cost);
        }
        Some(position)
    }

    #[inline(never)]
    fn remove_with_all(&mut self, now: Instant, message: u32) {
        self.remove_message(now, message);
    }

    /// The holder of an attached lease is gone (SPEC 10.9).
    pub(crate) fn lease_orphaned(&mut self, turn: &mut Turn<'_, P>, lease: u32, how: Departure) {
        if how.process_ended {
            return self.come_back(turn, self.queues.leases[lease].message);
        }
        self.let_holder_go(lease);
        let ns = self.queues.leases[lease].lease_ns.min(ORPHAN_NS);
        self.time_lease(turn.now, lease, ns);
    }

    /// A lease has run out.
    pub(crate) fn lease_due(&mut self, turn: &mut Turn<'_, P>, lease: u32) {
        self.queues.leases[lease].timer = TimerId::NONE;
        self.come_back(turn, self.queues.leases[lease].message);
    }

    /// A leased message was not dealt with: it is there again, or has been too often.
    fn come_back(&mut self, turn: &mut Turn<'_, P>, message: u32) {
        if self.is_worn_out(message) {
            self.bury_or_keep(turn, message, Death::Deliveries);
        } else {
            self.put_back(turn.now, message, 0);
        }
    }

    /// Whether a message has been delivered as often as its queue lets it.
    fn is_worn_out(&self, message: u32) -> bool {
        let it = &self.queues.messages[message];
        let at = &self.queues.table[it.queue];
        at.object != NONE && at.settings.deliveries_max <= it.deliveries() && !self.is_dead_letter(message)
    }

    /// Puts a leased message back to its place, to be ready after `delay_ns`.
    pub(crate) fn put_back(&mut self, now: Instant, message: u32, delay_ns: u64) {
        self.unplace(message);
        if delay_ns != 0 {
            let ready_at = self.wall(now).saturating_add(delay_ns);
            self.extra_mut(message).ready_at = ready_at;
        }
        self.set_state(message, State::Storing);
        self.place(now, message);
    }

    // --- calls ---

    /// A call with method 3.
    pub(crate) fn ack(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        queue: u32,
        header: &Header,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let (ids, rest) = body.as_chunks::<LEASE_BYTES>();
        if ids.is_empty() || !rest.is_empty() {
            return Err((Outcome::Invalid, "an Ack is leases of 16 bytes (SPEC 10.10)".to_string()));
        }
        if ACK_MAX < ids.len() {
            return Err((Outcome::TooLarge, format!("{} leases in one Ack; at most {ACK_MAX}", ids.len())));
        }
        let at = &self.queues.table[queue];
        let (level, id) = (at.level(), at.id);
        self.check_writable(level)?;
        let uid = self.peer(from).identity.uid;
        let logged = level != Level::Memory;
        let mut gone = Vec::with_capacity(if logged { ids.len() } else { 0 });
        let mut done = if 1 < ids.len() { alloc::vec![0; ids.len()] } else { Vec::new() };
        let mut acked = 0;
        for (at, bytes) in ids.iter().enumerate() {
            let Some(position) = self.consume(turn.now, uid, queue, LeaseId::from_bytes(bytes)) else {
                if let Some(done) = done.get_mut(at) {
                    *done = 1;
                }
                continue;
            };
            acked += 1;
            if logged {
                gone.push(Place { queue: id, position });
            }
        }
        self.queues.table[queue].counts.acked += acked;
        if ids.len() == 1 && acked == 0 {
            return Err(lease_lost());
        }
        if gone.is_empty() {
            self.answer_unchanged(turn, from, header, level, done);
        } else {
            let change = Record::Change(Change { gone, ..Change::default() });
            self.answer_changed(turn, from, header, level, Some(change), done);
        }
        Ok(())
    }

    /// A call with method 4.
    pub(crate) fn nack(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        queue: u32,
        header: &Header,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let ask: Nack = decode(body).ok_or_else(malformed)?;
        let Some(how) = NackHow::from_wire(ask.how) else {
            return Err((Outcome::Invalid, format!("no Nack has the number {} (SPEC 10.10)", ask.how)));
        };
        let level = self.queues.table[queue].level();
        self.check_writable(level)?;
        let message =
            self.find_leased(self.peer(from).identity.uid, queue, ask.lease).ok_or_else(lease_lost)?;
        let death = match how {
            NackHow::Requeue => {
                let it = &mut self.queues.messages[message];
                it.set_deliveries(it.deliveries().saturating_sub(1));
                None
            }
            NackHow::Fail => self.is_worn_out(message).then_some(Death::Deliveries),
            NackHow::Dead => (!self.is_dead_letter(message)).then_some(Death::Refused),
        };
        let before = self.storage.position();
        let word = self.queues.messages.word(message);
        match death {
            Some(death) => self.bury_or_keep(turn, message, death),
            None => self.put_back(turn.now, message, ask.delay_ns),
        }
        // A record was appended where it was buried; where it is still here, one is due.
        if self.storage.position() != before {
            let log = self.storage.position();
            let call = self.enter_call(turn, from, NONE, header);
            let reply = Header { method: level as u32, epoch: log, ..Header::new(Kind::Reply) };
            self.answer_when_stored(turn, call, log, level, reply, Vec::new());
            return Ok(());
        }
        let stays = self.queues.messages.find(word).filter(|&it| self.queues.messages[it].queue == queue);
        let delivered = stays.and_then(|message| self.delivered_of(message));
        let record = delivered.map(|it| Record::Delivered(alloc::vec![it]));
        self.answer_changed(turn, from, header, level, record, Vec::new());
        Ok(())
    }

    /// Answers a call that has changed a queue, once its record is as safe as the queue promises.
    pub(crate) fn answer_changed(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        header: &Header,
        level: Level,
        record: Option<Record>,
        body: Vec<u8>,
    ) {
        let Some(record) = record else { return self.answer_unchanged(turn, from, header, level, body) };
        let log = self.append(turn, &record, None, level == Level::Disk);
        let reply = Header { method: level as u32, epoch: log, ..Header::new(Kind::Reply) };
        let call = self.enter_call(turn, from, NONE, header);
        self.answer_when_stored(turn, call, log, level, reply, body);
    }

    /// The same where there is no record to wait for.
    #[inline]
    fn answer_unchanged(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        header: &Header,
        level: Level,
        body: Vec<u8>,
    ) {
        let method = level as u32;
        let reply = Header { method, handle: header.handle, call: header.call, ..Header::new(Kind::Reply) };
        self.counters.outcomes[Outcome::Reply as usize] += 1;
        let tail = if body.is_empty() { crate::SendTail::Empty } else { crate::SendTail::Own(body) };
        self.push(turn, from, reply, tail);
    }

    /// A call with method 5.
    pub(crate) fn extend(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        queue: u32,
        header: &Header,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let ask: Extend = decode(body).ok_or_else(malformed)?;
        let message =
            self.find_leased(self.peer(from).identity.uid, queue, ask.lease).ok_or_else(lease_lost)?;
        let lease = self.queues.messages[message].lease;
        // An attached one lasts as long as its holder, which is here.
        if self.queues.leases[lease].holder == NONE {
            self.time_lease(turn.now, lease, ask.by_ns);
        }
        self.reply_at_once(turn, from, header, Vec::new());
        Ok(())
    }
}

fn lease_lost() -> Refusal {
    let message = "the lease is over: acknowledged, run out, of an earlier broker, or of somebody else";
    (Outcome::LeaseLost, message.to_string())
}
