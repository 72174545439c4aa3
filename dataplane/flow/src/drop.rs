//! Why packets end: one reason, one counter, one line of documentation.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet was not forwarded. Every packet a worker receives is sent, handed to the
        /// control plane, answered, or counted under exactly one of these.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The counter's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means to an operator.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

drop_reasons! {
    /// The frame is for another station.
    NotForUs = "not-for-us",
    /// The frame carries neither IPv6 nor anything else the appliance handles.
    NotIpv6 = "not-ipv6",
    /// A header is truncated, has a wrong version, or claims more octets than the frame has.
    Malformed = "malformed",
    /// A source address that no packet may have: multicast, loopback or unspecified.
    BadSource = "bad-source",
    /// The hop limit ran out; the sender was told (RFC 4443 §3.3).
    HopLimit = "hop-limit",
    /// Link-local packets are never forwarded (RFC 4291 §2.5.6).
    LinkLocal = "link-local",
    /// Multicast packets are not forwarded.
    Multicast = "multicast",
    /// No route leads to the destination; the sender was told (RFC 4443 §3.1).
    NoRoute = "no-route",
    /// The destination lies in a prefix pool but no mobile holds that prefix; the sender was told.
    NoBinding = "no-binding",
    /// The prefix has a binding with no access left, or one that is being removed.
    BindingInactive = "binding-inactive",
    /// A flow rule says drop.
    Rule = "rule",
    /// A rule or binding names a path that does not exist (any more).
    NoPath = "no-path",
    /// The next hop did not answer neighbour solicitations; the sender was told.
    Neighbour = "neighbour",
    /// Too many packets wait for that neighbour, or too many neighbours on its port are waited for.
    NeighbourQueue = "neighbour-queue",
    /// The packet does not fit the tunnel or the link; the sender was told (RFC 2473 §7.1).
    TooBig = "too-big",
    /// The packet asks not to be encapsulated once more; the sender was told (RFC 2473 §4.1.1).
    EncapsulationLimit = "encapsulation-limit",
    /// The buffer has no room for the outer header.
    NoHeadroom = "no-headroom",
    /// A tunnel packet between addresses that are no tunnel of ours.
    NoTunnel = "no-tunnel",
    /// A tunnel packet whose inner packet is not IPv6.
    InnerProtocol = "inner-protocol",
    /// A tunnelled packet whose inner source belongs to no binding.
    InnerSource = "inner-source",
    /// A tunnelled packet from a MAG that may not send for the inner source (RFC 5213 §5.6.2).
    OuterSource = "outer-source",
    /// The outer header was marked CE and the inner is not ECN-capable (RFC 6040 §4.2).
    Ecn = "ecn",
    /// A packet from the access link whose source is no prefix of that mobile (RFC 5213 §6.10.3).
    IngressFilter = "ingress-filter",
    /// The packet would enter a tunnel whose ends are its own addresses (RFC 2473 §4.1.2).
    Loop = "loop",
    /// A fragment to the appliance itself whose length, offset or headers cannot be right; the sender
    /// was told (RFC 8200 §4.5).
    BadFragment = "bad-fragment",
    /// Fragments to the appliance itself that overlap: none of that packet is used (RFC 5722).
    FragmentOverlap = "fragment-overlap",
    /// A fragment to the appliance itself that was there already.
    FragmentDuplicate = "fragment-duplicate",
    /// Fragments to the appliance itself for which there was no room.
    FragmentRoom = "fragment-room",
    /// Fragments to the appliance itself whose rest did not come in time (RFC 8200 §4.5).
    FragmentTime = "fragment-time",
    /// An ICMPv6 error that quotes no packet of our tunnels, or too little of it (RFC 2473 §8.2).
    BadQuote = "bad-quote",
    /// A packet to the appliance itself that nothing here handles; the sender was told.
    Unhandled = "unhandled",
    /// A neighbour discovery or other ICMPv6 message that fails its own checks.
    BadIcmp = "bad-icmp",
    /// More packets for the control plane than its rate allows.
    PuntRate = "punt-rate",
    /// The ring to the control plane was full.
    PuntRing = "punt-ring",
    /// No buffer was free for a packet that the appliance had to send.
    NoBuffer = "no-buffer",
    /// The worker that the flow belongs to took no more packets.
    SpreadRing = "spread-ring",
    /// The port took no more packets.
    TxFull = "tx-full",
    /// The packet is on a port that is down or gone.
    PortDown = "port-down",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_indexes_dense() {
        for (i, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
            assert!(
                DropReason::ALL[..i]
                    .iter()
                    .all(|r| r.name() != reason.name())
            );
            assert!(reason.meaning().ends_with('.'), "{reason}");
        }
    }
}
