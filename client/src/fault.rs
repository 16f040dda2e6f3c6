//! What a service answers instead of a reply.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use switchboard_protocol::{Failure, Outcome};

use crate::CallError;

/// The end of a request other than by a reply (SPEC 5.5).
///
/// Made of any error by `?`: the caller then gets `Failed` with the error's text. An error of a nested
/// call becomes `Failed` as well (our caller did not ask for *that* service): with the other service's
/// own domain and code if it was `Failed`, else with domain `switchboard` and the outcome's number.
///
/// ```
/// use switchboard::Fault;
///
/// fn parse(payload: &[u8]) -> Result<u32, Fault> {
///     let text = std::str::from_utf8(payload)?;
///     text.parse().map_err(|_| Fault::invalid("expected a number"))
/// }
/// assert_eq!(parse(b"x").unwrap_err().to_string(), "Invalid: expected a number");
/// assert!(parse(b"\xff").unwrap_err().to_string().starts_with("Failed: "));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Fault {
    pub(crate) outcome: Outcome,
    pub(crate) failure: Box<Failure>,
}

impl Fault {
    /// Any outcome that a service may give; from others the caller gets `Failed`.
    pub fn new(outcome: Outcome, failure: Failure) -> Self {
        Self { outcome: outcome.from_service(), failure: Box::new(failure) }
    }

    /// `Failed`, with just a message.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Outcome::Failed, Failure::new(message))
    }

    /// `Failed`, with the service's own code, which means something within `domain`.
    pub fn coded(domain: impl Into<String>, code: u32, message: impl Into<String>) -> Self {
        let failure = Failure { domain: domain.into(), code, ..Failure::new(message) };
        Self::new(Outcome::Failed, failure)
    }

    /// `Invalid`: the request makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Outcome::Invalid, Failure::new(message))
    }

    /// `Denied`: this caller may not do this.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(Outcome::Denied, Failure::new(message))
    }

    /// `Busy`: try again after so long (in whole milliseconds).
    pub fn busy(message: impl Into<String>, retry_after: Duration) -> Self {
        let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
        Self::new(Outcome::Busy, Failure { retry_after_ms, ..Failure::new(message) })
    }

    /// `Unsupported`: no such method.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Outcome::Unsupported, Failure::new(message))
    }

    /// With bytes of the service's own, in its own encoding.
    pub fn details(mut self, details: impl Into<Vec<u8>>) -> Self {
        self.failure.details = details.into();
        self
    }

    /// Which outcome.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// What is said about it.
    pub fn failure(&self) -> &Failure {
        &self.failure
    }
}

impl<E: Error + 'static> From<E> for Fault {
    fn from(error: E) -> Self {
        match (&error as &dyn Any).downcast_ref::<CallError>() {
            Some(CallError { outcome: Outcome::Failed, failure }) => {
                Self { outcome: Outcome::Failed, failure: failure.clone() }
            }
            Some(call) => Self::coded("switchboard", call.outcome as u32, call.to_string()),
            None => Self::failed(error.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.outcome, self.failure.message)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.outcome, self.failure)
    }
}
