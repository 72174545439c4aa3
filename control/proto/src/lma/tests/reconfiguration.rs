//! Another configuration for an LMA that runs.

use pmip_wire::{BindingStatus, Pba};

use super::*;
use crate::config::{Dialect, MobileProfile, TunnelConfig};
use crate::heartbeat::HeartbeatConfig;
use crate::lma::LmaConflict;

fn pool(range: &str, len: u8) -> PrefixPool {
    let (address, bits) = range.split_once('/').unwrap();
    let range = Hnp::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap();
    PrefixPool::new(range, len, Duration::ZERO).unwrap()
}

fn pbas(lma: &mut Lma) -> Vec<Pba> {
    let mut pbas = Vec::new();
    while let Some(command) = lma.poll_command() {
        if let Command::Send {
            message: Message::Pba(pba),
            ..
        } = command
        {
            pbas.push(pba);
        }
    }
    pbas
}

/// The prefix that a mobile gets at a MAG, or why it gets none.
fn prefix_at(lma: &mut Lma, n: u32, mag: u16) -> Result<Hnp, BindingStatus> {
    attach(lma, s(2), n, 1, mag);
    let pba = pbas(lma).pop().unwrap();
    match pba.status {
        BindingStatus::ACCEPTED => Ok(pba.hnps.first().unwrap().prefix),
        other => Err(other),
    }
}

fn accepted(lma: &mut Lma, new: LmaConfig) {
    assert_eq!(lma.conflicts(&new), []);
    lma.reconfigure(s(1), new);
}

#[test]
fn a_mag_comes_and_goes_once_nobody_is_there() {
    let mut lma = two_mobiles(config());
    let only = |mags: &[u16]| LmaConfig {
        peers: mags.iter().map(|n| MagPeer::new(coa(*n))).collect(),
        ..config()
    };
    assert_eq!(
        lma.conflicts(&only(&[1, 3])),
        [LmaConflict::PeerInUse {
            proxy_coa: coa(2),
            mobiles: 2
        }]
    );
    accepted(&mut lma, only(&[1, 2, 4]));
    assert_eq!(
        prefix_at(&mut lma, 3, 3),
        Err(BindingStatus::MAG_NOT_AUTHORIZED_FOR_PROXY_REG)
    );
    assert!(prefix_at(&mut lma, 4, 4).is_ok());
    // Those who were there still are.
    assert_eq!(lma.mobiles_at(coa(2)).len(), 2);
    assert_eq!(lma.peers().count(), 3);
}

#[test]
fn a_living_mag_keeps_its_dialect() {
    let mut lma = two_mobiles(config());
    let with = |mag| {
        let mut new = config();
        for peer in &mut new.peers {
            if peer.proxy_coa == coa(mag) {
                peer.dialect = Dialect::Rfc7864;
            }
        }
        new
    };
    let conflict = LmaConflict::DialectInUse {
        proxy_coa: coa(1),
        mobiles: 2,
    };
    assert_eq!(lma.conflicts(&with(1)), [conflict]);
    accepted(&mut lma, with(3));
    let dialect = lma.peers().find(|peer| peer.proxy_coa == coa(3)).unwrap();
    assert_eq!(dialect.dialect, Dialect::Rfc7864);
}

#[test]
fn pools_that_stay_remember_what_they_lent() {
    let mut lma = Lma::new(config(), 1);
    let first = prefix_at(&mut lma, 1, 1).unwrap();
    let other = || pool("2001:db8:f000::/44", 64);
    let both = LmaConfig {
        pools: vec![other(), config().pools.remove(0)],
        ..config()
    };
    accepted(&mut lma, both.clone());
    let second = prefix_at(&mut lma, 2, 1).unwrap();
    assert!(
        other().covers(second),
        "{second} is of the pool that is first now"
    );
    assert_ne!(first, second);
    let without = |keep: usize| LmaConfig {
        pools: vec![both.pools[keep].clone()],
        ..config()
    };
    for keep in 0..2 {
        let conflicts = lma.conflicts(&without(keep));
        assert!(
            matches!(conflicts.as_slice(), [LmaConflict::PoolInUse(pool)] if *pool != both.pools[keep].range()),
            "{conflicts:?}"
        );
    }
    // Cut in another way it is another pool, in which prefixes are in use.
    let cut = LmaConfig {
        pools: vec![pool("2001:db8:1000::/36", 60), other()],
        ..config()
    };
    assert!(!lma.conflicts(&cut).is_empty());
    let third = prefix_at(&mut lma, 3, 1).unwrap();
    assert!(third != first && third != second);
}

#[test]
fn profiles_come_and_go() {
    let mut lma = Lma::new(config(), 1);
    let held = prefix_at(&mut lma, 1, 1).unwrap();
    let fixed = Hnp::new("2001:db8:1000:5::".parse().unwrap(), 64).unwrap();
    let with = |n, hnp: Hnp| LmaConfig {
        profiles: [(
            mn(n),
            MobileProfile {
                prefixes: vec![hnp],
                ..MobileProfile::default()
            },
        )]
        .into(),
        ..config()
    };
    assert_eq!(
        lma.conflicts(&with(2, held)),
        [LmaConflict::PrefixInUse {
            hnp: held,
            mn_id: mn(2)
        }]
    );
    accepted(&mut lma, with(1, held));
    accepted(&mut lma, with(2, fixed));
    assert_eq!(prefix_at(&mut lma, 2, 1), Ok(fixed));
    for n in 3..10 {
        assert_ne!(prefix_at(&mut lma, n, 1), Ok(fixed));
    }
    // Without its profile the prefix is one of the pool's again, once its mobile has left.
    accepted(&mut lma, config());
    assert_eq!(lma.conflicts(&with(3, fixed)).len(), 1);
    let refused = LmaConfig {
        serve_unknown: false,
        ..with(1, held)
    };
    accepted(&mut lma, refused);
    assert!(prefix_at(&mut lma, 20, 1).is_err());
    assert_eq!(lma.mobiles_at(coa(1)).len(), 9, "bindings stay");
}

#[test]
fn a_mobile_that_a_command_has_barred_stays_barred() {
    let mut lma = Lma::new(config(), 1);
    lma.set_service(s(0), &mn(1), false).unwrap();
    accepted(&mut lma, config());
    assert!(prefix_at(&mut lma, 1, 1).is_err());
    lma.set_service(s(1), &mn(1), true).unwrap();
    let barring = LmaConfig {
        profiles: [(
            mn(1),
            MobileProfile {
                enabled: false,
                ..MobileProfile::default()
            },
        )]
        .into(),
        ..config()
    };
    accepted(&mut lma, barring);
    assert!(prefix_at(&mut lma, 1, 1).is_ok());
}

#[test]
fn tunnels_in_use_change() {
    let mut lma = two_mobiles(config());
    let mut new = config();
    for peer in &mut new.peers {
        peer.tunnel = TunnelConfig {
            hop_limit: 9,
            ..TunnelConfig::default()
        };
    }
    accepted(&mut lma, new.clone());
    let paths = |lma: &mut Lma| {
        let commands = std::iter::from_fn(|| lma.poll_command());
        let told = commands.filter(|command| match command {
            Command::Table(flow::TableUpdate::Path {
                path: Some(flow::Path::Tunnel(tunnel)),
                ..
            }) => {
                assert_eq!(tunnel.hop_limit, 9);
                true
            }
            Command::Table(_) | Command::Send { .. } | Command::Advertise(_) => false,
        });
        told.count()
    };
    assert_eq!(paths(&mut lma), 2);
    accepted(&mut lma, new);
    assert_eq!(paths(&mut lma), 0, "nothing has changed");
}

#[test]
fn heartbeats_begin_and_end() {
    let mut lma = two_mobiles(config());
    let asking = |interval: Option<u64>| LmaConfig {
        heartbeat: HeartbeatConfig {
            interval: interval.map(Duration::from_secs),
            missing_allowed: 1,
            restart_counter: 0,
        },
        ..config()
    };
    accepted(&mut lma, asking(Some(60)));
    let asked = |lma: &mut Lma| {
        let commands = std::iter::from_fn(|| lma.poll_command());
        let asked = commands.filter(|command| {
            matches!(
                command,
                Command::Send {
                    message: Message::Heartbeat(_),
                    ..
                }
            )
        });
        asked.count()
    };
    lma.handle_timeout(s(1));
    assert_eq!(asked(&mut lma), 2);
    // A shorter interval does not wait for the end of the longer one.
    lma.reconfigure(s(2), asking(Some(1)));
    for second in 3..8 {
        lma.handle_timeout(s(second));
    }
    let down = |lma: &Lma| {
        let peers = lma.peers().filter_map(|peer| peer.heartbeat);
        let down = peers.filter(|view| view.liveness == crate::heartbeat::Liveness::Down);
        down.count()
    };
    assert_eq!(down(&lma), 2);
    let active = |lma: &Lma| {
        let sessions = lma.cache.iter().flat_map(|mobile| &mobile.sessions);
        sessions.filter(|session| session.is_active()).count()
    };
    assert_eq!(active(&lma), 0);
    // Nobody is down who is not asked.
    accepted(&mut lma, asking(None));
    assert_eq!((down(&lma), active(&lma)), (0, 4));
    asked(&mut lma);
    lma.handle_timeout(s(100));
    assert_eq!(asked(&mut lma), 0);
}
