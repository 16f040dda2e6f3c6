//! How a command ends when not well: the exit status, and the line on stderr.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use switchboard::{CallError, ConnectError};
use switchboard_protocol::GoodbyeReason;
use switchboard_transport::paths::{Instance, SocketPath, SocketSource};

/// The operation ended otherwise; stderr begins with the outcome's name.
pub(crate) const ENDED_OTHERWISE: u8 = 1;
/// Wrong usage or wrong configuration.
pub(crate) const WRONG_USAGE: u8 = 2;
/// No broker is reachable.
pub(crate) const NO_BROKER: u8 = 3;

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    /// For stderr; empty if all is said.
    message: String,
}

impl Failure {
    /// The operation ended otherwise. `message` begins with an outcome's name where there is one.
    pub(crate) fn ended(message: impl Display) -> Self {
        Self { status: ENDED_OTHERWISE, message: message.to_string() }
    }

    /// The command makes no sense as it was given.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { status: WRONG_USAGE, message: format!("error: {message}") }
    }

    /// The configuration is wrong; `diagnostics` say where.
    pub(crate) fn wrong_configuration(diagnostics: &str) -> Self {
        Self { status: WRONG_USAGE, message: diagnostics.to_owned() }
    }

    /// No broker.
    pub(crate) fn no_broker(message: impl Display) -> Self {
        Self { status: NO_BROKER, message: message.to_string() }
    }

    /// No connection to the broker at `socket`; or one that the broker refused, which is status 1.
    pub(crate) fn unreachable(error: &ConnectError, socket: &SocketPath) -> Self {
        match error {
            ConnectError::Refused { reason: GoodbyeReason::TooManyConnections, .. } => {
                Self::ended(format_args!("Busy: {error}"))
            }
            ConnectError::Refused { reason: GoodbyeReason::Denied, .. } => {
                Self::ended(format_args!("Denied: {error}"))
            }
            error => Self::no_broker(format_args!("{error}{}", hint(socket))),
        }
    }

    /// All has been said already.
    pub(crate) fn silent(status: u8) -> Self {
        Self { status, message: String::new() }
    }

    /// What it says.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says it on stderr and gives the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            // Nobody may be listening; the exit status still tells.
            let _ = writeln!(io::stderr(), "{}", self.message.trim_end());
        }
        ExitCode::from(self.status)
    }
}

/// What to do about a broker that is not there.
fn hint(socket: &SocketPath) -> &'static str {
    match socket.source {
        SocketSource::Default(Instance::User) => {
            "; start one with `switchboardd`, or name another with --socket"
        }
        SocketSource::Default(Instance::System) => "; start it with `systemctl start switchboard`",
        SocketSource::Environment => " (as $SWITCHBOARD_SOCKET says)",
        SocketSource::Explicit => "",
    }
}

/// A call ended otherwise: `Outcome: message`.
impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::ended(error)
    }
}

/// Writing a result failed. A reader that has gone has what it wanted, as with `| head`: that is no
/// failure. A full disk is.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(0),
            _ => Self::ended(format_args!("cannot write the result: {error}")),
        }
    }
}

/// A panic is a mistake of ours. The user is told so in one line, without a trace of the stack.
pub(crate) fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("no explanation");
        let _ = writeln!(io::stderr(), "switchboard: internal mistake, please report it: {what}{place}");
    }));
}
