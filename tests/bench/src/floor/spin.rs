//! Two processes on two cores that spin on shared memory: the floor of everything that shares memory.
//! One cache line each way; the number that crosses is verified. On one core it would only measure
//! the scheduler, so there is no pinned row.

use crate::candidate::{Candidate, Kind, Mode, Sample, Session, Site, call_sample, patience};
use crate::process::{Role, wait_done};
use crate::work::{Budget, Port, Work, call_one_by_one};
use anyhow::{Context, Result, ensure};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::thread::CpuSet;
use std::sync::atomic::{AtomicU64, Ordering};

/// The floor.
pub struct Spin;

impl Candidate for Spin {
    fn name(&self) -> &'static str {
        "shm-spin"
    }

    fn kind(&self) -> Kind {
        Kind::Floor
    }

    fn describe(&self) -> String {
        "two processes spin on two cores, eight bytes each way".to_string()
    }

    fn missing(&self) -> Option<String> {
        let cores = all_cores().len();
        (cores < 2).then(|| format!("shm-spin: needs two cores, this machine lets the bench use {cores}"))
    }

    fn does(&self, work: Work, mode: Mode) -> bool {
        work == Work::Call && mode == Mode::Free
    }

    fn start<'a>(&'a self, _: &'a Site) -> Result<Box<dyn Session + 'a>> {
        Ok(Box::new(Running))
    }
}

/// The cores that this process may use.
pub fn all_cores() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
        Err(_) => Vec::new(),
    }
}

/// A set of one core.
pub fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

struct Running;

impl Session for Running {
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<Sample> {
        let cores = all_cores();
        ensure!(cores.len() > 1, "two cores are needed");
        let shared = SharedWords::new()?;
        let (there, back) = (shared.word(0), shared.word(1));
        let mut echo = Role::fork("echo process", &only(cores[0]), patience(budget), |_| {
            let mut seen = 0;
            loop {
                seen = spin_until_it_leaves(there, seen);
                back.store(seen, Ordering::Release);
            }
        })?;
        let mut caller = Role::fork("caller", &only(cores[1]), patience(budget), |_| {
            call_one_by_one(&mut Line { there, back, number: 0, seen: 0 }, 8, budget)
        })?;
        let tallies = wait_done(&mut [&mut caller], &mut [&mut echo])?;
        Ok(Sample { per_second: None, ..call_sample(tallies[0], work) })
    }
}

fn spin_until_it_leaves(word: &AtomicU64, value: u64) -> u64 {
    loop {
        let now = word.load(Ordering::Acquire);
        if now != value {
            return now;
        }
        std::hint::spin_loop();
    }
}

/// A port whose whole message is its number.
struct Line<'a> {
    there: &'a AtomicU64,
    back: &'a AtomicU64,
    number: u64,
    seen: u64,
}

impl Port for Line<'_> {
    fn put(&mut self, message: &[u8]) -> Result<()> {
        self.number = u64::from_le_bytes(message.try_into().context("eight bytes")?);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        // Both words begin as zero, so every number travels one higher.
        self.there.store(self.number + 1, Ordering::Release);
        Ok(())
    }

    fn take(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.seen = spin_until_it_leaves(self.back, self.seen);
        each(&(self.seen - 1).to_le_bytes())
    }

    fn echo(&mut self) -> Result<()> {
        unreachable!("the echo process is a loop of its own")
    }
}

/// A page that forked processes share.
struct SharedWords {
    page: *mut AtomicU64,
}

const PAGE: usize = 4096;
/// Two cache lines apart: processors fetch lines in pairs.
const WORDS_APART: usize = 16;

impl SharedWords {
    fn new() -> Result<SharedWords> {
        // SAFETY: the kernel chooses the address, so no existing mapping is touched.
        let page = unsafe {
            mmap_anonymous(std::ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)
        };
        Ok(SharedWords { page: page.context("mapping a shared page")?.cast() })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index * WORDS_APART < PAGE / 8);
        // SAFETY: the word lies in the page (asserted), is aligned, zeroed by the kernel, lives as long
        // as `self`, and is only ever used as an atomic.
        unsafe { &*self.page.add(index * WORDS_APART) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and `word` borrows from `self`, so nobody uses it any more.
        let _ = unsafe { munmap(self.page.cast(), PAGE) };
    }
}
