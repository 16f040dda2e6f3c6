//! A configuration while its files are being read: what was set, and where. Later files override.

use crate::limits::{LIMITS, LimitKey, USER_LIMITS};
use crate::objects::Objects;
use crate::show::Shown;
use crate::source::{At, Place};
use crate::units::format_size;
use crate::{Diagnostics, Driver, Instance, Listen, Loaded};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use switchboard_core::{Limits, Policy, Rule, Settings, UserLimits};
use switchboard_protocol::{EXTENSION_BYTES_MAX, HANDLE_ENTRY_BYTES, HANDLES_MAX, HEADER_BYTES};

/// Numbers that were set, by key.
pub(crate) type Values = BTreeMap<&'static str, At<u64>>;

#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) files: Vec<String>,
    pub(crate) log: Option<At<String>>,
    pub(crate) spin: Option<At<Option<Duration>>>,
    pub(crate) priority: Option<At<u8>>,
    /// Its bytes; `None` for off.
    pub(crate) recorder: Option<At<Option<u64>>>,
    pub(crate) recorder_payloads: Option<At<bool>>,
    pub(crate) limits: Values,
    pub(crate) user_default: Values,
    pub(crate) users: Vec<UserDraft>,
    pub(crate) objects: Objects,
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
        self.objects.check(diagnostics);
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
            recorder: self.recorder.as_ref().and_then(|at| at.value),
            recorder_payloads: self.recorder_payloads.as_ref().is_some_and(|at| at.value),
            listens: listens.collect(),
        };
        let shown = Shown::of(&self, &limits, &policy, &driver);
        let (topics, queues) = (self.objects.topics(), self.objects.queues());
        let settings = Settings { policy, limits, topics, queues, files: self.files };
        Loaded { settings, driver, shown }
    }

    /// Limits that would contradict each other.
    fn check_limits(&self, limits: &Limits, diagnostics: &mut Diagnostics) {
        let number = |name: &str| {
            let key = LIMITS.iter().find(|key| key.name == name).expect("a key of [limits]");
            (key.read)(limits)
        };
        // The place is that of whichever of the two was set, the one that is too small first.
        let mut require = |holds: bool, most: &str, least: &str, message: String| {
            if !holds && let Some(at) = self.limits.get(most).or_else(|| self.limits.get(least)) {
                let is = |name: &str| format!("`{name}` is {}", format_size(number(name)));
                diagnostics.add(&at.place, message).help(format!("{}, {}", is(most), is(least)));
            }
        };
        for (least, most, why) in [
            ("payload_bytes_max", "link_bytes_max", "a reply of the largest size could never be delivered"),
            ("link_bytes_high", "link_bytes_max", "reading must stop before the link is full"),
            ("subscription_bytes", "subscribed_bytes_max", "a subscription could never fill what it may"),
        ] {
            let message = format!("`{most}` is less than `{least}`: {why}");
            require(number(least) <= number(most), most, least, message);
        }
        let (least, most) = ("payload_bytes_max", "buffered_bytes_max");
        require(
            number(least) + FRAME_HEAD_BYTES_MAX <= number(most) / 2,
            most,
            least,
            format!(
                "half of `{most}` is less than a frame of `{least}`: a call of the largest size could never wait"
            ),
        );
        let (least, most) = ("segment_bytes", "log_bytes_max");
        require(
            number(least) <= number(most) / 4,
            most,
            least,
            format!(
                "`{most}` is less than four times `{least}`: old segments could not go before the log is full"
            ),
        );
    }
}

/// What may stand before a payload: header, extensions and handles.
const FRAME_HEAD_BYTES_MAX: u64 =
    HEADER_BYTES as u64 + EXTENSION_BYTES_MAX as u64 + HANDLES_MAX as u64 * HANDLE_ENTRY_BYTES as u64;

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
