//! What names there are, and who owns them.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use switchboard_protocol::Epoch;
use switchboard_protocol::control::{
    Description, Found, List, Listing, NameChange, NameInfo, OnName, OnPattern, Operation,
};

use crate::control_stream::ControlStream;
use crate::driver::after;
use crate::{Board, CallError, Context};

/// The names that match a pattern, page by page. Made by [`Board::list`].
///
/// It is not a snapshot: names that come and go while it is read may or may not be seen.
#[derive(Debug)]
pub struct Names {
    board: Board,
    pattern: String,
    page: VecDeque<NameInfo>,
    /// `None` when there are no further pages.
    after: Option<String>,
}

/// Changes to names, as they happen. Made by [`Board::watch`]; dropping it ends the watch.
///
/// It begins with the names that have an owner. Where a reader is so slow that more than 1024 changes
/// wait for it, the watch ends with `Busy` (SPEC 6.3). After a lost connection it goes on with
/// [`Change::Restarted`] and the names once more; without reconnection it ends with `PeerDied`.
pub struct Watch {
    board: Board,
    pattern: String,
    stream: ControlStream,
    is_over: bool,
}

/// What a [`Watch`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// This name has an owner already.
    Present(NameInfo),
    /// All that were there have been told; changes follow. (A change may come before this.)
    SnapshotEnd,
    /// This name has a new, or another, owner.
    Owned(NameInfo),
    /// This name has no owner any more.
    Gone(NameInfo),
    /// The connection was lost and made anew: forget what was told, it all comes again.
    Restarted,
}

impl Board {
    /// The names that match a pattern ([`switchboard_protocol::Pattern`]; `**` is all) and that this
    /// program has any right on, in their order.
    ///
    /// # Errors
    ///
    /// As an item: `Invalid` for a bad pattern, `PeerDied`.
    pub fn list(&self, pattern: &str) -> Names {
        Names {
            board: self.clone(),
            pattern: pattern.to_owned(),
            page: VecDeque::new(),
            after: Some(String::new()),
        }
    }

    /// All about one name.
    ///
    /// # Errors
    ///
    /// `NoOwner` where nothing of that name exists, `Denied` without any right on it, `Invalid` for a
    /// bad name.
    pub fn describe(&self, name: &str) -> Result<Description, CallError> {
        self.operate(Operation::Describe, &OnName { name: name.to_owned() })
    }

    /// Waits until a name has an owner, at most so long (`None`: for ever); its epoch.
    ///
    /// # Errors
    ///
    /// `DeadlineExceeded`, `Denied` without any right on it, `Invalid` for a bad name.
    pub fn wait_for(&self, name: &str, timeout: Option<Duration>) -> Result<Epoch, CallError> {
        let deadline = Context::inherit_deadline(Context::current(), timeout.map_or(0, after));
        let found: Found =
            self.shared.control(Operation::Wait, &OnName { name: name.to_owned() }, deadline)?;
        Ok(Epoch(found.epoch))
    }

    /// The names that match a pattern and have an owner, and then every change, in order.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad pattern, `Busy` beyond the quota of watches; these may also come as the
    /// first item.
    pub fn watch(&self, pattern: &str) -> Result<Watch, CallError> {
        let stream = watch(self, pattern)?;
        Ok(Watch { board: self.clone(), pattern: pattern.to_owned(), stream, is_over: false })
    }
}

fn watch(board: &Board, pattern: &str) -> Result<ControlStream, CallError> {
    ControlStream::open(board, Operation::Watch, &OnPattern { pattern: pattern.to_owned() })
}

impl Iterator for Names {
    type Item = Result<NameInfo, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(info) = self.page.pop_front() {
                return Some(Ok(info));
            }
            let after = self.after.take()?;
            let body = List { pattern: self.pattern.clone(), after: after.clone() };
            let listing: Listing = match self.board.operate(Operation::List, &body) {
                Ok(listing) => listing,
                Err(error) => return Some(Err(error)),
            };
            self.page = listing.names.into();
            // A page that does not lead on would be asked for again without end.
            self.after = (!listing.next.is_empty() && listing.next > after).then_some(listing.next);
        }
    }
}

impl Watch {
    /// The next change, waited for at most so long: `None` when the time is up.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Option<Result<Change, CallError>>> {
        self.fetch(Some(after(timeout)))
    }

    fn fetch(&mut self, until: Option<u64>) -> Option<Option<Result<Change, CallError>>> {
        if self.is_over {
            return Some(None);
        }
        let lost = match self.stream.next::<NameChange>(until)? {
            Ok(change) => return Some(Some(Ok(change.into()))),
            Err(error) => error,
        };
        if self.board.shared.config.reconnect.enabled
            && self.board.shared.is_worth_again(&lost)
            && let Ok(stream) = self.again()
        {
            self.stream = stream;
            return Some(Some(Ok(Change::Restarted)));
        }
        self.is_over = true;
        Some(Some(Err(lost)))
    }

    /// On a new connection, however long that takes.
    fn again(&self) -> Result<ControlStream, CallError> {
        loop {
            match watch(&self.board, &self.pattern) {
                Err(error) if !self.board.is_closed() && self.board.shared.is_worth_again(&error) => {}
                result => return result,
            }
        }
    }
}

impl Iterator for Watch {
    type Item = Result<Change, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fetch(None).flatten()
    }
}

impl From<NameChange> for Change {
    fn from(change: NameChange) -> Self {
        match change.what {
            0 => Self::Present(change.info),
            1 => Self::SnapshotEnd,
            3 => Self::Gone(change.info),
            // 2, and whatever later brokers may tell of a name with an owner.
            _ => Self::Owned(change.info),
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}
