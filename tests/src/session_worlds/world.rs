//! A world of a few programs around one broker, from a seed to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use switchboard_core::{
    Identity, Input, Limits, Policy, QueueSettings, Rule, Settings, Subject, TopicSettings, UserLimits,
};
use switchboard_protocol::control;
use switchboard_protocol::queue::{Overflow, QueueMethod};
use switchboard_protocol::signal::{Await, SignalMethod};
use switchboard_protocol::{
    Decoder, HELLO_MAGIC, Header, Hello, Instant, Kind, Name, ObjectKind, Pattern, PeerId, VERSION, Verb,
    decode, encode, write_frame,
};

use super::Dice;
use super::honest::Honest;
use super::hostile::Hostile;
use super::oracle::Oracle;
use super::post::{EVENT, LASTING, QUEUES};
use super::rim::Rim;
use super::tamper::Tamper;

const HONEST: usize = 5;
const HOSTILE: usize = 2;
/// Steps by chance.
const STEPS: u64 = 600;
/// Rounds in which everything must come to rest.
const REST: u64 = 400;
const AGEING_STEP: Duration = Duration::from_millis(5);

/// What happened in a world that kept every promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// A digest of every effect, in order.
    pub hash: u64,
    /// Inputs that the core was given.
    pub inputs: u64,
    /// Calls whose end a program was told.
    pub ended: u64,
    /// Replies among them, control operations not counted.
    pub replies: u64,
    /// One-way messages that reached a program.
    pub received: u64,
    /// Answers and items of topics, queues and events.
    pub posted: u64,
}

/// What it is for stands at the head of this file.
pub struct World {
    dice: Dice,
    rim: Rim,
    honest: Vec<Honest>,
    hostile: Vec<Hostile>,
    uids: u64,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, tamper: Box<dyn Tamper>, keep_steps: bool) -> Self {
        let mut dice = Dice::new(seed);
        let now = Instant(1_000_000_000 + dice.below(1 << 40));
        let oracle = Oracle::new(AGEING_STEP.as_nanos() as u64, priority_max);
        let settings = settings(&mut dice);
        let honest = (0..HONEST).map(|at| Honest::new(1 + at as u32 % 3, &mut dice)).collect();
        let hostile = (0..HOSTILE).map(|at| Hostile::new(3 + at as u32)).collect();
        let rim = Rim::new(settings, now, oracle, tamper, keep_steps);
        Self { dice, rim, honest, hostile, uids: 0 }
    }

    /// The last steps, if they were kept.
    pub fn steps(&self) -> Vec<String> {
        self.rim.steps.iter().cloned().collect()
    }

    /// Lets it run to its end; the error says which promise was broken.
    pub fn run(&mut self) -> Result<Summary, String> {
        for step in 0..STEPS {
            self.step()?;
            if step % 32 == 0 {
                self.rim.core.check_invariants();
            }
        }
        self.rest()?;
        self.end()?;
        let sum = |of: fn(&Honest) -> u64| self.honest.iter().map(of).sum();
        Ok(Summary {
            hash: self.rim.oracle.hash(),
            inputs: self.rim.inputs,
            ended: sum(|honest| honest.ended),
            replies: sum(|honest| honest.replies),
            received: sum(|honest| honest.received),
            posted: self.rim.oracle.post.seen,
        })
    }

    fn step(&mut self) -> Result<(), String> {
        let Self { dice, rim, honest, hostile, uids } = self;
        // Time passes, now and then a lot of it.
        let wait = match dice.below(400) {
            0 => dice.below(3_000_000_000),
            1..=20 => dice.below(10_000_000),
            _ => dice.below(100_000),
        };
        rim.now = Instant(rim.now.0 + wait);
        // Sometimes the broker's thread is late.
        if rim.core.next_wake().is_some_and(|at| at <= rim.now) && !dice.one_in(3) {
            rim.handle(Input::Wake)?;
        }

        match dice.below(300) {
            0 => {
                let settings = settings(dice);
                let result = if dice.one_in(4) { Err("wrong".into()) } else { Ok(settings) };
                rim.handle(Input::Reloaded { result })?;
            }
            1 => {
                let at = dice.index(honest.len());
                if let Some(peer) = honest[at].peer {
                    rim.hang_up(peer, dice.pick(&[None, Some(9), Some(256)]).flatten())?;
                    honest[at].lose()?;
                }
            }
            2 | 3 => {
                let at = dice.index(hostile.len());
                if let Some(peer) = hostile[at].peer {
                    rim.hang_up(peer, None)?;
                    hostile[at].lose();
                }
            }
            _ => {}
        }
        if std::mem::take(&mut rim.reload_wanted) {
            let settings = settings(dice);
            rim.handle(Input::Reloaded { result: Ok(settings) })?;
        }

        let at = dice.index(honest.len());
        let one = &mut honest[at];
        if one.peer.is_none() && dice.one_in(4) {
            let peer = rim.connect(identity(one.user, 100 + at as u32))?;
            one.begin(rim.now, peer);
        }
        for _ in 0..dice.below(4) {
            one.act(rim.now, dice, uids)?;
        }
        let at = dice.index(hostile.len());
        let one = &mut hostile[at];
        if one.peer.is_none() && dice.one_in(6) {
            let peer = rim.connect(identity(one.user, 900 + at as u32))?;
            rim.oracle.behaves(peer, false);
            one.begin(peer, dice);
        }
        for _ in 0..dice.below(3) {
            one.act(rim, dice, uids);
        }

        // Bytes move, cut anywhere.
        let most = |dice: &mut Dice| match dice.below(4) {
            0 => dice.index(80),
            1 => dice.index(600),
            _ => 20_000,
        };
        for one in honest.iter_mut() {
            let (out, back) = (most(dice), most(dice));
            one.write(rim, out);
            one.read(rim, dice, back)?;
        }
        for one in hostile.iter_mut() {
            let (out, back) = (most(dice), most(dice));
            one.write(rim, out);
            one.read(rim, back);
        }
        for slot in 0..rim.links.len() {
            let (back, out) = (most(dice), most(dice));
            rim.receive(slot, back)?;
            rim.transmit(slot, out)?;
        }
        Ok(())
    }

    /// Nothing new, nobody hostile, and time enough: everything that is open must end.
    fn rest(&mut self) -> Result<(), String> {
        let Self { dice, rim, honest, hostile, uids } = self;
        for one in hostile.iter_mut() {
            if let Some(peer) = one.peer {
                rim.hang_up(peer, None)?;
                one.lose();
            }
        }
        if std::mem::take(&mut rim.reload_wanted) {
            let settings = settings(dice);
            rim.handle(Input::Reloaded { result: Ok(settings) })?;
        }
        let mut quiet = 0;
        for round in 0..REST {
            rim.now = Instant(rim.now.0 + 2_000_000);
            rim.handle(Input::Wake)?;
            for one in honest.iter_mut() {
                one.wind_down(round, uids);
                one.write(rim, usize::MAX);
                one.read(rim, dice, usize::MAX)?;
            }
            let before = rim.inputs;
            for slot in 0..rim.links.len() {
                rim.receive(slot, usize::MAX)?;
                rim.transmit(slot, usize::MAX)?;
            }
            let still = rim.inputs == before && honest.iter_mut().all(Honest::is_done);
            quiet = if still { quiet + 1 } else { 0 };
            // Hello timeouts and deadlines are over by then.
            if 3 <= quiet && 100 < round {
                rim.core.check_invariants();
                rim.oracle.at_rest()?;
                return Self::settled(rim, honest, uids);
            }
        }
        rim.oracle.at_rest()?;
        let stuck = honest.iter_mut().find_map(|one| (!one.is_done()).then(|| one.describe(rim)));
        Err(format!("the world never comes to rest: {}", stuck.unwrap_or_default()))
    }

    /// What must be so when all has come to rest.
    fn settled(rim: &mut Rim, honest: &mut [Honest], uids: &mut u64) -> Result<(), String> {
        let status: control::Status = ask(rim, control::Operation::Status, &())?;
        // The one who asks holds none.
        if status.handles != rim.oracle.handles_held() {
            return Err(format!(
                "the broker has {} handles, and {} were given to those who are there",
                status.handles,
                rim.oracle.handles_held()
            ));
        }
        if (status.waiting, status.waiting_bytes) != (0, 0) {
            return Err(format!("{} messages of {} bytes still wait", status.waiting, status.waiting_bytes));
        }
        let body = control::List { pattern: "sim.**".into(), after: String::new() };
        let listing: control::Listing = ask(rim, control::Operation::List, &body)?;
        let truth: BTreeMap<String, u64> =
            listing.names.into_iter().map(|info| (info.name, info.epoch)).collect();
        for one in honest.iter_mut() {
            // A watch shows what its user may see, which a reload may have changed.
            if let Some(seen) = one.view().filter(|_| one.user == 1)
                && *seen != truth
            {
                return Err(format!("a watch shows {seen:?} where there is {truth:?}"));
            }
            one.windows_are_free(uids)?;
        }
        Ok(())
    }

    /// Everybody leaves, and nothing is left of them.
    fn end(&mut self) -> Result<(), String> {
        let Self { dice, rim, honest, .. } = self;
        let down = dice.one_in(4);
        if down {
            rim.handle(Input::Shutdown)?;
        }
        for one in honest.iter_mut() {
            if let Some(peer) = one.peer {
                rim.hang_up(peer, None)?;
                one.lose()?;
            }
        }
        for slot in 0..rim.links.len() {
            if let Some(link) = &rim.links[slot] {
                let peer = link.id;
                rim.hang_up(peer, None)?;
            }
        }
        for _ in 0..1000 {
            if rim.core.next_wake() != Some(Instant(0)) {
                break;
            }
            rim.handle(Input::Wake)?;
        }
        if !down {
            sweep(rim)?;
        }
        rim.core.check_invariants();
        // What is in queues and events waits for the next one to ask for it, also when the broker goes down.
        if !down && !rim.core.is_empty() {
            return Err("everybody has left, and something is left of them".into());
        }
        if rim.links.iter().any(Option::is_some) {
            return Err("everybody has left, and a link was not forgotten".into());
        }
        Ok(())
    }
}

/// Takes out what is left in queues and events, which outlasts those who put it there: no more and no
/// less than must be.
fn sweep(rim: &mut Rim) -> Result<(), String> {
    // All leases are over by then.
    rim.now = Instant(rim.now.0 + 60_000_000_000);
    rim.handle(Input::Wake)?;
    let certain = rim.oracle.post.certain(QUEUES[0]);
    for queue in QUEUES {
        let header = Header { method: QueueMethod::Purge as u32, ..Header::new(Kind::Call) };
        let answers = converse(rim, queue, ObjectKind::Queue, Verb::Pop, &[(header, Vec::new())])?;
        let purged = answers.first().ok_or_else(|| format!("`{queue}` cannot be purged"))?.0.seq;
        if queue == QUEUES[0] && purged < certain {
            return Err(format!("{purged} messages are left in `{queue}`, and {certain} must be"));
        }
    }
    // Flags come first, all at once, and then each pulse; what finds nothing waits, and the rest are refused.
    let header = Header { method: SignalMethod::Await as u32, ..Header::new(Kind::Call) };
    let all = vec![(header, encode(&Await { mask: u64::MAX, pulses: true })); 25];
    converse(rim, EVENT, ObjectKind::Event, Verb::Subscribe, &all)?;
    Ok(())
}

/// Opens something over a connection of its own and calls it; the replies.
fn converse(
    rim: &mut Rim,
    name: &str,
    kind: ObjectKind,
    verb: Verb,
    calls: &[(Header, Vec<u8>)],
) -> Result<Vec<(Header, Vec<u8>)>, String> {
    let body = control::Open { name: name.into(), kind: kind as u8, rights: verb.right().0, on_behalf_of: 0 };
    let open = Header { call: 1 << 32, method: control::Operation::Open as u32, ..Header::new(Kind::Call) };
    let peer = arrive(rim)?;
    let opened = exchange(rim, peer, &[(open, encode(&body))])?;
    let opened: Option<control::Opened> = opened.iter().find_map(|(_, body)| decode(body));
    let handle = opened.ok_or_else(|| format!("`{name}` cannot be opened"))?.handle;
    let calls: Vec<(Header, Vec<u8>)> = (2..)
        .zip(calls)
        // One after the other in the same slot: each ends at once, or the next ones are refused.
        .map(|(call, (header, body))| (Header { handle, call: call << 32 | 1, ..*header }, body.clone()))
        .collect();
    let answers = exchange(rim, peer, &calls)?;
    depart(rim, peer)?;
    Ok(answers)
}

/// Asks the broker something over a connection of its own.
fn ask<B: serde::Serialize, A: serde::de::DeserializeOwned>(
    rim: &mut Rim,
    operation: control::Operation,
    body: &B,
) -> Result<A, String> {
    let peer = arrive(rim)?;
    let header = Header { call: 1 << 32, method: operation as u32, ..Header::new(Kind::Call) };
    let answers = exchange(rim, peer, &[(header, encode(body))])?;
    depart(rim, peer)?;
    let answer = answers.iter().find_map(|(_, body)| decode(body));
    answer.ok_or_else(|| format!("no answer to {operation:?}"))
}

/// Connects somebody who may do everything.
fn arrive(rim: &mut Rim) -> Result<PeerId, String> {
    // After the pause that a rush of connections may have cost this user.
    rim.now = Instant(rim.now.0 + 10_000_000_000);
    rim.handle(Input::Wake)?;
    let peer = rim.connect(identity(1, 7))?;
    let hello = Hello { version_min: VERSION, version_max: VERSION, features: 0, program: String::new() };
    let header = Header { method: HELLO_MAGIC, ..Header::new(Kind::Hello) };
    exchange(rim, peer, &[(header, encode(&hello))])?;
    Ok(peer)
}

fn depart(rim: &mut Rim, peer: PeerId) -> Result<(), String> {
    rim.hang_up(peer, None)?;
    while rim.core.next_wake() == Some(Instant(0)) {
        rim.handle(Input::Wake)?;
    }
    Ok(())
}

/// Says something in one go; the replies.
fn exchange(
    rim: &mut Rim,
    peer: PeerId,
    frames: &[(Header, Vec<u8>)],
) -> Result<Vec<(Header, Vec<u8>)>, String> {
    let mut bytes = Vec::new();
    for (header, payload) in frames {
        write_frame(&mut bytes, *header, &[], &[], payload);
    }
    rim.socket(peer).ok_or("the one who asks is not let in")?.to_broker.extend(bytes);
    let slot = peer.slot as usize;
    let (mut decoder, mut answers) = (Decoder::default(), Vec::new());
    for _ in 0..20 {
        rim.receive(slot, usize::MAX)?;
        if rim.core.next_wake() == Some(Instant(0)) {
            rim.handle(Input::Wake)?;
        }
        rim.transmit(slot, usize::MAX)?;
        let link = rim.socket(peer).ok_or("the one who asks is sent away")?;
        decoder.push(link.to_client.make_contiguous());
        link.to_client.clear();
        while let Ok(Some((header, tail))) = decoder.next() {
            if header.kind == Kind::Reply {
                answers.push((header, tail.to_vec()));
            }
        }
    }
    Ok(answers)
}

fn identity(user: u32, pid: u32) -> Identity {
    Identity { uid: user, gid: user, pid, ..Identity::default() }
}

/// Policy gives these whatever else it says.
fn priority_max(user: u32) -> u8 {
    match user {
        1 => 7,
        2 => 5,
        _ => 2,
    }
}

/// Settings by chance, tight enough that everything runs full now and then. What all share stays as it
/// is, so that it can be held against the limits at any time.
fn settings(dice: &mut Dice) -> Settings {
    let all = |names: &[&str]| -> Vec<Pattern> {
        names.iter().map(|name| Pattern::new(name).expect("a pattern")).collect()
    };
    let rule = |user: u32, grants: Vec<(Verb, Vec<Pattern>)>| Rule {
        source: format!("user {user}"),
        subject: Subject { users: vec![user], ..Subject::default() },
        grants,
        priority_max: Some(priority_max(user)),
    };
    let mut rules = vec![rule(
        1,
        vec![
            (Verb::Serve, all(&["**"])),
            (Verb::Call, all(&["**"])),
            (Verb::Delegate, all(&["**"])),
            (Verb::Monitor, all(&["**"])),
            (Verb::Admin, all(&["**"])),
            (Verb::Publish, all(&["msg.**"])),
            (Verb::Subscribe, all(&["msg.**"])),
            (Verb::Push, all(&["msg.**"])),
            (Verb::Pop, all(&["msg.**"])),
            (Verb::Signal, all(&["msg.**"])),
        ],
    )];
    for user in 2..=4 {
        let names = [&["sim.**"][..], &["sim.a", "sim.pool"], &["sim.*"]][dice.index(3)];
        let serve = if dice.one_in(4) { &["sim.b"][..] } else { names };
        let grants = vec![
            (Verb::Serve, all(serve)),
            (Verb::Call, all(names)),
            (Verb::Delegate, all(names)),
            (Verb::Monitor, all(&["sim.**", "switchboard"])),
            (Verb::Publish, all(&["msg.**"])),
            (Verb::Subscribe, all(if dice.one_in(3) { &["msg.t.*"] } else { &["msg.**"] })),
            (Verb::Push, all(&["msg.**"])),
            (Verb::Pop, all(if dice.one_in(3) { &["msg.q"] } else { &["msg.**"] })),
            (Verb::Signal, all(&["msg.**"])),
        ];
        rules.push(rule(user, grants));
    }
    let user = |dice: &mut Dice| UserLimits {
        connections: 8,
        connections_per_second: 20,
        handles: 9 + dice.below(30) as u32,
        names: 4,
        calls_open: 5 + dice.below(12) as u32,
        waiting: 2 + dice.below(8) as u32,
        buffered_bytes: 2000 + dice.below(10_000),
        unread_bytes: 10_000 + dice.below(30_000),
        watches: 4,
        subscriptions: 4,
        subscribed_bytes: 2000 + dice.below(4000),
        queued_bytes: 2000 + dice.below(4000),
    };
    let limits = Limits {
        connections_max: 12,
        names_max: 30,
        handles_max: 120,
        calls_open_max: 60,
        waiting_max: 40,
        buffered_bytes_max: 20_000,
        watches_max: 12,
        payload_bytes_max: 5000,
        send_bytes: [600, 1500, 4000][dice.index(3)],
        link_bytes_low: 500,
        link_bytes_high: 3000,
        link_bytes_max: 12_000,
        link_bytes_reserved: 6000,
        unread_bytes_max: 60_000,
        pulses_max: 20,
        subscriptions_max: 10,
        subscription_messages: 8,
        subscription_bytes: 3000,
        subscribed_bytes_max: 10_000,
        kept_bytes_max: 5000,
        queued_max: 40,
        queued_bytes_max: 10_000,
        log_bytes_max: 1 << 20,
        segment_bytes: 64 << 10,
        hello_timeout: Duration::from_millis(100),
        ageing_step: AGEING_STEP,
        user_default: user(dice),
        users: vec![(2, user(dice))],
    };
    let policy = Policy { own_user: None, rules, priority_max: 2 };
    let name = |text: &str| Name::new(text).expect("a name");
    let topics = LASTING.map(|text| TopicSettings {
        retain: text == LASTING[0],
        history: if text == LASTING[0] { 3 } else { 0 },
        history_bytes: 2000,
        block: text == LASTING[1],
        ..TopicSettings::of(name(text))
    });
    let queues = QUEUES.map(|text| QueueSettings {
        messages_max: 12,
        bytes_max: 3000,
        overflow: if text == QUEUES[1] { Overflow::DropOldest } else { Overflow::Reject },
        // Only those who want a message to be dead see to it.
        deliveries_max: 1 << 20,
        dead_letters: Some(name(QUEUES[2])),
        ..QueueSettings::of(name(text))
    });
    Settings { policy, limits, topics: topics.into(), queues: queues.into(), files: Vec::new() }
}
