//! `switchboard bench call`: calls of an echo service in another process.

use std::time::Instant;

use clap::Args;
use switchboard::{CallError, Outcome, Service};

use super::report::{Report, Times};
use super::{Load, pattern};
use crate::context::Context;
use crate::failure::Failure;

/// Measure calls: each carries its bytes there and back
#[derive(Args, Debug)]
pub(crate) struct BenchCall {
    #[command(flatten)]
    load: Load,
    /// Calls to make
    #[arg(long, value_name = "N", default_value = "50000", value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Calls that are open at once, from one thread
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=65536))]
    in_flight: u32,
}

impl BenchCall {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect_with(context.builder().spin(self.load.spin))?;
        let size = self.load.message_bytes(&board)?;
        let (_server, name) = self.load.start_server(context, self.in_flight.max(256))?;
        let service = board.service(&name);
        let mut report = Report::new("call", size as u64, self.in_flight.into());
        // Handles are opened, buffers grown and pages touched before it counts.
        let warm_up = (self.count / 10).clamp(1, 2_000);
        if self.in_flight == 1 {
            one_by_one(&service, size, warm_up)?.summarize(&mut report);
            let start = Instant::now();
            one_by_one(&service, size, self.count)?.summarize(&mut report);
            report.rate(self.count, start.elapsed());
        } else {
            many_at_once(&service, size, warm_up, self.in_flight)?;
            let start = Instant::now();
            many_at_once(&service, size, self.count, self.in_flight)?.summarize(&mut report);
            report.rate(self.count, start.elapsed());
        }
        board.close();
        // Filled here, checked there, and checked here when it is back.
        report.touch_ns = u64::try_from(pattern::touch(size, 2).as_nanos()).unwrap_or(u64::MAX);
        report.print(context.output())
    }
}

/// The next call when the one before is back.
pub(crate) fn one_by_one(service: &Service, size: usize, count: u64) -> Result<Times, Failure> {
    let mut times = Times::new();
    let mut message = vec![0; size];
    let mut start = Instant::now();
    for number in 0..count {
        pattern::fill(&mut message, number);
        let reply = service.call(&message)?;
        verify(reply.payload(), number, size)?;
        let end = Instant::now();
        times.record((end - start).as_nanos() as u64);
        start = end;
    }
    Ok(times)
}

/// A call of the pipeline.
#[derive(Clone, Copy)]
struct Open {
    number: u64,
    since: Instant,
}

/// So many open at any time, written and read many at once.
pub(crate) fn many_at_once(
    service: &Service,
    size: usize,
    count: u64,
    in_flight: u32,
) -> Result<Times, Failure> {
    let mut times = Times::new();
    let mut message = vec![0; size];
    let mut pipeline = service.pipeline(in_flight as usize)?;
    let mut now = Instant::now();
    let mut open = vec![Open { number: 0, since: now }; in_flight as usize];
    let mut free: Vec<u64> = (0..u64::from(in_flight)).collect();
    let mut ended: Vec<u64> = Vec::with_capacity(in_flight as usize);
    let (mut started, mut finished) = (0, 0);
    let mut wrong = None;
    while finished < count {
        while started < count {
            let Some(tag) = free.pop() else { break };
            pattern::fill(&mut message, started);
            pipeline.submit(tag, &message)?;
            open[tag as usize] = Open { number: started, since: now };
            started += 1;
        }
        pipeline.wait(|tag, end| {
            let verified = match &end {
                Ok(reply) => verify(reply.payload(), open[tag as usize].number, size),
                Err(error) => Err(error.clone()),
            };
            match verified {
                Ok(()) => ended.push(tag),
                Err(error) => wrong = Some(error),
            }
        })?;
        if let Some(error) = wrong {
            return Err(error.into());
        }
        // One look at the clock for all that came together: it costs as much as a tenth of a call.
        now = Instant::now();
        finished += ended.len() as u64;
        for &tag in &ended {
            times.record((now - open[tag as usize].since).as_nanos() as u64);
        }
        free.append(&mut ended);
    }
    Ok(times)
}

#[inline]
fn verify(message: &[u8], number: u64, size: usize) -> Result<(), CallError> {
    let found = pattern::check(message);
    if message.len() == size && found.is_some_and(|found| pattern::is_number(found, number, size)) {
        return Ok(());
    }
    let message =
        format!("the reply to message {number} is not what was sent: {found:?}, {} bytes", message.len());
    Err(CallError::new(Outcome::Failed, message))
}
