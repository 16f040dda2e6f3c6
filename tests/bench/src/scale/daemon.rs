//! A private `switchboardd`, and what /proc says of it.

use super::bench::Bench;
use super::wire::Wire;
use crate::peer::switchboard::isolate;
use crate::process::Server;
use anyhow::{Context, Result};
use rustix::thread::CpuSet;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A started broker; killed when dropped.
pub struct Daemon {
    server: Server,
    /// Where it listens.
    pub socket: PathBuf,
}

/// What of a process is in memory, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Memory {
    /// Everything, pages shared with others included.
    pub rss: u64,
    /// Everything, shared pages in parts.
    pub pss: u64,
}

impl Daemon {
    /// Starts one that keeps its state in a folder of that name, and waits until it takes connections.
    pub fn start(bench: &Bench, name: &str, config: &str, cpus: &CpuSet) -> Result<Daemon> {
        let dir = bench.folder.subfolder(name)?;
        let mut daemon = Daemon::launch(bench, &dir, config, cpus)?;
        let socket = daemon.socket.clone();
        daemon.server.wait_until(|| UnixStream::connect(&socket).is_ok())?;
        Ok(daemon)
    }

    /// Starts one with its state in `dir`, and waits for nothing.
    pub fn launch(bench: &Bench, dir: &Path, config: &str, cpus: &CpuSet) -> Result<Daemon> {
        let socket = dir.join("switchboard.sock");
        let file = dir.join("switchboard.toml");
        std::fs::write(&file, config).context("its configuration")?;
        let mut command = Command::new(&bench.daemon);
        command
            .arg("--socket")
            .arg(&socket)
            .arg("--state-dir")
            .arg(dir.join("state"))
            .arg("--config")
            .arg(&file);
        isolate(&mut command, dir);
        let server = Server::start("switchboardd", command, cpus, dir)?;
        Ok(Daemon { server, socket })
    }

    /// A connection for this process.
    pub fn connect(&self) -> Result<Wire> {
        Wire::connect(&self.socket, "scale")
            .with_context(|| format!("switchboardd says: {}", self.last_words()))
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        self.server.last_words()
    }

    /// What of it is in memory.
    pub fn memory(&self) -> Result<Memory> {
        let path = format!("/proc/{}/smaps_rollup", self.server.pid());
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let bytes = |key: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            Ok(kib.with_context(|| format!("no {key} in {path}"))? * 1024)
        };
        Ok(Memory { rss: bytes("Rss:")?, pss: bytes("Pss:")? })
    }

    /// The processor time of all its threads in nanoseconds, system calls included.
    pub fn cpu_ns(&self) -> Result<u64> {
        let path = format!("/proc/{}/task", self.server.pid());
        let mut sum = 0;
        for thread in std::fs::read_dir(&path).with_context(|| path.clone())? {
            let file = thread.context("a thread")?.path().join("schedstat");
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let first = text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
            sum += first.with_context(|| format!("{} says nothing", file.display()))?;
        }
        Ok(sum)
    }
}

/// What the kernel itself holds in its tables, of the whole machine, in bytes.
pub fn kernel_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.context("no Slab in /proc/meminfo")? * 1024)
}
