//! Events, for tasks.

use std::time::Duration;

use switchboard_protocol::signal::{Pulse, Raise, Raised, SignalMethod};

use crate::consumer::in_time;
use crate::driver::after;
use crate::queue::decode;
use crate::session::Method;
use crate::signal::await_body;
use crate::{CallError, Context};

/// An event to be raised and waited for; [`crate::Signal`] for tasks. Made by [`super::Board::event`].
///
/// Waiting has a time-out of its own ([`Signal::wait_timeout`]), kept by the broker: it ends with what
/// was taken or has taken nothing. The future of a wait that is dropped instead (by `select!`, say) takes
/// with it what was on its way to it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let builder = switchboard::Board::builder().socket(broker.socket());
/// # let board = switchboard::tokio::Board::connect_with(builder).await?;
/// let alarm = board.event("acme.alarm");
/// alarm.raise(0b101).await?;
/// assert_eq!(alarm.wait(0b001).await?, 0b001); // taken away
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Signal {
    signal: crate::Signal,
}

impl Signal {
    pub(super) fn new(signal: crate::Signal) -> Self {
        Self { signal }
    }

    /// Sets flags; see [`crate::Signal::raise`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn raise(&self, bits: u64) -> Result<(), CallError> {
        self.tell(SignalMethod::Raise, 0, &switchboard_protocol::encode(&Raise { bits })).await
    }

    /// Adds a pulse, of priority 0; see [`crate::Signal::pulse`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn pulse(&self, code: u32, value: u64) -> Result<(), CallError> {
        self.pulse_with_priority(0, code, value).await
    }

    /// Adds a pulse that is taken before those of less priority; see
    /// [`crate::Signal::pulse_with_priority`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn pulse_with_priority(&self, priority: u8, code: u32, value: u64) -> Result<(), CallError> {
        let body = switchboard_protocol::encode(&Pulse { code, value });
        self.tell(SignalMethod::Pulse, priority, &body).await
    }

    /// Waits until one of these flags is set; see [`crate::Signal::wait`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn wait(&self, mask: u64) -> Result<u64, CallError> {
        Ok(self.wait_any(mask, false).await?.bits)
    }

    /// [`Signal::wait`] at most so long; see [`crate::Signal::wait_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn wait_timeout(&self, mask: u64, timeout: Duration) -> Result<Option<u64>, CallError> {
        Ok(self.wait_any_timeout(mask, false, timeout).await?.map(|raised| raised.bits))
    }

    /// Waits until one of these flags is set or, with `pulses`, a pulse is there.
    ///
    /// # Errors
    ///
    /// As [`Signal::wait`].
    pub async fn wait_any(&self, mask: u64, pulses: bool) -> Result<Raised, CallError> {
        self.wait_until(mask, pulses, Context::inherit_deadline(Context::current(), 0)).await
    }

    /// [`Signal::wait_any`] at most so long; see [`crate::Signal::wait_any_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn wait_any_timeout(
        &self,
        mask: u64,
        pulses: bool,
        timeout: Duration,
    ) -> Result<Option<Raised>, CallError> {
        let deadline = Context::inherit_deadline(Context::current(), after(timeout));
        in_time(self.wait_until(mask, pulses, deadline).await)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.signal.name()
    }

    async fn tell(&self, method: SignalMethod, priority: u8, body: &[u8]) -> Result<(), CallError> {
        let raiser = self.signal.raiser();
        let builder = raiser.method(method as u32).priority(priority);
        let params = builder.params(false, &[], 0);
        raiser.target.board.ask(&raiser.target, &params, body).await.map(drop)
    }

    async fn wait_until(&self, mask: u64, pulses: bool, deadline: u64) -> Result<Raised, CallError> {
        let target = &self.signal.waiter().target;
        let builder = self.signal.waiter().request();
        let mut params = builder.params(false, &[], 0);
        params.method = Method::Number(SignalMethod::Await as u32);
        params.deadline = deadline;
        decode(&target.board.ask(target, &params, &await_body(mask, pulses)).await?, "Raised")
    }
}
