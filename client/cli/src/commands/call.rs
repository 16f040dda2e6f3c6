//! `switchboard call`: one call, its reply on stdout.

use std::time::Duration;

use clap::Args;
use switchboard_protocol::Name;

use crate::context::Context;
use crate::failure::Failure;
use crate::values::{self, MethodArgument, PayloadArgument};

/// Call a service; its reply goes to stdout
#[derive(Args, Debug)]
pub(crate) struct Call {
    /// The service's name
    #[arg(value_parser = values::name)]
    name: Name,
    /// What to send: a word, - for stdin, @FILE [default: nothing]
    payload: Option<std::ffi::OsString>,
    /// The service's method, by number or by name
    #[arg(long, value_name = "M", default_value = "0", value_parser = values::method)]
    method: MethodArgument,
    /// How long it may take; 0 for no limit
    #[arg(long, value_name = "D", default_value = "30s", value_parser = values::duration)]
    timeout: Duration,
    /// 0 (least) to 7; policy caps it
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u8).range(0..=7))]
    priority: u8,
    /// Through the broker, never over a direct link
    #[arg(long)]
    brokered: bool,
}

impl Call {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let payload = self.payload.map(PayloadArgument::from).unwrap_or_default().read()?;
        let board = context.connect()?;
        let service = board.service(self.name.as_str());
        let request =
            service.request().method(self.method.as_method()).payload(&payload).priority(self.priority);
        let request = match values::limit(self.timeout) {
            Some(timeout) => request.timeout(timeout),
            None => request.no_timeout(),
        };
        let reply = request.call()?;
        let mut output = context.output();
        output.raw(reply.payload())?;
        Ok(output.finish()?)
    }
}
