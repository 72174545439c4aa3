//! One LMA and its MAGs on a virtual clock, joined by a network that carries real octets and can
//! lose, delay, reorder and repeat them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{
    AccessTechnology, Bid, Fid, FlowKey, HandoffIndicator, Hnp, Interval, Lmaa, MacAddr, MnId,
    MnLinkLayerId, Path, PortId, ProxyCoa, Selector, TrafficSelector,
};
use pmip_proto::lma::{BceState, LmaRecord};
use pmip_proto::recording::{Machine, Recorded, Recorder, Recording};
use pmip_proto::{
    Attachment, Command, Dialect, FlowRequest, Lma, LmaConfig, LmaEvent, LmaPeer, Mag, MagConfig,
    MagEvent, MagPeer, Now, PrefixPool, Probe, Receiver, Record, RouterAdvertisement,
};
use pmip_wire::{HnpOption, Message, NotificationReason};

use crate::model::Tables;
use crate::seeds::replaying;
use crate::standby::Standby;

pub(crate) const LMAA: Lmaa = Lmaa(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1));
pub(crate) const COAS: [ProxyCoa; 3] = [
    ProxyCoa(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1)),
    ProxyCoa(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1)),
    ProxyCoa(Ipv6Addr::new(0x2001, 0xdb8, 0xd, 0, 0, 0, 0, 1)),
];

/// SplitMix64, so that a seed is all there is to a schedule.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// How the network treats a packet, in percent, and the longest delays in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) repeat: u64,
    pub(crate) slow: u64,
    pub(crate) delay: u64,
    pub(crate) slow_delay: u64,
}

impl Weather {
    pub(crate) const FAIR: Self = Self {
        loss: 0,
        repeat: 0,
        slow: 0,
        delay: 10,
        slow_delay: 0,
    };
}

#[derive(Clone, Debug)]
struct Packet {
    from: Ipv6Addr,
    to: Ipv6Addr,
    octets: Vec<u8>,
}

/// A message that was sent: when, by whom, to whom.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) to: Ipv6Addr,
    pub(crate) message: Message,
}

/// Decides about single messages, before the weather does: `true` loses it.
type Filter = Box<dyn FnMut(&Sent) -> bool>;

/// A machine that writes down what it does.
pub(crate) type Taped<M> = Recorded<M, Recorder<M>>;

/// So few turns are kept that most tests have more.
const KEPT: usize = 16;

/// Tapes every eighth schedule, and the tests that are no schedules.
pub(crate) fn taped<M: Machine>(machine: M, seed: u64) -> Taped<M> {
    let tape = seed < 16 || seed.is_multiple_of(8);
    let tape = tape.then(|| Recorder::new(machine.clone(), KEPT));
    Recorded::new(machine, tape)
}

pub(crate) fn kept_lma(lma: Lma, seed: u64) -> Taped<Lma> {
    let mut lma = taped(lma, seed);
    lma.keep_records();
    lma
}

pub(crate) fn kept_mag(mag: Mag, seed: u64) -> Taped<Mag> {
    let mut mag = taped(mag, seed);
    mag.keep_records();
    mag
}

/// The last turns, carried somewhere else, are decided there as they were here.
pub(crate) fn check_recording<M: Machine>(machine: &Taped<M>) {
    let Some(tape) = machine.tape() else {
        return;
    };
    let recording = tape.recording();
    let mut octets = Vec::new();
    ciborium::into_writer(&recording, &mut octets).unwrap();
    let elsewhere: Recording<M> = ciborium::from_reader(octets.as_slice()).unwrap();
    let difference = elsewhere.replay(|_| ());
    assert_eq!(difference, None, "{:#?}", recording.turns);
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            check_recording(&self.lma);
            self.mags.iter().for_each(check_recording);
        }
    }
}

/// What a machine has written down, by key.
pub(crate) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

pub(crate) fn write_down(records: &mut Records, record: Record) {
    match record.value {
        Some(value) => records.insert(record.key, value),
        None => records.remove(&record.key),
    };
}

/// How the keys of records begin that tell when a peer was heard, at an LMA and at a MAG.
pub(crate) const LMA_HEARD: [u8; 1] = [1];
pub(crate) const MAG_HEARD: [u8; 1] = [2];

fn is_heartbeat(command: &Command) -> bool {
    matches!(
        command,
        Command::Send {
            message: Message::Heartbeat(_),
            ..
        }
    )
}

/// Who is to be killed.
#[derive(Clone, Copy)]
enum Victim {
    Lma,
    Mag(usize),
}

pub(crate) struct World {
    pub(crate) clock: Duration,
    /// By how many seconds the wall clocks of the LMA and the MAGs are wrong.
    pub(crate) wrong: (i64, [i64; COAS.len()]),
    pub(crate) lma: Taped<Lma>,
    pub(crate) lma_records: Records,
    /// Whether anything but a heartbeat may have happened since the last check, and how many events there were then.
    stirred: bool,
    heard: (usize, usize),
    /// Who may go on when the LMA is killed.
    standby: Standby,
    /// Who is killed as soon as what has changed is on disk, before anybody hears of it.
    doomed: Option<Victim>,
    pub(crate) mag_records: Vec<Records>,
    pub(crate) mags: Vec<Taped<Mag>>,
    pub(crate) lma_tables: Tables,
    pub(crate) mag_tables: Vec<Tables>,
    pub(crate) mag_config: Vec<MagConfig>,
    pub(crate) lma_config: LmaConfig,
    /// MAGs that nothing reaches and that reach nobody.
    pub(crate) cut: [bool; COAS.len()],
    pub(crate) weather: Weather,
    pub(crate) dice: Dice,
    pub(crate) lose: Filter,
    pub(crate) log: Vec<Sent>,
    pub(crate) lma_events: Vec<LmaEvent>,
    pub(crate) mag_events: Vec<MagEvent>,
    pub(crate) advertisements: Vec<RouterAdvertisement>,
    /// Not looked at yet.
    pub(crate) probes: VecDeque<Probe>,
    /// Where each interface is attached.
    pub(crate) attached: BTreeMap<(MnId, u8), usize>,
    /// Mobiles of which a MAG refreshed a session that the LMA had not, or elsewhere. The draft's
    /// messages name single flows, so the LMA cannot end there what it no longer knows of.
    pub(crate) contested: BTreeSet<MnId>,
    /// Off-link prefixes that a MAG has acknowledged for a flow: what the LMA may rely on.
    acknowledged: BTreeMap<FlowAtMag, BTreeSet<Hnp>>,
    asked: BTreeMap<(usize, u16), Asked>,
    wire: BTreeMap<(Duration, u64), Packet>,
    packets: u64,
    receiver: Receiver,
}

/// A flow of a session at a MAG. The session is named where the mobile has several there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct FlowAtMag {
    mag: usize,
    mn_id: MnId,
    session: Option<MnLinkLayerId>,
    selectors: String,
}

impl FlowAtMag {
    /// Whether both are of one mobile at one MAG.
    fn is_beside(&self, other: &Self) -> bool {
        (self.mag, &self.mn_id) == (other.mag, &other.mn_id)
    }
}

/// What an FMI asks for: flows, and the off-link prefixes they need.
type Asked = Vec<(FlowAtMag, BTreeSet<Hnp>)>;

pub(crate) fn mn(n: u64) -> MnId {
    MnId::new(&format!("mn{n}@example.net")).unwrap()
}

pub(crate) fn hnp(text: &str) -> Hnp {
    let (address, len) = text.split_once('/').unwrap();
    Hnp::new(address.parse().unwrap(), len.parse().unwrap()).unwrap()
}

pub(crate) fn bid(n: u16) -> Bid {
    Bid::new(n).unwrap()
}

pub(crate) fn fid(n: u16) -> Fid {
    Fid::new(n).unwrap()
}

/// UDP to a port of the mobile, at its address in a prefix if one is given.
pub(crate) fn udp(to: Option<Hnp>, port: u16) -> TrafficSelector {
    let address = |hnp: Hnp| Ipv6Addr::from(u128::from(hnp.addr()) | 0x100);
    Selector {
        destination: to.map(address).map(Interval::single),
        destination_port: Some(Interval::single(port)),
        next_header: Some(Interval::single(17)),
        ..Selector::<Ipv6Addr>::default()
    }
    .into()
}

/// A packet that matches [`udp`].
pub(crate) fn packet(to: Hnp, port: u16) -> FlowKey {
    FlowKey {
        source: "2001:db8:c::5".parse().unwrap(),
        destination: Ipv6Addr::from(u128::from(to.addr()) | 0x100),
        next_header: 17,
        traffic_class: 0,
        flow_label: 0,
        ports: Some((4000, port)),
        spi: None,
    }
}

/// The technology of an interface; each of a mobile's has its own.
pub(crate) fn access(interface: u8) -> AccessTechnology {
    AccessTechnology([4, 8, 5][usize::from(interface)])
}

pub(crate) fn mac(mn_id: &MnId, interface: u8) -> MacAddr {
    let digit = mn_id.as_str().as_bytes()[2];
    MacAddr([2, 0, 0, 0, digit, interface])
}

/// How an interface appears at a MAG.
pub(crate) fn attachment(mn_id: &MnId, interface: u8, handoff: HandoffIndicator) -> Attachment {
    let mac = mac(mn_id, interface);
    Attachment {
        mn_id: mn_id.clone(),
        ll_id: Some(mac.into()),
        access: access(interface),
        port: PortId(interface.into()),
        mac,
        handoff,
        wanted: Vec::new(),
        lma: None,
    }
}

pub(crate) fn pool(range: &str) -> PrefixPool {
    PrefixPool::new(hnp(range), 64, Duration::from_secs(2)).unwrap()
}

/// An LMA as most tests want it.
pub(crate) fn lma_config() -> LmaConfig {
    let peers = COAS.map(MagPeer::new).to_vec();
    LmaConfig::new(LMAA, peers, vec![pool("2001:db8:1000::/52")])
}

pub(crate) fn mag_config(mag: usize) -> MagConfig {
    MagConfig::new(COAS[mag], vec![LmaPeer::new(LMAA)])
}

/// Makes an LMA and a MAG speak this dialect to each other.
pub(crate) fn speak(lma: &mut LmaConfig, mag: &mut MagConfig, dialect: Dialect) {
    let peer = lma
        .peers
        .iter_mut()
        .find(|p| p.proxy_coa == mag.proxy_coa)
        .unwrap();
    peer.dialect = dialect;
    mag.lmas[0].dialect = dialect;
}

impl World {
    /// A world with as many MAGs as have a configuration, at most as there are [`COAS`].
    pub(crate) fn new(seed: u64, mut lma: LmaConfig, mags: impl Into<Vec<MagConfig>>) -> Self {
        let mags: Vec<MagConfig> = mags.into();
        // A MAG that is not there would be dead to the LMA.
        let there = |peer: &MagPeer| mags.iter().any(|mag| mag.proxy_coa == peer.proxy_coa);
        lma.peers.retain(there);
        let begin =
            |(config, n): (&MagConfig, u64)| kept_mag(Mag::new(config.clone(), seed ^ n), seed);
        Self {
            clock: Duration::ZERO,
            wrong: Default::default(),
            lma: kept_lma(Lma::new(lma.clone(), seed), seed),
            lma_records: Records::new(),
            stirred: true,
            heard: (0, 0),
            standby: Standby::new(seed, &lma, &Records::new()),
            doomed: None,
            mag_records: mags.iter().map(|_| Records::new()).collect(),
            mags: mags.iter().zip(1..).map(begin).collect(),
            lma_tables: Tables::default(),
            mag_tables: mags.iter().map(|_| Tables::default()).collect(),
            mag_config: mags,
            lma_config: lma,
            cut: [false; COAS.len()],
            weather: Weather::FAIR,
            dice: Dice(seed),
            lose: Box::new(|_| false),
            log: Vec::new(),
            lma_events: Vec::new(),
            mag_events: Vec::new(),
            advertisements: Vec::new(),
            probes: VecDeque::new(),
            attached: BTreeMap::new(),
            contested: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
            asked: BTreeMap::new(),
            wire: BTreeMap::new(),
            packets: 0,
            receiver: Receiver::new(1000),
        }
    }

    /// A world with everything at its default.
    pub(crate) fn plain() -> Self {
        Self::new(1, lma_config(), [mag_config(0), mag_config(1)])
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            monotonic: self.clock,
            wall: Duration::from_secs(1_700_000_000) + self.clock,
        }
    }

    /// What the LMA takes the time for.
    fn lma_now(&self) -> Now {
        self.now_with(self.wrong.0)
    }

    /// What a MAG takes it for.
    fn mag_now(&self, mag: usize) -> Now {
        self.now_with(self.wrong.1[mag])
    }

    fn now_with(&self, wrong: i64) -> Now {
        let mut now = self.now();
        let seconds = now.wall.as_secs().checked_add_signed(wrong).unwrap();
        now.wall = Duration::new(seconds, now.wall.subsec_nanos());
        now
    }

    /// Now and then somebody sets a clock wrong, or right again.
    pub(crate) fn set_clocks_sometimes(&mut self) {
        if self.dice.chance(90) {
            return;
        }
        let wrong = self.dice.pick(&[0, 0, -3600, -1, 1, 3600]);
        match usize::try_from(self.dice.below(3)).unwrap() {
            2 => self.wrong.0 = wrong,
            mag => self.wrong.1[mag] = wrong,
        }
        if replaying() {
            eprintln!("{:?} clocks are wrong by {:?}", self.clock, self.wrong);
        }
    }

    pub(crate) fn attach(
        &mut self,
        mn_id: &MnId,
        interface: u8,
        mag: usize,
        handoff: HandoffIndicator,
    ) {
        self.attach_with(mn_id, interface, mag, handoff, Vec::new());
    }

    /// As [`World::attach`], of a mobile whose MAG knows which prefixes it has.
    pub(crate) fn attach_with(
        &mut self,
        mn_id: &MnId,
        interface: u8,
        mag: usize,
        handoff: HandoffIndicator,
        wanted: Vec<Hnp>,
    ) {
        let now = self.mag_now(mag);
        let attachment = Attachment {
            wanted,
            ..attachment(mn_id, interface, handoff)
        };
        self.mags[mag].attach(now, attachment).unwrap();
        self.attached.insert((mn_id.clone(), interface), mag);
        self.drain();
    }

    pub(crate) fn detach(&mut self, mn_id: &MnId, interface: u8) {
        if let Some(mag) = self.attached.remove(&(mn_id.clone(), interface)) {
            let now = self.mag_now(mag);
            let mac = mac(mn_id, interface);
            self.mags[mag].detach(now, PortId(interface.into()), mac);
        }
        self.drain();
    }

    /// A MAG notices that an interface is no longer on its link, wherever it is now.
    pub(crate) fn leave(&mut self, mn_id: &MnId, interface: u8, mag: usize) {
        let now = self.mag_now(mag);
        let key = (mn_id.clone(), interface);
        if self.attached.get(&key) == Some(&mag) {
            self.attached.remove(&key);
        }
        let mac = mac(mn_id, interface);
        self.mags[mag].detach(now, PortId(interface.into()), mac);
        self.drain();
    }

    /// A MAG forgets everything, and finds the mobiles on its links again.
    pub(crate) fn restart(&mut self, mag: usize) {
        let seed = self.dice.roll();
        self.mag_config[mag].heartbeat.restart_counter += 1;
        check_recording(&self.mags[mag]);
        self.mag_records[mag].clear();
        self.mags[mag] = kept_mag(Mag::new(self.mag_config[mag].clone(), seed), seed);
        self.stirred = true;
        self.mag_tables[mag] = Tables::default();
        let there: Vec<(MnId, u8)> = self
            .attached
            .iter()
            .filter(|(_, at)| **at == mag)
            .map(|(key, _)| key.clone())
            .collect();
        for (mn_id, interface) in there {
            self.attach(&mn_id, interface, mag, HandoffIndicator::UNKNOWN);
        }
    }

    /// The LMA forgets everything.
    pub(crate) fn restart_lma(&mut self) {
        let seed = self.dice.roll();
        self.lma_config.heartbeat.restart_counter += 1;
        check_recording(&self.lma);
        self.lma_records.clear();
        self.standby = Standby::new(seed, &self.lma_config, &self.lma_records);
        self.lma = kept_lma(Lma::new(self.lma_config.clone(), seed), seed);
        self.stirred = true;
        self.lma_tables = Tables::default();
        self.acknowledged.clear();
        self.asked.clear();
        self.drain();
    }

    /// The LMA is killed, and goes on from what it has written down: its workers are told what they were told before.
    pub(crate) fn kill_lma(&mut self) {
        if replaying() {
            eprintln!("{:?} the LMA is killed", self.clock);
        }
        let revoking = |world: &Self| {
            let mut bindings = world.lma.bindings();
            bindings.any(|(_, bce)| bce.state == BceState::Revoking)
        };
        let over = revoking(self);
        let before = self.lma_tables.resolved();
        self.bring_lma_back();
        let said = self.log.len();
        self.drain();
        // Who has something to say at once has taken another step already.
        if !over && self.log.len() == said {
            assert_eq!(self.lma_tables.resolved(), before, "the LMA's tables");
        }
    }

    /// A MAG is killed, likewise.
    pub(crate) fn kill(&mut self, mag: usize) {
        if replaying() {
            eprintln!("{:?} MAG {mag} is killed", self.clock);
        }
        let before = self.mag_tables[mag].resolved();
        self.bring_back(mag, None);
        self.drain();
        assert_eq!(self.mag_tables[mag].resolved(), before, "a MAG's tables");
    }

    /// A MAG is killed, and goes on from what it has written down; but it cannot know whether that is all, and counts a
    /// restart.
    pub(crate) fn damage(&mut self, mag: usize) {
        let heartbeat = &mut self.mag_config[mag].heartbeat;
        heartbeat.restart_counter += 1;
        let counter = heartbeat.restart_counter;
        self.bring_back(mag, Some(counter));
        self.drain();
    }

    /// Now and then somebody is killed, and goes on.
    pub(crate) fn kill_sometimes(&mut self) {
        let mag = self.dice.below(self.mags.len() as u64);
        let mag = usize::try_from(mag).unwrap();
        match self.dice.below(40) {
            0 => self.kill_lma(),
            1 => self.kill(mag),
            2 => self.doomed = Some(Victim::Lma),
            3 => self.doomed = Some(Victim::Mag(mag)),
            _ => {}
        }
    }

    /// Kills who is doomed, if its next words are on disk and not said.
    fn strike(&mut self, lma_wrote: bool, mags_wrote: &[bool]) {
        match self.doomed {
            Some(Victim::Lma) if lma_wrote => {
                self.doomed = None;
                self.bring_lma_back();
            }
            Some(Victim::Mag(mag)) if mags_wrote[mag] => {
                self.doomed = None;
                self.bring_back(mag, None);
            }
            Some(_) | None => {}
        }
    }

    fn bring_lma_back(&mut self) {
        let seed = self.dice.roll();
        check_recording(&self.lma);
        let next = Standby::new(seed, &self.lma_config, &self.lma_records);
        let mut standby = std::mem::replace(&mut self.standby, next);
        let (config, now) = (self.lma_config.clone(), self.lma_now());
        let (lma, restored) = if standby.is_to_lead() {
            self.lma_tables = standby.tables;
            standby.follower.lead(config, seed, now)
        } else {
            self.lma_tables = Tables::default();
            let records = self.lma_records.iter();
            let records = records.map(|(key, value)| LmaRecord::read(key, value));
            Lma::restore(config, seed, now, records)
        };
        self.stirred = true;
        assert_eq!(restored.spoilt, []);
        self.lma = kept_lma(lma, seed);
        self.write_lma_down();
    }

    /// Whether there was anything; whoever stands by hears it as well.
    fn write_lma_down(&mut self) -> bool {
        let mut group = Vec::new();
        while let Some(record) = self.lma.poll_record() {
            self.stirred |= !record.key.starts_with(&LMA_HEARD);
            group.push((record.key.clone(), record.value.clone()));
            write_down(&mut self.lma_records, record);
        }
        let any = !group.is_empty();
        self.standby.hear(group.into_iter());
        any
    }

    fn bring_back(&mut self, mag: usize, restart: Option<u32>) {
        let seed = self.dice.roll();
        check_recording(&self.mags[mag]);
        let config = self.mag_config[mag].clone();
        let records = self.mag_records[mag].clone();
        let (mut restored, report) = Mag::restore(config, seed, self.mag_now(mag), records);
        if let Some(counter) = restart {
            restored.count_restart(self.mag_now(mag), counter);
        }
        assert_eq!(report.spoilt, []);
        self.mags[mag] = kept_mag(restored, seed);
        self.stirred = true;
        self.mag_tables[mag] = Tables::default();
        while let Some(record) = self.mags[mag].poll_record() {
            write_down(&mut self.mag_records[mag], record);
        }
    }

    pub(crate) fn add_flow(
        &mut self,
        mn_id: &MnId,
        selector: TrafficSelector,
        bid: Bid,
    ) -> Option<Fid> {
        let now = self.lma_now();
        let request = FlowRequest {
            mn_id: mn_id.clone(),
            fid: None,
            priority: None,
            selector,
            bid,
        };
        let fid = self.lma.add_flow(now, request).ok();
        self.drain();
        fid
    }

    pub(crate) fn move_flow(
        &mut self,
        mn_id: &MnId,
        fid: Fid,
        to: Bid,
    ) -> Option<pmip_proto::MoveStarted> {
        let now = self.lma_now();
        let started = self.lma.move_flow(now, mn_id, fid, to).ok();
        self.drain();
        started
    }

    pub(crate) fn delete_flow(&mut self, mn_id: &MnId, fid: Fid) {
        let now = self.lma_now();
        let _ = self.lma.delete_flow(now, mn_id, fid);
        self.drain();
    }

    /// Writes down what has changed, and carries out all commands, in order.
    pub(crate) fn drain(&mut self) {
        let lma_wrote = self.write_lma_down();
        let mut mags_wrote = vec![false; self.mags.len()];
        for (mag, wrote) in mags_wrote.iter_mut().enumerate() {
            while let Some(record) = self.mags[mag].poll_record() {
                *wrote = true;
                self.stirred |= !record.key.starts_with(&MAG_HEARD);
                write_down(&mut self.mag_records[mag], record);
            }
        }
        self.strike(lma_wrote, &mags_wrote);
        while let Some(command) = self.lma.poll_command() {
            self.stirred |= !is_heartbeat(&command);
            match command {
                Command::Send { from, to, message } => self.send(from, to, message),
                Command::Table(update) => self.lma_tables.apply(update),
                Command::Advertise(_) => panic!("an LMA does not advertise"),
            }
        }
        for mag in 0..self.mags.len() {
            while let Some(command) = self.mags[mag].poll_command() {
                self.stirred |= !is_heartbeat(&command);
                match command {
                    Command::Send { from, to, message } => self.send(from, to, message),
                    Command::Table(update) => self.mag_tables[mag].apply(update),
                    Command::Advertise(ra) => self.advertisements.push(ra),
                }
            }
            let probes = std::iter::from_fn(|| self.mags[mag].poll_probe());
            self.probes.extend(probes);
            let events = std::iter::from_fn(|| self.mags[mag].poll_event());
            self.mag_events.extend(events);
        }
        let events = std::iter::from_fn(|| self.lma.poll_event());
        self.lma_events.extend(events);
        let heard = (self.lma_events.len(), self.mag_events.len());
        if std::mem::take(&mut self.stirred) || heard != self.heard {
            self.heard = heard;
            self.check();
        }
    }

    fn send(&mut self, from: Ipv6Addr, to: Ipv6Addr, message: Message) {
        self.note_sent(to, &message);
        let octets = message.encode(from, to).unwrap();
        let sent = Sent {
            at: self.clock,
            to,
            message,
        };
        let unreachable = |a: Ipv6Addr| {
            self.cut
                .iter()
                .zip(COAS)
                .any(|(cut, coa)| *cut && coa.0 == a)
        };
        let lost = unreachable(from) || unreachable(to) || (self.lose)(&sent);
        if replaying() {
            eprintln!("{:?} to {to}: {:?}", sent.at, sent.message);
        }
        self.log.push(sent);
        if lost || self.dice.chance(self.weather.loss) {
            return;
        }
        let copies = 1 + u64::from(self.dice.chance(self.weather.repeat));
        for _ in 0..copies {
            let most = if self.dice.chance(self.weather.slow) {
                self.weather.slow_delay
            } else {
                self.weather.delay
            };
            let delay = 1 + self.dice.below(most.max(1));
            let at = self.clock + Duration::from_millis(delay);
            self.packets += 1;
            let octets = octets.clone();
            self.wire
                .insert((at, self.packets), Packet { from, to, octets });
        }
    }

    /// When something happens next.
    fn next(&self) -> Option<Duration> {
        let wire = self.wire.keys().next().map(|(at, _)| *at);
        let mags = self.mags.iter().map(|mag| mag.poll_timeout());
        let timers = mags.chain([self.lma.poll_timeout(), wire]);
        timers.flatten().min()
    }

    /// Lets the next thing happen, if it does before `end`.
    fn step(&mut self, end: Duration) -> bool {
        let Some(at) = self.next().filter(|at| *at <= end) else {
            self.clock = self.clock.max(end);
            return false;
        };
        self.clock = self.clock.max(at);
        let due = self
            .wire
            .first_key_value()
            .filter(|((at, _), _)| *at <= self.clock);
        if let Some((key, _)) = due.map(|(k, v)| (*k, v.clone())) {
            let packet = self.wire.remove(&key).unwrap();
            self.deliver(&packet);
        } else {
            let now = self.lma_now();
            self.lma.handle_timeout(now);
            self.drain();
            for mag in 0..self.mags.len() {
                let now = self.mag_now(mag);
                self.mags[mag].handle_timeout(now);
                self.drain();
            }
        }
        true
    }

    fn deliver(&mut self, packet: &Packet) {
        let now = self.now();
        let cut = |a: Ipv6Addr| (0..2).any(|mag| self.cut[mag] && COAS[mag].0 == a);
        if cut(packet.from) || cut(packet.to) {
            return;
        }
        let Packet { from, to, octets } = packet;
        let message = self.receiver.receive(now, *from, *to, octets).unwrap();
        self.stirred |= !matches!(message, Message::Heartbeat(_));
        if *to == LMAA.0 {
            self.note_delivered(*from, &message);
            let now = self.lma_now();
            self.lma.handle_message(now, *from, *to, &message);
        } else {
            let mag = COAS.iter().position(|coa| coa.0 == *to).unwrap();
            let now = self.mag_now(mag);
            self.mags[mag].handle_message(now, *from, *to, &message);
        }
        self.drain();
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.clock + time;
        let mut steps = 0;
        while self.step(end) {
            steps += 1;
            assert!(steps < 200_000, "no end of events before {end:?}");
        }
    }

    pub(crate) fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    /// Lets time pass until nothing is on its way.
    pub(crate) fn run_to_quiet(&mut self) {
        for _ in 0..100_000 {
            let signalling = self.lma.bindings().any(|(_, bce)| bce.is_signalling());
            if self.wire.is_empty() && !signalling {
                return;
            }
            let next = self.next().unwrap();
            self.step(next);
        }
        panic!("the network never falls quiet");
    }

    fn note_sent(&mut self, to: Ipv6Addr, message: &Message) {
        let off_link = |hnps: &[HnpOption]| -> BTreeSet<Hnp> {
            let granted = hnps.iter().filter(|h| h.off_link);
            granted.map(|h| h.prefix).collect()
        };
        let Some(mag) = COAS.iter().position(|coa| coa.0 == to) else {
            return;
        };
        let asked: Asked = match message {
            Message::Fmi(fmi) => {
                let flow = FlowAtMag {
                    mag,
                    mn_id: fmi.mn_id.as_ref().unwrap().nai().unwrap().clone(),
                    session: fmi.ll_id.clone(),
                    selectors: format!("{:?}", fmi.selectors),
                };
                if fmi.is_deletion() {
                    let session = flow.session.as_ref();
                    self.acknowledged.retain(|other, _| {
                        !other.is_beside(&flow)
                            || other.selectors != flow.selectors
                            || session
                                .is_some_and(|s| other.session.as_ref().is_some_and(|o| o != s))
                    });
                    vec![(flow, BTreeSet::new())]
                } else {
                    vec![(flow, off_link(&fmi.hnps))]
                }
            }
            Message::Upn(upn) if upn.reason == NotificationReason::FLOW_MOBILITY => {
                let flow = FlowAtMag {
                    mag,
                    mn_id: upn.mn_id.as_ref().unwrap().nai().unwrap().clone(),
                    session: upn.ll_id.clone(),
                    selectors: String::new(),
                };
                let hnps = off_link(&upn.hnps);
                let selectors = upn.flows.iter().map(|f| vec![f.selector.clone().unwrap()]);
                let listed = selectors.map(|selectors| FlowAtMag {
                    selectors: format!("{selectors:?}"),
                    ..flow.clone()
                });
                let asked: Asked = listed.map(|flow| (flow, hnps.clone())).collect();
                // What a list leaves out is over.
                self.acknowledged.retain(|other, _| {
                    !other.is_beside(&flow)
                        || asked.iter().any(|(f, _)| f.selectors == other.selectors)
                        || (flow.session.is_some() && other.session != flow.session)
                });
                asked
            }
            _ => return,
        };
        let sequence = match message {
            Message::Fmi(fmi) => fmi.sequence,
            Message::Upn(upn) => upn.sequence,
            _ => return,
        };
        // An answer to an earlier message says nothing any more.
        for earlier in self.asked.values_mut() {
            earlier.retain(|(flow, _)| !asked.iter().any(|(f, _)| f == flow));
        }
        self.asked.insert((mag, sequence), asked);
    }

    fn note_delivered(&mut self, from: Ipv6Addr, message: &Message) {
        if let Message::Pbu(pbu) = message
            && pbu.handoff == Some(HandoffIndicator::NO_CHANGE)
            && let Some(mn_id) = pbu.mn_id.as_ref().and_then(|id| id.nai())
        {
            let view = self.lma.binding(mn_id);
            let mut sessions = view.iter().flat_map(|view| view.sessions);
            if !sessions.any(|s| s.ll_id == pbu.ll_id && s.proxy_coa.0 == from) {
                self.contested.insert(mn_id.clone());
            }
        }
        let sequence = match message {
            Message::Fma(fma) if fma.status.is_success() => fma.sequence,
            Message::Upa(upa) if upa.status.is_success() => upa.sequence,
            _ => return,
        };
        let mag = COAS.iter().position(|coa| coa.0 == from).unwrap();
        let asked = self.asked.get(&(mag, sequence));
        for (flow, hnps) in asked.into_iter().flatten() {
            if !hnps.is_empty() {
                self.acknowledged.insert(flow.clone(), hnps.clone());
            }
        }
    }

    /// Whether a MAG has acknowledged that it routes an off-link prefix for a mobile's flow.
    pub(crate) fn has_acknowledged(
        &self,
        mag: usize,
        mn_id: &MnId,
        selector: &TrafficSelector,
        hnp: Hnp,
    ) -> bool {
        let selectors = vec![pmip_wire::SelectorOption::from(selector.clone())];
        let selectors = format!("{selectors:?}");
        self.acknowledged.iter().any(|(flow, hnps)| {
            (flow.mag, &flow.mn_id, &flow.selectors) == (mag, mn_id, &selectors)
                && hnps.contains(&hnp)
        })
    }

    /// Whether a MAG has acknowledged that it routes an off-link prefix for some flow of a mobile.
    pub(crate) fn has_acknowledged_any(&self, mag: usize, mn_id: &MnId, hnp: Hnp) -> bool {
        let mut all = self.acknowledged.iter();
        all.any(|(flow, hnps)| (flow.mag, &flow.mn_id) == (mag, mn_id) && hnps.contains(&hnp))
    }

    /// The MAG that the LMA sends a packet to.
    pub(crate) fn mag_of(&self, to: Hnp, port: u16) -> Option<usize> {
        Self::mag_at(self.lma_tables.downlink(to, &packet(to, port))?)
    }

    pub(crate) fn mag_at(path: Path) -> Option<usize> {
        match path {
            Path::Tunnel(tunnel) => COAS.iter().position(|coa| coa.0 == tunnel.remote),
            Path::Link(_) => None,
        }
    }

    /// Short names of the flow mobility messages sent so far, with the MAG they go to or come from.
    pub(crate) fn signalling(&self) -> Vec<String> {
        let mag = |a: Ipv6Addr| COAS.iter().position(|coa| coa.0 == a).map(|m| m + 1);
        let mut last = None;
        let mut names = Vec::new();
        for sent in &self.log {
            match &sent.message {
                Message::Fmi(fmi) => {
                    last = mag(sent.to);
                    let what = if fmi.is_deletion() { "del" } else { "add" };
                    names.push(format!("FMI {what} MAG{}", last.unwrap()));
                }
                Message::Fma(fma) => {
                    names.push(format!("FMA {} MAG{}", fma.status.0, last.unwrap()));
                }
                Message::Upn(upn) => {
                    last = mag(sent.to);
                    let hnps = upn.hnps.iter().map(|hnp| {
                        let off_link = if hnp.off_link { " off-link" } else { "" };
                        format!("{}{off_link}", hnp.prefix)
                    });
                    let hnps = hnps.collect::<Vec<_>>().join(", ");
                    let fids: Vec<u16> = upn.flows.iter().map(|f| f.fid.0.get()).collect();
                    names.push(format!("UPN MAG{}: {hnps}, flows {fids:?}", last.unwrap()));
                }
                Message::Upa(upa) => {
                    names.push(format!("UPA {} MAG{}", upa.status.0, last.unwrap()));
                }
                _ => {}
            }
        }
        names
    }
}
