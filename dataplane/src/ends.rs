//! How a packet ended, read off what a worker counts: nobody on its way has to say so.

use flow::{DropReason, End};

use crate::io::PacketIo;
use crate::worker::Worker;

/// What is counted of how packets end.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    drops: [u64; DropReason::ALL.len()],
    punted: u64,
    consumed: u64,
    reassembled: u64,
    gathering: usize,
    waiting: usize,
}

impl<Io: PacketIo> Worker<Io> {
    /// What is counted now.
    pub(crate) fn ends(&self) -> Ends {
        Ends {
            drops: self.drops,
            punted: self.punted,
            consumed: self.consumed,
            reassembled: self.reassembled,
            gathering: self.gathering.held(),
            waiting: self.neighbours.held(),
        }
    }
}

impl Ends {
    /// How a packet ended that was alone on its way since.
    pub(crate) fn since(&self, before: &Self) -> End {
        if self.gathering > before.gathering {
            return End::Held;
        }
        let mut reasons = DropReason::ALL.iter().zip(self.drops).zip(before.drops);
        match reasons.find(|((_, now), before)| now > before) {
            Some(((reason, _), _)) => End::Dropped(*reason),
            None if self.waiting > before.waiting => End::Held,
            None if self.punted > before.punted => End::Punted,
            // The last fragment of a packet goes on in its place.
            None if self.reassembled > before.reassembled => End::Sent,
            None if self.consumed > before.consumed => End::Consumed,
            None => End::Sent,
        }
    }
}
