//! A request, as the service sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use switchboard_protocol::control::{OnPeer, Open, Operation, PeerInfo};
use switchboard_protocol::{
    Epoch, Extensions, ObjectKind, Outcome, Parts, PeerId, Rights, extension_type, flags,
};

use crate::codec;
use crate::driver::{Awaits, Delivery, Owner, Shared, Until, after, decode_reply};
use crate::session::{Method, Refused, RequestId, Session};
use crate::{Board, CallError, Context, Fault, Handle, Pass, Payload};

/// A call to be answered, or a one-way message (then nothing is answered).
///
/// A handler that takes it by reference answers with what it returns. One that takes it by value may
/// hand it to any thread, and answers with [`Request::reply`] or [`Request::fail`] when it likes; a
/// request that is dropped unanswered ends with `Abandoned`.
pub struct Request {
    board: Arc<Shared>,
    delivery: Box<Delivery>,
    handles: Vec<Handle>,
    /// Nothing is owed for it any more.
    is_settled: bool,
}

/// What a service answers: bytes, and perhaps handles. Made of anything that is bytes.
#[derive(Debug, Default)]
pub struct Response {
    pub(crate) payload: Payload,
    pub(crate) passes: Vec<Pass>,
}

/// Why an item was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ItemError {
    /// The caller has its outcome already, for this reason, or the connection is gone.
    #[error("the call is over ({0}): nobody takes more items")]
    Over(Outcome),
    /// The caller takes no more for now. Only where waiting was not asked for.
    #[error("the caller takes no more items for now")]
    NoRoom,
    /// The call did not ask for a streamed reply (SPEC 2.7).
    #[error("the caller did not ask for a streamed reply")]
    NotStreamed,
    /// The item cannot be sent at all.
    #[error("{0}")]
    Refused(Refused),
}

impl Request {
    #[inline]
    pub(crate) fn new(board: Arc<Shared>, mut delivery: Box<Delivery>) -> Self {
        let handles = if delivery.handles.is_empty() {
            Vec::new()
        } else {
            Handle::received(&board, &std::mem::take(&mut delivery.handles), delivery.connection)
        };
        Self { board, delivery, handles, is_settled: false }
    }

    /// Becomes another request; the box of the one before, which was settled, comes back.
    #[inline]
    pub(crate) fn reload(&mut self, delivery: Box<Delivery>) -> Box<Delivery> {
        assert!(self.is_settled, "a request is settled before it makes room for the next");
        self.is_settled = false;
        let mut before = std::mem::replace(&mut self.delivery, delivery);
        // What it held is not kept for longer than it was needed.
        before.payload = Payload::new();
        if !self.handles.is_empty() {
            self.handles.clear();
        }
        if !self.delivery.handles.is_empty() {
            let entries = std::mem::take(&mut self.delivery.handles);
            self.handles = Handle::received(&self.board, &entries, self.delivery.connection);
        }
        before
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.delivery.payload
    }

    /// Takes the payload out, without copying; an empty one stays.
    #[inline]
    pub fn take_payload(&mut self) -> Payload {
        std::mem::take(&mut self.delivery.payload)
    }

    /// The payload as a serde type, from postcard: bounded in depth and length, never panics.
    ///
    /// # Errors
    ///
    /// `Invalid`, as the fault that the handler gives its caller with `?`.
    pub fn typed<T: serde::de::DeserializeOwned>(&self) -> Result<T, Fault> {
        codec::from_slice(self.payload())
            .map_err(|error| Fault::invalid(format!("the request is not what was expected: {error}")))
    }

    /// The method that is asked for, by number or by name.
    pub fn method(&self) -> Method<'_> {
        match self.extension(extension_type::METHOD_NAME) {
            Some(name) => Method::Name(String::from_utf8_lossy(name)),
            None => Method::Number(self.delivery.header.method),
        }
    }

    /// W3C trace context, if the caller sent one.
    pub fn traceparent(&self) -> Option<&str> {
        std::str::from_utf8(self.extension(extension_type::TRACEPARENT)?).ok()
    }

    fn extension(&self, kind: u16) -> Option<&[u8]> {
        if self.delivery.extensions.is_empty() {
            return None;
        }
        Extensions::parse(&self.delivery.extensions)?.find(kind)
    }

    /// Whether it is many one-way messages in one (SPEC 2.9), still to be taken out.
    #[inline]
    pub(crate) fn is_batch(&self) -> bool {
        self.delivery.request.is_none() && self.delivery.header.flags & flags::BATCH != 0
    }

    /// Becomes each message of the batch that it is, in order.
    pub(crate) fn each_of_batch(&mut self, mut handle: impl FnMut(&mut Self)) {
        self.delivery.header.flags &= !flags::BATCH;
        let batch = self.take_payload();
        for part in Parts::of(&batch) {
            self.delivery.payload = Payload::copy_from(part.payload);
            handle(self);
        }
    }

    /// Whether it is a one-way message.
    #[inline]
    pub fn is_one_way(&self) -> bool {
        self.delivery.request.is_none()
    }

    /// Whether the caller takes a streamed reply: then [`Request::send_item`] works.
    pub fn is_streamed(&self) -> bool {
        Session::wants_stream(self.delivery.header.flags)
    }

    /// How much time is left; `None` if there is no deadline, zero if it has passed.
    pub fn time_left(&self) -> Option<Duration> {
        self.context().time_left()
    }

    /// 0 (least) to 7, as policy allowed it.
    pub fn priority(&self) -> u8 {
        self.delivery.header.priority
    }

    /// The caller's user id, as the kernel said when it connected.
    pub fn uid(&self) -> u32 {
        self.delivery.header.caller as u32
    }

    /// The caller's process id, as the kernel said when it connected.
    pub fn pid(&self) -> u32 {
        (self.delivery.header.caller >> 32) as u32
    }

    /// The caller's connection.
    pub fn peer(&self) -> PeerId {
        PeerId::from_wire(self.delivery.header.seq)
    }

    /// The epoch of the ownership under which it came (SPEC 3.5).
    pub fn epoch(&self) -> Epoch {
        Epoch(self.delivery.header.epoch)
    }

    /// The broker's id of it; 0 for a one-way message.
    pub fn id(&self) -> u64 {
        self.delivery.header.call
    }

    /// The handles that came with it.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Takes the handles out.
    pub fn take_handles(&mut self) -> Vec<Handle> {
        std::mem::take(&mut self.handles)
    }

    /// The board that it came by.
    pub fn board(&self) -> Board {
        Board { shared: Arc::clone(&self.board) }
    }

    /// What calls made in its service inherit. Set for the thread of the handler already.
    #[inline]
    pub fn context(&self) -> Context {
        let header = &self.delivery.header;
        Context {
            connection: self.delivery.connection,
            request: header.call,
            deadline: header.deadline,
            priority: header.priority,
        }
    }

    /// Who calls: user, groups, process, security label, as the kernel says (SPEC 6.2, Identify).
    /// Asked of the broker once per caller's connection, and remembered.
    ///
    /// # Errors
    ///
    /// `Denied` or `Invalid` where the caller is gone already, `PeerDied`.
    pub fn identity(&self) -> Result<Arc<PeerInfo>, CallError> {
        let peer = self.delivery.header.seq;
        if let Some(known) = self.board.lock().identities.get(&peer) {
            return Ok(Arc::clone(known));
        }
        let deadline = Context::inherit_deadline(Some(self.context()), self.board.default_deadline());
        let info: PeerInfo = self.board.control(Operation::Identify, &OnPeer { peer }, deadline)?;
        Ok(self.board.lock().remember(info))
    }

    /// A handle on a name by the *caller's* right, not ours: for acting on a name that the caller
    /// supplied, without lending it our rights (SPEC 7.6, `on_behalf_of`).
    ///
    /// # Errors
    ///
    /// `Denied` where the caller may not.
    pub fn open_as(&self, name: &str, rights: Rights) -> Result<Handle, CallError> {
        let deadline = Context::inherit_deadline(Some(self.context()), self.board.default_deadline());
        let body = self.open_as_body(name, rights);
        let mut state = self.board.ensure_up(self.board.lock(), deadline)?;
        if state.link.connection != self.delivery.connection {
            return Err(CallError::not_connected("the request is of a connection that is lost"));
        }
        let ticket = state.open_control(Operation::Open, &body, deadline, Owner::Nobody)?;
        let (state, end) = self.board.finish(state, ticket, deadline);
        self.board.release(state);
        let reply = end?;
        let opened = decode_reply(Operation::Open, &reply)?;
        Ok(self.board().opened_handle(&opened, reply.connection))
    }

    pub(crate) fn open_as_body(&self, name: &str, rights: Rights) -> Open {
        Open {
            name: name.to_owned(),
            kind: ObjectKind::Service as u8,
            rights: rights.0,
            on_behalf_of: self.delivery.header.call,
        }
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.board
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn request_id(&self) -> Option<RequestId> {
        self.delivery.request
    }

    /// Leaves the answering to someone else.
    #[cfg(feature = "tokio")]
    pub(crate) fn take_duty(&mut self) -> Duty {
        self.is_settled = true;
        Duty {
            board: Arc::clone(&self.board),
            connection: self.delivery.connection,
            owed: self.owed(),
            is_settled: false,
        }
    }

    fn owed(&self) -> Owed {
        match self.delivery.request {
            Some(request) => Owed::Answer(request),
            None => Owed::Room { handle: self.delivery.header.handle, bytes: self.delivery.bytes() },
        }
    }

    /// Whether the caller has its outcome already (it gave up, its deadline passed, it is gone): what
    /// is done for it now is done for nobody. It must still be answered, or dropped. Reads what is
    /// there; never waits.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled().is_some()
    }

    /// What the caller was told, if [`Request::is_cancelled`].
    pub fn cancelled(&self) -> Option<Outcome> {
        self.delivery.request?;
        let mut state = self.board.peek(self.board.lock());
        let cancelled = self.cancelled_now(&mut state);
        self.board.write_and_release(state);
        cancelled
    }

    /// Waits until [`Request::is_cancelled`], at most so long; what the caller was told.
    pub fn wait_cancelled(&self, timeout: Duration) -> Option<Outcome> {
        let request = self.delivery.request?;
        let (state, outcome) = self.board.wait(
            self.board.lock(),
            Until::At(after(timeout)),
            Awaits::Request(request),
            |_, _| {},
            |state| self.cancelled_now(state),
        );
        self.board.release(state);
        outcome
    }

    pub(crate) fn cancelled_now(&self, state: &mut crate::driver::State) -> Option<Outcome> {
        let request = self.delivery.request?;
        if self.is_of(state) { state.session.is_cancelled(request) } else { Some(Outcome::PeerDied) }
    }

    fn is_of(&self, state: &crate::driver::State) -> bool {
        state.link.is_up && state.link.connection == self.delivery.connection
    }

    /// Sends an item of a streamed reply (SPEC 5.8). Waits until the caller takes it.
    ///
    /// # Errors
    ///
    /// [`ItemError::Over`] when nobody takes more: stop.
    pub fn send_item(&self, item: impl Into<Response>) -> Result<(), ItemError> {
        self.item(item.into(), true)
    }

    /// [`Request::send_item`] that does not wait.
    ///
    /// # Errors
    ///
    /// As there, and [`ItemError::NoRoom`].
    pub fn try_send_item(&self, item: impl Into<Response>) -> Result<(), ItemError> {
        self.item(item.into(), false)
    }

    fn item(&self, mut item: Response, waits: bool) -> Result<(), ItemError> {
        let request = self.delivery.request.filter(|_| self.is_streamed()).ok_or(ItemError::NotStreamed)?;
        let mut state = self.board.lock();
        if !waits {
            state = self.board.peek(state);
        }
        let mut sent = self.item_now(&mut state, &mut item);
        if waits && sent == Err(ItemError::NoRoom) {
            let result;
            (state, result) = self.board.wait(
                state,
                Until::Forever,
                Awaits::Request(request),
                |_, _| {},
                |state| match self.item_now(state, &mut item) {
                    Err(ItemError::NoRoom) => None,
                    result => Some(result),
                },
            );
            sent = result.unwrap_or(Err(ItemError::Over(Outcome::PeerDied)));
        }
        match sent {
            Ok(()) => self.board.push_out(state, 0, waits).map_err(|_| ItemError::Over(Outcome::PeerDied)),
            Err(error) => {
                self.board.release(state);
                Err(error)
            }
        }
    }

    pub(crate) fn item_now(
        &self,
        state: &mut crate::driver::State,
        item: &mut Response,
    ) -> Result<(), ItemError> {
        let request = self.delivery.request.filter(|_| self.is_streamed()).ok_or(ItemError::NotStreamed)?;
        if !self.is_of(state) {
            return Err(ItemError::Over(Outcome::PeerDied));
        }
        let (entries, connection) = Pass::entries(&item.passes);
        if state.check_handles(&entries, connection).is_err() {
            return Err(ItemError::Refused(Refused::UnknownHandle));
        }
        state.session.item_with(request, &mut item.payload, &entries).map_err(|refused| match refused {
            Refused::NoRoom => ItemError::NoRoom,
            Refused::NotOpen | Refused::Over => {
                ItemError::Over(state.session.is_cancelled(request).unwrap_or(Outcome::PeerDied))
            }
            refused => ItemError::Refused(refused),
        })
    }

    /// Answers. Of a one-way message, or of one whose caller is gone, nothing comes.
    pub fn reply(mut self, response: impl Into<Response>) {
        self.settle(Ok(response.into()), true);
    }

    /// Ends it otherwise.
    pub fn fail(mut self, fault: impl Into<Fault>) {
        self.settle(Err(fault.into()), true);
    }

    /// Ends it by whatever came of the work.
    pub fn finish(mut self, result: Result<impl Into<Response>, Fault>) {
        self.settle(result.map(Into::into), true);
    }

    /// Ends it; with `writes`, has it written at once.
    #[inline]
    pub(crate) fn settle(&mut self, result: Result<Response, Fault>, writes: bool) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let mut state = self.board.lock();
        state.settle(self.delivery.connection, self.owed(), result);
        if writes {
            self.board.write_and_release(state);
        }
    }

    /// The room that a one-way message took, now the caller's to give back; nothing else is owed.
    #[inline]
    pub(crate) fn settle_one_way(&mut self) -> (u64, u64) {
        self.is_settled = true;
        (self.delivery.header.handle, self.delivery.bytes())
    }

    pub(crate) fn connection(&self) -> u64 {
        self.delivery.connection
    }
}

/// What is to be done for a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owed {
    Answer(RequestId),
    /// Of a one-way message: the room that it took.
    Room {
        handle: u64,
        bytes: u64,
    },
}

/// The answering of a request that someone else handles. Dropped, it answers `Abandoned`.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub(crate) struct Duty {
    board: Arc<Shared>,
    connection: u64,
    owed: Owed,
    is_settled: bool,
}

#[cfg(feature = "tokio")]
impl Duty {
    pub(crate) fn settle(&mut self, result: Result<Response, Fault>) {
        if !std::mem::replace(&mut self.is_settled, true) {
            let mut state = self.board.lock();
            state.settle(self.connection, self.owed, result);
            self.board.write_and_release(state);
        }
    }
}

#[cfg(feature = "tokio")]
impl Drop for Duty {
    fn drop(&mut self) {
        if !self.is_settled {
            self.settle(Err(abandoned()));
        }
    }
}

fn abandoned() -> Fault {
    Fault::new(Outcome::Abandoned, switchboard_protocol::Failure::new("the service dropped the request"))
}

impl crate::driver::State {
    /// Ends a request, if it came by this connection.
    #[inline]
    fn settle(&mut self, connection: u64, owed: Owed, result: Result<Response, Fault>) {
        if connection != self.link.connection || !self.link.is_up {
            return;
        }
        match owed {
            Owed::Room { handle, bytes } => self.session.consumed(handle, bytes),
            Owed::Answer(request) => self.answer(request, result),
        }
    }

    /// Keeps who somebody is.
    pub(crate) fn remember(&mut self, info: PeerInfo) -> Arc<PeerInfo> {
        let info = Arc::new(info);
        if self.identities.len() >= IDENTITIES_MAX {
            self.identities.clear();
        }
        self.identities.insert(info.peer, Arc::clone(&info));
        info
    }

    #[inline]
    fn answer(&mut self, request: RequestId, result: Result<Response, Fault>) {
        match result {
            Ok(mut response) if response.passes.is_empty() => {
                self.session.answer_with(request, &mut response.payload, &[]);
            }
            Ok(mut response) => {
                let (entries, connection) = Pass::entries(&response.passes);
                if self.check_handles(&entries, connection).is_ok() {
                    self.session.answer_with(request, &mut response.payload, &entries);
                } else {
                    let fault = Fault::failed("the service passed a handle of a connection that is lost");
                    self.session.answer_otherwise(request, fault.outcome, &fault.failure);
                }
            }
            Err(fault) => {
                self.session.answer_otherwise(request, fault.outcome, &fault.failure);
            }
        }
    }
}

/// How many callers are remembered.
const IDENTITIES_MAX: usize = 1024;

impl Drop for Request {
    #[inline]
    fn drop(&mut self) {
        if !self.is_settled {
            self.settle(Err(abandoned()), true);
        }
    }
}

impl Response {
    /// Just these bytes.
    pub fn new(payload: impl Into<Payload>) -> Self {
        Self { payload: payload.into(), passes: Vec::new() }
    }

    /// A serde type, as postcard.
    ///
    /// # Errors
    ///
    /// `Failed` if it cannot be encoded.
    pub fn typed<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, Fault> {
        codec::to_vec(value)
            .map(Self::new)
            .map_err(|error| Fault::failed(format!("the reply cannot be encoded: {error}")))
    }

    /// Passes a handle along; at most 16.
    pub fn handle(mut self, pass: Pass) -> Self {
        self.passes.push(pass);
        self
    }
}

impl<T: Into<Payload>> From<T> for Response {
    #[inline]
    fn from(payload: T) -> Self {
        Self::new(payload)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("id", &format_args!("{:#x}", self.id()))
            .field("method", &self.method())
            .field("payload", &self.delivery.payload)
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}
