//! FORCE-REREGISTRATION at a MAG: who is registered again, and who is told.

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{AccessTechnology, HandoffIndicator, Hnp, MacAddr, MnId, PortId, ProxyCoa};
use pmip_wire::{
    BindingLifetime, BindingStatus, HnpOption, Message, NotificationReason, Pba, PbaFlags, Pbu,
};

use super::*;
use crate::command::Command;
use crate::config::{LmaPeer, MagConfig};
use crate::mag::Attachment;

const LMAA: Lmaa = Lmaa(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1));
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

fn mac(interface: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, interface])
}

/// What was sent: acknowledgements and PBUs, in order.
fn sent(mag: &mut Mag) -> (Vec<Upa>, Vec<Pbu>) {
    let (mut upas, mut pbus) = (Vec::new(), Vec::new());
    while let Some(command) = mag.poll_command() {
        match command {
            Command::Send {
                message: Message::Upa(upa),
                ..
            } => upas.push(upa),
            Command::Send {
                message: Message::Pbu(pbu),
                ..
            } => pbus.push(pbu),
            Command::Send { .. } | Command::Table(_) | Command::Advertise(_) => {}
        }
    }
    (upas, pbus)
}

fn answer(mag: &mut Mag, now: Now, pbu: &Pbu, status: BindingStatus, n: u16) {
    let hnp = Hnp::new(Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 0), 64).unwrap();
    let pba = Pba {
        status,
        flags: PbaFlags::PROXY,
        sequence: pbu.sequence,
        lifetime: BindingLifetime::from_units(75),
        mn_id: pbu.mn_id.clone(),
        hnps: vec![HnpOption::on_link(hnp)],
        handoff: pbu.handoff,
        access: pbu.access,
        ll_id: pbu.ll_id.clone(),
        ..Pba::default()
    };
    mag.handle_message(now, LMAA.0, COA.0, &pba.into());
}

/// Mobile 1 with two interfaces.
fn mag() -> Mag {
    let config = MagConfig {
        max_update_rate: 100,
        ..MagConfig::new(COA, vec![LmaPeer::new(LMAA)])
    };
    let mut mag = Mag::new(config, 1);
    for interface in 1..=2 {
        let attachment = Attachment {
            mn_id: mn(1),
            ll_id: Some(mac(interface).into()),
            access: AccessTechnology(4),
            port: PortId(0),
            mac: mac(interface),
            handoff: HandoffIndicator::NEW_INTERFACE,
            wanted: vec![],
            lma: None,
        };
        mag.attach(s(0), attachment).unwrap();
        let (_, pbus) = sent(&mut mag);
        answer(
            &mut mag,
            s(0),
            &pbus[0],
            BindingStatus::ACCEPTED,
            interface.into(),
        );
        sent(&mut mag);
    }
    mag
}

fn upn(n: u8) -> Upn {
    Upn {
        sequence: 7,
        reason: NotificationReason::FORCE_REREGISTRATION,
        acknowledge: true,
        mn_id: Some(mn(n).into()),
        ..Upn::default()
    }
}

fn tell(mag: &mut Mag, upn: &Upn) -> (Vec<Upa>, Vec<Pbu>) {
    mag.handle_message(s(10), LMAA.0, COA.0, &upn.clone().into());
    sent(mag)
}

#[test]
fn sessions_are_registered_again_as_a_refresh_and_an_answer_says_so() {
    let mut mag = mag();
    let (upas, pbus) = tell(&mut mag, &upn(1));
    let expected = Upa {
        sequence: 7,
        status: UpaStatus::SUCCESS,
        mn_id: Some(mn(1).into()),
        ..Upa::default()
    };
    assert_eq!(upas, [expected]);
    assert_eq!(pbus.len(), 2);
    for pbu in &pbus {
        assert_eq!(pbu.handoff, Some(HandoffIndicator::NO_CHANGE));
        assert!(!pbu.lifetime.is_zero());
    }
    // A copy is answered, and what is on its way is not sent twice.
    let copy = Upn {
        retransmission: true,
        ..upn(1)
    };
    let (upas, pbus) = tell(&mut mag, &copy);
    assert_eq!((upas.len(), pbus.len()), (1, 0));
}

#[test]
fn one_interface_can_be_meant_and_no_answer_wanted() {
    let mut mag = mag();
    let one = Upn {
        acknowledge: false,
        access: Some(AccessTechnology(4)),
        ll_id: Some(mac(2).into()),
        ..upn(1)
    };
    let (upas, pbus) = tell(&mut mag, &one);
    assert_eq!(upas, []);
    let ll_ids: Vec<_> = pbus.iter().map(|pbu| pbu.ll_id.clone()).collect();
    assert_eq!(ll_ids, [Some(mac(2).into())]);
    let other = Upn {
        access: Some(AccessTechnology(5)),
        ..upn(1)
    };
    let (upas, pbus) = tell(&mut mag, &other);
    assert_eq!((upas[0].status, pbus.len()), (UpaStatus::NOT_ATTACHED, 0));
}

#[test]
fn who_is_not_attached_or_not_named_is_not_registered() {
    let mut mag = mag();
    let (upas, pbus) = tell(&mut mag, &upn(2));
    assert_eq!((upas[0].status, pbus.len()), (UpaStatus::NOT_ATTACHED, 0));
    let nobody = Upn {
        mn_id: None,
        ..upn(1)
    };
    let (upas, pbus) = tell(&mut mag, &nobody);
    assert_eq!((upas[0].status, pbus.len()), (UpaStatus::UNSPECIFIED, 0));
    // One that has left is not attached either.
    for interface in 1..=2 {
        mag.detach(s(10), PortId(0), mac(interface));
    }
    sent(&mut mag);
    let (upas, pbus) = tell(&mut mag, &upn(1));
    assert_eq!((upas[0].status, pbus.len()), (UpaStatus::NOT_ATTACHED, 0));
    assert_eq!(mag.counters().reregistrations_refused, 3);
}

#[test]
fn one_that_was_refused_is_asked_for_again() {
    let mut mag = mag();
    let (_, pbus) = tell(&mut mag, &upn(1));
    for pbu in &pbus {
        answer(
            &mut mag,
            s(10),
            pbu,
            BindingStatus::PROXY_REG_NOT_ENABLED,
            1,
        );
    }
    assert!(mag.bul().all(|b| b.state == BuleState::Refused(152)));
    sent(&mut mag);
    let (upas, pbus) = tell(&mut mag, &upn(1));
    assert_eq!((upas[0].status, pbus.len()), (UpaStatus::SUCCESS, 2));
    assert_eq!(pbus[0].handoff, Some(HandoffIndicator::NEW_INTERFACE));
}
