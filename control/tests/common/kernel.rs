//! The Linux kernel as the other end of a tunnel, and the hosts behind both ends.
//!
//! ```text
//! edge: a host ---- app: the appliance, on TAP ports ---- peer: the kernel's tunnel end ---- far: a host
//! ```
//!
//! The kernel's tunnels are routes: `seg6 mode encap.red` with one segment writes plain IPv6-in-IPv6
//! (RFC 8986 §5.2: a reduced encapsulation with one segment has no routing header), and the
//! `End.DT6` behaviour (§4.6) takes it off.

use etherparse::{Ipv6Header, PacketBuilder, SlicedPacket};
use std::io::{self, Read};
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flow::Hnp;
use netdev::{Options, PacketSocket};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{SockaddrIn6, recvfrom};
use pmip_wire::{BindingStatus, HnpOption, Message, Pba, PbaFlags, Pbu};
use socket2::{Domain, Protocol, Socket, Type};

use super::unique;

/// How long something may take that should happen at once, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long silence must last to count as such.
pub const SILENCE: Duration = Duration::from_millis(300);

/// Mobility Header and IPv6 as next headers.
const MOBILITY: i32 = 135;
const IPV6: i32 = 41;
/// ICMPv6 types (RFC 4443).
pub const TOO_BIG: u8 = 2;
pub const TIME_EXCEEDED: u8 = 3;
pub const ECHO_REQUEST: u8 = 128;
pub const ECHO_REPLY: u8 = 129;

/// Addresses that both tests use.
pub const LMAA: &str = "2001:db8:f::1";
pub const MAG: &str = "2001:db8:a::1";
pub const CN: &str = "2001:db8:c::5";
/// An address on the core link that is no tunnel's end.
pub const STRANGER: &str = "2001:db8:a::2";

pub fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// A network namespace, removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    pub fn new(name: &str) -> Self {
        let name = unique(name);
        ip_command(&["netns", "add", &name], "");
        Self { name }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` commands, one a line.
    pub fn ip(&self, commands: &str) {
        ip_command(&["-n", &self.name, "-6", "-batch", "-"], commands);
    }

    /// What an `ip` command prints.
    pub fn ip_says(&self, command: &str) -> String {
        let words: Vec<_> = ["-n", &self.name]
            .into_iter()
            .chain(command.split(' '))
            .collect();
        ip_command(&words, "")
    }

    /// Runs `work` inside. Sockets that it opens stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    /// Sets `net.ipv6.conf.` variables.
    pub fn ipv6(&self, settings: &[(&str, &str)]) {
        self.enter(|| {
            for (name, value) in settings {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}"), value).unwrap();
            }
        });
    }

    /// One of them.
    pub fn ipv6_value(&self, name: &str) -> String {
        let path = format!("/proc/sys/net/ipv6/conf/{name}");
        let value = self.enter(|| std::fs::read_to_string(&path).unwrap());
        value.trim().to_owned()
    }

    pub fn udp(&self, address: Ipv6Addr, port: u16) -> UdpSocket {
        let socket = self.enter(|| UdpSocket::bind((address, port)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// A socket for ICMPv6 messages of all kinds, whose checksums are the kernel's business.
    pub fn icmp(&self, address: Ipv6Addr) -> Icmp {
        let protocol = Protocol::ICMPV6;
        Icmp(self.raw(protocol, address, None))
    }

    /// A socket for Mobility Header messages between two addresses. The kernel writes and verifies
    /// their checksum itself.
    pub fn mobility(&self, local: Ipv6Addr, remote: Ipv6Addr) -> Mobility {
        let socket = self.raw(Protocol::from(MOBILITY), local, Some(remote));
        Mobility {
            socket,
            local,
            remote,
        }
    }

    /// A socket that puts an outer header before whatever is sent.
    pub fn tunnel(&self, local: Ipv6Addr, remote: Ipv6Addr, traffic_class: u8) -> Socket {
        let socket = self.raw(Protocol::from(IPV6), local, Some(remote));
        socket.set_tclass_v6(traffic_class.into()).unwrap();
        socket
    }

    /// A socket that sends whole packets, with headers of their own, on the way to `remote`.
    pub fn packets(&self, local: Ipv6Addr, remote: Ipv6Addr) -> Socket {
        const WITH_HEADER: i32 = 255;
        self.raw(Protocol::from(WITH_HEADER), local, Some(remote))
    }

    fn raw(&self, protocol: Protocol, local: Ipv6Addr, remote: Option<Ipv6Addr>) -> Socket {
        let address = |a| SocketAddrV6::new(a, 0, 0, 0).into();
        let socket = self.enter(|| Socket::new(Domain::IPV6, Type::RAW, Some(protocol)).unwrap());
        socket.bind(&address(local)).unwrap();
        if let Some(remote) = remote {
            socket.connect(&address(remote)).unwrap();
        }
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        socket
    }

    /// Sees whole frames that arrive on an interface.
    pub fn watch(&self, interface: &str) -> Watch {
        let options = Options {
            all_multicast: false,
            outgoing: false,
            timestamps: false,
            buffer: 1 << 20,
        };
        Watch(self.enter(|| PacketSocket::open(interface, options).unwrap()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let output = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
        let removed = output.is_ok_and(|output| output.status.success());
        assert!(
            removed || std::thread::panicking(),
            "{} is still there",
            self.name
        );
    }
}

fn ip_command(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {said}\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

/// Four namespaces in a row.
#[derive(Debug)]
pub struct Network {
    pub edge: Namespace,
    pub app: Namespace,
    pub peer: Namespace,
    pub far: Namespace,
}

/// The appliance's TAP ports and the bridges that join them to the links.
const TAPS: [(&str, &str); 2] = [("core0", "br-core"), ("edge0", "br-edge")];

impl Network {
    /// The links, without any address; the appliance's ports are not yet there.
    pub fn new(name: &str) -> Self {
        let namespace = |host: &str| Namespace::new(&format!("{name}-{host}"));
        let [edge, app, peer, far] = ["edge", "app", "peer", "far"].map(namespace);
        // There the kernel is a wire: it must not speak itself.
        app.ipv6(&[("all/disable_ipv6", "1"), ("default/disable_ipv6", "1")]);
        let bridge = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0";
        app.ip(&format!(
            "link add br-core {bridge}\nlink add br-edge {bridge}\n\
             link add core-link type veth peer name core0 netns {peer}\n\
             link add edge-link type veth peer name eth0 netns {edge}\n\
             link set core-link master br-core\nlink set edge-link master br-edge\n\
             link set core-link up\nlink set edge-link up\nlink set br-core up\nlink set br-edge up\n",
            peer = peer.name,
            edge = edge.name,
        ));
        far.ip(&format!(
            "link add eth0 type veth peer name far0 netns {}\nlink set eth0 up\n",
            peer.name
        ));
        peer.ip("link set lo up\nlink set core0 up\nlink set far0 up\n");
        edge.ip("link set lo up\n");
        far.ip("link set lo up\n");
        Self {
            edge,
            app,
            peer,
            far,
        }
    }

    /// Joins the ports of the appliance, which has made them, to the links.
    pub fn join_ports(&self) {
        for (number, (tap, bridge)) in TAPS.iter().enumerate() {
            // A bridge keeps to itself what is for the address of one of its interfaces.
            self.app.ip(&format!(
                "link set {tap} address 02:fe:00:00:00:{number:02x}\n\
                 link set {tap} addrgenmode none\nlink set {tap} master {bridge}\n\
                 link set {tap} up\n"
            ));
        }
    }

    /// Makes the peer a tunnel end at `local` for packets to `through`, with its other end at
    /// `remote`.
    pub fn make_tunnel(&self, local: Ipv6Addr, remote: Ipv6Addr, through: &str) {
        self.peer.ipv6(&[
            ("all/forwarding", "1"),
            ("all/seg6_enabled", "1"),
            ("core0/seg6_enabled", "1"),
        ]);
        // The address is both the host's own, for signalling, and the tunnel's end: what is
        // tunnelled is told from the rest by its next header, before the host's own addresses are
        // looked at.
        self.peer.ip(&format!(
            "addr add {local}/64 dev core0 nodad\n\
             route add {remote}/128 dev core0\n\
             sr tunsrc set {local}\n\
             route add {through} encap seg6 mode encap.red segs {remote} dev core0\n\
             route add {local}/128 encap seg6local action End.DT6 table main dev core0 table 100\n\
             rule add pref 5 ipproto {IPV6} to {local} lookup 100\n\
             rule add pref 10 lookup local\n\
             rule del pref 0\n"
        ));
    }
}

/// Sends datagrams of many sizes from one socket to the other and back, and has them arrive as they
/// were.
pub fn datagrams_go_both_ways(one: &UdpSocket, other: &UdpSocket) {
    let mut buffer = vec![0; 65_536];
    for len in [0_usize, 1, 47, 512, 1200, 1400] {
        for (from, to) in [(one, other), (other, one)] {
            let octets: Vec<u8> = (0..=255).cycle().take(len).collect();
            from.send_to(&octets, to.local_addr().unwrap()).unwrap();
            let received = uninterrupted(|| to.recv_from(&mut buffer));
            let (received, source) = received.unwrap_or_else(|error| {
                panic!("{len} octets from {from:?} to {to:?}: {error}");
            });
            assert_eq!(source, from.local_addr().unwrap());
            assert_eq!(&buffer[..received], octets);
        }
    }
}

/// Waits again when the wait was interrupted: one with a timeout is not taken up again by itself, and where the process was
/// stopped for a moment that needs no signal handler.
pub fn uninterrupted<T>(mut wait: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match wait() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            ended => return ended,
        }
    }
}

/// A datagram that must not arrive.
pub fn datagram_is_lost(from: &UdpSocket, to: &UdpSocket) {
    from.send_to(b"lost", to.local_addr().unwrap()).unwrap();
    to.set_read_timeout(Some(SILENCE)).unwrap();
    let received = uninterrupted(|| to.recv_from(&mut [0; 64]));
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    let error = received.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
}

/// A raw ICMPv6 socket: `ping` and more.
#[derive(Debug)]
pub struct Icmp(Socket);

/// An ICMPv6 message and who sent it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    pub source: Ipv6Addr,
    pub kind: u8,
    /// The word after the checksum: identifier and sequence, MTU...
    pub word: u32,
    pub body: Vec<u8>,
}

impl Icmp {
    /// Sends an echo request of `len` octets in all, IPv6 header included, with Don't Fragment.
    pub fn ask(&self, to: Ipv6Addr, len: usize, sequence: u16) {
        let mut message = vec![ECHO_REQUEST, 0, 0, 0, 0x12, 0x34];
        message.extend(sequence.to_be_bytes());
        message.extend((0..=255).cycle().take(len - 40 - 8));
        self.0
            .send_to(&message, &SocketAddrV6::new(to, 0, 0, 0).into())
            .unwrap();
    }

    /// The next message of one of these kinds, if any comes.
    pub fn next(&self, kinds: &[u8], patience: Duration) -> Option<Received> {
        let deadline = Instant::now() + patience;
        let mut buffer = vec![0; 65_536];
        while Instant::now() < deadline {
            // Nothing came: the socket waits for a while only.
            let Ok((len, source)) = receive_from(&self.0, &mut buffer) else {
                continue;
            };
            let octets = &buffer[..len];
            if kinds.contains(&octets[0]) {
                return Some(Received {
                    source,
                    kind: octets[0],
                    word: u32::from_be_bytes(octets[4..8].try_into().unwrap()),
                    body: octets[8..].to_vec(),
                });
            }
        }
        None
    }

    /// Has a host answer echo requests of many sizes.
    pub fn is_answered_by(&self, host: Ipv6Addr) {
        for (sequence, len) in (1..).zip([48_usize, 49, 104, 600, 1280, 1436]) {
            self.ask(host, len, sequence);
            let reply = self.next(&[ECHO_REPLY], PATIENCE);
            let reply = reply.unwrap_or_else(|| panic!("{len} octets to {host}: no answer"));
            assert_eq!(
                (reply.source, reply.word),
                (host, 0x1234_0000 | u32::from(sequence))
            );
            let sent: Vec<u8> = (0..=255).cycle().take(len - 48).collect();
            assert_eq!(reply.body, sent);
        }
    }

    /// Sets the hop limit of what is sent from now on.
    pub fn hop_limit(&self, hops: u32) {
        self.0.set_unicast_hops_v6(hops).unwrap();
    }
}

fn receive_from(socket: &Socket, buffer: &mut [u8]) -> nix::Result<(usize, Ipv6Addr)> {
    let (len, source) = recvfrom::<SockaddrIn6>(socket.as_raw_fd(), buffer)?;
    Ok((len, source.unwrap().ip()))
}

/// A raw Mobility Header socket.
#[derive(Debug)]
pub struct Mobility {
    socket: Socket,
    local: Ipv6Addr,
    remote: Ipv6Addr,
}

impl Mobility {
    /// Sends a message; the kernel puts the checksum in.
    pub fn send(&self, message: impl Into<Message>) {
        let mut octets = message.into().encode(self.local, self.remote).unwrap();
        octets[4..6].fill(0);
        assert_eq!(self.socket.send(&octets).unwrap(), octets.len());
    }

    /// The next message, whose checksum the kernel found right.
    pub fn receive(&self) -> Message {
        self.receive_within(PATIENCE).expect("no message")
    }

    /// The next message, if one comes in time.
    pub fn receive_within(&self, patience: Duration) -> Option<Message> {
        let deadline = Instant::now() + patience;
        let mut buffer = [0; 2048];
        while Instant::now() < deadline {
            if let Ok(len) = (&self.socket).read(&mut buffer) {
                return Some(Message::decode(&buffer[..len], self.remote, self.local).unwrap());
            }
        }
        None
    }
}

impl Mobility {
    /// Takes a register request and grants a prefix for as long as it asks.
    pub fn grant(&self, prefix: Hnp) -> Pbu {
        let Message::Pbu(request) = self.receive() else {
            panic!("no PBU");
        };
        let asked = request.clone();
        self.send(Pba {
            status: BindingStatus::ACCEPTED,
            flags: PbaFlags::PROXY,
            sequence: request.sequence,
            lifetime: request.lifetime,
            mn_id: request.mn_id,
            hnps: vec![HnpOption::on_link(prefix)],
            handoff: request.handoff,
            access: request.access,
            ll_id: request.ll_id,
            link_local: request.link_local.map(|_| ip("fe80::200:5eff:fe00:5213")),
            timestamp: request.timestamp,
            ..Pba::default()
        });
        asked
    }
}

/// A packet socket.
#[derive(Debug)]
pub struct Watch(PacketSocket);

impl Watch {
    /// The first frame in which `look` finds something, if any comes.
    pub fn find<T>(&self, patience: Duration, look: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut buffer = vec![0; 65_536];
        while Instant::now() < deadline {
            match self.0.recv(&mut buffer) {
                Ok(len) => {
                    if let Some(found) = look(&buffer[..len]) {
                        return Some(found);
                    }
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        None
    }
}

/// A UDP packet from 4000 to 5000.
pub fn datagram(source: Ipv6Addr, destination: Ipv6Addr, class: u8, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6Header {
        traffic_class: class,
        hop_limit: 64,
        source: source.octets(),
        destination: destination.octets(),
        ..Ipv6Header::default()
    };
    let builder = PacketBuilder::ip(etherparse::IpHeaders::Ipv6(
        header,
        etherparse::Ipv6Extensions::default(),
    ));
    let mut packet = Vec::new();
    builder.udp(4000, 5000).write(&mut packet, payload).unwrap();
    packet
}

/// Traffic class and hop limit with which a UDP payload arrives.
pub fn arrives(watch: &Watch, payload: &[u8], patience: Duration) -> Option<(u8, u8)> {
    watch.find(patience, |frame| {
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        let etherparse::NetSlice::Ipv6(ip) = sliced.net? else {
            return None;
        };
        let etherparse::TransportSlice::Udp(udp) = sliced.transport? else {
            return None;
        };
        let header = ip.header();
        (udp.payload() == payload).then_some((header.traffic_class(), header.hop_limit()))
    })
}
