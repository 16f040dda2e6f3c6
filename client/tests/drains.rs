//! Taking messages of a subscription many at once, against a real broker.

use std::time::Duration;

use switchboard::{Board, Delivery, LentDelivery, Outcome, SlowPolicy, Subscription};
use switchboard_broker::{Embedded, Options};

const PATIENCE: Duration = Duration::from_secs(60);

/// Topic, position, sequence, whether it is an earlier one, and the payload.
type Seen = (String, u64, u64, bool, Vec<u8>);

fn start() -> (Embedded, Board) {
    let broker = Embedded::start(&Options::default()).expect("a broker");
    let board = Board::builder().socket(broker.socket()).connect().expect("connected");
    (broker, board)
}

/// Drains so many; each is as it would be if it were kept.
fn drained(subscription: &mut Subscription, count: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let before = seen.len();
        let came = subscription.drain(PATIENCE, |delivery| {
            let LentDelivery::Message(message) = delivery else { panic!("{delivery:?}") };
            let kept = message.to_message();
            assert_eq!(
                (kept.topic(), kept.position(), &kept[..]),
                (message.topic(), message.position(), &message[..])
            );
            let (position, sequence) = (message.position(), message.sequence());
            seen.push((
                message.topic().to_owned(),
                position,
                sequence,
                message.is_earlier(),
                message.to_vec(),
            ));
        });
        assert_eq!(came.expect("in force"), seen.len() - before, "what was handed over was counted");
        assert!(before < seen.len(), "nothing came for {PATIENCE:?}");
    }
    seen
}

/// Takes so many one by one.
fn one_by_one(subscription: &mut Subscription, count: usize) -> Vec<Seen> {
    (0..count)
        .map(|_| match subscription.next_timeout(PATIENCE).expect("in force") {
            Some(Delivery::Message(message)) => {
                let (position, sequence) = (message.position(), message.sequence());
                (message.topic().to_owned(), position, sequence, message.is_earlier(), message.to_vec())
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn what_is_drained_is_what_comes_one_by_one() {
    let (_broker, board) = start();
    for pattern in ["drains.a", "drains.*"] {
        let subscribe = || board.subscribe(pattern).policy(SlowPolicy::Block).start().expect("in force");
        let (mut many, mut single) = (subscribe(), subscribe());
        let mut count = 0;
        for round in 0..50u32 {
            let batch: Vec<_> =
                (0..round % 7 * 10).map(|number| vec![number as u8; number as usize]).collect();
            count += batch.len() + 1;
            board.topic("drains.a").publish_all(&batch).expect("published");
            board.topic("drains.a").publish(vec![1; round as usize * 100]).expect("published");
            if pattern.ends_with('*') {
                count += 1;
                board.topic("drains.b").publish("b").expect("published");
            }
        }
        let seen = drained(&mut many, count);
        assert_eq!(seen, one_by_one(&mut single, count), "{pattern}");
        assert_eq!(many.position(), single.position(), "{pattern}");
        assert_eq!(many.drain(Duration::ZERO, |other| panic!("{other:?}")).expect("in force"), 0);
    }
}

#[test]
fn a_batch_that_was_begun_one_by_one_is_drained_to_its_end() {
    let (_broker, board) = start();
    let mut subscription =
        board.topic("drains.a").subscribe().policy(SlowPolicy::Block).start().expect("in force");
    board.topic("drains.a").publish_all(["a", "b", "c", "d"]).expect("published");
    assert_eq!(one_by_one(&mut subscription, 1)[0].4, b"a");
    let rest = drained(&mut subscription, 3);
    assert_eq!(
        rest.iter().map(|seen| (seen.1, &seen.4[..])).collect::<Vec<_>>(),
        [(2, &b"b"[..]), (3, b"c"), (4, b"d")]
    );
    assert_eq!(subscription.position(), 4);
}

#[test]
fn a_subscription_that_ends_says_so_when_it_is_drained() {
    let (broker, board) = start();
    let once = Board::builder().socket(broker.socket()).reconnect(switchboard::Reconnect::never());
    let once = once.connect().expect("connected");
    let mut subscription = once.topic("drains.a").subscribe().start().expect("in force");
    board.topic("drains.a").publish_all(["a", "b"]).expect("published");
    assert_eq!(drained(&mut subscription, 2).len(), 2);
    drop(broker);
    for _ in 0..2 {
        let end = subscription.drain(PATIENCE, |other| panic!("{other:?}")).expect_err("the broker is gone");
        assert!(matches!(end.outcome, Outcome::PeerDied | Outcome::ShuttingDown), "{end}");
    }
}
