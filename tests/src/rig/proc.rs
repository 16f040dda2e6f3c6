//! What the system says of another process.

use std::fs;

/// Bytes of memory of its own that a process has touched: what it costs, without the files it maps.
pub fn anonymous_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line RssAnon");
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB");
    kib * 1024
}

/// How many file descriptors a process holds.
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("a running process of ours").count()
}
