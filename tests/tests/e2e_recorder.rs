//! The flight recorder of the real daemon: what it leaves when the daemon is killed under load, and what a
//! replay of that says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use switchboard::{Board, Level, Reconnect};
use switchboard_broker::replay::{Finding, replay};
use switchboard_tests::rig::{Client, Daemon, Folder, has_root, until};
use switchboard_transport::random_seed;

const SECRET: &[u8] = b"nobody's affair, and so not on any disk";

fn recordings(folder: &Folder) -> PathBuf {
    folder.path("state/recorder")
}

fn files(folder: &Folder) -> Vec<PathBuf> {
    let entries = fs::read_dir(recordings(folder)).expect("the recorder's folder");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn board(folder: &Folder) -> Board {
    Board::builder().socket(folder.socket()).reconnect(Reconnect::never()).connect().expect("a broker")
}

fn replayed(folder: &Folder) -> Output {
    folder.switchboard(&["replay", recordings(folder).to_str().expect("text")])
}

fn exit(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    (output.status.code(), text)
}

/// Calls, publications and pushes from several threads until the daemon is gone, which it is as soon as
/// `enough` of them were answered.
fn kill_under_load(folder: &Folder, daemon: Daemon, enough: u64) {
    let done = AtomicU64::new(0);
    let server = board(folder);
    let _server = server.serve("load.echo").start(|request| Ok(request.payload().to_vec())).expect("ours");
    board(folder).create_queue("load.jobs").durability(Level::Disk).create().expect("a queue");
    let subscriber = board(folder);
    let _subscription = subscriber.topic("load.news").subscribe().start().expect("subscribed");
    let done = &done;
    thread::scope(|scope| {
        // All are connected before there is traffic: a little of it is the daemon's end.
        let boards = [true, false].map(|pops| (pops, board(folder), board(folder)));
        for (pops, caller, worker) in boards {
            scope.spawn(move || {
                let service = caller.service("load.echo");
                while service.call(SECRET).is_ok() {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(move || {
                let (topic, queue) = (worker.topic("load.news"), worker.queue("load.jobs"));
                while topic.publish_confirmed(SECRET).is_ok() && queue.push(SECRET).is_ok() {
                    done.fetch_add(2, Ordering::Relaxed);
                    if pops && queue.pop().is_ok_and(|job| job.ack().is_ok()) {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        until("enough traffic", || enough <= done.load(Ordering::Relaxed));
        daemon.kill();
    });
}

#[test]
fn what_a_killed_daemon_was_told_last_comes_out_the_same() {
    let folder = Folder::with_config("recorder = \"1 MiB\"\n");
    for enough in [50, 400] {
        kill_under_load(&folder, folder.start(), enough);
        let (status, text) = exit(&replayed(&folder));
        assert_eq!(status, Some(0), "{text}");
        assert!(text.contains("every effect came out"), "{text}");
    }
    for file in files(&folder) {
        let bytes = fs::read(&file).expect("a file");
        assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET), "{} has payloads", file.display());
        assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn files_go_round_under_load_and_payloads_are_kept_if_wanted() {
    let folder = Folder::with_config("recorder = \"1 MiB\"\nrecorder_payloads = true\n");
    let daemon = folder.start();
    daemon.logged("records headers and payloads");
    kill_under_load(&folder, daemon, 6000);
    let report = replay(&recordings(&folder)).expect("a recording");
    assert_eq!(report.finding, None, "{report:?}");
    assert_eq!((report.files.len(), report.brokers, report.payloads), (4, 1, true));
    assert!(0 < report.first_input && 1000 < report.inputs && 3 < report.peers, "{report:?}");
    let kept = files(&folder).iter().any(|file| {
        let bytes = fs::read(file).expect("a file");
        bytes.windows(SECRET.len()).any(|part| part == SECRET)
    });
    assert!(kept);
    let json = folder.switchboard(&["--json", "replay", folder.path("state").to_str().expect("text")]);
    assert!(String::from_utf8_lossy(&json.stdout).starts_with("{\"same\":true,"), "{json:?}");
}

#[test]
fn one_flipped_byte_is_one_too_many() {
    let folder = Folder::with_config("recorder = \"4 MiB\"\n");
    kill_under_load(&folder, folder.start(), 300);
    let file = recordings(&folder).join("1.rec");
    let whole = fs::read(&file).expect("a file");
    // Behind the last record there are only zeros, which nobody looks at, and perhaps a last input.
    let used = whole.iter().rposition(|&byte| byte != 0).expect("something") - 4096;
    let mut dice = random_seed().expect("random bits")[0] | 1;
    println!("seed {dice}, {used} bytes, {} inputs", replay(&file).expect("a recording").inputs);
    let mut roll = move || {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice as usize
    };
    for round in 0..500 {
        let (at, flip) = (roll() % used, 1 + (roll() % 255) as u8);
        let mut bytes = whole.clone();
        bytes[at] ^= flip;
        fs::write(&file, &bytes).expect("written");
        // The command for some; for most what the command calls.
        if round % 50 == 0 {
            let (status, text) = exit(&replayed(&folder));
            assert_eq!(status, Some(1), "byte {at} ^ {flip:#x}: {text}");
            assert!(text.contains("1.rec"), "{text}");
        } else {
            let report = replay(&file).expect("still a recording");
            assert!(report.finding.is_some(), "byte {at} ^ {flip:#x}");
        }
    }
    fs::write(&file, &whole[..used / 2]).expect("written");
    let report = replay(&file).expect("still a recording");
    assert!(matches!(report.finding, Some(Finding::Damaged { .. })), "{report:?}");
    fs::write(&file, &whole).expect("written");
    assert_eq!(exit(&replayed(&folder)).0, Some(0));
}

#[test]
fn what_is_no_recording_is_wrong_usage() {
    let folder = Folder::new();
    for (path, text) in [("switchboard.toml", "no recording"), ("nothing", "cannot read")] {
        let output = folder.switchboard(&["replay", folder.path(path).to_str().expect("text")]);
        let (status, said) = exit(&output);
        assert!(status == Some(2) && said.contains(text), "{said}");
    }
}

/// The broker answers, and says why it does not record.
fn serves_without_recording(folder: &Folder, daemon: &Daemon, why: &str) {
    let line = daemon.logged("the flight recorder has stopped");
    assert!(line.contains(why), "{line}");
    let mut client = Client::new(&folder.socket());
    client.serve("acme.still").expect("ours to serve");
    let recorder = client.status().recorder;
    assert!(recorder.bytes == 0 && recorder.failure.contains(why), "{recorder:?}");
    let (status, said) = exit(&folder.switchboard(&["status"]));
    assert!(status == Some(0) && said.contains("recorder     stopped: "), "{said}");
}

#[test]
fn a_recorder_that_cannot_begin_is_told_and_the_broker_serves() {
    let folder = Folder::with_config("recorder = \"1 MiB\"\n");
    fs::create_dir(folder.path("state")).expect("made");
    fs::write(folder.path("state/recorder"), "in the way").expect("written");
    let daemon = folder.start();
    serves_without_recording(&folder, &daemon, "is not a directory");
}

#[test]
fn a_full_disk_at_the_start_is_told_and_the_broker_serves() {
    if !has_root("a_full_disk_at_the_start_is_told_and_the_broker_serves") {
        return;
    }
    let folder = Folder::with_config("recorder = \"8 MiB\"\n");
    fs::create_dir(folder.path("state")).expect("made");
    let state = folder.path("state");
    let Some(_disk) = SmallDisk::mount(&state) else {
        return eprintln!("NOT TESTED: nothing can be mounted here");
    };
    let daemon = folder.start();
    serves_without_recording(&folder, &daemon, "No space left on device");
    assert_eq!(files(&folder), Vec::<PathBuf>::new(), "half a file is of no use");
    daemon.terminate();
}

/// A disk of 1 MiB, as long as this lives.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// `None` where that cannot be, as in some containers.
    fn mount(path: &'a Path) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(path).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(path))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
