//! `switchboard queue`: work for one of many.

mod create;
mod inspect;
mod lease;
mod pop;
mod push;
mod upkeep;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Failure;

/// Make queues, push to them, pop from them, and look after them
///
/// A message goes to one consumer, under a lease, and is gone once that has acknowledged it.
#[derive(Debug, Subcommand)]
pub(crate) enum Queue {
    Create(create::Create),
    Push(push::Push),
    Pop(pop::Pop),
    Peek(inspect::Peek),
    Ack(lease::Ack),
    Nack(lease::Nack),
    Extend(lease::Extend),
    Purge(upkeep::Purge),
    Stat(inspect::Stat),
    Redrive(upkeep::Redrive),
    Rm(upkeep::Rm),
}

impl Queue {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create(command) => command.run(context),
            Self::Push(command) => command.run(context),
            Self::Pop(command) => command.run(context),
            Self::Peek(command) => command.run(context),
            Self::Ack(command) => command.run(context),
            Self::Nack(command) => command.run(context),
            Self::Extend(command) => command.run(context),
            Self::Purge(command) => command.run(context),
            Self::Stat(command) => command.run(context),
            Self::Redrive(command) => command.run(context),
            Self::Rm(command) => command.run(context),
        }
    }
}
