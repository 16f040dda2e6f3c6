//! An event: flags that are never lost, and pulses (SPEC 11).

use std::fmt;
use std::time::Duration;

use switchboard_protocol::signal::{Await, Pulse, Raise, Raised, SignalMethod};
use switchboard_protocol::{ObjectKind, Verb};

use crate::consumer::in_time;
use crate::driver::{Target, after};
use crate::queue::decode;
use crate::session::Method;
use crate::{Board, CallError, Context, Service};

/// An event to be raised and waited for; made by [`Board::event`]. Cheap to clone.
///
/// It holds 64 flags and a bounded number of pulses, until somebody who waits takes them. A wait that
/// ends by its time-out has taken nothing.
///
/// ```
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let board = switchboard::Board::builder().socket(broker.socket()).connect()?;
/// let alarm = board.event("acme.alarm");
/// alarm.raise(0b101)?;
/// alarm.raise(0b001)?; // set already
/// assert_eq!(alarm.wait(0b011)?, 0b001); // taken away
/// assert_eq!(alarm.wait(!0)?, 0b100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Signal {
    raiser: Service,
    waiter: Service,
}

impl Board {
    /// An event by name. Nothing is asked of the broker before it is used; then it comes into being,
    /// if it is not there yet (SPEC 11.1).
    pub fn event(&self, name: &str) -> Signal {
        let with = |verb: Verb| Service {
            target: Target::shared(&self.shared, name, ObjectKind::Event, verb.right()),
        };
        Signal { raiser: with(Verb::Signal), waiter: with(Verb::Subscribe) }
    }
}

impl Signal {
    /// Sets flags. Those that are set already stay so; nothing is lost, and it takes no room.
    ///
    /// # Errors
    ///
    /// `Invalid` for no flag, `Denied` without the right `signal`, `PeerDied`.
    pub fn raise(&self, bits: u64) -> Result<(), CallError> {
        self.tell(SignalMethod::Raise, 0, &switchboard_protocol::encode(&Raise { bits }))
    }

    /// Adds a pulse, of priority 0.
    ///
    /// # Errors
    ///
    /// `Busy` where as many wait already as there is room for: it is dropped, and who waits is told how
    /// many were. Otherwise as [`Signal::raise`].
    pub fn pulse(&self, code: u32, value: u64) -> Result<(), CallError> {
        self.pulse_with_priority(0, code, value)
    }

    /// Adds a pulse that is taken before those of less priority: 0 (least) to 7, as policy allows.
    ///
    /// # Errors
    ///
    /// As [`Signal::pulse`].
    pub fn pulse_with_priority(&self, priority: u8, code: u32, value: u64) -> Result<(), CallError> {
        let body = switchboard_protocol::encode(&Pulse { code, value });
        self.tell(SignalMethod::Pulse, priority, &body)
    }

    /// Waits until one of these flags is set, however long that takes, and takes those away that are.
    /// (A deadline that is inherited holds.)
    ///
    /// # Errors
    ///
    /// `Denied` without the right `subscribe`, `Invalid` for no flag, `PeerDied`.
    pub fn wait(&self, mask: u64) -> Result<u64, CallError> {
        Ok(self.wait_any(mask, false)?.bits)
    }

    /// [`Signal::wait`] at most so long: `None` when the time is up, and no flag was taken.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn wait_timeout(&self, mask: u64, timeout: Duration) -> Result<Option<u64>, CallError> {
        Ok(self.wait_any_timeout(mask, false, timeout)?.map(|raised| raised.bits))
    }

    /// Waits until one of these flags is set or, with `pulses`, a pulse is there.
    ///
    /// # Errors
    ///
    /// As [`Signal::wait`].
    pub fn wait_any(&self, mask: u64, pulses: bool) -> Result<Raised, CallError> {
        self.wait_until(mask, pulses, Context::inherit_deadline(Context::current(), 0))
    }

    /// [`Signal::wait_any`] at most so long: `None` when the time is up, and nothing was taken.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn wait_any_timeout(
        &self,
        mask: u64,
        pulses: bool,
        timeout: Duration,
    ) -> Result<Option<Raised>, CallError> {
        let deadline = Context::inherit_deadline(Context::current(), after(timeout));
        in_time(self.wait_until(mask, pulses, deadline))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.raiser.name().expect("events are opened by name")
    }

    fn tell(&self, method: SignalMethod, priority: u8, body: &[u8]) -> Result<(), CallError> {
        self.raiser.method(method as u32).priority(priority).payload(body).call().map(drop)
    }

    fn wait_until(&self, mask: u64, pulses: bool, deadline: u64) -> Result<Raised, CallError> {
        let target = &self.waiter.target;
        let body = await_body(mask, pulses);
        let builder = self.waiter.request();
        let mut params = builder.params(false, &[], 0);
        params.method = Method::Number(SignalMethod::Await as u32);
        params.deadline = deadline;
        decode(&target.board.call(target, &params, &body)?, "Raised")
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn raiser(&self) -> &Service {
        &self.raiser
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn waiter(&self) -> &Service {
        &self.waiter
    }
}

pub(crate) fn await_body(mask: u64, pulses: bool) -> Vec<u8> {
    switchboard_protocol::encode(&Await { mask, pulses })
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("name", &self.name()).finish_non_exhaustive()
    }
}
