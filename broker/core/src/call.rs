//! Calls: each ends exactly once (SPEC 4, 5).

use crate::broker::{Broker, Timer, Turn};
use crate::list::{Links, List};
use crate::slab::NONE;
use crate::timers::TimerId;
use crate::waiting::Message;
use crate::{Departure, Payload, SendTail};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};
use switchboard_protocol::{
    Epoch, Failure, Header, Instant, Kind, ObjectKind, Outcome, PeerId, Verb, control, encode, flags, padded,
};

/// A call from the moment it is taken until its caller has the outcome and no server has it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) caller: PeerId,
    /// The user it counts against.
    pub(crate) user: u32,
    /// The caller's id of it.
    pub(crate) caller_call: u64,
    /// The caller's handle, as on the wire.
    pub(crate) handle: u64,
    /// [`NONE`] for a control call.
    pub(crate) object: u32,
    pub(crate) target: Target,
    /// The ownership under which a server was given it.
    epoch: Epoch,
    /// Whether the caller still waits for the outcome. If not, the server still has the request.
    pub(crate) open: bool,
    pub(crate) since: Instant,
    pub(crate) deadline: Instant,
    pub(crate) timer: TimerId,
    pub(crate) priority: u8,
    pub(crate) stream: bool,
    /// Items that the caller has room for.
    pub(crate) credit: u64,
    /// Credit that its server has not been told of.
    pub(crate) credit_due: u64,
    /// Items that it was given.
    pub(crate) items: u64,
    /// The request in whose service it was made; 0 for none.
    pub(crate) parent: u64,
    /// Handles that die with it.
    pub(crate) scoped: List,
    pub(crate) by_caller: Links,
    pub(crate) by_server: Links,
    pub(crate) by_wait: Links,
    pub(crate) by_due: Links,
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Target {
    /// Just made.
    Nowhere,
    /// In the queue of its object, as this message.
    Waiting(u32),
    /// At this server.
    Server(u32),
    /// At the broker: waits for a name.
    Wait(u32),
    /// At the broker: this watch.
    Watch(u32),
    /// At the broker: this monitor.
    Monitor(u32),
    /// At the broker: a reload.
    Reload,
    /// At the broker: this subscription.
    Subscription(u32),
    /// At the broker: a message held back by a subscription, [`crate::topic`].
    Publish(u32),
    /// At the broker: this consumer of a queue.
    Consumer(u32),
    /// At the broker: a push that waits for room, [`crate::queue`].
    Push(u32),
    /// At the broker: until the log is written as far as it takes, [`crate::storage`].
    Stored(u64),
    /// At the broker: waits for an event, as this waiter.
    Await(u32),
}

/// When to try again after `Busy`, in milliseconds: by then a queue has moved.
const RETRY_AFTER_MS: u32 = 10;

impl<P: Payload> Broker<P> {
    /// A CALL on a handle (SPEC 4.1).
    #[inline]
    pub(crate) fn call(&mut self, turn: &mut Turn<'_, P>, from: u32, header: &mut Header, tail: &P) {
        self.counters.calls += 1;
        if let Err((outcome, message)) = self.try_call(turn, from, header, tail) {
            self.refuse(turn, from, header, outcome, &message);
        }
    }

    #[inline(always)]
    fn try_call(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        header: &mut Header,
        tail: &P,
    ) -> Result<(), (Outcome, String)> {
        let handle = self.find_handle(from, header.handle)?;
        let grip = &self.handles[handle];
        if !grip.rights.contains(Verb::Call.right()) {
            return self.call_other(turn, from, handle, header, tail);
        }
        let object = grip.object;
        self.check_payload(header)?;
        if header.flags & flags::BATCH != 0 {
            return Err(no_batch());
        }
        self.check_call_slot(from, header)?;
        self.inherit(from, header);
        if header.deadline != 0 && header.deadline <= turn.now.0 {
            return Err(too_late());
        }
        self.check_owner(object, header)?;
        let bytes = padded(header.len as usize) as u64;
        let server = if self.objects[object].waiting_len == 0 {
            self.choose_server(object, Epoch(header.epoch), true, bytes)
        } else {
            None
        };
        let Some(server) = server else { return self.wait_with_call(turn, from, object, header, tail) };
        let call = self.enter_call(turn, from, object, header);
        if header.handles != 0 {
            return self.deliver_with_handles(turn, from, server, call, header, tail);
        }
        self.peer(from).stamp(header);
        self.deliver_call(turn, server, call, header, tail, &[]);
        Ok(())
    }

    /// A CALL on what is no service (on which no handle has the right `call`), or without the right for one.
    #[cold]
    #[inline(never)]
    fn call_other(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        handle: u32,
        header: &mut Header,
        tail: &P,
    ) -> Result<(), (Outcome, String)> {
        self.check_payload(header)?;
        self.inherit(from, header);
        match self.objects[self.handles[handle].object].kind {
            ObjectKind::Service => Err(no_right_to_call()),
            ObjectKind::Topic => self.publish_call(turn, from, handle, *header, tail.clone()),
            ObjectKind::Queue => self.queue_call(turn, from, handle, header, tail),
            ObjectKind::Event => self.signal_call(turn, from, handle, *header, tail.clone()),
        }
    }

    #[inline(never)]
    fn deliver_with_handles(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        server: u32,
        call: u32,
        header: &mut Header,
        tail: &P,
    ) -> Result<(), (Outcome, String)> {
        let taken = self.take_handles_of_call(turn, from, call, header, tail)?;
        self.peer(from).stamp(header);
        self.deliver_call(turn, server, call, header, tail, &taken);
        Ok(())
    }

    /// A call for which no server has room.
    #[inline(never)]
    fn wait_with_call(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        object: u32,
        header: &Header,
        tail: &P,
    ) -> Result<(), (Outcome, String)> {
        self.check_call_may_wait(from, object, header)?;
        let call = self.enter_call(turn, from, object, header);
        let taken = self.take_handles_of_call(turn, from, call, header, tail)?;
        self.wait_in_line(turn, from, object, Message::Call(call), *header, tail.clone(), taken);
        Ok(())
    }

    /// The handles that a call carries, on their way. Where one cannot be passed on there is no call.
    fn take_handles_of_call(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        call: u32,
        header: &Header,
        tail: &P,
    ) -> Result<Vec<u64>, (Outcome, String)> {
        let taken = self.take_handles(turn, from, Some(call), header, tail);
        if taken.is_err() {
            self.erase_call(turn, call);
        }
        taken
    }

    /// Whether a call may wait for a server to have room.
    fn check_call_may_wait(&self, from: u32, object: u32, header: &Header) -> Result<(), (Outcome, String)> {
        if header.flags & flags::NO_WAIT != 0 {
            return Err((
                Outcome::Busy,
                "no server has room now, and the call asked not to wait".to_string(),
            ));
        }
        self.check_may_wait(object, Epoch(header.epoch))?;
        self.check_waiting_quota(from, padded(header.len as usize) as u64)
    }

    /// Whether there is an owner, and the one that is expected.
    #[inline(always)]
    pub(crate) fn check_owner(&self, object: u32, header: &Header) -> Result<(), (Outcome, String)> {
        if self.objects[object].owners.is_empty()
            || header.epoch != 0 && !self.is_current(object, Epoch(header.epoch))
        {
            return Err(self.no_owner(object, header));
        }
        Ok(())
    }

    #[cold]
    fn no_owner(&self, object: u32, header: &Header) -> (Outcome, String) {
        let it = &self.objects[object];
        if it.owners.is_empty() {
            let message = match &it.name {
                Some(name) => format!("nobody serves `{name}`"),
                None => "the private service has ended".to_string(),
            };
            return (Outcome::NoOwner, message);
        }
        let message = format!(
            "the owner expected had epoch {:#x}, the present one has {:#x}",
            header.epoch, it.epoch.0
        );
        (Outcome::OwnerChanged, message)
    }

    #[inline(always)]
    pub(crate) fn check_payload(&self, header: &Header) -> Result<(), (Outcome, String)> {
        let most = self.limits.payload_bytes_max as usize;
        if most < header.payload_len() {
            return Err(too_large(header.payload_len(), most));
        }
        Ok(())
    }

    /// SPEC 4.2, and the quotas of open calls.
    #[inline(always)]
    pub(crate) fn check_call_slot(&self, from: u32, header: &Header) -> Result<(), (Outcome, String)> {
        let peer = self.peer(from);
        let (slot, most) = (header.call as u32, self.limits.calls_open_max);
        if slot < peer.calls_open_max
            && peer.calls.len() < peer.calls_open_max
            && (header.call != 0 || header.flags & flags::STREAM == 0)
            && peer.call_at(slot).is_none()
            && self.calls.len() < most
            && self.users[peer.user].calls < most / 2
        {
            return Ok(());
        }
        self.refuse_call_slot(from, header)
    }

    /// Which of the conditions of [`Self::check_call_slot`] does not hold.
    #[cold]
    fn refuse_call_slot(&self, from: u32, header: &Header) -> Result<(), (Outcome, String)> {
        let peer = self.peer(from);
        let most = peer.calls_open_max;
        let slot = header.call as u32;
        if most <= slot || most <= peer.calls.len() {
            let message = format!(
                "this connection may have {most} calls open (limits.user.calls_open); call slot {slot}"
            );
            return Err((Outcome::Busy, message));
        }
        if header.call == 0 && header.flags & flags::STREAM != 0 {
            let message =
                "a streamed call needs an id other than 0, which in CREDIT means one-way sends (SPEC 4.2)";
            return Err((Outcome::Invalid, message.to_string()));
        }
        if peer.call_at(slot).is_some() {
            return Err((Outcome::Invalid, format!("call slot {slot} is in use by an open call (SPEC 4.2)")));
        }
        let most = self.limits.calls_open_max;
        if most <= self.calls.len() || most / 2 <= self.users[peer.user].calls {
            let message = format!(
                "of the {most} open calls of this broker your user has half, or all are in use (limits.calls_open_max)"
            );
            return Err((Outcome::Busy, message));
        }
        Ok(())
    }

    /// SPEC 4.4: a call in service of a request never outlives it and may have its priority; else
    /// policy caps the priority.
    #[inline(always)]
    pub(crate) fn inherit(&self, from: u32, header: &mut Header) {
        let mut most = self.peer(from).priority_max;
        if header.seq != 0 {
            match self.request_of(from, header.seq).map(|parent| &self.calls[parent]) {
                Some(parent) => {
                    most = most.max(parent.priority);
                    if parent.deadline != Instant::NEVER
                        && (header.deadline == 0 || parent.deadline.0 < header.deadline)
                    {
                        header.deadline = parent.deadline.0;
                    }
                }
                None => header.seq = 0,
            }
        }
        header.priority = header.priority.min(most);
    }

    /// The request of that id, if this peer has it.
    #[inline]
    pub(crate) fn request_of(&self, server: u32, word: u64) -> Option<u32> {
        self.request_at(server, word).map(|(call, _)| call)
    }

    /// The request of that id, if this peer has it, and at which of its servers.
    #[inline(always)]
    fn request_at(&self, server: u32, word: u64) -> Option<(u32, u32)> {
        let call = self.calls.find(word)?;
        match self.calls[call].target {
            Target::Server(at) if self.servers[at].peer.slot == server => Some((call, at)),
            _ => None,
        }
    }

    /// Makes an open call of a frame that was let through.
    #[inline(always)]
    pub(crate) fn enter_call(&mut self, turn: &Turn<'_, P>, from: u32, object: u32, header: &Header) -> u32 {
        let peer = self.peers[from as usize].as_mut().expect("a peer that is connected");
        let (caller, user) = (peer.id, peer.user);
        let deadline = if header.deadline == 0 { Instant::NEVER } else { Instant(header.deadline) };
        let call = self.calls.insert(Call {
            caller,
            user,
            caller_call: header.call,
            handle: header.handle,
            object,
            target: Target::Nowhere,
            epoch: Epoch(0),
            open: true,
            since: turn.now,
            deadline,
            timer: TimerId::NONE,
            priority: header.priority,
            stream: header.flags & flags::STREAM != 0,
            credit: 0,
            credit_due: 0,
            items: 0,
            parent: header.seq,
            scoped: List::EMPTY,
            by_caller: Links::OUT,
            by_server: Links::OUT,
            by_wait: Links::OUT,
            by_due: Links::OUT,
        });
        peer.enter_call(header.call as u32, call);
        peer.calls.push(&mut self.calls, call, |call| &mut call.by_caller);
        if deadline != Instant::NEVER {
            self.calls[call].timer = self.timers.insert(deadline, Timer::Call(call));
        }
        self.users[user].calls += 1;
        self.calls_open += 1;
        call
    }

    /// Gives a call to a server that has room for it. Its header says already who it is from.
    #[inline(always)]
    pub(crate) fn deliver_call(
        &mut self,
        turn: &mut Turn<'_, P>,
        server: u32,
        call: u32,
        header: &mut Header,
        tail: &P,
        taken: &[u64],
    ) {
        let word = self.calls.word(call);
        let it = &mut self.calls[call];
        it.target = Target::Server(server);
        header.call = word;
        header.priority = it.priority;
        header.deadline = if it.deadline == Instant::NEVER { 0 } else { it.deadline.0 };
        let (caller, credit, stream, object) = (it.caller, it.credit, it.stream, it.object);
        let at = &mut self.servers[server];
        at.outstanding += 1;
        header.handle = at.handle;
        header.epoch = at.epoch.0;
        it.epoch = at.epoch;
        let to = at.peer.slot;
        let peer = self.peers[to as usize].as_mut().expect("a peer that is connected");
        peer.requests.push(&mut self.calls, call, |call| &mut call.by_server);
        let handle = header.handle;
        self.pass_on(turn, caller, to, header, tail, taken, object, word);
        if stream && 0 < credit {
            let header = Header { handle, call: word, seq: credit, ..Header::new(Kind::Credit) };
            self.push(turn, to, header, SendTail::Empty);
        }
    }

    /// Passes a frame on to `to`, its handles replaced by the receiver's own, and shows it to those who
    /// watch its object, there with the broker's id of the request.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "a frame on its way is all of this")]
    pub(crate) fn pass_on(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: PeerId,
        to: u32,
        header: &Header,
        tail: &P,
        taken: &[u64],
        object: u32,
        request: u64,
    ) {
        if taken.is_empty() && self.monitors.is_empty() {
            return self.forward(turn, to, header, tail);
        }
        self.patch_and_show(turn, from, to, header, tail, taken, object, request);
    }

    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "a frame on its way is all of this")]
    fn patch_and_show(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: PeerId,
        to: u32,
        header: &Header,
        tail: &P,
        taken: &[u64],
        object: u32,
        request: u64,
    ) {
        let tail = tail.clone();
        let tail = if taken.is_empty() {
            SendTail::Forward(tail)
        } else {
            SendTail::Patched(tail, self.give_handles(turn, to, taken))
        };
        let shown = Header { call: request, ..*header };
        self.tap(turn, from, to, &shown, &tail, object);
        self.push(turn, to, *header, tail);
    }

    /// REPLY and OUTCOME from a server (SPEC 5.4, 5.5).
    #[inline]
    pub(crate) fn answer(&mut self, turn: &mut Turn<'_, P>, from: u32, header: &mut Header, tail: &P) {
        let Some((call, server)) = self.request_at(from, header.call) else {
            // Late, double or made up: nobody waits for it.
            self.counters.answers_late += 1;
            return;
        };
        if !self.calls[call].open {
            self.counters.answers_late += 1;
            return self.erase_call(turn, call);
        }
        let to = self.calls[call].caller.slot;
        let len = padded(header.len as usize) as u64;
        if !self.has_unread_room(to, len) {
            return self.end_unreadable(turn, call, len);
        }
        if let Err((outcome, message)) = self.check_payload(header) {
            return self.end_answered(turn, call, outcome, &message);
        }
        if header.handles != 0 {
            return self.answer_with_handles(turn, from, call, server, header, tail);
        }
        self.pass_answer_on(turn, call, server, header, tail, &[]);
    }

    #[inline(never)]
    fn answer_with_handles(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        call: u32,
        server: u32,
        header: &mut Header,
        tail: &P,
    ) {
        match self.take_handles(turn, from, None, header, tail) {
            Ok(taken) => self.pass_answer_on(turn, call, server, header, tail, &taken),
            Err((_, message)) => {
                let message = format!("the service answered with a handle that it cannot pass on: {message}");
                self.end_answered(turn, call, Outcome::Failed, &message);
            }
        }
    }

    /// Passes an answer on to the caller, and ends the call.
    #[inline(always)]
    fn pass_answer_on(
        &mut self,
        turn: &mut Turn<'_, P>,
        call: u32,
        server: u32,
        header: &mut Header,
        tail: &P,
        taken: &[u64],
    ) {
        if header.kind == Kind::Outcome {
            let outcome = Outcome::from_wire(header.method).from_service();
            header.method = outcome as u32;
            self.counters.outcomes[outcome as usize] += 1;
        } else {
            header.method = 0;
            self.counters.outcomes[Outcome::Reply as usize] += 1;
        }
        let it = &self.calls[call];
        let word = core::mem::replace(&mut header.call, it.caller_call);
        header.handle = it.handle;
        header.epoch = it.epoch.0;
        header.priority = it.priority;
        header.deadline = 0;
        header.seq = 0;
        header.caller = 0;
        header.flags = 0;
        let (to, object) = (it.caller.slot, it.object);
        let from = self.servers[server].peer;
        self.pass_on(turn, from, to, header, tail, taken, object, word);
        // Its caller is here, so nothing is to be forgotten of its user.
        self.close_to_caller(call);
        self.erase_request(turn, call, server);
    }

    #[cold]
    fn end_unreadable(&mut self, turn: &mut Turn<'_, P>, call: u32, len: u64) {
        let message = format!(
            "the service answered, but its {len} bytes do not fit beside what your connections have not read yet (limits.link_bytes_max, limits.user.unread_bytes)"
        );
        self.end_answered(turn, call, Outcome::TooLarge, &message);
    }

    /// The server has answered, but the caller gets something else.
    fn end_answered(&mut self, turn: &mut Turn<'_, P>, call: u32, outcome: Outcome, message: &str) {
        self.tell(turn, call, outcome, &Failure::new(message));
        self.erase_call(turn, call);
    }

    /// A reply or item over the limit (SPEC 4.6, `TooLarge`).
    pub(crate) fn answer_oversized(&mut self, turn: &mut Turn<'_, P>, from: u32, header: &Header) {
        let Some(call) = self.request_of(from, header.call) else {
            self.counters.answers_late += 1;
            return;
        };
        let (len, most) = (header.payload_len(), self.limits.payload_bytes_max);
        let message = format!(
            "the service answered {len} bytes; this broker passes on {most} (limits.payload_bytes_max)"
        );
        match (header.kind, self.calls[call].open) {
            (Kind::Item, true) => self.end_by_broker(turn, call, Outcome::TooLarge, &message),
            (Kind::Item, false) => {}
            (_, true) => self.end_answered(turn, call, Outcome::TooLarge, &message),
            (_, false) => self.erase_call(turn, call),
        }
    }

    /// ITEM from a server (SPEC 5.8).
    pub(crate) fn item(&mut self, turn: &mut Turn<'_, P>, from: u32, header: &mut Header, tail: &P) {
        let Some(call) = self.request_of(from, header.call).filter(|&call| self.calls[call].open) else {
            self.counters.answers_late += 1;
            return;
        };
        let it = &mut self.calls[call];
        let to = it.caller.slot;
        if it.credit == 0 {
            let message = "the service streamed more items than it had credit for (SPEC 5.8)";
            return self.end_by_broker(turn, call, Outcome::Failed, message);
        }
        it.credit -= 1;
        it.items += 1;
        let (items, handle, caller_call, priority, object) =
            (it.items, it.handle, it.caller_call, it.priority, it.object);
        let len = padded(header.len as usize) as u64;
        if !self.has_unread_room(to, len) {
            let message = "the items that your connections have not read yet leave no room for the next (limits.link_bytes_max, limits.user.unread_bytes)";
            return self.end_by_broker(turn, call, Outcome::TooLarge, message);
        }
        if let Err((outcome, message)) = self.check_payload(header) {
            return self.end_by_broker(turn, call, outcome, &message);
        }
        let taken = if header.handles == 0 {
            Vec::new()
        } else {
            match self.take_handles(turn, from, Some(call), header, tail) {
                Ok(taken) => taken,
                Err((_, message)) => {
                    let message = format!("the service streamed a handle that it cannot pass on: {message}");
                    return self.end_by_broker(turn, call, Outcome::Failed, &message);
                }
            }
        };
        header.handle = handle;
        header.call = caller_call;
        header.seq = items;
        header.priority = priority;
        header.deadline = 0;
        header.epoch = 0;
        header.caller = 0;
        header.flags &= flags::BATCH;
        header.method = 0;
        let from = self.peer(from).id;
        self.pass_on(turn, from, to, header, tail, &taken, object, caller_call);
    }

    /// CREDIT from a caller: room for items (SPEC 4.11).
    pub(crate) fn stream_credit(&mut self, turn: &mut Turn<'_, P>, from: u32, header: &Header) {
        let Some(call) = self.open_call(from, header.call) else { return };
        let it = &mut self.calls[call];
        if !it.stream {
            return;
        }
        it.credit = it.credit.saturating_add(header.seq);
        match it.target {
            Target::Server(server) => {
                // A server that does not read is told once it does, in one frame: a caller that grants
                // credit item by item fills nobody's queue.
                let due = it.credit_due;
                it.credit_due = due.saturating_add(header.seq);
                if 0 < header.seq {
                    let slot = self.servers[server].peer.slot;
                    let peer = self.peers[slot as usize].as_mut().expect("a server that is connected");
                    if due == 0 {
                        peer.credits_due.push(&mut self.calls, call, |call| &mut call.by_due);
                    }
                    if peer.unread <= u64::from(self.limits.link_bytes_high) {
                        self.pay_credit(turn, call);
                    }
                }
            }
            Target::Watch(watch) => self.advance_watch(turn, watch),
            Target::Subscription(subscription) => self.advance_subscription(turn, subscription),
            Target::Consumer(consumer) => self.advance_consumer(turn, consumer),
            // It goes along when the call is delivered; a monitor looks when something passes.
            Target::Waiting(_)
            | Target::Monitor(_)
            | Target::Wait(_)
            | Target::Reload
            | Target::Nowhere
            | Target::Publish(_)
            | Target::Push(_)
            | Target::Stored(_)
            | Target::Await(_) => {}
        }
    }

    /// Tells a server of the credit that it is owed for a request's stream.
    pub(crate) fn pay_credit(&mut self, turn: &mut Turn<'_, P>, call: u32) {
        let Target::Server(server) = self.calls[call].target else {
            unreachable!("credit is owed to a server")
        };
        let seq = self.forget_credit(call, server);
        let (to, handle) = (self.servers[server].peer.slot, self.servers[server].handle);
        let header = Header { handle, call: self.calls.word(call), seq, ..Header::new(Kind::Credit) };
        self.push(turn, to, header, SendTail::Empty);
    }

    fn forget_credit(&mut self, call: u32, server: u32) -> u64 {
        let due = core::mem::take(&mut self.calls[call].credit_due);
        if 0 < due {
            let slot = self.servers[server].peer.slot;
            let peer = self.peers[slot as usize].as_mut().expect("a server that is connected");
            peer.credits_due.remove(&mut self.calls, call, |call| &mut call.by_due);
        }
        due
    }

    /// CANCEL from a caller (SPEC 4.10).
    pub(crate) fn cancel(&mut self, turn: &mut Turn<'_, P>, from: u32, header: &Header) {
        if let Some(call) = self.open_call(from, header.call) {
            self.end_by_broker(turn, call, Outcome::Cancelled, "the caller gave the call up");
        }
    }

    /// An open call by its caller's id.
    fn open_call(&self, from: u32, caller_call: u64) -> Option<u32> {
        self.peer(from)
            .call_at(caller_call as u32)
            .filter(|&call| self.calls[call].caller_call == caller_call)
    }

    /// A call's deadline has come.
    pub(crate) fn call_due(&mut self, turn: &mut Turn<'_, P>, call: u32) {
        self.calls[call].timer = TimerId::NONE;
        let waited = turn.now.since(self.calls[call].since);
        let at = match self.calls[call].target {
            Target::Server(_) => "at the service",
            Target::Waiting(_) => "for a server to have room",
            Target::Publish(_) => "for a subscription to have room",
            _ => "for the broker",
        };
        let message = format!("no answer within {}; the call spent it waiting {at}", Shown(waited));
        self.end_by_broker(turn, call, Outcome::DeadlineExceeded, &message);
    }

    /// Ends an open call with an outcome of the broker's own. A server that has it is advised and
    /// keeps the request until it ends it.
    pub(crate) fn end_by_broker(
        &mut self,
        turn: &mut Turn<'_, P>,
        call: u32,
        outcome: Outcome,
        message: &str,
    ) {
        assert!(self.calls[call].open, "a call ends once");
        self.tell(turn, call, outcome, &Failure::new(message));
        self.leave_at_server(turn, call, outcome);
    }

    /// The caller is gone: nobody to tell.
    pub(crate) fn caller_left(&mut self, turn: &mut Turn<'_, P>, call: u32) {
        self.leave_at_server(turn, call, Outcome::PeerDied);
    }

    fn leave_at_server(&mut self, turn: &mut Turn<'_, P>, call: u32, why: Outcome) {
        if let Target::Server(server) = self.calls[call].target {
            self.close_to_caller(call);
            let (to, handle) = (self.servers[server].peer.slot, self.servers[server].handle);
            let word = self.calls.word(call);
            let header = Header { handle, call: word, method: why as u32, ..Header::new(Kind::Cancel) };
            self.push(turn, to, header, SendTail::Empty);
        } else {
            self.erase_call(turn, call);
        }
    }

    /// The server of a request is gone.
    pub(crate) fn server_lost(&mut self, turn: &mut Turn<'_, P>, call: u32, how: Departure) {
        if self.calls[call].open {
            let exit = match how.exit_status {
                Some(status) if status & 0x7f != 0 => format!(" (killed by signal {})", status & 0x7f),
                Some(status) => format!(" (exit status {})", status >> 8 & 0xff),
                None => String::new(),
            };
            let message = format!("the service's process went away while it had the call{exit}");
            let failure = Failure { exit_status: how.exit_status, ..Failure::new(message) };
            self.tell(turn, call, Outcome::PeerDied, &failure);
        }
        self.erase_call(turn, call);
    }

    /// The server of a request has stopped serving, with the request unanswered.
    pub(crate) fn request_dropped(&mut self, turn: &mut Turn<'_, P>, call: u32) {
        if self.calls[call].open {
            self.tell(
                turn,
                call,
                Outcome::Abandoned,
                &Failure::new("the service stopped serving while it had the call"),
            );
        }
        self.erase_call(turn, call);
    }

    /// Tells the caller the outcome.
    fn tell(&mut self, turn: &mut Turn<'_, P>, call: u32, outcome: Outcome, failure: &Failure) {
        let it = &self.calls[call];
        let (caller, object) = (it.caller, it.object);
        let header = Header {
            method: outcome as u32,
            handle: it.handle,
            call: it.caller_call,
            ..Header::new(Kind::Outcome)
        };
        self.note_refusal(turn, caller.slot, outcome, &failure.message);
        let tail = SendTail::Own(encode(failure));
        if object != NONE && !self.monitors.is_empty() {
            let shown = Header { call: self.calls.word(call), ..header };
            self.tap(turn, PeerId { slot: 0, generation: 0 }, caller.slot, &shown, &tail, object);
        }
        self.push(turn, caller.slot, header, tail);
    }

    /// Ends a frame's call that never became one.
    #[cold]
    pub(crate) fn refuse(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        asked: &Header,
        outcome: Outcome,
        message: &str,
    ) {
        let retry_after_ms = if outcome == Outcome::Busy { RETRY_AFTER_MS } else { 0 };
        let failure = Failure { retry_after_ms, ..Failure::new(message) };
        let header = Header {
            method: outcome as u32,
            handle: asked.handle,
            call: asked.call,
            ..Header::new(Kind::Outcome)
        };
        self.note_refusal(turn, from, outcome, message);
        self.push(turn, from, header, SendTail::Own(encode(&failure)));
    }

    /// The reply of a control call that was kept open.
    pub(crate) fn end_wait(&mut self, turn: &mut Turn<'_, P>, call: u32, epoch: Epoch) {
        let it = &self.calls[call];
        let (to, id) = (it.caller.slot, it.caller_call);
        self.reply(turn, to, id, encode(&control::Found { epoch: epoch.0 }));
        self.erase_call(turn, call);
    }

    /// A reply of the broker's own.
    pub(crate) fn reply(&mut self, turn: &mut Turn<'_, P>, to: u32, call: u64, body: Vec<u8>) {
        self.counters.outcomes[Outcome::Reply as usize] += 1;
        self.push(turn, to, Header { call, ..Header::new(Kind::Reply) }, SendTail::Own(body));
    }

    /// Takes a call from its caller: its slot, its timer, the handles that die with it.
    #[inline(always)]
    fn close_to_caller(&mut self, call: u32) {
        if !self.calls[call].scoped.is_empty() {
            self.end_scope(call);
        }
        let it = &mut self.calls[call];
        assert!(core::mem::replace(&mut it.open, false), "a call ends once");
        let (caller, slot, timer) =
            (it.caller, it.caller_call as u32, core::mem::replace(&mut it.timer, TimerId::NONE));
        if timer != TimerId::NONE {
            self.timers.remove(timer);
        }
        let peer = self.peers[caller.slot as usize].as_mut().expect("a caller that is connected");
        peer.call_slots[slot as usize] = NONE;
        peer.calls.remove(&mut self.calls, call, |call| &mut call.by_caller);
        self.calls_open -= 1;
    }

    /// Takes a call out of the world, wherever it is. Its caller was told, or is gone.
    pub(crate) fn erase_call(&mut self, turn: &mut Turn<'_, P>, call: u32) {
        if self.calls[call].open {
            self.close_to_caller(call);
        }
        let Call { target, user, .. } = self.calls[call];
        match target {
            Target::Nowhere | Target::Reload => {}
            Target::Waiting(message) => self.unqueue(turn, message),
            Target::Wait(object) => {
                let mut list = self.objects[object].waits;
                list.remove(&mut self.calls, call, |call| &mut call.by_wait);
                self.objects[object].waits = list;
                self.end_watching(self.calls[call].caller, user);
            }
            Target::Watch(watch) => {
                self.watches.remove(watch);
                self.end_watching(self.calls[call].caller, user);
            }
            Target::Monitor(monitor) => self.end_monitor(turn, monitor, user),
            Target::Subscription(subscription) => self.end_subscription(subscription),
            Target::Publish(held) => self.end_held_publish(turn, held),
            Target::Consumer(consumer) => self.end_consumer(turn, consumer),
            Target::Push(blocked) => self.end_blocked_push(turn, blocked),
            // What is appended is appended: only nobody waits for it any more.
            Target::Stored(_) => {}
            Target::Await(waiter) => self.end_await(turn, waiter),
            Target::Server(server) => {
                self.erase_request(turn, call, server);
                return self.forget_user_if_unused(turn.now, user);
            }
        }
        self.calls.free(call);
        self.users[user].calls -= 1;
        if let Target::Wait(object) = target {
            self.release_object(turn, object);
        }
        self.forget_user_if_unused(turn.now, user);
    }

    /// Takes a call, closed to its caller, from its server and out of the world.
    #[inline(always)]
    fn erase_request(&mut self, turn: &mut Turn<'_, P>, call: u32, server: u32) {
        let Call { user, object, credit_due, .. } = self.calls[call];
        if 0 < credit_due {
            self.forget_credit(call, server);
        }
        let at = &mut self.servers[server];
        at.outstanding -= 1;
        let slot = at.peer.slot;
        let peer = self.peers[slot as usize].as_mut().expect("a server that is connected");
        peer.requests.remove(&mut self.calls, call, |call| &mut call.by_server);
        self.calls.free(call);
        self.users[user].calls -= 1;
        if self.objects[object].waiting_len != 0 {
            self.dispatch(turn, object);
        }
    }

    pub(crate) fn end_watching(&mut self, peer: PeerId, user: u32) {
        self.peer_mut(peer.slot).watches -= 1;
        self.users[user].watches -= 1;
        self.watching -= 1;
    }
}

/// What a sender is told whose handle is for something else.
#[cold]
pub(crate) fn no_right_to_call() -> (Outcome, String) {
    (Outcome::Denied, "the handle does not have the right `call`".to_string())
}

/// What a caller is told who makes one call of many messages.
#[cold]
fn no_batch() -> (Outcome, String) {
    (Outcome::Unsupported, "a service takes batches of sends, not of calls (SPEC 2.9)".to_string())
}

/// What a caller is told whose deadline was over before the call began.
#[cold]
fn too_late() -> (Outcome, String) {
    (Outcome::DeadlineExceeded, "the deadline had passed when the call came".to_string())
}

/// What a sender is told whose payload is over the limit.
#[cold]
fn too_large(len: usize, most: usize) -> (Outcome, String) {
    let message = format!("a payload of {len} bytes; this broker takes {most} (limits.payload_bytes_max)");
    (Outcome::TooLarge, message)
}

/// A duration as people write it.
struct Shown(Duration);

impl core::fmt::Display for Shown {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            wait if wait >= Duration::from_secs(1) => write!(f, "{:.1} s", wait.as_secs_f64()),
            wait if wait >= Duration::from_millis(1) => write!(f, "{} ms", wait.as_millis()),
            wait => write!(f, "{} µs", wait.as_micros()),
        }
    }
}
