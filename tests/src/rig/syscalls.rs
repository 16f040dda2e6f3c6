//! Counts the system calls of another process, without a tool that would have to be installed.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::watchdog::Watchdog;

/// Counts the system calls of every thread that a child of ours has now, until it ends. The child is
/// slowed by it, but what it does stays the same where its peers wait for it.
#[derive(Clone, Debug)]
pub struct Syscalls {
    begun: Arc<AtomicU64>,
}

impl Syscalls {
    /// Begins to count.
    pub fn of(pid: u32) -> Self {
        let calls = Arc::new(AtomicU64::new(0));
        let tasks: Vec<i32> = fs::read_dir(format!("/proc/{pid}/task"))
            .expect("a running process")
            .map(|task| task.expect("a task").file_name().to_string_lossy().parse().expect("its number"))
            .collect();
        let (ready, traced) = channel();
        for &task in &tasks {
            // To the kernel it is a thread that traces a thread, so each gets one of its own.
            let (calls, ready) = (Arc::clone(&calls), ready.clone());
            thread::spawn(move || trace(Pid::from_raw(task), &calls, &ready));
        }
        let _watchdog = Watchdog::new("every thread to be traced");
        tasks.iter().for_each(|_| traced.recv().expect("a tracer that has begun"));
        Self { begun: calls }
    }

    /// How many have begun so far.
    pub fn count(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }
}

fn trace(task: Pid, calls: &AtomicU64, ready: &Sender<()>) {
    ptrace::seize(task, Options::PTRACE_O_TRACESYSGOOD).expect("the right to trace our child");
    ptrace::interrupt(task).expect("a task that we trace");
    // Every call stops the task twice.
    let mut entering = true;
    let mut is_first = true;
    while let Ok(status) = waitpid(task, Some(WaitPidFlag::__WALL)) {
        let signal = match status {
            WaitStatus::PtraceSyscall(_) => {
                if entering {
                    calls.fetch_add(1, Ordering::SeqCst);
                }
                entering = !entering;
                None
            }
            WaitStatus::Stopped(_, signal) => Some(signal),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return,
            _ => None,
        };
        match ptrace::syscall(task, signal) {
            // It may have been killed while it stood still.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("a task that we trace cannot go on: {error}"),
        }
        if std::mem::take(&mut is_first) {
            ready.send(()).expect("somebody who waits for us");
        }
    }
}
