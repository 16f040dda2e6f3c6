//! Control operations: calls on the broker itself (SPEC 6).

use crate::broker::{Broker, Turn, Work};
use crate::call::Target;
use crate::object::Leaving;
use crate::{Effect, Identity, Payload};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use switchboard_protocol::control::{self, Operation};
use switchboard_protocol::{
    CONTROL_BYTES_MAX, Header, Name, ObjectKind, Outcome, Pattern, PeerId, Verb, decode, encode, flags,
};

pub(crate) type Refusal = (Outcome, String);

/// What comes of a control operation at once.
pub(crate) enum Answer {
    /// This body.
    Reply(Vec<u8>),
    /// Nothing yet: the call stays open.
    Later,
}

/// Names on one page of a listing, and names looked at for it.
const PAGE: usize = 256;
const PAGE_SCAN: usize = 4096;

impl<P: Payload> Broker<P> {
    pub(crate) fn control(&mut self, turn: &mut Turn<'_, P>, from: u32, header: Header, tail: &P) {
        self.counters.controls += 1;
        match self.try_control(turn, from, &header, tail) {
            Ok(Answer::Reply(body)) => self.reply(turn, from, header.call, body),
            Ok(Answer::Later) => {}
            Err((outcome, message)) => self.refuse(turn, from, &header, outcome, &message),
        }
    }

    fn try_control(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        header: &Header,
        tail: &P,
    ) -> Result<Answer, Refusal> {
        if header.ext_len != 0 || header.handles != 0 {
            return Err((
                Outcome::Unsupported,
                "a control operation has no extensions and no handles (SPEC 6.1)".to_string(),
            ));
        }
        let body = tail.bytes();
        if CONTROL_BYTES_MAX < body.len() {
            return Err((
                Outcome::TooLarge,
                format!("a control body of {} bytes; at most {CONTROL_BYTES_MAX} (SPEC 6.1)", body.len()),
            ));
        }
        if self.peer(from).call_at(header.call as u32).is_some() {
            let slot = header.call as u32;
            return Err((Outcome::Invalid, format!("call slot {slot} is in use by an open call (SPEC 4.2)")));
        }
        let Some(operation) = Operation::from_wire(header.method) else {
            return Err((
                Outcome::Unsupported,
                format!("this broker knows no control operation {}", header.method),
            ));
        };
        let reply = match operation {
            Operation::Open => encode(&self.open(turn, from, &parse(body)?)?),
            Operation::Close => {
                let ask: control::OnHandle = parse(body)?;
                let handle = self.find_handle(from, ask.handle)?;
                self.close_handle(turn, handle, Leaving::Closed);
                Vec::new()
            }
            Operation::Serve => encode(&self.serve(turn, from, parse(body)?)?),
            Operation::Revoke => {
                let ask: control::OnHandle = parse(body)?;
                self.revoke_lineage(turn, from, ask.handle)?;
                Vec::new()
            }
            Operation::Narrow => encode(&self.narrow(from, &parse(body)?)?),
            Operation::Wait => return self.wait_for(turn, from, header, &parse(body)?),
            Operation::Watch => return self.watch(turn, from, header, &parse(body)?),
            Operation::List => encode(&self.list(from, &parse(body)?)?),
            Operation::Describe => {
                let ask: control::OnName = parse(body)?;
                encode(&self.describe(from, &ask.name)?)
            }
            Operation::Identify => encode(&self.identify(from, &parse(body)?)?),
            Operation::Status => encode(&self.status(turn.now)),
            Operation::Stats => {
                self.check_broker_right(from, Verb::Admin)?;
                encode(&self.stats(&parse(body)?)?)
            }
            Operation::Waits => {
                self.check_broker_right(from, Verb::Admin)?;
                encode(&self.waits(turn.now))
            }
            Operation::Monitor => return self.start_monitor(turn, from, header, &parse(body)?),
            Operation::Explain => encode(&self.explain(from, &parse(body)?)?),
            Operation::Reload => {
                self.check_broker_right(from, Verb::Admin)?;
                let call = self.keep_open(turn, from, header)?;
                self.calls[call].target = Target::Reload;
                self.reloads.push(self.calls.word(call));
                turn.effects.push(Effect::Reload);
                return Ok(Answer::Later);
            }
            Operation::Subscribe => {
                self.subscribe(turn, from, header, &parse(body)?)?;
                return Ok(Answer::Later);
            }
            Operation::TopicStat => {
                let ask: control::OnHandle = parse(body)?;
                encode(&self.topic_stat(from, ask.handle)?)
            }
            Operation::Will => {
                self.set_will(turn, from, parse(body)?)?;
                Vec::new()
            }
            Operation::CreateQueue => return self.create_queue(turn, from, header, parse(body)?),
            Operation::DeleteQueue => {
                let ask: control::OnName = parse(body)?;
                return self.delete_queue(turn, from, header, &ask.name);
            }
        };
        Ok(Answer::Reply(reply))
    }

    /// Makes an open call of a control operation that is not answered at once.
    pub(crate) fn keep_open(
        &mut self,
        turn: &Turn<'_, P>,
        from: u32,
        header: &Header,
    ) -> Result<u32, Refusal> {
        self.check_call_slot(from, header)?;
        if header.deadline != 0 && header.deadline <= turn.now.0 {
            return Err((
                Outcome::DeadlineExceeded,
                "the deadline had passed when the call came".to_string(),
            ));
        }
        Ok(self.enter_call(turn, from, crate::slab::NONE, header))
    }

    fn check_watch_quota(&self, from: u32) -> Result<(), Refusal> {
        let peer = self.peer(from);
        let most = self.limits.of_user(peer.identity.uid).watches;
        if most <= peer.watches {
            let message = format!(
                "this connection has {most} watches, waits and monitors already (limits.user.watches)"
            );
            return Err((Outcome::Busy, message));
        }
        let most = self.limits.watches_max;
        if most <= self.watching || most / 2 <= self.users[peer.user].watches {
            let message = format!(
                "of the {most} watches, waits and monitors of this broker your user has half, or all are in use (limits.watches_max)"
            );
            return Err((Outcome::Busy, message));
        }
        Ok(())
    }

    /// Makes an open call of a watch, wait or monitor, within the quota of those.
    pub(crate) fn keep_watching(
        &mut self,
        turn: &Turn<'_, P>,
        from: u32,
        header: &Header,
    ) -> Result<u32, Refusal> {
        self.check_watch_quota(from)?;
        let call = self.keep_open(turn, from, header)?;
        let peer = self.peer_mut(from);
        peer.watches += 1;
        let user = peer.user;
        self.users[user].watches += 1;
        self.watching += 1;
        Ok(call)
    }

    fn wait_for(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        header: &Header,
        ask: &control::OnName,
    ) -> Result<Answer, Refusal> {
        let name = Name::new(&ask.name).map_err(|error| (Outcome::Invalid, error.to_string()))?;
        if !self.may_see(from, &name) {
            return Err((Outcome::Denied, format!("you have no right on `{name}`")));
        }
        if let Some(&object) = self.names.get(&name)
            && self.is_there(object)
        {
            return Ok(Answer::Reply(encode(&control::Found { epoch: self.objects[object].epoch.0 })));
        }
        self.check_watch_quota(from)?;
        let object = self.object_of(turn, &name, ObjectKind::Service, from)?;
        let call = match self.keep_watching(turn, from, header) {
            Ok(call) => call,
            Err(refusal) => {
                self.release_object(turn, object);
                return Err(refusal);
            }
        };
        self.calls[call].target = Target::Wait(object);
        self.objects[object].waits.push(&mut self.calls, call, |call| &mut call.by_wait);
        Ok(Answer::Later)
    }

    fn watch(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        header: &Header,
        ask: &control::OnPattern,
    ) -> Result<Answer, Refusal> {
        let pattern = Pattern::new(&ask.pattern).map_err(|error| (Outcome::Invalid, error.to_string()))?;
        if header.flags & flags::STREAM == 0 {
            return Err((
                Outcome::Invalid,
                "a watch is a streamed call: set the flag STREAM (SPEC 6.2)".to_string(),
            ));
        }
        let call = self.keep_watching(turn, from, header)?;
        self.start_watch(call, pattern);
        Ok(Answer::Later)
    }

    fn start_monitor(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        header: &Header,
        ask: &control::Monitor,
    ) -> Result<Answer, Refusal> {
        self.check_broker_right(from, Verb::Monitor)?;
        let pattern = Pattern::new(&ask.pattern).map_err(|error| (Outcome::Invalid, error.to_string()))?;
        if header.flags & flags::STREAM == 0 {
            return Err((
                Outcome::Invalid,
                "a monitor is a streamed call: set the flag STREAM (SPEC 6.2)".to_string(),
            ));
        }
        let call = self.keep_watching(turn, from, header)?;
        self.begin_monitor(turn, call, pattern, ask.payload_bytes);
        Ok(Answer::Later)
    }

    fn list(&self, from: u32, ask: &control::List) -> Result<control::Listing, Refusal> {
        let pattern = Pattern::new(&ask.pattern).map_err(|error| (Outcome::Invalid, error.to_string()))?;
        let mut names = Vec::new();
        let mut next = String::new();
        for (scanned, (name, &object)) in self.names_after(&pattern, &ask.after).enumerate() {
            if scanned == PAGE_SCAN || names.len() == PAGE {
                break;
            }
            next = name.to_string();
            if pattern.matches(name) && self.is_there(object) && self.may_see(from, name) {
                names.push(self.name_info(object));
            }
        }
        let after = if next.is_empty() { &ask.after } else { &next };
        if self.names_after(&pattern, after).next().is_none() {
            next = String::new();
        }
        Ok(control::Listing { names, next })
    }

    /// The names that `pattern` may match, in order, from the first one after `after`.
    pub(crate) fn names_after<'a>(
        &'a self,
        pattern: &'a Pattern,
        after: &str,
    ) -> impl Iterator<Item = (&'a Name, &'a u32)> {
        use core::ops::Bound::{Excluded, Included, Unbounded};
        let prefix = pattern.literal_prefix();
        let from = if prefix <= after && !after.is_empty() { Excluded(after) } else { Included(prefix) };
        self.names
            .range::<str, _>((from, Unbounded))
            .take_while(move |(name, _)| name.as_str().starts_with(prefix))
    }

    fn identify(&self, from: u32, ask: &control::OnPeer) -> Result<control::PeerInfo, Refusal> {
        let id = if ask.peer == 0 { self.peer(from).id } else { PeerId::from_wire(ask.peer) };
        let serves_it = || {
            let mut next = self.peer(from).requests.first();
            core::iter::from_fn(move || {
                let call = next?;
                next = self.calls[call].by_server.next();
                Some(call)
            })
            .any(|call| self.calls[call].caller == id)
        };
        if id.slot != from && !serves_it() && self.check_broker_right(from, Verb::Admin).is_err() {
            let message =
                "only who serves a request of a peer, or may administrate the broker, learns who it is";
            return Err((Outcome::Denied, message.to_string()));
        }
        let Some(slot) = self.find_peer(id) else {
            return Err((Outcome::Invalid, format!("{id} is not connected (any more)")));
        };
        let peer = self.peer(slot);
        let Identity { uid, gid, ref groups, pid, ref label } = *peer.identity;
        Ok(control::PeerInfo {
            peer: id.to_wire(),
            uid,
            gid,
            groups: groups.clone(),
            pid,
            label: label.clone().unwrap_or_default(),
            program: peer.program.clone(),
        })
    }

    fn explain(&self, from: u32, ask: &control::Explain) -> Result<control::Explained, Refusal> {
        let name = Name::new(&ask.name).map_err(|error| (Outcome::Invalid, error.to_string()))?;
        let Some(verb) = Verb::ALL.into_iter().find(|verb| verb.right().0 == ask.verb) else {
            return Err((Outcome::Invalid, format!("no verb has the bit {:#x} (SPEC 3.4)", ask.verb)));
        };
        let own = &*self.peer(from).identity;
        let asked;
        let who = match ask.uid {
            None => own,
            Some(uid) => {
                if uid != own.uid {
                    self.check_broker_right(from, Verb::Admin)?;
                }
                let label = (!ask.label.is_empty()).then(|| ask.label.clone());
                let gid = ask.groups.first().copied().unwrap_or(Identity::UNMAPPED);
                asked = Identity { uid, gid, groups: ask.groups.clone(), pid: 1, label };
                &asked
            }
        };
        let decision = self.policy.decide(who, verb, &name);
        Ok(control::Explained {
            allowed: decision.allowed(),
            rule: decision.to_string(),
            priority_max: self.policy.priority_max(who),
        })
    }

    /// Whether a peer may look into or steer the broker itself.
    pub(crate) fn check_broker_right(&self, from: u32, verb: Verb) -> Result<(), Refusal> {
        let name = Name::new("switchboard").expect("a valid name");
        self.check_policy(from, verb, &name)
    }

    /// A watch goes on when its snapshot has more to give.
    pub(crate) fn go_on_with_snapshot(&mut self, watch: u32) {
        let watch = self.watches.word(watch);
        self.work.push_back(Work::Snapshot { watch });
    }
}

/// A control body, or why it is none.
pub(crate) fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    decode(body)
        .ok_or_else(|| (Outcome::Invalid, "the body is not as the operation wants it (SPEC 7)".to_string()))
}
