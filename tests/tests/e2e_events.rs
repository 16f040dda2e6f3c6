//! Events between real processes: flags are never lost, pulses have an order and an end.

use switchboard_tests::rig::{Folder, until};

#[test]
fn flags_raised_by_many_processes_merge_and_wait_for_who_comes_later() {
    let folder = Folder::new();
    let _daemon = folder.start();
    for bits in ["1", "4", "4", "0x8000000000000000"] {
        folder.must(&["event", "raise", "acme.alarm", bits]);
    }
    assert_eq!(folder.must(&["event", "wait", "acme.alarm", "--mask", "6"]), "4\n");
    assert_eq!(folder.must(&["event", "wait", "acme.alarm"]), "9223372036854775809\n");
    folder.must_not(&["event", "wait", "acme.alarm", "--timeout", "20ms"], "DeadlineExceeded");
    assert_eq!(folder.must(&["list", "--kind", "event"]), "", "nobody holds it, and nothing is in it");
}

#[test]
fn each_flag_goes_to_one_of_those_who_wait_and_a_killed_one_takes_nothing_along() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let waits = || {
        let listed = folder.must(&["describe", "acme.bell", "--json"]);
        listed.split("\"handles\":").nth(1).and_then(|rest| rest.split(',').next()?.parse::<u32>().ok())
    };
    let killed = folder.begin_switchboard(&["event", "wait", "acme.bell"]);
    until("the first one to wait", || folder.switchboard(&["describe", "acme.bell"]).status.success());
    let waiting = folder.begin_switchboard(&["event", "wait", "acme.bell"]);
    until("the second one to wait", || waits() == Some(2));
    killed.kill();
    until("the dead one to be forgotten", || waits() == Some(1));
    folder.must(&["event", "raise", "acme.bell", "2"]);
    let (status, printed, _) = waiting.end();
    assert!(status.success());
    assert_eq!(printed, "2\n");
}

#[test]
fn pulses_come_by_priority_and_those_without_room_are_counted() {
    let folder = Folder::new();
    let _daemon = folder.start();
    folder.must(&["event", "pulse", "acme.pulse", "1", "10"]);
    folder.must(&["event", "pulse", "acme.pulse", "2", "20", "--priority", "3"]);
    let board = switchboard::Board::builder().socket(folder.socket()).connect().expect("a broker");
    let event = board.event("acme.pulse");
    let refused = (0..2_000).filter(|&value| event.pulse(3, value).is_err()).count();
    assert!(0 < refused, "a bounded number of pulses wait");
    folder.must_not(&["event", "pulse", "acme.pulse", "4", "40"], "Busy");
    let taken = folder.switchboard(&["event", "wait", "acme.pulse"]);
    assert_eq!(String::from_utf8_lossy(&taken.stdout), "2\t20\n");
    assert_eq!(String::from_utf8_lossy(&taken.stderr), format!("Lost {} pulses\n", refused + 1));
    assert_eq!(folder.must(&["event", "wait", "acme.pulse"]), "1\t10\n");
}

#[test]
fn what_is_in_an_event_does_not_survive_the_broker() {
    let folder = Folder::new();
    let daemon = folder.start();
    let waiting = folder.begin_switchboard(&["event", "wait", "acme.gone"]);
    until("somebody to wait", || folder.switchboard(&["describe", "acme.gone"]).status.success());
    daemon.kill();
    let (status, _, said) = waiting.end();
    assert_eq!(status.code(), Some(1));
    assert!(said.starts_with("PeerDied: "), "{said}");
}
