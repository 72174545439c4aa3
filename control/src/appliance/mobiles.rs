//! The MAG's table of mobiles: who a station on an access port is.

use std::collections::BTreeMap;

use flow::{MacAddr, MnId, PortId};
use pmip_proto::Attachment;

/// A mobile as the configuration has it.
#[derive(Clone, Debug)]
pub(crate) struct Mobile {
    /// What is registered when it attaches.
    pub(crate) attachment: Attachment,
    /// Whether it attaches by being heard of; otherwise by command alone.
    pub(crate) automatic: bool,
}

/// All mobiles that may attach here.
#[derive(Debug, Default)]
pub(crate) struct MobileTable {
    mobiles: BTreeMap<(PortId, MacAddr), Mobile>,
    unknown: u64,
}

impl MobileTable {
    /// Takes the mobiles of the configuration.
    pub(crate) fn new(mobiles: impl IntoIterator<Item = Mobile>) -> Self {
        let mut table = Self::default();
        table.replace(mobiles);
        table
    }

    /// Takes others in their place. Those that are attached stay so until they leave.
    pub(crate) fn replace(&mut self, mobiles: impl IntoIterator<Item = Mobile>) {
        let key = |mobile: &Mobile| (mobile.attachment.port, mobile.attachment.mac);
        let mobiles = mobiles.into_iter();
        self.mobiles = mobiles.map(|mobile| (key(&mobile), mobile)).collect();
    }

    /// The attachment of a station that was heard of; `None` if it is no mobile of ours, or
    /// waits for a command.
    pub(crate) fn automatic(&self, port: PortId, mac: MacAddr) -> Option<Attachment> {
        let mobile = self
            .mobiles
            .get(&(port, mac))
            .filter(|mobile| mobile.automatic)?;
        Some(mobile.attachment.clone())
    }

    /// Every place where a mobile may attach, in the order of ports.
    pub(crate) fn of(&self, mn_id: &MnId) -> Vec<&Attachment> {
        let all = self.mobiles.values().map(|mobile| &mobile.attachment);
        all.filter(|attachment| attachment.mn_id == *mn_id)
            .collect()
    }

    /// Counts a station that is no mobile of ours.
    pub(crate) fn count_unknown(&mut self) {
        self.unknown += 1;
    }

    /// How often such a station was heard of.
    pub(crate) fn unknown(&self) -> u64 {
        self.unknown
    }
}
