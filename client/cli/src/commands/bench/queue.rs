//! `switchboard bench queue`: work pushed here, popped and acknowledged by another process.

use std::time::{Duration, Instant};

use clap::Args;
use switchboard::{CallError, Leased, Level, Overflow, PendingAck, Pushed, Queue};
use switchboard_transport::clock;

use super::publish::{say, stride};
use super::report::{Report, Times};
use super::sink::{Expected, Received, Sink};
use super::{Load, pattern};
use crate::children::{Peer, READY, SILENCE, Start};
use crate::context::Context;
use crate::failure::Failure;

/// Measure a queue: messages are pushed, popped, verified and acknowledged
///
/// Times are those from a push to its acknowledgement, which with --durable comes after the disk's; `per_second`
/// counts messages that were pushed, popped, verified and acknowledged.
#[derive(Args, Debug)]
pub(crate) struct BenchQueue {
    #[command(flatten)]
    load: Load,
    /// Messages to push
    #[arg(long, value_name = "N", default_value = "200000", value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Pushes that are on their way at once
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=65536))]
    in_flight: u32,
    /// In a queue on the disk
    #[arg(long)]
    durable: bool,
}

/// Consume a bench
#[derive(Args, Debug)]
pub(crate) struct BenchConsumer {
    queue: String,
    #[arg(long)]
    size: usize,
    #[arg(long)]
    warm_up: u64,
    #[arg(long)]
    count: u64,
}

/// Messages that the consumer is sent ahead, and at most acknowledges at once.
const AHEAD: usize = 1024;
/// Messages that are in the queue at once; then pushes wait.
const MESSAGES_MAX: u64 = 1 << 20;
/// Bytes of them.
const BYTES_MAX: u64 = 256 << 20;

/// A queue that goes with the bench.
struct Made {
    queue: Queue,
    board: switchboard::Board,
}

impl Drop for Made {
    fn drop(&mut self) {
        // The broker may be gone, which the bench has said already.
        let _ = self.board.delete_queue(self.queue.name());
    }
}

impl BenchQueue {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect_with(context.builder().spin(self.load.spin))?;
        let size = self.load.message_bytes(&board)?;
        let name = super::fresh_name();
        let level = if self.durable { Level::Disk } else { Level::Memory };
        // The largest payload must fit whatever its size, with some behind it.
        let bytes_max = BYTES_MAX.max(size as u64 * 4);
        board
            .create_queue(&name)
            .durability(level)
            .max_messages(MESSAGES_MAX)
            .max_bytes(bytes_max)
            .overflow(Overflow::Block)
            .create()?;
        let made = Made { queue: board.queue(&name), board: board.clone() };
        let warm_up = (self.count / 10).clamp(1, 5_000);
        let mut consumer = Start::new("the consumer of the bench", &context.socket().path)
            .args(["internal", "bench-consumer", &name, "--size", &size.to_string()])
            .args(["--warm-up", &warm_up.to_string(), "--count", &self.count.to_string()])
            .spawn()?;
        consumer.wait_ready()?;
        let mut report = Report::new("queue", size as u64, self.in_flight.into());
        report.level = Some(level.as_str().to_owned());
        self.push(&made.queue, size, warm_up, level, &mut consumer)?;
        let (times, elapsed) = self.push(&made.queue, size, self.count, level, &mut consumer)?;
        times.summarize(&mut report);
        report.rate(self.count, elapsed);
        drop(made);
        board.close();
        report.touch_ns = u64::try_from(pattern::touch(size, 1).as_nanos()).unwrap_or(u64::MAX);
        report.print(context.output())
    }

    /// Pushes so many, and waits until the consumer has acknowledged them.
    fn push(
        &self,
        queue: &Queue,
        size: usize,
        count: u64,
        level: Level,
        consumer: &mut Peer,
    ) -> Result<(Times, Duration), Failure> {
        let mut times = Times::new();
        let mut message = vec![0; size];
        let in_flight = self.in_flight as usize;
        let mut pipeline = queue.pipeline(in_flight)?.no_timeout();
        let start_ns = clock::monotonic_ns();
        let mut now = Instant::now();
        // When each of those in flight was pushed; the places that are free.
        let mut since = vec![now; in_flight];
        let mut free: Vec<u64> = (0..u64::from(self.in_flight)).collect();
        let mut ended = Vec::with_capacity(in_flight);
        let (mut pushed, mut finished) = (0, 0);
        while finished < count {
            while pushed < count
                && let Some(place) = free.pop()
            {
                pattern::fill(&mut message, pushed);
                pipeline.submit(place, &message)?;
                since[place as usize] = now;
                pushed += 1;
            }
            let mut wrong = None;
            finished += pipeline.wait(|place, end| match verify(end, level) {
                Ok(()) => ended.push(place),
                Err(failure) => wrong = Some(failure),
            })? as u64;
            if let Some(failure) = wrong {
                return Err(failure);
            }
            // One look at the clock for all that came together: it costs as much as a tenth of a push.
            now = Instant::now();
            for &place in &ended {
                times.record((now - since[place as usize]).as_nanos() as u64);
            }
            free.append(&mut ended);
        }
        let received: Received = consumer.read_report()?;
        received.check(count)?;
        Ok((times, Duration::from_nanos(received.last_ns.saturating_sub(start_ns))))
    }
}

/// An acknowledgement must promise what was asked for.
fn verify(end: Result<Pushed, CallError>, level: Level) -> Result<(), Failure> {
    let pushed = end?;
    if pushed.level == level {
        return Ok(());
    }
    let (got, wanted) = (pushed.level.as_str(), level.as_str());
    Err(Failure::ended(format_args!("Failed: a push was acknowledged as safe to `{got}`, not to `{wanted}`")))
}

impl BenchConsumer {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let queue = context.connect()?.queue(&self.queue);
        let mut consumer = queue.consume().credit(AHEAD as u32).start()?;
        say(context, READY)?;
        let mut leases = Vec::with_capacity(AHEAD);
        let mut acking = None;
        for count in [self.warm_up, self.count] {
            let mut sink = Sink::new(Expected { size: self.size, stride: stride(count) });
            while sink.verified() < count && !sink.is_wrong() {
                let Some(message) = consumer.next_timeout(SILENCE)? else {
                    sink.fail(format!("nothing came for {SILENCE:?}"));
                    break;
                };
                let mut next = Some(message);
                while let Some(message) = next.take() {
                    sink.take(&message);
                    leases.push(message.into_lease());
                    if leases.len() < AHEAD && sink.verified() < count && !sink.is_wrong() {
                        next = consumer.try_next()?;
                    }
                }
                // While these are acknowledged, the next ones are verified.
                let before = acking.replace(queue.begin_ack(&leases)?);
                leases.clear();
                settle(before, &mut sink)?;
            }
            // Only what is acknowledged counts as done.
            settle(acking.take(), &mut sink)?;
            say(context, &serde_json::to_string(&sink.report(Expected::default())).map_err(Failure::ended)?)?;
        }
        match consumer.try_next()?.map(Leased::into_lease) {
            None => Ok(()),
            Some(_) => Err(Failure::ended("Failed: more came than was pushed")),
        }
    }
}

/// Waits until messages are gone, of which none may have been taken from us.
fn settle(acking: Option<PendingAck>, sink: &mut Sink) -> Result<(), Failure> {
    if let Some(acking) = acking {
        let lost = acking.wait()?.lost.len();
        if 0 < lost {
            sink.fail(format!("{lost} leases were lost"));
        }
    }
    Ok(())
}
