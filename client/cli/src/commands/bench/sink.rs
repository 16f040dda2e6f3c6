//! Counts the messages that a bench sent, and checks every byte and their order.

use serde::{Deserialize, Serialize};
use switchboard_transport::clock;

use super::pattern;
use crate::failure::Failure;

/// The one-way messages that come next, from number 0.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Expected {
    pub(crate) size: usize,
    /// The time of every so manieth is taken.
    pub(crate) stride: u64,
}

/// The one-way messages that came.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Received {
    /// Those that were whole and in order.
    pub(crate) verified: u64,
    /// What was wrong first.
    pub(crate) wrong: Option<String>,
    /// When the last one came, by the monotonic clock.
    pub(crate) last_ns: u64,
    /// When every so manieth came.
    pub(crate) times_ns: Vec<u64>,
}

/// Whoever receives messages, and checks every byte of them.
#[derive(Default)]
pub(crate) struct Sink {
    expected: Expected,
    received: Received,
    next_time: u64,
}

impl Sink {
    #[inline]
    /// The next message has come.
    pub(crate) fn take(&mut self, message: &[u8]) {
        let number = self.received.verified;
        let found = pattern::check(message);
        let is_next = found.is_some_and(|found| pattern::is_number(found, number, self.expected.size));
        if !is_next || message.len() != self.expected.size {
            self.complain(message.len(), number, found);
            return;
        }
        self.received.verified += 1;
        if number == self.next_time {
            self.received.times_ns.push(clock::monotonic_ns());
            self.next_time += self.expected.stride;
        }
    }

    #[cold]
    fn complain(&mut self, length: usize, number: u64, found: Option<u64>) {
        if self.received.wrong.is_none() {
            let found = found.map_or_else(|| "a damaged one".to_owned(), |found| format!("message {found}"));
            self.received.wrong = Some(format!(
                "expected message {number} of {} bytes, got {found} of {length}",
                self.expected.size
            ));
        }
    }

    /// What came so far, for a payload of [`Expected`].
    pub(crate) fn answer(&mut self, expected: &[u8]) -> Vec<u8> {
        let expected = switchboard_protocol::decode(expected).unwrap_or_default();
        switchboard_protocol::encode(&self.report(expected))
    }

    /// What came so far; it begins anew with these.
    pub(crate) fn report(&mut self, expected: Expected) -> Received {
        let mut received = std::mem::take(&mut self.received);
        received.last_ns = clock::monotonic_ns();
        *self = Self { expected, ..Self::default() };
        received
    }

    /// Ready for these.
    pub(crate) fn new(expected: Expected) -> Self {
        Self { expected, ..Self::default() }
    }

    /// How many came as they should.
    pub(crate) fn verified(&self) -> u64 {
        self.received.verified
    }

    /// Whether something has come otherwise.
    pub(crate) fn is_wrong(&self) -> bool {
        self.received.wrong.is_some()
    }

    /// Something else than a wrong message is wrong.
    pub(crate) fn fail(&mut self, why: impl Into<String>) {
        self.received.wrong.get_or_insert(why.into());
    }
}

impl Received {
    /// That all of so many came as they should.
    pub(crate) fn check(&self, count: u64) -> Result<(), Failure> {
        if self.verified == count && self.wrong.is_none() {
            return Ok(());
        }
        let lost = count.saturating_sub(self.verified);
        let wrong = self.wrong.as_deref().unwrap_or("the rest never came");
        Err(Failure::ended(format_args!("Failed: {lost} of {count} messages were lost: {wrong}")))
    }
}
