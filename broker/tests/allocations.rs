//! In steady state the broker allocates nothing per call.

mod common;

use common::Client;
use switchboard_broker::{Embedded, Options};
use switchboard_protocol::Kind;
use switchboard_transport::allocations::{self, CountingAllocator};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Calls of `size` bytes with `in_flight` of them open at once: allocations of the broker's thread.
fn allocations_of(calls: u64, in_flight: u64, size: usize) -> u64 {
    let broker = Embedded::start(&Options::default()).expect("a broker");
    allocations::exempt_this_thread();
    let (mut server, _) = Client::new(broker.socket());
    let (mut client, _) = Client::new(broker.socket());
    server.serve("acme.echo");
    let handle = client.open("acme.echo");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            allocations::exempt_this_thread();
            let mut payload = Vec::new();
            while server.echo(&mut payload) {}
        });
        let (request, mut reply) = (vec![7; size], Vec::new());
        let mut run = |calls: u64| {
            for call in 0..calls + in_flight {
                if call >= in_flight {
                    let header = client.next_into(&mut reply).expect("a reply");
                    assert_eq!((header.kind, reply.len()), (Kind::Reply, size));
                }
                if call < calls {
                    client.call(handle, call % in_flight, &request);
                }
            }
        };
        run(calls / 4);
        allocations::arm();
        run(calls);
        let count = allocations::disarm();
        // The server's loop ends with its connection, and that with the broker.
        drop(broker);
        count
    })
}

#[test]
fn a_call_in_steady_state_allocates_nothing() {
    assert_eq!(allocations_of(10_000, 1, 64), 0, "one at a time");
    assert_eq!(allocations_of(10_000, 1, 10_000), 0, "10 000 bytes");
    assert_eq!(allocations_of(10_000, 64, 64), 0, "64 in flight");
}
