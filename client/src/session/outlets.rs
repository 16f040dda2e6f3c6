//! The send windows of the handles that this client holds (SPEC 4.9).

use std::collections::HashMap;

#[derive(Debug, Default)]
pub(super) struct Outlets {
    by_handle: HashMap<u64, Outlet>,
}

#[derive(Debug)]
pub(super) struct Outlet {
    window: u64,
    /// Bytes sent and not yet given back.
    used: u64,
    /// Somebody was refused for want of room, and waits to hear of it.
    pub(super) wanted: bool,
}

impl Outlets {
    pub(super) fn insert(&mut self, handle: u64, send_bytes: u32) {
        self.by_handle.insert(handle, Outlet { window: send_bytes.into(), used: 0, wanted: false });
    }

    pub(super) fn get(&mut self, handle: u64) -> Option<&mut Outlet> {
        self.by_handle.get_mut(&handle)
    }

    pub(super) fn remove(&mut self, handle: u64) {
        self.by_handle.remove(&handle);
    }
}

impl Outlet {
    /// Whether SPEC 4.9 lets a message of `bytes` go; if not, somebody waits for room.
    pub(super) fn fits(&mut self, bytes: u64) -> bool {
        // SPEC 4.9: not while more than half is out and this one would take it beyond the window.
        let fits = self.used <= self.window / 2 || self.used.saturating_add(bytes) <= self.window;
        self.wanted |= !fits;
        fits
    }

    /// Takes `bytes` for one message, if SPEC 4.9 lets it go.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let fits = self.fits(bytes);
        if fits {
            self.used = self.used.saturating_add(bytes);
        }
        fits
    }

    /// Takes as much as there is, at most `bytes`.
    pub(super) fn take_up_to(&mut self, bytes: u64) -> u64 {
        let taken = self.window.saturating_sub(self.used).min(bytes);
        self.used += taken;
        taken
    }

    /// Gets `bytes` back. More than were out is a broker's mistake, and harmless.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }
}
