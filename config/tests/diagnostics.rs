//! Every mistake is found, and shown where it is.

use std::fs;
use std::path::Path;
use switchboard_config::{Instance, Location, load};

/// Loads `text` as the main file and gives the first line of each diagnostic, without the folder.
fn mistakes(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("switchboard.toml");
    fs::write(&path, text).expect("written");
    let Err(diagnostics) = load(&Location::file(Instance::User, &path)) else { return Vec::new() };
    let prefix = format!("{}/", folder.path().display());
    let first = |text: String| text.lines().next().expect("a line").replace(&prefix, "");
    diagnostics.iter().map(|diagnostic| first(diagnostic.render(false))).collect()
}

fn only_mistake(text: &str) -> String {
    let found = mistakes(text);
    assert_eq!(found.len(), 1, "{found:#?}\n{text}");
    found.into_iter().next().expect("one")
}

#[test]
fn a_file_full_of_mistakes_is_answered_with_all_of_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let location = Location::file(Instance::User, folder.join("switchboard.toml"));
    let diagnostics = load(&location).expect_err("full of mistakes");
    let found = diagnostics.to_string().replace(&format!("{}/", folder.display()), "");
    let expected = folder.join("expected.txt");
    // Writing the file anew is a decision to be read in the diff.
    if std::env::var_os("SWITCHBOARD_BLESS").is_some() {
        fs::write(&expected, &found).expect("written");
    }
    assert_eq!(found, fs::read_to_string(&expected).expect("expected.txt"));
    assert_eq!(diagnostics.len(), found.matches(": error: ").count());
}

#[test]
fn the_first_line_is_for_machines_and_the_column_counts_characters() {
    assert_eq!(
        only_mistake("log = \"info\"\n  speed = 1\n"),
        "switchboard.toml:2:3: error: unknown key `speed` in the top level"
    );
    let in_one_line = mistakes("limits = { \"é\" = 1, names_max = true }\n");
    assert_eq!(
        in_one_line,
        [
            "switchboard.toml:1:12: error: unknown key `é` in [limits]",
            "switchboard.toml:1:33: error: `limits.names_max` expects a whole number, found true",
        ]
    );
}

#[test]
fn a_slip_is_answered_with_the_nearest_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("switchboard.toml");
    fs::write(&path, "[limits.user.default]\nconections = 1\n").expect("written");
    let diagnostics = load(&Location::file(Instance::User, &path)).expect_err("a slip");
    assert!(diagnostics.to_string().contains("did you mean `connections`?"), "{diagnostics}");
    assert!(diagnostics.to_string().contains("^^^^^^^^^^"), "{diagnostics}");
    assert!(diagnostics.render(true).contains("\x1b["), "in colour where asked");
    assert!(!diagnostics.render(false).contains('\x1b'), "and only there");
}

#[test]
fn a_key_of_the_top_level_behind_a_table_is_told_where_it_belongs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("switchboard.toml");
    fs::write(&path, "[limits]\nspin = \"1us\"\n").expect("written");
    let text = load(&Location::file(Instance::User, &path)).expect_err("misplaced").to_string();
    assert!(text.contains("`spin` belongs to the top level"), "{text}");
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    for (text, expected) in [
        (
            "[limits]\nlink_bytes_max = \"8 MiB\"",
            "switchboard.toml:2:1: error: `link_bytes_max` is less than",
        ),
        (
            "[limits]\npayload_bytes_max = \"128 MiB\"",
            "switchboard.toml:2:1: error: `link_bytes_max` is less",
        ),
        (
            "[limits]\nlink_bytes_high = \"65 MiB\"",
            "switchboard.toml:2:1: error: `link_bytes_max` is less than",
        ),
        (
            "[limits]\nsubscription_bytes = \"2 GiB\"",
            "switchboard.toml:2:1: error: `subscribed_bytes_max` is less than `subscription_bytes`",
        ),
        (
            "[limits]\nsegment_bytes = \"64 MiB\"\nlog_bytes_max = \"255 MiB\"",
            "switchboard.toml:3:1: error: `log_bytes_max` is less than four times `segment_bytes`",
        ),
        (
            // Half of it is exactly the largest payload, and a frame is more than that.
            "[limits]\nbuffered_bytes_max = \"32 MiB\"",
            "switchboard.toml:2:1: error: half of `buffered_bytes_max` is less than a frame of `payload_bytes_max`",
        ),
    ] {
        assert!(only_mistake(text).starts_with(expected), "{}", only_mistake(text));
    }
}

#[test]
fn limits_that_just_fit_are_taken() {
    for text in [
        "[limits]\nsegment_bytes = \"64 MiB\"\nlog_bytes_max = \"256 MiB\"",
        "[limits]\nsubscription_bytes = \"1 GiB\"",
        "[limits]\nbuffered_bytes_max = 33563264", // 2 * (16 MiB + 64 + 4096 + 256)
    ] {
        assert_eq!(mistakes(text), [""; 0], "{text}");
    }
    assert_eq!(mistakes("[limits]\nbuffered_bytes_max = 33563263").len(), 1);
}

#[test]
fn a_clash_between_topics_and_queues_shows_both_places_also_across_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    };
    write("switchboard.toml", "[topic.\"a.b\"]\n[queue.q]\ndurability = \"os\"\n[queue.l]\nlossy = true\n");
    write(
        "conf.d/10.toml",
        "[queue.\"a.b\"]\n[queue.q]\noverflow = \"drop_oldest\"\ndead_letters = \"a.b\"\n\
         [queue.l]\noverflow = \"drop_oldest\"\ndurability = \"disk\"\n",
    );
    let location = Location::directories(Instance::User, vec![folder.path().to_owned()]);
    let diagnostics = load(&location).expect_err("three clashes");
    let text = diagnostics.to_string();
    assert_eq!(diagnostics.len(), 3, "{text}");
    for expected in [
        "conf.d/10.toml:1:8: error: `a.b` is declared twice: as a topic and as a queue",
        "note: the topic is declared here",
        "switchboard.toml:1:8",
        "conf.d/10.toml:3:1: error: a durable queue with `overflow = \"drop_oldest\"`",
        "note: made durable here",
        "switchboard.toml:3:1",
        "help: add `lossy = true`",
        "conf.d/10.toml:4:16: error: `a.b` is a topic; expected a queue for dead letters",
    ] {
        assert!(text.contains(expected), "`{expected}` is not in:\n{text}");
    }
}

#[test]
fn a_name_with_dots_but_without_quotes_is_told_how_to_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("switchboard.toml");
    fs::write(&path, "[topic.acme.audio.level]\nretain = true\n").expect("written");
    let text = load(&Location::file(Instance::User, &path)).expect_err("nested tables").to_string();
    assert!(text.contains("switchboard.toml:1:13: error: a topic has no tables in it"), "{text}");
    assert!(text.contains("write [topic.\"acme.audio.level\"]"), "{text}");
}

#[test]
fn a_clash_shows_both_places_also_across_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    };
    write("switchboard.toml", "[[listen]]\npath = \"/run/a\"\n[limits.user.root]\nnames = 1\n");
    write("conf.d/10.toml", "[[listen]]\npath = \"/run/a\"\n[limits.user.0]\nnames = 2\n");
    let location = Location::directories(Instance::User, vec![folder.path().to_owned()]);
    let text = load(&location).expect_err("two clashes").to_string();
    for expected in [
        "conf.d/10.toml:2:8: error: `/run/a` is listened on twice",
        "conf.d/10.toml:3:14: error: user 0 is limited twice: as `root` and as `0`",
        "note: listened on here first",
        "switchboard.toml:2:8",
        "note: limited here first",
        "switchboard.toml:3:14",
    ] {
        assert!(text.contains(expected), "`{expected}` is not in:\n{text}");
    }
}

#[test]
fn files_that_cannot_be_read_are_mistakes_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.toml");
    let text = load(&Location::file(Instance::User, &missing)).expect_err("missing").to_string();
    assert_eq!(
        text,
        format!(
            "{}:1:1: error: cannot read this: No such file or directory (os error 2)\n",
            missing.display()
        )
    );
    let text = load(&Location::file(Instance::User, folder.path())).expect_err("a folder").to_string();
    assert!(text.contains(":1:1: error: cannot read this: Is a directory"), "{text}");
    let latin = folder.path().join("latin.toml");
    fs::write(&latin, b"log = \"info\"\n# caf\xe9\n").expect("written");
    let text = load(&Location::file(Instance::User, &latin)).expect_err("not UTF-8").to_string();
    assert!(text.contains("latin.toml:2:6: error: this is not UTF-8"), "{text}");
    let endless = load(&Location::file(Instance::User, "/dev/zero")).expect_err("endless").to_string();
    assert!(endless.contains("longer than 16 MiB"), "{endless}");
}

#[test]
fn hostile_text_is_answered_and_not_believed() {
    let deep = format!("a = {}", "[".repeat(100_000));
    let dotted = format!("{} = 1", vec!["a"; 50_000].join("."));
    for text in [
        "\0",
        "=",
        "[",
        "[[",
        "[[allow",
        "a",
        "a =",
        "a = \"",
        "\u{feff}zz = 1",
        "[limits]\n[limits]",
        &deep,
        &dotted,
        &"[[allow]]\n".repeat(1000),
    ] {
        assert!(!mistakes(text).is_empty(), "{}", text.chars().take(20).collect::<String>());
    }
}

#[test]
fn a_line_that_is_not_toml_hides_no_other_mistake() {
    let found = mistakes("a b = 1\n[limits]\nc = \"x\nnames_max = 0\n[[allow\nuser = 0\nspin = 1\n[zebra]\n");
    let places: Vec<_> = found.iter().map(|line| line.split(" error").next().expect("a place")).collect();
    assert_eq!(
        places,
        [
            "switchboard.toml:1:3:",
            "switchboard.toml:3:7:",
            "switchboard.toml:4:13:",
            "switchboard.toml:5:8:",
            "switchboard.toml:8:2:"
        ],
        "{found:#?}"
    );
    assert_eq!(mistakes("a = \"\"\"\nb = 1\n\n\n").len(), 1);
}
