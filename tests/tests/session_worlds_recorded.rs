//! What a flight recording rests on, in worlds by dice: a broker that is written down and read back goes
//! on as if nothing had been, and one that is told only what a recording has does the very same.

use switchboard_core::{Input, Reads};
use switchboard_protocol::{Instant, PeerId};
use switchboard_tests::session_worlds::{Faithful, Tamper, run};
use switchboard_tests::shadow::{Core, Effects, Shadow, written_and_read};

const SEEDS: u64 = 80;

/// Puts the restored snapshot of the core in its place before each n-th input.
struct Restoring {
    every: u64,
    inputs: u64,
}

impl Tamper for Restoring {
    fn handle(&mut self, core: &mut Core, now: Instant, input: Input<Vec<u8>>, effects: &mut Effects) {
        self.inputs += 1;
        if self.inputs.is_multiple_of(self.every) {
            *core = written_and_read(core).unwrap_or_else(|why| panic!("{why}"));
        }
        core.handle(now, input, effects);
    }
}

/// Lets a shadow see everything. Every n-th reload the shadow may be told another one.
struct Shadowed {
    shadow: Shadow,
    mislead: bool,
}

impl Tamper for Shadowed {
    fn handle(&mut self, core: &mut Core, now: Instant, input: Input<Vec<u8>>, effects: &mut Effects) {
        if let (true, Input::Reloaded { result: Ok(settings) }) = (self.mislead, &input) {
            let mut settings = settings.clone();
            settings.limits.user_default.calls_open += 1;
            let misleading = Input::Reloaded { result: Ok(settings) };
            self.shadow.mislead(core, now, &misleading).unwrap_or_else(|why| panic!("{why}"));
            return core.handle(now, input, effects);
        }
        self.shadow.handle(core, now, input, effects).unwrap_or_else(|why| panic!("{why}"));
    }

    fn admit(
        &mut self,
        core: &mut Core,
        now: Instant,
        from: PeerId,
        bytes: u64,
        effects: &mut Effects,
    ) -> bool {
        self.shadow.admit(core, now, from, bytes, effects).unwrap_or_else(|why| panic!("{why}"))
    }
}

fn shadowed(shadow: Shadow) -> Box<dyn Tamper> {
    Box::new(Shadowed { shadow, mislead: false })
}

#[test]
fn a_broker_that_is_written_down_and_read_back_goes_on_as_if_nothing_had_been() {
    for seed in 0..SEEDS {
        let plain = run(seed, || Box::new(Faithful));
        let restored = run(seed, || Box::new(Restoring { every: 3 + seed % 50, inputs: 0 }));
        assert_eq!(plain, restored, "seed {seed}");
    }
}

#[test]
fn a_broker_that_is_told_what_a_recording_has_does_the_same() {
    for seed in 0..SEEDS {
        if let Err(message) = run(seed, || shadowed(Shadow::new(3 + seed % 50))) {
            panic!("seed {seed}: {message}");
        }
    }
}

#[test]
fn bodies_that_are_missing_in_a_recording_are_seen() {
    let headless = |seed| run(seed, || shadowed(Shadow::told(50, |_, _| Reads::Head)));
    assert!((0..10).all(|seed| headless(seed).is_err()));
}

#[test]
fn a_limit_that_differs_is_seen() {
    let misled = |seed| run(seed, || Box::new(Shadowed { shadow: Shadow::new(50), mislead: true }));
    let seen = (0..100).filter(|&seed| misled(seed).is_err()).count();
    assert!(0 < seen);
    println!("seen in {seen} of 100 worlds");
}
