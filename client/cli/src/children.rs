//! Processes of this same executable, which end when we do, kill -9 included.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use switchboard_transport::spawn::Spawn;
use switchboard_transport::{Interest, Poller};

use crate::failure::Failure;

/// The line by which a child tells that it is ready.
pub(crate) const READY: &str = "ready";
/// How long a child may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(10);

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
}

impl Start {
    /// This executable, talking to the broker at `socket`.
    pub(crate) fn new(what: &str, socket: &Path) -> Self {
        let arguments = vec!["--socket".into(), socket.into()];
        Self { what: what.to_owned(), arguments }
    }

    pub(crate) fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Starts it. To be called on a thread that lives as long as the child should.
    pub(crate) fn spawn(self) -> Result<Peer, Failure> {
        let failed = |error: io::Error| Failure::ended(format_args!("cannot start {}: {error}", self.what));
        let mut spawn = Spawn::new(executable());
        let command = spawn.command();
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = spawn.spawn().map_err(failed)?;
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Ok(Peer { child, stdout, what: self.what })
    }
}

impl Peer {
    /// Waits until it says that it is ready. What it complains about is on our stderr already.
    pub(crate) fn wait_ready(&mut self) -> Result<(), Failure> {
        let line = self.read_line(READY_WITHIN);
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

    fn read_line(&mut self, within: Duration) -> io::Result<String> {
        let mut poller = Poller::new()?;
        poller.add(self.stdout.get_ref().as_fd(), 0, Interest::READ)?;
        let end = Instant::now() + within;
        let mut ready = Vec::new();
        while ready.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::other(format!("nothing heard of it for {} s", within.as_secs())));
            }
            poller.wait(&mut ready, Some(left))?;
        }
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
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
