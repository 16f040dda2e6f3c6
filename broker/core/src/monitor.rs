//! Monitors: copies of what passes, for those who may see it; lossy, and never in the way (SPEC 6.4).

use crate::broker::{Broker, Turn};
use crate::call::Target;
use crate::slab::NONE;
use crate::{Fact, Payload, SendTail};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::control::MonitorItem;
use switchboard_protocol::{Header, Kind, Name, Pattern, PeerId, Tail, Verb, encode, extension_type};

/// One monitor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Monitor {
    pub(crate) call: u32,
    pattern: Pattern,
    payload_bytes: usize,
    /// Frames not shown since the last one that was.
    lost: u64,
}

const PAYLOAD_BYTES_MAX: u32 = 4096;

impl<P: Payload> Broker<P> {
    pub(crate) fn begin_monitor(
        &mut self,
        turn: &mut Turn<'_, P>,
        call: u32,
        pattern: Pattern,
        payload_bytes: u32,
    ) {
        let peer = self.peer(self.calls[call].caller.slot);
        turn.log(Fact::MonitorStarted {
            peer: peer.id,
            uid: peer.identity.uid,
            pid: peer.identity.pid,
            pattern: pattern.to_string(),
            payload_bytes,
        });
        let payload_bytes = payload_bytes.min(PAYLOAD_BYTES_MAX) as usize;
        let monitor = self.monitors.insert(Monitor { call, pattern, payload_bytes, lost: 0 });
        self.calls[call].target = Target::Monitor(monitor);
    }

    pub(crate) fn end_monitor(&mut self, turn: &mut Turn<'_, P>, monitor: u32, user: u32) {
        let call = self.monitors.remove(monitor).call;
        let peer = self.calls[call].caller;
        turn.log(Fact::MonitorEnded { peer });
        self.end_watching(peer, user);
    }

    /// Shows a frame that is on its way to those who watch its name.
    #[inline]
    pub(crate) fn tap(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: PeerId,
        to: u32,
        header: &Header,
        tail: &SendTail<P>,
        object: u32,
    ) {
        if !self.monitors.is_empty() {
            self.show(turn, from, to, header, tail, object);
        }
    }

    fn show(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: PeerId,
        to: u32,
        header: &Header,
        tail: &SendTail<P>,
        object: u32,
    ) {
        let high = u64::from(self.limits.link_bytes_high);
        // A message to a topic is shown once, on its way to everybody.
        let to = if to == NONE { 0 } else { self.peer(to).id.to_wire() };
        let name = self.objects.get(object).and_then(|object| object.name.clone());
        for monitor in 0..self.monitors.slots() {
            let Some(it) = self.monitors.get(monitor) else { continue };
            let (call, payload_bytes) = (it.call, it.payload_bytes);
            let caller = self.calls[call].caller.slot;
            let wanted = name.as_ref().map_or(it.pattern == Pattern::all(), |name| {
                it.pattern.matches(name)
                    && self.policy.decide(&self.peer(caller).identity, Verb::Monitor, name).allowed()
            });
            if !wanted {
                continue;
            }
            // Half of the high mark, so that the monitor's own answers are never held up by this.
            if self.calls[call].credit == 0 || high / 2 < self.peer(caller).unread {
                self.monitors[monitor].lost += 1;
                self.counters.monitor_lost += 1;
                continue;
            }
            let (method_name, payload) = match tail {
                SendTail::Forward(tail) | SendTail::Patched(tail, _) => {
                    let tail = Tail::of(header, tail.bytes());
                    let named = tail.extensions().and_then(|all| all.find(extension_type::METHOD_NAME));
                    (
                        named.map_or(String::new(), |name| String::from_utf8_lossy(name).into_owned()),
                        tail.payload,
                    )
                }
                SendTail::Extended(_, tail, skip) => {
                    (String::new(), tail.bytes().get(usize::from(*skip)..).unwrap_or_default())
                }
                SendTail::Own(body) | SendTail::Shown(body) => (String::new(), &body[..]),
                SendTail::Empty => (String::new(), &[][..]),
            };
            let item = MonitorItem {
                lost: core::mem::take(&mut self.monitors[monitor].lost),
                at_ns: turn.now.0,
                kind: header.kind as u8,
                from: from.to_wire(),
                to,
                name: name.as_ref().map_or(String::new(), Name::to_string),
                method: header.method,
                method_name,
                request: header.call,
                priority: header.priority,
                payload_len: payload.len() as u32,
                payload: payload.get(..payload_bytes).unwrap_or(payload).to_vec(),
            };
            self.give_item(turn, call, encode(&item));
        }
    }

    fn give_item(&mut self, turn: &mut Turn<'_, P>, call: u32, bytes: Vec<u8>) {
        let it = &mut self.calls[call];
        it.credit -= 1;
        it.items += 1;
        let header = Header { call: it.caller_call, seq: it.items, ..Header::new(Kind::Item) };
        let to = it.caller.slot;
        self.push(turn, to, header, SendTail::Shown(bytes));
    }
}
