//! How a process begins: where its former self was, if that has left records.

use std::time::Instant;

use anyhow::Context;
use config::Config;
use pmip_proto::lma::LmaRecord;
use pmip_proto::{Lma, Mag, Restored};
use store::{Contents, Space};

use super::clock::Clock;
use super::keeping::{Keeping, LINES};
use super::{restart_counter, wiring};

/// What a process begins with.
pub(super) struct Beginning {
    pub(super) keeping: Keeping,
    pub(super) clock: Clock,
    pub(super) restart_counter: u32,
    pub(super) lma: Option<Lma>,
    pub(super) mag: Option<Mag>,
}

impl Beginning {
    /// Of a process that stands by: it learns what there is.
    pub(super) fn standing_by(start: Instant) -> Self {
        Self {
            keeping: Keeping::default(),
            clock: Clock::new(start, None, None),
            restart_counter: 0,
            lma: None,
            mag: None,
        }
    }
}

/// The key of what tells the sessions of one MAG from those of another.
const PLACES: &[u8] = b"places";
/// The key of what tells where the process's clock is.
const ORIGIN: &[u8] = b"clock";

/// Makes the state machines, which go on where those of the former process were. `seed` is as for a new one.
///
/// # Errors
/// If the state directory cannot be used, or the configuration makes no LMA.
pub(super) fn begin(config: &Config, start: Instant, seed: u64) -> anyhow::Result<Beginning> {
    let directory = config.state_directory();
    if let Some(directory) = &directory {
        restart_counter::make(directory)?;
    }
    let (mut keeping, mut contents) = Keeping::open(config)?;
    let process = contents.take(Space::Process);
    let known = |key: &[u8]| process.iter().find(|(known, _)| *known == key);
    let known = |key| known(key).map(|(_, value)| value);
    let clock = Clock::new(start, contents.clocks, known(ORIGIN));
    keeping.keep(Space::Process, ORIGIN.to_owned(), clock.origin());
    let is_mags = is_of_this_mag(config, known(PLACES), &mut keeping, &mut contents);
    drop(process);
    // Who has lost nothing, or only what nobody was told, has not restarted as far as peers are concerned.
    let goes_on = contents.clocks.is_some() && contents.damage.is_empty() && is_mags;
    let next = |goes_on| restart_counter::next(directory.as_deref(), goes_on);
    let mut counter = next(goes_on)?;
    let (now, is_kept) = (clock.now(), keeping.is_on());
    let mut unreadable = 0;
    let mut lma = match &config.lma {
        Some(lma) => {
            let wanted = wiring::lma(config, lma, counter)?;
            // Without a store nobody asks what changes.
            Some(if is_kept {
                let records = contents.take(Space::Lma).read_ahead(LmaRecord::read);
                let records = records.context("no thread that reads records")?;
                let (lma, restored) = Lma::restore(wanted, seed, now, records);
                unreadable += report("lma", &restored);
                lma
            } else {
                Lma::new(wanted, seed)
            })
        }
        None => None,
    };
    let mut mag = config.mag.as_ref().map(|mag| {
        let wanted = wiring::mag(config, mag, counter);
        let records = contents.take(Space::Mag);
        let (mag, restored) = Mag::restore(wanted, seed.rotate_left(32), now, records.iter());
        unreadable += report("mag", &restored);
        mag
    });
    if goes_on && unreadable > 0 {
        counter = next(false)?;
    }
    if is_kept && contents.clocks.is_some() && (!goes_on || unreadable > 0) {
        if let Some(lma) = &mut lma {
            lma.count_restart(counter);
        }
        if let Some(mag) = &mut mag {
            mag.count_restart(now, counter);
        }
    }
    // A role that is no more must not find them when it is there again.
    for (space, records) in std::mem::take(&mut contents.records) {
        for (key, _) in records.iter() {
            keeping.keep(space, key.to_vec(), None);
        }
    }
    Ok(Beginning {
        keeping,
        clock,
        restart_counter: counter,
        lma,
        mag,
    })
}

/// A MAG's sessions are at ports, which go by their number, and registered from an address. Records of other ones are
/// dropped; whether there were none.
fn is_of_this_mag(
    config: &Config,
    known: Option<&[u8]>,
    keeping: &mut Keeping,
    contents: &mut Contents,
) -> bool {
    let places = config.mag.as_ref().map(|mag| {
        let ports = mag.access_ports.iter();
        let ports = ports.filter_map(|id| Some(format!("{id} {}", config.port(*id)?.name)));
        let ports: Vec<String> = ports.collect();
        format!("{} {}", mag.address.0, ports.join(", ")).into_bytes()
    });
    let Some(places) = places else { return true };
    let same = known.is_none_or(|known| known == places);
    if !same {
        tracing::warn!(
            "the MAG has another address or other access ports: its sessions begin anew"
        );
        for (key, _) in contents.take(Space::Mag).iter() {
            keeping.keep(Space::Mag, key.to_vec(), None);
        }
    }
    keeping.keep(Space::Process, PLACES.to_owned(), Some(places));
    same
}

/// Says what a state machine goes on with, and what it could not use; how many records could not be read.
pub(super) fn report(role: &str, restored: &Restored) -> usize {
    let Restored {
        mobiles,
        sessions,
        spoilt,
        unreadable,
    } = restored;
    if *mobiles > 0 {
        tracing::info!(role, mobiles, sessions, "goes on from what was kept");
    }
    for spoilt in spoilt.iter().take(LINES) {
        tracing::warn!(role, why = spoilt.why, "left out: {}", spoilt.what);
    }
    if spoilt.len() > LINES {
        tracing::warn!(role, "and {} more", spoilt.len() - LINES);
    }
    *unreadable
}
