//! A hundred thousand subscriptions by pattern, of which one matches what is published: beside ten of them,
//! publishing must cost hardly more. The other side of each round is a broker with ten.
//!
//! The broker remembers who gets what is published to a topic until somebody subscribes or leaves. So both
//! are measured: a topic that it has never seen, for which it looks among the patterns, and one it knows.

use super::bench::Bench;
use super::daemon::Daemon;
use super::load::{BYTES, LIMIT, fill, time_each, warm_up};
use super::row::{Row, Turns};
use super::wire::{Wire, open};
use crate::payload;
use crate::process::{Role, wait_done};
use crate::work::{Plant, Tally, now_ns};
use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::path::Path;
use std::time::Duration;
use switchboard_protocol::control::{Opened, Operation};
use switchboard_protocol::topic::{Delivery, Subscribe};
use switchboard_protocol::{Header, Kind, ObjectKind, Verb, decode, encode, flags};

const MANY: u64 = 100_000;
const FEW: u64 = 10;
const LABELS: [usize; 3] = [2, 4, 8];
/// Subscribers' connections: each may have 4096 calls open, and a subscription is one.
const CONNECTIONS: u64 = 25;
/// Subscriptions that are asked for at once.
const TOGETHER: u64 = 128;
/// One user may have half of them: enough for [`MANY`].
const CONFIG: &str = "[limits]\ncalls_open_max = 262144\n";
/// What is known costs as much as ever; a look at the patterns may find its place among ten thousand times as
/// many, not look at them.
const KNOWN_BOUND: f64 = 1.10;
const NEW_BOUND: f64 = 1.50;

/// Measures.
pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for labels in LABELS {
        rows.extend(with_labels(bench, labels)?);
    }
    Ok(rows)
}

fn with_labels(bench: &Bench, labels: usize) -> Result<Vec<Row>> {
    let many = bench.many(MANY);
    let mut loaded = Side::start(bench, &format!("patterns-many-{labels}"), many, labels)?;
    let mut plain = Side::start(bench, &format!("patterns-few-{labels}"), FEW, labels)?;
    let (mut unknown, mut known) = (Turns::default(), Turns::default());
    for _ in 0..bench.rounds() {
        // In the order of [`Shape::subscriber`].
        for turns in [&mut unknown, &mut known] {
            let loaded_ns = loaded.publish(bench, bench.burdens())?;
            turns.push(loaded_ns, plain.publish(bench, false)?);
        }
    }
    loaded.end()?;
    plain.end()?;
    let what = |topic: &str| {
        format!("publish to 1 of {many} / of {FEW} patterns, {labels} labels, {topic} topic: p50, pinned")
    };
    Ok(vec![unknown.judge(&what("new"), NEW_BOUND), known.judge(&what("known"), KNOWN_BOUND)])
}

/// What is subscribed to, and in which order it is published to.
#[derive(Clone, Copy)]
struct Shape {
    subscriptions: u64,
    labels: usize,
    /// Messages that count, of each turn.
    count: u64,
}

impl Shape {
    /// Messages of one turn.
    fn turn(self) -> u64 {
        self.count + warm_up(self.count)
    }

    /// Whom message `number` is for. Turns alternate: to a new topic each, then all to one.
    fn subscriber(self, number: u64) -> u64 {
        let turn = number / self.turn();
        let spread = if turn.is_multiple_of(2) { number } else { turn * self.turn() };
        spread * 7919 % self.subscriptions
    }

    /// Labels before the one in which the patterns differ.
    fn beginning(self) -> String {
        (2..self.labels).map(|at| format!("part{at}.")).collect()
    }

    fn pattern(self, subscriber: u64) -> String {
        format!("{}n{subscriber}.*", self.beginning())
    }

    fn topic(self, subscriber: u64, last: u64) -> String {
        format!("{}n{subscriber}.t{last}", self.beginning())
    }
}

/// A broker, those who subscribe at it, and what was published so far.
struct Side {
    daemon: Daemon,
    subscribers: Role,
    shape: Shape,
    published: u64,
}

impl Side {
    fn start(bench: &Bench, name: &str, subscriptions: u64, labels: usize) -> Result<Side> {
        let shape = Shape { subscriptions, labels, count: bench.many(2000) };
        let daemon = Daemon::start(bench, name, CONFIG, &bench.pinned)?;
        let subscribers = Role::fork("subscribers", &bench.pinned, Duration::from_secs(3600), |reporter| {
            let mut subscribers = Subscribers::connect(&daemon.socket, shape)?;
            reporter.ready()?;
            subscribers.read()
        })?;
        let mut side = Side { daemon, subscribers, shape, published: 0 };
        side.subscribers.wait_ready()?;
        Ok(side)
    }

    /// One turn: the median time of a publish that is answered.
    fn publish(&mut self, bench: &Bench, burden: bool) -> Result<f64> {
        let (shape, first, plant) = (self.shape, self.published, bench.plant.of_messages());
        let mut publisher = Role::fork("publisher", &bench.pinned, LIMIT, |_| {
            let mut publisher = Publisher::connect(&self.daemon.socket, shape, first)?;
            time_each(shape.count, burden, |number| publisher.publish(first + number, plant))
        })?;
        let tally = wait_done(&mut [&mut publisher], &mut [&mut self.subscribers])?[0];
        self.published += shape.turn();
        Ok(tally.p50_ns as f64)
    }

    /// Tells the subscribers that this is all: they say whether they have all of it.
    fn end(&mut self) -> Result<()> {
        let mut wire = self.daemon.connect()?;
        let handle = wire.open(&self.shape.topic(0, 0), ObjectKind::Topic, &[Verb::Publish])?;
        let mut message = [0; BYTES];
        payload::fill(&mut message, self.published, true);
        wire.call(Header { handle, ..Header::new(Kind::Call) }, &message)?;
        let tally = wait_done(&mut [&mut self.subscribers], &mut [])?[0];
        ensure!(tally.count == self.published, "{} were published and {} came", self.published, tally.count);
        Ok(())
    }
}

struct Publisher {
    wire: Wire,
    /// Of the turn's messages, in their order.
    handles: Vec<u64>,
    first: u64,
    message: [u8; BYTES],
}

impl Publisher {
    fn connect(socket: &Path, shape: Shape, first: u64) -> Result<Publisher> {
        let mut wire = Wire::connect(socket, "publisher")?;
        let is_new = (first / shape.turn()).is_multiple_of(2);
        let topics = (first..first + shape.turn()).map(|number| {
            let last = if is_new { number } else { first };
            open(&shape.topic(shape.subscriber(number), last), ObjectKind::Topic, &[Verb::Publish])
        });
        let mut handles = Vec::new();
        wire.control_many(Operation::Open, topics, |opened| {
            let opened: Opened = decode(opened).context("an answer to Open")?;
            handles.push(opened.handle);
            Ok(())
        })?;
        Ok(Publisher { wire, handles, first, message: [0; BYTES] })
    }

    fn publish(&mut self, number: u64, plant: Plant) -> Result<u64> {
        let handle = self.handles[(number - self.first) as usize];
        if !fill(&mut self.message, number, plant) {
            return Ok(0);
        }
        let began = now_ns();
        let reply = self.wire.call(Header { handle, ..Header::new(Kind::Call) }, &self.message)?;
        let ns = now_ns() - began;
        ensure!(reply.caller == 1, "message {number} went to {} subscriptions, not to 1", reply.caller);
        Ok(ns)
    }
}

struct Subscribers {
    wires: Vec<Wire>,
    shape: Shape,
    /// Which messages came.
    came: Vec<bool>,
}

impl Subscribers {
    /// Subscription n is on connection n % [`CONNECTIONS`], as call n / [`CONNECTIONS`] + 1.
    fn connect(socket: &Path, shape: Shape) -> Result<Subscribers> {
        let mut wires = Vec::new();
        for connection in 0..CONNECTIONS {
            let mut wire = Wire::connect(socket, "subscriber")?;
            let mine: Vec<u64> = (connection..shape.subscriptions).step_by(CONNECTIONS as usize).collect();
            for some in mine.chunks(TOGETHER as usize) {
                for &subscriber in some {
                    let body = Subscribe {
                        handle: 0,
                        pattern: shape.pattern(subscriber),
                        policy: 0,
                        messages: 0,
                        bytes: 0,
                        history: 0,
                    };
                    let call = subscriber / CONNECTIONS + 1;
                    let header = Header {
                        method: Operation::Subscribe as u32,
                        flags: flags::STREAM,
                        call,
                        ..Header::new(Kind::Call)
                    };
                    wire.put(header, &encode(&body));
                    wire.put(Header { call, seq: 1 << 30, ..Header::new(Kind::Credit) }, &[]);
                }
                wire.flush()?;
                for _ in some {
                    let header = wire.next()?;
                    wire.must_be(&header, Kind::Item).context("subscribing")?;
                    ensure!(
                        header.handle == Delivery::Subscribed as u64,
                        "a message came before it was in force"
                    );
                }
            }
            wire.wait_for_ever()?;
            wires.push(wire);
        }
        Ok(Subscribers { wires, shape, came: Vec::new() })
    }

    /// Reads and verifies until the last message, which says how many there were.
    fn read(&mut self) -> Result<Tally> {
        let mut all = None;
        loop {
            // Behind the last message, only what is here already.
            let patience = all.map(|_| Timespec { tv_sec: 0, tv_nsec: 0 });
            let mut fds: Vec<PollFd<'_>> =
                self.wires.iter().map(|wire| PollFd::new(wire.stream(), PollFlags::IN)).collect();
            poll(&mut fds, patience.as_ref()).context("waiting for messages")?;
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if let Some(count) = all.filter(|_| !ready.contains(&true)) {
                let came = self.came.iter().filter(|came| **came).count() as u64;
                ensure!(came == count, "of {count} messages {came} came");
                return Ok(Tally { count, ..Tally::default() });
            }
            for connection in (0..ready.len()).filter(|connection| ready[*connection]) {
                all = self.take(connection)?.or(all);
            }
        }
    }

    /// Verifies what came on one connection. The last message says how many there were.
    fn take(&mut self, connection: usize) -> Result<Option<u64>> {
        let wire = &mut self.wires[connection];
        let mut last = None;
        wire.receive()?;
        while let Some(header) = wire.arrived()? {
            wire.must_be(&header, Kind::Item)?;
            ensure!(header.handle == Delivery::Message as u64, "something else than a message came");
            let head = wire.payload().first_chunk().context("a message without a number")?;
            let number = u64::from_le_bytes(*head) & !payload::END;
            if payload::check(wire.payload(), BYTES, number)? {
                last = Some(number);
                continue;
            }
            let subscriber = (header.call - 1) * CONNECTIONS + connection as u64;
            ensure!(
                self.shape.subscriber(number) == subscriber,
                "message {number} came to subscriber {subscriber}"
            );
            let at = number as usize;
            if self.came.len() <= at {
                self.came.resize(at + 1, false);
            }
            ensure!(!self.came[at], "message {number} came twice");
            self.came[at] = true;
        }
        Ok(last)
    }
}
