//! A publisher and a hundred subscribers, each a process that verifies everything: how much processor time
//! the broker needs for a delivery when a turn brings it many messages, and how much the publisher sends.

use super::bench::Bench;
use super::daemon::Daemon;
use super::load::{BYTES, LIMIT, fill};
use super::row::{Row, middle};
use super::wire::Wire;
use crate::payload;
use crate::process::{Role, wait_done};
use crate::work::{SUBSCRIBERS, Tally};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::Duration;
use switchboard_protocol::control::{List, Operation, Stats};
use switchboard_protocol::topic::{Delivery, Subscribe};
use switchboard_protocol::{Header, Kind, ObjectKind, Parts, Verb, encode, flags, write_part};

const TOPIC: &str = "scale.news";
const GOAL_NS: f64 = 1000.0;
/// Items that a subscriber grants, by halves, as the client library does.
const CREDIT: u64 = 256;
/// Frames of a connection that is about to publish: its hello, and the opening of the topic.
const FRAMES_BEFORE: u64 = 2;

/// What the publisher does in a turn of the broker.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    frames: u64,
    messages_each: u64,
}

/// Measures.
pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let daemon = Daemon::start(bench, "fan-out", "", &bench.pinned)?;
    let subscribe = |_| {
        Role::fork("subscriber", &bench.pinned, Duration::from_secs(3600), |reporter| {
            let mut wire = subscribe(&daemon.socket)?;
            reporter.ready()?;
            read(&mut wire)
        })
    };
    let mut subscribers = (0..SUBSCRIBERS).map(subscribe).collect::<Result<Vec<Role>>>()?;
    for subscriber in &mut subscribers {
        subscriber.wait_ready()?;
    }
    let shapes = [(16, 1), (1, 16), (1, 64)].map(|(frames, messages_each)| Shape { frames, messages_each });
    let mut costs = shapes.map(|_| Vec::new());
    let mut frames = Vec::new();
    let mut published = 0;
    for _ in 0..bench.rounds() {
        for (shape, costs) in shapes.into_iter().zip(&mut costs) {
            let turns = bench.many(300);
            let began = daemon.cpu_ns()?;
            let mut publisher = Role::fork("publisher", &bench.pinned, LIMIT, |_| {
                publish(&daemon.socket, shape, turns, published, bench)
            })?;
            let mut others: Vec<&mut Role> = subscribers.iter_mut().collect();
            let messages = wait_done(&mut [&mut publisher], &mut others)?[0].count;
            let taken = daemon.cpu_ns()? - began;
            published += messages;
            costs.push(taken as f64 / (messages * SUBSCRIBERS as u64) as f64);
            if shape.frames == 1 {
                frames.push((frames_of_publisher(&daemon)? - FRAMES_BEFORE) as f64 / turns as f64);
            }
        }
    }
    end(&daemon, subscribers, published)?;
    let mut rows: Vec<Row> = shapes.iter().zip(&costs).map(|(shape, costs)| {
        let Shape { frames, messages_each } = shape;
        let what = format!("fan-out to {SUBSCRIBERS}, {frames} x {messages_each} messages a turn: broker's CPU a delivery");
        let ns = middle(costs.iter().copied());
        Row::at_most(&what, ns, GOAL_NS, "< 1 us", format!("{:.2} us", ns / 1e3))
    }).collect();
    let sent = middle(frames);
    rows.push(Row::at_most(
        "frames that its publisher sends for each batch",
        sent,
        1.0,
        "1",
        format!("{sent:.2}"),
    ));
    Ok(rows)
}

/// Publishes so many turns, each answered before the next: so one write of ours is one turn of the broker's.
fn publish(socket: &Path, shape: Shape, turns: u64, first: u64, bench: &Bench) -> Result<Tally> {
    let mut wire = Wire::connect(socket, "publisher")?;
    let handle = wire.open(TOPIC, ObjectKind::Topic, &[Verb::Publish])?;
    let mut message = [0; BYTES];
    let mut batch = Vec::new();
    // A burden: what is to be one turn are as many as it has messages.
    let (turns, shape) = match bench.burdens() {
        true => (turns * shape.frames * shape.messages_each, Shape { frames: 1, messages_each: 1 }),
        false => (turns, shape),
    };
    let mut number = first;
    for _ in 0..turns {
        for frame in 1..=shape.frames {
            batch.clear();
            for _ in 0..shape.messages_each {
                if fill(&mut message, number, bench.plant.of_messages()) {
                    write_part(&mut batch, 0, &message);
                }
                number += 1;
            }
            let kind = if frame == shape.frames { Kind::Call } else { Kind::Send };
            let header = Header { handle, ..Header::new(kind) };
            match (shape.messages_each, batch.is_empty()) {
                (_, true) => {}
                (1, false) => wire.put(header, &message),
                (_, false) => wire.put(Header { flags: flags::BATCH, ..header }, &batch),
            }
        }
        wire.flush()?;
        let mut header = wire.next()?;
        while header.kind == Kind::Credit {
            header = wire.next()?;
        }
        wire.must_be(&header, Kind::Reply).context("publishing")?;
        ensure!(header.caller == SUBSCRIBERS as u64, "it went to {} subscriptions", header.caller);
    }
    // Open until this process is killed: the broker is still to be asked about it.
    std::mem::forget(wire);
    Ok(Tally { count: number - first, ..Tally::default() })
}

fn subscribe(socket: &Path) -> Result<Wire> {
    let mut wire = Wire::connect(socket, "subscriber")?;
    let handle = wire.open(TOPIC, ObjectKind::Topic, &[Verb::Subscribe])?;
    let body = Subscribe { handle, pattern: String::new(), policy: 0, messages: 0, bytes: 0, history: 0 };
    let header = Header {
        method: Operation::Subscribe as u32,
        flags: flags::STREAM,
        call: 1,
        ..Header::new(Kind::Call)
    };
    wire.put(header, &encode(&body));
    wire.put(Header { call: 1, seq: 1 + CREDIT, ..Header::new(Kind::Credit) }, &[]);
    wire.flush()?;
    let header = wire.next()?;
    wire.must_be(&header, Kind::Item).context("subscribing")?;
    ensure!(
        header.handle == Delivery::Subscribed as u64,
        "a message came before the subscription was in force"
    );
    wire.wait_for_ever()?;
    Ok(wire)
}

/// Reads and verifies until the last message.
fn read(wire: &mut Wire) -> Result<Tally> {
    let (mut number, mut granted) = (0, CREDIT);
    loop {
        wire.receive()?;
        while let Some(header) = wire.arrived()? {
            wire.must_be(&header, Kind::Item)?;
            ensure!(header.handle == Delivery::Message as u64, "message {number} was lost");
            granted -= 1;
            let mut take = |message: &[u8]| -> Result<bool> {
                let last = payload::check(message, BYTES, number)?;
                number += u64::from(!last);
                Ok(last)
            };
            let mut last = false;
            if header.flags & flags::BATCH == 0 {
                last = take(wire.payload())?;
            } else {
                for part in Parts::of(wire.payload()) {
                    last = take(part.payload)?;
                }
            }
            if last {
                return Ok(Tally { count: number, ..Tally::default() });
            }
        }
        if granted <= CREDIT / 2 {
            wire.put(Header { call: 1, seq: CREDIT - granted, ..Header::new(Kind::Credit) }, &[]);
            wire.flush()?;
            granted = CREDIT;
        }
    }
}

/// Frames that the publisher still connected has sent.
fn frames_of_publisher(daemon: &Daemon) -> Result<u64> {
    let ask = List { pattern: String::new(), after: String::new() };
    let stats: Stats = daemon.connect()?.control(Operation::Stats, &ask)?;
    let publisher = stats.peers.iter().find(|peer| peer.program == "publisher");
    Ok(publisher.context("the publisher is not among the connections")?.frames_in)
}

/// Tells the subscribers that this is all; each must have had all of it.
fn end(daemon: &Daemon, mut subscribers: Vec<Role>, published: u64) -> Result<()> {
    let mut wire = daemon.connect()?;
    let handle = wire.open(TOPIC, ObjectKind::Topic, &[Verb::Publish])?;
    let mut message = [0; BYTES];
    payload::fill(&mut message, published, true);
    wire.call(Header { handle, ..Header::new(Kind::Call) }, &message)?;
    for tally in wait_done(&mut subscribers.iter_mut().collect::<Vec<_>>(), &mut [])? {
        ensure!(tally.count == published, "{published} were published and one got {}", tally.count);
    }
    Ok(())
}
