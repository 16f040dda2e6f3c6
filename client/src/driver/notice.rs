//! What a program may want to know that is not the answer to anything it asked.

use std::collections::VecDeque;

use crate::CallError;

/// Something happened to the connection or to a handle (SPEC 8).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// One-way messages were not delivered, or it is not known that they were.
    SendFailed {
        /// How many.
        count: u64,
        /// The tag of the last one ([`crate::CallBuilder::tag`]).
        tag: u64,
        /// Why.
        error: CallError,
    },
    /// A handle is void: who granted it is gone or lost the right.
    HandleRevoked {
        /// As [`crate::Handle::to_wire`] gives it.
        handle: u64,
    },
    /// A server of this board owns its name now.
    OwnerGained {
        /// The name; empty for a private service.
        name: String,
        /// The epoch of this ownership.
        epoch: u64,
    },
    /// A server of this board was replaced and stands by.
    OwnerReplaced {
        /// The name.
        name: String,
        /// Its place in line, from 1.
        place: u64,
    },
    /// A server could not be restored on a new connection, and has ended.
    ServeFailed {
        /// The name.
        name: String,
        /// Why.
        error: CallError,
    },
    /// The broker goes down.
    ShuttingDown,
    /// The connection to the broker is lost.
    Disconnected {
        /// What is known of it.
        why: String,
    },
    /// There is a connection again.
    Reconnected,
    /// Notices that nobody fetched were dropped, the oldest first.
    Lost {
        /// How many.
        count: u64,
    },
}

/// Notices that wait to be fetched: at most [`NOTICES_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Notices {
    waiting: VecDeque<Notice>,
    lost: u64,
    /// Undelivered one-way messages since the last flush: how many, and why the last one.
    send_failures: Option<(u64, CallError)>,
}

const NOTICES_MAX: usize = 1024;

impl Notices {
    pub(crate) fn push(&mut self, notice: Notice) {
        if let Notice::SendFailed { count, error, .. } = &notice {
            let before = self.send_failures.take().map_or(0, |(count, _)| count);
            self.send_failures = Some((before.saturating_add(*count), error.clone()));
        }
        if self.waiting.len() >= NOTICES_MAX {
            self.waiting.pop_front();
            self.lost += 1;
        }
        self.waiting.push_back(notice);
    }

    /// What [`crate::Board::flush`] tells.
    pub(crate) fn take_failures(&mut self) -> Result<(), CallError> {
        let Some((count, mut error)) = self.send_failures.take() else { return Ok(()) };
        let messages = if count == 1 { "1 message was" } else { &format!("{count} messages were") };
        error.failure.message = format!("{messages} not delivered: {}", error.failure.message);
        Err(error)
    }

    pub(crate) fn pop(&mut self) -> Option<Notice> {
        if self.lost > 0 {
            return Some(Notice::Lost { count: std::mem::take(&mut self.lost) });
        }
        self.waiting.pop_front()
    }
}
