//! The requests that are at this client, unanswered (SPEC 5.2).

use switchboard_protocol::Outcome;

/// A request that is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    pub(super) slot: u32,
    pub(super) wire: u64,
}

impl RequestId {
    /// The broker's id of it: what calls made in its service carry as their parent (SPEC 4.4).
    pub const fn to_wire(self) -> u64 {
        self.wire
    }
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    /// The broker's ids, 0 where the slot is free: apart, so that looking for one is a short scan.
    /// Only what is rare (cancel, credit) looks; answering knows the slot.
    ids: Vec<u64>,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The serving handle it came on.
    pub(super) handle: u64,
    /// What the caller was told already.
    pub(super) cancelled: Option<Outcome>,
    /// Items sent.
    pub(super) items: u64,
    /// Items that the caller takes in all.
    pub(super) granted: u64,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.ids.len() - self.free.len()
    }

    #[inline]
    pub(super) fn insert(&mut self, wire: u64, handle: u64) -> RequestId {
        let entry = Slot { handle, ..Slot::default() };
        if let Some(slot) = self.free.pop() {
            self.ids[slot as usize] = wire;
            self.slots[slot as usize] = entry;
            return RequestId { slot, wire };
        }
        let slot = self.ids.len() as u32;
        self.ids.push(wire);
        self.slots.push(entry);
        RequestId { slot, wire }
    }

    pub(super) fn find(&self, wire: u64) -> Option<RequestId> {
        let slot = self.ids.iter().position(|&id| id == wire && id != 0)? as u32;
        Some(RequestId { slot, wire })
    }

    #[inline]
    pub(super) fn get(&mut self, request: RequestId) -> Option<&mut Slot> {
        let at = request.slot as usize;
        if self.ids.get(at) == Some(&request.wire) { self.slots.get_mut(at) } else { None }
    }

    #[inline]
    pub(super) fn remove(&mut self, request: RequestId) -> Option<Slot> {
        let at = request.slot as usize;
        if self.ids.get(at) != Some(&request.wire) {
            return None;
        }
        self.ids[at] = 0;
        self.free.push(request.slot);
        Some(std::mem::take(&mut self.slots[at]))
    }
}
