//! The commands, one file each.

mod bench;
mod call;
mod completions;
mod config;
mod demo;
mod describe;
mod echo;
mod event;
mod internal;
mod list;
mod man;
mod monitor;
mod policy;
mod publish;
mod queue;
mod reload;
mod replay;
mod send;
mod serve;
mod stats;
mod status;
mod subscribe;
mod wait;
mod waits;
mod watch;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Failure;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Demo),
    Call(call::Call),
    Send(send::Send),
    Serve(serve::Serve),
    Echo(echo::Echo),
    Pub(publish::Publish),
    Sub(subscribe::Subscribe),
    #[command(subcommand)]
    Queue(queue::Queue),
    #[command(subcommand)]
    Event(event::Event),
    List(list::List),
    Describe(describe::Describe),
    Wait(wait::Wait),
    Watch(watch::Watch),
    Status(status::Status),
    Stats(stats::Stats),
    Monitor(monitor::Monitor),
    Waits(waits::Waits),
    #[command(subcommand)]
    Policy(policy::Policy),
    #[command(subcommand)]
    Config(config::Config),
    Reload(reload::Reload),
    Replay(replay::Replay),
    #[command(subcommand)]
    Bench(bench::Bench),
    Completions(completions::Completions),
    Man(man::Man),
    #[command(subcommand, hide = true)]
    Internal(internal::Internal),
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Demo(command) => command.run(context),
            Self::Call(command) => command.run(context),
            Self::Send(command) => command.run(context),
            Self::Serve(command) => command.run(context),
            Self::Echo(command) => command.run(context),
            Self::Pub(command) => command.run(context),
            Self::Sub(command) => command.run(context),
            Self::Queue(command) => command.run(context),
            Self::Event(command) => command.run(context),
            Self::List(command) => command.run(context),
            Self::Describe(command) => command.run(context),
            Self::Wait(command) => command.run(context),
            Self::Watch(command) => command.run(context),
            Self::Status(command) => command.run(context),
            Self::Stats(command) => command.run(context),
            Self::Monitor(command) => command.run(context),
            Self::Waits(command) => command.run(context),
            Self::Policy(command) => command.run(context),
            Self::Config(command) => command.run(context),
            Self::Reload(command) => command.run(context),
            Self::Replay(command) => command.run(context),
            Self::Bench(command) => command.run(context),
            Self::Completions(command) => command.run(context),
            Self::Man(command) => command.run(context),
            Self::Internal(command) => command.run(context),
        }
    }
}
