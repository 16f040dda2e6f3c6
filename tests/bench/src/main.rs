//! The competitive benchmark: Switchboard beside other message systems and beside the bare machine.
//! See README.md for what is measured and how.

mod args;
mod candidate;
mod floor;
mod goals;
mod leftovers;
mod others;
mod payload;
mod peer;
mod process;
mod results;
mod rounds;
mod scale;
mod stream;
mod table;
mod work;

use crate::candidate::Candidate;
use anyhow::{Result, ensure};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::Args::parse();
    process::notice_interrupts();
    let measured = match &args.other {
        Some(args::Other::Scale(scale)) => scale::run(scale),
        None => bench(&args),
    };
    match measured {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("bench: {why:#}");
            ExitCode::from(1)
        }
    }
}

/// Measures and prints; says whether all that was asked for was measured.
fn bench(args: &args::Args) -> Result<bool> {
    let candidates = candidates(args)?;
    leftovers::remove_stale();
    let results = rounds::measure_all(&candidates, args)?;
    let goals = goals::judge(&results);
    if args.json {
        table::print_json(&results, &goals);
    } else {
        table::print(&results, &goals, args);
    }
    Ok(results.is_complete())
}

/// Everything that can be measured, in the order of the table, less what was not asked for.
fn candidates(args: &args::Args) -> Result<Vec<Box<dyn Candidate>>> {
    let bin_dir = std::env::var_os("SWITCHBOARD_BIN_DIR").map(Into::into);
    let build_error = std::env::var("SWITCHBOARD_BUILD_ERROR").ok();
    let all: Vec<Box<dyn Candidate>> = vec![
        Box::new(floor::spin::Spin),
        Box::new(floor::eventfd::Eventfd),
        Box::new(floor::unix::UnixStream),
        Box::new(floor::relay::Relay),
        Box::new(floor::fdatasync::Fdatasync),
        Box::new(peer::switchboard::Switchboard::new(bin_dir, build_error)),
        Box::new(peer::dbus_broker::DbusBroker),
        Box::new(peer::dbus_daemon::DbusDaemon),
        Box::new(peer::nats::Nats),
        Box::new(peer::jetstream::JetStream),
        Box::new(peer::redis::Redis),
        Box::new(peer::zeromq::ZeroMq),
        Box::new(peer::mosquitto::Mosquitto),
        Box::new(peer::iceoryx::Iceoryx::blocking()),
        Box::new(peer::iceoryx::Iceoryx::spinning()),
    ];
    let names: Vec<&str> = all.iter().map(|candidate| candidate.name()).collect();
    for name in args.only.iter().chain(&args.skip) {
        ensure!(
            names.contains(&name.as_str()),
            "no candidate is called {name}; there are {}",
            names.join(", ")
        );
    }
    Ok(all
        .into_iter()
        .filter(|candidate| args.wants(candidate.name()))
        .filter(|candidate| !(args.only_peers && candidate.kind() == candidate::Kind::Switchboard))
        .collect())
}
