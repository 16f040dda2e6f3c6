//! What is promised of topics, queues and events, held against every frame that goes in and comes out.
//!
//! Part of the [`super::Oracle`], which says on what kind of object a frame is. A message is told apart by
//! its bytes, a place in a topic or a queue by its number.

use std::collections::{BTreeMap, BTreeSet};

use switchboard_protocol::control::Open;
use switchboard_protocol::queue::{LEASE_BYTES, LeaseId, LeaseKind, Nack, NackHow, Pop, QueueMethod};
use switchboard_protocol::signal::{Raise, Raised, SignalMethod};
use switchboard_protocol::topic::{Delivery, Subscribe};
use switchboard_protocol::{
    Header, Instant, Kind, ObjectKind, Parts, PeerId, Tail, decode, extension_type, flags,
};

type Checked = Result<(), String>;

/// An open call on a topic, a queue or an event.
#[derive(Debug)]
struct Call {
    name: String,
    what: What,
    stream: bool,
    credit: u64,
    items: u64,
}

#[derive(Debug)]
enum What {
    /// The bytes of each message, as one number.
    Publish(Vec<u64>),
    Push(Vec<u64>),
    /// With a lease of this kind, for so long.
    Pop(u8, u64),
    Ack(Vec<LeaseId>),
    Await,
    Purge,
    Other,
}

/// A subscription that is in force, or will be.
#[derive(Debug)]
struct Subscription {
    topic: Option<String>,
    /// The next position; `None` before its first item.
    next: Option<u64>,
}

/// A message in a queue.
#[derive(Debug)]
struct Message {
    digest: u64,
    /// Acknowledged, or delivered for good.
    gone: bool,
    /// It may be gone: purged, dropped or dead.
    perhaps: bool,
    lease: Option<Lease>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    id: (u64, u64),
    holder: PeerId,
    /// Until when nobody else may have it; 0 where that is not known any more.
    until: u64,
}

/// What it is for stands at the head of this file.
#[derive(Debug, Default)]
pub(super) struct Post {
    calls: BTreeMap<(PeerId, u64), Call>,
    subscriptions: BTreeMap<(PeerId, u64), Subscription>,
    /// What was published under each number, where topics last.
    published: BTreeMap<(String, u64), u64>,
    latest: BTreeMap<String, u64>,
    queued: BTreeMap<(String, u64), Message>,
    leases: BTreeMap<(u64, u64), (String, u64)>,
    /// Flags that were raised and that nobody has taken.
    raised: BTreeMap<String, u64>,
    /// How often something was checked.
    pub(super) seen: u64,
}

/// Topics that are always configured, so that their numbers never begin anew.
pub(super) const LASTING: [&str; 2] = ["msg.t.keep", "msg.t.block"];
/// Queues that are configured. The first rejects what it has no room for, the second drops its oldest.
pub(super) const QUEUES: [&str; 3] = ["msg.q", "msg.q2", "msg.dead"];
/// What else there may be.
pub(super) const LOOSE: &str = "msg.t.loose";
pub(super) const EVENT: &str = "msg.e";

fn digest(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The messages of a frame, each as one number.
fn messages_of(header: &Header, payload: &[u8]) -> Vec<u64> {
    if header.flags & flags::BATCH == 0 {
        return vec![digest(payload)];
    }
    Parts::of(payload).map(|part| digest(part.payload)).collect()
}

fn leases_of(payload: &[u8]) -> Vec<LeaseId> {
    let (words, _) = payload.as_chunks::<LEASE_BYTES>();
    let half = |bytes: &[u8]| u64::from_le_bytes(*bytes.first_chunk().expect("half a lease"));
    words.iter().map(|word| LeaseId { low: half(&word[..8]), high: half(&word[8..]) }).collect()
}

impl Post {
    /// A CALL or SEND on something that is not a service goes in; `fresh` if its id is in use by nothing else.
    pub(super) fn frame(
        &mut self,
        from: PeerId,
        header: &Header,
        tail: &Tail<'_>,
        kind: ObjectKind,
        name: &str,
        fresh: bool,
    ) {
        let queue = QueueMethod::from_wire(header.method);
        let signal = SignalMethod::from_wire(header.method);
        let what = match (kind, queue, signal) {
            (ObjectKind::Topic, ..) => What::Publish(messages_of(header, tail.payload)),
            (ObjectKind::Queue, Some(QueueMethod::Push), _) => What::Push(messages_of(header, tail.payload)),
            (ObjectKind::Queue, Some(QueueMethod::Pop), _) => {
                decode(tail.payload).map_or(What::Other, |Pop { lease, lease_ns }| What::Pop(lease, lease_ns))
            }
            (ObjectKind::Queue, Some(QueueMethod::Ack), _) => What::Ack(leases_of(tail.payload)),
            (ObjectKind::Queue, Some(QueueMethod::Nack), _) => {
                if let Some(nack) = decode::<Nack>(tail.payload) {
                    self.nacked(nack);
                }
                What::Other
            }
            (ObjectKind::Queue, Some(QueueMethod::Extend), _) => {
                // It may be shorter than it was.
                self.queued.values_mut().filter_map(|it| it.lease.as_mut()).for_each(|it| it.until = 0);
                What::Other
            }
            (ObjectKind::Queue, Some(QueueMethod::Purge | QueueMethod::Redrive), _) => {
                let of = |(of, _): &(String, u64)| of == name;
                self.queued.iter_mut().filter(|(key, _)| of(key)).for_each(|(_, it)| it.perhaps = true);
                What::Purge
            }
            (ObjectKind::Event, _, Some(SignalMethod::Raise)) => {
                let bits = decode::<Raise>(tail.payload).map_or(0, |raise| raise.bits);
                *self.raised.entry(name.into()).or_default() |= bits;
                What::Other
            }
            (ObjectKind::Event, _, Some(SignalMethod::Await)) => What::Await,
            _ => What::Other,
        };
        if header.kind == Kind::Call && fresh {
            let stream = header.flags & flags::STREAM != 0;
            let call = Call { name: name.into(), what, stream, credit: 0, items: 0 };
            self.calls.insert((from, header.call), call);
        }
    }

    fn nacked(&mut self, nack: Nack) {
        let id = (nack.lease.low, nack.lease.high);
        if let Some(key) = self.leases.get(&id)
            && let Some(it) = self.queued.get_mut(key)
        {
            it.perhaps |= nack.how == NackHow::Dead as u8;
            if it.lease.is_some_and(|lease| lease.id == id) {
                it.lease = None;
            }
        }
    }

    /// Credit for a call; whether it is one of these.
    pub(super) fn credit(&mut self, from: PeerId, header: &Header) -> bool {
        let call = self.calls.get_mut(&(from, header.call));
        call.map(|call| call.credit = call.credit.saturating_add(header.seq)).is_some()
    }

    /// A subscription is asked for.
    pub(super) fn subscribe(
        &mut self,
        from: PeerId,
        call: u64,
        body: &[u8],
        name: impl Fn(u64) -> Option<String>,
    ) {
        if let Some(body) = decode::<Subscribe>(body) {
            let topic = if body.handle == 0 { None } else { name(body.handle) };
            self.subscriptions.insert((from, call), Subscription { topic, next: None });
        }
    }

    /// A peer is gone, and with it what it waited for. What it has is free sooner or later.
    pub(super) fn leave(&mut self, peer: PeerId) {
        self.calls.retain(|(of, _), _| *of != peer);
        self.subscriptions.retain(|(of, _), _| *of != peer);
        for it in self.queued.values_mut() {
            if let Some(lease) = &mut it.lease
                && lease.holder == peer
            {
                lease.until = 0;
            }
        }
    }

    /// A call ends; `None` if it is none of these.
    pub(super) fn end(
        &mut self,
        now: Instant,
        to: PeerId,
        header: &Header,
        view: &Tail<'_>,
    ) -> Option<Checked> {
        self.subscriptions.remove(&(to, header.call));
        let call = self.calls.remove(&(to, header.call))?;
        Some(if header.kind == Kind::Reply { self.reply(now, to, header, view, call) } else { Ok(()) })
    }

    fn reply(&mut self, now: Instant, to: PeerId, header: &Header, view: &Tail<'_>, call: Call) -> Checked {
        let Call { name, what, stream, .. } = call;
        self.seen += 1;
        match what {
            What::Publish(messages) => {
                let first = (header.seq + 1).checked_sub(messages.len() as u64);
                let first = first.ok_or_else(|| format!("{to} published as number {}", header.seq))?;
                (first..).zip(messages).try_for_each(|(number, digest)| self.place(&name, number, digest))
            }
            What::Push(messages) if view.payload.is_empty() => (header.seq..)
                .zip(messages)
                .try_for_each(|(position, digest)| self.put(&name, position, digest)),
            What::Pop(lease, lease_ns) if !stream => {
                self.delivery(now, to, header, view, &name, (lease, lease_ns))
            }
            What::Ack(leases) => {
                let each = |at: usize| view.payload.get(at).is_none_or(|&lost| lost == 0);
                let done = leases.iter().enumerate().filter(|(at, _)| each(*at));
                done.map(|(_, lease)| *lease)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .try_for_each(|it| self.acked(it))
            }
            What::Await => {
                let it: Raised = decode(view.payload).ok_or("a body that is no Raised")?;
                let flags = self.raised.entry(name.clone()).or_default();
                if it.bits & !*flags != 0 {
                    return Err(format!("{to} is given flags {:#x} of `{name}`, of {flags:#x}", it.bits));
                }
                *flags &= !it.bits;
                if it.bits == 0 && it.pulse.is_none() {
                    return Err(format!("{to} waited for `{name}` and is given nothing"));
                }
                Ok(())
            }
            What::Purge => {
                let of = |(key, it): &(&(String, u64), &Message)| key.0 == name && !it.gone;
                let most = self.queued.iter().filter(of).count() as u64;
                if most < header.seq {
                    return Err(format!("{} messages of `{name}` are purged, of {most}", header.seq));
                }
                Ok(())
            }
            What::Push(_) | What::Pop(..) | What::Other => Ok(()),
        }
    }

    /// A topic's message has this number.
    fn place(&mut self, topic: &str, number: u64, digest: u64) -> Checked {
        if !LASTING.contains(&topic) {
            return Ok(());
        }
        let latest = self.latest.entry(topic.into()).or_default();
        *latest = number.max(*latest);
        let known = *self.published.entry((topic.into(), number)).or_insert(digest);
        if known == digest { Ok(()) } else { Err(format!("number {number} of `{topic}` is two messages")) }
    }

    /// A queue's message has this position.
    fn put(&mut self, queue: &str, position: u64, digest: u64) -> Checked {
        let new = Message { digest, gone: false, perhaps: queue != QUEUES[0], lease: None };
        let it = self.queued.entry((queue.into(), position)).or_insert(new);
        if it.digest == digest {
            Ok(())
        } else {
            Err(format!("position {position} of `{queue}` is two messages"))
        }
    }

    fn delivery(
        &mut self,
        now: Instant,
        to: PeerId,
        header: &Header,
        view: &Tail<'_>,
        queue: &str,
        (kind, lease_ns): (u8, u64),
    ) -> Checked {
        let position = header.deadline;
        self.put(queue, position, digest(view.payload))?;
        let it = self.queued.get_mut(&(queue.into(), position)).expect("it was put there");
        if it.gone {
            return Err(format!("message {position} of `{queue}` is given to {to}, and was consumed"));
        }
        if let Some(lease) = it.lease.filter(|lease| now.0 < lease.until) {
            return Err(format!(
                "message {position} of `{queue}` is given to {to}, and {} has it until {}",
                lease.holder, lease.until
            ));
        }
        let id = (header.epoch, header.caller);
        if kind == LeaseKind::None as u8 {
            it.gone = true;
            return Ok(());
        }
        let lease_ns = if lease_ns == 0 { 30_000_000_000 } else { lease_ns };
        let until = if kind == LeaseKind::Attached as u8 { u64::MAX } else { now.0.saturating_add(lease_ns) };
        it.lease = Some(Lease { id, holder: to, until });
        if self.leases.insert(id, (queue.into(), position)).is_some() {
            return Err(format!("lease {id:x?} is given out twice"));
        }
        Ok(())
    }

    fn acked(&mut self, lease: LeaseId) -> Checked {
        let key = self.leases.get(&(lease.low, lease.high));
        let Some(it) = key.and_then(|key| self.queued.get_mut(key)) else {
            return Err(format!("a lease {lease:x?} that nobody was given is acknowledged"));
        };
        if std::mem::replace(&mut it.gone, true) {
            return Err(format!("{key:?} is acknowledged twice"));
        }
        Ok(())
    }

    /// An item; `None` if it is for none of these.
    pub(super) fn item(
        &mut self,
        now: Instant,
        to: PeerId,
        header: &Header,
        view: &Tail<'_>,
    ) -> Option<Checked> {
        if let Some(call) = self.calls.get_mut(&(to, header.call)) {
            call.items += 1;
            let (items, credit) = (call.items, call.credit);
            if header.seq != items || credit < items {
                return Some(Err(format!(
                    "item {} of a queue comes as item {items} of {credit}",
                    header.seq
                )));
            }
            let What::Pop(kind, lease_ns) = call.what else { return Some(Ok(())) };
            let name = call.name.clone();
            self.seen += 1;
            return Some(self.delivery(now, to, header, view, &name, (kind, lease_ns)));
        }
        let mut it = self.subscriptions.remove(&(to, header.call))?;
        self.seen += 1;
        let checked = self.message(to, header, view, &mut it);
        self.subscriptions.insert((to, header.call), it);
        // Its credit is looked at with that of all control operations.
        checked.err().map(Err)
    }

    fn message(&mut self, to: PeerId, header: &Header, view: &Tail<'_>, it: &mut Subscription) -> Checked {
        let delivery = Delivery::from_wire(header.handle);
        let position = header.epoch;
        let messages = messages_of(header, view.payload);
        let (next, after) = match (delivery, it.next) {
            (Some(Delivery::Subscribed), None) => {
                it.next = Some(position + 1);
                return Ok(());
            }
            (Some(Delivery::Message), Some(next)) => (next, position + messages.len() as u64),
            (Some(Delivery::Lost), Some(next)) if position <= header.deadline => (next, header.deadline + 1),
            (Some(Delivery::Earlier), Some(_)) => (position, 0),
            (what, _) => return Err(format!("{to} gets {what:?} at {position} where {:?} is due", it.next)),
        };
        if position != next {
            return Err(format!("{to} gets {delivery:?} at {position} of {:?}, and {next} is due", it.topic));
        }
        if after != 0 {
            it.next = Some(after);
        }
        if delivery == Some(Delivery::Lost) {
            return Ok(());
        }
        let named = view.extensions().and_then(|all| all.find(extension_type::TOPIC));
        let named = named.map(|name| String::from_utf8_lossy(name).into_owned());
        let Some(topic) = it.topic.clone().or(named) else {
            return Err(format!("{to} gets a message of no topic"));
        };
        if it.topic.is_some() && header.deadline != position {
            return Err(format!("{to} gets number {} of `{topic}` at {position}", header.deadline));
        }
        (header.deadline..).zip(messages).try_for_each(|(number, digest)| self.place(&topic, number, digest))
    }

    /// When nobody waits for anything: who subscribes to a topic has everything of it.
    pub(super) fn at_rest(&self, honest: &BTreeSet<PeerId>) -> Checked {
        for ((peer, _), it) in self.subscriptions.iter().filter(|((peer, _), _)| honest.contains(peer)) {
            let latest = it.topic.as_ref().and_then(|topic| self.latest.get(topic));
            if let (Some(next), Some(latest)) = (it.next, latest)
                && next <= *latest
            {
                return Err(format!("{peer} was given `{:?}` up to {next}, of {latest}", it.topic));
            }
        }
        Ok(())
    }

    /// Messages that are surely in the queues.
    pub(super) fn certain(&self, queue: &str) -> u64 {
        self.queued.iter().filter(|((of, _), it)| of == queue && !it.gone && !it.perhaps).count() as u64
    }
}

/// The kind that OPEN asked for.
pub(super) fn kind_of(ask: &Open) -> ObjectKind {
    ObjectKind::from_wire(ask.kind).unwrap_or(ObjectKind::Service)
}
