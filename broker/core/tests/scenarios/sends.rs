//! One-way sends: delivered at most once, never lost in silence (SPEC 4.8, 4.9 and 5.3).

use crate::script::check;

#[test]
fn a_send_is_delivered_without_an_answer() {
    check(
        r#"
        svc serves acme.x as s                -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann sends h tag=5 priority=2 "hi"     -> svc receives on s from ann priority=2 "hi"
        "#,
    );
}

#[test]
fn the_window_of_a_server_holds_sends_back_and_credit_lets_them_go() {
    check(
        r#"
        svc serves acme.x window=256 as s     -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann sends h bytes=64                  -> svc receives on s from ann "................................................................"
        ann sends h bytes=192                 -> svc receives on s from ann [192 bytes]
        ann sends h "later"
        ann asks waiting                      -> ann told waiting=1
        svc credits s 128
        svc credits s 256                     -> svc receives on s from ann "later"
        svc credits s 99999
        svc credits s 99999
        "#,
    );
}

#[test]
fn the_window_of_a_handle_is_enforced_and_given_back_in_quarters() {
    check(
        r#"
        limit send_bytes=1024
        svc serves acme.x window=1024 as s    -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann sends h bytes=448                 -> svc receives on s from ann [448 bytes]
        ann sends h tag=2 bytes=960           -> svc receives on s from ann [960 bytes]
        ann sends h tag=3 "x"                 -> ann unsent h Busy messages=1 tag=3 ~SPEC 4.9
        svc credits s 128
        svc credits s 128                     -> ann credit h 336
        svc credits s 1280                    -> ann credit h 1280
        ann sends h "x"                       -> svc receives on s from ann "x"
        "#,
    );
}

#[test]
fn a_reload_that_changes_the_window_leaves_open_handles_theirs() {
    check(
        r#"
        limit send_bytes=1024
        svc serves acme.x window=1024 as s    -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        limit send_bytes=1000000
        reloaded
        ann sends h bytes=960                 -> svc receives on s from ann [960 bytes]
        svc credits s 1024                    -> ann credit h 1024
        limit send_bytes=64
        reloaded
        ann sends h bytes=448                 -> svc receives on s from ann [448 bytes]
        ann sends h bytes=448                 -> svc receives on s from ann [448 bytes]
        "#,
    );
}

#[test]
fn senders_are_told_of_what_a_dead_server_had_not_credited() {
    check(
        r#"
        limit send_bytes=1024
        svc serves acme.x window=1024 as s    -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        bob opens acme.x as b                 -> bob opened b call epoch=1
        ann sends h tag=1 bytes=448           -> svc receives on s from ann [448 bytes]
        bob sends b tag=2                     -> svc receives on s from bob
        ann sends h tag=3                     -> svc receives on s from ann
        ann sends h tag=4                     -> svc receives on s from ann
        svc credits s 512                     -> ann credit h 512
        svc leaves                            -> bob unsent b PeerDied messages=1 tag=2
            ; ann unsent h PeerDied messages=2 tag=4; forget svc
        "#,
    );
}

#[test]
fn senders_are_told_when_a_server_stops_serving() {
    check(
        r#"
        svc serves acme.x window=64 as s      -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann sends h tag=1                     -> svc receives on s from ann
        ann sends h tag=2
        svc closes s                          -> ann unsent h PeerDied messages=1 tag=1
            ; ann unsent h NoOwner messages=1 tag=2; svc done
        "#,
    );
}

#[test]
fn a_send_that_cannot_be_delivered_is_told_with_its_tag() {
    check(
        r#"
        limit payload_bytes_max=100
        svc serves acme.x as s                -> svc served s epoch=1
        ann opens acme.x as h rights=delegate -> ann opened h delegate epoch=1
        ann sends h tag=1                     -> ann unsent h Denied messages=1 tag=1
        ann sends #12345678901 tag=2          -> ann unsent #0x2dfdc1c35 Invalid messages=1 tag=2
        ann opens acme.x as h2                -> ann opened h2 call epoch=1
        ann sends h2 tag=3 deadline=-1ms      -> ann unsent h2 DeadlineExceeded messages=1 tag=3
        ann sends h2 tag=4 handles=h2:call    -> ann unsent h2 Denied messages=1 tag=4
        ann asks sends_failed                 -> ann told sends_failed=4
        "#,
    );
}

#[test]
fn a_send_may_expire_while_it_waits() {
    check(
        r#"
        svc serves acme.x window=64 as s      -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann sends h tag=1                     -> svc receives on s from ann
        ann sends h tag=2 deadline=1ms
        ann sends h tag=3
        +2ms svc credits s 64                 -> ann unsent h DeadlineExceeded messages=1 tag=2; svc receives on s from ann
        "#,
    );
}

#[test]
fn credit_for_what_one_does_not_serve_changes_nothing() {
    check(
        r#"
        svc serves acme.x window=64 as s      -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann sends h                           -> svc receives on s from ann
        ann credits h 64
        ann credits s 64
        svc credits #777 64
        ann sends h
        svc credits s 64                      -> svc receives on s from ann
        "#,
    );
}

#[test]
fn a_batch_goes_as_one_frame_and_counts_as_its_messages() {
    check(
        r#"
        svc serves acme.x as s                -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann sends h batch=a,b,c,d,e             -> svc receives on s from ann batched [80 bytes]
        ann sends h tag=7 "alone"             -> svc receives on s from ann "alone"
        svc leaves                            -> ann unsent h PeerDied messages=6 tag=7; forget svc
        ann sends h tag=8 batch=a,b,c        -> ann unsent h NoOwner messages=3 tag=8
        "#,
    );
}

#[test]
fn a_batch_with_handles_or_as_a_call_is_refused() {
    check(
        r#"
        svc serves acme.x as s                -> svc served s epoch=1
        ann opens acme.x rights=call+delegate as h -> ann opened h call+delegate epoch=1
        ann sends h batch=a,b handles=h    -> ann unsent h Invalid messages=2 tag=0 ~SPEC 2.9
        ann calls h c1 batched "hi"           -> ann c1 Unsupported ~SPEC 2.9
        "#,
    );
}
