//! Writing the output: by whoever has added to it, without the lock, together with what others add.

use std::io::{self, IoSlice};
use std::sync::Arc;

use switchboard_transport::Stream;

use super::connect::is_transient;
use super::state::{Guard, Output, Shared, State};

/// Buffers larger than this are given back once they are written.
const KEEP_BYTES: usize = 2 << 20;

enum Wrote {
    All,
    Some,
    Failed,
}

impl Shared {
    /// Writes what there is. `true` if the socket is full and something is left; what another thread
    /// is writing is that thread's to finish.
    #[inline]
    pub(crate) fn write<'a>(&'a self, mut state: Guard<'a>) -> (Guard<'a>, bool) {
        loop {
            let Some((bytes, mut sent)) = state.take_output() else { return (state, false) };
            let stream = Arc::clone(&state.link.stream);
            let connection = state.link.connection;
            self.release(state);
            let wrote = transmit(&stream, &bytes, &mut sent);
            state = self.lock();
            if connection != state.link.connection || !state.link.is_up {
                continue;
            }
            state.output.is_writing = false;
            match wrote {
                Wrote::All => state.output.keep(bytes),
                Wrote::Some => {
                    state.output.bytes = bytes;
                    state.output.sent = sent;
                    if let Some(task) = state.link.writer_task.take() {
                        state.wakers.push(task);
                    }
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
}

impl State {
    /// What is to be written, and from where on; the writer brings it back.
    #[inline]
    fn take_output(&mut self) -> Option<(Vec<u8>, usize)> {
        if self.output.is_writing || !self.link.is_up {
            return None;
        }
        if self.output.is_broken {
            self.session.output().clear();
            self.output.bytes.clear();
            return None;
        }
        if self.output.bytes.is_empty() {
            if self.session.output().is_empty() {
                return None;
            }
            std::mem::swap(&mut self.output.bytes, self.session.output());
            self.output.sent = 0;
        }
        self.output.is_writing = true;
        Some((std::mem::take(&mut self.output.bytes), self.output.sent))
    }

    /// Adds frames that were written elsewhere; the buffer comes back empty.
    pub(crate) fn append_output(&mut self, frames: &mut Vec<u8>) {
        let output = self.session.output();
        if output.is_empty() {
            std::mem::swap(output, frames);
        } else {
            output.extend_from_slice(frames);
        }
        frames.clear();
    }
}

impl Output {
    #[inline]
    fn keep(&mut self, mut bytes: Vec<u8>) {
        self.sent = 0;
        if bytes.capacity() <= KEEP_BYTES {
            bytes.clear();
            self.bytes = bytes;
        }
    }
}

#[inline]
fn transmit(stream: &Stream, bytes: &[u8], sent: &mut usize) -> Wrote {
    while *sent < bytes.len() {
        match stream.send(&[IoSlice::new(&bytes[*sent..])], &[]) {
            Ok(count) => *sent += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_transient(&error) => return Wrote::Some,
            Err(_) => return Wrote::Failed,
        }
    }
    Wrote::All
}
