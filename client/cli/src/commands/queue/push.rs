//! `switchboard queue push`: messages in, a line as each is safe.

use std::collections::VecDeque;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use switchboard::{CallError, PendingPush, PushBuilder, Pushed};
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
    /// Push every line of stdin (or of the payload) as a message of its own, many on their way at once
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
        let pushed = self.told(queue.message(&payload), 0).push()?;
        let mut output = context.output();
        print(pushed, &mut output)?;
        Ok(output.finish()?)
    }

    fn push_lines(&self, context: &Context, mut lines: Lines) -> Result<(), Failure> {
        let queue = context.connect()?.queue(self.name.as_str());
        let mut output = context.output();
        let mut open = VecDeque::with_capacity(IN_FLIGHT);
        let mut first_wrong = None;
        while first_wrong.is_none() {
            if !lines.has_next() {
                // Whoever writes may wait for these before it goes on.
                first_wrong = settle(&mut open, &mut output)?;
                output.flush()?;
                if first_wrong.is_some() {
                    break;
                }
            }
            let number = lines.count();
            let Some(line) = lines.next()? else { break };
            match self.told(queue.message(line), number).begin() {
                Ok(push) => open.push_back((number + 1, push)),
                Err(error) => first_wrong = Some((number + 1, error)),
            }
            first_wrong = first_wrong.or(ended(&mut open, &mut output)?);
        }
        // Those behind one that was refused may have been taken all the same: whoever asked is told.
        let later = settle(&mut open, &mut output)?;
        output.finish()?;
        match first_wrong.or(later) {
            Some((line, error)) => Err(Failure::ended(format_args!("{error} (line {line})"))),
            None => Ok(()),
        }
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
        match values::limit(self.timeout) {
            Some(timeout) => message.timeout(timeout),
            None => message.no_timeout(),
        }
    }
}

/// Pushes on their way, each with the number of its line.
type Open = VecDeque<(u64, PendingPush)>;

/// Prints those at the front that have ended; waits for the first where as many are open as may be.
fn ended(open: &mut Open, output: &mut Output) -> Result<Option<(u64, CallError)>, Failure> {
    while let Some((line, mut push)) = open.pop_front() {
        let end = if open.len() + 1 < IN_FLIGHT {
            match push.poll() {
                Some(end) => end,
                None => {
                    open.push_front((line, push));
                    return Ok(None);
                }
            }
        } else {
            push.wait()
        };
        match end {
            Ok(pushed) => print(pushed, output)?,
            Err(error) => return Ok(Some((line, error))),
        }
    }
    Ok(None)
}

/// Waits for all of them, and prints those that ended well; the first that did not.
fn settle(open: &mut Open, output: &mut Output) -> Result<Option<(u64, CallError)>, Failure> {
    let mut wrong = None;
    for (line, push) in open.drain(..) {
        match push.wait() {
            Ok(pushed) => print(pushed, output)?,
            Err(error) => {
                wrong.get_or_insert((line, error));
            }
        }
    }
    Ok(wrong)
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
