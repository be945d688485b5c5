//! A disk in memory that stops at a chosen step and then shows what a crash may leave.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::disk::Disk;
use crate::node::files::{FileProblem, cannot};

#[derive(Clone, Default, Debug)]
struct FakeFile {
    content: Vec<u8>,
    flushed: Vec<u8>,
}

#[derive(Clone, Default, Debug)]
struct World {
    files: Vec<FakeFile>,
    names: BTreeMap<String, usize>,
    flushed_names: BTreeMap<String, usize>,
    steps: u64,
    /// Losses of power so far.
    boot: u64,
    /// The step that does not end.
    stops_at: Option<u64>,
}

/// What a crash leaves of what was not flushed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Left {
    All,
    Nothing,
    /// The right length, with zeros from the middle on.
    Zeros,
    /// The first half.
    Half,
    /// The right length, with zeros up to the middle.
    Hole,
}

/// Handles share one disk.
#[derive(Clone, Default, Debug)]
pub(super) struct FakeDisk(Rc<RefCell<World>>);

impl FakeDisk {
    /// The disk after a crash: what is `left` of contents, and whether names that were not
    /// flushed are.
    pub(super) fn after_crash(&self, left: Left, keeps_names: bool) -> Self {
        let mut world = self.0.borrow().clone();
        for file in &mut world.files {
            let flushed = file.flushed.len();
            let new = file.content.len().saturating_sub(flushed);
            match left {
                Left::All => {}
                Left::Nothing => file.content = file.flushed.clone(),
                Left::Zeros => file.content[flushed.min(flushed + new)..][new / 2..].fill(0),
                Left::Hole => file.content[flushed.min(flushed + new)..][..new / 2].fill(0),
                Left::Half => file.content.truncate(flushed + new / 2),
            }
            file.flushed = file.content.clone();
        }
        if !keeps_names {
            world.names = world.flushed_names.clone();
        }
        world.flushed_names = world.names.clone();
        world.stops_at = None;
        world.boot += 1;
        Self(Rc::new(RefCell::new(world)))
    }

    /// A disk with one file changed.
    pub(super) fn with_file(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let disk = self.after_crash(Left::All, true);
        let file = disk.0.borrow().names[name];
        change(&mut disk.0.borrow_mut().files[file].content);
        disk
    }

    pub(super) fn without_file(&self, name: &str) -> Self {
        let disk = self.after_crash(Left::All, true);
        disk.0.borrow_mut().names.remove(name);
        disk
    }

    pub(super) fn stop_at(&self, step: u64) {
        let mut world = self.0.borrow_mut();
        world.stops_at = Some(world.steps + step);
    }

    pub(super) fn has_stopped(&self) -> bool {
        let world = self.0.borrow();
        world.stops_at.is_some_and(|at| world.steps >= at)
    }

    /// Bytes of all files that have a name.
    pub(super) fn used(&self) -> u64 {
        let world = self.0.borrow();
        world.names.values().map(|file| world.files[*file].content.len() as u64).sum()
    }

    pub(super) fn file_names(&self) -> Vec<String> {
        self.0.borrow().names.keys().cloned().collect()
    }

    pub(super) fn len(&self, name: &str) -> usize {
        let world = self.0.borrow();
        world.files[world.names[name]].content.len()
    }

    fn step(&self) -> io::Result<()> {
        if self.has_stopped() {
            return Err(io::Error::other("the test stops here"));
        }
        self.0.borrow_mut().steps += 1;
        Ok(())
    }
}

impl Disk for FakeDisk {
    type File = usize;

    fn names(&self) -> io::Result<Vec<String>> {
        self.step()?;
        Ok(self.file_names())
    }

    fn open(&self, name: &str) -> Result<(usize, u64), FileProblem> {
        self.step().map_err(cannot("open it"))?;
        let world = self.0.borrow();
        let file = *world.names.get(name).ok_or(FileProblem::Missing)?;
        Ok((file, world.files[file].content.len() as u64))
    }

    fn create(&self, name: &str) -> Result<usize, FileProblem> {
        self.step().map_err(cannot("open it"))?;
        let mut world = self.0.borrow_mut();
        let file = world.files.len();
        world.files.push(FakeFile::default());
        let old = world.names.insert(name.to_owned(), file);
        assert_eq!(old, None, "{name} exists");
        Ok(file)
    }

    fn read(&self, file: &usize, at: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(at).expect("small files");
        out.copy_from_slice(&self.0.borrow().files[*file].content[at..at + out.len()]);
        Ok(())
    }

    fn write(&self, file: &usize, at: u64, bytes: &[u8]) -> io::Result<()> {
        let stopped = self.step();
        let mut world = self.0.borrow_mut();
        let content = &mut world.files[*file].content;
        let is_torn = stopped.is_err() && content.len() as u64 == at;
        let written = if is_torn { bytes.len() / 2 } else { bytes.len() };
        if stopped.is_ok() || is_torn {
            content.truncate(usize::try_from(at).expect("small files"));
            content.extend_from_slice(&bytes[..written]);
        }
        stopped
    }

    fn truncate(&self, file: &usize, len: u64) -> io::Result<()> {
        self.step()?;
        let len = usize::try_from(len).expect("small files");
        self.0.borrow_mut().files[*file].content.truncate(len);
        Ok(())
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        self.step()?;
        let file = &mut self.0.borrow_mut().files[*file];
        file.flushed = file.content.clone();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        let mut world = self.0.borrow_mut();
        let file = world.names.remove(from).expect("it was made");
        world.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step()?;
        self.0.borrow_mut().names.remove(name).expect("it is there");
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.step()?;
        let mut world = self.0.borrow_mut();
        world.flushed_names = world.names.clone();
        Ok(())
    }

    fn boot(&self) -> Option<Vec<u8>> {
        Some(self.0.borrow().boot.to_le_bytes().to_vec())
    }
}
