//! Queues: every message to one consumer (SPEC 10). What a queue is, how it is made and deleted, and
//! who deals with which call on it.

use crate::blocked::Blocked;
use crate::broker::{Broker, Turn, Work};
use crate::consumer::Consumer;
use crate::control::{Answer, Refusal};
use crate::dedupe::Mark;
use crate::group::Group;
use crate::handle::Loss;
use crate::lease::Lease;
use crate::list::{Links, List};
use crate::message::{DELIVERIES_MAX, Due, Extra, Message, STATES, State};
use crate::record::{Delivered, Place, QueueMade, Record};
use crate::siphash::SipHash;
use crate::slab::{NONE, Slab};
use crate::storage::Thing;
use crate::timers::Timers;
use crate::{Effect, Fact, Payload, QueueSettings};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::queue::{CreateQueue, Created, Level, Overflow, QueueInfo, QueueMethod};
use switchboard_protocol::{
    Header, Instant, Kind, Name, ObjectKind, Outcome, Rights, Tail, Verb, encode, extension_type,
};

/// All queues and what is in them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub(crate) struct Queues<P> {
    declared: Vec<QueueSettings>,
    pub(crate) table: Slab<Queue>,
    pub(crate) messages: Slab<Message<P>>,
    pub(crate) extras: Slab<Extra>,
    pub(crate) groups: Slab<Group>,
    pub(crate) leases: Slab<Lease>,
    pub(crate) consumers: Slab<Consumer>,
    pub(crate) blocked: Slab<Blocked<P>>,
    pub(crate) marks: Slab<Mark>,
    /// By wall time.
    pub(crate) clock: Timers<Due>,
    /// Bytes of all messages.
    pub(crate) bytes: u64,
    /// What the half of a lease's id that cannot be guessed is made from: a secret, and the incarnation, so
    /// that a secret used twice gives no lease twice.
    pub(crate) lease_secrets: SipHash,
    /// Leases given out by this incarnation.
    pub(crate) leases_given: u64,
    /// Whether [`Broker::settle_queues`] has something to do.
    pub(crate) stirred: bool,
    /// Queues at which consumers or blocked pushes may go on.
    pub(crate) due: Vec<u32>,
    /// What is to be appended about messages that are gone, and about those that were delivered.
    pub(crate) gone: Vec<Place>,
    pub(crate) delivered: Vec<Delivered>,
    /// What was to be logged before there was an input to log it with.
    unsaid: Vec<Fact>,
}

/// One queue.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Queue {
    /// [`NONE`] once it was deleted, while it is taken down.
    pub(crate) object: u32,
    pub(crate) settings: QueueSettings,
    /// Whether configuration names it.
    pub(crate) declared: bool,
    /// The latest position given out.
    pub(crate) position: u64,
    /// Every message, in the order of positions.
    pub(crate) all: List,
    pub(crate) bytes: u64,
    pub(crate) leased_bytes: u64,
    /// Dead letters among the messages.
    pub(crate) letters: u32,
    /// Messages by [`State`].
    pub(crate) states: [u32; STATES],
    /// Those that are ready, by priority and in the order of positions, and which of these lists are
    /// not empty.
    pub(crate) ready: [List; 32],
    pub(crate) ready_bits: u32,
    /// Those that are ready too, but earlier than the last one of their list.
    pub(crate) returned: BTreeMap<(u8, u64), u32>,
    pub(crate) groups: BTreeMap<Rc<[u8]>, u32>,
    pub(crate) marks: BTreeMap<(u32, u64), u32>,
    /// Consumers, walks included.
    pub(crate) visitors: List,
    /// Those of them that walk.
    pub(crate) walkers: List,
    /// Consumers that could take a message now, whose turn it is first.
    pub(crate) hungry: List,
    /// Pushes that wait for room.
    pub(crate) blocked: List,
    /// Whether it is in [`Queues::due`].
    pub(crate) due: bool,
    /// Its number in the log; 0 if it is not there.
    pub(crate) id: u64,
    /// Position and segment of the latest record about itself.
    pub(crate) logged: u64,
    pub(crate) segment: u32,
    /// Bytes that it takes there.
    pub(crate) cost: u64,
    pub(crate) counts: QueueCounts,
}

/// What a queue has seen since the broker's start.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct QueueCounts {
    pub(crate) pushed: u64,
    pub(crate) delivered: u64,
    pub(crate) acked: u64,
    pub(crate) dropped: u64,
    pub(crate) expired: u64,
    pub(crate) dead: u64,
    pub(crate) duplicates: u64,
}

/// Bytes that a queue itself takes in the log beside its names.
const QUEUE_COST: usize = 96;

impl<P> Queues<P> {
    pub(crate) fn new(declared: Vec<QueueSettings>, lease_secrets: SipHash) -> Self {
        Self {
            declared,
            table: Slab::new(),
            messages: Slab::new(),
            extras: Slab::new(),
            groups: Slab::new(),
            leases: Slab::new(),
            consumers: Slab::new(),
            blocked: Slab::new(),
            marks: Slab::new(),
            clock: Timers::new(),
            bytes: 0,
            lease_secrets,
            leases_given: 0,
            stirred: false,
            due: Vec::new(),
            gone: Vec::new(),
            delivered: Vec::new(),
            unsaid: Vec::new(),
        }
    }

    /// Messages in all queues.
    pub(crate) fn messages(&self) -> u64 {
        self.messages.len().into()
    }

    /// Bytes of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is nothing of any queue but those that are configured.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.iter().all(|(_, queue)| queue.declared)
            && self.messages.is_empty()
            && self.extras.is_empty()
            && self.groups.is_empty()
            && self.leases.is_empty()
            && self.consumers.is_empty()
            && self.blocked.is_empty()
            && self.marks.is_empty()
            && self.clock.len() == 0
            && self.bytes == 0
    }

    /// What a queue itself needs.
    pub(crate) const QUEUE_BYTES: u64 = size_of::<Queue>() as u64;
    /// What a message needs beside its bytes: its place in the table, and that of the one in many that
    /// has more to it.
    pub(crate) const MESSAGE_BYTES: u64 = (size_of::<Message<P>>() + 8 + size_of::<Extra>()) as u64;
}

impl Queue {
    fn new(object: u32, settings: QueueSettings) -> Self {
        Self {
            object,
            settings,
            declared: false,
            position: 0,
            all: List::EMPTY,
            bytes: 0,
            leased_bytes: 0,
            letters: 0,
            states: [0; STATES],
            ready: [List::EMPTY; 32],
            ready_bits: 0,
            returned: BTreeMap::new(),
            groups: BTreeMap::new(),
            marks: BTreeMap::new(),
            visitors: List::EMPTY,
            walkers: List::EMPTY,
            hungry: List::EMPTY,
            blocked: List::EMPTY,
            due: false,
            id: 0,
            logged: 0,
            segment: NONE,
            cost: 0,
            counts: QueueCounts::default(),
        }
    }

    pub(crate) fn level(&self) -> Level {
        self.settings.durability
    }

    /// Whether what happens to it belongs into the log.
    pub(crate) fn is_logged(&self) -> bool {
        self.settings.durability != Level::Memory && self.object != NONE
    }

    /// Of those that are ready and in its lists, the one that goes next.
    #[inline(always)]
    pub(crate) fn first_listed(&self) -> Option<u32> {
        match self.ready_bits {
            0 => None,
            bits => self.ready[31 - bits.leading_zeros() as usize].first(),
        }
    }

    /// A message that had these links goes out of the list of its priority.
    #[inline(always)]
    pub(crate) fn leave_ready<P>(&mut self, messages: &mut Slab<Message<P>>, links: Links, priority: usize) {
        let list = &mut self.ready[priority];
        list.close(messages, links, |message| &mut message.by_state);
        if list.is_empty() {
            self.ready_bits &= !(1 << priority);
        }
    }

    /// A message of so many bytes has come from one state into another.
    #[inline(always)]
    pub(crate) fn count_state(&mut self, bytes: u64, before: State, state: State) {
        self.states[before as usize] -= 1;
        self.states[state as usize] += 1;
        self.leased_bytes -= if before == State::Leased { bytes } else { 0 };
        self.leased_bytes += if state == State::Leased { bytes } else { 0 };
    }

    /// A new message comes behind all others, ready if it is stored; its lists take it in next.
    #[inline(always)]
    pub(crate) fn enter<P: Payload>(&mut self, message: &mut Message<P>) {
        self.position += 1;
        self.bytes += message.tail.len() as u64;
        self.counts.pushed += 1;
        message.position = self.position;
        message.by_queue = self.all.end();
        if message.stored {
            message.state = State::Ready;
            message.by_state = self.ready[usize::from(message.priority())].end();
        }
        self.states[message.state as usize] += 1;
    }

    /// A message of so many bytes that was in this state has left.
    #[inline(always)]
    pub(crate) fn forget(&mut self, bytes: u64, state: State) {
        self.bytes -= bytes;
        self.states[state as usize] -= 1;
        self.leased_bytes -= if state == State::Leased { bytes } else { 0 };
    }

    /// Whether `count` messages of `bytes` more are too many.
    #[inline]
    pub(crate) fn is_full(&self, count: u64, bytes: u64) -> bool {
        self.settings.messages_max < u64::from(self.all.len()) + count
            || self.settings.bytes_max < self.bytes + bytes
    }
}

impl<P: Payload> Broker<P> {
    // --- making ---

    /// The queues that are configured are there from the beginning.
    pub(crate) fn make_declared_queues(&mut self, now: Instant) {
        let mut effects = Vec::new();
        let declared = core::mem::take(&mut self.queues.declared);
        let mut turn = Turn { now, effects: &mut effects };
        self.declare_queues(&mut turn, declared);
        // Nobody listens before the first input.
        for effect in effects {
            let Effect::Log(fact) = effect else { unreachable!("nothing is sent or appended yet") };
            self.queues.unsaid.push(fact);
            self.queues.stirred = true;
        }
    }

    /// New configuration is in force.
    pub(crate) fn declare_queues(&mut self, turn: &mut Turn<'_, P>, declared: Vec<QueueSettings>) {
        for slot in 0..self.queues.table.slots() {
            if self.queues.table.get(slot).is_some() {
                self.queues.table[slot].declared = false;
            }
        }
        for settings in declared.clone() {
            let refused = match self.names.get(&settings.name).copied() {
                Some(object) if self.objects[object].body != NONE && self.is_queue(object) => {
                    self.redeclare_queue(turn, self.objects[object].body, settings)
                }
                _ => {
                    let user = self.user_of(0);
                    let name = settings.name.clone();
                    let made = self.make_queue(turn, settings, user);
                    self.forget_user_if_unused(turn.now, user);
                    made.map(|queue| self.queues.table[queue].declared = true).map_err(|why| (name, why.1))
                }
            };
            if let Err((name, message)) = refused {
                turn.log(Fact::QueueRefused { name: name.to_string(), message });
            }
        }
        self.queues.declared = declared;
    }

    fn is_queue(&self, object: u32) -> bool {
        self.objects[object].kind == ObjectKind::Queue
    }

    /// Settings of a queue that is there have changed. What it promises of its messages has not: those
    /// in it were taken under that promise.
    fn redeclare_queue(
        &mut self,
        turn: &mut Turn<'_, P>,
        queue: u32,
        mut settings: QueueSettings,
    ) -> Result<(), (Name, String)> {
        let at = &mut self.queues.table[queue];
        at.declared = true;
        let (has, wants) = (at.settings.durability, settings.durability);
        let changes_kind = (has == Level::Memory) != (wants == Level::Memory);
        if changes_kind {
            settings.durability = has;
        }
        let name = settings.name.clone();
        if at.settings != settings {
            at.settings = settings;
            self.log_queue(turn, queue);
            // Its bounds may be wider.
            self.stir(queue);
        }
        if changes_kind {
            let message = format!(
                "its durability is `{}` and stays so, not `{}`: delete the queue to change that",
                has.as_str(),
                wants.as_str()
            );
            return Err((name, message));
        }
        Ok(())
    }

    /// Makes a queue whose name is free, or nothing but waited for.
    pub(crate) fn make_queue(
        &mut self,
        turn: &mut Turn<'_, P>,
        settings: QueueSettings,
        user: u32,
    ) -> Result<u32, Refusal> {
        let name = &settings.name;
        let object = match self.names.get(name).copied() {
            None => {
                let object = self.new_object(Some(name.clone()), ObjectKind::Queue, user)?;
                self.names.insert(name.clone(), object);
                object
            }
            Some(object) if self.is_only_waited_for(object) => object,
            Some(object) => {
                let kind = self.objects[object].kind.as_str();
                let message =
                    format!("`{name}` stands for a {kind}, and a name stands for one thing (SPEC 3.4)");
                return Err((Outcome::Invalid, message));
            }
        };
        let queue = self.queues.table.insert(Queue::new(object, settings));
        self.objects[object].body = queue;
        self.log_queue(turn, queue);
        self.begin_object(turn, object, ObjectKind::Queue);
        Ok(queue)
    }

    /// Appends what a durable queue is. Without a log there is nothing to append to; once it is ready,
    /// it holds every queue.
    pub(crate) fn log_queue(&mut self, turn: &mut Turn<'_, P>, queue: u32) {
        if !self.queues.table[queue].is_logged() || !self.storage.is_ready() {
            return;
        }
        let next = self.storage.position() + 1;
        let at = &mut self.queues.table[queue];
        if at.id == 0 {
            at.id = next;
        }
        let settings = &at.settings;
        let uid = self.users[self.objects[at.object].user].uid;
        let made = QueueMade {
            id: at.id,
            name: settings.name.to_string(),
            uid,
            durability: settings.durability as u8,
            messages_max: settings.messages_max,
            bytes_max: settings.bytes_max,
            overflow: settings.overflow as u8,
            lossy: settings.lossy,
            deliveries_max: settings.deliveries_max,
            dead_letters: settings.dead_letters.as_ref().map_or(String::new(), Name::to_string),
            position: at.position,
        };
        let sync = settings.durability == Level::Disk;
        let position = self.append(turn, &Record::Queue(made), None, sync);
        let at = &mut self.queues.table[queue];
        at.logged = position;
        let before = core::mem::replace(&mut at.segment, NONE);
        let cost = core::mem::replace(&mut at.cost, cost_of(&at.settings));
        if before != NONE {
            self.let_go(before, cost);
        }
        let at = &mut self.queues.table[queue];
        at.segment = self.storage.hold(Thing::Queue(queue), at.cost);
    }

    /// SPEC 6.2, CreateQueue.
    pub(crate) fn create_queue(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        header: &Header,
        ask: CreateQueue,
    ) -> Result<Answer, Refusal> {
        let settings = settings_of(&ask)?;
        self.check_policy(from, Verb::Serve, &settings.name)?;
        let there = self.names.get(&settings.name).map(|&object| self.objects[object].body);
        let there = there.filter(|&body| body != NONE && self.is_queue(self.names[&settings.name]));
        let (queue, existed) = match there {
            Some(queue) => {
                same_as_asked(&self.queues.table[queue].settings, &ask)?;
                (queue, true)
            }
            None => {
                self.check_writable(settings.durability)?;
                if settings.durability != Level::Memory {
                    self.check_call_slot(from, header)?;
                }
                let peer = self.peer(from);
                let most = self.limits.of_user(peer.identity.uid).names;
                let user = peer.user;
                if most <= self.users[user].names {
                    let message = format!("your user has {most} names already (limits.user.names)");
                    return Err((Outcome::Busy, message));
                }
                (self.make_queue(turn, settings, user)?, false)
            }
        };
        let body = encode(&Created { existed });
        let at = &self.queues.table[queue];
        let (level, logged) = (at.level(), at.logged);
        if self.is_at(level, logged) {
            return Ok(Answer::Reply(body));
        }
        self.check_writable(level)?;
        let call = self.keep_open(turn, from, header)?;
        self.answer_when_stored(turn, call, logged, level, Header::new(Kind::Reply), body);
        Ok(Answer::Later)
    }

    // --- deleting ---

    /// SPEC 6.2, DeleteQueue.
    pub(crate) fn delete_queue(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        header: &Header,
        name: &str,
    ) -> Result<Answer, Refusal> {
        let name = Name::new(name).map_err(|error| (Outcome::Invalid, error.to_string()))?;
        self.check_policy(from, Verb::Serve, &name)?;
        let object = self.object_of(turn, &name, ObjectKind::Queue, from)?;
        let queue = self.objects[object].body;
        let at = &self.queues.table[queue];
        let (level, id, segment, cost) = (at.level(), at.id, at.segment, at.cost);
        if at.declared {
            let message =
                format!("`{name}` is configured; take [queue.\"{name}\"] out of the configuration first");
            return Err((Outcome::Invalid, message));
        }
        if level == Level::Memory {
            self.end_queue(turn, queue);
            return Ok(Answer::Reply(Vec::new()));
        }
        self.check_writable(level)?;
        let call = self.keep_open(turn, from, header)?;
        self.queues.table[queue].segment = NONE;
        let log = self.append(turn, &Record::QueueGone(id), None, level == Level::Disk);
        self.let_go(segment, cost);
        let reply = Header { epoch: log, ..Header::new(Kind::Reply) };
        self.answer_when_stored(turn, call, log, level, reply, Vec::new());
        self.end_queue(turn, queue);
        Ok(Answer::Later)
    }

    /// A queue is no more: whoever waits at it is told, its name is free. What it held is taken down
    /// bit by bit.
    fn end_queue(&mut self, turn: &mut Turn<'_, P>, queue: u32) {
        let object = self.queues.table[queue].object;
        // Held meanwhile: what ends on the way may give back the last handle on it.
        self.objects[object].handles += 1;
        let why = "the queue was deleted";
        while let Some(consumer) = self.queues.table[queue].visitors.first() {
            self.end_by_broker(turn, self.queues.consumers[consumer].call, Outcome::NoOwner, why);
        }
        while let Some(blocked) = self.queues.table[queue].blocked.first() {
            self.end_by_broker(turn, self.queues.blocked[blocked].call, Outcome::NoOwner, why);
        }
        self.queues.table[queue].object = NONE;
        let it = &mut self.objects[object];
        it.body = NONE;
        self.announce(turn, object, false);
        let it = &mut self.objects[object];
        let name = it.name.take().expect("a queue has a name");
        self.names.remove(&name);
        it.handles -= 1;
        if it.handles != 0 {
            self.work.push_back(Work::Revoke { object: self.objects.word(object), slot: 0 });
        }
        self.work.push_back(Work::Drain { queue });
        self.release_object(turn, object);
    }

    /// Takes down part of what a deleted queue held; `Some` with the work left.
    pub(crate) fn drain_queue(
        &mut self,
        turn: &mut Turn<'_, P>,
        queue: u32,
        budget: &mut u32,
    ) -> Option<Work> {
        while 0 < *budget {
            *budget -= 1;
            let at = &self.queues.table[queue];
            if let Some(message) = at.all.last() {
                // From the end, so that no group goes forward on the way.
                self.remove_message(turn.now, message);
            } else if let Some((_, &mark)) = at.marks.first_key_value() {
                self.forget_mark(mark);
            } else {
                let it = self.queues.table.remove(queue);
                if it.segment != NONE {
                    self.let_go(it.segment, it.cost);
                }
                self.drop_segments(turn);
                return None;
            }
        }
        Some(Work::Drain { queue })
    }

    /// Takes away the handles on an object that is nothing any more.
    pub(crate) fn revoke_all(
        &mut self,
        turn: &mut Turn<'_, P>,
        object: u64,
        mut slot: u32,
        budget: &mut u32,
    ) -> Option<Work> {
        while let Some(on) = self.objects.find(object)
            && slot < self.handles.slots()
        {
            if *budget == 0 {
                return Some(Work::Revoke { object, slot });
            }
            *budget -= 1;
            if self.handles.get(slot).is_some_and(|grip| grip.object == on) {
                self.take_away(turn, slot, Loss::Revoked);
            }
            slot += 1;
        }
        None
    }

    /// A queue lasts until it is deleted, whoever holds it.
    pub(crate) fn queue_is_wanted(&self, object: u32) -> bool {
        self.objects[object].body != NONE
    }

    pub(crate) fn forget_queue(&mut self, _turn: &mut Turn<'_, P>, object: u32) {
        assert_eq!(self.objects[object].body, NONE, "a queue was taken from its object before");
    }

    // --- calls ---

    /// A CALL on a queue's handle (SPEC 10.2). Its payload is within the limit and its deadline and
    /// priority as they are inherited; nothing else was checked.
    pub(crate) fn queue_call(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        handle: u32,
        header: &Header,
        tail: &P,
    ) -> Result<(), Refusal> {
        let Some(method) = QueueMethod::from_wire(header.method) else {
            let message = format!("a queue knows no method {} (SPEC 10.2)", header.method);
            return Err((Outcome::Unsupported, message));
        };
        let queue = self.queue_by(handle, wanted_rights(method))?;
        self.check_call_slot(from, header)?;
        if header.deadline != 0 && header.deadline <= turn.now.0 {
            let message = "the deadline had passed when the call came".to_string();
            return Err((Outcome::DeadlineExceeded, message));
        }
        if header.handles != 0 {
            let message = "a queue keeps bytes, and no handles".to_string();
            return Err((Outcome::Invalid, message));
        }
        match method {
            QueueMethod::Push => self.push_call(turn, from, queue, header, tail),
            _ => {
                let parts = Tail::of(header, tail.bytes());
                check_extensions(&parts, &[extension_type::METHOD_NAME])?;
                let body = parts.payload;
                match method {
                    QueueMethod::Push => unreachable!("it was dealt with"),
                    QueueMethod::Pop => self.pop(turn, from, queue, header, body),
                    QueueMethod::Ack => self.ack(turn, from, queue, header, body),
                    QueueMethod::Nack => self.nack(turn, from, queue, header, body),
                    QueueMethod::Extend => self.extend(turn, from, queue, header, body),
                    QueueMethod::Peek => self.peek(turn, from, queue, header, body),
                    QueueMethod::Purge => self.purge(turn, from, queue, header),
                    QueueMethod::Stat => {
                        let info = encode(&self.queue_info(queue));
                        self.reply_at_once(turn, from, header, info);
                        Ok(())
                    }
                    QueueMethod::Redrive => self.redrive(turn, from, queue, header, body),
                }
            }
        }
    }

    /// The queue that a handle is on, if it has the rights and the queue is still there.
    #[inline(always)]
    pub(crate) fn queue_by(&self, handle: u32, rights: Rights) -> Result<u32, Refusal> {
        let grip = &self.handles[handle];
        let it = &self.objects[grip.object];
        if it.kind == ObjectKind::Queue && it.body != NONE && grip.rights.contains(rights) {
            return Ok(it.body);
        }
        Err(self.no_queue(handle, rights))
    }

    /// Which of the conditions of [`Self::queue_by`] does not hold.
    #[cold]
    fn no_queue(&self, handle: u32, rights: Rights) -> Refusal {
        let grip = &self.handles[handle];
        let it = &self.objects[grip.object];
        if it.kind != ObjectKind::Queue {
            let message = format!("the handle is on a {}, not on a queue", it.kind.as_str());
            return (Outcome::Invalid, message);
        }
        if it.body == NONE {
            return (Outcome::HandleRevoked, "the queue was deleted".to_string());
        }
        let message = format!("the handle has the rights {:?}; this takes {rights:?}", grip.rights);
        (Outcome::Denied, message)
    }

    /// An empty or small answer of the broker's own to a call on a queue that was not entered.
    pub(crate) fn reply_at_once(&mut self, turn: &mut Turn<'_, P>, to: u32, asked: &Header, body: Vec<u8>) {
        let header = Header { handle: asked.handle, call: asked.call, ..Header::new(Kind::Reply) };
        self.counters.outcomes[Outcome::Reply as usize] += 1;
        self.push(turn, to, header, crate::SendTail::Own(body));
    }

    fn queue_info(&self, queue: u32) -> QueueInfo {
        let at = &self.queues.table[queue];
        let settings = &at.settings;
        let of = |state: State| u64::from(at.states[state as usize]);
        let read_only = self.check_writable(at.level()).err().map_or(String::new(), |(_, message)| message);
        QueueInfo {
            durability: settings.durability as u8,
            overflow: settings.overflow as u8,
            messages_max: settings.messages_max,
            bytes_max: settings.bytes_max,
            deliveries_max: settings.deliveries_max,
            dead_letters: self.dead_letter_name(queue).map_or(String::new(), |name| name.to_string()),
            messages: at.all.len().into(),
            bytes: at.bytes,
            ready: of(State::Ready) + of(State::Returned),
            leased: of(State::Leased),
            delayed: of(State::Delayed),
            grouped: of(State::Grouped),
            consumers: at.visitors.len() - at.walkers.len(),
            blocked: at.blocked.len(),
            position: at.position,
            pushed: at.counts.pushed,
            delivered: at.counts.delivered,
            acked: at.counts.acked,
            dropped: at.counts.dropped,
            expired: at.counts.expired,
            dead: at.counts.dead,
            duplicates: at.counts.duplicates,
            read_only,
        }
    }

    /// Messages in the queue that an object is.
    pub(crate) fn queue_len(&self, object: u32) -> u32 {
        self.queues.table.get(self.objects[object].body).map_or(0, |queue| queue.all.len())
    }

    // --- what follows ---

    /// Has consumers and blocked pushes of a queue looked at once the present input is dealt with.
    pub(crate) fn stir(&mut self, queue: u32) {
        if !core::mem::replace(&mut self.queues.table[queue].due, true) {
            self.queues.due.push(queue);
            self.queues.stirred = true;
        }
    }

    /// A message of a durable queue is gone, and nobody waits for that to be safe.
    pub(crate) fn note_gone(&mut self, message: u32) {
        let it = &self.queues.messages[message];
        let at = &self.queues.table[it.queue];
        if at.is_logged() {
            self.queues.gone.push(Place { queue: at.id, position: it.position });
            self.queues.stirred = true;
        }
    }

    /// Lets everybody go on who can, and appends what came of it.
    #[cold]
    #[inline(never)]
    fn settle_rest(&mut self, turn: &mut Turn<'_, P>) {
        for fact in core::mem::take(&mut self.queues.unsaid) {
            turn.log(fact);
        }
        let gone = core::mem::take(&mut self.queues.gone);
        if !self.storage.is_ready() {
            self.queues.delivered.clear();
        } else {
            if !self.queues.delivered.is_empty() {
                let record = Record::Delivered(core::mem::take(&mut self.queues.delivered));
                self.append(turn, &record, None, false);
                if let Record::Delivered(mut delivered) = record {
                    // Its memory is for those of the next time.
                    delivered.clear();
                    self.queues.delivered = delivered;
                }
            }
            if !gone.is_empty() {
                let change = crate::record::Change { gone, ..Default::default() };
                self.append(turn, &Record::Change(change), None, false);
            }
        }
    }

    /// The same, for every queue at which something has happened.
    pub(crate) fn settle_queues(&mut self, turn: &mut Turn<'_, P>) {
        self.queues.stirred = false;
        for _ in 0..self.queues.due.len() {
            let Some(queue) = self.queues.due.pop() else { break };
            let Some(at) = self.queues.table.get(queue).filter(|at| at.due && at.object != NONE) else {
                continue;
            };
            let blocked = !at.blocked.is_empty();
            self.queues.table[queue].due = false;
            if blocked {
                self.admit_blocked(turn, queue);
            }
            self.feed_consumers(turn, queue);
        }
        let Queues { gone, delivered, unsaid, .. } = &self.queues;
        if !(gone.is_empty() && delivered.is_empty() && unsaid.is_empty()) {
            self.settle_rest(turn);
        }
        self.queues.stirred = !self.queues.due.is_empty();
    }
}

/// Bytes that a queue takes in the log: never less than its record.
pub(crate) fn cost_of(settings: &QueueSettings) -> u64 {
    let names =
        settings.name.as_str().len() + settings.dead_letters.as_ref().map_or(0, |it| it.as_str().len());
    (QUEUE_COST + names) as u64
}

/// What a handle must have for a method.
fn wanted_rights(method: QueueMethod) -> Rights {
    match method {
        QueueMethod::Push => Verb::Push.right(),
        QueueMethod::Redrive => Verb::Push.right() | Verb::Pop.right(),
        QueueMethod::Stat => Rights::NONE,
        QueueMethod::Pop
        | QueueMethod::Ack
        | QueueMethod::Nack
        | QueueMethod::Extend
        | QueueMethod::Peek
        | QueueMethod::Purge => Verb::Pop.right(),
    }
}

/// Whether every critical extension of a frame is one of those that are known here (SPEC 2.5).
pub(crate) fn check_extensions(tail: &Tail<'_>, known: &[u16]) -> Result<(), Refusal> {
    let unknown = tail.extensions().and_then(|mut all| {
        all.find_map(|it| {
            let critical = it.kind & switchboard_protocol::CRITICAL != 0;
            (critical && !known.contains(&it.kind)).then_some(it.kind)
        })
    });
    match unknown {
        None => Ok(()),
        Some(kind) => {
            let message = format!("extension {kind:#06x} means nothing here, and is critical (SPEC 2.5)");
            Err((Outcome::Unsupported, message))
        }
    }
}

/// What is asked of a new queue, with the defaults in place.
fn settings_of(ask: &CreateQueue) -> Result<QueueSettings, Refusal> {
    let invalid = |message: String| (Outcome::Invalid, message);
    let name = Name::new(&ask.name).map_err(|error| invalid(error.to_string()))?;
    let durability = Level::from_wire(ask.durability.into())
        .ok_or_else(|| invalid(format!("no durability has the number {} (SPEC 10.6)", ask.durability)))?;
    let overflow = Overflow::from_wire(ask.overflow)
        .ok_or_else(|| invalid(format!("no overflow has the number {} (SPEC 10.5)", ask.overflow)))?;
    if durability != Level::Memory && overflow == Overflow::DropOldest && !ask.lossy {
        return Err(invalid(
            "a durable queue that drops its oldest messages takes `lossy` (SPEC 10.5)".to_string(),
        ));
    }
    let dead_letters = match &ask.dead_letters[..] {
        "" => None,
        text => Some(Name::new(text).map_err(|error| invalid(format!("dead letters: {error}")))?),
    };
    if dead_letters.as_ref() == Some(&name) {
        return Err(invalid("a queue is not its own queue of dead letters (SPEC 10.12)".to_string()));
    }
    let default = QueueSettings::of(name);
    let or = |asked: u64, default: u64| if asked == 0 { default } else { asked };
    Ok(QueueSettings {
        durability,
        overflow,
        lossy: ask.lossy,
        dead_letters,
        messages_max: or(ask.messages_max, default.messages_max),
        bytes_max: or(ask.bytes_max, default.bytes_max),
        deliveries_max: (or(ask.deliveries_max.into(), default.deliveries_max.into()) as u32)
            .min(DELIVERIES_MAX),
        ..default
    })
}

/// Whether a queue that is there is as asked for. A 0, `false` or empty field asks for nothing.
fn same_as_asked(there: &QueueSettings, ask: &CreateQueue) -> Result<(), Refusal> {
    let dead_letters = there.dead_letters.as_ref().map_or("", |name| name.as_str());
    let differs: [(&str, u64, u64); 6] = [
        ("durability", ask.durability.into(), there.durability as u64),
        ("messages_max", ask.messages_max, there.messages_max),
        ("bytes_max", ask.bytes_max, there.bytes_max),
        ("overflow", ask.overflow.into(), there.overflow as u64),
        ("lossy", ask.lossy.into(), there.lossy.into()),
        ("deliveries_max", ask.deliveries_max.into(), there.deliveries_max.into()),
    ];
    let name = &there.name;
    if let Some((what, asked, has)) = differs.into_iter().find(|&(_, asked, has)| asked != 0 && asked != has)
    {
        let message = format!("`{name}` is there already, with {what} = {has} and not {asked} (SPEC 10.1)");
        return Err((Outcome::Invalid, message));
    }
    if !ask.dead_letters.is_empty() && ask.dead_letters != dead_letters {
        let message = format!(
            "`{name}` is there already, with dead_letters = `{dead_letters}` and not `{}` (SPEC 10.1)",
            ask.dead_letters
        );
        return Err((Outcome::Invalid, message));
    }
    Ok(())
}
