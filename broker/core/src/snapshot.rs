//! The whole broker as bytes, to go on from later: what a recording begins with.
//!
//! A snapshot is for the very build that took it. Whatever the broker holds is in it, in the layout that
//! derivation gives it, and bytes of payloads only as far as [`Payload`] writes them.

use crate::Payload;
use crate::broker::Broker;
use alloc::vec::Vec;
use switchboard_protocol::{decode, encode_within};

impl<P: Payload> Broker<P> {
    /// The broker as it is; `None` if that takes more than `bytes_max`, after about as much work as so
    /// many bytes cost.
    pub fn snapshot(&self, bytes_max: usize) -> Option<Vec<u8>> {
        let heads: Vec<(u32, &[u8])> = self.waiting_heads().collect();
        encode_within(&(self, heads), bytes_max)
    }

    /// The broker of a snapshot; `None` if the bytes are none that this build takes. They must be a
    /// snapshot's: of others it may make a broker that panics.
    pub fn restore(snapshot: &[u8]) -> Option<Self> {
        let (mut broker, heads): (Self, Vec<(u32, &[u8])>) = decode(snapshot)?;
        for (message, head) in heads {
            broker.restore_waiting_head(message, head)?;
        }
        Some(broker)
    }
}
