//! `switchboard list`: which names there are.

use clap::{Args, ValueEnum};
use switchboard_protocol::Pattern;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Columns;
use crate::values;
use crate::views::{self, NameView, or_dash};

/// List the names that there are, and who owns them
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Which names: `acme.*` is one label, `acme.**` one or more
    #[arg(value_parser = values::pattern, default_value = "**")]
    pattern: Pattern,
    /// Only objects of this kind
    #[arg(long)]
    kind: Option<KindArgument>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArgument {
    Service,
    Topic,
    Queue,
    Event,
}

impl List {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let mut output = context.output();
        let mut columns =
            Columns::new(["NAME", "KIND", "MODE", ">PID", "PROGRAM", "USER", ">OWNERS", ">STANDBY"]);
        for info in board.list(self.pattern.as_str()) {
            let view = NameView::from(info?);
            if !self.wants(&view) {
                continue;
            }
            if output.json() {
                output.object(&view)?;
                continue;
            }
            columns.row([
                view.name,
                view.kind.to_owned(),
                or_dash(view.mode),
                or_dash(view.pid),
                or_dash(view.program),
                or_dash(view.uid.map(views::user)),
                view.owners.to_string(),
                view.standby.to_string(),
            ]);
        }
        output.table(&columns)?;
        Ok(output.finish()?)
    }

    fn wants(&self, view: &NameView) -> bool {
        match self.kind {
            None => true,
            Some(KindArgument::Service) => view.kind == "service",
            Some(KindArgument::Topic) => view.kind == "topic",
            Some(KindArgument::Queue) => view.kind == "queue",
            Some(KindArgument::Event) => view.kind == "event",
        }
    }
}
