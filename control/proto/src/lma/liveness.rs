//! MAGs that die, return and restart, and what becomes of their bindings (RFC 5847 §3).
//!
//! | the MAG | its bindings |
//! | --- | --- |
//! | does not answer | are not used until it does, or their lifetime is over |
//! | answers again, same Restart Counter | are used again; flows are where they were |
//! | answers with another one | are void, except those registered since its former self was last heard |

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{Bid, Lmaa, MobileId, ProxyCoa};
use pmip_wire::Heartbeat;

use super::binding_cache::{Bce, BceState, Mobile};
use super::{Lma, Timer};
use crate::event::LmaEvent;
use crate::heartbeat::Verdict;

impl Lma {
    /// There is one more binding with a MAG.
    pub(super) fn bind(&mut self, now: Duration, proxy_coa: ProxyCoa, lmaa: Lmaa) {
        *self.bound.entry(proxy_coa).or_default() += 1;
        self.heartbeats.wake(now, proxy_coa.0, lmaa.0);
    }

    /// There is one less.
    pub(super) fn unbind(&mut self, proxy_coa: ProxyCoa) {
        if let Some(count) = self.bound.get_mut(&proxy_coa) {
            *count = count.saturating_sub(1);
        }
    }

    /// A session was registered anew, at the MAG where it was or at another one.
    pub(super) fn rebind(&mut self, now: Duration, from: ProxyCoa, to: ProxyCoa, lmaa: Lmaa) {
        if from == to {
            // Why would it, unless it forgot?
            self.heartbeats.hint(now, to.0, &mut self.outbox);
        } else {
            self.unbind(from);
            self.bind(now, to, lmaa);
        }
    }

    /// The state of a session that a MAG has just registered. One that does not answer heartbeats is
    /// asked again before packets are sent to it.
    pub(super) fn state_at(&mut self, now: Duration, proxy_coa: ProxyCoa) -> BceState {
        if !self.heartbeats.is_down(proxy_coa.0) {
            return BceState::Active;
        }
        self.heartbeats.hint(now, proxy_coa.0, &mut self.outbox);
        BceState::Unreachable
    }

    pub(super) fn handle_heartbeat(
        &mut self,
        now: Duration,
        from: Ipv6Addr,
        to: Ipv6Addr,
        heartbeat: &Heartbeat,
    ) {
        if !self.peers.contains_key(&ProxyCoa(from)) {
            self.counters.unknown_peer += 1;
            return;
        }
        let outbox = &mut self.outbox;
        let verdict = self.heartbeats.handle(now, from, to, heartbeat, outbox);
        if let Some(verdict) = verdict {
            self.conclude(now, ProxyCoa(from), verdict);
        }
    }

    pub(super) fn handle_heartbeat_timeout(&mut self, now: Duration) {
        loop {
            let (bound, pool) = (&self.bound, &self.config.pool);
            let is_bound = |peer| {
                pool.contains(&Lmaa(peer))
                    || bound.get(&ProxyCoa(peer)).is_some_and(|count| *count > 0)
            };
            let due = self.heartbeats.pop_due(now, is_bound, &mut self.outbox);
            let Some((peer, verdict)) = due else { break };
            if let Some(verdict) = verdict {
                self.conclude(now, ProxyCoa(peer), verdict);
            }
        }
    }

    /// Draws the conclusions from a MAG's heartbeats, for each of its sessions.
    pub(super) fn conclude(&mut self, now: Duration, proxy_coa: ProxyCoa, verdict: Verdict) {
        let mut changed = 0;
        for id in self.mobiles_at(proxy_coa) {
            self.with_mobile(id, |lma, mobile| {
                let bids: Vec<Bid> = sessions_at(mobile, proxy_coa).map(|s| s.bid).collect();
                for bid in bids {
                    changed += usize::from(lma.judge(now, mobile, bid, verdict));
                }
                lma.settle(now, mobile);
            });
        }
        self.outbox.event(match verdict {
            Verdict::Down => LmaEvent::PeerDown {
                proxy_coa,
                bindings: changed,
            },
            Verdict::Up => LmaEvent::PeerUp {
                proxy_coa,
                bindings: changed,
            },
            Verdict::Restarted { counter, .. } => LmaEvent::PeerRestarted {
                proxy_coa,
                counter,
                lost: changed,
            },
        });
    }

    /// What becomes of one session; whether that is what the verdict is about.
    fn judge(&mut self, now: Duration, mobile: &mut Mobile, bid: Bid, verdict: Verdict) -> bool {
        let Some(session) = mobile.session_mut(bid) else {
            return false;
        };
        match (session.state, verdict) {
            (BceState::Active, Verdict::Down) => {
                session.state = BceState::Unreachable;
                true
            }
            (BceState::Unreachable, Verdict::Up) => {
                session.state = BceState::Active;
                session.sync.retry();
                true
            }
            (BceState::Active | BceState::Unreachable, Verdict::Restarted { since, .. })
                if session.registered <= since =>
            {
                self.lose(now, mobile, bid);
                true
            }
            (BceState::Active | BceState::Unreachable, Verdict::Restarted { .. }) => {
                // Registered by either self of the MAG: it knows which.
                session.state = BceState::Active;
                session.sync.retry();
                self.probe(now, mobile, bid);
                false
            }
            (BceState::Active, Verdict::Up)
            | (BceState::Unreachable, Verdict::Down)
            | (BceState::Deregistering | BceState::Lost | BceState::Revoking, _) => false,
        }
    }

    /// A session's MAG does not have it any more. It can be registered anew for a while, and the mobile's
    /// prefixes and flows are kept for that.
    pub(super) fn lose(&mut self, now: Duration, mobile: &mut Mobile, bid: Bid) {
        self.forget_signalling(now, mobile, bid);
        if let Some(session) = mobile.session_mut(bid) {
            session.state = BceState::Lost;
            let deadline = now + self.config.min_delay_before_bce_delete;
            self.timers.set((mobile.id, Timer::Delete(bid)), deadline);
        }
    }

    /// Mobiles with a session at a MAG.
    pub(super) fn mobiles_at(&self, proxy_coa: ProxyCoa) -> Vec<MobileId> {
        let mobiles = self.cache.iter();
        let there = mobiles.filter(|mobile| sessions_at(mobile, proxy_coa).next().is_some());
        there.map(|mobile| mobile.id).collect()
    }
}

/// A mobile's sessions at a MAG.
pub(super) fn sessions_at(mobile: &Mobile, proxy_coa: ProxyCoa) -> impl Iterator<Item = &Bce> {
    mobile
        .sessions
        .iter()
        .filter(move |s| s.proxy_coa == proxy_coa)
}
