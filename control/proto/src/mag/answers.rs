//! Answers to FMIs of either dialect: each is carried out once, and its copies are answered as it was.

use std::time::Duration;

use flow::{Hnp, Lmaa, MobileId};
use pmip_wire::{HnpOption, Message};

use super::bul::{Answered, Bule};
use super::{LINGER, Mag};
use crate::config::Dialect;
use crate::event::MagEvent;
use crate::time::is_newer;

/// What the number of an FMI says.
pub(super) enum Seen {
    /// Nothing like it came before.
    New,
    /// It is a copy of one that was answered so.
    Copy(Box<Message>),
    /// A later one came before it: to carry it out now would undo that one.
    Overtaken,
}

impl Mag {
    /// Whether an FMI for a mobile came before. An LMA never has two on their way for one mobile and
    /// MAG, so older numbers are those of late copies, or of an LMA that began anew: that is for the
    /// time since the last one to tell. A copy is one that was answered by a message of `answer_type`; the
    /// number of another dialect's message tells nothing new.
    pub(super) fn seen(
        &self,
        now: Duration,
        mobile: MobileId,
        from: Lmaa,
        sequence: u16,
        answer_type: u8,
    ) -> Seen {
        let entry = self.bul.mobiles.get(&mobile);
        let last = entry.and_then(|entry| entry.last_fmi.as_ref());
        match last.filter(|last| last.lmaa == from) {
            Some(last) if last.sequence == sequence && last.answer.mh_type() == answer_type => {
                Seen::Copy(Box::new(last.answer.clone()))
            }
            Some(last) if !is_newer(sequence, last.sequence) && now < last.at + LINGER => {
                Seen::Overtaken
            }
            Some(_) | None => Seen::New,
        }
    }

    /// Answers an FMI that was new, and remembers the answer for its copies.
    pub(super) fn conclude(
        &mut self,
        mobile: MobileId,
        last: Answered,
        (status, success): (u8, bool),
    ) {
        self.count_fmi(success);
        let (lmaa, wanted, answer) = (last.lmaa, last.wanted, last.answer.clone());
        if let Some(entry) = self.bul.mobiles.get_mut(&mobile) {
            entry.last_fmi = Some(last);
            let ids = entry.sessions.iter();
            let sessions = ids.filter_map(|id| self.bul.sessions.get(id));
            self.outbox.event(MagEvent::FlowMobility {
                mn_id: entry.mn_id.clone(),
                status,
                off_link: sessions.flat_map(Bule::off_link).collect(),
            });
        }
        if wanted {
            self.send(lmaa, answer);
        }
    }

    /// Refuses an FMI that is not worth remembering.
    pub(super) fn refuse(&mut self, to: Lmaa, answer: Message) {
        self.count_fmi(false);
        self.send(to, answer);
    }

    /// Answers a copy.
    pub(super) fn repeat_answer(&mut self, to: Lmaa, answer: Message) {
        self.counters.fmi_copies += 1;
        self.send(to, answer);
    }

    pub(super) fn count_fmi(&mut self, success: bool) {
        if success {
            self.counters.fmis_accepted += 1;
        } else {
            self.counters.fmis_refused += 1;
        }
    }

    pub(super) fn send(&mut self, to: Lmaa, message: Message) {
        self.outbox.send(self.config.proxy_coa.0, to.0, message);
    }

    /// How an LMA signals flow mobility.
    pub(super) fn dialect(&self, lmaa: Lmaa) -> Option<Dialect> {
        let peer = self.config.lmas.iter().find(|peer| peer.lmaa == lmaa);
        peer.map(|peer| peer.dialect)
    }

    /// Whether a prefix that an LMA names can be what it says: an on-link one has to be the mobile's
    /// here, an off-link one must not meet those of another mobile.
    pub(super) fn is_plausible(&self, mobile: MobileId, option: &HnpOption) -> bool {
        let hnp = option.prefix;
        if option.off_link {
            self.is_routable(mobile, hnp)
        } else {
            self.own_prefixes(mobile).contains(&hnp)
        }
    }

    /// Whether an off-link prefix can be routed to the mobile.
    pub(super) fn is_routable(&self, mobile: MobileId, hnp: Hnp) -> bool {
        // A short prefix would capture more than a mobile's addresses.
        hnp.len() >= 16
            && !hnp.addr().is_multicast()
            && !hnp.addr().is_unicast_link_local()
            && !hnp.addr().is_unspecified()
            && self.routes.conflict(hnp, mobile).is_none()
    }
}
