//! Flows that the LMA puts on a session, as full lists: update notifications with reason FLOW-MOBILITY
//! (RFC 7864 §4.2), their acknowledgements (§4.3), and the same in a PBA (§3.3).
//!
//! A list is all that the MAG shall route for a session besides the session's own prefixes. What an
//! earlier list had and this one lacks is over.

use std::collections::BTreeSet;
use std::time::Duration;

use flow::{Fid, Hnp, Lmaa, MobileId};
use pmip_wire::message::mh_type;
use pmip_wire::{
    FlowIdentification, FlowStatus, HnpOption, MnIdOption, NotificationReason, Pba,
    SelectorFaultKind, Upa, UpaStatus, Upn,
};

use super::Mag;
use super::answers::Seen;
use super::bul::{Answered, FlowEntry, Request, SessionId};
use crate::config::Dialect;

/// Why a list was not carried out.
struct Refusal {
    status: UpaStatus,
    /// The flows that are the reason.
    flows: Vec<FlowIdentification>,
}

impl From<UpaStatus> for Refusal {
    fn from(status: UpaStatus) -> Self {
        let flows = Vec::new();
        Self { status, flows }
    }
}

impl Mag {
    pub(super) fn handle_upn(&mut self, now: Duration, from: Lmaa, upn: &Upn) {
        match upn.reason {
            NotificationReason::FLOW_MOBILITY => self.handle_list(now, from, upn),
            // There is nothing else to do about a session here, and nothing that a vendor defined.
            NotificationReason::UPDATE_SESSION_PARAMETERS => {
                self.decline(from, upn, UpaStatus::FAILED_TO_UPDATE_SESSION_PARAMETERS);
            }
            NotificationReason::VENDOR_SPECIFIC => {
                self.decline(from, upn, UpaStatus::MISSING_VENDOR_SPECIFIC_OPTION);
            }
            _ => self.decline(from, upn, UpaStatus::UNSPECIFIED),
        }
    }

    /// RFC 7077 §6.1: an answer if one is wanted, otherwise a number in the counters.
    fn decline(&mut self, from: Lmaa, upn: &Upn, status: UpaStatus) {
        self.counters.unexpected += 1;
        if upn.acknowledge {
            self.send(from, answer(upn, &Err(status.into())).into());
        }
    }

    /// Carries out a list whole or not at all, and answers if the A bit asks for it (RFC 7077 §6.1): the
    /// routes are in force before the answer leaves, since the LMA sends packets when it has it.
    fn handle_list(&mut self, now: Duration, from: Lmaa, upn: &Upn) {
        let name = upn.mn_id.as_ref().and_then(MnIdOption::nai);
        let Some(mobile) = name.and_then(|name| self.bul.mobile_of(name)) else {
            let status = match name {
                Some(_) => UpaStatus::NOT_ATTACHED,
                None => UpaStatus::UNSPECIFIED,
            };
            self.refuse_list(from, upn, status);
            return;
        };
        match self.seen(
            now,
            mobile,
            from,
            upn.sequence,
            mh_type::UPDATE_NOTIFICATION_ACK,
        ) {
            Seen::Copy(answer) if upn.acknowledge => self.repeat_answer(from, *answer),
            Seen::Copy(_) => self.counters.fmi_copies += 1,
            Seen::Overtaken => self.refuse_list(from, upn, UpaStatus::UNSPECIFIED),
            Seen::New => {
                let result = match self.dialect(from) {
                    Some(Dialect::Rfc7864) => self.apply_list(now, mobile, from, upn),
                    Some(Dialect::Draft) | None => Err(UpaStatus::UNSPECIFIED.into()),
                };
                let upa = answer(upn, &result);
                let status = (upa.status.0, upa.status.is_success());
                let last = Answered {
                    lmaa: from,
                    sequence: upn.sequence,
                    at: now,
                    answer: upa.into(),
                    wanted: upn.acknowledge,
                };
                self.conclude(mobile, last, status);
            }
        }
    }

    /// Refuses a list that is not worth remembering.
    fn refuse_list(&mut self, from: Lmaa, upn: &Upn, status: UpaStatus) {
        self.count_fmi(false);
        if upn.acknowledge {
            self.send(from, answer(upn, &Err(status.into())).into());
        }
    }

    fn apply_list(
        &mut self,
        now: Duration,
        mobile: MobileId,
        from: Lmaa,
        upn: &Upn,
    ) -> Result<(), Refusal> {
        let sessions = self.addressed(mobile, from, upn.access, upn.ll_id.as_ref());
        if sessions.is_empty() {
            return Err(UpaStatus::NOT_ATTACHED.into());
        }
        // RFC 7864 §4.2: at least one prefix, even to say that there is none.
        let plausible = |option: &HnpOption| self.is_plausible(mobile, option);
        if upn.hnps.is_empty() || !upn.hnps.iter().all(plausible) {
            return Err(UpaStatus::UNSPECIFIED.into());
        }
        let flows = flows(&upn.flows, self.config.max_flows_per_session)?;
        let off_link = upn.hnps.iter().filter(|option| option.off_link);
        let granted: BTreeSet<Hnp> = off_link.map(|option| option.prefix).collect();
        for id in sessions {
            if let Some(bule) = self.bul.sessions.get_mut(&id) {
                bule.flows.clone_from(&flows);
                bule.granted = granted.iter().copied().collect();
                bule.listed = Some(now);
            }
            self.set_flow_timer(id);
        }
        self.update_routes(mobile);
        Ok(())
    }

    /// Takes the flows that a PBA brings along. They are added to what there is: a PBA and an FMI may
    /// overtake each other, so only an FMI ends anything, and a PBA whose PBU is older than the last FMI
    /// has nothing to say.
    pub(super) fn take_offer(&mut self, id: SessionId, request: &Request, pba: &Pba) {
        let Some(bule) = self.bul.sessions.get(&id) else {
            return;
        };
        let outdated = bule.listed.is_some_and(|at| at >= request.sent);
        if outdated || self.dialect(bule.lmaa) != Some(Dialect::Rfc7864) {
            return;
        }
        let mobile = bule.mobile;
        let off_link = pba.hnps.iter().filter(|option| option.off_link);
        let routable = off_link.filter(|option| self.is_routable(mobile, option.prefix));
        let offered: Vec<Hnp> = routable.map(|option| option.prefix).collect();
        // An offer is no order: one that makes no sense is not taken, and the FMI after it refused.
        let flows = flows(&pba.flows, self.config.max_flows_per_session).unwrap_or_default();
        let most = self.config.max_flows_per_session;
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        for hnp in offered {
            if !bule.granted.contains(&hnp) {
                bule.granted.push(hnp);
            }
        }
        for flow in flows {
            if let Some(known) = bule.flows.iter_mut().find(|f| f.fid == flow.fid) {
                *known = flow;
            } else if bule.flows.len() < most {
                bule.flows.push(flow);
            }
        }
    }
}

/// The flows of a list, each with its selector; an error names those that cannot be served.
fn flows(listed: &[FlowIdentification], most: usize) -> Result<Vec<FlowEntry>, Refusal> {
    let mut seen: BTreeSet<Fid> = BTreeSet::new();
    // RFC 6089 §5.3.2: with one number twice, nobody knows which is meant.
    if !listed.iter().all(|flow| seen.insert(flow.fid)) {
        return Err(UpaStatus::UNSPECIFIED.into());
    }
    let mut entries = Vec::new();
    let mut refused = Vec::new();
    for (at, flow) in listed.iter().enumerate() {
        let entry = if at < most {
            entry(flow)
        } else {
            Err(FlowStatus::UNSPECIFIED)
        };
        match entry {
            Ok(entry) => entries.push(entry),
            Err(status) => refused.push(FlowIdentification {
                status,
                ..flow.clone()
            }),
        }
    }
    if refused.is_empty() {
        Ok(entries)
    } else {
        Err(Refusal {
            status: UpaStatus::UNSPECIFIED,
            flows: refused,
        })
    }
}

fn entry(flow: &FlowIdentification) -> Result<FlowEntry, FlowStatus> {
    let option = flow.selector.as_ref().ok_or(FlowStatus::MALFORMED)?;
    let selector = option.readable().map_err(|fault| match fault.kind {
        SelectorFaultKind::UnknownFormat(_) => FlowStatus::SELECTOR_FORMAT,
        SelectorFaultKind::TooShort
        | SelectorFaultKind::TooLong
        | SelectorFaultKind::EndWithoutStart(_)
        | SelectorFaultKind::EmptyRange(_) => FlowStatus::MALFORMED,
    })?;
    // There are no IPv4 bindings for it to be about.
    selector.ipv6().ok_or(FlowStatus::SELECTOR_FORMAT)?;
    Ok(FlowEntry {
        fid: Some(flow.fid),
        selector: selector.clone(),
        off_link: Vec::new(),
        expires: None,
    })
}

/// The answer to a list: on success with its prefixes, otherwise with the flows that are the reason.
fn answer(upn: &Upn, result: &Result<(), Refusal>) -> Upa {
    let (status, hnps, flows) = match result {
        Ok(()) => (UpaStatus::SUCCESS, upn.hnps.clone(), Vec::new()),
        Err(refusal) => (refusal.status, Vec::new(), refusal.flows.clone()),
    };
    Upa {
        sequence: upn.sequence,
        status,
        mn_id: upn.mn_id.clone(),
        hnps,
        flows,
        others: Vec::new(),
    }
}
