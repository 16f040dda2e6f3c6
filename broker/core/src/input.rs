//! Everything that can happen to the broker.

use crate::{Identity, Limits, Payload, Policy, QueueSettings, Recording, TopicSettings};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::{FrameError, Header, PeerId};

/// One thing that has happened. Handed to [`crate::Broker::handle`] in the order in which it did.
#[expect(clippy::large_enum_variant, reason = "an input is made where it is handed in, and never kept")]
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub enum Input<P> {
    /// A connection was accepted. The driver picks the id: a slot of its own table of links, and a
    /// generation that slot never had. It reads nothing before [`crate::Effect::Resume`].
    Connect {
        /// The connection.
        peer: PeerId,
        /// Who it is, by the kernel.
        identity: Identity,
    },
    /// A connection is gone, or the driver has closed it after [`crate::Effect::Close`]. The last
    /// input of that peer.
    Disconnect {
        /// The connection.
        peer: PeerId,
        /// What is known of how.
        how: Departure,
    },
    /// A whole frame came.
    Frame {
        /// From this peer.
        from: PeerId,
        /// Its header, valid.
        header: Header,
        /// What follows the header; `header.tail_len()` bytes, extensions well formed.
        tail: P,
    },
    /// A frame came whose payload is over [`Limits::payload_bytes_max`]: the driver skips its tail,
    /// the sender is told.
    Oversized {
        /// From this peer.
        from: PeerId,
        /// Its header, valid.
        header: Header,
    },
    /// The peer's bytes cannot be read as frames. Nothing after this is read from it.
    Broken {
        /// From this peer.
        from: PeerId,
        /// What is wrong.
        why: Breach,
    },
    /// So many bytes of this peer's out queue have left for the kernel. At most one a turn and link;
    /// it must come in time after every send that the queue took, also if nothing else happens.
    Wrote {
        /// The connection.
        peer: PeerId,
        /// Bytes, padding included.
        bytes: usize,
    },
    /// The wall clock, as it was read together with `now`. Handed in at the start, and whenever it has
    /// gone otherwise than the monotonic one.
    Clock {
        /// Nanoseconds since 1970.
        wall_ns: u64,
    },
    /// A record that an earlier broker appended to the log, in their order. Before anybody connects.
    Recovered {
        /// The segment it is in.
        segment: u32,
        /// Its position.
        position: u64,
        /// What was appended.
        record: P,
    },
    /// The log can be appended to: every record was handed in. Without this there is no log.
    LogReady {
        /// The position of the last record; 0 for none.
        position: u64,
        /// The oldest segment that is there; that of this broker if there is none.
        oldest: u32,
        /// A new segment, which what is appended goes to.
        segment: u32,
    },
    /// Records have reached the operating system and the disk, through these positions.
    Persisted {
        /// Written through this position.
        written: u64,
        /// Synced through this position.
        synced: u64,
    },
    /// The log cannot be read, written or synced, and never will by this broker.
    LogFailed {
        /// What happened, with the file's name.
        message: String,
    },
    /// All that is handed in is recorded from now on, or no longer; for those who ask.
    Recording(Recording),
    /// The moment of [`crate::Broker::next_wake`] has come, or any other moment.
    Wake,
    /// Configuration was read again, in answer to [`crate::Effect::Reload`] or to a signal.
    Reloaded {
        /// What was read, or every diagnostic as text; then the old settings stay.
        result: Result<Settings, String>,
    },
    /// The daemon wants to end. Every peer is told, every open call ends.
    Shutdown,
}

/// What breaks a connection before its frames reach the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Breach {
    /// The stream is not a sequence of frames.
    Frame(FrameError),
    /// File descriptors came where none belong, or more than fit.
    FileDescriptors,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// The process's exit status as `wait(2)` has it, where the kernel told.
    pub exit_status: Option<u32>,
    /// Whether the process has ended. If not, only its connection was lost.
    pub process_ended: bool,
}

/// What is fixed for a broker's life and that it tells those who ask.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Instance {
    /// Greater than that of every earlier broker on the same state (SPEC 3.5).
    pub incarnation: u32,
    /// Version of the program.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Whether it is the system instance.
    pub system: bool,
    /// Random, and nobody's to know: leases are made unguessable with it.
    pub secret: [u64; 2],
}

/// What configuration says to the broker, taken as a whole or not at all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The rules.
    pub policy: Policy,
    /// The limits.
    pub limits: Limits,
    /// The topics that are configured.
    pub topics: Vec<TopicSettings>,
    /// The queues that are configured.
    pub queues: Vec<QueueSettings>,
    /// The files this was read from, for the one who asked.
    pub files: Vec<String>,
}
