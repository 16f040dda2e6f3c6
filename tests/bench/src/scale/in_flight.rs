//! Calls a second through the broker, by how many are in flight. There is no goal for these: they show what
//! one more call in a turn costs.

use super::bench::Bench;
use super::daemon::Daemon;
use super::load::{call_in_flight, echo};
use super::row::{Row, middle};
use anyhow::Result;

/// Calls in flight, and how many make a round.
const WINDOWS: [(u64, u64); 3] = [(1, 5_000), (64, 100_000), (512, 300_000)];

/// Measures.
pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let mut rates = WINDOWS.map(|_| [Vec::new(), Vec::new()]);
    for (mode, cpus) in [&bench.pinned, &bench.free].into_iter().enumerate() {
        let daemon = Daemon::start(bench, &format!("in-flight-{mode}"), "", cpus)?;
        let _echo = echo(&daemon, cpus)?;
        for _ in 0..bench.rounds() {
            for ((window, count), rates) in WINDOWS.into_iter().zip(&mut rates) {
                rates[mode].push(call_in_flight(bench, &daemon, cpus, window, bench.many(count))?);
            }
        }
    }
    Ok(WINDOWS
        .iter()
        .zip(rates)
        .map(|((window, _), rates)| {
            let [pinned, free] = rates.map(|rates| middle(rates) / 1e3);
            Row::told(
                &format!("calls of 64 B a second, {window} in flight"),
                format!("{pinned:.0} k pinned, {free:.0} k free"),
            )
        })
        .collect())
}
