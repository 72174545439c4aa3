//! An LMA or a MAG behind a router of the Linux kernel whose way on carries no more than every link
//! must. The kernel says Packet Too Big, puts our fragments together, and cuts its own packets; the
//! test itself only signals and moves inner packets between a socket and an interface.
//!
//! ```text
//! edge: CN ---- app: the LMA ---- peer: a router --1280-- far: a MAG, and the mobile behind it
//! edge: MN ---- app: the MAG ---- peer: a router --1280-- far: an LMA, and the CN behind it
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod common;

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use common::kernel::{CN, ECHO_REPLY, Icmp, LMAA, MAG, Namespace, Network, PATIENCE, TOO_BIG, ip};
use common::process::Appliance;
use common::{is_root, wait_for};
use etherparse::{IpNumber, Ipv6FragmentHeader, Ipv6Header};
use flow::{AccessTechnology, HandoffIndicator, Hnp, MnId, MnLinkLayerId};
use netdev::Tun;
use pmip_wire::{BindingLifetime, BindingStatus, HnpOption, Message, Pbu, PbuFlags};
use tempfile::TempDir;

/// What the router's way on carries.
const NARROW: usize = 1280;

/// The far end of the tunnel: all that it does about fragments, the kernel does.
struct Relay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Moves inner packets between a tunnel and the interface `tun0`.
    fn start(far: &Namespace, (local, remote): (&str, &str)) -> Self {
        let tun = far.enter(|| Tun::create("tun0").unwrap());
        let tunnel = far.tunnel(ip(local), ip(remote), 0);
        tunnel.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let work = move || {
            let mut buffer = vec![0; 65_536];
            while !ended.load(Ordering::Relaxed) {
                let down = std::io::Read::read(&mut &tunnel, &mut buffer);
                if let Ok(len) = down {
                    tun.send(&buffer[..len]).unwrap();
                }
                let up = tun.recv(&mut buffer);
                if let Ok(len) = up {
                    // Too large for the way at first, until the kernel has heard so.
                    let _lost = tunnel.send(&buffer[..len]);
                }
                if down.is_err() && up.is_err() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        };
        Self {
            stop,
            thread: Some(std::thread::spawn(work)),
        }
    }
}

/// Makes `host` an address behind the tunnel that ends in this namespace.
fn put_behind(far: &Namespace, host: Ipv6Addr) {
    far.ip(&format!(
        "link set tun0 up mtu {NARROW}\naddr add {host}/128 dev tun0 nodad\n\
         route add default dev tun0 table 7\nrule add from {host} lookup 7\n"
    ));
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

struct Narrow {
    appliance: Appliance,
    network: Network,
    _relay: Relay,
    _directory: TempDir,
}

impl Narrow {
    /// An appliance whose core port has the address `near`, with this configuration for its role; the
    /// other end of its tunnels is `far`.
    fn new(name: &str, [near, far]: [&str; 2], role: &str) -> Self {
        let network = Network::new(name);
        let [near_net, far_net] = [near, far].map(|end| end.strip_suffix('1').unwrap());
        network.peer.ipv6(&[("all/forwarding", "1")]);
        network.peer.ip(&format!(
            "addr add {near_net}fe/64 dev core0 nodad\n\
             link set far0 mtu {NARROW}\naddr add {far_net}fe/64 dev far0 nodad\n"
        ));
        network.far.ip(&format!(
            "link set eth0 mtu {NARROW}\naddr add {far}/64 dev eth0 nodad\n\
             route add default via {far_net}fe\n"
        ));
        let directory = tempfile::tempdir().unwrap();
        let config = format!(
            "[process]\nmemory_mib = 96\n\
             [[port]]\nname = \"core\"\ndevice = \"tap:core0\"\nmac = \"02:00:00:00:0c:00\"\n\
             addresses = [\"{near}/64\"]\n\
             [[route]]\nto = \"{far_net}/64\"\nvia = \"{near_net}fe\"\nport = \"core\"\n{role}"
        );
        let namespace = Some(network.app.name());
        let appliance = Appliance::start(directory.path(), name, namespace, &config);
        network.join_ports();
        let relay = Relay::start(&network.far, (far, near));
        Self {
            appliance,
            network,
            _relay: relay,
            _directory: directory,
        }
    }

    fn counted(&self, name: &str) -> u64 {
        let workers = self.appliance.show("workers");
        workers.iter().map(|row| row[name].as_u64().unwrap()).sum()
    }

    /// Has a host on the edge ask one behind the tunnel: what fits is answered, what does not is told
    /// of once, and from then on what every link must carry crosses in fragments, both ways.
    fn is_crossed(&self, asking: &Icmp, other: Ipv6Addr, ends: [&str; 2]) {
        is_answered(asking, other, 1240, 1);
        assert_eq!(
            (self.counted("fragmented"), self.counted("reassembled")),
            (0, 0)
        );
        // The router refuses it; who asks is told what its kernel then goes by.
        asking.ask(other, 1400, 2);
        let told = asking.next(&[ECHO_REPLY, TOO_BIG], PATIENCE).unwrap();
        assert_eq!((told.source, told.kind), (ip(ends[0]), TOO_BIG));
        assert_eq!(told.word as usize, NARROW);
        assert_eq!(&told.body[24..40], other.octets(), "the packet is quoted");
        let edge = &self.network.edge;
        let mtu = edge.ip_says(&format!("-6 route get {other}"));
        assert!(mtu.contains(&format!("mtu {NARROW}")), "{mtu}");

        let watch = self.network.peer.watch("core0");
        for (sequence, len) in (10..).zip([1280, 1279, 1241, 1240]) {
            is_answered(asking, other, len, sequence);
        }
        assert_eq!(
            (self.counted("fragmented"), self.counted("reassembled")),
            (3, 3)
        );
        let (outer, fragment, len) = watch
            .find(PATIENCE, |frame| {
                let (outer, rest) = Ipv6Header::from_slice(frame.get(14..)?).ok()?;
                let fragmented = outer.next_header == IpNumber::IPV6_FRAGMENTATION_HEADER;
                let (fragment, body) = Ipv6FragmentHeader::from_slice(rest).ok()?;
                fragmented.then_some((outer, fragment, 48 + body.len()))
            })
            .unwrap();
        let between = [outer.source_addr(), outer.destination_addr()];
        assert_eq!(between, ends.map(ip));
        assert_eq!(fragment.next_header, IpNumber::IPV6);
        assert!(fragment.more_fragments && len <= NARROW);

        // The asking kernel's own fragments are cut once more, and so are those of the answer.
        is_answered(asking, other, 1500, 20);
        is_answered(asking, other, 4000, 21);
        assert_eq!(
            self.appliance.drops("too-big"),
            0,
            "the router said so once"
        );
        for reason in ["fragment-overlap", "fragment-room", "bad-fragment"] {
            assert_eq!(self.appliance.drops(reason), 0, "{reason}");
        }
        let paths = self.appliance.show("paths");
        let learned = paths.iter().filter_map(|row| row["learned_mtu"].as_u64());
        assert_eq!(learned.collect::<Vec<_>>(), [NARROW as u64]);
    }
}

/// Registers a mobile and returns its address.
fn register(mag: &Namespace) -> Ipv6Addr {
    let signalling = mag.mobility(ip(MAG), ip(LMAA));
    signalling.send(Pbu {
        sequence: 1,
        flags: PbuFlags::REQUEST,
        lifetime: BindingLifetime::from_units(75),
        mn_id: Some(MnId::new("mn1@example.net").unwrap().into()),
        hnps: vec![HnpOption::ALL_ZERO],
        handoff: Some(HandoffIndicator::NEW_INTERFACE),
        access: Some(AccessTechnology(4)),
        ll_id: Some(MnLinkLayerId::new(&[2, 0, 0, 0, 1, 1]).unwrap()),
        ..Pbu::default()
    });
    let Message::Pba(pba) = signalling.receive() else {
        panic!("no PBA");
    };
    assert_eq!(pba.status, BindingStatus::ACCEPTED);
    Ipv6Addr::from(u128::from(pba.hnps[0].prefix.addr()) | 0x100)
}

/// Asks until there is an answer, and checks that it has all that was sent.
fn is_answered(cn: &Icmp, mn: Ipv6Addr, len: usize, sequence: u16) {
    cn.ask(mn, len, sequence);
    let reply = cn.next(&[ECHO_REPLY], PATIENCE);
    let reply = reply.unwrap_or_else(|| panic!("{len} octets: no answer"));
    let sent: Vec<u8> = (0..=255).cycle().take(len - 48).collect();
    assert_eq!((reply.source, reply.word & 0xffff), (mn, sequence.into()));
    assert_eq!(reply.body, sent);
}

#[test]
fn lma_crosses_a_way_that_carries_1280_octets() {
    if !is_root() {
        return;
    }
    let role = format!(
        "[[port]]\nname = \"edge\"\ndevice = \"tap:edge0\"\nmac = \"02:00:00:00:0d:00\"\n\
         addresses = [\"2001:db8:c::1/64\"]\n\
         [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
         [lma.heartbeat]\nenabled = false\n\
         [[lma.peer]]\nname = \"far\"\naddress = \"{MAG}\"\nprotection = \"none\"\n"
    );
    let at = Narrow::new("nlma", [LMAA, MAG], &role);
    at.network.edge.ip(&format!(
        "link set eth0 up\naddr add {CN}/64 dev eth0 nodad\n\
         route add 2001:db8:100::/48 via 2001:db8:c::1\n"
    ));
    let mn = register(&at.network.far);
    put_behind(&at.network.far, mn);
    let cn = at.network.edge.icmp(ip(CN));
    at.is_crossed(&cn, mn, [LMAA, MAG]);
    // One that has forgotten is told again, not by the router now.
    at.network.edge.ip("route flush cache\n");
    cn.ask(mn, 1400, 30);
    let told = cn.next(&[ECHO_REPLY, TOO_BIG], PATIENCE).unwrap();
    assert_eq!((told.kind, told.word as usize), (TOO_BIG, NARROW));
    assert_eq!(at.appliance.drops("too-big"), 1);
}

#[test]
fn mag_crosses_a_way_that_carries_1280_octets() {
    const OWN: &str = "2001:db8:100:7::";
    if !is_root() {
        return;
    }
    let role = format!(
        "[[port]]\nname = \"edge\"\ndevice = \"tap:edge0\"\n\
         [mag]\naddress = \"{MAG}\"\naccess_ports = [\"edge\"]\n\
         [mag.heartbeat]\nenabled = false\n\
         [[mag.peer]]\nname = \"far\"\naddress = \"{LMAA}\"\nprotection = \"none\"\n\
         [[mag.mobile]]\nid = \"mn1@example.net\"\nlink_layer = \"02:00:00:00:01:01\"\n\
         access_technology = \"wlan\"\n"
    );
    let at = Narrow::new("nmag", [MAG, LMAA], &role);
    put_behind(&at.network.far, ip(CN));
    let signalling = at.network.far.mobility(ip(LMAA), ip(MAG));
    let mobile = &at.network.edge;
    mobile.ipv6(&[("eth0/accept_ra", "1"), ("eth0/dad_transmits", "0")]);
    mobile.ip("link set eth0 address 02:00:00:00:01:01\nlink set eth0 up\n");
    signalling.grant(Hnp::new(ip(OWN), 64).unwrap());
    // From the prefix and the interface's address (RFC 4862, RFC 4291 appendix A).
    let mn = "2001:db8:100:7:0:ff:fe00:101";
    wait_for("an address of the mobile", PATIENCE, || {
        let addresses = mobile.ip_says("-6 -o addr show dev eth0 scope global");
        (addresses.contains(mn) && !addresses.contains("tentative")).then_some(())
    });
    assert_eq!(mobile.ipv6_value("eth0/mtu"), "1460");
    let asking = mobile.icmp(ip(mn));
    at.is_crossed(&asking, ip(CN), [MAG, LMAA]);
    // Mobiles are advertised what the tunnel carries now (RFC 5213 §6.9.5): all of them, even those that
    // have sent nothing, or have forgotten.
    assert_eq!(mobile.ipv6_value("eth0/mtu"), NARROW.to_string());
    mobile.ip("route flush cache\n");
    is_answered(&asking, ip(CN), 1400, 30);
    assert_eq!(at.appliance.drops("too-big"), 0);
}
