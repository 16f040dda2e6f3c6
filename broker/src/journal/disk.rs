//! A directory of files, as the journal needs it: the seam between what is decided and what is done.
//!
//! Writer and recovery are written over this, so that a seeded simulation drives the very code that
//! runs, over a disk that tears, loses, fails and fills up ([`SimDisk`](super::SimDisk)).

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;

/// One directory and the files in it. Every call blocks until it is done.
pub trait Disk {
    /// An open file.
    type File: Debug;

    /// Where a file of this name is, for people.
    fn path(&self, name: &str) -> PathBuf;

    /// The names in the directory, in any order. Names that are not Unicode are left out: they are not ours.
    fn list(&mut self) -> io::Result<Vec<String>>;

    /// Opens a regular file that is there, to be read and written.
    fn open(&mut self, name: &str) -> io::Result<Self::File>;

    /// Makes an empty file. One of this name must not be there.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    /// Bytes from the beginning of the file to its end.
    fn length(&mut self, file: &Self::File) -> io::Result<u64>;

    /// Reads from `offset`: how many bytes, 0 at the end of the file, maybe fewer than asked for.
    fn read_at(&mut self, file: &Self::File, offset: u64, to: &mut [u8]) -> io::Result<usize>;

    /// Writes at `offset`: how many bytes, maybe fewer than asked for.
    fn write_at(&mut self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts the file short, or makes it longer by zeros.
    fn set_length(&mut self, file: &Self::File, length: u64) -> io::Result<()>;

    /// Makes the file at least so long, by zeros that have their place on the disk already, so that
    /// writing there changes bytes and nothing else. Where that cannot be had it does nothing.
    fn preallocate(&mut self, file: &Self::File, length: u64) -> io::Result<()>;

    /// Returns when every byte written to the file so far is on the disk. After an error nobody knows
    /// which are, and asking again does not tell.
    fn sync(&mut self, file: &Self::File) -> io::Result<()>;

    /// Gives a file another name, at once. No file of that name is there.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Returns when every name made, changed or removed so far is so on the disk.
    fn sync_directory(&mut self) -> io::Result<()>;
}

/// A disk that is lent: whoever lent it has it back afterwards, whatever became of the journal.
impl<D: Disk> Disk for &mut D {
    type File = D::File;

    fn path(&self, name: &str) -> PathBuf {
        (**self).path(name)
    }
    fn list(&mut self) -> io::Result<Vec<String>> {
        (**self).list()
    }
    fn open(&mut self, name: &str) -> io::Result<Self::File> {
        (**self).open(name)
    }
    fn create(&mut self, name: &str) -> io::Result<Self::File> {
        (**self).create(name)
    }
    fn length(&mut self, file: &Self::File) -> io::Result<u64> {
        (**self).length(file)
    }
    fn read_at(&mut self, file: &Self::File, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(file, offset, to)
    }
    fn write_at(&mut self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        (**self).write_at(file, offset, bytes)
    }
    fn set_length(&mut self, file: &Self::File, length: u64) -> io::Result<()> {
        (**self).set_length(file, length)
    }
    fn preallocate(&mut self, file: &Self::File, length: u64) -> io::Result<()> {
        (**self).preallocate(file, length)
    }
    fn sync(&mut self, file: &Self::File) -> io::Result<()> {
        (**self).sync(file)
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        (**self).rename(from, to)
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        (**self).remove(name)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        (**self).sync_directory()
    }
}
