//! What a program does with topics, queues and events: publishes and subscribes, pushes, pops and
//! acknowledges, raises flags and waits for them.

use switchboard::session::{CallId, CallSpec, Method, SendSpec};
use switchboard_protocol::control::{Open, Operation};
use switchboard_protocol::queue::{Extend, LeaseId, LeaseKind, Nack, Pop, QueueMethod};
use switchboard_protocol::signal::{Await, Pulse, Raise, SignalMethod};
use switchboard_protocol::topic::{Subscribe, Will};
use switchboard_protocol::{Header, ObjectKind, Verb, control, encode, write_part};

use super::{Doing, Honest};
use crate::session_worlds::Dice;
use crate::session_worlds::post::{EVENT, LASTING, LOOSE, QUEUES};

/// What it holds.
#[derive(Debug, Default)]
pub(super) struct Post {
    topics: Vec<u64>,
    queues: Vec<u64>,
    events: Vec<u64>,
    /// Messages under lease, with the handle of their queue.
    held: Vec<(u64, LeaseId)>,
}

/// A call that is about one of these.
pub(super) enum Talk {
    Open(ObjectKind),
    /// Of this handle, which stays if that is refused.
    Close(u64),
    Subscribe(CallId),
    /// From a queue, by its handle.
    Pop(CallId, u64),
    /// Whatever ends when the program gives up.
    Other(CallId),
}

impl Talk {
    /// Its call, if it may be given up at any time.
    pub(super) fn id(&self) -> Option<CallId> {
        match self {
            Self::Subscribe(id) | Self::Pop(id, _) | Self::Other(id) => Some(*id),
            Self::Open(_) | Self::Close(_) => None,
        }
    }
}

impl Post {
    /// A handle is gone.
    pub(super) fn lose(&mut self, handle: u64) {
        for handles in [&mut self.topics, &mut self.queues, &mut self.events] {
            handles.retain(|&held| held != handle);
        }
        self.held.retain(|(queue, _)| *queue != handle);
    }

    pub(super) fn opened(&mut self, kind: ObjectKind, handle: u64) {
        match kind {
            ObjectKind::Topic => self.topics.push(handle),
            ObjectKind::Queue => self.queues.push(handle),
            ObjectKind::Event => self.events.push(handle),
            ObjectKind::Service => unreachable!("opened elsewhere"),
        }
    }

    /// Handles by which it may publish.
    pub(super) fn topics(&self) -> &[u64] {
        &self.topics
    }

    /// A message came from the queue that this handle is on.
    pub(super) fn got(&mut self, queue: u64, header: &Header) {
        let lease = LeaseId { low: header.epoch, high: header.caller };
        if lease != (LeaseId { low: 0, high: 0 }) {
            self.held.push((queue, lease));
        }
    }
}

fn bytes_of(tag: u64, len: usize) -> Vec<u8> {
    let mut bytes = tag.to_le_bytes().to_vec();
    bytes.resize(8 + len, tag as u8);
    bytes
}

impl Honest {
    /// Something that a program might do now; `soon` is a deadline.
    pub(super) fn talk(&mut self, dice: &mut Dice, tag: u64, soon: u64) {
        match dice.below(16) {
            0 | 1 => self.open_other(dice, tag),
            2..=5 => self.publish(dice, tag, soon),
            6 => self.subscribe(dice, tag),
            7 => self.grant_all(dice),
            8 | 9 => self.push(dice, tag, soon),
            10 | 11 => self.pop(dice, tag, soon),
            12 | 13 => self.deal_with_lease(dice, tag),
            14 => self.signal(dice, tag, soon),
            _ => self.look_at_topic(dice, tag),
        }
    }

    fn open_other(&mut self, dice: &mut Dice, tag: u64) {
        let topics = Verb::Publish.right() | Verb::Subscribe.right();
        let queues = Verb::Push.right() | Verb::Pop.right();
        let events = Verb::Signal.right() | Verb::Subscribe.right();
        let all = [
            (LASTING[0], ObjectKind::Topic, topics),
            (LASTING[1], ObjectKind::Topic, topics),
            (LOOSE, ObjectKind::Topic, topics),
            (QUEUES[0], ObjectKind::Queue, queues),
            (QUEUES[1], ObjectKind::Queue, queues),
            (EVENT, ObjectKind::Event, events),
        ];
        let (name, kind, rights) = all[dice.index(all.len())];
        let body = Open { name: name.into(), kind: kind as u8, rights: rights.0, on_behalf_of: 0 };
        if self.session.control(tag, Operation::Open, &body, 0).is_ok() {
            self.doing.insert(tag, Doing::Talk(Talk::Open(kind)));
        }
    }

    fn publish(&mut self, dice: &mut Dice, tag: u64, soon: u64) {
        let Some(handle) = dice.pick(&self.post.topics) else { return };
        let batch = dice.one_in(3);
        let payload = if batch {
            let mut payload = Vec::new();
            for nth in 0..1 + dice.below(4) {
                write_part(&mut payload, 0, &bytes_of(tag ^ nth << 40, dice.index(60)));
            }
            payload
        } else {
            bytes_of(tag, dice.index(200))
        };
        let (payload, deadline) = (&payload[..], if dice.one_in(3) { soon } else { 0 });
        if dice.one_in(2) {
            let spec = SendSpec { handle, tag, batch, payload, deadline, ..SendSpec::default() };
            let _ = self.session.send(&spec);
            return;
        }
        let no_wait = dice.one_in(6);
        let spec = CallSpec { handle, batch, payload, deadline, no_wait, ..CallSpec::default() };
        self.talk_by(tag, &spec, Talk::Other);
    }

    fn subscribe(&mut self, dice: &mut Dice, tag: u64) {
        let handle = dice.pick(&self.post.topics).filter(|_| !dice.one_in(3)).unwrap_or(0);
        let body = Subscribe {
            handle,
            pattern: if handle == 0 { ["msg.t.*", "msg.**"][dice.index(2)].into() } else { String::new() },
            policy: dice.below(4) as u8,
            messages: 1 + dice.below(6) as u32,
            bytes: 0,
            history: dice.below(4) as u32,
        };
        if let Ok(id) = self.session.control(tag, Operation::Subscribe, &body, 0) {
            self.doing.insert(tag, Doing::Talk(Talk::Subscribe(id)));
            self.session.grant_items(id, dice.below(8) as u32);
        }
    }

    /// Grants credit to something that streams.
    fn grant_all(&mut self, dice: &mut Dice) {
        let all = |doing: &Doing| match doing {
            Doing::Talk(talk) => talk.id(),
            _ => None,
        };
        let ids: Vec<CallId> = self.doing.values().filter_map(all).collect();
        if let Some(id) = dice.pick(&ids) {
            self.session.grant_items(id, 1 + dice.below(6) as u32);
        }
    }

    fn push(&mut self, dice: &mut Dice, tag: u64, soon: u64) {
        let Some(handle) = dice.pick(&self.post.queues) else { return };
        let batch = dice.one_in(4);
        let payload = if batch {
            let mut payload = Vec::new();
            for nth in 0..1 + dice.below(3) {
                let priority = [0, 3, 31][dice.index(3)];
                write_part(&mut payload, priority, &bytes_of(tag ^ nth << 40, dice.index(60)));
            }
            payload
        } else {
            bytes_of(tag, dice.index(150))
        };
        let method = Method::Number(QueueMethod::Push as u32);
        let deadline = if dice.one_in(3) { soon } else { 0 };
        let spec = CallSpec { handle, method, batch, payload: &payload, deadline, ..CallSpec::default() };
        self.talk_by(tag, &spec, Talk::Other);
    }

    fn pop(&mut self, dice: &mut Dice, tag: u64, soon: u64) {
        let Some(handle) = dice.pick(&self.post.queues) else { return };
        let lease = [LeaseKind::Attached, LeaseKind::Attached, LeaseKind::Detached][dice.index(3)];
        let body = encode(&Pop { lease: lease as u8, lease_ns: 1_000_000 + dice.below(60_000_000) });
        let stream = dice.one_in(2);
        let spec = CallSpec {
            handle,
            method: Method::Number(QueueMethod::Pop as u32),
            deadline: if stream { 0 } else { soon },
            stream,
            no_wait: !stream && dice.one_in(3),
            leases: true,
            payload: &body,
            ..CallSpec::default()
        };
        if let Some(id) = self.talk_by(tag, &spec, |id| Talk::Pop(id, handle))
            && stream
        {
            self.session.grant_items(id, 1 + dice.below(3) as u32);
        }
    }

    /// Acknowledges a message that it has, gives it back, or keeps it longer.
    fn deal_with_lease(&mut self, dice: &mut Dice, tag: u64) {
        if self.post.held.is_empty() {
            return;
        }
        let at = dice.index(self.post.held.len());
        let (handle, lease) = self.post.held[at];
        match dice.below(6) {
            0 => {
                let body = encode(&Extend { lease, by_ns: dice.below(50_000_000) });
                self.lease_call(tag, handle, QueueMethod::Extend, &body);
            }
            1 => {
                self.post.held.swap_remove(at);
                let body =
                    encode(&Nack { lease, how: dice.below(2) as u8, delay_ns: dice.below(2) * 5_000_000 });
                self.lease_call(tag, handle, QueueMethod::Nack, &body);
            }
            // Now and then twice.
            2 => self.lease_call(tag, handle, QueueMethod::Ack, &lease.to_bytes()),
            3 => {
                let all = std::mem::take(&mut self.post.held);
                let (same, others) = all.into_iter().partition(|(queue, _)| *queue == handle);
                self.post.held = others;
                let same: Vec<(u64, LeaseId)> = same;
                let bytes: Vec<u8> = same.iter().flat_map(|(_, lease)| lease.to_bytes()).collect();
                self.lease_call(tag, handle, QueueMethod::Ack, &bytes);
            }
            _ => {
                self.post.held.swap_remove(at);
                self.lease_call(tag, handle, QueueMethod::Ack, &lease.to_bytes());
            }
        }
    }

    fn lease_call(&mut self, tag: u64, handle: u64, method: QueueMethod, payload: &[u8]) {
        let method = Method::Number(method as u32);
        self.talk_by(tag, &CallSpec { handle, method, payload, ..CallSpec::default() }, Talk::Other);
    }

    fn signal(&mut self, dice: &mut Dice, tag: u64, deadline: u64) {
        let Some(handle) = dice.pick(&self.post.events) else { return };
        let (method, body) = match dice.below(4) {
            0 => (SignalMethod::Raise, encode(&Raise { bits: 1 << dice.below(8) })),
            1 => (SignalMethod::Pulse, encode(&Pulse { code: dice.below(3) as u32, value: tag })),
            _ => (SignalMethod::Await, encode(&Await { mask: dice.below(256), pulses: dice.one_in(2) })),
        };
        let (method, payload) = (Method::Number(method as u32), &body[..]);
        self.talk_by(
            tag,
            &CallSpec { handle, method, payload, deadline, ..CallSpec::default() },
            Talk::Other,
        );
    }

    /// Asks what a topic has, or leaves a will on it.
    fn look_at_topic(&mut self, dice: &mut Dice, tag: u64) {
        let Some(handle) = dice.pick(&self.post.topics) else { return };
        match dice.below(4) {
            0 => {
                let payload = (!dice.one_in(4)).then(|| bytes_of(tag, 20));
                self.control(tag, Operation::Will, &Will { handle, method: 1, payload }, 0);
            }
            1 => {
                if self.session.close(tag, handle, 0).is_ok() {
                    self.doing.insert(tag, Doing::Talk(Talk::Close(handle)));
                }
            }
            _ => self.control(tag, Operation::TopicStat, &control::OnHandle { handle }, 0),
        }
    }

    fn talk_by(
        &mut self,
        tag: u64,
        spec: &CallSpec<'_>,
        talk: impl FnOnce(CallId) -> Talk,
    ) -> Option<CallId> {
        let id = self.session.call(tag, spec).ok()?;
        self.doing.insert(tag, Doing::Talk(talk(id)));
        Some(id)
    }

    /// Takes whatever still comes, and waits for nothing else.
    pub(super) fn wind_down_talks(&mut self, round: u64, tags: &mut u64) {
        let mut ends = Vec::new();
        for doing in self.doing.values() {
            match doing {
                Doing::Talk(Talk::Subscribe(id)) if round.is_multiple_of(4) => {
                    self.session.grant_items(*id, 8);
                }
                Doing::Talk(Talk::Pop(id, _) | Talk::Other(id)) => ends.push(*id),
                _ => {}
            }
        }
        ends.into_iter().for_each(|id| self.session.cancel(id));
        if (4..90).contains(&round) && round % 3 == 1 && !self.post.topics.is_empty() {
            // A will takes room as long as it stands. One at a time: few calls may be open.
            let handle = self.post.topics[round as usize / 3 % self.post.topics.len()];
            *tags += 1;
            self.control(*tags, Operation::Will, &Will { handle, method: 0, payload: None }, 0);
        }
        for (handle, lease) in std::mem::take(&mut self.post.held) {
            *tags += 1;
            self.lease_call(*tags, handle, QueueMethod::Ack, &lease.to_bytes());
        }
    }
}
