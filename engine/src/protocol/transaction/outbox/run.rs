//! A run: messages that join the open unit one after the other.
//!
//! What one message after another would look at and note for itself, a run looks at before the
//! first and notes after the last. Meanwhile it holds the unit's buffer.

use std::ops::Range;

use super::super::options::SendOptions;
use super::super::unit::Direction;
use super::Outbox;
use crate::buffer::Lease;
use crate::protocol::wire::bundle;

/// The buffer of an outbox's open unit, and how much may join what is in it.
#[derive(Debug)]
pub struct Run {
    lease: Lease,
    /// Where the next message goes; the last one ends at `room` at the latest.
    at: usize,
    room: usize,
    /// Number of the next message.
    next: u64,
    /// Messages and bytes for which every bound has room.
    messages: u64,
    bytes: u64,
    taken: u32,
    taken_bytes: u64,
}

impl Run {
    /// Takes a message of `len` bytes, which `write` writes, and returns its transaction number.
    /// `None`: it does not join, and nothing was done.
    #[inline]
    pub fn append(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> Option<u64> {
        let bytes = len as u64;
        if self.messages == 0 || self.bytes < bytes {
            return None;
        }
        let buffer = self.lease.get_mut().expect("nobody else sees a unit's buffer");
        self.at = bundle::append_with(&mut buffer[..self.room], self.at, len, write)?;
        let transaction = self.next;
        self.next += 1;
        self.messages -= 1;
        self.bytes -= bytes;
        self.taken += 1;
        self.taken_bytes += bytes;
        Some(transaction)
    }

    /// Takes up to `count` messages of `len` bytes, of which `write` writes the k-th, and returns
    /// their transaction numbers: there are fewer if the next one does not join.
    #[inline]
    pub fn append_row(
        &mut self,
        count: u64,
        len: usize,
        mut write: impl FnMut(u64, &mut [u8]),
    ) -> Range<u64> {
        let bytes = len as u64;
        let most = count.min(self.messages).min(self.bytes.checked_div(bytes).unwrap_or(u64::MAX));
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let buffer = self.lease.get_mut().expect("nobody else sees a unit's buffer");
        let body = &mut buffer[..self.room];
        let write = |index, place: &mut [u8]| write(index as u64, place);
        let (taken, end) = bundle::append_row(body, self.at, len, most, write);
        let (taken, first) = (taken as u64, self.next);
        self.at = end;
        self.next += taken;
        self.messages -= taken;
        self.bytes -= taken * bytes;
        self.taken += u32::try_from(taken).expect("a unit fits a datagram");
        self.taken_bytes += taken * bytes;
        first..self.next
    }

    /// Messages that it took.
    pub fn taken(&self) -> u32 {
        self.taken
    }
}

impl Outbox {
    /// Begins a run of messages that are sent with `options`, like the last one. Until
    /// [`Outbox::end_run`] nothing else may be done. `None`: no message joins the last one.
    pub fn begin_run(&mut self, options: &SendOptions) -> Option<Run> {
        let (index, _) = self.open[Direction::Own as usize]?;
        if self.shortcut.options != Some(*options) {
            return None;
        }
        let next = self.next_transaction;
        let (lease, at) = self.own.find(index)?.take_buffer();
        let room = self.shortcut.room.min(lease.len());
        let (messages, bytes) = (self.shortcut.messages, self.shortcut.bytes);
        Some(Run { lease, at, room, next, messages, bytes, taken: 0, taken_bytes: 0 })
    }

    /// Ends a run: what it took counts as sent.
    pub fn end_run(&mut self, run: Run) {
        let Run { lease, at, messages, bytes, taken, taken_bytes, .. } = run;
        let (index, _) = self.open[Direction::Own as usize].expect("a run leaves the unit open");
        let unit = self.own.find(index).expect("an open unit stands in its queue");
        unit.put_buffer_back(lease, at, taken, taken_bytes);
        let row = unit.features;
        self.shortcut.messages = messages;
        self.shortcut.bytes = bytes;
        let options = self.shortcut.options.expect("those of the run");
        self.note_taken(row, options.stream, taken.into(), taken_bytes);
    }
}
