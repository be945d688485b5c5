//! The segments of an outbox: recovery, batches, deletion.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::boot;
use super::disk::Disk;
use super::frame::{
    DONE_ENTRY_LEN, Entry, FRAME_HEAD_LEN, MOVED_ENTRY_LEN, RECORD_ENTRY_LEN, SEGMENT_HEAD_LEN,
    SegmentHead, for_each_entry, frame_head, has_frame, push_done, push_moved, push_record,
    push_skip, read_frame,
};
use super::{OutboxOptions, Survives};
use crate::durable::message::OutboxId;
use crate::durable::outbox::OutboxError;
use crate::limits::{OUTBOX_BATCH_LEN_MAX, OUTBOX_RECORD_LEN_MAX, OUTBOX_RECORDS_MAX};
use crate::node::files::{FileProblem, cannot};

/// Room kept for each record that is not done: its news may be a frame of its own.
const DONE_ROOM: u64 = (FRAME_HEAD_LEN + DONE_ENTRY_LEN) as u64;
/// Records that a batch may have before it is written unasked.
const BATCH_RECORDS_MAX: u64 = OUTBOX_RECORDS_MAX as u64 / 64;
/// Records with which the next segment begins, or a batch later.
const SEGMENT_RECORDS: u64 = OUTBOX_RECORDS_MAX as u64 / 16;
/// Records that a segment may have.
const SEGMENT_RECORDS_MAX: u64 = SEGMENT_RECORDS + BATCH_RECORDS_MAX;
/// What a file has at its end until it has its name.
const DRAFT: &str = ".new";
const SUFFIX: &str = ".segment";

/// Why segments could not be opened.
#[derive(Debug)]
pub(super) enum Problem {
    Corrupt { file: String, offset: u64, what: &'static str },
    File(String, FileProblem),
}

/// How much of a segment's end may be missing.
#[derive(Clone, Copy, Debug)]
enum Tail {
    /// Nothing: it is not the last one.
    Whole,
    /// Its last frame: all before it were flushed, or the system kept running.
    Torn,
    /// Any of its frames: none was flushed when the machine restarted.
    Unflushed,
}

/// A segment file.
#[derive(Debug)]
struct Segment<F> {
    file: F,
    number: u64,
    first_record: u64,
    len: u64,
    /// Records that were moved here and are not done.
    moved_here: u64,
}

/// Where a record lies, and what is known of it.
#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: u64,
    len: u32,
    state: SlotState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SlotState {
    /// In the batch, not written.
    Batched,
    Safe,
    /// Done; the next sync says so on disk.
    DoneBatched,
    Done,
    /// It lies elsewhere.
    Moved,
}

/// A record that was moved.
#[derive(Clone, Copy, Debug)]
struct Moved {
    segment: u64,
    slot: Slot,
}

/// An outbox on a disk.
#[derive(Debug)]
pub(super) struct Log<D: Disk> {
    disk: D,
    options: OutboxOptions,
    id: OutboxId,
    /// In order, without gaps; the last one grows.
    segments: VecDeque<Segment<D::File>>,
    /// Records from `first` up.
    slots: VecDeque<Slot>,
    first: u64,
    /// Records that were moved, as long as they are not done.
    moved: BTreeMap<u64, Moved>,
    /// Bytes of all segments.
    used: u64,
    /// Records that are not done, and the bytes that moving them would take.
    unfinished: u64,
    unfinished_len: u64,
    /// The first record that is neither done for good nor moved.
    unmoved: u64,
    end: u64,
    next_frame: u64,
    /// The body of the next frame.
    batch: Vec<u8>,
    /// Records that are done and whose news is in it.
    batch_done: Vec<u64>,
    /// Records that are moved with it, and where they lie in it.
    batch_moved: Vec<(u64, Slot)>,
    /// Nobody knows what is on the disk.
    is_failed: bool,
}

impl<D: Disk> Log<D> {
    /// Reads what is there, or makes an outbox called `id`.
    pub(super) fn open(disk: D, id: OutboxId, options: OutboxOptions) -> Result<Self, Problem> {
        let mut log = Self {
            disk,
            options,
            id,
            segments: VecDeque::new(),
            slots: VecDeque::new(),
            first: 0,
            moved: BTreeMap::new(),
            used: 0,
            unfinished: 0,
            unfinished_len: 0,
            unmoved: 0,
            end: 0,
            next_frame: 0,
            batch: Vec::new(),
            batch_done: Vec::new(),
            batch_moved: Vec::new(),
            is_failed: false,
        };
        let folder = |problem| Problem::File(String::new(), problem);
        let numbers = log.find_segments()?;
        let has_restarted = boot::has_restarted(&log.disk).map_err(folder)?;
        let last = numbers.last().copied();
        for number in numbers {
            let tail = match Some(number) == last {
                true if has_restarted => Tail::Unflushed,
                true => Tail::Torn,
                false => Tail::Whole,
            };
            log.recover(number, tail)?;
        }
        log.settle_recovered(has_restarted)
            .map_err(|(action, cause)| folder(cannot(action)(cause)))?;
        boot::note(&log.disk, options.survives).map_err(folder)?;
        Ok(log)
    }

    /// Numbers of the segments there, in order; what was not finished is removed.
    fn find_segments(&self) -> Result<Vec<u64>, Problem> {
        let folder = |action| move |cause| Problem::File(String::new(), cannot(action)(cause));
        let mut numbers = Vec::new();
        for name in self.disk.names().map_err(folder("list its folder"))? {
            if name.ends_with(DRAFT) {
                self.disk.remove(&name).map_err(folder("remove a draft"))?;
            }
            let Some(digits) = name.strip_suffix(SUFFIX) else { continue };
            let number =
                u64::from_str_radix(digits, 16).ok().filter(|number| segment_name(*number) == name);
            let what = "this is no name of a segment";
            numbers.push(number.ok_or(Problem::Corrupt { file: name, offset: 0, what })?);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads a segment into the index.
    fn recover(&mut self, number: u64, tail: Tail) -> Result<(), Problem> {
        let name = segment_name(number);
        let corrupt = |offset: usize, what| Problem::Corrupt {
            file: segment_name(number),
            offset: offset as u64,
            what,
        };
        let (file, len) =
            self.disk.open(&name).map_err(|problem| Problem::File(name.clone(), problem))?;
        let io = |action| {
            let name = name.clone();
            move |cause| Problem::File(name, cannot(action)(cause))
        };
        let mut bytes = vec![0; usize::try_from(len).expect("a segment is below 4 GiB")];
        self.disk.read(&file, 0, &mut bytes).map_err(io("read it"))?;
        let head = SegmentHead::decode(&bytes).ok_or_else(|| {
            corrupt(0, "the segment's head does not match its checksum, or counts too far")
        })?;
        if self.segments.is_empty() {
            self.id = head.outbox;
            (self.first, self.end, self.next_frame) =
                (head.first_record, head.first_record, head.first_frame);
        }
        let expected = SegmentHead {
            outbox: self.id,
            number,
            first_record: self.end,
            first_frame: self.next_frame,
        };
        let follows = self.segments.back().is_none_or(|former| former.number + 1 == number);
        if !follows || head != expected {
            return Err(corrupt(0, "the segment does not follow the one before it"));
        }
        self.segments.push_back(Segment {
            file,
            number,
            first_record: self.end,
            len,
            moved_here: 0,
        });
        let mut at = SEGMENT_HEAD_LEN;
        while at < bytes.len() {
            let Some((frame, body)) = read_frame(self.id, &bytes[at..]) else {
                let may_be_torn = match tail {
                    Tail::Whole => false,
                    Tail::Torn => !has_frame(self.id, &bytes[at..]),
                    Tail::Unflushed => true,
                };
                if !may_be_torn {
                    return Err(corrupt(at, "a frame does not match its checksum"));
                }
                let segment = self.segments.back_mut().expect("pushed above");
                segment.len = at as u64;
                self.disk.truncate(&segment.file, at as u64).map_err(io("cut off its end"))?;
                break;
            };
            if frame != self.next_frame {
                return Err(corrupt(at, "a frame is missing before this one"));
            }
            let start = at + FRAME_HEAD_LEN;
            self.take_frame(body, start as u64)
                .ok_or_else(|| corrupt(at, "a frame holds what no outbox writes"))?;
            at = start + body.len();
        }
        self.used += self.segments.back().expect("pushed above").len;
        Ok(())
    }

    /// Takes the entries of a frame whose body lies at `offset`.
    fn take_frame(&mut self, body: &[u8], offset: u64) -> Option<()> {
        self.next_frame += 1;
        let mut is_sound = true;
        let slot = |start: usize, len: usize| {
            let len = u32::try_from(len).expect("it was read from 32 bits");
            Slot { offset: offset + start as u64, len, state: SlotState::Safe }
        };
        for_each_entry(body, |entry| match entry {
            Entry::Record { start, len } => {
                let slot = slot(start, len);
                self.slots.push_back(slot);
                self.end += 1;
                self.count(slot);
            }
            // Of a record whose segments are gone nothing needs to be said.
            Entry::Done(record) => {
                if let Some(slot) = self.find_safe(record) {
                    slot.state = SlotState::DoneBatched;
                    let slot = *slot;
                    self.uncount(slot);
                    self.settle(record);
                }
            }
            Entry::Moved { record, start, len } => {
                let slot = slot(start, len);
                let known = self.find_safe(record).map(|known| known.len);
                is_sound &= match known {
                    Some(len) => len == slot.len,
                    None => record < self.first,
                };
                if is_sound {
                    if known.is_none() {
                        self.count(slot);
                    }
                    self.note_moved(record, slot);
                }
            }
            Entry::Skip(next) => {
                is_sound &= (self.end..=self.end + SEGMENT_RECORDS_MAX).contains(&next);
                if is_sound {
                    self.skip(next);
                }
            }
        })?;
        is_sound.then_some(())
    }

    /// The next record has the number `next`; those before it count as done.
    fn skip(&mut self, next: u64) {
        let slot = Slot { offset: 0, len: 0, state: SlotState::Done };
        self.slots.extend((self.end..next).map(|_| slot));
        self.end = next;
    }

    /// A record that is not done is there.
    fn count(&mut self, slot: Slot) {
        self.unfinished += 1;
        self.unfinished_len += moved_len(slot);
    }

    /// It is done.
    fn uncount(&mut self, slot: Slot) {
        self.unfinished -= 1;
        self.unfinished_len -= moved_len(slot);
    }

    /// Where a record lies that is safe and not done.
    fn find_safe(&mut self, record: u64) -> Option<&mut Slot> {
        let slot = match self.moved.get_mut(&record) {
            Some(moved) => Some(&mut moved.slot),
            None => slot_mut(&mut self.slots, self.first, record),
        };
        slot.filter(|slot| slot.state == SlotState::Safe)
    }

    /// That a record is done is on the disk.
    fn settle(&mut self, record: u64) {
        match self.moved.remove(&record) {
            Some(moved) => self.segment_mut(moved.segment).moved_here -= 1,
            None => {
                let slot = slot_mut(&mut self.slots, self.first, record);
                slot.expect("no segment goes before its records are done").state = SlotState::Done;
            }
        }
    }

    /// A record was moved to the last segment.
    fn note_moved(&mut self, record: u64, slot: Slot) {
        let last = self.segments.back_mut().expect("there is always one");
        last.moved_here += 1;
        let segment = last.number;
        if let Some(former) = self.moved.insert(record, Moved { segment, slot }) {
            self.segment_mut(former.segment).moved_here -= 1;
        } else if let Some(former) = slot_mut(&mut self.slots, self.first, record) {
            former.state = SlotState::Moved;
        }
    }

    fn segment_mut(&mut self, number: u64) -> &mut Segment<D::File> {
        let first = self.segments.front().expect("there is always one").number;
        let place = usize::try_from(number - first).expect("a few segments");
        &mut self.segments[place]
    }

    /// What was read may not be on the disk yet: a process ends without flushing. After a restart of
    /// the machine, numbers that may have been used are not used again: whoever knows one of them
    /// would take the new record for the old one.
    fn settle_recovered(&mut self, has_restarted: bool) -> Result<(), (&'static str, io::Error)> {
        let Some(last) = self.segments.back() else { return self.begin_segment() };
        self.disk.sync(&last.file).map_err(|cause| ("flush it", cause))?;
        // Where the last segment begins is known for sure: its head was flushed.
        if has_restarted && last.first_record + SEGMENT_RECORDS_MAX > self.end {
            self.begin_segment()?;
            let next = self.end + SEGMENT_RECORDS_MAX;
            push_skip(&mut self.batch, next);
            self.write_batch()?;
            self.skip(next);
            let last = self.segments.back().expect("begun above");
            self.disk.sync(&last.file).map_err(|cause| ("flush it", cause))?;
        }
        self.disk.sync_names().map_err(|cause| ("flush its folder", cause))?;
        self.advance();
        Ok(())
    }

    pub(super) fn id(&self) -> OutboxId {
        self.id
    }

    pub(super) fn low(&self) -> u64 {
        self.moved.keys().next().map_or(self.unmoved, |moved| self.unmoved.min(*moved))
    }

    pub(super) fn next_unfinished(&self, from: u64) -> Option<u64> {
        let is_safe = |slot: &Slot| slot.state == SlotState::Safe;
        let mut moved = self.moved.range(from..);
        let moved = moved.find(|(_, moved)| is_safe(&moved.slot)).map(|(record, _)| *record);
        let start = from.max(self.unmoved);
        let skipped = usize::try_from(start - self.first).unwrap_or(usize::MAX);
        let mut own = (start..).zip(self.slots.iter().skip(skipped));
        let own = own.find(|(_, slot)| is_safe(slot)).map(|(record, _)| record);
        [moved, own].into_iter().flatten().min()
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn append(&mut self, record: &[u8]) -> Result<u64, OutboxError> {
        self.check()?;
        let len = (record.len() + RECORD_ENTRY_LEN + FRAME_HEAD_LEN) as u64;
        let max = OUTBOX_RECORD_LEN_MAX;
        if record.len() > max || len + DONE_ROOM > self.options.bytes_max / 2 {
            let half = usize::try_from(self.options.bytes_max / 2).unwrap_or(max);
            let rest = half - FRAME_HEAD_LEN * 2 - RECORD_ENTRY_LEN - DONE_ENTRY_LEN;
            return Err(OutboxError::TooLong { max: max.min(rest) });
        }
        if !self.has_room(len) && self.unfinished == 0 {
            // What is left is done, and only waits for its segment to be full.
            self.sync()?;
            self.failing(|log| log.begin_segment())?;
            self.failing(Self::delete_finished)?;
        }
        if !self.has_room(len) {
            return Err(OutboxError::Full);
        }
        let batched = self.first + self.slots.len() as u64 - self.end;
        if self.batch.len() + record.len() > OUTBOX_BATCH_LEN_MAX || batched >= BATCH_RECORDS_MAX {
            self.sync()?;
        }
        push_record(&mut self.batch, record);
        let offset = (self.batch.len() - record.len()) as u64;
        let len = u32::try_from(record.len()).expect("checked above");
        let slot = Slot { offset, len, state: SlotState::Batched };
        self.slots.push_back(slot);
        self.count(slot);
        Ok(self.first + self.slots.len() as u64 - 1)
    }

    /// Whether a record that takes `len` bytes fits, the news that all are done, and those that
    /// have to be moved.
    fn has_room(&self, len: u64) -> bool {
        self.slots.len() + self.moved.len() < OUTBOX_RECORDS_MAX
            && self.free() >= len + DONE_ROOM + self.options.bytes_max / 8
    }

    /// Bytes that are neither used nor reserved for the news that all are done.
    fn free(&self) -> u64 {
        let reserved = self.unfinished * DONE_ROOM + FRAME_HEAD_LEN as u64;
        self.options.bytes_max.saturating_sub(self.used + self.batch.len() as u64 + reserved)
    }

    pub(super) fn done(&mut self, record: u64) -> Result<bool, OutboxError> {
        self.check()?;
        let Some(slot) = self.find_safe(record) else { return Ok(false) };
        slot.state = SlotState::DoneBatched;
        let slot = *slot;
        self.uncount(slot);
        push_done(&mut self.batch, record);
        self.batch_done.push(record);
        Ok(true)
    }

    pub(super) fn sync(&mut self) -> Result<(), OutboxError> {
        self.check()?;
        if !self.batch.is_empty() {
            self.failing(Self::write_batch)?;
            self.failing(Self::delete_finished)?;
        }
        self.failing(Self::move_oldest).map(drop)
    }

    pub(super) fn read(&self, record: u64, out: &mut Vec<u8>) -> Result<bool, OutboxError> {
        let (segment, slot) = match self.moved.get(&record) {
            Some(moved) => {
                (self.segments.partition_point(|known| known.number < moved.segment), moved.slot)
            }
            None => {
                let place = record.checked_sub(self.first).map(usize::try_from);
                let slot = place.and_then(|place| self.slots.get(place.ok()?));
                let Some(slot) = slot else { return Ok(false) };
                let after = self.segments.partition_point(|known| known.first_record <= record);
                (after - 1, *slot)
            }
        };
        if slot.state != SlotState::Safe {
            return Ok(false);
        }
        let segment = &self.segments[segment];
        let start = out.len();
        out.resize(start + slot.len as usize, 0);
        self.disk
            .read(&segment.file, slot.offset, &mut out[start..])
            .map_err(|cause| OutboxError::Failed { action: "read a record", cause })?;
        Ok(true)
    }

    fn check(&self) -> Result<(), OutboxError> {
        let cause = || io::Error::other("it failed before");
        if self.is_failed {
            return Err(OutboxError::Failed { action: "be used", cause: cause() });
        }
        Ok(())
    }

    /// Runs what changes the disk; after a failure nothing more is changed.
    fn failing<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, (&'static str, io::Error)>,
    ) -> Result<T, OutboxError> {
        change(self).map_err(|(action, cause)| {
            self.is_failed = true;
            OutboxError::Failed { action, cause }
        })
    }

    /// Writes the batch as a frame, and flushes it.
    fn write_batch(&mut self) -> Result<(), (&'static str, io::Error)> {
        let last = self.segments.back().expect("there is always one");
        let records = self.end - last.first_record;
        if last.len >= self.options.bytes_max / 16 || records >= SEGMENT_RECORDS {
            self.begin_segment()?;
        }
        let segment = self.segments.back_mut().expect("there is always one");
        let head = frame_head(self.id, self.next_frame, &self.batch);
        let body = segment.len + FRAME_HEAD_LEN as u64;
        // One write: the batch makes room for its head.
        self.batch.splice(0..0, head);
        self.disk
            .write(&segment.file, segment.len, &self.batch)
            .map_err(|cause| ("write to it", cause))?;
        if self.options.survives == Survives::PowerLoss {
            self.disk.sync(&segment.file).map_err(|cause| ("flush it", cause))?;
        }
        segment.len += self.batch.len() as u64;
        self.used += self.batch.len() as u64;
        self.next_frame += 1;
        self.batch.clear();
        let known = usize::try_from(self.end - self.first).expect("as many as there are slots");
        for slot in self.slots.range_mut(known..) {
            slot.offset += body;
            slot.state = SlotState::Safe;
            self.end += 1;
        }
        for (record, slot) in std::mem::take(&mut self.batch_moved) {
            self.note_moved(record, Slot { offset: slot.offset + body, ..slot });
        }
        for record in std::mem::take(&mut self.batch_done) {
            self.settle(record);
        }
        self.advance();
        Ok(())
    }

    /// Moves the mark over what is done for good, or was moved.
    fn advance(&mut self) {
        let is_over = |record: u64| {
            let place = usize::try_from(record - self.first).expect("as many as there are slots");
            let slot = self.slots.get(place);
            slot.is_some_and(|slot| matches!(slot.state, SlotState::Done | SlotState::Moved))
        };
        let mut unmoved = self.unmoved.max(self.first);
        while is_over(unmoved) {
            unmoved += 1;
        }
        self.unmoved = unmoved;
    }

    /// Moves what is not done of the oldest segment to the end, and deletes that segment, if more
    /// than half of all is done and cannot go. Returns whether it did. Nothing is batched.
    fn move_oldest(&mut self) -> Result<bool, (&'static str, io::Error)> {
        let sixteenth = self.options.bytes_max / 16;
        let is_wide =
            self.used > 4 * sixteenth && self.used > 2 * (self.unfinished_len + sixteenth);
        let is_long = self.slots.len() > OUTBOX_RECORDS_MAX / 4
            && self.slots.len() as u64 > 2 * self.unfinished;
        if !(is_wide || is_long) || self.segments.len() < 2 {
            return Ok(false);
        }
        let oldest = self.unfinished_of_oldest();
        let len: u64 = oldest.iter().map(|(_, slot)| moved_len(*slot)).sum();
        let frames = len / OUTBOX_BATCH_LEN_MAX as u64 + 1;
        if len + frames * FRAME_HEAD_LEN as u64 > self.free() {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        for (record, slot) in oldest {
            bytes.resize(slot.len as usize, 0);
            let file = &self.segments.front().expect("there are two").file;
            let read = self.disk.read(file, slot.offset, &mut bytes);
            read.map_err(|cause| ("read a record", cause))?;
            if !self.batch.is_empty() && self.batch.len() + bytes.len() > OUTBOX_BATCH_LEN_MAX {
                self.write_batch()?;
            }
            push_moved(&mut self.batch, record, &bytes);
            let offset = (self.batch.len() - bytes.len()) as u64;
            self.batch_moved.push((record, Slot { offset, ..slot }));
        }
        self.write_batch()?;
        self.delete_finished()?;
        Ok(true)
    }

    /// What is not done in the oldest segment.
    fn unfinished_of_oldest(&self) -> Vec<(u64, Slot)> {
        let (oldest, next) = (&self.segments[0], &self.segments[1]);
        let own = (oldest.first_record..next.first_record).zip(&self.slots);
        let own = own.map(|(record, slot)| (record, *slot));
        let here = self.moved.iter().filter(|(_, moved)| moved.segment == oldest.number);
        let all = here.map(|(record, moved)| (*record, moved.slot)).chain(own);
        all.filter(|(_, slot)| slot.state == SlotState::Safe).collect()
    }

    /// Begins a segment, which has its name only when its head is on the disk, and the segment before
    /// it: only the last one may hold what is not flushed.
    fn begin_segment(&mut self) -> Result<(), (&'static str, io::Error)> {
        if let Some(last) = self.segments.back()
            && self.options.survives == Survives::ProcessEnd
        {
            self.disk.sync(&last.file).map_err(|cause| ("flush it", cause))?;
        }
        let number = self.segments.back().map_or(0, |last| last.number + 1);
        let head = SegmentHead {
            outbox: self.id,
            number,
            first_record: self.end,
            first_frame: self.next_frame,
        };
        let name = segment_name(number);
        let draft = format!("{name}{DRAFT}");
        let file = self.disk.create(&draft).map_err(|problem| match problem {
            FileProblem::Io { cause, .. } => ("make a segment", cause),
            other => ("make a segment", io::Error::other(format!("{other:?}"))),
        })?;
        let bytes = head.encode();
        let made = self
            .disk
            .write(&file, 0, &bytes)
            .and_then(|()| self.disk.sync(&file))
            .and_then(|()| self.disk.rename(&draft, &name))
            .and_then(|()| self.disk.sync_names());
        made.map_err(|cause| ("make a segment", cause))?;
        let len = bytes.len() as u64;
        self.used += len;
        self.segments.push_back(Segment {
            file,
            number,
            first_record: self.end,
            len,
            moved_here: 0,
        });
        Ok(())
    }

    /// Deletes segments in which, and before which, everything is done.
    fn delete_finished(&mut self) -> Result<(), (&'static str, io::Error)> {
        while let Some(next) = self.segments.get(1)
            && next.first_record <= self.unmoved
            && self.segments[0].moved_here == 0
        {
            let first = next.first_record;
            let segment = self.segments.pop_front().expect("there are two");
            let name = segment_name(segment.number);
            // Each before the next: a gap would look like a loss.
            let removed = self.disk.remove(&name).and_then(|()| self.disk.sync_names());
            removed.map_err(|cause| ("delete a segment", cause))?;
            self.used -= segment.len;
            let count = usize::try_from(first - self.first).expect("as many as there are slots");
            self.slots.drain(..count);
            self.first = first;
        }
        Ok(())
    }
}

fn slot_mut(slots: &mut VecDeque<Slot>, first: u64, record: u64) -> Option<&mut Slot> {
    slots.get_mut(usize::try_from(record.checked_sub(first)?).ok()?)
}

/// Bytes that a record takes if it is moved.
fn moved_len(slot: Slot) -> u64 {
    u64::from(slot.len) + MOVED_ENTRY_LEN as u64
}

fn segment_name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}
