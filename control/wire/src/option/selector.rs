//! Traffic selectors inside options: readable ones, and those to answer with an error.

use flow::TrafficSelector;
use serde::{Deserialize, Serialize};

use super::{OptionRef, WireOption, kind};
use crate::codec::{Alignment, Writer};
use crate::error::DecodeError;
use crate::selector::{self, SelectorFault};

/// A traffic selector as a message gives it.
///
/// One that cannot be read does not spoil the message: its sender is owed an answer that names the
/// flow and what is wrong (RFC 6089 §5.3.2.1).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum SelectorOption {
    /// A selector.
    Readable(TrafficSelector),
    /// Octets that are none.
    Unreadable(UnreadableSelector),
}

/// A selector of an unknown format, or one that breaks the rules of its format.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "Box<[u8]>", into = "Box<[u8]>")]
pub struct UnreadableSelector {
    octets: Box<[u8]>,
    fault: SelectorFault,
}

impl From<UnreadableSelector> for Box<[u8]> {
    fn from(unreadable: UnreadableSelector) -> Self {
        unreadable.octets
    }
}

impl TryFrom<Box<[u8]>> for UnreadableSelector {
    type Error = &'static str;

    fn try_from(octets: Box<[u8]>) -> Result<Self, Self::Error> {
        match selector::decode(&octets) {
            Ok(_) => Err("a selector that can be read"),
            Err(fault) => Ok(Self { octets, fault }),
        }
    }
}

impl UnreadableSelector {
    /// The selector from its TS Format octet on.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// What is wrong with it.
    pub fn fault(&self) -> SelectorFault {
        self.fault
    }
}

impl SelectorOption {
    /// The selector.
    ///
    /// # Errors
    /// What is wrong with it, if it could not be read.
    pub fn readable(&self) -> Result<&TrafficSelector, SelectorFault> {
        match self {
            Self::Readable(selector) => Ok(selector),
            Self::Unreadable(unreadable) => Err(unreadable.fault),
        }
    }

    /// Where an option with this selector has to start for the selector's fields to be aligned.
    pub(super) fn alignment(&self) -> Alignment {
        match self {
            Self::Readable(selector) => selector::alignment(selector),
            Self::Unreadable(_) => Alignment::ANY,
        }
    }

    /// Appends, right here, an option with this selector as its data.
    pub(super) fn encode_as(&self, kind: u8, writer: &mut Writer) {
        writer.option(kind, Alignment::ANY, |w| match self {
            Self::Readable(selector) => match selector::encode(selector) {
                Ok(octets) => w.put(octets),
                Err(error) => w.fail(error.into()),
            },
            Self::Unreadable(unreadable) => w.put(&unreadable.octets),
        });
    }
}

impl From<TrafficSelector> for SelectorOption {
    fn from(selector: TrafficSelector) -> Self {
        Self::Readable(selector)
    }
}

/// The draft's Traffic Selector option, under the option type for experiments (RFC 5096 §4): the
/// body of the sub-option of RFC 6089 §4.2.1.4.
impl WireOption for SelectorOption {
    fn decode(option: &OptionRef<'_>) -> Result<Self, DecodeError> {
        // Without a format there is nothing to answer about.
        let ([_format, _reserved], _) = option.prefixed()?;
        Ok(match selector::decode(option.data) {
            Ok(selector) => Self::Readable(selector),
            Err(fault) => Self::Unreadable(UnreadableSelector {
                octets: option.data.into(),
                fault,
            }),
        })
    }

    fn encode(&self, writer: &mut Writer) {
        writer.align(self.alignment());
        self.encode_as(kind::EXPERIMENTAL, writer);
    }
}
