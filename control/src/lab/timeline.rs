//! How many packets of each flow were in which tunnel, piece by piece of a run.

use std::fmt::Write as _;
use std::time::Duration;

use super::analysis::{Direction, Flow, PerMag, Watcher, Window};
use super::topology::Mag;

/// Most pieces: as many as a figure can show.
const PIECES: u32 = 600;
/// The shortest piece, and what all are multiples of.
const UNIT: Duration = Duration::from_millis(10);

/// Packets by piece of time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Timeline {
    /// Where it begins, in time since 1970.
    pub(crate) begin: Duration,
    /// How long a piece is.
    pub(crate) width: Duration,
    /// Each flow and direction, with its packets in each piece.
    pub(crate) rows: Vec<(Flow, Direction, Vec<PerMag>)>,
    /// Each single packet of flow Y about a command: when, which way, in which tunnel.
    pub(crate) closely: Vec<Vec<(Duration, Direction, Mag)>>,
}

/// How much before and after a command each packet is kept.
pub(crate) const CLOSELY: (Duration, Duration) =
    (Duration::from_millis(5), Duration::from_millis(20));

fn closely(watcher: &Watcher, command: Duration) -> Vec<(Duration, Direction, Mag)> {
    let (before, after) = CLOSELY;
    let window = Window {
        from: command.saturating_sub(before),
        to: command + after,
    };
    let mut packets = Vec::new();
    for direction in Direction::ALL {
        let its = watcher.packets(Flow::Y, direction, window);
        packets.extend(its.map(|(time, mag)| (time, direction, mag)));
    }
    packets
}

impl Timeline {
    /// Of all that the watcher saw, in pieces of equal length, one of which begins with the first of `commands`;
    /// and what flow Y did about each of these.
    pub(crate) fn new(watcher: &Watcher, commands: &[Duration]) -> Self {
        let Some(Window { from, to }) = watcher.extent() else {
            return Self::default();
        };
        let unit = UNIT.as_micros();
        let least = (to.saturating_sub(from)).as_micros() / u128::from(PIECES);
        let units = u32::try_from(least / unit + 1).unwrap_or(u32::MAX);
        let width = UNIT.saturating_mul(units);
        let zero = commands.first().copied().unwrap_or(from);
        let before = (zero.saturating_sub(from))
            .as_nanos()
            .div_ceil(width.as_nanos());
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let from = zero.saturating_sub(width.saturating_mul(before));
        let mut rows = Vec::new();
        for flow in Flow::ALL {
            for direction in Direction::ALL {
                rows.push((
                    flow,
                    direction,
                    watcher.pieces(flow, direction, from, width),
                ));
            }
        }
        Self {
            begin: from,
            width,
            rows,
            closely: commands.iter().map(|at| closely(watcher, *at)).collect(),
        }
    }

    /// The begin of a piece in seconds after `zero`.
    pub(crate) fn seconds(&self, piece: usize, zero: Duration) -> f64 {
        let piece = u32::try_from(piece).unwrap_or(u32::MAX);
        let at = self.begin + self.width.saturating_mul(piece);
        at.as_secs_f64() - zero.as_secs_f64()
    }

    /// All of it, one line for each flow, direction and piece.
    pub(crate) fn csv(&self, zero: Duration) -> String {
        let mut out = "seconds,width_seconds,flow,direction,mag1_packets,mag2_packets\n".to_owned();
        let width = self.width.as_secs_f64();
        for (flow, direction, pieces) in &self.rows {
            for (number, packets) in pieces.iter().enumerate() {
                let PerMag { mag1, mag2 } = packets;
                let seconds = self.seconds(number, zero);
                // Writing into a string cannot fail.
                let _infallible = writeln!(
                    out,
                    "{seconds:.3},{width:.3},{flow:?},{},{mag1},{mag2}",
                    direction.name()
                );
            }
        }
        out
    }
}
