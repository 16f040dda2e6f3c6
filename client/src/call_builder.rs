//! A call or a message with all that can be said about it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard_protocol::{Epoch, HandleEntry};

use crate::codec;
use crate::driver::{CallParams, Target, after};
use crate::session::Method;
use crate::{CallError, Context, Pass, Pending, Reply, ReplyStream, Service};

/// What is to be asked of a service; made by [`Service::request`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
/// # let socket = broker.socket();
/// # let other = switchboard::Board::builder().socket(socket).connect()?;
/// # let _images = other.serve("acme.images").start(|request| Ok(request.method().to_string()))?;
/// # let board = switchboard::Board::builder().socket(socket).connect()?;
/// use std::time::Duration;
///
/// let images = board.service("acme.images");
/// let reply = images
///     .request()
///     .method("resize")
///     .timeout(Duration::from_millis(200))
///     .priority(3)
///     .payload(b"...")
///     .call()?;
/// # assert_eq!(&reply[..], b"resize");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `call`, `start`, `stream` or `send`"]
pub struct CallBuilder<'a> {
    service: &'a Service,
    method: Method<'a>,
    payload: &'a [u8],
    timeout: Timeout,
    priority: u8,
    epoch: u64,
    idempotent: bool,
    no_wait: bool,
    tag: u64,
    traceparent: Option<&'a str>,
    passes: Vec<Pass>,
}

#[derive(Clone, Copy, Debug)]
enum Timeout {
    Default,
    None,
    After(Duration),
    At(Instant),
}

impl<'a> CallBuilder<'a> {
    #[inline]
    pub(crate) fn new(service: &'a Service) -> Self {
        Self {
            service,
            method: Method::Number(0),
            payload: &[],
            timeout: Timeout::Default,
            priority: 0,
            epoch: 0,
            idempotent: false,
            no_wait: false,
            tag: 0,
            traceparent: None,
            passes: Vec::new(),
        }
    }

    /// Which method of the service: by number (0 unless told), or by name (at most 1024 bytes).
    #[inline]
    pub fn method(mut self, method: impl Into<Method<'a>>) -> Self {
        self.method = method.into();
        self
    }

    /// The bytes. At most [`crate::Board::payload_bytes_max`], else `TooLarge`.
    #[inline]
    pub fn payload(mut self, payload: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.payload = payload.as_ref();
        self
    }

    /// The deadline, from the moment it is sent. Default: the board's. The broker ends the call when
    /// it has passed (SPEC 4.3).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Timeout::After(timeout);
        self
    }

    /// The deadline as a moment.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.timeout = Timeout::At(deadline);
        self
    }

    /// No deadline of its own. (One that is inherited holds.)
    pub fn no_timeout(mut self) -> Self {
        self.timeout = Timeout::None;
        self
    }

    /// 0 (least, the default) to 7. Policy caps it (usually at 4), in silence.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority.min(7);
        self
    }

    /// Only the owner of this epoch may answer, else `OwnerChanged` (SPEC 3.5).
    pub fn expect_epoch(mut self, epoch: Epoch) -> Self {
        self.epoch = epoch.0;
        self
    }

    /// The service does the same work again without harm: [`CallBuilder::call`] makes the call once
    /// more should it end with `PeerDied`, or the broker go down and come back.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// `Busy` at once where the service has no room, rather than wait for it (SPEC 2.7).
    pub fn no_wait(mut self) -> Self {
        self.no_wait = true;
        self
    }

    /// Passes a handle along; at most 16. [`crate::Request::handles`] is where it arrives.
    pub fn handle(mut self, pass: Pass) -> Self {
        self.passes.push(pass);
        self
    }

    /// Passes handles along; at most 16 in all.
    pub fn handles(mut self, passes: impl IntoIterator<Item = Pass>) -> Self {
        self.passes.extend(passes);
        self
    }

    /// W3C trace context, passed on untouched.
    pub fn traceparent(mut self, traceparent: &'a str) -> Self {
        self.traceparent = Some(traceparent);
        self
    }

    /// A number that comes back in [`crate::Notice::SendFailed`], should a one-way message not be
    /// delivered.
    pub fn tag(mut self, tag: u64) -> Self {
        self.tag = tag;
        self
    }

    /// Calls, and waits for the reply.
    ///
    /// # Errors
    ///
    /// Any outcome of SPEC 4.6 but a reply.
    #[inline]
    pub fn call(self) -> Result<Reply, CallError> {
        let (entries, connection) = self.entries();
        let params = self.params(false, &entries, connection);
        let shared = &self.service.target.board;
        let end = match shared.call(&self.service.target, &params, self.payload) {
            Err(error) if self.idempotent && shared.is_worth_again(&error) => {
                shared.call(&self.service.target, &params, self.payload)
            }
            end => end,
        };
        Ok(Reply::of(shared, end?))
    }

    /// [`Service::call_typed`], with all that was said here. The payload is the request.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn call_typed<Req, Rep>(self, request: &Req) -> Result<Rep, CallError>
    where
        Req: serde::Serialize + ?Sized,
        Rep: serde::de::DeserializeOwned,
    {
        let payload = codec::to_vec(request).map_err(codec::not_encoded)?;
        let reply = CallBuilder { payload: &payload, ..self }.call()?;
        codec::from_slice(&reply).map_err(codec::not_expected)
    }

    /// Calls, and does not wait: see [`Pending`]. (Where the name is used for the first time, waits
    /// until it is opened.)
    ///
    /// # Errors
    ///
    /// What is known at once; the rest comes with the end of the call.
    pub fn start(self) -> Result<Pending, CallError> {
        let (entries, connection) = self.entries();
        let params = self.params(false, &entries, connection);
        let shared = &self.service.target.board;
        let ticket = shared.start(&self.service.target, &params, self.payload)?;
        Ok(Pending::new(shared, ticket, params.deadline))
    }

    /// Calls for a streamed reply (SPEC 4.11).
    ///
    /// # Errors
    ///
    /// What is known at once; the rest comes with the end of the stream.
    pub fn stream(self) -> Result<ReplyStream, CallError> {
        let (entries, connection) = self.entries();
        let params = self.params(true, &entries, connection);
        let shared = &self.service.target.board;
        let ticket = shared.start(&self.service.target, &params, self.payload)?;
        Ok(ReplyStream::new(shared, ticket, params.deadline))
    }

    /// Sends one way; see [`Service::send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send(self) -> Result<(), CallError> {
        self.send_now(true)
    }

    /// Sends one way and never waits; see [`Service::try_send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send(self) -> Result<(), CallError> {
        self.send_now(false)
    }

    fn send_now(self, waits: bool) -> Result<(), CallError> {
        let (entries, connection) = self.entries();
        let params = self.params(false, &entries, connection);
        self.service.target.board.send(&self.service.target, &params, self.tag, self.payload, waits)
    }

    #[inline]
    pub(crate) fn entries(&self) -> (Vec<HandleEntry>, u64) {
        if self.passes.is_empty() { (Vec::new(), 0) } else { Pass::entries(&self.passes) }
    }

    /// With what is inherited (SPEC 4.4).
    #[inline]
    pub(crate) fn params<'b>(
        &'b self,
        stream: bool,
        handles: &'b [HandleEntry],
        handles_connection: u64,
    ) -> CallParams<'b> {
        let context = Context::current();
        let own = match self.timeout {
            Timeout::Default => self.service.target.board.default_deadline(),
            Timeout::None => 0,
            Timeout::After(timeout) => after(timeout),
            Timeout::At(moment) => after(moment.saturating_duration_since(Instant::now())),
        };
        CallParams {
            method: match &self.method {
                Method::Number(number) => Method::Number(*number),
                Method::Name(name) => Method::Name(std::borrow::Cow::Borrowed(name)),
            },
            deadline: Context::inherit_deadline(context, own),
            priority: context.map_or(self.priority, |context| context.priority.max(self.priority)),
            stream,
            no_wait: self.no_wait,
            parent: context.map(|context| (context.request, context.connection)),
            epoch: self.epoch,
            traceparent: self.traceparent,
            extensions: &[],
            batch: false,
            leases: false,
            handles,
            handles_connection,
        }
    }

    #[inline]
    pub(crate) fn payload_bytes(&self) -> &'a [u8] {
        self.payload
    }

    /// Whether nothing is said of when it is to end.
    pub(crate) fn has_default_timeout(&self) -> bool {
        matches!(self.timeout, Timeout::Default)
    }

    pub(crate) fn target(&self) -> &'a Arc<Target> {
        &self.service.target
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn parts(&self) -> (&'a Service, &'a [u8], bool, u64) {
        (self.service, self.payload, self.idempotent, self.tag)
    }
}
