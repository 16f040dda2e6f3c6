//! `switchboard watch`: who comes and who goes.

use clap::Args;
use serde::Serialize;
use switchboard::Change;
use switchboard_protocol::Pattern;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{note, printable};
use crate::values;
use crate::views::{self, NameView, or_dash};

/// Print the owners of names, and then every change, a line each
///
/// A line is `present`, `owned` or `gone`, the name, its epoch, and the owner's pid and program, with tabs
/// between. When all that was there has been printed, stderr says `watching`.
#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// Which names: `acme.*` is one label, `acme.**` one or more
    #[arg(value_parser = values::pattern)]
    pattern: Pattern,
}

#[derive(Serialize)]
struct ChangeView {
    change: &'static str,
    #[serde(flatten)]
    info: NameView,
}

impl Watch {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let mut output = context.output();
        for change in board.watch(self.pattern.as_str())? {
            let (what, info) = match change? {
                Change::Present(info) => ("present", info),
                Change::Owned(info) => ("owned", info),
                Change::Gone(info) => ("gone", info),
                Change::SnapshotEnd => {
                    output.flush()?;
                    note("watching");
                    continue;
                }
                // Only after a reconnect, and of what this version does not know.
                _ => continue,
            };
            let view = ChangeView { change: what, info: info.into() };
            if output.json() {
                output.object(&view)?;
            } else {
                let ChangeView { change, info } = view;
                let program = or_dash(info.program.as_deref().map(printable));
                let epoch = views::epoch(info.epoch);
                output.line(format_args!(
                    "{change}\t{}\t{epoch}\t{}\t{program}",
                    info.name,
                    or_dash(info.pid)
                ))?;
            }
            output.flush()?;
        }
        Ok(output.finish()?)
    }
}
