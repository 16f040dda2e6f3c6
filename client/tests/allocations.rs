//! In steady state calls of small payloads allocate nothing in the library, on either side. (Large ones use their buffers
//! again, but the broker's queues, which hold nothing while they are idle, take memory for each.)

mod common;

use common::World;
use switchboard_transport::allocations::{self, CountingAllocator};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Allocations of caller and service while `run` makes its calls for the second time. (The broker's
/// thread is counted too: `broker/tests/allocations.rs` promises the same of it.)
fn allocations_of(size: usize, run: impl Fn(&switchboard::Board, &switchboard::Service, &[u8])) -> u64 {
    let world = World::start();
    let _server = world.echo("acme.echo");
    let board = world.board();
    let service = board.service("acme.echo");
    let payload = vec![7; size];
    run(&board, &service, &payload);
    allocations::arm();
    run(&board, &service, &payload);
    allocations::disarm()
}

/// Queues grow to the largest that a run happened to need, which may come late: a few times, not once a
/// call.
const GROWTHS: u64 = CALLS / 200;
const CALLS: u64 = 20_000;

#[test]
fn calls_in_steady_state_allocate_nothing() {
    let count = allocations_of(64, |_, service, payload| {
        for _ in 0..CALLS {
            assert_eq!(service.call(payload).expect("a reply").payload(), payload);
        }
    });
    assert_eq!(count, 0, "one at a time");
    let count = allocations_of(64, |_, service, payload| {
        let mut pipeline = service.pipeline(64).expect("opened");
        for tag in 0..CALLS {
            while pipeline.is_full() {
                pipeline.wait(|_, end| drop(end.expect("a reply"))).expect("up");
            }
            pipeline.submit(tag, payload).expect("submitted");
        }
        while pipeline.open() > 0 {
            pipeline.wait(|_, end| drop(end.expect("a reply"))).expect("up");
        }
    });
    assert!(count <= GROWTHS, "64 in flight: {count} allocations for {CALLS} calls");
    let count = allocations_of(64, |board, service, payload| {
        let mut batch = board.batch();
        for _ in 0..CALLS {
            batch.send(service, payload).expect("sent");
        }
        batch.flush().expect("sent");
        // Behind them, so that they have been worked off.
        service.call(payload).expect("a reply");
    });
    // A frame of a batch holds hundreds of messages, and takes a few allocations on its way.
    assert!(count <= CALLS / 100, "one way: {count} allocations for {CALLS} messages");
}
