//! `switchboard bench idle`: connections that do nothing, to see what they cost the broker.

use std::io::{self, IoSlice};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use switchboard_protocol::{
    Decoder, Goodbye, GoodbyeReason, HELLO_MAGIC, Header, Hello, Kind, Outcome, VERSION, decode, encode,
    write_frame,
};
use switchboard_transport::{Fds, Interest, Poller, Stream, connect, limits};

use crate::context::Context;
use crate::failure::Failure;

/// Hold N connections that do nothing until stdin closes; one line is printed when all stand
#[derive(Args, Debug)]
pub(crate) struct BenchIdle {
    /// Connections to hold
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

#[derive(Serialize)]
struct Standing {
    what: &'static str,
    count: u32,
    /// From the first connect to the last handshake.
    elapsed_ns: u64,
    per_second: u64,
}

/// Descriptors beside the connections: the standard streams, the poller, and some to spare.
const OTHER_DESCRIPTORS: u64 = 32;
/// Connections whose handshake is under way at once: less than a listening socket's backlog.
const TOGETHER: usize = 64;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(60);
const STDIN: u64 = u64::MAX;

impl BenchIdle {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let descriptors = limits::raise_open_files();
        if descriptors < u64::from(self.count) + OTHER_DESCRIPTORS {
            let message = format!(
                "Busy: {} connections need as many descriptors; this process may have {descriptors} (`ulimit -n`)",
                self.count
            );
            return Err(Failure::ended(message));
        }
        let socket = context.socket();
        let start = Instant::now();
        let mut streams: Vec<Stream> = Vec::with_capacity(self.count as usize);
        while streams.len() < self.count as usize {
            let together = TOGETHER.min(self.count as usize - streams.len());
            let first = streams.len();
            for _ in 0..together {
                let stream = connect(&socket.path).map_err(|error| match first {
                    0 => Failure::no_broker(error),
                    _ => Failure::ended(format_args!("PeerDied: {error}")),
                })?;
                say_hello(&stream).map_err(lost)?;
                streams.push(stream);
            }
            for stream in &streams[first..] {
                await_welcome(stream)?;
            }
        }
        let elapsed = start.elapsed();
        let mut output = context.output();
        if output.json() {
            output.object(&Standing {
                what: "idle",
                count: self.count,
                elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
                per_second: (f64::from(self.count) / elapsed.as_secs_f64()) as u64,
            })?;
        } else {
            output.line(format_args!("{} connections stand after {elapsed:.2?}", self.count))?;
        }
        output.finish()?;
        hold(&streams)
    }
}

fn lost(error: io::Error) -> Failure {
    Failure::ended(format_args!("PeerDied: the connection to the broker was lost: {error}"))
}

fn say_hello(stream: &Stream) -> io::Result<()> {
    let hello = Hello {
        version_min: VERSION,
        version_max: VERSION,
        features: 0,
        program: "switchboard bench".to_owned(),
    };
    let mut frame = Vec::new();
    let header = Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) };
    write_frame(&mut frame, header, &[], &[], &encode(&hello));
    // A fresh socket has room for a hello.
    match stream.send_wait(&[IoSlice::new(&frame)], &[]) {
        Ok(sent) if sent == frame.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        // Refused and closed already; its goodbye is there to be read.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error),
    }
}

fn await_welcome(stream: &Stream) -> Result<(), Failure> {
    stream.set_receive_timeout(Some(HANDSHAKE_WITHIN)).map_err(lost)?;
    let mut decoder = Decoder::default();
    let mut buffer = [0; 4096];
    let mut fds = Fds::default();
    loop {
        let received = stream.recv_wait(&mut buffer, &mut fds).map_err(lost)?;
        if received.bytes == 0 {
            return Err(Failure::ended("PeerDied: the broker closed a connection during the handshake"));
        }
        decoder.push(&buffer[..received.bytes]);
        match decoder.next() {
            Ok(None) => {}
            Ok(Some((header, _))) if header.kind == Kind::Welcome => return Ok(()),
            Ok(Some((header, tail))) => {
                let reason = GoodbyeReason::from_wire(header.method);
                let message = decode::<Goodbye>(tail).map(|goodbye| goodbye.message).unwrap_or_default();
                let outcome = match reason {
                    GoodbyeReason::TooManyConnections => Outcome::Busy,
                    GoodbyeReason::ShuttingDown => Outcome::ShuttingDown,
                    _ => Outcome::Denied,
                };
                return Err(Failure::ended(format_args!(
                    "{outcome}: the broker refused a connection: {message}"
                )));
            }
            Err(error) => {
                return Err(Failure::ended(format_args!(
                    "Failed: what the broker sent is no frame: {error}"
                )));
            }
        }
    }
}

/// Waits until stdin ends; a connection that ends before is a failure.
fn hold(streams: &[Stream]) -> Result<(), Failure> {
    let mut poller = Poller::new().map_err(lost)?;
    let stdin = io::stdin();
    match poller.add(stdin.as_fd(), STDIN, Interest::READ) {
        Ok(()) => {}
        // A file, which cannot be waited for: it is at its end as soon as it is read.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(lost(error)),
    }
    for (at, stream) in streams.iter().enumerate() {
        poller.add(stream.as_fd(), at as u64, Interest::NONE).map_err(lost)?;
    }
    let mut ready = Vec::new();
    let mut scrap = [0; 4096];
    loop {
        poller.wait(&mut ready, None).map_err(lost)?;
        for event in &ready {
            if event.token != STDIN {
                return Err(Failure::ended("PeerDied: the broker closed a connection that was held"));
            }
            if io::Read::read(&mut stdin.lock(), &mut scrap).map_err(lost)? == 0 {
                return Ok(());
            }
        }
    }
}
