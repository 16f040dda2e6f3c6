//! Many pushes at once from one thread.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use switchboard_protocol::queue::{QUEUE_PRIORITIES, QueueMethod};
use switchboard_protocol::{Outcome, PART_HEADER_BYTES, part_bytes, write_part};

use crate::batch::{FRAME_BYTES_MAX, PART_BYTES_MAX};
use crate::driver::{CallParams, Ended, Guard, MailId, Mailbox, Patience, Shared, Target, after};
use crate::session::{CallSpec, Method};
use crate::{CallError, Context, PushBuilder, Pushed, Queue};

/// Keeps up to `depth` pushes to a queue open from one thread. Messages that are submitted are sent
/// together, and whatever ends were read together are handed over together. Made by
/// [`Queue::pipeline`].
///
/// ```
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let board = switchboard::Board::builder().socket(broker.socket()).connect()?;
/// # board.create_queue("acme.jobs").create()?;
/// let mut jobs = board.queue("acme.jobs").pipeline(64)?;
/// let mut safe = 0;
/// for number in 0..1000u64 {
///     while jobs.is_full() {
///         safe += jobs.wait(|tag, pushed| println!("{tag} is at {}", pushed.unwrap().position))?;
///     }
///     jobs.submit(number, &number.to_le_bytes())?;
/// }
/// while jobs.open() > 0 {
///     safe += jobs.wait(|_, pushed| drop(pushed.unwrap()))?;
/// }
/// assert_eq!(safe, 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// *Order.* Messages come into the queue in the order in which they are submitted; only a push that is
/// refused, or that waits for room and then ends otherwise, leaves a gap. Their ends come in that order
/// too, but a refusal may overtake what is still being made safe.
///
/// *Every message ends exactly once*, whatever becomes of the queue, the connection and the broker, as
/// long as the pipeline is waited for.
///
/// *Together.* Short messages that have nothing to say but a priority, and were submitted between two
/// calls of [`PushPipeline::wait`], are pushed together: up to 32 KiB of them in one push, of which
/// the queue takes all or none. So they share its outcome: where the queue has no room for all of
/// them they are all `Busy`, and nothing of it is tried again by itself. A push is never more than a
/// sixteenth of what the queue may hold, so that it finds room in a queue that is nearly full, and one
/// that waits for room (overflow `block`) waits for no more than that to be consumed.
///
/// *Dropping it* gives up to know how the open ones end. What was not sent yet is not pushed, a push that
/// still waits for room is cancelled, and others may well have been taken.
#[must_use = "what is submitted is sent by `wait` or `flush`"]
pub struct PushPipeline {
    queue: Queue,
    depth: usize,
    open: usize,
    timeout: Option<Duration>,
    mailbox: u32,
    /// The open pushes by number: what the program calls the messages of each.
    pushes: Vec<Vec<u64>>,
    /// Numbers that are free.
    free: Vec<u32>,
    /// Pushes that will be opened together, all under one lock.
    staged: Vec<Staged>,
    /// Their batches, in their order.
    bytes: Vec<u8>,
    /// The most that one push of many messages is.
    most: Load,
    /// That was found to be too much: the queue is to be asked again.
    is_stale: bool,
    ended: Mailbox,
}

/// One push of messages that lie side by side as a batch.
struct Staged {
    push: u32,
    bytes: usize,
    /// Whether nothing is said of any but its payload.
    is_bare: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    messages: usize,
    bytes: usize,
}

/// What a queue may hold, over the most that is pushed to it at once.
const SHARE: u64 = 16;

/// With so many bytes submitted, they are sent without being waited for.
const STAGED_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

impl PushPipeline {
    pub(crate) fn new(queue: &Queue, depth: usize) -> Result<Self, CallError> {
        let most = Load::of(queue)?;
        let board = &queue.pusher().target.board;
        let mut state = board.lock();
        let mailbox = state.add_mailbox();
        board.release(state);
        Ok(Self {
            queue: queue.clone(),
            depth: depth.max(1),
            open: 0,
            timeout: board.config.timeout,
            mailbox,
            pushes: Vec::new(),
            free: Vec::new(),
            staged: Vec::new(),
            bytes: Vec::new(),
            most,
            is_stale: false,
            ended: Mailbox::default(),
        })
    }

    /// How long a push may take from when it is sent, unless it says so itself. Default: the board's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Pushes take as long as they take, unless they say so themselves.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// Messages that are open: submitted, and their end not yet handed over.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Whether as many are open as may be.
    pub fn is_full(&self) -> bool {
        self.open >= self.depth
    }

    /// Adds a message of priority 0; its end comes with `tag`. A short one is copied, and sent with others by
    /// [`PushPipeline::wait`] or [`PushPipeline::flush`], or once many have gathered; a long one is sent as
    /// far as the socket takes it, behind those before it.
    ///
    /// # Errors
    ///
    /// `Busy` if the pipeline is full. Of a long one, what is known at once; all else is how the push ends.
    #[inline]
    pub fn submit(&mut self, tag: u64, payload: &[u8]) -> Result<(), CallError> {
        if payload.len() > PART_BYTES_MAX || Context::current().is_some() {
            let queue = self.queue.clone();
            return self.submit_alone(tag, &queue.message(payload));
        }
        self.stage(tag, 0, payload)
    }

    /// Adds a message with all that can be said about it; it must be for this pipeline's queue. It is a
    /// push of its own, behind those before it, if it says anything but its priority.
    ///
    /// # Errors
    ///
    /// `Busy` if the pipeline is full; `Invalid` for one of another queue, and as [`PushBuilder::push`];
    /// of one that is a push of its own also what else is known at once.
    pub fn submit_message(&mut self, tag: u64, message: PushBuilder<'_>) -> Result<(), CallError> {
        if !Arc::ptr_eq(message.target(), &self.queue.pusher().target) {
            let message =
                format!("the message is not for `{}`, the queue of this pipeline", self.queue.name());
            return Err(CallError::new(Outcome::Invalid, message));
        }
        match message.only_priority() {
            Some((priority, payload))
                if payload.len() <= PART_BYTES_MAX
                    && priority < QUEUE_PRIORITIES
                    && Context::current().is_none() =>
            {
                self.stage(tag, priority, payload)
            }
            _ => self.submit_alone(tag, &message),
        }
    }

    /// Sends what was submitted, and does not wait. (Where a lost connection is made anew, waits for
    /// that.)
    pub fn flush(&mut self) {
        if !self.staged.is_empty() {
            let board = Arc::clone(&self.queue.pusher().target.board);
            let state = self.open_staged(&board);
            board.write_and_release(state);
        }
    }

    /// Sends what was submitted, waits until at least one push has ended (none if none is open), and
    /// hands over the messages of all that have. Returns how many messages that were.
    ///
    /// # Errors
    ///
    /// None now; ends of pushes, errors included, go to `each`.
    pub fn wait(&mut self, each: impl FnMut(u64, Result<Pushed, CallError>)) -> Result<usize, CallError> {
        if self.open == 0 {
            return Ok(0);
        }
        let board = Arc::clone(&self.queue.pusher().target.board);
        let state = self.open_staged(&board);
        board.wait_mail(state, self.mailbox, &mut self.ended);
        Ok(self.hand_over(each))
    }

    /// Gives every message of the pushes that have ended its end.
    fn hand_over(&mut self, mut each: impl FnMut(u64, Result<Pushed, CallError>)) -> usize {
        let before = self.open;
        let Self { ended, pushes, free, open, most, is_stale, .. } = self;
        ended.hand_over(|push, end| {
            let tags = &mut pushes[push as usize];
            *open -= tags.len();
            free.push(push);
            let end = match end {
                Ended::Short { epoch, .. } => Ok(Pushed::plain(epoch)),
                Ended::Other(end) => end.map(Pushed::of),
            };
            match end {
                Ok(first) => {
                    // SPEC 10.3: those of one push are adjacent.
                    for (position, tag) in (first.position..).zip(tags.drain(..)) {
                        each(tag, Ok(Pushed { position, ..first }));
                    }
                }
                Err(error) => {
                    if error.outcome == Outcome::TooLarge && 1 < tags.len() {
                        // It is another queue of that name by now, or bounded otherwise.
                        *most = Load::ALONE;
                        *is_stale = true;
                    }
                    for tag in tags.drain(..) {
                        each(tag, Err(error.clone()));
                    }
                }
            }
        });
        before - self.open
    }

    /// A message that goes with its neighbours.
    #[inline]
    fn stage(&mut self, tag: u64, priority: u8, payload: &[u8]) -> Result<(), CallError> {
        if self.is_full() {
            return Err(self.full());
        }
        let most = self.most;
        let room = part_bytes(payload.len());
        let joins = self.staged.last().is_some_and(|last| {
            last.bytes + room <= most.bytes && self.pushes[last.push as usize].len() < most.messages
        });
        if !joins {
            self.begin();
        }
        let last = self.staged.last_mut().expect("one was begun");
        last.bytes += room;
        last.is_bare &= priority == 0;
        self.pushes[last.push as usize].push(tag);
        write_part(&mut self.bytes, priority.into(), payload);
        self.open += 1;
        Ok(())
    }

    /// Begins another push; sends those before it if they are enough.
    fn begin(&mut self) {
        if self.bytes.len() >= STAGED_BYTES_MAX {
            self.flush();
        }
        let push = self.number();
        self.staged.push(Staged { push, bytes: 0, is_bare: true });
    }

    /// A message that is a push of its own.
    fn submit_alone(&mut self, tag: u64, message: &PushBuilder<'_>) -> Result<(), CallError> {
        if self.is_full() {
            return Err(self.full());
        }
        let inherits = message.has_default_timeout();
        message.with_params(|params, payload| {
            let board = Arc::clone(&self.queue.pusher().target.board);
            let state = self.open_staged(&board);
            let deadline = match inherits {
                true => Context::inherit_deadline(Context::current(), self.deadline()),
                false => params.deadline,
            };
            let params = CallParams { deadline, ..params.clone() };
            let (mut state, handle) = board.handle_of(state, self.target(), deadline)?;
            let lent = state.lends(payload);
            let push = self.number();
            if let Err(error) = state.open_mail(self.mail(push), handle, &params, payload, lent) {
                self.free.push(push);
                return Err(error);
            }
            self.pushes[push as usize].push(tag);
            self.open += 1;
            if lent {
                state = board.write_lent(state, payload, Patience::Never);
            }
            board.release(state);
            Ok(())
        })
    }

    /// Opens what was staged, to be written with whatever is written next.
    fn open_staged<'a>(&mut self, board: &'a Arc<Shared>) -> Guard<'a> {
        if self.is_stale
            && let Ok(most) = Load::of(&self.queue)
        {
            self.most = most;
            self.is_stale = false;
        }
        let state = board.lock();
        if self.staged.is_empty() {
            return state;
        }
        // Of all of them: they are sent now.
        let deadline = self.deadline();
        let (mut state, handle) = match board.handle_of(state, self.target(), deadline) {
            Ok((state, handle)) => (state, Ok(handle)),
            Err(error) => (board.lock(), Err(error)),
        };
        let mut rest = &self.bytes[..];
        for &Staged { push, bytes, is_bare } in &self.staged {
            let batch;
            (batch, rest) = rest.split_at(bytes);
            let mail = self.mail(push);
            let opened = match &handle {
                &Ok(handle) => {
                    let is_batch = !is_bare || 1 < self.pushes[push as usize].len();
                    let payload = if is_batch { batch } else { only_payload(batch) };
                    let method = Method::Number(QueueMethod::Push as u32);
                    let spec = CallSpec {
                        handle,
                        method,
                        deadline,
                        payload,
                        batch: is_batch,
                        ..CallSpec::default()
                    };
                    state.session.call(mail.to_tag(), &spec).map(drop).map_err(CallError::from)
                }
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = opened {
                state.end_mail(mail, Err(error));
            }
        }
        self.staged.clear();
        self.bytes.clear();
        state
    }

    fn target(&self) -> &Arc<Target> {
        &self.queue.pusher().target
    }

    /// Of pushes that are sent now and do not say it themselves.
    fn deadline(&self) -> u64 {
        self.timeout.map_or(0, after)
    }

    fn mail(&self, push: u32) -> MailId {
        MailId { mailbox: self.mailbox, call: push }
    }

    /// A number for a push.
    fn number(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.pushes.push(Vec::new());
            (self.pushes.len() - 1) as u32
        })
    }

    #[cold]
    fn full(&self) -> CallError {
        let message = format!("{} messages are open in this pipeline, which is its depth", self.open);
        CallError::new(Outcome::Busy, message)
    }
}

impl Load {
    const ALONE: Self = Self { messages: 1, bytes: 0 };

    /// The most that goes to this queue at once.
    fn of(queue: &Queue) -> Result<Self, CallError> {
        let info = queue.stat_by_pusher()?;
        let state = queue.pusher().target.board.lock();
        let payload_bytes_max = state.session.welcome().map_or(0, |welcome| welcome.payload_bytes_max);
        Ok(Self::within(info.messages_max, info.bytes_max, payload_bytes_max as usize))
    }

    /// No less than a message.
    fn within(messages_max: u64, bytes_max: u64, payload_bytes_max: usize) -> Self {
        let share = |bound: u64| usize::try_from(bound / SHARE).unwrap_or(usize::MAX);
        Self {
            messages: share(messages_max).max(1),
            bytes: share(bytes_max).min(FRAME_BYTES_MAX).min(payload_bytes_max),
        }
    }
}

/// The payload of the only message of a batch.
fn only_payload(batch: &[u8]) -> &[u8] {
    let len = batch.first_chunk().expect("a message has its length in front");
    &batch[PART_HEADER_BYTES..][..u32::from_le_bytes(*len) as usize]
}

impl Drop for PushPipeline {
    fn drop(&mut self) {
        let board = &self.queue.pusher().target.board;
        board.close_mailbox(self.mailbox);
    }
}

impl fmt::Debug for PushPipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushPipeline")
            .field("queue", &self.queue.name())
            .field("depth", &self.depth)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_a_small_part_of_what_the_queue_may_hold_and_at_least_a_message() {
        let within = |messages, bytes| Load::within(messages, bytes, 1 << 20);
        assert_eq!(within(10_000, 64 << 20), Load { messages: 625, bytes: FRAME_BYTES_MAX });
        assert_eq!(within(31, 1 << 10), Load { messages: 1, bytes: 64 });
        assert_eq!(within(1, 1), Load { messages: 1, bytes: 0 });
        assert_eq!(Load::within(u64::MAX, u64::MAX, 4096).bytes, 4096);
    }

    #[test]
    fn the_only_message_of_a_batch_is_found_in_it() {
        for payload in [&b""[..], b"a", b"eight by", b"nine byte"] {
            let mut batch = Vec::new();
            write_part(&mut batch, 0, payload);
            assert_eq!(only_payload(&batch), payload);
        }
    }
}
