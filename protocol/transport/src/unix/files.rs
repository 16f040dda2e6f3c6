//! Files that are ours to write, opened and laid out with care.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Opens the regular file at `path`, to be read and written. A link, a directory or a device is
/// refused, and a pipe does not keep us waiting for its other end.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

/// Makes `file` at least `length` bytes long, by zeros whose place on the disk is reserved. False where
/// the file system cannot: then the file is as it was.
pub fn preallocate(file: &File, length: u64) -> io::Result<bool> {
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, length) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_a_regular_file_is_opened_and_nothing_keeps_us_waiting() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "x").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        assert!(open_regular(&file).is_ok());
        assert!(open_regular(&link).is_err());
        assert!(open_regular(folder.path()).is_err());
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a pipe");
        assert!(open_regular(&pipe).is_err());
    }

    #[test]
    fn what_is_preallocated_reads_as_zeros_and_what_is_there_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "abc").expect("written");
        let file = open_regular(&path).expect("opened");
        if preallocate(&file, 10).expect("asked") {
            assert_eq!(fs::read(&path).expect("read"), b"abc\0\0\0\0\0\0\0");
            preallocate(&file, 5).expect("asked");
            assert_eq!(file.metadata().expect("asked").len(), 10, "it is never cut");
        }
    }
}
