//! `switchboard echo`: a service that answers with what it was sent.

use clap::Args;
use switchboard::{Request, Response};
use switchboard_protocol::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::serving;
use crate::values;

/// Serve a name by answering every call with what it carried
#[derive(Args, Debug)]
pub(crate) struct Echo {
    /// The name to serve
    #[arg(value_parser = values::name)]
    name: Name,
    /// Share the name with other servers; each call goes to the least busy one
    #[arg(long)]
    pool: bool,
}

impl Echo {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect_with(serving::tell_changes(context.builder()))?;
        let serve = board.serve(self.name.as_str()).about("answers with what it was sent (switchboard echo)");
        let serve = if self.pool { serve.pool() } else { serve };
        let server = serve.start(|request: &mut Request| Ok(Response::new(request.take_payload())))?;
        serving::announce(&server, &self.name);
        Ok(server.wait()?)
    }
}
