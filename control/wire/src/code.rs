//! Numbers with names: status values, reasons, triggers.

/// Defines a newtype for a code point field: every value is representable, those with a name have a
/// constant, and [`Display`](std::fmt::Display) prints the name or else the number.
macro_rules! code {
    (
        $(#[$doc:meta])*
        $name:ident($int:ty) {
            $($(#[doc = $text:literal])+ $code:ident = $value:literal as $label:literal,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize,
        )]
        pub struct $name(pub $int);

        impl $name {
            $($(#[doc = $text])+ pub const $code: Self = Self($value);)+

            /// The registered name, if this value has one here.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($label),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => write!(f, "{}", self.0),
                }
            }
        }
    };
}

/// Defines a newtype for a field of flags: every bit is kept, known ones have a constant.
macro_rules! flags {
    (
        $(#[$doc:meta])*
        $name:ident($int:ty) { $($(#[doc = $text:literal])+ $flag:ident = $value:literal,)+ }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
        pub struct $name(pub $int);

        impl $name {
            $($(#[doc = $text])+ pub const $flag: Self = Self($value);)+

            /// The flags of both.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Whether all of `other` are set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
        }
    };
}

pub(crate) use {code, flags};
