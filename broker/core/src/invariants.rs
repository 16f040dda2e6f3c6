//! What is always true of a broker between two inputs, whatever they were. Called by tests after
//! every input; it goes through everything there is, so nobody else should.

use crate::Payload;
use crate::broker::{Broker, Timer};
use crate::call::Target;
use crate::list::{Links, List};
use crate::peer::Stage;
use crate::signal::PULSES_MAX;
use crate::slab::{NONE, Slab};
use crate::subscription::Pending;
use crate::topic::Origin;
use crate::user::User;
use crate::waiting::Message;
use crate::will::Will;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use switchboard_protocol::topic::Delivery;
use switchboard_protocol::{Epoch, ObjectKind, padded};

impl<P: Payload> Broker<P> {
    /// Panics if the broker's books do not balance: lists against what is in them, counts against
    /// what is counted, users' totals against their sums, nothing held by nobody.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        self.check_names();
        self.check_servers();
        self.check_handles();
        self.check_calls();
        self.check_waiting();
        self.check_peers();
        self.check_users();
        self.check_timers();
        self.check_queues();
        self.check_storage();
        self.check_topics();
        self.check_subscriptions();
        self.check_signals();
    }

    fn check_signals(&self) {
        let mut pulses = 0;
        let mut by_user: BTreeMap<u32, u32> = BTreeMap::new();
        let mut waiting = 0;
        for (signal, it) in self.signals.table.iter() {
            assert_eq!(self.objects[it.object].body, signal, "an event belongs to its name");
            let left: u32 = it.pulses.iter().map(|level| level.len() as u32).sum();
            assert_eq!(left, it.pulses_len);
            assert!(left <= PULSES_MAX, "SPEC 11.1");
            pulses += left;
            for left in it.pulses.iter().flatten() {
                *by_user.entry(left.user).or_default() += 1;
            }
            for waiter in members(it.waiting, &self.signals.waiters, |waiter| waiter.by_signal) {
                assert_eq!(self.signals.waiters[waiter].signal, signal);
                waiting += 1;
            }
        }
        for (waiter, it) in self.signals.waiters.iter() {
            assert_eq!(self.calls[it.call].target, Target::Await(waiter));
        }
        assert_eq!(waiting, self.signals.waiters.len());
        assert_eq!(pulses, self.signals.pulses);
        assert!(pulses <= self.limits.pulses_max, "limits.pulses_max");
        for (user, it) in self.users.iter() {
            assert_eq!(by_user.remove(&user).unwrap_or(0), it.pulses, "pulses of a user");
        }
    }

    fn check_names(&self) {
        let mut owned = 0;
        for (name, &object) in &self.names {
            assert_eq!(self.objects[object].name.as_ref(), Some(name), "a name leads to its object");
        }
        let mut named = 0;
        for (object, it) in self.objects.iter() {
            named += usize::from(it.name.is_some());
            owned += u32::from(it.name.is_some() && !it.owners.is_empty());
            assert!(
                !it.owners.is_empty()
                    || !it.standby.is_empty()
                    || it.handles != 0
                    || !it.waits.is_empty()
                    || self.is_wanted(object),
                "an object that nobody serves, holds or waits for is forgotten"
            );
            assert_eq!(it.owners.is_empty(), it.epoch == Epoch(0), "who owns has an epoch");
            assert!(!it.owners.is_empty() || it.standby.is_empty(), "nobody stands by for nobody");
            assert!(it.pool || it.owners.len() <= 1, "one owner unless a pool");
            let epochs: BTreeSet<Epoch> = it.owners.iter().map(|&owner| self.servers[owner].epoch).collect();
            assert_eq!(epochs.len(), it.owners.len(), "every ownership has an epoch of its own");
            assert_eq!(
                epochs.last().copied().unwrap_or_default(),
                it.epoch,
                "the name's epoch is the latest"
            );
            let waiting: u32 = it.waiting.iter().map(List::len).sum();
            assert_eq!(waiting, it.waiting_len);
            assert!(waiting == 0 || !it.owners.is_empty(), "messages wait only for an owner");
            for (level, list) in it.waiting.iter().enumerate() {
                for message in members(*list, &self.waiting, |message| message.by_level) {
                    assert_eq!(self.waiting[message].object, object);
                    assert_eq!(usize::from(self.waiting[message].header.priority), level);
                }
            }
            for call in members(it.waits, &self.calls, |call| call.by_wait) {
                assert_eq!(self.calls[call].target, Target::Wait(object));
            }
            let handles =
                self.handles.iter().filter(|(_, grip)| grip.object == object && grip.server == NONE);
            assert_eq!(handles.count() as u32, it.handles);
        }
        assert_eq!(named, self.names.len(), "every named object is in the index");
        assert_eq!(owned, self.names_owned);
        let configured = self.objects.iter().filter(|(_, object)| object.user == NONE).count() as u32;
        assert!(self.objects.len() <= self.limits.names_max + configured, "limits.names_max");
    }

    fn check_servers(&self) {
        for (server, it) in self.servers.iter() {
            let peer = self.peer(it.peer.slot);
            assert_eq!(peer.id, it.peer);
            let object = &self.objects[it.object];
            let places = object.owners.iter().chain(&object.standby).filter(|&&one| one == server).count();
            assert_eq!(places, 1, "a server is an owner or stands by");
            let handle = self.handles.find(it.handle).expect("a serving handle");
            assert_eq!((self.handles[handle].server, self.handles[handle].holder), (server, it.peer.slot));
            let outstanding =
                self.calls.iter().filter(|(_, call)| call.target == Target::Server(server)).count() as u32;
            assert_eq!(outstanding, it.outstanding);
            assert!(outstanding <= it.calls_max, "SPEC 5.2");
            assert_eq!(it.runs.iter().map(|run| run.bytes).sum::<u64>(), it.uncredited);
            assert!(it.runs.iter().all(|run| 0 < run.bytes && 0 < run.messages));
        }
        let serving = self.handles.iter().filter(|(_, grip)| grip.server != NONE).count() as u32;
        assert_eq!(serving, self.servers.len());
    }

    fn check_handles(&self) {
        let mut uncredited: BTreeMap<u64, u64> = BTreeMap::new();
        for (_, server) in self.servers.iter() {
            for run in &server.runs {
                *uncredited.entry(run.handle).or_default() += run.bytes;
            }
        }
        for (_, message) in self.waiting.iter().filter(|(_, message)| message.what == Message::Send) {
            *uncredited.entry(message.header.handle).or_default() +=
                padded(message.header.len as usize) as u64;
        }
        for (_, held) in self.topics.held.iter().filter(|(_, held)| held.origin == Origin::Send) {
            if self.handles.find(held.header.handle).is_some() {
                *uncredited.entry(held.header.handle).or_default() += padded(held.header.len as usize) as u64;
            }
        }
        let travelling: BTreeSet<u64> =
            self.waiting.iter().flat_map(|(_, message)| message.taken.iter().copied()).collect();
        for (handle, grip) in self.handles.iter() {
            let word = self.handles.word(handle);
            assert!(self.objects.get(grip.object).is_some(), "a handle is on something");
            match grip.holder {
                NONE => assert!(travelling.contains(&word), "a handle that nobody holds is on its way"),
                holder => assert!(self.peers[holder as usize].is_some()),
            }
            assert_eq!(grip.uncredited, uncredited.remove(&word).unwrap_or(0), "a send window");
            if grip.scope != NONE {
                assert!(self.calls[grip.scope].open, "a call-scoped handle dies with its call");
            }
        }
        for (call, it) in self.calls.iter() {
            for handle in members(it.scoped, &self.handles, |grip| grip.by_scope) {
                assert_eq!(self.handles[handle].scope, call);
            }
        }
        let scoped = self.handles.iter().filter(|(_, grip)| grip.scope != NONE).count() as u32;
        assert_eq!(scoped, self.calls.iter().map(|(_, call)| call.scoped.len()).sum::<u32>());
        assert!(self.handles.len() <= self.limits.handles_max, "limits.handles_max");
    }

    fn check_calls(&self) {
        let mut open = 0;
        for (call, it) in self.calls.iter() {
            open += u32::from(it.open);
            if it.open {
                let caller = self.peer(it.caller.slot);
                assert_eq!(caller.id, it.caller);
                assert_eq!(caller.call_at(it.caller_call as u32), Some(call));
            }
            match it.target {
                Target::Nowhere => panic!("a call that is nowhere"),
                Target::Waiting(message) => assert_eq!(self.waiting[message].what, Message::Call(call)),
                Target::Server(server) => assert_eq!(self.servers[server].object, it.object),
                Target::Wait(object) => assert!(self.objects.get(object).is_some()),
                Target::Watch(watch) => assert_eq!(self.watches[watch].call, call),
                Target::Monitor(monitor) => assert_eq!(self.monitors[monitor].call, call),
                Target::Reload => assert!(self.reloads.contains(&self.calls.word(call))),
                Target::Subscription(subscription) => {
                    assert_eq!(self.topics.subscriptions[subscription].call, call);
                }
                Target::Publish(held) => assert_eq!(self.topics.held[held].origin, Origin::Call(call)),
                Target::Await(waiter) => assert_eq!(self.signals.waiters[waiter].call, call),
                Target::Consumer(consumer) => assert_eq!(self.queues.consumers[consumer].call, call),
                Target::Push(blocked) => assert_eq!(self.queues.blocked[blocked].call, call),
                Target::Stored(position) => assert!(position <= self.storage.position()),
            }
            assert!(it.open || matches!(it.target, Target::Server(_)), "only a server keeps an ended call");
        }
        assert_eq!(open, self.calls_open);
        assert!(self.calls.len() <= self.limits.calls_open_max, "limits.calls_open_max");
        let watching = self.calls.iter().filter(|(_, call)| {
            matches!(call.target, Target::Wait(_) | Target::Watch(_) | Target::Monitor(_))
        });
        assert_eq!(watching.count() as u32, self.watching);
        assert!(self.watching <= self.limits.watches_max, "limits.watches_max");
    }

    fn check_waiting(&self) {
        let mut bytes = 0;
        for (message, it) in self.waiting.iter() {
            bytes += padded(it.header.len as usize) as u64;
            if let Message::Call(call) = it.what {
                assert_eq!(self.calls[call].target, Target::Waiting(message));
            }
        }
        for (_, held) in self.topics.held.iter() {
            bytes += padded(held.header.len as usize) as u64;
        }
        for will in self.peers.iter().flatten().flat_map(|peer| &peer.wills) {
            bytes += will.bytes();
        }
        for (_, it) in self.queues.blocked.iter() {
            bytes += padded(it.header.len as usize) as u64;
        }
        let in_line: u32 = self.objects.iter().map(|(_, object)| object.waiting_len).sum();
        assert_eq!(in_line, self.waiting.len());
        let waiting = self.waiting.len() + self.topics.held.len();
        assert!(waiting <= self.limits.waiting_max, "limits.waiting_max");
        let reserved: u64 = self.peers.iter().flatten().map(|peer| peer.reserved).sum();
        assert_eq!((bytes + reserved, reserved), (self.buffered_bytes, self.receiving_bytes));
        assert!(self.buffered_bytes <= self.limits.buffered_bytes_max, "limits.buffered_bytes_max");
        assert!(
            self.starved.len() <= 2 * self.connections as usize + 32,
            "those who wait for room are there"
        );
    }

    fn check_peers(&self) {
        assert_eq!(self.peers.iter().flatten().count() as u32, self.connections);
        for (slot, peer) in self.peers.iter().enumerate() {
            let Some(peer) = peer else { continue };
            let slot = slot as u32;
            assert_eq!(peer.id.slot, slot);
            let calls = members(peer.calls, &self.calls, |call| call.by_caller);
            assert!(calls.iter().all(|&call| self.calls[call].open && self.calls[call].caller == peer.id));
            let filled = peer.call_slots.iter().filter(|&&call| call != NONE).count();
            assert_eq!(filled, calls.len());
            for request in members(peer.requests, &self.calls, |call| call.by_server) {
                let Target::Server(server) = self.calls[request].target else {
                    panic!("a request at a server")
                };
                assert_eq!(self.servers[server].peer, peer.id);
            }
            let handles = members(peer.handles, &self.handles, |grip| grip.by_holder);
            assert!(handles.iter().all(|&handle| self.handles[handle].holder == slot));
            let names = handles.iter().filter(|&&handle| self.handles[handle].server != NONE).count() as u32;
            assert_eq!(names, peer.names);
            for handle in members(peer.granted, &self.handles, |grip| grip.by_root) {
                assert_eq!(self.handles[handle].root, peer.id);
                assert_ne!(self.handles[handle].lineage, 0);
            }
            for server in members(peer.stalled, &self.servers, |server| server.by_stall) {
                assert!(self.servers[server].stalled && self.servers[server].peer == peer.id);
            }
            let owed = members(peer.credits_due, &self.calls, |call| call.by_due);
            assert!(owed.iter().all(|&call| 0 < self.calls[call].credit_due));
            let charge = peer.unread.saturating_sub(u64::from(self.limits.link_bytes_low));
            assert_eq!(charge, peer.charged);
            let waiting = self.waiting.iter().filter(|(_, message)| message.from == peer.id).count();
            let held = self.topics.held.iter().filter(|(_, held)| held.from == peer.id).count();
            let blocked = self.queues.blocked.iter().filter(|(_, blocked)| blocked.from == peer.id).count();
            assert_eq!((waiting + held + blocked) as u32, peer.waiting);
            let subscriptions =
                calls.iter().filter(|&&call| matches!(self.calls[call].target, Target::Subscription(_)));
            assert_eq!(subscriptions.count() as u32, peer.subscriptions);
            for stalled in members(peer.subscriptions_stalled, &self.topics.subscriptions, |subscription| {
                subscription.by_stall
            }) {
                let it = &self.topics.subscriptions[stalled];
                assert!(it.stalled && it.peer == slot);
            }
            for will in &peer.wills {
                let handle = self.handles.find(will.handle).expect("a will goes with its handle");
                assert_eq!(self.handles[handle].holder, slot);
            }
            let watches = calls.iter().filter(|&&call| {
                matches!(self.calls[call].target, Target::Wait(_) | Target::Watch(_) | Target::Monitor(_))
            });
            assert_eq!(watches.count() as u32, peer.watches);
            let most = u64::from(self.limits.link_bytes_max) + u64::from(self.limits.link_bytes_reserved);
            assert!(
                peer.unread <= most || !matches!(peer.stage, Stage::Greeting | Stage::Ready),
                "limits.link_bytes_max: who owes more is on the way out"
            );
        }
        let requests = self.calls.iter().filter(|(_, call)| matches!(call.target, Target::Server(_))).count();
        assert_eq!(requests as u32, self.peers.iter().flatten().map(|peer| peer.requests.len()).sum::<u32>());
        let held = self.handles.iter().filter(|(_, grip)| grip.holder != NONE).count() as u32;
        assert_eq!(held, self.peers.iter().flatten().map(|peer| peer.handles.len()).sum::<u32>());
    }

    fn check_users(&self) {
        let mut sums: BTreeMap<u32, User> = BTreeMap::new();
        for peer in self.peers.iter().flatten() {
            let sum = sums.entry(peer.user).or_default();
            sum.connections += 1;
            sum.watches += peer.watches;
            sum.buffered_bytes += peer.reserved;
            sum.receiving_bytes += peer.reserved;
            sum.unread_bytes += peer.charged;
            sum.subscriptions += peer.subscriptions;
            sum.buffered_bytes += peer.wills.iter().map(Will::bytes).sum::<u64>();
        }
        for (_, held) in self.topics.held.iter() {
            let sum = sums.entry(held.user).or_default();
            sum.waiting += 1;
            sum.buffered_bytes += padded(held.header.len as usize) as u64;
        }
        for (_, it) in self.topics.subscriptions.iter() {
            sums.entry(it.user).or_default().subscribed_bytes += self.charged_for(it.earlier, it.queue);
        }
        for &(list, user) in &self.topics.debris {
            let sum = sums.entry(user).or_default();
            sum.debris += 1;
            sum.subscribed_bytes += self.charged_for(list, List::EMPTY);
        }
        for (_, grip) in self.handles.iter() {
            sums.entry(grip.user).or_default().handles += 1;
        }
        for (_, object) in self.objects.iter().filter(|(_, object)| object.user != NONE) {
            sums.entry(object.user).or_default().names += 1;
        }
        for (_, call) in self.calls.iter() {
            sums.entry(call.user).or_default().calls += 1;
        }
        for (_, message) in self.waiting.iter() {
            let sum = sums.entry(message.user).or_default();
            sum.waiting += 1;
            sum.buffered_bytes += padded(message.header.len as usize) as u64;
        }
        for (_, blocked) in self.queues.blocked.iter() {
            let sum = sums.entry(blocked.user).or_default();
            sum.waiting += 1;
            sum.buffered_bytes += padded(blocked.header.len as usize) as u64;
        }
        for (_, message) in self.queues.messages.iter() {
            let sum = sums.entry(message.user).or_default();
            sum.queued += 1;
            sum.queued_bytes += message.tail.len() as u64;
        }
        for (user, it) in self.users.iter() {
            let sum = sums.remove(&user).unwrap_or_default();
            let all = |user: &User| {
                let User { connections, handles, names, calls, waiting, watches, .. } = *user;
                let User { subscriptions, debris, .. } = *user;
                let bytes =
                    [user.buffered_bytes, user.receiving_bytes, user.unread_bytes, user.subscribed_bytes];
                let queued = [u64::from(user.queued), user.queued_bytes];
                ([connections, handles, names, calls, waiting, watches, subscriptions, debris], bytes, queued)
            };
            assert_eq!(all(it), all(&sum), "user {}: connections, handles, names, calls, …", it.uid);
        }
        let unread: u64 = self.peers.iter().flatten().map(|peer| peer.charged).sum();
        assert_eq!(unread, self.unread_bytes);
        assert!(sums.is_empty(), "things of a user that was forgotten");
    }

    fn check_timers(&self) {
        let mut timed = 0;
        for (call, it) in self.calls.iter() {
            if let Some(timer) = self.timers.get(it.timer) {
                timed += 1;
                assert!(it.open && matches!(*timer, Timer::Call(of) if of == call));
            }
        }
        for peer in self.peers.iter().flatten() {
            if let Some(timer) = self.timers.get(peer.timer) {
                timed += 1;
                assert!(matches!(peer.stage, Stage::Delayed | Stage::Greeting));
                assert!(matches!(*timer, Timer::Peer(of) if of == peer.id));
            }
        }
        for (held, it) in self.topics.held.iter() {
            if let Some(timer) = self.timers.get(it.timer) {
                timed += 1;
                assert!(it.origin == Origin::Send && matches!(*timer, Timer::Held(of) if of == held));
            }
        }
        for (lease, it) in self.queues.leases.iter() {
            if let Some(timer) = self.timers.get(it.timer) {
                timed += 1;
                assert!(matches!(*timer, Timer::Lease(of) if of == lease));
            }
        }
        assert_eq!(timed, self.timers.len(), "a timer is somebody's");
    }

    fn check_topics(&self) {
        let (mut kept, mut held, mut remembered) = (0, 0, 0);
        for (topic, it) in self.topics.table.iter() {
            let object = &self.objects[it.object];
            assert_eq!((object.kind, object.body), (ObjectKind::Topic, topic));
            let own = members(it.own, &self.topics.subscriptions, |subscription| subscription.by_topic);
            assert!(own.iter().all(|&one| self.topics.subscriptions[one].topic == topic));
            assert_eq!(it.kept.iter().map(|kept| kept.bytes(None)).sum::<u64>(), it.kept_bytes);
            assert!(it.kept.iter().is_sorted_by_key(|kept| kept.sequence));
            let line = members(it.held, &self.topics.held, |held| held.by_topic);
            assert!(line.iter().all(|&one| self.topics.held[one].topic == topic));
            let holding = self.topics.holding.iter().filter(|&&one| one == topic).count();
            assert_eq!(holding, usize::from(!line.is_empty()), "a topic with held messages is looked at");
            assert!(self.waits_for_good_reason(topic), "what is held back goes once there is room");
            kept += it.kept_bytes;
            held += it.held.len();
            remembered += it.audience.len() as u64;
        }
        let topics = self.objects.iter().filter(|(_, object)| object.kind == ObjectKind::Topic).count();
        assert_eq!(topics as u32, self.topics.table.len());
        assert_eq!(kept, self.topics.kept_bytes);
        assert!(kept <= self.limits.kept_bytes_max, "limits.kept_bytes_max");
        assert_eq!(held, self.topics.held.len());
        assert_eq!(remembered, self.topics.remembered);
    }

    fn check_subscriptions(&self) {
        let (mut pending, mut by_pattern) = (0, 0);
        for (slot, it) in self.topics.subscriptions.iter() {
            assert_eq!(self.calls[it.call].target, Target::Subscription(slot));
            assert_eq!(self.calls[it.call].caller.slot, it.peer);
            by_pattern += u32::from(it.pattern.is_some());
            assert_eq!(it.pattern.is_some(), it.topic == NONE);
            if it.topic != NONE {
                let grip = &self.handles[it.handle];
                assert_eq!((grip.holder, self.objects[grip.object].body), (it.peer, it.topic));
            }
            let waiting = |list| members(list, &self.topics.pending, |pending: &Pending<P>| pending.in_queue);
            let (earlier, queue) = (waiting(it.earlier), waiting(it.queue));
            pending += earlier.len() + queue.len();
            let (mut messages, mut bytes, mut next) = (0, 0, None);
            for &one in &queue {
                let one = &self.topics.pending[one];
                assert!(one.first <= one.last && next.is_none_or(|next| next == one.first), "no gaps");
                next = Some(one.last + 1);
                if one.kind == Delivery::Message {
                    messages += one.messages();
                    bytes += one.charge();
                }
            }
            let lost = |&one: &u32| self.topics.pending[one].kind == Delivery::Lost;
            assert!(!queue.windows(2).any(|two| two.iter().all(lost)), "losses side by side are one");
            assert_eq!((messages, bytes), (it.queued_messages, it.queued_bytes));
            let one = queue.iter().filter(|&one| !lost(one)).count() == 1;
            assert!(messages <= it.messages_max && bytes <= it.bytes_max || one, "its own bounds");
            for (&topic, &one) in &it.latest {
                assert_eq!(self.topics.pending[one].topic(), Some(topic));
            }
            let ready = self.peer(it.peer).stage == Stage::Ready;
            let behind = !earlier.is_empty() || !queue.is_empty();
            let goes_on = !behind || self.calls[it.call].credit == 0 || it.stalled;
            assert!(goes_on || !ready, "what waits for a subscription with credit is gone on with");
        }
        let debris = self.topics.debris.iter();
        pending += debris.map(|(list, _)| list.len() as usize).sum::<usize>();
        assert_eq!(pending as u32, self.topics.pending.len());
        assert_eq!(by_pattern, self.topics.patterns.len());
        let most = &self.limits;
        assert!(self.topics.subscriptions.len() <= most.subscriptions_max, "limits.subscriptions_max");
        assert!(self.topics.subscribed_bytes <= most.subscribed_bytes_max, "limits.subscribed_bytes_max");
        let users: u64 = self.users.iter().map(|(_, user)| user.subscribed_bytes).sum();
        assert_eq!(users, self.topics.subscribed_bytes);
        for (handle, grip) in self.handles.iter() {
            for one in members(grip.subscriptions, &self.topics.subscriptions, |one| one.by_handle) {
                assert_eq!(self.topics.subscriptions[one].handle, handle);
            }
        }
    }

    fn charged_for(&self, earlier: List, queue: List) -> u64 {
        let both = [earlier, queue].into_iter();
        let all = both.flat_map(|list| members(list, &self.topics.pending, |pending| pending.in_queue));
        all.map(|pending| self.topics.pending[pending].charge()).sum()
    }

    /// Whether the broker is as it was when it began: nobody is connected, and nothing is left of
    /// those who were. A user whose connection rate is still remembered may be there.
    #[doc(hidden)]
    pub fn is_empty(&self) -> bool {
        self.connections == 0
            && self.objects.iter().all(|(_, object)| object.user == NONE || object.kind == ObjectKind::Queue)
            && self.topics.subscriptions.is_empty()
            && self.topics.pending.is_empty()
            && self.topics.held.is_empty()
            && self.topics.holding.is_empty()
            && self.servers.is_empty()
            && self.handles.is_empty()
            && self.calls.is_empty()
            && self.waiting.is_empty()
            && self.buffered_bytes == 0
            && self.unread_bytes == 0
            && self.watches.is_empty()
            && self.monitors.is_empty()
            && self.timers.len() == 0
            && self.work.is_empty()
            && self.starved.is_empty()
            && self.calls_open == 0
            && self.names_owned == 0
            && self.queues.is_empty()
            && self.storage.is_idle()
    }
}

/// The members of a list, which must be as many as it says, linked both ways.
pub(crate) fn members<T>(list: List, slab: &Slab<T>, links: impl Fn(&T) -> Links) -> Vec<u32> {
    let mut found = Vec::new();
    let (mut next, mut before) = (list.first(), None);
    while let Some(slot) = next {
        assert!((found.len() as u32) < list.len(), "a list that goes round in circles");
        assert_eq!(links(&slab[slot]).prev(), before);
        found.push(slot);
        before = next;
        next = links(&slab[slot]).next();
    }
    assert_eq!(found.len() as u32, list.len());
    found
}
