//! `switchboard serve`: any program as a service, one process for each request.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use clap::Args;
use switchboard::{Fault, Outcome, Request, Response};
use switchboard_protocol::{Failure as ServiceFailure, Name};
use switchboard_transport::limits;

use crate::context::Context;
use crate::exec::{self, Program, Ran};
use crate::failure::Failure;
use crate::serving;
use crate::values;

/// Serve a name by a program: payload in on stdin, reply out on stdout
///
/// The program is started anew for each request. It need not read its input. An exit status other than 0
/// is an outcome `Failed` with the program's stderr. It is killed, with all that it started, when its call
/// ends otherwise: cancelled, out of time, or its caller gone. SWITCHBOARD_SOCKET tells it the broker.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The name to serve
    #[arg(value_parser = values::name)]
    name: Name,
    /// Share the name with other servers; each call goes to the least busy one
    #[arg(long)]
    pool: bool,
    /// Requests that are worked on at once [default: twice the number of processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    workers: Option<u16>,
    /// The program and its arguments: all that follows
    #[arg(long, value_names = ["CMD", "ARG"], required = true, num_args = 1.., allow_hyphen_values = true)]
    exec: Vec<OsString>,
}

impl Serve {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut words = self.exec.into_iter();
        let program = words.next().expect("clap wants at least one");
        let arguments: Vec<_> = words.collect();
        if !is_found(&program) {
            let message = format!("cannot run `{}`: no such program in PATH", program.display());
            return Err(Failure::usage(message));
        }
        let about = std::iter::once(&program).chain(&arguments).map(|word| word.to_string_lossy());
        let about: String = about.collect::<Vec<_>>().join(" ").chars().take(1000).collect();
        let board = context.connect_with(serving::tell_changes(context.builder()))?;
        let socket = std::path::absolute(context.socket().path).map_err(Failure::usage)?;
        let program = Program { program, arguments, socket, output_bytes_max: board.payload_bytes_max() };
        let program = Arc::new(program);
        let workers = self.workers.map_or(limits::cpus() * 2, usize::from);
        // No more requests here than are worked on: the others wait at the broker, by priority, or go
        // to another member of the pool.
        let window = u32::try_from(workers).unwrap_or(u32::MAX);
        let serve = board.serve(self.name.as_str()).workers(workers).window(window, 1 << 20);
        let serve = serve.about(format!("runs `{about}` for each request (switchboard serve)"));
        let serve = if self.pool { serve.pool() } else { serve };
        let server = serve.start(move |request: &mut Request| work(&program, request))?;
        serving::announce(&server, &self.name);
        Ok(server.wait()?)
    }
}

/// Runs the program on one request.
fn work(program: &Program, request: &mut Request) -> Result<Response, Fault> {
    let payload = request.take_payload();
    let name = program.program.to_string_lossy();
    // The broker keeps the deadline, and says when it has passed: who killed at the deadline by its own
    // clock might answer before the broker does.
    match program.run(&payload, || request.is_cancelled()) {
        Ok(Ran::Ended { status, stdout, .. }) if status.success() => Ok(Response::new(stdout)),
        Ok(Ran::Ended { status, stderr, .. }) => {
            let (ended, code) = exec::describe(status);
            let said = String::from_utf8_lossy(&stderr).trim().to_owned();
            let message = if said.is_empty() { format!("`{name}` {ended}") } else { said };
            Err(Fault::coded("exec", code, message).details(stderr))
        }
        // Nobody will see this: the call has ended.
        Ok(Ran::Unwanted) => {
            Err(Fault::new(Outcome::Abandoned, ServiceFailure::new("its call had ended, so it was killed")))
        }
        Ok(Ran::TooLong) => {
            let message =
                format!("`{name}` wrote more than the broker passes, {} bytes", program.output_bytes_max);
            Err(Fault::new(Outcome::TooLarge, ServiceFailure::new(message)))
        }
        Err(error) => Err(Fault::coded("exec", 127, format!("cannot run `{name}`: {error}"))),
    }
}

/// Whether there is such a program: better said now than to the first caller.
fn is_found(program: &OsString) -> bool {
    let is_program = |path: &std::path::Path| match path.metadata() {
        Ok(found) => found.is_file(),
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    };
    let path = std::path::Path::new(program);
    if path.components().count() > 1 || path.is_absolute() {
        return is_program(path);
    }
    std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|dir| is_program(&dir.join(path))))
}
