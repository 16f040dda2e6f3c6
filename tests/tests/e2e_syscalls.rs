//! What a call costs the broker in system calls: three each way, and none of them twice.

use switchboard_tests::rig::{Client, Folder, Syscalls};

const CALLS: u64 = 1_000;

#[test]
fn a_round_trip_costs_the_broker_six_system_calls() {
    let folder = Folder::new();
    let daemon = folder.start();
    let mut service = Client::new(&folder.socket());
    service.serve("acme.echo").expect("ours to serve");
    let mut caller = Client::new(&folder.socket());
    let handle = caller.open("acme.echo").expect("ours to call").handle;
    std::thread::spawn(move || service.echo_until_the_end());
    let mut round_trips = || {
        for call in 0..CALLS {
            let payload = [call.to_le_bytes(); 8].concat();
            assert_eq!(caller.call(handle, &payload).expect("a reply"), payload);
        }
    };
    round_trips();
    let syscalls = Syscalls::of(daemon.pid());
    round_trips();
    let before = syscalls.count();
    round_trips();
    let each = (syscalls.count() - before) as f64 / CALLS as f64;
    println!("{each} system calls of the broker per round trip");
    assert!(each <= 6.1, "{each} system calls of the broker per round trip");
    assert!(4.0 <= each, "{each} is fewer than it takes: the count is wrong");
}
