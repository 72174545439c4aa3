//! Where a mobile's packets go while the MAG of their access cannot serve them.
//!
//! A flow whose access is not usable is skipped, so its packets take the default path of their prefix
//! (RFC 6089 §5.3.1). If the MAG that hosts the prefix is the one that is gone, there is no such path:
//! then another access of the mobile is granted the whole prefix, as if an operator had moved a flow
//! there that every packet to it matches. The MAG hears of it as of any other flow, and may be sent
//! packets once it has acknowledged.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use flow::{Bid, Fid, FidPriority, Hnp, Interval, Selector, TrafficSelector};
use serde::{Deserialize, Serialize};

use super::Lma;
use super::binding_cache::{Bce, Mobile};
use super::change::{StatedPrefix, Statement};
use crate::event::LmaEvent;
use crate::selector::can_match;

/// A prefix whose MAG cannot serve it, and the session that does instead.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rescue {
    hnp: Hnp,
    bid: Bid,
    /// Number and selector of the flow that the MAG is told of: those of no other flow.
    fid: Fid,
    selector: TrafficSelector,
}

/// Where a flow's packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Course {
    /// Over the flow's own access, or wherever they go until its MAG has acknowledged.
    Own,
    /// The flow's access is not usable: over the default access of their prefix, if there is any.
    Default(Option<Bid>),
}

impl Mobile {
    /// The access that packets to a prefix take if they match no flow.
    pub(crate) fn default_access(&self, hnp: Hnp) -> Option<&Bce> {
        // Shared prefixes: the access of lowest BID-PRI (RFC 6089 §5.1.1).
        let owners = self.active().filter(|s| s.owns(hnp));
        let owner = owners.min_by_key(|s| (s.bid_priority, s.bid));
        owner.or_else(|| {
            let rescue = self.rescues.iter().find(|rescue| rescue.hnp == hnp)?;
            let at = self.active_session(rescue.bid)?;
            let served = at.sync.serves(rescue.fid, &rescue.selector, hnp);
            served.then_some(at)
        })
    }

    /// The access that serves a prefix whose MAG cannot, or is asked to.
    pub(crate) fn rescuer(&self, hnp: Hnp) -> Option<Bid> {
        let rescue = self.rescues.iter().find(|rescue| rescue.hnp == hnp);
        rescue.map(|rescue| rescue.bid)
    }

    /// Whether a flow is one that stands for a whole prefix.
    pub(crate) fn rescues(&self, fid: Fid) -> bool {
        self.rescues.iter().any(|rescue| rescue.fid == fid)
    }

    /// What a session's MAG has to know about prefixes that it serves instead of others.
    pub(crate) fn rescued_by(&self, at: &Bce) -> impl Iterator<Item = (Fid, Statement)> {
        // After all flows, whose priorities count from 1.
        let last = (1..=u16::MAX).rev().filter_map(FidPriority::new);
        let ranked = self.rescues.iter().zip(last);
        let here = ranked.filter(|(rescue, _)| rescue.bid == at.bid);
        here.map(|(rescue, priority)| {
            let hnp = rescue.hnp;
            let stated = StatedPrefix {
                hnp,
                off_link: true,
            };
            let statement = Statement {
                priority,
                selector: rescue.selector.clone(),
                hnps: vec![stated],
            };
            (rescue.fid, statement)
        })
    }

    /// Prefixes of sessions whose MAGs cannot serve them, and that nobody else hosts.
    fn stranded(&self) -> BTreeSet<Hnp> {
        let gone = self.sessions.iter().filter(|s| s.state.is_stranded());
        let hnps = gone.flat_map(|s| s.hnps.iter().copied());
        hnps.filter(|hnp| !self.active().any(|s| s.owns(*hnp)))
            .collect()
    }

    /// Chooses who serves stranded prefixes, among the sessions that can be told to.
    fn choose_rescuers(&mut self, can_signal: impl Fn(&Bce) -> bool) {
        let stranded = self.stranded();
        if stranded.is_empty() && self.rescues.is_empty() {
            return;
        }
        let mut rescues = std::mem::take(&mut self.rescues);
        rescues.retain(|rescue| {
            let clash = |f: &super::FmcEntry| f.fid == rescue.fid || f.selector == rescue.selector;
            stranded.contains(&rescue.hnp)
                && self.active_session(rescue.bid).is_some_and(&can_signal)
                && !self.flows.iter().any(clash)
        });
        for hnp in stranded {
            if rescues.iter().any(|rescue| rescue.hnp == hnp) {
                continue;
            }
            let able = self.active().filter(|s| can_signal(s));
            let best = able.min_by_key(|s| (s.bid_priority, s.bid)).map(|s| s.bid);
            let taken: BTreeSet<Fid> = rescues.iter().map(|rescue| rescue.fid).collect();
            if let (Some(bid), Some(fid), Some(selector)) =
                (best, self.spare_fid(&taken), self.whole(hnp))
            {
                rescues.push(Rescue {
                    hnp,
                    bid,
                    fid,
                    selector,
                });
            }
        }
        rescues.shrink_to_fit();
        self.rescues = rescues;
    }

    /// The highest number that no flow has, here or at a MAG: operators' numbers grow from the lowest.
    fn spare_fid(&self, taken: &BTreeSet<Fid>) -> Option<Fid> {
        let free = |fid: &Fid| {
            let known = self.sessions.iter().any(|s| s.sync.stated(*fid).is_some());
            !taken.contains(fid) && !known && self.flow(*fid).is_none()
        };
        (1..=u16::MAX).rev().filter_map(Fid::new).find(free)
    }

    /// A selector that all packets to a prefix match and no other flow has: a MAG of the draft tells
    /// flows apart by their selectors.
    fn whole(&self, hnp: Hnp) -> Option<TrafficSelector> {
        let plain = Selector {
            destination: Interval::new(hnp.addr(), hnp.last()),
            ..Selector::<Ipv6Addr>::default()
        };
        let spelt_out = Selector {
            next_header: Interval::new(0, u8::MAX),
            ..plain
        };
        let either = [plain, spelt_out].map(TrafficSelector::from);
        let free = |selector: &TrafficSelector| self.flows.iter().all(|f| f.selector != *selector);
        either.into_iter().find(free)
    }

    /// Notes where each flow's packets go now, and returns what has changed for flows whose access
    /// comes or goes.
    fn update_courses(&mut self) -> Vec<LmaEvent> {
        if self.flows.is_empty() {
            return Vec::new();
        }
        let hnps = self.hnps();
        let course = |flow: &super::FmcEntry| {
            if self.active_session(flow.bid).is_some() {
                return Course::Own;
            }
            let matching = hnps.iter().filter(|hnp| can_match(&flow.selector, **hnp));
            let mut defaults = matching.filter_map(|hnp| self.default_access(*hnp));
            Course::Default(defaults.next().map(|s| s.bid))
        };
        let courses: Vec<Course> = self.flows.iter().map(course).collect();
        drop(hnps);
        let mut events = Vec::new();
        for (flow, course) in self.flows.iter_mut().zip(courses) {
            if std::mem::replace(&mut flow.course, course) == course {
                continue;
            }
            let (mn_id, fid, bid) = (self.mn_id.clone(), flow.fid, flow.bid);
            events.push(match course {
                Course::Own => LmaEvent::FlowReturned { mn_id, fid, bid },
                Course::Default(to) => LmaEvent::FlowFellBack {
                    mn_id,
                    fid,
                    bid,
                    to,
                },
            });
        }
        events
    }
}

impl Lma {
    /// Finds other accesses for prefixes whose MAGs cannot serve them.
    pub(super) fn rescue(&self, mobile: &mut Mobile) {
        mobile.choose_rescuers(|session| self.can_signal(session));
    }

    /// Says which flows left their accesses, or are back.
    pub(super) fn report_courses(&mut self, mobile: &mut Mobile) {
        for event in mobile.update_courses() {
            self.outbox.event(event);
        }
    }
}
