//! `switchboard waits`: who waits on whom, since when, and where that goes in a circle.

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Columns, note};
use crate::views::{self, WaitView};

/// Show who waits on whom and since when; name every deadlock (needs the right `admin`)
#[derive(Args, Debug)]
pub(crate) struct Waits {}

/// A circle of peers, each waiting on the next and the last on the first.
#[derive(Serialize)]
struct DeadlockView {
    deadlock: Vec<String>,
}

impl Waits {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let waits = board.waits()?;
        let mut output = context.output();
        let edges: Vec<_> = waits.edges.into_iter().map(WaitView::from).collect();
        let cycles: Vec<Vec<String>> =
            waits.cycles.into_iter().map(|cycle| cycle.into_iter().map(views::peer).collect()).collect();
        if output.json() {
            for edge in &edges {
                output.object(edge)?;
            }
            for deadlock in cycles {
                output.object(&DeadlockView { deadlock })?;
            }
            return Ok(output.finish()?);
        }
        for cycle in &cycles {
            let mut around: Vec<_> = cycle.iter().map(|peer| named(peer, &edges)).collect();
            around.extend(around.first().cloned());
            output.line(format_args!("deadlock: {}", around.join(" waits on ")))?;
        }
        if !cycles.is_empty() {
            output.line("")?;
        }
        let mut columns = Columns::new(["CALLER", ">SINCE", "NAME", "SERVER", ">LEFT", ">PRIORITY"]);
        for edge in edges {
            let server = match (edge.server, edge.server_program, edge.server_pid) {
                (Some(peer), Some(program), Some(pid)) => format!("{peer} {program} ({pid})"),
                _ => "waits for a server".to_owned(),
            };
            columns.row([
                format!("{} {} ({})", edge.caller, edge.caller_program, edge.caller_pid),
                views::time(edge.age_ns),
                if edge.name.is_empty() { "(private)".to_owned() } else { edge.name },
                server,
                edge.left_ns.map_or_else(|| "no limit".to_owned(), views::time),
                edge.priority.to_string(),
            ]);
        }
        output.table(&columns)?;
        output.finish()?;
        if waits.truncated {
            note("more calls are open than are shown");
        }
        Ok(())
    }
}

/// A peer of a circle with its program, which some edge knows.
fn named(peer: &String, edges: &[WaitView]) -> String {
    let known = edges.iter().find(|edge| edge.caller == *peer);
    known.map_or_else(|| peer.clone(), |edge| format!("{peer} {} ({})", edge.caller_program, edge.caller_pid))
}
