//! The steps of the demo. Each checks what it shows.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use switchboard::{CallError, Change, Outcome, Pending};

use super::messages;
use super::report::Held;
use super::stage::Stage;
use crate::commands::bench;
use crate::exec;
use crate::failure::Failure;
use crate::views;

type Step = fn(&mut Stage) -> Result<Held, Failure>;

/// In this order: the later ones kill what the earlier ones used.
pub(crate) const STEPS: [(&str, Step); 20] = [
    ("services", services),
    ("a call", first_call),
    ("a filter", filter),
    ("calls", thousand_calls),
    ("calls at once", calls_at_once),
    ("one way", one_way),
    ("a deadline", deadline),
    ("a cancel", cancel),
    ("priorities", priorities),
    ("nested calls", nested),
    ("a taken name", taken),
    ("a take-over", take_over),
    ("policy", policy),
    ("a topic", messages::publish),
    ("latecomers", messages::retained),
    ("an event", messages::event),
    ("a queue", messages::queue),
    ("kill -9", kill),
    ("nobody there", nobody),
    ("durable queue", messages::durable),
];

/// Longer than any step waits.
const LONG: &str = "5000";
/// No step but the slowest of machines needs longer for what should be at once.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A step does not hold.
pub(super) fn wrong(why: impl Into<String>) -> Failure {
    Failure::ended(why.into())
}

/// Fails unless the call ended with this outcome.
pub(super) fn expect<T>(outcome: Outcome, end: Result<T, CallError>) -> Result<CallError, Failure> {
    match end {
        Err(error) if error.outcome == outcome => Ok(error),
        Err(error) => Err(wrong(format!("expected {outcome}, got {error}"))),
        Ok(_) => Err(wrong(format!("expected {outcome}, got a reply"))),
    }
}

fn within(took: Duration, least: Duration, most: Duration) -> Result<(), Failure> {
    if (least..=most).contains(&took) {
        return Ok(());
    }
    Err(wrong(format!("took {took:.1?}, expected {least:?} to {most:?}")))
}

/// The broker's clock is known to half the round trip of the handshake (SPEC 1.6), which on a busy machine
/// is milliseconds: a deadline may come that much early.
fn within_limit(took: Duration, limit: Duration) -> Result<(), Failure> {
    within(took, limit / 2, limit + AT_ONCE)
}

fn services(stage: &mut Stage) -> Result<Held, Failure> {
    let start = Instant::now();
    let echo = stage.command("the echo service").args(["echo", "demo.echo"]).spawn()?;
    let upper = ["serve", "demo.upper", "--exec", "tr", "a-z", "A-Z"];
    let upper = stage.command("the filter service").args(upper).spawn()?;
    let worker = |name| stage.command("a worker").args(["internal", "demo-worker", name]).spawn();
    let (slow, front) = (worker("demo.slow")?, worker("demo.front")?);
    let sink = stage.command("the counter").args(["internal", "bench-server", "demo.count"]).spawn()?;
    stage.echo = Some(echo);
    stage.slow = Some(slow);
    [upper, front, sink].into_iter().for_each(|peer| stage.keep(peer));
    for name in ["demo.echo", "demo.upper", "demo.slow", "demo.front", "demo.count"] {
        stage.board.wait_for(name, Some(Duration::from_secs(10)))?;
    }
    Ok(Held::new("five processes serve five names", start.elapsed()))
}

fn first_call(stage: &mut Stage) -> Result<Held, Failure> {
    let start = Instant::now();
    let reply = stage.board.service("demo.echo").call("hello")?;
    let took = start.elapsed();
    if reply.payload() != b"hello" {
        return Err(wrong(format!("`hello` came back as {:?}", reply.into_payload())));
    }
    Ok(Held::new("`hello` came back from demo.echo", took))
}

fn filter(stage: &mut Stage) -> Result<Held, Failure> {
    let start = Instant::now();
    let reply = stage.board.service("demo.upper").call("any filter is a service")?;
    let took = start.elapsed();
    if reply.payload() != b"ANY FILTER IS A SERVICE" {
        return Err(wrong(format!("got {:?}", reply.into_payload())));
    }
    Ok(Held::new("`tr a-z A-Z` answers `ANY FILTER IS A SERVICE`", took))
}

fn thousand_calls(stage: &mut Stage) -> Result<Held, Failure> {
    let start = Instant::now();
    let times = bench::one_by_one(&stage.board.service("demo.echo"), 64, 1000)?;
    let (median, p99) = (views::time(times.median_ns()), views::time(times.p99_ns()));
    let seen = format!("1000 one after the other: median {median}, 99 % under {p99}");
    Ok(Held::new(seen, start.elapsed()))
}

fn calls_at_once(stage: &mut Stage) -> Result<Held, Failure> {
    const COUNT: u64 = 20_000;
    let start = Instant::now();
    bench::many_at_once(&stage.board.service("demo.echo"), 64, COUNT, 64)?;
    let took = start.elapsed();
    let rate = (COUNT as f64 / took.as_secs_f64()) as u64;
    let seen =
        format!("{} with 64 in flight, all verified: {} a second", views::count(COUNT), views::count(rate));
    Ok(Held::new(seen, took))
}

fn one_way(stage: &mut Stage) -> Result<Held, Failure> {
    const COUNT: u64 = 200_000;
    let service = stage.board.service("demo.count");
    let took = bench::send(&stage.board, &service, 64, COUNT, u64::MAX)?.elapsed;
    let rate = (COUNT as f64 / took.as_secs_f64()) as u64;
    let seen =
        format!("{} in batches, counted and verified: {} a second", views::count(COUNT), views::count(rate));
    Ok(Held::new(seen, took))
}

fn deadline(stage: &mut Stage) -> Result<Held, Failure> {
    let slow = stage.board.service("demo.slow");
    let limit = Duration::from_millis(50);
    let start = Instant::now();
    let end = slow.method("sleep").payload(LONG).timeout(limit).call();
    let took = start.elapsed();
    expect(Outcome::DeadlineExceeded, end)?;
    within_limit(took, limit)?;
    Ok(Held::new("50 ms for a service that takes 5 s: DeadlineExceeded", took))
}

fn cancel(stage: &mut Stage) -> Result<Held, Failure> {
    let pending = stage.board.service("demo.slow").method("sleep").payload(LONG).start()?;
    wait_until_served(stage)?;
    let start = Instant::now();
    pending.cancel();
    let end = pending.wait();
    let took = start.elapsed();
    expect(Outcome::Cancelled, end)?;
    within(took, Duration::ZERO, AT_ONCE)?;
    Ok(Held::new("given up while the service worked: Cancelled", took))
}

/// Waits until the one open call of the stage is at its server.
fn wait_until_served(stage: &Stage) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        let waits = stage.board.waits()?;
        if waits.edges.iter().any(|edge| edge.name == "demo.slow" && edge.server != 0) {
            return Ok(());
        }
        if start.elapsed() > AT_ONCE {
            return Err(wrong("the call did not reach demo.slow"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn priorities(stage: &mut Stage) -> Result<Held, Failure> {
    let slow = stage.board.service("demo.slow");
    let start = Instant::now();
    let first = slow.method("sleep").payload("50").start()?;
    wait_until_served(stage)?;
    let ask = |priority: u8| slow.method("sleep").payload("1").priority(priority).start();
    let pending = [0, 1, 4, 2].map(ask);
    first.wait()?;
    let mut served = Vec::new();
    for (priority, pending) in [0, 1, 4, 2].into_iter().zip(pending) {
        let pending: Pending = pending?;
        let reply = String::from_utf8_lossy(pending.wait()?.payload()).into_owned();
        let number = reply.split_once(' ').and_then(|(number, _)| number.parse::<u64>().ok());
        served.push((number.ok_or_else(|| wrong(format!("demo.slow said `{reply}`")))?, priority));
    }
    served.sort_unstable();
    let order: Vec<_> = served.into_iter().map(|(_, priority)| priority).collect();
    if order != [4, 2, 1, 0] {
        return Err(wrong(format!("asked with 0, 1, 4, 2; served as {order:?}")));
    }
    Ok(Held::new("asked with 0, 1, 4, 2 while busy, served as 4, 2, 1, 0", start.elapsed()))
}

fn nested(stage: &mut Stage) -> Result<Held, Failure> {
    let front = stage.board.service("demo.front");
    let reply = front.method("relay").payload("demo.slow 1").priority(3).call()?;
    if !reply.payload().ends_with(b" 3") {
        return Err(wrong(format!(
            "called with priority 3, the nested call came as {:?}",
            reply.into_payload()
        )));
    }
    let limit = Duration::from_millis(100);
    let start = Instant::now();
    let end = front.method("relay").payload("demo.slow 5000").timeout(limit).call();
    let took = start.elapsed();
    expect(Outcome::DeadlineExceeded, end)?;
    within_limit(took, limit)?;
    let nested = front.method("nested").call()?;
    let nested = String::from_utf8_lossy(nested.payload()).into_owned();
    let millis = nested.strip_prefix("DeadlineExceeded ").and_then(|millis| millis.parse().ok());
    let millis = millis.ok_or_else(|| wrong(format!("the nested call ended as `{nested}`")))?;
    within(Duration::from_millis(millis), Duration::from_millis(1), limit + AT_ONCE)?;
    Ok(Held::new("100 ms and priority 3 reach the service behind the service", took))
}

fn taken(stage: &mut Stage) -> Result<Held, Failure> {
    let start = Instant::now();
    let serve = stage.board.serve("demo.echo").do_not_queue();
    let end = serve.start(|request| Ok(request.take_payload()));
    let took = start.elapsed();
    expect(Outcome::Busy, end)?;
    Ok(Held::new("demo.echo is served already: Busy", took))
}

fn take_over(stage: &mut Stage) -> Result<Held, Failure> {
    let name = "demo.echo";
    let echo = stage.board.service(name);
    let before = echo.call("before")?.epoch();
    let standby = stage.command("the standby").args(["echo", name]).spawn()?;
    let start = Instant::now();
    while stage.board.describe(name)?.info.standby == 0 {
        if start.elapsed() > Duration::from_secs(10) {
            return Err(wrong("the second echo service does not stand by"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut watch = stage.board.watch(name)?;
    let mut owner = stage.echo.replace(standby).ok_or_else(|| wrong("there is no echo service"))?;
    let start = Instant::now();
    owner.kill().map_err(Failure::ended)?;
    let after = loop {
        match watch.next_timeout(AT_ONCE) {
            Some(Some(Ok(Change::Owned(info)))) => break info.epoch,
            Some(Some(Ok(_))) => {}
            Some(Some(Err(error))) => return Err(error.into()),
            Some(None) | None => return Err(wrong("no new owner was announced")),
        }
    };
    let took = start.elapsed();
    if after <= before.0 {
        let (after, before) = (views::epoch(after), views::epoch(before.0));
        return Err(wrong(format!("the new owner's epoch {after} is not after {before}")));
    }
    expect(Outcome::OwnerChanged, echo.request().expect_epoch(before).payload("old").call())?;
    echo.call("new")?;
    let (before, after) = (views::epoch(before.0), views::epoch(after));
    Ok(Held::new(format!("owner killed, the standby serves: epoch {before} became {after}"), took))
}

fn policy(stage: &mut Stage) -> Result<Held, Failure> {
    let start = Instant::now();
    let end = stage.board.serve("switchboard.fake").start(|request| Ok(request.take_payload()));
    let took = start.elapsed();
    expect(Outcome::Denied, end)?;
    Ok(Held::new("switchboard.fake is the broker's own name: Denied", took))
}

fn kill(stage: &mut Stage) -> Result<Held, Failure> {
    let pending = stage.board.service("demo.slow").method("sleep").payload(LONG).start()?;
    wait_until_served(stage)?;
    let mut slow = stage.slow.take().ok_or_else(|| wrong("there is no slow service"))?;
    let start = Instant::now();
    slow.kill().map_err(Failure::ended)?;
    let end = pending.wait();
    let took = start.elapsed();
    let error = expect(Outcome::PeerDied, end)?;
    within(took, Duration::ZERO, AT_ONCE)?;
    let status = match error.failure.exit_status {
        Some(status) => format!(", it {}", exec::describe(ExitStatus::from_raw(status.cast_signed())).0),
        // Kernels before 6.15 do not tell.
        None => String::new(),
    };
    Ok(Held::new(format!("killed with a call open: PeerDied{status}"), took))
}

fn nobody(stage: &mut Stage) -> Result<Held, Failure> {
    let start = Instant::now();
    let end = stage.board.service("demo.slow").call("");
    let took = start.elapsed();
    expect(Outcome::NoOwner, end)?;
    Ok(Held::new("a call of the dead service is told so at once: NoOwner", took))
}
