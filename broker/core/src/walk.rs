//! Walks through a queue, message by message, a slice at a time: to look, to purge, to bring dead
//! letters back (SPEC 10.11, 10.12).
//!
//! A walk stands at a message. When that message leaves its queue, the walk steps to the next one
//! first, so that nothing is seen twice and nothing left out.

use crate::Payload;
use crate::broker::{Broker, Turn, Work};
use crate::call::Target;
use crate::consumer::{Role, malformed};
use crate::control::Refusal;
use crate::message::State;
use crate::record::{Change, Place, Record};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::queue::{Level, Peek, Redrive, Redriven};
use switchboard_protocol::{Header, Kind, Name, ObjectKind, Outcome, decode, encode, flags};

/// Where a walk is, and what it is for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Walk {
    pub(crate) errand: Errand,
    /// The message that is next.
    pub(crate) cursor: Option<u32>,
    /// The position at which it ends: what comes later is not meant.
    until: u64,
    /// Whether [`Work::Walk`] is on its way.
    due: bool,
    /// The latest record that it has caused, and how safe that is to be; 0 for none.
    log: u64,
    level: Level,
}

/// What is done with each message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Errand {
    /// It is shown, if it is behind a position.
    Peek { after: u64, left: u32 },
    /// It is removed, unless it is leased.
    Purge { removed: u64 },
    /// It goes to where it came from, if it is a dead letter, and from this queue if one is named.
    Redrive { of: Option<String>, then: Option<Name>, left: u32, done: Redriven, least: Level },
}

impl<P: Payload> Broker<P> {
    /// A call with method 6.
    pub(crate) fn peek(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        queue: u32,
        header: &Header,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let ask: Peek = decode(body).ok_or_else(malformed)?;
        if header.flags & flags::STREAM == 0 {
            let message = "a Peek is a streamed call: set the flag STREAM (SPEC 10.11)".to_string();
            return Err((Outcome::Invalid, message));
        }
        let left = if ask.count == 0 { u32::MAX } else { ask.count };
        self.start_walk(turn, from, queue, header, Errand::Peek { after: ask.after, left });
        Ok(())
    }

    /// A call with method 7.
    pub(crate) fn purge(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        queue: u32,
        header: &Header,
    ) -> Result<(), Refusal> {
        self.check_writable(self.queues.table[queue].level())?;
        self.start_walk(turn, from, queue, header, Errand::Purge { removed: 0 });
        Ok(())
    }

    /// A call with method 9.
    pub(crate) fn redrive(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        queue: u32,
        header: &Header,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let ask: Redrive = decode(body).ok_or_else(malformed)?;
        self.check_writable(self.queues.table[queue].level())?;
        let errand = Errand::Redrive {
            of: None,
            then: self.dead_letter_name(queue),
            left: if ask.count == 0 { u32::MAX } else { ask.count },
            done: Redriven::default(),
            least: Level::Disk,
        };
        self.start_walk(turn, from, queue, header, errand);
        Ok(())
    }

    fn start_walk(&mut self, turn: &mut Turn<'_, P>, from: u32, queue: u32, header: &Header, errand: Errand) {
        let at = &self.queues.table[queue];
        // A queue without dead letters need not be searched for them.
        let nothing = matches!(errand, Errand::Redrive { .. }) && at.letters == 0;
        let walk = Walk {
            errand,
            cursor: at.all.first().filter(|_| !nothing),
            until: at.position,
            due: false,
            log: 0,
            level: at.level(),
        };
        let consumer = self.visit(turn, from, queue, header, Role::Walk(walk));
        self.walk_on(consumer);
    }

    fn walk_of(&mut self, consumer: u32) -> &mut Walk {
        match &mut self.queues.consumers[consumer].role {
            Role::Walk(walk) => walk,
            Role::Pop { .. } => unreachable!("a consumer that walks"),
        }
    }

    /// A walk can go on.
    pub(crate) fn walk_on(&mut self, consumer: u32) {
        let word = self.queues.consumers.word(consumer);
        if !core::mem::replace(&mut self.walk_of(consumer).due, true) {
            self.work.push_back(Work::Walk { consumer: word });
        }
    }

    /// A message is about to leave its queue.
    pub(crate) fn step_aside(&mut self, message: u32) {
        let it = &self.queues.messages[message];
        let (queue, after) = (it.queue, it.by_queue.next());
        let mut next = self.queues.table[queue].walkers.first();
        while let Some(consumer) = next {
            next = self.queues.consumers[consumer].by_turn.next();
            let walk = self.walk_of(consumer);
            if walk.cursor == Some(message) {
                walk.cursor = after;
            }
        }
    }

    /// A slice of a walk; `Some` with the work left.
    pub(crate) fn walk(&mut self, turn: &mut Turn<'_, P>, word: u64, budget: &mut u32) -> Option<Work> {
        let consumer = self.queues.consumers.find(word)?;
        let queue = self.queues.consumers[consumer].queue;
        let call = self.queues.consumers[consumer].call;
        let level = self.queues.table[queue].level();
        self.walk_of(consumer).due = false;
        if !matches!(self.walk_of(consumer).errand, Errand::Peek { .. })
            && let Err((outcome, message)) = self.check_writable(level)
        {
            self.end_by_broker(turn, call, outcome, &message);
            return None;
        }
        let mut gone = Vec::new();
        let over = loop {
            let until = self.walk_of(consumer).until;
            let Some(message) = self.walk_of(consumer).cursor else { break true };
            let position = self.queues.messages[message].position;
            if until < position {
                break true;
            }
            if *budget == 0 {
                break false;
            }
            *budget -= 1;
            let it = &self.queues.messages[message];
            let (next, leased) = (it.by_queue.next(), it.state == State::Leased);
            match &mut self.walk_of(consumer).errand {
                Errand::Peek { after, left } => {
                    if position <= *after {
                        self.walk_of(consumer).cursor = next;
                        continue;
                    }
                    if *left == 0 {
                        break true;
                    }
                    let to = self.calls[call].caller.slot;
                    if self.calls[call].credit == 0 {
                        return None;
                    }
                    if !self.can_take(to) {
                        self.stall_consumer(consumer);
                        return None;
                    }
                    self.show_message(turn, consumer, message);
                    self.walk_of(consumer).cursor = next;
                }
                Errand::Purge { removed } => {
                    if leased {
                        self.walk_of(consumer).cursor = next;
                        continue;
                    }
                    *removed += 1;
                    let at = &self.queues.table[queue];
                    if at.is_logged() {
                        gone.push(Place { queue: at.id, position });
                    }
                    // The walk steps aside by itself.
                    self.remove_message(turn.now, message);
                }
                Errand::Redrive { left, .. } => {
                    if *left == 0 {
                        break true;
                    }
                    self.walk_of(consumer).cursor = next;
                    self.drive_back(turn, consumer, message);
                }
            }
        };
        if !gone.is_empty() {
            let change = Record::Change(Change { gone, ..Change::default() });
            let log = self.append(turn, &change, None, level == Level::Disk);
            self.walk_of(consumer).log = log;
        }
        if !over {
            self.walk_of(consumer).due = true;
            return Some(Work::Walk { consumer: word });
        }
        self.end_walk(turn, consumer);
        None
    }

    /// An item of a Peek (SPEC 10.11).
    fn show_message(&mut self, turn: &mut Turn<'_, P>, consumer: u32, message: u32) {
        if let Errand::Peek { left, .. } = &mut self.walk_of(consumer).errand {
            *left -= 1;
        }
        let it = &self.queues.messages[message];
        let (counts, position) = (it.counts, it.position);
        let shown = self.shown(message);
        let it = &self.queues.consumers[consumer];
        let (call, object) = (it.call, self.queues.table[it.queue].object);
        let it = &mut self.calls[call];
        it.credit -= 1;
        it.items += 1;
        let header = Header {
            method: counts,
            handle: it.handle,
            call: it.caller_call,
            seq: it.items,
            deadline: position,
            ..Header::new(Kind::Item)
        };
        let to = it.caller.slot;
        self.send_message(turn, object, (to, header), shown);
    }

    /// Brings a dead letter back, if it is one that is meant and there is room for it.
    fn drive_back(&mut self, turn: &mut Turn<'_, P>, consumer: u32, message: u32) {
        let it = &self.queues.messages[message];
        let (bytes, state, stored) = (it.tail.len() as u64, it.state, it.stored);
        let dead = self.queues.extras.get(it.extra).and_then(|extra| extra.dead.as_deref());
        let Some(origin) = dead.map(|dead| dead.queue.clone()) else { return };
        let meant = match &self.walk_of(consumer).errand {
            Errand::Redrive { of, .. } => of.as_ref().is_none_or(|of| *of == origin),
            Errand::Peek { .. } | Errand::Purge { .. } => unreachable!("a walk that drives back"),
        };
        if !meant || !stored || state == State::Leased {
            return;
        }
        let to = self.names.get(&origin[..]).copied();
        let to = to.filter(|&to| self.objects[to].kind == ObjectKind::Queue).map(|to| self.objects[to].body);
        let to = to.and_then(|to| self.queues.table.get(to).map(|at| (to, at)));
        let room = to.filter(|(_, at)| {
            !at.is_full(1, bytes)
                && at.blocked.is_empty()
                && self.check_writable(at.level()).is_ok()
                && (at.level() == Level::Memory || self.check_log_has_room().is_ok())
        });
        let room = room.map(|(to, at)| (to, at.level()));
        let before = self.storage.position();
        if let Some((to, _)) = room {
            let extra = self.extra_mut(message);
            extra.ready_at = 0;
            extra.expires = 0;
            self.move_message(turn, message, to, None);
        }
        let log = self.storage.position();
        let walk = self.walk_of(consumer);
        let Errand::Redrive { left, done, least, .. } = &mut walk.errand else {
            unreachable!("a walk that drives back")
        };
        match room {
            Some((_, level)) => {
                *left -= 1;
                done.moved += 1;
                *least = level.min(*least);
                walk.level = level.max(walk.level);
                if log != before {
                    walk.log = log;
                }
            }
            None => done.left += 1,
        }
    }

    /// A walk has come to its end, and goes on elsewhere or answers.
    fn end_walk(&mut self, turn: &mut Turn<'_, P>, consumer: u32) {
        let queue = self.queues.consumers[consumer].queue;
        let from = self.queues.table[queue].settings.name.to_string();
        let walk = self.walk_of(consumer);
        if let Errand::Redrive { of, then, .. } = &mut walk.errand
            && let Some(name) = then.take()
        {
            *of = Some(from);
            let there = self.names.get(&name).copied();
            let there = there.filter(|&there| self.objects[there].kind == ObjectKind::Queue);
            let there = there.map(|there| self.objects[there].body);
            if let Some(next) = there.filter(|&next| self.queues.table.get(next).is_some()) {
                return self.walk_elsewhere(consumer, next);
            }
        }
        let own = self.queues.table[queue].level();
        let walk = self.walk_of(consumer);
        let (log, level) = (walk.log, walk.level);
        let mut reply = Header { epoch: log, method: own as u32, ..Header::new(Kind::Reply) };
        let mut body = Vec::new();
        match &walk.errand {
            Errand::Peek { .. } => reply.method = 0,
            Errand::Purge { removed } => reply.seq = *removed,
            Errand::Redrive { done, least, .. } => {
                if 0 < done.moved {
                    reply.method = *least as u32;
                }
                body = encode(done);
            }
        }
        let call = self.queues.consumers[consumer].call;
        if self.is_at(level, log) {
            return self.answer_call(turn, call, reply, body);
        }
        self.end_consumer(turn, consumer);
        self.calls[call].target = Target::Nowhere;
        self.answer_when_stored(turn, call, log, level, reply, body);
    }

    fn walk_elsewhere(&mut self, consumer: u32, queue: u32) {
        let before = core::mem::replace(&mut self.queues.consumers[consumer].queue, queue);
        let at = &mut self.queues.table[before];
        at.walkers.remove(&mut self.queues.consumers, consumer, |consumer| &mut consumer.by_turn);
        at.visitors.remove(&mut self.queues.consumers, consumer, |consumer| &mut consumer.by_queue);
        let at = &mut self.queues.table[queue];
        at.walkers.push(&mut self.queues.consumers, consumer, |consumer| &mut consumer.by_turn);
        at.visitors.push(&mut self.queues.consumers, consumer, |consumer| &mut consumer.by_queue);
        let (first, until, level) = (at.all.first(), at.position, at.level());
        let walk = self.walk_of(consumer);
        walk.cursor = first;
        walk.until = until;
        walk.level = level.max(walk.level);
        self.walk_on(consumer);
    }
}
