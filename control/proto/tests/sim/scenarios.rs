//! The two scenarios of draft-bernardos-netext-pmipv6-flowmob: tables before and after a move, and
//! after the move back.

use flow::{HandoffIndicator, Hnp};
use pmip_proto::{LmaConfig, LmaEvent, MoveStarted, PrefixModel};
use pmip_wire::Message;

use crate::world::{COAS, World, bid, hnp, lma_config, mag_config, mn, packet, pool, udp};

const X: u16 = 5001;
const Y: u16 = 5004;

/// Both interfaces attached: the first at MAG1, the second at MAG2.
fn attached(config: LmaConfig, second: HandoffIndicator) -> World {
    let mut world = World::new(1, config, [mag_config(0), mag_config(1)]);
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    world.attach(&mn(1), 1, 1, second);
    world.run_ms(100);
    world
}

fn config() -> LmaConfig {
    LmaConfig {
        pools: vec![pool("2001:db8::/62")],
        ..lma_config()
    }
}

/// Prefixes routed at a MAG, those that are off-link marked.
fn routes(world: &World, mag: usize) -> Vec<String> {
    let mut routes: Vec<String> = world.mags[mag]
        .routes()
        .map(|r| format!("{}{}", r.hnp, if r.off_link { " off-link" } else { "" }))
        .collect();
    routes.sort();
    routes
}

/// The MAGs from which packets of a prefix are accepted.
fn sources(world: &World, hnp: Hnp) -> Vec<usize> {
    let of = |coa: flow::ProxyCoa| {
        let paths = world.lma_tables.sources(hnp);
        paths
            .iter()
            .any(|p| matches!(p, flow::Path::Tunnel(t) if t.remote == coa.0))
    };
    (0..2).filter(|mag| of(COAS[*mag])).collect()
}

#[test]
fn unique_prefixes() {
    let mut world = attached(config(), HandoffIndicator::NEW_INTERFACE);
    let (pref1, pref2) = (hnp("2001:db8::/64"), hnp("2001:db8:0:1::/64"));
    let bindings: Vec<_> = world
        .lma
        .bindings()
        .map(|(_, b)| (b.bid, b.hnps.clone(), b.proxy_coa))
        .collect();
    assert_eq!(
        bindings,
        [
            (bid(1), vec![pref1], COAS[0]),
            (bid(2), vec![pref2], COAS[1])
        ]
    );

    world.add_flow(&mn(1), udp(Some(pref1), X), bid(1)).unwrap();
    let y = world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
    world.run_ms(2000);
    assert_eq!(
        world.signalling(),
        ["FMI add MAG1", "FMI add MAG2", "FMA 0 MAG2", "FMA 0 MAG2"]
    );
    assert_eq!(routes(&world, 0), ["2001:db8::/64"]);
    assert_eq!(routes(&world, 1), ["2001:db8:0:1::/64"]);
    assert_eq!(
        (world.mag_of(pref1, X), world.mag_of(pref2, Y)),
        (Some(0), Some(1))
    );
    assert_eq!(sources(&world, pref2), [1]);

    // The move: a route at MAG1 first, then the switch, then the clean-up at MAG2.
    world.log.clear();
    assert_eq!(
        world.move_flow(&mn(1), y, bid(1)),
        Some(MoveStarted::Signalling)
    );
    assert_eq!(
        world.mag_of(pref2, Y),
        Some(1),
        "not before the MAG has acknowledged"
    );
    world.run_ms(100);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    assert_eq!(
        world.mag_of(pref2, X),
        Some(1),
        "other packets to the prefix stay"
    );
    assert_eq!(world.mag_of(pref1, X), Some(0));
    assert_eq!(sources(&world, pref2), [0, 1]);
    assert_eq!(world.signalling(), ["FMI add MAG1", "FMA 0 MAG1"]);
    world.run_ms(2000);
    assert_eq!(
        world.signalling(),
        ["FMI add MAG1", "FMA 0 MAG1", "FMI del MAG2", "FMA 0 MAG2"]
    );
    assert_eq!(
        routes(&world, 0),
        ["2001:db8:0:1::/64 off-link", "2001:db8::/64"]
    );
    assert_eq!(
        routes(&world, 1),
        ["2001:db8:0:1::/64"],
        "a del never removes the session's own"
    );
}

#[test]
fn what_is_said_about_a_move() {
    let mut world = attached(config(), HandoffIndicator::NEW_INTERFACE);
    let pref2 = hnp("2001:db8:0:1::/64");
    let y = world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
    world.run_ms(100);
    world.log.clear();
    world.move_flow(&mn(1), y, bid(1)).unwrap();
    world.run_ms(2000);
    let moved = world.lma_events.iter().find_map(|e| match e {
        LmaEvent::FlowMoved {
            fid,
            from,
            to,
            times,
            ..
        } => Some((*fid, *from, *to, *times)),
        _ => None,
    });
    let (fid, from, to, times) = moved.unwrap();
    assert_eq!((fid, from, to), (y, bid(2), bid(1)));
    assert_eq!(times.initiated, Some(times.requested));
    assert!(times.completed > times.requested);
    for ra in &world.advertisements {
        let advertised: Vec<Hnp> = ra.prefixes.iter().map(|p| p.hnp).collect();
        assert_eq!(
            advertised.len(),
            1,
            "an off-link prefix is never advertised"
        );
    }
    // The prefix of the FMI is marked off-link, that of the deletion is not.
    let marks: Vec<bool> = world
        .log
        .iter()
        .filter_map(|s| match &s.message {
            Message::Fmi(fmi) => Some(fmi.hnps[0].off_link),
            _ => None,
        })
        .collect();
    assert_eq!(marks, [true, false]);
}

#[test]
fn unique_prefixes_and_back() {
    let mut world = attached(config(), HandoffIndicator::NEW_INTERFACE);
    let pref2 = hnp("2001:db8:0:1::/64");
    let y = world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
    world.move_flow(&mn(1), y, bid(1)).unwrap();
    world.run_ms(2000);
    world.log.clear();
    world.move_flow(&mn(1), y, bid(2)).unwrap();
    world.run_ms(100);
    assert_eq!(world.mag_of(pref2, Y), Some(1));
    assert_eq!(
        sources(&world, pref2),
        [0, 1],
        "uplink packets on their way through MAG1"
    );
    world.run_ms(2000);
    assert_eq!(sources(&world, pref2), [1]);
    assert_eq!(
        world.signalling(),
        ["FMI add MAG2", "FMA 0 MAG2", "FMI del MAG1", "FMA 0 MAG1"]
    );
    assert_eq!(routes(&world, 0), ["2001:db8::/64"]);
    world.check_agreement();
}

#[test]
fn shared_prefix() {
    for (model, second) in [
        (PrefixModel::Unique, HandoffIndicator::SHARING_PREFIXES),
        (PrefixModel::Shared, HandoffIndicator::NEW_INTERFACE),
    ] {
        let config = LmaConfig {
            prefix_model: model,
            ..config()
        };
        let mut world = attached(config, second);
        let pref1 = hnp("2001:db8::/64");
        let hnps: Vec<_> = world.lma.bindings().map(|(_, b)| b.hnps.clone()).collect();
        assert_eq!(hnps, [[pref1], [pref1]]);
        assert_eq!(sources(&world, pref1), [0, 1]);

        world.add_flow(&mn(1), udp(Some(pref1), X), bid(1)).unwrap();
        let y = world.add_flow(&mn(1), udp(Some(pref1), Y), bid(2)).unwrap();
        world.run_ms(2000);
        let go = |w: &World| (w.mag_of(pref1, X), w.mag_of(pref1, Y), w.mag_of(pref1, 9));
        assert_eq!(go(&world), (Some(0), Some(1), Some(0)));
        let tables = format!("{:?}", world.mag_tables);

        world.log.clear();
        world.move_flow(&mn(1), y, bid(1)).unwrap();
        world.run_ms(2000);
        assert_eq!(go(&world), (Some(0), Some(0), Some(0)));
        assert_eq!(
            world.signalling(),
            ["FMI add MAG1", "FMA 0 MAG1", "FMI del MAG2", "FMA 0 MAG2"]
        );
        world.move_flow(&mn(1), y, bid(2)).unwrap();
        world.run_ms(2000);
        assert_eq!(go(&world), (Some(0), Some(1), Some(0)));
        assert_eq!(
            format!("{:?}", world.mag_tables),
            tables,
            "no MAG's routes ever change"
        );
        world.check_agreement();
    }
}

/// Where a MAG hosts the prefix, the LMA may move a flow on its own (RFC 7864 §3.2.1).
#[test]
fn hosted_prefixes_need_no_signalling() {
    let config = LmaConfig {
        signal_hosted: false,
        ..config()
    };
    let mut world = attached(config.clone(), HandoffIndicator::SHARING_PREFIXES);
    let pref1 = hnp("2001:db8::/64");
    let y = world.add_flow(&mn(1), udp(Some(pref1), Y), bid(2)).unwrap();
    assert_eq!(world.move_flow(&mn(1), y, bid(1)), Some(MoveStarted::Done));
    assert_eq!(world.mag_of(pref1, Y), Some(0));
    assert_eq!(
        world.move_flow(&mn(1), y, bid(1)),
        Some(MoveStarted::AlreadyThere)
    );
    world.run_ms(5000);
    assert_eq!(world.signalling(), [""; 0]);

    // With unique prefixes only the grant and its end are signalled.
    let mut world = attached(config, HandoffIndicator::NEW_INTERFACE);
    let pref2 = hnp("2001:db8:0:1::/64");
    let y = world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
    world.move_flow(&mn(1), y, bid(1)).unwrap();
    world.run_ms(2000);
    assert_eq!(world.move_flow(&mn(1), y, bid(2)), Some(MoveStarted::Done));
    world.run_ms(2000);
    let expected = ["FMI add MAG1", "FMA 0 MAG1", "FMI del MAG1", "FMA 0 MAG1"];
    assert_eq!(world.signalling(), expected);
    world.check_agreement();
}

/// A flow whose access goes falls back, and returns with it (RFC 6089 §5.3.1).
#[test]
fn flows_follow_their_access() {
    let mut world = attached(config(), HandoffIndicator::SHARING_PREFIXES);
    let pref1 = hnp("2001:db8::/64");
    let y = world.add_flow(&mn(1), udp(Some(pref1), Y), bid(2)).unwrap();
    world.run_ms(100);
    assert_eq!(world.mag_of(pref1, Y), Some(1));
    world.detach(&mn(1), 1);
    world.run_ms(100);
    assert_eq!(world.mag_of(pref1, Y), Some(0));
    assert_eq!(
        world.move_flow(&mn(1), y, bid(2)),
        None,
        "that access is gone"
    );
    world.run_ms(20_000);
    assert_eq!(world.lma.bindings().count(), 1);
    world.attach(&mn(1), 1, 1, HandoffIndicator::SHARING_PREFIXES);
    world.run_ms(100);
    assert_eq!(world.mag_of(pref1, Y), Some(1));
    world.check_agreement();
}

/// The prefix of a session that ends is withdrawn where a flow of it had been moved to, before
/// another mobile can get it.
#[test]
fn a_prefix_ends_with_its_session() {
    let config = LmaConfig {
        pools: vec![pool("2001:db8::/63")],
        ..lma_config()
    };
    let mut world = attached(config, HandoffIndicator::NEW_INTERFACE);
    let pref2 = hnp("2001:db8:0:1::/64");
    let y = world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
    world.move_flow(&mn(1), y, bid(1)).unwrap();
    world.run_ms(2000);
    // MAG1 cannot be reached when the prefix should be withdrawn there.
    world.lose = Box::new(|sent| matches!(sent.message, Message::Fmi(_)));
    world.detach(&mn(1), 1);
    world.run_ms(9000);
    assert_eq!(
        world.mag_of(pref2, Y),
        Some(0),
        "until MinDelayBeforeBCEDelete is over"
    );
    world.run_ms(30_000);
    assert_eq!(world.lma_tables.downlink(pref2, &packet(pref2, Y)), None);
    world.attach(&mn(2), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    assert_eq!(
        world.lma.binding(&mn(2)).map(|v| v.sessions.len()),
        None,
        "no prefix is free"
    );
    world.lose = Box::new(|_| false);
    world.run_ms(90_000);
    let got: Vec<_> = world
        .lma
        .binding(&mn(2))
        .unwrap()
        .sessions
        .iter()
        .map(|s| s.hnps.clone())
        .collect();
    assert_eq!(got, [[pref2]]);
    world.check_agreement();
}
