//! The repository checks itself, so that review is about ideas.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_path_buf()
}

/// Every Rust file of the workspace, as a path from the root. Nothing that is built or fetched.
fn rust_files() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let mut entries: Vec<PathBuf> = fs::read_dir(folder)
            .expect("a readable folder")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_string();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    walk(&path, found);
                }
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    let root = root();
    let mut found = Vec::new();
    walk(&root, &mut found);
    assert!(20 < found.len(), "the walk found the workspace");
    let relative =
        |path: PathBuf| path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
    found.into_iter().map(relative).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines of the code before the tests in it, without comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| (at + 1, line))
}

fn is_production(path: &str) -> bool {
    !path.starts_with("tests/") && !path.contains("/tests/") && !path.contains("/examples/")
}

/// A finding wherever a line of production code contains one of `words`, outside the allowed places.
fn find(words: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    for path in rust_files().iter().filter(|path| is_production(path) && !allowed(path)) {
        for (at, line) in code_lines(&read(path)) {
            if words.iter().any(|word| line.contains(word)) {
                findings.push(format!("{path}:{at}: {}", line.trim()));
            }
        }
    }
    findings
}

#[test]
fn nothing_is_left_for_later() {
    // Spelt in two halves, so that this file does not find itself.
    let words = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("dbg", "!("),
        concat!("FIX", "ME"),
        concat!("#[ign", "ore"),
    ];
    let mut findings = Vec::new();
    for path in rust_files() {
        for (at, line) in read(&path).lines().enumerate() {
            // A test that another one runs in a process of its own is not one that nobody runs.
            let run_by_another = line.contains(concat!("#[ign", "ore = \"run by "));
            if words.iter().any(|word| line.contains(word)) && !run_by_another {
                findings.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    assert_eq!(findings, Vec::<String>::new());
}

#[test]
fn the_pure_crates_know_no_clock_no_thread_and_no_system() {
    let words = [
        "std::time::Instant",
        "SystemTime",
        "std::thread",
        "std::fs",
        "std::net",
        "rustix::",
        "libc::",
        "tracing::",
    ];
    let pure = |path: &str| path.starts_with("broker/core/src") || path.starts_with("protocol/src");
    assert_eq!(find(&words, |path| !pure(path)), Vec::<String>::new());
}

#[test]
fn the_broker_reads_the_clock_in_one_place() {
    let words = ["clock_gettime", "Instant::now", "SystemTime::now"];
    let bound = |path: &str| {
        let reads_it = path.starts_with("protocol/transport/src/") && path.ends_with("/clock.rs");
        let session = path.starts_with("client/src/session/");
        !reads_it && (path.starts_with("broker/") || path.starts_with("protocol/") || session)
    };
    assert_eq!(find(&words, |path| !bound(path)), Vec::<String>::new());
}

#[test]
fn unsafe_code_lives_in_transport_and_ring() {
    let allowed = |path: &str| path.starts_with("protocol/transport/") || path.starts_with("protocol/ring/");
    assert_eq!(find(&["unsafe {", "unsafe fn", "unsafe impl"], allowed), Vec::<String>::new());
    assert!(read("Cargo.toml").contains("unsafe_code = \"forbid\""));
}

#[test]
fn every_lint_that_is_lifted_says_why() {
    let mut findings = Vec::new();
    for path in rust_files() {
        let text = read(&path);
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let lifts = ["#[allow(", "#[expect(", "#![allow("].iter().any(|start| line.starts_with(start));
            let attribute: String = text.lines().skip(at).take(4).collect();
            if lifts && !attribute.contains("reason") {
                findings.push(format!("{path}:{}: {line}", at + 1));
            }
        }
    }
    assert_eq!(findings, Vec::<String>::new());
}

/// ARCHITECTURE.md's code map names each source file once, in backticks, and no other.
#[test]
fn the_code_map_is_the_code() {
    let text = read("ARCHITECTURE.md");
    let map = text.split("## Code map").nth(1).expect("ARCHITECTURE.md has a code map");
    let map = map.split("\n## ").next().expect("a section");
    let mut named = BTreeSet::new();
    let mut folder = String::new();
    for line in map.lines() {
        if let Some(heading) = line.strip_prefix("### `") {
            folder = heading.split('`').next().expect("a folder").to_string();
        } else if line.starts_with("- ") {
            let (names, _) = line.split_once(": ").unwrap_or((line, ""));
            for (at, word) in names.split('`').enumerate() {
                if at % 2 == 1 {
                    assert!(named.insert(format!("{folder}/{word}")), "named twice: {folder}/{word}");
                }
            }
        }
    }
    let there: BTreeSet<String> = rust_files()
        .into_iter()
        .filter(|path| path.contains("/src/") && !path.starts_with("tests/bench/"))
        .collect();
    let missing: Vec<_> = there.difference(&named).collect();
    let gone: Vec<_> = named.difference(&there).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not in the map: {missing:#?}\nin the map only: {gone:#?}"
    );
}

/// Clauses that code and tests cite exist.
#[test]
fn cited_clauses_of_the_spec_exist() {
    let spec = read("protocol/SPEC.md");
    let mut findings = Vec::new();
    let mut cited = 0;
    for path in rust_files() {
        for (at, line) in read(&path).lines().enumerate() {
            for rest in line.split("SPEC ").skip(1) {
                let clause: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
                let clause = clause.trim_end_matches('.');
                if clause.is_empty() {
                    continue;
                }
                cited += 1;
                let marker =
                    if clause.contains('.') { format!("**{clause}**") } else { format!("## {clause}. ") };
                if !spec.contains(&marker) {
                    findings.push(format!("{path}:{}: SPEC {clause}", at + 1));
                }
            }
        }
    }
    assert!(20 < cited, "the search finds citations");
    assert_eq!(findings, Vec::<String>::new());
}

/// The longest files, for a person to think about: `cargo test --test tidy -- --nocapture longest`.
#[test]
fn the_longest_files_are_shown_and_none_is_a_city() {
    let mut files: Vec<(usize, String)> = rust_files()
        .into_iter()
        .filter(|path| is_production(path))
        .map(|path| (code_lines(&read(&path)).count(), path))
        .collect();
    files.sort_by(|a, b| b.cmp(a));
    for (lines, path) in files.iter().take(10) {
        println!("{lines:6} {path}");
    }
    assert!(files[0].0 < 1500, "{} has {} lines", files[0].1, files[0].0);
}
