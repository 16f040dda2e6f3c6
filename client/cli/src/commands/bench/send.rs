//! `switchboard bench send`: one-way messages to another process, which counts them.

use std::time::{Duration, Instant};

use clap::Args;
use switchboard::{Board, Service};
use switchboard_transport::clock;

use super::report::{Report, Times};
use super::server::COUNT;
use super::sink::{Expected, Received};
use super::{Load, pattern};
use crate::context::Context;
use crate::failure::Failure;

/// Measure one-way messages: sent in batches, counted and checked by the receiver
#[derive(Args, Debug)]
pub(crate) struct BenchSend {
    #[command(flatten)]
    load: Load,
    /// Messages to send
    #[arg(long, value_name = "N", default_value = "5000000", value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Send this many together; 0 for as many as a batch takes
    #[arg(long, value_name = "N", default_value = "0")]
    in_flight: u32,
}

/// Times are taken of about so many messages.
pub(super) const SAMPLES: u64 = 20_000;

impl BenchSend {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect_with(context.builder().spin(self.load.spin))?;
        let size = self.load.message_bytes(&board)?;
        let (_server, name) = self.load.start_server(context, 256)?;
        let service = board.service(&name);
        let mut report = Report::new("send", size as u64, self.in_flight.into());
        let together = match self.in_flight {
            0 => u64::MAX,
            together => together.into(),
        };
        send(&board, &service, size, (self.count / 10).clamp(1, 100_000), together)?;
        let sent = send(&board, &service, size, self.count, together)?;
        sent.times.summarize(&mut report);
        report.rate(self.count, sent.elapsed);
        board.close();
        report.touch_ns = u64::try_from(pattern::touch(size, 1).as_nanos()).unwrap_or(u64::MAX);
        report.print(context.output())
    }
}

/// Sends `count` messages, so many `together`, and has them counted.
pub(crate) fn send(
    board: &Board,
    service: &Service,
    size: usize,
    count: u64,
    together: u64,
) -> Result<Sent, Failure> {
    let stride = (count / SAMPLES).max(1);
    // The first report says how the last run went, which is known; it begins this one.
    let _: Received = service.call_typed(COUNT, &Expected { size, stride })?;
    let mut message = vec![0; size];
    let mut started_ns = Vec::with_capacity(SAMPLES as usize * 2);
    let start = Instant::now();
    let mut next_time = 0;
    let mut batch = board.batch();
    for number in 0..count {
        if number == next_time {
            started_ns.push(clock::monotonic_ns());
            next_time += stride;
        }
        pattern::fill(&mut message, number);
        batch.send(service, &message)?;
        if (number + 1) % together == 0 {
            batch.flush()?;
        }
    }
    batch.flush()?;
    // Behind the messages on the same handle, so it is answered when they have been counted.
    let received: Received = service.call_typed(COUNT, &Expected { size, stride })?;
    let elapsed = start.elapsed();
    board.flush()?;
    received.check(count)?;
    let mut times = Times::new();
    for (started, ended) in started_ns.iter().zip(&received.times_ns) {
        times.record(ended.saturating_sub(*started));
    }
    Ok(Sent { times, elapsed })
}

/// Messages that arrived.
pub(crate) struct Sent {
    times: Times,
    pub(crate) elapsed: Duration,
}
