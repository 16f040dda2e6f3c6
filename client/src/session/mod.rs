//! The client side of a connection as a pure state machine: no I/O, no clock, no threads.
//!
//! Whoever drives a [`Session`] moves bytes and tells the time; everything that the protocol says a
//! client must do is decided here. The blocking driver, the tokio driver and the simulator drive
//! this very module.
//!
//! - *In*: received bytes go through an [`Inbox`], which cuts them into [`Frame`]s; each goes to
//!   [`Session::handle`], which says what it means as an [`Event`].
//! - *Out*: [`Session::call`], [`Session::send`], [`Session::answer`] and their like append frames to
//!   [`Session::output`]; the driver writes it and says how much it wrote. A large payload is not copied:
//!   an answer's is taken over ([`Session::answer_with`]), a call's is lent ([`CallSpec::lent`]).
//! - *Ids*: a call is known to its driver by a `tag` of the driver's choice, a serving by another.
//!   Every call that was accepted ends exactly once: by [`Event::Ended`], in the list that
//!   [`Session::expire`] or [`Session::end`] returns, or by being given up with [`Session::forget`].
//! - *Time* is the client's own monotonic clock in nanoseconds; deadlines are translated into the
//!   broker's (SPEC 1.6). Before the handshake is done no deadline can be told to the broker: such
//!   calls travel without, and only [`Session::expire`] ends them.
//! - *Wrong brokers*: whatever they send, a [`Violation`] is the worst that happens. It ends the
//!   connection; call [`Session::end`] then.
//!
//! ```
//! use switchboard::session::{CallSpec, Event, Inbox, Session};
//! use switchboard_protocol::{Decoder, Header, Kind, Welcome, encode, write_frame};
//!
//! let mut session = Session::new(1_000, "example");
//! session.call(7, &CallSpec { handle: 5, payload: b"ping", ..CallSpec::default() }).unwrap();
//!
//! // A broker that answers the call.
//! let mut broker = Decoder::default();
//! broker.push(&session.output().to_vec());
//! session.output().clear();
//! assert_eq!(broker.next().unwrap().unwrap().0.kind, Kind::Hello);
//! let call = broker.next().unwrap().unwrap().0.call;
//! let welcome = Welcome { version: 1, features: 0, broker_ns: 0, incarnation: 1, peer: 1,
//!     payload_bytes_max: 1 << 20, calls_open_max: 16, priority_max: 4 };
//! let mut bytes = Vec::new();
//! write_frame(&mut bytes, Header::new(Kind::Welcome), &[], &[], &encode(&welcome));
//! write_frame(&mut bytes, Header { call, ..Header::new(Kind::Reply) }, &[], &[], b"pong");
//!
//! let mut inbox = Inbox::new();
//! inbox.push(&bytes);
//! let frame = inbox.next_frame().unwrap().unwrap();
//! assert!(matches!(session.handle(2_000, frame), Ok(Some(Event::Welcomed(_)))));
//! let frame = inbox.next_frame().unwrap().unwrap();
//! let Ok(Some(Event::Ended { tag: 7, end: Ok(answer) })) = session.handle(2_000, frame) else { panic!() };
//! assert_eq!(answer.frame.payload(), b"pong");
//! ```

mod calls;
mod event;
mod inbox;
mod outlets;
mod output;
mod receive;
mod requests;
mod servings;
mod spec;
#[cfg(test)]
mod tests;
mod violation;

pub use calls::CallId;
pub use event::{Answer, EndedCall, Event, Farewell};
pub use inbox::{Frame, Inbox};
pub use output::{LARGE_BYTES, Output};
pub use requests::RequestId;
pub use spec::{CallSpec, Method, Refused, SendSpec, write_send};
pub use violation::Violation;

use std::time::Duration;

use serde::Serialize;
use switchboard_protocol::control::{self, Operation};
use switchboard_protocol::queue::{LeaseId, Nack, NackHow, QueueMethod};
use switchboard_protocol::{
    Failure, HELLO_MAGIC, HandleEntry, Header, Hello, Kind, Outcome, VERSION, Welcome, features, padded,
};

use calls::{Calls, Note, State};
use outlets::Outlets;
use requests::Requests;
use servings::Servings;

use crate::Payload;

/// How long after its deadline a call is ended here, should the broker not have done so.
pub const EXPIRY_GRACE: Duration = Duration::from_secs(1);

/// A serving gives room back at least this often, however large its window is.
const CREDIT_BYTES_MAX: u64 = 32 << 10;

/// Calls that may be open before the broker has said how many.
const CALLS_BEFORE_WELCOME: u32 = 16;

/// The client side of one connection. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Session {
    out: Output,
    stage: Stage,
    greeted_at: u64,
    /// Broker time minus ours, in nanoseconds.
    offset: i128,
    calls: Calls,
    outlets: Outlets,
    servings: Servings,
    requests: Requests,
    /// Messages of queues have been asked for, ever.
    leases: bool,
    late: u64,
}

#[derive(Debug)]
enum Stage {
    Greeting,
    Open(Welcome),
    Over,
}

impl Session {
    /// A session at its beginning, with HELLO in its output. `now` is when that is sent; `program` is
    /// what the program calls itself (the broker keeps 64 bytes of it).
    pub fn new(now: u64, program: &str) -> Self {
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            features: features::ALL,
            program: program.chars().take(64).collect(),
        };
        let header = Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) };
        let mut out = Output::default();
        out.frame(header, &[], &[], &switchboard_protocol::encode(&hello));
        Self {
            out,
            stage: Stage::Greeting,
            greeted_at: now,
            offset: 0,
            calls: Calls::default(),
            outlets: Outlets::default(),
            servings: Servings::default(),
            requests: Requests::default(),
            leases: false,
            late: 0,
        }
    }

    /// What the broker said at the handshake; `None` before it and after the end.
    pub fn welcome(&self) -> Option<&Welcome> {
        match &self.stage {
            Stage::Open(welcome) => Some(welcome),
            Stage::Greeting | Stage::Over => None,
        }
    }

    /// Whether the connection has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// What is to be written. Whoever writes some of it says so there.
    #[inline]
    pub fn output(&mut self) -> &mut Output {
        &mut self.out
    }

    /// Calls that are open or given up and not yet ended by the broker.
    pub fn calls_open(&self) -> usize {
        self.calls.len()
    }

    /// Requests at this client, unanswered.
    pub fn requests_open(&self) -> usize {
        self.requests.len()
    }

    /// Answers to requests that were not open, which were dropped.
    pub fn late_answers(&self) -> u64 {
        self.late
    }

    /// A moment of ours in broker time, never 0; 0 (no deadline) before the handshake is done.
    #[inline]
    pub fn to_broker_time(&self, ours: u64) -> u64 {
        match self.stage {
            Stage::Open(_) if ours != 0 => clamp(i128::from(ours) + self.offset),
            _ => 0,
        }
    }

    /// A moment in broker time in ours, never 0; 0 (no deadline) stays.
    #[inline]
    pub fn to_our_time(&self, broker: u64) -> u64 {
        if broker == 0 { 0 } else { clamp(i128::from(broker) - self.offset) }
    }

    /// Opens a call. Its end will carry `tag`.
    pub fn call(&mut self, tag: u64, spec: &CallSpec<'_>) -> Result<CallId, Refused> {
        self.leases |= spec.leases;
        let note =
            if spec.leases { Note::Leased { handle: spec.handle, closes: false } } else { Note::Nothing };
        self.open_call(tag, spec, note)
    }

    /// A call whose end nobody will ask about.
    pub fn call_quietly(&mut self, spec: &CallSpec<'_>) {
        if let Ok(call) = self.call(0, spec)
            && let Some(slot) = self.calls.get(call)
        {
            slot.state = State::Forgotten;
        }
    }

    /// Gives a message back to the queue that `handle` is on; nobody asks what came of it. No lease
    /// (0) is nothing to be given back.
    pub fn give_back(&mut self, handle: u64, lease: LeaseId) {
        if lease == (LeaseId { low: 0, high: 0 }) {
            return;
        }
        let body = Nack { lease, how: NackHow::Requeue as u8, delay_ns: 0 };
        let payload = switchboard_protocol::encode(&body);
        let method = Method::Number(QueueMethod::Nack as u32);
        self.call_quietly(&CallSpec { handle, method, payload: &payload, ..CallSpec::default() });
    }

    #[inline]
    fn open_call(&mut self, tag: u64, spec: &CallSpec<'_>, note: Note) -> Result<CallId, Refused> {
        let calls_max = match &self.stage {
            Stage::Open(welcome) => welcome.calls_open_max,
            Stage::Greeting => CALLS_BEFORE_WELCOME,
            Stage::Over => return Err(Refused::Over),
        };
        self.check(spec.payload, spec.handles)?;
        let extensions = spec.extensions()?;
        // SPEC 4.2: slots are less than `calls_open_max`; they are taken from the lowest up.
        if self.calls.len() as u64 >= u64::from(calls_max) {
            return Err(Refused::TooManyCalls { calls_open_max: calls_max });
        }
        let call = self.calls.insert(tag, spec.deadline, note);
        let header = Header {
            flags: spec.flags(),
            priority: spec.priority.min(7),
            method: spec.method.number(),
            handle: spec.handle,
            call: call.to_wire(),
            deadline: self.to_broker_time(spec.deadline),
            seq: spec.parent,
            epoch: spec.epoch,
            ..Header::new(Kind::Call)
        };
        if spec.lent {
            self.out.frame_head(header, &extensions, spec.handles, spec.payload.len());
        } else {
            self.out.frame(header, &extensions, spec.handles, spec.payload);
        }
        Ok(call)
    }

    fn check(&self, payload: &[u8], handles: &[HandleEntry]) -> Result<(), Refused> {
        // Before the handshake only the frame's own limit is known; the broker says the rest.
        let max = match &self.stage {
            Stage::Open(welcome) => welcome.payload_bytes_max as usize,
            _ => PAYLOAD_BYTES_MAX,
        };
        if payload.len() > max.min(PAYLOAD_BYTES_MAX) {
            return Err(Refused::TooLarge { bytes: payload.len(), payload_bytes_max: max });
        }
        if handles.len() > usize::from(switchboard_protocol::HANDLES_MAX) {
            return Err(Refused::TooManyHandles { handles: handles.len() });
        }
        Ok(())
    }

    /// Opens a control operation (SPEC 6) other than Serve. What the session has to know of its
    /// answer it takes from it in passing.
    pub fn control<B: Serialize>(
        &mut self,
        tag: u64,
        operation: Operation,
        body: &B,
        deadline: u64,
    ) -> Result<CallId, Refused> {
        let stream = matches!(operation, Operation::Watch | Operation::Monitor | Operation::Subscribe);
        let note = match operation {
            Operation::Open | Operation::Narrow => Note::Opened,
            _ => Note::Nothing,
        };
        let payload = switchboard_protocol::encode(body);
        let spec = CallSpec {
            method: Method::Number(operation as u32),
            deadline,
            stream,
            payload: &payload,
            ..CallSpec::default()
        };
        self.open_call(tag, &spec, note)
    }

    /// Gives a handle back; a serving handle ends the serving (SPEC 6.2, Close).
    pub fn close(&mut self, tag: u64, handle: u64, deadline: u64) -> Result<CallId, Refused> {
        let body = control::OnHandle { handle };
        let payload = switchboard_protocol::encode(&body);
        let spec = CallSpec {
            method: Method::Number(Operation::Close as u32),
            deadline,
            payload: &payload,
            ..CallSpec::default()
        };
        let call = self.open_call(tag, &spec, Note::of_close(&body))?;
        self.outlets.remove(handle);
        Ok(call)
    }

    /// [`Session::close`] of a handle that nobody will ask about again.
    pub fn discard(&mut self, handle: u64) {
        if handle != 0
            && !self.closes_later(handle)
            && let Ok(call) = self.close(0, handle, 0)
            && let Some(slot) = self.calls.get(call)
        {
            slot.state = State::Forgotten;
        }
    }

    /// Whether messages may still come that must go back by this handle; it is closed after them.
    fn closes_later(&mut self, handle: u64) -> bool {
        if !self.leases {
            return false;
        }
        let mut notes = self.calls.iter_mut().map(|(_, slot)| &mut slot.note);
        let awaited = notes.find_map(|note| match note {
            Note::Leased { handle: popped, closes } if *popped == handle => Some(closes),
            Note::Leased { .. }
            | Note::Nothing
            | Note::Opened
            | Note::Served { .. }
            | Note::Closed { .. } => None,
        });
        awaited.map(|closes| *closes = true).is_some()
    }

    /// Asks to serve a name (SPEC 5.1). Requests will carry `serving`.
    pub fn serve(
        &mut self,
        tag: u64,
        serving: u64,
        body: &control::Serve,
        deadline: u64,
    ) -> Result<CallId, Refused> {
        let payload = switchboard_protocol::encode(body);
        let spec = CallSpec {
            method: Method::Number(Operation::Serve as u32),
            deadline,
            payload: &payload,
            ..CallSpec::default()
        };
        let note = Note::Served { serving };
        self.open_call(tag, &spec, note)
    }

    /// Asks the broker to end a call (SPEC 4.10). Its end still comes: `Cancelled`, or what was on
    /// its way.
    pub fn cancel(&mut self, call: CallId) {
        if self.calls.get(call).is_some() && !self.is_over() {
            let header = Header { call: call.to_wire(), ..Header::new(Kind::Cancel) };
            self.out.frame(header, &[], &[], &[]);
        }
    }

    /// Gives a call up: cancelled at the broker, and its end is not told. Handles that come with it
    /// are given back.
    pub fn forget(&mut self, call: CallId) {
        if let Some(slot) = self.calls.get(call)
            && slot.state == State::Open
        {
            slot.state = State::Forgotten;
            self.cancel(call);
        }
    }

    /// [`Session::forget`] of every call whose tag is meant: a scan, for what is rare.
    pub(crate) fn forget_all(&mut self, meant: impl Fn(u64) -> bool) {
        let meant: Vec<CallId> = self
            .calls
            .iter_mut()
            .filter_map(|(call, slot)| (slot.state == State::Open && meant(slot.tag)).then_some(call))
            .collect();
        for call in meant {
            self.forget(call);
        }
    }

    /// Lets a streamed reply send `items` more (SPEC 4.11).
    pub fn grant_items(&mut self, call: CallId, items: u32) {
        if let Some(slot) = self.calls.get(call)
            && slot.state == State::Open
        {
            slot.granted = slot.granted.saturating_add(items.into());
            self.credit(call.to_wire(), 0, items.into());
        }
    }

    fn credit(&mut self, call: u64, handle: u64, seq: u64) {
        if !self.is_over() {
            let header = Header { call, handle, seq, ..Header::new(Kind::Credit) };
            self.out.frame(header, &[], &[], &[]);
        }
    }

    /// Sends one way, if the handle's window has room ([`Refused::NoRoom`]; [`Event::SendRoom`] says
    /// when to try again).
    pub fn send(&mut self, spec: &SendSpec<'_>) -> Result<(), Refused> {
        if self.is_over() {
            return Err(Refused::Over);
        }
        self.check(spec.payload, spec.handles)?;
        let extensions = spec.method.extensions()?;
        let outlet = self.outlets.get(spec.handle).ok_or(Refused::UnknownHandle)?;
        if !outlet.take(spec.frame_bytes(extensions.len())) {
            return Err(Refused::NoRoom);
        }
        let deadline = self.to_broker_time(spec.deadline);
        if spec.lent {
            self.out.frame_head(spec.header(deadline), &extensions, spec.handles, spec.payload.len());
        } else {
            spec::write_send_with(self.out.run(), spec, deadline, &extensions);
        }
        Ok(())
    }

    /// Whether [`Session::send`] would not be refused for want of room; else [`Event::SendRoom`] says when to
    /// ask again.
    pub fn may_fit(&mut self, spec: &SendSpec<'_>) -> bool {
        let Ok(extensions) = spec.method.extensions() else { return true };
        self.outlets.get(spec.handle).is_none_or(|outlet| outlet.fits(spec.frame_bytes(extensions.len())))
    }

    /// Sets room of a handle's window aside for messages written by [`write_send`], at most `bytes`
    /// and at least enough for one message of `first` bytes (padded frame length); 0 is no room.
    pub fn reserve(&mut self, handle: u64, first: u64, bytes: u64) -> Result<u64, Refused> {
        if self.is_over() {
            return Err(Refused::Over);
        }
        let outlet = self.outlets.get(handle).ok_or(Refused::UnknownHandle)?;
        if !outlet.take(first) {
            return Ok(0);
        }
        Ok(first + outlet.take_up_to(bytes.saturating_sub(first)))
    }

    /// Gives back what [`Session::reserve`] gave and was not used.
    pub fn release(&mut self, handle: u64, bytes: u64) {
        if let Some(outlet) = self.outlets.get(handle) {
            outlet.give_back(bytes);
        }
    }

    /// Whether one-way messages on this handle have a known window: handles that were opened or
    /// narrowed have, those that came in a message have not until they are narrowed.
    pub fn has_window(&mut self, handle: u64) -> bool {
        self.outlets.get(handle).is_some()
    }

    /// Ends a request by a reply (SPEC 5.4). `false` if it is not open (any more): late answers are
    /// normal. A payload over the limit becomes `TooLarge`.
    pub fn answer(&mut self, request: RequestId, payload: &[u8], handles: &[HandleEntry]) -> bool {
        if let Err(refused) = self.check(payload, handles) {
            return self.answer_otherwise(request, Outcome::TooLarge, &Failure::new(refused.to_string()));
        }
        if !self.end_request(request) {
            return false;
        }
        let header = Header { call: request.wire, ..Header::new(Kind::Reply) };
        self.out.frame(header, &[], handles, payload);
        true
    }

    /// [`Session::answer`] that takes a large payload out of `payload` instead of copying it.
    #[inline]
    pub fn answer_with(
        &mut self,
        request: RequestId,
        payload: &mut Payload,
        handles: &[HandleEntry],
    ) -> bool {
        if let Err(refused) = self.check(payload, handles) {
            return self.answer_otherwise(request, Outcome::TooLarge, &Failure::new(refused.to_string()));
        }
        if !self.end_request(request) {
            return false;
        }
        let header = Header { call: request.wire, ..Header::new(Kind::Reply) };
        self.out.frame_of(header, handles, payload);
        true
    }

    /// Ends a request by an outcome other than a reply (SPEC 5.5); one that a service may not say
    /// becomes `Failed`. `false` if it is not open (any more).
    pub fn answer_otherwise(&mut self, request: RequestId, outcome: Outcome, failure: &Failure) -> bool {
        if !self.end_request(request) {
            return false;
        }
        let header = Header {
            call: request.wire,
            method: outcome.from_service() as u32,
            ..Header::new(Kind::Outcome)
        };
        let mut body = switchboard_protocol::encode(failure);
        if self.check(&body, &[]).is_err() {
            // A message beyond any reason: say so, rather than break the frame.
            body = switchboard_protocol::encode(&Failure::new("the service's explanation was too large"));
        }
        self.out.frame(header, &[], &[], &body);
        true
    }

    #[inline]
    fn end_request(&mut self, request: RequestId) -> bool {
        let Some(slot) = self.requests.remove(request) else {
            self.late += 1;
            return false;
        };
        if let Some(serving) = self.servings.get(slot.handle) {
            serving.outstanding -= 1;
        }
        !self.is_over()
    }

    /// Whether the caller has its outcome already, and which.
    pub fn is_cancelled(&mut self, request: RequestId) -> Option<Outcome> {
        match self.requests.get(request) {
            Some(slot) => slot.cancelled,
            // The connection it came by is gone, or it is answered.
            None => Some(Outcome::PeerDied),
        }
    }

    /// Sends an item of a streamed reply, if the caller has granted room (SPEC 5.8);
    /// [`Event::RequestRoom`] says when there is more.
    pub fn item(
        &mut self,
        request: RequestId,
        payload: &[u8],
        handles: &[HandleEntry],
    ) -> Result<(), Refused> {
        let header = self.begin_item(request, payload, handles)?;
        self.out.frame(header, &[], handles, payload);
        Ok(())
    }

    /// [`Session::item`] that takes a large payload out of `payload` once it is sent.
    pub fn item_with(
        &mut self,
        request: RequestId,
        payload: &mut Payload,
        handles: &[HandleEntry],
    ) -> Result<(), Refused> {
        let header = self.begin_item(request, payload, handles)?;
        self.out.frame_of(header, handles, payload);
        Ok(())
    }

    fn begin_item(
        &mut self,
        request: RequestId,
        payload: &[u8],
        handles: &[HandleEntry],
    ) -> Result<Header, Refused> {
        if self.is_over() {
            return Err(Refused::Over);
        }
        self.check(payload, handles)?;
        let slot = self.requests.get(request).ok_or(Refused::NotOpen)?;
        if slot.cancelled.is_some() {
            return Err(Refused::NotOpen);
        }
        if slot.items >= slot.granted {
            return Err(Refused::NoRoom);
        }
        slot.items += 1;
        Ok(Header { call: request.wire, seq: slot.items, ..Header::new(Kind::Item) })
    }

    /// One-way messages of so many bytes (padded frame lengths) of a serving were worked off. Gives
    /// them back to the broker a quarter of the window at a time (SPEC 5.3), or 32 KiB if that is
    /// less. Smaller remains are for [`Session::settle_up`].
    pub fn consumed(&mut self, handle: u64, bytes: u64) {
        let Some(serving) = self.servings.get(handle) else { return };
        serving.held = serving.held.saturating_sub(bytes);
        serving.owed += bytes;
        if serving.owed >= CREDIT_BYTES_MAX || serving.owed * 4 >= serving.window {
            let owed = std::mem::take(&mut serving.owed);
            self.credit(0, handle, owed);
        }
    }

    /// Whether a serving has used up bytes that it has not given back.
    pub fn owes(&mut self, handle: u64) -> bool {
        self.servings.get(handle).is_some_and(|serving| serving.owed > 0)
    }

    /// Gives back what a serving has used up, however little. To be called when a serving has been idle
    /// for a moment: a quarter of *its* window may be more than the window of a sender (SPEC 4.9), who
    /// would wait for ever for what is kept here.
    pub fn settle_up(&mut self, handle: u64) {
        if let Some(serving) = self.servings.get(handle) {
            let owed = std::mem::take(&mut serving.owed);
            if owed > 0 {
                self.credit(0, handle, owed);
            }
        }
    }

    /// Ends the calls whose deadline passed more than [`EXPIRY_GRACE`] ago without a word from the
    /// broker, which must have stopped. They are cancelled there, and their tags are returned.
    pub fn expire(&mut self, now: u64) -> Vec<EndedCall> {
        let grace = EXPIRY_GRACE.as_nanos() as u64;
        let mut ended = Vec::new();
        for (call, slot) in self.calls.iter_mut() {
            if slot.state == State::Open && slot.deadline != 0 && slot.deadline.saturating_add(grace) <= now {
                slot.state = State::Forgotten;
                ended.push(EndedCall { tag: slot.tag, call });
            }
        }
        for ended in &ended {
            self.cancel(ended.call);
        }
        ended
    }

    /// When [`Session::expire`] will next have something to do.
    pub fn next_expiry(&mut self) -> Option<u64> {
        let grace = EXPIRY_GRACE.as_nanos() as u64;
        self.calls
            .iter_mut()
            .filter(|(_, slot)| slot.state == State::Open && slot.deadline != 0)
            .map(|(_, slot)| slot.deadline.saturating_add(grace))
            .min()
    }

    /// The connection is over: lost, broken, or after a goodbye. Returns the calls that end by it, as
    /// `PeerDied`. Requests that were at this client need no answer any more.
    pub fn end(&mut self) -> Vec<EndedCall> {
        self.stage = Stage::Over;
        self.out.clear();
        let open: Vec<_> = self
            .calls
            .iter_mut()
            .map(|(call, slot)| (slot.state == State::Open, EndedCall { tag: slot.tag, call }))
            .collect();
        self.requests = Requests::default();
        self.servings = Servings::default();
        self.outlets = Outlets::default();
        for (_, ended) in &open {
            self.calls.remove(ended.call.to_wire());
        }
        open.into_iter().filter_map(|(told, ended)| told.then_some(ended)).collect()
    }

    /// Writes a clean end (SPEC 1.7). Nothing may be written after it.
    pub fn goodbye(&mut self) {
        if !self.is_over() {
            let body = switchboard_protocol::Goodbye { message: String::new() };
            let body = switchboard_protocol::encode(&body);
            self.out.frame(Header::new(Kind::Goodbye), &[], &[], &body);
        }
    }
}

fn clamp(time: i128) -> u64 {
    time.clamp(1, u64::MAX.into()) as u64
}

/// The longest payload that leaves its frame within the protocol's limit, whatever else it carries.
const PAYLOAD_BYTES_MAX: usize = switchboard_protocol::FRAME_BYTES_MAX as usize
    - switchboard_protocol::HEADER_BYTES
    - switchboard_protocol::EXTENSION_BYTES_MAX as usize
    - switchboard_protocol::HANDLES_MAX as usize * switchboard_protocol::HANDLE_ENTRY_BYTES;

/// The padded length of a frame as windows count it.
pub(crate) fn frame_bytes(header: &Header) -> u64 {
    padded(header.len as usize) as u64
}
