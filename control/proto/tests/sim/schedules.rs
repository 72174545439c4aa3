//! Thousands of random schedules of attachments, flow moves and restarts in bad weather.

use std::time::Duration;

use flow::HandoffIndicator;
use pmip_proto::{Dialect, LmaConfig, PrefixModel};

use crate::seeds::for_seeds;
use crate::world::{Dice, Weather, World, bid, lma_config, mag_config, mn, pool, speak, udp};

fn random_config(dice: &mut Dice) -> LmaConfig {
    LmaConfig {
        // Few prefixes, so that they change hands.
        pools: vec![pool("2001:db8:1000::/60")],
        prefix_model: dice.pick(&[
            PrefixModel::Unique,
            PrefixModel::Unique,
            PrefixModel::Shared,
            PrefixModel::Hybrid,
        ]),
        signal_hosted: dice.chance(60),
        flow_lifetime: dice.pick(&[0xffff, 0xffff, 20]),
        drain: Duration::from_millis(dice.pick(&[0, 100, 1000])),
        fmi_window: dice.pick(&[4096, 1]),
        max_lifetime: Duration::from_secs(40),
        resync_interval: Duration::from_secs(10),
        ..lma_config()
    }
}

fn build(seed: u64, weather: impl FnOnce(&mut Dice) -> Weather) -> World {
    let mut dice = Dice(seed ^ 0x5eed);
    let mut config = random_config(&mut dice);
    let mags = [0, 1].map(|mag| {
        let mut mag = mag_config(mag);
        mag.lifetime = Duration::from_secs(40);
        mag.refused_retry = Duration::from_secs(5);
        let dialect = dice.pick(&[Dialect::Draft, Dialect::Rfc7864]);
        speak(&mut config, &mut mag, dialect);
        mag
    });
    let mut world = World::new(seed, config, mags);
    world.weather = weather(&mut dice);
    world
}

/// One thing that a mobile or an operator does.
fn act(world: &mut World, flows_only: bool) {
    let mn_id = mn(world.dice.below(3));
    let interface = u8::try_from(world.dice.below(2)).unwrap();
    let to = bid(u16::try_from(1 + world.dice.below(2)).unwrap());
    world.kill_sometimes();
    world.set_clocks_sometimes();
    match world.dice.below(if flows_only { 8 } else { 16 }) {
        0..=1 => {
            let view = world.lma.binding(&mn_id);
            let hnps: Vec<_> = view
                .iter()
                .flat_map(|v| v.sessions)
                .flat_map(|s| s.hnps.clone())
                .collect();
            let port = u16::try_from(5000 + world.dice.below(6)).unwrap();
            let any = hnps.is_empty() || world.dice.chance(20);
            let hnp = if any {
                None
            } else {
                Some(world.dice.pick(&hnps))
            };
            world.add_flow(&mn_id, udp(hnp, port), to);
        }
        action @ 2..=7 => {
            let flows: Vec<_> = world
                .lma
                .binding(&mn_id)
                .map(|v| v.flows.iter().map(|f| f.fid).collect())
                .unwrap_or_default();
            if !flows.is_empty() {
                let fid = world.dice.pick(&flows);
                if action == 7 {
                    world.delete_flow(&mn_id, fid);
                } else {
                    world.move_flow(&mn_id, fid, to);
                }
            }
        }
        8..=11 => {
            let handoff = world.dice.pick(&[
                HandoffIndicator::NEW_INTERFACE,
                HandoffIndicator::UNKNOWN,
                HandoffIndicator::SHARING_PREFIXES,
            ]);
            if !world.attached.contains_key(&(mn_id.clone(), interface)) {
                world.attach(&mn_id, interface, interface.into(), handoff);
            }
        }
        12..=13 => world.detach(&mn_id, interface),
        14 => {
            // The interface goes over to the other MAG.
            if let Some(mag) = world.attached.get(&(mn_id.clone(), interface)).copied() {
                world.detach(&mn_id, interface);
                world.attach(&mn_id, interface, 1 - mag, HandoffIndicator::BETWEEN_MAGS);
            }
        }
        _ => {
            let mag = usize::from(interface);
            world.restart(mag);
        }
    }
}

/// Lets the weather clear, sets the clocks, and lets everything end that has begun.
fn settle(world: &mut World) {
    world.weather = Weather::FAIR;
    world.wrong = Default::default();
    world.run(Duration::from_secs(150));
    world.run_to_quiet();
    world.check_agreement();
}

#[test]
fn whatever_happens_the_tables_agree_in_the_end() {
    for_seeds(1500, |seed| {
        let mut world = build(seed, |dice| Weather {
            loss: dice.pick(&[0, 5, 20, 40]),
            repeat: dice.pick(&[0, 10, 30]),
            slow: dice.pick(&[0, 10, 30]),
            delay: dice.pick(&[2, 50, 200]),
            slow_delay: dice.pick(&[1000, 4000]),
        });
        for _ in 0..40 {
            act(&mut world, false);
            let pause = world.dice.pick(&[0, 0, 5, 100, 1000, 5000]);
            world.run_ms(pause);
        }
        settle(&mut world);
    });
}

/// While all mobiles stay where they are, an acknowledged flow is not only believed in: whatever is
/// lost or late, the MAG that gets its packets has a route for them.
#[test]
fn no_packet_meets_a_missing_route() {
    for_seeds(500, |seed| {
        let mut world = build(seed, |_| Weather::FAIR);
        for n in 0..3 {
            for interface in 0..2 {
                world.attach(
                    &mn(n),
                    interface,
                    interface.into(),
                    HandoffIndicator::NEW_INTERFACE,
                );
                world.run_ms(100);
            }
        }
        world.weather = Weather {
            loss: world.dice.pick(&[0, 10, 40]),
            repeat: world.dice.pick(&[0, 30]),
            slow: 20,
            delay: 50,
            slow_delay: 4000,
        };
        // Registrations must hold; only flow signalling suffers.
        world.lose = Box::new(|_| false);
        for _ in 0..40 {
            act(&mut world, true);
            for _ in 0..world.dice.below(6) {
                world.run_ms(100);
                for (hnp, binding) in &world.lma_tables.bindings {
                    for port in 5000..5006 {
                        let mag = world.mag_of(*hnp, port);
                        let routed =
                            mag.is_some_and(|m| world.mag_tables[m].bindings.contains_key(hnp));
                        assert!(routed, "{hnp} port {port} to {mag:?} of {binding:?}");
                    }
                }
            }
        }
        settle(&mut world);
    });
}

#[test]
fn the_same_seed_gives_the_same_messages() {
    let run = || {
        let mut world = build(7, |_| Weather {
            loss: 20,
            repeat: 20,
            slow: 20,
            delay: 50,
            slow_delay: 2000,
        });
        for _ in 0..40 {
            act(&mut world, false);
            world.run_ms(500);
        }
        format!("{:?}", world.log)
    };
    assert_eq!(run(), run());
}
