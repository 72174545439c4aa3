//! Router Advertisements to mobiles (RFC 5213 §6.7, §6.9.2; RFC 4861 §6.2).

use std::time::Duration;

use flow::Hnp;

use super::bul::{BuleState, SessionId};
use super::{Mag, Timer};
use crate::command::{AdvertisedPrefix, Command, RouterAdvertisement};

/// Most that a router may say it is a default router for (RFC 4861 §6.2.1).
const MAX_ROUTER_LIFETIME: Duration = Duration::from_mins(150);

/// The least that every IPv6 link carries (RFC 8200 §5).
const MINIMUM_MTU: u16 = 1280;

impl Mag {
    /// Advertises a session's own prefixes, and withdraws those in `gone`. Off-link prefixes are
    /// routed but never advertised (RFC 7864 §4.1).
    pub(super) fn advertise(&mut self, now: Duration, id: SessionId, gone: &[Hnp]) {
        let Some(bule) = self.bul.sessions.get(&id) else {
            return;
        };
        if bule.state != BuleState::Active {
            return;
        }
        // What the mobile is told must not outlive the registration.
        let lifetime = bule.expires.saturating_sub(now);
        let prefixes = bule.hnps.iter().map(|hnp| (*hnp, lifetime));
        let gone = gone.iter().map(|hnp| (*hnp, Duration::ZERO));
        let prefixes = prefixes.chain(gone).collect();
        self.send_advertisement(id, prefixes, lifetime.min(MAX_ROUTER_LIFETIME));
        let next = now + self.config.ra_interval;
        self.timers.set(Timer::Advertise(id), next);
    }

    /// Withdraws all that was advertised to a mobile.
    pub(super) fn retract(&mut self, id: SessionId, hnps: &[Hnp]) {
        let gone = hnps.iter().map(|hnp| (*hnp, Duration::ZERO)).collect();
        self.send_advertisement(id, gone, Duration::ZERO);
    }

    fn send_advertisement(
        &mut self,
        id: SessionId,
        prefixes: Vec<(Hnp, Duration)>,
        router_lifetime: Duration,
    ) {
        let Some(bule) = self.bul.sessions.get(&id) else {
            return;
        };
        let peer = self.config.lmas.iter().find(|peer| peer.lmaa == bule.lmaa);
        let tunnel_mtu = peer.map_or(MINIMUM_MTU, |peer| peer.tunnel.tunnel_mtu());
        let (port, mac) = bule.link();
        let advertisement = RouterAdvertisement {
            port,
            mac,
            source: bule.link_local,
            prefixes: prefixes
                .into_iter()
                .map(|(hnp, lifetime)| AdvertisedPrefix { hnp, lifetime })
                .collect(),
            mtu: tunnel_mtu.min(self.config.link_mtu).max(MINIMUM_MTU),
            router_lifetime,
        };
        self.outbox.command(Command::Advertise(advertisement));
    }
}
