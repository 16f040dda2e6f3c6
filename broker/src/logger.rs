//! The core's facts in words.
//!
//! The reactor only puts facts into a bounded queue. A thread turns them into log lines, and it is
//! that thread which waits when the disk is full, the terminal stopped, or journald slow. What does
//! not fit into the queue is counted, and the count is logged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use switchboard_core::Fact;
use tracing::{debug, error, info, warn};

/// Facts that may wait to be written.
const QUEUE_MAX: usize = 4096;

/// How long the end of the daemon waits for the last lines.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Something to be logged.
#[derive(Debug)]
pub(crate) enum Entry {
    /// By the core.
    Fact(Fact),
    /// By the driver itself.
    Note(Level, String),
    /// Nothing more comes.
    End,
}

/// How loud a note of the driver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// It cannot do what it should.
    Error,
    /// Somebody should look at it.
    Warn,
    /// Normal.
    Info,
}

/// The queue and its thread.
#[derive(Debug)]
pub(crate) struct Logger {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Logger {
    /// Starts the thread. It writes to whatever `tracing` subscriber the program has set up.
    pub(crate) fn start() -> io::Result<Self> {
        let (queue, entries) = sync_channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        let thread =
            thread::Builder::new().name("log".into()).spawn(move || write_all(&entries, &counter))?;
        Ok(Self { queue, dropped, thread: Some(thread) })
    }

    /// Has a fact written. Never waits.
    pub(crate) fn fact(&self, fact: Fact) {
        self.put(Entry::Fact(fact));
    }

    /// Has a line of the driver's own written. Never waits.
    pub(crate) fn note(&self, level: Level, text: impl Into<String>) {
        self.put(Entry::Note(level, text.into()));
    }

    fn put(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Logger {
    /// Lets the thread write what it has, but not for long: a blocked terminal must not keep the
    /// daemon from ending.
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.put(Entry::End);
        let (done, ended) = sync_channel::<()>(0);
        let waiter = thread::Builder::new().name("log-end".into()).spawn(move || {
            // A panic of the log thread was its own last word.
            let _ = thread.join();
            drop(done);
        });
        if waiter.is_ok() {
            // Ends when the sender is dropped, or with the time-out.
            let _ = ended.recv_timeout(LAST_WORDS);
        }
    }
}

fn write_all(entries: &Receiver<Entry>, dropped: &AtomicU64) {
    for entry in entries {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            warn!(target: "switchboard::log", lost, "{lost} log lines were dropped: they came faster than they could be written");
        }
        match entry {
            Entry::Fact(fact) => write_fact(&fact),
            Entry::Note(Level::Error, text) => error!(target: "switchboard", "{text}"),
            Entry::Note(Level::Warn, text) => warn!(target: "switchboard", "{text}"),
            Entry::Note(Level::Info, text) => info!(target: "switchboard", "{text}"),
            Entry::End => return,
        }
    }
}

fn write_fact(fact: &Fact) {
    match fact {
        Fact::Connected { peer, uid, pid } => {
            debug!(target: "switchboard::connection", %peer, uid, pid, "connected");
        }
        Fact::Disconnected { peer, calls } => {
            debug!(target: "switchboard::connection", %peer, calls, "disconnected");
        }
        Fact::Expelled { peer, uid, pid, why, message } => {
            warn!(target: "switchboard::connection", %peer, uid, pid, reason = ?why, "connection ended: {message}");
        }
        Fact::ConnectionsDelayed { uid } => {
            warn!(target: "switchboard::connection", uid, "connections of user {uid} come faster than its quota; they wait");
        }
        Fact::Refused { peer, uid, outcome, message } => {
            info!(target: "switchboard::refusal", %peer, uid, %outcome, "refused: {message}");
        }
        Fact::Owned { name, peer, epoch } => {
            debug!(target: "switchboard::name", name, %peer, epoch, "{name} is served");
        }
        Fact::Orphaned { name } => {
            debug!(target: "switchboard::name", name, "{name} is no longer served");
        }
        Fact::MonitorStarted { peer, uid, pid, pattern, payload_bytes } => {
            warn!(
                target: "switchboard::audit",
                %peer, uid, pid, pattern, payload_bytes,
                "user {uid} (process {pid}) sees the traffic of {pattern} from now on"
            );
        }
        Fact::MonitorEnded { peer } => {
            warn!(target: "switchboard::audit", %peer, "the monitor of {peer} has ended");
        }
        Fact::RecordingBegan { payloads } => {
            let what = if *payloads { "headers and payloads" } else { "headers, and no payloads" };
            warn!(target: "switchboard::audit", payloads, "the flight recorder records {what}");
        }
        Fact::RecordingStopped { why } => {
            error!(target: "switchboard::recorder", "the flight recorder has stopped; the broker goes on: {why}");
        }
        Fact::LogFailed { message } => {
            error!(target: "switchboard::log", "durable things are read-only until the next start: {message}");
        }
        Fact::QueueRefused { name, message } => {
            warn!(target: "switchboard::config", name, "queue `{name}`: {message}");
        }
        Fact::Reloaded => {
            info!(target: "switchboard::config", "new configuration is in force");
        }
        Fact::ReloadFailed { message } => {
            error!(target: "switchboard::config", "the configuration is wrong; the old one stays in force\n{message}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts_and_never_waits() {
        let (queue, entries) = sync_channel(2);
        let logger = Logger { queue, dropped: Arc::default(), thread: None };
        for _ in 0..5 {
            logger.note(Level::Info, "line");
        }
        assert_eq!(logger.dropped.load(Ordering::Relaxed), 3);
        assert_eq!(entries.try_iter().count(), 2);
    }
}
