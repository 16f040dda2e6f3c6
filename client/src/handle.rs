//! Handles that travel: references to services, with rights (SPEC 3, 5.7).

use std::fmt;
use std::sync::Arc;

use switchboard_protocol::control::{self, Operation};
use switchboard_protocol::{HandleEntry, Rights, handle_flags};

use crate::driver::{Shared, Target};
use crate::{CallError, Service};

/// A hold on a service, with rights: opened with [`crate::Board::open`], received in a message, or the
/// reference of a private service.
///
/// Given back to the broker when the last clone, and the last [`Service`] made of it, is dropped. It is
/// good on one connection only: after a reconnect it answers `HandleRevoked`, unless it was opened by
/// name.
#[derive(Clone)]
pub struct Handle {
    pub(crate) target: Arc<Target>,
    rights: Rights,
}

/// A handle on its way into a message: which, with what rights, for how long.
///
/// Made by [`Handle::pass`]; it takes the right `delegate` on the handle.
#[derive(Clone)]
pub struct Pass {
    handle: Handle,
    rights: Rights,
    flags: u32,
}

impl Handle {
    pub(crate) fn held(board: &Arc<Shared>, handle: u64, rights: Rights, connection: u64) -> Self {
        Self { target: Arc::new(Target::held(Arc::clone(board), handle, rights.0, connection)), rights }
    }

    pub(crate) fn of(target: Arc<Target>, rights: Rights) -> Self {
        Self { target, rights }
    }

    /// Those of a message. One that was lost on the way (revoked or refused) is left out.
    pub(crate) fn received(board: &Arc<Shared>, entries: &[HandleEntry], connection: u64) -> Vec<Self> {
        entries
            .iter()
            .filter(|entry| entry.handle != 0)
            .map(|entry| Self::held(board, entry.handle, entry.rights, connection))
            .collect()
    }

    /// What may be done with it.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// The number by which the broker knows it on this connection (SPEC 3.1).
    pub fn to_wire(&self) -> u64 {
        self.target.get().0
    }

    /// The service behind it, to be called (with the right `call`).
    pub fn service(&self) -> Service {
        Service { target: Arc::clone(&self.target) }
    }

    /// A second handle with fewer rights (SPEC 6.2, Narrow).
    ///
    /// # Errors
    ///
    /// `Denied` where `rights` is not a subset of this one's.
    pub fn narrow(&self, rights: Rights) -> Result<Self, CallError> {
        let board = &self.target.board;
        let deadline = board.default_deadline();
        let (mut state, handle) = board.handle_of(board.lock(), &self.target, deadline)?;
        let body = control::Narrow { handle, rights: rights.0 };
        let ticket = state.open_control(Operation::Narrow, &body, deadline, crate::driver::Owner::Nobody)?;
        let (state, end) = board.finish(state, ticket, deadline);
        board.release(state);
        let reply = end?;
        let opened: control::Opened = crate::driver::decode_reply(Operation::Narrow, &reply)?;
        Ok(Self::held(board, opened.handle, Rights(opened.rights), reply.connection))
    }

    /// Revokes everything that was passed on from it, by anyone (SPEC 6.2, Revoke). It itself stays.
    ///
    /// # Errors
    ///
    /// `Denied` for whoever is not the root of it: who opened it, or serves the private service.
    pub fn revoke(&self) -> Result<(), CallError> {
        let board = &self.target.board;
        let deadline = board.default_deadline();
        let (mut state, handle) = board.handle_of(board.lock(), &self.target, deadline)?;
        let body = control::OnHandle { handle };
        let ticket = state.open_control(Operation::Revoke, &body, deadline, crate::driver::Owner::Nobody)?;
        let (state, end) = board.finish(state, ticket, deadline);
        board.release(state);
        end.map(drop)
    }

    /// Puts it into a message: the receiver gets `rights` of it, a subset of these.
    pub fn pass(&self, rights: Rights) -> Pass {
        Pass { handle: self.clone(), rights, flags: 0 }
    }
}

impl Pass {
    /// It survives the disconnect of who granted it at the root.
    pub fn persistent(mut self) -> Self {
        self.flags |= handle_flags::PERSISTENT;
        self
    }

    /// It dies when the call that carries it ends.
    pub fn call_scoped(mut self) -> Self {
        self.flags |= handle_flags::CALL_SCOPED;
        self
    }

    /// As it travels, and the connection it is good on.
    pub(crate) fn entry(&self) -> (HandleEntry, u64) {
        let (handle, connection) = self.handle.target.get();
        (HandleEntry { handle, rights: self.rights, flags: self.flags }, connection)
    }

    /// Those of one message. They must all be of one connection; if they are not, the connection
    /// given is none, and the message is refused.
    pub(crate) fn entries(passes: &[Self]) -> (Vec<HandleEntry>, u64) {
        let mut of = 0;
        let mut entries = Vec::with_capacity(passes.len());
        for pass in passes {
            let (entry, connection) = pass.entry();
            entries.push(entry);
            of = if of == 0 || of == connection { connection } else { u64::MAX };
        }
        (entries, of)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("handle", &self.to_wire()).field("rights", &self.rights).finish()
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("handle", &self.handle).field("rights", &self.rights).finish()
    }
}
