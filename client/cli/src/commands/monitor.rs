//! `switchboard monitor`: traffic, as it passes.

use std::collections::HashMap;

use clap::Args;
use serde::Serialize;
use switchboard_protocol::control::MonitorItem;
use switchboard_protocol::{Kind, Outcome, Pattern};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{note, printable};
use crate::values;
use crate::views;

/// Print traffic as it passes (needs the right `monitor`; the broker logs who does)
///
/// Traffic is never slowed: what could not be shown in time is counted, and stderr says `Lost COUNT`.
#[derive(Args, Debug)]
pub(crate) struct Monitor {
    /// Of which names: `acme.*` is one label, `acme.**` one or more
    #[arg(value_parser = values::pattern, default_value = "**")]
    pattern: Pattern,
    /// Show so many bytes of each payload
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = clap::value_parser!(u32).range(0..=4096))]
    payload: u32,
}

#[derive(Serialize)]
struct ItemView {
    /// Frames that could not be shown before this one.
    lost: u64,
    at_ns: u64,
    kind: &'static str,
    from: String,
    /// Null where it waits for a server, or was refused.
    to: Option<String>,
    name: String,
    method: Option<String>,
    outcome: Option<&'static str>,
    request: Option<u64>,
    priority: u8,
    payload_len: u32,
    /// The beginning of the payload as text; bytes that are none are written `\\xNN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
}

impl Monitor {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let mut output = context.output();
        let mut began = HashMap::new();
        let mut first_ns = None;
        let monitor = board.monitor(self.pattern.as_str(), self.payload)?;
        note("monitoring");
        for item in monitor {
            let view = view(item?, self.payload > 0);
            if view.lost > 0 {
                note(format_args!("Lost {}", view.lost));
            }
            if output.json() {
                output.object(&view)?;
            } else {
                let since_first = view.at_ns.saturating_sub(*first_ns.get_or_insert(view.at_ns));
                output.line(line(&view, since_first, took(&mut began, &view)))?;
            }
            output.flush()?;
        }
        Ok(output.finish()?)
    }
}

fn view(item: MonitorItem, with_payload: bool) -> ItemView {
    let kind = Kind::from_wire(item.kind);
    let is_outcome = kind == Some(Kind::Outcome);
    let takes_method = matches!(kind, Some(Kind::Call | Kind::Send));
    let method = match item.method_name.as_str() {
        "" => item.method.to_string(),
        name => name.to_owned(),
    };
    ItemView {
        lost: item.lost,
        at_ns: item.at_ns,
        kind: kind.map_or("unknown", kind_word),
        from: views::peer(item.from),
        to: (item.to != 0).then(|| views::peer(item.to)),
        name: item.name,
        method: takes_method.then_some(method),
        outcome: is_outcome.then(|| Outcome::from_wire(item.method).as_str()),
        request: (item.request != 0).then_some(item.request),
        priority: item.priority,
        payload_len: item.payload_len,
        payload: with_payload.then(|| item.payload.escape_ascii().to_string()),
    }
}

const fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Hello => "hello",
        Kind::Welcome => "welcome",
        Kind::Goodbye => "goodbye",
        Kind::Call => "call",
        Kind::Send => "send",
        Kind::Reply => "reply",
        Kind::Outcome => "outcome",
        Kind::Cancel => "cancel",
        Kind::Item => "item",
        Kind::Credit => "credit",
        Kind::Event => "event",
    }
}

/// Calls whose end is awaited, to say how long they took; forgotten when there are too many, since ends
/// can be lost.
const OPEN_MAX: usize = 10_000;

/// How long the call took that this frame ends.
fn took(began: &mut HashMap<u64, u64>, view: &ItemView) -> Option<u64> {
    let request = view.request?;
    match view.kind {
        "call" => {
            if began.len() >= OPEN_MAX {
                began.clear();
            }
            began.entry(request).or_insert(view.at_ns);
            None
        }
        "reply" | "outcome" => began.remove(&request).map(|start| view.at_ns.saturating_sub(start)),
        _ => None,
    }
}

fn line(view: &ItemView, since_first: u64, took: Option<u64>) -> String {
    let ItemView { kind, from, to, name, method, outcome, priority, payload_len, payload, .. } = view;
    let seconds = since_first as f64 / 1e9;
    let to = to.as_deref().unwrap_or("-");
    let name = if name.is_empty() { "(private)" } else { name };
    let mut line = format!("{seconds:12.6}  {kind:<7}  {from} > {to}  {}  {payload_len} B", printable(name));
    if let Some(method) = method.as_deref().filter(|method| *method != "0") {
        line += &format!("  method {}", printable(method));
    }
    if *priority > 0 {
        line += &format!("  priority {priority}");
    }
    if let Some(outcome) = outcome {
        line += &format!("  {outcome}");
    }
    if let Some(took) = took {
        line += &format!("  after {}", views::time(took));
    }
    if let Some(payload) = payload.as_deref().filter(|payload| !payload.is_empty()) {
        line += &format!("  \"{payload}\"");
    }
    line
}
