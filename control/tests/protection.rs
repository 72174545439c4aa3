//! Signalling under ESP: an LMA and two MAGs on TAP ports of one bridge, with somebody who listens and forges.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod common;

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::kernel::{LMAA, Network, PATIENCE, ip};
use common::process::{Appliance, flowmob};
use common::{has_tool, is_root, wait_for};
use flow::{AccessTechnology, HandoffIndicator, MnId, MnLinkLayerId};
use netdev::{Options, PacketSocket};
use pcap_file::pcap::{PcapPacket, PcapWriter};
use pmip_wire::{BindingLifetime, HnpOption, Message, Pbu, PbuFlags};
use serde_json::Value;
use tempfile::TempDir;

const MAGS: [&str; 2] = ["2001:db8:f::11", "2001:db8:f::12"];
const STRANGER: &str = "2001:db8:f::66";
const LMA_MAC: [u8; 6] = [2, 0, 0, 0, 0xc, 0];
const MN: &str = "mn1@example.net";
const OTHER_MN: &str = "mn2@example.net";

/// ESP, Mobility Header and ICMPv6 as next headers.
const ESP: u8 = 50;
const MOBILITY: u8 = 135;
const ICMPV6: u8 = 58;
/// Octets of the headers before ESP.
const HEADERS: usize = 14 + 40;

/// Sees what goes through a TAP port, both ways.
struct Tap(PacketSocket);

impl Tap {
    /// What the appliances have sent each other since the last call, without neighbour discovery.
    fn packets(&self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 2048];
        let mut packets = Vec::new();
        while let Ok(len) = self.0.recv(&mut buffer) {
            let frame = &buffer[..len];
            let ours = |at: usize| {
                let ends = [LMAA, MAGS[0], MAGS[1]];
                ends.iter()
                    .any(|end| frame[at..at + 16] == ip(end).octets())
            };
            if len >= HEADERS && ours(22) && frame[20] != ICMPV6 {
                packets.push(frame.to_vec());
            }
        }
        packets
    }

    /// As [`Self::packets`], each of which must be ESP.
    fn only_esp(&self) -> Vec<Vec<u8>> {
        let packets = self.packets();
        let protocols: Vec<_> = packets.iter().map(|packet| packet[20]).collect();
        assert!(protocols.iter().all(|p| *p == ESP), "{protocols:?}");
        packets
    }
}

/// An LMA and two MAGs that have keys, and a link they share.
struct Domain {
    lma: Option<Appliance>,
    mags: Vec<Appliance>,
    forger: PacketSocket,
    network: Network,
    directory: TempDir,
}

fn peer(role: &str, name: &str, address: &str, keys: &str) -> String {
    format!("[[{role}.peer]]\nname = \"{name}\"\naddress = \"{address}\"\nkeys = \"{keys}\"\n")
}

impl Domain {
    fn new(name: &str) -> Self {
        let network = Network::new(name);
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            all_multicast: false,
            outgoing: false,
            timestamps: false,
            buffer: 1 << 20,
        };
        let forger = network
            .peer
            .enter(|| PacketSocket::open("core0", options).unwrap());
        let mut domain = Self {
            lma: None,
            mags: Vec::new(),
            forger,
            network,
            directory,
        };
        for n in 1..=2 {
            domain.generate(n, "", &[]);
        }
        domain.start_lma();
        for n in 1..=2 {
            let mag = domain.start_mag(n);
            domain.mags.push(mag);
        }
        domain
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes the keys of the LMA and the n-th MAG.
    fn generate(&self, n: usize, suffix: &str, options: &[&str]) {
        let [lma, mag] = [format!("lma-mag{n}{suffix}"), format!("mag{n}-lma{suffix}")];
        let [lma, mag] = [lma, mag].map(|name| self.path(&name).display().to_string());
        let command = ["keys", "generate", "--lma", &lma, "--mag", &mag];
        flowmob(command.into_iter().chain(options.iter().copied())).ok();
    }

    fn process(&self, name: &str) -> String {
        let state = self.path(&format!("{name}-state"));
        format!(
            "[process]\nmemory_mib = 64\nstate_directory = \"{}\"\n",
            state.display()
        )
    }

    fn start(&self, name: &str, config: &str) -> Appliance {
        let namespace = Some(self.network.app.name());
        let config = format!("{}{config}", self.process(name));
        let appliance = Appliance::start(self.directory.path(), name, namespace, &config);
        // A bridge keeps to itself what is for the address of one of its interfaces.
        let last = name.bytes().last().unwrap();
        self.network.app.ip(&format!(
            "link set {name} address 02:fe:00:00:00:{last:02x}\nlink set {name} addrgenmode none\n\
             link set {name} master br-core\nlink set {name} up\n"
        ));
        appliance
    }

    fn start_lma(&mut self) {
        let config = format!(
            "[[port]]\nname = \"core\"\ndevice = \"tap:lma\"\nmac = \"02:00:00:00:0c:00\"\n\
             addresses = [\"{LMAA}/64\"]\n\
             [[port]]\nname = \"cn\"\ndevice = \"ring\"\naddresses = [\"2001:db8:c::1/64\"]\n\
             [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
             fmi_retry_ms = 10000\ndrain_ms = 10\ntimestamp_validity_window_ms = 10000\n{}{}",
            peer("lma", "mag1", MAGS[0], "lma-mag1"),
            peer("lma", "mag2", MAGS[1], "lma-mag2"),
        );
        self.lma = Some(self.start("lma", &config));
    }

    fn start_mag(&self, n: usize) -> Appliance {
        let mobile = |name: &str, mac: usize| {
            format!(
                "[[mag.mobile]]\nid = \"{name}\"\nlink_layer = \"02:00:00:00:0{n}:0{mac}\"\n\
                 access_technology = \"wlan\"\nattach = \"command\"\n"
            )
        };
        let name = format!("mag{n}");
        let address = MAGS[n - 1];
        let config = format!(
            "[[port]]\nname = \"core\"\ndevice = \"tap:{name}\"\nmac = \"02:00:00:00:0a:0{n}\"\n\
             addresses = [\"{address}/64\"]\n\
             [[port]]\nname = \"wlan\"\ndevice = \"ring\"\n\
             [mag]\naddress = \"{address}\"\naccess_ports = [\"wlan\"]\n\
             initial_bindack_timeout_ms = 1000\n{}{}{}",
            peer("mag", "lma", LMAA, &format!("{name}-lma")),
            mobile(MN, 1),
            mobile(OTHER_MN, 2),
        );
        self.start(&name, &config)
    }

    fn lma(&self) -> &Appliance {
        self.lma.as_ref().unwrap()
    }

    fn all(&self) -> impl Iterator<Item = &Appliance> {
        self.lma.iter().chain(&self.mags)
    }

    fn listen(&self, interface: &str) -> Tap {
        let options = Options {
            all_multicast: true,
            outgoing: true,
            timestamps: false,
            buffer: 1 << 20,
        };
        let open = || PacketSocket::open(interface, options).unwrap();
        Tap(self.network.app.enter(open))
    }

    /// Attaches a mobile at the n-th MAG and waits until both ends say so.
    fn attach(&self, mobile: &str, n: usize) {
        let mag = &self.mags[n - 1];
        mag.command(["attach", mobile]).ok();
        let active = |row: &Value| row["mn"] == mobile && row["state"] == "active";
        wait_for("a registration", PATIENCE, || {
            mag.show("bindings").iter().any(active).then_some(())
        });
        let registered = |row: &Value| active(row) && row["peer"] == format!("mag{n}");
        assert!(self.lma().show("bindings").iter().any(registered));
    }

    /// The access of [`MN`] at the n-th MAG.
    fn bid(&self, n: usize) -> String {
        let bindings = self.lma().show("bindings");
        let here = |row: &&Value| row["mn"] == MN && row["peer"] == format!("mag{n}");
        bindings.iter().find(here).unwrap()["bid"].to_string()
    }

    /// Messages that were not what a peer sends its peer, by process: an FMI that was sent twice is one that was lost.
    fn ignored(&self) -> Vec<BTreeMap<String, u64>> {
        let of = |appliance: &Appliance| {
            let rows = appliance.show("drops");
            let about_peers = |row: &&Value| {
                let reason = row["reason"].as_str().unwrap();
                let others = ["unprotected", "not-sealed", "unknown-peer", "mag-fmi-copy"];
                reason.starts_with("esp-") || others.contains(&reason)
            };
            let ignored = rows.iter().filter(about_peers);
            let count = |row: &Value| {
                let reason = row["reason"].as_str().unwrap().to_owned();
                (reason, row["packets"].as_u64().unwrap())
            };
            ignored.map(count).collect()
        };
        self.all().map(of).collect()
    }

    /// Sends a frame to the LMA, from a station that nobody confuses with others.
    fn forge(&self, packet: &[u8]) {
        let header = [&LMA_MAC[..], &[2, 0xba, 0xd0, 0, 0, 0], &[0x86, 0xdd]].concat();
        let parts = [IoSlice::new(&header), IoSlice::new(packet)];
        self.forger.send(&parts).unwrap();
    }

    /// Sends a packet to the LMA, which counts it under `reason`.
    fn is_dropped(&self, reason: &str, packet: &[u8]) {
        let before = self.lma().drops(reason);
        self.forge(packet);
        wait_for(reason, PATIENCE, || {
            (self.lma().drops(reason) == before + 1).then_some(())
        });
    }

    /// The Mobility Header types that tshark finds in packets with the keys of the LMA, in their order.
    fn decrypted(&self, packets: &[Vec<u8>]) -> Vec<String> {
        let capture = self.path("esp.pcap");
        let mut writer = PcapWriter::new(std::fs::File::create(&capture).unwrap()).unwrap();
        for packet in packets {
            let packet = PcapPacket::new(Duration::ZERO, packet.len() as u32, packet);
            writer.write_packet(&packet).unwrap();
        }
        drop(writer);
        let mut command = Command::new("tshark");
        command.arg("-r").arg(&capture);
        command.args(["-o", "esp.enable_encryption_decode:TRUE"]);
        for (file, mag) in [("lma-mag1", MAGS[0]), ("lma-mag2", MAGS[1])] {
            let text = std::fs::read_to_string(self.path(file)).unwrap();
            for sa in text.parse::<toml::Table>().unwrap()["sa"]
                .as_array()
                .unwrap()
            {
                let [from, to] = match sa["direction"].as_str().unwrap() {
                    "out" => [LMAA, mag],
                    _ => [mag, LMAA],
                };
                let (spi, key) = (sa["spi"].as_integer().unwrap(), sa["key"].as_str().unwrap());
                command.arg("-o").arg(format!(
                    "uat:esp_sa:\"IPv6\",\"{from}\",\"{to}\",\"{spi:#010x}\",\
                     \"AES-GCM with 16 octet ICV [RFC4106]\",\"0x{key}\",\"NULL\",\"\""
                ));
            }
        }
        let output = command.args(["-T", "fields", "-e", "mip6.mhtype"]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Changes key files as an editor does, and has their owners read them.
    fn edit(
        &self,
        appliance: &Appliance,
        names: &[String],
        change: impl Fn(&str, String) -> String,
    ) {
        for name in names {
            let text = std::fs::read_to_string(self.path(name)).unwrap();
            std::fs::write(self.path(name), change(name, text)).unwrap();
        }
        assert_eq!(appliance.command(["keys", "reload"]).ok(), "keys read\n");
    }
}

/// A packet with a Mobility Header or something else behind the IPv6 header.
fn packet(from: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    let head = [0x60, 0, 0, 0, len[0], len[1], protocol, 64];
    [&head[..], &ip(from).octets(), &ip(LMAA).octets(), payload].concat()
}

/// The registration of a mobile that nobody has seen.
fn registration(from: &str) -> Vec<u8> {
    let message = Message::from(Pbu {
        sequence: 1,
        flags: PbuFlags::REQUEST,
        lifetime: BindingLifetime::from_units(75),
        mn_id: Some(MnId::new("forged@example.net").unwrap().into()),
        hnps: vec![HnpOption::ALL_ZERO],
        handoff: Some(HandoffIndicator::NEW_INTERFACE),
        access: Some(AccessTechnology(4)),
        ll_id: Some(MnLinkLayerId::new(&[2, 0, 0, 0, 9, 9]).unwrap()),
        ..Pbu::default()
    });
    let header = message.encode(ip(from), ip(LMAA)).unwrap();
    packet(from, MOBILITY, &header)
}

#[test]
fn signalling_is_protected_and_forgeries_change_nothing() {
    if !is_root() {
        return;
    }
    let domain = Domain::new("esp1");
    let lma = domain.lma();
    let said = flowmob([
        "check",
        "-c",
        &domain.path("lma.toml").display().to_string(),
    ])
    .ok();
    assert!(
        said.ends_with("lma.toml is a valid configuration\n"),
        "{said}"
    );
    let tap = domain.listen("lma");

    domain.attach(MN, 1);
    domain.attach(MN, 2);
    let [first, second] = [domain.bid(1), domain.bid(2)];
    lma.command([
        "flow", "add", "--mn", MN, "--bid", &second, "--fid", "7", "--dport", "5004",
    ])
    .ok();
    let said = lma
        .command(["flow", "move", "--mn", MN, "--fid", "7", "--to", &first])
        .ok();
    assert!(said.contains("moved"), "{said}");
    let exchanged = tap.only_esp();
    if has_tool("tshark") {
        let types = domain.decrypted(&exchanged);
        assert_eq!(types.len(), exchanged.len());
        // PBU, PBA, and FMI or FMA (RFC 5096).
        let count = |wanted: &str| types.iter().filter(|kind| *kind == wanted).count();
        let counts = ["5", "6", "11"].map(count);
        assert!(counts.iter().all(|count| *count >= 2), "{types:?}");
    }
    for (appliance, peer) in domain.all().zip(["mag1", "lma", "lma"]) {
        let rows = appliance.show("peers");
        let row = rows.iter().find(|row| row["name"] == peer).unwrap();
        assert_eq!(row["protection"], "esp");
        assert!(
            row["sent_spi"].is_u64() && row["heard_spi"].is_u64(),
            "{row}"
        );
    }

    // What is forged is counted and changes nothing.
    let tables = || [lma.show("routes"), lma.show("flows")];
    let before = tables();
    let from_mag = |frame: &&Vec<u8>| frame[22..38] == ip(MAGS[0]).octets();
    let sealed = exchanged.iter().find(from_mag).unwrap()[14..].to_vec();
    domain.is_dropped("esp-replayed", &sealed);
    domain.is_dropped("unprotected", &registration(MAGS[0]));
    let altered = |at: usize| {
        let mut packet = sealed.clone();
        packet[at] ^= 0x40;
        packet
    };
    // Its number, so that it seems new; its index; and the same from another peer's address.
    domain.is_dropped("esp-icv", &altered(HEADERS - 14 + 4));
    domain.is_dropped("esp-unknown-sa", &altered(HEADERS - 14));
    let esp = &sealed[HEADERS - 14..];
    domain.is_dropped("esp-unknown-sa", &packet(MAGS[1], ESP, esp));
    domain.is_dropped("esp-unknown-sa", &packet(STRANGER, ESP, esp));
    domain.is_dropped("esp-malformed", &packet(MAGS[0], ESP, &esp[..8]));
    domain.is_dropped(
        "unknown-peer",
        &packet(STRANGER, MOBILITY, &[59, 0, 99, 0, 0, 0, 0, 0]),
    );
    // A registration by a stranger is refused, in the clear as it came.
    domain.is_dropped("pbu-refused", &registration(STRANGER));
    assert_eq!(tables(), before);
    assert!(lma.show("bindings").iter().all(|row| row["mn"] == MN));

    // And the peers still talk.
    domain.attach(OTHER_MN, 1);
    let ignored = &domain.ignored()[1..];
    assert_eq!(ignored, [BTreeMap::new(), BTreeMap::new()]);
}

#[test]
fn keys_are_changed_while_flows_move() {
    if !is_root() {
        return;
    }
    let domain = Domain::new("esp2");
    let lma = domain.lma();
    domain.attach(MN, 1);
    domain.attach(MN, 2);
    let bids = [domain.bid(1), domain.bid(2)];
    lma.command([
        "flow", "add", "--mn", MN, "--bid", &bids[1], "--fid", "7", "--dport", "5004",
    ])
    .ok();
    let tap = domain.listen("lma");
    let spis = |appliance: &Appliance| {
        let rows = appliance.show("peers");
        let both = |row: &Value| [row["sent_spi"].clone(), row["heard_spi"].clone()];
        rows.iter().map(both).collect::<Vec<_>>()
    };
    let before: Vec<_> = domain.all().map(spis).collect();

    let stop = AtomicBool::new(false);
    let (moves, packets) = std::thread::scope(|scope| {
        // Each is an exchange with one MAG and the end of the last one's flow at the other.
        let moving = scope.spawn(|| {
            let (mut moves, mut packets) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                for bid in &bids {
                    let to = ["flow", "move", "--mn", MN, "--fid", "7", "--to", bid];
                    lma.command(to).ok();
                    moves += 1;
                    packets += tap.only_esp().len();
                }
            }
            (moves, packets)
        });
        change_keys(&domain);
        // The last keys have to be heard of, too.
        wait_for("the new keys in use", PATIENCE, || {
            let now = domain.all().map(spis);
            let changed = now.zip(&before).all(|(now, before)| {
                now.iter()
                    .zip(before)
                    .all(|(now, before)| now[0] != before[0] && now[1] != before[1])
            });
            changed.then_some(())
        });
        stop.store(true, Ordering::Relaxed);
        moving.join().unwrap()
    });
    // Moves to and fro that follow closely need fewer messages.
    assert!(
        moves >= 4 && packets >= 8,
        "{packets} packets for {moves} moves"
    );
    // Neither was a message refused, nor was one sent twice because the first was lost.
    let none = BTreeMap::new();
    assert_eq!(domain.ignored(), [none.clone(), none.clone(), none]);
}

/// New keys for both MAGs, in the three steps of docs/signalling-protection.md.
fn change_keys(domain: &Domain) {
    let files = |end: usize| -> Vec<String> {
        match end {
            0 => vec!["lma-mag1".to_owned(), "lma-mag2".to_owned()],
            n => vec![format!("mag{n}-lma")],
        }
    };
    for n in 1..=2 {
        domain.generate(n, "-new", &["--standby"]);
    }
    let pause = || std::thread::sleep(Duration::from_millis(50));
    let step = |change: &dyn Fn(&str, String) -> String| {
        for (end, appliance) in domain.all().enumerate() {
            domain.edit(appliance, &files(end), change);
            pause();
        }
    };
    let new = |name: &str| std::fs::read_to_string(domain.path(&format!("{name}-new"))).unwrap();
    step(&|name, text| text + &new(name));
    step(&|_, text| {
        let swapped = text.replace("= true", "= X").replace("= false", "= true");
        swapped.replace("= X", "= false")
    });
    step(&|name, _| new(name).replace("= false", "= true"));
}

#[test]
fn a_crash_repeats_no_number() {
    if !is_root() {
        return;
    }
    let mut domain = Domain::new("esp3");
    domain.attach(MN, 1);
    // Not told to stop: ended, and its socket left behind.
    domain.lma = None;
    std::fs::remove_file(domain.path("lma.sock")).unwrap();
    domain.start_lma();
    domain.attach(OTHER_MN, 1);
    let mag = &domain.mags[0];
    assert_eq!(mag.drops("esp-replayed"), 0);
    // Nor does an orderly stop.
    let lma = domain.lma.take().unwrap();
    assert!(lma.stop(nix::sys::signal::Signal::SIGTERM).success());
    domain.start_lma();
    domain.mags[1].command(["attach", MN]).ok();
    domain.attach(MN, 2);
    assert_eq!(domain.mags[1].drops("esp-replayed"), 0);
}
