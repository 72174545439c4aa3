//! What an LMA writes down, and an LMA that goes on from there.
//!
//! | record | what |
//! | --- | --- |
//! | mobile | its sessions and flows, and when which timer fires |
//! | peer | the last sequence number said to a MAG, and what it did not understand |
//! | heartbeat | its Restart Counter, and when it was last heard |
//! | pool | up to where prefixes were lent |
//! | service | whom commands have said to serve, or not to |
//! | draining | whether a command has said to take no new mobiles |
//! | ghost, recent | what is remembered for a while |
//!
//! Left out is what can be asked for again, or comes again: a PBU that waits for another session's end, requests to
//! register anew, and revocations under way. A session that was being revoked is over for the LMA that goes on; if its MAG
//! has not heard of it, it will when it refreshes the session; and no session of that mobile begins there before what is under
//! way has arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{Bid, Hnp, MnId, MobileId, ProxyCoa};
use serde::{Deserialize, Serialize};

use super::binding_cache::{Bce, BceState, Interface, Mobile, Name};
use super::fallback::Rescue;
use super::flow_mobility::FmcEntry;
use super::ghosts::Ghost;
use super::peers::{Peer, PeerImage};
use super::revocation::PATIENCE;
use super::sync::Recent;
use super::tables::Tunnels;
use super::{Lma, Timer};
use crate::config::LmaConfig;
use crate::event::{LmaEvent, RequestOutcome};
use crate::heartbeat;
use crate::outbox::Outbox;
use crate::record::{Record, Restored, Spoilt, decode, decode_key};
use crate::table::Installed;
use crate::time::Now;

/// What a record is about. Ascending keys tell of everything else but draining before they tell of mobiles.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Key {
    Peer(ProxyCoa),
    Heartbeat(Ipv6Addr),
    Pool(Hnp),
    Service(MnId),
    Ghost(ProxyCoa, MnId),
    Recent(ProxyCoa, MnId),
    /// Its number, high octet first: so they come in the order of their numbers.
    Mobile([u8; 4]),
    Draining,
}

/// A record that was read. Reading takes longer than using it, and needs nothing but the record.
#[derive(Debug)]
pub struct LmaRecord(Read);

/// Mobiles are many, so what is rare and large is elsewhere.
#[derive(Debug)]
enum Read {
    Mobile(Arrival),
    Peer(ProxyCoa, Box<PeerImage>),
    Heartbeat(Ipv6Addr, Box<heartbeat::Peer>),
    Pool(Hnp, u128),
    Service(MnId, bool),
    Ghost(Box<Note<Ghost>>),
    Recent(Box<Note<Recent>>),
    Draining(bool),
}

/// A mobile that comes back.
#[derive(Debug)]
struct Arrival {
    mobile: Box<Mobile>,
    name: Name,
    timers: Vec<(Timer, Duration)>,
}

/// What is remembered of a MAG and a mobile, and until when.
#[derive(Debug)]
struct Note<T>((ProxyCoa, MnId), (Duration, T));

impl LmaRecord {
    /// Reads a record.
    ///
    /// # Errors
    /// What it is about, and why it cannot be read.
    pub fn read(key: &[u8], value: &[u8]) -> Result<Self, Spoilt> {
        let spoilt = |what: String| move |why| Spoilt { what, why };
        let key: Key = decode_key(key).map_err(spoilt("a key".to_owned()))?;
        let read = match key.clone() {
            Key::Mobile(id) => {
                let id = MobileId(u32::from_be_bytes(id));
                decode(value).map(|image: MobileImage| Read::Mobile(image.into_arrival(id)))
            }
            Key::Peer(coa) => decode(value).map(|image| Read::Peer(coa, image)),
            Key::Heartbeat(address) => decode(value).map(|peer| Read::Heartbeat(address, peer)),
            Key::Pool(range) => decode(value).map(|told| Read::Pool(range, told)),
            Key::Service(mn_id) => decode(value).map(|on| Read::Service(mn_id, on)),
            Key::Ghost(coa, mn_id) => {
                decode(value).map(|ghost| Read::Ghost(Box::new(Note((coa, mn_id), ghost))))
            }
            Key::Recent(coa, mn_id) => {
                decode(value).map(|recent| Read::Recent(Box::new(Note((coa, mn_id), recent))))
            }
            Key::Draining => decode(value).map(Read::Draining),
        };
        read.map(Self)
            .map_err(|why| spoilt(format!("{key:?}"))(why))
    }
}

/// A mobile as it is written: [`MobileImage`] reads it.
#[derive(Serialize)]
struct MobileView<'a> {
    mn_id: &'a MnId,
    sessions: &'a [Bce],
    flows: &'a [FmcEntry],
    interfaces: &'a [(Interface, Bid)],
    rescues: &'a [Rescue],
    retiring: &'a BTreeSet<Hnp>,
    timers: Vec<(Timer, Duration)>,
}

#[derive(Debug, Deserialize)]
struct MobileImage {
    mn_id: MnId,
    sessions: Vec<Bce>,
    flows: Vec<FmcEntry>,
    interfaces: Vec<(Interface, Bid)>,
    rescues: Vec<Rescue>,
    retiring: BTreeSet<Hnp>,
    timers: Vec<(Timer, Duration)>,
}

impl MobileImage {
    /// The mobile that was written down, with its timers. Of what the workers were told, records say nothing.
    fn into_arrival(mut self, id: MobileId) -> Arrival {
        // As before it was written down: one identifier is in memory once.
        for (interface, _) in &mut self.interfaces {
            let mut known = self.sessions.iter().map(|session| &session.ll_id);
            if let Some(known) = known.find(|known| **known == interface.ll_id) {
                interface.ll_id.clone_from(known);
            }
        }
        let mobile = Mobile {
            id,
            mn_id: self.mn_id,
            sessions: self.sessions,
            flows: self.flows,
            interfaces: self.interfaces,
            rescues: self.rescues,
            retiring: self.retiring,
            installed: Installed::default(),
            deferred: None,
        };
        Arrival {
            name: mobile.mn_id.clone().into(),
            mobile: Box::new(mobile),
            timers: self.timers,
        }
    }
}

impl LmaRecord {
    /// The mobile that it is about, if it is about one.
    pub(super) fn into_mobile(self) -> Option<Box<Mobile>> {
        match self.0 {
            Read::Mobile(arrival) => Some(arrival.mobile),
            Read::Peer(..)
            | Read::Heartbeat(..)
            | Read::Pool(..)
            | Read::Service(..)
            | Read::Draining(_)
            | Read::Ghost(..)
            | Read::Recent(..) => None,
        }
    }

    /// The number of the mobile that a key is about, if it is about one.
    pub(super) fn mobile_of(key: &[u8]) -> Option<MobileId> {
        match decode_key(key) {
            Ok(Key::Mobile(id)) => Some(MobileId(u32::from_be_bytes(id))),
            Ok(
                Key::Peer(_)
                | Key::Heartbeat(_)
                | Key::Pool(_)
                | Key::Service(_)
                | Key::Draining
                | Key::Ghost(..)
                | Key::Recent(..),
            )
            | Err(_) => None,
        }
    }
}

/// What the workers were told before there was an LMA.
#[derive(Debug, Default)]
pub(super) struct Laid {
    /// `None` if nothing was.
    pub(super) tunnels: Option<Tunnels>,
    pub(super) installed: BTreeMap<MobileId, Installed>,
    /// What they have not been told yet.
    pub(super) outbox: Outbox<LmaEvent>,
}

/// What leads to mobiles that come back, before it is in order.
#[derive(Default)]
struct Arrivals {
    names: Vec<(Name, MobileId)>,
    prefixes: Vec<(Hnp, MobileId)>,
    timers: Vec<((MobileId, Timer), Duration)>,
    /// Who is not as it was written down.
    changed: BTreeSet<MobileId>,
}

impl Lma {
    /// From now on, [`Lma::poll_record`] tells what has changed. Nobody but who polls should ask for it. Copies do not tell.
    pub fn keep_records(&mut self) {
        self.cache.keep();
        self.peers.keep();
        self.heartbeats.keep();
        self.service.keep();
        self.draining.keep();
        self.ghosts.notes().keep();
        self.recent.notes().keep();
    }

    /// Something that has to be written down after an input, before any command that followed from it is carried out.
    pub fn poll_record(&mut self) -> Option<Record> {
        if let Some(id) = self.cache.pop_changed() {
            return Some(self.mobile_record(id));
        }
        if let Some(coa) = self.peers.pop_changed() {
            let image = self.peers.get(&coa).map(Peer::image);
            // Its numbers are used for what mobiles' records tell of.
            return Some(Record::lazy(&Key::Peer(coa), image.as_ref()));
        }
        if let Some((address, peer)) = self.heartbeats.pop_changed() {
            return Some(Record::lazy(&Key::Heartbeat(address), peer));
        }
        for pool in &mut self.pools {
            if let Some(told) = pool.tell() {
                return Some(Record::new(&Key::Pool(pool.range()), Some(&told)));
            }
        }
        if let Some(mn_id) = self.service.pop_changed() {
            let on = self.service.get(&mn_id);
            return Some(Record::new(&Key::Service(mn_id.clone()), on));
        }
        if self.draining.pop_changed().is_some() {
            return Some(Record::new(&Key::Draining, self.draining.get(&())));
        }
        if let Some(key) = self.ghosts.notes().pop_changed() {
            let note = self.ghosts.notes().get(&key);
            return Some(Record::new(&Key::Ghost(key.0, key.1.clone()), note));
        }
        let key = self.recent.notes().pop_changed()?;
        let note = self.recent.notes().get(&key);
        Some(Record::new(&Key::Recent(key.0, key.1.clone()), note))
    }

    /// Something of what was known is lost: peers are told of another Restart Counter.
    pub fn count_restart(&mut self, counter: u32) {
        self.heartbeats.count_restart(counter, &mut self.outbox);
    }

    fn mobile_record(&self, id: MobileId) -> Record {
        let timers = self
            .timers
            .between((id, Timer::FIRST), (id, Timer::LAST))
            .map(|((_, timer), at)| (timer, at));
        let view = self.cache.get(id).map(|mobile| MobileView {
            mn_id: &mobile.mn_id,
            sessions: &mobile.sessions,
            flows: &mobile.flows,
            interfaces: &mobile.interfaces,
            rescues: &mobile.rescues,
            retiring: &mobile.retiring,
            timers: timers.collect(),
        });
        Record::new(&Key::Mobile(id.0.to_be_bytes()), view.as_ref())
    }

    /// An LMA that goes on from the last record of each key, in ascending order of these. What the configuration does
    /// not allow any more is over. It tells what has changed, as after [`Lma::keep_records`]. Its first commands put all
    /// bindings in force; messages are among them only where some were due.
    pub fn restore(
        config: LmaConfig,
        seed: u64,
        now: Now,
        records: impl IntoIterator<Item = Result<LmaRecord, Spoilt>>,
    ) -> (Self, Restored) {
        Self::restore_onto(Laid::default(), config, seed, now, records)
    }

    /// As [`Lma::restore`], where the workers know something already.
    pub(super) fn restore_onto(
        laid: Laid,
        config: LmaConfig,
        seed: u64,
        now: Now,
        records: impl IntoIterator<Item = Result<LmaRecord, Spoilt>>,
    ) -> (Self, Restored) {
        let Laid {
            tunnels,
            mut installed,
            outbox,
        } = laid;
        let mut lma = Self::new(config, seed);
        lma.outbox.put_before(outbox);
        if let Some(tunnels) = tunnels {
            lma.tunnels = tunnels;
        }
        // What is done on the way has to be written down as well.
        lma.keep_records();
        let mut restored = Restored::default();
        let mut told = Vec::new();
        let mut arrivals = Arrivals::default();
        for record in records {
            match record {
                Ok(LmaRecord(Read::Mobile(mut arrival))) => {
                    let mobile = &mut arrival.mobile;
                    mobile.installed = installed.remove(&mobile.id).unwrap_or_default();
                    lma.take_mobile(arrival, &mut arrivals, &mut restored);
                }
                Ok(LmaRecord(read)) => lma.take_record(read, &mut told, &mut restored),
                Err(spoilt) => restored.lose(spoilt),
            }
        }
        for mut unused in installed.into_values() {
            lma.tunnels.withdraw(&mut unused, &mut lma.outbox);
        }
        lma.enter(now.monotonic, arrivals, &mut restored);
        for (range, told) in told {
            match lma.pools.iter_mut().find(|pool| pool.range() == range) {
                Some(pool) => pool.resume(now.monotonic, told),
                None => restored.spoil(&range, "there is no such pool any more"),
            }
        }
        let bare = lma.bare(now.monotonic);
        lma.revocations.go_on(now.monotonic + PATIENCE, bare);
        lma.go_on_turning_away(now.monotonic);
        lma.use_windows(now.monotonic);
        restored.mobiles = lma.cache.len();
        restored.sessions = lma.bindings().count();
        (lma, restored)
    }

    fn take_record(&mut self, read: Read, told: &mut Vec<(Hnp, u128)>, restored: &mut Restored) {
        const GONE: &str = "there is no such peer any more";
        match read {
            Read::Peer(coa, former) => match self.peers.get_mut(&coa) {
                Some(peer) => peer.go_on(&former),
                None => restored.spoil(&coa.0, GONE),
            },
            Read::Heartbeat(address, former) => {
                if !self.heartbeats.go_on(address, *former) {
                    restored.spoil(&address, GONE);
                }
            }
            Read::Pool(range, up_to) => told.push((range, up_to)),
            Read::Service(mn_id, on) => {
                let profile = self.config.profiles.entry(mn_id.clone());
                profile.or_default().enabled = on;
                self.service.restore(mn_id, on);
            }
            Read::Draining(on) => self.draining.restore((), on),
            // Taken before.
            Read::Mobile(..) => {}
            Read::Ghost(note) => {
                let Note(key, note) = *note;
                self.ghosts.notes().restore(key, note);
            }
            Read::Recent(note) => {
                let Note(key, note) = *note;
                self.recent.notes().restore(key, note);
            }
        }
    }

    /// Takes a mobile, without what leads to it.
    fn take_mobile(&mut self, arrival: Arrival, arrivals: &mut Arrivals, restored: &mut Restored) {
        let Arrival {
            mut mobile,
            name,
            timers,
        } = arrival;
        let id = mobile.id;
        if self.cache.get(id).is_some() {
            restored.spoil(&mobile.mn_id, "there are two of its number");
            self.tunnels
                .withdraw(&mut mobile.installed, &mut self.outbox);
            return;
        }
        let before = mobile.sessions.len();
        let mn_id = &mobile.mn_id;
        mobile.sessions.retain(|session| {
            let why = self.not_allowed(session);
            if let Some(why) = &why {
                restored.spoil(&format!("{mn_id} binding {}", session.bid), why);
            }
            why.is_none()
        });
        if mobile.sessions.len() != before {
            arrivals.changed.insert(id);
        }
        let own = mobile.sessions.iter().flat_map(|session| &session.hnps);
        let own = own.chain(&mobile.retiring).map(|hnp| (*hnp, id));
        arrivals.prefixes.extend(own);
        let timers = timers.into_iter().map(|(timer, at)| ((id, timer), at));
        arrivals.timers.extend(timers);
        arrivals.names.push((name, id));
        self.cache.restore(mobile);
    }

    /// Makes all that leads to mobiles, in order, which is quicker than one after the other; and goes on with each.
    fn enter(&mut self, now: Duration, arrivals: Arrivals, restored: &mut Restored) {
        let Arrivals {
            names,
            mut prefixes,
            timers,
            mut changed,
        } = arrivals;
        self.timers.fill(timers);
        let twice = self.cache.restore_names(names);
        if !twice.is_empty() {
            let gone: BTreeSet<MobileId> = twice.iter().map(|mobile| mobile.id).collect();
            prefixes.retain(|(_, id)| !gone.contains(id));
        }
        for mut mobile in twice {
            restored.spoil(&mobile.mn_id, "there are two of it");
            self.tunnels
                .withdraw(&mut mobile.installed, &mut self.outbox);
            self.timers
                .cancel_between((mobile.id, Timer::FIRST), (mobile.id, Timer::LAST));
        }
        for (hnp, id) in self.cache.restore_owners(prefixes) {
            changed.insert(id);
            self.give_up(id, hnp, restored);
        }
        self.cache.number_free();
        for hnp in self.cache.owned() {
            // One that no pool has is a profile's, or was in a pool that is gone.
            let _ = self.pools.iter_mut().any(|pool| pool.take(hnp));
        }
        for id in self.cache.ids() {
            if let Some(mobile) = self.cache.take(id) {
                for session in &mobile.sessions {
                    self.count(now, id, session);
                }
                self.resume(now, mobile, !changed.contains(&id));
            }
        }
    }

    /// A session is there again.
    fn count(&mut self, now: Duration, id: MobileId, session: &Bce) {
        self.charge(None, Some(session.registrar));
        self.bind(now, session.proxy_coa, session.lmaa);
        if let Some(outstanding) = session.sync.outstanding()
            && let Some(peer) = self.peers.get_mut(&session.proxy_coa)
        {
            peer.go_on_waiting(outstanding.sequence, (id, session.bid));
        }
    }

    /// A prefix that a mobile had is another one's: its sessions with it are over.
    fn give_up(&mut self, id: MobileId, hnp: Hnp, restored: &mut Restored) {
        let Some(mut mobile) = self.cache.take(id) else {
            return;
        };
        let before = mobile.hnps().into_owned();
        let mn_id = &mobile.mn_id;
        mobile.sessions.retain(|session| {
            let stays = !session.owns(hnp);
            if !stays {
                let what = format!("{mn_id} binding {}", session.bid);
                restored.spoil(&what, "a prefix of it is another mobile's");
            }
            stays
        });
        mobile.retiring.remove(&hnp);
        self.tunnels.forget(&mut mobile.installed, hnp);
        let left = mobile.hnps();
        for freed in before.iter().filter(|hnp| !left.contains(hnp)) {
            if self.cache.owner(*freed) == Some(id) && !mobile.retiring.contains(freed) {
                self.cache.set_owner(*freed, None);
            }
        }
        drop(left);
        self.cache.restore(mobile);
    }

    /// Why there can be no such session any more.
    fn not_allowed(&self, session: &Bce) -> Option<&'static str> {
        if !self.config.lmaas.contains(&session.lmaa) {
            return Some("its LMAA is not ours any more");
        }
        if !self.peers.contains_key(&session.proxy_coa) {
            return Some("its MAG is no peer any more");
        }
        let anchored = |hnp: &Hnp| {
            self.reserved.contains(hnp) || self.pools.iter().any(|pool| pool.covers(*hnp))
        };
        let anchored = session.hnps.iter().all(anchored);
        (!anchored).then_some("a prefix of it is not anchored here any more")
    }

    /// Goes on with a mobile: its bindings are in force, what was due is done. One that is not `whole` is not as it was
    /// written down.
    fn resume(&mut self, now: Duration, mut mobile: Box<Mobile>, whole: bool) {
        let said = self.outbox.said();
        let revoked: Vec<(ProxyCoa, Bid)> = mobile
            .sessions
            .iter()
            .filter(|s| s.state == BceState::Revoking)
            .map(|s| (s.proxy_coa, s.bid))
            .collect();
        for (mag, bid) in revoked {
            self.delete_revoked(now, &mut mobile, mag, &[bid], RequestOutcome::NoAnswer);
        }
        self.switch(now, &mut mobile);
        self.signal_on(now, &mut mobile);
        // What follows from the records alone would follow from them again.
        if whole && self.outbox.said() == said && !mobile.is_idle() {
            self.cache.restore(mobile);
        } else {
            self.cache.put(mobile);
        }
    }
}
