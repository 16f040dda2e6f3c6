//! File descriptors that came with bytes, owned until someone takes them.

use std::os::fd::OwnedFd;

/// How many descriptors one send carries at most, and one receive has room for.
pub const FDS_MAX: usize = 16;

/// Descriptors in the order they were sent. Empty costs no allocation.
#[derive(Debug, Default)]
pub struct Fds {
    fds: Vec<OwnedFd>,
}

impl Fds {
    /// None.
    pub const fn new() -> Self {
        Self { fds: Vec::new() }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.fds.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fds.is_empty()
    }

    /// Adds one at the end.
    pub fn push(&mut self, fd: OwnedFd) {
        self.fds.push(fd);
    }

    /// Takes the first `count`, or all if there are fewer, and leaves the rest.
    pub fn take(&mut self, count: usize) -> Vec<OwnedFd> {
        if count >= self.fds.len() {
            return std::mem::take(&mut self.fds);
        }
        self.fds.drain(..count).collect()
    }
}

impl IntoIterator for Fds {
    type Item = OwnedFd;
    type IntoIter = std::vec::IntoIter<OwnedFd>;

    fn into_iter(self) -> Self::IntoIter {
        self.fds.into_iter()
    }
}
