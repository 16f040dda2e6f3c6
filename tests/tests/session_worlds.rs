//! Worlds by the thousand. `SWITCHBOARD_SEEDS=N` runs as many; `SWITCHBOARD_SEED=S` runs one alone.

use switchboard_tests::session_worlds::{Faithful, Summary, Tamper, replay, run};

const SEEDS: u64 = 1500;

fn faithful() -> Box<dyn Tamper> {
    Box::new(Faithful)
}

/// Runs a world; says how to see it again if it fails.
fn check(seed: u64) -> Summary {
    run(seed, faithful).unwrap_or_else(|message| {
        let found = replay(seed, faithful).expect_err("what failed fails again");
        let steps = found.steps;
        let inputs: Vec<usize> = (0..steps.len()).filter(|&at| !steps[at].contains("    -> ")).collect();
        let shown = number("SWITCHBOARD_STEPS").unwrap_or(50) as usize;
        let start = inputs.len().checked_sub(shown).map_or(0, |at| inputs[at]);
        panic!(
            "seed {seed}: {message}\n\nIts last steps (SWITCHBOARD_STEPS=N shows more):\n{}\n\nTo run it again:\n  SWITCHBOARD_SEED={seed} cargo test -p switchboard-tests --test session_worlds",
            steps[start..].join("\n")
        )
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn every_promise_holds_in_every_world() {
    let seeds = match number("SWITCHBOARD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SWITCHBOARD_SEEDS").unwrap_or(SEEDS),
    };
    let middle = seeds.start + (seeds.end - seeds.start).div_ceil(2);
    let sum = |seeds: std::ops::Range<u64>| {
        seeds.map(check).fold([0; 5], |sum, it| {
            let it = [it.inputs, it.ended, it.replies, it.received, it.posted];
            [0, 1, 2, 3, 4].map(|at| sum[at] + it[at])
        })
    };
    let [inputs, ended, replies, received, posted] = std::thread::scope(|scope| {
        let first = scope.spawn(|| sum(seeds.start..middle));
        let second = sum(middle..seeds.end);
        let first = first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        [0, 1, 2, 3, 4].map(|at| first[at] + second[at])
    });
    let worlds = seeds.end - seeds.start;
    println!(
        "{worlds} worlds, {inputs} inputs: {ended} calls ended, {replies} of them by a reply, {received} messages arrived, and {posted} answers and items of topics, queues and events"
    );
    // A simulation in which nothing happens proves nothing.
    if 100 <= worlds {
        assert!(20 * worlds < replies && 20 * worlds < received, "the worlds are too quiet");
        assert!(20 * worlds < posted, "too little is published and pushed");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..40 {
        assert_eq!(check(seed), check(seed));
    }
    assert_ne!(check(1).hash, check(2).hash);
}
