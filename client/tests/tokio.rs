//! The tokio driver against a real broker.
#![cfg(feature = "tokio")]

mod common;

use std::time::Duration;

use common::World;
use switchboard::tokio::Board;
use switchboard::{Change, Outcome};

async fn board(world: &World) -> Board {
    Board::connect_with(world.builder()).await.expect("connected")
}

#[tokio::test]
async fn tasks_call_and_serve_over_one_connection() {
    let world = World::start();
    let board = board(&world).await;
    let server = board.serve("acme.echo").start(|mut request| async move { Ok(request.take_payload()) });
    let server = server.await.expect("served");
    assert!(server.is_owner());
    let calls: Vec<_> = (0..100u32)
        .map(|number| {
            let service = board.service("acme.echo");
            tokio::spawn(async move {
                for round in 0..20u32 {
                    let payload = (u64::from(number) << 32 | u64::from(round)).to_le_bytes();
                    assert_eq!(&service.call(payload).await.expect("a reply")[..], payload);
                }
            })
        })
        .collect();
    for call in calls {
        call.await.expect("no panic");
    }
    server.stop().await;
    server.wait().await.expect("stopped");
    let error = board.service("acme.echo").call("x").await.expect_err("nobody");
    assert_eq!(error.outcome, Outcome::NoOwner);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_future_that_is_dropped_cancels_its_call() {
    let world = World::start();
    let board = board(&world).await;
    let (sender, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
    let _server = board
        .serve("acme.silent")
        .start(move |request| {
            let sender = sender.clone();
            async move {
                let _ = sender.send(None);
                let _ = sender.send(Some(request.until_cancelled().await));
                Ok("late")
            }
        })
        .await
        .expect("served");
    let service = board.service("acme.silent");
    {
        let call = service.call("x");
        tokio::pin!(call);
        tokio::select! {
            _ = &mut call => panic!("nobody answers"),
            started = outcomes.recv() => assert_eq!(started, Some(None)),
        }
    }
    assert_eq!(outcomes.recv().await, Some(Some(Outcome::Cancelled)));
    let error = service.request().timeout(Duration::from_millis(30)).call().await.expect_err("too late");
    assert_eq!(error.outcome, Outcome::DeadlineExceeded);
}

#[tokio::test]
async fn a_panicking_task_fails_one_call() {
    let world = World::start();
    let board = board(&world).await;
    let _server = board
        .serve("acme.picky")
        .start(|request| async move {
            assert!(request.payload() != b"bad", "not this");
            Ok("fine")
        })
        .await
        .expect("served");
    let service = board.service("acme.picky");
    let error = service.call("bad").await.expect_err("panicked");
    assert!(error.outcome == Outcome::Failed && error.message().contains("not this"), "{error}");
    assert_eq!(&service.call("good").await.expect("a reply")[..], b"fine");
}

#[tokio::test]
async fn nested_calls_inherit_in_spawned_tasks_too() {
    let world = World::start();
    let board = board(&world).await;
    let _inner = board
        .serve("acme.inner")
        .start(|request| async move { Ok([request.priority(), u8::from(request.time_left().is_some())]) })
        .await
        .expect("served");
    let inner = board.service("acme.inner");
    let _outer = board
        .serve("acme.outer")
        .start(move |_| {
            let inner = inner.clone();
            async move {
                tokio::task::yield_now().await;
                let spawned = inner.clone();
                let task =
                    switchboard::tokio::spawn(async move { spawned.request().no_timeout().call().await });
                let there = task.await??;
                let here = inner.request().no_timeout().call().await?;
                assert_eq!(here[..], there[..]);
                Ok(here.into_payload())
            }
        })
        .await
        .expect("served");
    let reply = board.service("acme.outer").request().priority(3).call().await.expect("a reply");
    assert_eq!(&reply[..], [3, 1]);
}

#[tokio::test]
async fn items_stream_as_they_are_taken() {
    let world = World::start();
    let board = board(&world).await;
    let _server = board
        .serve("acme.count")
        .start(|request| async move {
            for number in 0..500u32 {
                request.send_item(number.to_le_bytes()).await?;
            }
            Ok("done")
        })
        .await
        .expect("served");
    let mut stream = board.service("acme.count").request().stream().await.expect("started");
    let mut count = 0u32;
    while let Some(item) = stream.next().await {
        assert_eq!(&item[..], count.to_le_bytes());
        count += 1;
    }
    assert_eq!(count, 500);
    assert_eq!(&stream.end().expect("an end").expect("a reply")[..], b"done");
}

#[tokio::test]
async fn one_way_messages_keep_their_order_and_wait_for_room() {
    let world = World::start();
    let board = board(&world).await;
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let _server = board
        .serve("acme.sink")
        .window(4, 8 << 10)
        .start(move |request| {
            let sender = sender.clone();
            async move {
                tokio::task::yield_now().await;
                let _ = sender.send(u32::from_le_bytes(request.payload()[..4].try_into()?));
                Ok("")
            }
        })
        .await
        .expect("served");
    let sink = board.service("acme.sink");
    let sending = tokio::spawn(async move {
        for number in 0..20_000u32 {
            sink.send(number.to_le_bytes()).await.expect("sent");
        }
    });
    for number in 0..20_000u32 {
        assert_eq!(received.recv().await, Some(number));
    }
    sending.await.expect("no panic");
    board.flush().await.expect("all delivered");
}

#[tokio::test]
async fn large_payloads_go_both_ways_at_once() {
    let world = World::start();
    let board = board(&world).await;
    let _server = board
        .serve("acme.echo")
        .start(|mut request| async move { Ok(request.take_payload()) })
        .await
        .expect("served");
    let calls: Vec<_> = (0..4u8)
        .map(|number| {
            let service = board.service("acme.echo");
            tokio::spawn(async move {
                let payload = vec![number; 3 << 20];
                for _ in 0..3 {
                    assert!(service.call(&payload).await.expect("a reply")[..] == payload[..]);
                }
            })
        })
        .collect();
    for call in calls {
        call.await.expect("no panic");
    }
}

#[tokio::test]
async fn names_are_watched_and_listed() {
    let world = World::start();
    let board = board(&world).await;
    let mut watch = board.watch("acme.**").await.expect("watching");
    assert_eq!(watch.next().await.expect("a change").expect("no error"), Change::SnapshotEnd);
    let _server = board.serve("acme.new").start(|_| async { Ok("") }).await.expect("served");
    let change = watch.next().await.expect("a change").expect("no error");
    assert!(matches!(&change, Change::Owned(info) if info.name == "acme.new"), "{change:?}");
    assert_eq!(board.list("**").await.expect("a list").len(), 1);
    board.wait_for("acme.new", None).await.expect("there");
}

#[tokio::test]
async fn the_broker_gone_is_an_answer_to_open_calls() {
    let world = World::start();
    let builder = world.builder().reconnect(switchboard::Reconnect::never());
    let board = Board::connect_with(builder).await.expect("connected");
    let _server = board
        .serve("acme.silent")
        .start(|request| async move {
            request.until_cancelled().await;
            Ok("")
        })
        .await
        .expect("served");
    let service = board.service("acme.silent");
    let call = tokio::spawn(async move { service.call("x").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(world);
    let error = call.await.expect("no panic").expect_err("the broker is gone");
    assert!(matches!(error.outcome, Outcome::PeerDied | Outcome::ShuttingDown), "{error}");
    let error = board.service("acme.silent").call("x").await.expect_err("the broker is gone");
    assert_eq!(error.outcome, Outcome::PeerDied, "{error}");
}
