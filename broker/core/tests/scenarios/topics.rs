//! Topics: every message to everybody who subscribes, in order, each once or told to be lost (SPEC 9).

use crate::script::check;

#[test]
fn everybody_subscribed_gets_a_message_in_order_and_with_its_number() {
    check(
        r#"
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        ann opens acme.t kind=2 rights=subscribe as a -> ann opened a subscribe epoch=0
        eve opens acme.t kind=2 rights=subscribe as e -> eve opened e subscribe epoch=0
        bob publishes p c1 "nobody"                   -> bob c1 published 1 to=0
        ann subscribes a s1
        ann credits s1 10                             -> ann s1 subscribed 1
        bob sends p method=7 priority=3 "two"         -> ann s1 2 from bob method=7 priority=3 "two"
        eve subscribes e s2
        eve credits s2 10                             -> eve s2 subscribed 2
        bob publishes p c2 "three"                    -> ann s1 3 from bob "three"; eve s2 3 from bob "three"
            ; bob c2 published 3 to=2
        ann cancels s1                                -> ann s1 Cancelled
        bob publishes p c3 "four"                     -> eve s2 4 from bob "four"; bob c3 published 4 to=1
        bob stats p                                   -> bob told subscriptions=1 sequence=4 held=0 kept=0:0 retain=false
        ann asks published                            -> ann told published=4
        ann asks topic_deliveries                     -> ann told topic_deliveries=4
        "#,
    );
}

#[test]
fn a_subscription_is_in_force_from_when_it_was_asked_for_whenever_credit_comes() {
    check(
        r#"
        ann opens acme.t kind=2 rights=publish+subscribe as t -> ann opened t publish+subscribe epoch=0
        ann publishes t c1                            -> ann c1 published 1 to=0
        ann subscribes t s
        ann publishes t c2 "x"                        -> ann c2 published 2 to=1
        ann credits s 1                               -> ann s subscribed 1
        ann publishes t c3 "y"                        -> ann c3 published 3 to=1
        ann credits s 5                               -> ann s 2 from ann "x"; ann s 3 from ann "y"
        "#,
    );
}

#[test]
fn a_pattern_covers_topics_that_are_there_and_that_come_and_tells_their_names() {
    check(
        r#"
        ann subscribes acme.*.level s
        ann credits s 100                             -> ann s subscribed 0
        eve subscribes acme.** w
        eve credits w 100                             -> eve w subscribed 0
        bob opens acme.left.level kind=2 rights=publish as l -> bob opened l publish epoch=0
        bob opens acme.right.level kind=2 rights=publish as r -> bob opened r publish epoch=0
        bob opens acme.right kind=2 rights=publish as q -> bob opened q publish epoch=0
        bob sends l "1"                               -> ann s 1 from bob of=acme.left.level "1"; eve w 1 from bob of=acme.left.level "1"
        bob sends r named=set topic=acme.lie "2"      -> ann s 2 from bob sequence=1 of=acme.right.level named=set "2"
            ; eve w 2 from bob sequence=1 of=acme.right.level named=set "2"
        bob sends q "3"                               -> eve w 3 from bob sequence=1 of=acme.right "3"
        bob sends l "4"                               -> ann s 3 from bob sequence=2 of=acme.left.level "4"
            ; eve w 4 from bob sequence=2 of=acme.left.level "4"
        ann cancels s                                 -> ann s Cancelled
        bob sends l "5"                               -> eve w 5 from bob sequence=3 of=acme.left.level "5"
        "#,
    );
}

#[test]
fn a_pattern_gives_nobody_what_policy_does_not() {
    check(
        r#"
        allow 1 publish **
        allow 2 subscribe acme.open.*
        bob joins uid=1
        ann joins uid=2
        ann subscribes ** s
        ann credits s 9                               -> ann s subscribed 0
        bob opens acme.open.x kind=2 rights=publish as o -> bob opened o publish epoch=0
        bob opens acme.shut.x kind=2 rights=publish as h -> bob opened h publish epoch=0
        bob publishes h c1 "secret"                   -> bob c1 published 1 to=0
        bob publishes o c2 "told"                     -> ann s 1 from bob of=acme.open.x "told"; bob c2 published 1 to=1
        allow 2 subscribe acme.shut.*
        reloaded
        bob publishes h c3 "open"                     -> ann s 2 from bob of=acme.shut.x "open"; bob c3 published 2 to=1
        forbid
        allow 1 publish **
        reloaded
        bob publishes o c4                            -> bob c4 published 2 to=0
        "#,
    );
}

#[test]
fn a_reload_that_takes_the_right_ends_the_subscription_and_the_publishing() {
    check(
        r#"
        allow 1 publish **
        allow 2 subscribe acme.t
        bob joins uid=1
        ann joins uid=2
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        ann subscribes t s
        ann credits s 9                               -> ann s subscribed 0
        forbid
        allow 1 publish **
        reloaded                                      -> ann s Denied ~reload; ann revoked t
        bob publishes p c1                            -> bob c1 published 1 to=0
        forbid
        allow 2 subscribe acme.t
        reloaded                                      -> bob revoked p
        bob publishes p c2                            -> bob c2 HandleRevoked
        ann asks subscriptions                        -> ann told subscriptions=0
        "#,
    );
}

#[test]
fn a_subscription_goes_with_its_handle() {
    check(
        r#"
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        ann narrows t rights=subscribe as u           -> ann opened u subscribe epoch=0
        ann subscribes t s
        ann subscribes u v
        ann credits s 9                               -> ann s subscribed 0
        ann closes t                                  -> ann s HandleRevoked ~given back; ann done
        bob publishes p c1                            -> bob c1 published 1 to=1
        ann credits v 9                               -> ann v subscribed 0; ann v 1 from bob
        ann subscribes t w                            -> ann w HandleRevoked
        "#,
    );
}

#[test]
fn the_right_and_the_kind_of_a_handle_are_checked() {
    check(
        r#"
        ann opens acme.t kind=2 rights=subscribe as s -> ann opened s subscribe epoch=0
        ann opens acme.t kind=2 rights=publish as p   -> ann opened p publish epoch=0
        ann opens acme.t as x                         -> ann opening Invalid ~stands for a topic
        ann opens acme.s as x                         -> ann opened x call epoch=0
        ann publishes s c1                            -> ann c1 Denied ~`publish`
        ann sends s tag=4                             -> ann unsent s Denied messages=1 tag=4
        ann subscribes p c2                           -> ann c2 Denied ~`subscribe`
        ann subscribes x c3                           -> ann c3 Invalid ~on a service
        ann subscribes #99 c4                         -> ann c4 Invalid ~no such handle
        ann wills s "x"                               -> ann willing Denied ~`publish`
        ann wills x "x"                               -> ann willing Invalid ~on a service
        ann stats x                                   -> ann topic Invalid ~on a service
        "#,
    );
}

#[test]
fn what_is_wrong_with_a_subscription_is_said() {
    check(
        r#"
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        ann subscribes a.**.** c1                     -> ann c1 Invalid ~`a.**.**` has `**` before its end
        ann subscribes A c2                           -> ann c2 Invalid ~'A' at byte 0
        ann subscribes t c3 policy=9                  -> ann c3 Invalid ~number 9: 0 drop_oldest, 1 latest, 2 block, 3 disconnect
        ann subscribes t c4 unstreamed                -> ann c4 Invalid ~STREAM
        ann subscribes t c5 and=acme.*                -> ann c5 Invalid ~not by both
        ann subscribes t c6 torn                      -> ann c6 Invalid ~SPEC 7
        ann subscribes t c7 deadline=-1ms             -> ann c7 DeadlineExceeded
        ann subscribes t c8 word=0                    -> ann c8 Invalid ~SPEC 4.2
        ann asks subscriptions                        -> ann told subscriptions=0
        "#,
    );
}

#[test]
fn what_is_wrong_with_a_message_is_said() {
    check(
        r#"
        limit payload_bytes_max=100
        ann opens acme.t kind=2 rights=publish+delegate as t -> ann opened t publish+delegate epoch=0
        ann publishes t c1 batched "torn"             -> ann c1 Invalid ~no batch
        ann publishes t c2 batched                    -> ann c2 Invalid ~no batch
        ann sends t tag=3 batched "torn"              -> ann unsent t Invalid messages=1 tag=3
        ann publishes t c4 bytes=101                  -> ann c4 TooLarge ~limits.payload_bytes_max
        ann publishes t c5 streamed                   -> ann c5 Invalid ~without STREAM
        ann publishes t c6 handles=t:publish          -> ann c6 Unsupported ~no handles
        ann publishes t c7 deadline=-1ms              -> ann c7 DeadlineExceeded
        ann publishes t c8 extended=4000              -> ann c8 published 1 to=0
        ann publishes t c9 extended=4080              -> ann c9 TooLarge ~extensions leave no room
        ann stats t                                   -> ann told subscriptions=0 sequence=1 held=0 kept=0:0 retain=false
        "#,
    );
}

#[test]
fn a_call_to_publish_needs_a_slot_of_its_own() {
    check(
        r#"
        topic acme.t block
        ann opens acme.t kind=2 rights=publish+subscribe as t -> ann opened t publish+subscribe epoch=0
        ann subscribes t s slot=1
        ann publishes t c1 slot=1                     -> ann c1 Invalid ~slot 1 is in use
        "#,
    );
}

#[test]
fn the_send_window_comes_back_when_a_message_is_with_every_queue() {
    check(
        r#"
        limit send_bytes=256
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        ann subscribes t s messages=1 policy=block
        bob sends p "1"                               -> bob credit p 80
        bob sends p "2"
        bob sends p "3"
        bob sends p "4"
        bob sends p tag=5 "5"                         -> bob unsent p Busy messages=1 tag=5 ~SPEC 4.9; bob credit p 80
        bob stats p                                   -> bob told subscriptions=1 sequence=1 held=3 kept=0:0 retain=false
        ann credits s 9                               -> ann s subscribed 0; ann s 1 from bob "1"; ann s 2 from bob "2"
            ; bob credit p 80; ann s 3 from bob "3"; bob credit p 80; ann s 4 from bob "4"; bob credit p 80
        "#,
    );
}

#[test]
fn drop_oldest_drops_the_oldest_and_says_which() {
    check(
        r#"
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        ann subscribes t s messages=2
        ann credits s 1                               -> ann s subscribed 0
        bob sends p "1"
        bob sends p "2"
        bob sends p "3"
        bob sends p "4"
        bob sends p "5"
        ann asks used:subscribed_bytes_max            -> ann told used:subscribed_bytes_max=160
        ann credits s 1                               -> ann s lost 1-3
        bob sends p "6"
        ann credits s 2                               -> ann s lost 4-4; ann s 5 from bob "5"
        ann credits s 9                               -> ann s 6 from bob "6"
        bob sends p "7"                               -> ann s 7 from bob "7"
        ann asks topic_lost                           -> ann told topic_lost=4
        ann asks used:subscribed_bytes_max            -> ann told used:subscribed_bytes_max=0
        "#,
    );
}

#[test]
fn bytes_bound_a_queue_too_and_one_message_always_finds_a_place() {
    check(
        r#"
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        ann subscribes t s most=1024
        bob sends p "1"
        bob sends p bytes=912
        bob sends p "3"
        bob sends p bytes=2000
        ann credits s 9                               -> ann s subscribed 0; ann s lost 1-3; ann s 4 from bob [2000 bytes]
        "#,
    );
}

#[test]
fn latest_leaves_one_message_of_each_topic_waiting() {
    check(
        r#"
        bob opens a.x kind=2 rights=publish as x      -> bob opened x publish epoch=0
        bob opens a.y kind=2 rights=publish as y      -> bob opened y publish epoch=0
        ann subscribes a.* s policy=latest
        ann credits s 1                               -> ann s subscribed 0
        bob sends x "x1"
        bob sends y "y1"
        bob sends x "x2"
        bob sends x "x3"
        bob sends y "y2"
        bob sends x "x4"
        ann credits s 9                               -> ann s lost 1-4; ann s 5 from bob sequence=2 of=a.y "y2"; ann s 6 from bob sequence=4 of=a.x "x4"
        ann credits s 0
        bob sends x "x5"                              -> ann s 7 from bob sequence=5 of=a.x "x5"
        "#,
    );
}

#[test]
fn latest_keeps_the_places_of_what_is_lost() {
    check(
        r#"
        bob opens a.x kind=2 rights=publish as x      -> bob opened x publish epoch=0
        bob opens a.y kind=2 rights=publish as y      -> bob opened y publish epoch=0
        bob opens a.z kind=2 rights=publish as z      -> bob opened z publish epoch=0
        ann subscribes a.* s policy=latest messages=2
        ann credits s 1                               -> ann s subscribed 0
        bob sends x "x1"
        bob sends y "y1"
        bob sends x "x2"
        ann credits s 2                               -> ann s lost 1-1; ann s 2 from bob sequence=1 of=a.y "y1"
        bob sends z "z1"
        bob sends y "y2"
        ann credits s 9                               -> ann s lost 3-3; ann s 4 from bob sequence=1 of=a.z "z1"; ann s 5 from bob sequence=2 of=a.y "y2"
        "#,
    );
}

#[test]
fn disconnect_ends_the_subscription_and_nothing_else() {
    check(
        r#"
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        ann subscribes t s messages=1 policy=disconnect
        ann subscribes t v
        ann credits v 9                               -> ann v subscribed 0
        bob sends p "1"                               -> ann v 1 from bob "1"
        bob publishes p c1 "2"                        -> ann s Busy ~2 messages behind; ann v 2 from bob "2"; bob c1 published 2 to=1
        bob publishes p c2 "3"                        -> ann v 3 from bob "3"; bob c2 published 3 to=1
        ann asks used:subscribed_bytes_max            -> ann told used:subscribed_bytes_max=0
        "#,
    );
}

#[test]
fn block_makes_publishers_wait_in_order_until_their_deadlines() {
    check(
        r#"
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        eve opens acme.t kind=2 rights=publish as q   -> eve opened q publish epoch=0
        joe opens acme.t kind=2 rights=subscribe as j -> joe opened j subscribe epoch=0
        ann subscribes t s messages=1 policy=block
        ann credits s 1                               -> ann s subscribed 0
        joe subscribes j v
        joe credits v 99                              -> joe v subscribed 0
        bob publishes p c1 "1"                        -> joe v 1 from bob "1"; bob c1 published 1 to=2
        bob publishes p c2 deadline=5ms "2"
        eve publishes q c3 "3"
        bob sends p tag=4 deadline=7ms "4"
        bob publishes p c5 deadline=20ms "5"
        bob publishes p c6 nowait "6"                 -> bob c6 Busy ~asked not to wait
        bob stats p                                   -> bob told subscriptions=2 sequence=1 held=4 kept=0:0 retain=false
        bob asks waits                                -> bob told waits  cycles=
        +5ms                                          -> bob c2 DeadlineExceeded ~for a subscription to have room
        +2ms                                          -> bob unsent p DeadlineExceeded messages=1 tag=4
        ann credits s 1                               -> ann s 1 from bob "1"; joe v 2 from eve "3"; eve c3 published 2 to=2
        ann credits s 3                               -> ann s 2 from eve "3"; ann s 3 from bob "5"; joe v 3 from bob "5"; bob c5 published 3 to=2
        bob publishes p c7 "7"                        -> ann s 4 from bob "7"; joe v 4 from bob "7"; bob c7 published 4 to=2
        ann asks publishes_held                       -> ann told publishes_held=4
        ann asks used:buffered_bytes_max              -> ann told used:buffered_bytes_max=0
        "#,
    );
}

#[test]
fn what_is_held_back_goes_when_the_slow_one_leaves_and_outlives_who_sent_it_one_way() {
    check(
        r#"
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        joe subscribes acme.* v
        joe credits v 99                              -> joe v subscribed 0
        ann subscribes t s messages=1 policy=block
        bob sends p "1"                               -> joe v 1 from bob of=acme.t "1"
        bob sends p "2"
        bob publishes p c3 "3"
        bob sends p "4"
        bob leaves                                    -> forget bob
        joe asks waiting                              -> joe told waiting=0
        joe asks used:waiting_max                     -> joe told used:waiting_max=2
        ann leaves                                    -> forget ann; joe v 2 from bob of=acme.t "2"; joe v 3 from bob of=acme.t "4"
        joe asks names                                -> joe told names=0
        joe asks used:waiting_max                     -> joe told used:waiting_max=0
        "#,
    );
}

#[test]
fn holding_publishers_back_takes_a_topic_that_allows_it_or_the_brokers_own_user() {
    check(
        r#"
        allow anyone publish,subscribe **
        topic acme.b block
        ann joins uid=1
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        ann opens acme.b kind=2 rights=subscribe as b -> ann opened b subscribe epoch=0
        ann subscribes t s1 policy=block              -> ann s1 Denied ~block = true
        ann subscribes ** s2 policy=block             -> ann s2 Denied ~block = true
        ann subscribes b s3 policy=block
        ann credits s3 1                              -> ann s3 subscribed 0
        topic acme.b
        reloaded                                      -> ann s3 Denied ~its `block`
        own 1
        reloaded
        ann subscribes ** s4 policy=block
        "#,
    );
}

#[test]
fn two_that_hold_back_are_both_waited_for() {
    check(
        r#"
        ann opens acme.t kind=2 rights=subscribe+publish as t -> ann opened t publish+subscribe epoch=0
        ann subscribes t s1 messages=1 policy=block
        ann subscribes t s2 messages=2 policy=block
        ann publishes t c1 "1"                        -> ann c1 published 1 to=2
        ann publishes t c2 "2"
        ann credits s1 2                              -> ann s1 subscribed 0; ann s1 1 from ann "1"; ann c2 published 2 to=2
        ann publishes t c3 "3"
        ann credits s1 1                              -> ann s1 2 from ann "2"
        ann cancels c3                                -> ann c3 Cancelled
        ann publishes t c4 "4"
        ann credits s2 2                              -> ann s2 subscribed 0; ann s2 1 from ann "1"; ann c4 published 3 to=2
        ann credits s1 9                              -> ann s1 3 from ann "4"
        "#,
    );
}

#[test]
fn a_quota_that_is_used_up_holds_back_until_whatever_used_it_up_is_gone() {
    check(
        r#"
        limit user.subscribed_bytes=100
        ann opens acme.t kind=2 rights=subscribe+publish as t -> ann opened t publish+subscribe epoch=0
        ann opens acme.u kind=2 rights=subscribe+publish as u -> ann opened u publish+subscribe epoch=0
        ann subscribes u other
        ann sends u "fills the quota"
        ann subscribes t s policy=block
        ann publishes t c1 "1"
        ann credits other 2                           -> ann other subscribed 0; ann other 1 from ann "fills the quota"; ann c1 published 1 to=1
        ann publishes t c2 "2"
        ann cancels s                                 -> ann s Cancelled; ann c2 published 2 to=0
        ann sends u "x"
        ann credits other 1                           -> ann other 2 from ann "x"
        ann sends u "fills it again"
        ann subscribes t v policy=block
        ann publishes t c3 "3"
        ann cancels v                                 -> ann v Cancelled; ann c3 published 3 to=0
        ann subscribes t w policy=block
        ann publishes t c4 "4"
        ann cancels other                             -> ann other Cancelled; ann c4 published 4 to=1
        ann credits w 9                               -> ann w subscribed 3; ann w 4 from ann "4"
        "#,
    );
}

#[test]
fn what_is_held_back_goes_at_once_also_where_nobody_reads() {
    check(
        r#"
        limit user.subscribed_bytes=100
        ann opens acme.t kind=2 rights=publish as t   -> ann opened t publish epoch=0
        ann opens acme.u kind=2 rights=publish as u   -> ann opened u publish epoch=0
        eve subscribes acme.u other
        ann sends u "fills the quota"
        joe opens acme.t kind=2 rights=subscribe as j -> joe opened j subscribe epoch=0
        joe subscribes j s policy=block
        joe credits s 1                               -> joe s subscribed 0
        ann publishes t c1 "1"
        eve stops reading
        eve credits other 2                           -> eve other subscribed 0; eve other 1 from ann of=acme.u "fills the quota"; ann c1 published 1 to=1
        joe credits s 1                               -> joe s 1 from ann "1"
        ann sends u "fills it again"
        ann publishes t c2 "2"
        joe leaves                                    -> forget joe; ann c2 published 2 to=0
        "#,
    );
}

#[test]
fn a_batch_counts_as_its_messages() {
    check(
        r#"
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        ann subscribes t s messages=4
        ann credits s 1                               -> ann s subscribed 0
        bob publishes p c1 batch=a,b,c                -> bob c1 published 3 to=1
        bob sends p "d"
        bob sends p batch=e,f
        ann credits s 9                               -> ann s lost 1-3; ann s 4 from bob "d"; ann s 5 from bob batch=e,f
        bob publishes p c2 batch=g,h                  -> ann s 7 from bob batch=g,h; bob c2 published 8 to=1
        ann asks topic_lost                           -> ann told topic_lost=3
        "#,
    );
}

#[test]
fn a_retained_message_is_for_those_who_come_later_and_ask_for_it() {
    check(
        r#"
        topic acme.t retain
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        bob sends p "1"
        bob sends p method=3 named=m "2"
        bob stats p                                   -> bob told subscriptions=0 sequence=2 held=0 kept=1:96 retain=true
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        ann subscribes t s1
        ann credits s1 9                              -> ann s1 subscribed 2
        ann subscribes t s2 history=1
        bob sends p "3"                               -> ann s1 3 from bob "3"
        ann credits s2 9                              -> ann s2 subscribed 2; ann s2 earlier 2 from bob method=3 named=m "2"; ann s2 3 from bob "3"
        ann subscribes acme.* s3 history=5
        ann credits s3 9                              -> ann s3 subscribed 0; ann s3 earlier 0 from bob sequence=3 of=acme.t "3"
        bob sends p "4"                               -> ann s1 4 from bob "4"; ann s2 4 from bob "4"; ann s3 1 from bob sequence=4 of=acme.t "4"
        "#,
    );
}

#[test]
fn of_a_batch_only_the_latest_messages_are_kept_and_given() {
    check(
        r#"
        topic acme.t history=3
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        bob sends p batch=a,b,c,d
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        ann subscribes t s1 history=1
        ann credits s1 9                              -> ann s1 subscribed 4; ann s1 earlier 4 from bob "d"
        ann subscribes t s2 history=2
        ann credits s2 9                              -> ann s2 subscribed 4; ann s2 earlier 3 from bob batch=c,d
        ann subscribes t s3 history=9
        ann credits s3 9                              -> ann s3 subscribed 4; ann s3 earlier 2 from bob batch=b,c,d
        bob sends p "e"                               -> ann s1 5 from bob "e"; ann s2 5 from bob "e"; ann s3 5 from bob "e"
        ann subscribes t s4 history=3 messages=2
        ann credits s4 9                              -> ann s4 subscribed 5; ann s4 earlier 4 from bob "d"; ann s4 earlier 5 from bob "e"
        "#,
    );
}

#[test]
fn a_history_keeps_the_latest_within_its_bounds() {
    check(
        r#"
        topic acme.t history=3 history_bytes=320
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        bob sends p "1"
        bob sends p "2"
        bob sends p "3"
        bob sends p "4"
        bob stats p                                   -> bob told subscriptions=0 sequence=4 held=0 kept=3:240 retain=false
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        ann subscribes t s1 history=2
        ann credits s1 9                              -> ann s1 subscribed 4; ann s1 earlier 3 from bob "3"; ann s1 earlier 4 from bob "4"
        ann cancels s1                                -> ann s1 Cancelled
        bob publishes p c1 bytes=257                  -> bob c1 TooLarge ~history_bytes
        bob publishes p c2 bytes=176                  -> bob c2 published 5 to=0
        ann subscribes t s2 history=9 messages=1
        ann credits s2 9                              -> ann s2 subscribed 5; ann s2 earlier 5 from bob [176 bytes]
        ann cancels s2                                -> ann s2 Cancelled
        topic acme.t history=1
        reloaded
        bob stats p                                   -> bob told subscriptions=0 sequence=5 held=0 kept=1:240 retain=false
        untopic acme.t
        reloaded
        bob stats p                                   -> bob told subscriptions=0 sequence=5 held=0 kept=0:0 retain=false
        ann asks used:kept_bytes_max                  -> ann told used:kept_bytes_max=0
        "#,
    );
}

#[test]
fn a_configured_topic_is_there_from_the_start_and_counts_against_nobody() {
    check(
        r#"
        topic acme.t
        ann lists ** -> ann listed acme.t next=
        ann opens acme.t as x                         -> ann opening Invalid ~stands for a topic
        ann watches ** w
        ann credits w 99                              -> ann w 1 is acme.t epoch=0 owner=nobody owners=0 standby=0; ann w 2 end
        topic acme.u
        untopic acme.t
        reloaded                                      -> ann w 3 orphaned acme.t epoch=0 owner=nobody owners=0 standby=0
            ; ann w 4 owned acme.u epoch=0 owner=nobody owners=0 standby=0
        ann awaits acme.v f
        bob opens acme.v kind=2 rights=publish as p   -> ann f found epoch=0; ann w 5 owned acme.v epoch=0 owner=nobody owners=0 standby=0
            ; bob opened p publish epoch=0
        ann awaits acme.v g                           -> ann g found epoch=0
        ann describes acme.v                          -> ann described acme.v epoch=0 owner=nobody owners=0 standby=0 servers= waiting=0 handles=1
        topic acme.v
        reloaded
        bob leaves                                    -> forget bob
        ann lists **                                  -> ann listed acme.u,acme.v next=
        ann opens acme.s as s                         -> ann opened s call epoch=0
        topic acme.s
        reloaded
        ann lists **                                  -> ann listed acme.u,acme.v next=
        ann closes s                                  -> ann w 6 owned acme.s epoch=0 owner=nobody owners=0 standby=0; ann done
        "#,
    );
}

#[test]
fn a_topic_goes_with_its_last_handle_and_begins_anew() {
    check(
        r#"
        ann watches ** w
        ann credits w 99                              -> ann w 1 end
        bob opens acme.t kind=2 rights=publish as p   -> ann w 2 owned acme.t epoch=0 owner=nobody owners=0 standby=0; bob opened p publish epoch=0
        bob publishes p c1                            -> bob c1 published 1 to=0
        bob closes p                                  -> ann w 3 orphaned acme.t epoch=0 owner=nobody owners=0 standby=0; bob done
        bob opens acme.t kind=2 rights=publish as p   -> ann w 4 owned acme.t epoch=0 owner=nobody owners=0 standby=0; bob opened p publish epoch=0
        bob publishes p c2                            -> bob c2 published 1 to=0
        "#,
    );
}

#[test]
fn a_will_is_published_when_its_client_dies() {
    check(
        r#"
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        ann subscribes t s
        ann credits s 9                               -> ann s subscribed 0
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        bob wills p "draft"                           -> bob done
        bob wills p method=5 "bye"                    -> bob done
        ann asks used:buffered_bytes_max              -> ann told used:buffered_bytes_max=80
        bob leaves                                    -> ann s 1 from bob method=5 "bye"; forget bob
        ann asks used:buffered_bytes_max              -> ann told used:buffered_bytes_max=0
        eve opens acme.t kind=2 rights=publish as q   -> eve opened q publish epoch=0
        eve wills q "one"                             -> eve done
        eve unwills q                                 -> eve done
        eve leaves                                    -> forget eve
        ann asks wills                                -> ann told wills=1
        "#,
    );
}

#[test]
fn a_will_goes_with_a_goodbye_with_its_handle_and_with_its_right() {
    check(
        r#"
        allow anyone publish,subscribe **
        ann joins uid=1
        bob joins uid=2
        eve joins uid=2
        joe joins uid=2
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        ann subscribes t s
        ann credits s 9                               -> ann s subscribed 0
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        bob wills p "x"                               -> bob done
        bob says goodbye                              -> bob goodbye Done; close bob
        bob leaves                                    -> forget bob
        eve opens acme.t kind=2 rights=publish as q   -> eve opened q publish epoch=0
        eve wills q "x"                               -> eve done
        eve closes q                                  -> eve done
        eve leaves                                    -> forget eve
        joe opens acme.t kind=2 rights=publish as r   -> joe opened r publish epoch=0
        joe wills r "x"                               -> joe done
        forbid
        allow 1 subscribe **
        reloaded                                      -> joe revoked r
        joe leaves                                    -> forget joe
        ann asks used:buffered_bytes_max              -> ann told used:buffered_bytes_max=0
        ann asks published                            -> ann told published=0
        "#,
    );
}

#[test]
fn a_will_may_be_held_back_like_any_message() {
    check(
        r#"
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        ann subscribes t s messages=1 policy=block
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        bob sends p "1"
        bob wills p "last"                            -> bob done
        bob leaves                                    -> forget bob
        ann credits s 9                               -> ann s subscribed 0; ann s 1 from bob "1"; ann s 2 from bob "last"
        "#,
    );
}

#[test]
fn subscriptions_of_a_connection_of_a_user_and_of_all() {
    check(
        r#"
        allow anyone subscribe **
        limit user.subscriptions=2 subscriptions_max=6
        ann joins uid=1
        bob joins uid=1
        eve joins uid=2
        joe joins uid=3
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        ann subscribes t s1
        ann subscribes ** s2
        ann subscribes ** s3                          -> ann s3 Busy ~limits.user.subscriptions
        bob subscribes ** s1
        bob subscribes ** s2                          -> bob s2 Busy ~limits.subscriptions_max
        eve subscribes ** s1
        eve subscribes ** s2
        joe subscribes ** s1
        joe subscribes ** s2                          -> joe s2 Busy ~limits.subscriptions_max
        joe asks used:subscriptions_max               -> joe told used:subscriptions_max=6
        ann cancels s1                                -> ann s1 Cancelled
        joe subscribes ** s2
        ann leaves                                    -> forget ann
        bob leaves                                    -> forget bob
        eve leaves                                    -> forget eve
        joe asks used:subscriptions_max               -> joe told used:subscriptions_max=2
        "#,
    );
}

#[test]
fn what_waits_for_all_subscriptions_of_a_user_is_bounded() {
    check(
        r#"
        limit user.subscribed_bytes=250
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        ann subscribes t s1
        ann subscribes t s2
        bob sends p "1"
        bob sends p "2"
        ann asks used:subscribed_bytes_max            -> ann told used:subscribed_bytes_max=240
        ann subscribes t s3 policy=disconnect
        bob sends p "3"                               -> ann s3 Busy ~limits.user.subscribed_bytes
        ann credits s1 9                              -> ann s1 subscribed 0; ann s1 lost 1-1; ann s1 2 from bob "2"; ann s1 3 from bob "3"
        ann credits s2 9                              -> ann s2 subscribed 0; ann s2 lost 1-2; ann s2 3 from bob "3"
        ann asks used:subscribed_bytes_max            -> ann told used:subscribed_bytes_max=0
        "#,
    );
}

#[test]
fn what_topics_keep_is_bounded() {
    check(
        r#"
        limit kept_bytes_max=200
        topic acme.a history=2
        topic acme.b retain
        bob opens acme.a kind=2 rights=publish as a   -> bob opened a publish epoch=0
        bob opens acme.b kind=2 rights=publish as b   -> bob opened b publish epoch=0
        bob publishes a c1 "1"                        -> bob c1 published 1 to=0
        bob publishes a c2 "2"                        -> bob c2 published 2 to=0
        bob publishes b c3 "3"                        -> bob c3 Busy ~limits.kept_bytes_max
        bob sends b tag=3 "3"                         -> bob unsent b Busy messages=1 tag=3 ~limits.kept_bytes_max
        bob publishes a c4 bytes=100                  -> bob c4 published 3 to=0
        bob stats a                                   -> bob told subscriptions=0 sequence=3 held=0 kept=1:176 retain=false
        "#,
    );
}

#[test]
fn wills_are_bounded_in_number_and_bytes() {
    let mut script = String::from("limit user.buffered_bytes=2000\n");
    for at in 0..16 {
        script += &format!(
            "bob opens acme.t{at} kind=2 rights=publish as p{at} -> bob opened p{at} publish epoch=0\n"
        );
        script += &format!("bob wills p{at} \"{at}\" -> bob done\n");
    }
    script += "bob opens acme.t16 kind=2 rights=publish as p16 -> bob opened p16 publish epoch=0\n";
    script += "bob wills p16 \"16\" -> bob willing Busy ~16 wills\n";
    script += "bob wills p15 bytes=900 -> bob willing Busy ~limits.user.buffered_bytes\n";
    script += "bob wills p15 \"again\" -> bob done\n";
    script += "bob asks used:buffered_bytes_max -> bob told used:buffered_bytes_max=1280\n";
    check(&script);
}

#[test]
fn who_does_not_read_holds_up_nobody_and_its_replies_are_never_late() {
    check(
        r#"
        limit link_bytes_low=200 link_bytes_high=400
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        joe opens acme.t kind=2 rights=subscribe as j -> joe opened j subscribe epoch=0
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        ann subscribes t s
        ann credits s 99                              -> ann s subscribed 0
        joe subscribes j v
        joe credits v 99                              -> joe v subscribed 0
        ann stops reading
        bob sends p bytes=200                         -> ann s 1 from bob [200 bytes]; joe v 1 from bob [200 bytes]
        bob sends p bytes=200                         -> ann s 2 from bob [200 bytes]; pause ann; joe v 2 from bob [200 bytes]
        bob sends p "3"                               -> joe v 3 from bob "3"
        bob sends p "4"                               -> joe v 4 from bob "4"
        ann asks connections                          -> ann told connections=3
        ann reads                                     -> resume ann; ann s 3 from bob "3"; ann s 4 from bob "4"
        bob sends p "5"                               -> ann s 5 from bob "5"; joe v 5 from bob "5"
        "#,
    );
}

#[test]
fn what_its_users_other_connections_leave_unread_is_waited_for() {
    check(
        r#"
        limit link_bytes_low=100 user.unread_bytes=300
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        eve opens acme.t kind=2 rights=subscribe as u -> eve opened u subscribe epoch=0
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        eve subscribes u v
        eve credits v 99                              -> eve v subscribed 0
        eve stops reading
        bob sends p bytes=240                         -> eve v 1 from bob [240 bytes]
        ann subscribes t s
        ann credits s 99                              -> ann s subscribed 1
        bob sends p bytes=240
        bob sends p bytes=2000
        eve reads                                     -> eve v 2 from bob [240 bytes]; eve v lost 3-3
            ; ann s 2 from bob [240 bytes]; ann s lost 3-3
        "#,
    );
}

#[test]
fn what_its_user_has_no_room_for_comes_when_it_has_read_and_nothing_else_happens() {
    // What ann has not read is too little to be counted or to hold anybody up: nothing but what waits
    // for room says that her reading matters.
    check(
        r#"
        limit link_bytes_low=150 user.unread_bytes=300
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        eve opens acme.u kind=2 rights=subscribe as u -> eve opened u subscribe epoch=0
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        bob opens acme.u kind=2 rights=publish as q   -> bob opened q publish epoch=0
        eve subscribes u v
        eve credits v 99                              -> eve v subscribed 0
        eve stops reading
        bob sends q bytes=380                         -> eve v 1 from bob [380 bytes]
        ann subscribes t s
        ann credits s 99                              -> ann s subscribed 0
        ann subscribes t o
        ann credits o 99                              -> ann o subscribed 0
        ann stops reading
        bob sends p "1"                               -> ann s 1 from bob "1"
        bob sends p "2"
        ann reads 80                                  -> ann o 1 from bob "1"
        ann reads 80                                  -> ann s 2 from bob "2"
        ann reads                                     -> ann o 2 from bob "2"
        "#,
    );
}

#[test]
fn a_monitor_sees_a_message_once() {
    check(
        r#"
        mon monitors acme.** m
        mon credits m 99
        ann opens acme.t kind=2 rights=subscribe as t -> ann opened t subscribe epoch=0
        bob opens acme.t kind=2 rights=publish as p   -> bob opened p publish epoch=0
        ann subscribes t s
        ann subscribes t v
        bob publishes p c1 "hello"                    -> mon m 1 sees Call acme.t bob>nobody lost=0 "hello"; bob c1 published 1 to=2
        bob sends p "again"                           -> mon m 2 sees Send acme.t bob>nobody lost=0 "again"
        "#,
    );
}

#[test]
fn a_shutdown_ends_subscriptions_and_what_is_held_back() {
    check(
        r#"
        ann opens acme.t kind=2 rights=subscribe+publish as t -> ann opened t publish+subscribe epoch=0
        ann subscribes t s messages=1 policy=block
        ann sends t "1"
        ann publishes t c1 "2"
        ann wills t "3"                               -> ann done
        shutdown                                      -> ann s ShuttingDown; ann c1 ShuttingDown; ann shutting down; ann goodbye ShuttingDown; close ann
        ann leaves                                    -> forget ann
        "#,
    );
}
