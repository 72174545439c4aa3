//! Wall clocks that somebody sets: only timestamps are measured on them, so nobody may lose a session by that for longer than
//! they are wrong (RFC 5213 §5.5).

use std::time::Duration;

use flow::HandoffIndicator;
use pmip_proto::lma::BceState;
use pmip_proto::{LmaEvent, MagConfig};

use crate::world::{World, lma_config, mag_config, mn};

const S: fn(u64) -> Duration = Duration::from_secs;

/// A world with one session, 10 s old; it is granted for 40.
fn world() -> World {
    let config = MagConfig {
        lifetime: S(40),
        refused_retry: S(5),
        ..mag_config(0)
    };
    let mut world = World::new(1, lma_config(), [config]);
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run(S(10));
    world
}

#[track_caller]
fn has_lived_on(world: &World, clocks: (i64, i64)) {
    let is_over = |event: &LmaEvent| matches!(event, LmaEvent::BindingDeleted { .. });
    assert!(!world.lma_events.iter().any(is_over), "{clocks:?}");
    let mut bindings = world.lma.bindings();
    let (_, session) = bindings.next().expect("a session");
    assert_eq!(session.state, BceState::Active, "{clocks:?}");
    assert_eq!(world.mags[0].bul().count(), 1, "{clocks:?}");
}

#[test]
fn a_clock_that_was_wrong_for_a_while_costs_no_session() {
    for clocks in [
        (0, 3600),
        (0, -3600),
        (3600, 0),
        (-3600, 0),
        // Both by the same server: what is accepted then has a time that is still to come.
        (3600, 3600),
        (-3600, -3600),
    ] {
        let mut world = world();
        let (lma, mag) = clocks;
        world.wrong = (lma, [mag; 3]);
        // Longer than it takes until the session is to be refreshed, and shorter than it lasts.
        world.run(S(25));
        world.wrong = Default::default();
        world.run(S(300));
        has_lived_on(&world, clocks);
    }
}

#[test]
fn clocks_that_are_wrong_together_cost_no_session_either() {
    for wrong in [-86_400, 86_400] {
        let mut world = world();
        world.wrong = (wrong, [wrong; 3]);
        world.run(S(300));
        has_lived_on(&world, (wrong, wrong));
    }
}

/// What a MAG has said of an interface before its session ended, or was revoked, is no later than what it says after its clock and the
/// LMA's were put right.
#[test]
fn who_attaches_anew_after_clocks_were_put_right_is_let_in() {
    for clocks in [(3600, 3600), (-3600, -3600)] {
        let mut world = world();
        let (lma, mag) = clocks;
        world.wrong = (lma, [mag; 3]);
        world.run(S(25));
        world.detach(&mn(1), 0);
        world.wrong = Default::default();
        world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
        world.run(S(1));
        has_lived_on(&world, clocks);
    }
}
