//! switchboardd: the Switchboard broker daemon, as a program and as a library.
//!
//! The broker itself is `switchboard-core`, a pure state machine. This crate is the rim around it:
//! it turns bytes into the core's inputs and the core's effects into bytes, and decides nothing.
//!
//! | file | holds |
//! |---|---|
//! | `daemon.rs` | start, loop with host, end |
//! | `reactor.rs`, `receive.rs`, `transmit.rs` | one turn; its reading and its writing half |
//! | `link.rs`, `incoming.rs`, `out_queue.rs` | one connection; what it has received; what waits to be written |
//! | `buffer.rs` | memory that messages pass through |
//! | `journal/` | the durable log of records, on its own thread |
//! | `recorder/`, `replay.rs` | what the core was told, in files; doing it once more |
//! | `door.rs`, `identity.rs` | who comes in |
//! | `host.rs`, `logger.rs`, `incarnation.rs`, `settings.rs` | signals and systemd; log; state; configuration |

mod buffer;
mod daemon;
mod door;
mod embedded;
mod host;
mod identity;
mod incarnation;
mod incoming;
pub mod journal;
mod link;
mod log;
mod logger;
mod options;
mod out_queue;
mod reactor;
mod receive;
mod recorder;
pub mod replay;
mod settings;
mod transmit;

pub use daemon::StartError;
pub use embedded::Embedded;
pub use options::Options;
pub use switchboard_transport::paths::Instance;

use daemon::{Daemon, Hosting};
use switchboard_config::Loaded;
use switchboard_transport::limits;
use switchboard_transport::paths::Environment;

/// Runs a broker in this process until SIGTERM or SIGINT.
pub fn run(options: &Options) -> Result<(), StartError> {
    run_loaded(options, check(options)?)
}

/// [`run`] with a configuration that was read already (and is read again when SIGHUP comes).
pub fn run_loaded(options: &Options, loaded: Loaded) -> Result<(), StartError> {
    Daemon::start(resolve(options), loaded, Hosting::Process)?.run()
}

/// Reads and checks the configuration that [`run`] would use. The error is every diagnostic.
pub fn check(options: &Options) -> Result<Loaded, StartError> {
    settings::load(&resolve(options)).map_err(StartError::Config)
}

fn resolve(options: &Options) -> options::Resolved {
    options.resolve(&Environment::from_process(), limits::cpus())
}
