//! The processes that call and answer, and how what they do is timed.

use super::bench::Bench;
use super::daemon::Daemon;
use super::wire::Wire;
use crate::payload;
use crate::process::{Role, wait_done};
use crate::work::{Plant, Tally, now_ns, prepare};
use anyhow::{Context, Result};
use rustix::thread::CpuSet;
use std::path::Path;
use std::time::Duration;
use switchboard_protocol::{Header, Kind, ObjectKind, Verb};

/// Bytes of a message, where nothing else is said.
pub const BYTES: usize = 64;
/// After so long a process is ended: it waits for something that does not come.
pub const LIMIT: Duration = Duration::from_secs(120);

const SERVICE: &str = "scale.echo";

/// Serves as an echo until it is dropped.
pub fn echo(daemon: &Daemon, cpus: &CpuSet) -> Result<Role> {
    let mut role = Role::fork("echo service", cpus, Duration::from_secs(3600), |reporter| {
        let mut wire = Wire::connect(&daemon.socket, "echo")?;
        wire.serve(SERVICE, 1024)?;
        wire.wait_for_ever()?;
        reporter.ready()?;
        let mut payload = Vec::new();
        loop {
            wire.receive()?;
            while let Some(header) = wire.arrived()? {
                if header.kind == Kind::Call {
                    payload.clear();
                    payload.extend_from_slice(wire.payload());
                    wire.put(
                        Header { handle: header.handle, call: header.call, ..Header::new(Kind::Reply) },
                        &payload,
                    );
                }
            }
            wire.flush()?;
        }
    })?;
    role.wait_ready()?;
    Ok(role)
}

/// Calls the echo one by one, in a process of its own.
pub fn call_one_by_one(
    daemon: &Daemon,
    cpus: &CpuSet,
    count: u64,
    burden: bool,
    plant: Plant,
) -> Result<Tally> {
    timed("caller", cpus, || {
        let mut caller = Caller::connect(&daemon.socket, plant)?;
        time_each(count, burden, |number| caller.call(number))
    })
}

/// Does `body` in a process of its own.
pub fn timed(name: &'static str, cpus: &CpuSet, body: impl FnOnce() -> Result<Tally>) -> Result<Tally> {
    let mut role = Role::fork(name, cpus, LIMIT, |_| body())?;
    Ok(wait_done(&mut [&mut role], &mut [])?[0])
}

/// Rounds before those that are timed.
pub fn warm_up(count: u64) -> u64 {
    count / 8 + 32
}

/// Does `each`, which says how long it took, `count` times, behind a few that do not count. A burden makes
/// all of them look twice as long.
pub fn time_each(count: u64, burden: bool, mut each: impl FnMut(u64) -> Result<u64>) -> Result<Tally> {
    let mut taken = Vec::with_capacity(count as usize);
    for number in 0..warm_up(count) + count {
        let ns = each(number)?;
        if number >= warm_up(count) {
            taken.push(if burden { 2 * ns } else { ns });
        }
    }
    let elapsed_ns = taken.iter().sum();
    taken.sort_unstable();
    let rank = |percent: usize| taken[(taken.len() * percent / 100).min(taken.len() - 1)];
    Ok(Tally { at_ns: 0, count, elapsed_ns, p50_ns: rank(50), p99_ns: rank(99) })
}

/// Sets down number `number`; says whether it is to be sent.
pub fn fill(message: &mut [u8], number: u64, plant: Plant) -> bool {
    prepare(message, number, false, plant)
}

/// Somebody who calls the echo.
struct Caller {
    wire: Wire,
    handle: u64,
    plant: Plant,
    message: [u8; BYTES],
}

impl Caller {
    fn connect(socket: &Path, plant: Plant) -> Result<Caller> {
        let mut wire = Wire::connect(socket, "caller")?;
        let handle = wire.open(SERVICE, ObjectKind::Service, &[Verb::Call])?;
        Ok(Caller { wire, handle, plant, message: [0; BYTES] })
    }

    /// One call; how long it took.
    fn call(&mut self, number: u64) -> Result<u64> {
        let send = fill(&mut self.message, number, self.plant);
        let began = now_ns();
        if send {
            self.wire.put(
                Header { handle: self.handle, call: number << 32, ..Header::new(Kind::Call) },
                &self.message,
            );
            self.wire.flush()?;
        }
        self.wire.reply(number << 32).context("a call of the echo")?;
        let ns = now_ns() - began;
        payload::check(self.wire.payload(), BYTES, number)?;
        Ok(ns)
    }
}

/// Keeps `window` calls of the echo open: what came back is called anew at once. Calls a second.
pub fn call_in_flight(bench: &Bench, daemon: &Daemon, cpus: &CpuSet, window: u64, count: u64) -> Result<f64> {
    let plant = bench.plant.of_messages();
    let tally = timed("caller", cpus, || {
        let Caller { mut wire, handle, mut message, .. } = Caller::connect(&daemon.socket, plant)?;
        let (mut sent, mut received, mut began) = (0, 0, 0);
        let (warm, all) = (warm_up(count), warm_up(count) + count);
        while received < all {
            while sent < all.min(received + window) {
                if fill(&mut message, sent, plant) {
                    let call = (sent << 32) | (sent % window);
                    wire.put(Header { handle, call, ..Header::new(Kind::Call) }, &message);
                }
                sent += 1;
            }
            wire.flush()?;
            wire.receive()?;
            while let Some(header) = wire.arrived()? {
                wire.must_be(&header, Kind::Reply)?;
                payload::check(wire.payload(), BYTES, received)?;
                received += 1;
                if received == warm {
                    began = now_ns();
                }
            }
        }
        Ok(Tally { count, elapsed_ns: now_ns() - began, ..Tally::default() })
    })?;
    Ok(tally.count as f64 * 1e9 / tally.elapsed_ns as f64)
}
