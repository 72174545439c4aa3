//! Signalling of flow mobility: one FMI at a time for each mobile and MAG, until it is answered
//! or given up (draft-bernardos-netext-pmipv6-flowmob with the timing of RFC 6705 §12; RFC 7864 with
//! that of RFC 7077 §7).

use std::collections::BTreeSet;
use std::time::Duration;

use flow::{Bid, Fid, MnId, MobileId, ProxyCoa};
use pmip_wire::{Fma, FmaStatus, MnIdOption, Upa};

use super::binding_cache::{Bce, Mobile};
use super::change::{Change, Outcome, Request, Statements};
use super::dialect::{self, Answer, Notice};
use super::sync::{LINGER, Recent};
use super::{Lma, Timer};
use crate::config::{Dialect, Retransmission};
use crate::event::{LmaEvent, MoveFailure};

/// Jumps of the sequence number before a MAG's complaints about it are believed to mean no.
const MAX_JUMPS: u8 = 3;

impl Lma {
    /// Whether a session's MAG takes flow mobility messages.
    pub(super) fn can_signal(&self, session: &Bce) -> bool {
        let peer = self.peers.get(&session.proxy_coa);
        peer.is_some_and(|peer| !peer.refuses)
    }

    /// When and how often an FMI to a MAG is repeated.
    fn retransmission(&self, to: ProxyCoa) -> Retransmission {
        match self.peers.get(&to).map(|peer| peer.dialect) {
            Some(Dialect::Rfc7864) => self.config.upn,
            Some(Dialect::Draft) | None => self.config.fmi,
        }
    }

    /// Sends what is due to the MAGs of a mobile, and sets the timers of its sessions.
    pub(super) fn signal(&mut self, now: Duration, mobile: &mut Mobile) {
        // Their number does not change.
        for place in 0..mobile.sessions.len() {
            let Some(bid) = mobile.sessions.get(place).map(|session| session.bid) else {
                break;
            };
            self.begin_exchange(now, mobile, bid);
            self.set_session_timers(now, mobile, bid);
        }
    }

    /// Likewise for a mobile whose timers are as they were when the last of this was said.
    pub(super) fn signal_on(&mut self, now: Duration, mobile: &mut Mobile) {
        let said = self.outbox.said();
        for place in 0..mobile.sessions.len() {
            if let Some(bid) = mobile.sessions.get(place).map(|session| session.bid) {
                self.begin_exchange(now, mobile, bid);
            }
        }
        if self.outbox.said() != said {
            self.signal(now, mobile);
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
        let dialect = self.peers.get(&session.proxy_coa).map(|peer| peer.dialect);
        let request = dialect.and_then(|dialect| session.sync.next(dialect, &wanted, now));
        let Some(request) = request else {
            return;
        };
        // Who is asked for to be changed is written down: only where there is something to say.
        let Some(peer) = self.peers.get_mut(&session.proxy_coa) else {
            return;
        };
        let Some(sequence) = peer.begin((mobile.id, bid), self.config.fmi_window) else {
            return;
        };
        peer.counters.fmis += 1;
        let key = (session.proxy_coa, mobile.mn_id.clone());
        for change in request.changes() {
            if let Change::Add(fid, _) = change
                && let Some(moving) = mobile.flow_mut(*fid).and_then(|f| f.moving.as_mut())
                && moving.to == bid
            {
                moving.initiated.get_or_insert(now);
            }
        }
        if let Some(recent) = Recent::of(&request) {
            self.recent.note(now, key, now + LINGER, recent);
        }
        let session = mobile.session_mut(bid);
        if session.is_some_and(|session| session.sync.begin(request, sequence, now)) {
            self.switch(now, mobile);
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
        let notice = Notice {
            mn_id: &mobile.mn_id,
            session,
            outstanding,
            lifetime: self.config.flow_lifetime,
        };
        self.outbox
            .send(session.lmaa.0, session.proxy_coa.0, notice.message());
        if let Some(peer) = self.peers.get_mut(&session.proxy_coa) {
            peer.signalled = now;
        }
        let deadline = now + self.retransmission(session.proxy_coa).interval;
        self.timers.set((mobile.id, Timer::Fmi(bid)), deadline);
    }

    /// The flows that a PBA to a session's MAG carries: all of them, where the MAG's dialect knows
    /// lists. They are as good as an FMI that may be lost, so the FMI is sent nevertheless.
    pub(super) fn offer(&mut self, now: Duration, mobile: &mut Mobile, bid: Bid) -> Statements {
        let Some(session) = mobile.active_session(bid).filter(|s| self.can_signal(s)) else {
            return Statements::new();
        };
        let peer = self.peers.get(&session.proxy_coa);
        match peer.map(|peer| peer.dialect) {
            Some(Dialect::Rfc7864) => {
                let wanted = mobile.wanted(session, self.config.signal_hosted);
                let statements = session.sync.list(&wanted);
                if let Some(session) = mobile.session_mut(bid) {
                    session.sync.offer(&statements, now);
                }
                statements
            }
            Some(Dialect::Draft) | None => Statements::new(),
        }
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
        self.with_mobile(id, |lma, mobile| {
            let Some(session) = mobile.session_mut(bid) else {
                return;
            };
            let proxy_coa = session.proxy_coa;
            let retries = lma.retransmission(proxy_coa).retries;
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
                lma.end_exchange(now, mobile, bid, &Outcome::NoAnswer.into());
            }
        });
    }

    pub(super) fn handle_fma(&mut self, now: Duration, from: ProxyCoa, fma: &Fma) {
        let asked = self.config.flow_lifetime;
        let named = fma.mn_id.as_ref().and_then(MnIdOption::nai);
        self.handle_answer(now, from, fma.sequence, named, |request| match request {
            Request::Change(_) => Some(dialect::by_fma(request, asked, fma)),
            Request::List { .. } => None,
        });
    }

    pub(super) fn handle_upa(&mut self, now: Duration, from: ProxyCoa, upa: &Upa) {
        let named = upa.mn_id.as_ref().and_then(MnIdOption::nai);
        self.handle_answer(now, from, upa.sequence, named, |request| match request {
            Request::Change(_) => None,
            Request::List { .. } => Some(Some(dialect::by_upa(upa))),
        });
    }

    /// Ends the exchange that an answer belongs to. `judge` says what it means for the request: `None`
    /// if it is no answer to it, `Some(None)` if the MAG found its number out of its window.
    fn handle_answer(
        &mut self,
        now: Duration,
        from: ProxyCoa,
        sequence: u16,
        named: Option<&MnId>,
        judge: impl FnOnce(&Request) -> Option<Option<Answer>>,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            self.counters.unknown_peer += 1;
            return;
        };
        // A late answer is discarded: the next exchange repairs what it was about.
        let owner = peer.owner(sequence);
        let mobile = owner.and_then(|(id, _)| self.cache.get(id));
        let mobile = mobile.filter(|mobile| named.is_none_or(|named| *named == mobile.mn_id));
        let outstanding = owner
            .and_then(|(_, bid)| mobile?.session(bid))
            .and_then(|session| session.sync.outstanding());
        let judged = outstanding.and_then(|o| Some((judge(&o.request)?, o.jumps)));
        let (Some((id, bid)), Some((answer, jumps))) = (owner, judged) else {
            peer.counters.stray_fmas += 1;
            return;
        };
        peer.counters.fmas += 1;
        self.with_mobile(id, |lma, mobile| match answer {
            Some(answer) => lma.end_exchange(now, mobile, bid, &answer),
            None if jumps < MAX_JUMPS => lma.renumber(now, mobile, bid),
            None => {
                let status = FmaStatus::SEQUENCE_OUT_OF_WINDOW.0;
                lma.end_exchange(now, mobile, bid, &Outcome::Refused(status).into());
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
                lma.end_exchange(now, mobile, bid, &Outcome::NotUnderstood.into());
            });
        }
    }

    /// Draws the conclusions from the end of an exchange.
    fn end_exchange(&mut self, now: Duration, mobile: &mut Mobile, bid: Bid, answer: &Answer) {
        self.timers.cancel((mobile.id, Timer::Fmi(bid)));
        let Some(session) = mobile.session_mut(bid) else {
            return;
        };
        let proxy_coa = session.proxy_coa;
        let Some(done) = session.sync.complete(answer.outcome, now) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&proxy_coa) {
            peer.end(done.sequence);
            self.freed.insert(proxy_coa);
        }
        let failure = answer.outcome.failure();
        let failed = failed(done.request.changes(), &answer.blamed);
        for change in done.request.changes() {
            match (change, failure) {
                (Change::Add(..) | Change::Refresh(..), None) => {}
                (Change::Add(fid, _) | Change::Refresh(fid, _), Some(reason)) => {
                    if failed.contains(fid) {
                        self.not_added(now, mobile, bid, *fid, reason);
                    }
                }
                (Change::Delete(fid, _), _) => self.outbox.event(LmaEvent::FlowReleased {
                    mn_id: mobile.mn_id.clone(),
                    fid: *fid,
                    bid,
                    acknowledged: matches!(
                        answer.outcome,
                        Outcome::Accepted(_) | Outcome::UnknownFlow(_) | Outcome::NotAttached(_)
                    ),
                }),
            }
        }
        self.settle(now, mobile);
        if matches!(answer.outcome, Outcome::NotAttached(_)) {
            self.handle_denial(now, mobile, bid);
        }
    }

    /// A flow stays where it was, or waits for a better time.
    fn not_added(
        &mut self,
        now: Duration,
        mobile: &mut Mobile,
        bid: Bid,
        fid: Fid,
        reason: MoveFailure,
    ) {
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

    /// A session begins, or begins anew, at a MAG that copies of earlier messages may still be on their way
    /// to. A session that its MAG cannot tell from another takes nothing away from that.
    pub(super) fn expect_late_copies(&mut self, now: Duration, mobile: &mut Mobile, bid: Bid) {
        let Some(session) = mobile.session(bid) else {
            return;
        };
        let key = (session.proxy_coa, mobile.mn_id.clone());
        if mobile.sessions.iter().any(|other| session.is_twin(other)) {
            return;
        }
        let recent = self.recent.get(now, &key);
        if let (Some((until, recent)), Some(session)) = (recent, mobile.session_mut(bid)) {
            session.sync.expect(recent, until);
        }
    }

    /// What a session's MAG knew about flows is gone, and its answers mean nothing any more.
    pub(super) fn forget_signalling(&mut self, now: Duration, mobile: &mut Mobile, bid: Bid) {
        for timer in [Timer::Fmi(bid), Timer::FlowState(bid), Timer::Resync(bid)] {
            self.timers.cancel((mobile.id, timer));
        }
        if let Some(session) = mobile.session_mut(bid)
            && let Some(outstanding) = session.sync.reset(now)
            && let Some(peer) = self.peers.get_mut(&session.proxy_coa)
        {
            peer.end(outstanding.sequence);
            self.freed.insert(session.proxy_coa);
        }
    }
}

/// The flows whose addition failed: those that the MAG blames, so that the others can be stated again
/// without them, or all if it blames none.
fn failed(changes: &[Change], blamed: &BTreeSet<Fid>) -> BTreeSet<Fid> {
    let added = changes.iter().filter_map(|change| match change {
        Change::Add(fid, _) | Change::Refresh(fid, _) => Some(*fid),
        Change::Delete(..) => None,
    });
    let added: BTreeSet<Fid> = added.collect();
    let both: BTreeSet<Fid> = added.intersection(blamed).copied().collect();
    if both.is_empty() { added } else { both }
}
