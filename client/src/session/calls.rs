//! The calls that this client has open, in slots that are used again (SPEC 4.2).

use switchboard_protocol::control;

/// An open call of this connection: a slot and the generation that tells its successive users apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

#[derive(Debug, Default)]
pub(super) struct Calls {
    slots: Vec<Slot>,
    free: Vec<u32>,
    open: usize,
}

#[derive(Debug)]
pub(super) struct Slot {
    generation: u32,
    pub(super) state: State,
    pub(super) tag: u64,
    /// In the client's time; 0 for none.
    pub(super) deadline: u64,
    pub(super) note: Note,
    /// Number of the item that came last.
    pub(super) item: u64,
    /// Number of the last item that was granted.
    pub(super) granted: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Open,
    /// Given up by the client; the broker still owes an outcome, which nobody will see.
    Forgotten,
}

/// What the session itself learns from a reply.
#[derive(Debug)]
pub(super) enum Note {
    Nothing,
    /// Of Open and Narrow: a handle and its send window.
    Opened,
    /// Of Serve: a serving handle.
    Served {
        serving: u64,
    },
    /// Of Close: the handle is gone.
    Closed {
        handle: u64,
    },
    /// Of Pop: messages of the queue that this handle is on, under lease. Who was given up may still
    /// get one, which goes back by the handle: to be closed only after that.
    Leased {
        handle: u64,
        closes: bool,
    },
}

impl Note {
    pub(super) fn of_close(body: &control::OnHandle) -> Self {
        Self::Closed { handle: body.handle }
    }
}

impl CallId {
    /// As it stands in a frame.
    pub const fn to_wire(self) -> u64 {
        self.slot as u64 | (self.generation as u64) << 32
    }

    const fn from_wire(word: u64) -> Self {
        Self { slot: word as u32, generation: (word >> 32) as u32 }
    }
}

impl Calls {
    /// Calls whose slot is taken.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    #[inline]
    pub(super) fn insert(&mut self, tag: u64, deadline: u64, note: Note) -> CallId {
        self.open += 1;
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.slots[slot as usize];
            // Never 0: an id of 0 means one-way sends in CREDIT (SPEC 4.2).
            entry.generation = entry.generation.checked_add(1).unwrap_or(1);
            entry.state = State::Open;
            entry.tag = tag;
            entry.deadline = deadline;
            // It is that where the slot is free; a note is large.
            if !matches!(note, Note::Nothing) {
                entry.note = note;
            }
            entry.item = 0;
            entry.granted = 0;
            return CallId { slot, generation: entry.generation };
        }
        let slot = self.slots.len() as u32;
        self.slots.push(Slot { generation: 1, state: State::Open, tag, deadline, note, item: 0, granted: 0 });
        CallId { slot, generation: 1 }
    }

    #[inline]
    pub(super) fn find(&mut self, call: u64) -> Option<&mut Slot> {
        self.get(CallId::from_wire(call))
    }

    #[inline]
    pub(super) fn get(&mut self, call: CallId) -> Option<&mut Slot> {
        self.slots
            .get_mut(call.slot as usize)
            .filter(|slot| slot.generation == call.generation && slot.state != State::Free)
    }

    /// Ends a call that [`Calls::find`] has found.
    #[inline]
    pub(super) fn remove(&mut self, call: u64) -> (State, u64, Note) {
        let slot = CallId::from_wire(call).slot;
        let entry = &mut self.slots[slot as usize];
        let state = std::mem::replace(&mut entry.state, State::Free);
        assert!(state != State::Free, "call {call:#x} ends twice");
        self.free.push(slot);
        self.open -= 1;
        (state, entry.tag, std::mem::replace(&mut entry.note, Note::Nothing))
    }

    /// Every taken slot with its id.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (CallId, &mut Slot)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter(|(_, slot)| slot.state != State::Free)
            .map(|(at, slot)| (CallId { slot: at as u32, generation: slot.generation }, slot))
    }
}
