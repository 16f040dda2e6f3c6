//! What each event does to those who share a board.

use switchboard_protocol::{
    CRITICAL, Extensions, Failure, GoodbyeReason, Header, Kind, Outcome, extension_type, flags,
};

use super::items::Items;
use super::mailbox::{MailId, Mailbox};
use super::notice::Notice;
use super::serving::Delivery;
use super::state::State;
use super::ticket::{Facts, Owner, RawReply, TicketId};
use super::wait::Awaits;
use crate::CallError;
use crate::session::{Answer, Event, Frame, Inbox, RequestId};

/// How many deliveries a worker takes at once: few enough that they are still in the cache when it
/// looks at them.
const DELIVERIES_MAX: u32 = 64;

impl State {
    /// Takes every whole frame of the inbox and puts that back. `leader` is what the thread that
    /// read it waits for: with enough for it to do, it stops, and [`State::is_paused`].
    pub(crate) fn take_frames(&mut self, mut inbox: Inbox, leader: Awaits) {
        let mut deliveries = 0;
        self.is_paused = false;
        let why = loop {
            // Looked at where it is: a frame is large, and moving it costs as much as all else here.
            let frame = match inbox.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    self.inbox = Some(inbox);
                    return;
                }
                Err(error) => break error.to_string(),
            };
            if is_plain(&frame) && self.take_mail(&frame) {
                continue;
            }
            if frame.header.kind == Kind::Item && self.take_item(&frame) {
                continue;
            }
            let server = match self.session.take_request(&frame) {
                Ok(Some((serving, request))) => {
                    self.deliver(serving, Some(request), frame, leader);
                    Some(serving)
                }
                Ok(None) => match self.session.handle(0, frame) {
                    Ok(Some(Event::Goodbye(farewell))) => {
                        break match farewell.reason {
                            GoodbyeReason::Done => farewell.message,
                            reason => format!("{} ({reason:?})", farewell.message),
                        };
                    }
                    Ok(Some(event)) => {
                        let server =
                            if let Event::Message { serving, .. } = event { Some(serving) } else { None };
                        self.dispatch(event, leader);
                        server
                    }
                    Ok(None) => None,
                    Err(violation) => break violation.to_string(),
                },
                Err(violation) => break violation.to_string(),
            };
            if server.is_some_and(|serving| leader == Awaits::Server(serving)) {
                deliveries += 1;
                if deliveries == DELIVERIES_MAX {
                    self.is_paused = true;
                    self.inbox = Some(inbox);
                    return;
                }
            }
        };
        self.lose(&why);
    }

    /// Ends a call of a pipeline, if it is one, by a short reply.
    #[inline]
    fn take_mail(&mut self, frame: &Frame<'_>) -> bool {
        let tag = self.session.end_plainly(frame.header, |tag| MailId::of_tag(tag).is_some());
        let Some(mail) = tag.and_then(MailId::of_tag) else { return false };
        self.post(mail, |mailbox, call| mailbox.put_short(call, frame.header.epoch, frame.payload()));
        true
    }

    /// Keeps a short item of a stream, if it is one and all is well with it.
    #[inline]
    fn take_item(&mut self, frame: &Frame<'_>) -> bool {
        if !Items::is_short(frame.header) {
            return false;
        }
        let Some(tag) = self.session.pass_item(frame.header) else { return false };
        let connection = self.link.connection;
        self.keep_item(tag, |items| items.push_short(frame.header, &frame.tail(), connection));
        true
    }

    #[inline]
    fn dispatch(&mut self, event: Event<'_>, leader: Awaits) {
        match event {
            Event::Ended { tag, end } => {
                let end = end.map(|Answer { epoch, frame }| self.raw(epoch, frame));
                self.end_ticket(tag, end);
            }
            Event::Request { serving, request, frame } => self.deliver(serving, Some(request), frame, leader),
            Event::Message { serving, frame } if frame.header.flags & flags::BATCH != 0 => {
                self.deliver_batch(serving, frame, leader);
            }
            Event::Message { serving, frame } => self.deliver(serving, None, frame, leader),
            Event::Item { tag, frame } => self.deliver_item(tag, frame),
            Event::RequestCancelled { request, .. } | Event::RequestRoom { request } => {
                self.wake_awaiting(Awaits::Request(request));
            }
            Event::SendRoom { .. } => self.wake_awaiting(Awaits::Room),
            Event::HandleRevoked { handle } => {
                self.wake_awaiting(Awaits::Room);
                self.tell(Notice::HandleRevoked { handle });
            }
            Event::OwnerGained { serving, epoch } => {
                if let Some(server) = self.server(serving) {
                    server.epoch = epoch;
                    server.standby = 0;
                    let name = server.body.name.clone();
                    self.tell(Notice::OwnerGained { name, epoch });
                }
            }
            Event::OwnerReplaced { serving, place } => {
                if let Some(server) = self.server(serving) {
                    server.epoch = 0;
                    server.standby = place;
                    let name = server.body.name.clone();
                    self.tell(Notice::OwnerReplaced { name, place });
                }
            }
            Event::SendFailed { count, tag, error, .. } => {
                self.tell(Notice::SendFailed { count, tag, error });
            }
            Event::ShuttingDown => {
                self.link.is_going_down = true;
                self.tell(Notice::ShuttingDown);
            }
            // A second handshake is a violation, and a goodbye ends the loop above.
            Event::Welcomed(_) | Event::Goodbye(_) => {}
        }
    }

    #[inline]
    fn raw(&self, epoch: u64, frame: Frame<'_>) -> RawReply {
        let handles = frame.handles();
        let facts = says_more(frame.header).then(|| Box::new(Facts::of(&frame)));
        RawReply { epoch, payload: frame.into_payload(), handles, connection: self.link.connection, facts }
    }

    pub(crate) fn server(&mut self, serving: u64) -> Option<&mut super::ServerState> {
        self.servers.get_mut(&serving)
    }

    #[inline]
    pub(super) fn deliver(
        &mut self,
        serving: u64,
        request: Option<RequestId>,
        frame: Frame<'_>,
        leader: Awaits,
    ) {
        let header = frame.header;
        let deadline = self.session.to_our_time(header.deadline);
        let extensions: Box<[u8]> =
            if header.ext_len == 0 { Box::default() } else { frame.tail().extensions.into() };
        if let (Some(request), Some(kind)) = (request, unknown_critical(&extensions)) {
            // SPEC 2.5: who does not know a critical extension must refuse the message.
            let message = format!("the service's library does not know the critical extension {kind:#06x}");
            self.session.answer_otherwise(request, Outcome::Unsupported, &Failure::new(message));
            return;
        }
        let handles = frame.handles();
        let connection = self.link.connection;
        let room = crate::session::frame_bytes(header);
        let delivery = match self.spare.pop() {
            Some(mut delivery) => {
                delivery.header = *header;
                delivery.header.deadline = deadline;
                delivery.room = room;
                delivery.request = request;
                delivery.extensions = extensions;
                delivery.payload = frame.into_payload();
                delivery.handles = handles;
                delivery.connection = connection;
                delivery
            }
            None => {
                let header = Header { deadline, ..*header };
                let payload = frame.into_payload();
                Box::new(Delivery { header, room, request, extensions, payload, handles, connection })
            }
        };
        self.enqueue(serving, delivery, leader);
    }

    /// Hands a delivery to whoever works for this server.
    #[inline]
    pub(super) fn enqueue(&mut self, serving: u64, delivery: Box<Delivery>, leader: Awaits) {
        match self.server(serving) {
            Some(server) if server.end.is_none() => {
                server.queue.push_back(delivery);
                let ours = u64::from(leader == Awaits::Server(serving));
                if server.queue.len() as u64 > ours {
                    self.wake_worker(serving);
                }
            }
            _ => self.abandon(*delivery),
        }
    }

    /// Wakes one follower, or the task, that works for this server.
    #[inline]
    fn wake_worker(&mut self, serving: u64) {
        let awaited = Awaits::Server(serving);
        if let Some(at) = self.followers.iter().position(|follower| follower.awaits == awaited) {
            // Removed, so that the next request wakes another one.
            let follower = self.followers.swap_remove(at);
            self.wakes.push(follower.waiter);
        } else if !self.tasks.is_empty() {
            self.wake_awaiting(awaited);
        }
    }

    /// A delivery that nobody will look at.
    pub(crate) fn abandon(&mut self, delivery: Delivery) {
        if delivery.connection != self.link.connection || !self.link.is_up {
            return;
        }
        for entry in &delivery.handles {
            self.session.discard(entry.handle);
        }
        match delivery.request {
            Some(request) => {
                let failure = Failure::new("the service has stopped serving");
                self.session.answer_otherwise(request, Outcome::Abandoned, &failure);
            }
            None => self.session.consumed(delivery.header.handle, delivery.bytes()),
        }
    }

    /// Ends a request that was cancelled before anybody took it up; `true` if it was.
    #[inline]
    pub(crate) fn drop_if_cancelled(&mut self, delivery: &Delivery) -> bool {
        let Some(request) = delivery.request else { return false };
        if self.session.is_cancelled(request).is_none() {
            return false;
        }
        for entry in &delivery.handles {
            self.session.discard(entry.handle);
        }
        // Only that frees its place (SPEC 5.2); nobody hears it.
        self.session.answer_otherwise(request, Outcome::Abandoned, &Failure::new("it was cancelled"));
        true
    }

    fn deliver_item(&mut self, tag: u64, frame: Frame<'_>) {
        let connection = self.link.connection;
        self.keep_item(tag, |items| items.push(frame, connection));
    }

    #[inline]
    fn keep_item(&mut self, tag: u64, keep: impl FnOnce(&mut Items)) {
        let Some(ticket) = self.tickets.get(TicketId(tag)) else { return };
        keep(&mut ticket.items);
        if matches!(ticket.owner, Owner::Nobody) {
            return;
        }
        match std::mem::replace(&mut ticket.owner, Owner::Nobody) {
            Owner::Thread(waiter) => self.wakes.push(waiter),
            Owner::Task(waker) => self.wakers.push(waker),
            owner => ticket.owner = owner,
        }
    }

    /// The connection is gone. Everything that it carried ends here.
    pub(crate) fn lose(&mut self, why: &str) {
        if !self.link.is_up {
            return;
        }
        self.link.is_up = false;
        self.link.why = why.to_owned();
        // Wakes a thread that still waits in it; that it may be gone already is fine.
        let _ = self.link.stream.shutdown();
        self.output = super::state::Outbound::default();
        self.inbox = None;
        self.is_paused = false;
        let ended = self.session.end();
        self.end_tickets(ended, || CallError::connection_lost(why));
        self.identities.clear();
        self.wills.clear();
        let restores = self.link.reconnects && !self.link.is_closed;
        for server in self.servers.values_mut() {
            // What nobody took up: its callers know already that we are gone.
            server.queue.clear();
            server.handle = 0;
            server.reference = 0;
            server.epoch = 0;
            if !restores && server.end.is_none() {
                server.end = Some(Err(CallError::not_connected(why)));
            }
        }
        self.tell(Notice::Disconnected { why: why.to_owned() });
        self.wake_all();
    }
}

impl Delivery {
    /// What it takes of the serving's window (SPEC 5.3).
    pub(crate) fn bytes(&self) -> u64 {
        self.room
    }
}

/// Whether the header of a reply says more than that it is one.
#[inline]
fn says_more(header: &Header) -> bool {
    header.method != 0 || header.seq | header.deadline | header.caller != 0
}

/// A short reply of nothing but its payload.
#[inline]
fn is_plain(frame: &Frame<'_>) -> bool {
    frame.header.kind == Kind::Reply
        && frame.header.handles == 0
        && !says_more(frame.header)
        && Mailbox::is_short(frame.payload())
}

fn unknown_critical(area: &[u8]) -> Option<u16> {
    if area.is_empty() {
        return None;
    }
    Extensions::parse(area)?
        .map(|extension| extension.kind)
        .find(|&kind| kind & CRITICAL != 0 && kind != extension_type::METHOD_NAME)
}
