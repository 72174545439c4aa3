//! A lab's capture, as tshark reads it.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::{Block, PcapNgReader};

use crate::common::has_tool;

/// The LMA's address.
pub(crate) const LMA: &str = "2001:db8:f::1";
/// The gateways' addresses.
const GATEWAYS: [(&str, &str); 2] = [("mag1", "2001:db8:a::1"), ("mag2", "2001:db8:b::1")];

/// Where the Mobility Header is: Ethernet, IPv6, and nothing else before it.
const MOBILITY_HEADER: usize = 14 + 40;
/// MH types that tshark does not look into: messages for experiments, update notifications and their
/// acknowledgements.
const OPAQUE: [u8; 3] = [11, 19, 20];
/// That of a Binding Update, whose options begin where those of the others do.
const BINDING_UPDATE: u8 = 5;

/// The address of a gateway.
pub(crate) fn address(name: &str) -> &'static str {
    GATEWAYS.iter().find(|(n, _)| *n == name).unwrap().1
}

/// One message, from tshark's fields.
#[derive(Debug)]
pub(crate) struct Signal {
    /// Number of its frame in the capture, from 1.
    pub(crate) frame: u64,
    /// Source and destination.
    pub(crate) source: String,
    pub(crate) destination: String,
    /// As the report calls it.
    pub(crate) kind: &'static str,
    pub(crate) sequence: u16,
    pub(crate) status: Option<u8>,
    /// The prefixes in it.
    pub(crate) prefixes: Vec<String>,
    /// What the report must say about it.
    pub(crate) content: Vec<String>,
}

impl Signal {
    /// The end that is not the LMA.
    pub(crate) fn gateway(&self) -> &str {
        if self.source == LMA {
            &self.destination
        } else {
            &self.source
        }
    }
}

/// A tunnelled UDP packet of flow X or Y.
#[derive(Debug)]
pub(crate) struct Tunnelled {
    pub(crate) frame: u64,
    pub(crate) flow: &'static str,
    pub(crate) direction: &'static str,
    pub(crate) gateway: &'static str,
}

/// What a capture holds.
#[derive(Debug)]
pub(crate) struct Capture {
    /// How many frames.
    pub(crate) frames: usize,
    pub(crate) tunnelled: Vec<Tunnelled>,
    /// One row for each Mobility Header, from the capture itself.
    plain: Vec<Vec<String>>,
    /// The same with every message that tshark does not know made to look like a Binding Update.
    disguised: Vec<Vec<String>>,
}

impl Capture {
    /// Reads a capture. Without tshark only the frames are counted, which the test then has said.
    pub(crate) fn read(path: &Path) -> Self {
        let frames = frames(path);
        let mut out = Self {
            frames: frames.len(),
            tunnelled: Vec::new(),
            plain: Vec::new(),
            disguised: Vec::new(),
        };
        if !has_tool("tshark") {
            return out;
        }
        out.tunnelled = tunnelled(path);
        out.plain = tshark(path, "mipv6", &PLAIN);
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("disguised.pcap");
        let mobility = |frame: &&Vec<u8>| frame[12..14] == [0x86, 0xdd] && frame[14 + 6] == 135;
        disguise(&copy, frames.iter().filter(mobility));
        out.disguised = tshark(&copy, "mipv6", &DISGUISED);
        out
    }

    /// The messages, in order.
    pub(crate) fn signalling(&self) -> Vec<Signal> {
        assert_eq!(self.plain.len(), self.disguised.len());
        let both = self.plain.iter().zip(&self.disguised);
        both.map(|(plain, disguised)| signal(plain, disguised))
            .collect()
    }
}

const PLAIN: [&str; 13] = [
    "frame.number",
    "ipv6.src",
    "ipv6.dst",
    "mip6.mhtype",
    "mip6.bu.seqnr",
    "mip6.bu.lifetime",
    "mip6.ba.seqnr",
    "mip6.ba.status",
    "mip6.em.data",
    "mip6.unknown_type_data",
    "mip6.hi",
    "mip6.att",
    "_ws.expert.message",
];
const DISGUISED: [&str; 4] = [
    "mip6.mnid.identifier",
    "mip6.nemo.mnp.mnp",
    "mip6.nemo.mnp.pfl",
    "_ws.malformed",
];

fn signal(plain: &[String], disguised: &[String]) -> Signal {
    let [
        frame,
        source,
        destination,
        mh_type,
        bu_sequence,
        bu_lifetime,
        ba_sequence,
        ba_status,
        experiment,
        notification,
        handoff,
        access,
        complaints,
    ] = plain
    else {
        panic!("{plain:?}");
    };
    let [mn_id, prefix, length, malformed] = disguised else {
        panic!("{disguised:?}");
    };
    assert_eq!(
        (complaints.as_str(), malformed.as_str()),
        ("", ""),
        "{plain:?}"
    );
    let prefixes = prefix.split(',').zip(length.split(','));
    let prefixes = prefixes.map(|(prefix, length)| match length {
        "0" => prefix.to_owned(),
        _ => format!("{prefix}/{length}"),
    });
    let prefixes: Vec<String> = prefixes.collect();
    let mut content = vec![mn_id.clone()];
    content.extend(prefixes.iter().cloned());
    let access = || match access.as_str() {
        "4" => "ATT wlan".to_owned(),
        "8" => "ATT eutran".to_owned(),
        other => panic!("access technology {other}"),
    };
    let seconds = |units: &str| 4 * units.parse::<u32>().unwrap();
    let (kind, sequence, status) = match mh_type.as_str() {
        "5" => {
            content.extend([format!("HI {handoff}"), access()]);
            content.push(format!("lifetime {} s", seconds(bu_lifetime)));
            ("PBU", bu_sequence.parse().unwrap(), None)
        }
        "6" => {
            content.extend([format!("status {ba_status}"), access()]);
            let status = ba_status.parse().unwrap();
            ("PBA", ba_sequence.parse().unwrap(), Some(status))
        }
        "11" => experimental(experiment, &mut content),
        "19" => notification_of(notification, &mut content),
        "20" => acknowledgement(notification, &mut content),
        other => panic!("MH type {other}"),
    };
    Signal {
        frame: frame.parse().unwrap(),
        source: source.clone(),
        destination: destination.clone(),
        kind,
        sequence,
        status,
        prefixes,
        content,
    }
}

/// The octets of a message that tshark shows as they are.
struct Octets<'a>(&'a str);

impl Octets<'_> {
    fn octet(&self, at: usize) -> u8 {
        u8::from_str_radix(&self.0[2 * at..2 * at + 2], 16).unwrap()
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.octet(at), self.octet(at + 1)])
    }

    /// Notes the L bit of a prefix, which tshark does not show.
    fn off_link(&self, content: &mut Vec<String>) {
        if self.0.contains("16128040") {
            content.push("(off-link)".to_owned());
        }
    }
}

/// An update notification (RFC 7077 §4.1): sequence number, reason, flags.
fn notification_of(hex: &str, content: &mut Vec<String>) -> (&'static str, u16, Option<u8>) {
    let octets = Octets(hex);
    octets.off_link(content);
    content.push("FLOW-MOBILITY".to_owned());
    // Reason FLOW-MOBILITY, an answer is wanted, not sent before.
    assert_eq!((octets.word(2), octets.word(4)), (8, 0x8000), "{hex}");
    ("UPN", octets.word(0), None)
}

/// Its acknowledgement (RFC 7077 §4.2): sequence number, status.
fn acknowledgement(hex: &str, content: &mut Vec<String>) -> (&'static str, u16, Option<u8>) {
    let octets = Octets(hex);
    octets.off_link(content);
    let status = octets.octet(2);
    content.push(format!("status {status}"));
    ("UPA", octets.word(0), Some(status))
}

/// Sequence number, flags or flags and status, and lifetime of an FMI or FMA: the octets that
/// tshark shows as they are.
fn experimental(hex: &str, content: &mut Vec<String>) -> (&'static str, u16, Option<u8>) {
    let octets = Octets(hex);
    let (sequence, lifetime) = (octets.word(0), octets.word(4));
    let (flags, status) = (octets.octet(2), octets.octet(3));
    octets.off_link(content);
    match (flags, lifetime) {
        (0x00, _) => {
            content.push(format!("status {status}"));
            ("FMA", sequence, Some(status))
        }
        (0x80, 0xffff) => {
            content.push("lifetime infinite".to_owned());
            ("FMI(add)", sequence, None)
        }
        (0xc0, 0) => ("FMI(del)", sequence, None),
        other => panic!("flags and lifetime {other:x?}"),
    }
}

fn tunnelled(path: &Path) -> Vec<Tunnelled> {
    let fields = [
        "frame.number",
        "ipv6.src",
        "ipv6.dst",
        "udp.srcport",
        "udp.dstport",
    ];
    let rows = tshark(path, "ipv6.nxt == 41 && udp && !icmpv6", &fields);
    rows.iter()
        .map(|row| {
            let outer = |addresses: &str| addresses.split(',').next().unwrap().to_owned();
            let (source, destination) = (outer(&row[1]), outer(&row[2]));
            let (direction, gateway, port) = if source == LMA {
                ("downlink", destination, &row[4])
            } else {
                assert_eq!(destination, LMA, "{row:?}");
                ("uplink", source, &row[3])
            };
            let gateway = GATEWAYS.iter().find(|(_, address)| *address == gateway);
            let flow = match port.as_str() {
                "5001" => "X",
                "5002" => "Y",
                _ => panic!("a packet of no flow: {row:?}"),
            };
            Tunnelled {
                frame: row[0].parse().unwrap(),
                flow,
                direction,
                gateway: gateway.unwrap_or_else(|| panic!("{row:?}")).0,
            }
        })
        .collect()
}

fn frames(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapNgReader::new(BufReader::new(File::open(path).unwrap())).unwrap();
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap() {
            frames.push(packet.data.into_owned());
        }
    }
    frames
}

fn disguise<'a>(path: &Path, frames: impl Iterator<Item = &'a Vec<u8>>) {
    let header = PcapHeader {
        datalink: DataLink::ETHERNET,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(File::create(path).unwrap(), header).unwrap();
    for frame in frames {
        assert_checksum(frame);
        let mut frame = frame.clone();
        let mh_type = &mut frame[MOBILITY_HEADER + 2];
        if OPAQUE.contains(mh_type) {
            *mh_type = BINDING_UPDATE;
        }
        let len = u32::try_from(frame.len()).unwrap();
        let packet = PcapPacket::new(Duration::ZERO, len, &frame);
        writer.write_packet(&packet).unwrap();
    }
}

/// tshark does not verify the checksum (RFC 6275 §6.1.1): ones' complement over addresses, length,
/// next header and message comes to all ones.
fn assert_checksum(frame: &[u8]) {
    let message = &frame[MOBILITY_HEADER..];
    let len = (usize::from(message[1]) + 1) * 8;
    let pseudo = [
        &frame[22..54],
        &u32::try_from(len).unwrap().to_be_bytes(),
        &[0, 0, 0, 135],
    ];
    let octets = [&pseudo.concat(), &message[..len]].concat();
    let words = octets
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum: u32 = words.sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{message:02x?}");
}

/// The fields of all packets that a filter lets through.
fn tshark(path: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(path)
        .args(["-Y", filter, "-T", "fields", "-E", "occurrence=a"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark: {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> = text.lines().map(row).collect();
    assert!(rows.iter().all(|row| row.len() == fields.len()), "{text}");
    rows
}
