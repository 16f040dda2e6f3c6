//! A thread that waits while another one reads the socket for it.

use std::cell::OnceCell;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// One per thread, used again for every wait. (Not `std::thread::park`: its token is the
/// program's, and a wake-up meant for the program must not be lost in here.)
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    woken: Mutex<bool>,
    condition: Condvar,
}

thread_local! {
    static CURRENT: OnceCell<Arc<Waiter>> = const { OnceCell::new() };
}

impl Waiter {
    /// This thread's, with earlier wake-ups forgotten. To be called before others can find it.
    pub(crate) fn of_this_thread() -> Arc<Self> {
        let waiter = CURRENT
            .try_with(|current| Arc::clone(current.get_or_init(Arc::default)))
            // In the destructor of a thread local: the thread ends, any waiter will do.
            .unwrap_or_default();
        *waiter.woken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        waiter
    }

    /// Waits for [`Waiter::wake`], at most so long.
    pub(crate) fn park(&self, timeout: Option<Duration>) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        match timeout {
            None => drop(self.condition.wait_while(woken, |woken| !*woken)),
            Some(timeout) => drop(self.condition.wait_timeout_while(woken, timeout, |woken| !*woken)),
        }
    }

    pub(crate) fn wake(&self) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        *woken = true;
        drop(woken);
        self.condition.notify_one();
    }
}
