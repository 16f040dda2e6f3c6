//! ZeroMQ through a broker of its own kind: a process with zmq_proxy between a ROUTER and a DEALER over
//! ipc for calls, between PULL and PUSH for one-way messages. Clients are DEALER sockets (a REQ socket
//! could have only one call open). It batches by itself, in its I/O threads.

use super::zeromq_ffi::{Context, DEALER, Library, PULL, PUSH, ROUTER, Socket};
use crate::candidate::{Candidate, Connect, Kind, Mode, Sample, Session, Site, measure_pair, patience};
use crate::process::Role;
use crate::work::{Budget, End, Port, Work};
use anyhow::{Context as _, Result};

/// The peer.
pub struct ZeroMq;

impl Candidate for ZeroMq {
    fn name(&self) -> &'static str {
        "zeromq"
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn describe(&self) -> String {
        let version = Library::load().map(|library| library.version()).unwrap_or_default();
        format!("libzmq {version}, ipc, zmq_proxy")
    }

    fn missing(&self) -> Option<String> {
        Library::load().is_none().then(|| "libzmq.so.5: not installed (run with --install)".to_string())
    }

    fn does(&self, work: Work, _: Mode) -> bool {
        work.is_everybodys()
    }

    fn start<'a>(&'a self, site: &'a Site) -> Result<Box<dyn Session + 'a>> {
        Ok(Box::new(Running { library: Library::load().context("libzmq is gone")?, site }))
    }
}

struct Running<'a> {
    library: Library,
    site: &'a Site,
}

/// The addresses of the two sides of a proxy.
struct Sides {
    library: Library,
    near: String,
    far: String,
}

impl Session for Running<'_> {
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<Sample> {
        let address = |side| format!("ipc://{}/{}.{side}", self.site.dir.display(), work.name());
        let sides = Sides { library: self.library, near: address("near"), far: address("far") };
        // Fresh for each piece of work, because the kinds of its sockets depend on it.
        let mut proxy = Role::fork("proxy", &self.site.cpus, patience(budget), |reporter| {
            let context = sides.library.context();
            let (near, far) = if work == Work::OneWay { (PULL, PUSH) } else { (ROUTER, DEALER) };
            let (near, far) = (context.socket(near)?, context.socket(far)?);
            near.bind(&sides.near)?;
            far.bind(&sides.far)?;
            reporter.ready()?;
            near.proxy(&far)?;
            Ok(Default::default())
        })?;
        proxy.wait_ready()?;
        measure_pair(&sides, self.site, work, budget)
    }
}

impl Connect for Sides {
    type Port = Client;

    fn open(&self, end: End, _: Work) -> Result<Client> {
        let context = self.library.context();
        let (kind, address) = match end {
            End::Caller => (DEALER, &self.near),
            End::Sender => (PUSH, &self.near),
            End::Echo => (DEALER, &self.far),
            End::Sink => (PULL, &self.far),
        };
        let socket = context.socket(kind)?;
        socket.connect(address)?;
        Ok(Client { socket, _context: context })
    }
}

struct Client {
    socket: Socket,
    _context: Context,
}

impl Port for Client {
    fn put(&mut self, message: &[u8]) -> Result<()> {
        self.socket.send(message)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn take(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        // More than a window at once would only delay the answers.
        const AT_ONCE: usize = 64;
        for taken in 0..AT_ONCE {
            match self.socket.receive(taken == 0)? {
                Some(message) => each(message)?,
                None => break,
            }
        }
        Ok(())
    }

    fn echo(&mut self) -> Result<()> {
        // The router's address of the caller, then the message: both go back as they came.
        loop {
            self.socket.receive(true)?;
            let more = self.socket.more()?;
            self.socket.send_back(more)?;
            if !more {
                return Ok(());
            }
        }
    }
}
