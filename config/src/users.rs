//! Users and groups by name, from the system's databases.

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;

/// The id of a user; the error is a sentence.
pub fn uid_of(name: &str) -> Result<u32, String> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!("there is no user `{name}` on this machine")),
        Err(error) => Err(format!("cannot look up user `{name}`: {}", error.desc())),
    }
}

/// The id of a group; the error is a sentence.
pub fn gid_of(name: &str) -> Result<u32, String> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(format!("there is no group `{name}` on this machine")),
        Err(error) => Err(format!("cannot look up group `{name}`: {}", error.desc())),
    }
}

/// The name of a user, where it has one.
pub fn name_of(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// Every group of a user, primary and supplementary, as a log-in would give them; none for an id that
/// no user has.
pub fn groups_of(uid: u32) -> Vec<u32> {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return Vec::new() };
    let listed = CString::new(user.name).ok().and_then(|name| getgrouplist(&name, user.gid).ok());
    listed.unwrap_or_else(|| vec![user.gid]).into_iter().map(Gid::as_raw).collect()
}
