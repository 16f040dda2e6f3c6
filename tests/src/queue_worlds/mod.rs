//! Queues, and topics that retain, over a log on a disk that can fail, by dice.
//!
//! A world is one broker after the other over one simulated disk, with a few clients that push, pop and
//! acknowledge, and that come and go. Power goes, the broker is killed, writes and syncs fail, the wall
//! clock jumps. A model holds what everybody was told against what comes out in the end.

mod model;
mod world;

pub use world::{Bug, SHADOW, Summary, run, run_shadowed};
