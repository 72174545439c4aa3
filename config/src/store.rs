//! Where records are kept.

use std::fmt;

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
        if !endpoints.iter().all(|endpoint| is_endpoint(endpoint)) {
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

/// Whether it is a name or an address, and a port.
fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_port = port.parse().is_ok_and(|port: u16| port != 0);
    let in_brackets = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = if let Some(address) = in_brackets {
        address.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        !host.is_empty() && host.chars().all(usable)
    };
    is_port && is_host
}
