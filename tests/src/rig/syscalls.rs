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
        let begun = Arc::new(AtomicU64::new(0));
        let calls = Arc::clone(&begun);
        trace_all(pid, move |_, stop| {
            if stop == Stop::Entry {
                calls.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { begun }
    }

    /// How many have begun so far.
    pub fn count(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }
}

/// Where a task stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Before a system call.
    Entry,
    /// Behind it.
    Exit,
}

/// Has `seen` told of every system call of every task that a child of ours has now, while the task stands
/// still; returns when all are traced.
pub(super) fn trace_all(pid: u32, seen: impl Fn(i32, Stop) + Clone + Send + 'static) {
    let tasks: Vec<i32> = fs::read_dir(format!("/proc/{pid}/task"))
        .expect("a running process")
        .map(|task| task.expect("a task").file_name().to_string_lossy().parse().expect("its number"))
        .collect();
    let (ready, traced) = channel();
    for &task in &tasks {
        // To the kernel it is a thread that traces a thread, so each gets one of its own.
        let (seen, ready) = (seen.clone(), ready.clone());
        thread::spawn(move || trace(task, &seen, &ready));
    }
    let _watchdog = Watchdog::new("every thread to be traced");
    tasks.iter().for_each(|_| traced.recv().expect("a tracer that has begun"));
}

fn trace(number: i32, seen: &impl Fn(i32, Stop), ready: &Sender<()>) {
    let task = Pid::from_raw(number);
    ptrace::seize(task, Options::PTRACE_O_TRACESYSGOOD).expect("the right to trace our child");
    ptrace::interrupt(task).expect("a task that we trace");
    // Every call stops the task twice.
    let mut next = Stop::Entry;
    let mut is_first = true;
    while let Ok(status) = waitpid(task, Some(WaitPidFlag::__WALL)) {
        let signal = match status {
            WaitStatus::PtraceSyscall(_) => {
                seen(number, next);
                next = if next == Stop::Entry { Stop::Exit } else { Stop::Entry };
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
