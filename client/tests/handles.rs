//! Handles that travel, private services, owners that come and go.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::World;
use switchboard::{Handle, Outcome, Rights, Verb};

const CALL: Rights = Verb::Call.right();

fn call_and_delegate() -> Rights {
    Verb::Call.right() | Verb::Delegate.right()
}

#[test]
fn a_private_service_is_reached_only_through_its_reference() {
    let world = World::start();
    let board = world.board();
    let private = board.private().start(|request| Ok(request.take_payload())).expect("served");
    let reference = private.reference().expect("a reference");
    assert!(private.reference().is_none(), "it is given out once");
    // Handed to a caller in a reply.
    let _door = board
        .serve("acme.door")
        .start(move |_| Ok(switchboard::Response::new("here").handle(reference.pass(CALL))))
        .expect("served");
    let mut reply = world.board().service("acme.door").call("").expect("a reply");
    let handle = reply.take_handles().pop().expect("a handle");
    assert_eq!(handle.rights(), CALL);
    assert_eq!(&handle.service().call("secret").expect("a reply")[..], b"secret");
}

#[test]
fn a_passed_handle_can_be_sent_to_called_narrowed_and_revoked() {
    let world = World::start();
    let (sender, received) = mpsc::channel::<Handle>();
    let _taker = world
        .board()
        .serve("acme.taker")
        .start(move |request| {
            request.take_handles().into_iter().for_each(|handle| drop(sender.send(handle)));
            Ok("")
        })
        .expect("served");
    let (told, messages) = mpsc::channel();
    let _target = world
        .board()
        .serve("acme.target")
        .start(move |request| {
            if request.is_one_way() {
                let _ = told.send(request.payload().to_vec());
            }
            Ok("called")
        })
        .expect("served");
    let board = world.board();
    let target = board.open("acme.target", call_and_delegate()).expect("opened");
    let taker = board.service("acme.taker");
    taker.request().handle(target.pass(CALL)).call().expect("taken");
    let handle = received.recv().expect("a handle");
    assert_eq!(&handle.service().call("").expect("a reply")[..], b"called");
    handle.service().send("one way").expect("sent");
    assert_eq!(messages.recv_timeout(Duration::from_secs(10)).expect("delivered"), b"one way");

    // Without `delegate` it goes no further.
    let narrow = target.narrow(CALL).expect("narrowed");
    let error = taker.request().handle(narrow.pass(CALL)).call().expect_err("no right to pass it on");
    assert_eq!(error.outcome, Outcome::Denied, "{error}");

    target.revoke().expect("revoked");
    let error = handle.service().call("").expect_err("revoked");
    assert_eq!(error.outcome, Outcome::HandleRevoked, "{error}");
    assert_eq!(&target.service().call("").expect("its own stays")[..], b"called");
}

#[test]
fn a_call_scoped_handle_dies_with_its_call() {
    let world = World::start();
    let (sender, received) = mpsc::channel::<Handle>();
    let _taker = world
        .board()
        .serve("acme.taker")
        .start(move |request| {
            let handle = request.take_handles().pop().expect("a handle");
            let during = handle.service().call("during")?;
            let _ = sender.send(handle);
            Ok(during.into_payload())
        })
        .expect("served");
    let _echo = world.echo("acme.echo");
    let board = world.board();
    let target = board.open("acme.echo", call_and_delegate()).expect("opened");
    let taker = board.service("acme.taker");
    let reply = taker.request().handle(target.pass(CALL).call_scoped()).call().expect("a reply");
    assert_eq!(&reply[..], b"during");
    let error = received.recv().expect("a handle").service().call("after").expect_err("dead");
    assert_eq!(error.outcome, Outcome::HandleRevoked, "{error}");
}

#[test]
fn a_service_may_use_the_right_of_its_caller() {
    let world = World::start();
    let _echo = world.echo("acme.echo");
    let _agent = world
        .board()
        .serve("acme.agent")
        .start(|request| {
            let name = String::from_utf8(request.payload().to_vec())?;
            assert_eq!(request.identity()?.pid, std::process::id());
            let handle = request.open_as(&name, CALL)?;
            Ok(handle.service().call("on behalf")?.into_payload())
        })
        .expect("served");
    let reply = world.board().service("acme.agent").call("acme.echo").expect("a reply");
    assert_eq!(&reply[..], b"on behalf");
}

#[test]
fn a_standby_takes_over_and_a_replacement_is_told() {
    let world = World::start();
    let board = world.board();
    let serve = |board: &switchboard::Board| board.serve("acme.one").allow_replacement();
    let first = serve(&board).start(|_| Ok("first")).expect("served");
    let second = serve(&world.board()).start(|_| Ok("second")).expect("standing by");
    assert!(first.is_owner() && !second.is_owner());
    assert_eq!(second.standby(), Some(1));
    let error = world.board().serve("acme.one").do_not_queue().start(|_| Ok("")).expect_err("taken");
    assert_eq!(error.outcome, Outcome::Busy, "{error}");
    let service = world.board().service("acme.one");
    let reply = service.call("").expect("a reply");
    assert_eq!(&reply[..], b"first");

    let third = world.board().serve("acme.one").replace().start(|_| Ok("third")).expect("served");
    assert!(third.is_owner());
    let fenced = service.request().expect_epoch(reply.epoch()).call().expect_err("another owner");
    assert_eq!(fenced.outcome, Outcome::OwnerChanged, "{fenced}");
    assert_eq!(&service.call("").expect("a reply")[..], b"third");
    let replaced = board.events().find(|notice| matches!(notice, switchboard::Notice::OwnerReplaced { .. }));
    assert!(replaced.is_some());

    third.stop();
    assert_eq!(&service.call("").expect("a reply")[..], b"first");
    assert!(board.events().any(|notice| matches!(notice, switchboard::Notice::OwnerGained { .. })));
    assert!(first.is_owner());
}

#[test]
fn a_pool_shares_the_work() {
    let world = World::start();
    let members: Vec<_> = (0..3u8)
        .map(|member| world.board().serve("acme.pool").pool().start(move |_| Ok([member])).expect("served"))
        .collect();
    assert!(members.iter().all(switchboard::Server::is_owner));
    let service = world.board().service("acme.pool");
    let pending: Vec<_> = (0..30).map(|_| service.request().start().expect("started")).collect();
    let mut answered = [0; 3];
    for pending in pending {
        answered[usize::from(pending.wait().expect("a reply")[0])] += 1;
    }
    assert_eq!(answered.iter().sum::<i32>(), 30);
}

#[test]
fn stopping_a_server_gives_its_name_up_at_once() {
    let world = World::start();
    let server = world.echo("acme.echo");
    let service = world.board().service("acme.echo");
    assert!(service.call("x").is_ok());
    server.stop();
    assert_eq!(service.call("x").expect_err("stopped").outcome, Outcome::NoOwner);
    server.wait().expect("stopped well");
    // And again, by another.
    let _again = world.echo("acme.echo");
    assert!(service.call("x").is_ok());
}
