//! What `demo` and `bench` start of this same executable. No surface: it changes as they do.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::bench::{BenchConsumer, BenchServer, BenchSubscriber};
use super::demo::{DemoConsumer, DemoWorker};
use crate::context::Context;
use crate::failure::Failure;

/// What `demo` and `bench` start of this same executable
#[derive(Debug, Subcommand)]
pub(crate) enum Internal {
    Broker(Broker),
    BenchServer(BenchServer),
    BenchSubscriber(BenchSubscriber),
    BenchConsumer(BenchConsumer),
    DemoWorker(DemoWorker),
    DemoConsumer(DemoConsumer),
}

/// Run a broker
#[derive(Args, Debug)]
pub(crate) struct Broker {
    #[arg(long)]
    config: PathBuf,
    #[arg(long)]
    state_dir: PathBuf,
}

impl Internal {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Broker(command) => command.run(context),
            Self::BenchServer(command) => command.run(context),
            Self::BenchSubscriber(command) => command.run(context),
            Self::BenchConsumer(command) => command.run(context),
            Self::DemoWorker(command) => command.run(context),
            Self::DemoConsumer(command) => command.run(context),
        }
    }
}

impl Broker {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let options = switchboard_broker::Options {
            socket: Some(context.socket().path),
            config: Some(self.config),
            state_dir: Some(self.state_dir),
            ..switchboard_broker::Options::default()
        };
        switchboard_broker::run(&options).map_err(Failure::ended)
    }
}
