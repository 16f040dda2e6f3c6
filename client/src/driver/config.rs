//! How a board was asked to behave.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use switchboard_transport::paths::Instance;

use super::notice::Notice;

pub(crate) type NoticeCallback = Arc<dyn Fn(&Notice) + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) instance: Option<Instance>,
    pub(crate) program: String,
    pub(crate) reconnect: Reconnect,
    /// Of calls that name none.
    pub(crate) timeout: Option<Duration>,
    pub(crate) connect_timeout: Duration,
    pub(crate) spin: Duration,
    pub(crate) on_notice: Option<NoticeCallback>,
}

/// Whether and how a lost connection is made anew.
///
/// A new connection restores served names, watches and the handles of named services. Calls that
/// were open when the connection was lost end with `PeerDied`, or are made once more if they are
/// marked idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// Off: a lost connection stays lost.
    pub enabled: bool,
    /// The first pause between attempts; each further one is twice as long. Half of every pause is
    /// random, so that many clients do not come at once.
    pub pause_first: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// How long a call that finds no connection waits for one, within its own deadline, before it
    /// ends with `PeerDied`.
    pub patience: Duration,
}

impl Reconnect {
    /// A lost connection stays lost.
    pub const fn never() -> Self {
        Self { enabled: false, ..Self::always() }
    }

    /// Attempts without end, 20 ms to 2 s apart; calls are patient for 5 s. The default.
    pub const fn always() -> Self {
        Self {
            enabled: true,
            pause_first: Duration::from_millis(20),
            pause_max: Duration::from_secs(2),
            patience: Duration::from_secs(5),
        }
    }

    /// The pause after so many failed attempts; `random` is any number.
    pub(crate) fn pause(&self, attempts: u32, random: u64) -> Duration {
        let whole = self.pause_first.saturating_mul(1 << attempts.min(16)).min(self.pause_max);
        let half = whole / 2;
        half + Duration::from_nanos(random % (half.as_nanos() as u64 + 1))
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self::always()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("socket", &self.socket)
            .field("program", &self.program)
            .field("reconnect", &self.reconnect)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
