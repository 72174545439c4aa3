//! BRIs at a MAG: every status, and what changes.

use flow::{AccessTechnology, HandoffIndicator, MacAddr, MnId, PortId, ProxyCoa};
use pmip_wire::{BindingLifetime, BindingStatus, HnpOption, Message, Pba, PbaFlags, Pbu};

use super::*;
use crate::command::Command;
use crate::config::{LmaPeer, MagConfig};
use crate::mag::Attachment;
use crate::time::Now;

const LMAS: [Lmaa; 2] = [
    Lmaa(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1)),
    Lmaa(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 2)),
];
const COA: ProxyCoa = ProxyCoa(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1));

fn s(seconds: u64) -> Now {
    Now {
        monotonic: Duration::from_secs(seconds),
        wall: Duration::from_secs(seconds),
    }
}

fn mn(n: u8) -> MnId {
    MnId::new(&format!("mn{n}@example.net")).unwrap()
}

/// The prefix of the n-th mobile's n-th interface.
fn hnp(n: u8, interface: u8) -> Hnp {
    let n = u16::from(n) * 16 + u16::from(interface);
    Hnp::new(std::net::Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 0), 64).unwrap()
}

fn sent(mag: &mut Mag) -> Vec<Message> {
    std::iter::from_fn(|| mag.poll_command())
        .filter_map(|command| match command {
            Command::Send { message, .. } => Some(message),
            Command::Table(_) | Command::Advertise(_) => None,
        })
        .collect()
}

fn pbu(mag: &mut Mag) -> Pbu {
    let message = sent(mag).pop();
    let Some(Message::Pbu(pbu)) = message else {
        panic!("{message:?} is no PBU");
    };
    pbu
}

fn attach(mag: &mut Mag, n: u8, interface: u8, lma: Lmaa) {
    let mac = MacAddr([2, 0, 0, 0, n, interface]);
    let attachment = Attachment {
        mn_id: mn(n),
        ll_id: Some(mac.into()),
        access: AccessTechnology(4),
        port: PortId(0),
        mac,
        handoff: HandoffIndicator::NEW_INTERFACE,
        wanted: vec![],
        lma: Some(lma),
    };
    mag.attach(s(0), attachment).unwrap();
}

fn accept(mag: &mut Mag, pbu: Pbu, lma: Lmaa, hnp: Hnp) {
    let pba = Pba {
        status: BindingStatus::ACCEPTED,
        flags: PbaFlags::PROXY,
        sequence: pbu.sequence,
        lifetime: BindingLifetime::from_units(75),
        mn_id: pbu.mn_id,
        hnps: vec![HnpOption::on_link(hnp)],
        handoff: pbu.handoff,
        access: pbu.access,
        ll_id: pbu.ll_id,
        ..Pba::default()
    };
    mag.handle_message(s(0), lma.0, COA.0, &pba.into());
    sent(mag);
}

/// Mobile 1 with two interfaces and mobile 2 with one at the first LMA, mobile 3 at the second.
fn mag() -> Mag {
    let config = MagConfig::new(COA, LMAS.map(LmaPeer::new).to_vec());
    let mut mag = Mag::new(config, 1);
    for (n, interface, lma) in [(1, 1, 0), (1, 2, 0), (2, 1, 0), (3, 1, 1)] {
        attach(&mut mag, n, interface, LMAS[lma]);
        let pbu = pbu(&mut mag);
        accept(&mut mag, pbu, LMAS[lma], hnp(n, interface));
    }
    mag
}

fn bri(sequence: u16, n: u8, trigger: RevocationTrigger) -> Bri {
    Bri {
        trigger,
        sequence,
        flags: RevocationFlags::PROXY,
        mn_id: Some(mn(n).into()),
        ..Bri::default()
    }
}

fn global(sequence: u16, trigger: RevocationTrigger) -> Bri {
    Bri {
        flags: RevocationFlags(RevocationFlags::PROXY.0 | RevocationFlags::GLOBAL.0),
        mn_id: None,
        ..bri(sequence, 1, trigger)
    }
}

/// The answer, if there is one.
fn tell(mag: &mut Mag, from: Lmaa, bri: &Bri) -> Option<Bra> {
    mag.handle_message(s(1), from.0, COA.0, &bri.clone().into());
    let mut answers = sent(mag);
    // A PBU that was not answered is followed by its end.
    answers.retain(|answer| !matches!(answer, Message::Pbu(pbu) if pbu.lifetime.is_zero()));
    assert!(answers.len() <= 1);
    let answer = answers.pop()?;
    let Message::Bra(bra) = answer else {
        panic!("{answer:?} is no BRA");
    };
    assert_eq!((bra.sequence, bra.flags), (bri.sequence, bri.flags));
    assert_eq!((&bra.mn_id, &bra.hnps), (&bri.mn_id, &bri.hnps));
    Some(bra)
}

#[track_caller]
fn answers(mag: &mut Mag, bri: &Bri, status: RevocationStatus) {
    let bra = tell(mag, LMAS[0], bri);
    assert_eq!(bra.map(|bra| bra.status), Some(status));
}

fn revoked(mag: &Mag) -> Vec<(MnId, AccessTechnology, MacAddr)> {
    let gone = mag.bul().filter(|bule| bule.state == BuleState::Revoked);
    gone.map(|bule| {
        let a = &bule.attachment;
        (a.mn_id.clone(), a.access, a.mac)
    })
    .collect()
}

#[test]
fn a_mobile_is_revoked_or_one_of_its_sessions() {
    let mut mag = mag();
    let one = Bri {
        hnps: vec![HnpOption::on_link(hnp(1, 2))],
        ..bri(7, 1, RevocationTrigger::ADMINISTRATIVE)
    };
    answers(&mut mag, &one, RevocationStatus::SUCCESS);
    assert_eq!(revoked(&mag).len(), 1);
    assert_eq!(mag.routes().filter(|r| *r.mn_id == mn(1)).count(), 1);
    let rest = bri(8, 1, RevocationTrigger::UNSPECIFIED);
    answers(&mut mag, &rest, RevocationStatus::SUCCESS);
    assert_eq!(revoked(&mag).len(), 2);
    assert_eq!(mag.routes().filter(|r| *r.mn_id == mn(1)).count(), 0);
    // Nothing wakes up for them.
    let mut probe = mag.clone();
    probe.handle_timeout(s(100_000));
    let about_1 = |m: &Message| matches!(m, Message::Pbu(p) if p.mn_id == Some(mn(1).into()));
    assert!(!sent(&mut probe).iter().any(about_1));
}

#[test]
fn some_prefixes_that_are_not_here_make_it_a_partial_success() {
    let mut mag = mag();
    let some = Bri {
        hnps: [hnp(1, 1), hnp(9, 9)].map(HnpOption::on_link).to_vec(),
        ..bri(7, 1, RevocationTrigger::ADMINISTRATIVE)
    };
    answers(&mut mag, &some, RevocationStatus::PARTIAL);
    assert_eq!(revoked(&mag).len(), 1);
}

#[test]
fn what_is_not_here_cannot_be_revoked() {
    let mut mag = mag();
    let unknown = bri(7, 9, RevocationTrigger::ADMINISTRATIVE);
    answers(&mut mag, &unknown, RevocationStatus::NO_BINDING);
    // Mobile 3 is the other LMA's.
    let foreign = bri(8, 3, RevocationTrigger::ADMINISTRATIVE);
    answers(&mut mag, &foreign, RevocationStatus::NO_BINDING);
    let prefix = Bri {
        hnps: vec![HnpOption::on_link(hnp(2, 1))],
        ..bri(9, 1, RevocationTrigger::ADMINISTRATIVE)
    };
    answers(&mut mag, &prefix, RevocationStatus::NO_BINDING);
    let ipv4 = Bri {
        flags: RevocationFlags(RevocationFlags::PROXY.0 | RevocationFlags::IPV4.0),
        ..bri(10, 1, RevocationTrigger::ADMINISTRATIVE)
    };
    answers(&mut mag, &ipv4, RevocationStatus::NO_BINDING);
    // A mobile that is only being registered has no binding yet.
    attach(&mut mag, 4, 1, LMAS[0]);
    sent(&mut mag);
    let early = bri(11, 4, RevocationTrigger::ADMINISTRATIVE);
    answers(&mut mag, &early, RevocationStatus::NO_BINDING);
    assert_eq!(revoked(&mag), []);
    assert_eq!(mag.counters().bris_refused, 5);
}

#[test]
fn a_mobile_that_is_attached_is_not_elsewhere() {
    for trigger in [
        RevocationTrigger::HANDOVER_SAME_ACCESS,
        RevocationTrigger::HANDOVER_OTHER_ACCESS,
        RevocationTrigger::HANDOVER_UNKNOWN,
    ] {
        let mut mag = mag();
        answers(
            &mut mag,
            &bri(7, 2, trigger),
            RevocationStatus::STILL_ATTACHED,
        );
        assert_eq!(revoked(&mag), []);
        // It has left, and the LMA was not heard yet: its word ends the session.
        assert!(mag.detach(s(1), PortId(0), MacAddr([2, 0, 0, 0, 2, 1])));
        sent(&mut mag);
        answers(&mut mag, &bri(8, 2, trigger), RevocationStatus::SUCCESS);
        assert!(mag.bul().all(|bule| bule.attachment.mn_id != mn(2)));
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    let mut mag = mag();
    for (sequence, trigger) in [(1, 8), (2, 127), (3, 128), (4, 129), (5, 255)] {
        let strange = bri(sequence, 1, RevocationTrigger(trigger));
        answers(&mut mag, &strange, RevocationStatus::TRIGGER_NOT_SUPPORTED);
    }
    let nobody = Bri {
        mn_id: None,
        ..bri(6, 1, RevocationTrigger::ADMINISTRATIVE)
    };
    answers(&mut mag, &nobody, RevocationStatus::IDENTITIES_REQUIRED);
    let not_proxy = Bri {
        flags: RevocationFlags(0),
        ..bri(7, 1, RevocationTrigger::ADMINISTRATIVE)
    };
    answers(
        &mut mag,
        &not_proxy,
        RevocationStatus::FUNCTION_NOT_SUPPORTED,
    );
    let global_one = global(8, RevocationTrigger::ADMINISTRATIVE);
    answers(
        &mut mag,
        &global_one,
        RevocationStatus::TRIGGER_NOT_SUPPORTED,
    );
    let policy = global(9, RevocationTrigger::LOCAL_POLICY);
    answers(&mut mag, &policy, RevocationStatus::IDENTITIES_REQUIRED);
    assert_eq!(revoked(&mag), []);
}

#[test]
fn an_lma_revokes_all_of_its_own_and_no_others() {
    let mut mag = mag();
    let all = global(7, RevocationTrigger::PER_PEER);
    answers(&mut mag, &all, RevocationStatus::SUCCESS);
    assert_eq!(revoked(&mag).len(), 3);
    assert_eq!(mag.routes().count(), 1);
    let again = global(8, RevocationTrigger::PER_PEER);
    answers(&mut mag, &again, RevocationStatus::NO_BINDING);
}

#[test]
fn a_stranger_revokes_nobody_and_is_not_answered_for_ever() {
    let mut mag = mag();
    let stranger = Lmaa("2001:db8:bad::1".parse().unwrap());
    let all = global(7, RevocationTrigger::PER_PEER);
    let bra = tell(&mut mag, stranger, &all).unwrap();
    assert_eq!(bra.status, RevocationStatus::GLOBAL_NOT_AUTHORIZED);
    let one = bri(8, 1, RevocationTrigger::ADMINISTRATIVE);
    assert_eq!(tell(&mut mag, stranger, &one), None);
    let answered = (0..50).filter(|n| {
        let all = global(100 + n, RevocationTrigger::PER_PEER);
        tell(&mut mag, stranger, &all).is_some()
    });
    assert!(answered.count() < 12);
    assert_eq!(revoked(&mag), []);
    assert_eq!(mag.counters().unknown_peer, 52);
}

#[test]
fn a_late_copy_does_not_end_what_has_begun_since() {
    for revocation in [
        bri(7, 2, RevocationTrigger::ADMINISTRATIVE),
        global(7, RevocationTrigger::PER_PEER),
    ] {
        let mut mag = mag();
        answers(&mut mag, &revocation, RevocationStatus::SUCCESS);
        attach(&mut mag, 2, 1, LMAS[0]);
        let pbu = pbu(&mut mag);
        accept(&mut mag, pbu, LMAS[0], hnp(2, 1));
        answers(&mut mag, &revocation, RevocationStatus::SUCCESS);
        assert_eq!(mag.counters().bri_copies, 1);
        let states = mag.bul().filter(|b| b.attachment.mn_id == mn(2));
        assert!(states.map(|b| b.state).eq([BuleState::Active]));
    }
}

#[test]
fn a_late_pba_does_not_revive_a_revoked_session() {
    let mut mag = mag();
    mag.handle_timeout(s(150));
    let about_2 = |message: &Message| {
        let Message::Pbu(pbu) = message else {
            panic!("{message:?} is no PBU");
        };
        (pbu.mn_id == Some(mn(2).into())).then(|| pbu.clone())
    };
    let refresh = sent(&mut mag).iter().find_map(about_2).unwrap();
    let one = bri(7, 2, RevocationTrigger::ADMINISTRATIVE);
    answers(&mut mag, &one, RevocationStatus::SUCCESS);
    accept(&mut mag, refresh, LMAS[0], hnp(2, 1));
    assert_eq!(revoked(&mag).len(), 1);
    assert_eq!(mag.counters().stray_pbas, 1);
}
