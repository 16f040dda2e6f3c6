//! What every measurement needs: the programs, a folder, the cores, and how much of everything.

use super::args::{Plant, Scale};
use crate::candidate::Mode;
use crate::leftovers::Folder;
use crate::rounds::cpus;
use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::CpuSet;
use std::path::{Path, PathBuf};

/// One run.
pub struct Bench {
    /// `switchboardd`.
    pub daemon: PathBuf,
    /// Where everything of this run lies.
    pub folder: Folder,
    /// One core, for all processes of what is timed.
    pub pinned: CpuSet,
    /// All cores.
    pub free: CpuSet,
    /// The fault that was asked for.
    pub plant: Plant,
    quick: bool,
    rounds: Option<u32>,
}

/// Lets this process and all that it starts run before whatever else the machine does.
fn go_first() -> Result<()> {
    let least = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to a valid sched_param, which the call only reads.
    let refused = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &least) } != 0;
    let why = std::io::Error::last_os_error();
    ensure!(!refused, "--first needs the right to run in real time, which root mostly has: {why}");
    Ok(())
}

impl Bench {
    /// Finds the program, and room for many connections.
    pub fn new(args: &Scale) -> Result<Bench> {
        let build_error = std::env::var("SWITCHBOARD_BUILD_ERROR").ok();
        ensure!(build_error.is_none(), "switchboard: {}", build_error.unwrap_or_default());
        let dir = std::env::var_os("SWITCHBOARD_BIN_DIR");
        let dir = dir.context("SWITCHBOARD_BIN_DIR is not set: start this by tests/bench/run --scale")?;
        let daemon = Path::new(&dir).join("switchboardd");
        ensure!(daemon.is_file(), "{} does not exist", daemon.display());
        if args.first {
            go_first()?;
        }
        Ok(Bench {
            daemon,
            folder: Folder::create()?,
            pinned: cpus(Mode::Pinned)?,
            free: cpus(Mode::Free)?,
            plant: args.plant,
            quick: args.quick,
            rounds: args.rounds,
        })
    }

    /// How many rounds.
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 11 })
    }

    /// So many, or a tenth of them if it is to be quick.
    pub fn many(&self, count: u64) -> u64 {
        if self.quick { count / 10 } else { count }
    }

    /// Whether the loaded side is to look worse than it is.
    pub fn burdens(&self) -> bool {
        self.plant == Plant::Burden
    }

    /// Raises the limit of open files to what the machine allows, which must be `files` at least.
    pub fn raise_open_files(&self, files: u64) -> Result<()> {
        let now = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })
            .context("raising the limit of open files")?;
        let most = now.maximum.unwrap_or(u64::MAX);
        ensure!(
            files <= most,
            "{files} open files are needed in one process and this machine allows {most} (`ulimit -Hn`): raise it, or use --quick"
        );
        Ok(())
    }
}
