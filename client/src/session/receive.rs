//! What frames from the broker do to a session.

use switchboard_protocol::control::{Opened, Served};
use switchboard_protocol::queue::LeaseId;
use switchboard_protocol::{
    Event as Told, Goodbye, GoodbyeReason, Header, Kind, Outcome, VERSION, Welcome, decode, flags,
};

use super::calls::{Note, State};
use super::event::{Answer, Event, Farewell, failure};
use super::{Frame, RequestId, Session, Stage, Violation, frame_bytes};

impl Session {
    /// Takes one frame. `now` only matters for the frame that ends the handshake.
    ///
    /// After an error the connection is over: write what is in the output if possible, close, and
    /// call [`Session::end`].
    #[inline(always)]
    pub fn handle<'a>(&mut self, now: u64, frame: Frame<'a>) -> Result<Option<Event<'a>>, Violation> {
        let kind = frame.header.kind;
        if !matches!(self.stage, Stage::Open(_)) {
            return self.greet(now, &frame);
        }
        match kind {
            Kind::Reply => self.reply(frame),
            Kind::Call => self.request(frame),
            Kind::Send => self.message(frame),
            Kind::Outcome => self.outcome(&frame),
            Kind::Item => self.receive_item(frame),
            Kind::Cancel => Ok(self.cancel_request(&frame)),
            Kind::Credit => Ok(self.take_credit(&frame)),
            Kind::Event => Ok(self.told(&frame)),
            Kind::Goodbye => Ok(Some(self.farewell(&frame))),
            Kind::Hello | Kind::Welcome => Err(Violation::Unexpected(kind)),
        }
    }

    /// Ends a call by a reply of which the session itself learns nothing, and says its tag; `None` for any
    /// other frame, or if the tag is not `meant`: that is for [`Session::handle`].
    #[inline]
    pub(crate) fn end_plainly(&mut self, reply: &Header, meant: impl FnOnce(u64) -> bool) -> Option<u64> {
        if reply.kind != Kind::Reply || reply.handles != 0 || !matches!(self.stage, Stage::Open(_)) {
            return None;
        }
        let slot = self.calls.find(reply.call)?;
        if slot.state != State::Open || !matches!(slot.note, Note::Nothing) || !meant(slot.tag) {
            return None;
        }
        let (_, tag, _) = self.calls.remove(reply.call);
        Some(tag)
    }

    /// Counts an item that is the next one of an open call and within what was granted, and says the
    /// call's tag; `None` for any other frame, which is for [`Session::handle`].
    #[inline]
    pub(crate) fn pass_item(&mut self, item: &Header) -> Option<u64> {
        if item.kind != Kind::Item || item.handles != 0 || !matches!(self.stage, Stage::Open(_)) {
            return None;
        }
        let slot = self.calls.find(item.call)?;
        // SPEC 4.11: 1, 2, 3 …, and no more than were granted.
        if slot.state != State::Open || item.seq != slot.item + 1 || item.seq > slot.granted {
            return None;
        }
        slot.item = item.seq;
        Some(slot.tag)
    }

    #[inline(never)]
    fn greet<'a>(&mut self, now: u64, frame: &Frame<'_>) -> Result<Option<Event<'a>>, Violation> {
        match (frame.header.kind, &self.stage) {
            (Kind::Welcome, Stage::Greeting) => {}
            (Kind::Goodbye, Stage::Greeting) => return Ok(Some(self.farewell(frame))),
            (kind, _) => return Err(Violation::Unexpected(kind)),
        }
        let welcome: Welcome = decode(frame.payload()).ok_or(Violation::Body(Kind::Welcome))?;
        if welcome.version != VERSION {
            return Err(Violation::Version(welcome.version));
        }
        // SPEC 1.6: the broker's clock against the middle of the round trip. Where the broker's moment
        // lies within it, both may well read the same clock, as they do outside of time namespaces; then
        // none is more exact than an estimate, and the round trip was no shorter than its error anyway.
        let (sent, received) = (self.greeted_at, now);
        self.offset = if (sent..=received).contains(&welcome.broker_ns) {
            0
        } else {
            i128::from(welcome.broker_ns) - (i128::from(sent) + i128::from(received)) / 2
        };
        self.stage = Stage::Open(welcome.clone());
        Ok(Some(Event::Welcomed(welcome)))
    }

    #[inline(never)]
    fn farewell<'a>(&mut self, frame: &Frame<'_>) -> Event<'a> {
        let message = decode::<Goodbye>(frame.payload()).map(|goodbye| goodbye.message).unwrap_or_default();
        self.stage = Stage::Over;
        Event::Goodbye(Farewell { reason: GoodbyeReason::from_wire(frame.header.method), message })
    }

    #[inline(never)]
    fn reply<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, Violation> {
        let header = &frame.header;
        if self.calls.find(header.call).is_none() {
            return Err(Violation::UnknownCall { kind: Kind::Reply, call: header.call });
        }
        let (state, tag, note) = self.calls.remove(header.call);
        match note {
            Note::Nothing => {}
            Note::Opened => {
                let opened: Opened = decode(frame.payload()).ok_or(Violation::Body(Kind::Reply))?;
                self.outlets.insert(opened.handle, opened.send_bytes);
                if state == State::Forgotten {
                    self.discard(opened.handle);
                }
            }
            Note::Served { serving } => {
                let served: Served = decode(frame.payload()).ok_or(Violation::Body(Kind::Reply))?;
                self.servings.insert(served.handle, serving, served.calls, served.send_bytes);
                if state == State::Forgotten {
                    self.discard(served.reference);
                    self.discard(served.handle);
                }
            }
            Note::Closed { handle } => self.servings.remove(handle),
            Note::Leased { handle, closes } => {
                if state == State::Forgotten {
                    self.give_back(handle, lease(&frame));
                }
                self.close_if(closes, handle);
            }
        }
        if state == State::Forgotten {
            self.discard_handles(&frame);
            return Ok(None);
        }
        Ok(Some(Event::Ended { tag, end: Ok(Answer { epoch: frame.header.epoch, frame }) }))
    }

    fn close_if(&mut self, closes: bool, handle: u64) {
        if closes {
            self.discard(handle);
        }
    }

    fn discard_handles(&mut self, frame: &Frame<'_>) {
        for entry in frame.handles() {
            self.discard(entry.handle);
        }
    }

    #[inline(never)]
    fn outcome<'a>(&mut self, frame: &Frame<'_>) -> Result<Option<Event<'a>>, Violation> {
        let header = &frame.header;
        if self.calls.find(header.call).is_none() {
            return Err(Violation::UnknownCall { kind: Kind::Outcome, call: header.call });
        }
        let (state, tag, note) = self.calls.remove(header.call);
        if let Note::Leased { handle, closes } = note {
            self.close_if(closes, handle);
        }
        if state == State::Forgotten {
            return Ok(None);
        }
        let outcome = match Outcome::from_wire(header.method) {
            // Only a REPLY frame is one.
            Outcome::Reply => Outcome::Failed,
            outcome => outcome,
        };
        Ok(Some(Event::Ended { tag, end: Err(failure(outcome, frame.payload())) }))
    }

    #[inline(never)]
    fn receive_item<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, Violation> {
        let (call, seq) = (frame.header.call, frame.header.seq);
        let Some(slot) = self.calls.find(call) else {
            return Err(Violation::UnknownCall { kind: Kind::Item, call });
        };
        // SPEC 4.11: 1, 2, 3 …, and no more than were granted.
        if seq != slot.item + 1 || seq > slot.granted {
            return Err(Violation::Item { call, seq });
        }
        slot.item = seq;
        let (tag, state) = (slot.tag, slot.state);
        if state == State::Forgotten {
            if let Note::Leased { handle, .. } = slot.note {
                self.give_back(handle, lease(&frame));
            }
            self.discard_handles(&frame);
            return Ok(None);
        }
        Ok(Some(Event::Item { tag, frame }))
    }

    #[inline(always)]
    fn request<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, Violation> {
        let begun = self.begin_request(&frame)?;
        Ok(begun.map(|(serving, request)| Event::Request { serving, request, frame }))
    }

    /// Takes a request without moving its frame: which serving it is for, and its id. `None` for any other
    /// frame, and for a request that crossed our Close: that is for [`Session::handle`].
    #[inline(always)]
    pub fn take_request(&mut self, frame: &Frame<'_>) -> Result<Option<(u64, RequestId)>, Violation> {
        let is_request = frame.header.kind == Kind::Call
            && matches!(self.stage, Stage::Open(_))
            && self.servings.get(frame.header.handle).is_some();
        if is_request { self.begin_request(frame) } else { Ok(None) }
    }

    #[inline(always)]
    fn begin_request(&mut self, frame: &Frame<'_>) -> Result<Option<(u64, RequestId)>, Violation> {
        let header = frame.header;
        if header.call == 0 {
            return Err(Violation::Request(0));
        }
        let Some(serving) = self.servings.get(header.handle) else {
            // It crossed our Close. Its caller must not wait for us.
            let request = self.requests.insert(header.call, 0);
            self.discard_handles(frame);
            let failure = switchboard_protocol::Failure::new("the service has stopped serving");
            self.answer_otherwise(request, Outcome::Abandoned, &failure);
            return Ok(None);
        };
        if serving.outstanding >= serving.calls {
            return Err(Violation::Request(header.call));
        }
        serving.outstanding += 1;
        let tag = serving.tag;
        Ok(Some((tag, self.requests.insert(header.call, header.handle))))
    }

    #[inline(always)]
    fn message<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Event<'a>>, Violation> {
        let header = &frame.header;
        let Some(serving) = self.servings.get(header.handle) else {
            // It crossed our Close; the broker forgets the window with the serving.
            self.discard_handles(&frame);
            return Ok(None);
        };
        // SPEC 5.3: the window, and one message more when half of it is free.
        if serving.held > serving.window {
            return Err(Violation::Window(header.handle));
        }
        serving.held += frame_bytes(header);
        Ok(Some(Event::Message { serving: serving.tag, frame }))
    }

    #[inline(never)]
    fn cancel_request<'a>(&mut self, frame: &Frame<'_>) -> Option<Event<'a>> {
        // One that is answered already crossed our answer: normal.
        let request = self.requests.find(frame.header.call)?;
        let why = Outcome::from_wire(frame.header.method);
        self.requests.get(request)?.cancelled = Some(why);
        Some(Event::RequestCancelled { request, why })
    }

    #[inline(never)]
    fn take_credit<'a>(&mut self, frame: &Frame<'_>) -> Option<Event<'a>> {
        let header = &frame.header;
        if header.call == 0 {
            let outlet = self.outlets.get(header.handle)?;
            outlet.give_back(header.seq);
            // Any credit may be enough for a small message: whoever waits tries again.
            return (std::mem::take(&mut outlet.wanted)).then_some(Event::SendRoom { handle: header.handle });
        }
        let request = self.requests.find(header.call)?;
        let slot = self.requests.get(request)?;
        slot.granted = slot.granted.saturating_add(header.seq);
        Some(Event::RequestRoom { request })
    }

    #[inline(never)]
    fn told<'a>(&mut self, frame: &Frame<'_>) -> Option<Event<'a>> {
        let header = &frame.header;
        Some(match Told::from_wire(header.method)? {
            Told::HandleRevoked => {
                self.outlets.remove(header.handle);
                Event::HandleRevoked { handle: header.handle }
            }
            Told::OwnerGained => {
                let serving = self.servings.get(header.handle)?.tag;
                Event::OwnerGained { serving, epoch: header.epoch }
            }
            Told::OwnerReplaced => {
                let serving = self.servings.get(header.handle)?.tag;
                Event::OwnerReplaced { serving, place: header.seq }
            }
            Told::SendFailed => Event::SendFailed {
                handle: header.handle,
                count: header.epoch,
                tag: header.call,
                error: failure(outcome_of(header.seq), frame.payload()),
            },
            Told::ShuttingDown => Event::ShuttingDown,
        })
    }

    /// Whether the caller of this request takes a streamed reply (SPEC 2.7).
    pub fn wants_stream(flags_of_request: u8) -> bool {
        flags_of_request & flags::STREAM != 0
    }
}

/// The lease under which a message of a queue came (SPEC 10.7).
fn lease(frame: &Frame<'_>) -> LeaseId {
    LeaseId { low: frame.header.epoch, high: frame.header.caller }
}

fn outcome_of(number: u64) -> Outcome {
    match u32::try_from(number).map_or(Outcome::Failed, Outcome::from_wire) {
        Outcome::Reply => Outcome::Failed,
        outcome => outcome,
    }
}
