//! Pushing a message to a queue (SPEC 10.3).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard_protocol::queue::{GROUP_KEY_BYTES_MAX, Level, PushOptions, QueueMethod};
use switchboard_protocol::{Extension, Outcome, extension_type};

use crate::driver::{CallParams, RawReply, Target, Until, after};
use crate::queue::{nanoseconds, nothing_to_push};
use crate::session::Method;
use crate::topic::level_of;
use crate::{CallBuilder, CallError, Pending, Service};

/// A message for a queue, with all that can be said about it. Made by [`crate::Queue::message`].
///
/// ```
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let board = switchboard::Board::builder().socket(broker.socket()).connect()?;
/// # board.create_queue("acme.jobs").create()?;
/// use std::time::Duration;
///
/// let jobs = board.queue("acme.jobs");
/// jobs.message("thumbnail 17").priority(20).ttl(Duration::from_secs(60)).group("user-4").push()?;
/// // Many on their way at once:
/// let pending = ["a", "b", "c"].map(|job| jobs.message(job).begin());
/// for push in pending {
///     push?.wait()?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is pushed before `push` or `begin`"]
pub struct PushBuilder<'a> {
    request: CallBuilder<'a>,
    options: PushOptions,
    group: Option<&'a [u8]>,
    producer: Option<[u8; 16]>,
    is_batch: bool,
}

/// What a queue says of a push once it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The (first) message's position. Of a duplicate, the one it was given before, or 0 where that is
    /// not known any more.
    pub position: u64,
    /// How durable it is.
    pub level: Level,
    /// Where in the log it is; 0 for a queue in memory.
    pub log_position: u64,
    /// It was there already, and was not taken again ([`PushBuilder::producer`]).
    pub duplicate: bool,
}

/// A push that is on its way; made by [`PushBuilder::begin`]. Dropping it gives up to know how it ends;
/// the message may well be pushed.
#[must_use = "how it ends is only told by waiting for it"]
pub struct PendingPush {
    pending: Pending,
}

impl<'a> PushBuilder<'a> {
    pub(crate) fn new(pusher: &'a Service, payload: &'a [u8]) -> Self {
        let request = pusher.request().method(QueueMethod::Push as u32).payload(payload);
        let options = PushOptions::default();
        Self { request, options, group: None, producer: None, is_batch: false }
    }

    /// The payload is a batch.
    pub(crate) fn batch(mut self) -> Self {
        self.is_batch = true;
        self
    }

    /// In which order it leaves: 31 first, then the others down to 0, the default.
    pub fn priority(mut self, priority: u8) -> Self {
        self.options.priority = priority;
        self
    }

    /// After this time it is not delivered any more.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.options.ttl_ns = nanoseconds(ttl);
        self
    }

    /// Before this time it is not delivered.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.options.delay_ns = nanoseconds(delay);
        self
    }

    /// Messages with the same key, at most 128 bytes, are delivered one at a time and in order: the
    /// next when the one before is dealt with.
    pub fn group(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.group = Some(key.as_ref());
        self
    }

    /// Numbers it: a push by this producer whose number is not above the highest one taken is not
    /// taken again. So a push of which nobody knows how it ended can be made once more. Producers are
    /// told apart by user and by queue; numbers are kept for 24 hours.
    pub fn producer(mut self, id: u64, sequence: u64) -> Self {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&id.to_le_bytes());
        value[8..].copy_from_slice(&sequence.to_le_bytes());
        self.producer = Some(value);
        self
    }

    /// The deadline, from the moment it is pushed: how long it may wait for room, and to be kept.
    /// Default: the board's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request = self.request.timeout(timeout);
        self
    }

    /// The deadline as a moment.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.request = self.request.deadline(deadline);
        self
    }

    /// No deadline of its own. (One that is inherited holds.)
    pub fn no_timeout(mut self) -> Self {
        self.request = self.request.no_timeout();
        self
    }

    /// Pushes, and waits until the queue has it; see [`crate::Queue::push`].
    ///
    /// # Errors
    ///
    /// As there; `Invalid` for a priority above 31 or a key of no bytes or too many.
    pub fn push(self) -> Result<Pushed, CallError> {
        let target = self.request.target();
        let reply = self.with_params(|params, payload| target.board.call(target, params, payload))?;
        Ok(Pushed::of(reply))
    }

    /// Pushes, and does not wait: see [`PendingPush`]. [`crate::Queue::pipeline`] costs far less where
    /// there are many. (Where the name is used for the first time,
    /// waits until it is opened.)
    ///
    /// # Errors
    ///
    /// What is known at once; the rest is told by [`PendingPush::wait`].
    pub fn begin(self) -> Result<PendingPush, CallError> {
        let target = self.request.target();
        let (ticket, deadline) = self.with_params(|params, payload| {
            Ok((target.board.start(target, params, payload)?, params.deadline))
        })?;
        Ok(PendingPush { pending: Pending::new(&target.board, ticket, deadline) })
    }

    /// With what it says beside its payload.
    pub(crate) fn with_params<T>(
        &self,
        push: impl FnOnce(&CallParams<'_>, &[u8]) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        self.check()?;
        let options = self.options.to_bytes();
        let none = Extension { kind: 0, value: &[] };
        let mut extensions = [none; 3];
        let mut count = 0;
        let mut add = |kind, value| {
            extensions[count] = Extension { kind, value };
            count += 1;
        };
        if self.options != PushOptions::default() {
            add(extension_type::PUSH, &options[..]);
        }
        if let Some(key) = self.group {
            add(extension_type::GROUP, key);
        }
        if let Some(producer) = &self.producer {
            add(extension_type::PRODUCER, &producer[..]);
        }
        let params = self.request.params(false, &[], 0);
        let method = Method::Number(QueueMethod::Push as u32);
        let params = CallParams { method, extensions: &extensions[..count], batch: self.is_batch, ..params };
        push(&params, self.request.payload_bytes())
    }

    fn check(&self) -> Result<(), CallError> {
        if self.is_batch && self.request.payload_bytes().is_empty() {
            return Err(nothing_to_push());
        }
        let bytes = self.group.map_or(1, <[u8]>::len);
        if bytes == 0 || bytes > GROUP_KEY_BYTES_MAX {
            let message =
                format!("the key of a group has 1 to {GROUP_KEY_BYTES_MAX} bytes; this one has {bytes}");
            return Err(CallError::new(Outcome::Invalid, message));
        }
        Ok(())
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn deadline_now(&self) -> u64 {
        self.request.params(false, &[], 0).deadline
    }

    pub(crate) fn target(&self) -> &'a Arc<Target> {
        self.request.target()
    }

    pub(crate) fn has_default_timeout(&self) -> bool {
        self.request.has_default_timeout()
    }

    /// Its priority and its payload, if nothing else is said of it.
    pub(crate) fn only_priority(&self) -> Option<(u8, &'a [u8])> {
        let PushOptions { priority, ttl_ns, delay_ns } = self.options;
        let more = ttl_ns != 0 || delay_ns != 0 || self.group.is_some() || self.producer.is_some();
        let is_plain = !more && !self.is_batch && self.has_default_timeout();
        is_plain.then(|| (priority, self.request.payload_bytes()))
    }
}

impl PendingPush {
    /// Waits until the queue has it.
    ///
    /// # Errors
    ///
    /// As [`crate::Queue::push`].
    pub fn wait(mut self) -> Result<Pushed, CallError> {
        self.pending.wait_raw().map(Pushed::of)
    }

    /// Waits at most so long; gives itself back if the end has not come.
    ///
    /// # Errors
    ///
    /// `Err(self)` when the time is up; the push goes on.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Result<Pushed, CallError>, Self> {
        match self.pending.fetch_raw(Until::At(after(timeout))) {
            Some(end) => Ok(end.map(Pushed::of)),
            None => Err(self),
        }
    }

    /// The end, if it has come; reads what is there, and never waits. After it gave the end, it gives
    /// `None`.
    pub fn poll(&mut self) -> Option<Result<Pushed, CallError>> {
        self.pending.poll_raw().map(|end| end.map(Pushed::of))
    }
}

impl Pushed {
    /// By a broker that says nothing else of it.
    pub(crate) fn plain(log_position: u64) -> Self {
        Self { position: 0, level: Level::default(), log_position, duplicate: false }
    }

    pub(crate) fn of(mut reply: RawReply) -> Self {
        let facts = reply.take_facts();
        Self {
            position: facts.seq,
            level: level_of(facts.method),
            log_position: facts.epoch,
            duplicate: facts.caller == 1,
        }
    }
}

impl fmt::Debug for PendingPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingPush").finish_non_exhaustive()
    }
}
