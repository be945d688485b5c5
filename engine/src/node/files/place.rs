//! A file's place: a folder that was judged, and a name in it.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::error::FileProblem;
use super::folder::{Folder, SafeFolder, cannot, parent_of};
use crate::limits::DRAFTS_MAX;

/// A name in a folder whose rights and owner were found good.
#[derive(Debug)]
pub(super) struct Place {
    folder: SafeFolder,
    name: OsString,
}

impl Place {
    /// Opens and judges the folder of `path`. Links on the way to it are followed.
    pub(super) fn open(path: &Path, folder: Folder) -> Result<Self, FileProblem> {
        let name = path.file_name().ok_or(FileProblem::NotAFile)?.to_owned();
        Ok(Self { folder: SafeFolder::open(parent_of(path), folder)?, name })
    }

    /// [`open`](Self::open), in the eyes of `user`.
    #[cfg(test)]
    pub(super) fn open_as(user: u32, path: &Path, folder: Folder) -> Result<Self, FileProblem> {
        let name = path.file_name().ok_or(FileProblem::NotAFile)?.to_owned();
        Ok(Self { folder: SafeFolder::open_as(user, parent_of(path), folder)?, name })
    }

    /// Reads the file if it is good and has at most `len_max` bytes.
    pub(super) fn read(&self, len_max: usize) -> Result<Zeroizing<Vec<u8>>, FileProblem> {
        let (file, metadata) = self.folder.open_file(&self.name, OpenOptions::new().read(true))?;
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
        fs::hard_link(&draft.path, self.folder.at(&self.name)).map_err(|cause| {
            match cause.kind() {
                io::ErrorKind::AlreadyExists => FileProblem::Exists,
                _ => cannot("move it into place")(cause),
            }
        })?;
        drop(draft);
        self.folder.sync().map_err(cannot("flush its folder"))
    }

    /// Writes the file, in place of one that may be there.
    pub(super) fn replace(&self, text: &[u8]) -> Result<(), FileProblem> {
        let draft = self.draft(text)?;
        fs::rename(&draft.path, self.folder.at(&self.name))
            .map_err(cannot("move it into place"))?;
        draft.keep();
        self.folder.sync().map_err(cannot("flush its folder"))
    }

    /// Writes and flushes `text` under a name that nobody else uses.
    fn draft(&self, text: &[u8]) -> Result<Draft, FileProblem> {
        for _ in 0..DRAFTS_MAX {
            let count = DRAFTS.fetch_add(1, Ordering::Relaxed);
            let path = self.folder.at(self.draft_name(count));
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
            fs::write(place.folder.at(place.draft_name(count)), "old").expect("a folder of ours");
        }
        place.create(b"new").expect("takes another number");
        assert_eq!(*place.read(3).expect("a safe file"), b"new");
        let left = fs::read_dir(path.parent().expect("is in a folder")).expect("a folder").count();
        assert_eq!(u64::try_from(left), Ok(taken + 1), "what is not ours is not deleted");
    }
}
