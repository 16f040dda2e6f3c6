//! The blocking driver against a scripted peer in the place of a broker: stopped, wrong, full.

mod common;

use std::io::{IoSlice, Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use switchboard::control::{Opened, Operation};
use switchboard::{Board, ConnectError, Outcome};
use switchboard_protocol::{Goodbye, GoodbyeReason, Header, Kind, encode, write_frame};
use switchboard_transport::Stream;

use common::peer::{Peer, against};

#[test]
fn a_broker_that_stops_does_not_keep_a_call_beyond_its_deadline_for_long() {
    let script = |mut peer: Peer| {
        peer.greet();
        peer.open();
        let (call, _) = peer.receive();
        // Silence; until the client gives the call up by itself.
        let (cancel, _) = peer.receive();
        assert_eq!((cancel.kind, cancel.call), (Kind::Cancel, call.call));
        peer
    };
    against(script, |board| {
        let begin = Instant::now();
        let service = board.service("acme.x");
        let error = service.request().timeout(Duration::from_millis(100)).call().expect_err("silence");
        assert_eq!(error.outcome, Outcome::DeadlineExceeded, "{error}");
        assert!(begin.elapsed() > Duration::from_secs(1), "the broker has the first word");
    });
}

#[test]
fn two_full_directions_do_not_deadlock() {
    const BYTES: usize = 8 << 20;
    let script = |mut peer: Peer| {
        peer.greet();
        peer.open();
        // The first bytes of the call are there; answer it with as much before reading on, so that
        // both sockets are full.
        let mut head = [0; 64];
        peer.socket.read_exact(&mut head).expect("a header");
        let call = Header::from_bytes(&head).expect("a header");
        let mut reply = Vec::new();
        write_frame(
            &mut reply,
            Header { call: call.call, ..Header::new(Kind::Reply) },
            &[],
            &[],
            &vec![1; BYTES],
        );
        peer.socket.write_all(&reply).expect("the client reads while it writes");
        std::io::copy(&mut Read::by_ref(&mut peer.socket).take(BYTES as u64), &mut std::io::sink())
            .expect("the rest");
        peer
    };
    against(script, |board| {
        let reply = board.service("acme.x").call(vec![2; BYTES]).expect("a reply");
        assert_eq!(reply.len(), BYTES);
    });
}

#[test]
fn a_wrong_broker_ends_the_connection_and_every_call_says_so() {
    let script = |mut peer: Peer| {
        peer.greet();
        peer.open();
        let (call, _) = peer.receive();
        peer.say(Header { call: call.call + 1, ..Header::new(Kind::Reply) }, b"to nobody");
        peer
    };
    against(script, |board| {
        let error = board.service("acme.x").call("").expect_err("a wrong broker");
        assert_eq!(error.outcome, Outcome::PeerDied);
        assert!(error.message().contains("which is not open"), "{error}");
        assert!(!board.is_connected());
    });
}

#[test]
fn a_broker_that_is_gone_in_the_middle_of_a_frame_is_a_dead_peer() {
    let script = |mut peer: Peer| {
        peer.greet();
        peer.open();
        let (call, _) = peer.receive();
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Header { call: call.call, ..Header::new(Kind::Reply) }, &[], &[], &[1; 1000]);
        peer.socket.write_all(&bytes[..500]).expect("half a frame");
    };
    against(script, |board| {
        let error = board.service("acme.x").call("").expect_err("half a reply is none");
        assert_eq!(error.outcome, Outcome::PeerDied, "{error}");
    });
}

#[test]
fn a_goodbye_during_the_handshake_is_told_as_such() {
    let (stream, mut peer) = Peer::pair();
    let script = std::thread::spawn(move || {
        peer.receive();
        let header = Header { method: GoodbyeReason::Denied as u32, ..Header::new(Kind::Goodbye) };
        peer.say(header, &encode(&Goodbye { message: "you may not".into() }));
    });
    match Board::builder().connect_over(stream).expect_err("refused") {
        ConnectError::Refused { reason: GoodbyeReason::Denied, message, .. } => {
            assert_eq!(message, "you may not");
        }
        other => panic!("{other}"),
    }
    script.join().expect("it went well");
}

#[test]
fn a_stranger_at_the_socket_and_one_that_says_nothing_are_told_apart() {
    let (stream, peer) = Peer::pair();
    let noise = Stream::from(OwnedFd::from(peer.socket));
    noise.send_wait(&[IoSlice::new(&[b'?'; 200])], &[]).expect("sent");
    let error = Board::builder().connect_over(stream).expect_err("a stranger");
    assert!(matches!(error, ConnectError::Protocol { .. }), "{error}");

    let (stream, _peer) = Peer::pair();
    let builder = Board::builder().connect_timeout(Duration::from_millis(20));
    let error = builder.connect_over(stream).expect_err("silence");
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
}

#[test]
fn leadership_is_handed_on_while_others_still_wait() {
    const CALLS: usize = 16;
    let script = |mut peer: Peer| {
        peer.greet();
        peer.open();
        let mut calls: Vec<(u64, Vec<u8>)> = Vec::new();
        while calls.len() < CALLS {
            let (header, payload) = peer.receive();
            // Several threads may open the service at once.
            if header.handle == 0 && header.method == Operation::Open as u32 {
                let opened = Opened { handle: 7, rights: 2, epoch: 1, send_bytes: 1 << 20 };
                peer.say(Header { call: header.call, ..Header::new(Kind::Reply) }, &encode(&opened));
            } else if header.handle == 7 {
                calls.push((header.call, payload));
            }
        }
        // One at a time, so that whoever leads leaves, and another must take over.
        for (call, payload) in calls {
            peer.say(Header { call, ..Header::new(Kind::Reply) }, &payload);
            std::thread::sleep(Duration::from_millis(2));
        }
        peer
    };
    against(script, |board| {
        let service = board.service("acme.x");
        std::thread::scope(|scope| {
            for number in 0..CALLS as u8 {
                let service = service.clone();
                scope.spawn(move || {
                    let reply = service.call([number]).expect("a reply");
                    assert_eq!(&reply[..], [number]);
                });
            }
        });
    });
}
