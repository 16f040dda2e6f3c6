//! `switchboard policy explain`: which rule decides.

use clap::{Args, Subcommand, builder::PossibleValuesParser, builder::TypedValueParser as _};
use serde::Serialize;
use switchboard::Principal;
use switchboard_config::users;
use switchboard_protocol::{Name, Verb};

use crate::context::Context;
use crate::failure::Failure;
use crate::values;

/// Ask who may do what
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    Explain(Explain),
}

/// Say whether policy allows something, and which rule decides
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The user, by name or number [default: you]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// With these groups instead of the user's own, by name or number
    #[arg(long, value_name = "GROUP", requires = "user")]
    group: Vec<String>,
    /// With this security label
    #[arg(long, value_name = "LABEL", default_value = "", hide_default_value = true, requires = "user")]
    label: String,
    /// What to do
    #[arg(value_parser = PossibleValuesParser::new(Verb::ALL.map(Verb::as_str)).map(verb))]
    verb: Verb,
    /// With which name
    #[arg(value_parser = values::name)]
    name: Name,
}

#[derive(Serialize)]
struct ExplainedView {
    allowed: bool,
    rule: String,
    priority_max: u8,
}

fn verb(word: String) -> Verb {
    Verb::parse(&word).expect("one of the possible values")
}

/// An id by number or by name.
fn id(word: &str, look_up: fn(&str) -> Result<u32, String>) -> Result<u32, Failure> {
    word.parse().or_else(|_| look_up(word)).map_err(Failure::usage)
}

impl Policy {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Explain(command) => command.run(context),
        }
    }
}

impl Explain {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let uid = self.user.as_deref().map(|user| id(user, users::uid_of)).transpose()?;
        let groups = match (uid, self.group.as_slice()) {
            (Some(uid), []) => users::groups_of(uid),
            (_, groups) => groups.iter().map(|group| id(group, users::gid_of)).collect::<Result<_, _>>()?,
        };
        let who = Principal { uid, groups, label: self.label };
        let board = context.connect()?;
        let explained = board.explain(&who, self.verb, self.name.as_str())?;
        let view = ExplainedView {
            allowed: explained.allowed,
            rule: explained.rule,
            priority_max: explained.priority_max,
        };
        let mut output = context.output();
        if output.json() {
            output.object(&view)?;
        } else {
            let decision = if view.allowed { "allowed" } else { "denied" };
            output.line(format_args!("{decision}: {}", view.rule))?;
            output.line(format_args!("highest priority of calls: {}", view.priority_max))?;
        }
        Ok(output.finish()?)
    }
}
