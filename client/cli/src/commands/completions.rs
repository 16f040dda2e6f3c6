//! `switchboard completions`: what a shell needs to complete our command line.

use clap::Args;
use clap_complete::Shell;

use crate::arguments;
use crate::context::Context;
use crate::failure::Failure;

/// Print the completion script of a shell
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        // Into memory first: the generator takes a failed write for a mistake of ours.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut arguments::definition(), "switchboard", &mut script);
        let mut output = context.output();
        output.raw(&script)?;
        Ok(output.finish()?)
    }
}
