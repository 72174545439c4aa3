//! An LMA behind a router of the Linux kernel whose way on carries no more than every link must. The
//! kernel says Packet Too Big, puts our fragments together, and cuts its own packets; the test itself
//! only registers the mobile and moves inner packets between a socket and an interface.
//!
//! ```text
//! edge: CN ---- app: the LMA ---- peer: a router --1280-- far: a MAG, and the mobile behind it
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

use common::is_root;
use common::kernel::{CN, ECHO_REPLY, Icmp, LMAA, MAG, Namespace, Network, PATIENCE, TOO_BIG, ip};
use common::process::Appliance;
use etherparse::{IpNumber, Ipv6FragmentHeader, Ipv6Header};
use flow::{AccessTechnology, HandoffIndicator, MnId, MnLinkLayerId};
use netdev::Tun;
use pmip_wire::{BindingLifetime, BindingStatus, HnpOption, Message, Pbu, PbuFlags};
use tempfile::TempDir;

/// What the router's way to the MAG carries.
const NARROW: usize = 1280;

/// The MAG's end of the tunnel: all that it does about fragments, the kernel does.
struct Relay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Moves inner packets between the tunnel to the LMA and the interface `mn0`.
    fn start(host: &Namespace) -> Self {
        let tun = host.enter(|| Tun::create("mn0").unwrap());
        let tunnel = host.tunnel(ip(MAG), ip(LMAA), 0);
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

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

struct Narrow {
    lma: Appliance,
    mn: Ipv6Addr,
    network: Network,
    _relay: Relay,
    _directory: TempDir,
}

impl Narrow {
    fn new(name: &str) -> Self {
        let network = Network::new(name);
        network.edge.ip(&format!(
            "link set eth0 up\naddr add {CN}/64 dev eth0 nodad\n\
             route add 2001:db8:100::/48 via 2001:db8:c::1\n"
        ));
        network.peer.ipv6(&[("all/forwarding", "1")]);
        network.peer.ip(&format!(
            "addr add 2001:db8:f::fe/64 dev core0 nodad\n\
             link set far0 mtu {NARROW}\naddr add 2001:db8:a::fe/64 dev far0 nodad\n"
        ));
        network.far.ip(&format!(
            "link set eth0 mtu {NARROW}\naddr add {MAG}/64 dev eth0 nodad\n\
             route add default via 2001:db8:a::fe\n"
        ));
        let directory = tempfile::tempdir().unwrap();
        let config = format!(
            "[process]\nmemory_mib = 96\n\
             [[port]]\nname = \"core\"\ndevice = \"tap:core0\"\nmac = \"02:00:00:00:0c:00\"\n\
             addresses = [\"{LMAA}/64\"]\n\
             [[port]]\nname = \"edge\"\ndevice = \"tap:edge0\"\nmac = \"02:00:00:00:0d:00\"\n\
             addresses = [\"2001:db8:c::1/64\"]\n\
             [[route]]\nto = \"2001:db8:a::/64\"\nvia = \"2001:db8:f::fe\"\nport = \"core\"\n\
             [lma]\naddress = \"{LMAA}\"\npools = [\"2001:db8:100::/48\"]\n\
             [[lma.peer]]\nname = \"far\"\naddress = \"{MAG}\"\n"
        );
        let namespace = Some(network.app.name());
        let lma = Appliance::start(directory.path(), "lma", namespace, &config);
        network.join_ports();
        let mn = register(&network.far);
        let relay = Relay::start(&network.far);
        network.far.ip(&format!(
            "link set mn0 up mtu {NARROW}\naddr add {mn}/128 dev mn0 nodad\n\
             route add default dev mn0 table 7\nrule add from {mn} lookup 7\n"
        ));
        Self {
            lma,
            mn,
            network,
            _relay: relay,
            _directory: directory,
        }
    }

    fn counted(&self, name: &str) -> u64 {
        let workers = self.lma.show("workers");
        workers.iter().map(|row| row[name].as_u64().unwrap()).sum()
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
    let at = Narrow::new("narrow");
    let (mn, cn) = (at.mn, at.network.edge.icmp(ip(CN)));
    // What fits goes through in one piece.
    is_answered(&cn, mn, 1240, 1);
    assert_eq!(
        (at.counted("fragmented"), at.counted("reassembled")),
        (0, 0)
    );

    // What does not is refused by the router; the LMA tells the CN what its kernel then goes by.
    cn.ask(mn, 1400, 2);
    let told = cn.next(&[ECHO_REPLY, TOO_BIG], PATIENCE).unwrap();
    assert_eq!((told.source, told.kind), (ip(LMAA), TOO_BIG));
    assert_eq!(told.word as usize, NARROW);
    assert_eq!(&told.body[24..40], mn.octets(), "the packet is quoted");
    let mtu = at.network.edge.ip_says(&format!("-6 route get {mn}"));
    assert!(mtu.contains(&format!("mtu {NARROW}")), "{mtu}");

    // Now both ends know: what every link must carry is answered, in fragments both ways.
    let watch = at.network.peer.watch("core0");
    for (sequence, len) in (10..).zip([1280, 1279, 1241, 1240]) {
        is_answered(&cn, mn, len, sequence);
    }
    assert_eq!(
        (at.counted("fragmented"), at.counted("reassembled")),
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
    assert_eq!(
        (outer.source_addr(), outer.destination_addr()),
        (ip(LMAA), ip(MAG))
    );
    assert_eq!(fragment.next_header, IpNumber::IPV6);
    assert!(fragment.more_fragments && len <= NARROW);

    // The CN's own fragments are cut once more, and so are those of the mobile's answer.
    is_answered(&cn, mn, 1500, 20);
    is_answered(&cn, mn, 4000, 21);
    assert_eq!(at.lma.drops("too-big"), 0, "the router had to say so once");
    for reason in ["fragment-overlap", "fragment-room", "bad-fragment"] {
        assert_eq!(at.lma.drops(reason), 0, "{reason}");
    }

    // A CN that has forgotten is told again, by the LMA now.
    at.network.edge.ip("route flush cache\n");
    cn.ask(mn, 1400, 30);
    let told = cn.next(&[ECHO_REPLY, TOO_BIG], PATIENCE).unwrap();
    assert_eq!((told.source, told.kind), (ip("2001:db8:c::1"), TOO_BIG));
    assert_eq!(told.word as usize, NARROW);
    assert_eq!(at.lma.drops("too-big"), 1);
}
