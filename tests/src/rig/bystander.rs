//! Somebody who has nothing to do with it: an echo service and its caller, who must not notice what
//! a test does to the broker beside them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::client::Client;
use super::watchdog::until;

/// An echo service and a client that calls it without a pause, each on a thread of its own.
#[derive(Debug)]
pub struct Bystander {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicU64,
    stop: AtomicBool,
    /// What went wrong.
    wrong: Mutex<Option<String>>,
}

impl Bystander {
    /// Begins to call.
    pub fn new(socket: &Path) -> Self {
        let name = "bystander.echo";
        let mut service = Client::new(socket);
        service.serve(name).expect("a name that nobody else uses");
        let mut caller = Client::new(socket);
        let handle = caller.open(name).expect("the right to call").handle;
        let shared = Arc::new(Shared::default());
        let serving = thread::spawn(move || service.echo_until_the_end());
        let sharing = Arc::clone(&shared);
        let calling = thread::spawn(move || {
            let mut call = 0_u64;
            while !sharing.stop.load(Ordering::Relaxed) {
                call += 1;
                let payload = [call.to_le_bytes(); 8].concat();
                let outcome = caller.call(handle, &payload);
                if outcome.as_deref() != Ok(&payload[..]) {
                    let mut wrong = sharing.wrong.lock().unwrap_or_else(PoisonError::into_inner);
                    *wrong = Some(format!("call {call} ended with {outcome:?}"));
                    return;
                }
                sharing.calls.store(call, Ordering::Relaxed);
            }
        });
        let bystander = Self { shared, threads: vec![serving, calling] };
        bystander.goes_on();
        bystander
    }

    /// Calls that were answered so far.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::Relaxed)
    }

    /// Waits until ten more calls were answered.
    pub fn goes_on(&self) {
        let before = self.calls();
        until("the bystander's calls", || {
            self.check();
            before + 10 <= self.calls()
        });
    }

    /// Panics if anything went wrong for it so far.
    fn check(&self) {
        let wrong = self.shared.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wrong) = &*wrong {
            panic!("the bystander was hurt: {wrong}");
        }
        assert!(!self.threads.iter().any(JoinHandle::is_finished), "the bystander has ended");
    }

    /// It has not noticed anything, and goes home. Returns how many calls it made.
    pub fn unharmed(self) -> u64 {
        self.goes_on();
        self.calls()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // The service ends with the caller's daemon or with the test; only the caller is waited for.
        if let Some(calling) = self.threads.pop() {
            let _ = calling.join();
        }
    }
}
