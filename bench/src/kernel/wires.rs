//! Three hosts in a row, a forwarder in the middle.
//!
//! ```text
//! source [out] ---- [edge] forwarder [core] ---- [sink] sink
//! ```

use std::fmt::Write as _;

use anyhow::Result;
use netdev::PacketSocket;

use super::Forwarder;
use super::check::Frames;
use super::netns::Netns;
use super::sender::{Counter, SOCKET, Sender};
use super::worker::{self, Process};
use crate::case::Case;
use crate::network;

/// The forwarder's interface towards the tunnels.
pub(super) const CORE: &str = "core";
/// The forwarder's interface where packets for mobiles come in.
pub(super) const EDGE: &str = "edge";

/// One forwarder on its wires.
#[derive(Debug)]
pub(super) struct Bed {
    pub(super) sender: Sender,
    pub(super) arrived: Counter,
    /// The worker, if it is not the kernel that forwards.
    pub(super) process: Option<Process>,
    sink: Netns,
    middle: Netns,
    _source: Netns,
}

impl Bed {
    /// Puts all of it up.
    ///
    /// # Errors
    /// What this kernel does not have or does not allow, or why the worker does not start.
    pub(super) fn new(order: &worker::Order, frames: &Frames) -> Result<Self> {
        let mut bed = Self::hosts(frames)?;
        match order.forwarder {
            Forwarder::LinuxSeg6 => {
                forward(&bed.middle, &order.case)?;
                // Else it would forward in the sender's system calls.
                bed.middle.steer(EDGE, order.core)?;
            }
            Forwarder::AfPacket | Forwarder::AfXdp => {
                bed.process = Some(Process::start(&bed.middle, order)?);
            }
        }
        Ok(bed)
    }

    /// The sender alone: the host in the middle drops what comes, and counts it.
    ///
    /// # Errors
    /// What this kernel does not have or does not allow.
    pub(super) fn sender_alone(frames: &Frames) -> Result<Self> {
        let mut bed = Self::hosts(frames)?;
        bed.arrived = Counter::new(&bed.middle, EDGE)?;
        Ok(bed)
    }

    fn hosts(frames: &Frames) -> Result<Self> {
        let [source, middle, sink] = [Netns::new()?, Netns::new()?, Netns::new()?];
        for silent in [&source, &middle, &sink] {
            silent.ipv6(&[("all/disable_ipv6", "1"), ("default/disable_ipv6", "1")])?;
        }
        middle.ip(&links(&source, &sink))?;
        source.ip("link set out up\n")?;
        sink.ip("link set sink up\n")?;
        Ok(Self {
            sender: Sender::new(&source, "out", frames.all())?,
            arrived: Counter::new(&sink, "sink")?,
            process: None,
            sink,
            middle,
            _source: source,
        })
    }

    /// Reads what arrives at the sink.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn watch(&self) -> Result<PacketSocket> {
        self.sink.enter(|| Ok(PacketSocket::open("sink", SOCKET)?))
    }
}

/// The forwarder's interfaces have the addresses of the worker's stations.
fn links(source: &Netns, sink: &Netns) -> String {
    let mut commands = String::new();
    let mtu = network::MTU;
    for (own, mac, other, netns) in [
        (CORE, network::MACS[0], "sink", sink),
        (EDGE, network::MACS[1], "out", source),
    ] {
        let netns = netns.path();
        let _ = writeln!(
            commands,
            "link add {own} mtu {mtu} address {mac} type veth peer name {other} mtu {mtu} netns {netns}\n\
             link set {own} up"
        );
    }
    commands
}

/// Makes the kernel the anchor: a route for each prefix, into the tunnel that is its default path. With
/// one segment `encap.red` writes plain IPv6-in-IPv6 (RFC 8986 §5.2).
fn forward(middle: &Netns, case: &Case) -> Result<()> {
    middle.ipv6(&[
        ("all/disable_ipv6", "0"),
        ("core/disable_ipv6", "0"),
        ("edge/disable_ipv6", "0"),
        ("all/forwarding", "1"),
        ("all/seg6_enabled", "1"),
        ("edge/seg6_enabled", "1"),
    ])?;
    let anchor = network::anchor();
    let mut commands = format!(
        "addr add {anchor}/64 dev {CORE} nodad\naddr add 2001:db8:2::1/64 dev {EDGE} nodad\n\
         sr tunsrc set {anchor}\n"
    );
    for number in 0..network::TUNNELS {
        let (gateway, mac) = (network::gateway(number), network::gateway_mac(number));
        let _ = writeln!(
            commands,
            "neigh replace {gateway} lladdr {mac} dev {CORE} nud permanent"
        );
    }
    for mobile in 0..case.bindings {
        let (hnp, _) = network::binding(case, mobile)?;
        let gateway = network::gateway(network::tunnel_of(mobile));
        let _ = writeln!(
            commands,
            "route add {hnp} encap seg6 mode encap.red segs {gateway} dev {CORE}"
        );
    }
    middle.ip(&commands)
}
