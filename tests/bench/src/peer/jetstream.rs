//! nats-server's JetStream: a stream in a file that is synced before each answer (`sync_interval: always`),
//! which nats-server can since 2.10. Unless told so it answers first and syncs within two minutes: another
//! promise, and not measured here.

use super::nats::{CONFIG, Client, free_port};
use crate::candidate::{
    Candidate, Connect, Kind, Mode, Sample, Session, Site, call_sample, fork_end, missing_program, version_of,
};
use crate::floor::fdatasync::disk;
use crate::process::{Server, wait_done};
use crate::work::{Budget, End, Port, Work};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::VecDeque;
use std::net::TcpStream;
use std::process::Command;

/// The peer.
pub struct JetStream;

/// Since when it can sync before it answers.
const VERSION_MIN: (u32, u32) = (2, 10);

/// The subject whose messages the stream keeps, and the one on which its answers come.
const SUBJECT: &str = "durable";
const ANSWERS: &str = "answers";

impl Candidate for JetStream {
    fn name(&self) -> &'static str {
        "jetstream"
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn describe(&self) -> String {
        format!("{}, a stream in a file, synced before each answer", version_of("nats-server", "--version"))
    }

    fn missing(&self) -> Option<String> {
        let why = || {
            let text = version_of("nats-server", "--version");
            let version = version_in(&text);
            if version.is_none_or(|version| version < VERSION_MIN) {
                return Some(format!("{text} cannot sync before it answers; 2.10 or later is needed"));
            }
            disk().err().map(|why| format!("{why:#}"))
        };
        missing_program("nats-server").or_else(why).map(|why| format!("jetstream: {why}"))
    }

    fn does(&self, work: Work, _: Mode) -> bool {
        work.is_durable()
    }

    fn start<'a>(&'a self, site: &'a Site) -> Result<Box<dyn Session + 'a>> {
        let config = site.dir.join("jetstream.conf");
        let store = site.dir.join("store");
        let text =
            format!("{CONFIG}jetstream {{ store_dir: \"{}\", sync_interval: always }}\n", store.display());
        std::fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
        let port = free_port()?;
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"]).arg(&config);
        let mut server = Server::start("nats-server", command, &site.cpus, &site.dir)?;
        server.wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Box::new(Running { _server: server, port, site }))
    }
}

/// `nats-server: v2.10.7` → (2, 10).
fn version_in(text: &str) -> Option<(u32, u32)> {
    let (_, version) = text.split_once(": v")?;
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

struct Running<'a> {
    _server: Server,
    port: u16,
    site: &'a Site,
}

impl Session for Running<'_> {
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<Sample> {
        let mut pusher = fork_end(&At(self.port), &self.site.cpus, End::Caller, work, budget)?;
        let tallies = wait_done(&mut [&mut pusher], &mut [])?;
        Ok(call_sample(tallies[0], work))
    }
}

struct At(u16);

impl Connect for At {
    type Port = Pusher;

    /// Makes the stream anew, so that its sequence numbers begin at 1.
    fn open(&self, _: End, work: Work) -> Result<Pusher> {
        let stream = work.name();
        let ask = |what: &str, body: &str| -> Result<Value> {
            let publish = format!("PUB $JS.API.STREAM.{what}.{stream} {ANSWERS} ");
            let mut client = Client::connect(self.0, &format!("SUB {ANSWERS} 1\r\n"), publish)?;
            client.put(body.as_bytes())?;
            client.flush()?;
            let mut answer = Value::Null;
            client.take(|message| {
                answer = serde_json::from_slice(message).context("an answer in JSON")?;
                Ok(())
            })?;
            ensure!(answer["error"].is_null(), "nats-server answers {what} with {}", answer["error"]);
            Ok(answer)
        };
        let subject = format!("{SUBJECT}.{stream}");
        ask("CREATE", &format!(r#"{{"name":"{stream}","subjects":["{subject}"],"storage":"file"}}"#))?;
        let publish = format!("PUB {subject} {ANSWERS} ");
        let client = Client::connect(self.0, &format!("SUB {ANSWERS} 1\r\n"), publish)?;
        Ok(Pusher { client, sent: VecDeque::new(), answered: 0 })
    }
}

/// Counts the answers off against what was sent. What is in the file is not read back.
struct Pusher {
    client: Client,
    sent: VecDeque<Vec<u8>>,
    answered: u64,
}

impl Port for Pusher {
    fn put(&mut self, message: &[u8]) -> Result<()> {
        self.sent.push_back(message.to_vec());
        self.client.put(message)
    }

    fn flush(&mut self) -> Result<()> {
        self.client.flush()
    }

    fn take(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (sent, answered) = (&mut self.sent, &mut self.answered);
        self.client.take(|answer| {
            *answered += 1;
            let answer: Value = serde_json::from_slice(answer).context("an answer in JSON")?;
            ensure!(answer["seq"].as_u64() == Some(*answered), "answer {answered} is {answer}");
            each(&sent.pop_front().context("an answer to nothing")?)
        })
    }

    fn echo(&mut self) -> Result<()> {
        bail!("nobody echoes a stream: a bug of this bench")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_the_program_prints() {
        assert_eq!(version_in("nats-server: v2.9.10"), Some((2, 9)));
        assert_eq!(version_in("nats-server: v2.10.0-beta.1"), Some((2, 10)));
        assert!((2, 9) < VERSION_MIN && VERSION_MIN <= (2, 10));
        assert_eq!(version_in("version unknown"), None);
    }
}
