//! `switchboard queue peek` and `stat`: what is in a queue, without taking it.

use clap::Args;
use serde::Serialize;
use switchboard::{DeadLetter, Queued};
use switchboard_protocol::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Output, printable};
use crate::values;
use crate::views::{PayloadView, QueueView};

/// Print what is in a queue without taking it, a payload a line, in the order of pushing
#[derive(Args, Debug)]
pub(crate) struct Peek {
    /// The queue's name
    #[arg(value_parser = values::name)]
    name: Name,
    /// At most so many; 0 for all
    #[arg(long, value_name = "N", default_value = "0")]
    count: u32,
    /// Only what was pushed behind the message with this id
    #[arg(long, value_name = "ID", default_value = "0")]
    after: u64,
    /// In front of each payload its id, its priority and its deliveries, with tabs between; behind it
    /// where it comes from, if it is a dead letter
    #[arg(long)]
    long: bool,
}

/// Show a queue at a glance: its bounds, what is in it, and what became of what was
#[derive(Args, Debug)]
pub(crate) struct Stat {
    /// The queue's name
    #[arg(value_parser = values::name)]
    name: Name,
}

#[derive(Serialize)]
struct QueuedView<'m> {
    id: u64,
    priority: u8,
    deliveries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<DeadLetter>,
    #[serde(flatten)]
    payload: PayloadView<'m>,
}

impl Peek {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let queue = context.connect()?.queue(self.name.as_str());
        let mut output = context.output();
        for message in queue.peek(self.after, self.count)? {
            self.print(&message?, &mut output)?;
        }
        Ok(output.finish()?)
    }

    fn print(&self, message: &Queued, output: &mut Output) -> Result<(), Failure> {
        let (id, priority, deliveries) = (message.position(), message.priority(), message.deliveries());
        if output.json() {
            return Ok(output.object(&QueuedView {
                id,
                priority,
                deliveries,
                group: message.group().map(|key| key.escape_ascii().to_string()),
                dead_letter: message.dead_letter(),
                payload: PayloadView::of(message.payload()),
            })?);
        }
        if self.long {
            output.raw(format!("{id}\t{priority}\t{deliveries}\t").as_bytes())?;
        }
        output.raw(message.payload())?;
        if let Some(letter) = message.dead_letter().filter(|_| self.long) {
            let DeadLetter { queue, position, deliveries, reason, .. } = letter;
            let (queue, reason) = (printable(&queue), printable(&reason));
            output.raw(format!("\tfrom {queue} {position}, {deliveries} deliveries: {reason}").as_bytes())?;
        }
        Ok(output.raw(b"\n")?)
    }
}

impl Stat {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let stat = context.connect()?.queue(self.name.as_str()).stat()?;
        let view = QueueView::of(self.name.as_str(), stat);
        let mut output = context.output();
        if output.json() {
            output.object(&view)?;
        } else {
            output.line(format_args!("name        {}", view.name))?;
            view.print(&mut output)?;
        }
        Ok(output.finish()?)
    }
}
