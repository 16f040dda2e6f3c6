//! What the demo prints: a line a step.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::failure::Failure;
use crate::output::Output;
use crate::views;

/// A step that held: what was seen, and how long it took where that says something.
pub(crate) struct Held {
    pub(crate) seen: String,
    pub(crate) took: Option<Duration>,
}

pub(crate) struct Report {
    output: Output,
    steps: usize,
    failed: Vec<&'static str>,
}

#[derive(Serialize)]
struct StepView<'s> {
    step: &'s str,
    held: bool,
    seen: &'s str,
    took_ns: Option<u64>,
}

impl Held {
    pub(crate) fn new(seen: impl Into<String>, took: Duration) -> Self {
        Self { seen: seen.into(), took: Some(took) }
    }

    pub(crate) fn untimed(seen: impl Into<String>) -> Self {
        Self { seen: seen.into(), took: None }
    }
}

impl Report {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, steps: 0, failed: Vec::new() }
    }

    pub(crate) fn begin(&mut self, folder: &Path) -> Result<(), Failure> {
        if !self.output.json() {
            let folder = folder.display();
            self.output
                .line(format_args!("A private broker in {folder}, services as processes of their own.\n"))?;
            self.output.flush()?;
        }
        Ok(())
    }

    pub(crate) fn step(&mut self, title: &'static str, held: Result<Held, Failure>) -> Result<(), Failure> {
        self.steps += 1;
        let (held, is_held) = match held {
            Ok(held) => (held, true),
            Err(why) => (Held::untimed(why.message().trim_end()), false),
        };
        if !is_held {
            self.failed.push(title);
        }
        let took_ns = held.took.map(|took| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if self.output.json() {
            self.output.object(&StepView { step: title, held: is_held, seen: &held.seen, took_ns })?;
        } else {
            let mark = if is_held { "ok" } else { "FAILED" };
            let took = took_ns.map(views::time).unwrap_or_default();
            let line = format!("  {mark:<6} {title:<14} {:<60} {took:>8}", held.seen);
            self.output.line(line.trim_end())?;
        }
        Ok(self.output.flush()?)
    }

    pub(crate) fn finish(mut self, took: Duration) -> Result<(), Failure> {
        if !self.failed.is_empty() {
            let (count, steps, which) = (self.failed.len(), self.steps, self.failed.join(", "));
            return Err(Failure::ended(format_args!(
                "Failed: {count} of {steps} steps did not hold: {which}"
            )));
        }
        if !self.output.json() {
            self.output.line(format_args!("\nAll of it held, in {:.1} s.", took.as_secs_f64()))?;
        }
        Ok(self.output.finish()?)
    }
}
