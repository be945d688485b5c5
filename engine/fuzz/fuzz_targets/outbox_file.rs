//! A file outbox beside a list of its records: records appended, done, synced and read, and the
//! process ended without warning, at times in the middle of a write.
//!
//! Four bytes are one step: what is done, 16 bits (a length, a place), and how. A write is torn
//! only where a crash can tear it: in the frame of the last sync, and not if that sync went on to
//! delete segments, since a frame is whole before that; so it is when old records are moved, in a
//! frame of their own. Its records and its news are then lost, and
//! nothing else. Any other byte that changes has to be noticed.

#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use raet::durable::{
    FileOutbox, OpenError, Outbox, OutboxError, OutboxId, OutboxOptions, Survives,
};
use tempfile::TempDir;

/// The smallest there is, so that it is often full.
const BYTES_MAX: u64 = 64 << 10;
const OPTIONS: OutboxOptions =
    OutboxOptions { bytes_max: BYTES_MAX, survives: Survives::ProcessEnd };
/// Bytes before the first frame of a segment.
const SEGMENT_HEAD_LEN: usize = 52;
/// No record that is this short is too long.
const RECORD_LEN_SURE: usize = 32_000;
const STEPS_MAX: usize = 256;

fuzz_target!(|data: &[u8]| {
    let folder = folder();
    let mut machine = Machine::new(folder.path());
    for step in data.chunks_exact(4).take(STEPS_MAX) {
        let (number, how) = (usize::from(u16::from_le_bytes([step[1], step[2]])), step[3]);
        match step[0] % 16 {
            0..=4 => machine.append(if how < 0xf8 { number % 3_000 } else { number % 40_000 }),
            5..=9 => machine.done(number % 64),
            10..=12 => machine.sync(),
            13 => machine.restart(),
            14 => machine.tear(number, how),
            _ => machine.damage(number, how),
        }
        machine.check();
    }
    machine.sync();
    machine.restart();
});

/// In memory if the system has such a place: segments are flushed when they are begun.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

/// Records by number, each with its length and whether it is done.
type Records = Vec<(usize, bool)>;

struct Machine {
    folder: PathBuf,
    outbox: Option<FileOutbox>,
    id: OutboxId,
    /// Everything that was said to it, and what of that is safe.
    said: Records,
    safe: Records,
    /// What was safe before the last frame, if that frame can be torn.
    before: Option<Records>,
    /// Where the frames of the last segment begin.
    frames: Vec<usize>,
}

impl Machine {
    fn new(folder: &Path) -> Self {
        let folder = folder.join("outbox");
        let outbox = FileOutbox::open(&folder, OPTIONS).expect("a new one");
        let id = outbox.id();
        Self {
            folder,
            outbox: Some(outbox),
            id,
            said: Vec::new(),
            safe: Vec::new(),
            before: None,
            frames: Vec::new(),
        }
    }

    fn outbox(&mut self) -> &mut FileOutbox {
        self.outbox.as_mut().expect("open between steps")
    }

    fn append(&mut self, len: usize) {
        let files = self.files();
        let number = self.said.len();
        let result = self.outbox().append(&content(number, len));
        if self.files() != files {
            // It made room: all that was said is written, and a segment begun.
            self.safe.clone_from(&self.said);
            (self.before, self.frames) = (None, Vec::new());
        }
        match result {
            Ok(given) => {
                assert_eq!(given, number as u64);
                self.said.push((len, false));
            }
            Err(OutboxError::Full) => assert!(self.said.iter().any(|record| !record.1)),
            Err(OutboxError::TooLong { max }) => assert!(len > max && max >= RECORD_LEN_SURE),
            Err(error) => panic!("{error}"),
        }
    }

    /// The record that is `place` above the low-water mark.
    fn done(&mut self, place: usize) {
        let number = low(&self.safe) + place;
        let is_new = number < self.safe.len() && !self.said[number].1;
        assert_eq!(self.outbox().done(number as u64).expect("the disk works"), is_new);
        if is_new {
            self.said[number].1 = true;
        }
    }

    fn sync(&mut self) {
        let files = self.files();
        self.outbox().sync().expect("the disk works");
        let after = self.files();
        if after == files {
            assert_eq!(self.said, self.safe, "what is new is written");
            return;
        }
        let (last, _) = after.last_key_value().expect("there is always one");
        match files.get(last) {
            Some(len) => self.frames.push(*len),
            None => self.frames = vec![SEGMENT_HEAD_LEN],
        }
        let deletes = files.keys().any(|name| !after.contains_key(name));
        let before = std::mem::replace(&mut self.safe, self.said.clone());
        self.before = (!deletes).then_some(before);
    }

    /// Ends the process, and starts it again.
    fn restart(&mut self) {
        self.outbox = None;
        self.outbox = Some(FileOutbox::open(&self.folder, OPTIONS).expect("nothing is wrong"));
        self.said.clone_from(&self.safe);
        self.before = None;
        self.check();
        for number in 0..self.safe.len() {
            self.find(number);
        }
    }

    /// Ends the process in the middle of the last sync: the frame ends at `place`, or holds zeros
    /// from there on, or has one byte that is wrong.
    fn tear(&mut self, place: usize, how: u8) {
        let Some(before) = self.before.take() else { return };
        self.outbox = None;
        let start = *self.frames.last().expect("it was written");
        let path = self.last_file();
        let mut bytes = fs::read(&path).expect("a file of ours");
        let whole = bytes.clone();
        let at = start + place % (bytes.len() - start);
        match how % 3 {
            0 => bytes.truncate(at),
            1 => bytes[at..].fill(0),
            _ => bytes[at] ^= how,
        }
        if bytes != whole {
            fs::write(&path, &bytes).expect("a file of ours");
            self.safe = before;
            self.frames.pop();
        }
        self.restart();
    }

    /// Changes a byte that was flushed, not in the last frame. The outbox says so and does not start,
    /// until the byte is right again.
    fn damage(&mut self, place: usize, how: u8) {
        let files = self.files();
        let last = files.len() - 1;
        let (index, (name, len)) = files.iter().enumerate().nth(place % files.len()).expect("some");
        let end = match self.frames.last() {
            Some(start) if index == last => *start,
            _ => *len,
        };
        self.outbox = None;
        let path = self.folder.join(name);
        let right = fs::read(&path).expect("a file of ours");
        let mut wrong = right.clone();
        wrong[place % end] ^= how.max(1);
        fs::write(&path, wrong).expect("a file of ours");
        let opened = FileOutbox::open(&self.folder, OPTIONS);
        assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "{opened:?}");
        fs::write(&path, right).expect("a file of ours");
        self.restart();
    }

    /// What it says of itself, its size, and one of its records.
    fn check(&mut self) {
        let outbox = self.outbox.as_ref().expect("open between steps");
        assert_eq!(outbox.id(), self.id);
        assert_eq!((outbox.low(), outbox.end()), (low(&self.safe) as u64, self.safe.len() as u64));
        let files = self.files();
        let heads = (files.len() * SEGMENT_HEAD_LEN) as u64;
        assert!(files.values().sum::<usize>() as u64 <= BYTES_MAX + heads);
        self.find(low(&self.safe));
        self.find(self.safe.len());
    }

    /// A record that is safe and not done is there as it was said, and no other is.
    fn find(&mut self, number: usize) {
        let expected = self.safe.get(number).filter(|_| !self.said[number].1);
        let expected = expected.map(|(len, _)| content(number, *len));
        let mut out = Vec::new();
        let is_there = self.outbox().read(number as u64, &mut out).expect("the disk works");
        assert_eq!(is_there.then_some(out), expected, "record {number}");
    }

    /// Names and lengths of its segments, in order.
    fn files(&self) -> BTreeMap<String, usize> {
        let entries = fs::read_dir(&self.folder).expect("a folder of ours");
        let segment = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().expect("a name of ours");
            let len = entry.metadata().expect("a file of ours").len() as usize;
            name.ends_with(".segment").then_some((name, len))
        };
        entries.filter_map(|entry| segment(entry.expect("a folder of ours"))).collect()
    }

    fn last_file(&self) -> PathBuf {
        let files = self.files();
        self.folder.join(files.last_key_value().expect("there is always one").0)
    }
}

/// The first record that is not done.
fn low(records: &Records) -> usize {
    records.iter().position(|record| !record.1).unwrap_or(records.len())
}

/// A record's bytes: others differ.
fn content(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 31 + at) as u8).collect()
}
