//! The command line.

use crate::work::Plant;
use clap::Parser;
use std::time::Duration;

/// Measures Switchboard beside its peers and beside the bare machine, all in one go.
///
/// Every candidate does the same work: calls of 64 B one at a time and 64 in flight, 64 B one way, and
/// calls of 1 MiB; those that can, publish to one and to 100 subscribers, move messages through a queue, and
/// make them durable. All load comes from separate processes, every message is verified where it arrives,
/// candidates take turns in every round, and the median of the rounds is reported, both with all processes
/// of a candidate on one core (pinned) and left to the kernel (free).
#[derive(Parser, Debug)]
#[command(name = "tests/bench/run", after_help = AFTER, args_conflicts_with_subcommands = true)]
#[command(disable_help_subcommand = true)]
pub struct Args {
    /// Something else than the comparison
    #[command(subcommand)]
    pub other: Option<Other>,
    /// Rounds in which every candidate takes its turn; the median counts [default: 5, with --quick 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Shorter measurements and fewer rounds: to see that all works, not to quote
    #[arg(long)]
    pub quick: bool,
    /// Only these candidates, e.g. relay,nats,switchboard
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub only: Vec<String>,
    /// All but these candidates
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub skip: Vec<String>,
    /// Only the floors and the peers; Switchboard is neither built nor measured
    #[arg(long)]
    pub only_peers: bool,
    /// Only one of the two modes
    #[arg(long, value_name = "MODE")]
    pub mode: Option<crate::candidate::Mode>,
    /// One JSON object a row instead of the table
    #[arg(long)]
    pub json: bool,
    /// Break one message on purpose, to see that the bench fails
    #[arg(long, value_name = "FAULT", default_value = "none")]
    pub plant: Plant,
}

/// What else the script does.
#[derive(clap::Subcommand, Debug)]
pub enum Other {
    /// How Switchboard scales: tests/bench/run --scale
    Scale(crate::scale::args::Scale),
}

const AFTER: &str = "\
The script run also takes --install: gets missing peers from Debian first.
SWITCHBOARD_BIN_DIR names a folder with switchboardd and switchboard; without it they are built.

Exit status: 0 all that was asked for was measured; 1 something failed, or Switchboard is not there
(unless --only-peers); 2 wrong usage. A goal that was missed, or a peer that is not installed, is printed
and no failure.";

impl Args {
    /// How many rounds.
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 })
    }

    /// Time before what counts.
    pub fn warm(&self) -> Duration {
        Duration::from_millis(if self.quick { 20 } else { 60 })
    }

    /// Time that counts.
    pub fn measure(&self) -> Duration {
        Duration::from_millis(if self.quick { 120 } else { 400 })
    }

    /// Whether a candidate was asked for.
    pub fn wants(&self, name: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|entry| entry == name);
        (self.only.is_empty() || named(&self.only)) && !named(&self.skip)
    }
}
