//! What a broker must not do.

use switchboard_protocol::{FrameError, Kind};

/// The broker broke the protocol: the connection cannot go on. Nothing that a broker sends makes a
/// [`super::Session`] panic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The stream is not a sequence of frames.
    #[error("the broker sent a broken frame: {0}")]
    Frame(#[from] FrameError),
    /// A kind that a broker does not send, or not now.
    #[error("the broker sent {0:?} where it does not belong")]
    Unexpected(Kind),
    /// A body that cannot be read.
    #[error("the broker sent a malformed body in {0:?}")]
    Body(Kind),
    /// A version that was not offered.
    #[error("the broker chose protocol version {0}, which was not offered")]
    Version(u8),
    /// Something about a call that is not open.
    #[error("the broker sent {kind:?} for call {call:#x}, which is not open")]
    UnknownCall {
        /// What it sent.
        kind: Kind,
        /// The call it named.
        call: u64,
    },
    /// An item out of order or beyond the credit that was granted.
    #[error("the broker sent item {seq} of call {call:#x} out of order or without credit")]
    Item {
        /// The call.
        call: u64,
        /// The item's number.
        seq: u64,
    },
    /// More requests than were asked for (SPEC 5.2), or one without an id.
    #[error("the broker sent request {0:#x} beyond the number that was agreed on")]
    Request(u64),
    /// More bytes of one-way messages than the window (SPEC 5.3).
    #[error("the broker sent one-way messages beyond the window of serving handle {0:#x}")]
    Window(u64),
}
