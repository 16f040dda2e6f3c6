//! Names, watches, and looking into a real broker.

mod common;

use std::time::Duration;

use common::World;
use switchboard::{Change, Outcome, Principal, Verb};

#[test]
fn names_are_listed_described_and_waited_for() {
    let world = World::start();
    let board = world.board();
    let _one = board.serve("acme.one").about("the first").start(|_| Ok("")).expect("served");
    let _two = board.serve("acme.two").pool().start(|_| Ok("")).expect("served");
    let names: Vec<String> = board.list("acme.*").map(|info| info.expect("a name").name).collect();
    assert_eq!(names, ["acme.one", "acme.two"]);
    let described = board.describe("acme.one").expect("described");
    assert_eq!((described.about.as_str(), described.info.program.as_str()), ("the first", "test"));
    assert_ne!(board.wait_for("acme.one", None).expect("there").0, 0);
    let error = board.wait_for("acme.never", Some(Duration::from_millis(30))).expect_err("never");
    assert_eq!(error.outcome, Outcome::DeadlineExceeded);
    let error = board.list("no pattern!").next().expect("an item").expect_err("bad");
    assert_eq!(error.outcome, Outcome::Invalid);
}

#[test]
fn many_names_are_listed_page_by_page() {
    let world = World::start();
    let board = world.board();
    let servers: Vec<_> = (0..40)
        .map(|number| {
            let name = format!("acme.a-rather-long-name-to-fill-pages.number-{number:04}");
            board.serve(&name).start(|_| Ok("")).expect("served")
        })
        .collect();
    assert_eq!(board.list("acme.**").filter_map(Result::ok).count(), servers.len());
}

#[test]
fn a_watch_tells_what_is_there_and_then_what_changes() {
    let world = World::start();
    let board = world.board();
    let _before = board.serve("acme.before").start(|_| Ok("")).expect("served");
    let mut watch = board.watch("acme.**").expect("watching");
    let name = |change: &Change| match change {
        Change::Present(info) | Change::Owned(info) | Change::Gone(info) => info.name.clone(),
        _ => String::new(),
    };
    let change = watch.next().expect("a change").expect("no error");
    assert!(matches!(change, Change::Present(_)) && name(&change) == "acme.before", "{change:?}");
    assert_eq!(watch.next().expect("a change").expect("no error"), Change::SnapshotEnd);
    assert!(watch.next_timeout(Duration::from_millis(10)).is_none());
    let after = board.serve("acme.after").start(|_| Ok("")).expect("served");
    let change = watch.next().expect("a change").expect("no error");
    assert!(matches!(change, Change::Owned(_)) && name(&change) == "acme.after", "{change:?}");
    drop(after);
    let change = watch.next().expect("a change").expect("no error");
    assert!(matches!(change, Change::Gone(_)) && name(&change) == "acme.after", "{change:?}");
    let error = board.watch("bad pattern").expect("asked").next().expect("an item").expect_err("bad");
    assert_eq!(error.outcome, Outcome::Invalid);
}

#[test]
fn the_broker_says_what_it_holds_and_what_policy_says() {
    let world = World::start();
    let board = world.board();
    let status = board.status().expect("status");
    assert_eq!(status.pid, std::process::id());
    assert!(status.connections >= 1 && status.memory_bytes_max > 0);
    assert_eq!(board.identity().expect("identity").program, "test");
    let explained = board.explain(&Principal::default(), Verb::Serve, "acme.x").expect("explained");
    assert!(explained.allowed, "{explained:?}");
    assert!(board.stats().all(|peer| peer.expect("a peer").pid == std::process::id()));
}

#[test]
fn waits_name_who_waits_on_whom() {
    let world = World::start();
    let (sender, requests) = std::sync::mpsc::channel();
    let _server = world.board().serve("acme.slow").start_deferred(move |request| {
        let _ = sender.send(request);
    });
    let board = world.board();
    let pending = board.service("acme.slow").request().start().expect("started");
    let request = requests.recv().expect("it came");
    let waits = world.board().waits().expect("waits");
    assert_eq!(waits.edges.len(), 1, "{waits:?}");
    assert_eq!((waits.edges[0].name.as_str(), waits.edges[0].request), ("acme.slow", request.id()));
    request.reply("");
    pending.wait().expect("a reply");
}

#[test]
fn a_monitor_sees_frames_with_as_much_payload_as_it_asked_for() {
    let world = World::start();
    let _echo = world.echo("acme.echo");
    let board = world.board();
    let mut monitor = board.monitor("acme.**", 4).expect("monitoring");
    // It is in force once the broker has answered something that was asked after it.
    world.board().status().expect("status");
    board.status().expect("status");
    world.board().service("acme.echo").call("long payload").expect("a reply");
    let item =
        monitor.next_timeout(Duration::from_secs(5)).expect("in time").expect("an item").expect("seen");
    assert_eq!(
        (item.name.as_str(), item.payload.as_slice(), item.payload_len),
        ("acme.echo", &b"long"[..], 12)
    );
}
