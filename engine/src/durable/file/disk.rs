//! The few file operations that an outbox consists of, so that tests can stop between any two.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::node::files::{FileProblem, Folder, SafeFolder, cannot};

/// A folder of files, as far as an outbox needs one.
pub(super) trait Disk {
    /// An open file.
    type File;

    /// The names in the folder, in any order.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Opens a file that exists, and its length.
    fn open(&self, name: &str) -> Result<(Self::File, u64), FileProblem>;
    /// Makes a file that must not exist.
    fn create(&self, name: &str) -> Result<Self::File, FileProblem>;
    fn read(&self, file: &Self::File, at: u64, out: &mut [u8]) -> io::Result<()>;
    fn write(&self, file: &Self::File, at: u64, bytes: &[u8]) -> io::Result<()>;
    fn truncate(&self, file: &Self::File, len: u64) -> io::Result<()>;
    /// What was written survives a loss of power when this returns.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// So do the names.
    fn sync_names(&self) -> io::Result<()>;
    /// What tells this boot of the machine from others, if the system says it.
    fn boot(&self) -> Option<Vec<u8>>;
}

const LOCK: &str = "lock";
/// 36 characters, drawn by the kernel when it starts.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A folder of the system, locked against other processes until this is dropped.
#[derive(Debug)]
pub(super) struct LockedFolder {
    folder: SafeFolder,
    _lock: File,
}

impl LockedFolder {
    /// Opens a folder, or makes it. `None`: another process has it.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, FileProblem> {
        let folder = SafeFolder::open(path, Folder::MayBeMade)?;
        let mut options = OpenOptions::new();
        let (lock, _) = folder.open_file(LOCK, options.read(true).write(true).create(true))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { folder, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(cause)) => Err(cannot("lock it")(cause)),
        }
    }
}

impl Disk for LockedFolder {
    type File = File;

    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(self.folder.at("."))?;
        names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, name: &str) -> Result<(File, u64), FileProblem> {
        let (file, metadata) =
            self.folder.open_file(name, OpenOptions::new().read(true).write(true))?;
        Ok((file, metadata.len()))
    }

    fn create(&self, name: &str) -> Result<File, FileProblem> {
        let mut options = OpenOptions::new();
        let (file, _) =
            self.folder.open_file(name, options.read(true).write(true).create_new(true))?;
        Ok(file)
    }

    fn read(&self, file: &File, at: u64, out: &mut [u8]) -> io::Result<()> {
        file.read_exact_at(out, at)
    }

    fn write(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder.at(from), self.folder.at(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.at(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.folder.sync()
    }

    fn boot(&self) -> Option<Vec<u8>> {
        fs::read(BOOT).ok().filter(|id| !id.is_empty() && id.len() <= 64)
    }
}
