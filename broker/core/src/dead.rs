//! Dead letters: messages that nobody could deal with, kept with their history (SPEC 10.12).

use crate::broker::{Broker, Turn};
use crate::message::State;
use crate::record::{Change, Place, Record};
use crate::slab::NONE;
use crate::storage::Unsafe;
use crate::{Payload, QueueSettings};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use serde::{Deserialize, Serialize};
use switchboard_protocol::queue::{DeadLetter, Level, Overflow};
use switchboard_protocol::{Name, ObjectKind};

/// Why a message is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Death {
    /// It was delivered as often as its queue lets it.
    Deliveries,
    /// A consumer said so.
    Refused,
}

/// A dead letter for which there is no room is tried again after so long.
const RETRY_NS: u64 = 1_000_000_000;

impl<P: Payload> Broker<P> {
    pub(crate) fn is_dead_letter(&self, message: u32) -> bool {
        let extra = self.queues.messages[message].extra;
        self.queues.extras.get(extra).is_some_and(|extra| extra.dead.is_some())
    }

    /// The name of a queue's dead letters; `None` where that would be too long.
    pub(crate) fn dead_letter_name(&self, queue: u32) -> Option<Name> {
        let settings = &self.queues.table[queue].settings;
        let own = || Name::new(&format!("{}.dead", settings.name)).ok();
        settings.dead_letters.clone().or_else(own)
    }

    /// The queue of a queue's dead letters, made if need be.
    fn dead_letters_of(&mut self, turn: &mut Turn<'_, P>, queue: u32) -> Option<u32> {
        let name = self.dead_letter_name(queue)?;
        let at = &self.queues.table[queue];
        if let Some(&object) = self.names.get(&name)
            && self.objects[object].kind == ObjectKind::Queue
        {
            let dead = self.objects[object].body;
            return (dead != NONE && dead != queue).then_some(dead);
        }
        let settings = QueueSettings {
            name,
            overflow: Overflow::Reject,
            lossy: false,
            dead_letters: None,
            ..at.settings.clone()
        };
        let user = self.objects[at.object].user;
        self.make_queue(turn, settings, user).ok()
    }

    /// Gives a leased message up. If it cannot be moved now it stays where it is, out of reach of
    /// consumers, and is tried again.
    pub(crate) fn bury_or_keep(&mut self, turn: &mut Turn<'_, P>, message: u32, death: Death) {
        self.unplace(message);
        self.set_state(message, State::Storing);
        self.extra_mut(message).dying = Some(death);
        self.bury(turn, message);
    }

    /// Moves a message that is dying to the dead letters, or tries again later.
    pub(crate) fn bury(&mut self, turn: &mut Turn<'_, P>, message: u32) {
        if !self.try_bury(turn, message) {
            let ready_at = self.wall(turn.now).saturating_add(RETRY_NS);
            self.extra_mut(message).ready_at = ready_at;
            self.place(turn.now, message);
        }
    }

    fn try_bury(&mut self, turn: &mut Turn<'_, P>, message: u32) -> bool {
        let it = &self.queues.messages[message];
        let (queue, bytes) = (it.queue, it.tail.len() as u64);
        let level = self.queues.table[queue].level();
        if self.queues.table[queue].object == NONE || self.check_writable(level).is_err() {
            return false;
        }
        let Some(to) = self.dead_letters_of(turn, queue) else { return false };
        let at = &self.queues.table[to];
        // What was promised to survive goes nowhere where it would not.
        let weaker = at.level() < level;
        if weaker || self.check_writable(at.level()).is_err() || at.is_full(1, bytes) {
            return false;
        }
        let wall = self.wall(turn.now);
        let it = &self.queues.messages[message];
        let letter = DeadLetter {
            queue: self.queues.table[queue].settings.name.to_string(),
            position: it.position,
            deliveries: it.deliveries(),
            pushed_wall_ns: u64::from(it.pushed_s) * 1_000_000_000,
            died_wall_ns: wall,
            reason: self.reason(message),
        };
        self.queues.table[queue].counts.dead += 1;
        let extra = self.extra_mut(message);
        extra.dying = None;
        extra.expires = 0;
        extra.ready_at = 0;
        self.move_message(turn, message, to, Some(Box::new(letter)));
        true
    }

    fn reason(&self, message: u32) -> String {
        let it = &self.queues.messages[message];
        match self.queues.extras.get(it.extra).and_then(|extra| extra.dying) {
            Some(Death::Refused) => "a consumer gave it up".to_string(),
            Some(Death::Deliveries) | None => {
                format!("delivered {} times and never acknowledged", it.deliveries())
            }
        }
    }

    /// Moves a message that is in no list to the end of another queue, as a dead letter or as none:
    /// one record for both sides. There is room for it.
    pub(crate) fn move_message(
        &mut self,
        turn: &mut Turn<'_, P>,
        message: u32,
        to: u32,
        dead: Option<Box<DeadLetter>>,
    ) {
        let it = &self.queues.messages[message];
        let from = &self.queues.table[it.queue];
        let mut change: Change = Change::default();
        if from.is_logged() {
            change.gone.push(Place { queue: from.id, position: it.position });
        }
        let synced = from.is_logged() && from.level() == Level::Disk;
        self.detach(turn.now, message);
        self.extra_mut(message).dead = dead;
        let it = &mut self.queues.messages[message];
        it.set_deliveries(0);
        self.attach(message, to);
        let at = &mut self.queues.table[to];
        at.counts.pushed += 1;
        let (level, logged) = (at.level(), at.is_logged());
        // Not seen in its new place before it cannot come back in the old one.
        self.queues.messages[message].stored = !logged;
        let tail = logged.then(|| {
            let tail = self.queues.messages[message].tail.clone();
            change.messages.push(self.entry_of(message, (0, tail.len() as u32)));
            tail
        });
        if change.gone.is_empty() && tail.is_none() {
            return self.start(turn.now, message);
        }
        let sync = synced || level == Level::Disk;
        let log = self.append(turn, &Record::Change(change), tail, sync);
        if logged {
            self.hold_message(message);
            let word = self.queues.messages.word(message);
            self.release_when_stored(log, level, alloc::vec![word], Unsafe::Keep);
        }
        self.start(turn.now, message);
    }
}
