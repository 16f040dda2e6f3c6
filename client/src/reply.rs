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

/// The successful end of a call of a [`crate::Pipeline`]. Reads as its payload, which is still where it was
/// received; [`LentReply::into_reply`] keeps it.
pub struct LentReply<'a>(Lent<'a>);

enum Lent<'a> {
    /// One of nothing but its payload.
    Short {
        epoch: u64,
        payload: &'a [u8],
    },
    Whole(Reply),
}

impl<'a> LentReply<'a> {
    #[inline]
    pub(crate) fn short(epoch: u64, payload: &'a [u8]) -> Self {
        Self(Lent::Short { epoch, payload })
    }

    #[inline]
    pub(crate) fn whole(reply: Reply) -> Self {
        Self(Lent::Whole(reply))
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        match &self.0 {
            Lent::Short { payload, .. } => payload,
            Lent::Whole(reply) => reply.payload(),
        }
    }

    /// As [`Reply::epoch`].
    pub fn epoch(&self) -> Epoch {
        match &self.0 {
            Lent::Short { epoch, .. } => Epoch(*epoch),
            Lent::Whole(reply) => reply.epoch(),
        }
    }

    /// The reply, kept, with the handles that came with it.
    pub fn into_reply(self) -> Reply {
        match self.0 {
            Lent::Short { epoch, payload } => {
                Reply { payload: Payload::copy_from(payload), epoch, handles: Vec::new() }
            }
            Lent::Whole(reply) => reply,
        }
    }
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

impl Deref for LentReply<'_> {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.payload()
    }
}

impl fmt::Debug for LentReply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LentReply").field("payload", &self.payload()).field("epoch", &self.epoch()).finish()
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
