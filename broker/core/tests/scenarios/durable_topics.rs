//! Topics that retain their latest message in the log: what was answered at a level is there after
//! what that level survives (SPEC 9.3, 9.7, 10.6).

use crate::script::check;

#[test]
fn a_retained_message_is_answered_when_it_is_safe_and_told_to_who_comes_after_the_crash() {
    check(
        r#"
        topic acme.os retain level=os
        topic acme.disk retain level=disk
        topic acme.mem retain
        log ready
        ann opens acme.os kind=2 rights=publish as o -> ann opened o publish epoch=0
        ann opens acme.disk kind=2 rights=publish as d -> ann opened d publish epoch=0
        ann opens acme.mem kind=2 rights=publish as m -> ann opened m publish epoch=0
        bob opens acme.disk kind=2 rights=subscribe as t -> bob opened t subscribe epoch=0
        bob subscribes t s
        bob credits s 9                        -> bob s subscribed 0
        ann publishes o c1 method=7 named=set "old" -> append 1
        ann publishes d c2 "one"               -> append 2 sync; bob s 1 from ann "one"
        ann publishes m c3 "gone"              -> ann c3 published 1 to=0
        persisted 1                            -> ann c1 published 1 to=0 os@1
        persisted 2
        persisted 2 2                          -> ann c2 published 1 to=1 disk@2
        ann publishes o c1 method=8 named=set "new" -> append 3
        ann sends d "two"                      -> append 4; bob s 2 from ann "two"
        ann publishes d c2 batch=three,four,five -> append 5 sync; bob s 3 from ann batch=three,four,five
        persisted 5 5                          -> ann c1 published 2 to=0 os@3; ann c2 published 5 to=1 disk@5
        crash
        cid subscribes acme.* s history=1
        cid credits s 9                        -> cid s subscribed 0
        ;  cid s earlier 0 from nobody sequence=5 of=acme.disk "five"
        ;  cid s earlier 0 from nobody sequence=2 method=8 of=acme.os named=set "new"
        ann opens acme.disk kind=2 rights=publish as d -> ann opened d publish epoch=0
        ann publishes d c1 "six"               -> append 6 sync; cid s 1 from ann sequence=6 of=acme.disk "six"
        persisted 6 6                          -> ann c1 published 6 to=1 disk@6
        "#,
    );
}

#[test]
fn what_was_not_answered_may_be_lost_and_then_the_one_before_is_there() {
    check(
        r#"
        topic acme.t retain level=disk
        log ready
        ann opens acme.t kind=2 rights=publish as t -> ann opened t publish epoch=0
        ann publishes t c1 "one"               -> append 1 sync
        persisted 1 1                          -> ann c1 published 1 to=0 disk@1
        ann publishes t c1 "two"               -> append 2 sync
        crash keep=1
        bob opens acme.t kind=2 rights=subscribe as t -> bob opened t subscribe epoch=0
        bob subscribes t s history=5
        bob credits s 9                        -> bob s subscribed 1; bob s earlier 1 from nobody "one"
        "#,
    );
}

#[test]
fn an_empty_message_takes_the_place_of_the_one_before_it_in_the_log_too() {
    check(
        r#"
        topic acme.t retain level=os
        log ready
        ann opens acme.t kind=2 rights=publish as t -> ann opened t publish epoch=0
        ann publishes t c1 "something"         -> append 1
        ann publishes t c2                     -> append 2
        persisted 2                            -> ann c1 published 1 to=0 os@1; ann c2 published 2 to=0 os@2
        crash
        bob opens acme.t kind=2 rights=subscribe as t -> bob opened t subscribe epoch=0
        bob subscribes t s history=5
        bob credits s 9                        -> bob s subscribed 2; bob s earlier 2 from nobody
        "#,
    );
}

#[test]
fn a_history_is_in_memory_and_its_latest_message_in_the_log() {
    check(
        r#"
        topic acme.t retain history=3 level=os
        log ready
        ann opens acme.t kind=2 rights=publish+subscribe as t -> ann opened t publish+subscribe epoch=0
        ann publishes t c1 batch=1,2           -> append 1
        ann publishes t c2 "3"                 -> append 2
        persisted 2                            -> ann c1 published 2 to=0 os@1; ann c2 published 3 to=0 os@2
        ann subscribes t s history=3
        ann credits s 9                        -> ann s subscribed 3; ann s earlier 1 from ann batch=1,2; ann s earlier 3 from ann "3"
        crash
        ann opens acme.t kind=2 rights=publish+subscribe as t -> ann opened t publish+subscribe epoch=0
        ann subscribes t s history=3
        ann credits s 9                        -> ann s subscribed 3; ann s earlier 3 from nobody "3"
        "#,
    );
}

#[test]
fn what_a_topic_no_longer_retains_durably_is_taken_out_of_the_log() {
    // By a reload, which forgets it; at a restart, where a topic that still retains has it once more.
    check(
        r#"
        topic acme.a retain level=os
        topic acme.b retain level=os
        topic acme.c retain level=os
        topic acme.d retain level=os
        log ready
        ann opens acme.a kind=2 rights=publish as a -> ann opened a publish epoch=0
        ann opens acme.b kind=2 rights=publish as b -> ann opened b publish epoch=0
        ann opens acme.c kind=2 rights=publish as c -> ann opened c publish epoch=0
        ann opens acme.d kind=2 rights=publish as d -> ann opened d publish epoch=0
        ann sends a "a"                        -> append 1
        ann sends b "b"                        -> append 2
        ann sends c "c"                        -> append 3
        ann sends d "d"                        -> append 4
        persisted 4
        untopic acme.a
        reloaded                               -> append 5
        topic acme.a retain level=os
        reloaded
        topic acme.b retain
        untopic acme.c
        queue acme.c
        crash                                  -> append 6; append 7
        bob subscribes acme.* s history=1
        bob credits s 9                        -> bob s subscribed 0
        ;  bob s earlier 0 from nobody sequence=1 of=acme.b "b"
        ;  bob s earlier 0 from nobody sequence=1 of=acme.d "d"
        crash
        bob subscribes acme.* s history=1
        bob credits s 9                        -> bob s subscribed 0; bob s earlier 0 from nobody sequence=1 of=acme.d "d"
        "#,
    );
}

#[test]
fn a_log_that_cannot_be_written_is_said_to_publishers_and_stops_no_message() {
    check(
        r#"
        topic acme.t retain level=disk
        topic acme.u retain level=os
        log ready
        ann opens acme.t kind=2 rights=publish as t -> ann opened t publish epoch=0
        ann opens acme.u kind=2 rights=publish as u -> ann opened u publish epoch=0
        bob subscribes acme.* s
        bob credits s 9                        -> bob s subscribed 0
        ann publishes t c1 "safe"              -> append 1 sync; bob s 1 from ann of=acme.t "safe"
        persisted 1 1                          -> ann c1 published 1 to=1 disk@1
        ann publishes t c1 "open"              -> append 2 sync; bob s 2 from ann of=acme.t "open"
        ann publishes u c2 "open"              -> append 3; bob s 3 from ann sequence=1 of=acme.u "open"
        log fails "no space left"              -> ann c2 ReadOnly ~no space left; ann c1 ReadOnly ~no space left
        ann asks failure                       -> ann told failure=no space left
        ann publishes t c1 "later"             -> bob s 4 from ann sequence=3 of=acme.t "later"; ann c1 published 3 to=1
        ann sends u "later"                    -> bob s 5 from ann sequence=2 of=acme.u "later"
        cid subscribes acme.* s history=1
        cid credits s 9                        -> cid s subscribed 0
        ;  cid s earlier 0 from ann sequence=3 of=acme.t "later"
        ;  cid s earlier 0 from ann sequence=2 of=acme.u "later"
        untopic acme.u
        reloaded
        crash keep=2
        cid subscribes acme.* s history=1
        cid credits s 9                        -> cid s subscribed 0; cid s earlier 0 from nobody sequence=2 of=acme.t "open"
        "#,
    );
}

#[test]
fn a_held_message_is_answered_at_its_level_or_not_once_there_is_room() {
    check(
        r#"
        own 1000
        topic acme.t retain level=disk
        log ready
        ann opens acme.t kind=2 rights=publish as t -> ann opened t publish epoch=0
        bob opens acme.t kind=2 rights=subscribe as b -> bob opened b subscribe epoch=0
        bob subscribes b s policy=block messages=1
        ann publishes t c1 "1"                 -> append 1 sync
        ann publishes t c2 "2"
        ann publishes t c3 "3"
        persisted 1 1                          -> ann c1 published 1 to=1 disk@1
        bob credits s 2                        -> bob s subscribed 0; bob s 1 from ann "1"; append 2 sync
        persisted 2 2                          -> ann c2 published 2 to=1 disk@2
        log fails "gone"
        bob credits s 2                        -> bob s 2 from ann "2"; bob s 3 from ann "3"; ann c3 published 3 to=1
        "#,
    );
}

#[test]
fn without_a_log_or_room_in_it_a_durable_topic_keeps_in_memory_and_says_so() {
    check(
        r#"
        topic acme.t retain level=disk
        ann opens acme.t kind=2 rights=publish as t -> ann opened t publish epoch=0
        ann publishes t c1 "early"             -> ann c1 published 1 to=0
        limit segment_bytes=3000 log_bytes_max=6000
        reloaded
        log ready
        ann publishes t c1 bytes=7000          -> append 1 sync
        ann publishes t c2 "small"             -> ann c2 published 3 to=0
        persisted 1 1                          -> ann c1 published 2 to=0 disk@1
        bob opens acme.t kind=2 rights=subscribe as b -> bob opened b subscribe epoch=0
        bob subscribes b s history=1
        bob credits s 2                        -> bob s subscribed 3; bob s earlier 3 from ann "small"
        crash
        bob opens acme.t kind=2 rights=subscribe as b -> bob opened b subscribe epoch=0
        bob subscribes b s history=1
        bob credits s 2                        -> bob s subscribed 2; bob s earlier 2 from nobody [7000 bytes]
        "#,
    );
}

#[test]
fn what_is_read_back_and_is_more_than_a_topic_may_keep_now_is_not_kept() {
    check(
        r#"
        topic acme.t retain level=os
        topic acme.u retain level=os
        log ready
        ann opens acme.t kind=2 rights=publish as t -> ann opened t publish epoch=0
        ann opens acme.u kind=2 rights=publish as u -> ann opened u publish epoch=0
        ann sends t bytes=300                  -> append 1
        ann sends u bytes=300                  -> append 2
        topic acme.t retain level=os history_bytes=200
        limit kept_bytes_max=500
        crash
        bob subscribes acme.* s history=1
        bob credits s 9                        -> bob s subscribed 0; bob s earlier 0 from nobody sequence=1 of=acme.u [300 bytes]
        ann opens acme.t kind=2 rights=publish as t -> ann opened t publish epoch=0
        ann publishes t c1 "x"                 -> append 3; bob s 1 from ann sequence=2 of=acme.t "x"
        "#,
    );
}

#[test]
fn retained_messages_are_copied_on_so_that_segments_can_go() {
    check(
        r#"
        limit segment_bytes=1000
        topic acme.keep retain level=os
        topic acme.busy retain level=os
        log ready
        ann opens acme.keep kind=2 rights=publish as k -> ann opened k publish epoch=0
        ann opens acme.busy kind=2 rights=publish as b -> ann opened b publish epoch=0
        ann sends k "keep"                     -> append 1
        ann sends b bytes=950                  -> append 2
        ann sends b bytes=950                  -> roll 2; append 3
        ann sends b bytes=950                  -> roll 3; append 4
        ann sends b bytes=950                  -> roll 4; append 5
        persisted 5
        ann sends b "x"                        -> roll 5; append 6
        persisted 6                            -> append 7; drop 1; drop 2; drop 3; drop 4
        ann asks segments                      -> ann told segments=5..5
        ann asks log_bytes                     -> ann told log_bytes=104
        crash
        bob subscribes acme.* s history=1
        bob credits s 9                        -> bob s subscribed 0
        ;  bob s earlier 0 from nobody sequence=5 of=acme.busy "x"
        ;  bob s earlier 0 from nobody sequence=1 of=acme.keep "keep"
        untopic acme.keep
        reloaded                               -> append 8
        crash
        bob subscribes acme.* s history=1
        bob credits s 9                        -> bob s subscribed 0; bob s earlier 0 from nobody sequence=5 of=acme.busy "x"
        "#,
    );
}
