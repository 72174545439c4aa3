//! The control thread: joins the state machines to the workers' rings.
//!
//! One plain loop over punts, requests and deadlines. Its order is the order that matters: whatever came in
//! is decided, table updates go to every worker, and only then do the messages that depend
//! on them leave.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::Receiver as Calls;
use dataplane::WorkerConfig;
use flow::{Lmaa, MacAddr, MnId, PortId, Punt, Role, Transmit, TransmitTo, Update};
use nd::packet::{Ipv6, ipv6_packet, next_header};
use nd::{NeighbourDiscovery, icmp6};
use pmip_proto::{Command, Now, Probe, Receiver, Reply};
use pmip_wire::Message;
use tracing::field::display;

use super::calls::WaitingMoves;
use super::capture::Captures;
use super::clock::Clock;
use super::keeping::Keeping;
use super::links::Links;
use super::metrics::Times;
use super::mobiles::MobileTable;
use super::outbox::{Answer, Letter, Outbox, Outgoing};
use super::overload::{Load, Overload};
use super::pair::Pair;
use super::protection::{Admitted, Protection, Sender};
use super::recorder::{FlightTape, RecordedLma, RecordedMag};
use super::reload::Reloads;
use super::reports::Reports;
use super::setup::{PortInfo, Setup};
use super::ways::{Ends, Ways};
use super::workers::WorkerSet;
use crate::api::event::What;
use crate::feed::EventMaker;
use crate::log::LogRate;
use crate::server::Call;

/// Hop limit of our own messages.
const HOP_LIMIT: u8 = 64;
/// Most punts and requests handled in one turn, so that neither starves the timers.
const BUDGET: usize = 256;
/// Turns without work before the thread sleeps between them.
const SPIN: u32 = 64;
/// How long it then sleeps: far below any timer of the protocol.
pub(super) const NAP: Duration = Duration::from_micros(100);

/// The control thread's state.
pub(crate) struct Control {
    pub(super) setup: Setup,
    pub(super) lma: Option<RecordedLma>,
    pub(super) mag: Option<RecordedMag>,
    /// For what does not get as far as these.
    pub(super) recorder: Option<FlightTape>,
    pub(super) protection: Protection,
    pub(super) receiver: Receiver,
    pub(super) mobiles: MobileTable,
    pub(super) nd: NeighbourDiscovery,
    pub(super) links: Links,
    pub(super) workers: WorkerSet,
    pub(super) outbox: Outbox,
    /// What waited when this turn began.
    pub(super) load: Load,
    pub(super) overload: Overload,
    pub(super) reports: Reports,
    pub(super) ways: Ways,
    pub(super) moves: WaitingMoves,
    pub(super) reloads: Reloads,
    pub(super) captures: Captures,
    pub(super) log_rate: LogRate,
    pub(super) events: EventMaker,
    pub(super) times: Times,
    pub(super) calls: Calls<Call>,
    pub(super) clock: Clock,
    pub(super) keeping: Keeping,
    /// If this process is one of several of which one serves.
    pub(super) pair: Option<Pair>,
    pub(super) oddities: Oddities,
    /// Whether the process has been told to stop: then nobody is attached any more.
    pub(super) is_ending: bool,
    /// Whether that is because another process takes over.
    pub(super) hand_over: Arc<AtomicBool>,
    /// What every worker was told at its start.
    pub(super) worker: WorkerConfig,
}

/// What the control thread itself could not use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Oddities {
    /// Mobility Headers and ESP behind other extension headers, where none belong (RFC 5213 §6.9.1.5).
    pub(super) extension_headers: u64,
    /// Messages that do not fit a Mobility Header.
    pub(super) not_encoded: u64,
    /// Messages that came while as much waited for the disk as may.
    pub(super) not_taken: u64,
}

impl Control {
    /// Runs until `stop` is set, and then until what is under way has come to its end. The ports are still open.
    pub(crate) fn run(mut self, stop: &Arc<AtomicBool>) -> Vec<PortInfo> {
        self.events.tell(false, What::ConfigurationApplied);
        let mut idle = 0u32;
        while !stop.load(Ordering::Relaxed) && !self.is_over() {
            if self.turn() {
                idle = 0;
                continue;
            }
            idle = idle.saturating_add(1);
            if idle > SPIN {
                std::thread::sleep(NAP);
            }
        }
        // Who leads no more has nothing to say to anybody.
        if !self.is_over() {
            self.wind_up();
        }
        self.workers.broadcast(&Update::Stop);
        self.drain();
        self.keeping.close();
        if let Err(error) = self.protection.close() {
            tracing::warn!("{error:#}");
        }
        // All is written: another one may lead.
        drop(self.pair.take());
        self.setup.ports
    }

    /// Gives the workers a moment to take what is still waiting for them, their end included.
    fn drain(&mut self) {
        let end = Instant::now() + Duration::from_secs(1);
        while self.workers.is_waiting() && Instant::now() < end {
            self.workers.flush();
            std::thread::sleep(NAP);
        }
    }

    /// One turn of the loop; whether there was anything to do.
    pub(super) fn turn(&mut self) -> bool {
        let now = self.now();
        self.watch_load(now);
        let mut work = self.take_punts(now);
        work |= self.take_calls(now);
        work |= self.take_reports();
        work |= self.take_captured(now);
        work |= self.take_reads(now);
        work |= self.take_news(now);
        self.handle_timeouts(now);
        self.keep(now);
        work |= self.carry_out(now);
        self.workers.flush();
        self.release();
        self.keeping.fulfil();
        self.moves
            .finish(&self.workers, &self.keeping, now.monotonic);
        work
    }

    /// Both clocks.
    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    fn take_punts(&mut self, now: Now) -> bool {
        let mut any = false;
        for _ in 0..BUDGET {
            let Some(punt) = self.workers.pop_punt() else {
                break;
            };
            any = true;
            match punt {
                Punt::Mobility { packet, .. } => self.signalling(now, &packet),
                Punt::NeighbourDiscovery {
                    port,
                    source,
                    packet,
                } => {
                    if icmp6::is_router_solicitation(&packet) {
                        self.station_seen(now, port, source, true);
                    } else {
                        self.nd.handle_packet(now.monotonic, port, source, &packet);
                        self.yield_address(port, source, &packet);
                    }
                    self.sign_of_life(now, port, source, &packet);
                }
                Punt::Resolve { port, next_hop } => {
                    self.nd.handle_resolve(now.monotonic, port, next_hop);
                }
                Punt::PathMtu { local, remote, mtu } => {
                    self.path_mtu(now, (local, remote), mtu);
                }
                Punt::UnknownMobile { port, source } => {
                    self.station_seen(now, port, source, false);
                }
            }
        }
        any
    }

    /// A router said what the way of a tunnel carries.
    fn path_mtu(&mut self, now: Now, ends: Ends, mtu: u16) {
        let (local, remote) = ends;
        self.workers
            .broadcast(&Update::PathMtu { local, remote, mtu });
        if self.setup.is_peer(ends) && self.ways.learn(now.monotonic, ends, mtu) {
            let peer = self.setup.peer_between(local, remote);
            tracing::info!(peer, %local, %remote, mtu, "a router says what the way carries");
            self.tell_mobiles(now, ends, Some(mtu));
        }
    }

    /// Mobiles at a MAG are told what the tunnel to their LMA carries now.
    fn tell_mobiles(&mut self, now: Now, (local, remote): Ends, mtu: Option<u16>) {
        if self.setup.proxy_coa == Some(local)
            && let Some(mag) = &mut self.mag
        {
            mag.handle_path_mtu(now, Lmaa(remote), mtu);
        }
    }

    /// A packet with a Mobility Header, protected or not: decoded once, handed to the role it concerns.
    fn signalling(&mut self, now: Now, packet: &[u8]) {
        let signalling = [next_header::MOBILITY, next_header::ESP];
        let Some(ip) = Ipv6::parse(packet).filter(|ip| signalling.contains(&ip.next_header)) else {
            self.oddities.extension_headers += 1;
            return;
        };
        let Some(Admitted { header, sender }) = self.protection.admit(&ip) else {
            return;
        };
        let (from, to) = (ip.source, ip.destination);
        let message = match self.receiver.receive(now, from, to, &header) {
            Ok(message) => message,
            Err(rejected) => {
                tracing::debug!(%from, error = %rejected.error, "message rejected");
                // Strangers shall not replace what peers have said.
                if let (Some(recorder), Sender::Claimed | Sender::Authentic) =
                    (&mut self.recorder, sender)
                {
                    recorder.rejected(now.wall, from, &rejected.error, &header);
                }
                self.reject(packet, to, sender, rejected.reply);
                return;
            }
        };
        // Neighbours are heard on, and peers see that we are there: forwarding goes on for as long as the disk takes.
        if self.load.is_most() && !matches!(message, Message::Heartbeat(_)) {
            self.oddities.not_taken += 1;
            return;
        }
        let mn = message.mn_id().map(display);
        tracing::debug!(%from, name = message.name(), mn, "received");
        match &message {
            Message::Pbu(_) | Message::Fma(_) | Message::Upa(_) | Message::Bra(_) => {
                if let Some(lma) = &mut self.lma {
                    lma.handle_message(now, from, to, &message);
                }
            }
            Message::Fmi(_) | Message::Upn(_) | Message::Bri(_) => {
                if let Some(mag) = &mut self.mag {
                    mag.handle_message(now, from, to, &message);
                }
            }
            // Either may be meant; each role has an address of its own.
            Message::Pba(_) | Message::BindingError(_) | Message::Heartbeat(_) => {
                let to_mag = self.setup.proxy_coa == Some(to);
                match (&mut self.lma, &mut self.mag) {
                    (Some(lma), _) if !to_mag => lma.handle_message(now, from, to, &message),
                    (_, Some(mag)) => mag.handle_message(now, from, to, &message),
                    (Some(_) | None, None) => {}
                }
            }
        }
    }

    /// Answers a packet that is no message, if an answer is owed: not to strangers, and not with an error about
    /// what nobody on the way could see.
    fn reject(&mut self, packet: &[u8], to: Ipv6Addr, sender: Sender, reply: Option<Reply>) {
        match (reply, sender) {
            (_, Sender::Stranger)
            | (None, Sender::Claimed | Sender::Authentic)
            | (Some(Reply::ParameterProblem { .. }), Sender::Authentic) => {}
            (
                Some(Reply::BindingError { from, to, error }),
                Sender::Claimed | Sender::Authentic,
            ) => {
                self.send(from, to, &error.into());
            }
            (Some(Reply::ParameterProblem { pointer }), Sender::Claimed) => {
                if let Some(error) = icmp6::parameter_problem(to, packet, pointer) {
                    let error = Outgoing::Packet(error, TransmitTo::Routed);
                    self.outbox.push(&self.workers, error);
                }
            }
        }
    }

    /// A neighbour discovery message from an access port says that somebody is there.
    fn sign_of_life(&mut self, now: Now, port: PortId, mac: MacAddr, packet: &[u8]) {
        if let Some(mag) = &mut self.mag
            && let Some(address) = icmp6::own_address(packet)
        {
            mag.handle_sign_of_life(now, port, mac, address);
        }
    }

    /// A station on an access port was heard of: a known mobile is attached, or told its prefixes again.
    fn station_seen(&mut self, now: Now, port: PortId, mac: MacAddr, solicits: bool) {
        let Some(mag) = &mut self.mag else { return };
        if mag.is_revoked(port, mac) || self.is_ending {
            return;
        }
        if solicits && mag.handle_router_solicitation(now, port, mac) {
            return;
        }
        match self.mobiles.automatic(port, mac) {
            Some(attachment) => {
                let mn = attachment.mn_id.clone();
                if let Err(error) = mag.notice(now, attachment)
                    && self.log_rate.allow(now.monotonic)
                {
                    tracing::warn!(%mn, %error, "not attached");
                }
            }
            None => self.mobiles.count_unknown(),
        }
    }

    fn take_calls(&mut self, now: Now) -> bool {
        let mut any = false;
        for _ in 0..BUDGET {
            let Ok(call) = self.calls.try_recv() else {
                break;
            };
            any = true;
            self.call(now, call);
        }
        any
    }

    fn take_reports(&mut self) -> bool {
        let mut any = false;
        while let Some(report) = self.workers.pop_report() {
            any = true;
            if let Some(complete) = self.reports.take(report) {
                self.answer_reported(complete);
            }
        }
        any
    }

    fn handle_timeouts(&mut self, now: Now) {
        fn due(at: Option<Duration>, now: Now) -> bool {
            at.is_some_and(|at| at <= now.monotonic)
        }
        if let Some(lma) = &mut self.lma
            && due(lma.poll_timeout(), now)
        {
            lma.handle_timeout(now);
        }
        if let Some(mag) = &mut self.mag
            && due(mag.poll_timeout(), now)
        {
            mag.handle_timeout(now);
        }
        while let Some((local, remote)) = self.ways.pop_due(now.monotonic) {
            let peer = self.setup.peer_between(local, remote);
            tracing::info!(peer, %local, %remote, "what a router said of the way is forgotten");
            self.tell_mobiles(now, (local, remote), None);
        }
        self.watch_links(now);
        if due(self.nd.poll_timeout(), now) {
            self.nd.handle_timeout(now.monotonic);
        }
    }

    /// Performs what the state machines decided, in their order.
    pub(super) fn carry_out(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(command) = self.lma.as_mut().and_then(RecordedLma::poll_command) {
            any = true;
            self.command(Role::Lma, command);
        }
        while let Some(command) = self.mag.as_mut().and_then(RecordedMag::poll_command) {
            any = true;
            self.command(Role::Mag, command);
        }
        while let Some(probe) = self.mag.as_mut().and_then(RecordedMag::poll_probe) {
            any = true;
            self.probe(&probe);
        }
        while let Some(update) = self.nd.poll_update() {
            any = true;
            if matches!(update, Update::Transmit(_)) {
                self.workers.transmit(update);
            } else {
                self.workers.broadcast(&update);
            }
        }
        while let Some(event) = self.lma.as_mut().and_then(RecordedLma::poll_event) {
            self.lma_event(&event, now);
        }
        while let Some(event) = self.mag.as_mut().and_then(RecordedMag::poll_event) {
            self.mag_event(&event, now);
        }
        any
    }

    pub(super) fn command(&mut self, role: Role, command: Command) {
        match command {
            Command::Table(update) => {
                self.setup.remember(role, &update);
                self.workers.broadcast(&Update::Table(role, update));
            }
            Command::Send { from, to, message } => self.send(from, to, &message),
            Command::Advertise(advertisement) => {
                let Some(mac) = self.setup.port_mac(advertisement.port) else {
                    return;
                };
                let packet = nd::router::router_advertisement(&advertisement, mac);
                let to = TransmitTo::Link(advertisement.port, advertisement.mac);
                let packet = Outgoing::Packet(packet, to);
                self.outbox
                    .promise(&self.workers, self.keeping.mark(), packet);
            }
        }
    }

    /// Asks a mobile whether it is there.
    fn probe(&mut self, probe: &Probe) {
        let Some(ours) = self.setup.port_mac(probe.port) else {
            return;
        };
        let packet = icmp6::neighbour_solicitation(probe.source, probe.target, probe.target, ours);
        let to = TransmitTo::Link(probe.port, probe.mac);
        self.outbox
            .push(&self.workers, Outgoing::Packet(packet, to));
    }

    /// Sends a message once the tables it speaks of are in force.
    fn send(&mut self, from: Ipv6Addr, to: Ipv6Addr, message: &Message) {
        let name = message.name();
        let header = match message.encode(from, to) {
            Ok(header) => header,
            Err(error) => {
                self.oddities.not_encoded += 1;
                self.not_sent(from, to, name, message.mn_id(), &error);
                return;
            }
        };
        let letter = Letter {
            from,
            to,
            header,
            name,
            mn: message.mn_id().cloned(),
        };
        let letter = Outgoing::Message(Box::new(letter));
        let kept = self.keeping.mark();
        match message {
            // That we are there can be said without the disk; anything else is a promise.
            Message::Heartbeat(_) => self.outbox.push(&self.workers, letter),
            // That a mobile is not here (RFC 6463 §5.3.2) is one too: whose end is forgotten is here again.
            Message::Pba(pba) if pba.hnps.is_empty() => {
                self.outbox.promise_if_few(&self.workers, kept, letter);
            }
            Message::Pba(pba) => {
                self.outbox
                    .answer(&self.workers, kept, Answer::from(pba), letter);
            }
            Message::Pbu(_)
            | Message::BindingError(_)
            | Message::Fmi(_)
            | Message::Fma(_)
            | Message::Bri(_)
            | Message::Bra(_)
            | Message::Upn(_)
            | Message::Upa(_) => self.outbox.promise(&self.workers, kept, letter),
        }
    }

    /// Hands over everything whose time has come, messages protected if their peers have keys.
    fn release(&mut self) {
        while let Some(outgoing) = self.outbox.pop(&self.workers, &self.keeping) {
            match outgoing {
                Outgoing::Packet(packet, to) => self.transmit(packet, to),
                Outgoing::Message(letter) => {
                    let Letter {
                        from,
                        to,
                        header,
                        name,
                        mn,
                    } = *letter;
                    match self.protection.seal(from, to, header) {
                        Ok((protocol, payload)) => {
                            tracing::debug!(%to, name, mn = mn.as_ref().map(display), "sending");
                            let packet = ipv6_packet(from, to, protocol, HOP_LIMIT, &payload);
                            self.transmit(packet, TransmitTo::Routed);
                        }
                        Err(error) => self.not_sent(from, to, name, mn.as_ref(), &error),
                    }
                }
            }
        }
    }

    fn transmit(&mut self, packet: Vec<u8>, to: TransmitTo) {
        let transmit = Transmit { packet, to };
        self.workers.transmit(Update::Transmit(Box::new(transmit)));
    }

    fn not_sent(
        &mut self,
        from: Ipv6Addr,
        to: Ipv6Addr,
        name: &str,
        mn: Option<&MnId>,
        error: &dyn std::fmt::Display,
    ) {
        if self.log_rate.allow(self.clock.uptime()) {
            let peer = self.setup.peer_between(from, to);
            tracing::error!(peer, %to, name, mn = mn.map(display), %error, "message not sent");
        }
    }
}
