//! Events that the broker tells a client about its handles (SPEC 8).

/// What happened: the `method` of an event frame. Stable numbers; a client ignores unknown ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Event {
    /// The handle is void.
    HandleRevoked = 1,
    /// The serving handle owns its name now.
    OwnerGained = 2,
    /// The serving handle was replaced and stands by.
    OwnerReplaced = 3,
    /// One-way messages were not delivered, or it is not known that they were.
    SendFailed = 4,
    /// The broker goes down.
    ShuttingDown = 5,
}

impl Event {
    /// The event of that number.
    pub const fn from_wire(method: u32) -> Option<Self> {
        Some(match method {
            1 => Self::HandleRevoked,
            2 => Self::OwnerGained,
            3 => Self::OwnerReplaced,
            4 => Self::SendFailed,
            5 => Self::ShuttingDown,
            _ => return None,
        })
    }
}
