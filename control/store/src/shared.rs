//! Records of a pair: in etcd, where one process leads and the others hear what it writes.
//!
//! ```text
//!   PREFIX/lead/term   number of the term; writers compare its revision: the fence
//!   PREFIX/lead/by     who leads, under a lease: gone when that runs out
//!   PREFIX/clocks      both clocks, when something was last written
//!   PREFIX/r/...       the records: their space, one octet, and their key
//! ```
//!
//! Whoever leads writes only where the term is still its own, in the transaction itself; so when another one leads, nothing that
//! it writes late counts, and nothing that counts is unknown to the other one. The lease is for finding out that somebody
//! has to lead, not for knowing who does.

mod elector;
mod engine;
mod leader;
mod link;
mod member;
mod tls;

use std::time::Duration;

use etcd_client::{Client, ConnectOptions};

use crate::{Clocks, Space};

pub(crate) use engine::Shared;
pub use member::{Member, Membership, News, Standing};
pub use tls::Tls;

/// How long etcd may take to answer; then it is asked again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a pair keeps its records.
#[derive(Clone, Debug)]
pub struct Place {
    /// The members of the etcd cluster, each as `HOST:PORT`.
    pub endpoints: Vec<String>,
    /// What all keys begin with, without a slash at the end.
    pub prefix: String,
    /// `None` for connections that anyone on their way can read and change.
    pub tls: Option<Tls>,
}

impl Place {
    fn key(&self, what: &str) -> Vec<u8> {
        format!("{}/{what}", self.prefix).into_bytes()
    }

    fn term(&self) -> Vec<u8> {
        self.key("lead/term")
    }

    fn leader(&self) -> Vec<u8> {
        self.key("lead/by")
    }

    fn clocks(&self) -> Vec<u8> {
        self.key("clocks")
    }

    fn lead(&self) -> Vec<u8> {
        self.key("lead/")
    }

    fn all(&self) -> Vec<u8> {
        self.key("")
    }

    fn record(&self, space: Space, key: &[u8]) -> Vec<u8> {
        let mut octets = self.key("r/");
        octets.push(space.number());
        octets.extend_from_slice(key);
        octets
    }

    /// What a key is about, if it is a record's.
    fn record_of(&self, octets: &[u8]) -> Option<(Space, Vec<u8>)> {
        let (space, key) = octets.strip_prefix(&*self.key("r/"))?.split_first()?;
        Some((Space::from_number(*space)?, key.to_vec()))
    }

    async fn connect(&self) -> Result<Client, etcd_client::Error> {
        let options = ConnectOptions::new()
            .with_connect_timeout(PATIENCE)
            .with_keep_alive(PATIENCE, PATIENCE)
            .with_keep_alive_while_idle(true)
            // A member that has lost the others says so, and does not stay silent.
            .with_require_leader(true);
        let options = match &self.tls {
            Some(tls) => tls.protect(options),
            None => options,
        };
        Client::connect(&self.endpoints, Some(options)).await
    }
}

/// The right to write, as long as nobody else leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Term {
    /// Terms there have been, this one included.
    pub number: u64,
}

impl Term {
    fn octets(self) -> Vec<u8> {
        self.number.to_string().into_bytes()
    }

    fn read(octets: &[u8]) -> Option<Self> {
        let number = str::from_utf8(octets).ok()?.parse().ok()?;
        Some(Self { number })
    }
}

/// A change that somebody has written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The part of the store.
    pub space: Space,
    /// The record's key.
    pub key: Vec<u8>,
    /// Its value; `None` if there is none any more.
    pub value: Option<Vec<u8>>,
}

/// Microseconds of both clocks, high octets first.
fn write_clocks(clocks: Clocks) -> Vec<u8> {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let both = [micros(clocks.monotonic), micros(clocks.wall)];
    both.map(u64::to_be_bytes).concat()
}

fn read_clocks(octets: &[u8]) -> Option<Clocks> {
    let (monotonic, wall) = octets.split_first_chunk::<8>()?;
    let micros = |octets: [u8; 8]| Duration::from_micros(u64::from_be_bytes(octets));
    Some(Clocks {
        monotonic: micros(*monotonic),
        wall: micros(wall.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_clocks_are_read_as_they_are_written() {
        let place = Place {
            endpoints: Vec::new(),
            prefix: "/flowmob/lma".to_owned(),
            tls: None,
        };
        for key in [b"".as_slice(), b"/", b"\x00\xff", b"leader"] {
            let octets = place.record(Space::Lma, key);
            assert_eq!(place.record_of(&octets), Some((Space::Lma, key.to_vec())));
        }
        assert_eq!(place.record_of(&place.leader()), None);
        assert_eq!(place.record_of(b"/flowmob/lma/r/"), None);
        assert_eq!(place.record_of(b"/flowmob/lma/r/\xffkey"), None);
        let clocks = Clocks {
            monotonic: Duration::from_micros(12_345_678),
            wall: Duration::from_micros(1_764_412_000_123_456),
        };
        assert_eq!(read_clocks(&write_clocks(clocks)), Some(clocks));
        assert_eq!(read_clocks(&write_clocks(clocks)[1..]), None);
    }
}
