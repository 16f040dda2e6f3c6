//! What a frame from the broker means to this client.

use switchboard_protocol::{Failure, Outcome, Welcome};

use super::Frame;
use super::calls::CallId;
use super::requests::RequestId;
use crate::CallError;

/// What came of one frame. Frames that change nothing for the program give no event.
#[derive(Debug)]
pub enum Event<'a> {
    /// The handshake is done; the first event of a connection that succeeds.
    Welcomed(Welcome),
    /// A call ended; the only time for this `tag`.
    Ended {
        /// What [`super::Session::call`] was given.
        tag: u64,
        /// The reply, or how else it ended.
        end: Result<Answer<'a>, CallError>,
    },
    /// An item of a streamed reply.
    Item {
        /// What [`super::Session::call`] was given.
        tag: u64,
        /// Payload and handles.
        frame: Frame<'a>,
    },
    /// A request to serve: it must be ended by [`super::Session::answer`].
    Request {
        /// What [`super::Session::serve`] was given.
        serving: u64,
        /// Names it in everything that follows.
        request: RequestId,
        /// The header is as SPEC 5.1 says, its deadline still in broker time.
        frame: Frame<'a>,
    },
    /// A one-way message: its room must be given back by [`super::Session::consumed`].
    Message {
        /// What [`super::Session::serve`] was given.
        serving: u64,
        /// The header is as SPEC 5.1 says, its deadline still in broker time.
        frame: Frame<'a>,
    },
    /// The outcome of this request is decided; it must still be answered, by anything.
    RequestCancelled {
        /// Which.
        request: RequestId,
        /// What the caller was told.
        why: Outcome,
    },
    /// The caller of this streamed request takes more items.
    RequestRoom {
        /// Which.
        request: RequestId,
    },
    /// One-way messages fit on this handle again.
    SendRoom {
        /// Which.
        handle: u64,
    },
    /// A handle is void (SPEC 3.6).
    HandleRevoked {
        /// Which.
        handle: u64,
    },
    /// A serving handle owns its name now.
    OwnerGained {
        /// What [`super::Session::serve`] was given.
        serving: u64,
        /// The epoch of this ownership.
        epoch: u64,
    },
    /// A serving handle was replaced and stands by.
    OwnerReplaced {
        /// What [`super::Session::serve`] was given.
        serving: u64,
        /// Its place in line, from 1.
        place: u64,
    },
    /// One-way messages were not delivered, or it is not known that they were.
    SendFailed {
        /// On which handle.
        handle: u64,
        /// How many.
        count: u64,
        /// The tag of the last one.
        tag: u64,
        /// Why.
        error: CallError,
    },
    /// The broker goes down; [`Event::Goodbye`] follows.
    ShuttingDown,
    /// The broker ends the connection; nothing follows.
    Goodbye(Farewell),
}

/// A reply.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Of the owner that answered (SPEC 3.5).
    pub epoch: u64,
    /// Payload and handles.
    pub frame: Frame<'a>,
}

/// The broker's last words (SPEC 1.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// Why.
    pub reason: switchboard_protocol::GoodbyeReason,
    /// The same for people.
    pub message: String,
}

/// An open call that ended without the broker saying so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedCall {
    /// What [`super::Session::call`] was given.
    pub tag: u64,
    /// Its id.
    pub call: CallId,
}

/// The body of an outcome; one that cannot be read says so.
pub(super) fn failure(outcome: Outcome, body: &[u8]) -> CallError {
    match switchboard_protocol::decode::<Failure>(body) {
        Some(failure) => CallError::with(outcome, failure),
        None => CallError::new(outcome, "(the broker's explanation could not be read)"),
    }
}
