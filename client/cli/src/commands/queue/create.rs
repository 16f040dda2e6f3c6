//! `switchboard queue create`: a queue at run time.

use clap::Args;
use serde::Serialize;
use switchboard::{Level, Overflow};
use switchboard_protocol::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::note;
use crate::values;

/// Make a queue; one that is there already, and is as asked for, is no failure
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// The queue's name
    #[arg(value_parser = values::name)]
    name: Name,
    /// Keep what is in it on the disk: the same as --durability disk
    #[arg(long, conflicts_with = "durability")]
    durable: bool,
    /// What an acknowledged push survives: nothing, the broker's end, the machine's
    #[arg(long, value_name = "LEVEL", default_value = "memory", value_parser = values::level())]
    durability: Level,
    /// Messages at once, leased ones included [default: the broker's, 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_messages: Option<u64>,
    /// Bytes of messages at once [default: the broker's, 64 MiB]
    #[arg(long, value_name = "N", value_parser = values::positive_size)]
    max_bytes: Option<u64>,
    /// What becomes of a push when it is full
    #[arg(long, value_name = "P", default_value = "reject", value_parser = values::overflow())]
    overflow: Overflow,
    /// Let a durable queue drop messages for want of room
    #[arg(long)]
    lossy: bool,
    /// Deliveries after which a message that comes back is dead [default: the broker's, 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_deliveries: Option<u32>,
    /// The queue for dead letters [default: this one's name with `.dead` behind it]
    #[arg(long, value_name = "NAME", value_parser = values::name)]
    dead_letters: Option<Name>,
}

#[derive(Serialize)]
struct CreatedView<'n> {
    name: &'n str,
    existed: bool,
}

impl Create {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let level = if self.durable { Level::Disk } else { self.durability };
        // 0 is the broker's own default.
        let mut queue = board
            .create_queue(self.name.as_str())
            .durability(level)
            .max_messages(self.max_messages.unwrap_or(0))
            .max_bytes(self.max_bytes.unwrap_or(0))
            .overflow(self.overflow)
            .lossy(self.lossy)
            .max_deliveries(self.max_deliveries.unwrap_or(0));
        if let Some(name) = &self.dead_letters {
            queue = queue.dead_letters(name.as_str());
        }
        let existed = queue.create()?;
        let mut output = context.output();
        if output.json() {
            output.object(&CreatedView { name: self.name.as_str(), existed })?;
        } else if existed {
            note(format_args!("{} was there already", self.name));
        }
        Ok(output.finish()?)
    }
}
