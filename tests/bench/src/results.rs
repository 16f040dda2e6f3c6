//! What was measured: for each candidate, mode and piece of work the samples of all rounds, whose
//! median is what is reported.

use crate::candidate::{Candidate, Kind, Mode, Sample};
use crate::work::Work;
use std::collections::{BTreeMap, BTreeSet};

/// All results.
pub struct Results {
    /// One entry a candidate, in the order of the table.
    pub candidates: Vec<Measured>,
    /// The modes that were asked for.
    pub modes: Vec<Mode>,
    /// The share of the processors that others used meanwhile.
    pub others: f64,
}

/// The results of one candidate.
pub struct Measured {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its version and configuration.
    pub describe: String,
    /// Why it could not be measured at all.
    pub missing: Option<String>,
    /// What went wrong.
    pub failures: Vec<String>,
    /// The pieces of work that went wrong, which are not tried again: that would only take others' time.
    pub failed: BTreeSet<(Mode, Work)>,
    /// The samples of the rounds.
    pub samples: BTreeMap<(Mode, Work), Vec<Sample>>,
}

impl Measured {
    /// Before anything was measured.
    pub fn new(candidate: &dyn Candidate) -> Measured {
        let missing = candidate.missing();
        Measured {
            name: candidate.name(),
            kind: candidate.kind(),
            describe: if missing.is_none() { candidate.describe() } else { String::new() },
            missing,
            failures: Vec::new(),
            failed: BTreeSet::new(),
            samples: BTreeMap::new(),
        }
    }

    /// Records that `works` failed.
    pub fn fail(&mut self, mode: Mode, works: &[Work], why: &anyhow::Error) {
        let what = if let [work] = works { work.name() } else { "all" };
        self.failures.push(format!("{} {what}: {why:#}", mode.name()));
        self.failed.extend(works.iter().map(|work| (mode, *work)));
    }

    /// The medians of all rounds.
    pub fn median(&self, mode: Mode, work: Work) -> Sample {
        let samples = self.samples.get(&(mode, work)).map_or(&[][..], Vec::as_slice);
        let median_of = |pick: fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(pick).collect());
        Sample {
            p50_ns: median_of(|sample| sample.p50_ns),
            p99_ns: median_of(|sample| sample.p99_ns),
            per_second: median_of(|sample| sample.per_second),
        }
    }

    /// The number by which candidates are compared in a piece of work.
    pub fn figure(&self, mode: Mode, work: Work) -> Option<f64> {
        let median = self.median(mode, work);
        if is_latency(work) { median.p50_ns } else { median.per_second }
    }

    /// Whether there is nothing wrong with it. A peer that is not installed is named, and no failure.
    fn is_complete(&self) -> bool {
        self.failures.is_empty() && (self.missing.is_none() || self.kind != Kind::Switchboard)
    }
}

/// Whether less is better.
pub fn is_latency(work: Work) -> bool {
    matches!(work, Work::Call | Work::Large | Work::Durable)
}

impl Results {
    /// Whether all that was asked for was measured.
    pub fn is_complete(&self) -> bool {
        self.candidates.iter().all(Measured::is_complete)
    }

    /// One candidate's results.
    pub fn find(&self, name: &str) -> Option<&Measured> {
        self.candidates.iter().find(|candidate| candidate.name == name)
    }

    /// One candidate's figure.
    pub fn figure(&self, name: &str, mode: Mode, work: Work) -> Option<f64> {
        self.find(name)?.figure(mode, work)
    }

    /// How many times slower than the bare relay a candidate's call is.
    pub fn times_the_relay(&self, candidate: &Measured, mode: Mode, work: Work) -> Option<f64> {
        Some(candidate.figure(mode, work)? / self.figure("relay", mode, work)?)
    }

    /// How many times faster Switchboard is than a candidate.
    pub fn switchboard_faster(&self, candidate: &Measured, mode: Mode, work: Work) -> Option<f64> {
        let (ours, theirs) = (self.figure("switchboard", mode, work)?, candidate.figure(mode, work)?);
        Some(if is_latency(work) { theirs / ours } else { ours / theirs })
    }
}

/// The middle one, or between the two middle ones.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
