//! `switchboard queue ack`, `nack` and `extend`: what becomes of a message that was popped with --no-ack.

use std::time::Duration;

use clap::{Args, ValueEnum};
use switchboard::{LeaseId, NackHow, Outcome};
use switchboard_protocol::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::values;

/// Acknowledge messages by their leases: they are dealt with, and gone
#[derive(Args, Debug)]
pub(crate) struct Ack {
    /// The queue's name
    #[arg(value_parser = values::name)]
    name: Name,
    /// The leases, as `queue pop --no-ack` printed them
    #[arg(required = true, value_parser = values::lease)]
    lease: Vec<LeaseId>,
}

/// Give a message back by its lease
#[derive(Args, Debug)]
pub(crate) struct Nack {
    /// The queue's name
    #[arg(value_parser = values::name)]
    name: Name,
    /// The lease, as `queue pop --no-ack` printed it
    #[arg(value_parser = values::lease)]
    lease: LeaseId,
    /// What becomes of the message
    #[arg(long, value_enum, default_value = "requeue")]
    how: How,
    /// Not to be delivered again before this time has passed
    #[arg(long, value_name = "D", default_value = "0", value_parser = values::time, allow_hyphen_values = true)]
    delay: Duration,
}

/// Make a lease last longer
#[derive(Args, Debug)]
pub(crate) struct Extend {
    /// The queue's name
    #[arg(value_parser = values::name)]
    name: Name,
    /// The lease, as `queue pop --no-ack` printed it
    #[arg(value_parser = values::lease)]
    lease: LeaseId,
    /// How long from now
    #[arg(long, value_name = "D", default_value = "30s", value_parser = values::positive_time)]
    by: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    /// Back to its place; this delivery does not count
    Requeue,
    /// Back to its place, or to the dead letters if it failed too often
    Fail,
    /// To the dead letters
    Dead,
}

impl Ack {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let queue = context.connect()?.queue(self.name.as_str());
        if let [lease] = self.lease[..] {
            return Ok(queue.ack(lease).map(drop)?);
        }
        let lost = queue.ack_all(&self.lease)?.lost;
        if lost.is_empty() {
            return Ok(());
        }
        let leases: Vec<String> = lost.iter().map(LeaseId::to_string).collect();
        Err(Failure::ended(format_args!(
            "{}: {} of {} leases had ended, and their messages are somebody else's: {}",
            Outcome::LeaseLost,
            lost.len(),
            self.lease.len(),
            leases.join(" ")
        )))
    }
}

impl Nack {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let how = match self.how {
            How::Requeue => NackHow::Requeue,
            How::Fail => NackHow::Fail,
            How::Dead => NackHow::Dead,
        };
        Ok(context.connect()?.queue(self.name.as_str()).nack(self.lease, how, self.delay)?)
    }
}

impl Extend {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        Ok(context.connect()?.queue(self.name.as_str()).extend(self.lease, self.by)?)
    }
}
