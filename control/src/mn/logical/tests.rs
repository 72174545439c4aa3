use super::*;
use crate::mn::AccessSettings;
use crate::mn::testing::{advertisement, solicitation};
use nd::packet::{checksum, ipv6_packet};
use proptest::prelude::*;

const CN: &str = "2001:db8:c::5";
const PREFIX1: &str = "2001:db8:100::";
const PREFIX2: &str = "2001:db8:100:1::";
const ADDRESS1: &str = "2001:db8:100::100";
const ADDRESS2: &str = "2001:db8:100:1::100";
const IF1: AccessId = AccessId(0);
const IF2: AccessId = AccessId(1);
const MAC1: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
const MAC2: MacAddr = MacAddr([2, 0, 0, 0, 1, 2]);

fn addr(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn settings() -> MnSettings {
    let access = |name: &str, interface: &str| AccessSettings {
        name: name.into(),
        interface: interface.into(),
    };
    MnSettings {
        interface: "lif0".into(),
        interface_id: [0, 0, 0, 0, 0, 0, 1, 0],
        accesses: vec![access("wlan", "if1"), access("lte", "if2")],
    }
}

fn interface(now: Instant) -> LogicalInterface {
    LogicalInterface::new(settings(), &[Some(link(MAC1)), Some(link(MAC2))], now)
}

fn link(mac: MacAddr) -> Link {
    Link {
        mac,
        mtu: 1500,
        up: true,
    }
}

fn down(mac: MacAddr) -> Link {
    Link {
        up: false,
        ..link(mac)
    }
}

/// What has happened, in words; with `!` where somebody should look.
fn events(lif: &mut LogicalInterface) -> Vec<String> {
    let events = std::iter::from_fn(|| lif.poll_event());
    let texts = events.map(|(warning, what)| format!("{}{what}", if warning { "! " } else { "" }));
    texts.collect()
}

fn outputs(lif: &mut LogicalInterface) -> Vec<Output> {
    std::iter::from_fn(|| lif.poll_output()).collect()
}

/// Both accesses attached, each with its own prefix.
fn attached(now: Instant) -> LogicalInterface {
    let mut lif = interface(now);
    lif.handle_timeout(now);
    lif.handle_frame(IF1, &advertisement(1800, 1460, &[(PREFIX1, 3600)]), now);
    lif.handle_frame(IF2, &advertisement(1800, 1460, &[(PREFIX2, 3600)]), now);
    outputs(&mut lif);
    lif
}

fn udp(source: &str, destination: &str, ports: (u16, u16)) -> Vec<u8> {
    let mut datagram = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    datagram.extend([0, 8, 0, 0]);
    ipv6_packet(addr(source), addr(destination), 17, 64, &datagram)
}

fn downlink(mac: MacAddr, packet: &[u8]) -> Vec<u8> {
    [host::ethernet(MacAddr::MAG, mac).as_slice(), packet].concat()
}

#[test]
fn solicitations_back_off_until_a_router_answers() {
    let start = Instant::now();
    let mut lif = interface(start);
    let mut sent = Vec::new();
    while let Some(now) = lif.poll_timeout().filter(|t| *t <= start + SOLICIT_MAX * 4) {
        lif.handle_timeout(now);
        for output in outputs(&mut lif) {
            if let Output::Transmit(IF1, frame) = output {
                sent.push((now - start).as_millis());
                let (to, from) = stations(&frame).unwrap();
                assert_eq!((to.to_string().as_str(), from), ("33:33:00:00:00:02", MAC1));
                let ip = Ipv6::parse(ethernet_payload(&frame).unwrap()).unwrap();
                assert_eq!(checksum(ip.source, ip.destination, 58, ip.payload), 0);
                assert_eq!(ip.source, addr("fe80::ff:fe00:101"));
            }
        }
    }
    assert_eq!(sent, [0, 250, 750, 1750, 3750, 7750, 11750, 15750]);
    let now = start + Duration::from_secs(16);
    lif.handle_frame(IF1, &advertisement(1800, 1460, &[]), now);
    lif.handle_timeout(now + Duration::from_mins(1));
    let solicited: Vec<_> = outputs(&mut lif)
        .into_iter()
        .filter(|o| matches!(o, Output::Transmit(IF1, _)))
        .collect();
    assert_eq!(solicited, []);
}

#[test]
fn an_advertisement_gives_address_route_and_mtu() {
    let now = Instant::now();
    let mut lif = interface(now);
    assert_eq!(outputs(&mut lif), [Output::SetMtu(1500)]);
    let frame = advertisement(1800, 1460, &[(PREFIX1, 3600)]);
    assert_eq!(lif.handle_frame(IF1, &frame, now), None);
    assert_eq!(
        outputs(&mut lif),
        [
            Output::AddAddress(addr(ADDRESS1)),
            Output::SetMtu(1460),
            Output::DefaultRoute(true)
        ]
    );
    lif.handle_frame(IF1, &frame, now);
    assert_eq!(outputs(&mut lif), []);
    // A shared prefix: the other access adds nothing but itself.
    lif.handle_frame(IF2, &frame, now);
    assert_eq!(outputs(&mut lif), []);
    let status = lif.status();
    assert_eq!(status.prefixes[0].accesses, ["wlan", "lte"]);
    assert_eq!(status.accesses[0].router_mac, Some(MacAddr::MAG));
}

#[test]
fn every_access_answers_for_every_address() {
    let now = Instant::now();
    let mut lif = attached(now);
    let mag = MacAddr::MAG.link_local();
    let own = MAC1.link_local().to_string();
    for target in [ADDRESS1, ADDRESS2, own.as_str()] {
        lif.handle_frame(IF1, &solicitation(mag, addr(target)), now);
        let [Output::Transmit(IF1, frame)] = &outputs(&mut lif)[..] else {
            panic!("no answer for {target}");
        };
        let (to, from) = stations(frame).unwrap();
        assert_eq!((to, from), (MacAddr::MAG, MAC1));
        let ip = Ipv6::parse(ethernet_payload(frame).unwrap()).unwrap();
        assert_eq!((ip.source, ip.destination), (addr(target), mag));
        assert_eq!(ip.hop_limit, 255);
        assert_eq!(checksum(ip.source, ip.destination, 58, ip.payload), 0);
        // Type, solicited and override, target, and the target link-layer address option.
        assert_eq!((ip.payload[0], ip.payload[4]), (136, 0x60));
        assert_eq!(ip.payload[8..24], addr(target).octets());
        assert_eq!(ip.payload[24..], [&[2, 1], &MAC1.0[..]].concat());
    }
    lif.handle_frame(IF1, &solicitation(mag, MAC2.link_local()), now);
    lif.handle_frame(IF1, &solicitation(mag, addr(CN)), now);
    assert_eq!(outputs(&mut lif), []);
}

#[test]
fn duplicate_address_detection_is_answered_to_all() {
    let now = Instant::now();
    let mut lif = attached(now);
    let probe = solicitation(Ipv6Addr::UNSPECIFIED, addr(ADDRESS1));
    lif.handle_frame(IF2, &probe, now);
    let [Output::Transmit(IF2, frame)] = &outputs(&mut lif)[..] else {
        panic!("the address was not defended");
    };
    let ip = Ipv6::parse(ethernet_payload(frame).unwrap()).unwrap();
    assert_eq!(ip.destination, addr("ff02::1"));
    assert_eq!(ip.payload[4], 0x20);
}

#[test]
fn uplink_follows_downlink_and_starts_where_the_prefix_is() {
    let now = Instant::now();
    let mut lif = attached(now);
    let up = udp(ADDRESS2, CN, (5004, 4000));
    let (access, header) = lif.handle_packet(&up).unwrap();
    assert_eq!(access, IF2);
    assert_eq!(header, host::ethernet(MAC2, MacAddr::MAG));
    // The network moves the flow.
    let down = udp(CN, ADDRESS2, (4000, 5004));
    let mut frame = downlink(MAC1, &down);
    frame.extend([0; 6]);
    assert_eq!(lif.handle_frame(IF1, &frame, now), Some(&down[..]));
    assert_eq!(lif.handle_packet(&up).unwrap().0, IF1);
    // Another flow of the same address stays.
    let other = udp(ADDRESS2, CN, (5005, 4000));
    assert_eq!(lif.handle_packet(&other).unwrap().0, IF2);
    // And back.
    lif.handle_frame(IF2, &downlink(MAC2, &down), now);
    assert_eq!(lif.handle_packet(&up).unwrap().0, IF2);
    let status = lif.status();
    assert_eq!(status.flows.len(), 1);
    assert_eq!(
        (status.flows[0].access.as_str(), status.flows[0].moves),
        ("lte", 1)
    );
}

#[test]
fn an_access_without_router_is_not_used() {
    let now = Instant::now();
    let mut lif = attached(now);
    let up = udp(ADDRESS1, CN, (5004, 4000));
    lif.handle_frame(IF1, &downlink(MAC1, &udp(CN, ADDRESS1, (4000, 5004))), now);
    assert_eq!(lif.handle_packet(&up).unwrap().0, IF1);
    lif.handle_link(IF1, down(MAC1), now);
    assert_eq!(lif.handle_packet(&up).unwrap().0, IF2);
    assert_eq!(
        outputs(&mut lif),
        [],
        "the address outlives the link, the route has another access"
    );
    lif.handle_link(IF2, down(MAC2), now);
    assert_eq!(lif.handle_packet(&up), None);
    assert_eq!(outputs(&mut lif), [Output::DefaultRoute(false)]);
    assert_eq!(lif.status().drops[0].reason, "no-route");
    // Up again: it asks at once.
    lif.handle_link(IF1, link(MAC1), now);
    lif.handle_timeout(now);
    assert!(matches!(outputs(&mut lif)[..], [Output::Transmit(IF1, _)]));
}

#[test]
fn an_interface_may_come_late_and_be_another_one_later() {
    let now = Instant::now();
    let mut lif = LogicalInterface::new(settings(), &[None, Some(down(MAC2))], now);
    assert_eq!(
        events(&mut lif),
        ["! access wlan (if1) is down", "! access lte (if2) is down"]
    );
    assert_eq!(lif.poll_timeout(), None, "there is nobody to be asked");
    let row = &lif.status().accesses[0];
    assert_eq!((row.mac, row.up), (None, false));

    lif.handle_link(IF1, link(MAC1), now);
    lif.handle_timeout(now);
    let frame = advertisement(1800, 1460, &[(PREFIX1, 3600)]);
    lif.handle_frame(IF1, &frame, now);
    assert_eq!(
        events(&mut lif),
        [
            "access wlan (if1) is up",
            "prefix 2001:db8:100::/64 gained, address 2001:db8:100::100",
            "access wlan has router fe80::200:5eff:fe00:5213",
        ]
    );
    lif.handle_frame(IF1, &frame, now);
    lif.handle_link(IF1, link(MAC1), now);
    assert_eq!(events(&mut lif), [""; 0], "nothing is new");
    outputs(&mut lif);

    // Under another address, it has to attach once more; its own address stays.
    let other = MacAddr([2, 0, 0, 0, 1, 9]);
    lif.handle_link(IF1, link(other), now);
    let lost = "! access wlan has lost router fe80::200:5eff:fe00:5213";
    assert_eq!(events(&mut lif), [lost]);
    lif.handle_timeout(now);
    let sent = outputs(&mut lif);
    let [Output::DefaultRoute(false), Output::Transmit(IF1, asked)] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!(stations(asked).unwrap().1, other);
    assert_eq!(lif.status().prefixes.len(), 1);
    lif.handle_frame(IF1, &frame, now);
    let up = udp(ADDRESS1, CN, (5004, 4000));
    let (_, header) = lif.handle_packet(&up).unwrap();
    assert_eq!(header, host::ethernet(other, MacAddr::MAG));
    events(&mut lif);

    // It is narrower than what the router says.
    outputs(&mut lif);
    let mtu = 1300;
    lif.handle_link(IF1, Link { mtu, ..link(other) }, now);
    lif.handle_frame(IF1, &frame, now);
    assert!(outputs(&mut lif).contains(&Output::SetMtu(1300)));

    lif.handle_frame(IF1, &advertisement(1800, 1460, &[(PREFIX1, 0)]), now);
    let lost = "! prefix 2001:db8:100::/64 lost, address 2001:db8:100::100";
    assert_eq!(events(&mut lif).last().unwrap(), lost);
}

#[test]
fn moves_are_told_but_not_all_of_them() {
    let now = Instant::now();
    let mut lif = attached(now);
    events(&mut lif);
    let down = udp(CN, ADDRESS1, (4000, 5004));
    let mut arrive = |n: u32, at: Instant| {
        let (id, mac) = if n.is_multiple_of(2) {
            (IF1, MAC1)
        } else {
            (IF2, MAC2)
        };
        lif.handle_frame(id, &downlink(mac, &down), at);
        events(&mut lif)
    };
    assert_eq!(arrive(0, now), [""; 0]);
    assert_eq!(
        arrive(1, now),
        [
            "flow 2001:db8:100::100 > 2001:db8:c::5 proto 17 ports 5004 > 4000 moved from access wlan to lte"
        ]
    );
    let told: usize = (2..100).map(|n| arrive(n, now).len()).sum();
    assert_eq!(told + 1, usize::try_from(MOVES_TOLD).unwrap());
    let later = now + Duration::from_secs(1);
    assert_eq!(arrive(100, later).len(), 1);
    assert_eq!(lif.summary().flow_moves, 100);
    lif.handle_frame(IF2, &downlink(MAC2, &down), later);
    let Some((false, What::UplinkMoved { untold, .. })) = lif.poll_event() else {
        panic!("not told");
    };
    assert_eq!(untold, 99 - u64::from(MOVES_TOLD));
}

#[test]
fn lifetimes_end() {
    let now = Instant::now();
    let mut lif = interface(now);
    lif.handle_frame(IF1, &advertisement(30, 1460, &[(PREFIX1, 60)]), now);
    lif.handle_frame(IF2, &advertisement(90, 1460, &[(PREFIX1, 90)]), now);
    outputs(&mut lif);
    let up = udp(ADDRESS1, CN, (1, 2));
    assert_eq!(lif.handle_packet(&up).unwrap().0, IF1);
    lif.handle_timeout(now + Duration::from_secs(30));
    assert_eq!(lif.handle_packet(&up).unwrap().0, IF2);
    lif.handle_timeout(now + Duration::from_mins(1));
    assert_eq!(lif.status().prefixes[0].accesses, ["lte"]);
    outputs(&mut lif);
    lif.handle_timeout(now + Duration::from_secs(90));
    let end = outputs(&mut lif);
    assert!(end.contains(&Output::RemoveAddress(addr(ADDRESS1))));
    assert!(end.contains(&Output::DefaultRoute(false)));
    // RFC 4861 §4.2: a lifetime of zero withdraws the router, and here the prefix too.
    lif.handle_frame(IF1, &advertisement(30, 1460, &[(PREFIX1, u32::MAX)]), now);
    lif.handle_timeout(now);
    outputs(&mut lif);
    lif.handle_frame(IF1, &advertisement(0, 1460, &[(PREFIX1, 0)]), now);
    let end = outputs(&mut lif);
    assert!(end.contains(&Output::RemoveAddress(addr(ADDRESS1))));
}

#[test]
fn each_refusal_has_its_counter() {
    let now = Instant::now();
    let mut lif = attached(now);
    let good = downlink(MAC1, &udp(CN, ADDRESS1, (1, 2)));
    let edit = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    let mut forwarded = solicitation(MacAddr::MAG.link_local(), addr(ADDRESS1));
    forwarded[14 + 7] = 254;
    let mut damaged = solicitation(MacAddr::MAG.link_local(), addr(ADDRESS1));
    damaged[14 + 40 + 8] ^= 1;
    let cases = [
        (good[..10].to_vec(), "malformed"),
        (good[..60].to_vec(), "malformed"),
        (edit(5, 9), "not-for-us"),
        (edit(12, 0x08), "not-ipv6"),
        (edit(14 + 8, 0xff), "bad-source"),
        (downlink(MAC1, &udp(CN, CN, (1, 2))), "not-for-us"),
        (downlink(MAC1, &udp(CN, "ff02::1", (1, 2))), "multicast"),
        (downlink(MAC1, &udp(CN, "fe80::1", (1, 2))), "link-local"),
        (forwarded, "bad-icmp"),
        (damaged, "bad-icmp"),
    ];
    let count = |lif: &LogicalInterface, reason: &str| {
        let drops = lif.status().drops;
        drops
            .iter()
            .find(|d| d.reason == reason)
            .map_or(0, |d| d.packets)
    };
    for (frame, reason) in cases {
        let before = count(&lif, reason);
        assert_eq!(lif.handle_frame(IF1, &frame, now), None);
        assert_eq!(count(&lif, reason), before + 1, "{reason}: {frame:02x?}");
        assert_eq!(outputs(&mut lif), []);
    }
    assert_eq!(lif.handle_packet(&udp(CN, CN, (1, 2))), None);
    assert_eq!(count(&lif, "ingress-filter"), 1);
}

proptest! {
    #[test]
    fn every_frame_ends_in_one_place(
        frames in prop::collection::vec(
            (prop::collection::vec((0_usize..200, any::<u8>()), 0..6), 0_usize..4, 0_usize..200),
            1..60,
        ),
    ) {
        let now = Instant::now();
        let mut lif = attached(now);
        let mag = MacAddr::MAG.link_local();
        let models = [
            downlink(MAC1, &udp(CN, ADDRESS1, (1, 2))),
            solicitation(mag, addr(ADDRESS2)),
            advertisement(1800, 1460, &[(PREFIX1, 3600)]),
            vec![0; 64],
        ];
        let before = lif.status();
        for (edits, model, len) in frames {
            let mut frame = models[model].clone();
            for (at, value) in edits {
                if let Some(octet) = frame.get_mut(at) {
                    *octet = value;
                }
            }
            frame.truncate(len.max(1));
            lif.handle_frame(IF1, &frame, now);
            lif.handle_packet(&frame);
            lif.handle_packet(frame.get(14..).unwrap_or(&[]));
            outputs(&mut lif);
        }
        let (old, status) = (&before.accesses[0], lif.status());
        let access = &status.accesses[0];
        let total = |s: &MnStatus| s.drops.iter().map(|d| d.packets).sum::<u64>();
        let received = access.rx_packets - old.rx_packets;
        let sent: u64 = status.accesses.iter().map(|a| a.tx_packets).sum();
        let ends = access.delivered + access.discovery - old.delivered - old.discovery;
        // Each frame was received once and tried twice as an uplink packet.
        prop_assert_eq!(received * 3, ends + sent + total(&status) - total(&before));
    }
}
