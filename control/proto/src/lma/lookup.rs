//! Which session a PBU is about (RFC 5213 §5.4.1, amended by RFC 7864 §3.2.1).

use std::collections::BTreeSet;

use flow::{AccessTechnology, Bid, HandoffIndicator, Hnp, MnLinkLayerId, ProxyCoa};
use pmip_wire::BindingStatus;
use serde::{Deserialize, Serialize};

use super::binding_cache::{Bce, BceState, Mobile};

/// What of a PBU identifies its session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Non-zero prefixes.
    pub(crate) hnps: BTreeSet<Hnp>,
    pub(crate) ll_id: Option<MnLinkLayerId>,
    pub(crate) access: AccessTechnology,
    pub(crate) handoff: HandoffIndicator,
    pub(crate) proxy_coa: ProxyCoa,
}

impl Request {
    /// Whether it is from the MAG of a session, and about the same interface for all that is known.
    pub(crate) fn is_from(&self, session: &Bce) -> bool {
        self.ll_id.is_some()
            && (self.proxy_coa, self.access, &self.ll_id)
                == (session.proxy_coa, session.access, &session.ll_id)
    }
}

/// The rules that an LMA's policy decides.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Policy {
    /// Sessions of the mobile may share prefixes without HI = 6.
    pub(crate) sharing: bool,
    /// With HI = 4, another session's de-registration is waited for (RFC 5213 §5.4.1.2).
    pub(crate) wait: bool,
}

/// The session of a PBU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Lookup {
    /// An existing one.
    Update(Bid),
    /// A new one with prefixes of its own.
    New,
    /// A new one with prefixes of an existing one: all, or some by policy.
    Share(Bid),
    /// An existing one if it is deregistered soon, otherwise a new one.
    Wait,
    /// None: the PBU is refused.
    Refuse(BindingStatus),
}

/// Finds the session among those of the mobile that the PBU names. That no other mobile owns the
/// prefixes (155) has been checked.
pub(crate) fn lookup(mobile: &Mobile, request: &Request, policy: Policy) -> Lookup {
    if request.hnps.is_empty() {
        match &request.ll_id {
            Some(_) => by_link_layer_id(mobile, request, policy),
            None => by_mobile(mobile, request, policy),
        }
    } else {
        by_prefix(mobile, request, policy)
    }
}

/// RFC 5213 §5.4.1.1: some prefix is not ALL_ZERO.
fn by_prefix(mobile: &Mobile, request: &Request, policy: Policy) -> Lookup {
    let owns_any = |s: &&Bce| s.hnps.iter().any(|hnp| request.hnps.contains(hnp));
    let owners: Vec<&Bce> = mobile.sessions.iter().filter(owns_any).collect();
    if owners.is_empty() {
        return Lookup::New;
    }
    // Only the sessions' own prefixes are compared: a MAG never repeats the off-link ones.
    let same_set = |s: &&&Bce| s.hnps.iter().copied().collect::<BTreeSet<_>>() == request.hnps;
    let matching: Vec<&Bce> = owners.iter().filter(same_set).copied().collect();
    let Some(first) = matching.first() else {
        return Lookup::Refuse(BindingStatus::BCE_PBU_PREFIX_SET_DO_NOT_MATCH);
    };
    let same_access = |s: &&&Bce| s.access == request.access;
    let same_interface = |s: &&&Bce| same_access(s) && s.ll_id == request.ll_id;

    // The same interface, whatever the handoff indicator says.
    if request.ll_id.is_some()
        && let Some(bce) = matching.iter().find(same_interface)
    {
        return Lookup::Update(bce.bid);
    }
    // RFC 7864 §3.2.1: a new interface that shares the prefixes.
    if request.handoff == HandoffIndicator::SHARING_PREFIXES {
        return Lookup::Share(first.bid);
    }
    // The same MAG and access technology.
    let same_mag = |s: &&&Bce| s.proxy_coa == request.proxy_coa && same_access(s);
    if let Some(bce) = matching.iter().find(same_mag) {
        return Lookup::Update(bce.bid);
    }
    // The same interface at another MAG, neither of which told its link-layer identifier.
    if request.ll_id.is_none()
        && request.handoff == HandoffIndicator::BETWEEN_MAGS
        && let Some(bce) = matching.iter().find(same_interface)
    {
        return Lookup::Update(bce.bid);
    }
    // Another interface takes the session over. With shared prefixes it is not said from which one:
    // the session that was refreshed the longest ago is the one most likely left.
    if request.handoff == HandoffIndicator::BETWEEN_INTERFACES {
        let elsewhere = matching.iter().filter(|s| s.proxy_coa != request.proxy_coa);
        let left = elsewhere.min_by_key(|s| s.updated).unwrap_or(first);
        return Lookup::Update(left.bid);
    }
    if policy.sharing {
        Lookup::Share(first.bid)
    } else {
        // A prefix must not be taken from a session that lives.
        Lookup::Refuse(BindingStatus::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX)
    }
}

/// RFC 5213 §5.4.1.2: all prefixes are ALL_ZERO, and there is a link-layer identifier.
fn by_link_layer_id(mobile: &Mobile, request: &Request, policy: Policy) -> Lookup {
    let same = |s: &&Bce| s.access == request.access && s.ll_id == request.ll_id;
    match mobile.sessions.iter().find(same) {
        Some(bce) => Lookup::Update(bce.bid),
        None => by_handoff(
            mobile,
            request,
            policy,
            &[HandoffIndicator::BETWEEN_INTERFACES],
        ),
    }
}

/// RFC 5213 §5.4.1.3: all prefixes are ALL_ZERO, and there is no link-layer identifier.
fn by_mobile(mobile: &Mobile, request: &Request, policy: Policy) -> Lookup {
    let handoffs = [
        HandoffIndicator::BETWEEN_INTERFACES,
        HandoffIndicator::BETWEEN_MAGS,
    ];
    by_handoff(mobile, request, policy, &handoffs)
}

/// What is left to go by is the number of sessions and the handoff indicator.
fn by_handoff(
    mobile: &Mobile,
    request: &Request,
    policy: Policy,
    handoffs: &[HandoffIndicator],
) -> Lookup {
    if let [only] = mobile.sessions.as_slice() {
        if handoffs.contains(&request.handoff) {
            return Lookup::Update(only.bid);
        }
        if request.handoff == HandoffIndicator::UNKNOWN {
            match only.state {
                // The mobile has left that access, or nobody can be there to say so.
                BceState::Deregistering | BceState::Unreachable | BceState::Lost => {
                    return Lookup::Update(only.bid);
                }
                BceState::Active if policy.wait => return Lookup::Wait,
                BceState::Active | BceState::Revoking => {}
            }
        }
    }
    // RFC 7864 §3.2.1 asks for HI = 6 with the prefixes to share, and a MAG that does not know
    // them can only mean those of the mobile's first session.
    let shares = policy.sharing || request.handoff == HandoffIndicator::SHARING_PREFIXES;
    match mobile.active().next() {
        Some(first) if shares => Lookup::Share(first.bid),
        Some(_) | None => Lookup::New,
    }
}

#[cfg(test)]
mod tests;
