//! How to run a broker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use switchboard_transport::paths::{Environment, Instance, SocketPath, SocketSource};

/// How to run a broker. [`Options::default`] is the user instance of whoever runs it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The socket; if not given, as `$SWITCHBOARD_SOCKET` or the instance says.
    pub socket: Option<PathBuf>,
    /// Which instance, if asked for by name.
    pub instance: Option<Instance>,
    /// The configuration file; if not given, those of the instance's directories.
    pub config: Option<PathBuf>,
    /// Where to keep what outlives the broker; if not given, the instance's directory.
    pub state_dir: Option<PathBuf>,
    /// How long to look for work before sleeping, after a turn that had some. If not given, as the
    /// configuration says or the number of processors.
    pub spin: Option<Duration>,
}

/// What options come to in an environment.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) socket: SocketPath,
    pub(crate) instance: Instance,
    pub(crate) config: ConfigPlace,
    pub(crate) state_directory: Option<PathBuf>,
    /// If the options say.
    pub(crate) spin: Option<Duration>,
    pub(crate) cpus: usize,
}

/// Where configuration is.
#[derive(Clone, Debug)]
pub(crate) enum ConfigPlace {
    /// Where the instance's always is.
    Standard,
    /// In this file, and the folders beside it.
    File(PathBuf),
    /// Nowhere.
    None,
}

/// Below so many processors a spinning broker takes time from the very peers it waits for.
const SPIN_CPUS_MIN: usize = 4;

/// Twice the wake-up of an idle core on a virtual machine.
const SPIN: Duration = Duration::from_micros(50);

impl Options {
    pub(crate) fn resolve(&self, environment: &Environment, cpus: usize) -> Resolved {
        let socket = environment.socket(self.socket.as_deref(), self.instance);
        let instance = self.instance.unwrap_or_else(|| socket.instance());
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let state_directory = match &self.state_dir {
            Some(directory) => Some(directory.clone()),
            None => {
                let mut named = socket.clone();
                named.path = absolute(&named.path);
                environment.state_directory(&named)
            }
        };
        let config = self.config.clone().map_or(ConfigPlace::Standard, ConfigPlace::File);
        Resolved { socket, instance, config, state_directory, spin: self.spin, cpus }
    }
}

impl Resolved {
    /// How long to spin: as the options say, else the configuration, else the machine.
    pub(crate) fn spin(&self, configured: Option<Duration>) -> Duration {
        let by_machine = if self.cpus < SPIN_CPUS_MIN { Duration::ZERO } else { SPIN };
        self.spin.or(configured).unwrap_or(by_machine)
    }

    /// Whether a socket of the service manager's may stand in: not where the user named one.
    pub(crate) fn takes_inherited_socket(&self) -> bool {
        self.socket.source != SocketSource::Explicit
    }

    /// Who may connect: on a system instance everybody, and policy says what they may do; on a user
    /// instance that user, unless its directory and rules let others in.
    pub(crate) fn socket_mode(&self) -> u32 {
        match self.instance {
            Instance::System => 0o666,
            Instance::User => 0o600,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_spins_only_where_others_can_run_meanwhile() {
        let environment = Environment { home: Some("/home/u".into()), ..Environment::default() };
        let spin = |options: &Options, cpus, configured| options.resolve(&environment, cpus).spin(configured);
        let (plain, seven) = (Options::default(), Duration::from_micros(7));
        assert_eq!(spin(&plain, 2, None), Duration::ZERO);
        assert_eq!(spin(&plain, 8, None), SPIN);
        assert_eq!(spin(&plain, 8, Some(seven)), seven);
        let asked = Options { spin: Some(Duration::ZERO), ..Options::default() };
        assert_eq!(spin(&asked, 8, Some(seven)), Duration::ZERO);
    }

    #[test]
    fn a_relative_socket_keeps_its_state_by_its_absolute_path() {
        let environment = Environment { home: Some("/home/u".into()), ..Environment::default() };
        let options = Options { socket: Some("s.sock".into()), ..Options::default() };
        let resolved = options.resolve(&environment, 2);
        assert_eq!(resolved.socket.path, Path::new("s.sock"));
        let state = resolved.state_directory.expect("a home").to_string_lossy().into_owned();
        assert!(state.starts_with("/home/u/.local/state/switchboard/socket-") && state.len() > 50, "{state}");
    }
}
