//! Wills: what is published for a client that goes without a goodbye (SPEC 9.9).

use crate::Payload;
use crate::broker::{Broker, Turn};
use crate::control::Refusal;
use crate::topic::Origin;
use alloc::format;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::{HEADER_BYTES, Header, Kind, ObjectKind, Outcome, Verb, padded, topic};

/// One will of a connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Will {
    /// The handle that it is published on, as on the wire.
    pub(crate) handle: u64,
    method: u32,
    #[serde(with = "crate::snapshot::blank")]
    payload: Vec<u8>,
}

/// Wills of one connection.
pub(crate) const WILLS_MAX: usize = 16;

impl Will {
    /// What its user is charged for it.
    pub(crate) fn bytes(&self) -> u64 {
        frame_bytes(&self.payload)
    }
}

fn frame_bytes(payload: &[u8]) -> u64 {
    padded(HEADER_BYTES + payload.len()) as u64
}

impl<P: Payload> Broker<P> {
    /// SPEC 6.2, Will: leaves one, or takes it back.
    pub(crate) fn set_will(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        ask: topic::Will,
    ) -> Result<(), Refusal> {
        let handle = self.find_handle(from, ask.handle)?;
        self.check_topic_right(handle, Verb::Publish)?;
        let Some(payload) = ask.payload else {
            self.take_back_will(turn, from, ask.handle);
            return Ok(());
        };
        let most = self.limits.payload_bytes_max as usize;
        if most < payload.len() {
            let message = format!(
                "a will of {} bytes; this broker passes on {most} (limits.payload_bytes_max)",
                payload.len()
            );
            return Err((Outcome::TooLarge, message));
        }
        let wills = &self.peer(from).wills;
        if WILLS_MAX <= wills.len() && wills.iter().all(|will| will.handle != ask.handle) {
            let message = format!("this connection has left {WILLS_MAX} wills, the most it may (SPEC 9.9)");
            return Err((Outcome::Busy, message));
        }
        let bytes = frame_bytes(&payload);
        if !self.may_wait(from, bytes) {
            let message = format!(
                "a will of {bytes} bytes does not fit beside what is held for your user (limits.user.buffered_bytes), or half of limits.buffered_bytes_max for all"
            );
            return Err((Outcome::Busy, message));
        }
        self.take_back_will(turn, from, ask.handle);
        let peer = self.peer_mut(from);
        peer.wills.push(Will { handle: ask.handle, method: ask.method, payload });
        let user = peer.user;
        self.users[user].buffered_bytes += bytes;
        self.buffered_bytes += bytes;
        Ok(())
    }

    /// Takes back the will on a handle, if there is one.
    pub(crate) fn take_back_will(&mut self, turn: &mut Turn<'_, P>, holder: u32, handle: u64) {
        let peer = self.peer_mut(holder);
        if let Some(at) = peer.wills.iter().position(|will| will.handle == handle) {
            let (will, user) = (peer.wills.remove(at), peer.user);
            self.unbuffer(turn, user, will.bytes());
        }
    }

    /// A peer is leaving: one of its wills is published, or thrown away where it said goodbye.
    pub(crate) fn publish_will(&mut self, turn: &mut Turn<'_, P>, slot: u32) {
        let peer = self.peer_mut(slot);
        let (will, user, clean) = (peer.wills.remove(0), peer.user, peer.clean);
        self.unbuffer(turn, user, will.bytes());
        if clean {
            return;
        }
        let handle = self.handles.find(will.handle).expect("a will goes with its handle");
        let grip = &self.handles[handle];
        let object = grip.object;
        let name = self.objects[object].name.as_ref().expect("a topic has a name");
        assert_eq!(self.objects[object].kind, ObjectKind::Topic, "a will is for a topic");
        // A reload may have taken the right, and its round over the handles not be here yet.
        if !self.policy.decide(&grip.root_identity, Verb::Publish, name).allowed() {
            self.counters.wills_failed += 1;
            return;
        }
        let header = Header {
            len: (HEADER_BYTES + will.payload.len()) as u32,
            method: will.method,
            handle: will.handle,
            ..Header::new(Kind::Send)
        };
        let tail = P::own(will.payload);
        match self.publish_or_hold(turn, slot, object, Origin::Will, header, tail) {
            Ok(()) => self.counters.wills += 1,
            Err((outcome, message)) => {
                self.counters.wills_failed += 1;
                self.note_refusal(turn, slot, outcome, &message);
            }
        }
    }
}
