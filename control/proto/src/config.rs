//! What the state machines are told at the start.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{AccessTechnology, Binding, Hnp, Lmaa, MacAddr, MnId, Path, ProxyCoa, Tunnel};
use serde::{Deserialize, Serialize};

use crate::heartbeat::HeartbeatConfig;
use crate::pool::PrefixPool;

/// How a peer signals flow mobility. Configured, never guessed from traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Dialect {
    /// FMI and FMA of `draft-bernardos-netext-pmipv6-flowmob`, one change a message, as MH type 11.
    #[default]
    Draft,
    /// Update notifications with full lists (RFC 7864 §4).
    Rfc7864,
}

/// How a message without answer is repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Retransmission {
    /// Time between two copies.
    pub interval: Duration,
    /// Copies after the first.
    pub retries: u32,
}

/// The outer header of a peer's tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TunnelConfig {
    /// Outer hop limit (RFC 2473 §6.3).
    pub hop_limit: u8,
    /// Path MTU to the peer in octets, outer header included.
    pub path_mtu: u16,
    /// Whether the inner DSCP is copied to the outer header.
    pub copy_dscp: bool,
    /// The Tunnel Encapsulation Limit that is added to packets without one (RFC 2473 §6.6).
    pub encapsulation_limit: Option<u8>,
}

impl TunnelConfig {
    /// The tunnel between these ends.
    pub(crate) fn path(self, local: Ipv6Addr, remote: Ipv6Addr) -> Path {
        Path::Tunnel(Tunnel {
            local,
            remote,
            hop_limit: self.hop_limit,
            path_mtu: self.path_mtu,
            copy_dscp: self.copy_dscp,
            encapsulation_limit: self.encapsulation_limit,
        })
    }

    /// What the tunnel carries in one piece, in octets (RFC 2473 §6.7).
    pub(crate) fn tunnel_mtu(self) -> u16 {
        const OUTER_HEADER: u16 = 40;
        const LIMIT_HEADER: u16 = 8;
        let limit = self.encapsulation_limit.map_or(0, |_| LIMIT_HEADER);
        self.path_mtu.saturating_sub(OUTER_HEADER + limit)
    }
}

impl Default for TunnelConfig {
    fn default() -> Self {
        Self {
            hop_limit: 64,
            path_mtu: 1500,
            copy_dscp: false,
            encapsulation_limit: None,
        }
    }
}

/// A MAG that an LMA serves. A PBU from anyone else is refused with 154 (RFC 5213 §5.3.1).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MagPeer {
    /// Its end of the tunnel, and the source of its messages.
    pub proxy_coa: ProxyCoa,
    /// How it signals flow mobility.
    pub dialect: Dialect,
    /// The tunnel to it.
    pub tunnel: TunnelConfig,
}

impl MagPeer {
    /// A peer with everything else at its default.
    pub fn new(proxy_coa: ProxyCoa) -> Self {
        Self {
            proxy_coa,
            dialect: Dialect::default(),
            tunnel: TunnelConfig::default(),
        }
    }
}

/// Which prefixes a mobile's second access gets when its MAG asks for any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum PrefixModel {
    /// Prefixes of its own (RFC 7864 §3.2.2), unless its MAG asks to share with HI = 6.
    #[default]
    Unique,
    /// Those of the mobile's first access (RFC 7864 §3.2.1).
    Shared,
    /// One of the mobile's first access, and others of its own (RFC 7864 §3.1).
    Hybrid,
}

/// What an LMA knows about one mobile in advance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MobileProfile {
    /// Whether it is entitled to service; otherwise its PBUs are refused with 152.
    pub enabled: bool,
    /// Prefixes reserved for it; used before those of the pools.
    pub prefixes: Vec<Hnp>,
    /// Prefixes of each of its sessions, if not as many as the LMA gives to others.
    pub prefixes_per_session: Option<usize>,
    /// MAGs that may register it; any configured one if `None`. Others get 154.
    pub mags: Option<BTreeSet<ProxyCoa>>,
    /// Technologies that it may attach by; any if `None`. By others it is refused with 129.
    pub access_technologies: Option<BTreeSet<AccessTechnology>>,
    /// Prefix model, if it differs from the LMA's.
    pub prefix_model: Option<PrefixModel>,
}

impl Default for MobileProfile {
    fn default() -> Self {
        Self {
            enabled: true,
            prefixes: Vec::new(),
            prefixes_per_session: None,
            mags: None,
            access_technologies: None,
            prefix_model: None,
        }
    }
}

/// Everything an LMA needs to know. [`LmaConfig::new`] gives the defaults of the RFCs, but asks no peer
/// whether it is alive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LmaConfig {
    /// The LMA's own addresses; messages to others are ignored.
    pub lmaas: Vec<Lmaa>,
    /// The MAGs it serves.
    pub peers: Vec<MagPeer>,
    /// The LMAAs of all LMAs that share the load by runtime assignment (RFC 6463), its own among them. The others are
    /// peers as well, since they ask in MAGs' place. Empty if it is alone.
    pub pool: Vec<Lmaa>,
    /// Where prefixes come from; the first with a free one is used. They must not overlap.
    pub pools: Vec<PrefixPool>,
    /// Prefixes a new session gets, 1 to [`Hnp::MAX_PER_SESSION`].
    pub prefixes_per_session: usize,
    /// What a second access gets.
    pub prefix_model: PrefixModel,
    /// Mobiles known in advance.
    pub profiles: BTreeMap<MnId, MobileProfile>,
    /// Whether mobiles without a profile are served; otherwise their PBUs are refused with 153.
    pub serve_unknown: bool,
    /// BID-PRI by access technology, 1 to 127, lower wins (RFC 6089 §4.1); 64 for those not named.
    pub bid_priorities: BTreeMap<AccessTechnology, u8>,
    /// Longest lifetime granted to a binding, at least 4 s.
    pub max_lifetime: Duration,
    /// The MAGs' link-local address towards a mobile whose MAG asks for one (RFC 5213 §8.7, RFC 6543 §3);
    /// `None` makes one per mobile and session.
    pub mag_link_local: Option<Ipv6Addr>,
    /// MinDelayBeforeBCEDelete (RFC 5213 §9.1).
    pub min_delay_before_bce_delete: Duration,
    /// MaxDelayBeforeNewBCEAssign (RFC 5213 §9.1); `None` never waits for another de-registration.
    pub max_delay_before_new_bce_assign: Option<Duration>,
    /// TimestampValidityWindow (RFC 5213 §9.1).
    pub timestamp_validity_window: Duration,
    /// MobileNodeGeneratedTimestampInUse (RFC 5213 §9.3): the window is not checked.
    pub mobile_node_generated_timestamps: bool,
    /// Whether a flow's state is signalled to a MAG that hosts the flow's prefixes anyway. The
    /// draft does, for every flow the MAG serves, whether added or moved there; RFC 7864 §3.2.1 leaves
    /// it open. Without it, such a flow is put on that MAG by the LMA alone.
    pub signal_hosted: bool,
    /// Lifetime of flow state asked for in FMIs, in seconds; 0xffff is for ever. State with an end is
    /// refreshed at half of it.
    pub flow_lifetime: u16,
    /// When FMIs of the draft are repeated (LRA_WAIT_TIME and LRI_RETRIES of RFC 6705 §12).
    pub fmi: Retransmission,
    /// When update notifications are repeated (MIN_DELAY_BETWEEN_UPDATE_NOTIFICATION_REPLAY and
    /// MAX_UPDATE_NOTIFICATION_RETRANSMIT_COUNT of RFC 7077 §7).
    pub upn: Retransmission,
    /// How long after a move the old MAG keeps its flow state, so that uplink packets sent
    /// through it before the move are not lost.
    pub drain: Duration,
    /// When signalling that failed is tried again for a flow that should be on that MAG.
    pub resync_interval: Duration,
    /// Most outstanding FMIs per MAG; further ones wait. At most 32768.
    pub fmi_window: usize,
    /// How the MAGs' liveness is watched.
    pub heartbeat: HeartbeatConfig,
    /// Most mobiles; further ones are refused with 130.
    pub max_mobiles: usize,
    /// Most sessions that one MAG may have registered; further ones are refused with 130. A session that
    /// moves to a MAG is never refused for it.
    pub max_sessions_per_mag: usize,
    /// Most accesses per mobile, at most [`Binding::MAX_SOURCES`]; further ones are refused with 130.
    pub max_sessions_per_mobile: usize,
    /// Most flows per mobile, at most [`Binding::MAX_RULES`].
    pub max_flows_per_mobile: usize,
}

impl LmaConfig {
    /// An LMA at one address, with these MAGs and pools.
    pub fn new(lmaa: Lmaa, peers: Vec<MagPeer>, pools: Vec<PrefixPool>) -> Self {
        Self {
            lmaas: vec![lmaa],
            peers,
            pool: Vec::new(),
            pools,
            prefixes_per_session: 1,
            prefix_model: PrefixModel::default(),
            profiles: BTreeMap::new(),
            serve_unknown: true,
            bid_priorities: BTreeMap::new(),
            max_lifetime: Duration::from_mins(5),
            mag_link_local: Some(MacAddr::MAG.link_local()),
            min_delay_before_bce_delete: Duration::from_secs(10),
            max_delay_before_new_bce_assign: Some(Duration::from_millis(1500)),
            timestamp_validity_window: Duration::from_millis(300),
            mobile_node_generated_timestamps: false,
            signal_hosted: true,
            flow_lifetime: 0xffff,
            fmi: Retransmission {
                interval: Duration::from_secs(3),
                retries: 3,
            },
            // RFC 7077 §7 repeats once, which is thin where a flow waits for it.
            upn: Retransmission {
                interval: Duration::from_secs(1),
                retries: 3,
            },
            drain: Duration::from_secs(1),
            resync_interval: Duration::from_secs(30),
            fmi_window: 4096,
            heartbeat: HeartbeatConfig::default(),
            max_mobiles: 1 << 20,
            max_sessions_per_mag: usize::MAX,
            max_sessions_per_mobile: Binding::MAX_SOURCES,
            max_flows_per_mobile: Binding::MAX_RULES,
        }
    }
}

/// An LMA that a MAG may use.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LmaPeer {
    /// Its end of the tunnel, and the source of its messages.
    pub lmaa: Lmaa,
    /// How it signals flow mobility.
    pub dialect: Dialect,
    /// The tunnel to it.
    pub tunnel: TunnelConfig,
}

impl LmaPeer {
    /// A peer with everything else at its default.
    pub fn new(lmaa: Lmaa) -> Self {
        Self {
            lmaa,
            dialect: Dialect::default(),
            tunnel: TunnelConfig::default(),
        }
    }
}

/// Everything a MAG needs to know. [`MagConfig::new`] gives the defaults of the RFCs, but asks no peer
/// whether it is alive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MagConfig {
    /// The MAG's end of its tunnels, and the source of its messages.
    pub proxy_coa: ProxyCoa,
    /// The LMAs it may use; the first serves mobiles that name no other.
    pub lmas: Vec<LmaPeer>,
    /// Those of them that are one pool: each may assign another to a mobile (EnableLMARedirectFunction, RFC 6463 §7).
    pub pool: Vec<Lmaa>,
    /// Lifetime asked for in PBUs, at least 4 s.
    pub lifetime: Duration,
    /// TimestampBasedApproachInUse (RFC 5213 §9.3); otherwise sequence numbers order the PBUs.
    pub timestamps: bool,
    /// FixedMAGLinkLocalAddressOnAllAccessLinks (RFC 5213 §9.3, RFC 6543 §3); `None` asks the
    /// LMA for an address.
    pub link_local: Option<Ipv6Addr>,
    /// INITIAL_BINDACK_TIMEOUT (RFC 6275 §12).
    pub initial_bindack_timeout: Duration,
    /// MAX_BINDACK_TIMEOUT (RFC 6275 §12).
    pub max_bindack_timeout: Duration,
    /// Copies of a de-registration after the first; routes are gone before them.
    pub deregistration_retries: u32,
    /// When a mobile is asked for again after a refusal that may pass, such as 130 or 156.
    pub refused_retry: Duration,
    /// Time between unsolicited Router Advertisements (RFC 4861 §6.2.1).
    pub ra_interval: Duration,
    /// MTU of the access links, in octets.
    pub link_mtu: u16,
    /// Longest lifetime granted to flow state, in seconds; 0xffff grants what is asked.
    pub max_flow_lifetime: u16,
    /// Whether a mobile is asked if it is still there before its registration is extended (RFC 5213
    /// §6.13); otherwise link events alone tell.
    pub probe: bool,
    /// EnableMAGLocalRouting (RFC 5213 §9.2): whether mobiles' packets to prefixes that this MAG hosts stay
    /// here; otherwise all go to the LMA, which alone knows where each flow is.
    pub local_routing: bool,
    /// MAX_UPDATE_RATE (RFC 6275 §12): most PBUs per second about one mobile. Further ones wait.
    pub max_update_rate: usize,
    /// Most prefixes of sessions, over all mobiles; a session whose prefixes find no room is not served.
    pub max_prefixes: usize,
    /// How the LMAs' liveness is watched.
    pub heartbeat: HeartbeatConfig,
    /// Most attached interfaces.
    pub max_sessions: usize,
    /// Most flows per session; further ones are refused with 128.
    pub max_flows_per_session: usize,
}

impl MagConfig {
    /// A MAG at one address, with these LMAs.
    pub fn new(proxy_coa: ProxyCoa, lmas: Vec<LmaPeer>) -> Self {
        Self {
            proxy_coa,
            lmas,
            pool: Vec::new(),
            lifetime: Duration::from_mins(5),
            timestamps: true,
            link_local: Some(MacAddr::MAG.link_local()),
            initial_bindack_timeout: Duration::from_secs(1),
            max_bindack_timeout: Duration::from_secs(32),
            deregistration_retries: 3,
            refused_retry: Duration::from_secs(30),
            ra_interval: Duration::from_secs(200),
            link_mtu: 1500,
            max_flow_lifetime: 0xffff,
            probe: true,
            local_routing: false,
            max_update_rate: 3,
            max_prefixes: 1 << 20,
            heartbeat: HeartbeatConfig::default(),
            max_sessions: 1 << 20,
            max_flows_per_session: Binding::MAX_RULES,
        }
    }
}
