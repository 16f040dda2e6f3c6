//! Queues in memory: every message to one consumer, in order, at most as many as there is room for
//! (SPEC 10).

use crate::script::check;

#[test]
fn a_message_goes_to_one_consumer_and_is_gone_when_it_is_acknowledged() {
    check(
        r#"
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push as q  -> ann opened q push epoch=0
        bob opens acme.q kind=3 rights=pop as p   -> bob opened p pop epoch=0
        ann pushes q c1 "one"                  -> ann c1 pushed 1
        ann pushes q c2 "two"                  -> ann c2 pushed 2
        bob pops p c1                          -> bob c1 got 1 n=1 l1 "one"
        bob pops p c1                          -> bob c1 got 2 n=1 l2 "two"
        bob pops p c9
        bob looks p c5 at=messages,ready,leased,bytes,consumers -> bob c5 sees messages=2 ready=0 leased=2 bytes=6 consumers=1
        bob acks p c2 l1                       -> bob c2 done
        bob acks p c2 l1                       -> bob c2 LeaseLost
        bob acks p c2 l1,l2                    -> bob c2 done 1,0
        ann pushes q c1 "three"                -> ann c1 pushed 3; bob c9 got 3 n=1 l3 "three"
        bob acks p c2 l3                       -> bob c2 done
        bob looks p c5 at=messages,bytes,pushed,delivered,acked,position -> bob c5 sees messages=0 bytes=0 pushed=3 delivered=3 acked=3 position=3
        ann asks queued                        -> ann told queued=0
        "#,
    );
}

#[test]
fn what_a_queue_is_not_asked_for_is_refused() {
    check(
        r#"
        ann opens acme.q kind=3 rights=push    -> ann opening NoOwner ~there is no queue `acme.q`
        ann creates acme.q messages=5 lossy    -> ann created acme.q
        ann creates acme.q                     -> ann created acme.q already
        ann creates acme.q messages=5          -> ann created acme.q already
        ann creates acme.q messages=6          -> ann creation Invalid ~messages_max = 5 and not 6
        ann creates acme.q dead=acme.d         -> ann creation Invalid ~dead_letters
        ann creates acme.x dead=acme.x         -> ann creation Invalid ~SPEC 10.12
        ann creates acme..x                    -> ann creation Invalid
        ann creates acme.x level=disk          -> ann creation ReadOnly ~no log
        ann creates acme.x level=disk overflow=drop_oldest -> ann creation Invalid ~lossy
        ann opens acme.q kind=1                -> ann opening Invalid ~stands for a queue, not for a service
        ann opens acme.q kind=3 rights=push as q  -> ann opened q push epoch=0
        ann opens acme.q kind=3 rights=pop as p   -> ann opened p pop epoch=0
        ann pushes p c1 "x"                    -> ann c1 Denied ~"push"
        ann pops q c1                          -> ann c1 Denied ~"pop"
        ann redrives p c1                      -> ann c1 Denied ~"push"
        ann calls q c1 method=77               -> ann c1 Unsupported ~no method 77
        ann calls p c1 method=2                -> ann c1 Invalid ~7.11
        ann pushes q c1 prio=32 "x"            -> ann c1 Invalid ~SPEC 10.4
        ann pushes q c1 extension=0x8077 "x"   -> ann c1 Unsupported ~0x8077
        ann pushes q c1 extension=0x77 "x"     -> ann c1 pushed 1
        ann pushes q c1 handles=q:push "x"     -> ann c1 Invalid ~no handles
        ann pushes q c1 deadline=-1ms "x"      -> ann c1 DeadlineExceeded
        ann pushes q c1 batch=                 -> ann c1 Invalid ~no batch
        ann pushes q c1 batch=a:0:1            -> ann c1 Invalid ~queue 1 of 1
        ann pushes q c1 queues=q "x"           -> ann c1 Invalid ~a batch
        ann peeks p c1                         -> ann c1 Invalid ~STREAM
        ann pops p c1 lease=3                  -> ann c1 Invalid ~10.9
        ann nacks p c1 #5 how=9                -> ann c1 Invalid ~10.10
        ann nacks p c1 #5                      -> ann c1 LeaseLost
        ann extends p c1 #5 by=1s              -> ann c1 LeaseLost
        ann calls p c1 method=3 "short"        -> ann c1 Invalid ~16 bytes
        ann sends q "x"                        -> ann unsent q Unsupported messages=1 tag=0
        "#,
    );
}

#[test]
fn messages_leave_by_priority_and_then_in_order_and_come_back_to_their_place() {
    check(
        r#"
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q -> ann opened q push+pop epoch=0
        ann pushes q c1 "a"                    -> ann c1 pushed 1
        ann pushes q c1 prio=31 "b"            -> ann c1 pushed 2
        ann pushes q c1 prio=7 "c"             -> ann c1 pushed 3
        ann pushes q c1 batch=d:7,e:31,f       -> ann c1 pushed 4
        ann pops q c1                          -> ann c1 got 2 n=1 p=31 l1 "b"
        ann pops q c1                          -> ann c1 got 5 n=1 p=31 l2 "e"
        ann pops q c1                          -> ann c1 got 3 n=1 p=7 l3 "c"
        ann nacks q c1 l3                      -> ann c1 done
        ann nacks q c1 l2 how=fail             -> ann c1 done
        ann nacks q c1 l2                      -> ann c1 LeaseLost
        ann pops q c1                          -> ann c1 got 5 n=2 p=31 l4 "e"
        ann pops q c1                          -> ann c1 got 3 n=1 p=7 l5 "c"
        ann pops q c1                          -> ann c1 got 4 n=1 p=7 l6 "d"
        ann pops q c1                          -> ann c1 got 1 n=1 l7 "a"
        ann nacks q c1 l7                      -> ann c1 done
        ann pops q c1                          -> ann c1 got 1 n=1 l8 "a"
        ann pops q c1                          -> ann c1 got 6 n=1 l9 "f"
        "#,
    );
}

#[test]
fn consumers_take_turns_as_their_credit_lets_them() {
    check(
        r#"
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push as q  -> ann opened q push epoch=0
        bob opens acme.q kind=3 rights=pop as b   -> bob opened b pop epoch=0
        cid opens acme.q kind=3 rights=pop as c   -> cid opened c pop epoch=0
        bob pops b c1 streamed
        cid pops c c1 streamed
        ann pushes q c1 batch=1,2,3,4,5        -> ann c1 pushed 1
        bob credits c1 1                       -> bob c1 item 1: 1 n=1 l1 "1"
        cid credits c1 2                       -> cid c1 item 1: 2 n=1 l2 "2"; cid c1 item 2: 3 n=1 l3 "3"
        cid acks c c2 l2,l3                    -> cid c2 done 0,0
        ann looks q c5 at=ready,consumers      -> ann c5 sees ready=2 consumers=2
        bob acks b c2 l1                       -> bob c2 done
        cid pops c c2                          -> cid c2 got 4 n=1 l4 "4"
        cid pops c c3                          -> cid c3 got 5 n=1 l5 "5"
        bob credits c1 5
        cid credits c1 5
        ann pushes q c1 batch=6,7,8            -> ann c1 pushed 6; bob c1 item 2: 6 n=1 l6 "6"
            ; cid c1 item 3: 7 n=1 l7 "7"; bob c1 item 3: 8 n=1 l8 "8"
        bob cancels c1                         -> bob c1 Cancelled
        bob acks b c2 l6                       -> bob c2 done
        ann looks q c5 at=leased               -> ann c5 sees leased=4
        "#,
    );
}

#[test]
fn a_consumer_that_does_not_read_gets_no_more_and_others_go_on() {
    check(
        r#"
        limit link_bytes_high=250 link_bytes_low=100
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push as q  -> ann opened q push epoch=0
        bob opens acme.q kind=3 rights=pop as b   -> bob opened b pop epoch=0
        cid opens acme.q kind=3 rights=pop as c   -> cid opened c pop epoch=0
        bob pops b c1 streamed
        bob credits c1 100
        bob stops reading
        ann pushes q c1 bytes=65               -> ann c1 pushed 1; bob c1 item 1: 1 n=1 l1 [65 bytes]
        ann pushes q c1 bytes=65               -> ann c1 pushed 2; bob c1 item 2: 2 n=1 l2 [65 bytes]; pause bob
        ann pushes q c1 bytes=65               -> ann c1 pushed 3
        cid pops c c1                          -> cid c1 got 3 n=1 l3 [65 bytes]
        ann pushes q c1 bytes=65               -> ann c1 pushed 4
        bob reads                              -> resume bob; bob c1 item 3: 4 n=1 l4 [65 bytes]
        "#,
    );
}

#[test]
fn whoever_takes_from_queues_goes_on_when_it_has_read_and_nothing_else_happens() {
    check(
        r#"
        limit link_bytes_high=400 link_bytes_low=100
        ann creates acme.q                     -> ann created acme.q
        ann creates acme.r other               -> ann created acme.r
        ann opens acme.q kind=3 rights=push as q  -> ann opened q push epoch=0
        ann opens acme.r kind=3 rights=push as r  -> ann opened r push epoch=0
        bob opens acme.q kind=3 rights=pop as b   -> bob opened b pop epoch=0
        bob opens acme.r kind=3 rights=pop as c   -> bob opened c pop epoch=0
        ann pushes r c1 batch=1,2              -> ann c1 pushed 1
        bob pops b stream streamed
        bob credits stream 2
        bob pops b one
        bob stops reading
        ann pushes q c1 bytes=180              -> ann c1 pushed 1; bob stream item 1: 1 n=1 l1 [180 bytes]
        ann pushes q c1 bytes=180              -> ann c1 pushed 2; bob one got 2 n=1 l2 [180 bytes]; pause bob
        bob peeks c peek streamed
        bob credits peek 9
        bob pops c two
        ann pushes q c1 "3"                    -> ann c1 pushed 3
        bob reads 256
        bob reads 100                          -> resume bob; bob two got 1 n=1 l3 "1"; bob stream item 2: 3 n=1 l4 "3"
        ;  bob peek item 1: 1 n=1 "1"; bob peek item 2: 2 n=0 "2"; pause bob; bob peek over
        "#,
    );
}

#[test]
fn a_pop_waits_until_its_deadline_or_not_at_all() {
    check(
        r#"
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        ann pops q c1 nowait                   -> ann c1 Busy ~nothing to give
        ann pops q c1 deadline=5ms
        +5ms                                   -> ann c1 DeadlineExceeded
        ann pushes q c2 "x"                    -> ann c2 pushed 1
        ann pops q c1 nowait                   -> ann c1 got 1 n=1 l1 "x"
        "#,
    );
}

#[test]
fn a_full_queue_rejects() {
    check(
        r#"
        ann creates acme.q messages=2 maxbytes=10 -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        ann pushes q c1 "12345"                -> ann c1 pushed 1
        ann pushes q c1 "123456"               -> ann c1 Busy ~bytes_max
        ann pushes q c1 "12345678901"          -> ann c1 TooLarge ~bytes_max
        ann pushes q c1 "12345"                -> ann c1 pushed 2
        ann pushes q c1                        -> ann c1 Busy ~messages_max
        ann pushes q c1 batch=a,b,c            -> ann c1 TooLarge ~messages_max
        ann pops q c1                          -> ann c1 got 1 n=1 l1 "12345"
        ann pushes q c1                        -> ann c1 Busy
        ann acks q c1 l1                       -> ann c1 done
        ann pushes q c1 batch=a,b              -> ann c1 Busy
        ann pushes q c1 "a"                    -> ann c1 pushed 3
        "#,
    );
}

#[test]
fn a_queue_that_drops_its_oldest_keeps_what_is_leased() {
    check(
        r#"
        ann creates acme.q messages=3 overflow=drop_oldest -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        ann pushes q c1 prio=5 "a"             -> ann c1 pushed 1
        ann pushes q c1 "b"                    -> ann c1 pushed 2
        ann pushes q c1 "c"                    -> ann c1 pushed 3
        ann pushes q c1 "d"                    -> ann c1 pushed 4
        ann pops q c1                          -> ann c1 got 1 n=1 p=5 l1 "a"
        ann pops q c1                          -> ann c1 got 3 n=1 l2 "c"
        ann pushes q c1 "e"                    -> ann c1 pushed 5
        ann pops q c1                          -> ann c1 got 5 n=1 l3 "e"
        ann pushes q c1 "f"                    -> ann c1 Busy
        ann nacks q c1 l2 delay=1s             -> ann c1 done
        ann pushes q c1 "f"                    -> ann c1 pushed 6
        ann looks q c1 at=messages,dropped,delayed -> ann c1 sees messages=3 dropped=3 delayed=0
        "#,
    );
}

#[test]
fn pushes_to_a_queue_that_blocks_wait_their_turn() {
    check(
        r#"
        ann creates acme.q messages=1 overflow=block -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        bob opens acme.q kind=3 rights=push as b  -> bob opened b push epoch=0
        ann pushes q c1 "1"                    -> ann c1 pushed 1
        ann pushes q c2 "2"
        bob pushes b c1 deadline=5ms "3"
        bob pushes b c2 nowait "4"             -> bob c2 Busy ~messages_max
        cid opens acme.q kind=3 rights=push as d  -> cid opened d push epoch=0
        cid pushes d c1 "5"
        ann pushes q c4 "6"
        ann looks q c5 at=messages,blocked     -> ann c5 sees messages=1 blocked=4
        ann asks waiting_bytes                 -> ann told waiting_bytes=320
        +5ms                                   -> bob c1 DeadlineExceeded
        cid leaves                             -> forget cid
        ann pops q c3                          -> ann c3 got 1 n=1 l1 "1"
        ann acks q c3 l1                       -> ann c3 done; ann c2 pushed 2
        ann pops q c3                          -> ann c3 got 2 n=1 l2 "2"
        ann pops q c5
        ann acks q c3 l2                       -> ann c3 done; ann c4 pushed 3; ann c5 got 3 n=1 l3 "6"
        ann asks waiting_bytes                 -> ann told waiting_bytes=0
        "#,
    );
}

#[test]
fn a_blocked_push_that_is_cancelled_lets_the_next_one_through() {
    check(
        r#"
        ann creates acme.q maxbytes=10 overflow=block -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        ann pushes q c1 "12345"                -> ann c1 pushed 1
        ann pushes q c2 "1234567890"
        ann pushes q c3 "12"
        ann cancels c2                         -> ann c2 Cancelled; ann c3 pushed 2
        "#,
    );
}

#[test]
fn quotas_of_queued_messages_are_named_and_given_back() {
    check(
        r#"
        allow anyone serve,push,pop **
        limit user.queued_bytes=10 queued_max=6 queued_bytes_max=100
        ann joins uid=1
        bob joins uid=2
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        bob opens acme.q kind=3 rights=push+pop as b  -> bob opened b push+pop epoch=0
        ann pushes q c1 "123456"               -> ann c1 pushed 1
        ann pushes q c1 "123456"               -> ann c1 Busy ~limits.user.queued_bytes
        ann pushes q c1 batch=a,b,c            -> ann c1 Busy ~limits.queued_max
        bob pushes b c1 "123456"               -> bob c1 pushed 2
        ann asks used:queued_max               -> ann told used:queued_max=2
        ann asks used:queued_bytes_max         -> ann told used:queued_bytes_max=12
        bob pops b c1                          -> bob c1 got 1 n=1 l1 "123456"
        bob acks b c1 l1                       -> bob c1 done
        ann pushes q c1 "123456"               -> ann c1 pushed 3
        ann leaves ended                       -> forget ann
        bob deletes acme.q                     -> bob done; bob revoked b
        bob asks queued_bytes                  -> bob told queued_bytes=0
        "#,
    );
}

#[test]
fn an_attached_lease_lasts_as_long_as_its_process() {
    check(
        r#"
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        bob opens acme.q kind=3 rights=pop as b   -> bob opened b pop epoch=0
        cid opens acme.q kind=3 rights=pop as c   -> cid opened c pop epoch=0
        ann pushes q c1 batch=1,2              -> ann c1 pushed 1
        bob pops b c1                          -> bob c1 got 1 n=1 l1 "1"
        cid pops c c1 for=100s                 -> cid c1 got 2 n=1 l2 "2"
        +60s
        ann pops q c1
        bob leaves status=9                    -> forget bob; ann c1 got 1 n=2 l3 "1"
        ann pops q c2
        cid leaves                             -> forget cid
        +4s
        ann extends q c3 l2 by=3s              -> ann c3 done
        +2s
        +1s                                    -> ann c2 got 2 n=2 l4 "2"
        ann acks q c3 l2                       -> ann c3 LeaseLost
        ann acks q c3 l3,l4                    -> ann c3 done 0,0
        "#,
    );
}

#[test]
fn another_connection_of_the_user_may_acknowledge_and_nobody_else() {
    check(
        r#"
        allow anyone serve,push,pop **
        ann joins uid=1
        bob joins uid=1
        eve joins uid=2
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        bob opens acme.q kind=3 rights=pop as b   -> bob opened b pop epoch=0
        eve opens acme.q kind=3 rights=pop as e   -> eve opened e pop epoch=0
        ann pushes q c1 "1"                    -> ann c1 pushed 1
        ann pops q c1                          -> ann c1 got 1 n=1 l1 "1"
        eve acks e c1 l1                       -> eve c1 LeaseLost
        bob creates acme.other                 -> bob created acme.other
        bob opens acme.other kind=3 rights=pop as o   -> bob opened o pop epoch=0
        bob acks o c1 l1                       -> bob c1 LeaseLost
        ann leaves                             -> forget ann
        bob acks b c1 l1                       -> bob c1 done
        "#,
    );
}

#[test]
fn a_detached_lease_lasts_its_time_whoever_lives() {
    check(
        r#"
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        bob opens acme.q kind=3 rights=pop as b   -> bob opened b pop epoch=0
        ann pushes q c1 batch=1,2              -> ann c1 pushed 1
        bob pops b c1 lease=detached for=1s    -> bob c1 got 1 n=1 l1 "1"
        bob pops b c1 lease=detached           -> bob c1 got 2 n=1 l2 "2"
        bob leaves status=0                    -> forget bob
        ann looks q c1 at=leased               -> ann c1 sees leased=2
        +1s
        ann looks q c1 at=leased               -> ann c1 sees leased=1
        ann extends q c1 l2 by=60s             -> ann c1 done
        +58s
        ann acks q c1 l1,l2                    -> ann c1 done 1,0
        ann pops q c1 lease=none               -> ann c1 got 1 n=2 "1"
        ann looks q c1 at=messages             -> ann c1 sees messages=0
        "#,
    );
}

#[test]
fn an_expired_message_is_never_delivered_and_a_delayed_one_not_before_its_time() {
    check(
        r#"
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        ann pushes q c1 ttl=1s "a"             -> ann c1 pushed 1
        ann pushes q c1 delay=1s "b"           -> ann c1 pushed 2
        ann pushes q c1 "c"                    -> ann c1 pushed 3
        ann looks q c1 at=ready,delayed        -> ann c1 sees ready=2 delayed=1
        +1s ann pops q c1                      -> ann c1 got 3 n=1 l1 "c"
        wake
        ann looks q c1 at=ready,delayed,expired -> ann c1 sees ready=1 delayed=0 expired=1
        ann nacks q c1 l1                      -> ann c1 done
        ann pops q c1                          -> ann c1 got 2 n=1 l2 "b"
        ann pops q c1                          -> ann c1 got 3 n=1 l3 "c"
        ann pushes q c1 ttl=1s "d"             -> ann c1 pushed 4
        ann pops q c1                          -> ann c1 got 4 n=1 l4 "d"
        +2s
        ann nacks q c1 l4                      -> ann c1 done
        ann pops q c1 nowait                   -> ann c1 Busy
        ann looks q c1 at=messages,expired     -> ann c1 sees messages=2 expired=2
        "#,
    );
}

#[test]
fn the_wall_clock_may_jump_both_ways() {
    check(
        r#"
        ann creates acme.q                     -> ann created acme.q
        clock 1000000s
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        ann pushes q c1 ttl=100s "a"           -> ann c1 pushed 1
        ann pushes q c1 delay=100s "b"         -> ann c1 pushed 2
        clock 900000s
        +200s
        ann looks q c1 at=ready,delayed        -> ann c1 sees ready=1 delayed=1
        ann pops q c1                          -> ann c1 got 1 n=1 l1 "a"
        ann pops q c2
        clock 1000101s                         -> ann c2 got 2 n=1 l2 "b"
        ann nacks q c1 l1                      -> ann c1 done
        wake
        ann looks q c1 at=messages,expired     -> ann c1 sees messages=1 expired=1
        "#,
    );
}

#[test]
fn messages_of_a_group_are_delivered_one_at_a_time() {
    check(
        r#"
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        ann pushes q c1 group=g "1"            -> ann c1 pushed 1
        ann pushes q c1 group=g batch=2:9,3    -> ann c1 pushed 2
        ann pushes q c1 group=h "4"            -> ann c1 pushed 4
        ann looks q c1 at=ready,grouped        -> ann c1 sees ready=2 grouped=2
        ann pops q c1                          -> ann c1 got 1 n=1 l1 "1"
        ann pops q c1                          -> ann c1 got 4 n=1 l2 "4"
        ann pops q c2
        ann nacks q c1 l1 delay=1s             -> ann c1 done
        +1s                                    -> ann c2 got 1 n=1 l3 "1"
        ann pops q c2
        ann acks q c1 l3                       -> ann c1 done; ann c2 got 2 n=1 p=9 l4 "2"
        ann acks q c1 l4                       -> ann c1 done
        ann purges q c1                        -> ann c1 purged 1
        ann pushes q c1 group=g "5"            -> ann c1 pushed 5
        ann pops q c1                          -> ann c1 got 5 n=1 l5 "5"
        "#,
    );
}

#[test]
fn a_numbered_message_is_taken_once() {
    check(
        r#"
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        bob joins uid=1000
        bob opens acme.q kind=3 rights=push as b  -> bob opened b push epoch=0
        ann pushes q c1 producer=1:5 "a"       -> ann c1 pushed 1
        ann pushes q c1 producer=1:5 "a"       -> ann c1 pushed 1 again
        bob pushes b c1 producer=1:4 "z"       -> bob c1 pushed 0 again
        bob pushes b c1 producer=2:4 "z"       -> bob c1 pushed 2
        ann pushes q c1 producer=1:6 batch=b,c -> ann c1 pushed 3
        ann pushes q c1 producer=1:6 batch=b,c -> ann c1 pushed 3 again
        ann pushes q c1 producer=1:7 batch=b,c -> ann c1 pushed 0 again
        ann pushes q c1 producer=1:8 "d"       -> ann c1 pushed 5
        ann pushes q c1 producer=1:18446744073709551615 "d"  -> ann c1 Invalid
        ann looks q c1 at=messages,duplicates  -> ann c1 sees messages=5 duplicates=4
        +86399s
        ann pushes q c1 producer=1:8 "d"       -> ann c1 pushed 5 again
        +1s
        ann pushes q c1 producer=1:8 "d"       -> ann c1 pushed 6
        "#,
    );
}

#[test]
fn a_message_that_nobody_can_deal_with_goes_to_the_dead_letters_and_comes_back() {
    check(
        r#"
        ann creates acme.q deliveries=2        -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        ann pushes q c1 prio=3 group=g ttl=100s "a" -> ann c1 pushed 1
        ann pushes q c1 group=g "b"            -> ann c1 pushed 2
        ann pops q c1                          -> ann c1 got 1 n=1 p=3 l1 "a"
        ann nacks q c1 l1                      -> ann c1 done
        ann pops q c1                          -> ann c1 got 1 n=1 p=3 l2 "a"
        ann nacks q c1 l2 how=fail             -> ann c1 done
        ann pops q c1                          -> ann c1 got 1 n=2 p=3 l3 "a"
        ann nacks q c1 l3 how=fail             -> ann c1 done
        ann pops q c1                          -> ann c1 got 2 n=1 l4 "b"
        ann nacks q c1 l4 how=dead             -> ann c1 done
        ann looks q c1 at=messages,dead,dead_letters -> ann c1 sees messages=0 dead=2 dead_letters=acme.q.dead
        ann opens acme.q.dead kind=3 rights=push+pop as d -> ann opened d push+pop epoch=0
        ann looks d c1 at=messages,deliveries_max -> ann c1 sees messages=2 deliveries_max=2
        ann peeks d c1 streamed
        ann credits c1 9                       -> ann c1 item 1: 1 n=0 p=3 from acme.q:1 after 2 "a"
            ; ann c1 item 2: 2 n=0 from acme.q:2 after 1 "b"; ann c1 over
        ann pops d c1                          -> ann c1 got 1 n=1 p=3 l5 from acme.q:1 after 2 "a"
        ann nacks d c1 l5 how=dead             -> ann c1 done
        +200s
        ann redrives q c1 count=1              -> ann c1 redriven 1 left 0
        ann redrives d c1                      -> ann c1 redriven 1 left 0
        ann looks q c1 at=messages,ready,grouped,position -> ann c1 sees messages=2 ready=1 grouped=1 position=4
        ann pops q c1                          -> ann c1 got 3 n=1 p=3 l6 "a"
        ann acks q c1 l6                       -> ann c1 done
        ann pops q c1                          -> ann c1 got 4 n=1 l7 "b"
        "#,
    );
}

#[test]
fn a_dying_message_without_room_among_the_dead_stays_out_of_reach_and_is_tried_again() {
    check(
        r#"
        ann creates acme.d messages=1          -> ann created acme.d
        ann creates acme.q deliveries=1 dead=acme.d -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        ann opens acme.d kind=3 rights=push+pop as d  -> ann opened d push+pop epoch=0
        ann pushes d c1 "full"                 -> ann c1 pushed 1
        ann pushes q c1 "a"                    -> ann c1 pushed 1
        ann pops q c1                          -> ann c1 got 1 n=1 l1 "a"
        ann nacks q c1 l1 how=fail             -> ann c1 done
        ann pops q c2
        ann looks q c1 at=messages,delayed,dead -> ann c1 sees messages=1 delayed=1 dead=0
        ann redrives q c1                      -> ann c1 redriven 0 left 0
        ann purges d c1                        -> ann c1 purged 1
        +1s
        ann looks q c1 at=messages,dead        -> ann c1 sees messages=0 dead=1
        ann pushes q c1 "b"                    -> ann c1 pushed 2; ann c2 got 2 n=1 l2 "b"
        "#,
    );
}

#[test]
fn a_push_to_several_queues_happens_in_all_or_in_none() {
    check(
        r#"
        ann creates acme.a                     -> ann created acme.a
        ann creates acme.b messages=2          -> ann created acme.b
        ann creates acme.c overflow=block messages=1 -> ann created acme.c
        ann opens acme.a kind=3 rights=push+pop as a -> ann opened a push+pop epoch=0
        ann opens acme.b kind=3 rights=push+pop as b -> ann opened b push+pop epoch=0
        ann opens acme.c kind=3 rights=push+pop as c -> ann opened c push+pop epoch=0
        ann opens acme.c kind=3 rights=pop as o   -> ann opened o pop epoch=0
        ann pushes a c1 "0"                    -> ann c1 pushed 1
        ann pushes a c1 queues=b,c batch=1:0:1,2,3:5:2,4:0:1 -> ann c1 pushed 1 at 1,2,1,2
        ann pushes a c1 queues=b batch=5,6:0:1 -> ann c1 Busy ~`acme.b` is full
        ann pushes a c1 queues=c batch=5,6:0:1 -> ann c1 Busy ~`acme.c` is full
        ann pushes a c1 queues=o batch=5,6:0:1 -> ann c1 Denied
        ann pushes a c1 queues=b,b batch=5,6:0:1 -> ann c1 Invalid ~twice
        ann looks a c1 at=messages             -> ann c1 sees messages=2
        ann pops c c1                          -> ann c1 got 1 n=1 p=5 l1 "3"
        "#,
    );
}

#[test]
fn a_peek_sees_everything_in_order_and_a_purge_leaves_what_is_leased() {
    check(
        r#"
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        ann pushes q c1 batch=1,2:9,3,4,5      -> ann c1 pushed 1
        ann pops q c1                          -> ann c1 got 2 n=1 p=9 l1 "2"
        ann peeks q c1 streamed count=2
        ann credits c1 9                       -> ann c1 item 1: 1 n=0 "1"; ann c1 item 2: 2 n=1 p=9 "2"; ann c1 over
        ann peeks q c1 streamed after=2
        ann credits c1 1                       -> ann c1 item 1: 3 n=0 "3"
        ann pops q c2 lease=none               -> ann c2 got 1 n=1 "1"
        ann pops q c2 lease=none               -> ann c2 got 3 n=1 "3"
        ann pops q c2 lease=none               -> ann c2 got 4 n=1 "4"
        ann pushes q c2 "6"                    -> ann c2 pushed 6
        ann credits c1 9                       -> ann c1 item 2: 5 n=0 "5"; ann c1 over
        ann purges q c1                        -> ann c1 purged 2
        ann acks q c1 l1                       -> ann c1 done
        ann looks q c1 at=messages             -> ann c1 sees messages=0
        "#,
    );
}

#[test]
fn a_long_purge_and_a_deletion_are_done_in_slices() {
    let many = (0..300).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    check(&format!(
        r#"
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        ann pushes q c1 batch={many}           -> ann c1 pushed 1
        ann purges q c1                        -> ann c1 purged 300
        ann pushes q c1 group=g batch={many}   -> ann c1 pushed 301
        ann deletes acme.q                     -> ann done; ann revoked q
        ann asks queued                        -> ann told queued=0
        ann asks names                         -> ann told names=0
        "#
    ));
}

#[test]
fn whoever_waits_at_a_queue_that_is_deleted_is_told_and_its_handles_are_void() {
    check(
        r#"
        ann watches acme.* w
        ann credits w 10                       -> ann w 1 end
        bob awaits acme.q w
        ann creates acme.q messages=1 overflow=block -> bob w found epoch=0; ann w 2 owned acme.q epoch=0 owner=nobody owners=0 standby=0; ann created acme.q
        bob opens acme.q kind=3 rights=push as b  -> bob opened b push epoch=0
        cid opens acme.q kind=3 rights=pop as c   -> cid opened c pop epoch=0
        dan opens acme.q kind=3 rights=pop as d   -> dan opened d pop epoch=0
        bob pushes b c1 "1"                    -> bob c1 pushed 1
        bob pushes b c2 "2"
        cid pops c c1                          -> cid c1 got 1 n=1 l1 "1"
        cid pops c c1
        dan pops d c1 streamed
        ann lists ** -> ann listed acme.q next=
        ann describes acme.q                   -> ann described acme.q epoch=0 owner=nobody owners=0 standby=0 servers= waiting=1 handles=3
        ann deletes acme.q                     -> cid c1 NoOwner ~deleted; dan c1 NoOwner; bob c2 NoOwner
            ; ann w 3 orphaned acme.q epoch=0 owner=nobody owners=0 standby=0; ann done
            ; bob revoked b; cid revoked c; dan revoked d
        bob pushes b c1 "x"                    -> bob c1 HandleRevoked
        ann deletes acme.q                     -> ann deletion NoOwner
        ann lists **                           -> ann listed  next=
        ann creates acme.q                     -> ann w 4 owned acme.q epoch=0 owner=nobody owners=0 standby=0; ann created acme.q
        ann asks queued                        -> ann told queued=0
        "#,
    );
}

#[test]
fn configured_queues_are_there_and_follow_a_reload() {
    check(
        r#"
        queue acme.q messages=1
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        show log
        ann deletes acme.q                     -> log: refused ann Invalid; ann deletion Invalid ~is configured
        ann pushes q c1 "1"                    -> ann c1 pushed 1
        ann pushes q c1 "2"                    -> ann c1 Busy
        queue acme.q messages=2
        queue acme.r
        ann opens acme.x as s                  -> ann opened s call epoch=0
        queue acme.x
        reloaded                               -> log: queue acme.x refused ~stands for a service; log: reloaded
        ann pushes q c1 "2"                    -> ann c1 pushed 2
        ann opens acme.r kind=3 rights=push as r  -> ann opened r push epoch=0
        queue acme.r level=disk
        reloaded                               -> log: queue acme.x refused; log: queue acme.r refused ~stays so; log: reloaded
        "#,
    );
}

#[test]
fn monitors_see_what_is_pushed_and_what_is_delivered() {
    check(
        r#"
        ann creates acme.q                     -> ann created acme.q
        ann opens acme.q kind=3 rights=push+pop as q  -> ann opened q push+pop epoch=0
        spy monitors acme.* m
        spy credits m 10
        ann pushes q c1 "hi"                   -> spy m 1 sees Call acme.q ann>nobody lost=0 "hi"; ann c1 pushed 1
        ann pops q c1                          -> spy m 2 sees Reply acme.q nobody>ann lost=0 "hi"; ann c1 got 1 n=1 l1 "hi"
        "#,
    );
}
