//! Opening calls and fetching their ends.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use switchboard_protocol::control::{Open, Opened, Operation};
use switchboard_protocol::{Extension, HandleEntry, ObjectKind, Outcome};
use switchboard_transport::clock;

use super::items::Item;
use super::mailbox::MailId;
use super::state::{Guard, Shared, State};
use super::target::{Known, Target};
use super::ticket::{End, Facts, Owner, RawReply, TicketId};
use super::wait::{Awaits, Until};
use super::waiter::Waiter;
use super::write::Patience;
use crate::CallError;
use crate::session::{CallSpec, Method};

/// A call as it was asked for; what is inherited is in it already.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallParams<'a> {
    pub(crate) method: Method<'a>,
    /// Our time; 0 for none.
    pub(crate) deadline: u64,
    pub(crate) priority: u8,
    pub(crate) stream: bool,
    pub(crate) no_wait: bool,
    /// The request in whose service it is made, and the connection by which that came.
    pub(crate) parent: Option<(u64, u64)>,
    pub(crate) epoch: u64,
    pub(crate) traceparent: Option<&'a str>,
    pub(crate) extensions: &'a [Extension<'a>],
    pub(crate) batch: bool,
    /// Messages of a queue are to come, under lease.
    pub(crate) leases: bool,
    pub(crate) handles: &'a [HandleEntry],
    /// The connection on which the handles are good; 0 where there are none.
    pub(crate) handles_connection: u64,
}

impl Shared {
    /// The handle of a target, opened if need be.
    pub(crate) fn handle_of<'a>(
        &'a self,
        mut state: Guard<'a>,
        target: &Target,
        deadline: u64,
    ) -> Result<(Guard<'a>, u64), CallError> {
        loop {
            if !state.link.is_up {
                if target.name().is_none() {
                    return Err(gone());
                }
                state = self.ensure_up(state, deadline)?;
            }
            match target.known(&state.link) {
                Known::Handle(handle) => return Ok((state, handle)),
                Known::Gone => return Err(gone()),
                Known::Name(name, kind, rights) => {
                    let body = open_body(name, kind, rights);
                    let ticket = state.open_control(Operation::Open, &body, deadline, Owner::Nobody)?;
                    let end;
                    (state, end) = self.finish(state, ticket, deadline);
                    state.opened(target, end?)?;
                }
            }
        }
    }

    /// Waits for the end of a call.
    pub(crate) fn finish<'a>(
        &'a self,
        state: Guard<'a>,
        ticket: TicketId,
        deadline: u64,
    ) -> (Guard<'a>, End) {
        let until = if deadline == 0 { Until::Forever } else { Until::CallEnds };
        let (mut state, end) = self.wait(
            state,
            until,
            Awaits::Ticket,
            |state, waiter| state.register(ticket, waiter),
            |state| match state.tickets.get(ticket) {
                Some(ticket) => ticket.end.take(),
                None => Some(Err(CallError::not_connected("the call is not known"))),
            },
        );
        state.tickets.remove(ticket);
        let end = end.unwrap_or_else(|| Err(CallError::not_connected(&state.link.why)));
        (state, end)
    }

    /// Makes a call and waits for its end.
    #[inline]
    pub(crate) fn call(&self, target: &Target, params: &CallParams<'_>, payload: &[u8]) -> End {
        let (state, handle) = self.handle_of(self.lock(), target, params.deadline)?;
        let patience = Patience::Until(params.deadline);
        let (state, ticket) = self.open_call(state, handle, params, payload, Owner::Nobody, patience)?;
        let (state, end) = self.finish(state, ticket, params.deadline);
        self.release(state);
        end
    }

    /// Opens a call, to be written with whatever is written next; a large payload is written now.
    #[inline]
    pub(crate) fn open_call<'a>(
        &'a self,
        mut state: Guard<'a>,
        handle: u64,
        params: &CallParams<'_>,
        payload: &[u8],
        owner: Owner,
        patience: Patience,
    ) -> Result<(Guard<'a>, TicketId), CallError> {
        let lent = state.lends(payload);
        let ticket = state.open_call(handle, params, payload, owner, lent)?;
        if lent {
            state = self.write_lent(state, payload, patience);
        }
        Ok((state, ticket))
    }

    /// Makes a call and does not wait.
    pub(crate) fn start(
        &self,
        target: &Target,
        params: &CallParams<'_>,
        payload: &[u8],
    ) -> Result<TicketId, CallError> {
        let (state, handle) = self.handle_of(self.lock(), target, params.deadline)?;
        let (state, ticket) =
            self.open_call(state, handle, params, payload, Owner::Nobody, Patience::Never)?;
        self.write_and_release(state);
        Ok(ticket)
    }

    /// A control operation, and its answer.
    pub(crate) fn control<B: Serialize, R: DeserializeOwned>(
        &self,
        operation: Operation,
        body: &B,
        deadline: u64,
    ) -> Result<R, CallError> {
        let reply = self.control_raw(operation, body, deadline)?;
        decode_reply(operation, &reply)
    }

    pub(crate) fn control_raw<B: Serialize>(
        &self,
        operation: Operation,
        body: &B,
        deadline: u64,
    ) -> Result<RawReply, CallError> {
        let mut state = self.ensure_up(self.lock(), deadline)?;
        let ticket = state.open_control(operation, body, deadline, Owner::Nobody)?;
        let (state, end) = self.finish(state, ticket, deadline);
        self.release(state);
        end
    }

    /// Nobody wants the end of that call any more.
    pub(crate) fn give_up(&self, id: TicketId) {
        let mut state = self.lock();
        let Some(ticket) = state.tickets.remove(id) else { return };
        state.discard_ticket(ticket);
        self.write_and_release(state);
    }

    /// The deadline of an operation that names none.
    pub(crate) fn default_deadline(&self) -> u64 {
        self.config.timeout.map_or(0, after)
    }
}

impl State {
    /// Whoever waits for a ticket follows.
    pub(crate) fn register(&mut self, ticket: TicketId, waiter: &Arc<Waiter>) {
        if let Some(ticket) = self.tickets.get(ticket)
            && ticket.end.is_none()
        {
            ticket.owner = Owner::Thread(Arc::clone(waiter));
        }
    }

    /// With `lent`, the frame is written without its payload, which [`Shared::write_lent`] writes next.
    #[inline]
    pub(crate) fn open_call(
        &mut self,
        handle: u64,
        params: &CallParams<'_>,
        payload: &[u8],
        owner: Owner,
        lent: bool,
    ) -> Result<TicketId, CallError> {
        self.check_handles(params.handles, params.handles_connection)?;
        let spec = self.spec(handle, params, payload, lent);
        let id = self.tickets.insert(owner);
        let opened = self.session.call(id.0, &spec);
        let id = self.opened_call(id, opened)?;
        if params.leases {
            self.tickets.get(id).expect("just inserted").pops = handle;
        }
        Ok(id)
    }

    /// [`State::open_call`] for a pipeline.
    pub(crate) fn open_mail(
        &mut self,
        mail: MailId,
        handle: u64,
        params: &CallParams<'_>,
        payload: &[u8],
        lent: bool,
    ) -> Result<(), CallError> {
        self.check_handles(params.handles, params.handles_connection)?;
        let spec = self.spec(handle, params, payload, lent);
        self.session.call(mail.to_tag(), &spec)?;
        Ok(())
    }

    #[inline]
    fn spec<'a>(&self, handle: u64, params: &CallParams<'a>, payload: &'a [u8], lent: bool) -> CallSpec<'a> {
        CallSpec {
            handle,
            method: params.method.clone(),
            deadline: params.deadline,
            priority: params.priority,
            stream: params.stream,
            no_wait: params.no_wait,
            parent: self.parent(params.parent),
            epoch: params.epoch,
            traceparent: params.traceparent,
            extensions: params.extensions,
            batch: params.batch,
            leases: params.leases,
            handles: params.handles,
            payload,
            lent,
        }
    }

    /// The request in whose service something is done, if it came by this connection.
    pub(crate) fn parent(&self, parent: Option<(u64, u64)>) -> u64 {
        parent.filter(|(_, connection)| *connection == self.link.connection).map_or(0, |(request, _)| request)
    }

    pub(crate) fn open_control<B: Serialize>(
        &mut self,
        operation: Operation,
        body: &B,
        deadline: u64,
        owner: Owner,
    ) -> Result<TicketId, CallError> {
        let id = self.tickets.insert(owner);
        let opened = self.session.control(id.0, operation, body, deadline);
        self.opened_call(id, opened)
    }

    pub(crate) fn opened_call(
        &mut self,
        id: TicketId,
        opened: Result<crate::session::CallId, crate::session::Refused>,
    ) -> Result<TicketId, CallError> {
        match opened {
            Ok(call) => {
                self.tickets.get(id).expect("just inserted").call = Some(call);
                Ok(id)
            }
            Err(refused) => {
                self.tickets.remove(id);
                Err(refused.into())
            }
        }
    }

    /// An Open has ended: its handle goes to the target, unless another thread was faster.
    pub(crate) fn opened(&mut self, target: &Target, reply: RawReply) -> Result<(), CallError> {
        let opened: Opened = decode_reply(Operation::Open, &reply)?;
        if matches!(target.known(&self.link), Known::Handle(_)) {
            self.discard_handle(opened.handle, reply.connection);
        } else {
            target.set(opened.handle, reply.connection);
        }
        Ok(())
    }

    /// Whatever a ticket still holds or may yet get is given back.
    pub(crate) fn discard_ticket(&mut self, ticket: super::ticket::Ticket) {
        if let Some(call) = ticket.call {
            self.session.forget(call);
        }
        let end = ticket.end.and_then(Result::ok);
        let mut items = ticket.items;
        while let Some(item) = items.pop() {
            self.discard_item(ticket.pops, item);
        }
        if let Some(mut reply) = end {
            let facts = reply.facts.take();
            self.discard_reply(ticket.pops, reply, facts.as_deref());
        }
    }

    /// An item that nobody takes, of a ticket that pops by this handle (0 for any other).
    pub(crate) fn discard_item(&mut self, pops: u64, item: Item) {
        self.discard_reply(pops, item.reply, Some(&item.facts));
    }

    fn discard_reply(&mut self, pops: u64, reply: RawReply, facts: Option<&Facts>) {
        if let (true, Some(facts)) = (pops != 0, facts) {
            self.session.give_back(pops, facts.lease());
        }
        for entry in reply.handles {
            self.discard_handle(entry.handle, reply.connection);
        }
    }
}

pub(crate) fn open_body(name: &str, kind: ObjectKind, rights: u32) -> Open {
    Open { name: name.to_owned(), kind: kind as u8, rights, on_behalf_of: 0 }
}

/// The body of a control operation's answer.
pub(crate) fn decode_reply<R: DeserializeOwned>(
    operation: Operation,
    reply: &RawReply,
) -> Result<R, CallError> {
    switchboard_protocol::decode(&reply.payload)
        .ok_or_else(|| CallError::malformed(&format!("body of the operation {operation:?}")))
}

pub(crate) fn gone() -> CallError {
    CallError::new(Outcome::HandleRevoked, "the handle was of a connection that is lost")
}

/// That long from now.
pub(crate) fn after(timeout: std::time::Duration) -> u64 {
    clock::monotonic_ns().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX))
}
