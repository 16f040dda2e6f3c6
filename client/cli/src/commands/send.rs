//! `switchboard send`: one message, one way.

use clap::Args;
use switchboard_protocol::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::values::{self, MethodArgument, PayloadArgument};

/// Send a service a message, one way; nothing comes back
#[derive(Args, Debug)]
pub(crate) struct Send {
    /// The service's name
    #[arg(value_parser = values::name)]
    name: Name,
    /// What to send: a word, - for stdin, @FILE [default: nothing]
    payload: Option<std::ffi::OsString>,
    /// The service's method, by number or by name
    #[arg(long, value_name = "M", default_value = "0", value_parser = values::method)]
    method: MethodArgument,
}

impl Send {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let payload = self.payload.map(PayloadArgument::from).unwrap_or_default().read()?;
        let board = context.connect()?;
        let service = board.service(self.name.as_str());
        service.request().method(self.method.as_method()).payload(&payload).send()?;
        // Leaving at once would leave the broker's refusal unread.
        Ok(board.flush()?)
    }
}
