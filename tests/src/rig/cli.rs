//! A command of the command line that goes on.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus, Stdio};

use switchboard_transport::spawn::{self, Signal, Spawn};

use super::folder::Folder;
use super::programs::switchboard;
use super::watchdog::Watchdog;

/// A running command. Killed when dropped.
#[derive(Debug)]
pub struct Cli {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    what: String,
}

impl Cli {
    pub(super) fn start(folder: &Folder, arguments: &[&str]) -> Self {
        let mut spawn = Spawn::new(switchboard());
        let command = spawn.command();
        command.env_clear().env("HOME", folder.root()).current_dir(folder.root()).stdin(Stdio::null());
        command.arg("--socket").arg(folder.socket()).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn.spawn().expect("switchboard starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        Self { child, stdout, stderr, what: format!("switchboard {}", arguments.join(" ")) }
    }

    /// The next line of its stdout; empty at the end.
    pub fn line(&mut self) -> String {
        let _watchdog = Watchdog::new(format!("a line from {}", self.what));
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("text");
        line.trim_end_matches('\n').to_owned()
    }

    /// The next line of its stderr; empty at the end.
    pub fn said(&mut self) -> String {
        let _watchdog = Watchdog::new(format!("a word from {}", self.what));
        let mut line = String::new();
        self.stderr.read_line(&mut line).expect("text");
        line.trim_end_matches('\n').to_owned()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        spawn::signal(&self.child, signal).expect("our child");
    }

    /// Ends it by kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("our child");
        let _watchdog = Watchdog::new(format!("{} to be killed", self.what));
        self.child.wait().expect("our child");
    }

    /// Waits until it ends by itself; its exit status, and the rest of its stdout and of its stderr.
    pub fn end(mut self) -> (ExitStatus, String, String) {
        let _watchdog = Watchdog::new(format!("{} to end", self.what));
        let (mut printed, mut said) = (String::new(), String::new());
        self.stdout.read_to_string(&mut printed).expect("text");
        self.stderr.read_to_string(&mut said).expect("text");
        (self.child.wait().expect("our child"), printed, said)
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
