//! A folder for one broker: its socket, its configuration, its state. Outlives the daemons in it, so
//! that a test can restart them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use switchboard_transport::spawn::Spawn;
use tempfile::TempDir;

use super::cli::Cli;
use super::daemon::{Daemon, Launch};
use super::programs::switchboard;
use super::watchdog::Watchdog;

/// A private folder, removed at the end. Every user may look into it, as into /run/switchboard.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    /// A folder with an empty configuration.
    pub fn new() -> Self {
        Self::with_config("")
    }

    /// A folder with this `switchboard.toml`.
    pub fn with_config(text: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("switchboard-test-").tempdir().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("our own folder");
        let folder = Self { folder };
        folder.write_config(text);
        folder
    }

    /// Replaces the configuration.
    pub fn write_config(&self, text: &str) {
        fs::write(self.config(), text).expect("a writable folder");
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.path("switchboard.sock")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("switchboard.toml")
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A daemon about to be started here.
    pub fn launch(&self) -> Launch<'_> {
        Launch::new(self)
    }

    /// Runs the command line with these arguments against the broker here.
    pub fn switchboard(&self, arguments: &[&str]) -> Output {
        let mut spawn = Spawn::new(switchboard());
        let command = spawn.command();
        command.env_clear().env("HOME", self.root()).current_dir(self.root()).stdin(Stdio::null());
        command.arg("--socket").arg(self.socket()).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = spawn.spawn().expect("switchboard starts");
        let _watchdog = Watchdog::new(format!("switchboard {}", arguments.join(" ")));
        child.wait_with_output().expect("our child")
    }

    /// Starts the command line with these arguments against the broker here.
    pub fn begin_switchboard(&self, arguments: &[&str]) -> Cli {
        Cli::start(self, arguments)
    }

    /// Runs the command line with these arguments, which must end well; what it printed.
    #[track_caller]
    pub fn must(&self, arguments: &[&str]) -> String {
        let output = self.switchboard(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs the command line with these arguments, which must end otherwise; what it said, which
    /// begins with `outcome`.
    #[track_caller]
    pub fn must_not(&self, arguments: &[&str], outcome: &str) -> String {
        let output = self.switchboard(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        assert!(said.starts_with(&format!("{outcome}: ")), "{arguments:?}: {said}");
        said
    }

    /// A daemon that serves here.
    pub fn start(&self) -> Daemon {
        self.launch().start()
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}
