//! Processes: the bench forks one for each role (caller, echo, relay …), starts each server, and is
//! sure that none of them outlives it: every one has asked the kernel for SIGKILL at its parent's
//! death, so even `kill -9` of the bench leaves nothing behind.

use crate::work::Tally;
use anyhow::{Context, Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, getpid, getppid, kill_process, waitpid};
use rustix::thread::CpuSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Set by SIGINT and SIGTERM; every wait of the bench then ends, and its cleaning up runs.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Lets SIGINT and SIGTERM end the waits instead of the process.
pub fn notice_interrupts() {
    extern "C" fn notice(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: a zeroed sigaction is a valid one (no flags, so a wait ends with EINTR), and the
        // handler only stores to an atomic, which is async-signal-safe.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = notice as *const () as usize;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Whether the user asked to stop.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// What a process does first: it dies with the bench and runs where it was told.
fn become_a_child(parent: Pid, cpus: &CpuSet) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The bench may have died between fork and prctl: then nobody would ever end us.
    if getppid() != Some(parent) {
        return Err(std::io::Error::other("the bench has died"));
    }
    rustix::thread::sched_setaffinity(None, cpus)?;
    Ok(())
}

/// A forked process with one role; killed when dropped.
pub struct Role {
    name: &'static str,
    pid: Pid,
    reports: File,
    buffered: Vec<u8>,
    reaped: bool,
}

/// How a role tells the bench about itself.
pub struct Reporter(File);

impl Reporter {
    /// Says that it is connected and listening: the other side may begin.
    pub fn ready(&mut self) -> Result<()> {
        self.0.write_all(b"ready\n").context("reporting")
    }
}

enum Report {
    Ready,
    Done(Tally),
    Failed(String),
}

impl Role {
    /// Forks a process that runs `body` on `cpus` and is ended by SIGALRM if it takes longer than `limit`.
    pub fn fork(
        name: &'static str,
        cpus: &CpuSet,
        limit: Duration,
        body: impl FnOnce(&mut Reporter) -> Result<Tally>,
    ) -> Result<Role> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("a pipe")?;
        let parent = getpid();
        // SAFETY: the bench has a single thread, so the child's copy of its memory is consistent: no
        // lock is held by a thread that does not exist there.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(std::io::Error::last_os_error()).context("fork");
        }
        if pid > 0 {
            let pid = Pid::from_raw(pid).expect("fork gave a positive pid");
            return Ok(Role { name, pid, reports: reader.into(), buffered: Vec::new(), reaped: false });
        }
        drop(reader);
        let mut reporter = Reporter(writer.into());
        let result = catch_unwind(AssertUnwindSafe(|| {
            restore_default_signals();
            become_a_child(parent, cpus)?;
            // SAFETY: alarm only arms a timer of this process.
            unsafe { libc::alarm(limit.as_secs() as u32 + 1) };
            body(&mut reporter)
        }));
        let line = match result {
            Ok(Ok(tally)) => format!(
                "done {} {} {} {} {}\n",
                tally.at_ns, tally.count, tally.elapsed_ns, tally.p50_ns, tally.p99_ns
            ),
            Ok(Err(why)) => format!("failed {}\n", format!("{why:#}").replace('\n', " ")),
            Err(_) => "failed it panicked\n".to_string(),
        };
        let _unheard_if_the_bench_is_gone = reporter.0.write_all(line.as_bytes());
        // It stays until it is killed: some libraries still have bytes to hand on after the last call.
        loop {
            rustix::event::pause();
        }
    }

    fn report(&mut self) -> Result<Report> {
        loop {
            if let Some(end) = self.buffered.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffered.drain(..=end).collect();
                return parse_report(&String::from_utf8_lossy(&line[..end]));
            }
            let mut chunk = [0; 512];
            let count = match self.reports.read(&mut chunk) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted && !interrupted() => continue,
                other => other.context("waiting for a report (interrupted?)")?,
            };
            if count == 0 {
                let cause = self.cause_of_death();
                bail!("the {} ended without a result: {cause}", self.name);
            }
            self.buffered.extend_from_slice(&chunk[..count]);
        }
    }

    fn cause_of_death(&mut self) -> String {
        self.reaped = true;
        match waitpid(Some(self.pid), WaitOptions::empty()) {
            Ok(Some((_, status))) if status.terminating_signal() == Some(libc::SIGALRM) => {
                "it was still waiting when its time was over: a message was lost, or the server stalled"
                    .to_string()
            }
            Ok(Some((_, status))) => format!("{status:?}"),
            _ => "unknown cause".to_string(),
        }
    }

    /// Whether one that goes on for ever still does: else why not.
    pub fn must_be_well(&mut self) -> Result<()> {
        let mut fds = [PollFd::from_borrowed_fd(self.reports.as_fd(), PollFlags::IN)];
        let news =
            poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).context("a look")?;
        if news == 0 {
            return Ok(());
        }
        match self.report()? {
            Report::Failed(why) => Err(anyhow!("{}: {why}", self.name)),
            Report::Ready | Report::Done(_) => Err(anyhow!("the {} has ended early", self.name)),
        }
    }

    /// Waits until it is connected and listening.
    pub fn wait_ready(&mut self) -> Result<()> {
        match self.report()? {
            Report::Ready => Ok(()),
            Report::Failed(why) => Err(anyhow!("{}: {why}", self.name)),
            Report::Done(_) => {
                Err(anyhow!("the {} was done before it was ready: a bug of this bench", self.name))
            }
        }
    }
}

/// Waits until `roles` are all done, or one of them has failed. `helpers` never finish, but may fail.
pub fn wait_done(roles: &mut [&mut Role], helpers: &mut [&mut Role]) -> Result<Vec<Tally>> {
    let mut tallies = vec![None; roles.len()];
    while tallies.iter().any(Option::is_none) {
        let mut waiting: Vec<(usize, &mut Role)> = roles
            .iter_mut()
            .map(|role| &mut **role)
            .chain(helpers.iter_mut().map(|role| &mut **role))
            .enumerate()
            .filter(|(index, _)| tallies.get(*index).is_none_or(Option::is_none))
            .collect();
        let mut fds: Vec<PollFd<'_>> = waiting
            .iter()
            .map(|(_, role)| PollFd::from_borrowed_fd(role.reports.as_fd(), PollFlags::IN))
            .collect();
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) if interrupted() => bail!("interrupted"),
            Err(rustix::io::Errno::INTR) => continue,
            other => other.context("waiting for reports")?,
        };
        let told: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        for ((index, role), _) in waiting.iter_mut().zip(told).filter(|(_, told)| *told) {
            match role.report()? {
                Report::Done(tally) => tallies[*index] = Some(tally),
                Report::Failed(why) => bail!("{}: {why}", role.name),
                Report::Ready => {}
            }
        }
    }
    Ok(tallies.into_iter().flatten().collect())
}

fn parse_report(line: &str) -> Result<Report> {
    if line == "ready" {
        return Ok(Report::Ready);
    }
    if let Some(why) = line.strip_prefix("failed ") {
        return Ok(Report::Failed(why.to_string()));
    }
    let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [at_ns, count, elapsed_ns, p50_ns, p99_ns] = numbers[..] else { bail!("not a report: {line}") };
    Ok(Report::Done(Tally { at_ns, count, elapsed_ns, p50_ns, p99_ns }))
}

fn restore_default_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: SIG_DFL is a valid disposition for both.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if !self.reaped {
            // Neither can fail: the process is our child and nobody else waits for it.
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

/// A started server program; killed when dropped.
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command` on `cpus`, its output going to a file in `dir`.
    pub fn start(name: &str, mut command: Command, cpus: &CpuSet, dir: &Path) -> Result<Server> {
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        command.stdin(Stdio::null()).stderr(output.try_clone().context("its log")?).stdout(output);
        die_with_the_bench(&mut command, cpus);
        let child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Server { name: name.to_string(), child, log })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `serves` says yes.
    pub fn wait_until(&mut self, mut serves: impl FnMut() -> bool) -> Result<()> {
        let patience = Instant::now() + Duration::from_secs(10);
        while !serves() {
            if interrupted() {
                bail!("interrupted");
            }
            if let Some(status) = self.child.try_wait().context("its status")? {
                bail!("{} ended at its start ({status}): {}", self.name, self.last_words());
            }
            if Instant::now() > patience {
                bail!("{} does not accept connections after 10 s: {}", self.name, self.last_words());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// The end of its log, for errors.
    pub fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        if lines.is_empty() {
            return "it said nothing".to_string();
        }
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has already ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Arranges that a program dies with the bench and runs on `cpus`.
pub fn die_with_the_bench(command: &mut Command, cpus: &CpuSet) {
    let parent = getpid();
    let cpus = *cpus;
    // SAFETY: what runs between fork and exec are three system calls and no allocation.
    unsafe {
        command.pre_exec(move || become_a_child(parent, &cpus));
    }
}
