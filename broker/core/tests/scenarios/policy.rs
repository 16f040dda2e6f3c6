//! Who may do what: by the kernel's identity, default deny, no exemption for root (DESIGN 6).

use crate::script::check;

#[test]
fn nothing_is_allowed_unless_a_rule_does() {
    check(
        r#"
        allow 1 serve,call acme.**
        one joins uid=1
        two joins uid=2
        root joins uid=0 gid=0
        one serves acme.x as s                -> one served s epoch=1
        one serves other.x                    -> one serving Denied ~user 1 may not serve `other.x`
        two opens acme.x                      -> two opening Denied ~policy explain --user 2 call acme.x
        root opens acme.x                     -> root opening Denied
        root serves acme.y                    -> root serving Denied
        root awaits acme.x w                  -> root w Denied
        "#,
    );
}

#[test]
fn rules_match_users_groups_and_labels_and_all_that_is_given_must_match() {
    check(
        r#"
        allow 1 serve **
        allow group:50 call acme.group
        allow label:web call acme.label
        allow 7+group:50 call acme.both
        allow anyone call acme.anyone
        svc joins uid=1
        svc serves acme.group                 -> svc served - epoch=1
        prime joins uid=5 gid=50
        extra joins uid=6 gid=6 groups=9,50
        web joins uid=6 gid=6 label=web
        both joins uid=7 gid=50
        half joins uid=7 gid=7
        prime opens acme.group as a           -> prime opened a call epoch=1
        extra opens acme.group as a           -> extra opened a call epoch=1
        web opens acme.group                  -> web opening Denied
        web opens acme.label as a             -> web opened a call epoch=0
        prime opens acme.label                -> prime opening Denied
        both opens acme.both as a             -> both opened a call epoch=0
        half opens acme.both                  -> half opening Denied
        half opens acme.anyone as a           -> half opened a call epoch=0
        "#,
    );
}

#[test]
fn who_the_kernel_cannot_name_matches_no_rule() {
    check(
        r#"
        allow anyone call,serve **
        allow 65534 call,serve **
        lost joins uid=65534
        far joins uid=5 pid=0
        lost opens acme.x                     -> lost opening Denied
        far opens acme.x                      -> far opening Denied
        far explains call acme.x              -> far explained allowed=false priority=4 ~cannot say who
        "#,
    );
}

#[test]
fn the_priority_of_a_call_is_capped_by_policy() {
    check(
        r#"
        allow 1 serve,call ** priority=6
        allow 2 call **
        one joins uid=1
        two joins uid=2
        one serves acme.x as s                -> one served s epoch=1
        one opens acme.x as h1                -> one opened h1 call epoch=1
        two opens acme.x as h2                -> two opened h2 call epoch=1
        one calls h1 c1 priority=7            -> one gets r1 on s from one priority=6
        two calls h2 c1 priority=7            -> one gets r2 on s from two priority=4
        two sends h2 priority=7               -> one receives on s from two priority=4
        "#,
    );
}

#[test]
fn explain_says_which_rule_decides() {
    check(
        r#"
        allow 1 call acme.** priority=6
        allow 1 admin switchboard
        allow group:50 call other.x
        one joins uid=1
        two joins uid=2
        one explains call acme.x              -> one explained allowed=true priority=6 ~test.toml:1
        one explains serve acme.x             -> one explained allowed=false priority=6 ~nothing is allowed unless
        one explains serve switchboard.x      -> one explained allowed=false priority=6 ~broker's own
        one explains call acme.x uid=2        -> one explained allowed=false priority=4
        one explains call other.x uid=9 group=50 -> one explained allowed=true priority=4 ~test.toml:3
        one explains fly acme.x               -> one explanation Invalid
        two explains call acme.x uid=1        -> two explanation Denied
        two explains call acme.x              -> two explained allowed=false priority=4
        "#,
    );
}

#[test]
fn a_reload_takes_rights_away_and_ends_the_calls_through_them() {
    check(
        r#"
        allow 1 serve,call **
        allow 2 call,delegate acme.x
        allow 2 call acme.y
        allow 1 admin switchboard
        one joins uid=1
        two joins uid=2
        one serves acme.x calls=1 as s        -> one served s epoch=1
        one serves acme.y as t                -> one served t epoch=2
        two opens acme.x as h rights=call+delegate -> two opened h call+delegate epoch=1
        two opens acme.y as k                 -> two opened k call epoch=2
        two calls h c1                        -> one gets r1 on s from two
        two calls h c2
        two calls k c4                        -> one gets r2 on t from two
        two calls h c5 priority=1
        one calls s c6                        -> one c6 Denied
        forbid
        allow 1 serve,call **
        allow 1 admin switchboard
        allow 2 call acme.y
        one reloads c                         -> reload
        reloaded                              -> one c reloaded test.toml
            ; two c1 Denied ~reload; one cancel r1 Denied; two c2 Denied; two c5 Denied; two revoked h
        two calls h c7                        -> two c7 HandleRevoked
        one replies r2                        -> two c4 Reply epoch=2
        two calls k c8                        -> one gets r3 on t from two
        "#,
    );
}

#[test]
fn a_reload_takes_names_and_passed_handles_away_too() {
    check(
        r#"
        allow 1 serve,call **
        allow 2 serve acme.x
        allow 3 call,delegate acme.x
        allow 3 call acme.y
        one joins uid=1
        two joins uid=2
        six joins uid=3
        two serves acme.x as s                -> two served s epoch=1
        one serves acme.x as b                -> one stands by b place=1
        one serves acme.y as y                -> one served y epoch=2
        six opens acme.x as x rights=call+delegate -> six opened x call+delegate epoch=1
        six opens acme.y as h                 -> six opened h call epoch=2
        six calls h c1 handles=x:call         -> one gets r1 on y from six +g1:call
        six calls x c2                        -> two gets r2 on s from six
        forbid
        allow 1 serve,call **
        allow 3 call acme.y
        reloaded                              -> two revoked s; six c2 Abandoned; one gained b epoch=3
            ; six revoked x; one revoked g1
        "#,
    );
}

#[test]
fn a_wrong_configuration_leaves_the_old_one_in_force() {
    check(
        r#"
        allow 1 call,serve **
        allow 1 admin switchboard
        show log
        one connects uid=1                    -> resume one
        one greets                            -> one welcome version=1 features=0 calls=4096 priority=4; log: connected one (user 1)
        one reloads c                         -> reload
        misconfigured                         -> log: reload failed ~test.toml; log: refused one Invalid; one c Invalid ~test.toml
        one opens acme.x as h                 -> one opened h call epoch=0
        "#,
    );
}

#[test]
fn the_brokers_own_operations_need_the_right_on_the_broker() {
    check(
        r#"
        allow 1 call,serve **
        allow 2 admin switchboard
        one joins uid=1
        two joins uid=2
        one reloads c                         -> one c Denied
        one asks stats                        -> one stats Denied
        one asks waits                        -> one waits Denied
        two asks waits                        -> two told waits  cycles=
        two asks stats                        -> two told stats one:0+0,two:0+0
        two reloads c                         -> reload
        two reloads d                         -> reload
        two cancels c                         -> two c Cancelled
        reloaded                              -> two d reloaded test.toml
        "#,
    );
}
