//! `switchboard reload`: the broker reads its configuration again.

use clap::Args;
use serde::Serialize;
use switchboard::Outcome;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::note;

/// Have the broker read its configuration again: all of it, or, if there is a mistake, nothing
#[derive(Args, Debug)]
pub(crate) struct Reload {}

#[derive(Serialize)]
struct ReloadedView {
    files: Vec<String>,
}

impl Reload {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let reloaded = board.reload().map_err(|error| match error.outcome {
            // The diagnostics, as `config check` prints them.
            Outcome::Invalid | Outcome::Failed => Failure::wrong_configuration(error.message()),
            _ => error.into(),
        })?;
        let mut output = context.output();
        if output.json() {
            output.object(&ReloadedView { files: reloaded.files })?;
            return Ok(output.finish()?);
        }
        for file in &reloaded.files {
            output.line(file)?;
        }
        output.finish()?;
        note(if reloaded.files.is_empty() { "reloaded: no file, so the defaults hold" } else { "reloaded" });
        Ok(())
    }
}
