//! `switchboardd` as a process of its own: signals, unclean deaths, full tables, blocked logs.

mod common;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};

use common::Client;
use switchboard_protocol::control::Operation;
use switchboard_protocol::{Failure, Goodbye, GoodbyeReason, Kind, Outcome, decode};
use switchboard_transport::spawn::{Signal, Spawn, signal};

/// A running daemon and the directory that it lives in.
struct Daemon {
    child: Child,
    stderr: BufReader<ChildStderr>,
    socket: PathBuf,
}

impl Daemon {
    fn start(directory: &Path) -> Self {
        Self::start_with(directory, &[])
    }

    fn start_with(directory: &Path, arguments: &[&str]) -> Self {
        let socket = directory.join("s");
        let mut spawn = Spawn::new(env!("CARGO_BIN_EXE_switchboardd"));
        let config = directory.join("switchboard.toml");
        if !config.exists() {
            fs::write(&config, "").expect("written");
        }
        spawn
            .command()
            .args([
                "--socket".as_ref(),
                socket.as_os_str(),
                "--state-dir".as_ref(),
                directory.join("state").as_os_str(),
            ])
            .args(["--config".as_ref(), config.as_os_str()])
            .args(arguments)
            .stderr(Stdio::piped());
        let mut child = spawn.spawn().expect("a daemon");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut daemon = Self { child, stderr, socket };
        daemon.logged("listening on");
        daemon
    }

    /// Reads the log up to a line that contains `text`.
    fn logged(&mut self, text: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.stderr.read_line(&mut line).expect("text"), 0, "the log ended without {text:?}");
            if line.contains(text) {
                return line;
            }
        }
    }

    fn signal(&self, what: Signal) {
        signal(&self.child, what).expect("it runs");
    }

    fn wait(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).expect("text");
        (self.child.wait().expect("ended"), rest)
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_switchboardd")).args(arguments).output().expect("it runs")
}

#[test]
fn sigterm_tells_everybody_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start(directory.path());
    let socket = daemon.socket.clone();
    let (mut client, _) = Client::new(&socket);
    daemon.signal(Signal::TERM);
    let mut last = None;
    while let Some(frame) = client.next() {
        last = Some(frame);
    }
    let (header, body) = last.expect("a goodbye");
    assert_eq!(GoodbyeReason::from_wire(header.method), GoodbyeReason::ShuttingDown);
    decode::<Goodbye>(&body).expect("a goodbye");
    let (status, _) = daemon.wait();
    assert!(status.success(), "{status}");
    assert!(!socket.exists());
}

#[test]
fn a_killed_daemon_is_replaced_and_counts_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut daemon = Daemon::start(directory.path());
    let (_, first) = Client::new(&daemon.socket);
    daemon.child.kill().expect("killed");
    daemon.wait();
    let daemon = Daemon::start(directory.path());
    let (_, second) = Client::new(&daemon.socket);
    assert!(second.incarnation > first.incarnation);
}

#[test]
fn a_second_daemon_says_who_has_the_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start(directory.path());
    let (socket, state) = (daemon.socket.to_str().expect("text"), directory.path().join("other"));
    let output = run(&["--socket", socket, "--state-dir", state.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("{socket} is served by process {}", daemon.child.id())), "{said}");
    Client::new(&daemon.socket);
}

#[test]
fn wrong_usage_and_wrong_configuration_exit_with_2() {
    let directory = tempfile::tempdir().expect("a directory");
    let wrong = directory.path().join("wrong.toml");
    fs::write(&wrong, "[limits]\nfoo = 1\n").expect("written");
    for arguments in [
        &["--no-such-option"][..],
        &["--log", "a=b=c"],
        &["--check", "--config", wrong.to_str().expect("text")],
        &["--config", "/no/such/file.toml"],
        &["--user", "--system"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
    fs::write(&wrong, "[limits]\nconnections_max = 7\n").expect("written");
    assert!(run(&["--check", "--config", wrong.to_str().expect("text")]).status.success());
}

#[test]
fn sighup_puts_a_good_file_into_force_and_keeps_the_old_one_from_a_bad_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut daemon = Daemon::start(directory.path());
    let config = directory.path().join("switchboard.toml");
    fs::write(&config, "[limits]\npayload_bytes_max = 2000\n").expect("written");
    daemon.signal(Signal::HUP);
    daemon.logged("new configuration is in force");
    assert_eq!(Client::new(&daemon.socket).1.payload_bytes_max, 2000);
    fs::write(&config, "[limits]\npayload_bytes_max = \"much\"\n").expect("written");
    daemon.signal(Signal::HUP);
    daemon.logged("the old one stays");
    daemon.logged("switchboard.toml:2:");
    assert_eq!(Client::new(&daemon.socket).1.payload_bytes_max, 2000);
}

/// Not a test of its own: the service that the next test kills.
#[test]
#[ignore = "run by a_killed_services_caller_learns_of_the_signal"]
fn service_that_never_answers() {
    let socket = std::env::var_os("SWITCHBOARD_TEST_SOCKET").expect("given by the parent");
    let (mut service, _) = Client::new(Path::new(&socket));
    service.serve("acme.stuck");
    println!("\nserving");
    io::stdout().flush().expect("flushed");
    while service.next().is_some() {}
}

#[test]
fn a_killed_services_caller_learns_of_the_signal() {
    let directory = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start(directory.path());
    let mut spawn = Spawn::new(std::env::current_exe().expect("we run"));
    spawn
        .command()
        .args(["--exact", "service_that_never_answers", "--ignored", "--nocapture"])
        .env("SWITCHBOARD_TEST_SOCKET", &daemon.socket)
        .stdout(Stdio::piped());
    let mut service = spawn.spawn().expect("spawned");
    let mut lines = BufReader::new(service.stdout.take().expect("piped")).lines();
    assert!(lines.any(|line| line.expect("text") == "serving"));

    let (mut client, _) = Client::new(&daemon.socket);
    let handle = client.open("acme.stuck");
    client.call(handle, 1, b"hello?");
    // Once this is answered the call before it has reached the service.
    client.control(Operation::Status, &[]);
    service.kill().expect("killed");
    service.wait().expect("reaped");
    let (header, body) = client.next().expect("an outcome");
    assert_eq!((header.kind, header.method), (Kind::Outcome, Outcome::PeerDied as u32));
    let failure: Failure = decode(&body).expect("a failure");
    // Kernels before 6.15 do not tell.
    assert!(matches!(failure.exit_status, None | Some(9)), "{failure:?}");
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_broker() {
    let directory = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start_with(directory.path(), &["--log", "debug"]);
    // More lines than a pipe holds, and more than the queue before it.
    for _ in 0..3_000 {
        Client::new(&daemon.socket);
    }
    let (mut client, _) = Client::new(&daemon.socket);
    client.control(Operation::Status, &[]);
    daemon.signal(Signal::TERM);
    let mut child = daemon.child;
    assert!(child.wait().expect("ended although its last lines cannot be written").success());
}

#[test]
fn without_free_descriptors_peers_are_told_and_those_who_are_in_are_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut daemon = Daemon::start(directory.path());
    let (mut inside, _) = Client::new(&daemon.socket);
    // The limit is on the number itself, and everything below the lowest free one is taken.
    let is_taken =
        |fd: &u32| Path::new(&format!("/proc/{}/fd/{fd}", daemon.child.id())).symlink_metadata().is_ok();
    let open = (0..).find(|fd| !is_taken(fd)).expect("a free number");
    let limit = format!("--nofile={open}:20000");
    let status = Command::new("prlimit").args(["--pid", &daemon.child.id().to_string(), &limit]).status();
    assert!(status.expect("prlimit is there").success());

    let mut outside = Client::silent(&daemon.socket);
    let (header, body) = outside.next().expect("a goodbye");
    assert_eq!(
        (header.kind, GoodbyeReason::from_wire(header.method)),
        (Kind::Goodbye, GoodbyeReason::TooManyConnections)
    );
    let said = decode::<Goodbye>(&body).expect("a goodbye").message;
    assert!(said.contains("file descriptor"), "{said}");
    daemon.logged("out of file descriptors");
    inside.control(Operation::Status, &[]);

    drop(inside);
    // Its descriptor is free, so that the next one finds room: perhaps not the very first.
    let mut client = Client::silent(&daemon.socket);
    for _ in 0..1_000 {
        let goodbye =
            client.stream.wait(switchboard_transport::Interest::READ, Some(std::time::Duration::ZERO));
        if !goodbye.expect("polled").readable {
            break;
        }
        client = Client::silent(&daemon.socket);
    }
    Client::greet(client);
}
