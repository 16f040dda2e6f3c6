//! Seeded worlds around the very broker core that the daemon links: clients, servers and hostile
//! peers that connect, call, answer late, twice or never, send garbage, stop reading and leave, on a
//! clock that jumps. Everything the broker says is checked; the same seed gives the same trace.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use switchboard_core::{
    Breach, Broker, Departure, Effect, Identity, Input, Instance, Limits, Policy, SendTail, Settings,
};
use switchboard_protocol::control::{Open, Opened, Operation, Serve, Served, Status};
use switchboard_protocol::{
    FrameError, HELLO_MAGIC, Header, Hello, Instant, Kind, Outcome, PeerId, VERSION, Verb, decode, encode,
    flags, padded,
};

/// A bug that stands between the core and the world, to show that the checks see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// An outcome is not sent.
    LostOutcome,
    /// A reply is sent twice.
    DoubledReply,
    /// A reply goes to another peer.
    Misdelivered,
    /// Two requests to one server change places.
    Swapped,
    /// The broker hears of time later than it is.
    LateClock,
    /// A disconnect is not handed in.
    ForgottenDisconnect,
    /// A request is handed to a server twice.
    DoubledRequest,
    /// A reply is taken from a server that was not asked, as if from the right one.
    ImpostorHeard,
    /// Priorities of delivered requests are not capped.
    Uncapped,
    /// Deadlines of delivered requests are later than the caller's.
    Stretched,
    /// Effects depend on something outside the seed.
    Unrepeatable,
    /// An item is given out beyond the caller's credit.
    ItemTooMany,
}

impl Planted {
    /// Every bug.
    pub const ALL: [Self; 12] = [
        Self::LostOutcome,
        Self::DoubledReply,
        Self::Misdelivered,
        Self::Swapped,
        Self::LateClock,
        Self::ForgottenDisconnect,
        Self::DoubledRequest,
        Self::ImpostorHeard,
        Self::Uncapped,
        Self::Stretched,
        Self::Unrepeatable,
        Self::ItemTooMany,
    ];
}

const STEPS: usize = 400;
const PEERS_MAX: usize = 8;
const NAMES: [&str; 3] = ["sim.one", "sim.two", "sim.three"];
const PRIORITY_MAX: u8 = 4;

/// Runs a seed twice and compares; `Err` says which promise was broken.
pub fn run(seed: u64, planted: Option<Planted>) -> Result<u64, String> {
    let first = World::new(seed, planted, 0).live().map_err(|why| format!("seed {seed}: {why}"))?;
    let second = World::new(seed, planted, 1).live().map_err(|why| format!("seed {seed}, again: {why}"))?;
    if first != second {
        return Err(format!("seed {seed}: the same seed gave another trace"));
    }
    Ok(first)
}

/// What an open call of a peer waits for.
#[derive(Clone, Debug)]
struct Asked {
    operation: Option<Operation>,
    deadline: u64,
    credit: u64,
    stream: bool,
}

/// A peer as the world sees it.
#[derive(Debug, Default)]
struct Peer {
    id: Option<PeerId>,
    uid: u32,
    /// Told to go, or not let in: what it has open counts no more.
    closed: bool,
    reads: bool,
    unread: usize,
    next_call: u64,
    open: BTreeMap<u64, Asked>,
    handles: Vec<u64>,
    serving: Vec<u64>,
    /// Requests that it was given and has not ended: by id, whose call it is and its stream's credit.
    requests: BTreeMap<u64, u64>,
}

struct World {
    dice: u64,
    broker: Broker<Vec<u8>>,
    now: u64,
    peers: Vec<Peer>,
    generations: Vec<u32>,
    forgotten: BTreeSet<u32>,
    trace: DefaultHasher,
    planted: Option<Planted>,
    run: u32,
    /// The number that each payload carries, by sender, handle and priority: the last one delivered.
    sequence: BTreeMap<(PeerId, u64, u8, u64), u64>,
    numbers: u64,
    /// By number of payload: deadline and priority as asked for.
    asked: BTreeMap<u64, (u64, u8)>,
    delivered: BTreeSet<u64>,
    swap: Option<(PeerId, Header, Vec<u8>)>,
    /// Whose out queue has left, to be reported once the effects at hand are carried out.
    wrote: Vec<PeerId>,
    /// The input at hand is an answer of somebody who was not asked.
    impostor: bool,
}

impl World {
    fn new(seed: u64, planted: Option<Planted>, run: u32) -> Self {
        let mut limits = Limits::default();
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        dice ^= dice >> 29;
        limits.user_default.calls_open = 8 + (dice % 20) as u32;
        limits.user_default.handles = 24;
        limits.user_default.waiting = 6;
        limits.user_default.buffered_bytes = 4096;
        limits.user_default.connections_per_second = 1_000_000;
        limits.link_bytes_low = 256;
        limits.link_bytes_high = 2048;
        limits.link_bytes_max = 8192;
        limits.link_bytes_reserved = 8192;
        limits.user_default.unread_bytes = 1 << 20;
        limits.send_bytes = 1024;
        limits.payload_bytes_max = 1024;
        limits.ageing_step = Duration::from_nanos(40);
        limits.hello_timeout = Duration::from_nanos(200);
        let policy = Policy { priority_max: PRIORITY_MAX, ..Policy::user_instance(1000) };
        let settings = Settings { policy, limits, files: Vec::new() };
        let broker = Broker::new(settings, Instance { incarnation: 1, ..Instance::default() }, Instant(1));
        Self {
            dice,
            broker,
            now: 1,
            peers: Vec::new(),
            generations: vec![0; PEERS_MAX + 1],
            forgotten: (0..=PEERS_MAX as u32).collect(),
            trace: DefaultHasher::new(),
            planted,
            run,
            sequence: BTreeMap::new(),
            numbers: 0,
            asked: BTreeMap::new(),
            delivered: BTreeSet::new(),
            swap: None,
            wrote: Vec::new(),
            impostor: false,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % n
    }

    /// Now and then, where a bug is planted.
    fn strikes(&mut self, bug: Planted) -> bool {
        self.planted == Some(bug) && self.below(6) == 0
    }

    fn live(mut self) -> Result<u64, String> {
        for _ in 0..STEPS {
            self.step()?;
        }
        self.end()?;
        Ok(self.trace.finish())
    }

    fn step(&mut self) -> Result<(), String> {
        self.now += [0, 1, 3, 30, 120][self.below(5) as usize];
        let pick = if self.peers.is_empty() { 0 } else { self.below(40) };
        if pick < 3 {
            return self.connect();
        }
        let at = self.below(self.peers.len() as u64) as usize;
        match pick {
            3 => self.disconnect(at),
            4 => self.input(Input::Wake),
            5 if self.below(6) == 0 => {
                let from = self.id(at);
                self.input(Input::Broken { from, why: Breach::Frame(FrameError::Kind(0x77)) })
            }
            5 => {
                self.peers[at].reads = !self.peers[at].reads;
                self.drain(at)
            }
            6..=8 => self.serve(at),
            9..=12 => self.open(at),
            13..=22 => self.call(at),
            23..=25 => self.send(at),
            26..=33 => self.answer(at),
            34 => self.cancel(at),
            35 => self.credit(at),
            36 => self.garbage(at),
            37 => self.watch(at),
            _ => self.drain(at),
        }
    }

    fn id(&self, at: usize) -> PeerId {
        self.peers[at].id.expect("a peer that is connected")
    }

    fn connect(&mut self) -> Result<(), String> {
        let Some(&slot) = self.forgotten.iter().next().filter(|_| self.peers.len() < PEERS_MAX) else {
            return Ok(());
        };
        self.connect_at(slot).map(drop)
    }

    fn connect_at(&mut self, slot: u32) -> Result<usize, String> {
        self.forgotten.remove(&slot);
        self.generations[slot as usize] += 1;
        let id = PeerId { slot, generation: self.generations[slot as usize] };
        let identity = Identity { uid: 1000, gid: 1000, pid: 100 + slot, ..Identity::default() };
        self.peers.push(Peer { id: Some(id), uid: 1000, reads: true, next_call: 1, ..Peer::default() });
        let at = self.peers.len() - 1;
        self.input(Input::Connect { peer: id, identity })?;
        let hello = Hello { version_min: VERSION, version_max: VERSION, features: 0, program: "sim".into() };
        self.frame(at, Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) }, encode(&hello))?;
        Ok(at)
    }

    fn disconnect(&mut self, at: usize) -> Result<(), String> {
        let peer = self.peers.swap_remove(at);
        let id = peer.id.expect("a peer that is connected");
        if self.strikes(Planted::ForgottenDisconnect) {
            return Ok(());
        }
        self.input(Input::Disconnect { peer: id, how: Departure { exit_status: Some(9) } })
    }

    /// Its out queue leaves for the kernel, all or in part.
    fn drain(&mut self, at: usize) -> Result<(), String> {
        let unread = self.peers[at].unread;
        if unread == 0 {
            return Ok(());
        }
        let bytes = if self.below(2) == 0 { unread } else { 1 + self.below(unread as u64) as usize };
        self.peers[at].unread -= bytes;
        let peer = self.id(at);
        self.input(Input::Wrote { peer, bytes })
    }

    fn frame(&mut self, at: usize, mut header: Header, tail: Vec<u8>) -> Result<(), String> {
        header.len = 64 + tail.len() as u32;
        let from = self.id(at);
        self.input(Input::Frame { from, header, tail })
    }

    fn ask(&mut self, at: usize, header: Header, operation: Option<Operation>) -> Header {
        let peer = &mut self.peers[at];
        let slot =
            (0..).find(|slot| !peer.open.keys().any(|call| *call as u32 == *slot)).expect("a free slot");
        peer.next_call += 1;
        let call = u64::from(slot) | peer.next_call << 32;
        let stream = header.flags & flags::STREAM != 0;
        let asked = Asked { operation, deadline: header.deadline, credit: 0, stream };
        if !peer.closed {
            peer.open.insert(call, asked);
        }
        Header { call, ..header }
    }

    fn control<T: serde::Serialize>(
        &mut self,
        at: usize,
        operation: Operation,
        body: &T,
    ) -> Result<(), String> {
        let header = Header { method: operation as u32, ..Header::new(Kind::Call) };
        let header = self.ask(at, header, Some(operation));
        self.frame(at, header, encode(body))
    }

    fn serve(&mut self, at: usize) -> Result<(), String> {
        let name = NAMES[self.below(3) as usize].into();
        let (mode, wanted) = (u8::from(self.below(4) == 0), self.below(8) as u32);
        let calls = 1 + self.below(4) as u32;
        let serve = Serve { name, mode, flags: wanted, calls, send_bytes: 1024, about: String::new() };
        self.control(at, Operation::Serve, &serve)
    }

    fn open(&mut self, at: usize) -> Result<(), String> {
        let name = NAMES[self.below(3) as usize].into();
        let open = Open { name, kind: 1, rights: Verb::Call.right().0, on_behalf_of: 0 };
        self.control(at, Operation::Open, &open)
    }

    fn watch(&mut self, at: usize) -> Result<(), String> {
        let body = switchboard_protocol::control::OnPattern { pattern: "sim.**".into() };
        let header = Header {
            method: Operation::Watch as u32,
            flags: flags::STREAM,
            deadline: self.now + 500,
            ..Header::new(Kind::Call)
        };
        let header = self.ask(at, header, Some(Operation::Watch));
        self.frame(at, header, encode(&body))
    }

    fn message(&mut self, at: usize, kind: Kind) -> Option<(Header, Vec<u8>)> {
        let count = self.peers[at].handles.len() as u64;
        if count == 0 {
            return None;
        }
        let pick = self.below(count) as usize;
        let handle = self.peers[at].handles[pick];
        let deadline = if self.below(3) == 0 { 0 } else { self.now + self.below(400) };
        let priority = self.below(8) as u8;
        self.numbers += 1;
        self.asked.insert(self.numbers, (deadline, priority));
        let mut tail = self.numbers.to_le_bytes().to_vec();
        tail.resize(8 + self.below(200) as usize, 0);
        Some((Header { handle, deadline, priority, ..Header::new(kind) }, tail))
    }

    fn call(&mut self, at: usize) -> Result<(), String> {
        let Some((mut header, tail)) = self.message(at, Kind::Call) else { return Ok(()) };
        // Nested, sometimes: in service of a request that it has.
        if let Some(&request) = self.peers[at].requests.keys().next()
            && self.below(3) == 0
        {
            header.seq = request;
        }
        if self.below(4) == 0 {
            header.flags = flags::STREAM;
        }
        let header = self.ask(at, header, None);
        self.frame(at, header, tail)
    }

    fn send(&mut self, at: usize) -> Result<(), String> {
        let Some((header, tail)) = self.message(at, Kind::Send) else { return Ok(()) };
        self.frame(at, header, tail)
    }

    /// A server ends a request, streams an item, or gives credit back; sometimes of somebody else's.
    fn answer(&mut self, at: usize) -> Result<(), String> {
        let others: Vec<u64> = self.peers.iter().flat_map(|peer| peer.requests.keys().copied()).collect();
        let own: Vec<u64> = self.peers[at].requests.keys().copied().collect();
        let pool = if self.below(6) == 0 { &others } else { &own };
        if pool.is_empty() {
            return Ok(());
        }
        let call = pool[self.below(pool.len() as u64) as usize];
        let mine = self.peers[at].requests.contains_key(&call);
        let tail = vec![1; self.below(100) as usize];
        if self.below(4) == 0 {
            self.impostor = !mine;
            return self.frame(at, Header { call, ..Header::new(Kind::Item) }, tail);
        }
        if mine {
            self.peers[at].requests.remove(&call);
        }
        self.impostor = !mine;
        let mut speaker = at;
        if !mine && self.planted == Some(Planted::ImpostorHeard) {
            speaker =
                self.peers.iter().position(|peer| peer.requests.contains_key(&call)).expect("whose it is");
        }
        if self.below(4) == 0 {
            let failure = encode(&switchboard_protocol::Failure::new("no"));
            return self.frame(speaker, Header { call, method: 1, ..Header::new(Kind::Outcome) }, failure);
        }
        self.frame(speaker, Header { call, ..Header::new(Kind::Reply) }, tail)
    }

    fn any_open(&mut self, at: usize) -> Option<u64> {
        let count = self.peers[at].open.len() as u64;
        let pick = if count == 0 { return None } else { self.below(count) as usize };
        self.peers[at].open.keys().nth(pick).copied()
    }

    fn cancel(&mut self, at: usize) -> Result<(), String> {
        let Some(call) = self.any_open(at) else { return Ok(()) };
        self.frame(at, Header { call, ..Header::new(Kind::Cancel) }, Vec::new())
    }

    fn credit(&mut self, at: usize) -> Result<(), String> {
        if let Some(&handle) = self.peers[at].serving.first()
            && self.below(2) == 0
        {
            let seq = self.below(2000);
            return self.frame(at, Header { handle, seq, ..Header::new(Kind::Credit) }, Vec::new());
        }
        let Some(call) = self.any_open(at) else { return Ok(()) };
        let seq = 1 + self.below(4);
        let asked = self.peers[at].open.get_mut(&call).expect("an open call");
        if asked.stream && call != 0 {
            asked.credit += seq;
        }
        self.frame(at, Header { call, seq, ..Header::new(Kind::Credit) }, Vec::new())
    }

    fn garbage(&mut self, at: usize) -> Result<(), String> {
        let kinds =
            [Kind::Reply, Kind::Outcome, Kind::Item, Kind::Cancel, Kind::Credit, Kind::Send, Kind::Event];
        // EVENT is the broker's own, and ends the connection: rarely.
        let known = if self.below(8) == 0 { 7 } else { 6 };
        let kind = kinds[self.below(known) as usize];
        let (call, handle, seq) = (self.below(1 << 34), self.below(1 << 34), self.below(1 << 40));
        let tail = vec![9; self.below(64) as usize];
        self.frame(at, Header { call, handle, seq, ..Header::new(kind) }, tail)
    }

    fn input(&mut self, input: Input<Vec<u8>>) -> Result<(), String> {
        let mut effects = Vec::new();
        let now = if self.planted == Some(Planted::LateClock) {
            self.now.saturating_sub(700).max(1)
        } else {
            self.now
        };
        self.broker.handle(Instant(now), input, &mut effects);
        self.broker.check_invariants();
        for effect in effects {
            format!("{effect:?}").hash(&mut self.trace);
            self.effect(effect)?;
        }
        self.impostor = false;
        for peer in std::mem::take(&mut self.wrote) {
            let Some(at) = self.peers.iter().position(|known| known.id == Some(peer)) else { continue };
            let bytes = std::mem::take(&mut self.peers[at].unread);
            if 0 < bytes {
                self.input(Input::Wrote { peer, bytes })?;
            }
        }
        if self.planted == Some(Planted::Unrepeatable) {
            self.run.hash(&mut self.trace);
        }
        // The clock of the world and of the broker agree: what was due is over.
        if self.broker.next_wake().is_some_and(|at| at.0 <= self.now) && self.below(2) == 0 {
            return self.input(Input::Wake);
        }
        Ok(())
    }

    fn effect(&mut self, effect: Effect<Vec<u8>>) -> Result<(), String> {
        match effect {
            Effect::Send { to, header, tail } => {
                let tail = match tail {
                    SendTail::Empty => Vec::new(),
                    SendTail::Forward(tail) | SendTail::Own(tail) => tail,
                    SendTail::Patched(tail, _) => tail,
                };
                self.distort(to, header, tail)
            }
            Effect::Close { peer } => {
                if let Some(peer) = self.peers.iter_mut().find(|known| known.id == Some(peer)) {
                    peer.closed = true;
                    peer.open.clear();
                }
                Ok(())
            }
            Effect::Forget { peer } => {
                self.forgotten.insert(peer.slot);
                Ok(())
            }
            Effect::Pause { .. } | Effect::Resume { .. } | Effect::Reload | Effect::Log(_) => Ok(()),
        }
    }

    /// The planted bug, if there is one, between what the core said and what is heard.
    fn distort(&mut self, to: PeerId, mut header: Header, tail: Vec<u8>) -> Result<(), String> {
        match header.kind {
            Kind::Outcome if self.strikes(Planted::LostOutcome) => return Ok(()),
            Kind::Reply if self.strikes(Planted::DoubledReply) => self.heard(to, header, &tail)?,
            Kind::Call if self.strikes(Planted::DoubledRequest) => self.heard(to, header, &tail)?,
            Kind::Call if self.planted == Some(Planted::Uncapped) => header.priority = 7,
            Kind::Call if self.planted == Some(Planted::Stretched) && header.deadline != 0 => {
                header.deadline += 1;
            }
            Kind::Reply | Kind::Outcome if self.strikes(Planted::Misdelivered) => {
                if let Some(other) = self.peers.iter().filter_map(|peer| peer.id).find(|id| *id != to) {
                    return self.heard(other, header, &tail);
                }
            }
            Kind::Call if self.planted == Some(Planted::Swapped) => match self.swap.take() {
                Some((first, held, bytes)) => {
                    self.heard(to, header, &tail)?;
                    return self.heard(first, held, &bytes);
                }
                None => {
                    self.swap = Some((to, header, tail));
                    return Ok(());
                }
            },
            Kind::Item if self.strikes(Planted::ItemTooMany) => {
                for _ in 0..8 {
                    self.heard(to, header, &tail)?;
                }
            }
            _ => {}
        }
        self.heard(to, header, &tail)
    }

    /// What a peer hears from the broker, checked against what it was promised.
    fn heard(&mut self, to: PeerId, header: Header, tail: &[u8]) -> Result<(), String> {
        let Some(at) = self.peers.iter().position(|peer| peer.id == Some(to)) else {
            // It has left; nothing is promised to it.
            return Ok(());
        };
        let len = padded(header.len as usize);
        self.peers[at].unread += len;
        match header.kind {
            Kind::Reply | Kind::Outcome => self.ended(at, &header, tail)?,
            Kind::Call => self.requested(at, to, &header, tail)?,
            Kind::Send => self.in_order(to, &header, tail)?,
            Kind::Item => {
                let Some(asked) = self.peers[at].open.get_mut(&header.call) else {
                    return Err(format!("an item of call {:#x}, which is not open", header.call));
                };
                asked.credit = asked.credit.checked_sub(1).ok_or("an item beyond the credit")?;
            }
            Kind::Event => {
                if header.method == 1 {
                    self.peers[at].handles.retain(|handle| *handle != header.handle);
                }
            }
            Kind::Welcome | Kind::Goodbye | Kind::Cancel | Kind::Credit => {}
            Kind::Hello => return Err("the broker said hello".into()),
        }
        if self.peers[at].reads && self.below(3) == 0 {
            self.wrote.push(to);
        }
        Ok(())
    }

    fn ended(&mut self, at: usize, header: &Header, tail: &[u8]) -> Result<(), String> {
        let (now, impostor) = (self.now, self.impostor);
        let peer = &mut self.peers[at];
        let Some(asked) = peer.open.remove(&header.call) else {
            return Err(format!("call {:#x} of {:?} ended twice, or was never made", header.call, peer.id));
        };
        let outcome =
            if header.kind == Kind::Reply { Outcome::Reply } else { Outcome::from_wire(header.method) };
        if outcome == Outcome::DeadlineExceeded
            && (asked.deadline == 0 || now < asked.deadline)
            && asked.operation.is_some()
        {
            return Err(format!("a control call ended before its deadline {}, at {now}", asked.deadline));
        }
        if impostor && asked.operation.is_none() && outcome == Outcome::Reply {
            return Err("an answer was taken from a peer that was not asked".into());
        }
        match (asked.operation, outcome) {
            (Some(Operation::Open), Outcome::Reply) => {
                peer.handles.push(decode::<Opened>(tail).ok_or("a malformed Opened")?.handle);
            }
            (Some(Operation::Serve), Outcome::Reply) => {
                peer.serving.push(decode::<Served>(tail).ok_or("a malformed Served")?.handle);
            }
            _ => {}
        }
        Ok(())
    }

    fn requested(&mut self, at: usize, to: PeerId, header: &Header, tail: &[u8]) -> Result<(), String> {
        if !self.peers[at].serving.contains(&header.handle) && self.planted.is_none() {
            // SERVE's answer comes before the first request.
            return Err(format!(
                "a request on serving handle {:#x}, which {to:?} was not told of",
                header.handle
            ));
        }
        if self.peers[at].requests.insert(header.call, header.seq).is_some() {
            return Err(format!("request {:#x} was delivered twice", header.call));
        }
        let number = u64::from_le_bytes(tail[..8].try_into().map_err(|_| "a short payload")?);
        let (deadline, _) = self.asked[&number];
        if PRIORITY_MAX < header.priority {
            return Err(format!("priority {} was not capped", header.priority));
        }
        if deadline != 0 && (header.deadline == 0 || deadline < header.deadline) {
            return Err(format!("deadline {deadline} became {}", header.deadline));
        }
        if header.deadline != 0 && header.deadline <= self.now && self.planted == Some(Planted::LateClock) {
            return Err("a request was delivered after its deadline".into());
        }
        if !self.delivered.insert(number) {
            return Err(format!("message {number} was delivered twice"));
        }
        self.in_order(to, header, tail)
    }

    /// FIFO per (sender, server, priority); numbers grow with every message of the world. Ageing
    /// moves messages between levels of choice, never within one.
    fn in_order(&mut self, to: PeerId, header: &Header, tail: &[u8]) -> Result<(), String> {
        let Some(number) = tail.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) else {
            return Ok(());
        };
        let key = (PeerId::from_wire(header.seq), to.to_wire(), header.priority, header.handle);
        match self.sequence.insert(key, number) {
            Some(last) if number <= last => Err(format!("message {number} came after {last} to {to:?}")),
            _ => Ok(()),
        }
    }

    /// Time passes, everybody leaves: every call has ended, and nothing is left.
    fn end(&mut self) -> Result<(), String> {
        if let Some((to, header, tail)) = self.swap.take() {
            self.heard(to, header, &tail)?;
        }
        self.now += 2_000;
        self.settle()?;
        // What has no deadline ends when its server leaves.
        while let Some(at) = self.peers.iter().position(|peer| !peer.serving.is_empty()) {
            let peer = self.peers.swap_remove(at);
            self.input(Input::Disconnect { peer: peer.id.expect("connected"), how: Departure::default() })?;
            self.settle()?;
        }
        for peer in &self.peers {
            let left: Vec<_> =
                peer.open.iter().filter(|(_, asked)| asked.operation != Some(Operation::Watch)).collect();
            if !left.is_empty() {
                return Err(format!("calls of {:?} (user {}) never ended: {left:?}", peer.id, peer.uid));
            }
        }
        while let Some(peer) = self.peers.pop() {
            self.input(Input::Disconnect { peer: peer.id.expect("connected"), how: Departure::default() })?;
        }
        self.settle()?;
        self.planted = None;
        let at = self.connect_at(PEERS_MAX as u32)?;
        let header = Header { method: Operation::Status as u32, call: 1, ..Header::new(Kind::Call) };
        let mut effects = Vec::new();
        let from = self.id(at);
        self.broker.handle(Instant(self.now), Input::Frame { from, header, tail: Vec::new() }, &mut effects);
        let status = effects.iter().find_map(|effect| match effect {
            Effect::Send { tail: SendTail::Own(body), .. } => decode::<Status>(body),
            _ => None,
        });
        let status = status.ok_or("no status")?;
        let left = (
            status.connections,
            status.names,
            status.handles,
            status.calls_open,
            status.waiting,
            status.waiting_bytes,
        );
        if left != (1, 0, 0, 0, 0, 0) {
            return Err(format!(
                "left behind (connections, names, handles, calls, waiting, bytes): {left:?}"
            ));
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..200 {
            match self.broker.next_wake() {
                Some(at) if at.0 <= self.now => self.input(Input::Wake)?,
                _ => return Ok(()),
            }
        }
        Err("the broker did not come to rest".into())
    }
}
