//! What a call goes to: a name, opened when it is first needed, or a handle that somebody passed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::state::{Link, Shared};

/// A service as a board holds it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) board: Arc<Shared>,
    pub(crate) what: What,
    /// The handle, 0 for none, and the connection it is good on. Only looked at under the lock.
    handle: AtomicU64,
    connection: AtomicU64,
    /// The one that it replaced; given back with it, since messages may still be on their way there.
    replaced: AtomicU64,
}

#[derive(Debug)]
pub(crate) enum What {
    /// Opened by name: on a new connection, again.
    Named { name: Box<str>, rights: u32 },
    /// Passed to us: gone with the connection.
    Held { rights: u32 },
}

/// What is known of a target's handle.
pub(crate) enum Known<'a> {
    Handle(u64),
    /// To be opened.
    Name(&'a str, u32),
    /// It was of an earlier connection.
    Gone,
}

impl Target {
    pub(crate) fn named(board: Arc<Shared>, name: &str, rights: u32) -> Self {
        Self::new(board, What::Named { name: name.into(), rights }, 0, 0)
    }

    pub(crate) fn held(board: Arc<Shared>, handle: u64, rights: u32, connection: u64) -> Self {
        Self::new(board, What::Held { rights }, handle, connection)
    }

    fn new(board: Arc<Shared>, what: What, handle: u64, connection: u64) -> Self {
        let (handle, connection) = (AtomicU64::new(handle), AtomicU64::new(connection));
        Self { board, what, handle, connection, replaced: AtomicU64::new(0) }
    }

    #[inline]
    pub(crate) fn known(&self, link: &Link) -> Known<'_> {
        let handle = self.handle.load(Ordering::Relaxed);
        if handle != 0 && self.connection.load(Ordering::Relaxed) == link.connection {
            return Known::Handle(handle);
        }
        match &self.what {
            What::Named { name, rights } => Known::Name(name, *rights),
            What::Held { .. } => Known::Gone,
        }
    }

    /// Under the lock.
    pub(crate) fn set(&self, handle: u64, connection: u64) {
        self.handle.store(handle, Ordering::Relaxed);
        self.connection.store(connection, Ordering::Relaxed);
    }

    /// Another handle on the same, on the same connection. Under the lock.
    pub(crate) fn replace(&self, handle: u64) {
        self.replaced.store(self.handle.swap(handle, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The handle and its connection.
    pub(crate) fn get(&self) -> (u64, u64) {
        (self.handle.load(Ordering::Relaxed), self.connection.load(Ordering::Relaxed))
    }

    pub(crate) fn name(&self) -> Option<&str> {
        match &self.what {
            What::Named { name, .. } => Some(name),
            What::Held { .. } => None,
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let (handle, connection) = self.get();
        let mut state = self.board.lock();
        if let What::Named { name, .. } = &self.what
            && state.services.get(name).is_some_and(|cached| cached.strong_count() == 0)
        {
            state.services.remove(name);
        }
        if handle != 0 && connection == state.link.connection && state.link.is_up {
            state.session.discard(handle);
            state.session.discard(self.replaced.load(Ordering::Relaxed));
            self.board.write_and_release(state);
        }
    }
}
