//! An LMA that another one may need: it hears records in groups, in any order within each.

use pmip_proto::lma::LmaFollower;
use pmip_proto::{Command, LmaConfig};

use crate::model::Tables;
use crate::world::{Dice, Records};

/// A record as it is heard.
pub(crate) type Heard = (Vec<u8>, Option<Vec<u8>>);

pub(crate) struct Standby {
    pub(crate) follower: LmaFollower,
    pub(crate) tables: Tables,
    dice: Dice,
}

impl Standby {
    /// One that begins with all that is there.
    pub(crate) fn new(seed: u64, config: &LmaConfig, records: &Records) -> Self {
        let mut standby = Self {
            follower: LmaFollower::new(config),
            tables: Tables::default(),
            dice: Dice(seed ^ 0x5eed),
        };
        let records = records.iter();
        standby.hear(records.map(|(key, value)| (key.clone(), Some(value.clone()))));
        standby
    }

    /// Takes in a group.
    pub(crate) fn hear(&mut self, group: impl Iterator<Item = Heard>) {
        let mut group: Vec<Heard> = group.collect();
        while !group.is_empty() {
            let next = self.dice.below(group.len() as u64);
            let (key, value) = group.swap_remove(usize::try_from(next).unwrap());
            self.follower.take(key, value).unwrap();
        }
        while let Some(command) = self.follower.poll_command() {
            let Command::Table(update) = command else {
                panic!("a follower says {command:?}")
            };
            self.tables.apply(update);
        }
    }

    /// Whether it is the one that goes on this time.
    pub(crate) fn is_to_lead(&mut self) -> bool {
        self.dice.chance(50)
    }
}
