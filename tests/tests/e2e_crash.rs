//! Kill -9 of the daemon, over and over, under producers and consumers in processes of their own, on one
//! state directory. Each keeps a ledger; in the end every acknowledged message is accounted for.
//!
//! `SWITCHBOARD_CRASH_ROUNDS` says how many rounds: few unless told, 200 in CI.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use switchboard::{Board, Level, Overflow};
use switchboard_tests::ledger::{Drained, account, read};
use switchboard_tests::rig::{Daemon, Folder, Syncs, Watchdog, until, worker_program};
use switchboard_transport::random_seed;
use switchboard_transport::spawn::Spawn;

const QUEUE: &str = "crash.jobs";

/// Small segments, so that rounds see them begin, be compacted and go.
const CONFIG: &str = "[limits]\nsegment_bytes = \"64 KiB\"\n";

/// Who pushes and pops while the broker dies.
struct Scene {
    folder: Folder,
    workers: Vec<Worker>,
    dice: u64,
}

struct Worker {
    child: Child,
    ledger: PathBuf,
    consumes: bool,
}

impl Scene {
    /// A broker with a durable queue, and nobody at work yet.
    fn set() -> (Self, Daemon) {
        let folder = Folder::with_config(CONFIG);
        let daemon = folder.start();
        let board = board(&folder);
        let queue = board.create_queue(QUEUE).durability(Level::Disk);
        queue.overflow(Overflow::Block).max_messages(500).create().expect("a new queue");
        let dice = random_seed().expect("random bits")[0] | 1;
        println!("seed {dice}");
        (Self { folder, workers: Vec::new(), dice }, daemon)
    }

    /// Producers of either kind, and consumers.
    fn begin(&mut self) {
        for (kind, name) in [("produce", "a"), ("produce-again", "b"), ("produce-again", "c")] {
            self.start(&[kind], name);
        }
        for name in ["x", "y"] {
            self.start(&["consume"], name);
        }
    }

    fn start(&mut self, kind: &[&str], name: &str) {
        let ledger = self.folder.path(&format!("{name}.ledger"));
        fs::write(&ledger, "").expect("a writable folder");
        let mut spawn = Spawn::new(worker_program());
        let consumes = kind == ["consume"];
        let command = spawn.command().arg(self.folder.socket()).args(kind).arg(QUEUE).arg(&ledger);
        if !consumes {
            command.arg(name);
        }
        command.stdin(Stdio::piped());
        self.workers.push(Worker { child: spawn.spawn().expect("rig-worker starts"), ledger, consumes });
    }

    /// xorshift64: which moment is all it decides.
    fn roll(&mut self, below: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % below
    }

    fn written(&self) -> u64 {
        self.workers.iter().map(|worker| fs::metadata(&worker.ledger).map_or(0, |ledger| ledger.len())).sum()
    }

    /// Waits until the ledgers have grown by so much.
    fn work(&mut self, bytes: u64) {
        let goal = self.written() + bytes;
        until("the workers to go on", || {
            for worker in &mut self.workers {
                let ended = worker.child.try_wait().expect("our child");
                assert!(ended.is_none(), "{} ended: {ended:?}", worker.ledger.display());
            }
            goal <= self.written()
        });
    }

    /// One life of the broker and its death.
    fn round(&mut self, round: u64) {
        if round % 8 == 7 {
            // While it reads its log, or has hardly begun.
            let daemon = self.folder.launch().begin();
            std::thread::sleep(Duration::from_micros(self.roll(60_000)));
            daemon.kill();
            return;
        }
        let daemon = self.folder.start();
        let bytes = self.roll(12_000);
        self.work(bytes);
        std::thread::sleep(Duration::from_micros(self.roll(3_000)));
        let log = daemon.log();
        assert!(!log.contains("ERROR"), "{log}");
        daemon.kill();
    }

    /// Ends everybody, empties the queue, and draws up the account.
    fn account(mut self) -> Vec<String> {
        let _daemon = self.folder.start();
        for worker in &mut self.workers {
            worker.child.stdin.take();
            let _watchdog = Watchdog::new(format!("{} to end", worker.ledger.display()));
            if !worker.consumes {
                // It settles what is under way, for which the consumers make room.
                assert!(worker.child.wait().expect("our child").success(), "{}", worker.ledger.display());
            }
        }
        for worker in self.workers.iter_mut().filter(|worker| worker.consumes) {
            assert!(worker.child.wait().expect("our child").success(), "{}", worker.ledger.display());
        }
        let board = board(&self.folder);
        let queue = board.queue(QUEUE);
        until("the leases of those who left to be given back", || queue.stat().expect("a queue").leased == 0);
        let mut drained = Vec::new();
        while queue.stat().expect("a queue").messages != 0 {
            let leased = queue.pop().expect("one of them");
            let message = std::str::from_utf8(&leased).expect("text").parse().expect("PRODUCER:NUMBER");
            drained.push(Drained { message, position: leased.position() });
            leased.ack().expect("ours");
        }
        let ledgers: Vec<_> = self.workers.iter().map(|worker| read(&worker.ledger)).collect();
        let pushed = ledgers.iter().map(Vec::len).sum::<usize>();
        println!("{pushed} entries in the ledgers, {} messages were left", drained.len());
        account(&ledgers, &drained)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn board(folder: &Folder) -> Board {
    Board::builder().socket(folder.socket()).program("crash").connect().expect("a broker")
}

fn rounds() -> u64 {
    let told = std::env::var("SWITCHBOARD_CRASH_ROUNDS").ok();
    told.map_or(20, |told| told.parse().expect("SWITCHBOARD_CRASH_ROUNDS is a number of rounds"))
}

#[test]
fn whatever_was_acknowledged_survives_kill_9_at_any_moment() {
    let (mut scene, daemon) = Scene::set();
    scene.begin();
    scene.work(2_000);
    daemon.kill();
    (0..rounds()).for_each(|round| scene.round(round));
    assert_eq!(scene.account(), Vec::<String>::new());
}

/// Where the records of a segment begin, and where the good ones end (broker/src/journal/FORMAT.md).
fn records(segment: &[u8]) -> Vec<usize> {
    const HEADER: usize = 64;
    const RECORD_HEADER: usize = 24;
    let mut starts = vec![HEADER];
    let mut at = HEADER;
    while let Some(word) = segment.get(at..at + 4) {
        let length = u32::from_le_bytes(word.try_into().expect("four bytes"));
        // Reserved space, or a mark.
        if length == 0 || 0x8000_0000 <= length {
            break;
        }
        at += RECORD_HEADER + (length as usize).next_multiple_of(8);
        starts.push(at);
    }
    starts
}

/// The segments of the log, oldest first.
fn segments(folder: &Folder) -> Vec<PathBuf> {
    let log = fs::read_dir(folder.path("state/log")).expect("a log");
    let mut segments: Vec<PathBuf> = log.map(|entry| entry.expect("an entry").path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    segments.sort();
    segments
}

/// Takes the later half of its records from a segment, as a disk would that lied about its syncs.
fn forget(segment: &Path) -> usize {
    let starts = records(&fs::read(segment).expect("a segment"));
    let left = starts.len() / 2;
    let file = OpenOptions::new().write(true).open(segment).expect("a segment");
    file.set_len(starts[left] as u64).expect("it can be cut");
    starts.len() - 1 - left
}

#[test]
fn a_log_that_forgets_is_seen_by_the_account() {
    let (mut scene, daemon) = Scene::set();
    scene.begin();
    scene.work(2_000);
    daemon.kill();
    let mut forgotten = 0;
    // A segment that has just begun has little to forget.
    while forgotten < 20 {
        let daemon = scene.folder.start();
        scene.work(6_000);
        daemon.kill();
        forgotten += forget(segments(&scene.folder).last().expect("a segment"));
    }
    let findings = scene.account();
    assert!(!findings.is_empty(), "{forgotten} records were taken from the log, and nobody noticed");
    let kinds = ["is lost", "came again", "more than once", "several positions", "behind it"];
    let is_known = |finding: &String| kinds.iter().any(|kind| finding.contains(kind));
    assert!(findings.iter().any(is_known), "{findings:?}");
}

#[test]
fn the_log_is_synced_between_every_push_and_its_acknowledgement() {
    let (scene, daemon) = Scene::set();
    let board = board(&scene.folder);
    let queue = board.queue(QUEUE);
    queue.push("the handle is open, and the segment begun").expect("pushed");
    let log = fs::canonicalize(scene.folder.path("state/log")).expect("a log");
    let syncs = Syncs::of(daemon.pid(), &log);
    for number in 0..50 {
        let (begun, done) = syncs.count();
        assert_eq!(begun, done, "nothing is under way");
        let pushed = queue.push(format!("push {number}")).expect("pushed");
        assert_eq!(pushed.level, Level::Disk);
        // One that had begun after the push was sent, and was over before its acknowledgement came.
        assert!(done < syncs.count().1, "push {number} was acknowledged without a sync");
    }
    for number in 0..20 {
        let leased = queue.pop().expect("one of them");
        let (_, done) = syncs.count();
        leased.ack().expect("ours");
        assert!(done < syncs.count().1, "ack {number} was acknowledged without a sync");
    }
    board.create_queue("crash.volatile").create().expect("a new queue");
    let volatile = board.queue("crash.volatile");
    let (_, done) = syncs.count();
    for _ in 0..20 {
        volatile.push("in memory").expect("pushed");
    }
    assert_eq!(syncs.count().1, done, "what is in memory costs no sync");
}
