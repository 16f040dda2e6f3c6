//! A broker for a test, and boards on it.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(unreachable_pub, reason = "a module of several test programs")]

pub mod peer;

use std::time::{Duration, Instant};

use switchboard::{Board, BoardBuilder, Server};
use switchboard_broker::{Embedded, Options};

/// A broker of its own.
pub struct World {
    pub broker: Embedded,
}

impl World {
    pub fn start() -> Self {
        Self { broker: Embedded::start(&Options::default()).expect("a broker") }
    }

    pub fn builder(&self) -> BoardBuilder {
        Board::builder().socket(self.broker.socket()).program("test")
    }

    /// A connection of its own.
    pub fn board(&self) -> Board {
        self.builder().connect().expect("connected")
    }

    /// An echo service on a connection of its own.
    pub fn echo(&self, name: &str) -> Server {
        self.board().serve(name).start(|request| Ok(request.take_payload())).expect("served")
    }
}

/// What comes when nobody can say.
pub fn patiently<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}
