//! Who owns a name, who stands by, and how epochs fence off those who were (DESIGN 2 and 3, SPEC 3.5
//! and 5.9).

use crate::script::check;

#[test]
fn a_taken_name_is_an_error_reply_for_who_does_not_queue() {
    check(
        r#"
        one serves acme.x as s              -> one served s epoch=1
        two serves acme.x unqueued          -> two serving Busy ~is taken by process 100 of user 1000
        two asks names                      -> two told names=1
        "#,
    );
}

#[test]
fn who_stands_by_takes_over_in_order_of_arrival_and_with_a_greater_epoch() {
    check(
        r#"
        one serves acme.x as s1             -> one served s1 epoch=1
        two serves acme.x as s2             -> two stands by s2 place=1
        six serves acme.x as s3             -> six stands by s3 place=2
        one closes s1                       -> two gained s2 epoch=2; one done
        two leaves                          -> six gained s3 epoch=3; forget two
        six asks names_owned                -> six told names_owned=1
        six closes s3                       -> six done
        six asks names                      -> six told names=0
        "#,
    );
}

#[test]
fn who_stands_by_may_leave_the_line() {
    check(
        r#"
        one serves acme.x as s1             -> one served s1 epoch=1
        two serves acme.x as s2             -> two stands by s2 place=1
        six serves acme.x as s3             -> six stands by s3 place=2
        two closes s2                       -> two done
        one leaves                          -> six gained s3 epoch=2; forget one
        "#,
    );
}

#[test]
fn replacement_needs_both_and_the_replaced_stands_by_first() {
    check(
        r#"
        one serves acme.x as s1             -> one served s1 epoch=1
        two serves acme.x replacing as s2   -> two stands by s2 place=1
        two closes s2                       -> two done
        one closes s1                       -> one done
        one serves acme.x replaceable as s1 -> one served s1 epoch=2
        six serves acme.x as s3             -> six stands by s3 place=1
        two serves acme.x replacing as s2   -> one replaced s1 place=1; two served s2 epoch=3
        two leaves                          -> one gained s1 epoch=4; forget two
        one asks names_owned                -> one told names_owned=1
        "#,
    );
}

#[test]
fn a_replaced_owner_keeps_the_requests_it_has_and_answers_under_its_own_epoch() {
    check(
        r#"
        one serves acme.x replaceable calls=1 as s1 -> one served s1 epoch=1
        ann opens acme.x as h               -> ann opened h call epoch=1
        ann calls h c1 "a"                  -> one gets r1 on s1 from ann "a"
        ann calls h c2 "b"
        two serves acme.x replacing as s2   -> one replaced s1 place=1; two served s2 epoch=2
            ; two gets r2 on s2 from ann "b"
        one replies r1 "A"                  -> ann c1 Reply "A"
        two replies r2 "B"                  -> ann c2 Reply epoch=2 "B"
        "#,
    );
}

#[test]
fn a_request_comes_after_the_server_learned_of_its_handle() {
    check(
        r#"
        one serves acme.x pool calls=1 as s1 -> one served s1 epoch=1
        ann opens acme.x as h               -> ann opened h call epoch=1
        ann calls h c1                      -> one gets r1 on s1 from ann
        ann calls h c2
        two serves acme.x pool as s2        -> two served s2 epoch=2; two gets r2 on s2 from ann
        "#,
    );
    check(
        r#"
        one serves acme.x calls=1 as s1     -> one served s1 epoch=1
        two serves acme.x as s2             -> two stands by s2 place=1
        ann opens acme.x as h               -> ann opened h call epoch=1
        ann calls h c1                      -> one gets r1 on s1 from ann
        ann calls h c2
        one closes s1                       -> ann c1 Abandoned; two gained s2 epoch=2; one done
            ; two gets r2 on s2 from ann
        "#,
    );
}

#[test]
fn a_pool_gives_to_whoever_has_the_fewest_unanswered() {
    check(
        r#"
        one serves acme.x pool as s1        -> one served s1 epoch=1
        two serves acme.x pool as s2        -> two served s2 epoch=2
        ann opens acme.x as h               -> ann opened h call epoch=2
        ann calls h c1                      -> one gets r1 on s1 from ann
        ann calls h c2                      -> two gets r2 on s2 from ann
        two replies r2                      -> ann c2 Reply epoch=2
        ann calls h c3                      -> two gets r3 on s2 from ann
        two replies r3                      -> ann c3 Reply epoch=2
        ann calls h c4                      -> two gets r4 on s2 from ann
        one replies r1                      -> ann c1 Reply
        two leaves                          -> ann c4 PeerDied; forget two
        ann opens acme.x as h2              -> ann opened h2 call epoch=1
        "#,
    );
}

#[test]
fn pool_and_exclusive_do_not_mix() {
    check(
        r#"
        one serves acme.x pool as s1        -> one served s1 epoch=1
        two serves acme.x                   -> two serving Invalid ~as a pool
        one closes s1                       -> one done
        one serves acme.x as s1             -> one served s1 epoch=2
        two serves acme.x pool              -> two serving Invalid ~by one owner
        "#,
    );
}

#[test]
fn an_expected_epoch_that_is_gone_is_told_so() {
    check(
        r#"
        one serves acme.x as s              -> one served s epoch=1
        ann opens acme.x as h               -> ann opened h call epoch=1
        ann calls h c1 epoch=1              -> one gets r1 on s from ann
        one replies r1                      -> ann c1 Reply
        one closes s                        -> one done
        one serves acme.x as s              -> one served s epoch=2
        ann calls h c2 epoch=1              -> ann c2 OwnerChanged
        ann calls h c3 epoch=2              -> one gets r2 on s from ann
        ann sends h epoch=1 tag=4           -> ann unsent h OwnerChanged messages=1 tag=4
        "#,
    );
}

#[test]
fn who_waits_for_an_owner_that_goes_is_told_that_it_changed() {
    check(
        r#"
        one serves acme.x replaceable calls=1 as s1 -> one served s1 epoch=1
        ann opens acme.x as h               -> ann opened h call epoch=1
        ann calls h c1 epoch=1              -> one gets r1 on s1 from ann
        ann calls h c2 epoch=1
        ann calls h c3
        two serves acme.x replacing as s2   -> one replaced s1 place=1; two served s2 epoch=2
            ; ann c2 OwnerChanged; two gets r2 on s2 from ann
        "#,
    );
}

#[test]
fn in_a_pool_a_message_for_one_member_does_not_hold_up_the_others() {
    check(
        r#"
        one serves acme.x pool calls=1 as s1 -> one served s1 epoch=1
        two serves acme.x pool calls=1 as s2 -> two served s2 epoch=2
        ann opens acme.x as h               -> ann opened h call epoch=2
        ann calls h c1 epoch=1              -> one gets r1 on s1 from ann
        ann calls h c2 epoch=1              -> ann c2 Busy
        bob opens acme.x as b               -> bob opened b call epoch=2
        bob calls b c1                      -> two gets r2 on s2 from bob
        "#,
    );
}

#[test]
fn what_waits_for_a_pool_goes_on_when_a_member_leaves() {
    check(
        r#"
        one serves acme.x pool calls=1 as s1 -> one served s1 epoch=1
        two serves acme.x pool calls=1 as s2 -> two served s2 epoch=2
        ann opens acme.x as h               -> ann opened h call epoch=2
        ann calls h c1                      -> one gets r1 on s1 from ann
        ann calls h c2                      -> two gets r2 on s2 from ann
        ann calls h c3
        ann calls h c4
        one leaves                          -> ann c1 PeerDied; forget one
        two replies r2                      -> ann c2 Reply epoch=2; two gets r3 on s2 from ann
        two leaves                          -> ann c3 PeerDied; ann c4 NoOwner; forget two
        "#,
    );
}

#[test]
fn a_private_service_is_reached_through_its_reference_only() {
    check(
        r#"
        svc serves acme.x as s                     -> svc served s epoch=1
        ann serves privately as p reference ref    -> ann served p epoch=2
        ann lists **                               -> ann listed acme.x next=
        ann opens acme.x as h rights=call          -> ann opened h call epoch=1
        ann calls h c1 handles=ref:call "look"     -> svc gets r1 on s from ann "look" +g1:call
        svc calls g1 c1 "back"                     -> ann gets r2 on p from svc "back"
        ann replies r2 "ok"                        -> svc c1 Reply epoch=2 "ok"
        ann closes p                               -> ann done
        svc calls g1 c2                            -> svc c2 NoOwner ~private service
        ann leaves                                 -> svc cancel r1 PeerDied; svc revoked g1; forget ann
        "#,
    );
}

#[test]
fn serving_is_refused_for_what_makes_no_sense() {
    check(
        r#"
        one serves acme.x calls=0           -> one serving Invalid ~SPEC 5.2
        one serves acme.x flags=8           -> one serving Invalid ~SPEC 7.7
        one serves acme.x mode=2            -> one serving Invalid ~SPEC 7.7
        one serves acme.x about=4097        -> one serving Invalid ~4096
        one serves Acme                     -> one serving Invalid ~'A' at byte 0
        one serves switchboard.x            -> one serving Denied
        one serves acme.x torn              -> one serving Invalid ~SPEC 7
        one asks names                      -> one told names=0
        "#,
    );
}

#[test]
fn a_wait_ends_once_the_name_has_an_owner() {
    check(
        r#"
        ann awaits acme.x w1
        ann awaits acme.y w2 deadline=5ms
        one serves acme.x as s              -> ann w1 found epoch=1; one served s epoch=1
        ann awaits acme.x w3                -> ann w3 found epoch=1
        +5ms                                -> ann w2 DeadlineExceeded
        ann awaits acme.z w4
        ann cancels w4                      -> ann w4 Cancelled
        ann asks names                      -> ann told names=1
        ann awaits acme.z w5
        ann leaves                          -> forget ann
        one asks names                      -> one told names=1
        "#,
    );
}

#[test]
fn a_watch_gives_a_snapshot_its_end_and_then_every_change() {
    check(
        r#"
        one serves acme.a as a              -> one served a epoch=1
        one serves acme.c as c              -> one served c epoch=2
        one serves other.x                  -> one served - epoch=3
        ann watches acme.* w
        ann credits w 100                   -> ann w 1 is acme.a epoch=1 owner=one owners=1 standby=0
            ; ann w 2 is acme.c epoch=2 owner=one owners=1 standby=0; ann w 3 end
        two serves acme.b as b              -> ann w 4 owned acme.b epoch=4 owner=two owners=1 standby=0
            ; two served b epoch=4
        one closes a                        -> ann w 5 orphaned acme.a epoch=0 owner=nobody owners=0 standby=0
            ; one done
        two serves other.y                  -> two served - epoch=5
        ann cancels w                       -> ann w Cancelled
        one serves acme.a                   -> one served - epoch=6
        "#,
    );
}

#[test]
fn a_watch_gives_only_what_it_has_credit_for_and_loses_nothing() {
    check(
        r#"
        one serves acme.a as a              -> one served a epoch=1
        one serves acme.b as b              -> one served b epoch=2
        ann watches ** w
        ann credits w 1                     -> ann w 1 is acme.a epoch=1 owner=one owners=1 standby=0
        one closes a                        -> one done
        one serves acme.a as a              -> one served a epoch=3
        one closes b                        -> one done
        ann credits w 1                     -> ann w 2 orphaned acme.a epoch=0 owner=nobody owners=0 standby=0
        ann credits w 2                     -> ann w 3 owned acme.a epoch=3 owner=one owners=1 standby=0; ann w 4 end
        "#,
    );
}

#[test]
fn a_watcher_that_falls_behind_loses_the_watch_and_is_told() {
    let mut script = String::from("ann watches acme.** w\n");
    script.push_str("ann credits w 1 -> ann w 1 end\n");
    for change in 0..512 {
        script.push_str(&format!("one serves acme.x as s -> one served s epoch={}\n", change + 1));
        script.push_str("one closes s -> one done\n");
    }
    script.push_str("one serves acme.x as s -> ann w Busy ~1024; one served s epoch=513\n");
    script.push_str("one asks watches -> one told watches=0\n");
    check(&script);
}

#[test]
fn a_watch_and_a_wait_show_only_names_on_which_one_has_a_right() {
    check(
        r#"
        allow 1 serve,call **
        allow 2 call acme.open
        one joins uid=1
        two joins uid=2
        one serves acme.open as o           -> one served o epoch=1
        one serves acme.shut as s           -> one served s epoch=2
        two watches ** w
        two credits w 9                     -> two w 1 is acme.open epoch=1 owner=one owners=1 standby=0; two w 2 end
        one closes s                        -> one done
        two awaits acme.shut w2             -> two w2 Denied
        two describes acme.shut             -> two description Denied
        two lists **                        -> two listed acme.open next=
        two watches **. w3                  -> two w3 Invalid
        two watches ** w4 unstreamed        -> two w4 Invalid ~STREAM
        "#,
    );
}

#[test]
fn a_listing_comes_in_pages() {
    let mut script = String::new();
    for name in 0..300 {
        script.push_str(&format!("one serves acme.n{name:03} -> one served - epoch={}\n", name + 1));
    }
    script.push_str("ann lists acme.* -> ann listed 256 names from acme.n000 to acme.n255 next=acme.n255\n");
    script.push_str(
        "ann lists acme.* after=acme.n255 -> ann listed 44 names from acme.n256 to acme.n299 next=\n",
    );
    script.push_str("ann lists acme.n29* -> ann listing Invalid\n");
    script.push_str("ann lists acme.n007 -> ann listed acme.n007 next=\n");
    script.push_str("ann lists zulu.** -> ann listed  next=\n");
    check(&script);
}
