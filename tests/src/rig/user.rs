//! Other users: real processes under other user ids, through which a test speaks. The broker sees
//! their ids from the kernel, as it would anybody's.

use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use switchboard_transport::spawn::Spawn;
use switchboard_transport::{Stream, process};

use super::client::Client;
use super::programs::peer_program;
use super::watchdog::Watchdog;

/// A user of this machine; nobody needs to have registered the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: &'static [u32],
}

/// A user without rights.
pub const ALICE: User = User { uid: 61_001, gid: 61_001, groups: &[] };

/// Another one.
pub const BOB: User = User { uid: 61_002, gid: 61_002, groups: &[] };

/// Many connections of one process.
#[derive(Debug)]
pub struct Crowd {
    child: Child,
    /// Closed to end it.
    _stdin: ChildStdin,
    lines: BufReader<ChildStdout>,
}

/// A helper program as a process.
#[derive(Debug)]
pub struct Helper {
    child: Child,
}

/// Whether processes can be started as other users. Where the tests must not be skipped
/// (`SWITCHBOARD_REQUIRE_ROOT=1`, as in CI), not being root is a failure.
pub fn has_root(test: &str) -> bool {
    if process::effective_uid() == 0 {
        return true;
    }
    assert!(
        std::env::var_os("SWITCHBOARD_REQUIRE_ROOT").is_none_or(|value| value != "1"),
        "{test} starts processes as other users, which needs root"
    );
    eprintln!("NOT TESTED: {test} starts processes as other users, which needs root; run it as root");
    false
}

/// This very user.
fn ourselves() -> User {
    User { uid: process::effective_uid(), gid: process::effective_gid(), groups: &[] }
}

impl User {
    /// The user who runs the tests, in a process of its own.
    pub fn ourselves() -> Self {
        ourselves()
    }

    /// This user, also in these groups.
    #[must_use]
    pub const fn in_groups(self, groups: &'static [u32]) -> Self {
        Self { groups, ..self }
    }

    /// A connection of a process of this user that has not said a word.
    pub fn silent(&self, socket: &Path) -> Client {
        let (ours, theirs) = Stream::pair().expect("a pair of sockets");
        let mut spawn = self.spawn(&["relay"], socket);
        spawn.command().stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        let child = spawn.spawn().expect("rig-peer starts");
        Client::over(ours).through(child)
    }

    /// A connection of a process of this user.
    pub fn connect(&self, socket: &Path) -> Client {
        self.silent(socket).greeted()
    }

    /// `count` connections of one process of this user, all of them handshaken in time.
    pub fn crowd(&self, socket: &Path, count: usize) -> Crowd {
        let mut spawn = self.spawn(&["crowd", &count.to_string()], socket);
        spawn.command().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn.spawn().expect("rig-peer starts");
        let stdin = child.stdin.take().expect("a pipe");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Crowd { child, _stdin: stdin, lines }
    }

    /// The process of a helper program as this user, with the socket and these words as arguments. It
    /// ends when what this gives is dropped.
    pub fn run(&self, program: &Path, socket: &Path, words: &[&str]) -> Helper {
        let mut spawn = self.program(program, socket);
        spawn.command().args(words).stdin(Stdio::piped()).stdout(Stdio::null());
        Helper { child: spawn.spawn().expect("the helper starts") }
    }

    fn spawn(&self, role: &[&str], socket: &Path) -> Spawn {
        let mut spawn = self.program(&peer_program(), socket);
        spawn.command().args(role);
        spawn
    }

    fn program(&self, program: &Path, socket: &Path) -> Spawn {
        let mut spawn = Spawn::new(program);
        let command = spawn.command();
        if *self != ourselves() {
            let groups = self.groups.iter().map(|group| format!(",{group}")).collect::<String>();
            command.arg(format!("--as={}:{}{groups}", self.uid, self.gid));
        }
        command.arg(socket);
        spawn
    }
}

impl Helper {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The arguments of a helper program, after it has become the user that the first one names:
/// `--as=UID:GID,GROUP…`, if it does.
pub fn arguments_as_user() -> io::Result<Vec<String>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(user) = arguments.first().and_then(|argument| argument.strip_prefix("--as=")) else {
        return Ok(arguments);
    };
    let (uid, gids) = user.split_once(':').ok_or_else(|| io::Error::other("expected UID:GID"))?;
    let gids = gids.split(',').map(|gid| gid.parse().map(Gid::from_raw));
    let gids: Vec<Gid> = gids.collect::<Result<_, _>>().map_err(io::Error::other)?;
    let uid = Uid::from_raw(uid.parse().map_err(io::Error::other)?);
    setgroups(&gids[1..])?;
    setgid(gids[0])?;
    setuid(uid)?;
    arguments.remove(0);
    Ok(arguments)
}

impl Crowd {
    /// The next line of what it tells: `welcome N` as each connection is let in, `goodbye N REASON
    /// MESSAGE` where one is not.
    pub fn told(&mut self) -> String {
        let _watchdog = Watchdog::new("a crowd of connections");
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a pipe of ours");
        assert!(!line.is_empty(), "the crowd has ended");
        line.trim_end().to_owned()
    }

    /// Ends it as it ends by itself: the process exits, and the kernel closes its connections.
    pub fn leave(self) {}
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
