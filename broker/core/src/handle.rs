//! Handles: what a peer holds on an object, how they travel, and how they are taken away (SPEC 3).

use crate::broker::{Broker, Turn, Work};
use crate::list::{Links, List};
use crate::object::{Leaving, denied};
use crate::slab::NONE;
use crate::{Departure, Identity, Payload, SendTail};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::control;
use switchboard_protocol::{
    Event, HandleEntry, Header, Kind, Name, ObjectKind, Outcome, PeerId, Rights, Tail, Verb, handle_flags,
};

/// One handle. Between two peers, inside a message, it is held by nobody.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Grip {
    pub(crate) object: u32,
    pub(crate) rights: Rights,
    /// The peer that holds it; [`NONE`] on its way in a message.
    pub(crate) holder: u32,
    /// The user whose quota it counts against.
    pub(crate) user: u32,
    /// On whose right it rests (SPEC 3.6).
    pub(crate) root: PeerId,
    pub(crate) root_identity: Rc<Identity>,
    /// The root's own handle that it stems from, as on the wire; 0 if it is the root's own.
    pub(crate) lineage: u64,
    persistent: bool,
    /// The server, if this is a serving handle; else [`NONE`].
    pub(crate) server: u32,
    /// The call with which it dies; else [`NONE`].
    pub(crate) scope: u32,
    /// Whether that call has ended: the handle is about to be taken away, and void already.
    void: bool,
    /// Bytes of sends that may be on their way, as its holder was told.
    pub(crate) send_bytes_max: u32,
    /// Bytes of sends that are on their way.
    pub(crate) uncredited: u64,
    /// Bytes that have arrived and of which the holder has not been told.
    pub(crate) returned: u64,
    /// Subscriptions made through it.
    pub(crate) subscriptions: List,
    pub(crate) by_holder: Links,
    pub(crate) by_root: Links,
    pub(crate) by_scope: Links,
}

/// The root of a persistent handle whose root has left.
const NOBODY: PeerId = PeerId { slot: NONE, generation: 0 };

/// The lineage of a handle opened on a caller's behalf: it stems from no handle.
const ON_BEHALF: u64 = u64::MAX;

/// Why a handle is taken away, and what the calls through it are told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its root took it back, left, or its call ended.
    Revoked,
    /// Its root lost the right.
    Denied,
}

impl<P: Payload> Broker<P> {
    /// A handle that rests on a peer's own right.
    pub(crate) fn own_grip(&self, from: u32, object: u32, rights: Rights) -> Grip {
        let peer = self.peer(from);
        Grip {
            object,
            rights,
            holder: NONE,
            user: peer.user,
            root: peer.id,
            root_identity: Rc::clone(&peer.identity),
            lineage: 0,
            persistent: false,
            server: NONE,
            scope: NONE,
            void: false,
            send_bytes_max: self.limits.send_bytes,
            uncredited: 0,
            returned: 0,
            subscriptions: List::EMPTY,
            by_holder: Links::OUT,
            by_root: Links::OUT,
            by_scope: Links::OUT,
        }
    }

    /// Puts a handle into a peer's hands.
    pub(crate) fn new_handle(&mut self, holder: u32, grip: Grip) -> Result<u32, (Outcome, String)> {
        self.check_handle_quota(holder)?;
        let handle = self.enter_handle(grip);
        self.hand_over(holder, handle);
        Ok(handle)
    }

    fn check_handle_quota(&self, holder: u32) -> Result<(), (Outcome, String)> {
        let peer = self.peer(holder);
        let most = self.limits.of_user(peer.identity.uid).handles;
        if most <= peer.handles.len() {
            let message = format!("this connection has {most} handles already (limits.user.handles)");
            return Err((Outcome::Busy, message));
        }
        let most = self.limits.handles_max;
        if most <= self.handles.len() || most / 2 <= self.users[peer.user].handles {
            let message = format!(
                "of the {most} handles of this broker your user has half, or all are in use (limits.handles_max)"
            );
            return Err((Outcome::Busy, message));
        }
        Ok(())
    }

    /// Makes a handle that nobody holds yet.
    fn enter_handle(&mut self, grip: Grip) -> u32 {
        self.users[grip.user].handles += 1;
        if grip.server == NONE {
            self.objects[grip.object].handles += 1;
        }
        let (root, delegated) = (grip.root, grip.lineage != 0);
        let handle = self.handles.insert(grip);
        if delegated && self.is_connected(root) {
            let mut list = self.peer(root.slot).granted;
            list.push(&mut self.handles, handle, |grip| &mut grip.by_root);
            self.peer_mut(root.slot).granted = list;
        }
        let scope = self.handles[handle].scope;
        if scope != NONE {
            let mut list = self.calls[scope].scoped;
            list.push(&mut self.handles, handle, |grip| &mut grip.by_scope);
            self.calls[scope].scoped = list;
        }
        handle
    }

    /// Gives a handle on its way to its holder; the user who was charged for it until now.
    fn hand_over(&mut self, holder: u32, handle: u32) -> u32 {
        let user = self.peer(holder).user;
        let grip = &mut self.handles[handle];
        assert_eq!(grip.holder, NONE, "a handle on its way");
        grip.holder = holder;
        let before = core::mem::replace(&mut grip.user, user);
        self.users[before].handles -= 1;
        self.users[user].handles += 1;
        let mut list = self.peer(holder).handles;
        list.push(&mut self.handles, handle, |grip| &mut grip.by_holder);
        self.peer_mut(holder).handles = list;
        before
    }

    /// Takes a handle out of the world. The serving, if it was one, must have ended.
    fn erase_handle(&mut self, turn: &mut Turn<'_, P>, handle: u32) {
        let Grip { holder, root, lineage, scope, .. } = self.handles[handle];
        if holder != NONE {
            let mut list = self.peer(holder).handles;
            list.remove(&mut self.handles, handle, |grip| &mut grip.by_holder);
            self.peer_mut(holder).handles = list;
        }
        if lineage != 0 && self.is_connected(root) {
            let mut list = self.peer(root.slot).granted;
            list.remove(&mut self.handles, handle, |grip| &mut grip.by_root);
            self.peer_mut(root.slot).granted = list;
        }
        if scope != NONE {
            let mut list = self.calls[scope].scoped;
            list.remove(&mut self.handles, handle, |grip| &mut grip.by_scope);
            self.calls[scope].scoped = list;
        }
        let grip = self.handles.remove(handle);
        self.users[grip.user].handles -= 1;
        self.forget_user_if_unused(turn.now, grip.user);
        if grip.server == NONE {
            self.objects[grip.object].handles -= 1;
            self.release_object(turn, grip.object);
        }
    }

    /// Whether a peer is there, be it on its way out: its list of granted handles still counts.
    pub(crate) fn is_connected(&self, id: PeerId) -> bool {
        self.peers.get(id.slot as usize).and_then(Option::as_ref).is_some_and(|peer| peer.id == id)
    }

    /// A handle of this peer, by its word on the wire.
    #[inline(always)]
    pub(crate) fn find_handle(&self, holder: u32, word: u64) -> Result<u32, (Outcome, String)> {
        match self.handles.find(word) {
            Some(handle) if self.handles[handle].holder == holder && !self.handles[handle].void => Ok(handle),
            found => Err(self.no_handle(word, found)),
        }
    }

    #[cold]
    fn no_handle(&self, word: u64, found: Option<u32>) -> (Outcome, String) {
        match found {
            // SPEC 3.6. The client may not have read of it yet.
            found if self.handles.has_left(word) || found.is_some_and(|handle| self.handles[handle].void) => {
                (Outcome::HandleRevoked, "the handle was revoked, or closed".to_string())
            }
            _ => (Outcome::Invalid, "this connection has no such handle".to_string()),
        }
    }

    /// SPEC 6.2, Open.
    pub(crate) fn open(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        ask: &control::Open,
    ) -> Result<control::Opened, (Outcome, String)> {
        let name = Name::new(&ask.name).map_err(|error| (Outcome::Invalid, error.to_string()))?;
        let Some(kind) = ObjectKind::from_wire(ask.kind) else {
            return Err((Outcome::Unsupported, format!("this broker knows no object kind {}", ask.kind)));
        };
        let wanted = Rights(ask.rights);
        if wanted == Rights::NONE || !Rights::ALL.contains(wanted) {
            return Err((
                Outcome::Invalid,
                format!("rights {:#x} are none, or not all defined (SPEC 3.4)", ask.rights),
            ));
        }
        let foreign = Verb::ALL.into_iter().find(|verb| wanted.contains(verb.right()) && !kind.has(*verb));
        if let Some(verb) = foreign {
            let message =
                format!("the right `{}` means nothing on a {} (SPEC 3.4)", verb.as_str(), kind.as_str());
            return Err((Outcome::Invalid, message));
        }
        // `open_as`: what counts is what the caller may do, and it lasts as long as the caller stays.
        let mut grip = self.own_grip(from, NONE, wanted);
        if ask.on_behalf_of != 0 {
            let caller = self.request_of(from, ask.on_behalf_of).map(|call| self.calls[call].caller);
            let caller = caller.filter(|caller| self.find_peer(*caller).is_some());
            let Some(caller) = caller else {
                let message =
                    "`on_behalf_of` names no request that this connection is serving and whose caller waits";
                return Err((Outcome::Invalid, message.to_string()));
            };
            let root = self.own_grip(caller.slot, NONE, wanted);
            grip = Grip { lineage: ON_BEHALF, user: grip.user, ..root };
        }
        let who = Rc::clone(&grip.root_identity);
        let allowed = self.policy.rights(&who, wanted, &name);
        let missing = Verb::ALL
            .into_iter()
            .find(|verb| wanted.contains(verb.right()) && !allowed.contains(verb.right()));
        if let Some(verb) = missing {
            return Err(denied(&who, verb, &name));
        }
        self.check_handle_quota(from)?;
        let object = self.object_of(turn, &name, kind, from)?;
        let handle = self.new_handle(from, Grip { object, ..grip })?;
        Ok(self.opened(handle))
    }

    /// SPEC 6.2, Narrow.
    pub(crate) fn narrow(
        &mut self,
        from: u32,
        ask: &control::Narrow,
    ) -> Result<control::Opened, (Outcome, String)> {
        let handle = self.find_handle(from, ask.handle)?;
        let rights = Rights(ask.rights);
        let Grip { object, root, lineage, persistent, scope, server, .. } = self.handles[handle];
        if server != NONE {
            return Err((Outcome::Invalid, "a serving handle has nothing to narrow".to_string()));
        }
        if !self.handles[handle].rights.contains(rights) {
            let had = self.handles[handle].rights;
            return Err((
                Outcome::Denied,
                format!("the handle has the rights {had:?}, not all of {rights:?}"),
            ));
        }
        let root_identity = Rc::clone(&self.handles[handle].root_identity);
        let grip =
            Grip { root, root_identity, lineage, persistent, scope, ..self.own_grip(from, object, rights) };
        let new = self.new_handle(from, grip)?;
        Ok(self.opened(new))
    }

    fn opened(&self, handle: u32) -> control::Opened {
        let grip = &self.handles[handle];
        control::Opened {
            handle: self.handles.word(handle),
            rights: grip.rights.0,
            epoch: self.objects[grip.object].epoch.0,
            send_bytes: grip.send_bytes_max,
        }
    }

    /// SPEC 6.2, Close; a serving handle ends the serving.
    pub(crate) fn close_handle(&mut self, turn: &mut Turn<'_, P>, handle: u32, why: Leaving) {
        let server = self.handles[handle].server;
        if server != NONE {
            self.unserve(turn, server, why);
        } else if self.objects[self.handles[handle].object].kind == ObjectKind::Topic {
            self.leave_topic(turn, handle);
        }
        self.erase_handle(turn, handle);
    }

    /// SPEC 6.2, Revoke: takes back everything that stems from a handle of the root's own.
    pub(crate) fn revoke_lineage(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        word: u64,
    ) -> Result<(), (Outcome, String)> {
        let handle = self.find_handle(from, word)?;
        if self.handles[handle].lineage != 0 {
            let message = "only the root of a handle can take back what was passed on from it (SPEC 3.6)";
            return Err((Outcome::Denied, message.to_string()));
        }
        let mut stemming = Vec::new();
        let mut next = self.peer(from).granted.first();
        while let Some(granted) = next {
            let grip = &self.handles[granted];
            next = grip.by_root.next();
            if grip.lineage == word {
                stemming.push(self.handles.word(granted));
            }
        }
        // Taking one away may take others away (by the calls it ends), so each is looked up again.
        for granted in stemming {
            if let Some(granted) = self.handles.find(granted) {
                self.take_away(turn, granted, Loss::Revoked);
            }
        }
        Ok(())
    }

    /// The open calls that a peer made through a handle.
    fn calls_through(&self, holder: u32, word: u64) -> Vec<u64> {
        let mut calls = Vec::new();
        let mut next = self.peer(holder).calls.first();
        while let Some(call) = next {
            let it = &self.calls[call];
            next = it.by_caller.next();
            if it.handle == word {
                calls.push(self.calls.word(call));
            }
        }
        calls
    }

    /// Takes a handle away: the calls through it end, its holder is told.
    pub(crate) fn take_away(&mut self, turn: &mut Turn<'_, P>, handle: u32, loss: Loss) {
        let word = self.handles.word(handle);
        let holder = self.handles[handle].holder;
        if holder != NONE {
            let (outcome, message) = match loss {
                Loss::Revoked => (Outcome::HandleRevoked, "the handle was revoked while the call was open"),
                Loss::Denied => {
                    (Outcome::Denied, "a reload of the policy took the right away while the call was open")
                }
            };
            // Ending one call may end others (by the handles it gave), so each is looked up again.
            for call in self.calls_through(holder, word) {
                if let Some(call) = self.calls.find(call) {
                    self.end_by_broker(turn, call, outcome, message);
                }
            }
            self.end_subscriptions(turn, handle, outcome, message);
            let header =
                Header { method: Event::HandleRevoked as u32, handle: word, ..Header::new(Kind::Event) };
            self.push(turn, holder, header, SendTail::Empty);
        }
        self.close_handle(turn, handle, Leaving::Revoked);
        self.counters.handles_revoked += 1;
    }

    /// A handle's holder is gone.
    pub(crate) fn drop_handle(&mut self, turn: &mut Turn<'_, P>, handle: u32, how: Departure) {
        self.close_handle(turn, handle, Leaving::Died(how));
    }

    /// The root of a handle is gone (SPEC 3.6).
    pub(crate) fn root_left(&mut self, turn: &mut Turn<'_, P>, handle: u32) {
        if !self.handles[handle].persistent {
            return self.take_away(turn, handle, Loss::Revoked);
        }
        let root = self.handles[handle].root;
        let mut list = self.peer(root.slot).granted;
        list.remove(&mut self.handles, handle, |grip| &mut grip.by_root);
        self.peer_mut(root.slot).granted = list;
        self.handles[handle].root = NOBODY;
    }

    /// The call that gave these handles has ended (SPEC 5.7, CALL_SCOPED). They are void from now on,
    /// and taken away by work that follows: taking one away ends calls, which may have given others,
    /// and so on without end.
    pub(crate) fn end_scope(&mut self, call: u32) {
        while let Some(handle) = self.calls[call].scoped.first() {
            let mut list = self.calls[call].scoped;
            list.remove(&mut self.handles, handle, |grip| &mut grip.by_scope);
            self.calls[call].scoped = list;
            let grip = &mut self.handles[handle];
            grip.scope = NONE;
            grip.void = true;
            let handle = self.handles.word(handle);
            self.work.push_back(Work::TakeAway { handle });
        }
    }

    /// Makes new handles of those that a message carries, on their way and held by nobody. All or
    /// none. `call` is the call they come with, for those that die with it.
    pub(crate) fn take_handles(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        call: Option<u32>,
        header: &Header,
        tail: &P,
    ) -> Result<Vec<u64>, (Outcome, String)> {
        let mut taken = Vec::with_capacity(usize::from(header.handles));
        for entry in Tail::of(header, tail.bytes()).handles() {
            match self.take_one(from, call, entry) {
                Ok(word) => taken.push(word),
                Err(refusal) => {
                    self.drop_travellers(turn, &taken);
                    return Err(refusal);
                }
            }
        }
        Ok(taken)
    }

    fn take_one(
        &mut self,
        from: u32,
        call: Option<u32>,
        entry: HandleEntry,
    ) -> Result<u64, (Outcome, String)> {
        let handle = self.find_handle(from, entry.handle)?;
        let grip = &self.handles[handle];
        let (had, object) = (grip.rights, grip.object);
        if grip.server != NONE || entry.flags & !handle_flags::ALL != 0 {
            return Err((
                Outcome::Invalid,
                "a serving handle cannot be passed on, or unknown flags (SPEC 5.7)".to_string(),
            ));
        }
        if !had.contains(entry.rights | Verb::Delegate.right()) {
            let message = format!(
                "the handle has the rights {had:?}; passing on {:?} takes these and `delegate`",
                entry.rights
            );
            return Err((Outcome::Denied, message));
        }
        self.check_handle_quota(from)?;
        let grip = &self.handles[handle];
        // Passing on only narrows, in time too: what dies with a call still does, and what dies with
        // its root is not made to outlive it by anybody else.
        let scope = match call {
            _ if grip.scope != NONE => grip.scope,
            _ if entry.flags & handle_flags::CALL_SCOPED == 0 => NONE,
            Some(call) => call,
            None => {
                let message =
                    "CALL_SCOPED is for CALL and ITEM: with no other message does a call go on (SPEC 5.7)";
                return Err((Outcome::Invalid, message.to_string()));
            }
        };
        let lasting = grip.lineage == 0 || grip.persistent;
        let new = Grip {
            root: grip.root,
            root_identity: Rc::clone(&grip.root_identity),
            lineage: if grip.lineage == 0 { entry.handle } else { grip.lineage },
            persistent: lasting && entry.flags & handle_flags::PERSISTENT != 0,
            scope,
            ..self.own_grip(from, object, entry.rights)
        };
        let new = self.enter_handle(new);
        Ok(self.handles.word(new))
    }

    /// Gives the handles of a message to its receiver: the new handle table, in the same order.
    #[inline(never)]
    pub(crate) fn give_handles(
        &mut self,
        turn: &mut Turn<'_, P>,
        to: u32,
        taken: &[u64],
    ) -> Box<[HandleEntry]> {
        let mut give = |word: &u64| {
            let lost = HandleEntry { handle: 0, rights: Rights::NONE, flags: 0 };
            let Some(handle) = self.handles.find(*word).filter(|&handle| !self.handles[handle].void) else {
                return lost;
            };
            if self.check_handle_quota(to).is_err() {
                self.erase_handle(turn, handle);
                self.counters.handles_dropped += 1;
                return lost;
            }
            let sender = self.hand_over(to, handle);
            self.forget_user_if_unused(turn.now, sender);
            HandleEntry { handle: *word, rights: self.handles[handle].rights, flags: 0 }
        };
        taken.iter().map(&mut give).collect()
    }

    /// Closes the handles of a message that does not arrive.
    pub(crate) fn drop_travellers(&mut self, turn: &mut Turn<'_, P>, taken: &[u64]) {
        for &word in taken {
            if let Some(handle) = self.handles.find(word) {
                self.erase_handle(turn, handle);
            }
        }
    }

    /// After a reload: whether the root of each handle still has the rights, at most `budget` slots.
    pub(crate) fn re_evaluate(
        &mut self,
        turn: &mut Turn<'_, P>,
        mut slot: u32,
        budget: &mut u32,
    ) -> Option<Work> {
        while slot < self.handles.slots() {
            if *budget == 0 {
                return Some(Work::ReEvaluate { slot });
            }
            *budget -= 1;
            if let Some(grip) = self.handles.get(slot)
                && let Some(name) = &self.objects[grip.object].name
            {
                let has = self.policy.rights(&grip.root_identity, grip.rights, name);
                if !has.contains(grip.rights) {
                    self.take_away(turn, slot, Loss::Denied);
                }
            }
            slot += 1;
        }
        None
    }
}
