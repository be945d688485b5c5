//! What a completed handshake hands over.

use super::identity::{BootId, PeerText, PublicKey, ResetToken};
use super::keys::SessionSecrets;
use super::offer::Mode;
use super::parameters::Parameters;
use crate::protocol::crypto::Suite;

/// Which side of a session we are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// We opened it.
    Initiator,
    /// The peer opened it.
    Responder,
}

/// A session's start: everything that both sides now agree on.
#[derive(Debug)]
pub struct Established {
    /// Its id, never 0.
    pub session: u64,
    /// Which side we are.
    pub role: Role,
    /// Who the peer is. For an initiator that did not know whom it asked, whom it found: then
    /// nothing may be trusted to the peer before the key has been compared.
    pub peer: PublicKey,
    /// Which of the peer's lives this is.
    pub peer_boot: BootId,
    /// What the peer calls itself; an initiator is not told.
    pub peer_name: PeerText,
    /// What the peer says it is for; an initiator is not told.
    pub peer_role: PeerText,
    /// The packet cipher.
    pub suite: Suite,
    /// How packets are protected.
    pub mode: Mode,
    /// What the peer is ready for.
    pub peer_parameters: Parameters,
    /// Where the packet keys come from.
    pub secrets: SessionSecrets,
    /// What the responder will answer in a stateless reset of this session: an initiator compares
    /// with it, a responder could compute it from its identity.
    pub reset_token: ResetToken,
}
