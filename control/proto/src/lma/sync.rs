//! Brings a MAG's flow state for one session to what the LMA wants it to be.
//!
//! What is *wanted* is computed afresh from the flow mobility cache whenever something changes; what
//! the MAG *holds* is known from its acknowledgements; the difference is signalled in one message at
//! a time: one change in the draft's dialect, the full list in that of RFC 7864. Changes that come up
//! meanwhile need no queue: they are the difference when the acknowledgement comes. Nothing here
//! knows a message format: see [`super::dialect`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flow::{Fid, Hnp, TrafficSelector};
use serde::{Deserialize, Serialize};

use super::change::{Change, Outcome, Outstanding, Request, Statement, Statements};
use crate::config::Dialect;

/// How long a message may be under way.
pub(super) const LINGER: Duration = Duration::from_mins(1);

/// What is known of one flow's state at the MAG.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Held {
    /// What was last stated; after an exchange without answer, everything the MAG may have.
    statement: Statement,
    /// Off-link prefixes that the MAG is known to route for this flow.
    confirmed: Vec<Hnp>,
    /// Whether the MAG is known to have just what was stated.
    certain: bool,
    /// Whether deleting it failed and should rest.
    parked: bool,
    /// Until when it may arrive with a message whose answer nobody waits for.
    under_way: Option<Duration>,
    refresh: Option<Duration>,
    expires: Option<Duration>,
}

impl Held {
    fn uncertain(statement: Statement) -> Self {
        Self {
            statement,
            confirmed: Vec::new(),
            certain: false,
            parked: false,
            under_way: None,
            refresh: None,
            expires: None,
        }
    }

    fn under_way(statement: Statement, now: Duration) -> Self {
        Self {
            under_way: Some(now + LINGER),
            ..Self::uncertain(statement)
        }
    }
}

/// What a MAG was asked to add last for a mobile. A copy that is late is known by its number, but not to a MAG
/// that has restarted: when that registers the mobile anew it is asked to delete this, and so has a later
/// number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Recent {
    fid: Fid,
    statement: Statement,
}

impl Recent {
    /// What of a request may come late and do harm.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        request.changes().iter().find_map(|change| match change {
            Change::Add(fid, statement) | Change::Refresh(fid, statement) => Some(Self {
                fid: *fid,
                statement: statement.clone(),
            }),
            Change::Delete(..) => None,
        })
    }
}

/// The flow state of one session at its MAG, seen from the LMA.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sync {
    /// Boxed, as is the message: there is a `Sync` for every session, and a map has room for eleven.
    held: BTreeMap<Fid, Box<Held>>,
    outstanding: Option<Box<Outstanding>>,
    /// Flows that the MAG did not take; not tried again before [`Sync::retry`].
    failed: BTreeSet<Fid>,
}

impl Sync {
    /// What to signal next; `None` if something is on its way or nothing is left to do.
    pub(crate) fn next(
        &self,
        dialect: Dialect,
        wanted: &Statements,
        now: Duration,
    ) -> Option<Request> {
        if self.outstanding.is_some() {
            return None;
        }
        match dialect {
            Dialect::Draft => self.next_change(wanted, now).map(Request::Change),
            Dialect::Rfc7864 => self.next_list(wanted),
        }
    }

    fn next_change(&self, wanted: &Statements, now: Duration) -> Option<Change> {
        // Additions first: somebody may be waiting for them, nobody waits for a deletion.
        for (fid, want) in wanted {
            match self.held.get(fid) {
                Some(held) if held.statement.selector != want.selector => {
                    return Some(Change::Delete(*fid, held.statement.clone()));
                }
                Some(held) if held.certain && held.statement == *want => {
                    if held.refresh.is_some_and(|at| at <= now) {
                        return Some(Change::Refresh(*fid, want.clone()));
                    }
                }
                Some(_) | None if self.failed.contains(fid) => {}
                Some(_) | None => return Some(Change::Add(*fid, want.clone())),
            }
        }
        let mut superfluous = self
            .held
            .iter()
            .filter(|(fid, _)| !wanted.contains_key(fid));
        superfluous
            .find(|(_, held)| !held.parked)
            .map(|(fid, held)| Change::Delete(*fid, held.statement.clone()))
    }

    fn next_list(&self, wanted: &Statements) -> Option<Request> {
        let statements = self.list(wanted);
        let is_new = |fid: &Fid, stated: &Statement| {
            let held = self.held.get(fid);
            !held.is_some_and(|held| held.certain && held.statement == *stated)
        };
        let added = statements.iter().filter(|(fid, s)| is_new(fid, s));
        let added = added.map(|(fid, s)| Change::Add(*fid, s.clone()));
        let mut changes: Vec<Change> = added.collect();
        // What is left out is over, but only what nobody wants is worth a message of its own.
        let left_out = self
            .held
            .iter()
            .filter(|(fid, _)| !statements.contains_key(fid));
        let mut worth_it = !changes.is_empty();
        for (fid, held) in left_out {
            worth_it |= !held.parked && !wanted.contains_key(fid);
            changes.push(Change::Delete(*fid, held.statement.clone()));
        }
        worth_it.then_some(Request::List {
            statements,
            changes,
        })
    }

    /// All that the MAG shall hold: what is wanted, and where that failed, what it has.
    pub(crate) fn list(&self, wanted: &Statements) -> Statements {
        let stated = |(fid, want): (&Fid, &Statement)| {
            let stated = if self.failed.contains(fid) {
                let held = self.held.get(fid).filter(|held| held.certain)?;
                &held.statement
            } else {
                want
            };
            Some((*fid, stated.clone()))
        };
        wanted.iter().filter_map(stated).collect()
    }

    /// Notes that a PBA carries a list. Nobody acknowledges a PBA, so what it adds is not known to be
    /// held before an FMI says the same.
    pub(crate) fn offer(&mut self, statements: &Statements, now: Duration) {
        for (fid, stated) in statements {
            let held = self.held.get(fid);
            if !held.is_some_and(|held| held.certain && held.statement == *stated) {
                self.doubt(*fid, stated.clone());
                if let Some(held) = self.held.get_mut(fid) {
                    held.under_way = Some(now + LINGER);
                }
            }
        }
    }

    /// Notes that a message was sent, and returns whether it changes at once what the MAG may be sent: a list leaves
    /// out what failed, even if the MAG serves some of that still, and what is added may be there for another flow.
    pub(crate) fn begin(&mut self, request: Request, sequence: u16, now: Duration) -> bool {
        let changes = match &request {
            Request::List { .. } => true,
            Request::Change(Change::Add(fid, added)) => self.adopt(*fid, &added.selector),
            Request::Change(Change::Refresh(..) | Change::Delete(..)) => false,
        };
        self.outstanding = Some(Box::new(Outstanding {
            request,
            sequence,
            first_sent: now,
            copies: 1,
            jumps: 0,
        }));
        changes
    }

    /// To a MAG of the draft a flow is its selector: what an earlier flow left there is this one's, until it is
    /// replaced. Returns whether there was any.
    fn adopt(&mut self, fid: Fid, selector: &TrafficSelector) -> bool {
        let held = self.held.iter();
        let same = held.filter(|(f, held)| **f != fid && held.statement.selector == *selector);
        let others: Vec<Fid> = same.map(|(f, _)| *f).collect();
        let mut adopted = false;
        for other in others {
            let Some(former) = self.held.remove(&other) else {
                continue;
            };
            adopted = true;
            if let Some(held) = self.held.get_mut(&fid) {
                held.certain = false;
                held.expires = held.expires.max(former.expires);
                held.under_way = held.under_way.max(former.under_way);
                add_missing(&mut held.confirmed, former.confirmed);
                add_missing(&mut held.statement.hnps, former.statement.hnps);
            } else {
                let held = Held {
                    certain: false,
                    parked: false,
                    refresh: None,
                    ..*former
                };
                self.held.insert(fid, Box::new(held));
            }
        }
        adopted
    }

    /// Notes how the exchange ended, and returns what it was about.
    pub(crate) fn complete(&mut self, outcome: Outcome, now: Duration) -> Option<Outstanding> {
        let done = *self.outstanding.take()?;
        if let Outcome::NotAttached(_) = outcome {
            self.forget_all(now);
        } else {
            for change in done.request.changes() {
                self.conclude(change, outcome, done.first_sent);
            }
        }
        Some(done)
    }

    /// The MAG has no session, and so no flows but those that are under way.
    fn forget_all(&mut self, now: Duration) {
        self.held
            .retain(|_, held| held.under_way.is_some_and(|until| until > now));
        for held in self.held.values_mut() {
            let under_way = held.under_way;
            **held = Held::uncertain(held.statement.clone());
            held.under_way = under_way;
            held.parked = true;
        }
    }

    fn conclude(&mut self, change: &Change, outcome: Outcome, first_sent: Duration) {
        let fid = change.fid();
        match (change, outcome) {
            (Change::Add(_, s) | Change::Refresh(_, s), Outcome::Accepted(lifetime)) => {
                let held = Held {
                    confirmed: s
                        .hnps
                        .iter()
                        .filter(|s| s.off_link)
                        .map(|s| s.hnp)
                        .collect(),
                    certain: true,
                    refresh: lifetime.map(|l| first_sent + l / 2),
                    expires: lifetime.map(|l| first_sent + l),
                    ..Held::uncertain(s.clone())
                };
                self.held.insert(fid, Box::new(held));
            }
            (Change::Add(_, s) | Change::Refresh(_, s), Outcome::NoAnswer) => {
                self.doubt(fid, s.clone());
            }
            (_, Outcome::NotAttached(_))
            | (Change::Add(..), Outcome::Refused(_))
            | (Change::Add(..) | Change::Refresh(..), Outcome::NotUnderstood) => {}
            (Change::Add(..), Outcome::UnknownFlow(_))
            | (Change::Refresh(..), Outcome::UnknownFlow(_) | Outcome::Refused(_))
            | (Change::Delete(..), Outcome::Accepted(_) | Outcome::UnknownFlow(_)) => {
                self.held.remove(&fid);
            }
            (
                Change::Delete(..),
                Outcome::Refused(_) | Outcome::NoAnswer | Outcome::NotUnderstood,
            ) => {
                if let Some(held) = self.held.get_mut(&fid) {
                    held.confirmed.clear();
                    held.certain = false;
                    held.parked = true;
                }
            }
        }
    }

    /// The MAG has either what it had or what was stated.
    fn doubt(&mut self, fid: Fid, statement: Statement) {
        match self.held.get_mut(&fid) {
            Some(held) => {
                held.certain = false;
                held.refresh = None;
                let granted = |hnp: &Hnp| statement.grants(*hnp);
                held.confirmed.retain(granted);
                add_missing(&mut held.statement.hnps, statement.hnps);
            }
            None => {
                self.held.insert(fid, Box::new(Held::uncertain(statement)));
            }
        }
    }

    /// The MAG has no state left: the mobile attached there anew. A copy of the outstanding message may
    /// still reach it, though. Returns that message: its answer is no longer waited for.
    pub(crate) fn reset(&mut self, now: Duration) -> Option<Outstanding> {
        self.forget_all(now);
        self.retry();
        let outstanding = *self.outstanding.take()?;
        for change in outstanding.request.changes() {
            match change {
                Change::Add(fid, s) | Change::Refresh(fid, s) => {
                    self.held
                        .insert(*fid, Box::new(Held::under_way(s.clone(), now)));
                }
                Change::Delete(..) => {}
            }
        }
        Some(outstanding)
    }

    /// A copy of what the MAG was asked to add before the session began may come to it.
    pub(crate) fn expect(&mut self, recent: &Recent, until: Duration) {
        self.held.entry(recent.fid).or_insert_with(|| {
            Box::new(Held {
                under_way: Some(until),
                ..Held::uncertain(recent.statement.clone())
            })
        });
    }

    /// The MAG may hold for this session what it held for another, or what is on its way there.
    pub(crate) fn inherit(&mut self, other: &Self, now: Duration) {
        for (fid, held) in &other.held {
            self.doubt(*fid, held.statement.clone());
            if let Some(doubted) = self.held.get_mut(fid) {
                doubted.under_way = doubted.under_way.max(held.under_way);
            }
        }
        for change in other.changes() {
            match change {
                Change::Add(fid, s) | Change::Refresh(fid, s) => {
                    self.doubt(*fid, s.clone());
                    if let Some(doubted) = self.held.get_mut(fid) {
                        doubted.under_way = Some(now + LINGER);
                    }
                }
                Change::Delete(..) => {}
            }
        }
    }

    /// The MAG has dropped what was not refreshed in time, or may have.
    pub(crate) fn expire(&mut self, now: Duration) {
        for held in self.held.values_mut() {
            if held.expires.is_some_and(|at| at <= now) {
                **held = Held::uncertain(held.statement.clone());
            }
        }
    }

    /// Does not try this addition again before [`Sync::retry`].
    pub(crate) fn give_up(&mut self, fid: Fid) {
        self.failed.insert(fid);
    }

    /// Forgets that an addition failed.
    pub(crate) fn try_again(&mut self, fid: Fid) {
        self.failed.remove(&fid);
    }

    /// Forgets all failures: a sign of life came, or enough time has passed.
    pub(crate) fn retry(&mut self) {
        self.failed.clear();
        for held in self.held.values_mut() {
            held.parked = false;
        }
    }

    /// Whether something waits for [`Sync::retry`].
    pub(crate) fn wants_retry(&self) -> bool {
        !self.failed.is_empty() || self.held.values().any(|held| held.parked)
    }

    /// When a refresh or an expiry is next due after `now`.
    pub(crate) fn deadline(&self, now: Duration) -> Option<Duration> {
        let times = self.held.values().flat_map(|h| [h.refresh, h.expires]);
        times.flatten().filter(|at| *at > now).min()
    }

    pub(crate) fn outstanding(&self) -> Option<&Outstanding> {
        self.outstanding.as_deref()
    }

    pub(crate) fn outstanding_mut(&mut self) -> Option<&mut Outstanding> {
        self.outstanding.as_deref_mut()
    }

    /// Whether the MAG is known to have just this for the flow.
    pub(crate) fn is_settled(&self, fid: Fid, want: &Statement) -> bool {
        let held = self.held.get(&fid);
        held.is_some_and(|held| held.certain && held.statement == *want) && !self.is_busy_with(fid)
    }

    /// What was stated to the MAG about the flow.
    pub(crate) fn stated(&self, fid: Fid) -> Option<&Statement> {
        self.held.get(&fid).map(|held| &held.statement)
    }

    /// Whether the flow's packets to this off-link prefix may be sent to the MAG: it has
    /// acknowledged them and not been told otherwise since.
    pub(crate) fn serves(&self, fid: Fid, selector: &TrafficSelector, hnp: Hnp) -> bool {
        // A FID may have been given to another flow before its last one was forgotten.
        let held = self.held.get(&fid);
        let held = held.filter(|held| held.statement.selector == *selector);
        let kept = |change: &Change| match change {
            Change::Delete(f, _) => *f != fid,
            Change::Add(f, s) | Change::Refresh(f, s) => {
                *f != fid || (s.selector == *selector && s.grants(hnp))
            }
        };
        held.is_some_and(|held| held.confirmed.contains(&hnp)) && self.changes().all(kept)
    }

    /// Prefixes that the MAG is known to route without its session owning them.
    pub(crate) fn granted(&self) -> BTreeSet<Hnp> {
        let confirmed = self.held.values().flat_map(|held| &held.confirmed);
        confirmed.copied().collect()
    }

    /// Whether this is one of them.
    pub(crate) fn has_granted(&self, hnp: Hnp) -> bool {
        let mut held = self.held.values();
        held.any(|held| held.confirmed.contains(&hnp))
    }

    /// Whether the MAG may route this prefix without its session owning it.
    pub(crate) fn may_hold(&self, hnp: Hnp) -> bool {
        let outstanding = self.changes().map(Change::statement);
        let held = self.held.values().map(|held| &held.statement);
        outstanding.chain(held).any(|s| s.grants(hnp))
    }

    fn is_busy_with(&self, fid: Fid) -> bool {
        self.changes().any(|change| change.fid() == fid)
    }

    /// What the message on its way changes.
    fn changes(&self) -> impl Iterator<Item = &Change> {
        let outstanding = self.outstanding.iter();
        outstanding.flat_map(|o| o.request.changes())
    }
}

fn add_missing<T: PartialEq>(to: &mut Vec<T>, from: Vec<T>) {
    for item in from {
        if !to.contains(&item) {
            to.push(item);
        }
    }
}

#[cfg(test)]
mod tests;
