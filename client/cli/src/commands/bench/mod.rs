//! `switchboard bench`: how fast it is here, measured by real peer processes through the broker in use.
//! Every message is verified by whoever receives it; a loss is a failure.

mod call;
mod idle;
mod pattern;
mod publish;
mod queue;
mod report;
mod send;
mod server;
mod sink;

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::children::{Peer, Start};
use crate::context::Context;
use crate::failure::Failure;
use crate::values;

pub(crate) use call::{many_at_once, one_by_one};
pub(crate) use publish::{BenchSubscriber, publish, subscriber};
pub(crate) use queue::BenchConsumer;
pub(crate) use send::send;
pub(crate) use server::BenchServer;

/// Measure how fast it is here, with real peer processes and verified messages
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    Call(call::BenchCall),
    Send(send::BenchSend),
    Pub(publish::BenchPub),
    Queue(queue::BenchQueue),
    Idle(idle::BenchIdle),
}

#[derive(Args, Clone, Copy, Debug)]
struct Load {
    /// Bytes of each message
    #[arg(long, value_name = "N", default_value = "64", value_parser = values::size)]
    size: u64,
    /// Through the broker, never over a direct link
    #[arg(long)]
    brokered: bool,
    /// Look for messages for so long before sleeping (has no effect below four processors)
    #[arg(long, value_name = "D", default_value = "0", value_parser = values::duration)]
    spin: Duration,
}

impl Bench {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Call(command) => command.run(context),
            Self::Send(command) => command.run(context),
            Self::Pub(command) => command.run(context),
            Self::Queue(command) => command.run(context),
            Self::Idle(command) => command.run(context),
        }
    }
}

impl Load {
    /// The message size, if the broker passes such messages.
    fn message_bytes(&self, board: &switchboard::Board) -> Result<usize, Failure> {
        let most = board.payload_bytes_max();
        match usize::try_from(self.size) {
            Ok(size) if size <= most => Ok(size),
            _ => Err(Failure::usage(format_args!(
                "--size {} is more than the broker's limit of {most} bytes",
                self.size
            ))),
        }
    }

    /// Starts the process that receives the messages, and gives the name it serves.
    fn start_server(&self, context: &Context, window: u32) -> Result<(Peer, String), Failure> {
        let name = fresh_name();
        let mut server = Start::new("the bench's server", &context.socket().path)
            .args(["internal", "bench-server", &name, "--window", &window.to_string()])
            .args(["--spin", &switchboard_config::units::format_duration(self.spin)])
            .spawn()?;
        server.wait_ready()?;
        Ok((server, name))
    }
}

/// A name that nobody else uses.
fn fresh_name() -> String {
    format!("bench.p{}.{:x}", std::process::id(), switchboard_transport::clock::wall_ns())
}
