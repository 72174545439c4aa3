//! Home network prefixes: several a session, of other lengths than 64, from profiles and pools
//! (RFC 5213 §5.2, §5.3.2; RFC 7864 §3.1).

use flow::{HandoffIndicator, Hnp};
use pmip_proto::mag::BuleState;
use pmip_proto::{LmaConfig, LmaEvent, MobileProfile, PrefixModel, PrefixPool};
use pmip_wire::Message;

use crate::world::{COAS, World, bid, hnp, lma_config, mag_config, mn, udp};

const NEW: HandoffIndicator = HandoffIndicator::NEW_INTERFACE;
const SHARING: HandoffIndicator = HandoffIndicator::SHARING_PREFIXES;

fn world(config: LmaConfig) -> World {
    World::new(1, config, [0, 1, 2].map(mag_config))
}

fn config(range: &str, len: u8) -> LmaConfig {
    let rest = std::time::Duration::from_secs(2);
    LmaConfig {
        pools: vec![PrefixPool::new(hnp(range), len, rest).unwrap()],
        ..lma_config()
    }
}

fn profile(profile: MobileProfile, config: LmaConfig) -> LmaConfig {
    LmaConfig {
        profiles: [(mn(1), profile)].into(),
        ..config
    }
}

/// Attaches the first interfaces, each at its own MAG.
fn attach(world: &mut World, interfaces: &[HandoffIndicator]) {
    for (interface, handoff) in (0..).zip(interfaces) {
        world.attach(&mn(1), interface, interface.into(), *handoff);
        world.run_ms(100);
    }
}

fn sessions(world: &World) -> Vec<Vec<String>> {
    let text = |hnps: &[Hnp]| hnps.iter().map(Hnp::to_string).collect();
    world.lma.bindings().map(|(_, b)| text(&b.hnps)).collect()
}

fn routes(world: &World, mag: usize) -> Vec<String> {
    world.mags[mag]
        .routes()
        .map(|r| r.hnp.to_string())
        .collect()
}

#[test]
fn a_session_has_as_many_prefixes_as_configured() {
    let config = LmaConfig {
        prefixes_per_session: 3,
        ..config("2001:db8::/60", 64)
    };
    let mut world = world(config);
    attach(&mut world, &[NEW, NEW]);
    let first = ["2001:db8::/64", "2001:db8:0:1::/64", "2001:db8:0:2::/64"];
    let second = [
        "2001:db8:0:3::/64",
        "2001:db8:0:4::/64",
        "2001:db8:0:5::/64",
    ];
    assert_eq!(sessions(&world), [first, second]);
    assert_eq!(routes(&world, 0), first);
    let advertised = &world.advertisements[0];
    let on_link: Vec<_> = advertised
        .prefixes
        .iter()
        .map(|p| p.hnp.to_string())
        .collect();
    assert_eq!(on_link, first);
    // The refresh names all of them, and so does the de-registration.
    world.log.clear();
    world.run_ms(200_000);
    world.detach(&mn(1), 0);
    world.run_ms(100);
    let named = world.log.iter().filter_map(|sent| match &sent.message {
        Message::Pbu(pbu) => Some(pbu.hnps.len()),
        _ => None,
    });
    assert!(named.clone().count() >= 3 && named.clone().all(|n| n == 3));
    // Once the session is gone, so are all of its prefixes.
    world.run_ms(11_000);
    assert_eq!(sessions(&world), [second]);
    assert_eq!(world.lma_tables.bindings.len(), 3);
    assert_eq!(routes(&world, 0), [""; 0]);
}

#[test]
fn a_mobiles_own_prefixes_come_first_and_pools_fill_up() {
    let own = MobileProfile {
        prefixes: vec![hnp("2001:db8:77::/56"), hnp("2001:db8:88::/64")],
        prefixes_per_session: Some(2),
        ..MobileProfile::default()
    };
    let mut world = world(profile(own, config("2001:db8::/62", 64)));
    attach(&mut world, &[NEW, NEW]);
    assert_eq!(
        sessions(&world),
        [
            ["2001:db8:77::/56", "2001:db8:88::/64"],
            ["2001:db8::/64", "2001:db8:0:1::/64"]
        ]
    );
    // Others get one, and never a reserved one.
    world.attach(&mn(2), 0, 0, NEW);
    world.run_ms(100);
    let other: Vec<_> = world.lma.binding(&mn(2)).unwrap().sessions[0].hnps.clone();
    assert_eq!(other, [hnp("2001:db8:0:2::/64")]);
    // Not enough are left for another session of two: it gets none rather than one.
    world.attach(&mn(1), 2, 2, NEW);
    world.run_ms(100);
    let refused = |e: &LmaEvent| matches!(e, LmaEvent::PbuRefused { status: 130, .. });
    assert!(world.lma_events.iter().any(refused));
    assert_eq!(sessions(&world).len(), 3);
    world.attach(&mn(3), 0, 0, NEW);
    world.run_ms(100);
    assert_eq!(
        world.lma.binding(&mn(3)).unwrap().sessions[0].hnps,
        [hnp("2001:db8:0:3::/64")]
    );
}

/// RFC 7864 §3.1, figure 6: one prefix of both accesses, and one of each.
#[test]
fn hybrid_sessions_share_one_prefix_and_have_others_of_their_own() {
    let (common, one, two) = ("2001:db8::/64", "2001:db8:0:1::/64", "2001:db8:0:2::/64");
    let model = |prefix_model| LmaConfig {
        prefixes_per_session: 2,
        prefix_model,
        ..config("2001:db8::/61", 64)
    };
    for second in [NEW, SHARING] {
        let mut world = world(model(PrefixModel::Hybrid));
        attach(&mut world, &[NEW, second]);
        assert_eq!(sessions(&world), [[common, one], [common, two]]);
        assert_eq!(routes(&world, 1), [common, two]);
        // A flow of the common prefix moves freely; one of an exclusive prefix needs a grant.
        let y = world
            .add_flow(&mn(1), udp(Some(hnp(common)), 5000), bid(1))
            .unwrap();
        let z = world
            .add_flow(&mn(1), udp(Some(hnp(one)), 5001), bid(1))
            .unwrap();
        world.run_ms(100);
        for flow in [y, z] {
            world.move_flow(&mn(1), flow, bid(2)).unwrap();
            world.run_ms(3000);
        }
        assert_eq!(world.mag_of(hnp(common), 5000), Some(1));
        assert_eq!(world.mag_of(hnp(one), 5001), Some(1));
        let off_link = world.mags[1].routes().filter(|r| r.off_link).map(|r| r.hnp);
        assert_eq!(off_link.collect::<Vec<_>>(), [hnp(one)]);
        // Refreshes compare each session's own set.
        world.run_ms(400_000);
        assert_eq!(sessions(&world), [[common, one], [common, two]]);
        // The common prefix outlives the session that had it first.
        world.detach(&mn(1), 0);
        world.run_ms(30_000);
        assert_eq!(sessions(&world), [[common, two]]);
        world.check_agreement();
    }
    // Per mobile, too; and sharing all of a set is asked for by naming it.
    let own = MobileProfile {
        prefix_model: Some(PrefixModel::Hybrid),
        ..MobileProfile::default()
    };
    let mut world = world(profile(own, model(PrefixModel::Unique)));
    attach(&mut world, &[NEW, NEW]);
    world.attach_with(&mn(1), 2, 2, SHARING, vec![hnp(common), hnp(two)]);
    world.run_ms(100);
    assert_eq!(
        sessions(&world),
        [[common, one], [common, two], [common, two]]
    );
}

/// HI = 6 with and without prefixes, and by the LMA's policy (RFC 7864 §3.2.1).
#[test]
fn whole_sets_are_shared() {
    let config = || LmaConfig {
        prefixes_per_session: 2,
        ..config("2001:db8::/61", 64)
    };
    let set = ["2001:db8::/64", "2001:db8:0:1::/64"];
    let named: Vec<Hnp> = set.map(hnp).to_vec();
    for (asked, model) in [
        (Vec::new(), PrefixModel::Unique),
        (named.clone(), PrefixModel::Unique),
        (named.clone(), PrefixModel::Shared),
    ] {
        let handoff = if model == PrefixModel::Shared {
            NEW
        } else {
            SHARING
        };
        let mut world = world(LmaConfig {
            prefix_model: model,
            ..config()
        });
        attach(&mut world, &[NEW]);
        world.attach_with(&mn(1), 1, 1, handoff, asked);
        world.run_ms(100);
        assert_eq!(sessions(&world), [set, set]);
    }
    // A part of a set is not a set: refused with 159, and the MAG takes what it is given.
    let mut world = world(config());
    attach(&mut world, &[NEW]);
    world.attach_with(&mn(1), 1, 1, SHARING, vec![named[0]]);
    world.run_ms(100);
    let refused = |e: &LmaEvent| matches!(e, LmaEvent::PbuRefused { status: 159, .. });
    assert!(world.lma_events.iter().any(refused));
    assert_eq!(sessions(&world), [set, set]);
}

/// Prefixes of any length are lent, routed, moved and given back.
#[test]
fn other_lengths_than_64() {
    for (range, len, first, second) in [
        ("2001:db8::/44", 48, "2001:db8::/48", "2001:db8:1::/48"),
        ("2001:db8::/48", 56, "2001:db8::/56", "2001:db8:0:100::/56"),
        ("2001:db8::/48", 60, "2001:db8::/60", "2001:db8:0:10::/60"),
        ("2001:db8::/64", 80, "2001:db8::/80", "2001:db8:0:0:1::/80"),
        ("2001:db8::/120", 128, "2001:db8::/128", "2001:db8::1/128"),
    ] {
        let mut world = world(config(range, len));
        attach(&mut world, &[NEW, NEW]);
        assert_eq!(sessions(&world), [[first], [second]]);
        assert_eq!(routes(&world, 1), [second]);
        let advertised = world.advertisements.last().unwrap();
        assert_eq!(advertised.prefixes[0].hnp, hnp(second));
        let to = udp(Some(hnp(second)), 5000);
        let flow = match len {
            // The test's flows are to address ::100 of a prefix, which one of 128 bits lacks.
            128 => udp(None, 5000),
            _ => to,
        };
        let y = world.add_flow(&mn(1), flow, bid(2)).unwrap();
        world.run_ms(100);
        world.move_flow(&mn(1), y, bid(1)).unwrap();
        world.run_ms(3000);
        let binding = &world.lma_tables.bindings[&hnp(second)];
        assert_eq!(binding.rules.len(), 1);
        let off_link = world.mags[0].routes().find(|r| r.off_link).unwrap();
        assert_eq!(off_link.hnp, hnp(second));
        // The whole session goes to another MAG and keeps its prefix.
        world.leave(&mn(1), 1, 1);
        world.attach(&mn(1), 1, 2, HandoffIndicator::BETWEEN_MAGS);
        world.run_ms(3000);
        assert_eq!(sessions(&world), [[first], [second]]);
        assert_eq!(routes(&world, 2), [second]);
        world.run_ms(20_000);
        world.check_agreement();
        world.detach(&mn(1), 1);
        world.run_ms(30_000);
        assert_eq!(sessions(&world), [[first]]);
    }
}

/// A MAG whose tables are full does not serve a session rather than a part of it.
#[test]
fn a_mag_has_room_for_so_many_prefixes() {
    let lma = LmaConfig {
        prefixes_per_session: 3,
        ..config("2001:db8::/60", 64)
    };
    let mags = [0, 1, 2].map(|mag| pmip_proto::MagConfig {
        max_prefixes: 5,
        ..mag_config(mag)
    });
    let mut world = World::new(1, lma, mags);
    for n in 1..=2 {
        world.attach(&mn(n), 0, 0, NEW);
        world.run_ms(100);
    }
    assert_eq!(routes(&world, 0).len(), 3);
    let states: Vec<_> = world.mags[0].bul().map(|b| b.state).collect();
    assert_eq!(states, [BuleState::Active, BuleState::Refused(128)]);
    world.detach(&mn(1), 0);
    world.run_ms(40_000);
    assert_eq!(routes(&world, 0).len(), 3, "asked again when there is room");
    world.check_agreement();
}

/// Lengths may be mixed, as long as no two mobiles' prefixes have an address in common.
#[test]
fn overlapping_prefixes_are_not_given_out() {
    let own = MobileProfile {
        prefixes: vec![hnp("2001:db8::/56")],
        ..MobileProfile::default()
    };
    let mut world = world(profile(own, config("2001:db8:0:100::/56", 64)));
    attach(&mut world, &[NEW]);
    assert_eq!(sessions(&world), [["2001:db8::/56"]]);
    world.attach_with(&mn(2), 0, 0, NEW, vec![hnp("2001:db8:0:1::/64")]);
    world.run_ms(100);
    let refused = |e: &LmaEvent| matches!(e, LmaEvent::PbuRefused { status: 155, .. });
    assert!(world.lma_events.iter().any(refused));
    let other = world.lma.binding(&mn(2)).unwrap().sessions[0].hnps.clone();
    assert_eq!(other, [hnp("2001:db8:0:100::/64")]);
    let at = world.lma.binding(&mn(2)).unwrap().sessions[0].proxy_coa;
    assert_eq!(at, COAS[0]);
}
