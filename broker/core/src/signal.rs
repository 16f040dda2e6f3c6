//! Events: flags that are set and pulses that are left, for whoever waits (SPEC 11).
//!
//! Flags merge, so that raising them takes no room and is never lost. Pulses are counted things and so
//! are bounded. What a waiter is told goes out like any outcome, in the reserved budget of its link.

use crate::broker::{Broker, Turn};
use crate::call::Target;
use crate::control::{Refusal, parse};
use crate::list::{Links, List};
use crate::slab::Slab;
use crate::{Payload, SendTail};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::ToString;
use serde::{Deserialize, Serialize};
use switchboard_protocol::signal::{Await, Pulse, Raise, Raised, SignalMethod};
use switchboard_protocol::{Header, Kind, Outcome, Tail, Verb, encode, flags, padded};

/// All events, and who waits for them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Signals {
    pub(crate) table: Slab<Signal>,
    pub(crate) waiters: Slab<Waiter>,
    /// Pulses that were not taken yet, of all events.
    pub(crate) pulses: u32,
}

/// One event.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Signal {
    pub(crate) object: u32,
    /// Flags that are set and were not taken.
    pub(crate) bits: u64,
    /// Pulses by priority, the oldest first.
    pub(crate) pulses: [VecDeque<Left>; 8],
    pub(crate) pulses_len: u32,
    /// Pulses that found no room and of which nobody was told.
    overflow: u64,
    /// Waiters, the first one first.
    pub(crate) waiting: List,
}

/// A pulse that waits to be taken.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    pulse: Pulse,
    /// The user whom it is charged to: who left it.
    pub(crate) user: u32,
}

/// A call that waits for an event.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Waiter {
    pub(crate) call: u32,
    pub(crate) signal: u32,
    mask: u64,
    pulses: bool,
    pub(crate) by_signal: Links,
}

/// Pulses that one event holds (SPEC 11.1).
pub(crate) const PULSES_MAX: u32 = 1024;

impl Signals {
    pub(crate) const fn new() -> Self {
        Self { table: Slab::new(), waiters: Slab::new(), pulses: 0 }
    }
}

impl<P: Payload> Broker<P> {
    /// An object has become an event.
    pub(crate) fn new_signal(&mut self, object: u32) {
        let signal = self.signals.table.insert(Signal {
            object,
            bits: 0,
            pulses: [const { VecDeque::new() }; 8],
            pulses_len: 0,
            overflow: 0,
            waiting: List::EMPTY,
        });
        self.objects[object].body = signal;
    }

    /// What was raised is not lost because everybody is away for a moment.
    pub(crate) fn signal_is_wanted(&self, object: u32) -> bool {
        let it = &self.signals.table[self.objects[object].body];
        it.bits != 0 || it.pulses_len != 0 || !it.waiting.is_empty()
    }

    pub(crate) fn forget_signal(&mut self, object: u32) {
        self.signals.table.remove(self.objects[object].body);
    }

    /// A CALL on an event's handle (SPEC 11.2).
    pub(crate) fn signal_call(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        handle: u32,
        header: Header,
        tail: P,
    ) -> Result<(), Refusal> {
        let body = self.signal_body(from, handle, &header, &tail)?;
        let slot = header.call as u32;
        if self.peer(from).call_at(slot).is_some() {
            return Err((Outcome::Invalid, format!("call slot {slot} is in use by an open call (SPEC 4.2)")));
        }
        match body {
            Body::Raise(raise) => {
                self.reply_empty(turn, from, &header);
                self.raise(turn, handle, raise.bits);
            }
            Body::Pulse(pulse) => {
                self.check_pulse(from, handle)?;
                self.reply_empty(turn, from, &header);
                self.pulse(turn, from, handle, header.priority, pulse);
            }
            Body::Await(ask) => {
                let call = self.keep_open(turn, from, &header)?;
                let signal = self.signal_of(handle);
                let waiter = self.signals.waiters.insert(Waiter {
                    call,
                    signal,
                    mask: ask.mask,
                    pulses: ask.pulses,
                    by_signal: Links::OUT,
                });
                self.calls[call].target = Target::Await(waiter);
                let Signals { table, waiters, .. } = &mut self.signals;
                table[signal].waiting.push(waiters, waiter, |waiter| &mut waiter.by_signal);
                self.serve_waiters(turn, signal);
            }
        }
        Ok(())
    }

    /// A SEND on an event's handle, within its window.
    pub(crate) fn signal_send(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        handle: u32,
        header: Header,
        tail: P,
    ) -> Result<(), Refusal> {
        match self.signal_body(from, handle, &header, &tail)? {
            Body::Raise(raise) => self.raise(turn, handle, raise.bits),
            Body::Pulse(pulse) => {
                self.check_pulse(from, handle)?;
                self.pulse(turn, from, handle, header.priority, pulse);
            }
            Body::Await(_) => {
                let message = "waiting for an event is a call: a one-way message has no answer (SPEC 11.2)";
                return Err((Outcome::Unsupported, message.to_string()));
            }
        }
        // It is where it was going.
        self.give_back(turn, header.handle, padded(header.len as usize) as u64);
        Ok(())
    }

    /// What is asked of an event, and whether the handle allows it.
    fn signal_body(&self, from: u32, handle: u32, header: &Header, tail: &P) -> Result<Body, Refusal> {
        let tail = Tail::of(header, tail.bytes());
        if header.handles != 0 || header.flags & !flags::NO_WAIT != 0 {
            let message = "what is asked of an event has no handles, no stream and no batch (SPEC 11)";
            return Err((Outcome::Unsupported, message.to_string()));
        }
        check_no_critical(&tail)?;
        let method = SignalMethod::from_wire(header.method).ok_or_else(|| {
            let message =
                format!("an event knows no method {}: 1 raise, 2 pulse, 3 await (SPEC 11.2)", header.method);
            (Outcome::Unsupported, message)
        })?;
        let (body, verb) = match method {
            SignalMethod::Raise => (Body::Raise(parse(tail.payload)?), Verb::Signal),
            SignalMethod::Pulse => (Body::Pulse(parse(tail.payload)?), Verb::Signal),
            SignalMethod::Await => (Body::Await(parse(tail.payload)?), Verb::Subscribe),
        };
        self.check_right(from, handle, verb)?;
        match body {
            Body::Raise(Raise { bits: 0 }) => {
                Err((Outcome::Invalid, "raise at least one flag (SPEC 11.3)".to_string()))
            }
            Body::Await(Await { mask: 0, pulses: false }) => Err((
                Outcome::Invalid,
                "wait for a flag at least, or for pulses: nothing would end this (SPEC 11.5)".to_string(),
            )),
            body => Ok(body),
        }
    }

    /// Whether a handle has a right.
    pub(crate) fn check_right(&self, _from: u32, handle: u32, verb: Verb) -> Result<(), Refusal> {
        if self.handles[handle].rights.contains(verb.right()) {
            return Ok(());
        }
        Err((Outcome::Denied, format!("the handle does not have the right `{}`", verb.as_str())))
    }

    fn signal_of(&self, handle: u32) -> u32 {
        self.objects[self.handles[handle].object].body
    }

    fn reply_empty(&mut self, turn: &mut Turn<'_, P>, to: u32, asked: &Header) {
        self.counters.outcomes[Outcome::Reply as usize] += 1;
        let header = Header { handle: asked.handle, call: asked.call, ..Header::new(Kind::Reply) };
        self.push(turn, to, header, SendTail::Empty);
    }

    fn raise(&mut self, turn: &mut Turn<'_, P>, handle: u32, bits: u64) {
        let signal = self.signal_of(handle);
        self.signals.table[signal].bits |= bits;
        self.counters.raised += 1;
        self.serve_waiters(turn, signal);
    }

    /// Whether there is room for one pulse more; counts it if not.
    fn check_pulse(&mut self, from: u32, handle: u32) -> Result<(), Refusal> {
        let signal = self.signal_of(handle);
        let user = self.peer(from).user;
        let most = self.limits.pulses_max;
        let refusal = if PULSES_MAX <= self.signals.table[signal].pulses_len {
            format!("{PULSES_MAX} pulses wait to be taken already, the most that an event holds (SPEC 11.1)")
        } else if most <= self.signals.pulses || most / 2 <= self.users[user].pulses {
            format!(
                "of the {most} pulses of this broker your user has half, or all are in use (limits.pulses_max)"
            )
        } else {
            return Ok(());
        };
        self.signals.table[signal].overflow += 1;
        self.counters.pulses_dropped += 1;
        Err((Outcome::Busy, refusal))
    }

    fn pulse(&mut self, turn: &mut Turn<'_, P>, from: u32, handle: u32, priority: u8, pulse: Pulse) {
        let signal = self.signal_of(handle);
        let user = self.peer(from).user;
        self.users[user].pulses += 1;
        self.signals.pulses += 1;
        let it = &mut self.signals.table[signal];
        it.pulses[usize::from(priority)].push_back(Left { pulse, user });
        it.pulses_len += 1;
        self.counters.pulses += 1;
        self.serve_waiters(turn, signal);
    }

    /// Gives what is there to those who wait for it, in their order.
    fn serve_waiters(&mut self, turn: &mut Turn<'_, P>, signal: u32) {
        let mut next = self.signals.table[signal].waiting.first();
        while let Some(waiter) = next {
            let Waiter { call, mask, pulses, by_signal, .. } = self.signals.waiters[waiter];
            next = by_signal.next();
            let it = &mut self.signals.table[signal];
            if it.bits == 0 && it.pulses_len == 0 {
                break;
            }
            let bits = it.bits & mask;
            it.bits &= !bits;
            let left = if bits == 0 && pulses { it.take_pulse() } else { None };
            if bits == 0 && left.is_none() {
                continue;
            }
            let overflow = core::mem::take(&mut it.overflow);
            if let Some(left) = left {
                self.signals.pulses -= 1;
                self.users[left.user].pulses -= 1;
                self.forget_user_if_unused(turn.now, left.user);
            }
            let raised = Raised { bits, pulse: left.map(|left| left.pulse), overflow };
            let it = &self.calls[call];
            let (to, id) = (it.caller.slot, it.caller_call);
            self.reply(turn, to, id, encode(&raised));
            // The event stays: it has a waiter more, or this was its last one.
            let object = self.signals.table[signal].object;
            self.objects[object].handles += 1;
            self.erase_call(turn, call);
            self.objects[object].handles -= 1;
        }
        let object = self.signals.table[signal].object;
        self.release_object(turn, object);
    }

    /// The call of a waiter is being erased.
    pub(crate) fn end_await(&mut self, turn: &mut Turn<'_, P>, waiter: u32) {
        let signal = self.signals.waiters[waiter].signal;
        let Signals { table, waiters, .. } = &mut self.signals;
        table[signal].waiting.remove(waiters, waiter, |waiter| &mut waiter.by_signal);
        waiters.remove(waiter);
        let object = self.signals.table[signal].object;
        self.release_object(turn, object);
    }
}

impl Signal {
    /// The oldest pulse of the highest priority.
    fn take_pulse(&mut self) -> Option<Left> {
        let left = self.pulses.iter_mut().rev().find_map(VecDeque::pop_front)?;
        self.pulses_len -= 1;
        Some(left)
    }
}

/// What is asked of an event.
enum Body {
    Raise(Raise),
    Pulse(Pulse),
    Await(Await),
}

/// Refuses extensions that whoever does not know them must refuse (SPEC 2.5), where none is known.
pub(crate) fn check_no_critical(tail: &Tail<'_>) -> Result<(), Refusal> {
    let critical = |kind: u16| kind & switchboard_protocol::CRITICAL != 0;
    let unknown = tail.extensions().and_then(|mut all| Iterator::find(&mut all, |one| critical(one.kind)));
    match unknown {
        None => Ok(()),
        Some(unknown) => {
            Err((Outcome::Unsupported, format!("the extension {:#06x} means nothing here", unknown.kind)))
        }
    }
}
