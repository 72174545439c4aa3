//! From the configuration to what each part wants to be told.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use config::{Config, PrefixModel, Signalling};
use flow::{HandoffIndicator, Lmaa, PortId};
use ipnet::Ipv6Net;
use pmip_proto::{
    Attachment, Dialect, HeartbeatConfig, LmaConfig, LmaPeer, MagConfig, MagPeer, MobileProfile,
    PrefixPool, Retransmission, TunnelConfig,
};

use super::mobiles::Mobile;

/// Seconds of flow state that mean for ever.
const INFINITE: u16 = 0xffff;

/// Prefixes that an LMA's workers make room for: those of 64 bits, and those of other lengths.
pub(crate) fn lma_prefixes(lma: &config::Lma) -> (usize, usize) {
    let sessions = usize::from(lma.max_sessions_per_mobile);
    let per_session = usize::from(lma.prefixes_per_session);
    let mobiles = usize::try_from(lma.max_mobiles).unwrap_or(usize::MAX);
    let more = lma.mobiles.iter().filter_map(|m| m.prefixes_per_session);
    let more = more.map(|n| usize::from(n).saturating_sub(per_session));
    let lent = mobiles
        .saturating_mul(per_session)
        .saturating_add(more.sum())
        .saturating_mul(sessions);
    let fixed = || lma.mobiles.iter().flat_map(|m| &m.prefixes);
    let fixed_64 = fixed().filter(|hnp| hnp.len() == 64).count();
    let fixed_other = fixed().count() - fixed_64;
    if lma.prefix_length == 64 {
        (lent.saturating_add(fixed_64), fixed_other)
    } else {
        (fixed_64, lent.saturating_add(fixed_other))
    }
}

/// What the LMA's state machine is told.
///
/// # Errors
/// If a pool cannot be cut into prefixes of that length, which validation should have found.
pub(crate) fn lma(
    config: &Config,
    lma: &config::Lma,
    restart_counter: u32,
) -> anyhow::Result<LmaConfig> {
    // A prefix rests as long as its last binding could have been delayed before another mobile gets it.
    let rest = lma.min_delay_before_bce_delete;
    let pools = lma
        .pools
        .iter()
        .map(|pool| PrefixPool::new(*pool, lma.prefix_length, rest));
    let pools = pools.collect::<Result<_, _>>().context("[lma] pools")?;
    let peers = lma.peers.iter().map(|peer| MagPeer {
        proxy_coa: peer.address,
        dialect: dialect(peer.signalling),
        tunnel: tunnel(config, &lma.tunnel, peer.address.0),
    });
    let profiles = lma.mobiles.iter().map(|mobile| {
        let mags = mobile.mags.iter().filter_map(|i| lma.peers.get(*i));
        let profile = MobileProfile {
            enabled: mobile.service,
            prefixes: mobile.prefixes.clone(),
            prefixes_per_session: mobile.prefixes_per_session.map(usize::from),
            mags: some(mags.map(|peer| peer.address)),
            access_technologies: some(mobile.access_technologies.iter().copied()),
            prefix_model: mobile.prefix_model.map(prefix_model),
        };
        (mobile.id.clone(), profile)
    });
    let mut wanted = LmaConfig::new(lma.address, peers.collect(), pools);
    let members = lma.lma_pool.iter().filter_map(|i| lma.peers.get(*i));
    let members = members.map(|peer| Lmaa(peer.address.0));
    wanted.pool = members.collect();
    if !wanted.pool.is_empty() {
        wanted.pool.push(lma.address);
    }
    wanted.profiles = profiles.collect();
    wanted.prefixes_per_session = usize::from(lma.prefixes_per_session);
    wanted.prefix_model = prefix_model(lma.prefix_model);
    wanted.mobile_node_generated_timestamps = lma.mobile_timestamps;
    wanted.serve_unknown = lma.any_mobile;
    wanted.max_lifetime = lma.max_lifetime;
    wanted.timestamp_validity_window = lma.timestamp_validity_window;
    wanted.min_delay_before_bce_delete = lma.min_delay_before_bce_delete;
    wanted.max_delay_before_new_bce_assign =
        Some(lma.max_delay_before_new_bce_assign).filter(|delay| !delay.is_zero());
    wanted.signal_hosted = lma.signal_hosted_moves;
    wanted.flow_lifetime = lma.flow_lifetime.map_or(INFINITE, whole_seconds);
    wanted.fmi = Retransmission {
        interval: lma.fmi_retry,
        retries: lma.fmi_retries.into(),
    };
    wanted.upn = Retransmission {
        interval: lma.upn_retry,
        retries: lma.upn_retries.into(),
    };
    wanted.drain = lma.drain;
    wanted.heartbeat = heartbeat(&lma.heartbeat, restart_counter);
    wanted.max_mobiles = usize::try_from(lma.max_mobiles).unwrap_or(usize::MAX);
    wanted.max_sessions_per_mag = lma.sessions_per_mag().map_or(usize::MAX, |most| {
        usize::try_from(most).unwrap_or(usize::MAX)
    });
    wanted.max_sessions_per_mobile = usize::from(lma.max_sessions_per_mobile);
    wanted.max_flows_per_mobile = usize::from(lma.max_flows_per_mobile);
    Ok(wanted)
}

/// What the MAG's state machine is told.
pub(crate) fn mag(config: &Config, mag: &config::Mag, restart_counter: u32) -> MagConfig {
    let peers = mag.peers.iter().map(|peer| LmaPeer {
        lmaa: peer.address,
        dialect: dialect(peer.signalling),
        tunnel: tunnel(config, &mag.tunnel, peer.address.0),
    });
    let access_mtu = mag
        .access_ports
        .iter()
        .filter_map(|id| config.port(*id))
        .map(|port| port.mtu);
    let mut wanted = MagConfig::new(mag.address, peers.collect());
    let members = mag.lma_pool.iter().filter_map(|i| mag.peers.get(*i));
    wanted.pool = members.map(|peer| peer.address).collect();
    wanted.timestamps = mag.timestamps;
    wanted.lifetime = mag.lifetime;
    wanted.probe = mag.probe;
    wanted.local_routing = mag.local_routing;
    wanted.max_update_rate = usize::from(mag.max_update_rate);
    wanted.link_local = Some(mag.link_local);
    wanted.initial_bindack_timeout = mag.initial_bindack_timeout;
    wanted.max_bindack_timeout = mag.max_bindack_timeout;
    wanted.ra_interval = mag.ra_interval;
    wanted.heartbeat = heartbeat(&mag.heartbeat, restart_counter);
    // Sessions have prefixes of their own, and those granted for flows of the mobile's other accesses.
    let room = usize::try_from(mag.max_prefixes).unwrap_or(usize::MAX);
    wanted.max_sessions = room / flow::Binding::MAX_SOURCES;
    wanted.max_prefixes = room / 2;
    wanted.link_mtu = access_mtu.min().unwrap_or(wanted.link_mtu);
    wanted
}

/// The mobiles that may attach at the MAG.
pub(crate) fn mobiles(mag: &config::Mag) -> impl Iterator<Item = Mobile> {
    mag.mobiles.iter().map(|mobile| Mobile {
        attachment: Attachment {
            mn_id: mobile.id.clone(),
            ll_id: Some(mobile.link_layer.into()),
            access: mobile.access_technology,
            port: mobile.port,
            mac: mobile.link_layer,
            handoff: match mobile.handoff {
                _ if mobile.share_prefixes => HandoffIndicator::SHARING_PREFIXES,
                config::Handoff::New => HandoffIndicator::NEW_INTERFACE,
                config::Handoff::Unknown => HandoffIndicator::UNKNOWN,
            },
            wanted: Vec::new(),
            lma: mag.peers.get(mobile.lma).map(|peer| peer.address),
        },
        automatic: mobile.attach == config::Attach::Automatic,
    })
}

/// The appliance's own addresses on a port, with the prefixes that are on its link.
pub(crate) fn addresses(config: &Config, port: PortId) -> Vec<Ipv6Net> {
    config
        .port(port)
        .map(|port| port.addresses.clone())
        .unwrap_or_default()
}

/// The addresses that may be another process's, with their ports; none of an LMA that stands alone.
pub(crate) fn shared_addresses(config: &Config) -> Vec<(PortId, Ipv6Net)> {
    let Some(lma) = config.lma.as_ref().filter(|_| config.is_paired()) else {
        return Vec::new();
    };
    let ports = (0..).map(PortId).zip(&config.ports);
    let nets = ports.flat_map(|(id, port)| port.addresses.iter().map(move |net| (id, *net)));
    let further = &config.process.pair.addresses;
    nets.filter(|(_, net)| net.addr() == lma.address.0 || further.contains(&net.addr()))
        .collect()
}

/// How a dialect is written in the configuration.
pub(crate) fn signalling(signalling: Signalling) -> String {
    match signalling {
        Signalling::Draft => "draft".to_owned(),
        Signalling::Rfc7864 => "rfc7864".to_owned(),
    }
}

fn heartbeat(heartbeat: &config::Heartbeat, restart_counter: u32) -> HeartbeatConfig {
    HeartbeatConfig {
        interval: heartbeat.enabled.then_some(heartbeat.interval),
        missing_allowed: u32::from(heartbeat.missing_allowed),
        restart_counter,
    }
}

fn dialect(signalling: Signalling) -> Dialect {
    match signalling {
        Signalling::Draft => Dialect::Draft,
        Signalling::Rfc7864 => Dialect::Rfc7864,
    }
}

fn prefix_model(model: PrefixModel) -> pmip_proto::PrefixModel {
    match model {
        PrefixModel::Unique => pmip_proto::PrefixModel::Unique,
        PrefixModel::Shared => pmip_proto::PrefixModel::Shared,
        PrefixModel::Hybrid => pmip_proto::PrefixModel::Hybrid,
    }
}

fn tunnel(
    config: &Config,
    options: &config::TunnelOptions,
    peer: std::net::Ipv6Addr,
) -> TunnelConfig {
    let port = config.port_towards(peer).and_then(|id| config.port(id));
    let default = TunnelConfig::default();
    TunnelConfig {
        hop_limit: options.hop_limit,
        copy_dscp: options.copy_dscp,
        encapsulation_limit: options.encapsulation_limit,
        path_mtu: options
            .path_mtu
            .or(port.map(|port| port.mtu))
            .unwrap_or(default.path_mtu),
    }
}

/// A set that allows what is in it, or everything if nothing is.
fn some<T: Ord>(items: impl Iterator<Item = T>) -> Option<BTreeSet<T>> {
    Some(items.collect()).filter(|set: &BTreeSet<T>| !set.is_empty())
}

fn whole_seconds(time: Duration) -> u16 {
    u16::try_from(time.as_secs()).unwrap_or(INFINITE)
}
