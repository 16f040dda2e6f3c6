//! A client in another language, written from `protocol/SPEC.md` alone, makes and serves calls through a
//! real daemon: what SPEC says is what the broker does.
#![cfg(unix)]

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// What `test_client.py` needs beside a broker.
const CONFIG: &str = "[topic.\"test.kept\"]\nretain = true\nhistory = 3\n";

#[test]
fn the_python_client_agrees_with_the_vectors() {
    passes(&python("test_vectors.py", &[]), "");
}

#[test]
fn a_client_written_from_the_specification_makes_and_serves_calls() {
    let daemon = Daemon::start();
    let output = python("test_client.py", &[&daemon.socket]);
    passes(&output, &daemon.log());
}

/// Runs a script of `tests/python`. Without Python 3 the test fails: what is not run is not known.
fn python(script: &str, arguments: &[&Path]) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    Command::new("python3")
        .arg("-B")
        .arg(folder.join(script))
        .args(arguments)
        .output()
        .expect("python3 is needed for this test: apt-get install python3")
}

/// Checks that a script ran tests and that all of them passed.
fn passes(output: &Output, log: &str) {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let passed = output.status.success() && stdout.ends_with(" passed, 0 failed\n");
    assert!(passed, "{}\n{stdout}\n{stderr}\n--- the daemon's log\n{log}", output.status);
}

/// A `switchboardd` of this build with a folder to itself, killed when it goes out of scope.
struct Daemon {
    child: Child,
    socket: PathBuf,
    folder: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("switchboard.sock");
        let config = folder.path().join("switchboard.toml");
        std::fs::write(&config, CONFIG).expect("a file for the configuration");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file for the log");
        let child = Command::new(switchboardd())
            .arg("--socket")
            .arg(&socket)
            .arg("--state-dir")
            .arg(folder.path().join("state"))
            .arg("--config")
            .arg(config)
            // Nobody's own configuration has a say here.
            .env("HOME", folder.path())
            .env("XDG_CONFIG_HOME", folder.path())
            .env_remove("SWITCHBOARD_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("switchboardd starts");
        let mut daemon = Self { child, socket, folder };
        while UnixStream::connect(&daemon.socket).is_err() {
            if let Some(status) = daemon.child.try_wait().expect("the daemon is our child") {
                panic!("switchboardd ended before it listened, {status}:\n{}", daemon.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        daemon
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("the daemon's log")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The daemon's executable, in the profile of this test and up to date.
fn switchboardd() -> PathBuf {
    if let Some(path) = option_env!("CARGO_BIN_EXE_switchboardd") {
        return path.into();
    }
    // target/PROFILE/deps/this-test
    let test = std::env::current_exe().expect("this program");
    let folder = test.parent().and_then(Path::parent).expect("a test lies in target/PROFILE/deps");
    let (target, profile) = (folder.parent().expect("target"), folder.file_name().expect("PROFILE"));
    // Built here, because cargo builds the programs of other packages for nobody's tests; if it did so
    // before, this only looks.
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "switchboard-broker", "--bin", "switchboardd", "--profile"])
        .arg(if profile == "debug" { "dev".as_ref() } else { profile })
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(built.success(), "switchboardd could not be built");
    folder.join("switchboardd")
}
