//! Pushes: messages come into queues, all of a push or nothing (SPEC 10.3 to 10.6, 10.13).

use crate::broker::{Broker, Turn};
use crate::control::Refusal;
use crate::message::{Extra, Message};
use crate::record::{Change, ENTRY_BYTES, Entries, Entry, MarkTaken, OTHER_BYTES, Place, Record};
use crate::slab::NONE;
use crate::storage::Unsafe;
use crate::wishes::{Load, Wishes};
use crate::{Payload, SendTail};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;
use switchboard_protocol::queue::{Level, Overflow, PUSH_QUEUES_MAX, Producer, PushOptions, push_queues};
use switchboard_protocol::{Header, Kind, Outcome, Verb, flags};

/// Whose push it is.
#[derive(Clone, Copy)]
pub(crate) enum Pusher {
    /// A frame that has just come from this peer.
    Frame(u32),
    /// A call that has waited for room.
    Call(u32),
}

/// A push whose messages are well formed.
struct Push<'a> {
    pusher: Pusher,
    from: u32,
    header: &'a Header,
    wishes: &'a Wishes<'a>,
    /// The handle's own first.
    queues: &'a [u32],
    /// What each of them gets.
    loads: &'a [Load],
}

impl<P: Payload> Broker<P> {
    /// A call with method 1.
    #[inline]
    pub(crate) fn push_call(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        queue: u32,
        header: &Header,
        tail: &P,
    ) -> Result<(), Refusal> {
        if !self.monitors.is_empty() {
            let (id, object) = (self.peer(from).id, self.queues.table[queue].object);
            self.tap(turn, id, NONE, header, &SendTail::Forward(tail.clone()), object);
        }
        self.push_frame(turn, Pusher::Frame(from), queue, header, tail)
    }

    pub(crate) fn push_frame(
        &mut self,
        turn: &mut Turn<'_, P>,
        pusher: Pusher,
        queue: u32,
        header: &Header,
        tail: &P,
    ) -> Result<(), Refusal> {
        let from = match pusher {
            Pusher::Frame(from) => from,
            Pusher::Call(call) => self.calls[call].caller.slot,
        };
        if header.ext_len == 0 && self.queues.table[queue].level() == Level::Memory {
            return self.push_to_memory(turn, pusher, from, queue, header, tail);
        }
        let bytes = tail.bytes();
        let wishes = Wishes::of(header, bytes)?;
        if let Some(further) = wishes.queues {
            let queues = self.further_queues(from, queue, header, further)?;
            let mut loads = [Load::default(); PUSH_QUEUES_MAX + 1];
            let loads = &mut loads[..queues.len()];
            wishes.weigh(header, bytes, loads)?;
            let push = Push { pusher, from, header, wishes: &wishes, queues: &queues, loads };
            return self.take_push(turn, &push, tail);
        }
        let mut loads = [Load::default()];
        wishes.weigh(header, bytes, &mut loads)?;
        let push = Push { pusher, from, header, wishes: &wishes, queues: &[queue], loads: &loads };
        self.take_push(turn, &push, tail)
    }

    /// The queues that a push goes to, the handle's own first.
    fn further_queues(
        &self,
        from: u32,
        queue: u32,
        header: &Header,
        further: &[u8],
    ) -> Result<Vec<u32>, Refusal> {
        if header.flags & flags::BATCH == 0 {
            return Err((Outcome::Invalid, "a push to several queues is a batch (SPEC 10.3)".to_string()));
        }
        let Some(handles) = push_queues(further) else {
            let message = format!(
                "QUEUES is at least one and at most {PUSH_QUEUES_MAX} handles of 8 bytes (SPEC 10.3)"
            );
            return Err((Outcome::Invalid, message));
        };
        let mut queues = alloc::vec![queue];
        for handle in handles {
            let handle = self.find_handle(from, handle)?;
            let queue = self.queue_by(handle, Verb::Push.right())?;
            if queues.contains(&queue) {
                let name = &self.queues.table[queue].settings.name;
                return Err((Outcome::Invalid, format!("`{name}` is named twice (SPEC 10.3)")));
            }
            queues.push(queue);
        }
        Ok(queues)
    }

    /// A push of nothing but messages to one queue in memory, as most are: [`Self::take_push`] with what it
    /// does not need left out.
    #[inline(always)]
    fn push_to_memory(
        &mut self,
        turn: &mut Turn<'_, P>,
        pusher: Pusher,
        from: u32,
        queue: u32,
        header: &Header,
        tail: &P,
    ) -> Result<(), Refusal> {
        let wishes = Wishes::default();
        let mut load = Load::default();
        wishes.weigh(header, tail.bytes(), core::slice::from_mut(&mut load))?;
        if self.wants_room(pusher, queue, load) {
            let push = Push { pusher, from, header, wishes: &wishes, queues: &[queue], loads: &[load] };
            if !self.find_room(turn, &push, queue, load, tail)? {
                return Ok(());
            }
        }
        let peer = self.peer(from);
        let user = peer.user;
        self.check_queued_quota(user, peer.identity.uid, load)?;
        while self.queues.table[queue].is_full(load.count, load.bytes) {
            self.drop_oldest(turn.now, queue, &mut Vec::new());
        }
        self.charge(user, load);
        let wall = self.wall(turn.now);
        let first = self.queues.table[queue].position + 1;
        let single = header.flags & flags::BATCH == 0;
        let messages = wishes.pieces(header, tail.bytes()).map(|piece| {
            let cut = if single { tail.clone() } else { tail.cut(piece.start, piece.end) };
            Message::new(cut.keep(), user, wall, piece.priority, 0, true)
        });
        self.line_up_all(queue, messages);
        let reply = Header { seq: first, ..Header::new(Kind::Reply) };
        self.answer_push(turn, pusher, from, header, reply, Vec::new());
        Ok(())
    }

    /// Whether a push to one queue finds it full, or others before it.
    #[inline(always)]
    fn wants_room(&self, pusher: Pusher, queue: u32, load: Load) -> bool {
        let at = &self.queues.table[queue];
        let in_line = matches!(pusher, Pusher::Frame(_)) && !at.blocked.is_empty();
        in_line || at.is_full(load.count, load.bytes)
    }

    /// Whether a push to one queue goes on because room can be made. If not it waits, or is refused.
    #[inline(never)]
    fn find_room(
        &mut self,
        turn: &mut Turn<'_, P>,
        push: &Push<'_>,
        queue: u32,
        load: Load,
        tail: &P,
    ) -> Result<bool, Refusal> {
        self.check_bound(queue, load)?;
        match self.queues.table[queue].settings.overflow {
            Overflow::Block => {
                self.block(turn, push.pusher, push.from, queue, push.header, tail, load)?;
                Ok(false)
            }
            Overflow::Reject => Err(self.full(queue)),
            Overflow::DropOldest => {
                self.check_can_drop(queue, load)?;
                Ok(true)
            }
        }
    }

    /// Takes a push, or says why not. Nothing is changed before everything was checked.
    #[inline(never)]
    fn take_push(&mut self, turn: &mut Turn<'_, P>, push: &Push<'_>, tail: &P) -> Result<(), Refusal> {
        let Push { pusher, from, header, wishes, queues, loads } = *push;
        let peer = self.peer(from);
        let (user, uid) = (peer.user, peer.identity.uid);
        let own = queues[0];
        let all = match *loads {
            [one] => one,
            ref several => several.iter().fold(Load::default(), |sum, load| Load {
                count: sum.count + load.count,
                bytes: sum.bytes + load.bytes,
            }),
        };
        if let Some(producer) = wishes.producer {
            if producer.sequence.checked_add(all.count).is_none() {
                let message = "the producer's numbers end at 2^64 - 1 (SPEC 10.13)".to_string();
                return Err((Outcome::Invalid, message));
            }
            if let Some(mark) = self.duplicate_of(own, uid, producer.id, producer.sequence) {
                return self.answer_duplicate(turn, push, mark, producer);
            }
            self.check_mark(own, uid, producer.id)?;
        }
        let mut least = Level::Disk;
        let mut most = Level::Memory;
        for &queue in queues {
            let level = self.queues.table[queue].level();
            least = least.min(level);
            most = most.max(level);
        }
        if most != Level::Memory {
            self.check_writable(most)?;
            self.check_log_has_room()?;
        }
        if let ([queue], [load]) = (queues, loads) {
            if self.wants_room(pusher, *queue, *load) && !self.find_room(turn, push, *queue, *load, tail)? {
                return Ok(());
            }
        } else {
            for (&queue, &load) in queues.iter().zip(loads) {
                self.check_one_of_several(queue, load)?;
            }
        }
        self.check_queued_quota(user, uid, all)?;

        // From here on it happens.
        let mut gone = Vec::new();
        for (&queue, &load) in queues.iter().zip(loads) {
            while self.queues.table[queue].is_full(load.count, load.bytes) {
                self.drop_oldest(turn.now, queue, &mut gone);
            }
        }
        let wall = self.wall(turn.now);
        let single = header.flags & flags::BATCH == 0;
        let in_memory = most == Level::Memory;
        self.charge(user, all);
        let count = all.count as usize;
        let mut first = 0;
        let mut words = Vec::with_capacity(if in_memory { 0 } else { count });
        let mut positions = Vec::with_capacity(if queues.len() == 1 { 0 } else { 8 * count });
        let mut logged = 0;
        let key = wishes.key.map(Rc::from);
        let PushOptions { ttl_ns, delay_ns, .. } = wishes.options;
        let plain = ttl_ns == 0 && delay_ns == 0 && key.is_none();
        let at = |wait: u64| if wait == 0 { 0 } else { wall.saturating_add(wait) };
        let (expires, ready_at) = (at(ttl_ns), at(delay_ns));
        let ext_len = if single { header.ext_len } else { 0 };
        for piece in wishes.pieces(header, tail.bytes()) {
            let queue = queues[piece.queue];
            let cut = if single { tail.clone() } else { tail.cut(piece.start, piece.end) };
            let message = Message::new(cut.keep(), user, wall, piece.priority, ext_len, in_memory);
            let message = if plain {
                self.line_up(queue, message)
            } else {
                let extra = Extra { expires, ready_at, key: key.clone(), ..Extra::new() };
                self.line_up_with(turn.now, queue, message, extra)
            };
            let position = self.queues.messages[message].position;
            if first == 0 {
                first = position;
            }
            if queues.len() != 1 {
                positions.extend_from_slice(&position.to_le_bytes());
            }
            if !in_memory {
                words.push(self.queues.messages.word(message));
                logged += usize::from(self.queues.table[queue].is_logged());
            }
        }
        let taken = wishes.producer.map(|producer| MarkTaken {
            queue: self.queues.table[own].id,
            uid,
            producer: producer.id,
            first: producer.sequence,
            last: producer.sequence + (all.count - 1),
            position: first,
            wall_ns: wall,
        });
        let mut reply = Header { seq: first, method: least as u32, ..Header::new(Kind::Reply) };
        if in_memory {
            if let Some(taken) = taken {
                self.set_mark(&taken, own, 0, NONE);
            }
            self.answer_push(turn, pusher, from, header, reply, positions);
            return Ok(());
        }
        let mark = taken.filter(|_| self.queues.table[own].is_logged());
        let marked = mark.is_some();
        let head = self.head_of_push(push, tail, gone, mark, &words, logged);
        let log = self.append_head(turn, head, Some(tail.clone()), most == Level::Disk);
        for &word in &words {
            let message = word as u32;
            if self.queues.table[self.queues.messages[message].queue].is_logged() {
                self.hold_message(message);
            }
        }
        match taken {
            Some(taken) if marked => self.hold_mark(&taken, own, log),
            Some(taken) => {
                self.set_mark(&taken, own, log, NONE);
            }
            None => {}
        }
        reply.epoch = log;
        let call = self.keep_pusher(turn, pusher, from, header);
        self.release_when_stored(log, most, words, Unsafe::Drop);
        self.answer_when_stored(turn, call, log, most, reply, positions);
        Ok(())
    }

    /// What the log says of a push: of the messages with these words, so many, which are in durable queues.
    fn head_of_push(
        &self,
        push: &Push<'_>,
        tail: &P,
        gone: Vec<Place>,
        mark: Option<MarkTaken>,
        words: &[u64],
        logged: usize,
    ) -> Vec<u8> {
        let pieces = push.wishes.pieces(push.header, tail.bytes());
        let each = words.iter().zip(pieces).filter_map(|(&word, piece)| {
            let place = (piece.start as u32, (piece.end - piece.start) as u32);
            let logged = self.queues.table[push.queues[piece.queue]].is_logged();
            logged.then(|| self.entry_of(word as u32, place))
        });
        let messages = Entries { count: logged, each };
        Record::Change(Change { gone, mark, messages }).to_head_of(logged * ENTRY_BYTES + OTHER_BYTES)
    }

    /// What the log says of a message whose bytes are at `place` of what follows the record.
    pub(crate) fn entry_of(&self, message: u32, place: (u32, u32)) -> Entry {
        let it = &self.queues.messages[message];
        let extra = self.queues.extras.get(it.extra);
        Entry {
            queue: self.queues.table[it.queue].id,
            position: it.position,
            uid: self.users[it.user].uid,
            counts: it.counts,
            start: place.0,
            len: place.1,
            ext_len: it.ext_len,
            pushed_s: it.pushed_s,
            expires: extra.map_or(0, |extra| extra.expires),
            ready_at: extra.map_or(0, |extra| extra.ready_at),
            group: extra.and_then(|extra| extra.key.as_deref()).map_or(Vec::new(), <[u8]>::to_vec),
            dead: extra.and_then(|extra| extra.dead.as_deref().cloned()),
        }
    }

    // --- answers ---

    /// A push that was taken before (SPEC 10.13).
    fn answer_duplicate(
        &mut self,
        turn: &mut Turn<'_, P>,
        push: &Push<'_>,
        mark: u32,
        producer: Producer,
    ) -> Result<(), Refusal> {
        let Push { pusher, from, header, queues, .. } = *push;
        let it = &self.queues.marks[mark];
        let log = it.log;
        let at = &mut self.queues.table[queues[0]];
        at.counts.duplicates += 1;
        let level = at.level();
        let reply = Header {
            seq: if producer.sequence == it.first { it.position } else { 0 },
            method: level as u32,
            epoch: log,
            caller: 1,
            ..Header::new(Kind::Reply)
        };
        if self.is_at(level, log) {
            self.answer_push(turn, pusher, from, header, reply, Vec::new());
        } else {
            self.check_writable(level)?;
            let call = self.keep_pusher(turn, pusher, from, header);
            self.answer_when_stored(turn, call, log, level, reply, Vec::new());
        }
        Ok(())
    }

    /// The call of a push that is not answered at once.
    fn keep_pusher(&mut self, turn: &mut Turn<'_, P>, pusher: Pusher, from: u32, header: &Header) -> u32 {
        match pusher {
            // Its slot was checked when the frame came.
            Pusher::Frame(_) => self.enter_call(turn, from, NONE, header),
            Pusher::Call(call) => {
                self.leave_blocked(turn, call);
                call
            }
        }
    }

    #[inline]
    fn answer_push(
        &mut self,
        turn: &mut Turn<'_, P>,
        pusher: Pusher,
        from: u32,
        asked: &Header,
        reply: Header,
        body: Vec<u8>,
    ) {
        match pusher {
            Pusher::Frame(_) => {
                let header = Header { handle: asked.handle, call: asked.call, ..reply };
                self.counters.outcomes[Outcome::Reply as usize] += 1;
                let tail = if body.is_empty() { SendTail::Empty } else { SendTail::Own(body) };
                self.push(turn, from, header, tail);
            }
            Pusher::Call(call) => {
                self.leave_blocked(turn, call);
                self.answer_call(turn, call, reply, body);
            }
        }
    }

    /// A REPLY of the broker's own to an open call, which ends it.
    pub(crate) fn answer_call(&mut self, turn: &mut Turn<'_, P>, call: u32, reply: Header, body: Vec<u8>) {
        let it = &self.calls[call];
        let (to, header) = (it.caller.slot, Header { handle: it.handle, call: it.caller_call, ..reply });
        self.counters.outcomes[Outcome::Reply as usize] += 1;
        self.push(turn, to, header, SendTail::Own(body));
        self.erase_call(turn, call);
    }
}
