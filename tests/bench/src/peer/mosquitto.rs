//! mosquitto on a Unix socket, MQTT 3.1.1 by hand at QoS 0. Its limit on queued messages is lifted,
//! because at QoS 0 it drops what is beyond.

use crate::candidate::{
    Candidate, Connect, Kind, Mode, Sample, Session, Site, find_program, measure_pair, missing_program,
    version_of,
};
use crate::process::Server;
use crate::stream::{Inward, Outward, Stream};
use crate::work::{Budget, End, Port, Work};
use anyhow::{Context, Result, bail, ensure};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The peer.
pub struct Mosquitto;

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;

impl Candidate for Mosquitto {
    fn name(&self) -> &'static str {
        "mosquitto"
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn describe(&self) -> String {
        format!("{}, Unix socket, QoS 0", version_of("mosquitto", "-h"))
    }

    fn missing(&self) -> Option<String> {
        missing_program("mosquitto")
    }

    fn does(&self, work: Work, _: Mode) -> bool {
        work.is_everybodys()
    }

    fn start<'a>(&'a self, site: &'a Site) -> Result<Box<dyn Session + 'a>> {
        let socket = site.dir.join("mosquitto.sock");
        let config = site.dir.join("mosquitto.conf");
        // As root it would become another user, and with that forget that it must die with the bench.
        let user = if rustix::process::geteuid().is_root() { "user root\n" } else { "" };
        let text = format!(
            "listener 0 {}\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n\
             max_queued_bytes 0\nlog_type error\nlog_type warning\n{user}",
            socket.display()
        );
        std::fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        let mut command = Command::new(find_program("mosquitto").context("mosquitto is gone")?);
        command.arg("-c").arg(&config);
        let mut server = Server::start("mosquitto", command, &site.cpus, &site.dir)?;
        server.wait_until(|| UnixStream::connect(&socket).is_ok())?;
        Ok(Box::new(Running { _server: server, socket, site }))
    }
}

struct Running<'a> {
    _server: Server,
    socket: PathBuf,
    site: &'a Site,
}

impl Session for Running<'_> {
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<Sample> {
        measure_pair(&At(&self.socket), self.site, work, budget)
    }
}

struct At<'a>(&'a Path);

impl Connect for At<'_> {
    type Port = Client;

    fn open(&self, end: End, work: Work) -> Result<Client> {
        let (ask, answer) = (work.name().to_string(), format!("{}/reply", work.name()));
        let (publish_to, subscribe_to) = match end {
            End::Caller => (ask, Some(answer)),
            End::Echo => (answer, Some(ask)),
            End::Sink => (answer, Some(ask)),
            End::Sender => (ask, None),
        };
        let mut topic = Vec::new();
        put_string(&mut topic, &publish_to);
        let mut client = Client { stream: Stream::unix(self.0)?, topic };
        // Protocol level 4, clean session, no keep-alive, an identifier of the server's choice.
        let mut body = Vec::new();
        put_string(&mut body, "MQTT");
        body.extend_from_slice(&[4, 2, 0, 0]);
        put_string(&mut body, "");
        client.control(CONNECT, &body, CONNACK)?;
        if let Some(topic) = subscribe_to {
            let mut body = vec![0, 1];
            put_string(&mut body, &topic);
            body.push(0); // QoS 0
            client.control(SUBSCRIBE, &body, SUBACK)?;
        }
        Ok(client)
    }
}

struct Client {
    stream: Stream,
    /// The topic as PUBLISH carries it.
    topic: Vec<u8>,
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_head(out: &mut Vec<u8>, kind: u8, mut length: usize) {
    out.push(kind);
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}

/// The first packet that has arrived whole: kind, where its body begins, where it ends.
fn first_packet(inward: &Inward) -> Result<Option<(u8, usize, usize)>> {
    let bytes = inward.unread();
    let (mut length, mut shift) = (0, 0);
    for at in 1..bytes.len().min(5) {
        length |= usize::from(bytes[at] & 0x7f) << shift;
        shift += 7;
        if bytes[at] & 0x80 == 0 {
            let end = at + 1 + length;
            return Ok((bytes.len() >= end).then_some((bytes[0], at + 1, end)));
        }
    }
    ensure!(bytes.len() < 5, "mosquitto sent a length of more than four bytes");
    Ok(None)
}

impl Client {
    /// Sends a control packet and waits for its answer.
    fn control(&mut self, kind: u8, body: &[u8], answer: u8) -> Result<()> {
        let mut outward = self.stream.outward();
        put_head(outward.bytes(), kind, body.len());
        outward.send_behind(body, &[])?;
        loop {
            let inward = self.stream.inward();
            if let Some((kind, body, end)) = first_packet(inward)? {
                // CONNACK ends with 0 for accepted, SUBACK with the granted QoS.
                let code = inward.unread()[end - 1];
                ensure!(
                    kind == answer && body < end && code == 0,
                    "mosquitto refused: {kind:#x}, code {code}"
                );
                inward.consume(end);
                return Ok(());
            }
            self.stream.fill()?;
        }
    }

    fn each_message(
        &mut self,
        mut each: impl FnMut(&[u8], &[u8], &mut Outward<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut taken = 0;
        loop {
            let (inward, mut outward) = self.stream.split();
            match first_packet(inward)? {
                Some((PUBLISH, body, end)) => {
                    let packet = &inward.unread()[body..end];
                    let topic = 2 + usize::from(u16::from_be_bytes([packet[0], packet[1]]));
                    each(&packet[topic..], &self.topic, &mut outward)?;
                    inward.consume(end);
                    taken += 1;
                }
                Some((kind, ..)) => {
                    bail!("mosquitto sent a packet of kind {kind:#x}, which was not expected")
                }
                None if taken > 0 => return Ok(()),
                None => self.stream.fill()?,
            }
        }
    }
}

fn publish(outward: &mut Outward<'_>, topic: &[u8], message: &[u8]) -> Result<()> {
    put_head(outward.bytes(), PUBLISH, topic.len() + message.len());
    outward.bytes().extend_from_slice(topic);
    outward.payload(message, &[])
}

impl Port for Client {
    fn put(&mut self, message: &[u8]) -> Result<()> {
        publish(&mut self.stream.outward(), &self.topic, message)
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.outward().flush()
    }

    fn take(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.each_message(|message, _, _| each(message))
    }

    fn echo(&mut self) -> Result<()> {
        self.each_message(|message, topic, outward| publish(outward, topic, message))?;
        self.flush()
    }
}
