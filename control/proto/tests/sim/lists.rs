//! Flow moves in the dialect of RFC 7864: full lists in update notifications, and in PBAs.

use std::time::Duration;

use flow::{HandoffIndicator, Hnp, MnId};
use pmip_proto::{Dialect, LmaConfig, LmaEvent, MoveFailure, MoveStarted, PrefixModel};
use pmip_wire::{Fmi, HnpOption, Message, Pba, UpaStatus, Upn};

use crate::world::{
    COAS, LMAA, Sent, World, bid, hnp, lma_config, mag_config, mn, pool, speak, udp,
};

const X: u16 = 5001;
const Y: u16 = 5004;
const Z: u16 = 5006;
const SECOND: Duration = Duration::from_secs(1);

/// Both interfaces attached, the first at MAG1, the second at MAG2, which speak these dialects.
fn attached(dialects: [Dialect; 2], second: HandoffIndicator) -> World {
    attached_with(PrefixModel::Unique, dialects, second)
}

fn attached_with(model: PrefixModel, dialects: [Dialect; 2], second: HandoffIndicator) -> World {
    let mut config = LmaConfig {
        pools: vec![pool("2001:db8::/62")],
        prefix_model: model,
        ..lma_config()
    };
    let mags = [0, 1].map(|n| {
        let mut mag = mag_config(n);
        speak(&mut config, &mut mag, dialects[n]);
        mag
    });
    let mut world = World::new(1, config, mags);
    world.attach(&mn(1), 0, 0, HandoffIndicator::NEW_INTERFACE);
    world.run_ms(100);
    world.attach(&mn(1), 1, 1, second);
    world.run_ms(100);
    world
}

fn unique() -> (World, Hnp, Hnp) {
    let world = attached([Dialect::Rfc7864; 2], HandoffIndicator::NEW_INTERFACE);
    (world, hnp("2001:db8::/64"), hnp("2001:db8:0:1::/64"))
}

/// Prefixes routed at a MAG that are not its sessions'.
fn granted(world: &World, mag: usize) -> Vec<Hnp> {
    let routes = world.mags[mag].routes();
    routes.filter(|r| r.off_link).map(|r| r.hnp).collect()
}

fn upns(world: &World) -> Vec<Upn> {
    let sent = world.log.iter().map(|sent| &sent.message);
    sent.filter_map(|message| match message {
        Message::Upn(upn) => Some(upn.clone()),
        _ => None,
    })
    .collect()
}

fn failures(world: &World) -> Vec<MoveFailure> {
    let events = world.lma_events.iter();
    events
        .filter_map(|event| match event {
            LmaEvent::FlowMoveFailed { reason, .. } => Some(*reason),
            _ => None,
        })
        .collect()
}

#[test]
fn unique_prefixes_there_and_back() {
    let (mut world, pref1, pref2) = unique();
    world.add_flow(&mn(1), udp(Some(pref1), X), bid(1)).unwrap();
    let y = world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
    world.run_ms(2000);
    world.log.clear();

    let started = world.move_flow(&mn(1), y, bid(1));
    assert_eq!(started, Some(MoveStarted::Signalling));
    assert_eq!(world.mag_of(pref2, Y), Some(1), "not before the answer");
    world.run_ms(100);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    world.run_ms(2000);
    // MAG2 held the flow, whose prefix is its own: the route stays.
    assert_eq!(
        world.signalling(),
        [
            "UPN MAG1: 2001:db8::/64, 2001:db8:0:1::/64 off-link, flows [1, 2]",
            "UPA 0 MAG1",
            "UPN MAG2: 2001:db8:0:1::/64, flows []",
            "UPA 0 MAG2",
        ]
    );
    assert_eq!(granted(&world, 0), [pref2]);
    world.check_agreement();

    // And back: after the switch the list of MAG1 has nothing off-link, which its own prefix says.
    world.log.clear();
    world.move_flow(&mn(1), y, bid(2)).unwrap();
    world.run_ms(100);
    assert_eq!(world.mag_of(pref2, Y), Some(1));
    assert_eq!(granted(&world, 0), [pref2], "for packets on their way");
    world.run_ms(2000);
    assert_eq!(
        world.signalling(),
        [
            "UPN MAG2: 2001:db8:0:1::/64, flows [2]",
            "UPA 0 MAG2",
            "UPN MAG1: 2001:db8::/64, flows [1]",
            "UPA 0 MAG1",
        ]
    );
    assert!(granted(&world, 0).is_empty());
    world.check_agreement();
}

#[test]
fn a_shared_prefix_needs_a_message_only_for_the_flow() {
    let mut world = attached([Dialect::Rfc7864; 2], HandoffIndicator::SHARING_PREFIXES);
    let pref1 = hnp("2001:db8::/64");
    let y = world.add_flow(&mn(1), udp(Some(pref1), Y), bid(2)).unwrap();
    world.run_ms(2000);
    let tables = format!("{:?}", world.mag_tables);
    world.log.clear();
    world.move_flow(&mn(1), y, bid(1)).unwrap();
    world.run_ms(2000);
    assert_eq!(world.mag_of(pref1, Y), Some(0));
    assert_eq!(
        world.signalling(),
        [
            "UPN MAG1: 2001:db8::/64, flows [1]",
            "UPA 0 MAG1",
            "UPN MAG2: 2001:db8::/64, flows []",
            "UPA 0 MAG2",
        ]
    );
    assert_eq!(
        format!("{:?}", world.mag_tables),
        tables,
        "no route changes"
    );
    world.check_agreement();
}

/// Some prefixes of the second access are those in use, others are new (RFC 7864 §3.1, Figure 6).
#[test]
fn a_hybrid_attachment_has_prefixes_of_both_kinds() {
    for second in [
        HandoffIndicator::SHARING_PREFIXES,
        HandoffIndicator::NEW_INTERFACE,
    ] {
        let mut world = attached_with(PrefixModel::Hybrid, [Dialect::Rfc7864; 2], second);
        let (both, own) = (hnp("2001:db8::/64"), hnp("2001:db8:0:1::/64"));
        let hnps: Vec<_> = world.lma.bindings().map(|(_, b)| b.hnps.clone()).collect();
        assert_eq!(hnps, [vec![both], vec![both, own]]);
        let go = |w: &World| (w.mag_of(both, X), w.mag_of(both, Y), w.mag_of(own, Z));
        assert_eq!(go(&world), (Some(0), Some(0), Some(1)));
        let y = world.add_flow(&mn(1), udp(Some(both), Y), bid(2)).unwrap();
        let z = world.add_flow(&mn(1), udp(Some(own), Z), bid(2)).unwrap();
        world.run_ms(2000);
        assert_eq!(go(&world), (Some(0), Some(1), Some(1)));
        // The shared prefix needs no route at MAG1, that of the second access does.
        world.move_flow(&mn(1), y, bid(1)).unwrap();
        world.run_ms(2000);
        assert!(granted(&world, 0).is_empty());
        world.move_flow(&mn(1), z, bid(1)).unwrap();
        world.run_ms(2000);
        assert_eq!(granted(&world, 0), [own]);
        assert_eq!(go(&world), (Some(0), Some(0), Some(0)));
        // Refreshes name each session's own set and are accepted.
        world.run_ms(400_000);
        assert!(world.lma.counters().pbas.keys().all(|status| *status == 0));
        world.check_agreement();
    }
}

/// Between an old MAG and a new one, each is told in its own words.
#[test]
fn dialects_mix() {
    for (dialects, expected) in [
        (
            [Dialect::Draft, Dialect::Rfc7864],
            [
                "FMI add MAG1",
                "FMA 0 MAG1",
                "UPN MAG2: 2001:db8:0:1::/64, flows []",
                "UPA 0 MAG2",
            ],
        ),
        (
            [Dialect::Rfc7864, Dialect::Draft],
            [
                "UPN MAG1: 2001:db8:0:1::/64 off-link, flows [1]",
                "UPA 0 MAG1",
                "FMI del MAG2",
                "FMA 0 MAG2",
            ],
        ),
    ] {
        let mut world = attached(dialects, HandoffIndicator::NEW_INTERFACE);
        let pref2 = hnp("2001:db8:0:1::/64");
        let y = world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
        world.run_ms(2000);
        world.log.clear();
        world.move_flow(&mn(1), y, bid(1)).unwrap();
        world.run_ms(2000);
        assert_eq!(world.signalling(), expected);
        assert_eq!(world.mag_of(pref2, Y), Some(0));
        world.check_agreement();
    }
}

#[test]
fn copies_are_marked_and_answered_alike() {
    let (mut world, _, pref2) = unique();
    let y = world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
    world.run_ms(2000);
    world.log.clear();
    let mut lost = 0;
    world.lose = Box::new(move |sent| {
        // The first copy and the first answer.
        let lose = match sent.message {
            Message::Upn(_) => lost == 0,
            Message::Upa(_) => lost == 1,
            _ => false,
        };
        lost += u32::from(lose);
        lose
    });
    world.move_flow(&mn(1), y, bid(1)).unwrap();
    world.run_ms(2900);
    let copies: Vec<Upn> = upns(&world).into_iter().take(3).collect();
    let marks: Vec<bool> = copies.iter().map(|upn| upn.retransmission).collect();
    assert_eq!(marks, [false, true, true], "a second apart");
    for copy in &copies {
        let first = Upn {
            retransmission: false,
            ..copy.clone()
        };
        assert_eq!(first, copies[0], "nothing else differs");
    }
    let answers: Vec<&Message> = world
        .log
        .iter()
        .map(|sent| &sent.message)
        .filter(|m| matches!(m, Message::Upa(upa) if upa.sequence == copies[0].sequence))
        .collect();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(world.mags[0].counters().fmi_copies, 1);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
}

#[test]
fn without_an_answer_the_flow_stays() {
    let (mut world, _, pref2) = unique();
    let y = world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
    world.run_ms(2000);
    world.log.clear();
    world.lose = Box::new(|sent| matches!(sent.message, Message::Upa(_)));
    world.move_flow(&mn(1), y, bid(1)).unwrap();
    world.run_ms(3900);
    assert_eq!(upns(&world).len(), 4, "one and three copies");
    world.run_ms(200);
    assert_eq!(failures(&world), [MoveFailure::NoAnswer]);
    assert_eq!(world.mag_of(pref2, Y), Some(1));
    // MAG1 has the route all the same; the next list, which is sent at once, takes it away.
    assert!(!upns(&world).last().unwrap().hnps[0].off_link);
    world.lose = Box::new(|_| false);
    world.run_ms(60_000);
    assert!(granted(&world, 0).is_empty());
    world.check_agreement();
}

/// RFC 7864 §3.3: an answer to a PBU says what the MAG is to route, so that a lost FMI leaves no gap.
#[test]
fn a_pba_brings_the_flows_along() {
    let (mut world, _, pref2) = unique();
    let y = world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
    world.move_flow(&mn(1), y, bid(1)).unwrap();
    world.run_ms(2000);
    world.log.clear();
    // The first interface goes over to a MAG that never gets an FMI.
    world.lose = Box::new(|sent| matches!(sent.message, Message::Upn(_)));
    world.restart(0);
    world.run_ms(200);
    let pba = last_pba(&world);
    assert!(pba.hnps.contains(&HnpOption {
        prefix: pref2,
        off_link: true
    }));
    assert_eq!(pba.flows.len(), 1);
    assert_eq!(granted(&world, 0), [pref2]);
    assert_eq!(
        world.mag_of(pref2, Y),
        Some(1),
        "nobody said that the PBA arrived"
    );
    let advertised = world.advertisements.last().unwrap();
    assert!(advertised.prefixes.iter().all(|p| p.hnp != pref2));
    world.lose = Box::new(|_| false);
    world.run_ms(60_000);
    assert_eq!(world.mag_of(pref2, Y), Some(0));
    world.check_agreement();
}

fn last_pba(world: &World) -> Pba {
    let sent = world.log.iter().rev().map(|sent| &sent.message);
    let mut pbas = sent.filter_map(|message| match message {
        Message::Pba(pba) => Some(pba.clone()),
        _ => None,
    });
    pbas.next().unwrap()
}

/// A PBA that was overtaken by an FMI must not bring back what that FMI ended.
#[test]
fn a_pba_that_an_fmi_overtook_says_nothing_about_flows() {
    let (mut world, _, pref2) = unique();
    let y = world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
    world.move_flow(&mn(1), y, bid(1)).unwrap();
    world.run_ms(2000);
    world.log.clear();
    world.lose = Box::new(|sent| matches!(sent.message, Message::Pba(_)));
    let to_mag1 = |sent: &Sent| matches!(sent.message, Message::Pba(_)) && sent.to == COAS[0].0;
    while !world.log.iter().any(to_mag1) {
        world.run_ms(100);
    }
    let pba = last_pba(&world);
    assert_eq!(pba.flows.len(), 1);
    world.move_flow(&mn(1), y, bid(2)).unwrap();
    world.run_ms(1500);
    assert!(granted(&world, 0).is_empty());
    // The answer to the copy of the PBU that left before the list came.
    let late = Pba {
        sequence: last_pba(&world).sequence,
        ..pba
    };
    let now = world.now();
    world.mags[0].handle_message(now, LMAA.0, COAS[0].0, &late.into());
    world.drain();
    assert!(
        world.mags[0]
            .bul()
            .all(|bule| bule.expires > now.monotonic + SECOND * 100)
    );
    assert!(granted(&world, 0).is_empty());
    world.lose = Box::new(|_| false);
    world.run_ms(10_000);
    world.check_agreement();
}

/// Makes a notification one that cannot be carried out.
type Spoil = fn(&mut Upn);

/// What a MAG makes of notifications that it cannot carry out (RFC 7864 §4.3, RFC 7077 §6.1).
#[test]
fn what_a_mag_refuses() {
    let (mut world, _, pref2) = unique();
    let y = world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
    world.move_flow(&mn(1), y, bid(1)).unwrap();
    world.run_ms(2000);
    let good = upns(&world)
        .into_iter()
        .find(|upn| upn.hnps[0].off_link)
        .unwrap();
    let routes = |world: &World| format!("{:?}", world.mag_tables[0]);
    let before = routes(&world);
    let stranger = MnId::new("nobody@example.net").unwrap();
    let cases: [(UpaStatus, Spoil); 8] = [
        (UpaStatus::UNSPECIFIED, |upn| upn.mn_id = None),
        (UpaStatus::UNSPECIFIED, |upn| upn.hnps.clear()),
        (UpaStatus::UNSPECIFIED, |upn| {
            upn.hnps = vec![HnpOption::on_link(hnp("2001:db8:77::/64"))];
        }),
        (UpaStatus::UNSPECIFIED, |upn| {
            upn.hnps[0].prefix = hnp("fe80::/64");
        }),
        (UpaStatus::UNSPECIFIED, |upn| {
            upn.flows.push(upn.flows[0].clone());
        }),
        (UpaStatus::UNSPECIFIED, |upn| upn.flows[0].selector = None),
        (UpaStatus::UNSPECIFIED, |upn| upn.reason.0 = 99),
        (UpaStatus::FAILED_TO_UPDATE_SESSION_PARAMETERS, |upn| {
            upn.reason.0 = 2;
        }),
    ];
    let mut ask = |upn: &Upn| {
        let now = world.now();
        let message = upn.clone().into();
        world.mags[0].handle_message(now, LMAA.0, COAS[0].0, &message);
        world.drain();
        let answer = world.log.last().unwrap();
        let Message::Upa(upa) = &answer.message else {
            panic!("{answer:?}");
        };
        assert_eq!(upa.sequence, upn.sequence);
        assert_eq!(routes(&world), before, "nothing is half done");
        upa.clone()
    };
    for (sequence, (status, spoil)) in (good.sequence.wrapping_add(1)..).zip(cases) {
        let mut upn = Upn {
            sequence,
            ..good.clone()
        };
        spoil(&mut upn);
        assert_eq!(ask(&upn).status, status, "{upn:?}");
    }
    let unknown = Upn {
        mn_id: Some(stranger.into()),
        ..good.clone()
    };
    assert_eq!(ask(&unknown).status, UpaStatus::NOT_ATTACHED);
    // Numbers that came by already.
    let old = Upn {
        sequence: good.sequence.wrapping_sub(1),
        ..good.clone()
    };
    assert_eq!(ask(&old).status, UpaStatus::UNSPECIFIED);
}

/// An answer is to a message of the same dialect, whatever number a message of the other one had.
#[test]
fn the_number_of_another_dialects_message_is_not_repeated() {
    let (mut world, _, pref2) = unique();
    let y = world.add_flow(&mn(1), udp(Some(pref2), Y), bid(2)).unwrap();
    world.move_flow(&mn(1), y, bid(1)).unwrap();
    world.run_ms(2000);
    let last = upns(&world).into_iter().find(|upn| upn.hnps[0].off_link);
    let fmi = Fmi {
        sequence: last.unwrap().sequence,
        mn_id: Some(mn(1).into()),
        ..Fmi::default()
    };
    let now = world.now();
    world.mags[0].handle_message(now, LMAA.0, COAS[0].0, &fmi.into());
    world.drain();
    let answer = &world.log.last().unwrap().message;
    assert!(
        matches!(answer, Message::Fma(fma) if !fma.status.is_success()),
        "{answer:?}"
    );
}

/// Flows that a MAG names as the reason are left out, the others get through.
#[test]
fn only_the_flows_to_blame_fail() {
    let mut config = LmaConfig {
        pools: vec![pool("2001:db8::/62")],
        fmi_window: 1,
        ..lma_config()
    };
    let mags = [0, 1].map(|n| {
        let mut mag = mag_config(n);
        mag.max_flows_per_session = 2;
        speak(&mut config, &mut mag, Dialect::Rfc7864);
        mag
    });
    let mut world = World::new(1, config, mags);
    for interface in 0..2 {
        world.attach(
            &mn(1),
            interface,
            interface.into(),
            HandoffIndicator::NEW_INTERFACE,
        );
        world.run_ms(100);
    }
    let pref2 = hnp("2001:db8:0:1::/64");
    world.lose = Box::new(|sent| matches!(sent.message, Message::Upn(_)));
    let flows = [X, Y, Z].map(|port| world.add_flow(&mn(1), udp(Some(pref2), port), bid(1)));
    world.lose = Box::new(|_| false);
    world.run_ms(9000);
    let on_mag1 = [X, Y, Z].map(|port| world.mag_of(pref2, port) == Some(0));
    assert_eq!(
        on_mag1,
        [true, true, false],
        "{flows:?} {:?}",
        world.signalling()
    );
    let refused = world.log.iter().find_map(|sent| match &sent.message {
        Message::Upa(upa) if !upa.flows.is_empty() => Some(upa.flows.clone()),
        _ => None,
    });
    let blamed: Vec<_> = refused.unwrap().iter().map(|f| f.fid).collect();
    assert_eq!(blamed, [flows[2].unwrap()]);
}
