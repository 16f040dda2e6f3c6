//! How connections begin and end, and that a bad one hurts only itself (SPEC 1 and 2.4).

use crate::script::check;

#[test]
fn a_connection_begins_with_hello_and_welcome() {
    check(
        r#"
        ann connects                          -> resume ann
        ann greets features=255               -> ann welcome version=1 features=0 calls=4096 priority=4
        bob connects                          -> resume bob
        bob greets min=0 max=9 extended       -> bob welcome version=1 features=0 calls=4096 priority=4
        "#,
    );
}

#[test]
fn a_wrong_beginning_ends_the_connection_with_the_reason() {
    check(
        r#"
        a connects                            -> resume a
        a says call                           -> a goodbye Hello ~SPEC 1.2; close a
        b connects                            -> resume b
        b greets method=7                     -> b goodbye Hello ~SPEC 1.2; close b
        c connects                            -> resume c
        c greets torn                         -> c goodbye Hello; close c
        d connects                            -> resume d
        d greets min=2 max=3                  -> d goodbye Version ~version 1; close d
        e connects                            -> resume e
        e babbles version                     -> e goodbye Version; close e
        f connects                            -> resume f
        f overdoes cancel                     -> f goodbye Hello; close f
        a leaves                              -> forget a
        a connects slot=0 generation=2        -> resume a
        "#,
    );
}

#[test]
fn who_does_not_say_hello_in_time_is_closed() {
    check(
        r#"
        limit hello_timeout=2s
        a connects                            -> resume a
        b connects                            -> resume b
        b greets                              -> b welcome version=1 features=0 calls=4096 priority=4
        +1999ms
        +1ms                                  -> a goodbye HelloTimeout ~2 s; close a
        +60s
        a leaves                              -> forget a
        "#,
    );
}

#[test]
fn speaking_for_the_broker_or_in_broken_frames_ends_that_connection_alone() {
    check(
        r#"
        svc serves acme.x as s                -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        a says welcome                        -> a goodbye BrokerOnly; close a
        b says event                          -> b goodbye BrokerOnly; close b
        c babbles kind                        -> c goodbye BadFrame ~0x77; close c
        d babbles descriptors                 -> d goodbye FileDescriptors; close d
        e greets                              -> e goodbye Hello ~second; close e
        f says goodbye                        -> f goodbye Done; close f
        f says event
        f babbles kind
        f leaves                              -> forget f
        svc replies r1                        -> ann c1 Reply
        "#,
    );
}

#[test]
fn what_a_closed_peer_still_says_counts_for_nothing() {
    check(
        r#"
        svc serves acme.x as s                -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        svc says event                        -> svc goodbye BrokerOnly; close svc
        svc replies r1
        ann calls h c2
        svc leaves                            -> ann c1 PeerDied; ann c2 NoOwner; forget svc
        "#,
    );
}

#[test]
fn the_broker_notes_who_was_expelled_and_whom_it_refused_first() {
    check(
        r#"
        own 1000
        show log
        a connects                            -> resume a
        a greets                              -> a welcome version=1 features=0 calls=4096 priority=4; log: connected a (user 1000)
        a opens Bad                           -> log: refused a Invalid; a opening Invalid
        a opens Bad                           -> a opening Invalid
        a says event                          -> a goodbye BrokerOnly; close a; log: expelled a BrokerOnly
        a leaves                              -> log: left a calls=0; forget a
        "#,
    );
}

#[test]
fn connections_that_come_too_fast_wait_and_are_not_refused() {
    check(
        r#"
        own 1000
        show log
        limit user.connections_per_second=2
        a connects                            -> resume a
        b connects                            -> resume b
        c connects                            -> log: delayed 1000
        d connects
        other connects uid=7                  -> resume other
        +500ms                                -> resume c
        d leaves                              -> log: left d calls=0; forget d
        +5s
        e connects                            -> resume e
        "#,
    );
}

#[test]
fn a_delayed_connection_has_its_whole_hello_timeout() {
    check(
        r#"
        limit user.connections_per_second=1 hello_timeout=1s
        a connects                            -> resume a
        a greets                              -> a welcome version=1 features=0 calls=4096 priority=4
        b connects
        +1s                                   -> resume b
        +999ms b greets                       -> b welcome version=1 features=0 calls=4096 priority=4
        "#,
    );
}

#[test]
fn a_program_is_named_as_it_says_within_reason() {
    let long = "é".repeat(70);
    check(&format!(
        r#"
        a connects                            -> resume a
        a greets program={long}               -> a welcome version=1 features=0 calls=4096 priority=4
        a identifies                          -> a identified a uid=1000 gid=1000 groups=[] pid=100 label= program={}
        "#,
        "é".repeat(32)
    ));
}
