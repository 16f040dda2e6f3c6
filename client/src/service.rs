//! A service to be called.

use std::fmt;
use std::sync::Arc;

use crate::driver::Target;
use crate::session::Method;
use crate::{CallBuilder, CallError, Pipeline, Reply};

/// Something that can be called and sent to: a name ([`crate::Board::service`]) or what is behind a
/// [`crate::Handle`]. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    pub(crate) target: Arc<Target>,
}

impl Service {
    /// Calls method 0 with the board's time-out, and waits for the reply.
    ///
    /// Inside a handler the call inherits deadline and priority of the request being served; see
    /// [`crate::Context`].
    ///
    /// # Errors
    ///
    /// [`CallError`]: any outcome of SPEC 4.6 but a reply.
    #[inline]
    pub fn call(&self, payload: impl AsRef<[u8]>) -> Result<Reply, CallError> {
        self.request().payload(payload.as_ref()).call()
    }

    /// Sends one way: delivered at most once, and nothing comes back. Waits for room in the send
    /// window, and in the socket.
    ///
    /// Many small messages are sent faster through [`crate::Board::batch`].
    ///
    /// # Errors
    ///
    /// What is known at once: `Denied`, `Invalid`, `TooLarge`, `DeadlineExceeded` where there was no
    /// room in time. What becomes known later is told by [`crate::Board::flush`] and
    /// [`crate::Board::events`].
    pub fn send(&self, payload: impl AsRef<[u8]>) -> Result<(), CallError> {
        self.request().payload(payload.as_ref()).send()
    }

    /// [`Service::send`] that never waits: `Busy` where there is no room in the send window. (Bytes
    /// that the socket does not take at once go with the next operation of the board.)
    ///
    /// # Errors
    ///
    /// As [`Service::send`]; the first use of a name waits for its handle to be opened.
    pub fn try_send(&self, payload: impl AsRef<[u8]>) -> Result<(), CallError> {
        self.request().payload(payload.as_ref()).try_send()
    }

    /// A call or message with all that can be said about it.
    #[inline]
    pub fn request(&self) -> CallBuilder<'_> {
        CallBuilder::new(self)
    }

    /// [`Service::request`] for a method: by number, or by name.
    #[inline]
    pub fn method<'a>(&'a self, method: impl Into<Method<'a>>) -> CallBuilder<'a> {
        self.request().method(method)
    }

    /// Calls with serde types: postcard on the way out and back.
    ///
    /// ```
    /// # let broker = switchboard_broker::Embedded::start(&switchboard_broker::Options::default())?;
    /// # let board = switchboard::Board::builder().socket(broker.socket()).connect()?;
    /// use serde::{Deserialize, Serialize};
    /// use switchboard::Response;
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Resize { width: u32, height: u32 }
    ///
    /// let _server = board.serve("acme.images").start(|request| {
    ///     let Resize { width, height } = request.typed()?;
    ///     Response::typed(&(u64::from(width) * u64::from(height)))
    /// })?;
    /// let pixels: u64 = board.service("acme.images").call_typed("resize", &Resize { width: 3, height: 4 })?;
    /// assert_eq!(pixels, 12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Service::call`]; `Invalid` if the request cannot be encoded, `Failed` if the reply is not
    /// a `Rep` (whatever it is: decoding is bounded in depth and in length, and never panics).
    pub fn call_typed<'a, Req, Rep>(
        &'a self,
        method: impl Into<Method<'a>>,
        request: &Req,
    ) -> Result<Rep, CallError>
    where
        Req: serde::Serialize + ?Sized,
        Rep: serde::de::DeserializeOwned,
    {
        self.method(method).call_typed(request)
    }

    /// Keeps up to `depth` calls of this service open from one thread, written and read many at a
    /// time.
    ///
    /// # Errors
    ///
    /// As opening the service: `Denied`, `Invalid`, `PeerDied`.
    pub fn pipeline(&self, depth: usize) -> Result<Pipeline, CallError> {
        Pipeline::new(self, depth)
    }

    /// The name, if it was opened by one.
    pub fn name(&self) -> Option<&str> {
        self.target.name()
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("name", &self.name()).field("handle", &self.target.get().0).finish()
    }
}
