//! BRAs at an LMA: what each status, and each lack of one, means for the bindings.

use std::net::Ipv6Addr;

use flow::{AccessTechnology, HandoffIndicator, MacAddr};
use pmip_wire::{
    BindingError, BindingLifetime, BindingStatus, Message, MnIdOption, Pba, Pbu, PbuFlags,
    Timestamp,
};

use super::*;
use crate::command::Command;
use crate::config::{LmaConfig, MagPeer};
use crate::pool::PrefixPool;

const LMAA: Lmaa = Lmaa(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1));
const MAG: ProxyCoa = ProxyCoa(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1));

fn ms(time: u64) -> Now {
    Now {
        monotonic: Duration::from_millis(time),
        wall: Duration::from_millis(time),
    }
}

fn mn(n: u8) -> MnId {
    MnId::new(&format!("mn{n}@example.net")).unwrap()
}

fn sent(lma: &mut Lma) -> Vec<Message> {
    std::iter::from_fn(|| lma.poll_command())
        .filter_map(|command| match command {
            Command::Send { message, .. } => Some(message),
            Command::Table(_) | Command::Advertise(_) => None,
        })
        .collect()
}

fn bris(lma: &mut Lma) -> Vec<Bri> {
    let mut bris = Vec::new();
    for message in sent(lma) {
        if let Message::Bri(bri) = message {
            bris.push(bri);
        }
    }
    bris
}

/// Registers a mobile's interface, and returns the answers.
fn register(
    lma: &mut Lma,
    now: Now,
    n: u8,
    interface: u8,
    handoff: HandoffIndicator,
    lifetime: u16,
) -> Vec<Pba> {
    let pbu = Pbu {
        flags: PbuFlags::REQUEST,
        lifetime: BindingLifetime::from_units(lifetime),
        mn_id: Some(mn(n).into()),
        hnps: vec![HnpOption::ALL_ZERO],
        handoff: Some(handoff),
        access: Some(AccessTechnology(4)),
        ll_id: Some(MacAddr([2, 0, 0, 0, n, interface]).into()),
        timestamp: Some(Timestamp::from_epoch(now.wall)),
        ..Pbu::default()
    };
    lma.handle_message(now, MAG.0, LMAA.0, &pbu.into());
    let mut pbas = Vec::new();
    for message in sent(lma) {
        if let Message::Pba(pba) = message {
            pbas.push(pba);
        }
    }
    pbas
}

/// Mobiles 1 and 2 with two interfaces each at one MAG.
fn lma() -> Lma {
    let range = Hnp::new("2001:db8:1000::".parse().unwrap(), 36).unwrap();
    let pool = PrefixPool::new(range, 64, Duration::ZERO).unwrap();
    let mut lma = Lma::new(LmaConfig::new(LMAA, vec![MagPeer::new(MAG)], vec![pool]), 1);
    for n in 1..=2 {
        for interface in 1..=2 {
            let handoff = HandoffIndicator::NEW_INTERFACE;
            register(&mut lma, ms(0), n, interface, handoff, 75);
        }
    }
    lma
}

fn bid(n: u16) -> Bid {
    Bid::new(n).unwrap()
}

fn answer(lma: &mut Lma, now: Now, bri: &Bri, status: RevocationStatus) {
    let bra = Bra {
        status,
        sequence: bri.sequence,
        flags: bri.flags,
        mn_id: bri.mn_id.clone(),
        hnps: bri.hnps.clone(),
        others: Vec::new(),
    };
    lma.handle_message(now, MAG.0, LMAA.0, &bra.into());
}

fn states(lma: &Lma, n: u8) -> Vec<BceState> {
    let of = lma.bindings().filter(|(mn_id, _)| **mn_id == mn(n));
    of.map(|(_, bce)| bce.state).collect()
}

fn begin(lma: &mut Lma, scope: &RevocationScope) -> Vec<Bri> {
    lma.revoke(ms(1000), scope).unwrap();
    bris(lma)
}

#[test]
fn an_indication_names_the_mobile_and_the_prefixes_that_end() {
    let mut lma = lma();
    let hnps = |lma: &Lma, bids: &[u16]| {
        let of = lma
            .bindings()
            .filter(|(mn_id, bce)| **mn_id == mn(1) && bids.contains(&bce.bid.0.get()));
        of.flat_map(|(_, bce)| bce.hnps.clone())
            .map(HnpOption::on_link)
            .collect::<Vec<_>>()
    };
    let expected = Bri {
        trigger: RevocationTrigger::ADMINISTRATIVE,
        flags: RevocationFlags::PROXY,
        mn_id: Some(MnIdOption::Nai(mn(1))),
        hnps: hnps(&lma, &[2]),
        ..Bri::default()
    };
    let sent = begin(&mut lma, &RevocationScope::Session(mn(1), bid(2)));
    let sequence = sent[0].sequence;
    assert_eq!(
        sent,
        [Bri {
            sequence,
            ..expected.clone()
        }]
    );
    let hnps = hnps(&lma, &[1]);
    let sent = begin(&mut lma, &RevocationScope::Mobile(mn(1)));
    let sequence = sequence.wrapping_add(1);
    assert_eq!(
        sent,
        [Bri {
            sequence,
            hnps,
            ..expected
        }]
    );
}

#[test]
fn whatever_the_mag_says_the_binding_ends() {
    for status in [0, 1, 128, 129, 130, 131, 133, 134, 135, 255] {
        let mut lma = lma();
        let sent = begin(&mut lma, &RevocationScope::Session(mn(1), bid(1)));
        assert_eq!(states(&lma, 1), [BceState::Revoking, BceState::Active]);
        answer(&mut lma, ms(1010), &sent[0], RevocationStatus(status));
        assert_eq!(states(&lma, 1), [BceState::Active], "status {status}");
        assert_eq!(lma.poll_timeout(), Some(Duration::from_mins(5)));
    }
}

#[test]
fn unless_it_knows_that_the_mobile_is_there() {
    let mut lma = lma();
    let sent = begin(&mut lma, &RevocationScope::Mobile(mn(1)));
    answer(
        &mut lma,
        ms(1010),
        &sent[0],
        RevocationStatus::STILL_ATTACHED,
    );
    assert_eq!(states(&lma, 1), [BceState::Active; 2]);
}

#[test]
fn answers_to_nothing_change_nothing() {
    let mut lma = lma();
    let sent = begin(&mut lma, &RevocationScope::Mobile(mn(1)));
    let other = Bri {
        sequence: sent[0].sequence.wrapping_add(1),
        ..sent[0].clone()
    };
    answer(&mut lma, ms(1010), &other, RevocationStatus::SUCCESS);
    let named = Bri {
        mn_id: Some(mn(2).into()),
        ..sent[0].clone()
    };
    answer(&mut lma, ms(1010), &named, RevocationStatus::SUCCESS);
    assert_eq!(states(&lma, 1), [BceState::Revoking; 2]);
    assert_eq!(lma.counters().stray_bras, 2);
    let bra = Bra {
        sequence: sent[0].sequence,
        ..Bra::default()
    };
    let stranger = "2001:db8:bad::1".parse().unwrap();
    lma.handle_message(ms(1010), stranger, LMAA.0, &bra.into());
    assert_eq!(states(&lma, 1), [BceState::Revoking; 2]);
    assert_eq!(lma.counters().unknown_peer, 1);
}

#[test]
fn a_mag_that_wants_names_gets_them() {
    for status in [
        RevocationStatus::GLOBAL_NOT_AUTHORIZED,
        RevocationStatus::IDENTITIES_REQUIRED,
    ] {
        let mut lma = lma();
        let sent = begin(&mut lma, &RevocationScope::Peer(MAG));
        assert_eq!(sent.len(), 1);
        answer(&mut lma, ms(1010), &sent[0], status);
        let sent = bris(&mut lma);
        let names: Vec<_> = sent.iter().map(|bri| bri.mn_id.clone()).collect();
        assert_eq!(names, [1, 2].map(|n| Some(mn(n).into())));
        answer(&mut lma, ms(1020), &sent[0], RevocationStatus::SUCCESS);
        assert_eq!((states(&lma, 1), states(&lma, 2).len()), (vec![], 2));
        answer(&mut lma, ms(1020), &sent[1], RevocationStatus::NO_BINDING);
        assert_eq!(lma.bindings().count(), 0);
    }
}

#[test]
fn a_mag_that_does_not_know_revocation_is_told_once() {
    let mut lma = lma();
    begin(&mut lma, &RevocationScope::Mobile(mn(1)));
    let error = Message::BindingError(BindingError::unrecognized());
    lma.handle_message(ms(1010), MAG.0, LMAA.0, &error);
    assert_eq!(states(&lma, 1), []);
    let events: Vec<_> = std::iter::from_fn(|| lma.poll_event()).collect();
    assert!(events.contains(&LmaEvent::RevocationEnded {
        proxy_coa: MAG,
        mn_id: Some(mn(1)),
        outcome: RequestOutcome::NotUnderstood,
    }));
    assert_eq!(begin(&mut lma, &RevocationScope::Peer(MAG)), []);
    assert_eq!(lma.bindings().count(), 0);
}

#[test]
fn pbus_for_what_is_being_revoked_get_no_answer_but_its_end_does() {
    let mut lma = lma();
    begin(&mut lma, &RevocationScope::Session(mn(1), bid(1)));
    for handoff in [HandoffIndicator::NO_CHANGE, HandoffIndicator::UNKNOWN] {
        assert_eq!(register(&mut lma, ms(1100), 1, 1, handoff, 75), []);
    }
    assert_eq!(lma.counters().ignored_while_revoking, 2);
    assert_eq!(states(&lma, 1), [BceState::Revoking, BceState::Active]);
    let unknown = HandoffIndicator::UNKNOWN;
    let ended = register(&mut lma, ms(1200), 1, 1, unknown, 0);
    assert_eq!(ended[0].status, BindingStatus::ACCEPTED);
    assert_eq!(states(&lma, 1), [BceState::Revoking, BceState::Active]);
}

#[test]
fn while_a_whole_mag_is_revoked_nothing_begins_there() {
    let mut lma = lma();
    let sent = begin(&mut lma, &RevocationScope::Peer(MAG));
    let new = HandoffIndicator::NEW_INTERFACE;
    assert_eq!(register(&mut lma, ms(1100), 3, 1, new, 75), []);
    answer(&mut lma, ms(1200), &sent[0], RevocationStatus::SUCCESS);
    let pbas = register(&mut lma, ms(1300), 3, 1, new, 75);
    assert_eq!(pbas[0].status, BindingStatus::ACCEPTED);
    assert_eq!(states(&lma, 3), [BceState::Active]);
}
