//! What an LMA does beyond what two peers on a network show.

use flow::{
    AccessTechnology, FidPriority, HandoffIndicator, Interval, MacAddr, Selector, TrafficSelector,
};
use pmip_wire::{
    BindingError, BindingLifetime, FlowLifetime, Fma, FmaStatus, Fmi, HnpOption, Pbu, PbuFlags,
    Timestamp,
};

use super::*;
use crate::config::MagPeer;

mod reconfiguration;

const LMAA: Lmaa = Lmaa(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1));

fn coa(n: u16) -> ProxyCoa {
    ProxyCoa(Ipv6Addr::new(0x2001, 0xdb8, 0xa, n, 0, 0, 0, 1))
}

fn s(seconds: u64) -> Now {
    Now {
        monotonic: Duration::from_secs(seconds),
        wall: Duration::from_secs(seconds),
    }
}

fn mn(n: u32) -> MnId {
    MnId::new(&format!("mn{n}@example.net")).unwrap()
}

fn bid(n: u16) -> Bid {
    Bid::new(n).unwrap()
}

fn fid(n: u16) -> Fid {
    Fid::new(n).unwrap()
}

fn to_port(port: u16) -> TrafficSelector {
    Selector {
        destination_port: Some(Interval::single(port)),
        ..Selector::<Ipv6Addr>::default()
    }
    .into()
}

fn config() -> LmaConfig {
    let range = Hnp::new("2001:db8:1000::".parse().unwrap(), 36).unwrap();
    let pool = PrefixPool::new(range, 64, Duration::ZERO).unwrap();
    LmaConfig {
        signal_hosted: false,
        ..LmaConfig::new(
            LMAA,
            (1..=3).map(|n| MagPeer::new(coa(n))).collect(),
            vec![pool],
        )
    }
}

/// Registers an interface of a mobile at the MAG of the same number.
fn attach(lma: &mut Lma, now: Now, n: u32, interface: u8, mag: u16) {
    let pbu = Pbu {
        flags: PbuFlags::REQUEST,
        lifetime: BindingLifetime::from_units(75),
        mn_id: Some(mn(n).into()),
        hnps: vec![HnpOption::ALL_ZERO],
        handoff: Some(HandoffIndicator::NEW_INTERFACE),
        access: Some(AccessTechnology(4)),
        ll_id: Some(MacAddr([2, 0, 0, 0, 0, interface]).into()),
        timestamp: Some(Timestamp::from_epoch(now.wall)),
        ..Pbu::default()
    };
    lma.handle_message(now, coa(mag).0, LMAA.0, &pbu.into());
}

fn add(lma: &mut Lma, n: u32, port: u16, at: u16) -> Result<Fid, FlowError> {
    let request = FlowRequest {
        mn_id: mn(n),
        fid: None,
        priority: None,
        selector: to_port(port),
        bid: bid(at),
    };
    lma.add_flow(s(1), request)
}

fn fmis(lma: &mut Lma) -> Vec<(Ipv6Addr, Fmi)> {
    std::iter::from_fn(|| lma.poll_command())
        .filter_map(|command| match command {
            Command::Send {
                to,
                message: Message::Fmi(fmi),
                ..
            } => Some((to, fmi)),
            Command::Send { .. } | Command::Table(_) | Command::Advertise(_) => None,
        })
        .collect()
}

fn acknowledge(lma: &mut Lma, from: Ipv6Addr, fmi: &Fmi, status: FmaStatus) {
    let fma = Fma {
        sequence: fmi.sequence,
        status,
        lifetime: fmi.lifetime,
        mn_id: fmi.mn_id.clone(),
        ..Fma::default()
    };
    lma.handle_message(s(1), from, LMAA.0, &fma.into());
}

/// Two mobiles, each with interfaces at the first and the second MAG.
fn two_mobiles(config: LmaConfig) -> Lma {
    let mut lma = Lma::new(config, 1);
    for n in 1..=2 {
        for mag in 1..=2 {
            attach(&mut lma, s(0), n, u8::try_from(mag).unwrap(), mag);
        }
    }
    fmis(&mut lma);
    lma
}

#[test]
fn flows_that_cannot_be() {
    let mut lma = two_mobiles(LmaConfig {
        max_flows_per_mobile: 2,
        ..config()
    });
    assert_eq!(add(&mut lma, 9, 1, 1), Err(FlowError::UnknownMobile(mn(9))));
    let (mn_id, gone) = (mn(1), bid(3));
    assert_eq!(
        add(&mut lma, 1, 1, 3),
        Err(FlowError::NotAttached { mn_id, bid: gone })
    );
    assert_eq!(add(&mut lma, 1, 1, 1), Ok(fid(1)));
    assert_eq!(
        add(&mut lma, 1, 1, 2),
        Err(FlowError::DuplicateSelector(fid(1)))
    );
    let request = |fid, priority, selector| FlowRequest {
        mn_id: mn(1),
        fid,
        priority,
        selector,
        bid: bid(1),
    };
    let first = FidPriority::new(1);
    for (request, error) in [
        (
            request(Some(fid(1)), None, to_port(2)),
            FlowError::DuplicateFid(fid(1)),
        ),
        (
            request(None, first, to_port(2)),
            FlowError::DuplicatePriority(first.unwrap(), fid(1)),
        ),
        (
            request(
                None,
                FidPriority::new(9),
                TrafficSelector::Ipv4(Selector::default()),
            ),
            FlowError::Ipv4,
        ),
    ] {
        assert_eq!(lma.add_flow(s(1), request), Err(error));
    }
    assert_eq!(add(&mut lma, 1, 2, 1), Ok(fid(2)));
    assert_eq!(add(&mut lma, 1, 3, 1), Err(FlowError::TooMany(mn(1))));
    let (mn_id, missing) = (mn(1), fid(7));
    let unknown = FlowError::UnknownFlow {
        mn_id,
        fid: missing,
    };
    assert_eq!(
        lma.move_flow(s(1), &mn(1), missing, bid(2)),
        Err(unknown.clone())
    );
    assert_eq!(lma.delete_flow(s(1), &mn(1), missing), Err(unknown));
    lma.delete_flow(s(1), &mn(1), fid(1)).unwrap();
    assert_eq!(add(&mut lma, 1, 1, 1), Ok(fid(1)));
}

#[test]
fn a_mag_that_cannot_be_signalled_to_gets_no_foreign_flow() {
    let mut lma = two_mobiles(config());
    assert_eq!(add(&mut lma, 1, 1, 1), Ok(fid(1)));
    assert_eq!(add(&mut lma, 2, 2, 2), Ok(fid(1)));
    fmis(&mut lma);
    let error = BindingError::unrecognized();
    lma.handle_message(s(1), coa(2).0, LMAA.0, &error.into());
    let refused = Err(FlowError::NoSignalling(bid(2)));
    assert_eq!(lma.move_flow(s(1), &mn(1), fid(1), bid(2)), refused);
    assert!(fmis(&mut lma).is_empty());
}

#[test]
fn accesses_at_one_mag_are_one_to_a_flow() {
    let mut lma = Lma::new(config(), 1);
    for interface in 1..=2 {
        attach(&mut lma, s(0), 1, interface, 1);
    }
    assert_eq!(add(&mut lma, 1, 1, 1), Ok(fid(1)));
    let same = Err(FlowError::SameMag(bid(1), bid(2)));
    assert_eq!(lma.move_flow(s(1), &mn(1), fid(1), bid(2)), same);
}

#[test]
fn messages_wait_for_the_window() {
    let mut lma = two_mobiles(LmaConfig {
        fmi_window: 1,
        ..config()
    });
    // No destination: each flow needs the prefix of the other MAG.
    add(&mut lma, 1, 1, 1).unwrap();
    add(&mut lma, 2, 1, 1).unwrap();
    add(&mut lma, 2, 2, 1).unwrap();
    let mut order = Vec::new();
    loop {
        let sent = fmis(&mut lma);
        assert!(sent.len() <= 1, "one at a time");
        let Some((from, fmi)) = sent.into_iter().next() else {
            break;
        };
        order.push(fmi.mn_id.clone().unwrap().nai().unwrap().clone());
        acknowledge(&mut lma, from, &fmi, FmaStatus::SUCCESS);
    }
    assert_eq!(order, [mn(1), mn(2), mn(2)]);
    assert_eq!(lma.peers().map(|p| p.outstanding).sum::<usize>(), 0);
}

/// A MAG may remember sequence numbers of an LMA that has restarted since.
#[test]
fn a_number_out_of_the_window_is_jumped_over() {
    let mut lma = two_mobiles(config());
    add(&mut lma, 1, 1, 1).unwrap();
    let mut numbers = Vec::new();
    for _ in 0..4 {
        let sent = fmis(&mut lma);
        let [(from, fmi)] = sent.as_slice() else {
            panic!("{sent:?}");
        };
        numbers.push(fmi.sequence);
        acknowledge(&mut lma, *from, fmi, FmaStatus::SEQUENCE_OUT_OF_WINDOW);
    }
    let steps: Vec<u16> = numbers
        .windows(2)
        .map(|w| w[1].wrapping_sub(w[0]))
        .collect();
    assert_eq!(steps, [0x4001; 3]);
    assert!(fmis(&mut lma).is_empty(), "then it is a refusal");
    let events: Vec<LmaEvent> = std::iter::from_fn(|| lma.poll_event()).collect();
    assert!(matches!(
        events.last(),
        Some(LmaEvent::FlowNotInstalled {
            reason: MoveFailure::Refused(130),
            ..
        })
    ));
}

#[test]
fn flow_state_with_an_end_is_kept_alive() {
    let mut lma = two_mobiles(LmaConfig {
        flow_lifetime: 40,
        ..config()
    });
    add(&mut lma, 1, 1, 1).unwrap();
    let (from, fmi) = fmis(&mut lma).remove(0);
    // The MAG grants less than was asked for.
    let shorter = Fmi {
        lifetime: FlowLifetime::from_seconds(20),
        ..fmi
    };
    acknowledge(&mut lma, from, &shorter, FmaStatus::SUCCESS);
    lma.handle_timeout(s(10));
    assert!(fmis(&mut lma).is_empty());
    lma.handle_timeout(s(11));
    let (_, refresh) = fmis(&mut lma).remove(0);
    assert!(refresh.refresh && !refresh.is_deletion());
    let state = |lma: &Lma| lma.flows().next().map(|(_, _, state)| state);
    assert_eq!(state(&lma), Some(FlowState::Active));
    // Nothing is heard: when the MAG has dropped it, its packets go elsewhere.
    lma.handle_timeout(s(20));
    assert_eq!(state(&lma), Some(FlowState::Active));
    lma.handle_timeout(s(21));
    assert_eq!(state(&lma), Some(FlowState::Pending));
}

#[test]
fn interfaces_get_their_number_back() {
    let mut lma = Lma::new(config(), 1);
    let bids = |lma: &Lma| -> Vec<u16> { lma.bindings().map(|(_, b)| b.bid.0.get()).collect() };
    for interface in 1..=3 {
        attach(&mut lma, s(0), 1, interface, interface.into());
    }
    assert_eq!(bids(&lma), [1, 2, 3]);
    attach(&mut lma, s(200), 1, 3, 3);
    lma.handle_timeout(s(301));
    assert_eq!(bids(&lma), [3]);
    attach(&mut lma, s(302), 1, 2, 2);
    assert_eq!(bids(&lma), [2, 3]);
}

#[test]
fn many_mobiles_cost_no_more_each() {
    let mut lma = Lma::new(config(), 1);
    for n in 0..50_000 {
        attach(&mut lma, s(0), n, 1, 1);
        while lma.poll_command().is_some() {}
        while lma.poll_event().is_some() {}
    }
    assert_eq!((lma.mobiles(), lma.tunnels()), (50_000, 1));
    assert_eq!(lma.poll_timeout(), Some(Duration::from_mins(5)));
    lma.handle_timeout(s(300));
    assert_eq!(
        (lma.mobiles(), lma.tunnels(), lma.poll_timeout()),
        (0, 0, None)
    );
}
