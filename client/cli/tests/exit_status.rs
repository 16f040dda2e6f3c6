//! Exit statuses and what stands on which stream: what scripts rely on.

mod common;

use common::{Running, Site, run, switchboard};
use std::fs;
use std::process::Stdio;

/// What a lease looks like.
const LEASE: &str = "00112233445566778899aabbccddeeff";

#[test]
fn wrong_usage_is_2_and_says_what_was_expected() {
    let site = Site::start();
    for (words, said) in [
        (&[][..], "Usage: switchboard"),
        (&["nonsense"], "unrecognized subcommand 'nonsense'"),
        (&["call"], "<NAME>"),
        (&["call", "Acme.Upper"], "'A' at byte 0"),
        (&["call", "a..b"], "empty label"),
        (&["call", ""], "a name is empty"),
        (&["call", "a", "x", "y"], "unexpected argument 'y'"),
        (&["call", "a", "--timeout", "5"], "expected a duration such as 250ms"),
        (&["call", "a", "--timeout", "-5s"], "unexpected argument"),
        (&["call", "a", "--priority", "8"], "8 is not in 0..=7"),
        (&["call", "a", "--method", "4294967296"], "a number up to 4294967295"),
        (&["call", "a", "--methud", "x"], "'--method'"),
        (&["call", "a", "@/nonexistent/file"], "cannot read the payload from `/nonexistent/file`"),
        (&["send", "a", "@/"], "cannot read the payload from `/`"),
        (&["serve", "a"], "--exec <CMD>"),
        (&["serve", "a", "--exec"], "--exec"),
        (&["serve", "a", "--exec", "no-such-program-here"], "no such program in PATH"),
        (&["serve", "a", "--workers", "0", "--exec", "cat"], "0 is not in 1..="),
        (&["list", "a.**.b"], "only be the last label"),
        (&["list", "--kind", "zebra"], "possible values: service, topic, queue, event"),
        (&["pub"], "<TOPIC>"),
        (&["pub", "a.*", "x"], "'*'"),
        (&["pub", "a", "x", "--method", "seven"], "invalid digit"),
        (&["pub", "a", "@/nonexistent/file", "--lines"], "cannot read the lines of `/nonexistent/file`"),
        (&["sub", "a.**.**"], "only be the last label"),
        (&["sub", "a", "--count", "0"], "0 is not in 1.."),
        (&["sub", "a", "--policy", "drop"], "possible values: drop_oldest, latest, block, disconnect"),
        (&["sub", "a", "--timeout", "soon"], "expected a duration such as 250ms"),
        (&["queue"], "Usage: switchboard queue"),
        (&["queue", "push", "a", "x", "--priority", "99"], "99 is not in 0..=31"),
        (&["queue", "push", "a", "x", "--delay", "-5s"], "it cannot be negative"),
        (&["queue", "push", "a", "x", "--ttl", "-1"], "it cannot be negative"),
        (&["queue", "push", "a", "x", "--producer", "7"], "--seq <N>"),
        (&["queue", "push", "a", "x", "--producer", "7", "--seq", "0"], "0 is not in 1.."),
        (&["queue", "pop", "a", "--count", "0"], "0 is not in 1.."),
        (&["queue", "pop", "a", "--lease", "5s"], "--no-ack"),
        (&["queue", "ack", "a"], "<LEASE>"),
        (&["queue", "ack", "a", "17"], "32 hexadecimal digits"),
        (&["queue", "nack", "a", "17"], "32 hexadecimal digits"),
        (&["queue", "nack", "a", LEASE, "--how", "never"], "possible values: requeue, fail, dead"),
        (&["queue", "extend", "a", LEASE, "--by", "0"], "more than 0"),
        (&["queue", "create", "a", "--overflow", "sink"], "possible values: reject, drop_oldest, block"),
        (&["queue", "create", "a", "--max-messages", "0"], "0 is not in 1.."),
        (&["queue", "create", "a", "--max-bytes", "0"], "more than 0"),
        (&["queue", "create", "a", "--durable", "--durability", "os"], "cannot be used with"),
        (&["event", "raise", "a", "0"], "at least one of them set"),
        (&["event", "raise", "a", "0x10000000000000000"], "64 bits"),
        (&["event", "pulse", "a", "x", "1"], "invalid digit"),
        (&["event", "wait", "a", "--mask", "none"], "at least one of them set"),
        (&["watch"], "<PATTERN>"),
        (&["monitor", "--payload", "5000"], "5000 is not in 0..=4096"),
        (&["policy", "explain", "fly", "a"], "possible values: serve, call"),
        (&["policy", "explain", "--user", "no_such_user", "call", "a"], "there is no user `no_such_user`"),
        (&["bench", "call", "--size", "64 MB of bytes"], "expected a size"),
        (&["bench", "call", "--size", "17 MiB"], "more than the broker's limit of 16777216 bytes"),
        (&["bench", "call", "--count", "0"], "0 is not in 1.."),
        (&["bench", "idle"], "--count"),
        (&["completions", "cmd.com"], "possible values: bash"),
        (&["man", "nonsense"], "has no command `nonsense`"),
        (&["list", "--system"], "cannot be used with"),
    ] {
        println!("{words:?}");
        site.run(words).failed(2, said);
    }
}

#[test]
fn no_broker_is_3_at_once_for_every_command_that_needs_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.sock");
    for words in [
        &["call", "a"][..],
        &["send", "a"],
        &["echo", "a"],
        &["serve", "a", "--exec", "cat"],
        &["pub", "a", "x"],
        &["pub", "a", "--lines"],
        &["sub", "a.**"],
        &["queue", "create", "a"],
        &["queue", "push", "a", "x"],
        &["queue", "push", "a", "--lines"],
        &["queue", "pop", "a"],
        &["queue", "peek", "a"],
        &["queue", "ack", "a", LEASE],
        &["queue", "nack", "a", LEASE],
        &["queue", "extend", "a", LEASE],
        &["queue", "purge", "a"],
        &["queue", "stat", "a"],
        &["queue", "redrive", "a"],
        &["queue", "rm", "a"],
        &["event", "raise", "a", "1"],
        &["event", "wait", "a"],
        &["event", "pulse", "a", "1", "2"],
        &["list"],
        &["describe", "a"],
        &["wait", "a"],
        &["watch", "**"],
        &["status"],
        &["stats"],
        &["monitor"],
        &["waits"],
        &["policy", "explain", "call", "a"],
        &["reload"],
        &["bench", "call"],
        &["bench", "send"],
        &["bench", "pub"],
        &["bench", "queue"],
        &["bench", "idle", "--count", "1"],
    ] {
        let mut command = switchboard();
        run(command.arg("--socket").arg(&missing).args(words), b"").failed(3, "no broker at ");
    }
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("bound"));
    run(switchboard().arg("--socket").arg(&stale).arg("list"), b"").failed(3, "stale.sock");
    let long = "x".repeat(200);
    run(switchboard().args(["--socket", &long, "list"]), b"").failed(3, "107");
    run(switchboard().env("SWITCHBOARD_SOCKET", &missing).arg("list"), b"").failed(3, "missing.sock");
    run(switchboard().env("XDG_RUNTIME_DIR", folder.path()).arg("list"), b"").failed(3, "switchboardd");
}

#[test]
fn an_outcome_is_1_and_stderr_begins_with_its_name() {
    let site = Site::start();
    let _echo = site.serve(&["echo", "acme.echo"]);
    let _slow = site.serve(&["serve", "acme.slow", "--exec", "sleep", "1000"]);
    let begins = |words: &[&str], with: &str| {
        let ended = site.run(words);
        assert!(ended.stderr.starts_with(with), "{words:?} {ended:#?}");
        ended.failed(1, with);
    };
    begins(&["call", "acme.nobody"], "NoOwner: ");
    begins(&["send", "acme.nobody"], "NoOwner: ");
    begins(&["describe", "acme.nobody"], "NoOwner: ");
    for words in [
        &["push", "acme.nobody", "x"][..],
        &["push", "acme.nobody", "one\ntwo", "--lines"],
        &["pop", "acme.nobody", "--timeout", "5s"],
        &["peek", "acme.nobody"],
        &["ack", "acme.nobody", LEASE],
        &["nack", "acme.nobody", LEASE],
        &["extend", "acme.nobody", LEASE],
        &["purge", "acme.nobody"],
        &["stat", "acme.nobody"],
        &["redrive", "acme.nobody"],
        &["rm", "acme.nobody"],
    ] {
        begins(&[&["queue"], words].concat(), "NoOwner: ");
    }
    begins(&["event", "wait", "acme.quiet", "--timeout", "20ms"], "DeadlineExceeded: ");
    site.run(&["sub", "acme.quiet", "--count", "1", "--timeout", "20ms"])
        .failed(1, "subscribed\nDeadlineExceeded: 0 of 1 messages");
    begins(&["event", "raise", "acme.echo", "1"], "Invalid: ");
    begins(&["call", "acme.slow", "--timeout", "50ms"], "DeadlineExceeded: ");
    begins(&["wait", "acme.nobody", "--timeout", "50ms"], "DeadlineExceeded: ");
    begins(&["echo", "switchboard.fake"], "Denied: ");
    begins(&["echo", "acme.echo", "--pool"], "Invalid: ");
    let large = site.folder().join("large");
    fs::write(&large, vec![0; (16 << 20) + 1]).expect("written");
    begins(&["call", "acme.echo", &format!("@{}", large.display())], "TooLarge: ");
}

#[test]
fn a_broker_lost_midway_is_peer_died() {
    let site = Site::start();
    let watch = site.start_until(&["watch", "**"], "watching");
    let mut echo = site.command(&["echo", "acme.echo"]);
    let mut echo = Running(echo.stderr(Stdio::piped()).spawn().expect("it starts"));
    site.run(&["wait", "acme.echo"]).ok();
    drop(site);
    assert_eq!(watch.status(), 1);
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut echo.0.stderr.take().expect("piped"), &mut stderr).expect("text");
    assert!(stderr.contains("\nPeerDied: ") || stderr.starts_with("PeerDied: "), "{stderr}");
    assert_eq!(echo.status(), 1);
}

#[test]
fn a_reader_that_has_gone_is_no_panic_and_a_full_disk_is_an_error() {
    let site = Site::start();
    let _echo = site.serve(&["echo", "acme.echo"]);
    for words in
        [&["--help"][..], &["list"], &["status"], &["man"], &["completions", "bash"], &["config", "show"]]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut child = site.command(words).stdout(writer).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().expect("piped"), &mut stderr).expect("text");
        assert_eq!((child.wait().expect("waited for").code(), stderr.as_str()), (Some(0), ""), "{words:?}");
    }
    for words in [&["list"][..], &["call", "acme.echo", "x"], &["man"], &["config", "show"], &["demo"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device");
        let mut command = site.command(words);
        let ended = command.stdout(full).stderr(Stdio::piped()).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{words:?} {stderr}");
        assert!(stderr.contains("No space left on device"), "{words:?} {stderr}");
    }
    // Nobody on stderr either.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = site.command(&["call", "acme.nobody"]).stderr(writer).status().expect("it runs");
    assert_eq!(status.code(), Some(1));
}

#[test]
fn help_and_version_are_results() {
    let site = Site::start();
    assert!(site.run(&["--version"]).ok().starts_with("switchboard 0."));
    assert!(site.run(&["call", "--help"]).ok().contains("--timeout <D>"));
}
