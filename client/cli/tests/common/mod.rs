//! The command line, run as a user would run it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use switchboard_broker::{Embedded, Options};

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A broker to talk to, and a folder of the test's own.
pub(crate) struct Site {
    broker: Embedded,
    folder: tempfile::TempDir,
}

/// A command that goes on; killed when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Site {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { broker: Embedded::start(&Options::default()).expect("a broker"), folder }
    }

    /// With this configuration, in the file `switchboard.toml` of the folder.
    pub(crate) fn configured(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("switchboard.toml");
        std::fs::write(&config, text).expect("written");
        let options = Options { config: Some(config), ..Options::default() };
        Self { broker: Embedded::start(&options).expect("a broker"), folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.broker.socket().to_owned()
    }

    /// `switchboard --socket SOCKET WORDS`.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = switchboard();
        command.arg("--socket").arg(self.broker.socket()).args(words);
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ended {
        run(&mut self.command(words), b"")
    }

    /// Starts a command and waits until it says that it serves.
    pub(crate) fn serve(&self, words: &[&str]) -> Running {
        self.start_until(words, "serving ")
    }

    /// Starts a command and waits for a line on its stderr that begins so.
    pub(crate) fn start_until(&self, words: &[&str], line: &str) -> Running {
        let mut command = self.command(words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut running = Running(child);
        let stderr = BufReader::new(running.0.stderr.take().expect("piped"));
        let mut said = Vec::new();
        for text in stderr.lines() {
            let text = text.expect("text");
            if text.starts_with(line) {
                return running;
            }
            said.push(text);
        }
        panic!("{words:?} never said `{line}`, but {said:#?}");
    }
}

impl Running {
    /// The next line of its stdout.
    pub(crate) fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.0.stdout.take().expect("piped")).lines().map(|line| line.expect("text"))
    }

    /// Its exit status, once it ends by itself.
    pub(crate) fn status(mut self) -> i32 {
        self.0.wait().expect("waited for").code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command, without what the environment of the test says.
pub(crate) fn switchboard() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.env_remove("SWITCHBOARD_SOCKET").stdin(Stdio::null());
    command
}

/// Runs it to its end with `input` on stdin.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // It need not read it.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let mut stderr = child.stderr.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).map(|_| text)
    });
    let output = child.wait_with_output().expect("waited for");
    writer.join().expect("wrote");
    let stderr = reader.join().expect("read").expect("text");
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
    assert!(!stderr.contains("internal mistake"), "{stderr}");
    Ended {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr,
    }
}

impl Ended {
    /// That it ended well, and what it printed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:#?}");
        self.stdout
    }

    /// That it ended with that status, printed nothing, and complained like this.
    #[track_caller]
    pub(crate) fn failed(self, status: i32, stderr: &str) {
        assert_eq!(self.status, status, "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        assert!(self.stderr.contains(stderr), "`{stderr}` is not in {self:#?}");
    }
}
