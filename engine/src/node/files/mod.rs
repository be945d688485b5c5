//! Identities, pre-shared keys and trust, kept in files.
//!
//! Whoever reads an identity file *is* that node, and whoever writes a trust file decides whom it
//! talks to. So we look at a file before we believe it, and refuse rather than repair: a key that
//! others could read has to be thought of as known, and only its owner can decide what follows.
//!
//! **What is refused.** A file that others may read or write (looser than 0600), that belongs to
//! another user, that is a symbolic link or anything but a regular file, or that is larger than
//! its kind can be. The same holds for the folder it lies in, since whoever may write there may
//! exchange the file: a folder of ours has to be 0700; one of the system administrator's (`/etc`)
//! must not be writable by others; any other is refused. An access control list that lets others
//! in shows in the group's bits, so it counts as loose. Folders further up are not judged.
//!
//! **How it is written.** Beside the file under a name of its own, exclusively and 0600 from the
//! first moment; flushed; then moved into place in one step; then the folder is flushed. A reader
//! sees the old file or the new one, whole. What a crash leaves behind is a file
//! `.<name>.<process>.<n>.new`, which may be deleted. Missing folders are made, 0700.
//!
//! **What they hold.**
//!
//! ```text
//! identity         raet-identity-1 <the secret key: 64 lower-case hex digits>
//! pre-shared key   <64 lower-case hex digits>
//! trust            raet-trust-1
//!                  accepted <public key: 64 hex digits> "its name" "its role"
//!                  rejected …
//! ```
//!
//! An identity says what it is and a pre-shared key does not, so that neither is taken for the
//! other: an identity used as a pre-shared key would be given away. Such a key is made with
//! `(umask 077 && openssl rand -hex 32 > FILE)`. Every line ends with a newline; behind a key the
//! newline may be missing.

mod error;
mod folder;
mod place;
mod trust;

use std::path::Path;

use zeroize::Zeroizing;

use self::place::Place;
use crate::limits::KEY_FILE_LEN_MAX;
use crate::protocol::crypto::{KEY_LEN, Random};
use crate::protocol::session::Identity;

pub use error::{FileError, FileKind, FileProblem};
pub(crate) use folder::{Folder, SafeFolder, cannot};
pub use trust::TrustFile;

/// The file of an [`Identity`].
#[derive(Debug)]
pub struct IdentityFile;

impl IdentityFile {
    /// Reads an identity.
    ///
    /// # Errors
    /// [`FileError`]: the file is missing, unsafe or malformed.
    pub fn load(path: impl AsRef<Path>) -> Result<Identity, FileError> {
        let path = path.as_ref();
        Self::try_load(path).map_err(|problem| Self::error(path, problem))
    }

    /// Writes an identity into a file which must not exist yet.
    ///
    /// # Errors
    /// [`FileError`]: there is such a file, its folder is unsafe, or it cannot be written.
    pub fn create(path: impl AsRef<Path>, identity: &Identity) -> Result<(), FileError> {
        let path = path.as_ref();
        Self::try_create(path, identity).map_err(|problem| Self::error(path, problem))
    }

    /// Reads an identity, or makes one there if there is no such file. Of several who do so at
    /// once all get the same.
    ///
    /// # Errors
    /// As [`load`](Self::load) and [`create`](Self::create).
    pub fn load_or_create(
        path: impl AsRef<Path>,
        random: &mut Random,
    ) -> Result<Identity, FileError> {
        let path = path.as_ref();
        match Self::try_load(path) {
            Err(FileProblem::Missing) => Self::create_or_load(path, random),
            loaded => loaded,
        }
        .map_err(|problem| Self::error(path, problem))
    }

    fn create_or_load(path: &Path, random: &mut Random) -> Result<Identity, FileProblem> {
        let identity = Identity::generate(random);
        match Self::try_create(path, &identity) {
            Err(FileProblem::Exists) => Self::try_load(path),
            created => created.map(|()| identity),
        }
    }

    fn try_load(path: &Path) -> Result<Identity, FileProblem> {
        let text = Place::open(path, Folder::MustExist)?.read(KEY_FILE_LEN_MAX)?;
        parse_identity(&text).map(|secret| Identity::from_secret(&secret))
    }

    fn try_create(path: &Path, identity: &Identity) -> Result<(), FileProblem> {
        let text = format_identity(&identity.secret_bytes());
        Place::open(path, Folder::MayBeMade)?.create(&text)
    }

    fn error(path: &Path, problem: FileProblem) -> FileError {
        FileError { kind: FileKind::Identity, path: path.into(), problem }
    }
}

/// Reads a pre-shared key.
///
/// # Errors
/// [`FileError`]: the file is missing, unsafe or malformed.
pub fn load_psk(path: impl AsRef<Path>) -> Result<Zeroizing<[u8; KEY_LEN]>, FileError> {
    let path = path.as_ref();
    let load = || {
        let text = Place::open(path, Folder::MustExist)?.read(KEY_FILE_LEN_MAX)?;
        parse_key(line(&text)).ok_or(FileProblem::Malformed {
            line: 1,
            expected: "64 lower-case hex digits, not all zero",
        })
    };
    load().map_err(|problem| FileError { kind: FileKind::PreSharedKey, path: path.into(), problem })
}

const IDENTITY_TAG: &[u8] = b"raet-identity-1 ";

fn parse_identity(text: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>, FileProblem> {
    line(text).strip_prefix(IDENTITY_TAG).and_then(parse_key).ok_or(FileProblem::Malformed {
        line: 1,
        expected: "'raet-identity-1' and 64 lower-case hex digits, not all zero",
    })
}

fn format_identity(secret: &[u8; KEY_LEN]) -> Zeroizing<Vec<u8>> {
    // Taken at once: a vector that grows leaves a copy behind.
    let mut text = Zeroizing::new(Vec::with_capacity(IDENTITY_TAG.len() + 2 * KEY_LEN + 1));
    text.extend_from_slice(IDENTITY_TAG);
    for byte in secret {
        text.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    text.push(b'\n');
    text
}

fn line(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\n").unwrap_or(text)
}

/// A secret of 64 lower-case hex digits. All zeros is none: it is what a handshake without a
/// pre-shared key uses, and what a damaged disk returns.
fn parse_key(digits: &[u8]) -> Option<Zeroizing<[u8; KEY_LEN]>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if digits.len() != 2 * KEY_LEN {
        return None;
    }
    let mut key = Zeroizing::new([0; KEY_LEN]);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    let any = key.iter().fold(0, |any, byte| any | byte);
    (any != 0).then_some(key)
}

#[cfg(test)]
mod tests;
