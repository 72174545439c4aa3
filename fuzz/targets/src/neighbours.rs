//! Neighbour discovery of an LMA or MAG: packets of strangers, questions of workers, and time.

use std::net::Ipv6Addr;
use std::time::Duration;

use arbitrary::Result;
use flow::{MacAddr, PortId, TransmitTo, Update};
use nd::icmp6::{self, NeighbourMessage};
use nd::{NdPort, NeighbourDiscovery};

use crate::choice::Choice;

const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// Runs a sequence of packets and questions.
pub fn run(data: &[u8]) {
    let port = |address: &str, access| NdPort {
        mac: OURS,
        addresses: vec![address.parse().expect("a prefix")],
        access,
    };
    let mut nd = NeighbourDiscovery::new(vec![
        port("2001:db8:f::1/64", false),
        port("2001:db8:e::1/64", true),
    ]);
    let mut choice = Choice::new(data);
    let mut now = Duration::ZERO;
    for _ in 0..64 {
        if step(&mut choice, &mut now, &mut nd).is_err() {
            break;
        }
        drain(&mut nd);
        if let Some(due) = nd.poll_timeout() {
            assert!(due <= now + Duration::from_secs(30));
        }
    }
    // Left alone, every neighbour is given up: 30 s, and three questions.
    for _ in 0..5 {
        now += Duration::from_secs(30);
        nd.handle_timeout(now);
        drain(&mut nd);
    }
    assert_eq!(nd.poll_timeout(), None);
}

fn step(choice: &mut Choice<'_>, now: &mut Duration, nd: &mut NeighbourDiscovery) -> Result<()> {
    // The third is none of ours.
    let port = PortId(choice.below(3)?.try_into().unwrap_or(0));
    let address = |choice: &mut Choice<'_>| -> Result<Ipv6Addr> {
        let network =
            choice.pick(&[0x2001_0db8_000f, 0x2001_0db8_000e, 0xfe80_0000_0000, 0xff02])?;
        Ok(Ipv6Addr::from(
            (network << 80) | u128::from(choice.octet()?),
        ))
    };
    match choice.below(5)? {
        0 => nd.handle_resolve(*now, port, address(choice)?),
        1 => {
            *now += choice.time()?;
            nd.handle_timeout(*now);
            assert!(nd.poll_timeout().is_none_or(|due| due > *now));
        }
        2 => {
            let (from, target) = (address(choice)?, address(choice)?);
            let mac = MacAddr([choice.octet()?, 0, 0, 0, 0, 2]);
            let to = icmp6::solicited_node(target);
            let packet = icmp6::neighbour_solicitation(from, to, target, mac);
            nd.handle_packet(*now, port, mac, &packet);
        }
        3 => {
            let target = address(choice)?;
            let mac = MacAddr([choice.octet()?, 0, 0, 0, 0, 2]);
            let packet = icmp6::unsolicited_advertisement(target, mac);
            nd.handle_packet(*now, port, mac, &packet);
        }
        _ => {
            let packet = choice.octets()?;
            let _solicits = icmp6::is_router_solicitation(packet);
            let _message = NeighbourMessage::parse(packet);
            if let Some(error) = icmp6::parameter_problem(Ipv6Addr::LOCALHOST, packet, 40) {
                assert!(error.len() <= 1280);
            }
            nd.handle_packet(*now, port, OURS, packet);
        }
    }
    Ok(())
}

/// What the workers are told makes sense.
fn drain(nd: &mut NeighbourDiscovery) {
    while let Some(update) = nd.poll_update() {
        match update {
            Update::Neighbour { mac, .. } => assert!(mac.is_none_or(|mac| !mac.is_multicast())),
            Update::Transmit(transmit) => {
                assert!(matches!(transmit.to, TransmitTo::Link(PortId(0 | 1), _)));
                assert_eq!(transmit.packet[7], 255);
            }
            other @ (Update::Table(..)
            | Update::Route { .. }
            | Update::PathMtu { .. }
            | Update::Claim { .. }
            | Update::Pools(_)
            | Update::Peers(_)
            | Update::Report(_)
            | Update::Capture(_)
            | Update::Stop) => {
                panic!("{other:?}")
            }
        }
    }
}
