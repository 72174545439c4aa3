//! Signalling while everything that is decided is written to an etcd, which an LMA in reserve would hear it from.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use flow::HandoffIndicator;
use serde::{Deserialize, Serialize};
use store::{Member, Membership, News, Place, Store};

use super::{Anchor, Order, pass};
use crate::cell::pin;
use crate::report::rounded;

/// Most mobiles: etcd has everything in memory as well.
const MOST: u32 = 100_000;
/// How long etcd may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// What it costs that another LMA could go on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Shared {
    /// Mobiles that were moved.
    pub(crate) mobiles: u32,
    /// PBUs that moved a mobile to another MAG, per second of a clock on the wall, until the last of them is in etcd: one node, with
    /// its files on this disk, on the same cores.
    pub(crate) in_etcd_per_second: f64,
}

/// An etcd that ends, and whose files go, with this.
struct Node {
    directory: PathBuf,
    child: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        // Whoever looks for what is left finds it in target.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Node {
    /// `None` if there is no etcd here.
    fn start() -> Result<Option<(Self, SocketAddr)>> {
        let known = Command::new("etcd").arg("--version").output();
        if !known.is_ok_and(|known| known.status.success()) {
            return Ok(None);
        }
        let free = || TcpListener::bind("127.0.0.1:0")?.local_addr();
        let (clients, peers) = (free()?, free()?);
        let directory = PathBuf::from(format!("target/bench/etcd-{}", std::process::id()));
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(&directory)
            .arg(format!("--listen-client-urls=http://{clients}"))
            .arg(format!("--advertise-client-urls=http://{clients}"))
            .arg(format!("--listen-peer-urls=http://{peers}"))
            .arg(format!("--initial-advertise-peer-urls=http://{peers}"))
            .arg(format!("--initial-cluster=default=http://{peers}"))
            .args(["--max-txn-ops=2048", "--logger=zap", "--log-level=error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("etcd does not start")?;
        Ok(Some((Self { directory, child }, clients)))
    }
}

/// `None` where there is no etcd.
pub(super) fn measure(order: &Order) -> Result<Option<Shared>> {
    let Some((_node, address)) = Node::start()? else {
        return Ok(None);
    };
    let place = Place {
        endpoints: vec![address.to_string()],
        prefix: "/bench".to_owned(),
        tls: None,
    };
    pin(order.core)?;
    let (_member, news) = Member::join(Membership {
        place: place.clone(),
        name: "bench".to_owned(),
        address: None,
        lease: Duration::from_secs(10),
    })?;
    let store = Store::stand_by(place)?;
    let end = Instant::now() + PATIENCE;
    loop {
        match news.recv_deadline(end).context("etcd does not answer")? {
            News::Lead(term) => {
                store.lead(term);
                break;
            }
            News::Everything(..) | News::Changed(..) => {}
            News::Over => bail!("somebody else leads"),
        }
    }
    pin(order.control_core)?;
    let mut anchor = Anchor::new()?;
    anchor.lma.keep_records();
    anchor.store = Some(store);
    let mobiles = order.mobiles.min(MOST);
    let new = HandoffIndicator::NEW_INTERFACE;
    pass(&mut anchor, 0..mobiles, 0, new, 1)?;
    anchor.wait_for_disk();
    let begin = Instant::now();
    let moved = HandoffIndicator::BETWEEN_MAGS;
    pass(&mut anchor, 0..mobiles, 1, moved, 1)?;
    anchor.wait_for_disk();
    Ok(Some(Shared {
        mobiles,
        in_etcd_per_second: rounded(f64::from(mobiles) / begin.elapsed().as_secs_f64(), 0),
    }))
}
