//! Child processes that do not outlive us.
//!
//! `PR_SET_PDEATHSIG` is set in the child before it runs its program, so that it is killed when its
//! parent ends, kill -9 included. Mind what the kernel calls the parent: the *thread* that spawned.
//! A child spawned from a thread that returns dies with that thread.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::process::{
    Pid, Resource, Rlimit, getpid, getppid, kill_process, kill_process_group,
    set_parent_process_death_signal, setrlimit,
};

pub use rustix::process::Signal;

/// A child process about to be spawned.
#[derive(Debug)]
pub struct Spawn {
    command: Command,
    limits: Vec<(Resource, Rlimit)>,
    dies_with_parent: bool,
}

/// A resource limit of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Open file descriptors.
    OpenFiles,
    /// Bytes of address space.
    AddressSpace,
    /// Seconds of processor time.
    ProcessorSeconds,
    /// Bytes of the largest file it may write.
    FileBytes,
    /// Bytes of a core dump.
    CoreBytes,
    /// Processes of its user.
    Processes,
}

impl Spawn {
    /// Will run `program`, looked up in PATH.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program), limits: Vec::new(), dies_with_parent: true }
    }

    /// The underlying command: arguments, environment, directory, standard streams.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Puts the child at the head of a process group of its own, so that [`kill_group`] reaches
    /// what it spawns in turn.
    pub fn own_group(&mut self) -> &mut Self {
        self.command.process_group(0);
        self
    }

    /// Runs it as another user, without our supplementary groups. Needs root.
    pub fn identity(&mut self, uid: u32, gid: u32) -> &mut Self {
        self.command.uid(uid).gid(gid);
        self
    }

    /// Limits what it may use, soft and hard.
    pub fn limit(&mut self, what: Limit, most: u64) -> &mut Self {
        let resource = match what {
            Limit::OpenFiles => Resource::Nofile,
            Limit::AddressSpace => Resource::As,
            Limit::ProcessorSeconds => Resource::Cpu,
            Limit::FileBytes => Resource::Fsize,
            Limit::CoreBytes => Resource::Core,
            Limit::Processes => Resource::Nproc,
        };
        self.limits.push((resource, Rlimit { current: Some(most), maximum: Some(most) }));
        self
    }

    /// Lets it live on when we end.
    pub fn outlives_parent(&mut self) -> &mut Self {
        self.dies_with_parent = false;
        self
    }

    /// Starts it.
    pub fn spawn(mut self) -> io::Result<Child> {
        let limits = std::mem::take(&mut self.limits);
        let dies_with_parent = self.dies_with_parent;
        let parent = getpid();
        let prepare = move || {
            for &(resource, limit) in &limits {
                setrlimit(resource, limit)?;
            }
            if dies_with_parent {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                // The parent may have died before the request above; then nobody will send it.
                if getppid() != Some(parent) {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
            }
            Ok(())
        };
        // SAFETY: the closure runs in the child between fork and exec, where only
        // async-signal-safe work is allowed, because another thread may have held any lock at the
        // fork. It makes bare system calls (setrlimit, prctl, getppid, each without errno or locks
        // in rustix), reads memory that was filled before the fork, and neither allocates, frees,
        // locks nor panics; `io::Error` from a number does not allocate.
        unsafe { self.command.pre_exec(prepare) };
        self.command.spawn()
    }
}

/// Sends `signal` to a child that was not waited for yet (afterwards its number may be another's).
pub fn signal(child: &Child, signal: Signal) -> io::Result<()> {
    Ok(kill_process(Pid::from_child(child), signal)?)
}

/// Kills everything in the process group of a child spawned with [`Spawn::own_group`] that was not
/// waited for yet. Fine if all of it is gone already.
pub fn kill_group(child: &Child) -> io::Result<()> {
    match kill_process_group(Pid::from_child(child), Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
