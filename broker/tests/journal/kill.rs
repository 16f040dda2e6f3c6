//! A process that writes a journal, killed at any moment: what it was told is there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use switchboard_broker::journal::{Journal, Layout, Level, Options, Progress};
use switchboard_transport::{Interest, Poller, Waker, spawn};

const DIRECTORY: &str = "SWITCHBOARD_TEST_JOURNAL";

fn options() -> Options {
    Options { layout: Layout { preallocated_bytes: 64 << 10, salt: 4 } }
}

fn record(position: u64) -> Vec<u8> {
    position.to_le_bytes().repeat(1 + position as usize % 100)
}

/// The process that is killed: this test run by the other one. Run by itself it has nothing to do.
#[test]
fn appends_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let waker = Arc::new(Waker::new().expect("a waker"));
    let mut poller = Poller::new().expect("a poller");
    poller.add(&*waker, 0, Interest::READ).expect("watched");
    let opened = Journal::open(Path::new(&directory), options(), Arc::clone(&waker), &mut |_| {});
    let opened = opened.expect("opened");
    let (mut journal, mut next) = (opened.journal, opened.next_position);
    let mut segment = opened.segments.last().map_or(0, |segment| segment.number);
    for turn in 0.. {
        if turn % 50 == 0 {
            segment += 1;
            journal.roll(segment);
        }
        for _ in 0..1 + turn % 7 {
            journal.append(next, &[&record(next)]);
            next += 1;
        }
        journal.want(Level::Disk);
        journal.commit();
        poller.wait(&mut Vec::new(), None).expect("waited");
        waker.reset();
        match journal.progress() {
            Some(Progress::Through { synced, .. }) => println!("synced {synced}"),
            Some(Progress::Failed(failure)) => panic!("{failure}"),
            None => {}
        }
    }
}

#[test]
fn what_was_reported_before_a_kill_is_there_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = std::env::current_exe().expect("this program");
    for life in 0..12 {
        let mut child = spawn::Spawn::new(&program);
        child
            .command()
            .args(["--exact", "kill::appends_until_it_is_killed", "--nocapture"])
            .env(DIRECTORY, folder.path())
            .stdout(Stdio::piped());
        let mut child = child.spawn().expect("spawned");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let synced = |line: String| Some(line.split_once("synced ")?.1.parse::<u64>().expect("a number"));
        let mut reports = lines.filter_map(synced);
        let before = reports.by_ref().nth(20 + life * 17).expect("it goes on until it is killed");
        child.kill().expect("killed");
        child.wait().expect("ended");
        let promised = reports.last().unwrap_or(before);

        let waker = Arc::new(Waker::new().expect("a waker"));
        let mut last = 0;
        let opened = Journal::open(folder.path(), options(), waker, &mut |found| {
            last += 1;
            assert_eq!((found.position, found.bytes), (last, &record(last)[..]));
        });
        let opened = opened.expect("it starts after every death");
        assert!(
            promised <= last && opened.next_position == last + 1,
            "{promised} was promised, {last} is there"
        );
        // Half of the time the next one goes on after a clean end.
        if life % 2 == 0 {
            opened.journal.close().expect("closed");
        }
    }
}
