//! Sessions that go from one MAG to another, with the flows that are on them (RFC 5213 §5.3.4,
//! §5.4.1): by every handoff indicator, and whichever MAG the LMA hears of first.

use std::collections::BTreeSet;
use std::time::Duration;

use flow::{Fid, HandoffIndicator, Hnp};
use pmip_proto::lma::FlowState;
use pmip_proto::{LmaConfig, LmaEvent, MagConfig, MobileProfile};
use pmip_wire::{BindingLifetime, BindingStatus, HnpOption, Message, Pbu, PbuFlags};

use crate::world::{
    COAS, LMAA, Sent, World, attachment, bid, fid, hnp, lma_config, mag_config, mn, packet, pool,
    udp,
};

const X: u16 = 5001;
const Y: u16 = 5004;

fn config() -> LmaConfig {
    LmaConfig {
        pools: vec![pool("2001:db8::/61")],
        ..lma_config()
    }
}

fn prefixes() -> (Hnp, Hnp) {
    (hnp("2001:db8::/64"), hnp("2001:db8:0:1::/64"))
}

/// Three MAGs, the mobile on two of them. Flow X is at home on the first interface, and flow Y,
/// of the second one's prefix, has been moved there.
fn moved(mags: fn(&mut MagConfig)) -> World {
    let configs = [0, 1, 2].map(|mag| {
        let mut config = mag_config(mag);
        mags(&mut config);
        config
    });
    let mut world = World::new(3, config(), configs);
    // In order: what becomes of an FMI that overtakes its PBA is for the schedules.
    world.weather.delay = 1;
    for interface in 0..2 {
        world.attach(
            &mn(1),
            interface,
            interface.into(),
            HandoffIndicator::NEW_INTERFACE,
        );
        world.run_ms(100);
    }
    let (pref1, pref2) = prefixes();
    world.add_flow(&mn(1), udp(Some(pref1), X), bid(1)).unwrap();
    world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
    world.run_ms(100);
    world.move_flow(&mn(1), fid(2), bid(1)).unwrap();
    world.run_ms(2000);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    world.log.clear();
    world
}

fn state(world: &World, fid: Fid) -> FlowState {
    let view = world.lma.binding(&mn(1)).unwrap();
    view.flow_state(view.flows.iter().find(|f| f.fid == fid).unwrap())
}

fn off_link(world: &World, mag: usize) -> Vec<Hnp> {
    let routes = world.mags[mag].routes().filter(|r| r.off_link);
    routes.map(|r| r.hnp).collect()
}

/// The session is at MAG3 with both flows, and MAG1 knows nothing of the mobile.
fn check_arrival(world: &mut World, case: &str) {
    let (pref1, pref2) = prefixes();
    assert_eq!(world.mag_of(pref1, X), Some(2), "{case}");
    assert_eq!(world.mag_of(pref2, Y), Some(2), "{case}");
    assert_eq!(
        world.mag_of(pref2, 9),
        Some(1),
        "{case}: other packets stay"
    );
    assert_eq!(off_link(world, 2), [pref2], "{case}");
    assert_eq!(
        (state(world, fid(1)), state(world, fid(2))),
        (FlowState::Active, FlowState::Active)
    );
    let from = world
        .lma_tables
        .sources(pref2)
        .into_iter()
        .filter_map(World::mag_at);
    let from: BTreeSet<usize> = from.collect();
    assert_eq!(
        from,
        BTreeSet::from([1, 2]),
        "{case}: the mobile may answer through MAG3"
    );
    assert_eq!(world.mags[0].routes().count(), 0, "{case}");
    let sessions: Vec<_> = world
        .lma
        .bindings()
        .map(|(_, b)| (b.bid, b.proxy_coa, b.hnps.clone()))
        .collect();
    assert_eq!(
        sessions,
        [
            (bid(1), COAS[2], vec![pref1]),
            (bid(2), COAS[1], vec![pref2])
        ],
        "{case}"
    );
    assert!(
        !world
            .advertisements
            .iter()
            .any(|ra| { ra.port.0 == 0 && ra.prefixes.iter().any(|p| p.hnp == pref2) }),
        "{case}: the off-link prefix is not advertised on the first interface's links"
    );
    world.run_ms(30_000);
    world.check_agreement();
}

#[test]
fn the_old_mag_deregisters_first() {
    for handoff in [
        HandoffIndicator::NEW_INTERFACE,
        HandoffIndicator::BETWEEN_MAGS,
        HandoffIndicator::UNKNOWN,
    ] {
        let mut world = moved(|_| {});
        let (pref1, pref2) = prefixes();
        world.detach(&mn(1), 0);
        world.run_ms(100);
        assert_eq!(
            world.mag_of(pref2, Y),
            Some(1),
            "Y falls back to its prefix's session"
        );
        assert_eq!(
            world.mag_of(pref1, X),
            None,
            "RFC 5213 §5.3.5: dropped meanwhile"
        );
        assert_eq!(state(&world, fid(2)), FlowState::Inactive);
        world.attach(&mn(1), 0, 2, handoff);
        world.run_ms(2000);
        check_arrival(&mut world, &format!("{handoff:?}"));
    }
}

#[test]
fn the_old_mag_deregisters_late() {
    for handoff in [
        HandoffIndicator::NEW_INTERFACE,
        HandoffIndicator::BETWEEN_MAGS,
        HandoffIndicator::UNKNOWN,
    ] {
        let mut world = moved(|_| {});
        let (_, pref2) = prefixes();
        world.attach(&mn(1), 0, 2, handoff);
        // The PBU, and the answer with it: MAG3 has the session, but has not acknowledged Y.
        world.run_ms(1);
        assert_eq!(world.mag_of(prefixes().0, 9), Some(2));
        assert_eq!(
            world.mag_of(pref2, Y),
            Some(1),
            "meanwhile Y takes its default path"
        );
        world.run_ms(2000);
        assert_eq!(world.mag_of(pref2, Y), Some(2));
        let ignored = world.lma.counters().ignored_deregistrations;
        world.leave(&mn(1), 0, 0);
        world.run_ms(100);
        assert_eq!(world.lma.counters().ignored_deregistrations, ignored + 1);
        world.run_ms(10_000);
        check_arrival(&mut world, &format!("{handoff:?}"));
    }
}

/// HI = 2 names the session by its prefixes where the mobile has several.
#[test]
fn another_interface_takes_the_session_over() {
    for early in [true, false] {
        let mut world = moved(|_| {});
        let (pref1, pref2) = prefixes();
        if early {
            world.detach(&mn(1), 0);
            world.run_ms(100);
        }
        let handoff = HandoffIndicator::BETWEEN_INTERFACES;
        world.attach_with(&mn(1), 2, 2, handoff, vec![pref1]);
        world.run_ms(2000);
        world.leave(&mn(1), 0, 0);
        world.run_ms(10_000);
        assert_eq!(world.mag_of(pref2, Y), Some(2), "early: {early}");
        let interface = world.lma.bindings().next().map(|(_, b)| b.access).unwrap();
        assert_eq!(interface, crate::world::access(2));
        check_arrival(&mut world, "HI 2");
    }
}

#[test]
fn the_only_session_goes_over_by_hi_2() {
    let mut world = World::new(1, config(), [0, 1, 2].map(mag_config));
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    world.attach(&mn(1), 1, 1, HandoffIndicator::BETWEEN_INTERFACES);
    world.run_ms(100);
    let sessions: Vec<_> = world
        .lma
        .bindings()
        .map(|(_, b)| (b.bid, b.proxy_coa, b.hnps.clone()))
        .collect();
    assert_eq!(sessions, [(bid(1), COAS[1], vec![prefixes().0])]);
    let handoffs = world
        .lma_events
        .iter()
        .filter(|e| matches!(e, LmaEvent::Handoff { .. }));
    assert_eq!(handoffs.count(), 1);
    world.leave(&mn(1), 0, 0);
    world.run_ms(20_000);
    world.check_agreement();
}

/// HI = 4 from an interface that the LMA does not know: it waits for the old MAG's
/// de-registration, up to MaxDelayBeforeNewBCEAssign (RFC 5213 §5.4.1.2).
#[test]
fn an_unknown_handoff_takes_the_flows_along_or_begins_anew() {
    for in_time in [true, false] {
        let mut world = World::new(1, config(), [0, 1, 2].map(mag_config));
        world.weather.delay = 1;
        let (pref1, pref2) = prefixes();
        world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
        world.run_ms(100);
        world.add_flow(&mn(1), udp(Some(pref1), X), bid(1)).unwrap();
        world.run_ms(100);
        world.log.clear();
        world.attach(&mn(1), 1, 2, HandoffIndicator::UNKNOWN);
        world.run_ms(if in_time { 1000 } else { 1600 });
        assert_eq!(world.lma.bindings().count(), if in_time { 1 } else { 2 });
        world.detach(&mn(1), 0);
        world.run_ms(1000);
        if in_time {
            assert_eq!(world.mag_of(pref1, X), Some(2));
            assert_eq!(world.signalling(), ["FMI add MAG3", "FMA 0 MAG3"]);
        } else {
            assert_eq!(world.mag_of(pref1, X), None, "the flow's access is gone");
            assert_eq!(
                world.mag_of(pref2, X),
                Some(2),
                "and the mobile has another prefix"
            );
        }
        world.run_ms(20_000);
        assert_eq!(world.lma.bindings().count(), 1);
        world.check_agreement();
    }
}

/// Without MaxDelayBeforeNewBCEAssign nothing is waited for.
#[test]
fn waiting_can_be_left_out() {
    let config = LmaConfig {
        max_delay_before_new_bce_assign: None,
        ..config()
    };
    let mut world = World::new(1, config, [0, 1, 2].map(mag_config));
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    world.attach(&mn(1), 1, 2, HandoffIndicator::UNKNOWN);
    world.run_ms(100);
    assert_eq!(world.lma.bindings().count(), 2);
}

/// RFC 5213 §5.3.5: a session that comes back to its MAG in time goes on, and so do its flows.
#[test]
fn a_session_revived_at_its_own_mag_gets_its_flows_back() {
    let mut world = moved(|_| {});
    let (pref1, pref2) = prefixes();
    world.detach(&mn(1), 0);
    world.run_ms(9000);
    assert_eq!(off_link(&world, 0), []);
    world.attach(&mn(1), 0, 0, HandoffIndicator::UNKNOWN);
    world.run_ms(2000);
    assert_eq!(
        (world.mag_of(pref1, X), world.mag_of(pref2, Y)),
        (Some(0), Some(0))
    );
    assert_eq!(off_link(&world, 0), [pref2]);
    let deleted = |e: &&LmaEvent| matches!(e, LmaEvent::BindingDeleted { .. });
    assert_eq!(world.lma_events.iter().filter(deleted).count(), 0);
    world.run_ms(30_000);
    world.check_agreement();
}

/// Where sequence numbers order PBUs, the next MAG learns from status 135 where the session's are.
#[test]
fn a_handoff_in_sequence_number_mode() {
    let mut refused = 0;
    for handoff in [HandoffIndicator::BETWEEN_MAGS, HandoffIndicator::UNKNOWN] {
        let mut world = moved(|config| config.timestamps = false);
        world.attach(&mn(1), 0, 2, handoff);
        world.run_ms(2000);
        world.leave(&mn(1), 0, 0);
        world.run_ms(10_000);
        let timed = world.log.iter().any(|sent| match &sent.message {
            Message::Pbu(pbu) => pbu.timestamp.is_some(),
            Message::Pba(pba) => pba.timestamp.is_some(),
            _ => false,
        });
        assert!(!timed, "no Timestamp option in either direction");
        let out_of_window = |sent: &&Sent| matches!(&sent.message, Message::Pba(p) if p.status == BindingStatus::SEQUENCE_OUT_OF_WINDOW);
        refused += world.log.iter().filter(out_of_window).count();
        check_arrival(&mut world, "sequence numbers");
    }
    assert!(refused > 0, "the numbers of two MAGs meet by chance only");
}

/// The old MAG's messages that are still on their way do not bring the session back.
#[test]
fn what_the_old_mag_said_before_is_refused() {
    let mut world = moved(|_| {});
    let old = world.now();
    let refresh = world.mags[0].clone();
    world.run_ms(50);
    world.attach(&mn(1), 0, 2, HandoffIndicator::BETWEEN_MAGS);
    world.run_ms(2000);
    // A copy of MAG1 as it was refreshes now with the time it had then.
    let mut ghost = refresh;
    let late = pmip_proto::Now {
        monotonic: old.monotonic + Duration::from_secs(150),
        wall: old.wall,
    };
    ghost.handle_timeout(late);
    let pbu = std::iter::from_fn(|| ghost.poll_command()).find_map(|c| match c {
        pmip_proto::Command::Send {
            message: Message::Pbu(pbu),
            ..
        } => Some(pbu),
        _ => None,
    });
    let pbu = pbu.unwrap();
    assert_eq!(pbu.handoff, Some(HandoffIndicator::NO_CHANGE));
    let now = world.now();
    world.log.clear();
    world
        .lma
        .handle_message(now, COAS[0].0, LMAA.0, &pbu.into());
    world.drain();
    let status = world.log.iter().find_map(|s| match &s.message {
        Message::Pba(pba) => Some(pba.status),
        _ => None,
    });
    assert_eq!(
        status,
        Some(BindingStatus::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED)
    );
    let (pref1, _) = prefixes();
    assert_eq!(
        World::mag_at(world.lma_tables.downlink(pref1, &packet(pref1, X)).unwrap()),
        Some(2)
    );
}

/// A mobile that comes back to a MAG that never noticed it leave is registered anew, with its flows.
#[test]
fn a_mobile_back_at_a_mag_that_did_not_miss_it() {
    let mut world = moved(|_| {});
    let (_, pref2) = prefixes();
    world.attach(&mn(1), 0, 2, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(2000);
    assert_eq!(world.mag_of(pref2, Y), Some(2));
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(2000);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    assert_eq!(off_link(&world, 0), [pref2]);
    world.leave(&mn(1), 0, 2);
    world.run_ms(20_000);
    world.check_agreement();
}

/// Two interfaces that both came as the one's handoff to the other end with a session each.
#[test]
fn a_handoff_is_claimed_once() {
    let mut world = World::new(1, config(), [0, 1, 2].map(mag_config));
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    for (interface, mag) in [(1, 1), (0, 2)] {
        let handoff = HandoffIndicator::BETWEEN_INTERFACES;
        world.leave(&mn(1), interface, 0);
        world.attach(&mn(1), interface, mag, handoff);
        world.run_ms(100);
    }
    world.run_ms(700_000);
    let events = world.lma_events.len();
    let refused = world.mag_events.len();
    world.run_ms(700_000);
    assert_eq!(world.lma.bindings().count(), 2);
    assert_eq!(
        (world.lma_events.len(), world.mag_events.len()),
        (events, refused)
    );
    world.leave(&mn(1), 0, 0);
    world.run_ms(20_000);
    world.check_agreement();
}

/// Without timestamps, a PBU of a MAG's former self that comes late may give an interface a second session at that MAG, which
/// does not know of it. Flows on it are told to the MAG for the interface, and when it is over, so are they.
#[test]
fn what_a_session_that_is_over_left_at_its_mag_is_withdrawn() {
    let mut world = moved(|config| config.timestamps = false);
    let (pref1, pref2) = prefixes();
    world.restart(0);
    world.run_ms(2000);
    let place = attachment(&mn(1), 0, HandoffIndicator::BETWEEN_INTERFACES);
    let late = Pbu {
        sequence: world.lma.bindings().last().unwrap().1.sequence + 1,
        flags: PbuFlags::REQUEST,
        lifetime: BindingLifetime::from_units(10),
        mn_id: Some(mn(1).into()),
        hnps: vec![HnpOption::on_link(pref2)],
        handoff: Some(place.handoff),
        access: Some(place.access),
        ll_id: place.ll_id,
        ..Pbu::default()
    };
    let now = world.now();
    let late = late.into();
    let seen = world.log.len();
    world.lma.handle_message(now, COAS[0].0, LMAA.0, &late);
    world.drain();
    let sessions = world.lma.bindings().map(|(_, b)| (b.bid, b.proxy_coa));
    let twins = [(bid(1), COAS[0]), (bid(2), COAS[0])];
    assert_eq!(sessions.collect::<Vec<_>>(), twins);
    // It takes nothing away from the one that is there.
    world.run_ms(500);
    let taken = |sent: &Sent| matches!(&sent.message, Message::Fmi(fmi) if fmi.is_deletion());
    assert!(!world.log[seen..].iter().any(taken));
    // Flow X goes to it, and with it the prefix of the mobile's interface at MAG3.
    world.attach(&mn(1), 2, 2, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(500);
    let third = world.lma.bindings().last().unwrap().1.hnps[0];
    let flow = world.add_flow(&mn(1), udp(Some(third), 5009), bid(3));
    world.run_ms(500);
    world.move_flow(&mn(1), flow.unwrap(), bid(2)).unwrap();
    world.run_ms(500);
    assert!(off_link(&world, 0).contains(&third));
    // Nobody refreshes it.
    world.run_ms(60_000);
    assert!(!off_link(&world, 0).contains(&third));
    assert_eq!(world.mag_of(pref1, X), Some(0));
    world.run_ms(200_000);
    world.check_agreement();
}

/// A MAG that has not noticed that a mobile left refreshes its session, and so takes it back; then it notices. The
/// MAG where the mobile is has heard of none of this: nobody else gets the prefix that it routes, and its next
/// refresh brings the session back.
#[test]
fn nobody_gets_a_prefix_that_a_forgotten_mag_may_route() {
    let only = LmaConfig {
        pools: vec![pool("2001:db8::/64")],
        ..lma_config()
    };
    let mags = [0, 1].map(|mag| MagConfig {
        lifetime: Duration::from_secs(40),
        refused_retry: Duration::from_secs(5),
        ..mag_config(mag)
    });
    let mut world = World::new(1, only, mags);
    let at = |world: &World, n| {
        let view = world.lma.binding(&mn(n));
        view.and_then(|view| view.sessions.first().map(|s| s.proxy_coa))
    };
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(15_000);
    world.attach(&mn(1), 0, 1, HandoffIndicator::UNKNOWN);
    world.run_ms(1000);
    assert_eq!(at(&world, 1), Some(COAS[1]));
    world.run_ms(5000);
    assert_eq!(at(&world, 1), Some(COAS[0]));
    world.leave(&mn(1), 0, 0);
    world.run_ms(13_000);
    assert_eq!(at(&world, 1), None);
    world.attach(&mn(2), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(500);
    assert_eq!(at(&world, 2), None);
    world.run_ms(1000);
    assert_eq!(at(&world, 1), Some(COAS[1]));
    world.detach(&mn(1), 0);
    world.run_ms(60_000);
    assert_eq!(at(&world, 2), Some(COAS[0]));
    world.check_agreement();
}

/// A prefix of a profile that is kept from others as a MAG may still route it is the mobile's own all the while.
#[test]
fn a_mobile_gets_its_own_prefix_that_is_kept_for_it() {
    let own = hnp("2001:db8:1::/64");
    let mut config = LmaConfig {
        pools: Vec::new(),
        ..lma_config()
    };
    let profile = MobileProfile {
        prefixes: vec![own],
        ..MobileProfile::default()
    };
    config.profiles.insert(mn(1), profile);
    let mut world = World::new(1, config, [0, 1].map(mag_config));
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(1000);
    // The MAG that it left does not say so.
    world.lose = Box::new(|sent| sent.to == LMAA.0 && ends(&sent.message));
    world.attach(&mn(1), 0, 1, HandoffIndicator::UNKNOWN);
    world.run_ms(1000);
    world.leave(&mn(1), 0, 0);
    world.run_ms(20_000);
    world.lose = Box::new(|_| false);
    world.detach(&mn(1), 0);
    world.run_ms(13_000);
    assert_eq!(world.lma.bindings().count(), 0);
    assert_eq!(world.lma.mobiles(), 1);
    world.attach(&mn(1), 1, 1, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(1000);
    let had: Vec<_> = world
        .lma
        .bindings()
        .map(|(_, bce)| bce.hnps.clone())
        .collect();
    assert_eq!(had, [[own]]);
    world.check_agreement();
}

fn ends(message: &Message) -> bool {
    matches!(message, Message::Pbu(pbu) if pbu.lifetime.is_zero())
}
