//! `switchboard pub`: a message, or many, to everybody who is subscribed.

use clap::Args;
use serde::Serialize;
use switchboard::{Board, Published, Topic};
use switchboard_protocol::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::lines::Lines;
use crate::output::Output;
use crate::values::{self, PayloadArgument};

/// Publish to a topic: everybody who is subscribed gets it
///
/// That nobody is subscribed is no failure. With --confirm each message is printed as it was published: its
/// number in the topic, to how many subscriptions it went, and how durably the topic keeps it (`memory`,
/// `os`, `disk`), with tabs between.
#[derive(Args, Debug)]
pub(crate) struct Publish {
    /// The topic's name
    #[arg(value_parser = values::name)]
    topic: Name,
    /// What to publish: a word, - for stdin, @FILE [default: nothing]
    payload: Option<std::ffi::OsString>,
    /// Publish every line of stdin (or of the payload) as a message of its own
    #[arg(long)]
    lines: bool,
    /// Wait until each message was given to every subscription, and print what became of it
    #[arg(long)]
    confirm: bool,
    /// A number that subscribers see
    #[arg(long, value_name = "M", default_value = "0")]
    method: u32,
}

#[derive(Serialize)]
struct PublishedView {
    sequence: u64,
    subscriptions: u64,
    level: &'static str,
    log_position: u64,
}

impl Publish {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let payload = self.payload.clone().map(PayloadArgument::from).unwrap_or_default();
        if self.lines {
            let lines = Lines::of(payload)?;
            let board = context.connect()?;
            return self.publish_lines(&board, lines, context.output());
        }
        let payload = payload.read()?;
        let board = context.connect()?;
        let topic = board.topic(self.topic.as_str());
        if self.confirm {
            let mut output = context.output();
            self.publish_confirmed(&topic, &payload, &mut output)?;
            return Ok(output.finish()?);
        }
        topic.message(&payload).method(self.method).send()?;
        // Leaving at once would leave the broker's refusal unread.
        Ok(board.flush()?)
    }

    fn publish_lines(&self, board: &Board, mut lines: Lines, mut output: Output) -> Result<(), Failure> {
        let topic = board.topic(self.topic.as_str());
        let mut batch = board.batch();
        loop {
            if !lines.has_next() {
                // Whoever writes may take its time: what was written is not kept from anybody.
                batch.flush()?;
                output.flush()?;
            }
            let Some(line) = lines.next()? else { break };
            if self.confirm {
                self.publish_confirmed(&topic, line, &mut output)?;
            } else if self.method == 0 {
                batch.publish(&topic, line)?;
            } else {
                topic.message(line).method(self.method).send()?;
            }
        }
        board.flush()?;
        Ok(output.finish()?)
    }

    fn publish_confirmed(&self, topic: &Topic, payload: &[u8], output: &mut Output) -> Result<(), Failure> {
        let published = topic.message(payload).method(self.method).confirm()?;
        let view = PublishedView::from(published);
        if output.json() {
            return Ok(output.object(&view)?);
        }
        let PublishedView { sequence, subscriptions, level, .. } = view;
        Ok(output.line(format_args!("{sequence}\t{subscriptions}\t{level}"))?)
    }
}

impl From<Published> for PublishedView {
    fn from(published: Published) -> Self {
        Self {
            sequence: published.sequence,
            subscriptions: published.subscriptions,
            level: published.level.as_str(),
            log_position: published.log_position,
        }
    }
}
