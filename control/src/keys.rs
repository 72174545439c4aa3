//! The keys that signalling is protected with: reading key files, and making them.
//!
//! A key file holds the security associations with one peer, which are one-way, so at least one in each
//! direction. All of the incoming ones are accepted, one of the outgoing ones sends: keys are changed without
//! a gap by adding the new ones at both ends before either sends with them.

mod file;
mod generate;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use config::{Config, Protection};

pub(crate) use self::file::{Association, KeyFile};
pub(crate) use self::generate::{GenerateArgs, generate};
use crate::secret::SecretError;

/// Where the keys of a peer come from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Our address towards it.
    pub(crate) own: Ipv6Addr,
    /// Its address.
    pub(crate) peer: Ipv6Addr,
    /// The key file; `None` if the configuration says that there is no protection.
    pub(crate) file: Option<PathBuf>,
}

impl Source {
    /// Every peer of a configuration.
    pub(crate) fn all(config: &Config) -> Vec<Self> {
        let source = |own, peer, protection: &Protection| Self {
            own,
            peer,
            file: match protection {
                Protection::Esp { keys } => Some(keys.clone()),
                Protection::None => None,
            },
        };
        let anchor = config.lma.iter().flat_map(|lma| {
            let peers = lma.peers.iter();
            peers.map(|peer| source(lma.address.0, peer.address.0, &peer.protection))
        });
        let gateway = config.mag.iter().flat_map(|mag| {
            let peers = mag.peers.iter();
            peers.map(|peer| source(mag.address.0, peer.address.0, &peer.protection))
        });
        anchor.chain(gateway).collect()
    }
}

/// A peer with its keys.
#[derive(Debug)]
pub(crate) struct PeerKeys {
    /// Which peer.
    pub(crate) source: Source,
    /// Its keys; `None` if there is no protection.
    pub(crate) keys: Option<KeyFile>,
}

/// Reads the keys of all peers.
///
/// # Errors
/// Everything that is wrong with the key files.
pub(crate) fn load_all(sources: &[Source]) -> Result<Vec<PeerKeys>, Vec<SecretError>> {
    let (mut loaded, mut errors) = (Vec::new(), Vec::new());
    for source in sources.iter().cloned() {
        match source.file.as_deref().map(KeyFile::load).transpose() {
            Ok(keys) => loaded.push(PeerKeys { source, keys }),
            Err(error) => errors.push(error),
        }
    }
    errors.extend(shared(&loaded));
    if errors.is_empty() {
        Ok(loaded)
    } else {
        Err(errors)
    }
}

/// Keys that are in more than one file. A key is one association's: two that send with it would sooner
/// or later use an IV twice (RFC 4106 §10).
fn shared(loaded: &[PeerKeys]) -> Vec<SecretError> {
    let mut first: BTreeMap<_, &PathBuf> = BTreeMap::new();
    let mut errors = Vec::new();
    for keys in loaded.iter().filter_map(|peer| peer.keys.as_ref()) {
        for association in keys.associations() {
            let known = *first
                .entry(association.key.check())
                .or_insert_with(|| keys.path());
            if known != keys.path() {
                errors.push(SecretError::new(
                    keys.path(),
                    None,
                    format!(
                        "the key of {} is in {} too",
                        association.spi,
                        known.display()
                    ),
                    "give each peer keys of its own: flowmob keys generate",
                ));
            }
        }
    }
    errors
}
