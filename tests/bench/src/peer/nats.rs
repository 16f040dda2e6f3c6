//! nats-server on a loopback port (it has no Unix sockets), its text protocol written by hand: core
//! NATS, no JetStream, not verbose. Its limit on pending bytes is raised, because by default it
//! closes the connection of a receiver that falls behind.

use crate::candidate::{
    Candidate, Connect, Kind, Mode, Sample, Session, Site, measure_fan_out, measure_pair, missing_program,
    version_of,
};
use crate::process::Server;
use crate::stream::{Inward, Stream};
use crate::work::{Budget, End, Port, Work};
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

/// The peer.
pub struct Nats;

pub(super) const CONFIG: &str = "max_payload: 8388608\nmax_pending: 2147483647\nwrite_deadline: \"60s\"\n";

impl Candidate for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn describe(&self) -> String {
        format!("{}, TCP loopback", version_of("nats-server", "--version"))
    }

    fn missing(&self) -> Option<String> {
        missing_program("nats-server")
    }

    fn does(&self, work: Work, _: Mode) -> bool {
        work.is_everybodys() || matches!(work, Work::Publish | Work::FanOut)
    }

    fn start<'a>(&'a self, site: &'a Site) -> Result<Box<dyn Session + 'a>> {
        let config = site.dir.join("nats.conf");
        std::fs::write(&config, CONFIG).with_context(|| format!("writing {}", config.display()))?;
        let port = free_port()?;
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"]).arg(&config);
        let mut server = Server::start("nats-server", command, &site.cpus, &site.dir)?;
        server.wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Box::new(Running { _server: server, port, site }))
    }
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr().context("its address")?.port())
}

struct Running<'a> {
    _server: Server,
    port: u16,
    site: &'a Site,
}

impl Session for Running<'_> {
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<Sample> {
        match work {
            Work::FanOut => measure_fan_out(&At(self.port), self.site, budget),
            _ => measure_pair(&At(self.port), self.site, work, budget),
        }
    }
}

struct At(u16);

impl Connect for At {
    type Port = Client;

    fn open(&self, end: End, work: Work) -> Result<Client> {
        let (ask, answer) = (work.name(), "r");
        let subscribe = match end {
            End::Caller => format!("SUB {answer} 1\r\n"),
            End::Echo | End::Sink => format!("SUB {ask} 1\r\n"),
            End::Sender => String::new(),
        };
        let publish = match end {
            End::Caller => format!("PUB {ask} {answer} "),
            _ => format!("PUB {ask} "),
        };
        Client::connect(self.0, &subscribe, publish)
    }
}

/// A client of nats-server with at most one subscription.
pub(super) struct Client {
    stream: Stream,
    publish: Vec<u8>,
}

/// One frame of the server that has arrived whole.
enum Frame {
    /// `head` bytes of header line, then the payload.
    Message { head: usize, reply: std::ops::Range<usize>, length: usize },
    /// A line without payload.
    Line(usize),
}

/// The first frame in `bytes`, if it is there whole.
fn first_frame(inward: &Inward) -> Result<Option<Frame>> {
    let bytes = inward.unread();
    let Some(line) = inward.line() else { return Ok(None) };
    let end = line.len();
    let Some(words) = line.strip_prefix(b"MSG ") else {
        if line.starts_with(b"-ERR") {
            bail!("nats-server says {}", String::from_utf8_lossy(line));
        }
        return Ok(Some(Frame::Line(end + 2)));
    };
    // MSG subject sid [reply] length
    let mut spaces = words.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| at + 4);
    let (_, Some(second)) = (spaces.next(), spaces.next()) else { bail!("a MSG line with too few words") };
    let (reply, last) = match spaces.next() {
        Some(third) => (second + 1..third, third),
        None => (0..0, second),
    };
    let length = line[last + 1..].iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    let whole = bytes.len() >= end + 2 + length + 2;
    Ok(whole.then_some(Frame::Message { head: end + 2, reply, length }))
}

impl Client {
    /// Connects; `subscribe` is a SUB line or nothing, `publish` what stands before the length of a message.
    pub(super) fn connect(port: u16, subscribe: &str, publish: String) -> Result<Client> {
        let mut stream = Stream::loopback(port)?;
        stream.next_line(|_| ())?; // INFO
        let connect =
            "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"bench\",\"version\":\"1\"}\r\n";
        stream.outward().bytes().extend_from_slice(format!("{connect}{subscribe}PING\r\n").as_bytes());
        stream.outward().flush()?;
        // PONG comes after the subscription is in effect.
        while !stream.next_line(|line| line == b"PONG")? {}
        Ok(Client { stream, publish: publish.into_bytes() })
    }

    /// Hands over every frame that has arrived, after waiting for at least one message.
    fn each_message(
        &mut self,
        mut each: impl FnMut(&[u8], &[u8], &mut crate::stream::Outward<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut taken = 0;
        loop {
            let (inward, mut outward) = self.stream.split();
            match first_frame(inward)? {
                Some(Frame::Message { head, reply, length }) => {
                    let bytes = inward.unread();
                    each(&bytes[head..head + length], &bytes[reply], &mut outward)?;
                    inward.consume(head + length + 2);
                    taken += 1;
                }
                Some(Frame::Line(length)) => {
                    if inward.unread().starts_with(b"PING") {
                        outward.bytes().extend_from_slice(b"PONG\r\n");
                        outward.flush()?;
                    }
                    inward.consume(length);
                }
                None if taken > 0 => return Ok(()),
                None => self.stream.fill()?,
            }
        }
    }
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    write!(out, "{length}\r\n").expect("writing to memory");
}

impl Port for Client {
    fn put(&mut self, message: &[u8]) -> Result<()> {
        let mut outward = self.stream.outward();
        outward.bytes().extend_from_slice(&self.publish);
        write_length(outward.bytes(), message.len());
        outward.payload(message, b"\r\n")
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.outward().flush()
    }

    fn take(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.each_message(|message, _, _| each(message))
    }

    fn echo(&mut self) -> Result<()> {
        self.each_message(|message, reply, outward| {
            let out = outward.bytes();
            out.extend_from_slice(b"PUB ");
            out.extend_from_slice(reply);
            out.push(b' ');
            write_length(out, message.len());
            outward.payload(message, b"\r\n")
        })?;
        self.flush()
    }
}
