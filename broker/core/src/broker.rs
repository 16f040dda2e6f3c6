//! The broker itself: what it holds, and who deals with which input.

use crate::call::Call;
use crate::handle::{Grip, Loss};
use crate::monitor::Monitor;
use crate::object::{Object, Server};
use crate::peer::{Peer, Stage};
use crate::queue::Queues;
use crate::report::Counters;
use crate::signal::Signals;
use crate::siphash::SipHash;
use crate::slab::Slab;
use crate::storage::Storage;
use crate::timers::Timers;
use crate::topic::Topics;
use crate::user::User;
use crate::waiting::Waiting;
use crate::watch::Watch;
use crate::{
    Departure, Effect, Effects, Fact, Input, Instance, Limits, Payload, Policy, Recording, Settings,
};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use switchboard_protocol::{
    Event, Failure, GoodbyeReason, Handle, Header, Instant, Kind, Name, Outcome, PeerId,
};

/// The broker: who is connected, who serves what, who waits for whom.
///
/// `P` is what a frame carries behind its header; see [`Payload`]. The broker owns no thread and
/// performs no I/O: [`Broker::handle`] takes what has happened and says what is to be done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "P: Payload")]
pub struct Broker<P> {
    pub(crate) policy: Policy,
    pub(crate) limits: Limits,
    pub(crate) instance: Instance,
    pub(crate) incarnation: u32,
    pub(crate) started: Instant,
    /// Epochs given out by this incarnation.
    pub(crate) epochs: u32,
    /// By the driver's slot.
    pub(crate) peers: Vec<Option<Peer>>,
    pub(crate) connections: u32,
    pub(crate) users: Slab<User>,
    users_by_id: BTreeMap<u32, u32>,
    /// In the order of names: listings and watches go through it. Lookups cost a few comparisons of
    /// short strings, and no key that a client chooses can make them cost more.
    pub(crate) names: BTreeMap<Name, u32>,
    pub(crate) names_owned: u32,
    pub(crate) objects: Slab<Object>,
    pub(crate) servers: Slab<Server>,
    pub(crate) handles: Slab<Grip>,
    pub(crate) calls: Slab<Call>,
    pub(crate) calls_open: u32,
    pub(crate) waiting: Slab<Waiting<P>>,
    /// Bytes held for all users: messages that wait, frames half received.
    pub(crate) buffered_bytes: u64,
    /// Those of them that are set aside for frames that are coming in.
    pub(crate) receiving_bytes: u64,
    /// Bytes that wait to be read by all peers, beyond what each may have for nothing.
    pub(crate) unread_bytes: u64,
    /// Watches, waits and monitors.
    pub(crate) watching: u32,
    pub(crate) watches: Slab<Watch>,
    pub(crate) monitors: Slab<Monitor>,
    pub(crate) topics: Topics<P>,
    pub(crate) queues: Queues<P>,
    pub(crate) signals: Signals,
    pub(crate) storage: Storage<P>,
    pub(crate) recording: Recording,
    /// Wall time minus `now`, in nanoseconds.
    pub(crate) wall_offset: i128,
    pub(crate) timers: Timers<Timer>,
    /// What is left over from earlier inputs, done a slice at a time.
    pub(crate) work: VecDeque<Work>,
    /// Peers with a large frame for which there is no room.
    pub(crate) starved: VecDeque<PeerId>,
    /// Whether [`Work::Feed`] is to be done.
    pub(crate) feeding: bool,
    /// Calls that wait for a reload, by their words.
    pub(crate) reloads: Vec<u64>,
    pub(crate) delay_logged: Option<Instant>,
    pub(crate) shutting_down: bool,
    pub(crate) counters: Counters,
}

/// One input on its way through the broker: when, and what has come of it so far.
pub(crate) struct Turn<'a, P> {
    pub(crate) now: Instant,
    pub(crate) effects: &'a mut dyn Effects<P>,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Timer {
    /// A call's deadline.
    Call(u32),
    /// A peer's admission, or its hello.
    Peer(PeerId),
    /// A lease's end.
    Lease(u32),
    /// The deadline of a message that a topic holds back.
    Held(u32),
}

/// Work that could be long, and so is done in slices between inputs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Take down what a peer had.
    Depart { slot: u32, how: Departure, calls: u32 },
    /// Check handles against new policy, from this slot on.
    ReEvaluate { slot: u32 },
    /// Go on with the snapshot of this watch (as a word: it may have ended).
    Snapshot { watch: u64 },
    /// Let peers try again that had no room for a large frame.
    Feed,
    /// Take away this handle (as a word): the call that it came with has ended.
    TakeAway { handle: u64 },
    /// Give out what waits for this object (as a word: it may be gone).
    Dispatch { object: u64 },
    /// Something about topics.
    Topic(crate::subscription::Chore),
    /// Go on with a walk through a queue (as a word: it may have ended).
    Walk { consumer: u64 },
    /// Take down what is left of a queue that was deleted.
    Drain { queue: u32 },
    /// Take away the handles on this object (as a word: it may be gone), from this slot on.
    Revoke { object: u64, slot: u32 },
    /// Copy what is wanted of the log's oldest segment to its end.
    Compact,
}

/// Things done of the leftover work after each input.
const SLICE: u32 = 64;
/// Timers that may come up in one wake.
pub(crate) const DUE_MAX: u32 = 1024;

impl<P> Turn<'_, P> {
    pub(crate) fn log(&mut self, fact: Fact) {
        self.effects.push(Effect::Log(fact));
    }
}

impl<P: Payload> Broker<P> {
    /// A broker with nobody connected.
    pub fn new(settings: Settings, instance: Instance, now: Instant) -> Self {
        let lease_secrets = SipHash::new(instance.secret, instance.incarnation.into());
        let mut broker = Self {
            incarnation: instance.incarnation,
            instance,
            policy: settings.policy,
            limits: settings.limits,
            started: now,
            epochs: 0,
            peers: Vec::new(),
            connections: 0,
            users: Slab::new(),
            users_by_id: BTreeMap::new(),
            names: BTreeMap::new(),
            names_owned: 0,
            objects: Slab::new(),
            servers: Slab::new(),
            handles: Slab::new(),
            calls: Slab::new(),
            calls_open: 0,
            waiting: Slab::new(),
            buffered_bytes: 0,
            receiving_bytes: 0,
            unread_bytes: 0,
            watching: 0,
            watches: Slab::new(),
            monitors: Slab::new(),
            topics: Topics::new(settings.topics),
            queues: Queues::new(settings.queues, lease_secrets),
            signals: Signals::new(),
            storage: Storage::new(),
            recording: Recording::default(),
            wall_offset: 0,
            timers: Timers::new(),
            work: VecDeque::new(),
            starved: VecDeque::new(),
            feeding: false,
            reloads: Vec::new(),
            delay_logged: None,
            shutting_down: false,
            counters: Counters::default(),
        };
        broker.declare_first_topics();
        broker.make_declared_queues(now);
        broker
    }

    /// Takes one thing that has happened and tells `effects` what is to be done about it.
    ///
    /// Never fails: what the broker turns down is a frame to whoever asked, who breaks the protocol
    /// is told and closed. `now` must not go backwards.
    ///
    /// # Panics
    ///
    /// If the driver breaks its part: a peer connected twice, a frame of one that never connected.
    #[inline(always)]
    pub fn handle(&mut self, now: Instant, input: Input<P>, effects: &mut dyn Effects<P>) {
        let mut turn = Turn { now, effects };
        let turn = &mut turn;
        match input {
            Input::Frame { from, mut header, tail } => self.frame(turn, from, &mut header, &tail),
            Input::Wrote { peer, bytes } => self.wrote(turn, peer.slot, bytes),
            Input::Wake => self.wake(turn),
            Input::Connect { peer, identity } => self.connect(turn, peer, identity),
            Input::Disconnect { peer, how } => self.disconnect(turn, peer, how),
            Input::Oversized { from, header } => self.oversized(turn, from, &header),
            Input::Broken { from, why } => self.broken(turn, from.slot, why),
            Input::Reloaded { result } => self.reloaded(turn, result),
            Input::Shutdown => self.shut_down(turn),
            Input::Clock { wall_ns } => self.clock(turn, wall_ns),
            Input::Recovered { segment, position, record } => self.recovered(turn, segment, position, record),
            Input::LogReady { position, oldest, segment } => self.log_ready(turn, position, oldest, segment),
            Input::Persisted { written, synced } => self.persisted(turn, written, synced),
            Input::LogFailed { message } => self.log_failed(turn, message),
            Input::Recording(recording) => self.take_recording(turn, recording),
        }
        self.settle(turn);
    }

    /// The same as [`Broker::handle`] with an [`Input::Frame`], for a driver that has the frame in its hands
    /// and nothing else to do with it: the header is patched where it lies, on its way to whom it goes.
    ///
    /// # Panics
    ///
    /// As there.
    #[inline(always)]
    pub fn handle_frame(
        &mut self,
        now: Instant,
        from: PeerId,
        header: &mut Header,
        tail: &P,
        effects: &mut dyn Effects<P>,
    ) {
        let mut turn = Turn { now, effects };
        self.frame(&mut turn, from, header, tail);
        self.settle(&mut turn);
    }

    /// What every input ends with: a slice of the work that is left over.
    #[inline(always)]
    fn settle(&mut self, turn: &mut Turn<'_, P>) {
        if !self.work.is_empty() {
            self.work_off(turn);
        }
        if self.queues.stirred {
            self.settle_queues(turn);
        }
    }

    /// Asks for room for a frame of which only the header has come and that is too large for the
    /// shared receive buffer. `false`: the peer was paused ([`Effect::Pause`]); ask again after
    /// [`Effect::Resume`]. `true`: the room is its until the frame is handed in.
    pub fn admit(&mut self, now: Instant, from: PeerId, bytes: u64, effects: &mut dyn Effects<P>) -> bool {
        let mut turn = Turn { now, effects };
        match self.find_peer(from) {
            Some(slot) => self.reserve(&mut turn, slot, bytes),
            None => false,
        }
    }

    /// When to hand in [`Input::Wake`], if nothing else happens before.
    pub fn next_wake(&self) -> Option<Instant> {
        if self.work.is_empty() && !self.queues.stirred {
            self.timers.next().into_iter().chain(self.queues_wake()).min()
        } else {
            Some(Instant(0))
        }
    }

    /// Largest payload that is passed on: the driver skips the tail of a frame with more and hands in
    /// [`Input::Oversized`].
    pub fn payload_bytes_max(&self) -> u32 {
        self.limits.payload_bytes_max
    }

    /// Whether [`Input::Shutdown`] was handed in.
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// The header is patched in place on its way to whom it goes.
    fn frame(&mut self, turn: &mut Turn<'_, P>, from: PeerId, header: &mut Header, tail: &P) {
        // A deadline that has come counts, whatever frame came with it.
        if self.timers.is_due(turn.now) {
            self.wake(turn);
        }
        let slot = from.slot;
        let peer = self.peers[slot as usize].as_mut().expect("a peer that is connected");
        assert!(peer.id == from, "the driver handed in a frame of {from}, which is not connected");
        peer.traffic.frames_in += 1;
        peer.traffic.bytes_in += u64::from(header.len);
        let stage = peer.stage;
        if 0 < peer.reserved {
            self.release(turn, slot);
        }
        if stage != Stage::Ready {
            return self.early_or_late(turn, slot, stage, header, tail);
        }
        match header.kind {
            Kind::Call if header.handle == Handle::BROKER.to_wire() => {
                self.control(turn, slot, *header, tail);
            }
            Kind::Call => self.call(turn, slot, header, tail),
            Kind::Send => self.send(turn, slot, header, tail),
            Kind::Reply | Kind::Outcome => self.answer(turn, slot, header, tail),
            Kind::Item => self.item(turn, slot, header, tail),
            Kind::Cancel => self.cancel(turn, slot, header),
            Kind::Credit if header.call == 0 => self.send_credit(turn, slot, header),
            Kind::Credit => self.stream_credit(turn, slot, header),
            Kind::Goodbye => {
                self.peer_mut(slot).clean = header.method == GoodbyeReason::Done as u32;
                self.expel(turn, slot, GoodbyeReason::Done, "goodbye");
            }
            Kind::Hello => self.expel(turn, slot, GoodbyeReason::Hello, "a second HELLO (SPEC 1.2)"),
            Kind::Welcome | Kind::Event => {
                self.expel(
                    turn,
                    slot,
                    GoodbyeReason::BrokerOnly,
                    "only the broker sends WELCOME and EVENT (SPEC 2.3)",
                );
            }
        }
    }

    /// A frame of a peer that has not said hello yet, or that was told to go.
    #[cold]
    fn early_or_late(&mut self, turn: &mut Turn<'_, P>, slot: u32, stage: Stage, header: &Header, tail: &P) {
        match stage {
            Stage::Greeting if header.kind == Kind::Hello => self.hello(turn, slot, header, tail),
            Stage::Greeting | Stage::Delayed => {
                self.expel(turn, slot, GoodbyeReason::Hello, "the first frame must be HELLO (SPEC 1.2)");
            }
            Stage::Ready | Stage::Closing | Stage::Gone => {}
        }
    }

    /// A frame whose payload is over the limit: only its header is here.
    fn oversized(&mut self, turn: &mut Turn<'_, P>, from: PeerId, header: &Header) {
        let slot = from.slot;
        match self.peer(slot).stage {
            Stage::Ready => {}
            Stage::Greeting | Stage::Delayed => {
                return self.expel(
                    turn,
                    slot,
                    GoodbyeReason::Hello,
                    "the first frame must be HELLO (SPEC 1.2)",
                );
            }
            Stage::Closing | Stage::Gone => return,
        }
        let most = self.limits.payload_bytes_max;
        let len = header.payload_len();
        let message =
            alloc::format!("a payload of {len} bytes; this broker takes {most} (limits.payload_bytes_max)");
        match header.kind {
            Kind::Call => self.refuse(turn, slot, header, Outcome::TooLarge, &message),
            Kind::Send => {
                let failed = Header {
                    method: Event::SendFailed as u32,
                    handle: header.handle,
                    call: header.call,
                    seq: u64::from(Outcome::TooLarge as u32),
                    epoch: 1,
                    ..Header::new(Kind::Event)
                };
                self.counters.sends_failed += 1;
                let body = switchboard_protocol::encode(&Failure::new(message));
                self.push(turn, slot, failed, crate::SendTail::Own(body));
                // The sender took it from its window; it comes back whole.
                let bytes = switchboard_protocol::padded(header.len as usize) as u64;
                let back = Header { handle: header.handle, seq: bytes, ..Header::new(Kind::Credit) };
                self.push(turn, slot, back, crate::SendTail::Empty);
            }
            Kind::Reply | Kind::Outcome | Kind::Item => self.answer_oversized(turn, slot, header),
            _ => self.expel(
                turn,
                slot,
                GoodbyeReason::BadFrame,
                "a control frame with a payload over every limit",
            ),
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&mut self, turn: &mut Turn<'_, P>) {
        for _ in 0..DUE_MAX {
            match self.timers.due(turn.now) {
                None => break,
                Some(Timer::Call(call)) => self.call_due(turn, call),
                Some(Timer::Peer(peer)) => self.peer_due(turn, peer.slot),
                Some(Timer::Lease(lease)) => self.lease_due(turn, lease),
                Some(Timer::Held(held)) => self.held_due(turn, held),
            }
        }
        self.queues_due(turn);
    }

    #[inline(never)]
    fn work_off(&mut self, turn: &mut Turn<'_, P>) {
        let mut budget = SLICE;
        for _ in 0..self.work.len() {
            let Some(work) = self.work.pop_front() else { break };
            let rest = match work {
                Work::Depart { slot, how, calls } => self.depart(turn, slot, how, calls, &mut budget),
                Work::ReEvaluate { slot } => self.re_evaluate(turn, slot, &mut budget),
                Work::Snapshot { watch } => self.show_names(turn, watch, &mut budget),
                Work::Feed => self.feed(turn, &mut budget),
                Work::TakeAway { handle } => {
                    budget = budget.saturating_sub(1);
                    if let Some(handle) = self.handles.find(handle) {
                        self.take_away(turn, handle, Loss::Revoked);
                    }
                    None
                }
                Work::Dispatch { object } => {
                    if let Some(object) = self.objects.find(object) {
                        self.objects[object].dispatch_due = false;
                        self.dispatch(turn, object);
                    }
                    None
                }
                Work::Topic(chore) => self.do_chore(turn, chore, &mut budget),
                Work::Walk { consumer } => self.walk(turn, consumer, &mut budget),
                Work::Drain { queue } => self.drain_queue(turn, queue, &mut budget),
                Work::Revoke { object, slot } => self.revoke_all(turn, object, slot, &mut budget),
                Work::Compact => self.compact(turn, &mut budget),
            };
            // What is left goes to the end, so that one long piece of work does not hold up others.
            self.work.extend(rest);
            if budget == 0 {
                break;
            }
        }
    }

    fn reloaded(&mut self, turn: &mut Turn<'_, P>, result: Result<Settings, alloc::string::String>) {
        let answer = match result {
            Ok(Settings { policy, limits, topics, queues, files }) => {
                self.policy = policy;
                self.limits = limits;
                for peer in self.peers.iter_mut().flatten() {
                    peer.priority_max = self.policy.priority_max(&peer.identity);
                    peer.take_quotas(&self.limits);
                }
                self.work.push_back(Work::ReEvaluate { slot: 0 });
                self.declare_topics(turn, topics);
                self.declare_queues(turn, queues);
                turn.log(Fact::Reloaded);
                Ok(switchboard_protocol::control::Reloaded { files })
            }
            Err(message) => {
                turn.log(Fact::ReloadFailed { message: message.clone() });
                Err(message)
            }
        };
        for call in core::mem::take(&mut self.reloads) {
            let Some(call) = self.calls.find(call) else { continue };
            match &answer {
                Ok(reloaded) => {
                    let (to, id) = (self.calls[call].caller.slot, self.calls[call].caller_call);
                    self.reply(turn, to, id, switchboard_protocol::encode(reloaded));
                    self.erase_call(turn, call);
                }
                Err(message) => self.end_by_broker(turn, call, Outcome::Invalid, message),
            }
        }
    }

    /// The slot of a user, made if need be.
    pub(crate) fn user_of(&mut self, uid: u32) -> u32 {
        *self.users_by_id.entry(uid).or_insert_with(|| self.users.insert(User::new(uid)))
    }

    /// Forgets a user of whom nothing is left. Users with connections are seen to when those leave.
    #[inline]
    pub(crate) fn forget_user_if_unused(&mut self, now: Instant, user: u32) {
        if self.users[user].connections == 0 && self.users[user].is_idle(now) {
            let user = self.users.remove(user);
            self.users_by_id.remove(&user.uid);
        }
    }
}
