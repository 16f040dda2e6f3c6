//! Scenarios as text: one line per input, `->` before what comes of it, in the order in which it
//! comes. This is the single place that touches the broker's API.
//!
//! ```text
//! svc serves acme.echo as s        -> svc served s epoch=1
//! ann opens acme.echo as h         -> ann opened h call epoch=1
//! ann calls h c1 "hi"              -> svc gets r1 on s from ann "hi"
//! svc replies r1 "yo"              -> ann c1 Reply "yo"
//! ```
//!
//! Peers connect on first mention (user 1000, which may do everything) unless `NAME joins uid=…`
//! says more. Calls are named by the script; requests are named `r1, r2 …` and handles that travel
//! `g1, g2 …` in the order in which they appear. Every frame that is sent counts as read at once,
//! unless its receiver `stops reading`. `+10ms` alone on a line lets time pass and wakes the broker
//! if that is due; before a command it only lets time pass. Failures may be checked for words:
//! `ann c1 Busy ~limits.user.handles`. `...` stands for anything further.

mod queue_verbs;

use queue_verbs::{Disk, QueueExpect, level_of, stored};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;
use switchboard_core::{
    Breach, Broker, Departure, Effect, Fact, Identity, Input, Instance, Limits, Policy, Rule, SendTail,
    Settings, Subject, TopicSettings,
};
use switchboard_protocol::control::{self, Operation, serve_flags};
use switchboard_protocol::signal::{Await, Pulse, Raise, Raised, SignalMethod};
use switchboard_protocol::topic::{Delivery, SlowPolicy, Subscribe, TopicInfo, Will};
use switchboard_protocol::{
    Event, ExtensionsBuilder, Failure, FrameError, Goodbye, GoodbyeReason, HELLO_MAGIC, HandleEntry, Header,
    Hello, Instant, Kind, Name, ObjectKind, Outcome, Parts, Pattern, PeerId, Rights, Tail, VERSION, Verb,
    Welcome, decode, encode, extension_type, flags, handle_flags, padded, write_part,
};

const INCARNATION: u32 = 9;

/// Runs a script; panics at the first line that does not come out as written.
#[track_caller]
pub(crate) fn check(script: &str) {
    play(script, Stage::default());
}

/// The same for a long script, looking at the broker's books only at its end.
#[track_caller]
pub(crate) fn check_quickly(script: &str) {
    play(script, Stage { unchecked: true, ..Stage::default() });
}

#[track_caller]
fn play(script: &str, mut stage: Stage) {
    let mut lines: Vec<String> = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match lines.last_mut() {
            Some(last) if line.starts_with("->") || line.starts_with(';') => {
                last.push(' ');
                last.push_str(line);
            }
            _ => lines.push(line.to_string()),
        }
    }
    for line in &lines {
        let (input, want) = line.split_once("->").map_or((line.as_str(), ""), |(i, w)| (i.trim(), w.trim()));
        stage.run(input);
        let got = std::mem::take(&mut stage.seen);
        let mut wanted: Vec<&str> = want.split(';').map(str::trim).filter(|want| !want.is_empty()).collect();
        let open_ended = wanted.last() == Some(&"...");
        if open_ended {
            wanted.pop();
        }
        let same = |(want, got): (&&str, &Seen)| match want.split_once(" ~") {
            Some((want, words)) => got.text == want.trim() && got.message.contains(words),
            None => got.text == **want,
        };
        let fits = wanted.iter().zip(&got).all(same)
            && (wanted.len() == got.len() || open_ended && wanted.len() < got.len());
        if !fits {
            let got: Vec<String> = got.iter().map(|got| format!("{} ~{}", got.text, got.message)).collect();
            panic!(
                "after: {input}\n  want: {}\n   got: {}",
                wanted.join("\n        "),
                got.join("\n        ")
            );
        }
    }
    stage.broker().check_invariants();
}

/// One effect, as written in scripts, and the words for people that came with it.
struct Seen {
    text: String,
    message: String,
}

/// A broker with named peers around it.
struct Stage {
    broker: Option<Broker<Vec<u8>>>,
    settings: Settings,
    now: Instant,
    peers: BTreeMap<String, Actor>,
    slots: u32,
    /// Words of handles by name, with who holds each.
    handles: BTreeMap<String, (String, u64)>,
    requests: BTreeMap<String, u64>,
    requests_seen: usize,
    grips_seen: usize,
    epochs: BTreeMap<String, u64>,
    /// Leases by name, and the log.
    leases: Vec<(String, switchboard_protocol::queue::LeaseId)>,
    disk: Disk,
    restarts: u64,
    show_log: bool,
    unchecked: bool,
    seen: Vec<Seen>,
}

/// One peer.
struct Actor {
    id: PeerId,
    reads: bool,
    unread: usize,
    /// Open calls: their words, and what is to be made of the reply.
    calls: BTreeMap<String, (u64, Expect)>,
    call_slots: u32,
    /// Items of each subscription, by its call: they are numbered without gaps.
    items: BTreeMap<u64, u64>,
}

/// What a call's reply holds.
#[derive(Clone)]
enum Expect {
    Payload,
    Opened(String),
    Served(String, String),
    Found,
    Changes,
    Monitor,
    Quiet,
    Listing,
    Description,
    Identity,
    Status(String),
    Stats,
    Waits,
    Explained,
    Reloaded,
    Raised,
    Published,
    Messages,
    TopicStat,
    Queue(QueueExpect),
}

impl Default for Stage {
    fn default() -> Self {
        let settings = Settings {
            policy: Policy { own_user: None, rules: Vec::new(), priority_max: 4 },
            limits: Limits::default(),
            topics: Vec::new(),
            queues: Vec::new(),
            files: Vec::new(),
        };
        Self {
            broker: None,
            settings,
            now: Instant(1_000_000_000),
            peers: BTreeMap::new(),
            slots: 0,
            handles: BTreeMap::new(),
            requests: BTreeMap::new(),
            requests_seen: 0,
            grips_seen: 0,
            epochs: BTreeMap::new(),
            leases: Vec::new(),
            disk: Disk::default(),
            restarts: 0,
            show_log: false,
            unchecked: false,
            seen: Vec::new(),
        }
    }
}

/// The words of a command: plain words, `key=value`s and one quoted payload.
struct Words<'a> {
    plain: Vec<&'a str>,
    keys: BTreeMap<&'a str, &'a str>,
    payload: Vec<u8>,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Self {
        let (text, payload) = match text.split_once('"') {
            Some((text, rest)) => (text, rest.trim_end_matches('"').as_bytes().to_vec()),
            None => (text, Vec::new()),
        };
        let mut words = Self { plain: Vec::new(), keys: BTreeMap::new(), payload };
        for word in text.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) => drop(words.keys.insert(key, value)),
                None => words.plain.push(word),
            }
        }
        if let Some(bytes) = words.keys.get("bytes") {
            words.payload = vec![b'.'; bytes.parse().expect("bytes=N")];
        }
        if let Some(batch) = words.keys.get("batch") {
            // `MESSAGE[:PRIORITY[:QUEUE]]`, the numbers for pushes only.
            for part in batch.split(',').filter(|part| !part.is_empty()) {
                let mut fields = part.split(':');
                let text = fields.next().expect("a message");
                let mut number = || fields.next().map_or(0, |text| text.parse::<u32>().expect("a number"));
                let attribute = number() | number() << 8;
                write_part(&mut words.payload, attribute, text.as_bytes());
            }
        }
        words
    }

    fn has(&self, word: &str) -> bool {
        self.plain.contains(&word)
    }

    /// The word after this one.
    fn after(&self, word: &str) -> Option<&'a str> {
        let at = self.plain.iter().position(|&plain| plain == word)?;
        self.plain.get(at + 1).copied()
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.keys.get(key).map(|value| match value.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).expect("a number"),
            None => value.parse().unwrap_or_else(|_| panic!("{key}={value} is no number")),
        })
    }
}

impl Stage {
    fn run(&mut self, line: &str) {
        let mut line = line;
        if let Some(rest) = line.strip_prefix('+') {
            let (wait, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            self.now = self.now.after(duration(wait));
            line = rest.trim();
            if line.is_empty() {
                let due = self.broker().next_wake().is_some_and(|at| at <= self.now);
                return if due { self.input(Input::Wake) } else { assert!(!due) };
            }
        }
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        match first {
            "own" => self.settings.policy.own_user = Some(rest.parse().expect("a user id")),
            "allow" => self.allow(rest),
            "limit" => self.limit(rest),
            "topic" => self.topic(rest),
            "untopic" => self.settings.topics.retain(|topic| topic.name.as_str() != rest),
            "forbid" => {
                self.settings.policy = Policy { own_user: None, rules: Vec::new(), priority_max: 4 };
            }
            "show" => self.show_log = true,
            "hide" => self.show_log = false,
            "wake" => self.input(Input::Wake),
            "shutdown" => self.input(Input::Shutdown),
            "reloaded" => {
                let settings = Settings { files: vec!["test.toml".into()], ..self.settings.clone() };
                self.input(Input::Reloaded { result: Ok(settings) });
            }
            "queue" => self.declare_queue(rest),
            "clock" => self.clock(rest),
            "log" => self.log(rest),
            "persisted" => self.persist(rest),
            "crash" => self.crash(rest),
            "misconfigured" => self.input(Input::Reloaded { result: Err("test.toml:1:1".into()) }),
            peer => self.act(peer, rest),
        }
    }

    /// `allow WHO VERB,VERB NAME,NAME [priority=N]`; WHO is a user id, `group:N`, `label:X`, `anyone`.
    fn allow(&mut self, text: &str) {
        let words = Words::of(text);
        let [who, verbs, names] = words.plain[..] else { panic!("allow WHO VERBS NAMES: {text}") };
        let mut subject = Subject::default();
        for who in who.split('+') {
            match who.split_once(':') {
                Some(("group", group)) => subject.groups.push(group.parse().expect("a group id")),
                Some(("label", label)) => subject.labels.push(label.into()),
                _ if who == "anyone" => subject.anyone = true,
                _ => subject.users.push(who.parse().expect("a user id")),
            }
        }
        let names: Vec<Pattern> =
            names.split(',').map(|name| Pattern::new(name).expect("a pattern")).collect();
        let grants =
            verbs.split(',').map(|verb| (Verb::parse(verb).expect("a verb"), names.clone())).collect();
        let source = format!("test.toml:{}", self.settings.policy.rules.len() + 1);
        let priority_max = words.number("priority").map(|n| n as u8);
        self.settings.policy.rules.push(Rule { source, subject, grants, priority_max });
    }

    /// `topic NAME [retain] [history=N] [history_bytes=N] [block] [level=L]`, as configuration says it.
    fn topic(&mut self, text: &str) {
        let words = Words::of(text);
        let name = Name::new(words.plain[0]).expect("a name");
        let unsaid = TopicSettings::of(name.clone());
        self.settings.topics.retain(|topic| topic.name != name);
        self.settings.topics.push(TopicSettings {
            retain: words.has("retain"),
            history: words.number("history").unwrap_or(0) as u32,
            history_bytes: words.number("history_bytes").unwrap_or(unsaid.history_bytes),
            durability: level_of(words.keys.get("level")),
            block: words.has("block"),
            ..unsaid
        });
    }

    fn limit(&mut self, text: &str) {
        for pair in text.split_whitespace() {
            let (key, value) = pair.split_once('=').expect("limit KEY=VALUE");
            let number = || value.parse::<u64>().expect("a number");
            let limits = &mut self.settings.limits;
            let user = &mut limits.user_default;
            match key {
                "connections_max" => limits.connections_max = number() as u32,
                "names_max" => limits.names_max = number() as u32,
                "handles_max" => limits.handles_max = number() as u32,
                "calls_open_max" => limits.calls_open_max = number() as u32,
                "waiting_max" => limits.waiting_max = number() as u32,
                "buffered_bytes_max" => limits.buffered_bytes_max = number(),
                "watches_max" => limits.watches_max = number() as u32,
                "pulses_max" => limits.pulses_max = number() as u32,
                "payload_bytes_max" => limits.payload_bytes_max = number() as u32,
                "send_bytes" => limits.send_bytes = number() as u32,
                "link_bytes_low" => limits.link_bytes_low = number() as u32,
                "unread_bytes_max" => limits.unread_bytes_max = number(),
                "user.unread_bytes" => user.unread_bytes = number(),
                "link_bytes_high" => limits.link_bytes_high = number() as u32,
                "link_bytes_max" => limits.link_bytes_max = number() as u32,
                "link_bytes_reserved" => limits.link_bytes_reserved = number() as u32,
                "hello_timeout" => limits.hello_timeout = duration(value),
                "ageing_step" => limits.ageing_step = duration(value),
                "user.connections" => user.connections = number() as u32,
                "user.connections_per_second" => user.connections_per_second = number() as u32,
                "user.handles" => user.handles = number() as u32,
                "user.names" => user.names = number() as u32,
                "user.calls_open" => user.calls_open = number() as u32,
                "user.waiting" => user.waiting = number() as u32,
                "user.buffered_bytes" => user.buffered_bytes = number(),
                "subscriptions_max" => limits.subscriptions_max = number() as u32,
                "subscription_messages" => limits.subscription_messages = number() as u32,
                "subscription_bytes" => limits.subscription_bytes = number() as u32,
                "subscribed_bytes_max" => limits.subscribed_bytes_max = number(),
                "kept_bytes_max" => limits.kept_bytes_max = number(),
                "user.subscriptions" => user.subscriptions = number() as u32,
                "user.subscribed_bytes" => user.subscribed_bytes = number(),
                "user.watches" => user.watches = number() as u32,
                "queued_max" => limits.queued_max = number() as u32,
                "queued_bytes_max" => limits.queued_bytes_max = number(),
                "user.queued_bytes" => user.queued_bytes = number(),
                "log_bytes_max" => limits.log_bytes_max = number(),
                "segment_bytes" => limits.segment_bytes = number(),
                _ => panic!("no limit {key}"),
            }
        }
    }

    fn broker(&mut self) -> &mut Broker<Vec<u8>> {
        let Self { broker, settings, now, restarts, .. } = self;
        broker.get_or_insert_with(|| {
            if settings.policy.own_user.is_none() && settings.policy.rules.is_empty() {
                settings.policy.own_user = Some(1000);
            }
            let instance = Instance {
                incarnation: INCARNATION,
                version: "1.2.3".into(),
                pid: 1,
                system: false,
                secret: [1 + *restarts, 2],
            };
            Broker::new(settings.clone(), instance, *now)
        })
    }

    /// One input, everything that is left over from it, and the reading of what was sent.
    fn input(&mut self, input: Input<Vec<u8>>) {
        let now = self.now;
        let mut effects = Vec::new();
        self.broker().handle(now, input, &mut effects);
        self.check_books();
        self.settle(effects);
    }

    fn settle(&mut self, effects: Vec<Effect<Vec<u8>>>) {
        self.note(effects);
        for round in 0.. {
            assert!(round < 10_000, "the broker never comes to rest");
            let reader = self.peers.iter_mut().find(|(_, actor)| actor.reads && 0 < actor.unread);
            let input = if let Some((_, actor)) = reader {
                Input::Wrote { peer: actor.id, bytes: std::mem::take(&mut actor.unread) }
            } else if self.broker().next_wake() == Some(Instant(0)) {
                Input::Wake
            } else {
                break;
            };
            let (now, mut effects) = (self.now, Vec::new());
            self.broker().handle(now, input, &mut effects);
            self.check_books();
            self.note(effects);
        }
    }

    fn check_books(&mut self) {
        if !self.unchecked {
            self.broker().check_invariants();
        }
    }

    fn note(&mut self, effects: Vec<Effect<Vec<u8>>>) {
        for effect in effects {
            if let Effect::Send { to, header, .. } = &effect
                && let Some((_, actor)) = self.peers.iter_mut().find(|(_, actor)| actor.id == *to)
            {
                actor.unread += padded(header.len as usize);
            }
            self.note_log(&effect);
            if matches!(effect, Effect::Sync) {
                // Somebody waits for what was appended so far.
                let last = self.seen.iter_mut().rfind(|seen| seen.text.starts_with("append"));
                if let Some(last) = last.filter(|last| !last.text.ends_with("sync")) {
                    last.text.push_str(" sync");
                }
                continue;
            }
            if let Some(seen) = self.render(effect) {
                self.seen.push(seen);
            }
        }
    }

    // --- what goes in ---

    fn connect(&mut self, name: &str, words: &Words<'_>) {
        let slot = match words.number("slot") {
            Some(slot) => slot as u32,
            None => {
                self.slots += 1;
                self.slots - 1
            }
        };
        let generation = words.number("generation").unwrap_or(1) as u32;
        let id = PeerId { slot, generation };
        let identity = Identity {
            uid: words.number("uid").unwrap_or(1000) as u32,
            gid: words.number("gid").unwrap_or(1000) as u32,
            groups: words.keys.get("groups").map_or(Vec::new(), |all| {
                all.split(',').map(|group| group.parse().expect("a group")).collect()
            }),
            pid: words.number("pid").unwrap_or(100 + u64::from(slot)) as u32,
            label: words.keys.get("label").map(ToString::to_string),
        };
        let actor = Actor {
            id,
            reads: true,
            unread: 0,
            calls: BTreeMap::new(),
            call_slots: 0,
            items: BTreeMap::new(),
        };
        self.peers.insert(name.to_string(), actor);
        self.input(Input::Connect { peer: id, identity });
    }

    fn hello(&mut self, name: &str, words: &Words<'_>) {
        let hello = Hello {
            version_min: words.number("min").unwrap_or(VERSION.into()) as u8,
            version_max: words.number("max").unwrap_or(VERSION.into()) as u8,
            features: words.number("features").unwrap_or(0),
            program: words.keys.get("program").map_or(name.to_string(), |p| p.replace('_', " ")),
        };
        let method = words.number("method").map_or(HELLO_MAGIC, |method| method as u32);
        let mut body = encode(&hello);
        if words.has("torn") {
            body.pop();
        }
        let mut area = Vec::new();
        if words.has("extended") {
            let mut builder = ExtensionsBuilder::default();
            builder.add(0x0077, b"later");
            area = builder.finish();
        }
        self.frame_with(name, Header { method, ..Header::new(Kind::Hello) }, &area, &[], &body);
    }

    fn join(&mut self, name: &str, words: &Words<'_>) {
        self.connect(name, words);
        self.hello(name, words);
        let seen = std::mem::take(&mut self.seen);
        let text: Vec<&str> =
            seen.iter().map(|seen| seen.text.split(" version").next().unwrap_or("")).collect();
        let wanted = [format!("resume {name}"), format!("{name} welcome")];
        if text != wanted.each_ref().map(String::as_str) {
            panic!("{name} joins and gets {text:?}");
        }
    }

    fn frame_with(
        &mut self,
        from: &str,
        mut header: Header,
        area: &[u8],
        table: &[HandleEntry],
        payload: &[u8],
    ) {
        let mut tail = area.to_vec();
        for entry in table {
            tail.extend_from_slice(&entry.to_bytes());
        }
        tail.extend_from_slice(payload);
        header.len = (Header::new(Kind::Hello).len as usize + tail.len()) as u32;
        header.ext_len = area.len() as u16;
        header.handles = table.len() as u16;
        let from = self.peers[from].id;
        self.input(Input::Frame { from, header, tail });
    }

    /// The word of a handle that this peer holds under that name (or of anybody's, or a number).
    fn handle(&self, name: &str) -> u64 {
        match self.handles.get(name) {
            Some(&(_, word)) => word,
            None => name
                .strip_prefix('#')
                .and_then(|n| n.parse().ok())
                .unwrap_or_else(|| panic!("no handle {name}")),
        }
    }

    fn epoch(&self, word: &str) -> u64 {
        word.parse().map_or_else(|_| self.epochs[word], |n: u64| u64::from(INCARNATION) << 32 | n)
    }

    /// `handles=NAME[:RIGHTS][:scoped][:persistent],…`
    fn entries(&self, words: &Words<'_>) -> Vec<HandleEntry> {
        let Some(list) = words.keys.get("handles") else { return Vec::new() };
        let entry = |text: &str| {
            let mut parts = text.split(':');
            let handle = self.handle(parts.next().expect("a handle"));
            let mut entry = HandleEntry { handle, rights: Verb::Call.right(), flags: 0 };
            for part in parts {
                match part {
                    "scoped" => entry.flags |= handle_flags::CALL_SCOPED,
                    "persistent" => entry.flags |= handle_flags::PERSISTENT,
                    "odd" => entry.flags |= 1 << 9,
                    rights => entry.rights = Rights(rights_of(rights)),
                }
            }
            entry
        };
        list.split(',').map(entry).collect()
    }

    /// The header that a CALL or SEND has by its words.
    fn asked(&self, kind: Kind, words: &Words<'_>) -> Header {
        let deadline = words.keys.get("deadline").map_or(0, |wait| match wait.strip_prefix('-') {
            Some(ago) => self.now.0 - duration(ago).as_nanos() as u64,
            None => self.now.after(duration(wait)).0,
        });
        let mut flag = 0;
        if words.has("streamed") {
            flag |= flags::STREAM;
        }
        if words.has("nowait") {
            flag |= flags::NO_WAIT;
        }
        if words.keys.contains_key("batch") || words.has("batched") {
            flag |= flags::BATCH;
        }
        Header {
            flags: flag,
            priority: words.number("priority").unwrap_or(0) as u8,
            method: words.number("method").unwrap_or(0) as u32,
            deadline,
            seq: words.keys.get("serving").map_or(0, |request| self.requests[*request]),
            epoch: words.keys.get("epoch").map_or(0, |epoch| self.epoch(epoch)),
            ..Header::new(kind)
        }
    }

    /// Names a new call and gives it a slot.
    fn new_call(&mut self, peer: &str, call: &str, words: &Words<'_>, expect: Expect) -> u64 {
        let actor = self.peers.get_mut(peer).expect("a peer");
        let slot = words.number("slot").unwrap_or_else(|| {
            let taken: BTreeSet<u32> = actor.calls.values().map(|(word, _)| *word as u32).collect();
            u64::from((0..).find(|slot| !taken.contains(slot)).expect("a free slot"))
        });
        actor.call_slots += 1;
        let word = words.number("word").unwrap_or(slot | u64::from(actor.call_slots) << 32);
        actor.calls.insert(call.to_string(), (word, expect));
        word
    }

    fn control<B: serde::Serialize>(
        &mut self,
        peer: &str,
        call: &str,
        words: &Words<'_>,
        operation: Operation,
        body: &B,
        expect: Expect,
    ) {
        let streamed = matches!(operation, Operation::Watch | Operation::Monitor | Operation::Subscribe)
            && !words.has("unstreamed");
        let call = self.new_call(peer, call, words, expect);
        let mut header =
            Header { handle: 0, call, method: operation as u32, ..self.asked(Kind::Call, words) };
        if streamed {
            header.flags |= flags::STREAM;
        }
        let mut body = encode(body);
        if words.has("torn") {
            body.pop();
        }
        self.frame_with(peer, header, &[], &self.entries(words), &body);
    }

    fn act(&mut self, peer: &str, rest: &str) {
        let words = Words::of(rest);
        let verb = words.plain.first().copied().expect("a verb");
        match verb {
            "joins" => return self.join(peer, &words),
            "connects" => return self.connect(peer, &words),
            _ => {}
        }
        if !self.peers.contains_key(peer) {
            self.join(peer, &Words::of(""));
        }
        let word =
            |at: usize| words.plain.get(at).copied().unwrap_or_else(|| panic!("word {at} of `{rest}`"));
        let id = self.peers[peer].id;
        let actor = self.peers.get_mut(peer).expect("a peer");
        match verb {
            "greets" => self.hello(peer, &words),
            "leaves" => {
                actor.unread = 0;
                let exit_status = words.number("status").map(|status| status as u32);
                let how =
                    Departure { exit_status, process_ended: exit_status.is_some() || words.has("ended") };
                self.input(Input::Disconnect { peer: id, how });
            }
            "stops" => actor.reads = false,
            "reads" if words.plain.len() == 1 => {
                actor.reads = true;
                self.settle(Vec::new());
            }
            "reads" => {
                let bytes = word(1).parse().expect("bytes");
                actor.unread -= bytes;
                self.input(Input::Wrote { peer: id, bytes });
            }
            "owes" => {
                let unread = actor.unread;
                self.seen.push(Seen { text: format!("{peer} owes {unread}"), message: String::new() });
            }
            "opens" => {
                let name = words.after("as").unwrap_or("-");
                let body = control::Open {
                    name: word(1).into(),
                    kind: words.number("kind").unwrap_or(ObjectKind::Service as u64) as u8,
                    rights: rights_of(words.keys.get("rights").unwrap_or(&"call")),
                    on_behalf_of: words.keys.get("behalf").map_or(0, |request| self.requests[*request]),
                };
                let expect = Expect::Opened(name.into());
                self.control(peer, "opening", &words, Operation::Open, &body, expect);
            }
            "serves" => {
                let flag = |word: &str, flag: u32| if words.has(word) { flag } else { 0 };
                let body = control::Serve {
                    name: if word(1) == "privately" { String::new() } else { word(1).into() },
                    mode: words.number("mode").unwrap_or(words.has("pool").into()) as u8,
                    flags: flag("replaceable", serve_flags::ALLOW_REPLACEMENT)
                        | flag("replacing", serve_flags::REPLACE)
                        | flag("unqueued", serve_flags::DO_NOT_QUEUE)
                        | words.number("flags").unwrap_or(0) as u32,
                    calls: words.number("calls").unwrap_or(8) as u32,
                    send_bytes: words.number("window").unwrap_or(1 << 20) as u32,
                    about: "x".repeat(words.number("about").unwrap_or(0) as usize),
                };
                let handle = words.after("as").unwrap_or("-");
                let reference = words.after("reference").unwrap_or("-");
                let expect = Expect::Served(handle.into(), reference.into());
                self.control(peer, "serving", &words, Operation::Serve, &body, expect);
            }
            "closes" | "revokes" => {
                let body = control::OnHandle { handle: self.handle(word(1)) };
                let operation = if verb == "closes" { Operation::Close } else { Operation::Revoke };
                self.control(peer, verb, &words, operation, &body, Expect::Quiet);
            }
            "narrows" => {
                let body =
                    control::Narrow { handle: self.handle(word(1)), rights: rights_of(words.keys["rights"]) };
                let expect = Expect::Opened(words.after("as").unwrap_or("-").into());
                self.control(peer, "narrowing", &words, Operation::Narrow, &body, expect);
            }
            "awaits" => {
                let body = control::OnName { name: word(1).into() };
                self.control(peer, word(2), &words, Operation::Wait, &body, Expect::Found);
            }
            "watches" => {
                let body = control::OnPattern { pattern: word(1).into() };
                self.control(peer, word(2), &words, Operation::Watch, &body, Expect::Changes);
            }
            "monitors" => {
                let payload_bytes = words.number("payload").unwrap_or(16) as u32;
                let body = control::Monitor { pattern: word(1).into(), payload_bytes };
                self.control(peer, word(2), &words, Operation::Monitor, &body, Expect::Monitor);
            }
            "lists" => {
                let after = words.keys.get("after").unwrap_or(&"");
                let body = control::List { pattern: word(1).into(), after: (*after).into() };
                self.control(peer, "listing", &words, Operation::List, &body, Expect::Listing);
            }
            "describes" => {
                let body = control::OnName { name: word(1).into() };
                self.control(peer, "description", &words, Operation::Describe, &body, Expect::Description);
            }
            "identifies" => {
                let of = words.plain.get(1).map_or(0, |who| self.peers[*who].id.to_wire());
                let body = control::OnPeer { peer: of };
                self.control(peer, "identity", &words, Operation::Identify, &body, Expect::Identity);
            }
            "asks" if word(1) == "stats" => {
                let body = control::List { pattern: String::new(), after: String::new() };
                self.control(peer, "stats", &words, Operation::Stats, &body, Expect::Stats);
            }
            "asks" if word(1) == "waits" => {
                self.control(peer, "waits", &words, Operation::Waits, &(), Expect::Waits);
            }
            "asks" => {
                let expect = Expect::Status(word(1).into());
                self.control(peer, "status", &words, Operation::Status, &(), expect);
            }
            "explains" => {
                let body = control::Explain {
                    uid: words.number("uid").map(|uid| uid as u32),
                    groups: words.number("group").map(|group| group as u32).into_iter().collect(),
                    label: words.keys.get("label").unwrap_or(&"").to_string(),
                    verb: Verb::parse(word(1)).map_or(1 << 30, |verb| verb.right().0),
                    name: word(2).into(),
                };
                self.control(peer, "explanation", &words, Operation::Explain, &body, Expect::Explained);
            }
            "reloads" => self.control(peer, word(1), &words, Operation::Reload, &(), Expect::Reloaded),
            "operates" => {
                // Any control operation by number, with the payload as its body.
                let call = self.new_call(peer, word(1), &words, Expect::Payload);
                let header = Header {
                    call,
                    method: words.number("method").unwrap_or(0) as u32,
                    ..Header::new(Kind::Call)
                };
                let area = if words.has("extended") { method_name("x") } else { Vec::new() };
                self.frame_with(peer, header, &area, &self.entries(&words), &words.payload);
            }
            "subscribes" => {
                // `subscribes HANDLE CALL` or `subscribes PATTERN CALL`.
                let number = |key| words.number(key).unwrap_or(0) as u32;
                let policy = words.keys.get("policy").map_or(0, |text| {
                    let known = SlowPolicy::ALL.iter().find(|policy| policy.as_str() == *text);
                    known.map_or_else(|| text.parse().expect("a policy"), |policy| *policy as u8)
                });
                let by_handle = self.handles.contains_key(word(1)) || word(1).starts_with('#');
                let body = Subscribe {
                    handle: if by_handle { self.handle(word(1)) } else { 0 },
                    pattern: if by_handle {
                        words.keys.get("and").unwrap_or(&"").to_string()
                    } else {
                        word(1).into()
                    },
                    policy,
                    messages: number("messages"),
                    bytes: number("most"),
                    history: number("history"),
                };
                self.control(peer, word(2), &words, Operation::Subscribe, &body, Expect::Messages);
            }
            "publishes" => {
                let handle = self.handle(word(1));
                let call = self.new_call(peer, word(2), &words, Expect::Published);
                let header = Header { handle, call, ..self.asked(Kind::Call, &words) };
                let area = extensions_of(&words);
                self.frame_with(peer, header, &area, &self.entries(&words), &words.payload);
            }
            "wills" | "unwills" => {
                let body = Will {
                    handle: self.handle(word(1)),
                    method: words.number("method").unwrap_or(0) as u32,
                    payload: (verb == "wills").then(|| words.payload.clone()),
                };
                self.control(peer, "willing", &words, Operation::Will, &body, Expect::Quiet);
            }
            "stats" => {
                let body = control::OnHandle { handle: self.handle(word(1)) };
                self.control(peer, "topic", &words, Operation::TopicStat, &body, Expect::TopicStat);
            }
            "calls" => {
                let handle = self.handle(word(1));
                let call = self.new_call(peer, word(2), &words, Expect::Payload);
                let header = Header { handle, call, ..self.asked(Kind::Call, &words) };
                let area = words.keys.get("named").map_or(Vec::new(), |name| method_name(name));
                self.frame_with(peer, header, &area, &self.entries(&words), &words.payload);
            }
            "raises" | "pulses" | "listens" => {
                let number = |key: &str| words.number(key).unwrap_or(0);
                let (method, body) = match verb {
                    "raises" => (SignalMethod::Raise, encode(&Raise { bits: number("bits") })),
                    "pulses" => {
                        let pulse = Pulse { code: number("code") as u32, value: number("value") };
                        (SignalMethod::Pulse, encode(&pulse))
                    }
                    _ => {
                        let ask = Await { mask: number("mask"), pulses: words.has("pulsed") };
                        (SignalMethod::Await, encode(&ask))
                    }
                };
                let handle = self.handle(word(1));
                let kind = if words.has("oneway") { Kind::Send } else { Kind::Call };
                let call = match kind {
                    Kind::Call if verb == "listens" => self.new_call(peer, word(2), &words, Expect::Raised),
                    Kind::Call => self.new_call(peer, word(2), &words, Expect::Quiet),
                    _ => number("tag"),
                };
                let header = Header { handle, call, method: method as u32, ..self.asked(kind, &words) };
                self.frame_with(peer, header, &[], &self.entries(&words), &body);
            }
            "sends" => {
                let header = Header {
                    handle: self.handle(word(1)),
                    call: words.number("tag").unwrap_or(0),
                    ..self.asked(Kind::Send, &words)
                };
                let area = extensions_of(&words);
                self.frame_with(peer, header, &area, &self.entries(&words), &words.payload);
            }
            "replies" | "streams" => {
                let kind = if verb == "replies" { Kind::Reply } else { Kind::Item };
                let header = Header { call: self.request(word(1)), ..Header::new(kind) };
                self.frame_with(peer, header, &[], &self.entries(&words), &words.payload);
            }
            "fails" => {
                let outcome = Outcome::ALL.iter().find(|outcome| outcome.as_str() == word(2));
                let method = words
                    .number("method")
                    .map_or_else(|| *outcome.expect("an outcome") as u32, |method| method as u32);
                let header = Header { call: self.request(word(1)), method, ..Header::new(Kind::Outcome) };
                let text = String::from_utf8(words.payload.clone()).expect("text");
                let failure = Failure { domain: "test".into(), code: 7, ..Failure::new(text) };
                self.frame_with(peer, header, &[], &[], &encode(&failure));
            }
            "cancels" => {
                let header = Header { call: actor.calls[word(1)].0, ..Header::new(Kind::Cancel) };
                self.frame_with(peer, header, &[], &[], &[]);
            }
            "credits" => {
                let seq = word(2).parse().expect("an amount");
                let actor = &self.peers[peer];
                let header = match actor.calls.get(word(1)) {
                    Some(&(call, _)) => Header { call, seq, ..Header::new(Kind::Credit) },
                    None => Header { handle: self.handle(word(1)), seq, ..Header::new(Kind::Credit) },
                };
                self.frame_with(peer, header, &[], &[], &[]);
            }
            "says" => {
                let kind = match word(1) {
                    "welcome" => Kind::Welcome,
                    "goodbye" => Kind::Goodbye,
                    "event" => Kind::Event,
                    "call" => Kind::Call,
                    other => panic!("says {other}"),
                };
                self.frame_with(peer, Header::new(kind), &[], &[], &words.payload);
            }
            "babbles" => {
                let why = match word(1) {
                    "version" => Breach::Frame(FrameError::Version(9)),
                    "descriptors" => Breach::FileDescriptors,
                    _ => Breach::Frame(FrameError::Kind(0x77)),
                };
                self.input(Input::Broken { from: id, why });
            }
            "overdoes" => {
                // A frame with a payload over the limit, of which the driver hands in the header.
                let len = words.number("payload").unwrap_or(1 << 25) as u32 + 64;
                let header = match word(1) {
                    "call" => {
                        let handle = self.handle(word(2));
                        let call = self.new_call(peer, word(3), &words, Expect::Payload);
                        Header { handle, call, ..Header::new(Kind::Call) }
                    }
                    "send" => Header { handle: self.handle(word(2)), call: 5, ..Header::new(Kind::Send) },
                    "reply" => Header { call: self.request(word(2)), ..Header::new(Kind::Reply) },
                    "item" => Header { call: self.request(word(2)), ..Header::new(Kind::Item) },
                    _ => Header::new(Kind::Cancel),
                };
                self.input(Input::Oversized { from: id, header: Header { len, ..header } });
            }
            "announces" => {
                let bytes = word(1).parse().expect("bytes");
                let (now, mut effects) = (self.now, Vec::new());
                let admitted = self.broker().admit(now, id, bytes, &mut effects);
                self.check_books();
                if admitted {
                    self.seen.push(Seen { text: format!("{peer} admitted"), message: String::new() });
                }
                self.settle(effects);
            }
            other => assert!(self.queue_act(peer, other, &words), "no verb `{other}`: {rest}"),
        }
    }

    fn request(&self, name: &str) -> u64 {
        match self.requests.get(name) {
            Some(&word) => word,
            None => name
                .strip_prefix('#')
                .and_then(|n| n.parse().ok())
                .unwrap_or_else(|| panic!("no request {name}")),
        }
    }

    // --- what comes out ---

    fn name_of(&self, id: PeerId) -> String {
        self.peers.iter().find(|(_, actor)| actor.id == id).map_or(format!("{id}"), |(name, _)| name.clone())
    }

    fn name_of_word(&self, word: u64) -> String {
        if word == 0 { "nobody".into() } else { self.name_of(PeerId::from_wire(word)) }
    }

    fn handle_name(&self, holder: &str, word: u64) -> String {
        let mine = |(_, (by, handle)): &(&String, &(String, u64))| by == holder && *handle == word;
        self.handles.iter().find(mine).map_or(format!("#{word:#x}"), |(name, _)| name.clone())
    }

    fn request_name(&mut self, word: u64) -> String {
        if let Some((name, _)) = self.requests.iter().find(|(_, known)| **known == word) {
            return name.clone();
        }
        self.requests_seen += 1;
        let name = format!("r{}", self.requests_seen);
        self.requests.insert(name.clone(), word);
        name
    }

    fn bind(&mut self, name: &str, holder: &str, word: u64) {
        if name != "-" {
            self.handles.insert(name.to_string(), (holder.to_string(), word));
        }
    }

    fn show_time(&self, deadline: u64) -> String {
        let left = Duration::from_nanos(deadline.saturating_sub(self.now.0));
        if left < Duration::from_secs(1) {
            format!("{}ms", left.as_millis())
        } else {
            format!("{}s", left.as_secs())
        }
    }

    fn render(&mut self, effect: Effect<Vec<u8>>) -> Option<Seen> {
        let mut message = String::new();
        let text = match effect {
            Effect::Send { to, header, tail } => {
                let to = self.name_of(to);
                let (entries, bytes) = match tail {
                    SendTail::Empty => (None, Vec::new()),
                    SendTail::Forward(bytes) => (None, bytes),
                    SendTail::Patched(bytes, entries) => (Some(entries), bytes),
                    SendTail::Own(bytes) => (None, bytes),
                    tail @ (SendTail::Extended(..) | SendTail::Shown(_)) => (None, tail.to_bytes(&header)),
                };
                assert_eq!(bytes.len(), header.tail_len(), "a tail as long as its header says");
                let tail = Tail::of(&header, &bytes);
                if entries.is_none() {
                    assert_eq!(header.handles, 0, "a handle table of the sender's went through");
                }
                let mut text = self.render_frame(&to, &header, &tail, &mut message);
                for entry in entries.iter().flatten() {
                    if entry.handle == 0 {
                        text.push_str(" +lost");
                    } else {
                        self.grips_seen += 1;
                        let name = format!("g{}", self.grips_seen);
                        self.bind(&name, &to, entry.handle);
                        write!(text, " +{name}:{}", show_rights(entry.rights)).expect("a string");
                    }
                }
                text
            }
            Effect::Resume { peer } => format!("resume {}", self.name_of(peer)),
            Effect::Pause { peer } => format!("pause {}", self.name_of(peer)),
            Effect::Close { peer } => format!("close {}", self.name_of(peer)),
            Effect::Forget { peer } => format!("forget {}", self.name_of(peer)),
            Effect::Append { position, sync, .. } => {
                format!("append {position}{}", if sync { " sync" } else { "" })
            }
            Effect::Sync => return None,
            Effect::Roll { segment } => format!("roll {segment}"),
            Effect::DropSegment { segment } => format!("drop {segment}"),
            Effect::Reload => "reload".into(),
            Effect::Log(fact) => return self.show_log.then(|| self.render_fact(fact)).flatten(),
        };
        Some(Seen { text, message })
    }

    fn render_fact(&self, fact: Fact) -> Option<Seen> {
        let (text, message) = match fact {
            Fact::MonitorStarted { peer, uid, pattern, .. } => {
                (format!("log: {} (user {uid}) monitors {pattern}", self.name_of(peer)), String::new())
            }
            Fact::MonitorEnded { peer } => {
                (format!("log: {} monitors no more", self.name_of(peer)), String::new())
            }
            Fact::Expelled { peer, why, message, .. } => {
                (format!("log: expelled {} {why:?}", self.name_of(peer)), message)
            }
            Fact::Refused { peer, outcome, message, .. } => {
                (format!("log: refused {} {outcome}", self.name_of(peer)), message)
            }
            Fact::ConnectionsDelayed { uid } => (format!("log: delayed {uid}"), String::new()),
            Fact::Disconnected { peer, calls } => {
                (format!("log: left {} calls={calls}", self.name_of(peer)), String::new())
            }
            Fact::Owned { name, .. } => (format!("log: owned {name}"), String::new()),
            Fact::Orphaned { name } => (format!("log: orphaned {name}"), String::new()),
            Fact::LogFailed { message } => ("log: log failed".into(), message),
            Fact::QueueRefused { name, message } => (format!("log: queue {name} refused"), message),
            Fact::ReloadFailed { message } => ("log: reload failed".into(), message),
            Fact::Reloaded => ("log: reloaded".into(), String::new()),
            Fact::RecordingBegan { .. } => ("log: recording".into(), String::new()),
            Fact::RecordingStopped { why } => ("log: recording stopped".into(), why),
            Fact::Connected { peer, uid, .. } => {
                (format!("log: connected {} (user {uid})", self.name_of(peer)), String::new())
            }
        };
        Some(Seen { text, message })
    }

    fn render_frame(&mut self, to: &str, header: &Header, tail: &Tail<'_>, message: &mut String) -> String {
        let payload = tail.payload;
        let quoted = || match payload {
            [] => String::new(),
            long if 64 < long.len() => format!(" [{} bytes]", long.len()),
            short => format!(" \"{}\"", String::from_utf8_lossy(short)),
        };
        match header.kind {
            Kind::Welcome => {
                let it: Welcome = decode(payload).expect("a welcome");
                assert_eq!((it.incarnation, it.broker_ns), (INCARNATION, self.now.0));
                assert_eq!(it.peer, self.peers[to].id.to_wire());
                format!(
                    "{to} welcome version={} features={} calls={} priority={}",
                    it.version, it.features, it.calls_open_max, it.priority_max
                )
            }
            Kind::Goodbye => {
                let it: Goodbye = decode(payload).expect("a goodbye");
                *message = it.message;
                format!("{to} goodbye {:?}", GoodbyeReason::from_wire(header.method))
            }
            Kind::Call | Kind::Send => {
                let from = self.name_of(PeerId::from_wire(header.seq));
                let on = self.handle_name(to, header.handle);
                let mut text = match header.kind {
                    Kind::Call => format!("{to} gets {} on {on} from {from}", self.request_name(header.call)),
                    _ => format!("{to} receives on {on} from {from}"),
                };
                if header.priority != 0 {
                    write!(text, " priority={}", header.priority).expect("a string");
                }
                if header.deadline != 0 {
                    write!(text, " deadline={}", self.show_time(header.deadline)).expect("a string");
                }
                if header.flags & flags::STREAM != 0 {
                    text.push_str(" streamed");
                }
                if header.flags & flags::BATCH != 0 {
                    text.push_str(" batched");
                }
                let named = tail.extensions().and_then(|all| all.find(extension_type::METHOD_NAME));
                if let Some(name) = named {
                    write!(text, " named={}", String::from_utf8_lossy(name)).expect("a string");
                }
                text + &quoted()
            }
            Kind::Reply => {
                let (call, expect) = self.take_call(to, header.call);
                match expect {
                    Expect::Payload => {
                        // The epoch of the owner that answered is only worth a word if it is not the first.
                        let epoch = header.epoch as u32;
                        let epoch = if epoch == 1 { String::new() } else { format!(" epoch={epoch}") };
                        format!("{to} {call} Reply{epoch}{}", quoted())
                    }
                    Expect::Opened(name) => {
                        let it: control::Opened = decode(payload).expect("opened");
                        self.bind(&name, to, it.handle);
                        format!(
                            "{to} opened {name} {} epoch={}",
                            show_rights(Rights(it.rights)),
                            it.epoch as u32
                        )
                    }
                    Expect::Served(name, reference) => {
                        let it: control::Served = decode(payload).expect("served");
                        self.bind(&name, to, it.handle);
                        self.bind(&reference, to, it.reference);
                        if it.standby == 0 {
                            assert_eq!((it.epoch >> 32) as u32, INCARNATION);
                            format!("{to} served {name} epoch={}", it.epoch as u32)
                        } else {
                            assert_eq!(it.epoch, 0);
                            format!("{to} stands by {name} place={}", it.standby)
                        }
                    }
                    Expect::Found => {
                        let it: control::Found = decode(payload).expect("found");
                        format!("{to} {call} found epoch={}", it.epoch as u32)
                    }
                    Expect::Quiet => {
                        assert!(payload.is_empty());
                        format!("{to} done")
                    }
                    Expect::Listing => {
                        let it: control::Listing = decode(payload).expect("a listing");
                        let names: Vec<&str> = it.names.iter().map(|info| info.name.as_str()).collect();
                        let names = match names[..] {
                            [first, .., last] if 8 < names.len() => {
                                format!("{} names from {first} to {last}", names.len())
                            }
                            _ => names.join(","),
                        };
                        format!("{to} listed {names} next={}", it.next)
                    }
                    Expect::Description => {
                        let it: control::Description = decode(payload).expect("a description");
                        let servers: Vec<String> = it
                            .servers
                            .iter()
                            .map(|s| {
                                format!(
                                    "{}:{}:{}/{}",
                                    self.name_of_word(s.peer),
                                    s.standby,
                                    s.outstanding,
                                    s.calls
                                )
                            })
                            .collect();
                        format!(
                            "{to} described {} servers={} waiting={} handles={}",
                            self.show_info(&it.info),
                            servers.join(","),
                            it.waiting,
                            it.handles
                        )
                    }
                    Expect::Identity => {
                        let it: control::PeerInfo = decode(payload).expect("an identity");
                        format!(
                            "{to} identified {} uid={} gid={} groups={:?} pid={} label={} program={}",
                            self.name_of_word(it.peer),
                            it.uid,
                            it.gid,
                            it.groups,
                            it.pid,
                            it.label,
                            it.program
                        )
                    }
                    Expect::Status(what) => {
                        let it: control::Status = decode(payload).expect("a status");
                        format!("{to} told {what}={}", status_of(&it, &what))
                    }
                    Expect::Stats => {
                        let it: control::Stats = decode(payload).expect("stats");
                        let peers: Vec<String> = it
                            .peers
                            .iter()
                            .map(|p| format!("{}:{}+{}", self.name_of_word(p.peer), p.calls_open, p.serving))
                            .collect();
                        format!("{to} told stats {}", peers.join(","))
                    }
                    Expect::Waits => {
                        let it: control::Waits = decode(payload).expect("waits");
                        let edge = |e: &control::WaitEdge| {
                            format!(
                                "{}>{}({})",
                                self.name_of_word(e.caller),
                                self.name_of_word(e.server),
                                e.name
                            )
                        };
                        let edges: Vec<String> = it.edges.iter().map(edge).collect();
                        let cycle = |c: &Vec<u64>| {
                            c.iter().map(|&peer| self.name_of_word(peer)).collect::<Vec<_>>().join(">")
                        };
                        let cycles: Vec<String> = it.cycles.iter().map(cycle).collect();
                        format!("{to} told waits {} cycles={}", edges.join(","), cycles.join(","))
                    }
                    Expect::Explained => {
                        let it: control::Explained = decode(payload).expect("an explanation");
                        *message = it.rule;
                        format!("{to} explained allowed={} priority={}", it.allowed, it.priority_max)
                    }
                    Expect::Raised => {
                        let it: Raised = decode(payload).expect("raised");
                        let pulse = it
                            .pulse
                            .map_or(String::new(), |pulse| format!(" {}:{}", pulse.code, pulse.value));
                        let over =
                            if it.overflow == 0 { String::new() } else { format!(" +{}", it.overflow) };
                        format!("{to} {call} raised {:#x}{pulse}{over}", it.bits)
                    }
                    Expect::Reloaded => {
                        let it: control::Reloaded = decode(payload).expect("reloaded");
                        format!("{to} {call} reloaded {}", it.files.join(","))
                    }
                    Expect::Published => {
                        assert!(payload.is_empty());
                        let stored = stored(header);
                        format!("{to} {call} published {} to={}{stored}", header.seq, header.caller)
                    }
                    Expect::TopicStat => {
                        let it: TopicInfo = decode(payload).expect("a topic's info");
                        format!(
                            "{to} told subscriptions={} sequence={} held={} kept={}:{} retain={}",
                            it.subscriptions, it.sequence, it.held, it.kept, it.kept_bytes, it.retain
                        )
                    }
                    Expect::Changes | Expect::Monitor | Expect::Messages => format!("{to} {call} Reply"),
                    Expect::Queue(expect) => self.render_queue(to, &call, header, tail, &expect),
                }
            }
            Kind::Outcome => {
                let (call, _) = self.take_call(to, header.call);
                let it: Failure = decode(payload).expect("a failure");
                let exit = it.exit_status.map_or(String::new(), |status| format!(" status={status}"));
                let retry = if it.retry_after_ms == 0 { "" } else { " retry" };
                let code =
                    if it.code == 0 { String::new() } else { format!(" code={}:{}", it.domain, it.code) };
                *message = it.message;
                let outcome = Outcome::from_wire(header.method);
                assert!(outcome == Outcome::Busy || retry.is_empty());
                format!("{to} {call} {outcome}{code}{exit}")
            }
            Kind::Cancel => {
                let request = self.request_name(header.call);
                format!("{to} cancel {request} {}", Outcome::from_wire(header.method))
            }
            Kind::Item => {
                let (call, expect) = self.peers[to]
                    .calls
                    .iter()
                    .find(|(_, (word, _))| *word == header.call)
                    .map(|(call, (_, expect))| (call.clone(), expect.clone()))
                    .unwrap_or_else(|| panic!("{to} got an item of no open call"));
                match expect {
                    Expect::Changes => {
                        let it: control::NameChange = decode(payload).expect("a change");
                        match it.what {
                            1 => format!("{to} {call} {} end", header.seq),
                            what => {
                                let what = ["is", "end", "owned", "orphaned"][usize::from(what)];
                                format!("{to} {call} {} {what} {}", header.seq, self.show_info(&it.info))
                            }
                        }
                    }
                    Expect::Messages => self.render_message(to, &call, header, tail),
                    Expect::Monitor => {
                        let it: control::MonitorItem = decode(payload).expect("a monitor's item");
                        let kind = Kind::from_wire(it.kind).expect("a kind");
                        format!(
                            "{to} {call} {} sees {kind:?} {} {}>{} lost={} \"{}\"",
                            header.seq,
                            it.name,
                            self.name_of_word(it.from),
                            self.name_of_word(it.to),
                            it.lost,
                            String::from_utf8_lossy(&it.payload)
                        )
                    }
                    Expect::Queue(expect) => self.render_queue(to, &call, header, tail, &expect),
                    _ => format!("{to} {call} item {}{}", header.seq, quoted()),
                }
            }
            Kind::Credit if header.call != 0 => {
                format!("{to} credit {} {}", self.request_name(header.call), header.seq)
            }
            Kind::Credit => format!("{to} credit {} {}", self.handle_name(to, header.handle), header.seq),
            Kind::Event => {
                let handle = self.handle_name(to, header.handle);
                match Event::from_wire(header.method).expect("an event") {
                    Event::HandleRevoked => format!("{to} revoked {handle}"),
                    Event::OwnerGained => format!("{to} gained {handle} epoch={}", header.epoch as u32),
                    Event::OwnerReplaced => format!("{to} replaced {handle} place={}", header.seq),
                    Event::SendFailed => {
                        *message = decode::<Failure>(payload).expect("a failure").message;
                        let outcome = Outcome::from_wire(header.seq as u32);
                        format!(
                            "{to} unsent {handle} {outcome} messages={} tag={}",
                            header.epoch, header.call
                        )
                    }
                    Event::ShuttingDown => format!("{to} shutting down"),
                }
            }
            Kind::Hello => panic!("the broker says hello"),
        }
    }

    /// An item of a subscription.
    fn render_message(&mut self, to: &str, call: &str, header: &Header, tail: &Tail<'_>) -> String {
        let items = &mut self.peers.get_mut(to).expect("a peer").items;
        let items = items.entry(header.call).or_default();
        *items += 1;
        assert_eq!(header.seq, *items, "items are numbered without gaps");
        let position = header.epoch;
        let kind = match Delivery::from_wire(header.handle).expect("a kind of item") {
            Delivery::Subscribed => return format!("{to} {call} subscribed {position}"),
            Delivery::Lost => return format!("{to} {call} lost {position}-{}", header.deadline),
            Delivery::Message => "",
            Delivery::Earlier => " earlier",
        };
        let pid = (header.caller >> 32) as u32;
        let from = self.peers.iter().find(|(_, actor)| actor.id.slot + 100 == pid);
        let from = from.map_or("nobody", |(name, _)| name.as_str());
        let mut text = format!("{to} {call}{kind} {position} from {from}");
        if header.deadline != position {
            write!(text, " sequence={}", header.deadline).expect("a string");
        }
        if header.method != 0 {
            write!(text, " method={}", header.method).expect("a string");
        }
        if header.priority != 0 {
            write!(text, " priority={}", header.priority).expect("a string");
        }
        let extensions = tail.extensions().expect("a well-formed area");
        for extension in extensions {
            let value = String::from_utf8_lossy(extension.value);
            match extension.kind {
                extension_type::TOPIC => write!(text, " of={value}"),
                extension_type::METHOD_NAME => write!(text, " named={value}"),
                other => write!(text, " extension={other}:{value}"),
            }
            .expect("a string");
        }
        if header.flags & flags::BATCH != 0 {
            let parts =
                Parts::of(tail.payload).map(|part| String::from_utf8_lossy(part.payload).into_owned());
            write!(text, " batch={}", parts.collect::<Vec<_>>().join(",")).expect("a string");
            return text;
        }
        match tail.payload {
            [] => {}
            long if 64 < long.len() => write!(text, " [{} bytes]", long.len()).expect("a string"),
            short => write!(text, " \"{}\"", String::from_utf8_lossy(short)).expect("a string"),
        }
        text
    }

    /// The name of a call that has ended. Every call ends once, so its name is free from here on.
    fn take_call(&mut self, peer: &str, word: u64) -> (String, Expect) {
        let actor = self.peers.get_mut(peer).expect("a peer");
        let call = actor.calls.iter().find(|(_, (known, _))| *known == word).map(|(call, _)| call.clone());
        let call =
            call.unwrap_or_else(|| panic!("{peer} was told the end of call {word:#x}, which is not open"));
        let (_, expect) = actor.calls.remove(&call).expect("an open call");
        (call, expect)
    }

    fn show_info(&self, info: &control::NameInfo) -> String {
        let mode = if info.mode == 1 { " pool" } else { "" };
        format!(
            "{} epoch={} owner={} owners={} standby={}{mode}",
            info.name,
            info.epoch as u32,
            self.name_of_word(info.owner),
            info.owners,
            info.standby
        )
    }
}

fn status_of(status: &control::Status, what: &str) -> String {
    let counter = status.counters.iter().find(|counter| counter.name == what).map(|counter| counter.value);
    let limit = what
        .strip_prefix("used:")
        .and_then(|what| status.limits.iter().find(|limit| limit.name == what).map(|limit| limit.used));
    match what {
        "connections" => status.connections.to_string(),
        "names" => status.names.to_string(),
        "names_owned" => status.names_owned.to_string(),
        "handles" => status.handles.to_string(),
        "calls_open" => status.calls_open.to_string(),
        "waiting" => status.waiting.to_string(),
        "waiting_bytes" => status.waiting_bytes.to_string(),
        "watches" => status.watches.to_string(),
        "subscriptions" => status.subscriptions.to_string(),
        "queued" => status.queued.to_string(),
        "queued_bytes" => status.queued_bytes.to_string(),
        "failure" => status.storage.failure.clone(),
        "log_bytes" => status.storage.bytes.to_string(),
        "segments" => format!("{}..{}", status.storage.segment_first, status.storage.segment_last),
        "version" => status.version.clone(),
        "sum" => {
            let sum: u64 = status.limits.iter().map(|limit| limit.bytes).sum();
            (sum == status.memory_bytes_max && 0 < sum).to_string()
        }
        _ => counter.or(limit).unwrap_or_else(|| panic!("no status {what}")).to_string(),
    }
}

fn method_name(name: &str) -> Vec<u8> {
    let mut builder = ExtensionsBuilder::default();
    builder.add(extension_type::METHOD_NAME, name.as_bytes());
    builder.finish()
}

/// The extension area that the words ask for: `named=METHOD` and `topic=NAME`.
fn extensions_of(words: &Words<'_>) -> Vec<u8> {
    let mut builder = ExtensionsBuilder::default();
    for (key, kind) in [("named", extension_type::METHOD_NAME), ("topic", extension_type::TOPIC)] {
        if let Some(value) = words.keys.get(key) {
            builder.add(kind, value.as_bytes());
        }
    }
    if let Some(bytes) = words.number("extended") {
        builder.add(0x0077, &vec![b'x'; bytes as usize]);
    }
    builder.finish()
}

fn rights_of(text: &str) -> u32 {
    match text {
        "none" => 0,
        "undefined" => 1 << 20,
        _ => text
            .split('+')
            .map(|verb| Verb::parse(verb).unwrap_or_else(|| panic!("no verb {verb}")).right().0)
            .sum(),
    }
}

fn show_rights(rights: Rights) -> String {
    let verbs: Vec<&str> =
        Verb::ALL.into_iter().filter(|verb| rights.contains(verb.right())).map(Verb::as_str).collect();
    if verbs.is_empty() { "none".into() } else { verbs.join("+") }
}

fn duration(text: &str) -> Duration {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or_else(|| panic!("`{text}` has no unit"));
    let number = text[..at].parse().expect("a number");
    match &text[at..] {
        "ns" => Duration::from_nanos(number),
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        unit => panic!("no unit {unit}"),
    }
}
