//! Listeners, streams, readiness, credentials and spawning: every system call of Switchboard.
