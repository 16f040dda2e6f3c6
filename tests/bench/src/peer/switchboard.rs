//! Switchboard itself, by its real programs and nothing else: `switchboardd`, and `switchboard bench`
//! for the load, as any user could run them.

use crate::candidate::{Candidate, Kind, Mode, Sample, Session, Site, patience};
use crate::floor::fdatasync::disk;
use crate::process::{Server, die_with_the_bench, interrupted};
use crate::results::is_latency;
use crate::work::{Budget, SUBSCRIBERS, Work};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Ours.
pub struct Switchboard {
    /// The folder with both programs, or why there is none.
    programs: Result<PathBuf, String>,
    /// Calls or messages a second in each mode as last seen. `switchboard bench` takes a count where the
    /// other candidates take a time; from the speed follows the count that fills the time.
    speed: RefCell<BTreeMap<(Mode, Work), f64>>,
}

/// The first, unmeasured run has so many.
fn probe_count(work: Work) -> u64 {
    match work {
        Work::Call => 500,
        Work::InFlight => 5_000,
        Work::OneWay => 50_000,
        Work::Large => 20,
        Work::Publish | Work::Queue => 20_000,
        Work::FanOut => 500,
        Work::Durable => 100,
        Work::Durable64 | Work::Durable256 => 2_000,
    }
}

impl Switchboard {
    /// The programs in `dir`, or why they could not be built.
    pub fn new(dir: Option<PathBuf>, build_error: Option<String>) -> Switchboard {
        let programs = match (build_error, dir) {
            (Some(why), _) => Err(why),
            (None, None) => {
                Err("SWITCHBOARD_BIN_DIR is not set: start the bench by tests/bench/run".to_string())
            }
            (None, Some(dir)) => ["switchboardd", "switchboard"]
                .iter()
                .find(|program| !dir.join(program).is_file())
                .map_or(Ok(dir.clone()), |program| {
                    Err(format!("{} does not exist", dir.join(program).display()))
                }),
        };
        Switchboard { programs, speed: RefCell::default() }
    }
}

impl Candidate for Switchboard {
    fn name(&self) -> &'static str {
        "switchboard"
    }

    fn kind(&self) -> Kind {
        Kind::Switchboard
    }

    fn describe(&self) -> String {
        "switchboardd and `switchboard bench`, through the broker".to_string()
    }

    fn missing(&self) -> Option<String> {
        self.programs.as_ref().err().map(|why| format!("switchboard: {why}"))
    }

    fn does(&self, work: Work, _: Mode) -> bool {
        // In memory a log is not durable, whatever is measured.
        !work.is_durable() || disk().is_ok()
    }

    fn start<'a>(&'a self, site: &'a Site) -> Result<Box<dyn Session + 'a>> {
        let programs = self.programs.clone().map_err(anyhow::Error::msg)?;
        let socket = site.dir.join("switchboard.sock");
        let mut command = Command::new(programs.join("switchboardd"));
        command.arg("--socket").arg(&socket).arg("--state-dir").arg(site.dir.join("state"));
        isolate(&mut command, &site.dir);
        let mut server = Server::start("switchboardd", command, &site.cpus, &site.dir)?;
        server.wait_until(|| UnixStream::connect(&socket).is_ok())?;
        Ok(Box::new(Running { server, programs, socket, site, speed: &self.speed }))
    }
}

/// Keeps the user's own configuration and bus out of the measurement.
pub fn isolate(command: &mut Command, dir: &Path) {
    command.env_remove("SWITCHBOARD_SOCKET");
    for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"] {
        command.env(variable, dir);
    }
}

struct Running<'a> {
    server: Server,
    programs: PathBuf,
    socket: PathBuf,
    site: &'a Site,
    speed: &'a RefCell<BTreeMap<(Mode, Work), f64>>,
}

impl Session for Running<'_> {
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<Sample> {
        let key = (self.site.mode, work);
        let known = self.speed.borrow().get(&key).copied();
        let speed = match known {
            Some(speed) => speed,
            None => self.bench(work, probe_count(work), budget)?.per_second.context("no speed")?,
        };
        // What is counted is deliveries; what is asked for, messages.
        let each = if work == Work::FanOut { SUBSCRIBERS as f64 } else { 1.0 };
        let count = (speed / each * (budget.warm + budget.measure).as_secs_f64()) as u64;
        let sample = self.bench(work, count.max(probe_count(work)), budget)?;
        self.speed.borrow_mut().insert(key, sample.per_second.unwrap_or(speed));
        Ok(sample)
    }
}

impl Running<'_> {
    fn bench(&self, work: Work, count: u64, budget: &Budget) -> Result<Sample> {
        let what = match work {
            Work::Call | Work::InFlight | Work::Large => "call",
            Work::OneWay => "send",
            Work::Publish | Work::FanOut => "pub",
            Work::Queue | Work::Durable | Work::Durable64 | Work::Durable256 => "queue",
        };
        let mut command = Command::new(self.programs.join("switchboard"));
        command.arg("--socket").arg(&self.socket);
        command.args(["bench", what, "--size", &work.size().to_string(), "--count", &count.to_string()]);
        if work.in_flight() > 0 {
            command.args(["--in-flight", &work.in_flight().to_string()]);
        }
        match what {
            // Through the broker, like every peer; a direct link would be measured against other floors.
            "call" | "send" => command.arg("--brokered"),
            "pub" => {
                let subscribers = if work == Work::FanOut { SUBSCRIBERS } else { 1 };
                command.args(["--subscribers", &subscribers.to_string()])
            }
            _ if work.is_durable() => command.arg("--durable"),
            _ => &mut command,
        };
        command.arg("--json");
        isolate(&mut command, &self.site.dir);
        let line = self.run(command, budget)?;
        let value: Value = serde_json::from_str(&line).with_context(|| format!("its JSON: {line:?}"))?;
        ensure!(value["path"] != "direct", "it measured a direct link, though --brokered was asked for");
        ensure!(value["count"].as_u64() == Some(count), "it measured {} of {count} messages", value["count"]);
        let number = |key: &str| value[key].as_f64().with_context(|| format!("no number {key:?} in {line}"));
        let per_second = Some(number("per_second")?);
        if is_latency(work) {
            // Of the others' times, neither filling nor verifying is a part, and their echo does not verify.
            let beside = if what == "call" { number("touch_ns")? } else { 0.0 };
            let taken = |key: &str| number(key).map(|taken| Some(taken - beside));
            return Ok(Sample { p50_ns: taken("p50_ns")?, p99_ns: taken("p99_ns")?, per_second });
        }
        Ok(Sample { per_second, ..Sample::default() })
    }

    /// Runs it to its end; gives the last line of its standard output.
    fn run(&self, mut command: Command, budget: &Budget) -> Result<String> {
        die_with_the_bench(&mut command, &self.site.cpus);
        let words: Vec<_> = command.get_args().skip(2).map(|word| word.to_string_lossy()).collect();
        let shown = format!("`switchboard {}`", words.join(" "));
        let output = self.site.dir.join("bench.out");
        let errors = self.site.dir.join("bench.err");
        command.stdin(Stdio::null());
        command.stdout(std::fs::File::create(&output).context("its output")?);
        command.stderr(std::fs::File::create(&errors).context("its errors")?);
        let mut child = command.spawn().with_context(|| format!("starting {shown}"))?;
        let patience = Instant::now() + patience(budget);
        let status = loop {
            if let Some(status) = child.try_wait().context("its status")? {
                break status;
            }
            if Instant::now() > patience || interrupted() {
                // Killing it fails only if it has just ended.
                let _ = child.kill();
                let _ = child.wait();
                bail!("not finished in time: {shown}; switchboardd says: {}", self.server.last_words());
            }
            // Rare enough to leave the core to what is measured, often enough not to add up.
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        let said = std::fs::read_to_string(&errors).unwrap_or_default();
        ensure!(status.success(), "{shown} ended with {status}: {}", said.trim().replace('\n', " | "));
        let text = std::fs::read_to_string(&output).context("its output")?;
        text.lines().last().map(str::to_string).with_context(|| format!("{shown} printed nothing"))
    }
}
