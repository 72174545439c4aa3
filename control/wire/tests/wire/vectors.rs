//! Known messages, octet for octet in both directions. All lengths and checksums were worked out
//! apart from this crate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flow::{
    AccessTechnology, Fid, FidPriority, HandoffIndicator, Hnp, Interval, MacAddr, MnId, Selector,
    TrafficSelector,
};
use pmip_wire::{
    BindingError, BindingLifetime, BindingStatus, Bra, Bri, FlowIdentification, FlowLifetime,
    FlowStatus, Fma, FmaStatus, Fmi, Heartbeat, HeartbeatKind, HnpOption, LoadInformation, Message,
    MnIdOption, NotificationReason, Pba, PbaFlags, Pbu, PbuFlags, Redirect, RestartCounter,
    RevocationFlags, RevocationStatus, RevocationTrigger, Timestamp, Upa, UpaStatus, Upn,
};

use crate::{addr, hex, unhex};

/// A message and its octets.
pub(crate) struct Vector {
    pub(crate) name: &'static str,
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) octets: Vec<u8>,
    pub(crate) message: Message,
}

const LMA: &str = "2001:db8:f::1";
const MAG1: &str = "2001:db8:a::1";
const MAG2: &str = "2001:db8:b::1";

const PBU: &str = "
    3b0d0500c02712348200004b0810016d6e31406578616d706c652e6e6574010400000000161200000000000000000000
    0000000000000000170200011802000419080000020000000101010200001a1000000000000000000000000000000000
    01001b0800006553f100800001020000";
const PBA: &str = "
    3b0d0600637900201234004b0810016d6e31406578616d706c652e6e65740104000000001612004020010db800010000
    0000000000000000170200011802000419080000020000000101010200001a10fe8000000000000002005efffe005213
    01001b0800006553f100800001020000";
const PBU_REDIRECTABLE: &str = "
    3b080500bbc912358200004b0810016d6e31406578616d706c652e6e6574010400000000161200000000000000000000
    000000000000000017020001180200042e02000001020000";
const PBA_REDIRECT: &str = "
    3b0c0600085000201235004b0810016d6e31406578616d706c652e6e65740104000000001612004020010db800010000
    000000000000000017020001180200042f12800020010db8000f0000000000000000000230120005000003e800100000
    00011170001312d0";
const PBA_REDIRECT_IPV4: &str = "
    3b0806000ca600201235004b0810016d6e31406578616d706c652e6e65740104000000001612004020010db800010000
    000000000000000017020001180200042f064000c0000207";
const UPN_FMI: &str = "
    3b06130071ee0077000880000810016d6e31406578616d706c652e6e65740104000000001612804020010db800020000
    0000000000000000";
const UPN_FMI_AGAIN: &str = "
    3b06130031ee00770008c0000810016d6e31406578616d706c652e6e65740104000000001612804020010db800020000
    0000000000000000";
const UPA_FMA: &str = "
    3b061400f0f60077000000000810016d6e31406578616d706c652e6e65740104000000001612804020010db800020000
    0000000000000000";
const UPA_FMA_REFUSED: &str = "3b03140031230077840000000810016d6e31406578616d706c652e6e65740100";
const UPN_FMI_FLOW: &str = "
    3b0d13001b120078000880000810016d6e31406578616d706c652e6e65740104000000001612804020010db800020000
    00000000000000002d310003000a000003290200a022000020010db8000c0000000000000000000520010db800020000
    0000000000000100138c110103000000";
const DRAFT_FMI_ADD: &str = "
    3b0c0b0040d901008000ffff0810016d6e31406578616d706c652e6e65740104000000001612804020010db800020000
    000000000000000012290200a022000020010db8000c0000000000000000000520010db8000200000000000000000100
    138c110103000000";
const DRAFT_FMA: &str = "
    3b060b00f96d01000000ffff0810016d6e31406578616d706c652e6e65740104000000001612804020010db800020000
    0000000000000000";
const DRAFT_FMI_DELETE: &str = "
    3b0c0b0080d70101c00000000810016d6e31406578616d706c652e6e65740104000000001612004020010db800020000
    000000000000000012290200a022000020010db8000c0000000000000000000520010db8000200000000000000000100
    138c110103000000";
const HEARTBEAT_REQUEST: &str = "3b010d005ad100000000000701020000";
const HEARTBEAT_RESPONSE: &str = "3b020d003dc000010000000701001c040000000301020000";
const BRI: &str = "
    3b061000f4180101005580000810016d6e31406578616d706c652e6e65740104000000001612004020010db800010000
    0000000000000000";
const BRA: &str = "3b011000d58202000055800001020000";
const BINDING_ERROR: &str = "3b0207005fd1020000000000000000000000000000000000";

/// All known messages.
pub(crate) fn vectors() -> Vec<Vector> {
    let from = |source: &str, destination: &str, name, octets: &str, message: Message| Vector {
        name,
        source: addr(source),
        destination: addr(destination),
        octets: unhex(octets),
        message,
    };
    vec![
        from(MAG1, LMA, "PBU, RFC 5213 §8.1", PBU, pbu().into()),
        from(LMA, MAG1, "PBA, RFC 5213 §8.2", PBA, pba().into()),
        from(
            MAG1,
            LMA,
            "PBU, RFC 6463 §4.1",
            PBU_REDIRECTABLE,
            redirectable().into(),
        ),
        from(
            LMA,
            MAG1,
            "PBA, RFC 6463 §4.2 and §4.3",
            PBA_REDIRECT,
            redirected(addr("2001:db8:f::2").into(), Some(load())).into(),
        ),
        from(
            LMA,
            MAG1,
            "PBA, RFC 6463 §4.2 with IPv4",
            PBA_REDIRECT_IPV4,
            redirected(Ipv4Addr::new(192, 0, 2, 7).into(), None).into(),
        ),
        from(LMA, MAG1, "UPN, RFC 7864 §4.2", UPN_FMI, upn(false).into()),
        from(
            LMA,
            MAG1,
            "UPN again, RFC 7077 §5.2",
            UPN_FMI_AGAIN,
            upn(true).into(),
        ),
        from(
            MAG1,
            LMA,
            "UPA, RFC 7864 §4.3",
            UPA_FMA,
            upa(UpaStatus::SUCCESS).into(),
        ),
        from(
            MAG1,
            LMA,
            "UPA, refused",
            UPA_FMA_REFUSED,
            upa(UpaStatus::NOT_ATTACHED).into(),
        ),
        from(
            LMA,
            MAG1,
            "UPN with a flow, RFC 7864 §3.4",
            UPN_FMI_FLOW,
            upn_flow().into(),
        ),
        from(LMA, MAG1, "FMI add, draft", DRAFT_FMI_ADD, fmi(true).into()),
        from(MAG1, LMA, "FMA, draft", DRAFT_FMA, fma().into()),
        from(
            LMA,
            MAG2,
            "FMI del, draft",
            DRAFT_FMI_DELETE,
            fmi(false).into(),
        ),
        from(
            MAG1,
            LMA,
            "Heartbeat, RFC 5847 §3.3",
            HEARTBEAT_REQUEST,
            heartbeat(None).into(),
        ),
        from(
            LMA,
            MAG1,
            "Heartbeat answer",
            HEARTBEAT_RESPONSE,
            heartbeat(Some(3)).into(),
        ),
        from(LMA, MAG1, "BRI, RFC 5846 §5.1", BRI, bri().into()),
        from(MAG1, LMA, "BRA, RFC 5846 §5.2", BRA, bra().into()),
        from(
            MAG1,
            LMA,
            "BE, RFC 6275 §6.1.9",
            BINDING_ERROR,
            BindingError::unrecognized().into(),
        ),
    ]
}

fn mn_id() -> MnIdOption {
    MnId::new("mn1@example.net").unwrap().into()
}

fn prefix(text: &str) -> Hnp {
    Hnp::new(addr(text), 64).unwrap()
}

fn pbu() -> Pbu {
    Pbu {
        sequence: 0x1234,
        flags: PbuFlags::REQUEST,
        lifetime: BindingLifetime::from_units(75),
        mn_id: Some(mn_id()),
        hnps: vec![HnpOption::ALL_ZERO],
        handoff: Some(HandoffIndicator::NEW_INTERFACE),
        access: Some(AccessTechnology(4)),
        ll_id: Some(MacAddr([2, 0, 0, 0, 1, 1]).into()),
        link_local: Some(Ipv6Addr::UNSPECIFIED),
        timestamp: Some(Timestamp(0x0000_6553_f100_8000)),
        ..Pbu::default()
    }
}

fn pba() -> Pba {
    Pba {
        status: BindingStatus::ACCEPTED,
        flags: PbaFlags::PROXY,
        sequence: 0x1234,
        lifetime: BindingLifetime::from_units(75),
        mn_id: Some(mn_id()),
        hnps: vec![HnpOption::on_link(prefix("2001:db8:1::"))],
        handoff: Some(HandoffIndicator::NEW_INTERFACE),
        access: Some(AccessTechnology(4)),
        ll_id: Some(MacAddr([2, 0, 0, 0, 1, 1]).into()),
        link_local: Some(addr("fe80::200:5eff:fe00:5213")),
        timestamp: Some(Timestamp(0x0000_6553_f100_8000)),
        ..Pba::default()
    }
}

fn redirectable() -> Pbu {
    Pbu {
        sequence: 0x1235,
        ll_id: None,
        link_local: None,
        timestamp: None,
        redirect_capability: true,
        ..pbu()
    }
}

fn redirected(to: IpAddr, load: Option<LoadInformation>) -> Pba {
    Pba {
        sequence: 0x1235,
        ll_id: None,
        link_local: None,
        timestamp: None,
        redirect: Some(Redirect(to)),
        load,
        ..pba()
    }
}

fn load() -> LoadInformation {
    LoadInformation {
        priority: 5,
        sessions: 1000,
        max_sessions: 0x10_0000,
        capacity: 70_000,
        max_capacity: 1_250_000,
    }
}

fn upn(retransmission: bool) -> Upn {
    Upn {
        sequence: 0x77,
        reason: NotificationReason::FLOW_MOBILITY,
        acknowledge: true,
        retransmission,
        mn_id: Some(mn_id()),
        hnps: vec![HnpOption::off_link(prefix("2001:db8:2::"))],
        ..Upn::default()
    }
}

fn upn_flow() -> Upn {
    Upn {
        sequence: 0x78,
        flows: vec![FlowIdentification {
            fid: Fid::new(3).unwrap(),
            priority: FidPriority::new(10).unwrap(),
            status: FlowStatus::SUCCESS,
            bindings: Vec::new(),
            selector: Some(flow_y().into()),
            others: Vec::new(),
        }],
        ..upn(false)
    }
}

fn upa(status: UpaStatus) -> Upa {
    let hnps = vec![HnpOption::off_link(prefix("2001:db8:2::"))];
    Upa {
        sequence: 0x77,
        status,
        mn_id: Some(mn_id()),
        hnps: if status.is_success() {
            hnps
        } else {
            Vec::new()
        },
        ..Upa::default()
    }
}

fn flow_y() -> TrafficSelector {
    TrafficSelector::from(Selector {
        source: Some(Interval::single(addr("2001:db8:c::5"))),
        destination: Some(Interval::single(addr("2001:db8:2::100"))),
        destination_port: Some(Interval::single(5004)),
        next_header: Some(Interval::single(17)),
        ..Selector::default()
    })
}

fn fmi(add: bool) -> Fmi {
    Fmi {
        sequence: if add { 0x100 } else { 0x101 },
        cancel: !add,
        refresh: false,
        lifetime: if add {
            FlowLifetime::INFINITE
        } else {
            FlowLifetime::ZERO
        },
        mn_id: Some(mn_id()),
        hnps: vec![HnpOption {
            prefix: prefix("2001:db8:2::"),
            off_link: add,
        }],
        selectors: vec![flow_y().into()],
        ..Fmi::default()
    }
}

fn fma() -> Fma {
    Fma {
        sequence: 0x100,
        status: FmaStatus::SUCCESS,
        lifetime: FlowLifetime::INFINITE,
        mn_id: Some(mn_id()),
        hnps: vec![HnpOption::off_link(prefix("2001:db8:2::"))],
        others: Vec::new(),
    }
}

fn heartbeat(answer: Option<u32>) -> Heartbeat {
    Heartbeat {
        kind: match answer {
            None => HeartbeatKind::Request,
            Some(_) => HeartbeatKind::Response,
        },
        sequence: 7,
        restart_counter: answer.map(RestartCounter),
        others: Vec::new(),
    }
}

fn bri() -> Bri {
    Bri {
        trigger: RevocationTrigger::ADMINISTRATIVE,
        sequence: 0x55,
        flags: RevocationFlags::PROXY,
        mn_id: Some(mn_id()),
        hnps: vec![HnpOption::on_link(prefix("2001:db8:1::"))],
        others: Vec::new(),
    }
}

fn bra() -> Bra {
    Bra {
        status: RevocationStatus::SUCCESS,
        sequence: 0x55,
        flags: RevocationFlags::PROXY,
        ..Bra::default()
    }
}

#[test]
fn known_messages_are_written_octet_for_octet() {
    for vector in vectors() {
        let written = vector
            .message
            .encode(vector.source, vector.destination)
            .unwrap();
        assert_eq!(hex(&written), hex(&vector.octets), "{}", vector.name);
    }
}

#[test]
fn known_messages_are_read() {
    for vector in vectors() {
        let read = Message::decode(&vector.octets, vector.source, vector.destination);
        assert_eq!(read, Ok(vector.message), "{}", vector.name);
    }
}

#[test]
fn what_follows_a_message_is_no_part_of_it() {
    for mut vector in vectors() {
        vector.octets.extend([0xff; 9]);
        let read = Message::decode(&vector.octets, vector.source, vector.destination);
        assert_eq!(read, Ok(vector.message), "{}", vector.name);
    }
}
