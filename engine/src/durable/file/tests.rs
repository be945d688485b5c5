//! Outboxes that are cut, damaged and interrupted everywhere, and one beside a naive twin.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::collection::vec;
use proptest::prelude::*;

use super::fake::{FakeDisk, Left};
use super::frame::{FRAME_HEAD_LEN, SEGMENT_HEAD_LEN, SegmentHead};
use super::*;
use crate::limits::{OUTBOX_RECORD_LEN_MAX, OUTBOX_RECORDS_MAX};
use crate::node::files::FileProblem;

const SMALL: OutboxOptions = OutboxOptions { bytes_max: 64 << 10, survives: Survives::PowerLoss };
const ID: OutboxId = OutboxId([9; 16]);

const LEFT: [Left; 5] = [Left::All, Left::Nothing, Left::Zeros, Left::Half, Left::Hole];

fn open(disk: &FakeDisk) -> Result<Log<FakeDisk>, Problem> {
    Log::open(disk.clone(), ID, SMALL)
}

/// Record `number` of `len` bytes: others differ.
fn record(number: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (number * 31 + at).to_le_bytes()[0]).collect()
}

fn read<D: disk::Disk>(log: &Log<D>, number: u64) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    log.read(number, &mut out).expect("the disk reads").then_some(out)
}

/// Everything that is not done, with its content.
fn unfinished<D: disk::Disk>(log: &Log<D>) -> Vec<(u64, Vec<u8>)> {
    (log.low()..log.end()).filter_map(|at| Some((at, read(log, at)?))).collect()
}

/// What an outbox promised.
#[derive(Default)]
struct Promised {
    /// Lengths of records that were offered, safe below `end`.
    lens: Vec<usize>,
    end: u64,
    /// Records said to be done, and those for which that is safe.
    said_done: BTreeSet<u64>,
    done: BTreeSet<u64>,
}

impl Promised {
    fn append(&mut self, log: &mut Log<FakeDisk>, len: usize) -> Result<(), OutboxError> {
        let number = self.lens.len() as u64;
        self.lens.push(len);
        assert_eq!(log.append(&record(number, len))?, number);
        Ok(())
    }

    fn done(&mut self, log: &mut Log<FakeDisk>, number: u64) -> Result<(), OutboxError> {
        self.said_done.insert(number);
        log.done(number).map(|_| ())
    }

    fn sync(&mut self, log: &mut Log<FakeDisk>) -> Result<(), OutboxError> {
        log.sync()?;
        self.end = self.lens.len() as u64;
        self.done = self.said_done.clone();
        Ok(())
    }

    fn check(&self, log: &Log<FakeDisk>) {
        assert!(log.end() >= self.end, "a safe record is gone");
        assert!(log.end() <= self.lens.len() as u64, "a record that nobody offered");
        assert!((0..log.low()).all(|number| self.said_done.contains(&number)));
        for number in 0..log.end() {
            let content = read(log, number);
            if self.done.contains(&number) {
                assert_eq!(content, None, "{number} is done");
            } else if !self.said_done.contains(&number) {
                let len = self.lens[usize::try_from(number).expect("few")];
                assert_eq!(content, Some(record(number, len)), "{number}");
            }
        }
    }
}

/// Some life with several segments, deletions and batches.
fn live(log: &mut Log<FakeDisk>, promised: &mut Promised) -> Result<(), OutboxError> {
    for round in 0..6 {
        for len in [1_500, 0, 700, 1_900] {
            promised.append(log, len)?;
        }
        promised.sync(log)?;
        for number in [round * 4 + 1, round * 4, round * 4 + 3] {
            promised.done(log, number)?;
        }
        promised.sync(log)?;
        if round > 0 {
            promised.done(log, round * 4 - 2)?;
        }
    }
    promised.sync(log)
}

#[test]
fn crash_between_any_two_steps_forgets_nothing_that_was_safe() {
    crash_everywhere(live, 60);
    crash_everywhere(live_beside_old_ones, 60);
}

type Life = fn(&mut Log<FakeDisk>, &mut Promised) -> Result<(), OutboxError>;

/// Crashes at each step of a life, of which there must be more than `steps`.
fn crash_everywhere(live: Life, steps: u64) {
    let mut stopped = 0;
    for step in 0.. {
        let disk = FakeDisk::default();
        disk.stop_at(step);
        let mut promised = Promised::default();
        let lived = match open(&disk) {
            Ok(mut log) => live(&mut log, &mut promised).is_ok(),
            Err(_) => false,
        };
        for left in LEFT {
            for keeps_names in [true, false] {
                let disk = disk.after_crash(left, keeps_names);
                let mut log = open(&disk).unwrap_or_else(|problem| {
                    panic!("step {step}, {left:?}, names {keeps_names}: {problem:?}")
                });
                promised.check(&log);
                // It goes on, and what goes on is safe as well.
                let number = log.append(b"afterwards").expect("there is room");
                log.sync().expect("the disk works again");
                drop(log);
                let log = open(&disk).expect("nothing is wrong");
                promised.check_until(&log, number);
                assert_eq!(read(&log, number), Some(b"afterwards".to_vec()));
            }
        }
        if lived {
            break;
        }
        stopped += 1;
    }
    assert!(stopped > steps, "there were {stopped} steps");
}

const UNFLUSHED: OutboxOptions = OutboxOptions { survives: Survives::ProcessEnd, ..SMALL };

fn open_unflushed(disk: &FakeDisk) -> Log<FakeDisk> {
    Log::open(disk.clone(), ID, UNFLUSHED).unwrap_or_else(|problem| panic!("{problem:?}"))
}

/// Lives without flushing, and losses of power at any step: safe records may be gone, but their
/// numbers are never used again, and what is left is what was appended.
#[test]
fn loss_of_power_does_not_give_away_a_number_twice() {
    for live in [live as Life, live_beside_old_ones] {
        let mut step = 0;
        loop {
            let disk = FakeDisk::default();
            disk.stop_at(step);
            let mut promised = Promised::default();
            let opened = Log::open(disk.clone(), ID, UNFLUSHED);
            let lived = opened.is_ok_and(|mut log| live(&mut log, &mut promised).is_ok());
            for left in LEFT {
                check_after_loss(&disk.after_crash(left, true), &promised);
            }
            check_after_loss(&disk.after_crash(Left::Nothing, false), &promised);
            if lived {
                break;
            }
            step += 1;
        }
        assert!(step > 40, "there were {step} steps");
    }
}

fn check_after_loss(disk: &FakeDisk, promised: &Promised) {
    let mut log = open_unflushed(disk);
    assert!(log.end() >= promised.end, "{} was used before: {}", log.end(), promised.end);
    for (number, content) in unfinished(&log) {
        let len = promised.lens[usize::try_from(number).expect("few")];
        assert_eq!(content, record(number, len), "{number}");
    }
    let kept = unfinished(&log);
    let number = log.append(b"afterwards").expect("there is room");
    log.sync().expect("the disk works again");
    drop(log);
    // The process ends, then the power goes, and goes once more before anything is written.
    let log = open_unflushed(disk);
    assert_eq!(read(&log, number), Some(b"afterwards".to_vec()));
    assert_eq!(log.end(), number + 1, "the machine did not restart");
    drop(log);
    let disk = disk.after_crash(Left::Nothing, true);
    let log = open_unflushed(&disk);
    assert!(log.end() > number && kept.iter().all(|(at, _)| read(&log, *at).is_some()));
    let end = log.end();
    drop(log);
    let log = open_unflushed(&disk.after_crash(Left::Nothing, true));
    assert_eq!(log.end(), end, "no number was used in between");
}

#[test]
fn what_was_not_flushed_is_once_the_outbox_is_opened_for_a_loss_of_power() {
    let disk = FakeDisk::default();
    let mut log = open_unflushed(&disk);
    let all: Vec<_> = (0..12).map(|number| (number, record(number, 2_000))).collect();
    for (_, content) in &all {
        log.append(content).expect("there is room");
        log.sync().expect("it works");
    }
    assert!(disk.file_names().len() > 3, "{:?}", disk.file_names());
    drop(log);
    drop(open(&disk).expect("nothing is wrong"));
    assert!(!disk.file_names().contains(&"boot".to_owned()), "{:?}", disk.file_names());
    let disk = disk.after_crash(Left::Nothing, false);
    let log = open(&disk).expect("nothing is lost");
    assert_eq!((log.end(), unfinished(&log)), (12, all), "and no number was left out");
}

/// Its first and third records are never done, however much comes after them.
fn live_beside_old_ones(
    log: &mut Log<FakeDisk>,
    promised: &mut Promised,
) -> Result<(), OutboxError> {
    for round in 0..14 {
        for len in [900, 1_500, 2_000] {
            promised.append(log, len)?;
        }
        promised.sync(log)?;
        for number in round * 3..round * 3 + 3 {
            if number != 0 && number != 2 {
                promised.done(log, number)?;
            }
        }
    }
    promised.sync(log)
}

#[test]
fn records_that_are_never_done_keep_no_more_than_their_own_room() {
    let disk = FakeDisk::default();
    let mut log = open(&disk).expect("a new one");
    let mut promised = Promised::default();
    for _ in 0..20 {
        let before = promised.lens.len() as u64;
        let lens = [900, 1_500, 2_000];
        lens.iter().for_each(|len| promised.append(&mut log, *len).expect("there is room"));
        promised.sync(&mut log).expect("it works");
        let finished = (before..before + 3).filter(|number| ![0, 2].contains(number));
        finished.for_each(|number| promised.done(&mut log, number).expect("it works"));
        promised.sync(&mut log).expect("it works");
        // A quarter, or twice what is not done and an eighth, and what was written since.
        let bound = SMALL.bytes_max / 4 + 3 * SMALL.bytes_max / 16;
        assert!(disk.used() <= bound, "{} of {bound} bytes", disk.used());
    }
    let old = [(0, record(0, 900)), (2, record(2, 2_000))];
    assert_eq!((log.low(), unfinished(&log)), (0, old.to_vec()));
    drop(log);
    let mut log = open(&disk).expect("nothing is wrong");
    assert_eq!((log.low(), log.end(), unfinished(&log)), (0, 60, old.to_vec()));
    let next = [0, 1, 3].map(|from| log.next_unfinished(from));
    assert_eq!(next, [Some(0), Some(2), None]);
    assert!(log.done(0).expect("it works") && !log.done(0).expect("once is enough"));
    log.sync().expect("it works");
    assert_eq!((log.low(), unfinished(&log)), (2, old[1..].to_vec()));
    let log = open(&disk).expect("nothing is wrong");
    assert_eq!((log.low(), unfinished(&log)), (2, old[1..].to_vec()));
}

#[test]
fn record_that_is_never_done_does_not_use_up_the_places_of_others() {
    let disk = FakeDisk::default();
    let options = OutboxOptions { bytes_max: 1 << 30, ..SMALL };
    let mut log = Log::open(disk, ID, options).expect("a new one");
    let batch = OUTBOX_RECORDS_MAX as u64 / 64;
    for first in (0..OUTBOX_RECORDS_MAX as u64 * 2).step_by(OUTBOX_RECORDS_MAX / 64) {
        for number in first..first + batch {
            assert_eq!(log.append(b"").expect("there is room"), number);
        }
        log.sync().expect("it works");
        for number in first.max(1)..first + batch {
            assert!(log.done(number).expect("it works"));
        }
        log.sync().expect("it works");
    }
    assert_eq!((log.low(), log.next_unfinished(0), log.next_unfinished(1)), (0, Some(0), None));
}

impl Promised {
    /// As [`Promised::check`], for the records below `end`.
    fn check_until(&self, log: &Log<FakeDisk>, end: u64) {
        assert_eq!(log.end(), end + 1);
        for number in (0..end.min(self.end)).filter(|number| !self.said_done.contains(number)) {
            let len = self.lens[usize::try_from(number).expect("few")];
            assert_eq!(read(log, number), Some(record(number, len)), "{number}");
        }
    }
}

/// An outbox of one segment with three batches; where each frame ends.
fn three_batches() -> (FakeDisk, String, [usize; 3]) {
    let disk = FakeDisk::default();
    let mut log = open(&disk).expect("a new one");
    let name = disk.file_names().remove(0);
    let mut ends = [0; 3];
    for (batch, end) in ends.iter_mut().enumerate() {
        for number in 0..2 {
            log.append(&record(batch as u64 * 2 + number, 9)).expect("there is room");
        }
        if batch == 1 {
            assert!(log.done(0).expect("it works"));
        }
        log.sync().expect("it works");
        *end = disk.len(&name);
    }
    (disk, name, ends)
}

#[test]
fn every_cut_leaves_the_batches_before_it() {
    let (disk, name, ends) = three_batches();
    for len in 0..=ends[2] {
        let cut = disk.with_file(&name, |content| content.truncate(len));
        let Ok(log) = open(&cut) else {
            assert!(len < SEGMENT_HEAD_LEN, "{len}");
            continue;
        };
        let batches = ends.iter().filter(|end| **end <= len).count() as u64;
        assert_eq!(log.end(), batches * 2, "{len}");
        assert_eq!(log.low(), u64::from(batches >= 2), "{len}");
        let whole: Vec<_> = (log.low()..log.end()).map(|at| (at, record(at, 9))).collect();
        assert_eq!(unfinished(&log), whole);
        let kept = ends.iter().rfind(|end| **end <= len).unwrap_or(&SEGMENT_HEAD_LEN);
        assert_eq!(cut.len(&name), *kept, "what was torn is cut off");
    }
}

#[test]
fn segment_that_counts_further_than_any_outbox_is_refused() {
    for place in 0..3 {
        let (disk, name, _) = three_batches();
        let mut numbers = [0; 3];
        numbers[place] = u64::MAX;
        let [number, first_record, first_frame] = numbers;
        let head = SegmentHead { outbox: ID, number, first_record, first_frame };
        let damaged = disk.with_file(&name, |content| *content = head.encode().to_vec());
        assert!(matches!(open(&damaged), Err(Problem::Corrupt { offset: 0, .. })), "{place}");
    }
}

#[test]
fn every_changed_byte_is_named_or_was_in_the_last_batch() {
    let (disk, name, ends) = three_batches();
    for at in 0..ends[2] {
        for bits in [0x01, 0x80, 0xff] {
            let changed = disk.with_file(&name, |content| content[at] ^= bits);
            match open(&changed) {
                Ok(log) => {
                    assert!(at >= ends[1], "byte {at} was changed without notice");
                    assert_eq!((log.low(), log.end()), (1, 4), "{at}");
                    let whole: Vec<_> = (1..4).map(|at| (at, record(at, 9))).collect();
                    assert_eq!(unfinished(&log), whole);
                }
                Err(Problem::Corrupt { file, offset, .. }) => {
                    assert_eq!(file, name);
                    let starts = [SEGMENT_HEAD_LEN, ends[0]];
                    let expected = starts.iter().rfind(|start| **start <= at).unwrap_or(&0);
                    assert_eq!(offset, *expected as u64, "byte {at}");
                }
                Err(problem) => panic!("{problem:?}"),
            }
        }
    }
}

#[test]
fn damage_before_the_last_segment_is_named() {
    let disk = FakeDisk::default();
    let mut log = open(&disk).expect("a new one");
    for number in 0..12 {
        log.append(&record(number, 2_000)).expect("there is room");
        log.sync().expect("it works");
    }
    let names = disk.file_names();
    assert!(names.len() >= 3, "{names:?}");
    let corrupt = |disk: &FakeDisk| matches!(open(disk), Err(Problem::Corrupt { .. }));
    for name in &names[..names.len() - 1] {
        let frame = FRAME_HEAD_LEN + 5 + 2_000;
        for cut in [disk.len(name) - frame, disk.len(name) - 1, SEGMENT_HEAD_LEN, 3] {
            assert!(
                corrupt(&disk.with_file(name, |content| content.truncate(cut))),
                "{name} {cut}"
            );
        }
    }
    for name in &names[1..names.len() - 1] {
        assert!(corrupt(&disk.without_file(name)), "{name} is missing");
    }
    assert!(!corrupt(&disk));
}

#[test]
fn full_outbox_takes_more_once_records_are_done() {
    let disk = FakeDisk::default();
    let mut log = open(&disk).expect("a new one");
    let mut next = 0;
    let mut low = 0;
    for _ in 0..40 {
        loop {
            match log.append(&record(next, 3_000)) {
                Ok(number) => assert_eq!(number, next),
                Err(OutboxError::Full) => break,
                Err(error) => panic!("{error}"),
            }
            next += 1;
            log.sync().expect("it works");
        }
        assert!(next > low + 10, "{next} {low}");
        while low < next - 1 {
            assert!(log.done(low).expect("it works"));
            assert!(!log.done(low).expect("it works"), "once is enough");
            low += 1;
        }
        log.sync().expect("it works");
        assert!(disk.used() <= SMALL.bytes_max + 20 * SEGMENT_HEAD_LEN as u64, "{}", disk.used());
    }
    assert_eq!((log.low(), log.end()), (low, next));
    let most = OutboxError::TooLong { max: OUTBOX_RECORD_LEN_MAX }.to_string();
    assert_ne!(log.append(&vec![0; 40_000]).expect_err("too long").to_string(), most);
}

#[test]
fn nothing_is_taken_after_a_failure() {
    let disk = FakeDisk::default();
    let mut log = open(&disk).expect("a new one");
    log.append(b"one").expect("there is room");
    disk.stop_at(1);
    assert!(matches!(log.sync(), Err(OutboxError::Failed { action: "flush it", .. })));
    for result in [log.append(b"two").map(|_| ()), log.sync(), log.done(0).map(|_| ())] {
        assert!(matches!(result, Err(OutboxError::Failed { action: "be used", .. })));
    }
}

#[derive(Clone, Debug)]
enum Act {
    Append(usize),
    Done(u64),
    Kill,
    Sync,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0_usize..3_000).prop_map(Act::Append),
        4 => (0_u64..60).prop_map(Act::Done),
        2 => Just(Act::Sync),
        1 => Just(Act::Kill),
    ]
}

proptest! {
    /// The twin: a list of records, each with whether it is done, and a copy of it that is safe.
    #[test]
    fn outbox_is_a_list_that_survives(acts in vec(act(), 0..120)) {
        let disk = FakeDisk::default();
        let mut log = open(&disk).expect("a new one");
        let mut list: Vec<(Vec<u8>, bool)> = Vec::new();
        let mut safe = list.clone();
        for act in acts {
            match act {
                Act::Append(len) => {
                    let bytes = record(list.len() as u64, len);
                    match log.append(&bytes) {
                        Ok(number) => {
                            prop_assert_eq!(number, list.len() as u64);
                            list.push((bytes, false));
                        }
                        Err(OutboxError::Full) => {
                            let open = list.iter().filter(|entry| !entry.1);
                            let open: usize = open.map(|entry| entry.0.len()).sum();
                            prop_assert!(open > 0);
                        }
                        Err(error) => panic!("{error}"),
                    }
                    // An outbox may write what it holds when it makes room.
                    if log.end() > safe.len() as u64 {
                        safe = list[..usize::try_from(log.end()).expect("few")].to_vec();
                    }
                }
                Act::Done(number) => {
                    let place = usize::try_from(number).expect("few");
                    let is_new = place < safe.len() && !list[place].1;
                    prop_assert_eq!(log.done(number).expect("it works"), is_new);
                    if is_new {
                        list[place].1 = true;
                    }
                }
                Act::Sync => {
                    log.sync().expect("it works");
                    safe = list.clone();
                }
                Act::Kill => {
                    let disk = disk.after_crash(Left::Nothing, false);
                    log = open(&disk).expect("nothing is wrong");
                    let low = safe.iter().position(|entry| !entry.1).unwrap_or(safe.len());
                    prop_assert_eq!(log.low(), low as u64);
                    let open: Vec<_> = (0..).zip(&safe).filter(|(_, entry)| !entry.1)
                        .map(|(number, entry)| (number, entry.0.clone())).collect();
                    prop_assert_eq!(unfinished(&log), open);
                    break;
                }
            }
            prop_assert_eq!(log.end(), safe.len() as u64);
        }
    }
}

#[test]
fn file_outbox_keeps_its_records_and_its_name() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path().join("made/outbox");
    let options = OutboxOptions { survives: Survives::ProcessEnd, ..OutboxOptions::default() };
    let mut outbox = FileOutbox::open(&path, options).expect("a new one");
    let id = outbox.id();
    for number in 0..3 {
        assert_eq!(outbox.append(&record(number, 10)).expect("there is room"), number);
    }
    assert_eq!(outbox.end(), 0, "nothing is safe yet");
    outbox.sync().expect("the disk works");
    assert!(outbox.done(1).expect("it works"));
    outbox.sync().expect("the disk works");
    assert!(matches!(FileOutbox::open(&path, options), Err(OpenError::InUse(_))));
    drop(outbox);
    let outbox = FileOutbox::open(&path, OutboxOptions::default()).expect("it is free again");
    assert_eq!((outbox.id(), outbox.low(), outbox.end()), (id, 0, 3));
    assert_eq!(unfinished(&outbox.0), [(0, record(0, 10)), (2, record(2, 10))]);
}

#[test]
fn file_outbox_refuses_what_others_can_touch() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let open = || FileOutbox::open(folder.path(), OutboxOptions::default()).map(drop);
    let set = |name: &str, mode| {
        let path = folder.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let problem = |result| match result {
        Err(OpenError::File(error)) => {
            assert_eq!(error.kind(), FileKind::Outbox);
            format!("{:?} {error}", error.problem())
        }
        other => panic!("{other:?}"),
    };
    set(".", 0o700);
    open().expect("a safe folder");
    let segment = fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("plain"))
        .find(|name| name != "lock")
        .expect("a segment");
    set(".", 0o755);
    assert!(problem(open()).starts_with(&format!("{:?}", FileProblem::FolderMode(0o755))));
    set(".", 0o700);
    set(&segment, 0o640);
    let said = problem(open());
    assert!(said.starts_with("Mode") && said.contains("chmod 600"), "{said}");
    set(&segment, 0o600);
    open().expect("safe again");
    let path = folder.path().join(&segment);
    fs::rename(&path, folder.path().join("elsewhere")).expect("it is ours");
    symlink("elsewhere", &path).expect("it is ours");
    assert!(problem(open()).starts_with("SymbolicLink"));
    fs::remove_file(&path).expect("it is ours");
    fs::write(folder.path().join("1.segment"), "").expect("it is ours");
    let said = open().expect_err("no name of ours").to_string();
    assert!(said.contains("1.segment' is damaged at byte 0"), "{said}");
}
