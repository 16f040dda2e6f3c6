//! The loop: waits for links that are ready, hands what they bring to the core, and carries out
//! what the core answers.
//!
//! One thread, no lock. A turn waits once, reads each ready link at most once, handles what came,
//! and writes each touched link at most once: three system calls each way for a call that crosses
//! an otherwise idle broker. Nothing is decided here; whom to hear, what to answer and whom to
//! close is the core's to say.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use switchboard_core::{Breach, Broker, Departure, Effect, Effects, Input, Recording, SendTail, Settings};
use switchboard_protocol::{Header, Instant, PeerId};
use switchboard_transport::{
    Alarm, Credentials, Fds, Interest, Listener, Poller, Ready, Reaper, Stream, WallClock, clock, exit_of,
    has_ended, peer_pidfd, process,
};

use crate::buffer::{Buffers, Slice};
use crate::door::{Door, Visit};
use crate::identity::identity;
use crate::link::Links;
use crate::log::{LOG, Log};
use crate::logger::{Level, Logger};
use crate::out_queue::OutQueue;
use crate::recorder::Recorder;

/// Everything the loop owns.
pub(crate) struct Reactor {
    pub(crate) core: Broker<Slice>,
    pub(crate) links: Links,
    pub(crate) poller: Poller,
    pub(crate) doors: Vec<Door>,
    pub(crate) buffers: Buffers,
    pub(crate) logger: Logger,
    /// If what the core is told is recorded.
    recorder: Option<Box<Recorder>>,
    /// Where durable things go; `None` where it could not be opened.
    pub(crate) log: Option<Log>,
    wall_clock: WallClock,
    /// Ends a wait when it is time for something.
    alarm: Alarm,
    /// What it is set to; `u64::MAX` if it is not. It may come too early: what it was for may be gone by then.
    alarm_at: u64,
    reaper: Reaper,
    /// Descriptors that the reaper had no room for yet.
    unclosed: Vec<OwnedFd>,

    /// What the core asked for besides frames, and that is not done yet.
    chores: Vec<Effect<Slice>>,
    ready: Vec<Ready>,
    /// Tokens of the host that were ready.
    calls: Vec<u64>,
    /// Links with something to write, or to be closed.
    pub(crate) touched: Vec<PeerId>,
    /// Links that have written since the core was told.
    pub(crate) reports: Vec<PeerId>,
    /// Links to be looked at without waiting for the poller.
    pub(crate) revisit: Vec<PeerId>,
    /// Links whose death is held back for an exit status, each until when.
    mourning: VecDeque<(u64, PeerId)>,
    reload_wanted: bool,
    /// A descriptor of ours was closed in this turn.
    freed: bool,
    busy: bool,
    spin: Duration,
    pub(crate) now: u64,
    pub(crate) fds: Fds,
}

/// Where the core's effects go. A frame goes straight to the queue of its link. The rest is done right
/// after, in order: none of it changes where a frame of the same input goes.
struct Outbox<'a> {
    links: &'a mut Links,
    buffers: &'a mut Buffers,
    touched: &'a mut Vec<PeerId>,
    chores: &'a mut Vec<Effect<Slice>>,
}

impl Outbox<'_> {
    #[inline]
    fn send(&mut self, to: PeerId, header: &Header, tail: SendTail<Slice>) {
        self.add(to, |out, buffers| out.push(header, tail, buffers));
    }

    #[inline(always)]
    fn add(&mut self, to: PeerId, push: impl FnOnce(&mut OutQueue, &mut Buffers)) {
        let Some(link) = self.links.get_mut(to) else { return };
        if link.mute {
            return;
        }
        push(&mut link.out, self.buffers);
        if !link.touched {
            link.touched = true;
            self.touched.push(to);
        }
    }
}

impl Effects<Slice> for Outbox<'_> {
    fn forward(&mut self, to: PeerId, header: &Header, tail: &Slice) {
        self.add(to, |out, buffers| out.forward(header, tail, buffers));
    }

    fn push(&mut self, effect: Effect<Slice>) {
        match effect {
            Effect::Send { to, header, tail } => self.send(to, &header, tail),
            chore => self.chores.push(chore),
        }
    }
}

/// The first token that is the host's; a listener's is its place in the list. A link's token has a
/// generation in its upper half, which starts at 1.
pub(crate) const HOST: u64 = 1 << 16;

const WALL_CLOCK: u64 = HOST + 201;

const ALARM: u64 = HOST + 202;

/// How long a connection that was lost without a goodbye is held for its process's exit status,
/// which the kernel has only after its parent has taken note. In nanoseconds.
const MOURNING: u64 = 5_000_000;

/// Connections held so at once. When many die together, most go without.
const MOURNERS_MAX: usize = 64;

impl Reactor {
    pub(crate) fn new(core: Broker<Slice>, listeners: Vec<Listener>, spin: Duration) -> io::Result<Self> {
        let poller = Poller::new()?;
        let open = |(token, listener)| Door::open(listener, token, &poller);
        let wall_clock = WallClock::new()?;
        poller.add(&wall_clock, WALL_CLOCK, Interest::READ)?;
        let alarm = Alarm::new()?;
        poller.add(&alarm, ALARM, Interest::READ)?;
        let doors = (0..).zip(listeners).map(open).collect::<io::Result<_>>()?;
        Ok(Self {
            doors,
            core,
            links: Links::default(),
            poller,
            buffers: Buffers::new(),
            logger: Logger::start()?,
            recorder: None,
            log: None,
            wall_clock,
            alarm,
            alarm_at: u64::MAX,
            reaper: Reaper::start()?,
            unclosed: Vec::new(),
            chores: Vec::new(),
            ready: Vec::new(),
            calls: Vec::new(),
            touched: Vec::new(),
            reports: Vec::new(),
            revisit: Vec::new(),
            mourning: VecDeque::new(),
            reload_wanted: false,
            freed: false,
            busy: false,
            spin,
            now: clock::monotonic_ns(),
            fds: Fds::new(),
        })
    }

    /// One turn: waits, for at most `patience`, and does what there is to do.
    pub(crate) fn turn(&mut self, patience: Option<Duration>) -> io::Result<()> {
        self.wait(patience)?;
        self.now = clock::monotonic_ns();
        let ready = std::mem::take(&mut self.ready);
        let revisit = std::mem::take(&mut self.revisit);
        self.busy = !ready.is_empty() || !revisit.is_empty();
        for &event in &ready {
            match event.token {
                token if token < HOST => self.answer_the_door(token as usize),
                LOG => self.log_progress(),
                WALL_CLOCK => self.read_wall_clock()?,
                ALARM => {
                    self.alarm.reset();
                    self.alarm_at = u64::MAX;
                }
                token if token >> 32 == 0 => self.calls.push(token),
                token => self.attend(PeerId::from_wire(token), event),
            }
        }
        for &peer in &revisit {
            self.read(peer);
        }
        self.ready = ready;
        recycle(&mut self.revisit, revisit);
        self.expire();
        self.write_touched();
        self.report_written();
        if let Some(log) = &mut self.log {
            log.commit();
        }
        self.close_descriptors();
        Ok(())
    }

    /// The host's tokens that were ready in the last turn.
    pub(crate) fn take_calls(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.calls)
    }

    /// Whether somebody asked for the configuration to be read again.
    pub(crate) fn take_reload_wanted(&mut self) -> bool {
        std::mem::take(&mut self.reload_wanted)
    }

    /// New configuration was read, or is wrong.
    pub(crate) fn reloaded(&mut self, result: Result<Settings, String>) {
        self.handle(Input::Reloaded { result });
    }

    /// Everybody is told that the broker ends; nobody is let in any more.
    pub(crate) fn shut_down(&mut self) {
        for door in &mut self.doors {
            door.close(&self.poller);
        }
        self.handle(Input::Shutdown);
    }

    /// Hands one input to the core and carries out what it answers.
    #[inline(always)]
    pub(crate) fn handle(&mut self, input: Input<Slice>) {
        let Self { core, links, buffers, touched, chores, now, recorder, .. } = self;
        let outbox = &mut Outbox { links, buffers, touched, chores };
        match recorder {
            None => core.handle(Instant(*now), input, outbox),
            Some(recorder) => recorder.handle(core, Instant(*now), input, outbox),
        }
        if !self.chores.is_empty() {
            self.carry_out();
        }
    }

    /// Hands in a frame, which is patched where it lies on its way on. Whether frames were all that the core
    /// answered.
    #[inline(always)]
    pub(crate) fn frame(&mut self, from: PeerId, header: &mut Header, tail: &Slice) -> bool {
        if self.recorder.is_some() {
            self.handle(Input::Frame { from, header: *header, tail: tail.clone() });
            return false;
        }
        let Self { core, links, buffers, touched, chores, now, .. } = self;
        core.handle_frame(Instant(*now), from, header, tail, &mut Outbox { links, buffers, touched, chores });
        let is_all = self.chores.is_empty();
        if !is_all {
            self.carry_out();
        }
        is_all
    }

    /// Does what the core asked for besides frames.
    #[cold]
    fn carry_out(&mut self) {
        let mut chores = std::mem::take(&mut self.chores);
        for chore in chores.drain(..) {
            self.do_chore(chore);
        }
        self.chores = chores;
    }

    fn do_chore(&mut self, chore: Effect<Slice>) {
        match chore {
            Effect::Send { to, header, tail } => {
                let Self { links, buffers, touched, chores, .. } = self;
                Outbox { links, buffers, touched, chores }.send(to, &header, tail);
            }
            Effect::Resume { peer } => {
                let Some(link) = self.links.get_mut(peer) else { return };
                link.admitted = true;
                link.paused = false;
                self.listen_to(peer);
            }
            Effect::Pause { peer } => {
                // The poller learns of it when it next reports the link: often the pause is over by then.
                let Some(link) = self.links.get_mut(peer) else { return };
                link.paused = true;
            }
            Effect::Close { peer } => {
                let Some(link) = self.links.get_mut(peer) else { return };
                link.closing = true;
                link.deaf = true;
                self.touch(peer);
            }
            Effect::Forget { peer } => self.links.forget(peer),
            Effect::Append { position, head, tail, sync } => {
                self.ready_log().append(position, &head, tail.as_ref(), sync);
            }
            Effect::Sync => self.ready_log().sync(),
            Effect::Roll { segment } => self.ready_log().roll(segment),
            Effect::DropSegment { segment } => self.ready_log().drop_segment(segment),
            Effect::Reload => self.reload_wanted = true,
            Effect::Log(fact) => self.logger.fact(fact),
        }
    }

    fn ready_log(&mut self) -> &mut Log {
        self.log.as_mut().expect("the core appends only to a log that is ready")
    }

    /// Records from now on what the core is told. Where that cannot be, the log and the status say why.
    pub(crate) fn record(&mut self, state: &Path, bytes: u64, payloads: bool, incarnation: u32) {
        self.now = clock::monotonic_ns();
        let started = Recorder::start(state, bytes, payloads, incarnation, &self.core, Instant(self.now));
        let news = match started {
            Ok(mut recorder) => {
                let news = recorder.take_news();
                self.recorder = Some(Box::new(recorder));
                news
            }
            Err(why) => Some(Recording { payloads, failure: Some(why), ..Recording::default() }),
        };
        if let Some(news) = news {
            self.handle(Input::Recording(news));
        }
    }

    /// Tells the core what the wall clock says: at the start, and when somebody has set it.
    pub(crate) fn read_wall_clock(&mut self) -> io::Result<()> {
        self.wall_clock.reset()?;
        self.now = clock::monotonic_ns();
        self.handle(Input::Clock { wall_ns: clock::wall_ns() });
        Ok(())
    }

    /// Asks the core for room for a large frame; if there is none, the link was paused.
    pub(crate) fn admit(&mut self, peer: PeerId, bytes: usize) -> bool {
        let Self { core, links, buffers, touched, chores, now, recorder, .. } = self;
        let (now, bytes, outbox) =
            (Instant(*now), bytes as u64, &mut Outbox { links, buffers, touched, chores });
        let admitted = match recorder {
            None => core.admit(now, peer, bytes, outbox),
            Some(recorder) => recorder.admit(core, now, peer, bytes, outbox),
        };
        self.carry_out();
        admitted
    }

    /// Puts a link on the list of those to write.
    pub(crate) fn touch(&mut self, peer: PeerId) {
        let Some(link) = self.links.get_mut(peer) else { return };
        if !link.touched {
            link.touched = true;
            self.touched.push(peer);
        }
    }

    /// Makes sure that the poller tells when the link can be read, and looks at what it holds.
    pub(crate) fn listen_to(&mut self, peer: PeerId) {
        let Some(link) = self.links.get_mut(peer) else { return };
        if link.incoming.held() > 0 {
            self.revisit.push(peer);
        }
        let Some(link) = self.links.get_mut(peer) else { return };
        let writable = link.asked.is_some_and(|asked| asked.writable);
        self.ask(peer, Interest { readable: true, writable });
    }

    /// Tells the poller what to tell about a link.
    pub(crate) fn ask(&mut self, peer: PeerId, interest: Interest) {
        let Some(link) = self.links.get_mut(peer).filter(|link| link.mourned.is_none()) else { return };
        let told = match link.asked {
            Some(asked) if asked == interest => return,
            Some(_) => self.poller.modify(&link.stream, peer.to_wire(), interest),
            None => self.poller.add(&link.stream, peer.to_wire(), interest),
        };
        match told {
            Ok(()) => link.asked = Some(interest),
            // Out of memory or of watches: this one link cannot be served, the others can.
            Err(error) => {
                link.hung_up = true;
                self.revisit.push(peer);
                self.logger.note(Level::Error, format!("cannot watch connection {peer}: {error}"));
            }
        }
    }

    /// A connection is over: its process's exit status is waited for where there may be one, then
    /// the core is told.
    pub(crate) fn depart(&mut self, peer: PeerId) {
        let Some(link) = self.links.get_mut(peer) else { return };
        let died = link.admitted && !link.closing && link.pid != process::id() && link.mourned.is_none();
        if died
            && self.mourning.len() < MOURNERS_MAX
            && let Some(pidfd) = peer_pidfd(&link.stream)
            && exit_of(&pidfd).is_none()
        {
            // Its end would be reported again and again; its process's comes once, as a hang-up.
            let swapped = self
                .poller
                .remove(&link.stream)
                .and_then(|()| self.poller.add(&pidfd, peer.to_wire(), Interest::NONE));
            if swapped.is_ok() {
                link.mute = true;
                link.asked = None;
                link.mourned = Some(pidfd);
                link.out.clear(&mut self.buffers);
                self.mourning.push_back((self.now + MOURNING, peer));
                return;
            }
        }
        self.bury(peer);
    }

    /// Closes a link and tells the core.
    fn bury(&mut self, peer: PeerId) {
        let Some(mut link) = self.links.remove(peer) else { return };
        let was_mourned = link.mourned.is_some();
        let pidfd = match link.mourned.take() {
            Some(pidfd) => Some(pidfd),
            None if link.pid == process::id() => None,
            None => peer_pidfd(&link.stream),
        };
        let exit = if link.closing { None } else { pidfd.as_ref().and_then(exit_of) };
        let process_ended = exit.is_some() || pidfd.as_ref().is_some_and(has_ended);
        self.mourning.retain(|&(_, mourned)| mourned != peer || !was_mourned);
        link.out.clear(&mut self.buffers);
        drop(link);
        self.freed = true;
        let exit_status = exit.map(|exit| exit.wait_status());
        self.handle(Input::Disconnect { peer, how: Departure { exit_status, process_ended } });
    }

    fn attend(&mut self, peer: PeerId, event: Ready) {
        // The link may be gone since the poller looked.
        let Some(link) = self.links.get_mut(peer) else { return };
        if link.mourned.is_some() {
            return self.bury(peer);
        }
        link.hung_up |= event.hangup;
        if event.writable {
            link.blocked = false;
            self.touch(peer);
        }
        if event.readable {
            self.read(peer);
        }
    }

    fn answer_the_door(&mut self, door: usize) {
        for _ in 0..Door::visits_max() {
            match self.doors[door].visit(self.now, &self.poller) {
                Visit::Entered(stream, credentials) => self.welcome(stream, credentials),
                Visit::Nobody => return,
                Visit::Full(turned_away) => {
                    let text = format!(
                        "out of file descriptors with {} connections; {turned_away} more were turned away, others \
                         wait; raise the limit of open files (LimitNOFILE)",
                        self.links.len()
                    );
                    return self.logger.note(Level::Error, text);
                }
                Visit::Failed(error) => {
                    return self.logger.note(Level::Error, format!("cannot accept connections: {error}"));
                }
            }
        }
    }

    fn welcome(&mut self, stream: Stream, credentials: Credentials) {
        let peer = self.links.add(credentials.pid, stream);
        self.handle(Input::Connect { peer, identity: identity(credentials) });
        if self.links.get_mut(peer).is_some_and(|link| link.asked.is_none()) {
            self.ask(peer, Interest::NONE);
        }
    }

    /// What time brings.
    fn expire(&mut self) {
        if self.core.next_wake().is_some_and(|at| at.0 <= self.now) {
            self.handle(Input::Wake);
        }
        while let Some(&(until, peer)) = self.mourning.front() {
            if self.now < until {
                break;
            }
            self.mourning.pop_front();
            self.bury(peer);
        }
        let freed = std::mem::take(&mut self.freed);
        for door in &mut self.doors {
            door.reopen(self.now, freed, &self.poller);
        }
    }

    fn wait(&mut self, patience: Option<Duration>) -> io::Result<()> {
        if !self.touched.is_empty() || !self.revisit.is_empty() {
            return self.poller.wait(&mut self.ready, Some(Duration::ZERO));
        }
        if self.busy && !self.spin.is_zero() {
            let until = clock::monotonic_ns().saturating_add(self.spin.as_nanos() as u64);
            loop {
                self.poller.wait(&mut self.ready, Some(Duration::ZERO))?;
                let now = clock::monotonic_ns();
                let due = self.core.next_wake().is_some_and(|at| at.0 <= now);
                if !self.ready.is_empty() || due || now >= until {
                    break;
                }
                std::hint::spin_loop();
            }
            if !self.ready.is_empty() {
                return Ok(());
            }
        }
        let next = [
            self.core.next_wake().map(|at| at.0),
            self.mourning.front().map(|&(until, _)| until),
            self.doors.iter().filter_map(Door::shut_until).min(),
        ];
        let patience = match next.into_iter().flatten().min() {
            Some(at) if at <= self.now => Some(Duration::ZERO),
            // Most waits end by a message, and a moment later than the one the alarm is set to is no reason to
            // set it anew: so a call with a deadline costs no timer.
            Some(at) if at < self.alarm_at => {
                self.alarm.set(at)?;
                self.alarm_at = at;
                patience
            }
            _ => patience,
        };
        self.poller.wait(&mut self.ready, patience)
    }

    /// Bytes cannot be read as frames, or descriptors came: the core is told, and nothing more is
    /// read.
    pub(crate) fn broken(&mut self, peer: PeerId, why: Breach) {
        let Some(link) = self.links.get_mut(peer) else { return };
        link.deaf = true;
        self.handle(Input::Broken { from: peer, why });
    }

    /// Has descriptors closed that somebody sent.
    pub(crate) fn close_fds(&mut self) {
        self.unclosed.extend(std::mem::take(&mut self.fds));
        self.close_descriptors();
    }

    fn close_descriptors(&mut self) {
        while let Some(fd) = self.unclosed.pop() {
            if let Err(fd) = self.reaper.close(fd) {
                self.unclosed.push(fd);
                return;
            }
        }
    }
}

/// Keeps the memory of a list that was worked off, unless a new one was begun meanwhile.
pub(crate) fn recycle(list: &mut Vec<PeerId>, mut done: Vec<PeerId>) {
    if list.is_empty() {
        done.clear();
        *list = done;
    }
}
