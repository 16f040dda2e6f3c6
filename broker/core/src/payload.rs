//! What a frame carries behind its header, as the broker sees it: not at all.

/// The bytes of a frame after its header: extensions, handle table and payload, without padding.
///
/// In production a slice of the receive buffer, reference-counted; in the simulator plain bytes. The
/// broker moves it from an input to an effect. It looks inside only where a frame is addressed to
/// the broker itself or carries handles or extensions that need its attention.
///
/// A clone is another reference to the same bytes.
pub trait Payload: Clone {
    /// How many bytes.
    fn len(&self) -> usize;

    /// The bytes.
    fn bytes(&self) -> &[u8];

    /// Called once on what must outlive the turn: a small payload is copied out of the receive
    /// buffer, so that the buffer can be used again.
    fn keep(self) -> Self;

    /// The bytes from `start` to `end`, by reference where that can be.
    fn cut(&self, start: usize, end: usize) -> Self;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Payload for alloc::vec::Vec<u8> {
    fn len(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> &[u8] {
        self
    }

    fn keep(self) -> Self {
        self
    }

    fn cut(&self, start: usize, end: usize) -> Self {
        self[start..end].to_vec()
    }
}
