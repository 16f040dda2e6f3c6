//! What needs no broker: configuration, completions, manuals.

mod common;

use common::{run, switchboard};
use std::fs;

#[test]
fn configuration_is_checked_with_file_line_and_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("switchboard.toml");
    fs::write(&file, "log = \"warn\"\n[limits]\nnames_max = 7\n").expect("written");
    let path = file.to_str().expect("text");
    assert_eq!(run(switchboard().args(["config", "check", path]), b"").ok(), format!("{path}\n"));
    let dir = folder.path().to_str().expect("text");
    assert_eq!(run(switchboard().args(["config", "check", dir]), b"").ok(), format!("{path}\n"));
    let shown = run(switchboard().args(["config", "show", path]), b"").ok();
    let line = shown.lines().find(|line| line.starts_with("names_max = 7")).expect("its line");
    assert!(line.ends_with(&format!("# {path}:3")), "{line}");
    let json = run(switchboard().args(["config", "show", path, "--json"]), b"").ok();
    assert!(json.lines().any(|line| line.contains("\"key\":\"log\"") && line.contains("warn")), "{json}");

    fs::create_dir(folder.path().join("conf.d")).expect("made");
    fs::write(folder.path().join("conf.d/1.toml"), "logg = 1\nspin = 2\n").expect("written");
    let ended = run(switchboard().args(["config", "check", path]), b"");
    assert!(
        ended.stderr.starts_with(&format!("{dir}/conf.d/1.toml:1:1: error: unknown key `logg`")),
        "{ended:#?}"
    );
    assert!(ended.stderr.contains("did you mean `log`?"), "{ended:#?}");
    assert!(ended.stderr.contains(&format!("\n{dir}/conf.d/1.toml:2:8: error: ")), "{ended:#?}");
    ended.failed(2, "2 mistakes");
    run(switchboard().args(["config", "show", path]), b"").failed(2, "2 mistakes");
    let ended = run(switchboard().args(["--json", "config", "check", path]), b"");
    assert_eq!((ended.status, ended.stderr.as_str()), (2, ""));
    assert!(ended.stdout.starts_with("{\"valid\":false,"), "{ended:#?}");
    run(switchboard().args(["config", "check", "/nonexistent"]), b"").failed(2, "/nonexistent:1:1: error: ");
}

#[test]
fn without_a_file_the_defaults_are_valid() {
    let folder = tempfile::tempdir().expect("a folder");
    for words in [&["config", "check"][..], &["config", "check", "--json"], &["config", "show"]] {
        run(switchboard().env("XDG_CONFIG_HOME", folder.path()).args(words), b"").ok();
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(run(switchboard().args(["completions", shell]), b"").ok().contains("explain"), "{shell}");
    }
}

#[test]
fn every_command_has_a_page() {
    assert!(run(switchboard().arg("man"), b"").ok().contains(".TH switchboard 1"));
    assert!(run(switchboard().args(["man", "bench", "call"]), b"").ok().contains("in\\-flight"));
    let folder = tempfile::tempdir().expect("a folder");
    run(switchboard().args(["man", "--dir"]).arg(folder.path()), b"").ok();
    for page in ["switchboard.1", "switchboard-serve.1", "switchboard-policy-explain.1"] {
        assert!(folder.path().join(page).exists(), "{page}");
    }
    run(switchboard().args(["man", "--dir", "/nonexistent"]), b"").failed(1, "cannot write the pages");
}
