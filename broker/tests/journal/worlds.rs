//! Thousands of worlds of an honest journal, and a few hundred of each that lies: which must be seen.

use crate::lying::Lie;
use crate::world::{Seen, run};

#[test]
fn what_was_promised_is_there_after_every_bad_day() {
    let mut all = Seen::default();
    for seed in 0..6000 {
        let seen = run(seed, Lie::Honest).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        all.power_losses += seen.power_losses;
        all.deaths += seen.deaths;
        all.failures += seen.failures;
        all.cuts += seen.cuts;
        all.drops += seen.drops;
        all.starts_cut_short += seen.starts_cut_short;
        all.records += seen.records;
    }
    println!("{all:?}");
    assert!(all.power_losses > 5000 && all.deaths > 2000 && all.failures > 2000, "{all:?}");
    assert!(all.cuts > 500 && all.drops > 2000 && all.starts_cut_short > 500, "{all:?}");
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..50 {
        assert_eq!(format!("{:?}", run(seed, Lie::Honest)), format!("{:?}", run(seed, Lie::Honest)));
    }
}

/// A checker is trusted only after it has caught a planted bug.
#[test]
fn each_planted_bug_is_seen() {
    let lies = [
        Lie::NoSync,
        Lie::IgnoresFailedSync,
        Lie::RetriesFailedSync,
        Lie::NoDirectorySync,
        Lie::NoHeaderSync,
        Lie::IgnoresShortWrite,
        Lie::LeavesTornEnd,
        Lie::NoRewrite,
        Lie::NoRecoverySync,
        Lie::ReportsEarly,
        Lie::DropsEarly,
    ];
    let mut unseen = Vec::new();
    for lie in lies {
        match (0..6000).find_map(|seed| Some((seed, run(seed, lie).err()?))) {
            Some((seed, broken)) => println!("{lie:?}: seen in seed {seed}: {broken}"),
            None => unseen.push(lie),
        }
    }
    assert_eq!(unseen, [], "nothing saw these in 6000 worlds");
}
