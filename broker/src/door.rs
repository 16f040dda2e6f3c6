//! The listener, and what happens when there are no descriptors left for those who knock.

use std::io::{self, IoSlice};

use switchboard_protocol::{Goodbye, GoodbyeReason, Header, Kind, encode, write_frame};
use switchboard_transport::{AcceptError, Credentials, Interest, Listener, Poller, SpareFds, Stream};

/// Connections accepted in one turn at most, so that a rush does not hold up those who are in.
const ACCEPTS_MAX: usize = 64;

/// Descriptors kept back: one to turn peers away with, the rest so that configuration can be read
/// and a process looked at even then.
const SPARES: usize = 8;

/// How long to wait for free descriptors, in nanoseconds, where none of ours was closed.
const PATIENCE: u64 = 100_000_000;

/// Where connections come in.
#[derive(Debug)]
pub(crate) struct Door {
    listener: Option<Listener>,
    spares: SpareFds,
    token: u64,
    /// Shut for want of descriptors until then, nanoseconds.
    shut_until: Option<u64>,
    turned_away: u64,
}

/// What one visit to the door brought.
#[derive(Debug)]
pub(crate) enum Visit {
    /// Somebody came in.
    Entered(Stream, Credentials),
    /// Nobody waits, or nobody can be let in.
    Nobody,
    /// No descriptors: so many were told and turned away since this was last said.
    Full(u64),
    /// The listener has failed; it is tried again.
    Failed(io::Error),
}

impl Door {
    pub(crate) fn open(listener: Listener, token: u64, poller: &Poller) -> io::Result<Self> {
        poller.add(&listener, token, Interest::READ)?;
        let spares = SpareFds::new(SPARES)?;
        Ok(Self { listener: Some(listener), spares, token, shut_until: None, turned_away: 0 })
    }

    /// Connections accepted in one turn at most.
    pub(crate) const fn visits_max() -> usize {
        ACCEPTS_MAX
    }

    /// Lets one connection in.
    pub(crate) fn visit(&mut self, now: u64, poller: &Poller) -> Visit {
        let Some(listener) = &self.listener else { return Visit::Nobody };
        match listener.accept() {
            Ok(Some((stream, credentials))) => Visit::Entered(stream, credentials),
            Ok(None) => Visit::Nobody,
            Err(AcceptError::OutOfFds) => self.turn_away(now, poller),
            Err(AcceptError::Io(error)) => {
                // Whatever it is (out of memory, say), it must not turn the loop into a spin.
                self.shut(now, poller);
                Visit::Failed(error)
            }
        }
    }

    /// Opens again after it was shut, once one of our descriptors was closed or time has passed.
    pub(crate) fn reopen(&mut self, now: u64, freed: bool, poller: &Poller) {
        let Some(until) = self.shut_until else { return };
        if !freed && now < until {
            return;
        }
        self.shut_until = None;
        self.spares.take_back();
        if let Some(listener) = &self.listener {
            // It was added at the start and stays with the poller, so this does not fail.
            let _ = poller.modify(listener, self.token, Interest::READ);
        }
    }

    /// When to look again.
    pub(crate) fn shut_until(&self) -> Option<u64> {
        self.shut_until
    }

    /// Lets nobody in any more. The socket is gone afterwards, if it was ours.
    pub(crate) fn close(&mut self, poller: &Poller) {
        if let Some(listener) = self.listener.take() {
            // Closing it would remove it as well.
            let _ = poller.remove(&listener);
        }
    }

    /// With a spare descriptor, those who wait are told that there is no room. It takes a while to
    /// be told no, so that a crowd that comes back at once does not keep the loop busy.
    fn turn_away(&mut self, now: u64, poller: &Poller) -> Visit {
        let Some(listener) = &self.listener else { return Visit::Nobody };
        let told = self.turned_away;
        let mut nobody = false;
        for _ in 0..ACCEPTS_MAX {
            if !self.spares.give_up() {
                break;
            }
            let waiting = listener.accept();
            if let Ok(Some((stream, _))) = &waiting {
                // It may be gone already; then nobody needs to know.
                let _ = stream.send(&[IoSlice::new(&no_room())], &[]);
                self.turned_away += 1;
            }
            nobody = !matches!(&waiting, Ok(Some(_)));
            drop(waiting);
            self.spares.take_back();
            if nobody {
                break;
            }
        }
        self.shut(now, poller);
        match self.turned_away - told {
            // The system says that there is no descriptor before it looks whether anybody wants one.
            0 if nobody => Visit::Nobody,
            count => Visit::Full(count),
        }
    }

    fn shut(&mut self, now: u64, poller: &Poller) {
        self.shut_until = Some(now + PATIENCE);
        if let Some(listener) = &self.listener {
            // As above.
            let _ = poller.modify(listener, self.token, Interest::NONE);
        }
    }
}

/// SPEC 1.7: a goodbye may come before any welcome.
fn no_room() -> Vec<u8> {
    let header = Header { method: GoodbyeReason::TooManyConnections as u32, ..Header::new(Kind::Goodbye) };
    let message = "the broker has no file descriptor left for another connection; try again later, or raise its \
                   limit of open files (LimitNOFILE)";
    let mut frame = Vec::new();
    write_frame(&mut frame, header, &[], &[], &encode(&Goodbye { message: message.into() }));
    frame
}
