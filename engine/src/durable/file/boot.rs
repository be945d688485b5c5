//! Whether the machine restarted since an outbox was written without flushing.
//!
//! While an outbox is open for [`Survives::ProcessEnd`], a file in its folder says in which boot of
//! the machine that is. It is on the disk before anything is written unflushed, and goes when the
//! outbox is opened for a loss of power. Whoever finds it in another boot knows that what was
//! written last may be gone.

use std::io;

use super::Survives;
use super::disk::Disk;
use crate::node::files::{FileProblem, cannot};

/// The file, and what it is called until it is whole: a draft, which the next start removes.
const NAME: &str = "boot";
const DRAFT_NAME: &str = "boot.new";

/// Whether something was written without flushing before the machine restarted. If the system does
/// not say which boot this is, it may have.
pub(super) fn has_restarted(disk: &impl Disk) -> Result<bool, FileProblem> {
    Ok(noted(disk)?.is_some_and(|noted| disk.boot().is_none_or(|boot| noted != boot)))
}

/// What the file says.
fn noted<D: Disk>(disk: &D) -> Result<Option<Vec<u8>>, FileProblem> {
    let (file, len) = match disk.open(NAME) {
        Err(FileProblem::Missing) => return Ok(None),
        opened => opened?,
    };
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(64)];
    disk.read(&file, 0, &mut bytes).map_err(cannot("read it"))?;
    Ok(Some(bytes))
}

/// Notes that everything is on the disk, and what is written from here on will, or will not, be
/// flushed.
pub(super) fn note(disk: &impl Disk, survives: Survives) -> Result<(), FileProblem> {
    let noted = noted(disk)?;
    let change = || match survives {
        Survives::PowerLoss if noted.is_some() => disk.remove(NAME),
        Survives::ProcessEnd if noted.is_none() || noted != disk.boot() => replace(disk),
        _ => Ok(()),
    };
    change().and_then(|()| disk.sync_names()).map_err(cannot("note the boot of the machine"))
}

fn replace(disk: &impl Disk) -> io::Result<()> {
    let file = disk.create(DRAFT_NAME).map_err(|problem| match problem {
        FileProblem::Io { cause, .. } => cause,
        other => io::Error::other(format!("{other:?}")),
    })?;
    disk.write(&file, 0, &disk.boot().unwrap_or_default())?;
    disk.sync(&file)?;
    disk.rename(DRAFT_NAME, NAME)
}
