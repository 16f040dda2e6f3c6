//! One-way messages: delivered at most once, never lost in silence (SPEC 4.8, 4.9, 5.3).

use crate::broker::{Broker, Turn};
use crate::call::no_right_to_call;
use crate::object::Run;
use crate::waiting::Message;
use crate::{Payload, SendTail};
use alloc::string::{String, ToString};
use switchboard_protocol::{
    Epoch, Event, Failure, Header, Kind, ObjectKind, Outcome, Parts, PeerId, Rights, Tail, Verb, encode,
    flags, padded,
};

impl<P: Payload> Broker<P> {
    /// A SEND on a handle.
    #[inline]
    pub(crate) fn send(&mut self, turn: &mut Turn<'_, P>, from: u32, header: &mut Header, tail: &P) {
        self.counters.sends += 1;
        let handle = match self.find_handle(from, header.handle) {
            Ok(handle) => handle,
            Err((outcome, message)) => {
                let messages = messages_in(header, tail);
                self.counters.sends_failed += messages;
                return self.tell_sender(turn, from, header, outcome, &Failure::new(message), messages);
            }
        };
        let bytes = padded(header.len as usize) as u64;
        let grip = &mut self.handles[handle];
        let most = u64::from(grip.send_bytes_max);
        // SPEC 4.9: beyond half the window, a message must fit into the rest of it.
        let fits = grip.uncredited + bytes <= most || grip.uncredited <= most / 2;
        grip.uncredited += bytes;
        let (object, rights) = (grip.object, grip.rights);
        if !fits {
            let why = "the send window of the handle is used up; wait for credit (SPEC 4.9)";
            return self.send_failed(turn, header, tail, Outcome::Busy, why);
        }
        if let Err((outcome, message)) = self.try_send(turn, from, object, rights, header, tail) {
            self.send_failed(turn, header, tail, outcome, &message);
        }
    }

    #[inline(always)]
    fn try_send(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        object: u32,
        rights: Rights,
        header: &mut Header,
        tail: &P,
    ) -> Result<(), (Outcome, String)> {
        if !rights.contains(Verb::Call.right()) {
            return self.send_other(turn, from, object, header, tail);
        }
        self.check_payload(header)?;
        if header.flags & flags::BATCH != 0 && header.handles != 0 {
            return Err(batch_with_handles());
        }
        self.inherit(from, header);
        if header.deadline != 0 && header.deadline <= turn.now.0 {
            return Err(too_late());
        }
        self.check_owner(object, header)?;
        let server = if self.objects[object].waiting_len == 0 {
            let bytes = padded(header.len as usize) as u64;
            self.choose_server(object, Epoch(header.epoch), false, bytes)
        } else {
            None
        };
        match server {
            Some(server) if header.handles == 0 => {
                let peer = self.peer(from);
                let from = peer.id;
                peer.stamp(header);
                self.deliver_send(turn, server, from, header, tail, &[]);
                Ok(())
            }
            server => self.send_with_handles_or_wait(turn, from, object, server, header, tail),
        }
    }

    /// A send that carries handles, or for which no server has room.
    #[inline(never)]
    fn send_with_handles_or_wait(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        object: u32,
        server: Option<u32>,
        header: &mut Header,
        tail: &P,
    ) -> Result<(), (Outcome, String)> {
        if server.is_none() {
            self.check_may_wait(object, Epoch(header.epoch))?;
            self.check_waiting_quota(from, padded(header.len as usize) as u64)?;
        }
        let taken = self.take_handles(turn, from, None, header, tail)?;
        match server {
            Some(server) => {
                let peer = self.peer(from);
                let from = peer.id;
                peer.stamp(header);
                self.deliver_send(turn, server, from, header, tail, &taken);
            }
            None => self.wait_in_line(turn, from, object, Message::Send, *header, tail.clone(), taken),
        }
        Ok(())
    }

    /// A SEND on what is no service (on which no handle has the right `call`), or without the right for one.
    #[cold]
    #[inline(never)]
    fn send_other(
        &mut self,
        turn: &mut Turn<'_, P>,
        from: u32,
        object: u32,
        header: &mut Header,
        tail: &P,
    ) -> Result<(), (Outcome, String)> {
        let handle = self.find_handle(from, header.handle)?;
        self.check_payload(header)?;
        self.inherit(from, header);
        match self.objects[object].kind {
            ObjectKind::Service => Err(no_right_to_call()),
            ObjectKind::Topic => self.publish_send(turn, from, handle, *header, tail.clone()),
            ObjectKind::Queue => Err((
                Outcome::Unsupported,
                "a queue takes no one-way messages: a push is a call, which says whether it was taken (SPEC 10.2)"
                    .to_string(),
            )),
            ObjectKind::Event => self.signal_send(turn, from, handle, *header, tail.clone()),
        }
    }

    /// Gives a send to a server that has room for it. Its header says already who it is from.
    #[inline(always)]
    pub(crate) fn deliver_send(
        &mut self,
        turn: &mut Turn<'_, P>,
        server: u32,
        from: PeerId,
        header: &mut Header,
        tail: &P,
        taken: &[u64],
    ) {
        let bytes = padded(header.len as usize) as u64;
        let messages = messages_in(header, tail);
        let at = &mut self.servers[server];
        at.uncredited += bytes;
        match at.runs.back_mut() {
            Some(run) if run.handle == header.handle => {
                run.bytes += bytes;
                run.messages += messages;
                run.tag = header.call;
            }
            _ => at.runs.push_back(Run { handle: header.handle, bytes, messages, tag: header.call }),
        }
        header.handle = at.handle;
        header.epoch = at.epoch.0;
        header.call = 0;
        header.flags &= flags::BATCH;
        let (to, object) = (at.peer.slot, at.object);
        self.pass_on(turn, from, to, header, tail, taken, object, 0);
    }

    /// CREDIT from a server: it has dealt with so many bytes of sends (SPEC 5.3).
    pub(crate) fn send_credit(&mut self, turn: &mut Turn<'_, P>, from: u32, header: &Header) {
        let Ok(handle) = self.find_handle(from, header.handle) else { return };
        let server = self.handles[handle].server;
        let Some(at) = self.servers.get(server) else { return };
        // More than it has is nonsense, and counts as all.
        let mut left = header.seq.min(at.uncredited);
        let object = at.object;
        self.servers[server].uncredited -= left;
        while 0 < left {
            let run = self.servers[server].runs.front_mut().expect("uncredited bytes are somebody's");
            let part = left.min(run.bytes);
            left -= part;
            run.bytes -= part;
            let (handle, done) = (run.handle, run.bytes == 0);
            if done {
                self.servers[server].runs.pop_front();
            }
            self.give_back(turn, handle, part);
        }
        if self.objects[object].waiting_len != 0 {
            self.dispatch(turn, object);
        }
    }

    /// Gives bytes of the send window back to the holder of a handle, told in quarters of the window.
    /// The server holds back at most a quarter too (SPEC 5.3), so half is always there to be used.
    pub(crate) fn give_back(&mut self, turn: &mut Turn<'_, P>, word: u64, bytes: u64) {
        let Some(handle) = self.handles.find(word) else { return };
        let grip = &mut self.handles[handle];
        let most = u64::from(grip.send_bytes_max);
        grip.uncredited -= bytes;
        grip.returned += bytes;
        if most / 4 <= grip.returned {
            let header = Header { handle: word, seq: grip.returned, ..Header::new(Kind::Credit) };
            grip.returned = 0;
            let holder = grip.holder;
            self.push(turn, holder, header, SendTail::Empty);
        }
    }

    /// A send that was taken from its window is not delivered: its sender is told.
    #[cold]
    pub(crate) fn send_failed(
        &mut self,
        turn: &mut Turn<'_, P>,
        asked: &Header,
        tail: &P,
        outcome: Outcome,
        why: &str,
    ) {
        let messages = messages_in(asked, tail);
        self.tell_send_failed(turn, asked.handle, asked.call, messages, outcome, &Failure::new(why));
        self.give_back(turn, asked.handle, padded(asked.len as usize) as u64);
    }

    pub(crate) fn tell_send_failed(
        &mut self,
        turn: &mut Turn<'_, P>,
        handle: u64,
        tag: u64,
        messages: u64,
        outcome: Outcome,
        failure: &Failure,
    ) {
        self.counters.sends_failed += messages;
        let Some(slot) = self.handles.find(handle) else { return };
        let holder = self.handles[slot].holder;
        let asked = Header { handle, call: tag, ..Header::new(Kind::Send) };
        self.tell_sender(turn, holder, &asked, outcome, failure, messages);
    }

    #[cold]
    fn tell_sender(
        &mut self,
        turn: &mut Turn<'_, P>,
        to: u32,
        asked: &Header,
        outcome: Outcome,
        failure: &Failure,
        messages: u64,
    ) {
        let header = Header {
            method: Event::SendFailed as u32,
            handle: asked.handle,
            call: asked.call,
            seq: u64::from(outcome as u32),
            epoch: messages,
            ..Header::new(Kind::Event)
        };
        self.note_refusal(turn, to, outcome, &failure.message);
        self.push(turn, to, header, SendTail::Own(encode(failure)));
    }
}

/// How many messages a SEND is (SPEC 2.9). One that is no batch although it says so counts once.
#[inline]
pub(crate) fn messages_in<P: Payload>(header: &Header, tail: &P) -> u64 {
    if header.flags & flags::BATCH == 0 { 1 } else { count_batch(header, tail.bytes()) }
}

#[inline(never)]
fn count_batch(header: &Header, tail: &[u8]) -> u64 {
    Parts::of(Tail::of(header, tail).payload).count_whole().map_or(1, u64::from)
}

/// What a sender is told who puts handles beside a batch.
#[cold]
pub(crate) fn batch_with_handles() -> (Outcome, String) {
    (
        Outcome::Invalid,
        "a batch carries no handles: nothing says which message they belong to (SPEC 2.9)".to_string(),
    )
}

/// What a sender is told whose deadline was over before its message came.
#[cold]
fn too_late() -> (Outcome, String) {
    (Outcome::DeadlineExceeded, "the deadline had passed when the message came".to_string())
}
