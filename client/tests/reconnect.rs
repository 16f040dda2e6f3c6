//! The broker goes and comes back.

mod common;

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use switchboard::{Board, BoardBuilder, Change, Notice, Outcome, Reconnect};
use switchboard_broker::{Embedded, Options};

use common::patiently;

/// A broker at a place that outlives it.
fn broker(directory: &Path) -> Embedded {
    let options = Options {
        socket: Some(directory.join("switchboard.sock")),
        state_dir: Some(directory.join("state")),
        ..Options::default()
    };
    Embedded::start(&options).expect("a broker")
}

fn builder(directory: &Path) -> BoardBuilder {
    Board::builder().socket(directory.join("switchboard.sock")).program("test")
}

#[test]
fn names_services_and_watches_are_restored_on_a_new_connection() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = broker(directory.path());
    let server = builder(directory.path()).connect().expect("connected").serve("acme.echo");
    let server = server.start(|request| Ok(request.take_payload())).expect("served");
    let board = builder(directory.path()).connect().expect("connected");
    let service = board.service("acme.echo");
    let mut watch = board.watch("acme.**").expect("watching");
    assert_eq!(&service.call("one").expect("a reply")[..], b"one");
    assert!(matches!(watch.next(), Some(Ok(Change::Present(_)))));
    assert!(matches!(watch.next(), Some(Ok(Change::SnapshotEnd))));
    let epoch = server.epoch().expect("an owner");

    drop(first);
    let _second = broker(directory.path());
    // The server comes back by itself; when, nobody can say.
    patiently(|| service.call("two").ok());
    let later = patiently(|| server.epoch());
    assert!(later > epoch, "a later owner has a greater epoch: {later:?} after {epoch:?}");
    let mut seen = Vec::new();
    while !seen.iter().any(|change| matches!(change, Change::Present(_) | Change::Owned(_))) {
        seen.push(watch.next().expect("a change").expect("no error"));
    }
    assert_eq!(seen[0], Change::Restarted, "{seen:?}");
    let notices: Vec<Notice> = std::iter::from_fn(|| board.events().try_next()).collect();
    assert!(matches!(notices.first(), Some(Notice::ShuttingDown)), "{notices:?}");
    assert!(notices.contains(&Notice::Reconnected), "{notices:?}");
}

#[test]
fn open_calls_end_with_peer_died_and_idempotent_ones_are_made_once_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = broker(directory.path());
    let (sender, came) = mpsc::channel();
    let server = builder(directory.path()).connect().expect("connected").serve("acme.slow");
    let _server = server
        .workers(4)
        .start(move |request| {
            let _ = sender.send(());
            // The first time until the connection is lost, the second time not at all.
            if request.epoch().incarnation() == 1 {
                request.wait_cancelled(Duration::from_secs(20));
            }
            Ok("done")
        })
        .expect("served");
    let board = builder(directory.path()).connect().expect("connected");
    let service = board.service("acme.slow");
    std::thread::scope(|scope| {
        let plain = scope.spawn(|| service.call("x"));
        let again = scope.spawn(|| {
            // `NoOwner` while the server is not back yet is an honest answer too.
            service.request().idempotent().call()
        });
        came.recv().expect("the first");
        came.recv().expect("the second");
        drop(first);
        let second = broker(directory.path());
        let error = plain.join().expect("no panic").expect_err("it was open");
        assert!(matches!(error.outcome, Outcome::PeerDied | Outcome::ShuttingDown), "{error}");
        match again.join().expect("no panic") {
            Ok(reply) => assert_eq!(&reply[..], b"done"),
            Err(error) => {
                assert!(matches!(error.outcome, Outcome::NoOwner | Outcome::ShuttingDown), "{error}");
            }
        }
        drop(second);
    });
}

#[test]
fn without_reconnection_a_lost_broker_stays_lost_and_is_told_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = broker(directory.path());
    let board = builder(directory.path()).reconnect(Reconnect::never()).connect().expect("connected");
    let server = board.serve("acme.echo").start(|request| Ok(request.take_payload())).expect("served");
    assert_eq!(&board.service("acme.echo").call("x").expect("a reply")[..], b"x");
    drop(first);
    assert_eq!(server.wait().expect_err("lost").outcome, Outcome::PeerDied);
    let begin = Instant::now();
    let error = board.service("acme.echo").call("x").expect_err("lost");
    assert_eq!(error.outcome, Outcome::PeerDied, "{error}");
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert!(!board.is_connected());
    let error = builder(directory.path()).connect().expect_err("nobody");
    assert!(error.is_unreachable(), "{error}");
}

#[test]
fn a_call_that_finds_no_broker_is_patient_but_not_for_ever() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = broker(directory.path());
    let patience = Duration::from_millis(100);
    let reconnect = Reconnect { patience, ..Reconnect::always() };
    let board = builder(directory.path()).reconnect(reconnect).connect().expect("connected");
    assert!(board.status().is_ok());
    drop(first);
    let error = patiently(|| board.status().err());
    assert!(matches!(error.outcome, Outcome::PeerDied | Outcome::ShuttingDown), "{error}");
    let begin = Instant::now();
    let error = board.status().expect_err("nobody");
    assert_eq!(error.outcome, Outcome::PeerDied, "{error}");
    assert!(begin.elapsed() >= patience);
    let _second = broker(directory.path());
    patiently(|| board.status().ok());
}

#[test]
fn a_board_that_is_closed_ends_its_calls_and_servers() {
    let world = common::World::start();
    let board = world.board();
    let server = board.serve("acme.silent").start_deferred(std::mem::forget).expect("served");
    let pending = board.service("acme.silent").request().start().expect("started");
    board.close();
    assert_eq!(pending.wait().expect_err("closed").outcome, Outcome::PeerDied);
    server.wait().expect("stopped, not lost");
    assert_eq!(board.service("acme.silent").call("").expect_err("closed").outcome, Outcome::PeerDied);
}
