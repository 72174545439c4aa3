//! An LMA and a MAG that need neither rights nor a network.

use std::fs::File;
use std::net::Ipv6Addr;
use std::time::Duration;

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv6Header};
use flow::{AccessTechnology, HandoffIndicator, MnId, MnLinkLayerId};
use pcap_file::pcap::{PcapPacket, PcapWriter};
use pmip_wire::{BindingLifetime, HnpOption, Message, Pbu, PbuFlags};
use tempfile::TempDir;

use super::process::Appliance;
use super::wait_for;

pub const LMAA: &str = "2001:db8:f::1";
pub const MAGS: [&str; 2] = ["2001:db8:f::11", "2001:db8:f::12"];
pub const PORT_MAC: [u8; 6] = [2, 0, 0, 0, 0xc, 0];
/// The one whose attachments share a prefix, and the one whose do not.
pub const MN1: &str = "mn1@example.net";
pub const MN2: &str = "mn2@example.net";
/// What every process here may take.
pub const PROCESS: &str = "[process]\nmemory_mib = 64\n";

/// A frame with the registration of a mobile's n-th interface at the n-th MAG.
fn registration(name: &str, n: u8) -> Vec<u8> {
    let [source, destination]: [Ipv6Addr; 2] =
        [MAGS[usize::from(n - 1)], LMAA].map(|text| text.parse().unwrap());
    let message = Message::from(Pbu {
        sequence: 1,
        flags: PbuFlags::REQUEST,
        lifetime: BindingLifetime::from_units(75),
        mn_id: Some(MnId::new(name).unwrap().into()),
        hnps: vec![HnpOption::ALL_ZERO],
        handoff: Some(HandoffIndicator::NEW_INTERFACE),
        access: Some(AccessTechnology(if n == 1 { 4 } else { 8 })),
        ll_id: Some(MnLinkLayerId::new(&[2, 0, 0, 0, 1, n]).unwrap()),
        ..Pbu::default()
    });
    let message = message.encode(source, destination).unwrap();
    let mut frame = Vec::new();
    Ethernet2Header {
        source: [2, 0, 0, 0, 0xa, n],
        destination: PORT_MAC,
        ether_type: EtherType::IPV6,
    }
    .write(&mut frame)
    .unwrap();
    Ipv6Header {
        payload_length: message.len().try_into().unwrap(),
        next_header: IpNumber(135),
        hop_limit: 64,
        source: source.octets(),
        destination: destination.octets(),
        ..Ipv6Header::default()
    }
    .write(&mut frame)
    .unwrap();
    [frame, message].concat()
}

/// An LMA that reads four registrations, and some rubbish, from a file.
pub fn lma(directory: &TempDir) -> Appliance {
    let input = directory.path().join("in.pcap");
    let mut frames: Vec<_> = [(MN1, 1), (MN1, 2), (MN2, 1), (MN2, 2)]
        .map(|(name, n)| registration(name, n))
        .into();
    frames.push([&PORT_MAC[..], &[2, 0, 0, 0, 0xa, 1], &[8, 0], &[0x45; 60]].concat());
    let mut writer = PcapWriter::new(File::create(&input).unwrap()).unwrap();
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        writer
            .write_packet(&PcapPacket::new(Duration::ZERO, len, &frame))
            .unwrap();
    }
    drop(writer);
    let config = format!(
        "{PROCESS}state_directory = \"{}\"\n\
         [[port]]\nname = \"core\"\ndevice = \"pcap:{},{}\"\nmac = \"02:00:00:00:0c:00\"\n\
         addresses = [\"{LMAA}/64\"]\n\
         [[port]]\nname = \"cn\"\ndevice = \"ring\"\naddresses = [\"2001:db8:c::1/64\"]\n\
         [[route]]\nto = \"::/0\"\nvia = \"2001:db8:c::5\"\nport = \"cn\"\n\
         [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
         signal_hosted_moves = false\nfmi_retry_ms = 20\nfmi_retries = 1\n\
         [[lma.peer]]\nname = \"mag1\"\naddress = \"{}\"\nprotection = \"none\"\n\
         [[lma.peer]]\nname = \"mag2\"\naddress = \"{}\"\nprotection = \"none\"\n\
         [[lma.mobile]]\nid = \"{MN1}\"\nprefix_model = \"shared\"\n",
        directory.path().join("state").display(),
        input.display(),
        directory.path().join("out.pcap").display(),
        MAGS[0],
        MAGS[1],
    );
    let lma = Appliance::start(directory.path(), "lma", None, &config);
    wait_for("four bindings", Duration::from_secs(5), || {
        (lma.show("bindings").len() == 4).then_some(())
    });
    lma
}

/// A MAG whose PBUs nobody answers, with two access ports and mobiles that attach by command.
pub fn mag(directory: &TempDir) -> Appliance {
    let mobile = |name: &str, mac: u8, port: &str| {
        format!(
            "[[mag.mobile]]\nid = \"{name}\"\nlink_layer = \"02:00:00:00:01:{mac:02x}\"\n\
             access_technology = \"wlan\"\nport = \"{port}\"\nattach = \"command\"\n"
        )
    };
    let config = format!(
        "{PROCESS}[[port]]\nname = \"core\"\ndevice = \"ring\"\naddresses = [\"{}/64\"]\n\
         [[port]]\nname = \"wlan0\"\ndevice = \"ring\"\n\
         [[port]]\nname = \"wlan1\"\ndevice = \"ring\"\n\
         [mag]\naddress = \"{}\"\naccess_ports = [\"wlan0\", \"wlan1\"]\n\
         [[mag.peer]]\nname = \"lma\"\naddress = \"{LMAA}\"\nprotection = \"none\"\n{}{}{}",
        MAGS[0],
        MAGS[0],
        mobile(MN1, 1, "wlan0"),
        mobile(MN2, 2, "wlan0"),
        mobile(MN2, 3, "wlan1"),
    );
    Appliance::start(directory.path(), "mag", None, &config)
}
