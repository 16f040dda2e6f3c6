//! From the first start to the last goodbye: what whoever runs the daemon sees of it.

use std::fs;
use std::process::{Output, Stdio};

use switchboard_protocol::{Epoch, Event, GoodbyeReason, Header, Kind, Outcome};
use switchboard_tests::rig::{Client, Folder};
use switchboard_transport::spawn::Signal;

/// What a program that did not start said, and its exit status.
fn said(output: &Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty(), "results go to stdout, complaints do not");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn it_serves_as_soon_as_it_says_so() {
    let folder = Folder::new();
    let daemon = folder.start();
    daemon.logged("listening on");
    let mut service = Client::new(&folder.socket());
    service.serve("acme.upper").expect("ours to serve");
    let mut caller = Client::new(&folder.socket());
    let handle = caller.open("acme.upper").expect("ours to call").handle;
    let call = caller.begin(handle, Header::new(Kind::Call), b"hello");
    let request = service.request();
    assert_eq!((request.payload(), request.caller().1), (&b"hello"[..], std::process::id()));
    service.reply(&request, b"HELLO");
    assert_eq!(caller.outcome(call).expect("a reply"), b"HELLO");
    assert_eq!(caller.status().pid, daemon.pid());
}

#[test]
fn sigterm_tells_everybody_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let daemon = folder.start();
    let mut service = Client::new(&folder.socket());
    service.serve("acme.slow").expect("ours to serve");
    let mut caller = Client::new(&folder.socket());
    let handle = caller.open("acme.slow").expect("ours to call").handle;
    let call = caller.begin(handle, Header::new(Kind::Call), b"");
    service.request();
    let mut mute = Client::silent(&folder.socket());

    assert!(daemon.terminate().success());
    let refused = caller.outcome(call).expect_err("no reply came");
    refused.must_be(Outcome::ShuttingDown, "going down");
    for client in [&mut caller, &mut service] {
        client.event(Event::ShuttingDown);
        client.ended().must_be(GoodbyeReason::ShuttingDown, "going down");
    }
    mute.ended().must_be(GoodbyeReason::ShuttingDown, "going down");
    assert!(!folder.socket().exists(), "the socket is gone");
}

#[test]
fn a_client_that_does_not_read_does_not_keep_it_from_ending() {
    let folder = Folder::new();
    let daemon = folder.start();
    let mut service = Client::new(&folder.socket());
    service.serve("acme.large").expect("ours to serve");
    let mut caller = Client::new(&folder.socket());
    let handle = caller.open("acme.large").expect("ours to call").handle;
    let mut other = Client::new(&folder.socket());
    caller.begin(handle, Header::new(Kind::Call), b"");
    let request = service.request();
    service.reply(&request, &vec![7; 8 << 20]);
    // The broker has the reply, since it reads in order.
    service.status();
    other.status();
    assert!(daemon.terminate().success());
}

#[test]
fn a_second_daemon_says_who_has_the_socket_and_hurts_nobody() {
    let folder = Folder::new();
    let daemon = folder.start();
    let mut client = Client::new(&folder.socket());

    let other_state = folder.path("other-state").display().to_string();
    let (status, text) = said(&folder.launch().arg("--state-dir").arg(other_state).run());
    assert_eq!(status, Some(1), "{text}");
    let pid = daemon.pid();
    for part in [format!("process {pid}"), folder.socket().display().to_string()] {
        assert!(text.contains(&part), "{part:?} is missing: {text}");
    }

    let other_socket = folder.path("other.sock");
    let (status, text) = said(&folder.launch().arg("--socket").arg(other_socket.display().to_string()).run());
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains(&format!("process {pid}")) && text.contains("--state-dir"), "{text}");
    assert!(!other_socket.exists(), "nothing was made for it");

    client.status();
    Client::new(&folder.socket());
}

#[test]
fn a_stale_socket_is_recovered_and_epochs_grow_over_restarts() {
    let folder = Folder::new();
    let mut last = Epoch(0);
    for round in 0..4 {
        let daemon = folder.start();
        let mut service = Client::new(&folder.socket());
        let served = service.serve("acme.fenced").expect("ours to serve");
        let epoch = Epoch(served.epoch);
        assert!(last.incarnation() < epoch.incarnation() && last < epoch, "{last:?}, then {epoch:?}");
        assert_eq!(service.welcome().incarnation, epoch.incarnation());
        last = epoch;
        if round % 2 == 0 {
            daemon.kill();
            assert!(folder.socket().exists(), "kill -9 leaves the socket");
            assert_eq!(service.ended().reason, None, "nobody was left to say goodbye");
        } else {
            assert!(daemon.terminate().success());
        }
    }
}

#[test]
fn what_is_no_socket_is_not_touched() {
    let folder = Folder::new();
    fs::write(folder.socket(), "somebody's file").expect("writable");
    let (status, text) = said(&folder.launch().run());
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("switchboard.sock"), "{text}");
    assert_eq!(fs::read_to_string(folder.socket()).expect("still there"), "somebody's file");
}

#[test]
fn a_damaged_state_is_an_alarm_and_not_a_guess() {
    let folder = Folder::new();
    drop(folder.start());
    fs::write(folder.path("state/incarnation"), "many").expect("writable");
    let (status, text) = said(&folder.launch().run());
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("incarnation") && text.contains("many"), "{text}");
}

#[test]
fn configuration_can_be_checked_without_a_start() {
    let folder = Folder::with_config("[limits]\nnames_max = 1000\n");
    let output = folder.launch().arg("--check").run();
    assert!(output.status.success(), "{output:?}");
    assert!(!folder.socket().exists() && !folder.path("state").exists(), "a check makes nothing");
}

#[test]
fn wrong_configuration_exits_2_and_points_at_every_mistake() {
    let folder = Folder::with_config("log = \"info\"\n[limits]\nnames_maxi = 1000\n\n  nonsense_max = 3\n");
    for launch in [folder.launch(), folder.launch().arg("--check")] {
        let (status, text) = said(&launch.run());
        assert_eq!(status, Some(2), "{text}");
        for place in ["switchboard.toml:3:1", "switchboard.toml:5:3", "names_max"] {
            assert!(text.contains(place), "{place} is missing: {text}");
        }
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn wrong_usage_exits_2_and_says_what_was_expected() {
    let folder = Folder::new();
    for (argument, expected) in [("--sockets", "--socket"), ("--log=loudly", "error, warn, info")] {
        let (status, text) = said(&folder.launch().arg(argument).run());
        assert_eq!(status, Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_good_reload_is_in_force_and_a_bad_one_leaves_the_old() {
    let folder = Folder::with_config("[limits]\npayload_bytes_max = \"2 KiB\"\n");
    let mut daemon = folder.start();
    let mut service = Client::new(&folder.socket());
    service.serve("acme.echo").expect("ours to serve");
    let mut caller = Client::new(&folder.socket());
    let handle = caller.open("acme.echo").expect("ours to call").handle;
    std::thread::spawn(move || service.echo_until_the_end());
    let small = caller.call(handle, &[1; 3_000]).expect_err("over the limit");
    small.must_be(Outcome::TooLarge, "limits.payload_bytes_max");

    folder.write_config("[limits]\npayload_bytes_max = \"4 KiB\"\n");
    assert!(daemon.reload().contains("in force"));
    assert_eq!(caller.call(handle, &[1; 3_000]).expect("within the new limit").len(), 3_000);

    folder.write_config("[limits]\npayload_bytes_max = \"1 KiB\"\nno_such_limit = 1\n");
    assert!(daemon.reload().contains("the old one stays in force"));
    daemon.logged("the old one stays in force");
    daemon.logged("switchboard.toml:3:1");
    assert_eq!(caller.call(handle, &[1; 3_000]).expect("within the old limit").len(), 3_000);

    fs::remove_file(folder.config()).expect("there");
    let told = daemon.reload();
    assert!(told.contains("the old one stays in force"), "a missing file is not an empty one: {told}");
    folder.write_config("");
    assert!(daemon.reload().contains("in force"));
    assert_eq!(Client::new(&folder.socket()).welcome().payload_bytes_max, 16 << 20);
}

#[test]
fn sighups_in_a_row_are_all_survived() {
    let folder = Folder::new();
    let mut daemon = folder.start();
    (0..50).for_each(|_| daemon.signal(Signal::HUP));
    daemon.reload();
    Client::new(&folder.socket()).status();
    assert!(daemon.is_running());
}

#[test]
fn a_log_that_nobody_can_write_stops_nothing() {
    let folder = Folder::with_config("log = \"trace\"\n");
    let full_disk = fs::OpenOptions::new().write(true).open("/dev/full").expect("a Linux system");
    let (read_end, closed_pipe) = std::io::pipe().expect("a pipe");
    drop(read_end);
    for stderr in [Stdio::from(full_disk), Stdio::from(closed_pipe)] {
        let mut daemon = folder.launch().stderr(stderr).start();
        for _ in 0..200 {
            let mut broken = Client::new(&folder.socket());
            broken.send_bytes(&[0xff; 64]);
            broken.ended().must_be(GoodbyeReason::BadFrame, "kind");
        }
        folder.write_config("nonsense = 1");
        assert!(daemon.reload().contains("the old one stays in force"));
        folder.write_config("log = \"trace\"\n");
        Client::new(&folder.socket()).status();
        assert!(daemon.terminate().success());
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing_and_its_gaps_are_counted() {
    let folder = Folder::with_config("log = \"debug\"\n");
    let (mut read_end, full_pipe) = std::io::pipe().expect("a pipe");
    let daemon = folder.launch().stderr(full_pipe).start();
    // Each leaves two lines: more than a pipe and the daemon's own queue hold.
    for _ in 0..4_000 {
        Client::new(&folder.socket()).status();
    }
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut read_end, &mut text)
            .map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    Client::new(&folder.socket()).status();
    assert!(daemon.terminate().success());
    let text = reader.join().expect("the reader").expect("a pipe");
    assert!(text.contains("log lines were dropped"), "{} bytes of log, and no word of the rest", text.len());
}
