//! `switchboard bench pub`: messages to subscribers in other processes.

use std::time::Duration;

use clap::Args;
use switchboard::{Board, LentDelivery, SlowPolicy, Topic};
use switchboard_transport::clock;

use super::report::{Report, Times};
use super::send::SAMPLES;
use super::sink::{Expected, Received, Sink};
use super::{Load, pattern};
use crate::children::{Peer, READY, SILENCE, Start};
use crate::context::Context;
use crate::failure::Failure;

/// Measure publishing: sent in batches, received and verified by every subscriber
///
/// Subscribers hold the publisher back where they are slower (policy `block`), so that nothing is lost;
/// `per_second` counts what all of them have verified.
#[derive(Args, Debug)]
pub(crate) struct BenchPub {
    #[command(flatten)]
    load: Load,
    /// Messages to publish
    #[arg(long, value_name = "N", default_value = "2000000", value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Processes that subscribe
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1024))]
    subscribers: u32,
    /// Send this many together; 0 for as many as a batch takes
    #[arg(long, value_name = "N", default_value = "0")]
    in_flight: u32,
}

/// Subscribe to a bench
#[derive(Args, Debug)]
pub(crate) struct BenchSubscriber {
    topic: String,
    #[arg(long)]
    size: usize,
    #[arg(long)]
    warm_up: u64,
    #[arg(long)]
    count: u64,
}

impl BenchPub {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect_with(context.builder().spin(self.load.spin))?;
        let size = self.load.message_bytes(&board)?;
        let name = super::fresh_name();
        let warm_up = (self.count / 10).clamp(1, 100_000);
        let mut subscribers = Vec::new();
        for _ in 0..self.subscribers {
            let start = Start::new("a subscriber of the bench", &context.socket().path);
            subscribers.push(subscriber(start, &name, size, [warm_up, self.count]).spawn()?);
        }
        for subscriber in &mut subscribers {
            subscriber.wait_ready()?;
        }
        let topic = board.topic(&name);
        let together = if self.in_flight == 0 { u64::MAX } else { self.in_flight.into() };
        let mut report = Report::new("pub", size as u64, self.in_flight.into());
        report.subscribers = Some(self.subscribers);
        publish(&board, &topic, size, warm_up, together, &mut subscribers)?;
        let (times, elapsed) = publish(&board, &topic, size, self.count, together, &mut subscribers)?;
        times.summarize(&mut report);
        report.rate(self.count * u64::from(self.subscribers), elapsed);
        report.count = self.count;
        board.close();
        report.touch_ns =
            u64::try_from(pattern::touch(size, self.subscribers).as_nanos()).unwrap_or(u64::MAX);
        report.print(context.output())
    }
}

/// A process that verifies so many messages, and so many more; it says when it has subscribed.
pub(crate) fn subscriber(start: Start, topic: &str, size: usize, counts: [u64; 2]) -> Start {
    let [warm_up, count] = counts.map(|count| count.to_string());
    start.args(["internal", "bench-subscriber", topic, "--size", &size.to_string()]).args([
        "--warm-up",
        &warm_up,
        "--count",
        &count,
    ])
}

/// Publishes so many, has every subscriber verify them, and says how long that took the slowest.
pub(crate) fn publish(
    board: &Board,
    topic: &Topic,
    size: usize,
    count: u64,
    together: u64,
    subscribers: &mut [Peer],
) -> Result<(Times, Duration), Failure> {
    let stride = stride(count);
    let mut message = vec![0; size];
    let mut started_ns = Vec::new();
    let start_ns = clock::monotonic_ns();
    let mut batch = board.batch();
    for number in 0..count {
        if number % stride == 0 {
            started_ns.push(clock::monotonic_ns());
        }
        pattern::fill(&mut message, number);
        batch.publish(topic, &message)?;
        if (number + 1) % together == 0 {
            batch.flush()?;
        }
    }
    batch.flush()?;
    board.flush()?;
    let mut times = Times::new();
    let mut last_ns = start_ns;
    for subscriber in subscribers {
        let received: Received = subscriber.read_report()?;
        received.check(count)?;
        last_ns = last_ns.max(received.last_ns);
        for (started, ended) in started_ns.iter().zip(&received.times_ns) {
            times.record(ended.saturating_sub(*started));
        }
    }
    Ok((times, Duration::from_nanos(last_ns - start_ns)))
}

/// The time of every so manieth of `count` messages is taken.
pub(crate) fn stride(count: u64) -> u64 {
    (count / SAMPLES).max(1)
}

impl BenchSubscriber {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let topic = board.topic(&self.topic);
        // Nothing is to be lost, so the publisher waits where this is slower.
        let mut subscription = topic.subscribe().policy(SlowPolicy::Block).start()?;
        say(context, READY)?;
        for count in [self.warm_up, self.count] {
            let mut sink = Sink::new(Expected { size: self.size, stride: stride(count) });
            while sink.verified() < count && !sink.is_wrong() {
                let came = subscription.drain(SILENCE, |delivery| match delivery {
                    LentDelivery::Message(message) => sink.take(&message),
                    LentDelivery::Lost { from, to } => {
                        sink.fail(format!("those at positions {from} to {to} were dropped"));
                    }
                    other => sink.fail(format!("{other:?} came in between")),
                })?;
                if came == 0 {
                    sink.fail(format!("nothing came for {SILENCE:?}"));
                }
            }
            say(context, &serde_json::to_string(&sink.report(Expected::default())).map_err(Failure::ended)?)?;
        }
        // Whatever comes beyond is one too many.
        match subscription.try_next()? {
            None => Ok(()),
            Some(more) => Err(Failure::ended(format_args!("Failed: more came than was published: {more:?}"))),
        }
    }
}

/// A line for whoever started this process.
pub(crate) fn say(context: &Context, line: &str) -> Result<(), Failure> {
    let mut output = context.output();
    output.line(line)?;
    Ok(output.finish()?)
}
