//! Messages that wait until the tables they speak of are in force, and what they say is on disk.
//!
//! However long that takes, copies of PBUs do not make more of them: one answer waits for each session of a mobile, and another
//! takes its place. What else waits has a bound too, beyond which it is as if it was lost on its way.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv6Addr;

use flow::{AccessTechnology, MnId, MnLinkLayerId, TransmitTo};
use pmip_wire::Pba;
use store::Mark as Kept;

use super::keeping::Keeping;
use super::overload::{MANY_MESSAGES, MOST_MESSAGES};
use super::workers::{Mark, WorkerSet};

/// Messages that may wait for the disk, and so many more that do not. Long before, nothing is taken in any more that causes
/// some ([`MOST_MESSAGES`]): what still comes is what timers repeat.
const MOST: usize = 2 * MOST_MESSAGES;

/// What is to be sent.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A packet as it is.
    Packet(Vec<u8>, TransmitTo),
    /// A message that is sealed when it leaves: sequence numbers leave in order, whoever has waited.
    Message(Box<Letter>),
}

/// A message in its Mobility Header, and whom a log names if it cannot be sent.
#[derive(Debug)]
pub(crate) struct Letter {
    /// Source address.
    pub(crate) from: Ipv6Addr,
    /// Destination address.
    pub(crate) to: Ipv6Addr,
    /// The octets of the Mobility Header.
    pub(crate) header: Vec<u8>,
    /// The message's name.
    pub(crate) name: &'static str,
    /// The mobile it is about.
    pub(crate) mn: Option<MnId>,
}

/// Whom a peer is told about.
type About = (Ipv6Addr, MnId);

impl Outgoing {
    fn about(&self) -> Option<About> {
        match self {
            Self::Message(letter) => Some((letter.to, letter.mn.clone()?)),
            Self::Packet(..) => None,
        }
    }
}

/// Which of a mobile's sessions at a MAG an answer is about, for all that is known.
type Interface = (Option<AccessTechnology>, Option<MnLinkLayerId>);

/// What a PBA says, as far as that decides when it may leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    accepts: bool,
    sequence: u16,
    interface: Interface,
}

impl From<&Pba> for Answer {
    fn from(pba: &Pba) -> Self {
        Self {
            accepts: pba.status.is_accepted(),
            sequence: pba.sequence,
            interface: (pba.access, pba.ll_id.clone()),
        }
    }
}

/// An answer that waits, and where.
#[derive(Debug)]
struct Waiting {
    place: u64,
    answer: Answer,
}

/// What a MAG is told about a mobile as soon as it is kept.
#[derive(Debug, Default)]
struct Told {
    /// How much that is.
    count: usize,
    /// The last place of what is no answer.
    notice: Option<u64>,
    /// Of each interface one that accepts, and one that refuses.
    answers: Vec<Waiting>,
}

/// What has to be on disk before it leaves.
#[derive(Debug)]
struct Promise {
    mark: Mark,
    kept: Kept,
    outgoing: Outgoing,
}

/// What the control plane sends, in its order, each behind the updates issued before it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What has to be on disk first, by the order in which it leaves.
    promises: BTreeMap<u64, Promise>,
    next: u64,
    /// Whom they are about.
    told: HashMap<About, Told>,
    /// What has not, and does not wait for those that have.
    others: VecDeque<(Mark, Outgoing)>,
    superseded: u64,
    lost: u64,
}

impl Outbox {
    /// Takes something to send once every update issued so far is in force everywhere.
    pub(crate) fn push(&mut self, workers: &WorkerSet, outgoing: Outgoing) {
        if self.others.len() >= MOST {
            self.lost += 1;
            return;
        }
        self.others.push_back((workers.mark(), outgoing));
    }

    /// As [`Outbox::push`], and once all before `kept` is on disk: a MAG that acknowledges an FMI has the route, on each
    /// of its workers, and in its next life.
    pub(crate) fn promise(&mut self, workers: &WorkerSet, kept: Kept, outgoing: Outgoing) {
        let about = outgoing.about();
        if let Some(place) = self.enqueue(workers, kept, outgoing)
            && let Some(told) = about.and_then(|about| self.told.get_mut(&about))
        {
            told.notice = Some(place);
        }
    }

    /// As [`Outbox::promise`], while there is no overload: whoever asked about a mobile that is not here asks again, and must not
    /// fill the place of those that are.
    pub(crate) fn promise_if_few(&mut self, workers: &WorkerSet, kept: Kept, outgoing: Outgoing) {
        if self.promises.len() < MANY_MESSAGES {
            self.promise(workers, kept, outgoing);
        } else {
            self.lost += 1;
        }
    }

    /// Takes a PBA to send. One that accepts waits for the disk. If one about the same session waits already, and nothing about the mobile
    /// behind it, it takes its place: the MAG waits for the answer to its latest PBU only, so the former is as good as lost on its
    /// way. What tells the MAG of flows must not leave before the session that it is about, so an answer before it stays.
    ///
    /// One that refuses promises nothing, and need not wait for the disk behind other mobiles' answers. It must not overtake an
    /// acceptance of its own session, though. A copy of a PBU, made by the network or by somebody else, is refused as old, with
    /// the number of the one that was accepted: heard first, that would be taken for the answer, and the MAG would register anew.
    /// So a refusal with the number of an acceptance that waits is not said at all, and another one leaves behind it. Sessions, and MAGs,
    /// have no order among each other: networks keep none.
    pub(crate) fn answer(
        &mut self,
        workers: &WorkerSet,
        kept: Kept,
        answer: Answer,
        outgoing: Outgoing,
    ) {
        let about = outgoing.about();
        let told = about.as_ref().and_then(|about| self.told.get(about));
        let same = |waiting: &&Waiting| waiting.answer.interface == answer.interface;
        let waiting: Vec<&Waiting> = told.iter().flat_map(|t| &t.answers).filter(same).collect();
        if !answer.accepts {
            if waiting.is_empty() {
                self.push(workers, outgoing);
                return;
            }
            let is_copy = |w: &&Waiting| w.answer.accepts && w.answer.sequence == answer.sequence;
            if waiting.iter().any(is_copy) {
                self.superseded += 1;
                return;
            }
        }
        let notice = told.and_then(|told| told.notice);
        let gives_way = |w: &&Waiting| {
            !w.answer.accepts || (answer.accepts && notice.is_none_or(|notice| notice < w.place))
        };
        let former = waiting.into_iter().filter(gives_way).map(|w| w.place);
        for place in former.collect::<Vec<u64>>() {
            self.superseded += u64::from(self.take(place).is_some());
        }
        if let Some(place) = self.enqueue(workers, kept, outgoing)
            && let Some(told) = about.and_then(|about| self.told.get_mut(&about))
        {
            // One that has to stay is not looked for any more.
            told.answers.retain(|w| {
                w.answer.interface != answer.interface || w.answer.accepts != answer.accepts
            });
            told.answers.push(Waiting { place, answer });
        }
    }

    /// Its place, if there is one for it.
    fn enqueue(&mut self, workers: &WorkerSet, kept: Kept, outgoing: Outgoing) -> Option<u64> {
        if self.promises.len() >= MOST {
            self.lost += 1;
            return None;
        }
        if let Some(about) = outgoing.about() {
            self.told.entry(about).or_default().count += 1;
        }
        let promise = Promise {
            mark: workers.mark(),
            kept,
            outgoing,
        };
        let place = self.next;
        self.next += 1;
        self.promises.insert(place, promise);
        Some(place)
    }

    /// Takes a promise out of its place.
    fn take(&mut self, place: u64) -> Option<Outgoing> {
        let Promise { outgoing, .. } = self.promises.remove(&place)?;
        if let Some(about) = outgoing.about()
            && let Some(told) = self.told.get_mut(&about)
        {
            told.count -= 1;
            told.notice = told.notice.filter(|notice| *notice != place);
            told.answers.retain(|waiting| waiting.place != place);
            if told.count == 0 {
                self.told.remove(&about);
            }
        }
        Some(outgoing)
    }

    /// How much waits.
    pub(crate) fn len(&self) -> usize {
        self.promises.len() + self.others.len()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Answers that were not sent, as another one about the same session waited or took their place.
    pub(crate) fn superseded(&self) -> u64 {
        self.superseded
    }

    /// What was not sent as too much waited.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// The next whose time has come.
    pub(crate) fn pop(&mut self, workers: &WorkerSet, keeping: &Keeping) -> Option<Outgoing> {
        self.pop_if(workers, |kept| keeping.has_kept(kept))
    }

    fn pop_if(&mut self, workers: &WorkerSet, has_kept: impl Fn(Kept) -> bool) -> Option<Outgoing> {
        let in_force = |mark: &Mark| workers.reached_by_others(mark);
        if let Some((_, outgoing)) = self.others.pop_front_if(|(mark, _)| in_force(mark)) {
            return Some(outgoing);
        }
        let (place, promise) = self.promises.first_key_value()?;
        let place = *place;
        let is_due = in_force(&promise.mark) && has_kept(promise.kept);
        is_due.then(|| self.take(place)).flatten()
    }
}

#[cfg(test)]
mod tests;
