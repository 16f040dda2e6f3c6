//! `switchboard describe`: all about one name.

use clap::Args;
use serde::Serialize;
use switchboard_protocol::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Columns, printable};
use crate::values;
use crate::views::{self, NameView, ServerView};

/// Show all about one name: its owner, who stands by, what waits
#[derive(Args, Debug)]
pub(crate) struct Describe {
    /// The name
    #[arg(value_parser = values::name)]
    name: Name,
}

#[derive(Serialize)]
struct DescriptionView {
    #[serde(flatten)]
    info: NameView,
    about: String,
    waiting: u32,
    handles: u32,
    servers: Vec<ServerView>,
}

impl Describe {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let found = board.describe(self.name.as_str())?;
        let view = DescriptionView {
            info: found.info.into(),
            about: found.about,
            waiting: found.waiting,
            handles: found.handles,
            servers: found.servers.into_iter().map(ServerView::from).collect(),
        };
        let mut output = context.output();
        if output.json() {
            output.object(&view)?;
            return Ok(output.finish()?);
        }
        output.line(format_args!("name      {}", view.info.name))?;
        output.line(format_args!("kind      {}, {}", view.info.kind, view.info.mode))?;
        output.line(format_args!("epoch     {}", views::epoch(view.info.epoch)))?;
        output.line(format_args!("waiting   {}", view.waiting))?;
        output.line(format_args!("handles   {}", view.handles))?;
        for (at, line) in view.about.lines().enumerate() {
            let head = if at == 0 { "about" } else { "" };
            output.line(format_args!("{head:<9} {}", printable(line)))?;
        }
        if view.servers.is_empty() {
            output.line("servers   none")?;
            return Ok(output.finish()?);
        }
        output.line("")?;
        let mut columns = Columns::new(["SERVER", "ROLE", ">PID", "PROGRAM", "USER", ">BUSY", ">ROOM"]);
        for server in view.servers {
            let role =
                if server.standby == 0 { "owner".to_owned() } else { format!("standby {}", server.standby) };
            columns.row([
                server.peer,
                role,
                server.pid.to_string(),
                server.program,
                views::user(server.uid),
                server.outstanding.to_string(),
                server.calls.to_string(),
            ]);
        }
        output.table(&columns)?;
        Ok(output.finish()?)
    }
}
