//! How Switchboard scales: each measurement holds the broker under a load against the same broker without
//! it, in turns, and judges the ratio by DESIGN 11. See README.md.

pub mod args;
mod bench;
mod daemon;
mod fan_out;
mod filling;
mod idle;
mod in_flight;
mod load;
mod patterns;
mod queued;
mod row;
mod start;
mod wire;

use crate::others::{Others, reap_orphans};
use crate::process::interrupted;
use crate::{leftovers, rounds};
use anyhow::{Result, ensure};
use args::{Plant, Scale, What};
use bench::Bench;
use row::Row;

/// Measures and prints; says whether all was measured, and no fault was planted that it saw.
pub fn run(args: &Scale) -> Result<bool> {
    leftovers::remove_stale();
    let bench = Bench::new(args)?;
    let others = Others::watch();
    let mut rows: Vec<Row> = Vec::new();
    for what in What::ALL.into_iter().filter(|what| args.only.is_empty() || args.only.contains(what)) {
        rounds::show_progress(&what.name());
        let measured = match what {
            What::Start => start::measure(&bench),
            What::Idle => idle::measure(&bench),
            What::Queued => queued::measure(&bench),
            What::Patterns => patterns::measure(&bench),
            What::FanOut => fan_out::measure(&bench),
            What::Filling => filling::measure(&bench),
            What::InFlight => in_flight::measure(&bench),
        };
        rounds::show_progress("");
        ensure!(!interrupted(), "interrupted; nothing is reported");
        rows.extend(measured.unwrap_or_else(|why| vec![Row::failed(&what.name(), &why)]));
        reap_orphans();
    }
    row::print(&rows, args.json);
    if !args.json {
        let first = if args.first { ", which came second (--first)" } else { "" };
        let others = others.share() * 100.0;
        println!("\n{} rounds; other processes used {others:.0} % of the processors{first}.", bench.rounds());
    }
    let failed = rows.iter().any(|row| row.failed);
    let mut judged = rows.iter().filter_map(|row| row.met).peekable();
    Ok(match args.plant {
        Plant::Burden => failed || judged.peek().is_none() || judged.any(|met| met),
        Plant::None | Plant::Corrupt | Plant::Lose => !failed,
    })
}
