//! `switchboard replay`: does once more what a recorded broker did.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;
use switchboard_broker::replay::{self, Finding, ReplayError, Report};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Output, note, printable};
use crate::views;

/// Replay a flight recording: tell a broker's core again what it was told, and compare what it does
///
/// Exits 0 if all came out as it was recorded, 1 where it diverged or the recording is damaged, 2 if it is
/// no recording or of another build. Only the build that made a recording can replay it.
#[derive(Args, Debug)]
pub(crate) struct Replay {
    /// A file of the recording, or the folder with all of them: `recorder` in the broker's state directory
    #[arg(value_name = "FILE")]
    path: PathBuf,
}

#[derive(Serialize)]
struct ReplayView<'a> {
    same: bool,
    files: Vec<String>,
    brokers: u32,
    payloads: bool,
    first_input: u64,
    inputs: u64,
    peers: u64,
    from_ns: u64,
    to_ns: u64,
    from_wall_ns: u64,
    unanswered: Option<UnansweredView<'a>>,
    finding: Option<FindingView<'a>>,
}

#[derive(Serialize)]
struct UnansweredView<'a> {
    input: u64,
    at_ns: u64,
    what: &'a str,
    panic: Option<&'a str>,
}

#[derive(Serialize)]
struct FindingView<'a> {
    kind: &'static str,
    file: String,
    input: u64,
    at_ns: Option<u64>,
    offset: Option<u64>,
    what: &'a str,
}

impl Replay {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        // A core that panics in a replay is a finding, told below.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let replayed = replay::replay(&self.path);
        std::panic::set_hook(hook);
        let report = replayed.map_err(|error| match error {
            ReplayError::NoRecording { .. } | ReplayError::OtherBuild { .. } | ReplayError::Io { .. } => {
                Failure::usage(error)
            }
        })?;
        let mut output = context.output();
        if output.json() {
            output.object(&ReplayView::from(&report))?;
        } else {
            show(&mut output, &report)?;
        }
        output.finish()?;
        match &report.finding {
            None => Ok(()),
            Some(finding) => Err(Failure::ended(printable(&finding.to_string()))),
        }
    }
}

fn show(output: &mut Output, report: &Report) -> Result<(), Failure> {
    for file in &report.files {
        output.line(format_args!("file    {}", file.display()))?;
    }
    let what = if report.payloads { "with payloads" } else { "without payloads" };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let ago = views::time(now.saturating_sub(report.from_wall_ns));
    output.line(format_args!("began   {ago} ago, {what}"))?;
    if report.brokers > 1 {
        output.line(format_args!("brokers {}, one after the other", report.brokers))?;
    }
    output.line(format_args!("time    {}", views::time(report.to_ns.saturating_sub(report.from_ns))))?;
    output.line(format_args!("peers   {}", views::count(report.peers)))?;
    output.line(format_args!(
        "inputs  {}, from number {}",
        views::count(report.inputs),
        report.first_input
    ))?;
    if report.finding.is_none() {
        output.line("same    every effect came out as it was recorded")?;
    }
    if let Some(last) = &report.unanswered {
        note(format_args!(
            "the broker ended while it handled input {} (broker time {} ns): {}",
            last.input,
            last.at_ns,
            printable(&last.what)
        ));
        if let Some(panic) = &last.panic {
            note(format_args!("told that, the core panics: {}", printable(panic)));
        }
    }
    Ok(())
}

impl<'a> From<&'a Report> for ReplayView<'a> {
    fn from(report: &'a Report) -> Self {
        Self {
            same: report.finding.is_none(),
            files: report.files.iter().map(|file| file.display().to_string()).collect(),
            brokers: report.brokers,
            payloads: report.payloads,
            first_input: report.first_input,
            inputs: report.inputs,
            peers: report.peers,
            from_ns: report.from_ns,
            to_ns: report.to_ns,
            from_wall_ns: report.from_wall_ns,
            unanswered: report.unanswered.as_ref().map(|last| UnansweredView {
                input: last.input,
                at_ns: last.at_ns,
                what: &last.what,
                panic: last.panic.as_deref(),
            }),
            finding: report.finding.as_ref().map(FindingView::from),
        }
    }
}

impl<'a> From<&'a Finding> for FindingView<'a> {
    fn from(finding: &'a Finding) -> Self {
        match finding {
            Finding::Diverged { file, input, at_ns, what } => Self {
                kind: "diverged",
                file: file.display().to_string(),
                input: *input,
                at_ns: Some(*at_ns),
                offset: None,
                what,
            },
            Finding::Damaged { file, input, offset, what } => Self {
                kind: "damaged",
                file: file.display().to_string(),
                input: *input,
                at_ns: None,
                offset: Some(*offset),
                what,
            },
        }
    }
}
