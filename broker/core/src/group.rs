//! Ordered groups: of the messages with one key, only the first is in play (SPEC 10.8).

use crate::Payload;
use crate::broker::Broker;
use crate::list::List;
use crate::message::State;
use crate::slab::NONE;
use alloc::rc::Rc;
use serde::{Deserialize, Serialize};
use switchboard_protocol::Instant;

/// The messages of a queue that have the same key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) key: Rc<[u8]>,
    /// The one that is delivered, delayed, or with a consumer.
    pub(crate) head: u32,
    /// Those behind it, in the order of positions.
    pub(crate) line: List,
}

impl<P: Payload> Broker<P> {
    /// Puts a message into its group, if it has one: whether it is the head.
    pub(crate) fn enter_group(&mut self, message: u32) -> bool {
        let it = &self.queues.messages[message];
        let (queue, extra) = (it.queue, it.extra);
        // A dead letter is in no group: its place in the order is lost.
        let Some(key) = self.queues.extras[extra].key.clone() else { return true };
        if self.queues.extras[extra].dead.is_some() {
            return true;
        }
        let at = &mut self.queues.table[queue];
        let Some(&group) = at.groups.get(&key) else {
            let group =
                self.queues.groups.insert(Group { key: Rc::clone(&key), head: message, line: List::EMPTY });
            at.groups.insert(key, group);
            self.queues.extras[extra].group = group;
            return true;
        };
        self.queues.extras[extra].group = group;
        let line = &mut self.queues.groups[group].line;
        line.push(&mut self.queues.messages, message, |message| &mut message.by_state);
        false
    }

    /// Takes a message out of the line behind its group's head.
    pub(crate) fn leave_line(&mut self, message: u32) {
        let extra = self.queues.messages[message].extra;
        let group = self.queues.extras[extra].group;
        let line = &mut self.queues.groups[group].line;
        line.remove(&mut self.queues.messages, message, |message| &mut message.by_state);
        self.queues.extras[extra].group = NONE;
    }

    /// A message that is in no line leaves its group. Where it was the head, the next one is.
    pub(crate) fn leave_group(&mut self, now: Instant, message: u32) {
        let it = &self.queues.messages[message];
        let (queue, extra) = (it.queue, it.extra);
        let group = core::mem::replace(&mut self.queues.extras[extra].group, NONE);
        if group == NONE {
            return;
        }
        let it = &mut self.queues.groups[group];
        assert_eq!(it.head, message, "who is not behind the head is the head");
        let Some(next) = it.line.first() else {
            let group = self.queues.groups.remove(group);
            self.queues.table[queue].groups.remove(&group.key);
            return;
        };
        it.head = next;
        it.line.remove(&mut self.queues.messages, next, |message| &mut message.by_state);
        self.set_state(next, State::Storing);
        if self.queues.messages[next].stored {
            self.place(now, next);
        }
    }
}
