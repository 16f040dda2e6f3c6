//! A connection to the broker.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use switchboard_protocol::control::{Opened, Operation};
use switchboard_protocol::{ObjectKind, PeerId, Rights, Verb};

use crate::driver::{Awaits, Shared, Target, Until, after};
use crate::{Batch, BoardBuilder, CallError, ConnectError, Handle, Notice, ServeBuilder, Service};

/// A connection to the broker, shared by all its clones.
///
/// Any number of threads may call, send and serve through it at the same time. There is no thread
/// behind it: whoever waits reads for everyone. What it is *for* is in [`Board::service`] (to call)
/// and [`Board::serve`] (to be called).
///
/// ```
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let socket = broker.socket();
/// # let other = switchboard::Board::builder().socket(socket).connect()?;
/// # let _upper = other.serve("acme.upper").start(|request| Ok(request.payload().to_ascii_uppercase()))?;
/// let board = switchboard::Board::builder().socket(socket).connect()?;
/// let reply = board.service("acme.upper").call("hello")?;
/// assert_eq!(&reply[..], b"HELLO");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Board {
    pub(crate) shared: Arc<Shared>,
}

/// Notices, as they come. Made by [`Board::events`]; ends when the connection is lost for good.
#[derive(Debug)]
pub struct Notices {
    board: Board,
}

impl Board {
    /// Connects to the broker of this user: `$SWITCHBOARD_SOCKET`, else the user instance.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], where nobody was reached or who was refused.
    pub fn connect() -> Result<Self, ConnectError> {
        Self::builder().connect()
    }

    /// Connects otherwise.
    pub fn builder() -> BoardBuilder {
        BoardBuilder::default()
    }

    /// A service by name, to be called. Nothing is asked of the broker before the first call, which
    /// opens a handle that all uses of the name on this board share.
    ///
    /// A name that is none ends its calls with `Invalid`.
    pub fn service(&self, name: &str) -> Service {
        Service { target: Target::shared(&self.shared, name, ObjectKind::Service, Verb::Call.right()) }
    }

    /// A handle on a name with these rights, asked for at once: to be passed on (with `delegate`), or
    /// to be narrowed.
    ///
    /// # Errors
    ///
    /// `Denied` where policy gives less than all of them, `Invalid` for a bad name, `Busy` beyond the
    /// quota of handles.
    pub fn open(&self, name: &str, rights: Rights) -> Result<Handle, CallError> {
        let target = Target::named(Arc::clone(&self.shared), name, ObjectKind::Service, rights.0);
        let deadline = self.shared.default_deadline();
        let (state, _) = self.shared.handle_of(self.shared.lock(), &target, deadline)?;
        self.shared.release(state);
        Ok(Handle::of(Arc::new(target), rights))
    }

    /// Wants to own a name and answer its calls.
    pub fn serve(&self, name: &str) -> ServeBuilder {
        ServeBuilder::new(self, name)
    }

    /// A service without a name, which is reached only through the handles passed on from
    /// [`crate::Server::reference`].
    pub fn private(&self) -> ServeBuilder {
        ServeBuilder::new(self, "")
    }

    /// Collects one-way messages and sends them together.
    pub fn batch(&self) -> Batch {
        Batch::new(self)
    }

    /// Waits until the broker has taken in everything that was sent before, and tells of one-way
    /// messages that were not delivered, as far as is known by then, since the last flush.
    ///
    /// # Errors
    ///
    /// Why the last of them was not delivered; the message says how many. `PeerDied` if the
    /// connection is lost.
    pub fn flush(&self) -> Result<(), CallError> {
        // Frames are handled in order, so that an answer comes after everything before it.
        let body = switchboard_protocol::control::OnPeer { peer: 0 };
        self.shared.control_raw(Operation::Identify, &body, self.shared.default_deadline())?;
        self.shared.lock().notices.take_failures()
    }

    /// What happens to the connection and to handles, as it comes. At most 1024 wait to be fetched;
    /// beyond, the oldest are dropped, and counted in [`Notice::Lost`]. See also
    /// [`BoardBuilder::on_notice`].
    pub fn events(&self) -> Notices {
        Notices { board: self.clone() }
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.shared.lock().link.is_up
    }

    /// Whether it was closed, or lost for good.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// This connection, as the broker names it; `None` while there is none.
    pub fn peer(&self) -> Option<PeerId> {
        self.shared.lock().session.welcome().map(|welcome| PeerId::from_wire(welcome.peer))
    }

    /// The largest payload that the broker takes, in bytes; 0 while there is no connection.
    pub fn payload_bytes_max(&self) -> usize {
        self.shared.lock().session.welcome().map_or(0, |welcome| welcome.payload_bytes_max as usize)
    }

    /// Ends the connection for all clones. Open calls end with `PeerDied`, servers stop.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.link.is_closed = true;
        // Before anything is written: the lock is released for that, and the broker may be quick to
        // close as well.
        let servings: Vec<u64> = state.servers.keys().copied().collect();
        servings.into_iter().for_each(|serving| state.end_server(serving, Ok(())));
        state.session.goodbye();
        let (mut state, _) = self.shared.write(state);
        state.lose("it was closed by this program");
        state.wake_all();
        self.shared.release(state);
    }

    pub(crate) fn opened_handle(&self, opened: &Opened, connection: u64) -> Handle {
        Handle::held(&self.shared, opened.handle, Rights(opened.rights), connection)
    }
}

impl Notices {
    /// The next notice, waited for at most so long.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Notice> {
        self.fetch(Until::At(after(timeout)))
    }

    /// The next notice, if one is there; never waits.
    pub fn try_next(&mut self) -> Option<Notice> {
        let state = self.board.shared.peek(self.board.shared.lock());
        let mut state = state;
        let notice = state.notices.pop();
        self.board.shared.write_and_release(state);
        notice
    }

    fn fetch(&mut self, until: Until) -> Option<Notice> {
        let shared = &self.board.shared;
        let (state, notice) = shared.wait(
            shared.lock(),
            until,
            Awaits::Notice,
            |_, _| {},
            |state| match state.notices.pop() {
                Some(notice) => Some(Some(notice)),
                None if !state.link.is_up && (!state.link.reconnects || state.link.is_closed) => Some(None),
                None => None,
            },
        );
        shared.release(state);
        notice.flatten()
    }
}

impl Iterator for Notices {
    type Item = Notice;

    fn next(&mut self) -> Option<Notice> {
        self.fetch(Until::Forever)
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("connected", &self.is_connected()).field("peer", &self.peer()).finish()
    }
}
