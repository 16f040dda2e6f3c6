//! A checker is trusted only after it has caught a planted bug. Each of these stands between the core
//! and its world, and must be seen within a few hundred worlds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use switchboard_core::{Broker, Effect, Input, SendTail};
use switchboard_protocol::control::{OnHandle, Operation};
use switchboard_protocol::queue::QueueMethod;
use switchboard_protocol::{Event, Header, Instant, Kind, PeerId, decode};
use switchboard_tests::session_worlds::{Tamper, run};

type Core = Broker<Vec<u8>>;
type Effects = Vec<Effect<Vec<u8>>>;

const SEEDS: u64 = 300;

/// Changes what the core asks for. Given every batch of effects; the number counts batches.
struct Effecting<F>(u64, F);

impl<F: FnMut(u64, &mut Effects)> Tamper for Effecting<F> {
    fn handle(&mut self, core: &mut Core, now: Instant, input: Input<Vec<u8>>, effects: &mut Effects) {
        core.handle(now, input, effects);
        self.0 += 1;
        (self.1)(self.0, effects);
    }
}

/// Changes what the core is told, or keeps it from it.
struct Inputting<F>(F);

impl<F: FnMut(Input<Vec<u8>>) -> Option<Input<Vec<u8>>>> Tamper for Inputting<F> {
    fn handle(&mut self, core: &mut Core, now: Instant, input: Input<Vec<u8>>, effects: &mut Effects) {
        if let Some(input) = (self.0)(input) {
            core.handle(now, input, effects);
        }
    }
}

/// Runs worlds until one of them breaks a promise: which, and how.
#[track_caller]
fn must_be_seen(what: &str, tamper: impl Fn() -> Box<dyn Tamper>) {
    for seed in 0..SEEDS {
        if let Err(message) = run(seed, &tamper) {
            return println!("{what}: seen in seed {seed}: {message}");
        }
    }
    panic!("{what}: nothing saw it in {SEEDS} worlds");
}

/// The header of an effect that sends a frame of this kind about a handle of the client's.
fn about(effect: &mut Effect<Vec<u8>>, kind: Kind) -> Option<&mut Header> {
    match effect {
        Effect::Send { header, .. } if header.kind == kind && header.handle != 0 => Some(header),
        _ => None,
    }
}

fn copy(effect: &Effect<Vec<u8>>) -> Option<Effect<Vec<u8>>> {
    let Effect::Send { to, header, tail } = effect else { return None };
    let tail = match tail {
        SendTail::Empty => SendTail::Empty,
        SendTail::Forward(bytes) => SendTail::Forward(bytes.clone()),
        SendTail::Patched(bytes, entries) => SendTail::Patched(bytes.clone(), entries.clone()),
        SendTail::Own(bytes) => SendTail::Own(bytes.clone()),
        SendTail::Shown(bytes) => SendTail::Shown(bytes.clone()),
        SendTail::Extended(area, bytes, skip) => SendTail::Extended(area.clone(), bytes.clone(), *skip),
    };
    Some(Effect::Send { to: *to, header: *header, tail })
}

/// Takes away each 17th effect that fits.
fn losing(fits: fn(&mut Effect<Vec<u8>>) -> bool) -> Box<dyn Tamper> {
    let mut count = 0;
    Box::new(Effecting(0, move |_, effects: &mut Effects| {
        effects.retain_mut(|effect| {
            count += u64::from(fits(effect));
            !(fits(effect) && count.is_multiple_of(17))
        });
    }))
}

/// Gives every n-th effect that fits twice, the second changed.
fn doubling(
    n: u64,
    fits: fn(&mut Effect<Vec<u8>>) -> bool,
    change: fn(&mut Effect<Vec<u8>>),
) -> Box<dyn Tamper> {
    let mut count = 0;
    Box::new(Effecting(0, move |_, effects: &mut Effects| {
        if let Some(at) = (0..effects.len()).find(|&at| fits(&mut effects[at])) {
            count += 1;
            if count % n == 0
                && let Some(mut twin) = copy(&effects[at])
            {
                change(&mut twin);
                effects.insert(at + 1, twin);
            }
        }
    }))
}

fn changing(kind: Kind, change: fn(&mut Header)) -> Box<dyn Tamper> {
    Box::new(Effecting(0, move |count, effects: &mut Effects| {
        for header in effects.iter_mut().filter_map(|effect| about(effect, kind)) {
            if count % 5 == 0 {
                change(header);
            }
        }
    }))
}

#[test]
fn a_lost_outcome() {
    must_be_seen("a lost outcome", || losing(|effect| about(effect, Kind::Outcome).is_some()));
}

#[test]
fn a_lost_reply() {
    must_be_seen("a lost reply", || losing(|effect| about(effect, Kind::Reply).is_some()));
}

#[test]
fn a_doubled_reply() {
    must_be_seen("a doubled reply", || doubling(17, |effect| about(effect, Kind::Reply).is_some(), |_| {}));
}

#[test]
fn a_doubled_request() {
    must_be_seen("a doubled request", || {
        doubling(
            17,
            |effect| about(effect, Kind::Call).is_some(),
            |twin| {
                if let Effect::Send { header, .. } = twin {
                    header.call += 1 << 40;
                }
            },
        )
    });
}

#[test]
fn a_message_that_arrives_twice() {
    must_be_seen("a doubled send", || doubling(17, |effect| about(effect, Kind::Send).is_some(), |_| {}));
}

#[test]
fn an_answer_to_the_wrong_caller() {
    must_be_seen("an answer to the wrong caller", || {
        let mut last: Option<PeerId> = None;
        Box::new(Effecting(0, move |count, effects: &mut Effects| {
            for effect in effects {
                if let Effect::Send { to, header, .. } = effect {
                    let before = last.replace(*to);
                    if header.kind == Kind::Reply && header.handle != 0 && count % 7 == 0 {
                        *to = before.unwrap_or(*to);
                    }
                }
            }
        }))
    });
}

#[test]
fn an_answer_by_somebody_who_was_not_asked() {
    must_be_seen("an impostor is heard", || {
        struct Heard(HashMap<u64, PeerId>);
        impl Tamper for Heard {
            fn handle(
                &mut self,
                core: &mut Core,
                now: Instant,
                input: Input<Vec<u8>>,
                effects: &mut Effects,
            ) {
                let input = match input {
                    Input::Frame { from, header, tail } if header.kind == Kind::Reply => {
                        let from = self.0.get(&header.call).copied().unwrap_or(from);
                        Input::Frame { from, header, tail }
                    }
                    Input::Disconnect { peer, how } => {
                        self.0.retain(|_, server| *server != peer);
                        Input::Disconnect { peer, how }
                    }
                    input => input,
                };
                core.handle(now, input, effects);
                for effect in effects {
                    if let Effect::Send { to, header, .. } = effect
                        && header.kind == Kind::Call
                    {
                        self.0.insert(header.call, *to);
                    }
                }
            }
        }
        Box::new(Heard(HashMap::new()))
    });
}

#[test]
fn two_messages_that_change_places() {
    must_be_seen("two messages change places", || {
        Box::new(Effecting(0, |_, effects: &mut Effects| {
            let sends: Vec<usize> =
                (0..effects.len()).filter(|&at| about(&mut effects[at], Kind::Send).is_some()).collect();
            if let [.., one, other] = sends[..] {
                effects.swap(one, other);
            }
        }))
    });
}

#[test]
fn a_deadline_that_comes_late() {
    must_be_seen("a late deadline", || {
        struct Late;
        impl Tamper for Late {
            fn handle(
                &mut self,
                core: &mut Core,
                now: Instant,
                input: Input<Vec<u8>>,
                effects: &mut Effects,
            ) {
                core.handle(Instant(now.0 - 50_000), input, effects);
            }
        }
        Box::new(Late)
    });
}

#[test]
fn a_priority_that_is_not_capped() {
    must_be_seen("an uncapped priority", || changing(Kind::Call, |header| header.priority = 7));
}

#[test]
fn a_priority_and_a_deadline_that_are_not_inherited() {
    must_be_seen("nothing is inherited", || {
        Box::new(Inputting(|mut input| {
            if let Input::Frame { header, .. } = &mut input
                && matches!(header.kind, Kind::Call | Kind::Send)
            {
                header.seq = 0;
            }
            Some(input)
        }))
    });
}

#[test]
fn a_deadline_that_is_stretched() {
    must_be_seen("a stretched deadline", || {
        changing(Kind::Call, |header| header.deadline += u64::from(header.deadline != 0))
    });
}

#[test]
fn an_item_without_credit() {
    must_be_seen("an item too many", || {
        doubling(
            1,
            |effect| about(effect, Kind::Item).is_some(),
            |twin| {
                if let Effect::Send { header, .. } = twin {
                    header.seq += 1;
                }
            },
        )
    });
}

#[test]
fn a_disconnect_that_is_not_noticed() {
    must_be_seen("a forgotten disconnect", || {
        let mut count = 0;
        Box::new(Inputting(move |input| {
            count += u64::from(matches!(input, Input::Disconnect { .. }));
            (!matches!(input, Input::Disconnect { .. }) || count % 5 != 0).then_some(input)
        }))
    });
}

#[test]
fn a_handle_that_is_never_given_back() {
    must_be_seen("a leaked handle", || {
        struct Leak;
        impl Tamper for Leak {
            fn handle(
                &mut self,
                core: &mut Core,
                now: Instant,
                input: Input<Vec<u8>>,
                effects: &mut Effects,
            ) {
                match input {
                    Input::Frame { from, header, tail }
                        if header.kind == Kind::Call
                            && (header.handle, header.method) == (0, Operation::Close as u32)
                            && decode::<OnHandle>(&tail).is_some_and(|ask| ask.handle % 3 == 0) =>
                    {
                        // The core believes that its holder asked for something else.
                        let status = Header { method: Operation::Status as u32, len: 64, ..header };
                        core.handle(now, Input::Frame { from, header: status, tail: Vec::new() }, effects);
                        for effect in effects {
                            if let Effect::Send { header, tail, .. } = effect
                                && header.kind == Kind::Reply
                            {
                                header.len = 64;
                                *tail = SendTail::Empty;
                            }
                        }
                    }
                    input => core.handle(now, input, effects),
                }
            }
        }
        Box::new(Leak)
    });
}

#[test]
fn a_window_that_does_not_come_back() {
    must_be_seen("lost credit", || {
        losing(|effect| about(effect, Kind::Credit).is_some_and(|header| header.call == 0))
    });
}

#[test]
fn a_message_that_is_lost_in_silence() {
    must_be_seen("a lost send", || {
        let mut count = 0;
        Box::new(Inputting(move |input| {
            let send = matches!(&input, Input::Frame { header, .. } if header.kind == Kind::Send);
            count += u64::from(send);
            (!send || count % 17 != 0).then_some(input)
        }))
    });
}

#[test]
fn a_failure_that_nobody_is_told_of() {
    must_be_seen("a hidden failure", || {
        losing(|effect| {
            about(effect, Kind::Event).is_some_and(|header| header.method == Event::SendFailed as u32)
        })
    });
}

#[test]
fn an_owner_with_an_old_epoch() {
    must_be_seen("an old epoch", || changing(Kind::Event, |header| header.epoch = header.epoch.min(3 << 32)));
}

#[test]
fn a_reply_under_anothers_epoch() {
    must_be_seen("a wrong epoch", || changing(Kind::Reply, |header| header.epoch += 1));
}

#[test]
fn a_change_that_a_watch_does_not_show() {
    must_be_seen("a lost change", || {
        losing(
            // Messages of topics have a number there.
            |effect| matches!(effect, Effect::Send { header, .. } if header.kind == Kind::Item && (header.handle, header.deadline) == (0, 0)),
        )
    });
}

#[test]
fn a_message_that_a_subscriber_is_not_told_to_have_lost() {
    must_be_seen("an unsaid loss", || {
        // What was taken away of each stream: the items behind it move up, so that only positions tell.
        let (mut taken, mut count) = (HashMap::<(PeerId, u64), u64>::new(), 0);
        Box::new(Effecting(0, move |_, effects: &mut Effects| {
            effects.retain_mut(|effect| {
                let Effect::Send { to, header, .. } = effect else { return true };
                let gone = taken.entry((*to, header.call)).or_default();
                match header.kind {
                    Kind::Item => {
                        header.seq -= *gone;
                        // Of a topic: no other item without a handle has a position.
                        count += u64::from(header.handle == 0 && header.epoch != 0);
                        let loses = header.handle == 0 && header.epoch != 0 && count % 7 == 0;
                        *gone += u64::from(loses);
                        !loses
                    }
                    Kind::Reply | Kind::Outcome => {
                        *gone = 0;
                        true
                    }
                    _ => true,
                }
            });
        }))
    });
}

#[test]
fn an_ack_that_does_not_reach_the_queue() {
    must_be_seen("a lost ack", || {
        struct Unheard;
        impl Tamper for Unheard {
            fn handle(
                &mut self,
                core: &mut Core,
                now: Instant,
                input: Input<Vec<u8>>,
                effects: &mut Effects,
            ) {
                match input {
                    Input::Frame { from, header, tail }
                        if header.kind == Kind::Call
                            && (header.handle != 0, header.method) == (true, QueueMethod::Ack as u32)
                            && tail.len() == 16 =>
                    {
                        // The core believes that its holder asked for something else.
                        let status =
                            Header { handle: 0, method: Operation::Status as u32, len: 64, ..header };
                        core.handle(now, Input::Frame { from, header: status, tail: Vec::new() }, effects);
                        for effect in effects {
                            if let Effect::Send { header: reply, tail, .. } = effect
                                && reply.kind == Kind::Reply
                            {
                                (reply.len, reply.handle) = (64, header.handle);
                                *tail = SendTail::Empty;
                            }
                        }
                    }
                    input => core.handle(now, input, effects),
                }
            }
        }
        Box::new(Unheard)
    });
}

#[test]
fn a_message_that_two_consumers_get() {
    must_be_seen("a message for two", || {
        // Who was given a message, and which: given once more, to the next one who gets another.
        let mut last: Option<(Header, Vec<u8>)> = None;
        Box::new(Effecting(0, move |_, effects: &mut Effects| {
            for effect in effects {
                if let Effect::Send { header, tail: SendTail::Forward(bytes), .. } = effect
                    && matches!(header.kind, Kind::Item | Kind::Reply)
                    && header.caller != 0
                    && header.epoch != 0
                    && header.handle > 3
                {
                    if let Some((before, payload)) = last.take() {
                        let Header { method, deadline, len, ext_len, flags, .. } = before;
                        *header = Header { method, deadline, len, ext_len, flags, ..*header };
                        *bytes = payload;
                    } else {
                        last = Some((*header, bytes.clone()));
                    }
                }
            }
        }))
    });
}

#[test]
fn a_message_under_the_number_of_another() {
    must_be_seen("a wrong number", || {
        changing(Kind::Reply, |header| header.seq += u64::from(header.seq != 0))
    });
}

#[test]
fn something_that_depends_on_more_than_the_seed() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let moody = || -> Box<dyn Tamper> {
        let turn = RUNS.fetch_add(1, Ordering::Relaxed) % 2;
        Box::new(Effecting(0, move |count, effects: &mut Effects| {
            if turn == 0 && count % 9 == 0 {
                effects.reverse();
            }
        }))
    };
    let differs = (0..20).any(|seed| run(seed, moody) != run(seed, moody));
    assert!(differs, "two runs that differ give the same trace");
}
