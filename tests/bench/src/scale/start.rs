//! From the exec of `switchboardd` to its answer to the first hello: with nothing to read back, and with a
//! log of durable messages.

use super::bench::Bench;
use super::daemon::Daemon;
use super::load::fill;
use super::row::{Row, middle};
use super::wire::Wire;
use crate::floor::fdatasync::disk;
use crate::payload;
use crate::process::interrupted;
use crate::work::now_ns;
use anyhow::{Context, Result, bail, ensure};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use switchboard_protocol::control::Operation;
use switchboard_protocol::queue::{CreateQueue, Created, LeaseKind, Level, Pop, QueueMethod};
use switchboard_protocol::{Header, Kind, ObjectKind, Verb, encode, flags, write_part};

const GOAL_NS: f64 = 10e6;
const STARTS: u32 = 25;
/// Between two tries to connect: what a start may look longer than it is.
const NAP: Duration = Duration::from_micros(50);
const MESSAGE_BYTES: usize = 512;
const QUEUE: &str = "scale.durable";

/// Measures.
pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let bare = Home::new(bench, "start-bare")?;
    let full = Home::new(bench, "start-log")?;
    let messages = bench.many(200_000);
    // Both have been started once, so that both start again.
    drop(bare.start(bench)?);
    full.fill(bench, messages)?;
    let (mut bare_ns, mut full_ns) = (Vec::new(), Vec::new());
    let (mut cpu_ns, mut incarnation) = (Vec::new(), 0);
    for _ in 0..STARTS.max(bench.rounds()) {
        let (daemon, wire, ns) = bare.start(bench)?;
        cpu_ns.push(daemon.cpu_ns()? as f64);
        ensure!(wire.incarnation() > incarnation, "this is not a new broker");
        incarnation = wire.incarnation();
        bare_ns.push(ns);
        full_ns.push(full.start(bench)?.2);
    }
    full.read_back(bench, messages)?;
    let show = |all: &[f64]| {
        let least = all.iter().copied().fold(f64::MAX, f64::min);
        let most = all.iter().copied().fold(0.0, f64::max);
        let median = middle(all.iter().copied());
        format!("{:.1} ms  ({:.1} to {:.1})", median / 1e6, least / 1e6, most / 1e6)
    };
    let (median, shown) = (middle(bare_ns.iter().copied()), show(&bare_ns));
    let kind = if disk().is_ok() { "disk, in the page cache" } else { "memory" };
    let megabytes = messages * MESSAGE_BYTES as u64 / 1_000_000;
    let log = format!("the same with {megabytes} MB of durable messages of {MESSAGE_BYTES} B, on {kind}");
    Ok(vec![
        Row::at_most("start: exec to the answered hello", median, GOAL_NS, "<= 10 ms", shown),
        Row::told("of it the processor's time, all threads", show(&cpu_ns)),
        Row::told(&log, show(&full_ns)),
    ])
}

/// Where a broker is started again and again.
struct Home {
    dir: PathBuf,
}

impl Home {
    fn new(bench: &Bench, name: &str) -> Result<Home> {
        Ok(Home { dir: bench.folder.subfolder(name)? })
    }

    /// Starts it and waits for its first word; says how long that took.
    fn start(&self, bench: &Bench) -> Result<(Daemon, Wire, f64)> {
        let began = now_ns();
        if bench.burdens() {
            std::thread::sleep(Duration::from_nanos(GOAL_NS as u64));
        }
        let daemon = Daemon::launch(bench, &self.dir, "", &bench.free)?;
        let stream = loop {
            match UnixStream::connect(&daemon.socket) {
                Ok(stream) => break stream,
                Err(_) if now_ns() - began < 30_000_000_000 && !interrupted() => std::thread::sleep(NAP),
                Err(why) => bail!("no connection after 30 s ({why}): {}", daemon.last_words()),
            }
        };
        let wire = Wire::greet(stream, "start")?;
        let taken = (now_ns() - began) as f64;
        Ok((daemon, wire, taken))
    }

    /// Pushes so many messages, each of which is on the disk in the end.
    fn fill(&self, bench: &Bench, messages: u64) -> Result<()> {
        let (_daemon, mut wire, _) = self.start(bench)?;
        let queue = CreateQueue {
            name: QUEUE.to_string(),
            durability: Level::Disk as u8,
            messages_max: messages,
            bytes_max: 1 << 40,
            ..CreateQueue::default()
        };
        let _: Created = wire.control(Operation::CreateQueue, &queue)?;
        let handle = wire.open(QUEUE, ObjectKind::Queue, &[Verb::Push])?;
        push_all(&mut wire, handle, MESSAGE_BYTES, messages, bench)
    }

    /// Reads the first messages back: the starts have read the log, and not just skipped it.
    fn read_back(&self, bench: &Bench, messages: u64) -> Result<()> {
        let (_daemon, mut wire, _) = self.start(bench)?;
        let handle = wire.open(QUEUE, ObjectKind::Queue, &[Verb::Pop])?;
        let pop = encode(&Pop { lease: LeaseKind::None as u8, lease_ns: 0 });
        for number in 0..messages.min(1000) {
            let header = Header {
                handle,
                method: QueueMethod::Pop as u32,
                call: number << 32,
                ..Header::new(Kind::Call)
            };
            wire.call(header, &pop).context("reading back")?;
            payload::check(wire.payload(), MESSAGE_BYTES, number)?;
        }
        Ok(())
    }
}

/// Pushes messages numbered from 0, in batches.
pub fn push_all(wire: &mut Wire, handle: u64, bytes: usize, messages: u64, bench: &Bench) -> Result<()> {
    const TOGETHER: u64 = 4096;
    let mut message = vec![0; bytes];
    let mut batch = Vec::new();
    for first in (0..messages).step_by(TOGETHER as usize) {
        batch.clear();
        for number in first..messages.min(first + TOGETHER) {
            if fill(&mut message, number, bench.plant.of_messages()) {
                write_part(&mut batch, 0, &message);
            }
        }
        let method = QueueMethod::Push as u32;
        wire.call(Header { handle, method, flags: flags::BATCH, ..Header::new(Kind::Call) }, &batch)
            .context("a push")?;
    }
    Ok(())
}
