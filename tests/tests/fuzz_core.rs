//! Whole sequences of hostile frames against the broker core: control bodies mutated or made up, of
//! services, topics, queues and events, headers with handles and calls that exist, that existed, and that
//! never did, a log that is slow and that fails. Nothing may panic, and
//! every invariant holds after every input. `SWITCHBOARD_FUZZ_SECONDS` sets how long, 8 unless told;
//! whatever the time, at least 50 sequences are run.

use std::time::{Duration, Instant as Clock};

use switchboard_core::{
    Broker, Departure, Effect, Identity, Input, Instance, Limits, Policy, QueueSettings, SendTail, Settings,
    TopicSettings,
};
use switchboard_protocol::control::{
    Explain, List, Monitor, Narrow, OnHandle, OnName, OnPattern, OnPeer, Open, Serve,
};
use switchboard_protocol::queue::{CreateQueue, Extend, LeaseId, Level, Nack, Overflow, Peek, Pop, Redrive};
use switchboard_protocol::signal::{Await, Pulse, Raise};
use switchboard_protocol::topic::{Subscribe, Will};
use switchboard_protocol::{
    ExtensionsBuilder, FrameError, HELLO_MAGIC, Header, Hello, Instant, Kind, Name, Parser, PeerId, VERSION,
    encode, extension_type, flags, write_part,
};

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A word that the broker has given out, or something near it, or anything.
    fn word(&mut self, known: &[u64]) -> u64 {
        match self.below(8) {
            0 => self.next(),
            1 => self.below(4) | self.below(4) << 32,
            _ if known.is_empty() => 0,
            2 => known[self.below(known.len() as u64) as usize] ^ 1 << self.below(64),
            _ => known[self.below(known.len() as u64) as usize],
        }
    }
}

const KINDS: [Kind; 9] = [
    Kind::Call,
    Kind::Call,
    Kind::Call,
    Kind::Send,
    Kind::Reply,
    Kind::Outcome,
    Kind::Cancel,
    Kind::Item,
    Kind::Credit,
];

#[test]
fn no_sequence_of_frames_breaks_the_broker() {
    let seconds = std::env::var("SWITCHBOARD_FUZZ_SECONDS").map_or(8, |text| text.parse().expect("a number"));
    let begin = Clock::now();
    let (mut seed, mut drawn) = (0, Drawn::default());
    while seed < 50 || begin.elapsed() < Duration::from_secs(seconds) {
        seed += 1;
        sequence(seed, &mut drawn);
    }
    println!("{seed} sequences: {drawn:?}");
    let Drawn { replies, items, records } = drawn;
    // The frames are good enough to get past the door: operations succeed and calls are answered.
    assert!(seed * 5 < replies, "{replies} replies in {seed} sequences");
    assert!(
        seed / 10 < items && seed / 4 < records,
        "{items} items and {records} records in {seed} sequences"
    );
}

/// What the sequences drew from the broker.
#[derive(Debug, Default)]
struct Drawn {
    replies: u64,
    items: u64,
    records: u64,
}

/// Runs one sequence.
fn sequence(seed: u64, drawn: &mut Drawn) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let settings = settings();
    // A log in half of the sequences.
    let mut log = (dice.below(2) == 0).then(Log::default);
    let mut broker =
        Broker::<Vec<u8>>::new(settings, Instance { incarnation: 1, ..Instance::default() }, Instant(1));
    let (mut now, mut known, mut effects) = (1, Vec::new(), Vec::new());
    if log.is_some() {
        broker.handle(Instant(now), Input::Clock { wall_ns: 1 << 60 }, &mut effects);
        let ready = Input::LogReady { position: 0, oldest: 1, segment: 1 };
        broker.handle(Instant(now), ready, &mut effects);
    }
    let peers: Vec<PeerId> = (0..4).map(|slot| PeerId { slot, generation: 1 }).collect();
    for &peer in &peers {
        let identity = Identity { uid: 1000, gid: 1000, pid: 7, ..Identity::default() };
        broker.handle(Instant(now), Input::Connect { peer, identity }, &mut effects);
        let hello = Hello { version_min: VERSION, version_max: VERSION, features: 0, program: "fuzz".into() };
        let tail = encode(&hello);
        let header = Header { len: 64 + tail.len() as u32, method: HELLO_MAGIC, ..Header::new(Kind::Hello) };
        broker.handle(Instant(now), Input::Frame { from: peer, header, tail }, &mut effects);
    }
    let mut there = [true; 4];
    // Who was given which handles.
    let mut handles: [Vec<u64>; 4] = Default::default();
    for _ in 0..300 {
        now += dice.below(50) * 1_000_000;
        let at = dice.below(4) as usize;
        let from = peers[at];
        if there[at] {
            let input = match dice.below(400) {
                0 => {
                    there[at] = false;
                    Input::Disconnect { peer: from, how: Departure::default() }
                }
                1..20 => Input::Wake,
                _ => frame(&mut dice, from, &known, &handles[at], now),
            };
            broker.handle(Instant(now), input, &mut effects);
        }
        broker.check_invariants();
        if let Some(it) = &mut log {
            let more = it.next(&mut dice, &effects);
            if let Some(input) = more {
                broker.handle(Instant(now), input, &mut effects);
                broker.check_invariants();
            }
        }
        if dice.below(100) == 0 {
            let wall_ns = (1 << 60) + dice.below(1 << 36);
            broker.handle(Instant(now), Input::Clock { wall_ns }, &mut effects);
        }
        let mut left = Vec::new();
        for effect in effects.drain(..) {
            if let Effect::Send { to, header, tail } = effect {
                if there[to.slot as usize] {
                    left.push((to, (header.len as usize).next_multiple_of(16)));
                }
                drawn.replies += u64::from(header.kind == Kind::Reply);
                drawn.items += u64::from(header.kind == Kind::Item);
                // Halves of leases are where epoch and caller are.
                let words = [header.handle, header.call, header.epoch, header.caller];
                known.extend(words.into_iter().filter(|word| *word != 0));
                if let SendTail::Own(body) = tail
                    && header.kind == Kind::Reply
                    && let Ok((word, _)) = take_varint(&body)
                {
                    known.push(word);
                    handles[to.slot as usize].push(word);
                }
            }
        }
        // Everybody reads, most of the time; what comes of that is heard with the next frame.
        for (peer, bytes) in left {
            if dice.below(10) != 0 {
                broker.handle(Instant(now), Input::Wrote { peer, bytes }, &mut effects);
            }
        }
        if known.len() > 64 {
            known.drain(..32);
        }
    }
    drawn.records += log.map_or(0, |log| log.appended);
}

/// The first field of most replies is a handle.
fn take_varint(bytes: &[u8]) -> Result<(u64, usize), ()> {
    let mut word = 0;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        word |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((word, at + 1));
        }
    }
    Err(())
}

fn frame(dice: &mut Dice, from: PeerId, known: &[u64], handles: &[u64], now: u64) -> Input<Vec<u8>> {
    let kind = KINDS[dice.below(9) as usize];
    let mut header = Header {
        flags: match kind {
            Kind::Call => dice.below(8) as u8,
            Kind::Send | Kind::Item => dice.below(2) as u8 * flags::BATCH,
            _ => 0,
        },
        priority: dice.below(8) as u8,
        method: dice.below(23) as u32,
        handle: match dice.below(8) {
            0..=3 => 0,
            4..=6 => dice.word(handles),
            _ => dice.word(known),
        },
        call: if kind == Kind::Call || dice.below(2) == 0 { dice.below(16) } else { dice.word(known) },
        deadline: if dice.below(2) == 0 { 0 } else { now + dice.below(200) * 1_000_000 },
        seq: if dice.below(2) == 0 { dice.below(5) } else { dice.word(known) },
        ..Header::new(kind)
    };
    if kind == Kind::Call && header.handle == 0 && matches!(header.method, 7 | 14 | 17) && dice.below(4) != 0
    {
        header.flags = flags::STREAM;
    }
    let mut tail =
        if kind == Kind::Call && header.handle == 0 { body(dice, header.method, known) } else { Vec::new() };
    for _ in 0..dice.below(3) {
        if !tail.is_empty() && dice.below(3) == 0 {
            let at = dice.below(tail.len() as u64) as usize;
            tail[at] ^= 1 << dice.below(8);
        }
    }
    if header.handle != 0 && dice.below(2) == 0 {
        // Something for a topic, a queue or an event: without handles, with extensions now and then.
        let area = if dice.below(3) == 0 { extensions(dice, known) } else { Vec::new() };
        header.method = dice.below(11) as u32;
        header.ext_len = area.len() as u16;
        tail = area;
        tail.extend(message(dice, known));
    } else if header.handle != 0 {
        header.handles = dice.below(3) as u16;
        for _ in 0..header.handles {
            tail.extend(dice.word(known).to_le_bytes());
            tail.extend((dice.below(2048) as u32).to_le_bytes());
            tail.extend((dice.below(5) as u32).to_le_bytes());
        }
        tail.extend(vec![3; dice.below(300) as usize]);
    }
    header.len = 64 + tail.len() as u32;
    // What the daemon would hand in, it hands in parsed: the header must be one that parsing lets by.
    match Parser::read(&header.to_bytes(), &mut header) {
        Ok(true) => Input::Frame { from, header, tail },
        Ok(false) => unreachable!("a whole header"),
        Err(why) => {
            assert!(!matches!(why, FrameError::Version(_)), "the version is right");
            Input::Broken { from, why: switchboard_core::Breach::Frame(why) }
        }
    }
}

fn body(dice: &mut Dice, method: u32, known: &[u64]) -> Vec<u8> {
    let names =
        ["a.b", "a.c", "b", "", "switchboard.x", "A", "a.**", "**", "t.a", "t.b", "q.a", "q.b", "q.c", "e"];
    let text = names[dice.below(names.len() as u64) as usize].to_string();
    let kind = match text.split('.').next() {
        _ if dice.below(8) == 0 => dice.below(6) as u8,
        Some("t") => 2,
        Some("q") => 3,
        Some("e") => 4,
        _ => 1,
    };
    let fitting = [2 | 1 << 8, 2 | 1 << 8, 4 | 8, 16 | 32, 8 | 128, 2][usize::from(kind)];
    let rights = if dice.below(4) == 0 { dice.below(1 << 12) as u32 } else { fitting };
    match method {
        1 => encode(&Open {
            name: text,
            kind,
            rights,
            on_behalf_of: if dice.below(3) == 0 { dice.word(known) } else { 0 },
        }),
        2 | 4 => encode(&OnHandle { handle: dice.word(known) }),
        3 => encode(&Serve {
            name: text,
            mode: dice.below(3) as u8,
            flags: dice.below(9) as u32,
            calls: dice.below(4) as u32,
            send_bytes: dice.below(9000) as u32,
            about: String::new(),
        }),
        5 => encode(&Narrow { handle: dice.word(known), rights }),
        6 | 9 => encode(&OnName { name: text }),
        7 => encode(&OnPattern { pattern: text }),
        8 | 12 => encode(&List { pattern: text, after: String::new() }),
        10 => encode(&OnPeer { peer: dice.word(known) }),
        14 => encode(&Monitor { pattern: text, payload_bytes: dice.below(100) as u32 }),
        15 => encode(&Explain { uid: None, groups: Vec::new(), label: String::new(), verb: 2, name: text }),
        17 => encode(&Subscribe {
            handle: if dice.below(2) == 0 { dice.word(known) } else { 0 },
            pattern: if dice.below(2) == 0 { "t.*".into() } else { text },
            policy: dice.below(5) as u8,
            messages: dice.below(5) as u32,
            bytes: dice.below(3000) as u32,
            history: dice.below(5) as u32,
        }),
        18 => encode(&OnHandle { handle: dice.word(known) }),
        19 => encode(&Will {
            handle: dice.word(known),
            method: 1,
            payload: (dice.below(3) != 0).then(|| vec![7; dice.below(300) as usize]),
        }),
        20 => encode(&CreateQueue {
            name: text,
            durability: dice.below(4) as u8,
            messages_max: dice.below(6),
            bytes_max: dice.below(2000),
            overflow: dice.below(4) as u8,
            lossy: dice.below(2) == 0,
            deliveries_max: dice.below(3) as u32,
            dead_letters: ["", "q.a", "q.d", "?"][dice.below(4) as usize].into(),
        }),
        21 => encode(&OnName { name: text }),
        _ => Vec::new(),
    }
}

/// Topics and queues of every kind, each small.
fn settings() -> Settings {
    let limits = Limits {
        send_bytes: 4096,
        link_bytes_low: 512,
        link_bytes_high: 4096,
        segment_bytes: 2000,
        log_bytes_max: 40_000,
        kept_bytes_max: 4000,
        subscribed_bytes_max: 20_000,
        ..Limits::default()
    };
    let name = |text: &str| Name::new(text).expect("a name");
    let topics = vec![
        TopicSettings {
            retain: true,
            durability: Level::Disk,
            block: true,
            ..TopicSettings::of(name("t.a"))
        },
        TopicSettings { history: 3, history_bytes: 900, ..TopicSettings::of(name("t.b")) },
    ];
    let small =
        |text: &str| QueueSettings { messages_max: 6, deliveries_max: 2, ..QueueSettings::of(name(text)) };
    let queues = vec![
        QueueSettings { overflow: Overflow::Block, ..small("q.a") },
        QueueSettings {
            durability: Level::Disk,
            lossy: true,
            overflow: Overflow::DropOldest,
            ..small("q.b")
        },
    ];
    Settings { policy: Policy::user_instance(1000), limits, topics, queues, files: Vec::new() }
}

/// How far the log is.
#[derive(Default)]
struct Log {
    appended: u64,
    written: u64,
    synced: u64,
    failed: bool,
}

impl Log {
    /// Takes note of what was appended; now and then some of it is written, or nothing ever again.
    fn next(&mut self, dice: &mut Dice, effects: &[Effect<Vec<u8>>]) -> Option<Input<Vec<u8>>> {
        for effect in effects {
            if let Effect::Append { position, .. } = effect {
                self.appended = *position;
            }
        }
        if self.failed || dice.below(3) != 0 {
            return None;
        }
        if dice.below(200) == 0 {
            self.failed = true;
            return Some(Input::LogFailed { message: "no space left".into() });
        }
        self.written += dice.below(self.appended - self.written + 1);
        self.synced += dice.below(self.written - self.synced + 1);
        Some(Input::Persisted { written: self.written, synced: self.synced })
    }
}

/// What a topic, a queue or an event might be told, or not.
fn message(dice: &mut Dice, known: &[u64]) -> Vec<u8> {
    let lease = LeaseId { low: dice.word(known), high: dice.word(known) };
    let mut payload = match dice.below(11) {
        0 => encode(&Pop { lease: dice.below(4) as u8, lease_ns: dice.below(1 << 30) }),
        1 => lease.to_bytes().repeat(1 + dice.below(3) as usize),
        2 => encode(&Nack { lease, how: dice.below(4) as u8, delay_ns: dice.below(1 << 30) }),
        3 => encode(&Extend { lease, by_ns: dice.next() }),
        4 => encode(&Peek { after: dice.below(5), count: dice.below(4) as u32 }),
        5 => encode(&Redrive { count: dice.below(3) as u32 }),
        6 => encode(&Raise { bits: dice.below(16) }),
        7 => encode(&Pulse { code: 1, value: dice.next() }),
        8 => encode(&Await { mask: dice.below(16), pulses: dice.below(2) == 0 }),
        9 => vec![5; dice.below(400) as usize],
        _ => {
            let mut batch = Vec::new();
            for _ in 0..dice.below(5) {
                let attribute = (dice.below(34) | dice.below(3) << 8) as u32;
                write_part(&mut batch, attribute, &vec![6; dice.below(40) as usize]);
            }
            batch
        }
    };
    if !payload.is_empty() && dice.below(10) == 0 {
        let at = dice.below(payload.len() as u64) as usize;
        payload[at] ^= 1 << dice.below(8);
    }
    payload
}

/// Extensions that a push may have, in or out of shape.
fn extensions(dice: &mut Dice, known: &[u64]) -> Vec<u8> {
    let mut builder = ExtensionsBuilder::default();
    for _ in 0..1 + dice.below(3) {
        let kinds = [
            extension_type::PUSH,
            extension_type::GROUP,
            extension_type::PRODUCER,
            extension_type::QUEUES,
            extension_type::TOPIC,
            0x8077,
        ];
        let mut value = match dice.below(4) {
            0 => [dice.below(33), dice.below(1 << 31), dice.below(1 << 31)].map(u64::to_le_bytes).concat(),
            1 => [dice.below(2), dice.below(6)].map(u64::to_le_bytes).concat(),
            2 => dice.word(known).to_le_bytes().repeat(1 + dice.below(2) as usize),
            _ => b"group".to_vec(),
        };
        // The layout of PUSH: a priority with three zeros, and two times.
        if value.len() == 24 {
            value.drain(4..8);
        }
        builder.add(kinds[dice.below(6) as usize], &value);
    }
    builder.finish()
}
