//! What a person reads, and what a program reads.

use crate::args::Args;
use crate::candidate::Mode;
use crate::goals::Goal;
use crate::results::{Measured, Results};
use crate::work::Work;
use serde_json::{Value, json};

/// The columns of a table: for each the heading of its piece of work, where that begins, and its own.
type Headings = [[&'static str; 2]];

const CALLS: &Headings = &[
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

const QUEUES: &Headings = &[
    ["", ""],
    ["", ""],
    ["publish 64 B", "msg/s"],
    ["", "SB x"],
    ["to 100", "deliveries/s"],
    ["", "SB x"],
    ["queue 64 B", "msg/s"],
    ["", "SB x"],
    ["durable 512 B", "p50"],
    ["", "p99"],
    ["", "SB x"],
    ["64 in flight", "pushes/s"],
    ["", "SB x"],
    ["256 in flight", "pushes/s"],
    ["", "SB x"],
];

/// Prints the table, what is not in it and why, and the goals.
pub fn print(results: &Results, goals: &[Goal], args: &Args) {
    print_table(results, CALLS, calls_row);
    println!();
    print_table(results, QUEUES, queues_row);
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

/// The cells of a candidate behind its name and mode.
type Row = fn(&Results, &Measured, Mode) -> Vec<String>;

fn print_table(results: &Results, headings: &Headings, row: Row) {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for mode in Mode::ALL {
        let of_mode = results.candidates.iter().filter_map(|candidate| {
            let cells = row(results, candidate, mode);
            let measured = cells.iter().any(|cell| cell != NOTHING);
            measured.then(|| [vec![candidate.name.to_string(), mode.name().to_string()], cells].concat())
        });
        let of_mode: Vec<_> = of_mode.collect();
        if !rows.is_empty() && !of_mode.is_empty() {
            rows.push(Vec::new());
        }
        rows.extend(of_mode);
    }
    print_aligned(headings, &rows);
}

fn faster_cell(results: &Results, candidate: &Measured, mode: Mode, work: Work) -> String {
    let ours = candidate.name == "switchboard";
    ratio_cell(results.switchboard_faster(candidate, mode, work).filter(|_| !ours))
}

fn calls_row(results: &Results, candidate: &Measured, mode: Mode) -> Vec<String> {
    let relay = |work| ratio_cell(results.times_the_relay(candidate, mode, work));
    let faster = |work| faster_cell(results, candidate, mode, work);
    let median = |work| candidate.median(mode, work);
    let mut cells = Vec::new();
    cells.extend([time_cell(median(Work::Call).p50_ns), time_cell(median(Work::Call).p99_ns)]);
    cells.extend([relay(Work::Call), faster(Work::Call)]);
    cells.extend([rate_cell(median(Work::InFlight).per_second), faster(Work::InFlight)]);
    cells.extend([rate_cell(median(Work::OneWay).per_second), faster(Work::OneWay)]);
    cells.extend([time_cell(median(Work::Large).p50_ns), time_cell(median(Work::Large).p99_ns)]);
    cells.extend([relay(Work::Large), faster(Work::Large)]);
    cells
}

fn queues_row(results: &Results, candidate: &Measured, mode: Mode) -> Vec<String> {
    let faster = |work| faster_cell(results, candidate, mode, work);
    let rate = |work| [rate_cell(candidate.median(mode, work).per_second), faster(work)];
    let durable = candidate.median(mode, Work::Durable);
    let mut cells = [Work::Publish, Work::FanOut, Work::Queue].map(rate).concat();
    cells.extend([time_cell(durable.p50_ns), time_cell(durable.p99_ns), faster(Work::Durable)]);
    cells.extend([Work::Durable64, Work::Durable256].map(rate).concat());
    cells
}

/// The cell of what was not measured.
const NOTHING: &str = "-";

fn time_cell(ns: Option<f64>) -> String {
    match ns {
        None => NOTHING.to_string(),
        Some(ns) if ns < 1e3 => format!("{:.2} us", ns / 1e3),
        Some(ns) if ns < 1e5 => format!("{:.1} us", ns / 1e3),
        Some(ns) => format!("{:.0} us", ns / 1e3),
    }
}

fn rate_cell(per_second: Option<f64>) -> String {
    match per_second {
        None => NOTHING.to_string(),
        Some(rate) if rate < 1e6 => format!("{:.1} k", rate / 1e3),
        Some(rate) => format!("{:.2} M", rate / 1e6),
    }
}

fn ratio_cell(ratio: Option<f64>) -> String {
    match ratio {
        None => NOTHING.to_string(),
        Some(ratio) if ratio < 10.0 => format!("{ratio:.2}"),
        Some(ratio) => format!("{ratio:.0}"),
    }
}

/// Text columns to the left, numbers to the right.
fn print_aligned(headings: &Headings, rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    let width = |column: usize| {
        let heading = headings[column][1].len();
        rows.iter().filter_map(|row| row.get(column)).map(String::len).fold(heading, usize::max)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    println!("{}", group_headings(headings, &widths).trim_end());
    let print_row = |cells: Vec<&str>| {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            line += gap(headings, column);
            let width = widths[column];
            line += &if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
        }
        println!("{}", line.trim_end());
    };
    print_row(headings.iter().map(|heading| heading[1]).collect());
    for row in rows {
        print_row(row.iter().map(String::as_str).collect());
    }
}

/// A wider gap before each piece of work.
fn gap(headings: &Headings, column: usize) -> &'static str {
    match column {
        0 => "",
        _ if headings[column][0].is_empty() => "  ",
        _ => "   | ",
    }
}

fn group_headings(headings: &Headings, widths: &[usize]) -> String {
    let mut line = String::new();
    let mut at = 0;
    for (column, width) in widths.iter().enumerate() {
        at += gap(headings, column).len();
        if !headings[column][0].is_empty() {
            line = format!("{line:<at$}{}", headings[column][0]);
        }
        at += width;
    }
    line
}

fn print_goals(goals: &[Goal]) {
    if goals.is_empty() {
        return;
    }
    println!("\nGoals of what goes through the broker (DESIGN 11):");
    for goal in goals {
        let verdict = match &goal.measured {
            Ok(ratio) => format!("{ratio:6.2}  {}", if goal.met { "met" } else { "MISSED" }),
            Err(why) => format!("     -  not judged: {why}"),
        };
        println!("  {:30} {:24} {verdict}", goal.what, goal.aim);
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
