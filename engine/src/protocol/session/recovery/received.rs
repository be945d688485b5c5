//! The receiver's side: which packet numbers arrived, and when to say so.
//!
//! In the steady state packets arrive in order and there is one range, which grows. A lost packet
//! leaves a hole for ever, because a packet is never sent again under its number; so a range below
//! the largest is repeated in a bounded number of acknowledgements and then left out. If all of
//! them were lost the sender sends some message again and the receiver recognises it: cheaper
//! than carrying every hole along.
//!
//! Whether to acknowledge is decided once for each batch of packets that the kernel handed over,
//! not for each packet (TRANSPORT 3.2).

use crate::limits::{ACK_EVERY_MAX, ACK_RANGES_MAX, ACK_REPORTS_MAX};
use crate::time::{Duration, Instant};
use core::ops::RangeInclusive;

/// Packets after which a receiver acknowledges at least, unless told otherwise.
const ACK_EVERY_MIN: u32 = 2;
/// Acknowledgements of ours whose own acknowledgement we can make use of.
const CONFIRMABLE_MAX: usize = 8;

/// The packet numbers that arrived from the peer.
#[derive(Debug)]
pub struct ReceivedPackets {
    /// Ascending and disjoint with a hole between any two; at most [`ACK_RANGES_MAX`].
    ranges: Vec<Range>,
    largest_at: Instant,
    /// Packets that want an acknowledgement, since the last one was sent.
    pending: u32,
    /// A hole opened or closed, or the peer asked.
    urgent: bool,
    deadline: Option<Instant>,
    ack_every: u32,
    delay_max: Duration,
    delay: Duration,
    confirmable: [Option<Confirmable>; CONFIRMABLE_MAX],
    confirmable_next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    first: u64,
    last: u64,
    /// Acknowledgements sent since the range last changed.
    reports: u8,
}

/// An acknowledgement that we sent in a packet which will be acknowledged itself.
#[derive(Clone, Copy, Debug)]
struct Confirmable {
    in_packet: u64,
    largest: u64,
}

impl ReceivedPackets {
    /// Nothing received. `delay_max` is how long we promised to hold an acknowledgement back at
    /// most.
    pub fn new(delay_max: Duration) -> Self {
        Self {
            ranges: Vec::with_capacity(ACK_RANGES_MAX + 1),
            largest_at: Instant::ZERO,
            pending: 0,
            urgent: false,
            deadline: None,
            ack_every: ACK_EVERY_MIN,
            delay_max,
            delay: delay_max,
            confirmable: [None; CONFIRMABLE_MAX],
            confirmable_next: 0,
        }
    }

    /// How long an acknowledgement of ours may be held back.
    pub fn delay_max(&self) -> Duration {
        self.delay_max
    }

    /// Adapts to the path: acknowledge four times a smoothed round trip at least, and after
    /// `ack_every` packets, which the sender asks for or, if it says nothing, our own
    /// [`super::Recovery::ack_every`] stands for (PROTOCOL 5.3).
    pub fn tune(&mut self, smoothed: Duration, ack_every: u32) {
        self.delay = self.delay_max.min(smoothed.mul_ratio(1, 4));
        self.ack_every = ack_every.clamp(ACK_EVERY_MIN, ACK_EVERY_MAX);
    }

    /// Takes an opened packet. `ack_eliciting`: anything but a pure acknowledgement.
    /// `asks_now`: the last of a burst, of a kind that waits, or a probe.
    pub fn on_received(
        &mut self,
        now: Instant,
        packet_number: u64,
        ack_eliciting: bool,
        asks_now: bool,
    ) {
        if ack_eliciting {
            self.pending = self.pending.saturating_add(1);
        }
        self.urgent |= asks_now;
        match self.ranges.last_mut() {
            Some(top) if top.last.checked_add(1) == Some(packet_number) => {
                top.last = packet_number;
                self.largest_at = now;
            }
            Some(top) if packet_number > top.last => {
                self.urgent = true;
                self.largest_at = now;
                self.push(packet_number);
            }
            Some(_) => self.on_late(packet_number),
            None => {
                self.largest_at = now;
                self.push(packet_number);
            }
        }
    }

    /// Ends a receive batch: whether to send an acknowledgement now. If not, and one is owed,
    /// [`ReceivedPackets::next_timeout`] says until when it may wait.
    pub fn end_of_batch(&mut self, now: Instant) -> bool {
        if self.pending == 0 {
            return false;
        }
        let deadline = *self.deadline.get_or_insert(now + self.delay);
        self.urgent || self.pending >= self.ack_every || now >= deadline
    }

    /// An acknowledgement with all ranges was sent. `in_packet`: the number of the packet that
    /// carried it, if that packet will be acknowledged itself.
    pub fn on_ack_sent(&mut self, in_packet: Option<u64>) {
        self.pending = 0;
        self.urgent = false;
        self.deadline = None;
        let Some((top, below)) = self.ranges.split_last_mut() else { return };
        if let Some(in_packet) = in_packet {
            self.confirmable[self.confirmable_next] =
                Some(Confirmable { in_packet, largest: top.last });
            self.confirmable_next = (self.confirmable_next + 1) % CONFIRMABLE_MAX;
        }
        if !below.is_empty() {
            for range in below {
                range.reports += 1;
            }
            self.ranges.retain(|range| range.reports < ACK_REPORTS_MAX);
        }
    }

    /// The packet that carried an acknowledgement of ours was acknowledged: what that one
    /// reported is known, and need not be reported again (RFC 9000 13.2.4).
    pub fn on_ack_acked(&mut self, in_packet: u64) {
        let largest = self
            .confirmable
            .iter_mut()
            .find(|slot| slot.is_some_and(|confirmable| confirmable.in_packet == in_packet))
            .and_then(|slot| slot.take())
            .map(|confirmable| confirmable.largest);
        if let (Some(largest), Some(top)) = (largest, self.ranges.last().copied()) {
            self.ranges.retain(|range| range.last > largest || range.last == top.last);
        }
    }

    /// When an acknowledgement is due, if one is owed.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether an acknowledgement is owed: one that rides with other content costs nothing.
    pub fn is_ack_owed(&self) -> bool {
        self.pending > 0
    }

    /// The ranges to report, the largest first, with a hole between any two.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.ranges.iter().rev().map(|range| range.first..=range.last)
    }

    /// How long ago the largest number arrived: what the sender subtracts from its sample.
    pub fn largest_delay(&self, now: Instant) -> Duration {
        now.saturating_since(self.largest_at)
    }

    /// Takes a number below the largest: it closes a hole, or is a duplicate.
    fn on_late(&mut self, packet_number: u64) {
        let above = self.ranges.partition_point(|range| range.last < packet_number);
        if self.ranges[above].first <= packet_number {
            return;
        }
        self.urgent = true;
        let joins_above = self.ranges[above].first == packet_number + 1;
        let joins_below = above > 0 && self.ranges[above - 1].last + 1 == packet_number;
        match (joins_below, joins_above) {
            (true, true) => {
                self.ranges[above].first = self.ranges[above - 1].first;
                self.ranges[above].reports = 0;
                self.ranges.remove(above - 1);
            }
            (true, false) => {
                self.ranges[above - 1].last = packet_number;
                self.ranges[above - 1].reports = 0;
            }
            (false, true) => {
                self.ranges[above].first = packet_number;
                self.ranges[above].reports = 0;
            }
            (false, false) => {
                if above > 0 || self.ranges.len() < ACK_RANGES_MAX {
                    self.ranges.insert(above, Range::of(packet_number));
                    self.forget_oldest();
                }
            }
        }
    }

    fn push(&mut self, packet_number: u64) {
        self.ranges.push(Range::of(packet_number));
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        if self.ranges.len() > ACK_RANGES_MAX {
            self.ranges.remove(0);
        }
    }
}

impl Range {
    fn of(packet_number: u64) -> Self {
        Self { first: packet_number, last: packet_number, reports: 0 }
    }
}
