//! Proxy Binding Acknowledgements (RFC 5213 §5.3.6).

use flow::{AccessTechnology, Bid, HandoffIndicator, ProxyCoa};
use pmip_wire::{
    BindingLifetime, BindingStatus, HnpOption, MnIdOption, Pba, PbaFlags, Pbu, Timestamp,
};

use super::binding_cache::Mobile;
use super::change::Statements;
use super::pbu::Arrival;
use super::{Lma, dialect};
use crate::event::LmaEvent;
use crate::time::Now;

impl Lma {
    /// The answer to an accepted PBU (RFC 5213 §5.3.6), with the flows that the MAG is to serve as well
    /// (RFC 7864 §3.3).
    pub(super) fn accept(
        &mut self,
        arrival: &Arrival,
        mobile: &Mobile,
        bid: Bid,
        lifetime: BindingLifetime,
        offered: &Statements,
    ) {
        let Some(session) = mobile.session(bid) else {
            return;
        };
        let own = session.hnps.iter().copied().map(HnpOption::on_link);
        let (listed, flows) = dialect::listed(offered);
        let granted = listed.into_iter().filter(|hnp| hnp.off_link);
        let pba = Pba {
            status: BindingStatus::ACCEPTED,
            lifetime,
            hnps: own.chain(granted).collect(),
            flows,
            link_local: arrival.pbu.link_local.map(|_| session.link_local),
            ..echo(&arrival.pbu)
        };
        if let Some(peer) = self.peers.get_mut(&ProxyCoa(arrival.from)) {
            peer.counters.accepted += 1;
        }
        self.answer(arrival, pba);
    }

    /// The answer to a refused PBU.
    pub(super) fn refuse(
        &mut self,
        now: Now,
        arrival: &Arrival,
        status: BindingStatus,
        last: Option<u16>,
    ) {
        let pbu = &arrival.pbu;
        let asked = Some(&pbu.hnps).filter(|hnps| !hnps.is_empty()).cloned();
        let pba = Pba {
            status,
            sequence: last.unwrap_or(pbu.sequence),
            hnps: asked.unwrap_or_else(|| vec![HnpOption::ALL_ZERO]),
            // The LMA's own time, so that the MAG sees how far off it is.
            timestamp: pbu.timestamp.map(|_| Timestamp::from_epoch(now.wall)),
            ..echo(pbu)
        };
        // Strangers are answered at a rate, and so is what is told of them.
        let told = match self.peers.get_mut(&ProxyCoa(arrival.from)) {
            Some(peer) => {
                peer.counters.refused += 1;
                peer.reports.allow(now.monotonic)
            }
            None => true,
        };
        if told {
            self.outbox.event(LmaEvent::PbuRefused {
                from: arrival.from,
                mn_id: pbu.mn_id.as_ref().and_then(MnIdOption::nai).cloned(),
                status: status.0,
            });
        } else {
            self.counters.unreported += 1;
        }
        self.answer(arrival, pba);
    }

    /// Answers go to where the PBU came from, even if another address is the Proxy-CoA.
    pub(super) fn answer(&mut self, arrival: &Arrival, pba: Pba) {
        *self.counters.pbas.entry(pba.status.0).or_default() += 1;
        self.outbox.send(arrival.to, arrival.from, pba.into());
    }
}

/// What every answer repeats.
pub(super) fn echo(pbu: &Pbu) -> Pba {
    Pba {
        flags: PbaFlags::PROXY,
        sequence: pbu.sequence,
        mn_id: Some(pbu.mn_id.clone().unwrap_or(MnIdOption::Empty)),
        handoff: Some(pbu.handoff.unwrap_or(HandoffIndicator(0))),
        access: Some(pbu.access.unwrap_or(AccessTechnology(0))),
        ll_id: pbu.ll_id.clone(),
        link_local: pbu.link_local,
        timestamp: pbu.timestamp,
        ..Pba::default()
    }
}
