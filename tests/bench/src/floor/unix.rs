//! Two processes over one Unix stream socket, with nobody between them.

use super::fixed::FixedSize;
use crate::candidate::{Candidate, Connect, Kind, Mode, Sample, Session, Site, measure_pair};
use crate::stream::Stream;
use crate::work::{Budget, End, Work};
use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::OwnedFd;

/// The floor.
pub struct UnixStream;

impl Candidate for UnixStream {
    fn name(&self) -> &'static str {
        "unix-stream"
    }

    fn kind(&self) -> Kind {
        Kind::Floor
    }

    fn describe(&self) -> String {
        "two processes, one Unix stream socket".to_string()
    }

    fn does(&self, work: Work, _: Mode) -> bool {
        work.is_everybodys()
    }

    fn start<'a>(&'a self, site: &'a Site) -> Result<Box<dyn Session + 'a>> {
        Ok(Box::new(Running { site }))
    }
}

struct Running<'a> {
    site: &'a Site,
}

impl Session for Running<'_> {
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<Sample> {
        measure_pair(&Ends(stream_pair()?), self.site, work, budget)
    }
}

/// Two connected Unix stream sockets.
pub fn stream_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context("a socket pair")
}

/// The two ends of a path that was made before the processes were forked.
pub struct Ends(pub (OwnedFd, OwnedFd));

impl Connect for Ends {
    type Port = FixedSize;

    fn open(&self, end: End, work: Work) -> Result<FixedSize> {
        let fd = if matches!(end, End::Caller | End::Sender) { &self.0.0 } else { &self.0.1 };
        let fd = fd.try_clone().context("duplicating its socket")?;
        Ok(FixedSize::new(Stream::new(fd), work.size()))
    }
}
