//! MAGs and LMAs that die, are cut off, restart, and come back.

use std::time::Duration;

use flow::{HandoffIndicator, Hnp};
use pmip_proto::lma::{BceState, FlowState};
use pmip_proto::{
    DeletionReason, Dialect, HeartbeatConfig, Liveness, LmaConfig, LmaEvent, Mag, MagConfig,
    MagEvent, PrefixModel, RequestOutcome,
};
use pmip_wire::{BindingError, Message, UpaStatus};

use crate::model::Tables;
use crate::seeds::for_seeds;
use crate::world::{
    COAS, Dice, LMAA, Weather, World, bid, fid, lma_config, mag_config, mn, speak, taped, udp,
};

const Y: u16 = 5004;

/// Every 100 ms, three missing answers allowed.
pub(crate) fn fast() -> HeartbeatConfig {
    HeartbeatConfig {
        interval: Some(Duration::from_millis(100)),
        missing_allowed: 3,
        restart_counter: 1,
    }
}

pub(crate) fn lma() -> LmaConfig {
    LmaConfig {
        heartbeat: fast(),
        ..lma_config()
    }
}

pub(crate) fn mags() -> [MagConfig; 2] {
    [0, 1].map(|mag| MagConfig {
        heartbeat: fast(),
        ..mag_config(mag)
    })
}

/// A world of fast heartbeats, each of whose MAGs speaks one of the dialects.
pub(crate) fn mixed(seed: u64) -> World {
    let mut dice = Dice(seed ^ 0xd1a1);
    let (mut lma, mut mags) = (lma(), mags());
    for mag in &mut mags {
        let dialect = dice.pick(&[Dialect::Draft, Dialect::Rfc7864]);
        speak(&mut lma, mag, dialect);
    }
    World::new(seed, lma, mags)
}

/// A mobile with interface 0 at the first MAG and 1 at the second; its prefixes in that order.
fn attached(config: LmaConfig) -> (World, [Hnp; 2]) {
    let mut world = World::new(1, config, mags());
    for interface in 0..2 {
        let handoff = HandoffIndicator::NEW_INTERFACE;
        world.attach(&mn(1), interface, interface.into(), handoff);
        world.run_ms(300);
    }
    let hnps: Vec<Hnp> = world.lma.bindings().map(|(_, b)| b.hnps[0]).collect();
    (world, [hnps[0], hnps[1]])
}

/// The same with a flow of the second prefix that was moved to the first MAG.
fn moved() -> (World, [Hnp; 2]) {
    let (mut world, hnps) = attached(lma());
    let flow = world.add_flow(&mn(1), udp(Some(hnps[1]), Y), bid(2));
    world.run_ms(300);
    world.move_flow(&mn(1), flow.unwrap(), bid(1)).unwrap();
    world.run_ms(1500);
    assert_eq!(world.mag_of(hnps[1], Y), Some(0));
    world.lma_events.clear();
    world.mag_events.clear();
    world.log.clear();
    (world, hnps)
}

fn liveness(world: &World, mag: usize) -> Liveness {
    let peer = world.lma.peers().nth(mag).unwrap();
    peer.heartbeat.unwrap().liveness
}

fn state(world: &World, n: u16) -> Option<BceState> {
    let mut bindings = world.lma.bindings();
    bindings
        .find(|(_, b)| b.bid == bid(n))
        .map(|(_, b)| b.state)
}

fn fell_back(to: Option<u16>) -> LmaEvent {
    LmaEvent::FlowFellBack {
        mn_id: mn(1),
        fid: fid(1),
        bid: bid(1),
        to: to.map(bid),
    }
}

fn returned() -> LmaEvent {
    LmaEvent::FlowReturned {
        mn_id: mn(1),
        fid: fid(1),
        bid: bid(1),
    }
}

fn flow_events(world: &World) -> Vec<LmaEvent> {
    let fell = |e: &LmaEvent| matches!(e, LmaEvent::FlowFellBack { .. });
    let returned = |e: &LmaEvent| matches!(e, LmaEvent::FlowReturned { .. });
    let events = world.lma_events.iter();
    events.filter(|e| fell(e) || returned(e)).cloned().collect()
}

#[test]
fn a_mag_whose_records_are_damaged_registers_what_it_knows_anew() {
    let (mut world, [pref1, pref2]) = moved();
    world.damage(0);
    world.run_ms(500);
    let restarted = |e: &LmaEvent| matches!(e, LmaEvent::PeerRestarted { .. });
    assert!(world.lma_events.iter().any(restarted));
    // Lost sessions would be over by then.
    world.run(Duration::from_secs(30));
    for (n, hnp) in [(1, pref1), (2, pref2)] {
        assert_eq!(state(&world, n), Some(BceState::Active));
        let mut bindings = world.lma.bindings();
        assert!(bindings.any(|(_, b)| b.bid == bid(n) && b.hnps == [hnp]));
    }
    assert_eq!(world.mag_of(pref2, Y), Some(0), "the flow is back");
    assert!(world.mag_tables[0].bindings.contains_key(&pref2));
}

#[test]
fn a_dead_mag_is_noticed_in_half_a_second_and_its_flows_go_where_the_mobile_still_is() {
    let (mut world, [_, pref2]) = moved();
    world.cut[0] = true;
    world.run_ms(390);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    world.run_ms(130);
    let down = LmaEvent::PeerDown {
        proxy_coa: COAS[0],
        bindings: 1,
    };
    assert!(world.lma_events.contains(&down));
    assert_eq!(world.mag_of(pref2, Y), Some(1));
    assert_eq!(flow_events(&world), [fell_back(Some(2))]);
    assert_eq!(state(&world, 1), Some(BceState::Unreachable));
    assert_eq!(state(&world, 2), Some(BceState::Active));

    // It is back with all it knew: nothing needs to be said about flows.
    world.log.clear();
    world.cut[0] = false;
    world.run_ms(130);
    assert!(world.lma_events.contains(&LmaEvent::PeerUp {
        proxy_coa: COAS[0],
        bindings: 1,
    }));
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    assert_eq!(flow_events(&world), [fell_back(Some(2)), returned()]);
    world.run_ms(3000);
    let fmis = world.signalling();
    assert!(fmis.iter().all(|fmi| !fmi.contains("MAG1")), "{fmis:?}");
    world.check_agreement();
}

#[test]
fn a_prefix_whose_mag_is_dead_is_granted_to_another_and_taken_back() {
    let (mut world, [pref1, _]) = attached(lma());
    world.add_flow(&mn(1), udp(Some(pref1), Y), bid(1)).unwrap();
    world.run_ms(300);
    world.lma_events.clear();
    world.log.clear();
    world.cut[0] = true;
    world.run_ms(600);
    // Both the flow and what matches none.
    assert_eq!(
        (world.mag_of(pref1, Y), world.mag_of(pref1, 9)),
        (Some(1), Some(1))
    );
    assert_eq!(flow_events(&world), [fell_back(None), fell_back(Some(2))]);
    assert_eq!(world.signalling(), ["FMI add MAG2", "FMA 0 MAG2"]);
    assert!(world.mags[1].routes().any(|r| r.hnp == pref1 && r.off_link));

    world.cut[0] = false;
    world.run_ms(600);
    assert_eq!(
        (world.mag_of(pref1, Y), world.mag_of(pref1, 9)),
        (Some(0), Some(0))
    );
    assert_eq!(flow_events(&world).last(), Some(&returned()));
    assert!(!world.mags[1].routes().any(|r| r.off_link));
    world.check_agreement();
}

#[test]
fn the_number_of_a_flow_that_stands_for_a_prefix_can_still_be_given_to_another() {
    let (mut world, [pref1, pref2]) = attached(lma());
    world.cut[0] = true;
    world.run_ms(700);
    assert_eq!(world.mag_of(pref1, Y), Some(1));
    let now = world.now();
    let request = pmip_proto::FlowRequest {
        mn_id: mn(1),
        fid: Some(fid(0xffff)),
        priority: None,
        selector: udp(Some(pref2), Y),
        bid: bid(2),
    };
    world.lma.add_flow(now, request).unwrap();
    world.drain();
    world.run_ms(2000);
    assert_eq!(
        (world.mag_of(pref1, Y), world.mag_of(pref2, Y)),
        (Some(1), Some(1))
    );
    world.cut[0] = false;
    world.run_ms(2000);
    world.check_agreement();
}

#[test]
fn shared_prefixes_need_nobody_to_be_told() {
    let config = LmaConfig {
        prefix_model: PrefixModel::Shared,
        signal_hosted: false,
        ..lma()
    };
    let (mut world, [shared, same]) = attached(config);
    assert_eq!(shared, same);
    world
        .add_flow(&mn(1), udp(Some(shared), Y), bid(1))
        .unwrap();
    assert_eq!(world.mag_of(shared, Y), Some(0));
    world.log.clear();
    world.cut[0] = true;
    world.run_ms(520);
    assert_eq!(
        (world.mag_of(shared, Y), world.mag_of(shared, 9)),
        (Some(1), Some(1))
    );
    assert_eq!(flow_events(&world), [fell_back(Some(2))]);
    world.cut[0] = false;
    world.run_ms(200);
    assert_eq!(
        (world.mag_of(shared, Y), world.mag_of(shared, 9)),
        (Some(0), Some(0))
    );
    assert!(world.signalling().is_empty());
    world.check_agreement();
}

#[test]
fn a_restarted_mag_gets_its_flows_back_when_it_registers_the_mobile_again() {
    let (mut world, [_, pref2]) = moved();
    world.cut[0] = true;
    world.run_ms(2000);
    assert_eq!(liveness(&world, 0), Liveness::Down);
    world.cut[0] = false;
    world.restart(0);
    world.run_ms(1500);
    let restarted = LmaEvent::PeerRestarted {
        proxy_coa: COAS[0],
        counter: 2,
        lost: 0,
    };
    // It had registered the mobile before it was asked: that session is no ghost.
    assert!(
        world.lma_events.contains(&restarted),
        "{:?}",
        world.lma_events
    );
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    assert_eq!(flow_events(&world), [fell_back(Some(2)), returned()]);
    world.check_agreement();
}

#[test]
fn a_mag_that_restarts_faster_than_it_can_be_missed_is_found_out_all_the_same() {
    let (mut world, [_, pref2]) = moved();
    // Without its mobile, which is not heard of.
    world.attached.remove(&(mn(1), 0));
    world.restart(0);
    world.drain();
    world.run_ms(150);
    let restarted = LmaEvent::PeerRestarted {
        proxy_coa: COAS[0],
        counter: 2,
        lost: 1,
    };
    assert!(
        world.lma_events.contains(&restarted),
        "{:?}",
        world.lma_events
    );
    assert_eq!(state(&world, 1), Some(BceState::Lost));
    assert_eq!(world.mag_of(pref2, Y), Some(1));
    assert_eq!(flow_events(&world), [fell_back(Some(2))]);
    // In time, and the flow is back; or not, and the binding is gone.
    let mut late = world.lma.clone();
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(1500);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    assert_eq!(flow_events(&world).last(), Some(&returned()));
    world.check_agreement();

    let mut now = world.now();
    now.monotonic += Duration::from_secs(11);
    late.handle_timeout(now);
    let deleted = LmaEvent::BindingDeleted {
        mn_id: mn(1),
        bid: bid(1),
        reason: DeletionReason::Lost,
    };
    let mut events = std::iter::from_fn(|| late.poll_event());
    assert!(events.any(|event| event == deleted));
}

#[test]
fn a_mag_that_registers_anybody_after_a_restart_is_found_out_whatever_the_interval() {
    let slow = HeartbeatConfig {
        interval: Some(Duration::from_mins(1)),
        ..fast()
    };
    let config = LmaConfig {
        heartbeat: slow,
        ..lma()
    };
    let (mut world, _) = attached(config);
    world.run_ms(5000);
    world.attached.remove(&(mn(1), 0));
    world.restart(0);
    world.attach(&mn(2), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    assert_eq!(state(&world, 1), Some(BceState::Lost));
    let mut bindings = world.lma.bindings();
    assert!(bindings.any(|(mn_id, b)| *mn_id == mn(2) && b.is_active()));
}

#[test]
fn a_restarted_lma_gets_its_bindings_back_and_old_flows_are_forgotten() {
    let (mut world, [_, pref2]) = moved();
    assert!(world.mags[0].routes().any(|r| r.hnp == pref2));
    world.restart_lma();
    world.run_ms(1500);
    let restarted = MagEvent::PeerRestarted {
        lmaa: LMAA,
        counter: 2,
    };
    let told = world.mag_events.iter().filter(|e| **e == restarted);
    assert_eq!(told.count(), 2);
    assert!(!world.mags[0].routes().any(|r| r.hnp == pref2));
    assert_eq!(world.lma.bindings().count(), 2);
    world.check_agreement();
}

#[test]
fn a_mag_that_cannot_reach_its_lma_registers_again_when_it_can() {
    let (mut world, [_, pref2]) = moved();
    world.cut[0] = true;
    world.run_ms(20_000);
    assert!(
        world
            .mag_events
            .contains(&MagEvent::PeerDown { lmaa: LMAA })
    );
    let pbus = |world: &World, from: Duration| {
        let mut pbus = world.log.iter().filter(|s| s.at >= from);
        let pbus = pbus
            .by_ref()
            .filter(|s| matches!(&s.message, Message::Pbu(_)));
        pbus.count()
    };
    // With patience: at 1, 2, 4, 8 s and so on.
    assert!(
        pbus(&world, Duration::ZERO) <= 6,
        "{}",
        pbus(&world, Duration::ZERO)
    );
    world.cut[0] = false;
    let since = world.clock;
    world.run_ms(200);
    assert!(world.mag_events.contains(&MagEvent::PeerUp { lmaa: LMAA }));
    assert!((1..=2).contains(&pbus(&world, since)));
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    world.run_ms(2000);
    world.check_agreement();
}

#[test]
fn a_mobile_takes_its_session_along_from_a_dead_mag() {
    let (mut world, [pref1, _]) = attached(lma());
    world.cut[0] = true;
    world.run_ms(600);
    // Its interface is now at the other MAG.
    world.attached.remove(&(mn(1), 0));
    world.attach(&mn(1), 0, 1, HandoffIndicator::BETWEEN_MAGS);
    world.run_ms(500);
    assert_eq!(state(&world, 1), Some(BceState::Active));
    assert_eq!(world.mag_of(pref1, Y), Some(1));
    let owners: Vec<_> = world.lma.bindings().map(|(_, b)| b.proxy_coa).collect();
    assert_eq!(owners, [COAS[1], COAS[1]]);
}

#[test]
fn a_mag_that_answered_heartbeats_means_another_message_if_it_knows_one_not() {
    let (mut world, [_, pref2]) = attached(lma());
    world.lose = Box::new(|sent| matches!(sent.message, Message::Fmi(_)));
    world.add_flow(&mn(1), udp(Some(pref2), Y), bid(1)).unwrap();
    // A request that is younger than the FMI waits for its answer, too.
    world.lose = Box::new(|sent| matches!(sent.message, Message::Heartbeat(_)));
    world.run_ms(120);
    let now = world.now();
    let error = Message::BindingError(BindingError::unrecognized());
    world.lma.handle_message(now, COAS[0].0, LMAA.0, &error);
    let peer = world.lma.peers().next().unwrap();
    assert!(peer.refuses_signalling);
    assert_eq!(liveness(&world, 0), Liveness::Up);
}

#[test]
fn a_mag_without_heartbeat_is_not_taken_for_dead() {
    let mut world = World::new(1, lma(), mags());
    world.lose = Box::new(|sent| matches!(sent.message, Message::Heartbeat(_)));
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(50);
    let now = world.now();
    let error = Message::BindingError(BindingError::unrecognized());
    world.lma.handle_message(now, COAS[0].0, LMAA.0, &error);
    world.mags[0].handle_message(now, LMAA.0, COAS[0].0, &error);
    world.drain();
    world.log.clear();
    world.run_ms(5000);
    assert_eq!(liveness(&world, 0), Liveness::Unsupported);
    assert!(
        world
            .log
            .iter()
            .all(|s| !matches!(s.message, Message::Heartbeat(_)))
    );
    assert_eq!(state(&world, 1), Some(BceState::Active));
    let refused = MagEvent::HeartbeatRefused { lmaa: LMAA };
    assert!(world.mag_events.contains(&refused));
    world.check_agreement();
}

#[test]
fn a_mag_registers_again_what_it_is_asked_to_or_says_that_it_has_no_such_mobile() {
    let (mut world, [_, pref2]) = attached(lma());
    let now = world.now();
    assert_eq!(world.lma.reregister(now, &mn(1), Some(bid(1)), None), Ok(1));
    world.drain();
    world.run_ms(100);
    let ended = |status: UpaStatus| LmaEvent::ReregistrationEnded {
        proxy_coa: COAS[0],
        mn_id: mn(1),
        outcome: RequestOutcome::Answered(status.0),
    };
    assert!(world.lma_events.contains(&ended(UpaStatus::SUCCESS)));
    let asked = MagEvent::ReregistrationAsked { mn_id: mn(1) };
    assert!(world.mag_events.contains(&asked));
    world.check_agreement();
    // It lost the mobile without a restart: the binding is void.
    let seed = world.dice.roll();
    world.mags[0] = taped(Mag::new(world.mag_config[0].clone(), seed), seed);
    world.mag_tables[0] = Tables::default();
    let now = world.now();
    let at = Some(COAS[0]);
    assert_eq!(world.lma.reregister(now, &mn(1), None, at), Ok(1));
    world.drain();
    world.run_ms(100);
    assert!(world.lma_events.contains(&ended(UpaStatus::NOT_ATTACHED)));
    assert_eq!(state(&world, 1), Some(BceState::Lost));
    assert_eq!(world.mag_of(pref2, Y), Some(1));
}

#[test]
fn whatever_weather_nobody_stays_dead_who_is_not() {
    for_seeds(250, |seed| {
        let mut world = mixed(seed);
        for n in 0..2 {
            for interface in 0..2 {
                let handoff = HandoffIndicator::NEW_INTERFACE;
                world.attach(&mn(n), interface, interface.into(), handoff);
                world.run_ms(100);
            }
        }
        world.weather = Weather {
            loss: world.dice.pick(&[0, 20, 40]),
            repeat: world.dice.pick(&[0, 30]),
            slow: 20,
            delay: world.dice.pick(&[10, 80]),
            slow_delay: 900,
        };
        for _ in 0..20 {
            let hnps: Vec<Hnp> = world
                .lma
                .bindings()
                .flat_map(|(_, b)| b.hnps.clone())
                .collect();
            let n = mn(world.dice.below(2));
            let mag = usize::try_from(world.dice.below(2)).unwrap();
            let to = bid(u16::try_from(1 + world.dice.below(2)).unwrap());
            match world.dice.below(7) {
                0 => world.cut[mag] = true,
                1 => world.cut[mag] = false,
                2 => world.restart(mag),
                3 if !hnps.is_empty() => {
                    let hnp = world.dice.pick(&hnps);
                    let port = u16::try_from(5000 + world.dice.below(4)).unwrap();
                    world.add_flow(&n, udp(Some(hnp), port), to);
                }
                4..=5 => {
                    let view = world.lma.binding(&n);
                    let fids: Vec<_> = view.iter().flat_map(|v| v.flows).map(|f| f.fid).collect();
                    if !fids.is_empty() {
                        let fid = world.dice.pick(&fids);
                        world.move_flow(&n, fid, to);
                    }
                }
                _ => {}
            }
            let pause = world.dice.pick(&[0, 50, 700, 3000]);
            world.run_ms(pause);
            world.kill_sometimes();
        }
        world.cut = [false; COAS.len()];
        world.weather = Weather::FAIR;
        world.run_ms(200_000);
        for mag in 0..2 {
            assert_eq!(liveness(&world, mag), Liveness::Up, "seed {seed}");
        }
        assert!(
            world
                .lma
                .flows()
                .all(|(.., state)| state == FlowState::Active),
            "seed {seed}"
        );
        world.check_agreement();
    });
}
