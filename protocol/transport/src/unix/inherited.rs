//! Listening sockets that systemd hands over (`LISTEN_FDS`).

use std::env;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;

/// More than this many are a mistake in the environment.
const SOCKETS_MAX: RawFd = 1024;

/// Takes the sockets that were handed to this very process, with their names (empty if none were
/// given). Only the first call gets them; where nothing was handed over, nobody does.
pub fn inherited_sockets() -> Vec<(OwnedFd, String)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |variable: &str| env::var(variable).ok()?.parse::<u32>().ok();
    // Variables meant for a parent may have come down to us; its descriptors did not.
    if number("LISTEN_PID") != Some(super::process::id()) {
        return Vec::new();
    }
    let count =
        number("LISTEN_FDS").and_then(|count| RawFd::try_from(count).ok()).unwrap_or(0).min(SOCKETS_MAX);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut sockets = Vec::new();
    for number in FIRST..FIRST + count {
        let name = names.next().unwrap_or_default().to_owned();
        // SAFETY: only asks whether the descriptor is open; the borrow ends with the statement, and
        // no other thread closes descriptors that were open before this program began.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        if rustix::io::fcntl_getfd(borrowed).is_err() {
            continue;
        }
        // SAFETY: the descriptor is open (just asked), and by systemd's convention, with LISTEN_PID
        // naming this very process, it was put there for us to own. `TAKEN` lets only one caller
        // come here, so it is owned once.
        let owned = unsafe { OwnedFd::from_raw_fd(number) };
        sockets.push((owned, name));
    }
    sockets
}
