//! Topics, queues and events from the prompt: what is printed, and when.

mod common;

use common::{Running, Site, run};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;

impl Site {
    /// Runs a command with this on stdin.
    fn feed(&self, words: &[&str], input: &str) -> common::Ended {
        run(&mut self.command(words), input.as_bytes())
    }

    /// Runs `queue WORDS`, which must go well.
    fn queue(&self, words: &[&str]) -> String {
        self.run(&[&["queue"], words].concat()).ok()
    }
}

fn stderr(running: &mut Running) -> String {
    let mut text = String::new();
    running.0.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    text
}

#[test]
fn flags_and_pulses_wait_for_who_takes_them() {
    let site = Site::start();
    site.run(&["event", "raise", "acme.alarm", "5"]).ok();
    site.run(&["event", "raise", "acme.alarm", "0x1"]).ok();
    site.run(&["event", "pulse", "acme.alarm", "7", "42"]).ok();
    assert!(site.run(&["list", "--kind", "event"]).ok().contains("acme.alarm"));
    assert_eq!(site.run(&["event", "wait", "acme.alarm", "--mask", "4"]).ok(), "4\n");
    assert_eq!(site.run(&["event", "wait", "acme.alarm"]).ok(), "1\n");
    assert_eq!(site.run(&["event", "wait", "acme.alarm"]).ok(), "7\t42\n");
    site.run(&["event", "raise", "acme.alarm", "8"]).ok();
    let json = site.run(&["event", "wait", "acme.alarm", "--json"]).ok();
    assert_eq!(json, "{\"bits\":8,\"code\":null,\"value\":null,\"lost\":0}\n");
    let late = site.run(&["event", "wait", "acme.alarm", "--timeout", "20ms"]);
    late.failed(1, "DeadlineExceeded: no flag was raised and no pulse came in 20ms");
}

#[test]
fn who_waits_for_an_event_is_told_when_it_comes() {
    let site = Site::start();
    let mut wait = site.command(&["event", "wait", "acme.bell"]);
    let mut waiting = Running(wait.stdout(Stdio::piped()).spawn().expect("it starts"));
    site.run(&["event", "raise", "acme.bell", "2"]).ok();
    assert_eq!(waiting.lines().next().as_deref(), Some("2"));
    assert_eq!(waiting.status(), 0);
}

#[test]
fn a_subscriber_prints_topic_and_payload_from_the_moment_it_says_so() {
    let site = Site::start();
    let mut sub = site.start_until(&["sub", "acme.*", "--count", "4", "--timeout", "60s"], "subscribed");
    site.run(&["pub", "acme.weather", "rain"]).ok();
    site.run(&["pub", "acme.deep.weather", "fog"]).ok();
    assert_eq!(site.feed(&["pub", "acme.weather", "--lines"], "wind\nsun").ok(), "");
    let published = site.run(&["pub", "acme.news", "--confirm", "none", "--json"]).ok();
    assert!(published.starts_with("{\"sequence\":1,\"subscriptions\":1,\"level\":\"memory\""), "{published}");
    let lines: Vec<String> = sub.lines().collect();
    assert_eq!(lines, ["acme.weather\train", "acme.weather\twind", "acme.weather\tsun", "acme.news\tnone"]);
    assert_eq!(sub.status(), 0);
    assert!(site.run(&["pub", "acme.nobody.listens", "--confirm"]).ok().starts_with("1\t0\tmemory"));
}

#[test]
fn fewer_messages_than_counted_is_a_deadline_exceeded_and_what_came_is_printed() {
    let site = Site::start();
    let mut sub = site.start_until(&["sub", "acme.few", "--count", "3", "--timeout", "300ms"], "subscribed");
    site.run(&["pub", "acme.few", "one"]).ok();
    let lines: Vec<String> = sub.lines().collect();
    assert_eq!((lines, sub.status()), (vec!["acme.few\tone".to_owned()], 1));
    // Without a count there is nothing that is too few.
    assert_eq!(site.run(&["sub", "acme.few", "--timeout", "20ms"]).ok(), "");
}

#[test]
fn a_late_subscriber_gets_what_the_topic_keeps() {
    let site = Site::configured("[topic.\"acme.kept\"]\nretain = true\nhistory = 3\n");
    let list = site.run(&["list", "--kind", "topic"]).ok();
    assert!(list.contains("acme.kept"), "a configured topic is there: {list}");
    let row = list.lines().find(|line| line.starts_with("acme.kept")).expect("its row");
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[1..3], ["topic", "-"], "only a service is exclusive, or a pool");
    let one = site.run(&["list", "acme.kept", "--json"]).ok();
    assert!(one.contains("\"mode\":null"), "{one}");
    site.feed(&["pub", "acme.kept", "--lines"], "one\ntwo\nthree\nfour\n").ok();
    let sub = |words: &[&str]| site.run(&[&["sub", "acme.kept", "--timeout", "20s"], words].concat()).ok();
    assert_eq!(sub(&["--history", "1", "--count", "1"]), "acme.kept\tfour\n");
    let json = sub(&["--history", "2", "--count", "2", "--json"]);
    assert!(json.contains("\"payload\":\"three\"") && json.contains("\"earlier\":true"), "{json}");
    let described = site.run(&["describe", "acme.kept"]).ok();
    assert!(described.contains("published   4") && described.contains("retained"), "{described}");
}

#[test]
fn work_is_pushed_and_popped_in_order_and_told_how_safe_it_is() {
    let site = Site::start();
    site.queue(&["create", "acme.jobs"]);
    assert_eq!(site.queue(&["push", "acme.jobs", "first"]), "1\tmemory\n");
    let pushed = site.feed(&["queue", "push", "acme.jobs", "--lines"], "second\nthird\n").ok();
    assert_eq!(pushed, "2\tmemory\n3\tmemory\n");
    assert_eq!(site.queue(&["push", "acme.jobs", "urgent", "--priority", "31"]), "4\tmemory\n");
    assert_eq!(site.queue(&["peek", "acme.jobs"]), "first\nsecond\nthird\nurgent\n");
    assert!(site.queue(&["peek", "acme.jobs", "--long", "--after", "3"]).starts_with("4\t31\t0\turgent"));
    assert_eq!(site.queue(&["pop", "acme.jobs", "--count", "3"]), "urgent\nfirst\nsecond\n");
    let stat = site.queue(&["stat", "acme.jobs", "--json"]);
    for fact in ["\"messages\":1,", "\"pushed\":4,", "\"acked\":3,", "\"durability\":\"memory\""] {
        assert!(stat.contains(fact), "{fact} in {stat}");
    }
    assert!(site.run(&["describe", "acme.jobs"]).ok().contains("messages    1 of 10 000"));
    assert!(site.run(&["list", "--kind", "queue"]).ok().contains("acme.jobs"));
    assert_eq!(site.queue(&["purge", "acme.jobs"]), "1\n");
    site.run(&["queue", "pop", "acme.jobs", "--timeout", "20ms"])
        .failed(1, "DeadlineExceeded: 0 of 1 messages");
    site.queue(&["rm", "acme.jobs"]);
    assert!(!site.run(&["list"]).ok().contains("acme.jobs"));
}

#[test]
fn a_message_left_leased_is_acknowledged_by_its_lease_and_only_once() {
    let site = Site::start();
    site.queue(&["create", "acme.jobs"]);
    site.feed(&["queue", "push", "acme.jobs", "--lines"], "one\ntwo\n").ok();
    let popped = site.queue(&["pop", "acme.jobs", "--no-ack", "--count", "2"]);
    let leases: Vec<&str> = popped.lines().map(|line| line.split_once('\t').expect("a tab").0).collect();
    assert!(popped.ends_with("\ttwo\n"), "{popped}");
    site.run(&["queue", "pop", "acme.jobs", "--timeout", "20ms"]).failed(1, "DeadlineExceeded: ");
    site.queue(&["extend", "acme.jobs", leases[0], "--by", "60s"]);
    site.queue(&["ack", "acme.jobs", leases[0]]);
    site.run(&["queue", "ack", "acme.jobs", leases[0]]).failed(1, "LeaseLost: ");
    site.run(&["queue", "nack", "acme.jobs", leases[0]]).failed(1, "LeaseLost: ");
    site.run(&["queue", "extend", "acme.jobs", leases[0]]).failed(1, "LeaseLost: ");
    site.queue(&["nack", "acme.jobs", leases[1]]);
    let again = site.queue(&["pop", "acme.jobs", "--no-ack"]);
    let (lease, payload) = again.trim_end().split_once('\t').expect("a tab");
    assert_eq!(payload, "two");
    site.run(&["queue", "ack", "acme.jobs", leases[1], lease]).failed(1, "LeaseLost: 1 of 2 leases");
    site.run(&["queue", "pop", "acme.jobs", "--timeout", "20ms"]).failed(1, "DeadlineExceeded: ");
}

#[test]
fn dead_letters_say_where_they_come_from_and_come_back() {
    let site = Site::start();
    site.queue(&["create", "acme.jobs", "--max-deliveries", "2"]);
    site.queue(&["push", "acme.jobs", "poison"]);
    site.queue(&["push", "acme.jobs", "hopeless"]);
    for how in ["dead", "fail", "fail"] {
        let popped = site.queue(&["pop", "acme.jobs", "--no-ack"]);
        let lease = popped.split_once('\t').expect("a tab").0;
        site.queue(&["nack", "acme.jobs", lease, "--how", how]);
    }
    let dead = site.queue(&["peek", "acme.jobs.dead", "--long"]);
    assert!(dead.contains("poison\tfrom acme.jobs 1, 1 deliveries: "), "{dead}");
    assert!(dead.contains("hopeless\tfrom acme.jobs 2, 2 deliveries: "), "{dead}");
    assert_eq!(site.queue(&["redrive", "acme.jobs.dead", "--count", "1"]), "1\n");
    assert_eq!(site.queue(&["redrive", "acme.jobs"]), "1\n");
    assert_eq!(site.queue(&["pop", "acme.jobs", "--count", "2"]), "poison\nhopeless\n");
}

#[test]
fn a_full_queue_says_busy_and_names_the_line_that_found_no_room() {
    let site = Site::start();
    site.queue(&["create", "acme.small", "--max-messages", "2"]);
    let ended = site.feed(&["queue", "push", "acme.small", "--lines"], "one\ntwo\nthree\n");
    assert_eq!((ended.status, ended.stdout.as_str()), (1, "1\tmemory\n2\tmemory\n"), "{ended:#?}");
    assert!(ended.stderr.starts_with("Busy: ") && ended.stderr.contains("(line 3)"), "{ended:#?}");
    let other = ["queue", "create", "acme.small", "--max-messages", "3"];
    site.run(&other).failed(1, "Invalid: ");
    let lossy = ["queue", "create", "acme.lossy", "--durable", "--overflow", "drop_oldest"];
    site.run(&lossy).failed(1, "lossy");
}

#[test]
fn a_producer_that_pushes_again_is_told_so() {
    let site = Site::start();
    site.queue(&["create", "acme.jobs"]);
    let push = ["push", "acme.jobs", "one\ntwo", "--lines", "--producer", "7", "--seq", "1"];
    assert_eq!(site.queue(&push), "1\tmemory\n2\tmemory\n");
    let again = site.queue(&push);
    assert_eq!(again.matches("\tduplicate").count(), 2, "{again}");
    assert_eq!(site.queue(&["pop", "acme.jobs", "--count", "2"]), "one\ntwo\n");
}

#[test]
fn each_line_is_pushed_and_published_as_soon_as_it_is_written() {
    let site = Site::start();
    site.queue(&["create", "acme.jobs"]);
    let mut push = site.command(&["queue", "push", "acme.jobs", "--lines"]);
    let child = push.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut push = Running(child);
    let mut stdin = push.0.stdin.take().expect("piped");
    let mut acks = push.lines();
    for (line, ack) in [("one\n", "1\tmemory"), ("two\n", "2\tmemory")] {
        stdin.write_all(line.as_bytes()).expect("it reads");
        assert_eq!(acks.next().as_deref(), Some(ack));
    }
    drop(stdin);
    assert_eq!(push.status(), 0);
}

#[test]
fn a_popped_message_is_acknowledged_only_once_it_is_written() {
    let site = Site::start();
    site.queue(&["create", "acme.jobs"]);
    site.queue(&["push", "acme.jobs", "precious"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    let mut pop = site.command(&["queue", "pop", "acme.jobs"]);
    let mut pop = Running(pop.stdout(full).stderr(Stdio::piped()).spawn().expect("it starts"));
    assert!(stderr(&mut pop).contains("No space left on device"));
    assert_eq!(pop.status(), 1);
    assert_eq!(site.queue(&["pop", "acme.jobs", "--timeout", "20s"]), "precious\n");
}

#[test]
fn what_is_no_text_is_told_in_json_as_digits() {
    let site = Site::start();
    site.queue(&["create", "acme.jobs"]);
    let ended = run(&mut site.command(&["queue", "push", "acme.jobs", "-"]), b"\xff\x00");
    assert_eq!(ended.ok(), "1\tmemory\n");
    let json = site.queue(&["pop", "acme.jobs", "--json"]);
    assert!(json.contains("\"payload_hex\":\"ff00\""), "{json}");
}

#[test]
fn a_slow_reader_is_told_what_it_lost() {
    let site = Site::start();
    let mut sub = site.command(&["sub", "acme.flood", "--timeout", "2s"]);
    let child = sub.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut sub = Running(child);
    let mut said =
        BufReader::new(sub.0.stderr.take().expect("piped")).lines().map(|line| line.expect("text"));
    assert_eq!(said.next().as_deref(), Some("subscribed"));
    let lines = (0..400_000).map(|number| format!("{number:0100}\n")).collect::<String>();
    site.feed(&["pub", "acme.flood", "--lines"], &lines).ok();
    // Only now is its stdout read: pipe, client and broker are full, and the rest was dropped.
    let printed: Vec<String> = sub.lines().collect();
    let lost: u64 = said
        .map(|line| {
            let range = line.strip_prefix("Lost ").expect("nothing else is told");
            let (from, to) = range.split_once(' ').expect("two positions");
            let (from, to) = (from.parse::<u64>().expect("one"), to.parse::<u64>().expect("one"));
            assert!(from <= to, "{line}");
            to - from + 1
        })
        .sum();
    assert!(lost > 0, "everything fitted: {} lines", printed.len());
    assert_eq!(lost + printed.len() as u64, 400_000, "what is not there is told");
    assert_eq!(sub.status(), 0);
}
