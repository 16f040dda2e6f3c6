//! What a call brings back.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use switchboard_protocol::Epoch;

use crate::driver::{RawReply, Shared};
use crate::{Handle, Payload};

/// The successful end of a call, or an item of a streamed one. Reads as its payload.
pub struct Reply {
    payload: Payload,
    epoch: u64,
    handles: Vec<Handle>,
}

impl Reply {
    #[inline]
    pub(crate) fn of(board: &Arc<Shared>, raw: RawReply) -> Self {
        let handles = if raw.handles.is_empty() {
            Vec::new()
        } else {
            Handle::received(board, &raw.handles, raw.connection)
        };
        Self { payload: raw.payload, epoch: raw.epoch, handles }
    }

    /// One of nothing but its payload.
    #[inline]
    pub(crate) fn short(epoch: u64, payload: &[u8]) -> Self {
        Self { payload: Payload::copy_from(payload), epoch, handles: Vec::new() }
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload, kept.
    pub fn into_payload(self) -> Payload {
        self.payload
    }

    /// The payload as a vector.
    pub fn into_vec(self) -> Vec<u8> {
        self.payload.into_vec()
    }

    /// The epoch of the owner that answered (SPEC 3.5): give it to
    /// [`crate::CallBuilder::expect_epoch`] to reach that owner or none.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    /// The handles that came with it.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Takes the handles out.
    pub fn take_handles(&mut self) -> Vec<Handle> {
        std::mem::take(&mut self.handles)
    }
}

impl Deref for Reply {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.payload
    }
}

impl AsRef<[u8]> for Reply {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("payload", &self.payload).field("epoch", &self.epoch).finish()
    }
}
