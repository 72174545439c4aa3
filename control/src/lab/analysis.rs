//! What a capture on the core link shows: which tunnel each packet of each flow was in, and when.

use std::net::Ipv6Addr;
use std::time::Duration;

use serde::Serialize;

use nd::packet::{FiveTuple, Ipv6, ethernet_payload, next_header};

use super::signalling::Heard;
use super::topology::{LMAA, Mag};

/// The flows of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub(crate) enum Flow {
    /// UDP that stays.
    X,
    /// UDP that moves.
    Y,
    /// TCP that stays.
    Z,
    /// UDP of another mobile.
    W,
}

impl Flow {
    /// The mobile's, in order.
    pub(crate) const ALL: [Self; 3] = [Self::X, Self::Y, Self::Z];
}

/// Towards the mobile or from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// Towards the mobile.
    Downlink,
    /// From the mobile.
    Uplink,
}

impl Direction {
    /// Both, in order.
    pub(crate) const ALL: [Self; 2] = [Self::Downlink, Self::Uplink];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Downlink => "downlink",
            Self::Uplink => "uplink",
        }
    }
}

/// How a flow's packets are known: by their downlink addresses, protocol and ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FlowMatch {
    /// Which flow.
    pub(crate) flow: Flow,
    /// The correspondent node's address.
    pub(crate) cn: Ipv6Addr,
    /// The mobile's address.
    pub(crate) mn: Ipv6Addr,
    /// Upper-layer protocol.
    pub(crate) protocol: u8,
    /// The mobile's port.
    pub(crate) mn_port: u16,
}

impl FlowMatch {
    fn direction(&self, packet: &FiveTuple) -> Option<Direction> {
        let down = |t: &FiveTuple| {
            t.source == self.cn
                && t.destination == self.mn
                && t.protocol == self.protocol
                && t.ports.is_some_and(|(_, to)| to == self.mn_port)
        };
        if down(packet) {
            Some(Direction::Downlink)
        } else {
            down(&packet.reversed()).then_some(Direction::Uplink)
        }
    }
}

/// A packet of a flow in a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sighting {
    time: Duration,
    flow: Flow,
    direction: Direction,
    mag: Mag,
}

/// A stretch of time, in time since 1970; the end is not part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    /// Its begin.
    pub(crate) from: Duration,
    /// Its end.
    pub(crate) to: Duration,
}

/// Packets per tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct PerMag {
    /// In the tunnel to and from MAG1.
    pub(crate) mag1: u64,
    /// In the tunnel to and from MAG2.
    pub(crate) mag2: u64,
}

impl PerMag {
    fn add(&mut self, mag: Mag) {
        match mag {
            Mag::Mag1 => self.mag1 += 1,
            Mag::Mag2 => self.mag2 += 1,
        }
    }
}

/// Watches frames of the core link, in the order they are captured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watcher {
    flows: Vec<FlowMatch>,
    sightings: Vec<Sighting>,
    heard: Vec<Heard>,
}

impl Watcher {
    /// Begins to tell these flows apart; packets seen before count for none.
    pub(crate) fn set_flows(&mut self, flows: Vec<FlowMatch>) {
        self.flows = flows;
    }

    /// One frame.
    pub(crate) fn watch(&mut self, time: Duration, frame: &[u8]) {
        let Some(outer) = ethernet_payload(frame).and_then(Ipv6::parse) else {
            return;
        };
        match outer.upper() {
            (next_header::MOBILITY, octets) => {
                let heard = Heard::new(time, outer.source, outer.destination, octets);
                self.heard.extend(heard);
            }
            (next_header::IPV6, octets) => self.watch_tunnel(time, &outer, octets),
            _ => {}
        }
    }

    fn watch_tunnel(&mut self, time: Duration, outer: &Ipv6<'_>, inner: &[u8]) {
        let is = |mag: &Mag, direction: Direction| {
            let ends = match direction {
                Direction::Downlink => (LMAA, mag.proxy_coa()),
                Direction::Uplink => (mag.proxy_coa(), LMAA),
            };
            ends == (outer.source, outer.destination)
        };
        let Some(tuple) = Ipv6::parse(inner).map(|p| p.five_tuple()) else {
            return;
        };
        for known in &self.flows {
            let Some(direction) = known.direction(&tuple) else {
                continue;
            };
            let mag = Mag::ALL.into_iter().find(|mag| is(mag, direction));
            self.sightings.extend(mag.map(|mag| Sighting {
                time,
                flow: known.flow,
                direction,
                mag,
            }));
        }
    }

    /// Forgets packets that were seen before a time.
    pub(crate) fn forget_before(&mut self, time: Duration) {
        self.sightings.retain(|seen| seen.time >= time);
    }

    /// Mobility messages, in the order they were heard.
    pub(crate) fn heard(&self) -> &[Heard] {
        &self.heard
    }

    /// Packets of a flow per tunnel within a window.
    pub(crate) fn count(&self, flow: Flow, direction: Direction, window: Window) -> PerMag {
        let mut out = PerMag::default();
        for (_, mag) in self.packets(flow, direction, window) {
            out.add(mag);
        }
        out
    }

    /// Each packet of a flow within a window: when, and in which tunnel.
    pub(crate) fn packets(
        &self,
        flow: Flow,
        direction: Direction,
        window: Window,
    ) -> impl Iterator<Item = (Duration, Mag)> {
        let within = move |seen: &&Sighting| window.from <= seen.time && seen.time < window.to;
        let seen = self.of(flow, direction).filter(within);
        seen.map(|seen| (seen.time, seen.mag))
    }

    /// From the first packet of any flow to the end of the last; `None` if there was none.
    pub(crate) fn extent(&self) -> Option<Window> {
        let times = || self.sightings.iter().map(|seen| seen.time);
        Some(Window {
            from: times().min()?,
            to: times().max()? + Duration::from_nanos(1),
        })
    }

    /// Packets of a flow per tunnel in each piece of `width` from `from` on.
    pub(crate) fn pieces(
        &self,
        flow: Flow,
        direction: Direction,
        from: Duration,
        width: Duration,
    ) -> Vec<PerMag> {
        let mut pieces: Vec<PerMag> = Vec::new();
        for seen in self.of(flow, direction) {
            let since = seen.time.saturating_sub(from).as_nanos();
            let number = since.checked_div(width.as_nanos()).unwrap_or(0);
            let number = usize::try_from(number).unwrap_or(usize::MAX - 1);
            if pieces.len() <= number {
                pieces.resize(number + 1, PerMag::default());
            }
            if let Some(piece) = pieces.get_mut(number) {
                piece.add(seen.mag);
            }
        }
        pieces
    }

    /// When, after `after`, a flow's first packet was in a tunnel.
    pub(crate) fn first(
        &self,
        flow: Flow,
        direction: Direction,
        mag: Mag,
        after: Duration,
    ) -> Option<Duration> {
        self.of(flow, direction)
            .find(|seen| seen.mag == mag && seen.time >= after)
            .map(|seen| seen.time)
    }

    fn of(&self, flow: Flow, direction: Direction) -> impl Iterator<Item = &Sighting> {
        self.sightings
            .iter()
            .filter(move |s| s.flow == flow && s.direction == direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::topology::CN_ADDRESS;
    use flow::MacAddr;
    use nd::host::ethernet;
    use nd::packet::ipv6_packet;
    use proptest::prelude::*;

    fn mn() -> Ipv6Addr {
        "2001:db8:100::100".parse().unwrap()
    }

    fn tunnelled(
        outer: (Ipv6Addr, Ipv6Addr),
        inner: (Ipv6Addr, Ipv6Addr),
        ports: [u8; 4],
    ) -> Vec<u8> {
        let datagram = [&ports[..], &[0, 8, 0, 0]].concat();
        let packet = ipv6_packet(inner.0, inner.1, next_header::UDP, 63, &datagram);
        let packet = ipv6_packet(outer.0, outer.1, next_header::IPV6, 64, &packet);
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        [ethernet(mac, mac).as_slice(), &packet].concat()
    }

    fn watcher() -> Watcher {
        let mut watcher = Watcher::default();
        let flow = |flow, mn_port| FlowMatch {
            flow,
            cn: CN_ADDRESS,
            mn: mn(),
            protocol: next_header::UDP,
            mn_port,
        };
        watcher.set_flows(vec![flow(Flow::X, 5001), flow(Flow::Y, 5002)]);
        watcher
    }

    const DOWN_Y: [u8; 4] = [0x0f, 0xa0, 0x13, 0x8a];
    const UP_Y: [u8; 4] = [0x13, 0x8a, 0x0f, 0xa0];

    #[test]
    fn packets_are_told_apart_by_flow_direction_and_tunnel() {
        let mut w = watcher();
        let [one, two] = Mag::ALL.map(Mag::proxy_coa);
        let at = Duration::from_millis;
        let down = (CN_ADDRESS, mn());
        let up = (mn(), CN_ADDRESS);
        w.watch(at(1), &tunnelled((LMAA, two), down, DOWN_Y));
        w.watch(at(2), &tunnelled((LMAA, one), down, DOWN_Y));
        w.watch(at(3), &tunnelled((one, LMAA), up, UP_Y));
        // Not in a tunnel of ours, and not a packet of a flow.
        w.watch(at(4), &tunnelled((two, one), down, DOWN_Y));
        w.watch(at(5), &tunnelled((LMAA, one), up, UP_Y));
        w.watch(at(6), &tunnelled((LMAA, one), down, [0, 1, 0, 1]));
        let all = Window {
            from: at(0),
            to: at(100),
        };
        let both = PerMag { mag1: 1, mag2: 1 };
        assert_eq!(w.count(Flow::Y, Direction::Downlink, all), both);
        let up = w.count(Flow::Y, Direction::Uplink, all);
        assert_eq!((up.mag1, up.mag2), (1, 0));
        assert_eq!(
            w.count(Flow::X, Direction::Downlink, all),
            PerMag::default()
        );
        let width = Duration::from_millis(2);
        let extent = w.extent().unwrap();
        assert_eq!((extent.from, extent.to.as_millis()), (at(1), 3));
        let pieces = w.pieces(Flow::Y, Direction::Downlink, at(0), width);
        assert_eq!(
            pieces,
            [PerMag { mag1: 0, mag2: 1 }, PerMag { mag1: 1, mag2: 0 }]
        );
        let half = Window { to: at(2), ..all };
        assert_eq!(w.count(Flow::Y, Direction::Downlink, half).mag1, 0);
        let first = w.first(Flow::Y, Direction::Downlink, Mag::Mag1, at(1));
        assert_eq!(first, Some(at(2)));
        let none = w.first(Flow::Y, Direction::Downlink, Mag::Mag2, at(2));
        assert_eq!(none, None);
    }

    proptest! {
        #[test]
        fn no_frame_makes_the_watcher_panic(
            edits in prop::collection::vec((0_usize..110, any::<u8>()), 0..8), len in 0_usize..120,
        ) {
            let pair = (LMAA, Mag::Mag1.proxy_coa());
            let mut frame = tunnelled(pair, (CN_ADDRESS, mn()), DOWN_Y);
            for (at, value) in edits {
                if let Some(octet) = frame.get_mut(at) {
                    *octet = value;
                }
            }
            frame.truncate(len);
            watcher().watch(Duration::ZERO, &frame);
        }
    }
}
