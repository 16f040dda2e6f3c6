//! A producer or a consumer of a queue as a process of its own, which keeps a ledger and goes on whatever
//! becomes of the broker, until its stdin ends.
//!
//! ```text
//! rig-worker SOCKET produce QUEUE LEDGER NAME       pushes each message once; what is in doubt stays so
//! rig-worker SOCKET produce-again QUEUE LEDGER NAME pushes with numbers, and again what is in doubt
//! rig-worker SOCKET consume QUEUE LEDGER            pops and acknowledges
//! rig-worker SOCKET will TOPIC NAME                 leaves a will, and says `ready`
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use switchboard::{Board, CallError, Outcome, PendingPush, Queue, Reconnect};
use switchboard_tests::ledger::{Entry, Message, Writer};
use switchboard_tests::rig::arguments_as_user;
use switchboard_transport::clock;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Pushes that are on their way at once.
const IN_FLIGHT: usize = 8;

struct Worker {
    socket: String,
    queue: String,
    ledger: Writer,
    ending: Arc<AtomicBool>,
}

fn main() -> Result<()> {
    let arguments = arguments_as_user()?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let consumes = arguments.get(1) == Some(&"consume");
    let worker = |socket: &str, queue: &str, ledger: &str| -> Result<Worker> {
        let ending = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ending);
        thread::spawn(move || {
            // However it ends, nobody wants us any more.
            let _ = io::stdin().read_to_end(&mut Vec::new());
            if consumes {
                // What it works on comes to somebody else, as if it had been killed.
                std::process::exit(0);
            }
            told.store(true, Ordering::Relaxed);
        });
        let ledger = Writer::open(Path::new(ledger))?;
        Ok(Worker { socket: socket.to_owned(), queue: queue.to_owned(), ledger, ending })
    };
    match arguments[..] {
        [socket, "produce", queue, ledger, name] => worker(socket, queue, ledger)?.produce(name, None),
        [socket, "produce-again", queue, ledger, name] => {
            let id = name.bytes().fold(0, |id, byte| id << 8 | u64::from(byte));
            worker(socket, queue, ledger)?.produce(name, Some(id))
        }
        [socket, "consume", queue, ledger] => worker(socket, queue, ledger)?.consume(),
        [socket, "will", topic, name] => leave_will(socket, topic, name),
        _ => Err(format!("wrong usage: {arguments:?}").into()),
    }
}

fn leave_will(socket: &str, topic: &str, name: &str) -> Result<()> {
    let board = Board::builder().socket(socket).program("willing").connect()?;
    board.topic(topic).set_will(format!("{name} is gone"))?;
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    board.close();
    Ok(())
}

/// Whether the broker, and not this program or what it asked for, was what ended it.
fn is_lost(error: &CallError) -> bool {
    matches!(error.outcome, Outcome::PeerDied | Outcome::ShuttingDown)
}

impl Worker {
    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Connects, however long that takes; `None` when it should end.
    fn connect(&self) -> Option<Queue> {
        loop {
            let board = Board::builder().socket(&self.socket).program("worker");
            match board.reconnect(Reconnect::never()).no_timeout().connect() {
                Ok(board) => return Some(board.queue(&self.queue)),
                Err(_) if self.is_ending() => return None,
                // There is no other way to learn that a broker is back.
                Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    fn produce(mut self, name: &str, id: Option<u64>) -> Result<()> {
        let mut number = 0;
        let mut again = VecDeque::new();
        while let Some(queue) = self.connect() {
            let mut open: VecDeque<(Message, PendingPush)> = VecDeque::new();
            let mut lost = false;
            loop {
                let ended =
                    if open.len() == IN_FLIGHT || lost || self.is_ending() { open.pop_front() } else { None };
                if let Some((message, push)) = ended {
                    match push.wait() {
                        Ok(pushed) => self.ledger.write(&Entry::Pushed(message, pushed.position))?,
                        Err(error) if is_lost(&error) => {
                            lost = true;
                            if id.is_some() {
                                again.push_back(message);
                            } else {
                                self.ledger.write(&Entry::Doubtful(message))?;
                            }
                        }
                        Err(error) => return Err(error.into()),
                    }
                    continue;
                }
                if lost || (self.is_ending() && again.is_empty()) {
                    break;
                }
                let message = again.pop_front().unwrap_or_else(|| {
                    number += 1;
                    Message::new(name, number)
                });
                self.ledger.write(&Entry::Pushing(message.clone()))?;
                let payload = message.to_string();
                let push = queue.message(&payload);
                let push = match id {
                    Some(id) => push.producer(id, message.number),
                    None => push,
                };
                match push.begin() {
                    Ok(push) => open.push_back((message, push)),
                    Err(error) if is_lost(&error) => {
                        lost = true;
                        if id.is_some() {
                            again.push_front(message);
                        } else {
                            self.ledger.write(&Entry::Doubtful(message))?;
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            // What was on its way is older than what was put back before it could be sent.
            again.make_contiguous().sort();
            if !lost {
                return Ok(());
            }
        }
        Ok(())
    }

    fn consume(mut self) -> Result<()> {
        let mut connection = 0;
        while let Some(queue) = self.connect() {
            connection += 1;
            loop {
                let asked_ns = clock::monotonic_ns();
                let leased = match queue.pop() {
                    Ok(leased) => leased,
                    Err(error) if is_lost(&error) => break,
                    Err(error) => return Err(error.into()),
                };
                let message: Message =
                    std::str::from_utf8(&leased)?.parse().map_err(|()| "a payload that no producer made")?;
                let position = leased.position();
                self.ledger.write(&Entry::Got {
                    message: message.clone(),
                    position,
                    connection,
                    asked_ns,
                })?;
                match leased.ack() {
                    Ok(_) => self.ledger.write(&Entry::Consumed(message, clock::monotonic_ns()))?,
                    Err(error) if error.outcome == Outcome::LeaseLost => {
                        self.ledger.write(&Entry::Lost(message))?;
                    }
                    Err(error) if is_lost(&error) => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}
