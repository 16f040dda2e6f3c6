//! Where the programs are. They belong to other packages of the workspace, so cargo does not promise
//! a test that they are built: what is missing or older than its sources is built here, once.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The daemon.
pub fn switchboardd() -> PathBuf {
    built().join("switchboardd")
}

/// The command line.
pub fn switchboard() -> PathBuf {
    built().join("switchboard")
}

/// The helper `rig-peer`, which cargo builds before the tests of this package.
pub fn peer_program() -> PathBuf {
    folder().join("rig-peer")
}

/// The helper `rig-middle`, as [`peer_program`].
pub fn middle_program() -> PathBuf {
    folder().join("rig-middle")
}

/// The helper `rig-worker`, as [`peer_program`].
pub fn worker_program() -> PathBuf {
    folder().join("rig-worker")
}

/// `target/PROFILE`: two folders above a test program, which lies in `deps`.
fn folder() -> PathBuf {
    let program = env::current_exe().expect("our own path");
    let mut folder = program.parent().expect("a program lies in a folder");
    if folder.ends_with("deps") {
        folder = folder.parent().expect("deps lies in a folder");
    }
    folder.to_path_buf()
}

fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = folder();
        let programs = ["switchboardd", "switchboard"].map(|program| folder.join(program));
        let newest = newest_source();
        let is_fresh = |program: &PathBuf| {
            modified(program).is_some_and(|built| newest.is_none_or(|source| source <= built))
        };
        if !programs.iter().all(is_fresh) {
            build(&folder);
        }
        for program in &programs {
            assert!(program.exists(), "{} is missing, and cargo did not build it", program.display());
        }
        folder
    })
}

fn build(folder: &Path) {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--profile", profile])
        .args(["-p", "switchboard-broker", "-p", "switchboard-cli", "--bins"])
        .arg("--target-dir")
        .arg(folder.parent().expect("target/PROFILE"))
        .current_dir(root())
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the programs under test do not build");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// When the last change was made to what the programs are built from. `None` where the sources are
/// not here any more.
fn newest_source() -> Option<SystemTime> {
    fn walk(folder: &Path, newest: &mut Option<SystemTime>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, newest);
            } else {
                *newest = (*newest).max(modified(&path));
            }
        }
    }
    let mut newest = None;
    for part in ["protocol", "protocol/transport", "broker", "broker/core", "config", "client", "client/cli"]
    {
        walk(&root().join(part).join("src"), &mut newest);
    }
    newest
}
