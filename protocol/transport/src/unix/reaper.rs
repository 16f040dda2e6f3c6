//! Closes descriptors whose close may block.
//!
//! A peer can send any descriptor: one on a dead network file system, or on a FUSE mount that it
//! serves itself and never answers. Closing such a one can hang for ever, so another thread does.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

/// A thread that closes descriptors, behind a bounded queue.
#[derive(Debug)]
pub struct Reaper {
    queue: SyncSender<OwnedFd>,
}

/// Descriptors waiting to be closed at most. A daemon can hold a few thousand, so this many stuck
/// ones are the sign of an attack, which [`Reaper::close`] then reports.
const QUEUE_MAX: usize = 1024;

impl Reaper {
    /// Starts the thread. It ends when the reaper is dropped and the queue is empty.
    pub fn start() -> std::io::Result<Self> {
        let (queue, waiting) = sync_channel::<OwnedFd>(QUEUE_MAX);
        thread::Builder::new().name("reaper".into()).stack_size(64 << 10).spawn(move || {
            waiting.into_iter().for_each(drop);
        })?;
        Ok(Self { queue })
    }

    /// Has `fd` closed. When the queue is full it is given back: the caller keeps it and tries
    /// again, and stops taking more from whoever sends them.
    pub fn close(&self, fd: OwnedFd) -> Result<(), OwnedFd> {
        match self.queue.try_send(fd) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(fd) | TrySendError::Disconnected(fd)) => Err(fd),
        }
    }
}
