//! `switchboard queue purge`, `redrive` and `rm`: what is done to a queue now and then.

use clap::Args;
use serde::Serialize;
use switchboard_protocol::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::note;
use crate::values;

/// Remove everything that is not leased from a queue; how many messages that were is printed
#[derive(Args, Debug)]
pub(crate) struct Purge {
    /// The queue's name
    #[arg(value_parser = values::name)]
    name: Name,
}

/// Bring dead letters back to the queues they came from; how many came back is printed
#[derive(Args, Debug)]
pub(crate) struct Redrive {
    /// A queue of dead letters, or a queue whose dead letters are to come back
    #[arg(value_parser = values::name)]
    name: Name,
    /// At most so many; 0 for all
    #[arg(long, value_name = "N", default_value = "0")]
    count: u32,
}

/// Delete a queue with everything in it
#[derive(Args, Debug)]
pub(crate) struct Rm {
    /// The queue's name
    #[arg(value_parser = values::name)]
    name: Name,
}

#[derive(Serialize)]
struct PurgedView {
    purged: u64,
}

#[derive(Serialize)]
struct RedrivenView {
    moved: u64,
    left: u64,
}

impl Purge {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let purged = context.connect()?.queue(self.name.as_str()).purge()?;
        let mut output = context.output();
        if output.json() {
            output.object(&PurgedView { purged })?;
        } else {
            output.line(purged)?;
        }
        Ok(output.finish()?)
    }
}

impl Redrive {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let redriven = context.connect()?.queue(self.name.as_str()).redrive(self.count)?;
        let mut output = context.output();
        if output.json() {
            output.object(&RedrivenView { moved: redriven.moved, left: redriven.left })?;
        } else {
            output.line(redriven.moved)?;
            if redriven.left > 0 {
                note(format_args!("{} stay, for want of room in their queues", redriven.left));
            }
        }
        Ok(output.finish()?)
    }
}

impl Rm {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        Ok(context.connect()?.delete_queue(self.name.as_str())?)
    }
}
