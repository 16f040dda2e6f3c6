//! Control operations: calls on [`crate::Handle::BROKER`], answered by the broker (SPEC 6).
//!
//! `method` names the [`Operation`]; request and reply bodies are postcard. No type here is
//! recursive or nests sequences of zero-sized things, so that decoding is bounded by the body's
//! length. Enumerations travel as numbers, for the sake of other languages.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The operations, by `method` (SPEC 6.2). Stable numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Operation {
    /// [`Open`] → [`Opened`].
    Open = 1,
    /// [`OnHandle`] → nothing. Gives a handle back; a serving handle ends the serving.
    Close = 2,
    /// [`Serve`] → [`Served`].
    Serve = 3,
    /// [`OnHandle`] → nothing. Revokes everything passed on from a handle that this peer opened.
    Revoke = 4,
    /// [`Narrow`] → [`Opened`]. A second handle on the same object with fewer rights.
    Narrow = 5,
    /// [`OnName`] → [`Found`], as soon as the name has an owner.
    Wait = 6,
    /// [`OnPattern`], streamed: [`NameChange`] items, first a snapshot, then changes; ends by cancel.
    Watch = 7,
    /// [`List`] → [`Listing`].
    List = 8,
    /// [`OnName`] → [`Description`].
    Describe = 9,
    /// [`OnPeer`] → [`PeerInfo`].
    Identify = 10,
    /// Nothing → [`Status`].
    Status = 11,
    /// [`List`] → [`Stats`], a page of peers.
    Stats = 12,
    /// Nothing → [`Waits`].
    Waits = 13,
    /// [`Monitor`], streamed: [`MonitorItem`]s; ends by cancel.
    Monitor = 14,
    /// [`Explain`] → [`Explained`].
    Explain = 15,
    /// Nothing → [`Reloaded`].
    Reload = 16,
    /// [`Subscribe`](crate::topic::Subscribe), streamed: the messages of topics; ends by cancel.
    Subscribe = 17,
    /// [`OnHandle`] → [`TopicInfo`](crate::topic::TopicInfo).
    TopicStat = 18,
    /// [`Will`](crate::topic::Will) → nothing.
    Will = 19,
    /// [`CreateQueue`](crate::queue::CreateQueue) → [`Created`](crate::queue::Created).
    CreateQueue = 20,
    /// [`OnName`] → nothing. Deletes a queue with all it holds.
    DeleteQueue = 21,
}

impl Operation {
    /// The operation of that number.
    pub const fn from_wire(method: u32) -> Option<Self> {
        Some(match method {
            1 => Self::Open,
            2 => Self::Close,
            3 => Self::Serve,
            4 => Self::Revoke,
            5 => Self::Narrow,
            6 => Self::Wait,
            7 => Self::Watch,
            8 => Self::List,
            9 => Self::Describe,
            10 => Self::Identify,
            11 => Self::Status,
            12 => Self::Stats,
            13 => Self::Waits,
            14 => Self::Monitor,
            15 => Self::Explain,
            16 => Self::Reload,
            17 => Self::Subscribe,
            18 => Self::TopicStat,
            19 => Self::Will,
            20 => Self::CreateQueue,
            21 => Self::DeleteQueue,
            _ => return None,
        })
    }
}

/// Asks for a handle on a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The name.
    pub name: String,
    /// [`crate::ObjectKind`].
    pub kind: u8,
    /// [`crate::Rights`] wanted; all of them or none are given.
    pub rights: u32,
    /// A request that this peer is serving, whose caller's rights count instead of its own
    /// (`open_as`); 0 for its own.
    pub on_behalf_of: u64,
}

/// A new handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The handle.
    pub handle: u64,
    /// Its rights.
    pub rights: u32,
    /// The present owner's epoch; 0 if nobody serves the name now.
    pub epoch: u64,
    /// Bytes of one-way sends that may be on their way at once on this handle (SPEC 4.9).
    pub send_bytes: u32,
}

/// A body of just a handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnHandle {
    /// The handle.
    pub handle: u64,
}

/// A body of just a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnName {
    /// The name.
    pub name: String,
}

/// A body of just a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnPattern {
    /// The pattern.
    pub pattern: String,
}

/// A body of just a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnPeer {
    /// The peer, from the `seq` of a delivered request, or 0 for oneself.
    pub peer: u64,
}

/// Wants to own a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serve {
    /// The name; empty for a private service that is reached only through handles passed on.
    pub name: String,
    /// 0 exclusive, 1 pool.
    pub mode: u8,
    /// [`serve_flags`].
    pub flags: u32,
    /// Requests that may be at this server, unanswered, at once; at least 1 (SPEC 5.2).
    pub calls: u32,
    /// Bytes of one-way sends that may be at this server, not yet credited, at once (SPEC 5.3).
    pub send_bytes: u32,
    /// What `describe` shows of it, for people; at most 4096 bytes.
    pub about: String,
}

/// Flags of [`Serve`], as D-Bus has them.
pub mod serve_flags {
    /// Another server may take the name over.
    pub const ALLOW_REPLACEMENT: u32 = 1;
    /// Take the name over from an owner that allows it.
    pub const REPLACE: u32 = 1 << 1;
    /// Fail rather than stand in the queue.
    pub const DO_NOT_QUEUE: u32 = 1 << 2;
    /// Every flag that exists.
    pub const ALL: u32 = 7;
}

/// The answer to [`Serve`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The serving handle: requests carry it, and closing it ends the serving.
    pub handle: u64,
    /// 0 for an owner, else the place in the standby queue, from 1.
    pub standby: u32,
    /// The epoch of this ownership; 0 in the standby queue.
    pub epoch: u64,
    /// A handle with the rights `call` and `delegate` on a private service; 0 for a named one.
    pub reference: u64,
    /// The window of requests in force: what was asked for, or the broker's limit.
    pub calls: u32,
    /// The window of one-way sends in force; a quarter of it is what has to be credited (SPEC 5.3).
    pub send_bytes: u32,
}

/// Wants a second, weaker handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Narrow {
    /// The handle.
    pub handle: u64,
    /// [`crate::Rights`] of the new one; a subset.
    pub rights: u32,
}

/// A name has an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its epoch.
    pub epoch: u64,
}

/// One name, in listings and in watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameInfo {
    /// The name.
    pub name: String,
    /// [`crate::ObjectKind`].
    pub kind: u8,
    /// 0 exclusive, 1 pool.
    pub mode: u8,
    /// Its epoch; 0 if it has no owner.
    pub epoch: u64,
    /// The (first) owner; 0 if none.
    pub owner: u64,
    /// Owners: 1, or the members of a pool.
    pub owners: u32,
    /// Standing by.
    pub standby: u32,
    /// The owner's user id.
    pub uid: u32,
    /// The owner's process id.
    pub pid: u32,
    /// What the owner's program calls itself.
    pub program: String,
}

/// An item of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameChange {
    /// 0 part of the snapshot, 1 end of the snapshot (no name), 2 a new or other owner, 3 no owner
    /// any more.
    pub what: u8,
    /// The name as it is now.
    pub info: NameInfo,
}

/// Asks for a page of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Which names.
    pub pattern: String,
    /// Begin after this name (or, for peers, this id); empty to begin.
    pub after: String,
}

/// A page of a listing, in the order of names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The names.
    pub names: Vec<NameInfo>,
    /// What to ask for next as `after`; empty at the end.
    pub next: String,
}

/// All about one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The name.
    pub info: NameInfo,
    /// What the owner says about it.
    pub about: String,
    /// Owners first, then those standing by, at most 64.
    pub servers: Vec<ServerInfo>,
    /// Messages that wait for a server to have room.
    pub waiting: u32,
    /// Handles open on it.
    pub handles: u32,
}

/// One server of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// The peer.
    pub peer: u64,
    /// Its user id.
    pub uid: u32,
    /// Its process id.
    pub pid: u32,
    /// What its program calls itself.
    pub program: String,
    /// 0 for an owner, else the place in the standby queue.
    pub standby: u32,
    /// Requests at it, unanswered.
    pub outstanding: u32,
    /// Requests that may be at it.
    pub calls: u32,
}

/// Who a peer is, as the kernel says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// The peer.
    pub peer: u64,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Process id at the time of connecting.
    pub pid: u32,
    /// Security label, empty where there is none.
    pub label: String,
    /// What the program calls itself: not to be trusted.
    pub program: String,
}

/// The broker at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Incarnation.
    pub incarnation: u32,
    /// Nanoseconds since the start.
    pub uptime_ns: u64,
    /// 1 for the system instance.
    pub system: bool,
    /// Connections.
    pub connections: u32,
    /// Names that exist.
    pub names: u32,
    /// Names that have an owner.
    pub names_owned: u32,
    /// Handles.
    pub handles: u32,
    /// Open calls.
    pub calls_open: u32,
    /// Messages that wait for a server.
    pub waiting: u32,
    /// Bytes of payload that the broker holds for them.
    pub waiting_bytes: u64,
    /// Watches and monitors.
    pub watches: u32,
    /// Subscriptions of topics.
    pub subscriptions: u32,
    /// Messages in queues.
    pub queued: u64,
    /// Bytes of them.
    pub queued_bytes: u64,
    /// The log of durable things.
    pub storage: Storage,
    /// The flight recorder.
    pub recorder: Recorder,
    /// The limits in force, and what they can cost.
    pub limits: Vec<LimitInfo>,
    /// Worst-case memory in bytes: the sum of `bytes` in `limits`.
    pub memory_bytes_max: u64,
    /// Everything counted since the start.
    pub counters: Vec<Counter>,
}

/// The log of durable things at a glance (SPEC 10.6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// Why nothing is taken that it should hold; empty if all is well.
    pub failure: String,
    /// Records appended: the position of the latest.
    pub appended: u64,
    /// Records synced to the disk.
    pub synced: u64,
    /// Bytes of its segments.
    pub bytes: u64,
    /// Its oldest and its newest segment.
    pub segment_first: u32,
    /// The one that is written.
    pub segment_last: u32,
}

/// The flight recorder at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorder {
    /// Bytes that its files take; 0 if nothing is recorded.
    pub bytes: u64,
    /// Whether payloads are recorded too.
    pub payloads: bool,
    /// The number of the file that is written.
    pub file: u64,
    /// Nanoseconds that the longest change of files has kept the broker.
    pub pause_ns: u64,
    /// Why it has stopped; empty if it has not.
    pub failure: String,
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitInfo {
    /// Its name as in the configuration.
    pub name: String,
    /// Its value.
    pub value: u64,
    /// How much is in use now.
    pub used: u64,
    /// What it can cost in memory, in bytes; 0 if that is counted elsewhere.
    pub bytes: u64,
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u64,
}

/// A page of peers with what each has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The peers.
    pub peers: Vec<PeerStats>,
    /// What to ask for next as `after`; empty at the end.
    pub next: String,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStats {
    /// The peer.
    pub peer: u64,
    /// User id.
    pub uid: u32,
    /// Process id.
    pub pid: u32,
    /// What its program calls itself.
    pub program: String,
    /// Frames from it.
    pub frames_in: u64,
    /// Bytes from it.
    pub bytes_in: u64,
    /// Frames to it.
    pub frames_out: u64,
    /// Bytes to it.
    pub bytes_out: u64,
    /// Its open calls.
    pub calls_open: u32,
    /// Requests at it, unanswered.
    pub serving: u32,
    /// Bytes that wait to be read by it.
    pub unread_bytes: u64,
    /// Handles it holds.
    pub handles: u32,
}

/// Who waits on whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// Open calls, oldest first, at most 256.
    pub edges: Vec<WaitEdge>,
    /// Each cycle as the peers along it.
    pub cycles: Vec<Vec<u64>>,
    /// Whether there are more open calls than are shown.
    pub truncated: bool,
}

/// An open call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitEdge {
    /// The request's id.
    pub request: u64,
    /// The request in whose service it was made; 0 for none.
    pub parent: u64,
    /// Who waits.
    pub caller: u64,
    /// The caller's process id.
    pub caller_pid: u32,
    /// The caller's program.
    pub caller_program: String,
    /// For what name; empty for a private service.
    pub name: String,
    /// Who has it; 0 while it waits for a server.
    pub server: u64,
    /// The server's process id.
    pub server_pid: u32,
    /// The server's program.
    pub server_program: String,
    /// Since when, in nanoseconds before now.
    pub age_ns: u64,
    /// Nanoseconds to the deadline; 0 for none.
    pub left_ns: u64,
    /// Its priority.
    pub priority: u8,
}

/// Wants to see traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// Of which names.
    pub pattern: String,
    /// How many bytes of each payload; 0 for none. At most 4096.
    pub payload_bytes: u32,
}

/// A frame that passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorItem {
    /// Frames that were not shown since the last item, for want of credit or room.
    pub lost: u64,
    /// Broker time in nanoseconds.
    pub at_ns: u64,
    /// Frame kind.
    pub kind: u8,
    /// From whom.
    pub from: u64,
    /// To whom; 0 if it waits or was refused.
    pub to: u64,
    /// The name; empty for a private service.
    pub name: String,
    /// Method, or outcome.
    pub method: u32,
    /// The method's name, where it goes by name.
    pub method_name: String,
    /// The request's id.
    pub request: u64,
    /// Priority.
    pub priority: u8,
    /// Length of the payload.
    pub payload_len: u32,
    /// As much of the payload as was asked for.
    pub payload: Vec<u8>,
}

/// Asks what policy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explain {
    /// Of this user; `None` for the asker.
    pub uid: Option<u32>,
    /// With these groups.
    pub groups: Vec<u32>,
    /// With this label; empty for none.
    pub label: String,
    /// The verb's bit ([`crate::Verb`]).
    pub verb: u32,
    /// On this name.
    pub name: String,
}

/// What policy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Which rule decided, as `FILE:LINE`, or the built-in rule in words.
    pub rule: String,
    /// Highest priority of a call.
    pub priority_max: u8,
}

/// A reload has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The files that were read.
    pub files: Vec<String>,
}
