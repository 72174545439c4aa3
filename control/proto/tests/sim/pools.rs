//! A pool of three LMAs and two MAGs: all sessions of a mobile end at one LMA, whatever happens on the way.

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
use pmip_wire::{BindingStatus, Message, Pba, PbaFlags, Redirect};

use crate::seeds::{for_seeds, replaying};
use crate::world::{
    COAS, Dice, Records, Taped, Weather, attachment, check_recording, kept_lma, kept_mag, mac, mn,
    pool, write_down,
};

const LMAS: usize = 3;
const MAGS: usize = 2;
const NEW: HandoffIndicator = HandoffIndicator::NEW_INTERFACE;

fn lmaa(lma: usize) -> Lmaa {
    let number = u16::try_from(lma + 1).unwrap();
    Lmaa(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, number))
}

fn all_lmaas() -> Vec<Lmaa> {
    (0..LMAS).map(lmaa).collect()
}

fn heartbeat() -> HeartbeatConfig {
    HeartbeatConfig {
        interval: Some(Duration::from_secs(1)),
        missing_allowed: 9,
        restart_counter: 1,
    }
}

fn lma_config(lma: usize) -> LmaConfig {
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

fn mag_config(mag: usize) -> MagConfig {
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
fn first_of(mn_id: &MnId) -> usize {
    let mut cluster = Cluster::new(1);
    cluster.attach(mn_id, 0, 0, 0, NEW);
    cluster.run_ms(500);
    cluster.only_lma_of(mn_id)
}

/// A mobile that belongs to that LMA.
fn mobile_of(lma: usize) -> MnId {
    (0..10)
        .map(mn)
        .find(|mn_id| first_of(mn_id) == lma)
        .unwrap()
}

struct Cluster {
    clock: Duration,
    lmas: Vec<Taped<Lma>>,
    lma_configs: Vec<LmaConfig>,
    lma_records: Vec<Records>,
    mags: Vec<Taped<Mag>>,
    mag_configs: Vec<MagConfig>,
    mag_records: Vec<Records>,
    /// LMAs that nothing reaches and that say nothing.
    dead: [bool; LMAS],
    weather: Weather,
    dice: Dice,
    attached: BTreeMap<(MnId, u8), usize>,
    log: Vec<(Ipv6Addr, Ipv6Addr, Message)>,
    wire: BTreeMap<(Duration, u64), (Ipv6Addr, Ipv6Addr, Vec<u8>)>,
    packets: u64,
    receiver: Receiver,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let lmas = (0..LMAS).map(lma_config).collect();
        Self::with(seed, lmas, (0..MAGS).map(mag_config).collect())
    }

    fn with(seed: u64, lma_configs: Vec<LmaConfig>, mag_configs: Vec<MagConfig>) -> Self {
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

    fn now(&self) -> Now {
        Now {
            monotonic: self.clock,
            wall: Duration::from_secs(1_700_000_000) + self.clock,
        }
    }

    /// An interface appears at a MAG, which asks that LMA first.
    fn attach(
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

    fn detach(&mut self, mn_id: &MnId, interface: u8) {
        if let Some(mag) = self.attached.remove(&(mn_id.clone(), interface)) {
            self.leave(mn_id, interface, mag);
        }
    }

    fn leave(&mut self, mn_id: &MnId, interface: u8, mag: usize) {
        let now = self.now();
        self.mags[mag].detach(now, PortId(interface.into()), mac(mn_id, interface));
        self.drain();
    }

    fn set_draining(&mut self, lma: usize, on: bool) -> usize {
        if replaying() {
            eprintln!("{:?} DRAIN {lma} {on}", self.clock);
        }
        let now = self.now();
        let left = self.lmas[lma].set_draining(now, on);
        self.drain();
        left
    }

    /// An LMA is killed, and goes on from what it has written down.
    fn kill_lma(&mut self, lma: usize) {
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
    fn kill_mag(&mut self, mag: usize) {
        let seed = self.dice.roll();
        check_recording(&self.mags[mag]);
        let (config, records) = (self.mag_configs[mag].clone(), self.mag_records[mag].clone());
        let (restored, report) = Mag::restore(config, seed, self.now(), records);
        assert_eq!(report.spoilt, []);
        self.mags[mag] = kept_mag(restored, seed);
        self.drain();
    }

    fn drain(&mut self) {
        let mut sent = Vec::new();
        for (lma, records) in self.lmas.iter_mut().zip(&mut self.lma_records) {
            while let Some(record) = lma.poll_record() {
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
        self.check();
    }

    fn is_dead(&self, address: Ipv6Addr) -> bool {
        (0..LMAS).any(|lma| self.dead[lma] && lmaa(lma).0 == address)
    }

    fn send(&mut self, from: Ipv6Addr, to: Ipv6Addr, message: Message) {
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

    fn next(&self) -> Option<Duration> {
        let wire = self.wire.keys().next().map(|(at, _)| *at);
        let lmas = self.lmas.iter().map(|lma| lma.poll_timeout());
        let mags = self.mags.iter().map(|mag| mag.poll_timeout());
        lmas.chain(mags).chain([wire]).flatten().min()
    }

    fn step(&mut self, end: Duration) -> bool {
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

    fn run_ms(&mut self, ms: u64) {
        let end = self.clock + Duration::from_millis(ms);
        let mut steps = 0;
        while self.step(end) {
            steps += 1;
            assert!(steps < 500_000, "no end of events before {end:?}");
        }
    }

    /// The LMAs that have sessions of a mobile.
    fn lmas_of(&self, mn_id: &MnId) -> BTreeSet<usize> {
        let has = |lma: &usize| {
            let view = self.lmas[*lma].binding(mn_id);
            view.is_some_and(|view| !view.sessions.is_empty())
        };
        (0..LMAS).filter(has).collect()
    }

    fn only_lma_of(&self, mn_id: &MnId) -> usize {
        let lmas = self.lmas_of(mn_id);
        assert_eq!(lmas.len(), 1, "{mn_id} is at {lmas:?}");
        *lmas.first().unwrap()
    }

    /// Where a MAG believes an interface to be registered.
    fn bule_lma(&self, mn_id: &MnId, interface: u8) -> (Lmaa, BuleState) {
        let mag = self.attached[&(mn_id.clone(), interface)];
        let mac = mac(mn_id, interface);
        let bule = self.mags[mag]
            .bul()
            .find(|bule| bule.attachment.mac == mac)
            .unwrap();
        (bule.lmaa, bule.state)
    }

    /// At every instant: no prefix has two mobiles, over all LMAs, and a MAG serves none that its LMA gave another.
    fn check(&self) {
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
    fn check_agreement(&self) {
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
    fn passed(&self, from: Ipv6Addr, to: Ipv6Addr) -> Vec<&Message> {
        let between = self.log.iter().filter(|(f, t, _)| (*f, *t) == (from, to));
        let messages = between.map(|(.., message)| message);
        messages
            .filter(|message| !matches!(message, Message::Heartbeat(_)))
            .collect()
    }
}

#[test]
fn a_mobile_is_assigned_its_lma_and_goes_on_there() {
    let (first, asked) = (2, 0);
    let mn_id = mobile_of(first);
    let mut cluster = Cluster::new(1);
    cluster.attach(&mn_id, 0, 0, asked, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&mn_id), first);
    assert_eq!(
        cluster.bule_lma(&mn_id, 0),
        (lmaa(first), BuleState::Active)
    );

    // The MAG's PBU says that it can be redirected, the answer is from whom it asked, with status 0 and the address.
    let coa = COAS[0].0;
    let asks = cluster.passed(coa, lmaa(asked).0);
    let [Message::Pbu(pbu)] = asks.as_slice() else {
        panic!("{asks:?}")
    };
    assert!(pbu.redirect_capability);
    let answers = cluster.passed(lmaa(asked).0, coa);
    let [Message::Pba(pba)] = answers.as_slice() else {
        panic!("{answers:?}")
    };
    assert_eq!(pba.status, BindingStatus::ACCEPTED);
    assert_eq!(pba.redirect, Some(Redirect(lmaa(first).0.into())));
    assert_eq!(pba.sequence, pbu.sequence);

    // The member was shown the MAG's PBU: first whether it has the mobile, then to take it.
    let shown = cluster.passed(lmaa(asked).0, lmaa(first).0);
    let [Message::Pbu(question), Message::Pbu(order)] = shown.as_slice() else {
        panic!("{shown:?}")
    };
    assert!(question.redirect_capability && !order.redirect_capability);
    for shown in [question, order] {
        assert_eq!(shown.alt_coa, Some(COAS[0]));
        assert_eq!(
            (shown.timestamp, shown.sequence),
            (pbu.timestamp, pbu.sequence)
        );
        assert_eq!((&shown.ll_id, shown.handoff), (&pbu.ll_id, pbu.handoff));
    }
    let answers = cluster.passed(lmaa(first).0, lmaa(asked).0);
    assert!(
        answers
            .iter()
            .all(|m| matches!(m, Message::Pba(pba) if pba.redirect.is_none()))
    );
    let counters = cluster.lmas[asked].counters();
    assert_eq!((counters.redirected, counters.stray_pool_answers), (1, 0));
    assert_eq!(cluster.mags[0].counters().redirects_followed, 1);
    let sessions = |coa| {
        cluster.lmas[first]
            .peers()
            .find(|p| p.proxy_coa == coa)
            .unwrap()
            .sessions
    };
    assert_eq!(
        (sessions(COAS[0]), sessions(ProxyCoa(lmaa(asked).0))),
        (1, 0)
    );

    // Refreshes and the end of it pass the first one by, and whoever has the session says nothing of others.
    cluster.run_ms(60_000);
    cluster.detach(&mn_id, 0);
    cluster.run_ms(5_000);
    assert_eq!(cluster.passed(coa, lmaa(asked).0).len(), 1);
    assert!(cluster.passed(coa, lmaa(first).0).len() > 2);
    let answers = cluster.passed(lmaa(first).0, coa);
    assert!(
        answers
            .iter()
            .all(|m| matches!(m, Message::Pba(pba) if pba.redirect.is_none()))
    );
    assert_eq!(cluster.lmas_of(&mn_id), BTreeSet::new());
    cluster.check_agreement();
}

#[test]
fn an_lma_that_is_asked_first_and_comes_first_says_nothing_of_it() {
    let mn_id = mobile_of(1);
    let mut cluster = Cluster::new(1);
    cluster.attach(&mn_id, 0, 0, 1, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&mn_id), 1);
    let answers = cluster.passed(lmaa(1).0, COAS[0].0);
    assert!(matches!(answers.as_slice(), [Message::Pba(pba)] if pba.redirect.is_none()));
}

#[test]
fn further_accesses_and_handoffs_find_the_mobiles_lma() {
    for lma in 0..LMAS {
        let mn_id = mobile_of(lma);
        let mut cluster = Cluster::new(1);
        // Each MAG asks another LMA first.
        cluster.attach(&mn_id, 0, 0, 0, NEW);
        cluster.run_ms(500);
        cluster.attach(&mn_id, 1, 1, 1, NEW);
        cluster.run_ms(500);
        assert_eq!(cluster.only_lma_of(&mn_id), lma);
        let hnps = |cluster: &Cluster| {
            cluster.lmas[lma]
                .bindings()
                .map(|(_, b)| b.hnps.clone())
                .collect::<Vec<_>>()
        };
        let before = hnps(&cluster);
        assert_eq!(before.len(), 2);
        // The first interface goes to the other MAG, which asks a third LMA, and keeps its prefix.
        cluster.attach(&mn_id, 0, 1, 2, HandoffIndicator::BETWEEN_MAGS);
        cluster.run_ms(500);
        cluster.leave(&mn_id, 0, 0);
        cluster.run_ms(20_000);
        assert_eq!(hnps(&cluster), before);
        cluster.check_agreement();
    }
}

#[test]
fn who_drains_keeps_its_mobiles_and_takes_no_others() {
    let (stays, comes) = (mobile_of(2), {
        let mut others = (0..30).map(mn).filter(|mn_id| first_of(mn_id) == 2);
        others.nth(1).unwrap()
    });
    let mut cluster = Cluster::new(1);
    cluster.attach(&stays, 0, 0, 0, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.set_draining(2, true), 1);
    // A second access of its mobile comes here, whoever is asked.
    cluster.attach(&stays, 1, 1, 1, NEW);
    cluster.attach(&comes, 0, 0, 2, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&stays), 2);
    let other = cluster.only_lma_of(&comes);
    assert_ne!(other, 2);
    // It outlives the process.
    cluster.kill_lma(2);
    assert!(cluster.lmas[2].is_draining());
    assert_eq!(cluster.lmas[2].sessions(), 2);
    // Once it takes mobiles again, those that went elsewhere stay there with all of their accesses.
    cluster.set_draining(2, false);
    cluster.attach(&comes, 1, 1, 2, NEW);
    cluster.attach(&comes, 2, 1, 0, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&comes), other);
    cluster.check_agreement();
    for interface in 0..3 {
        cluster.detach(&comes, interface);
        cluster.detach(&stays, interface);
    }
    cluster.run_ms(10_000);
    assert_eq!(
        cluster.lmas.iter().map(|lma| lma.sessions()).sum::<usize>(),
        0
    );
    // And those that come anew come to it.
    cluster.attach(&comes, 0, 0, 0, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&comes), 2);
}

#[test]
fn if_all_drain_a_mobile_is_refused_until_one_does_no_longer() {
    let mn_id = mobile_of(0);
    let mut cluster = Cluster::new(1);
    for lma in 0..LMAS {
        cluster.set_draining(lma, true);
    }
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    cluster.run_ms(500);
    let full = BuleState::Refused(BindingStatus::INSUFFICIENT_RESOURCES.0);
    assert_eq!(cluster.bule_lma(&mn_id, 0).1, full);
    for lma in 0..LMAS {
        assert_eq!(cluster.lmas[lma].counters().draining, 1, "LMA {lma}");
    }
    cluster.set_draining(1, false);
    cluster.run_ms(10_000);
    assert_eq!(cluster.only_lma_of(&mn_id), 1);
    cluster.check_agreement();
}

#[test]
fn a_mag_that_cannot_be_redirected_is_served_where_it_asks_unless_that_drains() {
    let mn_id = mobile_of(2);
    let mut mags: Vec<MagConfig> = (0..MAGS).map(mag_config).collect();
    mags[0].pool.clear();
    let mut cluster = Cluster::with(1, (0..LMAS).map(lma_config).collect(), mags);
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&mn_id), 0);
    cluster.detach(&mn_id, 0);
    cluster.run_ms(5_000);
    cluster.set_draining(0, true);
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    cluster.run_ms(500);
    let full = BuleState::Refused(BindingStatus::INSUFFICIENT_RESOURCES.0);
    assert_eq!(cluster.bule_lma(&mn_id, 0), (lmaa(0), full));
    assert_eq!(cluster.lmas[0].counters().draining, 1);
    assert_eq!(cluster.lmas[0].counters().redirected, 0);
}

#[test]
fn a_member_without_a_pool_of_its_own_drains_as_well() {
    let mut configs: Vec<LmaConfig> = (0..LMAS).map(lma_config).collect();
    configs[0].pool.clear();
    let mut cluster = Cluster::with(1, configs, (0..MAGS).map(mag_config).collect());
    cluster.set_draining(0, true);
    cluster.attach(&mn(1), 0, 0, 0, NEW);
    cluster.run_ms(500);
    let full = BuleState::Refused(BindingStatus::INSUFFICIENT_RESOURCES.0);
    assert_eq!(cluster.bule_lma(&mn(1), 0), (lmaa(0), full));
    assert_eq!(cluster.lmas[0].counters().draining, 1);
}

#[test]
fn a_member_that_is_dead_is_passed_over_and_one_that_is_slow_is_not() {
    let mn_id = mobile_of(2);
    let mut cluster = Cluster::new(1);
    cluster.run_ms(1_000);
    cluster.dead[2] = true;
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    // Nobody knows yet: it may have the mobile.
    cluster.run_ms(5_000);
    assert_eq!(cluster.lmas_of(&mn_id), BTreeSet::new());
    cluster.run_ms(30_000);
    let other = cluster.only_lma_of(&mn_id);
    assert_ne!(other, 2);
    assert!(cluster.lmas[0].counters().members_passed_over > 0);
    // A MAG does not wait for the one that it asks first, either.
    cluster.attach(&mn_id, 1, 1, 2, NEW);
    cluster.run_ms(40_000);
    assert_eq!(cluster.only_lma_of(&mn_id), other);
    // It comes back, and the mobile stays.
    cluster.dead[2] = false;
    cluster.run_ms(60_000);
    cluster.attach(&mn_id, 2, 1, 2, NEW);
    cluster.run_ms(2_000);
    assert_eq!(cluster.only_lma_of(&mn_id), other);
    cluster.check_agreement();
}

#[test]
fn sessions_of_an_lma_that_died_are_registered_elsewhere() {
    let mn_id = mobile_of(2);
    let mut cluster = Cluster::new(1);
    for interface in 0..2 {
        cluster.attach(&mn_id, interface, interface.into(), 0, NEW);
    }
    cluster.run_ms(500);
    assert_eq!(cluster.only_lma_of(&mn_id), 2);
    cluster.dead[2] = true;
    cluster.run_ms(120_000);
    for interface in 0..2 {
        let (lmaa_now, state) = cluster.bule_lma(&mn_id, interface);
        assert_eq!(state, BuleState::Active);
        assert_ne!(lmaa_now, lmaa(2));
    }
    assert_eq!(
        cluster.lmas_of(&mn_id).len(),
        1,
        "what the dead one had has expired"
    );
}

#[test]
fn members_that_disagree_about_who_they_are_make_no_loop() {
    // Each knows but the next one: a mobile that all pass on goes round, if it goes.
    let configs = (0..LMAS).map(|lma| {
        let mut config = lma_config(lma);
        config.pool = vec![lmaa(lma), lmaa((lma + 1) % LMAS)];
        config
    });
    let mut cluster = Cluster::with(1, configs.collect(), (0..MAGS).map(mag_config).collect());
    for number in 0..30 {
        cluster.attach(
            &mn(number % 10),
            u8::try_from(number / 10).unwrap(),
            0,
            0,
            NEW,
        );
        cluster.run_ms(200);
    }
    cluster.run_ms(5_000);
    let passed_on = cluster
        .lmas
        .iter()
        .map(|lma| lma.counters().passed_on_before);
    assert!(passed_on.sum::<u64>() > 0, "nothing came round");
    let pbus = cluster
        .log
        .iter()
        .filter(|(.., message)| matches!(message, Message::Pbu(_)));
    // One of the MAG, a question and an order.
    assert!(pbus.count() <= 30 * 3);
    assert!(
        cluster.attached.keys().all(|(mn_id, interface)| {
            cluster.bule_lma(mn_id, *interface).1 == BuleState::Active
        })
    );
}

#[test]
fn a_full_lma_gives_its_mobiles_to_the_next() {
    let full = (0..LMAS).map(|lma| LmaConfig {
        max_mobiles: if lma == 0 { 2 } else { 100 },
        ..lma_config(lma)
    });
    let mut cluster = Cluster::with(1, full.collect(), (0..MAGS).map(mag_config).collect());
    // Those whose place is at LMA 0 come to it and to others.
    let mobiles: Vec<MnId> = (0..10)
        .map(mn)
        .filter(|mn_id| first_of(mn_id) == 0)
        .collect();
    assert!(mobiles.len() > 3);
    for (mn_id, first) in mobiles.iter().zip([0, 1, 0, 1].into_iter().cycle()) {
        cluster.attach(mn_id, 0, 0, first, NEW);
        cluster.run_ms(500);
    }
    assert_eq!(cluster.lmas[0].mobiles(), 2);
    cluster.check_agreement();
}

#[test]
fn a_pool_comes_and_goes_while_lmas_run() {
    let alone = |lma| LmaConfig {
        pool: Vec::new(),
        ..lma_config(lma)
    };
    let configs = (0..LMAS).map(alone);
    let mut cluster = Cluster::with(1, configs.collect(), (0..MAGS).map(mag_config).collect());
    let mobiles: Vec<MnId> = (0..30)
        .map(mn)
        .filter(|mn_id| first_of(mn_id) == 2)
        .collect();
    let [one, two, three, ..] = mobiles.as_slice() else {
        panic!("{mobiles:?}")
    };
    let mut come_to = |mn_id: &MnId, config: fn(usize) -> LmaConfig| {
        let now = cluster.now();
        for lma in 0..LMAS {
            let config = config(lma);
            assert_eq!(cluster.lmas[lma].conflicts(&config), []);
            cluster.lmas[lma].reconfigure(now, config);
        }
        cluster.drain();
        cluster.attach(mn_id, 0, 0, 0, NEW);
        cluster.run_ms(2000);
        cluster.only_lma_of(mn_id)
    };
    assert_eq!(come_to(one, alone), 0);
    assert_eq!(come_to(two, lma_config), 2);
    assert_eq!(come_to(three, alone), 0);
    // Nobody lost what it had.
    assert_eq!((cluster.only_lma_of(one), cluster.only_lma_of(two)), (0, 2));
    cluster.check_agreement();
}

/// A MAG that has just asked LMA 0 about a mobile, and the answer that accepts.
fn asked(config: MagConfig) -> (Mag, Now, Pba) {
    let mut mag = Mag::new(config, 7);
    let now = Now {
        monotonic: Duration::from_secs(1),
        wall: Duration::from_secs(1_700_000_000),
    };
    mag.attach(now, attachment(&mn(1), 0, NEW)).unwrap();
    let sent = std::iter::from_fn(|| mag.poll_command());
    let pbu = sent.filter_map(|command| match command {
        Command::Send {
            message: Message::Pbu(pbu),
            ..
        } => Some(pbu),
        _ => None,
    });
    let pbu = pbu.last().unwrap();
    let pba = Pba {
        flags: PbaFlags::PROXY,
        sequence: pbu.sequence,
        lifetime: pbu.lifetime,
        mn_id: pbu.mn_id.clone(),
        hnps: vec![pmip_wire::HnpOption::on_link(crate::world::hnp(
            "2001:db8:1000::/64",
        ))],
        handoff: pbu.handoff,
        access: pbu.access,
        ll_id: pbu.ll_id.clone(),
        timestamp: pbu.timestamp,
        ..Pba::default()
    };
    (mag, now, pba)
}

#[test]
fn a_redirect_is_followed_to_the_pool_only_and_if_it_was_asked_for() {
    let to = |address: &str| Some(Redirect(address.parse().unwrap()));
    let hear = |mag: &mut Mag, now, pba: Pba| {
        mag.handle_message(now, lmaa(0).0, COAS[0].0, &pba.into());
        let bule = mag.bul().next().unwrap();
        (bule.lmaa, bule.state)
    };
    // RFC 6463 §5.2: it is ignored if the PBU had no Redirect-Capability.
    let mut alone = mag_config(0);
    alone.pool.clear();
    let (mut mag, now, pba) = asked(alone);
    let pba = Pba {
        redirect: to("2001:db8:f::3"),
        ..pba
    };
    assert_eq!(hear(&mut mag, now, pba), (lmaa(0), BuleState::Active));
    assert_eq!(mag.counters().redirects_ignored, 1);

    let refused = BuleState::Refused(BindingStatus::UNSPECIFIED.0);
    for stranger in [
        "2001:db8:f::9",
        "2001:db8:a::1",
        "::",
        "ff02::1",
        "192.0.2.1",
    ] {
        let (mut mag, now, pba) = asked(mag_config(0));
        let pba = Pba {
            redirect: to(stranger),
            ..pba
        };
        assert_eq!(hear(&mut mag, now, pba), (lmaa(0), refused), "{stranger}");
        assert_eq!(mag.counters().redirects_refused, 1);
        assert_eq!(mag.routes().count(), 0);
    }

    // A peer that is in no pool is none that may be assigned.
    let mut two = mag_config(0);
    two.pool.pop();
    let (mut mag, now, pba) = asked(two);
    let pba = Pba {
        redirect: to("2001:db8:f::3"),
        ..pba
    };
    assert_eq!(hear(&mut mag, now, pba), (lmaa(0), refused));

    let (mut mag, now, pba) = asked(mag_config(0));
    let pba = Pba {
        redirect: to("2001:db8:f::2"),
        ..pba
    };
    assert_eq!(
        hear(&mut mag, now, pba.clone()),
        (lmaa(1), BuleState::Active)
    );
    assert!(mag.routes().all(|route| route.lmaa == lmaa(1)));
    // A copy, or one that leads elsewhere, answers nothing any more.
    let again = Pba {
        redirect: to("2001:db8:f::3"),
        ..pba
    };
    assert_eq!(hear(&mut mag, now, again), (lmaa(1), BuleState::Active));
    assert_eq!(mag.counters().redirects_followed, 1);
    assert_eq!(mag.counters().stray_pbas, 1);
}

#[test]
fn a_mag_that_is_killed_knows_what_it_was_assigned() {
    let mn_id = mobile_of(2);
    let mut cluster = Cluster::new(1);
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    cluster.run_ms(500);
    cluster.kill_mag(0);
    assert_eq!(cluster.bule_lma(&mn_id, 0), (lmaa(2), BuleState::Active));
    // Whoever finds it on the link again finds it registered.
    cluster.attach(&mn_id, 0, 0, 0, NEW);
    cluster.run_ms(30_000);
    assert_eq!(cluster.only_lma_of(&mn_id), 2);
    cluster.check_agreement();
}

fn act(cluster: &mut Cluster) {
    let mn_id = mn(cluster.dice.below(5));
    let interface = u8::try_from(cluster.dice.below(3)).unwrap();
    let [mag, first, lma] =
        [MAGS, LMAS, LMAS].map(|n| usize::try_from(cluster.dice.below(n as u64)).unwrap());
    let at = cluster.attached.get(&(mn_id.clone(), interface)).copied();
    match cluster.dice.below(16) {
        0..=5 if at.is_none() => {
            let handoff = cluster.dice.pick(&[NEW, NEW, HandoffIndicator::UNKNOWN]);
            cluster.attach(&mn_id, interface, mag, first, handoff);
        }
        0..=3 => cluster.detach(&mn_id, interface),
        // A handoff to the other MAG, which asks anybody.
        4..=8 => {
            if let Some(from) = at {
                let handoff = cluster.dice.pick(&[
                    HandoffIndicator::BETWEEN_MAGS,
                    HandoffIndicator::UNKNOWN,
                    NEW,
                ]);
                cluster.attach(&mn_id, interface, 1 - from, first, handoff);
                let pause = cluster.dice.pick(&[0, 20, 500, 2000]);
                cluster.run_ms(pause);
                cluster.leave(&mn_id, interface, from);
            }
        }
        9..=11 => {
            let on = cluster.dice.chance(50);
            cluster.set_draining(lma, on);
        }
        12 => cluster.kill_lma(lma),
        13 => cluster.kill_mag(mag),
        _ => {}
    }
}

#[test]
fn whatever_happens_a_mobile_has_one_lma_in_the_end() {
    for_seeds(250, |seed| {
        let mut cluster = Cluster::new(seed);
        let dice = &mut cluster.dice;
        cluster.weather = Weather {
            loss: dice.pick(&[0, 5, 15]),
            repeat: dice.pick(&[0, 10, 30]),
            slow: dice.pick(&[0, 10]),
            delay: dice.pick(&[2, 20, 50]),
            slow_delay: 1000,
        };
        for _ in 0..40 {
            act(&mut cluster);
            let pause = cluster.dice.pick(&[0, 5, 100, 1000, 5000]);
            cluster.run_ms(pause);
        }
        cluster.weather = Weather::FAIR;
        for lma in 0..LMAS {
            cluster.set_draining(lma, false);
        }
        cluster.run_ms(200_000);
        cluster.check_agreement();
    });
}
