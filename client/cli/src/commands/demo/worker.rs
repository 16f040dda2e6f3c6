//! A service of the demo, in a process of its own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use switchboard::{Fault, Method, Request};

use crate::children::READY;
use crate::context::Context;
use crate::failure::Failure;

/// Serve the demo
#[derive(Args, Debug)]
pub(crate) struct DemoWorker {
    name: String,
}

/// Requests that were begun.
static BEGUN: AtomicU64 = AtomicU64::new(0);
/// How the last nested call ended, and after how many milliseconds.
static NESTED: Mutex<Option<String>> = Mutex::new(None);

impl DemoWorker {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let board = context.connect()?;
        // One at a time: what waits, waits at the broker, by priority.
        let server = board.serve(&self.name).window(1, 1 << 20).start(handle)?;
        let mut output = context.output();
        output.line(READY)?;
        output.finish()?;
        Ok(server.wait()?)
    }
}

fn handle(request: &mut Request) -> Result<String, Fault> {
    let method = match request.method() {
        Method::Name(name) => name.into_owned(),
        Method::Number(number) => number.to_string(),
    };
    let text = std::str::from_utf8(request.payload())?.to_owned();
    match method.as_str() {
        "sleep" => sleep(request, &text),
        "relay" => relay(request, &text),
        "nested" => {
            Ok(NESTED.lock().map_err(|_| Fault::failed("a relay panicked"))?.take().unwrap_or_default())
        }
        other => Err(Fault::unsupported(format!("no method `{other}`; there are sleep, relay and nested"))),
    }
}

/// Sleeps so many milliseconds; says as which request it was begun, and with what priority.
fn sleep(request: &Request, text: &str) -> Result<String, Fault> {
    let time = text.parse().map_err(|_| Fault::invalid("expected a number of milliseconds"))?;
    let number = BEGUN.fetch_add(1, Ordering::Relaxed);
    // The cancel itself is in the caller's hands already.
    let _ = request.wait_cancelled(Duration::from_millis(time));
    Ok(format!("{number} {}", request.priority()))
}

/// `NAME MILLISECONDS`: has another service sleep, asking for no deadline and no priority of its own.
fn relay(request: &Request, text: &str) -> Result<String, Fault> {
    let (name, time) = text.split_once(' ').ok_or_else(|| Fault::invalid("expected a name and a time"))?;
    let service = request.board().service(name);
    let start = Instant::now();
    let end = service.method("sleep").payload(time).no_timeout().call();
    let outcome = end.as_ref().err().map_or_else(|| "Reply".to_owned(), |error| error.outcome.to_string());
    let nested = format!("{outcome} {}", start.elapsed().as_millis());
    *NESTED.lock().map_err(|_| Fault::failed("a relay panicked"))? = Some(nested);
    Ok(String::from_utf8_lossy(end?.payload()).into_owned())
}
