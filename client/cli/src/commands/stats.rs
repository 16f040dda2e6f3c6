//! `switchboard stats`: every connection and what it has done.

use clap::Args;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Columns;
use crate::views::{self, PeerView};

/// Show every connection and what it has done (needs the right `admin`)
#[derive(Args, Debug)]
pub(crate) struct Stats {}

impl Stats {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let mut output = context.output();
        let mut columns = Columns::new([
            "PEER",
            ">PID",
            "PROGRAM",
            "USER",
            ">FRAMES IN",
            ">BYTES IN",
            ">FRAMES OUT",
            ">BYTES OUT",
            ">CALLS",
            ">SERVING",
            ">UNREAD",
            ">HANDLES",
        ]);
        for stats in board.stats() {
            let view = PeerView::from(stats?);
            if output.json() {
                output.object(&view)?;
                continue;
            }
            columns.row([
                view.peer,
                view.pid.to_string(),
                view.program,
                views::user(view.uid),
                views::count(view.frames_in),
                views::bytes(view.bytes_in),
                views::count(view.frames_out),
                views::bytes(view.bytes_out),
                view.calls_open.to_string(),
                view.serving.to_string(),
                views::bytes(view.unread_bytes),
                view.handles.to_string(),
            ]);
        }
        output.table(&columns)?;
        Ok(output.finish()?)
    }
}
