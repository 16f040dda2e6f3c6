//! Peers that break the rules, or keep them in the worst way. Each is dealt with alone: beside every
//! one of them an innocent echo service and its caller go on without a single error.

use std::fs::File;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use switchboard_protocol::control::{Operation, Status};
use switchboard_protocol::{
    Event, FRAME_BYTES_MAX, GoodbyeReason, Header, Kind, Outcome, Rights, Verb, write_frame,
};
use switchboard_tests::rig::{
    Bystander, Client, Daemon, Ended, Folder, User, anonymous_bytes, open_files, until,
};
use switchboard_transport::FDS_MAX;
use switchboard_transport::spawn::Signal;

/// What a fresh connection that sends these bytes is told when it is closed.
fn goodbye_after(mut client: Client, bytes: &[u8]) -> Ended {
    client.send_bytes(bytes);
    client.ended()
}

/// What a handshaken connection that sends these bytes is told when it is closed.
fn goodbye(socket: &Path, bytes: &[u8]) -> Ended {
    goodbye_after(Client::new(socket), bytes)
}

/// The bytes of a frame.
fn frame(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, header, &[], &[], payload);
    bytes
}

fn call() -> Header {
    Header::new(Kind::Call)
}

#[test]
fn whatever_is_no_frame_ends_that_connection_with_a_reason() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let socket = folder.socket();
    let bystander = Bystander::new(&socket);

    let with = |at: usize, bytes: &[u8]| {
        let mut frame = call().to_bytes();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        goodbye(&socket, &frame)
    };
    with(6, &[0x7f]).must_be(GoodbyeReason::BadFrame, "0x7f");
    with(9, &[2]).must_be(GoodbyeReason::Version, "version 2");
    with(7, &[0x80]).must_be(GoodbyeReason::BadFrame, "flags");
    with(8, &[8]).must_be(GoodbyeReason::BadFrame, "priority");
    with(0, &u32::MAX.to_le_bytes()).must_be(GoodbyeReason::BadFrame, "256 MiB");
    with(0, &(FRAME_BYTES_MAX + 1).to_le_bytes()).must_be(GoodbyeReason::BadFrame, "256 MiB");
    with(0, &63_u32.to_le_bytes()).must_be(GoodbyeReason::BadFrame, "length 63");
    with(4, &17_u16.to_le_bytes()).must_be(GoodbyeReason::BadFrame, "extension");
    with(4, &8192_u16.to_le_bytes()).must_be(GoodbyeReason::BadFrame, "extension");
    with(10, &17_u16.to_le_bytes()).must_be(GoodbyeReason::BadFrame, "17 handles");
    let mut torn = Header { len: 80, ext_len: 16, ..call() }.to_bytes().to_vec();
    torn.extend([1, 0, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    goodbye(&socket, &torn).must_be(GoodbyeReason::BadFrame, "extension");

    for kind in [Kind::Welcome, Kind::Event] {
        let header = Header::new(kind).to_bytes();
        goodbye(&socket, &header).must_be(GoodbyeReason::BrokerOnly, "only the broker");
    }
    goodbye(&socket, &frame(Header { method: 7, ..Header::new(Kind::Hello) }, b"again"))
        .must_be(GoodbyeReason::Hello, "second");
    // A valid frame before the broken one is still done, and one after it is not.
    let mut service = Client::new(&socket);
    service.serve("acme.sink").expect("ours to serve");
    let mut client = Client::new(&socket);
    let handle = client.open("acme.sink").expect("ours to call").handle;
    let mut bytes = frame(Header { handle, ..Header::new(Kind::Send) }, b"before");
    bytes.extend([0xff; 64]);
    bytes.extend(frame(Header { handle, ..Header::new(Kind::Send) }, b"after"));
    goodbye_after(client, &bytes).must_be(GoodbyeReason::BadFrame, "kind 0xff");
    let sent = service.take("a message", |frame| frame.header.kind == Kind::Send);
    assert_eq!(sent.payload(), b"before");
    service.status();
    assert!(!service.has_news());

    bystander.unharmed();
}

#[test]
fn whoever_does_not_shake_hands_is_told_how_to() {
    let folder = Folder::with_config("[limits]\nhello_timeout = \"300ms\"\n");
    let _daemon = folder.start();
    let socket = folder.socket();
    let bystander = Bystander::new(&socket);
    let silent = || Client::silent(&socket);

    let http = b"GET /index.html HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a browser\r\nAccept: */*\r\n\r\n";
    goodbye_after(silent(), http).must_be(GoodbyeReason::BadFrame, "kind");
    goodbye_after(silent(), &[0; 4096]).must_be(GoodbyeReason::BadFrame, "kind 0x00");
    goodbye_after(silent(), &frame(call(), b"no hello")).must_be(GoodbyeReason::Hello, "HELLO");
    let wrong_magic = frame(Header { method: 0x1234, ..Header::new(Kind::Hello) }, &[1, 1, 0, 0]);
    goodbye_after(silent(), &wrong_magic).must_be(GoodbyeReason::Hello, "no valid HELLO");
    let magic = switchboard_protocol::HELLO_MAGIC;
    let hello = |body: &[u8]| frame(Header { method: magic, ..Header::new(Kind::Hello) }, body);
    goodbye_after(silent(), &hello(&[1])).must_be(GoodbyeReason::Hello, "no valid HELLO");
    goodbye_after(silent(), &hello(&[2, 9, 0, 0])).must_be(GoodbyeReason::Version, "2 to 9");
    goodbye_after(silent(), &hello(&[0, 0, 0, 0])).must_be(GoodbyeReason::Version, "0 to 0");
    silent().ended().must_be(GoodbyeReason::HelloTimeout, "limits.hello_timeout");
    goodbye_after(silent(), b"GET / HTTP/1.1\r\n\r\n").must_be(GoodbyeReason::HelloTimeout, "HELLO");

    bystander.unharmed();
}

#[test]
fn wrong_content_is_an_error_and_the_connection_lives() {
    let folder = Folder::with_config(
        "[limits]\npayload_bytes_max = \"1 MiB\"\n[limits.user.default]\ncalls_open = 40\n",
    );
    let _daemon = folder.start();
    let socket = folder.socket();
    let bystander = Bystander::new(&socket);
    let mut service = Client::new(&socket);
    service.serve_with("acme.stuck", 40).expect("ours to serve");
    let mut client = Client::new(&socket);
    let handle = client.open("acme.stuck").expect("ours to call").handle;

    client
        .call(0xdead << 32 | 7, b"")
        .expect_err("no such handle")
        .must_be(Outcome::Invalid, "no such handle");
    client.open("Not A Name").expect_err("no name").must_be(Outcome::Invalid, "Not A Name");
    client.serve("switchboard.mine").expect_err("reserved").must_be(Outcome::Denied, "switchboard.mine");
    client
        .open_with("acme.x", Rights(1 << 30))
        .expect_err("no such right")
        .must_be(Outcome::Invalid, "SPEC 3.4");
    let header = Header { method: 999, ..call() };
    let unknown = client.begin(0, header, b"");
    client.outcome(unknown).expect_err("no such operation").must_be(Outcome::Unsupported, "999");
    let malformed = client.begin(0, Header { method: Operation::Open as u32, ..call() }, b"\xff\xff\xff");
    client.outcome(malformed).expect_err("malformed").must_be(Outcome::Invalid, "SPEC 7");
    let long = client.begin(0, Header { method: Operation::Open as u32, ..call() }, &vec![0; 20_000]);
    client.outcome(long).expect_err("too long").must_be(Outcome::TooLarge, "16384");
    for size in [(1 << 20) + 1, 16 << 20] {
        client
            .call(handle, &vec![1; size])
            .expect_err("too large")
            .must_be(Outcome::TooLarge, "payload_bytes_max");
    }
    let serving = client.serve("acme.mine").expect("ours to serve").handle;
    client.call(serving, b"").expect_err("not a right of it").must_be(Outcome::Denied, "call");

    // Too many calls: all the rest are refused, and there is room again when one ends.
    let calls: Vec<u64> = (0..60).map(|_| client.begin(handle, call(), b"")).collect();
    for &call in &calls[40..] {
        client.outcome(call).expect_err("over the quota").must_be(Outcome::Busy, "limits.user.calls_open");
    }
    let request = service.request();
    service.reply(&request, b"at last");
    assert_eq!(client.outcome(calls[0]).expect("answered"), b"at last");
    let again = client.begin(handle, call(), b"again");
    service.take("the call for which there is room", |frame| frame.payload() == b"again");
    client.send(Header { call: again, ..Header::new(Kind::Cancel) }, b"");
    client.outcome(again).expect_err("given up").must_be(Outcome::Cancelled, "");

    // Answers to what nobody asked are dropped and counted.
    let late = |status: &Status| {
        status.counters.iter().find(|counter| counter.name == "answers_late").map(|counter| counter.value)
    };
    let before = late(&client.status());
    client.send(Header { call: 0x1234_5678, ..Header::new(Kind::Reply) }, b"made up");
    service.reply(&request, b"twice");
    assert_eq!(
        (late(&service.status()), late(&client.status())),
        (before.map(|count| count + 2), before.map(|count| count + 2))
    );
    bystander.unharmed();
}

#[test]
fn a_service_that_never_answers_costs_its_callers_their_deadline_and_nobody_else_anything() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let bystander = Bystander::new(&folder.socket());
    let mut service = Client::new(&folder.socket());
    service.serve_with("acme.stuck", 10).expect("ours to serve");
    let mut client = Client::new(&folder.socket());
    let handle = client.open("acme.stuck").expect("ours to call").handle;
    // Ten at the service, the rest waits for it to have room.
    let deadline = Client::now() + 100_000_000;
    let calls: Vec<u64> =
        (0..100).map(|_| client.begin(handle, Header { deadline, ..call() }, b"")).collect();
    for call in calls {
        client.outcome(call).expect_err("nobody answers").must_be(Outcome::DeadlineExceeded, "");
    }
    assert!(deadline <= Client::now(), "a deadline does not pass early");
    for _ in 0..10 {
        let request = service.request();
        assert_eq!(request.header.deadline, deadline, "the service knows how long it has");
        let cancel = service.take("advice to stop", |frame| frame.header.kind == Kind::Cancel);
        assert_eq!(
            (cancel.header.call, cancel.header.method),
            (request.header.call, Outcome::DeadlineExceeded as u32)
        );
    }
    let past = client.begin(handle, Header { deadline: 1, ..call() }, b"");
    client.outcome(past).expect_err("long past").must_be(Outcome::DeadlineExceeded, "had passed");
    let status = client.status();
    assert_eq!((status.waiting, status.waiting_bytes), (0, 0));
    assert!(status.calls_open <= 1, "none but the bystander's");
    bystander.unharmed();
}

#[test]
fn who_asks_for_megabytes_and_never_reads_costs_bounded_memory() {
    const REPLY: usize = 1 << 20;
    const HOGS: usize = 12;
    let folder = Folder::with_config(
        "[limits]\npayload_bytes_max = \"2 MiB\"\nlink_bytes_max = \"8 MiB\"\n\
         [limits.user.default]\nunread_bytes = \"16 MiB\"\n",
    );
    let daemon = folder.start();
    let socket = folder.socket();
    let bystander = Bystander::new(&socket);
    let mut service = Client::new(&socket);
    service.serve("acme.large").expect("ours to serve");
    let serving = std::thread::spawn(move || {
        let large = vec![3; REPLY];
        let mut answered = 0_u64;
        while let Some(request) = service.next_frame() {
            if request.header.kind == Kind::Call {
                service.reply(&request, &large);
                answered += 1;
            }
            if request.payload() == b"the last one" {
                break;
            }
        }
        answered
    });
    let before = anonymous_bytes(daemon.pid());
    let mut hogs: Vec<Client> = (0..HOGS).map(|_| Client::new(&socket)).collect();
    for hog in &mut hogs {
        let handle = hog.open("acme.large").expect("ours to call").handle;
        for _ in 0..200 {
            hog.begin(handle, call(), b"");
        }
    }
    // The service answers in order, so by now it has answered everything that reached it before.
    let mut reader = Client::new(&socket);
    let handle = reader.open("acme.large").expect("ours to call").handle;
    let last = reader.begin(handle, Header { priority: 0, ..call() }, b"the last one");
    let outcome = reader.outcome(last);
    let answered = serving.join().expect("the service");
    let after = anonymous_bytes(daemon.pid());
    let grown = after.saturating_sub(before) >> 20;
    println!(
        "{HOGS} hogs asked for {} MiB, {answered} replies of 1 MiB were sent; the broker grew by {grown} MiB",
        HOGS * 200
    );
    // 16 MiB unread by the user's quota and an eighth more, 32 MiB of large buffers kept, 16 turn
    // buffers of 256 KiB; and as much again as an allocator may make of it.
    assert!(grown <= 96, "the broker grew by {grown} MiB");
    // The reader shares the hogs' user: it may find no room, but it is told, and at once.
    match outcome {
        Ok(reply) => assert_eq!(reply.len(), REPLY),
        Err(refused) => refused.must_be(Outcome::TooLarge, "limits.user.unread_bytes"),
    }
    drop(hogs);
    until("the hogs to go", || reader.status().connections == 3);
    bystander.unharmed();
}

#[test]
fn a_rush_of_short_connections_leaves_nothing_behind() {
    let folder = Folder::new();
    let daemon = folder.start();
    let socket = folder.socket();
    let bystander = Bystander::new(&socket);
    let mut observer = Client::new(&socket);
    let (connections, descriptors) = (observer.status().connections, open_files(daemon.pid()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..500 {
                    let mut client = Client::silent(&socket);
                    match number % 4 {
                        // Gone without a word, in the middle of one, after one, after a handshake.
                        0 => {}
                        1 => client.send_bytes(&[0; 10]),
                        2 => client.send_bytes(&frame(Header::new(Kind::Hello), b"?")),
                        _ => drop(client.greet()),
                    }
                }
            });
        }
    });
    until("the rush to be over", || observer.status().connections == connections);
    until("its descriptors to be closed", || open_files(daemon.pid()) == descriptors);
    bystander.unharmed();
}

/// Descriptors sent along with a byte each time, until the socket takes no more. Returns how many.
fn send_descriptors(client: &Client, most: usize) -> usize {
    let file = File::open("/dev/null").expect("there");
    let many = [file.as_fd(); FDS_MAX];
    let byte = Header::new(Kind::Cancel).to_bytes();
    let mut sent = 0;
    while sent < most {
        match client.stream().send(&[IoSlice::new(&byte)], &many) {
            Ok(_) => sent += FDS_MAX,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return sent,
            Err(error) => panic!("descriptors cannot be sent: {error}"),
        }
    }
    sent
}

#[test]
fn ten_thousand_descriptors_in_one_burst_are_closed_and_their_sender_is_told() {
    let folder = Folder::new();
    let daemon = folder.start();
    let socket = folder.socket();
    let bystander = Bystander::new(&socket);
    let before = open_files(daemon.pid());
    let mut senders: Vec<Client> = Vec::new();
    let mut sent = 0;
    // While the broker stands still, they pile up in its sockets.
    let burst = |sent: &mut usize, senders: &mut Vec<Client>| {
        let client = senders.last().expect("a sender");
        *sent += send_descriptors(client, 10_000 - *sent);
    };
    let waiting: Vec<Client> = (0..100).map(|_| Client::new(&socket)).collect();
    daemon.signal(Signal::STOP);
    for client in waiting {
        if sent < 10_000 {
            senders.push(client);
            burst(&mut sent, &mut senders);
        }
    }
    daemon.signal(Signal::CONT);
    assert!(10_000 <= sent, "only {sent} descriptors were on their way at once");
    println!("{sent} descriptors on {} connections", senders.len());
    for sender in &mut senders {
        sender.ended().must_be(GoodbyeReason::FileDescriptors, "SPEC 2.8");
    }
    drop(senders);
    until("every descriptor to be closed", || open_files(daemon.pid()) <= before);
    bystander.unharmed();
}

/// Lets the daemon have so many descriptors from now on.
fn set_open_files(daemon: &Daemon, most: u64) {
    let pid = Pid::from_raw(daemon.pid().cast_signed());
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(most), maximum: Some(20_000.max(most)) })
        .expect("our child");
}

#[test]
fn without_free_descriptors_the_connected_are_served_and_the_others_told() {
    let folder = Folder::new();
    let daemon = folder.launch().open_files(20_000).start();
    let socket = folder.socket();
    let bystander = Bystander::new(&socket);
    let mut observer = Client::new(&socket);
    set_open_files(&daemon, open_files(daemon.pid()) as u64 + 10);

    let mut inside: Vec<Client> = Vec::new();
    let ended = loop {
        let mut client = Client::silent(&socket);
        match client.greet() {
            Ok(_) => inside.push(client),
            Err(ended) => break ended,
        }
        // Numbers of descriptors need not be dense, so it may be a few more than ten.
        assert!(inside.len() < 100, "more than there are descriptors for");
    };
    ended.must_be(GoodbyeReason::TooManyConnections, "no file descriptor left");
    daemon.logged("out of file descriptors");
    assert!(!daemon.log().contains("; 0 more"), "nobody was turned away before: {}", daemon.log());
    for _ in 0..20 {
        Client::silent(&socket)
            .greet()
            .expect_err("still no room")
            .must_be(GoodbyeReason::TooManyConnections, "LimitNOFILE");
    }
    observer.status();
    bystander.goes_on();
    for client in &mut inside {
        client.status();
    }
    let left = inside.pop();
    drop(left);
    until("a free descriptor to be used", || Client::silent(&socket).greet().is_ok());
    bystander.unharmed();
}

#[test]
fn a_low_limit_of_open_files_is_announced_and_kept() {
    let folder = Folder::new();
    let daemon = folder.launch().open_files(80).start();
    daemon.logged("raise LimitNOFILE");
    let bystander = Bystander::new(&folder.socket());
    let mut inside: Vec<Client> = Vec::new();
    let ended = loop {
        let mut client = Client::silent(&folder.socket());
        match client.greet() {
            Ok(_) => inside.push(client),
            Err(ended) => break ended,
        }
    };
    assert_eq!(inside.len() + 2, 80 - 64, "what is left of 80 descriptors");
    ended.must_be(GoodbyeReason::TooManyConnections, "limits.connections_max");
    inside.pop();
    until("the room of one that left", || Client::silent(&folder.socket()).greet().is_ok());
    bystander.unharmed();
}

#[test]
fn a_client_that_reads_nothing_at_all_is_closed_once_even_outcomes_pile_up() {
    let folder = Folder::with_config(
        "[limits]\npayload_bytes_max = \"64 KiB\"\nlink_bytes_high = \"64 KiB\"\nlink_bytes_max = \"64 KiB\"\nlink_bytes_reserved = \"320 KiB\"\n",
    );
    let daemon = folder.start();
    let socket = folder.socket();
    let bystander = Bystander::new(&socket);
    let mut service = Client::new(&socket);
    service.serve_with("acme.stuck", 4096).expect("ours to serve");
    std::thread::spawn(move || while service.next_frame().is_some() {});
    let mut observer = Client::new(&socket);
    let mut mute = User::ourselves().connect(&socket);
    let handle = mute.open("acme.stuck").expect("ours to call").handle;
    let deadline = Client::now() + 200_000_000;
    let before = anonymous_bytes(daemon.pid());
    // All these deadlines pass at once. The outcomes are too much for who does not read; the advice to
    // the service, 64 bytes each, fits into what is reserved.
    // It is no longer read once too much waits for it, so this ends by a full socket or a closed one.
    mute.stream().set_send_timeout(Some(Duration::from_millis(500))).expect("a socket");
    for number in 0..100_000_u64 {
        let header = Header { handle, call: (number % 4096) | ((number + 1) << 32), deadline, ..call() };
        if mute.try_send_bytes(&frame(header, b"")).is_err() {
            break;
        }
    }
    let grown = anonymous_bytes(daemon.pid()).saturating_sub(before) >> 20;
    assert!(grown <= 32, "the broker grew by {grown} MiB");
    daemon.logged("NotReading");
    until("it to be gone", || observer.status().connections == 4);
    bystander.unharmed();
}

#[test]
fn sends_beyond_the_window_are_refused_and_told() {
    let folder = Folder::with_config("[limits]\nsend_bytes = \"64 KiB\"\n");
    let _daemon = folder.start();
    let socket = folder.socket();
    let bystander = Bystander::new(&socket);
    let mut service = Client::new(&socket);
    service.serve("acme.sink").expect("ours to serve");
    let mut sender = Client::new(&socket);
    let opened = sender.open("acme.sink").expect("ours to send to");
    assert_eq!(opened.send_bytes, 64 << 10);
    // The service never gives credit back, and the sender does not care for its window.
    for tag in 0..40 {
        sender
            .send(Header { handle: opened.handle, call: tag, ..Header::new(Kind::Send) }, &vec![0; 8 << 10]);
    }
    let failed = sender.event(Event::SendFailed);
    assert_eq!(failed.header.handle, opened.handle);
    sender.status();
    assert!(Verb::Call.right().contains(Rights(opened.rights)));
    bystander.unharmed();
}
