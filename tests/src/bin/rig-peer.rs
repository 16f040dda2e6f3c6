//! A peer of the broker as a process of its own, as whichever user a test wants it to be.
//!
//! ```text
//! rig-peer [--as=UID:GID,GROUP…] SOCKET relay        speaks for whoever is at stdin, a socket
//! rig-peer [--as=UID:GID,GROUP…] SOCKET crowd COUNT  holds COUNT connections until stdin ends
//! ```

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use switchboard_protocol::{
    Decoder, Goodbye, GoodbyeReason, HELLO_MAGIC, Header, Hello, Kind, decode, encode, write_frame,
};
use switchboard_tests::rig::arguments_as_user;
use switchboard_transport::{Fds, Interest, Poller, Stream, connect, limits};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rig-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    limits::raise_open_files();
    let arguments = arguments_as_user()?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [socket, "relay"] => relay(Path::new(socket)),
        [socket, "crowd", count] => crowd(Path::new(socket), count.parse().map_err(io::Error::other)?),
        _ => Err(io::Error::other(format!("wrong usage: {arguments:?}"))),
    }
}

/// Both ways until either side ends; then the process ends, and with it both connections.
fn relay(socket: &Path) -> io::Result<()> {
    let ours = Stream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let broker = connect(socket).map_err(io::Error::other)?;
    thread::scope(|scope| {
        scope.spawn(|| copy(&ours, &broker));
        copy(&broker, &ours);
        // What the broker said last was passed on; that is the end.
        std::process::exit(0);
    })
}

fn copy(from: &Stream, to: &Stream) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let received = from.recv_wait(&mut buffer, &mut Fds::new());
        let count = received.map_or(0, |received| received.bytes);
        if count == 0 {
            // Half an end: the other direction may still have something to say.
            let _ = to.shutdown_write();
            return;
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            match to.send_wait(&[IoSlice::new(rest)], &[]) {
                Ok(sent) => rest = &rest[sent..],
                Err(_) => {
                    // Nobody reads there; what it has said is still passed on by the other thread.
                    return;
                }
            }
        }
    }
}

/// Says hello on every connection at once, then tells as each is answered.
fn crowd(socket: &Path, count: usize) -> io::Result<()> {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let mut hello = Vec::new();
    let body = Hello { version_min: 1, version_max: 1, features: 0, program: "crowd".into() };
    write_frame(
        &mut hello,
        Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) },
        &[],
        &[],
        &encode(&body),
    );
    let mut poller = Poller::new()?;
    let mut members = Vec::with_capacity(count);
    for member in 0..count {
        let stream = connect(socket).map_err(io::Error::other)?;
        // Whoever is turned away may be gone before it has said a word.
        let _ = stream.send_wait(&[IoSlice::new(&hello)], &[]);
        poller.add(&stream, member as u64, Interest::READ)?;
        members.push((stream, Decoder::default()));
    }
    let mut ready = Vec::new();
    let mut buffer = vec![0; 4096];
    loop {
        poller.wait(&mut ready, None)?;
        for &event in &ready {
            let (stream, decoder) = &mut members[event.token as usize];
            let received = stream.recv(&mut buffer, &mut Fds::new()).map_or(0, |received| received.bytes);
            if received == 0 {
                poller.remove(&*stream)?;
                continue;
            }
            decoder.push(&buffer[..received]);
            while let Some((header, tail)) = decoder.next().map_err(io::Error::other)? {
                tell(event.token, &header, tail)?;
            }
            decoder.shrink(0);
        }
    }
}

fn tell(member: u64, header: &Header, tail: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match header.kind {
        Kind::Welcome => writeln!(out, "welcome {member}"),
        Kind::Goodbye => {
            let message = decode::<Goodbye>(tail).map(|goodbye| goodbye.message).unwrap_or_default();
            writeln!(out, "goodbye {member} {:?} {message}", GoodbyeReason::from_wire(header.method))
        }
        _ => Ok(()),
    }?;
    out.flush()
}
