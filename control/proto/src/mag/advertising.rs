//! Router Advertisements to mobiles (RFC 5213 §6.7, §6.9.2; RFC 4861 §6.2).

use std::time::Duration;

use flow::{Hnp, Lmaa};

use super::bul::{BuleState, SessionId};
use super::{Mag, Timer};
use crate::command::{AdvertisedPrefix, Command, RouterAdvertisement};
use crate::config::TunnelConfig;
use crate::time::Now;

/// Most that a router may say it is a default router for (RFC 4861 §6.2.1).
const MAX_ROUTER_LIFETIME: Duration = Duration::from_mins(150);

/// The least that every IPv6 link carries (RFC 8200 §5).
const MINIMUM_MTU: u16 = 1280;

/// Time between the advertisements to two mobiles that are all told the same news.
const PACE: Duration = Duration::from_micros(100);

impl Mag {
    /// A router said what the way to an LMA carries, in octets with the outer header, or that was too long
    /// ago: `None`. Mobiles are told at once what fits the tunnel now (RFC 5213 §6.9.5).
    pub fn handle_path_mtu(&mut self, now: Now, lmaa: Lmaa, mtu: Option<u16>) {
        let before = self.tunnel_mtu(lmaa);
        match mtu {
            Some(mtu) => self.learned_mtus.insert(lmaa, mtu),
            None => self.learned_mtus.remove(&lmaa),
        };
        if self.tunnel_mtu(lmaa) != before {
            self.advertise_to_all(now.monotonic, lmaa);
        }
    }

    /// Tells the mobiles of an LMA what has changed, one after the other.
    pub(super) fn advertise_to_all(&mut self, now: Duration, lmaa: Lmaa) {
        let mut at = now;
        for bule in self.bul.sessions.values().filter(|b| b.lmaa == lmaa) {
            if bule.state == BuleState::Active {
                self.timers.set(Timer::Advertise(bule.id), at);
                at += PACE;
            }
        }
    }

    /// The largest packet that fits the tunnel to an LMA.
    pub(super) fn tunnel_mtu(&self, lmaa: Lmaa) -> u16 {
        let peer = self.config.lmas.iter().find(|peer| peer.lmaa == lmaa);
        peer.map_or(MINIMUM_MTU, |peer| {
            let configured = peer.tunnel.path_mtu;
            let learned = self.learned_mtus.get(&lmaa).copied();
            let tunnel = TunnelConfig {
                path_mtu: learned.unwrap_or(configured).min(configured),
                ..peer.tunnel
            };
            tunnel.tunnel_mtu()
        })
    }

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
        let tunnel_mtu = self.tunnel_mtu(bule.lmaa);
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
