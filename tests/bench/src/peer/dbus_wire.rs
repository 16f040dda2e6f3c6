//! The D-Bus wire protocol, as little of it as a call with an array of bytes needs: EXTERNAL
//! authentication, Hello, RequestName, method calls, replies. Leaner than any D-Bus library, so the
//! daemons are measured and not their clients.

use crate::candidate::{Connect, Sample, Session, Site, measure_pair};
use crate::process::Server;
use crate::stream::{Inward, Outward, Stream};
use crate::work::{Budget, End, Port, Work};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const NO_REPLY_EXPECTED: u8 = 1;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// Limits so high that none of this work meets them; both daemons read the same file.
const CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=SOCKET</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
  <limit name="max_incoming_bytes">1000000000</limit>
  <limit name="max_outgoing_bytes">1000000000</limit>
  <limit name="max_message_size">100000000</limit>
  <limit name="max_replies_per_connection">100000</limit>
</busconfig>
"#;

/// Writes the configuration of a bus that listens at `socket`.
pub fn write_config(dir: &Path, socket: &Path) -> Result<PathBuf> {
    let path = dir.join("bus.conf");
    std::fs::write(&path, CONFIG.replace("SOCKET", &socket.display().to_string()))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// A started bus.
pub struct Bus<'a> {
    /// Its process, which lives as long as this.
    pub _server: Server,
    /// Where it listens.
    pub socket: PathBuf,
    /// Where it runs.
    pub site: &'a Site,
}

impl Session for Bus<'_> {
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<Sample> {
        measure_pair(&At(&self.socket), self.site, work, budget)
    }
}

/// Where a bus listens.
pub struct At<'a>(pub &'a Path);

impl Connect for At<'_> {
    type Port = Client;

    fn open(&self, end: End, work: Work) -> Result<Client> {
        let mut client = Client::connect(self.0)?;
        let name = format!("bench.{}", work.name());
        match end {
            End::Caller => client.address(&name, 0),
            End::Sender => client.address(&name, NO_REPLY_EXPECTED),
            End::Echo | End::Sink => client.own(&name)?,
        }
        Ok(client)
    }
}

/// A connection to a bus.
pub struct Client {
    stream: Stream,
    serial: u32,
    /// The header of every call this client makes: all but body length and serial stays the same.
    call: Vec<u8>,
}

/// What of a message matters here.
struct Message {
    kind: u8,
    serial: u32,
    sender: std::ops::Range<usize>,
    body: std::ops::Range<usize>,
}

impl Client {
    /// Authenticates and says Hello.
    pub fn connect(socket: &Path) -> Result<Client> {
        let mut stream = Stream::unix(socket)?;
        let uid: String = rustix::process::geteuid()
            .as_raw()
            .to_string()
            .bytes()
            .map(|digit| format!("{digit:02x}"))
            .collect();
        stream.outward().send_behind(b"\0AUTH EXTERNAL ", format!("{uid}\r\n").as_bytes())?;
        let answer = stream.next_line(|line| String::from_utf8_lossy(line).into_owned())?;
        ensure!(answer.starts_with("OK "), "the bus does not accept this user: {answer}");
        stream.outward().send_behind(b"BEGIN\r\n", &[])?;
        let mut client = Client { stream, serial: 0, call: Vec::new() };
        client.ask_bus("Hello", "", &[])?;
        Ok(client)
    }

    /// Takes a well-known name.
    fn own(&mut self, name: &str) -> Result<()> {
        let mut body = Vec::new();
        put_text(&mut body, name);
        pad(&mut body, 4);
        body.extend_from_slice(&4_u32.to_le_bytes()); // do not queue for it
        self.ask_bus("RequestName", "su", &body)
    }

    /// From now on, calls go to `name`.
    fn address(&mut self, name: &str, flags: u8) {
        self.call = header(
            METHOD_CALL,
            flags,
            &[
                (PATH, "o", "/"),
                (INTERFACE, "s", "bench.Echo"),
                (MEMBER, "s", "Echo"),
                (DESTINATION, "s", name),
            ],
            "ay",
            None,
        );
    }

    fn ask_bus(&mut self, member: &str, signature: &str, body: &[u8]) -> Result<()> {
        let bus = "org.freedesktop.DBus";
        let fields = [
            (PATH, "o", "/org/freedesktop/DBus"),
            (INTERFACE, "s", bus),
            (MEMBER, "s", member),
            (DESTINATION, "s", bus),
        ];
        let mut head = header(METHOD_CALL, 0, &fields, signature, None);
        self.serial += 1;
        stamp(&mut head, body.len(), self.serial);
        self.stream.outward().send_behind(&head, body)?;
        loop {
            let inward = self.stream.inward();
            let Some(message) = first_message(inward)? else {
                self.stream.fill()?;
                continue;
            };
            let text = String::from_utf8_lossy(&inward.unread()[..message.body.end]).into_owned();
            inward.consume(message.body.end);
            match message.kind {
                METHOD_RETURN => return Ok(()),
                ERROR => bail!("the bus refuses {member}: {text:?}"),
                _ => {} // NameAcquired
            }
        }
    }

    fn each_message(
        &mut self,
        mut each: impl FnMut(&[u8], &Message, &[u8], &mut Outward<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut taken = 0;
        loop {
            let (inward, mut outward) = self.stream.split();
            let Some(message) = first_message(inward)? else {
                if taken > 0 {
                    return Ok(());
                }
                self.stream.fill()?;
                continue;
            };
            let bytes = inward.unread();
            if message.kind == ERROR {
                bail!("the bus answers {:?}", String::from_utf8_lossy(&bytes[..message.body.end]));
            }
            if matches!(message.kind, METHOD_CALL | METHOD_RETURN) {
                ensure!(message.body.len() >= 4, "a message without an array of bytes");
                // The body is the array's length, then its bytes.
                each(
                    &bytes[message.body.start + 4..message.body.end],
                    &message,
                    &bytes[message.sender.clone()],
                    &mut outward,
                )?;
                taken += 1;
            }
            inward.consume(message.body.end);
        }
    }
}

impl Port for Client {
    fn put(&mut self, message: &[u8]) -> Result<()> {
        self.serial += 1;
        stamp(&mut self.call, 4 + message.len(), self.serial);
        let mut outward = self.stream.outward();
        outward.bytes().extend_from_slice(&self.call);
        outward.bytes().extend_from_slice(&(message.len() as u32).to_le_bytes());
        outward.payload(message, &[])
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.outward().flush()
    }

    fn take(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.each_message(|payload, _, _, _| each(payload))
    }

    fn echo(&mut self) -> Result<()> {
        let mut serial = self.serial;
        self.each_message(|payload, request, sender, outward| {
            serial += 1;
            let sender = std::str::from_utf8(sender).context("a unique name that is not text")?;
            let mut head = header(
                METHOD_RETURN,
                NO_REPLY_EXPECTED,
                &[(DESTINATION, "s", sender)],
                "ay",
                Some(request.serial),
            );
            stamp(&mut head, 4 + payload.len(), serial);
            outward.bytes().extend_from_slice(&head);
            outward.bytes().extend_from_slice(&(payload.len() as u32).to_le_bytes());
            outward.payload(payload, &[])
        })?;
        self.serial = serial;
        self.flush()
    }
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    pad(out, 4);
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn put_signature(out: &mut Vec<u8>, signature: &str) {
    out.push(signature.len() as u8);
    out.extend_from_slice(signature.as_bytes());
    out.push(0);
}

/// A message's header up to its body, body length and serial still zero.
fn header(
    kind: u8,
    flags: u8,
    texts: &[(u8, &str, &str)],
    signature: &str,
    reply_to: Option<u32>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(&[b'l', kind, flags, 1]);
    out.extend_from_slice(&[0; 12]); // body length, serial, length of the fields
    for (code, field_type, text) in texts {
        pad(&mut out, 8);
        out.push(*code);
        put_signature(&mut out, field_type);
        put_text(&mut out, text);
    }
    if let Some(serial) = reply_to {
        pad(&mut out, 8);
        out.push(REPLY_SERIAL);
        put_signature(&mut out, "u");
        out.extend_from_slice(&serial.to_le_bytes());
    }
    if !signature.is_empty() {
        pad(&mut out, 8);
        out.push(SIGNATURE);
        put_signature(&mut out, "g");
        put_signature(&mut out, signature);
    }
    let fields = out.len() as u32 - 16;
    out[12..16].copy_from_slice(&fields.to_le_bytes());
    pad(&mut out, 8);
    out
}

fn stamp(header: &mut [u8], body: usize, serial: u32) {
    header[4..8].copy_from_slice(&(body as u32).to_le_bytes());
    header[8..12].copy_from_slice(&serial.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The first message, if it has arrived whole.
fn first_message(inward: &Inward) -> Result<Option<Message>> {
    let bytes = inward.unread();
    if bytes.len() < 16 {
        return Ok(None);
    }
    ensure!(bytes[0] == b'l' && bytes[3] == 1, "not a little-endian D-Bus message");
    let fields_end = 16 + u32_at(bytes, 12) as usize;
    let body = fields_end.next_multiple_of(8);
    let end = body + u32_at(bytes, 4) as usize;
    if bytes.len() < end {
        return Ok(None);
    }
    let sender = sender_of(bytes, fields_end)?;
    Ok(Some(Message { kind: bytes[1], serial: u32_at(bytes, 8), sender, body: body..end }))
}

/// Walks the header's fields to the sender's unique name.
fn sender_of(bytes: &[u8], fields_end: usize) -> Result<std::ops::Range<usize>> {
    let mut at = 16;
    while at < fields_end {
        let (code, kind) = (bytes[at], bytes[at + 2]);
        let value = at + 4;
        let end = match kind {
            b's' | b'o' => {
                let length = u32_at(bytes, value) as usize;
                if code == SENDER {
                    return Ok(value + 4..value + 4 + length);
                }
                value + 4 + length + 1
            }
            b'u' => value + 4,
            b'g' => value + 1 + usize::from(bytes[value]) + 1,
            other => bail!("a header field of type {other:#x}"),
        };
        at = end.next_multiple_of(8);
    }
    Ok(0..0)
}
