//! How a board is connected.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use switchboard_transport::paths::Instance;

use crate::driver::{Config, NoticeCallback, Shared, establish};
use crate::{Board, ConnectError, Notice, Reconnect};

/// Settings of a connection, made by [`Board::builder`].
///
/// ```
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let socket = broker.socket();
/// use std::time::Duration;
/// use switchboard::{Board, Reconnect};
///
/// let board = Board::builder()
///     .socket(socket)
///     .program("mixer")
///     .timeout(Duration::from_secs(5))
///     .reconnect(Reconnect::never())
///     .connect()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `connect`"]
pub struct BoardBuilder {
    config: Config,
}

/// Spinning takes the CPU from whoever could answer, unless there are some to spare.
const SPIN_CPUS_MIN: usize = 4;

impl Default for BoardBuilder {
    fn default() -> Self {
        Self {
            config: Config {
                socket: None,
                instance: None,
                program: program(),
                reconnect: Reconnect::default(),
                timeout: Some(Duration::from_secs(30)),
                connect_timeout: Duration::from_secs(10),
                spin: Duration::ZERO,
                on_notice: None,
            },
        }
    }
}

/// What this program is called by default: the file name of its executable.
fn program() -> String {
    std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_default()
}

impl BoardBuilder {
    /// The socket. Else `$SWITCHBOARD_SOCKET`, else the user instance's.
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.socket = Some(path.into());
        self
    }

    /// The system instance, whatever the environment says. There is no fallback from one instance to
    /// the other.
    pub fn system(mut self) -> Self {
        self.config.instance = Some(Instance::System);
        self
    }

    /// The user instance, whatever `$SWITCHBOARD_SOCKET` says.
    pub fn user(mut self) -> Self {
        self.config.instance = Some(Instance::User);
        self
    }

    /// What the program calls itself, for people; the broker keeps 64 bytes. Default: the name of
    /// its executable.
    pub fn program(mut self, program: impl Into<String>) -> Self {
        self.config.program = program.into();
        self
    }

    /// Whether and how a lost connection is made anew. Default: [`Reconnect::always`].
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.config.reconnect = reconnect;
        self
    }

    /// The deadline of calls that name none, from their start. Default: 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = Some(timeout);
        self
    }

    /// Calls that name no deadline have none.
    pub fn no_timeout(mut self) -> Self {
        self.config.timeout = None;
        self
    }

    /// How long connecting may take, handshake included. Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// How long a thread that waits looks for an answer again and again before it sleeps. Default:
    /// not at all. Off on machines of fewer than four CPUs, where it takes the CPU from whoever
    /// would answer; bounded to a millisecond.
    pub fn spin(mut self, duration: Duration) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        self.config.spin =
            if cpus < SPIN_CPUS_MIN { Duration::ZERO } else { duration.min(Duration::from_millis(1)) };
        self
    }

    /// Is called with every [`Notice`], by whatever thread of the board's read it. It must not wait;
    /// calls made in it may.
    pub fn on_notice(mut self, callback: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        let callback: NoticeCallback = Arc::new(callback);
        self.config.on_notice = Some(callback);
        self
    }

    /// Connects, and waits for the handshake.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says whether nobody was there, or who refused and why. Only later losses are
    /// mended by [`BoardBuilder::reconnect`].
    pub fn connect(self) -> Result<Board, ConnectError> {
        let established = establish(&self.config)?;
        Ok(Board { shared: Shared::new(self.config, established) })
    }

    /// Greets over a connected stream: for tests, and for children that inherited one. It cannot
    /// be made anew, so that it does not reconnect.
    #[doc(hidden)]
    pub fn connect_over(mut self, stream: switchboard_transport::Stream) -> Result<Board, ConnectError> {
        self.config.reconnect.enabled = false;
        let established = crate::driver::greet(stream, PathBuf::from("(inherited)"), &self.config)?;
        Ok(Board { shared: Shared::new(self.config, established) })
    }
}
