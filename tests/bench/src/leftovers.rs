//! The private folder of a run, and what a run that was killed has left: its folder and iceoryx2's
//! files in /dev/shm. Processes never outlive the bench, files can; the next start removes them.

use anyhow::{Context, Result};
use rustix::process::{Pid, test_kill_process};
use std::path::{Path, PathBuf};

/// Short, because Unix sockets lie in it, whose paths are limited to 107 bytes.
const FOLDER: &str = "swbench-";
const SHARED_MEMORY: &str = "swbench_";

/// The folder of this run, removed with all it holds when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the folder of this process, mode 0700.
    pub fn create() -> Result<Folder> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("{FOLDER}{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("making {} (TMPDIR names another place)", path.display()))?;
        Ok(Folder(path))
    }

    /// Makes a folder in it.
    pub fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        let _ = std::fs::remove_dir_all(&self.0);
        remove_shared_memory(std::process::id());
    }
}

/// The prefix of everything that iceoryx2 makes in /dev/shm for the bench with this process id.
pub fn shared_memory_prefix(bench: u32) -> String {
    format!("{SHARED_MEMORY}{bench}_")
}

/// Removes what iceoryx2 left in /dev/shm for the bench with this process id.
pub fn remove_shared_memory(bench: u32) {
    let prefix = shared_memory_prefix(bench);
    for file in entries(Path::new("/dev/shm")).filter(|(_, name)| name.starts_with(&prefix)) {
        let _gone_or_not_ours = std::fs::remove_file(file.0);
    }
}

/// Removes what runs that were killed have left.
pub fn remove_stale() {
    for (path, name) in entries(&std::env::temp_dir()) {
        if owner(&name, FOLDER).is_some_and(is_dead) {
            let _gone_or_not_ours = std::fs::remove_dir_all(path);
        }
    }
    for (path, name) in entries(Path::new("/dev/shm")) {
        if owner(&name, SHARED_MEMORY).is_some_and(is_dead) {
            let _gone_or_not_ours = std::fs::remove_file(path);
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()))
}

/// The process id behind `prefix` in a file's name.
fn owner(name: &str, prefix: &str) -> Option<i32> {
    name.strip_prefix(prefix)?.split('_').next()?.parse().ok()
}

fn is_dead(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}
