//! What a frame carries behind its header, as the broker sees it: not at all.

use alloc::vec::Vec;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The bytes of a frame after its header: extensions, handle table and payload, without padding. A clone
/// of it is the same bytes once more and no copy of them: a topic gives one message to many.
///
/// In production a slice of the receive buffer, reference-counted; in the simulator plain bytes. The
/// broker lends it from an input to an effect, and clones what waits. It looks inside only where a frame is
/// addressed to the broker itself or carries handles or extensions that need its attention: where
/// [`crate::Broker::reads_payload`] says so, and while that frame is handled, not later.
///
/// What it is written as in a snapshot of the broker is its own affair, as long as it comes back with
/// the same length: the daemon's is written as its length alone, and comes back as zeros.
pub trait Payload: Clone + Serialize + DeserializeOwned {
    /// How many bytes.
    fn len(&self) -> usize;

    /// The bytes.
    fn bytes(&self) -> &[u8];

    /// Called once on what must outlive the turn: a small payload is copied out of the receive
    /// buffer, so that the buffer can be used again.
    fn keep(self) -> Self;

    /// What the broker has written itself, for the places of what came in.
    fn own(bytes: Vec<u8>) -> Self;

    /// The bytes from `start` to `end`, by reference where that can be.
    fn cut(&self, start: usize, end: usize) -> Self;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Payload for Vec<u8> {
    fn len(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> &[u8] {
        self
    }

    fn keep(self) -> Self {
        self
    }

    fn own(bytes: Vec<u8>) -> Self {
        bytes
    }

    fn cut(&self, start: usize, end: usize) -> Self {
        self[start..end].to_vec()
    }
}
