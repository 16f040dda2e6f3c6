//! What a bench found out.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::failure::Failure;
use crate::output::Output;
use crate::views;

/// The result of a bench, as `--json` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) what: String,
    /// How the messages went: `brokered`.
    pub(crate) path: String,
    pub(crate) size: u64,
    /// Messages that were sent, received and verified.
    pub(crate) count: u64,
    pub(crate) in_flight: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    pub(crate) mean_ns: u64,
    pub(crate) per_second: u64,
    /// Of a topic: processes that each receive and verify every message. `per_second` counts what all of
    /// them verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subscribers: Option<u32>,
    /// Of a queue: how safe an acknowledged push is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) level: Option<String>,
    /// The bare cost of filling and checking the bytes of one message.
    pub(crate) touch_ns: u64,
}

/// Times, from nanoseconds to minutes, to three digits.
pub(crate) struct Times {
    histogram: Histogram<u64>,
}

const LONGEST_NS: u64 = 3_600_000_000_000;

impl Times {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("constant bounds are valid");
        Self { histogram }
    }

    #[inline]
    pub(crate) fn record(&mut self, nanos: u64) {
        self.histogram.saturating_record(nanos.max(1));
    }

    /// Half of them took no longer.
    pub(crate) fn median_ns(&self) -> u64 {
        self.histogram.value_at_quantile(0.5)
    }

    /// All but one in a hundred took no longer.
    pub(crate) fn p99_ns(&self) -> u64 {
        self.histogram.value_at_quantile(0.99)
    }

    /// Puts the percentiles into a report.
    pub(crate) fn summarize(&self, report: &mut Report) {
        report.p50_ns = self.median_ns();
        report.p99_ns = self.p99_ns();
        report.p999_ns = self.histogram.value_at_quantile(0.999);
        report.mean_ns = self.histogram.mean() as u64;
    }
}

impl Report {
    pub(crate) fn new(what: &str, size: u64, in_flight: u64) -> Self {
        Self {
            what: what.to_owned(),
            path: "brokered".to_owned(),
            size,
            count: 0,
            in_flight,
            p50_ns: 0,
            p99_ns: 0,
            p999_ns: 0,
            mean_ns: 0,
            per_second: 0,
            subscribers: None,
            level: None,
            touch_ns: 0,
        }
    }

    /// Puts the rate into the report.
    pub(crate) fn rate(&mut self, count: u64, elapsed: Duration) {
        self.count = count;
        self.per_second = (count as f64 / elapsed.as_secs_f64().max(1e-9)) as u64;
    }

    pub(crate) fn print(&self, mut output: Output) -> Result<(), Failure> {
        if output.json() {
            output.object(self)?;
            return Ok(output.finish()?);
        }
        let Self { what, path, in_flight, .. } = self;
        output.line(format_args!("{what}, {path}, {}, {in_flight} in flight", views::bytes(self.size)))?;
        output.line(format_args!("  verified    {}", views::count(self.count)))?;
        if let Some(subscribers) = self.subscribers {
            output.line(format_args!("  by          {subscribers} subscribers"))?;
        }
        if let Some(level) = &self.level {
            output.line(format_args!("  safe to     {level}"))?;
        }
        output.line(format_args!("  per second  {}", views::count(self.per_second)))?;
        output.line(format_args!("  median      {}", views::time(self.p50_ns)))?;
        output.line(format_args!("  99 %        {}", views::time(self.p99_ns)))?;
        output.line(format_args!("  99.9 %      {}", views::time(self.p999_ns)))?;
        output.line(format_args!("  mean        {}", views::time(self.mean_ns)))?;
        output
            .line(format_args!("  of which    {} to fill and check the bytes", views::time(self.touch_ns)))?;
        Ok(output.finish()?)
    }
}
