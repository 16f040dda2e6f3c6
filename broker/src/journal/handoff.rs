//! Where the loop and the writer's thread meet: two batches that change hands, and what was reached.
//!
//! A lock guards it, and no channel: the loop takes back a batch that the thread has not begun, and adds
//! to it. So what gathers during a sync is one batch, written by one write and one sync, and the thread
//! goes from one to the next without waiting for the loop. The lock is held to move a few words, never
//! during a system call of either side.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::batch::Batch;
use super::error::Failure;

/// How far the journal has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on.
    Through {
        /// All records through this position were written: they survive the death of the broker.
        written: u64,
        /// All records through this position are on the disk: they survive the loss of power.
        synced: u64,
    },
    /// It has stopped for ever. Said once.
    Failed(Failure),
}

/// The meeting place.
#[derive(Debug, Default)]
pub(crate) struct Handoff {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Handed over by the loop, not taken by the thread.
    queued: Option<Batch>,
    /// Empty, for the loop to fill: both, where the loop has had nothing to add since the thread was done
    /// with the one and with the other.
    spare: [Option<Batch>; 2],
    reached: Reached,
    closing: bool,
}

/// What the thread has reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reached {
    pub(crate) written: u64,
    pub(crate) synced: u64,
    /// Bytes of all batches that are done with.
    pub(crate) bytes: u64,
    pub(crate) failure: Option<Failure>,
}

impl Handoff {
    pub(crate) fn new(last: u64) -> Self {
        let handoff = Self::default();
        {
            let mut state = handoff.state();
            state.spare[0] = Some(Batch::default());
            (state.reached.written, state.reached.synced) = (last, last);
        }
        handoff
    }

    /// For the loop: the batch that is queued, to be added to, or an empty one.
    pub(crate) fn take_back(&self) -> Batch {
        let mut state = self.state();
        let queued = state.queued.take();
        let [one, other] = &mut state.spare;
        let batch = queued.or_else(|| one.take()).or_else(|| other.take());
        batch.expect("of two batches the thread has at most one")
    }

    /// For the loop: hands a batch over.
    pub(crate) fn hand_over(&self, batch: Batch) {
        let before = self.state().queued.replace(batch);
        assert!(before.is_none(), "the queued batch is taken back before another is handed over");
        self.changed.notify_one();
    }

    /// For the loop: what was reached since `seen`, if anything.
    pub(crate) fn news(&self, seen: &mut Reached) -> Option<Progress> {
        let state = self.state();
        let now = &state.reached;
        seen.bytes = now.bytes;
        if seen.failure.is_some() {
            return None;
        }
        if let Some(failure) = &now.failure {
            seen.failure = Some(failure.clone());
            return Some(Progress::Failed(failure.clone()));
        }
        let before =
            mem::replace(&mut seen.written, now.written) + mem::replace(&mut seen.synced, now.synced);
        // Both only grow.
        (before != now.written + now.synced)
            .then_some(Progress::Through { written: now.written, synced: now.synced })
    }

    /// For the loop: nothing more comes.
    pub(crate) fn close(&self) {
        self.state().closing = true;
        self.changed.notify_one();
    }

    /// For the thread: the next batch, or nothing when it is time to end.
    pub(crate) fn next(&self) -> Option<Batch> {
        let mut state = self.state();
        loop {
            if let Some(batch) = state.queued.take() {
                return Some(batch);
            }
            if state.closing {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// For the thread: says how far it has come.
    pub(crate) fn reach(&self, written: u64, synced: u64) {
        let mut state = self.state();
        let reached = &mut state.reached;
        assert!(reached.written <= written && reached.synced <= synced && synced <= written);
        (reached.written, reached.synced) = (written, synced);
    }

    /// For the thread: says that there is no further.
    pub(crate) fn fail(&self, failure: Failure) {
        self.state().reached.failure.get_or_insert(failure);
    }

    /// For the thread: gives back a batch that it is done with.
    pub(crate) fn give_back(&self, mut batch: Batch) {
        let bytes = batch.bytes();
        batch.clear();
        let mut state = self.state();
        state.reached.bytes += bytes;
        let free = state.spare.iter_mut().find(|spare| spare.is_none());
        *free.expect("there are two batches, and this was one of them") = Some(batch);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_batch_is_lost_while_the_loop_has_nothing_to_add() {
        let handoff = Handoff::new(0);
        let filled = || {
            let mut batch = handoff.take_back();
            batch.append(1, &[b"a record"]);
            batch
        };
        // The loop's own, as a journal begins with it, and the spare one.
        let mut first = Batch::default();
        first.append(1, &[b"a record"]);
        handoff.hand_over(first);
        let first = handoff.next().expect("handed over");
        handoff.hand_over(filled());
        handoff.give_back(first);
        let second = handoff.next().expect("handed over");
        handoff.give_back(second);
        handoff.hand_over(filled());
        let third = handoff.next().expect("handed over");
        // The thread is at work, and there is one for the loop.
        handoff.hand_over(filled());
        handoff.give_back(third);
    }
}
