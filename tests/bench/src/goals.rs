//! The speed that Switchboard set itself (DESIGN 11), as far as it concerns what goes through the broker,
//! judged by what was just measured.

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
        goals.push(at_least(results, mode, Work::Publish, "nats", 4.0));
        goals.push(at_least(results, mode, Work::Queue, "redis", 2.0));
        goals.push(durable(results, mode));
        goals.push(durable_at_once(results, mode, Work::Durable64, 25.0));
        goals.push(durable_at_once(results, mode, Work::Durable256, 50.0));
    }
    goals
}

/// Ours over theirs.
fn ratio(results: &Results, mode: Mode, work: Work, other: &str) -> Result<f64, String> {
    Ok(figure(results, "switchboard", mode, work)? / figure(results, other, mode, work)?)
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

fn figure(results: &Results, name: &str, mode: Mode, work: Work) -> Result<f64, String> {
    let of = || format!("{name} was not measured ({})", work.name());
    results.figure(name, mode, work).ok_or_else(of)
}

/// One durable push in flight: no more than the disk, and two calls through the broker.
fn durable(results: &Results, mode: Mode) -> Goal {
    let figure = |name, work| figure(results, name, mode, work);
    let measured = (|| {
        let bound = figure("fdatasync", Work::Durable)? + 2.0 * figure("switchboard", Work::Call)?;
        Ok(figure("switchboard", Work::Durable)? / bound)
    })();
    let met = measured.as_ref().is_ok_and(|ratio| *ratio <= 1.0);
    Goal { what: describe(mode, Work::Durable), aim: "<= fdatasync + 2 calls".to_string(), measured, met }
}

/// Many durable pushes in flight, beside as many as the disk does one at a time.
fn durable_at_once(results: &Results, mode: Mode, work: Work, bound: f64) -> Goal {
    let measured = (|| {
        let alone = results.find("fdatasync").and_then(|floor| floor.median(mode, Work::Durable).per_second);
        let alone = alone.ok_or_else(|| "fdatasync was not measured".to_string())?;
        Ok(figure(results, "switchboard", mode, work)? / alone)
    })();
    let met = measured.as_ref().is_ok_and(|ratio| *ratio >= bound);
    Goal { what: describe(mode, work), aim: format!(">= {bound} x fdatasync"), measured, met }
}

/// iceoryx2 has no broker between its processes: it is what the direct link is measured against. JetStream
/// has no calls.
fn faster_than_peers(results: &Results, mode: Mode) -> Vec<Goal> {
    let brokered = |name: &str| !name.starts_with("iceoryx2") && name != "jetstream";
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
        Work::Publish => "publish 64 B",
        Work::FanOut => "fan-out 64 B",
        Work::Queue => "queue 64 B",
        Work::Durable => "durable push",
        Work::Durable64 => "durable, 64 in flight",
        Work::Durable256 => "durable, 256 in flight",
    };
    format!("{what}, {}", mode.name())
}
