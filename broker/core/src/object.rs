//! Named (and private) services: who owns them, who stands by, what waits for them.

use crate::broker::{Broker, Turn};
use crate::call::Target;
use crate::list::{Links, List};
use crate::peer::Stage;
use crate::slab::NONE;
use crate::waiting::Message;
use crate::{Departure, Fact, Identity, Payload, SendTail};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::control::{self, serve_flags};
use switchboard_protocol::{
    Epoch, Event, Failure, Header, Kind, Name, ObjectKind, Outcome, PeerId, Rights, Verb,
};

/// What a name stands for, or a private service. Exists while it has an owner, a handle or a wait.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Object {
    /// `None` for a private service.
    pub(crate) name: Option<Name>,
    pub(crate) kind: ObjectKind,
    /// What it is beside a name, in the table of its kind; [`NONE`] for a service, which is all here.
    pub(crate) body: u32,
    /// The user whose quota the name counts against: the one who first asked for it.
    pub(crate) user: u32,
    pub(crate) pool: bool,
    /// Servers that get requests; one unless `pool`.
    pub(crate) owners: Vec<u32>,
    /// Servers that stand by, first in line first.
    pub(crate) standby: VecDeque<u32>,
    /// Of the latest ownership; 0 while nobody owns it.
    pub(crate) epoch: Epoch,
    /// Messages that wait, by priority.
    pub(crate) waiting: [List; 8],
    pub(crate) waiting_len: u32,
    /// Whether [`Broker::dispatch_later`] was asked for.
    pub(crate) dispatch_due: bool,
    /// Control calls that wait for an owner.
    pub(crate) waits: List,
    /// Handles on it, serving ones not counted.
    pub(crate) handles: u32,
    /// Where a pool's next search begins, so that equals take turns.
    pub(crate) rotor: u32,
}

/// A peer's service of an object: what a serving handle stands for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) peer: PeerId,
    pub(crate) object: u32,
    /// The serving handle, as on the wire.
    pub(crate) handle: u64,
    flags: u32,
    /// Requests it may have at once.
    pub(crate) calls_max: u32,
    /// Requests it has.
    pub(crate) outstanding: u32,
    /// Bytes of sends it may have at once.
    pub(crate) send_bytes_max: u32,
    /// Bytes of sends it has.
    pub(crate) uncredited: u64,
    /// Whose those are, oldest first.
    pub(crate) runs: VecDeque<Run>,
    /// 0 while it stands by.
    pub(crate) epoch: Epoch,
    pub(crate) about: String,
    /// In its peer's list of those held up by a full out queue.
    pub(crate) stalled: bool,
    pub(crate) by_stall: Links,
}

/// Sends of one handle, one after the other, at a server that has not credited them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The sender's handle, as on the wire.
    pub(crate) handle: u64,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
    /// The sender's tag of the last one.
    pub(crate) tag: u64,
}

/// Why a server leaves.
#[derive(Clone, Copy)]
pub(crate) enum Leaving {
    /// It gave its serving handle back.
    Closed,
    /// Its right was taken away.
    Revoked,
    /// Its connection is gone.
    Died(Departure),
}

const ABOUT_BYTES_MAX: usize = 4096;
const POOL_MAX: usize = 1024;
const STANDBY_MAX: usize = 1024;

impl<P: Payload> Broker<P> {
    /// The object of a name, made if need be.
    pub(crate) fn object_of(
        &mut self,
        turn: &mut Turn<'_, P>,
        name: &Name,
        kind: ObjectKind,
        from: u32,
    ) -> Result<u32, (Outcome, String)> {
        if let Some(&object) = self.names.get(name) {
            if self.is_only_waited_for(object) && !matches!(kind, ObjectKind::Service | ObjectKind::Queue) {
                self.begin_object(turn, object, kind);
                return Ok(object);
            }
            let there = self.objects[object].kind;
            if there != kind {
                let message =
                    format!("`{name}` stands for a {}, not for a {}", there.as_str(), kind.as_str());
                return Err((Outcome::Invalid, message));
            }
            return Ok(object);
        }
        if kind == ObjectKind::Queue {
            self.check_log_was_read()?;
            let message =
                format!("there is no queue `{name}`; make one (SPEC 10.1), or name it in the configuration");
            return Err((Outcome::NoOwner, message));
        }
        self.new_named(turn, name, kind, self.peer(from).user)
    }

    /// Makes the object of a name that stands for nothing yet.
    pub(crate) fn new_named(
        &mut self,
        turn: &mut Turn<'_, P>,
        name: &Name,
        kind: ObjectKind,
        user: u32,
    ) -> Result<u32, (Outcome, String)> {
        let object = self.new_object(Some(name.clone()), kind, user)?;
        self.names.insert(name.clone(), object);
        self.begin_object(turn, object, kind);
        Ok(object)
    }

    /// Whether a name stands for nothing but that somebody waits for it.
    pub(crate) fn is_only_waited_for(&self, object: u32) -> bool {
        let it = &self.objects[object];
        it.kind == ObjectKind::Service && it.owners.is_empty() && it.standby.is_empty() && it.handles == 0
    }

    /// Makes an object, of which there is no more than a name so far, one of that kind. Whoever watches
    /// the name or waits for it is told, unless it is a service, which counts once it is owned.
    pub(crate) fn begin_object(&mut self, turn: &mut Turn<'_, P>, object: u32, kind: ObjectKind) {
        self.objects[object].kind = kind;
        match kind {
            ObjectKind::Service => return,
            ObjectKind::Queue => {}
            ObjectKind::Topic => self.new_topic(object),
            ObjectKind::Event => self.new_signal(object),
        }
        // Held meanwhile: the last wait to end would take it along.
        self.objects[object].handles += 1;
        while let Some(wait) = self.objects[object].waits.first() {
            self.end_wait(turn, wait, Epoch(0));
        }
        self.objects[object].handles -= 1;
        self.announce(turn, object, true);
    }

    /// Whether something stands for the name: an owner of the service, or an object of another kind.
    pub(crate) fn is_there(&self, object: u32) -> bool {
        let it = &self.objects[object];
        match it.kind {
            ObjectKind::Service => it.epoch != Epoch(0),
            ObjectKind::Queue => it.body != NONE,
            ObjectKind::Topic | ObjectKind::Event => true,
        }
    }

    pub(crate) fn new_object(
        &mut self,
        name: Option<Name>,
        kind: ObjectKind,
        user: u32,
    ) -> Result<u32, (Outcome, String)> {
        let most = self.limits.names_max;
        if most <= self.objects.len() {
            return Err((
                Outcome::Busy,
                format!("all {most} names of this broker are in use (limits.names_max)"),
            ));
        }
        let most = most / 2;
        if most <= self.users[user].names {
            return Err((
                Outcome::Busy,
                format!("your user has {most} names, half of limits.names_max, already"),
            ));
        }
        self.users[user].names += 1;
        Ok(self.insert_object(name, kind, user))
    }

    /// Enters an object, counted against `user` already; [`NONE`] for what is configured, which counts
    /// against nobody.
    pub(crate) fn insert_object(&mut self, name: Option<Name>, kind: ObjectKind, user: u32) -> u32 {
        self.objects.insert(Object {
            name,
            kind,
            body: NONE,
            user,
            pool: false,
            owners: Vec::new(),
            standby: VecDeque::new(),
            epoch: Epoch(0),
            waiting: [List::EMPTY; 8],
            waiting_len: 0,
            dispatch_due: false,
            waits: List::EMPTY,
            handles: 0,
            rotor: 0,
        })
    }

    /// Forgets an object that nobody serves, holds or waits for.
    pub(crate) fn release_object(&mut self, turn: &mut Turn<'_, P>, object: u32) {
        let it = &self.objects[object];
        if it.owners.is_empty()
            && it.standby.is_empty()
            && it.handles == 0
            && it.waits.is_empty()
            && !self.is_wanted(object)
        {
            if self.is_there(object) {
                self.announce(turn, object, false);
            }
            self.forget_body(turn, object);
            let it = &self.objects[object];
            assert_eq!(it.waiting_len, 0, "messages wait only while there is an owner");
            let it = self.objects.remove(object);
            if let Some(name) = &it.name {
                self.names.remove(name);
            }
            if it.user != NONE {
                self.users[it.user].names -= 1;
                self.forget_user_if_unused(turn.now, it.user);
            }
            // What is configured was kept out by what the name stood for until now.
            if let Some(name) = it.name.filter(|name| self.topics.is_declared(name)) {
                self.declare_topic(turn, &name);
            }
        }
    }

    /// Whether an object that is no service lasts although nobody holds it.
    pub(crate) fn is_wanted(&self, object: u32) -> bool {
        match self.objects[object].kind {
            ObjectKind::Service => false,
            ObjectKind::Topic => self.topic_is_wanted(object),
            ObjectKind::Queue => self.queue_is_wanted(object),
            ObjectKind::Event => self.signal_is_wanted(object),
        }
    }

    /// Takes what an object is beside its name out of the table of its kind.
    fn forget_body(&mut self, turn: &mut Turn<'_, P>, object: u32) {
        match self.objects[object].kind {
            ObjectKind::Service => {}
            ObjectKind::Topic => self.forget_topic(object),
            ObjectKind::Queue => self.forget_queue(turn, object),
            ObjectKind::Event => self.forget_signal(object),
        }
    }

    /// SPEC 6.2, Serve.
    pub(crate) fn serve(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        ask: control::Serve,
    ) -> Result<control::Served, (Outcome, String)> {
        let invalid = |message: &str| Err((Outcome::Invalid, message.to_string()));
        if 1 < ask.mode || ask.flags & !serve_flags::ALL != 0 {
            return invalid("unknown serving mode or flags (SPEC 7.7)");
        }
        if ask.calls == 0 {
            return invalid("a server takes at least one call at once (SPEC 5.2)");
        }
        if ABOUT_BYTES_MAX < ask.about.len() {
            return invalid("`about` is longer than 4096 bytes");
        }
        let peer = self.peer(from);
        let limits = self.limits.of_user(peer.identity.uid);
        let (calls_most, names_most) = (limits.calls_open, limits.names);
        if names_most <= peer.names {
            let message = format!("this connection serves {names_most} names already (limits.user.names)");
            return Err((Outcome::Busy, message));
        }
        let pool = ask.mode == 1;
        let object = if ask.name.is_empty() {
            self.new_object(None, ObjectKind::Service, self.peer(from).user)?
        } else {
            let name = Name::new(&ask.name).map_err(|error| (Outcome::Invalid, error.to_string()))?;
            self.check_policy(from, Verb::Serve, &name)?;
            self.object_of(turn, &name, ObjectKind::Service, from)?
        };
        let it = &self.objects[object];
        let refusal = if !it.owners.is_empty() && it.pool != pool {
            let how = if it.pool { "as a pool" } else { "by one owner" };
            Some((Outcome::Invalid, format!("`{}` is served {how}; join it in the same mode", ask.name)))
        } else {
            let first = it.owners.first().map(|&owner| &self.servers[owner]);
            let replaces = first.is_some_and(|owner| {
                owner.flags & serve_flags::ALLOW_REPLACEMENT != 0 && ask.flags & serve_flags::REPLACE != 0
            });
            let owns = first.is_none() || pool || replaces;
            if !owns && ask.flags & serve_flags::DO_NOT_QUEUE != 0 {
                let (pid, uid) = first.map_or((0, 0), |owner| {
                    let identity = &self.peer(owner.peer.slot).identity;
                    (identity.pid, identity.uid)
                });
                Some((Outcome::Busy, format!("`{}` is taken by process {pid} of user {uid}", ask.name)))
            } else if POOL_MAX <= it.owners.len() || STANDBY_MAX <= it.standby.len() {
                Some((Outcome::Busy, format!("`{}` has {POOL_MAX} servers already", ask.name)))
            } else {
                None
            }
        };
        if let Some(refusal) = refusal {
            self.release_object(turn, object);
            return Err(refusal);
        }

        let server = self.servers.insert(Server {
            peer: self.peer(from).id,
            object,
            handle: 0,
            flags: ask.flags,
            calls_max: ask.calls.min(calls_most),
            outstanding: 0,
            send_bytes_max: ask.send_bytes.min(self.limits.send_bytes),
            uncredited: 0,
            runs: VecDeque::new(),
            epoch: Epoch(0),
            about: ask.about,
            stalled: false,
            by_stall: Links::OUT,
        });
        let mut grip = self.own_grip(from, object, Verb::Serve.right());
        grip.server = server;
        let handle = match self.new_handle(from, grip) {
            Ok(handle) => handle,
            Err(refusal) => {
                self.servers.remove(server);
                self.release_object(turn, object);
                return Err(refusal);
            }
        };
        let word = self.handles.word(handle);
        self.servers[server].handle = word;
        self.peer_mut(from).names += 1;

        let private = ask.name.is_empty();
        let owner = self.objects[object].owners.first().copied();
        let replaced = owner.filter(|&owner| {
            !pool
                && self.servers[owner].flags & serve_flags::ALLOW_REPLACEMENT != 0
                && ask.flags & serve_flags::REPLACE != 0
        });
        if let Some(old) = replaced {
            let it = &mut self.objects[object];
            it.owners.clear();
            it.standby.push_front(old);
            self.names_owned -= u32::from(it.name.is_some());
            self.servers[old].epoch = Epoch(0);
            let (to, handle) = (self.servers[old].peer.slot, self.servers[old].handle);
            let header =
                Header { method: Event::OwnerReplaced as u32, handle, seq: 1, ..Header::new(Kind::Event) };
            self.push(turn, to, header, SendTail::Empty);
        }
        let mut standby = 0;
        if owner.is_none() || pool || replaced.is_some() {
            self.objects[object].pool = pool;
            self.own(turn, server);
        } else {
            self.objects[object].standby.push_back(server);
            standby = self.objects[object].standby.len() as u32;
        }
        let reference = if private {
            let rights = Verb::Call.right() | Verb::Delegate.right();
            match self.new_handle(from, self.own_grip(from, object, rights)) {
                Ok(reference) => self.handles.word(reference),
                Err(refusal) => {
                    self.close_handle(turn, handle, Leaving::Closed);
                    return Err(refusal);
                }
            }
        } else {
            0
        };
        let Server { epoch, calls_max: calls, send_bytes_max: send_bytes, .. } = self.servers[server];
        Ok(control::Served { handle: word, standby, epoch: epoch.0, reference, calls, send_bytes })
    }

    /// Makes a server an owner of its object, with an epoch of its own.
    fn own(&mut self, turn: &mut Turn<'_, P>, server: u32) {
        self.epochs += 1;
        let epoch = Epoch(u64::from(self.incarnation) << 32 | u64::from(self.epochs));
        let object = self.servers[server].object;
        let peer = self.servers[server].peer;
        self.servers[server].epoch = epoch;
        let it = &mut self.objects[object];
        it.owners.push(server);
        it.epoch = epoch;
        if it.owners.len() == 1 {
            self.names_owned += u32::from(it.name.is_some());
        }
        if let Some(name) = &it.name {
            turn.log(Fact::Owned { name: name.to_string(), peer, epoch: epoch.0 });
        }
        while let Some(wait) = self.objects[object].waits.first() {
            self.end_wait(turn, wait, epoch);
        }
        self.announce(turn, object, true);
        self.dispatch_later(object);
    }

    /// A server stops serving, for whatever reason; the next in line takes over.
    pub(crate) fn unserve(&mut self, turn: &mut Turn<'_, P>, server: u32, why: Leaving) {
        let object = self.servers[server].object;
        // Held meanwhile: what ends on the way may give back the last handle on it.
        self.objects[object].handles += 1;
        self.leave_object(turn, server, why);
        self.objects[object].handles -= 1;
        self.release_object(turn, object);
    }

    fn leave_object(&mut self, turn: &mut Turn<'_, P>, server: u32, why: Leaving) {
        let Server { peer, object, .. } = self.servers[server];
        // Out of the choice first, so that nothing that waits is given to it any more.
        let it = &mut self.objects[object];
        it.standby.retain(|&one| one != server);
        let owned = it.owners.iter().position(|&one| one == server);
        if let Some(at) = owned {
            it.owners.remove(at);
        }
        let mut requests = Vec::new();
        let mut next = self.peer(peer.slot).requests.first();
        while let Some(request) = next {
            let it = &self.calls[request];
            next = it.by_server.next();
            if it.target == Target::Server(server) {
                requests.push(self.calls.word(request));
            }
        }
        for request in requests {
            let Some(request) = self.calls.find(request) else { continue };
            match why {
                Leaving::Died(how) => self.server_lost(turn, request, how),
                Leaving::Closed | Leaving::Revoked => self.request_dropped(turn, request),
            }
        }
        self.unstall(server);
        self.fail_runs(turn, server);
        self.servers.remove(server);
        self.peer_mut(peer.slot).names -= 1;
        if owned.is_none() {
            return;
        }
        if self.objects[object].owners.is_empty() {
            self.names_owned -= u32::from(self.objects[object].name.is_some());
            if let Some(next) = self.objects[object].standby.pop_front() {
                self.own(turn, next);
                let Server { peer, handle, epoch, .. } = self.servers[next];
                let header = Header {
                    method: Event::OwnerGained as u32,
                    handle,
                    epoch: epoch.0,
                    ..Header::new(Kind::Event)
                };
                return self.push(turn, peer.slot, header, SendTail::Empty);
            }
            let it = &mut self.objects[object];
            it.pool = false;
            if let Some(name) = &it.name {
                turn.log(Fact::Orphaned { name: name.to_string() });
            }
            self.fail_waiting(turn, object);
        }
        // Of a pool, the name's epoch is that of the latest owner that is there.
        let epochs = self.objects[object].owners.iter().map(|&owner| self.servers[owner].epoch);
        self.objects[object].epoch = epochs.max().unwrap_or_default();
        self.announce(turn, object, self.is_there(object));
        // What expects the one that left is told, and what stood behind it goes on.
        self.dispatch_later(object);
    }

    /// Everything that waits for an object ends: nobody is left to take it.
    fn fail_waiting(&mut self, turn: &mut Turn<'_, P>, object: u32) {
        for level in 0..8 {
            while let Some(message) = self.objects[object].waiting[level].first() {
                let why = "its last owner went away before it could be delivered";
                match self.waiting[message].what {
                    Message::Call(call) => self.end_by_broker(turn, call, Outcome::NoOwner, why),
                    Message::Send => self.fail_waiting_send(turn, message, Outcome::NoOwner, why),
                }
            }
        }
    }

    /// Sends that a server has not credited: their senders are told that nobody knows.
    fn fail_runs(&mut self, turn: &mut Turn<'_, P>, server: u32) {
        let runs = core::mem::take(&mut self.servers[server].runs);
        for run in runs {
            let failure = Failure::new("the server went away before it said that it had them");
            self.tell_send_failed(turn, run.handle, run.tag, run.messages, Outcome::PeerDied, &failure);
            self.give_back(turn, run.handle, run.bytes);
        }
    }

    /// Takes a server out of its peer's list of stalled ones.
    pub(crate) fn unstall(&mut self, server: u32) {
        if core::mem::take(&mut self.servers[server].stalled) {
            let slot = self.servers[server].peer.slot;
            let mut list = self.peer(slot).stalled;
            list.remove(&mut self.servers, server, |server| &mut server.by_stall);
            self.peer_mut(slot).stalled = list;
        }
    }

    /// Puts a server, whose peer's out queue is full, where [`Broker::wrote`] finds it.
    #[inline(never)]
    pub(crate) fn stall(&mut self, server: u32) {
        if !core::mem::replace(&mut self.servers[server].stalled, true) {
            let slot = self.servers[server].peer.slot;
            let mut list = self.peer(slot).stalled;
            list.push(&mut self.servers, server, |server| &mut server.by_stall);
            self.peer_mut(slot).stalled = list;
        }
    }

    /// Whether policy lets a peer do something with a name.
    pub(crate) fn check_policy(&self, from: u32, verb: Verb, name: &Name) -> Result<(), (Outcome, String)> {
        let who = &self.peer(from).identity;
        if self.policy.decide(who, verb, name).allowed() {
            return Ok(());
        }
        Err(denied(who, verb, name))
    }

    /// Whether policy lets a peer know of a name: it may do something with it.
    pub(crate) fn may_see(&self, from: u32, name: &Name) -> bool {
        let who = &self.peer(from).identity;
        self.policy.own_user == Some(who.uid) && who.is_known()
            || self.policy.rights(who, Rights::ALL, name) != Rights::NONE
    }

    /// What listings say of an object.
    pub(crate) fn name_info(&self, object: u32) -> control::NameInfo {
        let it = &self.objects[object];
        let owner = it.owners.first().map(|&owner| self.peer(self.servers[owner].peer.slot));
        control::NameInfo {
            name: it.name.as_ref().map_or(String::new(), Name::to_string),
            kind: it.kind as u8,
            mode: u8::from(it.pool),
            epoch: it.epoch.0,
            owner: owner.map_or(0, |peer| peer.id.to_wire()),
            owners: it.owners.len() as u32,
            standby: it.standby.len() as u32,
            uid: owner.map_or(0, |peer| peer.identity.uid),
            pid: owner.map_or(0, |peer| peer.identity.pid),
            program: owner.map_or(String::new(), |peer| peer.program.clone()),
        }
    }

    /// SPEC 6.2, Describe.
    pub(crate) fn describe(&self, from: u32, text: &str) -> Result<control::Description, (Outcome, String)> {
        const SERVERS_SHOWN: usize = 64;
        let name = Name::new(text).map_err(|error| (Outcome::Invalid, error.to_string()))?;
        if !self.may_see(from, &name) {
            return Err((Outcome::Denied, format!("you have no right on `{name}`")));
        }
        let Some(&object) = self.names.get(&name) else {
            return Err((Outcome::NoOwner, format!("nobody serves `{name}`")));
        };
        let it = &self.objects[object];
        let servers = it.owners.iter().map(|&server| (0, server));
        let standby = it.standby.iter().enumerate().map(|(at, &server)| (at as u32 + 1, server));
        let info = |(standby, server): (u32, u32)| {
            let server = &self.servers[server];
            let peer = self.peer(server.peer.slot);
            control::ServerInfo {
                peer: peer.id.to_wire(),
                uid: peer.identity.uid,
                pid: peer.identity.pid,
                program: peer.program.clone(),
                standby,
                outstanding: server.outstanding,
                calls: server.calls_max,
            }
        };
        Ok(control::Description {
            info: self.name_info(object),
            about: it.owners.first().map_or(String::new(), |&owner| self.servers[owner].about.clone()),
            servers: servers.chain(standby).take(SERVERS_SHOWN).map(info).collect(),
            waiting: if it.kind == ObjectKind::Queue { self.queue_len(object) } else { it.waiting_len },
            handles: it.handles,
        })
    }

    /// Whether a server can take a message now; notes it as stalled if only its out queue is full.
    #[inline(always)]
    pub(crate) fn has_room(&mut self, server: u32, call: bool, bytes: u64) -> bool {
        let it = &self.servers[server];
        let window = if call {
            it.outstanding < it.calls_max
        } else {
            let most = u64::from(it.send_bytes_max);
            it.uncredited + bytes <= most || it.uncredited <= most / 2
        };
        if !window {
            return false;
        }
        let slot = it.peer.slot;
        let peer = self.peer(slot);
        let (unread, ready) = (peer.unread, peer.stage == Stage::Ready);
        if unread <= u64::from(self.limits.link_bytes_high)
            && (unread <= u64::from(self.limits.link_bytes_low) || self.has_charged_room(slot, 0))
        {
            return ready;
        }
        self.stall(server);
        false
    }

    /// The server that gets the next message of an object, if one has room: of a pool, the one with
    /// the fewest unanswered requests. `expected` is the only epoch that counts, unless 0.
    #[inline(always)]
    pub(crate) fn choose_server(
        &mut self,
        object: u32,
        expected: Epoch,
        call: bool,
        bytes: u64,
    ) -> Option<u32> {
        let it = &self.objects[object];
        if let [only] = it.owners[..] {
            return self.has_room(only, call, bytes).then_some(only);
        }
        self.choose_of_pool(object, expected, call, bytes)
    }

    #[inline(never)]
    fn choose_of_pool(&mut self, object: u32, expected: Epoch, call: bool, bytes: u64) -> Option<u32> {
        let it = &self.objects[object];
        let count = it.owners.len() as u32;
        let rotor = it.rotor;
        let mut best: Option<(u32, u64, u32)> = None;
        for step in 0..count {
            let server = self.objects[object].owners[((rotor + step) % count) as usize];
            if expected != Epoch(0) && self.servers[server].epoch != expected {
                continue;
            }
            if self.has_room(server, call, bytes) {
                let it = &self.servers[server];
                let load = (it.outstanding, it.uncredited, server);
                if best.is_none_or(|(calls, sends, _)| (load.0, load.1) < (calls, sends)) {
                    best = Some(load);
                }
            }
        }
        if 0 < count {
            self.objects[object].rotor = (rotor + 1) % count;
        }
        best.map(|(.., server)| server)
    }

    /// Whether `expected` is an epoch of the present ownership (0 always is).
    pub(crate) fn is_current(&self, object: u32, expected: Epoch) -> bool {
        expected == Epoch(0)
            || self.objects[object].owners.iter().any(|&owner| self.servers[owner].epoch == expected)
    }
}

/// What somebody is told whom policy does not let do something with a name.
pub(crate) fn denied(who: &Identity, verb: Verb, name: &Name) -> (Outcome, String) {
    let (uid, verb) = (who.uid, verb.as_str());
    let message = format!(
        "user {uid} may not {verb} `{name}`; `switchboard policy explain --user {uid} {verb} {name}` says which rule decides"
    );
    (Outcome::Denied, message)
}
