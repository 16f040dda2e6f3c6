//! The pieces of work that candidates do alike, and the loops that do them. A candidate
//! brings a [`Port`] (its lean client); what is sent, when, how it is timed and verified stands here.

use crate::payload;
use anyhow::{Result, ensure};
use std::time::Duration;

/// One row of work. The order is the order of the table's columns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Work {
    /// 64 B, one call in flight: latency.
    Call,
    /// 64 B, 64 calls in flight: calls a second.
    InFlight,
    /// 64 B one way, batched as the candidate allows, counted where it arrives.
    OneWay,
    /// 1 MiB, one call in flight: latency.
    Large,
    /// 64 B published to one subscriber, counted where it arrives.
    Publish,
    /// 64 B published to [`SUBSCRIBERS`], counted where it arrives, each time.
    FanOut,
    /// 64 B pushed into a queue and popped out of it, [`QUEUE_IN_FLIGHT`] of either in flight.
    Queue,
    /// [`DURABLE_BYTES`] pushed so that they survive the machine, one in flight: latency.
    Durable,
    /// The same with 64 in flight: pushes a second.
    Durable64,
    /// The same with 256 in flight: pushes a second.
    Durable256,
}

/// Subscribers of [`Work::FanOut`].
pub const SUBSCRIBERS: usize = 100;

/// Pushes, and pops, that are open at once in [`Work::Queue`].
pub const QUEUE_IN_FLIGHT: usize = 256;

/// What is made durable, one message: what DESIGN 10 measured the disk with.
const DURABLE_BYTES: usize = 512;

impl Work {
    /// Every piece of work, in the order it is done.
    pub const ALL: [Work; 10] = [
        Work::Call,
        Work::InFlight,
        Work::OneWay,
        Work::Large,
        Work::Publish,
        Work::FanOut,
        Work::Queue,
        Work::Durable,
        Work::Durable64,
        Work::Durable256,
    ];

    /// Whether it is calls or messages one way, which every system has.
    pub fn is_everybodys(self) -> bool {
        matches!(self, Work::Call | Work::InFlight | Work::OneWay | Work::Large)
    }

    /// Whether it is for a queue that survives the machine.
    pub fn is_durable(self) -> bool {
        matches!(self, Work::Durable | Work::Durable64 | Work::Durable256)
    }

    /// Whether one side sends and the other counts what arrives.
    pub fn is_one_way(self) -> bool {
        matches!(self, Work::OneWay | Work::Publish | Work::FanOut | Work::Queue)
    }

    /// The bytes of one message.
    pub fn size(self) -> usize {
        match self {
            Work::Large => 1 << 20,
            Work::Durable | Work::Durable64 | Work::Durable256 => DURABLE_BYTES,
            Work::Call | Work::InFlight | Work::OneWay | Work::Publish | Work::FanOut | Work::Queue => 64,
        }
    }

    /// How many calls or pushes are open at once (0: as many as the system takes).
    pub fn in_flight(self) -> usize {
        match self {
            Work::Call | Work::Large | Work::Durable => 1,
            Work::InFlight | Work::Durable64 => 64,
            Work::Queue | Work::Durable256 => QUEUE_IN_FLIGHT,
            Work::OneWay | Work::Publish | Work::FanOut => 0,
        }
    }

    /// Its name in `--json`, in errors and in names of subjects, lists and topics.
    pub fn name(self) -> &'static str {
        match self {
            Work::Call => "call64",
            Work::InFlight => "inflight64",
            Work::OneWay => "oneway64",
            Work::Large => "call1m",
            Work::Publish => "publish64",
            Work::FanOut => "fanout64",
            Work::Queue => "queue64",
            Work::Durable => "durable512",
            Work::Durable64 => "durable512x64",
            Work::Durable256 => "durable512x256",
        }
    }
}

/// Which end of a candidate a process opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Sends requests and reads replies.
    Caller,
    /// Answers each request with its own bytes.
    Echo,
    /// Sends one way.
    Sender,
    /// Receives and verifies.
    Sink,
}

/// How long to measure, and what to break on purpose.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Time before the first call that counts.
    pub warm: Duration,
    /// Time that counts.
    pub measure: Duration,
    /// The fault that `--plant` asked for.
    pub plant: Plant,
}

/// A fault planted to see this benchmark fail: a checker is trusted once it has caught something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Plant {
    /// None.
    #[default]
    None,
    /// One byte of one message is changed on its way.
    Corrupt,
    /// One message is never sent, though the sender believes so.
    Lose,
}

/// The message that a planted fault hits; early enough for the shortest run of 1 MiB calls.
const PLANT_AT: u64 = 20;

/// A lean client of one candidate.
pub trait Port {
    /// Queues one message; it may go out at once if it is large or much has gathered.
    fn put(&mut self, message: &[u8]) -> Result<()>;
    /// Sends what is queued.
    fn flush(&mut self) -> Result<()>;
    /// Waits for at least one message, then hands over every one that has already arrived.
    fn take(&mut self, each: impl FnMut(&[u8]) -> Result<()>) -> Result<()>;
    /// Waits for at least one request and answers each that has arrived with its own bytes.
    fn echo(&mut self) -> Result<()>;
}

/// What one process measured. Times are CLOCK_MONOTONIC, which all processes of a machine share.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Tally {
    /// When the first message that counts was sent (sender) or the last one arrived (sink).
    pub at_ns: u64,
    /// Verified messages or calls that count.
    pub count: u64,
    /// How long they took.
    pub elapsed_ns: u64,
    /// Half of the calls took at most this.
    pub p50_ns: u64,
    /// 99 of 100 calls took at most this.
    pub p99_ns: u64,
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Fills `message` as number `number`; says whether to send it (a planted fault may damage it or lose it).
pub fn prepare(message: &mut [u8], number: u64, last: bool, plant: Plant) -> bool {
    payload::fill(message, number, last);
    if plant == Plant::None || number != PLANT_AT {
        return true;
    }
    *message.last_mut().expect("a message has bytes") ^= 0x10;
    plant == Plant::Corrupt
}

/// Calls one at a time. Filling and verifying lie outside the timed span, so 1 MiB is the candidate's
/// time and not memory's.
pub fn call_one_by_one(port: &mut impl Port, size: usize, budget: &Budget) -> Result<Tally> {
    let mut message = vec![0; size];
    let mut taken: Vec<u64> = Vec::with_capacity(1 << 20);
    let warm_until = now_ns() + budget.warm.as_nanos() as u64;
    let mut until = 0;
    for number in 0.. {
        let send = prepare(&mut message, number, false, budget.plant);
        let sent = now_ns();
        if send {
            port.put(&message)?;
            port.flush()?;
        }
        let mut received = 0;
        while received == 0 {
            port.take(|reply| {
                ensure!(received == 0, "call {number} was answered twice");
                received = now_ns();
                payload::check(reply, size, number).map(drop)
            })?;
        }
        if until > 0 {
            taken.push(received - sent);
            // A slow call still leaves a median: at least 11 calls, however short the budget.
            if received >= until && taken.len() > 10 {
                break;
            }
        } else if received >= warm_until {
            until = received + budget.measure.as_nanos() as u64;
        }
    }
    let elapsed_ns = taken.iter().sum();
    taken.sort_unstable();
    let rank = |percent: usize| taken[(taken.len() * percent / 100).min(taken.len() - 1)];
    Ok(Tally { at_ns: 0, count: taken.len() as u64, elapsed_ns, p50_ns: rank(50), p99_ns: rank(99) })
}

/// Keeps `window` calls open: what came back is sent anew at once, in one write where the port can.
pub fn call_in_flight(port: &mut impl Port, size: usize, window: usize, budget: &Budget) -> Result<Tally> {
    let mut message = vec![0; size];
    let (mut sent, mut received) = (0, 0);
    let warm_until = now_ns() + budget.warm.as_nanos() as u64;
    let (mut began, mut received_before, mut until) = (0, 0, u64::MAX);
    loop {
        while sent < received + window as u64 {
            if prepare(&mut message, sent, false, budget.plant) {
                port.put(&message)?;
            }
            sent += 1;
        }
        port.flush()?;
        port.take(|reply| {
            payload::check(reply, size, received)?;
            received += 1;
            Ok(())
        })?;
        let now = now_ns();
        if began == 0 && now >= warm_until {
            (began, received_before, until) = (now, received, now + budget.measure.as_nanos() as u64);
        }
        if now >= until {
            let tally =
                Tally { count: received - received_before, elapsed_ns: now - began, ..Tally::default() };
            // The calls still open are verified too, only not timed.
            while received < sent {
                port.take(|reply| {
                    payload::check(reply, size, received)?;
                    received += 1;
                    Ok(())
                })?;
            }
            return Ok(tally);
        }
    }
}

/// Answers for ever; the bench ends it.
pub fn echo_for_ever(port: &mut impl Port) -> Result<Tally> {
    loop {
        port.echo()?;
    }
}

/// Sends one way until the time is over, then a last message that says so.
pub fn send_one_way(port: &mut impl Port, size: usize, budget: &Budget) -> Result<Tally> {
    /// Messages between two looks at the clock: 64 KiB of payload.
    const BATCH: usize = 1024;
    let mut message = vec![0; size];
    let at_ns = now_ns();
    let until = at_ns + (budget.warm + budget.measure).as_nanos() as u64;
    let mut number = 0;
    while now_ns() < until {
        for _ in 0..BATCH {
            if prepare(&mut message, number, false, budget.plant) {
                port.put(&message)?;
            }
            number += 1;
        }
        port.flush()?;
    }
    payload::fill(&mut message, number, true);
    port.put(&message)?;
    port.flush()?;
    Ok(Tally { at_ns, count: number + 1, ..Tally::default() })
}

/// Sends `count` messages one way, the last one saying so.
pub fn send_so_many(port: &mut impl Port, size: usize, count: u64, plant: Plant) -> Result<Tally> {
    let mut message = vec![0; size];
    let at_ns = now_ns();
    for number in 0..count {
        if prepare(&mut message, number, number + 1 == count, plant) {
            port.put(&message)?;
        }
    }
    port.flush()?;
    Ok(Tally { at_ns, count, ..Tally::default() })
}

/// Receives and verifies until the last message.
pub fn receive_one_way(port: &mut impl Port, size: usize) -> Result<Tally> {
    let mut number = 0;
    let mut over = false;
    while !over {
        port.take(|message| {
            ensure!(!over, "a message came after the last one");
            over = payload::check(message, size, number)?;
            number += 1;
            Ok(())
        })?;
    }
    Ok(Tally { at_ns: now_ns(), count: number, ..Tally::default() })
}
