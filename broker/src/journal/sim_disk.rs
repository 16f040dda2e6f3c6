//! A disk that does what disks do on a bad day, from a seed: the same seed, the same day.
//!
//! What is written is seen at once but kept for sure only by a sync; when the power goes, each sector of
//! what was not synced is there or not, or half of it. Names are the same with the directory. It can fail
//! a read, a write or a sync, take less than it is given, fill up, and flip bits.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::disk::Disk;

/// One simulated directory.
#[derive(Clone, Debug)]
pub struct SimDisk {
    /// What goes wrong. May be changed at any time.
    pub faults: Faults,
    files: Vec<SimFile>,
    names: BTreeMap<String, FileId>,
    /// The names as they are on the disk for sure.
    kept_names: BTreeMap<String, FileId>,
    /// What was done to names since the directory was synced.
    renamings: Vec<Renaming>,
    dice: u64,
    changes: u64,
    reads: u64,
    writes: u64,
    syncs: u64,
}

/// What goes wrong with a [`SimDisk`]. The counts begin with the disk and never go back.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The change (of a file, a name, or by a sync) at which the power goes. It and all after it fail,
    /// until [`SimDisk::lose_power`] has decided what is left.
    pub power_off_at: Option<u64>,
    /// The read that fails.
    pub fail_read_at: Option<u64>,
    /// The write that fails. Some of its bytes may have been written.
    pub fail_write_at: Option<u64>,
    /// The sync (of a file or of the directory) that fails.
    pub fail_sync_at: Option<u64>,
    /// Whether a failed sync of a file forgets what it should have written: it is seen, and never written.
    pub failed_sync_forgets: bool,
    /// Bytes that all files together can have.
    pub capacity: u64,
    /// Whether writes may take less than they are given.
    pub short_writes: bool,
    /// Whether a sector may be torn. Else it is the old one or the new one.
    pub torn_sectors: bool,
    /// Whether space can be reserved.
    pub preallocates: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            power_off_at: None,
            fail_read_at: None,
            fail_write_at: None,
            fail_sync_at: None,
            failed_sync_forgets: false,
            capacity: u64::MAX,
            short_writes: false,
            torn_sectors: false,
            preallocates: true,
        }
    }
}

/// An open file of a [`SimDisk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId(usize);

#[derive(Clone, Debug, Default)]
struct SimFile {
    seen: Vec<u8>,
    kept: Vec<u8>,
    /// What was done since the last sync.
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
enum Pending {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug)]
enum Renaming {
    Create(String, FileId),
    Rename(String, String, FileId),
    Remove(String),
}

const SECTOR: usize = 512;

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self {
            faults: Faults::default(),
            files: Vec::new(),
            names: BTreeMap::new(),
            kept_names: BTreeMap::new(),
            renamings: Vec::new(),
            dice: seed,
            changes: 0,
            reads: 0,
            writes: 0,
            syncs: 0,
        }
    }

    /// Changes that were asked for so far: what [`Faults::power_off_at`] counts.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Reads that were asked for so far.
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// Writes that were asked for so far.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Syncs that were asked for so far.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// The power goes and comes back: of what was not synced, chance decides what is there. Nothing goes
    /// wrong after that until it is asked for again.
    pub fn lose_power(&mut self) {
        self.faults = Faults { torn_sectors: self.faults.torn_sectors, ..Faults::default() };
        // Of 4: all of it is there, nothing, or each piece by itself.
        let luck = self.roll() % 4;
        for renaming in std::mem::take(&mut self.renamings) {
            if self.survives(luck) {
                apply_name(&mut self.kept_names, renaming);
            }
        }
        self.names = self.kept_names.clone();
        for id in 0..self.files.len() {
            self.scatter(id, luck);
            let file = &mut self.files[id];
            file.seen = file.kept.clone();
        }
    }

    /// The names that are there.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// A file's bytes, as they are seen.
    pub fn contents(&self, name: &str) -> Option<&[u8]> {
        Some(&self.files[self.names.get(name)?.0].seen)
    }

    /// Puts a file there, kept for sure, in the place of one that may be there.
    pub fn put(&mut self, name: &str, bytes: &[u8]) {
        let id = FileId(self.files.len());
        self.files.push(SimFile { seen: bytes.to_vec(), kept: bytes.to_vec(), pending: Vec::new() });
        self.names.insert(name.to_owned(), id);
        self.kept_names.insert(name.to_owned(), id);
    }

    /// Takes a file away for sure.
    pub fn take_away(&mut self, name: &str) {
        self.names.remove(name);
        self.kept_names.remove(name);
    }

    /// Flips a bit on the disk.
    pub fn flip_bit(&mut self, name: &str, bit: usize) {
        if let Some(id) = self.names.get(name) {
            let file = &mut self.files[id.0];
            for bytes in [&mut file.seen, &mut file.kept] {
                if let Some(byte) = bytes.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
    }

    /// Makes some of what is pending for a file kept, and forgets the rest.
    fn scatter(&mut self, id: usize, luck: u64) {
        for pending in std::mem::take(&mut self.files[id].pending) {
            match pending {
                Pending::Length(length) => {
                    if self.survives(luck) {
                        self.files[id].kept.resize(length, 0);
                    }
                }
                Pending::Write { at, bytes } => {
                    let mut from = 0;
                    while from < bytes.len() {
                        let to = bytes.len().min(from + SECTOR - (at + from) % SECTOR);
                        if self.survives(luck) {
                            let whole =
                                !self.faults.torn_sectors || luck == 0 || self.roll().is_multiple_of(2);
                            let end = if whole { to } else { from + self.below(to - from + 1) };
                            overwrite(&mut self.files[id].kept, at + from, &bytes[from..end]);
                        }
                        from = to;
                    }
                }
            }
        }
    }

    fn survives(&mut self, luck: u64) -> bool {
        match luck {
            0 => true,
            1 => false,
            _by_itself => self.roll().is_multiple_of(2),
        }
    }

    /// SplitMix64.
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    /// Counts a change, unless the power is off.
    fn change(&mut self) -> io::Result<()> {
        let at = self.changes;
        self.changes += 1;
        if self.faults.power_off_at.is_some_and(|off| off <= at) {
            return Err(io::Error::other("the power is off"));
        }
        Ok(())
    }

    /// Bytes that are free.
    fn free(&self) -> u64 {
        let used: u64 = self.names.values().map(|id| self.files[id.0].seen.len() as u64).sum();
        self.faults.capacity.saturating_sub(used)
    }

    fn write(&mut self, id: FileId, at: usize, bytes: &[u8]) {
        let file = &mut self.files[id.0];
        overwrite(&mut file.seen, at, bytes);
        file.pending.push(Pending::Write { at, bytes: bytes.to_vec() });
    }

    /// Counts a sync; whether it is the one that fails.
    fn fails_sync(&mut self) -> bool {
        self.syncs += 1;
        self.faults.fail_sync_at == Some(self.syncs - 1)
    }

    fn find(&self, name: &str) -> io::Result<FileId> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimDisk {
    type File = FileId;

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/sim").join(name)
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.names.keys().cloned().collect())
    }

    fn open(&mut self, name: &str) -> io::Result<FileId> {
        self.find(name)
    }

    fn create(&mut self, name: &str) -> io::Result<FileId> {
        self.change()?;
        if self.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = FileId(self.files.len());
        self.files.push(SimFile::default());
        self.names.insert(name.to_owned(), id);
        self.renamings.push(Renaming::Create(name.to_owned(), id));
        Ok(id)
    }

    fn length(&mut self, file: &FileId) -> io::Result<u64> {
        Ok(self.files[file.0].seen.len() as u64)
    }

    fn read_at(&mut self, file: &FileId, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        if self.faults.fail_read_at == Some(self.reads - 1) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let seen = &self.files[file.0].seen;
        let rest = seen.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, file: &FileId, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let at = offset as usize;
        let powered = self.change();
        self.writes += 1;
        let fails = powered.is_err() || self.faults.fail_write_at == Some(self.writes - 1);
        let growth = (at + bytes.len()).saturating_sub(self.files[file.0].seen.len()) as u64;
        let lacking = growth.saturating_sub(self.free()) as usize;
        let room = bytes.len().saturating_sub(lacking);
        let short = (fails || self.faults.short_writes) && self.roll().is_multiple_of(2);
        let count = if short { 1.max(self.below(bytes.len() + 1)).min(room) } else { room };
        self.write(*file, at, &bytes[..count]);
        powered?;
        if fails {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if count == 0 && !bytes.is_empty() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(count)
    }

    fn set_length(&mut self, file: &FileId, length: u64) -> io::Result<()> {
        self.change()?;
        let file = &mut self.files[file.0];
        file.seen.resize(length as usize, 0);
        file.pending.push(Pending::Length(length as usize));
        Ok(())
    }

    fn preallocate(&mut self, file: &FileId, length: u64) -> io::Result<()> {
        self.change()?;
        let has = self.files[file.0].seen.len() as u64;
        if !self.faults.preallocates || length <= has {
            return Ok(());
        }
        if self.free() < length - has {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let file = &mut self.files[file.0];
        file.seen.resize(length as usize, 0);
        file.pending.push(Pending::Length(length as usize));
        Ok(())
    }

    fn sync(&mut self, file: &FileId) -> io::Result<()> {
        self.change()?;
        if self.fails_sync() {
            if self.faults.failed_sync_forgets {
                self.scatter(file.0, 2);
            }
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let file = &mut self.files[file.0];
        for pending in std::mem::take(&mut file.pending) {
            match pending {
                Pending::Write { at, bytes } => overwrite(&mut file.kept, at, &bytes),
                Pending::Length(length) => file.kept.resize(length, 0),
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change()?;
        let id = self.find(from)?;
        let renaming = Renaming::Rename(from.to_owned(), to.to_owned(), id);
        apply_name(&mut self.names, renaming.clone());
        self.renamings.push(renaming);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.change()?;
        self.find(name)?;
        self.names.remove(name);
        self.renamings.push(Renaming::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.change()?;
        if self.fails_sync() {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.kept_names = self.names.clone();
        self.renamings.clear();
        Ok(())
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn apply_name(names: &mut BTreeMap<String, FileId>, renaming: Renaming) {
    match renaming {
        Renaming::Create(name, id) => {
            names.insert(name, id);
        }
        Renaming::Rename(from, to, id) => {
            names.remove(&from);
            names.insert(to, id);
        }
        Renaming::Remove(name) => {
            names.remove(&name);
        }
    }
}

fn overwrite(to: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if to.len() < at + bytes.len() {
        to.resize(at + bytes.len(), 0);
    }
    to[at..at + bytes.len()].copy_from_slice(bytes);
}
