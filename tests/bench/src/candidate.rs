//! What is compared: a floor, a peer or Switchboard, each behind the same small interface, and the
//! one way in which a brokered candidate is put to work: two processes, one at each end.

use crate::process::{Reporter, Role, wait_done};
use crate::work::{self, Budget, End, Port, SUBSCRIBERS, Tally, Work};
use anyhow::{Context, Result, ensure};
use rustix::thread::CpuSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the processes of a candidate run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub enum Mode {
    /// All of them, server and clients, on one core.
    Pinned,
    /// Wherever the kernel puts them.
    Free,
}

impl Mode {
    /// Both.
    pub const ALL: [Mode; 2] = [Mode::Pinned, Mode::Free];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        if self == Mode::Pinned { "pinned" } else { "free" }
    }
}

/// What kind of row it makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The least that the machine itself takes.
    Floor,
    /// Another message system.
    Peer,
    /// Ours.
    Switchboard,
}

/// The place and the cores for one run of a candidate.
pub struct Site {
    /// A private folder, gone after the run.
    pub dir: PathBuf,
    /// The cores its processes may use.
    pub cpus: CpuSet,
    /// Which of the two modes that is.
    pub mode: Mode,
}

/// One measured value of each kind that its work yields.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Median latency of a call.
    pub p50_ns: Option<f64>,
    /// 99th percentile.
    pub p99_ns: Option<f64>,
    /// Verified calls or messages a second.
    pub per_second: Option<f64>,
}

/// A floor, a peer or Switchboard.
pub trait Candidate {
    /// The name in tables and for `--only`.
    fn name(&self) -> &'static str;
    /// Its kind.
    fn kind(&self) -> Kind;
    /// Version and configuration in a few words.
    fn describe(&self) -> String;
    /// Why it cannot be measured here, and what to do about it.
    fn missing(&self) -> Option<String> {
        None
    }
    /// Whether a piece of work means anything for it.
    fn does(&self, work: Work, mode: Mode) -> bool;
    /// Starts its server, if it has one.
    fn start<'a>(&'a self, site: &'a Site) -> Result<Box<dyn Session + 'a>>;
}

/// A started candidate.
pub trait Session {
    /// Does one piece of work.
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<Sample>;
}

/// Opens the lean clients of a candidate; called in the process that will use them.
pub trait Connect {
    /// The client.
    type Port: Port;
    /// Opens one end; when it returns, what is sent to this end will reach it.
    fn open(&self, end: End, work: Work) -> Result<Self::Port>;
}

/// How long a role may take before the kernel ends it.
pub fn patience(budget: &Budget) -> Duration {
    // A sender that runs ahead leaves its server a backlog; ten times the sending is ample.
    Duration::from_secs(8) + (budget.warm + budget.measure) * 10
}

/// Does `work` between two processes that `connect` gives their ends.
pub fn measure_pair(connect: &impl Connect, site: &Site, work: Work, budget: &Budget) -> Result<Sample> {
    let (near, far) = if work.is_one_way() { (End::Sender, End::Sink) } else { (End::Caller, End::Echo) };
    let mut far = fork_end(connect, &site.cpus, far, work, budget)?;
    far.wait_ready()?;
    let mut near = fork_end(connect, &site.cpus, near, work, budget)?;
    if work.is_one_way() {
        let tallies = wait_done(&mut [&mut near, &mut far], &mut [])?;
        one_way_sample(tallies[0], tallies[1])
    } else {
        let tallies = wait_done(&mut [&mut near], &mut [&mut far])?;
        Ok(call_sample(tallies[0], work))
    }
}

/// Publishes to [`SUBSCRIBERS`] processes, each of which verifies everything. A publisher that ran ahead for
/// a time would leave its server a backlog a hundred times as long: so it gets a count, from a probe.
pub fn measure_fan_out(connect: &impl Connect, site: &Site, budget: &Budget) -> Result<Sample> {
    const PROBE: u64 = 500;
    let probed = fan_out(connect, site, PROBE, budget)?.per_second.context("no speed")?;
    let messages = probed * budget.measure.as_secs_f64() / SUBSCRIBERS as f64;
    fan_out(connect, site, (messages as u64).max(PROBE), budget)
}

fn fan_out(connect: &impl Connect, site: &Site, count: u64, budget: &Budget) -> Result<Sample> {
    let work = Work::FanOut;
    let sinks = (0..SUBSCRIBERS).map(|_| fork_end(connect, &site.cpus, End::Sink, work, budget));
    let mut sinks = sinks.collect::<Result<Vec<Role>>>()?;
    for sink in &mut sinks {
        sink.wait_ready()?;
    }
    let mut sender = Role::fork("publisher", &site.cpus, patience(budget), |_| {
        let mut port = connect.open(End::Sender, work).context("opening its end")?;
        let tally = work::send_so_many(&mut port, work.size(), count, budget.plant);
        std::mem::forget(port);
        tally
    })?;
    let mut roles: Vec<&mut Role> = std::iter::once(&mut sender).chain(&mut sinks).collect();
    let tallies = wait_done(&mut roles, &mut [])?;
    let (sender, sinks) = tallies.split_first().context("a publisher")?;
    for sink in sinks {
        ensure!(sink.count == sender.count, "{} were published and one got {}", sender.count, sink.count);
    }
    let last = sinks.iter().map(|sink| sink.at_ns).max().context("a subscriber")?;
    let deliveries = sinks.iter().map(|sink| sink.count).sum::<u64>();
    let per_second = Some(deliveries as f64 * 1e9 / (last - sender.at_ns) as f64);
    Ok(Sample { per_second, ..Sample::default() })
}

/// Forks a process that opens `end` and does its part of `work`.
pub fn fork_end(
    connect: &impl Connect,
    cpus: &CpuSet,
    end: End,
    work: Work,
    budget: &Budget,
) -> Result<Role> {
    Role::fork(name_of(end), cpus, patience(budget), |reporter| {
        let mut port = connect.open(end, work).context("opening its end")?;
        let tally = run_end(&mut port, reporter, end, work, budget);
        // Left open until this process is killed: redis drops the commands of a client that has gone.
        std::mem::forget(port);
        tally
    })
}

fn run_end(
    port: &mut impl Port,
    reporter: &mut Reporter,
    end: End,
    work: Work,
    budget: &Budget,
) -> Result<Tally> {
    let size = work.size();
    match end {
        End::Caller if work.in_flight() == 1 => work::call_one_by_one(port, size, budget),
        End::Caller => work::call_in_flight(port, size, work.in_flight(), budget),
        End::Echo => {
            reporter.ready()?;
            work::echo_for_ever(port)
        }
        End::Sender => work::send_one_way(port, size, budget),
        End::Sink => {
            reporter.ready()?;
            work::receive_one_way(port, size)
        }
    }
}

fn name_of(end: End) -> &'static str {
    match end {
        End::Caller => "caller",
        End::Echo => "echo service",
        End::Sender => "sender",
        End::Sink => "receiver",
    }
}

/// What a caller's tally says.
pub fn call_sample(tally: Tally, work: Work) -> Sample {
    let per_second = Some(tally.count as f64 * 1e9 / tally.elapsed_ns as f64);
    if work == Work::InFlight {
        return Sample { per_second, ..Sample::default() };
    }
    Sample { p50_ns: Some(tally.p50_ns as f64), p99_ns: Some(tally.p99_ns as f64), per_second }
}

/// What a sender's and a receiver's tallies say together: from the first send to the last arrival.
pub fn one_way_sample(sender: Tally, sink: Tally) -> Result<Sample> {
    ensure!(sender.count == sink.count, "{} messages were sent and {} received", sender.count, sink.count);
    let per_second = sink.count as f64 * 1e9 / (sink.at_ns - sender.at_ns) as f64;
    Ok(Sample { per_second: Some(per_second), ..Sample::default() })
}

/// Where an installed program lies.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The answer of [`Candidate::missing`] for a program that Debian has in `package`.
pub fn missing_program(name: &str) -> Option<String> {
    match find_program(name) {
        Some(_) => None,
        None => Some(format!("{name}: not installed (run with --install)")),
    }
}

/// The first line that a program prints about its version.
pub fn version_of(program: &str, flag: &str) -> String {
    let output =
        std::process::Command::new(find_program(program).unwrap_or_else(|| Path::new(program).into()))
            .arg(flag)
            .output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().unwrap_or("version unknown").trim().to_string()
}
