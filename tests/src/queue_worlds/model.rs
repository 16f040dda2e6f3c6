//! What is known of every message that was pushed, from what the clients of a world were told.

use std::collections::BTreeMap;

/// Whether a message is in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// The push was not answered yet.
    Asked,
    /// It is there.
    Surely,
    /// It may be there: a crash, a loss or a drop came in between.
    Perhaps,
    /// It is not there, and never will be again.
    Gone,
}

/// One message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// Which queue it was pushed to.
    pub(super) queue: usize,
    /// Whether it has become a dead letter of that queue; `None` if that is not known.
    pub(super) dead: bool,
    /// Whether its queue drops messages for want of room.
    pub(super) droppable: bool,
    pub(super) presence: Presence,
    pub(super) position: u64,
    pub(super) priority: u8,
    pub(super) group: Option<u8>,
    /// Wall time at which it expires; `u64::MAX` for never.
    pub(super) expires: u64,
    /// Wall time before which it is not delivered.
    pub(super) not_before: u64,
    /// Deliveries that were seen and count.
    pub(super) deliveries: u32,
    /// Deliveries that were seen, also those that do not count.
    pub(super) seen: u32,
    /// Whether the broker may remember fewer: it crashed since.
    pub(super) forgetful: bool,
    /// Who has it, until when (monotonic) at least.
    pub(super) lease: Option<Lease>,
    /// The atomic push that it was part of.
    pub(super) push: u64,
    /// Whether it was given back with a delay, and that was not answered.
    pub(super) nacking: bool,
    /// Whether an ack of it was sent that was not answered.
    pub(super) acking: bool,
}

/// A lease that was given out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) id: (u64, u64),
    /// Until when nobody else may get the message.
    pub(super) until: u64,
    /// Whether it ends with its holder's connection, and the holder.
    pub(super) attached: Option<usize>,
    /// How long it lasts when that connection is lost.
    pub(super) grace: u64,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) messages: BTreeMap<u64, Message>,
}

/// A way in which a promise was broken.
pub(super) type Checked<T = ()> = Result<T, String>;

impl Model {
    /// A message came out of a queue: whether it may.
    #[expect(clippy::too_many_arguments, reason = "a delivery is all of this")]
    pub(super) fn delivered(
        &mut self,
        id: u64,
        queue: usize,
        dead: bool,
        position: u64,
        priority: u8,
        deliveries: u32,
        (now, wall, settled, latest): (u64, u64, u64, u64),
        deliveries_max: u32,
    ) -> Checked {
        let Some(it) = self.messages.get(&id).cloned() else {
            return Err(format!("message {id} was never pushed"));
        };
        let what =
            format!("message {id} ({it:?}) came from queue {queue}{}", if dead { ".dead" } else { "" });
        if it.queue != queue {
            return Err(format!("{what}, to which it was not pushed"));
        }
        if it.presence == Presence::Gone {
            return Err(format!("{what} although it was consumed"));
        }
        // Dead letters wait for somebody to look at them, for as long as it takes.
        if !dead && it.expires <= wall {
            return Err(format!("{what} after it had expired"));
        }
        // Over once is over, also when the clock is set back.
        if latest < it.not_before {
            return Err(format!("{what} before its delay was over"));
        }
        if it.priority != priority {
            return Err(format!("{what} with priority {priority}"));
        }
        if let Some(lease) = it.lease
            && now < lease.until
        {
            return Err(format!("{what} while somebody has it until {}", lease.until));
        }
        if dead != it.dead {
            // The last of its deliveries ended without an answer, or it came back from the dead.
            let may =
                dead && deliveries_max <= it.deliveries || it.presence == Presence::Perhaps || it.forgetful;
            if !may {
                return Err(format!(
                    "{what}, but is {}dead by what is known",
                    if it.dead { "" } else { "not " }
                ));
            }
        } else if !dead && !it.forgetful && it.presence != Presence::Perhaps {
            if deliveries != it.deliveries + 1 {
                return Err(format!("{what} as delivery {deliveries}, after {}", it.deliveries));
            }
            if it.position != 0 && it.position != position {
                return Err(format!("{what} at position {position}"));
            }
        }
        if it.forgetful && it.seen + 1 < deliveries {
            return Err(format!("{what} as delivery {deliveries}, after {} at most", it.seen));
        }
        if !dead {
            for (other, x) in &self.messages {
                let before = (priority, position) < (x.priority, 0)
                    || x.priority == priority && x.position < position && x.position != 0;
                if *other != id
                    && before
                    && x.queue == queue
                    && !x.dead
                    && x.seen < deliveries_max
                    && self.is_ready(x, now, settled, latest)
                {
                    return Err(format!("{what} at {position}, but message {other} ({x:?}) goes first"));
                }
                let holds =
                    x.group.is_some() && x.group == it.group && x.queue == queue && *other != id && !x.dead;
                if holds
                    && !x.acking
                    && x.lease.is_some_and(|lease| lease.id != (0, 0) && now < lease.until)
                    && x.presence == Presence::Surely
                {
                    return Err(format!("{what}, but message {other} of its group is leased"));
                }
            }
        }
        if it.presence != Presence::Surely {
            // All of a push happens or nothing: the others are there too, unless they went since.
            for x in self.messages.values_mut() {
                if x.push == it.push && x.presence == Presence::Asked {
                    x.presence = Presence::Perhaps;
                }
            }
        }
        let it = self.messages.get_mut(&id).expect("a known message");
        if it.presence == Presence::Perhaps {
            it.presence = Presence::Surely;
            it.forgetful = false;
        }
        it.dead = dead;
        it.position = position;
        it.deliveries = deliveries;
        it.seen += 1;
        Ok(())
    }

    /// Whether a message would surely be delivered next to whoever asks, by what was settled at the last
    /// wake at the latest.
    fn is_ready(&self, x: &Message, now: u64, settled: u64, latest: u64) -> bool {
        let first_of_group = || {
            self.messages.values().all(|y| {
                y.group != x.group
                    || y.queue != x.queue
                    || y.presence == Presence::Gone
                    || y.position == x.position
                    || (x.position < y.position && y.position != 0)
            })
        };
        x.presence == Presence::Surely
            && !x.droppable
            && x.position != 0
            && !x.acking
            && x.lease.is_none()
            && latest < x.expires
            && x.not_before <= settled
            && now != 0
            && (x.group.is_none() || first_of_group())
    }

    /// Everything that a message in a queue of this level still is after the broker ended.
    pub(super) fn crashed(&mut self, survives: impl Fn(usize) -> Survival) {
        for it in self.messages.values_mut() {
            it.lease = None;
            it.forgetful = true;
            it.presence = match (survives(it.queue), it.presence) {
                // What was only written may be undone, also that it was consumed.
                (Survival::Perhaps, Presence::Gone) if it.position != 0 => Presence::Perhaps,
                (_, Presence::Gone) | (Survival::Nothing, _) => Presence::Gone,
                (_, Presence::Perhaps | Presence::Asked) | (Survival::Perhaps, _) => Presence::Perhaps,
                (Survival::Answered, Presence::Surely) if it.acking => Presence::Perhaps,
                (Survival::Answered, Presence::Surely) => Presence::Surely,
            };
            it.acking = false;
            if core::mem::take(&mut it.nacking) && it.presence == Presence::Surely {
                // With the delay or without.
                (it.not_before, it.presence) = (0, Presence::Perhaps);
            }
        }
    }
}

/// What of a queue survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survival {
    /// It was in memory.
    Nothing,
    /// It was not at the level that would survive this.
    Perhaps,
    /// Everything that was answered.
    Answered,
}

impl Model {
    /// A client left with calls open: nobody is told what became of them.
    pub(super) fn forget_client<'a>(&mut self, open: impl Iterator<Item = &'a [u64]>) {
        for id in open.flatten() {
            let it = self.messages.get_mut(id).expect("a known message");
            if it.presence != Presence::Gone {
                it.presence = Presence::Perhaps;
            }
        }
    }
}
