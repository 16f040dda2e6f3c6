//! Switchboard's configuration files as typed settings, with diagnostics that point at the mistake.
//!
//! [`load`] reads `switchboard.toml`, then `conf.d/*.toml`, then `services.d/*.toml` of a
//! [`Location`]. It gives either everything, checked, or every mistake in every file: a half-valid
//! configuration does not exist. What may stand in a file is written down in one place, `schema`.

#![forbid(unsafe_code)]

mod diagnostic;
mod draft;
mod limits;
mod location;
mod nearest;
mod objects;
mod reader;
mod schema;
mod show;
mod source;
pub mod units;
pub mod users;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use location::Location;
pub use schema::check_log;
pub use show::{Setting, Shown, ShownTable};

use std::path::PathBuf;
use std::time::Duration;
use switchboard_core::Settings;
pub use switchboard_transport::paths::Instance;

/// The commented default file, with every key, its default, unit and meaning.
pub const DEFAULT_FILE: &str = include_str!("../switchboard.toml");

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the broker's core takes: policy, limits, topics and queues, and the files they came from.
    pub settings: Settings,
    /// What the daemon around it takes.
    pub driver: Driver,
    /// Every key with its value and where that was set, for people.
    pub shown: Shown,
}

/// Settings of the daemon that are no business of the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// What to log: `info`, or `warn,switchboard_broker=debug` (levels by target).
    pub log: String,
    /// How long the broker looks for work before it sleeps; `None` lets it decide by the machine.
    pub spin: Option<Duration>,
    /// How many bytes of files the flight recorder has; `None` where it is off.
    pub recorder: Option<u64>,
    /// Whether it records payloads too.
    pub recorder_payloads: bool,
    /// Sockets beside the instance's own.
    pub listens: Vec<Listen>,
}

/// One `[[listen]]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Absolute path of the socket.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Where it stands, `FILE:LINE`.
    pub source: String,
}

/// Reads the configuration of `location`. No file at all is a valid configuration: the defaults.
pub fn load(location: &Location) -> Result<Loaded, Diagnostics> {
    let mut diagnostics = Diagnostics::default();
    let files = location.files(&mut diagnostics);
    let mut draft = draft::Draft::default();
    for path in files {
        if let Some(source) = source::Source::read(&path, &mut diagnostics) {
            schema::read_file(source, &mut draft, &mut diagnostics);
        }
    }
    let loaded = draft.finish(location.instance, &mut diagnostics);
    if diagnostics.is_empty() { Ok(loaded) } else { Err(diagnostics.sorted()) }
}
