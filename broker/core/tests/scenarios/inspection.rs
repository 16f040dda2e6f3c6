//! What the broker tells of itself: status, stats, waits, monitors, identities (SPEC 6).

use crate::script::check;

#[test]
fn status_counts_what_there_is_and_sums_what_there_can_be() {
    check(
        r#"
        svc serves acme.x calls=1 as s        -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann opens acme.y as i                 -> ann opened i call epoch=0
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2 "hello"
        ann asks connections                  -> ann told connections=2
        ann asks names                        -> ann told names=2
        ann asks names_owned                  -> ann told names_owned=1
        ann asks handles                      -> ann told handles=3
        ann asks calls_open                   -> ann told calls_open=2
        ann asks waiting                      -> ann told waiting=1
        ann asks waiting_bytes                -> ann told waiting_bytes=80
        ann asks used:calls_open_max          -> ann told used:calls_open_max=2
        ann asks sum                          -> ann told sum=true
        ann asks version                      -> ann told version=1.2.3
        ann asks calls                        -> ann told calls=2
        "#,
    );
}

#[test]
fn a_description_tells_of_owners_those_who_stand_by_and_what_waits() {
    check(
        r#"
        one serves acme.x calls=1 as s1       -> one served s1 epoch=1
        two serves acme.x calls=7 as s2       -> two stands by s2 place=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1                        -> one gets r1 on s1 from ann
        ann calls h c2
        ann describes acme.x                  -> ann described acme.x epoch=1 owner=one owners=1 standby=1 servers=one:0:1/1,two:1:0/7 waiting=1 handles=1
        ann describes acme.y                  -> ann description NoOwner
        ann describes Acme                    -> ann description Invalid
        "#,
    );
}

#[test]
fn identity_is_told_to_oneself_to_who_serves_and_to_administrators() {
    check(
        r#"
        allow 1 serve,call **
        allow 2 call **
        allow 3 admin switchboard
        svc joins uid=1
        ann joins uid=2 gid=5 groups=6,7 pid=77 label=web program=a_tool
        adm joins uid=3
        svc identifies ann                    -> svc identity Denied
        ann identifies                        -> ann identified ann uid=2 gid=5 groups=[6, 7] pid=77 label=web program=a tool
        adm identifies ann                    -> adm identified ann uid=2 gid=5 groups=[6, 7] pid=77 label=web program=a tool
        svc serves acme.x as s                -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        svc identifies ann                    -> svc identified ann uid=2 gid=5 groups=[6, 7] pid=77 label=web program=a tool
        svc replies r1                        -> ann c1 Reply
        svc identifies ann                    -> svc identity Denied
        "#,
    );
}

#[test]
fn who_waits_on_whom_is_shown_and_a_deadlock_is_named() {
    check(
        r#"
        one serves acme.one as s1             -> one served s1 epoch=1
        two serves acme.two as s2             -> two served s2 epoch=2
        ann opens acme.one as h               -> ann opened h call epoch=1
        one opens acme.two as h2              -> one opened h2 call epoch=2
        two opens acme.one as h1              -> two opened h1 call epoch=1
        ann calls h c1                        -> one gets r1 on s1 from ann
        +1ms
        one calls h2 c2 serving=r1            -> two gets r2 on s2 from one
        ann asks waits                        -> ann told waits ann>one(acme.one),one>two(acme.two) cycles=
        +1ms
        two calls h1 c3 serving=r2            -> one gets r3 on s1 from two
        ann asks waits                        -> ann told waits ann>one(acme.one),one>two(acme.two),two>one(acme.one) cycles=one>two
        "#,
    );
}

#[test]
fn a_monitor_shows_traffic_to_who_may_see_it_and_is_audited() {
    check(
        r#"
        allow 1 serve,call **
        allow 2 monitor switchboard,acme.open
        show log
        svc connects uid=1                    -> resume svc
        svc greets                            -> svc welcome version=1 features=0 calls=4096 priority=4; log: connected svc (user 1)
        mon connects uid=2                    -> resume mon
        mon greets                            -> mon welcome version=1 features=0 calls=4096 priority=4; log: connected mon (user 2)
        svc monitors ** m                     -> log: refused svc Denied; svc m Denied
        svc serves acme.open as o             -> log: owned acme.open; svc served o epoch=1
        svc serves acme.shut as t             -> log: owned acme.shut; svc served t epoch=2
        svc opens acme.open as h              -> svc opened h call epoch=1
        svc opens acme.shut as k              -> svc opened k call epoch=2
        mon monitors ** m payload=3           -> log: mon (user 2) monitors **
        svc calls k c1 "secret"               -> svc gets r1 on t from svc "secret"
        mon credits m 2
        svc calls h c2 "hello"                -> mon m 1 sees Call acme.open svc>svc lost=0 "hel"; svc gets r2 on o from svc "hello"
        svc replies r2 "world"                -> mon m 2 sees Reply acme.open svc>svc lost=0 "wor"; svc c2 Reply "world"
        svc sends h "a"                       -> svc receives on o from svc "a"
        svc sends h "b"                       -> svc receives on o from svc "b"
        mon credits m 1
        svc sends h "c"                       -> mon m 3 sees Send acme.open svc>svc lost=2 "c"; svc receives on o from svc "c"
        mon cancels m                         -> mon m Cancelled; log: mon monitors no more
        svc sends h "d"                       -> svc receives on o from svc "d"
        "#,
    );
}

#[test]
fn a_monitor_that_leaves_is_noted() {
    check(
        r#"
        own 1000
        mon monitors ** m
        show log
        mon leaves                            -> log: mon monitors no more; log: left mon calls=1; forget mon
        "#,
    );
}

#[test]
fn a_control_operation_that_makes_no_sense_is_an_error_and_the_connection_lives() {
    check(
        r#"
        ann operates c1 method=99             -> ann c1 Unsupported ~99
        ann operates c2 method=11 extended    -> ann c2 Unsupported ~SPEC 6.1
        ann operates c3 method=1 "xx"         -> ann c3 Invalid ~SPEC 7
        ann operates c4 method=1 bytes=16385  -> ann c4 TooLarge ~SPEC 6.1
        "#,
    );
}
