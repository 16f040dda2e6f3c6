//! Where a broker's socket, state and configuration are, decided in one place for the daemon, the
//! library and the command line.
//!
//! A pure function of an [`Environment`], so that a table tests it. The two instances are never
//! mixed silently: what was asked for by name wins over the environment, and where the user
//! instance's socket is missing nobody is sent to the system's.

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::directories::{self, DirectoryError};
use crate::process;

/// Which of the two brokers of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instance {
    /// The one of this user.
    #[default]
    User,
    /// The one of the machine.
    System,
}

/// What decides where things are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The user.
    pub uid: u32,
    /// The program has more rights than its caller: the environment is not believed.
    pub privileged: bool,
    /// `/run/user/UID` exists.
    pub has_run_user: bool,
    /// `$SWITCHBOARD_SOCKET`.
    pub socket: Option<OsString>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime: Option<OsString>,
    /// `$XDG_CONFIG_HOME`.
    pub config_home: Option<OsString>,
    /// `$XDG_STATE_HOME`.
    pub state_home: Option<OsString>,
    /// `$HOME`.
    pub home: Option<OsString>,
}

/// Where a socket is, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPath {
    /// The path.
    pub path: PathBuf,
    /// Who said so.
    pub source: SocketSource,
    /// A directory of ours in a place that is open to all; it must be checked before it is trusted.
    private_directory: Option<PathBuf>,
    uid: u32,
}

/// Who decided where the socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketSource {
    /// `--socket`, or a program that names it.
    Explicit,
    /// `$SWITCHBOARD_SOCKET`.
    Environment,
    /// Nobody: the default of that instance.
    Default(Instance),
}

impl Environment {
    /// As this process finds it.
    pub fn from_process() -> Self {
        let uid = process::effective_uid();
        Self {
            uid,
            privileged: process::is_privileged_by_file(),
            has_run_user: run_user(uid).is_dir(),
            socket: env::var_os("SWITCHBOARD_SOCKET"),
            runtime: env::var_os("XDG_RUNTIME_DIR"),
            config_home: env::var_os("XDG_CONFIG_HOME"),
            state_home: env::var_os("XDG_STATE_HOME"),
            home: env::var_os("HOME"),
        }
    }

    /// The socket: `explicit`, else that of the `instance` if one was asked for by name, else
    /// `$SWITCHBOARD_SOCKET`, else the user instance's.
    pub fn socket(&self, explicit: Option<&Path>, instance: Option<Instance>) -> SocketPath {
        let at = |path: PathBuf, source| SocketPath { path, source, private_directory: None, uid: self.uid };
        if let Some(path) = explicit {
            return at(path.to_path_buf(), SocketSource::Explicit);
        }
        match (instance, self.believed(&self.socket)) {
            (None, Some(path)) => at(path, SocketSource::Environment),
            (Some(Instance::System), _) => at(
                PathBuf::from("/run/switchboard/switchboard.sock"),
                SocketSource::Default(Instance::System),
            ),
            (Some(Instance::User) | None, _) => {
                let (directory, is_ours_to_make) = self.runtime_directory();
                SocketPath {
                    path: directory.join("switchboard.sock"),
                    source: SocketSource::Default(Instance::User),
                    private_directory: is_ours_to_make.then_some(directory),
                    uid: self.uid,
                }
            }
        }
    }

    /// Where a broker keeps what outlives it. `None` if nothing says where (no home): then
    /// `--state-dir` has to. A broker on a socket of its own has a state directory of its own, so
    /// that two brokers of one user do not fight over one.
    pub fn state_directory(&self, socket: &SocketPath) -> Option<PathBuf> {
        if socket.source == SocketSource::Default(Instance::System) {
            return Some(PathBuf::from("/var/lib/switchboard"));
        }
        let home = match self.absolute(&self.state_home) {
            Some(state) => state,
            None => self.absolute(&self.home)?.join(".local/state"),
        };
        let ours = home.join("switchboard");
        Some(match socket.source {
            SocketSource::Default(_) => ours.join("user"),
            SocketSource::Explicit | SocketSource::Environment => ours.join(escape(&socket.path)),
        })
    }

    /// Where configuration is looked for, the most specific first.
    pub fn config_directories(&self, instance: Instance) -> Vec<PathBuf> {
        match instance {
            Instance::System => {
                vec![PathBuf::from("/etc/switchboard"), PathBuf::from("/usr/lib/switchboard")]
            }
            Instance::User => self
                .absolute(&self.config_home)
                .or_else(|| Some(self.absolute(&self.home)?.join(".config")))
                .map(|config| config.join("switchboard"))
                .into_iter()
                .collect(),
        }
    }

    /// The user's runtime directory, and whether it is one that we make.
    fn runtime_directory(&self) -> (PathBuf, bool) {
        if let Some(runtime) = self.absolute(&self.runtime) {
            return (runtime, false);
        }
        if self.has_run_user {
            return (run_user(self.uid), false);
        }
        (PathBuf::from(format!("/tmp/switchboard-{}", self.uid)), true)
    }

    /// A variable, unless the environment is not to be believed or the variable is empty.
    fn believed(&self, variable: &Option<OsString>) -> Option<PathBuf> {
        variable.as_ref().filter(|value| !self.privileged && !value.is_empty()).map(PathBuf::from)
    }

    /// The XDG specification has relative paths ignored.
    fn absolute(&self, variable: &Option<OsString>) -> Option<PathBuf> {
        self.believed(variable).filter(|path| path.is_absolute())
    }
}

impl SocketPath {
    /// Before listening: makes and checks the directory if it is one that we make.
    pub fn prepare_to_listen(&self) -> Result<(), DirectoryError> {
        self.private_directory.as_deref().map_or(Ok(()), directories::ensure_private)
    }

    /// Before connecting: a directory in /tmp that is not ours may hold somebody else's broker. One
    /// that is not there holds none, which connecting will say.
    pub fn check_to_connect(&self) -> Result<(), DirectoryError> {
        match &self.private_directory {
            Some(directory) if directory.symlink_metadata().is_ok() => {
                directories::check_private(directory, self.uid)
            }
            _ => Ok(()),
        }
    }

    /// The instance it stands for: a socket that was named stands for the user's.
    pub fn instance(&self) -> Instance {
        match self.source {
            SocketSource::Default(instance) => instance,
            SocketSource::Explicit | SocketSource::Environment => Instance::User,
        }
    }
}

fn run_user(uid: u32) -> PathBuf {
    PathBuf::from(format!("/run/user/{uid}"))
}

/// A path as one file name: letters, digits, `.` and `_` as they are, `/` as `-`, others as `%XX`.
fn escape(path: &Path) -> String {
    let mut name = String::from("socket");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' => name.push('-'),
            b'.' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment { uid: 7, home: Some("/home/u".into()), ..Environment::default() }
    }

    #[test]
    fn the_socket_is_found_as_the_manual_says() {
        let xdg = Environment { runtime: Some("/run/user/7".into()), ..environment() };
        let variable = Environment { socket: Some("/x/env.sock".into()), ..xdg.clone() };
        let set_uid = Environment { privileged: true, ..variable.clone() };
        let empty = Environment { socket: Some("".into()), ..xdg.clone() };
        let relative = Environment { runtime: Some("run".into()), has_run_user: true, ..environment() };
        let run_user = Environment { has_run_user: true, ..environment() };
        let (user, system) = (Some(Instance::User), Some(Instance::System));
        let table: &[(&Environment, Option<&str>, Option<Instance>, &str)] = &[
            (&variable, Some("/x/given.sock"), system, "/x/given.sock"),
            (&variable, None, None, "/x/env.sock"),
            (&variable, None, system, "/run/switchboard/switchboard.sock"),
            (&variable, None, user, "/run/user/7/switchboard.sock"),
            (&set_uid, None, None, "/tmp/switchboard-7/switchboard.sock"),
            (&set_uid, Some("/x/given.sock"), None, "/x/given.sock"),
            (&empty, None, None, "/run/user/7/switchboard.sock"),
            (&xdg, None, None, "/run/user/7/switchboard.sock"),
            (&relative, None, None, "/run/user/7/switchboard.sock"),
            (&run_user, None, None, "/run/user/7/switchboard.sock"),
            (&environment(), None, None, "/tmp/switchboard-7/switchboard.sock"),
        ];
        for (environment, explicit, instance, want) in table {
            let found = environment.socket(explicit.map(Path::new), *instance);
            assert_eq!(found.path, Path::new(want), "{environment:?} {explicit:?} {instance:?}");
        }
    }

    #[test]
    fn every_broker_has_a_state_directory_of_its_own() {
        let environment = environment();
        let state = |explicit: Option<&str>, instance| {
            environment
                .state_directory(&environment.socket(explicit.map(Path::new), instance))
                .expect("a home")
        };
        assert_eq!(state(None, None), Path::new("/home/u/.local/state/switchboard/user"));
        assert_eq!(state(None, Some(Instance::System)), Path::new("/var/lib/switchboard"));
        assert_eq!(
            state(Some("/t/a-b.sock"), None),
            Path::new("/home/u/.local/state/switchboard/socket-t-a%2Db.sock")
        );
        let homeless = Environment { home: None, ..environment.clone() };
        assert_eq!(homeless.state_directory(&homeless.socket(None, None)), None);
        let xdg = Environment { state_home: Some("/s".into()), ..homeless };
        assert_eq!(xdg.state_directory(&xdg.socket(None, None)), Some(PathBuf::from("/s/switchboard/user")));
    }

    #[test]
    fn configuration_is_looked_for_in_the_instances_own_directories() {
        let environment = environment();
        assert_eq!(
            environment.config_directories(Instance::User),
            [Path::new("/home/u/.config/switchboard")]
        );
        assert_eq!(
            environment.config_directories(Instance::System),
            [Path::new("/etc/switchboard"), Path::new("/usr/lib/switchboard")]
        );
    }
}
