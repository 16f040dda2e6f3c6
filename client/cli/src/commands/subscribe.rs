//! `switchboard sub`: what is published, a line a message.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use switchboard::{Delivery, Message, SlowPolicy, Subscription};
use switchboard_protocol::Pattern;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Output, note};
use crate::values;
use crate::views::PayloadView;

/// Print what is published to topics, a line a message: the topic, a tab, the payload
///
/// When what is published from then on will be printed, stderr says `subscribed`; where messages were lost
/// because they were not taken fast enough, it says `Lost FROM TO`.
#[derive(Args, Debug)]
pub(crate) struct Subscribe {
    /// Which topics: `acme.*` is one label, `acme.**` one or more
    #[arg(value_parser = values::pattern)]
    pattern: Pattern,
    /// End after so many messages; what was lost does not count
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// How long to wait for each message; 0 for no limit
    #[arg(long, value_name = "D", default_value = "0", value_parser = values::duration)]
    timeout: Duration,
    /// What becomes of messages that come faster than they are taken
    #[arg(long, value_name = "P", default_value = "drop_oldest", value_parser = values::slow_policy())]
    policy: SlowPolicy,
    /// Print the latest N messages of each topic first, as far as it keeps any
    #[arg(long, value_name = "N", default_value = "0")]
    history: u32,
}

#[derive(Serialize)]
struct MessageView<'m> {
    topic: &'m str,
    sequence: u64,
    position: u64,
    /// Published before the subscription: retained, or of the history.
    earlier: bool,
    method: u32,
    uid: u32,
    pid: u32,
    #[serde(flatten)]
    payload: PayloadView<'m>,
}

impl Subscribe {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let subscription = board.subscribe(self.pattern.as_str()).policy(self.policy).history(self.history);
        let mut subscription = subscription.start()?;
        note("subscribed");
        let mut output = context.output();
        let printed = self.print(&mut subscription, &mut output);
        // What came before it ended is a result all the same.
        output.finish()?;
        printed
    }

    fn print(&self, subscription: &mut Subscription, output: &mut Output) -> Result<(), Failure> {
        let mut printed = 0;
        while self.count != Some(printed) {
            let next = match subscription.try_next()? {
                Some(next) => Some(next),
                None => {
                    output.flush()?;
                    self.wait(subscription)?
                }
            };
            match next {
                Some(Delivery::Message(message)) => {
                    print_message(&message, output)?;
                    printed += 1;
                }
                Some(Delivery::Lost { from, to }) => {
                    // In its place between the messages, for those who look at both.
                    output.flush()?;
                    note(format_args!("Lost {from} {to}"));
                }
                // Only after a reconnect, and of what this version does not know.
                Some(_) => {}
                None => return self.time_is_up(printed),
            }
        }
        Ok(())
    }

    fn wait(&self, subscription: &mut Subscription) -> Result<Option<Delivery>, Failure> {
        match values::limit(self.timeout) {
            Some(timeout) => Ok(subscription.next_timeout(timeout)?),
            None => Ok(subscription.next().transpose()?),
        }
    }

    fn time_is_up(&self, printed: u64) -> Result<(), Failure> {
        match self.count {
            Some(count) => Err(values::too_few(printed, count, self.timeout)),
            None => Ok(()),
        }
    }
}

fn print_message(message: &Message, output: &mut Output) -> Result<(), Failure> {
    if output.json() {
        return Ok(output.object(&MessageView {
            topic: message.topic(),
            sequence: message.sequence(),
            position: message.position(),
            earlier: message.is_earlier(),
            method: message.method(),
            uid: message.uid(),
            pid: message.pid(),
            payload: PayloadView::of(message.payload()),
        })?);
    }
    output.raw(message.topic().as_bytes())?;
    output.raw(b"\t")?;
    output.raw(message.payload())?;
    Ok(output.raw(b"\n")?)
}
