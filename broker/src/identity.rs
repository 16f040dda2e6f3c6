//! The kernel's word on a peer, as the core takes it.

use switchboard_core::Identity;
use switchboard_transport::Credentials;

/// Nothing is added and nothing interpreted on the way.
pub(crate) fn identity(credentials: Credentials) -> Identity {
    let Credentials { uid, gid, pid, groups, label } = credentials;
    Identity { uid, gid, groups, pid, label }
}
