//! Mobility signalling as somebody on the core link hears it.

use std::net::Ipv6Addr;
use std::time::Duration;

use flow::{AccessTechnology, HandoffIndicator, Hnp};
use pmip_wire::{FlowIdentification, FlowLifetime, HnpOption, Message, SelectorOption};
use serde::Serialize;

use super::topology::{LMAA, Mag};

/// One message on the core link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Heard {
    /// When, since 1970.
    #[serde(serialize_with = "super::seconds")]
    pub(crate) time: Duration,
    /// The gateway that sent or received it.
    pub(crate) mag: Mag,
    /// Whether the LMA sent it.
    pub(crate) from_lma: bool,
    /// What it is.
    pub(crate) kind: Kind,
    /// Its sequence number, if it has one.
    pub(crate) sequence: Option<u16>,
    /// Its status, if it is an answer: below 128 is success.
    pub(crate) status: Option<u8>,
    /// What it says, for people.
    pub(crate) content: String,
}

/// Messages that the lab tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) enum Kind {
    /// Proxy Binding Update.
    #[serde(rename = "PBU")]
    Pbu,
    /// Proxy Binding Acknowledgement.
    #[serde(rename = "PBA")]
    Pba,
    /// Flow Mobility Initiate that adds or refreshes.
    #[serde(rename = "FMI(add)")]
    FmiAdd,
    /// Flow Mobility Initiate that deletes.
    #[serde(rename = "FMI(del)")]
    FmiDel,
    /// Flow Mobility Acknowledge.
    #[serde(rename = "FMA")]
    Fma,
    /// Update Notification: an FMI with all that the gateway is to serve (RFC 7864 §4.2).
    #[serde(rename = "UPN")]
    Upn,
    /// Its acknowledgement: an FMA (RFC 7864 §4.3).
    #[serde(rename = "UPA")]
    Upa,
    /// Anything else that could be read.
    #[serde(rename = "other")]
    Other,
    /// Octets that could not be read.
    #[serde(rename = "undecodable")]
    Undecodable,
}

impl Kind {
    /// As on the draft's slides and in RFC 7077.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pbu => "PBU",
            Self::Pba => "PBA",
            Self::FmiAdd => "FMI(add)",
            Self::FmiDel => "FMI(del)",
            Self::Fma => "FMA",
            Self::Upn => "UPN",
            Self::Upa => "UPA",
            Self::Other => "other",
            Self::Undecodable => "undecodable",
        }
    }
}

impl Heard {
    /// Reads a Mobility Header between the LMA and a gateway; `None` between others.
    pub(crate) fn new(
        time: Duration,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        octets: &[u8],
    ) -> Option<Self> {
        let from_lma = source == LMAA;
        let other = if from_lma { destination } else { source };
        let mag = Mag::ALL.into_iter().find(|m| m.proxy_coa() == other)?;
        if !from_lma && destination != LMAA {
            return None;
        }
        let read = match Message::decode(octets, source, destination) {
            Ok(message) => read(&message),
            Err(error) => Read::new(Kind::Undecodable, None, None, error.to_string()),
        };
        Some(Self {
            time,
            mag,
            from_lma,
            kind: read.kind,
            sequence: read.sequence,
            status: read.status,
            content: read.content,
        })
    }

    /// Whether this is the gateway's success for `initiate`.
    pub(crate) fn accepts(&self, initiate: &Self) -> bool {
        matches!(
            (initiate.kind, self.kind),
            (Kind::FmiAdd | Kind::FmiDel, Kind::Fma) | (Kind::Upn, Kind::Upa)
        ) && !self.from_lma
            && self.mag == initiate.mag
            && self.sequence == initiate.sequence
            && self.status.is_some_and(|s| s < 128)
            && self.time >= initiate.time
    }
}

struct Read {
    kind: Kind,
    sequence: Option<u16>,
    status: Option<u8>,
    content: String,
}

impl Read {
    fn new(kind: Kind, sequence: Option<u16>, status: Option<u8>, content: String) -> Self {
        Self {
            kind,
            sequence,
            status,
            content,
        }
    }
}

fn read(message: &Message) -> Read {
    match message {
        Message::Pbu(m) => {
            let lifetime = m.lifetime.duration().as_secs();
            let content = words([
                id(m.mn_id.as_ref()),
                prefixes(&m.hnps),
                m.handoff.map(|HandoffIndicator(n)| format!("HI {n}")),
                technology(m.access),
                Some(format!("lifetime {lifetime} s")),
            ]);
            Read::new(Kind::Pbu, Some(m.sequence), None, content)
        }
        Message::Pba(m) => {
            let status = format!("status {} ({})", m.status.0, m.status);
            let content = words([
                Some(status),
                id(m.mn_id.as_ref()),
                prefixes(&m.hnps),
                technology(m.access),
            ]);
            Read::new(Kind::Pba, Some(m.sequence), Some(m.status.0), content)
        }
        Message::Fmi(m) => {
            let kind = if m.is_deletion() {
                Kind::FmiDel
            } else {
                Kind::FmiAdd
            };
            let lifetime = Some(lifetime(m.lifetime)).filter(|_| kind == Kind::FmiAdd);
            let content = words([
                id(m.mn_id.as_ref()),
                prefixes(&m.hnps),
                selectors(&m.selectors),
                lifetime,
            ]);
            Read::new(kind, Some(m.sequence), None, content)
        }
        Message::Fma(m) => {
            let status = format!("status {} ({})", m.status.0, m.status);
            let content = words([Some(status), id(m.mn_id.as_ref()), prefixes(&m.hnps)]);
            Read::new(Kind::Fma, Some(m.sequence), Some(m.status.0), content)
        }
        Message::Upn(m) => {
            let content = words([
                Some(m.reason.to_string()),
                id(m.mn_id.as_ref()),
                prefixes(&m.hnps),
                flows(&m.flows),
            ]);
            Read::new(Kind::Upn, Some(m.sequence), None, content)
        }
        Message::Upa(m) => {
            let status = format!("status {} ({})", m.status.0, m.status);
            let content = words([
                Some(status),
                id(m.mn_id.as_ref()),
                prefixes(&m.hnps),
                flows(&m.flows),
            ]);
            Read::new(Kind::Upa, Some(m.sequence), Some(m.status.0), content)
        }
        Message::BindingError(_) | Message::Heartbeat(_) | Message::Bri(_) | Message::Bra(_) => {
            let text = format!("{message:?}");
            Read::new(Kind::Other, None, None, text.chars().take(80).collect())
        }
    }
}

fn words<const N: usize>(parts: [Option<String>; N]) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

fn id(id: Option<&pmip_wire::MnIdOption>) -> Option<String> {
    id.map(ToString::to_string)
}

fn technology(access: Option<AccessTechnology>) -> Option<String> {
    access.map(|a| format!("ATT {a}"))
}

fn lifetime(lifetime: FlowLifetime) -> String {
    let finite = lifetime.duration();
    let text = finite.map_or_else(|| "infinite".to_owned(), |d| format!("{} s", d.as_secs()));
    format!("lifetime {text}")
}

fn prefixes(hnps: &[HnpOption]) -> Option<String> {
    let text = |option: &HnpOption| {
        let prefix = if option.prefix == Hnp::ALL_ZERO {
            "::".to_owned()
        } else {
            option.prefix.to_string()
        };
        let off_link = if option.off_link { " (off-link)" } else { "" };
        format!("{prefix}{off_link}")
    };
    let texts: Vec<String> = hnps.iter().map(text).collect();
    (!texts.is_empty()).then(|| format!("HNP {}", texts.join(" + ")))
}

fn flows(flows: &[FlowIdentification]) -> Option<String> {
    let text = |flow: &FlowIdentification| {
        let selector = flow.selector.as_ref().map(std::slice::from_ref);
        let selector = selector.and_then(selectors).unwrap_or_default();
        format!("FID {} {selector}", flow.fid)
    };
    let texts: Vec<String> = flows.iter().map(text).collect();
    (!texts.is_empty()).then(|| texts.join(" + "))
}

fn selectors(options: &[SelectorOption]) -> Option<String> {
    let texts: Vec<String> = options
        .iter()
        .map(|option| match option.readable() {
            Ok(selector) => format!("TS [{selector}]"),
            Err(fault) => format!("TS unreadable: {fault}"),
        })
        .collect();
    (!texts.is_empty()).then(|| texts.join(" + "))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Flow Mobility Initiate and Acknowledge in the draft's form, between the lab's addresses.
    const FMI_ADD: &str = "3b0c0b0040d901008000ffff0810016d6e31406578616d706c652e6e6574010400\
        0000001612804020010db800020000000000000000000012290200a022000020010db8000c000000000000000\
        0000520010db8000200000000000000000100138c110103000000";
    const FMA: &str = "3b060b00f96d01000000ffff0810016d6e31406578616d706c652e6e657401040000000016\
        12804020010db8000200000000000000000000";

    fn octets(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let octet = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).unwrap();
            u8::from_str_radix(text, 16).unwrap()
        };
        digits.chunks(2).map(octet).collect()
    }

    #[test]
    fn an_exchange_is_heard_and_matched() {
        let mag = Mag::Mag1.proxy_coa();
        let at = Duration::from_millis;
        let initiate = Heard::new(at(1), LMAA, mag, &octets(FMI_ADD)).unwrap();
        assert_eq!(initiate.kind, Kind::FmiAdd);
        assert_eq!((initiate.mag, initiate.from_lma), (Mag::Mag1, true));
        assert_eq!(
            initiate.content,
            "mn1@example.net, HNP 2001:db8:2::/64 (off-link), TS [src 2001:db8:c::5 dst \
             2001:db8:2::100 dport 5004 proto 17], lifetime infinite"
        );
        let answer = Heard::new(at(2), mag, LMAA, &octets(FMA)).unwrap();
        assert_eq!((answer.kind, answer.status), (Kind::Fma, Some(0)));
        assert!(answer.accepts(&initiate));
        assert!(!initiate.accepts(&answer));
        let other = Heard {
            mag: Mag::Mag2,
            ..answer
        };
        assert!(!other.accepts(&initiate));
    }

    #[test]
    fn damage_is_reported_and_strangers_are_ignored() {
        let mag = Mag::Mag1.proxy_coa();
        let mut damaged = octets(FMA);
        damaged[20] ^= 1;
        let heard = Heard::new(Duration::ZERO, mag, LMAA, &damaged).unwrap();
        assert_eq!(heard.kind, Kind::Undecodable);
        let stranger = Ipv6Addr::LOCALHOST;
        assert_eq!(
            Heard::new(Duration::ZERO, stranger, LMAA, &octets(FMA)),
            None
        );
        assert_eq!(
            Heard::new(Duration::ZERO, mag, stranger, &octets(FMA)),
            None
        );
    }
}
