//! What a MAG writes down, and a MAG that goes on from there.
//!
//! | record | what |
//! | --- | --- |
//! | session | an attached interface, its registration and flows, and when which timer fires |
//! | mobile | what was last answered to its LMAs |
//! | heartbeat | an LMA's Restart Counter, and when it was last heard |
//! | revocation | the last one of an LMA for all of its sessions |
//! | numbers | the next sequence number |
//!
//! Whether the mobiles are still there, the MAG that goes on finds out as any: by asking them before it refreshes.

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{HandoffIndicator, Lmaa, MobileId};
use pmip_wire::Bra;
use serde::{Deserialize, Serialize};

use super::bul::{Bule, MobileEntry, SessionId};
use super::{Mag, Timer};
use crate::config::MagConfig;
use crate::heartbeat;
use crate::record::{Record, Restored, Spoilt, decode, decode_key};
use crate::time::Now;

/// What a record is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Key {
    Session(SessionId),
    Mobile(MobileId),
    Heartbeat(Ipv6Addr),
    Revocation(Lmaa),
    Numbers,
}

/// Numbers that a MAG which goes on leaves out: those of PBUs whose record never came to disk.
const SKIP: u16 = 1024;

impl Mag {
    /// From now on, [`Mag::poll_record`] tells what has changed.
    pub fn keep_records(&mut self) {
        self.bul.sessions.keep();
        self.bul.mobiles.keep();
        self.heartbeats.keep();
        self.global_revocations.0.keep();
        self.told_sequence = Some(self.next_sequence);
    }

    /// Something that has to be written down after an input, before any command that followed from it is carried out.
    pub fn poll_record(&mut self) -> Option<Record> {
        if let Some(id) = self.bul.sessions.pop_changed() {
            let session = self.bul.sessions.get(&id);
            let image = session.map(|bule| (bule, self.session_timers(id)));
            return Some(Record::new(&Key::Session(id), image.as_ref()));
        }
        if let Some(id) = self.bul.mobiles.pop_changed() {
            let image = self.bul.mobiles.get(&id).map(MobileEntry::image);
            return Some(Record::new(&Key::Mobile(id), image.as_ref()));
        }
        if let Some((address, peer)) = self.heartbeats.pop_changed() {
            return Some(Record::lazy(&Key::Heartbeat(address), peer));
        }
        if let Some(lmaa) = self.global_revocations.0.pop_changed() {
            let last = self.global_revocations.0.get(&lmaa);
            return Some(Record::new(&Key::Revocation(lmaa), last));
        }
        let told = self.told_sequence.as_mut()?;
        (*told != self.next_sequence).then(|| {
            *told = self.next_sequence;
            Record::new(&Key::Numbers, Some(told))
        })
    }

    /// Something of what was known is lost: LMAs are told of another Restart Counter. They take all sessions for lost then,
    /// so those that are left are registered anew.
    pub fn count_restart(&mut self, now: Now, counter: u32) {
        self.heartbeats.count_restart(counter, &mut self.outbox);
        for bule in self.bul.sessions.values_mut() {
            // Not as a refresh, which tells nothing of a session that is lost.
            bule.anew = Some(HandoffIndicator::UNKNOWN);
        }
        let lmas: Vec<Lmaa> = self.config.lmas.iter().map(|peer| peer.lmaa).collect();
        for lmaa in lmas {
            self.register_all(now.monotonic, lmaa);
        }
    }

    fn session_timers(&self, id: SessionId) -> Vec<(Timer, Duration)> {
        let own = [
            Timer::Request(id),
            Timer::Refresh(id),
            Timer::Expiry(id),
            Timer::Retry(id),
            Timer::Probe(id),
            Timer::Advertise(id),
            Timer::Flows(id),
        ];
        let set = |timer| Some((timer, self.timers.deadline(timer)?));
        own.into_iter().filter_map(set).collect()
    }

    /// A MAG that goes on from the last record of each key. What the configuration does not allow any more is over.
    /// Its first commands put all routes in force.
    pub fn restore(
        config: MagConfig,
        seed: u64,
        now: Now,
        records: impl IntoIterator<Item = (impl AsRef<[u8]>, impl AsRef<[u8]>)>,
    ) -> (Self, Restored) {
        let mut mag = Self::new(config, seed);
        let mut restored = Restored::default();
        let mut sessions = Vec::new();
        for (key, value) in records {
            let taken = decode_key(key.as_ref())
                .map_err(|why| ("a key".to_owned(), why))
                .and_then(|key| {
                    let what = format!("{key:?}");
                    mag.take_record(&key, value.as_ref(), &mut sessions, &mut restored)
                        .map_err(|why| (what, why))
                });
            if let Err((what, why)) = taken {
                restored.lose(Spoilt { what, why });
            }
        }
        // Their mobiles are known now.
        for (bule, timers) in sessions {
            let what = format!("{} at {:?}", bule.attachment.mn_id, bule.link());
            match mag.take_session(bule, timers) {
                Ok(()) => restored.sessions += 1,
                Err(why) => restored.spoil(&what, why),
            }
        }
        mag.resume(now.monotonic);
        restored.mobiles = mag.bul.mobiles.len();
        (mag, restored)
    }

    fn take_record(
        &mut self,
        key: &Key,
        value: &[u8],
        sessions: &mut Vec<(Bule, Vec<(Timer, Duration)>)>,
        restored: &mut Restored,
    ) -> Result<(), String> {
        match key {
            Key::Session(_) => sessions.push(decode(value)?),
            Key::Mobile(id) => self.bul.restore_mobile(*id, decode(value)?)?,
            Key::Heartbeat(address) => {
                let former: heartbeat::Peer = decode(value)?;
                if !self.heartbeats.go_on(*address, former) {
                    restored.spoil(address, "there is no such peer any more");
                }
            }
            Key::Revocation(lmaa) => {
                let last: (u16, Bra) = decode(value)?;
                self.global_revocations.0.insert(*lmaa, last);
            }
            Key::Numbers => {
                let next: u16 = decode(value)?;
                self.next_sequence = next.wrapping_add(SKIP);
            }
        }
        Ok(())
    }

    fn take_session(
        &mut self,
        bule: Bule,
        timers: Vec<(Timer, Duration)>,
    ) -> Result<(), &'static str> {
        let lmaa = bule.lmaa;
        if !self.config.lmas.iter().any(|peer| peer.lmaa == lmaa) {
            return Err("its LMA is no peer any more");
        }
        self.bul.restore_session(bule)?;
        for (timer, at) in timers {
            self.timers.set(timer, at);
        }
        Ok(())
    }

    /// Puts routes in force, asks LMAs whether they are there, and forgets mobiles in time.
    fn resume(&mut self, now: Duration) {
        self.bul.number_free();
        let mobiles: Vec<MobileId> = self.bul.mobiles.keys().copied().collect();
        for mobile in mobiles {
            self.update_routes(mobile);
            if self.bul.sessions_of(mobile).is_empty() {
                self.timers.set(Timer::Forget(mobile), now + super::LINGER);
            }
        }
        let lmas: Vec<Ipv6Addr> = self.bul.sessions.values().map(|b| b.lmaa.0).collect();
        for lmaa in lmas {
            self.heartbeats.wake_again(now, lmaa);
        }
    }
}
