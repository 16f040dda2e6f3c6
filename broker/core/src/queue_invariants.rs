//! What is always true of queues and of the log between two inputs: for tests, like `invariants.rs`.

use crate::Payload;
use crate::broker::Broker;
use crate::call::Target;
use crate::consumer::{Role, Waits};
use crate::dedupe::MARK_COST;
use crate::invariants::members;
use crate::message::{Due, STATES, State};
use crate::slab::NONE;
use crate::storage::Thing;
use alloc::collections::{BTreeMap, BTreeSet};
use switchboard_protocol::ObjectKind;
use switchboard_protocol::queue::Level;

impl<P: Payload> Broker<P> {
    /// Panics if what queues say of themselves is not what is in them.
    pub(crate) fn check_queues(&self) {
        let q = &self.queues;
        for (object, it) in self.objects.iter().filter(|(_, it)| it.kind == ObjectKind::Queue) {
            assert!(it.body == NONE || q.table[it.body].object == object, "a queue leads back to its name");
            assert_eq!(it.name.is_some(), it.body != NONE, "a queue that was deleted has no name");
        }
        let mut messages = self.storage.recovery.messages();
        let mut visitors = 0;
        let mut blocked = 0;
        let mut marks = 0;
        let mut groups = 0;
        for (queue, _) in q.table.iter() {
            messages += self.check_queue(queue);
            let at = &q.table[queue];
            visitors += at.visitors.len();
            blocked += at.blocked.len();
            marks += at.marks.len();
            groups += at.groups.len();
        }
        assert_eq!(messages, q.messages.len() as usize, "a message is in one queue");
        assert_eq!((visitors, blocked), (q.consumers.len(), q.blocked.len()));
        assert_eq!((marks, groups), (q.marks.len() as usize, q.groups.len() as usize));
        assert_eq!(q.messages.iter().map(|(_, it)| it.tail.len() as u64).sum::<u64>(), q.bytes);
        let extras: BTreeSet<u32> =
            q.messages.iter().map(|(_, it)| it.extra).filter(|&extra| extra != NONE).collect();
        assert_eq!(extras.len(), q.extras.len() as usize, "what stands aside belongs to a message");
        assert!(q.gone.is_empty() && q.delivered.is_empty(), "what has happened was appended");
        assert_eq!(q.stirred, !q.due.is_empty());
        self.check_leases();
        self.check_clock();
    }

    /// The same of one queue; how many messages it has.
    fn check_queue(&self, queue: u32) -> usize {
        let q = &self.queues;
        let at = &q.table[queue];
        let name = &at.settings.name;
        let all = members(at.all, &q.messages, |message| message.by_queue);
        let (mut states, mut bytes, mut leased, mut letters, mut before) = ([0; STATES], 0, 0, 0, 0);
        for &message in &all {
            let it = &q.messages[message];
            assert_eq!(it.queue, queue);
            assert!(before < it.position && it.position <= at.position, "`{name}`: positions grow");
            before = it.position;
            states[it.state as usize] += 1;
            bytes += it.tail.len() as u64;
            leased += if it.state == State::Leased { it.tail.len() as u64 } else { 0 };
            letters += u32::from(self.is_dead_letter(message));
            assert_eq!(it.lease != NONE, it.state == State::Leased);
            assert!(it.stored || matches!(it.state, State::Storing | State::Grouped));
            assert!(!it.stored || it.state != State::Storing, "`{name}`: what is stored has its place");
            let extra = q.extras.get(it.extra);
            let grouped = extra.is_some_and(|extra| extra.group != NONE);
            let keyed = extra.is_some_and(|extra| extra.key.is_some() && extra.dead.is_none());
            assert_eq!(grouped, keyed, "`{name}`: who has a key is in a group");
            assert_eq!(it.segment != NONE, at.settings.durability != Level::Memory);
        }
        assert_eq!((states, bytes, leased, letters), (at.states, at.bytes, at.leased_bytes, at.letters));
        for (priority, list) in at.ready.iter().enumerate() {
            assert_eq!(list.is_empty(), at.ready_bits & 1 << priority == 0);
            let mut before = 0;
            for message in members(*list, &q.messages, |message| message.by_state) {
                let it = &q.messages[message];
                assert_eq!((it.queue, it.state), (queue, State::Ready));
                assert!(usize::from(it.priority()) == priority && before < it.position);
                before = it.position;
            }
        }
        for (&(level, position), &message) in &at.returned {
            let it = &q.messages[message];
            assert_eq!((it.queue, it.state, it.position), (queue, State::Returned, position));
            assert_eq!(31 - it.priority(), level);
        }
        let listed: u32 = at.ready.iter().map(crate::list::List::len).sum();
        assert_eq!(listed, states[State::Ready as usize]);
        assert_eq!(at.returned.len() as u32, states[State::Returned as usize]);
        let mut behind = 0;
        for (key, &group) in &at.groups {
            let group = &q.groups[group];
            assert_eq!(*key, group.key);
            assert_ne!(q.messages[group.head].state, State::Grouped, "`{name}`: a head is in play");
            let mut before = q.messages[group.head].position;
            for message in members(group.line, &q.messages, |message| message.by_state) {
                behind += 1;
                let it = &q.messages[message];
                assert_eq!((it.queue, it.state), (queue, State::Grouped));
                assert!(before < it.position, "`{name}`: a group is in the order of positions");
                before = it.position;
            }
        }
        assert_eq!(behind, states[State::Grouped as usize]);
        self.check_consumers(queue);
        for (&(uid, producer), &mark) in &at.marks {
            let it = &q.marks[mark];
            assert_eq!((it.queue, it.uid, it.producer), (queue, uid, producer));
        }
        all.len()
    }

    fn check_consumers(&self, queue: u32) {
        let q = &self.queues;
        let at = &q.table[queue];
        let visitors = members(at.visitors, &q.consumers, |consumer| consumer.by_queue);
        let hungry: BTreeSet<u32> =
            members(at.hungry, &q.consumers, |consumer| consumer.by_turn).into_iter().collect();
        let walkers: BTreeSet<u32> =
            members(at.walkers, &q.consumers, |consumer| consumer.by_turn).into_iter().collect();
        for &consumer in &visitors {
            let it = &q.consumers[consumer];
            assert_eq!(it.queue, queue);
            assert_eq!(self.calls[it.call].target, Target::Consumer(consumer));
            assert_eq!(it.place == Waits::Hungry, hungry.contains(&consumer));
            match &it.role {
                Role::Pop { .. } => {
                    let call = &self.calls[it.call];
                    let wants = !call.stream || 0 < call.credit;
                    assert_eq!(wants, it.place != Waits::Idle, "who can take more is in line for it");
                }
                Role::Walk(walk) => {
                    assert!(walkers.contains(&consumer));
                    let there = walk.cursor.is_none_or(|at| q.messages[at].queue == queue);
                    assert!(there, "a walk stands at a message of its queue");
                }
            }
        }
        assert!(hungry.is_empty() || self.first_ready(queue).is_none() || at.due, "who is hungry is fed");
        for blocked in members(at.blocked, &q.blocked, |blocked| blocked.by_queue) {
            assert_eq!(q.blocked[blocked].queue, queue);
        }
    }

    fn check_leases(&self) {
        let q = &self.queues;
        for (lease, it) in q.leases.iter() {
            assert_eq!(q.messages[it.message].lease, lease, "a lease is of a message");
        }
        let leased: u32 = q.table.iter().map(|(_, at)| at.states[State::Leased as usize]).sum();
        assert_eq!(leased, q.leases.len());
        let mut held = 0;
        for (slot, peer) in self.peers.iter().enumerate() {
            let Some(peer) = peer else { continue };
            for lease in members(peer.leases, &q.leases, |lease| lease.by_peer) {
                assert_eq!(q.leases[lease].holder as usize, slot);
                held += 1;
            }
            for consumer in members(peer.consumers_stalled, &q.consumers, |consumer| consumer.by_stall) {
                assert_eq!(q.consumers[consumer].place, Waits::Stalled);
            }
        }
        assert_eq!(held, q.leases.iter().filter(|(_, it)| it.holder != NONE).count());
    }

    fn check_clock(&self) {
        let q = &self.queues;
        let mut timed = 0;
        for (message, it) in q.messages.iter() {
            let Some(extra) = q.extras.get(it.extra) else { continue };
            if let Some(due) = q.clock.get(extra.timer) {
                timed += 1;
                assert!(matches!(*due, Due::Message(of) if of == message));
                assert!(matches!(it.state, State::Ready | State::Returned | State::Delayed));
            } else {
                assert_ne!(it.state, State::Delayed, "what is delayed comes up");
            }
        }
        for (mark, it) in q.marks.iter() {
            timed += usize::from(q.clock.get(it.timer).is_some());
            assert!(q.clock.get(it.timer).is_some_and(|due| matches!(*due, Due::Mark(of) if of == mark)));
        }
        assert_eq!(timed, q.clock.len(), "a wall-clock timer is somebody's");
    }

    /// Panics if the log's segments do not hold what they are said to.
    pub(crate) fn check_storage(&self) {
        let storage = &self.storage;
        let q = &self.queues;
        let mut live: BTreeMap<u32, u32> = BTreeMap::new();
        let mut held = |segment: u32, thing: Thing| {
            if segment != NONE {
                *live.entry(segment).or_default() += 1;
                let index = (segment - storage.first) as usize;
                assert!(storage.segments[index].things.contains(&thing), "{thing:?} in {segment}");
            }
        };
        q.messages.iter().filter(|(_, it)| it.queue != NONE).for_each(|(message, it)| {
            held(it.segment, Thing::Message(message));
        });
        q.table.iter().for_each(|(queue, it)| held(it.segment, Thing::Queue(queue)));
        q.marks.iter().for_each(|(mark, it)| held(it.segment, Thing::Mark(mark)));
        storage.retained.iter().for_each(|(retained, it)| held(it.segment, Thing::Retained(retained)));
        let live_messages = q.messages.iter().filter(|(_, it)| it.queue != NONE && it.segment != NONE);
        let mut cost: u64 = live_messages.map(|(message, _)| self.message_cost(message)).sum();
        cost += q.table.iter().filter(|(_, it)| it.segment != NONE).map(|(_, it)| it.cost).sum::<u64>();
        cost += MARK_COST * q.marks.iter().filter(|(_, it)| it.segment != NONE).count() as u64;
        cost += storage.retained.iter().map(|(retained, _)| self.retained_cost(retained)).sum::<u64>();
        assert_eq!(cost, storage.live_bytes, "bytes of what is wanted of the log");
        let mut bytes = 0;
        for (number, segment) in (storage.first..).zip(&storage.segments) {
            bytes += segment.bytes;
            assert_eq!(segment.live, live.remove(&number).unwrap_or(0), "things in segment {number}");
        }
        assert_eq!(bytes, storage.bytes);
        assert!(live.is_empty(), "things in segments that are gone");
        if storage.info().failure.is_empty() && !storage.is_ready() {
            assert_eq!(storage.position(), 0, "nothing is appended without a log");
        }
    }
}
