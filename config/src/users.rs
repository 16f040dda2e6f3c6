//! Users and groups by name, from the system's databases.

use nix::unistd::{Group, Uid, User};
use std::path::PathBuf;

/// Whose process this is.
pub(crate) fn own_uid() -> u32 {
    Uid::effective().as_raw()
}

/// The home folder of whose process this is, where the environment does not say.
pub(crate) fn home() -> Option<PathBuf> {
    User::from_uid(Uid::effective()).ok().flatten().map(|user| user.dir)
}

/// The id of a user; the error is a sentence.
pub(crate) fn uid_of(name: &str) -> Result<u32, String> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!("there is no user `{name}` on this machine")),
        Err(error) => Err(format!("cannot look up user `{name}`: {}", error.desc())),
    }
}

/// The id of a group; the error is a sentence.
pub(crate) fn gid_of(name: &str) -> Result<u32, String> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(format!("there is no group `{name}` on this machine")),
        Err(error) => Err(format!("cannot look up group `{name}`: {}", error.desc())),
    }
}
