//! What a flight recording rests on, in worlds by dice: a broker that is written down and read back goes
//! on as if nothing had been, and one that is told only what a recording has does the very same.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use switchboard_core::{Broker, Digest, Effect, Input, Payload, Reads};
use switchboard_protocol::{Header, Instant, PeerId, decode, encode};
use switchboard_tests::session_worlds::{Faithful, Tamper, run};

type Core = Broker<Vec<u8>>;
type Effects = Vec<Effect<Vec<u8>>>;

const SEEDS: u64 = 80;
const SNAPSHOT_MAX: usize = 1 << 20;

/// A payload of which a snapshot has only the length, as the daemon's.
#[derive(Clone, Debug)]
struct Blank(Vec<u8>);

impl Payload for Blank {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn bytes(&self) -> &[u8] {
        &self.0
    }
    fn keep(self) -> Self {
        self
    }
    fn set_head(&mut self, head: &[u8]) {
        self.0[..head.len()].copy_from_slice(head);
    }
}

impl Serialize for Blank {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0.len() as u32)
    }
}

impl<'de> Deserialize<'de> for Blank {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(vec![0; u32::deserialize(deserializer)? as usize]))
    }
}

/// Puts the restored snapshot of the core in its place before each n-th input.
struct Restoring {
    every: u64,
    inputs: u64,
}

impl Tamper for Restoring {
    fn handle(&mut self, core: &mut Core, now: Instant, input: Input<Vec<u8>>, effects: &mut Effects) {
        self.inputs += 1;
        if self.inputs.is_multiple_of(self.every) {
            *core = written_and_read(core);
        }
        core.handle(now, input, effects);
    }
}

/// A second core beside the first, which is told what a recording has of each input. Both must ask for the
/// same, wait for the same moment, and admit the same frames.
struct Shadow {
    core: Option<Broker<Blank>>,
    every: u64,
    inputs: u64,
    /// What is recorded of a frame.
    reads: fn(&Core, &Header) -> Reads,
}

impl Shadow {
    fn new(every: u64, reads: fn(&Core, &Header) -> Reads) -> Self {
        Self { core: None, every, inputs: 0, reads }
    }

    /// The shadow as it is before the next input.
    fn next(&mut self, core: &Core) -> &mut Broker<Blank> {
        // A broker with nobody connected holds no payload, so that any kind of them reads it.
        let shadow = self.core.get_or_insert_with(|| {
            Broker::restore(&core.snapshot(SNAPSHOT_MAX).expect("small")).expect("a snapshot")
        });
        self.inputs += 1;
        if self.inputs.is_multiple_of(self.every) {
            *shadow = written_and_read(shadow);
        }
        shadow
    }
}

impl Tamper for Shadow {
    fn handle(&mut self, core: &mut Core, now: Instant, input: Input<Vec<u8>>, effects: &mut Effects) {
        let reads = self.reads;
        let shadow = self.next(core);
        let recorded = match &input {
            Input::Frame { from, header, tail } => {
                let reads = reads(core, header);
                let mut record = Vec::new();
                reads.record(header, tail, &mut record);
                let tail = Blank(reads.rebuild(header, &record).expect("what was recorded"));
                Input::Frame { from: *from, header: *header, tail }
            }
            other => decode(&encode(other)).expect("an input without payload"),
        };
        core.handle(now, input, effects);
        let mut shadowed = Vec::new();
        shadow.handle(now, recorded, &mut shadowed);
        assert_eq!(digest(effects), digest(&shadowed), "{effects:#?} is not {shadowed:#?}");
        assert_eq!(core.next_wake(), shadow.next_wake());
    }

    fn admit(
        &mut self,
        core: &mut Core,
        now: Instant,
        from: PeerId,
        bytes: u64,
        effects: &mut Effects,
    ) -> bool {
        let shadow = self.next(core);
        let mut shadowed = Vec::new();
        let admitted = core.admit(now, from, bytes, effects);
        assert_eq!(admitted, shadow.admit(now, from, bytes, &mut shadowed));
        assert_eq!(digest(effects), digest(&shadowed));
        admitted
    }
}

fn written_and_read<P: Payload>(core: &Broker<P>) -> Broker<P> {
    let snapshot = core.snapshot(SNAPSHOT_MAX).expect("small");
    let restored = Broker::restore(&snapshot).expect("a snapshot");
    assert!(restored.snapshot(SNAPSHOT_MAX) == Some(snapshot), "its snapshot is the same again");
    restored
}

fn digest<P: Payload>(effects: &[Effect<P>]) -> u64 {
    let mut digest = Digest::new(0);
    for effect in effects {
        digest.effect(effect);
    }
    digest.value()
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
        let shadow = || Box::new(Shadow::new(3 + seed % 50, Core::reads_payload)) as Box<dyn Tamper>;
        if let Err(message) = run(seed, shadow) {
            panic!("seed {seed}: {message}");
        }
    }
}

#[test]
fn bodies_that_are_missing_in_a_recording_are_seen() {
    let headless = |seed| run(seed, || Box::new(Shadow::new(50, |_, _| Reads::Head)));
    assert!((0..10).all(|seed| headless(seed).is_err()));
}

#[test]
fn a_limit_that_differs_is_seen() {
    /// Takes one reload of configuration for another.
    struct Forgetful(Shadow);
    impl Tamper for Forgetful {
        fn handle(&mut self, core: &mut Core, now: Instant, input: Input<Vec<u8>>, effects: &mut Effects) {
            if let Input::Reloaded { result: Ok(settings) } = &input {
                let mut settings = settings.clone();
                settings.limits.user_default.calls_open += 1;
                let mut ignored = Vec::new();
                self.0.next(core).handle(now, Input::Reloaded { result: Ok(settings) }, &mut ignored);
                return core.handle(now, input, effects);
            }
            self.0.handle(core, now, input, effects);
        }
    }
    let forgetful = |seed| run(seed, || Box::new(Forgetful(Shadow::new(50, Core::reads_payload))));
    let seen = (0..100).filter(|&seed| forgetful(seed).is_err()).count();
    assert!(0 < seen);
    println!("seen in {seen} of 100 worlds");
}
