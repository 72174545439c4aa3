//! Random schedules of handoffs between three MAGs, with flows on the sessions: by every handoff
//! indicator, with the old MAG heard of before or after the new one or not at all, with timestamps,
//! sequence numbers or both, one prefix a session or several, of any length.

use std::collections::BTreeSet;
use std::time::Duration;

use flow::HandoffIndicator;
use pmip_proto::{Dialect, LmaConfig, PrefixModel, PrefixPool};

use crate::seeds::for_seeds;
use crate::world::{Dice, Weather, World, bid, hnp, lma_config, mag_config, mn, speak, udp};

/// Mobiles, and interfaces of each.
const MOBILES: u64 = 3;
const INTERFACES: u64 = 3;

fn random_config(dice: &mut Dice) -> LmaConfig {
    let (range, len) = dice.pick(&[
        ("2001:db8:1000::/59", 64),
        ("2001:db8:1000::/51", 56),
        ("2001:db8:1000::/64", 69),
    ]);
    let rest = Duration::from_secs(2);
    LmaConfig {
        // Few prefixes, so that they change hands.
        pools: vec![PrefixPool::new(hnp(range), len, rest).unwrap()],
        prefixes_per_session: dice.pick(&[1, 1, 2, 3]),
        prefix_model: dice.pick(&[
            PrefixModel::Unique,
            PrefixModel::Unique,
            PrefixModel::Shared,
            PrefixModel::Hybrid,
        ]),
        max_delay_before_new_bce_assign: dice.pick(&[None, Some(Duration::from_millis(1500))]),
        min_delay_before_bce_delete: Duration::from_secs(dice.pick(&[0, 2, 10])),
        signal_hosted: dice.chance(60),
        flow_lifetime: dice.pick(&[0xffff, 20]),
        drain: Duration::from_millis(dice.pick(&[0, 100, 1000])),
        max_lifetime: Duration::from_secs(40),
        resync_interval: Duration::from_secs(10),
        ..lma_config()
    }
}

fn build(seed: u64) -> World {
    let mut dice = Dice(seed ^ 0x0a37);
    let mut config = random_config(&mut dice);
    let timestamps = dice.pick(&[[true; 3], [true; 3], [false; 3], [true, false, true]]);
    let mut mags = [0, 1, 2].map(|mag| {
        let mut config = mag_config(mag);
        config.lifetime = Duration::from_secs(40);
        config.refused_retry = Duration::from_secs(5);
        config.timestamps = timestamps[mag];
        config
    });
    for mag in &mut mags {
        let dialect = dice.pick(&[Dialect::Draft, Dialect::Draft, Dialect::Rfc7864]);
        speak(&mut config, mag, dialect);
    }
    let mut world = World::new(seed, config, mags);
    world.weather = Weather {
        loss: dice.pick(&[0, 5, 20]),
        repeat: dice.pick(&[0, 10, 30]),
        slow: dice.pick(&[0, 10, 30]),
        delay: dice.pick(&[2, 50, 200]),
        slow_delay: dice.pick(&[1000, 4000]),
    };
    world
}

fn small(dice: &mut Dice, n: u64) -> u8 {
    u8::try_from(dice.below(n)).unwrap()
}

/// An interface goes to another MAG, or another interface takes its session over.
fn hand_off(world: &mut World) {
    let all: Vec<_> = world
        .attached
        .iter()
        .map(|((m, i), at)| (m.clone(), *i, *at))
        .collect();
    if all.is_empty() {
        return;
    }
    let pick = usize::try_from(world.dice.below(all.len() as u64)).unwrap();
    let (mn_id, interface, from) = all[pick].clone();
    let to = (from + 1 + usize::from(small(&mut world.dice, 2))) % 3;
    let changes = world.dice.chance(25);
    let target = if changes {
        (interface + 1 + small(&mut world.dice, 2)) % 3
    } else {
        interface
    };
    if changes && world.attached.contains_key(&(mn_id.clone(), target)) {
        return;
    }
    let handoff = if changes {
        world.dice.pick(&[
            HandoffIndicator::BETWEEN_INTERFACES,
            HandoffIndicator::UNKNOWN,
        ])
    } else {
        world.dice.pick(&[
            HandoffIndicator::BETWEEN_MAGS,
            HandoffIndicator::UNKNOWN,
            HandoffIndicator::NEW_INTERFACE,
        ])
    };
    // Some MAGs know the prefixes, from a policy store or from each other.
    let known = world.mags[from].bul().find(|b| {
        b.attachment.mn_id == mn_id && b.attachment.mac == crate::world::mac(&mn_id, interface)
    });
    let known = known.map(|b| b.hnps.clone()).unwrap_or_default();
    let wanted = if world.dice.chance(40) {
        known
    } else {
        Vec::new()
    };
    let pause = world.dice.pick(&[0, 20, 500, 2000, 9000]);
    match world.dice.below(3) {
        0 => {
            world.leave(&mn_id, interface, from);
            world.run_ms(pause);
            world.attach_with(&mn_id, target, to, handoff, wanted);
        }
        1 => {
            world.attach_with(&mn_id, target, to, handoff, wanted);
            world.run_ms(pause);
            world.leave(&mn_id, interface, from);
        }
        _ => {
            // The de-registration may be overtaken, or lost with its copies.
            world.leave(&mn_id, interface, from);
            world.attach_with(&mn_id, target, to, handoff, wanted);
        }
    }
}

fn act(world: &mut World) {
    let mn_id = mn(world.dice.below(MOBILES));
    let interface = small(&mut world.dice, INTERFACES);
    let flows: Vec<_> = world
        .lma
        .binding(&mn_id)
        .map(|v| v.flows.iter().map(|f| f.fid).collect())
        .unwrap_or_default();
    let to = bid(1 + u16::from(small(&mut world.dice, 3)));
    match world.dice.below(16) {
        0..=1 => {
            let view = world.lma.binding(&mn_id);
            let sessions = view.iter().flat_map(|v| v.sessions);
            let hnps: BTreeSet<_> = sessions.flat_map(|s| s.hnps.clone()).collect();
            let hnps: Vec<_> = hnps.into_iter().collect();
            let any = hnps.is_empty() || world.dice.chance(20);
            let hnp = (!any).then(|| world.dice.pick(&hnps));
            let port = 5000 + u16::from(small(&mut world.dice, 6));
            world.add_flow(&mn_id, udp(hnp, port), to);
        }
        2..=5 if !flows.is_empty() => {
            let fid = world.dice.pick(&flows);
            world.move_flow(&mn_id, fid, to);
        }
        6 if !flows.is_empty() => {
            let fid = world.dice.pick(&flows);
            world.delete_flow(&mn_id, fid);
        }
        2..=8 => {
            let mag = usize::from(small(&mut world.dice, 3));
            if !world.attached.contains_key(&(mn_id.clone(), interface)) {
                let handoff = world.dice.pick(&[
                    HandoffIndicator::NEW_INTERFACE,
                    HandoffIndicator::UNKNOWN,
                    HandoffIndicator::SHARING_PREFIXES,
                ]);
                world.attach(&mn_id, interface, mag, handoff);
            }
        }
        9 => world.detach(&mn_id, interface),
        10 => {
            let mag = usize::from(interface);
            world.restart(mag);
        }
        _ => hand_off(world),
    }
}

#[test]
fn wherever_sessions_go_the_tables_agree_in_the_end() {
    for_seeds(1500, |seed| {
        let mut world = build(seed);
        for _ in 0..40 {
            act(&mut world);
            let pause = world.dice.pick(&[0, 0, 5, 100, 1000, 5000]);
            world.run_ms(pause);
            world.kill_sometimes();
        }
        world.weather = Weather::FAIR;
        world.run(Duration::from_secs(200));
        world.run_to_quiet();
        world.check_agreement();
    });
}
