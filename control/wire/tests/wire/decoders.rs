//! Other people's decoders read our messages: tshark the fields, scapy the checksum.
//!
//! Neither is needed to build or use the crate. Where one is missing its test says so and passes,
//! unless `FLOWMOB_REQUIRE_TOOLS=1` is set.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};

use flow::{AccessTechnology, MnId, MnLinkLayerId};
use pmip_wire::{
    BidOption, HeartbeatKind, HnpOption, LoadInformation, Message, MnIdOption, Redirect, Timestamp,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::vectors::vectors;
use crate::{addr, digits, fix_checksum, generate};

/// The one time that generated messages carry too, and how tshark prints it.
const TIME: (Timestamp, &str) = (
    Timestamp(0x0000_6553_f100_8000),
    "Nov 14, 2023 22:13:20.500000000 UTC",
);

/// What tshark is asked for; a packet without a field has an empty text.
const FIELDS: &[&str] = &[
    "mip6.proto",
    "mip6.hlen",
    "mip6.mhtype",
    "mip6.bu.seqnr",
    "mip6.bu.lifetime",
    "mip6.bu.a_flag",
    "mip6.bu.h_flag",
    "mip6.bu.l_flag",
    "mip6.bu.p_flag",
    "mip6.bu.f_flag",
    "mip6.ba.status",
    "mip6.ba.seqnr",
    "mip6.ba.lifetime",
    "mip6.ba.p_flag",
    "mip6.be.status",
    "mip6.be.haddr",
    "mip6.hb.u_flag",
    "mip6.hb.r_flag",
    "mip6.hb.seqnr",
    "mip6.rc",
    "mip6.bri_br.type",
    "mip6.bri_r.trigger",
    "mip6.bri_status",
    "mip6.bri_seqnr",
    "mip6.bri_ip",
    "mip6.bri_ap",
    "mip6.mnid.subtype",
    "mip6.mnid.identifier",
    "mip6.nemo.mnp.pfl",
    "mip6.nemo.mnp.mnp",
    "mip6.hi",
    "mip6.att",
    "mip6.mnlli.lli",
    "mip6.lila_lla",
    "mip6.timestamp_tmp",
    "mip6.acoa.acoa",
    "mip6.bi.bid",
    "mip6.bi.status",
    "mip6.bi.h_flag",
    "mip6.bi.coa_ipv4",
    "mip6.bi.coa_ipv6",
    "mip6.recap.reserved",
    "mip6.redir.k",
    "mip6.redir.n",
    "mip6.redir.addr_r2lma_ipv6",
    "mip6.redir.addr_r2lma_ipv4",
    "mip6.load_inf.priority",
    "mip6.load_inf.sessions_in_use",
    "mip6.load_inf.maximum_sessions",
    "mip6.load_inf.used_capacity",
    "mip6.load_inf.maximum_capacity",
    "_ws.malformed",
    COMPLAINTS,
];

/// Where tshark says what it thinks of a packet.
const COMPLAINTS: &str = "_ws.expert.message";
/// What it thinks of the flow options of RFC 6089.
const NOT_DISSECTED: &str = "IE data not dissected yet";

/// A message on its way, as octets and as what it means.
struct Sample {
    name: String,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    octets: Vec<u8>,
    message: Message,
}

/// The known messages, and some more.
fn samples() -> Vec<Sample> {
    let mut samples: Vec<Sample> = vectors()
        .into_iter()
        .map(|vector| Sample {
            name: vector.name.to_owned(),
            source: vector.source,
            destination: vector.destination,
            octets: vector.octets,
            message: vector.message,
        })
        .collect();
    let mut runner = TestRunner::deterministic();
    let messages = generate::message();
    samples.extend((0..200).map(|number| {
        let mut message = messages.new_tree(&mut runner).unwrap().current();
        tame(&mut message);
        let (source, destination) = (addr("2001:db8:f::1"), addr("2001:db8:a::1"));
        Sample {
            name: format!("generated {number}: {message:?}"),
            source,
            destination,
            octets: message.encode(source, destination).unwrap(),
            message,
        }
    }));
    samples
}

/// Leaves out what tshark cannot read or prints in its own way: options by number only,
/// identifiers that are not ASCII, far times.
fn tame(message: &mut Message) {
    let (mn_id, others) = match message {
        Message::Pbu(m) => {
            m.timestamp = m.timestamp.map(|_| TIME.0);
            (Some(&mut m.mn_id), &mut m.others)
        }
        Message::Pba(m) => {
            m.timestamp = m.timestamp.map(|_| TIME.0);
            (Some(&mut m.mn_id), &mut m.others)
        }
        Message::BindingError(m) => (None, &mut m.others),
        Message::Fmi(m) => (Some(&mut m.mn_id), &mut m.others),
        Message::Fma(m) => (Some(&mut m.mn_id), &mut m.others),
        Message::Heartbeat(m) => (None, &mut m.others),
        Message::Bri(m) => (Some(&mut m.mn_id), &mut m.others),
        Message::Bra(m) => (Some(&mut m.mn_id), &mut m.others),
        Message::Upn(m) => (Some(&mut m.mn_id), &mut m.others),
        Message::Upa(m) => (Some(&mut m.mn_id), &mut m.others),
    };
    others.clear();
    if let Some(Some(id)) = mn_id
        && !id.nai().is_some_and(|id| id.as_str().is_ascii())
    {
        *id = MnId::new("someone@example.org").unwrap().into();
    }
}

/// What tshark should find, by field; the rest should be empty.
#[derive(Default)]
struct Expected(BTreeMap<&'static str, String>);

impl Expected {
    fn set<T: ToString + ?Sized>(&mut self, field: &'static str, value: &T) -> &mut Self {
        self.0.insert(field, value.to_string());
        self
    }

    fn flag(&mut self, field: &'static str, value: bool) -> &mut Self {
        self.set(field, &u8::from(value))
    }

    /// All values of a field that can be there several times.
    fn list<T: ToString>(
        &mut self,
        field: &'static str,
        values: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        let values: Vec<_> = values.into_iter().map(|v| v.to_string()).collect();
        self.set(field, &values.join(","))
    }

    /// The options that many messages have.
    fn session(&mut self, mn_id: Option<&MnIdOption>, hnps: &[HnpOption]) -> &mut Self {
        if let Some(id) = mn_id {
            self.set("mip6.mnid.subtype", &1);
            self.set("mip6.mnid.identifier", id);
        }
        self.list("mip6.nemo.mnp.pfl", hnps.iter().map(|h| h.prefix.len()));
        self.list("mip6.nemo.mnp.mnp", hnps.iter().map(|h| h.prefix.addr()))
    }

    fn attachment(
        &mut self,
        access: Option<AccessTechnology>,
        ll_id: Option<&MnLinkLayerId>,
    ) -> &mut Self {
        self.list("mip6.att", access.map(|a| a.0));
        let hex = |id: &MnLinkLayerId| id.to_string().replace(':', "");
        self.list("mip6.mnlli.lli", ll_id.map(hex))
    }

    fn bids(&mut self, bids: &[BidOption]) -> &mut Self {
        let addresses = || bids.iter().filter_map(|b| b.care_of);
        self.list("mip6.bi.bid", bids.iter().map(|b| b.bid));
        self.list("mip6.bi.status", bids.iter().map(|b| b.status.0));
        self.list("mip6.bi.h_flag", bids.iter().map(|b| u8::from(b.home)));
        self.list("mip6.bi.coa_ipv4", addresses().filter(IpAddr::is_ipv4));
        self.list("mip6.bi.coa_ipv6", addresses().filter(IpAddr::is_ipv6))
    }

    fn redirect(&mut self, redirect: Option<Redirect>) -> &mut Self {
        let to = || redirect.map(|redirect| redirect.0);
        self.list("mip6.redir.k", to().map(|to| u8::from(to.is_ipv6())));
        self.list("mip6.redir.n", to().map(|to| u8::from(to.is_ipv4())));
        self.list("mip6.redir.addr_r2lma_ipv6", to().filter(IpAddr::is_ipv6));
        self.list("mip6.redir.addr_r2lma_ipv4", to().filter(IpAddr::is_ipv4))
    }

    fn load(&mut self, load: Option<LoadInformation>) -> &mut Self {
        self.list("mip6.load_inf.priority", load.map(|l| l.priority));
        self.list("mip6.load_inf.sessions_in_use", load.map(|l| l.sessions));
        self.list(
            "mip6.load_inf.maximum_sessions",
            load.map(|l| l.max_sessions),
        );
        self.list("mip6.load_inf.used_capacity", load.map(|l| l.capacity));
        self.list(
            "mip6.load_inf.maximum_capacity",
            load.map(|l| l.max_capacity),
        )
    }

    /// The fixed part of a message that tshark takes for a Binding Update.
    fn as_binding_update(&mut self, sequence: u16, flags: u16, lifetime: u16) -> &mut Self {
        self.set("mip6.bu.seqnr", &sequence);
        self.set("mip6.bu.lifetime", &lifetime);
        self.flag("mip6.bu.a_flag", flags & 0x8000 != 0);
        self.flag("mip6.bu.h_flag", flags & 0x4000 != 0);
        self.flag("mip6.bu.l_flag", flags & 0x2000 != 0);
        self.flag("mip6.bu.p_flag", flags & 0x0200 != 0);
        self.flag("mip6.bu.f_flag", flags & 0x0100 != 0)
    }
}

fn expected(sample: &Sample) -> Expected {
    let mut e = Expected::default();
    e.set("mip6.proto", &59);
    e.set("mip6.hlen", &(sample.octets.len() / 8 - 1));
    e.set("mip6.mhtype", &shown_type(&sample.message));
    match &sample.message {
        Message::Pbu(m) => e
            .as_binding_update(m.sequence, m.flags.0, m.lifetime.units())
            .session(m.mn_id.as_ref(), &m.hnps)
            .attachment(m.access, m.ll_id.as_ref())
            .list("mip6.hi", m.handoff)
            .list("mip6.lila_lla", m.link_local)
            .list("mip6.timestamp_tmp", m.timestamp.map(|_| TIME.1))
            .list("mip6.acoa.acoa", m.alt_coa)
            .list(
                "mip6.recap.reserved",
                m.redirect_capability.then_some("0x0000"),
            )
            .bids(&m.bids),
        Message::Pba(m) => e
            .set("mip6.ba.status", &m.status.0)
            .set("mip6.ba.seqnr", &m.sequence)
            .set("mip6.ba.lifetime", &m.lifetime.units())
            .flag("mip6.ba.p_flag", m.is_proxy())
            .session(m.mn_id.as_ref(), &m.hnps)
            .attachment(m.access, m.ll_id.as_ref())
            .list("mip6.hi", m.handoff)
            .list("mip6.lila_lla", m.link_local)
            .list("mip6.timestamp_tmp", m.timestamp.map(|_| TIME.1))
            .redirect(m.redirect)
            .load(m.load)
            .bids(&m.bids),
        Message::BindingError(m) => e
            .set("mip6.be.status", &m.status.0)
            .set("mip6.be.haddr", &m.home_address),
        Message::Fmi(m) => {
            let flags = 0x8000 | u16::from(m.cancel) << 14 | u16::from(m.refresh) << 13;
            e.as_binding_update(m.sequence, flags, m.lifetime.seconds())
                .session(m.mn_id.as_ref(), &m.hnps)
                .attachment(m.access, m.ll_id.as_ref())
        }
        Message::Fma(m) => e
            .as_binding_update(m.sequence, m.status.0.into(), m.lifetime.seconds())
            .session(m.mn_id.as_ref(), &m.hnps),
        Message::Heartbeat(m) => e
            .set("mip6.hb.seqnr", &m.sequence)
            .flag("mip6.hb.r_flag", m.kind != HeartbeatKind::Request)
            .flag("mip6.hb.u_flag", m.kind == HeartbeatKind::Unsolicited)
            .list("mip6.rc", m.restart_counter.map(|c| c.0)),
        Message::Bri(m) => e
            .set("mip6.bri_br.type", &1)
            .set("mip6.bri_r.trigger", &m.trigger.0)
            .set("mip6.bri_seqnr", &m.sequence)
            .flag("mip6.bri_ip", m.flags.0 & 0x8000 != 0)
            .session(m.mn_id.as_ref(), &m.hnps),
        Message::Bra(m) => e
            .set("mip6.bri_br.type", &2)
            .set("mip6.bri_status", &m.status.0)
            .set("mip6.bri_seqnr", &m.sequence)
            .flag("mip6.bri_ap", m.flags.0 & 0x8000 != 0)
            .session(m.mn_id.as_ref(), &m.hnps),
        Message::Upn(m) => {
            let bits = u16::from(m.acknowledge) << 15 | u16::from(m.retransmission) << 14;
            e.as_binding_update(m.sequence, m.reason.0, bits)
                .session(m.mn_id.as_ref(), &m.hnps)
                .attachment(m.access, m.ll_id.as_ref())
        }
        Message::Upa(m) => e
            .as_binding_update(m.sequence, u16::from(m.status.0) << 8, 0)
            .session(m.mn_id.as_ref(), &m.hnps),
    };
    e
}

/// tshark does not look into these messages, but their options start where those of a Binding
/// Update do: shown as one, they are read.
fn shown_type(message: &Message) -> u8 {
    match message {
        Message::Fmi(_) | Message::Fma(_) | Message::Upn(_) | Message::Upa(_) => 5,
        Message::Pbu(_)
        | Message::Pba(_)
        | Message::BindingError(_)
        | Message::Heartbeat(_)
        | Message::Bri(_)
        | Message::Bra(_) => message.mh_type(),
    }
}

#[test]
fn tshark_finds_the_same_fields() {
    if Command::new("tshark")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        return tool_is_missing("tshark");
    }
    let samples = samples();
    let packets = samples.iter().map(|sample| {
        let mut mh = sample.octets.clone();
        mh[2] = shown_type(&sample.message);
        fix_checksum(&mut mh, sample.source, sample.destination);
        ipv6_packet(&mh, sample.source, sample.destination)
    });
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("decoders.pcap");
    std::fs::write(&file, pcap(packets)).unwrap();
    let run = Command::new("tshark")
        .arg("-n")
        .arg("-r")
        .arg(&file)
        .args(["-T", "fields", "-E", "separator=|", "-E", "aggregator=,"])
        .args(FIELDS.iter().flat_map(|field| ["-e", field]))
        .env("TZ", "UTC")
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let output = String::from_utf8(run.stdout).unwrap();
    assert_eq!(output.lines().count(), samples.len());
    for (sample, line) in samples.iter().zip(output.lines()) {
        let expected = expected(sample).0;
        let values: Vec<_> = line.split('|').collect();
        assert_eq!(values.len(), FIELDS.len());
        for (field, value) in FIELDS.iter().zip(values) {
            if *field == COMPLAINTS {
                let fine = |text: &str| ["", NOT_DISSECTED].contains(&text);
                assert!(value.split(',').all(fine), "{value}: {}", sample.name);
                continue;
            }
            let ours = expected.get(field).map_or("", String::as_str);
            assert_eq!(value, ours, "{field} of {}", sample.name);
        }
        assert!(expected.keys().all(|field| FIELDS.contains(field)));
    }
}

/// Takes lines of source, destination and Mobility Header; prints for each the checksum, and the
/// Mobility Header that scapy builds from the fields that it parsed.
const SCAPY: &str = "
import sys
from scapy.layers.inet6 import IPv6, in6_chksum
for line in sys.stdin:
    source, destination, mh = line.split()
    mh = bytes.fromhex(mh)
    outer = IPv6(src=source, dst=destination, nh=135, plen=len(mh))
    checksum = in6_chksum(135, outer, mh[:4] + bytes(2) + mh[6:])
    parsed = IPv6(bytes(outer) + mh)
    del parsed.payload.cksum
    print(checksum, bytes(parsed)[40:].hex())
";

#[test]
fn scapy_computes_the_same_checksum() {
    let has_scapy = |python: &&str| {
        let run = Command::new(python)
            .args(["-c", "import scapy.layers.inet6"])
            .stderr(Stdio::null())
            .status();
        run.is_ok_and(|status| status.success())
    };
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_scapy) else {
        return tool_is_missing("scapy");
    };
    let samples = samples();
    let mut child = Command::new(python)
        .args(["-c", SCAPY])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let line = |s: &Sample| {
        let mh = digits(&s.octets);
        format!("{} {} {mh}\n", s.source, s.destination)
    };
    let lines = samples.iter().map(line).collect::<Vec<_>>().concat();
    // Its output can fill the pipe before it has read all of its input.
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let run = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(run.status.success());
    let output = String::from_utf8(run.stdout).unwrap();
    assert_eq!(output.lines().count(), samples.len());
    let known = vectors().len();
    for (i, (sample, line)) in samples.iter().zip(output.lines()).enumerate() {
        let (checksum, rebuilt) = line.split_once(' ').unwrap();
        let ours = u16::from_be_bytes([sample.octets[4], sample.octets[5]]);
        assert_eq!(checksum, ours.to_string(), "{}", sample.name);
        // Rebuilding is a test of our octets only where scapy keeps all it parsed.
        if i < known {
            assert_eq!(crate::unhex(rebuilt), sample.octets, "{}", sample.name);
        }
    }
}

/// Says why a test did nothing, or fails it where tools are required.
fn tool_is_missing(tool: &str) {
    let required = std::env::var_os("FLOWMOB_REQUIRE_TOOLS").is_some_and(|v| v == "1");
    assert!(
        !required,
        "{tool} is not installed, and FLOWMOB_REQUIRE_TOOLS=1"
    );
    eprintln!("skipped: {tool} is not installed");
}

/// A Mobility Header behind an IPv6 header (RFC 8200 §3).
fn ipv6_packet(mh: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let length = u16::try_from(mh.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], 135, 64];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(mh);
    packet
}

/// A capture file of packets that begin with their IP header.
fn pcap(packets: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    const LINKTYPE_RAW: u32 = 101;
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_be_bytes());
    file.extend([0, 2, 0, 4]); // version 2.4
    file.extend([0; 8]); // time zone and accuracy, unused
    file.extend(65_535_u32.to_be_bytes());
    file.extend(LINKTYPE_RAW.to_be_bytes());
    for packet in packets {
        let length = u32::try_from(packet.len()).unwrap().to_be_bytes();
        file.extend([0; 8]); // time of capture
        file.extend(length);
        file.extend(length);
        file.extend(packet);
    }
    file
}
