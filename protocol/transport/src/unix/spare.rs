//! Descriptors kept back for the day there are none.
//!
//! When the table of open files is full, a listener with a waiting connection stays ready, and the
//! daemon would turn in circles or leave the peer hanging. With one spare given up it can accept,
//! say why it cannot serve, close, and take the spare back.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// Open descriptors on /dev/null, to be given up one by one.
#[derive(Debug)]
pub struct SpareFds {
    spares: Vec<OwnedFd>,
    wanted: usize,
}

impl SpareFds {
    /// Keeps `wanted` descriptors back.
    pub fn new(wanted: usize) -> io::Result<Self> {
        let mut spare = Self { spares: Vec::with_capacity(wanted), wanted };
        while spare.spares.len() < wanted {
            spare.spares.push(File::open("/dev/null")?.into());
        }
        Ok(spare)
    }

    /// Frees one descriptor; false if none is left to give.
    pub fn give_up(&mut self) -> bool {
        self.spares.pop().is_some()
    }

    /// Takes back what was given up, as far as the system lets; true once all are back.
    pub fn take_back(&mut self) -> bool {
        while self.spares.len() < self.wanted {
            match File::open("/dev/null") {
                Ok(file) => self.spares.push(file.into()),
                Err(_) => return false,
            }
        }
        true
    }
}
