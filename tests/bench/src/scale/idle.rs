//! Ten thousand connections that do nothing, a hundred thousand names that nobody calls: what they cost in
//! memory, and what they cost a call. The other side of each round is a broker that has neither.

use super::bench::Bench;
use super::daemon::{Daemon, kernel_bytes};
use super::load::{call_one_by_one, echo};
use super::row::{Row, Turns};
use super::wire::Wire;
use crate::process::Role;
use crate::work::Tally;
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use switchboard_protocol::control::{Operation, Serve, Status};

const CONNECTIONS: u64 = 10_000;
const NAMES: u64 = 100_000;
/// Descriptors beside the connections: standard streams, the poller, some to spare.
const OTHER_FILES: u64 = 64;

/// Measures.
pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let (connections, names) = (bench.many(CONNECTIONS), bench.many(NAMES));
    bench.raise_open_files(connections + OTHER_FILES)?;
    let loaded = Daemon::start(bench, "idle-loaded", "", &bench.pinned)?;
    let plain = Daemon::start(bench, "idle-plain", "", &bench.pinned)?;
    let _echoes = [echo(&loaded, &bench.pinned)?, echo(&plain, &bench.pinned)?];
    let plant = bench.plant.of_messages();
    // Whatever a first call makes it take, it has taken.
    call_one_by_one(&loaded, &bench.pinned, 200, false, plant)?;

    let (memory, kernel) = (loaded.memory()?, kernel_bytes()?);
    let mut holder = Role::fork("holder", &bench.free, Duration::from_secs(3600), |reporter| {
        let each = if bench.burdens() { 16 } else { 0 };
        let held: Vec<_> =
            (0..connections).map(|at| connect_idle(&loaded, at, each)).collect::<Result<_>>()?;
        reporter.ready()?;
        // Open until this process is killed.
        std::mem::forget(held);
        Ok(Tally::default())
    })?;
    holder.wait_ready()?;
    let with_connections = loaded.memory()?;
    let kernel_each = kernel_bytes()?.saturating_sub(kernel) as f64 / connections as f64;
    let each = (with_connections.rss.saturating_sub(memory.rss)) as f64 / connections as f64;

    let mut owner = loaded.connect()?;
    let serve = |number| name_to_serve(format!("scale.name-{number}"));
    owner.control_many(Operation::Serve, (0..names).map(serve), |_| Ok(()))?;
    let name_each = loaded.memory()?.rss.saturating_sub(with_connections.rss) as f64 / names as f64;
    let status: Status = owner.control(Operation::Status, &())?;
    ensure!(u64::from(status.connections) >= connections, "only {} connections stand", status.connections);
    ensure!(u64::from(status.names) >= names, "only {} names are served", status.names);

    let mut turns = Turns::default();
    for _ in 0..bench.rounds() {
        let count = bench.many(4000);
        let call = |daemon, burden| call_one_by_one(daemon, &bench.pinned, count, burden, plant);
        turns.push(call(&loaded, bench.burdens())?.p50_ns as f64, call(&plain, false)?.p50_ns as f64);
    }
    let [with, at] = [connections, names].map(|count| format!("{} 000", count / 1000));
    let what = format!("call beside {with} idle connections, {at} names: p50, pinned");
    let shown = format!("{each:.0} B");
    Ok(vec![
        turns.judge(&what, 1.10),
        Row::at_most("broker memory for an idle connection (RSS)", each, 1024.0, "<= 1 KiB", shown),
        Row::told("the kernel's (Slab of the whole machine), both ends", format!("{kernel_each:.0} B")),
        Row::told("broker memory for a served name (RSS)", format!("{name_each:.0} B")),
    ])
}

/// A connection that has shaken hands; nothing of it but the socket is kept on this side.
fn connect_idle(daemon: &Daemon, number: u64, names: u64) -> Result<std::os::unix::net::UnixStream> {
    let mut wire =
        Wire::connect(&daemon.socket, "idle").with_context(|| format!("idle connection {number}"))?;
    let serve = |name| name_to_serve(format!("scale.burden-{number}-{name}"));
    wire.control_many(Operation::Serve, (0..names).map(serve), |_| Ok(()))?;
    Ok(wire.into_stream())
}

fn name_to_serve(name: String) -> Serve {
    Serve { name, mode: 0, flags: 0, calls: 16, send_bytes: 1 << 16, about: String::new() }
}
