//! One-way messages and the room they need (SPEC 4.8, 4.9).

use switchboard_protocol::control::{Narrow, Opened, Operation};
use switchboard_protocol::{HandleEntry, Outcome};

use super::call::{CallParams, decode_reply};
use super::state::{Guard, Shared, State};
use super::target::{Target, What};
use super::ticket::Owner;
use super::wait::{Awaits, Until};
use super::write::Patience;
use crate::CallError;
use crate::session::{Refused, SendSpec};

impl Shared {
    /// Sends one message. With `waits`, waits for room until the deadline; without, never.
    pub(crate) fn send(
        &self,
        target: &Target,
        params: &CallParams<'_>,
        tag: u64,
        payload: &[u8],
        waits: bool,
    ) -> Result<(), CallError> {
        let (state, handle) = self.handle_of(self.lock(), target, params.deadline)?;
        let (mut state, handle) = self.ensure_window(state, target, handle, params.deadline)?;
        let mut spec = SendSpec {
            handle,
            method: params.method.clone(),
            deadline: params.deadline,
            priority: params.priority,
            parent: state.parent(params.parent),
            epoch: params.epoch,
            tag,
            batch: params.batch,
            handles: params.handles,
            payload,
            lent: state.lends(payload),
        };
        state.check_handles(params.handles, params.handles_connection)?;
        let mut sent = state.session.send(&spec);
        while waits && sent == Err(Refused::NoRoom) {
            let is_free;
            (state, is_free) = self.wait(
                state,
                until(params.deadline),
                Awaits::Room,
                |_, _| {},
                |state| state.session.may_fit(&spec).then_some(()),
            );
            if is_free.is_none() {
                return Err(no_room_in_time());
            }
            spec.lent = state.lends(payload);
            sent = state.session.send(&spec);
        }
        if sent == Err(Refused::NoRoom) {
            state = self.peek(state);
            spec.lent = state.lends(payload);
            sent = state.session.send(&spec);
        }
        sent.map_err(|refused| refused_to_send(refused, &state))?;
        if spec.lent {
            let patience = if waits { Patience::Until(params.deadline) } else { Patience::Never };
            state = self.write_lent(state, payload, patience);
        }
        self.push_out(state, params.deadline, waits)
    }

    /// Writes all there is; with `waits`, until the socket has taken it.
    pub(crate) fn push_out(&self, state: Guard<'_>, deadline: u64, waits: bool) -> Result<(), CallError> {
        let (mut state, mut full) = self.write(state);
        if full && waits {
            // Reading meanwhile, so that the broker can go on and read us.
            let out;
            (state, out) = self.wait(
                state,
                until(deadline),
                Awaits::Nothing,
                |_, _| {},
                |state| (!state.has_output() || state.output.is_writing || !state.link.is_up).then_some(()),
            );
            full = out.is_none();
            if full {
                return Err(no_room_in_time());
            }
        }
        if state.output.is_broken {
            // Reading says why; what was sent is lost.
            state = self.peek(state);
        }
        let lost = (!state.link.is_up).then(|| CallError::connection_lost(&state.link.why));
        self.release(state);
        lost.map_or(Ok(()), Err)
    }

    /// Room for `first` bytes at least and `bytes` at most; waits for it until the deadline.
    pub(crate) fn reserve<'a>(
        &'a self,
        state: Guard<'a>,
        handle: u64,
        first: u64,
        bytes: u64,
        deadline: u64,
    ) -> (Guard<'a>, Result<u64, CallError>) {
        let (state, reserved) = self.wait(
            state,
            until(deadline),
            Awaits::Room,
            |_, _| {},
            |state| match state.session.reserve(handle, first, bytes) {
                Ok(0) => None,
                result => Some(result),
            },
        );
        let reserved = match reserved {
            None => Err(no_room_in_time()),
            Some(result) => result.map_err(|refused| refused_to_send(refused, &state)),
        };
        (state, reserved)
    }

    /// A handle that was passed to us came without its send window (SPEC 4.9 gives one to what is
    /// opened or narrowed): narrow it to all it has, and go on with the new one.
    pub(crate) fn ensure_window<'a>(
        &'a self,
        mut state: Guard<'a>,
        target: &Target,
        handle: u64,
        deadline: u64,
    ) -> Result<(Guard<'a>, u64), CallError> {
        let What::Held { rights } = target.what else { return Ok((state, handle)) };
        if state.session.has_window(handle) {
            return Ok((state, handle));
        }
        let body = Narrow { handle, rights };
        let ticket = state.open_control(Operation::Narrow, &body, deadline, Owner::Nobody)?;
        let end;
        (state, end) = self.finish(state, ticket, deadline);
        let reply = end?;
        let opened: Opened = decode_reply(Operation::Narrow, &reply)?;
        let (now, connection) = target.get();
        if now == handle && connection == reply.connection {
            target.replace(opened.handle);
            return Ok((state, opened.handle));
        }
        // Another thread was faster.
        state.discard_handle(opened.handle, reply.connection);
        Ok((state, now))
    }
}

#[cfg(feature = "tokio")]
impl State {
    /// Sends one message if it can be done now, or fails for good; `None` to be tried again when there
    /// is room.
    pub(crate) fn try_send(
        &mut self,
        target: &Target,
        params: &CallParams<'_>,
        tag: u64,
        payload: &[u8],
    ) -> Option<Result<(), CallError>> {
        if let Err(error) = self.check_handles(params.handles, params.handles_connection) {
            return Some(Err(error));
        }
        let super::target::Known::Handle(handle) = target.known(&self.link) else {
            return Some(Err(CallError::not_connected(&self.link.why)));
        };
        let spec = SendSpec {
            handle,
            method: params.method.clone(),
            deadline: params.deadline,
            priority: params.priority,
            parent: self.parent(params.parent),
            epoch: params.epoch,
            tag,
            batch: params.batch,
            handles: params.handles,
            payload,
            lent: false,
        };
        match self.session.send(&spec) {
            Err(Refused::NoRoom) => None,
            sent => Some(sent.map_err(|refused| refused_to_send(refused, self))),
        }
    }
}

impl State {
    pub(crate) fn check_handles(&self, handles: &[HandleEntry], connection: u64) -> Result<(), CallError> {
        if handles.is_empty() || connection == self.link.connection {
            Ok(())
        } else {
            Err(super::call::gone())
        }
    }
}

fn until(deadline: u64) -> Until {
    if deadline == 0 { Until::Forever } else { Until::At(deadline) }
}

pub(crate) fn no_room_in_time() -> CallError {
    CallError::new(
        Outcome::DeadlineExceeded,
        "the deadline passed while the message waited for room to be sent",
    )
}

fn refused_to_send(refused: Refused, state: &State) -> CallError {
    match refused {
        Refused::Over => CallError::not_connected(&state.link.why),
        // A window that was known and is not any more.
        Refused::UnknownHandle => CallError::new(Outcome::HandleRevoked, "the handle was revoked"),
        Refused::NoRoom => CallError::new(
            Outcome::Busy,
            "as many bytes are on their way on this handle as its send window allows (send_bytes)",
        ),
        refused => refused.into(),
    }
}
