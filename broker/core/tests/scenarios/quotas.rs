//! Each quota and limit: what it refuses, that the refusal names it, and that room comes back.

use crate::script::check;

#[test]
fn connections_of_a_user_and_of_all() {
    check(
        r#"
        limit user.connections=2 connections_max=3
        a connects                            -> resume a
        b connects                            -> resume b
        c connects                            -> c goodbye TooManyConnections ~limits.user.connections; close c
        c leaves                              -> forget c
        d connects uid=7                      -> resume d
        e connects uid=8                      -> e goodbye TooManyConnections ~limits.connections_max; close e
        e leaves                              -> forget e
        a leaves                              -> forget a
        f connects                            -> resume f
        "#,
    );
}

#[test]
fn handles_of_a_connection_of_a_user_and_of_all() {
    check(
        r#"
        limit user.handles=2 handles_max=6
        ann opens acme.x as a                 -> ann opened a call epoch=0
        ann opens acme.x as b                 -> ann opened b call epoch=0
        ann opens acme.x                      -> ann opening Busy ~limits.user.handles
        ann serves acme.x                     -> ann serving Busy ~limits.user.handles
        ann narrows a rights=call             -> ann narrowing Busy ~limits.user.handles
        ann closes a                          -> ann done
        ann opens acme.x as a                 -> ann opened a call epoch=0
        bob opens acme.x as c                 -> bob opened c call epoch=0
        bob opens acme.x as d                 -> bob opening Busy ~limits.handles_max
        "#,
    );
}

#[test]
fn a_private_service_without_room_for_its_reference_is_none() {
    check(
        r#"
        limit user.handles=1
        ann serves privately                  -> ann serving Busy ~limits.user.handles
        ann asks handles                      -> ann told handles=0
        ann asks names                        -> ann told names=0
        "#,
    );
}

#[test]
fn names_of_a_connection_of_a_user_and_of_all() {
    check(
        r#"
        allow anyone serve,call **
        limit user.names=2 names_max=6
        one joins uid=1
        two joins uid=2
        six joins uid=3
        one serves acme.a as a                -> one served a epoch=1
        one serves acme.b as b                -> one served b epoch=2
        one serves acme.c                     -> one serving Busy ~limits.user.names
        one opens acme.c as c                 -> one opened c call epoch=0
        one opens acme.d                      -> one opening Busy ~half of limits.names_max
        two serves privately                  -> two served - epoch=3
        two serves privately                  -> two served - epoch=4
        two opens acme.e as e                 -> two opened e call epoch=0
        six opens acme.f                      -> six opening Busy ~limits.names_max
        six serves privately                  -> six serving Busy ~limits.names_max
        one closes a                          -> one done
        six opens acme.f as f                 -> six opened f call epoch=0
        "#,
    );
}

#[test]
fn open_calls_of_a_connection_of_a_user_and_of_all() {
    check(
        r#"
        allow anyone serve,call **
        limit user.calls_open=2 calls_open_max=4
        svc joins uid=9
        one joins uid=1
        too joins uid=1
        two joins uid=2
        six joins uid=3
        svc serves acme.x calls=9 as s        -> svc served s epoch=1
        one opens acme.x as h                 -> one opened h call epoch=1
        too opens acme.x as i                 -> too opened i call epoch=1
        two opens acme.x as j                 -> two opened j call epoch=1
        six opens acme.x as k                 -> six opened k call epoch=1
        one calls h c1                        -> svc gets r1 on s from one
        one calls h c2                        -> svc gets r2 on s from one
        one calls h c3                        -> one c3 Busy ~limits.user.calls_open
        too calls i c1                        -> too c1 Busy ~limits.calls_open_max
        two calls j c1
        two calls j c2
        six calls k c1                        -> six c1 Busy ~limits.calls_open_max
        one cancels c1                        -> one c1 Cancelled; svc cancel r1 Cancelled
        six calls k c2                        -> six c2 Busy ~limits.calls_open_max
        svc replies r1                        -> svc gets r3 on s from two
        six calls k c3
        "#,
    );
}

#[test]
fn messages_that_wait_of_a_connection_of_a_user_and_of_all() {
    check(
        r#"
        allow anyone serve,call **
        limit user.waiting=2 waiting_max=6
        svc joins uid=9
        one joins uid=1
        too joins uid=1
        svc serves acme.x calls=1 window=64 as s -> svc served s epoch=1
        one opens acme.x as h                 -> one opened h call epoch=1
        too opens acme.x as i                 -> too opened i call epoch=1
        one calls h c1                        -> svc gets r1 on s from one
        one calls h c2
        one sends h tag=1
        one calls h c3                        -> one c3 Busy ~limits.user.waiting
        one sends h tag=2                     -> one unsent h Busy messages=1 tag=2 ~limits.user.waiting
        too calls i c1
        too calls i c2                        -> too c2 Busy ~limits.waiting_max
        one cancels c2                        -> one c2 Cancelled; svc receives on s from one
        "#,
    );
}

#[test]
fn bytes_that_wait_are_bounded_but_one_message_always_fits() {
    check(
        r#"
        limit user.buffered_bytes=1000
        svc serves acme.x calls=1 as s        -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2 bytes=2000
        ann calls h c3                        -> ann c3 Busy ~limits.user.buffered_bytes
        ann cancels c2                        -> ann c2 Cancelled
        ann calls h c4
        "#,
    );
}

#[test]
fn watches_of_a_connection_of_a_user_and_of_all() {
    check(
        r#"
        allow anyone serve,call **
        limit user.watches=1 watches_max=4
        one joins uid=1
        too joins uid=1
        tri joins uid=1
        two joins uid=2
        six joins uid=2
        ten joins uid=3
        one watches ** w
        one awaits acme.x w2                  -> one w2 Busy ~limits.user.watches
        too awaits acme.x w
        tri awaits acme.x w                   -> tri w Busy ~limits.watches_max
        two watches ** w
        six awaits acme.x w
        ten awaits acme.x w                   -> ten w Busy ~limits.watches_max
        one cancels w                         -> one w Cancelled
        ten awaits acme.x w
        "#,
    );
}

#[test]
fn a_large_frame_waits_for_room_and_its_sender_is_not_read_meanwhile() {
    check(
        r#"
        limit user.buffered_bytes=1000
        allow anyone serve,call **
        one joins uid=1
        too joins uid=1
        two joins uid=2
        one announces 800                     -> one admitted
        too announces 800                     -> pause too
        two announces 800                     -> two admitted
        one opens acme.x as h                 -> one opened h call epoch=0; resume too
        too announces 800                     -> too admitted
        one announces 5000                    -> pause one
        too leaves                            -> resume one; forget too
        one announces 5000                    -> one admitted
        one leaves                            -> forget one
        two asks waiting_bytes                -> two told waiting_bytes=0
        "#,
    );
}

#[test]
fn what_waits_for_a_server_does_not_keep_its_answer_out() {
    check(
        r#"
        limit user.buffered_bytes=1000
        svc serves acme.x calls=1 as s        -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2 bytes=900
        svc announces 800                     -> svc admitted
        svc replies r1 bytes=736              -> ann c1 Reply [736 bytes]; svc gets r2 on s from ann [900 bytes]
        "#,
    );
    check(
        r#"
        allow anyone serve,call **
        limit buffered_bytes_max=2000
        svc joins uid=1
        ann joins uid=2
        bob joins uid=3
        svc serves acme.x calls=1 as s        -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        bob opens acme.x as i                 -> bob opened i call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2 bytes=900
        bob calls i c1 bytes=900              -> bob c1 Busy
        svc announces 1000                    -> svc admitted
        "#,
    );
}

#[test]
fn a_large_hello_gives_its_room_back() {
    check(
        r#"
        ann connects                          -> resume ann
        ann announces 800                     -> ann admitted
        ann greets                            -> ann welcome version=1 features=0 calls=4096 priority=4
        ann announces 900                     -> ann admitted
        ann opens acme.x as h                 -> ann opened h call epoch=0
        ann asks waiting_bytes                -> ann told waiting_bytes=0
        "#,
    );
}

#[test]
fn bytes_that_nobody_reads_count_against_who_should() {
    check(
        r#"
        allow anyone serve,call **
        limit link_bytes_low=100 link_bytes_high=100000 user.unread_bytes=1000
        svc joins uid=9
        one joins uid=1
        too joins uid=1
        two joins uid=2
        svc serves acme.x as s                -> svc served s epoch=1
        one opens acme.x as h                 -> one opened h call epoch=1
        too opens acme.x as i                 -> too opened i call epoch=1
        two opens acme.x as j                 -> two opened j call epoch=1
        one stops
        too stops
        two stops
        one calls h c1                        -> svc gets r1 on s from one
        too calls i c1                        -> svc gets r2 on s from too
        two calls j c1                        -> svc gets r3 on s from two
        svc replies r1 bytes=800              -> one c1 Reply [800 bytes]
        svc replies r2 bytes=800              -> too c1 TooLarge ~limits.user.unread_bytes
        svc replies r3 bytes=800              -> two c1 Reply [800 bytes]
        "#,
    );
}

#[test]
fn a_reload_changes_the_quotas_of_those_who_are_connected() {
    check(
        r#"
        allow anyone serve,call **
        limit user.calls_open=3 link_bytes_low=100 link_bytes_high=100000 user.unread_bytes=1000
        svc joins uid=9
        ann joins uid=1
        svc serves acme.x calls=3 as s        -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann stops
        ann calls h c0                        -> svc gets r1 on s from ann
        limit user.calls_open=1 user.unread_bytes=10000
        reloaded
        ann calls h c4                        -> ann c4 Busy ~limits.user.calls_open
        svc replies r1 bytes=2000             -> ann c0 Reply [2000 bytes]
        limit user.calls_open=3 user.unread_bytes=3000
        reloaded
        ann calls h c1                        -> svc gets r2 on s from ann
        ann calls h c2                        -> svc gets r3 on s from ann
        svc replies r2 bytes=1500             -> ann c1 TooLarge ~limits.user.unread_bytes
        "#,
    );
}

#[test]
fn who_waits_for_room_and_leaves_is_forgotten() {
    let mut script = String::from(
        "limit user.buffered_bytes=1000\n\
         ann announces 5000 -> ann admitted\n",
    );
    for generation in 1..200 {
        script.push_str(&format!("bob joins slot=7 generation={generation}\n"));
        script.push_str("bob announces 800 -> pause bob\n");
        script.push_str("bob leaves -> forget bob\n");
    }
    script.push_str("ann asks starved -> ann told starved=199\n");
    check(&script);
}
