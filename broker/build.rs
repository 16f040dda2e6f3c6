//! Names the source that the core is made of: a recording is for the very core that made it.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// What decides how a core acts and how its snapshot is laid out.
const SOURCES: [&str; 2] = ["core/src", "../protocol/src"];

fn main() {
    let mut files = Vec::new();
    for folder in SOURCES {
        println!("cargo::rerun-if-changed={folder}");
        collect(Path::new(folder), &mut files);
    }
    files.sort();
    // FNV-1a; nobody gains by forging it.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for path in files {
        let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for byte in path.to_string_lossy().bytes().chain(text) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    // Counters overflow with a panic in one profile and wrap in another.
    let profile = env::var("PROFILE").unwrap_or_default();
    println!("cargo::rustc-env=SWITCHBOARD_CORE_SOURCE={hash:016x}.{profile}");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
