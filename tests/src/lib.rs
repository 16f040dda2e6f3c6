//! Simulation, conformance, crash, end-to-end and fuzz tests of Switchboard.

pub mod ledger;
pub mod queue_worlds;
pub mod rig;
pub mod session_worlds;
pub mod shadow;
