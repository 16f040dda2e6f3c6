//! The demo holds, and leaves nothing behind, however it ends.

mod common;

use common::{run, switchboard};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("a folder").next().is_none()
}

#[test]
fn the_demo_holds_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = run(switchboard().env("TMPDIR", folder.path()).arg("demo"), b"").ok();
    assert!(report.contains("PeerDied") && report.contains("All of it held"), "{report}");
    assert!(is_empty(folder.path()));
    let steps = run(switchboard().env("TMPDIR", folder.path()).args(["demo", "--json"]), b"").ok();
    assert!(steps.lines().all(|step| step.contains("\"held\":true")), "{steps}");
    assert!(steps.lines().count() >= 22, "{steps}");
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = switchboard();
    command.env("TMPDIR", folder.path()).arg("demo").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut demo = command.spawn().expect("it starts");
    let stdout = demo.stdout.take().expect("piped");
    let mut lines = BufReader::new(stdout).lines().map(|line| line.expect("text"));
    assert!(lines.any(|line| line.contains("services")));
    let interrupted =
        Command::new("kill").args(["-INT", &demo.id().to_string()]).status().expect("kill runs");
    assert!(interrupted.success());
    lines.for_each(drop);
    let ended = demo.wait_with_output().expect("waited for");
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).starts_with("Cancelled: "));
    assert!(is_empty(folder.path()));
}

#[test]
fn a_demo_that_has_nowhere_to_play_says_so() {
    run(switchboard().env("TMPDIR", "/nonexistent").arg("demo"), b"")
        .failed(1, "cannot make a folder in /nonexistent");
}
