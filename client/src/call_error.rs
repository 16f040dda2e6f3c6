//! How a call ended, other than by a reply.

use std::fmt;

use switchboard_protocol::{Failure, Outcome};

/// A call that did not end by a reply: one of the outcomes of SPEC 4.6, and what was said about it.
///
/// Displays as `Outcome: message`, which is also how the command line tells it.
///
/// ```
/// use switchboard::{CallError, Outcome};
/// let error = CallError::new(Outcome::NoOwner, "nobody serves `acme.audio`");
/// assert_eq!(error.to_string(), "NoOwner: nobody serves `acme.audio`");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct CallError {
    /// Which outcome; never [`Outcome::Reply`].
    pub outcome: Outcome,
    /// What was said: message, the service's own domain and code, when to try again, exit status.
    pub failure: Box<Failure>,
}

impl CallError {
    /// An outcome with just a message.
    pub fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self { outcome, failure: Box::new(Failure::new(message)) }
    }

    /// An outcome with all that was said.
    pub fn with(outcome: Outcome, failure: Failure) -> Self {
        Self { outcome, failure: Box::new(failure) }
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.failure.message
    }

    pub(crate) fn connection_lost(why: &str) -> Self {
        Self::new(
            Outcome::PeerDied,
            format!("the connection to the broker was lost while the call was open: {why}"),
        )
    }

    pub(crate) fn not_connected(why: &str) -> Self {
        Self::new(Outcome::PeerDied, format!("there is no connection to the broker: {why}"))
    }

    pub(crate) fn malformed(what: &str) -> Self {
        Self::new(Outcome::Failed, format!("the answer is not a {what}"))
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.outcome, self.failure.message)
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.outcome, self.failure)
    }
}

impl std::error::Error for CallError {}
