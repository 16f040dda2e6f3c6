//! One-way messages that come many in one frame (SPEC 2.9).

use switchboard_protocol::{Parts, flags, part_bytes};

use super::serving::Delivery;
use super::state::State;
use super::wait::Awaits;
use crate::Payload;
use crate::session::{Frame, frame_bytes};

impl State {
    /// Delivers the messages of a batch as if each had come alone; each gives back its share of the
    /// room that the frame took. A server that takes batches apart itself gets it whole.
    pub(crate) fn deliver_batch(&mut self, serving: u64, frame: Frame<'_>, leader: Awaits) {
        let room = frame_bytes(frame.header);
        if Parts::of(frame.payload()).count_whole().is_none() {
            // SPEC 2.9: one that is malformed is dropped.
            self.session.consumed(frame.header.handle, room);
            return;
        }
        if self.server(serving).is_some_and(|server| server.takes_batches) {
            return self.deliver(serving, None, frame, leader);
        }
        let mut header = *frame.header;
        header.flags &= !flags::BATCH;
        header.deadline = self.session.to_our_time(header.deadline);
        let tail = frame.tail();
        // What no message takes goes with the first of them.
        let mut beside = room - tail.payload.len() as u64;
        for part in Parts::of(tail.payload) {
            let mut delivery = self.spare.pop().unwrap_or_else(|| Box::new(Delivery::empty(header)));
            delivery.header = header;
            delivery.room = part_bytes(part.payload.len()) as u64 + std::mem::take(&mut beside);
            delivery.request = None;
            delivery.extensions = tail.extensions.into();
            delivery.payload = Payload::copy_from(part.payload);
            delivery.handles = Vec::new();
            delivery.connection = self.link.connection;
            self.enqueue(serving, delivery, leader);
        }
    }
}
