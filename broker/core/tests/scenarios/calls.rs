//! A call ends exactly once (DESIGN 3, SPEC 4 and 5).

use crate::script::check;

#[test]
fn a_call_reaches_the_owner_and_its_answer_comes_back() {
    check(
        r#"
        svc serves acme.echo as s             -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1 named=shout "hi"       -> svc gets r1 on s from ann named=shout "hi"
        svc replies r1 "HI"                   -> ann c1 Reply "HI"
        "#,
    );
}

#[test]
fn no_owner_is_an_answer_now() {
    check(
        r#"
        ann opens acme.echo as h              -> ann opened h call epoch=0
        ann calls h c1                        -> ann c1 NoOwner ~`acme.echo`
        ann sends h tag=3                     -> ann unsent h NoOwner messages=1 tag=3
        "#,
    );
}

#[test]
fn a_caller_is_told_when_its_service_dies() {
    check(
        r#"
        svc serves acme.echo as s             -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2                        -> svc gets r2 on s from ann
        svc leaves status=9                   -> ann c1 PeerDied status=9 ~killed by signal 9; ann c2 PeerDied status=9; forget svc
        ann calls h c3                        -> ann c3 NoOwner
        "#,
    );
    check(
        r#"
        svc serves acme.echo as s             -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        svc leaves                            -> ann c1 PeerDied; forget svc
        "#,
    );
}

#[test]
fn a_service_that_stops_serving_abandons_what_it_has() {
    check(
        r#"
        svc serves acme.echo calls=1 as s     -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2
        svc closes s                          -> ann c1 Abandoned; ann c2 NoOwner; svc done
        svc replies r1
        svc asks answers_late                 -> svc told answers_late=1
        "#,
    );
}

#[test]
fn only_the_asked_server_may_answer_and_only_once() {
    check(
        r#"
        svc serves acme.echo as s             -> svc served s epoch=1
        bad serves acme.bad as b              -> bad served b epoch=2
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        bad replies r1 "forged"
        bad fails r1 Denied
        bad streams r1
        ann replies r1
        svc replies r1 "true"                 -> ann c1 Reply "true"
        svc replies r1 "again"
        svc fails r1 Failed
        svc replies #77
        svc asks answers_late                 -> svc told answers_late=7
        "#,
    );
}

#[test]
fn a_service_ends_a_request_by_its_own_error() {
    check(
        r#"
        svc serves acme.echo as s             -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        svc fails r1 Failed "no disk"         -> ann c1 Failed code=test:7 ~no disk
        ann calls h c2                        -> svc gets r2 on s from ann
        svc fails r2 Unsupported              -> ann c2 Unsupported code=test:7
        ann calls h c3                        -> svc gets r3 on s from ann
        svc fails r3 PeerDied                 -> ann c3 Failed code=test:7
        ann calls h c4                        -> svc gets r4 on s from ann
        svc fails r4 x method=99              -> ann c4 Failed code=test:7
        ann calls h c5                        -> svc gets r5 on s from ann
        svc fails r5 Reply                    -> ann c5 Failed code=test:7
        "#,
    );
}

#[test]
fn a_call_ends_at_its_deadline_and_a_late_answer_is_dropped() {
    check(
        r#"
        svc serves acme.echo calls=1 as s     -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1 deadline=10ms          -> svc gets r1 on s from ann deadline=10ms
        ann calls h c2 deadline=4ms
        +3ms
        +1ms                                  -> ann c2 DeadlineExceeded ~waiting for a server
        +5ms
        +1ms                                  -> ann c1 DeadlineExceeded ~waiting at the service; svc cancel r1 DeadlineExceeded
        svc replies r1
        svc asks answers_late                 -> svc told answers_late=1
        ann calls h c3 deadline=-1ms          -> ann c3 DeadlineExceeded ~had passed
        "#,
    );
}

#[test]
fn a_deadline_that_has_come_counts_whatever_else_happens_first() {
    check(
        r#"
        svc serves acme.echo as s             -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1 deadline=10ms          -> svc gets r1 on s from ann deadline=10ms
        +10ms svc replies r1 "too late"       -> ann c1 DeadlineExceeded; svc cancel r1 DeadlineExceeded
        "#,
    );
}

#[test]
fn cancel_is_final_for_the_caller_and_advice_to_the_server() {
    check(
        r#"
        svc serves acme.echo calls=1 as s     -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2
        ann cancels c2                        -> ann c2 Cancelled
        ann cancels c1                        -> ann c1 Cancelled; svc cancel r1 Cancelled
        ann calls h c3
        svc replies r1                        -> svc gets r2 on s from ann
        svc replies r2                        -> ann c3 Reply
        "#,
    );
}

#[test]
fn cancelling_what_is_not_open_changes_nothing() {
    check(
        r#"
        svc serves acme.echo as s             -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        bob opens acme.echo as b              -> bob opened b call epoch=1
        ann calls h c1 word=7                 -> svc gets r1 on s from ann
        bob calls b c1 word=8                 -> svc gets r2 on s from bob
        bob cancels c1                        -> bob c1 Cancelled; svc cancel r2 Cancelled
        svc replies r1                        -> ann c1 Reply
        "#,
    );
}

#[test]
fn a_call_slot_is_used_by_one_open_call_at_a_time() {
    check(
        r#"
        limit user.calls_open=4
        svc serves acme.echo as s             -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1 word=0x100000002       -> svc gets r1 on s from ann
        ann calls h c2 word=0x200000002       -> ann c2 Invalid ~SPEC 4.2
        ann calls h c3 word=0x300000004       -> ann c3 Busy ~limits.user.calls_open
        ann awaits acme.z w1 word=0x400000002 -> ann w1 Invalid ~SPEC 4.2
        ann operates c4 method=11 word=0x500000002 -> ann c4 Invalid ~SPEC 4.2
        svc replies r1                        -> ann c1 Reply
        ann calls h c5 word=0x600000002       -> svc gets r2 on s from ann
        "#,
    );
}

#[test]
fn a_request_is_delivered_with_who_calls_and_what_the_broker_enforces() {
    check(
        r#"
        svc serves acme.echo as s             -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1 priority=7 deadline=2s streamed method=4 "x"
            -> svc gets r1 on s from ann priority=4 deadline=2s streamed "x"
        "#,
    );
}

#[test]
fn a_nested_call_has_the_parents_deadline_and_may_have_its_priority() {
    check(
        r#"
        allow 1 serve,call ** priority=7
        allow 2 serve,call **
        svc joins uid=2
        low joins uid=2
        ann joins uid=1
        svc serves acme.svc as s              -> svc served s epoch=1
        low serves acme.low as l              -> low served l epoch=2
        svc opens acme.low as h2              -> svc opened h2 call epoch=2
        ann opens acme.svc as h               -> ann opened h call epoch=1
        ann calls h c1 priority=7 deadline=9ms -> svc gets r1 on s from ann priority=7 deadline=9ms
        svc calls h2 n1 serving=r1 priority=7 deadline=50ms -> low gets r2 on l from svc priority=7 deadline=9ms
        svc calls h2 n2 serving=r1 priority=3 deadline=2ms  -> low gets r3 on l from svc priority=3 deadline=2ms
        svc calls h2 n3 serving=r1            -> low gets r4 on l from svc deadline=9ms
        svc calls h2 n4 priority=7            -> low gets r5 on l from svc priority=4
        svc sends h2 serving=r1 priority=6    -> low receives on l from svc priority=6 deadline=9ms
        "#,
    );
}

#[test]
fn nobody_inherits_from_a_request_that_it_does_not_serve() {
    check(
        r#"
        allow 1 serve,call ** priority=7
        allow 2 serve,call **
        svc joins uid=2
        bad joins uid=2
        ann joins uid=1
        svc serves acme.svc as s              -> svc served s epoch=1
        bad opens acme.svc as b               -> bad opened b call epoch=1
        ann opens acme.svc as h               -> ann opened h call epoch=1
        ann calls h c1 priority=7 deadline=9ms -> svc gets r1 on s from ann priority=7 deadline=9ms
        bad calls b c1 serving=r1 priority=7  -> svc gets r2 on s from bad priority=4
        svc replies r1                        -> ann c1 Reply
        svc opens acme.svc as o               -> svc opened o call epoch=1
        svc calls o c2 serving=r1 priority=7  -> svc gets r3 on s from svc priority=4
        "#,
    );
}

#[test]
fn a_caller_that_leaves_frees_what_waits_and_advises_the_server() {
    check(
        r#"
        svc serves acme.echo calls=1 as s     -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2
        ann sends h "x"
        ann leaves                            -> svc cancel r1 PeerDied; forget ann; svc receives on s from ann "x"
        svc replies r1
        svc asks answers_late                 -> svc told answers_late=1
        "#,
    );
}

#[test]
fn an_unknown_handle_is_invalid_and_one_that_was_is_revoked() {
    check(
        r#"
        svc serves acme.echo as s             -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        bob calls h c1                        -> bob c1 Invalid ~no such handle
        bob calls #999999999999 c2            -> bob c2 Invalid ~no such handle
        ann closes h                          -> ann done
        ann calls h c1                        -> ann c1 HandleRevoked
        svc calls s c1                        -> svc c1 Denied ~`call`
        "#,
    );
}

#[test]
fn a_closed_handle_leaves_its_calls_open() {
    check(
        r#"
        svc serves acme.echo as s             -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann closes h                          -> ann done
        svc replies r1                        -> ann c1 Reply
        "#,
    );
}

#[test]
fn payloads_over_the_limit_are_an_error_and_the_connection_lives() {
    check(
        r#"
        limit payload_bytes_max=100
        svc serves acme.echo as s             -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1 bytes=101              -> ann c1 TooLarge ~limits.payload_bytes_max
        ann sends h tag=9 bytes=101           -> ann unsent h TooLarge messages=1 tag=9
        ann calls h c2 bytes=100              -> svc gets r1 on s from ann [100 bytes]
        svc replies r1 bytes=101              -> ann c2 TooLarge ~limits.payload_bytes_max
        ann overdoes call h c3                -> ann c3 TooLarge ~limits.payload_bytes_max
        ann overdoes send h                   -> ann unsent h TooLarge messages=1 tag=5; ann credit h 33554496
        ann calls h c4 streamed               -> svc gets r2 on s from ann streamed
        svc overdoes item r2                  -> ann c4 TooLarge; svc cancel r2 TooLarge
        svc overdoes reply r2
        ann calls h c5                        -> svc gets r3 on s from ann
        svc overdoes reply r3                 -> ann c5 TooLarge ~the service
        ann overdoes cancel                   -> ann goodbye BadFrame; close ann
        "#,
    );
}

#[test]
fn at_a_shutdown_everybody_is_told_and_every_call_ends() {
    check(
        r#"
        svc serves acme.echo calls=1 as s     -> svc served s epoch=1
        ann opens acme.echo as h              -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2
        new connects                          -> resume new
        shutdown                              -> ann c1 ShuttingDown; svc cancel r1 ShuttingDown; ann c2 ShuttingDown
            ; svc shutting down; svc goodbye ShuttingDown; close svc
            ; ann shutting down; ann goodbye ShuttingDown; close ann
            ; new goodbye ShuttingDown; close new
        late connects                         -> late goodbye ShuttingDown; close late
        svc leaves                            -> forget svc
        ann leaves                            -> forget ann
        "#,
    );
}
