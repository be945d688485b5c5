//! What is wrong with a file, said so that an operator knows what to do.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::folder::parent_of;

/// Why a file was not read or written.
#[derive(Debug)]
pub struct FileError {
    pub(super) kind: FileKind,
    pub(super) path: PathBuf,
    pub(super) problem: FileProblem,
}

impl FileError {
    pub(crate) fn new(kind: FileKind, path: PathBuf, problem: FileProblem) -> Self {
        Self { kind, path, problem }
    }

    /// What the file was to hold.
    pub const fn kind(&self) -> FileKind {
        self.kind
    }

    /// The file, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    pub const fn problem(&self) -> &FileProblem {
        &self.problem
    }
}

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileKind {
    /// A node's secret key.
    Identity,
    /// Records that wait to be delivered.
    Outbox,
    /// A key that two nodes share.
    PreSharedKey,
    /// Whom a node talks to.
    Trust,
}

/// What is wrong with a file. Modes are permission bits, owners are user ids.
#[derive(Debug)]
pub enum FileProblem {
    /// There is one already, and it is not to be replaced.
    Exists,
    /// Others may use its folder: read it, if it is ours; write to it, if it is the system's.
    FolderMode(u32),
    /// Its folder belongs neither to this user nor to the system.
    FolderOwner(u32),
    /// The system says no.
    Io {
        /// What was tried, as in "cannot open it".
        action: &'static str,
        /// What the system says.
        cause: io::Error,
    },
    /// It does not hold what it should.
    Malformed {
        /// The first wrong line, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// There is no such file.
    Missing,
    /// Others may read or write it.
    Mode(u32),
    /// It is a folder, a device, a pipe or a socket; or the path does not end in a name.
    NotAFile,
    /// It belongs to another user.
    Owner(u32),
    /// It is a symbolic link.
    SymbolicLink,
    /// It has more bytes than its kind can have.
    TooLong {
        /// Its bytes.
        len: u64,
        /// How many it may have.
        len_max: usize,
    },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = Quoted(&self.path);
        let folder = Quoted(parent_of(&self.path));
        let kind = match self.kind {
            FileKind::Identity => "identity file",
            FileKind::Outbox => "outbox file",
            FileKind::PreSharedKey => "pre-shared key file",
            FileKind::Trust => "trust file",
        };
        write!(f, "{kind} {file} ")?;
        match &self.problem {
            FileProblem::Exists => {
                f.write_str("exists already: choose another name or move it away")
            }
            FileProblem::FolderMode(mode) => {
                write!(
                    f,
                    "lies in folder {folder}, which is open to others (mode {mode:04o}): move it \
                     to a folder of its own with mode 0700"
                )?;
                match mode & 0o022 {
                    0 => write!(f, ", or run chmod 700 {folder} if all in there is yours alone"),
                    // Who else writes there needs it as it is, `/tmp` above all.
                    _ => Ok(()),
                }
            }
            FileProblem::FolderOwner(owner) => write!(
                f,
                "lies in folder {folder}, which belongs to user {owner}: keep it in a folder of \
                 the user who runs this"
            ),
            FileProblem::Io { action, cause } => {
                write!(
                    f,
                    "is out of reach: cannot {action} ({cause}); check the path and its rights"
                )
            }
            FileProblem::Malformed { line, expected } => write!(
                f,
                "is malformed in line {line}: write {expected}, or restore it from a copy"
            ),
            FileProblem::Missing => f.write_str("does not exist: check the path or make it first"),
            FileProblem::Mode(mode) => {
                write!(f, "is open to others (mode {mode:04o}): run chmod 600 {file}")?;
                match self.kind {
                    FileKind::Outbox => Ok(()),
                    FileKind::Trust => f.write_str(" and check what it says"),
                    _ => f.write_str(", and make a new key if anybody may have read it"),
                }
            }
            FileProblem::NotAFile => f.write_str("is not a regular file: give the path of a file"),
            FileProblem::Owner(owner) => write!(
                f,
                "belongs to user {owner}: run as that user or give it to the user who runs this \
                 (chown)"
            ),
            FileProblem::SymbolicLink => {
                f.write_str("is a symbolic link: give the path of the file itself")
            }
            FileProblem::TooLong { len, len_max } => write!(
                f,
                "has {len} bytes where {len_max} are the most: check that it is the right file"
            ),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            FileProblem::Io { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

/// A path in single quotes, as a shell and a terminal can take it.
struct Quoted<'a>(&'a Path);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.to_string_lossy().escape_debug())
    }
}
