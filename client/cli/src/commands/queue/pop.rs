//! `switchboard queue pop`: messages out, acknowledged once they are printed.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use switchboard::{Consumer, LeaseId, LeaseKind, Leased, Outcome};
use switchboard_protocol::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::values;
use crate::views::PayloadView;

/// Take messages out of a queue and print them, a payload a line
///
/// A message is acknowledged once it is written to stdout, so that none is lost on the way. With --no-ack a
/// line is the message's lease, a tab, and the payload; it stays leased for the time of --lease, to be
/// acknowledged by `queue ack`, and is there again after that.
#[derive(Args, Debug)]
pub(crate) struct Pop {
    /// The queue's name
    #[arg(value_parser = values::name)]
    name: Name,
    /// How many messages
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// How long to wait for each message; 0 for no limit
    #[arg(long, value_name = "D", default_value = "0", value_parser = values::duration)]
    timeout: Duration,
    /// Leave the messages leased and print their leases
    #[arg(long)]
    no_ack: bool,
    /// How long they stay leased
    #[arg(long, value_name = "D", default_value = "30s", value_parser = values::positive_time, requires = "no_ack")]
    lease: Duration,
}

#[derive(Serialize)]
struct LeasedView<'m> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
    priority: u8,
    deliveries: u32,
    #[serde(flatten)]
    payload: PayloadView<'m>,
}

/// Messages that are fetched ahead.
const AHEAD: u64 = 64;

/// Messages that were taken and not yet acknowledged or left.
struct Taken {
    consumer: Consumer,
    printed: Vec<Leased>,
}

impl Pop {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let queue = context.connect()?.queue(self.name.as_str());
        // What is left at the end goes back to its place; with room for one, there is never any.
        let mut consume = queue.consume().credit(self.count.clamp(1, AHEAD) as u32);
        if self.no_ack {
            consume = consume.lease(LeaseKind::Detached).lease_time(self.lease);
        }
        let mut taken = Taken { consumer: consume.start()?, printed: Vec::new() };
        let mut output = context.output();
        for printed in 0..self.count {
            let message = match taken.consumer.try_next()? {
                Some(message) => Some(message),
                None => {
                    taken.settle(&mut output, self.no_ack)?;
                    self.wait(&mut taken.consumer)?
                }
            };
            let Some(message) = message else {
                return Err(values::too_few(printed, self.count, self.timeout));
            };
            self.print(&message, &mut output)?;
            taken.printed.push(message);
            if taken.printed.len() as u64 >= AHEAD {
                taken.settle(&mut output, self.no_ack)?;
            }
        }
        taken.settle(&mut output, self.no_ack)?;
        Ok(output.finish()?)
    }

    fn wait(&self, consumer: &mut Consumer) -> Result<Option<Leased>, Failure> {
        match values::limit(self.timeout) {
            Some(timeout) => Ok(consumer.next_timeout(timeout)?),
            None => Ok(consumer.next().transpose()?),
        }
    }

    fn print(&self, message: &Leased, output: &mut Output) -> Result<(), Failure> {
        let lease = self.no_ack.then(|| message.lease().to_string());
        if output.json() {
            return Ok(output.object(&LeasedView {
                id: message.position(),
                lease,
                priority: message.priority(),
                deliveries: message.deliveries(),
                payload: PayloadView::of(message.payload()),
            })?);
        }
        if let Some(lease) = lease {
            output.raw(lease.as_bytes())?;
            output.raw(b"\t")?;
        }
        output.raw(message.payload())?;
        Ok(output.raw(b"\n")?)
    }
}

impl Taken {
    /// What was printed is seen by whoever reads it; after that, and not before, it is acknowledged.
    fn settle(&mut self, output: &mut Output, no_ack: bool) -> Result<(), Failure> {
        // Where the reader is gone the messages go back to their place.
        output.flush()?;
        let leases: Vec<LeaseId> = self.printed.drain(..).map(Leased::into_lease).collect();
        if no_ack {
            return Ok(());
        }
        let acked = self.consumer.queue().ack_all(&leases)?;
        match acked.lost.len() {
            0 => Ok(()),
            lost => Err(Failure::ended(format_args!(
                "{}: {lost} of {} messages that were printed are somebody else's meanwhile: their leases had ended",
                Outcome::LeaseLost,
                leases.len()
            ))),
        }
    }
}
