//! An LMA that another one may need: it hears what that one writes down, and its workers know the same bindings.
//!
//! It decides nothing and says nothing. When it has to lead, [`LmaFollower::lead`] makes an LMA of what was written down, and
//! the workers are only told what that changes.

use std::collections::BTreeMap;

use flow::{Hnp, MobileId};

use super::Lma;
use super::records::{Laid, LmaRecord};
use super::tables::Tunnels;
use crate::command::Command;
use crate::config::LmaConfig;
use crate::event::LmaEvent;
use crate::outbox::Outbox;
use crate::record::{Restored, Spoilt};
use crate::table::Installed;
use crate::time::Now;

/// What an LMA has written down so far, and the tables that follow from it.
///
/// After [`LmaFollower::take`], fetch [`LmaFollower::poll_command`] until it is empty: table updates only.
#[derive(Debug)]
pub struct LmaFollower {
    /// The last record of each key, as it came.
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    tunnels: Tunnels,
    installed: BTreeMap<MobileId, Installed>,
    /// Whose binding of a prefix is in force.
    owners: BTreeMap<Hnp, MobileId>,
    outbox: Outbox<LmaEvent>,
}

impl LmaFollower {
    /// A follower that has heard nothing, of an LMA with this configuration.
    pub fn new(config: &LmaConfig) -> Self {
        let tunnels = config.peers.iter().map(|p| (p.proxy_coa, p.tunnel));
        Self {
            records: BTreeMap::new(),
            tunnels: Tunnels::new(tunnels.collect()),
            installed: BTreeMap::new(),
            owners: BTreeMap::new(),
            outbox: Outbox::default(),
        }
    }

    /// Takes in a record, or that there is none of this key any more.
    ///
    /// # Errors
    /// Why the workers cannot be told of it. It is kept all the same: [`LmaFollower::lead`] says what comes of it.
    pub fn take(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), Spoilt> {
        let mobile = LmaRecord::mobile_of(&key);
        let told = match (mobile, &value) {
            (Some(id), Some(value)) => self.tell(id, &key, value),
            (Some(id), None) => {
                if let Some(mut installed) = self.installed.remove(&id) {
                    for hnp in installed.hnps() {
                        self.owners.remove(&hnp);
                    }
                    self.tunnels.withdraw(&mut installed, &mut self.outbox);
                }
                Ok(())
            }
            (None, _) => Ok(()),
        };
        match value {
            Some(value) => self.records.insert(key, value),
            None => self.records.remove(&key),
        };
        told
    }

    /// Takes other options of tunnels; all else matters only to an LMA that decides.
    pub fn reconfigure(&mut self, config: &LmaConfig) {
        self.tunnels.reconfigure(&config.peers, &mut self.outbox);
    }

    /// The keys of all records that there are.
    pub fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.records.keys()
    }

    /// The next command.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.outbox.poll_command()
    }

    /// Mobiles with bindings that the workers know.
    pub fn mobiles(&self) -> usize {
        self.installed.len()
    }

    /// An LMA that goes on from here, as after [`Lma::restore`], but for bindings that are in force already.
    pub fn lead(self, config: LmaConfig, seed: u64, now: Now) -> (Lma, Restored) {
        let Self {
            records,
            tunnels,
            installed,
            owners: _,
            outbox,
        } = self;
        let laid = Laid {
            tunnels: Some(tunnels),
            installed,
            outbox,
        };
        let records = records
            .iter()
            .map(|(key, value)| LmaRecord::read(key, value));
        Lma::restore_onto(laid, config, seed, now, records)
    }

    /// Tells the workers of a mobile.
    fn tell(&mut self, id: MobileId, key: &[u8], value: &[u8]) -> Result<(), Spoilt> {
        let Some(mut mobile) = LmaRecord::read(key, value)?.into_mobile() else {
            return Ok(());
        };
        // Records of a group come in any order: who had a prefix before may be heard of later. Then it must not be taken from
        // who has it now.
        for hnp in mobile.hnps().iter().copied() {
            if let Some(former) = self.owners.insert(hnp, id).filter(|former| *former != id)
                && let Some(installed) = self.installed.get_mut(&former)
            {
                self.tunnels.forget(installed, hnp);
            }
        }
        let before = self.installed.remove(&id).unwrap_or_default();
        let gone = before.hnps().filter(|hnp| !mobile.hnps().contains(hnp));
        for hnp in gone {
            self.owners.remove(&hnp);
        }
        mobile.installed = before;
        self.tunnels.update(&mut mobile, &mut self.outbox);
        self.installed.insert(id, mobile.installed);
        Ok(())
    }
}
