//! A million messages in one queue in memory: what they cost in memory, and what they cost whoever pushes
//! behind them and pops at their head. The other side of each round is an empty queue of the same broker.

use super::bench::Bench;
use super::daemon::Daemon;
use super::load::{BYTES, fill, time_each, timed, warm_up};
use super::row::{Row, Turns};
use super::start::push_all;
use super::wire::Wire;
use crate::payload;
use crate::work::now_ns;
use anyhow::{Context, Result, ensure};
use switchboard_protocol::control::Operation;
use switchboard_protocol::queue::{CreateQueue, Created, LeaseKind, Pop, QueueMethod};
use switchboard_protocol::{Header, Kind, ObjectKind, Verb, encode};

const MESSAGES: u64 = 1_000_000;
const GOAL_BYTES: f64 = 200e6;

/// Which part of a message's way is timed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Push,
    PopAndAck,
}

/// A queue and the messages that have gone through it.
struct Queue {
    name: &'static str,
    pushed: u64,
    popped: u64,
}

/// Measures.
pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let daemon = Daemon::start(bench, "queued", "", &bench.pinned)?;
    let messages = bench.many(MESSAGES);
    let mut wire = daemon.connect()?;
    let mut deep = Queue { name: "scale.deep", pushed: 0, popped: 0 };
    let mut empty = Queue { name: "scale.empty", pushed: 0, popped: 0 };
    for queue in [&deep, &empty] {
        create(&mut wire, queue.name)?;
    }
    // Both have been used before anything counts: what that takes of memory is not the messages'.
    for queue in [&mut deep, &mut empty] {
        queue.cycle(bench, &daemon, Part::Push, 1000, false)?;
    }
    let before = daemon.memory()?;
    let bytes = if bench.burdens() { 8 * BYTES } else { BYTES };
    let handle = wire.open(deep.name, ObjectKind::Queue, &[Verb::Push])?;
    push_all(&mut wire, handle, bytes, messages, bench)?;
    let after = daemon.memory()?;
    // What is popped from now on is what was just pushed, numbered from 0.
    deep.popped = 0;
    deep.pushed = messages;

    let (mut push, mut pop) = (Turns::default(), Turns::default());
    for _ in 0..bench.rounds() {
        for (part, turns) in [(Part::Push, &mut push), (Part::PopAndAck, &mut pop)] {
            let count = bench.many(4000);
            let loaded = deep.cycle(bench, &daemon, part, count, bench.burdens())?;
            turns.push(loaded, empty.cycle(bench, &daemon, part, count, false)?);
        }
    }
    ensure!(deep.pushed - deep.popped == messages, "the deep queue is not as deep as it was");
    // A tenth of the messages may grow by a tenth of the bytes.
    let goal = bench.many(GOAL_BYTES as u64) as f64;
    let goal_shown = format!("<= {:.0} MB", goal / 1e6);
    let size = |what: &str, grown: u64| {
        let what = format!("memory of {messages} queued messages of {BYTES} B ({what})");
        let each = grown as f64 / messages as f64;
        let shown = format!("{:.1} MB  ({each:.0} B each)", grown as f64 / 1e6);
        Row::at_most(&what, grown as f64, goal, &goal_shown, shown)
    };
    Ok(vec![
        size("RSS", after.rss.saturating_sub(before.rss)),
        size("PSS", after.pss.saturating_sub(before.pss)),
        push.judge("push behind them / to an empty queue: p50, pinned", 1.10),
        pop.judge("pop and ack at their head / of an empty queue: p50, pinned", 1.10),
    ])
}

/// Makes a queue in memory that is large enough for everything here.
fn create(wire: &mut Wire, name: &str) -> Result<()> {
    let body = CreateQueue {
        name: name.to_string(),
        messages_max: 4 * MESSAGES,
        bytes_max: 1 << 32,
        ..CreateQueue::default()
    };
    let _: Created = wire.control(Operation::CreateQueue, &body)?;
    Ok(())
}

impl Queue {
    /// Pushes one, pops one, acknowledges it, again and again, and times one part of that: its median.
    fn cycle(&mut self, bench: &Bench, daemon: &Daemon, part: Part, count: u64, burden: bool) -> Result<f64> {
        let plant = bench.plant.of_messages();
        let (name, pushed, popped) = (self.name, self.pushed, self.popped);
        let size = if bench.burdens() && popped < pushed { 8 * BYTES } else { BYTES };
        let tally = timed("producer and consumer", &bench.pinned, || {
            let mut wire = Wire::connect(&daemon.socket, "cycle")?;
            let handle = wire.open(name, ObjectKind::Queue, &[Verb::Push, Verb::Pop])?;
            let pop = encode(&Pop { lease: LeaseKind::Attached as u8, lease_ns: 0 });
            let mut message = vec![0; size];
            time_each(count, burden, |number| {
                let header = |method: QueueMethod| Header {
                    handle,
                    method: method as u32,
                    call: number << 32,
                    ..Header::new(Kind::Call)
                };
                let send = fill(&mut message, pushed + number, plant);
                let began = now_ns();
                if send {
                    wire.call(header(QueueMethod::Push), &message).context("a push")?;
                }
                let between = now_ns();
                let popped_one = wire.call(header(QueueMethod::Pop), &pop).context("a pop")?;
                payload::check(wire.payload(), size, popped + number)?;
                let lease = [popped_one.epoch.to_le_bytes(), popped_one.caller.to_le_bytes()].concat();
                wire.call(header(QueueMethod::Ack), &lease).context("an ack")?;
                let end = now_ns();
                Ok(if part == Part::Push { between - began } else { end - between })
            })
        })?;
        self.pushed += warm_up(count) + count;
        self.popped += warm_up(count) + count;
        Ok(tally.p50_ns as f64)
    }
}
