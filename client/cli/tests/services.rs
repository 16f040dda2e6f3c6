//! Calling, serving and looking around, from a shell.

mod common;

use common::{Site, run};
use std::fs;
use std::path::Path;

#[test]
fn a_reply_is_on_stdout_byte_by_byte() {
    let site = Site::start();
    let _echo = site.serve(&["echo", "acme.echo"]);
    assert_eq!(site.run(&["call", "acme.echo", "word"]).ok(), "word");
    assert_eq!(site.run(&["call", "acme.echo"]).ok(), "");
    assert_eq!(site.run(&["call", "acme.echo", ""]).ok(), "");
    assert_eq!(run(&mut site.command(&["call", "acme.echo", "-"]), b"from\nstdin").ok(), "from\nstdin");
    let file = site.folder().join("file");
    fs::write(&file, "from a file").expect("written");
    assert_eq!(site.run(&["call", "acme.echo", &format!("@{}", file.display())]).ok(), "from a file");
    let bytes: Vec<u8> = (0..16 << 20).map(|at: u32| (at * 7 % 253) as u8).collect();
    fs::write(&file, &bytes).expect("written");
    let mut call = site.command(&["call", "acme.echo", &format!("@{}", file.display()), "--timeout", "0"]);
    assert!(call.output().expect("it runs").stdout == bytes);
    let more =
        ["call", "acme.echo", "x", "--method", "m", "--priority", "7", "--brokered", "--timeout", "2s"];
    assert_eq!(site.run(&more).ok(), "x");
    assert_eq!(site.run(&["send", "acme.echo", "x", "--method", "3"]).ok(), "");
}

#[test]
fn a_program_serves_by_its_stdin_and_stdout() {
    let site = Site::start();
    let _upper = site.serve(&["serve", "acme.upper", "--exec", "tr", "a-z", "A-Z"]);
    assert_eq!(site.run(&["call", "acme.upper", "hello"]).ok(), "HELLO");
    let big = "ab".repeat(4 << 20);
    assert!(run(&mut site.command(&["call", "acme.upper", "-"]), big.as_bytes()).ok() == big.to_uppercase());
    let _deaf = site.serve(&["serve", "acme.deaf", "--exec", "echo", "I", "--json", "--", "do not listen"]);
    assert_eq!(
        run(&mut site.command(&["call", "acme.deaf", "-"]), big.as_bytes()).ok(),
        "I --json -- do not listen\n"
    );
    let socket = site.socket().display().to_string();
    let _env = site.serve(&["serve", "acme.env", "--exec", "sh", "-c", "echo $SWITCHBOARD_SOCKET"]);
    assert_eq!(site.run(&["call", "acme.env"]).ok(), format!("{socket}\n"));
}

#[test]
fn a_program_that_fails_is_failed_with_its_stderr() {
    let site = Site::start();
    let _fails =
        site.serve(&["serve", "acme.fails", "--exec", "sh", "-c", "echo out; echo no such fish >&2; exit 3"]);
    let ended = site.run(&["call", "acme.fails"]);
    assert_eq!(ended.stderr, "Failed: no such fish\n");
    ended.failed(1, "");
    let _silent = site.serve(&["serve", "acme.silent", "--exec", "sh", "-c", "kill -9 $$"]);
    site.run(&["call", "acme.silent"]).failed(1, "Failed: `sh` was killed by signal 9");
}

#[test]
fn a_program_is_killed_when_its_call_is_over() {
    let site = Site::start();
    let mark = site.folder().join("pid");
    let script = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", mark.display());
    let _slow = site.serve(&["serve", "acme.slow", "--exec", "sh", "-c", &script]);
    for by_deadline in [true, false] {
        let _ = fs::remove_file(&mark);
        if by_deadline {
            site.run(&["call", "acme.slow", "--timeout", "300ms"]).failed(1, "DeadlineExceeded");
        } else {
            let mut call = site.command(&["call", "acme.slow"]).spawn().expect("it starts");
            wait_until(|| mark.exists());
            call.kill().expect("killed");
            call.wait().expect("waited for");
        }
        // Under load the shell may have been killed before it wrote its mark; then nothing is left.
        if let Ok(pid) = fs::read_to_string(&mark) {
            wait_until(|| !runs(pid.trim()));
        }
    }
}

/// Whether that process is there and no zombie.
fn runs(pid: &str) -> bool {
    fs::read_to_string(Path::new("/proc").join(pid).join("stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Bounded by the test runner's patience only.
fn wait_until(done: impl Fn() -> bool) {
    while !done() {
        std::thread::yield_now();
    }
}

#[test]
fn requests_are_worked_on_at_once_as_many_as_there_are_workers() {
    let site = Site::start();
    // Each waits until the other is there.
    let script = format!(
        "touch {0}/$$; until [ $(ls {0} | wc -l) -ge 2 ]; do :; done; echo met",
        site.folder().display()
    );
    let _pair = site.serve(&["serve", "acme.pair", "--workers", "2", "--exec", "sh", "-c", &script]);
    let calls = [(); 2].map(|()| {
        let mut command = site.command(&["call", "acme.pair"]);
        std::thread::spawn(move || run(&mut command, b"").ok())
    });
    assert_eq!(calls.map(|call| call.join().expect("called")), ["met\n", "met\n"]);
}

#[test]
fn a_second_server_stands_by_and_a_pool_shares() {
    let site = Site::start();
    let first = site.serve(&["echo", "acme.one"]);
    let _second = site
        .start_until(&["serve", "acme.one", "--exec", "echo", "second"], "standing by for acme.one, place 1");
    assert!(site.run(&["describe", "acme.one"]).ok().contains("standby 1"));
    drop(first);
    // The name has an owner again when the broker has heard of the death.
    wait_until(|| site.run(&["call", "acme.one"]).stdout == "second\n");
    let _one = site.serve(&["echo", "acme.pool", "--pool"]);
    let _other = site.serve(&["echo", "acme.pool", "--pool"]);
    let listed = site.run(&["list", "acme.pool", "--json"]).ok();
    assert!(listed.contains("\"mode\":\"pool\"") && listed.contains("\"owners\":2"), "{listed}");
}

#[test]
fn names_are_listed_described_waited_for_and_watched() {
    let site = Site::start();
    assert_eq!(site.run(&["list"]).ok(), "");
    assert_eq!(site.run(&["list", "--json"]).ok(), "");
    let mut watch = site.start_until(&["watch", "acme.**"], "watching");
    let mut lines = watch.lines();
    let wait = {
        let mut command = site.command(&["wait", "acme.echo", "--json"]);
        std::thread::spawn(move || run(&mut command, b"").ok())
    };
    let echo = site.serve(&["echo", "acme.echo"]);
    let pid = echo.0.id();
    assert!(wait.join().expect("waited").starts_with("{\"name\":\"acme.echo\",\"epoch\":"));
    assert_eq!(site.run(&["wait", "acme.echo"]).ok(), "");
    let listed = site.run(&["list"]).ok();
    let mut rows = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let headings = ["NAME", "KIND", "MODE", "PID", "PROGRAM", "USER", "OWNERS", "STANDBY"];
    assert_eq!(rows.next().expect("headings"), headings);
    assert_eq!(rows.next().expect("a row")[..4], ["acme.echo", "service", "exclusive", &pid.to_string()]);
    assert_eq!(site.run(&["list", "other.*"]).ok(), "");
    // Before and after the command.
    let json = site.run(&["list", "acme.*", "--json"]).ok();
    assert_eq!(site.run(&["--json", "list", "acme.*"]).ok(), json);
    assert!(json.starts_with("{\"name\":\"acme.echo\",\"kind\":\"service\""), "{json}");
    assert!(site.run(&["describe", "acme.echo"]).ok().contains("answers with what it was sent"));
    assert!(site.run(&["describe", "acme.echo", "--json"]).ok().contains("\"servers\":[{\"peer\":"));
    let owned = lines.next().expect("a change");
    assert!(
        owned.starts_with("owned\tacme.echo\t1.") && owned.ends_with(&format!("\t{pid}\tswitchboard")),
        "{owned}"
    );
    drop(echo);
    let gone = lines.next().expect("a change");
    assert!(gone.starts_with("gone\tacme.echo\t"), "{gone}");
}

#[test]
fn the_broker_is_shown_with_its_limits_its_peers_its_traffic_and_who_waits() {
    let site = Site::start();
    let status = site.run(&["status"]).ok();
    assert!(
        status.starts_with("broker       switchboard 0.") && status.contains("payload_bytes_max")
            || status.contains("connections_max"),
        "{status}"
    );
    assert!(status.contains("all in the worst case"), "{status}");
    assert!(site.run(&["status", "--json"]).ok().contains("\"memory_bytes_max\":"));
    let _slow = site.serve(&["serve", "acme.slow", "--exec", "sleep", "1000"]);
    let mut monitor = site.start_until(&["monitor", "--payload", "5", "--json"], "monitoring");
    assert_eq!(site.run(&["waits"]).ok(), "");
    let mut call = site.command(&["call", "acme.slow", "payload"]).spawn().expect("it starts");
    let item = monitor.lines().find(|line| line.contains("acme.slow")).expect("an item");
    assert!(item.contains("\"kind\":\"call\"") && item.contains("\"payload\":\"paylo\""), "{item}");
    let waits = site.run(&["waits"]).ok();
    assert!(waits.contains("acme.slow") && waits.contains(&format!("({})", call.id())), "{waits}");
    assert!(site.run(&["waits", "--json"]).ok().contains("\"name\":\"acme.slow\""));
    assert!(site.run(&["stats"]).ok().lines().count() >= 4);
    assert!(site.run(&["stats", "--json"]).ok().contains("\"frames_in\":"));
    call.kill().expect("killed");
    call.wait().expect("waited for");
}

#[test]
fn policy_is_explained_and_configuration_reloaded() {
    let site = Site::start();
    assert!(site.run(&["policy", "explain", "call", "acme.x"]).ok().starts_with("allowed: "));
    let other = site.run(&["policy", "explain", "--user", "1", "call", "acme.x", "--json"]).ok();
    assert!(other.starts_with("{\"allowed\":false,\"rule\":\""), "{other}");
    assert!(site.run(&["policy", "explain", "serve", "switchboard.x"]).ok().starts_with("denied: "));
    assert_eq!(site.run(&["reload"]).ok(), "");
    assert_eq!(site.run(&["reload", "--json"]).ok(), "{\"files\":[]}\n");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_diagnostics_and_the_old_one_stays() {
    let site = Site::configured("[limits.user.default]\nconnections = 20\n");
    let config = site.folder().join("switchboard.toml");
    assert_eq!(site.run(&["reload"]).ok(), format!("{}\n", config.display()));
    fs::write(&config, "[limits]\nnames_maxx = 1\n").expect("written");
    site.run(&["reload"]).failed(2, &format!("{}:2:1: error: unknown key `names_maxx`", config.display()));
    let ended = site.run(&["bench", "idle", "--count", "30"]);
    assert!(ended.stderr.starts_with("Busy: "), "{ended:#?}");
    ended.failed(1, "limits.user.connections = 20");
}
