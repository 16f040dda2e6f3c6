//! Topics between real processes: what is told to whom when readers stop and publishers are killed.

use switchboard::{Board, Delivery, SlowPolicy};
use switchboard_tests::rig::{Folder, until};
use switchboard_transport::spawn::Signal;

fn board(folder: &Folder) -> Board {
    Board::builder().socket(folder.socket()).connect().expect("a broker")
}

#[test]
fn what_is_published_by_one_process_is_printed_by_another() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let mut one = folder.begin_switchboard(&["sub", "plant.*.temperature", "--count", "2"]);
    let mut all = folder.begin_switchboard(&["sub", "plant.**", "--count", "3", "--json"]);
    assert_eq!((one.said(), all.said()), ("subscribed".to_owned(), "subscribed".to_owned()));
    for (topic, payload) in
        [("plant.a.temperature", "21"), ("plant.a.pressure", "3"), ("plant.b.temperature", "19")]
    {
        folder.must(&["pub", topic, payload]);
    }
    let (status, printed, _) = one.end();
    assert!(status.success());
    assert_eq!(printed, "plant.a.temperature\t21\nplant.b.temperature\t19\n");
    let (status, printed, _) = all.end();
    assert!(status.success());
    let pressure = printed.lines().nth(1).expect("three lines");
    assert!(pressure.contains("\"topic\":\"plant.a.pressure\"") && pressure.contains("\"payload\":\"3\""));
}

#[test]
fn a_stopped_reader_loses_by_its_policy_and_nobody_else_notices() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let mut stopped = folder.begin_switchboard(&["sub", "acme.flood", "--timeout", "2s"]);
    let mut latest =
        folder.begin_switchboard(&["sub", "acme.flood", "--policy", "latest", "--timeout", "2s"]);
    let mut leaving = folder.begin_switchboard(&["sub", "acme.flood", "--policy", "disconnect"]);
    for sub in [&mut stopped, &mut latest, &mut leaving] {
        assert_eq!(sub.said(), "subscribed");
        sub.signal(Signal::STOP);
    }
    let board = board(&folder);
    let topic = board.topic("acme.flood");
    let mut awake = topic.subscribe().policy(SlowPolicy::Block).start().expect("in force");
    const COUNT: u64 = 100_000;
    let publisher = topic.clone();
    let publishing = std::thread::spawn(move || {
        publisher.publish_all((1..=COUNT).map(|number| format!("{number:01000}"))).expect("published")
    });
    // More than sockets, clients and queues hold together. Whoever is awake gets every single one, in order.
    for number in 1..=COUNT {
        match awake.next().expect("it goes on").expect("a message") {
            Delivery::Message(message) => assert_eq!(message.sequence(), number),
            other => panic!("{other:?} instead of {number}"),
        }
    }
    publishing.join().expect("a thread");
    [&stopped, &latest, &leaving].into_iter().for_each(|sub| sub.signal(Signal::CONT));

    let (status, printed, said) = stopped.end();
    assert!(status.success(), "{said}");
    let lost: u64 = said
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let ["Lost", from, to] = words[..] else { panic!("{line}") };
            to.parse::<u64>().expect("a position") - from.parse::<u64>().expect("a position") + 1
        })
        .sum();
    assert!(0 < lost, "a stopped reader keeps up: {} lines", printed.lines().count());
    assert_eq!(lost + printed.lines().count() as u64, COUNT, "what did not come is told");

    let (status, printed, said) = latest.end();
    assert!(status.success(), "{said}");
    let last = printed.lines().last().expect("the latest");
    assert!(last.ends_with(&format!("{COUNT:01000}")), "{last}");

    let (status, _, said) = leaving.end();
    assert_eq!(status.code(), Some(1));
    assert!(said.lines().last().is_some_and(|line| line.starts_with("Busy: ")), "{said}");
}

#[test]
fn a_policy_that_holds_publishers_back_loses_nothing() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let count = "20000";
    let words = ["sub", "acme.exact", "--policy", "block", "--count", count];
    let mut sub = folder.begin_switchboard(&words);
    assert_eq!(sub.said(), "subscribed");
    sub.signal(Signal::STOP);
    let board = board(&folder);
    let topic = board.topic("acme.exact");
    let publisher = topic.clone();
    let publishing = std::thread::spawn(move || {
        publisher.publish_all((0..20_000).map(|number| format!("{number:04000}"))).expect("published")
    });
    until("a publisher to be held back", || 0 < topic.stat().expect("a topic").held);
    sub.signal(Signal::CONT);
    let (status, printed, said) = sub.end();
    assert!(status.success() && said.is_empty(), "{said}");
    assert_eq!(printed.lines().count(), 20_000);
    publishing.join().expect("a thread");
}

#[test]
fn a_killed_client_leaves_its_will_and_one_that_leaves_does_not() {
    let folder = Folder::with_config("[topic.\"acme.status\"]\nretain = true\n");
    let _daemon = folder.start();
    let mut watcher = board(&folder).topic("acme.status").subscribe().start().expect("in force");
    let willing = |name: &str, end: bool| {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut spawn = switchboard_transport::spawn::Spawn::new(switchboard_tests::rig::worker_program());
        spawn.command().arg(folder.socket()).args(["will", "acme.status", name]);
        spawn.command().stdin(std::process::Stdio::piped()).stdout(writer);
        let mut child = spawn.spawn().expect("rig-worker starts");
        let mut ready = [0; 6];
        std::io::Read::read_exact(&mut reader, &mut ready).expect("its word");
        if end {
            drop(child.stdin.take());
        } else {
            child.kill().expect("our child");
        }
        child.wait().expect("our child");
    };
    willing("politely", true);
    willing("killed", false);
    match watcher.next().expect("it goes on").expect("a message") {
        Delivery::Message(message) => assert_eq!(message.payload(), b"killed is gone"),
        other => panic!("{other:?}"),
    }
    // Who comes later is told as well, since the topic retains it.
    let late = folder.must(&["sub", "acme.status", "--history", "1", "--count", "1"]);
    assert_eq!(late, "acme.status\tkilled is gone\n");
}

#[test]
fn a_durable_retained_message_is_there_after_kill_9() {
    let topic = |name: &str, level: &str| {
        format!("[topic.\"acme.{name}\"]\nretain = true\ndurability = \"{level}\"\n")
    };
    let folder = Folder::with_config(&(topic("setting", "disk") + &topic("state", "os")));
    let daemon = folder.start();
    folder.must(&["pub", "acme.setting", "old"]);
    let told = folder.must(&["pub", "acme.setting", "new", "--confirm"]);
    assert_eq!(told, "2\t0\tdisk\n");
    assert_eq!(folder.must(&["pub", "acme.state", "on", "--confirm"]), "1\t0\tos\n");
    daemon.kill();
    let _daemon = folder.start();
    let late = folder.must(&["sub", "acme.*", "--history", "1", "--count", "2", "--json"]);
    let late: Vec<&str> = late.lines().collect();
    for (line, payload, sequence) in [(late[0], "new", 2), (late[1], "on", 1)] {
        let wanted = [format!("\"payload\":\"{payload}\""), format!("\"sequence\":{sequence}")];
        assert!(wanted.iter().all(|wanted| line.contains(wanted)), "{line}");
    }
    assert_eq!(folder.must(&["pub", "acme.setting", "newer", "--confirm"]), "3\t0\tdisk\n");
}
