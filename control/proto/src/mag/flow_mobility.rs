//! Flows that the LMA puts on a session: FMI in, FMA out (draft-bernardos-netext-pmipv6-flowmob).

use std::collections::BTreeSet;
use std::time::Duration;

use flow::{AccessTechnology, Hnp, Lmaa, MnLinkLayerId, MobileId, TrafficSelector};
use pmip_wire::message::mh_type;
use pmip_wire::{FlowLifetime, Fma, FmaStatus, Fmi, HnpOption, MnIdOption, SelectorFaultKind};

use super::answers::Seen;
use super::bul::{Answered, Bule, BuleState, FlowEntry, SessionId};
use super::{Mag, Timer};
use crate::config::Dialect;
use crate::event::MagEvent;
use crate::selector::can_match;

/// Most off-link prefixes of one session: the workers' tables are for all mobiles.
const MAX_OFF_LINK: usize = 64;

impl Mag {
    /// Carries out an FMI whole or not at all, and answers: the routes are in force before the
    /// answer leaves, since the LMA sends packets when it has it.
    pub(super) fn handle_fmi(&mut self, now: Duration, from: Lmaa, fmi: &Fmi) {
        let name = fmi.mn_id.as_ref().and_then(MnIdOption::nai);
        let Some(mobile) = name.and_then(|name| self.bul.mobile_of(name)) else {
            let status = match name {
                Some(_) => FmaStatus::NOT_ATTACHED,
                None => FmaStatus::UNSPECIFIED,
            };
            self.refuse(from, answer(fmi, status, FlowLifetime::ZERO).into());
            return;
        };
        match self.seen(now, mobile, from, fmi.sequence, mh_type::EXPERIMENTAL) {
            Seen::Copy(answer) => self.repeat_answer(from, *answer),
            Seen::Overtaken => {
                let status = FmaStatus::SEQUENCE_OUT_OF_WINDOW;
                self.refuse(from, answer(fmi, status, FlowLifetime::ZERO).into());
            }
            Seen::New => {
                let result = match self.dialect(from) {
                    Some(Dialect::Draft) => self.apply(now, mobile, from, fmi),
                    Some(Dialect::Rfc7864) | None => Err(FmaStatus::UNSPECIFIED),
                };
                let fma = match result {
                    Ok(granted) => answer(fmi, FmaStatus::SUCCESS, granted),
                    Err(status) => answer(fmi, status, FlowLifetime::ZERO),
                };
                let status = (fma.status.0, fma.status.is_success());
                let last = Answered {
                    lmaa: from,
                    sequence: fmi.sequence,
                    at: now,
                    answer: fma.into(),
                    wanted: true,
                };
                self.conclude(mobile, last, status);
            }
        }
    }

    /// Does what an FMI says, or nothing; returns the lifetime granted.
    ///
    /// Whether it adds or deletes is for the lifetime alone to say: the C and R bits can be read in
    /// more than one way.
    fn apply(
        &mut self,
        now: Duration,
        mobile: MobileId,
        from: Lmaa,
        fmi: &Fmi,
    ) -> Result<FlowLifetime, FmaStatus> {
        let sessions = self.addressed(mobile, from, fmi.access, fmi.ll_id.as_ref());
        if sessions.is_empty() {
            return Err(FmaStatus::NOT_ATTACHED);
        }
        let selectors = selectors(fmi)?;
        let granted = if fmi.is_deletion() {
            self.delete(&sessions, &selectors)?;
            FlowLifetime::ZERO
        } else {
            let listed = self.check_prefixes(mobile, fmi)?;
            let flows = self.flows_to_add(mobile, &sessions, &selectors, listed.as_ref())?;
            let seconds = fmi.lifetime.seconds().min(self.config.max_flow_lifetime);
            let granted = FlowLifetime::from_seconds(seconds);
            self.add(now, &flows, granted);
            granted
        };
        self.update_routes(mobile);
        for id in sessions {
            self.set_flow_timer(id);
        }
        Ok(granted)
    }

    /// The sessions that are meant: active, of the LMA that says so (it must not steer another LMA's
    /// mobiles), and of the interface if it is named; without a name, all.
    pub(super) fn addressed(
        &self,
        mobile: MobileId,
        from: Lmaa,
        access: Option<AccessTechnology>,
        ll_id: Option<&MnLinkLayerId>,
    ) -> Vec<SessionId> {
        let named = |bule: &&Bule| {
            access.is_none_or(|access| access == bule.attachment.access)
                && (ll_id.is_none() || ll_id == bule.attachment.ll_id.as_ref())
        };
        let ids = self.bul.sessions_of(mobile);
        let sessions = ids.iter().filter_map(|id| self.bul.sessions.get(id));
        sessions
            .filter(|bule| bule.lmaa == from && bule.state == BuleState::Active)
            .filter(named)
            .map(|bule| bule.id)
            .collect()
    }

    fn delete(
        &mut self,
        sessions: &[SessionId],
        selectors: &[TrafficSelector],
    ) -> Result<(), FmaStatus> {
        let known = |selector: &TrafficSelector| {
            let mut bules = sessions.iter().filter_map(|id| self.bul.sessions.get(id));
            bules.any(|bule| bule.flows.iter().any(|f| f.selector == *selector))
        };
        if !selectors.iter().all(known) {
            return Err(FmaStatus::UNKNOWN_FLOW);
        }
        for id in sessions {
            if let Some(bule) = self.bul.sessions.get_mut(id) {
                bule.flows
                    .retain(|flow| !selectors.contains(&flow.selector));
            }
        }
        Ok(())
    }

    /// The off-link prefixes of an addition, and `None` if it lists no prefixes at all.
    fn check_prefixes(&self, mobile: MobileId, fmi: &Fmi) -> Result<Option<Vec<Hnp>>, FmaStatus> {
        let plausible = |option: &HnpOption| self.is_plausible(mobile, option);
        if !fmi.hnps.iter().all(plausible) {
            return Err(FmaStatus::UNSPECIFIED);
        }
        let off_link = fmi.hnps.iter().filter(|option| option.off_link);
        let off_link = off_link.map(|option| option.prefix).collect();
        Ok((!fmi.hnps.is_empty()).then_some(off_link))
    }

    /// What an addition puts on each session. Without prefixes it refreshes what is there, or is
    /// about those known here that the selector can match.
    fn flows_to_add(
        &self,
        mobile: MobileId,
        sessions: &[SessionId],
        selectors: &[TrafficSelector],
        listed: Option<&Vec<Hnp>>,
    ) -> Result<Vec<(SessionId, TrafficSelector, Vec<Hnp>)>, FmaStatus> {
        let mut flows = Vec::new();
        for id in sessions {
            let Some(bule) = self.bul.sessions.get(id) else {
                continue;
            };
            let mut count = bule.flows.len();
            let mut granted = bule.off_link();
            for selector in selectors {
                let known = bule.flows.iter().find(|f| f.selector == *selector);
                count += usize::from(known.is_none());
                let off_link = match (listed, known) {
                    (Some(listed), _) => listed.clone(),
                    (None, Some(flow)) => flow.off_link.clone(),
                    (None, None) => self.known_prefixes(mobile, selector)?,
                };
                granted.extend(&off_link);
                if count > self.config.max_flows_per_session || granted.len() > MAX_OFF_LINK {
                    return Err(FmaStatus::UNSPECIFIED);
                }
                flows.push((*id, selector.clone(), off_link));
            }
        }
        Ok(flows)
    }

    /// The mobile's own prefixes here.
    pub(super) fn own_prefixes(&self, mobile: MobileId) -> BTreeSet<Hnp> {
        let ids = self.bul.sessions_of(mobile);
        let bules = ids.iter().filter_map(|id| self.bul.sessions.get(id));
        let routed = bules.filter(|bule| bule.is_routed());
        routed.flat_map(|bule| bule.hnps.clone()).collect()
    }

    /// The off-link prefixes routed here that a selector can match; an error if it matches none
    /// of the mobile's prefixes, since then there is nothing to serve.
    fn known_prefixes(
        &self,
        mobile: MobileId,
        selector: &TrafficSelector,
    ) -> Result<Vec<Hnp>, FmaStatus> {
        let own = self.own_prefixes(mobile);
        let entry = self.bul.mobiles.get(&mobile);
        let routed = entry.into_iter().flat_map(|entry| entry.installed.hnps());
        let known: Vec<Hnp> = routed.filter(|hnp| can_match(selector, *hnp)).collect();
        if known.is_empty() {
            return Err(FmaStatus::UNSPECIFIED);
        }
        Ok(known.into_iter().filter(|hnp| !own.contains(hnp)).collect())
    }

    fn add(
        &mut self,
        now: Duration,
        flows: &[(SessionId, TrafficSelector, Vec<Hnp>)],
        lifetime: FlowLifetime,
    ) {
        for (id, selector, off_link) in flows {
            let Some(bule) = self.bul.sessions.get_mut(id) else {
                continue;
            };
            let entry = FlowEntry {
                fid: None,
                selector: selector.clone(),
                off_link: off_link.clone(),
                expires: lifetime.duration().map(|lifetime| now + lifetime),
            };
            match bule.flows.iter_mut().find(|f| f.selector == *selector) {
                Some(flow) => *flow = entry,
                None => bule.flows.push(entry),
            }
        }
    }

    pub(super) fn set_flow_timer(&mut self, id: SessionId) {
        let flows = self.bul.sessions.get(&id).map(|bule| &bule.flows);
        let next = flows.into_iter().flatten().filter_map(|f| f.expires).min();
        match next {
            Some(next) => self.timers.set(Timer::Flows(id), next),
            None => self.timers.cancel(Timer::Flows(id)),
        }
    }

    /// Forgets flows that were not refreshed, and the off-link prefixes that no other flow needs.
    pub(super) fn expire_flows(&mut self, now: Duration, id: SessionId) {
        let Some(bule) = self.bul.sessions.get_mut(&id) else {
            return;
        };
        let before = bule.flows.len();
        bule.flows
            .retain(|flow| flow.expires.is_none_or(|at| at > now));
        let expired = before - bule.flows.len();
        let (mobile, mn_id) = (bule.mobile, bule.attachment.mn_id.clone());
        for _ in 0..expired {
            let mn_id = mn_id.clone();
            self.outbox.event(MagEvent::FlowExpired { mn_id });
        }
        self.update_routes(mobile);
        self.set_flow_timer(id);
    }
}

/// The selectors of an FMI, each once: at least one, all of IPv6 packets.
fn selectors(fmi: &Fmi) -> Result<Vec<TrafficSelector>, FmaStatus> {
    let mut selectors = Vec::new();
    for option in &fmi.selectors {
        let selector = option.readable().map_err(|fault| match fault.kind {
            SelectorFaultKind::UnknownFormat(_) => FmaStatus::SELECTOR_FORMAT,
            SelectorFaultKind::TooShort
            | SelectorFaultKind::TooLong
            | SelectorFaultKind::EndWithoutStart(_)
            | SelectorFaultKind::EmptyRange(_) => FmaStatus::UNSPECIFIED,
        })?;
        // There are no IPv4 bindings for it to be about.
        if selector.ipv6().is_none() {
            return Err(FmaStatus::SELECTOR_FORMAT);
        }
        if !selectors.contains(selector) {
            selectors.push(selector.clone());
        }
    }
    if selectors.is_empty() {
        return Err(FmaStatus::UNSPECIFIED);
    }
    Ok(selectors)
}

/// The answer to an FMI: on success with its prefixes.
fn answer(fmi: &Fmi, status: FmaStatus, lifetime: FlowLifetime) -> Fma {
    let hnps = if status.is_success() {
        fmi.hnps.clone()
    } else {
        Vec::new()
    };
    Fma {
        sequence: fmi.sequence,
        status,
        lifetime,
        mn_id: fmi.mn_id.clone(),
        hnps,
        others: Vec::new(),
    }
}
