//! The command line as it is written.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser};

use crate::commands::Command;
use crate::context::Context;
use crate::failure::Failure;

/// Talk to a Switchboard broker: call services, offer them, see what goes on.
///
/// Results go to stdout, everything else to stderr. Exit status: 0 done; 1 the operation ended otherwise,
/// and stderr begins with the outcome's name, such as `NoOwner:`; 2 wrong usage or configuration; 3 no
/// broker reachable.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version, max_term_width = 100, propagate_version = true)]
#[command(disable_help_subcommand = true, infer_long_args = false)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command, before or after it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Global {
    /// The broker's socket [default: $SWITCHBOARD_SOCKET, else that of this user's broker]
    #[arg(long, global = true, value_name = "PATH", help_heading = "Global options")]
    pub(crate) socket: Option<PathBuf>,
    /// Talk to the system's broker
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) system: bool,
    /// Print JSON, one object a line where it streams
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
}

/// Reads the command line; help and mistakes are printed here.
pub(crate) fn parse() -> Result<(Context, Command), Failure> {
    match Arguments::try_parse() {
        // clap sees a conflict only where both stand on the same side of the command.
        Ok(Arguments { global: Global { socket: Some(_), system: true, .. }, .. }) => {
            Err(Failure::usage("--socket and --system cannot be used with each other: each names a broker"))
        }
        Ok(Arguments { global, command }) => Ok((Context::new(global), command)),
        Err(error) => {
            // A reader that has gone away needs no help.
            let _ = error.print();
            Err(Failure::silent(u8::try_from(error.exit_code()).unwrap_or(2)))
        }
    }
}

/// The command line as clap sees it, for completions and manual pages.
pub(crate) fn definition() -> clap::Command {
    Arguments::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        definition().debug_assert();
    }
}
