//! A configuration while its files are being read: what was set, and where. Later files override.

use crate::limits::{LIMITS, LimitKey, USER_LIMITS};
use crate::show::Shown;
use crate::source::{At, Place};
use crate::{Diagnostics, Driver, Instance, Listen, Loaded};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use switchboard_core::{Limits, Policy, Rule, Settings, UserLimits};

/// Numbers that were set, by key.
pub(crate) type Values = BTreeMap<&'static str, At<u64>>;

#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) files: Vec<String>,
    pub(crate) log: Option<At<String>>,
    pub(crate) spin: Option<At<Option<Duration>>>,
    pub(crate) priority: Option<At<u8>>,
    pub(crate) limits: Values,
    pub(crate) user_default: Values,
    pub(crate) users: Vec<UserDraft>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) listens: Vec<At<ListenDraft>>,
}

/// One `[limits.user.NAME]`.
pub(crate) struct UserDraft {
    pub(crate) uid: u32,
    /// As written.
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) values: Values,
}

/// One `[[listen]]`.
pub(crate) struct ListenDraft {
    pub(crate) path: PathBuf,
    pub(crate) mode: Option<u32>,
    /// `FILE:LINE` of the table.
    pub(crate) source: String,
}

impl Draft {
    /// Fills in the defaults, and checks what only shows when everything is known.
    pub(crate) fn finish(self, instance: Instance, diagnostics: &mut Diagnostics) -> Loaded {
        let mut limits = Limits::default();
        apply(&mut limits, LIMITS, &self.limits);
        apply(&mut limits.user_default, USER_LIMITS, &self.user_default);
        // A user's table amends the default user's, which amends the built-in one.
        limits.users = self.users.iter().map(|user| (user.uid, user.limits(&limits.user_default))).collect();
        self.check_limits(&limits, diagnostics);
        let own_user = match instance {
            Instance::User => Some(switchboard_transport::process::effective_uid()),
            Instance::System => None,
        };
        let defaults = Defaults::of(instance);
        let policy = Policy {
            own_user,
            rules: self.rules.clone(),
            priority_max: self.priority.as_ref().map_or(defaults.priority, |at| at.value),
        };
        let listens = self.listens.iter().map(|listen| Listen {
            path: listen.value.path.clone(),
            mode: listen.value.mode.unwrap_or(defaults.listen_mode),
            source: listen.value.source.clone(),
        });
        let driver = Driver {
            log: self.log.as_ref().map_or_else(|| defaults.log.to_owned(), |at| at.value.clone()),
            spin: self.spin.as_ref().and_then(|at| at.value),
            listens: listens.collect(),
        };
        let shown = Shown::of(&self, &limits, &policy, &driver);
        let settings = Settings { policy, limits, topics: Vec::new(), queues: Vec::new(), files: self.files };
        Loaded { settings, driver, shown }
    }

    /// Limits that would contradict each other.
    fn check_limits(&self, limits: &Limits, diagnostics: &mut Diagnostics) {
        let mut require = |least: &str, most: &str, why: &str| {
            let number = |name| LIMITS.iter().find(|key| key.name == name).map(|key| (key.read)(limits));
            if number(least) <= number(most) {
                return;
            }
            if let Some(at) = self.limits.get(most).or_else(|| self.limits.get(least)) {
                let message = format!("`{most}` is less than `{least}`: {why}");
                diagnostics.add(&at.place, message);
            }
        };
        require(
            "payload_bytes_max",
            "link_bytes_max",
            "a reply of the largest size could never be delivered",
        );
        require("link_bytes_high", "link_bytes_max", "reading must stop before the link is full");
        require("payload_bytes_max", "buffered_bytes_max", "a call of the largest size could never wait");
    }
}

impl UserDraft {
    /// This user's quotas.
    pub(crate) fn limits(&self, default: &UserLimits) -> UserLimits {
        let mut limits = default.clone();
        apply(&mut limits, USER_LIMITS, &self.values);
        limits
    }
}

/// What holds where no file says otherwise; the limits have theirs in the core.
struct Defaults {
    log: &'static str,
    priority: u8,
    listen_mode: u32,
}

impl Defaults {
    fn of(instance: Instance) -> Self {
        // On the system instance policy decides by who connects, so the file mode need not.
        let listen_mode = match instance {
            Instance::User => 0o600,
            Instance::System => 0o666,
        };
        Self { log: "info", priority: 4, listen_mode }
    }
}

fn apply<T>(limits: &mut T, keys: &[LimitKey<T>], values: &Values) {
    for key in keys {
        if let Some(at) = values.get(key.name) {
            (key.write)(limits, at.value);
        }
    }
}
