//! Many one-way messages, sent together.

use std::fmt;
use std::sync::Arc;

use switchboard_protocol::{HEADER_BYTES, Header, PART_HEADER_BYTES, flags, padded, part_bytes, write_part};

use crate::driver::{Shared, Target, after};
use crate::session::{Method, SendSpec, write_send};
use crate::{Board, CallError, Context, Service, Topic};

/// Collects one-way messages and sends them together: a message costs little more than copying it.
/// Made by [`Board::batch`]; sends what is left when it is dropped.
///
/// Consecutive small messages to the same target and method travel in one frame (SPEC 2.9), and each
/// arrives as the message it is. Messages of one batch stay in their order. What is sent beside the batch is not ordered with it
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
    /// The frame at the end of `frames` that further messages may go into.
    open: Option<OpenFrame>,
    /// The handle that was used last, and what is left of the room that was set aside there.
    outlet: Option<Outlet>,
}

/// A SEND whose payload is a batch of at least one message.
struct OpenFrame {
    /// Where it begins in `frames`.
    start: usize,
    method: u32,
    messages: u32,
}

struct Outlet {
    target: Arc<Target>,
    handle: u64,
    connection: u64,
    room: u64,
    payload_bytes_max: usize,
    /// The most that is put into one frame of many.
    frame_bytes_max: usize,
    /// In broker time; 0 for none.
    deadline: u64,
    /// In our time; 0 for none.
    our_deadline: u64,
    priority: u8,
    parent: u64,
}

/// Collected bytes are sent when they are this many.
const BATCH_BYTES: usize = 64 << 10;

/// A frame of many messages is at most this long: enough that its header costs nothing, and little
/// enough that what is behind it does not wait for long.
pub(crate) const FRAME_BYTES_MAX: usize = 32 << 10;

/// Longer messages get a frame of their own.
pub(crate) const PART_BYTES_MAX: usize = 4 << 10;

/// The most that padding adds to a frame of whole parts.
const FRAME_PADDING: u64 = 8;

impl Batch {
    pub(crate) fn new(board: &Board) -> Self {
        Self { board: Arc::clone(&board.shared), frames: Vec::new(), open: None, outlet: None }
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
        self.send_to(&service.target, method, payload)
    }

    /// Adds a message to be published; see [`Batch::send`].
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn publish(&mut self, topic: &Topic, payload: impl AsRef<[u8]>) -> Result<(), CallError> {
        self.send_to(topic.publisher(), 0, payload.as_ref())
    }

    #[inline]
    pub(crate) fn send_to(
        &mut self,
        target: &Arc<Target>,
        method: u32,
        payload: &[u8],
    ) -> Result<(), CallError> {
        if let (Some(open), Some(outlet)) = (&mut self.open, &mut self.outlet) {
            let bytes = part_bytes(payload.len());
            if open.method == method
                && outlet.room >= bytes as u64
                && self.frames.len() - open.start + bytes <= outlet.frame_bytes_max
                && payload.len() <= PART_BYTES_MAX
                && Arc::ptr_eq(&outlet.target, target)
            {
                outlet.room -= bytes as u64;
                open.messages += 1;
                write_part(&mut self.frames, 0, payload);
                return Ok(());
            }
        }
        self.begin_frame(target, method, payload)
    }

    /// A message that begins a frame: one of its own if it is long, else one for many.
    fn begin_frame(&mut self, target: &Arc<Target>, method: u32, payload: &[u8]) -> Result<(), CallError> {
        self.close_frame();
        if self.frames.len() >= BATCH_BYTES {
            self.flush()?;
        }
        let of_many = (HEADER_BYTES + part_bytes(payload.len())) as u64 + FRAME_PADDING;
        let alone = padded(HEADER_BYTES + payload.len()) as u64;
        let bytes = of_many.max(alone);
        let fits = match &self.outlet {
            Some(outlet) => {
                outlet.room >= bytes
                    && payload.len() <= outlet.payload_bytes_max
                    && Arc::ptr_eq(&outlet.target, target)
            }
            None => false,
        };
        if !fits {
            self.make_room(target, bytes, payload.len())?;
        }
        let outlet = self.outlet.as_mut().expect("room was made");
        let is_alone = payload.len() > PART_BYTES_MAX
            || HEADER_BYTES + part_bytes(payload.len()) > outlet.frame_bytes_max;
        let spec = SendSpec {
            method: Method::Number(method),
            handle: outlet.handle,
            priority: outlet.priority,
            parent: outlet.parent,
            batch: !is_alone,
            payload: if is_alone { payload } else { &[] },
            ..SendSpec::default()
        };
        let start = self.frames.len();
        write_send(&mut self.frames, &spec, outlet.deadline);
        if is_alone {
            outlet.room -= alone;
            return if self.frames.len() >= BATCH_BYTES { self.flush() } else { Ok(()) };
        }
        outlet.room -= of_many;
        write_part(&mut self.frames, 0, payload);
        self.open = Some(OpenFrame { start, method, messages: 1 });
        Ok(())
    }

    /// Completes the frame that is open: its length is known now. One that is for a single message
    /// becomes an ordinary one.
    fn close_frame(&mut self) {
        let Some(open) = self.open.take() else { return };
        let outlet = self.outlet.as_mut().expect("a frame is open on an outlet");
        let bytes = self.frames[open.start..].first_chunk().expect("a frame has a header");
        let mut header = Header::from_bytes(bytes).expect("it was written here");
        let mut end = self.frames.len();
        // What was set aside, of which some may be left over.
        let aside = (end - open.start) as u64 + FRAME_PADDING;
        if open.messages == 1 {
            header.flags &= !flags::BATCH;
            let payload = open.start + HEADER_BYTES;
            let len = self.frames[payload..].first_chunk().expect("a part has a header");
            end = payload + u32::from_le_bytes(*len) as usize;
            self.frames.copy_within(payload + PART_HEADER_BYTES..end + PART_HEADER_BYTES, payload);
        }
        header.len = (end - open.start) as u32;
        self.frames[open.start..open.start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
        let whole = padded(header.len as usize);
        self.frames.truncate(end);
        self.frames.resize(open.start + whole, 0);
        outlet.room += aside - whole as u64;
    }

    /// Sends what was collected, and waits until the socket has taken it. (Whether it was delivered:
    /// [`Board::flush`].)
    ///
    /// # Errors
    ///
    /// `PeerDied` if the connection is lost, `DeadlineExceeded` if the broker takes nothing. What was
    /// collected is then lost.
    pub fn flush(&mut self) -> Result<(), CallError> {
        self.close_frame();
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
    fn make_room(&mut self, target: &Arc<Target>, bytes: u64, payload_bytes: usize) -> Result<(), CallError> {
        // What waits in front may be what the room is taken by.
        self.flush()?;
        let context = Context::current();
        let own = self.board.config.timeout.map_or(0, after);
        let our_deadline = Context::inherit_deadline(context, own);
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
            payload_bytes_max,
            frame_bytes_max: FRAME_BYTES_MAX.min(HEADER_BYTES + payload_bytes_max),
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
