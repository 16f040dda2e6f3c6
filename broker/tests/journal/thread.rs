//! The journal's thread, over a real directory and over disks that wait, fail and panic.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use switchboard_broker::journal::{
    Disk, FileId, Journal, JournalError, Layout, Level, Opened, Options, Progress, SimDisk, recover,
};
use switchboard_transport::{Interest, Poller, Waker};

const LAYOUT: Layout = Layout { preallocated_bytes: 4096, salt: 1 };

/// Waits until there is news.
struct Watch {
    waker: Arc<Waker>,
    poller: Poller,
}

impl Watch {
    fn new() -> Self {
        let waker = Arc::new(Waker::new().expect("a waker"));
        let poller = Poller::new().expect("a poller");
        poller.add(&*waker, 0, Interest::READ).expect("watched");
        Self { waker, poller }
    }

    fn news(&mut self, journal: &mut Journal) -> Progress {
        loop {
            if let Some(progress) = journal.progress() {
                return progress;
            }
            self.poller.wait(&mut Vec::new(), None).expect("waited");
            self.waker.reset();
        }
    }

    fn until_synced(&mut self, journal: &mut Journal, position: u64) {
        loop {
            match self.news(journal) {
                Progress::Through { synced, .. } if synced >= position => return,
                Progress::Through { .. } => {}
                Progress::Failed(failure) => panic!("{failure}"),
            }
        }
    }

    fn failure(&mut self, journal: &mut Journal) -> String {
        loop {
            if let Progress::Failed(failure) = self.news(journal) {
                return failure.to_string();
            }
        }
    }

    fn start<D: Disk<File: Send> + Send + 'static>(&self, disk: D) -> Journal {
        let recovery = recover(disk, LAYOUT, &mut |_| {}).expect("a good disk");
        Journal::start(recovery, None, Arc::clone(&self.waker)).expect("a thread").journal
    }
}

fn record(position: u64) -> Vec<u8> {
    format!("record {position}").into_bytes().repeat(1 + position as usize % 50)
}

#[test]
fn a_journal_in_a_directory_is_what_was_appended_through_several_segments() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("state/journal");
    let mut watch = Watch::new();
    let mut next = 1;
    for life in 0..4 {
        let mut records = Vec::new();
        let options = Options { layout: LAYOUT };
        let opened = Journal::open(&directory, options, Arc::clone(&watch.waker), &mut |record| {
            records.push((record.position, record.bytes.to_vec()));
        });
        let Opened { mut journal, next_position, segments, cut } = opened.expect("opened");
        assert_eq!((next_position, cut), (next, None));
        let oldest = segments.first().map_or(1, |segment| segment.first_position);
        assert_eq!(records, (oldest..next).map(|at| (at, record(at))).collect::<Vec<_>>());
        let last = segments.last().map_or(0, |segment| segment.number);
        journal.roll(last + 1);
        for _ in 0..300 {
            journal.append(next, &[&record(next)[..3], &record(next)[3..]]);
            next += 1;
            journal.want(Level::Disk);
            journal.commit();
        }
        if life > 1 {
            journal.drop_segment(segments[0].number);
            journal.commit();
        }
        watch.until_synced(&mut journal, next - 1);
        assert!(watch.waker_is_quiet_or_there_is_no_news(&mut journal));
        if life % 2 == 0 {
            journal.close().expect("closed");
        }
    }
    let mut names: Vec<String> = std::fs::read_dir(&directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("Unicode"))
        .collect();
    names.sort();
    assert_eq!(names, ["0000000003.log", "0000000004.log", "lock"]);
}

impl Watch {
    /// After everything was reported only the end of the last batch may still be, without news.
    fn waker_is_quiet_or_there_is_no_news(&mut self, journal: &mut Journal) -> bool {
        self.waker.reset();
        journal.progress().is_none()
    }
}

#[test]
fn a_directory_in_use_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let waker = Arc::new(Waker::new().expect("a waker"));
    let open = || {
        Journal::open(folder.path(), Options { layout: LAYOUT }, Arc::clone(&waker), &mut |_| {})
            .map(|opened| opened.journal)
    };
    let first = open().expect("free");
    let error = open().expect_err("held");
    assert!(matches!(error, JournalError::Held { .. }), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(first);
    assert!(open().is_ok());
}

#[test]
fn what_nobody_waits_for_to_be_on_the_disk_is_written_and_not_synced() {
    let mut watch = Watch::new();
    let mut journal = watch.start(SimDisk::new(1));
    journal.roll(1);
    journal.append(1, &[b"os"]);
    journal.want(Level::Os);
    journal.commit();
    assert_eq!(watch.news(&mut journal), Progress::Through { written: 1, synced: 0 });
    journal.append(2, &[b"disk"]);
    journal.want(Level::Disk);
    journal.commit();
    watch.until_synced(&mut journal, 2);
    journal.close().expect("closed");
}

#[test]
fn a_failure_is_told_once_with_file_and_reason_and_nothing_is_kept_after_it() {
    let mut watch = Watch::new();
    let mut disk = SimDisk::new(1);
    disk.faults.fail_sync_at = Some(disk.syncs() + 3);
    let mut journal = watch.start(disk);
    journal.roll(1);
    journal.append(1, &[b"x"]);
    journal.want(Level::Disk);
    journal.commit();
    let failure = watch.failure(&mut journal);
    assert!(failure.starts_with("cannot sync /sim/0000000001.log: "), "{failure}");
    assert!(failure.contains("Input/output error"), "{failure}");
    for position in 2..100 {
        journal.append(position, &[&[7; 1000]]);
        journal.want(Level::Disk);
        journal.commit();
        assert_eq!(journal.progress(), None, "said once");
    }
    assert!(journal.bytes_pending() <= 32, "{}", journal.bytes_pending());
    assert_eq!(journal.close().expect_err("failed").to_string(), failure);
}

#[test]
fn a_full_disk_says_so() {
    let mut watch = Watch::new();
    let mut disk = SimDisk::new(1);
    disk.faults.capacity = 5000;
    let mut journal = watch.start(disk);
    journal.roll(1);
    journal.append(1, &[&[7; 6000]]);
    journal.want(Level::Disk);
    journal.commit();
    let failure = watch.failure(&mut journal);
    assert!(failure.contains("cannot write /sim/0000000001.log: No space left on device"), "{failure}");
}

/// A disk whose syncs say that they have begun, and wait until they may end.
struct Gate {
    disk: SimDisk,
    begun: SyncSender<(u64, u64)>,
    may_end: Receiver<()>,
}

impl Disk for Gate {
    type File = FileId;

    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }
    fn list(&mut self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn open(&mut self, name: &str) -> io::Result<FileId> {
        self.disk.open(name)
    }
    fn create(&mut self, name: &str) -> io::Result<FileId> {
        self.disk.create(name)
    }
    fn length(&mut self, file: &FileId) -> io::Result<u64> {
        self.disk.length(file)
    }
    fn read_at(&mut self, file: &FileId, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(file, offset, to)
    }
    fn write_at(&mut self, file: &FileId, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.windows(4).any(|word| word == b"BUG!"), "planted");
        self.disk.write_at(file, offset, bytes)
    }
    fn set_length(&mut self, file: &FileId, length: u64) -> io::Result<()> {
        self.disk.set_length(file, length)
    }
    fn preallocate(&mut self, file: &FileId, length: u64) -> io::Result<()> {
        self.disk.preallocate(file, length)
    }
    fn sync(&mut self, file: &FileId) -> io::Result<()> {
        // Whoever lets it go on may have left; then it need not wait.
        if self.begun.send((self.disk.writes(), self.disk.syncs())).is_ok() {
            let _ = self.may_end.recv();
        }
        self.disk.sync(file)
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        self.disk.sync_directory()
    }
}

#[test]
fn what_gathers_in_many_turns_during_a_sync_is_one_write_and_one_sync() {
    let mut watch = Watch::new();
    let (begun, begins) = sync_channel(0);
    let (end, may_end) = sync_channel(1);
    let mut journal = watch.start(Gate { disk: SimDisk::new(1), begun, may_end });
    journal.roll(1);
    journal.append(1, &[b"first"]);
    journal.want(Level::Disk);
    journal.commit();
    // The header's.
    begins.recv().expect("begun");
    end.send(()).expect("it waits");
    let (writes, syncs) = begins.recv().expect("begun");
    for position in 2..=1000 {
        journal.append(position, &[b"while it waits"]);
        journal.want(Level::Disk);
        journal.commit();
    }
    assert!(journal.bytes_pending() >= 999 * 40);
    end.send(()).expect("it waits");
    assert_eq!(begins.recv().expect("begun"), (writes + 1, syncs + 1));
    end.send(()).expect("it waits");
    watch.until_synced(&mut journal, 1000);
    drop((begins, end));
    journal.close().expect("closed");
}

#[test]
fn a_thread_that_panics_is_a_failure_and_not_a_silence() {
    let mut watch = Watch::new();
    let (begun, begins) = sync_channel(0);
    let (_end, may_end) = sync_channel(1);
    drop(begins);
    let mut journal = watch.start(Gate { disk: SimDisk::new(1), begun, may_end });
    journal.roll(1);
    journal.append(1, &[b"BUG!"]);
    journal.commit();
    assert!(watch.failure(&mut journal).contains("met a bug"));
    for position in 2..10 {
        journal.append(position, &[b"x"]);
        journal.commit();
    }
    assert!(journal.close().is_err());
}
