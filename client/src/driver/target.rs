//! What a call goes to: a name, opened when it is first needed, or a handle that somebody passed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use switchboard_protocol::{ObjectKind, Rights, Verb};

use super::state::{Link, Shared, State};

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
    /// A will was left by its handle, which is closed with the connection and no sooner (SPEC 9.9).
    has_will: AtomicBool,
}

#[derive(Debug)]
pub(crate) enum What {
    /// Opened by name: on a new connection, again.
    Named { name: Box<str>, kind: ObjectKind, rights: u32 },
    /// Passed to us: gone with the connection.
    Held { rights: u32 },
}

/// What is known of a target's handle.
pub(crate) enum Known<'a> {
    Handle(u64),
    /// To be opened.
    Name(&'a str, ObjectKind, u32),
    /// It was of an earlier connection.
    Gone,
}

impl Target {
    pub(crate) fn named(board: Arc<Shared>, name: &str, kind: ObjectKind, rights: u32) -> Self {
        Self::new(board, What::Named { name: name.into(), kind, rights }, 0, 0)
    }

    /// The one that all uses of a name on this board share.
    pub(crate) fn shared(board: &Arc<Shared>, name: &str, kind: ObjectKind, rights: Rights) -> Arc<Self> {
        let mut state = board.lock();
        let known = state.targets.get(name).and_then(|targets| {
            let mut alive = targets.iter().filter_map(Weak::upgrade);
            alive.find(|target| target.is_named(kind, rights.0))
        });
        known.unwrap_or_else(|| {
            let target = Arc::new(Self::named(Arc::clone(board), name, kind, rights.0));
            target.take_up(&mut state);
            state.targets.entry(name.into()).or_default().push(Arc::downgrade(&target));
            target
        })
    }

    /// Goes on with the handle that one like it left behind for the sake of its will.
    fn take_up(&self, state: &mut State) {
        if let What::Named { name, kind: ObjectKind::Topic, rights } = &self.what
            && *rights == Verb::Publish.right().0
            && let Some((handle, connection)) = state.wills.remove(name)
        {
            self.set(handle, connection);
            self.has_will.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a will is left by its handle.
    pub(crate) fn set_will(&self, is_left: bool) {
        self.has_will.store(is_left, Ordering::Relaxed);
    }

    fn is_named(&self, of_kind: ObjectKind, with_rights: u32) -> bool {
        match self.what {
            What::Named { kind, rights, .. } => (kind, rights) == (of_kind, with_rights),
            What::Held { .. } => false,
        }
    }

    pub(crate) fn held(board: Arc<Shared>, handle: u64, rights: u32, connection: u64) -> Self {
        Self::new(board, What::Held { rights }, handle, connection)
    }

    fn new(board: Arc<Shared>, what: What, handle: u64, connection: u64) -> Self {
        let (handle, connection) = (AtomicU64::new(handle), AtomicU64::new(connection));
        Self {
            board,
            what,
            handle,
            connection,
            replaced: AtomicU64::new(0),
            has_will: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(crate) fn known(&self, link: &Link) -> Known<'_> {
        let handle = self.handle.load(Ordering::Relaxed);
        if handle != 0 && self.connection.load(Ordering::Relaxed) == link.connection {
            return Known::Handle(handle);
        }
        match &self.what {
            What::Named { name, kind, rights } => Known::Name(name, *kind, *rights),
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
            && let Some(targets) = state.targets.get_mut(name)
        {
            targets.retain(|target| target.strong_count() > 0);
            if targets.is_empty() {
                state.targets.remove(name);
            }
        }
        if handle == 0 || connection != state.link.connection || !state.link.is_up {
            return;
        }
        if let (true, What::Named { name, .. }) = (self.has_will.load(Ordering::Relaxed), &self.what) {
            state.wills.insert(name.clone(), (handle, connection));
        } else {
            state.session.discard(handle);
            state.session.discard(self.replaced.load(Ordering::Relaxed));
            self.board.write_and_release(state);
        }
    }
}
