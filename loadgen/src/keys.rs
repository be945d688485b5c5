//! Keys and trust from files; what makes a file unsafe is for the engine to judge.

use std::path::Path;

use raet::{Identity, Trust, TrustPolicy};

use crate::engine::Trouble;

/// The identity in a file, made there if there is none yet.
pub(crate) fn identity(path: &Path) -> Result<Identity, Trouble> {
    Err(Trouble::Arguments(format!("{}: not yet", path.display())))
}

/// The pre-shared key in a file.
pub(crate) fn psk(path: &Path) -> Result<[u8; 32], Trouble> {
    Err(Trouble::Arguments(format!("{}: not yet", path.display())))
}

/// Whom to trust, from a file.
pub(crate) fn trust(path: &Path, _policy: TrustPolicy) -> Result<Trust, Trouble> {
    Err(Trouble::Arguments(format!("{}: not yet", path.display())))
}
