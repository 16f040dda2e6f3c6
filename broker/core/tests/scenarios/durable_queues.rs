//! Durable queues: nothing is said before it is true, and what was said is there after a crash
//! (SPEC 10.6).

use crate::script::check;

#[test]
fn a_push_is_answered_and_delivered_when_it_is_as_safe_as_the_queue_promises() {
    check(
        r#"
        log ready
        ann creates acme.os level=os           -> append 1
        persisted 1                            -> ann created acme.os
        ann creates acme.disk level=disk       -> append 2 sync
        persisted 2
        persisted 2 2                          -> ann created acme.disk
        ann opens acme.os kind=3 rights=push+pop as o -> ann opened o push+pop epoch=0
        ann opens acme.disk kind=3 rights=push+pop as d -> ann opened d push+pop epoch=0
        bob opens acme.disk kind=3 rights=pop as b -> bob opened b pop epoch=0
        bob pops b c1
        ann pushes o c1 "one"                  -> append 3
        ann pushes d c2 "two"                  -> append 4 sync
        ann looks o c3 at=messages,ready       -> ann c3 sees messages=1 ready=0
        persisted 3                            -> ann c1 pushed 1 os@3
        persisted 4
        persisted 4 4                          -> ann c2 pushed 1 disk@4; bob c1 got 1 n=1 l1 "two"; append 5
        bob acks b c1 l1                       -> append 6 sync
        ann looks d c3 at=messages             -> ann c3 sees messages=0
        persisted 6 6                          -> bob c1 done disk@6
        ann pops o c1                          -> ann c1 got 1 n=1 l2 "one"; append 7
        ann nacks o c1 l2 how=fail             -> append 8
        persisted 8                            -> ann c1 done os@8
        ann purges o c1                        -> append 9
        persisted 9                            -> ann c1 purged 1 os@9
        ann pops o c1 nowait                   -> ann c1 Busy
        "#,
    );
}

#[test]
fn what_was_answered_is_there_after_a_crash_and_what_was_acknowledged_is_not() {
    check(
        r#"
        log ready
        ann creates acme.q level=disk messages=50 deliveries=3 -> append 1 sync
        persisted 1 1                          -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann pushes q c1 batch=a,b:5,c,d        -> append 2 sync
        ann pushes q c2 delay=10s "e"          -> append 3 sync
        ann pushes q c3 ttl=10s "f"            -> append 4 sync
        ann pushes q c4 ttl=100s "g"           -> append 5 sync
        persisted 5 5                          -> ann c1 pushed 1 disk@2; ann c2 pushed 5 disk@3; ann c3 pushed 6 disk@4; ann c4 pushed 7 disk@5
        ann pops q c1                          -> ann c1 got 2 n=1 p=5 l1 "b"; append 6
        ann pops q c1                          -> ann c1 got 1 n=1 l2 "a"; append 7
        ann acks q c1 l2                       -> append 8 sync
        persisted 8 8                          -> ann c1 done disk@8
        +9s crash
        ann creates acme.q messages=50 level=disk deliveries=3 -> ann created acme.q already
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann acks q c1 l1                       -> ann c1 LeaseLost
        +1s                                    -> append 9
        ann looks q c1 at=messages,ready,delayed,position,expired -> ann c1 sees messages=5 ready=5 delayed=0 position=7 expired=1
        ann pops q c1                          -> ann c1 got 2 n=2 p=5 l3 "b"; append 10
        ann pops q c1                          -> ann c1 got 3 n=1 l4 "c"; append 11
        ann pops q c1                          -> ann c1 got 4 n=1 l5 "d"; append 12
        ann pops q c1                          -> ann c1 got 5 n=1 l6 "e"; append 13
        ann pops q c1                          -> ann c1 got 7 n=1 l7 "g"; append 14
        ann pushes q c1 "h"                    -> append 15 sync
        persisted 15 15                        -> ann c1 pushed 8 disk@15
        "#,
    );
}

#[test]
fn positions_never_go_backwards_whatever_was_consumed() {
    check(
        r#"
        limit segment_bytes=1000
        log ready
        ann creates acme.q level=os            -> append 1
        persisted 1                            -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann pushes q c1 bytes=2000             -> append 2
        persisted 2                            -> ann c1 pushed 1 os@2
        ann pops q c1 lease=none               -> ann c1 got 1 n=1 [2000 bytes]; roll 2; append 3
        ann pushes q c1 bytes=2000             -> append 4
        persisted 4                            -> ann c1 pushed 2 os@4
        ann pops q c1 lease=none               -> ann c1 got 2 n=1 [2000 bytes]; roll 3; append 5
        ann pushes q c1 bytes=2000             -> append 6
        persisted 6                            -> ann c1 pushed 3 os@6
        ann pops q c1 lease=none               -> ann c1 got 3 n=1 [2000 bytes]; roll 4; append 7
        ann pushes q c1 bytes=2000             -> append 8
        persisted 8                            -> ann c1 pushed 4 os@8
        ann pops q c1 lease=none               -> ann c1 got 4 n=1 [2000 bytes]; roll 5; append 9; append 10; drop 1; drop 2; drop 3; drop 4
        ann asks segments                      -> ann told segments=5..5
        crash
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann looks q c1 at=messages,position    -> ann c1 sees messages=0 position=4
        "#,
    );
}

#[test]
fn what_was_not_answered_may_be_lost_but_a_push_is_never_there_in_part() {
    check(
        r#"
        log ready
        ann creates acme.a level=os            -> append 1
        ann creates acme.b creation2 level=disk -> append 2 sync
        ann creates acme.c creation3           -> ann created acme.c
        persisted 2 2                          -> ann created acme.a; ann created acme.b
        ann opens acme.a kind=3 rights=push+pop as a -> ann opened a push+pop epoch=0
        ann opens acme.b kind=3 rights=push+pop as b -> ann opened b push+pop epoch=0
        ann opens acme.c kind=3 rights=push+pop as c -> ann opened c push+pop epoch=0
        ann pops c c9
        ann pushes a c1 queues=b,c batch=1,2:0:1,3:0:2 -> append 3 sync
        persisted 3
        persisted 3 3                          -> ann c1 pushed 1 at 1,1,1; ann c9 got 1 n=1 l1 "3"
        ann pushes a c1 queues=b batch=4,5:0:1 -> append 4 sync
        crash keep=3
        ann opens acme.a kind=3 rights=push+pop as a -> ann opened a push+pop epoch=0
        ann opens acme.b kind=3 rights=push+pop as b -> ann opened b push+pop epoch=0
        ann looks a c1 at=messages             -> ann c1 sees messages=1
        ann looks b c1 at=messages             -> ann c1 sees messages=1
        ann opens acme.c kind=3 rights=push    -> ann opening NoOwner
        "#,
    );
}

#[test]
fn a_caller_that_gives_up_or_leaves_is_not_answered_and_the_message_is_there() {
    check(
        r#"
        log ready
        ann creates acme.q level=disk          -> append 1 sync
        persisted 1 1                          -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        bob opens acme.q kind=3 rights=push as b -> bob opened b push epoch=0
        ann pushes q c1 "1"                    -> append 2 sync
        ann cancels c1                         -> ann c1 Cancelled
        ann pushes q c2 deadline=5ms "2"       -> append 3 sync
        bob pushes b c1 "3"                    -> append 4 sync
        bob leaves                             -> forget bob
        +5ms                                   -> ann c2 DeadlineExceeded
        persisted 4 4
        ann looks q c1 at=ready                -> ann c1 sees ready=3
        "#,
    );
}

#[test]
fn groups_duplicates_and_dead_letters_survive() {
    check(
        r#"
        log ready
        ann creates acme.q level=disk deliveries=1 -> append 1 sync
        persisted 1 1                          -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann pushes q c1 group=g producer=1:7 "1" -> append 2 sync
        ann pushes q c2 group=g producer=1:7 "1"
        ann pushes q c3 group=g "2"            -> append 3 sync
        ann pushes q c4 group=g "3"            -> append 4 sync
        persisted 4 4                          -> ann c1 pushed 1 disk@2; ann c2 pushed 1 disk@2 again; ann c3 pushed 2 disk@3; ann c4 pushed 3 disk@4
        ann pops q c1                          -> ann c1 got 1 n=1 l1 "1"; append 5
        ann nacks q c1 l1 how=dead             -> append 6 sync; append 7 sync
        ann looks q c2 at=messages,ready,grouped -> ann c2 sees messages=2 ready=1 grouped=1
        persisted 7 7                          -> ann c1 done disk@7
        crash
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann opens acme.q.dead kind=3 rights=push+pop as d -> ann opened d push+pop epoch=0
        ann pushes q c1 group=g producer=1:7 "1" -> ann c1 pushed 1 disk@2 again
        ann looks q c2 at=messages,ready,grouped -> ann c2 sees messages=2 ready=1 grouped=1
        ann peeks d c1 streamed
        ann credits c1 2                       -> ann c1 item 1: 1 n=0 from acme.q:1 after 1 "1"; ann c1 over
        ann redrives d c1                      -> append 8 sync
        ann looks q c2 at=messages,ready,grouped -> ann c2 sees messages=3 ready=1 grouped=2
        persisted 8 8                          -> ann c1 redriven 1 left 0 disk@8
        crash
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann looks q c2 at=messages,ready,grouped,position -> ann c2 sees messages=3 ready=1 grouped=2 position=4
        +86400s
        ann pushes q c1 producer=1:7 "1"       -> append 9 sync
        "#,
    );
}

#[test]
fn a_deleted_queue_stays_deleted_and_its_name_is_free() {
    check(
        r#"
        log ready
        ann creates acme.q level=os            -> append 1
        persisted 1                            -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann pushes q c1 batch=1,2              -> append 2
        persisted 2                            -> ann c1 pushed 1 os@2
        ann deletes acme.q                     -> append 3; ann revoked q
        ann creates acme.q level=disk messages=7 -> append 4 sync
        persisted 4 4                          -> ann done; ann created acme.q
        crash
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann looks q c1 at=messages,messages_max,durability -> ann c1 sees messages=0 messages_max=7 durability=disk
        ann deletes acme.q                     -> append 5 sync; ann revoked q; drop 1
        persisted 5 5                          -> ann done
        crash                                  -> drop 2
        ann opens acme.q kind=3 rights=push as q -> ann opening NoOwner
        ann asks names                         -> ann told names=0
        "#,
    );
}

#[test]
fn a_log_that_fails_makes_durable_queues_read_only_and_says_so() {
    check(
        r#"
        log ready
        ann creates acme.q level=os            -> append 1
        ann creates acme.m other               -> ann created acme.m
        persisted 1                            -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann opens acme.m kind=3 rights=push+pop as m -> ann opened m push+pop epoch=0
        ann pushes q c1 batch=1,2,3            -> append 2
        persisted 2                            -> ann c1 pushed 1 os@2
        ann pops q c1                          -> ann c1 got 1 n=1 l1 "1"; append 3
        ann acks q c1 l1                       -> append 4
        ann pushes q c2 "4"                    -> append 5
        show log
        log fails "no space left on segment 1"  -> log: log failed ~no space; ann c1 ReadOnly ~no space; ann c2 ReadOnly
        log fails "again"
        ann pushes q c1 "5"                    -> ann c1 ReadOnly ~no space left on segment 1
        ann pops q c1                          -> ann c1 got 2 n=1 l2 "2"
        ann acks q c1 l2                       -> ann c1 ReadOnly
        ann nacks q c1 l2                      -> ann c1 ReadOnly
        ann purges q c1                        -> ann c1 ReadOnly
        ann deletes acme.q                     -> ann deletion ReadOnly
        ann creates acme.x level=os            -> ann creation ReadOnly
        ann looks q c1 at=messages,ready,leased,read_only -> ann c1 sees messages=2 ready=1 leased=1 read_only=true
        ann asks failure                       -> ann told failure=no space left on segment 1
        ann pushes m c1 "6"                    -> ann c1 pushed 1
        persisted 5
        hide log
        crash keep=3
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann looks q c1 at=messages,read_only   -> ann c1 sees messages=3 read_only=false
        "#,
    );
}

#[test]
fn a_damaged_record_is_an_alarm_and_not_a_guess() {
    check(
        r#"
        log ready
        ann creates acme.q level=os            -> append 1
        persisted 1                            -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann pushes q c1 "1"                    -> append 2
        ann pushes q c2 "2"                    -> append 3
        persisted 3                            -> ann c1 pushed 1 os@2; ann c2 pushed 2 os@3
        show log
        crash torn=2                           -> log: log failed ~record 2 in segment 1
        hide log
        ann opens acme.q kind=3 rights=push+pop as q -> ann opening ReadOnly ~record 2 in segment 1
        ann creates acme.m                     -> ann created acme.m
        ann asks queued                        -> ann told queued=0
        "#,
    );
}

#[test]
fn a_configured_durable_queue_needs_a_log_and_gets_its_messages_back() {
    check(
        r#"
        queue acme.q level=disk messages=5
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann pushes q c1 "1"                    -> ann c1 ReadOnly ~no log
        log ready                              -> append 1 sync
        ann pushes q c1 "1"                    -> append 2 sync
        persisted 2 2                          -> ann c1 pushed 1 disk@2
        queue acme.q level=disk messages=9
        reloaded                               -> append 3 sync
        crash
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann looks q c1 at=messages,messages_max,ready -> ann c1 sees messages=1 messages_max=9 ready=1
        queue acme.q level=memory messages=4
        crash                                  -> append 4 sync
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann looks q c1 at=messages,messages_max,durability -> ann c1 sees messages=1 messages_max=4 durability=disk
        "#,
    );
}

#[test]
fn drops_of_a_lossy_queue_and_blocked_pushes_are_in_the_log() {
    check(
        r#"
        log ready
        ann creates acme.l level=os messages=2 overflow=drop_oldest lossy -> append 1
        ann creates acme.b creation2 level=os messages=1 overflow=block -> append 2
        persisted 2                            -> ann created acme.l; ann created acme.b
        ann opens acme.l kind=3 rights=push+pop as l -> ann opened l push+pop epoch=0
        ann opens acme.b kind=3 rights=push+pop as b -> ann opened b push+pop epoch=0
        ann pushes l c1 batch=1,2              -> append 3
        ann pushes l c2 "3"                    -> append 4
        persisted 4                            -> ann c1 pushed 1 os@3; ann c2 pushed 3 os@4
        ann pushes b c1 "1"                    -> append 5
        persisted 5                            -> ann c1 pushed 1 os@5
        ann pushes b c2 "2"
        ann pops b c1                          -> ann c1 got 1 n=1 l1 "1"; append 6
        ann acks b c1 l1                       -> append 7; append 8
        persisted 8                            -> ann c1 done os@7; ann c2 pushed 2 os@8
        crash
        ann opens acme.l kind=3 rights=push+pop as l -> ann opened l push+pop epoch=0
        ann opens acme.b kind=3 rights=push+pop as b -> ann opened b push+pop epoch=0
        ann pops l c1                          -> ann c1 got 2 n=1 l2 "2"; append 9
        ann pops b c1                          -> ann c1 got 2 n=1 l3 "2"; append 10
        "#,
    );
}

#[test]
fn segments_that_hold_nothing_are_let_go_and_a_sparse_log_is_copied_together() {
    check(
        r#"
        limit segment_bytes=1000
        log ready
        ann creates acme.q level=os            -> append 1
        persisted 1                            -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann pushes q c1 producer=9:1 "keep"    -> append 2
        persisted 2                            -> ann c1 pushed 1 os@2
        ann pops q c1 lease=detached for=100000s -> ann c1 got 1 n=1 l1 "keep"; append 3
        ann pushes q c1 bytes=950              -> append 4
        ann pushes q c2 bytes=950              -> roll 2; append 5
        ann pushes q c3 bytes=950              -> roll 3; append 6
        persisted 6                            -> ann c1 pushed 2 os@4; ann c2 pushed 3 os@5; ann c3 pushed 4 os@6
        ann pushes q c1 bytes=950              -> roll 4; append 7
        persisted 7                            -> ann c1 pushed 5 os@7
        ann pops q c1                          -> ann c1 got 2 n=1 l2 [950 bytes]; roll 5; append 8
        ann pops q c1                          -> ann c1 got 3 n=1 l3 [950 bytes]; append 9
        ann pops q c1                          -> ann c1 got 4 n=1 l4 [950 bytes]; append 10
        ann pops q c1                          -> ann c1 got 5 n=1 l5 [950 bytes]; append 11
        ann acks q c1 l2,l3,l4,l5              -> append 12; append 13; append 14; append 15; drop 1; drop 2; drop 3; drop 4
        persisted 15                           -> ann c1 done 0,0,0,0 os@12
        ann asks segments                      -> ann told segments=5..5
        crash
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann pushes q c1 producer=9:1 "keep"    -> ann c1 pushed 1 os@13 again
        ann pops q c1                          -> ann c1 got 1 n=2 l6 "keep"; append 16
        ann looks q c1 at=position,messages    -> ann c1 sees position=5 messages=1
        "#,
    );
}

#[test]
fn a_full_log_takes_no_pushes_but_acknowledgements() {
    check(
        r#"
        limit segment_bytes=3000 log_bytes_max=10000
        log ready
        ann creates acme.q level=os            -> append 1
        persisted 1                            -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann pushes q c1 bytes=5000              -> append 2
        ann pushes q c2 bytes=5000              -> roll 2; append 3
        ann pushes q c3 "x"                    -> ann c3 Busy ~limits.log_bytes_max
        persisted 3                            -> ann c1 pushed 1 os@2; ann c2 pushed 2 os@3
        ann pops q c1                          -> ann c1 got 1 n=1 l1 [5000 bytes]; roll 3; append 4
        ann acks q c1 l1                       -> append 5; append 6; drop 1
        persisted 6                            -> ann c1 done os@5
        ann pushes q c3 "x"                    -> append 7
        "#,
    );
}

#[test]
fn a_disk_that_is_behind_holds_pushes_back() {
    check(
        r#"
        limit payload_bytes_max=50000000
        log ready
        ann creates acme.q level=os maxbytes=500000000 -> append 1
        persisted 1                            -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann pushes q c1 bytes=40000000         -> append 2
        ann pushes q c2 bytes=40000000         -> append 3
        ann pushes q c3 "x"                    -> ann c3 Busy ~wait to be written
        persisted 2                            -> ann c1 pushed 1 os@2
        ann pushes q c3 "x"                    -> roll 2; append 4
        "#,
    );
}
