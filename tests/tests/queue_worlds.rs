//! Queues over failing disks, in worlds by the hundred. `SWITCHBOARD_SEEDS=N` runs as many;
//! `SWITCHBOARD_SEED=S` runs one alone.

use switchboard_core::Reads;
use switchboard_tests::queue_worlds::{Bug, SHADOW, Summary, run, run_shadowed};
use switchboard_tests::shadow::Shadow;

const SEEDS: u64 = 300;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_consumed_comes_back() {
    let seeds = match number("SWITCHBOARD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SWITCHBOARD_SEEDS").unwrap_or(SEEDS),
    };
    let worlds = seeds.end - seeds.start;
    let mut sum = Summary::default();
    for seed in seeds {
        let it = run(seed, None).unwrap_or_else(|message| {
            panic!("seed {seed}: {message}\n\nTo run it again:\n  SWITCHBOARD_SEED={seed} cargo test -p switchboard-tests --test queue_worlds")
        });
        sum.inputs += it.inputs;
        sum.pushed += it.pushed;
        sum.delivered += it.delivered;
        sum.acked += it.acked;
        sum.crashes += it.crashes;
        sum.blackouts += it.blackouts;
        sum.failures += it.failures;
        sum.dead += it.dead;
        sum.retained += it.retained;
        sum.looks += it.looks;
    }
    println!("{worlds} worlds: {sum:?}");
    // A simulation in which nothing happens proves nothing.
    if 100 <= worlds {
        assert!(
            40 * worlds < sum.pushed && 40 * worlds < sum.delivered && 3 * worlds < sum.acked,
            "too quiet"
        );
        assert!(5 * worlds < sum.retained && 5 * worlds < sum.looks, "too little is published");
        assert!(worlds < sum.crashes && worlds / 10 < sum.failures && worlds / 4 < sum.dead, "too peaceful");
    }
}

#[test]
fn a_broker_that_is_told_what_a_recording_has_does_the_same() {
    for seed in 0..60 {
        // What else may be wrong with a world is the first test's to say.
        match run_shadowed(seed, Shadow::new(3 + seed % 40)) {
            Err(message) if message.starts_with(SHADOW) => panic!("seed {seed}: {message}"),
            _ => {}
        }
    }
}

#[test]
fn where_the_messages_of_a_batch_begin_is_missed() {
    // All but batches is told whole.
    let reads = |core: &_, header: &_| match switchboard_core::Broker::reads_payload(core, header) {
        Reads::Parts => Reads::Head,
        reads @ (Reads::Head | Reads::All) => reads,
    };
    let missed = |seed| run_shadowed(seed, Shadow::told(40, reads)).is_err_and(|why| why.starts_with(SHADOW));
    assert!((0..50).any(missed));
}

fn is_seen(bug: Bug) {
    let seen = (0..400).find(|&seed| run(seed, Some(bug)).is_err());
    println!("{bug:?}: seen at seed {seen:?}");
    assert!(seen.is_some(), "{bug:?} was planted and nobody saw it");
}

#[test]
fn what_is_said_to_be_synced_too_early_is_seen() {
    is_seen(Bug::SyncedEarly);
}

#[test]
fn a_failed_sync_that_is_ignored_is_seen() {
    is_seen(Bug::SyncFailureIgnored);
}

#[test]
fn a_record_that_recovery_skips_is_seen() {
    is_seen(Bug::RecordLost);
}

#[test]
fn an_ack_that_does_not_arrive_is_seen() {
    is_seen(Bug::AckDropped);
}

#[test]
fn messages_out_of_order_are_seen() {
    is_seen(Bug::OrderSwapped);
}

#[test]
fn a_message_given_to_two_is_seen() {
    is_seen(Bug::DeliveredTwice);
}

#[test]
fn a_retained_message_that_recovery_skips_is_seen() {
    is_seen(Bug::RetainedLost);
}

#[test]
fn an_older_message_written_in_the_place_of_a_retained_one_is_seen() {
    is_seen(Bug::RetainedStale);
}

#[test]
fn what_is_no_longer_retained_and_stays_in_the_log_is_seen() {
    is_seen(Bug::RetainedForever);
}
