//! Policy and quotas, with real processes of two users who have nothing to do with the broker's own.
//! The broker runs as root, as a system instance; root has no exemption.

use std::collections::BTreeSet;

use switchboard_protocol::control::{self, Operation};
use switchboard_protocol::{Event, GoodbyeReason, Header, Kind, Outcome, Verb};
use switchboard_tests::rig::{ALICE, BOB, Client, Daemon, Ended, Folder, Refused, User, has_root, until};

const RULES: &str = r#"
[[allow]]
user = 61001
serve = "acme.audio.**"
call = ["acme.**"]

[[allow]]
user = 61002
call = "acme.audio.*"
priority = 6

[[allow]]
group = 61077
call = "acme.clock"
serve = "acme.clock"

[[allow]]
user = 0
admin = "switchboard"
"#;

/// A system instance with these rules; `None` where it takes root to test anything.
fn system(config: &str) -> Option<(Folder, Daemon)> {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    if !has_root(&test) {
        return None;
    }
    let folder = Folder::with_config(config);
    let daemon = folder.launch().system().start();
    Some((folder, daemon))
}

fn explain(
    asker: &mut Client,
    uid: u32,
    groups: &[u32],
    verb: Verb,
    name: &str,
) -> Result<control::Explained, Refused> {
    let ask = control::Explain {
        uid: Some(uid),
        groups: groups.to_vec(),
        label: String::new(),
        verb: verb.right().0,
        name: name.into(),
    };
    asker.control(Operation::Explain, &ask)
}

#[test]
fn each_user_may_do_what_a_rule_allows_and_nothing_more() {
    let Some((folder, daemon)) = system(RULES) else { return };
    let socket = folder.socket();
    let (mut alice, mut bob) = (ALICE.connect(&socket), BOB.connect(&socket));
    alice.serve("acme.audio.mixer").expect("allowed by the first rule");
    alice
        .serve("acme.video")
        .expect_err("not hers")
        .must_be(Outcome::Denied, "61001 may not serve `acme.video`");
    bob.serve("acme.audio.mixer")
        .expect_err("not his")
        .must_be(Outcome::Denied, "policy explain --user 61002 serve");
    bob.open("acme.clock").expect_err("not his").must_be(Outcome::Denied, "61002 may not call `acme.clock`");
    bob.open_with("acme.audio.mixer", Verb::Call.right() | Verb::Delegate.right())
        .expect_err("all rights or none")
        .must_be(Outcome::Denied, "delegate");

    let handle = bob.open("acme.audio.mixer").expect("allowed by the second rule").handle;
    let call = bob.begin(handle, Header { priority: 7, ..Header::new(Kind::Call) }, b"louder");
    let request = alice.request();
    assert_eq!(request.caller(), (BOB.uid, bob.pid()), "as the kernel says");
    assert_eq!(request.header.priority, 6, "capped by his rule");
    let who: control::PeerInfo = alice
        .control(Operation::Identify, &control::OnPeer { peer: request.header.seq })
        .expect("she serves a request of his");
    assert_eq!((who.uid, who.gid, who.groups.is_empty(), who.pid), (BOB.uid, BOB.gid, true, bob.pid()));
    alice.reply(&request, b"loud");
    assert_eq!(bob.outcome(call).expect("a reply"), b"loud");

    let own = alice.open("acme.audio.mixer").expect("hers to call").handle;
    alice.begin(own, Header { priority: 7, ..Header::new(Kind::Call) }, b"");
    assert_eq!(alice.request().header.priority, 4, "no rule of hers says more than the default");
    assert_eq!((alice.welcome().priority_max, bob.welcome().priority_max), (4, 6));

    assert_eq!(bob.list("**"), ["acme.audio.mixer"]);
    let admin = bob.control::<control::Waits>(Operation::Waits, &());
    admin.expect_err("not his").must_be(Outcome::Denied, "admin");
    daemon.logged("outcome=Denied");
}

#[test]
fn root_has_no_exemption() {
    let Some((folder, _daemon)) = system(RULES) else { return };
    let mut root = Client::new(&folder.socket());
    for name in ["acme.audio.mixer", "acme.clock", "anything"] {
        root.open(name).expect_err("no rule for root").must_be(Outcome::Denied, "user 0 may not call");
        root.serve(name).expect_err("no rule for root").must_be(Outcome::Denied, "user 0 may not serve");
    }
    let _waits: control::Waits = root.control(Operation::Waits, &()).expect("allowed by the fourth rule");
    let mut alice = ALICE.connect(&folder.socket());
    alice.serve("acme.audio.mixer").expect("allowed by the first rule");
    assert_eq!(root.list("**"), Vec::<String>::new(), "what one has no right on, one does not see");
}

#[test]
fn supplementary_groups_count_as_the_kernel_has_them() {
    let Some((folder, _daemon)) = system(RULES) else { return };
    let socket = folder.socket();
    let mut outside = BOB.connect(&socket);
    outside.serve("acme.clock").expect_err("no member").must_be(Outcome::Denied, "serve");
    let mut supplementary = BOB.in_groups(&[61_050, 61_077, 61_090]).connect(&socket);
    supplementary.serve("acme.clock").expect("a member");
    let mut primary = User { uid: 61_003, gid: 61_077, groups: &[] }.connect(&socket);
    let handle = primary.open("acme.clock").expect("a member").handle;
    let call = primary.begin(handle, Header::new(Kind::Call), b"time?");
    let request = supplementary.request();
    supplementary.reply(&request, b"late");
    assert_eq!(primary.outcome(call).expect("a reply"), b"late");
}

#[test]
fn a_user_instance_serves_its_own_user_and_only_those_whom_a_rule_names() {
    if !has_root("a_user_instance_serves_its_own_user") {
        return;
    }
    let folder = Folder::with_config(&format!(
        "[[listen]]\npath = \"OPEN\"\nmode = \"0666\"\n\n[[allow]]\nuser = {}\ncall = \"acme.shared\"\n",
        ALICE.uid
    ));
    let open = folder.path("open.sock");
    let config = std::fs::read_to_string(folder.config()).expect("just written");
    folder.write_config(&config.replace("OPEN", &open.display().to_string()));
    let _daemon = folder.start();
    let mut own = Client::new(&folder.socket());
    own.serve("acme.shared").expect("its own user may do everything");
    own.serve("acme.private").expect("its own user may do everything");
    let mut alice = ALICE.connect(&open);
    alice.open("acme.shared").expect("a rule names her");
    alice.open("acme.private").expect_err("no rule").must_be(Outcome::Denied, "call");
    let mut bob = BOB.connect(&open);
    bob.open("acme.shared").expect_err("no rule").must_be(Outcome::Denied, "call");
    // The instance's own socket is not open to them at all.
    let ended = BOB.silent(&folder.socket()).ended();
    assert_eq!(ended.reason, None, "{ended:?}");
    assert_eq!(own.status().connections, 3);
}

#[test]
fn explain_names_the_rule_that_decides() {
    let Some((folder, _daemon)) = system(RULES) else { return };
    let mut root = Client::new(&folder.socket());
    let mut of = |uid, groups: &[u32], verb, name| {
        let explained = explain(&mut root, uid, groups, verb, name).expect("root has `admin`");
        (explained.allowed, explained.rule, explained.priority_max)
    };
    let config = folder.config().display().to_string();
    let at = |line: u32| format!("{config}:{line}");
    assert_eq!(of(ALICE.uid, &[], Verb::Serve, "acme.audio.mixer"), (true, at(2), 4));
    assert_eq!(of(BOB.uid, &[], Verb::Call, "acme.audio.mixer"), (true, at(7), 6));
    assert_eq!(of(BOB.uid, &[61_002, 61_077], Verb::Serve, "acme.clock"), (true, at(12), 6));
    let (allowed, rule, _) = of(BOB.uid, &[], Verb::Call, "acme.audio.deep.down");
    assert!(!allowed && rule.contains("no [[allow]] table"), "{rule}");
    let (allowed, rule, _) = of(0, &[0], Verb::Call, "acme.clock");
    assert!(!allowed && rule.contains("no [[allow]] table"), "{rule}");
    let (allowed, rule, _) = of(65_534, &[], Verb::Call, "acme.clock");
    assert!(!allowed && rule.contains("the kernel cannot say"), "{rule}");

    let mut bob = BOB.connect(&folder.socket());
    assert!(explain(&mut bob, BOB.uid, &[], Verb::Call, "acme.audio.mixer").expect("about himself").allowed);
    explain(&mut bob, ALICE.uid, &[], Verb::Call, "acme.audio.mixer")
        .expect_err("about others")
        .must_be(Outcome::Denied, "admin");
}

#[test]
fn the_command_line_names_the_rule_too() {
    let Some((folder, _daemon)) = system(RULES) else { return };
    let explained = |arguments: &[&str]| {
        let output = folder.switchboard(&[&["policy", "explain"], arguments].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        text
    };
    let config = folder.config().display().to_string();
    let text = explained(&["--user", "61002", "call", "acme.audio.mixer"]);
    assert!(text.contains(&format!("allowed: {config}:7")) && text.contains('6'), "{text}");
    let text = explained(&["--user", "61002", "--group", "61077", "serve", "acme.clock"]);
    assert!(text.contains(&format!("allowed: {config}:12")), "{text}");
    let text = explained(&["call", "acme.clock"]);
    assert!(text.contains("denied: no [[allow]] table"), "{text}");
    let refused = folder.switchboard(&["call", "acme.clock"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.starts_with("Denied: user 0 may not call"), "{text}");
}

#[test]
fn what_a_reload_takes_away_is_gone_at_once() {
    let Some((folder, mut daemon)) = system(RULES) else { return };
    let socket = folder.socket();
    let (mut alice, mut bob) = (ALICE.connect(&socket), BOB.connect(&socket));
    alice.serve("acme.audio.mixer").expect("allowed");
    let handle = bob.open("acme.audio.mixer").expect("allowed").handle;
    let calls = [0; 3].map(|_| bob.begin(handle, Header::new(Kind::Call), b""));
    let requests = [0; 3].map(|_| alice.request());

    // Bob's rule goes, Alice's stays.
    folder.write_config(&RULES.replace("user = 61002", "user = 61009"));
    assert!(daemon.reload().contains("in force"));
    for call in calls {
        bob.outcome(call).expect_err("taken away").must_be(Outcome::Denied, "reload");
    }
    assert_eq!(bob.event(Event::HandleRevoked).header.handle, handle);
    for request in requests {
        let cancel = alice.take("advice to stop", |frame| frame.header.kind == Kind::Cancel);
        assert_eq!((cancel.header.call, cancel.header.method), (request.header.call, Outcome::Denied as u32));
    }
    bob.open("acme.audio.mixer").expect_err("taken away").must_be(Outcome::Denied, "call");
    bob.call(handle, b"").expect_err("void").must_be(Outcome::HandleRevoked, "revoked");

    // Now the owner loses its name.
    folder.write_config(&RULES.replace("serve = \"acme.audio.**\"", "").replace("61002", "61001"));
    let own = alice.open("acme.audio.mixer").expect("hers to call").handle;
    let call = alice.begin(own, Header::new(Kind::Call), b"");
    alice.request();
    assert!(daemon.reload().contains("in force"));
    alice.event(Event::HandleRevoked);
    alice.outcome(call).expect_err("its server is gone").must_be(Outcome::Abandoned, "stopped serving");
    alice.call(own, b"").expect_err("nobody serves it").must_be(Outcome::NoOwner, "acme.audio.mixer");
    alice.serve("acme.audio.mixer").expect_err("taken away").must_be(Outcome::Denied, "serve");
}

/// Everybody may do everything, with these quotas of Alice's.
fn with_quota(quota: &str) -> String {
    format!(
        "[limits.user.{}]\n{quota}\n[[allow]]\nanyone = true\nserve = \"**\"\ncall = \"**\"\ndelegate = \"**\"\n",
        ALICE.uid
    )
}

#[test]
fn beyond_its_connections_a_user_is_turned_away_with_the_limits_name() {
    let Some((folder, _daemon)) = system(&with_quota("connections = 3")) else { return };
    let socket = folder.socket();
    let mut inside: Vec<Client> = (0..3).map(|_| ALICE.connect(&socket)).collect();
    for _ in 0..5 {
        let ended: Ended = ALICE.silent(&socket).greet().expect_err("over her quota");
        ended.must_be(GoodbyeReason::TooManyConnections, "limits.user.connections = 3");
    }
    let mut bobs: Vec<Client> = (0..5).map(|_| BOB.connect(&socket)).collect();
    bobs.iter_mut().chain(&mut inside).for_each(|client| assert!(0 < client.status().connections));
    drop(inside.pop());
    until("the room that she left", || ALICE.silent(&socket).greet().is_ok());
}

#[test]
fn beyond_its_rate_a_users_connections_wait_and_nobody_elses_do() {
    let Some((folder, daemon)) = system(&with_quota("connections_per_second = 10")) else { return };
    let socket = folder.socket();
    // Ten at once, then ten a second: the last of these is due in half a minute.
    let mut crowd = ALICE.crowd(&socket, 310);
    let mut let_in = BTreeSet::new();
    while let_in.len() < 13 {
        let told = crowd.told();
        let member =
            told.strip_prefix("welcome ").unwrap_or_else(|| panic!("not refused, but delayed: {told}"));
        let_in.insert(member.parse::<u32>().expect("a number"));
    }
    let line = daemon.logged("come faster than its quota");
    assert!(line.contains("61001"), "{line}");
    let mut bob = BOB.connect(&socket);
    let status = bob.status();
    let delayed = status
        .counters
        .iter()
        .find(|counter| counter.name == "connections_delayed")
        .map_or(0, |counter| counter.value);
    assert!((100..=300).contains(&delayed), "{delayed} of 310 were delayed");
    assert!(300 < status.connections, "they wait, and Bob does not: {}", status.connections);
    crowd.leave();
    until("those who wait to be forgotten", || bob.status().connections == 1);
}

#[test]
fn open_calls_and_handles_have_quotas_with_names() {
    let Some((folder, _daemon)) = system(&with_quota("calls_open = 5\nhandles = 4\nnames = 2\nwatches = 1"))
    else {
        return;
    };
    let socket = folder.socket();
    let (mut alice, mut bob) = (ALICE.connect(&socket), BOB.connect(&socket));
    bob.serve("acme.stuck").expect("allowed");
    let handle = alice.open("acme.stuck").expect("allowed").handle;
    let calls: Vec<u64> = (0..8).map(|_| alice.begin(handle, Header::new(Kind::Call), b"")).collect();
    for &call in &calls[5..] {
        alice.outcome(call).expect_err("over her quota").must_be(Outcome::Busy, "limits.user.calls_open");
    }
    for _ in 0..5 {
        let request = bob.request();
        bob.reply(&request, b"");
    }
    calls[..5].iter().for_each(|&call| drop(alice.outcome(call).expect("answered")));

    for number in 0..3 {
        alice.open(&format!("acme.n{number}")).expect("within her quota");
    }
    alice.open("acme.n3").expect_err("over her quota").must_be(Outcome::Busy, "limits.user.handles");
    let _: () = alice.control(Operation::Close, &control::OnHandle { handle }).expect("hers to close");
    alice.serve("alice.one").expect("room again");
    // Another of her connections has a quota of its own.
    let mut second = ALICE.connect(&socket);
    second.serve("alice.two").expect("within her quota");
    second.serve("alice.three").expect("within her quota");
    second.serve("alice.four").expect_err("over her quota").must_be(Outcome::Busy, "limits.user.names");
    let wait = Header { method: Operation::Wait as u32, ..Header::new(Kind::Call) };
    let body = switchboard_protocol::encode(&control::OnName { name: "never.there".into() });
    let first = second.begin(0, wait, &body);
    let refused = second.begin(0, wait, &body);
    second.outcome(refused).expect_err("over her quota").must_be(Outcome::Busy, "limits.user.watches");
    second.send(Header { call: first, ..Header::new(Kind::Cancel) }, b"");
    second.outcome(first).expect_err("given up").must_be(Outcome::Cancelled, "");
    for number in 0..20 {
        bob.open(&format!("acme.b{number}")).expect("Bob has quotas of his own");
    }
}

#[test]
fn bytes_that_wait_for_a_server_have_a_quota_over_all_connections_of_a_user() {
    let Some((folder, _daemon)) = system(&with_quota("buffered_bytes = \"1 MiB\"\nwaiting = 50")) else {
        return;
    };
    let socket = folder.socket();
    let mut service = BOB.connect(&socket);
    service.serve_with("acme.stuck", 1).expect("allowed");
    let mut alices = [ALICE.connect(&socket), ALICE.connect(&socket)];
    let handles = alices.each_mut().map(|alice| alice.open("acme.stuck").expect("allowed").handle);
    // One is at the service; 60 KB each, 17 more fit into a mebibyte, however many connections bring
    // them.
    let payload = vec![1; 60_000];
    let mut calls = Vec::new();
    for number in 0..30 {
        let at = number % 2;
        let call = alices[at].begin(handles[at], Header::new(Kind::Call), &payload);
        // In order: the answer to this comes after the call was taken.
        alices[at].status();
        calls.push((at, call));
    }
    for &(at, call) in &calls[18..] {
        alices[at]
            .outcome(call)
            .expect_err("over her quota")
            .must_be(Outcome::Busy, "limits.user.buffered_bytes");
    }
    let mut bob = BOB.connect(&socket);
    let handle = bob.open("acme.stuck").expect("allowed").handle;
    let bobs = bob.begin(handle, Header { priority: 0, ..Header::new(Kind::Call) }, &vec![2; 1 << 20]);
    let status = bob.status();
    assert!((1 << 20..3 << 20).contains(&status.waiting_bytes), "{} bytes wait", status.waiting_bytes);
    for _ in 0..19 {
        let request = service.request();
        service.reply(&request, b"");
    }
    calls[..18].iter().for_each(|&(at, call)| drop(alices[at].outcome(call).expect("answered")));
    bob.outcome(bobs).expect("answered");
    assert_eq!(bob.status().waiting_bytes, 0);

    // And so has their number, per connection.
    let [alice, second] = &mut alices;
    let calls: Vec<u64> = (0..60).map(|_| alice.begin(handles[0], Header::new(Kind::Call), b"")).collect();
    for &call in &calls[51..] {
        alice.outcome(call).expect_err("over her quota").must_be(Outcome::Busy, "limits.user.waiting");
    }
    // What waits goes with its caller; what the service has already is cancelled.
    alice.kill();
    until("what the dead one left waiting to be gone", || bob.status().waiting == 0);
    let request = service.request();
    service.reply(&request, b"too late");
    let call = second.begin(handles[1], Header::new(Kind::Call), b"alive");
    let request = service.request();
    assert_eq!(request.payload(), b"alive");
    service.reply(&request, b"served");
    assert_eq!(second.outcome(call).expect("a reply"), b"served");
}

#[test]
fn half_frames_hold_up_nobody_elses_and_no_longer_than_their_senders_live() {
    let Some((folder, _daemon)) = system(&with_quota("buffered_bytes = \"4 MiB\"")) else { return };
    let socket = folder.socket();
    let mut service = BOB.connect(&socket);
    service.serve("acme.large").expect("allowed");
    std::thread::spawn(move || service.echo_until_the_end());
    let large = vec![9; 3 << 20];
    // Three mebibytes are announced, and never come to an end.
    let mut half = ALICE.connect(&socket);
    let handle = half.open("acme.large").expect("allowed").handle;
    let header = Header { len: 64 + (3 << 20), handle, ..Header::new(Kind::Call) };
    half.send_bytes(&[&header.to_bytes()[..], &large[..200_000]].concat());

    let mut whole = ALICE.connect(&socket);
    let handle = whole.open("acme.large").expect("allowed").handle;
    // Small ones pass in any case.
    whole.call(handle, b"small").expect("a reply");
    let mut bob = BOB.connect(&socket);
    until("the announcement to arrive", || 3 << 20 <= bob.status().waiting_bytes);
    let (sent, starved) = (large.clone(), |bob: &mut Client| {
        let counters = bob.status().counters;
        counters.into_iter().find(|counter| counter.name == "starved").map_or(0, |counter| counter.value)
    });
    let waits = std::thread::spawn(move || whole.call(handle, &sent).map(|reply| reply.len()));
    until("the whole one to wait for room", || 0 < starved(&mut bob));
    let bobs = bob.open("acme.large").expect("allowed").handle;
    assert_eq!(bob.call(bobs, &large).expect("a reply").len(), large.len());
    half.kill();
    assert_eq!(waits.join().expect("a thread").expect("room at last"), large.len());
    until("everything to be given back", || bob.status().waiting_bytes == 0);
}
