//! Where records are kept.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::Serialize;
use toml::de::DeValue;

use crate::value::{Fault, Value, text};

/// Where sessions and flows are kept from run to run: `[process] store`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub enum Store {
    /// In the state directory.
    Files,
    /// In etcd, for several processes of which one serves.
    Etcd {
        /// Its members, each a host and a port.
        endpoints: Vec<String>,
        /// What its keys begin with; begins with a slash, and does not end with one.
        prefix: String,
    },
}

impl Store {
    /// Whether it is on this machine, as far as addresses tell.
    pub(crate) fn is_here(&self) -> bool {
        let is_own = |host: &str| {
            let address = host.parse();
            host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
        };
        match self {
            Self::Files => true,
            Self::Etcd { endpoints, .. } => endpoints
                .iter()
                .all(|endpoint| host(endpoint).is_some_and(is_own)),
        }
    }
}

/// What keys begin with if nothing is said of it.
const PREFIX: &str = "/flowmob";

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files => f.write_str("files"),
            Self::Etcd { endpoints, prefix } => {
                write!(f, "etcd://{}{prefix}", endpoints.join(","))
            }
        }
    }
}

impl Value for Store {
    const EXPECTED: &'static str = "\"files\", or where etcd is";
    const EXAMPLE: &'static str = "\"etcd://192.0.2.1:2379,192.0.2.2:2379/lma\"";

    fn read(value: &DeValue<'_>) -> Result<Self, Fault> {
        let text = text(value)?;
        if text == "files" {
            return Ok(Self::Files);
        }
        let help = "write \"files\", or such as etcd://192.0.2.1:2379,[2001:db8::2]:2379/lma";
        let fault = |what| Err(Fault::new(what, help));
        let Some(place) = text.strip_prefix("etcd://") else {
            return fault("neither \"files\" nor etcd");
        };
        let (hosts, prefix) = match place.find('/') {
            Some(at) => place.split_at(at),
            None => (place, PREFIX),
        };
        let endpoints: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        if !endpoints.iter().all(|endpoint| host(endpoint).is_some()) {
            return fault("not all of them are a host and a port");
        }
        let usable = |c: char| c.is_ascii_graphic() && c != '\\';
        if prefix.len() < 2 || prefix.ends_with('/') || !prefix.chars().all(usable) {
            return fault("what keys begin with is no path");
        }
        Ok(Self::Etcd {
            endpoints,
            prefix: prefix.to_owned(),
        })
    }

    fn placeholder() -> Self {
        Self::Files
    }
}

/// The host of a host and port, without the brackets of an IPv6 address; `None` if it is not one.
fn host(endpoint: &str) -> Option<&str> {
    let (host, port) = endpoint.rsplit_once(':')?;
    port.parse().ok().filter(|port: &u16| *port != 0)?;
    let in_brackets = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if let Some(address) = in_brackets {
        return address.parse::<Ipv6Addr>().is_ok().then_some(address);
    }
    let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    (!host.is_empty() && host.chars().all(usable)).then_some(host)
}
