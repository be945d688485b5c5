//! The segments of an outbox: recovery, batches, deletion.

use std::collections::VecDeque;
use std::io;

use super::disk::Disk;
use super::frame::{
    DONE_ENTRY_LEN, Entry, FRAME_HEAD_LEN, RECORD_ENTRY_LEN, SEGMENT_HEAD_LEN, SegmentHead,
    for_each_entry, frame_head, has_frame, push_done, push_record, read_frame,
};
use super::{OutboxOptions, Survives};
use crate::durable::message::OutboxId;
use crate::durable::outbox::OutboxError;
use crate::limits::{OUTBOX_BATCH_LEN_MAX, OUTBOX_RECORD_LEN_MAX, OUTBOX_RECORDS_MAX};
use crate::node::files::{FileProblem, cannot};

/// Room kept for each record that is not done: its news may be a frame of its own.
const DONE_ROOM: u64 = (FRAME_HEAD_LEN + DONE_ENTRY_LEN) as u64;
/// What a file has at its end until it has its name.
const DRAFT: &str = ".new";
const SUFFIX: &str = ".segment";

/// Why segments could not be opened.
#[derive(Debug)]
pub(super) enum Problem {
    Corrupt { file: String, offset: u64, what: &'static str },
    File(String, FileProblem),
}

/// A segment file.
#[derive(Debug)]
struct Segment<F> {
    file: F,
    number: u64,
    first_record: u64,
    len: u64,
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
    /// Bytes of all segments.
    used: u64,
    /// Records that are not done.
    unfinished: u64,
    low: u64,
    end: u64,
    next_frame: u64,
    /// The body of the next frame.
    batch: Vec<u8>,
    /// Records that are done and whose news is in it.
    batch_done: Vec<u64>,
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
            used: 0,
            unfinished: 0,
            low: 0,
            end: 0,
            next_frame: 0,
            batch: Vec::new(),
            batch_done: Vec::new(),
            is_failed: false,
        };
        let numbers = log.find_segments()?;
        let last = numbers.last().copied();
        for number in numbers {
            log.recover(number, Some(number) == last)?;
        }
        log.settle_recovered()
            .map_err(|(action, cause)| Problem::File(String::new(), cannot(action)(cause)))?;
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

    /// Reads a segment into the index. Only the last one may end in a torn frame.
    fn recover(&mut self, number: u64, is_last: bool) -> Result<(), Problem> {
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
        self.segments.push_back(Segment { file, number, first_record: self.end, len });
        let mut at = SEGMENT_HEAD_LEN;
        while at < bytes.len() {
            let Some((frame, body)) = read_frame(self.id, &bytes[at..]) else {
                if !is_last || has_frame(self.id, &bytes[at..]) {
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
        for_each_entry(body, |entry| match entry {
            Entry::Record { start, len } => {
                let len = u32::try_from(len).expect("it was read from 32 bits");
                let offset = offset + start as u64;
                self.slots.push_back(Slot { offset, len, state: SlotState::Safe });
                self.end += 1;
                self.unfinished += 1;
            }
            // Records of segments that are gone are done, whatever is said of them.
            Entry::Done(record) => {
                if let Some(slot) = slot_mut(&mut self.slots, self.first, record)
                    && slot.state == SlotState::Safe
                {
                    slot.state = SlotState::Done;
                    self.unfinished -= 1;
                }
            }
        })
    }

    /// What was read may not be on the disk yet: a process ends without flushing.
    fn settle_recovered(&mut self) -> Result<(), (&'static str, io::Error)> {
        match self.segments.back() {
            Some(last) => {
                self.disk.sync(&last.file).map_err(|cause| ("flush it", cause))?;
                self.disk.sync_names().map_err(|cause| ("flush its folder", cause))?;
            }
            None => self.begin_segment()?,
        }
        self.advance();
        Ok(())
    }

    pub(super) fn id(&self) -> OutboxId {
        self.id
    }

    pub(super) fn low(&self) -> u64 {
        self.low
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
        if self.batch.len() + record.len() > OUTBOX_BATCH_LEN_MAX {
            self.sync()?;
        }
        push_record(&mut self.batch, record);
        let offset = (self.batch.len() - record.len()) as u64;
        let len = u32::try_from(record.len()).expect("checked above");
        self.slots.push_back(Slot { offset, len, state: SlotState::Batched });
        self.unfinished += 1;
        Ok(self.first + self.slots.len() as u64 - 1)
    }

    /// Whether a record that takes `len` bytes fits, and the news that all are done.
    fn has_room(&self, len: u64) -> bool {
        let reserved = (self.unfinished + 1) * DONE_ROOM + FRAME_HEAD_LEN as u64;
        self.slots.len() < OUTBOX_RECORDS_MAX
            && self.used + self.batch.len() as u64 + len + reserved <= self.options.bytes_max
    }

    pub(super) fn done(&mut self, record: u64) -> Result<bool, OutboxError> {
        self.check()?;
        let slot = slot_mut(&mut self.slots, self.first, record);
        let Some(slot) = slot.filter(|slot| slot.state == SlotState::Safe) else {
            return Ok(false);
        };
        slot.state = SlotState::DoneBatched;
        push_done(&mut self.batch, record);
        self.batch_done.push(record);
        self.unfinished -= 1;
        Ok(true)
    }

    pub(super) fn sync(&mut self) -> Result<(), OutboxError> {
        self.check()?;
        if self.batch.is_empty() {
            return Ok(());
        }
        self.failing(Self::write_batch)?;
        self.advance();
        self.failing(Self::delete_finished)
    }

    pub(super) fn read(&self, record: u64, out: &mut Vec<u8>) -> Result<bool, OutboxError> {
        let place = record.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let slot = place.and_then(|place| self.slots.get(place));
        let Some(slot) = slot.filter(|slot| slot.state == SlotState::Safe) else {
            return Ok(false);
        };
        let after = self.segments.partition_point(|segment| segment.first_record <= record);
        let segment = &self.segments[after - 1];
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
    fn failing(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), (&'static str, io::Error)>,
    ) -> Result<(), OutboxError> {
        change(self).map_err(|(action, cause)| {
            self.is_failed = true;
            OutboxError::Failed { action, cause }
        })
    }

    /// Writes the batch as a frame, and flushes it.
    fn write_batch(&mut self) -> Result<(), (&'static str, io::Error)> {
        let last = self.segments.back().expect("there is always one");
        if last.len >= self.options.bytes_max / 16 {
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
        Ok(())
    }

    /// Moves the mark over what is done for good.
    fn advance(&mut self) {
        for record in self.batch_done.drain(..) {
            let slot = slot_mut(&mut self.slots, self.first, record);
            slot.expect("no segment goes before its records are done").state = SlotState::Done;
        }
        let is_done = |record: u64| {
            let place = usize::try_from(record - self.first).expect("as many as there are slots");
            self.slots.get(place).is_some_and(|slot| slot.state == SlotState::Done)
        };
        let mut low = self.low.max(self.first);
        while is_done(low) {
            low += 1;
        }
        self.low = low;
    }

    /// Begins a segment, which has its name only when its head is on the disk.
    fn begin_segment(&mut self) -> Result<(), (&'static str, io::Error)> {
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
        self.segments.push_back(Segment { file, number, first_record: self.end, len });
        Ok(())
    }

    /// Deletes segments in which, and before which, everything is done.
    fn delete_finished(&mut self) -> Result<(), (&'static str, io::Error)> {
        while let Some(next) = self.segments.get(1)
            && next.first_record <= self.low
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

fn segment_name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}
