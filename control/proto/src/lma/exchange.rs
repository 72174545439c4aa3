//! Signalling of flow mobility: one FMI at a time for each mobile and MAG, until it is answered
//! or given up (draft-bernardos-netext-pmipv6-flowmob; timing as in RFC 6705 §12).

use std::time::Duration;

use flow::{Bid, MobileId, ProxyCoa};
use pmip_wire::Fma;

use super::binding_cache::{Bce, Mobile};
use super::sync::{Change, Outcome};
use super::{Lma, Timer, dialect};
use crate::event::LmaEvent;

/// Jumps of the sequence number before a MAG's complaints about it are believed to mean no.
const MAX_JUMPS: u8 = 3;

impl Lma {
    /// Whether a session's MAG takes flow mobility messages.
    pub(super) fn can_signal(&self, session: &Bce) -> bool {
        let peer = self.peers.get(&session.proxy_coa);
        peer.is_some_and(|peer| dialect::can_signal(peer.dialect) && !peer.refuses)
    }

    /// Sends what is due to the MAGs of a mobile, and sets the timers of its sessions.
    pub(super) fn signal(&mut self, now: Duration, mobile: &mut Mobile) {
        let bids: Vec<Bid> = mobile.sessions.iter().map(|s| s.bid).collect();
        for bid in bids {
            self.begin_exchange(now, mobile, bid);
            self.set_session_timers(now, mobile, bid);
        }
    }

    fn begin_exchange(&mut self, now: Duration, mobile: &mut Mobile, bid: Bid) {
        let Some(session) = mobile.active_session(bid).filter(|s| self.can_signal(s)) else {
            return;
        };
        let mut there = mobile
            .sessions
            .iter()
            .filter(|s| s.proxy_coa == session.proxy_coa);
        if there.any(Bce::is_signalling) {
            return;
        }
        let wanted = mobile.wanted(session, self.config.signal_hosted);
        let Some(change) = session.sync.next(&wanted, now) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&session.proxy_coa) else {
            return;
        };
        let Some(sequence) = peer.begin((mobile.id, bid), self.config.fmi_window) else {
            return;
        };
        peer.counters.fmis += 1;
        let adds = matches!(change, Change::Add(..));
        let fid = change.fid();
        if let Some(session) = mobile.session_mut(bid) {
            session.sync.begin(change, sequence, now);
        }
        if let Some(moving) = mobile.flow_mut(fid).and_then(|f| f.moving.as_mut())
            && adds
            && moving.to == bid
        {
            moving.initiated.get_or_insert(now);
        }
        self.send_fmi(now, mobile, bid);
    }

    /// Sends a copy of a session's outstanding FMI.
    fn send_fmi(&mut self, now: Duration, mobile: &Mobile, bid: Bid) {
        let Some(session) = mobile.session(bid) else {
            return;
        };
        let Some(outstanding) = session.sync.outstanding() else {
            return;
        };
        let there = |s: &&Bce| s.proxy_coa == session.proxy_coa;
        let several = mobile.sessions.iter().filter(there).count() > 1;
        let message = dialect::draft_fmi(
            &mobile.mn_id,
            session,
            several,
            &outstanding.change,
            outstanding.sequence,
            self.config.flow_lifetime,
        );
        self.outbox
            .send(session.lmaa.0, session.proxy_coa.0, message);
        if let Some(peer) = self.peers.get_mut(&session.proxy_coa) {
            peer.signalled = now;
        }
        let deadline = now + self.config.fmi_interval;
        self.timers.set((mobile.id, Timer::Fmi(bid)), deadline);
    }

    fn set_session_timers(&mut self, now: Duration, mobile: &Mobile, bid: Bid) {
        let Some(session) = mobile.session(bid) else {
            return;
        };
        let key = (mobile.id, Timer::FlowState(bid));
        match session.sync.deadline(now) {
            Some(deadline) => self.timers.set(key, deadline),
            None => self.timers.cancel(key),
        }
        let key = (mobile.id, Timer::Resync(bid));
        if !session.sync.wants_retry() {
            self.timers.cancel(key);
        } else if self.timers.deadline(key).is_none() {
            self.timers.set(key, now + self.config.resync_interval);
        }
    }

    pub(super) fn handle_fmi_timeout(&mut self, now: Duration, id: MobileId, bid: Bid) {
        let retries = self.config.fmi_retries;
        self.with_mobile(id, |lma, mobile| {
            let Some(session) = mobile.session_mut(bid) else {
                return;
            };
            let proxy_coa = session.proxy_coa;
            let Some(outstanding) = session.sync.outstanding_mut() else {
                return;
            };
            if outstanding.copies <= retries {
                outstanding.copies += 1;
                if let Some(peer) = lma.peers.get_mut(&proxy_coa) {
                    peer.counters.fmi_copies += 1;
                }
                lma.send_fmi(now, mobile, bid);
            } else {
                if let Some(peer) = lma.peers.get_mut(&proxy_coa) {
                    peer.counters.unanswered += 1;
                }
                lma.end_exchange(now, mobile, bid, Outcome::NoAnswer);
            }
        });
    }

    pub(super) fn handle_fma(&mut self, now: Duration, from: ProxyCoa, fma: &Fma) {
        let Some(peer) = self.peers.get_mut(&from) else {
            self.counters.unknown_peer += 1;
            return;
        };
        // A late answer is discarded: the next exchange repairs what it was about.
        let owner = peer.owner(fma.sequence);
        let named = fma.mn_id.as_ref().and_then(|mn_id| mn_id.nai());
        let mobile = owner.and_then(|(id, _)| self.cache.get(id));
        let (Some((id, bid)), Some(mobile)) = (owner, mobile) else {
            peer.counters.stray_fmas += 1;
            return;
        };
        if named.is_some_and(|named| *named != mobile.mn_id) {
            peer.counters.stray_fmas += 1;
            return;
        }
        peer.counters.fmas += 1;
        let asked = self.config.flow_lifetime;
        self.with_mobile(id, |lma, mobile| {
            let session = mobile.session_mut(bid);
            let Some(outstanding) = session.and_then(|s| s.sync.outstanding_mut()) else {
                return;
            };
            match dialect::draft_outcome(&outstanding.change, asked, fma) {
                Some(outcome) => lma.end_exchange(now, mobile, bid, outcome),
                None if outstanding.jumps < MAX_JUMPS => lma.renumber(now, mobile, bid),
                None => lma.end_exchange(now, mobile, bid, Outcome::Refused(fma.status.0)),
            }
        });
    }

    /// Repeats an FMI under a number that the MAG may find new.
    fn renumber(&mut self, now: Duration, mobile: &mut Mobile, bid: Bid) {
        let owner = (mobile.id, bid);
        let window = self.config.fmi_window;
        let Some(session) = mobile.session_mut(bid) else {
            return;
        };
        let peer = self.peers.get_mut(&session.proxy_coa);
        if let (Some(outstanding), Some(peer)) = (session.sync.outstanding_mut(), peer) {
            peer.end(outstanding.sequence);
            peer.jump();
            if let Some(sequence) = peer.begin(owner, window) {
                outstanding.sequence = sequence;
                outstanding.jumps += 1;
                outstanding.copies = 1;
            }
        }
        self.send_fmi(now, mobile, bid);
    }

    /// A MAG does not know FMIs: it gets no more of them until an operator says so (RFC 7077 §5.2).
    pub(super) fn handle_unrecognized(&mut self, now: Duration, from: ProxyCoa) {
        let Some(peer) = self.peers.get_mut(&from) else {
            self.counters.unknown_peer += 1;
            return;
        };
        let owners = peer.owners();
        if owners.is_empty() {
            self.counters.unexpected += 1;
            return;
        }
        peer.refuses = true;
        self.outbox
            .event(LmaEvent::SignallingRefused { proxy_coa: from });
        for (id, bid) in owners {
            self.with_mobile(id, |lma, mobile| {
                lma.end_exchange(now, mobile, bid, Outcome::NotUnderstood);
            });
        }
    }

    /// Draws the conclusions from the end of an exchange.
    fn end_exchange(&mut self, now: Duration, mobile: &mut Mobile, bid: Bid, outcome: Outcome) {
        self.timers.cancel((mobile.id, Timer::Fmi(bid)));
        let Some(session) = mobile.session_mut(bid) else {
            return;
        };
        let proxy_coa = session.proxy_coa;
        let Some(done) = session.sync.complete(outcome) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&proxy_coa) {
            peer.end(done.sequence);
            self.freed.insert(proxy_coa);
        }
        let fid = done.change.fid();
        match (&done.change, outcome.failure()) {
            (Change::Add(..) | Change::Refresh(..), None) => {}
            (Change::Add(..) | Change::Refresh(..), Some(reason)) => {
                let moving = mobile.flow(fid).and_then(|f| f.moving);
                if moving.is_some_and(|m| m.to == bid) {
                    self.cancel_move(now, mobile, fid, reason);
                } else if mobile.flow(fid).is_some_and(|f| f.bid == bid) || mobile.rescues(fid) {
                    if let Some(session) = mobile.session_mut(bid) {
                        session.sync.give_up(fid);
                    }
                    let mn_id = mobile.mn_id.clone();
                    self.outbox.event(LmaEvent::FlowNotInstalled {
                        mn_id,
                        fid,
                        bid,
                        reason,
                    });
                }
            }
            (Change::Delete(..), _) => self.outbox.event(LmaEvent::FlowReleased {
                mn_id: mobile.mn_id.clone(),
                fid,
                bid,
                acknowledged: matches!(
                    outcome,
                    Outcome::Accepted(_) | Outcome::UnknownFlow(_) | Outcome::NotAttached(_)
                ),
            }),
        }
        self.settle(now, mobile);
        if matches!(outcome, Outcome::NotAttached(_)) {
            self.handle_denial(now, mobile, bid);
        }
    }

    /// Lets mobiles signal that waited for others' exchanges to end.
    pub(super) fn use_windows(&mut self, now: Duration) {
        let window = self.config.fmi_window;
        while let Some(proxy_coa) = self.freed.pop_first() {
            while let Some(peer) = self.peers.get_mut(&proxy_coa)
                && let Some(id) = peer.pop_waiting(window)
            {
                self.with_mobile(id, |lma, mobile| lma.signal(now, mobile));
            }
        }
    }

    /// What a session's MAG knew about flows is gone, and its answers mean nothing any more.
    pub(super) fn forget_signalling(&mut self, mobile: &mut Mobile, bid: Bid) {
        for timer in [Timer::Fmi(bid), Timer::FlowState(bid), Timer::Resync(bid)] {
            self.timers.cancel((mobile.id, timer));
        }
        if let Some(session) = mobile.session_mut(bid)
            && let Some(outstanding) = session.sync.reset()
            && let Some(peer) = self.peers.get_mut(&session.proxy_coa)
        {
            peer.end(outstanding.sequence);
            self.freed.insert(session.proxy_coa);
        }
    }
}
