//! `switchboard event`: flags that are never lost, and pulses.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use switchboard::{Outcome, Raised};
use switchboard_protocol::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::note;
use crate::values;

/// Raise the flags of an event, send it pulses, wait for either
///
/// An event comes into being when it is first used, and holds what nobody has waited for yet.
#[derive(Debug, Subcommand)]
pub(crate) enum Event {
    Raise(Raise),
    Wait(Wait),
    Pulse(Pulse),
}

/// Set flags of an event; those that are set already stay so
#[derive(Args, Debug)]
pub(crate) struct Raise {
    /// The event's name
    #[arg(value_parser = values::name)]
    name: Name,
    /// The flags as one number: 5 or 0x5 are the first and the third
    #[arg(value_parser = values::bits)]
    bits: u64,
}

/// Wait until a flag is set or a pulse comes, take it, and print it
///
/// Flags are printed as one number, a pulse as its code, a tab, its value. Pulses that found no room
/// are told on stderr: `Lost N pulses`.
#[derive(Args, Debug)]
pub(crate) struct Wait {
    /// The event's name
    #[arg(value_parser = values::name)]
    name: Name,
    /// How long at most; 0 for no limit
    #[arg(long, value_name = "D", default_value = "0", value_parser = values::duration)]
    timeout: Duration,
    /// Only for these flags, and for no pulse [default: all flags, and pulses]
    #[arg(long, value_name = "BITS", value_parser = values::bits)]
    mask: Option<u64>,
}

/// Send an event a pulse: a code and a value
#[derive(Args, Debug)]
pub(crate) struct Pulse {
    /// The event's name
    #[arg(value_parser = values::name)]
    name: Name,
    /// What it is about
    code: u32,
    /// What it says
    value: u64,
    /// 0 (least) to 7: which pulse is taken first; policy caps it
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u8).range(0..=7))]
    priority: u8,
}

#[derive(Serialize)]
struct RaisedView {
    bits: u64,
    code: Option<u32>,
    value: Option<u64>,
    /// Pulses that found no room.
    lost: u64,
}

impl Event {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Raise(command) => command.run(context),
            Self::Wait(command) => command.run(context),
            Self::Pulse(command) => command.run(context),
        }
    }
}

impl Raise {
    fn run(self, context: &Context) -> Result<(), Failure> {
        Ok(context.connect()?.event(self.name.as_str()).raise(self.bits)?)
    }
}

impl Pulse {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let event = context.connect()?.event(self.name.as_str());
        Ok(event.pulse_with_priority(self.priority, self.code, self.value)?)
    }
}

impl Wait {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let event = context.connect()?.event(self.name.as_str());
        let (mask, pulses) = (self.mask.unwrap_or(u64::MAX), self.mask.is_none());
        let raised = match values::limit(self.timeout) {
            None => event.wait_any(mask, pulses)?,
            Some(timeout) => event.wait_any_timeout(mask, pulses, timeout)?.ok_or_else(|| {
                let what = if pulses {
                    "no flag was raised and no pulse came"
                } else {
                    "none of the flags was raised"
                };
                Failure::ended(format_args!("{}: {what} in {timeout:?}", Outcome::DeadlineExceeded))
            })?,
        };
        print(&raised, context)
    }
}

fn print(raised: &Raised, context: &Context) -> Result<(), Failure> {
    let mut output = context.output();
    let pulse = raised.pulse;
    if output.json() {
        output.object(&RaisedView {
            bits: raised.bits,
            code: pulse.map(|pulse| pulse.code),
            value: pulse.map(|pulse| pulse.value),
            lost: raised.overflow,
        })?;
    } else {
        if raised.bits != 0 {
            output.line(raised.bits)?;
        }
        if let Some(pulse) = pulse {
            output.line(format_args!("{}\t{}", pulse.code, pulse.value))?;
        }
    }
    output.finish()?;
    if raised.overflow > 0 {
        note(format_args!("Lost {} pulses", raised.overflow));
    }
    Ok(())
}
