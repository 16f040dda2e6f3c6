//! A directory of a real file system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use switchboard_transport::{open_regular, preallocate};

use super::disk::Disk;

/// A directory, and the files that are in it.
#[derive(Debug)]
pub struct FsDisk {
    path: PathBuf,
    /// Kept open: the directory that is synced is the one that was opened, wherever it is moved.
    directory: File,
}

impl FsDisk {
    /// The directory at `path`, which is there.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_path_buf(), directory: File::open(path)? })
    }
}

impl Disk for FsDisk {
    type File = File;

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn open(&mut self, name: &str) -> io::Result<File> {
        open_regular(&self.path(name))
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path(name))
    }

    fn length(&mut self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn read_at(&mut self, file: &File, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        file.read_at(to, offset)
    }

    fn write_at(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }

    fn set_length(&mut self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn preallocate(&mut self, file: &File, length: u64) -> io::Result<()> {
        // A file system that cannot do it is a slower one, not a failure.
        preallocate(file, length).map(|_done| ())
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.directory.sync_all()
    }
}
