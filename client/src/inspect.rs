//! Looking into the broker, and steering it (SPEC 6.2). Thin: the bodies are those of
//! [`switchboard_protocol::control`].

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use switchboard_protocol::Verb;
use switchboard_protocol::control::{
    Explain, Explained, List, Monitor as MonitorBody, MonitorItem, OnPeer, Operation, PeerInfo, PeerStats,
    Reloaded, Stats, Status, Waits,
};

use crate::control_stream::ControlStream;
use crate::driver::after;
use crate::{Board, CallError, Context};

/// Traffic, as it passes. Made by [`Board::monitor`]; dropping it ends the monitoring.
pub struct Monitor {
    stream: ControlStream,
    is_over: bool,
}

/// Connections and what each has done, page by page. Made by [`Board::stats`].
#[derive(Debug)]
pub struct PeerStatsPages {
    board: Board,
    page: VecDeque<PeerStats>,
    after: Option<String>,
}

/// For whom policy is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    /// The user; `None` for oneself.
    pub uid: Option<u32>,
    /// With these groups.
    pub groups: Vec<u32>,
    /// With this security label; empty for none.
    pub label: String,
}

impl Board {
    /// A control operation that ends at once, with the board's time-out, or what is inherited.
    pub(crate) fn operate<R: DeserializeOwned>(
        &self,
        operation: Operation,
        body: &impl Serialize,
    ) -> Result<R, CallError> {
        let deadline = Context::inherit_deadline(Context::current(), self.shared.default_deadline());
        self.shared.control(operation, body, deadline)
    }

    /// The broker at a glance: what it holds, its limits, and what they can cost.
    ///
    /// # Errors
    ///
    /// `PeerDied`.
    pub fn status(&self) -> Result<Status, CallError> {
        self.operate_bare(Operation::Status)
    }

    /// Every connection and what it has done. Needs `admin` on `switchboard`.
    ///
    /// # Errors
    ///
    /// As an item: `Denied`, `PeerDied`.
    pub fn stats(&self) -> PeerStatsPages {
        PeerStatsPages { board: self.clone(), page: VecDeque::new(), after: Some(String::new()) }
    }

    /// Who waits on whom, since when. Needs `admin` on `switchboard`.
    ///
    /// # Errors
    ///
    /// `Denied`, `PeerDied`.
    pub fn waits(&self) -> Result<Waits, CallError> {
        self.operate_bare(Operation::Waits)
    }

    /// Shows frames of the names that match, with so many bytes of each payload (at most 4096).
    /// Never slows traffic: what there is no room for is counted in `lost`. Needs `monitor` on
    /// `switchboard`, and on each name.
    ///
    /// # Errors
    ///
    /// `Denied`, `Invalid`; these come as the first item.
    pub fn monitor(&self, pattern: &str, payload_bytes: u32) -> Result<Monitor, CallError> {
        let body = MonitorBody { pattern: pattern.to_owned(), payload_bytes };
        Ok(Monitor { stream: ControlStream::open(self, Operation::Monitor, &body)?, is_over: false })
    }

    /// What policy says, and by which rule. For others it needs `admin` on `switchboard`.
    ///
    /// # Errors
    ///
    /// `Denied`, `Invalid` for a bad name.
    pub fn explain(&self, who: &Principal, verb: Verb, name: &str) -> Result<Explained, CallError> {
        let body = Explain {
            uid: who.uid,
            groups: who.groups.clone(),
            label: who.label.clone(),
            verb: verb as u32,
            name: name.to_owned(),
        };
        self.operate(Operation::Explain, &body)
    }

    /// Has the broker read its configuration again. Needs `admin` on `switchboard`.
    ///
    /// # Errors
    ///
    /// `Failed` with the diagnostics where it is wrong (the old one stays in force), `Denied`.
    pub fn reload(&self) -> Result<Reloaded, CallError> {
        self.operate_bare(Operation::Reload)
    }

    /// Who this program is to the broker.
    ///
    /// # Errors
    ///
    /// `PeerDied`.
    pub fn identity(&self) -> Result<PeerInfo, CallError> {
        self.operate(Operation::Identify, &OnPeer { peer: 0 })
    }

    /// An operation without a body.
    fn operate_bare<R: DeserializeOwned>(&self, operation: Operation) -> Result<R, CallError> {
        self.operate(operation, &())
    }
}

impl Monitor {
    /// The next frame, waited for at most so long: `None` when the time is up.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Option<Result<MonitorItem, CallError>>> {
        self.fetch(Some(after(timeout)))
    }

    fn fetch(&mut self, until: Option<u64>) -> Option<Option<Result<MonitorItem, CallError>>> {
        if self.is_over {
            return Some(None);
        }
        let next = self.stream.next(until)?;
        self.is_over = next.is_err();
        Some(Some(next))
    }
}

impl Iterator for Monitor {
    type Item = Result<MonitorItem, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fetch(None).flatten()
    }
}

impl Iterator for PeerStatsPages {
    type Item = Result<PeerStats, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(peer) = self.page.pop_front() {
                return Some(Ok(peer));
            }
            let after = self.after.take()?;
            let body = List { pattern: String::new(), after: after.clone() };
            let stats: Stats = match self.board.operate(Operation::Stats, &body) {
                Ok(stats) => stats,
                Err(error) => return Some(Err(error)),
            };
            // A page that brings nothing and yet leads on would be asked for without end.
            self.after = (!stats.next.is_empty() && !stats.peers.is_empty() && stats.next != after)
                .then_some(stats.next);
            self.page = stats.peers.into();
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
