//! A request, as a task serves it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use switchboard_protocol::control::{OnPeer, Opened, Operation, PeerInfo};
use switchboard_protocol::{Outcome, Rights};

use crate::driver::Awaits;
use crate::{CallError, Context, Handle, ItemError, Response};

/// [`crate::Request`] for tasks: what it can, and what waits is awaited. What its handler's future
/// gives is the answer.
///
/// Of the methods that it shows of [`crate::Request`], do not use those that block.
#[derive(Debug)]
pub struct Request(pub(crate) crate::Request);

impl Deref for Request {
    type Target = crate::Request;
    fn deref(&self) -> &crate::Request {
        &self.0
    }
}

impl DerefMut for Request {
    fn deref_mut(&mut self) -> &mut crate::Request {
        &mut self.0
    }
}

impl Request {
    /// Sends an item of a streamed reply, once the caller takes it.
    ///
    /// # Errors
    ///
    /// As [`crate::Request::send_item`].
    pub async fn send_item(&self, item: impl Into<Response>) -> Result<(), ItemError> {
        let mut item = item.into();
        let request = self.0.request_id().ok_or(ItemError::NotStreamed)?;
        self.0
            .shared()
            .until(Awaits::Request(request), |state| match self.0.item_now(state, &mut item) {
                Err(ItemError::NoRoom) => None,
                sent => Some(sent),
            })
            .await
    }

    /// Waits until the caller has its outcome already, and says which: what is done for it from then
    /// on is done for nobody. Never for a one-way message.
    pub async fn until_cancelled(&self) -> Outcome {
        match self.0.request_id() {
            None => std::future::pending().await,
            Some(request) => {
                self.0.shared().until(Awaits::Request(request), |state| self.0.cancelled_now(state)).await
            }
        }
    }

    /// Who calls; see [`crate::Request::identity`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn identity(&self) -> Result<Arc<PeerInfo>, CallError> {
        let shared = self.0.shared();
        let peer = self.0.peer().to_wire();
        if let Some(known) = shared.lock().identities.get(&peer) {
            return Ok(Arc::clone(known));
        }
        let info: PeerInfo = shared.operate(Operation::Identify, &OnPeer { peer }, self.deadline()).await?;
        Ok(shared.lock().remember(info))
    }

    /// A handle by the caller's right; see [`crate::Request::open_as`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn open_as(&self, name: &str, rights: Rights) -> Result<Handle, CallError> {
        let shared = self.0.shared();
        let body = self.0.open_as_body(name, rights);
        let reply = shared.operate_raw(Operation::Open, &body, self.deadline()).await?;
        let opened: Opened = crate::driver::decode_reply(Operation::Open, &reply)?;
        Ok(self.0.board().opened_handle(&opened, reply.connection))
    }

    fn deadline(&self) -> u64 {
        Context::inherit_deadline(Some(self.0.context()), self.0.shared().default_deadline())
    }
}
