//! The benches, short: that they verify, print what scripts read, and leave nothing behind.

mod common;

use common::Site;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

#[test]
fn a_bench_prints_one_object_with_every_key() {
    let site = Site::start();
    for words in [
        &["bench", "call", "--count", "300"][..],
        &["bench", "call", "--count", "1000", "--in-flight", "64", "--size", "100", "--brokered"],
        &["bench", "call", "--count", "20", "--size", "1 MiB", "--spin", "10us"],
        &["bench", "call", "--count", "10", "--size", "0"],
        &["bench", "call", "--count", "600", "--size", "1", "--in-flight", "3"],
        &["bench", "send", "--count", "20000"],
        &["bench", "send", "--count", "100", "--in-flight", "1", "--size", "1000"],
        &["bench", "send", "--count", "50", "--size", "3 MiB"],
        &["bench", "send", "--count", "1000", "--size", "3"],
        &["bench", "pub", "--count", "20000"],
        &["bench", "pub", "--count", "3000", "--subscribers", "3", "--size", "1000", "--in-flight", "7"],
        &["bench", "pub", "--count", "20", "--size", "1 MiB", "--brokered"],
        &["bench", "queue", "--count", "2000"],
        &["bench", "queue", "--count", "500", "--in-flight", "1", "--size", "3"],
        &["bench", "queue", "--count", "2000", "--in-flight", "256", "--durable"],
        &["bench", "queue", "--count", "20", "--size", "1 MiB", "--in-flight", "4"],
    ] {
        let mut json = words.to_vec();
        json.push("--json");
        let line = site.run(&json).ok();
        assert_eq!(line.lines().count(), 1, "{line}");
        for key in [
            "what",
            "path",
            "size",
            "count",
            "in_flight",
            "p50_ns",
            "p99_ns",
            "p999_ns",
            "mean_ns",
            "per_second",
            "touch_ns",
        ] {
            assert!(line.contains(&format!("\"{key}\":")), "{key} in {line}");
        }
        assert!(line.contains(&format!("\"count\":{},", words[3])), "{line}");
    }
    assert!(site.run(&["bench", "call", "--count", "10"]).ok().contains("per second"));
    assert_eq!(site.run(&["list"]).ok(), "", "no server is left");
}

#[test]
fn idle_connections_stand_until_stdin_closes() {
    let site = Site::start();
    let mut command = site.command(&["bench", "idle", "--count", "100", "--json"]);
    let mut idle = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(idle.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert!(line.contains("\"count\":100,"), "{line}");
    assert!(site.run(&["status", "--json"]).ok().contains("\"connections\":101,"));
    drop(idle.stdin.take());
    assert_eq!(idle.wait().expect("waited for").code(), Some(0));
}

#[test]
fn peers_die_with_a_bench_that_is_killed() {
    let site = Site::start();
    let mut bench = site.command(&["bench", "call", "--count", "1000000000"]).spawn().expect("it starts");
    let server = loop {
        let children = format!("/proc/{0}/task/{0}/children", bench.id());
        let children = fs::read_to_string(children).unwrap_or_default();
        match children.split_whitespace().next() {
            Some(child) if site.run(&["list", "bench.**"]).stdout.contains(child) => break child.to_owned(),
            _ => {}
        }
    };
    bench.kill().expect("killed");
    bench.wait().expect("waited for");
    while fs::read_to_string(format!("/proc/{server}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::yield_now();
    }
}

#[test]
fn a_bench_whose_server_dies_fails() {
    let site = Site::start();
    let mut command = site.command(&["bench", "send", "--count", "1000000000"]);
    let bench = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let server = loop {
        let listed = site.run(&["list", "bench.**", "--json"]).ok();
        if let Some((_, rest)) = listed.split_once("\"pid\":") {
            break rest.split_once(',').expect("more keys").0.to_owned();
        }
    };
    let killed = std::process::Command::new("kill").args(["-9", &server]).status().expect("kill runs");
    assert!(killed.success());
    let ended = bench.wait_with_output().expect("waited for");
    assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(1), &b""[..]));
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ["PeerDied: ", "NoOwner: ", "Failed: "].iter().any(|begin| stderr.starts_with(begin)),
        "{stderr}"
    );
}
