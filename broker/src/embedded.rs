//! A broker on a thread of this program, for tests and examples.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};

use switchboard_transport::paths::{Environment, Instance};
use switchboard_transport::{Waker, directories, limits, random_seed};

use crate::daemon::{Daemon, Hosting, StartError};
use crate::options::{ConfigPlace, Options};
use crate::settings;

/// A broker on a thread of this program. It stops, telling everybody, when this is dropped.
///
/// Unless options say otherwise it has a socket and a state directory of its own in a temporary
/// directory, which is removed at the end. It reads no configuration but the file it is told.
///
/// ```
/// let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// assert!(broker.socket().exists());
/// # Ok::<(), switchboard_broker::StartError>(())
/// ```
#[derive(Debug)]
pub struct Embedded {
    socket: PathBuf,
    stop: Arc<Waker>,
    thread: Option<JoinHandle<Result<(), StartError>>>,
    temporary: Option<PathBuf>,
}

impl Embedded {
    /// Starts a broker. When this returns, its socket accepts.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let mut options = options.clone();
        let temporary = match (&options.socket, &options.state_dir) {
            (Some(_), Some(_)) => None,
            (Some(_), None) | (None, _) => Some(temporary_directory()?),
        };
        if let Some(directory) = &temporary {
            options.socket.get_or_insert_with(|| directory.join("switchboard.sock"));
            options.state_dir.get_or_insert_with(|| directory.join("state"));
        }
        options.instance.get_or_insert(Instance::User);
        let mut resolved = options.resolve(&Environment::from_process(), limits::cpus());
        if options.config.is_none() {
            resolved.config = ConfigPlace::None;
        }

        let stop = Arc::new(Waker::new().map_err(failed)?);
        let (sender, started) = sync_channel(1);
        let hosting = Hosting::Thread(Arc::clone(&stop));
        let loaded = settings::load(&resolved).map_err(StartError::Config)?;
        let run = move || match Daemon::start(resolved, loaded, hosting) {
            Ok(daemon) => {
                // Whoever started us waits for this.
                let _ = sender.send(Ok(daemon.socket()));
                daemon.run()
            }
            Err(error) => {
                let _ = sender.send(Err(error));
                Ok(())
            }
        };
        let thread = thread::Builder::new().name("switchboard".into()).spawn(run).map_err(failed)?;
        let mut embedded = Self { socket: PathBuf::new(), stop, thread: Some(thread), temporary };
        embedded.socket =
            started.recv().unwrap_or_else(|_| Err(StartError::State("the broker's thread died".into())))?;
        Ok(embedded)
    }

    /// Where to connect.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.wake();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !thread::panicking()
                && let Err(panic) = ended
            {
                std::panic::resume_unwind(panic);
            }
        }
        if let Some(directory) = &self.temporary {
            // Left over files in a temporary directory hurt nobody.
            let _ = fs::remove_dir_all(directory);
        }
    }
}

fn temporary_directory() -> Result<PathBuf, StartError> {
    let [seed, _] = random_seed().map_err(failed)?;
    let directory = std::env::temp_dir().join(format!("switchboard-{seed:016x}"));
    directories::ensure_private(&directory)?;
    Ok(directory)
}

fn failed(source: std::io::Error) -> StartError {
    StartError::System { what: "cannot start a broker on a thread", source }
}
