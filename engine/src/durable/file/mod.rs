//! An outbox in files: append-only segments in a folder of its own.
//!
//! Records, and the news that records are done, are gathered and written as one frame by
//! [`Outbox::sync`], which flushes once however many there are. The last segment grows; when it is
//! long enough the next is begun, and a segment is deleted once everything in it and before it is
//! done. When more than half of all is done and cannot go, because of older records that are not,
//! those are moved to the end, a segment's in a sync: a record that is never done keeps no more
//! than its own room.
//!
//! At start the segments are read and checked. The last frame may be torn by a crash: it was not
//! flushed, so nothing in it was safe, and it is cut off. A frame that is damaged while another
//! one follows was flushed once, and a segment that is missing was there: then the outbox refuses
//! to start, and says where, rather than forget records that it promised to keep. (Damage to the
//! last frame, after it was flushed, cannot be told from a torn one.)
//!
//! An outbox that need not survive a loss of power does not flush its frames. After a restart of
//! the machine (`boot`) the last segment is believed up to the first frame that is damaged, and
//! numbers that may have been in the rest are not used again.

mod boot;
mod disk;
#[cfg(test)]
mod fake;
mod frame;
mod log;
#[cfg(test)]
mod tests;

use core::fmt;
use std::path::{Path, PathBuf};

use self::disk::LockedFolder;
use self::log::{Log, Problem};
use super::message::OutboxId;
use super::outbox::{Outbox, OutboxError};
use crate::limits::OUTBOX_BYTES_RANGE;
use crate::node::files::{FileError, FileKind};

/// What the records of an outbox survive once they are safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survives {
    /// A loss of power: each batch is flushed to the disk.
    PowerLoss,
    /// The end of the process, however sudden: batches are written and not flushed, but for a
    /// segment, a sixteenth of the outbox, when it is full.
    ///
    /// A loss of power then takes safe records of the last segment with it: those that were not
    /// delivered never are. It takes no more than that: when the outbox is opened in another boot of
    /// the machine, it leaves out all the numbers that the lost records may have had, so that no new
    /// record comes under a key that the receiver knows; and those of which it forgot that they are
    /// done are sent again under the keys they had, with no further effect. Records that were moved
    /// may be lost as well, whatever their age.
    ProcessEnd,
}

/// How an outbox is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutboxOptions {
    /// Bytes that its files may have, 64 KiB to 4 GiB, brought into that range if they are not;
    /// heads of segments, 52 bytes each, come on top. An eighth is kept free for moving records.
    pub bytes_max: u64,
    /// What records survive.
    pub survives: Survives,
}

impl Default for OutboxOptions {
    /// 64 MiB, and a loss of power.
    fn default() -> Self {
        Self { bytes_max: 64 << 20, survives: Survives::PowerLoss }
    }
}

/// An [`Outbox`] in a folder, for one process at a time.
#[derive(Debug)]
pub struct FileOutbox(Log<LockedFolder>);

impl FileOutbox {
    /// Opens the outbox in `folder`, or makes one there. The folder must be ours alone (0700), and
    /// so must its files.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed but what a crash had left half-written.
    pub fn open(folder: impl AsRef<Path>, options: OutboxOptions) -> Result<Self, OpenError> {
        let folder = folder.as_ref();
        let (least, most) = (*OUTBOX_BYTES_RANGE.start(), *OUTBOX_BYTES_RANGE.end());
        let options = OutboxOptions { bytes_max: options.bytes_max.clamp(least, most), ..options };
        let of_file = |file: &str, problem| {
            OpenError::File(FileError::new(FileKind::Outbox, folder.join(file), problem))
        };
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| OpenError::NoRandomness)?;
        let disk = LockedFolder::open(folder)
            .map_err(|problem| of_file("lock", problem))?
            .ok_or_else(|| OpenError::InUse(folder.to_owned()))?;
        let opened = Log::open(disk, OutboxId(id), options).map_err(|problem| match problem {
            Problem::Corrupt { file, offset, what } => {
                OpenError::Corrupt { file: folder.join(file), offset, what }
            }
            Problem::File(file, problem) => of_file(&file, problem),
        });
        opened.map(Self)
    }
}

impl Outbox for FileOutbox {
    fn id(&self) -> OutboxId {
        self.0.id()
    }

    fn append(&mut self, record: &[u8]) -> Result<u64, OutboxError> {
        self.0.append(record)
    }

    fn done(&mut self, record: u64) -> Result<bool, OutboxError> {
        self.0.done(record)
    }

    fn sync(&mut self) -> Result<(), OutboxError> {
        self.0.sync()
    }

    fn read(&self, record: u64, out: &mut Vec<u8>) -> Result<bool, OutboxError> {
        self.0.read(record, out)
    }

    fn next_unfinished(&self, from: u64) -> Option<u64> {
        self.0.next_unfinished(from)
    }

    fn low(&self) -> u64 {
        self.0.low()
    }

    fn end(&self) -> u64 {
        self.0.end()
    }
}

/// Why an outbox was not opened.
#[derive(Debug)]
pub enum OpenError {
    /// Something in it is not as it was written.
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there, as in "is damaged: a frame is missing".
        what: &'static str,
    },
    /// A file is unsafe, or out of reach.
    File(FileError),
    /// Another process has it open.
    InUse(PathBuf),
    /// The operating system gives no random bytes.
    NoRandomness,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { file, offset, what } => write!(
                f,
                "outbox file '{}' is damaged at byte {offset}: {what}; restore the folder from a \
                 copy, or move it away and accept that its records are lost",
                file.to_string_lossy().escape_debug()
            ),
            Self::File(error) => error.fmt(f),
            Self::InUse(folder) => write!(
                f,
                "outbox '{}' is open in another process: end that one first",
                folder.to_string_lossy().escape_debug()
            ),
            Self::NoRandomness => write!(f, "the operating system gives no random bytes"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(error) => Some(error),
            _ => None,
        }
    }
}
