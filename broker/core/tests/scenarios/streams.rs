//! Streamed replies: items in order, within the credit of who reads them (SPEC 4.11 and 5.8).

use crate::script::check;

#[test]
fn items_come_in_order_and_then_the_outcome() {
    check(
        r#"
        svc serves acme.x as s                -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1 streamed               -> svc gets r1 on s from ann streamed
        ann credits c1 3                      -> svc credit r1 3
        svc streams r1 "a"                    -> ann c1 item 1 "a"
        svc streams r1 "b"                    -> ann c1 item 2 "b"
        svc replies r1 "end"                  -> ann c1 Reply "end"
        svc streams r1 "late"
        svc asks answers_late                 -> svc told answers_late=1
        "#,
    );
}

#[test]
fn an_item_without_credit_ends_the_call() {
    check(
        r#"
        svc serves acme.x as s                -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1 streamed               -> svc gets r1 on s from ann streamed
        ann credits c1 1                      -> svc credit r1 1
        svc streams r1 "a"                    -> ann c1 item 1 "a"
        svc streams r1 "b"                    -> ann c1 Failed ~SPEC 5.8; svc cancel r1 Failed
        svc streams r1 "c"
        svc replies r1
        "#,
    );
    check(
        r#"
        svc serves acme.x as s                -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann credits c1 5
        svc streams r1 "a"                    -> ann c1 Failed ~SPEC 5.8; svc cancel r1 Failed
        "#,
    );
}

#[test]
fn credit_given_before_the_call_was_delivered_comes_along() {
    check(
        r#"
        svc serves acme.x calls=1 as s        -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1                        -> svc gets r1 on s from ann
        ann calls h c2 streamed
        ann credits c2 2
        ann credits c2 3
        svc replies r1                        -> ann c1 Reply; svc gets r2 on s from ann streamed; svc credit r2 5
        "#,
    );
}

#[test]
fn a_stream_may_be_cancelled() {
    check(
        r#"
        svc serves acme.x as s                -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1 streamed               -> svc gets r1 on s from ann streamed
        ann credits c1 9                      -> svc credit r1 9
        svc streams r1 "a"                    -> ann c1 item 1 "a"
        ann cancels c1                        -> ann c1 Cancelled; svc cancel r1 Cancelled
        svc streams r1 "b"
        svc replies r1
        "#,
    );
}

#[test]
fn credit_for_a_server_that_does_not_read_is_told_at_once_when_it_does() {
    check(
        r#"
        limit link_bytes_low=0 link_bytes_high=300
        svc serves acme.x as s                -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        svc stops
        ann calls h c1 streamed bytes=320     -> svc gets r1 on s from ann streamed [320 bytes]; pause svc
        ann credits c1 1
        ann credits c1 2
        ann credits c1 0
        svc reads                             -> resume svc; svc credit r1 3
        ann credits c1 4                      -> svc credit r1 4
        "#,
    );
}

#[test]
fn who_does_not_read_items_gets_no_more_of_them_and_everything_else() {
    check(
        r#"
        limit link_bytes_low=0 link_bytes_high=500 link_bytes_max=1000 link_bytes_reserved=1000
        svc serves acme.x as s                -> svc served s epoch=1
        ann opens acme.x as h                 -> ann opened h call epoch=1
        ann calls h c1 streamed               -> svc gets r1 on s from ann streamed
        ann calls h c2                        -> svc gets r2 on s from ann
        ann calls h c3                        -> svc gets r3 on s from ann
        ann credits c1 99                     -> svc credit r1 99
        ann stops
        svc streams r1 bytes=400              -> ann c1 item 1 [400 bytes]
        svc streams r1 bytes=400              -> ann c1 item 2 [400 bytes]; pause ann
        svc streams r1 bytes=400              -> ann c1 TooLarge ~limits.link_bytes_max; svc cancel r1 TooLarge
        svc replies r2 bytes=900              -> ann c2 TooLarge ~limits.link_bytes_max
        svc leaves                            -> ann c3 PeerDied; forget svc
        ann reads                             -> resume ann
        "#,
    );
}

#[test]
fn who_does_not_even_read_outcomes_is_closed() {
    check(
        r#"
        limit link_bytes_low=0 link_bytes_high=200 link_bytes_max=200 link_bytes_reserved=100
        ann opens acme.x as h                 -> ann opened h call epoch=0
        ann stops
        ann calls h c1                        -> ann c1 NoOwner
        ann calls h c2                        -> ann c2 NoOwner
        ann calls h c3                        -> ann c3 NoOwner; pause ann
        ann calls h c4                        -> ann c4 NoOwner; ann goodbye NotReading; close ann
        ann leaves                            -> forget ann
        "#,
    );
}
