//! Many one-way messages, sent together.

use std::fmt;
use std::sync::Arc;

use crate::driver::{Shared, Target, after};
use crate::session::{Method, SendSpec, write_send};
use crate::{Board, CallError, Context, Service};

/// Collects one-way messages and sends them together: a message costs little more than copying it.
/// Made by [`Board::batch`]; sends what is left when it is dropped.
///
/// Messages of one batch stay in their order. What is sent beside the batch is not ordered with it
/// before [`Batch::flush`].
///
/// ```
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let socket = broker.socket();
/// # let board = switchboard::Board::builder().socket(socket).connect()?;
/// # let _log = board.serve("acme.log").start(|_| Ok(()))?;
/// let log = board.service("acme.log");
/// let mut batch = board.batch();
/// for line in ["one", "two", "three"] {
///     batch.send(&log, line)?;
/// }
/// batch.flush()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Batch {
    board: Arc<Shared>,
    frames: Vec<u8>,
    /// The handle that was used last, and what is left of the room that was set aside there.
    outlet: Option<Outlet>,
}

struct Outlet {
    target: Arc<Target>,
    handle: u64,
    connection: u64,
    room: u64,
    /// In broker time; 0 for none.
    deadline: u64,
    /// In our time; 0 for none.
    our_deadline: u64,
    priority: u8,
    parent: u64,
}

/// Collected bytes are sent when they are this many.
const BATCH_BYTES: usize = 64 << 10;

impl Batch {
    pub(crate) fn new(board: &Board) -> Self {
        Self { board: Arc::clone(&board.shared), frames: Vec::new(), outlet: None }
    }

    /// Adds a message for method 0, with the board's time-out. Sends what was collected if it is
    /// enough, and waits for room in the send window if there is none.
    ///
    /// # Errors
    ///
    /// As [`Service::send`]; the message was then not added.
    #[inline]
    pub fn send(&mut self, service: &Service, payload: impl AsRef<[u8]>) -> Result<(), CallError> {
        self.send_method(service, 0, payload.as_ref())
    }

    /// [`Batch::send`] for another method, by number.
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn send_method(&mut self, service: &Service, method: u32, payload: &[u8]) -> Result<(), CallError> {
        let mut spec = SendSpec { method: Method::Number(method), payload, ..SendSpec::default() };
        let bytes = spec.frame_bytes(0);
        let fits = match &self.outlet {
            Some(outlet) => outlet.room >= bytes && Arc::ptr_eq(&outlet.target, &service.target),
            None => false,
        };
        if !fits {
            self.make_room(service, bytes, payload.len())?;
        }
        let outlet = self.outlet.as_mut().expect("room was made");
        outlet.room -= bytes;
        spec.handle = outlet.handle;
        spec.priority = outlet.priority;
        spec.parent = outlet.parent;
        write_send(&mut self.frames, &spec, outlet.deadline);
        if self.frames.len() >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Sends what was collected, and waits until the socket has taken it. (Whether it was delivered:
    /// [`Board::flush`].)
    ///
    /// # Errors
    ///
    /// `PeerDied` if the connection is lost, `DeadlineExceeded` if the broker takes nothing. What was
    /// collected is then lost.
    pub fn flush(&mut self) -> Result<(), CallError> {
        let written = self.write();
        self.give_room_back();
        written
    }

    fn write(&mut self) -> Result<(), CallError> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let mut state = self.board.lock();
        let (connection, deadline) =
            self.outlet.as_ref().map_or((0, 0), |outlet| (outlet.connection, outlet.our_deadline));
        if connection != state.link.connection || !state.link.is_up {
            self.frames.clear();
            self.outlet = None;
            return Err(CallError::connection_lost(&state.link.why));
        }
        state.append_output(&mut self.frames);
        self.board.push_out(state, deadline, true)
    }

    #[cold]
    fn make_room(&mut self, service: &Service, bytes: u64, payload_bytes: usize) -> Result<(), CallError> {
        // What waits in front may be what the room is taken by.
        self.flush()?;
        let context = Context::current();
        let own = self.board.config.timeout.map_or(0, after);
        let our_deadline = Context::inherit_deadline(context, own);
        let target = &service.target;
        let board = Arc::clone(&self.board);
        let (state, handle) = board.handle_of(board.lock(), target, our_deadline)?;
        let (state, handle) = board.ensure_window(state, target, handle, our_deadline)?;
        let payload_bytes_max =
            state.session.welcome().map_or(0, |welcome| welcome.payload_bytes_max as usize);
        if payload_bytes > payload_bytes_max {
            let refused = crate::session::Refused::TooLarge { bytes: payload_bytes, payload_bytes_max };
            return Err(refused.into());
        }
        let (state, room) = board.reserve(state, handle, bytes, BATCH_BYTES as u64, our_deadline);
        let outlet = room.map(|room| Outlet {
            target: Arc::clone(target),
            handle,
            connection: state.link.connection,
            room,
            deadline: state.session.to_broker_time(our_deadline),
            our_deadline,
            priority: context.map_or(0, |context| context.priority),
            parent: state.parent(context.map(|context| (context.request, context.connection))),
        });
        board.release(state);
        self.outlet = Some(outlet?);
        Ok(())
    }

    fn give_room_back(&mut self) {
        if let Some(outlet) = self.outlet.take() {
            let mut state = self.board.lock();
            if outlet.connection == state.link.connection {
                state.session.release(outlet.handle, outlet.room);
            }
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // Who wants to know calls `flush`.
        let _ = self.flush();
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("bytes", &self.frames.len()).finish_non_exhaustive()
    }
}
