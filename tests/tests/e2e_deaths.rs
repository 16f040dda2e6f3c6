//! Kill -9 of a service, of a client and of the broker, each a real process: who is told what.

use switchboard_protocol::control::{Operation, Serve, Served};
use switchboard_protocol::{Epoch, Event, Header, Kind, Outcome};
use switchboard_tests::rig::{Client, Folder, User, until};

/// `wait(2)`'s word for "killed by signal 9".
const KILLED: u32 = 9;

#[test]
fn callers_of_a_killed_service_are_told_at_once_and_the_standby_takes_over() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let socket = folder.socket();
    let us = User::ourselves();
    let mut service = us.connect(&socket);
    let first = service.serve("acme.mixer").expect("ours to serve");
    let mut standby = us.connect(&socket);
    let second = standby.serve("acme.mixer").expect("ours to serve");
    assert_eq!((first.standby, second.standby, second.epoch), (0, 1, 0));

    let mut callers: Vec<Client> = (0..3).map(|_| Client::new(&socket)).collect();
    let mut calls = Vec::new();
    for caller in &mut callers {
        let handle = caller.open("acme.mixer").expect("ours to call").handle;
        // No deadline: only the death can end them.
        calls.push((handle, [0; 5].map(|_| caller.begin(handle, Header::new(Kind::Call), b"mix"))));
    }
    (0..15).for_each(|_| drop(service.request()));

    service.kill();
    let gained = standby.event(Event::OwnerGained);
    assert!(Epoch(first.epoch) < Epoch(gained.header.epoch), "a later owner has a greater epoch");
    assert_eq!(gained.header.handle, second.handle);
    for (caller, (handle, calls)) in callers.iter_mut().zip(calls) {
        for call in calls {
            let refused = caller.outcome(call).expect_err("the service is dead");
            refused.must_be(Outcome::PeerDied, "went away");
        }
        let fenced = Header { epoch: first.epoch, ..Header::new(Kind::Call) };
        let call = caller.begin(handle, fenced, b"for the dead one");
        caller.outcome(call).expect_err("fenced off").must_be(Outcome::OwnerChanged, "");
        let call = caller.begin(handle, Header::new(Kind::Call), b"again");
        let request = standby.request();
        assert_eq!((request.payload(), request.header.epoch), (&b"again"[..], gained.header.epoch));
        standby.reply(&request, b"mixed");
        assert_eq!(caller.outcome(call).expect("a reply"), b"mixed");
    }
}

#[test]
fn the_exit_status_says_what_killed_a_service() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let mut caller = Client::new(&folder.socket());
    let mut told = None;
    // The kernel has the status once the parent has reaped the process, and the broker waits for that
    // only briefly, so that the death itself is told at once: now and then it comes without.
    for _ in 0..50 {
        let mut service = User::ourselves().connect(&folder.socket());
        service.serve("acme.victim").expect("ours to serve");
        let handle = caller.open("acme.victim").expect("ours to call").handle;
        let call = caller.begin(handle, Header::new(Kind::Call), b"");
        service.request();
        service.kill();
        let refused = caller.outcome(call).expect_err("the service is dead");
        assert_eq!(refused.outcome, Outcome::PeerDied);
        told = refused.failure.exit_status;
        if told.is_some() {
            refused.must_be(Outcome::PeerDied, "signal 9");
            break;
        }
    }
    if kernel_tells_exit_statuses() {
        assert_eq!(told, Some(KILLED));
    } else {
        assert_eq!(told, None, "this kernel cannot know");
    }
}

/// Linux 6.15: the exit record of a pidfd.
fn kernel_tells_exit_statuses() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a Linux system");
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

#[test]
fn what_a_killed_client_asked_for_is_cancelled_and_what_it_served_is_gone() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let socket = folder.socket();
    let mut service = Client::new(&socket);
    service.serve("acme.slow").expect("ours to serve");
    let mut client = User::ourselves().connect(&socket);
    for name in ["acme.one", "acme.two"] {
        client.serve(name).expect("ours to serve");
    }
    let handle = client.open("acme.slow").expect("ours to call").handle;
    let mut requests = Vec::new();
    for _ in 0..4 {
        client.begin(handle, Header::new(Kind::Call), b"");
        requests.push(service.request());
    }
    let pid = client.pid();
    assert!(requests.iter().all(|request| request.caller().1 == pid), "the kernel's word on who calls");

    client.kill();
    for request in &requests {
        let cancel = service.take("a cancel", |frame| frame.header.kind == Kind::Cancel);
        assert_eq!(cancel.header.call, request.header.call, "in the order of the calls");
        assert_eq!(cancel.header.method, Outcome::PeerDied as u32);
        // Advice: answering all the same is normal, and hurts nobody.
        service.reply(request, b"too late");
    }
    until("the dead client's names to go", || service.list("**") == ["acme.slow"]);
    let status = service.status();
    assert_eq!((status.connections, status.calls_open, status.waiting, status.handles), (1, 0, 0, 1));
    let mut other = Client::new(&socket);
    let handle = other.open("acme.one").expect("ours to call").handle;
    other.call(handle, b"").expect_err("nobody serves it").must_be(Outcome::NoOwner, "acme.one");
}

#[test]
fn a_client_killed_in_the_middle_of_a_frame_leaves_nothing_behind() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let mut service = Client::new(&folder.socket());
    service.serve("acme.sink").expect("ours to serve");
    for part in [1, 63, 64, 100, 70_000, 300_000] {
        let mut client = User::ourselves().connect(&folder.socket());
        let handle = client.open("acme.sink").expect("ours to call").handle;
        let header = Header { len: 64 + (1 << 20), handle, ..Header::new(Kind::Call) };
        let mut bytes = header.to_bytes().to_vec();
        bytes.resize(part.max(64), 5);
        client.send_bytes(&bytes[..part]);
        client.kill();
    }
    until("the connections to go", || service.status().connections == 1);
    let status = service.status();
    assert_eq!((status.waiting_bytes, status.calls_open, status.handles), (0, 0, 1));
    assert!(!service.has_news(), "half a frame is no request");
}

#[test]
fn what_a_killed_client_has_sent_still_arrives_and_what_it_called_does_not() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let mut service = Client::new(&folder.socket());
    let serve = Serve {
        name: "acme.narrow".into(),
        mode: 0,
        flags: 0,
        calls: 1,
        send_bytes: 1024,
        about: String::new(),
    };
    let served: Served = service.control(Operation::Serve, &serve).expect("ours to serve");
    let mut client = User::ourselves().connect(&folder.socket());
    let handle = client.open("acme.narrow").expect("ours to call").handle;
    for number in 0..100 {
        client.send(Header { handle, call: number, ..Header::new(Kind::Send) }, &[number as u8; 192]);
        client.begin(handle, Header::new(Kind::Call), b"never mind");
    }
    // In order, so that all of it was taken in before.
    client.status();
    assert!(150 < service.status().waiting, "most of it waits at the broker");
    client.kill();
    until("it to be gone", || service.status().connections == 1);
    let request = service.request();
    service.reply(&request, b"too late");
    for number in 0..100 {
        let sent = service.take("a message", |frame| frame.header.kind == Kind::Send);
        assert_eq!(sent.payload(), [number; 192]);
        let credit = Header { handle: served.handle, seq: 256, ..Header::new(Kind::Credit) };
        service.send(credit, b"");
    }
    let status = service.status();
    assert_eq!((status.waiting, status.waiting_bytes, status.calls_open), (0, 0, 0));
}

#[test]
fn a_killed_broker_is_noticed_by_everybody() {
    let folder = Folder::new();
    let daemon = folder.start();
    let mut clients: Vec<Client> = (0..5).map(|_| Client::new(&folder.socket())).collect();
    daemon.kill();
    for client in &mut clients {
        assert_eq!(client.ended().reason, None, "the end of the stream, and no goodbye");
    }
}
