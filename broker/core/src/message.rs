//! Messages in queues: where each is on its way from push to gone, and what it is charged (SPEC 10.4).
//!
//! A message is one entry of a slab, as small as it can be: there may be millions. What few of them
//! have (a ttl, a delay, a group, a history) stands aside in an [`Extra`].

use crate::Payload;
use crate::broker::{Broker, DUE_MAX, Turn};
use crate::dead::Death;
use crate::list::Links;
use crate::queue::Queues;
use crate::slab::NONE;
use crate::storage::Thing;
use crate::timers::TimerId;
use crate::wishes::Load;
use alloc::boxed::Box;
use alloc::rc::Rc;
use serde::{Deserialize, Serialize};
use switchboard_protocol::Instant;
use switchboard_protocol::queue::DeadLetter;

/// A message from its push until it is gone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Message<P> {
    /// Extensions and payload, as pushed.
    pub(crate) tail: P,
    pub(crate) position: u64,
    pub(crate) by_queue: Links,
    /// In the list of those that are ready, or of those behind the head of their group.
    pub(crate) by_state: Links,
    /// Slot of its queue; [`NONE`] while the log is read.
    pub(crate) queue: u32,
    /// The user it is charged to.
    pub(crate) user: u32,
    /// The segment of the log that holds it; [`NONE`] for a message in memory.
    pub(crate) segment: u32,
    pub(crate) lease: u32,
    pub(crate) extra: u32,
    /// When it was pushed, in seconds since 1970.
    pub(crate) pushed_s: u32,
    /// Deliveries (lower 24 bits) and priority (upper 8), as a delivered frame has them (SPEC 10.7).
    pub(crate) counts: u32,
    pub(crate) ext_len: u16,
    pub(crate) state: State,
    /// Whether it is as safe as its queue promises; before that nobody gets to see it.
    pub(crate) stored: bool,
}

// A million messages must not take more than their payloads and this.
const _: () = assert!(size_of::<Message<[u64; 2]>>() == 72);

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub(crate) enum State {
    /// Not at the level that its queue promises yet, or just made.
    Storing,
    /// Ready, in the list of its priority.
    Ready,
    /// Ready, and earlier than what is in that list: it was delayed, or came back.
    Returned,
    /// To be ready later.
    Delayed,
    /// Behind another one of its group.
    Grouped,
    /// With a consumer.
    Leased,
}

/// Number of states.
pub(crate) const STATES: usize = 6;

/// What only some messages have.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Extra {
    /// Wall time from which it is not delivered any more; 0 for never.
    pub(crate) expires: u64,
    /// Wall time before which it is not delivered; 0 for none.
    pub(crate) ready_at: u64,
    pub(crate) timer: TimerId,
    /// The group that it is in, as head or behind it.
    pub(crate) group: u32,
    /// The key of its group, also of a dead letter, which is in none until it is driven back.
    pub(crate) key: Option<Rc<[u8]>>,
    /// Why it is to become a dead letter, as soon as there is room for it.
    pub(crate) dying: Option<Death>,
    /// Where it comes from, if it is a dead letter.
    pub(crate) dead: Option<Box<DeadLetter>>,
}

/// What a wall-clock timer is for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Due {
    /// A message expires, or its delay is over.
    Message(u32),
    /// A producer may have been silent for so long that it is forgotten.
    Mark(u32),
}

/// Bytes that any message takes in the log beside its own and its numbers.
const MESSAGE_COST: usize = 66;

/// Bytes of a number in postcard.
fn varint_len(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros();
    // Sevenths, rounded up.
    (((bits + 6) * 37) >> 8) as usize
}

/// What a message takes in the log that has nothing aside: the number of its queue, its position, its user
/// and its bytes.
#[inline(always)]
pub(crate) fn plain_cost(id: u64, position: u64, uid: u32, bytes: u64) -> u64 {
    let numbers = [id, position, uid.into(), bytes];
    let numbers: usize = numbers.into_iter().map(varint_len).sum();
    (MESSAGE_COST + numbers) as u64 + bytes
}

/// A delivery counter has so many bits.
pub(crate) const DELIVERIES_MAX: u32 = (1 << 24) - 1;

impl<P> Message<P> {
    /// A message that is in no queue yet.
    #[inline(always)]
    pub(crate) fn new(tail: P, user: u32, wall_ns: u64, priority: u8, ext_len: u16, stored: bool) -> Self {
        Self {
            tail,
            position: 0,
            by_queue: Links::OUT,
            by_state: Links::OUT,
            queue: NONE,
            user,
            segment: NONE,
            lease: NONE,
            extra: NONE,
            pushed_s: (wall_ns / 1_000_000_000) as u32,
            counts: u32::from(priority) << 24,
            ext_len,
            state: State::Storing,
            stored,
        }
    }

    pub(crate) fn priority(&self) -> u8 {
        (self.counts >> 24) as u8
    }

    pub(crate) fn deliveries(&self) -> u32 {
        self.counts & DELIVERIES_MAX
    }

    pub(crate) fn set_deliveries(&mut self, deliveries: u32) {
        self.counts = self.counts & !DELIVERIES_MAX | deliveries.min(DELIVERIES_MAX);
    }

    /// Its place among those that are ready: the least goes first.
    fn rank(&self) -> (u8, u64) {
        (31 - self.priority(), self.position)
    }
}

impl Extra {
    pub(crate) const fn new() -> Self {
        Self {
            expires: 0,
            ready_at: 0,
            timer: TimerId::NONE,
            group: NONE,
            key: None,
            dying: None,
            dead: None,
        }
    }
}

impl<P: Payload> Broker<P> {
    /// Charges a user for messages that come into queues.
    #[inline]
    pub(crate) fn charge(&mut self, user: u32, load: Load) {
        let user = &mut self.users[user];
        user.queued += load.count as u32;
        user.queued_bytes += load.bytes;
        self.queues.bytes += load.bytes;
    }

    /// Enters a message that belongs to no queue yet, and charges it.
    pub(crate) fn enter_message(&mut self, message: Message<P>) -> u32 {
        self.charge(message.user, Load { count: 1, bytes: message.tail.len() as u64 });
        self.queues.messages.insert(message)
    }

    /// Takes a message that is in no queue out of the world.
    #[inline(always)]
    pub(crate) fn erase_message(&mut self, now: Instant, message: u32) {
        let Message { extra, user, ref tail, .. } = self.queues.messages[message];
        let bytes = tail.len() as u64;
        if extra != NONE {
            let extra = self.queues.extras.remove(extra);
            self.queues.clock.remove(extra.timer);
        }
        self.queues.messages.free(message);
        self.refund(now, user, bytes);
    }

    /// A message of so many bytes, for which a user was charged, is gone.
    #[inline(always)]
    pub(crate) fn refund(&mut self, now: Instant, user: u32, bytes: u64) {
        self.queues.bytes -= bytes;
        let it = &mut self.users[user];
        it.queued -= 1;
        it.queued_bytes -= bytes;
        if it.connections == 0 {
            self.forget_user_if_unused(now, user);
        }
    }

    /// Puts a new message, which is charged already, behind all others of a queue.
    #[inline(always)]
    pub(crate) fn line_up(&mut self, queue: u32, mut message: Message<P>) -> u32 {
        let Queues { table, messages, due, stirred, .. } = &mut self.queues;
        let at = &mut table[queue];
        let (ready, priority) = (message.stored, usize::from(message.priority()));
        message.queue = queue;
        at.enter(&mut message);
        let message = messages.insert(message);
        at.all.take_in(messages, message, |message| &mut message.by_queue);
        if ready {
            // Nothing in its list is behind it.
            at.ready_bits |= 1 << priority;
            at.ready[priority].take_in(messages, message, |message| &mut message.by_state);
            if !at.hungry.is_empty() && !at.due {
                at.due = true;
                due.push(queue);
                *stirred = true;
            }
        }
        message
    }

    /// The same of some that are ready at once.
    #[inline(always)]
    pub(crate) fn line_up_all(&mut self, queue: u32, new: impl Iterator<Item = Message<P>>) {
        let Queues { table, messages, .. } = &mut self.queues;
        let at = &mut table[queue];
        for mut message in new {
            message.queue = queue;
            at.enter(&mut message);
            let priority = usize::from(message.priority());
            let message = messages.insert(message);
            at.all.take_in(messages, message, |message| &mut message.by_queue);
            at.ready_bits |= 1 << priority;
            at.ready[priority].take_in(messages, message, |message| &mut message.by_state);
        }
        if !at.hungry.is_empty() {
            self.stir(queue);
        }
    }

    /// The same of one that has something aside.
    pub(crate) fn line_up_with(
        &mut self,
        now: Instant,
        queue: u32,
        message: Message<P>,
        extra: Extra,
    ) -> u32 {
        let message = self.queues.messages.insert(message);
        self.queues.messages[message].extra = self.queues.extras.insert(extra);
        self.attach(message, queue);
        self.queues.table[queue].counts.pushed += 1;
        self.start(now, message);
        message
    }

    /// Puts a message behind all others of a queue.
    pub(crate) fn attach(&mut self, message: u32, queue: u32) {
        let position = self.queues.table[queue].position + 1;
        self.attach_at(message, queue, position);
    }

    /// The same at a position that it has had before; at the start only, and in their order.
    pub(crate) fn attach_at(&mut self, message: u32, queue: u32, position: u64) {
        let at = &mut self.queues.table[queue];
        let it = &mut self.queues.messages[message];
        if it.extra != NONE {
            at.letters += u32::from(self.queues.extras[it.extra].dead.is_some());
        }
        it.queue = queue;
        it.position = position;
        it.state = State::Storing;
        at.position = at.position.max(position);
        at.bytes += it.tail.len() as u64;
        at.states[State::Storing as usize] += 1;
        at.all.push(&mut self.queues.messages, message, |message| &mut message.by_queue);
    }

    /// A message was attached, and its segment and `stored` are as they should be: it takes its place.
    pub(crate) fn start(&mut self, now: Instant, message: u32) {
        let it = &self.queues.messages[message];
        if it.extra != NONE && !self.enter_group(message) {
            return self.set_state(message, State::Grouped);
        }
        if self.queues.messages[message].stored {
            self.place(now, message);
        }
    }

    /// A message, by its word, is at the level that its queue promises; it may be gone meanwhile.
    #[inline]
    pub(crate) fn stored(&mut self, now: Instant, word: u64) {
        let Queues { table, messages, .. } = &mut self.queues;
        let Some(message) = messages.find(word) else { return };
        let it = &mut messages[message];
        it.stored = true;
        if it.state != State::Storing {
            return;
        }
        let (queue, priority, position) = (it.queue, usize::from(it.priority()), it.position);
        let at = &mut table[queue];
        if it.extra != NONE
            || at.ready_bits & 1 << priority != 0 && {
                let last = at.ready[priority].last().expect("a list that is not empty");
                position <= messages[last].position
            }
        {
            return self.place(now, message);
        }
        // What is left of `place` where nothing is aside and its list ends before it.
        let links = at.ready[priority].end();
        let it = &mut messages[message];
        it.by_state = links;
        it.state = State::Ready;
        at.count_state(it.tail.len() as u64, State::Storing, State::Ready);
        at.ready_bits |= 1 << priority;
        at.ready[priority].take_in(messages, message, |message| &mut message.by_state);
        if !at.hungry.is_empty() && !at.due {
            self.stir(queue);
        }
    }

    /// Puts a message that is its group's head, and nowhere else, where it belongs by the clock. One
    /// that has expired goes when its timer comes up or a consumer would get it: not from here, where
    /// one after the other of its group could.
    pub(crate) fn place(&mut self, now: Instant, message: u32) {
        let extra = self.queues.messages[message].extra;
        if extra != NONE {
            let it = &self.queues.extras[extra];
            let delayed = self.wall(now) < it.ready_at;
            let at = match (it.expires, delayed) {
                (0, false) => None,
                (0, true) => Some(it.ready_at),
                (expires, false) => Some(expires),
                (expires, true) => Some(expires.min(it.ready_at)),
            };
            assert_eq!(it.timer, TimerId::NONE, "a message that is nowhere has no timer");
            if let Some(at) = at {
                self.queues.extras[extra].timer =
                    self.queues.clock.insert(Instant(at), Due::Message(message));
            }
            if delayed {
                return self.set_state(message, State::Delayed);
            }
        }
        self.make_ready(message);
    }

    fn make_ready(&mut self, message: u32) {
        let it = &self.queues.messages[message];
        let (queue, priority, position) = (it.queue, usize::from(it.priority()), it.position);
        let at = &mut self.queues.table[queue];
        let last = at.ready[priority].last();
        if last.is_none_or(|last| self.queues.messages[last].position < position) {
            at.ready_bits |= 1 << priority;
            at.ready[priority].push(&mut self.queues.messages, message, |message| &mut message.by_state);
            self.set_state(message, State::Ready);
        } else {
            at.returned.insert(it.rank(), message);
            self.set_state(message, State::Returned);
        }
        if !self.queues.table[queue].hungry.is_empty() {
            self.stir(queue);
        }
    }

    /// The message that goes next, expired or not.
    #[inline]
    pub(crate) fn first_ready(&self, queue: u32) -> Option<u32> {
        let at = &self.queues.table[queue];
        let listed = at.first_listed();
        if at.returned.is_empty() {
            return listed;
        }
        let (rank, &returned) = at.returned.first_key_value()?;
        let earlier = listed.filter(|&listed| self.queues.messages[listed].rank() < *rank);
        Some(earlier.unwrap_or(returned))
    }

    /// The message that goes next; those that have expired go away on the way there.
    #[inline]
    pub(crate) fn next_ready(&mut self, now: Instant, queue: u32) -> Option<u32> {
        loop {
            let message = self.first_ready(queue)?;
            if !self.is_expired(now, message) {
                return Some(message);
            }
            self.expire(now, message);
        }
    }

    #[inline]
    fn is_expired(&self, now: Instant, message: u32) -> bool {
        let extra = self.queues.messages[message].extra;
        extra != NONE && {
            let expires = self.queues.extras[extra].expires;
            expires != 0 && expires <= self.wall(now)
        }
    }

    fn expire(&mut self, now: Instant, message: u32) {
        self.queues.table[self.queues.messages[message].queue].counts.expired += 1;
        self.note_gone(message);
        self.remove_message(now, message);
    }

    /// Takes a message out of whatever it is in by its state.
    #[inline(always)]
    pub(crate) fn unplace(&mut self, message: u32) {
        let Queues { table, messages, .. } = &mut self.queues;
        let it = &messages[message];
        let (queue, priority, extra) = (it.queue, usize::from(it.priority()), it.extra);
        match it.state {
            State::Ready => {
                let links = core::mem::replace(&mut messages[message].by_state, Links::OUT);
                table[queue].leave_ready(messages, links, priority);
            }
            State::Leased => {
                let lease = it.lease;
                self.drop_lease(lease);
            }
            State::Returned => {
                table[queue].returned.remove(&it.rank()).expect("a message that came back");
            }
            State::Grouped => self.leave_line(message),
            State::Storing | State::Delayed => {}
        }
        if extra != NONE {
            let timer = core::mem::replace(&mut self.queues.extras[extra].timer, TimerId::NONE);
            self.queues.clock.remove(timer);
        }
    }

    #[inline(always)]
    pub(crate) fn set_state(&mut self, message: u32, state: State) {
        let it = &mut self.queues.messages[message];
        let before = core::mem::replace(&mut it.state, state);
        self.queues.table[it.queue].count_state(it.tail.len() as u64, before, state);
    }

    /// Takes a message out of its queue; it may go to another one.
    #[inline(always)]
    pub(crate) fn detach(&mut self, now: Instant, message: u32) {
        self.unplace(message);
        let Message { queue, extra, .. } = self.queues.messages[message];
        let at = &self.queues.table[queue];
        let (watched, waited_for) = (!at.walkers.is_empty(), !at.blocked.is_empty());
        if extra != NONE {
            self.leave_group(now, message);
            self.queues.table[queue].letters -= u32::from(self.is_dead_letter(message));
        }
        if watched {
            self.step_aside(message);
        }
        if waited_for {
            self.stir(queue);
        }
        let segment = core::mem::replace(&mut self.queues.messages[message].segment, NONE);
        if segment != NONE {
            self.let_go(segment, self.message_cost(message));
        }
        let Queues { table, messages, .. } = &mut self.queues;
        let at = &mut table[queue];
        at.all.remove(messages, message, |message| &mut message.by_queue);
        let it = &mut messages[message];
        at.forget(it.tail.len() as u64, core::mem::replace(&mut it.state, State::Storing));
        it.queue = NONE;
    }

    /// Takes a message out of the world.
    #[inline(always)]
    pub(crate) fn remove_message(&mut self, now: Instant, message: u32) {
        self.detach(now, message);
        self.erase_message(now, message);
    }

    /// Bytes that a message takes in the log: hardly less than a copy of it, or copying would look as if
    /// it left waste behind. It changes only while the message is in no segment, so a ttl and a delay,
    /// which come and go, are left out.
    #[inline(always)]
    pub(crate) fn message_cost(&self, message: u32) -> u64 {
        let it = &self.queues.messages[message];
        let id = self.queues.table[it.queue].id;
        let plain = plain_cost(id, it.position, self.users[it.user].uid, it.tail.len() as u64);
        if it.extra == NONE {
            return plain;
        }
        let extra = self.queues.extras.get(it.extra).map_or(0, |extra| {
            let letter = |dead: &DeadLetter| dead.queue.len() + dead.reason.len() + 48;
            let key = extra.key.as_ref().map_or(0, |key| key.len());
            key + extra.dead.as_deref().map_or(0, letter)
        });
        plain + extra as u64
    }

    /// A message of a durable queue is in the segment that is written now.
    #[inline]
    pub(crate) fn hold_message(&mut self, message: u32) {
        let cost = self.message_cost(message);
        self.queues.messages[message].segment = self.storage.hold(Thing::Message(message), cost);
    }

    /// What few messages have, made if need be.
    pub(crate) fn extra_mut(&mut self, message: u32) -> &mut Extra {
        let it = &mut self.queues.messages[message];
        if it.extra == NONE {
            it.extra = self.queues.extras.insert(Extra::new());
        }
        &mut self.queues.extras[it.extra]
    }

    /// Wall time, in nanoseconds since 1970.
    #[inline]
    pub(crate) fn wall(&self, now: Instant) -> u64 {
        let wall = i128::from(now.0) + self.wall_offset;
        u64::try_from(wall.max(0)).unwrap_or(u64::MAX)
    }

    /// The next moment at which a message expires or its delay is over.
    pub(crate) fn queues_wake(&self) -> Option<Instant> {
        let wall = self.queues.clock.next()?;
        let now = i128::from(wall.0) - self.wall_offset;
        // Not 0, which means work that is left over.
        Some(Instant(u64::try_from(now.max(1)).unwrap_or(u64::MAX)))
    }

    /// Does what the wall clock has made due.
    pub(crate) fn queues_due(&mut self, turn: &mut Turn<'_, P>) {
        let wall = Instant(self.wall(turn.now));
        for _ in 0..DUE_MAX {
            match self.queues.clock.due(wall) {
                None => break,
                Some(Due::Mark(mark)) => self.mark_due(turn.now, mark),
                Some(Due::Message(message)) => {
                    let extra = self.queues.messages[message].extra;
                    self.queues.extras[extra].timer = TimerId::NONE;
                    if self.is_expired(turn.now, message) {
                        self.expire(turn.now, message);
                    } else if self.queues.extras[extra].dying.is_some() {
                        self.bury(turn, message);
                    } else {
                        self.queues.extras[extra].ready_at = 0;
                        self.place(turn.now, message);
                    }
                }
            }
        }
    }
}
