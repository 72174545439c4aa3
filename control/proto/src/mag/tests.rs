//! FMIs at a MAG: every status, and what changes.

use flow::{
    AccessTechnology, HandoffIndicator, Interval, ProxyCoa, Selector, TableUpdate, TrafficSelector,
};
use pmip_wire::{
    BindingLifetime, BindingStatus, FlowLifetime, Fma, FmaStatus, Fmi, HnpOption, MnIdOption, Pba,
    PbaFlags, SelectorOption,
};

use super::*;
use crate::config::LmaPeer;

mod reconfiguration;

const LMAS: [Lmaa; 2] = [
    Lmaa(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1)),
    Lmaa(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 2)),
];
const COA: ProxyCoa = ProxyCoa(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1));

fn s(seconds: u64) -> Now {
    Now {
        monotonic: Duration::from_secs(seconds),
        wall: Duration::from_secs(seconds),
    }
}

fn mn(n: u8) -> MnId {
    MnId::new(&format!("mn{n}@example.net")).unwrap()
}

fn hnp(n: u16) -> Hnp {
    Hnp::new(Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 0), 64).unwrap()
}

fn selector(to: u16) -> TrafficSelector {
    let range = Interval::new(hnp(to).addr(), hnp(to).last());
    Selector {
        destination: range,
        ..Selector::<Ipv6Addr>::default()
    }
    .into()
}

/// Mobile 1 with prefix 1 and mobile 2 with prefix 2, at the first LMA.
fn mag() -> Mag {
    attached(config(), |_| ())
}

fn config() -> MagConfig {
    MagConfig {
        max_flows_per_session: 2,
        max_flow_lifetime: 60,
        ..MagConfig::new(COA, LMAS.map(LmaPeer::new).to_vec())
    }
}

/// The same with another configuration; `told` sees what it says from the first PBA on.
fn attached(config: MagConfig, mut told: impl FnMut(Command)) -> Mag {
    let mut mag = Mag::new(config, 1);
    for n in 1..=2 {
        let mac = MacAddr([2, 0, 0, 0, 0, n]);
        let attachment = Attachment {
            mn_id: mn(n),
            ll_id: Some(mac.into()),
            access: AccessTechnology(4),
            port: PortId(0),
            mac,
            handoff: HandoffIndicator::NEW_INTERFACE,
            wanted: vec![],
            lma: None,
        };
        mag.attach(s(0), attachment).unwrap();
        let Some(Command::Send {
            message: Message::Pbu(pbu),
            ..
        }) = mag.poll_command()
        else {
            panic!("no PBU");
        };
        let pba = Pba {
            status: BindingStatus::ACCEPTED,
            flags: PbaFlags::PROXY,
            sequence: pbu.sequence,
            lifetime: BindingLifetime::from_units(75),
            mn_id: pbu.mn_id,
            hnps: vec![HnpOption::on_link(hnp(n.into()))],
            handoff: pbu.handoff,
            access: pbu.access,
            ll_id: pbu.ll_id,
            ..Pba::default()
        };
        mag.handle_message(s(0), LMAS[0].0, COA.0, &pba.into());
        while let Some(command) = mag.poll_command() {
            told(command);
        }
    }
    mag
}

/// An addition for mobile 1.
fn add(sequence: u16, flow: TrafficSelector, hnps: &[HnpOption]) -> Fmi {
    Fmi {
        sequence,
        lifetime: FlowLifetime::INFINITE,
        mn_id: Some(mn(1).into()),
        hnps: hnps.to_vec(),
        selectors: vec![flow.into()],
        ..Fmi::default()
    }
}

fn del(sequence: u16, flow: TrafficSelector) -> Fmi {
    Fmi {
        cancel: true,
        lifetime: FlowLifetime::ZERO,
        ..add(sequence, flow, &[])
    }
}

/// The answer, and whether a table changed before it.
fn tell(mag: &mut Mag, from: Lmaa, now: Now, fmi: &Fmi) -> (Fma, bool) {
    mag.handle_message(now, from.0, COA.0, &fmi.clone().into());
    let mut changed = false;
    loop {
        match mag.poll_command().unwrap() {
            Command::Table(_) => changed = true,
            Command::Send {
                message: Message::Fma(fma),
                to,
                ..
            } => {
                assert_eq!(to, from.0);
                assert_eq!(mag.poll_command(), None, "the answer comes last");
                return (fma, changed);
            }
            other @ (Command::Send { .. } | Command::Advertise(_)) => panic!("{other:?}"),
        }
    }
}

fn routes(mag: &Mag) -> Vec<(MnId, Hnp, bool)> {
    mag.routes()
        .map(|r| (r.mn_id.clone(), r.hnp, r.off_link))
        .collect()
}

#[test]
fn a_flow_comes_and_goes() {
    let mut mag = mag();
    let before = routes(&mag);
    let listed = [HnpOption::off_link(hnp(9))];
    let (fma, changed) = tell(&mut mag, LMAS[0], s(1), &add(10, selector(9), &listed));
    assert_eq!((fma.status, changed), (FmaStatus::SUCCESS, true));
    assert_eq!(fma.hnps, listed);
    assert_eq!(fma.lifetime.seconds(), 60, "no more than is allowed");
    assert!(routes(&mag).contains(&(mn(1), hnp(9), true)));
    // A copy is answered alike; an old one is refused; neither changes anything.
    let again = tell(&mut mag, LMAS[0], s(2), &add(10, selector(9), &listed));
    assert_eq!(again, (fma, false));
    let (fma, changed) = tell(&mut mag, LMAS[0], s(2), &del(9, selector(9)));
    assert_eq!(
        (fma.status, changed),
        (FmaStatus::SEQUENCE_OUT_OF_WINDOW, false)
    );

    let (fma, changed) = tell(&mut mag, LMAS[0], s(3), &del(11, selector(9)));
    assert_eq!(
        (fma.status, fma.lifetime, changed),
        (FmaStatus::SUCCESS, FlowLifetime::ZERO, true)
    );
    assert_eq!(routes(&mag), before);
    let (fma, _) = tell(&mut mag, LMAS[0], s(3), &del(12, selector(9)));
    assert_eq!(fma.status, FmaStatus::UNKNOWN_FLOW);
}

#[test]
fn only_hosted_prefixes_are_reached_without_the_lma() {
    for local_routing in [false, true] {
        let config = MagConfig {
            local_routing,
            ..config()
        };
        let mut local = BTreeMap::new();
        let mut note = |command| {
            if let Command::Table(TableUpdate::Binding { hnp, binding }) = command {
                local.insert(hnp, binding.unwrap().local);
            }
        };
        let mut mag = attached(config, &mut note);
        let granted = [HnpOption::off_link(hnp(9))];
        let fmi = add(10, selector(9), &granted);
        mag.handle_message(s(1), LMAS[0].0, COA.0, &fmi.into());
        while let Some(command) = mag.poll_command() {
            note(command);
        }
        let expected = [
            (hnp(1), local_routing),
            (hnp(2), local_routing),
            (hnp(9), false),
        ];
        assert_eq!(local, BTreeMap::from(expected));
    }
}

#[test]
fn a_deletion_leaves_what_others_need() {
    let mut mag = mag();
    let off = [HnpOption::off_link(hnp(9))];
    let own = [HnpOption::on_link(hnp(1))];
    let any: TrafficSelector = Selector::<Ipv6Addr>::default().into();
    tell(&mut mag, LMAS[0], s(1), &add(1, selector(9), &off));
    tell(&mut mag, LMAS[0], s(1), &add(2, any.clone(), &off));
    tell(&mut mag, LMAS[0], s(1), &del(3, selector(9)));
    assert!(routes(&mag).contains(&(mn(1), hnp(9), true)));
    tell(&mut mag, LMAS[0], s(1), &del(4, any));
    tell(&mut mag, LMAS[0], s(1), &add(5, selector(1), &own));
    tell(&mut mag, LMAS[0], s(1), &del(6, selector(1)));
    assert_eq!(
        routes(&mag),
        [(mn(1), hnp(1), false), (mn(2), hnp(2), false)]
    );
}

#[test]
fn what_is_refused_changes_nothing() {
    type Change = fn(&mut Fmi);
    let cases: [(FmaStatus, Change); 11] = [
        (FmaStatus::UNSPECIFIED, |f| f.mn_id = None),
        (FmaStatus::NOT_ATTACHED, |f| f.mn_id = Some(mn(3).into())),
        (FmaStatus::UNSPECIFIED, |f| {
            f.mn_id = Some(MnIdOption::Other {
                subtype: 2,
                octets: [1].into(),
            });
        }),
        (FmaStatus::NOT_ATTACHED, |f| {
            f.access = Some(AccessTechnology(5));
        }),
        (FmaStatus::UNSPECIFIED, |f| f.selectors.clear()),
        (FmaStatus::SELECTOR_FORMAT, |f| {
            f.selectors = vec![TrafficSelector::Ipv4(Selector::default()).into()];
        }),
        // Another mobile's prefix, on any pretext, or one that is much more than a mobile's.
        (FmaStatus::UNSPECIFIED, |f| {
            f.hnps = vec![HnpOption::off_link(hnp(2))];
        }),
        (FmaStatus::UNSPECIFIED, |f| {
            f.hnps = vec![HnpOption::on_link(hnp(2))];
        }),
        (FmaStatus::UNSPECIFIED, |f| {
            let wide = Hnp::new(hnp(2).addr(), 32).unwrap();
            f.hnps = vec![HnpOption::off_link(wide)];
        }),
        (FmaStatus::UNSPECIFIED, |f| {
            f.hnps = vec![HnpOption::off_link(HnpOption::ALL_ZERO.prefix)];
        }),
        // Nothing is known that the selector could be about.
        (FmaStatus::UNSPECIFIED, |f| f.hnps.clear()),
    ];
    for (expected, change) in cases {
        let mut mag = mag();
        let before = routes(&mag);
        let mut fmi = add(1, selector(9), &[HnpOption::off_link(hnp(9))]);
        change(&mut fmi);
        let (fma, changed) = tell(&mut mag, LMAS[0], s(1), &fmi);
        assert_eq!((fma.status, changed), (expected, false), "{fmi:?}");
        assert_eq!(routes(&mag), before);
    }
}

#[test]
fn an_unreadable_selector_is_named() {
    // Format 9 does not exist; the octets come from the wire, so they go through it here too.
    let fmi = add(1, selector(9), &[HnpOption::off_link(hnp(9))]);
    let mut octets = Message::from(fmi).encode(LMAS[0].0, COA.0).unwrap();
    let format = octets
        .windows(2)
        .rposition(|w| w[0] == 18 && w[1] == 38)
        .unwrap()
        + 2;
    octets[format] = 9;
    let sum = pmip_wire::checksum::compute(&octets, LMAS[0].0, COA.0);
    octets[4..6].copy_from_slice(&sum.to_be_bytes());
    let Ok(Message::Fmi(fmi)) = Message::decode(&octets, LMAS[0].0, COA.0) else {
        panic!("no FMI");
    };
    assert!(matches!(fmi.selectors[0], SelectorOption::Unreadable(_)));
    assert_eq!(
        tell(&mut mag(), LMAS[0], s(1), &fmi).0.status,
        FmaStatus::SELECTOR_FORMAT
    );
}

#[test]
fn only_the_lma_of_the_session_may_steer_it() {
    let mut mag = mag();
    let fmi = add(1, selector(9), &[HnpOption::off_link(hnp(9))]);
    assert_eq!(
        tell(&mut mag, LMAS[1], s(1), &fmi).0.status,
        FmaStatus::NOT_ATTACHED
    );
    let stranger: Ipv6Addr = "2001:db8:bad::1".parse().unwrap();
    mag.handle_message(s(1), stranger, COA.0, &fmi.into());
    assert_eq!((mag.poll_command(), mag.counters().unknown_peer), (None, 1));
}

#[test]
fn flows_without_prefixes_and_with_an_end() {
    let mut mag = mag();
    let fmi = Fmi {
        lifetime: FlowLifetime::from_seconds(20),
        ..add(1, selector(9), &[HnpOption::off_link(hnp(9))])
    };
    tell(&mut mag, LMAS[0], s(1), &fmi);
    // A refresh needs no prefixes, and a selector of a known prefix needs none either.
    let refresh = Fmi {
        sequence: 2,
        refresh: true,
        hnps: vec![],
        ..fmi
    };
    assert_eq!(
        tell(&mut mag, LMAS[0], s(11), &refresh).0.status,
        FmaStatus::SUCCESS
    );
    let own = add(3, selector(1), &[]);
    assert_eq!(
        tell(&mut mag, LMAS[0], s(11), &own).0.status,
        FmaStatus::SUCCESS
    );
    let third = add(4, Selector::<Ipv6Addr>::default().into(), &[]);
    assert_eq!(
        tell(&mut mag, LMAS[0], s(11), &third).0.status,
        FmaStatus::UNSPECIFIED,
        "full"
    );
    mag.handle_timeout(s(30));
    assert!(routes(&mag).contains(&(mn(1), hnp(9), true)));
    mag.handle_timeout(s(31));
    assert!(!routes(&mag).contains(&(mn(1), hnp(9), true)));
    assert_eq!(mag.bul().next().unwrap().flows.len(), 1);
}

#[test]
fn a_station_address_that_another_mobile_takes() {
    let mut mag = mag();
    let attachment = Attachment {
        mn_id: mn(3),
        ..mag.bul().next().unwrap().attachment.clone()
    };
    mag.attach(s(1), attachment).unwrap();
    assert_eq!(routes(&mag), [(mn(2), hnp(2), false)]);
    let pbus = std::iter::from_fn(|| mag.poll_command()).filter_map(|c| match c {
        Command::Send {
            message: Message::Pbu(pbu),
            ..
        } => Some((pbu.mn_id.unwrap(), pbu.lifetime.is_zero())),
        Command::Send { .. } | Command::Table(_) | Command::Advertise(_) => None,
    });
    assert_eq!(
        pbus.collect::<Vec<_>>(),
        [(mn(1).into(), true), (mn(3).into(), false)]
    );
    let group = Attachment {
        mac: MacAddr::BROADCAST,
        ..mag.bul().next().unwrap().attachment.clone()
    };
    assert_eq!(
        mag.attach(s(1), group),
        Err(AttachError::GroupAddress(MacAddr::BROADCAST))
    );
}

#[test]
fn an_odd_answer_does_not_keep_a_mobile_that_left() {
    let mut mag = mag();
    assert!(mag.detach(s(1), PortId(0), MacAddr([2, 0, 0, 0, 0, 1])));
    let Some(Command::Send {
        message: Message::Pbu(pbu),
        ..
    }) = mag.poll_command()
    else {
        panic!("no PBU");
    };
    let pba = Pba {
        flags: PbaFlags::PROXY,
        sequence: pbu.sequence,
        mn_id: pbu.mn_id,
        handoff: pbu.handoff,
        access: Some(AccessTechnology(9)),
        ll_id: pbu.ll_id,
        ..Pba::default()
    };
    mag.handle_message(s(1), LMAS[0].0, COA.0, &pba.into());
    for second in 1..60 {
        mag.handle_timeout(s(second));
    }
    assert_eq!(mag.bul().count(), 1, "only mobile 2");
}

#[test]
fn an_lma_cannot_fill_the_tables_with_one_mobile() {
    let mut mag = mag();
    let off_link = |n: u16| HnpOption::off_link(hnp(100 + n));
    let all: Vec<_> = (0..65).map(off_link).collect();
    let (fma, changed) = tell(&mut mag, LMAS[0], s(1), &add(1, selector(1), &all));
    assert_eq!((fma.status, changed), (FmaStatus::UNSPECIFIED, false));
    let (fma, _) = tell(&mut mag, LMAS[0], s(1), &add(2, selector(1), &all[..64]));
    assert!(fma.status.is_success());
    let (fma, changed) = tell(&mut mag, LMAS[0], s(1), &add(3, selector(2), &all[64..]));
    assert_eq!((fma.status, changed), (FmaStatus::UNSPECIFIED, false));
    assert_eq!(routes(&mag).len(), 66);
}

#[test]
fn more_prefixes_than_a_mobile_can_be_told_are_a_refusal() {
    let mut mag = mag();
    let attachment = Attachment {
        mn_id: mn(3),
        mac: MacAddr([2, 0, 0, 0, 0, 3]),
        ..mag.bul().next().unwrap().attachment.clone()
    };
    mag.attach(s(1), attachment).unwrap();
    let Some(Command::Send {
        message: Message::Pbu(pbu),
        ..
    }) = mag.poll_command()
    else {
        panic!("no PBU");
    };
    let pba = Pba {
        status: BindingStatus::ACCEPTED,
        flags: PbaFlags::PROXY,
        sequence: pbu.sequence,
        lifetime: pbu.lifetime,
        mn_id: pbu.mn_id,
        hnps: (0..17).map(|n| HnpOption::on_link(hnp(200 + n))).collect(),
        handoff: pbu.handoff,
        access: pbu.access,
        ll_id: pbu.ll_id,
        ..Pba::default()
    };
    mag.handle_message(s(1), LMAS[0].0, COA.0, &pba.into());
    assert_eq!(mag.poll_command(), None);
    let state = mag.bul().last().map(|bule| bule.state);
    assert_eq!(
        state,
        Some(BuleState::Refused(BindingStatus::UNSPECIFIED.0))
    );
}

/// The MTUs that each mobile is advertised, in the order that they are.
fn advertised(mag: &mut Mag, now: Now) -> Vec<(u8, u16)> {
    mag.handle_timeout(now);
    let commands = std::iter::from_fn(|| mag.poll_command());
    let mtus = commands.filter_map(|command| match command {
        Command::Advertise(ra) => Some((ra.mac.0[5], ra.mtu)),
        Command::Send { .. } | Command::Table(_) => None,
    });
    mtus.collect()
}

#[test]
fn mobiles_are_told_what_the_tunnel_carries_now() {
    let mut mag = mag();
    assert!(advertised(&mut mag, s(1)).is_empty());
    // Each at once, and in every advertisement from then on.
    mag.handle_path_mtu(s(1), LMAS[0], Some(1400));
    assert_eq!(advertised(&mut mag, s(2)), [(1, 1360), (2, 1360)]);
    let later = advertised(&mut mag, s(210));
    assert_eq!(later, [(1, 1360), (2, 1360)]);
    // Nothing new, another LMA's tunnel, and more than is configured.
    mag.handle_path_mtu(s(211), LMAS[0], Some(1400));
    mag.handle_path_mtu(s(211), LMAS[1], Some(1300));
    assert!(advertised(&mut mag, s(212)).is_empty());
    // No link may carry less than 1280.
    mag.handle_path_mtu(s(213), LMAS[0], Some(1280));
    assert_eq!(advertised(&mut mag, s(214)), [(1, 1280), (2, 1280)]);
    mag.handle_path_mtu(s(215), LMAS[0], None);
    assert_eq!(advertised(&mut mag, s(216)), [(1, 1460), (2, 1460)]);
    mag.handle_path_mtu(s(217), LMAS[0], Some(9000));
    assert!(advertised(&mut mag, s(218)).is_empty());
}
