//! Who may do what: rules over kernel identities, default deny across users (DESIGN 6).

use crate::Identity;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::{Name, Pattern, Rights, Verb};

/// The rules in force. Made from configuration; replaced as a whole by a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// On a user instance: this user may do everything without a rule. `None` on a system instance.
    /// Root has no exemption from any of this.
    pub own_user: Option<u32>,
    /// The `[[allow]]` tables, in the order of their files.
    pub rules: Vec<Rule>,
    /// The highest priority of a call where no rule says otherwise (default 4).
    pub priority_max: u8,
}

/// One `[[allow]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Where it stands, `FILE:LINE`.
    pub source: String,
    /// Whom it is about.
    pub subject: Subject,
    /// What it allows: each verb with the names it covers. `monitor` and `admin` cover names too;
    /// `**` is every name.
    pub grants: Vec<(Verb, Vec<Pattern>)>,
    /// The highest priority these subjects may use, if the rule says.
    pub priority_max: Option<u8>,
}

/// Whom a rule is about. Every part that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Any of these users; empty for no condition.
    pub users: Vec<u32>,
    /// A member, primary or supplementary, of any of these groups; empty for no condition.
    pub groups: Vec<u32>,
    /// Any of these security labels; empty for no condition.
    pub labels: Vec<String>,
    /// Everybody (with known ids). Without it, a subject with no condition matches nobody.
    pub anyone: bool,
}

/// What policy says, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// By this rule.
    Rule(&'a Rule),
    /// The instance's own user.
    OwnUser,
    /// The name is the broker's own.
    Reserved,
    /// No rule allows it.
    NoRule,
    /// The kernel could not say who it is (unmapped user id, or a process of another namespace).
    Unknown,
}

impl Decision<'_> {
    /// Whether it is allowed.
    pub fn allowed(&self) -> bool {
        matches!(self, Self::Rule(_) | Self::OwnUser)
    }
}

impl core::fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Rule(rule) => &rule.source,
            Self::OwnUser => "this is a user instance, and its own user may do everything",
            Self::Reserved => "names under `switchboard` are the broker's own",
            Self::NoRule => "no [[allow]] table allows it, and nothing is allowed unless one does",
            Self::Unknown => "the kernel cannot say who this is, so no rule matches",
        })
    }
}

impl Subject {
    /// Whether `who` is meant.
    pub fn matches(&self, who: &Identity) -> bool {
        let Self { users, groups, labels, anyone } = self;
        if users.is_empty() && groups.is_empty() && labels.is_empty() {
            return *anyone;
        }
        (users.is_empty() || users.contains(&who.uid))
            && (groups.is_empty()
                || groups.contains(&who.gid)
                || who.groups.iter().any(|g| groups.contains(g)))
            && (labels.is_empty() || who.label.as_ref().is_some_and(|label| labels.contains(label)))
    }
}

impl Policy {
    /// The policy of a user instance without configuration: its own user may do everything.
    pub fn user_instance(uid: u32) -> Self {
        Self { own_user: Some(uid), rules: Vec::new(), priority_max: 4 }
    }

    /// Whether `who` may do `verb` on `name`, and why.
    pub fn decide(&self, who: &Identity, verb: Verb, name: &Name) -> Decision<'_> {
        if verb == Verb::Serve && name.is_reserved() {
            return Decision::Reserved;
        }
        if !who.is_known() {
            return Decision::Unknown;
        }
        if self.own_user == Some(who.uid) {
            return Decision::OwnUser;
        }
        let grants = |rule: &&Rule| {
            rule.subject.matches(who)
                && rule.grants.iter().any(|(granted, names)| {
                    *granted == verb && names.iter().any(|pattern| pattern.matches(name))
                })
        };
        self.rules.iter().find(grants).map_or(Decision::NoRule, Decision::Rule)
    }

    /// Those of `wanted` that `who` may have on `name`.
    pub fn rights(&self, who: &Identity, wanted: Rights, name: &Name) -> Rights {
        Verb::ALL
            .into_iter()
            .filter(|verb| wanted.contains(verb.right()) && self.decide(who, *verb, name).allowed())
            .fold(Rights::NONE, |sum, verb| sum | verb.right())
    }

    /// The highest priority of calls that `who` may use: the most that any rule about them says, else
    /// the instance's default.
    pub fn priority_max(&self, who: &Identity) -> u8 {
        if !who.is_known() {
            return self.priority_max;
        }
        self.rules
            .iter()
            .filter(|rule| rule.subject.matches(who))
            .filter_map(|rule| rule.priority_max)
            .max()
            .unwrap_or(self.priority_max)
            .min(7)
    }
}
