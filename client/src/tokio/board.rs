//! A connection to the broker, for tasks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use switchboard_protocol::control::{
    Description, Found, List, Listing, NameChange, NameInfo, OnName, OnPattern, OnPeer, Operation, Status,
};
use switchboard_protocol::{Epoch, ObjectKind, PeerId, Rights};

use super::runner;
use super::stream::Items;
use super::{ServeBuilder, Service, Signal, SubscribeBuilder, Topic};
use crate::driver::{Owner, Shared, Target, after};
use crate::{BoardBuilder, CallError, Change, ConnectError, Context, Handle};

/// A connection to the broker, shared by all its clones; [`crate::Board`] for tasks.
#[derive(Clone)]
pub struct Board {
    pub(crate) shared: Arc<Shared>,
}

/// Changes to names; [`crate::Watch`] for tasks.
pub struct Watch {
    board: Board,
    pattern: String,
    items: Items,
    is_over: bool,
}

impl Board {
    /// Connects to the broker of this user.
    ///
    /// # Errors
    ///
    /// As [`crate::Board::connect`].
    pub async fn connect() -> Result<Self, ConnectError> {
        Self::connect_with(crate::Board::builder()).await
    }

    /// Connects otherwise. A task of the present runtime reads for the board from now on.
    ///
    /// # Errors
    ///
    /// As [`BoardBuilder::connect`].
    ///
    /// # Panics
    ///
    /// Outside a runtime with I/O and time.
    pub async fn connect_with(builder: BoardBuilder) -> Result<Self, ConnectError> {
        // The handshake is a round trip; waiting for it is not this task's time.
        let connected = tokio::task::spawn_blocking(move || builder.connect()).await;
        let board = connected.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        Ok(Self::over(board))
    }

    /// A board that nobody has waited on yet becomes one for tasks.
    #[doc(hidden)]
    pub fn over(board: crate::Board) -> Self {
        runner::start(&board.shared);
        Self { shared: board.shared }
    }

    /// A service by name; see [`crate::Board::service`].
    pub fn service(&self, name: &str) -> Service {
        Service::new(self.blocking().service(name))
    }

    /// The service behind a handle that came in a message.
    pub fn service_of(&self, handle: &Handle) -> Service {
        Service::new(handle.service())
    }

    /// A topic by name; see [`crate::Board::topic`].
    pub fn topic(&self, name: &str) -> Topic {
        Topic::new(self.blocking().topic(name))
    }

    /// Subscribes to the topics whose names match; see [`crate::Board::subscribe`].
    pub fn subscribe(&self, pattern: &str) -> SubscribeBuilder {
        SubscribeBuilder::new(self.blocking().subscribe(pattern))
    }

    /// An event by name; see [`crate::Board::event`].
    pub fn event(&self, name: &str) -> Signal {
        Signal::new(self.blocking().event(name))
    }

    /// A handle with these rights; see [`crate::Board::open`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn open(&self, name: &str, rights: Rights) -> Result<Handle, CallError> {
        let target = Target::named(Arc::clone(&self.shared), name, ObjectKind::Service, rights.0);
        self.shared.until_open(&target, self.shared.default_deadline()).await?;
        Ok(Handle::of(Arc::new(target), rights))
    }

    /// Wants to own a name; see [`crate::Board::serve`].
    pub fn serve(&self, name: &str) -> ServeBuilder {
        ServeBuilder::new(self.blocking().serve(name))
    }

    /// A service without a name; see [`crate::Board::private`].
    pub fn private(&self) -> ServeBuilder {
        ServeBuilder::new(self.blocking().private())
    }

    /// See [`crate::Board::flush`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn flush(&self) -> Result<(), CallError> {
        self.shared
            .operate_raw(Operation::Identify, &OnPeer { peer: 0 }, self.shared.default_deadline())
            .await?;
        self.shared.lock().notices.take_failures()
    }

    /// See [`crate::Board::wait_for`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn wait_for(&self, name: &str, timeout: Option<Duration>) -> Result<Epoch, CallError> {
        let deadline = Context::inherit_deadline(Context::current(), timeout.map_or(0, after));
        let body = OnName { name: name.to_owned() };
        let found: Found = self.shared.operate(Operation::Wait, &body, deadline).await?;
        Ok(Epoch(found.epoch))
    }

    /// The names that match; see [`crate::Board::list`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn list(&self, pattern: &str) -> Result<Vec<NameInfo>, CallError> {
        let mut names = Vec::new();
        let mut after = String::new();
        loop {
            let body = List { pattern: pattern.to_owned(), after: after.clone() };
            let mut listing: Listing = self.operate(Operation::List, &body).await?;
            names.append(&mut listing.names);
            if listing.next <= after {
                return Ok(names);
            }
            after = listing.next;
        }
    }

    /// See [`crate::Board::describe`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn describe(&self, name: &str) -> Result<Description, CallError> {
        self.operate(Operation::Describe, &OnName { name: name.to_owned() }).await
    }

    /// See [`crate::Board::status`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn status(&self) -> Result<Status, CallError> {
        self.operate(Operation::Status, &()).await
    }

    /// See [`crate::Board::watch`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn watch(&self, pattern: &str) -> Result<Watch, CallError> {
        let items = watch(self, pattern).await?;
        Ok(Watch { board: self.clone(), pattern: pattern.to_owned(), items, is_over: false })
    }

    async fn operate<R: serde::de::DeserializeOwned>(
        &self,
        operation: Operation,
        body: &impl serde::Serialize,
    ) -> Result<R, CallError> {
        let deadline = Context::inherit_deadline(Context::current(), self.shared.default_deadline());
        self.shared.operate(operation, body, deadline).await
    }

    /// See [`crate::Board::is_connected`].
    pub fn is_connected(&self) -> bool {
        self.blocking().is_connected()
    }

    /// See [`crate::Board::peer`].
    pub fn peer(&self) -> Option<PeerId> {
        self.blocking().peer()
    }

    /// See [`crate::Board::payload_bytes_max`].
    pub fn payload_bytes_max(&self) -> usize {
        self.blocking().payload_bytes_max()
    }

    /// See [`crate::Board::close`].
    pub fn close(&self) {
        self.blocking().close();
    }

    pub(crate) fn blocking(&self) -> crate::Board {
        crate::Board { shared: Arc::clone(&self.shared) }
    }
}

async fn watch(board: &Board, pattern: &str) -> Result<Items, CallError> {
    let shared = &board.shared;
    shared.until_up(0).await?;
    let mut state = shared.lock();
    let body = OnPattern { pattern: pattern.to_owned() };
    let ticket = state.open_control(Operation::Watch, &body, 0, Owner::Nobody)?;
    Ok(Items::new(shared, state, ticket, 0, 512))
}

impl Watch {
    /// The next change; `None` after the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Change, CallError>> {
        if self.is_over {
            return None;
        }
        let lost = match self.items.next().await {
            Ok(item) => {
                let change = switchboard_protocol::decode::<NameChange>(&item.reply.payload);
                return Some(change.map(Change::from).ok_or_else(|| CallError::malformed("name change")));
            }
            Err(end) => end.err().unwrap_or_else(|| CallError::malformed("stream without an end")),
        };
        if self.board.shared.config.reconnect.enabled
            && self.board.shared.will_be_worth_again(&lost).await
            && let Some(items) = self.again().await
        {
            self.items = items;
            return Some(Ok(Change::Restarted));
        }
        self.is_over = true;
        Some(Err(lost))
    }

    async fn again(&self) -> Option<Items> {
        loop {
            match watch(&self.board, &self.pattern).await {
                Err(error)
                    if !self.board.blocking().is_closed()
                        && self.board.shared.will_be_worth_again(&error).await => {}
                result => return result.ok(),
            }
        }
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.blocking().fmt(f)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}
