//! What a person reads, and what a program reads.

use crate::args::Args;
use crate::candidate::Mode;
use crate::goals::Goal;
use crate::results::{Measured, Results};
use crate::work::Work;
use serde_json::{Value, json};

/// The columns of one piece of work: its headings, then a function for its cells.
const HEADINGS: [[&str; 2]; 14] = [
    ["", ""],
    ["", ""],
    ["call 64 B", "p50"],
    ["", "p99"],
    ["", "x relay"],
    ["", "SB x"],
    ["64 in flight", "calls/s"],
    ["", "SB x"],
    ["one way 64 B", "msg/s"],
    ["", "SB x"],
    ["call 1 MiB", "p50"],
    ["", "p99"],
    ["", "x relay"],
    ["", "SB x"],
];

/// Prints the table, what is not in it and why, and the goals.
pub fn print(results: &Results, goals: &[Goal], args: &Args) {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for mode in Mode::ALL {
        let of_mode: Vec<_> =
            results.candidates.iter().filter_map(|candidate| row(results, candidate, mode)).collect();
        if !rows.is_empty() && !of_mode.is_empty() {
            rows.push(Vec::new());
        }
        rows.extend(of_mode);
    }
    print_aligned(&rows);
    println!();
    println!("Medians of {} alternated rounds of {} ms.", args.rounds(), args.measure().as_millis());
    println!(
        "x relay: times the bare relay's latency. SB x: how many times faster Switchboard is (below 1: slower)."
    );
    println!("pinned: all processes of a candidate on one core; free: wherever the kernel puts them.");
    if results.others > 0.05 {
        println!(
            "NOTE: other processes used {:.0} % of the processors meanwhile: quote numbers of a quieter run.",
            results.others * 100.0
        );
    }
    for candidate in &results.candidates {
        match &candidate.missing {
            Some(why) => println!("  {why}"),
            None => println!("  {:14} {}", candidate.name, candidate.describe),
        }
        for why in &candidate.failures {
            println!("  {:14} FAILED {why}", candidate.name);
        }
    }
    print_goals(goals);
}

fn row(results: &Results, candidate: &Measured, mode: Mode) -> Option<Vec<String>> {
    if !Work::ALL.iter().any(|work| candidate.figure(mode, *work).is_some()) {
        return None;
    }
    let ours = candidate.name == "switchboard";
    let relay = |work| ratio_cell(results.times_the_relay(candidate, mode, work));
    let faster = |work| ratio_cell(results.switchboard_faster(candidate, mode, work).filter(|_| !ours));
    let median = |work| candidate.median(mode, work);
    let mut cells = vec![candidate.name.to_string(), mode.name().to_string()];
    cells.extend([time_cell(median(Work::Call).p50_ns), time_cell(median(Work::Call).p99_ns)]);
    cells.extend([relay(Work::Call), faster(Work::Call)]);
    cells.extend([rate_cell(median(Work::InFlight).per_second), faster(Work::InFlight)]);
    cells.extend([rate_cell(median(Work::OneWay).per_second), faster(Work::OneWay)]);
    cells.extend([time_cell(median(Work::Large).p50_ns), time_cell(median(Work::Large).p99_ns)]);
    cells.extend([relay(Work::Large), faster(Work::Large)]);
    Some(cells)
}

fn time_cell(ns: Option<f64>) -> String {
    match ns {
        None => "-".to_string(),
        Some(ns) if ns < 1e3 => format!("{:.2} us", ns / 1e3),
        Some(ns) if ns < 1e5 => format!("{:.1} us", ns / 1e3),
        Some(ns) => format!("{:.0} us", ns / 1e3),
    }
}

fn rate_cell(per_second: Option<f64>) -> String {
    match per_second {
        None => "-".to_string(),
        Some(rate) if rate < 1e6 => format!("{:.1} k", rate / 1e3),
        Some(rate) => format!("{:.2} M", rate / 1e6),
    }
}

fn ratio_cell(ratio: Option<f64>) -> String {
    match ratio {
        None => "-".to_string(),
        Some(ratio) if ratio < 10.0 => format!("{ratio:.2}"),
        Some(ratio) => format!("{ratio:.0}"),
    }
}

/// Text columns to the left, numbers to the right.
fn print_aligned(rows: &[Vec<String>]) {
    let width = |column: usize| {
        let heading = HEADINGS[column][1].len();
        rows.iter().filter_map(|row| row.get(column)).map(String::len).fold(heading, usize::max)
    };
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    println!("{}", group_headings(&widths).trim_end());
    let print_row = |cells: Vec<&str>| {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            line += gap(column);
            let width = widths[column];
            line += &if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
        }
        println!("{}", line.trim_end());
    };
    print_row(HEADINGS.iter().map(|heading| heading[1]).collect());
    for row in rows {
        print_row(row.iter().map(String::as_str).collect());
    }
}

/// A wider gap before each piece of work.
fn gap(column: usize) -> &'static str {
    match column {
        0 => "",
        _ if HEADINGS[column][0].is_empty() => "  ",
        _ => "   | ",
    }
}

fn group_headings(widths: &[usize]) -> String {
    let mut line = String::new();
    let mut at = 0;
    for (column, width) in widths.iter().enumerate() {
        at += gap(column).len();
        if !HEADINGS[column][0].is_empty() {
            line = format!("{line:<at$}{}", HEADINGS[column][0]);
        }
        at += width;
    }
    line
}

fn print_goals(goals: &[Goal]) {
    if goals.is_empty() {
        return;
    }
    println!("\nGoals of calls and messages through the broker (DESIGN 11):");
    for goal in goals {
        let verdict = match &goal.measured {
            Ok(ratio) => format!("{ratio:6.2}  {}", if goal.met { "met" } else { "MISSED" }),
            Err(why) => format!("     -  not judged: {why}"),
        };
        println!("  {:26} {:24} {verdict}", goal.what, goal.aim);
    }
}

/// Prints one object for each row and piece of work, for what is missing or failed, and for each goal.
pub fn print_json(results: &Results, goals: &[Goal]) {
    for candidate in &results.candidates {
        for value in json_rows(results, candidate) {
            println!("{value}");
        }
    }
    for goal in goals {
        let (ratio, missing) = match &goal.measured {
            Ok(ratio) => (Some(*ratio), None),
            Err(why) => (None, Some(why)),
        };
        println!(
            "{}",
            json!({"goal": goal.what, "aim": goal.aim, "ratio": ratio, "met": goal.met, "missing": missing})
        );
    }
}

fn json_rows(results: &Results, candidate: &Measured) -> Vec<Value> {
    let mut rows = Vec::new();
    if let Some(why) = &candidate.missing {
        rows.push(json!({"candidate": candidate.name, "missing": why}));
    }
    for why in &candidate.failures {
        rows.push(json!({"candidate": candidate.name, "failed": why}));
    }
    for ((mode, work), samples) in &candidate.samples {
        let median = candidate.median(*mode, *work);
        let latency = crate::results::is_latency(*work);
        rows.push(json!({
            "candidate": candidate.name,
            "describe": candidate.describe,
            "mode": mode.name(),
            "what": work.name(),
            "size": work.size(),
            "in_flight": work.in_flight(),
            "rounds": samples.len(),
            "p50_ns": median.p50_ns,
            "p99_ns": median.p99_ns,
            "per_second": median.per_second,
            "times_relay": results.times_the_relay(candidate, *mode, *work).filter(|_| latency),
            "switchboard_faster": results.switchboard_faster(candidate, *mode, *work),
            "others_cpu": results.others,
        }));
    }
    rows
}
