//! How many packets of each flow were in which tunnel, piece by piece of a run.

use std::fmt::Write as _;
use std::time::Duration;

use super::analysis::{Direction, Flow, PerMag, Watcher, Window};

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
}

impl Timeline {
    /// Of all that the watcher saw, in pieces of equal length.
    pub(crate) fn new(watcher: &Watcher) -> Self {
        let Some(Window { from, to }) = watcher.extent() else {
            return Self::default();
        };
        let unit = UNIT.as_micros();
        let least = (to.saturating_sub(from)).as_micros() / u128::from(PIECES);
        let units = u32::try_from(least / unit + 1).unwrap_or(u32::MAX);
        let width = UNIT.saturating_mul(units);
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
        }
    }

    /// The begin of a piece in seconds after `zero`.
    pub(crate) fn seconds(&self, piece: usize, zero: Duration) -> f64 {
        let piece = u32::try_from(piece).unwrap_or(u32::MAX);
        let at = self.begin + self.width.saturating_mul(piece);
        at.as_secs_f64() - zero.as_secs_f64()
    }

    /// All of it, one line for each piece with packets.
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
