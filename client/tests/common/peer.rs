//! A scripted peer in the place of a broker.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use switchboard::Board;
use switchboard::control::{Open, Opened, Operation};
use switchboard_protocol::{Decoder, Header, Kind, Tail, Welcome, decode, encode, write_frame};
use switchboard_transport::Stream;

/// The broker's end of a connection.
pub struct Peer {
    pub socket: UnixStream,
    decoder: Decoder,
}

impl Peer {
    pub fn pair() -> (Stream, Self) {
        let (ours, theirs) = Stream::pair().expect("a pair");
        let socket = UnixStream::from(OwnedFd::from(theirs));
        (ours, Self { socket, decoder: Decoder::default() })
    }

    pub fn receive(&mut self) -> (Header, Vec<u8>) {
        let (header, _, payload) = self.receive_parts();
        (header, payload)
    }

    /// The next frame: header, extension area, payload.
    pub fn receive_parts(&mut self) -> (Header, Vec<u8>, Vec<u8>) {
        loop {
            if let Some((header, tail)) = self.decoder.next().expect("whole frames") {
                let tail = Tail::of(&header, tail);
                return (header, tail.extensions.to_vec(), tail.payload.to_vec());
            }
            let mut bytes = [0; 65_536];
            let count = self.socket.read(&mut bytes).expect("readable");
            assert_ne!(count, 0, "the client closed");
            self.decoder.push(&bytes[..count]);
        }
    }

    pub fn say(&mut self, header: Header, payload: &[u8]) {
        self.say_with(header, &[], payload);
    }

    pub fn say_with(&mut self, header: Header, extensions: &[u8], payload: &[u8]) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, header, extensions, &[], payload);
        self.socket.write_all(&bytes).expect("writable");
    }

    pub fn greet(&mut self) {
        assert_eq!(self.receive().0.kind, Kind::Hello);
        let welcome = Welcome {
            version: 1,
            features: 0,
            broker_ns: 0,
            incarnation: 1,
            peer: 1,
            payload_bytes_max: 64 << 20,
            calls_open_max: 64,
            priority_max: 4,
        };
        self.say(Header::new(Kind::Welcome), &encode(&welcome));
    }

    /// Grants the handle that the client asks for.
    pub fn open(&mut self) {
        self.open_as(7);
    }

    /// Grants this handle to a client that asks for one; what was asked for.
    pub fn open_as(&mut self, handle: u64) -> Open {
        let (header, body) = self.receive();
        assert_eq!((header.handle, header.method), (0, Operation::Open as u32));
        let opened = Opened { handle, rights: 2, epoch: 1, send_bytes: 1 << 20 };
        self.say(Header { call: header.call, ..Header::new(Kind::Reply) }, &encode(&opened));
        decode(&body).expect("an Open")
    }

    /// The next frame but CREDIT, of which it only counts what was granted.
    pub fn receive_call(&mut self, granted: &mut u64) -> (Header, Vec<u8>) {
        loop {
            let (header, tail) = self.receive();
            if header.kind != Kind::Credit {
                return (header, tail);
            }
            *granted += header.seq;
        }
    }
}

/// A board, while `script` plays the broker.
pub fn against<T: Send>(script: impl FnOnce(Peer) -> T + Send, client: impl FnOnce(Board)) -> T {
    let (stream, peer) = Peer::pair();
    std::thread::scope(|scope| {
        let script = scope.spawn(move || script(peer));
        client(Board::builder().connect_over(stream).expect("greeted"));
        script.join().expect("the script went well")
    })
}

/// Scripted brokers, one after the other, at one socket; and a board that connects there.
pub fn one_after_the_other(scripts: Vec<fn(Peer)>, client: impl FnOnce(Board)) {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("switchboard.sock");
    let listener = UnixListener::bind(&socket).expect("a listener");
    std::thread::scope(|scope| {
        let scripts = scope.spawn(move || {
            for script in scripts {
                let (socket, _) = listener.accept().expect("a client");
                let mut peer = Peer { socket, decoder: Decoder::default() };
                peer.greet();
                script(peer);
            }
        });
        client(Board::builder().socket(&socket).connect().expect("greeted"));
        scripts.join().expect("the scripts went well");
    });
}
