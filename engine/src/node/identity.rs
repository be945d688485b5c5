//! New identities from the operating system's randomness.

use super::StartError;
use crate::protocol::crypto::Random;
use crate::protocol::session::Identity;

impl Identity {
    /// A new identity that nobody has had before.
    ///
    /// # Errors
    /// [`StartError::NoRandomness`].
    pub fn random() -> Result<Self, StartError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| StartError::NoRandomness)?;
        Ok(Self::generate(&mut Random::from_seed(seed)))
    }
}
