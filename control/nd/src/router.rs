//! What a MAG advertises, in the words of its state machine.

use flow::MacAddr;
use pmip_proto::RouterAdvertisement;

use crate::icmp6::{ALL_NODES, OPTION_SOURCE_LINK_LAYER, packet};

const ROUTER_ADVERTISEMENT: u8 = 134;
const OPTION_PREFIX_INFORMATION: u8 = 3;
const OPTION_MTU: u8 = 5;

/// A router advertisement of a MAG to one mobile (RFC 4861 §4.2, RFC 5213 §6.7).
pub fn router_advertisement(advertisement: &RouterAdvertisement, mac: MacAddr) -> Vec<u8> {
    const CURRENT_HOP_LIMIT: u8 = 64;
    const ON_LINK: u8 = 0x80;
    const AUTONOMOUS: u8 = 0x40;
    let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, CURRENT_HOP_LIMIT, 0];
    // At most 9000 s (RFC 4861 §6.2.1).
    let lifetime = u16::try_from(advertisement.router_lifetime.as_secs()).unwrap_or(u16::MAX);
    message.extend(lifetime.min(9000).to_be_bytes());
    message.extend([0; 8]);
    message.extend([OPTION_SOURCE_LINK_LAYER, 1]);
    message.extend(mac.0);
    message.extend([OPTION_MTU, 1, 0, 0]);
    message.extend(u32::from(advertisement.mtu).to_be_bytes());
    for prefix in &advertisement.prefixes {
        // Hosts form addresses by themselves in prefixes of 64 bits only (RFC 4862 §5.5.3).
        let flags = match prefix.hnp.len() {
            64 => ON_LINK | AUTONOMOUS,
            _ => ON_LINK,
        };
        message.extend([OPTION_PREFIX_INFORMATION, 4, prefix.hnp.len(), flags]);
        for _valid_and_preferred in 0..2 {
            message.extend(seconds(prefix.lifetime).to_be_bytes());
        }
        message.extend([0; 4]);
        message.extend(prefix.hnp.addr().octets());
    }
    packet(advertisement.source, ALL_NODES, 255, message)
}

fn seconds(time: std::time::Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::icmp6::tests::read;

    #[test]
    fn a_router_advertisement_carries_prefixes_and_mtu() {
        let advertisement = RouterAdvertisement {
            port: flow::PortId(0),
            mac: MacAddr([2, 0, 0, 0, 1, 1]),
            source: MacAddr::MAG.link_local(),
            router_lifetime: Duration::from_mins(30),
            mtu: 1460,
            prefixes: [64, 56, 80]
                .map(|len| pmip_proto::AdvertisedPrefix {
                    hnp: flow::Hnp::new("2001:db8:1::".parse().unwrap(), len).unwrap(),
                    lifetime: Duration::from_mins(10),
                })
                .to_vec(),
        };
        let packet = router_advertisement(&advertisement, MacAddr::MAG);
        let icmp = read(&packet);
        assert_eq!(icmp.type_u8(), 134);
        let body = icmp.slice();
        assert_eq!(body[6..8], 1800u16.to_be_bytes());
        assert_eq!(body[16..24], [1, 1, 0, 0, 0x5e, 0, 0x52, 0x13]);
        assert_eq!(body[28..32], 1460u32.to_be_bytes());
        assert_eq!(body[32..36], [3, 4, 64, 0xc0]);
        assert_eq!(body[36..40], 600u32.to_be_bytes());
        assert_eq!(body[40..44], 600u32.to_be_bytes());
        // Others than of 64 bits are on link, and no use for autoconfiguration.
        assert_eq!(body[64..68], [3, 4, 56, 0x80]);
        assert_eq!(body[96..100], [3, 4, 80, 0x80]);
        assert_eq!(body.len(), 128);
    }
}
