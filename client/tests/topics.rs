//! Topics through a real broker.

mod common;

use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::World;
use switchboard::{Board, Delivery, Message, Reconnect, SlowPolicy, Subscription};

fn message(subscription: &mut Subscription) -> Message {
    match subscription.next().expect("it goes on").expect("no error") {
        Delivery::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_subscriber_gets_everything_in_order_however_it_was_published() {
    const COUNT: u64 = 20_000;
    let world = World::start();
    let topic = world.board().topic("acme.x");
    let subscribe =
        |builder: switchboard::SubscribeBuilder| builder.policy(SlowPolicy::Block).start().expect("in force");
    let by_name = subscribe(world.board().subscribe("acme.x"));
    let by_pattern = subscribe(world.board().subscribe("acme.*"));
    std::thread::scope(|scope| {
        for mut subscription in [by_name, by_pattern] {
            scope.spawn(move || {
                for number in 1..=COUNT {
                    let message = message(&mut subscription);
                    assert_eq!(message.payload(), number.to_le_bytes());
                    assert_eq!((message.position(), message.sequence()), (number, number));
                    assert_eq!(message.topic(), "acme.x");
                    assert_eq!(message.pid(), std::process::id());
                }
            });
        }
        let half = COUNT / 2;
        topic.publish_all((1..=half).map(u64::to_le_bytes)).expect("published");
        for number in half + 1..COUNT {
            topic.publish(number.to_le_bytes()).expect("published");
        }
        let last = topic.publish_confirmed(COUNT.to_le_bytes()).expect("published");
        assert_eq!((last.sequence, last.subscriptions), (COUNT, 2));
    });
    assert_eq!(topic.stat().expect("a topic").sequence, COUNT);
}

#[test]
fn who_is_too_slow_is_told_what_was_lost_and_nothing_is_missing_otherwise() {
    let world = World::start();
    let topic = world.board().topic("acme.x");
    let mut subscription = topic.subscribe().messages(10).credit(4).start().expect("in force");
    const COUNT: u64 = 1000;
    for number in 1..=COUNT {
        topic.publish_confirmed(number.to_le_bytes()).expect("published");
    }
    let (mut next, mut lost) = (1, 0);
    while next <= COUNT {
        match subscription.next().expect("it goes on").expect("no error") {
            Delivery::Message(message) => {
                assert_eq!((message.position(), message.payload()), (next, &next.to_le_bytes()[..]));
                next += 1;
            }
            Delivery::Lost { from, to } => {
                assert_eq!(from, next);
                lost += to - from + 1;
                next = to + 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(lost >= COUNT - 20, "{lost}");
}

#[test]
fn a_will_is_published_when_its_client_dies_and_not_when_it_goes() {
    let world = World::start();
    let mut subscription = world.board().subscribe("acme.status").start().expect("in force");
    let leaving = world.board();
    leaving.topic("acme.status").set_will("left").expect("left behind");
    leaving.close();
    // A second hold on the socket, by which the connection is cut without a goodbye.
    let stream = switchboard_transport::connect(world.broker.socket()).expect("connected");
    let socket = UnixStream::from(stream.as_fd().try_clone_to_owned().expect("a second hold"));
    let dying = Board::builder().reconnect(Reconnect::never()).connect_over(stream).expect("greeted");
    dying.topic("acme.status").set_will("died").expect("left behind");
    socket.shutdown(Shutdown::Both).expect("cut");
    assert_eq!(message(&mut subscription).payload(), b"died");
    assert!(subscription.next_timeout(Duration::from_millis(20)).expect("no end").is_none());
}
