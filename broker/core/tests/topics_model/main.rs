//! Topics against a model of them: random publishers and subscribers, and everything that a subscriber
//! is given held against what it must be given. The model knows each publication from two subscriptions
//! that always come first, and plays each subscription's queue as a plain list. Then the same with bugs
//! planted between the broker and the model, each of which must be seen.

mod model;
#[path = "../../../../tests/src/shadow.rs"]
#[allow(dead_code, reason = "it has more uses elsewhere")]
#[allow(unreachable_pub, reason = "it is public where it belongs")]
mod shadow;
mod world;

use shadow::Shadow;
use world::{Plant, World};

const STEPS: u32 = 400;

#[test]
fn every_subscriber_gets_every_message_once_in_order_or_is_told_of_its_loss() {
    for seed in 0..150 {
        if let Err(why) = World::new(seed, None).run(STEPS) {
            panic!("seed {seed}: {why}");
        }
    }
}

#[test]
fn a_broker_that_is_told_what_a_recording_has_does_the_same() {
    for seed in 0..60 {
        let world = World::new(seed, None).shadowed(Shadow::new(3 + seed % 40));
        if let Err(why) = world.run(STEPS) {
            panic!("seed {seed}: {why}");
        }
    }
}

#[test]
fn every_planted_bug_is_seen() {
    for plant in Plant::ALL {
        let seen = (0..40).find_map(|seed| World::new(seed, Some(plant)).run(STEPS).err());
        assert!(seen.is_some(), "{plant:?} went unseen");
    }
}
