//! The local mobility anchor.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `pbu` | which Proxy Binding Updates are accepted (RFC 5213 §5.3.1) |
//! | `sessions` | what they do to sessions (RFC 5213 §5.3.2 to §5.3.5) |
//! | `answers` | their acknowledgements (RFC 5213 §5.3.6) |
//! | `assignment` | which LMA of a pool a mobile belongs to (RFC 6463) |
//! | `prefixes` | where prefixes come from and when they go back |
//! | `lookup` | which session a PBU is about (RFC 5213 §5.4.1) |
//! | `binding_cache` | sessions, mobiles, owners of prefixes |
//! | `commands` | what operators ask of flows |
//! | `flow_mobility` | which flow is on which access, and what a MAG has to know for that |
//! | `change` | what a MAG is told about flows, whatever the dialect |
//! | `sync` | what a MAG knows, and the next change to tell it |
//! | `exchange` | the signalling of those changes: sequence numbers, copies, answers |
//! | `dialect` | how such a change looks on the wire |
//! | `liveness` | MAGs that die, return and restart (RFC 5847) |
//! | `fading` | what is remembered for a while only |
//! | `fallback` | where packets go meanwhile |
//! | `revocation` | bindings that the LMA ends (RFC 5846) |
//! | `ghosts` | PBUs for them that come all the same |
//! | `service` | mobiles that are served no longer |
//! | `overload` | mobiles that are not taken while those that are here keep the LMA busy |
//! | `notifications` | mobiles that a MAG shall register again (RFC 7077) |
//! | `refusals` | which message a peer does not know |
//! | `tables` | what follows for the workers |
//! | `questions` | what would follow if |
//! | `reconfiguration` | another configuration while it runs |
//! | `records` | what is written down, so that another LMA can go on |
//! | `following` | an LMA that hears that, and may have to |

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{Bid, Fid, Hnp, Lmaa, MnId, MobileId, PathId, ProxyCoa};
use pmip_wire::{BindingErrorStatus, Message};

use crate::command::Command;
use crate::config::LmaConfig;
use crate::event::{DeletionReason, LmaEvent, MoveFailure};
use crate::heartbeat::Heartbeats;
use crate::kept::Kept;
use crate::outbox::Outbox;
use crate::pool::PrefixPool;
use crate::random::Random;
use crate::rate::RateLimit;
use crate::time::Now;
use crate::timer::Timers;

mod answers;
mod assignment;
mod binding_cache;
mod change;
mod commands;
mod counters;
mod dialect;
mod exchange;
mod fading;
mod fallback;
mod flow_mobility;
mod following;
mod ghosts;
mod liveness;
mod lookup;
mod notifications;
mod overload;
mod pbu;
mod peers;
mod prefixes;
mod questions;
mod reconfiguration;
mod records;
mod refusals;
mod revocation;
mod service;
mod sessions;
mod sync;
mod tables;

pub use binding_cache::{Bce, BceState};
pub use counters::LmaCounters;
pub use flow_mobility::{FlowError, FlowRequest, FlowState, FmcEntry, MoveStarted, Moving};
pub use following::LmaFollower;
pub use notifications::ReregistrationError;
pub use peers::{PeerCounters, PeerView};
pub use questions::WhatIf;
pub use reconfiguration::LmaConflict;
pub use records::LmaRecord;
pub use revocation::{RevocationError, RevocationScope};

use assignment::Inquiries;
use binding_cache::{BindingCache, Mobile};
use fading::Fading;
use ghosts::Ghost;
use notifications::Notifications;
use peers::Peer;
use revocation::Revocations;
use serde::{Deserialize, Serialize};
use sync::Recent;
use tables::Tunnels;

/// Answers per second to PBUs from MAGs that are not configured, and at once.
const UNKNOWN_PEER_ANSWERS: (u32, u32) = (10, 10);

/// What wakes the LMA.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
enum Timer {
    /// When a PBU has waited long enough for another session's de-registration.
    Deferred,
    /// When a MAG that a flow left may forget it.
    Drain(Fid),
    /// When a session's lifetime runs out.
    Expiry(Bid),
    /// When a deregistered session was not revived in time.
    Delete(Bid),
    /// When an FMI was not answered in time.
    Fmi(Bid),
    /// When flow state at a MAG has to be refreshed, or is over.
    FlowState(Bid),
    /// When failed signalling is tried again.
    Resync(Bid),
    /// Until when the MAG that a session left last may route for it, as it has not said that it does not.
    Left,
    /// Until when others may, that nobody expects to say so any more.
    Forsaken,
}

impl Timer {
    /// No timer of a mobile comes before this one in their order, and none after [`Timer::LAST`].
    const FIRST: Self = Self::Deferred;
    const LAST: Self = Self::Forsaken;
}

/// A local mobility anchor: a state machine without clock, socket or thread.
///
/// * Inputs are [`Lma::handle_message`], [`Lma::handle_timeout`] and the flow commands.
/// * After each input, fetch [`Lma::poll_command`] until it is empty and carry the commands out in
///   order; then [`Lma::poll_event`]; then [`Lma::poll_timeout`].
/// * Call [`Lma::handle_timeout`] when that time has come. Calling it early or often is harmless.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lma {
    config: LmaConfig,
    /// Whom commands have said to serve, or not to: another configuration does not change that.
    service: Kept<MnId, bool>,
    /// Whether no new mobiles are taken; nothing until a command has said so.
    draining: Kept<(), bool>,
    /// Whether more comes in than can be kept up with; no record tells of it.
    overloaded: bool,
    inquiries: Inquiries,
    /// Prefixes of profiles: never lent by a pool.
    reserved: BTreeSet<Hnp>,
    pools: Vec<PrefixPool>,
    cache: BindingCache,
    peers: Kept<ProxyCoa, Peer>,
    /// MAGs whose window of outstanding FMIs has room again.
    freed: BTreeSet<ProxyCoa>,
    heartbeats: Heartbeats,
    /// How many bindings there are with each MAG.
    bound: BTreeMap<ProxyCoa, usize>,
    revocations: Revocations,
    ghosts: Fading<Ghost>,
    /// What MAGs were asked to add last, for as long as copies may be under way.
    recent: Fading<Recent>,
    notifications: Notifications,
    tunnels: Tunnels,
    timers: Timers<(MobileId, Timer)>,
    /// Empty once all has been fetched.
    #[serde(skip)]
    outbox: Outbox<LmaEvent>,
    random: Random,
    strangers: RateLimit,
    counters: LmaCounters,
}

/// A mobile's bindings and flows.
#[derive(Clone, Copy, Debug)]
pub struct MobileView<'a> {
    /// The mobile.
    pub mn_id: &'a MnId,
    /// Its number in the workers' tables.
    pub id: MobileId,
    /// Its sessions, ascending by BID.
    pub sessions: &'a [Bce],
    /// Its flows, ascending by priority.
    pub flows: &'a [FmcEntry],
    mobile: &'a Mobile,
}

impl MobileView<'_> {
    /// Where a flow of the mobile stands.
    pub fn flow_state(&self, flow: &FmcEntry) -> FlowState {
        self.mobile.flow_state(flow)
    }
}

impl Lma {
    /// An LMA without bindings. `seed` is for what should differ from run to run, such as initial
    /// sequence numbers; with the same seed and inputs the outputs are the same.
    pub fn new(mut config: LmaConfig, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut pools = std::mem::take(&mut config.pools);
        let profiles = config.profiles.values();
        let reserved: BTreeSet<Hnp> = profiles.flat_map(|p| p.prefixes.clone()).collect();
        for hnp in &reserved {
            for pool in &mut pools {
                pool.take(*hnp);
            }
        }
        let tunnels = config
            .peers
            .iter()
            .map(|p| (p.proxy_coa, p.tunnel))
            .collect();
        let peer = |p| Peer::new(p, &mut random);
        let peers: Vec<Peer> = config.peers.iter().map(peer).collect();
        let peers = config
            .peers
            .iter()
            .map(|p| p.proxy_coa)
            .zip(peers)
            .collect();
        let (rate, burst) = UNKNOWN_PEER_ANSWERS;
        let local = config.lmaas.first().map_or(Ipv6Addr::UNSPECIFIED, |a| a.0);
        let watched = config.peers.iter().map(|p| (p.proxy_coa.0, local));
        let mut heartbeats = Heartbeats::new(config.heartbeat, watched, &mut random);
        let mut outbox = Outbox::default();
        for peer in &config.peers {
            heartbeats.announce(peer.proxy_coa.0, &mut outbox);
        }
        let mut lma = Self {
            config,
            service: Kept::default(),
            draining: Kept::default(),
            overloaded: false,
            inquiries: Inquiries::default(),
            reserved,
            pools,
            cache: BindingCache::default(),
            peers,
            freed: BTreeSet::new(),
            heartbeats,
            bound: BTreeMap::new(),
            revocations: Revocations::new(random.next_u16()),
            ghosts: Fading::default(),
            recent: Fading::default(),
            notifications: Notifications::default(),
            tunnels: Tunnels::new(tunnels),
            timers: Timers::default(),
            outbox,
            random,
            strangers: RateLimit::new(rate, burst),
            counters: LmaCounters::default(),
        };
        lma.wake_members(Duration::ZERO);
        lma
    }

    /// Takes in a message that came from `from` to one of the LMA's addresses.
    pub fn handle_message(&mut self, now: Now, from: Ipv6Addr, to: Ipv6Addr, message: &Message) {
        if !self.config.lmaas.contains(&Lmaa(to)) {
            self.counters.wrong_destination += 1;
            return;
        }
        match message {
            Message::Pbu(pbu) => self.handle_pbu(now, from, to, pbu),
            Message::Fma(fma) => self.handle_fma(now.monotonic, ProxyCoa(from), fma),
            Message::Upa(upa) => {
                let from = ProxyCoa(from);
                if !self.handle_reregistration_upa(now.monotonic, from, upa) {
                    self.handle_upa(now.monotonic, from, upa);
                }
            }
            Message::BindingError(error) => match error.status {
                BindingErrorStatus::UNRECOGNIZED_MH_TYPE => {
                    self.handle_unknown_type(now.monotonic, ProxyCoa(from));
                }
                _ => self.counters.unexpected += 1,
            },
            Message::Heartbeat(heartbeat) => {
                self.handle_heartbeat(now.monotonic, from, to, heartbeat);
            }
            Message::Bra(bra) => self.handle_bra(now.monotonic, ProxyCoa(from), bra),
            Message::Pba(pba) => self.handle_pba(now, from, pba),
            Message::Fmi(_) | Message::Bri(_) | Message::Upn(_) => {
                self.counters.unexpected += 1;
            }
        }
        self.use_windows(now.monotonic);
    }

    /// Does what is due by now.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((id, timer)) = self.timers.pop_due(now.monotonic) {
            match timer {
                Timer::Deferred => self.resume_deferred(now, id),
                Timer::Drain(_) | Timer::Left | Timer::Forsaken => {
                    self.with_mobile(id, |lma, m| lma.settle(now.monotonic, m));
                }
                Timer::Expiry(bid) => self.with_mobile(id, |lma, m| {
                    lma.delete_session(now.monotonic, m, bid, DeletionReason::Expired);
                }),
                Timer::Delete(bid) => self.with_mobile(id, |lma, m| {
                    let lost = m.session(bid).is_some_and(|s| s.state == BceState::Lost);
                    let reason = if lost {
                        DeletionReason::Lost
                    } else {
                        DeletionReason::Deregistered
                    };
                    lma.delete_session(now.monotonic, m, bid, reason);
                }),
                Timer::Fmi(bid) => self.handle_fmi_timeout(now.monotonic, id, bid),
                Timer::FlowState(bid) => self.with_mobile(id, |lma, m| {
                    if let Some(session) = m.session_mut(bid) {
                        session.sync.expire(now.monotonic);
                    }
                    lma.settle(now.monotonic, m);
                }),
                Timer::Resync(bid) => self.with_mobile(id, |lma, m| {
                    if let Some(session) = m.session_mut(bid) {
                        session.sync.retry();
                    }
                    lma.settle(now.monotonic, m);
                }),
            }
        }
        self.handle_heartbeat_timeout(now.monotonic);
        self.handle_bra_timeout(now.monotonic);
        self.handle_upa_timeout(now.monotonic);
        self.use_windows(now.monotonic);
    }

    /// When [`Lma::handle_timeout`] has something to do, on the monotonic clock.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let deadlines = [
            self.timers.next(),
            self.heartbeats.next(),
            self.revocations.next(),
            self.notifications.next(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The next command.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.outbox.poll_command()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<LmaEvent> {
        self.outbox.poll_event()
    }

    /// All bindings, ascending by mobile and BID.
    pub fn bindings(&self) -> impl Iterator<Item = (&MnId, &Bce)> {
        let mobiles = self.cache.iter();
        mobiles.flat_map(|m| m.sessions.iter().map(move |s| (&m.mn_id, s)))
    }

    /// One mobile's bindings and flows.
    pub fn binding(&self, mn_id: &MnId) -> Option<MobileView<'_>> {
        self.cache.find(mn_id).map(|mobile| MobileView {
            mn_id: &mobile.mn_id,
            id: mobile.id,
            sessions: &mobile.sessions,
            flows: &mobile.flows,
            mobile,
        })
    }

    /// All flows, ascending by mobile and priority.
    pub fn flows(&self) -> impl Iterator<Item = (&MnId, &FmcEntry, FlowState)> {
        let mobiles = self.cache.iter();
        mobiles.flat_map(|m| m.flows.iter().map(move |f| (&m.mn_id, f, m.flow_state(f))))
    }

    /// The MAGs, in the order of their addresses.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> {
        self.peers
            .iter()
            .map(|(proxy_coa, peer)| peer.view(*proxy_coa, self.heartbeats.view(proxy_coa.0)))
    }

    /// What has been counted.
    pub fn counters(&self) -> &LmaCounters {
        &self.counters
    }

    /// Mobiles known, with and without bindings.
    pub fn mobiles(&self) -> usize {
        self.cache.len()
    }

    /// Tunnels in use.
    pub fn tunnels(&self) -> usize {
        self.tunnels.len()
    }

    /// The ends of a path in the workers' tables.
    pub fn path(&self, id: PathId) -> Option<(Lmaa, ProxyCoa)> {
        self.tunnels.ends(id)
    }

    /// Takes it that a MAG understands FMIs after all: an operator mended it.
    pub fn allow_signalling(&mut self, now: Now, proxy_coa: ProxyCoa) {
        let Some(peer) = self.peers.get_mut(&proxy_coa) else {
            return;
        };
        peer.refuses = false;
        let here = |m: &&Mobile| m.sessions.iter().any(|s| s.proxy_coa == proxy_coa);
        let mobiles: Vec<MobileId> = self.cache.iter().filter(here).map(|m| m.id).collect();
        for id in mobiles {
            self.with_mobile(id, |lma, mobile| lma.settle(now.monotonic, mobile));
        }
    }

    /// Works on a mobile outside the cache, so that the rest of the LMA is at hand.
    fn with_mobile(&mut self, id: MobileId, work: impl FnOnce(&mut Self, &mut Mobile)) {
        if let Some(mut mobile) = self.cache.take(id) {
            work(self, &mut mobile);
            self.cache.put(mobile);
        }
    }

    /// Draws all conclusions from a change of a mobile: tables first, then messages.
    fn settle(&mut self, now: Duration, mobile: &mut Mobile) {
        self.switch(now, mobile);
        self.signal(now, mobile);
    }

    /// Completes and cancels moves, and tells the workers.
    fn switch(&mut self, now: Duration, mobile: &mut Mobile) {
        // Most mobiles have none.
        let has_flows = !mobile.flows.is_empty();
        if has_flows {
            self.cancel_stranded(now, mobile);
        }
        self.rescue(mobile);
        if has_flows {
            let config = &self.config;
            for event in mobile.complete_moves(now, config.drain, config.signal_hosted) {
                self.outbox.event(event);
            }
            self.drain(now, mobile);
        }
        self.tunnels.update(mobile, &mut self.outbox);
        self.report_courses(mobile);
        self.release_retired(now, mobile);
    }

    /// Flows whose new accesses are gone move there no more.
    fn cancel_stranded(&mut self, now: Duration, mobile: &mut Mobile) {
        let gone = |f: &&FmcEntry| {
            f.moving
                .is_some_and(|m| mobile.active_session(m.to).is_none())
        };
        let stranded: Vec<Fid> = mobile.flows.iter().filter(gone).map(|f| f.fid).collect();
        for fid in stranded {
            self.cancel_move(now, mobile, fid, MoveFailure::AccessGone);
        }
    }

    /// Accesses that flows have left serve them for a while, as long as they are there.
    fn drain(&mut self, now: Duration, mobile: &mut Mobile) {
        let active: BTreeSet<Bid> = mobile.active().map(|s| s.bid).collect();
        for flow in &mut mobile.flows {
            flow.draining
                .retain(|bid, until| *until > now && active.contains(bid));
            let key = (mobile.id, Timer::Drain(flow.fid));
            match flow.draining.values().min() {
                Some(until) => self.timers.set(key, *until),
                None => self.timers.cancel(key),
            }
        }
    }

    fn cancel_move(&mut self, now: Duration, mobile: &mut Mobile, fid: Fid, reason: MoveFailure) {
        let mn_id = mobile.mn_id.clone();
        if let Some(moving) = mobile.flow_mut(fid).and_then(|f| f.moving.take()) {
            self.outbox.event(LmaEvent::FlowMoveFailed {
                mn_id,
                fid,
                to: moving.to,
                reason,
                times: moving.times(now),
            });
        }
    }

    /// Counts a session under the MAG that registered it, and no longer under another.
    fn charge(&mut self, from: Option<ProxyCoa>, to: Option<ProxyCoa>) {
        if let Some(peer) = from.and_then(|from| self.peers.get_mut(&from)) {
            peer.sessions -= 1;
        }
        if let Some(peer) = to.and_then(|to| self.peers.get_mut(&to)) {
            peer.sessions += 1;
        }
    }
}

#[cfg(test)]
mod tests;
