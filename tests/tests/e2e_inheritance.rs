//! Three processes: one calls with a deadline and a priority, one in the middle calls on without
//! saying a word about either, and the last one sees both. The two ends speak bare frames, so that
//! what arrives is seen as it is; the middle uses the library, in every way there is.

use switchboard_protocol::{Header, Kind, Outcome};
use switchboard_tests::rig::{ALICE, BOB, Client, Folder, Helper, User, has_root, middle_program};

const SECOND: u64 = 1_000_000_000;

/// How the middle does its work so that inheritance holds: by threads, and by tasks of tokio.
const WAYS: [(&str, &[&str]); 2] = [
    (
        "threads",
        &["middle.direct", "middle.spawn", "middle.spawn.twice", "middle.context", "middle.deferred"],
    ),
    ("tasks", &["middle.await", "middle.await.later", "middle.task", "middle.task.twice"]),
];

/// Where it does not: work that was handed on without its context.
const BARE: [(&str, &[&str]); 2] = [("threads", &["middle.bare"]), ("tasks", &["middle.bare.task"])];

/// Each way with the process that goes it.
fn each(
    ways: [(&str, &[&'static str]); 2],
    user: User,
    folder: &Folder,
    mut check: impl FnMut(&'static str, &Helper),
) {
    for (words, ways) in ways {
        let middle = user.run(&middle_program(), &folder.socket(), &[words]);
        ways.iter().for_each(|way| check(way, &middle));
    }
}

fn open(caller: &mut Client, name: &str) -> u64 {
    caller.wait_for(name).expect("the middle serves it");
    caller.open(name).expect("ours to call").handle
}

#[test]
fn deadline_and_priority_go_along_whatever_thread_does_the_work() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let us = User::ourselves();
    let mut leaf = us.connect(&folder.socket());
    leaf.serve("leaf.it").expect("ours to serve");
    let mut caller = us.connect(&folder.socket());
    each(WAYS, us, &folder, |way, middle| {
        let handle = open(&mut caller, way);
        let deadline = Client::now() + 3 * SECOND;
        let call = caller.begin(handle, Header { deadline, priority: 6, ..Header::new(Kind::Call) }, b"");
        let request = leaf.request();
        assert_eq!(request.caller().1, middle.pid(), "{way}: the third process is called by the second");
        let seen = request.header.deadline;
        assert!(seen <= deadline, "{way}: not later than the first one said");
        assert!(deadline - SECOND < seen, "{way}: and not much earlier");
        assert_eq!(request.header.priority, 4, "{way}: what policy left of 6");
        leaf.reply(&request, way.as_bytes());
        assert_eq!(caller.outcome(call).expect("a reply"), way.as_bytes());
    });
}

#[test]
fn without_a_context_nothing_goes_along() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let us = User::ourselves();
    let mut leaf = us.connect(&folder.socket());
    leaf.serve("leaf.it").expect("ours to serve");
    let mut caller = us.connect(&folder.socket());
    each(BARE, us, &folder, |way, _| {
        let handle = open(&mut caller, way);
        let deadline = Client::now() + 100 * SECOND;
        let call = caller.begin(handle, Header { deadline, priority: 3, ..Header::new(Kind::Call) }, b"");
        let request = leaf.request();
        assert_eq!((request.header.deadline, request.header.priority), (0, 0), "{way}");
        leaf.reply(&request, b"");
        caller.outcome(call).expect("a reply");
    });
}

#[test]
fn a_deadline_of_the_first_ends_the_calls_of_all() {
    let folder = Folder::new();
    let _daemon = folder.start();
    let us = User::ourselves();
    let mut leaf = us.connect(&folder.socket());
    leaf.serve("leaf.it").expect("ours to serve");
    let mut caller = us.connect(&folder.socket());
    each(WAYS, us, &folder, |way, _| {
        let handle = open(&mut caller, way);
        let deadline = Client::now() + SECOND / 5;
        let call = caller.begin(handle, Header { deadline, ..Header::new(Kind::Call) }, b"");
        let request = leaf.request();
        let cancel = leaf.take("advice to stop", |frame| frame.header.kind == Kind::Cancel);
        assert_eq!(cancel.header.call, request.header.call, "{way}");
        assert_eq!(cancel.header.method, Outcome::DeadlineExceeded as u32, "{way}");
        assert!(deadline <= Client::now() + SECOND / 100, "{way}: not long before its time");
        caller.outcome(call).expect_err("nobody answered").must_be(Outcome::DeadlineExceeded, "");
        leaf.reply(&request, b"too late");
    });
}

#[test]
fn a_priority_goes_along_even_where_the_middle_may_not_use_it_itself() {
    if !has_root("a_priority_goes_along_even_where_the_middle_may_not_use_it_itself") {
        return;
    }
    let folder = Folder::with_config(
        "[[allow]]\nanyone = true\nserve = \"**\"\ncall = \"**\"\n\n[[allow]]\nuser = 61001\npriority = 6\n",
    );
    let _daemon = folder.launch().system().start();
    let mut leaf = User { uid: 61_003, gid: 61_003, groups: &[] }.connect(&folder.socket());
    leaf.serve("leaf.it").expect("allowed");
    let mut caller = ALICE.connect(&folder.socket());
    assert_eq!(caller.welcome().priority_max, 6);
    for (ways, want) in [(WAYS, 6), (BARE, 0)] {
        each(ways, BOB, &folder, |way, middle| {
            let handle = open(&mut caller, way);
            let call = caller.begin(handle, Header { priority: 7, ..Header::new(Kind::Call) }, b"");
            let request = leaf.request();
            assert_eq!(request.caller(), (BOB.uid, middle.pid()), "{way}");
            let found = request.header.priority;
            assert_eq!(found, want, "{way}: Alice's 7, capped by policy, not by Bob's own 4");
            leaf.reply(&request, b"");
            caller.outcome(call).expect("a reply");
        });
    }
}
