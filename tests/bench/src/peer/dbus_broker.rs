//! dbus-broker on a private Unix socket. Its launcher expects to be started by systemd and wants three
//! things from it, which are provided here where systemd is absent: the listening socket as inherited
//! file descriptor 3, a journal to log to (a socket in a private /run that a forked process drains),
//! and the address of a bus to be a client of (its own).

use super::dbus_wire::{Bus, Client, write_config};
use crate::candidate::{
    Candidate, Kind, Mode, Session, Site, find_program, missing_program, patience, version_of,
};
use crate::process::{Role, Server};
use crate::work::{Budget, Work};
use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::geteuid;
use rustix::thread::UnshareFlags;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The peer.
pub struct DbusBroker;

const JOURNAL: &str = "/run/systemd/journal/socket";

impl Candidate for DbusBroker {
    fn name(&self) -> &'static str {
        "dbus-broker"
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn describe(&self) -> String {
        version_of("dbus-broker", "--version")
    }

    fn missing(&self) -> Option<String> {
        if !Path::new(JOURNAL).exists() && !geteuid().is_root() {
            return Some(
                "dbus-broker: its launcher needs systemd's journal socket, or root to stand in for it".into(),
            );
        }
        missing_program("dbus-broker-launch")
    }

    fn does(&self, work: Work, _: Mode) -> bool {
        work.is_everybodys()
    }

    fn start<'a>(&'a self, site: &'a Site) -> Result<Box<dyn Session + 'a>> {
        let socket = site.dir.join("bus.sock");
        let config = write_config(&site.dir, &socket)?;
        let listener: OwnedFd = UnixListener::bind(&socket).context("listening for dbus-broker")?.into();
        let journal = if Path::new(JOURNAL).exists() { None } else { Some(stand_in_journal(site)?) };
        let launcher =
            launcher(&config, &socket, listener, journal.as_ref().map(|journal| journal.socket.as_path()))?;
        let mut server = Server::start("dbus-broker", launcher, &site.cpus, &site.dir)?;
        // The socket accepts from the beginning; it serves when a whole Hello has been answered, and until
        // then that blocks, so it is asked from a process of its own.
        let budget = Budget {
            warm: std::time::Duration::ZERO,
            measure: std::time::Duration::ZERO,
            plant: Default::default(),
        };
        let mut probe = Role::fork("first client", &site.cpus, patience(&budget), |reporter| {
            let _connected = Client::connect(&socket)?;
            reporter.ready()?;
            Ok(Default::default())
        })?;
        probe.wait_ready().with_context(|| format!("dbus-broker says: {}", server.last_words()))?;
        server.wait_until(|| true)?;
        Ok(Box::new(Guarded { bus: Bus { _server: server, socket, site }, _journal: journal }))
    }
}

struct Guarded<'a> {
    bus: Bus<'a>,
    _journal: Option<StandInJournal>,
}

impl Session for Guarded<'_> {
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<crate::candidate::Sample> {
        self.bus.measure(work, budget)
    }
}

/// A datagram socket and the process that drains it: a full one would block the launcher.
struct StandInJournal {
    socket: PathBuf,
    _drain: Role,
}

fn stand_in_journal(site: &Site) -> Result<StandInJournal> {
    let path = site.dir.join("journal.sock");
    let socket = UnixDatagram::bind(&path).context("binding the stand-in for the journal")?;
    let hours = std::time::Duration::from_secs(6 * 3600);
    let drain = Role::fork("journal", &site.cpus, hours, |_| {
        let mut line = [0; 65536];
        loop {
            socket.recv(&mut line).context("draining the journal")?;
        }
    })?;
    Ok(StandInJournal { socket: path, _drain: drain })
}

fn launcher(config: &Path, socket: &Path, listener: OwnedFd, journal: Option<&Path>) -> Result<Command> {
    let program = find_program("dbus-broker-launch").context("dbus-broker-launch is gone")?;
    // LISTEN_PID must name the process that is to use the socket, which a shell knows of itself.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(program);
    command.args(["--scope", "user"]).arg(format!("--config-file={}", config.display()));
    let address = format!("unix:path={}", socket.display());
    command.env("DBUS_SESSION_BUS_ADDRESS", &address).env("DBUS_SYSTEM_BUS_ADDRESS", &address);
    command.env("LISTEN_FDS", "1");
    let journal = journal.map(Path::to_path_buf);
    // SAFETY: what runs between fork and exec runs in a child of a process with one thread, so no lock
    // is held by another. Descriptor 3 is, since the listener is open, either the listener or another
    // file of the bench, never one that the starting of the child itself relies on.
    unsafe {
        command.pre_exec(move || {
            if let Some(journal) = &journal {
                show_journal(journal)?;
            }
            pass_as_first(listener.as_raw_fd())
        });
    }
    Ok(command)
}

/// Makes `fd` the descriptor 3 that an activated program looks at, open across exec.
fn pass_as_first(fd: i32) -> std::io::Result<()> {
    // SAFETY: both calls take plain numbers; a wrong one is an error, not undefined.
    let result = unsafe { if fd == 3 { libc::fcntl(fd, libc::F_SETFD, 0) } else { libc::dup2(fd, 3) } };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives this process a private /run that holds the stand-in for the journal.
fn show_journal(journal: &Path) -> std::io::Result<()> {
    // SAFETY: only the mount namespace is left, which no Rust code holds assumptions about.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None)?;
    std::fs::create_dir_all("/run/systemd/journal")?;
    std::os::unix::fs::symlink(journal, JOURNAL)
}
