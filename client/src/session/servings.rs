//! The names that this client serves, and what is at it of each (SPEC 5.2, 5.3).

use std::collections::HashMap;

#[derive(Debug, Default)]
pub(super) struct Servings {
    by_handle: HashMap<u64, Serving>,
    /// The one that was asked for last: mostly the next one too.
    last: Option<(u64, Serving)>,
}

#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) tag: u64,
    pub(super) calls: u32,
    pub(super) outstanding: u32,
    pub(super) window: u64,
    /// Bytes of one-way messages at this client.
    pub(super) held: u64,
    /// Bytes that were used up and not yet given back.
    pub(super) owed: u64,
}

impl Servings {
    pub(super) fn insert(&mut self, handle: u64, tag: u64, calls: u32, send_bytes: u32) {
        let serving = Serving { tag, calls, outstanding: 0, window: send_bytes.into(), held: 0, owed: 0 };
        self.by_handle.insert(handle, serving);
    }

    #[inline]
    pub(super) fn get(&mut self, handle: u64) -> Option<&mut Serving> {
        if !matches!(&self.last, Some((last, _)) if *last == handle) {
            if let Some((last, serving)) = self.last.take() {
                self.by_handle.insert(last, serving);
            }
            self.last = Some((handle, self.by_handle.remove(&handle)?));
        }
        self.last.as_mut().map(|(_, serving)| serving)
    }

    pub(super) fn remove(&mut self, handle: u64) {
        if matches!(&self.last, Some((last, _)) if *last == handle) {
            self.last = None;
        }
        self.by_handle.remove(&handle);
    }
}
