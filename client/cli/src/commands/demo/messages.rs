//! The steps of the demo that show topics, queues and events. Each checks what it shows.

use std::time::{Duration, Instant};

use switchboard::{Delivery, Level, Outcome};

use super::report::Held;
use super::stage::Stage;
use super::steps::{expect, wrong};
use crate::children::Peer;
use crate::commands::bench;
use crate::failure::Failure;
use crate::views;

/// How long a step waits for another process to come so far.
const SOON: Duration = Duration::from_secs(10);

/// Looks again and again until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() > SOON {
            return Err(wrong(format!("waited {SOON:?} for {what}")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

pub(crate) fn publish(stage: &mut Stage) -> Result<Held, Failure> {
    const COUNT: u64 = 100_000;
    let mut subscribers: Vec<Peer> = Vec::new();
    for _ in 0..3 {
        let start = stage.command("a subscriber");
        subscribers.push(bench::subscriber(start, "demo.news", 64, [1, COUNT]).spawn()?);
    }
    subscribers.iter_mut().try_for_each(Peer::wait_ready)?;
    let topic = stage.board.topic("demo.news");
    bench::publish(&stage.board, &topic, 64, 1, 1, &mut subscribers)?;
    let (_, took) = bench::publish(&stage.board, &topic, 64, COUNT, u64::MAX, &mut subscribers)?;
    let rate = views::count((3 * COUNT).saturating_mul(1_000_000_000) / (took.as_nanos() as u64).max(1));
    let seen = format!("{} to each of three, all verified: {rate} a second", views::count(COUNT));
    Ok(Held::new(seen, took))
}

pub(crate) fn retained(stage: &mut Stage) -> Result<Held, Failure> {
    let weather = stage.board.topic("demo.weather");
    weather.publish("rain")?;
    weather.publish_confirmed("sun")?;
    let start = Instant::now();
    let mut late = weather.subscribe().history(1).start()?;
    match late.next_timeout(SOON)? {
        Some(Delivery::Message(message)) if message.payload() == b"sun" => {}
        other => return Err(wrong(format!("who comes later got {other:?}"))),
    }
    Ok(Held::new("who subscribes later gets the latest: sun, not rain", start.elapsed()))
}

pub(crate) fn event(stage: &mut Stage) -> Result<Held, Failure> {
    let alarm = stage.board.event("demo.alarm");
    alarm.raise(0b001)?;
    let start = Instant::now();
    let raiser = stage.command("who raises a flag").args(["event", "raise", "demo.alarm", "4"]).spawn()?;
    let raised = alarm.wait_timeout(0b110, SOON)?;
    let took = start.elapsed();
    drop(raiser);
    if raised != Some(0b100) {
        return Err(wrong(format!("waited for flag 4, got {raised:?}")));
    }
    if alarm.wait(!0)? != 0b001 {
        return Err(wrong("the flag that nobody waited for is lost"));
    }
    Ok(Held::new("waited until another process raised flag 4; none is lost", took))
}

pub(crate) fn queue(stage: &mut Stage) -> Result<Held, Failure> {
    const JOBS: u64 = 100;
    let board = &stage.board;
    for name in ["demo.jobs", "demo.done"] {
        board.create_queue(name).create()?;
    }
    let (jobs, done) = (board.queue("demo.jobs"), board.queue("demo.done"));
    let worker = || stage.command("a worker").args(["internal", "demo-consumer", "demo.jobs", "demo.done"]);
    let mut workers = vec![worker().spawn()?, worker().spawn()?];
    workers.iter_mut().try_for_each(Peer::wait_ready)?;
    jobs.push(STUCK)?;
    jobs.push_all((1..JOBS).map(|number| format!("job {number}")))?;
    until("all jobs but one to be done", || Ok(done.stat()?.messages >= JOBS - 1))?;
    until("the last of them to be acknowledged, and one to be stuck", || {
        let left = jobs.stat()?;
        Ok((left.messages, left.leased) == (1, 1))
    })?;
    let mut ended = Vec::new();
    while let Some(word) = done.pop_timeout(Duration::from_millis(20))? {
        ended.push(String::from_utf8_lossy(&word).into_owned());
        word.ack()?;
    }
    let by =
        |worker: &Peer| ended.iter().filter(|word| word.starts_with(&format!("{} ", worker.pid()))).count();
    let stuck = workers.iter().position(|worker| by(worker) == 0);
    let stuck = stuck.ok_or_else(|| wrong("none of the workers is stuck with a job"))?;
    let mut stuck = workers.swap_remove(stuck);
    let start = Instant::now();
    stuck.kill().map_err(Failure::ended)?;
    let last = done.pop_timeout(SOON)?.ok_or_else(|| wrong("the job of the dead worker never came back"))?;
    let took = start.elapsed();
    let expected = format!("{} {STUCK}", workers[0].pid());
    if last.payload() != expected.as_bytes() || ended.len() as u64 != JOBS - 1 {
        return Err(wrong(format!("{} jobs were done, the last as {:?}", ended.len() + 1, last.payload())));
    }
    last.ack()?;
    until("the queue to be empty", || Ok(jobs.stat()?.messages == 0))?;
    let seen = format!("{JOBS} jobs, two workers; one is killed, its job comes back");
    Ok(Held::new(seen, took))
}

/// The job that its first worker never finishes.
pub(crate) const STUCK: &str = "stuck";

pub(crate) fn durable(stage: &mut Stage) -> Result<Held, Failure> {
    const ORDERS: usize = 1000;
    let name = "demo.orders";
    stage.board.create_queue(name).durability(Level::Disk).create()?;
    let orders = stage.board.queue(name);
    let start = Instant::now();
    let order = |number: usize| format!("order {number}");
    let pushes: Vec<_> =
        (0..ORDERS).map(|number| orders.message(&order(number)).begin()).collect::<Result<_, _>>()?;
    for push in pushes {
        let pushed = push.wait()?;
        if pushed.level != Level::Disk {
            return Err(wrong(format!("a push was acknowledged as safe to {}", pushed.level.as_str())));
        }
    }
    let took = start.elapsed();
    let lease = orders.pop()?.into_lease();
    let away = stage.restart_broker()?;
    let orders = stage.board.queue(name);
    expect(Outcome::LeaseLost, orders.ack(lease))?;
    let mut consumer = orders.consume().credit(256).start()?;
    let mut leases = Vec::new();
    for number in 0..ORDERS {
        let message = consumer.next_timeout(SOON)?.ok_or_else(|| wrong(format!("order {number} is lost")))?;
        if message.payload() != order(number).as_bytes() {
            return Err(wrong(format!("order {number} came as {:?}", message.payload())));
        }
        leases.push(message.into_lease());
    }
    if !orders.ack_all(&leases)?.lost.is_empty() {
        return Err(wrong("leases were lost"));
    }
    if orders.stat()?.messages != 0 {
        return Err(wrong("more came back than was pushed"));
    }
    let rate = views::count((ORDERS as f64 / took.as_secs_f64()) as u64);
    let seen = format!("{ORDERS} on disk, {rate} a second; kill -9 of the broker: all there");
    Ok(Held::new(seen, away))
}
