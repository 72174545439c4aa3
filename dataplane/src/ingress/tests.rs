//! The quick look and the close one must agree on every frame that the quick one settles.

use std::net::Ipv6Addr;

use flow::{Path, PathId, Tunnel};
use proptest::prelude::*;

use super::*;
use crate::config::{LmaConfig, MagConfig};
use crate::simd::{Level, Stages};
use crate::table::Rewrite;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn with_tunnel(mut state: RoleState, local: Ipv6Addr, remote: Ipv6Addr) -> RoleState {
    let tunnel = Tunnel {
        local,
        remote,
        hop_limit: 64,
        path_mtu: 1500,
        copy_dscp: false,
        encapsulation_limit: None,
    };
    let rewrite = Rewrite::tunnel(&tunnel);
    let paths = &mut state.table.paths;
    paths
        .set(PathId(7), Some(Path::Tunnel(tunnel)), rewrite)
        .unwrap();
    state
}

fn ipv6(next_header: u8, from: Ipv6Addr, to: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [0x60, 0, 0, 0, len[0], len[1], next_header, 64];
    [&head, &from.octets()[..], &to.octets(), payload].concat()
}

fn ethernet(to: MacAddr, packet: &[u8]) -> Vec<u8> {
    let from = [2, 0, 0, 0, 0, 9];
    [&to.0[..], &from, &[0x86, 0xdd], packet].concat()
}

/// Frames of every kind, from which others are made by small changes.
fn seeds() -> Vec<Vec<u8>> {
    let (cn, mn) = (ip("2001:db8:1::5"), ip("2001:db8:100:1::100"));
    let (lmaa, coa) = (ip("2001:db8:ffff::1"), ip("2001:db8:ffff::a"));
    let udp = [0x13, 0x88, 0x13, 0x89, 0, 12, 0, 0, 1, 2, 3, 4];
    let (down, up) = (ipv6(17, cn, mn, &udp), ipv6(17, mn, cn, &udp));
    let frames = [
        down.clone(),
        up.clone(),
        ipv6(41, coa, lmaa, &up),
        ipv6(41, lmaa, coa, &down),
        ipv6(58, cn, lmaa, &udp),
        ipv6(17, ip("fe80::1"), mn, &udp),
        ipv6(17, cn, ip("::1"), &udp),
        ipv6(17, cn, ip("ff02::1"), &udp),
        ipv6(41, coa, lmaa, &ipv6(17, mn, ip("::"), &udp)),
    ];
    let macs = [MAC, MacAddr::MAG, MacAddr([0x33, 0x33, 0, 0, 0, 1])];
    let all = macs
        .iter()
        .flat_map(|mac| frames.iter().map(|frame| ethernet(*mac, frame)));
    all.collect()
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    // Headers are where it matters.
    let change = (0..110_usize, any::<u8>());
    let changes = proptest::collection::vec(change, 0..3);
    (0..seeds().len(), changes, 0..3_usize, any::<bool>()).prop_map(
        |(seed, changes, by, longer)| {
            let mut frame = seeds().swap_remove(seed);
            for (at, octet) in changes {
                if let Some(place) = frame.get_mut(at) {
                    *place = octet;
                }
            }
            let len = if longer {
                frame.len() + by
            } else {
                frame.len() - by
            };
            frame.resize(len, 0);
            frame
        },
    )
}

/// One that is plain, one that holds our own addresses, one told only by the lower half, and one that
/// holds addresses of special kinds.
const POOLS: [&str; 4] = [
    "2001:db8:100::/40",
    "2001:db8::/32",
    "2001:db8:100:1::/80",
    "::/0",
];

fn pool() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(POOLS.to_vec(), 0..=2)
}

struct Quick<'a>(&'a Ingress<'a>, &'a [u8], &'a mut Option<Passage>);

impl Stages for Quick<'_> {
    fn run(self, compare: impl Compare + Copy) {
        let Self(ingress, frame, result) = self;
        let mut passage = Passage::NEW;
        let start = frame.first_chunk();
        let usual = start.is_some_and(|start| ingress.usual(start, frame, &mut passage, compare));
        *result = usual.then_some(passage);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn both_looks_agree(frame in frame(), access: bool, roles in 1..4_u8, pool in pool()) {
        let (lmaa, coa) = (ip("2001:db8:ffff::1"), ip("2001:db8:ffff::a"));
        let mut own = OwnAddresses::default();
        for address in [lmaa, coa] {
            own.add(address.to_bits(), Some(PortId(0)));
        }
        let config = LmaConfig {
            addresses: vec![lmaa],
            pools: pool.iter().map(|pool| pool.parse().unwrap()).collect(),
            expected_bindings: 10, other_lengths: 0,
        };
        let mut lma = with_tunnel(RoleState::lma(&config), lmaa, coa);
        lma.choose_plain_pool(|network, mask| own.any_in(network, mask));
        let config = MagConfig { addresses: vec![coa], expected_bindings: 10, other_lengths: 0, };
        let mag = with_tunnel(RoleState::mag(&config), coa, lmaa);
        let (lma, mag) = ((roles & 1 != 0).then_some(&lma), (roles & 2 != 0).then_some(&mag));
        let macs = [MAC, if access { MacAddr::MAG } else { MAC }];
        let shapes = Shapes::new(macs, lma.filter(|_| !access), mag.filter(|_| !access));
        let ingress = Ingress {
            port: PortId(0),
            macs: &macs,
            shapes: &shapes,
            forward: shapes.forward.as_ref().zip(lma.map(|lma| &lma.table.bindings)),
            exit: shapes.exit(lma, mag),
            access,
            own: &own,
            lma,
            mag,
        };
        let mut closely = Passage::NEW;
        ingress.see(&frame, &mut closely);
        for level in Level::supported() {
            let mut quick = None;
            level.run(Quick(&ingress, &frame, &mut quick));
            if let Some(quick) = quick {
                prop_assert_eq!(whole_len(&frame), frame.len());
                let ip = Ipv6::of(&frame[ETHERNET_LEN..]).unwrap();
                if quick.lane == Lane::Access && closely.lane == Lane::Drop {
                    // Nothing is found for its source, and whoever takes it then asks for the reason.
                    prop_assert!(!scope::is_plain(ip.source.get()));
                    prop_assert_eq!(decap::check_addresses(ip), Err(closely.reason));
                    continue;
                }
                // It is to us, and the long way finds out that it can only end.
                let is_turned_away = quick.lane == Lane::Drop && quick.reason == DropReason::NoTunnel;
                let lane = if is_turned_away { Lane::Local } else { quick.lane };
                prop_assert_eq!(
                    (lane, quick.key, quick.home, quick.through),
                    (closely.lane, closely.key, closely.home, closely.through),
                    "{:?}", level
                );
            } else if frame == seeds()[0] && !access && lma.is_some() && pool == [POOLS[0]] {
                prop_assert!(false, "a usual frame is looked at closely");
            }
        }
    }
}
