//! What operators ask of flows.

use std::collections::BTreeMap;

use flow::{Bid, Binding, Fid, FidPriority, MnId, MobileId};

use super::binding_cache::{Bce, Mobile};
use super::fallback::Course;
use super::flow_mobility::{FlowError, FlowRequest, FmcEntry, MoveStarted, Moving};
use super::{Lma, Timer};
use crate::event::MoveFailure;
use crate::exact;
use crate::time::Now;

impl Lma {
    /// Adds a flow to a mobile. If the MAG has to be told first, the flow's packets take the
    /// default path until it has acknowledged.
    ///
    /// # Errors
    /// [`FlowError`]; then nothing has changed.
    pub fn add_flow(&mut self, now: Now, request: FlowRequest) -> Result<Fid, FlowError> {
        let FlowRequest {
            mn_id,
            fid,
            priority,
            selector,
            bid,
        } = request;
        let (id, mobile) = self.mobile(&mn_id)?;
        selector.validate()?;
        if selector.ipv6().is_none() {
            return Err(FlowError::Ipv4);
        }
        if mobile.flows.len() >= self.config.max_flows_per_mobile.min(Binding::MAX_RULES) {
            return Err(FlowError::TooMany(mn_id));
        }
        if let Some(other) = mobile.flows.iter().find(|f| f.selector == selector) {
            return Err(FlowError::DuplicateSelector(other.fid));
        }
        let fid = match fid {
            Some(fid) if mobile.flow(fid).is_some() => return Err(FlowError::DuplicateFid(fid)),
            Some(fid) => fid,
            None => (1..=u16::MAX)
                .filter_map(Fid::new)
                .find(|fid| mobile.flow(*fid).is_none())
                .ok_or_else(|| FlowError::TooMany(mn_id.clone()))?,
        };
        let last = mobile.flows.last().map_or(0, |f| f.priority.0.get());
        let priority = priority
            .or_else(|| FidPriority::new(last.checked_add(1)?))
            .ok_or_else(|| FlowError::TooMany(mn_id.clone()))?;
        if let Some(other) = mobile.flows.iter().find(|f| f.priority == priority) {
            return Err(FlowError::DuplicatePriority(priority, other.fid));
        }
        let flow = FmcEntry {
            fid,
            priority,
            selector,
            bid,
            moving: None,
            draining: BTreeMap::new(),
            course: Course::Own,
        };
        self.check_access(mobile, &flow, bid)?;
        self.with_mobile(id, |lma, mobile| {
            let at = mobile.flows.partition_point(|f| f.priority < priority);
            exact::insert(&mut mobile.flows, at, flow);
            if let Some(session) = mobile.session_mut(bid) {
                session.sync.try_again(fid);
            }
            lma.settle(now.monotonic, mobile);
        });
        Ok(fid)
    }

    /// Moves a flow to another access: make before break. The flow stays where it is until the
    /// target's MAG has acknowledged; another move meanwhile takes this one's place.
    ///
    /// # Errors
    /// [`FlowError`]; then nothing has changed.
    pub fn move_flow(
        &mut self,
        now: Now,
        mn_id: &MnId,
        fid: Fid,
        to: Bid,
    ) -> Result<MoveStarted, FlowError> {
        let (id, mobile) = self.mobile(mn_id)?;
        let flow = mobile.flow(fid).ok_or_else(|| FlowError::UnknownFlow {
            mn_id: mn_id.clone(),
            fid,
        })?;
        let target = self.check_access(mobile, flow, to)?;
        let current = mobile.session(flow.bid);
        if current.is_some_and(|s| s.bid != to && s.proxy_coa == target.proxy_coa) {
            return Err(FlowError::SameMag(flow.bid, to));
        }
        match flow.moving {
            Some(moving) if moving.to == to => return Ok(MoveStarted::Signalling),
            None if flow.bid == to => return Ok(MoveStarted::AlreadyThere),
            Some(_) | None => {}
        }
        let mut started = MoveStarted::AlreadyThere;
        self.with_mobile(id, |lma, mobile| {
            lma.cancel_move(now.monotonic, mobile, fid, MoveFailure::Superseded);
            if let Some(flow) = mobile.flow_mut(fid)
                && flow.bid != to
            {
                flow.moving = Some(Moving {
                    to,
                    requested: now.monotonic,
                    initiated: None,
                });
                if let Some(session) = mobile.session_mut(to) {
                    session.sync.try_again(fid);
                }
                started = MoveStarted::Signalling;
            }
            lma.settle(now.monotonic, mobile);
            if mobile.flow(fid).is_some_and(|f| f.bid == to) && started == MoveStarted::Signalling {
                started = MoveStarted::Done;
            }
        });
        Ok(started)
    }

    /// Deletes a flow: its packets match the next one or take the default path.
    ///
    /// # Errors
    /// [`FlowError`] if there is no such flow.
    pub fn delete_flow(&mut self, now: Now, mn_id: &MnId, fid: Fid) -> Result<(), FlowError> {
        let (id, mobile) = self.mobile(mn_id)?;
        if mobile.flow(fid).is_none() {
            return Err(FlowError::UnknownFlow {
                mn_id: mn_id.clone(),
                fid,
            });
        }
        self.with_mobile(id, |lma, mobile| {
            lma.cancel_move(now.monotonic, mobile, fid, MoveFailure::Deleted);
            lma.timers.cancel((id, Timer::Drain(fid)));
            mobile.flows.retain(|f| f.fid != fid);
            lma.settle(now.monotonic, mobile);
        });
        Ok(())
    }

    fn mobile(&self, mn_id: &MnId) -> Result<(MobileId, &Mobile), FlowError> {
        let mobile = self.cache.find(mn_id);
        let mobile = mobile.ok_or_else(|| FlowError::UnknownMobile(mn_id.clone()))?;
        Ok((mobile.id, mobile))
    }

    /// Whether a flow can be on an access at all.
    fn check_access<'m>(
        &self,
        mobile: &'m Mobile,
        flow: &FmcEntry,
        bid: Bid,
    ) -> Result<&'m Bce, FlowError> {
        let session = mobile
            .active_session(bid)
            .ok_or_else(|| FlowError::NotAttached {
                mn_id: mobile.mn_id.clone(),
                bid,
            })?;
        if !mobile.is_ready(flow, session, self.config.signal_hosted) && !self.can_signal(session) {
            return Err(FlowError::NoSignalling(bid));
        }
        Ok(session)
    }
}
