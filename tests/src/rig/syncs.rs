//! Watches another process sync its files, without a tool that would have to be installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc::{SYS_fdatasync, SYS_fsync};

use super::syscalls::{Stop, trace_all};

/// Counts the calls of fdatasync (or fsync) on files of one folder, by every thread that a child of ours
/// has now. A call is counted before the kernel begins with it, and once more when it is done, while the
/// thread stands still: what the child does because of it comes after both.
#[derive(Clone, Debug)]
pub struct Syncs {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    done: AtomicU64,
}

impl Syncs {
    /// Begins to count.
    pub fn of(pid: u32, folder: &Path) -> Self {
        let counts = Arc::new(Counts::default());
        let (counting, folder) = (Arc::clone(&counts), folder.to_path_buf());
        trace_all(pid, move |task, stop| {
            let count = match stop {
                Stop::Entry => &counting.begun,
                Stop::Exit => &counting.done,
            };
            if synced_file(pid, task).is_some_and(|file| file.starts_with(&folder)) {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { counts }
    }

    /// How many have begun, and how many are done.
    pub fn count(&self) -> (u64, u64) {
        // In this order, so that none is done that had not begun.
        let done = self.counts.done.load(Ordering::SeqCst);
        (self.counts.begun.load(Ordering::SeqCst), done)
    }
}

/// The file that a task which stands still at a system call syncs by it, if that is what it does.
fn synced_file(pid: u32, task: i32) -> Option<PathBuf> {
    // Its number and its arguments, at the entry and at the exit alike.
    let call = fs::read_to_string(format!("/proc/{pid}/task/{task}/syscall")).ok()?;
    let mut words = call.split_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    if number != SYS_fdatasync && number != SYS_fsync {
        return None;
    }
    let descriptor = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()
}
