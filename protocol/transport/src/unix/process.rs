//! Facts about this process.

use rustix::process::{getegid, geteuid, getpid, getuid};

/// The user this process acts as.
pub fn effective_uid() -> u32 {
    geteuid().as_raw()
}

/// The group this process acts as.
pub fn effective_gid() -> u32 {
    getegid().as_raw()
}

/// The user who started this process.
pub fn real_uid() -> u32 {
    getuid().as_raw()
}

/// This process's id.
pub fn id() -> u32 {
    getpid().as_raw_nonzero().get().unsigned_abs()
}

/// Whether this program was started with more rights than its caller has (set-uid, set-gid, file
/// capabilities). Such a program must not believe its environment.
pub fn is_privileged_by_file() -> bool {
    // SAFETY: getauxval takes any number and reads only what the kernel gave this process.
    let secure = unsafe { libc::getauxval(libc::AT_SECURE) };
    secure != 0
}
