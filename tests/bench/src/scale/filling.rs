//! Calls while a durable queue is filled as fast as it takes, while one in memory is filled at the same
//! pace, and while nothing else happens. The broker does not tell how long its turns take, so this is looked
//! at from outside: the p99 of a call that has nothing to do with the queue.

use super::bench::Bench;
use super::daemon::Daemon;
use super::load::{LIMIT, call_one_by_one, echo, fill};
use super::row::{Row, Turns, middle};
use super::wire::Wire;
use crate::floor::fdatasync::disk;
use crate::payload;
use crate::process::Role;
use crate::work::{Plant, Tally, now_ns};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::Duration;
use switchboard_protocol::control::Operation;
use switchboard_protocol::queue::{CreateQueue, Created, LeaseKind, Level, Pop, QueueInfo, QueueMethod};
use switchboard_protocol::{Header, Kind, ObjectKind, Verb, decode, encode};

const BOUND: f64 = 1.3;
const BYTES: usize = 512;
/// Pushes in flight.
const WINDOW: u64 = 64;
/// Messages that are looked at again, of each filling.
const READ_BACK: u64 = 64;

/// A queue that is filled and emptied again and again.
#[derive(Clone, Copy)]
struct Queue {
    name: &'static str,
    level: Level,
}

/// What one filling was like.
struct Filling {
    p99_ns: f64,
    /// Pushes a second.
    pace: f64,
}

/// Measures.
pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    disk()?;
    let daemon = Daemon::start(bench, "filling", "", &bench.free)?;
    let _echo = echo(&daemon, &bench.free)?;
    let durable = Queue { name: "scale.durable", level: Level::Disk };
    let memory = Queue { name: "scale.memory", level: Level::Memory };
    let count = bench.many(20_000);
    let (mut beside, mut alone, mut paces) = (Turns::default(), Turns::default(), Turns::default());
    for _ in 0..bench.rounds() {
        let full = durable.fill(bench, &daemon, count, None)?;
        let paced = memory.fill(bench, &daemon, count, Some(full.pace))?;
        let idle = call_one_by_one(&daemon, &bench.free, count, false, Plant::None)?.p99_ns as f64;
        beside.push(full.p99_ns, paced.p99_ns);
        alone.push(full.p99_ns, idle);
        paces.push(full.pace, paced.pace);
    }
    let [durable, memory] = [&paces.loaded, &paces.plain].map(|side| middle(side.iter().copied()) / 1e3);
    let what = format!("call beside {durable:.0} k/s durable pushes / {memory:.0} k/s in memory: p99, free");
    Ok(vec![beside.judge(&what, BOUND), Row::told("the same / beside nothing: p99, free", alone.show())])
}

impl Queue {
    /// Fills it while somebody calls; empties it.
    fn fill(self, bench: &Bench, daemon: &Daemon, calls: u64, pace: Option<f64>) -> Result<Filling> {
        let mut wire = daemon.connect()?;
        let body = CreateQueue {
            name: self.name.to_string(),
            durability: self.level as u8,
            messages_max: 16_000_000,
            bytes_max: 1 << 34,
            ..CreateQueue::default()
        };
        let _: Created = wire.control(Operation::CreateQueue, &body)?;
        let handle = wire.open(self.name, ObjectKind::Queue, &[Verb::Push, Verb::Pop])?;
        let plant = bench.plant.of_messages();
        let mut filler = Role::fork("filler", &bench.free, LIMIT, |reporter| {
            push_for_ever(&daemon.socket, self, pace, plant, || reporter.ready())
        })?;
        filler.wait_ready()?;
        let (first, began) = (self.info(&mut wire, handle)?.pushed, now_ns());
        let burden = bench.burdens() && self.level == Level::Disk;
        // What is planted is planted in the queue.
        let tally = call_one_by_one(daemon, &bench.free, calls, burden, Plant::None)?;
        let (pushed, elapsed_ns) = (self.info(&mut wire, handle)?.pushed - first, now_ns() - began);
        filler.must_be_well()?;
        ensure!(pushed > 0, "nothing was pushed to {} meanwhile", self.name);
        drop(filler);
        self.empty(&mut wire, handle)?;
        let pace = pushed as f64 * 1e9 / elapsed_ns as f64;
        Ok(Filling { p99_ns: tally.p99_ns as f64, pace })
    }

    fn info(self, wire: &mut Wire, handle: u64) -> Result<QueueInfo> {
        wire.call(Header { handle, method: QueueMethod::Stat as u32, ..Header::new(Kind::Call) }, &[])?;
        decode(wire.payload()).context("a queue's figures")
    }

    /// Looks at the first messages, and throws all of them away.
    fn empty(self, wire: &mut Wire, handle: u64) -> Result<()> {
        let header =
            |method: QueueMethod| Header { handle, method: method as u32, ..Header::new(Kind::Call) };
        let pop = encode(&Pop { lease: LeaseKind::None as u8, lease_ns: 0 });
        for number in 0..READ_BACK {
            wire.call(header(QueueMethod::Pop), &pop).context("reading back")?;
            payload::check(wire.payload(), BYTES, number)?;
        }
        wire.call(header(QueueMethod::Purge), &[]).context("a purge")?;
        Ok(())
    }
}

/// Pushes with [`WINDOW`] in flight, or at a pace. It is ready when some were answered.
fn push_for_ever(
    socket: &Path,
    queue: Queue,
    pace: Option<f64>,
    plant: Plant,
    mut ready: impl FnMut() -> Result<()>,
) -> Result<Tally> {
    let mut wire = Wire::connect(socket, "filler")?;
    let handle = wire.open(queue.name, ObjectKind::Queue, &[Verb::Push])?;
    let mut message = [0; BYTES];
    let (mut sent, mut answered) = (0, 0);
    let began = now_ns();
    let due_at = |count: u64| pace.map_or(0, |pace| began + (count as f64 * 1e9 / pace) as u64);
    loop {
        if sent == answered {
            std::thread::sleep(Duration::from_nanos(due_at(sent + WINDOW).saturating_sub(now_ns())));
        }
        // At a pace as many go out at once as are in flight: the disk, too, answers many at once.
        if pace.is_none() || sent == answered {
            while sent < answered + WINDOW {
                if fill(&mut message, sent, plant) {
                    let call = (sent << 32) | (sent % WINDOW);
                    let method = QueueMethod::Push as u32;
                    wire.put(Header { handle, method, call, ..Header::new(Kind::Call) }, &message);
                }
                sent += 1;
            }
            wire.flush()?;
        }
        wire.receive()?;
        while let Some(header) = wire.arrived()? {
            wire.must_be(&header, Kind::Reply).context("a push")?;
            ensure!(
                header.method == queue.level as u32,
                "{} answered at level {}",
                queue.name,
                header.method
            );
            answered += 1;
            if answered == READ_BACK {
                ready()?;
            }
        }
    }
}
