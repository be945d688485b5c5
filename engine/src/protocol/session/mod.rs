//! One authenticated relation with a peer: bootstrap, keys, replay window, recovery, liveness.
//!
//! ```text
//! Identity ─► Initiator ─┐ Hello, Cookie,   ┌─► Established ─► Protection: seal, open, ratchet
//! Trust ────► Responder ─┘ Initiate, Accept ┘
//! ```
//!
//! A handshake between two [`Identity`]s ends in an [`Established`] on either side; a
//! [`Protection`] made of it is what packets pass through from then on. Whom to talk to is
//! [`Trust`]'s matter. All of it is pure: time and randomness come in as arguments.

mod established;
mod handshake;
mod identity;
mod keys;
mod live;
mod offer;
mod parameters;
mod paths;
mod protection;
pub mod recovery;
mod replay;
mod trust;

pub use established::{Established, Role};
pub use handshake::{
    HandshakeError, Initiated, Initiator, InitiatorConfig, LastHeard, Notice, Progress, Reason,
    Refusal, Responder, ResponderConfig,
};
pub use identity::{BootId, Identity, ParseKeyError, PeerText, PublicKey, ResetToken};
pub use keys::SessionSecrets;
pub use live::{HeadTemplate, Outgoing, Plan, Session, SessionConfig};
pub use offer::{Choice, Mode, NoneInCommon, Offer, OfferBits};
pub use parameters::{PARAMETERS_LEN_MAX, Parameters, ParametersInvalid};
pub use paths::{ChallengeData, Paths};
pub use protection::{KeyHealth, Opened, Protection};
pub use replay::ReplayWindow;
pub use trust::{PeerRecord, Prefix, Standing, Trust, TrustPolicy};

// What this room's interface speaks of, so that its users need not know the ciphers' room.
pub use super::crypto::{Random, Suite};

#[cfg(test)]
mod fixture;

/// Whether the session that we initiated survives when both sides opened one at the same time:
/// the one whose initiator has the smaller static key does (PROTOCOL 3.23).
pub fn survives(own: &PublicKey, peer: &PublicKey) -> bool {
    own < peer
}
