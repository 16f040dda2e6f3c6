//! A new connection in the place of a lost one.

use std::time::Duration;

use switchboard_protocol::Outcome;
use switchboard_protocol::control::Served;
use switchboard_transport::clock;

use super::connect::{ConnectError, Established, establish};
use super::notice::Notice;
use super::state::{Guard, Link, Outbound, Shared, State, next_connection};
use super::ticket::{End, Owner};
use super::wait::{Awaits, Until};
use crate::CallError;

impl Shared {
    /// One attempt at a new connection, after the pause that is due. `false` if there will be none.
    pub(crate) fn reconnect_once<'a>(&'a self, mut state: Guard<'a>, until: Until) -> (Guard<'a>, bool) {
        if !state.link.reconnects || state.link.is_closed {
            return (state, false);
        }
        state.link.is_connecting = true;
        let mut pause = state.pause(&self.config.reconnect);
        if let Until::At(until) = until {
            pause = pause.min(Duration::from_nanos(until.saturating_sub(clock::monotonic_ns())));
        }
        self.release(state);
        std::thread::sleep(pause);
        let established = establish(&self.config);
        let mut state = self.lock();
        state.install(established);
        (self.settle(state), true)
    }

    /// Waits for a connection, for as long as calls are patient.
    pub(crate) fn ensure_up<'a>(
        &'a self,
        mut state: Guard<'a>,
        deadline: u64,
    ) -> Result<Guard<'a>, CallError> {
        if state.link.is_up {
            return Ok(state);
        }
        let patience = self.config.reconnect.patience.as_nanos() as u64;
        let mut until = clock::monotonic_ns().saturating_add(patience);
        if deadline != 0 {
            until = until.min(deadline);
        }
        let up;
        (state, up) = self.wait(
            state,
            Until::At(until),
            Awaits::Nothing,
            |_, _| {},
            |state| {
                (state.link.is_up || !state.link.reconnects || state.link.is_closed)
                    .then_some(state.link.is_up)
            },
        );
        match up {
            Some(true) => Ok(state),
            _ => Err(CallError::not_connected(&state.link.why)),
        }
    }

    /// Whether the connection was closed, or lost for good.
    pub(crate) fn is_closed(&self) -> bool {
        let state = self.lock();
        state.link.is_closed || (!state.link.is_up && !state.link.reconnects)
    }

    /// Whether what ended so may be done again on a new connection. A broker that goes down says so
    /// first: then this waits until it is gone, so that it is not asked again.
    pub(crate) fn is_worth_again(&self, error: &CallError) -> bool {
        match error.outcome {
            Outcome::PeerDied => true,
            Outcome::ShuttingDown if self.config.reconnect.enabled => {
                let state = self.lock();
                let until = Until::At(super::call::after(GOING_DOWN));
                let (state, _) = self.wait(
                    state,
                    until,
                    Awaits::Nothing,
                    |_, _| {},
                    |state| state.link.is_gone().then_some(()),
                );
                self.release(state);
                true
            }
            _ => false,
        }
    }
}

/// How long a broker that goes down is waited for to be gone.
pub(crate) const GOING_DOWN: Duration = Duration::from_secs(5);

impl Link {
    /// Whether the broker that said it goes down is gone.
    pub(crate) fn is_gone(&self) -> bool {
        !self.is_up || !self.is_going_down
    }
}

impl State {
    /// How long to wait before the next attempt; nothing before the first one.
    pub(crate) fn pause(&self, reconnect: &super::Reconnect) -> Duration {
        match self.link.attempts {
            0 => Duration::ZERO,
            // Clients that lost their broker together have different clocks by nanoseconds, and
            // different addresses of this.
            attempts => reconnect.pause(attempts - 1, clock::monotonic_ns() ^ (&raw const *self as u64) >> 4),
        }
    }

    /// The result of an attempt.
    pub(crate) fn install(&mut self, established: Result<Established, ConnectError>) {
        self.link.is_connecting = false;
        match established {
            Err(error) => {
                self.link.attempts = self.link.attempts.saturating_add(1);
                self.link.why = error.to_string();
                self.wake_all();
            }
            // Closed meanwhile: the new one goes at once.
            Ok(_) if self.link.is_closed => self.wake_all(),
            Ok(Established { stream, session, inbox }) => {
                self.session = session;
                self.link.stream = stream;
                self.link.connection = next_connection();
                self.link.is_up = true;
                self.link.is_going_down = false;
                self.link.attempts = 0;
                self.link.ticks = false;
                self.output = Outbound::default();
                self.inbox = Some(inbox);
                self.serve_again();
                self.tell(Notice::Reconnected);
                self.wake_all();
            }
        }
    }

    fn serve_again(&mut self) {
        let mut refusals = Vec::new();
        for (&serving, server) in self.servers.iter().filter(|(_, server)| server.end.is_none()) {
            let ticket = self.tickets.insert(Owner::Restore { serving });
            match self.session.serve(ticket.0, serving, &server.body, 0) {
                Ok(call) => self.tickets.get(ticket).expect("just inserted").call = Some(call),
                Err(refused) => refusals.push((ticket, refused)),
            }
        }
        for (ticket, refused) in refusals {
            self.end_ticket(ticket.0, Err(refused.into()));
        }
    }

    /// How serving again went.
    pub(crate) fn restored(&mut self, serving: u64, end: End) {
        // Lost again already: the next connection asks anew.
        if !self.link.is_up {
            return;
        }
        let served = end.and_then(|reply| {
            switchboard_protocol::decode::<Served>(&reply.payload)
                .ok_or_else(|| CallError::malformed("Served"))
        });
        let Some(server) = self.server(serving) else { return };
        match served {
            Ok(served) if server.end.is_none() => server.served(&served),
            // Stopped meanwhile.
            Ok(served) => self.session.discard(served.handle),
            Err(error) => {
                let name = server.body.name.clone();
                self.end_server(serving, Err(error.clone()));
                self.tell(Notice::ServeFailed { name, error });
            }
        }
    }
}
