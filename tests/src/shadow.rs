//! A second core beside the first, which is told only what a recording has of each input. Both must ask for
//! the same.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use switchboard_core::{Broker, Digest, Effect, Input, Payload, Reads};
use switchboard_protocol::{Header, Instant, PeerId, decode, encode};

/// The first core.
pub type Core = Broker<Vec<u8>>;

/// What the first core asks for.
pub type Effects = Vec<Effect<Vec<u8>>>;

/// The second core and how it is told. Now and then the restored snapshot of it takes its place.
#[derive(Debug)]
pub struct Shadow {
    core: Option<Broker<Blank>>,
    every: u64,
    inputs: u64,
    reads: fn(&Core, &Header) -> Reads,
}

/// A payload of which a snapshot has only the length, as the daemon's.
#[derive(Clone, Debug)]
struct Blank(Vec<u8>);

const SNAPSHOT_MAX: usize = 1 << 20;

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

    fn own(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    fn cut(&self, start: usize, end: usize) -> Self {
        Self(self.0[start..end].to_vec())
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

impl Shadow {
    /// A shadow that is written down and read back before each input with a multiple of this number.
    pub fn new(every: u64) -> Self {
        Self::told(every, Core::reads_payload)
    }

    /// One that is told of frames what `reads` says.
    pub fn told(every: u64, reads: fn(&Core, &Header) -> Reads) -> Self {
        Self { core: None, every, inputs: 0, reads }
    }

    /// The first core is a new one from now on, which was not told anything yet.
    pub fn forget(&mut self) {
        self.core = None;
    }

    /// Tells both, and compares; the error says how they differ.
    pub fn handle(
        &mut self,
        core: &mut Core,
        now: Instant,
        input: Input<Vec<u8>>,
        effects: &mut Effects,
    ) -> Result<(), String> {
        let reads = self.reads;
        let shadow = self.next(core)?;
        let recorded = match &input {
            Input::Frame { from, header, tail } => {
                let reads = reads(core, header);
                let mut record = Vec::new();
                reads.record(header, tail, &mut record);
                let tail = Blank(reads.rebuild(header, &record).ok_or("a record that is none")?);
                Input::Frame { from: *from, header: *header, tail }
            }
            // Read before there is a recording.
            Input::Recovered { segment, position, record } => {
                Input::Recovered { segment: *segment, position: *position, record: Blank(record.clone()) }
            }
            other => decode(&encode(other)).ok_or("an input that is not read as it was written")?,
        };
        core.handle(now, input, effects);
        let mut shadowed = Vec::new();
        shadow.handle(now, recorded, &mut shadowed);
        compare(effects, &shadowed)?;
        let (wakes, shadows) = (core.next_wake(), shadow.next_wake());
        if wakes == shadows {
            Ok(())
        } else {
            Err(format!("the core waits for {wakes:?} and its shadow for {shadows:?}"))
        }
    }

    /// Asks both for room.
    pub fn admit(
        &mut self,
        core: &mut Core,
        now: Instant,
        from: PeerId,
        bytes: u64,
        effects: &mut Effects,
    ) -> Result<bool, String> {
        let shadow = self.next(core)?;
        let mut shadowed = Vec::new();
        let admitted = core.admit(now, from, bytes, effects);
        let shadows = shadow.admit(now, from, bytes, &mut shadowed);
        compare(effects, &shadowed)?;
        if admitted == shadows { Ok(admitted) } else { Err("one admits what the other does not".to_owned()) }
    }

    /// Tells the shadow something that the first core is not told.
    pub fn mislead(&mut self, core: &Core, now: Instant, input: &Input<Vec<u8>>) -> Result<(), String> {
        let input = decode(&encode(input)).ok_or("an input that is not read as it was written")?;
        self.next(core)?.handle(now, input, &mut Vec::new());
        Ok(())
    }

    /// The shadow as it is before the next input.
    fn next(&mut self, core: &Core) -> Result<&mut Broker<Blank>, String> {
        if self.core.is_none() {
            // A broker that was told nothing holds no payload, so that any kind of them reads it.
            let snapshot = core.snapshot(SNAPSHOT_MAX).ok_or("too large a snapshot")?;
            self.core = Broker::restore(&snapshot);
        }
        let shadow = self.core.as_mut().ok_or("a snapshot that cannot be read")?;
        self.inputs += 1;
        if self.inputs.is_multiple_of(self.every) {
            *shadow = written_and_read(shadow)?;
        }
        Ok(shadow)
    }
}

/// The core of a core's snapshot, whose own snapshot must be the same.
pub fn written_and_read<P: Payload>(core: &Broker<P>) -> Result<Broker<P>, String> {
    let snapshot = core.snapshot(SNAPSHOT_MAX).ok_or("too large a snapshot")?;
    let restored = Broker::restore(&snapshot).ok_or("a snapshot that cannot be read")?;
    match restored.snapshot(SNAPSHOT_MAX) {
        Some(again) if again == snapshot => Ok(restored),
        _ => Err("the snapshot of a restored snapshot is another one".to_owned()),
    }
}

fn compare(effects: &Effects, shadowed: &[Effect<Blank>]) -> Result<(), String> {
    if digest(effects) == digest(shadowed) {
        return Ok(());
    }
    Err(format!("the core asks for {effects:#?} and its shadow for {shadowed:#?}"))
}

fn digest<P: Payload>(effects: &[Effect<P>]) -> u64 {
    let mut digest = Digest::new(0);
    for effect in effects {
        digest.effect(effect);
    }
    digest.value()
}
