//! What end-to-end tests stand on: the real programs as processes, in folders of their own, and a
//! client that speaks bare frames.
//!
//! Nothing here sleeps to let something happen. Tests wait for the event itself, each under a
//! watchdog that says what it was waiting for.

mod bystander;
mod cli;
mod client;
mod daemon;
mod folder;
mod proc;
mod programs;
mod syncs;
mod syscalls;
mod user;
mod watchdog;

pub use bystander::Bystander;
pub use cli::Cli;
pub use client::{Client, Ended, Frame, Refused};
pub use daemon::{Daemon, Launch};
pub use folder::Folder;
pub use proc::{anonymous_bytes, open_files};
pub use programs::{middle_program, peer_program, switchboard, switchboardd, worker_program};
pub use syncs::Syncs;
pub use syscalls::Syscalls;
pub use user::{ALICE, BOB, Crowd, Helper, User, arguments_as_user, has_root};
pub use watchdog::{PATIENCE, Watchdog, until};
