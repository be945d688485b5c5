//! Bytes of a segment file: a head that names it, then frames, one for each batch.
//!
//! ```text
//! segment  "raet-ob1" outbox 16, number 8, first record 8, first frame 8, checksum 4
//! frame    length 4, number 8, checksum of the body 4, checksum of this head 4, body
//! body     entries: 1, length 4, the record | 2, the number of a record that is done 8
//!          | 3, the number of a record that is here now 8, length 4, the record
//!          | 4, the number that the next record has 8
//! ```
//!
//! Numbers are little-endian, checksums CRC-32C; that of a frame's head covers the outbox's id as
//! well, so that a copy of another outbox inside a record is no frame of this one. A batch is
//! flushed before the next frame is written, so only the last frame can be torn; in an outbox that
//! does not flush, a segment is flushed before the next begins, so only the last segment can be.

use crate::durable::message::OutboxId;
use crate::protocol::wire::varint;

const MAGIC: &[u8; 8] = b"raet-ob1";
/// Bytes of a segment's head.
pub(super) const SEGMENT_HEAD_LEN: usize = 8 + 16 + 8 + 8 + 8 + 4;
/// Bytes of a frame's head.
pub(super) const FRAME_HEAD_LEN: usize = 4 + 8 + 4 + 4;
/// Bytes of an entry for a record, besides the record.
pub(super) const RECORD_ENTRY_LEN: usize = 1 + 4;
/// Bytes of an entry for a record that is done.
pub(super) const DONE_ENTRY_LEN: usize = 1 + 8;
/// Bytes of an entry for a record that was moved, besides the record.
pub(super) const MOVED_ENTRY_LEN: usize = 1 + 8 + 4;

/// Bytes of an entry for the number that the next record has.
const SKIP_ENTRY_LEN: usize = 1 + 8;

/// Largest number that the head of a segment may have: half of what a varint on the wire holds, so
/// that counting on from there over all that a segment can hold needs no checks.
const NUMBER_MAX: u64 = varint::MAX / 2;

const RECORD: u8 = 1;
const DONE: u8 = 2;
const MOVED: u8 = 3;
const SKIP: u8 = 4;

/// What a segment says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHead {
    pub(super) outbox: OutboxId,
    pub(super) number: u64,
    pub(super) first_record: u64,
    pub(super) first_frame: u64,
}

impl SegmentHead {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEAD_LEN] {
        let mut bytes = [0; SEGMENT_HEAD_LEN];
        let (head, check) = bytes.split_at_mut(SEGMENT_HEAD_LEN - 4);
        head[..8].copy_from_slice(MAGIC);
        head[8..24].copy_from_slice(&self.outbox.0);
        let numbers = [self.number, self.first_record, self.first_frame];
        for (place, number) in head[24..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        check.copy_from_slice(&crc32c::crc32c(head).to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, check) = bytes.first_chunk::<SEGMENT_HEAD_LEN>()?.split_last_chunk::<4>()?;
        if u32::from_le_bytes(*check) != crc32c::crc32c(head) || !head.starts_with(MAGIC) {
            return None;
        }
        let read = Self {
            outbox: OutboxId(*head[8..].first_chunk()?),
            number: read_u64(&head[24..])?,
            first_record: read_u64(&head[32..])?,
            first_frame: read_u64(&head[40..])?,
        };
        let numbers = [read.number, read.first_record, read.first_frame];
        numbers.into_iter().all(|number| number <= NUMBER_MAX).then_some(read)
    }
}

/// The head of a frame around `body`.
pub(super) fn frame_head(outbox: OutboxId, number: u64, body: &[u8]) -> [u8; FRAME_HEAD_LEN] {
    let len = u32::try_from(body.len()).expect("a batch is bounded far below 4 GiB");
    let mut head = [0; FRAME_HEAD_LEN];
    head[..4].copy_from_slice(&len.to_le_bytes());
    head[4..12].copy_from_slice(&number.to_le_bytes());
    head[12..16].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let check = head_check(outbox, &head[..16]);
    head[16..].copy_from_slice(&check.to_le_bytes());
    head
}

fn head_check(outbox: OutboxId, head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&outbox.0), head)
}

/// A frame at the start of `bytes`, if its checksums agree: its number and its body.
pub(super) fn read_frame(outbox: OutboxId, bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD_LEN>()?;
    if read_u32(&head[16..])? != head_check(outbox, &head[..16]) {
        return None;
    }
    let body = rest.get(..usize::try_from(read_u32(head)?).ok()?)?;
    (read_u32(&head[12..])? == crc32c::crc32c(body)).then_some((read_u64(&head[4..])?, body))
}

/// Whether any frame lies in `bytes`, wherever it begins.
pub(super) fn has_frame(outbox: OutboxId, bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|start| read_frame(outbox, &bytes[start..]).is_some())
}

/// One thing that a frame says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// A record, by its place in the body and its length.
    Record {
        start: usize,
        len: usize,
    },
    Done(u64),
    /// A record that lay in an older segment.
    Moved {
        record: u64,
        start: usize,
        len: usize,
    },
    /// The next record has this number: those in between may have been used, and are lost.
    Skip(u64),
}

/// Appends a record to a body.
pub(super) fn push_record(body: &mut Vec<u8>, record: &[u8]) {
    body.push(RECORD);
    let len = u32::try_from(record.len()).expect("a record is bounded far below 4 GiB");
    body.extend_from_slice(&len.to_le_bytes());
    body.extend_from_slice(record);
}

/// Appends that a record is done to a body.
pub(super) fn push_done(body: &mut Vec<u8>, record: u64) {
    body.push(DONE);
    body.extend_from_slice(&record.to_le_bytes());
}

/// Appends a record that is moved to a body.
pub(super) fn push_moved(body: &mut Vec<u8>, record: u64, bytes: &[u8]) {
    body.push(MOVED);
    body.extend_from_slice(&record.to_le_bytes());
    let len = u32::try_from(bytes.len()).expect("a record is bounded far below 4 GiB");
    body.extend_from_slice(&len.to_le_bytes());
    body.extend_from_slice(bytes);
}

/// Appends the number that the next record has to a body.
pub(super) fn push_skip(body: &mut Vec<u8>, next: u64) {
    body.push(SKIP);
    body.extend_from_slice(&next.to_le_bytes());
}

/// Calls `visit` with each entry of a body. `None`: it holds something else.
pub(super) fn for_each_entry(body: &[u8], mut visit: impl FnMut(Entry)) -> Option<()> {
    let mut at = 0;
    while let Some((kind, rest)) = body[at..].split_first() {
        match *kind {
            RECORD => {
                let len = usize::try_from(read_u32(rest)?).ok()?;
                let start = at + RECORD_ENTRY_LEN;
                body.get(start..start + len)?;
                visit(Entry::Record { start, len });
                at = start + len;
            }
            DONE => {
                visit(Entry::Done(read_u64(rest)?));
                at += DONE_ENTRY_LEN;
            }
            MOVED => {
                let record = read_u64(rest)?;
                let len = usize::try_from(read_u32(rest.get(8..)?)?).ok()?;
                let start = at + MOVED_ENTRY_LEN;
                body.get(start..start + len)?;
                visit(Entry::Moved { record, start, len });
                at = start + len;
            }
            SKIP => {
                visit(Entry::Skip(read_u64(rest)?));
                at += SKIP_ENTRY_LEN;
            }
            _ => return None,
        }
    }
    Some(())
}

fn read_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn read_u64(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
