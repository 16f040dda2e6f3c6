//! A client of a few lines, for tests of the daemon: it speaks frames and nothing above them.

#![allow(dead_code, reason = "each test uses its part")]

use std::io::IoSlice;
use std::path::Path;

use switchboard_protocol::control::{Open, Opened, Operation, Serve, Served};
use switchboard_protocol::{
    Decoder, HELLO_MAGIC, Header, Hello, Kind, Verb, Welcome, decode, encode, write_frame,
};
use switchboard_transport::{Fds, Stream, connect};

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: Stream,
    decoder: Decoder,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Client {
    /// Connects without a word.
    pub(crate) fn silent(socket: &Path) -> Self {
        let stream = connect(socket).expect("a broker");
        Self { stream, decoder: Decoder::default(), buffer: vec![0; 256 << 10], out: Vec::new() }
    }

    /// Connects and shakes hands.
    pub(crate) fn new(socket: &Path) -> (Self, Welcome) {
        Self::silent(socket).greet()
    }

    /// Shakes hands.
    pub(crate) fn greet(self) -> (Self, Welcome) {
        let mut client = self;
        let hello = Hello { version_min: 1, version_max: 1, features: 0, program: "test".into() };
        client.send(Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) }, &encode(&hello));
        let (header, body) = client.next().expect("a welcome");
        assert_eq!(header.kind, Kind::Welcome);
        (client, decode(&body).expect("a welcome"))
    }

    /// Sends one frame, whole.
    pub(crate) fn send(&mut self, header: Header, payload: &[u8]) {
        self.out.clear();
        write_frame(&mut self.out, header, &[], &[], payload);
        let out = std::mem::take(&mut self.out);
        self.send_bytes(&out);
        self.out = out;
    }

    /// Sends bytes, all of them.
    pub(crate) fn send_bytes(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let sent = self.stream.send_wait(&[IoSlice::new(bytes)], &[]).expect("the broker takes it");
            bytes = &bytes[sent..];
        }
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<(Header, Vec<u8>)> {
        let mut payload = Vec::new();
        let header = self.next_into(&mut payload)?;
        Some((header, payload))
    }

    /// The next frame's header; its tail replaces what is in `payload`.
    pub(crate) fn next_into(&mut self, payload: &mut Vec<u8>) -> Option<Header> {
        loop {
            if let Some((header, tail)) = self.decoder.next().expect("the broker speaks the protocol") {
                payload.clear();
                payload.extend_from_slice(tail);
                return Some(header);
            }
            let mut fds = Fds::new();
            // A reset is an end, too: the broker closed with bytes of ours unread.
            let received = self.stream.recv_wait(&mut self.buffer, &mut fds).ok()?;
            if received.bytes == 0 {
                return None;
            }
            self.decoder.push(&self.buffer[..received.bytes]);
        }
    }

    /// A control operation that must succeed.
    pub(crate) fn control(&mut self, operation: Operation, body: &[u8]) -> Vec<u8> {
        self.send(Header { method: operation as u32, call: 77, ..Header::new(Kind::Call) }, body);
        let (header, body) = self.next().expect("an answer");
        assert_eq!(header.kind, Kind::Reply, "{operation:?}: {}", String::from_utf8_lossy(&body));
        body
    }

    /// Serves a name; returns the serving handle.
    pub(crate) fn serve(&mut self, name: &str) -> u64 {
        let serve = Serve {
            name: name.into(),
            mode: 0,
            flags: 0,
            calls: 256,
            send_bytes: 1 << 20,
            about: String::new(),
        };
        let served: Served = decode(&self.control(Operation::Serve, &encode(&serve))).expect("served");
        served.handle
    }

    /// Opens a name for calls; returns the handle.
    pub(crate) fn open(&mut self, name: &str) -> u64 {
        let open = Open { name: name.into(), kind: 1, rights: Verb::Call.right().0, on_behalf_of: 0 };
        let opened: Opened = decode(&self.control(Operation::Open, &encode(&open))).expect("opened");
        opened.handle
    }

    /// Sends a call.
    pub(crate) fn call(&mut self, handle: u64, call: u64, payload: &[u8]) {
        self.send(Header { handle, call, ..Header::new(Kind::Call) }, payload);
    }

    /// Answers the next request with its own payload. False at the end of the stream.
    pub(crate) fn echo(&mut self, payload: &mut Vec<u8>) -> bool {
        loop {
            let Some(header) = self.next_into(payload) else { return false };
            if header.kind == Kind::Call {
                let reply = Header { handle: header.handle, call: header.call, ..Header::new(Kind::Reply) };
                let body = std::mem::take(payload);
                self.send(reply, &body);
                *payload = body;
                return true;
            }
        }
    }
}
