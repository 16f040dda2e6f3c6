//! A file that is written through memory, so that what was written survives the process without a system
//! call for each piece.
//!
//! Everything here goes through pointers. No reference into the mapping ever exists, so that it is no
//! matter who else has the file open.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::{NonNull, copy_nonoverlapping, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::files::preallocate;

/// A new file of a fixed length, of zeros at first, mapped to be written.
///
/// What was written is the file's content at once, for every reader and whatever becomes of this process.
/// Whether it survives the machine is for the kernel to say: nothing is synced.
#[derive(Debug)]
pub struct Mapping {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process and not to a thread, and this is its only owner. Nothing in
// it refers to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Makes the file, which must not be there, for us alone (mode 0600), and maps it. All its blocks are
    /// the file's before this returns: a disk that fills up later cannot take them back.
    pub fn create(path: &Path, len: usize) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        let made = allocate(&file, len).and_then(|()| Self::map(&file, len));
        if made.is_err() {
            // Half a file is of no use, and the error that counts is the one above.
            let _ = std::fs::remove_file(path);
        }
        made
    }

    fn map(file: &File, len: usize) -> io::Result<Self> {
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a mapping of no bytes"));
        }
        // SAFETY: the kernel picks the address (null hint, no MAP_FIXED), so nothing that is mapped
        // already is touched. The length is not zero. Nobody gets a reference into the memory, so other
        // writers of the file break no rule of Rust's. Its blocks are allocated, so an access raises
        // SIGBUS only if somebody with our rights cuts the file, which ends the process and is no
        // undefined behaviour.
        let address =
            unsafe { mmap(null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0) }?;
        let address = NonNull::new(address.cast()).expect("a mapping is not at address 0");
        Ok(Self { address, len })
    }

    /// Bytes of the file.
    #[expect(clippy::len_without_is_empty, reason = "there is no mapping of no bytes")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Writes bytes.
    ///
    /// # Panics
    ///
    /// If they do not lie within the file.
    #[inline]
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        assert!(bytes.len() <= self.len && offset <= self.len - bytes.len(), "within the mapping");
        // SAFETY: `offset` is at most `len` by the line above, so the sum stays within the one object
        // that the mapping is.
        let target = unsafe { self.address.add(offset) };
        // SAFETY: source and target are valid for `bytes.len()` bytes: the one is a slice, the other lies
        // within the mapping, which is there until drop. Bytes have no alignment. They do not overlap:
        // safe code has no reference into the mapping to make a slice of. `&mut self` keeps other
        // threads of ours from writing at the same time.
        unsafe { copy_nonoverlapping(bytes.as_ptr(), target.as_ptr(), bytes.len()) };
    }

    /// Writes a word in one piece and after all that was written before it: whenever the process ends,
    /// the word is there as a whole or not at all, and if it is, so is everything before it.
    ///
    /// # Panics
    ///
    /// If it does not lie within the file, or `offset` is no multiple of 8.
    #[inline]
    pub fn store_at(&mut self, offset: usize, word: u64) {
        assert!(8 <= self.len && offset <= self.len - 8, "within the mapping");
        assert!(offset.is_multiple_of(8), "an aligned word");
        // SAFETY: `offset` is less than `len` by the lines above, so the sum stays within the mapping.
        let target = unsafe { self.address.add(offset) };
        // SAFETY: the eight bytes lie within the mapping, which is there until drop; mappings begin at a
        // page, so a multiple of 8 from there is aligned. Every bit pattern is an `AtomicU64`. Who else
        // writes there in this process would need `&mut self` too; other processes' accesses are not
        // Rust's to order.
        let word_there = unsafe { AtomicU64::from_ptr(target.as_ptr().cast()) };
        word_there.store(word.to_le(), Ordering::Release);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: address and length are those that mmap gave, it was not unmapped before, and no
        // pointer into it outlives `self`. The error case is an address that is none.
        let _ = unsafe { munmap(self.address.as_ptr().cast(), self.len) };
    }
}

/// Gives the file its blocks: by reserving them, or by writing them where that cannot be.
fn allocate(mut file: &File, len: usize) -> io::Result<()> {
    if preallocate(file, len as u64)? {
        return Ok(());
    }
    let zeros = [0; 64 << 10];
    let mut left = len;
    while left > 0 {
        let part = left.min(zeros.len());
        file.write_all(&zeros[..part])?;
        left -= part;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn what_is_written_is_in_the_file_at_once_and_after() {
        let folder = folder();
        let path = folder.path().join("file");
        let mut mapping = Mapping::create(&path, 10_000).expect("mapped");
        mapping.write_at(0, b"begin");
        mapping.write_at(9_997, b"end");
        mapping.store_at(8, 0x0102_0304_0506_0708);
        let check = || {
            let bytes = fs::read(&path).expect("read");
            assert_eq!((bytes.len(), &bytes[..5], &bytes[9_997..]), (10_000, &b"begin"[..], &b"end"[..]));
            assert_eq!(bytes[8..16], [8, 7, 6, 5, 4, 3, 2, 1]);
        };
        check();
        assert_eq!(mapping.len(), 10_000);
        drop(mapping);
        check();
    }

    #[test]
    fn the_file_is_ours_alone_and_has_all_its_blocks() {
        let folder = folder();
        let path = folder.path().join("file");
        let _mapping = Mapping::create(&path, 1 << 20).expect("mapped");
        let metadata = fs::metadata(&path).expect("there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(metadata.blocks() * 512 >= 1 << 20);
    }

    #[test]
    fn what_is_there_is_neither_overwritten_nor_followed() {
        let folder = folder();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "precious").expect("written");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).expect("linked");
        for path in [&file, &link] {
            let error = Mapping::create(path, 4096).expect_err("taken");
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read(&file).expect("there"), b"precious");
    }

    #[test]
    fn what_cannot_be_allocated_leaves_nothing() {
        let folder = folder();
        let path = folder.path().join("file");
        Mapping::create(&path, 1 << 60).expect_err("more than any disk");
        Mapping::create(&path, 0).expect_err("nothing to map");
        assert!(!path.exists());
    }

    #[test]
    #[should_panic(expected = "within the mapping")]
    fn a_write_past_the_end_is_refused() {
        let folder = folder();
        Mapping::create(&folder.path().join("file"), 100).expect("mapped").write_at(98, b"abc");
    }

    #[test]
    #[should_panic(expected = "an aligned word")]
    fn a_word_across_words_is_refused() {
        let folder = folder();
        Mapping::create(&folder.path().join("file"), 100).expect("mapped").store_at(4, 1);
    }
}
