//! `switchboard demo`: a private broker and services as real processes, and what Switchboard promises of
//! calls, topics, queues and events shown and checked on them, one step after the other.

mod consumer;
mod messages;
mod report;
mod stage;
mod steps;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::context::Context;
use crate::failure::Failure;
pub(crate) use consumer::DemoConsumer;
use report::Report;
use stage::Stage;
pub(crate) use worker::DemoWorker;

/// Show what Switchboard does: a private broker, services as real processes, every promise checked
///
/// The broker runs in a temporary folder (TMPDIR) and is gone afterwards, with all that was started. Exit
/// status 0 only if every step held.
#[derive(Args, Debug)]
pub(crate) struct Demo {}

impl Demo {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(Failure::ended)?;
        }
        let start = Instant::now();
        let mut report = Report::new(context.output());
        let (mut stage, started) = Stage::start()?;
        report.begin(stage.folder())?;
        report.step("a broker", Ok(started))?;
        for (title, step) in steps::STEPS {
            if interrupted.load(Ordering::Relaxed) {
                return Err(Failure::ended("Cancelled: the demo was interrupted"));
            }
            let held = step(&mut stage);
            // What was killed under our hands says nothing of the promise.
            if !interrupted.load(Ordering::Relaxed) {
                report.step(title, held)?;
            }
        }
        report.step("the end", stage.end())?;
        report.finish(start.elapsed())
    }
}
