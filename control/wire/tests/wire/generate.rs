//! Messages of every kind, for tests that want many.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flow::{
    AccessTechnology, Bid, Fid, FidPriority, HandoffIndicator, Hnp, Interval, MnId, MnLinkLayerId,
    ProxyCoa, Selector, TrafficSelector,
};
use pmip_wire::{
    BidOption, BidPriority, BindingError, BindingErrorStatus, BindingLifetime, BindingStatus, Bra,
    Bri, FlowIdentification, FlowLifetime, FlowStatus, FlowSummary, Fma, FmaStatus, Fmi, Heartbeat,
    HeartbeatKind, HnpOption, LoadInformation, Message, MnIdOption, NotificationReason, Pba,
    PbaFlags, Pbu, PbuFlags, RawOption, Redirect, RestartCounter, RevocationFlags,
    RevocationStatus, RevocationTrigger, SelectorOption, Timestamp, Upa, UpaStatus, Upn,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

pub(crate) fn address() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(Ipv6Addr::from)
}

/// Any message.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        pbu().prop_map(Message::from),
        pba().prop_map(Message::from),
        binding_error().prop_map(Message::from),
        fmi().prop_map(Message::from),
        fma().prop_map(Message::from),
        heartbeat().prop_map(Message::from),
        bri().prop_map(Message::from),
        bra().prop_map(Message::from),
        upn().prop_map(Message::from),
        upa().prop_map(Message::from),
    ]
}

prop_compose! {
    pub(crate) fn pbu()(
        (sequence, flags, lifetime) in any::<(u16, u16, u16)>(),
        (mn_id, hnps, ll_id) in (of(mn_id()), hnps(), of(ll_id())),
        (handoff, access) in any::<(Option<u8>, Option<u8>)>(),
        (link_local, alt_coa) in (of(address()), of(address())),
        timestamp: Option<u64>,
        (bids, flows, flow_summary) in (vec(bid_option(), 0..3), flows(), of(flow_summary())),
        (redirect_capability, others) in (any::<bool>(), others()),
    ) -> Pbu {
        Pbu {
            sequence,
            flags: PbuFlags(flags),
            lifetime: BindingLifetime::from_units(lifetime),
            mn_id,
            hnps,
            handoff: handoff.map(HandoffIndicator),
            access: access.map(AccessTechnology),
            ll_id,
            link_local,
            timestamp: timestamp.map(Timestamp),
            alt_coa: alt_coa.map(ProxyCoa),
            bids,
            flows,
            flow_summary,
            redirect_capability,
            others,
        }
    }
}

prop_compose! {
    pub(crate) fn pba()(
        (status, flags, sequence, lifetime) in any::<(u8, u8, u16, u16)>(),
        (mn_id, hnps, ll_id) in (of(mn_id()), hnps(), of(ll_id())),
        (handoff, access) in any::<(Option<u8>, Option<u8>)>(),
        (link_local, timestamp) in (of(address()), any::<Option<u64>>()),
        (bids, flows, others) in (vec(bid_option(), 0..3), flows(), others()),
        (redirect, load) in (any::<Option<IpAddr>>(), of(load())),
    ) -> Pba {
        Pba {
            status: BindingStatus(status),
            flags: PbaFlags(flags),
            sequence,
            lifetime: BindingLifetime::from_units(lifetime),
            mn_id,
            hnps,
            handoff: handoff.map(HandoffIndicator),
            access: access.map(AccessTechnology),
            ll_id,
            link_local,
            timestamp: timestamp.map(Timestamp),
            bids,
            flows,
            redirect: redirect.map(Redirect),
            load,
            others,
        }
    }
}

prop_compose! {
    fn load()(
        priority: u16,
        (sessions, max_sessions, capacity, max_capacity) in any::<(u32, u32, u32, u32)>(),
    ) -> LoadInformation {
        LoadInformation { priority, sessions, max_sessions, capacity, max_capacity }
    }
}

prop_compose! {
    fn binding_error()(status: u8, home_address in address(), others in others()) -> BindingError {
        BindingError { status: BindingErrorStatus(status), home_address, others }
    }
}

prop_compose! {
    fn fmi()(
        (sequence, lifetime, cancel, refresh) in any::<(u16, u16, bool, bool)>(),
        (mn_id, hnps, access, ll_id) in (of(mn_id()), hnps(), any::<Option<u8>>(), of(ll_id())),
        selectors in vec(selector().prop_map(SelectorOption::from), 0..4),
        others in others(),
    ) -> Fmi {
        Fmi {
            sequence,
            cancel,
            refresh,
            lifetime: FlowLifetime::from_seconds(lifetime),
            mn_id,
            hnps,
            access: access.map(AccessTechnology),
            ll_id,
            selectors,
            others,
        }
    }
}

prop_compose! {
    fn fma()(
        (sequence, status, lifetime) in any::<(u16, u8, u16)>(),
        (mn_id, hnps, others) in (of(mn_id()), hnps(), others()),
    ) -> Fma {
        Fma {
            sequence,
            status: FmaStatus(status),
            lifetime: FlowLifetime::from_seconds(lifetime),
            mn_id,
            hnps,
            others,
        }
    }
}

prop_compose! {
    fn heartbeat()(
        kind in prop_oneof![
            Just(HeartbeatKind::Request),
            Just(HeartbeatKind::Response),
            Just(HeartbeatKind::Unsolicited),
        ],
        (sequence, counter) in any::<(u32, Option<u32>)>(),
        others in others(),
    ) -> Heartbeat {
        Heartbeat { kind, sequence, restart_counter: counter.map(RestartCounter), others }
    }
}

prop_compose! {
    fn bri()(
        (trigger, sequence, flags) in any::<(u8, u16, u16)>(),
        (mn_id, hnps, others) in (of(mn_id()), hnps(), others()),
    ) -> Bri {
        Bri {
            trigger: RevocationTrigger(trigger),
            sequence,
            flags: RevocationFlags(flags),
            mn_id,
            hnps,
            others,
        }
    }
}

prop_compose! {
    fn bra()(
        (status, sequence, flags) in any::<(u8, u16, u16)>(),
        (mn_id, hnps, others) in (of(mn_id()), hnps(), others()),
    ) -> Bra {
        Bra {
            status: RevocationStatus(status),
            sequence,
            flags: RevocationFlags(flags),
            mn_id,
            hnps,
            others,
        }
    }
}

prop_compose! {
    fn upn()(
        (sequence, reason, acknowledge, retransmission) in any::<(u16, u16, bool, bool)>(),
        (mn_id, hnps, access, ll_id) in (of(mn_id()), hnps(), any::<Option<u8>>(), of(ll_id())),
        (flows, others) in (flows(), others()),
    ) -> Upn {
        Upn {
            sequence,
            reason: NotificationReason(reason),
            acknowledge,
            retransmission,
            mn_id,
            hnps,
            access: access.map(AccessTechnology),
            ll_id,
            flows,
            others,
        }
    }
}

prop_compose! {
    fn upa()(
        (sequence, status) in any::<(u16, u8)>(),
        (mn_id, hnps, flows, others) in (of(mn_id()), hnps(), flows(), others()),
    ) -> Upa {
        Upa { sequence, status: UpaStatus(status), mn_id, hnps, flows, others }
    }
}

fn mn_id() -> impl Strategy<Value = MnIdOption> {
    prop_oneof![
        6 => "[a-z0-9]{1,20}@[a-zé.]{1,20}".prop_map(|id| MnId::new(&id).unwrap().into()),
        1 => Just(MnIdOption::Empty),
        1 => (2..=u8::MAX, vec(any::<u8>(), 0..30)).prop_map(|(subtype, octets)| {
            MnIdOption::Other { subtype, octets: octets.into() }
        }),
        // A network access identifier that is not UTF-8.
        1 => vec(0x80..=0xbf_u8, 1..30).prop_map(|octets| MnIdOption::Other {
            subtype: 1,
            octets: octets.into(),
        }),
    ]
}

fn hnps() -> impl Strategy<Value = Vec<HnpOption>> {
    let prefix = (address(), 1..=128_u8).prop_map(|(a, len)| Hnp::new(a, len).unwrap());
    let any = (prefix, any::<bool>()).prop_map(|(prefix, off_link)| HnpOption { prefix, off_link });
    vec(prop_oneof![4 => any, 1 => Just(HnpOption::ALL_ZERO)], 0..4)
}

fn ll_id() -> impl Strategy<Value = MnLinkLayerId> {
    vec(any::<u8>(), 1..20).prop_filter_map("all zero", |octets| MnLinkLayerId::new(&octets))
}

fn bid() -> impl Strategy<Value = Bid> {
    (1..=u16::MAX).prop_map(|n| Bid::new(n).unwrap())
}

fn fid() -> impl Strategy<Value = Fid> {
    (1..=u16::MAX).prop_map(|n| Fid::new(n).unwrap())
}

prop_compose! {
    fn bid_option()(
        bid in bid(),
        (status, home) in any::<(u8, bool)>(),
        priority in 0..=127_u8,
        care_of: Option<IpAddr>,
    ) -> BidOption {
        let priority = BidPriority::new(priority).unwrap();
        BidOption { bid, status: BindingStatus(status), home, priority, care_of }
    }
}

prop_compose! {
    fn flow_identification()(
        fid in fid(),
        (priority, status) in (1..=u16::MAX, any::<u8>()),
        bindings in vec(bid(), 0..4),
        selector in of(selector()),
        others in vec(raw_option(4..=u8::MAX), 0..2),
    ) -> FlowIdentification {
        FlowIdentification {
            fid,
            priority: FidPriority::new(priority).unwrap(),
            status: FlowStatus(status),
            bindings,
            selector: selector.map(SelectorOption::from),
            others,
        }
    }
}

fn flows() -> impl Strategy<Value = Vec<FlowIdentification>> {
    vec(flow_identification(), 0..4)
}

fn flow_summary() -> impl Strategy<Value = FlowSummary> {
    vec(fid(), 0..=127).prop_map(FlowSummary)
}

fn raw_option(kinds: impl Strategy<Value = u8>) -> impl Strategy<Value = RawOption> {
    (kinds, vec(any::<u8>(), 0..20)).prop_map(|(kind, data)| RawOption::new(kind, &data).unwrap())
}

/// Options without a field in any message.
fn others() -> impl Strategy<Value = Vec<RawOption>> {
    let kinds = prop_oneof![Just(19_u8), 29..=34_u8, 36..=43_u8, 49..=u8::MAX];
    vec(raw_option(kinds), 0..4)
}

fn interval<T: Ord + Copy + std::fmt::Debug>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<Interval<T>>> {
    let value = std::rc::Rc::new(value);
    of(
        (value.clone(), value, any::<bool>()).prop_map(|(a, b, single)| {
            if single {
                Interval::single(a)
            } else {
                Interval::new(a.min(b), a.max(b)).unwrap()
            }
        }),
    )
}

fn fields<A: Ord + Copy + std::fmt::Debug>(
    address: impl Fn() -> BoxedStrategy<A>,
    label: BoxedStrategy<Option<Interval<u32>>>,
) -> impl Strategy<Value = Selector<A>> {
    (
        (interval(address()), interval(address())),
        (interval(any::<u32>()), label),
        (interval(any::<u16>()), interval(any::<u16>())),
        // The ECN bits mean nothing and are not kept.
        (
            interval((0..64_u8).prop_map(|ds| ds << 2)),
            interval(any::<u8>()),
        ),
    )
        .prop_map(
            |(addresses, (spi, flow_label), ports, (traffic_class, next_header))| Selector {
                source: addresses.0,
                destination: addresses.1,
                spi,
                flow_label,
                source_port: ports.0,
                destination_port: ports.1,
                traffic_class,
                next_header,
            },
        )
}

/// Any well-formed selector.
pub(crate) fn selector() -> impl Strategy<Value = TrafficSelector> {
    let ipv4 = || any::<u32>().prop_map(Ipv4Addr::from).boxed();
    let ipv6 = || address().boxed();
    prop_oneof![
        fields(ipv4, Just(None).boxed()).prop_map(TrafficSelector::Ipv4),
        fields(ipv6, interval(0..1_u32 << 20).boxed()).prop_map(TrafficSelector::from),
    ]
}
