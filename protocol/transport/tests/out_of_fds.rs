//! A full table of open files: alone in its process, because it fills the table.

use std::fs::File;

use switchboard_transport::{AcceptError, BindOptions, Fds, Listener, SpareFds, connect};

#[test]
fn without_free_descriptors_a_spare_one_still_lets_a_peer_be_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s");
    let listener = Listener::bind(&path, BindOptions::default()).expect("bound");
    let mut spare = SpareFds::new(2).expect("descriptors to keep");
    let client = connect(&path).expect("connected");

    let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("lowered");
    let mut hoard: Vec<File> = (0..64).map_while(|_| File::open("/dev/null").ok()).collect();
    assert!(matches!(listener.accept(), Err(AcceptError::OutOfFds)));
    assert!(matches!(listener.accept(), Err(AcceptError::OutOfFds)), "the connection still waits");

    assert!(spare.give_up());
    let (served, _) = listener.accept().expect("accepted").expect("it waited");
    served.send(&[std::io::IoSlice::new(b"full")], &[]).expect("told");
    drop(served);
    assert!(spare.take_back());

    let mut buffer = [0; 8];
    assert_eq!(client.recv_wait(&mut buffer, &mut Fds::new()).expect("received").bytes, 4);
    assert_eq!(client.recv_wait(&mut buffer, &mut Fds::new()).expect("the end").bytes, 0);

    assert!(spare.give_up() && spare.give_up() && !spare.give_up());
    hoard.extend((0..2).map_while(|_| File::open("/dev/null").ok()));
    assert!(!spare.take_back(), "nothing to take back while the table is full");
    drop(hoard);
    assert!(spare.take_back());
}
