//! Whether a mobile is still there: it is asked before its registration is extended (RFC 5213 §6.9.4,
//! §6.13).

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{HandoffIndicator, MacAddr, PortId};
use pmip_proto::mag::BuleState;
use pmip_proto::{MagEvent, Probe};
use pmip_wire::Message;

use crate::world::{World, attachment, lma_config, mac, mag_config, mn};

const OWN: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 5);

fn attached(probe: bool) -> World {
    let mut config = mag_config(0);
    config.probe = probe;
    let mut world = World::new(1, lma_config(), [config, mag_config(1)]);
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    world.log.clear();
    world
}

fn show(world: &mut World, address: Ipv6Addr) {
    let now = world.now();
    world.mags[0].handle_sign_of_life(now, PortId(0), mac(&mn(1), 0), address);
    world.drain();
}

/// PBUs sent since the log was cleared: whether each ends the session.
fn pbus(world: &World) -> Vec<bool> {
    let pbus = world.log.iter().filter_map(|sent| match &sent.message {
        Message::Pbu(pbu) => Some(pbu.lifetime.is_zero()),
        _ => None,
    });
    pbus.collect()
}

#[test]
fn a_mobile_that_answers_is_refreshed() {
    let mut world = attached(true);
    show(&mut world, OWN);
    // A link-local address is kept, whatever else is shown.
    show(&mut world, "2001:db8::5".parse().unwrap());
    world.run_ms(150_000);
    assert_eq!(pbus(&world), [false; 0]);
    let expected = Probe {
        port: PortId(0),
        mac: mac(&mn(1), 0),
        source: MacAddr::MAG.link_local(),
        target: OWN,
    };
    assert_eq!(world.probes.pop_front(), Some(expected));
    show(&mut world, OWN);
    assert_eq!(pbus(&world), [false]);
    world.run_ms(5000);
    assert_eq!(world.probes.pop_front(), None);
    assert_eq!(world.mags[0].bul().next().unwrap().state, BuleState::Active);
    assert!(world.mags[0].bul().next().unwrap().expires > world.clock + Duration::from_secs(290));
}

#[test]
fn a_mobile_that_does_not_answer_is_deregistered() {
    let mut world = attached(true);
    show(&mut world, OWN);
    world.run_ms(152_000);
    let probes = world.probes.drain(..);
    assert_eq!(probes.count(), 3, "a second apart");
    assert_eq!(pbus(&world), [false; 0]);
    world.run_ms(2000);
    assert_eq!(pbus(&world), [true]);
    let vanished = MagEvent::Vanished { mn_id: mn(1) };
    assert!(world.mag_events.contains(&vanished));
    assert_eq!(
        (world.mags[0].bul().count(), world.mags[0].routes().count()),
        (0, 0)
    );
    world.run_ms(20_000);
    assert_eq!(world.lma.bindings().count(), 0);
    // A late answer is nobody's.
    show(&mut world, OWN);
    assert_eq!(pbus(&world), [true]);
}

#[test]
fn who_was_heard_of_a_moment_ago_or_cannot_be_asked_is_not() {
    // Heard of at 149 s.
    let mut world = attached(true);
    world.run_ms(149_000);
    show(&mut world, OWN);
    world.run_ms(5000);
    assert_eq!((pbus(&world).len(), world.probes.pop_front()), (1, None));
    // No address is known, or one that is none.
    let mut world = attached(true);
    for nobody in ["::", "ff02::1", "::1"] {
        show(&mut world, nobody.parse().unwrap());
    }
    world.run_ms(155_000);
    assert_eq!((pbus(&world).len(), world.probes.pop_front()), (1, None));
    // Link events alone tell.
    let mut world = attached(false);
    show(&mut world, OWN);
    world.run_ms(155_000);
    assert_eq!((pbus(&world).len(), world.probes.pop_front()), (1, None));
}

/// Copies of a PBU that the LMA does not answer are for mobiles that are there.
#[test]
fn an_unanswered_pbu_is_not_repeated_for_nobody() {
    let mut world = World::plain();
    world.lose = Box::new(|_| true);
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    show(&mut world, OWN);
    world.run_ms(29_000);
    assert_eq!(pbus(&world).len(), 5, "at 0, 1, 3, 7, 15 s");
    world.run_ms(5000);
    // The next would have been at 31 s.
    assert!(pbus(&world).last().is_some_and(|ends| *ends));
    assert_eq!(pbus(&world).iter().filter(|ends| !**ends).count(), 5);
    world.run_ms(60_000);
    assert_eq!(world.mags[0].bul().count(), 0);
}

/// A mobile that moved on is not believed to be here by what it said before.
#[test]
fn a_mobile_that_appears_again_is_asked_anew() {
    let mut world = attached(true);
    show(&mut world, OWN);
    world.run_ms(151_500);
    assert!(world.probes.pop_front().is_some());
    let now = world.now();
    let again = attachment(&mn(1), 0, HandoffIndicator::UNKNOWN);
    world.mags[0].attach(now, again).unwrap();
    world.drain();
    world.run_ms(10_000);
    assert_eq!(world.mags[0].bul().next().unwrap().state, BuleState::Active);
    assert_eq!(pbus(&world), [false]);
}
