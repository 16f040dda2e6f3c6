//! Calls through a real broker.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::World;
use switchboard::{Fault, Outcome, wait_any};

#[test]
fn a_call_reaches_its_service_and_the_reply_its_caller() {
    let world = World::start();
    let _server = world.echo("acme.echo");
    let board = world.board();
    let reply = board.service("acme.echo").call("hello").expect("a reply");
    assert_eq!(&reply[..], b"hello");
    assert_ne!(reply.epoch().0, 0);
}

#[test]
fn nobody_serving_is_an_answer_now() {
    let world = World::start();
    let error = world.board().service("acme.nobody").call("").expect_err("nobody");
    assert_eq!(error.outcome, Outcome::NoOwner, "{error}");
    let error = world.board().service("Not A Name").call("").expect_err("no name");
    assert_eq!(error.outcome, Outcome::Invalid, "{error}");
}

#[test]
fn many_threads_make_many_calls_over_one_connection() {
    let world = World::start();
    let _server = world.board().serve("acme.echo").workers(3).start(|request| Ok(request.take_payload()));
    let board = world.board();
    let service = board.service("acme.echo");
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let service = service.clone();
            scope.spawn(move || {
                for call in 0..300u64 {
                    let payload = (thread << 32 | call).to_le_bytes();
                    let reply = service.call(payload).expect("a reply");
                    assert_eq!(&reply[..], payload);
                }
            });
        }
    });
}

#[test]
fn a_program_may_call_what_it_serves_itself() {
    let world = World::start();
    let board = world.board();
    let _server = board.serve("acme.echo").start(|request| Ok(request.take_payload())).expect("served");
    for _ in 0..100 {
        assert_eq!(&board.service("acme.echo").call("x").expect("a reply")[..], b"x");
    }
}

#[test]
fn a_panic_of_the_handler_fails_one_call_and_the_server_lives() {
    let world = World::start();
    let _server = world.board().serve("acme.picky").start(|request| {
        assert!(request.payload() != b"bad", "I do not like that");
        Ok("fine")
    });
    let service = world.board().service("acme.picky");
    let error = service.call("bad").expect_err("it panicked");
    assert_eq!(error.outcome, Outcome::Failed);
    assert!(error.message().contains("I do not like that"), "{error}");
    assert_eq!(&service.call("good").expect("it lives")[..], b"fine");
}

#[test]
fn a_request_is_answered_later_from_another_thread_or_abandoned() {
    let world = World::start();
    let _server = world.board().serve("acme.later").start_deferred(|request| {
        if request.payload() == b"drop" {
            return;
        }
        switchboard::spawn(move || request.reply("later"));
    });
    let service = world.board().service("acme.later");
    assert_eq!(&service.call("x").expect("a reply")[..], b"later");
    assert_eq!(service.call("drop").expect_err("dropped").outcome, Outcome::Abandoned);
}

#[test]
fn a_fault_arrives_as_it_was_said() {
    let world = World::start();
    let _server = world.board().serve("acme.faulty").start(|request| -> Result<(), Fault> {
        match request.method() {
            switchboard::Method::Number(1) => Err(Fault::coded("acme", 42, "no paper").details(*b"A4")),
            switchboard::Method::Number(2) => Err(Fault::busy("later", Duration::from_millis(70))),
            _ => Err(Fault::unsupported("no such method")),
        }
    });
    let service = world.board().service("acme.faulty");
    let error = service.method(1).call().expect_err("a fault");
    assert_eq!(error.outcome, Outcome::Failed);
    assert_eq!((error.failure.domain.as_str(), error.failure.code), ("acme", 42));
    assert_eq!(error.failure.details, b"A4");
    let error = service.method(2).call().expect_err("a fault");
    assert_eq!((error.outcome, error.failure.retry_after_ms), (Outcome::Busy, 70));
    let error = service.method("unknown").call().expect_err("a fault");
    assert_eq!(error.outcome, Outcome::Unsupported);
}

#[test]
fn the_deadline_ends_a_call_that_is_not_answered() {
    let world = World::start();
    let (sender, requests) = std::sync::mpsc::channel();
    let _server = world.board().serve("acme.silent").start_deferred(move |request| {
        let _ = sender.send(request);
    });
    let begin = Instant::now();
    let service = world.board().service("acme.silent");
    let error = service.request().timeout(Duration::from_millis(50)).call().expect_err("nobody answers");
    assert_eq!(error.outcome, Outcome::DeadlineExceeded);
    assert!(begin.elapsed() >= Duration::from_millis(50));
    let request = requests.recv().expect("it came");
    assert_eq!(request.wait_cancelled(Duration::from_secs(5)), Some(Outcome::DeadlineExceeded));
    assert!(request.is_cancelled());
}

#[test]
fn dropping_a_pending_call_cancels_it_at_the_service() {
    let world = World::start();
    let (sender, requests) = std::sync::mpsc::channel();
    let _server = world.board().serve("acme.silent").start_deferred(move |request| {
        let _ = sender.send(request);
    });
    let service = world.board().service("acme.silent");
    let pending = service.request().start().expect("started");
    let request = requests.recv().expect("it came");
    assert!(!request.is_cancelled());
    drop(pending);
    assert_eq!(request.wait_cancelled(Duration::from_secs(5)), Some(Outcome::Cancelled));

    let pending = service.request().start().expect("started");
    pending.cancel();
    assert_eq!(pending.wait().expect_err("given up").outcome, Outcome::Cancelled);
}

#[test]
fn the_first_of_several_calls_is_waited_for() {
    let world = World::start();
    let _slow = world.board().serve("acme.slow").start(|request| {
        request.wait_cancelled(Duration::from_secs(10));
        Ok("slow")
    });
    let _fast = world.board().serve("acme.fast").start(|_| Ok("fast"));
    let board = world.board();
    let mut pending = vec![
        board.service("acme.slow").request().start().expect("started"),
        board.service("acme.fast").request().start().expect("started"),
    ];
    let first = wait_any(&mut pending, None).expect("one").expect("a reply");
    assert_eq!(&first[..], b"fast");
    assert_eq!(pending.len(), 1);
    assert!(wait_any(&mut pending, Some(Duration::from_millis(20))).is_none());
    assert!(pending[0].poll().is_none());
}

#[test]
fn a_streamed_reply_comes_in_order_and_only_as_it_is_taken() {
    let world = World::start();
    let _server = world.board().serve("acme.count").start(|request| {
        let count: u32 = request.typed()?;
        for number in 0..count {
            request.send_item(number.to_le_bytes())?;
        }
        Ok("done")
    });
    let service = world.board().service("acme.count");
    let count = 1000u32;
    let payload = [0xe8, 0x07]; // 1000, as postcard has it
    let mut stream = service.request().payload(&payload).stream().expect("started");
    for number in 0..count {
        assert_eq!(&stream.next_item().expect("an item")[..], number.to_le_bytes());
    }
    assert!(stream.next_item().is_none());
    assert_eq!(&stream.end().expect("ended").expect("a reply")[..], b"done");
    assert!(stream.next_item().is_none());
}

#[test]
fn a_stream_that_is_dropped_stops_its_service() {
    let world = World::start();
    let (sender, stopped) = std::sync::mpsc::channel();
    let _server = world.board().serve("acme.endless").start(move |request| {
        let error = loop {
            if let Err(error) = request.send_item("more") {
                break error;
            }
        };
        let _ = sender.send(error.clone());
        Err::<(), _>(error.into())
    });
    let mut stream = world.board().service("acme.endless").request().stream().expect("started");
    for _ in 0..200 {
        assert_eq!(&stream.next_item().expect("an item")[..], b"more");
    }
    drop(stream);
    let error = stopped.recv_timeout(Duration::from_secs(10)).expect("it stopped");
    assert_eq!(error, switchboard::ItemError::Over(Outcome::Cancelled));
}

#[test]
fn nested_calls_inherit_deadline_priority_and_parent() {
    let world = World::start();
    let _inner = world.board().serve("acme.inner").start(|request| {
        let left = request.time_left().map_or(0, |left| left.as_millis() as u64);
        Ok([left.to_le_bytes().as_slice(), &[request.priority()]].concat())
    });
    let board = world.board();
    let inner = board.service("acme.inner");
    let _outer = board.serve("acme.outer").workers(2).start(move |request| {
        if request.payload() == b"thread" {
            let inner = inner.clone();
            let spawned = switchboard::spawn(move || inner.request().no_timeout().call());
            return Ok(spawned.join().expect("joined")?.into_payload());
        }
        Ok(inner.request().no_timeout().call()?.into_payload())
    });
    let outer = world.board().service("acme.outer");
    for how in ["here", "thread"] {
        let reply =
            outer.request().payload(how).timeout(Duration::from_secs(7)).priority(3).call().expect("a reply");
        let left = u64::from_le_bytes(reply[..8].try_into().expect("8 bytes"));
        assert!((1..=7000).contains(&left), "{left} ms left ({how})");
        assert_eq!(reply[8], 3, "{how}");
    }
}

/// Bytes that only this thread's this call has.
fn pattern(thread: u64, call: u64, size: usize) -> Vec<u8> {
    (0..size as u64).map(|at| (at * 31 + at / 251 + thread * 77 + call * 13) as u8).collect()
}

#[test]
fn large_and_small_calls_of_many_threads_share_a_connection_whole() {
    let world = World::start();
    let _server = world.echo("acme.echo");
    let board = world.board();
    let service = board.service("acme.echo");
    // Around every border: copied or lent, one write or many, an inbox of its own or not, padded or not.
    let sizes = [1, 16_383, 16_384, 16_385, 65_535, 65_536, 300_007, 0, 1 << 20, 70];
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let service = service.clone();
            scope.spawn(move || {
                for call in 0..60u64 {
                    let payload = pattern(thread, call, sizes[(thread + call) as usize % sizes.len()]);
                    let reply = service.call(&payload).expect("a reply");
                    assert!(reply[..] == payload, "thread {thread}, call {call}");
                }
            });
        }
    });
}

#[test]
fn large_calls_of_a_pipeline_and_large_messages_keep_their_bytes_and_order() {
    let world = World::start();
    let (sum, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (sum_there, seen_there) = (Arc::clone(&sum), Arc::clone(&seen));
    let _server = world
        .board()
        .serve("acme.echo")
        .start(move |request| {
            if request.is_one_way() {
                let number = seen_there.fetch_add(1, Ordering::SeqCst);
                let right = request.payload() == pattern(9, number, 200_000 + number as usize);
                sum_there.fetch_add(u64::from(right), Ordering::SeqCst);
            }
            Ok(request.take_payload())
        })
        .expect("served");
    let board = world.board();
    let service = board.service("acme.echo");
    let mut pipeline = service.pipeline(8).expect("opened");
    let size = |tag: u64| 100_000 + 17 * tag as usize;
    for tag in 0..40 {
        while pipeline.is_full() {
            pipeline
                .wait(|tag, end| assert!(end.expect("a reply")[..] == pattern(1, tag, size(tag))))
                .expect("up");
        }
        pipeline.submit(tag, &pattern(1, tag, size(tag))).expect("submitted");
    }
    while pipeline.open() > 0 {
        pipeline
            .wait(|tag, end| assert!(end.expect("a reply")[..] == pattern(1, tag, size(tag))))
            .expect("up");
    }
    for number in 0..40 {
        service.send(pattern(9, number, 200_000 + number as usize)).expect("sent");
    }
    // Behind them on the same handle.
    service.call("").expect("a reply");
    board.flush().expect("all were delivered");
    assert_eq!((seen.load(Ordering::SeqCst), sum.load(Ordering::SeqCst)), (40, 40));
}

#[test]
fn what_is_wrong_with_a_submitted_call_is_told_at_once_or_is_how_it_ends() {
    let world = World::start();
    let _server = world.echo("acme.echo");
    let board = world.board();
    let mut pipeline = board.service("acme.echo").pipeline(2).expect("opened");
    // What can be told without the broker is told at once, and changes nothing.
    let error = pipeline.submit(1, &vec![0; 300 << 20]).expect_err("more than a frame");
    assert_eq!((error.outcome, pipeline.open()), (Outcome::TooLarge, 0), "{error}");
    pipeline.submit(2, b"two").expect("staged");
    pipeline.submit(3, b"three").expect("staged");
    let error = pipeline.submit(4, b"four").expect_err("full");
    assert_eq!((error.outcome, pipeline.open()), (Outcome::Busy, 2), "{error}");
    // A short one is only sent by `wait`: what is wrong by then is how it ends, once for each.
    board.close();
    let mut ends = Vec::new();
    while 0 < pipeline.open() {
        pipeline.wait(|tag, end| ends.push((tag, end.expect_err("closed").outcome))).expect("none now");
    }
    ends.sort_unstable_by_key(|(tag, _)| *tag);
    assert_eq!(ends, [(2, Outcome::PeerDied), (3, Outcome::PeerDied)]);
    // A long one goes at once, and says so at once.
    let error = pipeline.submit(5, &[0; 5000]).expect_err("closed");
    assert_eq!((error.outcome, pipeline.open()), (Outcome::PeerDied, 0), "{error}");
}

#[test]
fn large_payloads_in_both_directions_at_once_do_not_deadlock() {
    let world = World::start();
    let _server = world.board().serve("acme.echo").start(|request| Ok(request.take_payload()));
    let board = world.board();
    let service = board.service("acme.echo");
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let service = service.clone();
            scope.spawn(move || {
                let payload: Vec<u8> =
                    (0..3 << 20).map(|at: u32| (at as u8).wrapping_mul(31) ^ thread).collect();
                for _ in 0..5 {
                    let reply = service.call(&payload).expect("a reply");
                    assert!(reply[..] == payload[..]);
                }
            });
        }
    });
}

#[test]
fn a_payload_over_the_limit_is_refused_and_the_connection_lives() {
    let world = World::start();
    let _server = world.echo("acme.echo");
    let board = world.board();
    let service = board.service("acme.echo");
    let error = service.call(vec![0; board.payload_bytes_max() + 1]).expect_err("too large");
    assert_eq!(error.outcome, Outcome::TooLarge);
    assert_eq!(&service.call("x").expect("it lives")[..], b"x");
}

#[test]
fn one_way_messages_arrive_in_order_batched_or_not() {
    let world = World::start();
    let seen = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&seen);
    let _server = world.board().serve("acme.sink").window(16, 64 << 10).start(move |request| {
        if request.is_one_way() {
            let number = u64::from_le_bytes(request.payload()[..8].try_into().expect("8 bytes"));
            assert_eq!(number, count.fetch_add(1, Ordering::SeqCst));
        }
        Ok(count.load(Ordering::SeqCst).to_le_bytes())
    });
    let board = world.board();
    let sink = board.service("acme.sink");
    let mut number = 0u64;
    for _ in 0..100 {
        sink.send(number.to_le_bytes()).expect("sent");
        number += 1;
    }
    let mut batch = board.batch();
    for _ in 0..50_000 {
        batch.send(&sink, number.to_le_bytes()).expect("sent");
        number += 1;
    }
    drop(batch);
    board.flush().expect("nothing failed");
    let begin = Instant::now();
    while seen.load(Ordering::SeqCst) < number {
        assert!(begin.elapsed() < Duration::from_secs(20), "{} of {number}", seen.load(Ordering::SeqCst));
        std::thread::yield_now();
    }
    assert_eq!(&sink.call("").expect("a reply")[..], number.to_le_bytes());
}

#[test]
fn messages_to_nobody_are_told_at_the_flush() {
    let world = World::start();
    let board = world.board();
    let nobody = board.service("acme.nobody");
    nobody.request().tag(9).send().expect("sent");
    let error = board.flush().expect_err("nobody");
    assert_eq!(error.outcome, Outcome::NoOwner, "{error}");
    assert!(error.message().starts_with("1 message was not delivered"), "{error}");
    board.flush().expect("told once");
    match board.events().next().expect("a notice") {
        switchboard::Notice::SendFailed { count: 1, tag: 9, error } => {
            assert_eq!(error.outcome, Outcome::NoOwner);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pipeline_keeps_many_calls_open_and_every_one_ends() {
    let world = World::start();
    let _server = world.echo("acme.echo");
    let service = world.board().service("acme.echo");
    let mut pipeline = service.pipeline(64).expect("opened");
    let (mut submitted, mut ended) = (0u64, 0u64);
    while ended < 5_000 {
        while !pipeline.is_full() && submitted < 5_000 {
            pipeline.submit(submitted, &submitted.to_le_bytes()).expect("room");
            submitted += 1;
        }
        pipeline
            .wait(|tag, reply| {
                assert_eq!(&reply.expect("a reply")[..], tag.to_le_bytes());
                ended += 1;
            })
            .expect("waited");
    }
    assert_eq!(pipeline.open(), 0);
    // And one that is dropped half way leaves nothing behind.
    for tag in 0..10 {
        pipeline.submit(tag, b"x").expect("room");
    }
    drop(pipeline);
    assert_eq!(&service.call("y").expect("a reply")[..], b"y");
}

#[test]
fn short_and_long_calls_of_a_pipeline_come_in_the_order_in_which_they_were_submitted() {
    let world = World::start();
    let _server = world.echo("acme.echo");
    let service = world.board().service("acme.echo");
    let mut pipeline = service.pipeline(64).expect("opened");
    let payload = |tag: u64| vec![tag as u8; [10, 1 << 10, (1 << 10) + 1, 100_000][tag as usize % 4]];
    for tag in 0..40 {
        pipeline.submit(tag, &payload(tag)).expect("room");
    }
    let mut next = 0;
    while pipeline.open() > 0 {
        pipeline
            .wait(|tag, end| {
                assert_eq!(tag, next, "one worker answers in order");
                assert!(end.expect("a reply")[..] == payload(tag));
                next += 1;
            })
            .expect("waited");
    }
    assert_eq!(next, 40);
}

#[test]
fn a_pipeline_that_is_dropped_gives_up_what_was_sent() {
    let world = World::start();
    let (taken, took) = std::sync::mpsc::channel();
    let _server = world.board().serve("acme.slow").start_deferred(move |request| {
        taken.send(request).expect("the test waits for it");
    });
    let board = world.board();
    let service = board.service("acme.slow");
    let mut pipeline = service.pipeline(8).expect("opened");
    for tag in 0..2 {
        pipeline.submit(tag, b"short").expect("room");
    }
    // A long one takes those before it along.
    pipeline.submit(2, &[7; 20_000]).expect("room");
    let requests: Vec<_> = {
        let flusher = service.request().payload(b"another").start().expect("started");
        let requests = (0..4).map(|_| took.recv().expect("a request")).collect();
        drop(flusher);
        requests
    };
    drop(pipeline);
    let is_cancelled = |request: &switchboard::Request| {
        while !request.is_cancelled() {
            std::thread::yield_now();
        }
    };
    requests.iter().for_each(is_cancelled);
}

#[test]
fn what_was_submitted_when_the_connection_is_lost_ends_with_that() {
    let world = World::start();
    let _server = world.echo("acme.echo");
    let board = world.builder().reconnect(switchboard::Reconnect::never()).connect().expect("connected");
    let service = board.service("acme.echo");
    let mut pipeline = service.pipeline(8).expect("opened");
    board.close();
    for tag in 0..3 {
        pipeline.submit(tag, b"x").expect("room");
    }
    let mut ended = Vec::new();
    while pipeline.open() > 0 {
        pipeline
            .wait(|tag, end| {
                assert_eq!(end.expect_err("no connection").outcome, Outcome::PeerDied);
                ended.push(tag);
            })
            .expect("waited");
    }
    assert_eq!(ended, [0, 1, 2]);
}
