//! What can be said on a Switchboard connection: names, the frame header, kinds, outcomes, the
//! handshake and the control operations, exactly as `protocol/SPEC.md` writes them down.
//!
//! Nothing here performs I/O. Bytes from outside are parsed, not checked: whoever holds a [`Name`]
//! or a [`Header`] holds a valid one.

#![no_std]

extern crate alloc;

mod batch;
pub mod control;
mod event;
mod extension;
mod frame;
mod handshake;
mod header;
mod ids;
mod name;
mod outcome;
pub mod queue;
mod rights;
pub mod signal;
mod time;
pub mod topic;

pub use batch::{PART_HEADER_BYTES, Part, Parts, part_bytes, write_part};
pub use event::Event;
pub use extension::{CRITICAL, Extension, Extensions, ExtensionsBuilder, extension_type};
pub use frame::{
    Decoder, FrameError, Parser, Tail, frame_padding, padded, write_frame, write_frame_head,
    write_plain_frame,
};
pub use handshake::{Goodbye, GoodbyeReason, HELLO_MAGIC, Hello, VERSION, Welcome, features};
pub use header::{HEADER_BYTES, Header, Kind, flags};
pub use ids::{Epoch, Handle, PeerId};
pub use name::{Name, NameError, Pattern};
pub use outcome::{Failure, Outcome};
pub use rights::{HANDLE_ENTRY_BYTES, HandleEntry, ObjectKind, Rights, Verb, handle_flags};
pub use time::Instant;

/// The longest frame, header included, that any peer may announce: 256 MiB (SPEC 2.4). Beyond it a
/// length is taken for garbage and the connection ends; below it, a payload over the broker's own
/// limit is skipped and answered with [`Outcome::TooLarge`].
pub const FRAME_BYTES_MAX: u32 = 256 << 20;

/// The longest extension area of a frame in bytes (SPEC 2.5).
pub const EXTENSION_BYTES_MAX: u16 = 4096;

/// Most handles that one frame may carry (SPEC 2.6), the same as the most file descriptors.
pub const HANDLES_MAX: u16 = 16;

/// The longest body that asks for a control operation, in bytes (SPEC 6.1).
pub const CONTROL_BYTES_MAX: usize = 16 << 10;

/// Encodes a control body (SPEC 6.1). The types of this crate always encode.
pub fn encode<T: serde::Serialize>(body: &T) -> alloc::vec::Vec<u8> {
    postcard::to_allocvec(body).expect("control bodies hold nothing that postcard refuses")
}

/// [`encode`], unless that takes more than `bytes_max` bytes.
pub fn encode_within<T: serde::Serialize>(body: &T, bytes_max: usize) -> Option<alloc::vec::Vec<u8>> {
    postcard::serialize_with_flavor(body, Bounded { bytes: alloc::vec::Vec::new(), bytes_max }).ok()
}

/// [`encode`], behind bytes that are there already.
pub fn encode_onto<T: serde::Serialize>(body: &T, bytes: alloc::vec::Vec<u8>) -> alloc::vec::Vec<u8> {
    postcard::serialize_with_flavor(body, Behind(bytes)).expect("bodies hold nothing that postcard refuses")
}

/// Bytes behind which others go, mostly a few at a time: the numbers of postcard.
struct Behind(alloc::vec::Vec<u8>);

impl postcard::ser_flavors::Flavor for Behind {
    type Output = alloc::vec::Vec<u8>;

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        match *bytes {
            [one] => self.0.push(one),
            [one, two] => self.0.extend_from_slice(&[one, two]),
            _ => self.0.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Self::Output> {
        Ok(self.0)
    }
}

/// Where bytes go that are too many at some point.
struct Bounded {
    bytes: alloc::vec::Vec<u8>,
    bytes_max: usize,
}

impl postcard::ser_flavors::Flavor for Bounded {
    type Output = alloc::vec::Vec<u8>;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if self.bytes_max - self.bytes.len() < bytes.len() {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Self::Output> {
        Ok(self.bytes)
    }
}

/// Decodes a control body; `None` if it is not exactly one `T` (SPEC 6.1), or longer than
/// [`CONTROL_BYTES_MAX`] where it came from an untrusted peer (checked by the caller).
pub fn decode<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes::<T>(bytes) {
        Ok((body, [])) => Some(body),
        _ => None,
    }
}
