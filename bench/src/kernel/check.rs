//! The packets: what is sent, and what has to become of it.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use super::Forwarder;
use crate::case::{Case, Size, Work};
use crate::network::{self, FIRST_PORT};

/// Frames towards mobiles, and what each is for.
#[derive(Debug)]
pub(super) struct Frames {
    case: Case,
    prepared: Vec<Vec<u8>>,
    /// The mobile, the rule and the place of a frame, by what makes it unlike all others.
    known: HashMap<(u64, u16), (u32, u16, usize)>,
}

/// Frames that are prepared.
const COUNT: usize = 4096;

impl Frames {
    /// Frames to mobiles and of rules drawn uniformly, no two alike.
    pub(super) fn new(case: Case) -> Self {
        let octets = usize::from(case.size.mean());
        let mut all: Vec<(u32, u16)> = (0..case.bindings)
            .flat_map(|mobile| (0..case.rules.max(1)).map(move |rule| (mobile, rule)))
            .collect();
        shuffle(&mut all);
        all.truncate(COUNT);
        let frame = |&(mobile, rule): &(u32, u16)| frame(case.size, octets, mobile, rule);
        let keyed = |(place, (mobile, rule)): (usize, &(u32, u16))| {
            let key = (network::prefix(*mobile), FIRST_PORT + rule);
            (key, (*mobile, *rule, place))
        };
        Self {
            case,
            prepared: all.iter().map(frame).collect(),
            known: all.iter().enumerate().map(keyed).collect(),
        }
    }

    /// The frames.
    pub(super) fn all(&self) -> Vec<Vec<u8>> {
        self.prepared.clone()
    }

    /// Whether a frame at the sink is what one of these has to become.
    ///
    /// # Errors
    /// If not; both are shown.
    pub(super) fn check(&self, forwarder: Forwarder, out: &[u8]) -> Result<()> {
        let octets = |from: usize, len: usize| out.get(from..from + len);
        let prefix =
            octets(14 + 40 + 24, 8).and_then(|o| Some(u64::from_be_bytes(o.try_into().ok()?)));
        let port =
            octets(14 + 80 + 2, 2).and_then(|o| Some(u16::from_be_bytes(o.try_into().ok()?)));
        let key = prefix.zip(port).context("a short frame at the sink")?;
        let known = self.known.get(&key);
        let (mobile, rule, place) =
            known.with_context(|| format!("nothing like it was sent: {out:02x?}"))?;
        let frame = self.prepared.get(*place).context("a frame is missing")?;
        let rule = match forwarder {
            // Its routes know prefixes only.
            Forwarder::LinuxSeg6 => None,
            Forwarder::AfPacket | Forwarder::AfXdp => Some(*rule),
        };
        let work = self.case.work;
        let mut expected =
            network::expected(work, frame, *mobile, rule).context("a short frame")?;
        let mut out = out.to_vec();
        without_flow_label(&mut out);
        if forwarder == Forwarder::LinuxSeg6 {
            hop_from_outer(&mut expected).context("a short frame")?;
        }
        ensure!(
            out == expected,
            "{frame:02x?} became {out:02x?} instead of {expected:02x?}"
        );
        Ok(())
    }
}

/// Linux copies the hop limit to the outer header and takes the hop off that one; the end of the tunnel
/// copies it back.
fn hop_from_outer(frame: &mut [u8]) -> Option<()> {
    let inner = *frame.get(14 + 40 + 7)?;
    *frame.get_mut(14 + 7)? = inner;
    *frame.get_mut(14 + 40 + 7)? = inner + 1;
    Some(())
}

/// The outer flow label is the forwarder's choice.
fn without_flow_label(frame: &mut [u8]) {
    for (octet, mask) in frame.iter_mut().skip(15).zip([0xf0, 0, 0]) {
        *octet &= mask;
    }
}

fn frame(size: Size, octets: usize, mobile: u32, rule: u16) -> Vec<u8> {
    let mut frame = network::template(Work::LmaDownlink, size).to_vec();
    frame.resize(octets, 0);
    let mut put = |at: usize, what: &[u8]| {
        if let Some(place) = frame.get_mut(at..at + what.len()) {
            place.copy_from_slice(what);
        }
    };
    put(38, &network::prefix(mobile).to_be_bytes());
    put(56, &(FIRST_PORT + rule).to_be_bytes());
    network::set_lengths(&mut frame, false);
    frame
}

/// The same order in every run.
fn shuffle<T>(items: &mut [T]) {
    let mut random: u64 = 0x0139_408d_cbbf_7a44;
    for last in (1..items.len()).rev() {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let among = last as u64 + 1;
        let chosen = ((random >> 32) * among) >> 32;
        items.swap(last, usize::try_from(chosen).unwrap_or(last));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn frames(octets: u16) -> Frames {
        Frames::new(Case {
            work: Work::LmaDownlink,
            bindings: 50,
            rules: 4,
            size: Size::Fixed(octets),
        })
    }

    #[test]
    fn no_two_frames_are_alike_and_each_says_how_long_it_is() {
        for octets in [64, 1024] {
            let all = frames(octets).all();
            assert_eq!(all.len(), 200);
            assert_eq!(all.iter().collect::<HashSet<_>>().len(), 200);
            for frame in all {
                assert_eq!(frame.len(), usize::from(octets));
                assert_eq!(frame[18..20], (octets - 54).to_be_bytes());
                assert_eq!(frame[58..60], (octets - 54).to_be_bytes());
            }
        }
    }

    #[test]
    fn only_the_right_encapsulation_passes() {
        let frames = frames(64);
        let (key, (mobile, rule, place)) = frames.known.iter().find(|(_, v)| v.1 == 3).unwrap();
        let frame = &frames.prepared[*place];
        assert_eq!(frame[38..46], key.0.to_be_bytes());
        let ours = network::expected(Work::LmaDownlink, frame, *mobile, Some(*rule)).unwrap();
        let mut linux = network::expected(Work::LmaDownlink, frame, *mobile, None).unwrap();
        (linux[14 + 7], linux[54 + 7]) = (63, 64);
        assert!(frames.check(Forwarder::AfXdp, &ours).is_ok());
        assert!(frames.check(Forwarder::LinuxSeg6, &linux).is_ok());
        // The other's tunnel and hop limits.
        assert!(frames.check(Forwarder::AfPacket, &linux).is_err());
        assert!(frames.check(Forwarder::LinuxSeg6, &ours).is_err());
        let passes_with = |at: usize, value| {
            let mut frame = ours.clone();
            frame[at] = value;
            frames.check(Forwarder::AfPacket, &frame).is_ok()
        };
        assert!(passes_with(17, 7), "a flow label is the forwarder's choice");
        assert!(!passes_with(20, 43), "a routing header");
        assert!(!passes_with(53, 0xff), "another gateway");
        assert!(!passes_with(61, 64), "a hop limit as it was");
        assert!(frames.check(Forwarder::AfPacket, &ours[..60]).is_err());
        assert!(frames.check(Forwarder::AfPacket, frame).is_err());
    }
}
