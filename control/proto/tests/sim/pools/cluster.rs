//! Three LMAs and two MAGs on a virtual clock, joined by a network as that of one LMA is.

use std::collections::btree_map::OccupiedEntry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{HandoffIndicator, Hnp, Lmaa, MnId, PortId, ProxyCoa};
use pmip_proto::lma::{BceState, LmaRecord};
use pmip_proto::mag::BuleState;
use pmip_proto::{
    Attachment, Command, HeartbeatConfig, Lma, LmaConfig, LmaPeer, Mag, MagConfig, MagPeer, Now,
    Receiver,
};
use pmip_wire::Message;

use crate::seeds::replaying;
use crate::world::{
    COAS, Dice, LMA_HEARD, MAG_HEARD, Records, Taped, Weather, attachment, check_recording,
    kept_lma, kept_mag, mac, mn, pool, write_down,
};

pub(super) const LMAS: usize = 3;
pub(super) const MAGS: usize = 2;
pub(super) const NEW: HandoffIndicator = HandoffIndicator::NEW_INTERFACE;

pub(super) fn lmaa(lma: usize) -> Lmaa {
    let number = u16::try_from(lma + 1).unwrap();
    Lmaa(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, number))
}

pub(super) fn all_lmaas() -> Vec<Lmaa> {
    (0..LMAS).map(lmaa).collect()
}

pub(super) fn heartbeat() -> HeartbeatConfig {
    HeartbeatConfig {
        interval: Some(Duration::from_secs(1)),
        missing_allowed: 9,
        restart_counter: 1,
    }
}

pub(super) fn lma_config(lma: usize) -> LmaConfig {
    let others = (0..LMAS).filter(|other| *other != lma);
    let members = others.map(|other| MagPeer::new(ProxyCoa(lmaa(other).0)));
    let mags = COAS[..MAGS].iter().copied().map(MagPeer::new);
    let range = format!("2001:db8:{lma}000::/52");
    LmaConfig {
        pool: all_lmaas(),
        max_lifetime: Duration::from_secs(40),
        min_delay_before_bce_delete: Duration::from_secs(2),
        heartbeat: heartbeat(),
        ..LmaConfig::new(lmaa(lma), mags.chain(members).collect(), vec![pool(&range)])
    }
}

pub(super) fn mag_config(mag: usize) -> MagConfig {
    let peers = all_lmaas().into_iter().map(LmaPeer::new).collect();
    MagConfig {
        pool: all_lmaas(),
        lifetime: Duration::from_secs(40),
        refused_retry: Duration::from_secs(3),
        heartbeat: heartbeat(),
        probe: false,
        ..MagConfig::new(COAS[mag], peers)
    }
}

/// The first of a mobile's order: what the members agree on.
pub(super) fn first_of(mn_id: &MnId) -> usize {
    let mut cluster = Cluster::new(1);
    cluster.attach(mn_id, 0, 0, 0, NEW);
    cluster.run_ms(500);
    cluster.only_lma_of(mn_id)
}

/// A mobile that belongs to that LMA.
pub(super) fn mobile_of(lma: usize) -> MnId {
    (0..10)
        .map(mn)
        .find(|mn_id| first_of(mn_id) == lma)
        .unwrap()
}

pub(super) struct Cluster {
    pub(super) clock: Duration,
    pub(super) lmas: Vec<Taped<Lma>>,
    pub(super) lma_configs: Vec<LmaConfig>,
    pub(super) lma_records: Vec<Records>,
    pub(super) mags: Vec<Taped<Mag>>,
    pub(super) mag_configs: Vec<MagConfig>,
    pub(super) mag_records: Vec<Records>,
    /// LMAs that nothing reaches and that say nothing.
    pub(super) dead: [bool; LMAS],
    pub(super) weather: Weather,
    pub(super) dice: Dice,
    pub(super) attached: BTreeMap<(MnId, u8), usize>,
    pub(super) log: Vec<(Ipv6Addr, Ipv6Addr, Message)>,
    wire: BTreeMap<(Duration, u64), (Ipv6Addr, Ipv6Addr, Vec<u8>)>,
    packets: u64,
    receiver: Receiver,
}

impl Cluster {
    pub(super) fn new(seed: u64) -> Self {
        let lmas = (0..LMAS).map(lma_config).collect();
        Self::with(seed, lmas, (0..MAGS).map(mag_config).collect())
    }

    pub(super) fn with(
        seed: u64,
        lma_configs: Vec<LmaConfig>,
        mag_configs: Vec<MagConfig>,
    ) -> Self {
        let lma = |config: &LmaConfig| kept_lma(Lma::new(config.clone(), seed), seed);
        let mag = |config: &MagConfig| kept_mag(Mag::new(config.clone(), seed), seed);
        let mut cluster = Self {
            clock: Duration::ZERO,
            lmas: lma_configs.iter().map(lma).collect(),
            mags: mag_configs.iter().map(mag).collect(),
            lma_records: vec![Records::new(); lma_configs.len()],
            mag_records: vec![Records::new(); mag_configs.len()],
            lma_configs,
            mag_configs,
            dead: [false; LMAS],
            weather: Weather::FAIR,
            dice: Dice(seed),
            attached: BTreeMap::new(),
            log: Vec::new(),
            wire: BTreeMap::new(),
            packets: 0,
            receiver: Receiver::new(1000),
        };
        cluster.drain();
        cluster
    }

    pub(super) fn now(&self) -> Now {
        Now {
            monotonic: self.clock,
            wall: Duration::from_secs(1_700_000_000) + self.clock,
        }
    }

    /// An interface appears at a MAG, which asks that LMA first.
    pub(super) fn attach(
        &mut self,
        mn_id: &MnId,
        interface: u8,
        mag: usize,
        first: usize,
        handoff: HandoffIndicator,
    ) {
        let now = self.now();
        let attachment = Attachment {
            lma: Some(lmaa(first)),
            ..attachment(mn_id, interface, handoff)
        };
        self.mags[mag].attach(now, attachment).unwrap();
        self.attached.insert((mn_id.clone(), interface), mag);
        self.drain();
    }

    pub(super) fn detach(&mut self, mn_id: &MnId, interface: u8) {
        if let Some(mag) = self.attached.remove(&(mn_id.clone(), interface)) {
            self.leave(mn_id, interface, mag);
        }
    }

    pub(super) fn leave(&mut self, mn_id: &MnId, interface: u8, mag: usize) {
        let now = self.now();
        self.mags[mag].detach(now, PortId(interface.into()), mac(mn_id, interface));
        self.drain();
    }

    pub(super) fn set_draining(&mut self, lma: usize, on: bool) -> usize {
        if replaying() {
            eprintln!("{:?} DRAIN {lma} {on}", self.clock);
        }
        let now = self.now();
        let left = self.lmas[lma].set_draining(now, on);
        self.drain();
        left
    }

    pub(super) fn set_overloaded(&mut self, lma: usize, on: bool) {
        let now = self.now();
        self.lmas[lma].set_overloaded(now, on);
        self.drain();
    }

    /// An LMA is killed, and goes on from what it has written down.
    pub(super) fn kill_lma(&mut self, lma: usize) {
        if replaying() {
            eprintln!("{:?} KILL {lma}", self.clock);
        }
        let seed = self.dice.roll();
        check_recording(&self.lmas[lma]);
        let records = self.lma_records[lma].iter();
        let records = records.map(|(key, value)| LmaRecord::read(key, value));
        let config = self.lma_configs[lma].clone();
        let (restored, report) = Lma::restore(config, seed, self.now(), records);
        assert_eq!(report.spoilt, []);
        self.lmas[lma] = kept_lma(restored, seed);
        self.drain();
    }

    /// A MAG is killed, likewise.
    pub(super) fn kill_mag(&mut self, mag: usize) {
        let seed = self.dice.roll();
        check_recording(&self.mags[mag]);
        let (config, records) = (self.mag_configs[mag].clone(), self.mag_records[mag].clone());
        let (restored, report) = Mag::restore(config, seed, self.now(), records);
        assert_eq!(report.spoilt, []);
        self.mags[mag] = kept_mag(restored, seed);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        let (mut sent, mut stirred) = (Vec::new(), false);
        for (lma, records) in self.lmas.iter_mut().zip(&mut self.lma_records) {
            while let Some(record) = lma.poll_record() {
                stirred |= !record.key.starts_with(&LMA_HEARD);
                write_down(records, record);
            }
            while let Some(command) = lma.poll_command() {
                if let Command::Send { from, to, message } = command {
                    sent.push((from, to, message));
                }
            }
            while lma.poll_event().is_some() {}
        }
        for (mag, records) in self.mags.iter_mut().zip(&mut self.mag_records) {
            while let Some(record) = mag.poll_record() {
                stirred |= !record.key.starts_with(&MAG_HEARD);
                write_down(records, record);
            }
            while let Some(command) = mag.poll_command() {
                if let Command::Send { from, to, message } = command {
                    sent.push((from, to, message));
                }
            }
            while mag.poll_probe().is_some() {}
            while mag.poll_event().is_some() {}
        }
        for (from, to, message) in sent {
            self.send(from, to, message);
        }
        // Of sessions and routes, records tell.
        if stirred {
            self.check();
        }
    }

    pub(super) fn is_dead(&self, address: Ipv6Addr) -> bool {
        (0..LMAS).any(|lma| self.dead[lma] && lmaa(lma).0 == address)
    }

    pub(super) fn send(&mut self, from: Ipv6Addr, to: Ipv6Addr, message: Message) {
        if replaying() && !matches!(message, Message::Heartbeat(_)) {
            eprintln!("{:?} {from} to {to}: {message:?}", self.clock);
        }
        let octets = message.encode(from, to).unwrap();
        self.log.push((from, to, message));
        if self.is_dead(from) || self.is_dead(to) || self.dice.chance(self.weather.loss) {
            return;
        }
        for _ in 0..=u64::from(self.dice.chance(self.weather.repeat)) {
            let slow = self.dice.chance(self.weather.slow);
            let most = if slow {
                self.weather.slow_delay
            } else {
                self.weather.delay
            };
            let at = self.clock + Duration::from_millis(1 + self.dice.below(most.max(1)));
            self.packets += 1;
            self.wire
                .insert((at, self.packets), (from, to, octets.clone()));
        }
    }

    pub(super) fn next(&self) -> Option<Duration> {
        let wire = self.wire.keys().next().map(|(at, _)| *at);
        let lmas = self.lmas.iter().map(|lma| lma.poll_timeout());
        let mags = self.mags.iter().map(|mag| mag.poll_timeout());
        lmas.chain(mags).chain([wire]).flatten().min()
    }

    pub(super) fn step(&mut self, end: Duration) -> bool {
        let Some(at) = self.next().filter(|at| *at <= end) else {
            self.clock = self.clock.max(end);
            return false;
        };
        self.clock = self.clock.max(at);
        let now = self.now();
        let due = self
            .wire
            .first_entry()
            .filter(|entry| entry.key().0 <= now.monotonic);
        if let Some((from, to, octets)) = due.map(OccupiedEntry::remove) {
            if self.is_dead(from) || self.is_dead(to) {
                return true;
            }
            let message = self.receiver.receive(now, from, to, &octets).unwrap();
            if let Some(lma) = (0..LMAS).find(|lma| lmaa(*lma).0 == to) {
                self.lmas[lma].handle_message(now, from, to, &message);
            } else {
                let mag = COAS.iter().position(|coa| coa.0 == to).unwrap();
                self.mags[mag].handle_message(now, from, to, &message);
            }
        } else {
            self.lmas.iter_mut().for_each(|lma| lma.handle_timeout(now));
            self.mags.iter_mut().for_each(|mag| mag.handle_timeout(now));
        }
        self.drain();
        true
    }

    pub(super) fn run_ms(&mut self, ms: u64) {
        let end = self.clock + Duration::from_millis(ms);
        let mut steps = 0;
        while self.step(end) {
            steps += 1;
            assert!(steps < 500_000, "no end of events before {end:?}");
        }
    }

    /// The LMAs that have sessions of a mobile.
    pub(super) fn lmas_of(&self, mn_id: &MnId) -> BTreeSet<usize> {
        let has = |lma: &usize| {
            let view = self.lmas[*lma].binding(mn_id);
            view.is_some_and(|view| !view.sessions.is_empty())
        };
        (0..LMAS).filter(has).collect()
    }

    pub(super) fn only_lma_of(&self, mn_id: &MnId) -> usize {
        let lmas = self.lmas_of(mn_id);
        assert_eq!(lmas.len(), 1, "{mn_id} is at {lmas:?}");
        *lmas.first().unwrap()
    }

    /// Where a MAG believes an interface to be registered.
    pub(super) fn bule_lma(&self, mn_id: &MnId, interface: u8) -> (Lmaa, BuleState) {
        let mag = self.attached[&(mn_id.clone(), interface)];
        let mac = mac(mn_id, interface);
        let bule = self.mags[mag]
            .bul()
            .find(|bule| bule.attachment.mac == mac)
            .unwrap();
        (bule.lmaa, bule.state)
    }

    /// At every instant: no prefix has two mobiles, over all LMAs, and a MAG serves none that its LMA gave another.
    pub(super) fn check(&self) {
        let mut owners: BTreeMap<Hnp, &MnId> = BTreeMap::new();
        for (mn_id, bce) in self.lmas.iter().flat_map(|lma| lma.bindings()) {
            for hnp in &bce.hnps {
                let other = owners.insert(*hnp, mn_id);
                assert!(
                    other.is_none_or(|other| other == mn_id),
                    "{hnp} has two mobiles"
                );
            }
        }
        for route in self.mags.iter().flat_map(|mag| mag.routes()) {
            let owner = owners.get(&route.hnp);
            assert!(owner.is_none_or(|owner| *owner == route.mn_id));
        }
    }

    /// In the end: who is attached is registered, all of a mobile at one LMA, and both sides believe the same.
    pub(super) fn check_agreement(&self) {
        let mut lmas = BTreeSet::new();
        for (lma, state) in self.lmas.iter().enumerate() {
            for (mn_id, bce) in state.bindings() {
                assert_eq!(bce.state, BceState::Active, "{mn_id} at LMA {lma}");
                let mag = COAS.iter().position(|coa| *coa == bce.proxy_coa).unwrap();
                let ll_id = bce.ll_id.clone().unwrap();
                lmas.insert((
                    mn_id.clone(),
                    ll_id.mac().unwrap(),
                    mag,
                    lmaa(lma),
                    bce.hnps.clone(),
                ));
            }
        }
        let mut mags = BTreeSet::new();
        for (mag, state) in self.mags.iter().enumerate() {
            for bule in state.bul() {
                assert_eq!(bule.state, BuleState::Active, "{:?}", bule.attachment);
                let attachment = &bule.attachment;
                mags.insert((
                    attachment.mn_id.clone(),
                    attachment.mac,
                    mag,
                    bule.lmaa,
                    bule.hnps.clone(),
                ));
            }
        }
        assert_eq!(lmas, mags, "binding caches and binding update lists");
        let attached = self.attached.iter();
        let attached = attached.map(|((mn_id, i), mag)| (mn_id.clone(), mac(mn_id, *i), *mag));
        let known = lmas
            .iter()
            .map(|(mn_id, mac, mag, ..)| (mn_id.clone(), *mac, *mag));
        assert_eq!(
            attached.collect::<BTreeSet<_>>(),
            known.collect(),
            "who is attached"
        );
        let mobiles: BTreeSet<&MnId> = self.attached.keys().map(|(mn_id, _)| mn_id).collect();
        for mn_id in mobiles {
            self.only_lma_of(mn_id);
        }
    }

    /// What passed between two, heartbeats left out.
    pub(super) fn passed(&self, from: Ipv6Addr, to: Ipv6Addr) -> Vec<&Message> {
        let between = self.log.iter().filter(|(f, t, _)| (*f, *t) == (from, to));
        let messages = between.map(|(.., message)| message);
        messages
            .filter(|message| !matches!(message, Message::Heartbeat(_)))
            .collect()
    }
}
