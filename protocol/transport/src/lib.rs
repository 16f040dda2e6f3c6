//! Listeners, streams, readiness, credentials and spawning: every system call of Switchboard.
//!
//! What the rest of the workspace needs from an operating system it asks for here, so that every
//! other crate can forbid unsafe code. Unix code lives in `unix/`; this face names nothing that is
//! Unix in its idea (a stream, a listener, a poller), so that named pipes can stand behind it later.
//!
//! # Soundness
//!
//! Nearly all calls go through rustix's safe functions. What is left is six kinds of call, each
//! behind one small safe function that states its argument: `getsockopt` for options that rustix
//! does not have (`unix/sockopt.rs`), the pidfd's exit record (`unix/exit_status.rs`), what a child
//! does between fork and exec (`unix/spawn.rs`), the auxiliary vector (`unix/process.rs`), memory that is a
//! file's (`unix/mapping.rs`), and descriptors
//! that a number in the environment or from the kernel names (`unix/inherited.rs`,
//! `unix/credentials.rs`).

#[cfg(not(target_os = "linux"))]
compile_error!("Switchboard runs on Linux for now; Windows named pipes will stand behind the same interface");

#[cfg(unix)]
mod unix;

pub mod allocations;
pub mod directories;
pub mod paths;

#[cfg(unix)]
pub use unix::{
    alarm::Alarm,
    clock,
    connect::{ConnectError, connect},
    credentials::{Credentials, peer_pidfd},
    exit_status::{PeerExit, exit_of, has_ended},
    fds::{FDS_MAX, Fds},
    files::{open_regular, preallocate},
    inherited::inherited_sockets,
    limits,
    listener::{AcceptError, BindError, BindOptions, Listener},
    lock::{FileLock, LockError},
    mapping::Mapping,
    poller::{Interest, Poller, Ready},
    process,
    random::random_seed,
    reaper::Reaper,
    spare::SpareFds,
    spawn,
    stream::{Readiness, Received, Stream},
    waker::Waker,
    wall_clock::WallClock,
};
