//! What may stand between the world and the core: nothing, or a planted bug.

use switchboard_core::{Broker, Effect, Input};
use switchboard_protocol::{Instant, PeerId};

/// Sees every input before the core does and every effect before anybody else, and may change them.
/// Production code has no hooks for this; a bug is planted around it.
pub trait Tamper {
    /// Hands an input to the core.
    fn handle(
        &mut self,
        core: &mut Broker<Vec<u8>>,
        now: Instant,
        input: Input<Vec<u8>>,
        effects: &mut Vec<Effect<Vec<u8>>>,
    ) {
        core.handle(now, input, effects);
    }

    /// Asks the core for room.
    fn admit(
        &mut self,
        core: &mut Broker<Vec<u8>>,
        now: Instant,
        from: PeerId,
        bytes: u64,
        effects: &mut Vec<Effect<Vec<u8>>>,
    ) -> bool {
        core.admit(now, from, bytes, effects)
    }
}

/// No bug.
#[derive(Debug)]
pub struct Faithful;

impl Tamper for Faithful {}
