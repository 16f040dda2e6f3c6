//! From nothing to a greeted connection.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use switchboard_protocol::{GoodbyeReason, HANDLE_ENTRY_BYTES, HANDLES_MAX, HEADER_BYTES};
use switchboard_transport::paths::Environment;
use switchboard_transport::{Fds, Interest, Stream, clock};

use super::config::Config;
use crate::session::{Event, Inbox, Session, Violation};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No broker could be reached at the socket.
    #[error(transparent)]
    Socket(#[from] switchboard_transport::ConnectError),
    /// The directory of the default socket could be somebody else's trap.
    #[error(transparent)]
    Directory(#[from] switchboard_transport::directories::DirectoryError),
    /// The broker answered with an end (SPEC 1.8).
    #[error("the broker at {} refused the connection ({reason:?}): {message}", path.display())]
    Refused {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        reason: GoodbyeReason,
        /// The broker's words.
        message: String,
    },
    /// What is at the socket does not speak the protocol.
    #[error("what listens at {} is no Switchboard broker of this version: {violation}", path.display())]
    Protocol {
        /// The socket's path.
        path: PathBuf,
        /// What was wrong.
        violation: Violation,
    },
    /// The broker accepted, but did not answer in time.
    #[error("the broker at {} did not answer within {timeout:?}", path.display())]
    TimedOut {
        /// The socket's path.
        path: PathBuf,
        /// How long was waited.
        timeout: Duration,
    },
    /// The connection broke before the handshake was done.
    #[error("the broker at {} closed the connection during the handshake", path.display())]
    Closed {
        /// The socket's path.
        path: PathBuf,
    },
    /// The system refused something else.
    #[error("the connection to {} failed: {source}", path.display())]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ConnectError {
    /// Whether no broker was reached at all (as opposed to one that refused).
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Socket(_) | Self::Directory(_) | Self::TimedOut { .. } | Self::Closed { .. })
    }
}

/// A greeted connection.
pub(crate) struct Established {
    pub(crate) stream: Arc<Stream>,
    pub(crate) session: Session,
    pub(crate) inbox: Inbox,
}

/// Connects to the broker that `config` means, and greets it.
pub(crate) fn establish(config: &Config) -> Result<Established, ConnectError> {
    let socket = Environment::from_process().socket(config.socket.as_deref(), config.instance);
    socket.check_to_connect()?;
    let stream = switchboard_transport::connect(&socket.path)?;
    greet(stream, socket.path, config)
}

/// Greets over a connected stream.
pub(crate) fn greet(stream: Stream, path: PathBuf, config: &Config) -> Result<Established, ConnectError> {
    let io_error = |source: io::Error| ConnectError::Io { path: path.clone(), source };
    let now = clock::monotonic_ns();
    let until = now.saturating_add(config.connect_timeout.as_nanos() as u64);
    let mut session = Session::new(now, &config.program);
    let mut inbox = Inbox::new();
    let hello = session.output().to_vec();
    session.output().clear();
    let sent = stream.send(&[io::IoSlice::new(&hello)], &[]);
    match sent {
        Ok(count) if count == hello.len() => {}
        // A fresh socket takes a hundred bytes.
        Ok(_) => return Err(ConnectError::Closed { path }),
        // It may have said goodbye before it closed: read on.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(io_error(error)),
    }
    loop {
        let now = clock::monotonic_ns();
        let frame = inbox.next_frame();
        let event = match frame {
            Ok(None) => {
                if now >= until {
                    return Err(ConnectError::TimedOut { path, timeout: config.connect_timeout });
                }
                let wait = Duration::from_nanos(until - now);
                stream.wait(Interest::READ, Some(wait)).map_err(io_error)?;
                let mut fds = Fds::new();
                match stream.recv(inbox.space(), &mut fds) {
                    Ok(got) if got.bytes == 0 => return Err(ConnectError::Closed { path }),
                    Ok(got) => inbox.filled(got.bytes),
                    Err(error) if is_transient(&error) => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                        return Err(ConnectError::Closed { path });
                    }
                    Err(error) => return Err(io_error(error)),
                }
                continue;
            }
            Ok(Some(frame)) => session.handle(now, frame),
            Err(error) => Err(error.into()),
        };
        match event {
            Ok(Some(Event::Welcomed(welcome))) => {
                inbox.set_frame_bytes_max(frame_bytes_max(welcome.payload_bytes_max));
                return Ok(Established { stream: Arc::new(stream), session, inbox });
            }
            Ok(Some(Event::Goodbye(farewell))) => {
                return Err(ConnectError::Refused {
                    path,
                    reason: farewell.reason,
                    message: farewell.message,
                });
            }
            Ok(_) => {}
            Err(violation) => return Err(ConnectError::Protocol { path, violation }),
        }
    }
}

/// The longest frame that a broker with that limit on payloads has reason to send.
fn frame_bytes_max(payload_bytes_max: u32) -> usize {
    // The broker's own answers (lists, status) may be longer than a very small payload limit.
    (payload_bytes_max as usize).max(1 << 20)
        + HEADER_BYTES
        + usize::from(switchboard_protocol::EXTENSION_BYTES_MAX)
        + usize::from(HANDLES_MAX) * HANDLE_ENTRY_BYTES
}

/// Not an error of the connection.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::TimedOut)
}
