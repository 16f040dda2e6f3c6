//! Who is at the other end of a connection, as the kernel says.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What the kernel said of a peer when it connected. All of policy rests on this and on nothing the
/// peer says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Process id; it may have exited since, and another may have the number.
    pub pid: u32,
    /// Security label (SO_PEERSEC), where there is one.
    pub label: Option<String>,
}

impl Identity {
    /// Ids that the kernel could not map into our namespace. They are everybody and nobody, so no
    /// rule matches them.
    pub const UNMAPPED: u32 = 65534;

    /// Whether rules may match this identity at all.
    pub fn is_known(&self) -> bool {
        self.uid != Self::UNMAPPED && self.uid != u32::MAX && self.pid != 0
    }
}
