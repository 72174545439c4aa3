//! Packets out of nothing: a null port whose frames are written after they were received.
//!
//! Every frame is for another mobile, drawn uniformly, and for another of its rules, or through
//! another of its tunnels to another correspondent; neither the caches nor the branch predictor know
//! the next one. The buffers come from a pool without caches, so they rotate through all of it, as
//! behind a card's ring.
//!
//! A card writes whole cache lines. So does this where the processor can: a line written in pieces
//! would make whoever reads across two of them wait until both have left the store buffer, which no
//! worker behind a card ever does.
#![expect(
    unsafe_code,
    clippy::inline_always,
    reason = "a function compiled for more than the baseline may only be called where the processor has been \
              asked, and what it calls must be compiled along"
)]

use dataplane::io::dpdk::DpdkIo;
use dataplane::{Burst, PacketIo};
use dpdk::Mbuf;
use flow::PortId;

use crate::case::{Size, Work};
use crate::clock::tsc;
use crate::hostile::Intruder;
use crate::network::{self, FIRST_PORT};
use crate::paced::Pace;
use crate::spread::Flows;

/// Where in a frame the mobile's prefix is: by work.
pub(crate) fn prefix_offset(work: Work) -> usize {
    match work {
        Work::LmaDownlink => 14 + 24,
        Work::LmaUplink => 14 + 40 + 8,
        Work::MagDownlink => 14 + 40 + 24,
        Work::MagUplink => 14 + 8,
    }
}

/// A frame as it was generated.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Its octets.
    pub(crate) frame: Vec<u8>,
    /// The number of its mobile.
    pub(crate) mobile: u32,
    /// The number of the rule it matches.
    pub(crate) rule: u16,
}

/// What is drawn for a packet.
#[derive(Clone, Copy)]
struct Draw {
    mobile: u32,
    rule: u16,
    /// The tunnel that it comes through at an anchor.
    tunnel: u16,
    /// Whom it is for there.
    correspondent: u16,
}

/// What went in and what came out, in order.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// Frames generated.
    pub(crate) generated: Vec<Sample>,
    /// Frames sent.
    pub(crate) sent: Vec<Vec<u8>>,
}

/// Ports of which one receives generated frames.
#[derive(Debug)]
pub(crate) struct GeneratorIo {
    /// The null port, which receives frames of the template's length.
    io: DpdkIo,
    on: bool,
    /// Where the worker meets the frames.
    arrives: PortId,
    work: Work,
    bindings: u32,
    rules: u16,
    imix: bool,
    turn: usize,
    random: u64,
    template: [u8; network::TUNNELLED],
    write: fn(&mut Self, &mut [Mbuf]),
    recording: Option<Box<Recording>>,
    /// Flows through one tunnel instead of what is drawn otherwise.
    flows: Option<Flows>,
    /// Somebody whose packets are among them.
    intruder: Option<Box<Intruder>>,
    /// When packets arrive; without it, whenever the worker looks.
    pace: Option<Box<Pace>>,
    /// Buffers received from the null port and not yet handed out: it fills whole bursts only.
    spare: Burst<Mbuf>,
}

/// The null port's place in [`DpdkIo`].
const DEVICE: PortId = PortId(0);

impl GeneratorIo {
    /// A generator that is off, on a null port that receives frames of [`GeneratorIo::frame_len`].
    pub(crate) fn new(io: DpdkIo, work: Work, bindings: u32, rules: u16, size: Size) -> Self {
        Self {
            io,
            on: false,
            arrives: network::arrival_port(work),
            work,
            bindings,
            rules,
            imix: size == Size::Imix,
            turn: 0,
            random: 0x0139_408d_cbbf_7a44,
            template: network::template(work, size),
            write: widest(),
            recording: None,
            flows: None,
            intruder: None,
            pace: None,
            spare: Burst::new(),
        }
    }

    /// Octets of a frame as received: the least length of the mix.
    pub(crate) fn frame_len(work: Work, size: Size) -> u16 {
        let tunnel = if work.is_tunnelled() { 40 } else { 0 };
        tunnel
            + match size {
                Size::Fixed(octets) => octets,
                Size::Imix => 64,
            }
    }

    /// Starts or stops the frames.
    pub(crate) fn switch(&mut self, on: bool) {
        self.on = on;
    }

    /// Starts to record.
    pub(crate) fn record(&mut self) {
        self.recording = Some(Box::default());
    }

    /// Ends the recording and gives it out.
    pub(crate) fn recorded(&mut self) -> Recording {
        self.recording.take().map(|r| *r).unwrap_or_default()
    }

    /// Lets an anchor's uplink have these flows, and looks at their order when they are sent.
    pub(crate) fn set_flows(&mut self, flows: Flows) {
        self.flows = Some(flows);
    }

    /// The flows, if it has any.
    pub(crate) fn flows(&self) -> Option<&Flows> {
        self.flows.as_ref()
    }

    /// Lets somebody's packets be among them.
    pub(crate) fn set_intruder(&mut self, intruder: Intruder) {
        self.intruder = Some(Box::new(intruder));
    }

    /// Ends that.
    pub(crate) fn take_intruder(&mut self) -> Option<Intruder> {
        self.intruder.take().map(|intruder| *intruder)
    }

    /// Lets packets arrive by this schedule.
    pub(crate) fn set_pace(&mut self, pace: Pace) {
        self.pace = Some(Box::new(pace));
    }

    /// Whether the schedule is over, or there is none.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.pace.as_ref().is_none_or(|pace| pace.is_over())
    }

    /// Ends the schedule and gives it out.
    pub(crate) fn take_pace(&mut self) -> Option<Pace> {
        self.pace.take().map(|pace| *pace)
    }

    /// Receives what has arrived by the schedule.
    #[inline(never)]
    fn receive_due(&mut self, burst: &mut Burst<Mbuf>) {
        let Some(pace) = &mut self.pace else {
            return;
        };
        let mut due = pace.look(tsc(), burst.remaining_capacity());
        while due > 0 {
            if self.spare.is_empty() {
                self.io.rx(DEVICE, &mut self.spare);
            }
            let taken = due.min(self.spare.len());
            if taken == 0 {
                // The pool is empty: fewer come in than were handed out, which voids the run.
                return;
            }
            burst.extend(self.spare.drain(self.spare.len() - taken..));
            due -= taken;
        }
    }

    /// Sends, and tells the schedule once the driver has the packets.
    #[inline(never)]
    fn send_timed(&mut self, burst: &mut Burst<Mbuf>) {
        let before = burst.len();
        self.io.tx(DEVICE, burst);
        if let Some(pace) = &mut self.pace {
            pace.sent(tsc(), before - burst.len());
        }
    }

    /// The next packet: some 50 good bits of a linear congruential generator.
    #[inline(always)]
    fn draw(&mut self) -> Draw {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let scale = |bits: u64, among: u64, width| (bits * among) >> width;
        let mobile = scale(self.random >> 32, u64::from(self.bindings), 32);
        let rule = scale(self.random >> 12 & 0xffff, u64::from(self.rules), 16);
        let (mobile, second) = (narrow(mobile), self.random >> 31 & 1 != 0);
        let first = network::tunnel_of(mobile);
        Draw {
            mobile,
            rule: narrow16(rule),
            // Of two, neither is taken by a jump.
            tunnel: std::hint::select_unpredictable(second, network::second_tunnel(first), first),
            correspondent: narrow16(self.random >> 15),
        }
    }

    /// Writes the next frames into received buffers.
    #[inline]
    pub(crate) fn generate(&mut self, burst: &mut [Mbuf]) {
        (self.write)(self, burst);
        if self.imix {
            self.stretch(burst);
        }
        if let Some(intruder) = &mut self.intruder {
            intruder.intrude(burst);
        }
        if let Some(recording) = &mut self.recording {
            let generated = recording.generated.iter_mut().rev().zip(burst.iter().rev());
            for (sample, packet) in generated {
                sample.frame = packet.data().to_vec();
            }
        }
    }

    #[inline(always)]
    fn write(&mut self, burst: &mut [Mbuf]) {
        const AT: usize = network::CORRESPONDENT_AT;
        if let Some(mut flows) = self.flows.take() {
            self.fill::<{ network::TUNNELLED }>(burst, |frame, draw| {
                flows.write(frame, draw.correspondent);
            });
            self.flows = Some(flows);
            return;
        }
        match self.work {
            Work::LmaDownlink => self.fill::<64>(burst, |frame, draw| {
                put(frame, 38, network::prefix(draw.mobile));
                let port = FIRST_PORT.wrapping_add(draw.rule).to_be_bytes();
                [frame[56], frame[57]] = port;
            }),
            Work::LmaUplink => self.fill::<{ network::TUNNELLED }>(burst, |frame, draw| {
                put(frame, 62, network::prefix(draw.mobile));
                [frame[36], frame[37]] = network::gateway_host(draw.tunnel).to_be_bytes();
                [frame[AT], frame[AT + 1]] = draw.correspondent.to_be_bytes();
            }),
            Work::MagDownlink => self.fill::<{ network::TUNNELLED }>(burst, |frame, draw| {
                put(frame, 78, network::prefix(draw.mobile));
            }),
            Work::MagUplink => self.fill::<64>(burst, |frame, draw| {
                put(frame, 22, network::prefix(draw.mobile));
                [frame[8], frame[9], frame[10], frame[11]] = draw.mobile.to_be_bytes();
            }),
        }
    }

    #[inline(always)]
    fn fill<const LEN: usize>(
        &mut self,
        burst: &mut [Mbuf],
        mut patch: impl FnMut(&mut [u8; LEN], Draw),
    ) {
        for packet in burst {
            let draw = self.draw();
            let Some(frame) = packet.data_mut().first_chunk_mut::<LEN>() else {
                continue;
            };
            if let Some(template) = self.template.first_chunk::<LEN>() {
                *frame = *template;
            }
            patch(frame, draw);
            if let Some(recording) = &mut self.recording {
                recording.generated.push(Sample {
                    frame: Vec::new(),
                    mobile: draw.mobile,
                    rule: draw.rule,
                });
            }
        }
    }

    /// Gives the frames the lengths of the mix.
    #[inline]
    fn stretch(&mut self, burst: &mut [Mbuf]) {
        let tunnelled = self.work.is_tunnelled();
        for packet in burst {
            let octets = Size::IMIX.get(self.turn).copied().unwrap_or(64);
            self.turn = if self.turn == 11 { 0 } else { self.turn + 1 };
            packet.extend_back(usize::from(octets - 64));
            network::set_lengths(packet.data_mut(), tunnelled);
        }
    }
}

impl PacketIo for GeneratorIo {
    type Packet = Mbuf;

    #[inline]
    fn rx(&mut self, port: PortId, burst: &mut Burst<Mbuf>) {
        if self.on && port == self.arrives {
            if self.pace.is_some() {
                self.receive_due(burst);
            } else {
                self.io.rx(DEVICE, burst);
            }
            self.generate(burst);
        }
    }

    #[inline]
    fn tx(&mut self, _: PortId, burst: &mut Burst<Mbuf>) {
        if let Some(recording) = &mut self.recording {
            let frames = burst.iter().map(|packet| packet.data().to_vec());
            recording.sent.extend(frames);
        }
        if let Some(flows) = &mut self.flows {
            flows.check(burst);
        }
        if self.pace.is_some() {
            return self.send_timed(burst);
        }
        self.io.tx(DEVICE, burst);
    }

    #[inline]
    fn alloc(&mut self) -> Option<Mbuf> {
        self.io.alloc()
    }
}

/// Writes in lines of 64 octets if the processor can.
fn widest() -> fn(&mut GeneratorIo, &mut [Mbuf]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn lines(generator: &mut GeneratorIo, burst: &mut [Mbuf]) {
        generator.write(burst);
    }
    let has_lines = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    if has_lines {
        // SAFETY: the processor has just said that it can.
        |generator, burst| unsafe { lines(generator, burst) }
    } else {
        GeneratorIo::write
    }
}

#[inline(always)]
fn put<const LEN: usize>(frame: &mut [u8; LEN], at: usize, word: u64) {
    if let Some(place) = frame.get_mut(at..at + 8) {
        place.copy_from_slice(&word.to_be_bytes());
    }
}

/// A product's upper half, which is below a 32-bit factor.
#[inline]
fn narrow(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[inline]
fn narrow16(word: u64) -> u16 {
    let [a, b, ..] = word.to_le_bytes();
    u16::from_le_bytes([a, b])
}
