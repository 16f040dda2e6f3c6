//! What the demo plays on: a temporary folder, a broker, services. All of it goes when this is dropped.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use switchboard::{Board, Reconnect};
use tempfile::TempDir;

use super::report::Held;
use crate::children::{Peer, Start};
use crate::failure::Failure;

/// The order of the fields is the order in which they go: nobody works in a folder that is gone.
pub(crate) struct Stage {
    pub(crate) board: Board,
    pub(crate) echo: Option<Peer>,
    pub(crate) slow: Option<Peer>,
    others: Vec<Peer>,
    broker: Peer,
    socket: PathBuf,
    folder: TempDir,
}

/// What the steps need beside the defaults.
const CONFIG: &str = "log = \"error\"\n[topic.\"demo.weather\"]\nretain = true\n";
const START_WITHIN: Duration = Duration::from_secs(10);
/// SIGTERM ends the daemon cleanly within this time.
const END_WITHIN: Duration = Duration::from_secs(5);
/// Of calls that name no deadline: no step is to take longer.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Stage {
    /// Starts a broker, and says how long it took to the first connection.
    pub(crate) fn start() -> Result<(Self, Held), Failure> {
        let folder = tempfile::Builder::new().prefix("switchboard-demo-").tempdir().map_err(|error| {
            let place = std::env::temp_dir();
            Failure::ended(format_args!("cannot make a folder in {}: {error}", place.display()))
        })?;
        let config = folder.path().join("switchboard.toml");
        std::fs::write(&config, CONFIG).map_err(Failure::ended)?;
        let socket = folder.path().join("switchboard.sock");
        let start = Instant::now();
        let broker = start_broker(folder.path(), &socket)?;
        let mut stage = Starting { broker, socket, folder };
        let board = connect(&stage.socket, &mut stage.broker, start)?;
        let took = start.elapsed();
        let seen = format!("process {} has accepted its first connection", stage.broker.pid());
        let Starting { broker, socket, folder } = stage;
        let stage = Self { board, echo: None, slow: None, others: Vec::new(), broker, socket, folder };
        Ok((stage, Held::new(seen, took)))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command of this executable that talks to the stage's broker.
    pub(crate) fn command(&self, what: &str) -> Start {
        Start::new(what, &self.socket).quiet()
    }

    /// Has a process run to the end of the demo.
    pub(crate) fn keep(&mut self, peer: Peer) {
        self.others.push(peer);
    }

    /// Kills the broker as `kill -9` would, and starts it again on what it has written. Says how long it
    /// was away.
    pub(crate) fn restart_broker(&mut self) -> Result<Duration, Failure> {
        let start = Instant::now();
        self.broker.kill().map_err(Failure::ended)?;
        self.broker = start_broker(self.folder.path(), &self.socket)?;
        self.board = connect(&self.socket, &mut self.broker, start)?;
        Ok(start.elapsed())
    }

    /// Ends everything, the broker last and politely, and sees that nothing is left.
    pub(crate) fn end(mut self) -> Result<Held, Failure> {
        let start = Instant::now();
        self.board.close();
        self.echo = None;
        self.slow = None;
        self.others.clear();
        let ended = self.broker.terminate(END_WITHIN).map_err(Failure::ended)?;
        let took = start.elapsed();
        match ended {
            Some(status) if status.success() => {}
            Some(status) => {
                let how = crate::exec::describe(status).0;
                return Err(Failure::ended(format_args!("the broker {how} on SIGTERM")));
            }
            None => return Err(Failure::ended("the broker did not end within 5 s of SIGTERM")),
        }
        let path = self.folder.path().to_owned();
        self.folder.close().map_err(Failure::ended)?;
        if path.exists() {
            return Err(Failure::ended(format_args!("{} is still there", path.display())));
        }
        Ok(Held::new("the broker ended cleanly, no process and no file is left", took))
    }
}

/// A broker that may not listen yet.
struct Starting {
    broker: Peer,
    socket: PathBuf,
    folder: TempDir,
}

fn start_broker(folder: &Path, socket: &Path) -> Result<Peer, Failure> {
    Start::new("the broker", socket)
        .args(["internal", "broker", "--config"])
        .arg(folder.join("switchboard.toml"))
        .arg("--state-dir")
        .arg(folder.join("state"))
        .spawn()
}

fn connect(socket: &Path, broker: &mut Peer, start: Instant) -> Result<Board, Failure> {
    loop {
        let builder = Board::builder().socket(socket).program("switchboard demo").timeout(TIMEOUT);
        let error = match builder.reconnect(Reconnect::never()).connect() {
            Ok(board) => return Ok(board),
            Err(error) => error,
        };
        if let Some(status) = broker.ended() {
            let how = crate::exec::describe(status).0;
            return Err(Failure::ended(format_args!("the broker {how} before it listened")));
        }
        if start.elapsed() > START_WITHIN {
            return Err(Failure::ended(format_args!("the broker does not answer: {error}")));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
