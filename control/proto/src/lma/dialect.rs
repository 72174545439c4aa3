//! Flow mobility messages as each kind of MAG understands them.

use flow::MnId;
use pmip_wire::{FlowLifetime, Fma, FmaStatus, Fmi, HnpOption, Message};

use super::binding_cache::Bce;
use super::sync::{Change, Outcome};
use crate::config::Dialect;

/// Whether a MAG of this dialect can be told about flows.
pub(crate) fn can_signal(dialect: Dialect) -> bool {
    match dialect {
        Dialect::Draft => true,
        Dialect::Rfc7864 => false,
    }
}

/// The draft's FMI for one change of one session.
///
/// With `several`, the mobile has more sessions at this MAG, and the message says which is meant.
pub(crate) fn draft_fmi(
    mn_id: &MnId,
    session: &Bce,
    several: bool,
    change: &Change,
    sequence: u16,
    lifetime: u16,
) -> Message {
    let statement = change.statement();
    let prefixes = statement.hnps.iter().map(|stated| HnpOption {
        prefix: stated.hnp,
        off_link: stated.off_link,
    });
    let (cancel, refresh, lifetime) = match change {
        Change::Add(..) => (false, false, lifetime),
        Change::Refresh(..) => (false, true, lifetime),
        Change::Delete(..) => (true, false, 0),
    };
    Message::Fmi(Fmi {
        sequence,
        cancel,
        refresh,
        lifetime: FlowLifetime::from_seconds(lifetime),
        mn_id: Some(mn_id.clone().into()),
        hnps: prefixes.collect(),
        access: several.then_some(session.access),
        ll_id: session.ll_id.clone().filter(|_| several),
        selectors: vec![statement.selector.clone().into()],
        others: Vec::new(),
    })
}

/// What an answer to [`draft_fmi`] says; `None` if it is that the sequence number is out of the MAG's
/// window, which is about the pair of peers and not about the flow.
pub(crate) fn draft_outcome(change: &Change, asked: u16, fma: &Fma) -> Option<Outcome> {
    let status = fma.status.0;
    Some(match fma.status {
        FmaStatus::NOT_ATTACHED => Outcome::NotAttached(status),
        FmaStatus::UNKNOWN_FLOW => Outcome::UnknownFlow(status),
        FmaStatus::SEQUENCE_OUT_OF_WINDOW => return None,
        _ if !fma.status.is_success() => Outcome::Refused(status),
        _ => match change {
            Change::Delete(..) => Outcome::Accepted(None),
            // A lifetime of nothing means that the MAG did not keep it.
            Change::Add(..) | Change::Refresh(..) if fma.lifetime.is_zero() => {
                Outcome::UnknownFlow(status)
            }
            Change::Add(..) | Change::Refresh(..) => {
                let granted = fma.lifetime.seconds().min(asked);
                Outcome::Accepted(FlowLifetime::from_seconds(granted).duration())
            }
        },
    })
}
