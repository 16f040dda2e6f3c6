//! A program that does the work of one request: payload in, output out, killed when nobody wants it.
//!
//! One thread feeds and drains all three streams as they are ready, so that no size of payload and no
//! order of reading and writing can leave both sides waiting for each other.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use switchboard_transport::spawn::{self, Spawn};
use switchboard_transport::{Interest, Poller, Ready};

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Found in PATH.
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    /// For the program's own calls.
    pub(crate) socket: PathBuf,
    /// More output than this is a failure.
    pub(crate) output_bytes_max: usize,
}

/// How it went.
#[derive(Debug)]
pub(crate) enum Ran {
    /// It ended by itself.
    Ended { status: ExitStatus, stdout: Vec<u8>, stderr: Vec<u8> },
    /// It was killed because its result is no longer wanted.
    Unwanted,
    /// It was killed because its output is too long to be a reply.
    TooLong,
}

/// The end of stderr is kept: that is where a program says why it failed.
const STDERR_BYTES_KEPT: usize = 4096;
const CHUNK_BYTES: usize = 64 << 10;

const STDIN: u64 = 0;
const STDOUT: u64 = 1;
const STDERR: u64 = 2;
const EXIT: u64 = 3;

/// How often to ask whether the result is still wanted.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// A child that is killed, with all of its process group, unless it was waited for.
struct Running {
    child: Child,
    waited: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.waited {
            // Its group first: what it has started must not outlive the request.
            let _ = spawn::kill_group(&self.child);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Program {
    /// Runs it on `input` until it ends or `is_unwanted`, which is asked now and then, says so.
    pub(crate) fn run(&self, input: &[u8], is_unwanted: impl Fn() -> bool) -> io::Result<Ran> {
        let mut spawn = Spawn::new(&self.program);
        spawn.own_group();
        let command = spawn.command();
        command.args(&self.arguments).env("SWITCHBOARD_SOCKET", &self.socket);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running { child: spawn.spawn()?, waited: false };
        let child = &mut running.child;
        let mut streams = Streams {
            poller: Poller::new()?,
            stdin: Some(nonblocking(child.stdin.take().expect("piped"))?),
            stdout: Some(nonblocking(child.stdout.take().expect("piped"))?),
            stderr: Some(nonblocking(child.stderr.take().expect("piped"))?),
            output: Vec::new(),
            errors: Vec::new(),
        };
        let exit = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        streams.poller.add(&exit, EXIT, Interest::READ)?;
        streams.add()?;
        let mut input = input;
        let mut ready: Vec<Ready> = Vec::new();
        streams.feed(&mut input);
        let mut asked = Instant::now();
        loop {
            streams.poller.wait(&mut ready, Some(ASK_EVERY))?;
            // Also of a program that is never quiet for so long.
            if asked.elapsed() >= ASK_EVERY {
                if is_unwanted() {
                    return Ok(Ran::Unwanted);
                }
                asked = Instant::now();
            }
            let mut exited = false;
            for event in &ready {
                match event.token {
                    STDIN => streams.feed(&mut input),
                    STDOUT => streams.drain_output(),
                    STDERR => streams.drain_errors(),
                    _ => exited = true,
                }
            }
            if exited {
                // What it wrote is in the pipes. Something it left behind may hold them open: that is
                // not waited for, but killed before its group's number can be another's.
                streams.drain_output();
                streams.drain_errors();
            }
            if streams.output.len() > self.output_bytes_max {
                return Ok(Ran::TooLong);
            }
            if exited {
                spawn::kill_group(&running.child)?;
                let status = running.child.wait()?;
                running.waited = true;
                return Ok(Ran::Ended { status, stdout: streams.output, stderr: streams.errors });
            }
        }
    }
}

/// Our ends of a child's streams, each gone once it is done with.
struct Streams {
    poller: Poller,
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
    output: Vec<u8>,
    errors: Vec<u8>,
}

impl Streams {
    fn add(&self) -> io::Result<()> {
        if let Some(stdin) = &self.stdin {
            self.poller.add(stdin, STDIN, Interest::WRITE)?;
        }
        if let Some(stdout) = &self.stdout {
            self.poller.add(stdout, STDOUT, Interest::READ)?;
        }
        if let Some(stderr) = &self.stderr {
            self.poller.add(stderr, STDERR, Interest::READ)?;
        }
        Ok(())
    }

    /// Writes what the child takes now. It need not take all, or anything.
    fn feed(&mut self, input: &mut &[u8]) {
        let Some(stdin) = &mut self.stdin else { return };
        while !input.is_empty() {
            match stdin.write(input) {
                Ok(0) => break,
                Ok(count) => *input = &input[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Usually a broken pipe: it reads no further.
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    fn drain_output(&mut self) {
        drain(&mut self.stdout, |bytes| self.output.extend_from_slice(bytes));
    }

    fn drain_errors(&mut self) {
        drain(&mut self.stderr, |bytes| {
            self.errors.extend_from_slice(bytes);
            let surplus = self.errors.len().saturating_sub(STDERR_BYTES_KEPT);
            self.errors.drain(..surplus);
        });
    }
}

/// Reads what is there. A pipe holds 64 KiB, so a child that keeps writing is drained in turns.
fn drain(stream: &mut Option<File>, mut take: impl FnMut(&[u8])) {
    let Some(file) = stream else { return };
    let mut chunk = [0; CHUNK_BYTES];
    // Bounded: a child that writes as fast as we read must not keep us from noticing a stop.
    for _ in 0..64 {
        match file.read(&mut chunk) {
            Ok(count) if count > 0 => take(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => {
                *stream = None;
                return;
            }
        }
    }
}

/// Our end of a pipe, not to be waited on. The child's end is a description of its own and stays as
/// it is.
fn nonblocking(end: impl Into<OwnedFd>) -> io::Result<File> {
    let end = end.into();
    rustix::io::ioctl_fionbio(&end, true)?;
    Ok(File::from(end))
}

/// How a process ended, for people, and as a number: its exit status, or 128 + the signal as a shell
/// has it.
pub(crate) fn describe(status: ExitStatus) -> (String, u32) {
    match (status.code(), status.signal()) {
        (Some(code), _) => (format!("exited with status {code}"), code.unsigned_abs()),
        (None, Some(signal)) => (format!("was killed by signal {signal}"), 128 + signal.unsigned_abs()),
        (None, None) => ("ended".to_owned(), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program {
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            socket: "/nonexistent/switchboard.sock".into(),
            output_bytes_max: 64 << 20,
        }
    }

    fn run(script: &str, input: &[u8]) -> (Option<i32>, Vec<u8>, Vec<u8>) {
        match shell(script).run(input, || false).expect("sh runs") {
            Ran::Ended { status, stdout, stderr } => (status.code(), stdout, stderr),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_payload_of_any_size_goes_through_without_either_side_waiting_for_the_other() {
        for length in [0, 1, 65_536, 65_537, 5_000_000] {
            let input: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            assert_eq!(run("cat", &input), (Some(0), input, Vec::new()));
        }
    }

    #[test]
    fn a_program_need_not_read_its_input() {
        let input = vec![7; 5_000_000];
        assert_eq!(run("exec <&-; echo done", &input), (Some(0), b"done\n".to_vec(), Vec::new()));
        assert_eq!(run("head -c 3", b"abcdef"), (Some(0), b"abc".to_vec(), Vec::new()));
    }

    #[test]
    fn the_end_of_stderr_is_kept_and_the_status_is_told() {
        let (status, stdout, stderr) = run("seq 100000 >&2; echo last words >&2; exit 3", b"");
        assert_eq!((status, stdout), (Some(3), Vec::new()));
        assert_eq!(stderr.len(), STDERR_BYTES_KEPT);
        assert!(stderr.ends_with(b"last words\n"));
    }

    #[test]
    fn what_a_program_leaves_behind_is_killed_and_not_waited_for() {
        let (status, stdout, _) = run("sleep 1000 & echo $!", b"");
        assert_eq!(status, Some(0));
        let pid: i32 = String::from_utf8(stdout).expect("text").trim().parse().expect("a pid");
        let gone = || !std::path::Path::new(&format!("/proc/{pid}/stat")).exists() || is_zombie(pid);
        while !gone() {
            std::thread::yield_now();
        }
    }

    fn is_zombie(pid: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    }

    #[test]
    fn a_program_whose_result_is_not_wanted_is_killed() {
        let program = shell("sleep 1000");
        assert!(matches!(program.run(b"", || true), Ok(Ran::Unwanted)));
        assert!(matches!(shell("yes").run(b"", || true), Ok(Ran::Unwanted | Ran::TooLong)));
        let endless = Program { output_bytes_max: 100_000, ..shell("yes") };
        assert!(matches!(endless.run(b"", || false), Ok(Ran::TooLong)));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let program = Program { program: "no-such-program-here".into(), ..shell("") };
        assert_eq!(program.run(b"", || false).expect_err("not there").kind(), io::ErrorKind::NotFound);
    }
}
