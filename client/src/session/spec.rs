//! What is asked of a session, and why it may refuse.

use std::borrow::Cow;

use switchboard_protocol::{
    Extension, ExtensionsBuilder, HANDLE_ENTRY_BYTES, HEADER_BYTES, HandleEntry, Header, Kind, Outcome,
    extension_type, flags, padded, write_frame,
};

use crate::CallError;

/// Which method of a service: by the service's own number, or by name (SPEC 4.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Method<'a> {
    /// By number; 0 where a service has only one thing to do.
    Number(u32),
    /// By name: UTF-8, at most 1024 bytes.
    Name(Cow<'a, str>),
}

/// A call to be made (SPEC 4.1).
#[derive(Clone, Debug, Default)]
pub struct CallSpec<'a> {
    /// The handle; 0 is the broker itself.
    pub handle: u64,
    /// The method.
    pub method: Method<'a>,
    /// In the client's own time, in nanoseconds; 0 for none.
    pub deadline: u64,
    /// 0 to 7; higher is taken as 7.
    pub priority: u8,
    /// A streamed reply is taken (SPEC 4.11).
    pub stream: bool,
    /// `Busy` rather than wait for the server to have room.
    pub no_wait: bool,
    /// The request in whose service the call is made (SPEC 4.4), or 0.
    pub parent: u64,
    /// The owner expected, or 0.
    pub epoch: u64,
    /// W3C trace context, passed on untouched.
    pub traceparent: Option<&'a str>,
    /// What else it says, at most 1 KiB in all.
    pub extensions: &'a [Extension<'a>],
    /// The payload is a batch (SPEC 2.9).
    pub batch: bool,
    /// What comes back are messages of a queue, under lease: should nobody be there to take one, it
    /// goes back to its queue (SPEC 10.9).
    pub leases: bool,
    /// At most 16.
    pub handles: &'a [HandleEntry],
    /// At most `payload_bytes_max` of the handshake.
    pub payload: &'a [u8],
    /// The payload stays where it is: the output ends before it, and whoever set this writes it, and
    /// [`switchboard_protocol::frame_padding`] zeros, right behind that, before anything else.
    pub lent: bool,
}

/// A one-way message to be sent (SPEC 4.8).
#[derive(Clone, Debug, Default)]
pub struct SendSpec<'a> {
    /// The handle.
    pub handle: u64,
    /// The method.
    pub method: Method<'a>,
    /// In the client's own time, in nanoseconds; 0 for none.
    pub deadline: u64,
    /// 0 to 7; higher is taken as 7.
    pub priority: u8,
    /// The request in whose service it is sent (SPEC 4.4), or 0.
    pub parent: u64,
    /// The owner expected, or 0.
    pub epoch: u64,
    /// Comes back in [`super::Event::SendFailed`].
    pub tag: u64,
    /// The payload is a batch (SPEC 2.9).
    pub batch: bool,
    /// At most 16.
    pub handles: &'a [HandleEntry],
    /// At most `payload_bytes_max` of the handshake.
    pub payload: &'a [u8],
    /// The payload stays where it is: the output ends before it, and whoever set this writes it, and
    /// [`switchboard_protocol::frame_padding`] zeros, right behind that, before anything else.
    pub lent: bool,
}

/// Why nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The connection is over.
    #[error("the connection to the broker is over")]
    Over,
    /// As many calls are open as the broker allows.
    #[error("{calls_open_max} calls are open on this connection, which is its limit (calls_open_max)")]
    TooManyCalls {
        /// The limit.
        calls_open_max: u32,
    },
    /// The payload is over the limit.
    #[error(
        "the payload has {bytes} bytes; the broker takes at most {payload_bytes_max} (payload_bytes_max)"
    )]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        payload_bytes_max: usize,
    },
    /// More than 16.
    #[error("{handles} handles in one message; at most 16 are allowed")]
    TooManyHandles {
        /// How many.
        handles: usize,
    },
    /// The name of the method is over its limit.
    #[error("the method's name has {bytes} bytes; at most {METHOD_NAME_BYTES_MAX} are allowed")]
    MethodTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The trace context is over its limit.
    #[error("the traceparent has {bytes} bytes; at most {METHOD_NAME_BYTES_MAX} are allowed")]
    TraceTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The window, or the stream's credit, has no room now.
    #[error("as many bytes or items are on their way as the receiver allows")]
    NoRoom,
    /// Not a handle of this connection with a known send window.
    #[error("this handle has no known send window")]
    UnknownHandle,
    /// The request is answered or no longer wanted.
    #[error("the request is no longer open")]
    NotOpen,
}

const METHOD_NAME_BYTES_MAX: usize = 1024;

impl Default for Method<'_> {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl From<u32> for Method<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a str> for Method<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(Cow::Borrowed(name))
    }
}

impl From<String> for Method<'_> {
    fn from(name: String) -> Self {
        Self::Name(Cow::Owned(name))
    }
}

impl Method<'_> {
    pub(super) const fn number(&self) -> u32 {
        match self {
            Self::Number(number) => *number,
            Self::Name(_) => 0,
        }
    }

    pub(super) fn extensions(&self) -> Result<Vec<u8>, Refused> {
        extensions(self, None, &[])
    }

    /// The method with a name of its own.
    pub fn into_owned(self) -> Method<'static> {
        match self {
            Self::Number(number) => Method::Number(number),
            Self::Name(name) => Method::Name(Cow::Owned(name.into_owned())),
        }
    }
}

impl std::fmt::Display for Method<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl CallSpec<'_> {
    pub(super) const fn flags(&self) -> u8 {
        (if self.stream { flags::STREAM } else { 0 })
            | (if self.no_wait { flags::NO_WAIT } else { 0 })
            | (if self.batch { flags::BATCH } else { 0 })
    }

    pub(super) fn extensions(&self) -> Result<Vec<u8>, Refused> {
        extensions(&self.method, self.traceparent, self.extensions)
    }
}

impl SendSpec<'_> {
    #[inline]
    pub(super) fn header(&self, deadline: u64) -> Header {
        Header {
            flags: if self.batch { flags::BATCH } else { 0 },
            priority: self.priority.min(7),
            method: self.method.number(),
            handle: self.handle,
            call: self.tag,
            deadline,
            seq: self.parent,
            epoch: self.epoch,
            ..Header::new(Kind::Send)
        }
    }

    /// What it takes from the window: its padded frame length (SPEC 4.9).
    pub(crate) fn frame_bytes(&self, extension_bytes: usize) -> u64 {
        let len =
            HEADER_BYTES + extension_bytes + self.handles.len() * HANDLE_ENTRY_BYTES + self.payload.len();
        padded(len) as u64
    }
}

fn extensions(
    method: &Method<'_>,
    traceparent: Option<&str>,
    more: &[Extension<'_>],
) -> Result<Vec<u8>, Refused> {
    if traceparent.is_none() && more.is_empty() && matches!(method, Method::Number(_)) {
        return Ok(Vec::new());
    }
    let mut builder = ExtensionsBuilder::default();
    if let Method::Name(name) = method {
        if name.len() > METHOD_NAME_BYTES_MAX {
            return Err(Refused::MethodTooLong { bytes: name.len() });
        }
        builder.add(extension_type::METHOD_NAME, name.as_bytes());
    }
    if let Some(trace) = traceparent {
        if trace.len() > METHOD_NAME_BYTES_MAX {
            return Err(Refused::TraceTooLong { bytes: trace.len() });
        }
        builder.add(extension_type::TRACEPARENT, trace.as_bytes());
    }
    for extension in more {
        builder.add(extension.kind, extension.value);
    }
    Ok(builder.finish())
}

/// Appends a one-way message by a numbered method to a buffer that will be added to the session's
/// output, for room that [`super::Session::reserve`] gave. `deadline` is in broker time
/// ([`super::Session::to_broker_time`]); that of `spec` is not looked at. The payload must be within
/// the limit.
#[inline]
pub fn write_send(out: &mut Vec<u8>, spec: &SendSpec<'_>, deadline: u64) {
    write_send_with(out, spec, deadline, &[]);
}

#[inline]
pub(super) fn write_send_with(out: &mut Vec<u8>, spec: &SendSpec<'_>, deadline: u64, extensions: &[u8]) {
    write_frame(out, spec.header(deadline), extensions, spec.handles, spec.payload);
}

impl From<Refused> for CallError {
    fn from(refused: Refused) -> Self {
        let outcome = match &refused {
            Refused::Over => Outcome::PeerDied,
            Refused::TooManyCalls { .. } | Refused::NoRoom => Outcome::Busy,
            Refused::TooLarge { .. } => Outcome::TooLarge,
            Refused::TooManyHandles { .. }
            | Refused::MethodTooLong { .. }
            | Refused::TraceTooLong { .. }
            | Refused::UnknownHandle => Outcome::Invalid,
            Refused::NotOpen => Outcome::Cancelled,
        };
        Self::new(outcome, refused.to_string())
    }
}
