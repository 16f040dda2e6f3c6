//! A broker with publishers and subscribers around it, from a seed to its end.

use crate::model::{Asked, Checked, Entry, Item, Model};
use crate::shadow::Shadow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use switchboard_core::{
    Broker, Departure, Effect, Identity, Input, Instance, Limits, Policy, Settings, TopicSettings,
};
use switchboard_protocol::control::{OnHandle, Open, Opened, Operation};
use switchboard_protocol::topic::{Delivery, SlowPolicy, Subscribe};
use switchboard_protocol::{
    Event, HELLO_MAGIC, Header, Hello, Instant, Kind, Name, Outcome, Parts, Pattern, PeerId, Tail, VERSION,
    Verb, decode, encode, extension_type, flags, padded, write_part,
};

/// A bug between the broker and the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plant {
    DropItem,
    DoubleItem,
    SwapItems,
    WrongPosition,
    WrongSequence,
    LostTooShort,
    LostTooLong,
    LostUnsaid,
    AnotherPayload,
    TopicMisnamed,
    ReplyMiscounted,
    ReplyUnsaid,
    FailureUnsaid,
    CreditTwice,
    UnaskedItem,
}

impl Plant {
    pub(crate) const ALL: [Self; 15] = [
        Self::DropItem,
        Self::DoubleItem,
        Self::SwapItems,
        Self::WrongPosition,
        Self::WrongSequence,
        Self::LostTooShort,
        Self::LostTooLong,
        Self::LostUnsaid,
        Self::AnotherPayload,
        Self::TopicMisnamed,
        Self::ReplyMiscounted,
        Self::ReplyUnsaid,
        Self::FailureUnsaid,
        Self::CreditTwice,
        Self::UnaskedItem,
    ];
}

/// A frame that the broker sent.
#[derive(Clone)]
struct Sent {
    to: PeerId,
    header: Header,
    bytes: Vec<u8>,
}

/// One program.
struct Peer {
    id: PeerId,
    handles: Vec<u64>,
    /// Whether it reads what it is sent at once.
    reads: bool,
    unread: usize,
    next_call: u64,
    /// Calls to publish that are open, with the ids of their messages.
    publishing: BTreeMap<u64, Vec<u64>>,
    /// One-way messages: ids by tag.
    sent: BTreeMap<u64, Vec<u64>>,
    /// Ids that something must come of.
    asked: Vec<u64>,
    subscriptions: Vec<u64>,
    window_used: u64,
}

pub(crate) struct World {
    broker: Broker<Vec<u8>>,
    /// A core that is told what a recording has, if there is one.
    shadow: Option<Shadow>,
    model: Model,
    peers: Vec<Peer>,
    now: Instant,
    dice: u64,
    plant: Option<Plant>,
    next_id: u64,
    generation: u32,
    /// Answers to control calls that the world waits for.
    answer: Option<Vec<u8>>,
}

const TOPICS: [&str; 3] = ["a.x", "a.y", "b.x"];
const PATTERNS: [&str; 5] = ["**", "a.*", "*.x", "b.**", "a.x"];
const PEERS: usize = 5;

impl World {
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
        let names: Vec<Name> = TOPICS.iter().map(|name| Name::new(name).expect("a name")).collect();
        let topics = names
            .iter()
            .zip([3, 0, 1])
            .map(|(name, history)| TopicSettings { history, ..TopicSettings::of(name.clone()) });
        let limits = Limits {
            // Small, so that stalls and pauses happen; more than what is held back can be at once, so that
            // the observer is never behind.
            link_bytes_low: 500,
            link_bytes_high: 16_000,
            send_bytes: 4_000,
            ..Limits::default()
        };
        let policy = Policy::user_instance(1000);
        let settings =
            Settings { policy, limits, topics: topics.collect(), queues: Vec::new(), files: Vec::new() };
        let instance = Instance { incarnation: 1, ..Instance::default() };
        let model = Model::new(names, vec![3, 0, 1]);
        Self {
            broker: Broker::new(settings, instance, Instant(1)),
            shadow: None,
            model,
            peers: Vec::new(),
            now: Instant(1),
            dice: seed,
            plant,
            next_id: 1,
            generation: 0,
            answer: None,
        }
    }

    /// With a shadow beside the broker.
    pub(crate) fn shadowed(mut self, shadow: Shadow) -> Self {
        self.shadow = Some(shadow);
        self
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }

    pub(crate) fn run(mut self, steps: u32) -> Checked {
        // The observer is the first of all peers and never refuses anything, so that what is published
        // is known from it before anybody else is told.
        self.join(0)?;
        for topic in 0..TOPICS.len() {
            let handle = self.peers[0].handles[topic];
            self.subscribe(0, Some(topic), None, handle, SlowPolicy::Block, (1 << 30, 1 << 24), 0)?;
        }
        for slot in 1..=PEERS {
            self.join(slot)?;
        }
        for _ in 0..steps {
            self.step()?;
            self.broker.check_invariants();
        }
        self.wind_up()
    }

    /// Everybody takes everything; then all must have it, and once all have left nothing is left.
    fn wind_up(&mut self) -> Checked {
        for peer in 0..self.peers.len() {
            self.peers[peer].reads = true;
            for call in self.peers[peer].subscriptions.clone() {
                self.grant(peer, call, 1 << 20)?;
            }
        }
        self.rest()?;
        self.broker.check_invariants();
        self.model.is_drained()?;
        for peer in &self.peers {
            self.model.are_settled(peer.asked.iter())?;
            if !peer.publishing.is_empty() {
                return Err(format!("calls of {} were not answered", peer.id));
            }
        }
        for peer in (0..self.peers.len()).rev() {
            self.leave(peer)?;
        }
        self.rest()?;
        self.broker.check_invariants();
        if self.broker.is_empty() { Ok(()) } else { Err("something is left of those who left".into()) }
    }

    fn step(&mut self) -> Checked {
        let peer = 1 + self.roll(PEERS as u64) as usize;
        match self.roll(100) {
            0..40 => self.publish(peer),
            40..55 => {
                let more = 1 + self.roll(if self.dice & 3 == 0 { 60 } else { 6 });
                let count = self.peers[peer].subscriptions.len() as u64;
                if count == 0 {
                    return Ok(());
                }
                let at = self.roll(count) as usize;
                self.grant(peer, self.peers[peer].subscriptions[at], more)
            }
            55..65 => self.subscribe_somehow(peer),
            65..80 => {
                let bytes = self.roll(1 + self.peers[peer].unread as u64) as usize;
                self.read(peer, bytes)
            }
            80..85 => {
                self.peers[peer].reads = self.roll(2) == 0;
                Ok(())
            }
            85..88 => self.cancel(peer),
            88..90 => {
                self.leave(peer)?;
                self.rest()?;
                self.join(peer)
            }
            90..92 => self.reopen(peer),
            92..95 => {
                self.now = self.now.after(Duration::from_millis(1 + self.roll(3)));
                self.input(Input::Wake)
            }
            _ => self.rest(),
        }
    }

    fn publish(&mut self, peer: usize) -> Checked {
        let topic = self.roll(TOPICS.len() as u64) as usize;
        let handle = self.peers[peer].handles[topic];
        let batch = if self.roll(4) == 0 { 1 + self.roll(3) } else { 0 };
        let mut payload = Vec::new();
        let mut ids = Vec::new();
        for _ in 0..batch.max(1) {
            let id = self.next_id;
            self.next_id += 1;
            ids.push(id);
            let mut message = id.to_le_bytes().to_vec();
            message.resize(8 + self.roll(400) as usize, 0);
            if batch == 0 {
                payload = message;
            } else {
                write_part(&mut payload, 0, &message);
            }
        }
        let deadline = if self.roll(3) == 0 { self.now.after(Duration::from_millis(2)).0 } else { 0 };
        let flag = if batch == 0 { 0 } else { flags::BATCH };
        let it = &mut self.peers[peer];
        let header = if self.dice & 64 == 0 {
            if 3 < it.publishing.len() {
                return Ok(());
            }
            let call = it.next_call;
            it.next_call += 1;
            it.publishing.insert(call, ids.clone());
            let nowait = if self.dice & 768 == 0 { flags::NO_WAIT } else { 0 };
            Header { call, handle, deadline, flags: flag | nowait, ..Header::new(Kind::Call) }
        } else {
            let bytes = padded(64 + payload.len()) as u64;
            if 2_000 < it.window_used + bytes {
                return Ok(());
            }
            it.window_used += bytes;
            it.sent.insert(ids[0], ids.clone());
            Header { call: ids[0], handle, deadline, flags: flag, ..Header::new(Kind::Send) }
        };
        it.asked.extend(&ids);
        self.frame(peer, header, payload)
    }

    fn subscribe_somehow(&mut self, peer: usize) -> Checked {
        if 6 < self.peers[peer].subscriptions.len() {
            return Ok(());
        }
        let policy = SlowPolicy::ALL[self.roll(4) as usize];
        let bounds = (1 + self.roll(6), 200 + self.roll(4_000));
        let history = self.roll(5);
        if self.roll(2) == 0 {
            let topic = self.roll(TOPICS.len() as u64) as usize;
            let handle = self.peers[peer].handles[topic];
            self.subscribe(peer, Some(topic), None, handle, policy, bounds, history)
        } else {
            let pattern = Pattern::new(PATTERNS[self.roll(5) as usize]).expect("a pattern");
            self.subscribe(peer, None, Some(pattern), 0, policy, bounds, history)
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a subscription is all of this")]
    fn subscribe(
        &mut self,
        peer: usize,
        topic: Option<usize>,
        pattern: Option<Pattern>,
        handle: u64,
        policy: SlowPolicy,
        (messages, bytes): (u64, u64),
        history: u64,
    ) -> Checked {
        let it = &mut self.peers[peer];
        let call = it.next_call;
        it.next_call += 1;
        it.subscriptions.push(call);
        let body = Subscribe {
            handle,
            pattern: pattern.as_ref().map_or(String::new(), |pattern| pattern.as_str().into()),
            policy: policy as u8,
            messages: messages as u32,
            bytes: bytes as u32,
            history: history as u32,
        };
        let key = (it.id.to_wire(), call);
        // What is held back may go once the frame is dealt with; before that nothing can be published.
        let (messages_max, bytes_max) = (messages, bytes);
        let asked = Asked { topic, pattern: pattern.as_ref(), policy, messages_max, bytes_max, history };
        if peer != 0 {
            self.model.subscribe(key, &asked);
        }
        let header = Header { flags: flags::STREAM, ..control(call, Operation::Subscribe) };
        self.frame(peer, header, encode(&body))?;
        if peer == 0 {
            self.grant(0, call, 1 << 40)?;
        }
        Ok(())
    }

    fn grant(&mut self, peer: usize, call: u64, more: u64) -> Checked {
        self.model.credit((self.peers[peer].id.to_wire(), call), more);
        let header = Header { call, seq: more, ..Header::new(Kind::Credit) };
        self.frame(peer, header, Vec::new())?;
        if self.plant == Some(Plant::CreditTwice) {
            let header = Header { call, seq: 1, ..Header::new(Kind::Credit) };
            self.frame(peer, header, Vec::new())?;
        }
        Ok(())
    }

    fn cancel(&mut self, peer: usize) -> Checked {
        let it = &self.peers[peer];
        let call = if self.dice & 1 == 0 {
            it.subscriptions.first().copied()
        } else {
            it.publishing.keys().next().copied()
        };
        match call {
            None => Ok(()),
            Some(call) => self.frame(peer, Header { call, ..Header::new(Kind::Cancel) }, Vec::new()),
        }
    }

    /// A handle is given back, and the topic opened anew.
    fn reopen(&mut self, peer: usize) -> Checked {
        let topic = self.roll(TOPICS.len() as u64) as usize;
        let handle = self.peers[peer].handles[topic];
        // Of a message that is held back the sender is told on its handle, if that is still there.
        let it = &mut self.peers[peer];
        let one_way: BTreeSet<u64> = it.sent.values().flatten().copied().collect();
        it.asked.retain(|id| !one_way.contains(id));
        self.control(peer, Operation::Close, &OnHandle { handle })?;
        self.peers[peer].handles[topic] = self.open(peer, topic)?;
        Ok(())
    }

    fn join(&mut self, slot: usize) -> Checked {
        self.generation += 1;
        let id = PeerId { slot: slot as u32, generation: self.generation };
        let peer = Peer {
            id,
            handles: Vec::new(),
            reads: true,
            unread: 0,
            next_call: 1,
            publishing: BTreeMap::new(),
            sent: BTreeMap::new(),
            asked: Vec::new(),
            subscriptions: Vec::new(),
            window_used: 0,
        };
        if slot == self.peers.len() {
            self.peers.push(peer);
        } else {
            self.peers[slot] = peer;
        }
        let identity = Identity { uid: 1000, gid: 1000, pid: slot as u32 + 1, ..Identity::default() };
        self.input(Input::Connect { peer: id, identity })?;
        let hello = Hello { version_min: VERSION, version_max: VERSION, features: 0, program: "w".into() };
        let header = Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) };
        self.frame(slot, header, encode(&hello))?;
        for topic in 0..TOPICS.len() {
            let handle = self.open(slot, topic)?;
            self.peers[slot].handles.push(handle);
        }
        Ok(())
    }

    fn leave(&mut self, peer: usize) -> Checked {
        let id = self.peers[peer].id;
        self.peers[peer].unread = 0;
        // What it published by a call, and is held back, goes with it; what it sent does not.
        self.peers[peer].publishing.clear();
        self.model.queues.retain(|&(of, _), _| of != id.to_wire());
        self.peers[peer].subscriptions.clear();
        self.peers[peer].asked.clear();
        self.input(Input::Disconnect { peer: id, how: Departure::default() })
    }

    fn open(&mut self, peer: usize, topic: usize) -> Checked<u64> {
        let rights = (Verb::Publish.right() | Verb::Subscribe.right()).0;
        let body = Open { name: TOPICS[topic].into(), kind: 2, rights, on_behalf_of: 0 };
        let answer = self.control(peer, Operation::Open, &body)?;
        Ok(decode::<Opened>(&answer).ok_or("not opened")?.handle)
    }

    fn control<B: serde::Serialize>(&mut self, peer: usize, what: Operation, body: &B) -> Checked<Vec<u8>> {
        self.answer = None;
        self.frame(peer, control(0, what), encode(body))?;
        self.answer.take().ok_or_else(|| format!("{what:?} was not answered"))
    }

    fn frame(&mut self, peer: usize, mut header: Header, payload: Vec<u8>) -> Checked {
        header.len = 64 + payload.len() as u32;
        let from = self.peers[peer].id;
        self.input(Input::Frame { from, header, tail: payload })
    }

    fn read(&mut self, peer: usize, bytes: usize) -> Checked {
        if bytes == 0 {
            return Ok(());
        }
        self.peers[peer].unread -= bytes;
        self.input(Input::Wrote { peer: self.peers[peer].id, bytes })
    }

    /// Work that was left over is done, and those read who do, until nothing more comes of it.
    fn rest(&mut self) -> Checked {
        for _ in 0..10_000 {
            let reader = self.peers.iter().position(|peer| peer.reads && 0 < peer.unread);
            if let Some(peer) = reader {
                self.read(peer, self.peers[peer].unread)?;
            } else if self.broker.next_wake() == Some(Instant(0)) {
                self.input(Input::Wake)?;
            } else {
                return Ok(());
            }
        }
        Err("the broker never comes to rest".into())
    }

    /// One input, and what comes of it held against the model.
    fn input(&mut self, input: Input<Vec<u8>>) -> Checked {
        let mut effects = Vec::new();
        match &mut self.shadow {
            None => self.broker.handle(self.now, input, &mut effects),
            Some(shadow) => shadow.handle(&mut self.broker, self.now, input, &mut effects)?,
        }
        let mut sent = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send { to, header, tail } => {
                    sent.push(Sent { to, header, bytes: tail.to_bytes(&header) });
                }
                Effect::Close { peer } => return Err(format!("{peer} was closed")),
                Effect::Resume { .. }
                | Effect::Pause { .. }
                | Effect::Forget { .. }
                | Effect::Append { .. }
                | Effect::Sync
                | Effect::Roll { .. }
                | Effect::DropSegment { .. }
                | Effect::Reload
                | Effect::Log(_) => {}
            }
        }
        for one in &sent {
            if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == one.to) {
                peer.unread += padded(one.header.len as usize);
            }
        }
        if let Some(plant) = self.plant {
            self.tamper(plant, &mut sent);
        }
        for one in &sent {
            self.take(one)?;
        }
        self.model.settle()?;
        // The observer reads at once, so that it is never behind.
        if self.peers.first().is_some_and(|peer| 0 < peer.unread) {
            let bytes = self.peers[0].unread;
            self.read(0, bytes)?;
        }
        Ok(())
    }

    fn take(&mut self, sent: &Sent) -> Checked {
        let Some(at) = self.peers.iter().position(|peer| peer.id == sent.to) else { return Ok(()) };
        let (header, peer) = (&sent.header, &mut self.peers[at]);
        let key = (peer.id.to_wire(), header.call);
        match header.kind {
            Kind::Item if at == 0 => self.observe(sent),
            Kind::Item => {
                let item = self.item(sent, at)?;
                self.model.given(key, header.seq, &item)
            }
            Kind::Reply => match peer.publishing.remove(&header.call) {
                // The observer is none of the subscriptions that the model knows.
                Some(ids) => self.model.answered(&ids, header.seq, header.caller - 1),
                None => {
                    self.answer = Some(sent.bytes.clone());
                    Ok(())
                }
            },
            Kind::Outcome => {
                if let Some(ids) = peer.publishing.remove(&header.call) {
                    return self.model.refuse(&ids);
                }
                let outcome = Outcome::from_wire(header.method);
                if !peer.subscriptions.contains(&header.call) {
                    return Err(format!("{outcome} for a call that is not open"));
                }
                peer.subscriptions.retain(|&call| call != header.call);
                match outcome {
                    Outcome::Busy => self.model.ended_as_slow(key),
                    Outcome::Cancelled | Outcome::HandleRevoked => {
                        self.model.queues.remove(&key);
                        Ok(())
                    }
                    other => Err(format!("a subscription ended with {other}")),
                }
            }
            Kind::Event if header.method == Event::SendFailed as u32 => {
                match peer.sent.remove(&header.call) {
                    Some(ids) => self.model.refuse(&ids),
                    None => Err("a message that was never sent has failed".into()),
                }
            }
            Kind::Credit => {
                peer.window_used = peer.window_used.saturating_sub(header.seq);
                Ok(())
            }
            Kind::Welcome
            | Kind::Event
            | Kind::Hello
            | Kind::Goodbye
            | Kind::Call
            | Kind::Send
            | Kind::Cancel => Ok(()),
        }
    }

    /// What the observer is given tells what was published.
    fn observe(&mut self, sent: &Sent) -> Checked {
        let topic = self.peers[0].subscriptions.iter().position(|&call| call == sent.header.call);
        let topic = topic.ok_or("an item of no subscription")?;
        match Delivery::from_wire(sent.header.handle) {
            Some(Delivery::Message) => {
                let entry = self.entry(sent, topic);
                let by = sent.header.caller >> 32;
                self.model.publish(self.publisher(by), &entry)
            }
            Some(Delivery::Subscribed) => Ok(()),
            other => Err(format!("the observer was given {other:?}")),
        }
    }

    /// A publisher by its process: one that has come again has sent nothing before it did.
    fn publisher(&self, pid: u64) -> u64 {
        pid
    }

    fn entry(&self, sent: &Sent, topic: usize) -> Entry {
        let tail = Tail::of(&sent.header, &sent.bytes);
        let id = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
        let batched = sent.header.flags & flags::BATCH != 0;
        let messages: Vec<&[u8]> = if batched {
            Parts::of(tail.payload).map(|part| part.payload).collect()
        } else {
            vec![tail.payload]
        };
        let ids = messages.iter().map(|message| id(message)).collect();
        let sizes = messages.iter().map(|message| message.len()).collect();
        Entry { topic, sequence: sent.header.deadline, ids, batched, sizes }
    }

    fn item(&self, sent: &Sent, at: usize) -> Checked<Item> {
        let header = &sent.header;
        let kind = Delivery::from_wire(header.handle).ok_or("an unknown kind of item")?;
        match kind {
            Delivery::Subscribed => return Ok(Item::Subscribed(header.epoch)),
            Delivery::Lost => return Ok(Item::Lost(header.epoch, header.deadline)),
            Delivery::Message | Delivery::Earlier => {}
        }
        let tail = Tail::of(header, &sent.bytes);
        let named = tail.extensions().and_then(|all| all.find(extension_type::TOPIC));
        let known = |topic: usize| {
            let found = self.entry(sent, topic);
            let count = found.ids.len() as u64;
            let same = |entry: &Entry| *entry == found || entry.latest(count) == found;
            self.model.log[topic].iter().any(same)
        };
        let topic = match named {
            Some(name) => TOPICS.iter().position(|topic| topic.as_bytes() == name),
            None => (0..TOPICS.len()).find(|&topic| known(topic)),
        };
        let topic = topic.ok_or_else(|| format!("peer {at} was given what nobody published"))?;
        let entry = self.entry(sent, topic);
        Ok(match kind {
            Delivery::Earlier => Item::Earlier(header.epoch, entry),
            Delivery::Message | Delivery::Subscribed | Delivery::Lost => Item::Message(header.epoch, entry),
        })
    }

    /// Does to what the broker sends what a bug might do.
    fn tamper(&mut self, plant: Plant, sent: &mut Vec<Sent>) {
        if self.generation <= PEERS as u32 + 1 && self.now == Instant(1) && self.peers.len() <= PEERS {
            return;
        }
        let observer = self.peers[0].id;
        let of = |one: &Sent, kind: Delivery| {
            one.to != observer && one.header.kind == Kind::Item && one.header.handle == kind as u64
        };
        let message = sent.iter().position(|one| of(one, Delivery::Message));
        let lost = sent.iter().position(|one| of(one, Delivery::Lost));
        let publishing = |one: &Sent| {
            one.header.kind == Kind::Reply
                && self
                    .peers
                    .iter()
                    .any(|peer| peer.id == one.to && peer.publishing.contains_key(&one.header.call))
        };
        let reply = sent.iter().position(publishing);
        let failure = sent
            .iter()
            .position(|one| one.header.kind == Kind::Event && one.header.method == Event::SendFailed as u32);
        match (plant, message, lost, reply, failure) {
            (Plant::DropItem, Some(at), ..) => drop(sent.remove(at)),
            (Plant::DoubleItem, Some(at), ..) => sent.insert(at, sent[at].clone()),
            (Plant::SwapItems, Some(at), ..) => {
                let same = |one: &Sent| (one.to, one.header.call) == (sent[at].to, sent[at].header.call);
                let other = (at + 1..sent.len())
                    .find(|&other| of(&sent[other], Delivery::Message) && same(&sent[other]));
                if let Some(other) = other {
                    // Numbered as if nothing had happened.
                    let (one, two) = (sent[at].header.seq, sent[other].header.seq);
                    sent.swap(at, other);
                    sent[at].header.seq = one;
                    sent[other].header.seq = two;
                }
            }
            (Plant::WrongPosition, Some(at), ..) => sent[at].header.epoch += 1,
            (Plant::WrongSequence, Some(at), ..) => sent[at].header.deadline += 1,
            (Plant::LostTooShort, _, Some(at), ..) => sent[at].header.deadline -= 1,
            (Plant::LostTooLong, _, Some(at), ..) => sent[at].header.deadline += 1,
            (Plant::LostUnsaid, _, Some(at), ..) => drop(sent.remove(at)),
            (Plant::AnotherPayload, Some(at), ..) => {
                let from = usize::from(sent[at].header.ext_len);
                let batch = if sent[at].header.flags & flags::BATCH == 0 { 0 } else { 8 };
                sent[at].bytes[from + batch] ^= 1;
            }
            (Plant::TopicMisnamed, Some(at), ..) if sent[at].header.ext_len != 0 => {
                sent[at].bytes[4] ^= b'a' ^ b'b';
            }
            (Plant::ReplyMiscounted, _, _, Some(at), _) => sent[at].header.caller += 1,
            (Plant::ReplyUnsaid, _, _, Some(at), _) => drop(sent.remove(at)),
            (Plant::FailureUnsaid, _, _, _, Some(at)) => drop(sent.remove(at)),
            (Plant::UnaskedItem, Some(at), ..) => {
                let other = sent[at].header.call + 1;
                sent[at].header.call = other;
            }
            _ => {}
        }
    }
}

fn control(call: u64, what: Operation) -> Header {
    Header { call, method: what as u32, ..Header::new(Kind::Call) }
}
