//! A client that speaks frames and nothing above them, so that a test can say exactly what it wants,
//! also what no library would let it say.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::path::Path;
use std::process::Child;

use serde::Serialize;
use serde::de::DeserializeOwned;
use switchboard_protocol::control::{self, Listing, Open, Opened, Operation, Serve, Served, Status};
use switchboard_protocol::{
    Decoder, Epoch, Failure, Goodbye, GoodbyeReason, HELLO_MAGIC, Header, Hello, Kind, Outcome, Rights, Tail,
    Verb, Welcome, decode, encode, write_frame,
};
use switchboard_transport::{Fds, Interest, Stream, connect};

use super::watchdog::{PATIENCE, Watchdog};

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// Frames that came while another was waited for.
    inbox: VecDeque<Frame>,
    /// By call slot: whether it is in use.
    slots: Vec<bool>,
    generation: u64,
    welcome: Option<Welcome>,
    /// The process that stands between us and the broker, if one does.
    process: Option<Child>,
}

/// A frame that came.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// What follows it.
    pub tail: Vec<u8>,
}

/// How a call ended, if not by a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The outcome.
    pub outcome: Outcome,
    /// What was said about it.
    pub failure: Failure,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The reason in the goodbye; `None` if there was no goodbye.
    pub reason: Option<GoodbyeReason>,
    /// What was said about it.
    pub message: String,
}

impl Client {
    /// Connects and shakes hands.
    pub fn new(socket: &Path) -> Self {
        Self::silent(socket).greeted()
    }

    /// Connects without a word.
    pub fn silent(socket: &Path) -> Self {
        Self::over(connect(socket).unwrap_or_else(|error| panic!("{error}")))
    }

    /// Speaks over this stream.
    pub fn over(stream: Stream) -> Self {
        stream.set_send_timeout(Some(PATIENCE)).expect("a socket");
        Self {
            stream,
            decoder: Decoder::default(),
            buffer: vec![0; 64 << 10],
            inbox: VecDeque::new(),
            slots: Vec::new(),
            generation: 0,
            welcome: None,
            process: None,
        }
    }

    /// The process through which it speaks; killed with it.
    pub(super) fn through(mut self, process: Child) -> Self {
        self.process = Some(process);
        self
    }

    /// Says hello, and must be welcome.
    pub fn greeted(mut self) -> Self {
        self.greet().unwrap_or_else(|ended| panic!("not welcome: {ended:?}"));
        self
    }

    /// Says hello.
    pub fn greet(&mut self) -> Result<Welcome, Ended> {
        // Whoever is turned away may be gone before it has said a word.
        let _ = self.try_send_bytes(&hello(1, 1));
        match self.next_frame() {
            Some(Frame { header: Header { kind: Kind::Welcome, .. }, tail }) => {
                let welcome: Welcome = decode(&tail).expect("a welcome as in SPEC 7.3");
                self.welcome = Some(welcome.clone());
                Ok(welcome)
            }
            frame => Err(self.ended_with(frame)),
        }
    }

    /// What the broker said at the handshake.
    pub fn welcome(&self) -> &Welcome {
        self.welcome.as_ref().expect("a client that has shaken hands")
    }

    /// The bare stream.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The process that the broker sees.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or_else(std::process::id, Child::id)
    }

    /// Ends the process that the broker sees by kill -9. What it sent can still be read.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("a client in a process of its own");
        process.kill().expect("our child");
        let _watchdog = Watchdog::new("a killed peer to end");
        process.wait().expect("our child");
    }

    /// Broker time now: the clock of this machine.
    pub fn now() -> u64 {
        switchboard_transport::clock::monotonic_ns()
    }

    /// Sends one frame.
    pub fn send(&mut self, header: Header, payload: &[u8]) {
        self.send_bytes(&frame(header, payload));
    }

    /// Sends bytes, all of them.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).expect("the broker reads");
    }

    /// Sends bytes, as long as somebody reads them.
    pub fn try_send_bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = self.stream.send_wait(&[IoSlice::new(bytes)], &[])?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    /// The next frame; `None` at the end of the stream.
    pub fn next_frame(&mut self) -> Option<Frame> {
        self.inbox.pop_front().or_else(|| self.receive())
    }

    /// The first frame that is as wanted; others wait for who wants them.
    pub fn take(&mut self, what: &str, mut wanted: impl FnMut(&Frame) -> bool) -> Frame {
        if let Some(at) = self.inbox.iter().position(&mut wanted) {
            return self.inbox.remove(at).expect("a frame that was just found");
        }
        loop {
            let Some(frame) = self.receive() else {
                panic!("the connection ended while waiting for {what}; in the inbox: {:?}", self.inbox)
            };
            if wanted(&frame) {
                return frame;
            }
            self.inbox.push_back(frame);
        }
    }

    /// Whether bytes or the end wait to be read, without waiting for them.
    pub fn has_news(&self) -> bool {
        !self.inbox.is_empty()
            || self.stream.wait(Interest::READ, Some(std::time::Duration::ZERO)).expect("a socket").readable
    }

    fn receive(&mut self) -> Option<Frame> {
        loop {
            if let Some((header, tail)) = self.decoder.next().expect("the broker speaks the protocol") {
                let frame = Frame { header, tail: tail.to_vec() };
                self.note_end(&header);
                return Some(frame);
            }
            let ready = self.stream.wait(Interest::READ, Some(PATIENCE)).expect("a socket");
            assert!(ready.readable, "gave up after {} s of waiting for a frame", PATIENCE.as_secs());
            let received = match self.stream.recv(&mut self.buffer, &mut Fds::new()) {
                Ok(received) => received,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                {
                    continue;
                }
                // A reset is an end, too: the broker closed with bytes of ours unread.
                Err(_) => return None,
            };
            if received.bytes == 0 {
                return None;
            }
            self.decoder.push(&self.buffer[..received.bytes]);
        }
    }

    /// Reads to the end and says how it came.
    pub fn ended(&mut self) -> Ended {
        let mut last = None;
        while let Some(frame) = self.next_frame() {
            last = Some(frame);
        }
        self.ended_with(last)
    }

    fn ended_with(&mut self, mut last: Option<Frame>) -> Ended {
        while let Some(frame) = self.next_frame() {
            last = Some(frame);
        }
        match last {
            Some(Frame { header: Header { kind: Kind::Goodbye, method, .. }, tail }) => Ended {
                reason: Some(GoodbyeReason::from_wire(method)),
                message: decode::<Goodbye>(&tail).expect("a goodbye as in SPEC 7.4").message,
            },
            other => Ended { reason: None, message: format!("no goodbye, but {other:?}") },
        }
    }

    /// Begins a call; `header` says what is special about it. Returns the call's id.
    pub fn begin(&mut self, handle: u64, header: Header, payload: &[u8]) -> u64 {
        let slot = self.slots.iter().position(|used| !used).unwrap_or_else(|| {
            self.slots.push(false);
            self.slots.len() - 1
        });
        self.slots[slot] = true;
        self.generation += 1;
        let call = slot as u64 | self.generation << 32;
        self.send(Header { kind: Kind::Call, handle, call, ..header }, payload);
        call
    }

    /// Waits for the end of a call.
    pub fn outcome(&mut self, call: u64) -> Result<Vec<u8>, Refused> {
        let ends = |frame: &Frame| {
            frame.header.call == call && matches!(frame.header.kind, Kind::Reply | Kind::Outcome)
        };
        let frame = self.take("the outcome of a call", ends);
        match frame.header.kind {
            Kind::Reply => Ok(frame.payload().to_vec()),
            _ => Err(frame.refused()),
        }
    }

    fn note_end(&mut self, header: &Header) {
        if matches!(header.kind, Kind::Reply | Kind::Outcome)
            && let Some(slot) = self.slots.get_mut(header.call as u32 as usize)
        {
            *slot = false;
        }
    }

    /// One call, from beginning to end.
    pub fn call(&mut self, handle: u64, payload: &[u8]) -> Result<Vec<u8>, Refused> {
        let call = self.begin(handle, Header::new(Kind::Call), payload);
        self.outcome(call)
    }

    /// A control operation.
    pub fn control<T: DeserializeOwned>(
        &mut self,
        operation: Operation,
        body: &impl Serialize,
    ) -> Result<T, Refused> {
        let header = Header { method: operation as u32, ..Header::new(Kind::Call) };
        let call = self.begin(0, header, &encode(body));
        self.outcome(call).map(|body| decode(&body).expect("a body as in SPEC 7"))
    }

    /// Opens a name for calls.
    pub fn open(&mut self, name: &str) -> Result<Opened, Refused> {
        self.open_with(name, Verb::Call.right())
    }

    /// Opens a name.
    pub fn open_with(&mut self, name: &str, rights: Rights) -> Result<Opened, Refused> {
        self.control(Operation::Open, &Open { name: name.into(), kind: 1, rights: rights.0, on_behalf_of: 0 })
    }

    /// Serves a name, alone or next in line.
    pub fn serve(&mut self, name: &str) -> Result<Served, Refused> {
        self.serve_with(name, 256)
    }

    /// Serves a name, with so many requests at once.
    pub fn serve_with(&mut self, name: &str, calls: u32) -> Result<Served, Refused> {
        let serve =
            Serve { name: name.into(), mode: 0, flags: 0, calls, send_bytes: 1 << 20, about: String::new() };
        self.control(Operation::Serve, &serve)
    }

    /// Waits until somebody serves a name; returns the epoch.
    pub fn wait_for(&mut self, name: &str) -> Result<Epoch, Refused> {
        let found: control::Found = self.control(Operation::Wait, &control::OnName { name: name.into() })?;
        Ok(Epoch(found.epoch))
    }

    /// The names that have an owner.
    pub fn list(&mut self, pattern: &str) -> Vec<String> {
        let list = control::List { pattern: pattern.into(), after: String::new() };
        let listing: Listing = self.control(Operation::List, &list).expect("a valid pattern");
        listing.names.into_iter().map(|info| info.name).collect()
    }

    /// The broker at a glance.
    pub fn status(&mut self) -> Status {
        self.control(Operation::Status, &()).expect("a status")
    }

    /// The next request to serve.
    pub fn request(&mut self) -> Frame {
        self.take("a request", |frame| frame.header.kind == Kind::Call)
    }

    /// Answers a request.
    pub fn reply(&mut self, request: &Frame, payload: &[u8]) {
        let Header { handle, call, .. } = request.header;
        self.send(Header { handle, call, ..Header::new(Kind::Reply) }, payload);
    }

    /// The next event.
    pub fn event(&mut self, event: switchboard_protocol::Event) -> Frame {
        self.take("an event", |frame| frame.header.kind == Kind::Event && frame.header.method == event as u32)
    }

    /// Answers every request with its own payload until the connection ends.
    pub fn echo_until_the_end(&mut self) {
        while let Some(frame) = self.next_frame() {
            if frame.header.kind == Kind::Call {
                let Header { handle, call, .. } = frame.header;
                let reply = super::client::frame(
                    Header { handle, call, ..Header::new(Kind::Reply) },
                    frame.payload(),
                );
                if self.try_send_bytes(&reply).is_err() {
                    return;
                }
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Frame {
    /// Its payload.
    pub fn payload(&self) -> &[u8] {
        Tail::of(&self.header, &self.tail).payload
    }

    /// The user and the process that a request comes from.
    pub fn caller(&self) -> (u32, u32) {
        (self.header.caller as u32, (self.header.caller >> 32) as u32)
    }

    /// Its parts as an outcome.
    pub fn refused(&self) -> Refused {
        assert_eq!(self.header.kind, Kind::Outcome, "{self:?}");
        let failure = decode(self.payload()).expect("a failure as in SPEC 7.5");
        Refused { outcome: Outcome::from_wire(self.header.method), failure }
    }
}

impl Refused {
    /// Whether it ended so, and the message says `text`; else shows how it did.
    #[track_caller]
    pub fn must_be(&self, outcome: Outcome, text: &str) {
        assert!(
            self.outcome == outcome && self.failure.message.contains(text),
            "expected {outcome} with {text:?}, found {}: {}",
            self.outcome,
            self.failure.message
        );
    }
}

impl Ended {
    /// Whether it ended so, and the message says `text`; else shows how it did.
    #[track_caller]
    pub fn must_be(&self, reason: GoodbyeReason, text: &str) {
        assert!(
            self.reason == Some(reason) && self.message.contains(text),
            "expected {reason:?} with {text:?}, found {:?}: {}",
            self.reason,
            self.message
        );
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Header { kind, method, handle, call, seq, .. } = self.header;
        write!(
            f,
            "{kind:?} method={method} handle={handle:#x} call={call:#x} seq={seq} +{}",
            self.tail.len()
        )?;
        if kind == Kind::Outcome {
            let refused = self.refused();
            write!(f, " {}: {}", refused.outcome, refused.failure.message)?;
        }
        Ok(())
    }
}

/// The bytes of a frame.
fn frame(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, header, &[], &[], payload);
    bytes
}

/// The bytes of a hello.
pub(super) fn hello(version_min: u8, version_max: u8) -> Vec<u8> {
    let hello = Hello { version_min, version_max, features: 0, program: "switchboard-tests".into() };
    frame(Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) }, &encode(&hello))
}
