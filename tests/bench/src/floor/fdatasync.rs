//! One process that appends 512 B to a file and calls fdatasync, one at a time: what a message costs a
//! system that makes each durable alone. Whoever makes many durable at once may beat it; nobody beats it
//! with one in flight.

use crate::candidate::{Candidate, Kind, Mode, Sample, Session, Site, call_sample, patience};
use crate::process::{Role, wait_done};
use crate::work::{Budget, Port, Work, call_one_by_one};
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// The floor.
pub struct Fdatasync;

/// `f_type` of file systems whose fdatasync has nothing to do.
const IN_MEMORY: [(rustix::fs::FsWord, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];

/// Whether the folder of temporary files is on a disk; the error says what to do.
pub fn disk() -> Result<()> {
    let folder = std::env::temp_dir();
    let found = rustix::fs::statfs(&folder).with_context(|| format!("statfs of {}", folder.display()))?;
    if let Some((_, name)) = IN_MEMORY.iter().find(|(magic, _)| *magic == found.f_type) {
        bail!("{} is {name}, where nothing is durable: set TMPDIR to a folder on a disk", folder.display());
    }
    Ok(())
}

impl Candidate for Fdatasync {
    fn name(&self) -> &'static str {
        "fdatasync"
    }

    fn kind(&self) -> Kind {
        Kind::Floor
    }

    fn describe(&self) -> String {
        "one process appends 512 B and calls fdatasync, one at a time".to_string()
    }

    fn missing(&self) -> Option<String> {
        disk().err().map(|why| format!("fdatasync: {why:#}"))
    }

    fn does(&self, work: Work, _: Mode) -> bool {
        work == Work::Durable
    }

    fn start<'a>(&'a self, site: &'a Site) -> Result<Box<dyn Session + 'a>> {
        Ok(Box::new(Running { site }))
    }
}

struct Running<'a> {
    site: &'a Site,
}

impl Session for Running<'_> {
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<Sample> {
        let path = self.site.dir.join("appended");
        let file = File::options().read(true).append(true).create(true).open(&path);
        let file = file.with_context(|| format!("creating {}", path.display()))?;
        let mut writer = Role::fork("writer", &self.site.cpus, patience(budget), |_| {
            let mut log = Log { file: &file, end: 0, last: vec![0; work.size()] };
            call_one_by_one(&mut log, work.size(), budget)
        })?;
        let tallies = wait_done(&mut [&mut writer], &mut [])?;
        Ok(call_sample(tallies[0], work))
    }
}

/// A port whose answer is what stands at the end of the file.
struct Log<'a> {
    file: &'a File,
    end: u64,
    last: Vec<u8>,
}

impl Port for Log<'_> {
    fn put(&mut self, message: &[u8]) -> Result<()> {
        self.file.write_all(message).context("appending")?;
        self.end += message.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.sync_data().context("fdatasync")
    }

    fn take(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        // Read back from the page cache: within the timed span, and nothing beside what it is measured with.
        ensure!(self.end > 0, "nothing was appended: a message was lost");
        let start = self.end - self.last.len() as u64;
        self.file.read_exact_at(&mut self.last, start).context("reading back")?;
        each(&self.last)
    }

    fn echo(&mut self) -> Result<()> {
        bail!("nobody echoes a log: a bug of this bench")
    }
}
