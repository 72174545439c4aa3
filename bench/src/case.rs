//! What can be measured: works, table sizes, rules, packet sizes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a worker does with the packets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// From the network into the tunnel that the first matching rule names.
    LmaDownlink,
    /// Out of a tunnel, outer and inner source checked, and on by route.
    LmaUplink,
    /// Out of the anchor's tunnel onto a mobile's link.
    MagDownlink,
    /// From a mobile's link, source and station checked, into the anchor's tunnel.
    MagUplink,
}

impl Work {
    /// All of them, in the order of reports.
    pub(crate) const ALL: [Self; 4] = [
        Self::LmaDownlink,
        Self::LmaUplink,
        Self::MagDownlink,
        Self::MagUplink,
    ];

    /// Whether its packets come in through a tunnel.
    pub(crate) fn is_tunnelled(self) -> bool {
        matches!(self, Self::LmaUplink | Self::MagDownlink)
    }

    /// Whether the role is the anchor's.
    pub(crate) fn is_lma(self) -> bool {
        matches!(self, Self::LmaDownlink | Self::LmaUplink)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::LmaDownlink => "lma-downlink",
            Self::LmaUplink => "lma-uplink",
            Self::MagDownlink => "mag-downlink",
            Self::MagUplink => "mag-uplink",
        })
    }
}

/// Lengths of the packets of mobiles, as Ethernet frames without FCS and without the tunnel header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Size {
    /// One length, at least 64.
    Fixed(u16),
    /// Of twelve packets seven of 64, four of 590 and one of 1514 octets.
    Imix,
}

impl Size {
    /// The twelve lengths of the mix, in an order that keeps like from like.
    pub(crate) const IMIX: [u16; 12] = [64, 590, 64, 64, 590, 64, 1514, 64, 590, 64, 64, 590];

    /// Octets of a packet on average, rounded.
    pub(crate) fn mean(self) -> u16 {
        match self {
            Self::Fixed(octets) => octets,
            Self::Imix => {
                let sum: u32 = Self::IMIX.iter().map(|octets| u32::from(*octets)).sum();
                u16::try_from(sum / 12).unwrap_or(u16::MAX)
            }
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(octets) => f.pad(&octets.to_string()),
            Self::Imix => f.pad("imix"),
        }
    }
}

/// Where packets and tables live.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Memory {
    /// Reserved hugepages.
    Hugepages,
    /// Ordinary pages: what a first run gets.
    Anonymous,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hugepages => "hugepages",
            Self::Anonymous => "anonymous",
        })
    }
}

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    /// The work.
    pub(crate) work: Work,
    /// Prefixes in the table, each asked for as often as any other.
    pub(crate) bindings: u32,
    /// Rules of each binding; every packet matches one of them, all equally often.
    pub(crate) rules: u16,
    /// Packet lengths.
    pub(crate) size: Size,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            work,
            bindings,
            rules,
            size,
        } = self;
        write!(f, "{work} {bindings} x {rules}, {size}")
    }
}

/// The rows of a run.
pub(crate) fn cases(work: Work, memory: Memory, quick: bool) -> Vec<Case> {
    let small = Size::Fixed(64);
    let case = |bindings, rules, size| Case {
        work,
        bindings,
        rules,
        size,
    };
    if !work.is_lma() {
        // A gateway's bindings have no rules: its anchor has chosen.
        let sizes: &[Size] = if quick || memory == Memory::Anonymous {
            &[small]
        } else {
            &[small, Size::Imix, Size::Fixed(1024)]
        };
        return sizes.iter().map(|size| case(10_000, 0, *size)).collect();
    }
    let rules = if work == Work::LmaDownlink { 4 } else { 0 };
    let mut cases: Vec<Case> = [1_000, 100_000, 1_000_000]
        .map(|bindings| case(bindings, rules, small))
        .to_vec();
    if quick {
        return cases;
    }
    cases.push(case(10_000, rules, small));
    cases.push(case(4_000_000, rules, small));
    if memory == Memory::Anonymous {
        return cases;
    }
    let sizes = [128, 256, 512, 1024, 1500].map(Size::Fixed);
    cases.extend(sizes.map(|size| case(100_000, rules, size)));
    cases.push(case(100_000, rules, Size::Imix));
    if work == Work::LmaDownlink {
        cases.extend([0, 1, 2, 8, 16, 32, 64].map(|rules| case(1_000, rules, small)));
    }
    cases
}
