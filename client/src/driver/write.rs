//! Writing the output: by whoever has added to it, without the lock, together with what others add.
//!
//! Large payloads leave from where they lie. What a program hands over waits in the output itself; what
//! it only lends ([`Shared::write_lent`]) is written by the thread that was lent it, right behind the
//! output, while others add to the next one.

use std::io::{self, IoSlice};
use std::sync::Arc;

use switchboard_protocol::frame_padding;
use switchboard_transport::{Interest, Stream};

use super::connect::is_transient;
use super::state::{Guard, Outbound, Shared, State};
use super::wait::{Awaits, Until, WRITE_SLICE};
use crate::Payload;
use crate::session::{LARGE_BYTES, Output};

/// Buffers larger than this are given back once they are written.
const KEEP_BYTES: usize = 2 << 20;

pub(super) enum Wrote {
    All,
    Some,
    Failed,
}

/// How long a thread waits for the socket to take what it was lent. What then is left is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all.
    Never,
    /// Until this moment (our time); 0 is for ever.
    Until(u64),
}

/// What is left of a payload that was lent, and of the zeros behind it.
struct Lent<'a> {
    payload: &'a [u8],
    padding: &'static [u8],
}

impl Shared {
    /// Writes what there is. `true` if the socket is full and something is left; what another thread
    /// is writing is that thread's to finish.
    #[inline]
    pub(crate) fn write<'a>(&'a self, mut state: Guard<'a>) -> (Guard<'a>, bool) {
        loop {
            let Some(mut output) = state.take_output() else { return (state, false) };
            let stream = Arc::clone(&state.link.stream);
            let connection = state.link.connection;
            self.release(state);
            let wrote = transmit(&stream, &mut output);
            state = self.lock();
            if connection != state.link.connection || !state.link.is_up {
                continue;
            }
            state.output.is_writing = false;
            match wrote {
                Wrote::All => state.output.keep(output),
                Wrote::Some => {
                    state.leave(output);
                    return (state, true);
                }
                // Whoever reads finds out why, and ends the connection.
                Wrote::Failed => state.output.is_broken = true,
            }
        }
    }

    /// Writes what there is without ever waiting, and lets the lock go. What the socket does not take
    /// goes with the next operation.
    #[inline]
    pub(crate) fn write_and_release(&self, state: Guard<'_>) {
        let (state, _) = self.write(state);
        self.release(state);
    }

    /// Writes a frame whose head was just added with a lent payload ([`State::lends`]), and what stands
    /// before it. Waits for the socket as `patience` says, reading meanwhile if nobody else does, so that
    /// the broker can go on and read us.
    pub(crate) fn write_lent<'a>(
        &'a self,
        mut state: Guard<'a>,
        payload: &[u8],
        patience: Patience,
    ) -> Guard<'a> {
        let padding = &[0; 15][..frame_padding(payload.len())];
        let mut lent = Lent { payload, padding };
        let mut output = state.take_output().expect("nobody writes, as `lends` has found");
        let stream = Arc::clone(&state.link.stream);
        let connection = state.link.connection;
        loop {
            self.release(state);
            let wrote = transmit_with(&stream, &mut output, &mut lent);
            state = self.lock();
            if connection != state.link.connection || !state.link.is_up {
                break;
            }
            let is_patient = match patience {
                Patience::Never => false,
                Patience::Until(until) => until == 0 || until > switchboard_transport::clock::monotonic_ns(),
            };
            match wrote {
                Wrote::Some if is_patient => {
                    state = self.await_room(state, &stream, patience);
                    if connection != state.link.connection || !state.link.is_up {
                        break;
                    }
                }
                Wrote::Some => {
                    output.push_rest(Payload::copy_from(lent.payload), lent.padding);
                    state.output.is_writing = false;
                    state.leave(output);
                    break;
                }
                Wrote::All => {
                    state.output.is_writing = false;
                    state.output.keep(output);
                    break;
                }
                Wrote::Failed => {
                    state.output.is_writing = false;
                    state.output.is_broken = true;
                    break;
                }
            }
        }
        // Others may have left theirs to whoever was writing.
        (state, _) = self.write(state);
        state.hand_over();
        self.settle(state)
    }

    fn await_room<'a>(&'a self, mut state: Guard<'a>, stream: &Stream, patience: Patience) -> Guard<'a> {
        if let Some(inbox) = state.inbox.take() {
            let until = match patience {
                Patience::Never | Patience::Until(0) => Until::Forever,
                Patience::Until(until) => Until::At(until),
            };
            return self.lead(state, inbox, until, true, Awaits::Nothing);
        }
        self.release(state);
        let _ = stream.wait(Interest::WRITE, Some(WRITE_SLICE));
        self.lock()
    }
}

impl State {
    /// Whether a payload is written from where it lies: it is large, and nothing is being written. To
    /// be followed by [`Shared::write_lent`] without letting the lock go.
    #[inline]
    pub(crate) fn lends(&self, payload: &[u8]) -> bool {
        payload.len() >= LARGE_BYTES
            && self.link.is_up
            && !self.output.is_writing
            && !self.output.is_broken
            && self.output.rest.is_empty()
    }

    /// What is to be written; the writer brings it back.
    #[inline]
    fn take_output(&mut self) -> Option<Output> {
        if self.output.is_writing || !self.link.is_up {
            return None;
        }
        if self.output.is_broken {
            self.session.output().clear();
            self.output.rest.clear();
            return None;
        }
        if self.output.rest.is_empty() {
            if self.session.output().is_empty() {
                return None;
            }
            std::mem::swap(&mut self.output.rest, self.session.output());
        }
        self.output.is_writing = true;
        Some(std::mem::take(&mut self.output.rest))
    }

    /// Keeps what the socket did not take.
    fn leave(&mut self, output: Output) {
        self.output.rest = output;
        if let Some(task) = self.link.writer_task.take() {
            self.wakers.push(task);
        }
    }

    /// Adds frames that were written elsewhere; the buffer comes back empty.
    pub(crate) fn append_output(&mut self, frames: &mut Vec<u8>) {
        self.session.output().append(frames);
    }
}

impl Outbound {
    #[inline]
    fn keep(&mut self, mut output: Output) {
        output.shrink(KEEP_BYTES);
        self.rest = output;
    }
}

/// Writes what the socket takes now.
#[inline]
pub(super) fn transmit(stream: &Stream, output: &mut Output) -> Wrote {
    while !output.is_empty() {
        let sent = match output.plain() {
            Some(bytes) => stream.send(&[IoSlice::new(bytes)], &[]),
            None => {
                let mut pieces = [IoSlice::new(&[]); Output::PIECES_MAX];
                let count = output.pieces(&mut pieces);
                stream.send(&pieces[..count], &[])
            }
        };
        match sent {
            Ok(count) => output.written(count),
            Err(error) => {
                if let Some(wrote) = failure(&error) {
                    return wrote;
                }
            }
        }
    }
    Wrote::All
}

/// [`transmit`], and what was lent right behind it.
fn transmit_with(stream: &Stream, output: &mut Output, lent: &mut Lent<'_>) -> Wrote {
    while !(output.is_empty() && lent.is_empty()) {
        let sent = match output.plain() {
            Some(bytes) => {
                let pieces = [bytes, lent.payload, lent.padding].map(IoSlice::new);
                stream.send(&pieces, &[])
            }
            // Large answers go before it.
            None => match transmit(stream, output) {
                Wrote::All => continue,
                other => return other,
            },
        };
        match sent {
            Ok(count) => {
                let before = count.min(output.len());
                output.written(before);
                lent.written(count - before);
            }
            Err(error) => {
                if let Some(wrote) = failure(&error) {
                    return wrote;
                }
            }
        }
    }
    Wrote::All
}

/// What an error means for the writing; `None` to try again.
#[cold]
fn failure(error: &io::Error) -> Option<Wrote> {
    if error.kind() == io::ErrorKind::Interrupted {
        None
    } else if is_transient(error) {
        Some(Wrote::Some)
    } else {
        Some(Wrote::Failed)
    }
}

impl Lent<'_> {
    fn is_empty(&self) -> bool {
        self.payload.is_empty() && self.padding.is_empty()
    }

    fn written(&mut self, count: usize) {
        let payload = count.min(self.payload.len());
        self.payload = &self.payload[payload..];
        self.padding = &self.padding[count - payload..];
    }
}
