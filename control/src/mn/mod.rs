//! The mobile node's logical interface (RFC 7847): one interface over several accesses.
//!
//! All home network prefixes sit on a TUN device, so applications never see on which access a
//! packet travels. Downlink packets go to it from whatever access they arrive on; each flow's
//! uplink follows its downlink. The rules are in [`logical`], which does no input or output;
//! [`linux`] joins them to the TUN device and the real interfaces, which come and go ([`access`]).

mod access;
pub(crate) mod flows;
mod kernel;
pub(crate) mod linux;
pub(crate) mod logical;
pub(crate) mod report;
pub(crate) mod status;
#[cfg(test)]
mod testing;

pub(crate) use linux::run;
pub(crate) use status::{StatusHandle, status_channel};

/// An access of the mobile node, numbered from 0 in the order of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct AccessId(pub(crate) usize);

/// What the logical interface is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MnSettings {
    /// Name of the TUN device, such as `lif0`.
    pub(crate) interface: String,
    /// Interface identifier of all its addresses (RFC 4291 §2.5.1).
    pub(crate) interface_id: [u8; 8],
    /// The accesses; at least one.
    pub(crate) accesses: Vec<AccessSettings>,
}

/// One access of a mobile node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AccessSettings {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// The Ethernet interface.
    pub(crate) interface: String,
}
