//! The whole daemon: what it needs before the loop, the loop with its host, and the end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use switchboard_config::{Driver, Loaded};
use switchboard_core::{Broker, Instance, Settings};
use switchboard_protocol::Instant;
use switchboard_transport::directories::DirectoryError;
use switchboard_transport::{
    BindError, BindOptions, Listener, Waker, clock, inherited_sockets, limits, paths, process, random_seed,
};

use crate::buffer::Slice;
use crate::host::{Host, Wish};
use crate::incarnation::{StateDirectory, StateError};
use crate::logger::Level;
use crate::options::Resolved;
use crate::reactor::Reactor;
use crate::settings;

/// How long the end may take, in nanoseconds. Nobody who reads what it is told needs as long.
const END: u64 = 3_000_000_000;

/// Why a broker did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong; every diagnostic as text.
    #[error("{0}")]
    Config(String),
    /// There is no place for its state.
    #[error("no home directory to keep state in; say where with --state-dir")]
    NoStateDirectory,
    /// The socket is somebody else's, or cannot be made.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The socket's directory will not do.
    #[error("directory of the socket: {0}")]
    Directory(#[from] DirectoryError),
    /// The state directory will not do.
    #[error("{0}")]
    State(String),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl StartError {
    /// The program's exit status for it (CLI): 2 for wrong usage or configuration, else 1.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Config(_) | Self::NoStateDirectory => 2,
            Self::Bind(_) | Self::Directory(_) | Self::State(_) | Self::System { .. } => 1,
        }
    }
}

impl From<StateError> for StartError {
    fn from(error: StateError) -> Self {
        Self::State(error.to_string())
    }
}

/// A daemon that listens.
pub(crate) struct Daemon {
    reactor: Reactor,
    host: Host,
    options: Resolved,
    open_files: u64,
    loaded: (Sender<Reread>, Receiver<Reread>),
    loading: bool,
    /// Somebody asked again while it is being read.
    stale: bool,
    /// Locked as long as the daemon runs.
    _state: StateDirectory,
}

type Reread = Result<Settings, String>;

/// Who hosts it.
pub(crate) enum Hosting {
    /// This process is the daemon.
    Process,
    /// It is a thread of another program, which stops it so.
    Thread(Arc<Waker>),
}

impl Daemon {
    /// Does everything that can go wrong before the first connection. When this returns, the socket
    /// accepts.
    pub(crate) fn start(options: Resolved, loaded: Loaded, hosting: Hosting) -> Result<Self, StartError> {
        let system = |what| move |source| StartError::System { what, source };
        let open_files = limits::raise_open_files();
        let Loaded { mut settings, driver, .. } = loaded;
        let lowered = settings::fit(&mut settings.limits, open_files);
        let segment_bytes = settings.limits.segment_bytes;
        let (connections_max, files) = (settings.limits.connections_max, settings.files.len());

        let state = options.state_directory.as_deref().ok_or(StartError::NoStateDirectory)?;
        let state = StateDirectory::open(state)?;
        let (listeners, source) = listen(&options, &hosting, &driver)?;
        let incarnation = state.next_incarnation()?;

        let secret = random_seed().map_err(system("cannot get random bits"))?;
        let core = core(settings, incarnation, secret, &options);
        let spin = options.spin(driver.spin);
        let mut reactor = Reactor::new(core, listeners, spin).map_err(system("cannot set up the loop"))?;
        reactor.read_wall_clock().map_err(system("cannot read the clock"))?;
        reactor.open_log(state.path(), segment_bytes).map_err(system("cannot set up the log"))?;
        if let Some(bytes) = driver.recorder {
            reactor.record(state.path(), bytes, driver.recorder_payloads, incarnation);
        }
        let host = match hosting {
            Hosting::Process => Host::of_process(&reactor.poller),
            Hosting::Thread(stop) => Host::of_thread(&reactor.poller, stop),
        };
        let host = host.map_err(system("cannot listen to signals"))?;
        let instance = format!("{:?}", options.instance).to_lowercase();
        let configured = match files {
            0 => "without configuration files".to_owned(),
            count => format!("configured by {count} files"),
        };
        let status =
            format!("listening on {source}, {instance} instance, incarnation {incarnation}, {configured}");
        host.ready(&status);
        reactor.logger.note(Level::Info, status);
        if let Some(wanted) = lowered {
            let text = format!(
                "connections_max = {wanted} needs more open files than the {open_files} this process may have; \
                 {} connections are admitted (raise LimitNOFILE)",
                connections_max
            );
            reactor.logger.note(Level::Warn, text);
        }
        Ok(Self {
            reactor,
            host,
            options,
            open_files,
            loaded: channel(),
            loading: false,
            stale: false,
            _state: state,
        })
    }

    /// The socket, where it is ours.
    pub(crate) fn socket(&self) -> PathBuf {
        self.options.socket.path.clone()
    }

    /// Runs until the host wants it to stop and everybody was told.
    pub(crate) fn run(mut self) -> Result<(), StartError> {
        while self.turn()? {}
        self.host.stopping();
        self.reactor.now = clock::monotonic_ns();
        self.reactor.shut_down();
        let until = clock::monotonic_ns().saturating_add(END);
        while self.reactor.links.len() > 0 && clock::monotonic_ns() < until {
            let left = std::time::Duration::from_nanos(until.saturating_sub(clock::monotonic_ns()));
            self.reactor.turn(Some(left)).map_err(wait_failed)?;
        }
        if let Some(log) = self.reactor.log.take()
            && let Err(failure) = log.close()
        {
            self.reactor.logger.note(Level::Error, format!("the log did not end well: {failure}"));
        }
        self.reactor.logger.note(Level::Info, "ended");
        Ok(())
    }

    /// One turn of the loop; false when the host wants an end.
    fn turn(&mut self) -> Result<bool, StartError> {
        let patience = self.host.patience();
        self.reactor.turn(patience).map_err(wait_failed)?;
        for token in self.reactor.take_calls() {
            match self.host.wish(token) {
                Some(Wish::Stop) => return Ok(false),
                Some(Wish::Reload) => self.reload(),
                Some(Wish::Look) => self.take_loaded(),
                None => {}
            }
        }
        if self.reactor.take_reload_wanted() {
            self.reload();
        }
        Ok(true)
    }

    /// Has the configuration read by another thread: files can be slow.
    fn reload(&mut self) {
        // What is being read may have been changed since: read it again, and answer with that.
        self.stale = self.loading;
        if self.loading {
            return;
        }
        self.loading = true;
        self.host.reloading();
        let (options, sender, news) = (self.options.clone(), self.loaded.0.clone(), self.host.news());
        let spawned = thread::Builder::new().name("reload".into()).spawn(move || {
            // The daemon may have ended meanwhile.
            let _ = sender.send(settings::load(&options).map(|loaded| loaded.settings));
            news.wake();
        });
        if let Err(error) = spawned {
            self.finish_reload(Err(format!("cannot start a thread to read the configuration: {error}")));
        }
    }

    fn take_loaded(&mut self) {
        while let Ok(loaded) = self.loaded.1.try_recv() {
            if std::mem::take(&mut self.stale) {
                self.loading = false;
                self.reload();
            } else {
                self.finish_reload(loaded);
            }
        }
    }

    fn finish_reload(&mut self, mut loaded: Reread) {
        self.loading = false;
        if let Ok(settings) = &mut loaded {
            settings::fit(&mut settings.limits, self.open_files);
        }
        self.host.ready(if loaded.is_ok() {
            "new configuration is in force"
        } else {
            "the new configuration is wrong; the old one stays in force"
        });
        self.reactor.reloaded(loaded);
    }
}

fn core(settings: Settings, incarnation: u32, secret: [u64; 2], options: &Resolved) -> Broker<Slice> {
    let instance = Instance {
        incarnation,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: process::id(),
        system: options.instance == paths::Instance::System,
        secret,
    };
    Broker::new(settings, instance, Instant(clock::monotonic_ns()))
}

fn wait_failed(source: io::Error) -> StartError {
    StartError::System { what: "cannot wait for connections", source }
}

/// The sockets: that which systemd hands over or one of our own, and those of the configuration.
/// Also says where the first one is.
fn listen(
    options: &Resolved,
    hosting: &Hosting,
    driver: &Driver,
) -> Result<(Vec<Listener>, String), StartError> {
    let mut listeners = Vec::new();
    let mut source = options.socket.path.display().to_string();
    if matches!(hosting, Hosting::Process) && options.takes_inherited_socket() {
        let adopt = |(socket, _)| Listener::from_fd(socket);
        listeners =
            inherited_sockets().into_iter().map(adopt).collect::<io::Result<_>>().map_err(|source| {
                StartError::System { what: "cannot use the service manager's socket", source }
            })?;
    }
    if listeners.is_empty() {
        options.socket.prepare_to_listen()?;
        listeners.push(Listener::bind(&options.socket.path, BindOptions { mode: options.socket_mode() })?);
    } else {
        source.push_str(" (the service manager's socket)");
    }
    for listen in &driver.listens {
        listeners.push(Listener::bind(&listen.path, BindOptions { mode: listen.mode })?);
    }
    Ok((listeners, source))
}
