//! Processes of this same executable, which end when we do, kill -9 included.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use switchboard_transport::spawn::{self, Signal, Spawn};
use switchboard_transport::{Interest, Poller};

use crate::failure::Failure;

/// The line by which a child tells that it is ready.
pub(crate) const READY: &str = "ready";
/// How long a child may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// A child of a bench hears nothing for so long: the rest never comes.
pub(crate) const SILENCE: Duration = Duration::from_secs(20);

/// A running child. Killed and waited for when dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    stdout: BufReader<ChildStdout>,
    what: String,
}

/// What to start.
pub(crate) struct Start {
    what: String,
    arguments: Vec<OsString>,
    quiet: bool,
}

impl Start {
    /// This executable, talking to the broker at `socket`.
    pub(crate) fn new(what: &str, socket: &Path) -> Self {
        let arguments = vec!["--socket".into(), socket.into()];
        Self { what: what.to_owned(), arguments, quiet: false }
    }

    pub(crate) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Its stderr is not for the user.
    pub(crate) fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Starts it. To be called on a thread that lives as long as the child should.
    pub(crate) fn spawn(self) -> Result<Peer, Failure> {
        let failed = |error: io::Error| Failure::ended(format_args!("cannot start {}: {error}", self.what));
        let mut spawn = Spawn::new(executable());
        let command = spawn.command();
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        if self.quiet {
            command.stderr(Stdio::null());
        }
        let mut child = spawn.spawn().map_err(failed)?;
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Ok(Peer { child, stdout, what: self.what })
    }
}

impl Peer {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it is ready. What it complains about is on our stderr already.
    pub(crate) fn wait_ready(&mut self) -> Result<(), Failure> {
        let line = self.read_line(Some(READY_WITHIN));
        if line.as_deref().is_ok_and(|line| line == READY) {
            return Ok(());
        }
        let why = match (self.child.try_wait(), line) {
            (Ok(Some(status)), _) => crate::exec::describe(status).0,
            (_, Err(error)) => error.to_string(),
            (_, Ok(_)) => "it ended".to_owned(),
        };
        Err(Failure::ended(format_args!("{} did not start: {why}", self.what)))
    }

    /// The next line of its stdout, which is JSON. What it complains about is on our stderr already. Waits
    /// as long as it lives: it knows best when there is nothing to wait for any more.
    pub(crate) fn read_report<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let why = match self.read_line(None) {
            Ok(line) if !line.is_empty() => match serde_json::from_str(&line) {
                Ok(report) => return Ok(report),
                Err(error) => error.to_string(),
            },
            Ok(_) => "it ended".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(Failure::ended(format_args!("Failed: {} did not report: {why}", self.what)))
    }

    fn read_line(&mut self, within: Option<Duration>) -> io::Result<String> {
        let mut poller = Poller::new()?;
        poller.add(self.stdout.get_ref().as_fd(), 0, Interest::READ)?;
        let end = within.map(|within| Instant::now() + within);
        let mut ready = Vec::new();
        // What was read already may hold the line.
        while ready.is_empty() && self.stdout.buffer().is_empty() {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                let within = within.unwrap_or_default().as_secs();
                return Err(io::Error::other(format!("nothing heard of it for {within} s")));
            }
            poller.wait(&mut ready, left)?;
        }
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// As `kill -9` would; and it is buried, so that the kernel tells others how it ended.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Asks it to end, and waits. `None` if it did not in time.
    pub(crate) fn terminate(&mut self, within: Duration) -> io::Result<Option<ExitStatus>> {
        spawn::signal(&self.child, Signal::TERM)?;
        let end = Instant::now() + within;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(None)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This executable, also if the file was replaced meanwhile.
fn executable() -> PathBuf {
    match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        _ => PathBuf::from("/proc/self/exe"),
    }
}
