//! `switchboard wait`: until a name has an owner.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use switchboard_protocol::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::values;

/// Wait until somebody serves a name
#[derive(Args, Debug)]
pub(crate) struct Wait {
    /// The name
    #[arg(value_parser = values::name)]
    name: Name,
    /// How long at most; 0 for no limit
    #[arg(long, value_name = "D", default_value = "0", value_parser = values::duration)]
    timeout: Duration,
}

#[derive(Serialize)]
struct FoundView<'n> {
    name: &'n str,
    epoch: u64,
}

impl Wait {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let epoch = board.wait_for(self.name.as_str(), values::limit(self.timeout))?;
        let mut output = context.output();
        if output.json() {
            output.object(&FoundView { name: self.name.as_str(), epoch: epoch.0 })?;
        }
        Ok(output.finish()?)
    }
}
