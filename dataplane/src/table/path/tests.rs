use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

fn end(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, 1)
}

fn to(remote: u16) -> Tunnel {
    Tunnel {
        local: end(0),
        remote: end(remote),
        hop_limit: 64,
        path_mtu: 1500,
        copy_dscp: false,
        encapsulation_limit: None,
    }
}

fn frame_from(remote: u16) -> Frame {
    let mut frame = Frame::default();
    frame.ip.source = U128::new(end(remote).to_bits());
    frame.ip.destination = U128::new(end(0).to_bits());
    frame
}

proptest! {
    /// Whatever has come and gone, a frame is from the tunnel that leads to its source, if there is one.
    #[test]
    fn a_frame_comes_through_its_tunnel(
        changes in prop::collection::vec((0..4_u16, prop::option::of(1..6_u16)), 1..40),
    ) {
        let (mut paths, mut all) = (Paths::default(), BTreeMap::new());
        for (number, remote) in changes {
            // Two tunnels do not lead to one place.
            if all.iter().any(|(n, r)| *n != number && Some(*r) == remote) {
                continue;
            }
            let rewrite = remote.map(|remote| Rewrite::tunnel(&to(remote)));
            let path = remote.map(|remote| Path::Tunnel(to(remote)));
            paths.set(PathId(number), path, rewrite.unwrap_or_default()).unwrap();
            match remote {
                Some(remote) => all.insert(number, remote),
                None => all.remove(&number),
            };
            for remote in 1..6 {
                let expected = all.iter().find(|(_, r)| **r == remote).map(|(n, _)| *n);
                prop_assert_eq!(paths.entrance(&frame_from(remote)), expected, "{:?}", all);
            }
        }
    }
}
