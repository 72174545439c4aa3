//! An LMA among hostile MAGs: any messages in any order, operators' commands, and time.
//!
//! After every step its tables are within their bounds, every prefix has one mobile, the workers' tables
//! are what its sessions ask for, and what it sends can be read. In the end everything runs out and
//! nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use arbitrary::Result;
use flow::{
    AccessTechnology, Bid, Fid, FidPriority, HandoffIndicator, Hnp, Interval, Lmaa, MacAddr, MnId,
    MnLinkLayerId, ProxyCoa, Selector, TrafficSelector,
};
use pmip_proto::lma::RevocationScope;
use pmip_proto::{
    Command, Dialect, FlowRequest, Lma, LmaConfig, MagPeer, MobileProfile, Now, PrefixModel,
    PrefixPool,
};
use pmip_wire::{
    BindingError, BindingErrorStatus, BindingLifetime, BindingStatus, Bra, FlowLifetime, Fma,
    FmaStatus, Fmi, Heartbeat, HeartbeatKind, HnpOption, Message, MnIdOption, Pba, PbaFlags, Pbu,
    PbuFlags, RawOption, RestartCounter, RevocationStatus, Timestamp, Upa, UpaStatus,
};

use crate::choice::Choice;
use crate::mag::heartbeat;
use crate::message::mend;
use crate::tables::Tables;

const LMAA: Ipv6Addr = address(0xf);
const STRANGER: Ipv6Addr = address(0xbad);
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const MAGS: [Ipv6Addr; 3] = [address(0xa), address(0xb), address(0xc)];
const SENDERS: [Ipv6Addr; 6] = [MAGS[0], MAGS[0], MAGS[1], MAGS[2], STRANGER, GROUP];
const NAMES: [&str; 5] = ["mn0", "mn1", "mn2", "mn3", "mn4"];

const MAX_MOBILES: usize = 3;
const MAX_SESSIONS: usize = 3;
const MAX_FLOWS: usize = 3;
const FMI_WINDOW: usize = 2;
const MAX_SESSIONS_PER_MAG: usize = 5;
const STEPS: usize = 48;
/// The time on the wall when the clock starts.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

const fn address(network: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, 1)
}

/// Prefix `n` of the pool; from 16 on, none of it.
fn hnp(n: u16) -> Hnp {
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0x1000, n, 0, 0, 0, 0);
    Hnp::new(address, 64).expect("no bits beyond the length")
}

fn name(choice: &mut Choice<'_>) -> Result<MnId> {
    let name = choice.pick(&NAMES)?;
    Ok(MnId::new(name).expect("a good name"))
}

/// Runs a sequence of steps.
pub fn run(data: &[u8]) {
    let mut choice = Choice::new(data);
    let Ok(mut world) = World::new(&mut choice) else {
        return;
    };
    for _ in 0..STEPS {
        if world.step(&mut choice).is_err() {
            break;
        }
        world.carry_out();
        world.check();
    }
    world.run_out();
}

struct World {
    lma: Lma,
    now: Now,
    tables: Tables,
    /// The last FMIs.
    fmis: Vec<(Ipv6Addr, Fmi)>,
    /// The last requests of other kinds.
    asked: Vec<(Ipv6Addr, Message)>,
    pbas: u64,
}

impl World {
    fn new(choice: &mut Choice<'_>) -> Result<Self> {
        let peers = MAGS.map(|coa| MagPeer::new(ProxyCoa(coa)));
        let pool = Hnp::new(hnp(0).addr(), 60).expect("a prefix");
        let pool = PrefixPool::new(pool, 64, Duration::from_secs(2)).expect("a pool");
        let mut config = LmaConfig::new(Lmaa(LMAA), peers.to_vec(), vec![pool]);
        config.peers[2].dialect = Dialect::Rfc7864;
        config.max_mobiles = MAX_MOBILES;
        config.max_sessions_per_mobile = MAX_SESSIONS;
        config.max_flows_per_mobile = MAX_FLOWS;
        config.fmi_window = FMI_WINDOW;
        config.max_sessions_per_mag = MAX_SESSIONS_PER_MAG;
        config.prefixes_per_session = 1 + choice.below(2)?;
        config.prefix_model = choice.pick(&[PrefixModel::Unique, PrefixModel::Shared])?;
        config.signal_hosted = choice.flag()?;
        config.flow_lifetime = choice.pick(&[0xffff, 10])?;
        config.mag_link_local = None;
        // No octet of its own, so that inputs kept from before still mean the same.
        if config.flow_lifetime == 10 {
            config.pool = vec![Lmaa(LMAA), Lmaa(MAGS[2])];
        }
        let reserved = MobileProfile {
            prefixes: vec![hnp(0), hnp(99)],
            mags: Some(BTreeSet::from([ProxyCoa(MAGS[0]), ProxyCoa(MAGS[1])])),
            ..MobileProfile::default()
        };
        let disabled = MobileProfile {
            enabled: false,
            ..MobileProfile::default()
        };
        let named = |name, profile| (MnId::new(name).expect("a name"), profile);
        config.profiles = BTreeMap::from([named("mn1", reserved), named("mn4", disabled)]);
        Ok(Self {
            lma: Lma::new(config, choice.octet()?.into()),
            now: Now {
                monotonic: Duration::ZERO,
                wall: EPOCH,
            },
            tables: Tables::default(),
            fmis: Vec::new(),
            asked: Vec::new(),
            pbas: 0,
        })
    }

    fn step(&mut self, choice: &mut Choice<'_>) -> Result<()> {
        match choice.below(20)? {
            0..6 => {
                let pbu = self.pbu(choice)?;
                self.receive(choice, &pbu.into())?;
            }
            6 | 7 => {
                let (from, fma) = self.fma(choice)?;
                self.lma.handle_message(self.now, from, LMAA, &fma.into());
            }
            8 => {
                let error = BindingError {
                    status: BindingErrorStatus(choice.below(4)?.try_into().unwrap_or(0)),
                    ..BindingError::unrecognized()
                };
                self.receive(choice, &error.into())?;
            }
            9 => self.wait(choice.time()?),
            16 | 17 => self.answer(choice)?,
            18 => {
                let heartbeat = heartbeat(choice)?;
                self.receive(choice, &heartbeat.into())?;
            }
            19 => self.command(choice)?,
            10 => {
                let due = self.lma.poll_timeout().unwrap_or_default();
                self.wait(due.saturating_sub(self.now.monotonic));
            }
            11 => self.add_flow(choice)?,
            12 | 13 => {
                let (mn, fid, to) = (name(choice)?, fid(choice)?, bid(choice)?);
                // Refused or not, see what holds afterwards.
                let _started = self.lma.move_flow(self.now, &mn, fid, to);
            }
            14 => {
                let (mn, fid) = (name(choice)?, fid(choice)?);
                let _deleted = self.lma.delete_flow(self.now, &mn, fid);
                let coa = ProxyCoa(choice.pick(&SENDERS)?);
                self.lma.allow_signalling(self.now, coa);
            }
            _ => {
                let from = choice.pick(&SENDERS)?;
                let mut mh = choice.octets()?.to_vec();
                mend(&mut mh, from, LMAA);
                if let Ok(message) = Message::decode(&mh, from, LMAA) {
                    self.lma.handle_message(self.now, from, LMAA, &message);
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self, choice: &mut Choice<'_>, message: &Message) -> Result<()> {
        let from = choice.pick(&SENDERS)?;
        let to = choice.pick(&[LMAA, LMAA, LMAA, STRANGER])?;
        self.lma.handle_message(self.now, from, to, message);
        Ok(())
    }

    /// Answers one of the last requests that were no FMIs of the draft, more or less.
    fn answer(&mut self, choice: &mut Choice<'_>) -> Result<()> {
        let Some((mag, asked)) = (match self.asked.as_slice() {
            [] => None,
            known => Some(choice.pick(known)?),
        }) else {
            return Ok(());
        };
        let shift = choice.pick(&[0, 0, 0, 1])?;
        let answer: Message = match asked {
            Message::Upn(upn) => Upa {
                sequence: upn.sequence.wrapping_add(shift),
                status: UpaStatus(choice.pick(&[0, 0, 0, 128, 131, 132])?),
                mn_id: upn.mn_id,
                hnps: upn.hnps,
                flows: if choice.flag()? {
                    upn.flows
                } else {
                    Vec::new()
                },
                others: Vec::new(),
            }
            .into(),
            Message::Bri(bri) => Bra {
                status: RevocationStatus(choice.pick(&[0, 0, 1, 128, 130, 132])?),
                sequence: bri.sequence.wrapping_add(shift),
                flags: bri.flags,
                mn_id: bri.mn_id,
                hnps: bri.hnps,
                others: Vec::new(),
            }
            .into(),
            Message::Heartbeat(request) => Heartbeat {
                kind: HeartbeatKind::Response,
                sequence: request.sequence.wrapping_add(shift.into()),
                restart_counter: Some(RestartCounter(choice.pick(&[1, 1, 2])?)),
                others: Vec::new(),
            }
            .into(),
            Message::Pbu(pbu) => Pba {
                status: BindingStatus(choice.pick(&[0, 130, 153, 153, 157])?),
                flags: PbaFlags::PROXY,
                sequence: pbu.sequence.wrapping_add(shift),
                lifetime: pbu.lifetime,
                mn_id: pbu.mn_id,
                hnps: choice.some(1, |_| Ok(HnpOption::on_link(hnp(99))))?,
                handoff: pbu.handoff,
                access: pbu.access,
                ll_id: pbu.ll_id,
                timestamp: pbu.timestamp,
                ..Pba::default()
            }
            .into(),
            Message::Pba(_)
            | Message::BindingError(_)
            | Message::Fmi(_)
            | Message::Fma(_)
            | Message::Bra(_)
            | Message::Upa(_) => return Ok(()),
        };
        let from = choice.pick(&[mag, mag, mag, STRANGER])?;
        self.lma.handle_message(self.now, from, LMAA, &answer);
        Ok(())
    }

    /// What operators ask for besides flows.
    fn command(&mut self, choice: &mut Choice<'_>) -> Result<()> {
        let (mn, bid) = (name(choice)?, bid(choice)?);
        let coa = ProxyCoa(choice.pick(&SENDERS)?);
        let scope = match choice.below(5)? {
            0 => RevocationScope::Mobile(mn),
            1 => RevocationScope::Session(mn, bid),
            2 => RevocationScope::MobileAt(mn, coa),
            3 => RevocationScope::Peer(coa),
            _ => {
                let _asked = self.lma.reregister(self.now, &mn, Some(bid), None);
                self.lma.set_draining(bid.0.get() == 4);
                return Ok(());
            }
        };
        let _revoked = self.lma.revoke(self.now, &scope);
        Ok(())
    }

    fn wait(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall += time;
        self.lma.handle_timeout(self.now);
        let next = self.lma.poll_timeout();
        assert!(next.is_none_or(|next| next > self.now.monotonic));
    }

    fn add_flow(&mut self, choice: &mut Choice<'_>) -> Result<()> {
        let request = FlowRequest {
            mn_id: name(choice)?,
            fid: choice.perhaps(&[1, 2])?.and_then(Fid::new),
            priority: choice
                .perhaps(&[1, 7, u16::MAX])?
                .and_then(FidPriority::new),
            selector: selector(choice)?,
            bid: bid(choice)?,
        };
        let _refused = self.lma.add_flow(self.now, request);
        Ok(())
    }

    fn pbu(&self, choice: &mut Choice<'_>) -> Result<Pbu> {
        let ours = Timestamp::from_epoch(self.now.wall);
        // A tenth of a second is 6553 of its units.
        let shift = i64::from(choice.octet()?.cast_signed()) * 655;
        let timestamp = Timestamp(ours.0.wrapping_add_signed(shift));
        let coas = [MAGS[0], MAGS[1], STRANGER, GROUP].map(ProxyCoa);
        let odd = choice.octet()?;
        let moved = odd.is_multiple_of(8);
        Ok(Pbu {
            sequence: choice.octet()?.into(),
            flags: PbuFlags(PbuFlags::REQUEST.0 ^ choice.pick(&[0, 0, 0, 0x0200, 0x1000])?),
            lifetime: BindingLifetime::from_units(choice.pick(&[0, 1, 75, u16::MAX])?),
            mn_id: mn_option(choice)?,
            hnps: choice.some(3, |choice| {
                let number = choice.pick(&[0, 1, 2, 3, 15, 16, 99])?;
                let prefix = choice.pick(&[Hnp::ALL_ZERO, Hnp::ALL_ZERO, hnp(number)])?;
                Ok(HnpOption {
                    prefix,
                    off_link: false,
                })
            })?,
            handoff: choice.perhaps(&[1, 2, 3, 4, 5, 6])?.map(HandoffIndicator),
            access: choice.perhaps(&[4, 4, 8])?.map(AccessTechnology),
            ll_id: ll_id(choice)?,
            link_local: choice.perhaps(&[Ipv6Addr::UNSPECIFIED, MacAddr::MAG.link_local()])?,
            timestamp: choice.flag()?.then_some(timestamp),
            alt_coa: if moved { choice.perhaps(&coas)? } else { None },
            redirect_capability: odd & 0x30 == 0x10,
            others: choice.some(1, |choice| {
                Ok(RawOption::new(200, &[choice.octet()?]).expect("a short option"))
            })?,
            ..Pbu::default()
        })
    }

    fn fma(&self, choice: &mut Choice<'_>) -> Result<(Ipv6Addr, Fma)> {
        let (asked_at, asked) = match self.fmis.as_slice() {
            [] => (MAGS[0], Fmi::default()),
            known => choice.pick(known)?,
        };
        let odd = choice.octet()?;
        let fma = Fma {
            sequence: asked.sequence.wrapping_add(u16::from(odd & 1)),
            status: FmaStatus(choice.pick(&[0, 0, 0, 128, 129, 130, 131, 255])?),
            lifetime: choice.pick(&[asked.lifetime, FlowLifetime::ZERO])?,
            mn_id: if odd & 6 == 0 {
                mn_option(choice)?
            } else {
                asked.mn_id
            },
            hnps: asked.hnps,
            others: Vec::new(),
        };
        let from = if odd & 0x18 == 0 {
            choice.pick(&SENDERS)?
        } else {
            asked_at
        };
        Ok((from, fma))
    }

    /// Does what the LMA asks for.
    fn carry_out(&mut self) {
        while let Some(command) = self.lma.poll_command() {
            match command {
                Command::Table(update) => self.tables.apply(update),
                Command::Send { from, to, message } => {
                    assert_eq!(from, LMAA);
                    assert!(!to.is_multicast() && !to.is_unspecified());
                    let octets = message.encode(from, to).expect("it fits");
                    assert_eq!(Message::decode(&octets, from, to).as_ref(), Ok(&message));
                    self.sent(to, message);
                }
                Command::Advertise(advertisement) => panic!("{advertisement:?}"),
            }
        }
        while self.lma.poll_event().is_some() {}
    }

    fn sent(&mut self, to: Ipv6Addr, message: Message) {
        self.pbas += u64::from(matches!(message, Message::Pba(_)));
        match message {
            Message::Fmi(fmi) => {
                assert!(MAGS.contains(&to), "an FMI to {to}");
                self.fmis.truncate(7);
                self.fmis.insert(0, (to, fmi));
            }
            Message::Upn(_) | Message::Bri(_) | Message::Heartbeat(_) | Message::Pbu(_) => {
                assert!(MAGS.contains(&to), "{message:?} to {to}");
                self.asked.truncate(7);
                self.asked.insert(0, (to, message));
            }
            Message::Pba(_)
            | Message::BindingError(_)
            | Message::Fma(_)
            | Message::Bra(_)
            | Message::Upa(_) => {}
        }
    }

    fn check(&self) {
        assert!(self.lma.mobiles() <= MAX_MOBILES);
        let mut sessions: BTreeMap<&MnId, Vec<BTreeSet<Hnp>>> = BTreeMap::new();
        let mut owners: BTreeMap<Hnp, &MnId> = BTreeMap::new();
        for (mn_id, bce) in self.lma.bindings() {
            assert!(!bce.hnps.is_empty());
            for hnp in &bce.hnps {
                assert_eq!(owners.insert(*hnp, mn_id).unwrap_or(mn_id), mn_id);
            }
            let hnps = bce.hnps.iter().copied().collect();
            sessions.entry(mn_id).or_default().push(hnps);
        }
        for sets in sessions.values() {
            assert!(sets.len() <= MAX_SESSIONS);
            for (i, one) in sets.iter().enumerate() {
                let others = &sets[..i];
                assert!(others.iter().all(|o| o == one || o.is_disjoint(one)));
            }
        }
        assert!(self.tables.hnps().iter().eq(owners.keys()));
        self.tables.check_swept();
        assert_eq!(self.lma.tunnels(), self.tables.paths());
        for peer in self.lma.peers() {
            assert!(peer.outstanding <= FMI_WINDOW);
        }
        let registered: usize = self.lma.peers().map(|peer| peer.sessions).sum();
        assert_eq!(registered, self.lma.bindings().count());
        let mut flows: BTreeMap<&MnId, Vec<(FidPriority, Fid)>> = BTreeMap::new();
        for (mn_id, flow, _) in self.lma.flows() {
            let of_mobile = flows.entry(mn_id).or_default();
            of_mobile.push((flow.priority, flow.fid));
        }
        for flows in flows.values() {
            assert!(flows.len() <= MAX_FLOWS);
            assert!(flows.is_sorted_by(|a, b| a.0 < b.0));
            let fids: BTreeSet<Fid> = flows.iter().map(|(_, fid)| *fid).collect();
            assert_eq!(fids.len(), flows.len());
        }
        let counters = self.lma.counters();
        let pbas = counters.pbas.values().sum::<u64>() + counters.pool_questions;
        assert_eq!(pbas, self.pbas);
    }

    /// Without news from the MAGs all sessions end, and nothing is left of them.
    fn run_out(&mut self) {
        // More often than anything is repeated.
        for _ in 0..12 {
            self.wait(Duration::from_mins(10));
            self.carry_out();
            self.check();
        }
        assert_eq!(self.lma.bindings().count(), 0);
        assert_eq!(self.lma.tunnels(), 0);
        assert_eq!(self.lma.poll_timeout(), None);
        assert!(self.lma.peers().all(|peer| peer.outstanding == 0));
    }
}

fn mn_option(choice: &mut Choice<'_>) -> Result<Option<MnIdOption>> {
    let odd = MnIdOption::Other {
        subtype: 2,
        octets: Box::new([1]),
    };
    let name = MnIdOption::from(name(choice)?);
    let names = [
        &[name.clone(), name.clone(), name.clone(), name][..],
        &[MnIdOption::Empty, odd],
    ];
    let of: Vec<MnIdOption> = names.concat();
    let index = choice.below(of.len() + 1)?;
    Ok(of.get(index).cloned())
}

/// The link-layer identifier of an interface, or none.
pub(crate) fn ll_id(choice: &mut Choice<'_>) -> Result<Option<MnLinkLayerId>> {
    let interface = choice.perhaps(&[1, 2, 3, 4])?;
    Ok(interface.map(|n| MacAddr([2, 0, 0, 0, 0, n]).into()))
}

fn bid(choice: &mut Choice<'_>) -> Result<Bid> {
    let number = choice.pick(&[1, 2, 3, 4])?;
    Ok(Bid::new(number).expect("not zero"))
}

fn fid(choice: &mut Choice<'_>) -> Result<Fid> {
    let number = choice.pick(&[1, 2, 3])?;
    Ok(Fid::new(number).expect("not zero"))
}

/// A selector of some packets to some of the prefixes, or one that is not well formed.
pub(crate) fn selector(choice: &mut Choice<'_>) -> Result<TrafficSelector> {
    let port = choice.pick(&[5001, 5002])?;
    let to = choice.perhaps(&[0, 1, 2, 99])?;
    let mut selector = Selector {
        destination: to.map(|n| Interval {
            start: hnp(n).addr(),
            end: hnp(n).net().broadcast(),
        }),
        destination_port: Some(Interval::single(port)),
        next_header: Some(Interval::single(17)),
        ..Selector::<Ipv6Addr>::default()
    };
    match choice.octet()? {
        0 => return Ok(TrafficSelector::Ipv4(Selector::default())),
        1 => selector.flow_label = Some(Interval::single(1 << 20)),
        2 => selector.spi = Some(Interval { start: 2, end: 1 }),
        _ => {}
    }
    Ok(selector.into())
}
