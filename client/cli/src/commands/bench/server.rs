//! The process that receives what a bench sends: it answers calls with what they carried, and counts
//! one-way messages. It checks every byte of either.

use std::cell::RefCell;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use switchboard::{Fault, Method, Request, Response};
use switchboard_transport::clock;

use super::pattern;
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

/// The one-way messages that come next, from number 0.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Expected {
    pub(crate) size: usize,
    /// The time of every so manieth is taken.
    pub(crate) stride: u64,
}

/// The one-way messages that came.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Received {
    /// Those that were whole and in order.
    pub(crate) verified: u64,
    /// What was wrong first.
    pub(crate) wrong: Option<String>,
    /// When the last one came, by the monotonic clock.
    pub(crate) last_ns: u64,
    /// When every so manieth came.
    pub(crate) times_ns: Vec<u64>,
}

#[derive(Default)]
struct Sink {
    expected: Expected,
    received: Received,
    next_time: u64,
}

thread_local! {
    /// One worker, one thread: no lock for every message.
    static SINK: RefCell<Sink> = RefCell::default();
}

impl BenchServer {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.builder().spin(self.spin).connect().map_err(Failure::ended)?;
        let serve = board.serve(&self.name).do_not_queue().window(self.window, 1 << 20);
        let server = serve.start(handle)?;
        let mut output = context.output();
        output.line(READY)?;
        output.finish()?;
        Ok(server.wait()?)
    }
}

fn handle(request: &mut Request) -> Result<Response, Fault> {
    if request.is_one_way() {
        SINK.with_borrow_mut(|sink| sink.take(request.payload()));
        return Ok(Response::new(()));
    }
    if request.method() == Method::Number(COUNT) {
        let expected = request.typed()?;
        let received = SINK.with_borrow_mut(|sink| sink.report(expected));
        return Response::typed(&received);
    }
    match pattern::check(request.payload()) {
        Some(_) => Ok(Response::new(request.take_payload())),
        None => Err(Fault::failed("a message came damaged")),
    }
}

impl Sink {
    #[inline]
    fn take(&mut self, message: &[u8]) {
        let number = self.received.verified;
        let found = pattern::check(message);
        let is_next = found.is_some_and(|found| pattern::is_number(found, number, self.expected.size));
        if !is_next || message.len() != self.expected.size {
            self.complain(message.len(), number, found);
            return;
        }
        self.received.verified += 1;
        if number == self.next_time {
            self.received.times_ns.push(clock::monotonic_ns());
            self.next_time += self.expected.stride;
        }
    }

    #[cold]
    fn complain(&mut self, length: usize, number: u64, found: Option<u64>) {
        if self.received.wrong.is_none() {
            let found = found.map_or_else(|| "a damaged one".to_owned(), |found| format!("message {found}"));
            self.received.wrong = Some(format!(
                "expected message {number} of {} bytes, got {found} of {length}",
                self.expected.size
            ));
        }
    }

    fn report(&mut self, expected: Expected) -> Received {
        let mut received = std::mem::take(&mut self.received);
        received.last_ns = clock::monotonic_ns();
        *self = Self { expected, ..Self::default() };
        received
    }
}
