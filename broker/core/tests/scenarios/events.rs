//! Events: flags that merge and are never lost, pulses that are counted (SPEC 11).

use crate::script::check;

#[test]
fn flags_merge_and_wait_for_whoever_comes() {
    check(
        r#"
        ann opens acme.ready kind=4 rights=signal as h     -> ann opened h signal epoch=0
        ann raises h c1 bits=1                             -> ann done
        ann raises h c1 bits=4                             -> ann done
        ann raises h c1 bits=1                             -> ann done
        bob opens acme.ready kind=4 rights=subscribe as l  -> bob opened l subscribe epoch=0
        bob listens l w1 mask=0xff                         -> bob w1 raised 0x5
        bob listens l w1 mask=0xff
        ann raises h c1 bits=2                             -> ann done; bob w1 raised 0x2
        "#,
    );
}

#[test]
fn a_waiter_takes_only_the_flags_it_waits_for() {
    check(
        r#"
        ann opens acme.ready kind=4 rights=subscribe+signal as h -> ann opened h subscribe+signal epoch=0
        bob opens acme.ready kind=4 rights=subscribe as l  -> bob opened l subscribe epoch=0
        bob listens l w1 mask=2
        bob listens l w2 mask=1
        ann raises h c1 bits=5                             -> ann done; bob w2 raised 0x1
        ann raises h c1 bits=2                             -> ann done; bob w1 raised 0x2
        ann listens h w3 mask=4                            -> ann w3 raised 0x4
        "#,
    );
}

#[test]
fn waiters_are_served_in_order_and_each_flag_goes_to_one() {
    check(
        r#"
        ann opens acme.ready kind=4 rights=signal as h     -> ann opened h signal epoch=0
        bob opens acme.ready kind=4 rights=subscribe as l  -> bob opened l subscribe epoch=0
        eve opens acme.ready kind=4 rights=subscribe as m  -> eve opened m subscribe epoch=0
        bob listens l w1 mask=3
        eve listens m w2 mask=3
        ann raises h c1 bits=1                             -> ann done; bob w1 raised 0x1
        ann raises h c1 bits=3                             -> ann done; eve w2 raised 0x3
        "#,
    );
}

#[test]
fn what_was_raised_outlives_its_raiser() {
    check(
        r#"
        ann opens acme.ready kind=4 rights=signal as h     -> ann opened h signal epoch=0
        ann raises h oneway bits=1
        ann pulses h oneway code=7 value=9
        ann leaves                                         -> forget ann
        bob opens acme.ready kind=4 rights=subscribe as l  -> bob opened l subscribe epoch=0
        bob listens l w1 mask=1 pulsed                     -> bob w1 raised 0x1
        bob listens l w1 mask=1 pulsed                     -> bob w1 raised 0x0 7:9
        bob closes l                                       -> bob done
        bob asks names                                     -> bob told names=0
        "#,
    );
}

#[test]
fn pulses_leave_by_priority_then_in_order() {
    check(
        r#"
        ann opens acme.ready kind=4 rights=subscribe+signal as h -> ann opened h subscribe+signal epoch=0
        ann pulses h c1 code=1 value=1                     -> ann done
        ann pulses h c1 code=2 value=2                     -> ann done
        ann pulses h c1 code=3 value=3 priority=3          -> ann done
        ann listens h w1 pulsed                            -> ann w1 raised 0x0 3:3
        ann listens h w1 pulsed                            -> ann w1 raised 0x0 1:1
        ann listens h w1 pulsed                            -> ann w1 raised 0x0 2:2
        "#,
    );
}

#[test]
fn a_pulse_without_room_is_refused_and_counted() {
    check(
        r#"
        limit pulses_max=4
        ann opens acme.ready kind=4 rights=subscribe+signal as h -> ann opened h subscribe+signal epoch=0
        ann pulses h c1 code=1                             -> ann done
        ann pulses h c1 code=2                             -> ann done
        ann pulses h c1 code=3                             -> ann c1 Busy ~limits.pulses_max
        ann pulses h oneway tag=8 code=4                   -> ann unsent h Busy messages=1 tag=8 ~limits.pulses_max
        ann listens h w1 pulsed                            -> ann w1 raised 0x0 1:0 +2
        ann listens h w1 pulsed                            -> ann w1 raised 0x0 2:0
        "#,
    );
}

#[test]
fn waiting_ends_with_its_deadline_its_cancel_and_its_handle() {
    check(
        r#"
        ann opens acme.ready kind=4 rights=subscribe as h  -> ann opened h subscribe epoch=0
        ann listens h w1 mask=1 deadline=50ms
        +50ms                                              -> ann w1 DeadlineExceeded
        ann listens h w2 mask=1
        ann cancels w2                                     -> ann w2 Cancelled
        ann listens h w3 mask=1
        ann leaves                                         -> forget ann
        bob asks names                                     -> bob told names=0
        "#,
    );
}

#[test]
fn what_makes_no_sense_is_an_error_and_the_connection_lives() {
    check(
        r#"
        ann opens acme.ready kind=4 rights=subscribe+signal as h -> ann opened h subscribe+signal epoch=0
        ann raises h c1 bits=0                             -> ann c1 Invalid ~at least one flag
        ann listens h c1 mask=0                            -> ann c1 Invalid ~nothing would end this
        ann listens h oneway mask=1 tag=3                  -> ann unsent h Unsupported messages=1 tag=3
        ann calls h c1 method=9 "x"                        -> ann c1 Unsupported ~no method 9
        ann calls h c1 method=1 streamed "x"               -> ann c1 Unsupported ~no stream
        ann opens acme.ready kind=2 rights=publish as t    -> ann opening Invalid ~stands for a event
        bob opens acme.ready kind=4 rights=signal as s     -> bob opened s signal epoch=0
        bob listens s c1 mask=1                            -> bob c1 Denied ~right `subscribe`
        eve opens acme.ready kind=4 rights=subscribe as l  -> eve opened l subscribe epoch=0
        eve raises l c1 bits=1                             -> eve c1 Denied ~right `signal`
        "#,
    );
}
