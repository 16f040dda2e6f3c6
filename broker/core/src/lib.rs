//! The Switchboard broker as a pure, deterministic state machine.
