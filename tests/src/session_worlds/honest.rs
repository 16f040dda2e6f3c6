//! A program that keeps the rules, over the session of the client library: it opens, serves, calls,
//! sends, watches and passes handles by chance, and knows what must come of it.

mod post;

use std::collections::{BTreeMap, BTreeSet};

use switchboard::session::{Answer, CallId, CallSpec, Event, Inbox, RequestId, SendSpec, Session};
use switchboard_protocol::control::{self, Operation, serve_flags};
use switchboard_protocol::{
    Failure, HandleEntry, Header, Instant, ObjectKind, Outcome, PeerId, Verb, decode, flags, handle_flags,
    padded,
};

use super::Dice;
use super::oracle::{DOMAIN, payload_of, uid_of};
use super::rim::Rim;
use post::{Post, Talk};

/// The names of the world. The last is served by pools.
pub(super) const NAMES: [&str; 4] = ["sim.a", "sim.b", "sim.deep.c", "sim.pool"];
const POOL: usize = 3;

/// Bytes that a client has written and its socket has not taken, before it stops saying more.
const PATIENCE: usize = 8000;

/// One program.
pub(super) struct Honest {
    pub(super) user: u32,
    /// Our clock less the world's, in nanoseconds: every program has its own.
    ahead: u64,
    session: Session,
    inbox: Inbox,
    /// Its connection; `None` between two.
    pub(super) peer: Option<PeerId>,
    /// Does not read while this is in the future.
    sleeps_until: Instant,
    doing: BTreeMap<u64, Doing>,
    handles: Vec<u64>,
    servings: Vec<u64>,
    requests: Vec<Asked>,
    /// Bytes of sends that it has not dealt with, by serving handle.
    unread: Vec<(u64, u64)>,
    watch: Option<View>,
    post: Post,
    /// Ends of calls that the program was told.
    pub(super) ended: u64,
    pub(super) received: u64,
    pub(super) replies: u64,
}

/// A call that it made and whose end it waits for.
enum Doing {
    Call { id: CallId, streamed: bool },
    Open,
    Serve,
    Close,
    Watch(CallId),
    Other(CallId),
    Talk(Talk),
}

/// A request that it serves.
struct Asked {
    id: RequestId,
    uid: Option<u64>,
    streamed: bool,
}

/// Names as a watch tells.
#[derive(Default)]
struct View {
    tag: u64,
    complete: bool,
    owned: BTreeMap<String, u64>,
}

/// What an event meant, without the frame that it came in.
enum News {
    Ended(u64, Result<(Header, Vec<u8>, Vec<HandleEntry>), Outcome>),
    Item(u64, Header, Vec<u8>, Vec<HandleEntry>),
    Request(Asked, Vec<HandleEntry>),
    Message(u64, u64, Vec<HandleEntry>),
    Revoked(u64),
    Over,
    Nothing,
}

impl Honest {
    pub(super) fn new(user: u32, dice: &mut Dice) -> Self {
        let mut new = Self {
            user,
            ahead: dice.below(1 << 50),
            session: Session::new(0, "honest"),
            inbox: Inbox::new(),
            peer: None,
            sleeps_until: Instant(0),
            doing: BTreeMap::new(),
            handles: Vec::new(),
            servings: Vec::new(),
            requests: Vec::new(),
            unread: Vec::new(),
            watch: None,
            post: Post::default(),
            ended: 0,
            received: 0,
            replies: 0,
        };
        new.session.end();
        new
    }

    fn clock(&self, now: Instant) -> u64 {
        now.0 + self.ahead
    }

    /// Begins a connection over a link that is there.
    pub(super) fn begin(&mut self, now: Instant, peer: PeerId) {
        self.session = Session::new(self.clock(now), "honest");
        self.inbox = Inbox::new();
        self.peer = Some(peer);
    }

    /// The connection is over: every call that was open ends by it, once.
    pub(super) fn lose(&mut self) -> Result<(), String> {
        self.peer = None;
        for ended in self.session.end() {
            self.doing
                .remove(&ended.tag)
                .ok_or_else(|| format!("call {} ends by the connection, and had ended", ended.tag))?;
            self.ended += 1;
        }
        if let Some((tag, _)) = self.doing.iter().next() {
            return Err(format!("call {tag} did not end with its connection"));
        }
        self.handles.clear();
        self.servings.clear();
        self.requests.clear();
        self.unread.clear();
        self.watch = None;
        self.post = Post::default();
        Ok(())
    }

    /// Moves what it has written to its socket, at most so many bytes.
    pub(super) fn write(&mut self, rim: &mut Rim, most: usize) {
        let Some(link) = self.peer.and_then(|peer| rim.socket(peer)) else { return };
        let output = self.session.output();
        let count = most.min(output.len()).min(4000_usize.saturating_sub(link.to_broker.len()));
        link.to_broker.extend(&output.to_vec()[..count]);
        output.written(count);
    }

    /// Reads at most so many bytes, and does what they ask for.
    pub(super) fn read(&mut self, rim: &mut Rim, dice: &mut Dice, most: usize) -> Result<(), String> {
        if rim.now < self.sleeps_until {
            return Ok(());
        }
        let Some(peer) = self.peer else { return Ok(()) };
        let Some(link) = rim.links[peer.slot as usize].as_mut().filter(|link| link.id == peer) else {
            return self.lose();
        };
        let count = most.min(link.to_client.len());
        let bytes: Vec<u8> = link.to_client.drain(..count).collect();
        let over = link.gone && link.to_client.is_empty();
        let mut rest = &bytes[..];
        loop {
            let taken = if rest.is_empty() { 0 } else { self.inbox.push(rest) };
            rest = &rest[taken..];
            while let Some(news) = self.next(rim.now)? {
                self.react(rim.now, dice, news)?;
            }
            if rest.is_empty() {
                break;
            }
        }
        if over { self.lose() } else { Ok(()) }
    }

    fn next(&mut self, now: Instant) -> Result<Option<News>, String> {
        let clock = self.clock(now);
        let wrong = |what: &dyn std::fmt::Display| format!("a client cannot go on: {what}");
        if self.session.is_over() {
            return Ok(None);
        }
        let Some(frame) = self.inbox.next_frame().map_err(|error| wrong(&error))? else { return Ok(None) };
        // As the drivers do: requests are looked at where they lie.
        if let Some((_, id)) = self.session.take_request(&frame).map_err(|error| wrong(&error))? {
            let streamed = frame.header.flags & flags::STREAM != 0;
            let asked = Asked { id, uid: uid_of(frame.payload()), streamed };
            return Ok(Some(News::Request(asked, frame.handles())));
        }
        let event = self.session.handle(clock, frame).map_err(|error| wrong(&error))?;
        Ok(Some(match event {
            Some(Event::Ended { tag, end: Ok(answer) }) => {
                let Answer { frame, .. } = answer;
                News::Ended(tag, Ok((*frame.header, frame.payload().to_vec(), frame.handles())))
            }
            Some(Event::Ended { tag, end: Err(error) }) => News::Ended(tag, Err(error.outcome)),
            Some(Event::Item { tag, frame }) => {
                News::Item(tag, *frame.header, frame.payload().to_vec(), frame.handles())
            }
            Some(Event::Message { frame, .. }) => {
                let Header { handle, len, .. } = *frame.header;
                News::Message(handle, padded(len as usize) as u64, frame.handles())
            }
            Some(Event::HandleRevoked { handle }) => News::Revoked(handle),
            Some(Event::Goodbye(_)) => News::Over,
            _ => News::Nothing,
        }))
    }

    fn react(&mut self, now: Instant, dice: &mut Dice, news: News) -> Result<(), String> {
        match news {
            News::Ended(tag, end) => {
                let doing = self.doing.remove(&tag);
                let doing = doing.ok_or_else(|| format!("call {tag} ends, and is not open"))?;
                self.ended += 1;
                self.finish(tag, &doing, end)?;
            }
            News::Item(tag, header, payload, handles) => {
                self.keep(&handles);
                match self.doing.get(&tag) {
                    Some(Doing::Watch(_)) => self.see(&payload)?,
                    Some(Doing::Call { streamed: true, .. } | Doing::Talk(Talk::Subscribe(_))) => {}
                    Some(Doing::Talk(Talk::Pop(_, queue))) => self.post.got(*queue, &header),
                    _ => return Err(format!("an item of call {tag}, which takes none")),
                }
            }
            News::Request(asked, handles) => {
                self.keep(&handles);
                self.requests.push(asked);
                if dice.one_in(2) {
                    self.answer(dice, self.requests.len() - 1);
                }
            }
            News::Message(serving, bytes, handles) => {
                self.received += 1;
                self.keep(&handles);
                self.unread.push((serving, bytes));
            }
            News::Revoked(handle) => {
                self.handles.retain(|&held| held != handle);
                self.servings.retain(|&held| held != handle);
                self.post.lose(handle);
            }
            News::Over => {
                // The broker has said goodbye; the link goes down by itself.
                self.sleeps_until = now;
            }
            News::Nothing => {}
        }
        Ok(())
    }

    fn keep(&mut self, handles: &[HandleEntry]) {
        self.handles.extend(handles.iter().map(|entry| entry.handle).filter(|&handle| handle != 0));
    }

    fn finish(
        &mut self,
        tag: u64,
        doing: &Doing,
        end: Result<(Header, Vec<u8>, Vec<HandleEntry>), Outcome>,
    ) -> Result<(), String> {
        if let Doing::Watch(_) = doing {
            self.watch = None;
        }
        let Ok((header, payload, handles)) = end else { return Ok(()) };
        match doing {
            Doing::Call { .. } => {
                self.keep(&handles);
                self.replies += 1;
                if uid_of(&payload).is_some_and(|uid| uid != tag) {
                    return Err(format!("call {tag} is answered with the answer to another"));
                }
            }
            Doing::Open => {
                let opened: control::Opened = decode(&payload).ok_or("a body that is no Opened")?;
                self.handles.push(opened.handle);
            }
            Doing::Serve => {
                let served: control::Served = decode(&payload).ok_or("a body that is no Served")?;
                self.servings.push(served.handle);
                if served.reference != 0 {
                    self.handles.push(served.reference);
                }
            }
            Doing::Talk(Talk::Open(kind)) => {
                let opened: control::Opened = decode(&payload).ok_or("a body that is no Opened")?;
                self.post.opened(*kind, opened.handle);
            }
            Doing::Talk(Talk::Close(handle)) => self.post.lose(*handle),
            // The end of a stream is no message.
            Doing::Talk(Talk::Pop(_, queue)) => self.post.got(*queue, &header),
            Doing::Close | Doing::Watch(_) | Doing::Other(_) | Doing::Talk(_) => {}
        }
        Ok(())
    }

    /// A change of a watched name.
    fn see(&mut self, payload: &[u8]) -> Result<(), String> {
        let change: control::NameChange = decode(payload).ok_or("a body that is no NameChange")?;
        let Some(view) = &mut self.watch else { return Ok(()) };
        match change.what {
            0 if view.complete => return Err("a snapshot goes on after its end".into()),
            0 | 2 => drop(view.owned.insert(change.info.name, change.info.epoch)),
            1 => view.complete = true,
            _ => drop(view.owned.remove(&change.info.name)),
        }
        Ok(())
    }

    /// Ends or goes on with a request that it serves.
    fn answer(&mut self, dice: &mut Dice, at: usize) {
        let Asked { id, uid, streamed } = self.requests[at];
        let payload = payload_of(uid.unwrap_or(0), dice.index(200));
        if streamed && dice.one_in(2) {
            let handles = self.cargo(dice, true);
            let _ = self.session.item(id, &payload, &handles);
            return;
        }
        self.requests.swap_remove(at);
        if dice.one_in(6) {
            let outcomes = [Outcome::Failed, Outcome::Denied, Outcome::Busy, Outcome::PeerDied];
            let outcome = outcomes[dice.index(outcomes.len())];
            let failure = Failure { domain: DOMAIN.into(), ..Failure::new("by the dice") };
            self.session.answer_otherwise(id, outcome, &failure);
        } else {
            let handles = if dice.one_in(8) { self.cargo(dice, false) } else { Vec::new() };
            let large = if dice.one_in(20) { 4000 } else { 16 };
            let payload = payload_of(uid.unwrap_or(0), large);
            self.session.answer_with(id, &mut payload.into(), &handles);
        }
    }

    /// Handles to be passed along, now and then.
    fn cargo(&mut self, dice: &mut Dice, goes_on: bool) -> Vec<HandleEntry> {
        if !dice.one_in(4) {
            return Vec::new();
        }
        let count = 1 + dice.index(2);
        (0..count)
            .filter_map(|_| {
                let handle = dice.pick(&self.handles)?;
                let rights = [Verb::Call.right(), Verb::Call.right() | Verb::Delegate.right()];
                let mut flags = 0;
                if goes_on && dice.one_in(2) {
                    flags |= handle_flags::CALL_SCOPED;
                }
                if dice.one_in(3) {
                    flags |= handle_flags::PERSISTENT;
                }
                Some(HandleEntry { handle, rights: rights[dice.index(2)], flags })
            })
            .collect()
    }

    /// Something that a program might do now.
    pub(super) fn act(&mut self, now: Instant, dice: &mut Dice, uids: &mut u64) -> Result<(), String> {
        if self.session.is_over() || self.session.welcome().is_none() && !dice.one_in(10) {
            return Ok(());
        }
        if PATIENCE < self.session.output().len() {
            return Ok(());
        }
        *uids += 1;
        let tag = *uids;
        let clock = self.clock(now);
        let soon = |dice: &mut Dice| match dice.below(5) {
            0 => 0,
            1 => clock + dice.below(400_000),
            _ => clock + dice.below(60_000_000),
        };
        match dice.below(48) {
            0..=2 => {
                let both = Verb::Call.right() | Verb::Delegate.right();
                let behalf = dice.pick(&self.requests.iter().map(|r| r.id.to_wire()).collect::<Vec<_>>());
                let body = control::Open {
                    name: NAMES[dice.index(NAMES.len())].into(),
                    kind: ObjectKind::Service as u8,
                    rights: if dice.one_in(2) { both.0 } else { Verb::Call.right().0 },
                    on_behalf_of: behalf.filter(|_| dice.one_in(3)).unwrap_or(0),
                };
                if self.session.control(tag, Operation::Open, &body, 0).is_ok() {
                    self.doing.insert(tag, Doing::Open);
                }
            }
            3 | 4 => self.serve(dice, tag),
            5..=15 => {
                let Some(handle) = dice.pick(&self.handles) else { return Ok(()) };
                let handles = self.cargo(dice, true);
                let parent = self.parent(dice);
                let streamed = dice.one_in(4);
                let spec = CallSpec {
                    handle,
                    deadline: soon(dice),
                    priority: dice.below(8) as u8,
                    stream: streamed,
                    no_wait: dice.one_in(10),
                    parent,
                    epoch: if dice.one_in(20) { (3 << 32) + dice.below(20) } else { 0 },
                    handles: &handles,
                    payload: &payload_of(
                        tag,
                        if dice.one_in(12) { dice.index(5200) } else { dice.index(120) },
                    ),
                    ..CallSpec::default()
                };
                if let Ok(id) = self.session.call(tag, &spec) {
                    self.doing.insert(tag, Doing::Call { id, streamed });
                    if streamed && dice.one_in(2) {
                        self.session.grant_items(id, 1 + dice.below(4) as u32);
                    }
                }
            }
            16..=23 => {
                let Some(handle) = dice.pick(&self.handles) else { return Ok(()) };
                let handles = self.cargo(dice, false);
                let spec = SendSpec {
                    handle,
                    deadline: if dice.one_in(4) { soon(dice) } else { 0 },
                    priority: dice.below(8) as u8,
                    parent: self.parent(dice),
                    tag,
                    handles: &handles,
                    payload: &payload_of(tag, dice.index(300)),
                    ..SendSpec::default()
                };
                let _ = self.session.send(&spec);
            }
            24..=27 if !self.requests.is_empty() => {
                let at = dice.index(self.requests.len());
                self.answer(dice, at);
            }
            28 | 29 => self.deal_with_messages(dice.one_in(2)),
            30 => {
                let Some(handle) = dice.pick(&self.handles) else { return Ok(()) };
                let body = control::Narrow { handle, rights: Verb::Call.right().0 };
                if self.session.control(tag, Operation::Narrow, &body, 0).is_ok() {
                    self.doing.insert(tag, Doing::Open);
                }
            }
            31 => {
                let from = if dice.one_in(2) { &mut self.handles } else { &mut self.servings };
                if from.is_empty() {
                    return Ok(());
                }
                let handle = from.swap_remove(dice.index(from.len()));
                if self.session.close(tag, handle, 0).is_ok() {
                    self.doing.insert(tag, Doing::Close);
                }
            }
            32 => {
                let Some(handle) = dice.pick(&self.handles) else { return Ok(()) };
                let body = control::OnHandle { handle };
                self.control(tag, Operation::Revoke, &body, 0);
            }
            33 if self.watch.is_none() => {
                let body = control::OnPattern { pattern: "sim.**".into() };
                if let Ok(id) = self.session.control(tag, Operation::Watch, &body, 0) {
                    self.doing.insert(tag, Doing::Watch(id));
                    self.watch = Some(View { tag, ..View::default() });
                }
            }
            33 => self.grant_watch(dice.below(4) as u32),
            34 => {
                let body = control::OnName { name: NAMES[dice.index(NAMES.len())].into() };
                let deadline = soon(dice);
                self.control(tag, Operation::Wait, &body, deadline);
            }
            35 | 36 => self.change_mind(dice),
            37 => {
                let streams: Vec<CallId> = self.doing.values().filter_map(Doing::stream).collect();
                if let Some(id) = dice.pick(&streams) {
                    self.session.grant_items(id, 1 + dice.below(3) as u32);
                }
            }
            38 => match dice.below(4) {
                0 => self.control(tag, Operation::Status, &(), 0),
                1 => self.control(tag, Operation::Waits, &(), 0),
                2 => {
                    let body = control::OnName { name: NAMES[dice.index(NAMES.len())].into() };
                    self.control(tag, Operation::Describe, &body, 0);
                }
                _ => {
                    let body = control::List { pattern: "**".into(), after: String::new() };
                    self.control(tag, Operation::List, &body, 0);
                }
            },
            40.. => {
                let deadline = soon(dice);
                self.talk(dice, tag, deadline);
            }
            39 if dice.one_in(4) => self.sleeps_until = Instant(now.0 + dice.below(30_000_000)),
            _ => {}
        }
        Ok(())
    }

    fn control<B: serde::Serialize>(&mut self, tag: u64, operation: Operation, body: &B, deadline: u64) {
        if let Ok(id) = self.session.control(tag, operation, body, deadline) {
            self.doing.insert(tag, Doing::Other(id));
        }
    }

    fn parent(&self, dice: &mut Dice) -> u64 {
        if self.requests.is_empty() || dice.one_in(2) {
            return 0;
        }
        self.requests[dice.index(self.requests.len())].id.to_wire()
    }

    fn serve(&mut self, dice: &mut Dice, tag: u64) {
        let name = dice.index(NAMES.len());
        let private = dice.one_in(6);
        let mut flags = 0;
        for flag in [serve_flags::ALLOW_REPLACEMENT, serve_flags::REPLACE, serve_flags::DO_NOT_QUEUE] {
            if dice.one_in(3) {
                flags |= flag;
            }
        }
        let body = control::Serve {
            name: if private { String::new() } else { NAMES[name].into() },
            mode: u8::from(!private && name == POOL),
            flags,
            calls: 1 + dice.below(4) as u32,
            send_bytes: [0, 200, 1000, 5000][dice.index(4)],
            about: String::new(),
        };
        if self.session.serve(tag, tag, &body, 0).is_ok() {
            self.doing.insert(tag, Doing::Serve);
        }
    }

    /// Gives up on something.
    fn change_mind(&mut self, dice: &mut Dice) {
        let ids: Vec<(u64, CallId)> =
            self.doing.iter().filter_map(|(&tag, doing)| Some((tag, doing.id()?))).collect();
        let Some((tag, id)) = dice.pick(&ids) else { return };
        if dice.one_in(2) {
            self.session.cancel(id);
        } else {
            self.session.forget(id);
            if let Some(Doing::Watch(_)) = self.doing.remove(&tag) {
                self.watch = None;
            }
        }
    }

    fn deal_with_messages(&mut self, idle: bool) {
        for (serving, bytes) in std::mem::take(&mut self.unread) {
            self.session.consumed(serving, bytes);
            if idle {
                self.session.settle_up(serving);
            }
        }
        if idle {
            for &serving in &self.servings {
                self.session.settle_up(serving);
            }
        }
    }

    fn grant_watch(&mut self, items: u32) {
        let Some(view) = &self.watch else { return };
        if let Some(Doing::Watch(id)) = self.doing.get(&view.tag) {
            self.session.grant_items(*id, items);
        }
    }

    // --- when all has to come to rest ---

    /// Does what it owes to others, and nothing new.
    pub(super) fn wind_down(&mut self, round: u64, uids: &mut u64) {
        self.sleeps_until = Instant(0);
        for Asked { id, uid, .. } in std::mem::take(&mut self.requests) {
            self.session.answer(id, &payload_of(uid.unwrap_or(0), 16), &[]);
        }
        self.deal_with_messages(true);
        self.wind_down_talks(round, uids);
        if round.is_multiple_of(40) {
            self.grant_watch(40);
        }
        let waits: Vec<CallId> = self
            .doing
            .values()
            .filter_map(|doing| if let Doing::Other(id) = doing { Some(*id) } else { None })
            .collect();
        for id in waits {
            self.session.cancel(id);
        }
    }

    /// Whether it waits for nothing any more.
    pub(super) fn is_done(&mut self) -> bool {
        self.session.output().is_empty()
            && self.requests.is_empty()
            && self.doing.values().all(Doing::goes_on)
    }

    /// What it waits for, for who asks why.
    pub(super) fn describe(&mut self, rim: &mut Rim) -> String {
        let call = self.doing.iter().find(|(_, doing)| !doing.goes_on()).map(|(tag, _)| tag);
        let (written, requests) = (self.session.output().len(), self.requests.len());
        let link = self.peer.and_then(|peer| rim.socket(peer)).map(|link| link.describe());
        format!(
            "{:?} waits for call {call:?}, has {requests} requests and {written} bytes to say over {link:?}",
            self.peer
        )
    }

    /// What it sees of the names, if it watches and has seen all.
    pub(super) fn view(&self) -> Option<&BTreeMap<String, u64>> {
        self.watch.as_ref().filter(|view| view.complete).map(|view| &view.owned)
    }

    /// Whether a small message goes on each of its handles: no window may be used up for ever.
    pub(super) fn windows_are_free(&mut self, uids: &mut u64) -> Result<(), String> {
        let handles: BTreeSet<u64> = self.handles.iter().chain(self.post.topics()).copied().collect();
        for handle in handles {
            if self.session.has_window(handle) {
                *uids += 1;
                let spec =
                    SendSpec { handle, tag: *uids, payload: &payload_of(*uids, 16), ..SendSpec::default() };
                if let Err(switchboard::session::Refused::NoRoom) = self.session.send(&spec) {
                    return Err(format!("the send window of handle {handle:#x} never came back"));
                }
            }
        }
        Ok(())
    }
}

impl Doing {
    /// Whether it goes on as long as the program does.
    fn goes_on(&self) -> bool {
        matches!(self, Self::Watch(_) | Self::Talk(Talk::Subscribe(_)))
    }

    fn id(&self) -> Option<CallId> {
        match self {
            Self::Call { id, .. } | Self::Watch(id) | Self::Other(id) => Some(*id),
            Self::Talk(talk) => talk.id(),
            // Forgetting these would leave handles behind of which this program does not know.
            Self::Open | Self::Serve | Self::Close => None,
        }
    }

    fn stream(&self) -> Option<CallId> {
        match self {
            Self::Call { id, streamed: true } => Some(*id),
            _ => None,
        }
    }
}
