//! Another configuration for a MAG that runs.

use super::*;
use crate::config::{Dialect, TunnelConfig};
use crate::mag::MagConflict;

fn tables(mag: &mut Mag) -> Vec<TableUpdate> {
    let mut tables = Vec::new();
    while let Some(command) = mag.poll_command() {
        if let Command::Table(update) = command {
            tables.push(update);
        }
    }
    tables
}

#[test]
fn an_lma_comes_and_goes_once_no_session_is_there() {
    let mut mag = mag();
    let with = |lmas: &[Lmaa]| MagConfig {
        lmas: lmas.iter().map(|lmaa| LmaPeer::new(*lmaa)).collect(),
        ..config()
    };
    let [first, second] = LMAS;
    let conflict = |sessions| MagConflict::PeerInUse {
        lmaa: first,
        sessions,
    };
    assert_eq!(mag.conflicts(&with(&[second])), [conflict(2)]);
    let third = Lmaa(Ipv6Addr::LOCALHOST);
    assert_eq!(mag.conflicts(&with(&[first, third])), []);
    mag.reconfigure(s(1), with(&[first, third]));
    let attachment = |lma| Attachment {
        lma: Some(lma),
        ..mag.bul.sessions.values().next().unwrap().attachment.clone()
    };
    let (known, unknown) = (attachment(third), attachment(second));
    assert_eq!(
        mag.attach(s(1), unknown),
        Err(AttachError::UnknownLma(Some(second)))
    );
    assert_eq!(mag.attach(s(1), known), Ok(()));
}

#[test]
fn a_living_lma_keeps_its_dialect() {
    let mag = mag();
    let with = |number: usize| {
        let mut new = config();
        new.lmas[number].dialect = Dialect::Rfc7864;
        new
    };
    let [first, _] = LMAS;
    let conflict = MagConflict::DialectInUse {
        lmaa: first,
        sessions: 2,
    };
    assert_eq!(mag.conflicts(&with(0)), [conflict]);
    assert_eq!(mag.conflicts(&with(1)), []);
}

#[test]
fn tunnels_and_local_routing_change_for_those_who_are_there() {
    let mut mag = mag();
    let mut new = config();
    for peer in &mut new.lmas {
        peer.tunnel = TunnelConfig {
            path_mtu: 1400,
            ..TunnelConfig::default()
        };
    }
    mag.reconfigure(s(1), new.clone());
    let told = tables(&mut mag);
    let [
        TableUpdate::Path {
            path: Some(flow::Path::Tunnel(tunnel)),
            ..
        },
    ] = told.as_slice()
    else {
        panic!("{told:?}");
    };
    assert_eq!(tunnel.path_mtu, 1400);
    // Mobiles are told what fits now.
    mag.handle_timeout(s(2));
    let mut mtus = Vec::new();
    while let Some(command) = mag.poll_command() {
        if let Command::Advertise(advertisement) = command {
            mtus.push(advertisement.mtu);
        }
    }
    assert_eq!(mtus, [1360, 1360]);
    new.local_routing = true;
    mag.reconfigure(s(3), new.clone());
    let told = tables(&mut mag);
    let local = told.iter().filter(|update| {
        matches!(update, TableUpdate::Binding { binding: Some(binding), .. } if binding.local)
    });
    assert_eq!(local.count(), 2);
    mag.reconfigure(s(4), new);
    assert_eq!(tables(&mut mag), []);
}
