//! Questions that several workers answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flow::{BindingCounters, Counters, Fid, Hnp, Report, ReportRequest, Role, Update};
use tokio::sync::oneshot;

use super::workers::WorkerSet;
use crate::server::{Answer, Request};

/// Answers that did not come in this time will not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request with the workers' answers to it.
#[derive(Debug)]
pub(crate) struct Complete {
    /// What was asked.
    pub(crate) request: Request,
    /// Who asked.
    pub(crate) reply: oneshot::Sender<Answer>,
    /// Each worker's counters, by worker number.
    pub(crate) counters: Vec<Counters>,
    /// Counters of the prefixes that were asked for, all workers together.
    pub(crate) bindings: BTreeMap<(Role, Hnp), BindingCounters>,
}

#[derive(Debug)]
struct Pending {
    complete: Complete,
    missing: usize,
    since: Instant,
}

/// Questions on their way.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    pending: BTreeMap<u64, Pending>,
    /// Which prefix a token asks about, and for which question.
    prefixes: BTreeMap<u64, (u64, Role, Hnp)>,
    next: u64,
}

impl Reports {
    /// Asks all workers for their counters, and for those of some prefixes.
    pub(crate) fn ask(
        &mut self,
        workers: &mut WorkerSet,
        request: Request,
        reply: oneshot::Sender<Answer>,
        prefixes: &[(Role, Hnp)],
    ) {
        self.forget_stale();
        let token = self.token();
        workers.broadcast(&Update::Report(ReportRequest::Counters { token }));
        for (role, hnp) in prefixes {
            let (role, hnp) = (*role, *hnp);
            let part = self.token();
            self.prefixes.insert(part, (token, role, hnp));
            workers.broadcast(&Update::Report(ReportRequest::Binding {
                token: part,
                role,
                hnp,
            }));
        }
        let counters = vec![Counters::default(); workers.len()];
        let complete = Complete {
            request,
            reply,
            counters,
            bindings: BTreeMap::new(),
        };
        let missing = workers.len() * (1 + prefixes.len());
        self.pending.insert(
            token,
            Pending {
                complete,
                missing,
                since: Instant::now(),
            },
        );
    }

    /// Takes one answer; returns the question when it is the last.
    pub(crate) fn take(&mut self, report: Report) -> Option<Complete> {
        let token = match report {
            Report::Counters {
                token,
                worker,
                counters,
            } => {
                let pending = self.pending.get_mut(&token)?;
                if let Some(slot) = pending.complete.counters.get_mut(usize::from(worker.0)) {
                    *slot = *counters;
                }
                token
            }
            Report::Binding {
                token: part,
                counters,
                ..
            } => {
                let (token, role, hnp) = *self.prefixes.get(&part)?;
                let pending = self.pending.get_mut(&token)?;
                if let Some(counters) = counters {
                    let sum = pending.complete.bindings.entry((role, hnp)).or_default();
                    add(sum, &counters);
                }
                token
            }
        };
        let pending = self.pending.get_mut(&token)?;
        pending.missing -= 1;
        if pending.missing > 0 {
            return None;
        }
        self.prefixes.retain(|_, (question, ..)| *question != token);
        self.pending.remove(&token).map(|pending| pending.complete)
    }

    fn token(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A worker that does not answer has stopped; the asker sees its channel close.
    fn forget_stale(&mut self) {
        self.pending
            .retain(|_, pending| pending.since.elapsed() < PATIENCE);
        let pending = &self.pending;
        self.prefixes
            .retain(|_, (question, ..)| pending.contains_key(question));
    }
}

fn add(sum: &mut BindingCounters, part: &BindingCounters) {
    sum.downlink_packets += part.downlink_packets;
    sum.downlink_octets += part.downlink_octets;
    sum.uplink_packets += part.uplink_packets;
    sum.uplink_octets += part.uplink_octets;
    for (fid, packets) in &part.rules {
        match sum
            .rules
            .iter_mut()
            .find(|(known, _): &&mut (Fid, u64)| known == fid)
        {
            Some((_, known)) => *known += packets,
            None => sum.rules.push((*fid, *packets)),
        }
    }
}
