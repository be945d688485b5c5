//! Keys and trust from files; what makes a file unsafe is for the engine to judge.

use std::path::Path;

use raet::node::files::{FileError, FileProblem, IdentityFile, TrustFile, load_psk};
use raet::{Identity, Trust, TrustPolicy};

use crate::engine::Trouble;

/// The identity in a file, made there if there is none yet.
///
/// # Errors
/// The file is unsafe, malformed, or cannot be written.
pub(crate) fn identity(path: &Path) -> Result<Identity, Trouble> {
    match IdentityFile::load(path) {
        Err(error) if matches!(error.problem(), FileProblem::Missing) => {
            let identity = Identity::random().map_err(|error| Trouble::starting(&error))?;
            IdentityFile::create(path, &identity).map_err(|error| bad(&error))?;
            Ok(identity)
        }
        loaded => loaded.map_err(|error| bad(&error)),
    }
}

/// The pre-shared key in a file.
///
/// # Errors
/// The file is missing, unsafe or malformed.
pub(crate) fn psk(path: &Path) -> Result<[u8; 32], Trouble> {
    load_psk(path).map(|key| *key).map_err(|error| bad(&error))
}

/// Whom to trust, from a file.
///
/// # Errors
/// The file is unsafe or malformed.
pub(crate) fn trust(path: &Path, policy: TrustPolicy) -> Result<Trust, Trouble> {
    TrustFile::load(path, policy).map_err(|error| bad(&error))
}

fn bad(error: &FileError) -> Trouble {
    Trouble::Arguments(error.to_string())
}
