//! Configuration, as the core takes it.

use switchboard_config::{Loaded, Location};
use switchboard_core::Limits;

use crate::options::{ConfigPlace, Resolved};

/// Descriptors that are not connections: spares, signals, the state directory, the log.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Reads the configuration; the error is every diagnostic, ready to be shown.
pub(crate) fn load(options: &Resolved) -> Result<Loaded, String> {
    let location = match &options.config {
        ConfigPlace::Standard => Location::standard(options.instance),
        ConfigPlace::File(path) => Location::file(options.instance, path),
        ConfigPlace::None => Location::directories(options.instance, Vec::new()),
    };
    switchboard_config::load(&location).map_err(|diagnostics| diagnostics.render(false))
}

/// What the system lets us have. Returns the limit of connections that it lowered, if it did.
pub(crate) fn fit(limits: &mut Limits, open_files: u64) -> Option<u32> {
    let most = u32::try_from(open_files.saturating_sub(DESCRIPTORS_RESERVED).max(1)).unwrap_or(u32::MAX);
    (most < limits.connections_max).then(|| std::mem::replace(&mut limits.connections_max, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_limited_by_open_files() {
        let mut limits = Limits { connections_max: 1000, ..Limits::default() };
        assert_eq!(fit(&mut limits, 1064), None);
        assert_eq!(fit(&mut limits, 1024), Some(1000));
        assert_eq!(limits.connections_max, 960);
    }
}
