//! Pushes: messages come into queues, all of a push or nothing (SPEC 10.3 to 10.6, 10.13).

use crate::broker::{Broker, Turn};
use crate::call::Target;
use crate::control::Refusal;
use crate::list::Links;
use crate::message::{Extra, Message, State};
use crate::queue::check_extensions;
use crate::record::{Change, Entry, MarkTaken, Place, Record};
use crate::slab::NONE;
use crate::storage::Unsafe;
use crate::{Payload, SendTail};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::queue::{
    GROUP_KEY_BYTES_MAX, Level, Overflow, PUSH_QUEUES_MAX, PushOptions, QUEUE_PRIORITIES,
};
use switchboard_protocol::{
    Header, Instant, Kind, Outcome, Parts, PeerId, Tail, Verb, extension_type, flags, padded,
};

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

/// Whose push it is.
#[derive(Clone, Copy)]
enum Pusher {
    /// A frame that has just come from this peer.
    Frame(u32),
    /// A call that has waited for room.
    Call(u32),
}

/// What a push says beside its messages.
#[derive(Default)]
struct Wishes {
    options: PushOptions,
    /// Whether it said so itself.
    has_options: bool,
    key: Option<Rc<[u8]>>,
    /// Producer and number.
    producer: Option<(u64, u64)>,
}

/// One message of a push.
struct Part {
    /// Which of the queues.
    queue: u32,
    priority: u8,
    start: usize,
    end: usize,
}

/// Messages in one batch.
const BATCH_MAX: usize = 16_384;

/// Messages looked at to find one that can make room, where none is ready.
const DROP_SCAN: usize = 4096;

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

    fn push_frame(
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

    // --- room ---

    /// Why so much would not fit into an empty queue, if it would not.
    fn bound_of(&self, queue: u32, count: u64, bytes: u64) -> Option<String> {
        let settings = &self.queues.table[queue].settings;
        if settings.messages_max < count {
            return Some(format!(
                "{count} messages; `{}` holds {} (messages_max)",
                settings.name, settings.messages_max
            ));
        }
        (settings.bytes_max < bytes)
            .then(|| format!("{bytes} bytes; `{}` holds {} (bytes_max)", settings.name, settings.bytes_max))
    }

    /// What is said of a full queue.
    fn full(&self, queue: u32) -> Refusal {
        let at = &self.queues.table[queue];
        let settings = &at.settings;
        let (has, most) = (at.all.len(), settings.messages_max);
        let bound = if most <= u64::from(has) { "messages_max" } else { "bytes_max" };
        let message = format!(
            "`{}` is full ({bound}): {has} messages of {most}, {} bytes of {}",
            settings.name, at.bytes, settings.bytes_max
        );
        (Outcome::Busy, message)
    }

    /// Of a push to several queues, each must have room now.
    fn check_one_of_several(&self, queue: u32, count: u64, bytes: u64) -> Result<(), Refusal> {
        if let Some(why) = self.bound_of(queue, count, bytes) {
            return Err((Outcome::TooLarge, why));
        }
        let it = &self.queues.table[queue];
        if !it.is_full(count, bytes) && it.blocked.is_empty() {
            return Ok(());
        }
        match it.settings.overflow {
            // It does not wait: which of its queues would it wait at?
            Overflow::Reject | Overflow::Block => Err(self.full(queue)),
            Overflow::DropOldest => self.check_can_drop(queue, count, bytes),
        }
    }

    /// Whether leased messages leave enough room if all others go.
    fn check_can_drop(&self, queue: u32, count: u64, bytes: u64) -> Result<(), Refusal> {
        let at = &self.queues.table[queue];
        let leased = u64::from(at.states[State::Leased as usize]);
        let fits =
            leased + count <= at.settings.messages_max && at.leased_bytes + bytes <= at.settings.bytes_max;
        if fits && self.droppable(queue).is_some() { Ok(()) } else { Err(self.full(queue)) }
    }

    /// The message that makes room: of those that are ready the oldest of the least priority, else the
    /// oldest that is not leased.
    fn droppable(&self, queue: u32) -> Option<u32> {
        let at = &self.queues.table[queue];
        let listed = match at.ready_bits {
            0 => None,
            bits => at.ready[bits.trailing_zeros() as usize].first(),
        };
        let returned = at.returned.last_key_value().map(|(&(level, _), _)| level);
        let returned = returned.and_then(|level| at.returned.range((level, 0)..).next());
        let rank = |&message: &u32| {
            let it = &self.queues.messages[message];
            (it.priority(), it.position)
        };
        let ready = listed.into_iter().chain(returned.map(|(_, &message)| message)).min_by_key(rank);
        ready.or_else(|| {
            let mut next = at.all.first();
            let all = core::iter::from_fn(|| {
                let message = next?;
                next = self.queues.messages[message].by_queue.next();
                Some(message)
            });
            all.take(DROP_SCAN).find(|&message| self.queues.messages[message].state != State::Leased)
        })
    }

    fn drop_oldest(&mut self, now: Instant, queue: u32, gone: &mut Vec<Place>) {
        let message = self.droppable(queue).expect("what is not leased can make room");
        let at = &mut self.queues.table[queue];
        at.counts.dropped += 1;
        if at.is_logged() {
            gone.push(Place { queue: at.id, position: self.queues.messages[message].position });
        }
        self.remove_message(now, message);
    }

    /// Whether a user may have so much more in queues.
    pub(crate) fn check_queued_quota(
        &self,
        user: u32,
        uid: u32,
        count: u64,
        bytes: u64,
    ) -> Result<(), Refusal> {
        let it = &self.users[user];
        let busy = |message: String| Err((Outcome::Busy, message));
        let most = self.limits.of_user(uid).queued_bytes;
        if most < it.queued_bytes + bytes {
            return busy(format!(
                "{bytes} bytes more would pass the {most} that your user may have in queues (limits.user.queued_bytes)"
            ));
        }
        let most = u64::from(self.limits.queued_max);
        if most < self.queues.messages() + count || most / 2 < u64::from(it.queued) + count {
            return busy(format!(
                "of the {most} messages that may be in queues your user has half, or all are there (limits.queued_max)"
            ));
        }
        let most = self.limits.queued_bytes_max;
        if most < self.queues.bytes + bytes || most / 2 < it.queued_bytes + bytes {
            return busy(format!(
                "of the {most} bytes that may be in queues your user has half, or all are there (limits.queued_bytes_max)"
            ));
        }
        Ok(())
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

    // --- waiting for room ---

    /// A push waits for room in a full queue.
    #[expect(clippy::too_many_arguments, reason = "a push and what it needs")]
    fn block(
        &mut self,
        turn: &mut Turn<'_, P>,
        pusher: Pusher,
        from: u32,
        queue: u32,
        header: Header,
        tail: P,
        count: u64,
        bytes: u64,
    ) -> Result<(), Refusal> {
        assert!(matches!(pusher, Pusher::Frame(_)), "who has waited is let in when there is room");
        if header.flags & flags::NO_WAIT != 0 {
            return Err(self.full(queue));
        }
        let charge = padded(header.len as usize) as u64;
        self.check_waiting_quota(from, charge)?;
        let call = self.enter_call(turn, from, NONE, &header);
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
            header,
            tail: tail.keep(),
            count,
            bytes,
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
    fn leave_blocked(&mut self, turn: &mut Turn<'_, P>, call: u32) {
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
            if let Err((outcome, message)) = self.push_frame(turn, Pusher::Call(call), queue, header, tail) {
                self.end_by_broker(turn, call, outcome, &message);
            }
        }
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

/// Reads the extensions of a push; those handles that QUEUES has are read by who can.
fn wishes_of<'a>(header: &Header, bytes: &'a [u8]) -> Result<(Wishes, Option<&'a [u8]>), Refusal> {
    use extension_type::{GROUP, METHOD_NAME, PRODUCER, PUSH, QUEUES};
    let invalid = |message: &str| (Outcome::Invalid, message.to_string());
    let tail = Tail::of(header, bytes);
    check_extensions(&tail, &[METHOD_NAME, PUSH, GROUP, PRODUCER, QUEUES])?;
    let mut wishes = Wishes::default();
    let mut further = None;
    for extension in tail.extensions().into_iter().flatten() {
        let value = extension.value;
        match extension.kind {
            PUSH => {
                wishes.options = PushOptions::from_bytes(value)
                    .ok_or_else(|| invalid("the extension PUSH is 20 bytes, 3 of them zeros (SPEC 2.5)"))?;
                wishes.has_options = true;
            }
            GROUP => {
                if value.is_empty() || GROUP_KEY_BYTES_MAX < value.len() {
                    return Err(invalid("the key of a group is 1 to 128 bytes (SPEC 2.5)"));
                }
                wishes.key = Some(Rc::from(value));
            }
            PRODUCER => {
                let Some((producer, number)) = value.split_first_chunk::<8>() else {
                    return Err(invalid("the extension PRODUCER is 16 bytes (SPEC 2.5)"));
                };
                let number: [u8; 8] = number
                    .try_into()
                    .map_err(|_| invalid("the extension PRODUCER is 16 bytes (SPEC 2.5)"))?;
                wishes.producer = Some((u64::from_le_bytes(*producer), u64::from_le_bytes(number)));
            }
            QUEUES => further = Some(value),
            _ => {}
        }
    }
    check_priority(wishes.options.priority)?;
    Ok((wishes, further))
}

fn check_priority(priority: u8) -> Result<(), Refusal> {
    if priority < QUEUE_PRIORITIES {
        return Ok(());
    }
    Err((Outcome::Invalid, format!("priority {priority}; a queue has 0 to 31 (SPEC 10.4)")))
}

/// The messages of a batch: where each is, and where it goes.
fn parts_of(header: &Header, bytes: &[u8], wishes: &Wishes, queues: usize) -> Result<Vec<Part>, Refusal> {
    let payload = Tail::of(header, bytes).payload;
    let count = Parts::of(payload).count_whole();
    let Some(count) = count.map(|count| count as usize) else {
        let message = "the payload is no batch: empty, or not exactly its messages (SPEC 2.9)".to_string();
        return Err((Outcome::Invalid, message));
    };
    if BATCH_MAX < count {
        return Err((Outcome::TooLarge, format!("{count} messages in one push; at most {BATCH_MAX}")));
    }
    let mut parts = Vec::with_capacity(count);
    let mut at = bytes.len() - payload.len();
    for part in Parts::of(payload) {
        let [priority, queue, 0, 0] = part.attribute.to_le_bytes() else {
            let message = format!("attribute {:#x} has bits that mean nothing (SPEC 10.3)", part.attribute);
            return Err((Outcome::Invalid, message));
        };
        if queues <= usize::from(queue) {
            let message = format!("a message for queue {queue} of {queues} (SPEC 10.3)");
            return Err((Outcome::Invalid, message));
        }
        let priority = if wishes.has_options { wishes.options.priority } else { priority };
        check_priority(priority)?;
        let start = at + switchboard_protocol::PART_HEADER_BYTES;
        let end = start + part.payload.len();
        parts.push(Part { queue: queue.into(), priority, start, end });
        at += switchboard_protocol::part_bytes(part.payload.len());
    }
    Ok(parts)
}
