//! What can be said behind `tests/bench/run --scale`.

use crate::work;
use clap::ValueEnum as _;

/// Measures how Switchboard scales: starts, idle connections, names, long queues, many subscriptions, fan-out,
/// and calls beside a durable queue. Ratios, each the median of rounds in which both sides take turns.
#[derive(clap::Args, Debug)]
#[command(override_usage = "tests/bench/run --scale [OPTIONS]")]
pub struct Scale {
    /// Rounds in which every side takes its turn; the median counts [default: 11, with --quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// A tenth of everything, and fewer rounds: to see that all works, not to quote
    #[arg(long)]
    pub quick: bool,
    /// Only these measurements
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub only: Vec<What>,
    /// Run before everything else on the machine (SCHED_RR; takes root): where others work on it too
    #[arg(long)]
    pub first: bool,
    /// One JSON object a row instead of the table
    #[arg(long)]
    pub json: bool,
    /// Break something on purpose, to see that it is seen: the exit status must be 1
    #[arg(long, value_name = "FAULT", default_value = "none")]
    pub plant: Plant,
}

/// One measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum What {
    /// From exec to the answered hello.
    Start,
    /// Calls beside idle connections and names, and what those cost in memory.
    Idle,
    /// Pushes and pops at a long queue, and what it costs in memory.
    Queued,
    /// Publishing where there are many subscriptions by pattern.
    Patterns,
    /// The broker's processor time for a delivery.
    FanOut,
    /// Calls while a durable queue is filled.
    Filling,
    /// Calls a second by how many are in flight.
    InFlight,
}

impl What {
    /// Every measurement, in the order of the table.
    pub const ALL: [What; 7] =
        [What::Start, What::Idle, What::Queued, What::Patterns, What::FanOut, What::Filling, What::InFlight];

    /// As it is said behind `--only`.
    pub fn name(self) -> String {
        self.to_possible_value().expect("none is hidden").get_name().to_string()
    }
}

/// A fault planted to see this measuring fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Plant {
    /// None.
    #[default]
    None,
    /// One byte of one message of each measurement is changed.
    Corrupt,
    /// One message of each measurement is never sent.
    Lose,
    /// What is measured under load is slower and larger than it is: every goal must be missed.
    Burden,
}

impl Plant {
    /// What it does to messages.
    pub fn of_messages(self) -> work::Plant {
        match self {
            Plant::None | Plant::Burden => work::Plant::None,
            Plant::Corrupt => work::Plant::Corrupt,
            Plant::Lose => work::Plant::Lose,
        }
    }
}
