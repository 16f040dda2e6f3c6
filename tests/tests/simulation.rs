//! Thousands of seeded worlds around the broker core; and bugs planted between core and world, each
//! of which the checks must see. `SWITCHBOARD_SEEDS=N` runs more.

use switchboard_tests::simulation::{Planted, run};

fn seeds() -> u64 {
    std::env::var("SWITCHBOARD_SEEDS")
        .map_or(1_500, |count| count.parse().expect("SWITCHBOARD_SEEDS is a number"))
}

#[test]
fn every_call_ends_exactly_once_whatever_comes_in_which_order() {
    for seed in 0..seeds() {
        run(seed, None).unwrap_or_else(|why| panic!("{why}"));
    }
}

#[test]
fn different_seeds_are_different_worlds() {
    let traces: std::collections::BTreeSet<u64> =
        (0..50).map(|seed| run(seed, None).expect("a good world")).collect();
    assert_eq!(traces.len(), 50);
}

/// A checker is trusted only after it has caught a planted bug.
#[test]
fn every_planted_bug_is_seen() {
    for bug in Planted::ALL {
        let seen = (0..200).find_map(|seed| {
            std::panic::catch_unwind(|| run(seed, Some(bug)))
                .map_or_else(|_| Some("a panic".into()), Result::err)
        });
        println!("{bug:?}: {}", seen.as_deref().unwrap_or("NOT SEEN"));
        assert!(seen.is_some(), "{bug:?} was planted and nothing saw it");
    }
}
