//! Handles travel, narrow, and are taken away (DESIGN 2, SPEC 3.6 and 5.7).

use crate::script::check;

#[test]
fn a_handle_passed_in_a_call_works_for_its_receiver_with_the_rights_given() {
    check(
        r#"
        svc serves acme.svc as s              -> svc served s epoch=1
        low serves acme.low as l              -> low served l epoch=2
        ann opens acme.svc as h               -> ann opened h call epoch=1
        ann opens acme.low as x rights=call+delegate -> ann opened x call+delegate epoch=2
        ann calls h c1 handles=x:call+delegate,x:call,x:none "t"
            -> svc gets r1 on s from ann "t" +g1:call+delegate +g2:call +g3:none
        svc calls g1 n1 "via"                 -> low gets r2 on l from svc "via"
        svc calls g2 n2                       -> low gets r3 on l from svc
        svc calls g3 n3                       -> svc n3 Denied ~`call`
        svc replies r1                        -> ann c1 Reply
        svc calls g2 n4                       -> low gets r4 on l from svc
        "#,
    );
}

#[test]
fn handles_travel_in_replies_items_and_sends_too() {
    check(
        r#"
        svc serves acme.svc as s              -> svc served s epoch=1
        svc opens acme.svc as o rights=call+delegate -> svc opened o call+delegate epoch=1
        ann opens acme.svc as h rights=call+delegate -> ann opened h call+delegate epoch=1
        ann calls h c1 streamed               -> svc gets r1 on s from ann streamed
        ann credits c1 5                      -> svc credit r1 5
        svc streams r1 handles=o:call "i"     -> ann c1 item 1 "i" +g1:call
        svc replies r1 handles=o:call "e"     -> ann c1 Reply "e" +g2:call
        ann sends h handles=h:call "s"        -> svc receives on s from ann "s" +g3:call
        ann calls g1 c2                       -> svc gets r2 on s from ann
        ann calls g2 c3                       -> svc gets r3 on s from ann
        svc calls g3 c4                       -> svc gets r4 on s from svc
        "#,
    );
}

#[test]
fn a_frame_with_a_handle_that_may_not_be_passed_is_refused_whole() {
    check(
        r#"
        svc serves acme.svc as s              -> svc served s epoch=1
        ann opens acme.svc as h               -> ann opened h call epoch=1
        ann opens acme.svc as d rights=call+delegate -> ann opened d call+delegate epoch=1
        ann calls h c1 handles=d:call,h:call  -> ann c1 Denied ~`delegate`
        ann calls h c2 handles=d:call+admin   -> ann c2 Denied
        ann calls h c3 handles=d:call,#99     -> ann c3 Invalid
        ann calls h c4 handles=d:call:odd     -> ann c4 Invalid
        svc calls d c5 handles=s:call         -> svc c5 Invalid
        ann calls h c5                        -> svc gets r1 on s from ann
        svc replies r1 handles=s:none         -> ann c5 Failed ~cannot pass on
        ann calls h c6 streamed               -> svc gets r2 on s from ann streamed
        ann credits c6 5                      -> svc credit r2 5
        svc streams r2 handles=#99            -> ann c6 Failed ~cannot pass on; svc cancel r2 Failed
        ann asks handles                      -> ann told handles=3
        "#,
    );
}

#[test]
fn narrowing_makes_a_second_weaker_handle() {
    check(
        r#"
        svc serves acme.svc as s              -> svc served s epoch=1
        ann opens acme.svc as d rights=call+delegate -> ann opened d call+delegate epoch=1
        ann narrows d rights=call as n        -> ann opened n call epoch=1
        ann narrows n rights=call+delegate    -> ann narrowing Denied
        ann narrows n rights=undefined        -> ann narrowing Denied
        svc narrows s rights=serve            -> svc narrowing Invalid
        ann closes d                          -> ann done
        ann calls n c1                        -> svc gets r1 on s from ann
        ann calls n c2 handles=n:call         -> ann c2 Denied
        "#,
    );
}

#[test]
fn a_call_scoped_handle_dies_with_its_call() {
    check(
        r#"
        svc serves acme.svc as s              -> svc served s epoch=1
        low serves acme.low as l              -> low served l epoch=2
        ann opens acme.svc as h               -> ann opened h call epoch=1
        ann opens acme.low as x rights=call+delegate -> ann opened x call+delegate epoch=2
        ann calls h c1 handles=x:call:scoped  -> svc gets r1 on s from ann +g1:call
        svc calls g1 n1                       -> low gets r2 on l from svc
        svc replies r1                        -> ann c1 Reply; svc n1 HandleRevoked; low cancel r2 HandleRevoked; svc revoked g1
        svc calls g1 n2                       -> svc n2 HandleRevoked
        ann calls h c2 handles=x:call:scoped  -> svc gets r3 on s from ann +g2:call
        ann cancels c2                        -> ann c2 Cancelled; svc cancel r3 Cancelled; svc revoked g2
        "#,
    );
}

#[test]
fn what_is_made_of_a_call_scoped_handle_dies_with_the_call_too() {
    check(
        r#"
        svc serves acme.svc as s              -> svc served s epoch=1
        low serves acme.low as l              -> low served l epoch=2
        ann opens acme.svc as h               -> ann opened h call epoch=1
        ann opens acme.low as x rights=call+delegate -> ann opened x call+delegate epoch=2
        svc opens acme.low as y               -> svc opened y call epoch=2
        ann calls h c1 handles=x:call+delegate:scoped -> svc gets r1 on s from ann +g1:call+delegate
        svc narrows g1 rights=call as n       -> svc opened n call epoch=2
        svc calls y n1 handles=g1:call        -> low gets r2 on l from svc +g2:call
        svc replies r1                        -> ann c1 Reply; svc revoked g1; svc revoked n; low revoked g2
        low asks handles                      -> low told handles=5
        "#,
    );
}

#[test]
fn call_scoped_is_for_messages_of_a_call_that_goes_on() {
    check(
        r#"
        svc serves acme.svc as s              -> svc served s epoch=1
        svc opens acme.svc as o rights=call+delegate -> svc opened o call+delegate epoch=1
        ann opens acme.svc as h rights=call+delegate -> ann opened h call+delegate epoch=1
        ann sends h tag=1 handles=h:call:scoped -> ann unsent h Invalid messages=1 tag=1 ~CALL_SCOPED
        ann calls h c1                        -> svc gets r1 on s from ann
        svc replies r1 handles=o:call:scoped  -> ann c1 Failed ~CALL_SCOPED
        "#,
    );
}

#[test]
fn when_the_root_disconnects_what_rests_on_it_is_revoked_unless_persistent() {
    check(
        r#"
        svc serves acme.svc as s              -> svc served s epoch=1
        low serves acme.low as l              -> low served l epoch=2
        ann opens acme.svc as h               -> ann opened h call epoch=1
        ann opens acme.low as x rights=call+delegate -> ann opened x call+delegate epoch=2
        ann calls h c1 handles=x:call,x:call:persistent -> svc gets r1 on s from ann +g1:call +g2:call
        svc calls g1 n1                       -> low gets r2 on l from svc
        svc replies r1                        -> ann c1 Reply
        ann leaves                            -> svc n1 HandleRevoked; low cancel r2 HandleRevoked; svc revoked g1; forget ann
        svc calls g1 n2                       -> svc n2 HandleRevoked
        svc calls g2 n3                       -> low gets r3 on l from svc
        "#,
    );
}

#[test]
fn the_root_is_kept_when_a_handle_is_passed_on() {
    check(
        r#"
        svc serves acme.svc as s              -> svc served s epoch=1
        low serves acme.low as l              -> low served l epoch=2
        ann opens acme.svc as h               -> ann opened h call epoch=1
        ann opens acme.low as x rights=call+delegate -> ann opened x call+delegate epoch=2
        svc opens acme.low as y               -> svc opened y call epoch=2
        ann calls h c1 handles=x:call+delegate -> svc gets r1 on s from ann +g1:call+delegate
        svc calls y n1 handles=g1:call        -> low gets r2 on l from svc +g2:call
        svc closes g1                         -> svc done
        low calls g2 m1                       -> low gets r3 on l from low
        ann leaves                            -> svc cancel r1 PeerDied; low m1 HandleRevoked; low cancel r3 HandleRevoked; low revoked g2; forget ann
        "#,
    );
}

#[test]
fn nobody_makes_a_handle_last_longer_than_it_was_given() {
    check(
        r#"
        svc serves acme.svc as s              -> svc served s epoch=1
        low serves acme.low as l              -> low served l epoch=2
        ann opens acme.svc as h               -> ann opened h call epoch=1
        ann opens acme.low as x rights=call+delegate -> ann opened x call+delegate epoch=2
        svc opens acme.low as y               -> svc opened y call epoch=2
        ann calls h c1 handles=x:call+delegate -> svc gets r1 on s from ann +g1:call+delegate
        svc calls y n1 handles=g1:call:persistent -> low gets r2 on l from svc +g2:call
        ann leaves                            -> svc cancel r1 PeerDied; svc revoked g1; low revoked g2; forget ann
        "#,
    );
}

#[test]
fn only_the_root_revokes_and_it_takes_back_all_that_stems_from_a_handle() {
    check(
        r#"
        svc serves acme.svc as s              -> svc served s epoch=1
        low serves acme.low as l              -> low served l epoch=2
        ann opens acme.svc as h               -> ann opened h call epoch=1
        ann opens acme.low as x rights=call+delegate -> ann opened x call+delegate epoch=2
        ann opens acme.low as z rights=call+delegate -> ann opened z call+delegate epoch=2
        svc opens acme.low as y               -> svc opened y call epoch=2
        ann calls h c1 handles=x:call+delegate:persistent,z:call -> svc gets r1 on s from ann +g1:call+delegate +g2:call
        svc calls y n1 handles=g1:call        -> low gets r2 on l from svc +g3:call
        svc revokes g1                        -> svc revokes Denied ~root
        svc revokes x                         -> svc revokes Invalid
        ann revokes x                         -> svc revoked g1; low revoked g3; ann done
        svc calls g2 n2                       -> low gets r3 on l from svc
        ann calls x c2                        -> low gets r4 on l from ann
        "#,
    );
}

#[test]
fn a_handle_is_revoked_on_its_way_too() {
    check(
        r#"
        svc serves acme.svc calls=1 as s      -> svc served s epoch=1
        ann opens acme.svc as h rights=call+delegate -> ann opened h call+delegate epoch=1
        ann opens acme.svc as x rights=call+delegate -> ann opened x call+delegate epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2 handles=x:call,h:call "t"
        ann revokes x                         -> ann done
        svc replies r1                        -> ann c1 Reply; svc gets r2 on s from ann "t" +lost +g1:call
        "#,
    );
}

#[test]
fn a_message_that_does_not_arrive_closes_the_handles_in_it() {
    check(
        r#"
        svc serves acme.svc calls=1 as s      -> svc served s epoch=1
        ann opens acme.svc as h rights=call+delegate -> ann opened h call+delegate epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2 handles=h:call,h:call:persistent
        ann asks handles                      -> ann told handles=4
        ann cancels c2                        -> ann c2 Cancelled
        ann asks handles                      -> ann told handles=2
        ann calls h c3 handles=h:call:persistent
        ann leaves                            -> svc cancel r1 PeerDied; forget ann
        svc asks handles                      -> svc told handles=1
        "#,
    );
}

#[test]
fn who_has_no_room_for_a_handle_gets_none() {
    check(
        r#"
        limit user.handles=2
        svc serves acme.svc as s              -> svc served s epoch=1
        svc opens acme.svc as o               -> svc opened o call epoch=1
        ann opens acme.svc as h rights=call+delegate -> ann opened h call+delegate epoch=1
        ann calls h c1 handles=h:call "t"     -> svc gets r1 on s from ann "t" +lost
        ann asks handles_dropped              -> ann told handles_dropped=1
        ann asks handles                      -> ann told handles=3
        "#,
    );
}

#[test]
fn opening_on_a_callers_behalf_counts_the_callers_rights() {
    check(
        r#"
        allow 1 serve,call **
        allow 2 call acme.svc,acme.low
        allow 3 serve,call acme.svc
        allow 3 serve acme.low
        svc joins uid=3
        ann joins uid=2
        bob joins uid=1
        svc serves acme.svc as s              -> svc served s epoch=1
        svc serves acme.low as l              -> svc served l epoch=2
        svc opens acme.low as o               -> svc opening Denied
        ann opens acme.svc as h               -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        svc opens acme.low behalf=r1 as o     -> svc opened o call epoch=2
        svc opens acme.other behalf=r1        -> svc opening Denied
        bob opens acme.low behalf=r1          -> bob opening Invalid ~serving
        svc calls o n1                        -> svc gets r2 on l from svc
        svc replies r2                        -> svc n1 Reply epoch=2
        svc replies r1                        -> ann c1 Reply
        svc calls o n2                        -> svc gets r3 on l from svc
        svc opens acme.low behalf=r1          -> svc opening Invalid
        ann leaves                            -> svc n2 HandleRevoked; svc cancel r3 HandleRevoked; svc revoked o; forget ann
        "#,
    );
}

#[test]
fn opening_is_refused_for_what_makes_no_sense() {
    check(
        r#"
        ann opens Acme                        -> ann opening Invalid
        ann opens acme.x kind=9               -> ann opening Unsupported ~kind 9
        ann opens acme.x rights=none          -> ann opening Invalid
        ann opens acme.x rights=undefined     -> ann opening Invalid
        ann closes #5                         -> ann closes Invalid
        ann asks names                        -> ann told names=0
        "#,
    );
}

#[test]
fn a_server_may_end_with_a_handle_on_itself_in_a_callers_hands() {
    check(
        r#"
        svc serves acme.svc as s              -> svc served s epoch=1
        ann opens acme.svc as h rights=call+delegate -> ann opened h call+delegate epoch=1
        ann calls h c1 handles=h:call:scoped  -> svc gets r1 on s from ann +g1:call
        ann closes h                          -> ann done
        svc closes s                          -> ann c1 Abandoned; svc done; svc revoked g1
        ann asks names                        -> ann told names=0
        "#,
    );
}

#[test]
fn a_long_chain_of_scoped_handles_is_taken_down_in_bounded_space() {
    // Each call carries the handle through which the next is made, all to oneself: ending the first
    // ends all of them. A broker that did so by recursion would run out of stack.
    let mut script = String::from(
        "limit user.calls_open=60000 user.handles=60000\n\
         svc serves acme.x calls=60000 as s -> svc served s epoch=1\n\
         svc opens acme.x as g0 rights=call+delegate -> svc opened g0 call+delegate epoch=1\n",
    );
    for link in 1..=3000 {
        script.push_str(&format!(
            "svc calls g{} c{link} handles=g0:call+delegate:scoped -> svc gets r{link} on s from svc +g{link}:call+delegate\n",
            link - 1
        ));
    }
    script.push_str("svc replies r1 -> svc c1 Reply; ...\n");
    script.push_str("svc asks calls_open -> svc told calls_open=0\n");
    script.push_str("svc asks handles -> svc told handles=2\n");
    crate::script::check_quickly(&script);
}
