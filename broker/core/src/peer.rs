//! Connections: from accept to the last trace of them.

use crate::broker::{Broker, Timer, Turn, Work};
use crate::list::List;
use crate::slab::NONE;
use crate::timers::TimerId;
use crate::{Breach, Departure, Effect, Fact, Identity, Limits, Payload, SendTail};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::{
    Event, FrameError, Goodbye, GoodbyeReason, HEADER_BYTES, HELLO_MAGIC, Header, Hello, Kind, Outcome,
    PeerId, VERSION, Welcome, decode, encode, features, padded,
};

/// One connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) stage: Stage,
    pub(crate) identity: Rc<Identity>,
    /// Its user id (lower half) and process id, as frames that it sends say when they arrive.
    caller: u64,
    /// Slot in the broker's table of users.
    pub(crate) user: u32,
    pub(crate) program: String,
    /// Highest priority that policy gives it.
    pub(crate) priority_max: u8,
    /// Calls that its user's quota lets it have open.
    pub(crate) calls_open_max: u32,
    /// Bytes that its user's connections may leave unread.
    unread_bytes_max: u64,
    /// For hello, or for admission.
    pub(crate) timer: TimerId,
    /// Why it is not read at present: [`hold`].
    holds: u8,
    /// Bytes in its out queue.
    pub(crate) unread: u64,
    /// How many of those count against its user's quota.
    pub(crate) charged: u64,
    /// Bytes set aside for a large frame that is coming in.
    pub(crate) reserved: u64,
    /// Its open calls, control operations included.
    pub(crate) calls: List,
    /// Open call by the slot that the caller gave it; [`NONE`] for none.
    pub(crate) call_slots: Vec<u32>,
    /// Requests at its servers, also those whose caller has its outcome.
    pub(crate) requests: List,
    pub(crate) handles: List,
    /// Handles of others that rest on this peer's rights.
    pub(crate) granted: List,
    /// Its servers that have room but whose out queue is full.
    pub(crate) stalled: List,
    /// Requests at it for whose streams it is owed credit, held back by a full out queue.
    pub(crate) credits_due: List,
    /// Serving handles it holds.
    pub(crate) names: u32,
    /// Messages of its that wait for a server.
    pub(crate) waiting: u32,
    /// Watches, waits and monitors.
    pub(crate) watches: u32,
    /// Subscriptions that have something for it but whose out queue is full.
    pub(crate) subscriptions_stalled: List,
    /// Whether those are gone on with between inputs.
    pub(crate) draining: bool,
    /// Whether they wait for its user's other connections to read.
    pub(crate) parched: bool,
    /// Subscriptions.
    pub(crate) subscriptions: u32,
    /// What is published if it dies.
    pub(crate) wills: Vec<crate::will::Will>,
    /// Consumers of queues to which it has room to take more, but whose out queue is full.
    pub(crate) consumers_stalled: List,
    /// Leases that last as long as it does.
    pub(crate) leases: List,
    /// Whether it said goodbye.
    pub(crate) clean: bool,
    /// Whether a refusal was logged already.
    refusal_logged: bool,
    pub(crate) traffic: Traffic,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// Came too fast after others of its user.
    Delayed,
    /// Has not said hello.
    Greeting,
    /// In use.
    Ready,
    /// Told to go; nothing it says counts.
    Closing,
    /// Disconnected; what it had is being taken down.
    Gone,
}

/// What has passed on a connection.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Traffic {
    pub(crate) frames_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) frames_out: u64,
    pub(crate) bytes_out: u64,
}

/// Reasons not to read from a peer.
mod hold {
    pub(super) const DELAYED: u8 = 1;
    pub(super) const UNREAD: u8 = 1 << 1;
    pub(super) const STARVED: u8 = 1 << 2;
}

const PROGRAM_BYTES_MAX: usize = 64;

impl<P: Payload> Broker<P> {
    pub(crate) fn connect(&mut self, turn: &mut Turn<'_, P>, id: PeerId, identity: Identity) {
        let user = self.user_of(identity.uid);
        let limits = self.limits.of_user(identity.uid);
        let quota = limits.connections;
        let admit_at = self.users[user].admit_at(turn.now, limits.connections_per_second);
        let used = self.users[user].connections;
        self.users[user].connections += 1;
        self.connections += 1;
        self.counters.connections += 1;
        let uid = identity.uid;
        let peer = Peer {
            id,
            stage: Stage::Greeting,
            priority_max: self.policy.priority_max(&identity),
            calls_open_max: limits.calls_open,
            unread_bytes_max: limits.unread_bytes,
            caller: u64::from(uid) | u64::from(identity.pid) << 32,
            identity: Rc::new(identity),
            user,
            program: String::new(),
            timer: TimerId::NONE,
            holds: hold::DELAYED,
            unread: 0,
            charged: 0,
            reserved: 0,
            calls: List::EMPTY,
            call_slots: Vec::new(),
            requests: List::EMPTY,
            handles: List::EMPTY,
            granted: List::EMPTY,
            stalled: List::EMPTY,
            credits_due: List::EMPTY,
            names: 0,
            waiting: 0,
            watches: 0,
            subscriptions_stalled: List::EMPTY,
            draining: false,
            parched: false,
            subscriptions: 0,
            wills: Vec::new(),
            consumers_stalled: List::EMPTY,
            leases: List::EMPTY,
            clean: false,
            refusal_logged: false,
            traffic: Traffic::default(),
        };
        let slot = id.slot as usize;
        if self.peers.len() <= slot {
            self.peers.resize_with(slot + 1, || None);
        }
        assert!(
            self.peers[slot].is_none(),
            "the driver connected {id} before the slot's last user was forgotten"
        );
        self.peers[slot] = Some(peer);

        if self.shutting_down {
            return self.expel(turn, id.slot, GoodbyeReason::ShuttingDown, "the broker is going down");
        }
        if quota <= used {
            let message = format!(
                "user {uid} has {used} connections already, the most it may have (limits.user.connections = {quota})"
            );
            return self.expel(turn, id.slot, GoodbyeReason::TooManyConnections, &message);
        }
        let most = self.limits.connections_max;
        if most < self.connections {
            let message =
                format!("all {most} connections of this broker are in use (limits.connections_max)");
            return self.expel(turn, id.slot, GoodbyeReason::TooManyConnections, &message);
        }
        if turn.now < admit_at {
            let timer = self.timers.insert(admit_at, Timer::Peer(id));
            let peer = self.peer_mut(id.slot);
            peer.stage = Stage::Delayed;
            peer.timer = timer;
            self.counters.connections_delayed += 1;
            if self.delay_logged.is_none_or(|at| at.after(core::time::Duration::from_secs(1)) <= turn.now) {
                self.delay_logged = Some(turn.now);
                turn.log(Fact::ConnectionsDelayed { uid });
            }
            return;
        }
        self.admit_connection(turn, id.slot);
    }

    fn admit_connection(&mut self, turn: &mut Turn<'_, P>, slot: u32) {
        let timer =
            self.timers.insert(turn.now.after(self.limits.hello_timeout), Timer::Peer(self.peer(slot).id));
        let peer = self.peer_mut(slot);
        peer.stage = Stage::Greeting;
        peer.timer = timer;
        self.lift(turn, slot, hold::DELAYED);
    }

    /// A peer's timer has come up: it may come in, or has taken too long to say hello.
    pub(crate) fn peer_due(&mut self, turn: &mut Turn<'_, P>, slot: u32) {
        let peer = self.peer_mut(slot);
        peer.timer = TimerId::NONE;
        match peer.stage {
            Stage::Delayed => self.admit_connection(turn, slot),
            Stage::Greeting => {
                let seconds = self.limits.hello_timeout.as_secs();
                let message = format!("no HELLO within {seconds} s (limits.hello_timeout)");
                self.expel(turn, slot, GoodbyeReason::HelloTimeout, &message);
            }
            Stage::Ready | Stage::Closing | Stage::Gone => unreachable!("its timer was removed"),
        }
    }

    /// SPEC 1.2 to 1.6.
    pub(crate) fn hello(&mut self, turn: &mut Turn<'_, P>, from: u32, header: &Header, tail: &P) {
        let start = usize::from(header.ext_len) + header.table_len();
        let hello = match decode::<Hello>(&tail.bytes()[start..]) {
            Some(hello) if header.method == HELLO_MAGIC => hello,
            _ => {
                return self.expel(
                    turn,
                    from,
                    GoodbyeReason::Hello,
                    "the first frame is no valid HELLO (SPEC 1.2)",
                );
            }
        };
        if VERSION < hello.version_min || hello.version_max < VERSION {
            let message = format!(
                "this broker speaks version {VERSION} of the protocol, the client {} to {}",
                hello.version_min, hello.version_max
            );
            return self.expel(turn, from, GoodbyeReason::Version, &message);
        }
        let calls_open_max = self.peer(from).calls_open_max;
        let incarnation = self.incarnation;
        let peer = self.peer_mut(from);
        peer.stage = Stage::Ready;
        peer.program = hello.program.chars().filter(|c| !c.is_control()).collect();
        let end = (0..=PROGRAM_BYTES_MAX).rev().find(|&at| peer.program.is_char_boundary(at)).unwrap_or(0);
        peer.program.truncate(end);
        peer.program.shrink_to_fit();
        let (timer, id, priority_max) = (peer.timer, peer.id, peer.priority_max);
        peer.timer = TimerId::NONE;
        let (uid, pid) = (peer.identity.uid, peer.identity.pid);
        self.timers.remove(timer);
        let welcome = Welcome {
            version: VERSION,
            features: hello.features & features::ALL,
            broker_ns: turn.now.0,
            incarnation,
            peer: id.to_wire(),
            payload_bytes_max: self.limits.payload_bytes_max,
            calls_open_max,
            priority_max,
        };
        self.push(turn, from, Header::new(Kind::Welcome), SendTail::Own(encode(&welcome)));
        turn.log(Fact::Connected { peer: id, uid, pid });
    }

    /// What cannot be read as frames ends the connection (SPEC 1.9, 2.4).
    pub(crate) fn broken(&mut self, turn: &mut Turn<'_, P>, from: u32, why: Breach) {
        let (reason, message) = match why {
            Breach::Frame(FrameError::Version(found)) => (
                GoodbyeReason::Version,
                format!("frame of version {found}; this broker speaks version {VERSION}"),
            ),
            Breach::Frame(error) => (GoodbyeReason::BadFrame, error.to_string()),
            Breach::FileDescriptors => {
                (GoodbyeReason::FileDescriptors, "file descriptors came where none belong (SPEC 2.8)".into())
            }
        };
        self.expel(turn, from, reason, &message);
    }

    /// Ends a connection with a reason that it can read.
    pub(crate) fn expel(&mut self, turn: &mut Turn<'_, P>, slot: u32, why: GoodbyeReason, message: &str) {
        let peer = self.peer(slot);
        if matches!(peer.stage, Stage::Closing | Stage::Gone) {
            return;
        }
        let (id, uid, pid, timer) = (peer.id, peer.identity.uid, peer.identity.pid, peer.timer);
        let goodbye = Goodbye { message: message.into() };
        let header = Header { method: why as u32, ..Header::new(Kind::Goodbye) };
        self.push(turn, slot, header, SendTail::Own(encode(&goodbye)));
        self.timers.remove(timer);
        let peer = self.peer_mut(slot);
        peer.timer = TimerId::NONE;
        peer.stage = Stage::Closing;
        turn.effects.push(Effect::Close { peer: id });
        if why != GoodbyeReason::Done && why != GoodbyeReason::ShuttingDown {
            self.counters.expelled += 1;
            turn.log(Fact::Expelled { peer: id, uid, pid, why, message: message.into() });
        }
    }

    pub(crate) fn disconnect(&mut self, turn: &mut Turn<'_, P>, id: PeerId, how: Departure) {
        let Some(peer) = self.peers.get_mut(id.slot as usize).and_then(Option::as_mut) else {
            panic!("the driver disconnected {id}, which was not connected");
        };
        assert!(peer.id == id && peer.stage != Stage::Gone, "the driver disconnected {id} twice");
        peer.stage = Stage::Gone;
        peer.unread = 0;
        let timer = core::mem::replace(&mut peer.timer, TimerId::NONE);
        self.timers.remove(timer);
        self.charge_unread(id.slot);
        self.release(turn, id.slot);
        self.work.push_back(Work::Depart { slot: id.slot, how, calls: 0 });
    }

    /// Takes down part of what a peer had, at most `budget` things; `Some` with the work left.
    pub(crate) fn depart(
        &mut self,
        turn: &mut Turn<'_, P>,
        slot: u32,
        how: Departure,
        mut calls: u32,
        budget: &mut u32,
    ) -> Option<Work> {
        while 0 < *budget {
            *budget -= 1;
            let peer = self.peer(slot);
            // Requests first: their callers wait.
            if let Some(request) = peer.requests.first() {
                calls += 1;
                self.server_lost(turn, request, how);
            } else if let Some(call) = peer.calls.first() {
                calls += 1;
                self.caller_left(turn, call);
            } else if !peer.wills.is_empty() {
                self.publish_will(turn, slot);
            } else if let Some(lease) = peer.leases.first() {
                self.lease_orphaned(turn, lease, how);
            } else if let Some(handle) = peer.handles.first() {
                self.drop_handle(turn, handle, how);
            } else if let Some(handle) = peer.granted.first() {
                self.root_left(turn, handle);
            } else {
                let peer = self.peers[slot as usize].take().expect("a peer that is leaving");
                // What is left of `waiting` are one-way messages: they outlive their sender.
                assert!(peer.stalled.is_empty() && peer.names == 0 && peer.watches == 0);
                assert!(peer.subscriptions == 0 && peer.subscriptions_stalled.is_empty());
                self.connections -= 1;
                self.users[peer.user].connections -= 1;
                self.forget_user_if_unused(turn.now, peer.user);
                turn.log(Fact::Disconnected { peer: peer.id, calls });
                turn.effects.push(Effect::Forget { peer: peer.id });
                return None;
            }
        }
        Some(Work::Depart { slot, how, calls })
    }

    /// Puts a frame of the broker's own, or one that it changed, into a peer's out queue. Frames to
    /// those who are leaving are dropped.
    pub(crate) fn push(&mut self, turn: &mut Turn<'_, P>, to: u32, mut header: Header, tail: SendTail<P>) {
        match &tail {
            SendTail::Empty => header.len = HEADER_BYTES as u32,
            SendTail::Own(body) | SendTail::Shown(body) => {
                header.len = (HEADER_BYTES + body.len()) as u32;
                header.ext_len = 0;
                header.handles = 0;
            }
            SendTail::Forward(_) | SendTail::Patched(..) | SendTail::Extended(..) => {}
        }
        let Some((to_id, unread)) = self.count_out(to, &header) else { return };
        turn.effects.push(Effect::Send { to: to_id, header, tail });
        if u64::from(self.limits.link_bytes_low) < unread {
            self.much_unread(turn, to, header.kind);
        }
    }

    /// Puts a frame that came in, its header patched and its tail untouched, into a peer's out queue.
    #[inline(always)]
    pub(crate) fn forward(&mut self, turn: &mut Turn<'_, P>, to: u32, header: &Header, tail: &P) {
        let Some((to_id, unread)) = self.count_out(to, header) else { return };
        turn.effects.forward(to_id, header, tail);
        if u64::from(self.limits.link_bytes_low) < unread {
            self.much_unread(turn, to, header.kind);
        }
    }

    /// Keeps count of a frame on its way into a peer's out queue: whose that is, and what waits there.
    /// `None` where nothing goes.
    #[inline(always)]
    fn count_out(&mut self, to: u32, header: &Header) -> Option<(PeerId, u64)> {
        let peer = self.peers[to as usize].as_mut()?;
        if matches!(peer.stage, Stage::Closing | Stage::Gone) {
            return None;
        }
        peer.count_out(header);
        Some((peer.id, peer.unread))
    }

    /// More waits to be read by a peer than every peer may have.
    #[inline(never)]
    pub(crate) fn much_unread(&mut self, turn: &mut Turn<'_, P>, to: u32, last: Kind) {
        self.charge_unread(to);
        let peer = self.peer(to);
        let with_reserve = |most: u64| most + most / 8;
        let link = u64::from(self.limits.link_bytes_max) + u64::from(self.limits.link_bytes_reserved);
        let within = peer.unread <= link
            && self.users[peer.user].unread_bytes <= with_reserve(peer.unread_bytes_max)
            && self.unread_bytes <= with_reserve(self.limits.unread_bytes_max);
        if u64::from(self.limits.link_bytes_high) < peer.unread {
            self.hold(turn, to, hold::UNREAD);
        }
        // A goodbye is the last frame and comes once; to be too much must not end in another one.
        if !within && last != Kind::Goodbye {
            self.expel_not_reading(turn, to);
        }
    }

    /// Counts what waits to be read by a peer against its user, as far as it is more than every peer
    /// may have.
    #[inline(always)]
    fn charge_unread(&mut self, slot: u32) {
        let low = u64::from(self.limits.link_bytes_low);
        let peer = self.peers[slot as usize].as_mut().expect("a peer that is connected");
        let charge = peer.unread.saturating_sub(low);
        let before = core::mem::replace(&mut peer.charged, charge);
        let user = &mut self.users[peer.user];
        user.unread_bytes = user.unread_bytes - before + charge;
        self.unread_bytes = self.unread_bytes - before + charge;
        if charge < before {
            self.quench_later();
        }
    }

    /// Messages are held back long before; what is left to pile up are outcomes and events. Whoever
    /// does not read even those is closed, so that memory stays bounded.
    #[cold]
    fn expel_not_reading(&mut self, turn: &mut Turn<'_, P>, slot: u32) {
        let peer = self.peer(slot);
        let with_reserve = |most: u64| most + most / 8;
        let link = u64::from(self.limits.link_bytes_max) + u64::from(self.limits.link_bytes_reserved);
        let quota = with_reserve(peer.unread_bytes_max);
        let (what, most) = if link < peer.unread {
            ("limits.link_bytes_max and link_bytes_reserved", link)
        } else if quota < self.users[peer.user].unread_bytes {
            ("limits.user.unread_bytes and an eighth", quota)
        } else {
            ("limits.unread_bytes_max and an eighth", with_reserve(self.limits.unread_bytes_max))
        };
        let message = format!(
            "{} bytes wait to be read by this connection, and {most} is the most ({what})",
            peer.unread
        );
        self.expel(turn, slot, GoodbyeReason::NotReading, &message);
    }

    /// Whether `bytes` more may wait to be read by a peer: replies and items, which nobody asked it
    /// to take at once, and messages to serve.
    #[inline(always)]
    pub(crate) fn has_unread_room(&self, slot: u32, bytes: u64) -> bool {
        self.peer(slot).unread + bytes <= u64::from(self.limits.link_bytes_low)
            || self.has_charged_room(slot, bytes)
    }

    /// The same where they, or what waits already, count against the user.
    #[inline(never)]
    pub(crate) fn has_charged_room(&self, slot: u32, bytes: u64) -> bool {
        let peer = self.peer(slot);
        let charge = (peer.unread + bytes).saturating_sub(u64::from(self.limits.link_bytes_low));
        let more = charge.saturating_sub(peer.charged);
        peer.unread + bytes <= u64::from(self.limits.link_bytes_max)
            && self.users[peer.user].unread_bytes + more <= peer.unread_bytes_max
            && self.unread_bytes + more <= self.limits.unread_bytes_max
    }

    /// Bytes of the peer's out queue have left.
    pub(crate) fn wrote(&mut self, turn: &mut Turn<'_, P>, slot: u32, bytes: usize) {
        let peer = self.peers[slot as usize].as_mut().expect("a peer that is connected");
        if peer.stage == Stage::Gone {
            return;
        }
        peer.unread = peer.unread.saturating_sub(bytes as u64);
        let owing = peer.charged != 0 || peer.holds & hold::UNREAD != 0;
        let stalled = !peer.credits_due.is_empty()
            || !peer.stalled.is_empty()
            || !peer.subscriptions_stalled.is_empty()
            || !peer.consumers_stalled.is_empty();
        // A message may be held back for want of room in this very queue.
        if owing || stalled || !self.topics.holding.is_empty() {
            self.make_use_of_room(turn, slot);
        }
    }

    /// What was held up by a peer's full out queue goes on, if the queue has room again.
    #[inline(never)]
    fn make_use_of_room(&mut self, turn: &mut Turn<'_, P>, slot: u32) {
        let high = u64::from(self.limits.link_bytes_high);
        let peer = self.peer(slot);
        let (unread, charged, held) = (peer.unread, peer.charged, peer.holds & hold::UNREAD != 0);
        if charged != 0 {
            self.charge_unread(slot);
        }
        if high / 2 < unread {
            return;
        }
        if held {
            self.lift(turn, slot, hold::UNREAD);
        }
        while let Some(call) = self.peer(slot).credits_due.first() {
            self.pay_credit(turn, call);
        }
        while let Some(server) = self.peer(slot).stalled.first() {
            self.unstall(server);
            self.dispatch(turn, self.servers[server].object);
            if high < self.peer(slot).unread {
                break;
            }
        }
        self.advance_stalled_subscriptions(turn, slot);
        self.advance_stalled_consumers(turn, slot);
    }

    fn hold(&mut self, turn: &mut Turn<'_, P>, slot: u32, why: u8) {
        let peer = self.peer_mut(slot);
        let (before, id) = (peer.holds, peer.id);
        peer.holds |= why;
        if before == 0 {
            turn.effects.push(Effect::Pause { peer: id });
        }
    }

    fn lift(&mut self, turn: &mut Turn<'_, P>, slot: u32, why: u8) {
        let peer = self.peer_mut(slot);
        peer.holds &= !why;
        let id = peer.id;
        if peer.holds == 0 && matches!(peer.stage, Stage::Greeting | Stage::Ready) {
            turn.effects.push(Effect::Resume { peer: id });
        }
    }

    /// Sets memory aside for a frame that is coming in, of which only the header is there. If there
    /// is none for this user, its connection is paused until there is.
    pub(crate) fn reserve(&mut self, turn: &mut Turn<'_, P>, slot: u32, bytes: u64) -> bool {
        let peer = self.peer(slot);
        assert_eq!(peer.reserved, 0, "one frame comes in at a time");
        let user = peer.user;
        if !self.may_receive(slot, bytes) {
            self.starve(turn, slot);
            return false;
        }
        self.users[user].buffered_bytes += bytes;
        self.users[user].receiving_bytes += bytes;
        self.buffered_bytes += bytes;
        self.receiving_bytes += bytes;
        self.peer_mut(slot).reserved = bytes;
        true
    }

    fn starve(&mut self, turn: &mut Turn<'_, P>, slot: u32) {
        self.counters.starved += 1;
        let peer = self.peer(slot);
        if peer.holds & hold::STARVED != 0 {
            return;
        }
        let id = peer.id;
        self.hold(turn, slot, hold::STARVED);
        // Some may have left while they waited. They are forgotten now and then, so that those who
        // come, wait and leave do not fill memory.
        if 2 * self.connections as usize + 16 <= self.starved.len() {
            let peers = &self.peers;
            self.starved.retain(|id| {
                let peer = peers.get(id.slot as usize).and_then(Option::as_ref);
                peer.is_some_and(|peer| peer.id == *id && peer.holds & hold::STARVED != 0)
            });
        }
        self.starved.push_back(id);
    }

    /// Whether a message of `bytes` may wait for a server. One always may where its user holds nothing
    /// yet. All that waits takes half of what there is at most: the rest is for frames that come in,
    /// among them the answers for which others wait.
    pub(crate) fn may_wait(&self, slot: u32, bytes: u64) -> bool {
        let peer = self.peer(slot);
        let quota = self.limits.of_user(peer.identity.uid).buffered_bytes;
        let used = self.users[peer.user].buffered_bytes;
        let waiting = self.buffered_bytes - self.receiving_bytes;
        (used == 0 || used + bytes <= quota) && waiting + bytes <= self.limits.buffered_bytes_max / 2
    }

    /// Whether a frame of `bytes` may come in. One of each user always may, so that a small quota makes
    /// large frames slow and not impossible, and what waits for a server never keeps its answer out.
    fn may_receive(&self, slot: u32, bytes: u64) -> bool {
        let peer = self.peer(slot);
        let quota = self.limits.of_user(peer.identity.uid).buffered_bytes;
        let user = &self.users[peer.user];
        (user.receiving_bytes == 0 || user.buffered_bytes + bytes <= quota)
            && self.buffered_bytes + bytes <= self.limits.buffered_bytes_max
    }

    /// Gives back what [`Self::reserve`] set aside.
    #[inline(never)]
    pub(crate) fn release(&mut self, turn: &mut Turn<'_, P>, slot: u32) {
        let peer = self.peer_mut(slot);
        let bytes = core::mem::take(&mut peer.reserved);
        if 0 < bytes {
            let user = peer.user;
            self.users[user].receiving_bytes -= bytes;
            self.receiving_bytes -= bytes;
            self.unbuffer(turn, user, bytes);
        }
    }

    /// `bytes` less are held for a user; whoever waits for room may try again.
    pub(crate) fn unbuffer(&mut self, _turn: &mut Turn<'_, P>, user: u32, bytes: u64) {
        self.users[user].buffered_bytes -= bytes;
        self.buffered_bytes -= bytes;
        if !self.starved.is_empty() && !self.feeding {
            self.feeding = true;
            self.work.push_back(Work::Feed);
        }
    }

    /// Lets those try again who had no room, as many as wait now, within the budget.
    pub(crate) fn feed(&mut self, turn: &mut Turn<'_, P>, budget: &mut u32) -> Option<Work> {
        for _ in 0..self.starved.len() {
            if *budget == 0 {
                return Some(Work::Feed);
            }
            *budget -= 1;
            let Some(id) = self.starved.pop_front() else { break };
            if let Some(slot) = self.find_peer(id) {
                self.lift(turn, slot, hold::STARVED);
            }
        }
        self.feeding = false;
        None
    }

    /// Tells everybody that the broker goes down. Open calls end with the connections.
    pub(crate) fn shut_down(&mut self, turn: &mut Turn<'_, P>) {
        self.shutting_down = true;
        let slots: Vec<u32> =
            (0..self.peers.len() as u32).filter(|&s| self.peers[s as usize].is_some()).collect();
        for &slot in &slots {
            while self.peer(slot).stage == Stage::Ready {
                let Some(call) = self.peer(slot).calls.first() else { break };
                self.end_by_broker(turn, call, Outcome::ShuttingDown, "the broker is going down");
            }
        }
        for slot in slots {
            if self.peer(slot).stage == Stage::Ready {
                let header = Header { method: Event::ShuttingDown as u32, ..Header::new(Kind::Event) };
                self.push(turn, slot, header, SendTail::Empty);
            }
            self.expel(turn, slot, GoodbyeReason::ShuttingDown, "the broker is going down");
        }
    }

    /// Notes a refusal: counted always, logged once a connection.
    pub(crate) fn note_refusal(
        &mut self,
        turn: &mut Turn<'_, P>,
        slot: u32,
        outcome: Outcome,
        message: &str,
    ) {
        self.counters.outcomes[outcome as usize] += 1;
        let telling =
            matches!(outcome, Outcome::Denied | Outcome::Busy | Outcome::Invalid | Outcome::TooLarge);
        let peer = self.peer_mut(slot);
        if telling && !peer.refusal_logged {
            peer.refusal_logged = true;
            let (id, uid) = (peer.id, peer.identity.uid);
            turn.log(Fact::Refused { peer: id, uid, outcome, message: message.into() });
        }
    }

    /// The slot of a peer that is connected.
    pub(crate) fn find_peer(&self, id: PeerId) -> Option<u32> {
        let peer = self.peers.get(id.slot as usize)?.as_ref()?;
        (peer.id == id && peer.stage != Stage::Gone).then_some(id.slot)
    }

    #[inline(always)]
    pub(crate) fn peer(&self, slot: u32) -> &Peer {
        self.peers[slot as usize].as_ref().expect("a peer that is connected")
    }

    #[inline(always)]
    pub(crate) fn peer_mut(&mut self, slot: u32) -> &mut Peer {
        self.peers[slot as usize].as_mut().expect("a peer that is connected")
    }
}

impl Peer {
    /// Takes what it keeps of its user's quotas from new limits.
    pub(crate) fn take_quotas(&mut self, limits: &Limits) {
        let quotas = limits.of_user(self.identity.uid);
        self.calls_open_max = quotas.calls_open;
        self.unread_bytes_max = quotas.unread_bytes;
    }

    /// Writes into a frame of its that is delivered who it is from (SPEC 5.1).
    #[inline(always)]
    pub(crate) fn stamp(&self, header: &mut Header) {
        header.seq = self.id.to_wire();
        header.caller = self.caller;
    }

    /// Keeps count of a frame on its way into the out queue.
    #[inline(always)]
    pub(crate) fn count_out(&mut self, header: &Header) {
        let bytes = padded(header.len as usize) as u64;
        self.unread += bytes;
        self.traffic.frames_out += 1;
        self.traffic.bytes_out += bytes;
    }

    /// Enters an open call under the slot that its caller gave it.
    #[inline(always)]
    pub(crate) fn enter_call(&mut self, caller_slot: u32, call: u32) {
        let at = caller_slot as usize;
        if self.call_slots.len() <= at {
            self.call_slots.resize(at + 1, NONE);
        }
        assert_eq!(self.call_slots[at], NONE, "a call slot that is free");
        self.call_slots[at] = call;
    }

    /// The open call under a caller's slot.
    #[inline(always)]
    pub(crate) fn call_at(&self, caller_slot: u32) -> Option<u32> {
        self.call_slots.get(caller_slot as usize).copied().filter(|&call| call != NONE)
    }
}
