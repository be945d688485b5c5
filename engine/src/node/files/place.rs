//! A file's place: a folder that was judged, and a name in it.
//!
//! Judging a path and then opening it are two looks at something that may change in between. Here
//! there is one look: the folder is opened first and judged through its handle, and the file is
//! reached through that same handle and judged through its own. The standard library has no calls
//! relative to a handle, but `/proc/thread-self/fd/<n>/<name>` means the same to the kernel.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::error::FileProblem;
use crate::limits::DRAFTS_MAX;

/// The system administrator, whose folders are trusted.
const ROOT: u32 = 0;
/// Rights of everybody but the owner.
const OTHERS: u32 = 0o077;
/// Rights to write of everybody but the owner.
const OTHERS_WRITE: u32 = 0o022;

/// What to do about a folder that does not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Folder {
    /// Make it, 0700.
    MayBeMade,
    /// Say that the file is missing.
    MustExist,
}

/// A name in a folder whose rights and owner were found good.
#[derive(Debug)]
pub(super) struct Place {
    /// Keeps the judged folder, whatever its path comes to mean.
    folder: File,
    name: OsString,
    /// The user that we act as.
    user: u32,
}

impl Place {
    /// Opens and judges the folder of `path`. Links on the way to it are followed.
    pub(super) fn open(path: &Path, folder: Folder) -> Result<Self, FileProblem> {
        Self::open_as(effective_user()?, path, folder)
    }

    /// [`open`](Self::open), in the eyes of `user`.
    pub(super) fn open_as(user: u32, path: &Path, folder: Folder) -> Result<Self, FileProblem> {
        let name = path.file_name().ok_or(FileProblem::NotAFile)?.to_owned();
        let parent = parent_of(path);
        if folder == Folder::MayBeMade {
            make_folder(parent).map_err(cannot("make its folder"))?;
        }
        let folder = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(parent)
            .map_err(missing_or("open its folder"))?;
        judge_folder(&folder.metadata().map_err(cannot("examine its folder"))?, user)?;
        Ok(Self { folder, name, user })
    }

    /// Reads the file if it is good and has at most `len_max` bytes.
    pub(super) fn read(&self, len_max: usize) -> Result<Zeroizing<Vec<u8>>, FileProblem> {
        let file = OpenOptions::new()
            .read(true)
            // A pipe must not make us wait, a terminal must not become ours.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(self.at(&self.name))
            .map_err(|cause| match cause.raw_os_error() {
                Some(libc::ELOOP) => FileProblem::SymbolicLink,
                // A socket, or a pipe or device without its other end.
                Some(libc::ENXIO) => FileProblem::NotAFile,
                _ => missing_or("open it")(cause),
            })?;
        let metadata = file.metadata().map_err(cannot("examine it"))?;
        judge_file(&metadata, self.user)?;
        let len = match usize::try_from(metadata.len()) {
            Ok(len) if len <= len_max => len,
            _ => return Err(FileProblem::TooLong { len: metadata.len(), len_max }),
        };
        // With room to spare the vector never grows, so that no copy of a secret is left behind.
        let mut text = Zeroizing::new(Vec::with_capacity(len + READ_SLACK));
        file.take(metadata.len()).read_to_end(&mut text).map_err(cannot("read it"))?;
        Ok(text)
    }

    /// Writes a file that must not exist yet.
    pub(super) fn create(&self, text: &[u8]) -> Result<(), FileProblem> {
        let draft = self.draft(text)?;
        // A move would replace what is there; a second name is refused if there is one.
        fs::hard_link(&draft.path, self.at(&self.name)).map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => FileProblem::Exists,
            _ => cannot("move it into place")(cause),
        })?;
        drop(draft);
        self.folder.sync_all().map_err(cannot("flush its folder"))
    }

    /// Writes the file, in place of one that may be there.
    pub(super) fn replace(&self, text: &[u8]) -> Result<(), FileProblem> {
        let draft = self.draft(text)?;
        fs::rename(&draft.path, self.at(&self.name)).map_err(cannot("move it into place"))?;
        draft.keep();
        self.folder.sync_all().map_err(cannot("flush its folder"))
    }

    /// Writes and flushes `text` under a name that nobody else uses.
    fn draft(&self, text: &[u8]) -> Result<Draft, FileProblem> {
        for _ in 0..DRAFTS_MAX {
            let count = DRAFTS.fetch_add(1, Ordering::Relaxed);
            let path = self.at(&self.draft_name(count));
            let made = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path);
            match made {
                Ok(mut file) => {
                    let draft = Draft { path, is_kept: false };
                    file.write_all(text).map_err(cannot("write it"))?;
                    file.sync_all().map_err(cannot("flush it"))?;
                    return Ok(draft);
                }
                // Left by a process that had our id and was killed.
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(cannot("write it")(cause)),
            }
        }
        let cause = io::ErrorKind::AlreadyExists.into();
        Err(FileProblem::Io {
            action: "write it before old .new files beside it are deleted",
            cause,
        })
    }

    fn draft_name(&self, count: u64) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(format!(".{}.{count}.new", process::id()));
        name
    }

    fn at(&self, name: &OsStr) -> PathBuf {
        Path::new("/proc/thread-self/fd").join(self.folder.as_raw_fd().to_string()).join(name)
    }
}

/// Numbers the drafts of this process.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

/// Room that `read_to_end` wants to see before it asks for the end of the file.
const READ_SLACK: usize = 64;

/// A file that is written but not yet in place; deleted when dropped.
struct Draft {
    path: PathBuf,
    is_kept: bool,
}

impl Draft {
    /// It was moved: the name is not ours any more.
    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept {
            // Nothing depends on it: its name is never used again.
            let _ = fs::remove_file(&self.path);
        }
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

fn cannot(action: &'static str) -> impl Fn(io::Error) -> FileProblem {
    move |cause| FileProblem::Io { action, cause }
}

fn missing_or(action: &'static str) -> impl Fn(io::Error) -> FileProblem {
    move |cause| match cause.kind() {
        io::ErrorKind::NotFound => FileProblem::Missing,
        _ => cannot(action)(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_over_drafts_stop_nobody() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("made/key");
        let place = Place::open(&path, Folder::MayBeMade).expect("a folder made by us");
        // Other tests may take some of these numbers first, hardly all.
        let next = DRAFTS.load(Ordering::Relaxed);
        let taken = u64::from(DRAFTS_MAX) - 1;
        for count in next..next + taken {
            fs::write(place.at(&place.draft_name(count)), "old").expect("a folder of ours");
        }
        place.create(b"new").expect("takes another number");
        assert_eq!(*place.read(3).expect("a safe file"), b"new");
        let left = fs::read_dir(path.parent().expect("is in a folder")).expect("a folder").count();
        assert_eq!(u64::try_from(left), Ok(taken + 1), "what is not ours is not deleted");
    }
}
