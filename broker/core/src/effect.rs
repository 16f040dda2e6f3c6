//! Everything the broker can ask of the world.

use crate::Payload;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::{GoodbyeReason, HandleEntry, Header, Outcome, PeerId};

/// One thing to do. The driver carries them out in order; none of them can fail from the broker's
/// point of view (a link that cannot be written to shows up as [`crate::Input::Disconnect`]).
#[derive(Debug)]
pub enum Effect<P> {
    /// Append a frame to the peer's out queue. Every byte of it, padding included, is reported back
    /// by [`crate::Input::Wrote`] once it has left.
    Send {
        /// To this peer.
        to: PeerId,
        /// The header, lengths included.
        header: Header,
        /// What follows it.
        tail: SendTail<P>,
    },
    /// Read from the peer (again). New connections are not read before this.
    Resume {
        /// The connection.
        peer: PeerId,
    },
    /// Do not read from the peer for now, so that it hurts nobody; bytes already received and not
    /// yet handed in stay where they are. Hang-ups are still to be noticed.
    Pause {
        /// The connection.
        peer: PeerId,
    },
    /// Read nothing more from the peer, write what its out queue holds as far as it takes it now,
    /// then close it and hand in [`crate::Input::Disconnect`].
    Close {
        /// The connection.
        peer: PeerId,
    },
    /// Every trace of a disconnected peer is gone: its slot may be used again, with another
    /// generation. Not before.
    Forget {
        /// The connection that was.
        peer: PeerId,
    },
    /// Append a record to the log: `head`, then the bytes of `tail`.
    Append {
        /// Its position: one more than that of the record before.
        position: u64,
        /// Its first part.
        head: Vec<u8>,
        /// Its last part.
        tail: Option<P>,
        /// Whether somebody waits for it to be synced, not just written.
        sync: bool,
    },
    /// Somebody waits for what was appended so far to be synced, not just written.
    Sync,
    /// What is appended from now on goes to this new segment of the log.
    Roll {
        /// One more than the last one.
        segment: u32,
    },
    /// Nothing in this segment, the oldest, is wanted any more: it may go, once all that was appended
    /// before this is synced.
    DropSegment {
        /// The segment.
        segment: u32,
    },
    /// Read the configuration again and hand in [`crate::Input::Reloaded`].
    Reload,
    /// Something to log. Facts; the words are the driver's.
    Log(Fact),
}

/// What follows the header of a frame to send.
#[derive(Debug)]
pub enum SendTail<P> {
    /// Nothing.
    Empty,
    /// The tail of the frame that came in, untouched.
    Forward(P),
    /// The tail of the frame that came in, its handle table replaced by these entries (as many).
    Patched(P, Box<[HandleEntry]>),
    /// A body that the broker wrote.
    Own(Vec<u8>),
    /// A body that the broker wrote and that shows a part of somebody's payload, to a monitor.
    Shown(Vec<u8>),
    /// An extension area of the broker's own, then this tail without the one it came with. The
    /// `ext_len` of the frame's header is that of the new area.
    Extended(Rc<[u8]>, P, u16),
}

impl<P: Payload> SendTail<P> {
    /// The bytes behind the header, without padding, as a driver writes them.
    pub fn to_bytes(&self, header: &Header) -> Vec<u8> {
        match self {
            Self::Empty => Vec::new(),
            Self::Forward(tail) => tail.bytes().to_vec(),
            Self::Own(body) | Self::Shown(body) => body.clone(),
            Self::Patched(tail, entries) => {
                let (area, rest) = tail.bytes().split_at(usize::from(header.ext_len));
                let table = entries.iter().flat_map(|entry| entry.to_bytes());
                let payload = &rest[entries.len() * switchboard_protocol::HANDLE_ENTRY_BYTES..];
                area.iter().copied().chain(table).chain(payload.iter().copied()).collect()
            }
            Self::Extended(area, tail, skip) => [area, &tail.bytes()[usize::from(*skip)..]].concat(),
        }
    }
}

/// Who carries effects out, told of each as the broker asks for it. A list of effects does nothing but
/// remember them in their order; a driver may put frames where they go without a stop in between.
pub trait Effects<P> {
    /// [`Effect::Send`] of a frame that came in, with its tail untouched. It is lent where it lies, so
    /// that it is copied once: to where it leaves from.
    fn forward(&mut self, to: PeerId, header: &Header, tail: &P);

    /// Any other effect.
    fn push(&mut self, effect: Effect<P>);
}

impl<P: Clone> Effects<P> for Vec<Effect<P>> {
    fn forward(&mut self, to: PeerId, header: &Header, tail: &P) {
        Vec::push(self, Effect::Send { to, header: *header, tail: SendTail::Forward(tail.clone()) });
    }

    fn push(&mut self, effect: Effect<P>) {
        Vec::push(self, effect);
    }
}

/// Something worth telling an operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fact {
    /// A connection was admitted.
    Connected {
        /// The connection.
        peer: PeerId,
        /// User id.
        uid: u32,
        /// Process id.
        pid: u32,
    },
    /// A connection is gone.
    Disconnected {
        /// The connection.
        peer: PeerId,
        /// Calls that ended with it.
        calls: u32,
    },
    /// The broker ended a connection.
    Expelled {
        /// The connection.
        peer: PeerId,
        /// User id.
        uid: u32,
        /// Process id.
        pid: u32,
        /// The reason it was told.
        why: GoodbyeReason,
        /// The message it was told.
        message: String,
    },
    /// Connections of a user come faster than its quota; they wait.
    ConnectionsDelayed {
        /// User id.
        uid: u32,
    },
    /// What was read is wrong or over limits, by outcome (first of its kind for this connection).
    Refused {
        /// The connection.
        peer: PeerId,
        /// User id.
        uid: u32,
        /// Which outcome it was told.
        outcome: Outcome,
        /// The message it was told.
        message: String,
    },
    /// A name has a new owner.
    Owned {
        /// The name.
        name: String,
        /// The owner.
        peer: PeerId,
        /// Its epoch.
        epoch: u64,
    },
    /// A name has lost its last owner.
    Orphaned {
        /// The name.
        name: String,
    },
    /// Audit: somebody sees other people's traffic from now on.
    MonitorStarted {
        /// The connection.
        peer: PeerId,
        /// User id.
        uid: u32,
        /// Process id.
        pid: u32,
        /// Of these names.
        pattern: String,
        /// With so many bytes of each payload.
        payload_bytes: u32,
    },
    /// Audit: and no longer.
    MonitorEnded {
        /// The connection.
        peer: PeerId,
    },
    /// Audit: everything that the broker is told is kept in files from now on.
    RecordingBegan {
        /// With the payloads of messages.
        payloads: bool,
    },
    /// It is not kept any longer, though it should be.
    RecordingStopped {
        /// Why.
        why: String,
    },
    /// The log of durable things is not to be used any more; what it should hold is refused from here on.
    LogFailed {
        /// What happened.
        message: String,
    },
    /// A queue that is configured is not as it should be.
    QueueRefused {
        /// The queue.
        name: String,
        /// Why.
        message: String,
    },
    /// New configuration is in force.
    Reloaded,
    /// New configuration is wrong; the old one stays.
    ReloadFailed {
        /// Every diagnostic.
        message: String,
    },
}
