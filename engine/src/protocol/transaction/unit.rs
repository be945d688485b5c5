//! A unit: the body of one packet, with one message or a bundle, kept until its fate is known.
//!
//! A unit is kept as it was written. Each time it leaves it is copied into the train in which it is
//! sealed, so what has to go again is there, whatever became of the keys.

use std::collections::VecDeque;
use std::ops::Range;

use super::options::{Overflow, Priority, SendOptions, Stream};
use super::segmented::Segmented;
use super::service::{Features, Retry, features_in};
use crate::buffer::Lease;
use crate::limits::ASSEMBLY_PATIENCE;
use crate::protocol::wire::{BodyKind, ORDER_LEN_MAX, SEGMENT_LEN_MAX, ServiceKind, bundle};
use crate::time::Instant;

/// Whose numbering a unit's transactions belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Ours: we initiated them.
    Own,
    /// The peer's: these are our replies (`cf` set).
    Reply,
}

/// Names a unit of one outbox, for ever: indices are not used twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnitId {
    /// Which of the two queues it stands in.
    pub direction: Direction,
    /// Its place in the order of creation.
    pub index: u64,
}

/// Where a unit stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// The peer has every message of it whose end is not known, and will tell.
    Accepted,
    /// Takes more messages.
    Open,
    /// Waits for its turn to leave, for the first time or again.
    Ready,
    /// Left; nothing is known yet.
    InFlight,
    /// The peer has its packet; what became of the messages is not known yet.
    Heard,
    /// Every message is resolved.
    Finished,
}

impl State {
    /// Whether news of the unit's packet is news.
    pub(super) const fn is_unsettled(self) -> bool {
        matches!(self, Self::InFlight | Self::Ready)
    }
}

/// The messages of one packet.
#[derive(Debug)]
pub struct Unit {
    pub(super) state: State,
    pub(super) features: Features,
    pub(super) service: ServiceKind,
    pub(super) priority: Priority,
    /// Whether newer messages may push it out.
    gives_way: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) first: u64,
    /// Order index of the first message, in a sequence.
    pub(super) order: u64,
    pub(super) count: u32,
    pub(super) unresolved: u32,
    /// Payload bytes, for credit.
    pub(super) payload: u64,
    /// When it left last.
    pub(super) sent_at: Instant,
    /// How often it left.
    pub(super) tries: u8,
    /// The packet of the present session in which it left last.
    pub(super) packet_number: Option<u64>,
    body_end: usize,
    lease: Option<Lease>,
    /// Whether it is a message that was in segments from the start.
    pub(super) starts_in_segments: bool,
    /// Whether its outbox looks after the time it waits for grants.
    pub(super) awaits_grant: bool,
    /// Whether all of it left before it was cut anew.
    left_before_cut: bool,
    /// The body, if it travels in segments; there is no buffer then.
    pub(super) segmented: Option<Box<Segmented>>,
}

impl Unit {
    pub(super) fn new(lease: Lease, options: &SendOptions, first: u64, order: u64) -> Self {
        Self {
            state: State::Open,
            features: features_in(options.service, options.stream),
            service: options.service,
            priority: options.priority,
            gives_way: options.overflow == Overflow::DropOldest,
            deadline: options.deadline,
            first,
            order,
            count: 0,
            unresolved: 0,
            payload: 0,
            sent_at: Instant::ZERO,
            tries: 0,
            packet_number: None,
            body_end: 0,
            lease: Some(lease),
            starts_in_segments: false,
            awaits_grant: false,
            left_before_cut: false,
            segmented: None,
        }
    }

    /// A unit of one message, `len` bytes long, in segments.
    pub(super) fn in_segments(
        segmented: Segmented,
        options: &SendOptions,
        first: u64,
        order: u64,
        len: u64,
    ) -> Self {
        Self {
            state: State::Ready,
            features: features_in(options.service, options.stream),
            service: options.service,
            priority: options.priority,
            gives_way: options.overflow == Overflow::DropOldest,
            deadline: options.deadline,
            first,
            order,
            count: 1,
            unresolved: 1,
            payload: len,
            sent_at: Instant::ZERO,
            tries: 0,
            packet_number: None,
            body_end: 0,
            lease: None,
            starts_in_segments: true,
            awaits_grant: false,
            left_before_cut: false,
            segmented: Some(Box::new(segmented)),
        }
    }

    /// Whether a message sent with `options` under these numbers may share this unit.
    pub(super) fn takes(&self, options: &SendOptions, transaction: u64, order: u64) -> bool {
        let next_order = if self.features.order {
            Stream::order_after(self.order, u64::from(self.count))
        } else {
            0
        };
        self.service == options.service
            && self.priority == options.priority
            && self.gives_way == (options.overflow == Overflow::DropOldest)
            && self.deadline == options.deadline
            && self.transactions().end == transaction
            && next_order == order
    }

    /// Appends a message of `len` bytes, which `write` writes, if the body stays within `room`.
    #[inline]
    pub(super) fn append(
        &mut self,
        len: usize,
        room: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> bool {
        let lease = self.lease.as_mut().expect("an open unit has its buffer");
        let buffer = lease.get_mut().expect("nobody else sees a unit's buffer");
        let limit = buffer.len().min(room);
        let end = bundle::append_with(&mut buffer[..limit], self.body_end, len, write);
        let Some(end) = end else { return false };
        self.body_end = end;
        self.count += 1;
        self.unresolved += 1;
        self.payload += len as u64;
        true
    }

    /// The buffer of an open unit and where its next message goes. It has to come back.
    pub(super) fn take_buffer(&mut self) -> (Lease, usize) {
        (self.lease.take().expect("an open unit has its buffer"), self.body_end)
    }

    /// The buffer comes back with `count` more messages of `bytes` bytes, which end at `body_end`.
    pub(super) fn put_buffer_back(
        &mut self,
        lease: Lease,
        body_end: usize,
        count: u32,
        bytes: u64,
    ) {
        self.lease = Some(lease);
        self.body_end = body_end;
        self.count += count;
        self.unresolved += count;
        self.payload += bytes;
    }

    /// Every message is resolved. Returns whether that freed a buffer.
    pub(super) fn finish(&mut self) -> bool {
        self.state = State::Finished;
        self.release()
    }

    /// Whether it may not end before it was delivered, or its stream would have a gap.
    pub(super) fn is_gapless(&self) -> bool {
        self.features.order && !Stream::of_order(self.order).is_lossy()
    }

    /// Whether a newer message may have it end: it was sent so, and has not left (PROTOCOL 6.33).
    pub(super) fn may_be_pushed_out(&self) -> bool {
        self.gives_way && self.tries == 0 && self.state != State::Finished
    }

    /// Until when it waits for a grant without which its next segment does not leave. `None`: it
    /// does not wait, or as long as its session lives.
    pub(super) fn grant_patience_ends(&self) -> Option<Instant> {
        let has_patience = matches!(self.features.retry, Retry::Copies | Retry::Never);
        let waits = self.segmented.as_ref().is_some_and(|message| message.awaits_grant());
        (has_patience && waits).then(|| self.sent_at + ASSEMBLY_PATIENCE)
    }

    /// The peer has it, and it does not leave again. Returns whether that freed a buffer.
    pub(super) fn release(&mut self) -> bool {
        self.segmented = None;
        self.lease.take().is_some()
    }

    /// The transactions in it.
    pub fn transactions(&self) -> Range<u64> {
        self.first..self.first + u64::from(self.count)
    }

    /// Number of the first transaction.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Service level of all of them.
    pub fn service(&self) -> ServiceKind {
        self.service
    }

    /// Whether all of it left at least once: the peer can know all of its messages.
    pub(super) fn has_left(&self) -> bool {
        let all_left = self.segmented.as_ref().is_none_or(|message| message.has_left_once());
        self.left_before_cut || self.tries > 0 && all_left
    }

    /// Whether a repeated message has copies left, of `copies`, after the one that just left.
    pub(super) fn copies_left(&self, copies: u8) -> bool {
        self.segmented.as_ref().map_or(self.tries, |message| message.passes()) < copies
    }

    /// Order index of the first message, in a sequence.
    pub fn order(&self) -> u64 {
        self.order
    }

    /// How urgent it is.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// The segment that leaves next and the number of segments; 0 of 1 of a whole message.
    /// `None`: there is none.
    pub fn packet_due(&mut self) -> Option<(u32, u32)> {
        match &mut self.segmented {
            Some(segmented) => Some((segmented.due()?, segmented.count())),
            None => self.lease.is_some().then_some((0, 1)),
        }
    }

    /// Whether it is in segments, and no other may leave after the one that is due.
    pub fn has_one_segment_due(&self) -> bool {
        self.segmented.as_ref().is_some_and(|message| !message.has_more_due())
    }

    /// In how many packets it travels.
    pub(super) fn segments(&self) -> u32 {
        self.segmented.as_ref().map_or(1, |message| message.count())
    }

    /// Length of the body of the packet with a segment.
    pub fn packet_body_len(&self, segment: u32) -> usize {
        match &self.segmented {
            Some(segmented) => segmented.body_len(segment),
            None => self.body().len(),
        }
    }

    /// Writes that body over `out`, which is as long.
    ///
    /// # Panics
    /// If it was released.
    pub fn write_body(&self, segment: u32, out: &mut [u8]) {
        match &self.segmented {
            Some(segmented) => segmented.write(segment, out),
            None => {
                let lease = self.lease.as_ref().expect("a unit that is sent has its buffer");
                out.copy_from_slice(&lease[self.body()]);
            }
        }
    }

    /// Room that a packet needs for a body, in bytes, at most.
    pub fn room_needed(&self) -> usize {
        let Some(segmented) = &self.segmented else { return self.body_end };
        segmented.body_len_max() + SEGMENT_LEN_MAX + if self.order > 0 { ORDER_LEN_MAX } else { 0 }
    }

    /// Notes in which packet a segment leaves, where only reports acknowledge; returns the one in
    /// which it left before.
    pub fn note_segment_packet(&mut self, segment: u32, number: u64) -> Option<u64> {
        self.segmented.as_mut()?.note_packet(segment, number)
    }

    /// Cuts the body into segments whose packets have bodies of at most `room` bytes, and says
    /// whether that freed a buffer. `None`: it is too long for that.
    pub(super) fn refit(&mut self, room: usize) -> Option<bool> {
        let body = match &self.segmented {
            Some(segmented) => segmented.message(),
            None => {
                let range = self.body();
                self.lease.as_ref().expect("a unit that leaves has its bytes")[range].into()
            }
        };
        let segmented = Segmented::new(body, room)?;
        self.left_before_cut = self.has_left();
        self.segmented = Some(Box::new(segmented));
        Some(self.lease.take().is_some())
    }

    /// Whether its level has the receiver report what became of it.
    pub fn is_acknowledged(&self) -> bool {
        self.features.ack
    }

    /// How the body is encoded: a lone message travels without a bundle's framing.
    pub fn body_kind(&self) -> BodyKind {
        if self.count == 1 { BodyKind::Raw } else { BodyKind::Bundle }
    }

    /// Where the body lies in the buffer.
    pub fn body(&self) -> Range<usize> {
        match self.body_kind() {
            BodyKind::Raw => self.body_end - self.payload_len()..self.body_end,
            _ => 0..self.body_end,
        }
    }

    fn payload_len(&self) -> usize {
        usize::try_from(self.payload).expect("a unit fits a datagram")
    }

    /// The packet in which it left last, if it left in the present session.
    pub fn packet_number(&self) -> Option<u64> {
        self.packet_number
    }

    /// The session in which it left is over, and its packet numbers with it.
    pub fn forget_packet(&mut self) {
        self.packet_number = None;
        if let Some(segmented) = self.segmented.as_mut() {
            segmented.forget_packets();
        }
    }

    /// How often it left so far; a stamp that tells one try from another.
    pub fn tries(&self) -> u8 {
        self.tries
    }
}

/// Units of one direction in the order of their creation, found by index in constant time.
#[derive(Debug, Default)]
pub(super) struct Units {
    base: u64,
    queue: VecDeque<Unit>,
}

impl Units {
    pub(super) fn push(&mut self, unit: Unit) -> u64 {
        self.queue.push_back(unit);
        self.base + self.queue.len() as u64 - 1
    }

    /// The unit of that index, unless it finished and left.
    pub(super) fn find(&mut self, index: u64) -> Option<&mut Unit> {
        let place = usize::try_from(index.checked_sub(self.base)?).ok()?;
        self.queue.get_mut(place)
    }

    /// As [`Units::find`], to look at.
    pub(super) fn get(&self, index: u64) -> Option<&Unit> {
        self.queue.get(usize::try_from(index.checked_sub(self.base)?).ok()?)
    }

    /// Index of the first unit that ends after `transaction`. Meaningful where numbers ascend.
    pub(super) fn first_after(&self, transaction: u64) -> u64 {
        // Reports mostly begin at the oldest unit: look there before searching.
        if self.queue.front().is_none_or(|unit| unit.transactions().end > transaction) {
            return self.base;
        }
        let place = self.queue.partition_point(|unit| unit.transactions().end <= transaction);
        self.base + place as u64
    }

    /// Lets finished units at the front go.
    pub(super) fn trim(&mut self) {
        while self.queue.front().is_some_and(|unit| unit.state == State::Finished) {
            self.queue.pop_front();
            self.base += 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn indices(&self) -> Range<u64> {
        self.base..self.base + self.queue.len() as u64
    }
}
