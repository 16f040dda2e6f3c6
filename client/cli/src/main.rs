//! switchboard: the Switchboard command line.

mod arguments;
mod children;
mod commands;
mod context;
mod exec;
mod failure;
mod lines;
mod output;
mod serving;
mod values;
mod views;

use std::process::ExitCode;

fn main() -> ExitCode {
    failure::quiet_panics();
    let ended = std::panic::catch_unwind(|| match arguments::parse() {
        Ok((context, command)) => command.run(&context),
        Err(failure) => Err(failure),
    });
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.report(),
        // The hook has said what happened.
        Err(_) => ExitCode::from(failure::ENDED_OTHERWISE),
    }
}
