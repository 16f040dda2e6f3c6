//! `switchboard describe`: all about one name, whatever it stands for.

use clap::Args;
use serde::Serialize;
use switchboard::{Board, CallError, Outcome, TopicInfo};
use switchboard_protocol::{Name, ObjectKind};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Columns, Output, note, printable};
use crate::values;
use crate::views::{self, NameView, QueueView, ServerView};

/// Show all about one name: of a service its owner, who stands by, what waits; of a queue or a topic what
/// is in it
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
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<TopicInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<QueueView>,
}

impl Describe {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        let found = board.describe(self.name.as_str())?;
        let kind = ObjectKind::from_wire(found.info.kind);
        let view = DescriptionView {
            info: found.info.into(),
            about: found.about,
            waiting: found.waiting,
            handles: found.handles,
            servers: found.servers.into_iter().map(ServerView::from).collect(),
            topic: if kind == Some(ObjectKind::Topic) { self.topic(&board)? } else { None },
            queue: if kind == Some(ObjectKind::Queue) { self.queue(&board)? } else { None },
        };
        let mut output = context.output();
        if output.json() {
            output.object(&view)?;
            return Ok(output.finish()?);
        }
        output.line(format_args!("name        {}", view.info.name))?;
        if kind == Some(ObjectKind::Service) {
            view.print_service(&mut output)?;
        } else {
            output.line(format_args!("kind        {}", view.info.kind))?;
            output.line(format_args!("handles     {}", view.handles))?;
        }
        if let Some(topic) = &view.topic {
            print_topic(topic, &mut output)?;
        }
        if let Some(queue) = view.queue {
            queue.print(&mut output)?;
        }
        Ok(output.finish()?)
    }

    fn topic(&self, board: &Board) -> Result<Option<TopicInfo>, Failure> {
        if_allowed(board.topic(self.name.as_str()).stat())
    }

    fn queue(&self, board: &Board) -> Result<Option<QueueView>, Failure> {
        let stat = if_allowed(board.queue(self.name.as_str()).stat())?;
        Ok(stat.map(|stat| QueueView::of(self.name.as_str(), stat)))
    }
}

/// Who may know that a name is there need not know what is in it.
fn if_allowed<T>(stat: Result<T, CallError>) -> Result<Option<T>, Failure> {
    match stat {
        Err(error) if error.outcome == Outcome::Denied => {
            note(format_args!("what is in it is not for you to see: {}", error.message()));
            Ok(None)
        }
        stat => Ok(Some(stat?)),
    }
}

fn print_topic(topic: &TopicInfo, output: &mut Output) -> Result<(), Failure> {
    let retain = if topic.retain { ", the latest one retained" } else { "" };
    output.line(format_args!("listening   {} subscriptions", topic.subscriptions))?;
    output.line(format_args!("published   {}", views::count(topic.sequence)))?;
    output.line(format_args!(
        "kept        {} messages, {}{retain}",
        topic.kept,
        views::bytes(topic.kept_bytes)
    ))?;
    Ok(output.line(format_args!("held back   {} messages", topic.held))?)
}

impl DescriptionView {
    fn print_service(&self, output: &mut Output) -> Result<(), Failure> {
        let mode = self.info.mode.map_or_else(String::new, |mode| format!(", {mode}"));
        output.line(format_args!("kind        {}{mode}", self.info.kind))?;
        output.line(format_args!("epoch       {}", views::epoch(self.info.epoch)))?;
        output.line(format_args!("waiting     {}", self.waiting))?;
        output.line(format_args!("handles     {}", self.handles))?;
        for (at, line) in self.about.lines().enumerate() {
            let head = if at == 0 { "about" } else { "" };
            output.line(format_args!("{head:<11} {}", printable(line)))?;
        }
        if self.servers.is_empty() {
            return Ok(output.line("servers     none")?);
        }
        output.line("")?;
        let mut columns = Columns::new(["SERVER", "ROLE", ">PID", "PROGRAM", "USER", ">BUSY", ">ROOM"]);
        for server in &self.servers {
            let role =
                if server.standby == 0 { "owner".to_owned() } else { format!("standby {}", server.standby) };
            columns.row([
                server.peer.clone(),
                role,
                server.pid.to_string(),
                server.program.clone(),
                views::user(server.uid),
                server.outstanding.to_string(),
                server.calls.to_string(),
            ]);
        }
        Ok(output.table(&columns)?)
    }
}
