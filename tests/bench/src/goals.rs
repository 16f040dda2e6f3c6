//! The speed that Switchboard set itself (DESIGN 11), as far as it concerns calls and messages through
//! the broker, judged by what was just measured.

use crate::candidate::{Kind, Mode};
use crate::results::Results;
use crate::work::Work;

/// One goal.
pub struct Goal {
    /// What is measured.
    pub what: String,
    /// What is aimed at.
    pub aim: String,
    /// The measured ratio, or which part of it is not there.
    pub measured: Result<f64, String>,
    /// Whether it was met.
    pub met: bool,
}

/// Judges every goal. None if Switchboard was not asked for.
pub fn judge(results: &Results) -> Vec<Goal> {
    if results.find("switchboard").is_none() {
        return Vec::new();
    }
    let mut goals = Vec::new();
    for mode in results.modes.iter().copied() {
        if mode == Mode::Pinned {
            goals.push(at_most(results, mode, Work::Call, "relay", 1.15));
            goals.extend(faster_than_peers(results, mode));
        }
        goals.push(at_least(results, mode, Work::InFlight, "nats", 2.5));
        goals.push(at_least(results, mode, Work::OneWay, "nats", 4.0));
        goals.push(at_most(results, mode, Work::Large, "relay", 1.3));
    }
    goals
}

/// Ours over theirs.
fn ratio(results: &Results, mode: Mode, work: Work, other: &str) -> Result<f64, String> {
    let figure =
        |name: &str| results.figure(name, mode, work).ok_or_else(|| format!("{name} was not measured"));
    Ok(figure("switchboard")? / figure(other)?)
}

fn at_most(results: &Results, mode: Mode, work: Work, other: &str, bound: f64) -> Goal {
    let measured = ratio(results, mode, work, other);
    let met = measured.as_ref().is_ok_and(|ratio| *ratio <= bound);
    Goal { what: describe(mode, work), aim: format!("<= {bound} x {other}"), measured, met }
}

fn at_least(results: &Results, mode: Mode, work: Work, other: &str, bound: f64) -> Goal {
    let measured = ratio(results, mode, work, other);
    let met = measured.as_ref().is_ok_and(|ratio| *ratio >= bound);
    Goal { what: describe(mode, work), aim: format!(">= {bound} x {other}"), measured, met }
}

/// iceoryx2 has no broker between its processes: it is what the direct link is measured against.
fn faster_than_peers(results: &Results, mode: Mode) -> Vec<Goal> {
    let brokered = |name: &str| !name.starts_with("iceoryx2");
    results
        .candidates
        .iter()
        .filter(|candidate| candidate.kind == Kind::Peer && brokered(candidate.name))
        .map(|peer| {
            let measured = ratio(results, mode, Work::Call, peer.name);
            let met = measured.as_ref().is_ok_and(|ratio| *ratio < 1.0);
            Goal {
                what: describe(mode, Work::Call),
                aim: format!("faster than {}", peer.name),
                measured,
                met,
            }
        })
        .collect()
}

fn describe(mode: Mode, work: Work) -> String {
    let what = match work {
        Work::Call => "call 64 B",
        Work::InFlight => "64 calls in flight",
        Work::OneWay => "one way 64 B",
        Work::Large => "call 1 MiB",
    };
    format!("{what}, {}", mode.name())
}
