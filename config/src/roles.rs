//! What a configuration holds: the roles LMA, MAG and MN.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use flow::{AccessTechnology, Hnp, Lmaa, MacAddr, MnId, PortId, ProxyCoa};
use serde::{Serialize, Serializer};

use crate::device::InterfaceName;
use crate::value::words;

words! {
    /// Whose a prefix is when a mobile attaches over several interfaces.
    pub PrefixModel {
        /// Each attachment gets a prefix of its own (RFC 5213 §5.4).
        Unique = "unique",
        /// All attachments of a mobile share their prefixes (RFC 7864 §3.2.1).
        Shared = "shared",
        /// All attachments of a mobile share one prefix and have others of their own (RFC 7864 §3.1).
        Hybrid = "hybrid",
    }
}

words! {
    /// How flow moves are signalled to a peer.
    pub Signalling {
        /// FMI and FMA of draft-bernardos-netext-pmipv6-flowmob, one change a message.
        Draft = "draft",
        /// Update notifications with full lists (RFC 7864 §4, RFC 7077).
        Rfc7864 = "rfc7864",
    }
}

/// How the signalling with a peer is protected (RFC 5213 §4).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    /// By ESP in transport mode with AES-GCM (RFC 4303, RFC 4106).
    Esp {
        /// The file with the keys. [`load`](crate::load) takes a relative path from where the
        /// configuration is.
        keys: PathBuf,
    },
    /// Not at all.
    None,
}

words! {
    /// What a MAG says about where an attachment comes from, if nothing more is known (RFC 5213
    /// §6.9.1.1).
    pub Handoff {
        /// An interface that was not attached before: handoff indicator 1.
        New = "new",
        /// It may have been attached elsewhere: handoff indicator 4.
        Unknown = "unknown",
    }
}

words! {
    /// What makes a mobile attach at a MAG.
    pub Attach {
        /// The first packet from its link-layer address.
        Automatic = "automatic",
        /// The command `flowmob attach`.
        Command = "command",
    }
}

/// How a role sends into its tunnels: `[lma.tunnel]`, `[mag.tunnel]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TunnelOptions {
    /// Outer hop limit (RFC 2473 §6.3).
    pub hop_limit: u8,
    /// Whether the inner DSCP is copied to the outer header; ECN always follows RFC 6040.
    pub copy_dscp: bool,
    /// Path MTU between the tunnel ends in octets, outer header included; `None` for the MTU of
    /// the port towards the peer.
    pub path_mtu: Option<u16>,
    /// The Tunnel Encapsulation Limit that packets get which have none (RFC 2473 §6.6); `None` for
    /// no such option.
    pub encapsulation_limit: Option<u8>,
}

/// How the liveness of a role's peers is watched (RFC 5847): `[lma.heartbeat]`, `[mag.heartbeat]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Heartbeat {
    /// Whether peers are asked. They are answered all the same.
    pub enabled: bool,
    /// HEARTBEAT_INTERVAL: time between two requests to a peer (RFC 5847 §5).
    pub interval: Duration,
    /// MISSING_HEARTBEATS_ALLOWED: a peer is down when more answers in a row are missing (RFC 5847 §5).
    pub missing_allowed: u8,
}

/// The other end of tunnels; `A` is the role of its address: `[[lma.peer]]`, `[[mag.peer]]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Peer<A> {
    /// Its name in this file and in output, unique among the peers.
    pub name: String,
    /// Its address, unique among the peers.
    pub address: A,
    /// How flow moves are signalled.
    pub signalling: Signalling,
    /// How signalling is protected.
    pub protection: Protection,
}

/// The local mobility anchor: `[lma]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Lma {
    /// The LMAA, an address of one of the ports.
    pub address: Lmaa,
    /// The peers that are LMAs of the same pool (RFC 6463), as indexes in [`Lma::peers`]; this LMA is one of it as well.
    pub lma_pool: Vec<usize>,
    /// Where home network prefixes are taken from. They do not overlap.
    pub pools: Vec<Hnp>,
    /// Length in bits of the prefixes taken from the pools; no pool is longer.
    pub prefix_length: u8,
    /// Prefixes of each session, unless the mobile's entry says otherwise: 1 to
    /// [`Hnp::MAX_PER_SESSION`].
    pub prefixes_per_session: u8,
    /// Whose a prefix is, unless the mobile's entry says otherwise.
    pub prefix_model: PrefixModel,
    /// Whether mobiles without an entry are served.
    pub any_mobile: bool,
    /// Longest binding lifetime granted, a multiple of 4 s (RFC 6275 §6.1.8).
    pub max_lifetime: Duration,
    /// MobileNodeGeneratedTimestampInUse (RFC 5213 §9.3).
    pub mobile_timestamps: bool,
    /// TimestampValidityWindow (RFC 5213 §9.1).
    pub timestamp_validity_window: Duration,
    /// MinDelayBeforeBCEDelete (RFC 5213 §9.1).
    pub min_delay_before_bce_delete: Duration,
    /// MaxDelayBeforeNewBCEAssign (RFC 5213 §9.1).
    pub max_delay_before_new_bce_assign: Duration,
    /// Time until an unanswered FMI of the draft is sent again.
    pub fmi_retry: Duration,
    /// How often an unanswered FMI is sent again.
    pub fmi_retries: u8,
    /// MIN_DELAY_BETWEEN_UPDATE_NOTIFICATION_REPLAY: time until an unanswered update notification is
    /// sent again (RFC 7077 §7).
    pub upn_retry: Duration,
    /// MAX_UPDATE_NOTIFICATION_RETRANSMIT_COUNT: how often it is sent again (RFC 7077 §7).
    pub upn_retries: u8,
    /// Lifetime of flow state at MAGs, in whole seconds; `None` for infinite.
    pub flow_lifetime: Option<Duration>,
    /// Time between the switch of a flow to its new path and the removal of the old one, so that
    /// packets under way still arrive.
    pub drain: Duration,
    /// Whether a move between two MAGs that both host the prefix is signalled all the same.
    pub signal_hosted_moves: bool,
    /// Most mobiles served at once.
    pub max_mobiles: u32,
    /// Most attachments over one MAG; `None` for [`Lma::sessions_per_mag`] to decide.
    pub max_sessions_per_mag: Option<u32>,
    /// Most attachments of one mobile, at most `flow::Binding::MAX_SOURCES`.
    pub max_sessions_per_mobile: u16,
    /// Most flow rules of one mobile, at most `flow::Binding::MAX_RULES`.
    pub max_flows_per_mobile: u16,
    /// How packets are sent into tunnels.
    pub tunnel: TunnelOptions,
    /// How the MAGs' liveness is watched.
    pub heartbeat: Heartbeat,
    /// The MAGs.
    pub peers: Vec<Peer<ProxyCoa>>,
    /// Mobiles with settings of their own.
    pub mobiles: Vec<LmaMobile>,
}

impl Lma {
    /// Prefixes that can be taken from the pools.
    pub fn pool_room(&self) -> u64 {
        let bits = |pool: &Hnp| u32::from(self.prefix_length.saturating_sub(pool.len()));
        self.pools.iter().fold(0_u64, |sum, pool| {
            sum.saturating_add(1_u64.checked_shl(bits(pool)).unwrap_or(u64::MAX))
        })
    }

    /// Most attachments over one MAG. Of several, none may take all the room there is for mobiles and
    /// their prefixes, unless the file says so; a MAG alone may. `None` for no limit.
    pub fn sessions_per_mag(&self) -> Option<u64> {
        match self.max_sessions_per_mag {
            Some(most) => Some(most.into()),
            None if self.peers.len() < self.lma_pool.len() + 2 => None,
            None => {
                let prefixes = if self.pools.is_empty() {
                    u64::MAX
                } else {
                    self.pool_room()
                };
                let room = prefixes.min(self.max_mobiles.into());
                Some((room - room / 4).max(1))
            }
        }
    }
}

/// A mobile with settings of its own at the LMA: `[[lma.mobile]]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LmaMobile {
    /// Its identifier, unique.
    pub id: MnId,
    /// Prefixes that are always this mobile's, given out in this order before any of the pools.
    pub prefixes: Vec<Hnp>,
    /// Prefixes of each of its sessions; `None` as for all mobiles.
    pub prefixes_per_session: Option<u8>,
    /// Whose a prefix is; `None` as for all mobiles.
    pub prefix_model: Option<PrefixModel>,
    /// The MAGs that may register it, as indexes in [`Lma::peers`]; any if empty.
    pub mags: Vec<usize>,
    /// The technologies it may attach by; any if empty.
    pub access_technologies: Vec<AccessTechnology>,
    /// Whether it is served at all.
    pub service: bool,
}

/// The mobile access gateway: `[mag]`.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Mag {
    /// The Proxy-CoA, an address of one of the ports.
    pub address: ProxyCoa,
    /// The ports that mobiles attach to, at least one.
    pub access_ports: Vec<PortId>,
    /// The LMAs that are one pool and may be assigned (EnableLMARedirectFunction, RFC 6463 §7), as indexes in
    /// [`Mag::peers`].
    pub lma_pool: Vec<usize>,
    /// The MAG's address on all access links (RFC 6543 §3).
    pub link_local: Ipv6Addr,
    /// TimestampBasedApproachInUse (RFC 5213 §9.3): whether timestamps order the PBUs, or sequence
    /// numbers.
    pub timestamps: bool,
    /// Binding lifetime asked for, a multiple of 4 s (RFC 6275 §6.1.7).
    pub lifetime: Duration,
    /// Time between unsolicited router advertisements.
    pub ra_interval: Duration,
    /// INITIAL_BINDACK_TIMEOUT: time until an unanswered PBU is sent again, doubled each time
    /// (RFC 6275 §12).
    pub initial_bindack_timeout: Duration,
    /// MAX_BINDACK_TIMEOUT: where the doubling ends (RFC 6275 §12).
    pub max_bindack_timeout: Duration,
    /// Whether a mobile is asked if it is still there before its registration is extended (RFC 5213
    /// §6.13).
    pub probe: bool,
    /// EnableMAGLocalRouting: whether packets between mobiles of this MAG stay here instead of going by
    /// their LMA (RFC 5213 §9.2).
    pub local_routing: bool,
    /// Whether sessions are ended with their LMAs when the process is told to stop.
    pub deregister_on_stop: bool,
    /// MAX_UPDATE_RATE: most PBUs a second about one mobile (RFC 6275 §12).
    pub max_update_rate: u16,
    /// Prefixes that the tables have room for.
    pub max_prefixes: u32,
    /// How packets are sent into tunnels.
    pub tunnel: TunnelOptions,
    /// How the LMAs' liveness is watched.
    pub heartbeat: Heartbeat,
    /// The LMAs.
    pub peers: Vec<Peer<Lmaa>>,
    /// The mobiles that may attach.
    pub mobiles: Vec<MagMobile>,
}

/// A mobile that may attach at the MAG: `[[mag.mobile]]`. One entry per interface.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MagMobile {
    /// Its identifier.
    pub id: MnId,
    /// The link-layer address of its interface, unique on the port.
    pub link_layer: MacAddr,
    /// The technology that is reported to the LMA.
    pub access_technology: AccessTechnology,
    /// The access port.
    pub port: PortId,
    /// What the LMA is told about where an attachment comes from.
    pub handoff: Handoff,
    /// Whether the attachment asks to share the prefixes of the mobile's others: handoff
    /// indicator 6 (RFC 7864 §3.2.1). Then `handoff` is [`Handoff::New`].
    pub share_prefixes: bool,
    /// Its LMA, or the one that is asked first for it, as index in [`Mag::peers`].
    pub lma: usize,
    /// What makes it attach.
    pub attach: Attach,
}

/// The mobile node's logical interface on Linux: `[mn]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Mn {
    /// The TUN interface that is created.
    pub interface: InterfaceName,
    /// The lower half of every address formed.
    pub interface_id: InterfaceId,
    /// The physical interfaces, at least one.
    pub accesses: Vec<MnAccess>,
}

/// One physical interface of the mobile node: `[[mn.access]]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MnAccess {
    /// Its name in this file and in output, unique.
    pub name: String,
    /// The existing Linux interface, unique.
    pub interface: InterfaceName,
}

/// The lower 64 bits of addresses, not zero; printed as `::100`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct InterfaceId(pub u64);

impl InterfaceId {
    /// The address formed in a prefix; bits of the identifier that the prefix covers give way.
    pub fn address(self, prefix: Hnp) -> Ipv6Addr {
        let host = u128::from(self.0) & u128::from(prefix.net().hostmask());
        Ipv6Addr::from(u128::from(prefix.addr()) | host)
    }
}

impl fmt::Display for InterfaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Ipv6Addr::from(u128::from(self.0)), f)
    }
}

impl Serialize for InterfaceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
