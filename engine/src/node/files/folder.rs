//! A folder that was judged, and what lies in it reached through the same handle.
//!
//! Judging a path and then opening it are two looks at something that may change in between. Here
//! there is one look: the folder is opened first and judged through its handle, and a file is
//! reached through that same handle and judged through its own. The standard library has no calls
//! relative to a handle, but `/proc/thread-self/fd/<n>/<name>` means the same to the kernel.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::FileProblem;

/// The system administrator, whose folders are trusted.
const ROOT: u32 = 0;
/// Rights of everybody but the owner.
const OTHERS: u32 = 0o077;
/// Rights to write of everybody but the owner.
const OTHERS_WRITE: u32 = 0o022;

/// What to do about a folder that does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Folder {
    /// Make it, 0700.
    MayBeMade,
    /// Say that the file is missing.
    MustExist,
}

/// A folder whose rights and owner were found good.
#[derive(Debug)]
pub(crate) struct SafeFolder {
    /// Keeps the judged folder, whatever its path comes to mean.
    handle: File,
    /// The user that we act as.
    user: u32,
}

impl SafeFolder {
    /// Opens and judges a folder. Links on the way to it are followed.
    pub(crate) fn open(path: &Path, folder: Folder) -> Result<Self, FileProblem> {
        Self::open_as(effective_user()?, path, folder)
    }

    /// [`open`](Self::open), in the eyes of `user`.
    pub(super) fn open_as(user: u32, path: &Path, folder: Folder) -> Result<Self, FileProblem> {
        if folder == Folder::MayBeMade {
            make_folder(path).map_err(cannot("make its folder"))?;
        }
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(path)
            .map_err(missing_or("open its folder"))?;
        judge_folder(&handle.metadata().map_err(cannot("examine its folder"))?, user)?;
        Ok(Self { handle, user })
    }

    /// Opens a file in it, as `options` say, if it is good.
    pub(crate) fn open_file(
        &self,
        name: impl AsRef<OsStr>,
        options: &mut OpenOptions,
    ) -> Result<(File, Metadata), FileProblem> {
        let file = options
            // A pipe must not make us wait, a terminal must not become ours.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .mode(0o600)
            .open(self.at(name))
            .map_err(|cause| match cause.raw_os_error() {
                Some(libc::ELOOP) => FileProblem::SymbolicLink,
                // A socket, or a pipe or device without its other end.
                Some(libc::ENXIO) => FileProblem::NotAFile,
                _ => missing_or("open it")(cause),
            })?;
        let metadata = file.metadata().map_err(cannot("examine it"))?;
        judge_file(&metadata, self.user)?;
        Ok((file, metadata))
    }

    /// Makes the names in it as durable as its files.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    /// A path to a name in it, whatever the folder's own path comes to mean.
    pub(crate) fn at(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let handle = self.handle.as_raw_fd().to_string();
        Path::new("/proc/thread-self/fd").join(handle).join(name.as_ref())
    }
}

fn judge_folder(metadata: &Metadata, user: u32) -> Result<(), FileProblem> {
    let refused = match metadata.uid() {
        owner if owner == user => OTHERS,
        ROOT => OTHERS_WRITE,
        owner => return Err(FileProblem::FolderOwner(owner)),
    };
    let mode = metadata.mode() & 0o7777;
    if mode & refused == 0 { Ok(()) } else { Err(FileProblem::FolderMode(mode)) }
}

fn judge_file(metadata: &Metadata, user: u32) -> Result<(), FileProblem> {
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_file() {
        Err(FileProblem::NotAFile)
    } else if metadata.uid() != user {
        Err(FileProblem::Owner(metadata.uid()))
    } else if mode & OTHERS != 0 {
        Err(FileProblem::Mode(mode))
    } else {
        Ok(())
    }
}

/// Makes a folder and those above it that are missing, each 0700.
fn make_folder(path: &Path) -> io::Result<()> {
    let make = || DirBuilder::new().mode(0o700).create(path);
    let made = match make() {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && path.parent().is_some() => {
            make_folder(parent_of(path))?;
            make()
        }
        made => made,
    };
    match made {
        // What lies in it is only as durable as its own name.
        Ok(()) => File::open(parent_of(path))?.sync_all(),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(cause) => Err(cause),
    }
}

/// The folder that a path leads to a name in.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// The user whose rights the kernel asks for: the second number of the line `Uid:`.
fn effective_user() -> Result<u32, FileProblem> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(cannot("read /proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let user = line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok());
    user.ok_or_else(|| cannot("read /proc/self/status")(io::ErrorKind::InvalidData.into()))
}

pub(crate) fn cannot(action: &'static str) -> impl Fn(io::Error) -> FileProblem {
    move |cause| FileProblem::Io { action, cause }
}

pub(super) fn missing_or(action: &'static str) -> impl Fn(io::Error) -> FileProblem {
    move |cause| match cause.kind() {
        io::ErrorKind::NotFound => FileProblem::Missing,
        _ => cannot(action)(cause),
    }
}
