//! The only upper bound on time: so long that only what is stuck reaches it.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before the test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// While it lives, something is being waited for. If that takes longer than [`PATIENCE`], the whole
/// test program ends with a message: a thread that hangs in a system call cannot be failed otherwise.
#[derive(Debug)]
pub struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    /// Begins to wait for `what`.
    pub fn new(what: impl Into<String>) -> Self {
        let what = what.into();
        let (alive, ended) = channel::<()>();
        thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("gave up after {} s of waiting for {what}", PATIENCE.as_secs());
                std::process::abort();
            }
        });
        Self { _alive: alive }
    }
}

/// Asks again and again until `is_so`: for facts of which the system tells nobody, such as how many
/// descriptors another process holds.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "gave up after {} s of waiting for {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(2));
    }
}
