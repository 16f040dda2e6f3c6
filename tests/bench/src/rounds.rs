//! The order of things: in every round every candidate takes its turn, so that whatever happens to the
//! machine meanwhile happens to all of them. Only one candidate's processes exist at a time.

use crate::args::Args;
use crate::candidate::{Candidate, Mode, Site};
use crate::floor::spin::{all_cores, only};
use crate::leftovers::Folder;
use crate::others::{Others, reap_orphans};
use crate::process::interrupted;
use crate::results::{Measured, Results};
use crate::work::{Budget, Work};
use anyhow::{Context, Result, bail};
use rustix::thread::CpuSet;
use std::io::{IsTerminal, Write};

/// Measures every candidate in every round.
pub fn measure_all(candidates: &[Box<dyn Candidate>], args: &Args) -> Result<Results> {
    let others = Others::watch();
    let folder = Folder::create()?;
    let budget = Budget { warm: args.warm(), measure: args.measure(), plant: args.plant };
    let modes: Vec<Mode> =
        Mode::ALL.into_iter().filter(|mode| args.mode.is_none_or(|only| only == *mode)).collect();
    let mut results = Results {
        candidates: candidates.iter().map(|one| Measured::new(one.as_ref())).collect(),
        modes: modes.clone(),
        others: 0.0,
    };
    for round in 1..=args.rounds() {
        for mode in &modes {
            for (candidate, measured) in candidates.iter().zip(&mut results.candidates) {
                if measured.missing.is_some() {
                    continue;
                }
                show_progress(&format!(
                    "round {round} of {}, {}: {}",
                    args.rounds(),
                    mode.name(),
                    candidate.name()
                ));
                let dir = folder.subfolder(&format!("{round}{}-{}", &mode.name()[..1], candidate.name()))?;
                let site = Site { dir, cpus: cpus(*mode)?, mode: *mode };
                take_turn(candidate.as_ref(), measured, &site, &budget);
                reap_orphans();
                if interrupted() {
                    bail!("interrupted in round {round}; nothing is reported");
                }
            }
        }
    }
    show_progress("");
    results.others = others.share();
    Ok(results)
}

fn take_turn(candidate: &dyn Candidate, measured: &mut Measured, site: &Site, budget: &Budget) {
    let mode = site.mode;
    let asked = |work: &Work| candidate.does(*work, mode) && !measured.failed.contains(&(mode, *work));
    let works: Vec<Work> = Work::ALL.into_iter().filter(asked).collect();
    if works.is_empty() {
        return;
    }
    let mut session = match candidate.start(site) {
        Ok(session) => session,
        Err(why) => return measured.fail(mode, &works, &why),
    };
    for work in works {
        match session.measure(work, budget) {
            Ok(sample) => measured.samples.entry((mode, work)).or_default().push(sample),
            Err(why) => measured.fail(mode, &[work], &why),
        }
    }
}

/// All cores, or the last one: interrupts mostly go to the first.
pub fn cpus(mode: Mode) -> Result<CpuSet> {
    let cores = all_cores();
    let last = *cores.last().context("the kernel does not tell which cores the bench may use")?;
    let mut set = only(last);
    if mode == Mode::Free {
        cores.into_iter().for_each(|core| set.set(core));
    }
    Ok(set)
}

/// One line that is overwritten, for a person only.
pub fn show_progress(text: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        // A terminal that is gone takes nothing with it but this line.
        let _ = write!(terminal, "\r\x1b[K{text}");
        let _ = terminal.flush();
    }
}
