//! What is promised, held against every input that the core gets and every effect that it asks for.
//!
//! The oracle knows nothing of how the core works. It keeps for each message what must become of it,
//! and for each handle who holds it on what, as far as the effects have told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use switchboard_core::{Effect, Input, SendTail};
use switchboard_protocol::control::{self, Operation};
use switchboard_protocol::{
    Event, Failure, GoodbyeReason, HandleEntry, Header, Instant, Kind, ObjectKind, Outcome, PeerId, Rights,
    Tail, Verb, decode, padded,
};

use super::post::{Post, kind_of};

/// A message says which one it is, and this of it, so that one whose bits were changed says nothing.
fn mark(uid: u64) -> [u8; 8] {
    uid.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).to_le_bytes()
}

/// The payload of message `uid`, at least as long as it needs to be.
pub(super) fn payload_of(uid: u64, len: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(len.max(16));
    payload.extend_from_slice(&mark(uid));
    payload.extend_from_slice(&uid.to_le_bytes());
    payload.resize(len.max(16), uid as u8);
    payload
}

/// Which message a payload is.
pub(super) fn uid_of(payload: &[u8]) -> Option<u64> {
    let (found, rest) = payload.split_first_chunk::<8>()?;
    let uid = u64::from_le_bytes(*rest.first_chunk::<8>()?);
    (0 < uid && *found == mark(uid)).then_some(uid)
}

/// The domain of errors that services of the simulation answer with.
pub(super) const DOMAIN: &str = "simulation";

/// A name, or a private service; 0 is none.
type Object = u32;

/// Something that a handle is on, of which the oracle does not know what it is.
const UNKNOWN: Object = u32::MAX;

/// One tracked call or send.
#[derive(Debug)]
struct Message {
    sender: PeerId,
    handle: u64,
    object: Object,
    call: bool,
    priority: u8,
    /// In broker time; 0 for none.
    deadline: u64,
    since: u64,
    index: u64,
    delivered: bool,
    /// Ended, or (of a send) told that it failed.
    ended: bool,
    /// Its sender did something that makes it impossible to tell what should become of it.
    spoiled: bool,
    /// Its handle is gone, so that nobody would be told if it failed.
    unheard: bool,
    credit: u64,
    items: u64,
    /// What the handles that it carries are on.
    cargo: Vec<Option<Object>>,
}

/// A request at a server, until the server ends it.
#[derive(Clone, Copy, Debug)]
struct Request {
    server: PeerId,
    serving: u64,
    uid: Option<u64>,
    priority: u8,
    deadline: u64,
    epoch: u64,
}

/// A control operation that is not answered yet.
#[derive(Debug)]
struct Control {
    operation: Option<Operation>,
    body: Vec<u8>,
    credit: u64,
    items: u64,
}

/// A handle that somebody was given.
#[derive(Clone, Copy, Debug)]
struct Grip {
    holder: PeerId,
    object: Option<Object>,
    rights: Rights,
}

#[derive(Debug)]
struct Serving {
    peer: PeerId,
    object: Object,
    calls: u32,
    window: u64,
    outstanding: u32,
    uncredited: u64,
}

#[derive(Debug)]
struct Peer {
    uid: u32,
    pid: u32,
    honest: bool,
    ready: bool,
    closing: bool,
    /// CALLs handed in less ends told, by call id.
    balance: BTreeMap<u64, u32>,
    controls: BTreeMap<u64, Control>,
    calls: BTreeMap<u64, u64>,
}

/// What the present input is, as far as it matters for its effects.
#[derive(Debug, Default)]
struct Present {
    /// The request that it answers, or gives an item of.
    request: Option<Request>,
    cargo: Vec<Option<Object>>,
}

/// What it is for stands at the head of this file.
#[derive(Debug)]
pub struct Oracle {
    peers: BTreeMap<PeerId, Peer>,
    messages: HashMap<u64, Message>,
    /// Messages that are neither delivered nor ended, by object.
    waiting: HashMap<Object, BTreeSet<u64>>,
    requests: HashMap<u64, Request>,
    grips: HashMap<u64, Grip>,
    servings: HashMap<u64, Serving>,
    names: BTreeMap<String, Object>,
    objects: Object,
    /// Objects that are no services, with their names.
    others: HashMap<Object, (ObjectKind, String)>,
    pub(super) post: Post,
    deadlines: BTreeSet<(u64, u64)>,
    /// The last message of each handle, server and priority.
    order: HashMap<(u64, u64, u8), u64>,
    index: u64,
    epoch: u64,
    ageing_step: u64,
    priority_max: fn(u32) -> u8,
    present: Present,
    hash: u64,
}

type Checked = Result<(), String>;

impl Oracle {
    /// An oracle for a broker with nobody connected.
    pub fn new(ageing_step: u64, priority_max: fn(u32) -> u8) -> Self {
        Self {
            peers: BTreeMap::new(),
            messages: HashMap::new(),
            waiting: HashMap::new(),
            requests: HashMap::new(),
            grips: HashMap::new(),
            servings: HashMap::new(),
            names: BTreeMap::new(),
            objects: 0,
            others: HashMap::new(),
            post: Post::default(),
            deadlines: BTreeSet::new(),
            order: HashMap::new(),
            index: 0,
            epoch: 0,
            ageing_step,
            priority_max,
            present: Present::default(),
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// A digest of every effect so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Requests that are at somebody, for those who would like to answer for others.
    pub(super) fn requests(&self) -> Vec<u64> {
        let mut requests: Vec<u64> = self.requests.keys().copied().collect();
        requests.sort_unstable();
        requests
    }

    /// Handles that somebody holds, for those who would like to use them too.
    pub(super) fn handles(&self) -> Vec<u64> {
        let mut handles: Vec<u64> = self.grips.keys().copied().collect();
        handles.sort_unstable();
        handles
    }

    /// Handles that are held, serving ones included.
    pub(super) fn handles_held(&self) -> u32 {
        self.grips.len() as u32
    }

    /// Whether a peer behaves, for which more can be said of it.
    pub(super) fn behaves(&mut self, peer: PeerId, honest: bool) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.honest = honest;
        }
    }

    // --- inputs ---

    /// Takes note of an input before the core gets it.
    pub(super) fn input(&mut self, now: Instant, input: &Input<Vec<u8>>) {
        self.present = Present::default();
        match input {
            Input::Connect { peer, identity } => {
                let model = Peer {
                    uid: identity.uid,
                    pid: identity.pid,
                    honest: true,
                    ready: false,
                    closing: false,
                    balance: BTreeMap::new(),
                    controls: BTreeMap::new(),
                    calls: BTreeMap::new(),
                };
                self.peers.insert(*peer, model);
            }
            Input::Disconnect { peer, .. } => self.disconnect(*peer),
            Input::Frame { from, header, tail } => {
                let peer = &self.peers[from];
                if peer.ready && !peer.closing {
                    self.frame(now, *from, header, tail);
                }
            }
            Input::Oversized { from, header } => {
                let peer = self.peers.get_mut(from).expect("a peer that is connected");
                if !peer.ready || peer.closing {
                    return;
                }
                match header.kind {
                    Kind::Call => *peer.balance.entry(header.call).or_default() += 1,
                    Kind::Reply | Kind::Outcome | Kind::Item => {
                        self.answer(*from, header, Vec::new());
                    }
                    _ => {}
                }
            }
            Input::Broken { .. }
            | Input::Wrote { .. }
            | Input::Wake
            | Input::Reloaded { .. }
            | Input::Clock { .. }
            | Input::Recovered { .. }
            | Input::LogReady { .. }
            | Input::Persisted { .. }
            | Input::LogFailed { .. }
            | Input::Recording(_)
            | Input::Shutdown => {}
        }
    }

    fn disconnect(&mut self, peer: PeerId) {
        let gone = self.peers.get_mut(&peer).expect("a peer that is connected");
        gone.closing = true;
        gone.balance.clear();
        gone.controls.clear();
        gone.calls.clear();
        self.post.leave(peer);
        self.lose_track(|message| message.sender == peer);
        self.requests.retain(|_, request| request.server != peer);
        self.grips.retain(|_, grip| grip.holder != peer);
        self.servings.retain(|_, serving| serving.peer != peer);
    }

    fn frame(&mut self, now: Instant, from: PeerId, header: &Header, bytes: &[u8]) {
        let tail = Tail::of(header, bytes);
        let cargo: Vec<Option<Object>> = tail
            .handles()
            .map(|entry| self.grips.get(&entry.handle).filter(|grip| grip.holder == from)?.object)
            .collect();
        match header.kind {
            Kind::Call => {
                let peer = self.peers.get_mut(&from).expect("a peer that is connected");
                *peer.balance.entry(header.call).or_default() += 1;
                if header.handle == 0 {
                    let control = Control {
                        operation: Operation::from_wire(header.method),
                        body: tail.payload.to_vec(),
                        credit: 0,
                        items: 0,
                    };
                    if control.operation == Some(Operation::Subscribe) && peer.balance[&header.call] == 1 {
                        let Self { grips, others, post, .. } = self;
                        let of = |object: Object| others.get(&object).map(|(_, name)| name.clone());
                        let held = |handle| grips.get(&handle).filter(|grip: &&Grip| grip.holder == from);
                        post.subscribe(from, header.call, tail.payload, |handle| of(held(handle)?.object?));
                    }
                    // A second one under the same id is refused; what is kept is the first.
                    peer.controls.entry(header.call).or_insert(control);
                } else {
                    self.message(now, from, header, &tail, cargo);
                }
            }
            Kind::Send => self.message(now, from, header, &tail, cargo),
            Kind::Reply | Kind::Outcome | Kind::Item => {
                self.answer(from, header, cargo);
            }
            Kind::Credit if header.call == 0 => {
                if let Some(serving) = self.servings.get_mut(&header.handle)
                    && serving.peer == from
                {
                    serving.uncredited = serving.uncredited.saturating_sub(header.seq);
                }
            }
            Kind::Credit => {
                let peer = self.peers.get_mut(&from).expect("a peer that is connected");
                if self.post.credit(from, header) {
                } else if let Some(control) = peer.controls.get_mut(&header.call) {
                    control.credit = control.credit.saturating_add(header.seq);
                } else if let Some(message) =
                    peer.calls.get(&header.call).and_then(|uid| self.messages.get_mut(uid))
                {
                    message.credit = message.credit.saturating_add(header.seq);
                }
            }
            _ => {}
        }
    }

    /// A CALL or SEND on a handle: what is to become of it.
    fn message(
        &mut self,
        now: Instant,
        from: PeerId,
        header: &Header,
        tail: &Tail<'_>,
        cargo: Vec<Option<Object>>,
    ) {
        self.index += 1;
        let grip = self.grips.get(&header.handle).filter(|grip| grip.holder == from);
        if let Some((kind, name)) = grip.and_then(|grip| self.others.get(&grip.object?)) {
            let peer = &self.peers[&from];
            let fresh = peer.balance.get(&header.call) == Some(&1);
            return self.post.frame(from, header, tail, *kind, name, fresh);
        }
        let Some(uid) = uid_of(tail.payload) else { return };
        if let Some(known) = self.messages.get_mut(&uid) {
            known.spoiled = true;
            return;
        }
        let peer = self.peers.get_mut(&from).expect("a peer that is connected");
        let mut priority_max = (self.priority_max)(peer.uid);
        let mut deadline = header.deadline;
        if let Some(parent) = self.requests.get(&header.seq).filter(|parent| parent.server == from) {
            priority_max = priority_max.max(parent.priority);
            if parent.deadline != 0 && (deadline == 0 || parent.deadline < deadline) {
                deadline = parent.deadline;
            }
        }
        let grip = self.grips.get(&header.handle).filter(|grip| grip.holder == from);
        let allowed = grip.is_some_and(|grip| grip.rights.contains(Verb::Call.right()));
        let object = grip.map_or(0, |grip| grip.object.unwrap_or(UNKNOWN));
        let call = header.kind == Kind::Call;
        let mut message = Message {
            sender: from,
            handle: header.handle,
            // Without a handle that allows it, it must not be delivered to anybody.
            object: if allowed { object } else { 0 },
            call,
            priority: header.priority.min(priority_max),
            deadline,
            since: now.0,
            index: self.index,
            delivered: false,
            ended: false,
            spoiled: false,
            unheard: false,
            credit: 0,
            items: 0,
            cargo,
        };
        if call {
            if peer.calls.contains_key(&header.call) || peer.controls.contains_key(&header.call) {
                message.spoiled = true;
            } else {
                peer.calls.insert(header.call, uid);
            }
            if deadline != 0 && !message.spoiled {
                self.deadlines.insert((deadline, uid));
            }
        } else {
            message.spoiled = header.call != uid;
        }
        self.waiting.entry(message.object).or_default().insert(uid);
        self.messages.insert(uid, message);
    }

    /// REPLY, OUTCOME or ITEM: the request that it is about, if it is at who sends it.
    fn answer(&mut self, from: PeerId, header: &Header, cargo: Vec<Option<Object>>) {
        let Some(request) = self.requests.get(&header.call).copied().filter(|it| it.server == from) else {
            return;
        };
        self.present = Present { request: Some(request), cargo };
        if header.kind != Kind::Item {
            self.requests.remove(&header.call);
            if let Some(serving) = self.servings.get_mut(&request.serving) {
                serving.outstanding -= 1;
            }
        }
    }

    /// A message is in no line any more.
    fn settle(&mut self, uid: u64) {
        if let Some(message) = self.messages.get_mut(&uid) {
            message.ended = true;
            self.deadlines.remove(&(message.deadline, uid));
            if let Some(waiting) = self.waiting.get_mut(&message.object) {
                waiting.remove(&uid);
            }
        }
    }

    // --- effects ---

    /// Holds the effects of the present input against what is promised.
    pub(super) fn effects(&mut self, now: Instant, effects: &[Effect<Vec<u8>>]) -> Checked {
        for effect in effects {
            match effect {
                Effect::Send { to, header, tail } => {
                    self.digest(header, tail, *to);
                    self.sent(now, *to, header, tail)?;
                }
                Effect::Close { peer } => {
                    self.mix(0xc105e, peer.to_wire());
                    let closed = self.known(*peer)?;
                    if closed.closing {
                        return Err(format!("{peer} is closed twice"));
                    }
                    closed.closing = true;
                }
                Effect::Forget { peer } => {
                    self.mix(0xf02637, peer.to_wire());
                    self.peers.remove(peer).ok_or_else(|| format!("{peer} is forgotten twice"))?;
                }
                Effect::Pause { peer } => self.mix(1, peer.to_wire()),
                Effect::Resume { peer } => self.mix(2, peer.to_wire()),
                Effect::Reload => self.mix(3, 0),
                Effect::Append { position, .. } => self.mix(4, *position),
                Effect::Sync => self.mix(7, 0),
                Effect::Roll { segment } => self.mix(5, u64::from(*segment)),
                Effect::DropSegment { segment } => self.mix(6, u64::from(*segment)),
                Effect::Log(_) => {}
            }
        }
        Ok(())
    }

    /// After a wake at which nothing was left to do: no deadline may have passed.
    pub(super) fn woken(&self, now: Instant) -> Checked {
        for &(deadline, uid) in self.deadlines.range(..=(now.0, u64::MAX)) {
            let message = &self.messages[&uid];
            let waits = self.peers.get(&message.sender).is_some_and(|peer| !peer.closing);
            if waits && !message.ended && !message.spoiled {
                return Err(format!("call {uid} is open at {}, after its deadline {deadline}", now.0));
            }
        }
        Ok(())
    }

    fn known(&mut self, peer: PeerId) -> Result<&mut Peer, String> {
        self.peers.get_mut(&peer).ok_or_else(|| format!("an effect for {peer}, who is not there"))
    }

    fn sent(&mut self, now: Instant, to: PeerId, header: &Header, tail: &SendTail<Vec<u8>>) -> Checked {
        let peer = self.known(to)?;
        if peer.closing {
            return Err(format!("{:?} for {to}, whose connection has ended", header.kind));
        }
        let honest = peer.honest;
        let extended;
        let bytes: &[u8] = match tail {
            SendTail::Empty => &[],
            SendTail::Forward(bytes)
            | SendTail::Patched(bytes, _)
            | SendTail::Own(bytes)
            | SendTail::Shown(bytes) => bytes,
            SendTail::Extended(..) => {
                extended = tail.to_bytes(header);
                &extended
            }
        };
        if bytes.len() != header.tail_len() {
            return Err(format!("a {:?} whose header says {} bytes", header.kind, header.len));
        }
        let view = Tail::of(header, bytes);
        let entries: &[HandleEntry] = match tail {
            SendTail::Patched(_, entries) => entries,
            SendTail::Forward(_) if header.handles != 0 => {
                return Err("a handle table of the sender's was passed on as it is".into());
            }
            _ => &[],
        };
        match header.kind {
            Kind::Welcome => peer.ready = true,
            Kind::Goodbye => {
                let fine = matches!(
                    GoodbyeReason::from_wire(header.method),
                    GoodbyeReason::Done
                        | GoodbyeReason::HelloTimeout
                        | GoodbyeReason::TooManyConnections
                        | GoodbyeReason::NotReading
                        | GoodbyeReason::ShuttingDown
                );
                if honest && !fine {
                    let text = String::from_utf8_lossy(view.payload).into_owned();
                    return Err(format!("{to} did nothing wrong and is sent away: {text}"));
                }
            }
            Kind::Call => self.request(now, to, header, &view, entries)?,
            Kind::Send => self.delivery(now, to, header, &view, entries)?,
            Kind::Reply | Kind::Outcome => self.end(now, to, header, &view, entries)?,
            Kind::Item => self.item(now, to, header, &view, entries)?,
            Kind::Event => self.event(to, header)?,
            Kind::Credit | Kind::Cancel => {}
            Kind::Hello => return Err("the broker says hello".into()),
        }
        Ok(())
    }

    /// A message reaches a server: the right one, with what it may have, in its turn.
    fn delivered(
        &mut self,
        now: Instant,
        to: PeerId,
        header: &Header,
        view: &Tail<'_>,
        entries: &[HandleEntry],
    ) -> Result<Option<u64>, String> {
        let serving =
            self.servings.get(&header.handle).filter(|serving| serving.peer == to).ok_or_else(|| {
                format!("{to} is given a message on {:#x}, which it does not serve", header.handle)
            })?;
        let object = serving.object;
        let uid = uid_of(view.payload).filter(|uid| self.messages.contains_key(uid));
        let cargo = match uid {
            Some(uid) => self.fits(now, to, header, object, uid)?,
            None => Vec::new(),
        };
        self.take_in(to, entries, &cargo)?;
        Ok(uid)
    }

    fn fits(
        &mut self,
        now: Instant,
        to: PeerId,
        header: &Header,
        object: Object,
        uid: u64,
    ) -> Result<Vec<Option<Object>>, String> {
        let message = &self.messages[&uid];
        if message.spoiled {
            return Ok(Vec::new());
        }
        if message.delivered || message.ended {
            return Err(format!("message {uid} is delivered to {to}, though it was dealt with already"));
        }
        if message.object != object && message.object != UNKNOWN {
            return Err(format!(
                "message {uid} is delivered to {to}, to which its handle {:#x} does not lead",
                message.handle
            ));
        }
        if (header.priority, header.deadline) != (message.priority, message.deadline) {
            return Err(format!(
                "message {uid} has priority {} and deadline {}, and should have {} and {}",
                header.priority, header.deadline, message.priority, message.deadline
            ));
        }
        if let Some(sender) = self.peers.get(&message.sender) {
            let caller = u64::from(sender.uid) | u64::from(sender.pid) << 32;
            if header.seq != message.sender.to_wire() || header.caller != caller {
                return Err(format!("message {uid} is not said to be from who sent it"));
            }
        }
        let rank = |message: &Message| {
            let aged = u64::from(message.priority) + now.0.saturating_sub(message.since) / self.ageing_step;
            (aged.min(7), u64::MAX - message.since)
        };
        let own = rank(message);
        for &other in self.waiting.get(&object).into_iter().flatten() {
            let other_message = &self.messages[&other];
            if other != uid && !other_message.spoiled && own < rank(other_message) {
                return Err(format!("message {uid} is delivered before {other}, whose turn it was"));
            }
        }
        let index = message.index;
        let key = (message.handle, header.handle, message.priority);
        if self.order.insert(key, index).is_some_and(|last| index < last) {
            return Err(format!("message {uid} overtook another of its handle, server and priority"));
        }
        let message = self.messages.get_mut(&uid).expect("it was there");
        message.delivered = true;
        let cargo = std::mem::take(&mut message.cargo);
        if let Some(waiting) = self.waiting.get_mut(&object) {
            waiting.remove(&uid);
        }
        Ok(cargo)
    }

    fn request(
        &mut self,
        now: Instant,
        to: PeerId,
        header: &Header,
        view: &Tail<'_>,
        entries: &[HandleEntry],
    ) -> Checked {
        let uid = self.delivered(now, to, header, view, entries)?;
        let serving = self.servings.get_mut(&header.handle).expect("it was there");
        serving.outstanding += 1;
        if serving.calls < serving.outstanding {
            return Err(format!("{to} has more requests than the {} it agreed to", serving.calls));
        }
        let request = Request {
            server: to,
            serving: header.handle,
            uid,
            priority: header.priority,
            deadline: header.deadline,
            epoch: header.epoch,
        };
        if header.call == 0 || self.requests.insert(header.call, request).is_some() {
            return Err(format!("request {:#x} is given out twice", header.call));
        }
        Ok(())
    }

    fn delivery(
        &mut self,
        now: Instant,
        to: PeerId,
        header: &Header,
        view: &Tail<'_>,
        entries: &[HandleEntry],
    ) -> Checked {
        self.delivered(now, to, header, view, entries)?;
        let bytes = padded(header.len as usize) as u64;
        let serving = self.servings.get_mut(&header.handle).expect("it was there");
        let half = serving.window / 2;
        if serving.window < serving.uncredited + bytes && half < serving.uncredited {
            return Err(format!("{to} is sent more than its window of {}", serving.window));
        }
        serving.uncredited += bytes;
        Ok(())
    }

    /// A call ends: once, for who made it, by who was asked.
    fn end(
        &mut self,
        now: Instant,
        to: PeerId,
        header: &Header,
        view: &Tail<'_>,
        entries: &[HandleEntry],
    ) -> Checked {
        let peer = self.known(to)?;
        let Some(owed) = peer.balance.get_mut(&header.call).filter(|owed| 0 < **owed) else {
            return Err(format!("{to} is told the end of call {:#x}, which is not open", header.call));
        };
        *owed -= 1;
        let doubled = 0 < *owed;
        if !doubled {
            peer.balance.remove(&header.call);
        }
        // Where an id was used twice at once, it cannot be said which of the two this is.
        if doubled && header.kind == Kind::Outcome {
            return Ok(());
        }
        if let Some(control) = peer.controls.remove(&header.call) {
            self.post.end(now, to, header, view);
            return self.control_end(to, header, view, &control);
        }
        if let Some(checked) = self.post.end(now, to, header, view) {
            return checked;
        }
        let peer = self.known(to)?;
        let uid = peer.calls.remove(&header.call);
        self.take_in_answer(to, entries)?;
        let outcome = Outcome::from_wire(header.method);
        let of_service = header.kind == Kind::Reply
            || decode::<Failure>(view.payload).is_some_and(|failure| failure.domain == DOMAIN);
        let answered = self.present.request.filter(|request| request.uid == uid);
        if of_service && answered.is_none() {
            return Err(format!(
                "{to} is given an answer to {:#x} by somebody who was not asked",
                header.call
            ));
        }
        if let Some(request) = answered
            && header.kind == Kind::Reply
            && header.epoch != request.epoch
        {
            return Err(format!(
                "{to} is given a reply of epoch {:#x} by {:#x}",
                header.epoch, request.epoch
            ));
        }
        let Some(uid) = uid else { return Ok(()) };
        let message = &self.messages[&uid];
        if message.spoiled {
            self.settle(uid);
            return Ok(());
        }
        if message.ended {
            return Err(format!("call {uid} ends twice"));
        }
        if outcome == Outcome::DeadlineExceeded
            && header.kind == Kind::Outcome
            && !of_service
            && (message.deadline == 0 || now.0 < message.deadline)
        {
            return Err(format!("call {uid} ends at {} by its deadline {}", now.0, message.deadline));
        }
        if of_service && message.deadline != 0 && message.deadline <= now.0 {
            return Err(format!(
                "call {uid} is answered at {}, after its deadline {}",
                now.0, message.deadline
            ));
        }
        self.settle(uid);
        Ok(())
    }

    fn control_end(&mut self, to: PeerId, header: &Header, view: &Tail<'_>, control: &Control) -> Checked {
        if header.kind == Kind::Outcome {
            return Ok(());
        }
        let malformed = || format!("{to} is given a body that is none by {:?}", control.operation);
        match control.operation {
            Some(Operation::Open) => {
                let ask: control::Open = decode(&control.body).ok_or_else(malformed)?;
                let opened: control::Opened = decode(view.payload).ok_or_else(malformed)?;
                let object = self.object_of(&ask.name);
                if kind_of(&ask) != ObjectKind::Service {
                    self.others.insert(object, (kind_of(&ask), ask.name));
                }
                self.hold(to, opened.handle, Some(object), Rights(opened.rights))?;
            }
            Some(Operation::Narrow) => {
                let ask: control::Narrow = decode(&control.body).ok_or_else(malformed)?;
                let opened: control::Opened = decode(view.payload).ok_or_else(malformed)?;
                let from = self.grips.get(&ask.handle).filter(|grip| grip.holder == to);
                let from = from.ok_or_else(|| format!("{to} narrowed a handle that it has not"))?;
                if !from.rights.contains(Rights(opened.rights)) {
                    return Err(format!("{to} narrowed a handle to more rights"));
                }
                self.hold(to, opened.handle, from.object, Rights(opened.rights))?;
            }
            Some(Operation::Serve) => {
                let ask: control::Serve = decode(&control.body).ok_or_else(malformed)?;
                let served: control::Served = decode(view.payload).ok_or_else(malformed)?;
                let object = if ask.name.is_empty() {
                    self.objects += 1;
                    self.objects
                } else {
                    self.object_of(&ask.name)
                };
                self.hold(to, served.handle, Some(object), Verb::Serve.right())?;
                let serving = Serving {
                    peer: to,
                    object,
                    calls: served.calls,
                    window: served.send_bytes.into(),
                    outstanding: 0,
                    uncredited: 0,
                };
                self.servings.insert(served.handle, serving);
                if served.reference != 0 {
                    let rights = Verb::Call.right() | Verb::Delegate.right();
                    self.hold(to, served.reference, Some(object), rights)?;
                }
                if served.standby == 0 {
                    self.owned(served.epoch)?;
                }
            }
            Some(Operation::Close) => {
                let ask: control::OnHandle = decode(&control.body).ok_or_else(malformed)?;
                self.give_up(to, ask.handle)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn object_of(&mut self, name: &str) -> Object {
        if let Some(&object) = self.names.get(name) {
            return object;
        }
        self.objects += 1;
        self.names.insert(name.to_string(), self.objects);
        self.objects
    }

    fn hold(&mut self, holder: PeerId, handle: u64, object: Option<Object>, rights: Rights) -> Checked {
        match self.grips.insert(handle, Grip { holder, object, rights }) {
            Some(_) => Err(format!("handle {handle:#x} is given out twice")),
            None => Ok(()),
        }
    }

    /// Handles arrive with a message.
    fn take_in(&mut self, to: PeerId, entries: &[HandleEntry], cargo: &[Option<Object>]) -> Checked {
        for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.handle != 0) {
            let object = cargo.get(at).copied().flatten();
            self.hold(to, entry.handle, object, entry.rights)?;
        }
        Ok(())
    }

    fn take_in_answer(&mut self, to: PeerId, entries: &[HandleEntry]) -> Checked {
        if entries.is_empty() {
            return Ok(());
        }
        let cargo = std::mem::take(&mut self.present.cargo);
        self.take_in(to, entries, &cargo)
    }

    fn give_up(&mut self, holder: PeerId, handle: u64) -> Checked {
        match self.grips.get(&handle) {
            Some(grip) if grip.holder == holder => {}
            _ => return Err(format!("{holder} loses handle {handle:#x}, which it does not have")),
        }
        self.grips.remove(&handle);
        if self.servings.remove(&handle).is_some() {
            self.requests.retain(|_, request| request.serving != handle);
        }
        self.lose_track(|message| !message.call && message.handle == handle && message.sender == holder);
        Ok(())
    }

    /// What was sent by somebody who has left, or on a handle that is gone, may still arrive or not;
    /// nobody is told any more.
    fn lose_track(&mut self, which: impl Fn(&Message) -> bool) {
        for waiting in self.waiting.values_mut() {
            waiting.retain(|uid| {
                let message = self.messages.get_mut(uid).expect("a message that waits");
                if which(message) {
                    message.unheard = true;
                    self.deadlines.remove(&(message.deadline, *uid));
                }
                !message.unheard
            });
        }
    }

    fn owned(&mut self, epoch: u64) -> Checked {
        if epoch <= self.epoch {
            return Err(format!("epoch {epoch:#x} comes after {:#x}", self.epoch));
        }
        self.epoch = epoch;
        Ok(())
    }

    fn item(
        &mut self,
        now: Instant,
        to: PeerId,
        header: &Header,
        view: &Tail<'_>,
        entries: &[HandleEntry],
    ) -> Checked {
        if let Some(checked) = self.post.item(now, to, header, view) {
            return checked;
        }
        let peer = self.known(to)?;
        let (items, credit) = if let Some(control) = peer.controls.get_mut(&header.call) {
            control.items += 1;
            (control.items, control.credit)
        } else if peer.balance.contains_key(&header.call) {
            let Some(uid) = peer.calls.get(&header.call).copied() else { return Ok(()) };
            let answered = self.present.request.is_some_and(|request| request.uid == Some(uid));
            let message = self.messages.get_mut(&uid).expect("an open call");
            if message.spoiled {
                return Ok(());
            }
            if !answered {
                return Err(format!("call {uid} gets an item from somebody who was not asked"));
            }
            message.items += 1;
            let counted = (message.items, message.credit);
            self.take_in_answer(to, entries)?;
            counted
        } else {
            return Err(format!("{to} gets an item of call {:#x}, which is not open", header.call));
        };
        if header.seq != items {
            return Err(format!("item {} of call {:#x} comes as item {items}", header.seq, header.call));
        }
        if credit < items {
            return Err(format!("item {items} of call {:#x} comes with credit for {credit}", header.call));
        }
        Ok(())
    }

    fn event(&mut self, to: PeerId, header: &Header) -> Checked {
        match Event::from_wire(header.method) {
            Some(Event::HandleRevoked) => self.give_up(to, header.handle),
            Some(Event::OwnerGained) => self.owned(header.epoch),
            Some(Event::SendFailed) => {
                if let Some(message) = self.messages.get(&header.call)
                    && !message.call
                    && message.sender == to
                {
                    let honest = self.peers.get(&to).is_some_and(|peer| peer.honest);
                    if honest && message.ended && !message.delivered {
                        return Err(format!("send {} is told to have failed twice", header.call));
                    }
                    self.settle(header.call);
                }
                Ok(())
            }
            Some(Event::OwnerReplaced | Event::ShuttingDown) => Ok(()),
            None => Err(format!("an event {} that is none", header.method)),
        }
    }

    // --- the end ---

    /// When everything has come to rest: nobody who is there waits for anything.
    pub(super) fn at_rest(&self) -> Checked {
        for (id, peer) in self.peers.iter().filter(|(_, peer)| !peer.closing) {
            let streams = |word: &u64| {
                let operation = peer.controls.get(word).and_then(|control| control.operation);
                use Operation::{Monitor, Subscribe, Wait, Watch};
                matches!(operation, Some(Watch | Monitor | Wait | Subscribe))
            };
            if let Some((word, _)) = peer.balance.iter().find(|(word, _)| !streams(word)) {
                return Err(format!("call {word:#x} of {id} never ended"));
            }
        }
        let there = self.peers.iter().filter(|(_, peer)| peer.honest && !peer.closing);
        self.post.at_rest(&there.map(|(id, _)| *id).collect())?;
        let mut messages: Vec<_> = self.messages.iter().collect();
        messages.sort_unstable_by_key(|(uid, _)| **uid);
        for (uid, message) in messages {
            let Some(sender) = self.peers.get(&message.sender) else { continue };
            let open = !message.ended && (message.call || !message.delivered);
            if open && !sender.closing && !message.spoiled && !message.unheard {
                let what = if message.call { "call" } else { "send" };
                return Err(format!("{what} {uid} of {} was lost", message.sender));
            }
        }
        Ok(())
    }

    fn mix(&mut self, one: u64, other: u64) {
        for word in [one, other] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }

    fn digest(&mut self, header: &Header, tail: &SendTail<Vec<u8>>, to: PeerId) {
        self.mix(header.kind as u64, to.to_wire());
        self.mix(header.call, header.handle);
        self.mix(header.seq, header.epoch);
        self.mix(header.deadline, u64::from(header.len) | u64::from(header.method) << 32);
        if let SendTail::Patched(_, entries) = tail {
            for entry in entries {
                self.mix(entry.handle, entry.rights.0.into());
            }
        }
    }
}
