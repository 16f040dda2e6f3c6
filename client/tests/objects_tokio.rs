//! Topics, queues and events for tasks, against a scripted broker.
#![cfg(feature = "tokio")]

mod common;

use std::time::Duration;

use common::peer::Peer;
use switchboard::tokio::{Board, Consumer, Leased, Subscription};
use switchboard::{Delivery, LeaseId, Outcome};
use switchboard_protocol::control::Operation;
use switchboard_protocol::queue::{Nack, QueueMethod};
use switchboard_protocol::signal::{Raised, SignalMethod};
use switchboard_protocol::topic::TopicInfo;
use switchboard_protocol::{Failure, Header, Kind, Parts, decode, encode, flags, write_part};

/// A board for tasks, while `script` plays the broker.
fn against<F>(script: impl FnOnce(Peer) + Send + 'static, client: impl FnOnce(Board) -> F)
where
    F: Future<Output = ()>,
{
    let (stream, mut peer) = Peer::pair();
    let script = std::thread::spawn(move || {
        peer.greet();
        script(peer);
    });
    let board = switchboard::Board::builder().connect_over(stream).expect("greeted");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { client(Board::over(board)).await });
    script.join().expect("the script went well");
}

fn call_of(peer: &mut Peer, handle: u64, method: u32) -> (Header, Vec<u8>) {
    let (header, body) = peer.receive_call(&mut 0);
    assert_eq!((header.kind, header.handle, header.method), (Kind::Call, handle, method));
    (header, body)
}

fn reply(call: &Header) -> Header {
    Header { call: call.call, ..Header::new(Kind::Reply) }
}

fn item(call: &Header, seq: u64) -> Header {
    Header { call: call.call, seq, ..Header::new(Kind::Item) }
}

const LEASE: LeaseId = LeaseId { low: 0x11, high: 0x22 };

fn leased(header: Header) -> Header {
    Header { epoch: LEASE.low, caller: LEASE.high, deadline: 1, method: 1, ..header }
}

#[test]
fn what_a_task_waits_for_may_be_moved_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    fn check(board: &Board, subscription: &mut Subscription, consumer: &mut Consumer, job: Leased) {
        let queue = board.queue("acme.jobs");
        let topic = board.topic("acme.weather");
        is_send(&topic.publish_all([""]));
        is_send(&topic.publish_confirmed(""));
        is_send(&topic.subscribe().start());
        is_send(&subscription.next());
        is_send(&consumer.next());
        is_send(&job.ack());
        is_send(&queue.push(""));
        is_send(&queue.pop());
        is_send(&queue.consume().start());
        is_send(&queue.peek(0, 0));
        is_send(&board.push_to([(&queue, "")]));
        is_send(&board.event("acme.alarm").wait_any(1, true));
    }
    let _ = check;
}

#[test]
fn a_topic_is_published_to_subscribed_to_and_asked_about() {
    let script = |mut peer: Peer| {
        peer.open_as(7);
        let (send, payload) = peer.receive();
        assert_eq!((send.kind, send.flags, payload.as_slice()), (Kind::Send, 0, &b"one"[..]));
        let frames: Vec<_> = (0..3).map(|_| peer.receive()).collect();
        assert_eq!(
            frames.iter().map(|(header, _)| header.flags).collect::<Vec<_>>(),
            [flags::BATCH, 0, flags::BATCH]
        );
        assert_eq!(Parts::of(&frames[0].1).count_whole(), Some(2));
        let (call, _) = call_of(&mut peer, 7, 0);
        peer.say(Header { seq: 5, caller: 2, ..reply(&call) }, b"");
        let (call, _) = call_of(&mut peer, 0, Operation::TopicStat as u32);
        peer.say(reply(&call), &encode(&TopicInfo { sequence: 5, ..TopicInfo::default() }));
        peer.open_as(8);
        let (call, _) = call_of(&mut peer, 0, Operation::Subscribe as u32);
        peer.say(Header { handle: 1, epoch: 5, ..item(&call, 1) }, b"");
        let mut batch = Vec::new();
        write_part(&mut batch, 0, b"a");
        write_part(&mut batch, 0, b"b");
        peer.say(Header { epoch: 6, deadline: 6, flags: flags::BATCH, ..item(&call, 2) }, &batch);
        let failed = Header { call: call.call, method: Outcome::Busy as u32, ..Header::new(Kind::Outcome) };
        peer.say(failed, &encode(&Failure::new("too slow")));
    };
    against(script, async |board| {
        let topic = board.topic("acme.weather");
        topic.publish("one").await.expect("sent");
        let long = vec![7; 5000];
        let count = topic.publish_all([&b"a"[..], b"b", &long, b"c"]).await.expect("sent");
        assert_eq!(count, 4);
        let published = topic.publish_confirmed("x").await.expect("published");
        assert_eq!((published.sequence, published.subscriptions), (5, 2));
        assert_eq!(topic.stat().await.expect("a topic").sequence, 5);
        let mut subscription = board.subscribe("acme.weather").start().await.expect("in force");
        assert_eq!(subscription.position(), 5);
        for payload in [b"a", b"b"] {
            let Delivery::Message(message) = subscription.next().await.expect("no error") else {
                panic!("a message")
            };
            assert_eq!(message.payload(), payload);
        }
        for _ in 0..2 {
            assert_eq!(subscription.next().await.expect_err("it ended").outcome, Outcome::Busy);
        }
    });
}

#[test]
fn a_pop_that_is_given_up_gives_back_what_comes_after_all() {
    let script = |mut peer: Peer| {
        peer.open_as(7);
        let (call, _) = call_of(&mut peer, 7, QueueMethod::Pop as u32);
        let (cancel, _) = peer.receive();
        assert_eq!((cancel.kind, cancel.call), (Kind::Cancel, call.call));
        let (identify, _) = call_of(&mut peer, 0, Operation::Identify as u32);
        // It was on its way.
        peer.say(leased(reply(&call)), b"job");
        let (_, body) = call_of(&mut peer, 7, QueueMethod::Nack as u32);
        assert_eq!(decode(&body), Some(Nack { lease: LEASE, how: 0, delay_ns: 0 }));
        peer.say(reply(&identify), b"");
    };
    against(script, async |board| {
        let jobs = board.queue("acme.jobs");
        tokio::time::timeout(Duration::from_millis(20), jobs.pop()).await.expect_err("no job");
        // Answered once the job has come back.
        board.flush().await.expect("flushed");
    });
}

#[test]
fn a_queue_is_pushed_to_consumed_and_looked_into() {
    let script = |mut peer: Peer| {
        peer.open_as(7);
        let calls = [(); 2].map(|()| call_of(&mut peer, 7, QueueMethod::Push as u32).0);
        peer.say(Header { seq: 2, ..reply(&calls[1]) }, b"");
        peer.say(Header { seq: 1, ..reply(&calls[0]) }, b"");
        peer.open_as(8);
        let (call, _) = call_of(&mut peer, 8, QueueMethod::Pop as u32);
        assert_eq!(call.flags, flags::STREAM);
        peer.say(leased(item(&call, 1)), b"job");
        let (ack, body) = call_of(&mut peer, 8, QueueMethod::Ack as u32);
        assert_eq!(body, LEASE.to_bytes());
        peer.say(reply(&ack), b"");
        let (call, _) = call_of(&mut peer, 8, QueueMethod::Peek as u32);
        let header = Header { deadline: 2, method: 1, ..item(&call, 1) };
        peer.say(header, b"next");
        peer.say(reply(&call), b"");
    };
    against(script, async |board| {
        let jobs = board.queue("acme.jobs");
        let first = jobs.message("a").begin().await.expect("on its way");
        let second = jobs.message("b").begin().await.expect("on its way");
        assert_eq!(first.wait().await.expect("pushed").position, 1);
        assert_eq!(second.wait().await.expect("pushed").position, 2);
        let mut consumer = jobs.consume().credit(1).start().await.expect("begun");
        let job = consumer.next().await.expect("a job");
        assert_eq!(&job[..], b"job");
        job.ack().await.expect("acknowledged");
        let mut peek = jobs.peek(0, 0).await.expect("begun");
        assert_eq!(peek.next().await.expect("a message").expect("no error").position(), 2);
        assert!(peek.next().await.is_none());
    });
}

#[test]
fn an_event_is_raised_and_waited_for() {
    let script = |mut peer: Peer| {
        peer.open_as(7);
        let (call, _) = call_of(&mut peer, 7, SignalMethod::Raise as u32);
        peer.say(reply(&call), b"");
        peer.open_as(8);
        let (call, _) = call_of(&mut peer, 8, SignalMethod::Await as u32);
        peer.say(reply(&call), &encode(&Raised { bits: 4, ..Raised::default() }));
    };
    against(script, async |board| {
        let alarm = board.event("acme.alarm");
        alarm.raise(4).await.expect("raised");
        assert_eq!(alarm.wait(!0).await.expect("set"), 4);
    });
}
