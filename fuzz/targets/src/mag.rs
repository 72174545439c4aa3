//! A MAG among hostile LMAs and mobiles: any messages in any order, attachments, and time.
//!
//! After every step its tables are within their bounds, no route meets another mobile's, the workers'
//! tables are its routes, and what it sends can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use arbitrary::Result;
use flow::{
    AccessTechnology, Fid, FidPriority, HandoffIndicator, Hnp, Lmaa, MacAddr, MnId, PortId,
    ProxyCoa,
};
use pmip_proto::{Attachment, Command, Dialect, LmaPeer, Mag, MagConfig, Now, RouterAdvertisement};
use pmip_wire::{
    BindingLifetime, BindingStatus, Bri, FlowIdentification, FlowLifetime, FlowStatus, Fmi,
    Heartbeat, HeartbeatKind, HnpOption, Message, MnIdOption, NotificationReason, Pba, PbaFlags,
    Pbu, Redirect, RestartCounter, RevocationFlags, RevocationTrigger, SelectorOption, Timestamp,
    Upn,
};

use crate::choice::Choice;
use crate::lma::{ll_id, selector};
use crate::message::mend;
use crate::tables::Tables;

const COA: Ipv6Addr = address(0xa);
const STRANGER: Ipv6Addr = address(0xbad);
const LMAS: [Ipv6Addr; 2] = [address(0xf), address(0xe)];
const SENDERS: [Ipv6Addr; 4] = [LMAS[0], LMAS[0], LMAS[1], STRANGER];
const NAMES: [&str; 3] = ["mn0", "mn1", "mn2"];

const MAX_SESSIONS: usize = 3;
const MAX_FLOWS: usize = 2;
const STEPS: usize = 48;
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

const fn address(network: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, 1)
}

/// Prefixes that meet each other in several ways, and some that nobody can have.
fn hnp(choice: &mut Choice<'_>) -> Result<Hnp> {
    let network = choice.pick(&[0_u16, 0, 1, 2, 99, 0xff02])?;
    let len = choice.pick(&[64, 64, 64, 56, 48, 128, 8, 0])?;
    let address = match network {
        0xff02 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0),
        n => Ipv6Addr::new(0x2001, 0xdb8, 0x1000, n, 0, 0, 0, 0),
    };
    let net = ipnet::Ipv6Net::new(address, len).expect("a length").trunc();
    Ok(Hnp::new(net.addr(), len).expect("no bits beyond the length"))
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
    world.leave();
}

struct World {
    mag: Mag,
    now: Now,
    tables: Tables,
    /// The last PBUs.
    pbus: Vec<(Ipv6Addr, Pbu)>,
    sent: u64,
    fmas: u64,
    upas: u64,
}

impl World {
    fn new(choice: &mut Choice<'_>) -> Result<Self> {
        let mut lmas = LMAS.map(|lmaa| LmaPeer::new(Lmaa(lmaa)));
        lmas[1].dialect = Dialect::Rfc7864;
        let mut config = MagConfig::new(ProxyCoa(COA), lmas.to_vec());
        config.max_sessions = MAX_SESSIONS;
        config.max_flows_per_session = MAX_FLOWS;
        config.timestamps = choice.flag()?;
        config.max_flow_lifetime = choice.pick(&[0xffff, 20])?;
        // No octet of its own, so that inputs kept from before still mean the same.
        config.local_routing = config.max_flow_lifetime == 20;
        if config.local_routing {
            config.pool = LMAS.map(Lmaa).to_vec();
        }
        config.link_local = choice.pick(&[None, Some(MacAddr::MAG.link_local())])?;
        Ok(Self {
            mag: Mag::new(config, choice.octet()?.into()),
            now: Now {
                monotonic: Duration::ZERO,
                wall: EPOCH,
            },
            tables: Tables::default(),
            pbus: Vec::new(),
            sent: 0,
            fmas: 0,
            upas: 0,
        })
    }

    fn step(&mut self, choice: &mut Choice<'_>) -> Result<()> {
        match choice.below(20)? {
            0..3 => {
                let attachment = attachment(choice)?;
                let before = self.mag.bul().count();
                if self.mag.attach(self.now, attachment).is_err() {
                    assert_eq!(self.mag.bul().count(), before);
                }
            }
            3 => {
                let (port, mac) = link(choice)?;
                let _left = self.mag.detach(self.now, port, mac);
            }
            4 => {
                let (port, mac) = link(choice)?;
                let _known = self.mag.handle_router_solicitation(self.now, port, mac);
            }
            5..9 => {
                let (from, pba) = self.pba(choice)?;
                self.mag.handle_message(self.now, from, COA, &pba.into());
            }
            9..13 => {
                let fmi = fmi(choice)?;
                let from = choice.pick(&SENDERS)?;
                let to = choice.pick(&[COA, COA, COA, STRANGER])?;
                let before = self.fmas;
                self.mag.handle_message(self.now, from, to, &fmi.into());
                self.carry_out();
                let answered = u64::from(from != STRANGER && to == COA);
                assert_eq!(self.fmas, before + answered, "one answer to each");
            }
            13 => self.wait(choice.time()?),
            16 | 17 => {
                let upn = upn(choice)?;
                let from = choice.pick(&SENDERS)?;
                let to = choice.pick(&[COA, COA, COA, STRANGER])?;
                let before = self.upas;
                let answered = u64::from(from != STRANGER && to == COA && upn.acknowledge);
                self.mag.handle_message(self.now, from, to, &upn.into());
                self.carry_out();
                assert_eq!(self.upas, before + answered, "one answer to each");
            }
            18 => {
                let heartbeat = heartbeat(choice)?;
                let from = choice.pick(&SENDERS)?;
                self.mag
                    .handle_message(self.now, from, COA, &heartbeat.into());
            }
            19 => {
                let bri = bri(choice)?;
                let from = choice.pick(&SENDERS)?;
                self.mag.handle_message(self.now, from, COA, &bri.into());
            }
            14 => {
                let due = self.mag.poll_timeout().unwrap_or_default();
                self.wait(due.saturating_sub(self.now.monotonic));
            }
            _ => {
                let from = choice.pick(&SENDERS)?;
                let mut mh = choice.octets()?.to_vec();
                mend(&mut mh, from, COA);
                if let Ok(message) = Message::decode(&mh, from, COA) {
                    self.mag.handle_message(self.now, from, COA, &message);
                }
            }
        }
        Ok(())
    }

    fn wait(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall += time;
        self.mag.handle_timeout(self.now);
        let next = self.mag.poll_timeout();
        assert!(next.is_none_or(|next| next > self.now.monotonic));
    }

    fn pba(&self, choice: &mut Choice<'_>) -> Result<(Ipv6Addr, Pba)> {
        let (asked, pbu) = match self.pbus.as_slice() {
            [] => (LMAS[0], Pbu::default()),
            known => choice.pick(known)?,
        };
        let odd = choice.octet()?;
        let mut pba = Pba {
            status: BindingStatus(
                choice.pick(&[0, 0, 0, 0, 1, 128, 130, 135, 152, 154, 155, 156, 157, 159])?,
            ),
            flags: PbaFlags::PROXY,
            sequence: pbu.sequence,
            lifetime: choice.pick(&[pbu.lifetime, pbu.lifetime, BindingLifetime::from_units(1)])?,
            mn_id: pbu.mn_id,
            hnps: choice.some(2, |choice| {
                Ok(HnpOption {
                    prefix: hnp(choice)?,
                    off_link: choice.octet()?.is_multiple_of(8),
                })
            })?,
            handoff: pbu.handoff,
            access: pbu.access,
            ll_id: pbu.ll_id,
            link_local: pbu.link_local.map(|_| MacAddr::MAG.link_local()),
            timestamp: pbu.timestamp,
            ..Pba::default()
        };
        match odd {
            0 => pba.flags = PbaFlags(0),
            1 => pba.sequence = pba.sequence.wrapping_add(choice.octet()?.into()),
            2 => pba.mn_id = Some(name(choice)?.into()),
            3 => pba.handoff = None,
            4 => pba.access = Some(AccessTechnology(choice.octet()?)),
            5 => pba.ll_id = ll_id(choice)?,
            6 => pba.timestamp = Some(Timestamp(u64::MAX)),
            7 => return Ok((choice.pick(&SENDERS)?, pba)),
            8..24 => pba.redirect = Some(Redirect(LMAS[usize::from(odd % 2)].into())),
            24 => pba.redirect = Some(Redirect(STRANGER.into())),
            _ => {}
        }
        Ok((asked, pba))
    }

    /// Does what the MAG asks for.
    fn carry_out(&mut self) {
        while let Some(command) = self.mag.poll_command() {
            match command {
                Command::Table(update) => self.tables.apply(update),
                Command::Send { from, to, message } => {
                    assert_eq!(from, COA);
                    // A stranger is told only that it may not revoke (RFC 5846 §9.1).
                    let told = matches!(message, Message::Bra(_)) && to == STRANGER;
                    assert!(told || LMAS.contains(&to), "{message:?} to {to}");
                    let octets = message.encode(from, to).expect("it fits");
                    assert_eq!(Message::decode(&octets, from, to).as_ref(), Ok(&message));
                    self.sent(to, message);
                }
                Command::Advertise(advertisement) => self.advertised(&advertisement),
            }
        }
        while self.mag.poll_event().is_some() {}
    }

    fn sent(&mut self, to: Ipv6Addr, message: Message) {
        self.fmas += u64::from(matches!(message, Message::Fma(_)));
        self.upas += u64::from(matches!(message, Message::Upa(_)));
        if let Message::Pbu(pbu) = message {
            self.sent += 1;
            self.pbus.truncate(3);
            self.pbus.insert(0, (to, pbu));
        }
    }

    fn advertised(&self, advertisement: &RouterAdvertisement) {
        assert!(!advertisement.mac.is_multicast());
        assert!(advertisement.mtu >= 1280);
        assert!(advertisement.router_lifetime <= Duration::from_mins(150));
        let frame = nd::router::router_advertisement(advertisement, MacAddr::MAG);
        assert!(frame.len() <= 1280, "{advertisement:?}");
        let off_link: BTreeSet<Hnp> = self
            .mag
            .routes()
            .filter(|route| (route.port, route.mac) == (advertisement.port, advertisement.mac))
            .filter(|route| route.off_link)
            .map(|route| route.hnp)
            .collect();
        let live = |p: &&pmip_proto::AdvertisedPrefix| p.lifetime > Duration::ZERO;
        for prefix in advertisement.prefixes.iter().filter(live) {
            assert!(!off_link.contains(&prefix.hnp), "{advertisement:?}");
        }
    }

    fn check(&self) {
        assert!(self.mag.bul().count() <= MAX_SESSIONS);
        for bule in self.mag.bul() {
            assert!(bule.flows.len() <= MAX_FLOWS);
        }
        let mut owners: BTreeMap<Hnp, &MnId> = BTreeMap::new();
        for route in self.mag.routes() {
            let owner = *owners.entry(route.hnp).or_insert(route.mn_id);
            assert_eq!(owner, route.mn_id, "{}", route.hnp);
        }
        for (one, owner) in &owners {
            let mut meeting = owners.iter().filter(|(other, _)| other.overlaps(*one));
            assert!(meeting.all(|(_, other)| other == owner), "{owners:?}");
        }
        assert!(self.tables.hnps().iter().eq(owners.keys()));
        self.tables.check_swept();
        assert_eq!(self.mag.counters().pbus, self.sent);
    }

    /// When all mobiles have left and no LMA answers, nothing is left of them.
    fn leave(&mut self) {
        let links: Vec<_> = self
            .mag
            .bul()
            .map(|bule| (bule.attachment.port, bule.attachment.mac))
            .collect();
        for (port, mac) in links {
            let _left = self.mag.detach(self.now, port, mac);
        }
        for _ in 0..8 {
            self.wait(Duration::from_mins(2));
            self.carry_out();
            self.check();
        }
        assert_eq!(self.mag.bul().count(), 0);
        assert_eq!(self.tables.paths(), 0);
        assert_eq!(self.mag.poll_timeout(), None);
        for name in NAMES {
            let mn_id = MnId::new(name).expect("a good name");
            assert_eq!(self.mag.mobile_id(&mn_id), None);
        }
    }
}

fn link(choice: &mut Choice<'_>) -> Result<(PortId, MacAddr)> {
    let port = choice.pick(&[PortId(1), PortId(2)])?;
    let mac = choice.pick(&[[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [3, 0, 0, 0, 0, 1]])?;
    Ok((port, MacAddr(mac)))
}

fn attachment(choice: &mut Choice<'_>) -> Result<Attachment> {
    let (port, mac) = link(choice)?;
    Ok(Attachment {
        mn_id: name(choice)?,
        ll_id: ll_id(choice)?,
        access: AccessTechnology(choice.pick(&[4, 8])?),
        port,
        mac,
        handoff: HandoffIndicator(choice.pick(&[1, 4, 6])?),
        wanted: choice.some(2, hnp)?,
        lma: choice.perhaps(&[Lmaa(LMAS[0]), Lmaa(LMAS[1]), Lmaa(STRANGER)])?,
    })
}

fn fmi(choice: &mut Choice<'_>) -> Result<Fmi> {
    let lifetimes = [
        FlowLifetime::ZERO,
        FlowLifetime::from_seconds(10),
        FlowLifetime::INFINITE,
    ];
    let odd = choice.octet()?;
    Ok(Fmi {
        sequence: choice.octet()?.into(),
        cancel: odd & 1 != 0,
        refresh: odd & 2 != 0,
        lifetime: choice.pick(&lifetimes)?,
        mn_id: if odd >= 0xf0 {
            choice.pick(&[None, Some(MnIdOption::Empty)])?
        } else {
            Some(name(choice)?.into())
        },
        hnps: choice.some(3, |choice| {
            Ok(HnpOption {
                prefix: hnp(choice)?,
                off_link: choice.flag()?,
            })
        })?,
        access: if odd & 0xc == 0 {
            choice.perhaps(&[AccessTechnology(4), AccessTechnology(8)])?
        } else {
            None
        },
        ll_id: if odd & 0x30 == 0 {
            ll_id(choice)?
        } else {
            None
        },
        selectors: choice.some(3, |choice| {
            let selector = selector(choice)?;
            let good = selector.validate().is_ok();
            Ok(SelectorOption::from(if good {
                selector
            } else {
                flow::Selector::default().into()
            }))
        })?,
        others: Vec::new(),
    })
}

/// An update notification with the content of an FMI, for flow mobility mostly.
fn upn(choice: &mut Choice<'_>) -> Result<Upn> {
    let fmi = fmi(choice)?;
    let numbered = fmi.selectors.into_iter().map(|selector| {
        Ok(FlowIdentification {
            fid: Fid::new(choice.pick(&[1, 2, 3])?).expect("not 0"),
            priority: FidPriority::new(choice.pick(&[1, 2, 3])?).expect("not 0"),
            status: FlowStatus::SUCCESS,
            bindings: Vec::new(),
            selector: choice.flag()?.then_some(selector),
            others: Vec::new(),
        })
    });
    let flows = numbered.collect::<Result<Vec<_>>>()?;
    Ok(Upn {
        sequence: fmi.sequence,
        reason: NotificationReason(choice.pick(&[8, 8, 8, 8, 1, 2, 3, 77])?),
        acknowledge: !fmi.cancel || fmi.refresh,
        retransmission: fmi.refresh,
        mn_id: fmi.mn_id,
        hnps: fmi.hnps,
        access: fmi.access,
        ll_id: fmi.ll_id,
        flows,
        others: Vec::new(),
    })
}

/// A request, an answer to one that may have been made, or news that nobody asked for.
pub(crate) fn heartbeat(choice: &mut Choice<'_>) -> Result<Heartbeat> {
    Ok(Heartbeat {
        kind: choice.pick(&[
            HeartbeatKind::Request,
            HeartbeatKind::Response,
            HeartbeatKind::Unsolicited,
        ])?,
        sequence: choice.octet()?.into(),
        restart_counter: choice.perhaps(&[RestartCounter(1), RestartCounter(2)])?,
        others: Vec::new(),
    })
}

fn bri(choice: &mut Choice<'_>) -> Result<Bri> {
    Ok(Bri {
        trigger: RevocationTrigger(choice.pick(&[0, 1, 2, 4, 5, 7, 128, 129, 200])?),
        sequence: choice.octet()?.into(),
        flags: RevocationFlags(u16::from(choice.octet()?) << 8),
        mn_id: choice
            .perhaps(&[0, 1])?
            .map(|_| name(choice))
            .transpose()?
            .map(Into::into),
        hnps: choice.some(2, |choice| Ok(HnpOption::on_link(hnp(choice)?)))?,
        others: Vec::new(),
    })
}
