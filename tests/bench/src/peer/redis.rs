//! redis-server on a Unix socket, lists as queues: RPUSH to send, a blocking BLMPOP of up to 1024 items
//! to receive, each push and the next pop in one write. No persistence.
//!
//! At most one BLMPOP is open per connection: what follows a blocked one waits behind it. As a queue of
//! single messages (`Singly`): RPUSH and BLPOP (LPOP that waits) of one message each, pipelined.

use crate::candidate::{
    Candidate, Connect, Kind, Mode, Sample, Session, Site, measure_pair, missing_program, version_of,
};
use crate::process::Server;
use crate::stream::Stream;
use crate::work::{Budget, End, Port, QUEUE_IN_FLIGHT, Work};
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The peer.
pub struct Redis;

/// Items that one RPUSH carries and one BLMPOP fetches at most.
const ITEMS: usize = 1024;
/// RPUSH commands whose answer a sender has not read yet.
const UNANSWERED: usize = 4;

impl Candidate for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn kind(&self) -> Kind {
        Kind::Peer
    }

    fn describe(&self) -> String {
        let version = version_of("redis-server", "--version");
        let version: Vec<&str> = version.split(' ').take(3).collect();
        format!("{}, Unix socket, lists, no persistence", version.join(" "))
    }

    fn missing(&self) -> Option<String> {
        missing_program("redis-server")
    }

    fn does(&self, work: Work, _: Mode) -> bool {
        work.is_everybodys() || work == Work::Queue
    }

    fn start<'a>(&'a self, site: &'a Site) -> Result<Box<dyn Session + 'a>> {
        let socket = site.dir.join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
            "--unixsocket",
        ]);
        command.arg(&socket).arg("--dir").arg(&site.dir);
        let mut server = Server::start("redis-server", command, &site.cpus, &site.dir)?;
        server.wait_until(|| UnixStream::connect(&socket).is_ok())?;
        Ok(Box::new(Running { _server: server, socket, site }))
    }
}

struct Running<'a> {
    _server: Server,
    socket: PathBuf,
    site: &'a Site,
}

impl Session for Running<'_> {
    fn measure(&mut self, work: Work, budget: &Budget) -> Result<Sample> {
        match work {
            Work::Queue => measure_pair(&Singly(&self.socket), self.site, work, budget),
            _ => measure_pair(&At(&self.socket), self.site, work, budget),
        }
    }
}

struct At<'a>(&'a Path);

impl Connect for At<'_> {
    type Port = Client;

    fn open(&self, end: End, work: Work) -> Result<Client> {
        let (ask, answer) = (work.name().to_string(), format!("{}.reply", work.name()));
        let (push_to, pop_from) = match end {
            End::Caller => (ask, Some(answer)),
            End::Echo => (answer, Some(ask)),
            End::Sink => (answer, Some(ask)),
            End::Sender => (ask, None),
        };
        let pop =
            pop_from.map(|list| command(&["BLMPOP", "0", "1", &list, "LEFT", "COUNT", &ITEMS.to_string()]));
        Ok(Client {
            stream: Stream::unix(self.0)?,
            push_head: format!("$5\r\nRPUSH\r\n${}\r\n{push_to}\r\n", push_to.len()).into_bytes(),
            pop: pop.unwrap_or_default(),
            popping: false,
            items: Vec::new(),
            count: 0,
            unanswered: 0,
        })
    }
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len());
    for word in words {
        out += &format!("${}\r\n{word}\r\n", word.len());
    }
    out.into_bytes()
}

struct Client {
    stream: Stream,
    push_head: Vec<u8>,
    /// The BLMPOP command; empty for a sender.
    pop: Vec<u8>,
    /// Whether one is open.
    popping: bool,
    /// Items for the next RPUSH, whose head must say how many there are.
    items: Vec<u8>,
    count: usize,
    unanswered: usize,
}

impl Client {
    fn push_item(&mut self, message: &[u8]) {
        write!(self.items, "${}\r\n", message.len()).expect("writing to memory");
        self.items.extend_from_slice(message);
        self.items.extend_from_slice(b"\r\n");
        self.count += 1;
    }

    /// Reads lines and items up to the next message batch, if one is due; `:N` answers are counted off.
    fn next_value(&mut self) -> Result<Value> {
        let value = self.stream.next_line(|line| {
            let number = || String::from_utf8_lossy(&line[1..]).parse::<usize>().unwrap_or(0);
            match line.first() {
                Some(b':') => Ok(Value::Answer),
                Some(b'*') => Ok(Value::Array(number())),
                Some(b'$') => Ok(Value::Bulk(number())),
                _ => bail!("redis-server says {}", String::from_utf8_lossy(line)),
            }
        })??;
        if value == Value::Answer {
            self.unanswered -= 1;
        }
        Ok(value)
    }

    /// Waits for the answer to the open BLMPOP; says how many items follow.
    fn wait_batch(&mut self) -> Result<usize> {
        if !self.popping {
            self.flush_commands(true)?;
        }
        loop {
            match self.next_value()? {
                Value::Answer => {}
                // [list, [item …]]
                Value::Array(2) => break,
                other => bail!("redis-server answered {other:?} where a list was due"),
            }
        }
        let Value::Bulk(name) = self.next_value()? else { bail!("no list name in redis-server's answer") };
        self.wait_bytes(name + 2)?;
        self.stream.inward().consume(name + 2);
        let Value::Array(items) = self.next_value()? else { bail!("no items in redis-server's answer") };
        self.popping = false;
        Ok(items)
    }

    fn wait_bytes(&mut self, count: usize) -> Result<()> {
        while self.stream.inward().unread().len() < count {
            self.stream.fill()?;
        }
        Ok(())
    }

    /// Waits for one item whole; says its length. It then lies at the front of what has arrived.
    fn wait_item(&mut self) -> Result<usize> {
        let Value::Bulk(length) = self.next_value()? else {
            bail!("an item of redis-server's answer is no bulk")
        };
        self.wait_bytes(length + 2)?;
        Ok(length)
    }

    fn flush_commands(&mut self, pop: bool) -> Result<()> {
        let mut outward = self.stream.outward();
        if self.count > 0 {
            write!(outward.bytes(), "*{}\r\n", 2 + self.count).context("writing to memory")?;
            outward.bytes().extend_from_slice(&self.push_head);
            self.unanswered += 1;
        }
        let tail = if pop && !self.popping { self.pop.as_slice() } else { &[] };
        outward.send_behind(&self.items, tail)?;
        self.popping |= !tail.is_empty();
        self.items.clear();
        self.count = 0;
        while self.unanswered > UNANSWERED && !self.popping {
            self.next_value()?;
        }
        Ok(())
    }
}

#[derive(PartialEq, Debug)]
enum Value {
    Answer,
    Array(usize),
    Bulk(usize),
}

impl Port for Client {
    fn put(&mut self, message: &[u8]) -> Result<()> {
        self.push_item(message);
        if self.count == ITEMS { self.flush_commands(false) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.flush_commands(true)
    }

    fn take(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for _ in 0..self.wait_batch()? {
            let length = self.wait_item()?;
            each(&self.stream.inward().unread()[..length])?;
            self.stream.inward().consume(length + 2);
        }
        Ok(())
    }

    fn echo(&mut self) -> Result<()> {
        for _ in 0..self.wait_batch()? {
            let length = self.wait_item()?;
            let message = &self.stream.inward().unread()[..length];
            write!(self.items, "${length}\r\n").context("writing to memory")?;
            self.items.extend_from_slice(message);
            self.items.extend_from_slice(b"\r\n");
            self.count += 1;
            self.stream.inward().consume(length + 2);
        }
        self.flush_commands(true)
    }
}

/// A list as a queue whose users push and pop one message a command, pipelined.
struct Singly<'a>(&'a Path);

impl Connect for Singly<'_> {
    type Port = Single;

    fn open(&self, _: End, work: Work) -> Result<Single> {
        let list = work.name();
        Ok(Single {
            stream: Stream::unix(self.0)?,
            push_head: format!("*3\r\n$5\r\nRPUSH\r\n${}\r\n{list}\r\n", list.len()).into_bytes(),
            pop: command(&["BLPOP", list, "0"]),
            popped_head: format!("*2\r\n${}\r\n{list}\r\n${}\r\n", list.len(), work.size()).into_bytes(),
            size: work.size(),
            open: 0,
        })
    }
}

struct Single {
    stream: Stream,
    push_head: Vec<u8>,
    pop: Vec<u8>,
    /// What stands before each message that was popped.
    popped_head: Vec<u8>,
    size: usize,
    /// Commands without an answer so far: all pushes, or all pops.
    open: usize,
}

impl Single {
    /// Counts the answers to pushes that have arrived, after waiting for one.
    fn take_answers(&mut self) -> Result<()> {
        let mut answers = 0;
        while answers == 0 || self.stream.inward().line().is_some() {
            self.stream.next_line(|line| match line.first() {
                Some(b':') => Ok(()),
                _ => bail!("redis-server says {}", String::from_utf8_lossy(line)),
            })??;
            answers += 1;
        }
        self.open -= answers;
        Ok(())
    }
}

impl Port for Single {
    fn put(&mut self, message: &[u8]) -> Result<()> {
        let mut outward = self.stream.outward();
        outward.bytes().extend_from_slice(&self.push_head);
        write!(outward.bytes(), "${}\r\n", message.len()).context("writing to memory")?;
        outward.payload(message, b"\r\n")?;
        self.open += 1;
        while self.open >= QUEUE_IN_FLIGHT {
            self.stream.outward().flush()?;
            self.take_answers()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.outward().flush()
    }

    fn take(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut outward = self.stream.outward();
        for _ in self.open..QUEUE_IN_FLIGHT {
            outward.bytes().extend_from_slice(&self.pop);
        }
        outward.flush()?;
        self.open = QUEUE_IN_FLIGHT;
        let (head, whole) = (self.popped_head.len(), self.popped_head.len() + self.size + 2);
        while self.stream.inward().unread().len() < whole {
            self.stream.fill()?;
        }
        while let Some(answer) = self.stream.inward().unread().get(..whole) {
            if answer[..head] != self.popped_head {
                let end = answer.len().min(80);
                bail!(
                    "redis-server answered {:?} where a message was due",
                    answer[..end].escape_ascii().to_string()
                );
            }
            each(&answer[head..head + self.size])?;
            self.stream.inward().consume(whole);
            self.open -= 1;
        }
        Ok(())
    }

    fn echo(&mut self) -> Result<()> {
        bail!("nobody echoes through a queue: a bug of this bench")
    }
}
