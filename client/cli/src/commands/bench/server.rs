//! The process that receives what a bench sends: it answers calls with what they carried, and counts
//! one-way messages. It checks every byte of either.

use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use clap::Args;
use switchboard::Outcome;
use switchboard::session::{Event, Frame, Inbox, LARGE_BYTES, Output, RequestId, Session};
use switchboard_protocol::control::{self, serve_flags};
use switchboard_protocol::{Parts, flags, padded};
use switchboard_transport::{Fds, Interest, Stream, clock, connect};

use super::pattern;
use super::sink::Sink;
use crate::children::READY;
use crate::context::Context;
use crate::failure::Failure;
use crate::values;

/// Method of a call that asks for [`Received`], and begins to count anew. Its payload is the
/// [`Expected`] messages to come.
pub(crate) const COUNT: u32 = 1;

/// Serve a bench
#[derive(Args, Debug)]
pub(crate) struct BenchServer {
    name: String,
    #[arg(long, default_value = "256")]
    window: u32,
    #[arg(long, default_value = "0", value_parser = values::duration)]
    spin: Duration,
}

impl BenchServer {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let link = Link::connect(context, &self.name, self.window, self.spin)?;
        link.serve(|| {
            let mut output = context.output();
            output.line(READY)?;
            output.finish()
        })
    }
}

/// A connection driven by hand, over the session that the library itself drives: what is measured is the
/// broker, and one thread that reads, checks and answers is the least that a receiver can be.
struct Link {
    stream: Stream,
    session: Session,
    inbox: Inbox,
    sink: Sink,
    spin: Duration,
}

/// The only call that this connection makes: to serve.
const SERVE: u64 = 1;
/// What may come of one-way messages before room is given back.
const SEND_BYTES: u32 = 1 << 20;
/// What may stand around a payload: header, extensions, handles.
const FRAME_BYTES_BESIDE: usize = 8 << 10;

impl Link {
    fn connect(context: &Context, name: &str, window: u32, spin: Duration) -> Result<Self, Failure> {
        let stream = connect(&context.socket().path).map_err(Failure::no_broker)?;
        let mut session = Session::new(clock::monotonic_ns(), "switchboard bench");
        let serve = control::Serve {
            name: name.to_owned(),
            mode: 0,
            flags: serve_flags::DO_NOT_QUEUE,
            calls: window,
            send_bytes: SEND_BYTES,
            about: "verifies what it is sent (switchboard bench)".to_owned(),
        };
        session.serve(SERVE, 0, &serve, 0).map_err(Failure::ended)?;
        let inbox = Inbox::new();
        Ok(Self { stream, session, inbox, sink: Sink::default(), spin })
    }

    fn serve(mut self, ready: impl Fn() -> io::Result<()>) -> Result<(), Failure> {
        loop {
            self.take_frames(&ready)?;
            if !self.write().map_err(lost)? {
                self.stream.wait(Interest::BOTH, None).map_err(lost)?;
            }
            self.read()?;
        }
    }

    /// Handles every whole frame that is there.
    fn take_frames(&mut self, ready: &impl Fn() -> io::Result<()>) -> Result<(), Failure> {
        // Of one-way messages: on which handle, and how many bytes.
        let (mut handle, mut consumed) = (0, 0);
        // Only the handshake looks at it.
        let now = clock::monotonic_ns();
        loop {
            let frame = match self.inbox.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return Err(Failure::ended(error)),
            };
            // Looked at where it is: moving a frame costs as much as all else here.
            if let Some((_, request)) = self.session.take_request(&frame).map_err(Failure::ended)? {
                if answer(&mut self.session, &mut self.sink, request, &frame) {
                    self.session.answer_with(request, &mut frame.into_payload(), &[]);
                }
                continue;
            }
            match self.session.handle(now, frame) {
                Ok(Some(Event::Message { frame, .. })) => {
                    if frame.header.flags & flags::BATCH == 0 {
                        self.sink.take(frame.payload());
                    } else {
                        Parts::of(frame.payload()).for_each(|part| self.sink.take(part.payload));
                    }
                    handle = frame.header.handle;
                    consumed += padded(frame.header.len as usize) as u64;
                }
                Ok(Some(Event::Welcomed(welcome))) => {
                    self.inbox.set_frame_bytes_max(welcome.payload_bytes_max as usize + FRAME_BYTES_BESIDE);
                }
                Ok(Some(Event::Ended { tag: SERVE, end })) => {
                    end?;
                    ready()?;
                }
                Ok(Some(Event::Goodbye(farewell))) => {
                    return Err(Failure::ended(format_args!("PeerDied: {}", farewell.message)));
                }
                Ok(Some(_) | None) => {}
                Err(violation) => return Err(Failure::ended(violation)),
            }
        }
        if consumed > 0 {
            self.session.consumed(handle, consumed);
        }
        Ok(())
    }

    /// Writes what the socket takes; whether that is everything.
    fn write(&mut self) -> io::Result<bool> {
        let output = self.session.output();
        while !output.is_empty() {
            let mut pieces = [IoSlice::new(&[]); Output::PIECES_MAX];
            let sent = match output.plain() {
                Some(bytes) => self.stream.send(&[IoSlice::new(bytes)], &[]),
                None => {
                    let count = output.pieces(&mut pieces);
                    self.stream.send(&pieces[..count], &[])
                }
            };
            match sent {
                Ok(count) => output.written(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads what is there; waits for it if everything is written.
    fn read(&mut self) -> Result<(), Failure> {
        let mut fds = Fds::new();
        let is_written = self.session.output().is_empty();
        let space = self.inbox.space();
        let spin_end = (!self.spin.is_zero()).then(|| Instant::now() + self.spin);
        let received = loop {
            let waits = is_written && spin_end.is_none_or(|end| Instant::now() >= end);
            let received = if waits {
                self.stream.recv_wait(space, &mut fds)
            } else {
                self.stream.recv(space, &mut fds)
            };
            match received {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !is_written {
                        return Ok(());
                    }
                }
                received => break received.map_err(lost)?,
            }
        };
        if received.bytes == 0 {
            return Err(Failure::ended("PeerDied: the broker closed the connection"));
        }
        self.inbox.filled(received.bytes);
        Ok(())
    }
}

/// Answers a call, unless it is to have back a payload that is too large to be copied: then says so. Apart
/// from the loop, so that one-way messages do not pay for what they do not need.
#[inline(never)]
fn answer(session: &mut Session, sink: &mut Sink, request: RequestId, frame: &Frame<'_>) -> bool {
    if frame.header.method == COUNT {
        let answer = sink.answer(frame.payload());
        session.answer(request, &answer, &[]);
    } else if pattern::check(frame.payload()).is_none() {
        let failure = switchboard_protocol::Failure::new("a message came damaged");
        session.answer_otherwise(request, Outcome::Failed, &failure);
    } else if frame.payload().len() < LARGE_BYTES {
        session.answer(request, frame.payload(), &[]);
    } else {
        return true;
    }
    false
}

fn lost(error: io::Error) -> Failure {
    Failure::ended(format_args!("PeerDied: the connection to the broker was lost: {error}"))
}
