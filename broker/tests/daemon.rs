//! The daemon from outside, through real sockets: it carries calls, bounds what a peer can do to
//! it, and says why it closes.

mod common;

use std::fs;
use std::os::fd::AsFd;

use common::Client;
use switchboard_broker::{Embedded, Options, StartError};
use switchboard_protocol::control::Operation;
use switchboard_protocol::{Failure, Goodbye, GoodbyeReason, Header, Kind, Outcome, decode};

fn broker() -> Embedded {
    Embedded::start(&Options::default()).expect("a broker")
}

#[test]
fn a_call_crosses_and_comes_back_whatever_its_size() {
    let broker = broker();
    let (mut server, _) = Client::new(broker.socket());
    let (mut client, welcome) = Client::new(broker.socket());
    server.serve("acme.echo");
    let handle = client.open("acme.echo");
    let sizes = [0, 1, 64, 16 << 10, 65_472, 65_473, (256 << 10) - 64, 256 << 10, 1 << 20, 16 << 20];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut payload = Vec::new();
            sizes.iter().for_each(|_| assert!(server.echo(&mut payload)));
        });
        for (call, &size) in (1..).zip(&sizes) {
            let payload: Vec<u8> = (0..size).map(|at: usize| (at / 7 + at / 4096) as u8).collect();
            client.call(handle, call, &payload);
            let (header, body) = client.next().expect("a reply");
            assert_eq!((header.kind, header.call), (Kind::Reply, call), "{size} bytes");
            assert!(body == payload, "{size} bytes came back as {}", body.len());
        }
    });
    assert_eq!(welcome.payload_bytes_max, 16 << 20);
}

#[test]
fn many_calls_in_flight_are_answered_once_each() {
    let broker = broker();
    let (mut server, _) = Client::new(broker.socket());
    let (mut client, _) = Client::new(broker.socket());
    server.serve("acme.echo");
    let handle = client.open("acme.echo");
    const CALLS: u64 = 5_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut payload = Vec::new();
            (0..CALLS).for_each(|_| assert!(server.echo(&mut payload)));
        });
        let mut seen = vec![false; CALLS as usize];
        let mut sent = 0;
        for _ in 0..CALLS {
            while sent < CALLS && sent < seen.iter().filter(|seen| **seen).count() as u64 + 64 {
                client.call(handle, (sent % 512) | (sent << 32), &[sent as u8; 3_000]);
                sent += 1;
            }
            let (header, body) = client.next().expect("a reply");
            let number = (header.call >> 32) as usize;
            assert_eq!((header.kind, body[0]), (Kind::Reply, number as u8));
            assert!(!std::mem::replace(&mut seen[number], true), "call {number} ended twice");
        }
    });
}

#[test]
fn an_oversized_payload_is_an_error_and_the_connection_lives() {
    let broker = broker();
    let (mut server, _) = Client::new(broker.socket());
    let (mut client, welcome) = Client::new(broker.socket());
    server.serve("acme.echo");
    let handle = client.open("acme.echo");
    client.call(handle, 1, &vec![0; welcome.payload_bytes_max as usize + 1]);
    let (header, body) = client.next().expect("an outcome");
    assert_eq!((header.kind, header.method, header.call), (Kind::Outcome, Outcome::TooLarge as u32, 1));
    let failure: Failure = decode(&body).expect("a failure");
    assert!(failure.message.contains("16777216"), "{}", failure.message);
    client.call(handle, 2, b"still here");
    assert!(server.echo(&mut Vec::new()));
    assert_eq!(client.next().expect("a reply").1, b"still here");
}

/// Sends bytes on a fresh connection and returns what the goodbye says.
fn goodbye_after(broker: &Embedded, send: impl FnOnce(&Client)) -> (GoodbyeReason, String) {
    let (mut client, _) = Client::new(broker.socket());
    send(&client);
    let (header, body) = client.next().expect("a goodbye");
    assert_eq!(header.kind, Kind::Goodbye);
    assert!(client.next().is_none(), "the connection is closed");
    (GoodbyeReason::from_wire(header.method), decode::<Goodbye>(&body).expect("a goodbye").message)
}

#[test]
fn broken_framing_closes_that_connection_with_a_reason_it_can_read() {
    let broker = broker();
    let (mut bystander, _) = Client::new(broker.socket());
    let handle = bystander.serve("acme.bystander");

    let (reason, message) = goodbye_after(&broker, |client| client.send_bytes(&[0xff; 64]));
    assert_eq!(reason, GoodbyeReason::BadFrame, "{message}");
    let mut long = Header::new(Kind::Call).to_bytes();
    long[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let (reason, message) = goodbye_after(&broker, |client| client.send_bytes(&long));
    assert_eq!(reason, GoodbyeReason::BadFrame, "{message}");
    let welcome = Header::new(Kind::Welcome).to_bytes();
    let (reason, message) = goodbye_after(&broker, |client| client.send_bytes(&welcome));
    assert_eq!(reason, GoodbyeReason::BrokerOnly, "{message}");
    let (reason, _) = goodbye_after(&broker, |client| {
        let file = fs::File::open("/dev/null").expect("there");
        let header = Header::new(Kind::Cancel).to_bytes();
        client.stream.send(&[std::io::IoSlice::new(&header)], &[file.as_fd()]).expect("sent");
    });
    assert_eq!(reason, GoodbyeReason::FileDescriptors);
    // The last bytes of a half-closed connection are answered, too.
    let (reason, _) = goodbye_after(&broker, |client| {
        client.send_bytes(&[0xff; 64]);
        client.stream.shutdown_write().expect("half closed");
    });
    assert_eq!(reason, GoodbyeReason::BadFrame);

    assert_ne!(handle, 0);
    bystander.control(Operation::Status, &[]);
}

#[test]
fn a_dead_servers_callers_are_told() {
    let broker = broker();
    let (mut server, _) = Client::new(broker.socket());
    let (mut client, _) = Client::new(broker.socket());
    server.serve("acme.dies");
    let handle = client.open("acme.dies");
    client.call(handle, 1, b"last words");
    assert_eq!(server.next().expect("a request").1, b"last words");
    drop(server);
    let (header, _) = client.next().expect("an outcome");
    assert_eq!((header.kind, header.method), (Kind::Outcome, Outcome::PeerDied as u32));
}

#[test]
fn what_a_client_sent_before_it_left_still_arrives() {
    let broker = broker();
    let (mut server, _) = Client::new(broker.socket());
    let serving = server.serve("acme.sink");
    let (mut client, _) = Client::new(broker.socket());
    let handle = client.open("acme.sink");
    const SENDS: u64 = 500;
    for number in 0..SENDS {
        client.send(Header { handle, call: number, ..Header::new(Kind::Send) }, &[number as u8; 100]);
    }
    drop(client);
    for number in 0..SENDS {
        let (header, body) = server.next().expect("a message");
        assert_eq!((header.kind, header.handle, body[0]), (Kind::Send, serving, number as u8));
    }
}

#[test]
fn everybody_is_told_when_the_broker_ends() {
    let broker = broker();
    let (mut client, _) = Client::new(broker.socket());
    let socket = broker.socket().to_path_buf();
    drop(broker);
    let mut last = None;
    while let Some((header, _)) = client.next() {
        last = Some(header);
    }
    let last = last.expect("a goodbye");
    assert_eq!(
        (last.kind, GoodbyeReason::from_wire(last.method)),
        (Kind::Goodbye, GoodbyeReason::ShuttingDown)
    );
    assert!(!socket.exists(), "the socket is gone, and its temporary directory with it");
}

#[test]
fn two_brokers_do_not_share_a_socket_or_a_state_directory() {
    let first = broker();
    let same = Options { socket: Some(first.socket().to_path_buf()), ..Options::default() };
    let error = Embedded::start(&same).expect_err("the socket is taken");
    assert!(matches!(error, StartError::Bind(_)) && error.exit_status() == 1, "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");

    let state = first.socket().with_file_name("state");
    let same = Options { state_dir: Some(state), ..Options::default() };
    let error = Embedded::start(&same).expect_err("the state is taken").to_string();
    assert!(error.contains("--state-dir"), "{error}");
    Client::new(first.socket());
}

#[test]
fn a_wrong_configuration_keeps_the_broker_from_starting_and_says_where() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("switchboard.toml");
    fs::write(&config, "[limits]\nnames_maximum = 3\n").expect("written");
    let error = Embedded::start(&Options { config: Some(config), ..Options::default() }).expect_err("wrong");
    assert_eq!(error.exit_status(), 2);
    assert!(error.to_string().contains("switchboard.toml:2:1"), "{error}");
}
