//! Whole sequences of hostile frames against the broker core: control bodies mutated or made up,
//! headers with handles and calls that exist, that existed, and that never did. Nothing may panic, and
//! every invariant holds after every input. `SWITCHBOARD_FUZZ_SECONDS` sets how long, 8 unless told;
//! whatever the time, at least 50 sequences are run.

use std::time::{Duration, Instant as Clock};

use switchboard_core::{
    Broker, Departure, Effect, Identity, Input, Instance, Limits, Policy, SendTail, Settings,
};
use switchboard_protocol::control::{
    Explain, List, Monitor, Narrow, OnHandle, OnName, OnPattern, OnPeer, Open, Serve,
};
use switchboard_protocol::{
    FrameError, HELLO_MAGIC, Header, Hello, Instant, Kind, Parsed, Parser, PeerId, VERSION, encode,
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
    let (mut seed, mut replies) = (0, 0);
    while seed < 50 || begin.elapsed() < Duration::from_secs(seconds) {
        seed += 1;
        replies += sequence(seed);
    }
    println!("{seed} sequences, {replies} replies");
    // The frames are good enough to get past the door: operations succeed and calls are answered.
    assert!(seed * 5 < replies, "{replies} replies in {seed} sequences");
}

/// Runs one sequence; how many replies it drew.
fn sequence(seed: u64) -> u64 {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let limits = Limits { send_bytes: 4096, link_bytes_low: 512, link_bytes_high: 4096, ..Limits::default() };
    let settings = Settings {
        policy: Policy::user_instance(1000),
        limits,
        topics: Vec::new(),
        queues: Vec::new(),
        files: Vec::new(),
    };
    let mut broker =
        Broker::<Vec<u8>>::new(settings, Instance { incarnation: 1, ..Instance::default() }, Instant(1));
    let (mut now, mut known, mut effects, mut replies) = (1, Vec::new(), Vec::new(), 0);
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
                _ => frame(&mut dice, from, &known, now),
            };
            broker.handle(Instant(now), input, &mut effects);
        }
        broker.check_invariants();
        let mut left = Vec::new();
        for effect in effects.drain(..) {
            if let Effect::Send { to, header, tail } = effect {
                if there[to.slot as usize] {
                    left.push((to, (header.len as usize).next_multiple_of(16)));
                }
                replies += u64::from(header.kind == Kind::Reply);
                known.extend([header.handle, header.call].into_iter().filter(|word| *word != 0));
                if let SendTail::Own(body) = tail
                    && header.kind == Kind::Reply
                    && let Ok((word, _)) = take_varint(&body)
                {
                    known.push(word);
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
    replies
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

fn frame(dice: &mut Dice, from: PeerId, known: &[u64], now: u64) -> Input<Vec<u8>> {
    let kind = KINDS[dice.below(9) as usize];
    let mut header = Header {
        flags: if kind == Kind::Call { dice.below(4) as u8 } else { 0 },
        priority: dice.below(8) as u8,
        method: dice.below(18) as u32,
        handle: if dice.below(2) == 0 { 0 } else { dice.word(known) },
        call: if kind == Kind::Call { dice.below(16) } else { dice.word(known) },
        deadline: if dice.below(2) == 0 { 0 } else { now + dice.below(200) * 1_000_000 },
        seq: dice.word(known),
        ..Header::new(kind)
    };
    let mut tail =
        if kind == Kind::Call && header.handle == 0 { body(dice, header.method, known) } else { Vec::new() };
    for _ in 0..dice.below(3) {
        if !tail.is_empty() && dice.below(3) == 0 {
            let at = dice.below(tail.len() as u64) as usize;
            tail[at] ^= 1 << dice.below(8);
        }
    }
    if header.handle != 0 {
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
    match Parser::header(&header.to_bytes()) {
        Ok(Parsed::Header(header)) => Input::Frame { from, header, tail },
        Ok(Parsed::Nothing) => unreachable!("a whole header"),
        Err(why) => {
            assert!(!matches!(why, FrameError::Version(_)), "the version is right");
            Input::Broken { from, why: switchboard_core::Breach::Frame(why) }
        }
    }
}

fn body(dice: &mut Dice, method: u32, known: &[u64]) -> Vec<u8> {
    let names = ["a.b", "a.c", "b", "", "switchboard.x", "A", "a.**", "**"];
    let text = names[dice.below(8) as usize].to_string();
    let rights = if dice.below(3) == 0 { dice.below(1 << 12) as u32 } else { 2 | 1 << 8 };
    match method {
        1 => encode(&Open {
            name: text,
            kind: dice.below(2) as u8,
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
        _ => Vec::new(),
    }
}
