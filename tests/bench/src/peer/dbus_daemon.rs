//! dbus-daemon, the reference bus, on a private Unix socket.

use super::dbus_wire::{Bus, write_config};
use crate::candidate::{Candidate, Kind, Mode, Session, Site, missing_program, version_of};
use crate::process::Server;
use crate::work::Work;
use anyhow::Result;
use std::os::unix::net::UnixStream;
use std::process::Command;

/// The peer.
pub struct DbusDaemon;

impl Candidate for DbusDaemon {
    fn name(&self) -> &'static str {
        "dbus-daemon"
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn describe(&self) -> String {
        version_of("dbus-daemon", "--version")
    }

    fn missing(&self) -> Option<String> {
        missing_program("dbus-daemon")
    }

    fn does(&self, work: Work, _: Mode) -> bool {
        work.is_everybodys()
    }

    fn start<'a>(&'a self, site: &'a Site) -> Result<Box<dyn Session + 'a>> {
        let socket = site.dir.join("bus.sock");
        let config = write_config(&site.dir, &socket)?;
        let mut command = Command::new("dbus-daemon");
        command.arg("--nofork").arg(format!("--config-file={}", config.display()));
        let mut server = Server::start("dbus-daemon", command, &site.cpus, &site.dir)?;
        server.wait_until(|| UnixStream::connect(&socket).is_ok())?;
        Ok(Box::new(Bus { _server: server, socket, site }))
    }
}
