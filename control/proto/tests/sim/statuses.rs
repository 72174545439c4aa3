//! Every status of a PBA, and how a MAG takes each.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{AccessTechnology, HandoffIndicator, MacAddr, PortId, ProxyCoa};
use pmip_proto::mag::BuleState;
use pmip_proto::{Attachment, Command, Lma, LmaConfig, Mag, MagConfig, MobileProfile, Now};
use pmip_wire::{
    BindingLifetime, BindingStatus, HnpOption, Message, MnIdOption, Pba, Pbu, PbuFlags, Timestamp,
};

use crate::world::{COAS, LMAA, hnp, lma_config, mac, mag_config, mn, pool};

const START: u64 = 1_700_000_000;

fn at(ms: u64) -> Now {
    Now {
        monotonic: Duration::from_millis(ms),
        wall: Duration::from_secs(START) + Duration::from_millis(ms),
    }
}

/// A PBU that asks for any prefix, as a MAG would send it at a time.
fn pbu(ms: u64) -> Pbu {
    Pbu {
        sequence: 1,
        flags: PbuFlags::REQUEST,
        lifetime: BindingLifetime::from_units(75),
        mn_id: Some(mn(1).into()),
        hnps: vec![HnpOption::ALL_ZERO],
        handoff: Some(HandoffIndicator::NEW_INTERFACE),
        access: Some(AccessTechnology(4)),
        ll_id: Some(mac(&mn(1), 0).into()),
        timestamp: Some(Timestamp::from_epoch(at(ms).wall)),
        ..Pbu::default()
    }
}

fn answers(lma: &mut Lma) -> Vec<Pba> {
    std::iter::from_fn(|| lma.poll_command())
        .filter_map(|command| match command {
            Command::Send {
                message: Message::Pba(pba),
                ..
            } => Some(pba),
            Command::Send { .. } | Command::Table(_) | Command::Advertise(_) => None,
        })
        .collect()
}

/// Sends a PBU from MAG1, and returns the answer.
fn ask_from(lma: &mut Lma, from: ProxyCoa, ms: u64, pbu: &Pbu) -> Option<Pba> {
    lma.handle_message(at(ms), from.0, LMAA.0, &pbu.clone().into());
    let mut pbas = answers(lma);
    assert!(pbas.len() <= 1);
    pbas.pop()
}

fn ask(lma: &mut Lma, ms: u64, pbu: &Pbu) -> Option<Pba> {
    ask_from(lma, COAS[0], ms, pbu)
}

fn status(config: LmaConfig, pbu: &Pbu) -> Option<u8> {
    ask(&mut Lma::new(config, 1), 0, pbu).map(|pba| pba.status.0)
}

fn profile(profile: MobileProfile) -> LmaConfig {
    LmaConfig {
        profiles: [(mn(1), profile)].into(),
        ..lma_config()
    }
}

#[test]
fn an_accepted_pbu_is_answered_in_full() {
    let mut lma = Lma::new(lma_config(), 1);
    let request = Pbu {
        link_local: Some(Ipv6Addr::UNSPECIFIED),
        ..pbu(0)
    };
    let pba = ask(&mut lma, 0, &request).unwrap();
    assert_eq!(pba.status, BindingStatus::ACCEPTED);
    assert_eq!(pba.hnps, [HnpOption::on_link(hnp("2001:db8:1000::/64"))]);
    assert_eq!(pba.lifetime.units(), 75);
    assert_eq!(pba.link_local, Some(MacAddr::MAG.link_local()));
    assert_eq!(
        (pba.mn_id, pba.handoff, pba.access),
        (request.mn_id, request.handoff, request.access)
    );
    assert_eq!(
        (pba.ll_id, pba.timestamp),
        (request.ll_id, request.timestamp)
    );
}

#[test]
fn faults_in_the_pbu() {
    type Change = fn(&mut Pbu);
    let cases: [(u8, Change); 14] = [
        (0, |_| {}),
        (129, |p| p.flags = p.flags.with(PbuFlags::FORCE_UDP)),
        (153, |p| {
            p.mn_id = Some(MnIdOption::Other {
                subtype: 2,
                octets: [1].into(),
            });
        }),
        (155, |p| {
            p.hnps = vec![HnpOption::on_link(hnp("2001:db8:ffff::/64"))];
        }),
        (155, |p| {
            p.hnps = vec![HnpOption::on_link(hnp("2001:db8:1000::/60"))];
        }),
        (156, |p| {
            p.timestamp = Some(Timestamp::from_epoch(at(301).wall));
        }),
        (158, |p| p.hnps.clear()),
        (160, |p| p.mn_id = None),
        (160, |p| p.mn_id = Some(MnIdOption::Empty)),
        (161, |p| p.handoff = None),
        (162, |p| p.access = None),
        // The order of RFC 5213 §5.3.1: who, when, what.
        (160, |p| {
            (p.mn_id, p.timestamp, p.hnps) = (None, Some(Timestamp(0)), vec![]);
        }),
        (156, |p| {
            (p.timestamp, p.hnps) = (Some(Timestamp(0)), vec![]);
        }),
        (158, |p| {
            (p.hnps, p.handoff, p.access) = (vec![], None, None);
        }),
    ];
    for (expected, change) in cases {
        let mut request = pbu(0);
        change(&mut request);
        assert_eq!(
            status(lma_config(), &request),
            Some(expected),
            "{request:?}"
        );
    }
}

#[test]
fn a_refusal_says_what_it_has_to() {
    let mut lma = Lma::new(lma_config(), 1);
    let request = Pbu {
        timestamp: Some(Timestamp(1)),
        mn_id: None,
        hnps: vec![],
        handoff: None,
        access: None,
        ..pbu(0)
    };
    let pba = ask(&mut lma, 0, &request).unwrap();
    assert_eq!(pba.mn_id, Some(MnIdOption::Empty));
    assert_eq!(pba.hnps, [HnpOption::ALL_ZERO]);
    assert_eq!(
        (pba.handoff, pba.access),
        (Some(HandoffIndicator(0)), Some(AccessTechnology(0)))
    );
    assert_eq!(
        pba.timestamp,
        Some(Timestamp::from_epoch(at(0).wall)),
        "the LMA's own time"
    );
}

#[test]
fn what_the_lma_knows_about_the_mobile() {
    let unknown = LmaConfig {
        serve_unknown: false,
        ..lma_config()
    };
    assert_eq!(status(unknown, &pbu(0)), Some(153));
    let disabled = MobileProfile {
        enabled: false,
        ..MobileProfile::default()
    };
    assert_eq!(status(profile(disabled), &pbu(0)), Some(152));
    let elsewhere = MobileProfile {
        mags: Some(BTreeSet::from([COAS[1]])),
        ..MobileProfile::default()
    };
    assert_eq!(status(profile(elsewhere), &pbu(0)), Some(154));
    let mut lma = Lma::new(lma_config(), 1);
    let stranger = ProxyCoa("2001:db8:bad::1".parse().unwrap());
    assert_eq!(
        ask_from(&mut lma, stranger, 0, &pbu(0)).unwrap().status.0,
        154
    );

    let own = MobileProfile {
        prefixes: vec![hnp("2001:db8:77::/64")],
        ..MobileProfile::default()
    };
    let mut lma = Lma::new(profile(own), 1);
    let pba = ask(&mut lma, 0, &pbu(0)).unwrap();
    assert_eq!(pba.hnps, [HnpOption::on_link(hnp("2001:db8:77::/64"))]);
}

#[test]
fn tables_are_bounded() {
    let no_prefix = LmaConfig {
        pools: vec![],
        ..lma_config()
    };
    let no_mobile = LmaConfig {
        max_mobiles: 0,
        ..lma_config()
    };
    let no_session = LmaConfig {
        max_sessions_per_mobile: 0,
        ..lma_config()
    };
    for config in [no_prefix, no_mobile, no_session] {
        let mut lma = Lma::new(config, 1);
        assert_eq!(ask(&mut lma, 0, &pbu(0)).unwrap().status.0, 130);
        assert_eq!(lma.mobiles(), 0);
    }
}

#[test]
fn prefixes_of_others_and_of_other_sessions() {
    let mut lma = Lma::new(lma_config(), 1);
    let mine = ask(&mut lma, 0, &pbu(0)).unwrap().hnps;
    let other = Pbu {
        mn_id: Some(mn(2).into()),
        hnps: mine.clone(),
        ..pbu(1)
    };
    assert_eq!(ask(&mut lma, 1, &other).unwrap().status.0, 155);
    let more = Pbu {
        hnps: [
            mine.clone(),
            vec![HnpOption::on_link(hnp("2001:db8:1000:9::/64"))],
        ]
        .concat(),
        ..pbu(2)
    };
    assert_eq!(ask(&mut lma, 2, &more).unwrap().status.0, 159);
    // A second interface may not take the prefix of a live one, unless sharing was asked for.
    let second = Pbu {
        hnps: mine.clone(),
        ll_id: Some(mac(&mn(1), 1).into()),
        access: Some(AccessTechnology(8)),
        ..pbu(3)
    };
    assert_eq!(ask(&mut lma, 3, &second).unwrap().status.0, 155);
    let sharing = Pbu {
        handoff: Some(HandoffIndicator::SHARING_PREFIXES),
        ..second
    };
    assert_eq!(ask_from(&mut lma, COAS[1], 3, &sharing).unwrap().hnps, mine);
}

#[test]
fn timestamps_order_pbus() {
    let mut lma = Lma::new(lma_config(), 1);
    assert_eq!(ask(&mut lma, 100, &pbu(100)).unwrap().status.0, 0);
    assert_eq!(
        ask(&mut lma, 101, &pbu(100)).unwrap().status.0,
        157,
        "equal"
    );
    assert_eq!(ask(&mut lma, 102, &pbu(99)).unwrap().status.0, 157, "lower");
    assert_eq!(
        ask(&mut lma, 9000, &pbu(99)).unwrap().status.0,
        157,
        "lower is tested first"
    );
    assert_eq!(ask(&mut lma, 9000, &pbu(8000)).unwrap().status.0, 156);
    assert_eq!(ask(&mut lma, 9000, &pbu(8800)).unwrap().status.0, 0);
}

#[test]
fn or_else_sequence_numbers_do() {
    let mut lma = Lma::new(lma_config(), 1);
    let mut request = Pbu {
        timestamp: None,
        ..pbu(0)
    };
    let mut numbered = |sequence| {
        request.sequence = sequence;
        let pba = ask(&mut lma, 0, &request).unwrap();
        (pba.status.0, pba.sequence)
    };
    assert_eq!(numbered(0xfff0), (0, 0xfff0));
    assert_eq!(numbered(0xfff0), (135, 0xfff0));
    assert_eq!(
        numbered(0xffef),
        (135, 0xfff0),
        "with the last one accepted"
    );
    assert_eq!(numbered(0x0001), (0, 1));
}

#[test]
fn what_is_not_answered() {
    let mut lma = Lma::new(lma_config(), 1);
    let binding_update = Pbu {
        flags: PbuFlags::ACKNOWLEDGE,
        ..pbu(0)
    };
    assert_eq!(ask(&mut lma, 0, &binding_update), None);
    assert_eq!(lma.counters().not_proxy, 1);
    let link_local = ProxyCoa("fe80::1".parse().unwrap());
    assert_eq!(ask_from(&mut lma, link_local, 0, &pbu(0)), None);
    assert_eq!(lma.counters().bad_care_of_address, 1);
    let end = |ms| Pbu {
        lifetime: BindingLifetime::ZERO,
        ..pbu(ms)
    };
    assert_eq!(ask(&mut lma, 0, &end(0)), None, "no such session");
    ask(&mut lma, 1, &pbu(1)).unwrap();
    assert_eq!(
        ask_from(&mut lma, COAS[1], 2, &end(2)),
        None,
        "of another MAG"
    );
    assert_eq!(lma.counters().ignored_deregistrations, 2);
    lma.handle_message(at(3), COAS[0].0, COAS[1].0, &pbu(3).into());
    assert_eq!(lma.counters().wrong_destination, 1);
    assert!(lma.poll_command().is_none());
}

#[test]
fn strangers_are_answered_at_a_limited_rate() {
    let mut lma = Lma::new(lma_config(), 1);
    let stranger = ProxyCoa("2001:db8:bad::1".parse().unwrap());
    let answered = (0..100).filter(|_| ask_from(&mut lma, stranger, 0, &pbu(0)).is_some());
    assert_eq!(answered.count(), 10);
    assert_eq!(lma.counters().unknown_peer, 90);
}

#[test]
fn a_deregistered_session_can_be_revived() {
    let mut lma = Lma::new(lma_config(), 1);
    let hnps = ask(&mut lma, 0, &pbu(0)).unwrap().hnps;
    let end = Pbu {
        lifetime: BindingLifetime::ZERO,
        handoff: Some(HandoffIndicator::UNKNOWN),
        ..pbu(1000)
    };
    let pba = ask(&mut lma, 1000, &end).unwrap();
    assert_eq!((pba.status.0, pba.lifetime.units()), (0, 0));
    let revive = Pbu {
        handoff: Some(HandoffIndicator::BETWEEN_MAGS),
        ..pbu(10_900)
    };
    assert_eq!(
        ask_from(&mut lma, COAS[1], 10_900, &revive).unwrap().hnps,
        hnps
    );
    lma.handle_timeout(at(60_000));
    assert_eq!(lma.bindings().count(), 1);

    let end = Pbu {
        lifetime: BindingLifetime::ZERO,
        ..pbu(70_000)
    };
    ask_from(&mut lma, COAS[1], 70_000, &end).unwrap();
    assert_eq!(lma.poll_timeout(), Some(Duration::from_secs(80)));
    lma.handle_timeout(at(80_000));
    assert_eq!(
        (lma.mobiles(), lma.tunnels(), lma.poll_timeout()),
        (0, 0, None)
    );
}

#[test]
fn an_unknown_handoff_waits_for_the_old_session_to_end() {
    let config = || LmaConfig {
        pools: vec![pool("2001:db8::/60")],
        ..lma_config()
    };
    let unknown = |ms| Pbu {
        handoff: Some(HandoffIndicator::UNKNOWN),
        access: Some(AccessTechnology(8)),
        ..pbu(ms)
    };
    // It ends in time: the session goes over.
    let mut lma = Lma::new(config(), 1);
    let hnps = ask(&mut lma, 0, &pbu(0)).unwrap().hnps;
    assert_eq!(ask_from(&mut lma, COAS[1], 1000, &unknown(1000)), None);
    let end = Pbu {
        lifetime: BindingLifetime::ZERO,
        ..pbu(2000)
    };
    lma.handle_message(at(2000), COAS[0].0, LMAA.0, &end.into());
    let pbas = answers(&mut lma);
    assert_eq!(pbas.len(), 2);
    assert_eq!(pbas[1].hnps, hnps);
    assert_eq!(lma.bindings().count(), 1);
    // It does not: another session begins.
    let mut lma = Lma::new(config(), 1);
    ask(&mut lma, 0, &pbu(0)).unwrap();
    assert_eq!(ask_from(&mut lma, COAS[1], 1000, &unknown(1000)), None);
    assert_eq!(lma.poll_timeout(), Some(Duration::from_millis(2500)));
    lma.handle_timeout(at(2500));
    let pbas = answers(&mut lma);
    assert_ne!(pbas[0].hnps, hnps);
    assert_eq!(lma.bindings().count(), 2);
}

/// A MAG that has sent its first PBU, which comes with it.
fn asking(change: impl FnOnce(&mut MagConfig)) -> (Mag, Pbu) {
    let mut config = mag_config(0);
    change(&mut config);
    let mut mag = Mag::new(config, 1);
    let mac = mac(&mn(1), 0);
    let attachment = Attachment {
        mn_id: mn(1),
        ll_id: Some(mac.into()),
        access: AccessTechnology(4),
        port: PortId(0),
        mac,
        handoff: HandoffIndicator::NEW_INTERFACE,
        wanted: vec![hnp("2001:db8:1000:5::/64")],
        lma: None,
    };
    mag.attach(at(0), attachment).unwrap();
    let pbu = sent(&mut mag).unwrap();
    (mag, pbu)
}

fn sent(mag: &mut Mag) -> Option<Pbu> {
    let pbus = std::iter::from_fn(|| mag.poll_command()).filter_map(|command| match command {
        Command::Send {
            message: Message::Pbu(pbu),
            ..
        } => Some(pbu),
        Command::Send { .. } | Command::Table(_) | Command::Advertise(_) => None,
    });
    let mut pbus: Vec<Pbu> = pbus.collect();
    assert!(pbus.len() <= 1);
    pbus.pop()
}

fn answer(mag: &mut Mag, ms: u64, pbu: &Pbu, status: u8) -> Option<Pbu> {
    // The LMA's clock, where it is that which is wrong: a minute late.
    let wrong = at(60_000 + ms).wall;
    answer_at(
        mag,
        ms,
        pbu,
        status,
        if status == 156 { wrong } else { at(ms).wall },
    )
}

fn answer_at(mag: &mut Mag, ms: u64, pbu: &Pbu, status: u8, clock: Duration) -> Option<Pbu> {
    let pba = Pba {
        status: BindingStatus(status),
        flags: pmip_wire::PbaFlags::PROXY,
        sequence: pbu.sequence,
        lifetime: pbu.lifetime,
        mn_id: pbu.mn_id.clone(),
        hnps: pbu.hnps.clone(),
        handoff: pbu.handoff,
        access: pbu.access,
        ll_id: pbu.ll_id.clone(),
        timestamp: pbu.timestamp.map(|_| Timestamp::from_epoch(clock)),
        ..Pba::default()
    };
    mag.handle_message(at(ms), LMAA.0, COAS[0].0, &pba.into());
    sent(mag)
}

#[test]
fn a_mag_takes_every_refusal_as_it_is_meant() {
    for (status, retry) in [
        (128, true),
        (129, false),
        (130, true),
        (152, false),
        (153, false),
        (154, false),
        (156, true),
        (158, false),
        (160, false),
        (161, false),
        (162, false),
    ] {
        let (mut mag, pbu) = asking(|_| {});
        assert_eq!(answer(&mut mag, 10, &pbu, status), None, "{status}");
        assert_eq!(mag.bul().next().unwrap().state, BuleState::Refused(status));
        assert_eq!(mag.routes().count(), 0);
        let again = retry.then_some(Duration::from_millis(30_010));
        assert_eq!(mag.poll_timeout(), again, "{status}");
        mag.handle_timeout(at(30_010));
        assert_eq!(sent(&mut mag).is_some(), retry, "{status}");
    }
    // Other prefixes will do.
    for status in [155, 159] {
        let (mut mag, pbu) = asking(|_| {});
        let again = answer(&mut mag, 10, &pbu, status).unwrap();
        assert_eq!(again.hnps, [HnpOption::ALL_ZERO]);
        assert_eq!(answer(&mut mag, 20, &again, status), None);
        assert_eq!(mag.bul().next().unwrap().state, BuleState::Refused(status));
    }
    // At once, with a later timestamp or number, but not for ever.
    let (mut mag, pbu) = asking(|_| {});
    let again = answer(&mut mag, 0, &pbu, 157).unwrap();
    assert!(again.timestamp > pbu.timestamp);
    let again = answer(&mut mag, 0, &again, 157).unwrap();
    assert_eq!(answer(&mut mag, 0, &again, 157), None);
    // The clocks agree, so it was late: the same, and then it waits.
    let (mut mag, pbu) = asking(|_| {});
    let late = |mag: &mut Mag, ms, pbu: &Pbu| answer_at(mag, ms, pbu, 156, at(ms).wall);
    let again = late(&mut mag, 700, &pbu).unwrap();
    assert!(again.timestamp > pbu.timestamp);
    let again = late(&mut mag, 1400, &again).unwrap();
    assert_eq!(late(&mut mag, 2100, &again), None);
    assert_eq!(mag.bul().next().unwrap().state, BuleState::Refused(156));
    assert_eq!(mag.poll_timeout(), Some(Duration::from_millis(32_100)));
    let (mut mag, mut pbu) = asking(|c| c.timestamps = false);
    pbu.sequence = 77;
    assert_eq!(answer(&mut mag, 0, &pbu, 135).unwrap().sequence, 78);
}

#[test]
fn a_mag_believes_only_answers_to_its_questions() {
    let (mut mag, pbu) = asking(|_| {});
    let stale = Pbu {
        sequence: pbu.sequence.wrapping_sub(1),
        ..pbu.clone()
    };
    answer(&mut mag, 1, &stale, 0);
    assert_eq!(mag.counters().stray_pbas, 1);
    let pba = Pba {
        sequence: pbu.sequence,
        mn_id: pbu.mn_id.clone(),
        ..Pba::default()
    };
    mag.handle_message(at(1), LMAA.0, COAS[0].0, &pba.into());
    assert_eq!(mag.counters().stray_pbas, 2, "no P flag");
    let other = Pbu {
        access: Some(AccessTechnology(8)),
        ..pbu.clone()
    };
    assert_eq!(answer(&mut mag, 1, &other, 0), None);
    assert_eq!(mag.bul().next().unwrap().state, BuleState::Registering);
    assert_eq!(mag.poll_timeout(), None, "stops asking until somebody acts");
}

#[test]
fn a_mag_asks_with_growing_patience() {
    let (mut mag, first) = asking(|_| {});
    let mut last = first;
    for ms in [1000, 3000, 7000, 15_000, 31_000, 63_000, 95_000] {
        assert_eq!(mag.poll_timeout(), Some(Duration::from_millis(ms)));
        mag.handle_timeout(at(ms));
        let pbu = sent(&mut mag).unwrap();
        assert!(
            pbu.timestamp > last.timestamp,
            "every copy has a time of its own"
        );
        last = pbu;
    }
    assert_eq!(answer(&mut mag, 95_010, &last, 0), None);
    // Half of 300 s after it was sent.
    assert_eq!(mag.bul().next().unwrap().expires, Duration::from_secs(395));
    mag.handle_timeout(at(245_000));
    let refresh = sent(&mut mag).unwrap();
    assert_eq!(refresh.handoff, Some(HandoffIndicator::NO_CHANGE));
    assert_eq!(refresh.hnps, last.hnps);
}
