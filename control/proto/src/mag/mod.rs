//! The mobile access gateway.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `bul` | attached interfaces and what the LMA said about each |
//! | `signalling` | which Proxy Binding Updates are sent, and when (RFC 5213 §6.9) |
//! | `acknowledgement` | what the LMA answered to them (RFC 5213 §6.9.1.2) |
//! | `assignment` | which LMA of a pool is asked, and which one is assigned (RFC 6463) |
//! | `flow_mobility` | flows that the LMA puts on a session, one change at a time |
//! | `notification` | the same, as full lists (RFC 7864) |
//! | `presence` | whether a mobile is still there (RFC 5213 §6.13) |
//! | `answers` | what is answered to either |
//! | `liveness` | LMAs that die, return and restart (RFC 5847) |
//! | `revocation` | sessions that the LMA ends (RFC 5846) |
//! | `reregistration` | sessions that the LMA wants registered again (RFC 7077) |
//! | `advertising` | Router Advertisements (RFC 5213 §6.7) |
//! | `records` | what is written down, so that another MAG can go on |
//! | `tables` | what follows for the workers |

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{Binding, Hnp, Lmaa, MacAddr, MnId, MobileId, PortId};
use pmip_wire::{BindingErrorStatus, Message, NotificationReason};

use crate::command::Command;
use crate::config::MagConfig;
use crate::event::MagEvent;
use crate::heartbeat::{HeartbeatView, Heartbeats};
use crate::outbox::Outbox;
use crate::random::Random;
use crate::rate::RateLimit;
use crate::time::Now;
use crate::timer::Timers;

mod acknowledgement;
mod advertising;
mod answers;
mod assignment;
mod bul;
mod counters;
mod flow_mobility;
mod liveness;
mod notification;
mod presence;
mod reconfiguration;
mod records;
mod reregistration;
mod revocation;
mod signalling;
mod tables;

pub use bul::{Attachment, Bule, BuleState, FlowEntry};
pub use counters::MagCounters;
pub use presence::Probe;
pub use reconfiguration::MagConflict;

use bul::{Bul, SessionId};
use revocation::GlobalRevocations;
use serde::{Deserialize, Serialize};
use tables::Routes;

/// How long a mobile's last FMI is remembered after it left: longer than a copy may be on its way.
const LINGER: Duration = Duration::from_mins(1);

/// Answers per second to revocations from LMAs that are not configured, and at once.
const STRANGER_ANSWERS: (u32, u32) = (10, 10);

/// What wakes the MAG.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
enum Timer {
    /// When a PBU was not answered in time.
    Request(SessionId),
    /// When a registration should be refreshed.
    Refresh(SessionId),
    /// When a registration runs out.
    Expiry(SessionId),
    /// When a refused mobile is asked for again.
    Retry(SessionId),
    /// When a mobile was asked whether it is there and has not answered.
    Probe(SessionId),
    /// When a mobile gets an unsolicited Router Advertisement.
    Advertise(SessionId),
    /// When a flow's lifetime runs out.
    Flows(SessionId),
    /// When a mobile that left is forgotten.
    Forget(MobileId),
}

/// A mobile access gateway: a state machine without clock, socket or thread.
///
/// * Inputs are [`Mag::handle_message`], [`Mag::handle_timeout`], [`Mag::handle_router_solicitation`],
///   [`Mag::attach`] and [`Mag::detach`].
/// * After each input, fetch [`Mag::poll_command`] until it is empty and carry the commands out in
///   order; then [`Mag::poll_probe`] and [`Mag::poll_event`]; then [`Mag::poll_timeout`].
/// * Call [`Mag::handle_timeout`] when that time has come. Calling it early or often is harmless.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mag {
    config: MagConfig,
    bul: Bul,
    routes: Routes,
    timers: Timers<Timer>,
    /// Empty once all has been fetched.
    #[serde(skip)]
    outbox: Outbox<MagEvent>,
    probes: VecDeque<Probe>,
    next_sequence: u16,
    /// That number as it was last written down; `None` if nobody writes.
    #[serde(skip)]
    told_sequence: Option<u16>,
    heartbeats: Heartbeats,
    random: Random,
    global_revocations: GlobalRevocations,
    /// What routers have said of the ways to LMAs, in octets.
    learned_mtus: BTreeMap<Lmaa, u16>,
    strangers: RateLimit,
    counters: MagCounters,
}

/// Why a mobile cannot be attached.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AttachError {
    /// The attachment names an LMA that is not configured, or none is.
    #[error("no LMA {0:?} is configured")]
    UnknownLma(Option<Lmaa>),
    /// There are as many attached interfaces as there may be.
    #[error("{0} interfaces are attached already, the most that are configured")]
    Full(usize),
    /// A group address, which no station has.
    #[error("{0} is a group address")]
    GroupAddress(MacAddr),
}

/// A route of the MAG to a mobile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteView<'a> {
    /// The mobile.
    pub mn_id: &'a MnId,
    /// The prefix.
    pub hnp: Hnp,
    /// The access port.
    pub port: PortId,
    /// The mobile's link-layer address there.
    pub mac: MacAddr,
    /// Whether the prefix is another session's, and so not advertised on this link.
    pub off_link: bool,
    /// Where packets from the prefix are tunnelled to.
    pub lmaa: Lmaa,
}

impl Mag {
    /// A MAG without attached mobiles. `seed` is for what should differ from run to run, such as the
    /// initial sequence number; with the same seed and inputs the outputs are the same.
    pub fn new(config: MagConfig, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let next_sequence = random.next_u16();
        let local = config.proxy_coa.0;
        let watched = config.lmas.iter().map(|peer| (peer.lmaa.0, local));
        let mut heartbeats = Heartbeats::new(config.heartbeat, watched, &mut random);
        for lmaa in &config.pool {
            heartbeats.wake(Duration::ZERO, lmaa.0, local);
        }
        let (rate, burst) = STRANGER_ANSWERS;
        Self {
            config,
            bul: Bul::default(),
            routes: Routes::default(),
            timers: Timers::default(),
            outbox: Outbox::default(),
            probes: VecDeque::new(),
            next_sequence,
            told_sequence: None,
            heartbeats,
            random,
            global_revocations: GlobalRevocations::default(),
            learned_mtus: BTreeMap::new(),
            strangers: RateLimit::new(rate, burst),
            counters: MagCounters::default(),
        }
    }

    /// Takes in a message that came from `from` to one of the MAG's addresses.
    pub fn handle_message(&mut self, now: Now, from: Ipv6Addr, to: Ipv6Addr, message: &Message) {
        if to != self.config.proxy_coa.0 {
            self.counters.wrong_destination += 1;
            return;
        }
        let from = Lmaa(from);
        if !self.config.lmas.iter().any(|peer| peer.lmaa == from) {
            self.counters.unknown_peer += 1;
            if let Message::Bri(bri) = message {
                self.refuse_stranger(now.monotonic, from, bri);
            }
            return;
        }
        match message {
            Message::Pba(pba) => self.handle_pba(now, from, pba),
            Message::Fmi(fmi) => self.handle_fmi(now.monotonic, from, fmi),
            Message::Heartbeat(heartbeat) => {
                self.handle_heartbeat(now.monotonic, from, heartbeat);
            }
            Message::Bri(bri) => self.handle_bri(now, from, bri),
            Message::Upn(upn) if upn.reason == NotificationReason::FORCE_REREGISTRATION => {
                self.handle_force_reregistration(now, from, upn);
            }
            Message::Upn(upn) => self.handle_upn(now.monotonic, from, upn),
            Message::BindingError(error)
                if error.status == BindingErrorStatus::UNRECOGNIZED_MH_TYPE =>
            {
                self.handle_unknown_type(now.monotonic, from);
            }
            Message::Pbu(_)
            | Message::BindingError(_)
            | Message::Fma(_)
            | Message::Bra(_)
            | Message::Upa(_) => self.counters.unexpected += 1,
        }
    }

    /// Does what is due by now.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_due(now.monotonic) {
            match timer {
                Timer::Request(id) => self.handle_no_answer(now, id),
                Timer::Refresh(id) => self.refresh(now, id),
                Timer::Expiry(id) => self.handle_expiry(now, id),
                Timer::Retry(id) => self.register(now, id),
                Timer::Probe(id) => self.handle_no_sign(now, id),
                Timer::Advertise(id) => self.advertise(now.monotonic, id, &[]),
                Timer::Flows(id) => self.expire_flows(now.monotonic, id),
                Timer::Forget(mobile) => self.bul.forget(mobile),
            }
        }
        self.handle_heartbeat_timeout(now.monotonic);
    }

    /// When [`Mag::handle_timeout`] has something to do, on the monotonic clock.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let deadlines = [self.timers.next(), self.heartbeats.next()];
        deadlines.into_iter().flatten().min()
    }

    /// The next command.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.outbox.poll_command()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<MagEvent> {
        self.outbox.poll_event()
    }

    /// A mobile appeared on an access link: it is registered at its LMA, once more if it is registered
    /// there already.
    ///
    /// # Errors
    /// [`AttachError`]; then nothing has changed.
    pub fn attach(&mut self, now: Now, attachment: Attachment) -> Result<(), AttachError> {
        if attachment.mac.is_multicast() {
            return Err(AttachError::GroupAddress(attachment.mac));
        }
        let lmaa = self.first_asked(&attachment);
        let lmaa = lmaa.ok_or(AttachError::UnknownLma(attachment.lma))?;
        let present = self.bul.by_link((attachment.port, attachment.mac));
        let (id, same) = match present {
            Some(bule) => (Some(bule.id), self.is_same(bule, &attachment, lmaa)),
            None => (None, false),
        };
        if let (Some(id), true) = (id, same) {
            self.reattach(now, id, attachment);
            return Ok(());
        }
        if self.bul.sessions.len() >= self.config.max_sessions {
            return Err(AttachError::Full(self.config.max_sessions));
        }
        if let Some(id) = id {
            // Another mobile has the station's address now.
            self.withdraw(id);
            self.bul.unlink(id);
            self.deregister(now, id);
        }
        let link_local = self.config.link_local.unwrap_or(Ipv6Addr::UNSPECIFIED);
        let bule = self.bul.insert(attachment, lmaa);
        bule.link_local = link_local;
        bule.presence.appear(now.monotonic);
        let (id, mobile) = (bule.id, bule.mobile);
        self.timers.cancel(Timer::Forget(mobile));
        self.register(now, id);
        Ok(())
    }

    /// A mobile that may attach by being heard of was heard of. Unlike [`Mag::attach`], for which an
    /// operator or a link event asks, this does nothing for one that is registered already, or that the
    /// LMA has refused (RFC 5213 §6.9.1.2).
    ///
    /// # Errors
    /// [`AttachError`]; then nothing has changed.
    pub fn notice(&mut self, now: Now, attachment: Attachment) -> Result<(), AttachError> {
        let present = self.bul.by_link((attachment.port, attachment.mac));
        let settled = present.filter(|bule| match bule.state {
            BuleState::Registering
            | BuleState::Active
            | BuleState::Refused(_)
            | BuleState::Revoked => true,
            BuleState::Deregistering => false,
        });
        if settled.is_some_and(|bule| bule.attachment.mn_id == attachment.mn_id) {
            return Ok(());
        }
        self.attach(now, attachment)
    }

    /// A mobile left an access link: it is deregistered. Returns whether it was there.
    pub fn detach(&mut self, now: Now, port: PortId, mac: MacAddr) -> bool {
        let Some(bule) = self.bul.by_link((port, mac)) else {
            return false;
        };
        let id = bule.id;
        match bule.state {
            BuleState::Registering | BuleState::Active => self.deregister(now, id),
            BuleState::Deregistering => return false,
            BuleState::Refused(_) | BuleState::Revoked => {
                self.end_session(now.monotonic, id, false);
            }
        }
        true
    }

    /// A mobile asks for a Router Advertisement. Returns whether it is attached; otherwise the caller
    /// may want to attach it.
    pub fn handle_router_solicitation(&mut self, now: Now, port: PortId, mac: MacAddr) -> bool {
        let Some(bule) = self.bul.by_link((port, mac)) else {
            return false;
        };
        let (id, state) = (bule.id, bule.state);
        match state {
            BuleState::Active if self.bul.may_solicit(now.monotonic, id) => {
                self.advertise(now.monotonic, id, &[]);
            }
            BuleState::Active => self.counters.solicitations_unanswered += 1,
            BuleState::Deregistering => return false,
            BuleState::Registering | BuleState::Refused(_) | BuleState::Revoked => {}
        }
        true
    }

    /// Whether the LMA has revoked the session of a station, which is then not to be attached for what it
    /// sends, but only by somebody who knows that it left and came back.
    pub fn is_revoked(&self, port: PortId, mac: MacAddr) -> bool {
        let bule = self.bul.by_link((port, mac));
        bule.is_some_and(|bule| bule.state == BuleState::Revoked)
    }

    /// The LMAs, with what is known of their liveness, in the order of the configuration.
    pub fn peers(&self) -> impl Iterator<Item = (Lmaa, HeartbeatView)> {
        let lmas = self.config.lmas.iter().map(|peer| peer.lmaa);
        lmas.filter_map(|lmaa| Some((lmaa, self.heartbeats.view(lmaa.0)?)))
    }

    /// The binding update list, in the order the sessions began.
    pub fn bul(&self) -> impl Iterator<Item = &Bule> {
        self.bul.sessions.values()
    }

    /// The mobile of that number.
    pub fn mobile_name(&self, id: MobileId) -> Option<&MnId> {
        self.bul.mobiles.get(&id).map(|mobile| &mobile.mn_id)
    }

    /// What the workers were told about a prefix, if it is routed to a mobile.
    pub fn installed(&self, hnp: Hnp) -> Option<(&MnId, Binding)> {
        let id = self.routes.owner(hnp)?;
        let session = self.bul.sessions_of(id).into_iter().next()?;
        let bule = self.bul.sessions.get(&session)?;
        let binding = self.bul.mobiles.get(&id)?.installed.get(hnp)?;
        Some((&bule.attachment.mn_id, binding))
    }

    /// The routes to mobiles, by session.
    pub fn routes(&self) -> impl Iterator<Item = RouteView<'_>> {
        self.bul
            .sessions
            .values()
            .filter(|b| b.is_routed())
            .flat_map(|bule| {
                let own = bule.hnps.iter().map(|hnp| (*hnp, false));
                let granted = bule.off_link().into_iter().map(|hnp| (hnp, true));
                own.chain(granted).map(|(hnp, off_link)| RouteView {
                    mn_id: &bule.attachment.mn_id,
                    hnp,
                    port: bule.attachment.port,
                    mac: bule.attachment.mac,
                    off_link,
                    lmaa: bule.lmaa,
                })
            })
    }

    /// A mobile's number in the workers' tables.
    pub fn mobile_id(&self, mn_id: &MnId) -> Option<MobileId> {
        self.bul.mobile_of(mn_id)
    }

    /// What has been counted.
    pub fn counters(&self) -> MagCounters {
        self.counters
    }

    /// Tells the workers what has become of a mobile.
    fn update_routes(&mut self, mobile: MobileId) {
        self.routes
            .update(&mut self.bul, mobile, &self.config, &mut self.outbox);
    }

    /// Stops forwarding for a session, and forgets its prefixes and flows.
    fn withdraw(&mut self, id: SessionId) {
        let timers = [
            Timer::Probe(id),
            Timer::Refresh(id),
            Timer::Expiry(id),
            Timer::Advertise(id),
            Timer::Flows(id),
        ];
        for timer in timers {
            self.timers.cancel(timer);
        }
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        bule.withdrawn = true;
        bule.flows.clear();
        bule.granted.clear();
        let hnps = std::mem::take(&mut bule.hnps);
        let mobile = bule.mobile;
        let gone = matches!(bule.state, BuleState::Deregistering);
        self.update_routes(mobile);
        if !hnps.is_empty() && !gone {
            self.retract(id, &hnps);
        }
    }

    fn end_session(&mut self, now: Duration, id: SessionId, acknowledged: bool) {
        self.withdraw(id);
        self.timers.cancel(Timer::Request(id));
        self.timers.cancel(Timer::Retry(id));
        let Some(bule) = self.bul.remove(id) else {
            return;
        };
        let mobile = bule.mobile;
        if self.bul.sessions_of(mobile).is_empty() {
            // Copies of its last FMI may still be on their way, and are told by its number.
            self.timers.set(Timer::Forget(mobile), now + LINGER);
        }
        let mn_id = bule.attachment.mn_id;
        self.outbox.event(MagEvent::Detached {
            mn_id,
            acknowledged,
        });
    }
}

#[cfg(test)]
mod tests;
