//! Questions about what the workers know, and what they would be told if something were otherwise.

use flow::{Bid, Binding, Hnp, MnId, MobileId, ProxyCoa, TableUpdate};

use super::Lma;
use super::binding_cache::BceState;
use crate::command::Command;
use crate::outbox::Outbox;

/// What would follow if an access were lost: see [`Lma::if_lost`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WhatIf {
    /// What the workers would be told about the prefix.
    pub binding: Binding,
    /// Paths that they would be told of for that.
    pub paths: Vec<TableUpdate>,
    /// The MAG that would be asked to serve the whole prefix instead, by FMI.
    pub rescuer: Option<ProxyCoa>,
}

impl Lma {
    /// The number of a mobile in the workers' tables.
    pub fn mobile_id(&self, mn_id: &MnId) -> Option<MobileId> {
        self.cache.id_of(mn_id)
    }

    /// The mobile of that number.
    pub fn mobile_name(&self, id: MobileId) -> Option<&MnId> {
        self.cache.get(id).map(|mobile| &mobile.mn_id)
    }

    /// What the workers were told about a prefix, if it is a mobile's.
    pub fn installed(&self, hnp: Hnp) -> Option<(&MnId, Binding)> {
        let mobile = self.cache.get(self.cache.owner(hnp)?)?;
        Some((&mobile.mn_id, mobile.installed.get(hnp)?))
    }

    /// What the workers would be told about a prefix as soon as one of its mobile's accesses is not
    /// reachable any more, before any MAG is told anything, and paths of that which are not in use yet. Then,
    /// who would be asked to serve the prefix instead, if that is needed. `None` if there is no such prefix
    /// or access.
    pub fn if_lost(&self, hnp: Hnp, bid: Bid) -> Option<WhatIf> {
        let mut mobile = self.cache.get(self.cache.owner(hnp)?)?.clone();
        let proxy_coa = mobile.session(bid)?.proxy_coa;
        // It is the MAG that does not answer, for all sessions with it.
        for session in &mut mobile.sessions {
            if session.proxy_coa == proxy_coa && session.is_active() {
                session.state = BceState::Unreachable;
            }
        }
        let (mut tunnels, mut outbox) = (self.tunnels.clone(), Outbox::default());
        let binding = tunnels.binding(&mobile, hnp, &mut outbox);
        self.rescue(&mut mobile);
        let mut paths = Vec::new();
        while let Some(command) = outbox.poll_command() {
            if let Command::Table(update) = command {
                paths.push(update);
            }
        }
        let rescuer = mobile.rescuer(hnp);
        let rescuer = rescuer.and_then(|bid| mobile.session(bid));
        Some(WhatIf {
            binding,
            paths,
            rescuer: rescuer.map(|session| session.proxy_coa),
        })
    }
}
