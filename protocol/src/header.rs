//! The fixed header: 64 bytes, one cache line, the same for every frame (SPEC 2.2).

use serde::{Deserialize, Serialize};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a header on the wire.
pub const HEADER_BYTES: usize = 64;

/// What a frame is (SPEC 2.3). The numbers are stable; unknown ones end the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// Client's first frame.
    Hello = 0x01,
    /// The broker's answer to it.
    Welcome = 0x02,
    /// Last frame of a connection, in either direction, with the reason.
    Goodbye = 0x03,
    /// A request that wants an outcome.
    Call = 0x10,
    /// A one-way message.
    Send = 0x11,
    /// The successful outcome of a call, and the end of its stream.
    Reply = 0x12,
    /// Any other outcome.
    Outcome = 0x13,
    /// The caller gives up; to the service, advice to stop.
    Cancel = 0x14,
    /// One item of a streamed reply.
    Item = 0x15,
    /// Room for more: of a stream, or of one-way sends.
    Credit = 0x16,
    /// The broker tells of a change to a handle.
    Event = 0x17,
}

/// The header of a frame in native form. Which field means what in which kind: SPEC 2.3.
///
/// The fields lie in memory so that no two that are neighbours on the wire are neighbours here. Whoever
/// routes a frame reads a header, patches some fields and writes it out at once, and a processor makes a
/// wide load wait that spans several narrow stores; with this order none can be made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct Header {
    /// The handle that the frame is about.
    pub handle: u64,
    /// Broker time in nanoseconds; 0 for none.
    pub deadline: u64,
    /// Owner epoch; 0 for any.
    pub epoch: u64,
    /// The caller's id of the call, or the broker's id of the request.
    pub call: u64,
    /// Parent request, sequence number or amount, by kind.
    pub seq: u64,
    /// On a delivered request, who calls: user id (lower half) and process id (upper half). 0
    /// elsewhere.
    pub caller: u64,
    /// Method, control operation, outcome, event or reason, by kind.
    pub method: u32,
    /// What the frame is.
    pub kind: Kind,
    /// Entries in the handle table.
    pub handles: u16,
    /// Bytes of the frame from the start of the header to the end of the payload, without padding.
    pub len: u32,
    /// [`flags`].
    pub flags: u8,
    /// Bytes of the extension area, a multiple of 16.
    pub ext_len: u16,
    /// 0 (least) to 7.
    pub priority: u8,
    /// Protocol version.
    pub version: u8,
}

/// Flags of a header (SPEC 2.7).
pub mod flags {
    /// On a call: the caller takes a streamed reply.
    pub const STREAM: u8 = 1;
    /// On a call: refuse with `Busy` rather than wait for the service to have room.
    pub const NO_WAIT: u8 = 1 << 1;
    /// On a call, send or item: the payload is a batch (SPEC 2.9).
    pub const BATCH: u8 = 1 << 2;

    /// The flags that a frame of this kind may have; others must be zero.
    pub const fn of(kind: super::Kind) -> u8 {
        match kind {
            super::Kind::Call => STREAM | NO_WAIT | BATCH,
            super::Kind::Send | super::Kind::Item => BATCH,
            super::Kind::Hello
            | super::Kind::Welcome
            | super::Kind::Goodbye
            | super::Kind::Reply
            | super::Kind::Outcome
            | super::Kind::Cancel
            | super::Kind::Credit
            | super::Kind::Event => 0,
        }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Wire {
    len: U32,
    ext_len: U16,
    kind: u8,
    flags: u8,
    priority: u8,
    version: u8,
    handles: U16,
    method: U32,
    handle: U64,
    call: U64,
    deadline: U64,
    seq: U64,
    epoch: U64,
    caller: U64,
}

const _: () = assert!(size_of::<Wire>() == HEADER_BYTES);

impl Kind {
    /// The kind of that number.
    pub const fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::Hello,
            0x02 => Self::Welcome,
            0x03 => Self::Goodbye,
            0x10 => Self::Call,
            0x11 => Self::Send,
            0x12 => Self::Reply,
            0x13 => Self::Outcome,
            0x14 => Self::Cancel,
            0x15 => Self::Item,
            0x16 => Self::Credit,
            0x17 => Self::Event,
            _ => return None,
        })
    }
}

impl Header {
    /// A header of that kind for a frame of nothing else; every other field zero.
    pub const fn new(kind: Kind) -> Self {
        Self {
            len: HEADER_BYTES as u32,
            ext_len: 0,
            kind,
            flags: 0,
            priority: 0,
            version: crate::VERSION,
            handles: 0,
            method: 0,
            handle: 0,
            call: 0,
            deadline: 0,
            seq: 0,
            epoch: 0,
            caller: 0,
        }
    }

    /// Reads a header; the error is the number of an unknown kind.
    #[inline]
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Self, u8> {
        let mut header = Self::new(Kind::Goodbye);
        header.read(bytes).map(|()| header)
    }

    /// Becomes what `bytes` say; the error is the number of an unknown kind. For where headers are read one
    /// after the other: moving one costs as much as reading it.
    #[inline(always)]
    pub(crate) fn read(&mut self, bytes: &[u8; HEADER_BYTES]) -> Result<(), u8> {
        let wire = Wire::ref_from_bytes(bytes).expect("64 bytes of byte-aligned fields");
        self.len = wire.len.get();
        self.ext_len = wire.ext_len.get();
        self.kind = Kind::from_wire(wire.kind).ok_or(wire.kind)?;
        self.flags = wire.flags;
        self.priority = wire.priority;
        self.version = wire.version;
        self.handles = wire.handles.get();
        self.method = wire.method.get();
        self.handle = wire.handle.get();
        self.call = wire.call.get();
        self.deadline = wire.deadline.get();
        self.seq = wire.seq.get();
        self.epoch = wire.epoch.get();
        self.caller = wire.caller.get();
        Ok(())
    }

    /// The 64 bytes of this header.
    #[inline]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        self.write(&mut bytes);
        bytes
    }

    /// Writes the 64 bytes of this header to where they are wanted, field by field.
    #[inline(always)]
    pub fn write(&self, bytes: &mut [u8; HEADER_BYTES]) {
        let wire = Wire::mut_from_bytes(bytes).expect("64 bytes of byte-aligned fields");
        wire.len = self.len.into();
        wire.ext_len = self.ext_len.into();
        wire.kind = self.kind as u8;
        wire.flags = self.flags;
        wire.priority = self.priority;
        wire.version = self.version;
        wire.handles = self.handles.into();
        wire.method = self.method.into();
        wire.handle = self.handle.into();
        wire.call = self.call.into();
        wire.deadline = self.deadline.into();
        wire.seq = self.seq.into();
        wire.epoch = self.epoch.into();
        wire.caller = self.caller.into();
    }

    /// Bytes of the handle table.
    pub const fn table_len(&self) -> usize {
        self.handles as usize * crate::HANDLE_ENTRY_BYTES
    }

    /// Bytes of the payload.
    pub const fn payload_len(&self) -> usize {
        self.len as usize - HEADER_BYTES - self.ext_len as usize - self.table_len()
    }

    /// Bytes after the header: extensions, handle table, payload; without padding.
    pub const fn tail_len(&self) -> usize {
        self.len as usize - HEADER_BYTES
    }
}
