//! `switchboard queue push`: messages in, a line as each is safe.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use switchboard::{CallError, PushBuilder, PushPipeline, Pushed, Queue};
use switchboard_protocol::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::lines::Lines;
use crate::output::Output;
use crate::values::{self, PayloadArgument};

/// Push to a queue; each message is printed once the queue has it
///
/// A line is the message's id in its queue, a tab, and how durable it is: `memory`, `os` or `disk`. A
/// message that was pushed before, by its producer's number, has `duplicate` behind that.
#[derive(Args, Debug)]
pub(crate) struct Push {
    /// The queue's name
    #[arg(value_parser = values::name)]
    name: Name,
    /// What to push: a word, - for stdin, @FILE [default: nothing]
    payload: Option<std::ffi::OsString>,
    /// Push every line of stdin (or of the payload) as a message of its own, many on their way at once;
    /// lines that wait together are pushed together, all or none
    #[arg(long)]
    lines: bool,
    /// 0 (least) to 31: what leaves the queue first
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u8).range(0..=31))]
    priority: u8,
    /// Not to be delivered before this time has passed
    #[arg(long, value_name = "D", default_value = "0", value_parser = values::time, allow_hyphen_values = true)]
    delay: Duration,
    /// Not to be delivered after this time; 0 for never
    #[arg(long, value_name = "D", default_value = "0", value_parser = values::time, allow_hyphen_values = true)]
    ttl: Duration,
    /// Deliver messages with the same key one at a time and in order
    #[arg(long, value_name = "K")]
    group: Option<String>,
    /// The number of who pushes, so that a message that is pushed twice is taken once
    #[arg(long, value_name = "ID", requires = "seq")]
    producer: Option<u64>,
    /// The number of the (first) message of that producer; lines count on from it
    #[arg(long, value_name = "N", requires = "producer", value_parser = clap::value_parser!(u64).range(1..))]
    seq: Option<u64>,
    /// How long each push may take; 0 for no limit
    #[arg(long, value_name = "D", default_value = "30s", value_parser = values::duration)]
    timeout: Duration,
}

#[derive(Serialize)]
struct PushedView {
    id: u64,
    level: &'static str,
    log_position: u64,
    duplicate: bool,
}

/// Pushes that are on their way at once.
const IN_FLIGHT: usize = 256;

impl Push {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let payload = self.payload.clone().map(PayloadArgument::from).unwrap_or_default();
        if self.lines {
            let lines = Lines::of(payload)?;
            return self.push_lines(context, lines);
        }
        let payload = payload.read()?;
        let queue = context.connect()?.queue(self.name.as_str());
        let pushed = self.timed(self.told(queue.message(&payload), 0)).push()?;
        let mut output = context.output();
        print(pushed, &mut output)?;
        Ok(output.finish()?)
    }

    fn push_lines(&self, context: &Context, mut lines: Lines) -> Result<(), Failure> {
        let queue = context.connect()?.queue(self.name.as_str());
        let mut pushes = None;
        let mut ends = Ends::default();
        let mut output = context.output();
        let mut refused = None;
        while refused.is_none() && ends.first_wrong.is_none() {
            if !lines.has_next()
                && let Some(pushes) = &mut pushes
            {
                // Whoever writes may wait for these before it goes on.
                ends.settle(pushes, &mut output)?;
                output.flush()?;
                if ends.first_wrong.is_some() {
                    break;
                }
            }
            let number = lines.count();
            let Some(line) = lines.next()? else { break };
            let pushes = match &mut pushes {
                Some(pushes) => pushes,
                // Without a line nothing is asked of the queue.
                none => match self.pipeline(&queue) {
                    Ok(pipeline) => none.insert(pipeline),
                    Err(error) => {
                        refused = Some((number, error));
                        break;
                    }
                },
            };
            while pushes.is_full() {
                ends.wait(pushes, &mut output)?;
            }
            if let Err(error) = pushes.submit_message(number, self.told(queue.message(line), number)) {
                refused = Some((number, error));
            }
        }
        // Those behind one that was refused may have been taken all the same: whoever asked is told.
        if let Some(pushes) = &mut pushes {
            ends.settle(pushes, &mut output)?;
        }
        output.finish()?;
        // What was submitted before comes before it.
        match ends.first_wrong.or(refused) {
            Some((line, error)) => Err(Failure::ended(format_args!("{error} (line {})", line + 1))),
            None => Ok(()),
        }
    }

    fn pipeline(&self, queue: &Queue) -> Result<PushPipeline, CallError> {
        let pipeline = queue.pipeline(IN_FLIGHT)?;
        Ok(match values::limit(self.timeout) {
            Some(timeout) => pipeline.timeout(timeout),
            None => pipeline.no_timeout(),
        })
    }

    /// A message with what the options say; `before` others were pushed before it.
    fn told<'a>(&'a self, message: PushBuilder<'a>, before: u64) -> PushBuilder<'a> {
        let mut message = message.priority(self.priority).delay(self.delay).ttl(self.ttl);
        if let Some(key) = &self.group {
            message = message.group(key);
        }
        if let (Some(producer), Some(seq)) = (self.producer, self.seq) {
            message = message.producer(producer, seq.saturating_add(before));
        }
        message
    }

    /// With its time.
    fn timed<'a>(&self, message: PushBuilder<'a>) -> PushBuilder<'a> {
        match values::limit(self.timeout) {
            Some(timeout) => message.timeout(timeout),
            None => message.no_timeout(),
        }
    }
}

/// Ends of pushes that came before those of earlier lines.
#[derive(Default)]
struct Ends {
    /// The line whose end is to be printed next, from 0.
    next: u64,
    early: BTreeMap<u64, Result<Pushed, CallError>>,
    first_wrong: Option<(u64, CallError)>,
}

impl Ends {
    /// Waits for at least one push, and prints what is safe in the order of the lines.
    fn wait(&mut self, pushes: &mut PushPipeline, output: &mut Output) -> Result<(), Failure> {
        let early = &mut self.early;
        pushes.wait(|line, end| drop(early.insert(line, end)))?;
        while let Some(end) = self.early.remove(&self.next) {
            match end {
                Ok(pushed) => print(pushed, output)?,
                Err(error) => {
                    self.first_wrong.get_or_insert((self.next, error));
                }
            }
            self.next += 1;
        }
        Ok(())
    }

    /// Waits for all of them.
    fn settle(&mut self, pushes: &mut PushPipeline, output: &mut Output) -> Result<(), Failure> {
        while pushes.open() > 0 {
            self.wait(pushes, output)?;
        }
        Ok(())
    }
}

fn print(pushed: Pushed, output: &mut Output) -> Result<(), Failure> {
    let view = PushedView {
        id: pushed.position,
        level: pushed.level.as_str(),
        log_position: pushed.log_position,
        duplicate: pushed.duplicate,
    };
    if output.json() {
        return Ok(output.object(&view)?);
    }
    let mark = if view.duplicate { "\tduplicate" } else { "" };
    Ok(output.line(format_args!("{}\t{}{mark}", view.id, view.level))?)
}
