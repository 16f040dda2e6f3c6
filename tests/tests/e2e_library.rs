//! The library over a broker that is killed and started again.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use switchboard::{Board, Notice, Outcome, Reconnect};
use switchboard_protocol::{Header, Kind};
use switchboard_tests::rig::{Client, Folder, PATIENCE, User, Watchdog, middle_program};

/// Patient enough for a machine that is busy with other tests.
fn board(folder: &Folder) -> (Board, Receiver<Notice>) {
    let (sender, notices) = channel();
    let reconnect = Reconnect { patience: PATIENCE, ..Reconnect::always() };
    let board = Board::builder()
        .socket(folder.socket())
        .reconnect(reconnect)
        .no_timeout()
        // Nobody may listen any more when the last one comes.
        .on_notice(move |notice| drop(sender.send(notice.clone())))
        .connect()
        .expect("a broker");
    (board, notices)
}

fn heard(notices: &Receiver<Notice>, what: &str, wanted: impl Fn(&Notice) -> bool) -> Notice {
    loop {
        let notice =
            notices.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("waiting for {what}: {error}"));
        if wanted(&notice) {
            return notice;
        }
    }
}

#[test]
fn calls_in_flight_are_told_that_the_broker_died_and_names_come_back_with_the_next_one() {
    let folder = Folder::new();
    let daemon = folder.start();
    let (serving, served_notices) = board(&folder);
    let (entered, in_handler) = channel();
    let server = serving
        .serve("acme.kept")
        .workers(8)
        .start(move |request| {
            if request.payload() == b"stay" {
                entered.send(()).expect("the test listens");
                request.wait_cancelled(PATIENCE);
            }
            Ok(request.payload().to_vec())
        })
        .expect("ours to serve");
    let (calling, _notices) = board(&folder);
    let service = calling.service("acme.kept");
    assert_eq!(service.call(b"before").expect("a reply").payload(), b"before");
    let first_epoch = server.epoch().expect("an owner");

    let pending: Vec<_> =
        (0..5).map(|_| service.request().payload(b"stay").start().expect("on its way")).collect();
    let blocked: Vec<_> = (0..2)
        .map(|_| {
            let service = service.clone();
            std::thread::spawn(move || service.call(b"stay"))
        })
        .collect();
    (0..7).for_each(|_| in_handler.recv_timeout(PATIENCE).expect("a request in its handler"));
    daemon.kill();
    let _watchdog = Watchdog::new("the library to notice what happens to the broker");
    for pending in pending {
        let error = pending.wait().expect_err("nobody can answer");
        assert_eq!(error.outcome, Outcome::PeerDied, "{error}");
    }
    for blocked in blocked {
        let error = blocked.join().expect("a thread").expect_err("nobody can answer");
        assert_eq!(error.outcome, Outcome::PeerDied, "{error}");
    }

    let _daemon = folder.start();
    heard(&served_notices, "a new connection", |notice| matches!(notice, Notice::Reconnected));
    let epoch = calling.wait_for("acme.kept", Some(PATIENCE)).expect("it comes back");
    assert!(first_epoch < epoch && first_epoch.incarnation() < epoch.incarnation());
    assert_eq!(service.call(b"after").expect("a reply").payload(), b"after");
    assert!(server.is_owner());
}

#[test]
fn a_call_that_may_be_repeated_survives_the_broker() {
    let folder = Folder::new();
    let daemon = folder.start();
    let (calling, _notices) = board(&folder);
    let mut service = Client::new(&folder.socket());
    service.serve("acme.twice").expect("ours to serve");
    let call = std::thread::spawn(move || {
        calling.service("acme.twice").request().payload(b"once more").idempotent().call()
    });
    assert_eq!(service.request().payload(), b"once more");
    daemon.kill();
    let _daemon = folder.start();
    let mut service = Client::new(&folder.socket());
    service.serve("acme.twice").expect("ours to serve");
    std::thread::spawn(move || service.echo_until_the_end());
    let _watchdog = Watchdog::new("the repeated call");
    match call.join().expect("a thread") {
        Ok(reply) => assert_eq!(reply.payload(), b"once more"),
        // The caller was faster than the service.
        Err(error) => assert_eq!(error.outcome, Outcome::NoOwner, "{error}"),
    }
}

/// Kills and ends the daemon under a process that serves; its names must be there again each time.
fn names_come_back(words: &[&str], name: &str, last: &str) {
    let folder = Folder::new();
    let mut daemon = folder.start();
    let _middle = User::ourselves().run(&middle_program(), &folder.socket(), words);
    // Whose first attempt to serve a name meets a broker that dies is told so, and gives up.
    Client::new(&folder.socket()).wait_for(last).expect("served");
    for kill in [true, false, true] {
        let mut caller = Client::new(&folder.socket());
        let mut leaf = Client::new(&folder.socket());
        leaf.serve("leaf.it").expect("ours to serve");
        caller.wait_for(name).expect("served again");
        let handle = caller.open(name).expect("ours to call").handle;
        let call = caller.begin(handle, Header::new(Kind::Call), b"");
        let request = leaf.request();
        leaf.reply(&request, b"still there");
        assert_eq!(caller.outcome(call).expect("a reply"), b"still there");
        if kill {
            daemon.kill();
        } else {
            assert!(daemon.terminate().success());
        }
        daemon = folder.start();
    }
}

#[test]
fn the_names_of_another_process_come_back_by_themselves() {
    names_come_back(&["threads"], "middle.direct", "middle.deferred");
}

#[test]
fn and_so_do_those_that_tasks_serve() {
    names_come_back(&["tasks"], "middle.await", "middle.bare.task");
}

#[test]
fn without_reconnection_a_lost_broker_is_lost() {
    let folder = Folder::new();
    let daemon = folder.start();
    let board = Board::builder()
        .socket(folder.socket())
        .reconnect(Reconnect::never())
        .timeout(Duration::from_secs(60))
        .connect()
        .expect("a broker");
    let server = board.serve("acme.once").start(|_| Ok("")).expect("ours to serve");
    daemon.kill();
    let _watchdog = Watchdog::new("a server to end with its broker");
    let error = server.wait().expect_err("the connection is lost");
    assert_eq!(error.outcome, Outcome::PeerDied, "{error}");
    let _daemon = folder.start();
    let error = board.service("acme.once").call("").expect_err("lost for good");
    assert_eq!(error.outcome, Outcome::PeerDied, "{error}");
    assert!(!board.is_connected());
}
