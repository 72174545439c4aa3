//! Binding Revocation Indication and Acknowledgement (RFC 5846 §5).

use serde::{Deserialize, Serialize};

use super::Message;
use crate::code::{code, flags};
use crate::codec::Writer;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::frame::Frame;
use crate::option::{HnpOption, MnIdOption, Options, RawOption, kind};

/// B.R. Type of an indication.
const INDICATION: u8 = 1;
/// B.R. Type of an acknowledgement.
const ACKNOWLEDGEMENT: u8 = 2;

code! {
    /// Why bindings are revoked (RFC 5846 §5.1); from 128 on, several at once.
    RevocationTrigger(u8) {
        /// No reason given.
        UNSPECIFIED = 0 as "Unspecified",
        /// An operator's decision.
        ADMINISTRATIVE = 1 as "Administrative Reason",
        /// The mobile is at another MAG, by the same kind of access.
        HANDOVER_SAME_ACCESS = 2 as "Inter-MAG Handover - same Access Type",
        /// The mobile is at another MAG, by another kind of access.
        HANDOVER_OTHER_ACCESS = 3 as "Inter-MAG Handover - different Access Type",
        /// The mobile is at another MAG.
        HANDOVER_UNKNOWN = 4 as "Inter-MAG Handover - Unknown",
        /// The user ended the session.
        USER_ENDED = 5 as "User-Initiated Session(s) Termination",
        /// The access network ended the session.
        ACCESS_ENDED = 6 as "Access Network Session(s) Termination",
        /// The peers may disagree about the binding.
        OUT_OF_SYNC = 7 as "Possible Out-of-Sync BCE State",
        /// All bindings with the peer.
        PER_PEER = 128 as "Per-Peer Policy",
        /// All bindings of a local policy.
        LOCAL_POLICY = 129 as "Revoking Mobility Node Local Policy",
    }
}

code! {
    /// What became of a revocation (RFC 5846 §5.2); below 128 is success.
    RevocationStatus(u8) {
        /// Revoked.
        SUCCESS = 0 as "Success",
        /// Some of the bindings are revoked.
        PARTIAL = 1 as "Partial Success",
        /// There is no such binding.
        NO_BINDING = 128 as "Binding Does NOT Exist",
        /// An IPv4 Home Address option is needed.
        IPV4_HOME_ADDRESS_REQUIRED = 129 as "IPv4 Home Address Option Required",
        /// The sender may not revoke several bindings at once.
        GLOBAL_NOT_AUTHORIZED = 130 as "Global Revocation NOT Authorized",
        /// The mobiles must be named.
        IDENTITIES_REQUIRED = 131 as "Revoked Mobile Nodes Identity Required",
        /// The mobile is still attached.
        STILL_ATTACHED = 132 as "Revocation Failed - MN is Attached",
        /// The trigger is not supported.
        TRIGGER_NOT_SUPPORTED = 133 as "Revocation Trigger NOT Supported",
        /// Revocation is not supported.
        FUNCTION_NOT_SUPPORTED = 134 as "Revocation Function NOT Supported",
        /// Revocation of proxy bindings is not supported.
        PROXY_NOT_SUPPORTED = 135 as "Proxy Binding Revocation NOT Supported",
    }
}

impl RevocationStatus {
    /// Whether bindings were revoked.
    pub const fn is_success(self) -> bool {
        self.0 < 128
    }
}

flags! {
    /// Flags of both messages.
    RevocationFlags(u16) {
        /// P: the binding is a proxy binding.
        PROXY = 0x8000,
        /// V: only the IPv4 home address.
        IPV4 = 0x4000,
        /// G: several bindings at once.
        GLOBAL = 0x2000,
    }
}

/// Binding Revocation Indication: a peer ends bindings.
///
/// ```text
///                                 +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///                                 | B.R. Type = 1 |  R. Trigger   |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |          Sequence #           |P|V|G|        Reserved         |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Bri {
    /// Why.
    pub trigger: RevocationTrigger,
    /// Matches the acknowledgement to the indication.
    pub sequence: u16,
    /// Flags, unknown ones included.
    pub flags: RevocationFlags,
    /// Who.
    pub mn_id: Option<MnIdOption>,
    /// Which sessions.
    pub hnps: Vec<HnpOption>,
    /// Options without a field.
    pub others: Vec<RawOption>,
}

/// Binding Revocation Acknowledgement: the answer to a [`Bri`], laid out as that but with B.R. Type
/// 2 and a status in place of the trigger.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Bra {
    /// What became of the indication.
    pub status: RevocationStatus,
    /// That of the indication.
    pub sequence: u16,
    /// Flags, unknown ones included.
    pub flags: RevocationFlags,
    /// Who, if the indication said so.
    pub mn_id: Option<MnIdOption>,
    /// Which sessions, if the indication said so.
    pub hnps: Vec<HnpOption>,
    /// Options without a field.
    pub others: Vec<RawOption>,
}

/// Reads a message of either kind.
pub(super) fn decode(frame: Frame<'_>) -> Result<Message, DecodeError> {
    let ([br_type, code, s0, s1, f0, f1], options) = frame.split()?;
    let sequence = u16::from_be_bytes([s0, s1]);
    let flags = RevocationFlags(u16::from_be_bytes([f0, f1]));
    match br_type {
        INDICATION => Session::decode(options).map(|session| {
            Message::Bri(Bri {
                trigger: RevocationTrigger(code),
                sequence,
                flags,
                mn_id: session.mn_id,
                hnps: session.hnps,
                others: session.others,
            })
        }),
        ACKNOWLEDGEMENT => Session::decode(options).map(|session| {
            Message::Bra(Bra {
                status: RevocationStatus(code),
                sequence,
                flags,
                mn_id: session.mn_id,
                hnps: session.hnps,
                others: session.others,
            })
        }),
        other => Err(DecodeError {
            kind: DecodeErrorKind::RevocationType(other),
            offset: 6,
        }),
    }
}

/// The options that both messages have.
#[derive(Default)]
struct Session {
    mn_id: Option<MnIdOption>,
    hnps: Vec<HnpOption>,
    others: Vec<RawOption>,
}

impl Session {
    fn decode(options: Options<'_>) -> Result<Self, DecodeError> {
        let mut session = Self::default();
        for option in options {
            let option = option?;
            match option.kind {
                kind::MN_ID => option.once(&mut session.mn_id)?,
                kind::HNP => option.push(&mut session.hnps)?,
                _ => option.push(&mut session.others)?,
            }
        }
        Ok(session)
    }
}

impl Bri {
    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.put([INDICATION, self.trigger.0]);
        writer.u16(self.sequence);
        writer.u16(self.flags.0);
        writer.options(&self.mn_id);
        writer.options(&self.hnps);
        writer.options(&self.others);
    }
}

impl Bra {
    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.put([ACKNOWLEDGEMENT, self.status.0]);
        writer.u16(self.sequence);
        writer.u16(self.flags.0);
        writer.options(&self.mn_id);
        writer.options(&self.hnps);
        writer.options(&self.others);
    }
}
