//! Signalling while everything that is decided is written to disk, and the way back from there.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flow::HandoffIndicator;
use pmip_proto::Lma;
use pmip_proto::lma::LmaRecord;
use serde::{Deserialize, Serialize};
use store::{Clocks, Space, Store};

use super::{Anchor, Order, pass};
use crate::cell::{pin, pin_to};
use crate::report::rounded;

/// What it costs that an LMA forgets nothing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// PBUs that moved a mobile to another MAG, per second of the control plane's core: as without a disk, and the
    /// records of what changed are made and handed over.
    pub(crate) updates_per_second: f64,
    /// Likewise, per second of a clock on the wall, until the last of them is on disk: the rate at which they can be
    /// acknowledged.
    pub(crate) on_disk_per_second: f64,
    /// Groups in which they were written.
    pub(crate) groups: u64,
    /// Octets of the files for one mobile, after every one has attached and moved.
    pub(crate) file_bytes_per_mobile: f64,
    /// From opening these files until an LMA has all mobiles again and has told its workers of each.
    pub(crate) restore_seconds: f64,
    /// Of that, reading the files.
    pub(crate) read_seconds: f64,
}

/// A directory that goes when this does. On the disk of the checkout: temporary files may be in memory.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        // Whoever looks for what is left finds it in target.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn measure(order: &Order) -> Result<Kept> {
    let place = Place(PathBuf::from(format!(
        "target/bench/records-{}",
        std::process::id()
    )));
    // The thread that writes is where the one that begins it is: not on the control plane's core.
    pin(order.core)?;
    let (store, _) = Store::open(&place.0).context("no store")?;
    pin(order.control_core)?;
    let mut anchor = Anchor::new()?;
    anchor.lma.keep_records();
    anchor.store = Some(store);
    let all = 0..order.mobiles;
    pass(
        &mut anchor,
        all.clone(),
        0,
        HandoffIndicator::NEW_INTERFACE,
        1,
    )?;
    anchor.wait_for_disk();
    let before = groups(&anchor);
    let begin = Instant::now();
    let moved = pass(&mut anchor, all, 1, HandoffIndicator::BETWEEN_MAGS, 1)?;
    anchor.wait_for_disk();
    // The making of the PBUs themselves, between the timed batches, is in this as well.
    let wall = begin.elapsed();
    let groups = groups(&anchor) - before;
    let mobiles = f64::from(order.mobiles);
    if let Some(store) = anchor.store.take() {
        ensure!(store.close(), "not all is on disk");
    }
    drop(anchor);
    let mut octets = 0;
    for entry in std::fs::read_dir(&place.0)? {
        octets += entry?.metadata()?.len();
    }

    // As an appliance begins: all cores read.
    pin_to(&[order.core, order.control_core])?;
    let begin = Instant::now();
    let (_store, mut contents) = Store::open(&place.0).context("no store")?;
    let read = begin.elapsed();
    let fresh = Anchor::new()?;
    let now = fresh.now;
    let records = contents.take(Space::Lma).read_ahead(LmaRecord::read)?;
    let (mut lma, restored) = Lma::restore(fresh.config, 2, now, records);
    let commands = std::iter::from_fn(|| lma.poll_command()).count();
    let restore = begin.elapsed();
    ensure!(
        restored.spoilt.is_empty() && restored.mobiles == order.mobiles as usize,
        "{restored:?}"
    );
    ensure!(
        commands >= restored.mobiles,
        "workers were told of {commands} only"
    );
    Ok(Kept {
        updates_per_second: rounded(mobiles / moved.as_secs_f64(), 0),
        on_disk_per_second: rounded(mobiles / wall.as_secs_f64(), 0),
        groups,
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        file_bytes_per_mobile: rounded(octets as f64 / mobiles, 0),
        restore_seconds: rounded(restore.as_secs_f64(), 2),
        read_seconds: rounded(read.as_secs_f64(), 2),
    })
}

fn groups(anchor: &Anchor) -> u64 {
    let store = anchor.store.as_ref();
    store.map_or(0, |store| {
        store
            .progress()
            .groups
            .load(std::sync::atomic::Ordering::Relaxed)
    })
}

impl Anchor {
    /// Hands over what the last messages have changed.
    pub(super) fn keep(&mut self) {
        let Some(store) = &mut self.store else { return };
        while let Some(record) = self.lma.poll_record() {
            store.put(Space::Lma, record.key, record.value, record.urgent);
        }
        store.submit(Clocks {
            monotonic: self.now.monotonic,
            wall: self.now.wall,
        });
    }

    pub(super) fn wait_for_disk(&self) {
        while self.store.as_ref().is_some_and(|store| store.waiting() > 0) {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}
