//! Numbered packets of many flows through one tunnel.

use dpdk::Mbuf;

use crate::network::{self, TUNNELLED, TUNNELS};

/// Flows: as many as leave an even split to a hash.
pub(crate) const FLOWS: u16 = 4096;

/// Mobiles that have them, each as many.
const MOBILES: u16 = 1024;

/// Prefixes in a table, so that [`MOBILES`] of them have the first tunnel.
pub(super) const BINDINGS: u32 = MOBILES as u32 * TUNNELS as u32;

/// The next number of each flow, and the last that was sent. Numbers have 16 bits, which are the
/// payload of the smallest frame; far fewer packets are under way at once.
#[derive(Debug)]
pub(crate) struct Flows {
    next: Box<[u16; FLOWS as usize]>,
    last: Box<[Option<u16>; FLOWS as usize]>,
    reordered: u64,
}

impl Flows {
    pub(super) fn new() -> Self {
        Self {
            next: Box::new([0; FLOWS as usize]),
            last: Box::new([None; FLOWS as usize]),
            reordered: 0,
        }
    }

    /// Makes the frame of a drawn flow's next packet out of a template of an anchor's uplink.
    #[inline]
    pub(crate) fn write(&mut self, frame: &mut [u8; TUNNELLED], drawn: u16) {
        let flow = drawn % FLOWS;
        let mobile = u32::from(drawn % MOBILES) * u32::from(TUNNELS);
        let number = self.next.get_mut(usize::from(flow)).map_or(0, |next| {
            *next = next.wrapping_add(1);
            *next
        });
        [frame[94], frame[95]] = flow.to_be_bytes();
        [frame[102], frame[103]] = number.to_be_bytes();
        if let Some(place) = frame.get_mut(62..70) {
            place.copy_from_slice(&network::prefix(mobile).to_be_bytes());
        }
    }

    /// Looks at bared packets that are about to be sent.
    #[inline]
    pub(crate) fn check(&mut self, burst: &[Mbuf]) {
        for packet in burst {
            let data = packet.data();
            let word = |at: usize| match data.get(at..at + 2) {
                Some(&[high, low]) => u16::from_be_bytes([high, low]),
                _ => u16::MAX,
            };
            self.see(word(54), word(62));
        }
    }

    #[inline]
    fn see(&mut self, flow: u16, number: u16) {
        const HALF: u16 = 1 << 15;
        // What is none of these flows has no place, and is as bad as out of order.
        let Some(last) = self.last.get_mut(usize::from(flow)) else {
            self.reordered += 1;
            return;
        };
        let on = last.map_or(1, |last| number.wrapping_sub(last));
        if on == 0 || on > HALF {
            self.reordered += 1;
        }
        *last = Some(number);
    }

    /// Packets that came after a later one of their flow.
    pub(super) fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Flows that have left both here and there.
    pub(super) fn shared(&self, other: &Self) -> usize {
        let both = self.last.iter().zip(other.last.iter());
        both.filter(|(a, b)| a.is_some() && b.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_up_within_a_flow_and_gaps_are_no_fault() {
        let mut flows = Flows::new();
        for (flow, number) in [(1, 5), (2, 1), (1, 6), (1, 65_535 / 3), (2, 2)] {
            flows.see(flow, number);
        }
        assert_eq!(flows.reordered(), 0);
        flows.see(2, 1);
        assert_eq!(flows.reordered(), 1);
        flows.see(1, 65_535 / 3);
        assert_eq!(flows.reordered(), 2);
        flows.see(5000, 1);
        assert_eq!(flows.reordered(), 3);
    }

    #[test]
    fn numbers_may_wrap() {
        let mut flows = Flows::new();
        for number in [65_534, 65_535, 0, 1] {
            flows.see(3, number);
        }
        assert_eq!(flows.reordered(), 0);
    }

    #[test]
    fn frames_of_one_flow_differ_in_their_number_only() {
        use crate::case::{Size, Work};
        let mut flows = Flows::new();
        let mut frames = [network::template(Work::LmaUplink, Size::Fixed(64)); 2];
        for frame in &mut frames {
            flows.write(frame, 0x7123);
        }
        let [first, second] = frames;
        assert_eq!(first[..102], second[..102]);
        assert_eq!(first[94..96], [0x01, 0x23]);
        assert_eq!((first[103], second[103]), (1, 2));
    }
}
