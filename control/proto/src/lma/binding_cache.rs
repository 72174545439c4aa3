//! The binding cache: mobiles, their sessions, and who owns which prefix.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{
    AccessTechnology, Bid, HandoffIndicator, Hnp, Lmaa, MnId, MnLinkLayerId, MobileId, ProxyCoa,
};
use pmip_wire::Timestamp;
use serde::{Deserialize, Serialize};

use super::fallback::Rescue;
use super::flow_mobility::FmcEntry;
use super::pbu::Deferred;
use super::sync::Sync;
use crate::exact;
use crate::kept::Changes;
use crate::table::Installed;

/// Where a session is in its life (RFC 5213 §5.3.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BceState {
    /// Registered.
    Active,
    /// Deregistered, and kept for MinDelayBeforeBCEDelete in case another MAG takes it over. Its
    /// packets are dropped meanwhile.
    Deregistering,
    /// Its MAG does not answer heartbeats: not used, but not void before its lifetime is over (RFC 5847 §3.1).
    Unreachable,
    /// Its MAG has restarted, or said that it has no such session: void, and kept for
    /// MinDelayBeforeBCEDelete in case it is registered anew, so that the mobile keeps its prefixes.
    Lost,
    /// Its MAG is being told that it is revoked (RFC 5846 §8.1): not used, and not to be revived.
    Revoking,
}

impl BceState {
    /// Whether the session is registered, as far as anybody knows, but its MAG cannot serve it.
    pub(crate) fn is_stranded(self) -> bool {
        match self {
            Self::Unreachable | Self::Lost => true,
            Self::Active | Self::Deregistering | Self::Revoking => false,
        }
    }
}

/// Binding cache entry: one session of a mobile, which is one attached interface (RFC 5213 §5.1,
/// RFC 7864 §5.1).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bce {
    /// Number of the session among those of the mobile.
    pub bid: Bid,
    /// BID-PRI, 1 to 127, lower wins (RFC 6089 §4.1).
    pub bid_priority: u8,
    /// Link-layer identifier of the interface, if the MAG supplied one.
    pub ll_id: Option<MnLinkLayerId>,
    /// Its access technology.
    pub access: AccessTechnology,
    /// Why it was last registered.
    pub handoff: HandoffIndicator,
    /// Its prefixes, ascending; never the off-link ones granted for flows.
    pub hnps: Vec<Hnp>,
    /// The MAG's link-local address towards the mobile; unspecified if the MAG never named or asked one.
    pub link_local: Ipv6Addr,
    /// This end of the tunnel: where the PBU was sent.
    pub lmaa: Lmaa,
    /// The MAG's end.
    pub proxy_coa: ProxyCoa,
    /// Who sent the last accepted PBU: the MAG, unless it named another address as its Proxy-CoA.
    pub(crate) registrar: ProxyCoa,
    /// Where it is in its life.
    pub state: BceState,
    /// When its lifetime runs out, on the monotonic clock.
    pub expires: Duration,
    /// When it was last registered, on the monotonic clock.
    pub updated: Duration,
    /// When its MAG last registered it other than as a refresh, on the monotonic clock.
    pub registered: Duration,
    /// Timestamp of the last accepted PBU; `None` when sequence numbers are in use.
    pub timestamp: Option<Timestamp>,
    /// Sequence number of the last accepted PBU.
    pub sequence: u16,
    pub(crate) sync: Sync,
}

impl Bce {
    /// Whether packets may be sent to it.
    pub fn is_active(&self) -> bool {
        match self.state {
            BceState::Active => true,
            BceState::Deregistering
            | BceState::Unreachable
            | BceState::Lost
            | BceState::Revoking => false,
        }
    }

    /// Whether its MAG cannot tell it from another: the messages about flows name an interface.
    pub(crate) fn is_twin(&self, other: &Self) -> bool {
        self.bid != other.bid
            && self.ll_id.is_some()
            && (self.proxy_coa, self.access, &self.ll_id)
                == (other.proxy_coa, other.access, &other.ll_id)
    }

    /// Whether the prefix is one of its own.
    pub fn owns(&self, hnp: Hnp) -> bool {
        self.hnps.contains(&hnp)
    }

    /// Prefixes of other sessions that its MAG has acknowledged to route.
    pub fn granted(&self) -> BTreeSet<Hnp> {
        self.sync.granted()
    }

    /// Whether an FMI to its MAG has not been answered yet.
    pub fn is_signalling(&self) -> bool {
        self.sync.outstanding().is_some()
    }
}

/// A mobile and everything known about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mobile {
    pub(crate) id: MobileId,
    pub(crate) mn_id: MnId,
    /// In ascending order of BID.
    pub(crate) sessions: Vec<Bce>,
    /// Flow mobility cache, in ascending order of priority.
    pub(crate) flows: Vec<FmcEntry>,
    /// BIDs given to interfaces, past and present: flows return with the interface they were on.
    pub(crate) interfaces: Vec<(Interface, Bid)>,
    /// Prefixes whose MAG cannot serve them, and the sessions that do instead.
    pub(crate) rescues: Vec<Rescue>,
    /// Prefixes that no session owns any more but a MAG may still route to the mobile.
    pub(crate) retiring: BTreeSet<Hnp>,
    /// What the workers were told.
    pub(crate) installed: Installed,
    /// A PBU that waits for another session to be deregistered.
    pub(crate) deferred: Option<Box<Deferred>>,
}

/// What tells interfaces of a mobile apart (RFC 5213 §5.4.1).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Interface {
    pub(crate) access: AccessTechnology,
    pub(crate) ll_id: Option<MnLinkLayerId>,
}

/// BIDs remembered per mobile, besides those in use.
const REMEMBERED_INTERFACES: usize = 16;

impl Mobile {
    fn new(id: MobileId, mn_id: MnId) -> Self {
        Self {
            id,
            mn_id,
            sessions: Vec::new(),
            flows: Vec::new(),
            interfaces: Vec::new(),
            rescues: Vec::new(),
            retiring: BTreeSet::new(),
            installed: Installed::default(),
            deferred: None,
        }
    }

    pub(crate) fn session(&self, bid: Bid) -> Option<&Bce> {
        self.sessions.iter().find(|s| s.bid == bid)
    }

    pub(crate) fn session_mut(&mut self, bid: Bid) -> Option<&mut Bce> {
        self.sessions.iter_mut().find(|s| s.bid == bid)
    }

    pub(crate) fn active(&self) -> impl Iterator<Item = &Bce> {
        self.sessions.iter().filter(|s| s.is_active())
    }

    /// The active session with this BID.
    pub(crate) fn active_session(&self, bid: Bid) -> Option<&Bce> {
        self.session(bid).filter(|s| s.is_active())
    }

    pub(crate) fn flow(&self, fid: flow::Fid) -> Option<&FmcEntry> {
        self.flows.iter().find(|f| f.fid == fid)
    }

    pub(crate) fn flow_mut(&mut self, fid: flow::Fid) -> Option<&mut FmcEntry> {
        self.flows.iter_mut().find(|f| f.fid == fid)
    }

    /// All prefixes of its sessions, ascending.
    pub(crate) fn hnps(&self) -> Cow<'_, [Hnp]> {
        // As most mobiles have one session.
        if let [only] = self.sessions.as_slice() {
            return Cow::Borrowed(&only.hnps);
        }
        let mut hnps: Vec<Hnp> = self.sessions.iter().flat_map(|s| s.hnps.clone()).collect();
        hnps.sort_unstable();
        hnps.dedup();
        Cow::Owned(hnps)
    }

    /// Adds a session under its BID.
    pub(crate) fn insert(&mut self, bce: Bce) {
        let at = self.sessions.partition_point(|s| s.bid < bce.bid);
        exact::insert(&mut self.sessions, at, bce);
    }

    /// A session is about to leave its place. A MAG has one session for an interface; here there may be two
    /// for a while, if a PBU of the MAG's former self comes late. The other one answers for what the MAG was
    /// told.
    pub(crate) fn pass_on(&mut self, now: Duration, bid: Bid) {
        let Some(session) = self.session(bid) else {
            return;
        };
        let twin = self.sessions.iter().find(|other| session.is_twin(other));
        if let Some(twin) = twin.map(|twin| twin.bid) {
            let told = session.sync.clone();
            if let Some(twin) = self.session_mut(twin) {
                twin.sync.inherit(&told, now);
            }
        }
    }

    /// The BID of an interface: the one it had, or the lowest never given to another.
    pub(crate) fn assign_bid(&mut self, interface: Interface) -> Option<Bid> {
        let known = self.interfaces.iter().find(|(i, _)| *i == interface);
        if let Some((_, bid)) = known
            && self.session(*bid).is_none()
        {
            return Some(*bid);
        }
        if self.interfaces.len() >= REMEMBERED_INTERFACES {
            let unused =
                |bid: Bid| self.session(bid).is_none() && self.flows.iter().all(|f| !f.names(bid));
            let oldest = self.interfaces.iter().position(|(_, bid)| unused(*bid));
            if let Some(oldest) = oldest {
                self.interfaces.remove(oldest);
            }
        }
        let taken: BTreeSet<Bid> = self.interfaces.iter().map(|(_, bid)| *bid).collect();
        let bid = (1..=u16::MAX)
            .filter_map(Bid::new)
            .find(|bid| !taken.contains(bid) && self.session(*bid).is_none())?;
        self.remember(interface, bid);
        Some(bid)
    }

    /// Notes that a session is now on another interface (HI = 2).
    pub(crate) fn rename_interface(&mut self, bid: Bid, interface: Interface) {
        self.interfaces
            .retain(|(i, b)| *b != bid && *i != interface);
        self.remember(interface, bid);
    }

    fn remember(&mut self, interface: Interface, bid: Bid) {
        let last = self.interfaces.len();
        exact::insert(&mut self.interfaces, last, (interface, bid));
    }

    /// Whether nothing is left to remember.
    pub(crate) fn is_idle(&self) -> bool {
        self.sessions.is_empty()
            && self.flows.is_empty()
            && self.retiring.is_empty()
            && self.deferred.is_none()
    }
}

/// A mobile's name as it is put in order: its first octets, as a number that is ordered as they are, tell most apart,
/// wherever the rest is in memory.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Name {
    beginning: u128,
    mn_id: MnId,
}

impl From<MnId> for Name {
    fn from(mn_id: MnId) -> Self {
        let mut beginning = [0; 16];
        for (to, from) in beginning.iter_mut().zip(mn_id.as_str().bytes()) {
            *to = from;
        }
        Self {
            beginning: u128::from_be_bytes(beginning),
            mn_id,
        }
    }
}

/// All mobiles, by number and by name, and the owner of each prefix in use.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct BindingCache {
    mobiles: Vec<Option<Box<Mobile>>>,
    free: BTreeSet<MobileId>,
    by_name: BTreeMap<MnId, MobileId>,
    #[serde(skip)]
    changes: Changes<MobileId>,
    owners: BTreeMap<Hnp, MobileId>,
}

impl BindingCache {
    /// Mobiles known.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn find(&self, mn_id: &MnId) -> Option<&Mobile> {
        self.get(self.id_of(mn_id)?)
    }

    pub(crate) fn id_of(&self, mn_id: &MnId) -> Option<MobileId> {
        self.by_name.get(mn_id).copied()
    }

    pub(crate) fn get(&self, id: MobileId) -> Option<&Mobile> {
        self.mobiles.get(id.0 as usize)?.as_deref()
    }

    /// All mobiles in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mobile> {
        self.by_name.values().filter_map(|id| self.get(*id))
    }

    /// Makes a mobile; the caller checked that there is none of this name.
    pub(crate) fn create(&mut self, mn_id: MnId) -> Option<MobileId> {
        let id = if let Some(id) = self.free.pop_first() {
            id
        } else {
            let id = MobileId(u32::try_from(self.mobiles.len()).ok()?);
            self.mobiles.push(None);
            id
        };
        let mobile = Box::new(Mobile::new(id, mn_id.clone()));
        *self.mobiles.get_mut(id.0 as usize)? = Some(mobile);
        self.by_name.insert(mn_id, id);
        Some(id)
    }

    /// Takes a mobile out to work on it; [`BindingCache::put`] brings it back.
    pub(crate) fn take(&mut self, id: MobileId) -> Option<Box<Mobile>> {
        self.mobiles.get_mut(id.0 as usize)?.take()
    }

    /// Brings a mobile back, or forgets it if nothing is left of it.
    pub(crate) fn put(&mut self, mobile: Box<Mobile>) {
        let id = mobile.id;
        self.changes.note(id);
        if mobile.is_idle() {
            self.by_name.remove(&mobile.mn_id);
            self.free.insert(id);
        } else if let Some(slot) = self.mobiles.get_mut(id.0 as usize) {
            *slot = Some(mobile);
        }
    }

    /// From now on, changes are noted.
    pub(super) fn keep(&mut self) {
        self.changes.begin();
    }

    /// The next mobile that may have changed, or be gone.
    pub(super) fn pop_changed(&mut self) -> Option<MobileId> {
        self.changes.pop()
    }

    /// Brings back a mobile that another cache had, without what leads to it; the caller checked that its number is not taken.
    pub(super) fn restore(&mut self, mobile: Box<Mobile>) {
        let place = mobile.id.0 as usize;
        if self.mobiles.len() <= place {
            self.mobiles.resize_with(place + 1, || None);
        }
        if let Some(slot) = self.mobiles.get_mut(place) {
            *slot = Some(mobile);
        }
    }

    /// Enters the names of mobiles that have been brought back; returns those whose name another one has.
    pub(super) fn restore_names(&mut self, mut names: Vec<(Name, MobileId)>) -> Vec<Mobile> {
        names.sort_unstable();
        let mut twice = Vec::new();
        names.dedup_by(|(later, id), (name, _)| {
            let same = later == name;
            if same {
                twice.push(*id);
            }
            same
        });
        let names = names.into_iter().map(|(name, id)| (name.mn_id, id));
        self.by_name = names.collect();
        let gone = twice.into_iter().filter_map(|id| self.take(id));
        gone.map(|mobile| *mobile).collect()
    }

    /// Enters the prefixes of mobiles that have been brought back, and are still there; returns those that overlap with
    /// another one's, which has the lower number.
    pub(super) fn restore_owners(
        &mut self,
        mut prefixes: Vec<(Hnp, MobileId)>,
    ) -> BTreeSet<(Hnp, MobileId)> {
        // Prefixes are ordered by address, and of one address the shortest comes first: what overlaps with one comes right
        // behind it.
        prefixes.sort_unstable();
        prefixes.dedup();
        let mut foreign = BTreeSet::new();
        let mut widest: Option<(Hnp, MobileId)> = None;
        for next in &prefixes {
            match widest.filter(|(hnp, _)| hnp.overlaps(next.0)) {
                None => widest = Some(*next),
                Some((_, id)) if id == next.1 => {}
                Some((_, id)) if id < next.1 => {
                    foreign.insert(*next);
                }
                Some(wider) => {
                    foreign.insert(wider);
                    widest = Some(*next);
                }
            }
        }
        if !foreign.is_empty() {
            prefixes.retain(|one| !foreign.contains(one));
        }
        self.owners = prefixes.into_iter().collect();
        foreign
    }

    /// The prefixes of all mobiles, ascending.
    pub(super) fn owned(&self) -> impl Iterator<Item = Hnp> {
        self.owners.keys().copied()
    }

    /// The numbers there are, ascending: those of all mobiles, and those between them.
    pub(super) fn ids(&self) -> impl Iterator<Item = MobileId> + use<> {
        let end = u32::try_from(self.mobiles.len()).unwrap_or(u32::MAX);
        (0..end).map(MobileId)
    }

    /// Finds the numbers between those of restored mobiles.
    pub(super) fn number_free(&mut self) {
        let ids = (0..).map(MobileId).zip(&self.mobiles);
        let free = ids.filter(|(_, slot)| slot.is_none());
        self.free = free.map(|(id, _)| id).collect();
    }

    /// The mobile that has a prefix.
    pub(crate) fn owner(&self, hnp: Hnp) -> Option<MobileId> {
        self.owners.get(&hnp).copied()
    }

    /// Whether any prefix in use has addresses in common with `hnp`.
    pub(crate) fn overlaps(&self, hnp: Hnp) -> bool {
        // Prefixes are ordered by address: a longer one in `hnp` comes at or after it, and of the
        // shorter ones around it the nearest before it is the only candidate, as none in use overlap.
        let after = self.owners.range(hnp..).next();
        let before = self.owners.range(..hnp).next_back();
        [after, before]
            .into_iter()
            .flatten()
            .any(|(other, _)| other.overlaps(hnp))
    }

    /// The prefixes in use that begin in `range`.
    pub(crate) fn in_use(&self, range: Hnp) -> impl Iterator<Item = Hnp> {
        let from = self.owners.range(range..);
        let inside = from.take_while(move |(hnp, _)| hnp.overlaps(range));
        inside.map(|(hnp, _)| *hnp)
    }

    /// Gives a prefix to a mobile, or to nobody.
    pub(crate) fn set_owner(&mut self, hnp: Hnp, owner: Option<MobileId>) {
        match owner {
            Some(id) => self.owners.insert(hnp, id),
            None => self.owners.remove(&hnp),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_their_texts() {
        let long = "a-name-of-more-than-16-octets";
        let mut texts = [
            "b",
            "a",
            "ab",
            "\u{e9}",
            long,
            "a-name-of-more-t",
            "a-name-of-more-than-17",
        ];
        let name = |text: &str| Name::from(MnId::new(text).unwrap());
        let mut names: Vec<Name> = texts.iter().copied().map(name).collect();
        names.sort();
        texts.sort_unstable();
        let sorted: Vec<&str> = names.iter().map(|name| name.mn_id.as_str()).collect();
        assert_eq!(sorted, texts);
    }
}
