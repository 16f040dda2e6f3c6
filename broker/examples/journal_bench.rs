//! How many records a second come to the disk through the journal, next to one write and one fdatasync
//! after the other. `journal_bench [DIRECTORY] [ROUNDS]`: rounds alternate between the floor and 1, 64 and
//! 256 records in flight, and the medians are shown. In flight means: appended, and the next one follows
//! when it was reported synced, each record by itself as a client would.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard_broker::journal::{Journal, Level, Options, Progress};
use switchboard_transport::{Interest, Poller, Waker, preallocate};

const RECORD: [u8; 512] = [7; 512];
const ROUND: Duration = Duration::from_millis(500);
const IN_FLIGHT: [u64; 3] = [1, 64, 256];

fn main() {
    let mut words = std::env::args().skip(1);
    let directory = words.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let rounds: usize = words.next().map_or(7, |rounds| rounds.parse().expect("ROUNDS is a number"));
    let folder = tempfile::tempdir_in(&directory).expect("a folder");
    let mut floors = Vec::new();
    let mut rates = IN_FLIGHT.map(|_| Vec::new());
    for round in 0..rounds {
        floors.push(floor(&folder.path().join(format!("floor{round}"))));
        for (rates, in_flight) in rates.iter_mut().zip(IN_FLIGHT) {
            rates.push(journal(&folder.path().join(format!("journal{round}-{in_flight}")), in_flight));
        }
    }
    let floor = median(&mut floors);
    println!("one fdatasync at a time: {floor:.0}/s ({:.0} us)", 1e6 / floor);
    for (rates, in_flight) in rates.iter_mut().zip(IN_FLIGHT) {
        let rate = median(rates);
        println!("journal, {in_flight} in flight: {rate:.0}/s, {:.1} x the floor", rate / floor);
    }
}

/// Records a second by a write and a sync for each, into a file laid out like a segment.
fn floor(path: &Path) -> f64 {
    let file = OpenOptions::new().write(true).create_new(true).open(path).expect("a new file");
    preallocate(&file, 64 << 20).expect("space");
    file.sync_all().expect("synced");
    let (begin, mut count) = (Instant::now(), 0);
    while begin.elapsed() < ROUND {
        file.write_all_at(&RECORD, count * 512).expect("written");
        file.sync_data().expect("synced");
        count += 1;
    }
    count as f64 / begin.elapsed().as_secs_f64()
}

/// Records a second with so many in flight.
fn journal(directory: &Path, in_flight: u64) -> f64 {
    let waker = Arc::new(Waker::new().expect("a waker"));
    let mut poller = Poller::new().expect("a poller");
    poller.add(&*waker, 0, Interest::READ).expect("watched");
    let options = Options::new().expect("random");
    let opened = Journal::open(directory, options, Arc::clone(&waker), &mut |_| {}).expect("opened");
    let mut journal = opened.journal;
    journal.roll(1);
    let (mut last, mut synced, mut segment, mut in_segment) = (0, 0, 1, 0);
    let begin = Instant::now();
    while begin.elapsed() < ROUND {
        for _ in last - synced..in_flight {
            if in_segment == 100_000 {
                segment += 1;
                in_segment = 0;
                journal.roll(segment);
            }
            in_segment += 1;
            last += 1;
            journal.append(last, &[&RECORD]);
        }
        journal.want(Level::Disk);
        journal.commit();
        poller.wait(&mut Vec::new(), None).expect("waited");
        waker.reset();
        match journal.progress() {
            Some(Progress::Through { synced: now, .. }) => synced = now,
            Some(Progress::Failed(failure)) => panic!("{failure}"),
            None => {}
        }
    }
    let rate = synced as f64 / begin.elapsed().as_secs_f64();
    journal.close().expect("closed");
    rate
}

fn median(of: &mut [f64]) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
