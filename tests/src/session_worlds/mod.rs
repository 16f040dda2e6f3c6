//! Programs around a broker, by dice: the very core that the daemon runs and the very session that the
//! client library runs, with byte streams between them that are cut anywhere, a clock that
//! jumps, links that drop, readers that do not read, and peers that break every rule.
//!
//! A [`World`] is made from a seed; the same seed gives the same world, step by step. Between the
//! core and the rest stands an [`Oracle`] that sees every input and every effect and knows what is
//! promised; further checks are made where a program would notice: at each session.
//!
//! Before the oracle stands a [`Tamper`], which does nothing, except where a test plants a bug to see
//! that it is caught.

mod dice;
mod honest;
mod hostile;
mod oracle;
mod post;
mod rim;
mod tamper;
mod world;

pub use dice::Dice;
pub use oracle::Oracle;
pub use tamper::{Faithful, Tamper};
pub use world::{Summary, World};

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What went wrong, with the last steps before it.
#[derive(Debug)]
pub struct Found {
    /// The promise that was broken.
    pub message: String,
    /// The last inputs and what came of them.
    pub steps: Vec<String>,
}

/// Runs the world of a seed to its end.
pub fn run(seed: u64, tamper: impl Fn() -> Box<dyn Tamper>) -> Result<Summary, String> {
    attempt(seed, &tamper, false).map_err(|found| found.message)
}

/// Runs the world of a seed once more, keeping its last steps.
pub fn replay(seed: u64, tamper: impl Fn() -> Box<dyn Tamper>) -> Result<Summary, Found> {
    attempt(seed, &tamper, true)
}

fn attempt(seed: u64, tamper: &dyn Fn() -> Box<dyn Tamper>, keep_steps: bool) -> Result<Summary, Found> {
    let mut world = World::new(seed, tamper(), keep_steps);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let message = match outcome {
        Ok(Ok(summary)) => return Ok(summary),
        Ok(Err(message)) => message,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            format!("a panic: {}", text.unwrap_or_default())
        }
    };
    Err(Found { message, steps: world.steps() })
}
