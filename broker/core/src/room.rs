//! Room in queues: what is full, what makes room, and how much a user may have in them (SPEC 10.5).

use crate::broker::Broker;
use crate::control::Refusal;
use crate::message::State;
use crate::record::Place;
use crate::wishes::Load;
use crate::{Limits, Payload};
use alloc::format;
use alloc::vec::Vec;
use switchboard_protocol::queue::Overflow;
use switchboard_protocol::{Instant, Outcome};

/// Messages looked at to find one that can make room, where none is ready.
const DROP_SCAN: usize = 4096;

impl<P: Payload> Broker<P> {
    /// Whether so much fits into an empty queue.
    pub(crate) fn check_bound(&self, queue: u32, load: Load) -> Result<(), Refusal> {
        let Load { count, bytes } = load;
        let settings = &self.queues.table[queue].settings;
        let (name, messages_max, bytes_max) = (&settings.name, settings.messages_max, settings.bytes_max);
        if messages_max < count {
            let message = format!("{count} messages; `{name}` holds {messages_max} (messages_max)");
            return Err((Outcome::TooLarge, message));
        }
        if bytes_max < bytes {
            let message = format!("{bytes} bytes; `{name}` holds {bytes_max} (bytes_max)");
            return Err((Outcome::TooLarge, message));
        }
        Ok(())
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
    pub(crate) fn check_one_of_several(&self, queue: u32, load: Load) -> Result<(), Refusal> {
        self.check_bound(queue, load)?;
        let it = &self.queues.table[queue];
        if !it.is_full(load.count, load.bytes) && it.blocked.is_empty() {
            return Ok(());
        }
        match it.settings.overflow {
            // It does not wait: which of its queues would it wait at?
            Overflow::Reject | Overflow::Block => Err(self.full(queue)),
            Overflow::DropOldest => self.check_can_drop(queue, load),
        }
    }

    /// Whether leased messages leave enough room if all others go.
    pub(crate) fn check_can_drop(&self, queue: u32, load: Load) -> Result<(), Refusal> {
        let Load { count, bytes } = load;
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
    #[inline(always)]
    pub(crate) fn check_queued_quota(&self, user: u32, uid: u32, load: Load) -> Result<(), Refusal> {
        let it = &self.users[user];
        let (queued, bytes) = (u64::from(it.queued) + load.count, it.queued_bytes + load.bytes);
        let Limits { queued_max, queued_bytes_max, .. } = self.limits;
        let queued_max = u64::from(queued_max);
        if bytes <= self.limits.of_user(uid).queued_bytes.min(queued_bytes_max / 2)
            && queued <= queued_max / 2
            && self.queues.messages() + load.count <= queued_max
            && self.queues.bytes + load.bytes <= queued_bytes_max
        {
            return Ok(());
        }
        Err(self.over_quota(user, uid, load))
    }

    /// Which of the conditions of [`Self::check_queued_quota`] does not hold.
    #[cold]
    fn over_quota(&self, user: u32, uid: u32, load: Load) -> Refusal {
        let Load { count, bytes } = load;
        let it = &self.users[user];
        let most = self.limits.of_user(uid).queued_bytes;
        if most < it.queued_bytes + bytes {
            let message = format!(
                "{bytes} bytes more would pass the {most} that your user may have in queues (limits.user.queued_bytes)"
            );
            return (Outcome::Busy, message);
        }
        let most = u64::from(self.limits.queued_max);
        let message = if most < self.queues.messages() + count || most / 2 < u64::from(it.queued) + count {
            format!(
                "of the {most} messages that may be in queues your user has half, or all are there (limits.queued_max)"
            )
        } else {
            let most = self.limits.queued_bytes_max;
            format!(
                "of the {most} bytes that may be in queues your user has half, or all are there (limits.queued_bytes_max)"
            )
        };
        (Outcome::Busy, message)
    }
}
