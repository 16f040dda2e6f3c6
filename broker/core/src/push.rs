//! Pushes: messages come into queues, all of a push or nothing (SPEC 10.3 to 10.6, 10.13).

use crate::broker::{Broker, Turn};
use crate::control::Refusal;
use crate::list::Links;
use crate::message::{Extra, Message, State};
use crate::record::{Change, Entry, MarkTaken, Record};
use crate::slab::NONE;
use crate::storage::Unsafe;
use crate::wishes::{Part, Wishes, parts_of, wishes_of};
use crate::{Payload, SendTail};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use switchboard_protocol::queue::{Level, Overflow, PUSH_QUEUES_MAX, PushOptions};
use switchboard_protocol::{Header, Kind, Outcome, Verb, flags};

/// Whose push it is.
#[derive(Clone, Copy)]
pub(crate) enum Pusher {
    /// A frame that has just come from this peer.
    Frame(u32),
    /// A call that has waited for room.
    Call(u32),
}

impl<P: Payload> Broker<P> {
    /// A call with method 1.
    pub(crate) fn push_call(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        queue: u32,
        header: Header,
        tail: P,
    ) -> Result<(), Refusal> {
        if !self.monitors.is_empty() {
            let (id, object) = (self.peer(from).id, self.queues.table[queue].object);
            self.tap(turn, id, NONE, &header, &SendTail::Forward(tail.clone()), object);
        }
        self.push_frame(turn, Pusher::Frame(from), queue, header, tail)
    }

    pub(crate) fn push_frame(
        &mut self,
        turn: &mut Turn<'_, P>,
        pusher: Pusher,
        queue: u32,
        header: Header,
        tail: P,
    ) -> Result<(), Refusal> {
        let from = match pusher {
            Pusher::Frame(from) => from,
            Pusher::Call(call) => self.calls[call].caller.slot,
        };
        let bytes = tail.bytes();
        let end = bytes.len();
        let (wishes, further) =
            if header.ext_len == 0 { (Wishes::default(), None) } else { wishes_of(&header, bytes)? };
        if header.flags & flags::BATCH == 0 {
            if further.is_some() {
                let message = "a push to several queues is a batch (SPEC 10.3)".to_string();
                return Err((Outcome::Invalid, message));
            }
            let part = Part { queue: 0, priority: wishes.options.priority, start: 0, end };
            return self.push_parts(turn, pusher, from, &[queue], &[part], wishes, header, tail);
        }
        let queues = match further {
            None => alloc::vec![queue],
            Some(words) => self.further_queues(from, queue, words)?,
        };
        let parts = parts_of(&header, bytes, &wishes, queues.len())?;
        self.push_parts(turn, pusher, from, &queues, &parts, wishes, header, tail)
    }

    /// The queues that a push goes to beside the handle's own.
    fn further_queues(&self, from: u32, queue: u32, words: &[u8]) -> Result<Vec<u32>, Refusal> {
        let (words, rest) = words.as_chunks::<8>();
        if words.is_empty() || !rest.is_empty() || PUSH_QUEUES_MAX < words.len() {
            let message = format!(
                "QUEUES is at least one and at most {PUSH_QUEUES_MAX} handles of 8 bytes (SPEC 10.3)"
            );
            return Err((Outcome::Invalid, message));
        }
        let mut queues = alloc::vec![queue];
        for word in words {
            let handle = self.find_handle(from, u64::from_le_bytes(*word))?;
            let queue = self.queue_by(handle, Verb::Push.right())?;
            if queues.contains(&queue) {
                let name = &self.queues.table[queue].settings.name;
                return Err((Outcome::Invalid, format!("`{name}` is named twice (SPEC 10.3)")));
            }
            queues.push(queue);
        }
        Ok(queues)
    }

    /// Takes a push, or says why not. Nothing is changed before everything was checked.
    #[expect(clippy::too_many_arguments, reason = "a push is all of this")]
    #[inline]
    fn push_parts(
        &mut self,
        turn: &mut Turn<'_, P>,
        pusher: Pusher,
        from: u32,
        queues: &[u32],
        parts: &[Part],
        wishes: Wishes,
        header: Header,
        tail: P,
    ) -> Result<(), Refusal> {
        let peer = self.peer(from);
        let (user, uid) = (peer.user, peer.identity.uid);
        let own = queues[0];
        if let Some((producer, number)) = wishes.producer {
            if number.checked_add(parts.len() as u64).is_none() {
                let message = "the producer's numbers end at 2^64 - 1 (SPEC 10.13)".to_string();
                return Err((Outcome::Invalid, message));
            }
            if let Some(mark) = self.duplicate_of(own, uid, producer, number) {
                return self.answer_duplicate(turn, pusher, from, &header, own, mark, number);
            }
            self.check_mark(own, uid, producer)?;
        }
        let (count, bytes) = load_of(parts);
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
        if let [queue] = *queues {
            if let Some(why) = self.bound_of(queue, count, bytes) {
                return Err((Outcome::TooLarge, why));
            }
            let at = &self.queues.table[queue];
            let in_line = matches!(pusher, Pusher::Frame(_)) && !at.blocked.is_empty();
            if in_line || at.is_full(count, bytes) {
                match at.settings.overflow {
                    Overflow::Block => {
                        return self.block(turn, pusher, from, queue, header, tail, count, bytes);
                    }
                    Overflow::Reject => return Err(self.full(queue)),
                    Overflow::DropOldest => self.check_can_drop(queue, count, bytes)?,
                }
            }
        } else {
            for (at, &queue) in queues.iter().enumerate() {
                let (count, bytes) = load_of(parts.iter().filter(|part| part.queue as usize == at));
                self.check_one_of_several(queue, count, bytes)?;
            }
        }
        self.check_queued_quota(user, uid, count, bytes)?;

        // From here on it happens.
        let mut change = Change::default();
        for (at, &queue) in queues.iter().enumerate() {
            let (count, bytes) = match queues.len() {
                1 => (count, bytes),
                _ => load_of(parts.iter().filter(|part| part.queue as usize == at)),
            };
            while self.queues.table[queue].is_full(count, bytes) {
                self.drop_oldest(turn.now, queue, &mut change.gone);
            }
        }
        let wall = self.wall(turn.now);
        let single = header.flags & flags::BATCH == 0;
        let ext_len = if single { header.ext_len } else { 0 };
        // A record keeps all of a batch together; in memory each message is on its own.
        let tail = if single || most != Level::Memory { tail.keep() } else { tail };
        let record_tail = (most != Level::Memory).then(|| tail.clone());
        let mut whole = Some(tail);
        let mut made = Made { first: 0, words: Vec::new(), positions: Vec::new() };
        for part in parts {
            let queue = queues[part.queue as usize];
            let tail = if single {
                whole.take().expect("one message")
            } else {
                whole.as_ref().expect("a batch").cut(part.start, part.end).keep()
            };
            let message = self.enter_message(Message {
                tail,
                position: 0,
                by_queue: Links::OUT,
                by_state: Links::OUT,
                queue: NONE,
                user,
                segment: NONE,
                lease: NONE,
                extra: NONE,
                pushed_s: (wall / 1_000_000_000) as u32,
                counts: u32::from(part.priority) << 24,
                ext_len,
                state: State::Storing,
                stored: most == Level::Memory,
            });
            let PushOptions { ttl_ns, delay_ns, .. } = wishes.options;
            if ttl_ns != 0 || delay_ns != 0 || wishes.key.is_some() {
                let at = |wait: u64| if wait == 0 { 0 } else { wall.saturating_add(wait) };
                let extra = Extra {
                    expires: at(ttl_ns),
                    ready_at: at(delay_ns),
                    key: wishes.key.clone(),
                    ..Extra::new()
                };
                self.queues.messages[message].extra = self.queues.extras.insert(extra);
            }
            self.attach(message, queue);
            let at = &mut self.queues.table[queue];
            at.counts.pushed += 1;
            let position = at.position;
            if made.first == 0 {
                made.first = position;
            }
            if 1 < queues.len() {
                made.positions.extend_from_slice(&position.to_le_bytes());
            }
            if most != Level::Memory {
                made.words.push(self.queues.messages.word(message));
                if self.queues.table[queue].is_logged() {
                    let place = (part.start as u32, (part.end - part.start) as u32);
                    change.messages.push(self.entry_of(message, place));
                }
            }
            self.start(turn.now, message);
        }
        let taken = wishes.producer.map(|(producer, first)| MarkTaken {
            queue: self.queues.table[own].id,
            uid,
            producer,
            first,
            last: first + (parts.len() as u64 - 1),
            position: made.first,
            wall_ns: wall,
        });
        let mut reply = Header { seq: made.first, method: least as u32, ..Header::new(Kind::Reply) };
        if most == Level::Memory {
            if let Some(taken) = taken {
                self.set_mark(&taken, own, 0, NONE);
            }
            self.answer_push(turn, pusher, from, &header, reply, made.positions);
            return Ok(());
        }
        change.mark = taken.filter(|_| self.queues.table[own].is_logged());
        let marked = change.mark.is_some();
        let log = self.append(turn, &Record::Change(change), record_tail, most == Level::Disk);
        for &word in &made.words {
            let message = self.queues.messages.find(word).expect("it was just made");
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
        let call = self.keep_pusher(turn, pusher, from, &header);
        self.release_when_stored(log, most, made.words, Unsafe::Drop);
        self.answer_when_stored(turn, call, log, most, reply, made.positions);
        Ok(())
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
    #[expect(clippy::too_many_arguments, reason = "a push and what it is a duplicate of")]
    fn answer_duplicate(
        &mut self,
        turn: &mut Turn<'_, P>,
        pusher: Pusher,
        from: u32,
        header: &Header,
        queue: u32,
        mark: u32,
        number: u64,
    ) -> Result<(), Refusal> {
        let it = &self.queues.marks[mark];
        let log = it.log;
        let at = &mut self.queues.table[queue];
        at.counts.duplicates += 1;
        let level = at.level();
        let reply = Header {
            seq: if number == it.first { it.position } else { 0 },
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

/// Messages and bytes of a push.
fn load_of<'a>(parts: impl IntoIterator<Item = &'a Part>) -> (u64, u64) {
    let sum = |(count, bytes), part: &Part| (count + 1, bytes + (part.end - part.start) as u64);
    parts.into_iter().fold((0, 0), sum)
}

/// What came of the messages of a push.
struct Made {
    first: u64,
    /// Those that are to be released once they are stored.
    words: Vec<u64>,
    /// The answer of a push to several queues.
    positions: Vec<u8>,
}
