//! A lean client: frames over a blocking socket, and nothing above them. What is timed with it is the broker
//! and as little else as can be.

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use switchboard_protocol::control::{Open, Opened, Operation, Serve, Served};
use switchboard_protocol::{
    Decoder, Failure, Goodbye, HELLO_MAGIC, Header, Hello, Kind, ObjectKind, Outcome, Tail, VERSION, Verb,
    Welcome, decode, encode, write_frame,
};

/// After so long without an answer, one was lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Control operations that are under way at once.
const TOGETHER: usize = 256;

/// One connection.
pub struct Wire {
    stream: UnixStream,
    decoder: Decoder,
    buffer: Vec<u8>,
    out: Vec<u8>,
    payload: Vec<u8>,
    incarnation: u32,
}

impl Wire {
    /// Connects and shakes hands as a program of that name.
    pub fn connect(socket: &Path, program: &str) -> Result<Wire> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("connecting to {}", socket.display()))?;
        Wire::greet(stream, program)
    }

    /// Shakes hands.
    pub fn greet(stream: UnixStream, program: &str) -> Result<Wire> {
        stream.set_read_timeout(Some(PATIENCE)).context("a time-out")?;
        let (out, payload) = (Vec::new(), Vec::new());
        let mut wire = Wire {
            stream,
            decoder: Decoder::default(),
            buffer: vec![0; 64 << 10],
            out,
            payload,
            incarnation: 0,
        };
        let hello =
            Hello { version_min: VERSION, version_max: VERSION, features: 0, program: program.to_string() };
        wire.put(Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) }, &encode(&hello));
        wire.flush()?;
        let header = wire.next()?;
        ensure!(header.kind == Kind::Welcome, "the broker answered a hello with {:?}", header.kind);
        let welcome: Welcome = decode(wire.payload()).context("a welcome that cannot be read")?;
        wire.incarnation = welcome.incarnation;
        Ok(wire)
    }

    /// The broker's incarnation, which grows with every start.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Lets this end wait as long as it takes: for those who serve and subscribe.
    pub fn wait_for_ever(&mut self) -> Result<()> {
        self.stream.set_read_timeout(None).context("no time-out")
    }

    /// The bare connection.
    pub fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// The connection, to be polled.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Queues a frame.
    pub fn put(&mut self, header: Header, payload: &[u8]) {
        write_frame(&mut self.out, header, &[], &[], payload);
    }

    /// Sends what is queued.
    pub fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out).context("sending")?;
        self.out.clear();
        Ok(())
    }

    /// The next frame; what it carries is [`Wire::payload`].
    pub fn next(&mut self) -> Result<Header> {
        loop {
            if let Some(header) = self.arrived()? {
                return Ok(header);
            }
            self.receive()?;
        }
    }

    /// A frame that has been received already.
    pub fn arrived(&mut self) -> Result<Option<Header>> {
        let Some((header, tail)) = self.decoder.next().context("what the broker sent is no frame")? else {
            return Ok(None);
        };
        self.payload.clear();
        self.payload.extend_from_slice(Tail::of(&header, tail).payload);
        if header.kind == Kind::Goodbye {
            let goodbye: Option<Goodbye> = decode(&self.payload);
            bail!("the broker said goodbye: {}", goodbye.map_or(String::new(), |it| it.message));
        }
        Ok(Some(header))
    }

    /// Receives what there is, once there is something.
    pub fn receive(&mut self) -> Result<()> {
        let count = match self.stream.read(&mut self.buffer) {
            Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => {
                bail!(
                    "nothing came within {} s: a message was lost, or the broker stalled",
                    PATIENCE.as_secs()
                )
            }
            other => other.context("receiving")?,
        };
        ensure!(count > 0, "the broker closed the connection");
        self.decoder.push(&self.buffer[..count]);
        Ok(())
    }

    /// What the last frame carried.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The end of the call `id`, which must be a reply.
    pub fn reply(&mut self, id: u64) -> Result<Header> {
        let header = self.next()?;
        self.must_be(&header, Kind::Reply)?;
        ensure!(header.call == id, "call {:#x} was answered where {id:#x} was due", header.call);
        Ok(header)
    }

    /// Says what came instead, if it is not of that kind.
    pub fn must_be(&self, header: &Header, kind: Kind) -> Result<()> {
        if header.kind == Kind::Outcome {
            let failure: Option<Failure> = decode(self.payload());
            bail!(
                "{}: {}",
                Outcome::from_wire(header.method),
                failure.map_or(String::new(), |it| it.message)
            );
        }
        ensure!(header.kind == kind, "{:?} came where {kind:?} was due", header.kind);
        Ok(())
    }

    /// One call from its beginning to its reply.
    pub fn call(&mut self, header: Header, payload: &[u8]) -> Result<Header> {
        self.put(Header { kind: Kind::Call, ..header }, payload);
        self.flush()?;
        self.reply(header.call)
    }

    /// A control operation.
    pub fn control<T: DeserializeOwned>(&mut self, operation: Operation, body: &impl Serialize) -> Result<T> {
        let header = Header { method: operation as u32, ..Header::new(Kind::Call) };
        self.call(header, &encode(body)).with_context(|| format!("{operation:?}"))?;
        decode(self.payload()).with_context(|| format!("the answer to {operation:?} cannot be read"))
    }

    /// The same operation many times, many at once; what is answered is only looked at for refusals.
    pub fn control_many<B: Serialize>(
        &mut self,
        operation: Operation,
        bodies: impl IntoIterator<Item = B>,
        mut answered: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut bodies = bodies.into_iter().peekable();
        while bodies.peek().is_some() {
            let mut count = 0;
            for body in bodies.by_ref().take(TOGETHER) {
                let header = Header { method: operation as u32, call: count, ..Header::new(Kind::Call) };
                self.put(header, &encode(&body));
                count += 1;
            }
            self.flush()?;
            for id in 0..count {
                self.reply(id).with_context(|| format!("{operation:?}"))?;
                answered(self.payload())?;
            }
        }
        Ok(())
    }

    /// Opens an object; gives the handle.
    pub fn open(&mut self, name: &str, kind: ObjectKind, verbs: &[Verb]) -> Result<u64> {
        let opened: Opened = self.control(Operation::Open, &open(name, kind, verbs))?;
        Ok(opened.handle)
    }

    /// Serves a name, with so many calls at once.
    pub fn serve(&mut self, name: &str, calls: u32) -> Result<Served> {
        let about = String::new();
        self.control(
            Operation::Serve,
            &Serve { name: name.to_string(), mode: 0, flags: 0, calls, send_bytes: 1 << 20, about },
        )
    }
}

/// The body that opens an object.
pub fn open(name: &str, kind: ObjectKind, verbs: &[Verb]) -> Open {
    let rights = verbs.iter().fold(0, |rights, verb| rights | verb.right().0);
    Open { name: name.to_string(), kind: kind as u8, rights, on_behalf_of: 0 }
}
