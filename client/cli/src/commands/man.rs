//! `switchboard man`: the manual, made from the definition of the command line.

use std::path::PathBuf;

use clap::Args;

use crate::arguments;
use crate::context::Context;
use crate::failure::Failure;

/// Print the manual page, or write the pages of all commands
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// The command whose page to print, such as `call` or `bench call` [default: all of switchboard]
    #[arg(conflicts_with = "dir")]
    command: Vec<String>,
    /// Write switchboard.1, switchboard-call.1 and so on into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut definition = arguments::definition();
        definition.build();
        if let Some(dir) = self.dir {
            return clap_mangen::generate_to(definition, &dir).map_err(|error| {
                Failure::ended(format_args!("cannot write the pages into `{}`: {error}", dir.display()))
            });
        }
        let mut wanted = &definition;
        for word in &self.command {
            let found =
                wanted.get_subcommands().find(|known| known.get_name() == word && !known.is_hide_set());
            wanted = found.ok_or_else(|| {
                let known: Vec<_> = wanted.get_subcommands().filter(|known| !known.is_hide_set()).collect();
                let names: Vec<_> = known.iter().map(|known| known.get_name()).collect();
                let names = if names.is_empty() { "no commands".to_owned() } else { names.join(", ") };
                Failure::usage(format_args!(
                    "`{}` has no command `{word}`; it has {names}",
                    wanted.get_name()
                ))
            })?;
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(wanted.clone()).render(&mut page)?;
        let mut output = context.output();
        output.raw(&page)?;
        Ok(output.finish()?)
    }
}
