//! The control plane without a network card: octets of signalling in, octets and table updates out.

mod kept;
mod load;
mod shared;
mod switch;

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use flow::{AccessTechnology, HandoffIndicator, Hnp, Lmaa, MacAddr, MnId, ProxyCoa, TableUpdate};
use pmip_proto::{Command, Lma, LmaConfig, MagPeer, Now, PrefixPool, Receiver};
use pmip_wire::{BindingLifetime, Fma, Fmi, HnpOption, Message, Pbu, PbuFlags};
use serde::{Deserialize, Serialize};
use store::Store;

use crate::case::Memory;
use crate::cell::{environment, pin};
use crate::clock::thread_time;
use crate::machine::resident;
use crate::network;
use crate::report::rounded;

/// What the child is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Where the workers' packets and tables live.
    pub(crate) memory: Memory,
    /// Mobiles to attach.
    pub(crate) mobiles: u32,
    /// The core of the workers.
    pub(crate) core: usize,
    /// The core of the control plane.
    pub(crate) control_core: usize,
    /// How long a worker is offered packets without and with updates, in milliseconds.
    pub(crate) milliseconds: u64,
    /// Flow moves to time.
    pub(crate) moves: u32,
    /// The frequency of the time stamp counter.
    pub(crate) tsc_hz: f64,
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Mobiles attached.
    pub(crate) mobiles: u32,
    /// PBUs that moved a mobile to another MAG, per second of one core: each decoded, decided,
    /// answered with an encoded PBA and made a table update.
    pub(crate) updates_per_second: f64,
    /// PBUs that only prolonged a binding, likewise.
    pub(crate) refreshes_per_second: f64,
    /// From an empty LMA until all mobiles had a binding, with the PBAs encoded.
    pub(crate) attach_seconds: f64,
    /// Resident memory of the LMA for one mobile, without flows, workers' tables not included.
    pub(crate) bytes_per_mobile: f64,
    /// Updates per second that a forwarding worker was given, in `loaded_cycles`.
    pub(crate) load_updates_per_second: f64,
    /// Cycles per packet of a worker with a table of that many mobiles, left alone.
    pub(crate) idle_cycles: f64,
    /// Under updates.
    pub(crate) loaded_cycles: f64,
    /// What the updates took of the forwarding rate, in per cent: the median of neighbouring rounds.
    pub(crate) rate_drop_percent: f64,
    /// What is lost and how long it takes at a rate that the worker can keep; absent from old reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) under_load: Option<load::UnderLoad>,
    /// With all that is decided on disk; absent from old reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<kept::Kept>,
    /// With all that is decided in an etcd; absent where there is none, and from old reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shared: Option<shared::Shared>,
    /// From an FMA's octets until both workers forward by it.
    pub(crate) switch: Percentiles,
}

/// Of times, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    /// Times taken.
    pub(crate) count: u64,
    /// Half are below.
    pub(crate) p50_us: f64,
    /// 99 in a hundred.
    pub(crate) p99_us: f64,
    /// 9999 in ten thousand.
    pub(crate) p99_99_us: f64,
    /// The longest.
    pub(crate) max_us: f64,
}

/// Messages of a turn of the control thread: what they change is handed to the disk together.
const TURN: usize = 256;

/// Long enough for all of this.
const LIFETIME: BindingLifetime = BindingLifetime::MAX;

/// An LMA with its door for octets.
struct Anchor {
    config: LmaConfig,
    lma: Lma,
    /// Where all that changes is written, if it is.
    store: Option<Store>,
    receiver: Receiver,
    now: Now,
    /// Of the PBUs of a pass: each session gets one of them.
    sequence: u16,
    sent: u64,
    updates: Vec<TableUpdate>,
    /// FMIs that no one has answered yet, with the MAG each is for.
    initiated: VecDeque<(Ipv6Addr, Fmi)>,
}

impl Anchor {
    fn new() -> Result<Self> {
        let peers = (0..network::TUNNELS)
            .map(|number| MagPeer::new(ProxyCoa(network::gateway(number))))
            .collect();
        // Beside the pool of the workers' own mobiles.
        let range = Hnp::new(Ipv6Addr::new(0x2001, 0xdb8, 0x200, 0, 0, 0, 0, 0), 40)?;
        let pool = PrefixPool::new(range, 64, Duration::from_secs(2))?;
        let config = LmaConfig {
            max_lifetime: LIFETIME.duration(),
            ..LmaConfig::new(Lmaa(network::anchor()), peers, vec![pool])
        };
        Ok(Self {
            lma: Lma::new(config.clone(), 1),
            config,
            store: None,
            receiver: Receiver::new(10),
            now: Now::default(),
            sequence: 0,
            sent: 0,
            updates: Vec::new(),
            initiated: VecDeque::new(),
        })
    }

    /// Takes in the octets of a message and carries out what follows, as far as there is no network.
    fn handle(&mut self, from: Ipv6Addr, octets: &[u8]) -> Result<()> {
        let to = network::anchor();
        let message = self.receiver.receive(self.now, from, to, octets)?;
        self.lma.handle_message(self.now, from, to, &message);
        self.carry_out()
    }

    fn carry_out(&mut self) -> Result<()> {
        while let Some(command) = self.lma.poll_command() {
            match command {
                Command::Send { from, to, message } => {
                    std::hint::black_box(message.encode(from, to)?);
                    self.sent += 1;
                    match message {
                        Message::Pba(pba) => {
                            ensure!(
                                pba.status.is_accepted(),
                                "a PBU was refused: {:?}",
                                pba.status
                            );
                        }
                        Message::Fmi(fmi) => self.initiated.push_back((to, fmi)),
                        Message::Pbu(_)
                        | Message::BindingError(_)
                        | Message::Fma(_)
                        | Message::Heartbeat(_)
                        | Message::Bri(_)
                        | Message::Bra(_)
                        | Message::Upn(_)
                        | Message::Upa(_) => bail!("an LMA does not send this"),
                    }
                }
                Command::Table(update) => self.updates.push(update),
                Command::Advertise(_) => bail!("an LMA does not advertise"),
            }
        }
        while let Some(event) = self.lma.poll_event() {
            std::hint::black_box(event);
        }
        Ok(())
    }

    /// The octets of the FMA to the FMI that has waited longest, and who sends them.
    fn acknowledgement(&mut self) -> Result<Option<(Ipv6Addr, Vec<u8>)>> {
        let Some((mag, fmi)) = self.initiated.pop_front() else {
            return Ok(None);
        };
        let fma = Fma {
            sequence: fmi.sequence,
            lifetime: fmi.lifetime,
            mn_id: fmi.mn_id,
            hnps: fmi.hnps,
            ..Fma::default()
        };
        let octets = Message::from(fma).encode(mag, network::anchor())?;
        Ok(Some((mag, octets)))
    }

    /// Answers every FMI.
    fn acknowledge_all(&mut self) -> Result<()> {
        while let Some((mag, octets)) = self.acknowledgement()? {
            self.handle(mag, &octets)?;
        }
        Ok(())
    }

    /// Handles a batch; returns how long that took and how many table updates came of it.
    fn batch(&mut self, pbus: &[(Ipv6Addr, Vec<u8>)]) -> Result<(Duration, usize)> {
        let (start, sent) = (thread_time(), self.sent);
        for turn in pbus.chunks(TURN) {
            for (from, octets) in turn {
                self.handle(*from, octets)?;
            }
            self.keep();
        }
        let updates = self.updates.len();
        self.updates.clear();
        let took = thread_time().saturating_sub(start);
        ensure!(
            self.sent - sent == pbus.len() as u64,
            "not every PBU was answered"
        );
        self.now.monotonic += Duration::from_millis(1);
        Ok((took, updates))
    }

    /// The PBU of a mobile's interface at a gateway.
    fn pbu(
        &self,
        mobile: u32,
        interface: u8,
        gateway: u16,
        handoff: HandoffIndicator,
    ) -> Result<(Ipv6Addr, Vec<u8>)> {
        let from = network::gateway(gateway);
        let [a, b, c, d] = mobile.to_be_bytes();
        let pbu = Pbu {
            sequence: self.sequence,
            flags: PbuFlags::REQUEST,
            lifetime: LIFETIME,
            mn_id: Some(name(mobile)?.into()),
            hnps: vec![HnpOption::ALL_ZERO],
            handoff: Some(handoff),
            access: Some(AccessTechnology(4 + interface)),
            ll_id: Some(MacAddr([2, interface, a, b, c, d]).into()),
            ..Pbu::default()
        };
        Ok((from, Message::from(pbu).encode(from, network::anchor())?))
    }
}

fn name(mobile: u32) -> Result<MnId> {
    Ok(MnId::new(&format!("mn{mobile}@example.net"))?)
}

/// Measures; calls `progress` at each of [`STEPS`] steps.
///
/// # Errors
/// Any refusal, and whatever DPDK refuses.
pub(crate) fn measure(order: &Order, mut progress: impl FnMut()) -> Result<Outcome> {
    pin(order.control_core)?;
    let mut anchor = Anchor::new()?;
    let before = resident()?;
    let all = 0..order.mobiles;
    let attach = pass(
        &mut anchor,
        all.clone(),
        0,
        HandoffIndicator::NEW_INTERFACE,
        1,
    )?;
    let bytes = (resident()? - before) / f64::from(order.mobiles);
    progress();
    let moved = pass(
        &mut anchor,
        all.clone(),
        1,
        HandoffIndicator::BETWEEN_MAGS,
        1,
    )?;
    progress();
    let refreshed = pass(&mut anchor, all, 1, HandoffIndicator::NO_CHANGE, 0)?;
    progress();
    drop(anchor);
    let kept = kept::measure(order)?;
    progress();
    let shared = shared::measure(order)?;
    progress();
    pin(order.control_core)?;
    let (eal, pool) = environment(order.memory)?;
    let (flood, paced) = load::under_load(order, &eal, &pool)?;
    progress();
    pin(order.control_core)?;
    let switch = switch::switch_times(order, &eal, &pool)?;
    progress();
    let mobiles = f64::from(order.mobiles);
    Ok(Outcome {
        mobiles: order.mobiles,
        updates_per_second: rounded(mobiles / moved.as_secs_f64(), 0),
        refreshes_per_second: rounded(mobiles / refreshed.as_secs_f64(), 0),
        attach_seconds: rounded(attach.as_secs_f64(), 2),
        bytes_per_mobile: rounded(bytes, 0),
        load_updates_per_second: rounded(flood.given, 0),
        idle_cycles: rounded(flood.idle, 1),
        loaded_cycles: rounded(flood.loaded, 1),
        rate_drop_percent: rounded(flood.drop, 1),
        under_load: Some(paced),
        kept: Some(kept),
        shared,
        switch,
    })
}

/// How often [`measure`] tells of progress.
pub(crate) const STEPS: u64 = 7;

/// One PBU for every mobile, `shift` gateways on from its first. The octets are made between the
/// timed batches. Each makes at least `updates` table updates.
fn pass(
    anchor: &mut Anchor,
    mobiles: std::ops::Range<u32>,
    shift: u16,
    handoff: HandoffIndicator,
    updates: usize,
) -> Result<Duration> {
    const BATCH: u32 = 5000;
    anchor.sequence += 1;
    let mut took = Duration::ZERO;
    let mut first = mobiles.start;
    while first < mobiles.end {
        let last = (first + BATCH).min(mobiles.end);
        let pbus: Result<Vec<_>> = (first..last)
            .map(|mobile| {
                let gateway = (network::tunnel_of(mobile) + shift) % network::TUNNELS;
                anchor.pbu(mobile, 0, gateway, handoff)
            })
            .collect();
        let (time, made) = anchor.batch(&pbus?)?;
        ensure!(
            made >= updates * (last - first) as usize,
            "{made} table updates of {} PBUs",
            last - first
        );
        took += time;
        first = last;
    }
    Ok(took)
}
