//! One-way messages, many in one frame (SPEC 2.9).

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::World;
use common::peer::{Peer, against};
use switchboard::{Board, Server};
use switchboard_protocol::control::{Operation, Served};
use switchboard_protocol::{Header, Kind, Parts, encode, flags, write_part};

/// Messages of many sizes: of every padding, and some too long to travel with others.
fn message(number: usize) -> Vec<u8> {
    let len = if number % 50 == 49 { 5000 + number } else { number % 37 };
    (0..len).map(|at| (at + number) as u8).collect()
}

fn send_and_count(board: &Board, count: usize) {
    let service = board.service("acme.log");
    let mut batch = board.batch();
    for number in 0..count {
        batch.send_method(&service, (number / 20) as u32, &message(number)).expect("sent");
    }
    batch.flush().expect("flushed");
}

#[test]
fn a_server_gets_the_messages_of_a_batch_one_by_one_and_in_order() {
    const COUNT: usize = 5000;
    let world = World::start();
    let came = Arc::new(Mutex::new(Vec::new()));
    let server: Server = {
        let came = Arc::clone(&came);
        let builder = world.board().serve("acme.log");
        let handler = move |request: &mut switchboard::Request| {
            if !request.is_one_way() {
                return Ok(());
            }
            came.lock().expect("no panic").push((request.method().to_string(), request.payload().to_vec()));
            Ok(())
        };
        builder.start(handler).expect("served")
    };
    let board = world.board();
    send_and_count(&board, COUNT);
    server_is_done(&board, "acme.log");
    let came = came.lock().expect("no panic");
    assert_eq!(came.len(), COUNT);
    for (number, (method, payload)) in came.iter().enumerate() {
        assert_eq!((method, payload), (&(number / 20).to_string(), &message(number)));
    }
    drop(server);
    board.flush().expect("all were delivered");
}

/// A call behind the messages, on the same handle: it is answered when they have been handled.
fn server_is_done(board: &Board, name: &str) {
    board.service(name).call("").expect("a reply");
}

#[test]
fn workers_share_the_messages_of_a_batch() {
    let world = World::start();
    let barrier = Arc::new(std::sync::Barrier::new(4));
    let counted = Arc::new(AtomicUsize::new(0));
    let _server = {
        let (barrier, counted) = (Arc::clone(&barrier), Arc::clone(&counted));
        let builder = world.board().serve("acme.log").workers(4);
        // Each waits for three others of the same frame.
        let handler = move |request: &mut switchboard::Request| {
            if request.is_one_way() {
                barrier.wait();
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        builder.start(handler).expect("served")
    };
    let board = world.board();
    let service = board.service("acme.log");
    let mut batch = board.batch();
    (0..40).for_each(|_| batch.send(&service, "x").expect("sent"));
    batch.flush().expect("flushed");
    common::patiently(|| (counted.load(Ordering::Relaxed) == 40).then_some(()));
}

#[test]
fn a_panic_over_one_message_of_a_batch_keeps_none_of_the_others_away() {
    let world = World::start();
    let counted = Arc::new(AtomicUsize::new(0));
    let _server = {
        let counted = Arc::clone(&counted);
        let handler = move |request: &mut switchboard::Request| {
            assert_ne!(request.payload(), b"3", "a panic that belongs here");
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        world.board().serve("acme.log").start(handler).expect("served")
    };
    let board = world.board();
    let service = board.service("acme.log");
    let mut batch = board.batch();
    ["1", "2", "3", "4"].iter().for_each(|number| batch.send(&service, number).expect("sent"));
    batch.flush().expect("flushed");
    server_is_done(&board, "acme.log");
    assert_eq!(counted.load(Ordering::Relaxed), 4, "three, and the call");
}

#[test]
fn small_neighbours_travel_in_one_frame_and_others_in_their_own() {
    let script = |mut peer: Peer| {
        peer.greet();
        peer.open();
        let mut frames = Vec::new();
        while frames.len() < 4 {
            frames.push(peer.receive());
        }
        let shape = |(header, payload): &(Header, Vec<u8>)| {
            assert_eq!((header.kind, header.handle), (Kind::Send, 7));
            let is_batch = header.flags & flags::BATCH != 0;
            let parts = if is_batch { Parts::of(payload).count_whole().expect("a batch") } else { 1 };
            (header.method, parts, is_batch)
        };
        let shapes: Vec<_> = frames.iter().map(shape).collect();
        assert_eq!(shapes, [(0, 3, true), (1, 1, false), (0, 1, false), (0, 2, true)]);
        assert_eq!(frames[1].1, b"another");
        assert_eq!(frames[2].1, [7; 5000]);
    };
    against(script, |board| {
        let service = board.service("acme.x");
        let mut batch = board.batch();
        for small in ["a", "bb", ""] {
            batch.send(&service, small).expect("sent");
        }
        batch.send_method(&service, 1, b"another").expect("sent");
        batch.send(&service, [7; 5000]).expect("sent");
        batch.send(&service, "c").expect("sent");
        batch.send(&service, "d").expect("sent");
        batch.flush().expect("flushed");
    });
}

#[test]
fn a_batch_takes_no_more_of_the_window_than_its_frames_are_long() {
    let world = World::start();
    let _server = world.board().serve("acme.log").start(|_| Ok(())).expect("served");
    let board = world.board();
    let service = board.service("acme.log");
    // Many windows' worth: what is set aside and not given back would bring it to a stand.
    let mut batch = board.batch();
    for number in 0..200_000usize {
        batch.send(&service, &[1; 40][..number % 40]).expect("there is room again and again");
        if number % 7 == 0 {
            batch.flush().expect("flushed");
        }
    }
    batch.flush().expect("flushed");
    board.flush().expect("all were delivered");
}

#[test]
fn a_malformed_batch_is_dropped_and_its_room_given_back() {
    let script = |mut peer: Peer| {
        peer.greet();
        let (header, _) = peer.receive();
        assert_eq!(header.method, Operation::Serve as u32);
        let window = 4096;
        let served = Served { handle: 9, standby: 0, epoch: 1, reference: 0, calls: 8, send_bytes: window };
        peer.say(Header { call: header.call, ..Header::new(Kind::Reply) }, &encode(&served));
        let send = Header { handle: 9, flags: flags::BATCH, ..Header::new(Kind::Send) };
        peer.say(send, &[0xff; 1000]);
        let mut good = Vec::new();
        write_part(&mut good, 0, b"one");
        write_part(&mut good, 0, b"two");
        peer.say(send, &good);
        let (credit, _) = peer.receive();
        assert_eq!((credit.kind, credit.handle, credit.call), (Kind::Credit, 9, 0));
        let mut back = credit.seq;
        while back < 1072 + 96 {
            back += peer.receive().0.seq;
        }
        assert_eq!(back, 1072 + 96, "what the two frames took");
        peer
    };
    against(script, |board| {
        let (sender, came) = std::sync::mpsc::channel();
        let handler = move |request: &mut switchboard::Request| {
            sender.send(request.payload().to_vec()).expect("somebody listens");
            Ok(())
        };
        let server = board.serve("acme.log").start(handler).expect("served");
        assert_eq!(came.recv().expect("the first"), b"one");
        assert_eq!(came.recv().expect("the second"), b"two");
        // Kept until the script has seen what came back.
        std::mem::forget(server);
    });
}
