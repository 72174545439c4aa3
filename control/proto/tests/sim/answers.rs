//! What PBUs, PBAs and Router Advertisements have to say, option by option (RFC 5213 §5.3.6,
//! §6.7, §6.9.1.5, §6.9.2).

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{HandoffIndicator, MacAddr, PortId, ProxyCoa};
use pmip_proto::mag::BuleState;
use pmip_proto::{Command, Lma, LmaConfig, Mag, MagConfig, Now, RouterAdvertisement, TunnelConfig};
use pmip_wire::{
    BindingStatus, HnpOption, Message, NotificationReason, Pba, PbaFlags, Pbu, PbuFlags, Timestamp,
    Upa, UpaStatus, Upn,
};

use crate::world::{COAS, LMAA, access, attachment, hnp, lma_config, mac, mag_config, mn};

fn at(ms: u64) -> Now {
    Now {
        monotonic: Duration::from_millis(ms),
        wall: Duration::from_secs(1_700_000_000) + Duration::from_millis(ms),
    }
}

/// What a role sent since the last call: messages with both addresses, and advertisements.
type Sent = (Vec<(Ipv6Addr, Ipv6Addr, Message)>, Vec<RouterAdvertisement>);

fn sent(mut poll: impl FnMut() -> Option<Command>) -> Sent {
    let (mut messages, mut advertisements) = (Vec::new(), Vec::new());
    while let Some(command) = poll() {
        match command {
            Command::Send { from, to, message } => messages.push((from, to, message)),
            Command::Advertise(ra) => advertisements.push(ra),
            Command::Table(_) => {}
        }
    }
    (messages, advertisements)
}

fn attached(change: impl FnOnce(&mut MagConfig)) -> (Mag, Pbu) {
    let mut config = mag_config(0);
    change(&mut config);
    let mut mag = Mag::new(config, 1);
    let new = attachment(&mn(1), 0, HandoffIndicator::NEW_INTERFACE);
    mag.attach(at(0), new).unwrap();
    let pbu = pbu(&mut mag);
    (mag, pbu)
}

/// The one PBU that the MAG has sent.
fn pbu(mag: &mut Mag) -> Pbu {
    let (messages, _) = sent(|| mag.poll_command());
    let [(from, to, Message::Pbu(pbu))] = messages.as_slice() else {
        panic!("{messages:?}");
    };
    assert_eq!((*from, *to), (COAS[0].0, LMAA.0));
    pbu.clone()
}

fn pba(pbu: &Pbu, prefix: &str) -> Pba {
    Pba {
        status: BindingStatus::ACCEPTED,
        flags: PbaFlags::PROXY,
        sequence: pbu.sequence,
        lifetime: pbu.lifetime,
        mn_id: pbu.mn_id.clone(),
        hnps: vec![HnpOption::on_link(hnp(prefix))],
        handoff: pbu.handoff,
        access: pbu.access,
        ll_id: pbu.ll_id.clone(),
        timestamp: pbu.timestamp,
        ..Pba::default()
    }
}

/// The advertisements that follow an answer.
fn tell(mag: &mut Mag, ms: u64, pba: Pba) -> Vec<RouterAdvertisement> {
    mag.handle_message(at(ms), LMAA.0, COAS[0].0, &pba.into());
    sent(|| mag.poll_command()).1
}

/// What an LMA answers, with its source and destination.
fn ask(lma: &mut Lma, from: ProxyCoa, ms: u64, pbu: &Pbu) -> (Ipv6Addr, Ipv6Addr, Pba) {
    lma.handle_message(at(ms), from.0, LMAA.0, &pbu.clone().into());
    let (messages, _) = sent(|| lma.poll_command());
    match messages.as_slice() {
        [(from, to, Message::Pba(pba))] => (*from, *to, pba.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_goes_to_where_the_pbu_came_from() {
    let mut lma = Lma::new(lma_config(), 1);
    let (_, pbu) = attached(|_| {});
    let elsewhere = Pbu {
        alt_coa: Some(COAS[1]),
        ..pbu.clone()
    };
    let (from, to, pba) = ask(&mut lma, COAS[0], 0, &elsewhere);
    assert_eq!((from, to), (LMAA.0, COAS[0].0));
    assert_eq!(pba.status, BindingStatus::ACCEPTED);
    let (_, bce) = lma.bindings().next().unwrap();
    assert_eq!(
        bce.proxy_coa, COAS[1],
        "the tunnel ends at the Alternate CoA"
    );
    // Which must be a MAG's, too, and can be a tunnel's end.
    let (mut lma, stranger) = (
        Lma::new(lma_config(), 1),
        "2001:db8:bad::1".parse().unwrap(),
    );
    let strange = Pbu {
        alt_coa: Some(ProxyCoa(stranger)),
        ..pbu.clone()
    };
    let (_, _, pba) = ask(&mut lma, COAS[0], 0, &strange);
    assert_eq!(pba.status, BindingStatus::MAG_NOT_AUTHORIZED_FOR_PROXY_REG);
    for nowhere in ["::", "ff02::1", "fe80::1", "::1"] {
        let nowhere = Pbu {
            alt_coa: Some(ProxyCoa(nowhere.parse().unwrap())),
            ..pbu.clone()
        };
        lma.handle_message(at(0), COAS[0].0, LMAA.0, &nowhere.into());
        assert!(lma.poll_command().is_none());
    }
    assert_eq!(lma.counters().bad_care_of_address, 4);
}

#[test]
fn a_refusal_repeats_the_prefixes_that_were_asked_for() {
    let mut lma = Lma::new(lma_config(), 1);
    let (_, pbu) = attached(|_| {});
    let asked = ["2001:db8:ffff::/64", "2001:db8:eeee::/64"];
    let foreign = Pbu {
        hnps: asked.map(|p| HnpOption::on_link(hnp(p))).to_vec(),
        ..pbu
    };
    let config = LmaConfig {
        prefixes_per_session: 2,
        ..lma_config()
    };
    let mut two = Lma::new(config, 1);
    let (_, _, pba) = ask(&mut two, COAS[0], 0, &foreign);
    assert_eq!(
        pba.status,
        BindingStatus::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX
    );
    assert_eq!(pba.hnps, foreign.hnps);
    // More than a session may have is a question of room.
    let (_, _, pba) = ask(&mut lma, COAS[0], 0, &foreign);
    assert_eq!(pba.status, BindingStatus::INSUFFICIENT_RESOURCES);
    assert_eq!(pba.hnps, foreign.hnps);
}

#[test]
fn options_are_answered_if_they_were_there() {
    let address: Ipv6Addr = "fe80::7".parse().unwrap();
    let (_, full) = attached(|_| {});
    let full = Pbu {
        link_local: Some(address),
        ..full
    };
    let bare = Pbu {
        timestamp: None,
        ll_id: None,
        link_local: None,
        ..full.clone()
    };
    for (handoff, status) in [
        (
            Some(HandoffIndicator::NEW_INTERFACE),
            BindingStatus::ACCEPTED,
        ),
        (None, BindingStatus::MISSING_HANDOFF_INDICATOR_OPTION),
    ] {
        let asked = |pbu: &Pbu| {
            let pbu = Pbu {
                handoff,
                ..pbu.clone()
            };
            let (_, _, pba) = ask(&mut Lma::new(lma_config(), 1), COAS[0], 0, &pbu);
            assert_eq!(pba.status, status);
            (pba.timestamp.is_some(), pba.ll_id, pba.link_local)
        };
        assert_eq!(asked(&full), (true, full.ll_id.clone(), Some(address)));
        assert_eq!(asked(&bare), (false, None, None));
    }
}

#[test]
fn the_mags_link_local_address() {
    for fixed in [true, false] {
        let config = LmaConfig {
            mag_link_local: Some(MacAddr::MAG.link_local()).filter(|_| fixed),
            ..lma_config()
        };
        let mut lma = Lma::new(config, 1);
        let (_, mut pbu) = attached(|_| {});
        let mut named = |ms, asked: Option<Ipv6Addr>| {
            pbu.link_local = asked;
            pbu.timestamp = Some(Timestamp::from_epoch(at(ms).wall));
            ask(&mut lma, COAS[0], ms, &pbu).2.link_local
        };
        let zero = Ipv6Addr::UNSPECIFIED;
        let made = named(1, Some(zero)).unwrap();
        assert!(made.is_unicast_link_local(), "{made}");
        assert_eq!(made == MacAddr::MAG.link_local(), fixed);
        assert_eq!(named(2, Some(zero)), Some(made), "the session's");
        let reported: Ipv6Addr = "fe80::5".parse().unwrap();
        assert_eq!(named(3, Some(reported)), Some(reported));
        assert_eq!(named(4, None), None);
        assert_eq!(named(5, Some(zero)), Some(reported), "stored");
    }
}

#[test]
fn a_pbu_says_what_it_has_to() {
    let (mut mag, pbu) = attached(|_| {});
    assert!(pbu.flags.contains(PbuFlags::PROXY) && pbu.flags.contains(PbuFlags::ACKNOWLEDGE));
    assert_eq!(pbu.mn_id, Some(mn(1).into()));
    assert_eq!(pbu.hnps, [HnpOption::ALL_ZERO]);
    assert_eq!(pbu.handoff, Some(HandoffIndicator::NEW_INTERFACE));
    assert_eq!(pbu.access, Some(access(0)));
    assert_eq!(pbu.ll_id, Some(mac(&mn(1), 0).into()));
    assert_eq!(pbu.timestamp, Some(Timestamp::from_epoch(at(0).wall)));
    assert_eq!((pbu.link_local, pbu.alt_coa), (None, None));
    // Numbers count up across mobiles, so that answers can be told apart.
    let mut other = attachment(&mn(2), 1, HandoffIndicator::UNKNOWN);
    other.ll_id = None;
    other.wanted = vec![hnp("2001:db8:1::/64"), hnp("2001:db8:2::/64")];
    mag.attach(at(10), other).unwrap();
    let (messages, _) = sent(|| mag.poll_command());
    let [(_, _, Message::Pbu(second))] = messages.as_slice() else {
        panic!("{messages:?}");
    };
    assert_eq!(second.sequence, pbu.sequence.wrapping_add(1));
    assert_eq!(second.ll_id, None);
    assert_eq!(second.hnps.len(), 2, "or all that are wanted");
}

#[test]
fn a_mag_without_an_address_asks_for_one() {
    let (mut mag, pbu) = attached(|config| config.link_local = None);
    assert_eq!(pbu.link_local, Some(Ipv6Addr::UNSPECIFIED));
    let given: Ipv6Addr = "fe80::abcd".parse().unwrap();
    let answer = Pba {
        link_local: Some(given),
        ..pba(&pbu, "2001:db8:1::/64")
    };
    let advertisements = tell(&mut mag, 10, answer);
    assert_eq!(advertisements[0].source, given);
    mag.handle_timeout(at(150_010));
    let (messages, _) = sent(|| mag.poll_command());
    assert!(messages.iter().any(|(_, _, m)| match m {
        Message::Pbu(pbu) => pbu.link_local == Some(given),
        _ => false,
    }));
}

#[test]
fn a_mobile_is_told_its_prefixes_while_they_are_its() {
    let solicit = |mag: &mut Mag, ms| {
        mag.handle_router_solicitation(at(ms), PortId(0), mac(&mn(1), 0));
        sent(|| mag.poll_command()).1
    };
    // Not before the LMA has accepted, and not when it has refused.
    let (mut mag, pbu) = attached(|_| {});
    assert_eq!(solicit(&mut mag, 5), []);
    let refusal = Pba {
        status: BindingStatus::PROHIBITED,
        ..pba(&pbu, "2001:db8:1::/64")
    };
    assert_eq!(tell(&mut mag, 10, refusal), []);
    assert_eq!(solicit(&mut mag, 20), []);
    // At once when it accepts, when asked, and from time to time; never for longer than granted.
    let (mut mag, pbu) = attached(|config| config.ra_interval = Duration::from_secs(30));
    let [first] = tell(&mut mag, 10, pba(&pbu, "2001:db8:1::/64"))
        .try_into()
        .unwrap();
    assert_eq!((first.port, first.mac), (PortId(0), mac(&mn(1), 0)));
    assert_eq!(first.source, MacAddr::MAG.link_local());
    let [prefix] = first.prefixes.as_slice() else {
        panic!("{first:?}");
    };
    assert_eq!(prefix.hnp, hnp("2001:db8:1::/64"));
    assert_eq!(
        (prefix.lifetime, first.router_lifetime),
        (Duration::from_millis(299_990), prefix.lifetime)
    );
    let [asked] = solicit(&mut mag, 5000).try_into().unwrap();
    assert_eq!(asked.prefixes[0].lifetime, Duration::from_secs(295));
    mag.handle_timeout(at(35_000));
    assert_eq!(sent(|| mag.poll_command()).1.len(), 1);
    // A refusal later on takes it all back.
    mag.handle_timeout(at(150_000));
    let (messages, _) = sent(|| mag.poll_command());
    let refresh = messages.into_iter().find_map(|(_, _, m)| match m {
        Message::Pbu(pbu) => Some(pbu),
        _ => None,
    });
    let refusal = Pba {
        status: BindingStatus::PROXY_REG_NOT_ENABLED,
        ..pba(&refresh.unwrap(), "2001:db8:1::/64")
    };
    let [last] = tell(&mut mag, 150_010, refusal).try_into().unwrap();
    assert_eq!(
        (last.router_lifetime, last.prefixes[0].lifetime),
        (Duration::ZERO, Duration::ZERO)
    );
    assert_eq!(mag.routes().count(), 0);
}

/// RFC 5213 §6.12: what the LMA no longer names is withdrawn, on the link and in the tables.
#[test]
fn a_renumbered_prefix_is_withdrawn() {
    let (mut mag, first) = attached(|_| {});
    tell(&mut mag, 10, pba(&first, "2001:db8:1::/64"));
    mag.handle_timeout(at(150_000));
    let (messages, _) = sent(|| mag.poll_command());
    let refresh = messages.into_iter().find_map(|(_, _, m)| match m {
        Message::Pbu(pbu) => Some(pbu),
        _ => None,
    });
    let [ra] = tell(&mut mag, 150_010, pba(&refresh.unwrap(), "2001:db8:2::/64"))
        .try_into()
        .unwrap();
    let lifetimes: Vec<_> = ra
        .prefixes
        .iter()
        .map(|p| (p.hnp.to_string(), p.lifetime.is_zero()))
        .collect();
    let expected = [("2001:db8:2::/64", false), ("2001:db8:1::/64", true)];
    assert_eq!(lifetimes, expected.map(|(p, gone)| (p.to_owned(), gone)));
    let routes: Vec<_> = mag.routes().map(|r| r.hnp).collect();
    assert_eq!(routes, [hnp("2001:db8:2::/64")]);
}

/// RFC 5213 §6.9.5: the lower of the tunnel's MTU and the link's, and never below 1280.
#[test]
fn a_mobile_is_told_what_fits() {
    for (path_mtu, link_mtu, told) in [
        (1500, 1500, 1460),
        (9000, 1500, 1500),
        (1600, 1400, 1400),
        (1300, 1500, 1280),
    ] {
        let (mut mag, pbu) = attached(|config| {
            config.link_mtu = link_mtu;
            config.lmas[0].tunnel = TunnelConfig {
                path_mtu,
                ..TunnelConfig::default()
            };
        });
        let [ra] = tell(&mut mag, 10, pba(&pbu, "2001:db8:1::/64"))
            .try_into()
            .unwrap();
        assert_eq!(ra.mtu, told, "path {path_mtu}, link {link_mtu}");
    }
}

/// RFC 7077 §6.1: an answer if one is wanted, and nothing changes.
#[test]
fn notifications_without_a_meaning_here_are_declined() {
    let (mut mag, pbu) = attached(|_| {});
    tell(&mut mag, 10, pba(&pbu, "2001:db8:1::/64"));
    for (reason, status) in [
        (2, UpaStatus::FAILED_TO_UPDATE_SESSION_PARAMETERS),
        (3, UpaStatus::MISSING_VENDOR_SPECIFIC_OPTION),
        (4, UpaStatus::UNSPECIFIED),
    ] {
        for acknowledge in [true, false] {
            let upn = Upn {
                sequence: 7,
                reason: NotificationReason(reason),
                acknowledge,
                mn_id: Some(mn(1).into()),
                ..Upn::default()
            };
            mag.handle_message(at(20), LMAA.0, COAS[0].0, &upn.into());
            let (messages, _) = sent(|| mag.poll_command());
            let answers: Vec<&Upa> = messages
                .iter()
                .map(|(_, _, m)| match m {
                    Message::Upa(upa) => upa,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(answers.len(), usize::from(acknowledge), "{reason}");
            assert!(
                answers
                    .iter()
                    .all(|upa| (upa.status, upa.sequence) == (status, 7))
            );
        }
    }
    assert_eq!(mag.bul().next().unwrap().state, BuleState::Active);
    assert_eq!(mag.counters().unexpected, 6);
}
