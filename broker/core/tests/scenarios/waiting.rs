//! What waits for a server to have room, and who goes next (DESIGN 3, SPEC 4.7 and 5.2).

use crate::script::{check, check_quickly};

#[test]
fn a_server_has_no_more_requests_than_it_asked_for() {
    check(
        r#"
        svc serves acme.x calls=2 as s        -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1 "a"                    -> svc gets r1 on s from ann "a"
        ann calls h c2 "b"                    -> svc gets r2 on s from ann "b"
        ann calls h c3 "c"
        ann calls h c4 nowait                 -> ann c4 Busy
        svc replies r2                        -> ann c2 Reply; svc gets r3 on s from ann "c"
        "#,
    );
}

#[test]
fn higher_priorities_go_first_and_equals_in_order() {
    check(
        r#"
        svc serves acme.x calls=1 as s        -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2 priority=1 "1a"
        ann calls h c3 priority=3 "3a"
        ann calls h c4 priority=1 "1b"
        ann calls h c5 priority=3 "3b"
        svc replies r1                        -> ann c1 Reply; svc gets r2 on s from ann priority=3 "3a"
        svc replies r2                        -> ann c3 Reply; svc gets r3 on s from ann priority=3 "3b"
        svc replies r3                        -> ann c5 Reply; svc gets r4 on s from ann priority=1 "1a"
        svc replies r4                        -> ann c2 Reply; svc gets r5 on s from ann priority=1 "1b"
        "#,
    );
}

#[test]
fn who_waits_gains_a_level_each_step_so_that_none_starves() {
    check(
        r#"
        limit ageing_step=10ms
        svc serves acme.x calls=1 as s        -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2 "old"
        +31ms ann calls h c3 priority=3 "new"
        svc replies r1                        -> ann c1 Reply; svc gets r2 on s from ann "old"
        ann calls h c4 "older"
        +29ms ann calls h c5 priority=3 "newer"
        svc replies r2                        -> ann c2 Reply; svc gets r3 on s from ann priority=3 "new"
        svc replies r3                        -> ann c3 Reply; svc gets r4 on s from ann priority=3 "newer"
        "#,
    );
}

#[test]
fn sends_and_calls_of_one_handle_keep_their_order() {
    check(
        r#"
        svc serves acme.x calls=1 as s        -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1 "1"                    -> svc gets r1 on s from ann "1"
        ann calls h c2 "2"
        ann sends h "3"
        ann calls h c3 "4"
        svc replies r1                        -> ann c1 Reply; svc gets r2 on s from ann "2"; svc receives on s from ann "3"
        svc replies r2                        -> ann c2 Reply; svc gets r3 on s from ann "4"
        "#,
    );
}

#[test]
fn a_server_that_does_not_read_gets_no_more_until_it_does() {
    check(
        r#"
        limit link_bytes_low=100 link_bytes_high=400 link_bytes_max=4000 link_bytes_reserved=1000
        svc serves acme.x calls=9 as s        -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        svc stops
        ann calls h c1 bytes=320              -> svc gets r1 on s from ann [320 bytes]
        ann calls h c2 bytes=320              -> svc gets r2 on s from ann [320 bytes]; pause svc
        ann calls h c3 "x"
        svc reads 384
        svc reads 300                         -> resume svc; svc gets r3 on s from ann "x"
        "#,
    );
}

#[test]
fn what_waits_ends_when_its_caller_has_enough() {
    check(
        r#"
        svc serves acme.x calls=1 as s        -> svc served s epoch=1
        ann opens acme.x as h rights=call+delegate -> ann opened h call+delegate epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2 handles=h:call deadline=1ms
        ann asks handles                      -> ann told handles=3
        +1ms                                  -> ann c2 DeadlineExceeded
        ann asks handles                      -> ann told handles=2
        ann asks waiting_bytes                -> ann told waiting_bytes=0
        "#,
    );
}

#[test]
fn what_waits_ends_with_the_last_owner() {
    check(
        r#"
        svc serves acme.x calls=1 window=0 as s -> svc served s epoch=1
        ann opens acme.x as h rights=call+delegate -> ann opened h call+delegate epoch=1
        ann sends h tag=1                     -> svc receives on s from ann
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2 handles=h:call
        ann sends h tag=2 handles=h:call
        ann closes h                          -> ann done
        svc closes s                          -> ann c1 Abandoned; ann c2 NoOwner; svc done
        svc asks handles                      -> svc told handles=0
        svc asks names                        -> svc told names=0
        "#,
    );
}

#[test]
fn a_departure_of_many_things_is_done_in_slices_and_leaves_nothing() {
    let mut script = String::from(
        "svc serves acme.x calls=500 as s -> svc served s epoch=1\n\
         ann opens acme.x as h -> ann opened h call epoch=1\n",
    );
    for call in 1..=300 {
        script.push_str(&format!("ann calls h c{call} -> svc gets r{call} on s from ann\n"));
    }
    script.push_str("svc leaves -> ann c1 PeerDied; ...\n");
    script.push_str("ann asks calls_open -> ann told calls_open=0\n");
    script.push_str("ann asks connections -> ann told connections=1\n");
    check_quickly(&script);
}
