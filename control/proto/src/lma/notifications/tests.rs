//! Requests to register a mobile again: what is sent, when, and what an answer means.

use std::net::Ipv6Addr;

use flow::{HandoffIndicator, MacAddr, Selector};
use pmip_wire::{BindingError, BindingLifetime, Fma, FmaStatus, Message, Pbu, PbuFlags, Timestamp};

use super::*;
use crate::command::Command;
use crate::config::{LmaConfig, MagPeer};
use crate::heartbeat::{HeartbeatConfig, Verdict};
use crate::lma::FlowRequest;
use crate::pool::PrefixPool;

const LMAA: Lmaa = Lmaa(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1));

fn coa(n: u16) -> ProxyCoa {
    ProxyCoa(Ipv6Addr::new(0x2001, 0xdb8, 0xa, n, 0, 0, 0, 1))
}

fn s(time: u64) -> Now {
    Now {
        monotonic: Duration::from_secs(time),
        wall: Duration::from_secs(time),
    }
}

fn mn(n: u8) -> MnId {
    MnId::new(&format!("mn{n}@example.net")).unwrap()
}

fn bid(n: u16) -> Bid {
    Bid::new(n).unwrap()
}

fn upns(lma: &mut Lma) -> Vec<(Ipv6Addr, Upn)> {
    std::iter::from_fn(|| lma.poll_command())
        .filter_map(|command| match command {
            Command::Send {
                to,
                message: Message::Upn(upn),
                ..
            } => Some((to, upn)),
            Command::Send { .. } | Command::Table(_) | Command::Advertise(_) => None,
        })
        .collect()
}

/// Mobile 1 with an interface at each of two MAGs of this dialect.
fn lma(dialect: Dialect) -> Lma {
    let range = Hnp::new("2001:db8:1000::".parse().unwrap(), 36).unwrap();
    let pool = PrefixPool::new(range, 64, Duration::ZERO).unwrap();
    let peer = |n| MagPeer {
        dialect,
        ..MagPeer::new(coa(n))
    };
    let config = LmaConfig {
        heartbeat: HeartbeatConfig {
            interval: Some(Duration::from_hours(1)),
            ..HeartbeatConfig::default()
        },
        ..LmaConfig::new(LMAA, (1..=2).map(peer).collect(), vec![pool])
    };
    let mut lma = Lma::new(config, 1);
    for n in 1..=2 {
        let pbu = Pbu {
            flags: PbuFlags::REQUEST,
            lifetime: BindingLifetime::from_units(75),
            mn_id: Some(mn(1).into()),
            hnps: vec![HnpOption::ALL_ZERO],
            handoff: Some(HandoffIndicator::NEW_INTERFACE),
            access: Some(AccessTechnology(4)),
            ll_id: Some(MacAddr([2, 0, 0, 0, 0, n]).into()),
            timestamp: Some(Timestamp::from_epoch(s(5).wall)),
            ..Pbu::default()
        };
        lma.handle_message(s(5), coa(n.into()).0, LMAA.0, &pbu.into());
    }
    upns(&mut lma);
    lma
}

/// Numbers of the FMIs sent.
fn fmis(lma: &mut Lma) -> Vec<u16> {
    let mut sequences = Vec::new();
    while let Some(command) = lma.poll_command() {
        if let Command::Send {
            message: Message::Fmi(fmi),
            ..
        } = command
        {
            sequences.push(fmi.sequence);
        }
    }
    sequences
}

fn answer(lma: &mut Lma, now: Now, from: ProxyCoa, sequence: u16, status: UpaStatus) {
    let upa = Upa {
        sequence,
        status,
        mn_id: Some(mn(1).into()),
        ..Upa::default()
    };
    lma.handle_message(now, from.0, LMAA.0, &upa.into());
}

fn ended(lma: &mut Lma) -> Vec<RequestOutcome> {
    let mut outcomes = Vec::new();
    while let Some(event) = lma.poll_event() {
        if let LmaEvent::ReregistrationEnded { outcome, .. } = event {
            outcomes.push(outcome);
        }
    }
    outcomes
}

fn states(lma: &Lma) -> Vec<BceState> {
    lma.bindings().map(|(_, bce)| bce.state).collect()
}

#[test]
fn a_request_is_repeated_unchanged_but_for_one_bit_and_then_given_up() {
    let mut lma = lma(Dialect::Draft);
    assert_eq!(lma.reregister(s(10), &mn(1), Some(bid(2)), None), Ok(1));
    let (to, first) = upns(&mut lma).pop().unwrap();
    assert_eq!(to, coa(2).0);
    assert_eq!(first.reason, NotificationReason::FORCE_REREGISTRATION);
    assert!(first.acknowledge && !first.retransmission);
    assert_eq!(first.ll_id, Some(MacAddr([2, 0, 0, 0, 0, 2]).into()));
    for second in 11..=13 {
        lma.handle_timeout(s(second));
        let copy = Upn {
            retransmission: true,
            ..first.clone()
        };
        assert_eq!(upns(&mut lma), [(coa(2).0, copy)]);
    }
    lma.handle_timeout(s(14));
    assert_eq!(
        (upns(&mut lma), ended(&mut lma)),
        (vec![], vec![RequestOutcome::NoAnswer])
    );
    assert_eq!(states(&lma), [BceState::Active; 2]);
    // What comes now answers nothing.
    answer(
        &mut lma,
        s(15),
        coa(2),
        first.sequence,
        UpaStatus::NOT_ATTACHED,
    );
    assert_eq!(states(&lma), [BceState::Active; 2]);
}

#[test]
fn all_mags_of_a_mobile_are_asked_each_with_a_number_of_its_own() {
    let mut lma = lma(Dialect::Draft);
    assert_eq!(lma.reregister(s(10), &mn(1), None, None), Ok(2));
    assert_eq!(lma.reregister(s(10), &mn(1), None, Some(coa(1))), Ok(1));
    let sent = upns(&mut lma);
    let to: Vec<_> = sent.iter().map(|(to, _)| *to).collect();
    assert_eq!(to, [coa(1).0, coa(2).0, coa(1).0]);
    assert_ne!(sent[0].1.sequence, sent[2].1.sequence);
    // FMIs count on from the same numbers.
    let peer = lma.peers.get_mut(&coa(1)).unwrap();
    let fmi = peer.begin((MobileId(0), bid(1)), 10).unwrap();
    assert_eq!(fmi, sent[2].1.sequence.wrapping_add(1));
}

#[test]
fn what_the_mag_denies_is_lost_unless_it_came_since() {
    let mut lma = lma(Dialect::Draft);
    lma.reregister(s(10), &mn(1), Some(bid(1)), None).unwrap();
    let sequence = upns(&mut lma)[0].1.sequence;
    let mut young = lma.clone();
    answer(&mut lma, s(11), coa(1), sequence, UpaStatus::NOT_ATTACHED);
    assert_eq!(states(&lma), [BceState::Lost, BceState::Active]);
    let status = RequestOutcome::Answered(UpaStatus::NOT_ATTACHED.0);
    assert_eq!(ended(&mut lma), [status]);

    let id = young.cache.id_of(&mn(1)).unwrap();
    young.with_mobile(id, |_, mobile| {
        mobile.session_mut(bid(1)).unwrap().registered = s(11).monotonic;
    });
    answer(&mut young, s(11), coa(1), sequence, UpaStatus::NOT_ATTACHED);
    assert_eq!(states(&young), [BceState::Active; 2]);
}

#[test]
fn nobody_is_asked_in_vain() {
    let mut lma = lma(Dialect::Draft);
    let unknown = ReregistrationError::UnknownMobile(mn(9));
    assert_eq!(lma.reregister(s(10), &mn(9), None, None), Err(unknown));
    let none = ReregistrationError::NoBinding(mn(1));
    assert_eq!(lma.reregister(s(10), &mn(1), Some(bid(7)), None), Err(none));
    let peer = ReregistrationError::UnknownPeer(coa(9));
    let asked = lma.reregister(s(10), &mn(1), None, Some(coa(9)));
    assert_eq!(asked, Err(peer));
    assert_eq!(upns(&mut lma), []);
    // A MAG that is named may know a mobile that is not known here.
    assert_eq!(lma.reregister(s(10), &mn(9), None, Some(coa(1))), Ok(1));
    // Until it says that it does not know the message.
    let error = Message::BindingError(BindingError::unrecognized());
    lma.heartbeats.refused(coa(1).0);
    lma.handle_message(s(11), coa(1).0, LMAA.0, &error);
    assert_eq!(ended(&mut lma), [RequestOutcome::NotUnderstood]);
    let deaf = ReregistrationError::NotUnderstood(coa(1));
    let asked = lma.reregister(s(12), &mn(9), None, Some(coa(1)));
    assert_eq!(asked, Err(deaf));
}

#[test]
fn a_session_of_either_self_of_a_restarted_mag_is_asked_about_where_that_can_be() {
    let restarted = Verdict::Restarted {
        since: s(1).monotonic,
        counter: 2,
    };
    for (dialect, asked) in [(Dialect::Draft, 0), (Dialect::Rfc7864, 1)] {
        let mut lma = lma(dialect);
        lma.conclude(s(10).monotonic, coa(1), restarted);
        assert_eq!(states(&lma), [BceState::Active; 2]);
        let sent = upns(&mut lma);
        assert_eq!(sent.len(), asked, "{dialect:?}");
        // Not twice at a time.
        lma.conclude(s(10).monotonic, coa(1), restarted);
        assert_eq!(upns(&mut lma), []);
    }
}

#[test]
fn an_fmi_that_overtook_the_pba_is_sent_again_soon() {
    for (asked, again) in [(6, true), (60, false)] {
        let mut lma = lma(Dialect::Draft);
        let request = FlowRequest {
            mn_id: mn(1),
            fid: None,
            priority: None,
            selector: Selector::<Ipv6Addr>::default().into(),
            bid: bid(1),
        };
        lma.add_flow(s(asked), request).unwrap();
        let sequence = fmis(&mut lma)[0];
        let denied = Fma {
            sequence,
            status: FmaStatus::NOT_ATTACHED,
            mn_id: Some(mn(1).into()),
            ..Fma::default()
        };
        lma.handle_message(s(asked), coa(1).0, LMAA.0, &denied.into());
        assert_eq!(fmis(&mut lma), []);
        lma.handle_timeout(s(asked + 1));
        assert_eq!(
            fmis(&mut lma).len(),
            usize::from(again),
            "asked at {asked} s"
        );
    }
}

#[test]
fn either_all_are_asked_or_nobody_is() {
    let mut lma = lma(Dialect::Rfc7864);
    while let Ok(asked) = lma.reregister(s(6), &mn(1), None, Some(coa(2))) {
        assert_eq!(asked, 1);
    }
    upns(&mut lma);
    let result = lma.reregister(s(6), &mn(1), None, None);
    assert_eq!(result, Err(ReregistrationError::TooMany));
    assert!(upns(&mut lma).is_empty(), "the other MAG has room");
    assert_eq!(lma.reregister(s(6), &mn(1), None, Some(coa(1))), Ok(1));
}
