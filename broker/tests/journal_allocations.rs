//! In steady state a record costs no allocation, neither in the loop nor in the journal's thread.

use std::sync::Arc;

use switchboard_broker::journal::{Journal, Level, Options, Progress};
use switchboard_transport::allocations::{self, CountingAllocator};
use switchboard_transport::{Interest, Poller, Waker};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_record_in_steady_state_allocates_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let waker = Arc::new(Waker::new().expect("a waker"));
    let (mut poller, mut ready) = (Poller::new().expect("a poller"), Vec::with_capacity(8));
    poller.add(&*waker, 0, Interest::READ).expect("watched");
    let options = Options::new().expect("random");
    let opened = Journal::open(folder.path(), options, Arc::clone(&waker), &mut |_| {}).expect("opened");
    let mut journal = opened.journal;
    journal.roll(1);
    let (record, mut last) = ([7; 512], 0);
    let mut run = |turns: u64, per_turn: u64| {
        for _ in 0..turns {
            for _ in 0..per_turn {
                last += 1;
                journal.append(last, &[&record[..100], &record[100..]]);
            }
            journal.want(Level::Disk);
            journal.commit();
            loop {
                match journal.progress() {
                    Some(Progress::Through { synced, .. }) if synced == last => break,
                    Some(Progress::Through { .. }) | None => {}
                    Some(Progress::Failed(failure)) => panic!("{failure}"),
                }
                ready.clear();
                poller.wait(&mut ready, None).expect("waited");
                waker.reset();
            }
        }
    };
    run(20, 100);
    allocations::arm();
    run(200, 100);
    assert_eq!(allocations::disarm(), 0);
}
