//! switchboardd as a process.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use switchboard_transport::spawn::{self, Limit, Signal, Spawn};

use super::folder::Folder;
use super::programs::switchboardd;
use super::watchdog::{PATIENCE, Watchdog};

/// How a daemon is started.
#[derive(Debug)]
pub struct Launch<'a> {
    folder: &'a Folder,
    arguments: Vec<String>,
    open_files: Option<u64>,
    stderr: Option<Stdio>,
}

/// A running daemon. Killed when dropped; its log is shown if the test fails.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    news: News,
    log: Log,
}

/// Stands in for systemd: the daemon tells it when it is ready.
#[derive(Debug)]
struct News {
    socket: UnixDatagram,
}

/// What a daemon has logged so far.
#[derive(Clone, Debug, Default)]
struct Log {
    shared: Arc<(Mutex<Lines>, Condvar)>,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl<'a> Launch<'a> {
    pub(super) fn new(folder: &'a Folder) -> Self {
        Self { folder, arguments: Vec::new(), open_files: None, stderr: None }
    }

    /// With this argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// As a system instance.
    #[must_use]
    pub fn system(self) -> Self {
        self.arg("--system")
    }

    /// With so many descriptors and no more.
    #[must_use]
    pub fn open_files(mut self, most: u64) -> Self {
        self.open_files = Some(most);
        self
    }

    /// Logging there, and not where [`Daemon::logged`] sees it.
    #[must_use]
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Starts it; returns when it accepts connections.
    pub fn start(self) -> Daemon {
        let mut daemon = self.begin();
        daemon.news_of("READY=1");
        daemon
    }

    /// Starts it, and does not wait for anything.
    pub fn begin(mut self) -> Daemon {
        let collected = self.stderr.is_none();
        let stderr = self.stderr.take().unwrap_or_else(Stdio::piped);
        let news = News::listen(self.folder);
        let mut spawn = self.spawn();
        spawn.command().env("NOTIFY_SOCKET", self.folder.path("notify.sock")).stderr(stderr);
        let mut child = spawn.spawn().expect("switchboardd starts");
        let log = Log::default();
        if collected {
            log.collect(child.stderr.take().expect("a pipe"));
        }
        Daemon { child, socket: self.folder.socket(), news, log }
    }

    /// Runs it to its end, which must be its own doing.
    pub fn run(self) -> Output {
        let mut spawn = self.spawn();
        spawn.command().stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = spawn.spawn().expect("switchboardd starts");
        let _watchdog = Watchdog::new("switchboardd to refuse to start");
        child.wait_with_output().expect("our child")
    }

    fn spawn(&self) -> Spawn {
        let mut spawn = Spawn::new(switchboardd());
        if let Some(most) = self.open_files {
            spawn.limit(Limit::OpenFiles, most);
        }
        let folder = self.folder;
        let command = spawn.command();
        // Nothing of whoever runs the tests is to be found: no other socket, configuration or state.
        command.env_clear().env("HOME", folder.root()).current_dir(folder.root()).stdin(Stdio::null());
        let has = |option: &str| self.arguments.iter().any(|argument| argument == option);
        for (option, path) in [
            ("--socket", folder.socket()),
            ("--config", folder.config()),
            ("--state-dir", folder.path("state")),
        ] {
            if !has(option) {
                command.arg(option).arg(path);
            }
        }
        command.args(&self.arguments);
        spawn
    }
}

impl Daemon {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Waits for a line of the log that has `text` in it, and returns it.
    pub fn logged(&self, text: &str) -> String {
        self.log.wait_for(text)
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.lock().lines.join("\n")
    }

    /// Has it read its configuration again; returns what it then says of itself.
    pub fn reload(&mut self) -> String {
        self.signal(Signal::HUP);
        self.news_of("READY=1")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        spawn::signal(&self.child, signal).expect("our child");
    }

    /// Ends it as a service manager does, and waits.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait("switchboardd to end after SIGTERM")
    }

    /// Ends it as the out-of-memory killer does.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.wait("switchboardd to be killed").signal(), Some(9));
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }

    fn wait(&mut self, what: &str) -> ExitStatus {
        let _watchdog = Watchdog::new(what);
        self.child.wait().expect("our child")
    }

    /// Waits until the daemon tells its service manager `what`; returns the status that came with it.
    fn news_of(&mut self, what: &str) -> String {
        let begun = Instant::now();
        loop {
            if let Some(told) = self.news.next()
                && told.lines().any(|line| line == what)
            {
                let status = told.lines().find_map(|line| line.strip_prefix("STATUS="));
                return status.unwrap_or_default().to_owned();
            }
            if let Some(status) = self.child.try_wait().expect("our child") {
                panic!("switchboardd ended ({status}) before it said {what}:\n{}", self.log.to_the_end());
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "gave up waiting for switchboardd to say {what}:\n{}",
                self.log()
            );
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of switchboardd ---\n{}\n---", self.log.to_the_end());
        }
    }
}

impl News {
    fn listen(folder: &Folder) -> Self {
        let path = folder.path("notify.sock");
        // Of a daemon that was here before.
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(path).expect("a free path");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        Self { socket }
    }

    /// What came; `None` if nothing did for a while.
    fn next(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(count) => Some(String::from_utf8_lossy(&buffer[..count]).into_owned()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                None
            }
            Err(error) => panic!("the notification socket: {error}"),
        }
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.shared.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn collect(&self, stderr: ChildStderr) {
        let log = self.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stderr);
            let mut line = Vec::new();
            while reader.by_ref().read_until(b'\n', &mut line).is_ok_and(|count| 0 < count) {
                log.lock().lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                log.shared.1.notify_all();
                line.clear();
            }
            log.lock().ended = true;
            log.shared.1.notify_all();
        });
    }

    fn wait_for(&self, text: &str) -> String {
        let begun = Instant::now();
        let mut lines = self.lock();
        loop {
            if let Some(found) = lines.lines.iter().find(|line| line.contains(text)) {
                return found.clone();
            }
            assert!(!lines.ended, "the log has ended without {text:?}:\n{}", lines.lines.join("\n"));
            let left = PATIENCE.saturating_sub(begun.elapsed());
            assert!(!left.is_zero(), "gave up waiting for {text:?} in the log:\n{}", lines.lines.join("\n"));
            lines =
                self.shared.1.wait_timeout(lines, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }

    /// All of the log of a daemon that has ended.
    fn to_the_end(&self) -> String {
        let mut lines = self.lock();
        let begun = Instant::now();
        while !lines.ended && begun.elapsed() < Duration::from_secs(1) {
            let wait = Duration::from_millis(100);
            lines =
                self.shared.1.wait_timeout(lines, wait).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        lines.lines.join("\n")
    }
}
