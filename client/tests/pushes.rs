//! A pipeline of pushes keeps what it promises, on a real broker and against scripted ones.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::World;
use common::peer::{Peer, against, one_after_the_other};
use switchboard::{CallError, Outcome, Overflow, PushPipeline, Pushed, Queue, Reconnect};
use switchboard_protocol::queue::{PushOptions, QueueInfo, QueueMethod};
use switchboard_protocol::{
    Extensions, Failure, Header, Kind, Parts, encode, extension_type, flags, part_bytes,
};

type Ends = BTreeMap<u64, Result<Pushed, CallError>>;

/// Waits for all that is open; no tag may end twice.
fn settle(pipeline: &mut PushPipeline, ends: &mut Ends) {
    while pipeline.open() > 0 {
        wait(pipeline, ends);
    }
    assert_eq!(pipeline.wait(|tag, _| panic!("{tag} ended once more")).expect("up"), 0);
}

fn wait(pipeline: &mut PushPipeline, ends: &mut Ends) {
    let (before, mut seen) = (pipeline.open(), 0);
    let count = pipeline
        .wait(|tag, end| {
            seen += 1;
            assert!(ends.insert(tag, end).is_none(), "{tag} ended twice");
        })
        .expect("up");
    assert_eq!((count, pipeline.open()), (seen, before - seen));
    assert_ne!(count, 0, "it waited for one");
}

/// How many ended how, in the order in which that is first met.
fn outcomes(ends: &Ends) -> Vec<(Option<Outcome>, usize)> {
    let mut counts: Vec<(Option<Outcome>, usize)> = Vec::new();
    for end in ends.values() {
        let outcome = end.as_ref().err().map(|error| error.outcome);
        match counts.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, count)) => *count += 1,
            None => counts.push((outcome, 1)),
        }
    }
    counts
}

/// Everything in a queue: position and payload, by position.
fn contents(queue: &Queue) -> Vec<(u64, Vec<u8>)> {
    let all = queue.peek(0, 0).expect("begun");
    all.map(|message| message.expect("a message")).map(|it| (it.position(), it.payload().to_vec())).collect()
}

#[test]
fn messages_of_all_kinds_come_into_the_queue_in_order_and_each_learns_its_position() {
    let world = World::start();
    let board = world.board();
    board.create_queue("acme.jobs").create().expect("made");
    let jobs = board.queue("acme.jobs");
    let mut pipeline = jobs.pipeline(100).expect("opened");
    let mut ends = Ends::new();
    // Long ones and those with options go alone, between short ones.
    let payload =
        |tag: u64| vec![tag as u8; if tag.is_multiple_of(41) { 70_000 } else { tag as usize % 300 }];
    for tag in 0..1000 {
        while pipeline.is_full() {
            wait(&mut pipeline, &mut ends);
        }
        let payload = payload(tag);
        match tag % 17 {
            0 => pipeline.submit_message(tag, jobs.message(&payload).group("user-1")),
            1 => pipeline.submit_message(tag, jobs.message(&payload).ttl(Duration::from_secs(60))),
            2 => pipeline.submit_message(tag, jobs.message(&payload).producer(5, tag)),
            3 => pipeline.submit_message(tag, jobs.message(&payload).timeout(Duration::from_secs(60))),
            4 => pipeline.submit_message(tag, jobs.message(&payload)),
            _ => pipeline.submit(tag, &payload),
        }
        .expect("submitted");
        if tag.is_multiple_of(97) {
            pipeline.flush();
        }
    }
    settle(&mut pipeline, &mut ends);
    assert_eq!(ends.len(), 1000);
    let told: Vec<u64> = ends.values().map(|end| end.as_ref().expect("pushed").position).collect();
    assert_eq!(told, (1..=1000).collect::<Vec<u64>>());
    let there = contents(&jobs);
    assert_eq!(there.len(), 1000);
    for (tag, (position, bytes)) in (0..).zip(there) {
        assert!(position == tag + 1 && bytes == payload(tag), "message {tag}");
    }
}

#[test]
fn a_priority_needs_no_push_of_its_own_and_is_kept() {
    let world = World::start();
    let board = world.board();
    board.create_queue("acme.jobs").create().expect("made");
    let jobs = board.queue("acme.jobs");
    let mut pipeline = jobs.pipeline(10).expect("opened");
    for (tag, priority) in [0, 31, 7, 31].into_iter().enumerate() {
        pipeline.submit_message(tag as u64, jobs.message(&[priority]).priority(priority)).expect("submitted");
    }
    let error = pipeline.submit_message(9, jobs.message("x").priority(32)).map(|()| {
        let mut ends = Ends::new();
        settle(&mut pipeline, &mut ends);
        ends.remove(&9).expect("its end").expect_err("too high").outcome
    });
    assert_eq!(error.expect("the broker says so"), Outcome::Invalid);
    // Also where it is the only one.
    pipeline.submit_message(4, jobs.message(&[12]).priority(12)).expect("submitted");
    settle(&mut pipeline, &mut Ends::new());
    let popped: Vec<(u8, u64)> = (0..5)
        .map(|_| {
            let job = jobs.pop().expect("a job");
            assert_eq!(job.payload(), [job.priority()]);
            let popped = (job.priority(), job.position());
            job.ack().expect("acknowledged");
            popped
        })
        .collect();
    assert_eq!(popped, [(31, 2), (31, 4), (12, 5), (7, 3), (0, 1)]);
}

#[test]
fn no_more_than_its_depth_are_open() {
    let world = World::start();
    let board = world.board();
    board.create_queue("acme.jobs").create().expect("made");
    let jobs = board.queue("acme.jobs");
    let mut pipeline = jobs.pipeline(3).expect("opened");
    for tag in 0..3 {
        assert!(!pipeline.is_full());
        pipeline.submit(tag, b"job").expect("submitted");
    }
    assert!(pipeline.is_full());
    for refused in [
        pipeline.submit(3, b"short"),
        pipeline.submit(3, &[0; 10_000]),
        pipeline.submit_message(3, jobs.message("x").group("g")),
    ] {
        assert_eq!(refused.expect_err("full").outcome, Outcome::Busy);
    }
    let mut ends = Ends::new();
    settle(&mut pipeline, &mut ends);
    assert_eq!(outcomes(&ends), [(None, 3)]);
    assert_eq!(contents(&jobs).len(), 3);
}

#[test]
fn what_is_refused_by_a_full_queue_is_not_in_it_and_all_else_is() {
    let world = World::start();
    let board = world.board();
    board.create_queue("acme.jobs").max_messages(100).create().expect("made");
    let jobs = board.queue("acme.jobs");
    let mut pipeline = jobs.pipeline(500).expect("opened");
    let mut ends = Ends::new();
    for tag in 0..500u64 {
        pipeline.submit(tag, &tag.to_le_bytes()).expect("submitted");
    }
    settle(&mut pipeline, &mut ends);
    let counts = outcomes(&ends);
    // A sixteenth of 100 at a time: 16 times 6 are 96, no 6 more fit, and then the last 2 do.
    assert_eq!(counts, [(None, 98), (Some(Outcome::Busy), 402)]);
    let told: Vec<(u64, Vec<u8>)> = ends
        .iter()
        .filter_map(|(tag, end)| Some((end.as_ref().ok()?.position, tag.to_le_bytes().to_vec())))
        .collect();
    assert_eq!(contents(&jobs), told);
    // It goes on when there is room.
    assert_eq!(jobs.purge().expect("purged"), 98);
    pipeline.submit(500, b"later").expect("submitted");
    settle(&mut pipeline, &mut ends);
    assert_eq!(ends[&500].as_ref().expect("pushed").position, 99);
}

#[test]
fn a_pusher_that_waits_for_room_goes_on_with_a_consumer_that_holds_nearly_all_of_it() {
    let world = World::start();
    let board = world.board();
    board.create_queue("acme.jobs").max_messages(32).overflow(Overflow::Block).create().expect("made");
    let count = 900u64;
    std::thread::scope(|scope| {
        let other = world.board();
        scope.spawn(move || {
            let jobs = other.queue("acme.jobs");
            let mut consumer = jobs.consume().credit(64).start().expect("begun");
            let mut expected = 0..count;
            while !expected.is_empty() {
                let mut leases = Vec::new();
                for number in expected.by_ref().take(30) {
                    let job = consumer.next().expect("goes on").expect("a job");
                    assert_eq!(job.payload(), number.to_le_bytes());
                    leases.push(job.into_lease());
                }
                assert!(jobs.ack_all(&leases).expect("acknowledged").lost.is_empty());
            }
        });
        let mut pipeline = board.queue("acme.jobs").pipeline(256).expect("opened").no_timeout();
        let mut ends = Ends::new();
        for tag in 0..count {
            while pipeline.is_full() {
                wait(&mut pipeline, &mut ends);
            }
            pipeline.submit(tag, &tag.to_le_bytes()).expect("submitted");
        }
        settle(&mut pipeline, &mut ends);
        assert_eq!(outcomes(&ends), [(None, count as usize)]);
    });
}

#[test]
fn a_push_that_waits_for_room_ends_with_its_time() {
    let world = World::start();
    let board = world.board();
    board.create_queue("acme.jobs").max_messages(1).overflow(Overflow::Block).create().expect("made");
    let pipeline = board.queue("acme.jobs").pipeline(8).expect("opened");
    let mut pipeline = pipeline.timeout(Duration::from_millis(50));
    let mut ends = Ends::new();
    for tag in 0..4 {
        pipeline.submit(tag, b"job").expect("submitted");
    }
    settle(&mut pipeline, &mut ends);
    assert_eq!(outcomes(&ends), [(None, 1), (Some(Outcome::DeadlineExceeded), 3)]);
    assert!(ends[&0].is_ok(), "the first has the room");
}

#[test]
fn a_deleted_queue_ends_every_message_once() {
    let world = World::start();
    let board = world.board();
    board.create_queue("acme.jobs").max_messages(64).overflow(Overflow::Block).create().expect("made");
    let jobs = board.queue("acme.jobs");
    let mut pipeline = jobs.pipeline(1000).expect("opened").no_timeout();
    let mut ends = Ends::new();
    for tag in 0..100 {
        pipeline.submit(tag, b"job").expect("submitted");
    }
    while ends.len() < 64 {
        wait(&mut pipeline, &mut ends);
    }
    board.delete_queue("acme.jobs").expect("deleted");
    for tag in 100..200 {
        pipeline.submit(tag, b"job").expect("submitted");
    }
    settle(&mut pipeline, &mut ends);
    assert_eq!(ends.len(), 200);
    for (tag, end) in &ends {
        match end {
            Ok(pushed) => assert_eq!(pushed.position, tag + 1),
            Err(error) => {
                let named = [Outcome::NoOwner, Outcome::HandleRevoked].contains(&error.outcome);
                assert!(*tag >= 64 && named, "{tag}: {error}");
            }
        }
    }
    assert_eq!(jobs.pipeline(1).expect_err("it is gone").outcome, Outcome::HandleRevoked);
}

#[test]
fn a_lost_broker_ends_every_message_once() {
    let world = World::start();
    let board = world.builder().reconnect(Reconnect { enabled: false, ..Reconnect::default() });
    let board = board.connect().expect("connected");
    board.create_queue("acme.jobs").max_messages(64).overflow(Overflow::Block).create().expect("made");
    let mut pipeline = board.queue("acme.jobs").pipeline(1000).expect("opened").no_timeout();
    let mut ends = Ends::new();
    for tag in 0..100 {
        pipeline.submit(tag, b"job").expect("submitted");
    }
    while ends.len() < 64 {
        wait(&mut pipeline, &mut ends);
    }
    drop(world);
    for tag in 100..200 {
        pipeline.submit(tag, b"job").expect("submitted");
    }
    settle(&mut pipeline, &mut ends);
    pipeline.submit(200, &[1; 50_000]).expect_err("there is no connection any more");
    assert_eq!(pipeline.open(), 0);
    assert_eq!(ends.len(), 200);
    for (tag, end) in &ends {
        let outcome = end.as_ref().err().map(|error| error.outcome);
        let lost = [Some(Outcome::PeerDied), Some(Outcome::ShuttingDown)].contains(&outcome);
        assert_eq!(lost, *tag >= 64, "{tag}: {end:?}");
    }
}

#[test]
fn a_dropped_pipeline_leaves_nothing_waiting_at_the_queue() {
    let world = World::start();
    let board = world.board();
    board.create_queue("acme.jobs").max_messages(1).overflow(Overflow::Block).create().expect("made");
    let jobs = board.queue("acme.jobs");
    let mut pipeline = jobs.pipeline(8).expect("opened").no_timeout();
    for tag in 0..4 {
        pipeline.submit(tag, b"job").expect("submitted");
    }
    pipeline.flush();
    pipeline.submit(4, b"never sent").expect("submitted");
    assert_eq!(jobs.stat().expect("a queue").blocked, 3);
    drop(pipeline);
    assert_eq!(jobs.stat().expect("a queue").blocked, 0);
    assert_eq!(contents(&jobs).len(), 1);
}

/// Grants the handle, and says how much the queue holds.
fn open(peer: &mut Peer, messages_max: u64) {
    peer.open();
    stat(peer, messages_max);
}

fn stat(peer: &mut Peer, messages_max: u64) {
    let (call, _) = peer.receive();
    assert_eq!(call.method, QueueMethod::Stat as u32);
    let info = QueueInfo { messages_max, bytes_max: 1 << 30, ..QueueInfo::default() };
    peer.say(reply(&call), &encode(&info));
}

fn reply(call: &Header) -> Header {
    Header { call: call.call, ..Header::new(Kind::Reply) }
}

fn push(peer: &mut Peer) -> (Header, Vec<u8>) {
    let (header, payload) = peer.receive();
    assert_eq!((header.kind, header.handle, header.method), (Kind::Call, 7, QueueMethod::Push as u32));
    (header, payload)
}

fn parts(payload: &[u8]) -> Vec<(u32, Vec<u8>)> {
    Parts::of(payload).map(|part| (part.attribute, part.payload.to_vec())).collect()
}

#[test]
fn short_neighbours_are_one_call_and_others_have_their_own() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 10_000);
        // One alone is no batch.
        let (alone, payload) = push(&mut peer);
        assert_eq!((alone.flags, alone.ext_len, payload.as_slice()), (0, 0, &b"alone"[..]));
        peer.say(Header { seq: 5, ..reply(&alone) }, b"");
        let (three, payload) = push(&mut peer);
        assert_eq!((three.flags, three.ext_len), (flags::BATCH, 0));
        assert_eq!(parts(&payload), [(0, b"a".to_vec()), (0, vec![]), (9, b"c".to_vec())]);
        let (group, extensions, _) = peer.receive_parts();
        assert_eq!(group.flags, 0);
        let area = Extensions::parse(&extensions).expect("well formed");
        assert_eq!(area.map(|extension| extension.kind).collect::<Vec<_>>(), [extension_type::GROUP]);
        let (late, extensions, _) = peer.receive_parts();
        let options = Extensions::parse(&extensions).and_then(|area| area.find(extension_type::PUSH));
        let options = PushOptions::from_bytes(options.expect("PUSH")).expect("well formed");
        assert_eq!((options.priority, options.delay_ns), (3, 1_000_000_000));
        let (last, _) = push(&mut peer);
        peer.say(Header { seq: 30, epoch: 7, ..reply(&three) }, b"");
        let busy = Header { call: group.call, method: Outcome::Busy as u32, ..Header::new(Kind::Outcome) };
        peer.say(busy, &encode(&Failure::new("full")));
        peer.say(Header { seq: 33, ..reply(&late) }, b"");
        peer.say(Header { seq: 34, ..reply(&last) }, b"");
        peer
    };
    against(script, |board| {
        let jobs = board.queue("acme.jobs");
        let mut pipeline = jobs.pipeline(8).expect("opened");
        let mut ends = Ends::new();
        pipeline.submit(0, b"alone").expect("submitted");
        settle(&mut pipeline, &mut ends);
        pipeline.submit(1, b"a").expect("submitted");
        pipeline.submit(2, b"").expect("submitted");
        pipeline.submit_message(3, jobs.message("c").priority(9)).expect("submitted");
        pipeline.submit_message(4, jobs.message("d").group("g")).expect("submitted");
        let delayed = jobs.message("e").priority(3).delay(Duration::from_secs(1));
        pipeline.submit_message(5, delayed).expect("submitted");
        pipeline.submit(6, b"f").expect("submitted");
        settle(&mut pipeline, &mut ends);
        let positions: Vec<Option<u64>> =
            ends.values().map(|end| end.as_ref().ok().map(|pushed| pushed.position)).collect();
        assert_eq!(positions, [Some(5), Some(30), Some(31), Some(32), None, Some(33), Some(34)]);
        assert_eq!(ends[&3].as_ref().expect("pushed").log_position, 7);
        let other = board.queue("acme.others");
        let error = pipeline.submit_message(9, other.message("x")).expect_err("another queue");
        assert_eq!(error.outcome, Outcome::Invalid);
    });
}

#[test]
fn a_push_is_of_bounded_bytes() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 1 << 20);
        let mut seen = 0;
        while seen < 1000 {
            let (call, payload) = push(&mut peer);
            assert!(payload.len() <= 32 << 10, "{} bytes", payload.len());
            let count = parts(&payload).len() as u64;
            assert_eq!(payload.len() as u64, count * part_bytes(100) as u64);
            peer.say(Header { seq: seen + 1, ..reply(&call) }, b"");
            seen += count;
        }
        peer
    };
    against(script, |board| {
        let mut pipeline = board.queue("acme.jobs").pipeline(1000).expect("opened");
        let mut ends = Ends::new();
        for tag in 0..1000 {
            pipeline.submit(tag, &[1; 100]).expect("submitted");
        }
        settle(&mut pipeline, &mut ends);
        assert!(ends.iter().all(|(tag, end)| end.as_ref().expect("pushed").position == tag + 1));
    });
}

#[test]
fn a_queue_that_became_smaller_is_asked_again() {
    let script = |mut peer: Peer| {
        peer.greet();
        open(&mut peer, 10_000);
        let (call, payload) = push(&mut peer);
        assert_eq!(parts(&payload).len(), 3);
        let why = Header { call: call.call, method: Outcome::TooLarge as u32, ..Header::new(Kind::Outcome) };
        peer.say(why, &encode(&Failure::new("3 messages; it holds 2")));
        stat(&mut peer, 2);
        for number in 1..=3 {
            let (call, payload) = push(&mut peer);
            assert_eq!((call.flags, payload.len()), (0, 3));
            peer.say(Header { seq: number, ..reply(&call) }, b"");
        }
        peer
    };
    against(script, |board| {
        let mut pipeline = board.queue("acme.jobs").pipeline(10).expect("opened");
        for outcome in [Some(Outcome::TooLarge), None] {
            let mut ends = Ends::new();
            for tag in 0..3 {
                pipeline.submit(tag, b"job").expect("submitted");
            }
            settle(&mut pipeline, &mut ends);
            assert_eq!(outcomes(&ends), [(outcome, 3)]);
        }
    });
}

#[test]
fn on_a_new_connection_it_goes_on_and_what_was_lost_is_told() {
    let first = |mut peer: Peer| {
        open(&mut peer, 10_000);
        let (_, payload) = push(&mut peer);
        assert_eq!(parts(&payload).len(), 3);
    };
    let second = |mut peer: Peer| {
        peer.open();
        let (call, payload) = push(&mut peer);
        assert_eq!(parts(&payload).len(), 2);
        peer.say(Header { seq: 8, ..reply(&call) }, b"");
    };
    one_after_the_other(vec![first, second], |board| {
        let mut pipeline = board.queue("acme.jobs").pipeline(10).expect("opened");
        let mut ends = Ends::new();
        for tags in [0..3, 3..5] {
            for tag in tags {
                pipeline.submit(tag, b"job").expect("submitted");
            }
            settle(&mut pipeline, &mut ends);
        }
        assert_eq!(outcomes(&ends), [(Some(Outcome::PeerDied), 3), (None, 2)]);
        assert_eq!(ends[&4].as_ref().expect("pushed").position, 9);
    });
}
