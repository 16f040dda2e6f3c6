//! Leading and following.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard_transport::{Fds, Interest, Stream, clock};

use super::connect::is_transient;
use super::state::{Guard, Shared, State};
use super::waiter::Waiter;
use crate::session::{Inbox, RequestId};

/// Somebody who waits while another thread reads.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) waiter: Arc<Waiter>,
    pub(crate) awaits: Awaits,
}

/// What a wait is for; a ticket knows its owner itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaits {
    /// The end of a call, or an item of it.
    Ticket,
    /// Room in any send window.
    Room,
    /// Requests of this server, or its end.
    Server(u64),
    /// The end of this server, and nothing else of it.
    ServerEnd(u64),
    /// Room or a cancel for this request.
    Request(RequestId),
    /// Ends in this mailbox.
    Mailbox(u32),
    /// A notice.
    Notice,
    /// Nothing but the passing of time.
    Nothing,
}

/// How long a wait lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Until what it is for has come.
    Forever,
    /// That, or the end of a call whose deadline the broker keeps: only if the broker has stopped,
    /// the session ends it after all. Checked once a second.
    CallEnds,
    /// At most to this moment (our time).
    At(u64),
}

/// How often a leader looks at the deadlines that the broker should have kept.
const TICK: Duration = Duration::from_secs(1);

/// How long a thread waits for room in the socket before it sees whether it should read as well.
pub(super) const WRITE_SLICE: Duration = Duration::from_millis(10);

enum Got {
    Bytes,
    /// The time is up, or writing is possible again.
    Nothing,
    End(String),
}

impl Shared {
    /// Waits until `check` gives something (it is asked first), leading or following as it comes.
    /// `register` is called before following, for what `awaits` does not say. `None` when the time is
    /// up. `check` must give something when the connection is lost, unless the wait is one that a
    /// new connection can satisfy.
    pub(crate) fn wait<'a, T>(
        &'a self,
        mut state: Guard<'a>,
        until: Until,
        awaits: Awaits,
        mut register: impl FnMut(&mut State, &Arc<Waiter>),
        mut check: impl FnMut(&mut State) -> Option<T>,
    ) -> (Guard<'a>, Option<T>) {
        loop {
            let mut blocked = false;
            if state.has_output() && !state.may_gather() {
                (state, blocked) = self.write(state);
            }
            if let Some(result) = check(&mut state) {
                state.hand_over();
                return (self.settle(state), Some(result));
            }
            if let Until::At(until) = until
                && clock::monotonic_ns() >= until
            {
                state.hand_over();
                return (self.settle(state), None);
            }
            if !state.link.is_up {
                if !state.link.is_connecting && !state.link.is_led_by_task {
                    let more;
                    (state, more) = self.reconnect_once(state, until);
                    if more {
                        continue;
                    }
                    // Lost for good: one last look, which must find that out.
                    let result = check(&mut state);
                    return (self.settle(state), result);
                }
                state = self.follow(state, until, awaits, &mut register);
            } else if let Some(inbox) = state.inbox.take() {
                let expects_output = blocked && state.has_output();
                state = self.lead(state, inbox, until, expects_output, awaits);
            } else if blocked && state.has_output() && !state.link.is_led_by_task {
                // Someone else reads, so that the broker can go on and read us.
                let stream = Arc::clone(&state.link.stream);
                self.release(state);
                let _ = stream.wait(Interest::WRITE, Some(WRITE_SLICE));
                state = self.lock();
            } else {
                state = self.follow(state, until, awaits, &mut register);
            }
        }
    }

    fn follow<'a>(
        &'a self,
        mut state: Guard<'a>,
        until: Until,
        awaits: Awaits,
        register: &mut impl FnMut(&mut State, &Arc<Waiter>),
    ) -> Guard<'a> {
        let waiter = Waiter::of_this_thread();
        register(&mut state, &waiter);
        state.followers.push(Follower { waiter: Arc::clone(&waiter), awaits });
        self.release(state);
        match until {
            Until::Forever => waiter.park(None),
            Until::CallEnds => waiter.park(Some(TICK)),
            Until::At(until) => waiter.park(Some(left(until))),
        }
        let mut state = self.lock();
        state.followers.retain(|follower| !Arc::ptr_eq(&follower.waiter, &waiter));
        if until == Until::CallEnds {
            state.expire(clock::monotonic_ns());
        }
        state
    }

    pub(super) fn lead<'a>(
        &'a self,
        mut state: Guard<'a>,
        mut inbox: Inbox,
        until: Until,
        blocked: bool,
        awaits: Awaits,
    ) -> Guard<'a> {
        if state.is_paused {
            state.take_frames(inbox, awaits);
            return self.settle(state);
        }
        let stream = Arc::clone(&state.link.stream);
        if until == Until::CallEnds && !state.link.ticks {
            // On from the first call on: a program that only serves never wakes for nothing.
            state.link.ticks = stream.set_receive_timeout(Some(TICK)).is_ok();
        }
        self.release(state);
        let got = self.read(&stream, &mut inbox, until, blocked);
        let mut state = self.lock();
        match got {
            Got::Bytes => state.take_frames(inbox, awaits),
            Got::Nothing => {
                state.inbox = Some(inbox);
                if until == Until::CallEnds {
                    state.expire(clock::monotonic_ns());
                }
            }
            Got::End(why) => state.lose(&why),
        }
        self.settle(state)
    }

    /// Reads what is there, if nobody else reads; never waits.
    pub(crate) fn peek<'a>(&'a self, mut state: Guard<'a>) -> Guard<'a> {
        if state.link.is_led_by_task || !state.link.is_up {
            return state;
        }
        let Some(mut inbox) = state.inbox.take() else { return state };
        if state.is_paused {
            state.take_frames(inbox, Awaits::Nothing);
            state.hand_over();
            return self.settle(state);
        }
        let stream = Arc::clone(&state.link.stream);
        self.release(state);
        let got = receive(&stream, &mut inbox, false);
        let mut state = self.lock();
        match got {
            Got::Bytes => state.take_frames(inbox, Awaits::Nothing),
            Got::Nothing => state.inbox = Some(inbox),
            Got::End(why) => state.lose(&why),
        }
        state.hand_over();
        self.settle(state)
    }

    fn read(&self, stream: &Stream, inbox: &mut Inbox, until: Until, blocked: bool) -> Got {
        if !blocked && !self.config.spin.is_zero() {
            let begin = Instant::now();
            while begin.elapsed() < self.config.spin {
                match receive(stream, inbox, false) {
                    Got::Nothing => std::hint::spin_loop(),
                    got => return got,
                }
            }
        }
        let timeout = match until {
            Until::At(until) => Some(left(until)),
            Until::CallEnds if blocked => Some(TICK),
            Until::Forever | Until::CallEnds => None,
        };
        if !blocked && timeout.is_none() {
            return receive(stream, inbox, true);
        }
        let interest = if blocked { Interest::BOTH } else { Interest::READ };
        match stream.wait(interest, timeout) {
            Ok(ready) if ready.readable => receive(stream, inbox, false),
            Ok(_) => Got::Nothing,
            Err(error) => Got::End(error.to_string()),
        }
    }
}

fn receive(stream: &Stream, inbox: &mut Inbox, wait: bool) -> Got {
    // SPEC 2.8: none belong to any frame; what comes is closed.
    let mut fds = Fds::new();
    let result =
        if wait { stream.recv_wait(inbox.space(), &mut fds) } else { stream.recv(inbox.space(), &mut fds) };
    match result {
        Ok(got) if got.bytes == 0 => Got::End("the broker closed it".into()),
        Ok(got) => {
            inbox.filled(got.bytes);
            Got::Bytes
        }
        Err(error) if is_transient(&error) => Got::Nothing,
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            Got::End("the broker closed it".into())
        }
        Err(error) => Got::End(error.to_string()),
    }
}

/// From now to `until`.
fn left(until: u64) -> Duration {
    Duration::from_nanos(until.saturating_sub(clock::monotonic_ns()))
}

/// Answers are written once they are this many, even if there is more to answer.
const GATHER_BYTES: usize = 64 << 10;

impl State {
    /// Whether writing can wait: there is more to be answered in what was read already.
    fn may_gather(&mut self) -> bool {
        self.is_paused && self.session.output().len() < GATHER_BYTES
    }

    /// Makes a follower the leader, if there is one and nobody leads.
    #[inline]
    pub(crate) fn hand_over(&mut self) {
        if (self.inbox.is_some() || !self.link.is_up) && !self.followers.is_empty() {
            // Removed, so that the next to leave wakes another one should this one leave too.
            let follower = self.followers.remove(0);
            self.wakes.push(follower.waiter);
        }
    }

    /// Ends the calls that the broker should have ended.
    pub(crate) fn expire(&mut self, now: u64) {
        let ended = self.session.expire(now);
        if !ended.is_empty() {
            self.end_tickets(ended, || {
                crate::CallError::new(
                    switchboard_protocol::Outcome::DeadlineExceeded,
                    "the deadline passed, and the broker did not say so: it may have stopped",
                )
            });
        }
    }
}
