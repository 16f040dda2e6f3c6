//! What ten thousand idle connections cost, and that it comes back.

use switchboard_tests::rig::{Bystander, Client, Folder, User, anonymous_bytes, open_files, until};

const CROWD: usize = 10_000;
/// The promise is 1 KiB (DESIGN 11); above it, what an allocator's pages may add.
const BYTES_MAX: u64 = 1_331;

#[test]
fn ten_thousand_idle_connections_cost_a_kibibyte_each_and_give_it_back() {
    let folder = Folder::new();
    let daemon = folder.start();
    let socket = folder.socket();
    let bystander = Bystander::new(&socket);
    let mut observer = Client::new(&socket);
    let (files, alone) = (open_files(daemon.pid()), observer.status());

    let mut peaks = Vec::new();
    for round in 0..6 {
        let before = anonymous_bytes(daemon.pid());
        let mut crowd = User::ourselves().crowd(&socket, CROWD);
        for _ in 0..CROWD {
            let told = crowd.told();
            assert!(told.starts_with("welcome "), "{told}");
        }
        assert_eq!(observer.status().connections as usize, CROWD + alone.connections as usize);
        bystander.goes_on();
        let peak = anonymous_bytes(daemon.pid());
        let each = peak.saturating_sub(before) / CROWD as u64;
        println!(
            "round {round}: {CROWD} idle connections cost the broker {} KiB, {each} bytes each",
            peak.saturating_sub(before) >> 10
        );
        // Later rounds find the memory of the first.
        assert!(each <= BYTES_MAX, "an idle connection costs {each} bytes; at most {BYTES_MAX}");
        peaks.push(peak);
        crowd.leave();
        until("the crowd to be gone", || observer.status().connections == alone.connections);
        until("its descriptors to be closed", || open_files(daemon.pid()) == files);
    }
    // The first rounds bring tables and the allocator to their size; a leak goes on.
    assert!(peaks[5] <= peaks[2] + peaks[2] / 10, "each round costs more than the one before: {peaks:?}");

    let status = observer.status();
    assert_eq!((status.names, status.names_owned), (alone.names, alone.names_owned));
    assert_eq!((status.handles, status.watches), (alone.handles, alone.watches));
    assert_eq!((status.waiting, status.waiting_bytes), (0, 0));
    let unread = status.limits.iter().find(|limit| limit.name == "unread_bytes_max").expect("a limit");
    assert_eq!(unread.used, 0);
    bystander.unharmed();
}
