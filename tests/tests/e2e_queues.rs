//! Queues between real processes, over the deaths of consumers and of the daemon, and over damage to what
//! it has written.

use std::fs;
use std::path::PathBuf;

use switchboard::{Board, LeaseKind};
use switchboard_tests::rig::{Folder, until};
use switchboard_transport::spawn::Signal;

fn board(folder: &Folder) -> Board {
    Board::builder().socket(folder.socket()).connect().expect("a broker")
}

/// What `queue stat` says of one thing.
fn stat(folder: &Folder, queue: &str, fact: &str) -> String {
    let stat = folder.must(&["queue", "stat", queue, "--json"]);
    let value = stat.split_once(&format!("\"{fact}\":")).unwrap_or_else(|| panic!("{fact} in {stat}")).1;
    value.split([',', '}']).next().expect("a value").to_owned()
}

#[test]
fn work_is_shared_by_processes_and_nothing_is_done_twice() {
    let folder = Folder::new();
    let _daemon = folder.start();
    folder.must(&["queue", "create", "acme.jobs"]);
    let jobs = board(&folder).queue("acme.jobs");
    let pushed = jobs.push_all((0..200).map(|number| format!("job {number}"))).expect("pushed");
    assert_eq!(pushed.position, 1);
    let workers = [(); 4].map(|()| folder.begin_switchboard(&["queue", "pop", "acme.jobs", "--count", "50"]));
    let mut done: Vec<String> = Vec::new();
    for worker in workers {
        let (status, printed, said) = worker.end();
        assert!(status.success(), "{said}");
        assert_eq!(printed.lines().count(), 50);
        done.extend(printed.lines().map(str::to_owned));
    }
    done.sort();
    done.dedup();
    assert_eq!(done.len(), 200);
    assert_eq!(stat(&folder, "acme.jobs", "messages"), "0");
}

#[test]
fn what_a_killed_consumer_had_comes_to_another_at_once() {
    let folder = Folder::new();
    let _daemon = folder.start();
    folder.must(&["queue", "create", "acme.jobs"]);
    // A stopped one holds what it was sent, and is no more dead than that.
    let stopped = folder.begin_switchboard(&["queue", "pop", "acme.jobs", "--count", "9"]);
    until("a consumer", || stat(&folder, "acme.jobs", "consumers") == "1");
    stopped.signal(Signal::STOP);
    for job in ["one", "two"] {
        folder.must(&["queue", "push", "acme.jobs", job]);
    }
    until("both to be leased", || stat(&folder, "acme.jobs", "leased") == "2");
    folder.must_not(&["queue", "pop", "acme.jobs", "--timeout", "50ms"], "DeadlineExceeded");
    stopped.kill();
    assert_eq!(folder.must(&["queue", "pop", "acme.jobs", "--count", "2"]), "one\ntwo\n");
}

#[test]
fn a_detached_lease_outlives_its_process_and_ends_by_time() {
    let folder = Folder::new();
    let _daemon = folder.start();
    folder.must(&["queue", "create", "acme.jobs"]);
    folder.must(&["queue", "push", "acme.jobs", "job"]);
    let popped = folder.must(&["queue", "pop", "acme.jobs", "--no-ack", "--lease", "200ms"]);
    let (lease, payload) = popped.trim_end().split_once('\t').expect("a lease and a payload");
    assert_eq!(payload, "job");
    // It comes again when the time is over, and the old lease is lost then.
    assert_eq!(folder.must(&["queue", "pop", "acme.jobs", "--timeout", "60s"]), "job\n");
    folder.must_not(&["queue", "ack", "acme.jobs", lease], "LeaseLost");
    let queue = board(&folder).queue("acme.jobs");
    queue.push("kept").expect("pushed");
    let leased = queue.consume().lease(LeaseKind::Detached).pop().expect("a message");
    let lease = leased.into_lease().to_string();
    folder.must(&["queue", "ack", "acme.jobs", &lease]);
    assert_eq!(stat(&folder, "acme.jobs", "messages"), "0");
}

#[test]
fn a_durable_queue_is_there_after_sigterm_and_after_kill_9() {
    let folder = Folder::new();
    let mut daemon = folder.start();
    folder.must(&["queue", "create", "acme.kept", "--durable"]);
    folder.must(&["queue", "create", "acme.gone"]);
    folder.must(&["queue", "push", "acme.gone", "in memory"]);
    for kill in [true, false, true] {
        assert!(folder.must(&["queue", "push", "acme.kept", "job"]).ends_with("\tdisk\n"));
        let popped = folder.must(&["queue", "pop", "acme.kept", "--no-ack", "--lease", "1h"]);
        if kill {
            daemon.kill();
        } else {
            assert!(daemon.terminate().success());
        }
        daemon = folder.start();
        // A restart voids all leases; the message is there again, in its place.
        let lease = popped.split_once('\t').expect("a tab").0;
        folder.must_not(&["queue", "ack", "acme.kept", lease], "LeaseLost");
        folder.must_not(&["queue", "stat", "acme.gone"], "NoOwner");
        assert_eq!(folder.must(&["queue", "peek", "acme.kept"]), "job\n");
        assert_eq!(folder.must(&["queue", "pop", "acme.kept"]), "job\n");
        assert_eq!(stat(&folder, "acme.kept", "messages"), "0");
    }
    daemon.kill();
    let _daemon = folder.start();
    assert_eq!(stat(&folder, "acme.kept", "messages"), "0", "what was acknowledged as consumed is gone");
    assert_eq!(stat(&folder, "acme.kept", "position"), "3", "positions are not given twice");
}

#[test]
fn a_configured_queue_is_there_from_the_start_and_keeps_its_bounds() {
    let folder =
        Folder::with_config("[queue.\"acme.jobs\"]\nmax_messages = 2\ndead_letters = \"acme.failed\"\n");
    let _daemon = folder.start();
    assert!(folder.must(&["list", "--kind", "queue"]).contains("acme.jobs"));
    for _ in 0..2 {
        folder.must(&["queue", "push", "acme.jobs", "job"]);
    }
    folder.must_not(&["queue", "push", "acme.jobs", "too many"], "Busy");
    folder.must_not(&["queue", "rm", "acme.jobs"], "Invalid");
    let popped = folder.must(&["queue", "pop", "acme.jobs", "--no-ack"]);
    folder.must(&["queue", "nack", "acme.jobs", popped.split_once('\t').expect("a tab").0, "--how", "dead"]);
    assert_eq!(folder.must(&["queue", "peek", "acme.failed"]), "job\n");
}

#[test]
fn a_delayed_message_comes_later_and_an_expired_one_never() {
    let folder = Folder::new();
    let _daemon = folder.start();
    folder.must(&["queue", "create", "acme.jobs"]);
    folder.must(&["queue", "push", "acme.jobs", "later", "--delay", "300ms"]);
    folder.must(&["queue", "push", "acme.jobs", "short-lived", "--ttl", "1ms"]);
    folder.must(&["queue", "push", "acme.jobs", "now"]);
    assert_eq!(stat(&folder, "acme.jobs", "delayed"), "1");
    let popped = folder.must(&["queue", "pop", "acme.jobs", "--count", "2", "--timeout", "60s"]);
    assert_eq!(popped, "now\nlater\n");
    until("the expired one to be counted", || stat(&folder, "acme.jobs", "expired") == "1");
}

#[test]
fn two_daemons_do_not_share_a_state_directory() {
    let folder = Folder::new();
    let daemon = folder.start();
    folder.must(&["queue", "create", "acme.kept", "--durable"]);
    folder.must(&["queue", "push", "acme.kept", "job"]);
    let other = folder.path("other.sock").display().to_string();
    let output = folder.launch().arg("--socket").arg(other).run();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [folder.path("state").display().to_string(), format!("process {}", daemon.pid())] {
        assert!(said.contains(&part), "{part} in {said}");
    }
    assert!(folder.must(&["queue", "push", "acme.kept", "another"]).ends_with("\tdisk\n"));
}

/// What somebody has done to the files of a log.
struct Damage {
    what: &'static str,
    /// How it is done to the segments, oldest first; returns the file that is to be named.
    harm: fn(&[PathBuf]) -> PathBuf,
}

/// A folder in which a daemon has written three segments or more, and has been killed.
fn written() -> (Folder, Vec<PathBuf>) {
    let folder = Folder::with_config("[limits]\nsegment_bytes = \"64 KiB\"\n");
    let daemon = folder.start();
    folder.must(&["queue", "create", "acme.kept", "--durable"]);
    let queue = board(&folder).queue("acme.kept");
    for _ in 0..10 {
        queue.push_all((0..20).map(|_| [b'x'; 1000])).expect("pushed");
    }
    daemon.kill();
    let segments = segments(&folder);
    assert!(3 <= segments.len(), "{segments:?}");
    (folder, segments)
}

fn segments(folder: &Folder) -> Vec<PathBuf> {
    let log = fs::read_dir(folder.path("state/log")).expect("a log");
    let mut segments: Vec<PathBuf> = log.map(|entry| entry.expect("an entry").path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    segments.sort();
    segments
}

/// Every file of the log with what is in it.
fn contents(folder: &Folder) -> Vec<(PathBuf, Vec<u8>)> {
    let log = fs::read_dir(folder.path("state/log")).expect("a log");
    let mut files: Vec<PathBuf> = log.map(|entry| entry.expect("an entry").path()).collect();
    // It holds the number of whoever has locked the log last.
    files.retain(|path| !path.ends_with("lock"));
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(&path).expect("a file"))).collect()
}

fn change(path: &PathBuf, with: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(path).expect("a segment");
    with(&mut bytes);
    fs::write(path, bytes).expect("writable");
    path.clone()
}

const DAMAGES: [Damage; 5] = [
    Damage {
        what: "a flipped byte in the middle",
        harm: |segments| change(&segments[1], |bytes| bytes[30_000] ^= 1),
    },
    Damage {
        what: "a truncated segment that is not the last",
        harm: |segments| change(&segments[1], |bytes| bytes.truncate(20_000)),
    },
    Damage {
        what: "a foreign file with the name of a segment",
        harm: |segments| {
            change(&segments[0], |bytes| *bytes = b"#!/bin/sh\necho somebody's script\n".to_vec())
        },
    },
    Damage {
        what: "a later version",
        harm: |segments| {
            change(segments.last().expect("segments"), |bytes| {
                bytes[8] = 2;
                let crc = crc32c(&bytes[..60]);
                bytes[60..64].copy_from_slice(&crc.to_le_bytes());
            })
        },
    },
    Damage {
        what: "a missing segment",
        harm: |segments| {
            fs::remove_file(&segments[1]).expect("removable");
            segments[1].clone()
        },
    },
];

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

#[test]
fn a_damaged_log_is_named_and_left_alone_and_everything_else_works() {
    for Damage { what, harm } in DAMAGES {
        println!("{what}");
        let (folder, segments) = written();
        let file = harm(&segments);
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let before = contents(&folder);
        let daemon = folder.start();
        let status = folder.must(&["status"]);
        let storage = status.lines().find(|line| line.starts_with("storage")).expect("a line on storage");
        assert!(storage.contains("READ ONLY") && storage.contains(&name), "{what}: {storage}");
        let logged = daemon.logged("read-only until the next start");
        assert!(logged.contains("ERROR") && logged.contains(&name), "{what}: {logged}");
        let refused = folder.must_not(&["queue", "create", "acme.new", "--durable"], "ReadOnly");
        assert!(refused.contains(&name), "{what}: {refused}");
        // What is in memory has nothing to do with it.
        folder.must(&["queue", "create", "acme.memory"]);
        assert_eq!(folder.must(&["queue", "push", "acme.memory", "job"]), "1\tmemory\n");
        assert_eq!(folder.must(&["queue", "pop", "acme.memory"]), "job\n");
        folder.must(&["event", "raise", "acme.alarm", "1"]);
        assert!(daemon.terminate().success(), "{what}");
        let after = contents(&folder);
        assert!(before == after, "{what}: the files are not as they were");
    }
}

#[test]
fn a_push_to_a_configured_durable_queue_says_why_nothing_is_taken() {
    let (folder, segments) = written();
    folder.write_config("[queue.\"acme.orders\"]\ndurability = \"disk\"\n");
    change(&segments[1], |bytes| bytes[30_000] ^= 1);
    let daemon = folder.start();
    let refused = folder.must_not(&["queue", "push", "acme.orders", "job"], "ReadOnly");
    assert!(refused.contains("0000000002.log"), "{refused}");
    daemon.kill();
}
