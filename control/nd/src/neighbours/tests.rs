use super::*;

const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const THEIRS: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const PORT: PortId = PortId(0);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn neighbour() -> Ipv6Addr {
    "2001:db8:f::2".parse().unwrap()
}

fn discovery(access: bool) -> NeighbourDiscovery {
    let addresses = vec!["2001:db8:f::1/64".parse().unwrap()];
    NeighbourDiscovery::new(vec![NdPort {
        mac: OURS,
        addresses,
        access,
    }])
}

fn updates(nd: &mut NeighbourDiscovery) -> Vec<Update> {
    std::iter::from_fn(|| nd.poll_update()).collect()
}

fn solicitation(update: &Update) -> (Ipv6Addr, TransmitTo) {
    let Update::Transmit(transmit) = update else {
        panic!("{update:?}")
    };
    let destination: [u8; 16] = transmit.packet[24..40].try_into().unwrap();
    assert_eq!(transmit.packet[40], 135);
    assert_eq!(transmit.packet[7], 255);
    (destination.into(), transmit.to)
}

fn told(mac: Option<MacAddr>) -> Update {
    Update::Neighbour {
        port: PORT,
        address: neighbour(),
        mac,
    }
}

fn advertisement() -> Vec<u8> {
    icmp6::unsolicited_advertisement(neighbour(), THEIRS)
}

#[test]
fn a_neighbour_is_asked_learnt_probed_and_given_up() {
    let mut nd = discovery(false);
    nd.handle_resolve(at(0), PORT, neighbour());
    nd.handle_resolve(at(0), PORT, neighbour());
    let sent = updates(&mut nd);
    assert_eq!(sent.len(), 1);
    let group = "ff02::1:ff00:2".parse().unwrap();
    let station = MacAddr([0x33, 0x33, 0xff, 0, 0, 2]);
    assert_eq!(
        solicitation(&sent[0]),
        (group, TransmitTo::Link(PORT, station))
    );

    nd.handle_packet(at(0), PORT, THEIRS, &advertisement());
    assert_eq!(updates(&mut nd), [told(Some(THEIRS))]);
    nd.handle_timeout(at(29));
    assert_eq!(updates(&mut nd), []);

    for second in 30..33 {
        assert_eq!(nd.poll_timeout(), Some(at(second)));
        nd.handle_timeout(at(second));
        let sent = updates(&mut nd);
        assert_eq!(
            solicitation(&sent[0]),
            (neighbour(), TransmitTo::Link(PORT, THEIRS))
        );
    }
    nd.handle_timeout(at(33));
    assert_eq!(updates(&mut nd), [told(None)]);
    assert_eq!(nd.poll_timeout(), None);
}

#[test]
fn an_unanswered_question_ends_after_three_tries() {
    let mut nd = discovery(false);
    nd.handle_resolve(at(0), PORT, neighbour());
    for second in 1..=3 {
        nd.handle_timeout(at(second));
    }
    let outputs = updates(&mut nd);
    assert_eq!(outputs.len(), 4);
    assert_eq!(outputs[3], told(None));
}

#[test]
fn advertisements_nobody_asked_for_create_nothing() {
    let mut nd = discovery(false);
    nd.handle_packet(at(0), PORT, THEIRS, &advertisement());
    assert_eq!(updates(&mut nd), []);
}

#[test]
fn solicitations_teach_who_asks_but_not_on_access_links() {
    let ask = |from: Ipv6Addr| {
        let target = "2001:db8:f::1".parse().unwrap();
        icmp6::neighbour_solicitation(from, icmp6::solicited_node(target), target, THEIRS)
    };
    let mut nd = discovery(false);
    nd.handle_packet(at(0), PORT, THEIRS, &ask(neighbour()));
    assert_eq!(updates(&mut nd), [told(Some(THEIRS))]);
    nd.handle_packet(at(0), PORT, THEIRS, &ask("2001:db8:e::2".parse().unwrap()));
    assert_eq!(updates(&mut nd), []);
    let mut nd = discovery(true);
    nd.handle_packet(at(0), PORT, THEIRS, &ask(neighbour()));
    assert_eq!(updates(&mut nd), []);
}

fn solicit_from(nd: &mut NeighbourDiscovery, now: u64, from: Ipv6Addr) {
    let target = "2001:db8:f::1".parse().unwrap();
    let packet = icmp6::neighbour_solicitation(from, icmp6::solicited_node(target), target, THEIRS);
    nd.handle_packet(at(now), PORT, THEIRS, &packet);
    assert!(updates(nd).len() <= 2);
    assert!(nd.entries.len() <= MAX_NEIGHBOURS);
}

fn nth(n: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(neighbour()) + 0x1_0000 + u128::from(n))
}

#[test]
fn a_million_solicitations_replace_their_own() {
    let mut nd = discovery(false);
    nd.handle_resolve(at(0), PORT, neighbour());
    nd.handle_packet(at(0), PORT, THEIRS, &advertisement());
    updates(&mut nd);
    for n in 0..1_000_000 {
        solicit_from(&mut nd, 1, nth(n));
    }
    assert_eq!(nd.entries.len(), MAX_NEIGHBOURS);
    let others = 1_000_000 - (MAX_NEIGHBOURS as u64 - 1);
    assert_eq!((nd.replaced(), nd.refused()), (others, 0));
    // Who is in use is known, and who is asked for now is asked.
    nd.handle_resolve(at(1), PORT, neighbour());
    assert_eq!(updates(&mut nd), [told(Some(THEIRS))]);
    let new = nth(u32::MAX);
    nd.handle_resolve(at(1), PORT, new);
    let asked = updates(&mut nd);
    assert!(matches!(asked[0], Update::Neighbour { mac: None, .. }));
    assert_eq!(solicitation(&asked[1]).0, icmp6::solicited_node(new));
    assert_eq!(
        nd.giving_way.values().map(BTreeSet::len).sum::<usize>(),
        MAX_NEIGHBOURS - 1
    );
    assert_eq!(nd.due.len(), MAX_NEIGHBOURS);
}

#[test]
fn a_scan_replaces_its_own_questions() {
    let mut nd = discovery(false);
    nd.handle_resolve(at(0), PORT, neighbour());
    nd.handle_packet(at(0), PORT, THEIRS, &advertisement());
    for n in 0..100_000 {
        nd.handle_resolve(at(1), PORT, nth(n));
        // Nobody new is learnt at the expense of who is asked for.
        if n == 50_000 {
            updates(&mut nd);
            solicit_from(&mut nd, 1, nth(u32::MAX));
            assert_eq!(nd.refused(), 1);
        }
    }
    updates(&mut nd);
    assert_eq!(nd.entries.len(), MAX_NEIGHBOURS);
    assert_eq!(nd.replaced(), 100_000 - (MAX_NEIGHBOURS as u64 - 1));
    nd.handle_resolve(at(1), PORT, neighbour());
    assert_eq!(updates(&mut nd), [told(Some(THEIRS))]);
}

#[test]
fn addresses_are_announced_three_times_after_each_link_up() {
    let mut nd = discovery(false);
    assert_eq!(nd.poll_timeout(), None);
    let announced = |nd: &mut NeighbourDiscovery| {
        let own: Ipv6Addr = "2001:db8:f::1".parse().unwrap();
        let expected = Update::Transmit(Box::new(Transmit {
            packet: icmp6::unsolicited_advertisement(own, OURS),
            to: TransmitTo::Link(PORT, MacAddr::for_multicast(icmp6::ALL_NODES)),
        }));
        let sent = updates(nd);
        assert!(sent.iter().all(|update| *update == expected), "{sent:?}");
        sent.len()
    };
    nd.announce(at(0), PORT);
    assert_eq!((announced(&mut nd), nd.poll_timeout()), (1, Some(at(1))));
    nd.handle_timeout(Duration::from_millis(999));
    assert_eq!(announced(&mut nd), 0);
    nd.handle_timeout(at(1));
    assert_eq!((announced(&mut nd), nd.poll_timeout()), (1, Some(at(2))));
    // Anew, before the last one.
    nd.announce(Duration::from_millis(1500), PORT);
    for seconds in 2..10 {
        nd.handle_timeout(at(seconds));
    }
    assert_eq!((announced(&mut nd), nd.poll_timeout()), (3, None));
    nd.announce(at(10), PortId(7));
    assert_eq!(announced(&mut nd), 0);
}

#[test]
fn a_solicitation_that_is_lost_is_not_waited_for_long() {
    let mut nd = discovery(false);
    nd.handle_resolve(at(0), PORT, neighbour());
    let mut turns = Vec::new();
    while let Some(due) = nd.poll_timeout() {
        nd.handle_timeout(due);
        turns.push(due.as_millis());
    }
    // Asked twice more, and given up a second after the last time.
    assert_eq!(turns, [250, 750, 1750]);
}
