//! What files mean, and which of them count.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use switchboard_config::{DEFAULT_FILE, Instance, Listen, Loaded, Location, load};
use switchboard_core::{Identity, Limits, QueueSettings, Settings, TopicSettings, UserLimits};
use switchboard_protocol::queue::{Level, Overflow};
use switchboard_protocol::{Name, Verb};
use tempfile::TempDir;

/// A folder of files, each (name, text).
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    folder
}

fn load_text(text: &str) -> Loaded {
    let folder = folder(&[("switchboard.toml", text)]);
    let path = folder.path().join("switchboard.toml");
    load(&Location::file(Instance::User, path)).unwrap_or_else(|found| panic!("{found}"))
}

fn loaded(instance: Instance, directories: &[&Path]) -> Loaded {
    let directories = directories.iter().map(PathBuf::from).collect();
    load(&Location::directories(instance, directories)).unwrap_or_else(|found| panic!("{found}"))
}

#[test]
fn no_file_at_all_gives_the_defaults_of_the_instance() {
    let nowhere = Path::new("/nonexistent/switchboard");
    let user = loaded(Instance::User, &[nowhere]);
    assert_eq!(user.settings.limits, Limits::default());
    assert_eq!(user.settings.policy.own_user, Some(nix::unistd::Uid::effective().as_raw()));
    assert_eq!(user.settings.policy.priority_max, 4);
    assert!(user.settings.files.is_empty() && user.driver.listens.is_empty());
    assert_eq!((user.driver.log.as_str(), user.driver.spin), ("info", None));
    let system = loaded(Instance::System, &[nowhere]);
    assert_eq!(system.settings.policy.own_user, None);
}

/// The settings of the default file, without their `#`.
fn default_settings() -> String {
    let is_setting = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = DEFAULT_FILE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if is_setting(rest) => rest,
        _ => "",
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_default_file_says_what_is_built_in() {
    let nowhere = loaded(Instance::User, &[Path::new("/nonexistent/switchboard")]);
    let as_shipped = load_text(DEFAULT_FILE);
    let mut uncommented = load_text(&default_settings());
    assert_eq!(as_shipped.settings.limits, nowhere.settings.limits);
    assert_eq!(uncommented.settings.limits, nowhere.settings.limits);
    assert_eq!(uncommented.settings.policy, nowhere.settings.policy);
    assert_eq!(uncommented.driver, nowhere.driver);
    // Key by key: each is there, in the order of `config show`, and was read from the file.
    for table in &mut uncommented.shown.tables {
        for setting in &mut table.settings {
            assert!(setting.source.take().is_some(), "`{}` is not in the default file", setting.key);
        }
    }
    assert_eq!(uncommented.shown.tables, nowhere.shown.tables);
}

#[test]
fn the_examples_of_the_default_file_are_valid() {
    let example = |line: &str| line.strip_prefix("#     ").unwrap_or("").to_owned();
    let text = DEFAULT_FILE.lines().map(example).collect::<Vec<_>>().join("\n");
    let loaded = load_text(&text);
    assert_eq!(loaded.settings.policy.rules.len(), 2);
    assert_eq!(loaded.driver.listens.len(), 1);
    let Settings { topics, queues, .. } = loaded.settings;
    let (name, dead_letters) = (name("plant.temperature"), name("jobs.failed"));
    let topic =
        TopicSettings { retain: true, history: 100, durability: Level::Disk, ..TopicSettings::of(name) };
    assert_eq!(topics, [topic]);
    // What is said there to be a default is one.
    let queue = QueueSettings::of(Name::new("jobs.thumbnails").expect("a name"));
    assert_eq!(
        queues,
        [QueueSettings { durability: Level::Disk, dead_letters: Some(dead_letters), ..queue }]
    );
}

/// The lines of an example in the default file are all the keys that there are.
#[test]
fn the_default_file_has_every_key_of_topics_and_queues() {
    for (table, shown) in [("topic", 5), ("queue", 7)] {
        let begin = DEFAULT_FILE.find(&format!("#     [{table}.")).expect("an example");
        let example = DEFAULT_FILE[begin..].split("\n\n").next().expect("to the next blank line");
        let lines: Vec<&str> = example.lines().filter_map(|line| line.strip_prefix("#     ")).collect();
        let keys: Vec<&str> =
            lines.iter().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).collect();
        let folder = folder(&[("switchboard.toml", &format!("[{table}.\"a\"]\nzebra = 1\n"))]);
        let location = Location::file(Instance::User, folder.path().join("switchboard.toml"));
        let error = load(&location).expect_err("an unknown key").to_string();
        assert!(error.contains(&format!("known here: {}", keys.join(", "))), "{error}\n{keys:?}");
        let loaded = load_text(&lines.join("\n"));
        let table = loaded.shown.tables.last().expect("the example");
        assert_eq!(table.settings.len(), shown, "{table:#?}");
        assert!(table.settings.iter().all(|setting| setting.source.is_some()), "{table:#?}");
    }
}

#[test]
fn topics_and_queues_are_amended_key_by_key() {
    let folder = folder(&[
        (
            "switchboard.toml",
            "[queue.b]\nmax_messages = 5\nmax_bytes = \"1 MiB\"\noverflow = \"block\"\n[topic.\"t.x\"]\nhistory = 3\n",
        ),
        (
            "conf.d/10.toml",
            "[queue.b]\nmax_messages = 6\ndurability = \"os\"\n[queue.a]\n[topic.\"t.x\"]\nretain = true\nblock = true\n",
        ),
    ]);
    let Settings { topics, queues, .. } = loaded(Instance::User, &[folder.path()]).settings;
    let b = QueueSettings {
        messages_max: 6,
        bytes_max: 1 << 20,
        overflow: Overflow::Block,
        durability: Level::Os,
        ..QueueSettings::of(name("b"))
    };
    assert_eq!(queues, [QueueSettings::of(name("a")), b]);
    assert_eq!(
        topics,
        [TopicSettings { history: 3, retain: true, block: true, ..TopicSettings::of(name("t.x")) }]
    );
}

#[test]
fn the_recorder_is_off_unless_it_has_a_size() {
    let recorder = |text: &str| load_text(text).driver.recorder;
    assert_eq!(recorder(""), None);
    assert_eq!(recorder("recorder = \"off\""), None);
    assert_eq!(recorder("recorder = \"64 MiB\""), Some(64 << 20));
    assert_eq!(recorder("recorder = 1048576"), Some(1 << 20));
    assert!(!load_text("recorder = \"64 MiB\"").driver.recorder_payloads);
    assert!(load_text("recorder_payloads = true").driver.recorder_payloads);
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

#[test]
fn what_is_shown_reads_back_as_the_same_configuration() {
    let text = "
        log = \"warn\"
        spin = \"20us\"
        priority = 5
        recorder = \"8 MiB\"
        recorder_payloads = true
        limits.names_max = 7
        limits.hello_timeout = \"1.5s\"
        limits.user.default.names = 100
        limits.user.0.handles = 9
        [[allow]]
        user = [0, \"root\"]
        group = \"root\"
        label = \"a \\\"label\\\"\"
        call = [\"a.*\", \"b.**\"]
        priority = 7
        [topic.\"a.b\"]
        history = 7
        history_bytes = 1000
        [topic.c]
        retain = true
        durability = \"os\"
        block = true
        [queue.\"a.q\"]
        durability = \"disk\"
        max_messages = 1
        max_bytes = \"1 KiB\"
        overflow = \"drop_oldest\"
        lossy = true
        max_deliveries = 1
        dead_letters = \"a.d\"
        [queue.\"a.d\"]
        [[listen]]
        path = \"/run/x\"
        mode = 0o640
    ";
    let first = load_text(text);
    let second = load_text(&first.shown.to_string());
    assert_eq!(first.settings.limits, second.settings.limits);
    assert_eq!(first.settings.topics, second.settings.topics);
    assert_eq!(first.settings.queues, second.settings.queues);
    assert_eq!((first.settings.topics.len(), first.settings.queues.len()), (2, 2));
    assert_eq!((first.driver.recorder, second.driver.recorder), (Some(8 << 20), Some(8 << 20)));
    assert!(first.driver.recorder_payloads && second.driver.recorder_payloads);
    assert_eq!(first.driver.listens[0].mode, second.driver.listens[0].mode);
    let (first_rule, second_rule) = (&first.settings.policy.rules[0], &second.settings.policy.rules[0]);
    assert_eq!(first_rule.subject, second_rule.subject);
    assert_eq!(first_rule.grants, second_rule.grants);
    assert_eq!(first_rule.priority_max, second_rule.priority_max);
}

#[test]
fn sizes_and_durations_are_numbers_or_text() {
    let limits = load_text(
        "[limits]\npayload_bytes_max = \"1.5 MiB\"\nlink_bytes_max = 0x400_0000\nhello_timeout = \"250ms\"\n",
    )
    .settings
    .limits;
    assert_eq!(limits.payload_bytes_max, 3 << 19);
    assert_eq!(limits.link_bytes_max, 64 << 20);
    assert_eq!(limits.hello_timeout, Duration::from_millis(250));
}

#[test]
fn a_user_has_the_default_users_quotas_but_for_what_its_table_says() {
    let limits =
        load_text("[limits.user.default]\nnames = 5\n[limits.user.root]\nhandles = 6\n").settings.limits;
    let default = UserLimits { names: 5, ..UserLimits::default() };
    assert_eq!(limits.user_default, default);
    assert_eq!(*limits.of_user(0), UserLimits { handles: 6, ..default });
}

#[test]
fn drop_ins_override_values_in_the_order_of_their_names_and_add_rules() {
    let folder = folder(&[
        ("switchboard.toml", "log = \"warn\"\n[limits]\nnames_max = 1\n[[allow]]\nuser = 0\ncall = \"a\"\n"),
        (
            "conf.d/20-b.toml",
            "limits.names_max = 3\nlimits.user.root.names = 3\n[[allow]]\nuser = 0\ncall = \"c\"\n",
        ),
        (
            "conf.d/10-a.toml",
            "limits.names_max = 2\nlimits.user.root.names = 2\nlimits.user.root.handles = 2\n",
        ),
        ("services.d/00.toml", "[[allow]]\nanyone = true\nserve = \"d\"\n"),
        ("conf.d/.hidden.toml", "wrong"),
        ("conf.d/30.toml.bak", "wrong"),
        ("conf.d/README", "wrong"),
    ]);
    let loaded = loaded(Instance::User, &[folder.path()]);
    let limits = &loaded.settings.limits;
    assert_eq!(limits.names_max, 3);
    assert_eq!((limits.of_user(0).names, limits.of_user(0).handles), (3, 2));
    assert_eq!(loaded.driver.log, "warn");
    let base = folder.path().display();
    let sources: Vec<_> = loaded.settings.policy.rules.iter().map(|rule| rule.source.clone()).collect();
    assert_eq!(
        sources,
        [
            format!("{base}/switchboard.toml:4"),
            format!("{base}/conf.d/20-b.toml:3"),
            format!("{base}/services.d/00.toml:1")
        ]
    );
    let files = ["switchboard.toml", "conf.d/10-a.toml", "conf.d/20-b.toml", "services.d/00.toml"]
        .map(|f| format!("{base}/{f}"));
    assert_eq!(loaded.settings.files, files);
}

#[test]
fn a_file_of_the_administrator_hides_the_vendors_of_the_same_name() {
    let etc = folder(&[("switchboard.toml", "log = \"warn\""), ("conf.d/10.toml", "spin = \"1us\"")]);
    let usr = folder(&[
        ("switchboard.toml", "log = \"error\"\npriority = 1"),
        ("conf.d/10.toml", "spin = \"2us\"\npriority = 2"),
        ("conf.d/05.toml", "limits.names_max = 5"),
    ]);
    let loaded = loaded(Instance::System, &[etc.path(), usr.path()]);
    assert_eq!(loaded.driver.log, "warn");
    assert_eq!(loaded.driver.spin, Some(Duration::from_micros(1)));
    assert_eq!(loaded.settings.policy.priority_max, 4);
    assert_eq!(loaded.settings.limits.names_max, 5);
}

#[test]
fn a_given_file_brings_the_folders_beside_it_and_nothing_else() {
    let folder = folder(&[
        ("mine.toml", "log = \"warn\""),
        ("switchboard.toml", "log = \"error\""),
        ("conf.d/1.toml", "priority = 1"),
    ]);
    let loaded = load(&Location::file(Instance::User, folder.path().join("mine.toml"))).expect("valid");
    assert_eq!((loaded.driver.log.as_str(), loaded.settings.policy.priority_max), ("warn", 1));
}

#[test]
fn an_allow_table_becomes_a_rule() {
    let loaded = load_text(
        "
        [[allow]]
        group = [\"root\", 4242]
        call = [\"acme.**\"]
        serve = \"acme.one\"
        priority = 6
        ",
    );
    let policy = &loaded.settings.policy;
    let who = |uid, gid| Identity { uid, gid, pid: 1, ..Identity::default() };
    let name = |text| Name::new(text).expect("a name");
    assert!(policy.decide(&who(5000, 4242), Verb::Call, &name("acme.x.y")).allowed());
    assert!(policy.decide(&who(5000, 4242), Verb::Serve, &name("acme.one")).allowed());
    assert!(!policy.decide(&who(5000, 4242), Verb::Serve, &name("acme.two")).allowed());
    assert!(!policy.decide(&who(5000, 4243), Verb::Call, &name("acme.x")).allowed());
    assert_eq!((policy.priority_max(&who(5000, 4242)), policy.priority_max(&who(5000, 4243))), (6, 4));
}

#[test]
fn a_listen_table_has_the_mode_of_its_instance_unless_told() {
    let text = "[[listen]]\npath = \"/run/a\"\n[[listen]]\npath = \"/run/b\"\nmode = \"0660\"\n";
    let folder = folder(&[("switchboard.toml", text)]);
    let path = folder.path().join("switchboard.toml");
    let source = |line| format!("{}:{line}", path.display());
    for (instance, mode) in [(Instance::User, 0o600), (Instance::System, 0o666)] {
        let listens = load(&Location::file(instance, &path)).expect("valid").driver.listens;
        let a = Listen { path: "/run/a".into(), mode, source: source(1) };
        let b = Listen { path: "/run/b".into(), mode: 0o660, source: source(3) };
        assert_eq!(listens, [a, b]);
    }
}
