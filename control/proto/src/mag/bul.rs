//! The binding update list: attached interfaces and what the LMA said about each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{
    AccessTechnology, Fid, HandoffIndicator, Hnp, Lmaa, MacAddr, MnId, MnLinkLayerId, MobileId,
    PortId, TrafficSelector,
};
use pmip_wire::{Bra, Message, Timestamp};
use serde::{Deserialize, Serialize};

use super::presence::Presence;
use crate::kept::Kept;
use crate::rate::RateLimit;
use crate::table::Installed;

const SECOND: Duration = Duration::from_secs(1);

/// A mobile that appeared on an access link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attachment {
    /// The mobile.
    pub mn_id: MnId,
    /// Link-layer identifier of its interface, if known.
    pub ll_id: Option<MnLinkLayerId>,
    /// What it is attached by.
    pub access: AccessTechnology,
    /// The access port.
    pub port: PortId,
    /// Its link-layer address there.
    pub mac: MacAddr,
    /// What is known about where it comes from; never 2 or 3 on a guess (RFC 5213 §6.9.1.1).
    pub handoff: HandoffIndicator,
    /// Prefixes to ask for; any if empty.
    pub wanted: Vec<Hnp>,
    /// Its LMA; the first configured one if `None`.
    pub lma: Option<Lmaa>,
}

/// Number of an attached interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct SessionId(pub(crate) u32);

/// Where an attached interface is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BuleState {
    /// The LMA has been asked and has not accepted; nothing is forwarded.
    Registering,
    /// The LMA has accepted.
    Active,
    /// The mobile is gone and the LMA is being told.
    Deregistering,
    /// The LMA has refused with this status; nothing is forwarded.
    Refused(u8),
    /// The LMA has revoked the registration (RFC 5846); nothing is forwarded, and nothing asked for
    /// until the mobile attaches anew or the LMA wants it registered.
    Revoked,
}

/// Binding update list entry: one attached interface of a mobile (RFC 5213 §6.1).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bule {
    pub(crate) id: SessionId,
    pub(crate) mobile: MobileId,
    /// How it appeared.
    pub attachment: Attachment,
    /// Its LMA.
    pub lmaa: Lmaa,
    /// Where it is in its life.
    pub state: BuleState,
    /// Its prefixes, ascending; empty until the LMA has accepted.
    pub hnps: Vec<Hnp>,
    /// Our link-local address on its link.
    pub link_local: Ipv6Addr,
    /// When the registration runs out, on the monotonic clock.
    pub expires: Duration,
    /// Flows that the LMA put on it.
    pub flows: Vec<FlowEntry>,
    /// Prefixes of other sessions that the LMA listed for it, for all flows alike (RFC 7864 §3.2.2).
    pub granted: Vec<Hnp>,
    /// When the last full list came: PBAs to earlier PBUs have nothing to say about flows.
    pub(crate) listed: Option<Duration>,
    /// The PBU without answer.
    pub(crate) request: Option<Request>,
    pub(crate) presence: Presence,
    /// Whether the LMA repeated other identifiers than were sent: no PBU until an operator acts.
    pub(crate) muted: bool,
    /// Sequence number of the last PBU, once the session's own numbers order them.
    pub(crate) sequence: Option<u16>,
    /// Of the last PBU; timestamps never repeat.
    pub(crate) last_timestamp: Timestamp,
    /// Whether its routes are gone although it is not.
    pub(crate) withdrawn: bool,
    /// How often it is answered when it solicits a Router Advertisement.
    solicitations: RateLimit,
    /// What the next PBU says, which is no mere refresh: the mobile appeared again, or its LMA may have
    /// lost it.
    pub(crate) anew: Option<HandoffIndicator>,
}

/// Router Solicitations of one interface that are answered per second, and at once. RFC 4861 §6.2.6 lets
/// three seconds pass between advertisements to all nodes; these go to one.
const SOLICITATIONS: (u32, u32) = (1, 3);

impl Bule {
    /// Whether packets are forwarded for it. A mobile that left is served until the LMA knows.
    pub(crate) fn is_routed(&self) -> bool {
        match self.state {
            BuleState::Active => true,
            BuleState::Deregistering => !self.withdrawn,
            BuleState::Registering | BuleState::Refused(_) | BuleState::Revoked => false,
        }
    }

    /// Prefixes routed to it that are not its own.
    pub fn off_link(&self) -> BTreeSet<Hnp> {
        let of_flows = self.flows.iter().flat_map(|f| &f.off_link);
        of_flows
            .chain(&self.granted)
            .filter(|hnp| !self.hnps.contains(hnp))
            .copied()
            .collect()
    }

    pub(crate) fn link(&self) -> (PortId, MacAddr) {
        (self.attachment.port, self.attachment.mac)
    }
}

/// A flow that the LMA put on a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowEntry {
    /// Its number, where the LMA's dialect has one (RFC 7864 §3.4).
    pub fid: Option<Fid>,
    /// Its downlink packets.
    pub selector: TrafficSelector,
    /// Prefixes that they can be addressed to and that are another MAG's: routed for this flow.
    pub off_link: Vec<Hnp>,
    /// When it is forgotten; `None` for never.
    pub expires: Option<Duration>,
}

/// The PBU without answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) sequence: u16,
    pub(crate) handoff: HandoffIndicator,
    /// When it was sent: lifetimes count from here (RFC 6275 §11.7.3), so that the registration is
    /// never believed in after the LMA has forgotten it.
    pub(crate) sent: Duration,
    /// Copies sent, each with a number and timestamp of its own.
    pub(crate) copies: u32,
    /// Of these, the last ones that a refusal called for at once.
    pub(crate) prompt: u32,
    /// Time to wait for the answer.
    pub(crate) patience: Duration,
}

/// A mobile at this MAG: its sessions, and what is known about the mobile as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MobileEntry {
    pub(crate) mn_id: MnId,
    pub(crate) sessions: BTreeSet<SessionId>,
    pub(crate) installed: Installed,
    /// The last FMI that was not a copy of an earlier one.
    pub(crate) last_fmi: Option<Answered>,
    /// The last BRI of that kind: from whom, its number, our answer.
    pub(crate) last_bri: Option<(Lmaa, u16, Bra)>,
    /// When its last PBUs were sent, no more than the update rate asks for.
    sent: VecDeque<Duration>,
}

/// What is written down of a mobile. Its routes follow from its sessions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MobileImage {
    mn_id: MnId,
    last_fmi: Option<Answered>,
    last_bri: Option<(Lmaa, u16, Bra)>,
    sent: VecDeque<Duration>,
}

impl MobileEntry {
    /// What another MAG has to know of it.
    pub(crate) fn image(&self) -> MobileImage {
        MobileImage {
            mn_id: self.mn_id.clone(),
            last_fmi: self.last_fmi.clone(),
            last_bri: self.last_bri.clone(),
            sent: self.sent.clone(),
        }
    }
}

/// An FMI that was answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub(crate) lmaa: Lmaa,
    pub(crate) sequence: u16,
    /// When it came.
    pub(crate) at: Duration,
    /// What a copy of it is answered with.
    pub(crate) answer: Message,
    /// Whether the LMA wants an answer at all.
    pub(crate) wanted: bool,
}

/// All attached interfaces.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Bul {
    pub(crate) sessions: Kept<SessionId, Bule>,
    by_link: BTreeMap<(PortId, MacAddr), SessionId>,
    pub(crate) mobiles: Kept<MobileId, MobileEntry>,
    by_name: BTreeMap<MnId, MobileId>,
    free_mobiles: BTreeSet<MobileId>,
    next_mobile: u32,
    next_session: u32,
}

impl Bul {
    pub(crate) fn by_link(&self, link: (PortId, MacAddr)) -> Option<&Bule> {
        self.sessions.get(self.by_link.get(&link)?)
    }

    pub(crate) fn mobile_of(&self, mn_id: &MnId) -> Option<MobileId> {
        self.by_name.get(mn_id).copied()
    }

    /// A mobile's sessions, in the order they began.
    pub(crate) fn sessions_of(&self, mobile: MobileId) -> Vec<SessionId> {
        let entry = self.mobiles.get(&mobile);
        entry
            .map(|m| m.sessions.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Begins a session; the caller checked that the link has none.
    pub(crate) fn insert(&mut self, attachment: Attachment, lmaa: Lmaa) -> &mut Bule {
        let mobile = self.mobile(&attachment.mn_id);
        while self.sessions.contains_key(&SessionId(self.next_session)) {
            self.next_session = self.next_session.wrapping_add(1);
        }
        let id = SessionId(self.next_session);
        self.next_session = self.next_session.wrapping_add(1);
        self.by_link.insert((attachment.port, attachment.mac), id);
        if let Some(entry) = self.mobiles.get_mut(&mobile) {
            entry.sessions.insert(id);
        }
        self.sessions.or_insert(
            id,
            Bule {
                id,
                mobile,
                attachment,
                lmaa,
                state: BuleState::Registering,
                hnps: Vec::new(),
                link_local: Ipv6Addr::UNSPECIFIED,
                expires: Duration::ZERO,
                flows: Vec::new(),
                granted: Vec::new(),
                listed: None,
                request: None,
                presence: Presence::default(),
                muted: false,
                sequence: None,
                last_timestamp: Timestamp::default(),
                withdrawn: false,
                solicitations: RateLimit::new(SOLICITATIONS.0, SOLICITATIONS.1),
                anew: None,
            },
        )
    }

    /// Brings back a mobile that another list had, without its sessions.
    pub(crate) fn restore_mobile(
        &mut self,
        id: MobileId,
        image: MobileImage,
    ) -> Result<(), &'static str> {
        let MobileImage {
            mn_id,
            last_fmi,
            last_bri,
            sent,
        } = image;
        if self.by_name.contains_key(&mn_id) {
            return Err("there are two of it");
        }
        self.by_name.insert(mn_id.clone(), id);
        let entry = MobileEntry {
            mn_id,
            sessions: BTreeSet::new(),
            installed: Installed::default(),
            last_fmi,
            last_bri,
            sent,
        };
        self.mobiles.insert(id, entry);
        Ok(())
    }

    /// Brings back a session of a mobile that is known.
    pub(crate) fn restore_session(&mut self, bule: Bule) -> Result<(), &'static str> {
        let (id, link) = (bule.id, bule.link());
        let entry = self.mobiles.get_mut(&bule.mobile);
        let entry = entry.filter(|entry| entry.mn_id == bule.attachment.mn_id);
        let entry = entry.ok_or("its mobile is not known")?;
        if self.sessions.contains_key(&id) {
            return Err("there are two of it");
        }
        entry.sessions.insert(id);
        // Of two on one link, the earlier is ending.
        let latest = self.by_link.entry(link).or_insert(id);
        *latest = (*latest).max(id);
        self.sessions.insert(id, bule);
        Ok(())
    }

    /// Finds the numbers that restored mobiles and sessions leave.
    pub(crate) fn number_free(&mut self) {
        let last = self.mobiles.keys().next_back();
        self.next_mobile = last.map_or(0, |id| id.0 + 1);
        let free = (0..self.next_mobile).map(MobileId);
        self.free_mobiles = free.filter(|id| !self.mobiles.contains_key(id)).collect();
        let last = self.sessions.keys().next_back();
        self.next_session = last.map_or(0, |id| id.0.wrapping_add(1));
    }

    /// Whether a Router Solicitation of this interface is to be answered now.
    pub(crate) fn may_solicit(&mut self, now: Duration, id: SessionId) -> bool {
        let bule = self.sessions.get_mut(&id);
        bule.is_some_and(|bule| bule.solicitations.allow(now))
    }

    fn mobile(&mut self, mn_id: &MnId) -> MobileId {
        if let Some(id) = self.by_name.get(mn_id) {
            return *id;
        }
        let id = self.free_mobiles.pop_first().unwrap_or_else(|| {
            let id = MobileId(self.next_mobile);
            self.next_mobile += 1;
            id
        });
        self.by_name.insert(mn_id.clone(), id);
        let entry = MobileEntry {
            mn_id: mn_id.clone(),
            sessions: BTreeSet::new(),
            installed: Installed::default(),
            last_fmi: None,
            sent: VecDeque::new(),
            last_bri: None,
        };
        self.mobiles.insert(id, entry);
        id
    }

    /// Takes a mobile's turn to send a PBU, of which there are `rate` in any second (RFC 6275 §11.8);
    /// if it has none left, when it has one again.
    pub(crate) fn take_turn(
        &mut self,
        mobile: MobileId,
        now: Duration,
        rate: usize,
    ) -> Option<Duration> {
        let sent = &mut self.mobiles.get_mut(&mobile)?.sent;
        while sent.front().is_some_and(|at| *at + SECOND <= now) {
            sent.pop_front();
        }
        if sent.len() < rate.max(1) {
            sent.push_back(now);
            return None;
        }
        sent.front().map(|at| *at + SECOND)
    }

    /// Gives the link up to another mobile, while the session ends on its own.
    pub(crate) fn unlink(&mut self, id: SessionId) {
        if let Some(bule) = self.sessions.get(&id) {
            self.by_link.remove(&bule.link());
        }
    }

    /// Ends a session. The mobile stays known until [`Bul::forget`].
    pub(crate) fn remove(&mut self, id: SessionId) -> Option<Bule> {
        let bule = self.sessions.remove(&id)?;
        if self.by_link.get(&bule.link()) == Some(&id) {
            self.by_link.remove(&bule.link());
        }
        if let Some(entry) = self.mobiles.get_mut(&bule.mobile) {
            entry.sessions.remove(&id);
        }
        Some(bule)
    }

    /// Forgets a mobile, if it has no session.
    pub(crate) fn forget(&mut self, mobile: MobileId) {
        if self
            .mobiles
            .get(&mobile)
            .is_some_and(|m| m.sessions.is_empty())
            && let Some(entry) = self.mobiles.remove(&mobile)
        {
            self.by_name.remove(&entry.mn_id);
            self.free_mobiles.insert(mobile);
        }
    }
}
