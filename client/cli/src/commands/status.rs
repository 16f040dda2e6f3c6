//! `switchboard status`: the broker at a glance.

use clap::Args;
use switchboard::control::Storage;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Columns, Output, printable};
use crate::views;

/// Show the broker at a glance: what is in use, the limits, and the memory they can cost
#[derive(Args, Debug)]
pub(crate) struct Status {}

impl Status {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let status = board.status()?;
        let mut output = context.output();
        if output.json() {
            output.object(&status)?;
            return Ok(output.finish()?);
        }
        let instance = if status.system { "the system's" } else { "a user's" };
        output.line(format_args!(
            "broker       switchboard {}, {instance}, pid {}",
            status.version, status.pid
        ))?;
        output.line(format_args!("socket       {}", context.socket().path.display()))?;
        output.line(format_args!(
            "up           {}, incarnation {}",
            views::time(status.uptime_ns),
            status.incarnation
        ))?;
        output.line(format_args!("connections  {}", views::count(status.connections.into())))?;
        output.line(format_args!(
            "names        {}, {} of them owned",
            views::count(status.names.into()),
            views::count(status.names_owned.into())
        ))?;
        output.line(format_args!("handles      {}", views::count(status.handles.into())))?;
        output.line(format_args!("open calls   {}", views::count(status.calls_open.into())))?;
        output.line(format_args!(
            "waiting      {} messages, {}",
            views::count(status.waiting.into()),
            views::bytes(status.waiting_bytes)
        ))?;
        output.line(format_args!("watches      {}", views::count(status.watches.into())))?;
        output
            .line(format_args!("topics       {} subscriptions", views::count(status.subscriptions.into())))?;
        output.line(format_args!(
            "queues       {} messages, {}",
            views::count(status.queued),
            views::bytes(status.queued_bytes)
        ))?;
        print_storage(&status.storage, &mut output)?;
        let recorder = &status.recorder;
        if !recorder.failure.is_empty() {
            output.line(format_args!("recorder     stopped: {}", recorder.failure))?;
        } else if recorder.bytes > 0 {
            output.line(format_args!(
                "recorder     {}{}, file {}, longest pause {}",
                views::bytes(recorder.bytes),
                if recorder.payloads { " with payloads" } else { "" },
                recorder.file,
                views::time(recorder.pause_ns)
            ))?;
        }
        output.line("")?;
        let mut limits = Columns::new(["LIMIT", ">IN USE", ">AT MOST", ">MEMORY"]);
        for limit in &status.limits {
            limits.row([
                limit.name.clone(),
                views::limit(&limit.name, limit.used),
                views::limit(&limit.name, limit.value),
                if limit.bytes == 0 { "-".to_owned() } else { views::bytes(limit.bytes) },
            ]);
        }
        limits.row([
            "all in the worst case".to_owned(),
            String::new(),
            String::new(),
            views::bytes(status.memory_bytes_max),
        ]);
        output.table(&limits)?;
        let mut counters = Columns::new(["SINCE THE START", ">COUNT"]);
        for counter in &status.counters {
            counters.row([counter.name.clone(), views::count(counter.value)]);
        }
        if !status.counters.is_empty() {
            output.line("")?;
        }
        output.table(&counters)?;
        Ok(output.finish()?)
    }
}

/// The log of durable things.
fn print_storage(storage: &Storage, output: &mut Output) -> Result<(), Failure> {
    if !storage.failure.is_empty() {
        let why = printable(storage.failure.trim_end());
        return Ok(output.line(format_args!("storage      READ ONLY, nothing durable is taken: {why}"))?);
    }
    if storage.appended == 0 {
        return Ok(output.line("storage      nothing durable so far")?);
    }
    Ok(output.line(format_args!(
        "storage      {} records, {} of them synced; {} in segments {} to {}",
        views::count(storage.appended),
        views::count(storage.synced),
        views::bytes(storage.bytes),
        storage.segment_first,
        storage.segment_last
    ))?)
}
