//! Flow mobility messages as each kind of MAG understands them.

use std::collections::BTreeSet;

use flow::{Fid, MnId};
use pmip_wire::{
    FlowIdentification, FlowLifetime, FlowStatus, Fma, FmaStatus, Fmi, HnpOption, Message,
    NotificationReason, Upa, UpaStatus, Upn,
};

use super::binding_cache::Bce;
use super::change::{Change, Outcome, Outstanding, Request, Statements};

/// A flow mobility message for one session. It always names the interface: the mobile may be at the
/// MAG with another one that the LMA does not know of yet, or not any more.
pub(crate) struct Notice<'a> {
    pub(crate) mn_id: &'a MnId,
    pub(crate) session: &'a Bce,
    pub(crate) outstanding: &'a Outstanding,
    /// Lifetime to ask for, where the dialect has one.
    pub(crate) lifetime: u16,
}

impl Notice<'_> {
    /// The message as the session's MAG understands it.
    pub(crate) fn message(&self) -> Message {
        match &self.outstanding.request {
            Request::Change(change) => self.fmi(change).into(),
            Request::List { statements, .. } => self.upn(statements).into(),
        }
    }

    /// The draft's FMI for one change.
    fn fmi(&self, change: &Change) -> Fmi {
        let statement = change.statement();
        let prefixes = statement.hnps.iter().map(|stated| HnpOption {
            prefix: stated.hnp,
            off_link: stated.off_link,
        });
        let (cancel, refresh, lifetime) = match change {
            Change::Add(..) => (false, false, self.lifetime),
            Change::Refresh(..) => (false, true, self.lifetime),
            Change::Delete(..) => (true, false, 0),
        };
        Fmi {
            sequence: self.outstanding.sequence,
            cancel,
            refresh,
            lifetime: FlowLifetime::from_seconds(lifetime),
            mn_id: Some(self.mn_id.clone().into()),
            hnps: prefixes.collect(),
            access: Some(self.session.access),
            ll_id: self.session.ll_id.clone(),
            selectors: vec![statement.selector.clone().into()],
            others: Vec::new(),
        }
    }

    /// The FMI of RFC 7864 §4.2: an update notification with all there is to say.
    fn upn(&self, statements: &Statements) -> Upn {
        let (mut hnps, flows) = listed(statements);
        if hnps.is_empty() {
            // At least one prefix has to be named. Those of the session are hosted there anyway, and
            // that no other is named ends all others.
            let own = self.session.hnps.iter().copied();
            hnps = own.map(HnpOption::on_link).collect();
        }
        Upn {
            sequence: self.outstanding.sequence,
            reason: NotificationReason::FLOW_MOBILITY,
            acknowledge: true,
            retransmission: self.outstanding.copies > 1,
            mn_id: Some(self.mn_id.clone().into()),
            hnps,
            access: Some(self.session.access),
            ll_id: self.session.ll_id.clone(),
            flows,
            others: Vec::new(),
        }
    }
}

/// A full list as options: every prefix once, and every flow.
pub(crate) fn listed(statements: &Statements) -> (Vec<HnpOption>, Vec<FlowIdentification>) {
    let stated = statements.values().flat_map(|s| &s.hnps);
    let prefixes: BTreeSet<_> = stated.map(|s| (s.hnp, s.off_link)).collect();
    let hnps = prefixes
        .into_iter()
        .map(|(prefix, off_link)| HnpOption { prefix, off_link });
    let flows = statements
        .iter()
        .map(|(fid, statement)| FlowIdentification {
            fid: *fid,
            priority: statement.priority,
            status: FlowStatus::SUCCESS,
            // BIDs mean nothing to a MAG (RFC 7864 §5.1).
            bindings: Vec::new(),
            selector: Some(statement.selector.clone().into()),
            others: Vec::new(),
        });
    (hnps.collect(), flows.collect())
}

/// What an answer says about an exchange.
pub(crate) struct Answer {
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Flows that the MAG names as the reason, if it names any.
    pub(crate) blamed: BTreeSet<Fid>,
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            blamed: BTreeSet::new(),
        }
    }
}

/// What the draft's answer to a request says; `None` if it is that the sequence number is out of the
/// MAG's window, which is about the pair of peers and not about the flow.
pub(crate) fn by_fma(request: &Request, asked: u16, fma: &Fma) -> Option<Answer> {
    let status = fma.status.0;
    let deletes = |change: &Change| matches!(change, Change::Delete(..));
    let outcome = match fma.status {
        FmaStatus::NOT_ATTACHED => Outcome::NotAttached(status),
        FmaStatus::UNKNOWN_FLOW => Outcome::UnknownFlow(status),
        FmaStatus::SEQUENCE_OUT_OF_WINDOW => return None,
        _ if !fma.status.is_success() => Outcome::Refused(status),
        _ if request.changes().iter().all(deletes) => Outcome::Accepted(None),
        // A lifetime of nothing means that the MAG did not keep it.
        _ if fma.lifetime.is_zero() => Outcome::UnknownFlow(status),
        _ => {
            let granted = fma.lifetime.seconds().min(asked);
            Outcome::Accepted(FlowLifetime::from_seconds(granted).duration())
        }
    };
    Some(outcome.into())
}

/// What RFC 7864's answer to a request says. A success that repeats no prefix is one all the same.
pub(crate) fn by_upa(upa: &Upa) -> Answer {
    let status = upa.status.0;
    let outcome = match upa.status {
        UpaStatus::NOT_ATTACHED => Outcome::NotAttached(status),
        _ if upa.status.is_success() => Outcome::Accepted(None),
        _ => Outcome::Refused(status),
    };
    let blamed = upa.flows.iter().filter(|flow| !flow.status.is_success());
    Answer {
        outcome,
        blamed: blamed.map(|flow| flow.fid).collect(),
    }
}
