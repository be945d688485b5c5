//! Why a responder does not want a session.

use core::fmt;

use crate::time::Duration;

/// A refusal that an initiator was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Our name belongs to another key over there.
    Denied {
        /// When it makes sense to ask again.
        retry_after: Duration,
    },
    /// It says no.
    Rejected {
        /// Why.
        reason: Reason,
        /// When it makes sense to ask again.
        retry_after: Duration,
    },
}

/// Why a session was rejected; the number is the wire's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Reason {
    /// Not said, or not known to this version.
    Unspecified = 0,
    /// An operator rejected the key.
    KeyRejected = 1,
    /// No suite that both offer.
    NoCommonSuite = 2,
    /// No mode that both offer.
    NoCommonMode = 3,
    /// No head kind that both offer.
    NoCommonHead = 4,
    /// Only one side has a pre-shared key.
    PskMismatch = 5,
}

impl Reason {
    pub(super) const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::KeyRejected,
            2 => Self::NoCommonSuite,
            3 => Self::NoCommonMode,
            4 => Self::NoCommonHead,
            5 => Self::PskMismatch,
            _ => Self::Unspecified,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Denied { .. } => "our name belongs to another key over there",
            Self::Rejected { reason, .. } => match reason {
                Reason::Unspecified => "the peer refused",
                Reason::KeyRejected => "the peer rejected our key",
                Reason::NoCommonSuite => "no cipher suite in common",
                Reason::NoCommonMode => "no protection mode in common",
                Reason::NoCommonHead => "no head kind in common",
                Reason::PskMismatch => "only one side has a pre-shared key",
            },
        })
    }
}
