//! Room in queues: what is full, what makes room, and how much a user may have in them (SPEC 10.5).

use crate::Payload;
use crate::broker::Broker;
use crate::control::Refusal;
use crate::message::State;
use crate::record::Place;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use switchboard_protocol::queue::Overflow;
use switchboard_protocol::{Instant, Outcome};

/// Messages looked at to find one that can make room, where none is ready.
const DROP_SCAN: usize = 4096;

impl<P: Payload> Broker<P> {
    /// Why so much would not fit into an empty queue, if it would not.
    pub(crate) fn bound_of(&self, queue: u32, count: u64, bytes: u64) -> Option<String> {
        let settings = &self.queues.table[queue].settings;
        if settings.messages_max < count {
            return Some(format!(
                "{count} messages; `{}` holds {} (messages_max)",
                settings.name, settings.messages_max
            ));
        }
        (settings.bytes_max < bytes)
            .then(|| format!("{bytes} bytes; `{}` holds {} (bytes_max)", settings.name, settings.bytes_max))
    }

    /// What is said of a full queue.
    pub(crate) fn full(&self, queue: u32) -> Refusal {
        let at = &self.queues.table[queue];
        let settings = &at.settings;
        let (has, most) = (at.all.len(), settings.messages_max);
        let bound = if most <= u64::from(has) { "messages_max" } else { "bytes_max" };
        let message = format!(
            "`{}` is full ({bound}): {has} messages of {most}, {} bytes of {}",
            settings.name, at.bytes, settings.bytes_max
        );
        (Outcome::Busy, message)
    }

    /// Of a push to several queues, each must have room now.
    pub(crate) fn check_one_of_several(&self, queue: u32, count: u64, bytes: u64) -> Result<(), Refusal> {
        if let Some(why) = self.bound_of(queue, count, bytes) {
            return Err((Outcome::TooLarge, why));
        }
        let it = &self.queues.table[queue];
        if !it.is_full(count, bytes) && it.blocked.is_empty() {
            return Ok(());
        }
        match it.settings.overflow {
            // It does not wait: which of its queues would it wait at?
            Overflow::Reject | Overflow::Block => Err(self.full(queue)),
            Overflow::DropOldest => self.check_can_drop(queue, count, bytes),
        }
    }

    /// Whether leased messages leave enough room if all others go.
    pub(crate) fn check_can_drop(&self, queue: u32, count: u64, bytes: u64) -> Result<(), Refusal> {
        let at = &self.queues.table[queue];
        let leased = u64::from(at.states[State::Leased as usize]);
        let fits =
            leased + count <= at.settings.messages_max && at.leased_bytes + bytes <= at.settings.bytes_max;
        if fits && self.droppable(queue).is_some() { Ok(()) } else { Err(self.full(queue)) }
    }

    /// The message that makes room: of those that are ready the oldest of the least priority, else the
    /// oldest that is not leased.
    fn droppable(&self, queue: u32) -> Option<u32> {
        let at = &self.queues.table[queue];
        let listed = match at.ready_bits {
            0 => None,
            bits => at.ready[bits.trailing_zeros() as usize].first(),
        };
        let returned = at.returned.last_key_value().map(|(&(level, _), _)| level);
        let returned = returned.and_then(|level| at.returned.range((level, 0)..).next());
        let rank = |&message: &u32| {
            let it = &self.queues.messages[message];
            (it.priority(), it.position)
        };
        let ready = listed.into_iter().chain(returned.map(|(_, &message)| message)).min_by_key(rank);
        ready.or_else(|| {
            let mut next = at.all.first();
            let all = core::iter::from_fn(|| {
                let message = next?;
                next = self.queues.messages[message].by_queue.next();
                Some(message)
            });
            all.take(DROP_SCAN).find(|&message| self.queues.messages[message].state != State::Leased)
        })
    }

    pub(crate) fn drop_oldest(&mut self, now: Instant, queue: u32, gone: &mut Vec<Place>) {
        let message = self.droppable(queue).expect("what is not leased can make room");
        let at = &mut self.queues.table[queue];
        at.counts.dropped += 1;
        if at.is_logged() {
            gone.push(Place { queue: at.id, position: self.queues.messages[message].position });
        }
        self.remove_message(now, message);
    }

    /// Whether a user may have so much more in queues.
    pub(crate) fn check_queued_quota(
        &self,
        user: u32,
        uid: u32,
        count: u64,
        bytes: u64,
    ) -> Result<(), Refusal> {
        let it = &self.users[user];
        let busy = |message: String| Err((Outcome::Busy, message));
        let most = self.limits.of_user(uid).queued_bytes;
        if most < it.queued_bytes + bytes {
            return busy(format!(
                "{bytes} bytes more would pass the {most} that your user may have in queues (limits.user.queued_bytes)"
            ));
        }
        let most = u64::from(self.limits.queued_max);
        if most < self.queues.messages() + count || most / 2 < u64::from(it.queued) + count {
            return busy(format!(
                "of the {most} messages that may be in queues your user has half, or all are there (limits.queued_max)"
            ));
        }
        let most = self.limits.queued_bytes_max;
        if most < self.queues.bytes + bytes || most / 2 < it.queued_bytes + bytes {
            return busy(format!(
                "of the {most} bytes that may be in queues your user has half, or all are there (limits.queued_bytes_max)"
            ));
        }
        Ok(())
    }
}
