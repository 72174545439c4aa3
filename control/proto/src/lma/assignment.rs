//! A pool of LMAs that share the load by runtime assignment (RFC 6463).
//!
//! The LMA that a MAG asks about a mobile ("rfLMA") keeps the mobile if it has a session of it, whatever else: all
//! sessions of a mobile belong to one LMA (§6). Otherwise, and if the MAG's PBU has Redirect-Capability, it asks the other
//! members of its pool ("r2LMA") in the MAG's place, as §5.3.2 has it ("proxy-MAG"): the session has begun there when
//! the MAG hears of it, in a PBA with status 0 and Redirect, and a MAG needs nothing but RFC 6463.
//!
//! ```text
//!   MAG         A, asked first          B                 C, first in the mobile's order
//!    |-- PBU, 46 -->|-- PBU', 46 ------->|                 |    1. Have you got it?
//!    |              |<-- PBA', 153 ------|                 |
//!    |              |-- PBU', 46 ------------------------->|
//!    |              |<-- PBA', 153 ------------------------|
//!    |              |-- PBU' ----------------------------->|    2. Nobody has: take it.
//!    |              |<-- PBA', 0 --------------------------|
//!    |<- PBA, 0, 47 |                                      |
//!    |<=================== tunnel, later PBUs ============>|
//! ```
//!
//! 1. Each member is asked whether it has the mobile, by a PBU' with Redirect-Capability (§4.1): who has it registers
//!    the session, who has not says 153, without prefixes. So a mobile stays with its LMA, although that one drains now, or drained when the
//!    mobile came, or the pool was another one then.
//! 2. If none has, the members are asked to take it, by a PBU' without the option, in the order that
//!    [`crate::rendezvous`] gives the mobile. Who drains or has no room says 130, which leads to the next (§5.3.2), and
//!    of oneself one knows it: no member has to be told who drains.
//!
//! Nothing is repeated here: the MAG repeats its PBU, and each copy begins from the start, with what is known then. A member
//! that does not answer heartbeats is passed over in both steps; one that loses a message is not, since it may have
//! begun the session. A PBU with an Alternate Care-of Address has been passed on before, or is treated as if it were: it
//! is not passed on again, so no disagreement between members about who they are makes a loop.
//!
//! Two first accesses of a mobile may be under way at once. Both lead to the same member, unless that one turns the first
//! away and takes the second: so who has turned a mobile away does so for a moment longer, and who goes on from records
//! and was draining turns all away for as long, as it does not know whom it has.
//!
//! What this cannot know: members that believe each other dead while MAGs reach both may give one mobile two LMAs, and so
//! may a MAG that cannot be redirected and is served where it asks.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{Lmaa, MnId, ProxyCoa};
use pmip_wire::{BindingStatus, MnIdOption, Pba, Pbu, Redirect};
use serde::{Deserialize, Serialize};

use super::Lma;
use super::answers::echo;
use super::pbu::{Arrival, Stop, Turn};
use crate::rendezvous;
use crate::time::Now;

/// Most PBUs that members are asked about at once.
const MOST: usize = 1 << 16;

/// How long an answer is waited for: longer than a MAG waits before it repeats itself (MAX_BINDACK_TIMEOUT, RFC 6275 §12).
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a mobile is turned away once it was, although there is room again: longer than an access takes that began
/// before.
const TURNED_AWAY: Duration = Duration::from_secs(5);

/// How often questions without answer are looked for when there are too many.
const SWEEP: Duration = Duration::from_secs(1);

/// The PBUs that other members are asked about: the "proxy state" of RFC 6463 §5.3.2.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Inquiries {
    by_name: BTreeMap<MnId, Vec<Inquiry>>,
    count: usize,
    next_sweep: Duration,
    /// Mobiles that were turned away, and until when they are.
    turned_away: BTreeMap<MnId, Duration>,
    /// Until when all are that a former self may have turned away.
    all_turned_away: Duration,
}

/// A PBU, and whom it is still to be shown to.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Inquiry {
    mn_id: MnId,
    arrival: Arrival,
    begun: Duration,
    /// Who is to answer, and what was asked.
    asked: Step,
    next: VecDeque<Step>,
}

/// What is done about a mobile that nobody is known to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Step {
    /// A member is asked whether it has it.
    Ask(Lmaa),
    /// A member is asked to take it.
    Assign(Lmaa),
    /// It is served here.
    Here,
}

/// Where an inquiry leads.
enum Outcome {
    /// Another member answers.
    Asked,
    /// The mobile's place is here, if there is room.
    Here(Inquiry),
    /// There is none.
    Nowhere(Arrival, Stop),
}

impl Inquiries {
    fn is_about(inquiry: &Inquiry, arrival: &Arrival) -> bool {
        let (one, other) = (&inquiry.arrival, arrival);
        one.from == other.from
            && one.pbu.access == other.pbu.access
            && one.pbu.ll_id == other.pbu.ll_id
    }

    /// Takes away what was asked about this interface.
    fn drop_former(&mut self, mn_id: &MnId, arrival: &Arrival) {
        self.take(mn_id, |inquiry| Self::is_about(inquiry, arrival));
    }

    fn take(&mut self, mn_id: &MnId, wanted: impl Fn(&Inquiry) -> bool) -> Option<Inquiry> {
        let inquiries = self.by_name.get_mut(mn_id)?;
        let at = inquiries.iter().position(wanted)?;
        let inquiry = inquiries.remove(at);
        if inquiries.is_empty() {
            self.by_name.remove(mn_id);
        }
        self.count -= 1;
        Some(inquiry)
    }

    fn turn_away(&mut self, now: Duration, mn_id: &MnId) {
        if self.turned_away.len() >= MOST {
            self.turned_away.retain(|_, until| *until > now);
        }
        if self.turned_away.len() < MOST {
            self.turned_away.insert(mn_id.clone(), now + TURNED_AWAY);
        }
    }

    fn turns_away(&self, now: Duration, mn_id: &MnId) -> bool {
        let until = self.turned_away.get(mn_id);
        until.is_some_and(|until| *until > now) || self.all_turned_away > now
    }

    /// Whether one more can be waited for.
    fn has_room(&mut self, now: Duration) -> bool {
        if self.count >= MOST && self.next_sweep <= now {
            self.next_sweep = now + SWEEP;
            self.by_name.retain(|_, inquiries| {
                inquiries.retain(|inquiry| inquiry.begun + PATIENCE > now);
                !inquiries.is_empty()
            });
            self.count = self.by_name.values().map(Vec::len).sum();
        }
        self.count < MOST
    }

    /// Waits for an answer.
    fn wait(&mut self, inquiry: Inquiry) {
        self.count += 1;
        let mn_id = inquiry.mn_id.clone();
        self.by_name.entry(mn_id).or_default().push(inquiry);
    }
}

impl Lma {
    /// Takes no mobiles from now on, or does again. Who has a session here is served on, its further accesses included.
    /// Returns how many sessions there are.
    pub fn set_draining(&mut self, on: bool) -> usize {
        if self.is_draining() != on {
            self.draining.insert((), on);
        }
        self.sessions()
    }

    /// Whether no new mobiles are taken.
    pub fn is_draining(&self) -> bool {
        self.draining.get(&()).is_some_and(|on| *on)
    }

    /// Sessions there are.
    pub fn sessions(&self) -> usize {
        self.bound.values().sum()
    }

    /// Goes on where a former self was, which may have been turning mobiles away.
    pub(super) fn go_on_turning_away(&mut self, now: Duration) {
        if self.is_draining() && self.others().next().is_some() {
            self.inquiries.all_turned_away = now + TURNED_AWAY;
        }
    }

    /// Whether this is the address of another LMA of the pool.
    fn is_member(&self, address: Ipv6Addr) -> bool {
        self.others().any(|member| member.0 == address)
    }

    fn others(&self) -> impl Iterator<Item = Lmaa> {
        let all = self.config.pool.iter().copied();
        all.filter(|member| !self.config.lmaas.contains(member))
    }

    /// Whether a member shows us a MAG's PBU; one that is a MAG as well has PBUs of its own.
    fn is_proxied(&self, arrival: &Arrival) -> bool {
        arrival.proxy_coa != ProxyCoa(arrival.from) && self.is_member(arrival.from)
    }

    /// Whose a session is that this PBU begins: a member asks in a MAG's place.
    pub(super) fn registrar(&self, arrival: &Arrival) -> ProxyCoa {
        if self.is_proxied(arrival) {
            arrival.proxy_coa
        } else {
            ProxyCoa(arrival.from)
        }
    }

    /// Members are asked whether they are alive as long as there is a pool: it is their life that counts, not that of
    /// bindings with them.
    pub(super) fn wake_members(&mut self, now: Duration) {
        let Some(local) = self.config.lmaas.first().map(|lmaa| lmaa.0) else {
            return;
        };
        let others: Vec<Lmaa> = self.others().collect();
        for member in others {
            self.heartbeats.wake(now, member.0, local);
        }
    }

    /// A new mobile that a member asked to take met a full table.
    pub(super) fn note_full(&mut self, now: Duration, arrival: &Arrival) {
        let mn_id = arrival.pbu.mn_id.as_ref().and_then(MnIdOption::nai);
        let Some(mn_id) = mn_id.filter(|mn_id| self.is_proxied(arrival) && !self.has(mn_id)) else {
            return;
        };
        // Being turned away is no reason to be.
        if !self.inquiries.turns_away(now, mn_id) {
            self.inquiries.turn_away(now, mn_id);
        }
    }

    /// Whether a mobile has a session here.
    pub(super) fn has(&self, mn_id: &MnId) -> bool {
        let mobile = self.cache.find(mn_id);
        mobile.is_some_and(|mobile| !mobile.sessions.is_empty())
    }

    /// A member asks whether the mobile is here, and it is not.
    pub(super) fn decline(&self, arrival: &Arrival, mn_id: &MnId) -> Result<(), Stop> {
        let asked = arrival.pbu.redirect_capability && self.is_proxied(arrival);
        if asked && !self.has(mn_id) {
            return Err(Stop::Elsewhere);
        }
        Ok(())
    }

    /// Says so.
    pub(super) fn answer_elsewhere(&mut self, arrival: &Arrival) {
        self.counters.pool_questions += 1;
        let pba = Pba {
            status: BindingStatus::NOT_LMA_FOR_THIS_MOBILE_NODE,
            // A refusal has some (RFC 5213 §5.3.6).
            hnps: Vec::new(),
            ..echo(&arrival.pbu)
        };
        self.outbox.send(arrival.to, arrival.from, pba.into());
    }

    /// Whether a session that is not here may begin here, or end here for all that is known.
    pub(super) fn place(
        &mut self,
        now: Now,
        arrival: &Arrival,
        mn_id: &MnId,
        turn: Turn,
    ) -> Result<(), Stop> {
        if turn == Turn::Placed || self.has(mn_id) {
            return Ok(());
        }
        let pbu = &arrival.pbu;
        let others: Vec<Lmaa> = self.others().collect();
        if pbu.redirect_capability && !others.is_empty() {
            if arrival.proxy_coa == ProxyCoa(arrival.from) {
                return self.inquire(now, arrival, mn_id, &others);
            }
            self.counters.passed_on_before += 1;
        }
        if !pbu.lifetime.is_zero() && self.turns_away(now, mn_id) {
            return Err(BindingStatus::INSUFFICIENT_RESOURCES.into());
        }
        Ok(())
    }

    fn inquire(
        &mut self,
        now: Now,
        arrival: &Arrival,
        mn_id: &MnId,
        others: &[Lmaa],
    ) -> Result<(), Stop> {
        // A copy begins anew.
        self.inquiries.drop_former(mn_id, arrival);
        let mut members = others.to_vec();
        members.push(Lmaa(arrival.to));
        let order = rendezvous::order(mn_id, &members);
        let ask = order.iter().filter(|member| others.contains(member));
        let mut steps: VecDeque<Step> = ask.map(|member| Step::Ask(*member)).collect();
        // Who is gone is not to be placed.
        if !arrival.pbu.lifetime.is_zero() {
            let own = Lmaa(arrival.to);
            steps.extend(order.into_iter().map(|member| {
                if member == own {
                    Step::Here
                } else {
                    Step::Assign(member)
                }
            }));
        }
        let inquiry = Inquiry {
            mn_id: mn_id.clone(),
            arrival: arrival.clone(),
            begun: now.monotonic,
            asked: Step::Here,
            next: steps,
        };
        self.follow(now, inquiry);
        Err(Stop::Asked)
    }

    /// Takes an inquiry as far as it goes without an answer.
    fn follow(&mut self, now: Now, inquiry: Inquiry) {
        match self.go_on(now, inquiry) {
            Outcome::Asked => {}
            Outcome::Here(inquiry) => match self.register(now, &inquiry.arrival, Turn::Placed) {
                Err(Stop::Refuse(BindingStatus::INSUFFICIENT_RESOURCES))
                    if !self.has(&inquiry.mn_id) =>
                {
                    self.inquiries.turn_away(now.monotonic, &inquiry.mn_id);
                    self.follow(now, inquiry);
                }
                Err(stop) => self.stopped(now, inquiry.arrival, stop),
                Ok(()) => {}
            },
            Outcome::Nowhere(arrival, stop) => self.stopped(now, arrival, stop),
        }
    }

    /// Whether a new mobile is not taken.
    fn turns_away(&mut self, now: Now, mn_id: &MnId) -> bool {
        if self.is_draining() {
            self.inquiries.turn_away(now.monotonic, mn_id);
        } else if !self.inquiries.turns_away(now.monotonic, mn_id) {
            return false;
        }
        self.counters.draining += 1;
        true
    }

    /// Takes the next step of an inquiry.
    fn go_on(&mut self, now: Now, mut inquiry: Inquiry) -> Outcome {
        // It may have been assigned meanwhile, as another of its MAGs asked elsewhere: then it is here, whoever has room.
        if self.has(&inquiry.mn_id) {
            return Outcome::Here(inquiry);
        }
        while let Some(step) = inquiry.next.pop_front() {
            let member = match step {
                Step::Ask(member) | Step::Assign(member) => member,
                Step::Here if self.turns_away(now, &inquiry.mn_id) => continue,
                Step::Here => return Outcome::Here(inquiry),
            };
            if self.heartbeats.is_down(member.0) {
                self.counters.members_passed_over += 1;
                continue;
            }
            if !self.inquiries.has_room(now.monotonic) {
                break;
            }
            let pbu = proxied(&inquiry.arrival, step);
            self.outbox.send(inquiry.arrival.to, member.0, pbu.into());
            inquiry.asked = step;
            self.inquiries.wait(inquiry);
            return Outcome::Asked;
        }
        let stop = if inquiry.arrival.pbu.lifetime.is_zero() {
            Stop::Ignore
        } else {
            BindingStatus::INSUFFICIENT_RESOURCES.into()
        };
        Outcome::Nowhere(inquiry.arrival, stop)
    }

    /// A member's answer to a PBU that it was shown.
    pub(super) fn handle_pba(&mut self, now: Now, from: Ipv6Addr, pba: &Pba) {
        if !self.is_member(from) {
            self.counters.unexpected += 1;
            return;
        }
        let mn_id = pba.mn_id.as_ref().and_then(MnIdOption::nai);
        let answered = |inquiry: &Inquiry| {
            let pbu = &inquiry.arrival.pbu;
            // What says that a mobile is elsewhere answers a question, and a late copy of it no order.
            let asked = match inquiry.asked {
                Step::Assign(_) if is_elsewhere(pba) => None,
                Step::Ask(member) | Step::Assign(member) => Some(member),
                Step::Here => None,
            };
            // This status comes with the number that the member has (RFC 6275 §11.7.3).
            let numbered =
                pba.status == BindingStatus::SEQUENCE_OUT_OF_WINDOW || pba.sequence == pbu.sequence;
            asked == Some(Lmaa(from))
                && numbered
                && pba.ll_id == pbu.ll_id
                && pba.access == pbu.access
                && pba.handoff == pbu.handoff
                && (pba.timestamp == pbu.timestamp || !repeats_time(pba))
        };
        let found = mn_id.and_then(|mn_id| self.inquiries.take(mn_id, answered));
        let Some(inquiry) = found else {
            self.counters.stray_pool_answers += 1;
            return;
        };
        let goes_on = match inquiry.asked {
            Step::Ask(_) => is_elsewhere(pba),
            Step::Assign(_) => pba.status == BindingStatus::INSUFFICIENT_RESOURCES,
            Step::Here => false,
        };
        if !goes_on {
            self.pass_back(&inquiry.arrival, Lmaa(from), pba);
            return;
        }
        self.follow(now, inquiry);
    }

    /// The MAG's answer is the member's, from the address that the MAG asked, and says where the session is (RFC 6463
    /// §5.3.2).
    fn pass_back(&mut self, arrival: &Arrival, member: Lmaa, pba: &Pba) {
        let accepted = pba.status.is_accepted();
        let begun = accepted && !pba.lifetime.is_zero();
        self.counters.redirected += u64::from(begun);
        if let Some(peer) = self.peers.get_mut(&ProxyCoa(arrival.from)) {
            peer.counters.accepted += u64::from(accepted);
            peer.counters.refused += u64::from(!accepted);
        }
        let pba = Pba {
            redirect: begun.then_some(Redirect(member.0.into())),
            ..pba.clone()
        };
        self.answer(arrival, pba);
    }
}

/// Whether a member says that a mobile is not there. No refusal is without prefixes (RFC 5213 §5.3.6).
fn is_elsewhere(pba: &Pba) -> bool {
    pba.status == BindingStatus::NOT_LMA_FOR_THIS_MOBILE_NODE && pba.hnps.is_empty()
}

/// Whether an answer has the timestamp of what it answers, and not that of the member (RFC 5213 §5.3.6): two MAGs may have
/// used one number for one interface.
fn repeats_time(pba: &Pba) -> bool {
    pba.status.is_accepted() || is_elsewhere(pba)
}

/// What a member is shown of a PBU: all of it, and whose it is (RFC 6463 §5.3.2).
fn proxied(arrival: &Arrival, step: Step) -> Pbu {
    Pbu {
        alt_coa: Some(arrival.proxy_coa),
        redirect_capability: matches!(step, Step::Ask(_)),
        ..arrival.pbu.clone()
    }
}
